//! A place that a handle names: whether it still stands for that handle, who may use it, and what it stands for.
//!
//! ```text
//!   free ── publish(value, owner) ──► open ── withdraw, by the owner ──► free
//!                                      └─ owner 0: the first thread that finds it becomes the owner
//! ```
//! Values come from the outside and may be anything; nothing of them is ever dereferenced. A value is published once, so
//! whoever finds its own value and is the owner finds the object of that value: only the owner could have withdrawn it.
//!
//! Owner: a table of such slots; it says which slots are free, under a lock of its own.

use crate::sync::{AtomicPtr, AtomicU64, Ordering};

/// See the module.
#[derive(Debug, Default)]
pub struct Slot {
    /// The open handle's value; 0 when free.
    value: AtomicU64,
    /// The thread that may use the object; 0: the first one that does.
    owner: AtomicU64,
    /// A word that is fixed for as long as the slot is open, checked by the table.
    mark: AtomicU64,
    object: AtomicPtr<()>,
    detail: AtomicU64,
    /// The value to which a signal was sent and not taken yet.
    signal: AtomicU64,
}

/// What an open handle stands for, as it was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Alive for as long as this thread does not withdraw it.
    pub object: *mut (),
    /// A word beside it.
    pub detail: u64,
}

/// Why there is nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The value is not, or no more, that of the slot.
    Closed,
    /// It is another thread's.
    OtherThread,
}

/// What [`Slot::publish`] puts into a slot.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// The handle's value: not 0, and never used before.
    pub value: u64,
    /// The thread that may use it; 0: the first one that does.
    pub owner: u64,
    /// See [`Slot::mark`].
    pub mark: u64,
    /// What it stands for.
    pub found: Found,
}

impl Slot {
    /// A free slot.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Slot {
        Slot {
            value: AtomicU64::new(0),
            owner: AtomicU64::new(0),
            mark: AtomicU64::new(0),
            object: AtomicPtr::new(std::ptr::null_mut()),
            detail: AtomicU64::new(0),
            signal: AtomicU64::new(0),
        }
    }

    /// A free slot.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Slot {
        Slot::default()
    }

    /// Opens a free slot; under the table's lock.
    pub fn publish(&self, it: Published) {
        self.mark.store(it.mark, Ordering::Relaxed);
        self.object.store(it.found.object, Ordering::Relaxed);
        self.detail.store(it.found.detail, Ordering::Relaxed);
        // Release: partner is the Acquire of the exchange in `find`. Who becomes the owner by this sees that the value
        // before it was withdrawn.
        self.owner.store(it.owner, Ordering::Release);
        // Release: partner is the Acquire in `value`. Who sees the value sees the rest of the slot.
        self.value.store(it.value, Ordering::Release);
    }

    /// Frees the slot; only the thread that has found it may.
    pub fn withdraw(&self) {
        self.value.store(0, Ordering::Release);
        self.object.store(std::ptr::null_mut(), Ordering::Relaxed);
    }

    /// The open handle's value; 0: free.
    pub fn value(&self) -> u64 {
        // Acquire: partner is the Release of the value in `publish`.
        self.value.load(Ordering::Acquire)
    }

    /// The mark of an open handle.
    pub fn mark(&self) -> u64 {
        self.mark.load(Ordering::Relaxed)
    }

    /// What a handle stands for, if it is open and `thread`'s. `thread`: not 0, and nobody else's.
    #[inline]
    pub fn find(&self, value: u64, thread: u64) -> Result<Found, Missing> {
        if value == 0 || self.value() != value {
            return Err(Missing::Closed);
        }
        if self.owner.load(Ordering::Relaxed) != thread {
            // Acquire: partner is the Release of the owner in `publish`.
            if self.owner.compare_exchange(0, thread, Ordering::Acquire, Ordering::Relaxed).is_err() {
                return Err(Missing::OtherThread);
            }
            // A handle that was closed meanwhile: this is the owner of what came after it. It goes back.
            if self.value() != value {
                self.owner.store(0, Ordering::Release);
                return Err(Missing::Closed);
            }
        }
        Ok(Found { object: self.object.load(Ordering::Relaxed), detail: self.detail.load(Ordering::Relaxed) })
    }

    /// Sends the open handle a signal. From any thread; one that comes too late for its handle reaches no other.
    pub fn signal(&self, value: u64) {
        self.signal.store(value, Ordering::Relaxed);
    }

    /// Whether a signal came to this handle since this was asked last.
    pub fn take_signal(&self, value: u64) -> bool {
        self.signal.swap(0, Ordering::Relaxed) == value
    }
}

#[cfg(test)]
fn published(value: u64, owner: u64) -> Published {
    Published { value, owner, mark: 1, found: Found { object: std::ptr::null_mut(), detail: value * 10 } }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_value_and_thread_find_a_slot() {
        let slot = Slot::new();
        assert_eq!(slot.find(0, 1), Err(Missing::Closed), "0 is no value, though a free slot has it");
        slot.publish(published(7, 1));
        assert_eq!(slot.find(7, 1).map(|it| it.detail), Ok(70));
        assert_eq!(slot.find(7, 2), Err(Missing::OtherThread));
        assert_eq!(slot.find(8, 1), Err(Missing::Closed));
        slot.withdraw();
        assert_eq!(slot.find(7, 1), Err(Missing::Closed));
    }

    #[test]
    fn a_signal_reaches_its_handle_once_and_no_other() {
        let slot = Slot::new();
        slot.publish(published(7, 1));
        slot.signal(7);
        assert!(slot.take_signal(7) && !slot.take_signal(7));
        slot.signal(7);
        slot.withdraw();
        slot.publish(published(9, 1));
        assert!(!slot.take_signal(9));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;
    use loom::thread::spawn;

    /// Whoever sees the value sees what it stands for.
    #[test]
    fn a_handle_is_found_whole_or_not_at_all() {
        loom::model(|| {
            let slot = Arc::new(Slot::new());
            let other = slot.clone();
            let opens = spawn(move || other.publish(published(7, 0)));
            if let Ok(found) = slot.find(7, 2) {
                assert_eq!((found.detail, slot.mark()), (70, 1));
            }
            opens.join().expect("it ends");
        });
    }

    /// Of several threads that use a shared handle first, one becomes its owner.
    #[test]
    fn a_shared_handle_has_one_owner() {
        loom::model(|| {
            let slot = Arc::new(Slot::new());
            slot.publish(published(7, 0));
            let other = slot.clone();
            let first = spawn(move || other.find(7, 1).is_ok());
            let second = slot.find(7, 2).is_ok();
            assert!(first.join().expect("it ends") != second);
        });
    }

    /// A handle used by one thread while another closes it, and the slot is given out anew: the stale value never finds
    /// what came after it, and does not keep it from its user.
    #[test]
    fn a_stale_handle_finds_nothing_of_the_next() {
        loom::model(|| {
            let slot = Arc::new(Slot::new());
            slot.publish(published(7, 0));
            let other = slot.clone();
            let closes = spawn(move || {
                if other.find(7, 1).is_ok() {
                    other.withdraw();
                    other.publish(published(9, 0));
                    return true;
                }
                false
            });
            if let Ok(found) = slot.find(7, 2) {
                assert_eq!(found.detail, 70);
            }
            if closes.join().expect("it ends") {
                assert_eq!(slot.find(9, 3).map(|it| it.detail), Ok(90), "whoever comes first may use it");
            }
        });
    }
}
