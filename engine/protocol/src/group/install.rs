//! From one view to the next: everything up to the cut is delivered, then the view, then the new view's streams begin.

use super::{Fate, Group, OldView, rank_of};
use crate::counters::Counter;
use crate::event::{Departure, Event, Member, View};
use crate::group::change::Change;
use crate::group::multi::Copies;
use crate::group::transfer::Outgoing;
use crate::id::{GroupId, ProcessId};
#[cfg(feature = "mutants")]
use crate::pending::Pending;
use crate::plane::Plane;
use crate::shared::Shared;
use crate::time::Instant;
use isis_wire::Address;
use isis_wire::message::{MemberEntry, Message, StateStatus, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many decided values are kept for stragglers.
const KEPT_VALUES: usize = 16;

/// A view as the application sees it.
pub fn view_event(
    group: GroupId,
    number: u64,
    members: &[MemberEntry],
    old: &[MemberEntry],
    left: &[ProcessId],
    clients: Vec<ProcessId>,
) -> Arc<View> {
    let departed = old
        .iter()
        .map(|m| m.process)
        .filter(|&p| rank_of(members, p).is_none())
        .map(|p| (p, if left.contains(&p) { Departure::Left } else { Departure::Failed }))
        .collect();
    Arc::new(View {
        group,
        number,
        members: members
            .iter()
            .map(|m| Member {
                process: m.process,
                nonce: m.nonce,
                address: m.address,
                has_state: m.state == StateStatus::Has,
            })
            .collect(),
        joined: members.iter().map(|m| m.process).filter(|&p| rank_of(old, p).is_none()).collect(),
        departed,
        clients,
    })
}

impl Group {
    /// Tells the first view to the application: of the founder, or of a joiner (behind its state).
    pub fn tell_first_view(&mut self, shared: &mut Shared, old: &[MemberEntry]) {
        let view = view_event(self.id, self.view.number, &self.view.members, old, &[], self.clients.registered());
        self.tell_view(shared, view, self.rank);
        shared.count(Counter::ViewsInstalled);
    }

    fn tell_view(&mut self, shared: &mut Shared, view: Arc<View>, rank: usize) {
        if self.is_system() {
            shared.emit(Event::SystemView(view));
        } else {
            let event = Event::View { group: self.handle, view, rank: rank as u16 };
            self.push_event(shared, event);
        }
    }

    /// Installs the next view; everything up to its cut is here.
    pub(super) fn install(&mut self, shared: &mut Shared, value: Value) -> Fate {
        if mutant!(StateTooEarly) {
            self.give_state(shared, &value);
        }
        self.plane.finish(&shared.region, &value.cut);
        self.settled_finals = Some(value.settled.clone());
        self.deliver(shared);
        self.settle_multis(shared);
        self.complete_flushes(shared, true);
        if self.is_system() {
            shared.adopt_system_view(&value.members, value.number);
            // Even a process that leaves keeps the directory as of the cut: it answers joiners of the next view.
            let members = &value.members;
            shared.directory.retain_processes(|process| rank_of(members, process).is_some());
            self.snapshot = shared.directory.encode();
        } else {
            self.clients.forget_excluded(shared, value.system_view);
            self.snapshot = self.encode_snapshot(shared);
        }

        let stays = rank_of(&value.members, shared.me);
        let number = self.view.number;
        self.tickets.end_view();
        self.clients.begin_view(value.members.len());
        self.decided.push_back((number, value.clone()));
        self.forget_values();
        // Those who leave as well: they answered, and whoever decided may be the only one who knows.
        let mut awaited: BTreeSet<ProcessId> = value.members.iter().map(|m| m.process).collect();
        if !self.is_system() {
            awaited.extend(value.left.iter().copied());
        }
        awaited.remove(&shared.me);
        let ahead = std::mem::take(&mut self.ahead);
        awaited.retain(|process| !ahead.contains(process));
        let plane = std::mem::replace(
            &mut self.plane,
            Plane::new(stays.unwrap_or(0), value.members.len(), shared.config.max_message, self.options.total_order),
        );
        self.old.push_back(OldView { number, plane, awaited, former: false });
        let old_members = std::mem::replace(&mut self.view.members, value.members.clone());
        self.view.number = value.number;
        self.view.executed = value.executed.iter().copied().collect();
        self.view.next_site = value.next_site;
        self.view.clock = value.clock;
        self.copies = Copies::new(value.clock);
        let was_telling = self.tell_at.is_some();
        self.change = Change::new(shared.now);
        self.candidates.retain(|nonce, _| !value.members.iter().any(|m| m.nonce == *nonce));
        let executed = self.view.executed.clone();
        self.leavers.retain(|process, request| executed.get(process).is_none_or(|done| *request > *done));
        if self.is_system() {
            for old in &mut self.old {
                old.awaited.retain(|process| rank_of(&value.members, *process).is_some());
            }
        }

        // Only who has delivered everything up to the cut can tell a joiner what it needs.
        if was_telling && !self.is_system() {
            self.tell_joiners(shared, &value);
        }
        let Some(rank) = stays else {
            self.depart(shared);
            return Fate::Left;
        };
        if self.is_system() {
            self.show_leavers(shared, &old_members, &value);
        }
        shared.count(Counter::ViewsInstalled);
        let told_rank = if mutant!(TellsOldRank) { self.rank } else { rank };
        self.rank = rank;
        self.learn_members(shared);
        // A new decision was told by whoever decided it; without news from everybody it is told again.
        if was_telling && self.is_system() {
            self.tell_joiners(shared, &value);
        }
        if !was_telling && rank == 0 {
            self.tell_at = Some(shared.now + 2 * self.breadth() * shared.config.resend_ns);
        }
        if !self.is_system() && !value.left.is_empty() {
            // Who left is heard of no more, unless it answers: each one asks for itself (R4, R8).
            self.tell_at.get_or_insert(shared.now + 4 * shared.config.resend_ns);
        }

        if !self.is_system() && !value.members.iter().any(|m| m.state == StateStatus::Has) {
            return Fate::Ended;
        }
        if self.state != StateStatus::Has && self.state != value.members[rank].state {
            self.restart_transfer(shared, value.members[rank].state);
        }
        let same = mutant!(KeepsNumber) && value.joined.is_empty() && old_members.len() == value.members.len();
        let told_number = if same { number } else { value.number };
        let clients = self.clients.registered();
        let view = view_event(self.id, told_number, &value.members, &old_members, &value.left, clients);
        self.tell_view(shared, view, told_rank);
        #[cfg(feature = "mutants")]
        disturb_events(shared, self.id, number, &value);
        if !mutant!(StateTooEarly) {
            self.give_state(shared, &value);
        }
        self.install_state_if_complete(shared);
        self.rewind_waiting();
        self.void_waiting(shared);
        let (members, clients) = (self.view.members.clone(), self.clients.registered());
        self.drop_held(shared, |_, sender| rank_of(&members, sender).is_none() && !clients.contains(&sender));
        self.release_held(shared);
        self.append_waiting(shared);
        Fate::Lives
    }

    /// As a donor: begins new captures, drops those that nobody waits for.
    fn give_state(&mut self, shared: &mut Shared, value: &Value) {
        let waits_for = |view: u64| -> Vec<ProcessId> {
            value
                .members
                .iter()
                .filter(|m| m.state == StateStatus::From { donor: shared.me, view })
                .map(|m| m.process)
                .collect()
        };
        let joiners = waits_for(value.number);
        let mut over = Vec::new();
        for (&view, outgoing) in &mut self.outgoing {
            outgoing.joiners = waits_for(view);
            if outgoing.joiners.is_empty() {
                over.push(view);
            }
        }
        for transfer in over {
            self.outgoing.remove(&transfer);
            let event = Event::StateAborted { group: self.handle, transfer };
            self.push_event(shared, event);
        }
        if !joiners.is_empty() && !self.is_system() {
            self.outgoing.insert(value.number, Outgoing::new(joiners.clone()));
            let event = Event::StateWanted { group: self.handle, transfer: value.number, joiners };
            self.push_event(shared, event);
        }
    }

    /// This process is no member any more: it only answers for the past, for a while.
    pub(crate) fn depart(&mut self, shared: &mut Shared) {
        self.departed_until = Some(shared.now + shared.config.linger_ns);
        self.tell_at = Some(shared.now + shared.config.resend_ns);
        self.peers.clear();
        self.plane.row_due = None;
        self.drop_held(shared, |_, _| true);
        self.dismiss_clients(shared);
    }

    /// Rows no longer go to those who left the system; so each says once that it is in the next view (R8).
    fn show_leavers(&mut self, shared: &mut Shared, old_members: &[MemberEntry], value: &Value) {
        for leaver in old_members.iter().filter(|m| value.left.contains(&m.process)) {
            shared.send(leaver.address, self.id, value.number, &Message::Installed { number: value.number });
        }
    }

    fn tell_joiners(&mut self, shared: &mut Shared, value: &Value) {
        for address in value.members.iter().filter(|m| value.joined.contains(&m.process)).map(|m| m.address) {
            self.tell_past(shared, address, value.number - 1);
        }
    }

    /// Tells the decision of the present change to the members; to joiners it is told when it is carried out.
    pub(super) fn tell_decision(&mut self, shared: &mut Shared, value: &Value) {
        let view = self.view.number;
        let message = Message::Decide { value: value.clone(), snapshot: None };
        for address in self.view.members.iter().map(|m| m.address) {
            if address != shared.config.address {
                shared.send(address, self.id, view, &message);
            }
        }
    }

    /// Tells the decision that ended `view` (or the latest) to one process, with what a joiner needs to know at the start of its view.
    pub fn tell_past(&mut self, shared: &mut Shared, to: isis_wire::Address, view: u64) {
        let found = self.decided.iter().find(|(number, _)| *number == view).or(self.decided.back());
        if let Some((number, value)) = found {
            let joins = value.members.iter().any(|m| m.address == to);
            let snapshot = (joins && value.number == self.view.number).then(|| self.snapshot.clone());
            let message = Message::Decide { value: value.clone(), snapshot };
            shared.send(to, self.id, *number, &message);
        }
    }

    /// Tells a member the decision that admitted it, if that is still known.
    pub fn tell_admission(&mut self, shared: &mut Shared, to: isis_wire::Address, process: ProcessId) {
        let admission = self.decided.iter().rev().find(|(_, value)| value.joined.contains(&process));
        if let Some((number, _)) = admission
            && self.rank_of(process).is_some()
        {
            let number = *number;
            self.tell_past(shared, to, number);
        }
    }

    /// As a joiner: others may have yet to end the view before, and to deliver what those who are further on know (R4).
    pub fn await_first_view(&mut self, shared: &Shared, value: &Value) {
        let members = value.members.iter().map(|m| m.process).filter(|process| !value.joined.contains(process));
        let awaited = members.chain(value.left.iter().copied()).collect();
        let plane = Plane::new(0, 0, shared.config.max_message, self.options.total_order);
        self.old.push_back(OldView { number: value.number - 1, plane, awaited, former: true });
        self.tell_at = Some(shared.now + shared.config.resend_ns);
    }

    /// Repeats decisions to those who have not shown the view that they led to.
    pub fn repeat_decision(&mut self, shared: &mut Shared) {
        if self.tell_at.is_none_or(|at| shared.now < at) {
            return;
        }
        // Whoever is awaited in several views is told of the first one, and asks for the others.
        let mut missing: BTreeMap<ProcessId, u64> = BTreeMap::new();
        for old in &self.old {
            for &process in &old.awaited {
                missing.entry(process).or_insert(old.number);
            }
        }
        let address_of = |process| shared.peers.get(&process).map(|peer| peer.entry.address);
        let missing: Vec<(Address, u64)> =
            missing.into_iter().filter_map(|(process, view)| Some((address_of(process)?, view))).collect();
        if missing.is_empty() {
            self.tell_at = None;
            return;
        }
        for (address, view) in missing {
            self.tell_past(shared, address, view);
        }
        let pause = if self.departed_until.is_some() { 10 } else { 2 };
        self.tell_at = Some(shared.now + shared.random.jitter(pause * self.breadth() * shared.config.resend_ns));
    }

    /// Only the last values are kept, and those that somebody has yet to be told (R8).
    fn forget_values(&mut self) {
        while self.decided.len() > KEPT_VALUES
            && let Some(oldest) = self.decided.iter().position(|(number, _)| !self.is_awaited(*number))
        {
            self.decided.remove(oldest);
        }
    }

    /// Somebody has not shown that it knows how this view ended.
    fn is_awaited(&self, view: u64) -> bool {
        self.old.iter().any(|old| old.number == view && !old.awaited.is_empty())
    }

    /// This process was in the group before: what it is still asked for of that time (R8), it answers from now on as a member.
    pub fn inherit(&mut self, shared: &mut Shared, mut former: Group) {
        let (mut kept, rest) =
            std::mem::take(&mut former.old).into_iter().partition(|old: &OldView| !old.awaited.is_empty());
        former.old = rest;
        // The application is done with it: what it was not told of yet is copied here.
        former.dissolve(shared);
        kept.iter_mut().for_each(|old| old.former = true);
        std::mem::swap(&mut self.old, &mut kept);
        self.old.extend(kept);
        let values = former.decided.into_iter().filter(|(number, _)| self.is_awaited(*number));
        for value in values.collect::<Vec<_>>().into_iter().rev() {
            self.decided.push_front(value);
        }
        if !self.old.is_empty() {
            self.tell_at = Some(shared.now + shared.config.resend_ns);
        }
    }

    /// This member has shown that it is in the present view.
    pub fn has_shown(&self, process: ProcessId) -> bool {
        self.rank_of(process).is_some_and(|rank| self.plane.shown[rank])
    }

    /// A process showed that it is in view `number` of this group.
    pub fn note_shown(&mut self, process: ProcessId, number: u64) {
        for old in &mut self.old {
            if old.number < number {
                old.awaited.remove(&process);
            }
        }
    }

    /// A process says that it is in view `number`. That may be before this one has the decision.
    pub fn note_installed(&mut self, process: ProcessId, number: u64) {
        if number > self.view.number {
            self.ahead.insert(process);
        }
        self.note_shown(process, number);
    }

    /// Lets go of views that are answered for (R8) and whose messages the application is done with.
    pub fn release_old(&mut self, shared: &mut Shared) {
        // A process that leaves the system does not wait for ever.
        let over = self.is_system() && self.departed_until.is_some_and(|until: Instant| shared.now >= until);
        let system = self.is_system();
        let mut index = 0;
        while index < self.old.len() {
            let old = &mut self.old[index];
            if !system {
                let in_system = |p: &ProcessId| *p == shared.me || shared.peers.contains_key(p);
                old.awaited.retain(in_system);
            }
            let consumed = old.former || (old.plane.unconsumed() == 0 && old.plane.claim.is_none());
            if (old.awaited.is_empty() || over || mutant!(ForgetsOldView)) && consumed {
                old.plane.release_all(&mut shared.region);
                self.old.remove(index);
            } else {
                index += 1;
            }
        }
    }
}

impl Group {
    /// Gives all memory back; the group is gone.
    pub fn dissolve(&mut self, shared: &mut Shared) {
        for pending in std::mem::take(&mut shared.events) {
            pending.take_apart(&shared.region, Some(self.id), &mut shared.events);
        }
        self.drop_held(shared, |_, _| true);
        for addressed in self.waiting.iter().filter_map(|message| message.to) {
            shared.give_up_unicast(addressed.member, addressed.number);
        }
        for old in &mut self.old {
            old.plane.release_all(&mut shared.region);
        }
        self.plane.release_all(&mut shared.region);
    }

    /// This process was paused: the clocks of view changes start anew.
    pub fn forgive(&mut self, now: Instant) {
        self.change.forgive(now);
        self.flight.forgive(now);
        if let Some(gossip) = &mut self.plane.gossip {
            gossip.forgive(now);
        }
    }
}

/// Planted bugs: the last message of the old view by an excluded member moves behind the view (`TailAfterView`), or the own
/// last one is repeated there (`RepeatsOwn`).
#[cfg(feature = "mutants")]
fn disturb_events(shared: &mut Shared, group: GroupId, number: u64, value: &Value) {
    if !mutant!(TailAfterView) && !mutant!(RepeatsOwn) {
        return;
    }
    for pending in std::mem::take(&mut shared.events) {
        pending.take_apart(&shared.region, None, &mut shared.events);
    }
    let concerned = |pending: &&Pending| match pending.one() {
        Some(Event::Message(delivery)) if delivery.id.group == group && delivery.id.view == number => {
            let sender = delivery.id.sender;
            if mutant!(RepeatsOwn) {
                sender == shared.me
            } else {
                rank_of(&value.members, sender).is_none() && !value.left.contains(&sender)
            }
        }
        _ => false,
    };
    let Some(pending) = shared.events.iter().rfind(concerned).cloned() else { return };
    let Pending::One(event, consume) = pending else { return };
    let pending = if mutant!(TailAfterView) {
        let same = |other: &Pending| match (other.one(), &event) {
            (Some(Event::Message(a)), Event::Message(b)) => a.id == b.id,
            _ => false,
        };
        shared.events.retain(|other| !same(other));
        Pending::One(event, consume)
    } else {
        Pending::One(crate::pending::with_own_bytes(event, &shared.region), None)
    };
    shared.events.push_back(pending);
}
