//! What comes in: each packet is checked, its sender found, and the group that it is about.

use super::Endpoint;
use crate::counters::Counter;
use crate::founding::Pledge;
use crate::group::Fate;
use crate::id::{GroupId, Nonce, ProcessId};
use isis_wire::message::{Code, MAX_MESSAGE, Message, PieceHeader};
use isis_wire::packet::{Header, Packet, PacketError, PacketKind};
use isis_wire::{Address, DecodeError, Reader};

/// The most messages in pieces that are put together at a time.
const MAX_PIECED: usize = 64;

/// A long message of which pieces came.
#[derive(Debug)]
pub(super) struct Pieces {
    parts: Vec<Option<Vec<u8>>>,
    bytes: usize,
}

impl Endpoint {
    pub(super) fn take_packet(&mut self, from: Address, bytes: &[u8]) {
        self.shared.count(Counter::PacketsReceived);
        let packet = match Packet::parse(bytes) {
            Ok(packet) => packet,
            Err(PacketError::IncompatibleVersion(_)) => {
                return self.shared.count(Counter::IgnoreIncompatibleVersion);
            }
            Err(PacketError::BadChecksum) => return self.shared.count(Counter::IgnoreBadChecksum),
            Err(_) => return self.shared.count(Counter::IgnoreNotOurs),
        };
        if packet.header.birth == self.shared.config.nonce.birth() {
            return;
        }
        self.take_parsed(from, &packet, Some(bytes));
    }

    /// A packet that was kept: no sign of life now.
    pub(super) fn take_again(&mut self, from: Address, packet: &Packet<'_>) {
        self.take_parsed(from, packet, None);
    }

    /// A packet that came by itself (all its bytes), or was relayed or kept.
    fn take_parsed(&mut self, from: Address, packet: &Packet<'_>, direct: Option<&[u8]>) {
        let header = packet.header;
        let known = (header.system == self.shared.system && self.process().is_some())
            .then(|| {
                let at = |m: &&isis_wire::message::MemberEntry| mutant!(TrustsAddress) && m.address == from;
                let there = || self.shared.system_view.members.iter().find(at).map(|m| m.process);
                self.shared.births.get(&header.birth).copied().or_else(there)
            })
            .flatten();
        // What a process says as a joiner is no sign of the member that it may be without knowing: it does not hear us.
        let as_joiner = header.group == GroupId::SYSTEM && header.view == 0 && !mutant!(TrustsAddress);
        if let Some(process) = known
            && let Some(peer) = self.shared.peers.get_mut(&process)
            && direct.is_some()
            && !as_joiner
        {
            peer.heard(self.shared.now);
            self.quorum_seen = None;
            peer.direct_at = self.shared.now;
        }
        if let Some(bytes) = direct {
            self.keep_ahead(from, packet, bytes);
        }
        let result = match header.kind {
            PacketKind::Message => self.take_message(from, &header, known, packet.body),
            PacketKind::Piece => self.take_piece(from, &header, known, packet.body),
            PacketKind::Relay if direct.is_none() => Err(DecodeError::BadValue),
            PacketKind::Relay => self.take_relay(known, packet.body),
            _ => match known {
                Some(process) => self.take_body(from, &header, process, packet.body),
                None => {
                    self.reject_stranger(from, &header);
                    Ok(())
                }
            },
        };
        if result.is_err() {
            self.shared.count(Counter::IgnoreMalformed);
        }
    }

    /// A packet for a process that its sender does not reach: it goes on to that one, or is taken here as if it had come by
    /// itself, from where its sender lives.
    fn take_relay(&mut self, known: Option<ProcessId>, body: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(body);
        let to = Address::read(&mut reader)?;
        let bytes = reader.take(reader.remaining())?;
        if known.is_none() {
            self.shared.count(Counter::IgnoreUnknownBirth);
        } else if to != self.shared.config.address {
            if self.shared.peers.values().any(|peer| peer.entry.address == to) {
                self.shared.count(Counter::DetoursServed);
                self.shared.send_relay(to, to, bytes);
            }
        } else if let Ok(packet) = Packet::parse(bytes) {
            let sender = self.shared.births.get(&packet.header.birth).and_then(|sender| self.shared.peers.get(sender));
            if let Some(from) = sender.map(|peer| peer.entry.address) {
                self.take_parsed(from, &packet, None);
                // Who passed it on was heard as well.
                self.plain = None;
            }
        }
        Ok(())
    }

    /// A packet of nobody in this system view (R14). One that was in an earlier view learns what became of it; one that is in a later
    /// view shows that it has come about.
    fn reject_stranger(&mut self, from: Address, header: &Header) {
        if header.system != self.shared.system || self.process().is_none() {
            self.shared.count(Counter::IgnoreForeignSystem);
            return;
        }
        self.shared.count(Counter::IgnoreUnknownBirth);
        let pause = self.shared.config.resend_ns / 4;
        if header.group != GroupId::SYSTEM || self.shared.now.since(self.told_strangers_at) < pause {
            return;
        }
        let Some(system) = self.groups.get_mut(&GroupId::SYSTEM) else { return };
        if header.view > system.view.number && self.shared.stalled && system.is_left_behind(&self.shared) {
            return self.evict();
        }
        if header.view < system.view.number {
            self.told_strangers_at = self.shared.now;
            system.tell_past(&mut self.shared, from, header.view);
            if header.view + 1 < system.view.number {
                // It may know that one, and lack what nobody keeps any more, for it was excluded since.
                system.tell_past(&mut self.shared, from, system.view.number - 1);
            }
        }
    }

    fn take_body(
        &mut self,
        from: Address,
        header: &Header,
        process: ProcessId,
        body: &[u8],
    ) -> Result<(), DecodeError> {
        match header.kind {
            PacketKind::Channel => return self.take_channel(process, body),
            PacketKind::ChannelAck => return self.take_channel_ack(process, body),
            _ => {}
        }
        let Some(group) = self.groups.get_mut(&header.group) else {
            self.shared.count(Counter::IgnoreUnknownGroup);
            self.remind_member(from, header.group);
            return Ok(());
        };
        let shared = &mut self.shared;
        if group.rank_of(process).is_some() && header.view >= group.view.number {
            group.note_shown(process, header.view);
        }
        if header.kind == PacketKind::Nak && header.view <= group.view.number {
            return group.on_nak(shared, from, header.view, body);
        }
        if header.view != group.view.number || group.departed_until.is_some() {
            self.wrong_view(from, header, process);
            return Ok(());
        }
        let acquits = shared.has_remote_peers && shared.peers.get(&process).is_some_and(|peer| peer.suspected);
        if matches!(header.kind, PacketKind::Data | PacketKind::Placed | PacketKind::Row) && !acquits {
            self.plain = Some(header.group);
        }
        match header.kind {
            PacketKind::Data => group.on_data(shared, process, body),
            PacketKind::Placed => group.on_placed(shared, process, body),
            PacketKind::Row => group.on_row(shared, process, body),
            PacketKind::Digest => group.on_digest(shared, process, body),
            _ => Ok(()),
        }
    }

    /// A packet about another view than ours: whoever is behind is told, or asks.
    fn wrong_view(&mut self, from: Address, header: &Header, process: ProcessId) {
        let Some(group) = self.groups.get_mut(&header.group) else { return };
        let number = group.view.number;
        let behind = header.view > number;
        self.shared.count(if behind { Counter::IgnoreFutureView } else { Counter::IgnoreOldView });
        if header.view == number {
            return;
        }
        let (now, pause) = (self.shared.now, self.shared.config.resend_ns / 2);
        let Some(peer) = self.shared.peers.get_mut(&process) else { return };
        if peer.told_at.is_some_and(|at| now.since(at) < pause) {
            return;
        }
        peer.told_at = Some(now);
        if !behind {
            group.tell_past(&mut self.shared, from, header.view);
        } else if group.departed_until.is_none() {
            self.shared.send(from, header.group, number, &Message::Behind { reserved: 0 });
        }
    }

    fn take_piece(
        &mut self,
        from: Address,
        header: &Header,
        known: Option<ProcessId>,
        body: &[u8],
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(body);
        let piece = PieceHeader::read(&mut reader)?;
        let bytes = reader.take(reader.remaining())?;
        let key = (header.birth, piece.number);
        let count = usize::from(piece.count);
        if piece.index >= piece.count || count.saturating_mul(bytes.len()) > 2 * MAX_MESSAGE {
            return Err(DecodeError::TooLong);
        }
        if !self.pieces.contains_key(&key) && self.pieces.len() >= MAX_PIECED {
            self.shared.count(Counter::IgnorePiece);
            self.pieces.pop_first();
        }
        let pieces = self.pieces.entry(key).or_insert_with(|| Pieces { parts: vec![None; count], bytes: 0 });
        if pieces.parts.len() != count {
            return Err(DecodeError::BadValue);
        }
        let part = &mut pieces.parts[usize::from(piece.index)];
        if part.is_none() {
            pieces.bytes += bytes.len();
            *part = Some(bytes.to_vec());
        }
        if pieces.bytes > MAX_MESSAGE {
            self.pieces.remove(&key);
            return Err(DecodeError::TooLong);
        }
        if pieces.parts.iter().all(Option::is_some)
            && let Some(pieces) = self.pieces.remove(&key)
        {
            // Older messages of the same sender that never became whole.
            self.pieces.retain(|other, _| other.0 != key.0 || other.1 > key.1);
            let whole: Vec<u8> = pieces.parts.into_iter().flatten().flatten().collect();
            return self.take_message(from, header, known, &whole);
        }
        Ok(())
    }

    fn take_message(
        &mut self,
        from: Address,
        header: &Header,
        known: Option<ProcessId>,
        body: &[u8],
    ) -> Result<(), DecodeError> {
        let message = Message::decode(body)?;
        match message {
            Message::Discover { nonce, address, may_found, .. } => {
                self.on_discover(nonce, address, may_found);
            }
            Message::Candidate { nonce, address, may_found, .. } => {
                let _ = self.looking.note_candidate(self.shared.now, nonce, address, may_found);
            }
            Message::Found { system, contacts, stalled, founding } => {
                self.looking.note_heard(self.shared.now, header.birth);
                self.on_found(system, contacts, (stalled, founding), known);
            }
            Message::Pledge { ballot, expected, previous, free } => {
                self.on_pledge(from, ballot, expected, previous, &free);
            }
            Message::Pledged { ballot, member, lives_in, accepted } => {
                self.on_pledged(ballot, Pledge { member, lives_in, accepted });
            }
            Message::PledgeRefused { ballot, promised, decided, foundation } => {
                self.on_pledge_refused(ballot, promised, decided, foundation);
            }
            Message::FoundingAccept { ballot, foundation } => self.on_founding_accept(from, ballot, foundation),
            Message::FoundingAccepted { ballot, site } => self.on_founding_accepted(ballot, site),
            Message::Founded { number, foundation } => self.on_founded(from, number, foundation),
            Message::Join { .. } if header.system == self.shared.system && self.process().is_some() => {
                self.on_join(from, header, known, &message);
            }
            _ if self.process().is_none() => self.on_message_while_looking(from, header, message),
            Message::JoinerReady { .. } if header.system == self.shared.system => {
                self.on_group_message(from, header, known.unwrap_or_default(), message);
            }
            _ => match known {
                Some(process) => self.on_group_message(from, header, process, message),
                None if self.is_admission_elsewhere(header, &message) => self.give_way(header.system),
                None if self.would_give_way(header.system) => {
                    self.answer_elsewhere(from, header, &message);
                }
                None => match message {
                    // Whoever tells that this process is no more in the system is in a view that we do not know.
                    Message::Decide { value, .. } if header.system == self.shared.system => {
                        self.on_strange_decision(from, header, value);
                    }
                    _ => self.reject_stranger(from, header),
                },
            },
        }
        Ok(())
    }

    /// A DECIDE from a process that joined after our system view, or that has left since.
    fn on_strange_decision(&mut self, from: Address, header: &Header, value: isis_wire::message::Value) {
        if header.group != GroupId::SYSTEM {
            return;
        }
        let Some(system) = self.groups.get_mut(&GroupId::SYSTEM) else { return };
        let me = self.shared.me;
        if value.number > system.view.number + 1 && !value.members.iter().any(|m| m.process == me) {
            self.evict();
        } else if value.number == system.view.number + 1 && system.departed_until.is_none() {
            let fate = system.decide(&mut self.shared, value);
            self.meet_fate(GroupId::SYSTEM, fate);
        } else if value.number <= system.view.number {
            // One that has left makes sure that this process knows.
            let number = system.view.number;
            self.shared.send(from, GroupId::SYSTEM, number, &Message::Installed { number });
        }
    }

    pub(super) fn on_join(&mut self, from: Address, header: &Header, known: Option<ProcessId>, message: &Message) {
        if self.shared.stalled {
            return;
        }
        let now_directory = self.shared.directory.operations;
        if self.keep_request(from, header, message) {
            return;
        }
        if header.group != GroupId::SYSTEM && known.is_none() {
            return self.shared.count(Counter::IgnoreUnknownBirth);
        }
        if let Message::Join { joiner, .. } = message
            && self.dead.contains(&joiner.nonce)
        {
            return;
        }
        match self.groups.get_mut(&header.group) {
            Some(group) if group.departed_until.is_none() => {
                group.on_join(&mut self.shared, from, message);
                let fate = group.drive_change(&mut self.shared);
                self.meet_fate(header.group, fate);
            }
            _ => {
                let message = Message::NotHere { directory: now_directory };
                self.shared.send(from, header.group, 0, &message);
            }
        }
    }

    fn on_group_message(&mut self, from: Address, header: &Header, process: ProcessId, message: Message) {
        match &message {
            Message::NotHere { directory } => return self.on_not_here(process, header.group, *directory),
            Message::Probe { number } => return self.on_probe(from, *number),
            // A sign of life, as any packet.
            Message::Alive { .. } => return,
            Message::Deaths { dead } => return self.on_deaths(process, dead),
            Message::Settle { attempt, open } => {
                return self.on_settle(from, (header.group, header.view), *attempt, open);
            }
            Message::Pending { open } => return self.on_pending(from, open),
            Message::Complete { done } => return self.on_complete(process, done),
            _ => {}
        }
        let Some(group) = self.groups.get_mut(&header.group) else {
            return self.on_message_without_group(from, header, message);
        };
        let number = group.view.number;
        match message {
            Message::Installed { number } => group.note_installed(process, number),
            Message::Behind { .. } if header.view == 0 => group.tell_admission(&mut self.shared, from, process),
            Message::Behind { .. } => group.tell_past(&mut self.shared, from, header.view),
            Message::Decide { value, .. } if header.group == GroupId::SYSTEM && value.number > number + 1 => {
                if !value.members.iter().any(|m| m.process == self.shared.me) {
                    self.evict();
                }
            }
            Message::Decide { value, snapshot } if group.departed_until.is_some() => {
                // A new membership of a group that was left, or an echo of the last one.
                let told = value.number;
                if told <= number || self.join_by_decision(header.group, value, snapshot.as_deref()) {
                    self.shared.send(from, header.group, told, &Message::Installed { number: told });
                }
            }
            Message::Decide { .. } if header.view < number => {
                self.shared.send(from, header.group, number, &Message::Installed { number });
            }
            _ if header.view == number && group.departed_until.is_none() => {
                let fate = group.on_message(&mut self.shared, from, process, message);
                self.meet_fate(header.group, fate);
            }
            Message::Prepare { .. } if group.departed_until.is_some() && header.view >= number => {
                self.on_message_without_group(from, header, message);
            }
            // A member that is still changing a view that is over.
            Message::Prepare { .. } | Message::Accept { .. } if header.view < number => {
                group.tell_past(&mut self.shared, from, header.view);
            }
            _ => self.wrong_view(from, header, process),
        }
    }

    /// About a group that this process is not in: it may be joining it.
    fn on_message_without_group(&mut self, from: Address, header: &Header, message: Message) {
        let nonce = self.shared.config.nonce;
        let system_view = self.shared.system_view.number;
        match message {
            Message::Prepare { attempt, joiners } => {
                let Some((_, asking)) = self.asking(header.group) else {
                    // Perhaps a member by a request that was given up: the decision will tell.
                    self.shared.count(Counter::IgnoreUnknownGroup);
                    return self.shared.send(from, header.group, 0, &Message::Behind { reserved: 0 });
                };
                let request = asking.request;
                // R9 binds a joiner as well.
                if joiners.iter().any(|j| j.nonce == nonce && j.request == request) {
                    if attempt.system_view == system_view {
                        let answer = Message::JoinerReady { attempt, nonce, request };
                        self.shared.send(from, header.group, header.view, &answer);
                    } else if attempt.system_view > system_view {
                        asking.prepared = Some((from, header.view, attempt));
                    }
                } else {
                    self.remind_member(from, header.group);
                }
            }
            Message::Decide { value, snapshot } => {
                let number = value.number;
                if self.join_by_decision(header.group, value, snapshot.as_deref()) {
                    self.shared.send(from, header.group, number, &Message::Installed { number });
                }
            }
            _ => self.shared.count(Counter::IgnoreUnknownGroup),
        }
    }

    /// What the step of a group led to.
    pub(super) fn meet_fate(&mut self, id: GroupId, fate: Fate) {
        match fate {
            Fate::Lives => {}
            Fate::Left if id == GroupId::SYSTEM => self.left_system(),
            Fate::Left => self.left_group(id),
            Fate::Evicted if id == GroupId::SYSTEM => self.evict(),
            // The system view excludes it too, or will.
            Fate::Evicted => {}
            Fate::Ended => self.group_ended(id),
        }
    }

    /// A DECIDE of another system that admits this process: it asked there because that system is older (R13).
    fn is_admission_elsewhere(&self, header: &Header, message: &Message) -> bool {
        let nonce: Nonce = self.shared.config.nonce;
        header.system != self.shared.system
            && self.would_give_way(header.system)
            && header.group == GroupId::SYSTEM
            && matches!(message, Message::Decide { value, snapshot: Some(_) }
                if value.members.iter().any(|m| m.nonce == nonce))
    }
}
