//! A node as the applications of simulator and rig call it, in either mode.
//!
//! Owner: a member. Invariant: tickets of multicasts count them, as the core's do, whatever the node gave.

use isis_protocol::event::{Body, Delivery, Event, FIRST_UNICAST, MessageId, Refused, SendOptions};
use isis_protocol::{Calls, GroupHandle, Instant, JoinOptions, ProcessId};
use isis_runtime::{CommandName, Mode, Node, NodeError, NodeEvent};
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct NodeEngine {
    /// The node.
    pub node: Node,
    /// Threaded mode: the application's ticket for the node's.
    tickets: BTreeMap<(GroupHandle, u64), u64>,
    multicasts: BTreeMap<GroupHandle, u64>,
}

/// Only what the core refuses is an answer; anything else ends the member, which the rig takes for a failure.
fn refused(error: NodeError) -> Refused {
    match error {
        NodeError::WouldBlock => Refused::WouldBlock,
        NodeError::TooLong => Refused::TooLong,
        NodeError::NotMember => Refused::NotMember,
        NodeError::NoSuchProcess => Refused::NoSuchProcess,
        NodeError::Ended => Refused::Ended,
        NodeError::BadClaim => Refused::BadClaim,
        NodeError::AlreadyMember => Refused::AlreadyMember,
        NodeError::BadKind => Refused::BadKind,
        other => panic!("the node: {other}"),
    }
}

impl NodeEngine {
    /// Over an open node.
    pub fn new(node: Node) -> NodeEngine {
        NodeEngine { node, tickets: BTreeMap::new(), multicasts: BTreeMap::new() }
    }

    fn multicast_ticket(&mut self, group: GroupHandle, ticket: u64) -> u64 {
        if self.node.mode() == Mode::Inline {
            return ticket;
        }
        let number = self.multicasts.entry(group).or_default();
        *number += 1;
        self.tickets.insert((group, ticket), *number);
        *number
    }

    fn letter_ticket(&mut self, group: GroupHandle, ticket: u64) -> u64 {
        if self.node.mode() == Mode::Inline {
            return ticket;
        }
        self.tickets.insert((group, ticket), FIRST_UNICAST + ticket);
        FIRST_UNICAST + ticket
    }

    /// The core's event that a node's event stands for; `None`: it is no business of the application's.
    fn translate(&mut self, event: NodeEvent) -> Option<Event> {
        Some(match event {
            NodeEvent::SystemJoined { system, process } => Event::SystemJoined { system, process },
            NodeEvent::SystemView(view) => Event::SystemView(view),
            NodeEvent::View { group, view, rank } => Event::View { group, view, rank },
            NodeEvent::Message(message) => {
                let body = Body::Owned(Arc::new(self.node.payload(&message).to_vec()));
                let ticket = match self.node.mode() {
                    Mode::Inline => message.ticket,
                    Mode::Threaded => self.tickets.get(&(message.group, message.ticket)).copied().unwrap_or(0),
                };
                Event::Message(Delivery {
                    group: message.group,
                    id: message.id,
                    rank: message.rank,
                    kind: message.kind,
                    safe: message.safe,
                    entry: message.entry,
                    order: message.order,
                    ticket,
                    answers: message.answers,
                    body,
                })
            }
            NodeEvent::StateWanted { group, transfer, joiners } => Event::StateWanted { group, transfer, joiners },
            NodeEvent::StateAborted { group, transfer } => Event::StateAborted { group, transfer },
            NodeEvent::StateBlock { group, offset, block, done } => Event::StateBlock { group, offset, block, done },
            NodeEvent::Left { group } => Event::Left { group },
            NodeEvent::Registered { group, id } => Event::Registered { group, id },
            NodeEvent::GroupEnded { group } => Event::GroupEnded { group },
            NodeEvent::Completed { group, ticket } => {
                let ticket = match self.node.mode() {
                    Mode::Inline => ticket,
                    Mode::Threaded => self.tickets.get(&(group, ticket)).copied().unwrap_or(0),
                };
                Event::Completed { group, ticket }
            }
            NodeEvent::Flushed { group, flush } => Event::Flushed { group, flush },
            NodeEvent::Writable { group } => Event::Writable { group },
            NodeEvent::Stalled => Event::Stalled,
            NodeEvent::Resumed => Event::Resumed,
            NodeEvent::Evicted => Event::Evicted,
            NodeEvent::Slow { process, reason, group } => Event::Slow { process, reason, group },
            NodeEvent::Closed => Event::Closed,
            NodeEvent::Refused { group, command: CommandName::Flush, number, .. } => {
                Event::FlushLost { group, flush: number }
            }
            // What came in between is in the trace: the process was evicted, has left, or its receiver is gone.
            NodeEvent::Refused { .. } => return None,
            NodeEvent::Poisoned => panic!("the core failed"),
        })
    }
}

impl Calls for NodeEngine {
    fn join(&mut self, _: Instant, name: &str, options: JoinOptions) -> Result<GroupHandle, Refused> {
        self.node.join(name, options).map_err(refused)
    }
    fn leave(&mut self, _: Instant, group: GroupHandle) -> Result<(), Refused> {
        self.node.leave(group).map_err(refused)
    }
    fn multicast(&mut self, _: Instant, group: GroupHandle, options: SendOptions, data: &[u8]) -> Result<u64, Refused> {
        let ticket = self.node.multicast(group, options, data).map_err(refused)?;
        Ok(self.multicast_ticket(group, ticket))
    }
    fn multicast_groups(
        &mut self,
        _: Instant,
        groups: &[GroupHandle],
        options: SendOptions,
        data: &[u8],
    ) -> Result<Vec<u64>, Refused> {
        let tickets = self.node.multicast_groups(groups, options, data).map_err(refused)?;
        Ok(groups.iter().zip(tickets).map(|(group, ticket)| self.multicast_ticket(*group, ticket)).collect())
    }
    fn claim(&mut self, group: GroupHandle, len: usize) -> Result<(), Refused> {
        self.node.claim(group, len).map_err(refused)
    }
    fn claimed(&mut self, group: GroupHandle) -> Result<&mut [u8], Refused> {
        self.node.claimed(group).map_err(refused)
    }
    fn commit(&mut self, _: Instant, group: GroupHandle, options: SendOptions) -> Result<u64, Refused> {
        let ticket = self.node.commit(group, options).map_err(refused)?;
        Ok(self.multicast_ticket(group, ticket))
    }
    fn abort(&mut self, group: GroupHandle) -> Result<(), Refused> {
        self.node.abort(group).map_err(refused)
    }
    fn send(
        &mut self,
        _: Instant,
        group: GroupHandle,
        member: ProcessId,
        entry: u8,
        data: &[u8],
    ) -> Result<u64, Refused> {
        let ticket = self.node.send(group, member, entry, data).map_err(refused)?;
        Ok(self.letter_ticket(group, ticket))
    }
    fn reply(&mut self, _: Instant, group: GroupHandle, to: MessageId, data: &[u8]) -> Result<u64, Refused> {
        let ticket = self.node.reply(group, to, data).map_err(refused)?;
        Ok(self.letter_ticket(group, ticket))
    }
    fn flush(&mut self, _: Instant, group: GroupHandle) -> Result<u64, Refused> {
        self.node.flush(group).map_err(refused)
    }
    fn state_block(
        &mut self,
        _: Instant,
        group: GroupHandle,
        transfer: u64,
        block: &[u8],
        done: bool,
    ) -> Result<(), Refused> {
        self.node.state_block(group, transfer, block, done).map_err(refused)
    }
    fn poll_event(&mut self, _: Instant) -> Option<Event> {
        loop {
            let event = self.node.poll_event().unwrap_or_else(|error| panic!("the node: {error}"))?;
            if let Some(event) = self.translate(event) {
                return Some(event);
            }
        }
    }
    fn close(&mut self, _: Instant) {
        self.node.close().unwrap_or_else(|error| panic!("close: {error}"));
    }
    fn payload<'a>(&'a self, body: &'a Body) -> &'a [u8] {
        match body {
            Body::Owned(bytes) => bytes,
            Body::Chunk { .. } => &[],
        }
    }
}
