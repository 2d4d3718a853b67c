//! How much of the own stream may be under way: sent, and not known to be with all members.
//!
//! The window bounds what the members hold. What lies between them, buffers of sockets, of network cards and switches, is
//! often less than that (a socket of an unprivileged process has 208 KiB on most systems), nobody tells how much it is, and
//! other senders use it too. So it is found out, as TCP does [Jacobson 1988]: the limit grows with what all have received,
//! at first by as much, and is halved when something is missing.
//!
//! ```text
//!  acknowledged                    sent         acknowledged + limit
//!  ────┼────── under way ────────────┼──────────────────┼─────────▶ the own stream
//! ```
//! Acknowledgements are the rows: each says up to where its member has the streams. A row takes its time, so the sender asks
//! for one, by a mark on a datagram, as often as the limit needs it. Sending goes at the pace at which they come.
//!
//! A member that hangs acknowledges nothing, and must not keep from the others what they would have: after a time without an
//! acknowledgement only the window counts. When a view ends everything goes.
//!
//! The limit is at most half of the window, though nothing be lost: what waits in the sender's stream is in nobody's way, and
//! what waits in buffers has left the processors' caches when it is read.
//!
//! Owner: the [`super::Group`]. Invariant: at least one datagram may be under way.

use crate::time::Instant;

/// At most half of the window may be under way, …
const MOST: u64 = 2;
/// … at first an eighth, …
const FIRST: u64 = 8;
/// … and at least a 64th. Once something was lost it is so much more in each round of acknowledgements.
const STEP: u64 = 64;

/// See the module.
#[derive(Debug)]
pub struct Flight {
    window: u64,
    /// So long after the last acknowledgement the limit holds.
    patience_ns: u64,
    /// When something was acknowledged last, or went out while nothing was under way.
    moved_at: Instant,
    /// So many bytes may be under way, and what a last datagram has beyond them.
    limit: u64,
    /// Below this the limit grows fast: what was half of too much.
    threshold: u64,
    /// All members have everything before.
    acknowledged: u64,
    /// What was sent before this and is missing says nothing new.
    recover: u64,
    /// The datagram that reaches this asks for rows.
    ask_at: u64,
}

impl Flight {
    /// Of a group whose window is `window`. Without any acknowledgement for `patience_ns` there is no limit.
    pub fn new(window: u64, patience_ns: u64) -> Flight {
        // Each share of it is a byte at least, so that one datagram may always go.
        let window = window.max(STEP);
        let (limit, moved_at) = (window / FIRST, Instant::ZERO);
        Flight { window, patience_ns, moved_at, limit, threshold: window, acknowledged: 0, recover: 0, ask_at: 0 }
    }

    /// A new stream begins: what was learned of the way stays.
    pub fn begin_view(&mut self) {
        (self.acknowledged, self.recover, self.ask_at) = (0, 0, 0);
    }

    /// A datagram that begins at `position` may be sent.
    pub fn admits(&self, now: Instant, position: u64) -> bool {
        self.is_within(position) || now >= self.moved_at + self.patience_ns
    }

    fn is_within(&self, position: u64) -> bool {
        position < self.acknowledged.saturating_add(self.limit)
    }

    /// When what begins at `position` may be sent, if nothing is acknowledged before.
    pub fn opens_at(&self, position: u64) -> Option<Instant> {
        (!self.is_within(position)).then(|| self.moved_at + self.patience_ns)
    }

    /// Sending goes on at `position`.
    pub fn depart(&mut self, now: Instant, position: u64) {
        if position <= self.acknowledged {
            self.moved_at = now;
        }
    }

    /// The silence of the others was this process's own pause.
    pub fn forgive(&mut self, now: Instant) {
        self.moved_at = now;
    }

    /// All members have everything before `floor`, and everything before `sent` was sent.
    pub fn acknowledge(&mut self, now: Instant, floor: u64, sent: u64) {
        if floor <= self.acknowledged {
            return;
        }
        let more = floor - self.acknowledged;
        let used = sent.saturating_sub(self.acknowledged);
        (self.acknowledged, self.moved_at) = (floor, now);
        // Room that was not used is not known to be there; nor does what went before a loss was noticed say anything.
        if used < self.limit / 2 || floor <= self.recover {
            return;
        }
        let rounds = more.saturating_mul(self.window / STEP) / self.limit;
        let growth = if self.limit < self.threshold { more } else { rounds };
        self.limit = self.limit.saturating_add(growth).min(self.window / MOST);
    }

    /// Somebody misses what begins at `from`, and everything before `sent` was sent. Whether that is news.
    pub fn lose(&mut self, from: u64, sent: u64) -> bool {
        if from < self.recover.max(self.acknowledged) || from >= sent {
            return false;
        }
        self.recover = sent;
        self.limit = (self.limit / 2).max(self.window / STEP);
        self.threshold = self.limit;
        true
    }

    /// Whether the datagram of these positions asks for rows. Two or three in each round do, the last one that may be sent among
    /// them.
    pub fn asks(&mut self, from: u64, end: u64) -> bool {
        let is_last = self.is_within(from) && !self.is_within(end);
        if end < self.ask_at && !is_last {
            return false;
        }
        self.ask_at = end.saturating_add(self.limit / 2);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    const WINDOW: u64 = 1 << 20;
    const PIECE: u64 = 8 << 10;

    /// Sends what may be sent, in pieces, and has it acknowledged; the bytes that were under way.
    fn round(flight: &mut Flight, sent: &mut u64) -> u64 {
        let before = *sent;
        let mut asked = false;
        while *sent - before < WINDOW && flight.admits(Instant(1), *sent) {
            *sent += PIECE;
            asked = flight.asks(*sent - PIECE, *sent);
        }
        assert!(asked, "the last one that may be sent asks");
        flight.acknowledge(Instant(1), *sent, *sent);
        *sent - before
    }

    #[test]
    fn without_losses_it_is_half_of_the_window_after_some_rounds() {
        let (mut flight, mut sent) = (Flight::new(WINDOW, SECOND), 0);
        let rounds: Vec<u64> = (0..6).map(|_| round(&mut flight, &mut sent) >> 10).collect();
        assert_eq!(rounds, [128, 256, 512, 512, 512, 512]);
    }

    #[test]
    fn a_loss_halves_it_once() {
        let (mut flight, mut sent) = (Flight::new(WINDOW, SECOND), 0);
        (0..4).for_each(|_| _ = round(&mut flight, &mut sent));
        sent += WINDOW / MOST;
        assert!(flight.lose(sent - WINDOW / MOST, sent));
        assert!(!flight.lose(sent - PIECE, sent), "the same round");
        flight.acknowledge(Instant(1), sent, sent);
        assert_eq!(round(&mut flight, &mut sent), WINDOW / 4, "what was under way says nothing of the new limit");
        assert_eq!(round(&mut flight, &mut sent), WINDOW / 4 + WINDOW / STEP);
    }

    #[test]
    fn what_was_never_sent_is_not_lost() {
        let mut flight = Flight::new(WINDOW, SECOND);
        assert!(!flight.lose(PIECE, PIECE) && !flight.lose(u64::MAX, PIECE));
        assert_eq!(flight.limit, WINDOW / FIRST);
    }

    /// Whatever the window, from a byte to all there are: something goes, and nothing overflows.
    #[test]
    fn no_window_is_too_small_or_too_large() {
        for window in [0, 1, 2, 63, 64, 65, u64::MAX / 2, u64::MAX] {
            let (mut flight, mut sent) = (Flight::new(window, SECOND), 0);
            for step in 0..100 {
                assert!(flight.admits(Instant(1), sent), "a window of {window}, step {step}");
                flight.asks(sent, sent + PIECE);
                sent += PIECE;
                if step % 10 == 9 {
                    assert!(flight.lose(sent - PIECE, sent));
                }
                flight.acknowledge(Instant(1), sent, sent);
            }
        }
    }

    #[test]
    fn silence_opens_it() {
        let mut flight = Flight::new(WINDOW, SECOND);
        flight.depart(Instant(5), 0);
        let end = WINDOW / FIRST;
        assert_eq!((flight.opens_at(end - 8), flight.opens_at(end)), (None, Some(Instant(5) + SECOND)));
        assert!(!flight.admits(Instant(4) + SECOND, end) && flight.admits(Instant(5) + SECOND, end));
        flight.acknowledge(Instant(7), PIECE, end);
        assert_eq!(flight.opens_at(end + 2 * PIECE), Some(Instant(7) + SECOND));
        flight.depart(Instant(9), end);
        assert_eq!(flight.opens_at(end + 2 * PIECE), Some(Instant(7) + SECOND), "something is under way");
    }

    #[test]
    fn however_much_is_lost_one_datagram_goes() {
        let (mut flight, mut sent) = (Flight::new(WINDOW, SECOND), 0);
        for _ in 0..20 {
            assert!(flight.admits(Instant(1), sent));
            sent += PIECE;
            assert!(flight.lose(sent - PIECE, sent));
            flight.acknowledge(Instant(1), sent, sent);
        }
        assert!((WINDOW / STEP..WINDOW / 32).contains(&round(&mut flight, &mut sent)));
    }

    #[test]
    fn who_sends_little_learns_nothing() {
        let (mut flight, mut sent) = (Flight::new(WINDOW, SECOND), 0);
        for _ in 0..1_000 {
            sent += PIECE;
            flight.acknowledge(Instant(1), sent, sent);
        }
        assert_eq!(flight.limit, WINDOW / FIRST);
    }
}
