//! `view-change`: under load, one member is killed, and the survivors tell when they have the next view; then a newcomer
//! joins and tells when it has the state. The oldest member (the sequencer), the youngest and others die in turn.

use crate::fleet::Fleet;
use crate::now_ns;
use crate::report;
use crate::talk::{KindName, Order, Report};
use crate::throughput::Load;
use clap::Args;
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// The arguments.
#[derive(Args, Clone, Debug)]
pub struct ViewChange {
    #[command(flatten)]
    load: Load,
    /// Deaths and joins.
    #[arg(long, default_value_t = 10)]
    rounds: u16,
    /// Messages a second of each member; 0 = as many as the window takes.
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// Bytes of the group's state.
    #[arg(long, default_value_t = 1 << 20)]
    state: usize,
    /// No load at all: the members only wait.
    #[arg(long)]
    no_load: bool,
}

/// What the rounds took.
struct Times {
    kill: Histogram<u64>,
    kill_last: Histogram<u64>,
    exit: Histogram<u64>,
    started: Histogram<u64>,
    admitted: Histogram<u64>,
    joined: Histogram<u64>,
    whole: Histogram<u64>,
    transfer: Histogram<u64>,
}

/// Runs it.
pub fn run(args: &ViewChange) -> Result<(), String> {
    let mut fleet = Fleet::new()?;
    if args.load.members < 2 {
        return Err("--members must be at least 2".to_owned());
    }
    let start = args.load.start(&fleet, args.rate, false, args.state)?;
    for _ in 0..args.load.members {
        fleet.start(&start)?;
    }
    fleet.assemble()?;
    if !args.no_load {
        fleet.order_all(&Order::Load)?;
    }
    let new = report::histogram;
    let mut times = Times {
        kill: new(),
        kill_last: new(),
        exit: new(),
        started: new(),
        admitted: new(),
        joined: new(),
        whole: new(),
        transfer: new(),
    };
    for round in 0..args.rounds {
        std::thread::sleep(Duration::from_millis(300));
        while fleet.hear(Duration::ZERO)?.is_some() {}
        let rank = [0, args.load.members - 1, args.load.members / 2][usize::from(round) % 3];
        kill(&mut fleet, rank, &mut times)?;
        std::thread::sleep(Duration::from_millis(200));
        while fleet.hear(Duration::ZERO)?.is_some() {}
        let index = fleet.start(&start)?;
        join(&mut fleet, index, &mut times)?;
        if !args.no_load {
            fleet.order(index, &Order::Load)?;
        }
        if !args.load.json {
            crate::progress(&format!(
                "  round {} of {}: kill → view {}, join → view {}",
                round + 1,
                args.rounds,
                report::time_text(times.kill.value_at_quantile(0.5)),
                report::time_text(times.whole.value_at_quantile(0.5))
            ));
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    let (checked, _) = fleet.settle(args.load.kind == KindName::Total)?;
    fleet.quit()?;
    let text = [
        match args.no_load {
            true => format!("{}, idle, state {} B", args.load.text(), args.state),
            false => format!("{}, each sending {} a second, state {} B", args.load.text(), args.rate, args.state),
        },
        format!("  kill -9 → next view, at each survivor: {}", report::percentile_text(&times.kill)),
        format!("  kill -9 → next view, at the last survivor: {}", report::percentile_text(&times.kill_last)),
        format!("  of that, until the kernel reports the exit: {}", report::percentile_text(&times.exit)),
        format!("  newcomer opens the library → first view, state included: {}", report::percentile_text(&times.whole)),
        format!("  of that, until admitted to the system: {}", report::percentile_text(&times.admitted)),
        format!("  of that, from there to the first view: {}", report::percentile_text(&times.joined)),
        format!("  of that, first to last block of the state: {}", report::percentile_text(&times.transfer)),
        format!("  before that, from the start of its process: {}", report::percentile_text(&times.started)),
        format!("  {checked} messages checked at each member: no loss, no repetition, order kept, state handed over"),
    ];
    let value = json!({
        "members": args.load.members, "size": args.load.size, "kind": args.load.kind, "mode": args.load.mode,
        "transport": args.load.transport, "rounds": args.rounds, "rate": args.rate, "no_load": args.no_load, "state": args.state,
        "kill_to_exit": report::percentiles(&times.exit),
        "kill_to_view": report::percentiles(&times.kill), "kill_to_last_view": report::percentiles(&times.kill_last),
        "start_to_open": report::percentiles(&times.started), "open_to_admitted": report::percentiles(&times.admitted),
        "admitted_to_view": report::percentiles(&times.joined), "open_to_view": report::percentiles(&times.whole),
        "state_transfer": report::percentiles(&times.transfer), "checked": checked,
    });
    report::publish(args.load.json, "view-change", &text, value);
    Ok(())
}

fn kill(fleet: &mut Fleet, rank: u16, times: &mut Times) -> Result<(), String> {
    let victim = fleet.of_rank(rank).ok_or("a rank without a member")?;
    let left = fleet.alive().len() - 1;
    let exit = ExitWatch::start(fleet.pid(victim))?;
    let at = fleet.kill(victim)?;
    let mut seen = BTreeMap::new();
    fleet.until("the view after a death", |_, index, report| {
        if let Report::View { at: view_at, members, .. } = report
            && members.len() == left
        {
            seen.insert(index, view_at.saturating_sub(at));
        }
        seen.len() == left
    })?;
    times.exit.saturating_record(exit.seen()?.saturating_sub(at));
    for took in seen.values() {
        times.kill.saturating_record(*took);
    }
    times.kill_last.saturating_record(seen.values().copied().max().unwrap_or(0));
    Ok(())
}

/// Waits beside the driver until the kernel reports that a process has exited.
struct ExitWatch(std::thread::JoinHandle<Result<u64, String>>);

impl ExitWatch {
    fn start(pid: u32) -> Result<ExitWatch, String> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("a process without a number")?;
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("pidfd_open: {error}"))?;
        Ok(ExitWatch(std::thread::spawn(move || {
            let mut wanted = [PollFd::new(&process, PollFlags::IN)];
            poll(&mut wanted, None).map_err(|error| format!("poll: {error}"))?;
            Ok(now_ns())
        })))
    }

    fn seen(self) -> Result<u64, String> {
        self.0.join().map_err(|_| "the thread that waits for an exit panicked".to_owned())?
    }
}

fn join(fleet: &mut Fleet, index: usize, times: &mut Times) -> Result<(), String> {
    let started = fleet.started_at(index);
    let (mut opened, mut admitted) = (started, started);
    let mut state = None;
    fleet.until("the first view of a joiner", |_, from, report| {
        match report {
            _ if from != index => (),
            Report::Opened { at } => opened = *at,
            Report::Admitted { at, .. } => admitted = *at,
            Report::State { first_at, at, .. } => state = Some((*first_at, *at)),
            Report::View { at, .. } => {
                times.started.saturating_record(opened.saturating_sub(started));
                times.admitted.saturating_record(admitted.saturating_sub(opened));
                times.whole.saturating_record(at.saturating_sub(opened));
                times.joined.saturating_record(at.saturating_sub(admitted));
                return true;
            }
            _ => (),
        }
        false
    })?;
    let (first_at, at) = state.ok_or("a joiner got no state")?;
    times.transfer.saturating_record(at - first_at);
    fleet.assemble()
}
