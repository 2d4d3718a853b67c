//! A run: hosts, switch and members, a fault every two seconds, healing, and the checker over the merged trace.
//!
//! ```text
//! start ─► faults ─► heal ─► settled? ─► last words ─► settled? ─► End ─► close ─► merge ─► checker
//! ```
//! Owner: the program. The merged trace is in the order of the monotonic clock, which all namespaces of a machine share:
//! a send is written before its call and a delivery after it, so that no message is delivered before it was sent.

use crate::fleet::{Fleet, Settings};
use crate::hosts::Hosts;
use crate::plan::{Fault, Plan, Planned};
use crate::switch::{Link, Switch, Tally};
use isis_processes::{Directory, now_ns};
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_tests::checker::{self, Limits, Violation};
use isis_tests::journal;
use isis_tests::trace::{Event, Process, Trace};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How long there are faults.
    pub seconds: u64,
    /// Draws everything.
    pub seed: u64,
    /// How many members.
    pub members: usize,
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
    let plan = Plan::draw(wanted.seed, wanted.seconds, wanted.members);
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
        one_domain: wanted.one_domain,
        mutant: wanted.mutant,
    };
    let fleet = Fleet::new(hosts, plan.hosts, &plan.places, settings);
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
    let (mut records, started) = (fleet.records.clone(), fleet.started());
    // Nobody writes any more after this.
    drop(fleet);
    let read = (0..started).try_for_each(|process| {
        let path = Fleet::journal(&traces, process);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // Killed before it began.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        records.extend(journal::read(Process(process as u32), &text)?);
        Ok(())
    });
    if let Err(error) = read {
        report.wrong.push(error);
    }
    let mut trace = Trace { records, packets: 0 };
    let violations = judge(&mut trace, begin, wanted, &mut report);
    if !report.wrong.is_empty() {
        report.kept = Some(keep(&traces, &trace, &violations, &report.wrong, wanted)?);
    }
    Ok(report)
}

/// Puts the records in order, and checks them.
fn judge(trace: &mut Trace, begin: u64, wanted: Wanted, report: &mut Report) -> Vec<Violation> {
    trace.records.sort_by_key(|record| record.time);
    if let Some(end) = trace.records.iter().position(|record| record.event == Event::End) {
        trace.records.truncate(end + 1);
    }
    trace.records.iter_mut().for_each(|record| record.time = record.time.saturating_sub(begin));
    let count = |is: fn(&Event) -> bool| trace.records.iter().filter(|r| is(&r.event)).count() as u64;
    report.seen = [
        count(|e| matches!(e, Event::View { .. })),
        count(|e| matches!(e, Event::SystemView(_))),
        count(|e| matches!(e, Event::Deliver(_))),
    ];
    report.sent = count(|e| matches!(e, Event::Send { .. }));
    let limits = Limits {
        expected_sites: if wanted.expected { Plan::draw(wanted.seed, 0, wanted.members).hosts } else { 0 },
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

/// Saves the traces of a failed run.
fn keep(
    traces: &Path,
    trace: &Trace,
    violations: &[Violation],
    wrong: &[String],
    wanted: Wanted,
) -> Result<PathBuf, String> {
    let kept = std::env::temp_dir().join(format!("isis-failed-chaos-{}-{}", wanted.seed, std::process::id()));
    let save = || {
        std::fs::create_dir_all(&kept)?;
        for entry in std::fs::read_dir(traces)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "trace")
                && let Some(name) = path.file_name()
            {
                std::fs::copy(&path, kept.join(name))?;
            }
        }
        std::fs::write(kept.join("merged.txt"), trace.text())?;
        let all = checker::report(trace, violations, usize::MAX);
        std::fs::write(kept.join("report.txt"), format!("{wanted:?}\n{}\n{all}", wrong.join("\n")))
    };
    save().map_err(|error: std::io::Error| format!("saving the traces in {}: {error}", kept.display()))?;
    Ok(kept)
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
