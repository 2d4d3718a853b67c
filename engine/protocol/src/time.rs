//! Time as the core sees it: nanoseconds since some zero that the caller chooses; it never goes back.

use std::ops::{Add, Sub};

/// A point in time, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// The beginning of time.
    pub const ZERO: Instant = Instant(0);
    /// Nanoseconds from `earlier` to here; 0 when `earlier` is later.
    pub fn since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The earlier one of two time limits.
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl Add<u64> for Instant {
    type Output = Instant;
    fn add(self, nanoseconds: u64) -> Instant {
        Instant(self.0.saturating_add(nanoseconds))
    }
}

impl Sub<u64> for Instant {
    type Output = Instant;
    fn sub(self, nanoseconds: u64) -> Instant {
        Instant(self.0.saturating_sub(nanoseconds))
    }
}

/// Nanoseconds in a microsecond.
pub const MICROSECOND: u64 = 1_000;
/// Nanoseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;
