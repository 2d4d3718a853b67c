//! The one transport that the runtime drives: UDP, the site link, and the choice between them.
//!
//! Towards a process of the same site a datagram goes over the site link until a UDP probe was answered, and again when
//! probes stay unanswered:
//!
//! ```text
//!              found                answered
//!  (unknown) ────────► link ──────────────────────► UDP
//!                       ▲    no answer for LAPSE_NS  │
//!                       └────────────────────────────┘
//! ```
//!
//! Everybody else is reached by UDP. Owned by one thread, which calls, each turn: `advance`, `receive_burst`,
//! `transmit_burst`, and `poll_site_event` until it gives none.

mod waker;

pub use waker::Waker;

use crate::fault::{FaultConfig, FaultInjector};
use crate::site::{RuntimeDirectory, SiteLink, SiteLinkEvent, StateFile, fnv128};
use crate::transport::{Capabilities, Datagram, Destination, TransmitReport, Transport};
use crate::udp::{DATAGRAM_MAX, MulticastConfig, UdpConfig, UdpTransport, source_towards};
use isis_wire::Address;
use rustix::event::epoll;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

pub use crate::site::Founding;

/// A UDP path within the site is asked this often while it works, …
const PROBE_NS: u64 = 1_000_000_000;
/// … from this often while it does not (doubling up to `PROBE_NS`), …
const PROBE_FIRST_NS: u64 = 5_000_000;
/// … and given up after this long without an answer.
const LAPSE_NS: u64 = 3_500_000_000;
/// How often the site link's descriptors are looked at, at most.
const LINK_TURN_NS: u64 = 20_000;
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
    /// Use UDP between processes of this site where it works; otherwise always the site link.
    pub local_udp: bool,
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

/// The path to one process of the site.
#[derive(Debug)]
struct LocalPath {
    nonce: u128,
    address: Address,
    found_ns: u64,
    /// It answered by UDP then; `None`: not, or too long ago.
    answered_ns: Option<u64>,
    probe_ns: u64,
    interval_ns: u64,
    number: u64,
}

/// UDP, the site link and the choice between them. One thread drives it.
#[derive(Debug)]
pub struct HostTransport {
    udp: UdpTransport,
    link: SiteLink,
    faults: Option<FaultInjector>,
    epoll: OwnedFd,
    waker: Waker,
    local_udp: bool,
    site_key: u128,
    state: Option<StateFile>,
    paths: Vec<LocalPath>,
    /// The addresses of `paths` that are reached over the link.
    linked: Vec<Address>,
    events: VecDeque<SiteEvent>,
    now_ns: u64,
    link_turn_ns: u64,
    changes_to_link: u64,
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
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| OpenError::at("epoll")(error.into()))?;
        let waker = Waker::new().map_err(OpenError::at("eventfd"))?;
        for descriptor in [link.epoll_fd(), waker.descriptor()] {
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
            epoll,
            waker,
            local_udp: config.local_udp,
            site_key,
            state,
            paths: Vec::new(),
            linked: Vec::new(),
            events: VecDeque::new(),
            now_ns: 0,
            link_turn_ns: 0,
            changes_to_link: 0,
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
        for path in &self.paths {
            let seconds = |then: u64| self.now_ns.saturating_sub(then) as f64 / 1e9;
            let state = match path.answered_ns {
                _ if !self.local_udp => "site link: UDP within the site is switched off".to_owned(),
                Some(then) => format!("UDP works both ways, confirmed {:.1} s ago", seconds(then)),
                None => format!(
                    "site link: UDP FAILS from {own:?} to {:?} or back: no answer to probe {} since {:.1} s",
                    path.address,
                    path.number,
                    seconds(path.found_ns)
                ),
            };
            let _ = writeln!(text, "process {:08x} of this site at {:?}: {state}", path.nonce as u32, path.address);
        }
        self.udp.path_report(&mut text);
        text
    }

    /// Puts all sockets into the epoll set; those that are in already stay.
    fn register_sockets(&mut self) {
        let epoll = &self.epoll;
        self.udp.descriptors(&mut |descriptor| {
            // Errors: it is in the set already, or the system is out of memory and polling by time goes on.
            let _ = epoll::add(epoll, descriptor, epoll::EventData::new_u64(0), epoll::EventFlags::IN);
        });
    }

    /// Looks at the link's descriptors and takes over what it tells.
    fn turn_link(&mut self) {
        // Each turn of the link is bounded; a flood on it must not keep this loop here.
        let _ = self.link.turn();
        while let Some(event) = self.link.poll_event() {
            self.events.push_back(match event {
                SiteLinkEvent::Found { nonce, address, system, uid, pid } => {
                    self.paths.push(LocalPath {
                        nonce,
                        address,
                        found_ns: self.now_ns,
                        answered_ns: None,
                        probe_ns: self.now_ns,
                        interval_ns: PROBE_FIRST_NS,
                        number: 0,
                    });
                    SiteEvent::PeerFound { nonce, address, system, uid, pid }
                }
                SiteLinkEvent::Died { nonce } => {
                    self.paths.retain(|path| path.nonce != nonce);
                    SiteEvent::PeerDied { nonce }
                }
                SiteLinkEvent::Incompatible { version } => SiteEvent::Incompatible { version },
            });
            self.choose_paths();
        }
    }

    /// Which processes of the site are reached over the link now.
    fn choose_paths(&mut self) {
        self.linked.clear();
        let unanswered = self.paths.iter().filter(|path| path.answered_ns.is_none());
        self.linked.extend(unanswered.map(|path| path.address));
    }

    /// Sends the probes that are due within the site; says when to call again.
    fn probe_paths(&mut self) -> Option<u64> {
        let now_ns = self.now_ns;
        let mut next: Option<u64> = None;
        let mut lapsed = 0;
        for path in self.paths.iter_mut().filter(|_| self.local_udp) {
            if path.answered_ns.is_some_and(|then| now_ns.saturating_sub(then) > LAPSE_NS) {
                path.answered_ns = None;
                path.interval_ns = PROBE_FIRST_NS;
                lapsed += 1;
            }
            if now_ns >= path.probe_ns {
                path.number += 1;
                self.udp.probe(path.address, path.number);
                path.probe_ns = now_ns + path.interval_ns;
                path.interval_ns = (path.interval_ns * 2).min(PROBE_NS);
            }
            next = Some(next.map_or(path.probe_ns, |next| next.min(path.probe_ns)));
        }
        if lapsed > 0 {
            self.changes_to_link += lapsed;
            self.choose_paths();
        }
        next
    }

    fn take_answers(&mut self) {
        while let Some(address) = self.udp.poll_found() {
            self.events.push_back(SiteEvent::SeedAdded { address });
            // Events are taken before datagrams; without this the loop might sleep over this one.
            self.waker.wake();
        }
        let mut changed = false;
        while let Some((from, number)) = self.udp.poll_heard() {
            let path = self.paths.iter_mut().find(|path| path.address == from && number + 3 >= path.number);
            if let Some(path) = path {
                changed |= path.answered_ns.is_none();
                path.answered_ns = Some(self.now_ns);
                path.interval_ns = PROBE_NS;
            }
        }
        if changed {
            self.choose_paths();
        }
    }

    /// Sends while some processes are reached over the link: sorts the destinations, a few datagrams at a time.
    fn transmit_split<'a>(&mut self, datagrams: &mut dyn Iterator<Item = Datagram<'a>>) -> TransmitReport {
        let mut report = TransmitReport::default();
        let mut rest: Vec<Address> = Vec::new();
        let mut by_udp: Vec<(Datagram<'a>, Option<std::ops::Range<usize>>)> = Vec::with_capacity(SPLIT);
        loop {
            rest.clear();
            by_udp.clear();
            let mut taken = 0;
            for datagram in (&mut *datagrams).take(SPLIT) {
                taken += 1;
                let HostTransport { link, linked, .. } = self;
                let mut by_link = |to: Address| {
                    let sent = link.send(to, datagram.header, datagram.payload);
                    report.sent += usize::from(sent);
                    report.dropped += usize::from(!sent);
                };
                match datagram.destination {
                    Destination::Unicast(to) if linked.contains(&to) => by_link(to),
                    Destination::Members { peers, .. } if peers.iter().any(|peer| linked.contains(peer)) => {
                        let begin = rest.len();
                        for peer in peers {
                            if linked.contains(peer) { by_link(*peer) } else { rest.push(*peer) }
                        }
                        by_udp.push((datagram, Some(begin..rest.len())));
                    }
                    Destination::Unicast(_) | Destination::Members { .. } => by_udp.push((datagram, None)),
                }
            }
            if taken == 0 {
                return report;
            }
            let mut sorted = by_udp.iter().map(|(datagram, range)| match (datagram.destination, range) {
                (Destination::Members { group, .. }, Some(range)) => {
                    Datagram { destination: Destination::Members { group, peers: &rest[range.clone()] }, ..*datagram }
                }
                _ => *datagram,
            });
            let sent = self.udp.transmit_burst(&mut sorted);
            report.add(TransmitReport { datagrams: taken, ..sent });
        }
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
        let HostTransport { udp, link, faults, .. } = self;
        let count = match faults {
            None => {
                let count = link.receive(budget, deliver);
                count + udp.receive_burst(budget - count, deliver)
            }
            Some(faults) => {
                let mut count = faults.release(budget, deliver);
                let left = budget - count;
                let mut pass = |from: Address, bytes: &[u8]| {
                    faults.pass(from, bytes, &mut |from, bytes| {
                        count += 1;
                        deliver(from, bytes);
                    });
                };
                let by_link = link.receive(left, &mut pass);
                udp.receive_burst(left - by_link, &mut pass);
                count
            }
        };
        self.take_answers();
        count
    }

    fn transmit_burst<'a>(&mut self, datagrams: &mut dyn Iterator<Item = Datagram<'a>>) -> TransmitReport {
        if self.ended {
            let datagrams = datagrams.count();
            return TransmitReport { datagrams, sent: 0, dropped: datagrams };
        }
        if self.linked.is_empty() { self.udp.transmit_burst(datagrams) } else { self.transmit_split(datagrams) }
    }

    fn advance(&mut self, now_ns: u64) -> Option<u64> {
        self.now_ns = now_ns;
        self.waker.clear();
        if self.ended {
            return None;
        }
        let mut next = self.link.advance(now_ns);
        if now_ns >= self.link_turn_ns || !self.linked.is_empty() || self.link.has_events() {
            self.link_turn_ns = now_ns + LINK_TURN_NS;
            self.turn_link();
        }
        for due in [self.probe_paths(), self.udp.advance(now_ns)].into_iter().flatten() {
            next = next.min(due);
        }
        if let Some(due) = self.faults.as_mut().and_then(|faults| faults.advance(now_ns)) {
            next = next.min(due);
        }
        Some(next)
    }

    fn descriptors(&self, visit: &mut dyn FnMut(BorrowedFd<'_>)) {
        visit(self.epoll_fd());
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut list = self.udp.counters();
        list.extend(self.link.counters());
        list.push(("local_changes_to_link", self.changes_to_link));
        list.push(("local_paths_link_now", self.linked.len() as u64));
        if let Some(faults) = &self.faults {
            list.extend(faults.counters());
        }
        list
    }
}
