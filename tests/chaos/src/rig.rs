//! A run: hosts, switch and members, a fault every two seconds, healing, and the checker over the merged trace.
//!
//! ```text
//! start ─► faults ─► heal ─► settled? ─► last words ─► settled? ─► End ─► close ─► merge ─► checker
//! ```
//! Owner: the program.

use crate::evidence;
use crate::fleet::{Fleet, Settings};
use crate::hosts::Hosts;
use crate::plan::{Fault, Plan, Planned};
use crate::switch::{Link, Switch, Tally};
use isis_processes::{Directory, now_ns};
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_tests::checker::{self, Limits, Violation};
use isis_tests::trace::{Event, Process, Record, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How long there are faults.
    pub seconds: u64,
    /// Draws everything.
    pub seed: u64,
    /// How many processes.
    pub members: usize,
    /// How many of them are clients of the groups.
    pub clients: usize,
    /// All know how many hosts there are.
    pub expected: bool,
    /// Mean time between two actions of a member.
    pub pause_ns: u64,
    /// The two groups are in one domain of causality.
    pub one_domain: bool,
    /// A planted bug that all members have.
    pub mutant: Option<&'static str>,
    /// How long settling may take after the faults.
    pub patience: Duration,
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What became of the frames.
    pub tally: Tally,
    /// Processes that were started, that were evicted, and acts of the operator.
    pub processes: [u64; 3],
    /// Group views, system views and deliveries that were told.
    pub seen: [u64; 3],
    /// Multicasts that were sent.
    pub sent: u64,
    /// Of clients: registrations, multicasts that completed, replies and messages to them.
    pub of_clients: [u64; 3],
    /// Packets that the engine's checksum refused.
    pub bad_checksums: u64,
    /// What is wrong.
    pub wrong: Vec<String>,
    /// Where the traces are, if something is.
    pub kept: Option<PathBuf>,
    /// Seconds from the healing until all had settled.
    pub settled_after_s: f64,
}

struct Rig {
    plan: Plan,
    switch: Switch,
    fleet: Fleet,
    active: Vec<(u64, Fault)>,
    report: Report,
}

/// Runs, checks, and cleans up.
pub fn run(wanted: Wanted) -> Result<Report, String> {
    let directory = Directory::new("isis-chaos-").map_err(|error| error.to_string())?;
    let traces = directory.path().to_owned();
    let plan = Plan::draw(wanted.seed, wanted.seconds, wanted.members, wanted.clients);
    for host in 0..plan.hosts {
        std::fs::create_dir(traces.join(format!("state-{host}"))).map_err(|error| error.to_string())?;
    }
    let (hosts, taps) = Hosts::make(plan.hosts)?;
    let switch = Switch::start(taps, wanted.seed);
    let settings = Settings {
        seed: wanted.seed,
        directory: traces.clone(),
        expected: wanted.expected,
        pause_ns: wanted.pause_ns,
        second_group: true,
        one_domain: wanted.one_domain,
        mutant: wanted.mutant,
    };
    let fleet = Fleet::new(hosts, &plan, settings);
    let mut rig = Rig { plan, switch, fleet, active: Vec::new(), report: Report::default() };
    let begin = now_ns();
    if let Err(error) = rig.go(begin, wanted) {
        rig.report.wrong.push(error);
    }
    rig.report.wrong.append(&mut rig.fleet.wrong);
    let Rig { fleet, switch, mut report, .. } = rig;
    report.tally = switch.tally();
    report.processes = [fleet.started() as u64, fleet.evicted, fleet.operated];
    report.bad_checksums = fleet.counters.get("ignore_bad_checksum").copied().unwrap_or(0);
    let (records, started) = (fleet.records.clone(), fleet.started());
    // Nobody writes any more after this.
    drop(fleet);
    let (trace, unread) = evidence::merge(&traces, started, records, begin);
    report.wrong.extend(unread);
    let violations = judge(&trace, wanted, &mut report);
    if !report.wrong.is_empty() {
        let wrong = format!("{wanted:?}\n{}", report.wrong.join("\n"));
        report.kept = Some(evidence::keep(&traces, &trace, &violations, &wrong, &format!("chaos-{}", wanted.seed))?);
    }
    Ok(report)
}

/// Counts what is in the trace, and checks it.
fn judge(trace: &Trace, wanted: Wanted, report: &mut Report) -> Vec<Violation> {
    let count = |is: fn(&Event) -> bool| trace.records.iter().filter(|r| is(&r.event)).count() as u64;
    report.seen = [
        count(|e| matches!(e, Event::View { .. })),
        count(|e| matches!(e, Event::SystemView(_))),
        count(|e| matches!(e, Event::Deliver(_))),
    ];
    report.sent = count(|e| matches!(e, Event::Send { .. }));
    let mut client_joins: BTreeSet<(Process, u16)> = BTreeSet::new();
    for record in &trace.records {
        if let Event::JoinCall { join, client: true, .. } = record.event {
            client_joins.insert((record.process, join));
        }
    }
    let to_client = |record: &&Record| match &record.event {
        Event::Deliver(it) => client_joins.contains(&(record.process, it.join)),
        _ => false,
    };
    report.of_clients = [
        count(|e| matches!(e, Event::Registered { .. })),
        count(|e| matches!(e, Event::Completed { .. })),
        trace.records.iter().filter(to_client).count() as u64,
    ];
    let limits = Limits {
        expected_sites: if wanted.expected { Plan::draw(wanted.seed, 0, wanted.members, 0).hosts } else { 0 },
        across_groups: wanted.one_domain,
        // The machine may be busy with other things.
        stall_slack_ns: 2 * SECOND,
        ..Limits::default()
    };
    let violations = checker::check(trace, limits);
    if !violations.is_empty() {
        report.wrong.push(format!("{} violations\n{}", violations.len(), checker::report(trace, &violations, 8)));
    }
    violations
}

impl Rig {
    fn go(&mut self, begin: u64, wanted: Wanted) -> Result<(), String> {
        let faults = std::mem::take(&mut self.plan.faults);
        for planned in faults {
            self.until(begin + planned.at_ns)?;
            self.strike(begin, planned)?;
        }
        self.until(begin + wanted.seconds * SECOND)?;
        self.heal()?;
        let healed = now_ns();
        if let Some(why) = self.fleet.settle(wanted.patience)? {
            self.fleet.note(Process::WORLD, Event::End);
            return Err(format!("not settled {} s after the faults: {why}", wanted.patience.as_secs()));
        }
        self.report.settled_after_s = (now_ns() - healed) as f64 / SECOND as f64;
        self.fleet.tell_all("last")?;
        // The orders are on their way; what settled before them does not count.
        self.fleet.turn(now_ns() + SECOND)?;
        let late = self.fleet.settle(wanted.patience)?;
        self.fleet.note(Process::WORLD, Event::End);
        if let Some(why) = late {
            return Err(format!("the last words did not settle: {why}"));
        }
        self.fleet.close(Duration::from_secs(20))
    }

    /// Lets time pass; faults end when it is their time.
    fn until(&mut self, limit: u64) -> Result<(), String> {
        loop {
            let next = self.active.iter().map(|(end, _)| *end).min().unwrap_or(u64::MAX).min(limit);
            self.fleet.turn(next)?;
            let now = now_ns();
            let (over, active) = std::mem::take(&mut self.active).into_iter().partition(|(end, _)| *end <= now);
            self.active = active;
            self.over(over)?;
            if now >= limit {
                return Ok(());
            }
        }
    }

    fn strike(&mut self, begin: u64, planned: Planned) -> Result<(), String> {
        let Planned { at_ns, lasts_ns, fault } = planned;
        *self.report.faults.entry(fault.kind()).or_default() += 1;
        let text = format!("{fault} for {} ms", lasts_ns / MILLISECOND);
        self.fleet.note(Process::WORLD, Event::World(text));
        match &fault {
            Fault::Weather(..) | Fault::Cut(..) => (),
            Fault::Stop(seats) => seats.iter().try_for_each(|seat| self.fleet.stop(*seat))?,
            Fault::Kill(seats) => seats.iter().try_for_each(|seat| self.fleet.kill(*seat))?,
            Fault::Lag(seat, gap) => self.fleet.tell(*seat, &format!("lag {gap}"))?,
            Fault::Rejoin(seat) => self.fleet.tell(*seat, "rejoin")?,
        }
        self.active.push((begin + at_ns + lasts_ns, fault));
        self.weather();
        Ok(())
    }

    fn over(&mut self, faults: Vec<(u64, Fault)>) -> Result<(), String> {
        for (_, fault) in &faults {
            self.fleet.note(Process::WORLD, Event::World(format!("{fault} is over")));
            match fault {
                Fault::Weather(..) | Fault::Cut(..) | Fault::Rejoin(_) => (),
                Fault::Stop(seats) => seats.iter().try_for_each(|seat| self.fleet.wake(*seat))?,
                Fault::Kill(seats) => seats.iter().for_each(|seat| self.fleet.start_later(*seat, 0)),
                Fault::Lag(seat, _) => self.fleet.tell(*seat, "lag 0")?,
            }
        }
        self.weather();
        Ok(())
    }

    /// Puts the links as the faults that last have them: the worst of each.
    fn weather(&self) {
        let hosts = self.plan.hosts;
        let mut links = vec![vec![Link::default(); hosts]; hosts];
        for (_, fault) in &self.active {
            let (pairs, bad) = match fault {
                Fault::Weather(_, pairs, link) => (pairs, *link),
                Fault::Cut(_, pairs) => (pairs, Link { cut: true, ..Link::default() }),
                _ => continue,
            };
            for (from, row) in links.iter_mut().enumerate() {
                for (to, link) in row.iter_mut().enumerate() {
                    if pairs.is_empty() || pairs.contains(&(from, to)) {
                        *link = link.worse(bad);
                    }
                }
            }
        }
        self.switch.put(links);
    }

    /// All faults end, and everybody comes back.
    fn heal(&mut self) -> Result<(), String> {
        let active = std::mem::take(&mut self.active).into_iter().collect();
        self.over(active)?;
        self.fleet.quiet = true;
        self.fleet.tell_all("quiet")?;
        self.fleet.note(Process::WORLD, Event::Healed);
        Ok(())
    }
}
