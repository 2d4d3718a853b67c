//! Ends a wait from another thread, at the cost of one atomic exchange when the waiting thread is awake anyway.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Somebody wants the thread awake.
const WANTED: u32 = 1;
/// And has written the event.
const WRITTEN: u32 = 2;

/// Ends [`super::HostTransport::wait`], and makes its epoll descriptor readable, until the next `advance`. From any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// [`WANTED`] and [`WRITTEN`].
    state: AtomicU32,
    event: OwnedFd,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker { shared: Arc::new(Shared { state: AtomicU32::new(0), event }) })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }

    /// Makes the current or the next `wait` return. What the caller wrote before is visible after the next `advance`.
    pub fn wake(&self) {
        // The release half pairs with the acquire half in `clear`: work handed over before is seen after it.
        if self.shared.state.fetch_or(WANTED, Ordering::AcqRel) & WANTED == 0 {
            // Fails only when the count would overflow, which the state excludes.
            let _ = rustix::io::write(&self.shared.event, &1_u64.to_ne_bytes());
            // Pairs with the load in `clear`: the event is there to be read.
            self.shared.state.fetch_or(WRITTEN, Ordering::Release);
        }
    }

    /// Called by the woken thread before it looks for work.
    pub(crate) fn clear(&self) {
        // Pairs with the second exchange in `wake`. While that write is on its way the event must not be taken for
        // cleared: the next turn, which it causes, will.
        if self.shared.state.load(Ordering::Acquire) & WRITTEN == 0 {
            return;
        }
        // First the event, then the state: the other way round a wake in between would be read away with its state
        // left set, and no later one would be written. A wake between these two lines writes nothing, and needs not:
        // the caller looks for work after this (the acquire half pairs with the release half in `wake`).
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.shared.event, &mut count[..]);
        self.shared.state.swap(0, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wake_after_a_clear_is_written() {
        let waker = Waker::new().expect("eventfd");
        for _ in 0..3 {
            waker.clone().wake();
            waker.wake();
            let mut count = [0; 8];
            let pending = |count: &mut [u8; 8]| rustix::io::read(waker.descriptor(), &mut count[..]);
            assert!(pending(&mut count).is_ok());
            waker.clear();
            assert!(pending(&mut count).is_err());
        }
    }
}
