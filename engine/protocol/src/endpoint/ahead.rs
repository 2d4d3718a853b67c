//! What comes too early: packets of a view that this process has yet to install, and requests to join a group by a process
//! that knows more than this one.
//!
//! Whoever decides a change first goes on at once, and what it says then overtakes the decision on its way to the others.
//! Dropped, it would be missed only when the next heartbeat shows it, or the request is repeated: tens of milliseconds, in
//! which nothing hinders the change but a timer. So it is kept, and taken as if it had come when the view is there.
//!
//! Owner: the endpoint. Invariants: at most [`PACKETS_MAX`] packets of [`BYTES_MAX`] bytes are kept, the latest ones; what is
//! kept is no sign of life again when it is taken; every check of a packet is made when it is taken, against the view
//! that is installed then.

use super::Endpoint;
use crate::id::{GroupId, ProcessId};
use isis_wire::Address;
use isis_wire::message::Message;
use isis_wire::packet::{Header, Packet, PacketKind};
use std::collections::VecDeque;

/// Packets kept, at most.
const PACKETS_MAX: usize = 64;
/// Bytes in them, at most.
const BYTES_MAX: usize = 256 << 10;
/// What a request counts.
const REQUEST_BYTES: usize = 128;

/// Something that came too early.
#[derive(Debug)]
enum Kept {
    /// A packet: where it came from, its header, all of it.
    Packet(Address, Header, Vec<u8>),
    /// A request to join a group.
    Request(Address, Header, Box<Message>),
}

impl Kept {
    fn size(&self) -> usize {
        match self {
            Kept::Packet(_, _, bytes) => bytes.len(),
            Kept::Request(..) => REQUEST_BYTES,
        }
    }
}

/// All that came too early.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    kept: VecDeque<Kept>,
    bytes: usize,
}

impl Ahead {
    fn keep(&mut self, kept: Kept) {
        self.bytes += kept.size();
        self.kept.push_back(kept);
        while self.kept.len() > PACKETS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.size();
        }
    }

    /// The first of those that `is_due`.
    fn take(&mut self, is_due: impl FnMut(&Kept) -> bool) -> Option<Kept> {
        let index = self.kept.iter().position(is_due)?;
        let kept = self.kept.remove(index)?;
        self.bytes -= kept.size();
        Some(kept)
    }
}

impl Endpoint {
    /// Keeps a packet of the next view of a group that this process is in, whether its sender is known or is to be.
    pub(super) fn keep_ahead(&mut self, from: Address, packet: &Packet<'_>, bytes: &[u8]) {
        let header = packet.header;
        let of_a_view =
            matches!(header.kind, PacketKind::Data | PacketKind::Placed | PacketKind::Row | PacketKind::Digest);
        if !of_a_view || header.system != self.shared.system {
            return;
        }
        let is_next =
            |group: &crate::group::Group| group.departed_until.is_none() && header.view == group.view.number + 1;
        if self.groups.get(&header.group).is_some_and(|group| is_next(group)) {
            self.ahead.keep(Kept::Packet(from, header, bytes.to_vec()));
        }
    }

    /// Keeps a request to join a group if what it names is not here yet: the system view, or the joiner's entry.
    pub(super) fn keep_request(&mut self, from: Address, header: &Header, message: &Message) -> bool {
        if header.group == GroupId::SYSTEM || self.is_in_time(header, message) {
            return false;
        }
        self.ahead.keep(Kept::Request(from, *header, Box::new(message.clone())));
        true
    }

    /// This process knows what the request rests on.
    fn is_in_time(&self, header: &Header, message: &Message) -> bool {
        let Message::Join { joiner, system_view, .. } = message else { return true };
        let entered = || self.shared.directory.is_entered(header.group, joiner.process);
        *system_view < self.shared.system_view.number || (*system_view == self.shared.system_view.number && entered())
    }

    /// Takes what is not too early any more. Whether there was anything.
    pub(super) fn take_ahead(&mut self) -> bool {
        let mut any = false;
        while !self.ahead.kept.is_empty() {
            let mut ahead = std::mem::take(&mut self.ahead);
            let due = ahead.take(|kept| match kept {
                Kept::Packet(_, header, _) => {
                    self.groups.get(&header.group).is_none_or(|group| header.view <= group.view.number)
                }
                Kept::Request(_, header, message) => self.is_in_time(header, message),
            });
            self.ahead = ahead;
            match due {
                None => break,
                Some(Kept::Packet(from, _, bytes)) => {
                    if let Ok(packet) = Packet::parse(&bytes) {
                        self.take_again(from, &packet);
                    }
                }
                Some(Kept::Request(from, header, message)) => {
                    let known: Option<ProcessId> = self.shared.births.get(&header.birth).copied();
                    self.on_join(from, &header, known, &message);
                }
            }
            any = true;
        }
        any
    }
}
