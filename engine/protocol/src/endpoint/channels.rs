//! What comes and goes on the channels between two processes: point-to-point messages and blocks of state, and those of
//! them that come before the group or the view that they are for.

use super::Endpoint;
use crate::counters::Counter;
use crate::id::{GroupId, ProcessId};
use crate::shared::{Outgoing, Target};
use isis_wire::message::{ChannelAck, ChannelHeader, Code, Envelope, StateBlock};
use isis_wire::packet::{self, HEADER, PacketKind};
use isis_wire::{Address, DecodeError, Reader, Writer};

/// The most bytes kept for groups and views that are not installed yet; what comes then stays with its sender.
const MAX_EARLY_BYTES: usize = 4 << 20;
/// Room for what stands before a frame's payload.
const CHANNEL_OVERHEAD: usize = 32;
/// What an early message counts besides its payload.
const EARLY_OVERHEAD: usize = 64;

/// What came over a channel before its group or view was installed here.
#[derive(Debug)]
pub(super) enum Early {
    /// A point-to-point message.
    Unicast(Envelope),
    /// A block of state.
    Block(StateBlock),
}

impl Early {
    fn group(&self) -> GroupId {
        match self {
            Early::Unicast(envelope) => envelope.group,
            Early::Block(block) => block.group,
        }
    }

    fn size(&self) -> usize {
        EARLY_OVERHEAD
            + match self {
                Early::Unicast(envelope) => envelope.data.len(),
                Early::Block(block) => block.data.len(),
            }
    }
}

impl Endpoint {
    pub(super) fn take_channel(&mut self, process: ProcessId, body: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(body);
        let header = ChannelHeader::read(&mut reader)?;
        let payload = reader.take(reader.remaining())?;
        if header.lane > 2 {
            return Err(DecodeError::BadValue);
        }
        if header.to != self.shared.me {
            self.shared.count(Counter::IgnoreChannelFrame);
            return Ok(());
        }
        let now = self.shared.now;
        let Some(lane) = self.shared.lane(process, usize::from(header.lane)) else { return Ok(()) };
        if lane.receiver.handle_frame(now, header.number, header.begin, header.end, payload).is_err() {
            self.shared.count(Counter::IgnoreChannelFrame);
        }
        self.take_channel_messages(process, usize::from(header.lane))
    }

    /// What there is no room to keep stays in the receiver, whose sender then waits.
    fn take_channel_messages(&mut self, process: ProcessId, lane: usize) -> Result<(), DecodeError> {
        while self.early_bytes < MAX_EARLY_BYTES
            && let Some(bytes) = self.shared.lane(process, lane).and_then(|lane| lane.receiver.poll_message())
        {
            let mut reader = Reader::new(&bytes);
            if lane == 0 {
                let envelope = Envelope::read(&mut reader)?;
                reader.finish()?;
                self.shared.note_unicast(process, envelope.number);
                self.take_envelope(process, envelope);
            } else if lane == 2 {
                self.take_client_message(process, &bytes)?;
            } else {
                let block = StateBlock::read(&mut reader)?;
                reader.finish()?;
                self.take_block(process, block);
            }
        }
        Ok(())
    }

    fn take_envelope(&mut self, process: ProcessId, envelope: Envelope) {
        let Some(envelope) = self.take_envelope_as_client(process, envelope) else { return };
        let group = envelope.group;
        let behind = self.comes_behind(process, |early| matches!(early, Early::Unicast(e) if e.group == group));
        match self.groups.get_mut(&group) {
            Some(group) if group.is_for_former_membership(&envelope) => {
                self.shared.note_unicast_taken(process, envelope.number);
            }
            Some(group) if group.departed_until.is_none() && !behind && group.has_room_to_hold() => {
                group.receive_unicast(&mut self.shared, process, envelope);
            }
            _ => self.keep_early(process, Early::Unicast(envelope)),
        }
    }

    fn take_block(&mut self, process: ProcessId, block: StateBlock) {
        let group = block.group;
        let behind = self.comes_behind(process, |early| matches!(early, Early::Block(b) if b.group == group));
        match self.groups.get_mut(&group) {
            Some(group) if group.departed_until.is_none() && block.view <= group.view.number && !behind => {
                group.receive_block(&mut self.shared, process, block);
            }
            _ => self.keep_early(process, Early::Block(block)),
        }
    }

    /// Something of the same kind and process waits already: it must not be overtaken.
    fn comes_behind(&self, process: ProcessId, same: impl Fn(&Early) -> bool) -> bool {
        self.early.iter().any(|(sender, early)| *sender == process && same(early))
    }

    fn keep_early(&mut self, process: ProcessId, early: Early) {
        if self.may_become_member(early.group()) {
            self.early_bytes += early.size();
            self.early.push((process, early));
        } else {
            self.shared.count(Counter::IgnoreUnknownGroup);
            if let Early::Unicast(envelope) = early {
                self.shared.note_unicast_taken(process, envelope.number);
            }
        }
    }

    /// A group or one of its views was installed, or a join was given up: what came too early comes now, or is dropped.
    pub(super) fn take_early(&mut self) {
        if self.early.is_empty() {
            return;
        }
        let was_full = self.early_bytes >= MAX_EARLY_BYTES;
        self.early_bytes = 0;
        for (process, early) in std::mem::take(&mut self.early) {
            match early {
                Early::Unicast(envelope) => self.take_envelope(process, envelope),
                Early::Block(block) => self.take_block(process, block),
            }
        }
        if was_full && self.early_bytes < MAX_EARLY_BYTES {
            for process in self.shared.peers.keys().copied().collect::<Vec<_>>() {
                for lane in 0..3 {
                    if self.take_channel_messages(process, lane).is_err() {
                        self.shared.count(Counter::IgnoreMalformed);
                    }
                }
            }
        }
    }

    pub(super) fn take_channel_ack(&mut self, process: ProcessId, body: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(body);
        let ack = ChannelAck::read(&mut reader)?;
        reader.finish()?;
        if ack.to != self.shared.me || ack.lane > 2 {
            self.shared.count(Counter::IgnoreChannelFrame);
            return Ok(());
        }
        let now = self.shared.now;
        if ack.lane == 0
            && let Some(peer) = self.shared.peers.get_mut(&process)
            && !peer.sent.note_delivered(ack.delivered)
        {
            self.shared.count(Counter::IgnoreChannelFrame);
            return Ok(());
        }
        if let Some(lane) = self.shared.lane(process, usize::from(ack.lane))
            && lane.sender.handle_ack(now, ack.next, ack.bitmap).is_err()
        {
            self.shared.count(Counter::IgnoreChannelFrame);
        }
        Ok(())
    }

    /// Frames and acknowledgements that are due on all channels.
    pub(super) fn drive_channels(&mut self) {
        if std::mem::replace(&mut self.shared.lanes_at_rest, true) {
            return;
        }
        let now = self.shared.now;
        let (group, view) = (GroupId::SYSTEM, self.shared.system_view.number);
        let frame_header = self.shared.header(PacketKind::Channel, group, view);
        let ack_header = self.shared.header(PacketKind::ChannelAck, group, view);
        let outbox = &mut self.shared.outbox;
        let me = self.shared.me;
        let mut at_rest = true;
        let mut send = |to: Address, mut packet: Vec<u8>| {
            debug_assert!(me != ProcessId::default());
            packet::seal(&mut packet, &[]);
            outbox.push_back(Outgoing { to: Target::Address(to), packet });
        };
        for (&process, peer) in self.shared.peers.iter_mut() {
            let to = peer.entry.address;
            let delivered = peer.received.delivered();
            for (number, lane) in peer.lanes.iter_mut().enumerate() {
                let Some(lane) = lane else { continue };
                lane.sender.handle_timeout(now);
                while let Some(frame) = lane.sender.poll_frame(now) {
                    let mut out = Writer { bytes: Vec::with_capacity(HEADER + CHANNEL_OVERHEAD + frame.payload.len()) };
                    packet::begin(&mut out.bytes, &frame_header);
                    let header = ChannelHeader {
                        to: process,
                        lane: number as u16,
                        number: frame.number,
                        begin: frame.begin,
                        end: frame.end,
                    };
                    header.write(&mut out);
                    out.bytes.extend_from_slice(frame.payload);
                    send(to, out.bytes);
                }
                if lane.receiver.ack_due(now)
                    && let Some((next, bitmap)) = lane.receiver.take_ack()
                {
                    let mut out = Writer { bytes: Vec::with_capacity(HEADER + CHANNEL_OVERHEAD) };
                    packet::begin(&mut out.bytes, &ack_header);
                    let delivered = if number == 0 { delivered } else { 0 };
                    ChannelAck { to: process, lane: number as u16, next, bitmap, delivered }.write(&mut out);
                    send(to, out.bytes);
                }
                at_rest &= lane.sender.poll_timeout().is_none() && lane.receiver.poll_timeout().is_none();
            }
        }
        self.shared.lanes_at_rest = at_rest;
    }
}
