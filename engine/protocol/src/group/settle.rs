//! R2: before a view change forms a fresh value, ABCASTs to several groups whose senders fail with it are settled.
//!
//! Another group may have the final priority of a message that has none here; then it is delivered there, and has to be
//! delivered here. The proposer asks the processes of all groups that the message goes to. Each answers what it knows, but not
//! before it is frozen itself in each of those groups that has the sender in its view, with no accepted value in hand: from
//! then on it learns nothing from their streams (R5), and, the sender being excluded from the system view that both have
//! installed, no new final comes into being. An accepted value may have bytes below its cut that a frozen member does not
//! read yet (R6): it is decided first, which waits for no other group. So if nobody knows a final, nobody ever will, and the
//! message is void; if somebody does, the value says it, and whoever hears of the value knows it, too. A process that dies
//! before it answers makes a new system view, and with it a new attempt, which asks again (R9).
//!
//! ```text
//!  promises of all ──nothing open──▶ value
//!                  └──SETTLE──▶ settling ──SETTLED of all──▶ value
//! ```
//! No group waits for another one's view change, only for its members' freezing, which waits for nothing of this.
//!
//! Whom to ask is in the directory as of the attempt's system view: a process is entered before a group's value names it, and
//! removed only after a view without it.
//!
//! Owner: the attempt. Invariant: an answer counts for the attempt that asked, and attempts name the system view.

use super::Group;
use super::change::{Phase, Proposer};
use crate::id::{GroupId, ProcessId};
use crate::shared::Shared;
use isis_wire::message::{Attempt, Message, Promise};
use isis_wire::multi::{Final, MultiId, Open};
use std::collections::{BTreeMap, BTreeSet};

/// What an attempt asks other groups.
#[derive(Debug)]
pub struct Settling {
    open: Vec<Open>,
    /// How many were asked.
    asked: usize,
    /// Who has not answered.
    waits_for: BTreeSet<ProcessId>,
    finals: BTreeMap<MultiId, u64>,
}

impl Settling {
    /// The finals that are known; the others are void.
    pub fn outcome(self) -> Vec<Final> {
        self.finals.into_iter().collect()
    }
}

/// The messages of failed senders of which somebody has a copy that is not decided, and the finals of them that are known.
fn undecided(
    shared: &Shared,
    promises: &BTreeMap<ProcessId, Promise>,
) -> (BTreeMap<MultiId, Vec<GroupId>>, BTreeMap<MultiId, u64>) {
    let reports =
        || promises.iter().filter(|(process, _)| shared.in_system(**process)).map(|(_, promise)| &promise.multis);
    let open: BTreeMap<MultiId, Vec<GroupId>> = reports()
        .flat_map(|report| &report.open)
        .filter(|open| !shared.in_system(open.id.sender))
        .map(|open| (open.id, open.groups.clone()))
        .collect();
    let told = reports().flat_map(|report| report.finals.iter().copied());
    let known = open.keys().filter_map(|id| shared.multis.find_final(*id));
    let finals = told.chain(known).filter(|(id, _)| open.contains_key(id)).collect();
    (open, finals)
}

impl Group {
    /// All promises are there; whether nothing is open any more. Otherwise the others are asked.
    pub(super) fn settled(&mut self, shared: &mut Shared) -> bool {
        let Some(Proposer { attempt, phase: Phase::Preparing { promises, .. }, settling, .. }) = &self.change.proposer
        else {
            return true;
        };
        if self.is_system() || promises.values().any(|promise| promise.accepted.is_some()) {
            // R6: an accepted value says what it says.
            return true;
        }
        if let Some(settling) = settling {
            let enough = mutant!(SettlesByFirst) && settling.waits_for.len() < settling.asked;
            return settling.waits_for.is_empty() || enough;
        }
        let attempt = *attempt;
        let (open, finals) = undecided(shared, promises);
        let open: Vec<Open> = open
            .into_iter()
            .filter(|(id, _)| !finals.contains_key(id))
            .map(|(id, groups)| Open { id, groups })
            .collect();
        let groups: BTreeSet<GroupId> = open.iter().flat_map(|open| &open.groups).copied().collect();
        let entered = groups.iter().filter_map(|group| shared.directory.entry(*group)).flat_map(|entry| &entry.entered);
        let mut waits_for: BTreeSet<ProcessId> =
            entered.map(|entered| entered.process).filter(|process| shared.in_system(*process)).collect();
        if mutant!(NeverSettles) {
            waits_for.clear();
        }
        let done = waits_for.is_empty();
        if let Some(proposer) = &mut self.change.proposer {
            proposer.settling = Some(Settling { open, asked: waits_for.len(), waits_for, finals });
            proposer.resend_at = shared.now;
        }
        if waits_for_me(&self.change.proposer, shared.me) {
            self.ask_here(shared, attempt);
        }
        done
    }

    fn ask_here(&self, shared: &mut Shared, attempt: Attempt) {
        if let Some(Proposer { settling: Some(settling), .. }) = &self.change.proposer {
            shared.multis.settle_here.push_back((self.id, attempt, settling.open.clone()));
        }
    }

    /// Asks those that have not answered.
    pub(super) fn ask_to_settle(&mut self, shared: &mut Shared) {
        let Some(Proposer { attempt, settling: Some(settling), .. }) = &self.change.proposer else { return };
        let message = Message::Settle { attempt: *attempt, open: settling.open.clone() };
        for process in &settling.waits_for {
            if let Some(address) = shared.peers.get(process).map(|peer| peer.entry.address) {
                shared.send(address, self.id, self.view.number, &message);
            }
        }
        let attempt = *attempt;
        if waits_for_me(&self.change.proposer, shared.me) {
            self.ask_here(shared, attempt);
        }
    }

    /// A process has answered.
    pub fn on_settled(&mut self, shared: &mut Shared, process: ProcessId, attempt: Attempt, finals: Vec<Final>) {
        let Some(Proposer { attempt: own, settling: Some(settling), .. }) = &mut self.change.proposer else { return };
        if *own != attempt || !settling.waits_for.remove(&process) {
            return;
        }
        for (id, priority) in finals {
            if settling.open.iter().any(|open| open.id == id) {
                shared.multis.note_final(id, priority);
                settling.finals.insert(id, priority);
            }
        }
    }

    /// This member could still learn the final of that message, whose sender has failed, from the streams of the group.
    pub fn may_learn_of(&self, open: &Open) -> bool {
        let frozen = self.plane.frozen && self.change.accepted.is_none();
        let done = self.departed_until.is_some() || self.rank_of(open.id.sender).is_none();
        !done && !frozen && !mutant!(AnswersUnfrozen)
    }

    /// Nothing of that process, which has failed, will be delivered here any more, and all of it is.
    pub fn is_past(&self, sender: ProcessId) -> bool {
        let has_state = self.state == isis_wire::message::StateStatus::Has;
        self.departed_until.is_some() || (self.rank_of(sender).is_none() && has_state)
    }
}

fn waits_for_me(proposer: &Option<Proposer>, me: ProcessId) -> bool {
    proposer.as_ref().and_then(|proposer| proposer.settling.as_ref()).is_some_and(|it| it.waits_for.contains(&me))
}
