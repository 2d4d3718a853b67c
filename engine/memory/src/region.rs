//! The chunk region: all stream bytes of a process lie here, in chunks of one size.
//!
//! A stream is laid out in chunks of [`CHUNK_SIZE`] bytes (chunk = position / size, offset = remainder), alike in a
//! sender's log and in its receivers' images. A chunk is taken when bytes arrive for it and given back when they are
//! stable and consumed, so memory follows the unstable bytes, not groups × members (an arena keeps the memory that it once
//! had). Chunks are addressed by a 32-bit index; no pointer is stored inside.
//!
//! A region is backed by the heap (simulator, tests) or by one anonymous mapping, lazily touched: `limit` × 64 KiB of
//! addresses, of which only chunks that were ever taken are memory, and of those that are free at most [`WARM`] stay so. What is
//! taken is the free chunk of the lowest index, so that few are in the caches; streams of long messages take *runs*, chunks
//! that follow each other in memory, so that what crosses their borders lies in one piece ([`Region::take_next`]).
//!
//! With an [`Arena`] a region has two more kinds of chunks, told apart by the upper bits of their index: *shared* ones of this
//! process's own arena, for streams that the neighbours read where they lie ([`Region::take_shared`]), and *borrowed* ones,
//! which are the neighbours' ([`Region::borrow`]) and only read.
//!
//! Owner: the [`Region`] belongs to one protocol endpoint, hence to one thread. Invariants: a chunk is either free or in
//! use (the bitmap says which; giving back twice panics, always); its address never changes while the region lives.

mod backing;
mod occupancy;

use crate::arena::{Arena, Neighbour, Place};
use crate::sync;
use backing::{Backing, HeapSlab, Mapping};
use occupancy::{Occupancy, clear, is_set, set};
pub use occupancy::{RUN, WARM};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Bytes in a chunk. A constant of the protocol version, because positions map to chunks alike at every member.
pub const CHUNK_SIZE: usize = 64 * 1024;

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
    private: Occupancy,
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
            private: Occupancy::default(),
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
        let number = self.private.lowest_free();
        Some(self.occupy(number))
    }

    /// As [`Region::take`], for bytes that go on where those of the chunk `after` end: if it can be, in the chunk that follows it
    /// in memory, or else where others can follow.
    pub fn take_next(&mut self, after: Option<ChunkIndex>) -> Option<ChunkIndex> {
        if self.in_use() >= self.limit {
            return None;
        }
        let after = after.filter(|after| after.0 < SHARED).map(|after| after.0);
        let number = self.private.next_free(after, self.limit);
        Some(self.occupy(number))
    }

    /// Takes this private chunk, which is free.
    fn occupy(&mut self, number: u32) -> ChunkIndex {
        self.private.occupy(number);
        self.backing.reach(number);
        ChunkIndex(number)
    }

    /// Gives a chunk back.
    ///
    /// # Panics
    /// When the chunk is not in use: somebody else may hold it by now.
    pub fn give_back(&mut self, index: ChunkIndex) {
        self.check(index);
        match (index.owner(), &self.arena) {
            (Owner::Shared(chunk), Some(arena)) => {
                clear(&mut self.shared, chunk);
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
            _ => {}
        }
        match &mut self.backing {
            Backing::Heap(_) => _ = self.private.give_back(index.0, false),
            Backing::Mapped(mapping) => {
                if self.private.give_back(index.0, true) {
                    mapping.forget(index.0 as usize * CHUNK_SIZE, CHUNK_SIZE);
                }
            }
        }
    }

    /// Some bytes of a chunk, or from it on of those that follow it in memory ([`Region::is_followed_by`]). Of a borrowed one they
    /// were published by its owner.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    pub fn bytes(&self, index: ChunkIndex, range: Range<usize>) -> &[u8] {
        let base = if index.0 < SHARED {
            match &self.backing {
                Backing::Heap(slabs) => return HeapSlab::bytes(slabs, index.0, range),
                Backing::Mapped(mapping) => {
                    assert!(index.0 < self.private.touched(), "no such chunk");
                    mapping.at(index.0 as usize * CHUNK_SIZE).cast_const()
                }
            }
        } else {
            self.base_of_shared(index)
        };
        let fits = range.end <= CHUNK_SIZE || self.reaches(index, range.end);
        assert!(range.start <= range.end && fits, "beyond the chunk");
        // Private: chunk `index` < `touched` <= `limit` lies within the mapping, which is readable, zero-filled by the system and
        // lives as long as `self`; writers need `&mut self`, and the C side writes claimed bytes alone, which nobody looks at
        // before they are committed. Shared: likewise, in the arena, which `self` keeps. Borrowed: the neighbour's mapping is
        // kept by the entry, and what its owner published in a chunk that is held is not written again (`arena`), but for
        // claims that others overtook, which are padding of the stream: they may be summed and sent on, and are not parsed.
        // Beyond the chunk there are others of the same memory, which `reaches` says.
        // SAFETY: in each of the three cases there are CHUNK_SIZE bytes from `base` on, or more, and the range is within them.
        unsafe { std::slice::from_raw_parts(base.add(range.start), range.len()) }
    }

    /// Whether there are chunks in memory up to so many bytes from the beginning of this one.
    #[cold]
    fn reaches(&self, index: ChunkIndex, bytes: usize) -> bool {
        let chunks = bytes.div_ceil(CHUNK_SIZE);
        let (first, all) = match (index.owner(), &self.arena) {
            (Owner::Private(number), _) => (number, self.private.touched()),
            (Owner::Shared(number), Some(arena)) => (number as usize, arena.chunks()),
            (Owner::Borrowed(number), _) => match self.borrowed.get(number).and_then(Option::as_ref) {
                Some(borrowed) => (borrowed.chunk as usize, borrowed.neighbour.chunks()),
                None => return false,
            },
            _ => return false,
        };
        first + chunks <= all as usize
    }

    /// Whether the bytes of the second chunk lie behind those of the first one in memory, so that [`Region::bytes`] gives both as
    /// one.
    pub fn is_followed_by(&self, first: ChunkIndex, second: ChunkIndex) -> bool {
        match (first.owner(), second.owner()) {
            (Owner::Private(first), Owner::Private(second)) => {
                second == first + 1 && (matches!(self.backing, Backing::Mapped(_)) || !HeapSlab::begins_at(second))
            }
            (Owner::Shared(first), Owner::Shared(second)) => second == first + 1,
            (Owner::Borrowed(first), Owner::Borrowed(second)) => {
                let at = |number: usize| self.borrowed.get(number).and_then(Option::as_ref);
                at(first).zip(at(second)).is_some_and(|(first, second)| {
                    sync::Arc::ptr_eq(&first.neighbour, &second.neighbour) && second.chunk == first.chunk + 1
                })
            }
            _ => false,
        }
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
                Backing::Heap(slabs) => return HeapSlab::range_mut(slabs, number, range),
                Backing::Mapped(mapping) => {
                    assert!(index.0 < self.private.touched(), "no such chunk");
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
        self.private.in_use() + self.shared_in_use
    }

    /// The most chunks that may be in use.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    fn check(&self, index: ChunkIndex) {
        let is_there = match index.owner() {
            Owner::Private(number) => self.private.is_used(number as u32),
            Owner::Shared(number) => is_set(&self.shared, number),
            Owner::Borrowed(number) => self.borrowed.get(number).is_some_and(Option::is_some),
        };
        assert!(is_there, "chunk {} given back, but it is not in use", index.0);
    }

    // --- chunks that processes share --------------------------------------------------------------------------------------

    /// As [`Region::take`], for bytes that others read where they lie, if the arena has a chunk left; if it can be, the one that
    /// follows `after` in memory.
    pub fn take_shared(&mut self, after: Option<ChunkIndex>) -> Option<ChunkIndex> {
        let arena = self.arena.as_ref().filter(|_| self.in_use() < self.limit);
        let shared = after.and_then(|after| match after.owner() {
            Owner::Shared(chunk) => Some(chunk),
            _ => None,
        });
        let Some(chunk) = arena.and_then(|arena| arena.take(shared)) else {
            return if after.is_some() { self.take_next(after) } else { self.take() };
        };
        set(&mut self.shared, chunk);
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

    /// Whether the chunk, and what lies behind it up to so many bytes from its beginning, can be read: a borrowed one cannot when it
    /// was given back.
    #[inline]
    pub fn is_there(&self, index: ChunkIndex, bytes: usize) -> bool {
        let is_there = match index.owner() {
            Owner::Borrowed(number) => self.borrowed.get(number).is_some_and(Option::is_some),
            _ => true,
        };
        is_there && (bytes <= CHUNK_SIZE || self.reaches(index, bytes))
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
    fn what_goes_on_lies_behind_what_it_follows() {
        for mut region in both(64) {
            let mapped = matches!(region.backing, Backing::Mapped(_));
            let low = region.take().expect("free");
            let mut run = vec![region.take_next(None).expect("free")];
            for _ in 0..RUN {
                run.push(region.take_next(run.last().copied()).expect("free"));
            }
            assert_eq!((low.0, run[0].0, run[RUN as usize].0), (0, RUN, 2 * RUN), "runs are not mixed with others");
            for pair in run.windows(2) {
                let follows = region.is_followed_by(pair[0], pair[1]);
                assert_eq!(follows, mapped || pair[1].0 % HeapSlab::CHUNKS != 0);
                region.range_mut(pair[0], CHUNK_SIZE - 8..CHUNK_SIZE).fill(1);
                region.range_mut(pair[1], 0..8).fill(2);
                if follows {
                    assert_eq!(region.bytes(pair[0], CHUNK_SIZE - 8..CHUNK_SIZE + 8), [[1; 8], [2; 8]].concat());
                }
                region.range_mut(pair[1], 0..8).fill(1);
            }
            assert!(!region.is_followed_by(run[1], run[0]) && !region.is_followed_by(low, run[0]));
            // One comes back: whoever needs a chunk takes it, then the run cannot go on there.
            region.give_back(run[3]);
            assert_eq!(region.take(), Some(ChunkIndex(1)));
            assert_eq!(region.take_next(Some(run[2])), Some(run[3]));
            let others: Vec<ChunkIndex> = (0..14).map(|_| region.take().expect("free")).collect();
            assert_eq!(others.last(), Some(&ChunkIndex(15)));
            assert_eq!(region.take_next(Some(ChunkIndex(14))), Some(ChunkIndex(3 * RUN)));
            // No run is free: any chunk will do.
            assert_eq!(region.take_next(None), Some(ChunkIndex(2 * RUN + 1)));
        }
    }

    #[test]
    #[should_panic(expected = "beyond the chunk")]
    fn nothing_is_read_behind_the_last_chunk() {
        let mut region = Region::mapped(2).expect("mmap");
        let chunk = region.take().expect("free");
        region.bytes(chunk, 0..CHUNK_SIZE + 1);
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
        let mut region = Region::mapped(WARM + 2).expect("mmap");
        let chunks: Vec<ChunkIndex> = (0..WARM + 2).map(|_| region.take().expect("free")).collect();
        let last = chunks[WARM as usize + 1];
        region.range_mut(last, 0..CHUNK_SIZE)[0] = 1;
        chunks.iter().for_each(|chunk| region.give_back(*chunk));
        assert_eq!((region.private.memory(), region.in_use()), ((WARM, WARM), 0));
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
        let shared = one.take_shared(None).expect("a chunk");
        assert!(one.is_shared(shared) && one.in_use() == 1);
        one.range_mut(shared, 8..16).fill(7);
        let place = one.place(shared, 8, 8).expect("in the arena");
        let borrowed = two.borrow(1, &place).expect("in use");
        assert!(two.is_borrowed(borrowed) && two.is_at(borrowed, 1, &place) && !two.is_at(borrowed, 2, &place));
        assert_eq!((two.bytes(borrowed, 8..16), two.in_use(), two.borrowed()), (&[7; 8][..], 0, 1));
        one.give_back(shared);
        assert!(two.borrow(1, &place).is_none(), "given back");
        let private = one.take_shared(None).expect("a chunk");
        assert!(!one.is_shared(private) && one.place(private, 0, 8).is_none(), "the arena's only one is read");
        assert_eq!(two.bytes(borrowed, 8..16), [7; 8], "still");
        let own = two.take().expect("a chunk");
        two.copy(borrowed, own, 8..16);
        two.give_back(borrowed);
        assert!(!two.is_there(borrowed, 8) && two.is_there(own, 8));
        assert_eq!((two.bytes(own, 8..16), two.borrowed()), (&[7; 8][..], 0));
        assert!(one.take_shared(None).is_some_and(|chunk| one.is_shared(chunk)), "nobody reads it");
    }

    #[test]
    fn what_goes_on_is_one_piece_for_the_neighbours_too() {
        let [mut one, mut two] = neighbours(3);
        let first = one.take_shared(None).expect("a chunk");
        let second = one.take_shared(Some(first)).expect("a chunk");
        assert!(one.is_followed_by(first, second));
        one.range_mut(first, CHUNK_SIZE - 8..CHUNK_SIZE).fill(1);
        one.range_mut(second, 0..8).fill(2);
        let [a, b] = [(first, CHUNK_SIZE - 8), (second, 0)].map(|(chunk, offset)| {
            let place = one.place(chunk, offset, 8).expect("in the arena");
            two.borrow(1, &place).expect("in use")
        });
        assert!(two.is_followed_by(a, b) && !two.is_followed_by(b, a));
        for (region, chunk) in [(&one, first), (&two, a)] {
            assert_eq!(region.bytes(chunk, CHUNK_SIZE - 8..CHUNK_SIZE + 8), [[1; 8], [2; 8]].concat());
        }
        // The first one comes back, and is not read: a run that goes on takes the one that was never used, and then it.
        one.give_back(first);
        two.give_back(a);
        let third = one.take_shared(Some(second)).expect("a chunk");
        assert!(one.is_followed_by(second, third));
        one.give_back(second);
        let again = one.take_shared(Some(third)).expect("a chunk");
        assert_eq!(again, first);
        let private = one.take_shared(Some(again)).expect("a chunk");
        assert!(!one.is_shared(private), "what follows is still read");
        two.give_back(b);
        assert_eq!(one.take_shared(Some(again)), Some(second));
    }

    /// Who closes reads no more; who is killed seems to, until its end is known.
    #[test]
    fn the_end_of_a_region_ends_what_it_reads() {
        for killed in [false, true] {
            let [mut one, mut two] = neighbours(1);
            let shared = one.take_shared(None).expect("a chunk");
            two.borrow(1, &one.place(shared, 0, 8).expect("in the arena")).expect("in use");
            one.give_back(shared);
            if killed {
                two.abandon();
            }
            drop(two);
            let next = one.take_shared(None).expect("a chunk");
            assert_eq!(one.is_shared(next), !killed);
        }
    }

    #[test]
    #[should_panic(expected = "only read")]
    fn a_borrowed_chunk_is_not_written() {
        let [mut one, mut two] = neighbours(1);
        let shared = one.take_shared(None).expect("a chunk");
        let borrowed = two.borrow(1, &one.place(shared, 0, 8).expect("in the arena")).expect("in use");
        two.range_mut(borrowed, 0..8).fill(1);
    }

    /// All count together.
    #[test]
    fn shared_chunks_are_part_of_the_limit() {
        let mut region = Region::heap(2).with_arena(Arc::new(Arena::heap(4)));
        let all = [region.take_shared(None), region.take()].map(|chunk| chunk.expect("free"));
        assert_eq!((region.take_shared(None), region.take(), region.in_use()), (None, None, 2));
        region.give_back(all[0]);
        assert!(region.take_shared(None).is_some());
    }
}
