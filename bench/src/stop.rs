//! `stop`: all members send as fast as the window takes; one is stopped (SIGSTOP) for a while, then resumed. The memory of
//! all of them must stay within what the options' documentation allows, and in the end everything is delivered.

use crate::fleet::Fleet;
use crate::report;
use crate::talk::{KindName, ModeName, Order};
use crate::throughput::Load;
use clap::Args;
use isis_protocol::pending::Pending;
use isis_protocol::stream::Batch;
use isis_runtime::Options;
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

/// The arguments.
#[derive(Args, Clone, Debug)]
pub struct Stop {
    #[command(flatten)]
    load: Load,
    /// Seconds that the member is stopped.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Program, libraries and stacks of a process.
const BASE: u64 = 10 << 20;
/// The system group's chunks: two for each member's stream, and the same of the view before.
const SYSTEM: u64 = 4 * (64 << 10);
/// What is known about a message between its arrival and the application, at worst (each a batch of its own): an entry in the
/// queue of its stream, then one among the events. Both have grown by doubling, and stay as large as they once were.
const BOOKKEEPING: u64 = 2 * (size_of::<Batch>() + size_of::<Pending>()) as u64;

/// What the documentation of the options (docs/memory.md) allows a member of one group (and of the system group) to use.
fn bound(options: &Options, members: u64, size: usize) -> u64 {
    let mut config = isis_protocol::Config::new(0, Default::default(), Default::default(), Default::default());
    (config.window, config.fragment, config.max_message) = (options.window, options.fragment, options.max_message);
    let messages = options.window / (8 + size as u64).next_multiple_of(8);
    let streams = config.memory_bound(members as usize, size..=size, isis_protocol::TotalOrder::Sequencer).total()
        + members * SYSTEM;
    let bookkeeping = members * messages * BOOKKEEPING;
    let rings = match options.mode {
        isis_runtime::Mode::Inline => 0,
        isis_runtime::Mode::Threaded => (options.command_ring + options.event_ring + 2 * options.group_backlog) as u64,
    };
    BASE + streams + bookkeeping + rings
}

/// Runs it.
pub fn run(args: &Stop) -> Result<(), String> {
    let mut fleet = Fleet::new()?;
    let start = args.load.start(&fleet, 0, false, 0)?;
    let mut options = Options::new();
    options.mode = match args.load.mode {
        ModeName::Inline => isis_runtime::Mode::Inline,
        ModeName::Threaded => isis_runtime::Mode::Threaded,
    };
    for (name, value) in &start.options {
        options.set(name, value).map_err(|error| error.to_string())?;
    }
    let bound = bound(&options, u64::from(args.load.members), args.load.size);
    for _ in 0..args.load.members {
        fleet.start(&start)?;
    }
    fleet.assemble()?;
    fleet.order_all(&Order::Load)?;
    let mut peak = 0;
    watch(&mut fleet, "full speed", 3, &mut peak)?;
    let before = peak;
    let victim = fleet.of_rank(args.load.members - 1).ok_or("a rank without a member")?;
    fleet.signal(victim, Signal::STOP)?;
    let stopped = watch(&mut fleet, "one member is stopped", args.seconds.clamp(1, 3600), &mut peak);
    fleet.signal(victim, Signal::CONT)?;
    stopped?;
    watch(&mut fleet, "resumed", 5, &mut peak)?;
    let (checked, _) = fleet.settle(args.load.kind == KindName::Total)?;
    fleet.quit()?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let text = [
        format!("{}, all sending, one stopped for {} s and resumed", args.load.text(), args.seconds),
        format!("  most memory of a member: {:.1} MiB before, {:.1} MiB in all", mib(before), mib(peak)),
        format!("  allowed: {:.1} MiB (program {:.0} MiB, and windows and rings)", mib(bound), mib(BASE)),
        format!("  {checked} messages checked at each member: no loss, no repetition, order kept"),
    ];
    let value = json!({
        "members": args.load.members, "size": args.load.size, "kind": args.load.kind, "mode": args.load.mode,
        "seconds": args.seconds, "peak_bytes_before": before, "peak_bytes": peak, "bound_bytes": bound,
        "checked": checked,
    });
    report::publish(args.load.json, "stop", &text, value);
    if peak > bound {
        return Err(format!("a member used {:.1} MiB, {:.1} are allowed", mib(peak), mib(bound)));
    }
    Ok(())
}

/// Looks at the memory of all members for so many seconds.
fn watch(fleet: &mut Fleet, what: &str, seconds: u64, peak: &mut u64) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut told = Instant::now();
    while Instant::now() < end {
        fleet.hear(Duration::from_millis(100))?;
        let most = fleet.alive().into_iter().map(|index| report::resident(fleet.pid(index))).max().unwrap_or(0);
        *peak = (*peak).max(most);
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            crate::progress(&format!("  {what}: most memory of a member {} KiB", most >> 10));
        }
    }
    Ok(())
}
