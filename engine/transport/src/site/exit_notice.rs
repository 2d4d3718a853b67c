//! A notice that this process begins to exit, for the others of its site.
//!
//! The kernel reports an exit (by the process descriptor, by a connection that hangs up) when it has taken the process's memory
//! apart: a millisecond and more after it stopped. Before that it cancels what the exiting thread has under way in io_uring,
//! where that could keep an io_uring alive; and what is cancelled completes, and a completion rings an eventfd. So one request
//! that never completes otherwise, a poll of a second io_uring, makes an eventfd that rings when the thread that made the
//! request exits. The others hold copies of it.
//!
//! It tells of a thread, not of a process, and anybody who holds a copy may ring it: whoever hears it looks whether all threads
//! of the process exit ([`super::exiting`]), and knows no more than before if they do not.
//!
//! Not had where the system has no io_uring, or forbids it (some containers): deaths are told by the process descriptor then.

use io_uring::{IoUring, opcode, types};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The own notice. Dropping it before the thread exits may ring it, too.
pub(super) struct ExitNotice {
    signal: OwnedFd,
    /// Holds the request, and what the request polls. Nothing else is ever asked of them.
    _rings: [IoUring; 2],
}

impl ExitNotice {
    /// Rings when the calling thread exits. An error: the system gives no io_uring.
    pub(super) fn of_this_thread() -> io::Result<ExitNotice> {
        let signal = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (mut ring, polled) = (IoUring::new(1)?, IoUring::new(1)?);
        ring.submitter().register_eventfd(signal.as_raw_fd())?;
        let poll = opcode::PollAdd::new(types::Fd(polled.as_raw_fd()), libc::POLLIN as u32).build();
        // SAFETY: the request points to no memory, and the descriptor that it names outlives it: `polled` is dropped with `ring`.
        let pushed = unsafe { ring.submission().push(&poll) };
        match (pushed, ring.submit()?) {
            (Ok(()), 1) => Ok(ExitNotice { signal, _rings: [ring, polled] }),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether it has rung: the thread that made it is gone.
    pub(super) fn has_rung(&self) -> bool {
        super::process_file::is_readable(self.signal.as_fd())
    }

    /// Readable once it has rung.
    pub(super) fn signal(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }
}

impl std::fmt::Debug for ExitNotice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExitNotice").field("signal", &self.signal).finish_non_exhaustive()
    }
}
