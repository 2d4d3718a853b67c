//! From the node's events to the program's callbacks.
//!
//! Each event is taken out of the node first, so that no borrow is held when the callback runs and makes calls.

use crate::boundary;
use crate::entry::*;
use crate::error::{self, Failure};
use crate::group::isis_group_t;
use crate::instance::{Instance, Phase, isis_t, node_failure};
use crate::message::isis_slice_t;
use isis_protocol::{GroupHandle, Kind, SlowReason, View};
use isis_runtime::{Batch, CommandName, Message, NodeError, NodeEvent};
use std::ffi::CStr;

/// An event with nothing in it.
fn event(instance: &Instance, kind: u32) -> isis_event_t {
    isis_event_t {
        size: size_of::<isis_event_t>() as u64,
        isis: instance.handle.get() as *mut isis_t,
        group: std::ptr::null_mut(),
        r#type: kind,
        code: 0,
        view: 0,
        process: 0,
        number: 0,
        members: 0,
        rank: 0,
        joined: 0,
        departed: 0,
        member_list: std::ptr::null(),
        text: std::ptr::null(),
        reason: 0,
        reserved: 0,
    }
}

impl Instance {
    /// Turns the loop (inline mode), moves state transfers on, and runs callbacks for at most `most` events. Returns how
    /// many there were.
    pub fn step(&self, most: u32) -> Result<u32, Failure> {
        self.outside_callbacks()?;
        let turned = self.node().turn();
        match turned {
            // An instance at its end still has events to give.
            Ok(_) | Err(NodeError::Ended | NodeError::WrongMode) => {}
            Err(why) => return Err(self.ended_badly(why)),
        }
        self.pump_transfers();
        let mut count = 0;
        let mut batch = Batch::new();
        while count < most && self.phase() != Phase::Over {
            let polled = self.node().poll_batch((most - count) as usize, &mut batch);
            let event = match polled {
                Ok(Some(event)) => event,
                Ok(None) | Err(NodeError::Ended) => match self.close_evicted() {
                    Some(closed) => closed,
                    None => break,
                },
                Err(why) => return Err(self.ended_badly(why)),
            };
            self.dispatch(event, &batch);
            if self.is_poisoned() {
                return Err(boundary::poisoned());
            }
            count += 1 + batch.len() as u32;
        }
        Ok(count)
    }

    /// The node failed: tells the program once, then the call's caller.
    fn ended_badly(&self, why: NodeError) -> Failure {
        let failure = self.failure(why);
        if self.is_poisoned() {
            self.tell(event(self, ISIS_EVENT_POISONED));
        }
        failure
    }

    fn tell(&self, event: isis_event_t) {
        if let Some((callback, user)) = self.entries.event() {
            // SAFETY: a function that the program registered; the event is borrowed for the call.
            self.in_callback(|| unsafe { callback(user, &raw const event) });
        }
    }

    /// A line for the operator.
    pub fn log(&self, group: GroupHandle, text: &'static CStr) {
        let group = self.group_handle(group);
        self.tell(isis_event_t { group, text: text.as_ptr(), ..event(self, ISIS_EVENT_LOG) });
    }

    fn tell_view(&self, kinds: &[u32], group: *mut isis_group_t, view: &View, rank: u16) {
        if self.entries.event().is_none() {
            return;
        }
        let members: Vec<u64> = view.members.iter().map(|member| member.process.0).collect();
        for kind in kinds {
            self.tell(isis_event_t {
                group,
                view: view.number,
                members: members.len() as u32,
                rank: u32::from(rank),
                joined: view.joined.len() as u32,
                departed: view.departed.len() as u32,
                member_list: members.as_ptr(),
                ..event(self, *kind)
            });
        }
    }

    /// A message, and those that follow it.
    fn on_messages(&self, first: &Message, batch: &Batch) {
        let entry = if first.kind == Kind::Reply { ISIS_ENTRY_REPLY } else { u32::from(first.entry) };
        if let Some((Taker::Batch(callback), user)) = self.entries.message(entry) {
            let mut bytes = [isis_slice_t::of(&[]); Batch::MOST];
            {
                let node = self.node();
                bytes[0] = isis_slice_t::of(node.payload(first));
                for (index, slice) in bytes[1..].iter_mut().take(batch.len()).enumerate() {
                    *slice = isis_slice_t::of(node.batch_payload(batch, index));
                }
            }
            let count = 1 + batch.len() as u32;
            // SAFETY: a function that the program registered; all that it is given is borrowed for the call, and the bytes stay in
            // place until the next poll of the node.
            return self.with_message(first, |first| unsafe { callback(user, first, bytes.as_ptr(), count) });
        }
        self.on_message(entry, first);
        for index in 0..batch.len() {
            if self.is_poisoned() {
                return;
            }
            self.on_message(entry, &batch.message(first, index));
        }
    }

    fn on_message(&self, entry: u32, message: &Message) {
        match self.entries.message(entry) {
            None => self.without_entry.set(self.without_entry.get() + 1),
            // SAFETY: a function that the program registered; the message is borrowed for the call.
            Some((Taker::One(callback), user)) => self.with_message(message, |it| unsafe { callback(user, it) }),
            Some((Taker::Batch(callback), user)) => {
                // Registered by the callback of the message before it.
                let bytes = isis_slice_t::of(self.node().payload(message));
                // SAFETY: as above.
                self.with_message(message, |it| unsafe { callback(user, it, &raw const bytes, 1) });
            }
        }
    }

    /// `batch`: what follows the event, if it is a message.
    fn dispatch(&self, happened: NodeEvent, batch: &Batch) {
        let plain = |kind| event(self, kind);
        match happened {
            NodeEvent::Message(first) => self.on_messages(&first, batch),
            NodeEvent::SystemJoined { process, .. } => {
                self.tell(isis_event_t { process: process.0, ..plain(ISIS_EVENT_SYSTEM_JOINED) });
            }
            NodeEvent::SystemView(view) => {
                let me = self.node().process();
                let rank = view.members.iter().position(|member| Some(member.process) == me);
                let group = self.system_group.get() as *mut isis_group_t;
                self.tell_view(&[ISIS_EVENT_SYSTEM_VIEW], group, &view, rank.map_or(u16::MAX, |rank| rank as u16));
            }
            NodeEvent::View { group, view, rank } => {
                let first = self.with_group(group, |group| !std::mem::replace(&mut group.joined, true));
                let kinds: &[u32] = match first {
                    Some(true) => &[ISIS_EVENT_JOINED, ISIS_EVENT_VIEW],
                    Some(false) => &[ISIS_EVENT_VIEW],
                    None => return,
                };
                self.tell_view(kinds, self.group_handle(group), &view, rank);
            }
            NodeEvent::StateWanted { group, transfer, joiners } => {
                for joiner in joiners {
                    self.tell(isis_event_t {
                        group: self.group_handle(group),
                        process: joiner.0,
                        number: transfer,
                        ..plain(ISIS_EVENT_STATE_WANTED)
                    });
                }
                self.on_state_wanted(group, transfer);
            }
            NodeEvent::StateAborted { group, transfer } => {
                self.on_state_aborted(group, transfer);
                let group = self.group_handle(group);
                self.tell(isis_event_t { group, number: transfer, ..plain(ISIS_EVENT_STATE_ABORTED) });
            }
            NodeEvent::StateBlock { group, offset, block, done } => {
                self.on_state_block(group, offset, &block, done);
                if done {
                    let number = offset + block.len() as u64;
                    let group = self.group_handle(group);
                    self.tell(isis_event_t { group, number, ..plain(ISIS_EVENT_STATE_RECEIVED) });
                }
            }
            NodeEvent::Registered { group, .. } => {
                self.with_group(group, |group| group.joined = true);
                let rank = u32::from(u16::MAX);
                self.tell(isis_event_t { group: self.group_handle(group), rank, ..plain(ISIS_EVENT_JOINED) });
            }
            NodeEvent::Completed { group, ticket } => {
                let group = self.group_handle(group);
                self.tell(isis_event_t { group, number: ticket, ..plain(ISIS_EVENT_COMPLETED) });
            }
            NodeEvent::GroupEnded { group } => {
                self.tell(isis_event_t { group: self.group_handle(group), ..plain(ISIS_EVENT_GROUP_ENDED) });
                self.forget_group(group);
            }
            NodeEvent::Left { group } => {
                self.tell(isis_event_t { group: self.group_handle(group), ..plain(ISIS_EVENT_LEFT) });
                self.forget_group(group);
            }
            NodeEvent::Flushed { group, flush } => {
                self.with_group(group, |group| group.flushed = group.flushed.max(flush));
                let group = self.group_handle(group);
                self.tell(isis_event_t { group, number: flush, ..plain(ISIS_EVENT_FLUSHED) });
            }
            NodeEvent::Writable { group } => {
                self.tell(isis_event_t { group: self.group_handle(group), ..plain(ISIS_EVENT_WRITABLE) });
            }
            NodeEvent::Stalled => self.tell(plain(ISIS_EVENT_STALLED)),
            NodeEvent::Resumed => self.tell(plain(ISIS_EVENT_RESUMED)),
            NodeEvent::Evicted => {
                self.evicted.set(true);
                self.tell(plain(ISIS_EVENT_EVICTED));
            }
            NodeEvent::Slow { process, reason, group } => {
                let group =
                    group.map_or(self.system_group.get() as *mut isis_group_t, |group| self.group_handle(group));
                let reason = match reason {
                    SlowReason::Window => ISIS_SLOW_WINDOW,
                    SlowReason::ViewChange => ISIS_SLOW_VIEW_CHANGE,
                };
                self.tell(isis_event_t { group, process: process.0, reason, ..plain(ISIS_EVENT_SLOW) });
            }
            NodeEvent::Closed => {
                self.tell(plain(ISIS_EVENT_CLOSED));
                self.on_closed();
            }
            NodeEvent::Refused { group, command, reason, number } => {
                let code = node_failure(reason.into()).code();
                let (about, text) = (self.group_handle(group), command_name(command).as_ptr());
                self.tell(isis_event_t { group: about, code, number, text, ..plain(ISIS_EVENT_REFUSED) });
                if command == CommandName::Join {
                    self.join_refused.set((group, code));
                    self.forget_group(group);
                }
            }
            NodeEvent::Poisoned => {
                self.poison();
                self.tell(plain(ISIS_EVENT_POISONED));
            }
        }
    }
}

fn command_name(command: CommandName) -> &'static CStr {
    match command {
        CommandName::Join => c"join",
        CommandName::Leave => c"leave",
        CommandName::Multicast => c"multicast",
        CommandName::Send => c"send",
        CommandName::Reply => c"reply",
        CommandName::Flush => c"flush",
        CommandName::StateBlock => c"state block",
    }
}

/// The status of a call that took part in nothing: kept here so that the loop's callers agree.
pub fn count(events: u32) -> error::Status {
    Ok(i32::try_from(events).unwrap_or(i32::MAX))
}
