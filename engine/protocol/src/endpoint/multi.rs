//! ABCASTs to several groups, the sender's part [BJ87]: copies to all the groups, their proposals, the final priority to all.
//!
//! ```text
//!  waiting ──every group can take its copy──▶ copies sent, as one step
//!  copies sent ──every group has proposed──▶ final said in all groups, as one step ──delivered here in all──▶ told
//!      ▲  └──a view ended without the final (only there): the copy is sent again                              │
//!      └─────                                  complete ◀──delivered everywhere in all groups─────────────────┘
//! ```
//! Finals are given in the order of the messages and only grow, so messages of one sender keep their order in every group,
//! whatever other groups they go to. Other messages of this process in these groups wait until it is complete
//! ([`Debt::Multi`]), so none overtakes it; messages to the very same groups need not.
//!
//! Owner: the endpoint. Invariant: a final is appended to the streams of all its groups in one call, and to none while one of
//! them is frozen or has lost its copy with a view.

use super::Endpoint;
use crate::event::{Kind, Refused, SendOptions};
use crate::group::copies::News;
use crate::group::debts::Debt;
use crate::id::{GroupHandle, GroupId};
use crate::multis::OUTSTANDING;
use crate::plane::Plane;
use isis_wire::Writer;
use isis_wire::message::{Attempt, Code, Message};
pub use isis_wire::multi::MAX_GROUPS;
use isis_wire::multi::{Final, MultiHeader, MultiId, Open};
use std::collections::{BTreeMap, VecDeque};

/// One of the groups that a message goes to.
#[derive(Debug)]
struct To {
    group: GroupId,
    /// The group's proposal.
    proposal: Option<u64>,
    delivered: bool,
    /// The copy's place among what waits there.
    place: u64,
}

/// A message that is not complete.
#[derive(Debug)]
struct Outgoing {
    to: Vec<To>,
    entry: u8,
    safe: bool,
    copy: Vec<u8>,
    /// Its copies are in the streams.
    started: bool,
    /// Bytes of a copy in a stream.
    size: u64,
    /// The final priority, once it was said.
    priority: Option<u64>,
    /// It is delivered here in all groups, and everywhere when these are paid.
    debts: Option<Vec<Debt>>,
}

impl Outgoing {
    fn goes_to(&self, group: GroupId) -> bool {
        self.to.iter().any(|to| to.group == group)
    }
}

/// This process's ABCASTs to several groups.
#[derive(Debug, Default)]
pub(super) struct Multicasts {
    last: u64,
    last_priority: u64,
    open: BTreeMap<u64, Outgoing>,
    bytes: u64,
}

impl Multicasts {
    /// None of them is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }
}

impl Endpoint {
    /// Multicasts to several groups: each delivers it once to each of its members, or none does; and all deliver the messages
    /// that they share in one order. `kind` must be `Total`; this process must be a member of every group, none of which may
    /// be in sending-view mode. A process that is in several of them gets it in each. Gives the tickets, by group.
    pub fn multicast_groups(
        &mut self,
        now: crate::time::Instant,
        handles: &[GroupHandle],
        options: SendOptions,
        data: &[u8],
    ) -> Result<Vec<u64>, Refused> {
        self.at(now);
        if options.kind != Kind::Total || handles.is_empty() || handles.len() > MAX_GROUPS {
            return Err(Refused::BadKind);
        }
        let mut groups = Vec::new();
        for &handle in handles {
            let (group, _) = self.open(handle)?;
            if group.options.sending_view || groups.contains(&group.id) {
                return Err(Refused::BadKind);
            }
            groups.push(group.id);
        }
        if data.len() + MultiHeader::most_bytes(groups.len()) > self.shared.config.max_message {
            return Err(Refused::TooLong);
        }
        let number = self.multicasts.last + 1;
        let (clock, complete) = (self.shared.multis.clock, self.shared.multis.complete);
        let mut out = Writer::new();
        MultiHeader { number, complete, clock, safe: options.safe, groups: groups.clone() }.write(&mut out);
        out.bytes.extend_from_slice(data);
        let copy = out.bytes;
        for &handle in handles {
            let (group, shared) = self.open(handle)?;
            group.takes_copy(shared, copy.len())?;
        }
        // So that the copies of those that are open never wait for each other's room, in a new view either.
        let size = Plane::message_size(copy.len(), self.shared.fragment);
        let full = self.multicasts.open.len() as u64 >= OUTSTANDING
            || (self.multicasts.bytes > 0 && self.multicasts.bytes + size > self.shared.config.window / 2);
        if full {
            let first = self.multicasts.open.keys().next().copied().unwrap_or(0);
            let id = MultiId { sender: self.shared.me, number: first };
            let (group, shared) = self.open(handles[0])?;
            group.refuse(shared, vec![Debt::Multi { id, or_here: None }]);
            return Err(Refused::WouldBlock);
        }
        // What happened before it, but for messages to the very same groups, which keep their order by their finals.
        let mut debts = Vec::new();
        for &handle in handles {
            let mut before = self.debts_before(handle, Kind::Total, None);
            let same = |debt: &Debt| match debt {
                Debt::Multi { id, .. } => id.sender == self.shared.me && self.goes_to_same(id.number, &groups),
                _ => false,
            };
            before.retain(|debt| !same(debt));
            debts.push(before);
        }
        self.multicasts.last = number;
        self.multicasts.bytes += size;
        let (mut tickets, mut to) = (Vec::new(), Vec::new());
        for (&handle, debts) in handles.iter().zip(debts) {
            let (group, shared) = self.open(handle)?;
            tickets.push(group.multicast_copy(shared, number, options.entry, &copy, debts));
            to.push(To { group: group.id, proposal: None, delivered: false, place: shared.places });
        }
        let (entry, safe) = (options.entry, options.safe);
        let (started, priority, debts) = (false, None, None);
        self.multicasts.open.insert(number, Outgoing { to, entry, safe, copy, started, size, priority, debts });
        self.start_multicasts();
        Ok(tickets)
    }

    /// All open messages up to this one go to exactly these groups.
    fn goes_to_same(&self, number: u64, groups: &[GroupId]) -> bool {
        let same = |it: &Outgoing| it.to.len() == groups.len() && groups.iter().all(|group| it.goes_to(*group));
        self.multicasts.open.range(..=number).all(|(_, it)| same(it))
    }

    /// What a message that is now sent in `own` has to wait for: the last own open ABCAST to several groups that goes to that
    /// group, or, with `domain`, to another one of the domain.
    pub(super) fn multi_debt(&self, own: Option<GroupId>, domain: Option<u32>) -> Option<Debt> {
        let concerns = |to: &To| {
            Some(to.group) == own
                || domain.is_some_and(|domain| self.groups.get(&to.group).is_some_and(|g| g.options.domain == domain))
        };
        let last = self.multicasts.open.iter().rev().find(|(_, it)| it.to.iter().any(concerns));
        last.map(|(&number, _)| Debt::Multi { id: MultiId { sender: self.shared.me, number }, or_here: None })
    }

    /// Starts those that can go into the streams of all their groups now: none in one before it can in all. A copy in its place
    /// holds up what is decided to come behind it; were another one of its copies to wait meanwhile, for what happened before
    /// it, or for room, that might be waiting for the very messages that are held up.
    fn start_multicasts(&mut self) -> bool {
        let alone = self.multicasts.open.len() == 1;
        let mut moved = false;
        for outgoing in self.multicasts.open.values_mut().filter(|outgoing| !outgoing.started) {
            let (groups, shared) = (&mut self.groups, &mut self.shared);
            let could = |to: &To| groups.get(&to.group).is_some_and(|group| group.could_start(shared, to.place, alone));
            if !(outgoing.to.iter().all(could) || mutant!(StartsApart)) {
                continue;
            }
            outgoing.started = true;
            moved = true;
            for to in &outgoing.to {
                if let Some(group) = groups.get_mut(&to.group) {
                    group.start_copy(shared, to.place);
                }
            }
        }
        moved
    }

    /// Goes on with all of them. Whether something moved.
    pub(super) fn drive_multicasts(&mut self) -> bool {
        let mut moved = self.answer_own_questions() | self.take_news() | self.start_multicasts();
        moved |= self.say_finals();
        moved | self.complete_multicasts()
    }

    fn take_news(&mut self) -> bool {
        let news: VecDeque<(GroupId, u64, News)> = std::mem::take(&mut self.shared.multis.news);
        let moved = !news.is_empty();
        for (group, number, what) in news {
            let Some(outgoing) = self.multicasts.open.get_mut(&number) else { continue };
            let Some(to) = outgoing.to.iter_mut().find(|to| to.group == group) else { continue };
            match what {
                News::Proposed(priority) => to.proposal = Some(priority),
                News::Delivered => to.delivered = true,
                News::Dropped => {
                    to.proposal = None;
                    let (entry, place) = (outgoing.entry, to.place);
                    if let Some(group) = self.groups.get_mut(&group) {
                        group.repeat_copy(&mut self.shared, number, entry, &outgoing.copy, place);
                    }
                }
            }
        }
        moved
    }

    fn say_finals(&mut self) -> bool {
        let mut moved = false;
        // In their order, as far as they share groups: the next ones have to be higher.
        let mut held_up: Vec<GroupId> = Vec::new();
        let Multicasts { open, last_priority, .. } = &mut self.multicasts;
        for (&number, outgoing) in open.iter_mut().filter(|(_, outgoing)| outgoing.priority.is_none()) {
            let highest = outgoing.to.iter().map(|to| to.proposal).try_fold(0, |most, p| p.map(|p| most.max(p)));
            let groups = &self.groups;
            let ready = |to: &To| groups.get(&to.group).is_some_and(|group| group.takes_finals(&self.shared));
            let all_ready = outgoing.to.iter().all(ready) || (mutant!(FinalByGroup) && outgoing.to.iter().any(ready));
            let in_turn = !held_up.iter().any(|group| outgoing.goes_to(*group));
            let Some(highest) = highest.filter(|_| all_ready && in_turn) else {
                held_up.extend(outgoing.to.iter().map(|to| to.group));
                continue;
            };
            let priority = highest.max(last_priority.saturating_add(1));
            *last_priority = priority;
            outgoing.priority = Some(priority);
            for to in &outgoing.to {
                if let Some(group) = self.groups.get_mut(&to.group)
                    && group.takes_finals(&self.shared)
                {
                    group.multicast_final(&mut self.shared, number, priority, outgoing.safe);
                }
            }
            moved = true;
        }
        moved
    }

    fn complete_multicasts(&mut self) -> bool {
        let mut moved = false;
        let mut groups = std::mem::take(&mut self.groups);
        for outgoing in self.multicasts.open.values_mut() {
            if outgoing.debts.is_none() && outgoing.to.iter().all(|to| to.delivered) {
                let debts =
                    outgoing.to.iter().filter_map(|to| groups.get(&to.group).and_then(|group| group.delivered_debt()));
                outgoing.debts = Some(debts.collect());
            }
            if let Some(debts) = &mut outgoing.debts {
                debts.retain_mut(|debt| {
                    debt.group().and_then(|id| groups.get(&id)).is_some_and(|group| !group.is_paid(&self.shared, debt))
                });
            }
        }
        while let Some(first) = self.multicasts.open.first_entry()
            && first.get().debts.as_ref().is_some_and(Vec::is_empty)
        {
            let (number, outgoing) = first.remove_entry();
            self.shared.multis.complete = number;
            self.multicasts.bytes -= outgoing.size;
            for to in outgoing.to {
                if let Some(group) = groups.get_mut(&to.group) {
                    group.own_copies.tickets.remove(&number);
                    group.complete_flushes(&mut self.shared, false);
                }
            }
            moved = true;
        }
        for outgoing in self.multicasts.open.values() {
            for debt in outgoing.debts.iter().flatten() {
                if let Some(group) = debt.group().and_then(|id| groups.get_mut(&id)) {
                    group.owed = true;
                }
            }
        }
        self.groups = groups;
        moved
    }

    // --- R2: answers to other groups -------------------------------------------------------------------------------------

    /// What this process knows of these messages; `None`: it could still learn more.
    fn known_finals(&self, open: &[Open]) -> Option<Vec<Final>> {
        let mut finals: Vec<Final> = Vec::new();
        for asked in open {
            let groups = || asked.groups.iter().filter_map(|group| self.groups.get(group));
            if groups().any(|group| group.may_learn_of(asked)) {
                return None;
            }
            let parsed = || {
                let finals = groups().flat_map(|group| group.parsed_finals(&self.shared));
                finals.into_iter().find(|(id, _)| *id == asked.id)
            };
            finals.extend(self.shared.multis.find_final(asked.id).or_else(parsed));
        }
        Some(finals)
    }

    /// SETTLE came. An attempt of another system view is asked again, or is in vain.
    pub(super) fn on_settle(
        &mut self,
        from: isis_wire::Address,
        (group, view): (GroupId, u64),
        attempt: Attempt,
        open: &[Open],
    ) {
        if attempt.system_view != self.shared.system_view.number || self.shared.stalled {
            return;
        }
        if let Some(finals) = self.known_finals(open) {
            self.shared.send(from, group, view, &Message::Settled { attempt, finals });
        }
    }

    fn answer_own_questions(&mut self) -> bool {
        let mut moved = false;
        for (id, attempt, open) in std::mem::take(&mut self.shared.multis.settle_here) {
            let finals = self.known_finals(&open);
            if let (Some(finals), Some(group)) = (finals, self.groups.get_mut(&id)) {
                let me = self.shared.me;
                group.on_settled(&mut self.shared, me, attempt, finals);
                moved = true;
            }
        }
        moved
    }
}
