//! A large group of real processes on this host: all join at one moment, all multicast, one is killed, all multicast again;
//! and the checker over what they saw. It counts what a member sends when nobody says anything.
//!
//! ```text
//! start ─► all joined? ─► all multicast ─► quiet ─► kill one ─► the rest agree? ─► all multicast ─► End ─► checker
//! ```
//! Owner: the program. They meet over the site link, and send over the loopback interface: no root needed, and no faults but
//! those of a machine with fewer processors than members.

use crate::evidence;
use crate::fleet::{Fleet, Settings};
use crate::hosts::Hosts;
use crate::plan::Plan;
use isis_processes::{Directory, now_ns};
use isis_protocol::Config;
use isis_protocol::id::{Nonce, SiteKey};
use isis_protocol::random::Random;
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_tests::checker::{self, Limits};
use isis_tests::sim::network::address;
use isis_tests::trace::{Event, Process, Trace};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is asked for.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Arguments {
    /// How many processes, all in one group.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(2..=64))]
    members: u64,
    /// Draws who is killed, and how each process runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seconds each step may take.
    #[arg(long, default_value_t = 120)]
    patience: u64,
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Seconds until all were in the group, until all had delivered what all multicast, and from the death of one until the
    /// rest had agreed on a view without it.
    pub took_s: [f64; 3],
    /// Packets that one member sent until all were in the group (a multicast is one).
    pub joining: u64,
    /// Packets that one member sent a second when nobody said anything, and how many it may send.
    pub quiet: [u64; 2],
    /// Views of the group and deliveries that were told.
    pub seen: [u64; 2],
    /// What is wrong.
    pub wrong: Vec<String>,
}

/// Counting goes on so long.
const QUIET_NS: u64 = 3 * SECOND;

/// How many packets a second one of so many members may send when nobody says anything. Everybody hears of everybody's
/// heartbeat: in a small view by a multicast, in a large one by a digest for each power of two below its size. Twice that is
/// allowed, for what is said besides. It is not a multiple of the members: that is what shows here.
fn quiet_bound(members: usize) -> u64 {
    let defaults = Config::new(0, Nonce(0), SiteKey(0), address(0));
    let levels = if members > defaults.direct_rows { u64::from(members.next_power_of_two().ilog2()) } else { 1 };
    2 * levels * (SECOND / defaults.heartbeat_ns)
}

/// Runs, checks, and cleans up.
pub fn run(wanted: &Arguments) -> Result<Report, String> {
    let directory = Directory::new("isis-crowd-").map_err(|error| error.to_string())?;
    let traces = directory.path().to_owned();
    let members = wanted.members as usize;
    let plan = Plan { hosts: 1, places: vec![0; members], clients: vec![false; members], faults: Vec::new() };
    let settings = Settings {
        seed: wanted.seed,
        directory: traces.clone(),
        expected: false,
        pause_ns: SECOND,
        second_group: false,
        one_domain: false,
        mutant: None,
    };
    let mut fleet = Fleet::new(Hosts::this_one(), &plan, settings);
    // They say nothing of themselves.
    fleet.quiet = true;
    let begin = now_ns();
    let mut report = Report::default();
    if let Err(error) = go(&mut fleet, wanted, &mut report) {
        report.wrong.push(error);
    }
    report.wrong.append(&mut fleet.wrong);
    let (records, started) = (fleet.records.clone(), fleet.started());
    // Nobody writes any more after this.
    drop(fleet);
    let (trace, unread) = evidence::merge(&traces, started, records, begin);
    report.wrong.extend(unread);
    let violations = checker::check(&trace, Limits { stall_slack_ns: 2 * SECOND, ..Limits::default() });
    if !violations.is_empty() {
        report.wrong.push(format!("{} violations\n{}", violations.len(), checker::report(&trace, &violations, 8)));
    }
    judge(&trace, members, &mut report);
    if !report.wrong.is_empty() {
        let wrong = format!("{wanted:?}\n{}", report.wrong.join("\n"));
        let kept = evidence::keep(&traces, &trace, &violations, &wrong, &format!("crowd-{members}"))?;
        report.wrong.push(format!("traces kept in {}", kept.display()));
    }
    Ok(report)
}

fn go(fleet: &mut Fleet, wanted: &Arguments, report: &mut Report) -> Result<(), String> {
    let patience = Duration::from_secs(wanted.patience);
    let members = wanted.members;
    let seconds = |since: u64| (now_ns() - since) as f64 / SECOND as f64;
    let settle = |fleet: &mut Fleet, what: &str| match fleet.settle(patience)? {
        None => Ok(()),
        Some(why) => Err(format!("{what}: not after {} s: {why}", wanted.patience)),
    };
    let sent = |counters: BTreeMap<String, u64>| counters.get("packets_sent").copied().ok_or("nobody counts packets");
    let begin = now_ns();
    settle(fleet, "all are in the group")?;
    report.took_s[0] = seconds(begin);
    report.joining = sent(fleet.count(patience)?)? / members;
    let begin = now_ns();
    all_speak(fleet)?;
    settle(fleet, "all have what all said")?;
    report.took_s[1] = seconds(begin);
    let (before, began) = (sent(fleet.count(patience)?)?, now_ns());
    fleet.turn(began + QUIET_NS)?;
    let (after, ended) = (sent(fleet.count(patience)?)?, now_ns());
    let rate = u128::from(after - before) * u128::from(SECOND) / u128::from(ended - began);
    report.quiet = [rate as u64 / members, quiet_bound(members as usize)];
    if report.quiet[0] > report.quiet[1] {
        report.wrong.push(format!("a member sent {} packets a second when nobody said anything", report.quiet[0]));
    }
    let seat = Random::new(wanted.seed).below(members) as usize;
    let begin = now_ns();
    fleet.lose(seat)?;
    settle(fleet, "a view without the one that was killed")?;
    report.took_s[2] = seconds(begin);
    all_speak(fleet)?;
    fleet.note(Process::WORLD, Event::Healed);
    settle(fleet, "the rest have what the rest said")?;
    fleet.note(Process::WORLD, Event::End);
    fleet.close(patience)
}

/// Everybody multicasts one message of each order, one of them safe, and asks for a flush.
fn all_speak(fleet: &mut Fleet) -> Result<(), String> {
    fleet.tell_all("last")?;
    // The orders are on their way; what settled before them does not count.
    fleet.turn(now_ns() + 500 * MILLISECOND)
}

/// What has to be in the trace, or it shows nothing.
fn judge(trace: &Trace, members: usize, report: &mut Report) {
    let count = |is: &dyn Fn(&Event) -> bool| trace.records.iter().filter(|record| is(&record.event)).count();
    let views = count(&|event| matches!(event, Event::View { .. }));
    let whole = count(&|event| matches!(event, Event::View { view, .. } if view.members.len() == members));
    let rest = count(&|event| matches!(event, Event::View { view, .. } if view.members.len() == members - 1));
    let deliveries = count(&|event| matches!(event, Event::Deliver(_)));
    report.seen = [views as u64, deliveries as u64];
    if whole < members || rest + 1 < members {
        report.wrong.push(format!("{whole} were in a view of all {members}, {rest} in one without the killed one"));
    }
    // At least one multicast of each, to each: of all, then of all but one.
    let least = members * members + (members - 1) * (members - 1);
    if deliveries < least {
        report.wrong.push(format!("{deliveries} deliveries, {least} at least were to come"));
    }
}
