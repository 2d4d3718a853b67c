//! What a stream is made of: 8-byte-aligned frames, each a header of 8 bytes and a payload, zero-padded to 8.
//!
//! ```text
//! offset 0  payload length u32 · 4 kind u8 · 5 flags u8 · 6 entry u8 · 7 zero
//!        8  payload
//! ```
//! A frame with a payload of at most [`SHORT`] bytes, and every record, lies within a chunk (64 KiB of positions); the unused rest
//! of a chunk is a [`FrameKind::Pad`] frame. A longer fragment of a message that was not written in place (a claim) begins where the
//! last frame ends, and goes on through as many chunks as it takes.

use crate::codec::{DecodeError, Reader, Writer};
use crate::message::MAX_NUMBER;

/// Bytes of a frame header.
pub const FRAME_HEADER: usize = 8;

/// Payloads up to this length are not cut by the border between two chunks.
pub const SHORT: usize = 4096;

/// The longest payload of a frame: what is longer comes in fragments.
pub const FRAGMENT_MAX: usize = 1 << 20;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// (A fragment of) an FBCAST.
    Fifo = 1,
    /// (A fragment of) a CBCAST.
    Causal = 2,
    /// (A fragment of) an ABCAST.
    Total = 3,
    /// (A fragment of) a GBCAST's payload.
    Global = 4,
    /// Unused bytes.
    Pad = 5,
    /// The changed entries of the sender's vector timestamp ([`read_context`]).
    Context = 6,
    /// The next places in the total order ([`read_order`]).
    Order = 7,
    /// Proposed places in the total order ([`read_proposals`]).
    Propose = 8,
}

/// First fragment of its message.
pub const FLAG_BEGIN: u8 = 1;
/// Last fragment of its message.
pub const FLAG_END: u8 = 2;
/// The message's vector timestamp is the next CONTEXT record's, not the last one's.
pub const FLAG_CONTEXT_FOLLOWS: u8 = 4;
/// Deliver only when stable.
pub const FLAG_SAFE: u8 = 8;
/// A client's: the message begins with a [`crate::client::RelayHeader`].
pub const FLAG_RELAYED: u8 = 16;
/// The ABCAST is a copy of one to several groups: its payload begins with a [`crate::multi::MultiHeader`].
pub const FLAG_MULTI_COPY: u8 = 32;
/// The ABCAST is not the application's: it says final priorities of the sender's ABCASTs to several groups
/// ([`crate::multi::Finals`]).
pub const FLAG_MULTI_FINAL: u8 = 64;

/// A frame header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// `FLAG_*` bits.
    pub flags: u8,
    /// The message's entry point.
    pub entry: u8,
    /// Payload bytes, padding not counted.
    pub len: u32,
}

/// Payload length rounded up to a multiple of 8, header included.
pub const fn frame_size(len: usize) -> usize {
    FRAME_HEADER + len.div_ceil(8) * 8
}

impl Frame {
    /// Its bytes in the stream.
    pub fn size(&self) -> usize {
        frame_size(self.len as usize)
    }

    /// May go on in the next chunk.
    #[inline]
    pub fn crosses(&self) -> bool {
        (SHORT + 1..=FRAGMENT_MAX).contains(&(self.len as usize))
            && matches!(self.kind, FrameKind::Fifo | FrameKind::Causal | FrameKind::Total | FrameKind::Global)
    }

    /// The header's bytes.
    pub fn header(&self) -> [u8; FRAME_HEADER] {
        let len = self.len.to_le_bytes();
        [len[0], len[1], len[2], len[3], self.kind as u8, self.flags, self.entry, 0]
    }

    /// Reads a frame header. `space` is how many bytes its chunk has left from here: the frame must fit, or be one that may go on in
    /// the next chunk.
    #[inline]
    pub fn parse(bytes: &[u8], space: usize) -> Result<Frame, DecodeError> {
        let Some(head) = bytes.first_chunk::<FRAME_HEADER>() else { return Err(DecodeError::Truncated) };
        let kind = match head[4] {
            1 => FrameKind::Fifo,
            2 => FrameKind::Causal,
            3 => FrameKind::Total,
            4 => FrameKind::Global,
            5 => FrameKind::Pad,
            6 => FrameKind::Context,
            7 => FrameKind::Order,
            8 => FrameKind::Propose,
            _ => return Err(DecodeError::BadValue),
        };
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let frame = Frame { kind, flags: head[5], entry: head[6], len };
        let fits = len as usize <= space && frame.size() <= space;
        if fits || frame.crosses() { Ok(frame) } else { Err(DecodeError::TooLong) }
    }
}

/// Writes a CONTEXT payload: the entries `(rank, value)` that changed.
pub fn write_context(out: &mut Writer, entries: &[(u16, u64)]) {
    out.list(entries, |out, (rank, value)| {
        out.varint(u64::from(*rank));
        out.varint(*value);
    });
}

/// Reads a CONTEXT payload for a view of `members`, and adds its entries to `entries`.
pub fn read_context(payload: &[u8], members: usize, entries: &mut Vec<(u16, u64)>) -> Result<(), DecodeError> {
    let mut reader = Reader::new(payload);
    let count = reader.varint()?;
    if count > members as u64 {
        return Err(DecodeError::TooLong);
    }
    for _ in 0..count {
        match (rank(&mut reader, members)?, reader.varint()?) {
            (_, value) if value > MAX_NUMBER => return Err(DecodeError::BadValue),
            entry => entries.push(entry),
        }
    }
    reader.finish()
}

/// Writes an ORDER payload: runs `(rank, count)`, "next come `count` ABCASTs of `rank`". The last one may have the count 0, a
/// handover: "what is next after that, `rank` says".
pub fn write_order(out: &mut Writer, runs: &[(u16, u32)]) {
    out.list(runs, |out, (rank, count)| {
        out.varint(u64::from(*rank));
        out.varint(u64::from(*count));
    });
}

/// The runs `(rank, count)` of a payload that was read, in place.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    reader: Reader<'a>,
    members: usize,
    left: u64,
}

impl Iterator for Runs<'_> {
    type Item = (u16, u32);

    fn next(&mut self) -> Option<(u16, u32)> {
        self.left = self.left.checked_sub(1)?;
        // It was read before.
        read_run(&mut self.reader, self.members).ok()
    }
}

/// Reads an ORDER payload for a view of `members`, to its end.
pub fn read_order(payload: &[u8], members: usize) -> Result<Runs<'_>, DecodeError> {
    read_runs(Reader::new(payload), members, true)
}

/// `handover`: the last run may have no messages.
fn read_runs(mut reader: Reader<'_>, members: usize, handover: bool) -> Result<Runs<'_>, DecodeError> {
    let left = reader.varint()?;
    if left > reader.remaining() as u64 {
        return Err(DecodeError::TooLong);
    }
    let runs = Runs { reader: reader.clone(), members, left };
    for after in (0..left).rev() {
        let (_, count) = read_run(&mut reader, members)?;
        if count == 0 && !(handover && after == 0) {
            return Err(DecodeError::BadValue);
        }
    }
    reader.finish()?;
    Ok(runs)
}

fn read_run(reader: &mut Reader<'_>, members: usize) -> Result<(u16, u32), DecodeError> {
    let rank = rank(reader, members)?;
    let count = reader.varint()?;
    if count > u64::from(u32::MAX) {
        return Err(DecodeError::BadValue);
    }
    Ok((rank, count as u32))
}

/// Writes a PROPOSE payload: the sender of the record proposes the priorities `first`, `first + 1` … for the ABCASTs that
/// the runs `(rank, count)` name, one after another.
pub fn write_proposals(out: &mut Writer, first: u64, runs: &[(u16, u32)]) {
    out.varint(first);
    write_order(out, runs);
}

/// Reads a PROPOSE payload for a view of `members`, to its end.
pub fn read_proposals(payload: &[u8], members: usize) -> Result<(u64, Runs<'_>), DecodeError> {
    let mut reader = Reader::new(payload);
    let first = reader.varint()?;
    if first == 0 || first > MAX_NUMBER {
        return Err(DecodeError::BadValue);
    }
    Ok((first, read_runs(reader, members, false)?))
}

fn rank(reader: &mut Reader<'_>, members: usize) -> Result<u16, DecodeError> {
    let rank = reader.varint()?;
    if rank >= members as u64 { Err(DecodeError::BadValue) } else { Ok(rank as u16) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frame_round_trip(kind in 1u8..=8, flags: u8, entry: u8, len in prop_oneof![0u32..60_000, 0..6_000u32]) {
            let mut bytes = [0u8; 8];
            bytes[4] = kind;
            let kind = Frame::parse(&bytes, 8).expect("known kind").kind;
            let frame = Frame { kind, flags, entry, len };
            prop_assert_eq!(Frame::parse(&frame.header(), 65_536), Ok(frame));
            let cut = Frame::parse(&frame.header(), frame.size() - 1);
            prop_assert_eq!(cut.is_ok(), kind as u8 <= FrameKind::Global as u8 && len as usize > SHORT);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, space in 0usize..70_000, members in 0usize..9) {
            let _ = Frame::parse(&bytes, space);
            let _ = read_context(&bytes, members, &mut Vec::new());
            let _ = read_order(&bytes, members);
            let _ = read_proposals(&bytes, members);
        }

        #[test]
        fn runs_round_trip(runs in proptest::collection::vec((0u16..5, 1u32..), 0..40)) {
            let mut out = Writer::new();
            write_order(&mut out, &runs);
            prop_assert_eq!(read_order(&out.bytes, 5).map(Vec::from_iter), Ok(runs));
        }

        #[test]
        fn a_handover_is_the_last_run_of_an_order(mut runs in proptest::collection::vec((0u16..5, 1u32..), 1..40), at: usize) {
            let at = at % runs.len();
            runs[at].1 = 0;
            let (mut order, mut proposals) = (Writer::new(), Writer::new());
            write_order(&mut order, &runs);
            write_proposals(&mut proposals, 1, &runs);
            let read = read_order(&order.bytes, 5).map(Vec::from_iter);
            prop_assert_eq!(read, if at + 1 == runs.len() { Ok(runs) } else { Err(DecodeError::BadValue) });
            prop_assert_eq!(read_proposals(&proposals.bytes, 5).err(), Some(DecodeError::BadValue));
        }

        #[test]
        fn proposals_round_trip(first in 1..=MAX_NUMBER, runs in proptest::collection::vec((0u16..5, 1u32..), 0..40)) {
            let mut out = Writer::new();
            write_proposals(&mut out, first, &runs);
            let read = read_proposals(&out.bytes, 5).map(|(first, runs)| (first, Vec::from_iter(runs)));
            prop_assert_eq!(read, Ok((first, runs)));
        }
    }
}
