//! Checked reading and writing of plain values: little-endian fixed-width integers, varints, byte strings, lists.

use std::fmt;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The bytes end before the value does.
    Truncated,
    /// A count or length beyond its limit.
    TooLong,
    /// A value that the format does not have.
    BadValue,
    /// Bytes follow where the value should end.
    Trailing,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeError::Truncated => "truncated",
            DecodeError::TooLong => "count or length beyond its limit",
            DecodeError::BadValue => "value out of range",
            DecodeError::Trailing => "trailing bytes",
        })
    }
}

impl std::error::Error for DecodeError {}

/// Reads values from the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        if len > self.bytes.len() {
            return Err(DecodeError::Truncated);
        }
        let (head, tail) = self.bytes.split_at(len);
        self.bytes = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.bytes.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.bytes = tail;
                Ok(*head)
            }
            None => Err(DecodeError::Truncated),
        }
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }
    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    /// Sixteen bytes.
    pub fn u128(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_le_bytes(self.array()?))
    }
    /// A boolean: exactly 0 or 1.
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::BadValue),
        }
    }

    /// A variable-length integer: seven bits a byte, low ones first, at most ten bytes.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        if let [byte @ 0..0x80, rest @ ..] = self.bytes {
            self.bytes = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        if let Some(eight) = self.bytes.first_chunk::<8>() {
            let word = u64::from_le_bytes(*eight);
            let ends = !word & 0x8080_8080_8080_8080;
            if ends != 0 {
                // It ends within eight bytes: those behind it are cut off, and the groups of seven bits put together.
                let bits = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
                let pairs = (bits & 0x007f_007f_007f_007f) | ((bits & 0x7f00_7f00_7f00_7f00) >> 1);
                let fours = (pairs & 0x0000_3fff_0000_3fff) | ((pairs & 0x3fff_0000_3fff_0000) >> 2);
                self.bytes = &self.bytes[ends.trailing_zeros() as usize / 8 + 1..];
                return Ok((fours & 0x0fff_ffff) | ((fours & 0x0fff_ffff_0000_0000) >> 4));
            }
        }
        self.varint_by_bytes()
    }

    fn varint_by_bytes(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (index, &byte) in self.bytes.iter().enumerate().take(10) {
            if index == 9 && byte > 1 {
                return Err(DecodeError::BadValue);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[index + 1..];
                return Ok(value);
            }
        }
        if self.bytes.len() >= 10 { Err(DecodeError::BadValue) } else { Err(DecodeError::Truncated) }
    }

    /// A byte string of at most `limit` bytes behind its length.
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.varint()?;
        if len > limit as u64 {
            return Err(DecodeError::TooLong);
        }
        self.take(len as usize)
    }

    /// A list of at most `limit` items behind its count; `item` must read at least one byte.
    pub fn list<T>(
        &mut self,
        limit: usize,
        mut item: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.varint()?;
        if count > limit as u64 {
            return Err(DecodeError::TooLong);
        }
        if count > self.remaining() as u64 {
            return Err(DecodeError::Truncated);
        }
        // The count is the sender's word: for many items the list grows with what is read.
        let mut items = Vec::with_capacity(count.min(16) as usize);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Fails if anything is left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// Appends values to a byte vector.
#[derive(Default, Debug)]
pub struct Writer {
    /// What was written so far.
    pub bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Writer {
        Writer::default()
    }
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }
    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    /// Sixteen bytes.
    pub fn u128(&mut self, value: u128) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    /// A boolean.
    pub fn flag(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }
    /// A variable-length integer.
    #[inline]
    pub fn varint(&mut self, value: u64) {
        if value < 0x80 {
            return self.bytes.push(value as u8);
        }
        self.long_varint(value);
    }

    fn long_varint(&mut self, mut value: u64) {
        if value < 1 << 56 {
            // The groups of seven bits are taken apart, and all bytes but the last marked.
            let fours = (value & 0x0fff_ffff) | ((value << 4) & 0x0fff_ffff_0000_0000);
            let pairs = (fours & 0x0000_3fff_0000_3fff) | ((fours << 2) & 0x3fff_0000_3fff_0000);
            let bits = (pairs & 0x007f_007f_007f_007f) | ((pairs << 1) & 0x7f00_7f00_7f00_7f00);
            let last = (63 - bits.leading_zeros()) / 8;
            let marks = 0x0080_8080_8080_8080 & ((1 << (8 * last)) - 1);
            let len = self.bytes.len() + last as usize + 1;
            // A store of eight bytes, whatever is needed of them.
            self.bytes.extend_from_slice(&(bits | marks).to_le_bytes());
            self.bytes.truncate(len);
            return;
        }
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
    /// A byte string behind its length.
    pub fn bytes(&mut self, value: &[u8]) {
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }
    /// A list behind its count.
    pub fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Writer, &T)) {
        self.varint(items.len() as u64);
        for value in items {
            item(self, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varint_round_trip(value: u64, bits in 0u32..64, behind in 0usize..9) {
            let value = value >> bits;
            let mut writer = Writer::new();
            writer.varint(value);
            prop_assert_eq!(writer.bytes.len(), (70 - (value | 1).leading_zeros() as usize) / 7);
            writer.bytes.resize(writer.bytes.len() + behind, 0xff);
            let mut reader = Reader::new(&writer.bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.remaining(), behind);
        }

        #[test]
        fn varint_of_any_bytes(mut bytes: Vec<u8>, marked in 0usize..12) {
            bytes.iter_mut().take(marked).for_each(|byte| *byte |= 0x80);
            let (mut one, mut other) = (Reader::new(&bytes), Reader::new(&bytes));
            prop_assert_eq!(one.varint(), other.varint_by_bytes());
            prop_assert_eq!(one.remaining(), other.remaining());
        }
    }

    #[test]
    fn a_count_beyond_the_input_does_not_allocate() {
        let mut writer = Writer::new();
        writer.varint(1 << 20);
        let result = Reader::new(&writer.bytes).list(usize::MAX, |r| r.u8());
        assert_eq!(result, Err(DecodeError::Truncated));
    }
}
