//! The one transport that the runtime drives: shared memory, UDP, the site link, and the choice between them.
//!
//! Each process of the same site is reached by shared memory as soon as both ends have mapped each other's, before that and
//! where it cannot be had by UDP or the site link (see `paths`). Everybody else is reached by UDP. A multicast to a group with
//! members here and elsewhere is written once for those here, and sent once for the others.
//!
//! Owned by one thread, which calls, each turn: `advance`, `receive_burst`, `transmit_burst` (and once more before the others,
//! if a little waits), and `poll_site_event` until it gives none; and `prepare_sleep` before it sleeps.

mod paths;
mod waker;

pub use waker::Waker;

use crate::fault::{FaultConfig, FaultInjector};
use crate::shared_memory::{READERS_MAX, SharedMemory};
use crate::site::{RuntimeDirectory, SiteLink, SiteLinkEvent, StateFile, fnv128};
use crate::transport::{Capabilities, Datagram, Destination, TransmitReport, Transport};
use crate::udp::{DATAGRAM_MAX, MulticastConfig, UdpConfig, UdpTransport, source_towards};
use arrayvec::ArrayVec;
use isis_memory::Arena;
use isis_wire::Address;
use paths::{Paths, Route};
use rustix::event::epoll;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::site::Founding;

/// How often the site link's descriptors are looked at, at most.
const LINK_TURN_NS: u64 = 20_000;
/// How often the UDP sockets are looked at, at most, …
const UDP_TURN_NS: u64 = 20_000;
/// … when they brought nothing for this long and shared memory is in use.
const UDP_QUIET_NS: u64 = 1_000_000;
/// When they brought nothing for this long, not even a sign of life, no member is behind them: …
const UDP_DESERTED_NS: u64 = 200_000_000;
/// … then this often is enough.
const UDP_STRANGER_NS: u64 = 100_000;
/// Our log is offered again after this long to those that it could not be handed to.
const OFFER_NS: u64 = 5_000_000;
/// Datagrams sorted at a time while some go over the link.
const SPLIT: usize = 64;

/// How a [`HostTransport`] is opened. `HostConfig::new` gives the defaults.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// 128 random bits, new at every start of an instance. Never 0.
    pub nonce: u128,
    /// The runtime directory; `None`: `$XDG_RUNTIME_DIR/isis`, else `/tmp/isis-<uid>`.
    pub runtime_dir: Option<PathBuf>,
    /// The site's configured name and the directory of its durable record. Then the name alone is the site.
    pub named_site: Option<(String, PathBuf)>,
    /// Where to receive datagrams; port 0 takes a free one. `None`: the local address from which the first seed is
    /// reached, else 127.0.0.1. An unspecified address (0.0.0.0, ::) listens on all and announces that of the default route.
    pub listen: Option<SocketAddr>,
    /// Where to look for other sites.
    pub seeds: Vec<SocketAddr>,
    /// Bytes of each UDP socket's buffers; the system may give less.
    pub socket_buffer: usize,
    /// How multicast is used.
    pub multicast: MulticastConfig,
    /// No datagram to other hosts shall be longer, in bytes.
    pub datagram_network: usize,
    /// Hand runs of datagrams to the kernel as one piece, where it can take them.
    pub in_runs: bool,
    /// Use UDP between processes of this site where it works; otherwise the site link.
    pub local_udp: bool,
    /// Bytes of the log in shared memory by which processes of this site reach each other (rounded up to a power of two
    /// between 1 MiB and 1 GiB); `None`: they do not use shared memory.
    pub shared_memory: Option<usize>,
    /// Chunks that processes of this site read where they lie; `None`: what is sent to them is copied. Of no use without
    /// `shared_memory`.
    pub arena: Option<Arc<Arena>>,
    /// Processes of this site and user may kill this one when it hangs.
    pub allow_kill: bool,
    /// Faults injected into what is received.
    pub faults: Option<FaultConfig>,
}

impl HostConfig {
    /// The defaults for this instance.
    pub fn new(nonce: u128) -> HostConfig {
        HostConfig {
            nonce,
            runtime_dir: None,
            named_site: None,
            listen: None,
            seeds: Vec::new(),
            socket_buffer: 8 << 20,
            multicast: MulticastConfig::default(),
            datagram_network: DATAGRAM_MAX,
            in_runs: true,
            local_udp: true,
            shared_memory: Some(4 << 20),
            arena: None,
            allow_kill: false,
            faults: None,
        }
    }
}

/// What shall be written about a named site.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RecordChange {
    /// The record's new bytes; `None`: as they are.
    pub record: Option<Vec<u8>>,
    /// The calling process belongs to this system from now on (0: none); `None`: as before.
    pub own_system: Option<u128>,
}

/// Why a transport could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl OpenError {
    fn at(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> OpenError {
        let what = what.into();
        move |source| OpenError::System { what, source }
    }
}

/// What the site link tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SiteEvent {
    /// A process of this site was found. Look at `address` for a system.
    PeerFound {
        /// Its nonce.
        nonce: u128,
        /// Where it receives datagrams.
        address: Address,
        /// The system that it belonged to when it said hello; 0: none yet.
        system: u128,
        /// Its user.
        uid: u32,
        /// Its process number, as seen here (0: in another process namespace).
        pid: u32,
    },
    /// A process of this site is dead, for certain. Once per nonce (and once for each [`HostTransport::watch_process`] after that).
    PeerDied {
        /// Its nonce.
        nonce: u128,
    },
    /// An operator named an address, or a process of another host announced itself there: look there for a system.
    SeedAdded {
        /// The address.
        address: Address,
    },
    /// A process of this site speaks another version of the site link; it is left alone.
    Incompatible {
        /// Its version.
        version: u8,
    },
}

/// Shared memory, UDP, the site link and the choice between them. One thread drives it.
#[derive(Debug)]
pub struct HostTransport {
    udp: UdpTransport,
    link: SiteLink,
    faults: Option<FaultInjector>,
    memory: SharedMemory,
    epoll: OwnedFd,
    /// The UDP sockets alone, in the set of the other one.
    udp_epoll: OwnedFd,
    /// One of them is not in the set.
    udp_unwatched: bool,
    waker: Waker,
    site_key: u128,
    state: Option<StateFile>,
    paths: Paths,
    events: VecDeque<SiteEvent>,
    now_ns: u64,
    link_turn_ns: u64,
    /// When the UDP sockets are looked at next, and when they brought something last.
    udp_turn_ns: u64,
    udp_brought_ns: u64,
    /// When our log is offered next; `None`: all have it.
    offer_ns: Option<u64>,
    /// What `advance` said last.
    next_ns: u64,
    ended: bool,
}

impl HostTransport {
    /// Opens the sockets, enters the runtime directory and connects to the processes of the site.
    pub fn open(config: HostConfig) -> Result<HostTransport, OpenError> {
        let listen = config.listen.unwrap_or_else(|| {
            let ip = config.seeds.first().and_then(|seed| source_towards(*seed));
            SocketAddr::new(ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), 0)
        });
        let udp_config = UdpConfig {
            listen,
            buffer: config.socket_buffer,
            token: config.nonce as u64,
            multicast: config.multicast,
            datagram_network: config.datagram_network,
            in_runs: config.in_runs,
        };
        let udp = UdpTransport::open(udp_config)
            .or_else(|error| match config.listen {
                Some(_) => Err(error),
                // Not even loopback: the site link carries everything; the port still makes the address unique.
                None => UdpTransport::open(UdpConfig { listen: (Ipv4Addr::UNSPECIFIED, 0).into(), ..udp_config }),
            })
            .map_err(OpenError::at(format!("UDP at {listen}")))?;
        let directory = config.runtime_dir.unwrap_or_else(RuntimeDirectory::default_path);
        let link = SiteLink::open(&directory, config.nonce, udp.local_address(), config.allow_kill)
            .map_err(OpenError::at(format!("runtime directory {}", directory.display())))?;
        let new_epoll =
            || epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| OpenError::at("epoll")(error.into()));
        let (epoll, udp_epoll) = (new_epoll()?, new_epoll()?);
        let waker = Waker::new().map_err(OpenError::at("eventfd"))?;
        let memory = SharedMemory::new(config.shared_memory, config.arena).map_err(OpenError::at("eventfd"))?;
        for descriptor in [link.epoll_fd(), waker.descriptor(), memory.bell(), udp_epoll.as_fd()] {
            epoll::add(&epoll, descriptor, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
                .map_err(|error| OpenError::at("epoll")(error.into()))?;
        }
        let mut site_key = link.directory().site_key();
        let mut state = None;
        if let Some((name, directory)) = config.named_site {
            let what = format!("state directory {}", directory.display());
            state = Some(StateFile::open(&directory, &name, site_key).map_err(OpenError::at(what))?);
            site_key = fnv128(name.as_bytes()).max(1);
        }
        let mut host = HostTransport {
            udp,
            link,
            faults: config.faults.map(FaultInjector::new),
            memory,
            epoll,
            udp_epoll,
            udp_unwatched: false,
            waker,
            site_key,
            state,
            paths: Paths::new(config.local_udp),
            events: VecDeque::new(),
            now_ns: 0,
            link_turn_ns: 0,
            udp_turn_ns: 0,
            udp_brought_ns: 0,
            offer_ns: None,
            next_ns: 0,
            ended: false,
        };
        host.register_sockets();
        for seed in config.seeds {
            host.add_seed(seed);
        }
        Ok(host)
    }

    /// Where the others reach this process.
    pub fn local_address(&self) -> Address {
        self.udp.local_address()
    }

    /// 128 bits that all processes of this site compute alike, and no other process in the world. Never 0.
    pub fn site_key(&self) -> u128 {
        self.site_key
    }

    /// The canonical path of the runtime directory.
    pub fn runtime_dir(&self) -> &std::path::Path {
        self.link.directory().path()
    }

    /// One epoll descriptor that is readable when any of the sockets, process descriptors or the waker is.
    pub fn epoll_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Blocks until something is readable, the waker was used, or `timeout_ns` is over (`None`: for ever). May return
    /// early.
    pub fn wait(&mut self, timeout_ns: Option<u64>) {
        if !self.prepare_sleep() {
            return;
        }
        let timeout = timeout_ns.map(|timeout_ns| rustix::time::Timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as _,
            tv_nsec: (timeout_ns % 1_000_000_000) as _,
        });
        let mut ready = Vec::with_capacity(4);
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), timeout.as_ref());
        // Whatever woke us may have been the link.
        self.link_turn_ns = 0;
    }

    /// A handle by which other threads end [`HostTransport::wait`].
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What happened on the site, in order. Found by `advance`; cheap when nothing did.
    pub fn poll_site_event(&mut self) -> Option<SiteEvent> {
        self.events.pop_front()
    }

    /// A further address to look at; comes out as [`SiteEvent::SeedAdded`].
    pub fn add_seed(&mut self, seed: SocketAddr) {
        self.events.push_back(SiteEvent::SeedAdded { address: seed.into() });
    }

    /// A view names this process of this site: make sure that its death is told, even if it was never met here.
    pub fn watch_process(&mut self, nonce: u128) {
        self.link.watch(nonce);
    }

    /// Tests by the runtime directory whether a process of this site is dead for certain. Reads files: not for every turn.
    pub fn is_dead(&self, nonce: u128) -> bool {
        self.link.is_dead(nonce)
    }

    /// Kills a hung process of this site, if it consented, is of the same user, and a process descriptor of it is at hand;
    /// otherwise an error, of kind `PermissionDenied` without consent. Its death is told like any other.
    pub fn kill(&mut self, nonce: u128) -> std::io::Result<()> {
        self.link.kill(nonce)
    }

    /// See [`UdpTransport::poll_refused`].
    pub fn poll_refused(&mut self) -> Option<(Address, Vec<u8>)> {
        self.udp.poll_refused()
    }

    /// This process is a member of `group` of `system`: receive its multicasts, and find out whether own ones arrive.
    /// Until then, and for groups not joined, `Destination::Members` is one datagram to each.
    pub fn join_group(&mut self, system: u128, group: u64) {
        if self.udp.join_group(system, group) {
            self.register_sockets();
        }
    }

    /// No longer.
    pub fn leave_group(&mut self, group: u64) {
        self.udp.leave_group(group);
    }

    /// May this process found `system` here? `Granted`: the site's record says so now. An error of kind `WouldBlock`:
    /// another process holds the site's lock, ask again.
    pub fn found(&mut self, system: u128) -> std::io::Result<Founding> {
        let answer = self.link.found(system)?;
        if answer == Founding::Granted {
            self.udp.set_system(system);
        }
        Ok(answer)
    }

    /// Changes the durable record of a named site: under the site's locks, `change` gets the record and the system in which
    /// some live process of the site is (0: none); what it gives is on disk when this returns. Errors as `found`; without a
    /// named site `Unsupported`.
    pub fn change_record(
        &mut self,
        change: &mut dyn FnMut(&[u8], u128) -> std::io::Result<RecordChange>,
    ) -> std::io::Result<()> {
        let state = self.state.as_ref().ok_or(std::io::ErrorKind::Unsupported)?;
        let link = &mut self.link;
        state.update(|before| {
            let mut after = None;
            link.lives_in(&mut |system| {
                let changed = change(before, system)?;
                after = changed.record;
                Ok(changed.own_system)
            })?;
            Ok(after)
        })
    }

    /// This process belongs to `system` now: later processes of the site will look for that one. Errors as `found`.
    pub fn joined(&mut self, system: u128) -> std::io::Result<()> {
        self.udp.set_system(system);
        self.link.joined(system)
    }

    /// Says to the others of the site that this instance is dead, and gives its place in the directory up. Also done
    /// by dropping, but not in a forked child. Nothing is sent or received afterwards.
    pub fn farewell(&mut self) {
        self.link.farewell();
        self.ended = true;
    }

    /// For humans: which paths work, which do not, in which direction.
    pub fn path_report(&self) -> String {
        let mut text = String::new();
        let own = self.udp.local_address();
        let _ = writeln!(text, "{own:?}, runtime directory {}", self.runtime_dir().display());
        self.paths.report(self.now_ns, own, &mut text);
        self.udp.path_report(&mut text);
        text
    }

    /// Puts all UDP sockets into their epoll set; those that are in already stay.
    fn register_sockets(&mut self) {
        let HostTransport { udp, udp_epoll, udp_unwatched, .. } = self;
        udp.descriptors(&mut |descriptor| {
            match epoll::add(&*udp_epoll, descriptor, epoll::EventData::new_u64(0), epoll::EventFlags::IN) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                // Out of memory, or of watches: this one is looked at by time.
                Err(_) => *udp_unwatched = true,
            }
        });
    }

    /// Looks at the link's descriptors and takes over what it tells.
    fn turn_link(&mut self) {
        // Each turn of the link is bounded; a flood on it must not keep this loop here.
        let _ = self.link.turn();
        while let Some(event) = self.link.poll_event() {
            match event {
                SiteLinkEvent::Found { nonce, address, system, uid, pid } => {
                    self.paths.add(self.now_ns, nonce, address);
                    self.memory.add(nonce, address);
                    self.offer_ns = Some(self.now_ns);
                    self.events.push_back(SiteEvent::PeerFound { nonce, address, system, uid, pid });
                }
                SiteLinkEvent::Died { nonce, exited, pidfd } => {
                    self.paths.remove(nonce);
                    self.memory.remove(self.now_ns, nonce, exited, pidfd);
                    self.events.push_back(SiteEvent::PeerDied { nonce });
                }
                SiteLinkEvent::Incompatible { version } => self.events.push_back(SiteEvent::Incompatible { version }),
                SiteLinkEvent::Reconnected { nonce } => {
                    self.memory.offer_again(nonce);
                    self.offer_ns = Some(self.now_ns);
                }
                SiteLinkEvent::Memory { nonce, words, chunks, reader, descriptors } => {
                    // The other one does not write before it is told.
                    if self.memory.accept(nonce, (words, chunks), reader, descriptors)
                        && !self.link.say_reads(nonce, true)
                    {
                        self.memory.refuse(nonce);
                    }
                }
                SiteLinkEvent::Reads { nonce, reads } => self.memory.set_reads(nonce, reads),
            }
            self.paths.choose(&self.memory);
        }
    }

    /// Offers our log to those that do not have it yet; says when to call again.
    fn offer_memory(&mut self) -> Option<u64> {
        if self.offer_ns.is_some_and(|due| due <= self.now_ns) {
            let HostTransport { memory, link, .. } = self;
            let all = memory.offer(&mut |nonce, offer| link.hand_over(nonce, offer));
            self.offer_ns = (!all).then_some(self.now_ns + OFFER_NS);
        }
        self.offer_ns
    }

    fn take_answers(&mut self) {
        while let Some(address) = self.udp.poll_found() {
            self.events.push_back(SiteEvent::SeedAdded { address });
            // Events are taken before datagrams; without this the loop might sleep over this one.
            self.waker.wake();
        }
        let mut changed = false;
        while let Some((from, number)) = self.udp.poll_heard() {
            changed |= self.paths.handle_answer(self.now_ns, from, number);
        }
        if changed {
            self.paths.choose(&self.memory);
        }
    }

    /// Sends while some processes of the site are not reached by UDP: sorts the destinations, a few datagrams at a time.
    fn transmit_sorted<'a>(&mut self, datagrams: &mut dyn Iterator<Item = Datagram<'a>>) -> TransmitReport {
        let mut report = TransmitReport::default();
        let mut rest: Vec<Address> = Vec::new();
        let mut by_udp: ArrayVec<(Datagram<'a>, Option<Range<usize>>), SPLIT> = ArrayVec::new();
        let mut written = 0;
        loop {
            rest.clear();
            by_udp.clear();
            let mut taken = 0;
            for datagram in (&mut *datagrams).take(SPLIT) {
                taken += 1;
                let HostTransport { link, paths, memory, .. } = self;
                let peers = datagram.destination.peers();
                let begin = rest.len();
                let mut readers = 0;
                for peer in peers {
                    match paths.route(peer) {
                        Some(Route::Memory(bit)) => readers |= bit,
                        Some(Route::Link) => {
                            let sent = link.send(*peer, datagram.header, datagram.payload);
                            report.sent += usize::from(sent);
                            report.dropped += usize::from(!sent);
                        }
                        None => rest.push(*peer),
                    }
                }
                if readers != 0 {
                    let sent = memory.send(readers, datagram.header, datagram.payload);
                    report.sent += usize::from(sent);
                    report.dropped += usize::from(!sent);
                    written |= readers;
                }
                if rest.len() > begin {
                    let all = rest.len() - begin == peers.len();
                    by_udp.push((datagram, (!all).then_some(begin..rest.len())));
                }
            }
            if taken == 0 {
                break;
            }
            report.datagrams += taken;
            if by_udp.is_empty() {
                continue;
            }
            let mut sorted = by_udp.iter().map(|(datagram, range)| match (datagram.destination, range) {
                (Destination::Members { group, .. }, Some(range)) => {
                    Datagram { destination: Destination::Members { group, peers: &rest[range.clone()] }, ..*datagram }
                }
                _ => *datagram,
            });
            let sent = self.udp.transmit_burst(&mut sorted);
            report.add(TransmitReport { datagrams: 0, ..sent });
        }
        self.memory.ring(written);
        report
    }

    /// Datagrams of shared memory, handed to `deliver`.
    fn receive_memory(&mut self, budget: usize, deliver: &mut dyn FnMut(Address, &[u8])) -> usize {
        let mut refused = ArrayVec::<_, READERS_MAX>::new();
        let count = self.memory.receive(budget, deliver, &mut refused);
        for nonce in refused {
            // Its messages come over other paths then. If even this does not get away it is as if its network failed.
            let _ = self.link.say_reads(nonce, false);
            self.paths.choose(&self.memory);
        }
        count
    }

    /// This process is awake, all are reached by shared memory, and there is nothing to do but to read what is there.
    fn is_undisturbed(&self, now_ns: u64) -> bool {
        now_ns < self.link_turn_ns.min(self.next_ns).min(self.link.deadline())
            && !self.memory.is_armed()
            && !self.udp.has_refused()
            && !self.ended
            && self.faults.is_none()
            && self.events.is_empty()
            && self.paths.uses_memory()
            && !self.paths.uses_link()
            && !self.link.has_events()
    }

    /// Whether the UDP sockets are due: at every turn while they bring anything, else not at each, and only when one of them
    /// has something.
    fn is_udp_due(&mut self) -> bool {
        let due = self.now_ns >= self.udp_turn_ns || !self.paths.uses_memory();
        let quiet_ns = self.now_ns.saturating_sub(self.udp_brought_ns);
        if !due || quiet_ns <= UDP_QUIET_NS {
            return due;
        }
        let pause_ns = if quiet_ns > UDP_DESERTED_NS { UDP_STRANGER_NS } else { UDP_TURN_NS };
        self.udp_turn_ns = self.now_ns + pause_ns;
        if self.udp_unwatched {
            return true;
        }
        // One short call for all sockets, in place of a long one for each that finds nothing.
        let at_once = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut space = [const { MaybeUninit::<epoll::Event>::uninit() }; 1];
        epoll::wait(&self.udp_epoll, &mut space, Some(&at_once)).map_or(true, |(ready, _)| !ready.is_empty())
    }
}

impl Transport for HostTransport {
    fn capabilities(&self) -> Capabilities {
        let udp = self.udp.capabilities();
        Capabilities { datagram_local: udp.datagram_local.min(DATAGRAM_MAX), ..udp }
    }

    fn receive_burst(&mut self, budget: usize, deliver: &mut dyn FnMut(Address, &[u8])) -> usize {
        if self.ended {
            return 0;
        }
        let mut faults = self.faults.take();
        let mut count = 0;
        if let Some(faults) = &mut faults {
            count += faults.release(budget, deliver);
        }
        let mut deliver = |from: Address, bytes: &[u8]| match &mut faults {
            None => {
                count += 1;
                deliver(from, bytes);
            }
            Some(faults) => faults.pass(from, bytes, &mut |from, bytes| {
                count += 1;
                deliver(from, bytes);
            }),
        };
        let udp_due = self.is_udp_due();
        // Shared memory that is always full leaves the network its share.
        let share = if udp_due { budget / 4 } else { 0 };
        let mut left = budget;
        left -= self.link.receive(left, &mut deliver);
        left -= self.receive_memory(left.saturating_sub(share), &mut deliver);
        if udp_due && self.udp.receive_burst(left, &mut deliver) > 0 {
            (self.udp_turn_ns, self.udp_brought_ns) = (0, self.now_ns);
        }
        self.faults = faults;
        self.take_answers();
        count
    }

    fn transmit_burst<'a>(&mut self, datagrams: &mut dyn Iterator<Item = Datagram<'a>>) -> TransmitReport {
        if self.ended {
            let datagrams = datagrams.count();
            return TransmitReport { datagrams, sent: 0, dropped: datagrams };
        }
        if self.paths.all_by_udp() { self.udp.transmit_burst(datagrams) } else { self.transmit_sorted(datagrams) }
    }

    fn advance(&mut self, now_ns: u64) -> Option<u64> {
        self.now_ns = now_ns;
        self.waker.clear();
        if self.is_undisturbed(now_ns) {
            return Some(self.next_ns);
        }
        if self.ended {
            return None;
        }
        if self.memory.disarm() {
            // Whatever ended the sleep may have been any of these.
            (self.link_turn_ns, self.udp_turn_ns) = (0, 0);
        }
        self.link.advance(now_ns);
        if now_ns >= self.link_turn_ns || self.paths.uses_link() || self.link.has_events() {
            self.link_turn_ns = now_ns + LINK_TURN_NS;
            self.turn_link();
        }
        let mut next = self.link.deadline();
        let HostTransport { paths, udp, memory, .. } = self;
        let (probe, lapsed) = paths.advance(now_ns, &mut |address, number| udp.probe(address, number));
        if lapsed {
            paths.choose(memory);
        }
        let release = memory.release(now_ns);
        for due in [probe, udp.advance(now_ns), release, self.offer_memory()].into_iter().flatten() {
            next = next.min(due);
        }
        if let Some(due) = self.faults.as_mut().and_then(|faults| faults.advance(now_ns)) {
            next = next.min(due);
        }
        self.next_ns = next;
        Some(next)
    }

    fn is_silent(&self, now_ns: u64) -> bool {
        self.is_undisturbed(now_ns) && now_ns < self.udp_turn_ns && self.memory.is_silent()
    }

    fn prepare_sleep(&mut self) -> bool {
        self.ended || self.memory.arm()
    }

    fn descriptors(&self, visit: &mut dyn FnMut(BorrowedFd<'_>)) {
        visit(self.epoll_fd());
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut list = self.udp.counters();
        list.extend(self.link.counters());
        list.extend(self.memory.counters());
        list.push(("local_changes_to_link", self.paths.changes_to_link));
        list.push(("local_paths_link_now", self.paths.links() as u64));
        if let Some(faults) = &self.faults {
            list.extend(faults.counters());
        }
        list
    }
}
