//! One seed and one commit are one execution.

use isis_tests::sim::plan::Options;
use isis_tests::sim::run::Run;

/// Repeated runs write the same trace, byte by byte, and send the same packets.
#[test]
fn same_seed_same_bytes() {
    let options = Options::default();
    let mut records = 0;
    for seed in 1..=5 {
        let (first, second) = (Run::execute(seed, &options), Run::execute(seed, &options));
        let (first, second) = (&first.world.records.trace, &second.world.records.trace);
        assert_eq!(first.text(), second.text(), "seed {seed}");
        assert_eq!(first.packets, second.packets, "seed {seed} sends other packets");
        assert_eq!(first.digest(), second.digest(), "seed {seed}");
        records += first.records.len();
    }
    assert!(records > 0, "nothing happened");
    let (one, other) = (Run::execute(1, &options), Run::execute(2, &options));
    assert_ne!(one.world.records.trace.digest(), other.world.records.trace.digest(), "the seed changes nothing");
}
