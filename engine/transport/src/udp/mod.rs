//! UDP: batched system calls, unicast and multicast.
//!
//! One socket of its own per process sends everything and receives unicasts; so the source address of every datagram is
//! the sender's unicast address. Further sockets, on a port shared by all processes, receive multicasts. Read
//! `socket` (opening, options), `batch` (system calls), `multicast` (when to multicast), `path_mtu` (how long a datagram
//! may be), `discovery` (who else is there), `probe` (control datagrams), `errors` (what the network answers).
//!
//! Owned by one thread. What the network answers (refused, too long, no buffers, filtered) is counted and survived.

mod batch;
mod discovery;
mod errors;
mod multicast;
mod path_mtu;
mod probe;
mod socket;

pub use multicast::MulticastConfig;
pub(crate) use socket::{DATAGRAM_MAX, source_towards};

use crate::counters::counters;
use crate::transport::{Capabilities, Datagram, Destination, TransmitReport, Transport};
use arrayvec::ArrayVec;
use batch::{BATCH, ReceiveBatch, SendBatch, Transmission};
use discovery::Discovery;
use errors::{Answer, ErrorQueue};
use isis_wire::Address;
use multicast::GroupPaths;
use path_mtu::PathMtu;
use probe::{Kind, Probe};
use socket::UnicastSocket;
use socket2::Socket;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

/// Control datagrams taken from one burst, at most; more are dropped.
const CONTROL_MAX: usize = 128;
/// Answers that wait to be asked for, at most; more are dropped.
const HEARD_MAX: usize = 256;
/// Refusals that wait to be asked for, at most; more are dropped.
const REFUSED_MAX: usize = 64;
/// A call that fails for what the network answered to earlier datagrams is made again so often at most.
const ANSWERED_MAX: u32 = 8;
/// The self-tests are not looked at more often than this.
const LOOK_EVERY_NS: u64 = 5_000_000;
/// So many runs refused one after the other: no more are tried.
const REFUSALS_MAX: u32 = 8;
/// Multicast receive sockets, at most. Linux allows 20 groups on each by default.
const MULTICAST_SOCKETS_MAX: usize = 64;

/// How a [`UdpTransport`] is opened.
#[derive(Clone, Copy, Debug)]
pub struct UdpConfig {
    /// Where to receive; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Bytes of each socket's receive and send buffers; the system may give less.
    pub buffer: usize,
    /// Names this instance in self-tests; random.
    pub token: u64,
    /// How multicast is used.
    pub multicast: MulticastConfig,
    /// No datagram to other hosts shall be longer, in bytes.
    pub datagram_network: usize,
    /// Hand runs of datagrams to the kernel as one piece, and take them so (segmentation offload), where it can.
    pub in_runs: bool,
}

impl UdpConfig {
    /// The defaults: 8 MiB buffers, multicast where it works.
    pub fn new(listen: SocketAddr, token: u64) -> UdpConfig {
        let multicast = MulticastConfig::default();
        UdpConfig { listen, buffer: 8 << 20, token, multicast, datagram_network: DATAGRAM_MAX, in_runs: true }
    }
}

counters! {
    /// What happened on the UDP sockets.
    UdpCounters {
        /// Datagrams of the engine received.
        udp_received,
        /// Bytes in them.
        udp_received_bytes,
        /// Of these by multicast.
        udp_received_multicast,
        /// Own multicasts that came back.
        ignore_own_datagram,
        /// Datagrams that did not fit a buffer or came from no internet address.
        ignore_truncated,
        /// Control datagrams that were malformed or beyond the limit.
        ignore_control,
        /// Errors of receiving.
        udp_receive_errors,
        /// Transmissions handed to the kernel.
        udp_sent,
        /// Bytes in them.
        udp_sent_bytes,
        /// Of these by multicast.
        udp_sent_multicast,
        /// Calls of the kernel to send.
        udp_send_calls,
        /// Messages handed over by them: a transmission, or a run of transmissions as one piece.
        udp_send_messages,
        /// Runs that the kernel or the device did not take as one piece.
        udp_send_runs_refused,
        /// Transmissions dropped because the send buffer or the device's queue was full.
        udp_send_full,
        /// Transmissions larger than the path takes in one packet, sent in fragments.
        udp_sent_fragmented,
        /// Transmissions dropped as too long.
        udp_send_too_long,
        /// Transmissions dropped for want of a route, or by a filter.
        udp_send_unreachable,
        /// Transmissions dropped by other errors.
        udp_send_errors,
        /// A peer's port was closed (an ICMP answer).
        udp_refused,
        /// Groups whose multicast address could not be joined.
        multicast_join_errors,
        /// Multicast probes sent.
        multicast_probes_sent,
        /// Multicast probes of others answered.
        multicast_probes_answered,
        /// Announcements of this process, for others on this network to find it.
        announcements_sent,
        /// Announcements of strangers answered.
        announcements_answered,
        /// Probes sent to find out how long a datagram may be.
        size_probes_sent,
    }
}

/// A UDP transport of one process.
#[derive(Debug)]
pub struct UdpTransport {
    config: UdpConfig,
    unicast: UnicastSocket,
    own: Address,
    datagram_local: usize,
    /// Sending multicasts was prepared; otherwise fan-out only.
    can_multicast: bool,
    /// Runs are handed to the kernel as one piece.
    in_runs: bool,
    /// Runs that were refused since one was taken.
    refusals: u32,
    multicast: Vec<Socket>,
    groups: GroupPaths,
    discovery: Discovery,
    path_mtu: PathMtu,
    receive: ReceiveBatch,
    send: SendBatch,
    control: ArrayVec<(Address, Probe, bool), CONTROL_MAX>,
    /// Zeroes, to pad probes with.
    padding: Vec<u8>,
    /// Answers to this process's unicast probes: who, which number.
    heard: Vec<(Address, u64)>,
    now_ns: u64,
    /// When the self-tests are looked at next.
    look_ns: u64,
    errors: ErrorQueue,
    /// Addresses at which nobody receives, and what came back of datagrams to them.
    refused: VecDeque<(Address, Vec<u8>)>,
    counters: UdpCounters,
}

impl UdpTransport {
    /// Opens the sockets. Fails only if the unicast address cannot be had.
    pub fn open(config: UdpConfig) -> io::Result<UdpTransport> {
        let unicast = socket::open_unicast(config.listen, config.buffer)?;
        let can_multicast =
            config.multicast.enabled && socket::prepare_multicast(&unicast, config.multicast.hops).is_ok();
        if config.in_runs {
            // An old kernel refuses; nothing is lost by that.
            let _ = batch::receive_runs(unicast.socket.as_fd());
        }
        // Where it is refused, deaths on other hosts are found by silence alone.
        let _ = errors::enable(unicast.socket.as_fd(), unicast.v6);
        let own: Address = unicast.address.into();
        // Without an interface that is up there is no network to find others on.
        let network = unicast.interface.is_some_and(|interface| !interface.loopback);
        let announce_at = SocketAddr::new(config.multicast.discovery_address(unicast.v6), config.multicast.port);
        let announce_at = (can_multicast && network).then(|| Address::from(announce_at));
        let most = unicast.datagram_network.min(config.datagram_network);
        let loopback = crate::system::interface_of(Ipv4Addr::LOCALHOST.into()).and_then(|interface| interface.mtu);
        let send = SendBatch::new(unicast.v6, unicast.interface.map_or(0, |interface| interface.index));
        let mut udp = UdpTransport {
            own,
            datagram_local: loopback.map_or(DATAGRAM_MAX, |mtu| mtu.saturating_sub(48).clamp(512, DATAGRAM_MAX)),
            can_multicast,
            in_runs: config.in_runs,
            refusals: 0,
            multicast: Vec::new(),
            groups: GroupPaths::new(config.multicast, config.token),
            discovery: Discovery::new(announce_at, config.token),
            path_mtu: PathMtu::new(own, most, !network),
            receive: ReceiveBatch::new(),
            send,
            control: ArrayVec::new(),
            padding: vec![0; if network { most } else { 0 }],
            heard: Vec::new(),
            now_ns: 0,
            look_ns: 0,
            errors: ErrorQueue::new(),
            refused: VecDeque::new(),
            counters: UdpCounters::default(),
            unicast,
            config,
        };
        if announce_at.is_some() && udp.join_address(config.multicast.discovery_address(udp.unicast.v6)).is_none() {
            // It is heard by those who can, and answered by unicast.
            udp.counters.multicast_join_errors += 1;
        }
        Ok(udp)
    }

    /// This process belongs to `system`: its members need not be told of each other by multicast.
    pub fn set_system(&mut self, system: u128) {
        self.discovery.set_system(multicast::system_hash(system).max(1));
    }

    /// The next address of another host that announced itself there: look there for a system.
    pub fn poll_found(&mut self) -> Option<Address> {
        self.discovery.poll_found()
    }

    /// Receives the multicasts of `group` of `system`, and tries whether this process's own reach the others. Returns
    /// whether a new socket was opened (see [`Transport::descriptors`]). Joining again is harmless.
    pub fn join_group(&mut self, system: u128, group: u64) -> bool {
        if self.groups.contains(group) {
            self.leave_group(group);
        }
        let hash = multicast::system_hash(system);
        let address = self.config.multicast.address(self.unicast.v6, hash, group);
        let sockets = self.multicast.len();
        let shared = self.groups.sharing(address) > 0;
        let socket = if !self.can_multicast {
            None
        } else if shared {
            self.groups.socket_of(address)
        } else {
            let joined = self.join_address(address);
            self.counters.multicast_join_errors += u64::from(joined.is_none());
            joined
        };
        self.groups.insert(group, hash, address, socket);
        self.multicast.len() > sockets
    }

    /// Joins on the newest socket, or on a further one when that is full. `None`: multicast does not come in here.
    fn join_address(&mut self, address: IpAddr) -> Option<usize> {
        for (index, multicast) in self.multicast.iter().enumerate() {
            if socket::join(multicast, &self.unicast, address).is_ok() {
                return Some(index);
            }
        }
        if self.multicast.len() >= MULTICAST_SOCKETS_MAX {
            return None;
        }
        let opened = socket::open_multicast(&self.unicast, self.config.multicast.port, self.config.buffer).ok()?;
        if self.in_runs {
            let _ = batch::receive_runs(opened.as_fd());
        }
        socket::join(&opened, &self.unicast, address).ok()?;
        self.multicast.push(opened);
        Some(self.multicast.len() - 1)
    }

    /// No longer receives the multicasts of `group`.
    pub fn leave_group(&mut self, group: u64) {
        let Some(path) = self.groups.remove(group) else { return };
        if let Some(index) = path.socket
            && self.groups.sharing(path.address) == 0
            && let Some(multicast) = self.multicast.get(index)
        {
            let _ = socket::leave(multicast, &self.unicast, path.address);
        }
    }

    /// Asks the process at `to` to answer by UDP; the answer comes out of [`UdpTransport::poll_heard`].
    pub fn probe(&mut self, to: Address, number: u64) {
        let probe = Probe { kind: Kind::UnicastProbe, system_hash: 0, group: 0, token: self.config.token, number };
        self.send_control(to, &probe);
    }

    /// The next answer to a [`UdpTransport::probe`]: who, and the number of the probe.
    pub fn poll_heard(&mut self) -> Option<(Address, u64)> {
        self.heard.pop()
    }

    /// The next address whose host says that no process receives there, and as much of the datagram to it as came back. It is
    /// a hint: anybody can forge one, though hardly what was in the datagram.
    pub fn poll_refused(&mut self) -> Option<(Address, Vec<u8>)> {
        self.refused.pop_front()
    }

    /// `poll_refused` has something to tell.
    pub(crate) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Empties the error queue; says how many answers of the network were in it.
    fn take_answers(&mut self) -> usize {
        let UdpTransport { errors, refused, counters, path_mtu, unicast, now_ns, .. } = self;
        errors.take(unicast.socket.as_fd(), &mut |answer| match answer {
            Answer::Refused(address, quoted) => {
                counters.udp_refused += 1;
                if refused.len() < REFUSED_MAX {
                    refused.push_back((address, quoted.to_vec()));
                }
            }
            Answer::TooLong => path_mtu.handle_too_long(*now_ns),
            Answer::Other => {}
        })
    }

    /// Where others reach this process.
    pub fn local_address(&self) -> Address {
        self.own
    }

    /// For humans: which groups are multicast to, which are not and why.
    pub fn path_report(&self, text: &mut String) {
        self.groups.report(self.now_ns, text);
        self.path_mtu.report(text);
    }

    fn send_control(&mut self, to: Address, probe: &Probe) {
        if self.send.can_reach(to) {
            let bytes = probe.encode();
            let probe = Transmission { to, header: &bytes, payload: &[] };
            let _ = self.send.send(self.unicast.socket.as_fd(), &[probe], false);
        }
    }

    /// Answers probes and takes answers that the last burst brought.
    fn handle_control(&mut self) {
        for (from, probe, by_multicast) in std::mem::take(&mut self.control) {
            match probe.kind {
                Kind::MulticastProbe if by_multicast => {
                    if self.groups.handle_probe(self.now_ns, from, &probe)
                        && let Some(answer) = probe.answer()
                    {
                        self.send_control(from, &answer);
                        self.counters.multicast_probes_answered += 1;
                    }
                }
                Kind::UnicastProbe if !by_multicast => {
                    if let Some(answer) = probe.answer() {
                        self.send_control(from, &answer);
                    }
                }
                Kind::MulticastHeard => self.groups.handle_heard(self.now_ns, from, &probe),
                Kind::Announcement if by_multicast => {
                    if let Some(answer) = self.discovery.handle_announcement(&probe) {
                        self.send_control(from, &answer);
                        self.counters.announcements_answered += 1;
                    }
                }
                Kind::Announced if !by_multicast => self.discovery.handle_answer(from, &probe),
                Kind::SizeProbe if !by_multicast => {
                    if let Some(answer) = probe.answer() {
                        self.send_control(from, &answer);
                    }
                }
                Kind::SizeHeard if probe.token == self.config.token => {
                    self.path_mtu.handle_answer(self.now_ns, from, probe.number);
                }
                Kind::UnicastHeard if probe.token == self.config.token && self.heard.len() < HEARD_MAX => {
                    self.heard.push((from, probe.number));
                }
                _ => self.counters.ignore_control += 1,
            }
        }
    }

    /// Hands a batch to the kernel; every transmission is sent or counted as dropped.
    fn flush(&mut self, pending: &mut ArrayVec<Transmission<'_>, BATCH>, report: &mut TransmitReport) {
        if self.in_runs {
            batch::by_destination(pending);
        }
        let mut done = 0;
        let mut retried = false;
        let mut answered = 0;
        // Up to here each datagram goes by itself.
        let mut apart = 0;
        while done < pending.len() {
            let rest = &pending[done..if done < apart { apart } else { pending.len() }];
            let in_runs = self.in_runs && done >= apart;
            self.counters.udp_send_calls += 1;
            match self.send.send(self.unicast.socket.as_fd(), rest, in_runs) {
                Ok((sent, messages)) => {
                    let bytes: usize = rest[..sent].iter().map(Transmission::len).sum();
                    self.counters.udp_send_messages += messages as u64;
                    if messages < sent {
                        self.refusals = 0;
                    }
                    self.counters.udp_sent += sent as u64;
                    self.counters.udp_sent_bytes += bytes as u64;
                    report.sent += sent;
                    // Taking none without an error does not happen; if it did, this must not turn for ever.
                    done += sent.max(1);
                    retried = false;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) if !retried => retried = true,
                    // The answer to an earlier datagram, reported late: this one has not been tried yet.
                    code if code != Some(libc::EAGAIN) && answered < ANSWERED_MAX && self.take_answers() > 0 => {
                        answered += 1;
                    }
                    Some(libc::ECONNREFUSED) if !retried => retried = true,
                    Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => {
                        // The queue is full for the rest of the batch as well; repair will come back for it.
                        let left = pending.len() - done;
                        self.counters.udp_send_full += left as u64;
                        report.dropped += left;
                        break;
                    }
                    code if in_runs && batch::run(rest) > 1 => {
                        self.counters.udp_send_runs_refused += 1;
                        apart = done + batch::run(rest);
                        if matches!(code, Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP)) {
                            // The device cannot, or the kernel does not know runs; an old one also says so (EINVAL) of a path
                            // that takes shorter datagrams only.
                            self.refusals += 1;
                            self.in_runs = self.refusals < REFUSALS_MAX;
                        }
                        retried = false;
                    }
                    Some(libc::EMSGSIZE) => {
                        self.path_mtu.handle_too_long(self.now_ns);
                        if self.send_fragmented(&rest[0]) {
                            report.sent += 1;
                        } else {
                            self.counters.udp_send_too_long += 1;
                            report.dropped += 1;
                        }
                        done += 1;
                        retried = false;
                    }
                    code => {
                        match code {
                            Some(
                                libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EPERM | libc::EACCES,
                            ) => {
                                self.counters.udp_send_unreachable += 1;
                            }
                            _ => self.counters.udp_send_errors += 1,
                        }
                        report.dropped += 1;
                        done += 1;
                        retried = false;
                    }
                },
            }
        }
        pending.clear();
    }

    /// The path takes only smaller packets than was thought: rather in fragments than not at all.
    fn send_fragmented(&mut self, transmission: &Transmission<'_>) -> bool {
        socket::set_fragmentation(&self.unicast.socket, self.unicast.v6, true);
        let one = std::slice::from_ref(transmission);
        let sent = self.send.send(self.unicast.socket.as_fd(), one, false).is_ok();
        socket::set_fragmentation(&self.unicast.socket, self.unicast.v6, false);
        self.counters.udp_sent_fragmented += u64::from(sent);
        self.counters.udp_sent += u64::from(sent);
        sent
    }
}

impl Transport for UdpTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            local_address: self.own,
            datagram_local: self.datagram_local,
            datagram_network: self.path_mtu.current(),
            multicast: self.can_multicast,
        }
    }

    fn receive_burst(&mut self, budget: usize, deliver: &mut dyn FnMut(Address, &[u8])) -> usize {
        let UdpTransport { receive, control, counters, unicast, multicast, own, .. } = self;
        let own = *own;
        let mut answered = false;
        let mut delivered = 0;
        let sockets = std::iter::once((unicast.socket.as_fd(), false)).chain(
            // Also one that is in no group any more: what is left in it would keep a loop from sleeping.
            multicast.iter().map(|multicast| (multicast.as_fd(), true)),
        );
        for (socket, by_multicast) in sockets {
            // One socket may not take the whole budget for itself as long as others wait: two batches at most.
            for _ in 0..2 {
                if delivered >= budget {
                    break;
                }
                let wanted = (budget - delivered).min(BATCH);
                let received = receive.receive(socket, wanted, &mut |datagram| match datagram {
                    Some((from, _)) if from == own && by_multicast => counters.ignore_own_datagram += 1,
                    Some((from, bytes)) if bytes.starts_with(&probe::MAGIC) => {
                        let taken = Probe::decode(bytes)
                            .is_some_and(|probe| control.try_push((from, probe, by_multicast)).is_ok());
                        counters.ignore_control += u64::from(!taken);
                    }
                    Some((from, bytes)) => {
                        counters.udp_received += 1;
                        counters.udp_received_bytes += bytes.len() as u64;
                        counters.udp_received_multicast += u64::from(by_multicast);
                        delivered += 1;
                        deliver(from, bytes);
                    }
                    None => counters.ignore_truncated += 1,
                });
                match received {
                    Ok(count) if count == wanted => {}
                    Ok(_) => break,
                    Err(error) => {
                        match error.raw_os_error() {
                            Some(libc::EAGAIN | libc::EINTR) => {}
                            // The answer to a datagram; what came by itself is read the next time.
                            Some(
                                libc::ECONNREFUSED
                                | libc::EHOSTUNREACH
                                | libc::ENETUNREACH
                                | libc::EMSGSIZE
                                | libc::EACCES
                                | libc::EPROTO
                                | libc::ENOPROTOOPT
                                | libc::EOPNOTSUPP,
                            ) => answered = true,
                            _ => counters.udp_receive_errors += 1,
                        }
                        break;
                    }
                }
            }
        }
        if answered {
            self.take_answers();
        }
        if !self.control.is_empty() {
            self.handle_control();
        }
        delivered
    }

    fn transmit_burst<'a>(&mut self, datagrams: &mut dyn Iterator<Item = Datagram<'a>>) -> TransmitReport {
        let mut report = TransmitReport::default();
        let mut pending: ArrayVec<Transmission<'a>, BATCH> = ArrayVec::new();
        for datagram in datagrams {
            report.datagrams += 1;
            let Datagram { destination, header, payload } = datagram;
            let one;
            let peers = match destination {
                Destination::Unicast(to) => {
                    self.path_mtu.note(self.now_ns, &[to]);
                    one = [to];
                    &one[..]
                }
                Destination::Members { group, peers } => {
                    self.path_mtu.note(self.now_ns, peers);
                    let fits = datagram.len() <= self.unicast.datagram_network;
                    match self.groups.route(self.now_ns, group, peers).filter(|_| fits && self.can_multicast) {
                        Some(to) => {
                            self.counters.udp_sent_multicast += 1;
                            one = [to];
                            &one[..]
                        }
                        None => peers,
                    }
                }
            };
            for to in peers {
                if !self.send.can_reach(*to) {
                    self.counters.udp_send_unreachable += 1;
                    report.dropped += 1;
                    continue;
                }
                if pending.is_full() {
                    self.flush(&mut pending, &mut report);
                }
                pending.push(Transmission { to: *to, header, payload });
            }
        }
        self.flush(&mut pending, &mut report);
        report
    }

    fn advance(&mut self, now_ns: u64) -> Option<u64> {
        self.now_ns = now_ns;
        if now_ns < self.look_ns {
            return Some(self.look_ns);
        }
        // Probes fail with others' answers, too, and are not sent again.
        self.take_answers();
        let UdpTransport { groups, discovery, path_mtu, send, unicast, counters, padding, config, .. } = self;
        let socket = unicast.socket.as_fd();
        let mut send = |to, probe: Probe, size: usize| {
            let payload = &padding[..size.saturating_sub(probe::LENGTH)];
            let _ = send.send(socket, &[Transmission { to, header: &probe.encode(), payload }], false);
        };
        let mut next = None;
        if self.can_multicast {
            next = groups.advance(now_ns, &mut |to, probe| {
                counters.multicast_probes_sent += 1;
                send(to, probe, 0);
            });
        }
        let announce = discovery.advance(now_ns, &mut |to, probe| {
            counters.announcements_sent += 1;
            send(to, probe, 0);
        });
        let try_sizes = path_mtu.advance(now_ns, &mut |to, size| {
            counters.size_probes_sent += 1;
            let kind = Kind::SizeProbe;
            send(to, Probe { kind, system_hash: 0, group: 0, token: config.token, number: size as u64 }, size);
        });
        next = [next, announce, try_sizes].into_iter().flatten().min();
        self.look_ns = now_ns + LOOK_EVERY_NS;
        next.map(|next| next.max(self.look_ns))
    }

    fn descriptors(&self, visit: &mut dyn FnMut(BorrowedFd<'_>)) {
        visit(self.unicast.socket.as_fd());
        for multicast in &self.multicast {
            visit(multicast.as_fd());
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut list = self.counters.list();
        list.push(("multicast_paths_confirmed", self.groups.confirmed));
        list.push(("multicast_paths_lost", self.groups.lost));
        list.push(("multicast_paths_now", self.groups.confirmed_now()));
        list.push(("udp_datagram_network_now", self.path_mtu.current() as u64));
        list
    }
}
