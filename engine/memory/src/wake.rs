//! When to write and to read the event (an eventfd) that ends another thread's wait: at most one write is on its way, and
//! none is lost.
//!
//! ```text
//!   asleep ── wake: write the event ──► wanted ── written ──► wanted, written ── clear: read the event ──► asleep
//! ```
//! Owner: shared by the sleeper, which calls [`WakeState::clear`], and all others, which call [`WakeState::wake`].

use crate::sync::{AtomicU32, Ordering};

/// Somebody wants the thread awake.
const WANTED: u32 = 1;
/// And has written the event.
const WRITTEN: u32 = 2;

/// See the module.
#[derive(Debug)]
pub struct WakeState(AtomicU32);

impl WakeState {
    /// Nobody wants anything.
    #[must_use]
    pub fn new() -> WakeState {
        WakeState(AtomicU32::new(0))
    }

    /// What the caller wrote before is seen by the thread after its next `clear`, or that `clear` is still to come: `write`
    /// is called unless somebody else does it.
    pub fn wake(&self, write: impl FnOnce()) {
        // The release half pairs with the acquire half in `clear`: work handed over before is seen after it.
        if self.0.fetch_or(WANTED, Ordering::AcqRel) & WANTED == 0 {
            write();
            // Pairs with the load in `clear`: the event is there to be read.
            self.0.fetch_or(WRITTEN, Ordering::Release);
        }
    }

    /// Called by the woken thread before it looks for work; `read` takes the event away.
    pub fn clear(&self, read: impl FnOnce()) {
        // Pairs with the second exchange in `wake`. While that write is on its way the event must not be taken for
        // cleared: the next turn, which it causes, will.
        if self.0.load(Ordering::Acquire) & WRITTEN == 0 {
            return;
        }
        // First the event, then the state: the other way round a wake in between would be read away with its state
        // left set, and no later one would be written. A wake between these two lines writes nothing, and needs not:
        // the caller looks for work after this (the acquire half pairs with the release half in `wake`).
        read();
        self.0.swap(0, Ordering::AcqRel);
    }
}

impl Default for WakeState {
    fn default() -> WakeState {
        WakeState::new()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::{Arc, AtomicU64};
    use loom::thread::spawn;

    #[derive(Default)]
    struct World {
        state: WakeState,
        /// What the eventfd counts.
        event: AtomicU64,
        work: [AtomicU64; 3],
    }

    impl World {
        fn hand_over(&self, index: usize) {
            self.work[index].store(1, Ordering::Relaxed);
            self.state.wake(|| {
                self.event.fetch_add(1, Ordering::SeqCst);
            });
        }

        /// A turn of the woken thread: how much work it sees.
        fn turn(&self) -> u64 {
            self.state.clear(|| {
                self.event.swap(0, Ordering::SeqCst);
            });
            self.work.iter().map(|work| work.load(Ordering::Relaxed)).sum()
        }

        /// A wait would return at once.
        fn is_awake(&self) -> bool {
            self.event.load(Ordering::SeqCst) > 0
        }
    }

    /// Whatever the last turn did not see has the event set: nobody sleeps through it.
    #[test]
    fn nobody_sleeps_through_work() {
        loom::model(|| {
            let world = Arc::new(World::default());
            let wakers = [0, 1].map(|index| {
                let world = world.clone();
                spawn(move || world.hand_over(index))
            });
            let mut seen = world.turn();
            for waker in wakers {
                waker.join().expect("it ends");
            }
            // The turns that the event still causes.
            while world.is_awake() {
                seen = world.turn();
            }
            assert_eq!(seen, 2, "asleep with work to do");
        });
    }

    /// And one more wake after all that is written: none was read away with its state left set.
    #[test]
    fn the_next_wake_is_written() {
        loom::model(|| {
            let world = Arc::new(World::default());
            let wakers = [0, 1].map(|index| {
                let world = world.clone();
                spawn(move || world.hand_over(index))
            });
            world.turn();
            for waker in wakers {
                waker.join().expect("it ends");
            }
            while world.is_awake() {
                world.turn();
            }
            world.hand_over(2);
            assert!(world.is_awake());
            assert_eq!(world.turn(), 3);
        });
    }
}
