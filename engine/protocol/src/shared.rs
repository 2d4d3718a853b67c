//! What all groups of an endpoint share: identity, time, memory, peers, and the queues that the endpoint hands out.

use crate::buffers::Buffers;
use crate::channel::{Receiver, Sender};
use crate::config::Config;
use crate::counters::{Counter, Counters};
use crate::detector::Detector;
use crate::directory::{Directory, Operation, Outcome};
use crate::event::{Event, FIRST_UNICAST};
use crate::few::FewMap;
use crate::id::{GroupId, Nonce, ProcessId, SiteKey, SystemId};
use crate::multis::Multis;
use crate::pending::Pending;
use crate::random::Random;
use crate::receipts::{Received, Sent};
use crate::refusal::Refusal;
use crate::time::Instant;
use isis_memory::{CHUNK_SIZE, Region};
use isis_wire::message::{Code, MemberEntry, Message, PieceHeader};
use isis_wire::packet::{self, HEADER, Header, PacketKind, RELAY_OVERHEAD};
use isis_wire::{Address, Writer};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};

/// Room for a piece's header and packet header in a datagram.
const PIECE_OVERHEAD: usize = HEADER + 16;
/// Room that most protocol messages need, header included.
const USUAL_MESSAGE: usize = 512;
/// The most state bytes that wait in one channel.
const CHANNEL_LIMIT: usize = 4 << 20;
/// Of how many excluded processes it is known since when.
const KEPT_EXCLUDED: usize = 4096;

/// Both directions of one lane between this process and a peer.
#[derive(Debug)]
pub struct Lane {
    /// To the peer.
    pub sender: Sender,
    /// From the peer.
    pub receiver: Receiver,
}

/// Another process of the system view.
#[derive(Debug)]
pub struct Peer {
    /// Its entry in the system view.
    pub entry: MemberEntry,
    /// Tells from silence whether it failed (other sites only).
    pub detector: Detector,
    /// What refused datagrams say of it (other sites only).
    pub refusal: Refusal,
    /// When it was heard last, or heard of.
    pub heard_at: Instant,
    /// When a packet of its own came last.
    pub direct_at: Instant,
    /// It was suspected when last looked at (for counting).
    pub suspected: bool,
    /// Known dead: for certain here, or by the word of its site-mates.
    pub reported_dead: bool,
    /// It was known dead for certain here (own site).
    pub dead_here: bool,
    /// Its point-to-point messages.
    pub received: Received,
    /// Those to it.
    pub sent: Sent,
    /// Point-to-point messages (0) and state transfer (1), clients and their relays (2).
    pub lanes: [Option<Box<Lane>>; 3],
    /// When it was last told something that it missed.
    pub told_at: Option<Instant>,
    /// When the site link was last asked to kill it (option `hang`).
    pub kill_asked_at: Option<Instant>,
}

impl Peer {
    /// A sign of life came, from the process itself or from others.
    pub fn heard(&mut self, now: Instant) {
        self.detector.heard(now);
        self.refusal.heard();
        self.heard_at = now;
    }

    /// When it shall be probed for its silence, unless it was.
    pub fn doubtful_at(&self, own_site: SiteKey, beat_ns: u64) -> Option<Instant> {
        let waits = self.entry.site != own_site && !self.reported_dead && self.refusal == Refusal::Unheard;
        waits.then(|| self.detector.doubtful_at(beat_ns))
    }

    /// Its silence has lasted too long, or its host refuses what is sent to it.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.detector.suspected(now) || self.refusal.is_refused()
    }
}

/// The system view as every group sees it.
#[derive(Clone, Debug, Default)]
pub struct SystemView {
    /// Its number; 0: not in a system.
    pub number: u64,
    /// The processes, oldest first.
    pub members: Vec<MemberEntry>,
}

/// A packet of protocol messages, rows, channel frames: everything but stream data.
#[derive(Debug)]
pub struct Outgoing {
    /// Where to: one address, or all other members of a group.
    pub to: Target,
    /// The whole packet.
    pub packet: Vec<u8>,
}

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// To one process.
    Address(Address),
    /// To every other member of a group.
    Members(GroupId),
}

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// [`Config::longest_fragment`], and at most an eighth of the region.
    pub fragment: usize,
    /// All stream bytes.
    pub region: Region,
    /// The generator.
    pub random: Random,
    /// The time of the present call.
    pub now: Instant,
    /// This process in its system; zero before.
    pub me: ProcessId,
    /// The system; zero before.
    pub system: SystemId,
    /// The system view installed here.
    pub system_view: SystemView,
    /// Over a broken link: the address that is not reached, or does not reach this process, and that of a third which links both.
    pub detours: BTreeMap<Address, Address>,
    /// The other processes of it.
    pub peers: FewMap<ProcessId, Peer>,
    /// Counts the changes of which processes the peers are: what follows from that alone need not be worked out again
    /// before the next one.
    pub peers_epoch: u64,
    /// Some of them are of other sites.
    pub has_remote_peers: bool,
    /// When the system view was adopted.
    pub adopted_at: Instant,
    /// No lane to a peer has anything to send, or to wait for.
    pub lanes_at_rest: bool,
    /// Something came about that the pass over everything has perhaps gone by already.
    pub again: bool,
    /// Something came of bytes and rows of a group that concerns more than that group.
    pub beyond: bool,
    /// Births of all processes of the system view.
    pub births: FxHashMap<u64, ProcessId>,
    /// Frozen for want of a quorum.
    pub stalled: bool,
    /// The replicated directory.
    pub directory: Directory,
    /// Packets to send.
    pub outbox: VecDeque<Outgoing>,
    /// Room for them.
    pub buffers: Buffers,
    /// Events for the application.
    pub events: VecDeque<Pending>,
    /// The counters.
    pub counters: Counters,
    /// Directory operations delivered, for the endpoint to act on.
    pub outcomes: VecDeque<(Operation, Outcome)>,
    /// Processes of this site that shall be killed (option `hang`).
    pub kills: VecDeque<Nonce>,
    /// New processes of this site, perhaps never met: their deaths are to be told.
    pub watches: VecDeque<Nonce>,
    /// Numbers the point-to-point messages sent: that of the last one.
    pub unicast_number: u64,
    /// Numbers what waits to be sent, over all groups.
    pub places: u64,
    /// Processes that were in an earlier system view, with the first view without each.
    excluded: VecDeque<(ProcessId, u64)>,
    /// What this process knows of ABCASTs to several groups.
    pub multis: Multis,
    next_piece: u64,
}

impl Shared {
    /// For a process without a system.
    pub fn new(config: Config, region: Region, now: Instant) -> Shared {
        Shared {
            random: Random::new(config.seed ^ config.nonce.birth()),
            fragment: config.longest_fragment().min(region.limit() as usize * (CHUNK_SIZE / 8)),
            config,
            region,
            now,
            me: ProcessId::default(),
            system: SystemId::default(),
            system_view: SystemView::default(),
            detours: BTreeMap::new(),
            peers: FewMap::new(),
            peers_epoch: 1,
            has_remote_peers: false,
            adopted_at: now,
            lanes_at_rest: true,
            again: false,
            beyond: false,
            births: FxHashMap::default(),
            stalled: false,
            directory: Directory::default(),
            outbox: VecDeque::new(),
            buffers: Buffers::default(),
            events: VecDeque::new(),
            counters: Counters::default(),
            outcomes: VecDeque::new(),
            kills: VecDeque::new(),
            watches: VecDeque::new(),
            unicast_number: FIRST_UNICAST,
            places: 0,
            excluded: VecDeque::new(),
            multis: Multis::default(),
            next_piece: 0,
        }
    }

    /// Counts.
    pub fn count(&mut self, counter: Counter) {
        self.counters.add(counter, 1);
    }

    /// A system view was decided: the peers are those that it lists.
    pub fn adopt_system_view(&mut self, members: &[MemberEntry], number: u64) {
        let now = self.now;
        for gone in self.system_view.members.iter().filter(|old| !members.iter().any(|m| m.process == old.process)) {
            self.excluded.push_back((gone.process, number));
        }
        self.excluded.drain(..self.excluded.len().saturating_sub(KEPT_EXCLUDED));
        self.system_view = SystemView { number, members: members.to_vec() };
        self.adopted_at = now;
        self.peers_epoch += 1;
        self.peers.retain(|process, _| members.iter().any(|m| m.process == *process));
        for member in members.iter().filter(|m| m.nonce != self.config.nonce) {
            if member.site == self.config.site && !self.peers.contains_key(&member.process) {
                self.watches.push_back(member.nonce);
            }
            let (min, max) = (self.config.suspect_min_ns, self.config.suspect_max_ns);
            self.peers.or_insert_with(member.process, || Peer {
                entry: member.clone(),
                detector: Detector::new(now, min, max).announced(member.max_pause_ns),
                refusal: Refusal::default(),
                heard_at: now,
                direct_at: now,
                suspected: false,
                reported_dead: false,
                dead_here: false,
                received: Received::default(),
                sent: Sent::default(),
                lanes: [None, None, None],
                told_at: None,
                kill_asked_at: None,
            });
        }
        self.has_remote_peers = self.peers.values().any(|peer| peer.entry.site != self.config.site);
        self.detours.clear();
        self.births = members.iter().map(|m| (m.nonce.birth(), m.process)).collect();
    }

    /// A point-to-point message of `process` came.
    pub fn note_unicast(&mut self, process: ProcessId, number: u64) {
        if let Some(peer) = self.peers.get_mut(&process) {
            peer.received.note_came(number);
        }
    }

    /// A point-to-point message to `process` that waited will not go: nothing waits for it any more.
    pub fn give_up_unicast(&mut self, process: ProcessId, number: u64) {
        if let Some(peer) = self.peers.get_mut(&process) {
            peer.sent.give_up(number);
        }
    }

    /// It is delivered, or dropped for good: its sender is told at once.
    pub fn note_unicast_taken(&mut self, process: ProcessId, number: u64) {
        let now = self.now;
        if let Some(peer) = self.peers.get_mut(&process)
            && peer.received.note_delivered(number)
            && let Some(lane) = &mut peer.lanes[0]
        {
            lane.receiver.acknowledge_now(now);
            self.lanes_at_rest = false;
        }
    }

    /// It is in no system view from this one on. (Of whom nothing is known any more, or was never: that is long ago.)
    pub fn was_excluded_by(&self, process: ProcessId, view: u64) -> bool {
        let known = || self.excluded.iter().rev().find(|(gone, _)| *gone == process);
        !self.in_system(process) && known().is_none_or(|(_, at)| *at <= view)
    }

    /// Is in the installed system view.
    pub fn in_system(&self, process: ProcessId) -> bool {
        process == self.me || self.peers.contains_key(&process)
    }

    /// Is believed to have failed: silent for too long (other sites), or dead.
    pub fn suspected(&self, process: ProcessId) -> bool {
        match self.peers.get(&process) {
            None => process != self.me,
            Some(peer) => self.suspects(peer),
        }
    }

    /// The same of a peer.
    pub fn suspects(&self, peer: &Peer) -> bool {
        let silent = || peer.is_silent(self.now) && !mutant!(NeverSuspects);
        peer.reported_dead || (peer.entry.site != self.config.site && silent())
    }

    /// The processes of this site that are known dead here (R10).
    pub fn dead_here(&self) -> Vec<ProcessId> {
        self.peers.iter().filter(|(_, peer)| peer.dead_here).map(|(&process, _)| process).collect()
    }

    /// Is known dead, here or by the word of a process of its site; or is not in the system view.
    pub fn known_dead(&self, process: ProcessId) -> bool {
        process != self.me && self.peers.get(&process).is_none_or(|peer| peer.reported_dead)
    }

    /// A header of a packet of this process.
    pub fn header(&self, kind: PacketKind, group: GroupId, view: u64) -> Header {
        Header { kind, birth: self.config.nonce.birth(), system: self.system, group, view }
    }

    /// The largest datagram towards an address: a process of this site, or any other.
    pub fn datagram_to(&self, to: Address) -> usize {
        let local = self.peers.values().any(|peer| peer.entry.address == to && peer.entry.site == self.config.site);
        if local { self.config.datagram_local } else { self.config.datagram_network }
    }

    /// Sends a protocol message, in pieces if it is longer than a datagram.
    pub fn send(&mut self, to: Address, group: GroupId, view: u64, message: &Message) {
        let system = self.system;
        self.send_as(system, to, group, view, message);
    }

    /// As `send`, in the name of another system than the own (discovery, joining).
    pub fn send_as(&mut self, system: SystemId, to: Address, group: GroupId, view: u64, message: &Message) {
        let mut header = self.header(PacketKind::Message, group, view);
        header.system = system;
        let detour = self.detours.get(&to).copied();
        let room = match detour {
            Some(via) => self.datagram_to(to).min(self.datagram_to(via)) - RELAY_OVERHEAD,
            None => self.datagram_to(to),
        } - PIECE_OVERHEAD;
        // Most messages fit in one datagram: written where they stay.
        let mut writer = Writer { bytes: self.buffers.take(USUAL_MESSAGE) };
        packet::begin(&mut writer.bytes, &header);
        message.encode(&mut writer);
        let mut packet = writer.bytes;
        if packet.len() - HEADER <= room {
            packet::seal(&mut packet, &[]);
            return self.post(to, detour, packet);
        }
        let bytes = &packet[HEADER..];
        header.kind = PacketKind::Piece;
        self.next_piece += 1;
        let count = bytes.len().div_ceil(room);
        if count > usize::from(u16::MAX) {
            self.count(Counter::MessageTooLong);
            return;
        }
        for (index, piece) in bytes.chunks(room).enumerate() {
            let mut writer = Writer::new();
            PieceHeader { number: self.next_piece, index: index as u16, count: count as u16 }.write(&mut writer);
            let mut packet = Vec::with_capacity(PIECE_OVERHEAD + piece.len());
            packet::begin(&mut packet, &header);
            packet.extend_from_slice(&writer.bytes);
            packet.extend_from_slice(piece);
            packet::seal(&mut packet, &[]);
            self.post(to, detour, packet);
        }
    }

    /// Sends a packet directly and, over a broken link, also by a third process.
    fn post(&mut self, to: Address, detour: Option<Address>, packet: Vec<u8>) {
        if let Some(via) = detour {
            self.send_relay(via, to, &packet);
            self.count(Counter::DetoursSent);
        }
        self.outbox.push_back(Outgoing { to: Target::Address(to), packet });
    }

    /// Sends a packet for `to` to `via`.
    pub fn send_relay(&mut self, via: Address, to: Address, packet: &[u8]) {
        let view = self.system_view.number;
        let mut out = self.begin_packet(PacketKind::Relay, GroupId::SYSTEM, view, RELAY_OVERHEAD + packet.len());
        to.write(&mut out);
        out.bytes.extend_from_slice(packet);
        self.send_packet(Target::Address(via), out);
    }

    /// A packet whose body is to be written, and then given to [`send_packet`](Self::send_packet): room for so many bytes of it.
    pub fn begin_packet(&self, kind: PacketKind, group: GroupId, view: u64, room: usize) -> Writer {
        let mut out = Writer { bytes: self.buffers.take(HEADER + room) };
        packet::begin(&mut out.bytes, &self.header(kind, group, view));
        out
    }

    /// Sends a packet that was begun.
    pub fn send_packet(&mut self, to: Target, packet: Writer) {
        let mut packet = packet.bytes;
        packet::seal(&mut packet, &[]);
        self.outbox.push_back(Outgoing { to, packet });
    }

    /// Sends a packet with this body.
    pub fn send_body(&mut self, to: Target, kind: PacketKind, group: GroupId, view: u64, body: &[u8]) {
        let mut packet = self.buffers.take(HEADER + body.len());
        packet::begin(&mut packet, &self.header(kind, group, view));
        packet.extend_from_slice(body);
        packet::seal(&mut packet, &[]);
        self.outbox.push_back(Outgoing { to, packet });
    }

    /// An event without bytes to consume.
    pub fn emit(&mut self, event: Event) {
        self.events.push_back(Pending::One(event, None));
    }

    /// All memory for streams is in use.
    pub fn is_full(&self) -> bool {
        self.region.in_use() == self.region.limit()
    }

    /// The lane to a peer, made when first needed.
    pub fn lane(&mut self, process: ProcessId, lane: usize) -> Option<&mut Lane> {
        let max_message = self.config.max_message + (1 << 16);
        let local = self.config.site;
        let peer = self.peers.get_mut(&process)?;
        (self.lanes_at_rest, self.beyond) = (false, true);
        let frame = if peer.entry.site == local {
            self.config.datagram_local.min(self.config.datagram_network.max(8192))
        } else {
            self.config.datagram_network
        } - HEADER
            - 32;
        let most = self.config.datagram_local.max(self.config.datagram_network);
        Some(peer.lanes[lane].get_or_insert_with(|| {
            Box::new(Lane { sender: Sender::new(frame, CHANNEL_LIMIT), receiver: Receiver::new(most, max_message) })
        }))
    }
}
