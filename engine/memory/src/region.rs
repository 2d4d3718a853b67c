//! The chunk region: all stream bytes of a process lie here, in chunks of one size.
//!
//! A stream is laid out in chunks of [`CHUNK_SIZE`] bytes (chunk = position / size, offset = remainder), alike in a
//! sender's log and in its receivers' images. A chunk is taken when bytes arrive for it and given back when they are
//! stable and consumed, so memory follows the unstable bytes, not groups × members (an arena keeps the memory that it once
//! had). Chunks are addressed by a 32-bit index; no pointer is stored inside.
//!
//! A region is backed by the heap (simulator, tests) or by one anonymous mapping, lazily touched: `limit` × 64 KiB of
//! addresses, of which only chunks that were ever taken are memory, and of those that are free at most [`WARM`] stay so.
//!
//! With an [`Arena`] a region has two more kinds of chunks, told apart by the upper bits of their index: *shared* ones of this
//! process's own arena, for streams that the neighbours read where they lie ([`Region::take_shared`]), and *borrowed* ones,
//! which are the neighbours' ([`Region::borrow`]) and only read.
//!
//! Owner: the [`Region`] belongs to one protocol endpoint, hence to one thread. Invariants: a chunk is either free or in
//! use (the bitmap says which; giving back twice panics, always); its address never changes while the region lives.

mod backing;

use crate::arena::{Arena, Neighbour, Place};
use crate::sync;
use backing::{Backing, HeapChunk, Mapping};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Bytes in a chunk. A constant of the protocol version, because positions map to chunks alike at every member.
pub const CHUNK_SIZE: usize = 64 * 1024;

/// Free chunks of a mapped region that keep their memory (64 MiB); further ones go back to the system.
pub const WARM: usize = 1024;

/// Index of a chunk in its region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChunkIndex(pub u32);

/// Set in the index of a chunk of the own arena, …
const SHARED: u32 = 1 << 30;
/// … and in that of a borrowed one.
const BORROWED: u32 = 1 << 31;

/// Whose chunk an index stands for, and its number there.
#[derive(Clone, Copy)]
enum Owner {
    Private(usize),
    Shared(u32),
    Borrowed(usize),
}

impl ChunkIndex {
    #[inline]
    fn owner(self) -> Owner {
        match self.0 {
            index if index < SHARED => Owner::Private(index as usize),
            index if index < BORROWED => Owner::Shared(index - SHARED),
            index => Owner::Borrowed((index - BORROWED) as usize),
        }
    }
}

/// A chunk of a neighbour.
#[derive(Debug)]
struct Borrowed {
    neighbour: sync::Arc<Neighbour>,
    chunk: u32,
    generation: u64,
}

/// A bounded set of chunks.
#[derive(Debug)]
pub struct Region {
    backing: Backing,
    arena: Option<Arc<Arena>>,
    /// Chunks of the own arena in use: a bit each.
    shared: Vec<u64>,
    shared_in_use: u32,
    /// Chunks of neighbours; `None`: the index is free.
    borrowed: Vec<Option<Borrowed>>,
    borrowed_free: Vec<u32>,
    /// Free chunks that have memory; the last one given back is the first one taken: it is in the cache.
    warm: Vec<ChunkIndex>,
    /// Free chunks whose memory went back to the system.
    cold: Vec<ChunkIndex>,
    /// One bit per chunk: in use.
    used: Vec<u64>,
    /// Chunks ever taken: the next fresh index.
    touched: u32,
    limit: u32,
}

impl Region {
    /// A region on the heap that grows up to `limit` chunks.
    pub fn heap(limit: u32) -> Region {
        Region::over(Backing::Heap(Vec::new()), limit)
    }

    /// A region of `limit` chunks in one anonymous mapping. Memory is used as chunks are.
    pub fn mapped(limit: u32) -> io::Result<Region> {
        Ok(Region::over(Backing::Mapped(Mapping::new(limit.max(1) as usize * CHUNK_SIZE)?), limit))
    }

    fn over(backing: Backing, limit: u32) -> Region {
        Region {
            backing,
            arena: None,
            shared: Vec::new(),
            shared_in_use: 0,
            borrowed: Vec::new(),
            borrowed_free: Vec::new(),
            warm: Vec::new(),
            cold: Vec::new(),
            used: Vec::new(),
            touched: 0,
            limit,
        }
    }

    /// Shares chunks with neighbours through this arena.
    pub fn with_arena(mut self, arena: Arc<Arena>) -> Region {
        self.shared = vec![0; (arena.chunks() as usize).div_ceil(64)];
        self.arena = Some(arena);
        self
    }

    /// Takes a free chunk; its content is undefined (older bytes of other streams). `None` when `limit` chunks are in use.
    pub fn take(&mut self) -> Option<ChunkIndex> {
        if self.in_use() >= self.limit {
            return None;
        }
        let index = match self.warm.pop().or_else(|| self.cold.pop()) {
            Some(index) => index,
            None => self.fresh()?,
        };
        self.used[index.0 as usize / 64] |= 1 << (index.0 % 64);
        Some(index)
    }

    fn fresh(&mut self) -> Option<ChunkIndex> {
        if self.touched >= self.limit {
            return None;
        }
        if let Backing::Heap(chunks) = &mut self.backing {
            chunks.push(HeapChunk::new());
        }
        if self.touched.is_multiple_of(64) {
            self.used.push(0);
        }
        self.touched += 1;
        Some(ChunkIndex(self.touched - 1))
    }

    /// Gives a chunk back.
    ///
    /// # Panics
    /// When the chunk is not in use: somebody else may hold it by now.
    pub fn give_back(&mut self, index: ChunkIndex) {
        self.check(index);
        match (index.owner(), &self.arena) {
            (Owner::Shared(chunk), Some(arena)) => {
                self.shared[chunk as usize / 64] &= !(1 << (chunk % 64));
                self.shared_in_use -= 1;
                return arena.give_back(chunk);
            }
            (Owner::Borrowed(number), Some(arena)) => {
                if let Some(borrowed) = self.borrowed[number].take() {
                    arena.release(&borrowed.neighbour, borrowed.chunk);
                    self.borrowed_free.push(number as u32);
                }
                return;
            }
            _ => self.used[index.0 as usize / 64] &= !(1 << (index.0 % 64)),
        }
        match &mut self.backing {
            Backing::Mapped(mapping) if self.warm.len() >= WARM => {
                mapping.forget(index.0 as usize * CHUNK_SIZE, CHUNK_SIZE);
                self.cold.push(index);
            }
            _ => self.warm.push(index),
        }
    }

    /// Some bytes of a chunk. Of a borrowed one they were published by its owner.
    #[inline]
    pub fn bytes(&self, index: ChunkIndex, range: Range<usize>) -> &[u8] {
        let base = if index.0 < SHARED {
            match &self.backing {
                Backing::Heap(chunks) => return &chunks[index.0 as usize].bytes[range],
                Backing::Mapped(mapping) => {
                    assert!(index.0 < self.touched, "no such chunk");
                    mapping.at(index.0 as usize * CHUNK_SIZE).cast_const()
                }
            }
        } else {
            self.base_of_shared(index)
        };
        assert!(range.start <= range.end && range.end <= CHUNK_SIZE, "beyond the chunk");
        // Private: chunk `index` < `touched` <= `limit` lies within the mapping, which is readable, zero-filled by the system and
        // lives as long as `self`; writers need `&mut self`, and the C side writes claimed bytes alone, which nobody looks at
        // before they are committed. Shared: likewise, in the arena, which `self` keeps. Borrowed: the neighbour's mapping is
        // kept by the entry, and what its owner published in a chunk that is held is not written again (`arena`), but for
        // claims that others overtook, which are padding of the stream: they may be summed and sent on, and are not parsed.
        // SAFETY: in each of the three cases there are CHUNK_SIZE bytes from `base` on, and the range is within them.
        unsafe { std::slice::from_raw_parts(base.add(range.start), range.len()) }
    }

    /// Where a chunk begins that is in an arena.
    fn base_of_shared(&self, index: ChunkIndex) -> *const u8 {
        match (index.owner(), &self.arena) {
            (Owner::Shared(chunk), Some(arena)) => arena.chunk(chunk),
            (Owner::Borrowed(number), _) => {
                let borrowed = self.borrowed.get(number).and_then(Option::as_ref).expect("a chunk in use");
                borrowed.neighbour.chunk(borrowed.chunk)
            }
            _ => panic!("no such chunk"),
        }
    }

    /// Some bytes of a chunk, for writing.
    ///
    /// # Panics
    /// When the chunk is borrowed.
    #[inline]
    pub fn range_mut(&mut self, index: ChunkIndex, range: Range<usize>) -> &mut [u8] {
        let base = match index.owner() {
            Owner::Private(number) => match &mut self.backing {
                Backing::Heap(chunks) => {
                    let chunk = &mut chunks[number];
                    chunk.written = chunk.written.max(range.end.min(CHUNK_SIZE));
                    return &mut chunk.bytes[range];
                }
                Backing::Mapped(mapping) => {
                    assert!(index.0 < self.touched, "no such chunk");
                    mapping.at(number * CHUNK_SIZE)
                }
            },
            Owner::Shared(chunk) => self.arena.as_ref().expect("the chunk's arena").chunk(chunk),
            Owner::Borrowed(_) => panic!("a borrowed chunk is only read"),
        };
        assert!(range.start <= range.end && range.end <= CHUNK_SIZE, "beyond the chunk");
        // SAFETY: as in `bytes`; `&mut self` makes this the only reference into the region of this process, and others do not
        // read bytes of a shared chunk before they are published.
        unsafe { std::slice::from_raw_parts_mut(base.add(range.start), range.len()) }
    }

    /// Chunks now in use, but for borrowed ones.
    pub fn in_use(&self) -> u32 {
        self.touched + self.shared_in_use - (self.warm.len() + self.cold.len()) as u32
    }

    /// The most chunks that may be in use.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    fn check(&self, index: ChunkIndex) {
        let (bits, number) = match index.owner() {
            Owner::Private(number) => (&self.used, number),
            Owner::Shared(number) => (&self.shared, number as usize),
            Owner::Borrowed(number) => {
                let is_there = self.borrowed.get(number).is_some_and(Option::is_some);
                return assert!(is_there, "chunk {} given back, but it is not in use", index.0);
            }
        };
        let word = bits.get(number / 64).copied().unwrap_or(0);
        assert!(word >> (number % 64) & 1 == 1, "chunk {} given back, but it is not in use", index.0);
    }

    // --- chunks that processes share --------------------------------------------------------------------------------------

    /// As [`Region::take`], for bytes that others read where they lie, if the arena has a chunk left.
    pub fn take_shared(&mut self) -> Option<ChunkIndex> {
        let arena = self.arena.as_ref().filter(|_| self.in_use() < self.limit);
        let Some(chunk) = arena.and_then(|arena| arena.take()) else { return self.take() };
        self.shared[chunk as usize / 64] |= 1 << (chunk % 64);
        self.shared_in_use += 1;
        Some(ChunkIndex(SHARED | chunk))
    }

    /// Whether the chunk is one of the own arena.
    #[inline]
    pub fn is_shared(&self, index: ChunkIndex) -> bool {
        matches!(index.owner(), Owner::Shared(_))
    }

    /// Copies some bytes of one chunk to the same place in another.
    ///
    /// # Panics
    /// When it is the same chunk, or the second one is borrowed.
    pub fn copy(&mut self, from: ChunkIndex, to: ChunkIndex, range: Range<usize>) {
        assert!(from != to, "chunk {} onto itself", from.0);
        let source = self.bytes(from, range.clone()).as_ptr();
        let target = self.range_mut(to, range);
        // SAFETY: `source` is the beginning of as many bytes of another chunk, which stays where it is.
        unsafe { std::ptr::copy_nonoverlapping(source, target.as_mut_ptr(), target.len()) };
    }

    /// What names these bytes to those who read this process's arena; `None`: the chunk is not in it.
    #[inline]
    pub fn place(&self, index: ChunkIndex, offset: usize, len: usize) -> Option<Place> {
        match (index.owner(), &self.arena) {
            (Owner::Shared(chunk), Some(arena)) => Some(arena.place(chunk, offset as u32, len as u32)),
            _ => None,
        }
    }

    /// Whether places in this process's arena mean something to the process with this nonce.
    pub fn is_read_by(&self, nonce: u128) -> bool {
        self.arena.as_ref().is_some_and(|arena| arena.is_read_by(nonce))
    }

    /// Changes with the answers of [`Region::is_read_by`].
    pub fn readers_epoch(&self) -> u64 {
        self.arena.as_ref().map_or(0, |arena| arena.epoch())
    }

    /// The chunk of a place that the process with this nonce named. It is read only, and only what was published in it; and given
    /// back like others. `None`: the place means nothing (any more).
    pub fn borrow(&mut self, nonce: u128, place: &Place) -> Option<ChunkIndex> {
        let neighbour = self.arena.as_ref()?.hold(nonce, place)?;
        let borrowed = Some(Borrowed { neighbour, chunk: place.chunk, generation: place.generation });
        let index = match self.borrowed_free.pop() {
            Some(index) => {
                self.borrowed[index as usize] = borrowed;
                index
            }
            None => {
                self.borrowed.push(borrowed);
                self.borrowed.len() as u32 - 1
            }
        };
        Some(ChunkIndex(BORROWED | index))
    }

    /// Whether the chunk is that of the place.
    pub fn is_at(&self, index: ChunkIndex, nonce: u128, place: &Place) -> bool {
        let Owner::Borrowed(number) = index.owner() else { return false };
        self.borrowed.get(number).and_then(Option::as_ref).is_some_and(|borrowed| {
            (borrowed.neighbour.nonce(), borrowed.chunk, borrowed.generation) == (nonce, place.chunk, place.generation)
        })
    }

    /// Whether the chunk is a neighbour's.
    #[inline]
    pub fn is_borrowed(&self, index: ChunkIndex) -> bool {
        matches!(index.owner(), Owner::Borrowed(_))
    }

    /// Whether the chunk can be read: a borrowed one cannot when it was given back.
    #[inline]
    pub fn is_there(&self, index: ChunkIndex) -> bool {
        match index.owner() {
            Owner::Borrowed(number) => self.borrowed.get(number).is_some_and(Option::is_some),
            _ => true,
        }
    }

    /// As for a process that is killed: what it reads of others stays marked so when the region is dropped. For simulations.
    pub fn abandon(&mut self) {
        self.borrowed.clear();
        self.borrowed_free.clear();
    }

    /// Chunks of neighbours that are read now.
    pub fn borrowed(&self) -> u32 {
        (self.borrowed.len() - self.borrowed_free.len()) as u32
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(arena) = &self.arena {
            for borrowed in self.borrowed.iter().flatten() {
                arena.release(&borrowed.neighbour, borrowed.chunk);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn both(limit: u32) -> [Region; 2] {
        [Region::heap(limit), Region::mapped(limit).expect("mmap")]
    }

    #[test]
    fn chunks_are_distinct_bounded_and_reused() {
        for mut region in both(3) {
            let chunks: Vec<ChunkIndex> = (0..3).map(|_| region.take().expect("free")).collect();
            assert_eq!((region.take(), region.in_use(), region.limit()), (None, 3, 3));
            for (value, chunk) in chunks.iter().enumerate() {
                region.range_mut(*chunk, 0..CHUNK_SIZE).fill(value as u8 + 1);
            }
            for (value, chunk) in chunks.iter().enumerate() {
                assert!(region.bytes(*chunk, 0..CHUNK_SIZE).iter().all(|byte| *byte == value as u8 + 1));
                assert_eq!(region.bytes(*chunk, 0..CHUNK_SIZE).len(), CHUNK_SIZE);
            }
            region.give_back(chunks[1]);
            assert_eq!((region.in_use(), region.take()), (2, Some(chunks[1])));
        }
    }

    #[test]
    fn addresses_stay() {
        for mut region in both(100) {
            let first = region.take().expect("free");
            let address = region.range_mut(first, 0..CHUNK_SIZE).as_mut_ptr();
            for _ in 0..99 {
                region.take().expect("free");
            }
            assert_eq!(region.bytes(first, 0..CHUNK_SIZE).as_ptr(), address.cast_const());
            assert_eq!(address as usize % 8, 0, "claims are 8-byte aligned");
        }
    }

    /// Runs of the simulator depend on nothing that ran before them.
    #[test]
    fn a_heap_region_begins_with_zeroes_whatever_was_written_before() {
        for round in 0..3 {
            let mut region = Region::heap(3);
            for write in 0..3 {
                let chunk = region.take().expect("free");
                assert!(region.bytes(chunk, 0..CHUNK_SIZE).iter().all(|byte| *byte == 0), "round {round}");
                match write {
                    0 => region.range_mut(chunk, 8..24).fill(1),
                    1 => region.range_mut(chunk, CHUNK_SIZE - 8..CHUNK_SIZE).fill(2),
                    _ => region.range_mut(chunk, 0..CHUNK_SIZE)[CHUNK_SIZE / 2] = 3,
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "not in use")]
    fn giving_back_twice_panics() {
        let mut region = Region::heap(2);
        let chunk = region.take().expect("free");
        region.give_back(chunk);
        region.give_back(chunk);
    }

    #[test]
    #[should_panic(expected = "not in use")]
    fn giving_back_a_chunk_that_never_was_panics() {
        Region::heap(2).give_back(ChunkIndex(7));
    }

    #[test]
    fn many_free_chunks_give_their_memory_back() {
        let mut region = Region::mapped(WARM as u32 + 2).expect("mmap");
        let chunks: Vec<ChunkIndex> = (0..WARM + 2).map(|_| region.take().expect("free")).collect();
        let last = chunks[WARM + 1];
        region.range_mut(last, 0..CHUNK_SIZE)[0] = 1;
        chunks.iter().for_each(|chunk| region.give_back(*chunk));
        assert_eq!((region.warm.len(), region.cold.len(), region.in_use()), (WARM, 2, 0));
        assert_eq!(region.bytes(last, 0..CHUNK_SIZE)[0], 0, "the memory went back to the system");
        assert!((0..WARM + 2).all(|_| region.take().is_some()));
    }
    /// Two regions whose processes, 1 and 2, share arenas of so many chunks.
    fn neighbours(chunks: u32) -> [Region; 2] {
        let arenas = [Arena::heap(chunks), Arena::heap(chunks)];
        assert!(arenas[0].connect_heap(2, &arenas[1], 0, 0) && arenas[1].connect_heap(1, &arenas[0], 0, 0));
        arenas.map(|arena| Region::heap(4).with_arena(Arc::new(arena)))
    }

    #[test]
    fn what_one_writes_the_other_reads_in_place() {
        let [mut one, mut two] = neighbours(1);
        let shared = one.take_shared().expect("a chunk");
        assert!(one.is_shared(shared) && one.in_use() == 1);
        one.range_mut(shared, 8..16).fill(7);
        let place = one.place(shared, 8, 8).expect("in the arena");
        let borrowed = two.borrow(1, &place).expect("in use");
        assert!(two.is_borrowed(borrowed) && two.is_at(borrowed, 1, &place) && !two.is_at(borrowed, 2, &place));
        assert_eq!((two.bytes(borrowed, 8..16), two.in_use(), two.borrowed()), (&[7; 8][..], 0, 1));
        one.give_back(shared);
        assert!(two.borrow(1, &place).is_none(), "given back");
        let private = one.take_shared().expect("a chunk");
        assert!(!one.is_shared(private) && one.place(private, 0, 8).is_none(), "the arena's only one is read");
        assert_eq!(two.bytes(borrowed, 8..16), [7; 8], "still");
        let own = two.take().expect("a chunk");
        two.copy(borrowed, own, 8..16);
        two.give_back(borrowed);
        assert!(!two.is_there(borrowed) && two.is_there(own));
        assert_eq!((two.bytes(own, 8..16), two.borrowed()), (&[7; 8][..], 0));
        assert!(one.take_shared().is_some_and(|chunk| one.is_shared(chunk)), "nobody reads it");
    }

    /// Who closes reads no more; who is killed seems to, until its end is known.
    #[test]
    fn the_end_of_a_region_ends_what_it_reads() {
        for killed in [false, true] {
            let [mut one, mut two] = neighbours(1);
            let shared = one.take_shared().expect("a chunk");
            two.borrow(1, &one.place(shared, 0, 8).expect("in the arena")).expect("in use");
            one.give_back(shared);
            if killed {
                two.abandon();
            }
            drop(two);
            let next = one.take_shared().expect("a chunk");
            assert_eq!(one.is_shared(next), !killed);
        }
    }

    #[test]
    #[should_panic(expected = "only read")]
    fn a_borrowed_chunk_is_not_written() {
        let [mut one, mut two] = neighbours(1);
        let shared = one.take_shared().expect("a chunk");
        let borrowed = two.borrow(1, &one.place(shared, 0, 8).expect("in the arena")).expect("in use");
        two.range_mut(borrowed, 0..8).fill(1);
    }

    /// All count together.
    #[test]
    fn shared_chunks_are_part_of_the_limit() {
        let mut region = Region::heap(2).with_arena(Arc::new(Arena::heap(4)));
        let all = [region.take_shared(), region.take()].map(|chunk| chunk.expect("free"));
        assert_eq!((region.take_shared(), region.take(), region.in_use()), (None, None, 2));
        region.give_back(all[0]);
        assert!(region.take_shared().is_some());
    }
}
