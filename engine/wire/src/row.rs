//! A member's row of monotone counters.
//!
//! Rows are idempotent and merge by maximum: losing, repeating or reordering one does no harm.

use crate::codec::{DecodeError, Reader, Writer};
use crate::message::MAX_NUMBER;
use crate::packet::MAX_POSITION;

/// The row of one member in one view.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row {
    /// Up to which position it has sent its own stream.
    pub end: u64,
    /// Up to which position it has each member's stream without gaps.
    pub received: Vec<u64>,
    /// Up to which position its application is done with each member's stream.
    pub consumed: Vec<u64>,
    /// One more than the messages of each member that it has delivered; 0: it has no state yet, and delivers nothing.
    pub delivered: Vec<u64>,
}

impl Row {
    /// A row of zeros for a view of `members`.
    pub fn zero(members: usize) -> Row {
        Row { end: 0, received: vec![0; members], consumed: vec![0; members], delivered: vec![0; members] }
    }

    /// Appends it.
    pub fn write(&self, out: &mut Writer) {
        out.varint(self.end);
        for ((received, consumed), delivered) in self.received.iter().zip(&self.consumed).zip(&self.delivered) {
            out.varint(*received);
            out.varint(received - consumed);
            out.varint(*delivered);
        }
    }

    /// Reads a row of a view of `members` and merges it into `self` (which has that many entries). Bytes behind it
    /// must be zero padding.
    pub fn merge(&mut self, bytes: &[u8]) -> Result<bool, DecodeError> {
        let mut changed = false;
        let mut reader = Reader::new(bytes);
        let end = reader.varint()?;
        let mut check = reader.clone();
        for _ in 0..self.received.len() {
            let received = check.varint()?;
            if received > MAX_POSITION || check.varint()? > received {
                return Err(DecodeError::BadValue);
            }
            if check.varint()? > MAX_NUMBER {
                return Err(DecodeError::BadValue);
            }
        }
        if end > MAX_POSITION {
            return Err(DecodeError::BadValue);
        }
        let padding = check.take(check.remaining())?;
        if padding.len() >= 8 || padding.iter().any(|&byte| byte != 0) {
            return Err(DecodeError::Trailing);
        }
        if end > self.end {
            self.end = end;
            changed = true;
        }
        let own = self.received.iter_mut().zip(&mut self.consumed).zip(&mut self.delivered);
        for ((own_received, own_consumed), own_delivered) in own {
            let received = reader.varint()?;
            let consumed = received - reader.varint()?;
            let delivered = reader.varint()?;
            if delivered > *own_delivered {
                *own_delivered = delivered;
                changed = true;
            }
            if received > *own_received {
                *own_received = received;
                changed = true;
            }
            if consumed > *own_consumed {
                *own_consumed = consumed;
                changed = true;
            }
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn merge_is_maximum(pairs in proptest::collection::vec((0u64..1 << 40, 0u64..1 << 40), 1..9), end in 0..=MAX_POSITION) {
            let row = Row {
                end,
                received: pairs.iter().map(|p| p.0.max(p.1)).collect(),
                consumed: pairs.iter().map(|p| p.0.min(p.1)).collect(),
                delivered: pairs.iter().map(|p| p.0 % 1000).collect(),
            };
            let mut out = Writer::new();
            row.write(&mut out);
            let mut copy = Row::zero(pairs.len());
            copy.merge(&out.bytes).expect("good row");
            prop_assert_eq!(&copy, &row);
            prop_assert_eq!(copy.merge(&out.bytes), Ok(false));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, members in 0usize..9) {
            let _ = Row::zero(members).merge(&bytes);
        }
    }
}
