//! The members of a run: who sits where, which process is whose, and starting, stopping and ending them.
//!
//! Owner: the rig. Invariants: the number of a process in the trace is the index of its child; what the rig does to a
//! process is in its trace: *Hang* before the stop, *Wake* after the start, *Crash* after the end.

use crate::hosts::Hosts;
use crate::plan::Plan;
use crate::status::{Status, unsettled};
use isis_processes::children::Children;
use isis_processes::now_ns;
use isis_protocol::random::Random;
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_tests::trace::{Event, Process, Record};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A killed process that has not ended after this hangs in the kernel.
const DEATH: Duration = Duration::from_secs(5);
/// Nobody has a quorum for so long: the operator acts.
const STUCK_NS: u64 = 12 * SECOND;

/// One place for a process.
#[derive(Debug)]
pub struct Seat {
    /// Its host.
    pub host: usize,
    /// Who sits there is a client of the groups.
    client: bool,
    /// Who sits there.
    pub child: Option<usize>,
    /// Somebody shall be started there then.
    start_at: Option<u64>,
    stopped: bool,
}

/// How members are started.
#[derive(Debug)]
pub struct Settings {
    /// Draws what each one does.
    pub seed: u64,
    /// The directory of the run.
    pub directory: PathBuf,
    /// All know how many hosts there are.
    pub expected: bool,
    /// Mean time between two actions of a member.
    pub pause_ns: u64,
    /// Most members are in a second group, too.
    pub second_group: bool,
    /// The two groups are in one domain of causality.
    pub one_domain: bool,
    /// A planted bug that all of them have; they then run inline.
    pub mutant: Option<&'static str>,
}

/// See the module.
pub struct Fleet {
    /// By number.
    pub seats: Vec<Seat>,
    /// What the rig did, in the order of time.
    pub records: Vec<Record>,
    /// How many processes were evicted.
    pub evicted: u64,
    /// How often the operator acted.
    pub operated: u64,
    /// Sums over the members that told.
    pub counters: BTreeMap<String, u64>,
    /// New members only join.
    pub quiet: bool,
    /// Somebody said what nobody may say.
    pub wrong: Vec<String>,
    children: Children<String>,
    statuses: BTreeMap<u32, (u64, Status)>,
    counted: usize,
    closed: usize,
    settings: Settings,
    hosts: Hosts,
    count: usize,
    stuck_since: Option<u64>,
    random: Random,
}

impl Fleet {
    /// Nobody yet.
    pub fn new(hosts: Hosts, plan: &Plan, settings: Settings) -> Fleet {
        let seats = plan.places.iter().zip(&plan.clients);
        let seat = |(host, client): (&usize, &bool)| Seat {
            host: *host,
            client: *client,
            child: None,
            start_at: Some(0),
            stopped: false,
        };
        Fleet {
            seats: seats.map(seat).collect(),
            records: Vec::new(),
            evicted: 0,
            operated: 0,
            counters: BTreeMap::new(),
            quiet: false,
            wrong: Vec::new(),
            children: Children::new(str::to_owned),
            statuses: BTreeMap::new(),
            counted: 0,
            closed: 0,
            random: Random::new(settings.seed),
            settings,
            hosts,
            count: plan.hosts,
            stuck_since: None,
        }
    }

    /// How many processes were started.
    pub fn started(&self) -> usize {
        self.children.len()
    }

    /// Writes a record of the rig's.
    pub fn note(&mut self, process: Process, event: Event) {
        self.records.push(Record { time: now_ns(), process, event });
    }

    /// The journal of a process.
    pub fn journal(directory: &Path, process: usize) -> PathBuf {
        directory.join(format!("process-{process}.trace"))
    }

    fn start(&mut self, seat: usize) -> Result<(), String> {
        let (host, process) = (self.seats[seat].host, self.children.len());
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let (directory, seed) = (&self.settings.directory, self.random.next() >> 1);
        let mut command = self.hosts.command(host, &program);
        command
            .args(["member", "--process", &process.to_string(), "--site", &host.to_string()])
            .args(["--seed", &seed.to_string(), "--pause-ns", &self.settings.pause_ns.to_string()])
            .arg("--journal")
            .arg(Fleet::journal(directory, process))
            .env("ISIS_RUNTIME_DIR", directory.join(format!("host-{host}")))
            .env("ISIS_BIND", self.hosts.bind(host))
            .env("ISIS_WAIT", "block")
            .env("ISIS_MODE", if seed.is_multiple_of(2) { "inline" } else { "threaded" });
        if self.settings.expected {
            command
                .env("ISIS_EXPECTED_SITES", self.count.to_string())
                .env("ISIS_SITE_NAME", format!("host-{host}"))
                .env("ISIS_STATE_DIR", directory.join(format!("state-{host}")));
        }
        // Some member always is in the second group: its clients have something to wait for.
        let keeps_second = self.seats.iter().position(|seat| !seat.client) == Some(seat);
        if (self.random.below(3) > 0 || keeps_second) && self.settings.second_group {
            command.arg("--second-group");
        }
        if self.seats[seat].client {
            command.arg("--client");
        }
        if self.settings.one_domain {
            command.arg("--one-domain");
        }
        if let Some(mutant) = self.settings.mutant {
            command.args(["--mutant", mutant]).env("ISIS_MODE", "inline");
        }
        if self.quiet {
            command.arg("--quiet");
        }
        let child = self.children.start(&mut command)?;
        let client = self.seats[seat].client;
        self.seats[seat] = Seat { host, client, child: Some(child), start_at: None, stopped: false };
        Ok(())
    }

    /// Somebody shall sit there from then on.
    pub fn start_later(&mut self, seat: usize, at_ns: u64) {
        if self.seats[seat].child.is_none() {
            self.seats[seat].start_at = Some(at_ns);
        }
    }

    /// Stops a member.
    pub fn stop(&mut self, seat: usize) -> Result<(), String> {
        let Some(child) = self.seats[seat].child.filter(|_| !self.seats[seat].stopped) else { return Ok(()) };
        self.note(Process(child as u32), Event::Hang);
        self.seats[seat].stopped = true;
        self.children.get(child).signal(Signal::STOP)
    }

    /// Lets a stopped member go on.
    pub fn wake(&mut self, seat: usize) -> Result<(), String> {
        let Some(child) = self.seats[seat].child.filter(|_| self.seats[seat].stopped) else { return Ok(()) };
        self.children.get(child).signal(Signal::CONT)?;
        self.seats[seat].stopped = false;
        self.note(Process(child as u32), Event::Wake);
        Ok(())
    }

    /// Kills a member, and sees it end.
    pub fn kill(&mut self, seat: usize) -> Result<(), String> {
        let Some(child) = self.seats[seat].child.take() else { return Ok(()) };
        self.children.kill(child)?;
        let end = Instant::now() + DEATH;
        while self.children.get_mut(child).ended()?.is_none() {
            if Instant::now() > end {
                return Err(format!("process {child} was killed and does not end"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.statuses.remove(&(child as u32));
        self.seats[seat].stopped = false;
        self.note(Process(child as u32), Event::Crash);
        Ok(())
    }

    /// Kills a member for good: nobody comes to sit in its place.
    pub fn lose(&mut self, seat: usize) -> Result<(), String> {
        self.kill(seat)?;
        self.seats.remove(seat);
        Ok(())
    }

    /// Asks all for their counters: the sum of each over all members.
    pub fn count(&mut self, patience: Duration) -> Result<BTreeMap<String, u64>, String> {
        self.counters.clear();
        self.counted = 0;
        self.tell_all("count")?;
        let end = Instant::now() + patience;
        while self.counted < self.seats.len() {
            if Instant::now() > end {
                return Err(format!("{} of {} members told their counters", self.counted, self.seats.len()));
            }
            self.turn(now_ns() + MILLISECOND)?;
        }
        Ok(std::mem::take(&mut self.counters))
    }

    /// Gives an order to a member.
    pub fn tell(&mut self, seat: usize, order: &str) -> Result<(), String> {
        self.seats[seat].child.map_or(Ok(()), |child| self.children.tell(child, order))
    }

    /// Gives an order to all.
    pub fn tell_all(&mut self, order: &str) -> Result<(), String> {
        self.children.tell_all(order)
    }

    /// Starts who is to be started, hears what the members say until then, and acts on it.
    pub fn turn(&mut self, until_ns: u64) -> Result<(), String> {
        loop {
            let now = now_ns();
            for seat in 0..self.seats.len() {
                if self.seats[seat].start_at.is_some_and(|at| at <= now) {
                    self.start(seat)?;
                }
            }
            self.operate(now)?;
            let left = until_ns.saturating_sub(now).min(20 * MILLISECOND);
            if let Some((child, line)) = self.children.hear(Duration::from_nanos(left))? {
                self.heard(child, &line)?;
            }
            if now >= until_ns {
                return Ok(());
            }
        }
    }

    fn heard(&mut self, child: usize, line: &str) -> Result<(), String> {
        if let Some(status) = Status::read(line) {
            self.statuses.insert(child as u32, (now_ns(), status));
        } else if let Some((name, value)) = line.strip_prefix("counter ").and_then(|rest| rest.split_once(' ')) {
            *self.counters.entry(name.to_owned()).or_default() += value.parse::<u64>().unwrap_or(0);
        } else if line == "evicted" {
            self.evicted += 1;
            if let Some(seat) = self.seats.iter().position(|seat| seat.child == Some(child)) {
                self.kill(seat)?;
                self.start_later(seat, now_ns() + 100 * MILLISECOND);
            }
        } else if line == "counted" {
            self.counted += 1;
        } else if line == "closed" {
            self.closed += 1;
        } else {
            self.wrong.push(format!("process {child} says: {line}"));
        }
        Ok(())
    }

    /// A system that lost its quorum for good does not end by itself: an operator starts the processes of a host again.
    fn operate(&mut self, now: u64) -> Result<(), String> {
        let up: Vec<usize> = (0..self.seats.len()).filter(|seat| self.seats[*seat].child.is_some()).collect();
        let stuck = |seat: &usize| {
            let child = self.seats[*seat].child.unwrap_or_default() as u32;
            self.statuses.get(&child).is_none_or(|(_, status)| status.stuck) && !self.seats[*seat].stopped
        };
        if up.is_empty() || !up.iter().all(stuck) {
            self.stuck_since = None;
            return Ok(());
        }
        if now < *self.stuck_since.get_or_insert(now) + STUCK_NS {
            return Ok(());
        }
        self.stuck_since = None;
        self.operated += 1;
        let host = self.seats[up[0]].host;
        self.note(Process::WORLD, Event::World(format!("operator: the processes of host {host} start again")));
        for seat in up.into_iter().filter(|seat| self.seats[*seat].host == host).collect::<Vec<_>>() {
            self.kill(seat)?;
            self.start_later(seat, now + 200 * MILLISECOND);
        }
        Ok(())
    }

    /// Why the members have not settled; `None`: they have, as of less than half a second ago.
    pub fn unsettled(&self) -> Option<String> {
        let mut members = BTreeMap::new();
        for (number, seat) in self.seats.iter().enumerate() {
            let Some(child) = seat.child else { return Some(format!("seat {number} is empty")) };
            match self.statuses.get(&(child as u32)) {
                Some((at, status)) if now_ns() < at + SECOND / 2 => members.insert(child as u32, status.clone()),
                _ => return Some(format!("P{child} says nothing")),
            };
        }
        unsettled(&members)
    }

    /// Waits until all have settled, and stay so for a second. The reason why not, when the patience ends.
    pub fn settle(&mut self, patience: Duration) -> Result<Option<String>, String> {
        let end = now_ns() + patience.as_nanos() as u64;
        let mut since = None;
        loop {
            self.turn(now_ns() + 50 * MILLISECOND)?;
            let now = now_ns();
            match self.unsettled() {
                None if *since.get_or_insert(now) + SECOND < now => return Ok(None),
                None => (),
                Some(why) if now > end => return Ok(Some(why)),
                Some(_) => since = None,
            }
        }
    }

    /// Asks all to close, and waits for it.
    pub fn close(&mut self, patience: Duration) -> Result<(), String> {
        self.tell_all("close")?;
        let (end, all) = (Instant::now() + patience, self.children.alive().len());
        while self.closed < all && Instant::now() < end {
            // Whoever has closed ends: that is no failure here.
            if let Ok(Some((child, line))) = self.children.hear(Duration::from_millis(100)) {
                self.heard(child, &line)?;
            }
        }
        self.children.collect(patience)
    }
}
