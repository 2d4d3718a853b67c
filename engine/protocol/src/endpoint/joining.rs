//! From a name to a member: enter the directory, ask a member, be admitted; and the way out.
//!
//! ```text
//!  waiting for the system ─▶ entering ──founded──▶ member
//!                              │ entered
//!                              ▼
//!                            asking ──DECIDE──▶ member ──leave──▶ gone
//!                              │ nobody of the group is there (NotHere from all)
//!                              ▼
//!                            disclaiming ─▶ pausing ─▶ entering
//! ```

use super::Endpoint;
use crate::config::JoinOptions;
use crate::directory::{Operation, Outcome};
use crate::event::{Event, Kind, Refused, SendOptions};
use crate::group::clients::Told;
use crate::group::{Group, ViewRecord, rank_of};
use crate::id::{GroupHandle, GroupId, ProcessId};
use crate::time::Instant;
use isis_wire::Address;
use isis_wire::message::{Attempt, Joiner, MAX_NAME, MemberEntry, Message, StateStatus, Value};
use std::collections::BTreeMap;

/// How many members a joiner asks at a time.
const ASKED_AT_ONCE: usize = 3;

/// What the application's handle stands for.
#[derive(Debug)]
pub(super) struct Handle {
    /// The group's name.
    pub name: String,
    /// How to join.
    pub options: JoinOptions,
    /// How far it is.
    pub phase: Phase,
    /// The application gave it up: leave as soon as the join is through.
    pub abandoned: bool,
}

/// See the diagram.
#[derive(Debug)]
pub(super) enum Phase {
    /// To be entered in the directory: nothing is under way.
    Waiting,
    /// The operation is under way.
    Entering,
    /// Asking a member.
    Asking(Asking),
    /// The disclaimer is under way.
    Disclaiming(GroupId),
    /// A little patience before the next try.
    Pausing(Instant),
    /// A member (or one that leaves).
    Member(GroupId),
    /// A client, or on its way to be one.
    Client,
    /// Over.
    Gone,
}

/// A joiner that asks.
#[derive(Debug)]
pub(super) struct Asking {
    /// The group.
    pub group: GroupId,
    /// The number of this request (R3).
    pub request: u64,
    /// How far the directory was when this process was entered.
    entered: u64,
    tries: usize,
    resend_at: Instant,
    /// The system view that the last request named: another one makes that request void.
    asked_in: u64,
    /// A PREPARE of a system view that is not installed here yet: who asks, in which view of the group, the attempt (R9).
    pub prepared: Option<(Address, u64, Attempt)>,
    /// Who answered that it is not in the group, and when.
    not_here: BTreeMap<ProcessId, Instant>,
}

impl Endpoint {
    pub(super) fn begin_join(&mut self, name: &str, options: JoinOptions) -> Result<GroupHandle, Refused> {
        if self.ended.is_some() || self.closing.is_some() {
            return Err(Refused::Ended);
        }
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Refused::TooLong);
        }
        if self.handles.iter().any(|h| h.name == name && !matches!(h.phase, Phase::Gone) && !h.abandoned) {
            return Err(Refused::AlreadyMember);
        }
        let handle = GroupHandle(self.handles.len() as u32);
        let phase = if options.client { Phase::Client } else { Phase::Waiting };
        if options.client {
            self.clients.insert(handle, Box::new(super::client::Client::new(self.shared.now)));
        }
        self.handles.push(Handle { name: name.into(), options, phase, abandoned: false });
        Ok(handle)
    }

    pub(super) fn begin_leave(&mut self, handle: GroupHandle) -> Result<(), Refused> {
        if self.ended.is_some() {
            return Err(Refused::Ended);
        }
        let entry = self.handles.get_mut(handle.0 as usize).ok_or(Refused::NotMember)?;
        if entry.abandoned {
            return Err(Refused::NotMember);
        }
        match entry.phase {
            Phase::Gone => return Err(Refused::NotMember),
            Phase::Waiting | Phase::Pausing(_) => {
                entry.phase = Phase::Gone;
                entry.abandoned = true;
                self.shared.emit(Event::Left { group: handle });
            }
            Phase::Member(id) => {
                entry.abandoned = true;
                self.leave_group(id);
            }
            Phase::Client => {
                entry.abandoned = true;
                self.leave_as_client(handle);
            }
            _ => entry.abandoned = true,
        }
        Ok(())
    }

    fn leave_group(&mut self, id: GroupId) {
        self.next_request += 1;
        if let Some(group) = self.groups.get_mut(&id) {
            group.leaving = Some(self.next_request);
            group.leave_at = None;
        }
    }

    /// The group of a handle, if it is a member's.
    pub(super) fn group_of(&self, handle: GroupHandle) -> Option<GroupId> {
        match self.handles.get(handle.0 as usize)?.phase {
            Phase::Member(group) => Some(group),
            _ => None,
        }
    }

    /// The handle that is joining `group`.
    pub(super) fn asking(&mut self, group: GroupId) -> Option<(GroupHandle, &mut Asking)> {
        self.handles.iter_mut().enumerate().find_map(|(index, handle)| match &mut handle.phase {
            Phase::Asking(asking) if asking.group == group => Some((GroupHandle(index as u32), asking)),
            _ => None,
        })
    }

    /// Submits directory operations; what the window does not take yet waits.
    pub(super) fn submit_operations(&mut self) {
        while let Some(operation) = self.operations.front() {
            let Some(system) = self.groups.get_mut(&GroupId::SYSTEM) else { return };
            let options = SendOptions { kind: Kind::Total, safe: true, entry: 0 };
            if system.multicast(&mut self.shared, options, &operation.encode(), Vec::new()).is_err() {
                return;
            }
            self.operations.pop_front();
        }
    }

    /// Goes on with every handle that is on its way in.
    pub(super) fn drive_joins(&mut self) {
        if self.process().is_none() || self.ended.is_some() {
            return;
        }
        let now = self.shared.now;
        let me = self.shared.me;
        for index in 0..self.handles.len() {
            let pause = self.shared.random.jitter(10 * self.shared.config.resend_ns);
            let waits = self.waits_for_former(index);
            let handle = &mut self.handles[index];
            match &mut handle.phase {
                Phase::Waiting if waits => {}
                Phase::Waiting => {
                    let (name, total_order) = (handle.name.clone(), handle.options.total_order);
                    self.operations.push_back(Operation::Enter { name, process: me, total_order });
                    handle.phase = Phase::Entering;
                }
                Phase::Pausing(until) if now >= *until => handle.phase = Phase::Waiting,
                Phase::Asking(asking) => {
                    let group = asking.group;
                    let present = self.shared.system_view.number;
                    if let Some((to, view, attempt)) = asking.prepared.take_if(|(_, _, a)| a.system_view <= present)
                        && attempt.system_view == present
                    {
                        let answer =
                            Message::JoinerReady { attempt, nonce: self.shared.config.nonce, request: asking.request };
                        self.shared.send(to, group, view, &answer);
                    }
                    let Some(entry) = self.shared.directory.entry(group) else {
                        // The group ended.
                        handle.phase = Phase::Pausing(now + pause);
                        continue;
                    };
                    if !self.shared.directory.is_entered(group, me) {
                        handle.phase = Phase::Pausing(now);
                        continue;
                    }
                    let others: Vec<ProcessId> = entry
                        .entered
                        .iter()
                        .filter(|e| e.process != me && !e.disclaimed && self.shared.in_system(e.process))
                        .map(|e| e.process)
                        .collect();
                    // Who was no member a while ago may be one now.
                    let patience = 20 * self.shared.config.resend_ns;
                    asking.not_here.retain(|_, at| now.since(*at) < patience);
                    if others.iter().all(|process| asking.not_here.contains_key(process)) {
                        handle.phase = Phase::Disclaiming(group);
                        self.operations.push_back(Operation::Disclaim { group, process: me });
                        continue;
                    }
                    if now < asking.resend_at && asking.asked_in == present {
                        continue;
                    }
                    asking.asked_in = present;
                    asking.resend_at = now + pause / 4;
                    let unknown: Vec<ProcessId> =
                        others.into_iter().filter(|process| !asking.not_here.contains_key(process)).collect();
                    let first = asking.tries;
                    asking.tries += 1;
                    let request = asking.request;
                    let wants_state = handle.options.wants_state;
                    for step in 0..unknown.len().min(ASKED_AT_ONCE) {
                        if let Some(peer) = self.shared.peers.get(&unknown[(first + step) % unknown.len()]) {
                            let to = peer.entry.address;
                            self.send_join(to, group, request, wants_state);
                        }
                    }
                }
                _ => {}
            }
        }
        self.submit_operations();
    }

    fn send_join(&mut self, to: Address, group: GroupId, request: u64, wants_state: bool) {
        let shared = &self.shared;
        let joiner = Joiner {
            process: shared.me,
            nonce: shared.config.nonce,
            site: shared.config.site,
            address: shared.config.address,
            request,
            wants_state,
            max_pause_ns: shared.config.max_pause_ns,
        };
        let message = Message::Join { joiner, system_view: shared.system_view.number, heard: Vec::new() };
        self.shared.send(to, group, 0, &message);
    }

    /// A member's packet about a group that this process is joining: it may believe that we are in already.
    pub(super) fn remind_member(&mut self, to: Address, group: GroupId) {
        let Some((handle, asking)) = self.asking(group) else { return };
        let request = asking.request;
        let wants_state = self.handles[handle.0 as usize].options.wants_state;
        self.send_join(to, group, request, wants_state);
    }

    /// When `drive_joins` has something to do.
    pub(super) fn joins_deadline(&self) -> Option<Instant> {
        self.process()?;
        self.handles
            .iter()
            .enumerate()
            .filter_map(|(index, handle)| match &handle.phase {
                Phase::Waiting if self.waits_for_former(index) => None,
                Phase::Waiting => Some(self.shared.now),
                Phase::Pausing(until) => Some(*until),
                Phase::Asking(asking) => Some(asking.resend_at),
                _ => None,
            })
            .min()
    }

    /// Directory operations were delivered: those of this process have outcomes.
    pub(super) fn take_outcomes(&mut self) -> bool {
        let mut any = false;
        while let Some((operation, outcome)) = self.shared.outcomes.pop_front() {
            any = true;
            let me = self.shared.me;
            match operation {
                Operation::Enter { name, process, .. } if process == me => {
                    let Some(index) =
                        self.handles.iter().position(|h| h.name == name && matches!(h.phase, Phase::Entering))
                    else {
                        continue;
                    };
                    match outcome {
                        Outcome::Founded(group) => self.found_group(index, group),
                        Outcome::Entered(group) => {
                            self.next_request += 1;
                            self.handles[index].phase = Phase::Asking(Asking {
                                group,
                                request: self.next_request,
                                entered: self.shared.directory.operations,
                                tries: 0,
                                resend_at: self.shared.now,
                                asked_in: 0,
                                prepared: None,
                                not_here: BTreeMap::new(),
                            });
                            if self.handles[index].abandoned {
                                self.operations.push_back(Operation::Remove { group, process: me });
                                self.handles[index].phase = Phase::Gone;
                                self.shared.emit(Event::Left { group: GroupHandle(index as u32) });
                            }
                        }
                        Outcome::Done => {}
                    }
                }
                Operation::Disclaim { group, process } if process == me => {
                    let pause = self.shared.random.jitter(10 * self.shared.config.resend_ns);
                    for (index, handle) in self.handles.iter_mut().enumerate() {
                        if !matches!(handle.phase, Phase::Disclaiming(id) if id == group) {
                            continue;
                        }
                        handle.phase = Phase::Pausing(self.shared.now + pause);
                        if handle.abandoned {
                            handle.phase = Phase::Gone;
                            self.shared.emit(Event::Left { group: GroupHandle(index as u32) });
                        }
                    }
                }
                _ => {}
            }
        }
        any
    }

    fn own_entry(&self) -> MemberEntry {
        let config = &self.shared.config;
        MemberEntry {
            process: self.shared.me,
            nonce: config.nonce,
            site: config.site,
            address: config.address,
            state: StateStatus::Has,
            max_pause_ns: config.max_pause_ns,
        }
    }

    fn found_group(&mut self, index: usize, id: GroupId) {
        let view =
            ViewRecord { number: 1, members: vec![self.own_entry()], executed: [].into(), next_site: 0, clock: 0 };
        let options = self.handles[index].options.clone();
        let mut group = Group::new(&self.shared, id, GroupHandle(index as u32), options, view, StateStatus::Has);
        group.tell_first_view(&mut self.shared, &[]);
        self.enter_group(index, group);
    }

    fn enter_group(&mut self, index: usize, mut group: Group) {
        let id = group.id;
        if let Some(former) = self.groups.remove(&id) {
            group.inherit(&mut self.shared, *former);
        }
        self.groups.insert(id, Box::new(group));
        self.handles[index].phase = Phase::Member(id);
        if self.handles[index].abandoned {
            self.leave_group(id);
        }
        self.take_early();
    }

    /// DECIDE came for a group that this process is joining. `false`: it cannot be acted on yet.
    pub(super) fn join_by_decision(&mut self, id: GroupId, value: Value, snapshot: Option<&[u8]>) -> bool {
        if value.system_view > self.shared.system_view.number {
            return false;
        }
        let told = snapshot.and_then(|bytes| Group::decode_snapshot(bytes, value.number).ok());
        self.enter_by_decision(id, value, told)
    }

    /// `false`: whoever told has not delivered up to the cut yet, and could not say what is known of clients.
    fn enter_by_decision(&mut self, id: GroupId, value: Value, told: Option<Told>) -> bool {
        let me = self.shared.me;
        // The admission may answer an earlier request than the present one, but not one from before the last leave.
        let executed = value.executed.iter().find(|(process, _)| *process == me).map_or(0, |(_, request)| *request);
        let left = self.left_requests.get(&id).copied().unwrap_or(0);
        if executed <= left || !value.joined.contains(&me) {
            return true;
        }
        let Some(rank) = rank_of(&value.members, me) else { return true };
        let asking = self.asking(id).map(|(handle, _)| handle.0 as usize);
        let index = match asking {
            Some(index) => index,
            None if self.is_on_its_way(id) => return true,
            None if told.is_none() => return false,
            None => self.ghost(),
        };
        if !value.members.iter().any(|m| m.state == StateStatus::Has) {
            // Admitted to a group that ends with this very view: nobody with the state is left.
            self.operations.push_back(Operation::Disclaim { group: id, process: me });
            self.handles[index].phase = Phase::Disclaiming(id);
            return true;
        }
        let Some(told) = told else { return false };
        let ghost = self.handles[index].name.is_empty();
        let state = if ghost { StateStatus::Needs } else { value.members[rank].state };
        let view = ViewRecord {
            number: value.number,
            members: value.members.clone(),
            executed: value.executed.iter().copied().collect(),
            next_site: 0,
            clock: value.clock,
        };
        let options = self.handles[index].options.clone();
        let handle = GroupHandle(index as u32);
        let mut group = Group::new(&self.shared, id, handle, options, view, state);
        // As at the others, `joined` are those that the view before did not have.
        let old: Vec<MemberEntry> =
            value.members.iter().filter(|m| !value.joined.contains(&m.process)).cloned().collect();
        group.start_with(&mut self.shared, told);
        group.await_first_view(&self.shared, &value);
        group.decided.push_back((value.number - 1, value));
        group.tell_first_view(&mut self.shared, &old);
        self.enter_group(index, group);
        true
    }

    /// This process enters the directory, or is a member, for this group by another handle.
    fn is_on_its_way(&self, id: GroupId) -> bool {
        self.handles.iter().any(|handle| match handle.phase {
            Phase::Entering | Phase::Waiting | Phase::Pausing(_) | Phase::Disclaiming(_) => {
                self.shared.directory.lookup(&handle.name) == Some(id)
            }
            Phase::Member(group) => group == id,
            _ => false,
        })
    }

    /// Admitted to a group that this process no longer wants to be in, by a request that it has given up: its answers are
    /// needed there, so it enters without telling the application, and leaves at once.
    fn ghost(&mut self) -> usize {
        self.handles.push(Handle {
            name: String::new(),
            options: JoinOptions::default(),
            phase: Phase::Waiting,
            abandoned: true,
        });
        self.handles.len() - 1
    }

    /// This process is in the group, answers for its past, or may be admitted to it by a request that it made.
    pub(super) fn may_become_member(&self, id: GroupId) -> bool {
        self.groups.contains_key(&id)
            || self.handles.iter().any(|handle| match &handle.phase {
                Phase::Asking(asking) => asking.group == id,
                Phase::Disclaiming(group) | Phase::Member(group) => *group == id,
                Phase::Waiting | Phase::Entering | Phase::Pausing(_) => {
                    self.shared.directory.lookup(&handle.name) == Some(id)
                }
                Phase::Gone | Phase::Client => false,
            })
    }

    /// A process that was asked is not in the group.
    pub(super) fn on_not_here(&mut self, process: ProcessId, group: GroupId, directory: u64) {
        if let Some((_, asking)) = self.asking(group)
            && directory >= asking.entered
        {
            let now = self.shared.now;
            let Some((_, asking)) = self.asking(group) else { return };
            asking.not_here.insert(process, now);
        }
    }

    /// The group is over for this process: it left.
    pub(super) fn left_group(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let handle = group.handle;
        group.restart_transfer(&mut self.shared, StateStatus::Has);
        if let Some(request) = group.leaving {
            self.left_requests.insert(id, request);
        }
        self.operations.push_back(Operation::Remove { group: id, process: self.shared.me });
        let entry = &mut self.handles[handle.0 as usize];
        entry.phase = Phase::Gone;
        if !entry.name.is_empty() {
            self.shared.emit(Event::Left { group: handle });
        }
    }

    /// Nobody with the state is left: disclaim, and begin anew at the directory.
    pub(super) fn group_ended(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let handle = group.handle;
        // What is told later of this membership is stale.
        self.left_requests.insert(id, group.executed(self.shared.me));
        group.restart_transfer(&mut self.shared, StateStatus::Needs);
        // R8: the others may not know yet; whoever asks is told.
        group.depart(&mut self.shared);
        self.operations.push_back(Operation::Disclaim { group: id, process: self.shared.me });
        let entry = &mut self.handles[handle.0 as usize];
        entry.phase = if entry.name.is_empty() { Phase::Gone } else { Phase::Disclaiming(id) };
    }
}
