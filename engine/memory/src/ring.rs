//! A bounded ring of byte records from one thread to one other, without locks.
//!
//! ```text
//!        head (consumer)          tail (producer)
//!          v                        v
//! ... free | len·bytes | len·bytes  | free ... | PAD to the end |  (then on at 0)
//! ```
//!
//! A record is an 8-byte header (its length) and its bytes, contiguous and 8-byte aligned; one that would cross the end of
//! the buffer begins at 0 again, behind a PAD record. Positions count bytes and never wrap (64 bits); index = position
//! modulo capacity.
//!
//! Producer: [`Producer::claim`] reserves bytes in place, [`Producer::commit`] publishes them. Consumer: [`Consumer::peek`]
//! borrows the oldest record, [`Consumer::release`] frees it. Full and empty are answers, not errors.
//!
//! Owner: each half belongs to one thread (they are `Send`, not `Sync`, and all methods take `&mut self`). Invariants:
//! `head <= tail <= head + capacity`; bytes in `[head, tail)` are only read, the others touched by the producer only;
//! `tail` moves by one Release store per commit, `head` by one per release; each side caches the other's position and
//! reads it again only when the cached one says full, or empty.

use crate::sync::{Arc, AtomicBool, AtomicU64, CachePadded, Ordering};
use std::cell::UnsafeCell;
use std::fmt;

const HEADER: u64 = 8;
/// The header of a PAD record; no length can be this.
const PAD: u64 = u64::MAX;

/// Why a claim was not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRoom {
    /// Not now: the consumer has to release records first.
    Full,
    /// Never: longer than `max_record`.
    TooLong,
}

struct Shared {
    /// The buffer. Words, so that records are aligned.
    words: Box<[UnsafeCell<u64>]>,
    /// Under loom: one tracked cell per word, touched whenever the word may be.
    #[cfg(loom)]
    shadow: Vec<loom::cell::UnsafeCell<()>>,
    tail: CachePadded<AtomicU64>,
    head: CachePadded<AtomicU64>,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
}

// SAFETY: the buffer is shared by the invariant in the module's documentation: the two halves, of which there is one
// each, never touch the same bytes between a publication and the release that answers it.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn capacity(&self) -> u64 {
        self.words.len() as u64 * 8
    }

    /// The word at a position.
    fn word(&self, position: u64) -> *mut u64 {
        self.words[(position % self.capacity()) as usize / 8].get()
    }

    /// Under loom: this range is written now.
    fn touch_to_write(&self, _position: u64, _len: u64) {
        #[cfg(loom)]
        for word in (_position..(_position + _len).next_multiple_of(8)).step_by(8) {
            self.shadow[(word % self.capacity()) as usize / 8].with_mut(|_| ());
        }
    }

    /// Under loom: this range is read now.
    fn touch_to_read(&self, _position: u64, _len: u64) {
        #[cfg(loom)]
        for word in (_position..(_position + _len).next_multiple_of(8)).step_by(8) {
            self.shadow[(word % self.capacity()) as usize / 8].with(|_| ());
        }
    }
}

/// Makes a ring of `capacity` bytes (a power of two, at least 64) and gives its two ends.
///
/// # Panics
/// When `capacity` is not such a number: it comes from checked options.
pub fn ring(capacity: usize) -> (Producer, Consumer) {
    assert!(capacity.is_power_of_two() && capacity >= 64, "a ring's capacity is a power of two");
    let shared = Arc::new(Shared {
        words: (0..capacity / 8).map(|_| UnsafeCell::new(0)).collect(),
        #[cfg(loom)]
        shadow: (0..capacity / 8).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        tail: CachePadded(AtomicU64::new(0)),
        head: CachePadded(AtomicU64::new(0)),
        producer_gone: AtomicBool::new(false),
        consumer_gone: AtomicBool::new(false),
    });
    let producer = Producer { shared: shared.clone(), tail: 0, head_seen: 0, claimed: None };
    (producer, Consumer { shared, head: 0, tail_seen: 0 })
}

/// A claim: where its header is, and how many bytes it has.
#[derive(Clone, Copy)]
struct Claimed {
    header: u64,
    len: u64,
}

/// The end that writes.
pub struct Producer {
    shared: Arc<Shared>,
    /// What `Shared::tail` is: only we store it.
    tail: u64,
    /// A value of `Shared::head` seen earlier: never ahead of it.
    head_seen: u64,
    claimed: Option<Claimed>,
}

impl Producer {
    /// The longest record: with it a record and the PAD before it fit into an empty ring wherever its position is.
    pub fn max_record(&self) -> usize {
        (self.shared.capacity() / 2 - HEADER) as usize
    }

    /// Reserves `len` bytes (8-byte aligned; older bytes are in them) for one record. An older open claim is given up.
    pub fn claim(&mut self, len: usize) -> Result<&mut [u8], NoRoom> {
        self.claimed = None;
        if len > self.max_record() {
            return Err(NoRoom::TooLong);
        }
        let capacity = self.shared.capacity();
        let need = HEADER + (len as u64).next_multiple_of(8);
        let to_end = capacity - self.tail % capacity;
        let pad = if need > to_end { to_end } else { 0 };
        if self.tail + pad + need > self.head_seen + capacity {
            // Acquire: pairs with the Release store of `head` in `Consumer::release`; its reads of the bytes that we are
            // about to overwrite are over.
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
            if self.tail + pad + need > self.head_seen + capacity {
                return Err(NoRoom::Full);
            }
        }
        if pad > 0 {
            self.shared.touch_to_write(self.tail, HEADER);
            // SAFETY: [tail, tail + pad) is ours by the test above, and `tail` is a multiple of 8 below the capacity.
            unsafe { *self.shared.word(self.tail) = PAD };
        }
        let header = self.tail + pad;
        self.shared.touch_to_write(header, need);
        self.claimed = Some(Claimed { header, len: len as u64 });
        Ok(self.claimed_bytes().unwrap_or_default())
    }

    /// The bytes of the open claim.
    pub fn claimed_bytes(&mut self) -> Option<&mut [u8]> {
        let claimed = self.claimed?;
        if claimed.len == 0 {
            return Some(&mut []);
        }
        let start = self.shared.word(claimed.header + HEADER);
        // SAFETY: the claim's bytes are contiguous (no record crosses the end), ours until the commit, and initialised
        // (the buffer was zeroed); `&mut self` makes this the only reference to them.
        Some(unsafe { std::slice::from_raw_parts_mut(start.cast(), claimed.len as usize) })
    }

    /// Publishes the open claim. `false`: there was none.
    pub fn commit(&mut self) -> bool {
        let Some(claimed) = self.claimed.take() else { return false };
        self.shared.touch_to_write(claimed.header, HEADER + claimed.len);
        // SAFETY: the header word belongs to the claim.
        unsafe { *self.shared.word(claimed.header) = claimed.len };
        self.tail = claimed.header + HEADER + claimed.len.next_multiple_of(8);
        // Release: pairs with the Acquire load of `tail` in `Consumer::peek`: whoever sees this tail sees the bytes.
        self.shared.tail.0.store(self.tail, Ordering::Release);
        true
    }

    /// Gives the open claim up.
    pub fn abort(&mut self) {
        self.claimed = None;
    }

    /// Claims, copies and commits.
    pub fn push(&mut self, record: &[u8]) -> Result<(), NoRoom> {
        self.claim(record.len())?.copy_from_slice(record);
        self.commit();
        Ok(())
    }

    /// Whether the consumer was dropped: nothing that is pushed now will be read.
    pub fn is_closed(&self) -> bool {
        // Acquire: pairs with the Release store in the consumer's `drop`.
        self.shared.consumer_gone.load(Ordering::Acquire)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Release: pairs with the Acquire load in `Consumer::is_closed`; all commits come before it.
        self.shared.producer_gone.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer(tail {} of {})", self.tail, self.shared.capacity())
    }
}

/// The end that reads.
pub struct Consumer {
    shared: Arc<Shared>,
    /// First byte not yet released, PAD skipped: at or ahead of `Shared::head`, which only we store.
    head: u64,
    /// A value of `Shared::tail` seen earlier: never ahead of it.
    tail_seen: u64,
}

impl Consumer {
    /// The oldest record, or `None`. It stays the same, in place, until `release`.
    pub fn peek(&mut self) -> Option<&[u8]> {
        loop {
            if self.head == self.tail_seen {
                // Acquire: pairs with the Release store of `tail` in `Producer::commit`.
                self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
                if self.head == self.tail_seen {
                    return None;
                }
            }
            if self.header() != PAD {
                return self.current();
            }
            // A PAD is never published without the record behind it.
            self.head += self.shared.capacity() - self.head % self.shared.capacity();
        }
    }

    /// The record that the last `peek` gave, if it is not released.
    pub fn current(&self) -> Option<&[u8]> {
        if self.head == self.tail_seen {
            return None;
        }
        let len = self.header();
        if len == PAD {
            return None;
        }
        if len == 0 {
            return Some(&[]);
        }
        self.shared.touch_to_read(self.head, HEADER + len);
        let start = self.shared.word(self.head + HEADER);
        // SAFETY: [head, tail_seen) is published, so the bytes were written before the Release store that we have seen,
        // are contiguous, and the producer leaves them alone until `release`, which takes `&mut self`.
        Some(unsafe { std::slice::from_raw_parts(start.cast(), len as usize) })
    }

    /// Names the oldest record: no two records of a ring have the same position.
    pub fn position(&self) -> u64 {
        self.head
    }

    /// Frees the record that `peek` gave. Without one it does nothing.
    pub fn release(&mut self) {
        if let Some(len) = self.current().map(|record| record.len() as u64) {
            self.head += HEADER + len.next_multiple_of(8);
            // Release: pairs with the Acquire load of `head` in `Producer::claim`: our reads are over.
            self.shared.head.0.store(self.head, Ordering::Release);
        }
    }

    /// Whether the producer was dropped. When it is, what `peek` still gives is all that there will be.
    pub fn is_closed(&self) -> bool {
        // Acquire: pairs with the Release store in the producer's `drop`; every commit is visible afterwards.
        self.shared.producer_gone.load(Ordering::Acquire)
    }

    fn header(&self) -> u64 {
        self.shared.touch_to_read(self.head, HEADER);
        // SAFETY: callers have seen head < tail, so the header is published (see `current`).
        unsafe { *self.shared.word(self.head) }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Release: pairs with the Acquire load in `Producer::is_closed`.
        self.shared.consumer_gone.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer(head {} of {})", self.head, self.shared.capacity())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn a_claim_is_written_in_place_and_visible_only_when_committed() {
        let (mut producer, mut consumer) = ring(64);
        let bytes = producer.claim(5).expect("room");
        assert_eq!(bytes.as_ptr() as usize % 8, 0);
        bytes.copy_from_slice(b"hello");
        assert_eq!(consumer.peek(), None);
        assert!(producer.commit());
        assert!(!producer.commit(), "one commit per claim");
        assert_eq!(consumer.peek(), Some(&b"hello"[..]));
        consumer.release();
        assert_eq!(consumer.peek(), None);
    }

    #[test]
    fn an_aborted_claim_leaves_nothing() {
        let (mut producer, mut consumer) = ring(64);
        producer.claim(8).expect("room").fill(1);
        producer.abort();
        assert!(!producer.commit());
        producer.push(b"next").expect("room");
        assert_eq!(consumer.peek(), Some(&b"next"[..]));
    }

    #[test]
    fn a_borrowed_record_keeps_its_room() {
        let (mut producer, mut consumer) = ring(64);
        producer.push(&[1; 24]).expect("room");
        producer.push(&[2; 24]).expect("room");
        assert_eq!(producer.push(&[3]), Err(NoRoom::Full));
        assert_eq!(consumer.peek(), Some(&[1; 24][..]));
        assert_eq!(producer.push(&[3]), Err(NoRoom::Full), "still borrowed");
        consumer.release();
        assert_eq!(producer.push(&[3]), Ok(()));
        assert_eq!(producer.claim(25).err(), Some(NoRoom::TooLong));
    }

    #[test]
    fn a_dropped_end_is_noticed_after_the_last_record() {
        let (mut producer, mut consumer) = ring(64);
        producer.push(b"last").expect("room");
        assert!(!consumer.is_closed());
        drop(producer);
        assert!(consumer.is_closed());
        assert_eq!(consumer.peek(), Some(&b"last"[..]));
        let (producer, consumer) = ring(64);
        drop(consumer);
        assert!(producer.is_closed());
    }

    proptest! {
        /// The ring against a queue: same records, same order, nothing lost, and whatever is not longer than the longest
        /// record fits into an empty ring, wherever its position is.
        #[test]
        fn behaves_as_a_bounded_queue(steps in prop::collection::vec((any::<bool>(), 0_usize..130), 1..400)) {
            let (mut producer, mut consumer) = ring(256);
            let mut model = VecDeque::new();
            for (number, (push, len)) in steps.into_iter().enumerate() {
                if push {
                    let record = vec![number as u8; len];
                    match producer.push(&record) {
                        Ok(()) => model.push_back(record),
                        Err(NoRoom::TooLong) => prop_assert!(len > producer.max_record()),
                        Err(NoRoom::Full) => prop_assert!(!model.is_empty(), "an empty ring takes every record"),
                    }
                } else {
                    prop_assert_eq!(consumer.peek(), model.front().map(Vec::as_slice));
                    consumer.release();
                    model.pop_front();
                }
            }
        }
    }

    #[test]
    fn two_threads_pass_every_record_in_order() {
        const RECORDS: u64 = 200_000;
        let (mut producer, mut consumer) = ring(4096);
        let writer = std::thread::spawn(move || {
            for number in 0..RECORDS {
                let len = 8 + (number % 61) as usize;
                loop {
                    if let Ok(bytes) = producer.claim(len) {
                        bytes.fill(number as u8);
                        bytes[..8].copy_from_slice(&number.to_le_bytes());
                        break;
                    }
                    std::thread::yield_now();
                }
                producer.commit();
            }
        });
        let mut expected = 0;
        while expected < RECORDS {
            let Some(record) = consumer.peek() else {
                std::thread::yield_now();
                continue;
            };
            assert_eq!(record.len(), 8 + (expected % 61) as usize);
            assert_eq!(record[..8], expected.to_le_bytes());
            assert!(record[8..].iter().all(|byte| *byte == expected as u8));
            consumer.release();
            expected += 1;
        }
        writer.join().expect("the writer ends");
        assert!(consumer.is_closed() && consumer.peek().is_none());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    /// Every interleaving of a producer that fills and wraps a small ring with a consumer that drains it: records arrive
    /// whole and in order, and no byte is written while it may be read (the shadow cells would tell).
    #[test]
    fn records_arrive_whole_and_in_order() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring(64);
            let writer = loom::thread::spawn(move || {
                let mut pushed = 0_u8;
                for _ in 0..4 {
                    if let Ok(bytes) = producer.claim(16) {
                        bytes.fill(pushed + 1);
                        producer.commit();
                        pushed += 1;
                    }
                }
                pushed
            });
            let mut read = 0_u8;
            for _ in 0..3 {
                if let Some(record) = consumer.peek() {
                    assert_eq!(record, [read + 1; 16]);
                    read += 1;
                    consumer.release();
                }
            }
            let pushed = writer.join().expect("the writer ends");
            assert!(consumer.is_closed());
            while let Some(record) = consumer.peek() {
                assert_eq!(record, [read + 1; 16]);
                read += 1;
                consumer.release();
            }
            assert_eq!(read, pushed);
        });
    }

    /// Whoever sees that the producer is gone sees its last record, and after that nothing: none is lost at the end.
    #[test]
    fn the_last_record_comes_before_the_end() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring(64);
            let writer = loom::thread::spawn(move || producer.push(b"last").expect("room"));
            if consumer.is_closed() {
                assert_eq!(consumer.peek(), Some(&b"last"[..]));
                consumer.release();
                assert_eq!(consumer.peek(), None);
            }
            writer.join().expect("the writer ends");
        });
    }
}
