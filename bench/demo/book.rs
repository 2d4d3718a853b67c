//! The member processes, and what they say: `order_book.c` tells how.

use hdrhistogram::Histogram;
use isis_bench::{report, say};
use isis_processes::Children;
use isis_processes::children::name;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// A line of a member.
#[derive(Clone, Debug)]
pub enum Line {
    /// The system admitted it.
    Admitted { at: u64, process: u64 },
    /// It has this view.
    View { at: u64, number: u64, rank: u16, members: Vec<u64> },
    /// It received the book.
    State { at: u64, bytes: u64, orders: u64, quotes: u64 },
    /// It has delivered so much.
    Rate { orders: u64, quotes: u64 },
    /// How long orders took, in nanoseconds.
    Latencies(Vec<u64>),
    /// What it sent in all.
    Sent { process: u64, orders: u64, quotes: u64 },
    /// Digest and numbers of its book, when all was delivered.
    Done(String),
    /// Something failed.
    Failed(String),
}

fn parse(text: &str) -> Line {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let numbers: Vec<u64> = rest.split(' ').filter_map(|number| number.parse().ok()).collect();
    match (word, &numbers[..]) {
        ("admitted", &[at, process]) => Line::Admitted { at, process },
        ("view", &[at, number, _, rank, ref members @ ..]) => {
            Line::View { at, number, rank: rank as u16, members: members.to_vec() }
        }
        ("state", &[at, bytes, orders, quotes]) => Line::State { at, bytes, orders, quotes },
        ("rate", &[_, orders, quotes]) => Line::Rate { orders, quotes },
        ("lat", _) => Line::Latencies(numbers),
        ("sent", &[process, orders, quotes]) => Line::Sent { process, orders, quotes },
        ("done", _) => Line::Done(rest.to_owned()),
        ("failed", _) => Line::Failed(rest.to_owned()),
        _ => Line::Failed(format!("a line that nobody understands: {text}")),
    }
}

/// What a member has told of itself.
#[derive(Clone, Debug, Default)]
struct Told {
    process: u64,
    /// Number, members, its rank.
    view: Option<(u64, usize, u16)>,
    /// Orders and quotes delivered.
    rate: (u64, u64),
}

/// All members.
#[derive(Debug)]
pub struct Books {
    program: PathBuf,
    runtime: PathBuf,
    mode: String,
    children: Children<Line>,
    told: Vec<Told>,
    part: Histogram<u64>,
    told_view: u64,
}

impl Books {
    pub fn new(program: PathBuf, runtime: PathBuf, mode: String) -> Books {
        let (children, part) = (Children::new(parse), report::histogram());
        Books { program, runtime, mode, children, told: Vec::new(), part, told_view: 0 }
    }

    pub fn start(&mut self) -> Result<usize, String> {
        self.told.push(Told::default());
        self.children.start(Command::new(&self.program).arg(&self.runtime).arg(&self.mode))
    }

    /// What to call a member.
    pub fn name(&self, index: usize) -> String {
        format!("{} ({})", name(index), number(self.told[index].process))
    }

    pub fn started_at(&self, index: usize) -> u64 {
        self.children.get(index).started_at
    }

    pub fn alive(&self) -> Vec<usize> {
        self.children.alive()
    }

    pub fn of_rank(&self, rank: u16) -> Option<usize> {
        self.alive().into_iter().find(|&index| self.told[index].view.is_some_and(|(_, _, r)| r == rank))
    }

    pub fn order(&mut self, index: usize, text: &str) -> Result<(), String> {
        self.children.tell(index, text)
    }

    pub fn order_all(&mut self, text: &str) -> Result<(), String> {
        self.children.tell_all(text)
    }

    /// Kills at once; gives the time just before.
    pub fn kill(&mut self, index: usize) -> Result<u64, String> {
        self.children.kill(index)
    }

    /// The next line of a live member, or none in this time. Prints views as they come.
    pub fn hear(&mut self, patience: Duration) -> Result<Option<(usize, Line)>, String> {
        match self.children.hear(patience)? {
            Some((index, Line::Failed(error))) => Err(format!("{}: {error}", name(index))),
            Some((index, line)) => {
                self.note(index, &line);
                Ok(Some((index, line)))
            }
            None => Ok(None),
        }
    }

    fn note(&mut self, index: usize, line: &Line) {
        let told = &mut self.told[index];
        match line {
            Line::Admitted { process, .. } => told.process = *process,
            Line::Rate { orders, quotes } | Line::State { orders, quotes, .. } => told.rate = (*orders, *quotes),
            Line::Latencies(values) => {
                for value in values {
                    self.part.saturating_record((*value).max(1));
                }
            }
            Line::View { number, rank, members, .. } => {
                told.view = Some((*number, members.len(), *rank));
                if *number > self.told_view {
                    self.told_view = *number;
                    let names: Vec<String> = members.iter().map(|process| self.short(*process)).collect();
                    say(&format!("  view {number}: {} members by age: {}", members.len(), names.join(", ")));
                }
            }
            _ => (),
        }
    }

    fn short(&self, process: u64) -> String {
        self.told.iter().position(|told| told.process == process).map_or_else(|| number(process), name)
    }

    /// Waits until all live members are in one view of just them.
    pub fn assemble(&mut self, patience: Duration) -> Result<(), String> {
        let end = Instant::now() + patience;
        loop {
            let alive = self.alive();
            let views: Vec<_> = alive.iter().filter_map(|&index| self.told[index].view).collect();
            let same = views.iter().all(|view| view.1 == alive.len() && view.0 == views[0].0);
            if views.len() == alive.len() && same {
                return Ok(());
            }
            if self.hear(end.saturating_duration_since(Instant::now()))?.is_none() {
                return Err("the members do not come into one view".to_owned());
            }
        }
    }

    /// Forgets the latencies so far.
    pub fn begin_part(&mut self) {
        self.part.reset();
    }

    /// The latencies since `begin_part`.
    pub fn part(&self) -> &Histogram<u64> {
        &self.part
    }

    /// Orders and quotes delivered at the member that has fewest orders.
    pub fn slowest(&self) -> (u64, u64) {
        self.alive().into_iter().map(|index| self.told[index].rate).min().unwrap_or((0, 0))
    }

    /// All leave in order.
    pub fn quit(&mut self, patience: Duration) -> Result<(), String> {
        self.children.tell_all("quit")?;
        self.children.collect(patience)
    }
}

/// A process identifier: site, slot, incarnation.
fn number(process: u64) -> String {
    format!("process {}.{}.{}", process >> 48, process >> 32 & 0xffff, process & 0xffff_ffff)
}
