//! Whole messages that wait for delivery. Under load many of them follow each other in a stream and differ in nothing but their
//! bytes: they are kept, put in order and handed over as one [`Batch`], and taken apart where the application takes them.
//!
//! Invariant: the frames of a batch were parsed, lie in one chunk one behind the other (or there is one, which goes on in the chunks
//! that follow in memory), and stay there until the last message is consumed; so their headers are read again without a doubt. (In
//! a neighbour's chunk a stray write of that process could change them: no more is believed then than that there are bytes in the
//! chunk.)

use super::inbox::Carries;
use crate::event::{Body, Kind};
use isis_memory::{CHUNK_SIZE, ChunkIndex, Region};
use isis_wire::frame::{FRAME_HEADER, frame_size};
use std::sync::Arc;

/// What the messages of a batch have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traits {
    /// Their ordering.
    pub kind: Kind,
    /// Deliver only when stable.
    pub safe: bool,
    /// Their entry point.
    pub entry: u8,
    /// What each is, if it is not simply its sender's: such a message is alone in its batch.
    pub carries: Option<Carries>,
    /// The ordinal of the context that dates them; 0: the zero vector.
    pub context: u64,
}

/// A whole message, not yet delivered.
#[derive(Clone, Debug)]
pub struct Queued {
    /// Its number in its stream: 1, 2, …
    pub number: u64,
    /// Its ordering.
    pub kind: Kind,
    /// It is delivered when stable only.
    pub safe: bool,
    /// Its entry point.
    pub entry: u8,
    /// Position after its last frame.
    pub end: u64,
    /// Its bytes.
    pub body: Body,
}

/// Where a message of one frame is.
#[derive(Clone, Copy, Debug)]
pub struct Framed {
    /// The chunk in which its bytes begin.
    pub chunk: ChunkIndex,
    /// Their offset in it.
    pub offset: u32,
    /// How many.
    pub len: u32,
    /// Position after the frame.
    pub end: u64,
}

impl Framed {
    /// Its bytes, in place.
    pub fn body(&self) -> Body {
        Body::Chunk { chunk: self.chunk, offset: self.offset, len: self.len }
    }
}

#[derive(Clone, Debug)]
enum Whereabouts {
    /// A frame each: where the first one begins, in its chunk and in the stream.
    Frames { chunk: ChunkIndex, offset: u32, position: u64 },
    /// A single message of a frame that reaches into the next chunk, which lies behind this one: where its bytes begin, how many
    /// they are, and the position after them.
    Piece { chunk: ChunkIndex, offset: u32, len: u32, end: u64 },
    /// A single message, put together from what did not lie in one piece, and the position after it.
    Long { bytes: Arc<Vec<u8>>, end: u64 },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The number of the first message.
    pub number: u64,
    /// How many there are, at least one.
    pub count: u32,
    /// What they are.
    pub traits: Traits,
    place: Whereabouts,
}

impl Batch {
    /// The message whose only frame begins there.
    pub(super) fn of_frame(number: u64, traits: Traits, chunk: ChunkIndex, offset: u32, position: u64) -> Batch {
        Batch { number, count: 1, traits, place: Whereabouts::Frames { chunk, offset, position } }
    }

    /// A message whose only frame lies in more than one chunk, where its bytes are in one piece.
    pub(super) fn of_piece(
        number: u64,
        traits: Traits,
        (chunk, offset): (ChunkIndex, u32),
        len: u32,
        end: u64,
    ) -> Batch {
        Batch { number, count: 1, traits, place: Whereabouts::Piece { chunk, offset, len, end } }
    }

    /// A message that was put together.
    pub(super) fn of_bytes(number: u64, traits: Traits, bytes: Arc<Vec<u8>>, end: u64) -> Batch {
        Batch { number, count: 1, traits, place: Whereabouts::Long { bytes, end } }
    }

    /// A single message that crosses a border between chunks and lies in one piece.
    #[cfg(test)]
    pub(super) fn is_piece(&self) -> bool {
        matches!(self.place, Whereabouts::Piece { .. })
    }

    /// The number of the last message.
    pub fn last(&self) -> u64 {
        self.number + u64::from(self.count) - 1
    }

    /// Takes the first message out if it is one of a frame. A batch without messages is of no use any more.
    #[inline]
    pub fn take_frame(&mut self, region: &Region) -> Option<Framed> {
        let (chunk, offset, position) = match &mut self.place {
            Whereabouts::Frames { chunk, offset, position } => (chunk, offset, position),
            &mut Whereabouts::Piece { chunk, offset, len, end } => {
                self.number += 1;
                self.count -= 1;
                return Some(Framed { chunk, offset, len, end });
            }
            Whereabouts::Long { .. } => return None,
        };
        // Where a neighbour spoilt what was checked when it was parsed, its messages are spoilt, and nothing else.
        let at = (*offset as usize).min(CHUNK_SIZE - FRAME_HEADER);
        let head = region.bytes(*chunk, at..at + FRAME_HEADER).first_chunk().copied().unwrap_or([0; 4]);
        let len = u32::from_le_bytes(head).min((CHUNK_SIZE - at - FRAME_HEADER) as u32);
        let size = frame_size(len as usize) as u32;
        let framed =
            Framed { chunk: *chunk, offset: (at + FRAME_HEADER) as u32, len, end: *position + u64::from(size) };
        *offset = at as u32 + size;
        *position = framed.end;
        self.number += 1;
        self.count -= 1;
        Some(framed)
    }

    /// Takes the first message out. A batch without messages is of no use any more.
    #[inline]
    pub fn take(&mut self, region: &Region) -> Queued {
        let (Traits { kind, safe, entry, .. }, number) = (self.traits, self.number);
        if let Some(framed) = self.take_frame(region) {
            return Queued { number, kind, safe, entry, end: framed.end, body: framed.body() };
        }
        let nowhere = Whereabouts::Frames { chunk: ChunkIndex(0), offset: 0, position: 0 };
        let Whereabouts::Long { bytes, end } = std::mem::replace(&mut self.place, nowhere) else {
            unreachable!("a frame was taken above");
        };
        self.number += 1;
        self.count -= 1;
        Queued { number, kind, safe, entry, end, body: Body::Owned(bytes) }
    }

    /// The first message. It stays.
    pub fn peek(&self, region: &Region) -> Queued {
        self.clone().take(region)
    }

    /// Takes the first `count` messages out, fewer than there are.
    pub fn split(&mut self, region: &Region, count: u32) -> Batch {
        let taken = Batch { count, ..self.clone() };
        for _ in 0..count {
            self.take(region);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isis_wire::frame::{Frame, FrameKind};

    /// Frames of these lengths from offset 8 of a chunk, at position 8.
    fn batch(lengths: &[usize]) -> (Region, Batch) {
        let mut region = Region::heap(1);
        let chunk = region.take().expect("a chunk");
        let mut offset = 8;
        for &len in lengths {
            let frame = Frame { kind: FrameKind::Fifo, flags: 3, entry: 0, len: len as u32 };
            region.range_mut(chunk, offset..offset + FRAME_HEADER).copy_from_slice(&frame.header());
            offset += frame.size();
        }
        let traits = Traits { kind: Kind::Fifo, safe: false, entry: 0, carries: None, context: 0 };
        let mut batch = Batch::of_frame(7, traits, chunk, 8, 8);
        batch.count = lengths.len() as u32;
        (region, batch)
    }

    /// As if a neighbour had written there after it was parsed.
    #[test]
    fn spoilt_lengths_lead_nowhere_else() {
        for len in [CHUNK_SIZE as u32, CHUNK_SIZE as u32 - 20, u32::MAX, u32::MAX - 7] {
            let (mut region, mut batch) = batch(&[5, 0, 16]);
            region.range_mut(ChunkIndex(0), 8..12).copy_from_slice(&len.to_le_bytes());
            while batch.count > 0 {
                let framed = batch.take_frame(&region).expect("frames");
                region.bytes(framed.chunk, framed.offset as usize..(framed.offset + framed.len) as usize);
            }
        }
    }

    #[test]
    fn messages_of_any_length_come_out_one_by_one() {
        let (region, mut batch) = batch(&[5, 0, 16]);
        assert_eq!((batch.last(), batch.peek(&region).number), (9, 7));
        let mut seen = Vec::new();
        while batch.count > 0 {
            let message = batch.take(&region);
            let Body::Chunk { offset, len, .. } = message.body else { panic!("in place") };
            seen.push((message.number, offset, len, message.end));
        }
        assert_eq!(seen, [(7, 16, 5, 24), (8, 32, 0, 32), (9, 40, 16, 56)]);
    }

    #[test]
    fn a_part_is_taken_out() {
        let (region, mut rest) = batch(&[5, 9, 16, 1]);
        let mut part = rest.split(&region, 3);
        assert_eq!((part.number, part.count, rest.number, rest.count), (7, 3, 10, 1));
        part.take(&region);
        part.take(&region);
        assert_eq!(part.take(&region).end, rest.peek(&region).end - 16);
    }
}
