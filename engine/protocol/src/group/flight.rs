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
//! More than half of the window is never under way: what waits in the sender's stream is in nobody's way, and what waits in
//! buffers has left the processors' caches when it is read.
//!
//! Owner: the [`super::Group`]. Invariants: `acknowledged` ≤ `sent`; at least one datagram may be under way.

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
    /// Of a group whose window is `window`.
    pub fn new(window: u64) -> Flight {
        Flight { window, limit: window / FIRST, threshold: window, acknowledged: 0, recover: 0, ask_at: 0 }
    }

    /// A new stream begins: what was learned of the way stays.
    pub fn begin_view(&mut self) {
        (self.acknowledged, self.recover, self.ask_at) = (0, 0, 0);
    }

    /// A datagram that begins at `position` may be sent.
    pub fn admits(&self, position: u64) -> bool {
        position < self.acknowledged + self.limit
    }

    /// All members have everything before `floor`, and everything before `sent` was sent.
    pub fn acknowledge(&mut self, floor: u64, sent: u64) {
        let more = floor.saturating_sub(self.acknowledged);
        let used = sent.saturating_sub(self.acknowledged);
        self.acknowledged = self.acknowledged.max(floor);
        // Room that was not used is not known to be there; nor does what went before a loss was noticed say anything.
        if used < self.limit / 2 || floor <= self.recover {
            return;
        }
        let growth = if self.limit < self.threshold { more } else { more * (self.window / STEP) / self.limit.max(1) };
        self.limit = (self.limit + growth).min(self.window / MOST);
    }

    /// Somebody misses what begins at `from`, and everything before `sent` was sent. Whether that is news.
    pub fn lose(&mut self, from: u64, sent: u64) -> bool {
        if from < self.recover || from >= sent {
            return false;
        }
        self.recover = sent;
        self.limit = (self.limit / 2).max(self.window / STEP);
        self.threshold = self.limit;
        true
    }

    /// Whether the datagram that ends at `end` asks for rows. Two or three in each round do, the last one that may be sent among
    /// them.
    pub fn asks(&mut self, end: u64) -> bool {
        if end < self.ask_at && self.admits(end) {
            return false;
        }
        self.ask_at = end + self.limit / 2;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 1 << 20;
    const PIECE: u64 = 8 << 10;

    /// Sends what may be sent, in pieces, and has it acknowledged; the bytes that were under way.
    fn round(flight: &mut Flight, sent: &mut u64) -> u64 {
        let before = *sent;
        let mut asked = false;
        while *sent - before < WINDOW && flight.admits(*sent) {
            *sent += PIECE;
            asked = flight.asks(*sent);
        }
        assert!(asked, "the last one that may be sent asks");
        flight.acknowledge(*sent, *sent);
        *sent - before
    }

    #[test]
    fn without_losses_it_is_half_of_the_window_after_some_rounds() {
        let (mut flight, mut sent) = (Flight::new(WINDOW), 0);
        let rounds: Vec<u64> = (0..6).map(|_| round(&mut flight, &mut sent) >> 10).collect();
        assert_eq!(rounds, [128, 256, 512, 512, 512, 512]);
    }

    #[test]
    fn a_loss_halves_it_once() {
        let (mut flight, mut sent) = (Flight::new(WINDOW), 0);
        (0..4).for_each(|_| drop(round(&mut flight, &mut sent)));
        sent += WINDOW / MOST;
        assert!(flight.lose(sent - WINDOW / MOST, sent));
        assert!(!flight.lose(sent - PIECE, sent), "the same round");
        flight.acknowledge(sent, sent);
        assert_eq!(round(&mut flight, &mut sent), WINDOW / 4, "what was under way says nothing of the new limit");
        assert_eq!(round(&mut flight, &mut sent), WINDOW / 4 + WINDOW / STEP);
    }

    #[test]
    fn what_was_never_sent_is_not_lost() {
        let mut flight = Flight::new(WINDOW);
        assert!(!flight.lose(PIECE, PIECE) && !flight.lose(u64::MAX, PIECE));
        assert_eq!(flight.limit, WINDOW / FIRST);
    }

    #[test]
    fn however_much_is_lost_one_datagram_goes() {
        let (mut flight, mut sent) = (Flight::new(WINDOW), 0);
        for _ in 0..20 {
            assert!(flight.admits(sent));
            sent += PIECE;
            assert!(flight.lose(sent - PIECE, sent));
            flight.acknowledge(sent, sent);
        }
        assert!((WINDOW / STEP..WINDOW / 32).contains(&round(&mut flight, &mut sent)));
    }

    #[test]
    fn who_sends_little_learns_nothing() {
        let (mut flight, mut sent) = (Flight::new(WINDOW), 0);
        for _ in 0..1_000 {
            sent += PIECE;
            flight.acknowledge(sent, sent);
        }
        assert_eq!(flight.limit, WINDOW / FIRST);
    }
}
