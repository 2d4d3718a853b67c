//! `latency`: one message at a time at light load, from send to own delivery; once from the youngest member, whose ABCASTs
//! the oldest one orders, and once from the oldest. The task of ordering does not move, unless an option says so.

use crate::fleet::Fleet;
use crate::report;
use crate::talk::{KindName, Order};
use crate::throughput::Load;
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;
use std::time::Duration;

/// The arguments.
#[derive(Args, Clone, Debug)]
pub struct Latency {
    #[command(flatten)]
    load: Load,
    /// Messages a second (the next one waits for the last one in any case).
    #[arg(long, default_value_t = RATE)]
    rate: u64,
    /// Seconds to measure, for each of the two senders.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

/// The oldest member orders; what the caller sets comes later, and counts.
const STAYS: &str = "sequencer_moves_after=0";

/// Messages a second, unless another rate is wanted.
pub const RATE: u64 = 5_000;

/// The member of this rank sends one at a time: from send to own delivery, and how many messages were checked.
pub fn measure(load: &Load, rank: u16, rate: u64, seconds: u64) -> Result<(Histogram<u64>, u64), String> {
    let mut fleet = Fleet::new()?;
    let mut load = load.clone();
    load.options.insert(0, STAYS.to_owned());
    let start = load.start(&fleet, rate.clamp(1, 1_000_000), true, 0)?;
    for _ in 0..load.members {
        fleet.start(&start)?;
    }
    fleet.assemble()?;
    let index = fleet.of_rank(rank).ok_or("a rank without a member")?;
    fleet.order(index, &Order::Load)?;
    std::thread::sleep(Duration::from_millis(300));
    fleet.order_all(&Order::Measure)?;
    std::thread::sleep(Duration::from_secs(seconds.clamp(1, 600)));
    let measured = fleet.measured()?;
    let (checked, _) = fleet.settle(load.kind == KindName::Total)?;
    fleet.quit()?;
    let mut latency = report::histogram();
    for one in &measured {
        latency.add(&one.histogram).map_err(|error| format!("{error:?}"))?;
    }
    Ok((latency, checked))
}

/// Runs it.
pub fn run(args: &Latency) -> Result<(), String> {
    let mut text = vec![format!(
        "{}, one at a time, at most {} a second, idle: {:?}",
        args.load.text(),
        args.rate,
        args.load.idle
    )];
    let mut results = Vec::new();
    for (name, last) in [("youngest member", true), ("oldest member (the sequencer)", false)] {
        let rank = if last { args.load.members - 1 } else { 0 };
        let (latency, checked) = measure(&args.load, rank, args.rate, args.seconds)?;
        text.push(format!("  from the {name}: {}; {checked} checked", report::percentile_text(&latency)));
        results.push(json!({ "rank": rank, "latency": report::percentiles(&latency), "checked": checked }));
    }
    let value = json!({
        "members": args.load.members, "size": args.load.size, "kind": args.load.kind, "mode": args.load.mode,
        "transport": args.load.transport, "seconds": args.seconds, "rate": args.rate, "idle": args.load.idle, "send_to_own_delivery": results,
    });
    report::publish(args.load.json, "latency", &text, value);
    Ok(())
}
