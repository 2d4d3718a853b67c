//! Ends a wait from another thread, at the cost of one atomic exchange when the waiting thread is awake anyway.

use isis_memory::WakeState;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Ends [`super::HostTransport::wait`], and makes its epoll descriptor readable, until the next `advance`. From any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: WakeState,
    event: OwnedFd,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker { shared: Arc::new(Shared { state: WakeState::new(), event }) })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }

    /// Makes the current or the next `wait` return. What the caller wrote before is visible after the next `advance`.
    pub fn wake(&self) {
        // Fails only when the count would overflow, which the state excludes.
        self.shared.state.wake(|| _ = rustix::io::write(&self.shared.event, &1_u64.to_ne_bytes()));
    }

    /// Called by the woken thread before it looks for work.
    pub(crate) fn clear(&self) {
        self.shared.state.clear(|| _ = rustix::io::read(&self.shared.event, &mut [0; 8][..]));
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
