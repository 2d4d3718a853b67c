//! A receiver's copy of a stream: bytes come in any order; what is contiguous from 0 counts.

use super::Chunks;
use crate::time::Instant;
use isis_memory::{CHUNK_SIZE, Place, Region};

/// The most separate ranges remembered behind a gap; data that would make one more is dropped and repaired later.
const MAX_RANGES: usize = 256;

/// Bytes of a stream that came.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Here they are.
    Bytes(&'a [u8]),
    /// Their sender, the process with this nonce, says where they lie in its arena, in a chunk that is laid out as the stream
    /// is.
    Placed(u128, Place),
}

impl Source<'_> {
    fn len(&self) -> u64 {
        match self {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::Placed(_, place) => u64::from(place.len),
        }
    }
}

/// What became of bytes that were put into an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// Some were new.
    New,
    /// All were here before.
    Duplicate,
    /// There is no room for them now.
    NoRoom,
    /// The place that names them is out of date, or in memory that this process does not have.
    Gone,
}

/// An incoming stream.
#[derive(Debug, Default)]
pub struct Image {
    /// Where the bytes are.
    pub chunks: Chunks,
    /// Everything before is here.
    pub contiguous: u64,
    /// Ranges behind a gap, sorted, apart from each other.
    ahead: Vec<(u64, u64)>,
    /// The stream is known to reach to here (from data, rows, cuts).
    pub known_end: u64,
    /// When the present gap shall be reported (again).
    pub nak_at: Option<Instant>,
    /// How often the present gap was reported.
    pub nak_count: u32,
    /// Its messages reach from one chunk into the next: those should lie behind each other.
    pub goes_on: bool,
}

impl Image {
    /// Puts `data`, the bytes from `position` on, in place. Bytes more than `reach` ahead of the contiguous ones are refused.
    pub fn insert(&mut self, region: &mut Region, position: u64, data: Source<'_>, reach: u64) -> Inserted {
        let end = position + data.len();
        if end <= self.contiguous {
            return Inserted::Duplicate;
        }
        if end > self.contiguous.saturating_add(reach) {
            return Inserted::NoRoom;
        }
        let start = position.max(self.contiguous);
        if self.ahead.iter().any(|&(a, b)| a <= start && end <= b) {
            return Inserted::Duplicate;
        }
        if start > self.contiguous && self.ahead.len() >= MAX_RANGES {
            return Inserted::NoRoom;
        }
        let upto = match data {
            Source::Bytes(data) => self.copy(region, start, &data[(start - position) as usize..]),
            Source::Placed(nonce, place) => match self.refer(region, start, end, nonce, &place) {
                true => end,
                false => {
                    // They exist, and are asked for.
                    self.known_end = self.known_end.max(end);
                    return Inserted::Gone;
                }
            },
        };
        if upto == start {
            return Inserted::NoRoom;
        }
        self.add_range(start, upto);
        self.known_end = self.known_end.max(upto);
        Inserted::New
    }

    /// Copies bytes into chunks as long as there are any: up to where.
    fn copy(&mut self, region: &mut Region, start: u64, data: &[u8]) -> u64 {
        let (mut from, mut data) = (start, data);
        while !data.is_empty() {
            let before = if self.goes_on { self.chunks.before(from) } else { None };
            let take = || if self.goes_on { region.take_next(before) } else { region.take() };
            let Some((chunk, offset)) = self.chunks.locate_or(from, take) else { break };
            let (now, later) = data.split_at(data.len().min(CHUNK_SIZE - offset));
            // In a chunk that is the sender's own they are, since it sent them.
            if !region.is_borrowed(chunk) {
                region.range_mut(chunk, offset..offset + now.len()).copy_from_slice(now);
            }
            from += now.len() as u64;
            data = later;
        }
        from
    }

    /// Takes the sender's chunk for the own one, or, if there is one already, copies into that. Whether the bytes are here then.
    fn refer(&mut self, region: &mut Region, start: u64, end: u64, nonce: u128, place: &Place) -> bool {
        match self.chunks.locate(start) {
            Some((chunk, _)) if region.is_at(chunk, nonce, place) => true,
            Some((chunk, _)) if region.is_borrowed(chunk) => false,
            Some((chunk, offset)) => {
                let Some(borrowed) = region.borrow(nonce, place) else { return false };
                region.copy(borrowed, chunk, offset..offset + (end - start) as usize);
                region.give_back(borrowed);
                true
            }
            None => self.chunks.locate_or(start, || region.borrow(nonce, place)).is_some(),
        }
    }

    fn add_range(&mut self, start: u64, end: u64) {
        if start <= self.contiguous && self.ahead.is_empty() {
            self.contiguous = end;
            return;
        }
        let (mut start, mut end) = (start, end);
        self.ahead.retain(|&(a, b)| {
            let apart = b < start || end < a;
            if !apart {
                start = start.min(a);
                end = end.max(b);
            }
            apart
        });
        if start <= self.contiguous {
            self.contiguous = end;
        } else {
            let at = self.ahead.partition_point(|&(a, _)| a < start);
            self.ahead.insert(at, (start, end));
        }
    }

    /// Something known to exist is missing.
    pub fn has_gap(&self) -> bool {
        self.contiguous < self.known_end
    }

    /// The first missing ranges, at most `limit` of them.
    pub fn gaps(&self, limit: usize) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut from = self.contiguous;
        for &(a, b) in &self.ahead {
            if gaps.len() == limit {
                return gaps;
            }
            gaps.push((from, a));
            from = b;
        }
        if from < self.known_end && gaps.len() < limit {
            gaps.push((from, self.known_end));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Pieces of a stream in any order, with overlaps, give the stream.
        #[test]
        fn any_order_gives_the_stream(mut pieces in proptest::collection::vec((0u64..400, 1usize..60), 1..80)) {
            let bytes: Vec<u8> = (0..4000u32).map(|i| (i * 7) as u8).collect();
            let mut region = Region::heap(4);
            let mut image = Image::default();
            pieces.push((0, 500));
            for (start, len) in pieces {
                let (start, len) = (start * 8, len * 8);
                let end = (start as usize + len).min(4000);
                if start as usize >= end { continue; }
                image.insert(&mut region, start, Source::Bytes(&bytes[start as usize..end]), 1 << 20);
                let here = image.contiguous;
                prop_assert_eq!(image.chunks.slice(&region, 0, here), &bytes[..here as usize]);
            }
            prop_assert_eq!(image.contiguous, 4000);
            prop_assert!(!image.has_gap() && image.gaps(9).is_empty());
        }
    }
}
