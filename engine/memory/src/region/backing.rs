//! Where the private chunks of a region are: on the heap, or in an anonymous mapping.

use super::CHUNK_SIZE;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// Slabs that a thread keeps for its next regions (32 MiB).
const SPARE: usize = 128;

/// The chunks of a slab.
const CHUNKS: usize = HeapSlab::CHUNKS as usize;

thread_local! {
    /// Slabs of regions that are gone, all zeroes again. A simulator makes thousands of small regions one after the
    /// other: to clear the little that was written of each chunk is much less than to clear all of a new one.
    static SPARES: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Chunks on the heap that follow each other in memory.
#[derive(Debug)]
pub(super) struct HeapSlab {
    bytes: Box<[u8]>,
    /// Of each chunk: nothing from here on was ever written: zeroes.
    written: [usize; CHUNKS],
}

impl HeapSlab {
    /// Few: what crosses the border between two slabs is not in one piece, and simulations have that as well.
    pub const CHUNKS: u32 = 4;

    pub fn new() -> HeapSlab {
        let spare = SPARES.try_with(|spares| spares.borrow_mut().pop()).ok().flatten();
        let bytes = spare.unwrap_or_else(|| vec![0; CHUNKS * CHUNK_SIZE].into_boxed_slice());
        HeapSlab { bytes, written: [0; CHUNKS] }
    }

    /// Whether a slab begins with the chunk of this number.
    pub fn begins_at(number: usize) -> bool {
        number.is_multiple_of(CHUNKS)
    }

    /// Some bytes from the beginning of the chunk of this number on, in its slab.
    #[inline]
    pub fn bytes(slabs: &[HeapSlab], number: u32, range: Range<usize>) -> &[u8] {
        let base = (number % HeapSlab::CHUNKS) as usize * CHUNK_SIZE;
        &slabs[(number / HeapSlab::CHUNKS) as usize].bytes[base + range.start..base + range.end]
    }

    /// Some bytes of the chunk of this number.
    #[inline]
    pub fn range_mut(slabs: &mut [HeapSlab], number: usize, range: Range<usize>) -> &mut [u8] {
        let (slab, chunk) = (&mut slabs[number / CHUNKS], number % CHUNKS);
        assert!(range.end <= CHUNK_SIZE, "beyond the chunk");
        slab.written[chunk] = slab.written[chunk].max(range.end);
        &mut slab.bytes[chunk * CHUNK_SIZE..][range]
    }
}

impl Drop for HeapSlab {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        // A thread at its end keeps none.
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < SPARE {
                for (chunk, written) in bytes.chunks_exact_mut(CHUNK_SIZE).zip(self.written) {
                    chunk[..written].fill(0);
                }
                spares.push(bytes);
            }
        });
    }
}

/// See the module.
#[derive(Debug)]
pub(super) enum Backing {
    Heap(Vec<HeapSlab>),
    Mapped(Mapping),
}

impl Backing {
    /// Makes room for the chunk of this number.
    pub fn reach(&mut self, number: u32) {
        if let Backing::Heap(slabs) = self {
            slabs.resize_with(slabs.len().max((number / HeapSlab::CHUNKS) as usize + 1), HeapSlab::new);
        }
    }
}

/// An anonymous private mapping, unmapped on drop.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory that belongs to this value alone; nothing of it is bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: through `&Mapping` only addresses are computed.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub fn new(len: usize) -> io::Result<Mapping> {
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

    pub fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.len);
        // SAFETY: callers pass offsets of chunks below `touched`, so the result stays within the mapping.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Gives the memory of a range back to the system: it reads as zeroes afterwards.
    pub fn forget(&mut self, offset: usize, len: usize) {
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
