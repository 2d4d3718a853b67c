//! Rows of a large view: gathered and spread in a ring, over distances that double.
//!
//! Rows that each member tells to each other one are n² packets. All that they are needed for is the minimum over all
//! members of what has been received, consumed and delivered of each stream. Minima can be gathered on the way: this is
//! the pattern of the dissemination barrier [Hensgen, Finkel & Manber 1988], over the ring of ranks.
//!
//! ```text
//!  level 0:  i ── own row ─────────────────────────▶ i + 1      speaks for i
//!  level 1:  i ── min(own, level 0 of i - 1) ──────▶ i + 2      speaks for i - 1 … i
//!  level 2:  i ── min(that, level 1 of i - 2) ─────▶ i + 4      speaks for i - 3 … i
//!  …         all levels together, at i: the floor, which speaks for everybody
//! ```
//! A level speaks for fixed members, and counters only grow: so each digest is a lower bound whenever it arrives, merges by
//! maximum, and the loss of one costs time and nothing else. There are no rounds that could get out of step. Nobody has a
//! part of its own whose failure would need a successor: a member that has failed holds the floor up, as its silent row
//! does elsewhere, until the view without it.
//!
//! Ends of streams, signs of the view and heartbeats are spread by the same digests: they need no minimum, and whatever
//! anybody knows goes on at every level, so that they get around failed members on other ways [van Renesse, Minsky & Hayden
//! 1998, on failure detection by gossip].
//!
//! Owner: a [`super::Plane`] of a view that has more members than `Config::direct_rows`. This file only computes; who is told
//! what, and when, is `group/gossip.rs`.

use crate::time::Instant;
use isis_wire::digest::{Digest, Entry};
use isis_wire::row::Row;

/// See the module.
#[derive(Debug)]
pub struct Gossip {
    me: usize,
    members: usize,
    /// By level and stream: what the member 2^level before this one has told.
    heard: Vec<Vec<Entry>>,
    /// By level: what was told last, without signs of life; empty: nothing yet.
    told: Vec<Vec<Entry>>,
    /// By stream: what everybody has.
    pub floor: Vec<Entry>,
    /// By rank: the end of its stream, as far as known.
    pub ends: Vec<u64>,
    /// By level: when a digest of the member 2^level before this one came last.
    pub heard_at: Vec<Instant>,
    /// Levels that were asked for: told again though nothing has changed. Bits.
    pub asked: u32,
    /// Who asked for a sign of this member: ranks.
    pub asked_sign: Vec<usize>,
    /// Levels below this one are to be asked for.
    pub ask_below: usize,
    /// When somebody was answered last.
    pub answered_at: Instant,
}

impl Gossip {
    /// At the start of a view.
    pub fn new(me: usize, members: usize, now: Instant) -> Gossip {
        let levels = (usize::BITS - members.saturating_sub(1).leading_zeros()) as usize;
        Gossip {
            me,
            members,
            heard: vec![vec![Entry::default(); members]; levels],
            told: vec![Vec::new(); levels],
            floor: vec![Entry::default(); members],
            ends: vec![0; members],
            heard_at: vec![now; levels],
            asked: 0,
            asked_sign: Vec::new(),
            ask_below: 0,
            answered_at: Instant::ZERO,
        }
    }

    /// How many levels there are: the members are at most 2^levels.
    pub fn levels(&self) -> usize {
        self.heard.len()
    }

    /// Who gets this member's digest of a level.
    pub fn next(&self, level: usize) -> usize {
        (self.me + (1 << level)) % self.members
    }

    /// Whose digest of a level comes here.
    pub fn previous(&self, level: usize) -> usize {
        (self.me + self.members - (1 << level)) % self.members
    }

    /// A digest of `sender` came. Whether a bound or an end moved.
    pub fn merge(&mut self, now: Instant, sender: usize, digest: &Digest) -> bool {
        let mut news = false;
        for (rank, entry) in (usize::from(digest.first)..).zip(&digest.entries) {
            if rank != self.me && entry.end > self.ends[rank] {
                self.ends[rank] = entry.end;
                news = true;
            }
        }
        let level = usize::from(digest.level);
        for from in 0..self.levels() {
            if self.previous(from) == sender {
                self.heard_at[from] = self.heard_at[from].max(now);
            }
        }
        if level >= self.levels() || self.previous(level) != sender {
            return news;
        }
        for (rank, entry) in (usize::from(digest.first)..).zip(&digest.entries) {
            news |= raise(&mut self.heard[level][rank], entry);
        }
        news
    }

    /// What this member tells at a level, without signs of life, into `entries`. `own`: its row.
    pub fn partial(&self, entries: &mut Vec<Entry>, level: usize, own: &Row, shown: &[bool]) {
        entries.clear();
        for (rank, &shown) in shown.iter().enumerate() {
            let (mut received, mut consumed, delivered) = (own.received[rank], own.consumed[rank], own.delivered[rank]);
            if rank == self.me {
                // Not what is still to be sent: others would ask for it.
                received = received.min(own.end);
                consumed = consumed.min(own.end);
            }
            let mut entry = Entry { received, consumed, delivered, slowest: self.me as u16, ..Entry::default() };
            for heard in &self.heard[..level] {
                lower(&mut entry, &heard[rank]);
            }
            let end = if rank == self.me { own.end } else { self.ends[rank] };
            entries.push(Entry { shown, end: end.max(entry.received), ..entry });
        }
    }

    /// Whether this differs from what was told at the level last; it counts as told from now on.
    pub fn tell(&mut self, level: usize, entries: &[Entry]) -> bool {
        let told = &mut self.told[level];
        let news = told != entries;
        if news {
            told.clear();
            told.extend_from_slice(entries);
        }
        news
    }

    /// Recomputes the floor. `own`: this member's row.
    pub fn settle(&mut self, own: &Row) {
        for rank in 0..self.members {
            let (received, consumed, delivered) = (own.received[rank], own.consumed[rank], own.delivered[rank]);
            let mut entry = Entry { received, consumed, delivered, slowest: self.me as u16, ..Entry::default() };
            let levels = self.levels() - usize::from(mutant!(GossipForgetsLast) && self.levels() > 0);
            for heard in &self.heard[..levels] {
                lower(&mut entry, &heard[rank]);
            }
            let floor = &mut self.floor[rank];
            raise(floor, &entry);
            floor.slowest = entry.slowest;
        }
    }

    /// This process was paused: the silence was its own.
    pub fn forgive(&mut self, now: Instant) {
        self.heard_at.fill(now);
    }
}

/// Merges by maximum: the same members said this later. Whether anything moved.
fn raise(bound: &mut Entry, entry: &Entry) -> bool {
    let before = *bound;
    bound.received = bound.received.max(entry.received);
    bound.delivered = bound.delivered.max(entry.delivered);
    if entry.consumed >= bound.consumed {
        (bound.consumed, bound.slowest) = (entry.consumed, entry.slowest);
    }
    (bound.received, bound.consumed, bound.delivered) != (before.received, before.consumed, before.delivered)
}

/// Merges by minimum: other members are spoken for, too.
fn lower(bound: &mut Entry, entry: &Entry) {
    bound.received = bound.received.min(entry.received);
    bound.delivered = bound.delivered.min(entry.delivered);
    if entry.consumed < bound.consumed {
        (bound.consumed, bound.slowest) = (entry.consumed, entry.slowest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use isis_wire::digest::Ask;

    /// `members` gossips with rows that grow at random, and the digests under way between them.
    struct Ring {
        gossips: Vec<Gossip>,
        rows: Vec<Row>,
        shown: Vec<bool>,
    }

    impl Ring {
        fn new(members: usize) -> Ring {
            Ring {
                gossips: (0..members).map(|me| Gossip::new(me, members, Instant::ZERO)).collect(),
                rows: vec![Row::zero(members); members],
                shown: vec![true; members],
            }
        }

        fn grow(&mut self, random: &mut Random) {
            let members = self.rows.len() as u64;
            let member = random.below(members) as usize;
            let row = &mut self.rows[member];
            let stream = random.below(members) as usize;
            row.received[stream] += random.below(100);
            row.end = row.received[member];
            row.consumed[stream] += random.below(1 + row.received[stream] - row.consumed[stream]);
            row.delivered[stream] += random.below(3);
        }

        fn digest(&self, from: usize, level: usize) -> (usize, Digest) {
            let mut entries = Vec::new();
            self.gossips[from].partial(&mut entries, level, &self.rows[from], &self.shown);
            (self.gossips[from].next(level), Digest { level: level as u8, ask: Ask::Nothing, first: 0, entries })
        }

        fn settle(&mut self) {
            for (gossip, row) in self.gossips.iter_mut().zip(&self.rows) {
                gossip.settle(row);
            }
        }

        /// What all rows have of a stream: received, consumed, delivered.
        fn least(&self, stream: usize) -> (u64, u64, u64) {
            let least = |of: fn(&Row) -> &Vec<u64>| self.rows.iter().map(|row| of(row)[stream]).min().unwrap_or(0);
            (least(|row| &row.received), least(|row| &row.consumed), least(|row| &row.delivered))
        }
    }

    /// Digests are lost, repeated and reordered: no floor is ever above what everybody has; and one pass over all levels
    /// after the last change brings every floor up to it.
    #[test]
    fn floors_are_lower_bounds_always_and_exact_after_one_pass() {
        for members in 2..=33 {
            let mut random = Random::new(members as u64);
            let mut ring = Ring::new(members);
            let levels = ring.gossips[0].levels();
            assert!(1 << levels >= members && 1 << (levels - 1) < members);
            let mut under_way: Vec<(usize, usize, Digest)> = Vec::new();
            for _ in 0..200 {
                ring.grow(&mut random);
                let from = random.below(members as u64) as usize;
                let (to, digest) = ring.digest(from, random.below(levels as u64) as usize);
                under_way.push((from, to, digest));
                let index = random.below(under_way.len() as u64) as usize;
                let (from, to, digest) = under_way[index].clone();
                if random.below(3) == 0 {
                    under_way.swap_remove(index);
                }
                if random.below(3) > 0 {
                    ring.gossips[to].merge(Instant(1), from, &digest);
                }
                ring.settle();
                for stream in 0..members {
                    let (received, consumed, delivered) = ring.least(stream);
                    for floor in ring.gossips.iter().map(|gossip| &gossip.floor[stream]) {
                        assert!(
                            floor.received <= received && floor.consumed <= consumed && floor.delivered <= delivered
                        );
                    }
                }
            }
            for level in 0..levels {
                for from in 0..members {
                    let (to, digest) = ring.digest(from, level);
                    ring.gossips[to].merge(Instant(2), from, &digest);
                }
            }
            ring.settle();
            for stream in 0..members {
                let least = ring.least(stream);
                for gossip in &ring.gossips {
                    let floor = &gossip.floor[stream];
                    assert_eq!((floor.received, floor.consumed, floor.delivered), least, "{members} members");
                    assert_eq!(ring.rows[usize::from(floor.slowest)].consumed[stream], least.1);
                }
            }
        }
    }

    /// Whoever has failed: ends and signs of everybody else get around it.
    #[test]
    fn one_failed_member_cuts_nobody_off() {
        for members in 3..=20 {
            for failed in 0..members {
                let mut ring = Ring::new(members);
                for (member, row) in ring.rows.iter_mut().enumerate() {
                    row.end = 8 * (member as u64 + 1);
                }
                for _ in 0..members {
                    for level in 0..ring.gossips[0].levels() {
                        for from in (0..members).filter(|from| *from != failed) {
                            let (to, digest) = ring.digest(from, level);
                            ring.gossips[to].merge(Instant(1), from, &digest);
                        }
                    }
                }
                let known = |at: usize, of: usize| ring.gossips[at].ends[of] == 8 * (of as u64 + 1);
                let living = || (0..members).filter(|member| *member != failed);
                let all = living().all(|at| living().all(|of| at == of || known(at, of)));
                // A ring of three with one lost still has the way between the other two, by the second distance.
                assert!(all, "{members} members without {failed}");
            }
        }
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut ring = Ring::new(9);
        let (_, digest) = ring.digest(0, 2);
        assert!(ring.gossips[0].tell(2, &digest.entries), "nothing was told yet");
        assert!(!ring.gossips[0].tell(2, &digest.entries));
        ring.rows[0].received[4] = 8;
        let (_, digest) = ring.digest(0, 2);
        assert!(!ring.gossips[0].tell(2, &digest.entries), "the minimum did not move");
        let (_, digest) = ring.digest(0, 0);
        assert!(ring.gossips[0].tell(0, &digest.entries));
    }
}
