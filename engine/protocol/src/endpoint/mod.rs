//! The face of the core. This file: commands, events, packets out. [`packets`]: what comes in. [`looking`]: finding a system.
//! [`system`]: founding and entering one, leaving it. [`quorum`]: losing it. [`founding`]: founding by a majority of sites.
//! [`joining`]: from a name to a member. [`client`]: multicasting without being one. [`multi`]: ABCASTs to several groups.
//! [`ahead`]: what comes too early. [`probes`]: whose address refuses datagrams. [`stir`]: what has to look at what
//! happened. [`drive`]: what is due. [`sending`]: multicasts. [`polling`]: events.

mod ahead;
mod causality;
mod channels;
mod client;
mod complete;
mod describe;
mod drive;
mod founding;
mod joining;
mod looking;
mod multi;
mod packets;
mod polling;
mod probes;
mod quorum;
mod sending;
mod stir;
mod system;

use crate::config::{Config, JoinOptions};
use crate::counters::Counter;
use crate::detector::PauseWatch;
use crate::event::{Kind, MessageId, Refused, SendOptions, SiteAnswer, SiteRequest};
use crate::few::FewMap;
use crate::group::Group;
use crate::group::transmit::DataPacket;
use crate::id::{GroupHandle, GroupId, Nonce, ProcessId, SiteKey};
use crate::pending::{Consume, Pending};
use crate::shared::{Shared, Target};
use crate::time::Instant;
use isis_memory::Region;
use isis_wire::{Address, packet};
use joining::Handle;
use looking::Looking;
pub use multi::MAX_GROUPS;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination<'a> {
    /// To one process.
    Unicast(Address),
    /// To every other member of a group: by one multicast, or to each address.
    Members {
        /// The group, from which a multicast address is derived.
        group: GroupId,
        /// The other members' addresses.
        peers: &'a [Address],
    },
}

/// A packet to send: `header` then `payload`, as one datagram.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Where to.
    pub destination: Destination<'a>,
    /// First part.
    pub header: &'a [u8],
    /// Second part: bytes of a stream, in place; may be empty.
    pub payload: &'a [u8],
}

/// Bytes that are sent before anything else is looked at: a usual datagram.
const LITTLE: u64 = 1_400;

/// A packet of the present burst: where to, its first part, and where in the region its second part lies.
type Planned = (Target, Vec<u8>, Option<(isis_memory::ChunkIndex, usize, usize)>);

/// Why an endpoint does nothing any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    Evicted,
    Closed,
}

/// One process in one system, with all its groups. A sans-I/O machine: after any `handle_*` or command, poll
/// `poll_transmit`, `poll_site_request` and `poll_event` until empty, and call `handle_timeout` at `poll_timeout`.
///
/// `now` must never go back. An endpoint belongs to one thread.
#[derive(Debug)]
pub struct Endpoint {
    shared: Shared,
    groups: FewMap<GroupId, Box<Group>>,
    handles: Vec<Handle>,
    /// What this process is a client of.
    clients: FewMap<GroupHandle, Box<client::Client>>,
    /// The highest number of a request as a client, per group that this process was a client of.
    client_numbers: BTreeMap<GroupId, u64>,
    looking: Looking,
    founding: founding::Founding,
    pieces: BTreeMap<(u64, u64), packets::Pieces>,
    site_requests: VecDeque<SiteRequest>,
    operations: VecDeque<crate::directory::Operation>,
    /// Nonces of processes of this site that are known dead.
    dead: BTreeSet<Nonce>,
    /// How many of them there were, and which peers, when it was last looked whom of the system view they are.
    deaths_noted: (usize, u64),
    watch: PauseWatch,
    quorum_at: Instant,
    /// When, and in which view, contact to a quorum was looked for last; `None`: somebody was heard since.
    quorum_seen: Option<(Instant, u64)>,
    /// Room for the times at which sites were heard.
    site_times: Vec<(Instant, SiteKey)>,
    /// Room for the groups that are gone through.
    group_ids: Vec<GroupId>,
    told_strangers_at: Instant,
    next_request: u64,
    next_flush: u64,
    /// The number of the last leave from each group: admissions by earlier requests are stale.
    left_requests: BTreeMap<GroupId, u64>,
    multicasts: multi::Multicasts,
    closing: Option<Instant>,
    ended: Option<Ended>,
    /// The packet that is taken is stream bytes or a row of the present view of this group, and nothing else.
    plain: Option<GroupId>,
    ahead: ahead::Ahead,
    early: Vec<(ProcessId, channels::Early)>,
    early_bytes: usize,
    consumed: Option<Consume>,
    /// The messages that the last one that was polled was the last of.
    finished: Option<Pending>,
    burst: Vec<Planned>,
    data: Vec<DataPacket>,
    /// Something happened that was not driven yet, and that everything has to look at.
    dirty: bool,
    /// Something happened in groups that are marked so, and concerns nothing else.
    stirred: bool,
    /// There may be such things: nothing goes on between the groups, or about this process.
    calm: bool,
    /// It may give events. Consumption alone gives none that cannot wait until the next turn, and so a loop that takes one message
    /// after the other drives once, not once for each.
    eventful: bool,
    /// The last call was a multicast, and its like may follow at once.
    permit: Option<sending::Permit>,
    /// There was nothing to send, and nothing happened since.
    quiet: bool,
    /// What `poll_timeout` found last; `None`: something may have changed since. Looking through all groups and peers is
    /// too much to do whenever a loop asks.
    deadline: Cell<Option<Option<Instant>>>,
}

impl Endpoint {
    /// A process that begins to look for a system at once.
    pub fn new(config: Config, region: Region, now: Instant) -> Endpoint {
        let watch = PauseWatch::new(now, config.suspect_min_ns / 2);
        let looking = Looking::new(&config, now);
        let mut endpoint = Endpoint {
            shared: Shared::new(config, region, now),
            groups: FewMap::new(),
            handles: Vec::new(),
            clients: FewMap::new(),
            client_numbers: BTreeMap::new(),
            looking,
            founding: founding::Founding::default(),
            pieces: BTreeMap::new(),
            site_requests: VecDeque::new(),
            operations: VecDeque::new(),
            dead: BTreeSet::new(),
            deaths_noted: (0, 0),
            watch,
            quorum_at: now,
            quorum_seen: None,
            site_times: Vec::with_capacity(8),
            group_ids: Vec::with_capacity(8),
            told_strangers_at: Instant::ZERO,
            next_request: 0,
            next_flush: 0,
            left_requests: BTreeMap::new(),
            multicasts: multi::Multicasts::default(),
            closing: None,
            ended: None,
            plain: None,
            ahead: ahead::Ahead::default(),
            early: Vec::new(),
            early_bytes: 0,
            consumed: None,
            finished: None,
            burst: Vec::new(),
            data: Vec::new(),
            dirty: true,
            stirred: false,
            calm: false,
            eventful: true,
            permit: None,
            quiet: false,
            deadline: Cell::new(None),
        };
        endpoint.read_record();
        endpoint
    }

    // --- handle_*: the world comes in ---------------------------------------------------------------------------

    /// A datagram came. Anything that is not a good packet of this system is counted and dropped.
    pub fn handle_packet(&mut self, now: Instant, from: Address, packet: &[u8]) {
        self.note(now);
        self.plain = None;
        if self.ended.is_none() {
            self.take_packet(from, packet);
        }
        match self.plain {
            Some(group) => {
                self.stir(group);
                self.eventful = true;
                if self.shared.has_remote_peers {
                    // Whoever was heard is doubted from then on.
                    self.deadline.set(None);
                }
            }
            None => self.touch(),
        }
    }

    /// The time that `poll_timeout` named has come (calling earlier or later is harmless).
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = self.is_due(now);
        self.note(now);
        if due {
            self.touch();
        }
        self.drive_due();
    }

    /// A process of this site is dead, for certain (pidfd or farewell; never a timeout).
    pub fn handle_death(&mut self, now: Instant, nonce: Nonce) {
        self.at(now);
        self.take_death(nonce);
    }

    /// A process of this site was found (site link), or an operator named an address: look there for a system.
    pub fn handle_peer(&mut self, now: Instant, address: Address) {
        self.at(now);
        self.looking.add_address(address);
        self.drive();
    }

    /// The answer to a [`SiteRequest`].
    pub fn handle_site_answer(&mut self, now: Instant, answer: SiteAnswer) {
        self.at(now);
        self.take_site_answer(answer);
    }

    /// The paths to other sites take datagrams of this many bytes from now on (`Config::datagram_network`). What is cut
    /// already keeps its size.
    pub fn set_datagram_network(&mut self, bytes: usize) {
        self.shared.config.datagram_network = bytes;
    }

    // --- commands of the application ------------------------------------------------------------------------------

    /// Joins the group of this name, or creates it. May be called before the system is joined. Complete with the first
    /// `Event::View` of the handle. A name longer than 255 bytes is `TooLong`; a group that this endpoint is in (or is
    /// joining) already is `AlreadyMember`.
    pub fn join(&mut self, now: Instant, name: &str, options: JoinOptions) -> Result<GroupHandle, Refused> {
        self.at(now);
        self.begin_join(name, options)
    }

    /// Leaves a group (or gives up joining it). Complete with `Event::Left`.
    pub fn leave(&mut self, now: Instant, group: GroupHandle) -> Result<(), Refused> {
        self.at(now);
        self.begin_leave(group)
    }

    /// Sends to one member, after everything that this process has delivered or multicast in the group. Gives the
    /// message's ticket.
    pub fn send(
        &mut self,
        now: Instant,
        group: GroupHandle,
        member: ProcessId,
        entry: u8,
        data: &[u8],
    ) -> Result<u64, Refused> {
        self.at(now);
        let debts = self.debts_before(group, Kind::Unicast, Some(member));
        if self.clients.contains_key(&group) {
            return self.send_as_client(group, member, entry, None, data, debts);
        }
        let (group, shared) = self.open(group)?;
        if group.rank_of(member).is_none() && !group.clients.is_registered(member) {
            return Err(Refused::NoSuchProcess);
        }
        group.send_to(shared, member, entry, None, data, debts)
    }

    /// Answers a message that was delivered in `group`: goes to its sender, as `send`.
    pub fn reply(&mut self, now: Instant, group: GroupHandle, to: MessageId, data: &[u8]) -> Result<u64, Refused> {
        self.at(now);
        let debts = self.debts_before(group, Kind::Reply, Some(to.sender));
        if self.clients.contains_key(&group) {
            return self.send_as_client(group, to.sender, 0, Some(to), data, debts);
        }
        let (group, shared) = self.open(group)?;
        if group.rank_of(to.sender).is_none() && !group.clients.is_registered(to.sender) {
            return Err(Refused::NoSuchProcess);
        }
        group.send_to(shared, to.sender, 0, Some(to), data, debts)
    }

    /// Asks for `Event::Flushed`, with the number returned, once all that this process multicast before is stable.
    pub fn flush(&mut self, now: Instant, group: GroupHandle) -> Result<u64, Refused> {
        self.at(now);
        let flush = self.next_flush + 1;
        if self.clients.contains_key(&group) {
            self.flush_as_client(group, flush)?;
        } else {
            let (group, _) = self.open(group)?;
            group.flush(flush);
        }
        self.next_flush = flush;
        Ok(flush)
    }

    /// Hands over the next bytes of the state captured for `transfer`; `done` with the last ones. `WouldBlock`: later
    /// (nothing was taken). An aborted transfer takes and drops everything. A block is at most 1 MiB.
    pub fn state_block(
        &mut self,
        now: Instant,
        group: GroupHandle,
        transfer: u64,
        block: &[u8],
        done: bool,
    ) -> Result<(), Refused> {
        self.at(now);
        let id = self.group_of(group).ok_or(Refused::NotMember)?;
        let group = self.groups.get_mut(&id).ok_or(Refused::NotMember)?;
        group.state_block(&mut self.shared, transfer, block, done)
    }

    /// Leaves all groups and the system. Complete with `Event::Closed`, after `linger_ns` at the latest.
    pub fn close(&mut self, now: Instant) {
        self.at(now);
        self.begin_close();
    }

    // --- poll_*: effects go out --------------------------------------------------------------------------------------

    /// Packets to send now: at most a burst; call again until it gives none. The slices are valid until the next call
    /// of any method that takes `&mut self`.
    pub fn poll_transmit(&mut self, now: Instant) -> impl ExactSizeIterator<Item = Transmit<'_>> {
        self.look(now);
        self.drive_due();
        if !self.burst.is_empty() {
            for (_, sent, _) in self.burst.drain(..) {
                self.shared.buffers.give(sent);
            }
        }
        if !self.quiet || !self.shared.outbox.is_empty() {
            self.plan_burst();
        }
        let region = &self.shared.region;
        let groups = &self.groups;
        self.burst.iter().map(move |(to, header, payload)| Transmit {
            destination: match to {
                Target::Address(address) => Destination::Unicast(*address),
                Target::Members(group) => Destination::Members {
                    group: *group,
                    peers: groups.get(group).map_or(&[], |group| group.peers.as_slice()),
                },
            },
            header,
            payload: payload.map_or(&[], |(chunk, offset, len)| region.bytes(chunk, offset..offset + len)),
        })
    }

    /// There is something to send, and so little that nothing is gained by what else might go with it.
    pub fn has_little_to_send(&self) -> bool {
        let unsent =
            || self.groups.values().filter(|group| group.unsent).map(|group| group.unsent_bytes()).sum::<u64>();
        !self.quiet && !self.dirty && unsent() <= LITTLE
    }

    /// What there is to send, into `burst`.
    fn plan_burst(&mut self) {
        let mut data = std::mem::take(&mut self.data);
        self.transmit_groups(&mut data);
        for outgoing in self.shared.outbox.drain(..) {
            self.burst.push((outgoing.to, outgoing.packet, None));
        }
        for mut out in data.drain(..) {
            let DataPacket { chunk, offset, len, .. } = out;
            if out.by_place {
                packet::seal(&mut out.header, &[]);
                self.burst.push((out.to, out.header, None));
            } else {
                packet::seal(&mut out.header, self.shared.region.bytes(chunk, offset..offset + len));
                self.burst.push((out.to, out.header, Some((chunk, offset, len))));
            }
        }
        self.data = data;
        self.shared.counters.add(Counter::PacketsSent, self.burst.len() as u64);
    }

    /// Plans what the groups that may have something have to send in this burst.
    fn transmit_groups(&mut self, data: &mut Vec<DataPacket>) {
        let mut sent: Option<GroupId> = None;
        let (mut several, mut news) = (false, false);
        self.quiet = true;
        for (&id, group) in self.groups.iter_mut().filter(|(_, group)| group.unsent) {
            let before = data.len();
            group.transmit(&mut self.shared, data);
            // Own messages that were published are deliverable now.
            let again = std::mem::take(&mut self.shared.again);
            if again || data.len() > before {
                several |= sent.replace(id).is_some();
                news |= again;
            }
            group.unsent = group.has_unsent(&self.shared);
            self.quiet &= !group.unsent;
        }
        match sent {
            Some(id) if !several && !news && self.note_sent(id) => {}
            Some(id) if !several && self.stir(id) => self.eventful = true,
            Some(_) => self.touch(),
            None if !self.shared.outbox.is_empty() => self.deadline.set(None),
            None => {}
        }
    }

    /// The next question for the site's record.
    pub fn poll_site_request(&mut self) -> Option<SiteRequest> {
        self.drive_due();
        let watch = self.shared.watches.pop_front().map(SiteRequest::Watch);
        watch
            .or_else(|| self.site_requests.pop_front())
            .or_else(|| self.shared.kills.pop_front().map(SiteRequest::Kill))
    }

    /// When `handle_timeout` wants to be called next; `None`: never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.dirty || self.stirred {
            return self.ended.is_none().then_some(self.shared.now);
        }
        self.known_deadline()
    }

    // --- getters -------------------------------------------------------------------------------------------------

    /// This process's identifier, once a system admitted it.
    pub fn process(&self) -> Option<ProcessId> {
        (self.shared.system_view.number > 0).then_some(self.shared.me)
    }

    /// No contact to a quorum: sends are refused with `WouldBlock`.
    pub fn is_stalled(&self) -> bool {
        self.shared.stalled
    }

    /// The named counters, in a fixed order.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut list = self.shared.counters.list();
        list.push(("chunks_in_use", u64::from(self.shared.region.in_use())));
        list.push(("chunks_borrowed_now", u64::from(self.shared.region.borrowed())));
        list
    }
}

/// What `multicast` and `commit` can send.
fn check_kind(options: SendOptions) -> Result<(), Refused> {
    if matches!(options.kind, Kind::Unicast | Kind::Reply) { Err(Refused::BadKind) } else { Ok(()) }
}
