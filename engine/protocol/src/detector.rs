//! Failure suspicion between sites: how long may a process be silent?
//!
//! What it is for: a process of another site is known only by what it sends. [SOSP87] turns suspicions into clean,
//! agreed failures; that is the system view's work. This module only says when silence has become improbable. Processes
//! of one's own site need none of this: their death is known for certain.
//!
//! Who owns it: the system group, one [`Detector`] for each process of another site and one [`PauseWatch`] for all.
//!
//! The timeout follows what was measured, as Jacobson's for retransmissions does:
//!
//! ```text
//! timeout = clamp(4 × mean + 8 × deviation, min, max) + announced pause
//! ```
//!
//! - The measured quantity is the *longest silence* in each period of `min` (a longer silence is a period of its own),
//!   and not the interval between packets: a thousand packets of one burst would drown the pause after it.
//! - 4 × mean: three heartbeats lost in a row are no news, even when they never were lost before.
//! - 8 × deviation: the mean absolute deviation is about 0.8 σ of a normal distribution, so this alone stands for more
//!   than 6 σ, a φ of about 9 in the terms of the φ-accrual detector.
//! - The deviation rises fast (by a quarter of a surprise, which moves the timeout by twice the surprise) and falls
//!   slowly (by a 32nd): an overloaded peer is not a failed one, and a wrong suspicion teaches.
//! - Before the first measurement the timeout is `max`.
//!
//! Invariants: a process that is not heard of is suspected after at most `max` plus its announced pause, whatever was
//! measured; none is suspected before `min`. One that noticed its own pause accuses nobody on waking.

use crate::time::{Instant, SECOND};

/// The longest pause that a peer can announce; more is cut to this, lest a peer makes itself immortal.
pub const MAX_ANNOUNCED_PAUSE_NS: u64 = 600 * SECOND;

/// How many mean silences a timeout lasts, and how many deviations on top of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weights {
    /// Mean silences.
    pub means: u64,
    /// Mean deviations.
    pub deviations: u64,
}

impl Weights {
    /// What the engine uses.
    pub const DEFAULT: Weights = Weights { means: 4, deviations: 8 };
}

/// Silences as measured so far, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Silence {
    mean_ns: u64,
    deviation_ns: u64,
}

impl Silence {
    fn on_sample(self, sample_ns: u64) -> Silence {
        let error_ns = self.mean_ns.abs_diff(sample_ns);
        let share = if error_ns > self.deviation_ns { 4 } else { 32 };
        Silence {
            mean_ns: self.mean_ns - self.mean_ns / 8 + sample_ns / 8,
            deviation_ns: self.deviation_ns - self.deviation_ns / share + error_ns / share,
        }
    }
}

/// Watches one process of another site.
#[derive(Clone, Debug)]
pub struct Detector {
    min_ns: u64,
    max_ns: u64,
    weights: Weights,
    announced_pause_ns: u64,
    heard_at: Instant,
    /// The period of measuring that is under way: its beginning and its longest silence.
    period_began: Instant,
    longest_ns: u64,
    silence: Option<Silence>,
    /// What follows from the measurements: asked for much more often than they change.
    measured_timeout_ns: u64,
}

impl Detector {
    /// A detector that takes the process as heard of at `now`. `min_ns` should be several of the heartbeat intervals
    /// of an idle peer: after busy times the timeout has come down to it. A `max_ns` below `min_ns` counts as `min_ns`.
    pub fn new(now: Instant, min_ns: u64, max_ns: u64) -> Detector {
        Detector {
            min_ns,
            max_ns: max_ns.max(min_ns),
            weights: Weights::DEFAULT,
            announced_pause_ns: 0,
            heard_at: now,
            period_began: now,
            longest_ns: 0,
            silence: None,
            measured_timeout_ns: max_ns.max(min_ns),
        }
    }

    /// The same with other weights: for measurements.
    pub fn weighted(mut self, weights: Weights) -> Detector {
        self.weights = weights;
        self
    }

    /// The same for a process that has announced a pause before it is heard of: the view that admits it says so.
    pub fn announced(mut self, max_pause_ns: u64) -> Detector {
        self.announce(max_pause_ns);
        self
    }

    /// A packet of the process came, of any kind.
    pub fn heard(&mut self, now: Instant) {
        // A silence beyond the timeout is no measurement when the peer had announced that it might pause, nor is one
        // beyond the maximum ever: the timeout cannot follow it.
        let limit_ns = if self.announced_pause_ns > 0 { self.measured_timeout_ns } else { self.max_ns };
        self.longest_ns = self.longest_ns.max(now.since(self.heard_at).min(limit_ns));
        self.heard_at = self.heard_at.max(now);
        if now.since(self.period_began) >= self.min_ns {
            let sample_ns = self.longest_ns;
            self.silence = Some(match self.silence {
                None => Silence { mean_ns: sample_ns, deviation_ns: sample_ns / 2 },
                Some(silence) => silence.on_sample(sample_ns),
            });
            self.measured_timeout_ns = self.measure_timeout_ns();
            self.begin_period(now);
        }
    }

    /// Treats the process as just heard of, but learns nothing from its silence: it was ours.
    pub fn forgive(&mut self, now: Instant) {
        self.heard_at = self.heard_at.max(now);
        self.begin_period(now);
    }

    /// The peer said that it may pause for so long (0: no longer). It takes effect at once, for a silence under way too.
    pub fn announce(&mut self, max_pause_ns: u64) {
        self.announced_pause_ns = max_pause_ns.min(MAX_ANNOUNCED_PAUSE_NS);
    }

    /// Whether the silence has lasted too long. A single packet ends the suspicion.
    pub fn suspected(&self, now: Instant) -> bool {
        now >= self.deadline()
    }

    /// From when on the silence is longer than usual, and at least `floor_ns`: twice the mean; no reason to suspect anybody.
    pub fn doubtful_at(&self, floor_ns: u64) -> Instant {
        let usual_ns = self.silence.map_or(self.min_ns, |silence| silence.mean_ns.saturating_mul(2));
        self.heard_at + usual_ns.max(floor_ns).saturating_add(self.announced_pause_ns)
    }

    /// When the process becomes suspect unless it is heard of before.
    pub fn deadline(&self) -> Instant {
        self.heard_at + self.timeout_ns()
    }

    /// The silence that is tolerated now, the announced pause included.
    pub fn timeout_ns(&self) -> u64 {
        self.measured_timeout_ns.saturating_add(self.announced_pause_ns)
    }

    fn measure_timeout_ns(&self) -> u64 {
        let Some(Silence { mean_ns, deviation_ns }) = self.silence else { return self.max_ns };
        let Weights { means, deviations } = self.weights;
        let timeout_ns = means.saturating_mul(mean_ns).saturating_add(deviations.saturating_mul(deviation_ns));
        timeout_ns.clamp(self.min_ns, self.max_ns)
    }

    fn begin_period(&mut self, now: Instant) {
        self.period_began = now;
        self.longest_ns = 0;
    }
}

/// Notices that this process itself was stopped, swapped out or starved. One for all detectors of a process.
///
/// On waking, observe first: before packets are taken and before anybody is asked for suspects. When it reports a pause,
/// call [`Detector::forgive`] on every detector.
#[derive(Clone, Debug)]
pub struct PauseWatch {
    threshold_ns: u64,
    observed_at: Instant,
}

impl PauseWatch {
    /// A watch that takes a time of more than `threshold_ns` between two observations for a pause. The threshold should
    /// be below the detectors' `min_ns`.
    pub fn new(now: Instant, threshold_ns: u64) -> PauseWatch {
        PauseWatch { threshold_ns, observed_at: now }
    }

    /// This process runs, at `now`. Tells the length of the pause that it has just woken from.
    pub fn observe(&mut self, now: Instant) -> Option<u64> {
        let since_ns = now.since(self.observed_at);
        self.observed_at = self.observed_at.max(now);
        (since_ns > self.threshold_ns).then_some(since_ns)
    }

    /// When to observe next at the latest: a process that sleeps longer, of its own will, would look paused to itself
    /// and never suspect anybody. Half the threshold leaves the other half for being scheduled late.
    pub fn deadline(&self) -> Instant {
        self.observed_at + self.threshold_ns / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::time::MILLISECOND;

    const HEARTBEAT: u64 = 50 * MILLISECOND;
    const MIN: u64 = 100 * MILLISECOND;
    const MAX: u64 = 5 * SECOND;
    const START: Instant = Instant(7 * SECOND);

    /// Hears the process at the end of each of `count` silences; fails if it is suspected in one of them.
    fn live(detector: &mut Detector, mut now: Instant, count: u64, mut silence: impl FnMut(u64) -> u64) -> Instant {
        assert!(count > 0);
        for i in 0..count {
            now = now + silence(i);
            assert!(!detector.suspected(now), "silence {i}, timeout {} ms", detector.timeout_ns() / MILLISECOND);
            detector.heard(now);
        }
        now
    }

    /// An overloaded peer is not a failed one: jitter is measured.
    #[test]
    fn heartbeats_with_jitter_are_never_suspected() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut detector = Detector::new(START, MIN, MAX);
            let now = live(&mut detector, START, 1_000, |_| random.jitter(HEARTBEAT));
            // And the timeout has come down from the maximum: the measurement counts.
            assert!(detector.timeout_ns() < 10 * HEARTBEAT, "{}", detector.timeout_ns());
            live(&mut detector, now, 1_000, |_| HEARTBEAT / 2 + random.below(HEARTBEAT));
        }
    }

    #[test]
    fn silence_is_suspected_between_the_minimum_and_the_maximum() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut detector = Detector::new(START, MIN, MAX);
            let interval = 1 + random.below(2 * MAX);
            let mut now = START;
            for _ in 0..random.below(100) {
                now = now + random.below(interval);
                detector.heard(now);
            }
            assert!(!detector.suspected(now + (MIN - 1)));
            assert!(detector.suspected(now + MAX));
            assert!(!detector.suspected(detector.deadline() - 1));
            assert!(detector.suspected(detector.deadline()));
        }
    }

    #[test]
    fn a_process_never_heard_of_is_suspected_after_the_maximum() {
        let detector = Detector::new(START, MIN, MAX);
        assert_eq!(detector.deadline(), START + MAX);
    }

    #[test]
    fn three_lost_heartbeats_are_no_news() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut detector = Detector::new(START, MIN, MAX);
            let now = live(&mut detector, START, 1_000, |_| HEARTBEAT);
            // A steady peer has the tightest timeout; the bursts come without warning.
            let lost = |random: &mut Random| if random.below(10) == 0 { random.below(4) } else { 0 };
            live(&mut detector, now, 2_000, |_| HEARTBEAT * (1 + lost(&mut random)) - 1);
        }
    }

    #[test]
    fn a_wrong_suspicion_teaches() {
        let mut detector = Detector::new(START, MIN, MAX);
        let mut now = live(&mut detector, START, 1_000, |_| HEARTBEAT);
        now = now + SECOND;
        assert!(detector.suspected(now));
        detector.heard(now);
        assert!(!detector.suspected(now));
        // One surprise is remembered over twenty calm heartbeats.
        let now = live(&mut detector, now, 21, |i| if i == 20 { SECOND } else { HEARTBEAT });
        live(&mut detector, now, 1_000, |i| if i % 10 == 0 { SECOND } else { HEARTBEAT });
    }

    #[test]
    fn bursts_of_packets_do_not_drown_the_pauses_between_them() {
        let mut detector = Detector::new(START, MIN, MAX);
        live(&mut detector, START, 100_000, |i| if i % 1_000 == 999 { SECOND } else { 1_000 });
    }

    #[test]
    fn own_pause_accuses_nobody() {
        let mut watch = PauseWatch::new(START, MIN / 2);
        let mut detectors = vec![Detector::new(START, MIN, MAX); 3];
        let mut now = START;
        for _ in 0..1_000 {
            now = now + 20 * MILLISECOND;
            assert!(now <= watch.deadline());
            assert_eq!(watch.observe(now), None);
            detectors.iter_mut().for_each(|detector| detector.heard(now));
        }
        let timeouts: Vec<u64> = detectors.iter().map(Detector::timeout_ns).collect();
        now = now + 60 * SECOND;
        assert!(detectors.iter().all(|detector| detector.suspected(now)));
        assert_eq!(watch.observe(now), Some(60 * SECOND));
        detectors.iter_mut().for_each(|detector| detector.forgive(now));
        assert!(detectors.iter().all(|detector| !detector.suspected(now)));
        assert_eq!(watch.observe(now), None);
        // The pause was ours: it says nothing of the others, and those that stay silent are suspected as before.
        detectors.iter_mut().for_each(|detector| detector.heard(now + 1));
        for (detector, timeout) in detectors.iter().zip(timeouts) {
            assert_eq!(detector.timeout_ns(), timeout);
            assert!(detector.suspected(now + 1 + timeout));
        }
    }

    #[test]
    fn an_announced_pause_extends_the_timeout() {
        let mut detector = Detector::new(START, MIN, MAX);
        let mut now = live(&mut detector, START, 1_000, |_| HEARTBEAT);
        let timeout = detector.timeout_ns();
        detector.announce(30 * SECOND);
        assert_eq!(detector.deadline(), now + timeout + 30 * SECOND);
        now = live(&mut detector, now, 1, |_| 30 * SECOND);
        // The announced pause is explained; it leaves no more than a silence of one timeout behind.
        detector.announce(0);
        assert!(detector.timeout_ns() < 10 * timeout, "{} and {timeout}", detector.timeout_ns());
        assert!(detector.suspected(now + MAX));
    }

    #[test]
    fn absurd_numbers_do_no_harm() {
        let mut detector = Detector::new(START, u64::MAX - 1, u64::MAX);
        detector.announce(u64::MAX);
        detector.announce(0);
        detector.heard(Instant(u64::MAX));
        detector.heard(Instant::ZERO);
        assert_eq!(detector.deadline(), Instant(u64::MAX));
        let mut detector = Detector::new(START, MIN, MAX);
        detector.announce(u64::MAX);
        assert!(detector.suspected(START + MAX + MAX_ANNOUNCED_PAUSE_NS));
        let mut watch = PauseWatch::new(START, 0);
        assert_eq!(watch.observe(Instant::ZERO), None);
        assert_eq!(watch.observe(Instant(u64::MAX)), Some(u64::MAX - START.0));
        assert_eq!(watch.deadline(), Instant(u64::MAX));
    }
}
