//! Total order by priorities [BJ87], for groups that chose it (`TotalOrder::Priority`): two phases, and no member is special.
//!
//! Each member proposes a priority for each ABCAST, and the highest proposal is the message's place; of equal ones the
//! proposer with the higher rank is later. Proposals are control records (PROPOSE) in the proposers' streams, many in one
//! record. A stream goes to everybody, so everybody takes the maximum, and no message of the sender has to tell it; nothing is
//! left open either when a sender fails.
//!
//! ```text
//!  message:  unknown ──a member proposes──▶ proposed ──all have proposed──▶ decided ──no other can come before──▶ delivered
//! ```
//! - A member's proposals only grow, and it considers messages in a causal order ([`Plane::consider`]). So of two messages
//!   of which one happened before the other every proposal, and with it the maximum, is lower for the first: the order
//!   extends the causal order, and that of each stream. Only the first undelivered ABCAST of each stream can be next.
//! - A decided message goes when every other stream's first one is later for certain: by a proposal that is higher, or because
//!   some member has not proposed for it and has already proposed as much as that.
//! - The order is a function of the streams alone, so at a view change it needs nothing but the cut: what all proposals up to
//!   the cut decide comes first, by priority; the rest are leftovers, in the usual order. It is as if every member had, behind
//!   its last record, proposed for the leftovers in their order: a continuation of the same protocol. So it agrees with
//!   what a survivor delivered before.
//!
//! Owner: the [`Plane`]. Invariant: the first entry of a queue of proposals is about the first undelivered ABCAST of that stream.

use super::Plane;
use std::collections::VecDeque;

/// Priorities that one member has proposed for consecutive ABCASTs of one stream.
#[derive(Clone, Copy, Debug)]
struct Proposed {
    /// For the first of them; one more for each further one.
    first: u64,
    /// How many are left.
    count: u32,
    /// Position after the record in the proposer's stream.
    end: u64,
}

/// A place in the total order: the priority, and the rank of whoever proposed it.
type Place = (u64, u16);

/// The first undelivered ABCAST of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    /// How many members have proposed for it.
    proposals: usize,
    /// The highest proposal.
    place: Place,
}

/// What is proposed in one view, and not delivered.
#[derive(Debug)]
pub struct Priorities {
    members: usize,
    /// By stream, then by proposer.
    proposed: Vec<VecDeque<Proposed>>,
    heads: Vec<Head>,
    /// The last priority in each member's stream.
    highest: Vec<u64>,
    /// Per proposer: up to which position of its stream the order of what was delivered rests on it.
    rests_on: Vec<u64>,
    /// At the cut: how many ABCASTs each stream has left. What is proposed for others is void (R7).
    left: Option<Vec<u32>>,
}

impl Priorities {
    /// For a view of so many members.
    pub fn new(members: usize) -> Priorities {
        Priorities {
            members,
            proposed: vec![VecDeque::new(); members * members],
            heads: vec![Head::default(); members],
            highest: vec![0; members],
            rests_on: vec![0; members],
            left: None,
        }
    }

    fn queue(&self, stream: usize, proposer: usize) -> &VecDeque<Proposed> {
        &self.proposed[stream * self.members + proposer]
    }

    /// The next priority that a member may propose: higher than all that it knows of, so that it lags behind nobody.
    pub fn next_priority(&self) -> u64 {
        self.highest.iter().max().map_or(1, |highest| highest + 1)
    }

    /// A PROPOSE record came in the stream of `proposer`.
    pub fn take(&mut self, proposer: usize, mut first: u64, runs: impl IntoIterator<Item = (u16, u32)>, end: u64) {
        if first <= self.highest[proposer] {
            // No member writes that.
            return;
        }
        for (stream, count) in runs {
            let stream = usize::from(stream);
            let queue = &mut self.proposed[stream * self.members + proposer];
            if queue.is_empty() {
                let head = &mut self.heads[stream];
                head.proposals += 1;
                head.place = head.place.max((first, proposer as u16));
            }
            queue.push_back(Proposed { first, count, end });
            first += u64::from(count);
        }
        self.highest[proposer] = self.highest[proposer].max(first - 1);
    }

    /// Whose ABCAST is next, if that is decided.
    pub fn next(&self) -> Option<usize> {
        let decided = |stream: &usize| {
            (self.heads[*stream].proposals == self.members
                || mutant!(PriorityUndecided) && self.heads[*stream].proposals > 0)
                && self.left.as_ref().is_none_or(|left| left[*stream] > 0)
        };
        let next = (0..self.members).filter(decided).min_by_key(|&stream| self.heads[stream].place)?;
        let place = self.heads[next].place;
        // At the cut nothing more is proposed: what is not decided comes after all that is.
        let settled = self.left.is_some() || mutant!(PriorityUndecided);
        (settled || (0..self.members).all(|other| other == next || !self.may_precede(other, place))).then_some(next)
    }

    /// The first ABCAST of `stream`, known here or not, may still get a place before this one.
    fn may_precede(&self, stream: usize, place: Place) -> bool {
        let head = self.heads[stream];
        head.place < place
            && (0..self.members).all(|proposer| {
                // Whoever has not proposed for it will propose more than it has proposed yet.
                !self.queue(stream, proposer).is_empty() || (self.highest[proposer] + 1, proposer as u16) < place
            })
            && head.proposals < self.members
    }

    /// The first ABCAST of `stream` is delivered.
    pub fn taken(&mut self, stream: usize) {
        let mut head = Head::default();
        for proposer in 0..self.members {
            let queue = &mut self.proposed[stream * self.members + proposer];
            if let Some(proposed) = queue.front_mut() {
                self.rests_on[proposer] = self.rests_on[proposer].max(proposed.end);
                proposed.first += 1;
                proposed.count -= 1;
                if proposed.count == 0 {
                    queue.pop_front();
                }
            }
            if let Some(proposed) = queue.front() {
                head.proposals += 1;
                head.place = head.place.max((proposed.first, proposer as u16));
            }
        }
        self.heads[stream] = head;
        if let Some(left) = &mut self.left {
            left[stream] = left[stream].saturating_sub(1);
        }
    }

    /// All records that the place of the first ABCAST of `stream` rests on, and the places of those delivered, are stable.
    pub fn is_stable(&self, stream: usize, stable: &[u64]) -> bool {
        (0..self.members).all(|proposer| {
            let own = self.queue(stream, proposer).front().map_or(0, |proposed| proposed.end);
            self.rests_on[proposer].max(own) <= stable[proposer]
        })
    }

    /// The view ends; each stream has so many ABCASTs left to be delivered.
    pub fn finish(&mut self, left: Vec<u32>) {
        self.left = Some(left);
    }
}

impl Plane {
    /// Whose ABCAST is next in the total order, as far as it is known.
    pub(super) fn next_total(&self) -> Option<usize> {
        match &self.priorities {
            Some(priorities) => priorities.next(),
            None => self.order.front().map(|run| usize::from(run.rank)),
        }
    }

    /// All that the place of the next ABCAST, of `rank`, rests on is stable.
    pub(super) fn order_is_stable(&self, rank: usize) -> bool {
        match &self.priorities {
            Some(priorities) => priorities.is_stable(rank, &self.stable),
            None => self.order.front().is_some_and(|run| {
                run.end <= self.stable[usize::from(run.holder)] && self.sequencer.is_stable(run.turn, &self.stable)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_highest_proposal_counts_and_the_rank_breaks_ties() {
        let mut priorities = Priorities::new(2);
        priorities.take(0, 1, [(0, 1), (1, 1)], 16);
        assert_eq!(priorities.next(), None, "the other member has not proposed");
        priorities.take(1, 1, [(1, 1), (0, 1)], 16);
        // Both have 2 as their highest; stream 0 has it from rank 1, stream 1 from rank 0.
        assert_eq!(priorities.next(), Some(1));
        priorities.taken(1);
        assert_eq!(priorities.next(), Some(0));
        priorities.taken(0);
        assert_eq!(priorities.next(), None);
    }

    #[test]
    fn a_decided_message_waits_for_one_that_may_come_before() {
        let mut priorities = Priorities::new(3);
        // Stream 0 is decided with place (5, 2); member 2 has proposed less for stream 1, member 1 nothing.
        priorities.take(0, 1, [(0, 1)], 16);
        priorities.take(1, 1, [(0, 1)], 16);
        priorities.take(2, 4, [(1, 1), (0, 1)], 16);
        priorities.take(0, 2, [(1, 1)], 32);
        assert_eq!(priorities.next(), None, "member 1 may propose 2 for the other one, whose place is then (4, 2)");
        priorities.take(1, 6, [(2, 1)], 32);
        assert_eq!(priorities.next(), Some(0), "whatever member 1 proposes now is more than 5");
    }

    #[test]
    fn at_the_cut_what_is_decided_comes_first_and_what_is_void_counts_nothing() {
        let mut priorities = Priorities::new(2);
        priorities.take(0, 1, [(0, 1), (1, 2)], 16);
        priorities.take(1, 9, [(1, 2)], 16);
        priorities.finish(vec![1, 1]);
        assert_eq!(priorities.next(), Some(1));
        priorities.taken(1);
        assert_eq!(priorities.next(), None, "the second one of that stream is beyond the cut, the other undecided");
    }

    /// First priority, and runs.
    type Record = (u64, Vec<(u16, u32)>);

    /// Members that consider random messages at random moments, with records that arrive everywhere at random moments: all
    /// deliver one order, whatever each had seen when it delivered.
    fn same_order(members: usize, choices: &[u8]) -> Result<(), TestCaseError> {
        let mut records: Vec<Vec<Record>> = vec![Vec::new(); members];
        let mut considered = vec![vec![0u32; members]; members];
        let mut sent = vec![0u32; members];
        let mut readers: Vec<(Priorities, Vec<usize>, Vec<usize>)> =
            (0..members).map(|_| (Priorities::new(members), vec![0; members], Vec::new())).collect();
        let mut choices = choices.iter().copied();
        let mut step = || choices.next();
        while let (Some(what), Some(who), Some(whose)) = (step(), step(), step()) {
            let (who, whose) = (usize::from(who) % members, usize::from(whose) % members);
            match what % 4 {
                0 => sent[whose] += 1,
                1 if considered[who][whose] < sent[whose] => {
                    let count = sent[whose] - considered[who][whose];
                    considered[who][whose] = sent[whose];
                    let first = readers[who].0.next_priority();
                    readers[who].0.take(who, first, [(whose as u16, count)], 8);
                    readers[who].1[who] += 1;
                    records[who].push((first, vec![(whose as u16, count)]));
                }
                2 | 3 => {
                    let reader = &mut readers[who];
                    if let Some((first, runs)) = records[whose].get(reader.1[whose]) {
                        reader.0.take(whose, *first, runs.iter().copied(), 8);
                        reader.1[whose] += 1;
                    }
                }
                _ => {}
            }
            for reader in &mut readers {
                while let Some(next) = reader.0.next() {
                    reader.0.taken(next);
                    reader.2.push(next);
                }
            }
        }
        // Everything that was proposed arrives, and the rest is left over by the same rule at all.
        for reader in &mut readers {
            for (whose, list) in records.iter().enumerate() {
                for (first, runs) in &list[reader.1[whose]..] {
                    reader.0.take(whose, *first, runs.iter().copied(), 8);
                }
            }
            let left = (0..members).map(|s| sent[s] - reader.2.iter().filter(|d| **d == s).count() as u32).collect();
            reader.0.finish(left);
            while let Some(next) =
                reader.0.next().or_else(|| reader.0.left.as_ref().and_then(|left| left.iter().position(|n| *n > 0)))
            {
                reader.0.taken(next);
                reader.2.push(next);
            }
        }
        for reader in &readers[1..] {
            prop_assert_eq!(&reader.2, &readers[0].2);
        }
        prop_assert_eq!(readers[0].2.len(), sent.iter().sum::<u32>() as usize);
        Ok(())
    }

    proptest! {
        #[test]
        fn all_readers_deliver_one_order(members in 1usize..5, choices in proptest::collection::vec(any::<u8>(), 0..600)) {
            same_order(members, &choices)?;
        }
    }
}
