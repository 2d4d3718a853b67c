//! What a view change decides, formed from the promises of one attempt.
//!
//! If a promise carries an accepted value, the one of the highest attempt is proposed again, byte for byte (R6). Else a
//! fresh one: the members that answered, less those that leave or have failed, plus the joiners that answered. The cut
//! is, for a member that stays or leaves, the end that it promised; for an excluded one, the most that any answerer has.

use super::Group;
use crate::id::{Nonce, ProcessId, SiteKey};
use crate::shared::Shared;
use isis_wire::message::{Accept, Attempt, Joiner, MemberEntry, Promise, StateStatus, Value};
use isis_wire::multi::Final;
use std::collections::{BTreeMap, BTreeSet};

impl Group {
    /// The value to propose, and who holds what. `None`: there is nobody to go on.
    pub(super) fn form_value(
        &mut self,
        shared: &Shared,
        attempt: Attempt,
        promises: &BTreeMap<ProcessId, Promise>,
        joiners: &[Joiner],
        ready: &BTreeMap<Nonce, u64>,
        settled: &[Final],
    ) -> Option<Accept> {
        let accepted = promises.values().filter_map(|p| p.accepted.as_ref()).max_by_key(|(attempt, _)| *attempt);
        let value = match accepted {
            Some((_, value)) if !mutant!(ProposesAfresh) => value.clone(),
            _ => self.fresh_value(shared, attempt, promises, joiners, ready, settled)?,
        };
        let holders = promises
            .iter()
            .map(|(process, promise)| {
                // Whoever accepted this value has fetched everything up to its cut, though its row is frozen.
                let has_all = promise.accepted.as_ref().is_some_and(|(_, theirs)| *theirs == value);
                (*process, if has_all { value.cut.clone() } else { promise.received.clone() })
            })
            .collect();
        Some(Accept { attempt, value, holders })
    }

    fn fresh_value(
        &mut self,
        shared: &Shared,
        attempt: Attempt,
        promises: &BTreeMap<ProcessId, Promise>,
        joiners: &[Joiner],
        ready: &BTreeMap<Nonce, u64>,
        settled: &[Final],
    ) -> Option<Value> {
        let number = self.view.number + 1;
        let failed = |process: ProcessId| {
            if mutant!(GroupSuspects) {
                shared.suspected(process)
            } else if self.is_system() {
                // Whoever answered this attempt is out only if it is known dead: a suspicion since then is no reason.
                // So it is for broken links.
                shared.known_dead(process) || self.is_cut_off(shared, process)
            } else {
                !shared.in_system(process)
            }
        };
        let goes_on = |process: ProcessId| promises.contains_key(&process) && !failed(process);
        let reports = promises.iter().filter(|(p, _)| goes_on(**p)).map(|(_, promise)| &promise.multis);
        let clock = reports.clone().map(|report| report.clock).max().unwrap_or(0);
        let clock = settled.iter().map(|(_, priority)| *priority).fold(clock, u64::max);
        let clock = reports.map(|report| report.copies).fold(clock, u64::saturating_add);
        let wants_out = |process: ProcessId| {
            promises.get(&process).is_some_and(|promise| promise.leaving > 0)
                || self.leavers.get(&process).is_some_and(|&request| request > self.executed(process))
        };
        let cut = (0..self.view.members.len())
            .map(|rank| {
                let process = self.view.members[rank].process;
                match promises.get(&process) {
                    Some(promise) if goes_on(process) => promise.received[rank],
                    _ => promises
                        .iter()
                        .filter(|(p, _)| goes_on(**p))
                        .map(|(_, promise)| promise.received[rank])
                        .max_by_key(|&received| if mutant!(CutTooLow) { u64::MAX - received } else { received })
                        .unwrap_or(0),
                }
            })
            .collect();
        let left: Vec<ProcessId> =
            self.view.members.iter().map(|m| m.process).filter(|&p| goes_on(p) && wants_out(p)).collect();
        let mut members: Vec<MemberEntry> = self
            .view
            .members
            .iter()
            .filter(|m| goes_on(m.process) && !left.contains(&m.process))
            .map(|m| MemberEntry { state: Group::state_of(&promises[&m.process]), ..m.clone() })
            .collect();

        let mut next_site = self.view.next_site;
        let mut joined = Vec::new();
        // Consecutive views intersect: where nobody stays the group ends, and joiners begin anew at the directory.
        let joiners = if members.is_empty() { &[] } else { joiners };
        let admitted = self.admitted(shared, &members, joiners, ready);
        for joiner in joiners {
            if !admitted.contains(&joiner.nonce) {
                // No trigger again until it is repeated.
                if !ready.contains_key(&joiner.nonce)
                    && let Some(candidate) = self.candidates.get_mut(&joiner.nonce)
                {
                    candidate.fresh = false;
                }
                continue;
            }
            let process = if self.is_system() {
                new_identifier(&self.view.members, &members, joiner.site, number, &mut next_site)
            } else {
                joiner.process
            };
            joined.push(process);
            let place = if mutant!(JoinerRanksFirst) && !self.is_system() { 0 } else { members.len() };
            members.insert(
                place,
                MemberEntry {
                    process,
                    nonce: joiner.nonce,
                    site: joiner.site,
                    address: joiner.address,
                    state: if joiner.wants_state && !self.is_system() { StateStatus::Needs } else { StateStatus::Has },
                    max_pause_ns: joiner.max_pause_ns,
                },
            );
        }
        name_donors(&mut members, number);

        let mut executed: BTreeMap<ProcessId, u64> =
            self.view.executed.iter().filter(|(p, _)| shared.in_system(**p)).map(|(p, n)| (*p, *n)).collect();
        for joiner in joiners.iter().filter(|j| admitted.contains(&j.nonce) && !self.is_system()) {
            executed.insert(joiner.process, joiner.request);
        }
        for process in &left {
            let request = promises[process].leaving.max(self.leavers.get(process).copied().unwrap_or(0));
            executed.insert(*process, request);
        }
        let system_view = if self.is_system() { number } else { attempt.system_view };
        Some(Value {
            number,
            system_view,
            members,
            cut,
            left,
            joined,
            executed: executed.into_iter().collect(),
            next_site,
            clock,
            settled: settled.to_vec(),
        })
    }

    /// The highest join or leave request of a process that was executed (R3).
    pub fn executed(&self, process: ProcessId) -> u64 {
        self.view.executed.get(&process).copied().unwrap_or(0)
    }

    /// Which joiners are let in. R11: a system view admits at most as many new sites as it keeps old ones (under
    /// `expected` fewer), so that the old ones are a quorum of it.
    fn admitted(
        &self,
        shared: &Shared,
        kept: &[MemberEntry],
        joiners: &[Joiner],
        ready: &BTreeMap<Nonce, u64>,
    ) -> BTreeSet<Nonce> {
        let answered = joiners.iter().filter(|j| ready.get(&j.nonce) == Some(&j.request));
        if !self.is_system() {
            return answered
                .filter(|j| j.request > self.executed(j.process) && shared.directory.is_entered(self.id, j.process))
                .map(|j| j.nonce)
                .collect();
        }
        let sites: BTreeSet<SiteKey> = kept.iter().map(|m| m.site).collect();
        let room = if mutant!(AdmitsAllSites) {
            usize::MAX
        } else if shared.config.expected_sites > 0 {
            // And never more than there are: a majority of the expected sites has to be one of the view's sites.
            let missing = usize::from(shared.config.expected_sites).saturating_sub(sites.len());
            sites.len().saturating_sub(1).min(missing)
        } else {
            sites.len()
        };
        let mut new_sites = BTreeSet::new();
        let mut admitted = BTreeSet::new();
        for joiner in answered {
            if sites.contains(&joiner.site) || new_sites.contains(&joiner.site) || new_sites.len() < room {
                if !sites.contains(&joiner.site) {
                    new_sites.insert(joiner.site);
                }
                admitted.insert(joiner.nonce);
            }
        }
        admitted
    }
}

/// Every member without the state gets a donor: the one it has if that stays, else the oldest that has the state.
fn name_donors(members: &mut [MemberEntry], view: u64) {
    let holders: Vec<ProcessId> = members.iter().filter(|m| m.state == StateStatus::Has).map(|m| m.process).collect();
    for member in members.iter_mut() {
        member.state = match member.state {
            StateStatus::Has => StateStatus::Has,
            StateStatus::From { donor, view } if holders.contains(&donor) => StateStatus::From { donor, view },
            _ => match holders.first() {
                Some(&donor) => StateStatus::From { donor, view },
                None => StateStatus::Needs,
            },
        };
    }
}

/// An identifier that was never used in this system: the incarnation is the number of the admitting view, the slot is
/// free in the old view and the new one.
fn new_identifier(
    old: &[MemberEntry],
    new: &[MemberEntry],
    site: SiteKey,
    view: u64,
    next_site: &mut u16,
) -> ProcessId {
    let everyone = || old.iter().chain(new);
    let site_number = match everyone().find(|m| m.site == site) {
        Some(member) => member.process.site(),
        None => {
            let number = *next_site;
            *next_site = next_site.wrapping_add(1);
            number
        }
    };
    let slot = (0..=u16::MAX)
        .find(|&slot| !everyone().any(|m| m.process.site() == site_number && m.process.slot() == slot))
        .unwrap_or(u16::MAX);
    ProcessId::new(site_number, slot, view as u32)
}
