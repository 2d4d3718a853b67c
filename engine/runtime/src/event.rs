//! What a [`crate::Node`] tells the application: the core's events, with message bytes that can be reached in both modes.

use isis_protocol::{
    Body, Delivery, Event, Framed, Frames, GroupHandle, GroupId, Kind, MessageId, Messages, ProcessId, Refused,
    SlowReason, SystemId, View,
};
use std::sync::Arc;

/// Where the bytes of a message are. Look at them with `Node::payload`; they stay in place until the next
/// `Node::poll_event`.
#[derive(Clone, Debug)]
pub struct Payload(pub(crate) Place);

/// The three places that bytes can be in.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In the core of an inline node.
    Chunk(Body),
    /// In the ring record that the application now borrows: `record` names it, so that a stale payload is noticed.
    Ring { record: u64, offset: u32, len: u32 },
    /// On the heap.
    Owned(Arc<Vec<u8>>),
}

impl Payload {
    /// How many bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Chunk(Body::Chunk { len, .. }) | Place::Ring { len, .. } => *len as usize,
            Place::Chunk(Body::Owned(bytes)) | Place::Owned(bytes) => bytes.len(),
        }
    }

    /// Whether the message has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes as a shared allocation, if that is where they are: holding such a message costs no copy.
    pub fn shared(&self) -> Option<&Arc<Vec<u8>>> {
        match &self.0 {
            Place::Chunk(Body::Owned(bytes)) | Place::Owned(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// A message handed to the application.
#[derive(Clone, Debug)]
pub struct Message {
    /// The group that it was sent in.
    pub group: GroupHandle,
    /// Its name.
    pub id: MessageId,
    /// The sender's rank in the view; for point-to-point messages in the current view. `u16::MAX`: it is a client, or no
    /// member any more; and in all that a client gets.
    pub rank: u16,
    /// Its ordering.
    pub kind: Kind,
    /// It was sent as safe.
    pub safe: bool,
    /// Its entry point.
    pub entry: u8,
    /// Its place in the total order of the view (1, 2, …); 0 for other kinds.
    pub order: u64,
    /// For a message of this process's own: what the call that sent it returned. For a reply to one: what the call that
    /// sent the message returned that is answered. 0: neither, too long ago, or of an earlier
    /// membership.
    pub ticket: u64,
    /// For a reply: the message that it answers.
    pub answers: Option<MessageId>,
    /// Its bytes: `Node::payload`.
    pub payload: Payload,
}

impl Message {
    /// The application's message of a delivery: its name for the group, and where the bytes are for it.
    #[inline]
    pub(crate) fn of(delivery: &Delivery, group: GroupHandle, place: Place) -> Message {
        Message {
            group,
            id: delivery.id,
            rank: delivery.rank,
            kind: delivery.kind,
            safe: delivery.safe,
            entry: delivery.entry,
            order: delivery.order,
            ticket: delivery.ticket,
            answers: delivery.answers,
            payload: Payload(place),
        }
    }
}

/// Messages that follow the one that [`crate::Node::poll_batch`] gave: from the same sender, in the same group, of the same kind
/// and entry point. They differ from it by their bytes only, and each by 1 from the one before in `number`, and in `ticket`
/// and `order` where it has them. It is filled by the thread of its node, and its bytes stay where they are until the next poll.
#[derive(Debug, Default)]
pub struct Batch {
    /// Where their bytes are, and before them those of the first one; empty: nothing follows.
    pub(crate) frames: Frames,
}

impl Batch {
    /// The most messages that come at once, the first one included.
    pub const MOST: usize = isis_protocol::AT_ONCE;

    /// Nothing.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// How many messages follow.
    pub fn len(&self) -> usize {
        self.frames.len().saturating_sub(1)
    }

    /// The one with this index among those that follow `first`, by itself.
    ///
    /// # Panics
    /// If there is none.
    pub fn message(&self, first: &Message, index: usize) -> Message {
        let later = |number: u64| if number > 0 { number + 1 + index as u64 } else { 0 };
        Message {
            id: MessageId { number: later(first.id.number), ..first.id },
            order: later(first.order),
            ticket: later(first.ticket),
            payload: Payload(Place::Chunk(self.frames[index + 1].body())),
            ..first.clone()
        }
    }

    /// None follows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A command, as named by [`NodeEvent::Refused`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum CommandName {
    Join,
    Leave,
    Multicast,
    Send,
    Reply,
    Flush,
    StateBlock,
}

/// What happened. The order of the events is the order of the core: see `isis_protocol::Event` for each one's promise.
#[derive(Clone, Debug)]
pub enum NodeEvent {
    /// This process was admitted to a system.
    SystemJoined {
        /// The system.
        system: SystemId,
        /// This process's identifier in it.
        process: ProcessId,
    },
    /// A new system view.
    SystemView(Arc<View>),
    /// A new view of a group. The first one tells that the join is complete, state included.
    View {
        /// The group.
        group: GroupHandle,
        /// The view.
        view: Arc<View>,
        /// This process's rank in it.
        rank: u16,
    },
    /// A message.
    Message(Message),
    /// Capture the group's state now, before looking at any later event, and hand it over with `Node::state_block`.
    StateWanted {
        /// The group.
        group: GroupHandle,
        /// Names the transfer in `state_block`.
        transfer: u64,
        /// Who waits for it.
        joiners: Vec<ProcessId>,
    },
    /// The state is no longer wanted: the snapshot may be dropped.
    StateAborted {
        /// The group.
        group: GroupHandle,
        /// The transfer.
        transfer: u64,
    },
    /// A block of the group's state for this joiner. `offset` 0 after others means: start over.
    StateBlock {
        /// The group.
        group: GroupHandle,
        /// Offset of the block in the state.
        offset: u64,
        /// The bytes.
        block: Arc<[u8]>,
        /// This was the last one.
        done: bool,
    },
    /// This process is registered as a client of the group: the join as one is complete.
    Registered {
        /// The group.
        group: GroupHandle,
        /// Its identifier.
        id: GroupId,
    },
    /// The multicast of this process as a client is in: all members that stay deliver it, or have done so.
    Completed {
        /// The group.
        group: GroupHandle,
        /// What the call that sent it returned; 0: that is too long ago to be known.
        ticket: u64,
    },
    /// The group that this process was a client of has no members any more. The handle is dead. Multicasts that are not
    /// completed may or may not have been delivered.
    GroupEnded {
        /// The group.
        group: GroupHandle,
    },
    /// The leave is complete, or the group's join was given up. The handle is dead.
    Left {
        /// The group.
        group: GroupHandle,
    },
    /// All multicasts before the flush are stable (a client's: completed).
    Flushed {
        /// The group.
        group: GroupHandle,
        /// What `Node::flush` returned.
        flush: u64,
    },
    /// A send that gave `WouldBlock` may be tried again.
    Writable {
        /// The group.
        group: GroupHandle,
    },
    /// No contact to a quorum: every group is frozen until `Resumed` or `Evicted`.
    Stalled,
    /// Contact to a quorum again.
    Resumed,
    /// The others went on without this process: the node is at its end. Multicasts that were accepted, but that no
    /// completed flush covers, may be lost. Flushes that were pending are `Refused` with `Ended` before this event, commands
    /// that the core had not taken yet after it.
    Evicted,
    /// A member holds the others up.
    Slow {
        /// Who.
        process: ProcessId,
        /// How.
        reason: SlowReason,
        /// In which group; `None`: the change of the system view.
        group: Option<GroupHandle>,
    },
    /// `Node::close` is complete.
    Closed,
    /// A command that the call itself had accepted was refused later: a flush, because the process is evicted; in threaded
    /// mode any command, because of what came in between.
    Refused {
        /// The group.
        group: GroupHandle,
        /// Which command.
        command: CommandName,
        /// Why.
        reason: Refused,
        /// For `Flush` the number that `Node::flush` returned, for `StateBlock` the transfer, for `Multicast`, `Send` and
        /// `Reply` the ticket; else 0.
        number: u64,
    },
    /// The core failed. Peers see a crash; nothing comes after this.
    Poisoned,
}

impl NodeEvent {
    /// The message that was taken last out of these.
    #[inline]
    pub(crate) fn of_message(messages: &Messages, framed: Framed) -> NodeEvent {
        let delivery = messages.last(framed.body());
        let place = Place::Chunk(framed.body());
        NodeEvent::Message(Message::of(&delivery, delivery.group, place))
    }

    /// The core's event, with the application's handles; a message's bytes stay where they are.
    pub(crate) fn from_core(event: Event, name: &dyn Fn(GroupHandle) -> GroupHandle) -> NodeEvent {
        match event {
            Event::SystemJoined { system, process } => NodeEvent::SystemJoined { system, process },
            Event::SystemView(view) => NodeEvent::SystemView(view),
            Event::View { group, view, rank } => NodeEvent::View { group: name(group), view, rank },
            Event::Message(delivery) => {
                let place = Place::Chunk(delivery.body.clone());
                NodeEvent::Message(Message::of(&delivery, name(delivery.group), place))
            }
            Event::StateWanted { group, transfer, joiners } => {
                NodeEvent::StateWanted { group: name(group), transfer, joiners }
            }
            Event::StateAborted { group, transfer } => NodeEvent::StateAborted { group: name(group), transfer },
            Event::StateBlock { group, offset, block, done } => {
                NodeEvent::StateBlock { group: name(group), offset, block, done }
            }
            Event::Registered { group, id } => NodeEvent::Registered { group: name(group), id },
            Event::Completed { group, ticket } => NodeEvent::Completed { group: name(group), ticket },
            Event::GroupEnded { group } => NodeEvent::GroupEnded { group: name(group) },
            Event::Left { group } => NodeEvent::Left { group: name(group) },
            Event::Flushed { group, flush } => NodeEvent::Flushed { group: name(group), flush },
            Event::Writable { group } => NodeEvent::Writable { group: name(group) },
            Event::Stalled => NodeEvent::Stalled,
            Event::Resumed => NodeEvent::Resumed,
            Event::Evicted => NodeEvent::Evicted,
            Event::Slow { process, reason, group } => NodeEvent::Slow { process, reason, group: group.map(name) },
            Event::FlushLost { group, flush } => NodeEvent::Refused {
                group: name(group),
                command: CommandName::Flush,
                reason: Refused::Ended,
                number: flush,
            },
            Event::Closed => NodeEvent::Closed,
        }
    }
}
