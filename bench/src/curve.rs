//! `curve`: latency under load. Each sender has a fixed timetable; a message's time runs from when it was due, not from when
//! it could be sent. So a pause of the system counts for all messages that fell due in it, not for one (coordinated
//! omission), and a rate that the system cannot keep up with shows as what it is.

use crate::compare::plot;
use crate::fleet::Fleet;
use crate::report::{self, Lines};
use crate::throughput::{self, Load};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;
use std::path::PathBuf;

/// The arguments.
#[derive(Args, Clone, Debug)]
pub struct Curve {
    #[command(flatten)]
    load: Load,
    /// Messages a second of all senders together; may be repeated. Default: shares of what full speed gave.
    #[arg(long = "rate", value_name = "RATE")]
    rates: Vec<u64>,
    /// How many of the members send; default all.
    #[arg(long)]
    senders: Option<u16>,
    /// Seconds at each rate.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Appends a line of JSON for each rate to this file.
    #[arg(long, value_name = "FILE")]
    ndjson: Option<PathBuf>,
    /// Draws p50, p99 and p99.9 against the rate.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Shares of full speed in percent.
const SHARES: [u64; 8] = [1, 5, 10, 25, 50, 70, 80, 90];
/// Below this share of what was offered the system did not keep up.
const KEPT_UP: f64 = 0.95;
/// The curves that are drawn.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Runs it.
pub fn run(args: &Curve) -> Result<(), String> {
    let senders = args.senders.unwrap_or(args.load.members).clamp(1, args.load.members);
    let slowest = |rates: &[f64]| rates.iter().copied().fold(f64::INFINITY, f64::min);
    let mut lines = Lines::open(args.ndjson.as_deref())?;
    let host = report::host();
    report::warn_if_busy(&host);
    let host = report::host_text(&host);
    crate::say(&format!("{}, {senders} sending, {} s at each rate", args.load.text(), args.seconds));
    let mut rates = args.rates.clone();
    if rates.is_empty() {
        let full = slowest(&throughput::measure(&args.load, senders, 0, args.seconds, false)?.rates);
        crate::say(&format!("  full speed: {full:.0}/s; the rates are shares of it"));
        rates = SHARES.iter().map(|share| (full as u64 * share / 100).max(1)).collect();
    }
    let mut points: Vec<(f64, Histogram<u64>)> = Vec::new();
    for rate in rates {
        let each = (rate / u64::from(senders)).max(1);
        let mut fleet = Fleet::new()?;
        let mut start = args.load.start(&fleet, each, false, 0)?;
        start.timetable = true;
        let measured = throughput::measure_started(&mut fleet, &args.load, &start, senders, args.seconds, false)?;
        let offered = each * u64::from(senders);
        let achieved = slowest(&measured.rates);
        let kept_up = achieved >= offered as f64 * KEPT_UP;
        crate::say(&format!(
            "  {offered}/s offered, {achieved:.0}/s delivered{}: {}",
            if kept_up { "" } else { " (did not keep up)" },
            report::percentile_text(&measured.latency)
        ));
        lines.write(&json!({
            "bench": "curve", "system": "isis", "transport": args.load.transport, "options": args.load.options,
            "kind": args.load.kind, "mode": args.load.mode, "idle": args.load.idle, "size": args.load.size,
            "members": args.load.members, "senders": senders, "seconds": args.seconds, "offered_per_second": offered,
            "messages_per_second": achieved, "kept_up": kept_up, "cpu_us_per_multicast": measured.cpu_us,
            "checked": measured.checked, "due_to_own_delivery": report::percentiles(&measured.latency),
        }))?;
        points.push((offered as f64, measured.latency));
    }
    crate::say(&format!("(curve; {host})"));
    if let Some(path) = &args.svg {
        let curves: Vec<(String, Vec<(f64, f64)>)> = QUANTILES
            .iter()
            .map(|(name, quantile)| {
                let at = |latency: &Histogram<u64>| latency.value_at_quantile(*quantile) as f64 / 1e3;
                let curve = points.iter().filter(|point| !point.1.is_empty());
                ((*name).to_owned(), curve.map(|(rate, latency)| (*rate, at(latency))).collect())
            })
            .collect();
        plot::curves(path, &curves, &format!("latency under load: {}", args.load.text()), &host)?;
        crate::say(&format!("drawn: {}", path.display()));
    }
    Ok(())
}
