//! Seeded faults on real processes: drop, duplicate, delay and reorder what is received.

/// What a fault decorator does to received datagrams. Written as text: `drop=5,dup=1,delay_ms=2,seed=7`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct FaultConfig {
    /// Percentage of datagrams dropped.
    pub drop_percent: f64,
    /// Percentage of datagrams delivered twice.
    pub duplicate_percent: f64,
    /// Percentage of datagrams that later ones overtake.
    pub reorder_percent: f64,
    /// Every datagram is held back for this long, in nanoseconds.
    pub delay_ns: u64,
    /// And for a random share of this long, in nanoseconds.
    pub jitter_ns: u64,
    /// Seed of the random choices.
    pub seed: u64,
}
