//! The sender's side of a stream: frames are appended at the end; what lies before `published` may be sent.

use super::Chunks;
use isis_memory::{CHUNK_SIZE, ChunkIndex, Region};
use isis_wire::frame::{FRAME_HEADER, Frame, FrameKind, frame_size};

/// An outgoing stream.
#[derive(Debug, Default)]
pub struct Log {
    /// Where the bytes are.
    pub chunks: Chunks,
    /// Chunks are taken from the arena if frames have so many bytes on average (`Config::placed_from`); `None`: not all other
    /// members read it.
    pub placed_from: Option<usize>,
    /// Frames appended since the last chunk was begun; 0: there was none before.
    frames: usize,
    /// Position after the last frame.
    pub end: u64,
    /// Everything before may be sent and is final.
    pub published: u64,
    /// Everything before was sent once.
    pub sent: u64,
}

impl Log {
    /// The position at which a frame of `len` payload bytes would start, after padding up to the next chunk if needed.
    pub fn position_for(&self, len: usize) -> u64 {
        let offset = (self.end % CHUNK_SIZE as u64) as usize;
        if offset + frame_size(len) <= CHUNK_SIZE { self.end } else { self.end + (CHUNK_SIZE - offset) as u64 }
    }

    /// Fills the rest of the current chunk so that a frame of `len` fits; `false`: the region is exhausted.
    fn make_room(&mut self, region: &mut Region, len: usize) -> Option<(ChunkIndex, usize)> {
        let start = self.position_for(len);
        let place = match self.chunks.locate(start) {
            Some(place) => place,
            None => self.begin_chunk(region, start, len)?,
        };
        if start != self.end {
            let space = (start - self.end) as usize;
            let pad = Frame { kind: FrameKind::Pad, flags: 0, entry: 0, len: (space - FRAME_HEADER) as u32 };
            let (chunk, offset) = self.chunks.locate(self.end).expect("padding goes behind a frame of the same chunk");
            region.range_mut(chunk, offset..offset + FRAME_HEADER).copy_from_slice(&pad.header());
            self.end = start;
        }
        Some(place)
    }

    /// Takes the chunk that begins with this frame. What is read where it lies goes from one core to the other with every line that
    /// is written: short frames, which come by many, are better copied by many.
    fn begin_chunk(&mut self, region: &mut Region, start: u64, len: usize) -> Option<(ChunkIndex, usize)> {
        let mean = CHUNK_SIZE.checked_div(self.frames).unwrap_or(frame_size(len));
        let placed = self.placed_from.is_some_and(|least| mean >= least);
        let place = self.chunks.locate_or(start, || if placed { region.take_shared() } else { region.take() })?;
        self.frames = 0;
        Some(place)
    }

    /// Appends a frame. `None`: the region is exhausted (nothing was appended but perhaps padding).
    pub fn append(&mut self, region: &mut Region, frame: Frame, payload: &[u8]) -> Option<u64> {
        debug_assert_eq!(frame.len as usize, payload.len());
        let (chunk, offset) = self.make_room(region, payload.len())?;
        let bytes = region.range_mut(chunk, offset..offset + frame.size());
        bytes[..FRAME_HEADER].copy_from_slice(&frame.header());
        bytes[FRAME_HEADER..FRAME_HEADER + payload.len()].copy_from_slice(payload);
        bytes[FRAME_HEADER + payload.len()..].fill(0);
        let position = self.end;
        self.end += frame.size() as u64;
        self.frames += 1;
        Some(position)
    }

    /// Makes room for a frame of `len` bytes at the end without appending it: where its payload lies.
    pub fn reserve(&mut self, region: &mut Region, len: usize) -> Option<(ChunkIndex, usize)> {
        let (chunk, offset) = self.make_room(region, len)?;
        Some((chunk, offset + FRAME_HEADER))
    }

    /// Appends the frame whose payload was written in place after [`Log::reserve`].
    pub fn append_reserved(&mut self, region: &mut Region, frame: Frame) -> u64 {
        let (chunk, offset) = self.chunks.locate(self.end).expect("reserved");
        let bytes = region.range_mut(chunk, offset..offset + frame.size());
        bytes[..FRAME_HEADER].copy_from_slice(&frame.header());
        bytes[FRAME_HEADER + frame.len as usize..].fill(0);
        let position = self.end;
        self.end += frame.size() as u64;
        self.frames += 1;
        position
    }
}
