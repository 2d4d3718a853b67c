//! The member processes: starting, killing and hearing them. What they say is told in `order_book.c`.

use hdrhistogram::Histogram;
use isis_bench::{now_ns, report, say};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
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

#[derive(Debug)]
struct Seat {
    child: Child,
    input: Option<ChildStdin>,
    started_at: u64,
    process: u64,
    view: Option<(u64, usize, u16)>,
    rate: (u64, u64),
    alive: bool,
}

/// All members.
#[derive(Debug)]
pub struct Books {
    program: PathBuf,
    runtime: PathBuf,
    mode: String,
    seats: Vec<Seat>,
    lines: Receiver<(usize, Option<Line>)>,
    teller: Sender<(usize, Option<Line>)>,
    part: Histogram<u64>,
    told_view: u64,
}

impl Books {
    pub fn new(program: PathBuf, runtime: PathBuf, mode: String) -> Books {
        let (teller, lines) = mpsc::channel();
        Books { program, runtime, mode, seats: Vec::new(), lines, teller, part: report::histogram(), told_view: 0 }
    }

    pub fn start(&mut self) -> Result<usize, String> {
        let started_at = now_ns();
        let mut child = Command::new(&self.program)
            .arg(&self.runtime)
            .arg(&self.mode)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("starting order_book: {error}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("no output")?;
        let (index, teller) = (self.seats.len(), self.teller.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if teller.send((index, Some(parse(&line)))).is_err() {
                    return;
                }
            }
            let _ = teller.send((index, None));
        });
        self.seats.push(Seat { child, input, started_at, process: 0, view: None, rate: (0, 0), alive: true });
        Ok(index)
    }

    /// What to call a member.
    pub fn name(&self, index: usize) -> String {
        let id = self.seats[index].process;
        format!("member {} (process {}.{}.{})", index + 1, id >> 48, id >> 32 & 0xffff, id & 0xffff_ffff)
    }

    pub fn started_at(&self, index: usize) -> u64 {
        self.seats[index].started_at
    }

    pub fn alive(&self) -> Vec<usize> {
        (0..self.seats.len()).filter(|&index| self.seats[index].alive).collect()
    }

    pub fn of_rank(&self, rank: u16) -> Option<usize> {
        self.alive().into_iter().find(|&index| self.seats[index].view.is_some_and(|(_, _, r)| r == rank))
    }

    pub fn order(&mut self, index: usize, text: &str) -> Result<(), String> {
        let input = self.seats[index].input.as_mut().ok_or("no input")?;
        writeln!(input, "{text}").and_then(|()| input.flush()).map_err(|error| format!("member {}: {error}", index + 1))
    }

    pub fn order_all(&mut self, text: &str) -> Result<(), String> {
        self.alive().into_iter().try_for_each(|index| self.order(index, text))
    }

    /// Kills at once; gives the time just before.
    pub fn kill(&mut self, index: usize) -> Result<u64, String> {
        let seat = &mut self.seats[index];
        seat.alive = false;
        let at = now_ns();
        seat.child.kill().map_err(|error| error.to_string())?;
        Ok(at)
    }

    /// The next line of a live member, or none in this time. Prints views as they come.
    pub fn hear(&mut self, patience: Duration) -> Result<Option<(usize, Line)>, String> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok((index, line)) = self.lines.recv_timeout(left) else { return Ok(None) };
            if !self.seats[index].alive {
                continue;
            }
            match line {
                None => return Err(format!("member {} ended unasked", index + 1)),
                Some(Line::Failed(error)) => return Err(format!("member {}: {error}", index + 1)),
                Some(line) => {
                    self.note(index, &line);
                    return Ok(Some((index, line)));
                }
            }
        }
    }

    fn note(&mut self, index: usize, line: &Line) {
        let seat = &mut self.seats[index];
        match line {
            Line::Admitted { process, .. } => seat.process = *process,
            Line::Rate { orders, quotes } | Line::State { orders, quotes, .. } => seat.rate = (*orders, *quotes),
            Line::Latencies(values) => {
                for value in values {
                    self.part.saturating_record((*value).max(1));
                }
            }
            Line::View { number, rank, members, .. } => {
                seat.view = Some((*number, members.len(), *rank));
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
        match self.seats.iter().position(|seat| seat.process == process) {
            Some(index) => format!("member {}", index + 1),
            None => format!("process {}.{}.{}", process >> 48, process >> 32 & 0xffff, process & 0xffff_ffff),
        }
    }

    /// Waits until all live members are in one view of just them.
    pub fn assemble(&mut self, patience: Duration) -> Result<(), String> {
        let end = Instant::now() + patience;
        loop {
            let alive = self.alive();
            let views: Vec<_> = alive.iter().filter_map(|&index| self.seats[index].view).collect();
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
        self.alive().into_iter().map(|index| self.seats[index].rate).min().unwrap_or((0, 0))
    }

    /// All leave in order.
    pub fn quit(&mut self, patience: Duration) -> Result<(), String> {
        self.order_all("quit")?;
        let end = Instant::now() + patience;
        for index in self.alive() {
            let seat = &mut self.seats[index];
            seat.alive = false;
            loop {
                match seat.child.try_wait().map_err(|error| error.to_string())? {
                    Some(status) if status.success() => break,
                    Some(status) => return Err(format!("member {} ended with {status}", index + 1)),
                    None if Instant::now() > end => return Err(format!("member {} does not leave", index + 1)),
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        }
        Ok(())
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        for seat in &mut self.seats {
            // Ended already: fine.
            let _ = seat.child.kill();
            let _ = seat.child.wait();
        }
    }
}
