//! The chunk region: all stream bytes of a process lie here, in chunks of one size.
//!
//! A stream is laid out in chunks of [`CHUNK_SIZE`] bytes (chunk = position / size, offset = remainder), alike in a
//! sender's log and in its receivers' images. A chunk is taken when bytes arrive for it and given back when they are
//! stable and consumed, so memory follows the unstable bytes, not groups × members. Chunks are addressed by a 32-bit
//! index; no pointer is stored inside.
//!
//! Owner: the [`Region`] belongs to one protocol endpoint, hence to one thread.

/// Bytes in a chunk. A constant of the protocol version, because positions map to chunks alike at every member.
pub const CHUNK_SIZE: usize = 64 * 1024;

/// Index of a chunk in its region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChunkIndex(pub u32);

/// A bounded set of chunks.
#[derive(Debug)]
pub struct Region {
    chunks: Vec<Box<[u8]>>,
    free: Vec<ChunkIndex>,
    limit: u32,
}

impl Region {
    /// A region on the heap that grows up to `limit` chunks.
    pub fn heap(limit: u32) -> Region {
        Region { chunks: Vec::new(), free: Vec::new(), limit }
    }

    /// Takes a free chunk; its content is undefined (older bytes of other streams). `None` when `limit` chunks are in use.
    pub fn take(&mut self) -> Option<ChunkIndex> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        if self.chunks.len() >= self.limit as usize {
            return None;
        }
        self.chunks.push(vec![0; CHUNK_SIZE].into_boxed_slice());
        Some(ChunkIndex(self.chunks.len() as u32 - 1))
    }

    /// Gives a chunk back.
    pub fn give_back(&mut self, index: ChunkIndex) {
        debug_assert!(!self.free.contains(&index), "chunk given back twice");
        self.free.push(index);
    }

    /// The bytes of a chunk.
    pub fn chunk(&self, index: ChunkIndex) -> &[u8] {
        &self.chunks[index.0 as usize]
    }

    /// The bytes of a chunk, for writing.
    pub fn chunk_mut(&mut self, index: ChunkIndex) -> &mut [u8] {
        &mut self.chunks[index.0 as usize]
    }

    /// Chunks now in use.
    pub fn in_use(&self) -> u32 {
        (self.chunks.len() - self.free.len()) as u32
    }

    /// The most chunks that may be in use.
    pub fn limit(&self) -> u32 {
        self.limit
    }
}
