//! A digest: what all members of a part of a large view are known to have, as lower bounds.
//!
//! Where a view has more members than can afford to tell their rows to each other, rows are gathered and spread by digests
//! (`plane/gossip.rs` of the core). Like rows they are idempotent and merge entry by entry, by maximum: losing, repeating or
//! reordering one does no harm. Each entry stands for itself, so a digest that is longer than a datagram is cut in several.

use crate::codec::{DecodeError, Reader, Writer};
use crate::message::MAX_NUMBER;
use crate::packet::MAX_POSITION;

/// The most members that a digest can speak of.
pub const MAX_MEMBERS: usize = 1 << 15;
/// More bytes than an entry can take.
pub const MAX_ENTRY: usize = 58;
/// No entry takes fewer bytes.
const MIN_ENTRY: usize = 6;
/// Digests of a higher level do not exist: the levels are as many as the bits of a rank.
const MAX_LEVEL: u8 = 15;
/// `ask`: a sign of life, to whoever asks.
const ASK_SIGN: u8 = 255;

/// What its sender wants to hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Nothing.
    Nothing,
    /// The digest of this level, which the receiver sends to this sender.
    Level(u8),
    /// The receiver's own row, and acknowledgements that are outstanding.
    Sign,
}

/// What is known about one member's stream, and about that member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// Up to which position all members of the part have its stream.
    pub received: u64,
    /// Up to which position all their applications are done with it; at most `received`.
    pub consumed: u64,
    /// One more than its messages that all of them have delivered; 0: one of them delivers nothing yet.
    pub delivered: u64,
    /// The rank of the part's member that has consumed least of it.
    pub slowest: u16,
    /// The member itself has shown a sign of this view, to somebody.
    pub shown: bool,
    /// The end of its stream, as far as known; at least `received`.
    pub end: u64,
    /// Its last sign that is known of (system group).
    pub sign: Sign,
}

/// A member's sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sign {
    /// Its last heartbeat.
    pub beat: u64,
    /// Whom it misses, though others hear them.
    pub misses: Missed,
}

/// Some members, by rank: the oldest of them, and which of the 64 after that one. (Of more, the next ones show when the view is
/// without these.)
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Missed {
    /// One more than the oldest one's rank; 0: none.
    oldest: u16,
    /// Bit n: the one with the rank `oldest` + n.
    after: u64,
}

impl Missed {
    /// Those with these ranks, in ascending order.
    pub fn new(ranks: impl IntoIterator<Item = usize>) -> Missed {
        let mut ranks = ranks.into_iter();
        let Some(oldest) = ranks.next().map(|rank| rank + 1) else { return Missed::default() };
        let bit = |rank: usize| 1u64.checked_shl((rank - oldest) as u32).unwrap_or(0);
        Missed { oldest: oldest as u16, after: ranks.fold(0, |after, rank| after | bit(rank)) }
    }

    /// Nobody.
    pub fn is_empty(self) -> bool {
        self.oldest == 0
    }

    /// The one with this rank is among them.
    pub fn contains(self, rank: usize) -> bool {
        let oldest = usize::from(self.oldest);
        let is_after = || rank >= oldest && rank - oldest < 64 && self.after >> (rank - oldest) & 1 == 1;
        oldest > 0 && (rank + 1 == oldest || is_after())
    }
}

fn limited(value: u64, most: u64) -> Result<u64, DecodeError> {
    if value > most { Err(DecodeError::BadValue) } else { Ok(value) }
}

/// Appends a sign.
pub fn write_sign(out: &mut Writer, sign: Sign) {
    out.varint(sign.beat);
    out.varint(u64::from(sign.misses.oldest));
    if !sign.misses.is_empty() {
        out.varint(sign.misses.after);
    }
}

/// Reads a sign.
pub fn read_sign(reader: &mut Reader<'_>) -> Result<Sign, DecodeError> {
    let beat = limited(reader.varint()?, MAX_NUMBER)?;
    let oldest = limited(reader.varint()?, MAX_MEMBERS as u64)? as u16;
    let after = if oldest == 0 { 0 } else { reader.varint()? };
    Ok(Sign { beat, misses: Missed { oldest, after } })
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Digest {
    /// It speaks for the sender and the 2^level - 1 members before it, in a ring by rank.
    pub level: u8,
    /// What the sender wants to hear.
    pub ask: Ask,
    /// The rank that the first entry is about; the others follow it.
    pub first: u16,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// Appends what comes before the entries.
pub fn write_head(out: &mut Writer, level: u8, ask: Ask, first: u16) {
    out.u8(level);
    out.u8(match ask {
        Ask::Nothing => 0,
        Ask::Level(level) => level + 1,
        Ask::Sign => ASK_SIGN,
    });
    out.u16(first);
}

/// Appends one entry.
pub fn write_entry(out: &mut Writer, entry: &Entry) {
    out.varint(entry.received);
    out.varint(entry.received - entry.consumed);
    out.varint(entry.delivered);
    out.varint(u64::from(entry.slowest) << 1 | u64::from(entry.shown));
    out.varint(entry.end - entry.received);
    write_sign(out, entry.sign);
}

fn read_entry(reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    let received = limited(reader.varint()?, MAX_POSITION)?;
    let consumed = received - limited(reader.varint()?, received)?;
    let delivered = limited(reader.varint()?, MAX_NUMBER)?;
    let slowest = limited(reader.varint()?, 2 * MAX_MEMBERS as u64)?;
    let end = received + limited(reader.varint()?, MAX_POSITION - received)?;
    let sign = read_sign(reader)?;
    Ok(Entry { received, consumed, delivered, slowest: (slowest >> 1) as u16, shown: slowest & 1 == 1, end, sign })
}

/// Reads a digest body of a view of `members`.
pub fn read_digest(body: &[u8], members: usize) -> Result<Digest, DecodeError> {
    let mut reader = Reader::new(body);
    let level = reader.u8()?;
    let ask = match reader.u8()? {
        0 => Ask::Nothing,
        ASK_SIGN => Ask::Sign,
        above if above - 1 <= MAX_LEVEL => Ask::Level(above - 1),
        _ => return Err(DecodeError::BadValue),
    };
    let first = reader.u16()?;
    if level > MAX_LEVEL {
        return Err(DecodeError::BadValue);
    }
    let mut entries = Vec::with_capacity(members.min(reader.remaining() / MIN_ENTRY));
    while reader.remaining() > 0 {
        if usize::from(first) + entries.len() >= members {
            return Err(DecodeError::TooLong);
        }
        let entry = read_entry(&mut reader)?;
        if usize::from(entry.slowest) >= members {
            return Err(DecodeError::BadValue);
        }
        entries.push(entry);
    }
    Ok(Digest { level, ask, first, entries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(values: (u64, u64, u64, u64)) -> Entry {
        let received = values.0.max(values.1);
        let missed = values.1.is_multiple_of(3).then_some([values.2, values.3]);
        let misses =
            missed.map_or_else(Missed::default, |[oldest, after]| Missed { oldest: 1 + oldest as u16 % 40, after });
        Entry {
            received,
            consumed: values.0.min(values.1),
            delivered: values.2 % MAX_NUMBER,
            slowest: (values.2 % 40) as u16,
            shown: values.3.is_multiple_of(2),
            end: received + values.3,
            sign: Sign { beat: values.3 % MAX_NUMBER, misses },
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            values in proptest::collection::vec((0u64..1 << 50, 0u64..1 << 50, 0u64..1 << 50, 0u64..1 << 50), 0..30),
            level in 0..=MAX_LEVEL,
            first in 0u16..10,
        ) {
            let entries: Vec<Entry> = values.into_iter().map(sample).collect();
            for ask in [Ask::Nothing, Ask::Level(level), Ask::Sign] {
                let mut out = Writer::new();
                write_head(&mut out, level, ask, first);
                for entry in &entries {
                    let before = out.bytes.len();
                    write_entry(&mut out, entry);
                    prop_assert!(out.bytes.len() - before <= MAX_ENTRY);
                }
                let digest = Digest { level, ask, first, entries: entries.clone() };
                prop_assert_eq!(read_digest(&out.bytes, 40), Ok(digest));
                // One entry more than the view has members.
                let few = usize::from(first) + entries.len();
                prop_assert!(entries.is_empty() || read_digest(&out.bytes, few - 1).is_err());
            }
        }

        #[test]
        fn the_missed_are_those_that_were_named(ranks in proptest::collection::btree_set(0usize..200, 0..8)) {
            let missed = Missed::new(ranks.iter().copied());
            prop_assert_eq!(missed.is_empty(), ranks.is_empty());
            let window = ranks.first().map_or(0, |oldest| oldest + 64);
            for rank in 0..300 {
                prop_assert_eq!(missed.contains(rank), ranks.contains(&rank) && rank <= window, "rank {}", rank);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, members in 0usize..9) {
            if let Ok(digest) = read_digest(&bytes, members) {
                prop_assert!(usize::from(digest.first) + digest.entries.len() <= members.max(usize::from(digest.first)));
            }
        }
    }
}
