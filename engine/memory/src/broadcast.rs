//! A broadcast log in shared words: one process writes each record once, any number of others read it where it lies.
//!
//! ```text
//!  header: magic · capacity · reserved · published · asleep
//!  data:   … old records (being overwritten) │ length·readers·bytes │ length·readers·bytes │ …
//!                                reserved − capacity                                     published
//! ```
//!
//! The writer knows nothing of where its readers are and never waits for one: whoever is stopped, killed or slow harms
//! nobody else. It overwrites the oldest records; a reader that was overtaken notices, and has lost datagrams, as on a network.
//! What holds the writer back is the flow control of the protocol above.
//!
//! Positions count words and never wrap (64 bits); index = position modulo capacity. A record is a word with its length in
//! bytes, a word with one bit for each reader that it is for, and its bytes; it never crosses the end of the data: a PAD
//! word says to go on at the beginning.
//!
//! The writer's order is: `reserved`, the bytes, `published`. A reader copies a record out and then looks at `reserved`: if
//! that is more than the capacity ahead of the record's beginning, the copy may be torn and is thrown away (a sequence lock,
//! whose data is read with atomic loads: Boehm, *Can Seqlocks Get Along With Programming Language Memory Models?*, 2012; or
//! by instructions of the machine: [`crate::words`]). A writer that dies at any point between leaves what is published whole.
//!
//! `asleep` says whether the *owner* of the log sleeps: those that write for it look there, and make a system call only
//! then. It is a count, odd while it sleeps, so that each of them wakes it once per sleep.
//!
//! Owner: the [`BroadcastWriter`] belongs to one thread of the owning process, each [`BroadcastReader`] to one thread of
//! another. Readers have the words mapped read-only, and believe nothing that they find there: a length is checked against
//! what is published before it is used.

use crate::sync::{AtomicU64, Ordering, fence};
use crate::words;
use std::fmt;

/// Where the words are that writer and readers share.
pub trait Words: Send {
    /// All of them: the header, then the data.
    fn words(&self) -> &[AtomicU64];
}

/// `isisLOG` and the version of the layout.
const MAGIC: u64 = u64::from_le_bytes(*b"isisLOG\x01");
const MAGIC_AT: usize = 0;
const CAPACITY_AT: usize = 1;
/// Both positions share a cache line: who reads the one needs the other next. Under loom the header is as short as can be.
const RESERVED_AT: usize = if cfg!(loom) { 2 } else { 16 };
const PUBLISHED_AT: usize = RESERVED_AT + 1;
const ASLEEP_AT: usize = if cfg!(loom) { 4 } else { 32 };
/// Words before the data: a page.
pub const HEADER_WORDS: usize = if cfg!(loom) { 5 } else { 512 };
/// Words of a record before its bytes.
const HEADING: u64 = 2;
/// In place of a length: the rest up to the end of the data is unused.
const PAD: u64 = u64::MAX;
/// Records for others that are passed over in one call, at most.
const SKIPS_MAX: usize = 1_024;

/// The longest record in bytes, with so many words of data: four of them and their padding fit.
fn longest(capacity: u64) -> usize {
    ((capacity / 4).saturating_sub(HEADING) * 8) as usize
}

fn words_of(bytes: usize) -> u64 {
    bytes.div_ceil(8) as u64
}

/// The end that writes: the only one that may change the words.
pub struct BroadcastWriter<W> {
    words: W,
    capacity: u64,
    position: u64,
    asleep: u64,
}

impl<W: Words> BroadcastWriter<W> {
    /// Begins a log in `words`, which are zeroes. The data (`words` without [`HEADER_WORDS`]) is a power of two of words, at
    /// least 16.
    ///
    /// # Panics
    /// When it is not: the size comes from checked options.
    pub fn new(words: W) -> BroadcastWriter<W> {
        let capacity = words.words().len().saturating_sub(HEADER_WORDS) as u64;
        assert!(capacity.is_power_of_two() && capacity >= 16, "a log's capacity is a power of two");
        words.words()[CAPACITY_AT].store(capacity, Ordering::Relaxed);
        words.words()[MAGIC_AT].store(MAGIC, Ordering::Relaxed);
        BroadcastWriter { words, capacity, position: 0, asleep: 0 }
    }

    /// The longest record, in bytes.
    pub fn longest(&self) -> usize {
        longest(self.capacity)
    }

    /// Appends a record, `parts` one after the other, for the readers whose bits are set in `readers`. `false`: too long.
    pub fn append(&mut self, readers: u64, parts: [&[u8]; 2]) -> bool {
        let length = parts[0].len() + parts[1].len();
        if length > self.longest() {
            return false;
        }
        let words = self.words.words();
        let need = HEADING + words_of(length);
        let to_end = self.capacity - self.position % self.capacity;
        let pad = if need > to_end { to_end } else { 0 };
        let begin = self.position + pad;
        let end = begin + need;
        words[RESERVED_AT].store(end, Ordering::Relaxed);
        // Pairs with the fence in `BroadcastReader::is_whole`: who saw any byte stored below sees `reserved` as above.
        fence(Ordering::Release);
        let data = &words[HEADER_WORDS..];
        let index = |position: u64| (position % self.capacity) as usize;
        if pad > 0 {
            data[index(self.position)].store(PAD, Ordering::Relaxed);
        }
        let record = &data[index(begin)..index(begin) + need as usize];
        record[0].store(length as u64, Ordering::Relaxed);
        record[1].store(readers, Ordering::Relaxed);
        words::store(&record[HEADING as usize..], parts);
        // Release: pairs with the fence in `BroadcastReader::published`.
        words[PUBLISHED_AT].store(end, Ordering::Release);
        self.position = end;
        true
    }

    /// The owner is about to sleep: whoever writes for it from now on wakes it. It looks into the logs of the others once
    /// more after this call, and sleeps only if there is nothing.
    pub fn arm(&mut self) {
        self.asleep |= 1;
        self.words.words()[ASLEEP_AT].store(self.asleep, Ordering::Relaxed);
        // Pairs with the fence in `published_all`: either the look that follows sees what was published, or the other
        // one sees `asleep`.
        fence(Ordering::SeqCst);
    }

    /// The owner is awake.
    pub fn disarm(&mut self) {
        if self.asleep & 1 == 1 {
            self.asleep += 1;
            self.words.words()[ASLEEP_AT].store(self.asleep, Ordering::Relaxed);
        }
    }
}

/// To be called after appending and before [`BroadcastReader::sleep_of_owner`] of those that it was for.
pub fn published_all() {
    // Pairs with the fence in `BroadcastWriter::arm`.
    fence(Ordering::SeqCst);
}

/// What a reader found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read<'a> {
    /// Nothing more for it now.
    Nothing,
    /// A record.
    Record(&'a [u8]),
    /// The writer overtook it: all up to the newest record is lost for it.
    Lost,
    /// What is there cannot have been written by a [`BroadcastWriter`]. Read no more.
    Corrupt,
}

/// One end that reads.
pub struct BroadcastReader<W> {
    words: W,
    capacity: u64,
    bit: u64,
    position: u64,
    /// The record that was read last, copied out.
    record: Vec<u64>,
}

impl<W: Words> BroadcastReader<W> {
    /// Reads the records that are for the reader with number `reader` (0 to 63), from now on. `None`: this is no log.
    pub fn open(words: W, reader: u32) -> Option<BroadcastReader<W>> {
        let all = words.words();
        let capacity = all.len().checked_sub(HEADER_WORDS)? as u64;
        let is_log = all[MAGIC_AT].load(Ordering::Relaxed) == MAGIC
            && all[CAPACITY_AT].load(Ordering::Relaxed) == capacity
            && capacity.is_power_of_two()
            && capacity >= 16;
        let bit = 1_u64.checked_shl(reader).filter(|_| is_log)?;
        let record = vec![0; words_of(longest(capacity)) as usize];
        let mut reader = BroadcastReader { words, capacity, bit, position: 0, record };
        reader.position = reader.published();
        Some(reader)
    }

    /// The next record for this reader, copied: it stays as it is however far the writer goes on.
    pub fn read(&mut self) -> Read<'_> {
        for _ in 0..SKIPS_MAX {
            let published = self.published();
            if published == self.position {
                return Read::Nothing;
            }
            let ahead = published.wrapping_sub(self.position);
            if published < self.position {
                return Read::Corrupt;
            }
            if ahead > self.capacity {
                return self.overtaken(published);
            }
            let data = &self.words.words()[HEADER_WORDS..];
            let index = (self.position % self.capacity) as usize;
            let to_end = self.capacity - index as u64;
            let length = data[index].load(Ordering::Relaxed);
            if length == PAD {
                if !self.is_whole() {
                    return self.overtaken(published);
                }
                self.position += to_end;
                continue;
            }
            let need = HEADING + length.min(u64::MAX - 7).div_ceil(8);
            if length > longest(self.capacity) as u64 || need > to_end || need > ahead {
                return if self.is_whole() { Read::Corrupt } else { self.overtaken(published) };
            }
            let record = &data[index..index + need as usize];
            let mine = record[1].load(Ordering::Relaxed) & self.bit != 0;
            if mine {
                words::load(&record[HEADING as usize..], &mut self.record);
            }
            if !self.is_whole() {
                return self.overtaken(published);
            }
            self.position += need;
            if mine {
                return Read::Record(&bytes_of(&self.record)[..length as usize]);
            }
        }
        Read::Nothing
    }

    /// Whether everything that was published was read or passed over.
    pub fn is_at_end(&self) -> bool {
        self.published() == self.position
    }

    /// Whether the *writer's* process sleeps, as a number that differs from sleep to sleep: `None` while it is awake. Call
    /// [`published_all`] before.
    pub fn sleep_of_owner(&self) -> Option<u64> {
        let asleep = self.words.words()[ASLEEP_AT].load(Ordering::Relaxed);
        (asleep & 1 == 1).then_some(asleep)
    }

    fn published(&self) -> u64 {
        // Not an acquiring load: those are not for memory that is mapped read-only.
        let published = self.words.words()[PUBLISHED_AT].load(Ordering::Relaxed);
        // Pairs with the Release store in `BroadcastWriter::append`.
        fence(Ordering::Acquire);
        published
    }

    /// What was loaded from the record at `position` up to now was not overwritten before.
    fn is_whole(&self) -> bool {
        // Pairs with the fence in `BroadcastWriter::append`.
        fence(Ordering::Acquire);
        self.words.words()[RESERVED_AT].load(Ordering::Relaxed) <= self.position + self.capacity
    }

    fn overtaken(&mut self, published: u64) -> Read<'_> {
        self.position = published;
        Read::Lost
    }
}

/// The bytes in words.
fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: the words are initialized, borrowed for as long as the bytes are, of the same length in all, and any
    // address is aligned for bytes. Words hold bytes in the order of the only architectures in use, little-endian.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

const _: () = assert!(cfg!(target_endian = "little"), "records are words of little-endian bytes");

impl<W> fmt::Debug for BroadcastWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastWriter").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<W> fmt::Debug for BroadcastReader<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastReader").field("position", &self.position).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod on_the_heap {
    use super::*;
    use crate::sync::Arc;

    /// Words that threads share, for tests.
    #[derive(Clone)]
    pub struct Heap(Arc<Vec<AtomicU64>>);

    impl Heap {
        pub fn new(capacity: usize) -> Heap {
            Heap(Arc::new((0..HEADER_WORDS + capacity).map(|_| AtomicU64::new(0)).collect()))
        }
    }

    impl Words for Heap {
        fn words(&self) -> &[AtomicU64] {
            &self.0
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::on_the_heap::Heap;
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn pair(capacity: usize, reader: u32) -> (BroadcastWriter<Heap>, BroadcastReader<Heap>) {
        let words = Heap::new(capacity);
        let writer = BroadcastWriter::new(words.clone());
        (writer, BroadcastReader::open(words, reader).expect("a log"))
    }

    #[test]
    fn what_is_no_log_is_not_read() {
        assert!(BroadcastReader::open(Heap::new(64), 0).is_none(), "all zeroes");
        let words = Heap::new(64);
        let _writer = BroadcastWriter::new(words.clone());
        assert!(BroadcastReader::open(words.clone(), 64).is_none(), "no such bit");
        words.words()[CAPACITY_AT].store(32, Ordering::Relaxed);
        assert!(BroadcastReader::open(words, 0).is_none(), "another length");
    }

    /// Whatever stands in the words: an answer, no panic, and no record longer than what was published.
    #[test]
    fn nonsense_is_noticed() {
        for length in [1, 100, 8 * 64, PAD - 1, PAD - 7, u64::MAX / 2] {
            let (mut writer, mut reader) = pair(64, 0);
            assert!(writer.append(1, [b"x", b""]));
            writer.words.words()[HEADER_WORDS].store(length, Ordering::Relaxed);
            let found = reader.read();
            assert!(matches!(found, Read::Corrupt) || length == 1, "{length}: {found:?}");
        }
        let (mut writer, mut reader) = pair(64, 0);
        assert!(writer.append(1, [b"x", b""]));
        assert_eq!(reader.read(), Read::Record(b"x"));
        writer.words.words()[PUBLISHED_AT].store(1, Ordering::Relaxed);
        assert_eq!(reader.read(), Read::Corrupt, "positions do not go back");
    }

    #[test]
    fn who_sleeps_is_woken_once_per_sleep() {
        let (mut writer, reader) = pair(16, 0);
        assert_eq!(reader.sleep_of_owner(), None);
        writer.arm();
        let first = reader.sleep_of_owner();
        writer.arm();
        assert_eq!(reader.sleep_of_owner(), first, "still the same sleep");
        assert!(first.is_some());
        writer.disarm();
        assert_eq!(reader.sleep_of_owner(), None);
        writer.arm();
        assert!(reader.sleep_of_owner().is_some_and(|second| Some(second) != first));
    }

    proptest! {
        /// Any records, any lag: each record comes whole and in order, or is part of a loss that was told; a reader that is
        /// never more than the capacity behind loses nothing.
        #[test]
        fn records_come_whole_in_order_or_their_loss_is_told(
            steps in prop::collection::vec((0_usize..=112, 0_usize..=112, 0_u64..4, any::<bool>()), 1..200)
        ) {
            let (mut writer, mut reader) = pair(64, 1);
            let mut expected: VecDeque<Vec<u8>> = VecDeque::new();
            for (number, (head, rest, readers, read)) in steps.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..head + rest).map(|i| (i * 7 + number) as u8).collect();
                let (first, second) = bytes.split_at(head);
                let fits = writer.append(readers, [first, second]);
                prop_assert_eq!(fits, bytes.len() <= writer.longest());
                if fits && readers & 2 != 0 {
                    expected.push_back(bytes);
                }
                let behind = writer.position - reader.position;
                if !read {
                    continue;
                }
                loop {
                    match reader.read() {
                        Read::Nothing => break,
                        Read::Record(bytes) => prop_assert_eq!(Some(bytes.to_vec()), expected.pop_front()),
                        Read::Lost => {
                            prop_assert!(behind > 64, "lost at {} words behind", behind);
                            expected.clear();
                        }
                        Read::Corrupt => prop_assert!(false, "corrupt"),
                    }
                }
                prop_assert!(expected.is_empty(), "a record that was neither read nor lost");
                prop_assert!(reader.is_at_end());
            }
        }
    }

    /// Two threads at full speed on a small log: what comes is whole, and in order.
    #[test]
    fn a_reader_that_is_overtaken_again_and_again_never_sees_a_torn_record() {
        const ENOUGH: u64 = 20_000;
        let (mut writer, mut reader) = pair(1024, 0);
        let enough = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stop = enough.clone();
        let writes = std::thread::spawn(move || {
            for number in 1.. {
                let bytes = u64::to_le_bytes(number).repeat(1 + (number % 13) as usize);
                assert!(writer.append(1, [&bytes[..3], &bytes[3..]]));
                if number.is_multiple_of(64) {
                    std::thread::yield_now();
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        });
        let (mut last, mut read) = (0, 0);
        while read < ENOUGH {
            match reader.read() {
                Read::Record(bytes) => {
                    let (words, rest) = bytes.as_chunks::<8>();
                    let number = u64::from_le_bytes(words[0]);
                    assert!(rest.is_empty() && words.len() == 1 + (number % 13) as usize, "length of {number}");
                    assert!(words.iter().all(|word| *word == words[0]), "torn: {words:?}");
                    assert!(number > last);
                    last = number;
                    read += 1;
                }
                Read::Nothing => std::thread::yield_now(),
                Read::Lost => (),
                Read::Corrupt => panic!("corrupt after {last}"),
            }
        }
        enough.store(true, Ordering::Relaxed);
        writes.join().expect("the writer ends");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::on_the_heap::Heap;
    use super::*;

    /// In all interleavings of a reader of the oldest record with a writer that overwrites it: it is whole, or lost.
    #[test]
    fn a_record_that_is_overwritten_is_whole_or_lost() {
        loom::model(|| {
            let words = Heap::new(16);
            let mut writer = BroadcastWriter::new(words.clone());
            let mut reader = BroadcastReader::open(words, 0).expect("a log");
            // Up to the last word of the data.
            for number in 1..=5 {
                assert!(writer.append(1, [&[number; 8], &[]]));
            }
            let writes = loom::thread::spawn(move || assert!(writer.append(1, [&[6; 8], &[]])));
            match reader.read() {
                Read::Record(bytes) => assert_eq!(bytes, [1; 8]),
                Read::Lost => (),
                other => panic!("{other:?}"),
            }
            writes.join().expect("the writer ends");
        });
    }

    /// A record is there as a whole once it is published, and not before.
    #[test]
    fn a_record_that_is_published_is_whole() {
        loom::model(|| {
            let words = Heap::new(16);
            let mut writer = BroadcastWriter::new(words.clone());
            let mut reader = BroadcastReader::open(words, 0).expect("a log");
            let writes = loom::thread::spawn(move || {
                assert!(writer.append(1, [&[1; 8], &[]]));
                assert!(writer.append(1, [&[2; 3], &[2; 5]]));
            });
            let mut next = 1;
            for _ in 0..2 {
                match reader.read() {
                    Read::Record(bytes) => {
                        assert_eq!(bytes, [next; 8]);
                        next += 1;
                    }
                    Read::Nothing => (),
                    other => panic!("{other:?}"),
                }
            }
            writes.join().expect("the writer ends");
        });
    }

    /// No lost wake-up between two processes: who found nothing after arming is woken by the writer of the record.
    #[test]
    fn nobody_sleeps_through_a_record() {
        loom::model(|| {
            let (ours, theirs) = (Heap::new(16), Heap::new(16));
            let mut own = BroadcastWriter::new(ours.clone());
            let mut other = BroadcastWriter::new(theirs.clone());
            let reader = BroadcastReader::open(theirs, 0).expect("a log");
            let view_of_own = BroadcastReader::open(ours, 0).expect("a log");
            let writes = loom::thread::spawn(move || {
                assert!(other.append(1, [b"wake", b""]));
                published_all();
                view_of_own.sleep_of_owner().is_some()
            });
            own.arm();
            let sleeps = reader.is_at_end();
            let woken = writes.join().expect("the writer ends");
            assert!(!sleeps || woken, "asleep with a record in the log");
        });
    }
}
