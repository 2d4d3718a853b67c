//! Where the private chunks of a region are: on the heap, or in an anonymous mapping.

use super::CHUNK_SIZE;
use std::cell::RefCell;
use std::io;
use std::ptr::NonNull;

/// Chunks on the heap that a thread keeps for its next regions (16 MiB).
const SPARE: usize = 256;

thread_local! {
    /// Chunks of heap regions that are gone, all zeroes again. A simulator makes thousands of small regions one after the
    /// other: to clear the little that was written of each chunk is much less than to clear all of a new one.
    static SPARES: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A chunk on the heap.
#[derive(Debug)]
pub(super) struct HeapChunk {
    pub bytes: Box<[u8]>,
    /// Nothing from here on was ever written: zeroes.
    pub written: usize,
}

impl HeapChunk {
    pub fn new() -> HeapChunk {
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

/// See the module.
#[derive(Debug)]
pub(super) enum Backing {
    Heap(Vec<HeapChunk>),
    Mapped(Mapping),
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
