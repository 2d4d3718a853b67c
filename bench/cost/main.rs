//! What the guarantees cost in the data plane without I/O: nanoseconds per multicast here, instructions under valgrind.
//!
//! `isis-plane-cost` prints a table of nanoseconds. `isis-plane-cost count PATH SIZE BATCHES` runs a fixed piece of work and
//! nothing else: the difference between two counts of instructions, of different numbers of batches, is that of the batches
//! alone. `bench/ratchet.sh` does that.
#![forbid(unsafe_code)]

use isis_bench::plane::World;
use isis_bench::{now_ns, say};
use isis_protocol::{Kind, TotalOrder};
use std::process::ExitCode;

/// Members of the view; all send.
const MEMBERS: usize = 3;
/// Messages of each member in one batch.
const BATCH: usize = 64;
/// Batches of one measurement of time.
const TIMED: usize = 200;
/// Measurements of time; the median counts.
const REPEATS: usize = 15;
/// The paths: name, order, and whether delivery waits until all have the message.
const PATHS: [(&str, Kind, bool); 4] = [
    ("fifo", Kind::Fifo, false),
    ("causal", Kind::Causal, false),
    ("total", Kind::Total, false),
    ("safe", Kind::Total, true),
];
/// Payload bytes.
const SIZES: [usize; 2] = [64, 1024];

fn batches(world: &mut World, kind: Kind, safe: bool, message: &[u8], count: usize) {
    for _ in 0..count {
        for rank in 0..MEMBERS {
            for _ in 0..BATCH {
                world.send(rank, kind, safe, message, 4096);
            }
        }
        world.exchange(BATCH * MEMBERS * MEMBERS);
    }
}

fn count(path: &str, size: &str, number: &str) -> Result<(), String> {
    let (_, kind, safe) = PATHS.iter().find(|(name, ..)| *name == path).ok_or_else(|| format!("no path {path}"))?;
    let size: usize = size.parse().map_err(|_| format!("{size} is not a number of bytes"))?;
    let number: usize = number.parse().map_err(|_| format!("{number} is not a number of batches"))?;
    batches(&mut World::new(MEMBERS, TotalOrder::Sequencer), *kind, *safe, &vec![7; size], number);
    Ok(())
}

fn time() {
    say(&format!("{MEMBERS} members, all sending; nanoseconds per multicast, over all members, without I/O"));
    for size in SIZES {
        let message = vec![7; size];
        let mut worlds: Vec<(World, Vec<f64>)> =
            PATHS.iter().map(|_| (World::new(MEMBERS, TotalOrder::Sequencer), Vec::new())).collect();
        // In turn: what else goes on on this machine meets all paths alike.
        for _ in 0..REPEATS {
            for ((world, times), (_, kind, safe)) in worlds.iter_mut().zip(PATHS) {
                let from = now_ns();
                batches(world, kind, safe, &message, TIMED);
                times.push((now_ns() - from) as f64 / (TIMED * BATCH * MEMBERS) as f64);
            }
        }
        for ((_, times), (name, ..)) in worlds.iter_mut().zip(PATHS) {
            times.sort_by(f64::total_cmp);
            let (low, median, high) = (times[0], times[REPEATS / 2], times[REPEATS - 1]);
            say(&format!("{name} {size} {median:.0} ns ({low:.0} to {high:.0})"));
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        [] => {
            time();
            Ok(())
        }
        ["paths"] => {
            SIZES.iter().for_each(|size| PATHS.iter().for_each(|(name, ..)| say(&format!("{name} {size}"))));
            Ok(())
        }
        ["count", path, size, number] => count(path, size, number),
        _ => Err("usage: isis-plane-cost [paths | count PATH SIZE BATCHES]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            isis_bench::progress(&error);
            ExitCode::from(2)
        }
    }
}
