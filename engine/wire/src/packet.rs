//! What a datagram is: a header of [`HEADER`] bytes, then a body by kind.
//!
//! ```text
//! offset 0  magic u16 · 2 version u8 · 3 kind u8 · 4 CRC32C u32 (of all other bytes)
//!        8  sender's birth u64
//!       16  system u128
//!       32  group u64
//!       40  view u64
//!       48  body
//! ```
//! All integers are little-endian. Data bodies are cut so that their stream bytes start 8-byte aligned.

use crate::codec::{DecodeError, Reader, Writer};
use crate::id::{GroupId, SystemId};
use crate::message::Code;
use crc_fast::{CrcAlgorithm, Digest};

/// Bytes of the header.
pub const HEADER: usize = 48;
/// First two bytes of every packet.
pub const MAGIC: u16 = 0x5149;
/// The protocol version of this engine.
pub const VERSION: u8 = 1;
/// No datagram is longer.
pub const MAX_PACKET: usize = 65_507;
/// No position in a stream is higher: a packet, a window or a request counted on from one cannot overflow.
pub const MAX_POSITION: u64 = 1 << 56;
/// The most ranges in one request for repair.
pub const MAX_NAK_RANGES: usize = 64;

/// What the body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PacketKind {
    /// Bytes of a stream, with a row ([`DataHeader`]).
    Data = 1,
    /// A row alone.
    Row = 2,
    /// Requests for repair.
    Nak = 3,
    /// A protocol message ([`crate::message::Message`]).
    Message = 4,
    /// A piece of a protocol message that is longer than a datagram.
    Piece = 5,
    /// A frame of a channel between two processes.
    Channel = 6,
    /// An acknowledgement of channel frames.
    ChannelAck = 7,
    /// Rows of a large view, gathered ([`crate::digest::Digest`]).
    Digest = 8,
    /// A datagram for somebody whom its sender does not reach: the address, then the whole datagram.
    Relay = 9,
    /// As [`PacketKind::Data`], but in place of the stream bytes a [`PlaceRecord`]: where they lie in memory that the sender
    /// shares with the receiver.
    Placed = 10,
}

/// What [`PacketKind::Relay`] adds to a datagram: a header and an address.
pub const RELAY_OVERHEAD: usize = HEADER + 18;

/// Why a datagram is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketError {
    /// Shorter than a header, or longer than any packet.
    BadLength,
    /// Not one of ours.
    BadMagic,
    /// Another version of the protocol speaks.
    IncompatibleVersion(u8),
    /// Damaged on the way.
    BadChecksum,
    /// A kind that this version does not have.
    BadKind,
}

/// The fields of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the body is.
    pub kind: PacketKind,
    /// The birth of the process that sent the datagram.
    pub birth: u64,
    /// Its system; 0 before it has one.
    pub system: SystemId,
    /// The group that the body is about.
    pub group: GroupId,
    /// The sender's view of that group.
    pub view: u64,
}

/// A checked view of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The header.
    pub header: Header,
    /// What follows it.
    pub body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks length, magic, version, sum and kind.
    pub fn parse(bytes: &'a [u8]) -> Result<Packet<'a>, PacketError> {
        if bytes.len() < HEADER || bytes.len() > MAX_PACKET {
            return Err(PacketError::BadLength);
        }
        if u16::from_le_bytes([bytes[0], bytes[1]]) != MAGIC {
            return Err(PacketError::BadMagic);
        }
        if bytes[2] != VERSION {
            return Err(PacketError::IncompatibleVersion(bytes[2]));
        }
        let sum = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        if append_sum(head_sum(bytes[3]), &bytes[8..]) != sum {
            return Err(PacketError::BadChecksum);
        }
        let kind = match bytes[3] {
            1 => PacketKind::Data,
            2 => PacketKind::Row,
            3 => PacketKind::Nak,
            4 => PacketKind::Message,
            5 => PacketKind::Piece,
            6 => PacketKind::Channel,
            7 => PacketKind::ChannelAck,
            8 => PacketKind::Digest,
            9 => PacketKind::Relay,
            10 => PacketKind::Placed,
            _ => return Err(PacketError::BadKind),
        };
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let header = Header {
            kind,
            birth: u64_at(8),
            system: SystemId(u128::from_le_bytes(bytes[16..32].try_into().expect("sixteen bytes"))),
            group: GroupId(u64_at(32)),
            view: u64_at(40),
        };
        Ok(Packet { header, body: &bytes[HEADER..] })
    }
}

/// Appends a header without its sum to `out`, which must be empty: [`seal`] completes it.
pub fn begin(out: &mut Vec<u8>, header: &Header) {
    debug_assert!(out.is_empty());
    let mut bytes = [0; HEADER];
    bytes[..2].copy_from_slice(&MAGIC.to_le_bytes());
    (bytes[2], bytes[3]) = (VERSION, header.kind as u8);
    bytes[8..16].copy_from_slice(&header.birth.to_le_bytes());
    bytes[16..32].copy_from_slice(&header.system.0.to_le_bytes());
    bytes[32..40].copy_from_slice(&header.group.0.to_le_bytes());
    bytes[40..48].copy_from_slice(&header.view.to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// Computes the sum over `first` (which starts with the header) and `rest`, and writes it into `first`.
pub fn seal(first: &mut [u8], rest: &[u8]) {
    debug_assert_eq!(first[..3], [MAGIC.to_le_bytes()[0], MAGIC.to_le_bytes()[1], VERSION]);
    let mut sum = append_sum(head_sum(first[3]), &first[8..]);
    if !rest.is_empty() {
        sum = append_sum(sum, rest);
    }
    first[4..8].copy_from_slice(&sum.to_le_bytes());
}

/// Up to so many bytes `crc32c`, one instruction for eight of them, takes as long as `crc-fast` but for 2 ns, and fewer instructions,
/// for that one has more to begin with; from 512 on that one is two to three times as fast (`cargo bench -p isis-bench --bench codec
/// checksum`).
const SHORT: usize = 192;

/// The CRC32C of bytes behind others whose CRC32C is `sum`; 0: there are none.
pub(crate) fn append_sum(sum: u32, bytes: &[u8]) -> u32 {
    if bytes.len() <= SHORT {
        return crc32c::crc32c_append(sum, bytes);
    }
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!sum));
    digest.update(bytes);
    digest.finalize() as u32
}

/// The CRC32C of the bytes before the sum, which begin a packet of every kind alike.
fn head_sum(kind: u8) -> u32 {
    const SUMS: [u32; 256] = {
        let mut sums = [0; 256];
        let mut kind = 0;
        while kind < 256 {
            sums[kind] = begin_sum([MAGIC.to_le_bytes()[0], MAGIC.to_le_bytes()[1], VERSION, kind as u8]);
            kind += 1;
        }
        sums
    };
    SUMS[usize::from(kind)]
}

/// CRC32C, bit by bit, when compiled.
const fn begin_sum(bytes: [u8; 4]) -> u32 {
    let mut sum = u32::from_le_bytes(bytes) ^ u32::MAX;
    let mut bit = 0;
    while bit < 32 {
        sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
        bit += 1;
    }
    sum ^ u32::MAX
}

/// The start of a [`PacketKind::Data`] body: "bytes [position, position + len) of the stream of `rank`", after a row
/// of `row_len` bytes (a multiple of 8, zero-padded; 0 = no row).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataHeader {
    /// Whose stream: a rank of the view (a repair may carry another's than the sender's).
    pub rank: u16,
    /// Bytes of the row that follows.
    pub row_len: u16,
    /// A member that gets it tells its row as soon as it may.
    pub asks: bool,
    /// First position.
    pub position: u64,
}

/// Bytes of a [`DataHeader`].
pub const DATA_HEADER: usize = 16;
/// Where its marks are, a byte.
const MARKS_AT: usize = 4;
/// The mark of one that asks for rows.
const ASKS: u8 = 1;

impl DataHeader {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; DATA_HEADER];
        bytes[..2].copy_from_slice(&self.rank.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.row_len.to_le_bytes());
        bytes[MARKS_AT] = if self.asks { ASKS } else { 0 };
        bytes[8..].copy_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&bytes);
    }

    /// Sets the mark `asks` in a body that was written: which datagram is the last one is known when its length is.
    pub fn ask(body: &mut [u8]) {
        if let Some(marks) = body.get_mut(MARKS_AT) {
            *marks |= ASKS;
        }
    }

    /// Splits a data body in header, row and stream bytes; the latter start and end on multiples of 8.
    pub fn parse(body: &[u8]) -> Result<(DataHeader, &[u8], &[u8]), DecodeError> {
        if body.len() < DATA_HEADER {
            return Err(DecodeError::Truncated);
        }
        let header = DataHeader {
            rank: u16::from_le_bytes([body[0], body[1]]),
            row_len: u16::from_le_bytes([body[2], body[3]]),
            asks: body[MARKS_AT] & ASKS != 0,
            position: u64::from_le_bytes(body[8..16].try_into().expect("eight bytes")),
        };
        let rest = &body[DATA_HEADER..];
        if usize::from(header.row_len) > rest.len() {
            return Err(DecodeError::Truncated);
        }
        let (row, data) = rest.split_at(usize::from(header.row_len));
        if !header.position.is_multiple_of(8) || !data.len().is_multiple_of(8) || header.position > MAX_POSITION {
            return Err(DecodeError::BadValue);
        }
        Ok((header, row, data))
    }
}

/// The end of a [`PacketKind::Placed`] body: bytes in a chunk of the sender's arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlaceRecord {
    /// Which chunk.
    pub chunk: u32,
    /// Where they begin in it; a multiple of 8.
    pub offset: u32,
    /// How many they are; a multiple of 8, not 0.
    pub len: u32,
    /// How often the chunk was given back before.
    pub generation: u64,
}

/// Bytes of a [`PlaceRecord`].
pub const PLACE_RECORD: usize = 24;

impl PlaceRecord {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; PLACE_RECORD];
        bytes[..4].copy_from_slice(&self.chunk.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..].copy_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&bytes);
    }

    /// Reads what is one and nothing else.
    pub fn parse(bytes: &[u8]) -> Result<PlaceRecord, DecodeError> {
        let bytes: &[u8; PLACE_RECORD] = bytes.try_into().map_err(|_| DecodeError::Truncated)?;
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let generation = u64::from_le_bytes(bytes[16..].try_into().expect("eight bytes"));
        let place = PlaceRecord { chunk: u32_at(0), offset: u32_at(4), len: u32_at(8), generation };
        let aligned = place.offset.is_multiple_of(8) && place.len.is_multiple_of(8);
        if aligned && place.len > 0 { Ok(place) } else { Err(DecodeError::BadValue) }
    }
}

/// The start of a [`PacketKind::Piece`] body: piece `index` of `count` of the sender's message `number`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PieceHeader {
    /// Numbers the sender's long messages.
    pub number: u64,
    /// Which piece: below `count`.
    pub index: u16,
    /// Of how many.
    pub count: u16,
}

impl Code for PieceHeader {
    fn write(&self, out: &mut Writer) {
        self.number.write(out);
        self.index.write(out);
        self.count.write(out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let piece = PieceHeader { number: Code::read(reader)?, index: Code::read(reader)?, count: Code::read(reader)? };
        if piece.index >= piece.count { Err(DecodeError::BadValue) } else { Ok(piece) }
    }
}

/// One request of a [`PacketKind::Nak`] body: bytes `[from, end)` of the stream of `rank`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NakRange {
    /// Whose stream. Whether the view has such a rank is for its reader to see.
    pub rank: u16,
    /// First position, a multiple of 8.
    pub from: u64,
    /// Position behind the last byte, a multiple of 8, higher than `from`.
    pub end: u64,
}

/// Appends a NAK body.
pub fn write_naks(out: &mut Writer, ranges: &[NakRange]) {
    out.list(ranges, |out, range| {
        out.varint(u64::from(range.rank));
        out.varint(range.from);
        out.varint(range.end);
    });
}

/// Reads a NAK body.
pub fn read_naks(body: &[u8]) -> Result<Vec<NakRange>, DecodeError> {
    let mut reader = Reader::new(body);
    let ranges = reader.list(MAX_NAK_RANGES, |r| {
        let (rank, from, end) = (r.varint()?, r.varint()?, r.varint()?);
        let aligned = from.is_multiple_of(8) && end.is_multiple_of(8);
        match u16::try_from(rank) {
            Ok(rank) if from < end && end <= MAX_POSITION && aligned => Ok(NakRange { rank, from, end }),
            _ => Err(DecodeError::BadValue),
        }
    })?;
    reader.finish()?;
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(kind: PacketKind) -> Header {
        Header { kind, birth: 7, system: SystemId(1 << 100), group: GroupId(3), view: 9 }
    }

    #[test]
    fn what_is_sealed_is_read() {
        let mut first = Vec::new();
        begin(&mut first, &sample(PacketKind::Data));
        DataHeader { rank: 1, row_len: 0, asks: false, position: 64 }.write(&mut first);
        DataHeader::ask(&mut first[HEADER..]);
        seal(&mut first, b"12345678");
        first.extend_from_slice(b"12345678");
        let packet = Packet::parse(&first).expect("good packet");
        assert_eq!(packet.header, sample(PacketKind::Data));
        let (header, row, data) = DataHeader::parse(packet.body).expect("good body");
        assert!(header.asks);
        assert_eq!((header.rank, header.position, row.len(), data), (1, 64, 0, &b"12345678"[..]));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        begin(&mut bytes, &sample(PacketKind::Row));
        bytes.extend_from_slice(&[5; 40]);
        seal(&mut bytes, &[]);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Packet::parse(&bad).is_err(), "bit {bit}");
        }
    }

    /// The sum covers all bytes but its own, in whatever parts they come.
    #[test]
    fn the_sum_is_crc32c() {
        for kind in 0..=u8::MAX {
            let mut bytes = vec![MAGIC.to_le_bytes()[0], MAGIC.to_le_bytes()[1], VERSION, kind, 0, 0, 0, 0];
            bytes.extend((0..80).map(|byte| byte ^ kind));
            let sum = crc_fast::crc32_iscsi(&[&bytes[..4], &bytes[8..]].concat());
            let (mut whole, mut cut) = (bytes.clone(), bytes[..56].to_vec());
            seal(&mut whole, &[]);
            seal(&mut cut, &bytes[56..]);
            assert_eq!(
                (whole[4..8].to_vec(), cut[4..8].to_vec()),
                (sum.to_le_bytes().to_vec(), sum.to_le_bytes().to_vec())
            );
        }
    }

    /// Of any length: short and long ones are summed up by different crates, which agree.
    #[test]
    fn sums_of_all_lengths() {
        let bytes: Vec<u8> = (0..70_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for len in (0..600).chain([1_400, 4_095, 4_096, 16_383, 65_000, 70_000]) {
            for cut in [0, len / 3, len] {
                let sum = append_sum(append_sum(0, &bytes[..cut]), &bytes[cut..len]);
                assert_eq!(sum, crc32c::crc32c(&bytes[..len]), "{len} bytes, cut at {cut}");
                assert_eq!(sum, crc_fast::crc32_iscsi(&bytes[..len]), "{len} bytes, cut at {cut}");
            }
        }
    }

    #[test]
    fn places_are_read_back_and_damaged_ones_refused() {
        let place = PlaceRecord { chunk: 7, offset: 16, len: 65_520, generation: 1 << 40 };
        let mut bytes = Vec::new();
        place.write(&mut bytes);
        assert_eq!((bytes.len(), PlaceRecord::parse(&bytes)), (PLACE_RECORD, Ok(place)));
        for length in 0..PLACE_RECORD {
            assert!(PlaceRecord::parse(&bytes[..length]).is_err(), "{length} bytes");
        }
        for bad in
            [PlaceRecord { offset: 4, ..place }, PlaceRecord { len: 12, ..place }, PlaceRecord { len: 0, ..place }]
        {
            let mut bytes = Vec::new();
            bad.write(&mut bytes);
            assert!(PlaceRecord::parse(&bytes).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = Vec::new();
        begin(&mut bytes, &sample(PacketKind::Row));
        bytes[2] = 9;
        assert_eq!(Packet::parse(&bytes).err(), Some(PacketError::IncompatibleVersion(9)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            if let Ok(packet) = Packet::parse(&bytes) {
                let _ = DataHeader::parse(packet.body);
            }
            let _ = DataHeader::parse(&bytes);
            let _ = PlaceRecord::parse(&bytes);
            let _ = read_naks(&bytes);
        }
    }
}
