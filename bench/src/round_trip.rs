//! `round-trip`: one message to all members and an answer of each of them, one at a time: the bare machine's (a ring in shared
//! memory, a multicast datagram), ours, and a rival's, in turn. Beside it, what an ABCAST takes to its own delivery at the
//! youngest member: while the oldest one orders, a message there and one back; and after the order has moved to it.

use crate::compare::contest::{CONTESTS, RIVALS};
use crate::compare::rival::{self, Work};
use crate::fleet::Fleet;
use crate::latency;
use crate::report::{self, Lines};
use crate::talk::{IdleName, KindName, ModeName, Order, Report};
use crate::throughput::Load;
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// The arguments.
#[derive(Args, Clone, Debug)]
pub struct RoundTrip {
    /// Member processes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=8))]
    members: u16,
    /// Payload bytes.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// What all go through.
    #[arg(long, default_value = "shared-memory", value_parser = ["shared-memory", "udp"])]
    transport: String,
    /// What members do while there is nothing to do.
    #[arg(long, value_enum, default_value = "yield")]
    idle: IdleName,
    /// Rounds, each of all systems in turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// Without Aeron, which takes minutes to build the first time.
    #[arg(long)]
    without_aeron: bool,
    /// Sets an option of our library, as `window=2MiB`; may be repeated.
    #[arg(long = "option", value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// Appends every single measurement to this file, one line of JSON each.
    #[arg(long, value_name = "FILE")]
    ndjson: Option<PathBuf>,
}

/// ABCASTs after which the task of ordering moves, where it does: within the time that is not measured.
const MOVES_AFTER: u32 = 100;

/// Who is measured, and how.
enum System {
    /// A program in `bench/rivals`, and its transport.
    Rival(PathBuf, &'static str),
    /// Ours, ordered like this.
    Ours(KindName),
    /// One of our ABCASTs at a time, to its own delivery; whether the task of ordering moves.
    OwnDelivery(bool),
}

struct Row {
    name: String,
    system: System,
    medians: Vec<u64>,
    all: Histogram<u64>,
    failed: bool,
}

impl Row {
    fn new(name: &str, system: System) -> Row {
        Row { name: name.to_owned(), system, medians: Vec::new(), all: report::histogram(), failed: false }
    }

    fn median(&self) -> u64 {
        let mut sorted = self.medians.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    }
}

impl RoundTrip {
    /// The bare machine first: the others are given as multiples of it.
    fn rows(&self) -> Result<Vec<Row>, String> {
        let memory = self.transport == "shared-memory";
        let mut rows = Vec::new();
        for name in ["raw", "aeron"] {
            if name == "aeron" && self.without_aeron {
                continue;
            }
            let (Some(rival), Some(contest)) = (
                RIVALS.iter().find(|rival| rival.name == name),
                CONTESTS.iter().find(|contest| contest.rival == name && contest.shared_memory == memory),
            ) else {
                continue;
            };
            match rival::build(rival) {
                Ok(program) => {
                    let system = System::Rival(program, contest.transport);
                    rows.push(Row::new(&format!("{name} {}", contest.transport), system));
                }
                Err(error) if name == "raw" => return Err(error),
                Err(error) => crate::say(&format!("NOT COMPARED: {name}: {error}\n  needs: {}", rival.needs)),
            }
        }
        rows.insert(1, Row::new("isis, FBCASTs", System::Ours(KindName::Fifo)));
        rows.insert(2, Row::new("isis, ABCASTs", System::Ours(KindName::Total)));
        let own = |moves| System::OwnDelivery(moves);
        rows.insert(3, Row::new("isis, ABCAST of the youngest to its own delivery, ordered by the oldest", own(false)));
        rows.insert(4, Row::new("isis, the same after the order has moved to the youngest", own(true)));
        Ok(rows)
    }

    fn measure(&self, system: &System) -> Result<Histogram<u64>, String> {
        let load = |kind| Load {
            members: self.members,
            size: self.size,
            kind,
            mode: ModeName::Inline,
            idle: self.idle,
            transport: self.transport.clone(),
            json: false,
            options: self.options.clone(),
        };
        match system {
            System::Rival(program, transport) => {
                let work = Work {
                    transport,
                    members: self.members,
                    senders: 1,
                    answers: true,
                    spin: self.idle == IdleName::Spin,
                    size: self.size,
                    seconds: self.seconds,
                };
                rival::measure(program, &work).map(|sample| sample.latency)
            }
            System::Ours(kind) => ours(&load(*kind), self.seconds),
            System::OwnDelivery(moves) => {
                let mut load = load(KindName::Total);
                if *moves {
                    load.options.insert(0, format!("sequencer_moves_after={MOVES_AFTER}"));
                }
                latency::measure(&load, self.members - 1, latency::RATE, self.seconds).map(|found| found.0)
            }
        }
    }
}

/// Round trips between our members.
fn ours(load: &Load, seconds: u64) -> Result<Histogram<u64>, String> {
    let mut fleet = Fleet::new()?;
    let mut start = load.start(&fleet, 0, false, 0)?;
    start.answers = true;
    for _ in 0..load.members {
        fleet.start(&start)?;
    }
    fleet.assemble()?;
    let first = fleet.of_rank(0).ok_or("a rank without a member")?;
    fleet.order(first, &Order::Load)?;
    std::thread::sleep(Duration::from_millis(300));
    fleet.order_all(&Order::Measure)?;
    std::thread::sleep(Duration::from_secs(seconds.clamp(1, 600)));
    let measured = fleet.measured()?;
    fleet.order(first, &Order::Hush)?;
    let mut asked = 0;
    fleet.until("the number of questions", |_, _, report| {
        if let Report::Sent { count, .. } = report {
            asked = *count;
        }
        asked > 0
    })?;
    // Every other member answers each of them.
    let sent = fleet.told.iter().filter_map(|told| told.process).map(|process| (process, asked)).collect();
    fleet.settled(&sent, load.kind == KindName::Total)?;
    fleet.quit()?;
    let mut all = report::histogram();
    for one in &measured {
        all.add(&one.histogram).map_err(|error| format!("{error:?}"))?;
    }
    Ok(all)
}

/// Runs it.
pub fn run(args: &RoundTrip) -> Result<(), String> {
    let mut rows = args.rows()?;
    let host = report::host();
    report::warn_if_busy(&host);
    let mut lines = Lines::open(args.ndjson.as_deref())?;
    for round in 0..args.rounds.max(1) {
        // The bare machine has to be there; a rival that does not do the work is left out from then on.
        for row in rows.iter_mut().filter(|row| !row.failed) {
            let histogram = match args.measure(&row.system) {
                Ok(histogram) => histogram,
                Err(error) if row.name.starts_with("aeron") => {
                    crate::say(&format!("NOT COMPARED: {}: {error}", row.name));
                    row.failed = true;
                    continue;
                }
                Err(error) => return Err(format!("{}: {error}", row.name)),
            };
            row.medians.push(histogram.value_at_quantile(0.5));
            row.all.add(&histogram).map_err(|error| format!("{error:?}"))?;
            lines.write(&json!({
                "bench": "round-trip", "system": row.name, "transport": args.transport, "members": args.members,
                "size": args.size, "idle": args.idle, "round": round, "round_trip": report::percentiles(&histogram),
            }))?;
        }
    }
    crate::say(&format!(
        "{} members, {} B, {}, idle: {:?}; round trips to the last answer, {} rounds of {} s each",
        args.members, args.size, args.transport, args.idle, args.rounds, args.seconds
    ));
    let floor = rows.first().map_or(0, Row::median).max(1);
    for row in rows.iter().filter(|row| !row.failed) {
        let times = row.median() as f64 / floor as f64;
        crate::say(&format!("  {}: {times:.1} times the first: {}", row.name, report::percentile_text(&row.all)));
    }
    crate::say(&format!("(round-trip; {})", report::host_text(&host)));
    Ok(())
}
