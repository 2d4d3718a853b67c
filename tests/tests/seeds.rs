//! Seeded runs: all guarantees, under all faults.

use isis_tests::sim::plan::Options;
use isis_tests::sim::run::Run;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

fn run(start: u64, count: u64) {
    let options = Options { members: 3..=7, ..Options::default() };
    let mut deliveries = 0;
    for seed in start..start + count {
        let report = Run::execute(seed, &options);
        deliveries += report.deliveries;
        let replay = format!("isis-sim --members 3-7 --replay {seed}");
        assert!(!report.failed(), "seed {seed} ({replay}):\n{}", report.text());
    }
    assert!(count == 0 || deliveries > 0, "nothing was delivered: this shows nothing");
}

/// The same share of seeds each time. `ISIS_SIM_SEEDS` changes how many.
#[test]
fn fixed_seeds() {
    run(1, number("ISIS_SIM_SEEDS").unwrap_or(200));
}

/// Seeds that nobody has tried yet, from the clock. `ISIS_SIM_FRESH_START` fixes the first one.
#[test]
fn fresh_seeds() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
    let start = number("ISIS_SIM_FRESH_START").unwrap_or(clock);
    let _ = writeln!(std::io::stderr(), "fresh seeds from {start}: ISIS_SIM_FRESH_START={start} repeats them");
    run(start, number("ISIS_SIM_SEEDS").map_or(50, |seeds| seeds / 10));
}

/// Seeds that once failed, each by a bug of the engine or of the checker. A change of the engine shifts what a seed
/// does; the schedules that must stay are stories in `rules.rs`.
#[test]
fn seeds_that_once_failed() {
    for seed in [
        26, 44, 55, 58, 66, 548, 2001, 2060, 2351, 2494, 2552, 2844, 3364, 6979, 7454, 8211, 30039, 30350, 30679,
        60354, 502186, 801388, 3000853, 4021654, 4038741, 5004479, 20008736, 20027973, 30009654, 50037257, 50013060,
        70008615, 80108028, 81110409, 99221695, 102001939, 105051914, 109013018, 115018721,
    ] {
        run(seed, 1);
    }
}
