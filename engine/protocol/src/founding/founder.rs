//! One ballot of one founder: collects pledges, forms the value, collects acceptances. No time and no sending in here.
//!
//! Owner: the endpoint of the founder. Invariants: sites are counted, not processes; one ballot never carries two values;
//! the value is the accepted one of the highest ballot among the pledges of a majority, if there is one (R6).

use crate::id::{Nonce, ProcessId, SiteKey, SystemId};
use isis_wire::founding::{Ballot, Foundation};
use isis_wire::message::{MemberEntry, StateStatus};
use std::collections::{BTreeMap, BTreeSet};

/// The most processes that one founder hears.
const MAX_PLEDGES: usize = 1024;

/// The answer of a process to PLEDGE.
#[derive(Clone, Debug)]
pub struct Pledge {
    /// The process as it would be a member.
    pub member: MemberEntry,
    /// The system in which a process of its site is; zero: none is in any.
    pub lives_in: SystemId,
    /// What the site has accepted in this founding.
    pub accepted: Option<(Ballot, Foundation)>,
}

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// More answers.
    Wait,
    /// Ask the sites to accept this.
    Ask(Foundation),
    /// It is decided.
    Decided(Foundation),
    /// A majority of sites is in a system, which goes on: join that one.
    GiveUp,
}

#[derive(Debug)]
enum Phase {
    Pledging(BTreeMap<Nonce, Pledge>),
    Accepting(Foundation, BTreeSet<SiteKey>),
}

/// See the module.
#[derive(Debug)]
pub struct Founder {
    ballot: Ballot,
    previous: SystemId,
    expected: usize,
    phase: Phase,
}

impl Founder {
    /// A new attempt. `previous`: the system of the founding before.
    pub fn new(ballot: Ballot, previous: SystemId, expected: usize) -> Founder {
        Founder { ballot, previous, expected, phase: Phase::Pledging(BTreeMap::new()) }
    }

    /// Its name.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// The system of the founding before.
    pub fn previous(&self) -> SystemId {
        self.previous
    }

    /// What the sites are asked to accept, once that is known.
    pub fn asked(&self) -> Option<&Foundation> {
        match &self.phase {
            Phase::Pledging(_) => None,
            Phase::Accepting(foundation, _) => Some(foundation),
        }
    }

    /// How many processes have pledged.
    pub fn pledges(&self) -> usize {
        match &self.phase {
            Phase::Pledging(pledges) => pledges.len(),
            Phase::Accepting(..) => 0,
        }
    }

    /// The sites of which no process is in a system.
    pub fn free(&self) -> Vec<SiteKey> {
        match &self.phase {
            Phase::Pledging(pledges) => sites(pledges, |system| system == SystemId::default()),
            Phase::Accepting(..) => Vec::new(),
        }
    }

    /// A pledge came.
    pub fn take_pledge(&mut self, ballot: Ballot, pledge: Pledge) {
        if let Phase::Pledging(pledges) = &mut self.phase
            && ballot == self.ballot
            && (pledges.len() < MAX_PLEDGES || pledges.contains_key(&pledge.member.nonce))
        {
            pledges.insert(pledge.member.nonce, pledge);
        }
    }

    /// An acceptance came.
    pub fn take_accepted(&mut self, ballot: Ballot, site: SiteKey) {
        if let Phase::Accepting(_, accepted) = &mut self.phase
            && ballot == self.ballot
            && accepted.len() < MAX_PLEDGES
        {
            accepted.insert(site);
        }
    }

    fn is_majority(&self, count: usize) -> bool {
        2 * count > self.expected || (mutant!(FoundsAlone) && count > 0)
    }

    /// What comes next. `fresh`: a new system's id. `patient`: somebody may still answer, wait for a larger first view.
    /// `barred`: this site may not enter the system of the founding before, although it goes on.
    pub fn step(&mut self, fresh: SystemId, patient: bool, barred: bool) -> Step {
        let pledges = match &self.phase {
            Phase::Accepting(foundation, accepted) => {
                let decided = self.is_majority(accepted.len());
                return if decided { Step::Decided(foundation.clone()) } else { Step::Wait };
            }
            Phase::Pledging(pledges) => pledges,
        };
        let free = sites(pledges, |system| system == SystemId::default());
        let living = sites(pledges, |system| system != SystemId::default() && system == self.previous);
        let foundation = if self.is_majority(free.len()) {
            match highest(pledges, &free) {
                Some(foundation) => foundation,
                None if patient => return Step::Wait,
                None => Foundation { system: fresh, members: first_members(pledges, &free, self.ballot.founder) },
            }
        } else if self.is_majority(living.len()) {
            if !barred {
                return Step::GiveUp;
            }
            let goes_on = Foundation { system: self.previous, members: Vec::new() };
            highest(pledges, &living).unwrap_or(goes_on)
        } else {
            return Step::Wait;
        };
        self.phase = Phase::Accepting(foundation.clone(), BTreeSet::new());
        Step::Ask(foundation)
    }
}

/// The sites all of whose pledges fit.
fn sites(pledges: &BTreeMap<Nonce, Pledge>, fits: impl Fn(SystemId) -> bool) -> Vec<SiteKey> {
    let all: BTreeSet<SiteKey> = pledges.values().map(|pledge| pledge.member.site).collect();
    let here = |site: SiteKey| pledges.values().filter(move |pledge| pledge.member.site == site);
    all.into_iter().filter(|&site| here(site).all(|pledge| fits(pledge.lives_in))).collect()
}

/// What these sites have accepted in the highest ballot.
fn highest(pledges: &BTreeMap<Nonce, Pledge>, sites: &[SiteKey]) -> Option<Foundation> {
    let of_sites = pledges.values().filter(|pledge| sites.contains(&pledge.member.site));
    let accepted = of_sites.filter_map(|pledge| pledge.accepted.as_ref());
    accepted.max_by_key(|(ballot, _)| *ballot).map(|(_, foundation)| foundation.clone())
}

/// The members of a first view: those that pledged, the founder first, with identifiers.
fn first_members(pledges: &BTreeMap<Nonce, Pledge>, sites: &[SiteKey], founder: Nonce) -> Vec<MemberEntry> {
    let mut members: Vec<MemberEntry> =
        pledges.values().map(|pledge| &pledge.member).filter(|m| sites.contains(&m.site)).cloned().collect();
    members.sort_by_key(|member| (member.nonce != founder, member.nonce));
    let mut numbered: Vec<(SiteKey, u16)> = Vec::new();
    for member in &mut members {
        let site = numbered.iter().position(|(site, _)| *site == member.site).unwrap_or_else(|| {
            numbered.push((member.site, 0));
            numbered.len() - 1
        });
        member.process = ProcessId::new(site as u16, numbered[site].1, 1);
        member.state = StateStatus::Has;
        numbered[site].1 += 1;
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use isis_wire::Address;

    const FRESH: SystemId = SystemId(77);

    fn ballot(counter: u64) -> Ballot {
        Ballot { founding: 2, counter, founder: Nonce(2) }
    }

    fn pledge(nonce: u128, site: u128, lives_in: u128) -> Pledge {
        let member = MemberEntry {
            process: ProcessId::default(),
            nonce: Nonce(nonce),
            site: SiteKey(site),
            address: Address::default(),
            state: StateStatus::Has,
            max_pause_ns: 0,
        };
        Pledge { member, lives_in: SystemId(lives_in), accepted: None }
    }

    fn founder(pledges: Vec<Pledge>) -> Founder {
        let mut founder = Founder::new(ballot(5), SystemId(1), 3);
        for pledge in pledges {
            founder.take_pledge(ballot(5), pledge);
        }
        founder
    }

    #[test]
    fn sites_are_counted_not_processes() {
        let mut one_site = founder(vec![pledge(1, 9, 0), pledge(2, 9, 0), pledge(3, 9, 0)]);
        assert_eq!(one_site.step(FRESH, false, false), Step::Wait);
        one_site.take_pledge(ballot(4), pledge(4, 8, 0));
        assert_eq!(one_site.step(FRESH, false, false), Step::Wait, "an answer to another ballot");
        one_site.take_pledge(ballot(5), pledge(4, 8, 0));
        assert_eq!(one_site.step(FRESH, true, false), Step::Wait, "others may answer");
        let Step::Ask(foundation) = one_site.step(FRESH, false, false) else { panic!("a majority of three") };
        let order: Vec<(u128, ProcessId)> = foundation.members.iter().map(|m| (m.nonce.0, m.process)).collect();
        let id = ProcessId::new;
        assert_eq!(order, [(2, id(0, 0, 1)), (1, id(0, 1, 1)), (3, id(0, 2, 1)), (4, id(1, 0, 1))]);
        one_site.take_accepted(ballot(5), SiteKey(9));
        one_site.take_accepted(ballot(5), SiteKey(9));
        assert_eq!(one_site.step(FRESH, false, false), Step::Wait);
        one_site.take_accepted(ballot(5), SiteKey(8));
        assert_eq!(one_site.step(FRESH, false, false), Step::Decided(foundation));
    }

    #[test]
    fn what_was_accepted_is_proposed_again() {
        let accepted = |counter: u64, system: u128| {
            let members = vec![pledge(9, 9, 0).member];
            Some((ballot(counter), Foundation { system: SystemId(system), members }))
        };
        let low = Pledge { accepted: accepted(1, 50), ..pledge(1, 1, 0) };
        let high = Pledge { accepted: accepted(3, 60), ..pledge(2, 2, 0) };
        let mut founder = founder(vec![low, high]);
        let Step::Ask(foundation) = founder.step(FRESH, true, false) else { panic!("nothing to wait for") };
        assert_eq!(Some(foundation), accepted(3, 60).map(|(_, foundation)| foundation));
    }

    #[test]
    fn a_living_system_goes_on() {
        let living = || vec![pledge(1, 1, 1), pledge(3, 3, 1), pledge(2, 2, 0)];
        assert_eq!(founder(living()).step(FRESH, false, false), Step::GiveUp);
        let goes_on = Foundation { system: SystemId(1), members: Vec::new() };
        assert_eq!(founder(living()).step(FRESH, false, true), Step::Ask(goes_on));
        let mut lost = founder(vec![pledge(1, 1, 1), pledge(2, 2, 0)]);
        assert_eq!(lost.step(FRESH, false, true), Step::Wait, "neither is a majority");
        assert_eq!(lost.free(), [SiteKey(2)]);
        lost.take_pledge(ballot(5), pledge(3, 3, 0));
        let Step::Ask(foundation) = lost.step(FRESH, false, false) else { panic!("a majority is free") };
        assert_eq!((foundation.system, foundation.members.len()), (FRESH, 2));
    }
}
