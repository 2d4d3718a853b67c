//! `floor`: what the machine gives at best, without any protocol: no figure of ours can be better, and each can be read as a
//! fraction of one of these.
//!
//! Two threads, as two processes would see the same memory and the same sockets: [`memory`] (a cache line, a ring), [`udp`]
//! (round trips and streams on the loopback interface). Each measurement is bounded in time; where nobody answers, the
//! error says so and the others go on.

pub mod memory;
pub mod udp;

use crate::report::{self, Lines};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// The arguments.
#[derive(Args, Clone, Debug)]
pub struct Floor {
    /// Milliseconds of each measurement.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    milliseconds: u64,
    /// Only measurements whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Appends every measurement to this file, one line of JSON each.
    #[arg(long, value_name = "FILE")]
    ndjson: Option<PathBuf>,
}

/// What a side does while it waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// It looks again at once.
    Spin,
    /// It gives the processor away, then looks again.
    Yield,
    /// It sleeps in the kernel.
    Block,
}

/// What a measurement gives.
#[derive(Debug)]
pub enum Measured {
    /// Nanoseconds there and back.
    RoundTrip(Histogram<u64>),
    /// A stream, at the receiver.
    Stream {
        /// Datagrams (as the network would count them) a second.
        per_second: f64,
        /// Bytes of payload of each.
        size: usize,
        /// Sent, but not received.
        lost: u64,
    },
}

type Measurement = Box<dyn Fn(Duration) -> Result<Measured, String>>;

fn measurements() -> Vec<(&'static str, Measurement)> {
    use Waiting::{Block, Spin, Yield};
    use udp::{Path, Sending};
    let mut all: Vec<(&'static str, Measurement)> = vec![
        ("reading the clock", Box::new(|time| Ok(Measured::RoundTrip(memory::clock(time))))),
        ("cache line, spinning", Box::new(|time| memory::line(time, Spin).map(Measured::RoundTrip))),
        ("cache line, yielding", Box::new(|time| memory::line(time, Yield).map(Measured::RoundTrip))),
        ("shared-memory ring, 56 B, spinning", Box::new(|time| memory::ring(time, Spin).map(Measured::RoundTrip))),
        ("shared-memory ring, 56 B, yielding", Box::new(|time| memory::ring(time, Yield).map(Measured::RoundTrip))),
    ];
    for (name, path, waiting) in [
        ("UDP unicast, 64 B, spinning", Path::Unicast, Spin),
        ("UDP unicast, 64 B, blocking", Path::Unicast, Block),
        ("UDP multicast, 64 B, spinning", Path::Multicast, Spin),
        ("UDP multicast, 64 B, blocking", Path::Multicast, Block),
    ] {
        all.push((name, Box::new(move |time| udp::round_trip(time, path, waiting).map(Measured::RoundTrip))));
    }
    for (name, size, sending) in [
        ("UDP stream, 64,000 B, sendmmsg", 64_000, Sending::Many),
        ("UDP stream, 1,400 B, sendmmsg", 1_400, Sending::Many),
        ("UDP stream, 1,400 B, GSO and GRO", 1_400, Sending::Segments),
    ] {
        all.push((name, Box::new(move |time| udp::stream(time, size, sending))));
    }
    all
}

/// Runs it.
pub fn run(args: &Floor) -> Result<(), String> {
    let mut lines = Lines::open(args.ndjson.as_deref())?;
    let time = Duration::from_millis(args.milliseconds);
    let host = report::host();
    report::warn_if_busy(&host);
    let (mut done, mut failed) = (0, Vec::new());
    crate::say(&format!("round trips and streams between two threads, {} ms each", args.milliseconds));
    for (name, measure) in measurements() {
        if args.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        match measure(time) {
            Ok(measured) => {
                done += 1;
                crate::say(&format!("  {name}: {}", text(&measured)));
                lines.write(&line(name, &measured))?;
            }
            Err(error) => {
                crate::say(&format!("  {name}: NOT MEASURED: {error}"));
                failed.push(name);
            }
        }
    }
    crate::say(&format!("(floor; {})", report::host_text(&host)));
    if done == 0 {
        return Err(format!("nothing was measured: {failed:?}"));
    }
    Ok(())
}

fn text(measured: &Measured) -> String {
    match measured {
        Measured::RoundTrip(histogram) => report::percentile_text(histogram),
        Measured::Stream { per_second, size, lost } => {
            format!("{per_second:.0}/s = {:.1} MB/s received, {lost} lost", per_second * *size as f64 / 1e6)
        }
    }
}

fn line(name: &str, measured: &Measured) -> Value {
    match measured {
        Measured::RoundTrip(histogram) => {
            json!({ "bench": "floor", "what": name, "round_trip": report::percentiles(histogram) })
        }
        Measured::Stream { per_second, size, lost } => json!({
            "bench": "floor", "what": name, "size": size, "messages_per_second": per_second,
            "megabytes_per_second": per_second * *size as f64 / 1e6, "lost": lost,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How fast is another matter; here only that each gives something and ends.
    #[test]
    fn every_measurement_in_memory_and_by_unicast_gives_samples() {
        let mut tried = 0;
        for (name, measure) in measurements() {
            if name.contains("multicast") || name.contains("GSO") {
                continue;
            }
            match measure(Duration::from_millis(50)).unwrap_or_else(|error| panic!("{name}: {error}")) {
                Measured::RoundTrip(histogram) => assert!(!histogram.is_empty(), "{name}"),
                Measured::Stream { per_second, .. } => assert!(per_second > 0.0, "{name}"),
            }
            tried += 1;
        }
        assert!(tried >= 9);
    }
}
