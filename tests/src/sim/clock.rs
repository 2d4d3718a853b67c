//! The clock of a process: another origin than virtual time, and another speed.
//!
//! Owner: a node. Invariant: it never goes back, whatever its drift; [`Clock::when`] is the first moment at which
//! [`Clock::at`] shows a time.

use isis_protocol::Instant;

const MILLION: i64 = 1_000_000;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    ahead_ns: u64,
    drift_ppm: i64,
}

impl Clock {
    /// A good clock that is so far ahead of virtual time.
    pub fn ahead(ahead_ns: u64) -> Clock {
        Clock { ahead_ns, drift_ppm: 0 }
    }

    /// So many millionths too fast.
    pub fn drifting(self, drift_ppm: i64) -> Clock {
        Clock { drift_ppm, ..self }
    }

    /// What it shows at a virtual time.
    pub fn at(&self, time: u64) -> Instant {
        // Virtual time is short: the product is far from what fits.
        let drifted = if self.drift_ppm == 0 { 0 } else { time as i64 * self.drift_ppm / MILLION };
        Instant(time.saturating_add_signed(drifted) + self.ahead_ns)
    }

    /// The virtual time at which it shows this, or more, for the first time.
    pub fn when(&self, shown: Instant) -> u64 {
        let elapsed = shown.0.saturating_sub(self.ahead_ns);
        if self.drift_ppm == 0 {
            return elapsed;
        }
        let million = MILLION as u64;
        let pace = million.saturating_add_signed(self.drift_ppm);
        let mut time = match elapsed.checked_mul(million) {
            Some(product) => product / pace,
            None => (u128::from(elapsed) * u128::from(million) / u128::from(pace)) as u64,
        };
        while time > 0 && self.at(time - 1) >= shown {
            time -= 1;
        }
        while self.at(time) < shown {
            time += 1;
        }
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drifts_and_never_goes_back() {
        for drift in [-500, -1, 0, 1, 500] {
            let clock = Clock::ahead(77).drifting(drift);
            let mut last = clock.at(0);
            for time in (0..2_000_000_000).step_by(12_345_677) {
                let shown = clock.at(time);
                assert!(shown >= last && clock.at(time + 1) >= shown);
                let when = clock.when(shown);
                assert!(clock.at(when) >= shown && (when == 0 || clock.at(when - 1) < shown));
                last = shown;
            }
            let error = clock.at(1_000_000_000).0 as i64 - 1_000_000_077;
            assert_eq!(error, drift * 1_000);
        }
    }
}
