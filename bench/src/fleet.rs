//! The driver's side: member processes of this same program, what they report, and what that says of the whole.
//!
//! Every wait is bounded; dropping a fleet kills its members.

use crate::member;
use crate::talk::{Order, Report, Start};
use hdrhistogram::Histogram;
use isis_processes::children::name;
use isis_processes::{Children, Directory, live};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long anything may take before a bench gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a member has told of itself.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Its identifier, once admitted.
    pub process: Option<u64>,
    /// Its last view: number, members, its rank.
    pub view: Option<(u64, usize, u16)>,
}

/// The members of one run.
#[derive(Debug)]
pub struct Fleet {
    children: Children<Report>,
    /// Of all that were ever started.
    pub told: Vec<Told>,
    directory: Directory,
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
    /// No members yet; a runtime directory of its own. From now on signals end the members and remove the directory.
    pub fn new() -> Result<Fleet, String> {
        live::end_on_signals().map_err(|error| error.to_string())?;
        let directory = Directory::new("isis-bench-").map_err(|error| error.to_string())?;
        let children = Children::new(|line| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| Report::Failed(format!("an unreadable report ({error}): {line}")))
        });
        Ok(Fleet { children, told: Vec::new(), directory })
    }

    /// The runtime directory.
    pub fn directory(&self) -> std::path::PathBuf {
        self.directory.path().join("isis")
    }

    /// Starts one more member; gives its index.
    pub fn start(&mut self, start: &Start) -> Result<usize, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let text = serde_json::to_string(start).map_err(|error| error.to_string())?;
        self.told.push(Told::default());
        self.children.start(Command::new(program).args(["member", &text]))
    }

    /// The indexes of the live members.
    pub fn alive(&self) -> Vec<usize> {
        self.children.alive()
    }

    /// When a member was started.
    pub fn started_at(&self, index: usize) -> u64 {
        self.children.get(index).started_at
    }

    /// Gives an order to one member.
    pub fn order(&mut self, index: usize, order: &Order) -> Result<(), String> {
        self.children.tell(index, &serde_json::to_string(order).map_err(|error| error.to_string())?)
    }

    /// Gives an order to all live members.
    pub fn order_all(&mut self, order: &Order) -> Result<(), String> {
        self.children.tell_all(&serde_json::to_string(order).map_err(|error| error.to_string())?)
    }

    /// The next report of a live member. A failed or ended member is an error.
    pub fn hear(&mut self, patience: Duration) -> Result<Option<(usize, Report)>, String> {
        let Some((index, report)) = self.children.hear(patience)? else { return Ok(None) };
        let told = &mut self.told[index];
        match &report {
            Report::Failed(error) => return Err(format!("{}: {error}", name(index))),
            Report::Admitted { process, .. } => told.process = Some(*process),
            Report::View { number, members, rank, .. } => told.view = Some((*number, members.len(), *rank)),
            Report::Note(note) => crate::progress(&format!("  {}: {note}", name(index))),
            _ => (),
        }
        Ok(Some((index, report)))
    }

    /// Hears reports until `done`.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Fleet, usize, &Report) -> bool) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
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
            let first = fleet.alive().first().and_then(|&index| fleet.told[index].view).map(|(number, _, _)| number);
            fleet.alive().into_iter().all(|index| {
                fleet.told[index].view.is_some_and(|(number, size, _)| size == members && Some(number) == first)
            })
        };
        if whole(self) { Ok(()) } else { self.until("a view of all members", |fleet, _, _| whole(fleet)) }
    }

    /// The live member of this rank, as last told.
    pub fn of_rank(&self, rank: u16) -> Option<usize> {
        self.alive().into_iter().find(|&index| self.told[index].view.is_some_and(|(_, _, r)| r == rank))
    }

    /// The process identifier (of the operating system) of a member.
    pub fn pid(&self, index: usize) -> u32 {
        self.children.get(index).pid()
    }

    /// Kills a member at once; gives the time just before.
    pub fn kill(&mut self, index: usize) -> Result<u64, String> {
        self.children.kill(index)
    }

    /// Stops or continues a member.
    pub fn signal(&self, index: usize, signal: Signal) -> Result<(), String> {
        self.children.get(index).signal(signal)
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
        self.settled(&sent, ordered)
    }

    /// Waits until every live member has delivered so many messages of each process, and compares as [`Fleet::settle`] does.
    pub fn settled(&mut self, sent: &BTreeMap<u64, u64>, ordered: bool) -> Result<(u64, u64), String> {
        let members = self.alive();
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
        self.children.collect(PATIENCE)
    }
}

/// The least payload that a member can send.
pub const LEAST_SIZE: usize = member::STAMP;
