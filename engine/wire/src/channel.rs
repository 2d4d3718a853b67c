//! What travels on a channel, from one process to another: its frames, and the messages of lanes 0 and 1. Those of lane 2 are
//! in [`crate::client`].

use crate::codec::{DecodeError, Reader, Writer};
use crate::id::{GroupId, ProcessId};
use crate::message::{Code, code_struct};

code_struct! {
    /// The start of a [`crate::packet::PacketKind::Channel`] body; the frame's payload follows.
    ChannelHeader {
        /// For which process (its incarnation): a frame to an earlier one is dropped.
        to: ProcessId,
        /// 0: point-to-point messages. 1: state transfer. 2: clients and their relays.
        lane: u16,
        /// Number of the frame: 1, 2, 3 …
        number: u64,
        /// First frame of its message.
        begin: bool,
        /// Last frame of its message.
        end: bool,
    }
}

code_struct! {
    /// The body of a [`crate::packet::PacketKind::ChannelAck`].
    ChannelAck {
        /// For which process.
        to: ProcessId,
        /// The lane.
        lane: u16,
        /// The first frame not received.
        next: u64,
        /// Bit i: frame `next + 1 + i` was received.
        bitmap: u64,
        /// Lane 0: so many messages of the channel, from its first, are delivered or dropped for good.
        delivered: u64,
    }
}

code_struct! {
    /// A point-to-point message as it travels on lane 0 of a channel. It is delivered when its receiver has delivered
    /// what `vector` counts in that view of that group, or is in a later view.
    Envelope {
        /// The group in which it was sent.
        group: GroupId,
        /// The sender's view of it.
        view: u64,
        /// How many messages of each rank the sender had delivered, its own sent ones included.
        vector: Vec<u64>,
        /// The entry point.
        entry: u16,
        /// The sender is a client of the group, not a member.
        from_client: bool,
        /// For a reply, the message that it answers: view, sender, number.
        answers: Option<((u64, ProcessId), u64)>,
        /// Numbers the sender's point-to-point messages to this receiver.
        number: u64,
        /// The payload.
        data: Vec<u8>,
    }
}

code_struct! {
    /// A block of a group's state as it travels on lane 1 of a channel.
    StateBlock {
        /// The group.
        group: GroupId,
        /// The view at whose start the state was captured.
        view: u64,
        /// Offset of the block in the state.
        offset: u64,
        /// This is the last block.
        done: bool,
        /// The bytes.
        data: Vec<u8>,
    }
}
