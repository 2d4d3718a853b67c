//! Which chunks of the region hold a stream: chunk number = position / [`CHUNK_SIZE`].

use isis_memory::{CHUNK_SIZE, ChunkIndex, RUN, Region};
use std::collections::VecDeque;

/// The chunks of one stream, from the first not yet given back.
#[derive(Debug, Default)]
pub struct Chunks {
    first: u64,
    chunks: VecDeque<Option<ChunkIndex>>,
}

/// So far behind a frame that reached from one chunk into another more of them are expected: as far as a run of chunks reaches.
const GOES_ON: u64 = RUN as u64 * CHUNK_SIZE as u64;

/// Whether bytes at `position` are likely to be of frames that reach into the next chunk, if the last one of them ended at
/// `crossed` (0: there was none): then chunks should follow each other in memory.
pub fn goes_on(crossed: u64, position: u64) -> bool {
    crossed > 0 && position < crossed + GOES_ON
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

    /// The chunk before the one that holds `position`, if there is one.
    pub fn before(&self, position: u64) -> Option<ChunkIndex> {
        self.locate(position.checked_sub(CHUNK_SIZE as u64)?).map(|(chunk, _)| chunk)
    }

    /// As `locate`, with a chunk of the caller's if there is none. `None`: the caller has none, or the position lies before the
    /// first chunk kept.
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

    /// The bytes from `position` to `end`, or as many of them as lie in one piece; empty if they are not here.
    pub fn slice<'a>(&self, region: &'a Region, position: u64, end: u64) -> &'a [u8] {
        let Some((first, offset)) = self.locate(position) else { return &[] };
        let mut last = first;
        let mut reach = position - offset as u64 + CHUNK_SIZE as u64;
        while reach < end
            && let Some((next, _)) = self.locate(reach)
            && region.is_followed_by(last, next)
        {
            last = next;
            reach += CHUNK_SIZE as u64;
        }
        region.bytes(first, offset..offset + end.min(reach).saturating_sub(position) as usize)
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

    /// Gives back every chunk that begins at or behind `position`, but for the first one of all.
    pub fn release_after(&mut self, position: u64, mut release: impl FnMut(ChunkIndex)) {
        let keep = position.div_ceil(CHUNK_SIZE as u64).saturating_sub(self.first) as usize;
        while self.chunks.len() > keep {
            if let Some(Some(chunk)) = self.chunks.pop_back() {
                release(chunk);
            }
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
