//! Who has a say in the next view: whose answers an attempt needs and what is a quorum of them, who has to go, who may come.
//!
//! Owner: the group. Invariant: what is asked here changes nothing.

use super::{Candidate, Group, rank_of};
use crate::id::ProcessId;
use crate::shared::Shared;
use isis_wire::message::{Joiner, MemberEntry};

impl Group {
    /// The attempt cannot do without this member's answer.
    pub(super) fn required(&self, shared: &Shared, process: ProcessId) -> bool {
        if self.is_system() || mutant!(GroupSuspects) {
            !shared.suspected(process) && !self.is_cut_off(shared, process)
        } else {
            shared.in_system(process)
        }
    }

    /// Whether these answers are a quorum: of a process that has answered the dead that it lists.
    pub(super) fn is_quorum<'a>(&self, shared: &Shared, answer: impl Fn(ProcessId) -> Option<&'a [ProcessId]>) -> bool {
        if self.is_system() {
            site_quorum(&self.view.members, answer, usize::from(shared.config.expected_sites))
        } else {
            self.view
                .members
                .iter()
                .filter(|member| self.required(shared, member.process))
                .all(|member| answer(member.process).is_some())
        }
    }

    /// Candidates that may join with the next view.
    pub(super) fn eligible_joiners(&self, shared: &Shared) -> impl Iterator<Item = &Joiner> {
        self.candidates
            .values()
            .filter(|candidate| candidate.fresh && self.has_links(shared, candidate))
            .map(|candidate| &candidate.joiner)
            .filter(|joiner| {
                self.is_system()
                    || (shared.in_system(joiner.process)
                        && shared.directory.is_entered(self.id, joiner.process)
                        && rank_of(&self.view.members, joiner.process).is_none())
            })
    }

    /// Somebody may join.
    pub(super) fn has_joiners(&self, shared: &Shared) -> bool {
        !self.candidates.is_empty() && self.eligible_joiners(shared).next().is_some()
    }

    /// Some member is not [`required`](Self::required): the next view is to be without it.
    pub(super) fn misses_somebody(&self, shared: &Shared) -> bool {
        if self.is_system() && self.view.number == shared.system_view.number {
            // Its members are this process and its peers.
            return shared.peers.values().any(|peer| shared.suspects(peer)) || self.cut_off(shared).is_some();
        }
        if self.is_system() || mutant!(GroupSuspects) {
            return self.view.members.iter().any(|member| !self.required(shared, member.process));
        }
        // Depends on two lists that change rarely.
        let (lists, known) = self.missing.get();
        if lists == (shared.peers_epoch, self.view.number) {
            return known;
        }
        let misses = self.view.members.iter().any(|member| !shared.in_system(member.process));
        self.missing.set(((shared.peers_epoch, self.view.number), misses));
        misses
    }

    /// Whoever joins the system has links to all members: it would have to go at once. Nobody on its own site is cut off.
    fn has_links(&self, shared: &Shared, candidate: &Candidate) -> bool {
        let needed = |m: &&MemberEntry| m.site != candidate.joiner.site && self.required(shared, m.process);
        !self.is_system() || self.view.members.iter().filter(needed).all(|m| candidate.heard.contains(&m.nonce.birth()))
    }
}

/// R10: a site has voted when every process of it has answered or is listed dead in an answer of a process of the same
/// site. A quorum is more than half of the sites, or exactly half with the site of rank 0; under `expected`, more than half
/// of the sites and of that many (R12).
///
/// `answer`: of a process that has answered the dead that it lists.
pub fn site_quorum<'a>(
    members: &[MemberEntry],
    answer: impl Fn(ProcessId) -> Option<&'a [ProcessId]>,
    expected: usize,
) -> bool {
    let mut sites: Vec<u128> = members.iter().map(|m| m.site.0).collect();
    sites.sort_unstable();
    sites.dedup();
    let voted = |site: u128| {
        let here = || members.iter().filter(move |m| m.site.0 == site);
        here().any(|m| answer(m.process).is_some())
            && here().all(|m| {
                mutant!(OneVotesForSite)
                    || answer(m.process).is_some()
                    || here().any(|other| answer(other.process).is_some_and(|dead| dead.contains(&m.process)))
            })
    };
    let votes = sites.iter().filter(|&&site| voted(site)).count();
    if expected > 0 {
        return 2 * votes > expected.max(sites.len());
    }
    2 * votes > sites.len()
        || (2 * votes == sites.len() && members.first().is_some_and(|oldest| voted(oldest.site.0) || mutant!(AnyHalf)))
}
