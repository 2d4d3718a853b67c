//! Asking whether others' ABCASTs to several groups are delivered everywhere (R4, [`crate::multis`]).
//!
//! It is asked only when something waits for the answer, or when the sender has failed: then nobody else will ever tell.
//!
//! ```text
//!  delivered here in one group ──something waits──▶ PENDING to its sender ──COMPLETE──▶ forgotten
//!                              └──sender failed──▶ PENDING to all processes of its groups ──COMPLETE of all──▶ forgotten
//! ```
//! A process may answer for a failed sender as soon as its own views are without that one. It cannot be in a view that is
//! older than the sender's last one: a message that was delivered anywhere had a proposal of each group, made when all members
//! of the view had its copy; so each of them was in that view.
//!
//! Owner: the endpoint. Invariant: an answer is a fact that stays true.

use super::Endpoint;
use crate::group::debts::Debt;
use crate::id::{GroupId, ProcessId};
use crate::time::Instant;
use isis_wire::Address;
use isis_wire::message::Message;
use isis_wire::multi::{MultiId, Open};
use std::collections::{BTreeMap, BTreeSet};

/// The most messages that one question names.
const MOST: usize = 256;

impl Endpoint {
    /// Asks what is due.
    pub(super) fn ask_pending(&mut self) {
        if self.shared.multis.pending.is_empty() || self.shared.stalled {
            return;
        }
        let now = self.shared.now;
        let wanted = self.awaited_multis();
        let mut questions: BTreeMap<ProcessId, Vec<Open>> = BTreeMap::new();
        let mut done = Vec::new();
        let ids: Vec<MultiId> = self.shared.multis.pending.keys().copied().collect();
        for id in ids {
            let failed = !self.shared.in_system(id.sender);
            let Some(pending) = self.shared.multis.pending.get(&id) else { continue };
            if pending.ask_at > now || !(failed || wanted.contains(&id)) {
                continue;
            }
            let open = Open { id, groups: pending.groups.clone() };
            let to = if failed { self.whom_to_ask(&open) } else { BTreeSet::from([id.sender]) };
            if to.is_empty() {
                done.push(id);
                continue;
            }
            for process in &to {
                let questions = questions.entry(*process).or_default();
                if questions.len() < MOST {
                    questions.push(open.clone());
                }
            }
            let ask_at = now + self.shared.random.jitter(self.shared.config.resend_ns);
            let view = self.shared.system_view.number;
            if let Some(pending) = self.shared.multis.pending.get_mut(&id) {
                pending.asked = failed.then_some((view, to));
                pending.ask_at = ask_at;
            }
        }
        for id in done {
            self.shared.multis.pending.remove(&id);
            self.touch();
        }
        for (process, open) in questions {
            if let Some(address) = self.shared.peers.get(&process).map(|peer| peer.entry.address) {
                self.shared.send(address, GroupId::SYSTEM, self.shared.system_view.number, &Message::Pending { open });
            }
        }
    }

    /// Who has to answer for a failed sender, and has not.
    fn whom_to_ask(&self, open: &Open) -> BTreeSet<ProcessId> {
        let view = self.shared.system_view.number;
        let asked = self.shared.multis.pending.get(&open.id).and_then(|pending| pending.asked.as_ref());
        let here = |process: &ProcessId| self.shared.in_system(*process);
        let mut to: BTreeSet<ProcessId> = match asked {
            Some((then, left)) if *then == view => left.clone(),
            _ => {
                let groups = open.groups.iter().filter_map(|group| self.shared.directory.entry(*group));
                groups.flat_map(|entry| &entry.entered).map(|entered| entered.process).filter(here).collect()
            }
        };
        if self.is_done(open) {
            to.remove(&self.shared.me);
        }
        to
    }

    /// What messages wait for, of others' ABCASTs to several groups.
    fn awaited_multis(&self) -> BTreeSet<MultiId> {
        let waiting = self
            .groups
            .values()
            .flat_map(|group| group.waiting.iter().flat_map(|message| &message.debts).chain(&group.refused_for));
        let of_clients = self.clients.values().flat_map(|client| client.debts());
        waiting
            .chain(of_clients)
            .filter_map(|debt| match debt {
                &Debt::Multi { id, .. } => Some(id),
                _ => None,
            })
            .collect()
    }

    /// When something has to be asked again.
    pub(super) fn pending_deadline(&self) -> Option<Instant> {
        if self.shared.multis.pending.is_empty() || self.shared.stalled {
            return None;
        }
        let wanted = self.awaited_multis();
        let due = |id: &MultiId| !self.shared.in_system(id.sender) || wanted.contains(id);
        self.shared.multis.pending.iter().filter(|(id, _)| due(id)).map(|(_, pending)| pending.ask_at).min()
    }

    /// This message is delivered everywhere, as far as it depends on this process: it is its own, or its sender has failed.
    fn is_done(&self, open: &Open) -> bool {
        if open.id.sender == self.shared.me {
            return self.shared.multis.complete >= open.id.number;
        }
        open.groups.iter().all(|group| self.groups.get(group).is_none_or(|group| group.is_past(open.id.sender)))
    }

    /// PENDING came.
    pub(super) fn on_pending(&mut self, from: Address, open: &[Open]) {
        if self.shared.stalled {
            return;
        }
        let done: Vec<MultiId> = open.iter().filter(|open| self.is_done(open)).map(|open| open.id).collect();
        if !done.is_empty() {
            let view = self.shared.system_view.number;
            self.shared.send(from, GroupId::SYSTEM, view, &Message::Complete { done });
        }
    }

    /// COMPLETE came.
    pub(super) fn on_complete(&mut self, process: ProcessId, done: &[MultiId]) {
        self.shared.multis.note_answer(process, done);
    }
}
