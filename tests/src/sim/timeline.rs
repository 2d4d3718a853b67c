//! The one heap of future events: virtual time.
//!
//! Owner: the world. Invariant: events come out by time, and among equal times in the order in which they were put in, so
//! that one seed is one execution.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

#[derive(Debug)]
struct Scheduled<T> {
    /// Its time, then its place among those of the same time: one number, because the heap does nothing but compare them.
    key: u128,
    what: T,
}

impl<T> Scheduled<T> {
    fn time(&self) -> u64 {
        (self.key >> 64) as u64
    }
}

impl<T> PartialEq for Scheduled<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl<T> Eq for Scheduled<T> {}
impl<T> PartialOrd for Scheduled<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Scheduled<T> {
    // The greatest of the standard heap comes first: so the earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key.cmp(&self.key)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Timeline<T> {
    heap: BinaryHeap<Scheduled<T>>,
    sequence: u64,
    now: u64,
}

impl<T> Default for Timeline<T> {
    fn default() -> Timeline<T> {
        Timeline { heap: BinaryHeap::new(), sequence: 0, now: 0 }
    }
}

impl<T> Timeline<T> {
    /// Virtual time, nanoseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Puts an event in; not in the past.
    pub fn at(&mut self, time: u64, what: T) {
        let time = time.max(self.now);
        self.sequence += 1;
        self.heap.push(Scheduled { key: u128::from(time) << 64 | u128::from(self.sequence), what });
    }

    /// When the next event is.
    pub fn next_time(&self) -> Option<u64> {
        self.heap.peek().map(Scheduled::time)
    }

    /// Takes the next event, if it is not later than `limit`; time moves to it.
    pub fn next(&mut self, limit: u64) -> Option<T> {
        if self.next_time()? > limit {
            return None;
        }
        let scheduled = self.heap.pop()?;
        self.now = scheduled.time();
        Some(scheduled.what)
    }

    /// Moves time on to `time` when nothing is scheduled before it.
    pub fn advance(&mut self, time: u64) {
        debug_assert!(self.next_time().is_none_or(|next| next >= time), "an event would be jumped over");
        self.now = self.now.max(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_then_by_insertion() {
        let mut timeline = Timeline::default();
        timeline.at(5, 'b');
        timeline.at(3, 'a');
        timeline.at(5, 'c');
        assert_eq!(timeline.next(4), Some('a'));
        assert_eq!(timeline.next(4), None);
        timeline.advance(5);
        assert_eq!((timeline.next(9), timeline.next(9), timeline.next(9)), (Some('b'), Some('c'), None));
        assert_eq!(timeline.now(), 5);
    }
}
