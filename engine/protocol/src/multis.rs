//! What a process knows of ABCASTs to several groups, over all its groups: final priorities, for those that ask when a sender
//! has failed (R2), and which messages it has delivered in one group while others may still wait for them (R4).
//!
//! A message that goes to several groups is delivered in each of them at a time of its own. Who has delivered it in one group
//! and then sends in another one must not let its own message come first where both go. In a group where it has delivered the
//! message the order of that group sees to this. Elsewhere it waits until the message is *complete*, delivered everywhere in
//! all its groups. Its sender is a member of all of them and knows; it says so in its next copies, or when it is asked. When it
//! has failed, all processes of the groups are asked: who is past the sender's last view in them has delivered all of it.
//!
//! Owner: [`crate::shared::Shared`], which the groups fill and the endpoint asks. Invariant: of a sender at most
//! [`OUTSTANDING`] messages are not complete, so those before them need not be kept.

use crate::group::copies::News;
use crate::id::{GroupId, ProcessId};
use crate::time::Instant;
use isis_wire::message::Attempt;
use isis_wire::multi::{Final, MultiId, Open};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many ABCASTs to several groups a process may have that are not delivered everywhere.
pub const OUTSTANDING: u64 = 64;
/// Of so many processes the finals are remembered.
const REMEMBERED: usize = 1024;

/// A message that is delivered here in at least one group, and is not known to be complete.
#[derive(Debug)]
pub struct Pending {
    /// All groups that it goes to.
    pub groups: Vec<GroupId>,
    /// Where it is delivered here, with the causality domains.
    pub delivered: Vec<(GroupId, u32)>,
    /// In which system view whom it is asked.
    pub asked: Option<(u64, BTreeSet<ProcessId>)>,
    /// When they are asked again.
    pub ask_at: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Multis {
    /// The highest priority that was delivered here.
    pub clock: u64,
    /// This process's messages up to this number are complete.
    pub complete: u64,
    /// What groups tell of this process's messages: group, number, what.
    pub news: VecDeque<(GroupId, u64, News)>,
    /// Questions of this process's own attempts to itself (R2): group, attempt, which.
    pub settle_here: VecDeque<(GroupId, Attempt, Vec<Open>)>,
    /// Others' messages that are not known to be complete.
    pub pending: BTreeMap<MultiId, Pending>,
    /// This process's messages that are delivered here in at least one group: all their groups, and those.
    own: BTreeMap<u64, (Vec<GroupId>, Vec<GroupId>)>,
    finals: BTreeMap<ProcessId, BTreeMap<u64, u64>>,
    /// Of whom finals are known, in the order in which that began.
    senders: VecDeque<ProcessId>,
}

impl Multis {
    /// A final priority became known.
    pub fn note_final(&mut self, id: MultiId, priority: u64) {
        if !self.finals.contains_key(&id.sender) {
            self.senders.push_back(id.sender);
            if self.senders.len() > REMEMBERED
                && let Some(first) = self.senders.pop_front()
            {
                self.finals.remove(&first);
            }
        }
        let of_sender = self.finals.entry(id.sender).or_default();
        of_sender.insert(id.number, priority);
        if let Some(oldest) = id.number.checked_sub(OUTSTANDING) {
            *of_sender = of_sender.split_off(&(oldest + 1));
        }
    }

    /// The finals of messages that are not known to be complete: `me` is this process. A joiner's state may come from such
    /// messages, and other groups may ask it when all that delivered them are dead.
    pub fn finals_for_joiners(&self, me: ProcessId) -> Vec<Final> {
        if mutant!(FinalsUntold) {
            return Vec::new();
        }
        let own = self.finals.get(&me).into_iter().flat_map(|own| own.range(self.complete + 1..));
        let own = own.map(|(&number, &priority)| (MultiId { sender: me, number }, priority));
        own.chain(self.pending.keys().filter_map(|id| self.find_final(*id))).collect()
    }

    /// What is delivered in `group` and not known to be complete: `me` is this process. A joiner of the group comes after these
    /// messages as those do who delivered them, and what it sends elsewhere has to wait for them as well (R4).
    pub fn open_for_joiners(&self, me: ProcessId, group: GroupId) -> Vec<Open> {
        if mutant!(PendingUntold) {
            return Vec::new();
        }
        let own = self.own.range(self.complete + 1..).filter(|(_, (_, delivered))| delivered.contains(&group));
        let own = own.map(|(&number, (groups, _))| Open { id: MultiId { sender: me, number }, groups: groups.clone() });
        let others = self.pending.iter().filter(|(_, it)| it.delivered.iter().any(|(here, _)| *here == group));
        own.chain(others.map(|(&id, it)| Open { id, groups: it.groups.clone() })).collect()
    }

    /// A message of this process is delivered here in `group`.
    pub fn note_own_delivered(&mut self, number: u64, groups: &[GroupId], group: GroupId) {
        while self.own.first_key_value().is_some_and(|(&first, _)| first <= self.complete) {
            self.own.pop_first();
        }
        let (_, delivered) = self.own.entry(number).or_insert_with(|| (groups.to_vec(), Vec::new()));
        delivered.push(group);
    }

    /// It, if it is known.
    pub fn find_final(&self, id: MultiId) -> Option<Final> {
        self.finals.get(&id.sender)?.get(&id.number).map(|&priority| (id, priority))
    }

    /// Another process's message is delivered here in a group of that domain.
    pub fn note_delivered(&mut self, now: Instant, id: MultiId, groups: &[GroupId], here: (GroupId, u32)) {
        let pending = self.pending.entry(id).or_insert_with(|| Pending {
            groups: groups.to_vec(),
            delivered: Vec::new(),
            asked: None,
            ask_at: now,
        });
        if !pending.delivered.contains(&here) {
            pending.delivered.push(here);
        }
    }

    /// The sender's messages up to this number are complete.
    pub fn note_complete(&mut self, sender: ProcessId, number: u64) {
        let id = |number| MultiId { sender, number };
        let done: Vec<MultiId> = self.pending.range(id(0)..=id(number)).map(|(&id, _)| id).collect();
        for id in done {
            self.pending.remove(&id);
        }
    }

    /// This process answered that the messages are complete as far as it is concerned.
    pub fn note_answer(&mut self, from: ProcessId, done: &[MultiId]) {
        for id in done {
            if id.sender == from {
                self.note_complete(from, id.number);
            } else if let Some((_, waits_for)) = self.pending.get_mut(id).and_then(|it| it.asked.as_mut()) {
                waits_for.remove(&from);
            }
        }
        self.pending.retain(|_, it| it.asked.as_ref().is_none_or(|(_, waits_for)| !waits_for.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: ProcessId = ProcessId(9);

    fn id(number: u64) -> MultiId {
        MultiId { sender: SENDER, number }
    }

    #[test]
    fn the_last_finals_of_each_sender_are_remembered() {
        let mut multis = Multis::default();
        for number in 1..=2 * OUTSTANDING {
            multis.note_final(id(number), 10 * number);
        }
        assert_eq!(multis.find_final(id(OUTSTANDING)), None);
        assert_eq!(multis.find_final(id(OUTSTANDING + 1)), Some((id(OUTSTANDING + 1), 10 * (OUTSTANDING + 1))));
        for sender in 10..10 + REMEMBERED as u64 {
            multis.note_final(MultiId { sender: ProcessId(sender), number: 1 }, 1);
        }
        assert_eq!(multis.find_final(id(2 * OUTSTANDING)), None, "others came after it");
        assert!(multis.find_final(MultiId { sender: ProcessId(10), number: 1 }).is_some());
    }

    #[test]
    fn a_joiner_is_told_what_is_not_complete() {
        let mut multis = Multis { complete: 1, ..Multis::default() };
        for number in 1..=3 {
            multis.note_final(id(number), 10 * number);
            multis.note_final(MultiId { sender: ProcessId(1), number }, number);
        }
        for number in [2, 3] {
            multis.note_delivered(Instant::default(), id(number), &[GroupId(4), GroupId(5)], (GroupId(4), 0));
        }
        multis.note_complete(SENDER, 2);
        for (number, group) in [(1, 4), (2, 4), (3, 5), (3, 4)] {
            multis.note_own_delivered(number, &[GroupId(4), GroupId(5)], GroupId(group));
        }
        let own = |number| MultiId { sender: ProcessId(1), number };
        let open = |group| multis.open_for_joiners(ProcessId(1), GroupId(group)).into_iter().map(|open| open.id);
        assert_eq!(open(4).collect::<Vec<_>>(), [own(2), own(3), id(3)]);
        assert_eq!(open(5).collect::<Vec<_>>(), [own(3)]);
        assert_eq!(multis.finals_for_joiners(ProcessId(1)), [(own(2), 2), (own(3), 3), (id(3), 30)]);
    }

    #[test]
    fn a_message_is_complete_when_its_sender_or_all_others_say_so() {
        let mut multis = Multis::default();
        for number in 1..=3 {
            multis.note_delivered(Instant::default(), id(number), &[GroupId(4), GroupId(5)], (GroupId(4), 0));
        }
        multis.note_answer(SENDER, &[id(1)]);
        assert_eq!(multis.pending.keys().copied().collect::<Vec<_>>(), [id(2), id(3)]);
        let others = BTreeSet::from([ProcessId(1), ProcessId(2)]);
        if let Some(pending) = multis.pending.get_mut(&id(2)) {
            pending.asked = Some((7, others));
        }
        multis.note_answer(ProcessId(1), &[id(2)]);
        assert_eq!(multis.pending.len(), 2, "one has not answered");
        multis.note_answer(ProcessId(2), &[id(2), id(3)]);
        assert_eq!(multis.pending.keys().copied().collect::<Vec<_>>(), [id(3)], "it was not asked for the third");
        multis.note_complete(SENDER, 3);
        assert!(multis.pending.is_empty());
    }
}
