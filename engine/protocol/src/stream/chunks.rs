//! Which chunks of the region hold a stream: chunk number = position / [`CHUNK_SIZE`].

use isis_memory::{CHUNK_SIZE, ChunkIndex, Region};
use std::collections::VecDeque;

/// The chunks of one stream, from the first not yet given back.
#[derive(Debug, Default)]
pub struct Chunks {
    first: u64,
    chunks: VecDeque<Option<ChunkIndex>>,
}

/// The chunk number and the offset in it of a position.
fn split(position: u64) -> (u64, usize) {
    (position / CHUNK_SIZE as u64, (position % CHUNK_SIZE as u64) as usize)
}

impl Chunks {
    /// The chunk that holds `position` and the offset in it, if there is one.
    pub fn locate(&self, position: u64) -> Option<(ChunkIndex, usize)> {
        let (number, offset) = split(position);
        let index = number.checked_sub(self.first)?;
        Some(((*self.chunks.get(index as usize)?)?, offset))
    }

    /// As `locate`, taking a chunk from the region if there is none. `None`: the region is exhausted, or the position
    /// lies before the first chunk kept.
    pub fn locate_or_take(&mut self, region: &mut Region, position: u64) -> Option<(ChunkIndex, usize)> {
        self.locate_or(position, || region.take())
    }

    /// As `locate`, with a chunk of the caller's if there is none.
    pub fn locate_or(
        &mut self,
        position: u64,
        chunk: impl FnOnce() -> Option<ChunkIndex>,
    ) -> Option<(ChunkIndex, usize)> {
        let (number, offset) = split(position);
        let index = number.checked_sub(self.first)? as usize;
        while self.chunks.len() <= index {
            self.chunks.push_back(None);
        }
        if self.chunks[index].is_none() {
            self.chunks[index] = Some(chunk()?);
        }
        Some((self.chunks[index]?, offset))
    }

    /// The bytes from `position` to `end` or the end of the chunk, whichever is first; empty if they are not here.
    pub fn slice<'a>(&self, region: &'a Region, position: u64, end: u64) -> &'a [u8] {
        match self.locate(position) {
            None => &[],
            Some((chunk, offset)) => {
                let len = (end.saturating_sub(position)).min((CHUNK_SIZE - offset) as u64) as usize;
                region.bytes(chunk, offset..offset + len)
            }
        }
    }

    /// Gives back every chunk that ends at or before `position`, through `release`.
    pub fn release_before(&mut self, position: u64, mut release: impl FnMut(ChunkIndex)) {
        let (number, _) = split(position);
        while self.first < number {
            match self.chunks.pop_front() {
                Some(Some(chunk)) => release(chunk),
                Some(None) => {}
                None => {
                    self.first = number;
                    return;
                }
            }
            self.first += 1;
        }
    }

    /// Gives back all chunks.
    pub fn release_all(&mut self, mut release: impl FnMut(ChunkIndex)) {
        self.first = u64::MAX;
        for chunk in self.chunks.drain(..).flatten() {
            release(chunk);
        }
    }

    /// The first position that is still kept.
    pub fn kept_from(&self) -> u64 {
        self.first.saturating_mul(CHUNK_SIZE as u64)
    }
}
