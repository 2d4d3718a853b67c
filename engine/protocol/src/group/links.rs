//! Broken links between processes that both live: who has to go (partial connectivity).
//!
//! Signs of life go round: whoever hears of a process by others' word does not take it for failed. But a member that misses
//! another one's own packets cannot change views with it for ever, and its rows do not get through: somebody has to go.
//!
//! ```text
//!  others hear it, here nothing came from it for a while ──▶ said in the own sign ──▶ goes round with the signs
//!  all, from the same signs: by age, a member is kept iff it has links to all older ones that are kept
//!  the oldest kept one ──▶ a system view without the others, if those kept are a quorum; else nothing is done
//! ```
//! A link is broken when either end says so: a way that is open in one direction only serves no agreement. In a large view few
//! links are in use all the time: a member tries the others in turn, one each second heartbeat, and they may be silent for
//! longer. Nobody acts on signs that have changed within `suspect_min_ns`: the ends of broken links notice one after the other,
//! and by a part of what they say others would have to go.
//!
//! Until somebody goes, and where nobody has to, since too few would be left, view changes go on over the links that are there:
//! protocol messages over a broken one take a second way, over the oldest member that has links to both ends (a *detour*).
//! The streams need none: what is missing comes by repairs from whoever has it.
//!
//! Owner: the system group. Invariant: the rule looks at signs of the present view only.

use super::Group;
use super::electorate::site_quorum;
use crate::id::{ProcessId, SiteKey};
use crate::shared::Shared;
use crate::time::Instant;
use isis_wire::Address;
use isis_wire::digest::{Missed, Sign};
use std::collections::{BTreeMap, BTreeSet};

impl Group {
    /// What somebody knows of a member came: a later heartbeat is a sign of life, whoever brings it.
    pub(super) fn note_sign(&mut self, shared: &mut Shared, rank: usize, sign: Sign) {
        if rank == self.rank || sign.beat <= self.plane.signs[rank].beat {
            return;
        }
        self.set_sign(shared, rank, sign);
        if self.is_system()
            && let Some(peer) = shared.peers.get_mut(&self.view.members[rank].process)
        {
            peer.heard(shared.now);
        }
    }

    /// Of streams whose senders are not heard here: what another member has of them, by its row, is missing here.
    pub(super) fn learn_ends(&mut self, shared: &Shared, teller: usize) {
        let silent_ns = 2 * shared.config.heartbeat_ns;
        for rank in (0..self.plane.members).filter(|rank| *rank != self.rank) {
            let received = self.plane.rows[teller].received[rank];
            if received <= self.plane.images[rank].known_end {
                continue;
            }
            let peer = shared.peers.get(&self.view.members[rank].process);
            if peer.is_some_and(|peer| shared.now.since(peer.direct_at) > silent_ns) {
                self.plane.images[rank].known_end = received;
            }
        }
    }

    /// The next own sign: a heartbeat, and which members are missed here.
    pub(super) fn give_sign(&mut self, shared: &mut Shared) {
        let misses = Missed::new((0..self.plane.members).filter(|&rank| self.is_missed(shared, rank)));
        let beat = self.plane.signs[self.rank].beat + 1;
        self.set_sign(shared, self.rank, Sign { beat, misses });
    }

    fn set_sign(&mut self, shared: &mut Shared, rank: usize, sign: Sign) {
        let before = std::mem::replace(&mut self.plane.signs[rank], sign);
        if sign.misses != before.misses {
            self.plane.missing_since = shared.now;
            self.plane.missing = self.plane.signs.iter().any(|sign| !sign.misses.is_empty());
        }
        if self.is_system() && (self.plane.missing || !shared.detours.is_empty()) {
            shared.detours = self.detours(shared);
        }
    }

    /// Either end says that it misses the other.
    fn is_broken(&self, one: usize, other: usize) -> bool {
        let signs = &self.plane.signs;
        signs[one].misses.contains(other) || signs[other].misses.contains(one)
    }

    /// For each member with whom the link is broken: the oldest one that has links to both.
    fn detours(&self, shared: &Shared) -> BTreeMap<Address, Address> {
        let members = &self.view.members;
        let there = |rank: &usize| *rank != self.rank && !shared.suspected(members[*rank].process);
        let ranks = || (0..self.plane.members).filter(there);
        ranks()
            .filter(|&rank| self.is_broken(self.rank, rank))
            .filter_map(|rank| {
                let linked =
                    |via: &usize| *via != rank && !self.is_broken(self.rank, *via) && !self.is_broken(*via, rank);
                Some((members[rank].address, members[ranks().find(linked)?].address))
            })
            .collect()
    }

    /// Others hear the member, and this one does not: how long its own packets may stay out, counted from the last one to the
    /// last sign of life, says `2 × suspect_min_ns`; of one that is tried in turn, four turns more.
    fn is_missed(&self, shared: &Shared, rank: usize) -> bool {
        let limit_ns = 2 * shared.config.suspect_min_ns;
        let in_turn_ns = 8 * self.plane.members as u64 * shared.config.heartbeat_ns;
        let limit_ns = match &self.plane.gossip {
            Some(gossip) if (0..gossip.levels()).all(|level| gossip.previous(level) != rank) => limit_ns + in_turn_ns,
            _ => limit_ns,
        };
        let member = &self.view.members[rank];
        let peer = || shared.peers.get(&member.process);
        member.site != shared.config.site && peer().is_some_and(|peer| peer.heard_at.since(peer.direct_at) > limit_ns)
    }

    /// From when on members may have to go for their broken links.
    pub(super) fn cut_off_at(&self, shared: &Shared) -> Option<Instant> {
        (self.plane.missing && self.is_system()).then(|| self.plane.missing_since + shared.config.suspect_min_ns)
    }

    /// The members that have to go for their broken links, by rank; `None`: nobody, or the rest would be no quorum.
    pub(super) fn cut_off(&self, shared: &Shared) -> Option<Vec<bool>> {
        if self.cut_off_at(shared).is_none_or(|at| shared.now < at) || mutant!(KeepsCutOff) {
            return None;
        }
        // Networks part sites, never the processes of a site: a link that is broken is so for both sites as a whole.
        let members = &self.view.members;
        let failed = |rank: usize| rank != self.rank && shared.suspected(members[rank].process);
        let living: Vec<usize> = (0..self.plane.members).filter(|&rank| !failed(rank)).collect();
        let pairs = living.iter().flat_map(|&one| living.iter().map(move |&other| (one, other)));
        let broken: BTreeSet<(SiteKey, SiteKey)> = pairs
            .filter(|&(one, other)| self.is_broken(one, other))
            .map(|(one, other)| (members[one].site, members[other].site))
            .collect();
        let broken = |one: usize, other: usize| broken.contains(&(members[one].site, members[other].site));
        let mut kept: Vec<usize> = Vec::new();
        let mut gone = vec![false; self.plane.members];
        for rank in living {
            if kept.iter().any(|&older| broken(rank, older)) {
                gone[rank] = true;
            } else {
                kept.push(rank);
            }
        }
        if !gone.contains(&true) {
            return None;
        }
        let dead: Vec<ProcessId> = members.iter().map(|m| m.process).filter(|&p| shared.known_dead(p)).collect();
        let answer = |process| kept.iter().any(|&rank| members[rank].process == process).then_some(dead.as_slice());
        site_quorum(members, answer, usize::from(shared.config.expected_sites)).then_some(gone)
    }

    /// The member has to go for its broken links.
    pub(super) fn is_cut_off(&self, shared: &Shared, process: ProcessId) -> bool {
        self.plane.missing
            && self.cut_off(shared).is_some_and(|gone| self.rank_of(process).is_some_and(|rank| gone[rank]))
    }
}
