//! Chunks that the other processes of a site read where they lie: no byte of a stream is copied on its way to them.
//!
//! ```text
//!  header:      magic · chunks
//!  holds:       for each of READERS_MAX others, a bit per chunk of *theirs* that this process reads
//!  generations: one word per chunk, counts how often it was given back
//!  data:        the chunks
//! ```
//! A process writes its own arena and nothing else; the others have it mapped read-only. What names bytes in it is a
//! [`Place`]: chunk, offset, length, and the chunk's generation at that time.
//!
//! **A chunk that somebody reads is not used again.** Both sides follow the discipline of hazard pointers (Michael, *Hazard
//! Pointers: Safe Memory Reclamation for Lock-Free Objects*, 2004), across processes. The reader sets its bit for the chunk,
//! and looks at the chunk's generation *then*: if it is the place's, the bytes are there, and stay as long as the bit does; if
//! not, the place is out of date, and means nothing. The owner gives a chunk back by counting its generation up, and takes it
//! again only when no bit is set after that. Between the store and the load of either side is a fence: one of the two sees
//! the other.
//!
//! Nobody waits for anybody. A reader that is stopped keeps the chunks that it reads from being used again, and no others; the
//! bits of one that was seen to end count no more. What is mapped stays for its readers when its owner is dead. Who has no
//! chunk left here sends copies.
//!
//! Owner: one endpoint and its transport, on one thread; what they share is behind a lock that nobody waits for.

use crate::broadcast::Words;
use crate::region::{CHUNK_SIZE, RUN};
use crate::sealed::SealedMemory;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, fence};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(not(loom))]
use std::sync::{MutexGuard, PoisonError};

/// Others that can read an arena.
pub const READERS_MAX: usize = if cfg!(loom) { 2 } else { 64 };
/// The most chunks of an arena (256 MiB).
pub const CHUNKS_MAX: u32 = if cfg!(loom) { 1 } else { 4096 };

/// Chunks that are looked at for one that is not read any more, at most.
const LOOKS_MAX: usize = 16;

/// `isisCHK` and the version of the layout.
const MAGIC: u64 = u64::from_le_bytes(*b"isisCHK\x01");
const MAGIC_AT: usize = 0;
const CHUNKS_AT: usize = 1;
const HOLDS_AT: usize = 2;
/// Words of a row of holds: a bit for each chunk that another's arena may have.
const ROW_WORDS: usize = (CHUNKS_MAX as usize).div_ceil(64);
const GENERATIONS_AT: usize = HOLDS_AT + READERS_MAX * ROW_WORDS;
/// Words of a page: the data begins on one.
const PAGE: usize = if cfg!(loom) { 1 } else { 512 };
/// Words of a chunk. Under loom its content is a word.
const CHUNK_WORDS: usize = if cfg!(loom) { 1 } else { CHUNK_SIZE / 8 };

/// The first word of the data of so many chunks.
fn data_at(chunks: u32) -> usize {
    (GENERATIONS_AT + chunks as usize).next_multiple_of(PAGE)
}

/// The word with the bit for a chunk of the process of row `row`, and the bit.
fn hold_at(row: u32, chunk: u32) -> (usize, u64) {
    (HOLDS_AT + row as usize * ROW_WORDS + chunk as usize / 64, 1 << (chunk % 64))
}

/// Bytes in a chunk of another process's arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which chunk of the arena.
    pub chunk: u32,
    /// Where they begin in it.
    pub offset: u32,
    /// How many they are.
    pub len: u32,
    /// The chunk's generation while they are there.
    pub generation: u64,
}

/// Words of an arena: shared with other processes, or, in tests and in the simulator, inside this one.
#[derive(Debug)]
enum Memory {
    Sealed(SealedMemory),
    Heap(Arc<Vec<AtomicU64>>),
}

impl Memory {
    fn words(&self) -> &[AtomicU64] {
        match self {
            Memory::Sealed(sealed) => sealed.words(),
            Memory::Heap(words) => words,
        }
    }
}

/// Another process's arena, as this process reads it.
#[derive(Debug)]
pub struct Neighbour {
    memory: Memory,
    chunks: u32,
    nonce: u128,
    /// Its row for this process in its table of holds.
    row_there: u32,
    /// This process's row for it.
    row_here: u32,
}

impl Neighbour {
    /// Whether it reads this chunk of this process's.
    fn holds(&self, chunk: u32) -> bool {
        let (word, bit) = hold_at(self.row_there, chunk);
        self.memory.words()[word].load(Ordering::Relaxed) & bit != 0
    }

    /// Where a chunk of it begins. What was published there can be read as long as it is held.
    pub(crate) fn chunk(&self, chunk: u32) -> *const u8 {
        debug_assert!(chunk < self.chunks, "no such chunk");
        self.memory.words()[data_at(self.chunks) + chunk as usize * CHUNK_WORDS..].as_ptr().cast()
    }

    /// How many chunks it has.
    pub(crate) fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Who it is.
    pub(crate) fn nonce(&self) -> u128 {
        self.nonce
    }
}

struct Connection {
    neighbour: Arc<Neighbour>,
    /// It has this process's arena mapped.
    reads: bool,
    /// It reads nothing any more.
    ended: bool,
}

#[derive(Default)]
struct State {
    /// Given back, and read by nobody.
    free: Vec<u32>,
    /// Given back, and perhaps still read; those first that were looked at longest ago.
    retired: VecDeque<u32>,
    /// Chunks ever taken.
    touched: u32,
    connections: Vec<Connection>,
    /// How often each chunk of each row's neighbour is held: the bit is set while it is not 0.
    held: Vec<Vec<u32>>,
}

/// This process's chunks that others can read. See the module.
pub struct Arena {
    memory: Memory,
    /// By which others map it.
    descriptor: Option<OwnedFd>,
    chunks: u32,
    /// Counts the changes of who reads it.
    epoch: AtomicU64,
    state: Mutex<State>,
}

impl Arena {
    /// An arena of so many chunks in memory that can be handed over. Memory is used as chunks are, and kept.
    ///
    /// # Panics
    /// When there are more than [`CHUNKS_MAX`], or none: the number comes from checked options.
    pub fn create(chunks: u32) -> io::Result<Arena> {
        let (memory, descriptor) = SealedMemory::create(Arena::words(chunks))?;
        Ok(Arena::over(Memory::Sealed(memory), Some(descriptor), chunks))
    }

    /// An arena inside this process, for the simulator and for tests.
    pub fn heap(chunks: u32) -> Arena {
        let words = (0..Arena::words(chunks)).map(|_| AtomicU64::new(0)).collect();
        Arena::over(Memory::Heap(Arc::new(words)), None, chunks)
    }

    /// Words of the memory of an arena.
    ///
    /// # Panics
    /// As [`Arena::create`].
    pub fn words(chunks: u32) -> usize {
        assert!((1..=CHUNKS_MAX).contains(&chunks), "an arena of {chunks} chunks");
        data_at(chunks) + chunks as usize * CHUNK_WORDS
    }

    fn over(memory: Memory, descriptor: Option<OwnedFd>, chunks: u32) -> Arena {
        memory.words()[CHUNKS_AT].store(u64::from(chunks), Ordering::Relaxed);
        memory.words()[MAGIC_AT].store(MAGIC, Ordering::Relaxed);
        Arena { memory, descriptor, chunks, epoch: AtomicU64::new(1), state: Mutex::new(State::default()) }
    }

    /// What is handed to others; `None`: it is inside this process.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(OwnedFd::as_fd)
    }

    /// How many chunks it has.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    // --- who reads whom -------------------------------------------------------------------------------------------------

    /// Another process handed its arena of so many chunks over: `row_there` is this process's row there, `row_here` its row
    /// here. `false`: it is none.
    pub fn connect(&self, nonce: u128, (memory, chunks): (BorrowedFd<'_>, u32), row_there: u32, row_here: u32) -> bool {
        if !(1..=CHUNKS_MAX).contains(&chunks) {
            return false;
        }
        match SealedMemory::open(memory, Arena::words(chunks)) {
            Ok(memory) => self.connect_memory(nonce, (Memory::Sealed(memory), chunks), row_there, row_here),
            Err(_) => false,
        }
    }

    /// As [`Arena::connect`] inside this process. Both have to do it.
    ///
    /// # Panics
    /// When `other` is not on the heap.
    pub fn connect_heap(&self, nonce: u128, other: &Arena, row_there: u32, row_here: u32) -> bool {
        let Memory::Heap(words) = &other.memory else { panic!("this arena is not on the heap") };
        self.connect_memory(nonce, (Memory::Heap(Arc::clone(words)), other.chunks), row_there, row_here)
    }

    fn connect_memory(&self, nonce: u128, (memory, chunks): (Memory, u32), row_there: u32, row_here: u32) -> bool {
        let words = memory.words();
        let fits = words[MAGIC_AT].load(Ordering::Relaxed) == MAGIC
            && words[CHUNKS_AT].load(Ordering::Relaxed) == u64::from(chunks)
            && (row_there.max(row_here) as usize) < READERS_MAX;
        let mut state = self.state();
        if !fits || state.connections.iter().any(|other| other.neighbour.nonce == nonce) {
            return fits;
        }
        let neighbour = Arc::new(Neighbour { memory, chunks, nonce, row_there, row_here });
        state.connections.push(Connection { neighbour, reads: false, ended: false });
        true
    }

    /// Another process can read this one's arena from now on, or shall not be asked to any more.
    pub fn set_reads(&self, nonce: u128, reads: bool) {
        let mut state = self.state();
        if let Some(connection) = state.connections.iter_mut().find(|other| other.neighbour.nonce == nonce) {
            connection.reads = reads;
            self.epoch.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Another process has ended: what it read, it reads no more. What it wrote can be read on.
    pub fn end(&self, nonce: u128) {
        let mut state = self.state();
        state
            .connections
            .iter_mut()
            .filter(|other| other.neighbour.nonce == nonce)
            .for_each(|other| other.ended = true);
    }

    /// Another process's arena is given back, but for chunks that are read. It must have ended.
    pub fn disconnect(&self, nonce: u128) {
        self.state().connections.retain(|other| other.neighbour.nonce != nonce);
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether places in this arena mean something to this process.
    pub fn is_read_by(&self, nonce: u128) -> bool {
        self.state().connections.iter().any(|other| other.neighbour.nonce == nonce && other.reads)
    }

    /// Changes with the answers of [`Arena::is_read_by`].
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    // --- own chunks -----------------------------------------------------------------------------------------------------

    /// Takes a chunk that nobody reads; its content is undefined. If it can be, the one behind `after`: a run goes on. `None`: there
    /// is none.
    pub(crate) fn take(&self, after: Option<u32>) -> Option<u32> {
        let mut state = self.state();
        let State { free, retired, touched, connections, .. } = &mut *state;
        let next = after.map(|after| after + 1).filter(|next| !next.is_multiple_of(RUN));
        if let Some(next) = next
            && next == *touched
            && next < self.chunks
        {
            *touched += 1;
            return Some(next);
        }
        if let Some(chunk) = free.pop() {
            return Some(chunk);
        }
        if !retired.is_empty() {
            // Pairs with the fence in `hold`: either its bit is seen below, or it sees the generation counted up.
            fence(Ordering::SeqCst);
        }
        let is_read = |chunk| {
            let is_read = connections.iter().any(|other| !other.ended && other.neighbour.holds(chunk));
            // Pairs with the Release store in `count_hold`: what was read is read.
            fence(Ordering::Acquire);
            is_read
        };
        // Chunks come back in the order in which they were taken: it is one of the first.
        if let Some(at) = retired.iter().take(LOOKS_MAX).position(|chunk| Some(*chunk) == next)
            && !is_read(retired[at])
        {
            return retired.remove(at);
        }
        for _ in 0..retired.len().min(LOOKS_MAX) {
            let Some(chunk) = retired.pop_front() else { break };
            if !is_read(chunk) {
                return Some(chunk);
            }
            retired.push_back(chunk);
        }
        if *touched == self.chunks {
            return None;
        }
        *touched += 1;
        Some(*touched - 1)
    }

    /// Gives a chunk back. Places in it mean nothing from now on.
    pub(crate) fn give_back(&self, chunk: u32) {
        let generation = &self.memory.words()[GENERATIONS_AT + chunk as usize];
        generation.store(generation.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let mut state = self.state();
        if state.connections.is_empty() {
            state.free.push(chunk);
        } else {
            state.retired.push_back(chunk);
        }
    }

    /// What names these bytes of a chunk that is in use.
    pub(crate) fn place(&self, chunk: u32, offset: u32, len: u32) -> Place {
        let generation = self.memory.words()[GENERATIONS_AT + chunk as usize].load(Ordering::Relaxed);
        Place { chunk, offset, len, generation }
    }

    /// Where a chunk begins.
    pub(crate) fn chunk(&self, chunk: u32) -> *mut u8 {
        debug_assert!(chunk < self.chunks, "no such chunk");
        let words = &self.memory.words()[data_at(self.chunks) + chunk as usize * CHUNK_WORDS..];
        words.as_ptr().cast::<u8>().cast_mut()
    }

    // --- chunks of others -----------------------------------------------------------------------------------------------

    /// Begins to read the chunk of a place in the arena of another process, until [`Arena::release`]. `None`: it means nothing
    /// (any more).
    pub(crate) fn hold(&self, nonce: u128, place: &Place) -> Option<Arc<Neighbour>> {
        let neighbour = {
            let state = self.state();
            let connection = state.connections.iter().find(|other| other.neighbour.nonce == nonce)?;
            Arc::clone(&connection.neighbour)
        };
        let inside = u64::from(place.offset) + u64::from(place.len) <= CHUNK_SIZE as u64;
        if place.chunk >= neighbour.chunks || !inside {
            return None;
        }
        self.count_hold(neighbour.row_here, place.chunk, true);
        // Pairs with the fence in `take`: either the generation has been counted up here, or the bit is seen there.
        fence(Ordering::SeqCst);
        let words = neighbour.memory.words();
        if words[GENERATIONS_AT + place.chunk as usize].load(Ordering::Relaxed) != place.generation {
            self.release(&neighbour, place.chunk);
            return None;
        }
        Some(neighbour)
    }

    /// Reads the chunk no more.
    pub(crate) fn release(&self, neighbour: &Neighbour, chunk: u32) {
        self.count_hold(neighbour.row_here, chunk, false);
    }

    fn count_hold(&self, row: u32, chunk: u32, more: bool) {
        let mut state = self.state();
        if state.held.len() <= row as usize {
            state.held.resize(row as usize + 1, Vec::new());
        }
        let row_counts = &mut state.held[row as usize];
        row_counts.resize(CHUNKS_MAX as usize, 0);
        let count = &mut row_counts[chunk as usize];
        *count = if more { *count + 1 } else { *count - 1 };
        let (word, bit) = hold_at(row, chunk);
        let word = &self.memory.words()[word];
        let before = word.load(Ordering::Relaxed);
        // Release: pairs with the Acquire fence in `take`, for what was read before.
        word.store(if *count > 0 { before | bit } else { before & !bit }, Ordering::Release);
    }

    #[cfg(not(loom))]
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic inside leaves at worst a chunk that is never used again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(loom)]
    fn state(&self) -> loom::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panics in the model")
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("chunks", &self.chunks).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Two arenas that are connected; the first one's nonce is 1, the second one's 2.
    fn pair(chunks: u32) -> [Arena; 2] {
        let both = [Arena::heap(chunks), Arena::heap(chunks)];
        assert!(both[0].connect_heap(2, &both[1], 5, 7) && both[1].connect_heap(1, &both[0], 7, 5));
        both[0].set_reads(2, true);
        both[1].set_reads(1, true);
        both
    }

    #[test]
    fn a_chunk_that_is_read_is_not_used_again() {
        let [one, two] = pair(2);
        let chunk = one.take(None).expect("a chunk");
        let place = one.place(chunk, 8, 16);
        let neighbour = two.hold(1, &place).expect("in use");
        let again = two.hold(1, &place).expect("still");
        one.give_back(chunk);
        assert!(two.hold(1, &place).is_none(), "out of date");
        let other = one.take(None).expect("the other chunk");
        assert_ne!(other, chunk);
        assert_eq!(one.take(None), None, "the first one is read");
        two.release(&neighbour, chunk);
        assert_eq!(one.take(None), None, "twice");
        two.release(&again, chunk);
        assert_eq!(one.take(None), Some(chunk));
        assert!(two.hold(1, &place).is_none(), "other bytes are there");
        assert!(two.hold(1, &one.place(chunk, 0, 8)).is_some());
    }

    #[test]
    fn the_dead_read_nothing_and_what_they_wrote_stays() {
        let [one, two] = pair(1);
        let chunk = one.take(None).expect("a chunk");
        let neighbour = two.hold(1, &one.place(chunk, 0, 8)).expect("in use");
        one.give_back(chunk);
        assert_eq!(one.take(None), None);
        let epoch = one.epoch();
        assert!(one.is_read_by(2));
        one.end(2);
        one.disconnect(2);
        assert!(!one.is_read_by(2) && one.epoch() != epoch);
        assert_eq!(one.take(None), Some(chunk), "its bit counts no more");
        drop(one);
        // SAFETY: the chunk is mapped, and nobody writes to it.
        assert_eq!(unsafe { *neighbour.chunk(chunk) }, 0);
    }

    /// The next one in a row does not give free what is held on account of the last one.
    #[test]
    fn a_row_that_is_used_again_keeps_its_holds() {
        let [one, two] = pair(1);
        let chunk = one.take(None).expect("a chunk");
        let of_one = two.hold(1, &one.place(chunk, 0, 8)).expect("in use");
        two.disconnect(1);
        let three = Arena::heap(1);
        assert!(two.connect_heap(3, &three, 0, 5) && three.connect_heap(2, &two, 5, 0));
        let chunk = three.take(None).expect("a chunk");
        let of_three = two.hold(3, &three.place(chunk, 0, 8)).expect("in use");
        two.release(&of_one, 0);
        three.give_back(chunk);
        assert_eq!(three.take(None), None, "it is still read");
        two.release(&of_three, chunk);
        assert_eq!(three.take(None), Some(chunk));
    }

    #[test]
    fn nonsense_is_refused() {
        let [one, two] = pair(2);
        let place = one.place(one.take(None).expect("a chunk"), 0, 8);
        let size = CHUNK_SIZE as u32;
        assert!(two.hold(9, &place).is_none(), "nobody's");
        for (chunk, offset, len) in [(2, 0, 8), (u32::MAX, 0, 8), (0, size, 8), (0, 8, size), (0, u32::MAX, u32::MAX)] {
            assert!(two.hold(1, &Place { chunk, offset, len, ..place }).is_none(), "{chunk} {offset} {len}");
        }
        assert!(two.hold(1, &Place { offset: 0, len: size, ..place }).is_some());
        assert!(!one.connect_heap(4, &two, 64, 0) && !one.connect_heap(4, &two, 0, 64), "no such row");
    }

    /// Through descriptors, as between processes; arenas of different sizes.
    #[test]
    fn memory_that_is_handed_over_is_read() {
        let (one, two) = (Arena::create(2).expect("a memfd"), Arena::create(3).expect("a memfd"));
        let (fd_one, fd_two) = (one.descriptor().expect("a memfd"), two.descriptor().expect("a memfd"));
        assert!(!one.connect(2, (fd_two, 2), 0, 0), "of another size");
        assert!(!one.connect(2, (fd_two, 0), 0, 0) && !one.connect(2, (fd_two, u32::MAX), 0, 0));
        assert!(one.connect(2, (fd_two, 3), 0, 0) && two.connect(1, (fd_one, 2), 0, 0));
        let chunk = one.take(None).expect("a chunk");
        // SAFETY: the chunk was taken, and nobody else writes to it.
        unsafe { one.chunk(chunk).write_bytes(7, CHUNK_SIZE) };
        let neighbour = two.hold(1, &one.place(chunk, 0, 8)).expect("in use");
        drop(one);
        // SAFETY: the chunk is held and written no more.
        let bytes = unsafe { std::slice::from_raw_parts(neighbour.chunk(chunk), CHUNK_SIZE) };
        assert!(bytes.iter().all(|byte| *byte == 7), "mapped as long as somebody reads it");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    /// In all interleavings of an owner that uses its only chunk again with a reader of what was there before: who holds the
    /// chunk reads what the place named.
    #[test]
    fn what_is_held_is_not_written() {
        loom::model(|| {
            let (one, two) = (Arena::heap(1), Arena::heap(1));
            assert!(one.connect_heap(2, &two, 0, 0) && two.connect_heap(1, &one, 0, 0));
            let chunk = one.take(None).expect("a chunk");
            // What is in the chunk. That nobody writes it while another reads, or without having seen that they did, is for loom
            // to see.
            let content = loom::sync::Arc::new(loom::cell::UnsafeCell::new(1));
            let place = one.place(chunk, 0, 8);
            let written = content.clone();
            let owner = loom::thread::spawn(move || {
                one.give_back(chunk);
                if one.take(None) == Some(chunk) {
                    // SAFETY: loom checks that nobody reads.
                    written.with_mut(|content| unsafe { *content = 2 });
                }
            });
            if let Some(neighbour) = two.hold(1, &place) {
                // SAFETY: loom checks that nobody writes.
                content.with(|content| assert_eq!(unsafe { *content }, 1));
                two.release(&neighbour, chunk);
            }
            owner.join().expect("the owner ends");
        });
    }
}
