//! The driver's side: starts member processes of this same program, hears their reports, kills what it started.
//!
//! Every wait is bounded; dropping a fleet kills its members, by their own handles.

use crate::member;
use crate::now_ns;
use crate::talk::{Order, Report, Start};
use hdrhistogram::Histogram;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// How long anything may take before a bench gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a member is known to be.
#[derive(Debug)]
pub struct Seat {
    child: Child,
    input: Option<ChildStdin>,
    /// When it was started.
    pub started_at: u64,
    /// Its identifier, once admitted.
    pub process: Option<u64>,
    /// The last view that it told.
    pub view: Option<(u64, usize, u16)>,
    /// It is to be spoken to.
    pub alive: bool,
}

/// The members of one run.
#[derive(Debug)]
pub struct Fleet {
    directory: tempfile::TempDir,
    /// All that were ever started.
    pub seats: Vec<Seat>,
    reports: Receiver<(usize, Option<Report>)>,
    reporter: Sender<(usize, Option<Report>)>,
}

/// What one member measured.
#[derive(Debug)]
pub struct Measured {
    /// Nanoseconds.
    pub elapsed_ns: u64,
    /// Messages.
    pub delivered: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Own messages.
    pub sent: u64,
    /// Processor time.
    pub cpu_ns: u64,
    /// Send to own delivery.
    pub histogram: Histogram<u64>,
}

impl Fleet {
    /// No members yet; a runtime directory of its own.
    pub fn new() -> Result<Fleet, String> {
        let directory = tempfile::Builder::new().prefix("isis-bench-").tempdir().map_err(|error| error.to_string())?;
        let (reporter, reports) = mpsc::channel();
        Ok(Fleet { directory, seats: Vec::new(), reports, reporter })
    }

    /// The runtime directory.
    pub fn directory(&self) -> std::path::PathBuf {
        self.directory.path().join("isis")
    }

    /// Starts one more member; gives its index.
    pub fn start(&mut self, start: &Start) -> Result<usize, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let text = serde_json::to_string(start).map_err(|error| error.to_string())?;
        let started_at = now_ns();
        let mut child = Command::new(program)
            .args(["member", &text])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("starting a member: {error}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("no output of the member")?;
        let (index, reporter) = (self.seats.len(), self.reporter.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let report = serde_json::from_str(&line)
                    .unwrap_or_else(|error| Report::Failed(format!("an unreadable report ({error}): {line}")));
                if reporter.send((index, Some(report))).is_err() {
                    return;
                }
            }
            let _ = reporter.send((index, None));
        });
        self.seats.push(Seat { child, input, started_at, process: None, view: None, alive: true });
        Ok(index)
    }

    /// The indexes of the live members.
    pub fn alive(&self) -> Vec<usize> {
        (0..self.seats.len()).filter(|&index| self.seats[index].alive).collect()
    }

    /// Gives an order to one member.
    pub fn order(&mut self, index: usize, order: &Order) -> Result<(), String> {
        let line = serde_json::to_string(order).map_err(|error| error.to_string())?;
        let input = self.seats[index].input.as_mut().ok_or("no input of the member")?;
        writeln!(input, "{line}").and_then(|()| input.flush()).map_err(|error| format!("member {index}: {error}"))
    }

    /// Gives an order to all live members.
    pub fn order_all(&mut self, order: &Order) -> Result<(), String> {
        self.alive().into_iter().try_for_each(|index| self.order(index, order))
    }

    /// The next report of a live member. A failed or ended member is an error.
    pub fn hear(&mut self, patience: Duration) -> Result<Option<(usize, Report)>, String> {
        let end = std::time::Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            let Ok((index, report)) = self.reports.recv_timeout(left) else { return Ok(None) };
            let seat = &mut self.seats[index];
            match report {
                _ if !seat.alive => (),
                None => return Err(format!("member {index} ended unasked")),
                Some(Report::Failed(error)) => return Err(format!("member {index}: {error}")),
                Some(report) => {
                    match &report {
                        Report::Admitted { process, .. } => seat.process = Some(*process),
                        Report::View { number, members, rank, .. } => seat.view = Some((*number, members.len(), *rank)),
                        Report::Note(note) => crate::progress(&format!("  member {index}: {note}")),
                        _ => (),
                    }
                    return Ok(Some((index, report)));
                }
            }
        }
    }

    /// Hears reports until `done`.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Fleet, usize, &Report) -> bool) -> Result<(), String> {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            match self.hear(left)? {
                Some((index, report)) if done(self, index, &report) => return Ok(()),
                Some(_) => (),
                None => return Err(format!("{what}: not within {} s", PATIENCE.as_secs())),
            }
        }
    }

    /// Waits until all live members are in one view of all of them.
    pub fn assemble(&mut self) -> Result<(), String> {
        let members = self.alive().len();
        let whole = |fleet: &Fleet| {
            let first = fleet.alive().first().and_then(|&index| fleet.seats[index].view).map(|(number, _, _)| number);
            fleet.alive().into_iter().all(|index| {
                fleet.seats[index].view.is_some_and(|(number, size, _)| size == members && Some(number) == first)
            })
        };
        if whole(self) { Ok(()) } else { self.until("a view of all members", |fleet, _, _| whole(fleet)) }
    }

    /// The live member of this rank, as last told.
    pub fn of_rank(&self, rank: u16) -> Option<usize> {
        self.alive().into_iter().find(|&index| self.seats[index].view.is_some_and(|(_, _, r)| r == rank))
    }

    /// The process identifier (of the operating system) of a member.
    pub fn pid(&self, index: usize) -> u32 {
        self.seats[index].child.id()
    }

    /// Kills a member at once; gives the time just before.
    pub fn kill(&mut self, index: usize) -> Result<u64, String> {
        let seat = &mut self.seats[index];
        seat.alive = false;
        let at = now_ns();
        seat.child.kill().map_err(|error| error.to_string())?;
        Ok(at)
    }

    /// Stops or continues a member.
    pub fn signal(&self, index: usize, signal: Signal) -> Result<(), String> {
        let pid = Pid::from_child(&self.seats[index].child);
        kill_process(pid, signal).map_err(|error| error.to_string())
    }

    /// What all live members measured since `Order::Measure`.
    pub fn measured(&mut self) -> Result<Vec<Measured>, String> {
        let members = self.alive();
        self.order_all(&Order::Tell)?;
        let mut all: BTreeMap<usize, Measured> = BTreeMap::new();
        self.until("measurements", |_, index, report| {
            if let Report::Measured { elapsed_ns, delivered, bytes, sent, cpu_ns, histogram } = report {
                let mut merged = crate::report::histogram();
                for (value, count) in histogram {
                    merged.saturating_record_n(*value, *count);
                }
                let (elapsed_ns, delivered, bytes) = (*elapsed_ns, *delivered, *bytes);
                let one = Measured { elapsed_ns, delivered, bytes, sent: *sent, cpu_ns: *cpu_ns, histogram: merged };
                all.insert(index, one);
            }
            all.len() == members.len()
        })?;
        Ok(all.into_values().collect())
    }

    /// Ends the load, waits until every live member has delivered every message of the live ones, and compares: gives
    /// how many messages were delivered, and the digest of their order.
    pub fn settle(&mut self, ordered: bool) -> Result<(u64, u64), String> {
        let members = self.alive();
        self.order_all(&Order::Hush)?;
        let mut sent = BTreeMap::new();
        self.until("the numbers sent", |_, _, report| {
            if let Report::Sent { process, count } = report {
                sent.insert(*process, *count);
            }
            sent.len() == members.len()
        })?;
        self.order_all(&Order::Settle(sent.clone()))?;
        let mut ends = BTreeMap::new();
        self.until("the delivery of all that was sent", |_, index, report| {
            if let Report::Settled { delivered, digest } = report {
                ends.insert(index, (*delivered, *digest));
            }
            ends.len() == members.len()
        })?;
        let first = *ends.values().next().ok_or("no members")?;
        if ends.values().any(|end| end.0 != first.0 || (ordered && end.1 != first.1)) {
            return Err(format!("the members' deliveries differ at the end: {ends:?}"));
        }
        Ok(first)
    }

    /// The counters of one member.
    pub fn counters(&mut self, index: usize) -> Result<BTreeMap<String, u64>, String> {
        self.order(index, &Order::Counters)?;
        let mut counters = BTreeMap::new();
        self.until("counters", |_, from, report| match report {
            Report::Counters(values) if from == index => {
                counters.clone_from(values);
                true
            }
            _ => false,
        })?;
        Ok(counters)
    }

    /// All live members leave in order.
    pub fn quit(&mut self) -> Result<(), String> {
        self.order_all(&Order::Quit)?;
        for index in self.alive() {
            self.seats[index].alive = false;
            let end = std::time::Instant::now() + PATIENCE;
            loop {
                match self.seats[index].child.try_wait().map_err(|error| error.to_string())? {
                    Some(status) if status.success() => break,
                    Some(status) => return Err(format!("member {index} ended with {status}")),
                    None if std::time::Instant::now() > end => return Err(format!("member {index} does not leave")),
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        }
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for seat in &mut self.seats {
            // Ended already: fine. A stopped one dies of this, too.
            let _ = seat.child.kill();
            let _ = seat.child.wait();
        }
    }
}

/// The least payload that a member can send.
pub const LEAST_SIZE: usize = member::STAMP;
