//! Sleeping: event descriptors that end a sleep, a bounded wait on descriptors, a timer descriptor, and the strategy that
//! says when to sleep at all.

use crate::clock;
use crate::error::NodeError;
use crate::options::WaitStrategy;
use isis_memory::Doorbell;
use isis_protocol::Instant;
use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd, poll};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How long an idle thread spins under the `yield` strategy.
const SPIN_NS: u64 = 2_000;
/// How long it has been idle before it sleeps.
const YIELD_NS: u64 = 50_000;

/// Ends another thread's sleep: a doorbell, and a descriptor for when it is armed.
#[derive(Debug)]
pub(crate) struct Wake {
    bell: Doorbell,
    descriptor: OwnedFd,
}

impl Wake {
    pub fn new() -> Result<Wake, NodeError> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| NodeError::system("eventfd", error))?;
        Ok(Wake { bell: Doorbell::new(), descriptor })
    }

    /// The publishing side, after it published something. Makes a system call only when the other side sleeps.
    pub fn notify(&self) {
        if self.bell.ring() {
            self.force();
        }
    }

    /// Wakes in any case. A full counter (it cannot be) means that it is awake anyway.
    pub fn force(&self) {
        let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
    }

    /// The waiting side: from here on `notify` makes the descriptor readable. Look for work once more, then sleep.
    pub fn arm(&self) {
        // Nothing to read: fine, nobody rang.
        let _ = rustix::io::read(&self.descriptor, &mut [0; 8]);
        self.bell.arm();
    }

    /// The waiting side is awake.
    pub fn disarm(&self) {
        self.bell.disarm();
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Sleeps until one of the descriptors is readable or the deadline (`None`: none) has come.
pub(crate) fn sleep_on(descriptors: &[BorrowedFd<'_>], deadline: Option<Instant>) {
    let timeout = deadline.map(|deadline| clock::timespec(deadline.since(clock::now())));
    let mut wanted: [PollFd<'_>; 2] =
        std::array::from_fn(|i| PollFd::from_borrowed_fd(descriptors[i.min(descriptors.len() - 1)], PollFlags::IN));
    // An interruption is an early wake-up, which the callers expect; other errors cannot be with descriptors of our own.
    let _ = poll(&mut wanted[..descriptors.len().min(2)], timeout.as_ref());
}

/// How long a thread has been without work, and what it does about it.
#[derive(Debug)]
pub(crate) struct Idle {
    strategy: WaitStrategy,
    since: Option<Instant>,
}

impl Idle {
    pub fn new(strategy: WaitStrategy) -> Idle {
        Idle { strategy, since: None }
    }

    /// There was work.
    pub fn reset(&mut self) {
        self.since = None;
    }

    /// There was none: spins or yields, or says `true`: sleep now.
    pub fn should_sleep(&mut self) -> bool {
        if self.strategy == WaitStrategy::Yield {
            let now = clock::now();
            let idle = now.since(*self.since.get_or_insert(now));
            if idle >= YIELD_NS {
                return true;
            }
            if idle >= SPIN_NS {
                std::thread::yield_now();
                return false;
            }
        }
        if self.strategy == WaitStrategy::Block {
            return true;
        }
        std::hint::spin_loop();
        false
    }
}

/// One descriptor that covers another one and a deadline, for event loops of others.
#[derive(Debug)]
pub(crate) struct Cover {
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: Option<Instant>,
}

impl Cover {
    pub fn new(inner: BorrowedFd<'_>) -> Result<Cover, NodeError> {
        let set =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| NodeError::system("epoll_create", error))?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)
            .map_err(|error| NodeError::system("timerfd_create", error))?;
        for descriptor in [inner, timer.as_fd()] {
            epoll::add(&set, descriptor, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
                .map_err(|error| NodeError::system("epoll_ctl", error))?;
        }
        Ok(Cover { epoll: set, timer, armed: None })
    }

    /// Makes the descriptor readable at `deadline`; `None`: no more.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) -> Result<(), NodeError> {
        if self.armed == deadline && deadline.is_none_or(|deadline| deadline > clock::now()) {
            return Ok(());
        }
        // A value of 0 would disarm the timer; the beginning of time is long over anyway.
        let value = deadline.map_or(0, |deadline| deadline.0.max(1));
        let setting = Itimerspec { it_interval: clock::timespec(0), it_value: clock::timespec(value) };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &setting)
            .map_err(|error: Errno| NodeError::system("timerfd_settime", error))?;
        self.armed = deadline;
        Ok(())
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
