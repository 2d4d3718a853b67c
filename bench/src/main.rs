//! The benches: real processes on this host, over the loopback interface.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use isis_bench::{compare, curve, flood, floor, latency, member, roc, round_trip, stop, throughput, view_change};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "isis-bench", version, about = "Measures the ISIS engine between real processes on this host")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Deliveries a second, with order and loss checked.
    Throughput(throughput::Throughput),
    /// One message at a time, from send to own delivery.
    Latency(latency::Latency),
    /// kill -9 to the next view; join to the state.
    ViewChange(view_change::ViewChange),
    /// Garbage at a member's open port while service goes on.
    Flood(flood::Flood),
    /// One member stopped and resumed at full speed: memory stays bounded.
    Stop(stop::Stop),
    /// The same work by ours and by rivals, in turn: ratios.
    Compare(compare::Compare),
    /// Latency against the rate that is offered.
    Curve(curve::Curve),
    /// What the machine gives at best: memory and bare sockets.
    Floor(floor::Floor),
    /// A message to all and an answer of each: ours, the bare machine's, and a rival's.
    RoundTrip(round_trip::RoundTrip),
    /// How long a silence has to be: wrong suspicions at full load against the time until a real silence is noticed.
    Roc(roc::Roc),
    /// A member process; started by the others.
    #[command(hide = true)]
    Member {
        /// What it is to do, as JSON.
        start: String,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().bench {
        Bench::Throughput(args) => throughput::run(&args),
        Bench::Latency(args) => latency::run(&args),
        Bench::ViewChange(args) => view_change::run(&args),
        Bench::Flood(args) => flood::run(&args),
        Bench::Stop(args) => stop::run(&args),
        Bench::Compare(args) => compare::run(&args),
        Bench::Curve(args) => curve::run(&args),
        Bench::Floor(args) => floor::run(&args),
        Bench::RoundTrip(args) => round_trip::run(&args),
        Bench::Roc(args) => roc::run(&args),
        Bench::Member { start } => return ExitCode::from(member::run(&start) as u8),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            isis_bench::progress(&format!("FAILED: {error}"));
            ExitCode::FAILURE
        }
    }
}
