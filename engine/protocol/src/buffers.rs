//! Room for packets: taken when one is begun, given back when it has been handed over. When an endpoint is warm its packets
//! cost no allocation.
//!
//! Owner: [`crate::shared::Shared`]. Invariant: no more than [`KEPT`] buffers of at most [`LARGEST`] bytes are kept, so what a
//! burst of many or long packets took does not stay.

use std::cell::RefCell;

/// The most buffers that are kept: those of some full bursts.
const KEPT: usize = 256;
/// The largest buffer that is kept: a header with the row of a view of 64.
const LARGEST: usize = 2_048;

/// What most packets need: none of them makes a buffer grow that was used for a shorter one.
const USUAL: usize = 256;
/// So many are made at a time.
const MORE: usize = 8;

/// The buffers that are free.
#[derive(Debug, Default)]
pub struct Buffers {
    free: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer with room for so many bytes.
    pub fn take(&self, room: usize) -> Vec<u8> {
        let mut free = self.free.borrow_mut();
        if free.is_empty() {
            // Some more at once: a burst that is a little longer than those before is nothing new.
            free.extend((0..MORE).map(|_| Vec::with_capacity(USUAL)));
        }
        let mut buffer = free.pop().unwrap_or_default();
        buffer.reserve_exact(room);
        buffer
    }

    /// A buffer that is not needed any more.
    pub fn give(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if free.len() < KEPT && (1..=LARGEST).contains(&buffer.capacity()) {
            buffer.clear();
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again() {
        let buffers = Buffers::default();
        let mut first = buffers.take(100);
        first.extend_from_slice(b"of the first packet");
        let place = first.as_ptr();
        buffers.give(first);
        let second = buffers.take(100);
        assert!(second.is_empty() && second.capacity() >= 100);
        assert_eq!(second.as_ptr(), place);
    }

    #[test]
    fn little_is_kept() {
        let buffers = Buffers::default();
        buffers.give(Vec::with_capacity(LARGEST + 1));
        buffers.give(Vec::new());
        assert!(buffers.free.borrow().is_empty());
        drop(buffers.take(1));
        assert_eq!(buffers.free.borrow().len(), MORE - 1);
        (MORE - 1..=KEPT).for_each(|_| buffers.give(Vec::with_capacity(8)));
        assert_eq!(buffers.free.borrow().len(), KEPT);
    }
}
