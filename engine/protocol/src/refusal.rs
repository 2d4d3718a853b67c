//! Refused datagrams: what a host that lives says of a process that does not.
//!
//! A datagram to a port that nobody listens on is answered by the kernel of the host it went to (ICMP port unreachable), and
//! the transport tells of whose address. That is a hint and no proof: it may be forged, come from a filter on the way, or be
//! about whoever had the address before. So it only begins a trial: the process is probed, a few times within
//! milliseconds, and counts as silent if each probe is refused as well, and nothing is heard of it meanwhile. A refusal of a
//! probe quotes it, and each probe has a random number: who has not seen the probe cannot forge that.
//!
//! ```text
//!          a refusal, or a doubt      each probe refused, PAUSE_NS apart
//!  unheard ───────────► on trial ─────────────────────────────────────────► refused: suspected
//!                        │     ▲ a refusal
//!     a probe is neither ▼     │
//!   refused nor answered unanswered                              from each: heard of ──► unheard
//! ```
//! Multicasts are refused by nobody. So a silence that is longer than usual, and far from a suspicion, is a *doubt*: reason
//! enough for a probe as well, once.
//!
//! A kernel says so only a few times in a row (Linux: six, then once a second), to each host: there are few probes, and
//! where a flood of datagrams has used the answers up the trial ends without a verdict and the [detector](crate::detector)
//! decides.
//!
//! Owner: [`Peer`](crate::shared::Peer), for processes of other sites only. Invariant: without refusals of [`PROBES`] probes
//! since the process was last heard of it is not refused.

use crate::time::{Instant, MILLISECOND};

/// Probes of a trial. With the refusal that begins it they are three answers of the six that a kernel gives in a row: enough
/// for two processes of a host.
pub const PROBES: u32 = 2;
/// The time between two probes at least.
pub const PAUSE_NS: u64 = MILLISECOND;

/// What the refusals say of one process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Refusal {
    /// Nothing.
    #[default]
    Unheard,
    /// It was probed in vain since it was last heard of.
    Unanswered,
    /// It is being probed.
    Trial {
        /// How many probes were refused.
        refused: u32,
        /// The number of the probe that is out.
        out: Option<u64>,
        /// With none out: when the next one goes. Else: until when its refusal is waited for.
        until: Instant,
        /// When the last one went.
        sent_at: Instant,
    },
    /// All probes were refused.
    Refused,
}

impl Refusal {
    /// A datagram to the process was refused. Begins a trial, unless one is under way.
    pub fn hint(&mut self, now: Instant) {
        if mutant!(HintExcludes) {
            *self = Refusal::Refused;
        } else if matches!(self, Refusal::Unheard | Refusal::Unanswered) {
            *self = Refusal::Trial { refused: 0, out: None, until: now, sent_at: now };
        }
    }

    /// The process has been silent for longer than usual. Begins a trial, once.
    pub fn doubt(&mut self, now: Instant) {
        if *self == Refusal::Unheard {
            *self = Refusal::Trial { refused: 0, out: None, until: now, sent_at: now };
        }
    }

    /// The probe of this number was refused.
    pub fn probe_refused(&mut self, number: u64) {
        if let Refusal::Trial { refused, out, until, sent_at } = self
            && *out == Some(number)
        {
            *refused += 1;
            *out = None;
            *until = *sent_at + PAUSE_NS;
            if *refused >= PROBES {
                *self = Refusal::Refused;
            }
        }
    }

    /// A probe shall go out now. A trial whose probe was not refused in time is over.
    pub fn wants_probe(&mut self, now: Instant) -> bool {
        match *self {
            Refusal::Trial { until, out, .. } if now >= until => {
                if out.is_some() {
                    *self = Refusal::Unanswered;
                }
                out.is_none()
            }
            _ => false,
        }
    }

    /// It went, with this number; its refusal is waited for so long.
    pub fn probed(&mut self, now: Instant, number: u64, patience_ns: u64) {
        if let Refusal::Trial { out, until, sent_at, .. } = self {
            (*out, *until, *sent_at) = (Some(number), now + patience_ns, now);
        }
    }

    /// The process was heard of.
    pub fn heard(&mut self) {
        *self = Refusal::Unheard;
    }

    /// Whether it counts as silent.
    pub fn is_refused(&self) -> bool {
        *self == Refusal::Refused
    }

    /// When `wants_probe` has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Refusal::Trial { until, .. } => Some(*until),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant(1_000 * MILLISECOND);
    const PATIENCE: u64 = 50 * MILLISECOND;

    /// Sends the probe that is due.
    fn probe(refusal: &mut Refusal, now: Instant, number: u64) {
        assert!(refusal.wants_probe(now));
        refusal.probed(now, number, PATIENCE);
        assert!(!refusal.wants_probe(now));
    }

    #[test]
    fn each_probe_has_to_be_refused() {
        let mut refusal = Refusal::default();
        refusal.hint(START);
        let mut now = START;
        for number in 0..u64::from(PROBES) {
            assert!(!refusal.is_refused());
            probe(&mut refusal, now, number);
            refusal.hint(now);
            refusal.probe_refused(number);
            refusal.probe_refused(number);
            now = refusal.deadline().unwrap_or(now);
        }
        assert!(refusal.is_refused() && refusal.deadline().is_none());
        refusal.heard();
        assert!(!refusal.is_refused());
    }

    #[test]
    fn hints_alone_are_no_verdict() {
        let mut refusal = Refusal::default();
        for step in 0..1_000 {
            let now = START + step * MILLISECOND;
            refusal.hint(now);
            if refusal.wants_probe(now) {
                refusal.probed(now, step, PATIENCE);
            }
            refusal.probe_refused(step + 1_000_000);
            assert!(!refusal.is_refused());
        }
    }

    #[test]
    fn a_trial_ends_when_the_process_is_heard_of() {
        let mut refusal = Refusal::default();
        refusal.hint(START);
        probe(&mut refusal, START, 1);
        refusal.heard();
        refusal.probe_refused(1);
        assert_eq!(refusal, Refusal::Unheard);
    }

    #[test]
    fn a_trial_without_answers_ends_without_a_verdict() {
        let mut refusal = Refusal::default();
        refusal.hint(START);
        probe(&mut refusal, START, 1);
        assert_eq!(refusal.deadline(), Some(START + PATIENCE));
        assert!(!refusal.wants_probe(START + PATIENCE));
        assert_eq!(refusal, Refusal::Unanswered);
        refusal.probe_refused(1);
        assert_eq!(refusal, Refusal::Unanswered);
        refusal.doubt(START + PATIENCE);
        assert_eq!(refusal, Refusal::Unanswered, "one doubt a silence");
        refusal.hint(START + PATIENCE);
        assert!(refusal.wants_probe(START + PATIENCE));
    }
}
