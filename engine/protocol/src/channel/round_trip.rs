//! How long a sender waits for an acknowledgement before it sends again: RFC 6298.
//!
//! Owner: the [`super::Sender`]. Invariant: the timeout lies between [`MIN_TIMEOUT_NS`] and [`MAX_TIMEOUT_NS`].

use crate::time::{MILLISECOND, SECOND};

/// Retransmission timeout before the first measurement of a round trip.
pub(super) const INITIAL_TIMEOUT_NS: u64 = 100 * MILLISECOND;
/// Least retransmission timeout: well above [`super::receiver::ACK_DELAY_NS`].
pub(super) const MIN_TIMEOUT_NS: u64 = 5 * MILLISECOND;
/// Largest retransmission timeout, back-off included.
pub(super) const MAX_TIMEOUT_NS: u64 = SECOND;
/// 5 ms doubled this often exceeds [`MAX_TIMEOUT_NS`].
pub(super) const MAX_BACK_OFF: u32 = 8;

/// Retransmission timeout after RFC 6298.
#[derive(Debug)]
pub(super) struct RoundTrip {
    /// Smoothed round trip and its mean deviation.
    pub(super) measured: Option<(u64, u64)>,
    /// Doublings since the last valid measurement. Not since the last acknowledgement: a round trip longer than the
    /// timeout would otherwise never be measured, since every frame of it is sent twice.
    pub(super) back_off: u32,
}

impl RoundTrip {
    /// A frame that was sent once was acknowledged after this long.
    pub(super) fn on_sample(&mut self, sample_ns: u64) {
        // A sample beyond the largest timeout says no more than that; the limit keeps the sums small.
        let sample_ns = sample_ns.min(2 * MAX_TIMEOUT_NS);
        self.back_off = 0;
        self.measured = Some(match self.measured {
            None => (sample_ns, sample_ns / 2),
            Some((smoothed, deviation)) => {
                ((7 * smoothed + sample_ns) / 8, (3 * deviation + smoothed.abs_diff(sample_ns)) / 4)
            }
        });
    }

    /// How long to wait from now on.
    pub(super) fn timeout_ns(&self) -> u64 {
        let base = self.measured.map_or(INITIAL_TIMEOUT_NS, |(smoothed, deviation)| smoothed + 4 * deviation);
        (base.clamp(MIN_TIMEOUT_NS, MAX_TIMEOUT_NS) << self.back_off).min(MAX_TIMEOUT_NS)
    }
}
