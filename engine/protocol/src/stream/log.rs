//! The sender's side of a stream: frames are appended at the end; what lies before `published` may be sent.

use super::{Chunks, goes_on};
use isis_memory::{CHUNK_SIZE, ChunkIndex, Region};
use isis_wire::frame::{FRAME_HEADER, Frame, FrameKind, SHORT, frame_size};

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
    /// Where the last frame ends of those that reach from one chunk into another; 0: there was none.
    crossed: u64,
    /// Position after the last frame.
    pub end: u64,
    /// Everything before may be sent and is final.
    pub published: u64,
    /// Everything before was sent once.
    pub sent: u64,
}

impl Log {
    /// The position at which a frame of `len` payload bytes in one chunk would start, after padding up to the next one if needed.
    fn position_for(&self, len: usize) -> u64 {
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

    /// How far a frame of `len` payload bytes in one chunk would move the end.
    pub fn size_in_chunk(&self, len: usize) -> u64 {
        self.position_for(len) + frame_size(len) as u64 - self.end
    }

    /// Takes the chunk that begins at `start`, with this frame or inside of it. What is read where it lies goes from one core to the
    /// other with every line that is written: short frames, which come by many, are better copied by many. Long ones may reach into
    /// the next chunk, which should lie behind this one.
    fn begin_chunk(&mut self, region: &mut Region, start: u64, len: usize) -> Option<(ChunkIndex, usize)> {
        let goes_on = len > SHORT || goes_on(self.crossed, start);
        let before = if goes_on { self.chunks.before(start) } else { None };
        // A long one is read in place from its first border on, whatever came before it.
        let frames = if len > SHORT { 0 } else { self.frames };
        let mean = CHUNK_SIZE.checked_div(frames).unwrap_or(frame_size(len));
        let placed = self.placed_from.is_some_and(|least| mean >= least);
        let place = self.chunks.locate_or(start, || match (placed, goes_on) {
            (true, _) => region.take_shared(before),
            (false, true) => region.take_next(before),
            (false, false) => region.take(),
        })?;
        self.frames = 0;
        Some(place)
    }

    /// Appends a frame that goes through as many chunks as it takes. `None`: the region is exhausted, and nothing was appended.
    fn append_long(&mut self, region: &mut Region, frame: Frame, payload: &[u8]) -> Option<u64> {
        let (position, end) = (self.end, self.end + frame.size() as u64);
        let mut from = position;
        while from < end {
            if self.chunks.locate(from).is_none() && self.begin_chunk(region, from, payload.len()).is_none() {
                self.chunks.release_after(position, |chunk| region.give_back(chunk));
                return None;
            }
            from = (from / CHUNK_SIZE as u64 + 1) * CHUNK_SIZE as u64;
        }
        let padding = [0; 8];
        let padding = &padding[..frame.size() - FRAME_HEADER - payload.len()];
        for mut bytes in [&frame.header()[..], payload, padding] {
            while !bytes.is_empty() {
                let (chunk, offset) = self.chunks.locate(self.end).expect("taken above");
                let (now, later) = bytes.split_at(bytes.len().min(CHUNK_SIZE - offset));
                region.range_mut(chunk, offset..offset + now.len()).copy_from_slice(now);
                self.end += now.len() as u64;
                bytes = later;
            }
        }
        if position / CHUNK_SIZE as u64 != (end - 1) / CHUNK_SIZE as u64 {
            self.crossed = end;
        }
        self.frames += 1;
        Some(position)
    }

    /// Appends a frame. `None`: the region is exhausted (nothing was appended but perhaps padding).
    pub fn append(&mut self, region: &mut Region, frame: Frame, payload: &[u8]) -> Option<u64> {
        debug_assert_eq!(frame.len as usize, payload.len());
        if frame.crosses() {
            return self.append_long(region, frame, payload);
        }
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
