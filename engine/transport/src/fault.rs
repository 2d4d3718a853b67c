//! Seeded faults on real processes: drop, duplicate, delay and reorder what is received.
//!
//! A decorator around any [`Transport`]. It works on the receiving side, so that each receiver of a multicast has its
//! own luck, and so that the transport's own self-tests stay honest. What is held back is bounded; beyond, it is
//! dropped.

use crate::counters::counters;
use crate::transport::{Capabilities, Datagram, TransmitReport, Transport};
use isis_wire::Address;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::str::FromStr;

/// Bytes held back, at most.
const HELD_MAX: usize = 64 << 20;
/// A reordered datagram waits for this long at most, in case none overtakes it.
const REORDER_NS: u64 = 5_000_000;

/// What a fault decorator does to received datagrams. Written as text: `drop=5,dup=1,reorder=2,delay_ms=2,jitter_ms=1,seed=7`
/// (percentages and milliseconds may have fractions; what is left out is 0).
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

/// Why a text is no [`FaultConfig`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "faults: {0:?} is not one of drop=, dup=, reorder= (percent), delay_ms=, jitter_ms=, seed= with a number in range"
)]
pub struct FaultConfigError(String);

impl FromStr for FaultConfig {
    type Err = FaultConfigError;

    fn from_str(text: &str) -> Result<FaultConfig, FaultConfigError> {
        let mut config = FaultConfig::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong = || FaultConfigError(part.to_owned());
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let bounded = |most: f64| {
                value.trim().parse().ok().filter(|number: &f64| (0.0..=most).contains(number)).ok_or_else(wrong)
            };
            // A minute is longer than any timeout of the engine.
            let nanoseconds = || bounded(60_000.0).map(|milliseconds| (milliseconds * 1e6) as u64);
            match name.trim() {
                "drop" => config.drop_percent = bounded(100.0)?,
                "dup" => config.duplicate_percent = bounded(100.0)?,
                "reorder" => config.reorder_percent = bounded(100.0)?,
                "delay_ms" => config.delay_ns = nanoseconds()?,
                "jitter_ms" => config.jitter_ns = nanoseconds()?,
                "seed" => config.seed = value.trim().parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        Ok(config)
    }
}

counters! {
    /// What the decorator did.
    FaultCounters {
        /// Datagrams dropped by choice.
        fault_dropped,
        /// Datagrams delivered a second time.
        fault_duplicated,
        /// Datagrams delayed.
        fault_delayed,
        /// Datagrams held back until others overtook them.
        fault_reordered,
        /// Datagrams dropped because too much was held back.
        fault_overflow,
    }
}

/// A datagram that waits.
#[derive(Debug)]
struct Held {
    due_ns: u64,
    /// Until so many others were delivered (or `due_ns`).
    overtakers: Option<u32>,
    from: Address,
    bytes: Vec<u8>,
}

/// The choices and what they hold back: the decorator without a transport.
#[derive(Debug)]
pub(crate) struct FaultInjector {
    config: FaultConfig,
    random: u64,
    held: VecDeque<Held>,
    held_bytes: usize,
    now_ns: u64,
    counters: FaultCounters,
}

impl FaultInjector {
    pub(crate) fn new(config: FaultConfig) -> FaultInjector {
        FaultInjector {
            random: config.seed,
            config,
            held: VecDeque::new(),
            held_bytes: 0,
            now_ns: 0,
            counters: FaultCounters::default(),
        }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn chance(&mut self, percent: f64) -> bool {
        // Drawn even at 0 %, so that changing one percentage leaves the other choices as they were.
        ((self.next() >> 11) as f64 / (1_u64 << 53) as f64) * 100.0 < percent
    }

    fn hold(&mut self, due_ns: u64, overtakers: Option<u32>, from: Address, bytes: &[u8]) {
        if self.held_bytes + bytes.len() > HELD_MAX {
            self.counters.fault_overflow += 1;
            return;
        }
        self.held_bytes += bytes.len();
        self.held.push_back(Held { due_ns, overtakers, from, bytes: bytes.to_vec() });
    }

    /// A datagram came in.
    pub(crate) fn pass(&mut self, from: Address, bytes: &[u8], deliver: &mut dyn FnMut(Address, &[u8])) {
        let drop = self.chance(self.config.drop_percent);
        let duplicate = self.chance(self.config.duplicate_percent);
        let reorder = self.chance(self.config.reorder_percent);
        let overtakers = 1 + (self.next() % 4) as u32;
        let jitter = self.next() % self.config.jitter_ns.max(1);
        if drop {
            self.counters.fault_dropped += 1;
            return;
        }
        let delay_ns = self.config.delay_ns + if self.config.jitter_ns == 0 { 0 } else { jitter };
        for copy in 0..=u8::from(duplicate) {
            self.counters.fault_duplicated += u64::from(copy);
            if copy == 1 && delay_ns == 0 {
                // Next time, so that one datagram in is at most one out.
                self.hold(self.now_ns, None, from, bytes);
                continue;
            }
            if reorder && copy == 0 {
                self.counters.fault_reordered += 1;
                self.hold(self.now_ns + delay_ns + REORDER_NS, Some(overtakers), from, bytes);
            } else if delay_ns > 0 {
                self.counters.fault_delayed += 1;
                self.hold(self.now_ns + delay_ns, None, from, bytes);
            } else {
                deliver(from, bytes);
            }
        }
        for held in &mut self.held {
            if let Some(overtakers) = &mut held.overtakers {
                *overtakers = overtakers.saturating_sub(1);
            }
        }
    }

    /// Hands over what has waited long enough, at most `budget`.
    pub(crate) fn release(&mut self, budget: usize, deliver: &mut dyn FnMut(Address, &[u8])) -> usize {
        let mut count = 0;
        let mut index = 0;
        while count < budget && index < self.held.len() {
            let held = &self.held[index];
            if (held.due_ns <= self.now_ns || held.overtakers == Some(0))
                && let Some(held) = self.held.remove(index)
            {
                self.held_bytes -= held.bytes.len();
                deliver(held.from, &held.bytes);
                count += 1;
            } else {
                index += 1;
                // With a constant delay and no reordering the queue is in the order of times.
                if self.config.jitter_ns == 0 && self.config.reorder_percent == 0.0 {
                    break;
                }
            }
        }
        count
    }

    /// Says what time it is, and when something is due next.
    pub(crate) fn advance(&mut self, now_ns: u64) -> Option<u64> {
        self.now_ns = now_ns;
        self.held.iter().map(|held| held.due_ns).min()
    }

    pub(crate) fn counters(&self) -> Vec<(&'static str, u64)> {
        self.counters.list()
    }
}

/// A transport whose received datagrams suffer the configured faults.
#[derive(Debug)]
pub struct FaultyTransport<T> {
    inner: T,
    faults: FaultInjector,
}

impl<T: Transport> FaultyTransport<T> {
    /// Decorates a transport.
    pub fn new(inner: T, config: FaultConfig) -> FaultyTransport<T> {
        FaultyTransport { inner, faults: FaultInjector::new(config) }
    }
}

impl<T: Transport> Transport for FaultyTransport<T> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn receive_burst(&mut self, budget: usize, deliver: &mut dyn FnMut(Address, &[u8])) -> usize {
        let mut count = self.faults.release(budget, deliver);
        let faults = &mut self.faults;
        if count < budget {
            self.inner.receive_burst(budget - count, &mut |from, bytes| {
                faults.pass(from, bytes, &mut |from, bytes| {
                    count += 1;
                    deliver(from, bytes);
                });
            });
        }
        count
    }

    fn transmit_burst<'a>(&mut self, datagrams: &mut dyn Iterator<Item = Datagram<'a>>) -> TransmitReport {
        self.inner.transmit_burst(datagrams)
    }

    fn advance(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.faults.advance(now_ns);
        let inner = self.inner.advance(now_ns);
        match (due, inner) {
            (Some(due), Some(inner)) => Some(due.min(inner)),
            (due, inner) => due.or(inner),
        }
    }

    fn prepare_sleep(&mut self) -> bool {
        self.inner.prepare_sleep()
    }

    fn descriptors(&self, visit: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.inner.descriptors(visit);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut list = self.inner.counters();
        list.extend(self.faults.counters());
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read() {
        let config: FaultConfig = "drop=5, dup=1.5,delay_ms=2,seed=7".parse().expect("good");
        let expected = FaultConfig {
            drop_percent: 5.0,
            duplicate_percent: 1.5,
            delay_ns: 2_000_000,
            seed: 7,
            ..FaultConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!("".parse(), Ok(FaultConfig::default()));
        for wrong in ["drop", "drop=101", "drop=NaN", "delay_ms=-1", "loss=3", "seed=x"] {
            assert!(wrong.parse::<FaultConfig>().is_err(), "{wrong}");
        }
    }

    fn run(config: FaultConfig) -> Vec<u8> {
        let mut faults = FaultInjector::new(config);
        let mut out = Vec::new();
        for number in 0..200_u8 {
            faults.advance(u64::from(number) * 1_000_000);
            let mut deliver = |_: Address, bytes: &[u8]| out.push(bytes[0]);
            faults.release(100, &mut deliver);
            faults.pass(Address::default(), &[number], &mut deliver);
        }
        faults.advance(u64::MAX);
        faults.release(1_000, &mut |_, bytes| out.push(bytes[0]));
        assert!(faults.held.is_empty() && faults.held_bytes == 0);
        out
    }

    #[test]
    fn one_seed_one_fate() {
        let config = FaultConfig {
            drop_percent: 10.0,
            duplicate_percent: 10.0,
            reorder_percent: 10.0,
            delay_ns: 3_000_000,
            jitter_ns: 2_000_000,
            seed: 9,
        };
        assert_eq!(run(config), run(config));
        assert_ne!(run(config), run(FaultConfig { seed: 10, ..config }));
    }

    #[test]
    fn each_fault_does_what_it_says() {
        let all: Vec<u8> = (0..200).collect();
        assert_eq!(run(FaultConfig::default()), all);
        assert_eq!(run(FaultConfig { delay_ns: 5_000_000, ..FaultConfig::default() }), all);
        let dropped = run(FaultConfig { drop_percent: 20.0, ..FaultConfig::default() });
        assert!((100..200).contains(&dropped.len()) && dropped.is_sorted());
        let doubled = run(FaultConfig { duplicate_percent: 20.0, ..FaultConfig::default() });
        assert!(doubled.len() > 200 && doubled.is_sorted());
        let mut reordered = run(FaultConfig { reorder_percent: 20.0, ..FaultConfig::default() });
        assert!(!reordered.is_sorted());
        reordered.sort_unstable();
        assert_eq!(reordered, all);
    }
}
