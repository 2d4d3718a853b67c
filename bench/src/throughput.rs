//! `throughput`: members send as fast as the window takes; deliveries a second at each.

use crate::fleet::{Fleet, LEAST_SIZE};
use crate::report;
use crate::talk::{IdleName, KindName, ModeName, Order, Start};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// What all benches over a group take.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// Member processes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub members: u16,
    /// Payload bytes of a message (at least 16: number and time).
    #[arg(long, default_value_t = 64)]
    pub size: usize,
    /// Ordering.
    #[arg(long, value_enum, default_value = "total")]
    pub kind: KindName,
    /// Who turns the loop.
    #[arg(long, value_enum, default_value = "inline")]
    pub mode: ModeName,
    /// What an inline member does while there is nothing to do.
    #[arg(long, value_enum, default_value = "wait")]
    pub idle: IdleName,
    /// The transport: what the members of this host use by themselves, or the loopback interface.
    #[arg(long, default_value = "shared-memory", value_parser = ["shared-memory", "udp"])]
    pub transport: String,
    /// One line of JSON instead of text.
    #[arg(long)]
    pub json: bool,
    /// Sets an option of the library by name, as `window=2MiB`; may be repeated.
    #[arg(long = "option", value_name = "NAME=VALUE")]
    pub options: Vec<String>,
}

impl Load {
    /// What a member is started with.
    pub fn start(&self, fleet: &Fleet, rate: u64, ping: bool, state: usize) -> Result<Start, String> {
        if self.size < LEAST_SIZE {
            return Err(format!("--size must be at least {LEAST_SIZE}"));
        }
        let shared_memory = if self.transport == "udp" { "shared_memory=off" } else { "shared_memory=on" };
        let options = std::iter::once(shared_memory)
            .chain(self.options.iter().map(String::as_str))
            .map(|text| {
                text.split_once('=')
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .ok_or_else(|| format!("`{text}` is not NAME=VALUE"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Start {
            directory: fleet.directory(),
            mode: self.mode,
            kind: self.kind,
            size: self.size,
            rate,
            ping,
            answers: false,
            timetable: false,
            idle: self.idle,
            state,
            options,
        })
    }

    /// A line that tells the setting.
    pub fn text(&self) -> String {
        format!("{} members, {:?}, {} B, {:?}, {}", self.members, self.kind, self.size, self.mode, self.transport)
    }
}

/// The arguments.
#[derive(Args, Clone, Debug)]
pub struct Throughput {
    #[command(flatten)]
    load: Load,
    /// How many of the members send; default all.
    #[arg(long)]
    senders: Option<u16>,
    /// Messages a second of each sender; 0 = as many as the window takes.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Also print all counters of the first member.
    #[arg(long)]
    counters: bool,
}

/// What one run gave.
#[derive(Debug)]
pub struct Measured {
    /// Deliveries a second at each member.
    pub rates: Vec<f64>,
    /// Processor time per multicast over all processes, microseconds.
    pub cpu_us: f64,
    /// Send to own delivery.
    pub latency: Histogram<u64>,
    /// Messages checked at each member.
    pub checked: u64,
    /// The counters of the first member, if they were asked for.
    pub counters: BTreeMap<String, u64>,
}

/// One run: assembles the members, lets the first `senders` of them send, measures, and checks that all delivered all.
pub fn measure(load: &Load, senders: u16, rate: u64, seconds: u64, counters: bool) -> Result<Measured, String> {
    let mut fleet = Fleet::new()?;
    let start = load.start(&fleet, rate, false, 0)?;
    measure_started(&mut fleet, load, &start, senders, seconds, counters)
}

/// As [`measure`], with members that are started like this.
pub fn measure_started(
    fleet: &mut Fleet,
    load: &Load,
    start: &Start,
    senders: u16,
    seconds: u64,
    counters: bool,
) -> Result<Measured, String> {
    for _ in 0..load.members {
        fleet.start(start)?;
    }
    fleet.assemble()?;
    for rank in 0..senders {
        let index = fleet.of_rank(rank).ok_or("a rank without a member")?;
        fleet.order(index, &Order::Load)?;
    }
    std::thread::sleep(Duration::from_millis(500));
    fleet.order_all(&Order::Measure)?;
    std::thread::sleep(Duration::from_secs(seconds.clamp(1, 600)));
    let measured = fleet.measured()?;
    let (checked, _) = fleet.settle(load.kind == KindName::Total)?;
    let counters = if counters { fleet.counters(0)? } else { Default::default() };
    fleet.quit()?;
    let cpu: f64 = measured.iter().map(|m| m.cpu_ns as f64).sum::<f64>();
    let sent: u64 = measured.iter().map(|m| m.sent).sum();
    let mut latency = report::histogram();
    for one in &measured {
        latency.add(&one.histogram).map_err(|error| format!("{error:?}"))?;
    }
    Ok(Measured {
        rates: measured.iter().map(|m| m.delivered as f64 * 1e9 / m.elapsed_ns as f64).collect(),
        cpu_us: cpu / 1e3 / sent.max(1) as f64,
        latency,
        checked,
        counters,
    })
}

/// Runs it.
pub fn run(args: &Throughput) -> Result<(), String> {
    let senders = args.senders.unwrap_or(args.load.members).min(args.load.members);
    let measured = measure(&args.load, senders, args.rate, args.seconds, args.counters)?;
    let Measured { rates, cpu_us, latency, checked, counters } = measured;
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let megabytes = slowest * args.load.size as f64 / 1e6;
    let mut text = vec![
        format!("{}, {senders} sending for {} s", args.load.text(), args.seconds),
        format!("  delivered at each member: {slowest:.0} messages/s = {megabytes:.1} MB/s (the slowest one)"),
        format!("  send to own delivery under this load: {}", report::percentile_text(&latency)),
        format!("  processor: {cpu_us:.2} µs per multicast over all processes"),
        format!("  {checked} messages checked at each member: no loss, no repetition, order kept"),
    ];
    text.extend(counters.iter().filter(|(_, value)| **value > 0).map(|(name, value)| format!("    {name} {value}")));
    let value = json!({
        "members": args.load.members, "senders": senders, "size": args.load.size, "kind": args.load.kind,
        "mode": args.load.mode, "transport": args.load.transport, "seconds": args.seconds,
        "messages_per_second": slowest, "messages_per_second_each": rates, "megabytes_per_second": megabytes,
        "latency": report::percentiles(&latency), "cpu_us_per_multicast": cpu_us, "checked": checked,
        "counters": counters,
    });
    report::publish(args.load.json, "throughput", &text, value);
    Ok(())
}
