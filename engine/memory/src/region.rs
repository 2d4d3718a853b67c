//! The chunk region: all stream bytes of a process lie here, in chunks of one size.
//!
//! A stream is laid out in chunks of [`CHUNK_SIZE`] bytes (chunk = position / size, offset = remainder), alike in a
//! sender's log and in its receivers' images. A chunk is taken when bytes arrive for it and given back when they are
//! stable and consumed, so memory follows the unstable bytes, not groups × members. Chunks are addressed by a 32-bit
//! index; no pointer is stored inside.
//!
//! A region is backed by the heap (simulator, tests) or by one anonymous mapping, lazily touched: `limit` × 64 KiB of
//! addresses, of which only chunks that were ever taken are memory, and of those that are free at most [`WARM`] stay so.
//!
//! Owner: the [`Region`] belongs to one protocol endpoint, hence to one thread. Invariants: a chunk is either free or in
//! use (the bitmap says which; giving back twice panics, always); its address never changes while the region lives.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// Bytes in a chunk. A constant of the protocol version, because positions map to chunks alike at every member.
pub const CHUNK_SIZE: usize = 64 * 1024;

/// Free chunks of a mapped region that keep their memory (64 MiB); further ones go back to the system.
pub const WARM: usize = 1024;

/// Index of a chunk in its region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChunkIndex(pub u32);

/// A bounded set of chunks.
#[derive(Debug)]
pub struct Region {
    backing: Backing,
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

/// Chunks on the heap that a thread keeps for its next regions (16 MiB).
const SPARE: usize = 256;

thread_local! {
    /// Chunks of heap regions that are gone, all zeroes again. A simulator makes thousands of small regions one after the
    /// other: to clear the little that was written of each chunk is much less than to clear all of a new one.
    static SPARES: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A chunk on the heap.
#[derive(Debug)]
struct HeapChunk {
    bytes: Box<[u8]>,
    /// Nothing from here on was ever written: zeroes.
    written: usize,
}

impl HeapChunk {
    fn new() -> HeapChunk {
        let spare = SPARES.try_with(|spares| spares.borrow_mut().pop()).ok().flatten();
        HeapChunk { bytes: spare.unwrap_or_else(|| vec![0; CHUNK_SIZE].into_boxed_slice()), written: 0 }
    }
}

impl Drop for HeapChunk {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        // A thread at its end keeps none.
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < SPARE {
                bytes[..self.written].fill(0);
                spares.push(bytes);
            }
        });
    }
}

#[derive(Debug)]
enum Backing {
    Heap(Vec<HeapChunk>),
    Mapped(Mapping),
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
        Region { backing, warm: Vec::new(), cold: Vec::new(), used: Vec::new(), touched: 0, limit }
    }

    /// Takes a free chunk; its content is undefined (older bytes of other streams). `None` when `limit` chunks are in use.
    pub fn take(&mut self) -> Option<ChunkIndex> {
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
        self.used[index.0 as usize / 64] &= !(1 << (index.0 % 64));
        match &mut self.backing {
            Backing::Mapped(mapping) if self.warm.len() >= WARM => {
                mapping.forget(index.0 as usize * CHUNK_SIZE, CHUNK_SIZE);
                self.cold.push(index);
            }
            _ => self.warm.push(index),
        }
    }

    /// The bytes of a chunk.
    pub fn chunk(&self, index: ChunkIndex) -> &[u8] {
        match &self.backing {
            Backing::Heap(chunks) => &chunks[index.0 as usize].bytes,
            Backing::Mapped(mapping) => {
                assert!(index.0 < self.touched, "no such chunk");
                // SAFETY: chunk `index` < `touched` <= `limit` lies within the mapping, which is readable, zero-filled
                // by the system and lives as long as `self`; writers need `&mut self`, and the C side writes through
                // `chunk_pointer_mut` only into bytes that nobody reads yet (see there).
                unsafe { std::slice::from_raw_parts(mapping.at(index.0 as usize * CHUNK_SIZE), CHUNK_SIZE) }
            }
        }
    }

    /// Some bytes of a chunk, for writing.
    pub fn range_mut(&mut self, index: ChunkIndex, range: Range<usize>) -> &mut [u8] {
        self.note_written(index, range.end);
        &mut self.bytes_mut(index)[range]
    }

    /// The bytes of a chunk, for writing.
    pub fn chunk_mut(&mut self, index: ChunkIndex) -> &mut [u8] {
        self.note_written(index, CHUNK_SIZE);
        self.bytes_mut(index)
    }

    fn note_written(&mut self, index: ChunkIndex, end: usize) {
        if let Backing::Heap(chunks) = &mut self.backing {
            let chunk = &mut chunks[index.0 as usize];
            chunk.written = chunk.written.max(end.min(CHUNK_SIZE));
        }
    }

    fn bytes_mut(&mut self, index: ChunkIndex) -> &mut [u8] {
        match &mut self.backing {
            Backing::Heap(chunks) => &mut chunks[index.0 as usize].bytes,
            Backing::Mapped(mapping) => {
                assert!(index.0 < self.touched, "no such chunk");
                // SAFETY: as in `chunk`; `&mut self` makes this the only reference into the region.
                unsafe { std::slice::from_raw_parts_mut(mapping.at(index.0 as usize * CHUNK_SIZE), CHUNK_SIZE) }
            }
        }
    }

    /// Where a chunk begins. The address holds as long as the region lives; the bytes are the chunk's as long as it is
    /// in use.
    pub fn chunk_pointer(&self, index: ChunkIndex) -> *const u8 {
        self.chunk(index).as_ptr()
    }

    /// As `chunk_pointer`, for writing: only into bytes that were reserved and not yet published, and only on the thread
    /// that owns the region.
    pub fn chunk_pointer_mut(&mut self, index: ChunkIndex) -> *mut u8 {
        self.chunk_mut(index).as_mut_ptr()
    }

    /// Chunks now in use.
    pub fn in_use(&self) -> u32 {
        self.touched - (self.warm.len() + self.cold.len()) as u32
    }

    /// The most chunks that may be in use.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    fn check(&self, index: ChunkIndex) {
        let word = self.used.get(index.0 as usize / 64).copied().unwrap_or(0);
        assert!(word >> (index.0 % 64) & 1 == 1, "chunk {} given back, but it is not in use", index.0);
    }
}

/// An anonymous private mapping, unmapped on drop.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory that belongs to this value alone; nothing of it is bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: through `&Mapping` only addresses are computed.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(len: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh anonymous mapping at an address of the system's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapping at address 0"))?;
        Ok(Mapping { base, len })
    }

    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.len);
        // SAFETY: callers pass offsets of chunks below `touched`, so the result stays within the mapping.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Gives the memory of a range back to the system: it reads as zeroes afterwards.
    fn forget(&mut self, offset: usize, len: usize) {
        debug_assert!(offset + len <= self.len);
        // SAFETY: the range lies within the mapping and belongs to a chunk that nobody uses. A failure is harmless: the
        // memory stays.
        unsafe { libc::madvise(self.at(offset).cast(), len, libc::MADV_DONTNEED) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are those of the mapping, and no reference into it outlives the region that owns it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
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
                region.chunk_mut(*chunk).fill(value as u8 + 1);
            }
            for (value, chunk) in chunks.iter().enumerate() {
                assert!(region.chunk(*chunk).iter().all(|byte| *byte == value as u8 + 1));
                assert_eq!(region.chunk(*chunk).len(), CHUNK_SIZE);
            }
            region.give_back(chunks[1]);
            assert_eq!((region.in_use(), region.take()), (2, Some(chunks[1])));
        }
    }

    #[test]
    fn addresses_stay() {
        for mut region in both(100) {
            let first = region.take().expect("free");
            let address = region.chunk_pointer_mut(first);
            for _ in 0..99 {
                region.take().expect("free");
            }
            assert_eq!(region.chunk_pointer(first), address.cast_const());
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
                assert!(region.chunk(chunk).iter().all(|byte| *byte == 0), "round {round}");
                match write {
                    0 => region.range_mut(chunk, 8..24).fill(1),
                    1 => region.range_mut(chunk, CHUNK_SIZE - 8..CHUNK_SIZE).fill(2),
                    _ => region.chunk_mut(chunk)[CHUNK_SIZE / 2] = 3,
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
        region.chunk_mut(last)[0] = 1;
        chunks.iter().for_each(|chunk| region.give_back(*chunk));
        assert_eq!((region.warm.len(), region.cold.len(), region.in_use()), (WARM, 2, 0));
        assert_eq!(region.chunk(last)[0], 0, "the memory went back to the system");
        assert!((0..WARM + 2).all(|_| region.take().is_some()));
    }
}
