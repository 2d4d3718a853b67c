//! The site link: connections between all processes of a site, and what they are good for.
//!
//! Every instance listens on `<nonce>.sock` in the runtime directory. A newcomer connects to all sockets that it finds
//! there; since its own socket is in place before it looks, of two newcomers at least one finds the other. Both may:
//! a pair then has two connections, which does no harm.
//!
//! Death is told once per nonce, and only when certain: its notice rang and all its threads exit, or its process descriptor
//! reports the exit, or a FAREWELL came, or the lock of its process file is free. A connection that hangs up only leads to these tests, since
//! a live process may have lost its descriptors, and a forked child may keep those of a dead one open.
//!
//! Owned by one thread; nothing blocks. Reading is bounded per call, the queue of data by `INBOX_MAX`.

mod connecting;
mod deaths;
mod kill;
mod notices;

use super::directory::{RuntimeDirectory, from_hex, hex};
use super::exit_notice::ExitNotice;
use super::message::{self, Hello, Message, Misunderstood};
use super::process_file::{self, Life, OtherFile, ProcessFile};
use super::search::Searches;
use super::site_record::{self, Founding};
use super::socket::{self, Descriptors, SUFFIX as SOCKET};
use crate::counters::counters;
use crate::shared_memory::Offer;
use crate::system;
use isis_wire::Address;
use notices::Notice;
use rustix::event::epoll;
use rustix::net;
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A record is read up to this length: the largest datagram and the heading fit.
const RECORD_MAX: usize = 66_000;
/// Records read from one connection in one go; the others come next time.
const RECORDS_PER_CALL: usize = 64;
/// Descriptors handled in one turn; the others come in the next.
const EVENTS_PER_TURN: usize = 64;
/// Bytes of data that wait for `receive`; more are dropped.
const INBOX_MAX: usize = 4 << 20;
/// Send buffer of a connection.
const SEND_BUFFER: usize = 1 << 20;
/// The directory is searched again after this long at first (doubling) …
const SEARCH_FIRST_NS: u64 = 5_000_000;
/// … and after this long in the end: for the case that a newcomer could not reach us.
const SEARCH_LAST_NS: u64 = 1_000_000_000;
/// How often a peer without a connection or process descriptor, or a watched one, is tested for death.
const TEST_NS: u64 = 20_000_000;
/// The files of a dead process are removed after this long.
const CLEAN_NS: u64 = 10_000_000;
/// A connection without a HELLO is closed after this long.
const HELLO_NS: u64 = 5_000_000_000;
/// Dead nonces remembered, so that late connections do not revive them.
const DEAD_MAX: usize = 4_096;

/// Epoll tokens: the kind in the upper half, a connection's or peer's number in the lower.
const TOKEN_LISTENER: u64 = 0;
const TOKEN_CONNECTION: u64 = 1 << 32;
const TOKEN_PROCESS: u64 = 2 << 32;
const TOKEN_NOTICE: u64 = 3 << 32;

counters! {
    /// What happened on the link.
    LinkCounters {
        /// Peers found.
        site_peers_found,
        /// Peers known dead: by their notice, when they had begun to exit.
        site_deaths_by_notice,
        /// By their process descriptor.
        site_deaths_by_exit,
        /// By their FAREWELL.
        site_deaths_by_farewell,
        /// By their process file.
        site_deaths_by_file,
        /// Notices that rang though the process went on: the thread ended that drove its link.
        site_notices_unclear,
        /// The system gives no io_uring, and so no notice of the own exit.
        site_notice_refused,
        /// Searches of the directory for new processes; those that were spared, since nothing had changed there.
        site_searches,
        site_searches_spared,
        /// Connections that hung up.
        site_hang_ups,
        /// Hung peers killed.
        site_kills,
        /// Kills that were not allowed, or not possible.
        site_kills_refused,
        /// Connections refused: another user's process.
        ignore_foreign_user,
        /// Messages that were malformed or too long.
        ignore_link_message,
        /// Messages of another version.
        ignore_link_version,
        /// Errors of the link's system calls.
        site_errors,
        /// Datagrams received over the link.
        link_received,
        /// Datagrams dropped because too many wait to be received.
        link_inbox_full,
        /// Datagrams sent over the link.
        link_sent,
        /// Datagrams dropped because the other end reads too slowly.
        link_send_full,
        /// Datagrams dropped because there is no connection.
        link_send_unconnected,
    }
}

/// What the link tells.
#[derive(Debug)]
pub(crate) enum SiteLinkEvent {
    Found {
        nonce: u128,
        address: Address,
        system: u128,
        uid: u32,
        pid: u32,
    },
    Died {
        nonce: u128,
        /// It was seen to end, or said so itself.
        exited: bool,
        /// Its process descriptor, if there was one.
        pidfd: Option<OwnedFd>,
    },
    Incompatible {
        version: u8,
    },
    /// There is a further connection with this peer, or one less: what was under way on one that hung up is lost.
    Reconnected {
        nonce: u128,
    },
    /// A peer handed its log over: its length, the chunks of its arena, our number among its readers, log, bell and arena.
    Memory {
        nonce: u128,
        words: u64,
        chunks: u32,
        reader: u32,
        descriptors: Descriptors,
    },
    /// A peer reads our log and arena from now on, or does no longer.
    Reads {
        nonce: u128,
        reads: bool,
    },
}

#[derive(Debug)]
struct Connection {
    number: u32,
    fd: OwnedFd,
    /// Known since its HELLO (or, for those that this end opened, since the directory named it).
    nonce: Option<u128>,
    greeted: bool,
    opened_ns: u64,
    credentials: system::Credentials,
    /// Moves to the peer at the HELLO.
    pidfd: Option<OwnedFd>,
}

#[derive(Debug)]
struct Peer {
    number: u32,
    nonce: u128,
    address: Address,
    pidfd: Option<OwnedFd>,
    file: Option<OtherFile>,
    notice: Notice,
    /// When its process started, if its threads can be seen.
    start: Option<u64>,
    connections: u32,
    /// What it said, and who it is: see `kill`.
    allow_kill: bool,
    credentials: system::Credentials,
}

/// One instance's end of the site link.
pub(crate) struct SiteLink {
    directory: RuntimeDirectory,
    file: ProcessFile,
    own: Hello,
    listener: OwnedFd,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    peers: Vec<Peer>,
    /// Processes that the caller wants to hear the death of, and that are not connected.
    watched: Vec<u128>,
    dead: VecDeque<u128>,
    events: VecDeque<SiteLinkEvent>,
    inbox: VecDeque<(Address, Vec<u8>)>,
    inbox_bytes: usize,
    record: Vec<u8>,
    next_number: u32,
    now_ns: u64,
    search_ns: u64,
    search_interval_ns: u64,
    searches: Searches,
    test_ns: u64,
    /// Made at the first turn.
    notice: Option<ExitNotice>,
    /// When those are looked at next whose notices rang.
    look_ns: u64,
    /// Dead processes whose files are to be removed, and when.
    left_behind: Vec<u128>,
    clean_ns: u64,
    /// The process that opened it: a forked child's copy does nothing.
    owner: u32,
    ended: bool,
    counters: LinkCounters,
}

impl SiteLink {
    /// Enters the runtime directory and connects to everybody in it.
    pub(crate) fn open(path: &Path, nonce: u128, address: Address, allow_kill: bool) -> io::Result<SiteLink> {
        let directory = RuntimeDirectory::open(path)?;
        for name in directory.names(process_file::SUFFIX)? {
            if let Some(nonce) = from_hex(&name) {
                process_file::remove_stale(&directory, nonce);
            }
        }
        let file = ProcessFile::create(&directory, nonce)?;
        let listener = socket::listen(&directory, nonce)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(TOKEN_LISTENER), epoll::EventFlags::IN)?;
        let mut link = SiteLink {
            directory,
            file,
            own: Hello { nonce, system: 0, address, allow_kill },
            listener,
            epoll,
            connections: Vec::new(),
            peers: Vec::new(),
            watched: Vec::new(),
            dead: VecDeque::new(),
            events: VecDeque::new(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            record: vec![0; RECORD_MAX],
            next_number: 0,
            now_ns: 0,
            search_ns: 0,
            search_interval_ns: SEARCH_FIRST_NS,
            searches: Searches::default(),
            test_ns: 0,
            notice: None,
            look_ns: u64::MAX,
            left_behind: Vec::new(),
            clean_ns: u64::MAX,
            owner: std::process::id(),
            ended: false,
            counters: LinkCounters::default(),
        };
        link.search();
        Ok(link)
    }

    pub(crate) fn directory(&self) -> &RuntimeDirectory {
        &self.directory
    }

    /// Readable when [`SiteLink::turn`] has something to do.
    pub(crate) fn epoll_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Handles what the descriptors report now. Says whether there was anything.
    pub(crate) fn turn(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut space = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_PER_TURN];
        let Ok((ready, _)) = epoll::wait(&self.epoll, &mut space, Some(&now)) else { return false };
        for event in &*ready {
            let token = event.data.u64();
            let number = token as u32;
            match token & !0xffff_ffff {
                TOKEN_LISTENER => self.accept(),
                TOKEN_CONNECTION => self.read(number),
                TOKEN_NOTICE => self.on_ring(number),
                _ => self.on_exit(number),
            }
        }
        !ready.is_empty()
    }

    /// Searches the directory and tests for deaths when it is time.
    pub(crate) fn advance(&mut self, now_ns: u64) {
        if self.now_ns == 0 {
            // What was opened before the first call, when nobody had said what time it is, is not old.
            for connection in &mut self.connections {
                connection.opened_ns = now_ns;
            }
            self.searches.forget();
            self.make_notice();
        }
        self.now_ns = now_ns;
        if self.ended {
            return;
        }
        self.look_at_exits();
        if now_ns >= self.search_ns {
            if self.search() {
                // Somebody was too busy to accept: again soon.
                self.search_interval_ns = SEARCH_FIRST_NS;
            }
            self.search_ns = now_ns + self.search_interval_ns;
            self.search_interval_ns = (self.search_interval_ns * 2).min(SEARCH_LAST_NS);
            self.close_silent();
        }
        if now_ns >= self.clean_ns {
            self.clean();
        }
        if now_ns >= self.test_ns {
            self.test_ns = now_ns + TEST_NS;
            self.test_unconnected();
        }
    }

    /// When to call `advance` again: after `turn`, which may bring it forward.
    pub(crate) fn deadline(&self) -> u64 {
        if self.ended {
            return u64::MAX;
        }
        let testing = !self.watched.is_empty() || self.peers.iter().any(Peer::needs_tests);
        let due = if testing { self.search_ns.min(self.test_ns) } else { self.search_ns };
        due.min(self.look_ns).min(self.clean_ns)
    }

    pub(crate) fn poll_event(&mut self) -> Option<SiteLinkEvent> {
        self.events.pop_front()
    }

    /// There is something to tell, or to hand over.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.inbox.is_empty()
    }

    /// Hands over at most `budget` datagrams that came over the link.
    pub(crate) fn receive(&mut self, budget: usize, deliver: &mut dyn FnMut(Address, &[u8])) -> usize {
        let mut count = 0;
        while count < budget
            && let Some((from, bytes)) = self.inbox.pop_front()
        {
            self.inbox_bytes -= bytes.len();
            deliver(from, &bytes);
            count += 1;
        }
        count
    }

    /// Sends a datagram to the peer with this address. `false`: dropped.
    pub(crate) fn send(&mut self, to: Address, header: &[u8], payload: &[u8]) -> bool {
        let nonce = self.peers.iter().find(|peer| peer.address == to).map(|peer| peer.nonce);
        let Some(connection) = nonce.and_then(|nonce| self.connection_to(nonce)) else {
            self.counters.link_send_unconnected += 1;
            return false;
        };
        match socket::send(connection.fd.as_fd(), &[&message::data_heading(), header, payload]) {
            Ok(()) => {
                self.counters.link_sent += 1;
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.counters.link_send_full += 1;
                false
            }
            Err(_) => {
                self.counters.link_send_unconnected += 1;
                false
            }
        }
    }

    /// Hands this process's log to a peer. `false`: not now.
    pub(crate) fn hand_over(&self, nonce: u128, offer: &Offer<'_>) -> bool {
        let Ok(reader) = u8::try_from(offer.reader) else { return false };
        self.connection_to(nonce).is_some_and(|connection| {
            let record = message::memory(offer.words, offer.chunks, reader);
            socket::send_descriptors(connection.fd.as_fd(), &record, &offer.descriptors).is_ok()
        })
    }

    /// Says to a peer whether its log is read here. `false`: it did not get away.
    pub(crate) fn say_reads(&self, nonce: u128, reads: bool) -> bool {
        let record = if reads { message::mapped() } else { message::unmapped() };
        self.connection_to(nonce).is_some_and(|connection| socket::send(connection.fd.as_fd(), &[&record]).is_ok())
    }

    fn connection_to(&self, nonce: u128) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.greeted && connection.nonce == Some(nonce))
    }

    /// The caller wants to hear of this process's death even if it never was connected.
    pub(crate) fn watch(&mut self, nonce: u128) {
        if nonce == self.own.nonce || self.watched.contains(&nonce) {
            return;
        }
        if self.left_behind.contains(&nonce) {
            self.events.push_back(SiteLinkEvent::Died { nonce, exited: false, pidfd: None });
        } else if self.peers.iter().all(|peer| peer.nonce != nonce) {
            self.watched.push(nonce);
            self.test_ns = self.now_ns;
        }
    }

    /// Whether the process is dead for certain.
    pub(crate) fn is_dead(&self, nonce: u128) -> bool {
        match self.peers.iter().find(|peer| peer.nonce == nonce) {
            Some(peer) => peer.is_dead(),
            None if self.left_behind.contains(&nonce) => true,
            None => nonce != self.own.nonce && process_file::test(&self.directory, nonce) == Life::Dead,
        }
    }

    pub(crate) fn found(&mut self, system: u128) -> io::Result<Founding> {
        let answer = site_record::found(&self.directory, &self.file, self.own.nonce, system)?;
        if answer == Founding::Granted {
            self.own.system = system;
        }
        Ok(answer)
    }

    pub(crate) fn joined(&mut self, system: u128) -> io::Result<()> {
        self.own.system = system;
        site_record::joined(&self.directory, &self.file, system)
    }

    /// Calls `bind` with the system in which some live process of the site is, and writes down what it gives as this one's.
    pub(crate) fn lives_in(&mut self, bind: &mut dyn FnMut(u128) -> io::Result<Option<u128>>) -> io::Result<()> {
        let mut bound = None;
        site_record::lives_in(&self.directory, &self.file, &mut |system| {
            bound = bind(system)?;
            Ok(bound)
        })?;
        self.own.system = bound.unwrap_or(self.own.system);
        Ok(())
    }

    /// Says FAREWELL to everybody and leaves the directory. Idempotent.
    pub(crate) fn farewell(&mut self) {
        if self.ended || self.owner != std::process::id() {
            return;
        }
        self.ended = true;
        self.clean();
        // The file first: whoever sees the hang-up without the FAREWELL finds the lock free.
        self.directory.remove(&format!("{}{SOCKET}", hex(self.own.nonce)));
        self.file.end(&self.directory);
        for connection in std::mem::take(&mut self.connections) {
            let _ = socket::send(connection.fd.as_fd(), &[&message::farewell()]);
            let _ = epoll::delete(&self.epoll, &connection.fd);
            // A forked child may hold the descriptor: shut the connection itself.
            let _ = net::shutdown(&connection.fd, net::Shutdown::Write);
        }
        for peer in std::mem::take(&mut self.peers) {
            for descriptor in peer.descriptors() {
                let _ = epoll::delete(&self.epoll, descriptor);
            }
        }
        let _ = epoll::delete(&self.epoll, &self.listener);
        let _ = net::shutdown(&self.listener, net::Shutdown::Both);
    }

    pub(crate) fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut list = self.counters.list();
        list.push(("site_peers_now", self.peers.len() as u64));
        list
    }

    // --- reading ---------------------------------------------------------------------------------------------------

    fn read(&mut self, number: u32) {
        let mut record = std::mem::take(&mut self.record);
        for _ in 0..RECORDS_PER_CALL {
            let Some(connection) = self.connections.iter().find(|connection| connection.number == number) else {
                break;
            };
            match socket::receive(connection.fd.as_fd(), &mut record) {
                // No record of ours is empty: this is the end.
                Ok((0, _)) => {
                    self.close(number);
                    break;
                }
                Ok((length, _)) if length > record.len() => self.counters.ignore_link_message += 1,
                Ok((length, descriptors)) => self.on_record(number, &record[..length], descriptors),
                Err(rustix::io::Errno::AGAIN) => break,
                // The other end closed without having read all: what it said before comes after this, a FAREWELL perhaps.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                Err(_) => {
                    self.close(number);
                    break;
                }
            }
        }
        self.record = record;
    }

    fn on_record(&mut self, number: u32, bytes: &[u8], descriptors: Descriptors) {
        let Some(index) = self.connections.iter().position(|connection| connection.number == number) else { return };
        let greeted = self.connections[index].greeted;
        match message::decode(bytes) {
            Ok(Message::Hello(hello)) if !greeted => self.on_hello(index, hello),
            Ok(Message::Farewell) if greeted => {
                if let Some(nonce) = self.connections[index].nonce {
                    self.counters.site_deaths_by_farewell += 1;
                    self.on_death(nonce, true);
                }
            }
            Ok(Message::Data(bytes)) if greeted => {
                let nonce = self.connections[index].nonce;
                let from = self.peers.iter().find(|peer| Some(peer.nonce) == nonce).map(|peer| peer.address);
                let Some(from) = from else { return };
                if self.inbox_bytes + bytes.len() > INBOX_MAX {
                    self.counters.link_inbox_full += 1;
                } else {
                    self.counters.link_received += 1;
                    self.inbox_bytes += bytes.len();
                    self.inbox.push_back((from, bytes.to_vec()));
                }
            }
            Ok(Message::Memory { words, chunks, reader }) if greeted => {
                if let Some(nonce) = self.connections[index].nonce {
                    let reader = u32::from(reader);
                    self.events.push_back(SiteLinkEvent::Memory { nonce, words, chunks, reader, descriptors });
                }
            }
            Ok(Message::Notice) if greeted && descriptors.len() == 1 => {
                if let (Some(nonce), Some(signal)) = (self.connections[index].nonce, descriptors.into_iter().next()) {
                    self.on_notice(nonce, signal);
                }
            }
            Ok(message @ (Message::Mapped | Message::Unmapped)) if greeted => {
                if let Some(nonce) = self.connections[index].nonce {
                    self.events.push_back(SiteLinkEvent::Reads { nonce, reads: message == Message::Mapped });
                }
            }
            Err(Misunderstood::Version(version)) => {
                self.counters.ignore_link_version += 1;
                if !greeted {
                    self.events.push_back(SiteLinkEvent::Incompatible { version });
                    self.dead_to_us(index);
                }
            }
            Ok(_) | Err(Misunderstood::Malformed) => self.counters.ignore_link_message += 1,
        }
    }

    /// Closes a connection with a process that will never be a peer, and does not connect to it again.
    fn dead_to_us(&mut self, index: usize) {
        let connection = &self.connections[index];
        if let Some(nonce) = connection.nonce {
            self.remember_dead(nonce);
        }
        self.close(self.connections[index].number);
    }

    fn on_hello(&mut self, index: usize, hello: Hello) {
        let connection = &mut self.connections[index];
        let expected = connection.nonce.is_none_or(|nonce| nonce == hello.nonce);
        if !expected || hello.nonce == self.own.nonce || self.dead.contains(&hello.nonce) {
            self.counters.ignore_link_message += 1;
            let number = connection.number;
            self.close(number);
            return;
        }
        connection.nonce = Some(hello.nonce);
        connection.greeted = true;
        let credentials = connection.credentials;
        let pidfd = connection.pidfd.take();
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.nonce == hello.nonce) {
            peer.connections += 1;
            self.events.push_back(SiteLinkEvent::Reconnected { nonce: hello.nonce });
            return;
        }
        self.next_number = self.next_number.wrapping_add(1);
        let number = self.next_number;
        let token = epoll::EventData::new_u64(TOKEN_PROCESS | u64::from(number));
        // A descriptor that cannot be watched is none.
        let pidfd = pidfd.filter(|pidfd| epoll::add(&self.epoll, pidfd, token, epoll::EventFlags::IN).is_ok());
        let file = OtherFile::open(&self.directory, hello.nonce).ok();
        self.hand_notice_over(index);
        self.peers.push(Peer {
            number,
            nonce: hello.nonce,
            address: hello.address,
            pidfd,
            file,
            notice: Notice::None,
            start: None,
            connections: 1,
            allow_kill: hello.allow_kill,
            credentials,
        });
        self.watched.retain(|nonce| *nonce != hello.nonce);
        self.counters.site_peers_found += 1;
        self.events.push_back(SiteLinkEvent::Found {
            nonce: hello.nonce,
            address: hello.address,
            system: hello.system,
            uid: credentials.uid,
            pid: credentials.pid,
        });
    }
}

impl std::fmt::Debug for SiteLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiteLink").field("own", &self.own).field("peers", &self.peers).finish_non_exhaustive()
    }
}

impl Drop for SiteLink {
    fn drop(&mut self) {
        self.farewell();
    }
}
