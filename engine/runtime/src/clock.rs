//! The clock: `CLOCK_MONOTONIC` in nanoseconds, the one that timers of the system take, too.

use isis_protocol::Instant;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Now. Never goes back.
pub(crate) fn now() -> Instant {
    let time = clock_gettime(ClockId::Monotonic);
    Instant(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Nanoseconds as the system wants them.
pub(crate) fn timespec(nanoseconds: u64) -> Timespec {
    Timespec { tv_sec: (nanoseconds / 1_000_000_000) as i64, tv_nsec: (nanoseconds % 1_000_000_000) as _ }
}
