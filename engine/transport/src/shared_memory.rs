//! Shared memory between the processes of a site: datagrams without the kernel.
//!
//! Each process has one log (`isis_memory::broadcast`) in a sealed memfd that the others map read-only. What it sends to any
//! of them is written there once, and read there by those that it is for. Descriptors travel over the site link, whose
//! credentials say whose they are:
//!
//! ```text
//!   one                                                  two
//!    │  MEMORY: its log, its bell, two's reader number    │
//!    ├───────────────────────────────────────────────────►│ maps it
//!    │                      MAPPED                        │
//!    │◄───────────────────────────────────────────────────┤ … and the same the other way round
//! ```
//! With its log each hands over its arena, if it has one (`isis_memory::arena`): what one writes to two may name bytes there.
//!
//! One writes to two once two has MAPPED one's log, and one has two's: there it sees whether two sleeps, and whoever
//! sleeps is woken by its bell, an eventfd. Nobody makes a system call for one that is awake.
//!
//! A reader that lags by more than the log has lost datagrams, like one whose socket buffer is full. A dead process leaves
//! nothing behind: its memory is gone with the last that maps it. Beyond [`READERS_MAX`] peers, and where anything of
//! this fails, the other paths are used.
//!
//! Owner: `HostTransport`, one thread.

use crate::counters::counters;
use crate::site::{Descriptors, has_exited};
use crate::udp::DATAGRAM_MAX;
use arrayvec::ArrayVec;
use isis_memory::broadcast::{HEADER_WORDS, published_all};
use isis_memory::{Arena, BroadcastReader, BroadcastWriter, Read, SealedMemory};
use isis_wire::Address;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Peers that can read a log: bits of a word.
pub(crate) const READERS_MAX: usize = 64;
/// The least and the most bytes of a log.
pub(crate) const LOG_MIN: usize = 1 << 20;
pub(crate) const LOG_MAX: usize = 1 << 30;
/// Records read from one log before the next one's turn.
const RECORDS_PER_TURN: usize = 16;
/// The memory of a dead peer is given back after this long.
const RELEASE_NS: u64 = 10_000_000;
/// How often it is looked, after that, whether one has ended that is dead for the others.
const EXIT_LOOK_NS: u64 = 1_000_000_000;

counters! {
    /// What happened in shared memory.
    MemoryCounters {
        /// Datagrams written, each once for all that it is for.
        memory_sent,
        /// Bytes in them.
        memory_sent_bytes,
        /// Datagrams received.
        memory_received,
        /// Bytes in them.
        memory_received_bytes,
        /// Times that a log's writer had overtaken this process: datagrams were lost.
        memory_overtaken,
        /// Sleeping peers woken.
        memory_bells_rung,
        /// Logs of peers that cannot be used: what was handed over is none, or it became nonsense.
        memory_refused,
    }
}

/// What is handed to a peer.
#[derive(Debug)]
pub(crate) struct Offer<'a> {
    /// Words of the whole memory.
    pub words: u64,
    /// The peer's number among the readers.
    pub reader: u32,
    /// Chunks of the arena; 0: there is none.
    pub chunks: u32,
    /// The memory, then the bell, then the arena.
    pub descriptors: ArrayVec<BorrowedFd<'a>, 3>,
}

/// This process's log.
#[derive(Debug)]
struct OwnLog {
    writer: BroadcastWriter<SealedMemory>,
    descriptor: OwnedFd,
    words: usize,
}

/// A peer's log.
#[derive(Debug)]
struct PeerLog {
    reader: BroadcastReader<SealedMemory>,
    bell: OwnedFd,
    /// The sleep for which its bell was rung last.
    rung: u64,
}

#[derive(Debug)]
struct Peer {
    nonce: u128,
    address: Address,
    /// Its bit among the readers of our log.
    bit: u64,
    /// Our log was handed to it.
    offered: bool,
    /// It reads our log.
    reads: bool,
    log: Option<PeerLog>,
}

/// A dead peer whose memory was not given back yet.
#[derive(Debug)]
struct Retired {
    nonce: u128,
    log: Option<PeerLog>,
    /// It has ended for certain: it reads nothing. Who gave all its descriptors up is dead for the others, and may still look at
    /// messages that it has.
    exited: bool,
    pidfd: Option<OwnedFd>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    /// Bytes of a log; `None`: switched off.
    log_bytes: Option<usize>,
    /// Made when there is somebody to read it.
    own: Option<OwnLog>,
    bell: OwnedFd,
    arena: Option<Arc<Arena>>,
    peers: Vec<Peer>,
    /// The dead, and when their memory is given back.
    retired: Vec<Retired>,
    release_ns: Option<u64>,
    /// Whose log is read first in the next turn.
    first: usize,
    armed: bool,
    counters: MemoryCounters,
}

impl SharedMemory {
    /// Logs of so many bytes, rounded to a power of two within the limits; `None`: shared memory is not used.
    pub fn new(log_bytes: Option<usize>, arena: Option<Arc<Arena>>) -> io::Result<SharedMemory> {
        let log_bytes = log_bytes.map(|bytes| bytes.clamp(LOG_MIN, LOG_MAX).next_power_of_two());
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let counters = MemoryCounters::default();
        Ok(SharedMemory {
            log_bytes,
            own: None,
            bell,
            arena,
            peers: Vec::new(),
            retired: Vec::new(),
            release_ns: None,
            first: 0,
            armed: false,
            counters,
        })
    }

    /// Readable when a peer woke this process.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// A peer was found: it gets a number among the readers of our log, if there is one left.
    pub fn add(&mut self, nonce: u128, address: Address) {
        let used: u64 = self.peers.iter().map(|peer| peer.bit).fold(0, |used, bit| used | bit);
        if self.log_bytes.is_none() || used == u64::MAX || self.peers.iter().any(|peer| peer.nonce == nonce) {
            return;
        }
        let bit = 1 << used.trailing_ones();
        self.peers.push(Peer { nonce, address, bit, offered: false, reads: false, log: None });
    }

    /// Hands our log to those that it was not handed to yet: `hand_over` says whether it got away. Says whether all have it.
    pub fn offer(&mut self, hand_over: &mut dyn FnMut(u128, &Offer<'_>) -> bool) -> bool {
        let Some(log_bytes) = self.log_bytes else { return true };
        if self.peers.iter().all(|peer| peer.offered) {
            return true;
        }
        if self.own.is_none() {
            let words = HEADER_WORDS + log_bytes / 8;
            let Ok((memory, descriptor)) = SealedMemory::create(words) else {
                // No memory, or the system forbids it: the other paths are there.
                self.counters.memory_refused += 1;
                self.log_bytes = None;
                self.peers.clear();
                return true;
            };
            self.own = Some(OwnLog { writer: BroadcastWriter::new(memory), descriptor, words });
        }
        let Some(own) = &self.own else { return true };
        for peer in self.peers.iter_mut().filter(|peer| !peer.offered) {
            let reader = peer.bit.trailing_zeros();
            let mut descriptors = ArrayVec::from_iter([own.descriptor.as_fd(), self.bell.as_fd()]);
            let mut chunks = 0;
            if let Some(arena) = &self.arena {
                descriptors.extend(arena.descriptor());
                chunks = arena.chunks();
            }
            peer.offered = hand_over(peer.nonce, &Offer { words: own.words as u64, reader, chunks, descriptors });
        }
        self.peers.iter().all(|peer| peer.offered)
    }

    /// The offer to this peer may not have arrived.
    pub fn offer_again(&mut self, nonce: u128) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.nonce == nonce) {
            peer.offered = false;
        }
    }

    /// A peer handed its log over. `true`: it is mapped, the peer may write.
    pub fn accept(&mut self, nonce: u128, (words, chunks): (u64, u32), reader: u32, descriptors: Descriptors) -> bool {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.nonce == nonce) else {
            return false;
        };
        if peer.log.is_some() {
            // The same again: it may not have heard that it is mapped.
            return true;
        }
        let mut descriptors = descriptors.into_iter();
        let (memory, bell, theirs) = (descriptors.next(), descriptors.next(), descriptors.next());
        if let (Some(memory), Some(bell)) = (memory, bell)
            && theirs.is_some() == (chunks > 0)
        {
            let connected = match (&self.arena, theirs) {
                (Some(own), Some(theirs)) => {
                    own.connect(nonce, (theirs.as_fd(), chunks), reader, peer.bit.trailing_zeros())
                }
                _ => true,
            };
            peer.log = connected.then(|| open_log(words, reader, memory, bell)).flatten();
        }
        self.counters.memory_refused += u64::from(peer.log.is_none());
        if let Some(arena) = self.arena.as_ref().filter(|_| peer.log.is_some()) {
            arena.set_reads(nonce, peer.reads);
        }
        peer.log.is_some()
    }

    /// A peer reads our log from now on, or does no longer.
    pub fn set_reads(&mut self, nonce: u128, reads: bool) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.nonce == nonce) {
            peer.reads = reads;
            if let Some(arena) = &self.arena {
                arena.set_reads(nonce, reads);
            }
        }
    }

    /// What a peer writes is not read after all.
    pub fn refuse(&mut self, nonce: u128) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.nonce == nonce) {
            peer.log = None;
        }
    }

    /// A peer is dead. `exited`: it has ended; `pidfd` tells that later if it has not.
    pub fn remove(&mut self, now_ns: u64, nonce: u128, exited: bool, pidfd: Option<OwnedFd>) {
        let Some(index) = self.peers.iter().position(|peer| peer.nonce == nonce) else { return };
        let log = self.peers.swap_remove(index).log;
        if let Some(arena) = &self.arena {
            arena.set_reads(nonce, false);
            if exited {
                arena.end(nonce);
            }
        }
        self.retired.push(Retired { nonce, log, exited, pidfd });
        self.release_ns = Some(now_ns + RELEASE_NS);
    }

    /// Gives back, when it is time, the memory of the dead; says when to call again. Not when they die: the others wait for the
    /// next view then, and taking a mapping apart takes long.
    pub fn release(&mut self, now_ns: u64) -> Option<u64> {
        if self.release_ns.is_none_or(|due| now_ns < due) {
            return self.release_ns;
        }
        let arena = &self.arena;
        self.retired.retain_mut(|dead| {
            dead.log = None;
            dead.exited |= dead.pidfd.as_ref().is_some_and(|pidfd| has_exited(pidfd.as_fd()));
            if let Some(arena) = arena.as_ref().filter(|_| dead.exited) {
                arena.end(dead.nonce);
                arena.disconnect(dead.nonce);
            }
            // Whose end nothing would tell keeps what it reads for good.
            !dead.exited && dead.pidfd.is_some() && arena.is_some()
        });
        self.release_ns = (!self.retired.is_empty()).then_some(now_ns + EXIT_LOOK_NS);
        self.release_ns
    }

    /// The bit by which this peer is written to; `None`: it has to be reached in another way.
    pub fn route(&self, nonce: u128) -> Option<u64> {
        let peer = self.peers.iter().find(|peer| peer.nonce == nonce)?;
        (peer.reads && peer.log.is_some()).then_some(peer.bit)
    }

    /// Writes a datagram for all whose bits are set. `false`: it is too long. Call [`SharedMemory::ring`] afterwards, once for
    /// several of them.
    pub fn send(&mut self, readers: u64, header: &[u8], payload: &[u8]) -> bool {
        let Some(own) = &mut self.own else { return false };
        let sent = header.len() + payload.len() <= DATAGRAM_MAX && own.writer.append(readers, [header, payload]);
        if sent {
            self.counters.memory_sent += 1;
            self.counters.memory_sent_bytes += (header.len() + payload.len()) as u64;
        }
        sent
    }

    /// Wakes those of `readers` that sleep.
    pub fn ring(&mut self, readers: u64) {
        if readers == 0 {
            return;
        }
        published_all();
        for peer in &mut self.peers {
            if readers & peer.bit != 0
                && let Some(log) = &mut peer.log
                && let Some(sleep) = log.reader.sleep_of_owner()
                && sleep != log.rung
            {
                log.rung = sleep;
                // A full counter (it cannot be) means that it is awake anyway.
                let _ = rustix::io::write(&log.bell, &1_u64.to_ne_bytes());
                self.counters.memory_bells_rung += 1;
            }
        }
    }

    /// Hands at most `budget` datagrams of all logs to `deliver`. `refused` gets the peers whose logs became nonsense.
    pub fn receive(
        &mut self,
        budget: usize,
        deliver: &mut dyn FnMut(Address, &[u8]),
        refused: &mut ArrayVec<u128, READERS_MAX>,
    ) -> usize {
        let mut count = 0;
        let peers = self.peers.len();
        // Round and round, until a whole round found nothing.
        let (mut at, mut idle) = (self.first, 0);
        while idle < peers && count < budget {
            at = (at + 1) % peers;
            let peer = &mut self.peers[at];
            let before = count;
            while let Some(log) = &mut peer.log
                && count - before < RECORDS_PER_TURN
                && count < budget
            {
                match log.reader.read() {
                    Read::Nothing => break,
                    Read::Record(bytes) => {
                        count += 1;
                        self.counters.memory_received += 1;
                        self.counters.memory_received_bytes += bytes.len() as u64;
                        deliver(peer.address, bytes);
                    }
                    Read::Lost => self.counters.memory_overtaken += 1,
                    Read::Corrupt => {
                        self.counters.memory_refused += 1;
                        peer.log = None;
                        // One each, at most.
                        let _ = refused.try_push(peer.nonce);
                    }
                }
            }
            idle = if count == before { idle + 1 } else { 0 };
        }
        self.first = at;
        count
    }

    /// This process sleeps, or is about to.
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// Nothing is there to be read.
    #[inline]
    pub fn is_silent(&self) -> bool {
        self.peers.iter().filter_map(|peer| peer.log.as_ref()).all(|log| log.reader.is_at_end())
    }

    /// This process is about to sleep: whoever writes for it rings. `false`: not now, there is something to read.
    pub fn arm(&mut self) -> bool {
        let Some(own) = &mut self.own else { return true };
        own.writer.arm();
        self.armed = true;
        self.peers.iter().filter_map(|peer| peer.log.as_ref()).all(|log| log.reader.is_at_end())
    }

    /// This process is awake. Says whether it was not before.
    pub fn disarm(&mut self) -> bool {
        if !self.armed {
            return false;
        }
        self.armed = false;
        if let Some(own) = &mut self.own {
            own.writer.disarm();
        }
        // Nothing to read: fine, nobody rang.
        let _ = rustix::io::read(&self.bell, &mut [0; 8][..]);
        true
    }

    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut list = self.counters.list();
        let routes = self.peers.iter().filter(|peer| peer.reads && peer.log.is_some()).count();
        list.push(("memory_paths_now", routes as u64));
        list
    }
}

/// Maps what a peer handed over; `None`: it is not what it should be.
fn open_log(words: u64, reader: u32, memory: OwnedFd, bell: OwnedFd) -> Option<PeerLog> {
    let words = usize::try_from(words).ok()?;
    if !(HEADER_WORDS + LOG_MIN / 8..=HEADER_WORDS + LOG_MAX / 8).contains(&words) {
        return None;
    }
    // Ringing must never block.
    if !rustix::fs::fcntl_getfl(&bell).ok()?.contains(OFlags::NONBLOCK) {
        return None;
    }
    let reader = BroadcastReader::open(SealedMemory::open(memory.as_fd(), words).ok()?, reader)?;
    Some(PeerLog { reader, bell, rung: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use isis_memory::Region;
    use rustix::process::{Pid, PidfdFlags};

    fn address(number: u16) -> Address {
        Address { ip: [1; 16], port: number }
    }

    fn memory() -> SharedMemory {
        SharedMemory::new(Some(LOG_MIN), None).expect("an eventfd")
    }

    fn with_arena(chunks: u32) -> (SharedMemory, Arc<Arena>) {
        let arena = Arc::new(Arena::create(chunks).expect("a memfd"));
        (SharedMemory::new(Some(LOG_MIN), Some(Arc::clone(&arena))).expect("an eventfd"), arena)
    }

    fn offered(from: &mut SharedMemory) -> Vec<(u128, (u64, u32), u32, Descriptors)> {
        let mut offers = Vec::new();
        from.offer(&mut |nonce, offer| {
            let clone = |fd: &BorrowedFd<'_>| fd.try_clone_to_owned().expect("a descriptor");
            let descriptors = offer.descriptors.iter().map(clone).collect();
            offers.push((nonce, (offer.words, offer.chunks), offer.reader, descriptors));
            true
        });
        offers
    }

    fn take(memory: &mut SharedMemory) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        memory.receive(100, &mut |_, bytes| all.push(bytes.to_vec()), &mut ArrayVec::new());
        all
    }

    /// Both ends have to have the other's log before either writes, whatever comes first.
    #[test]
    fn a_path_needs_both_logs() {
        let (mut one, mut two) = (memory(), memory());
        one.add(2, address(2));
        two.add(1, address(1));
        let (nonce, words, reader, descriptors) = offered(&mut one).pop().expect("an offer");
        assert_eq!(nonce, 2);
        assert!(two.accept(1, words, reader, descriptors));
        one.set_reads(2, true);
        assert_eq!(one.route(2), None, "whether two sleeps cannot be seen yet");
        let (_, words, reader, descriptors) = offered(&mut two).pop().expect("an offer");
        assert!(one.accept(2, words, reader, descriptors));
        let bit = one.route(2).expect("a path");
        assert_eq!(two.route(1), None, "one has not said that it reads");
        assert!(one.send(bit, b"head", b"rest"));
        assert_eq!(take(&mut two), [b"headrest".to_vec()]);
        assert!(take(&mut one).is_empty());
        assert!(!one.send(bit, b"", &vec![0; DATAGRAM_MAX + 1]), "as by the other paths");
        one.remove(5, 2, true, None);
        assert_eq!(one.route(2), None);
        assert_eq!((one.release(5), one.retired.len()), (Some(5 + RELEASE_NS), 1), "not at once");
        assert_eq!((one.release(5 + RELEASE_NS), one.retired.len()), (None, 0));
    }

    #[test]
    fn peers_beyond_the_readers_have_no_number() {
        let mut memory = memory();
        for nonce in 0..READERS_MAX as u128 + 5 {
            memory.add(nonce, address(nonce as u16));
        }
        let offers = offered(&mut memory);
        let mut numbers: Vec<u32> = offers.iter().map(|(_, _, reader, _)| *reader).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..READERS_MAX as u32));
        memory.remove(5, 7, true, None);
        memory.add(1_000, address(1_000));
        assert_eq!(offered(&mut memory).pop().map(|(nonce, _, reader, _)| (nonce, reader)), Some((1_000, 7)), "again");
    }

    /// What does not get away is offered again, to those that lack it.
    #[test]
    fn offers_are_repeated_until_they_get_away() {
        let mut memory = memory();
        memory.add(1, address(1));
        memory.add(2, address(2));
        assert!(!memory.offer(&mut |nonce, _| nonce == 1));
        let mut again = Vec::new();
        assert!(memory.offer(&mut |nonce, _| {
            again.push(nonce);
            true
        }));
        assert_eq!(again, [2]);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let (mut one, mut two) = (memory(), memory());
        one.add(2, address(2));
        two.add(1, address(1));
        let file = || OwnedFd::from(std::fs::File::open("/proc/self/exe").expect("a file"));
        let (_, (words, _), reader, descriptors) = offered(&mut one).pop().expect("an offer");
        let both = |descriptors: [&OwnedFd; 2]| {
            descriptors.map(|fd| fd.try_clone().expect("a descriptor")).into_iter().collect::<Descriptors>()
        };
        let [log, bell] = &descriptors[..] else { panic!("without an arena there are two") };
        assert!(!two.accept(1, (words, 0), reader, both([&file(), bell])), "no memory");
        assert!(!two.accept(1, (words, 0), reader, both([log, &file()])), "a bell that blocks");
        assert!(!two.accept(1, (words, 0), 64, both([log, bell])), "no such reader");
        assert!(!two.accept(1, (words, 7), reader, both([log, bell])), "an arena is missing");
        assert!(
            !two.accept(1, (words, 0), reader, both([log, bell]).into_iter().take(1).collect()),
            "the bell is missing"
        );
        for words in [0, words - 1, words + 1, u64::MAX] {
            assert!(!two.accept(1, (words, 0), reader, both([log, bell])), "{words} words");
        }
        assert!(!two.accept(3, (words, 0), reader, both([log, bell])), "nobody whom it knows");
        assert_eq!(two.counters.memory_refused, 9);
        assert!(two.accept(1, (words, 0), reader, both([log, bell])));
    }

    /// Whatever comes first, and whether the other one has one.
    #[test]
    fn arenas_are_read_once_both_are_mapped() {
        for late in [false, true] {
            let ((mut one, arena_one), (mut two, arena_two)) = (with_arena(1), with_arena(2));
            one.add(2, address(2));
            two.add(1, address(1));
            let (_, sizes, reader, descriptors) = offered(&mut one).pop().expect("an offer");
            assert!(two.accept(1, sizes, reader, descriptors));
            if late {
                one.set_reads(2, true);
            }
            assert!(!arena_one.is_read_by(2), "what two reads cannot be seen yet");
            let (_, sizes, reader, descriptors) = offered(&mut two).pop().expect("an offer");
            assert!(one.accept(2, sizes, reader, descriptors));
            if !late {
                one.set_reads(2, true);
            }
            assert!(arena_one.is_read_by(2) && !arena_two.is_read_by(1));
            one.remove(5, 2, true, None);
            assert!(!arena_one.is_read_by(2));
        }
        let ((mut one, arena), mut without) = (with_arena(1), memory());
        one.add(2, address(2));
        without.add(1, address(1));
        let (_, sizes, reader, mut descriptors) = offered(&mut one).pop().expect("an offer");
        descriptors[2] = descriptors[0].try_clone().expect("a descriptor");
        assert!(!with_peer().accept(1, sizes, reader, descriptors), "no arena");
        let (_, sizes, reader, descriptors) = offered(&mut without).pop().expect("an offer");
        assert!(one.accept(2, sizes, reader, descriptors));
        one.set_reads(2, true);
        assert!(one.route(2).is_some() && !arena.is_read_by(2), "it has none, and maps none");
    }

    /// Who closed all its descriptors is dead for the others, and may still look at what it has: the chunks are not used again
    /// until it has ended.
    #[test]
    fn who_may_still_look_keeps_chunks_until_it_ends() {
        let ((mut one, arena_one), (mut two, arena_two)) = (with_arena(1), with_arena(1));
        one.add(2, address(2));
        two.add(1, address(1));
        let (_, sizes, reader, descriptors) = offered(&mut one).pop().expect("an offer");
        assert!(two.accept(1, sizes, reader, descriptors));
        let (_, sizes, reader, descriptors) = offered(&mut two).pop().expect("an offer");
        assert!(one.accept(2, sizes, reader, descriptors));
        let mut regions = [arena_one, arena_two].map(|arena| Region::heap(4).with_arena(arena));
        let shared = regions[0].take_shared(None).expect("a chunk");
        let place = regions[0].place(shared, 0, 8).expect("in the arena");
        regions[1].borrow(1, &place).expect("in use");
        regions[0].give_back(shared);
        let gets_it = |regions: &mut [Region; 2]| {
            let chunk = regions[0].take_shared(None).expect("a chunk");
            let shared = regions[0].is_shared(chunk);
            regions[0].give_back(chunk);
            shared
        };
        // In its place.
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("a process");
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("a descriptor");
        one.remove(5, 2, false, Some(pidfd));
        assert!(one.route(2).is_none() && !gets_it(&mut regions));
        assert_eq!(one.release(5 + RELEASE_NS), Some(5 + RELEASE_NS + EXIT_LOOK_NS), "it runs on");
        assert!(!gets_it(&mut regions));
        child.kill().expect("a signal");
        child.wait().expect("its end");
        assert_eq!(one.release(5 + RELEASE_NS + EXIT_LOOK_NS), None);
        assert!(gets_it(&mut regions));
    }

    fn with_peer() -> SharedMemory {
        let (mut memory, _) = with_arena(1);
        memory.add(1, address(1));
        memory
    }
}
