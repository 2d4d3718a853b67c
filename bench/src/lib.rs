//! What the benches and the demo share. Read in this order: [`talk`] (how a driver and its members speak), [`member`] (a
//! member process: load, checks, state), [`fleet`] (the driver's side), [`report`]
//! (histograms, the host, text and JSON), [`capture`] (recording packets and sending them again), then one module per
//! subcommand.
// One call of setsockopt, for the floor of UDP, is allowed where it stands.
#![deny(unsafe_code)]

pub mod capture;
pub mod compare;
pub mod curve;
pub mod fleet;
pub mod flood;
pub mod floor;
pub mod latency;
pub mod member;
pub mod plane;
pub mod report;
pub mod roc;
pub mod round_trip;
pub mod stop;
pub mod talk;
pub mod throughput;
pub mod view_change;

pub use isis_processes::now_ns;
use std::io::Write;

/// Prints a line to standard output at once. A reader that went away is no reason to fail.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Prints a line of progress to standard error.
pub fn progress(line: &str) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{line}");
}
