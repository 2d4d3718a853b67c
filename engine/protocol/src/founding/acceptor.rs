//! A site's vote in foundings: what an operation does to the site's durable record.
//!
//! Pure functions of the record, the operation, and the system in which some live process of the site is. Owner: whoever
//! holds the site's lock (the runtime, the simulator): read the record, [`apply`], write what changed and make it durable,
//! then answer. Invariants: `promised` never falls within a founding; while a live process of the site is in a system no
//! other system is accepted or entered; what was accepted bars the systems of earlier foundings.

use crate::id::SystemId;
use isis_wire::founding::{Ballot, Foundation, SiteRecord};

/// What a process asks to be done with its site's record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordOperation {
    /// Nothing: tell what it says.
    Read,
    /// Promise to take part in no lower ballot.
    Pledge {
        /// The ballot.
        ballot: Ballot,
        /// The system of the founding before; zero for the first.
        previous: SystemId,
    },
    /// Accept what a ballot shall decide.
    Accept {
        /// The ballot.
        ballot: Ballot,
        /// The value.
        foundation: Foundation,
    },
    /// This founding was decided so.
    Learn {
        /// Its number.
        founding: u64,
        /// The decision.
        foundation: Foundation,
    },
    /// The asking process wants to be in this system.
    Enter {
        /// The number of its founding.
        founding: u64,
        /// The system.
        system: SystemId,
    },
    /// The asking process is in no system any more.
    Release,
}

/// What became of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applied {
    /// It was done; otherwise refused.
    pub done: bool,
    /// The asking process belongs to this system from now on (zero: to none); to be written down before the answer.
    pub bind: Option<SystemId>,
}

/// Does `operation` to `record`. `lives_in`: the system in which some live process of the site is, the asking one included;
/// zero: none is in any.
pub fn apply(record: &mut SiteRecord, operation: &RecordOperation, lives_in: SystemId) -> Applied {
    let mut bind = None;
    let done = match operation {
        RecordOperation::Read => true,
        RecordOperation::Pledge { ballot, previous } => pledge(record, *ballot, *previous),
        RecordOperation::Accept { ballot, foundation } => accept(record, *ballot, foundation, lives_in),
        RecordOperation::Learn { founding, foundation } => {
            learn(record, *founding, foundation);
            true
        }
        RecordOperation::Enter { founding, system } => {
            let elsewhere = lives_in != SystemId::default() && lives_in != *system;
            let may = !elsewhere && !bars(record, *founding, *system);
            if may {
                learn(record, *founding, &Foundation { system: *system, members: Vec::new() });
                bind = Some(*system);
            }
            may
        }
        RecordOperation::Release => {
            bind = Some(SystemId::default());
            true
        }
    };
    Applied { done, bind }
}

/// The site may not enter this system: it knows of a later one, or has accepted one.
pub fn bars(record: &SiteRecord, founding: u64, system: SystemId) -> bool {
    let known = record.decided > 0 && record.foundation.system == system;
    let number = if known { record.decided } else { founding };
    let later = !known && number <= record.decided;
    let accepted = record.accepted.as_ref().is_some_and(|(ballot, foundation)| {
        ballot.founding > number && foundation.system != system && !mutant!(ForgetsPledge)
    });
    later || accepted
}

/// Whether a record does not say yet all that `foundation`, decided by that founding, says. Who only hears the number and
/// the system of a founding (as the one before a ballot, or on admission) does not know whom it lists.
pub fn is_news(record: &SiteRecord, founding: u64, foundation: &Foundation) -> bool {
    let lists_nobody = record.foundation.members.is_empty() && !foundation.members.is_empty();
    let completes = founding <= record.decided && foundation.system == record.foundation.system && lists_nobody;
    founding > record.decided || completes
}

fn learn(record: &mut SiteRecord, founding: u64, foundation: &Foundation) {
    if !is_news(record, founding, foundation) {
        return;
    }
    record.decided = founding.max(record.decided);
    // A system that goes on has the first view that it had: a process listed there may not know yet.
    if foundation.system != record.foundation.system || !foundation.members.is_empty() {
        record.foundation = foundation.clone();
    }
    if record.promised.founding <= founding {
        record.promised = Ballot::default();
    }
    if record.accepted.as_ref().is_some_and(|(ballot, _)| ballot.founding <= founding) {
        record.accepted = None;
    }
}

fn pledge(record: &mut SiteRecord, ballot: Ballot, previous: SystemId) -> bool {
    if ballot.founding <= record.decided {
        return false;
    }
    // The founder knows of a later founding than this site.
    learn(record, ballot.founding - 1, &Foundation { system: previous, members: Vec::new() });
    if ballot < record.promised {
        return false;
    }
    record.promised = ballot;
    true
}

fn accept(record: &mut SiteRecord, ballot: Ballot, foundation: &Foundation, lives_in: SystemId) -> bool {
    let goes_on = foundation.members.is_empty();
    let elsewhere = lives_in != SystemId::default() && lives_in != foundation.system;
    if ballot.founding != record.decided + 1 || ballot < record.promised || (elsewhere && !goes_on) {
        return false;
    }
    record.promised = ballot;
    if !mutant!(ForgetsPledge) {
        record.accepted = Some((ballot, foundation.clone()));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Nonce, ProcessId, SiteKey};
    use isis_wire::Address;
    use isis_wire::message::{MemberEntry, StateStatus};

    const NOBODY: SystemId = SystemId(0);

    fn ballot(founding: u64, counter: u64) -> Ballot {
        Ballot { founding, counter, founder: Nonce(1) }
    }

    fn new_system(system: u128) -> Foundation {
        let member = MemberEntry {
            process: ProcessId::new(0, 0, 1),
            nonce: Nonce(1),
            site: SiteKey(1),
            address: Address::default(),
            state: StateStatus::Has,
            max_pause_ns: 0,
        };
        Foundation { system: SystemId(system), members: vec![member] }
    }

    fn does(record: &mut SiteRecord, operation: RecordOperation, lives_in: SystemId) -> bool {
        apply(record, &operation, lives_in).done
    }

    fn pledge(counter: u64) -> RecordOperation {
        RecordOperation::Pledge { ballot: ballot(1, counter), previous: NOBODY }
    }

    #[test]
    fn a_pledge_binds() {
        let mut record = SiteRecord::default();
        assert!(does(&mut record, pledge(2), NOBODY));
        assert!(does(&mut record, pledge(2), NOBODY), "it may be asked again");
        assert!(!does(&mut record, pledge(1), NOBODY));
        let low = RecordOperation::Accept { ballot: ballot(1, 1), foundation: new_system(5) };
        assert!(!does(&mut record, low, NOBODY));
        let high = RecordOperation::Accept { ballot: ballot(1, 2), foundation: new_system(5) };
        assert!(does(&mut record, high, NOBODY));
        assert!(does(&mut record, pledge(3), NOBODY));
        assert_eq!(record.accepted, Some((ballot(1, 2), new_system(5))), "a later founder learns of it");
    }

    #[test]
    fn a_site_is_in_one_system_at_a_time() {
        let mut record = SiteRecord::default();
        let enter = |system| RecordOperation::Enter { founding: 1, system: SystemId(system) };
        assert_eq!(apply(&mut record, &enter(5), NOBODY), Applied { done: true, bind: Some(SystemId(5)) });
        assert!(!does(&mut record, enter(6), SystemId(5)), "somebody lives in the other one");
        assert!(!does(&mut record, enter(6), NOBODY), "founding 1 was another system");
        assert!(!does(&mut record, pledge(9), NOBODY), "founding 1 is over");
        let next = RecordOperation::Accept { ballot: ballot(2, 1), foundation: new_system(7) };
        assert!(!does(&mut record, next.clone(), SystemId(5)), "no new system beside a living one");
        assert!(does(&mut record, next, NOBODY));
        assert!(!does(&mut record, enter(5), NOBODY), "the accepted system bars the one before");
        let goes_on = Foundation { system: SystemId(5), members: Vec::new() };
        assert!(does(&mut record, RecordOperation::Accept { ballot: ballot(2, 2), foundation: goes_on }, SystemId(5)));
        assert!(does(&mut record, enter(5), NOBODY), "unless the old one was decided to go on");
    }

    #[test]
    fn whom_a_founding_lists_may_be_learnt_later_than_its_number() {
        let mut record = SiteRecord::default();
        let ballot = ballot(2, 1);
        assert!(does(&mut record, RecordOperation::Pledge { ballot, previous: SystemId(5) }, NOBODY));
        let listed = new_system(5);
        assert_eq!((record.decided, record.foundation.members.len()), (1, 0), "the ballot told the system only");
        assert!(is_news(&record, 1, &listed));
        assert!(!is_news(&record, 1, &new_system(6)), "founding 1 was another system");
        assert!(does(&mut record, RecordOperation::Learn { founding: 1, foundation: listed.clone() }, NOBODY));
        assert_eq!((&record.foundation, record.promised), (&listed, ballot), "and the promise stands");
        assert!(!is_news(&record, 1, &listed));
        let goes_on = Foundation { system: SystemId(5), members: Vec::new() };
        assert!(!is_news(&record, 1, &goes_on));
        assert!(does(&mut record, RecordOperation::Learn { founding: 2, foundation: goes_on.clone() }, NOBODY));
        assert_eq!((record.decided, &record.foundation), (2, &listed), "a system that goes on had that first view");

        let mut late = SiteRecord { decided: 2, foundation: goes_on, ..SiteRecord::default() };
        assert!(does(&mut late, RecordOperation::Learn { founding: 1, foundation: listed.clone() }, NOBODY));
        assert_eq!((late.decided, late.foundation), (2, listed), "the number stays");
    }

    #[test]
    fn a_later_founding_ends_the_earlier_ones() {
        let mut record = SiteRecord::default();
        assert!(does(&mut record, pledge(4), NOBODY));
        assert!(does(&mut record, RecordOperation::Accept { ballot: ballot(1, 4), foundation: new_system(5) }, NOBODY));
        let third = RecordOperation::Pledge { ballot: ballot(3, 1), previous: SystemId(6) };
        assert!(does(&mut record, third, NOBODY));
        assert_eq!((record.decided, record.foundation.system, &record.accepted), (2, SystemId(6), &None));
        assert!(!does(&mut record, pledge(5), NOBODY));
        let old = RecordOperation::Enter { founding: 1, system: SystemId(5) };
        assert!(!does(&mut record, old, NOBODY));
        let later = RecordOperation::Enter { founding: 3, system: SystemId(8) };
        assert!(does(&mut record, later, NOBODY), "decided without this site");
        assert_eq!(record.decided, 3);
    }
}
