//! Child processes that speak in lines: orders go to their standard input, reports come from their standard output.
//!
//! Every wait is bounded; dropping the [`Children`] kills them and collects them, by their own handles.

use crate::{live, now_ns};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// One child.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    input: Option<ChildStdin>,
    /// When it was started, on the monotonic clock, in nanoseconds.
    pub started_at: u64,
    alive: bool,
}

/// All children of one kind; a line of theirs is a `Line`.
#[derive(Debug)]
pub struct Children<Line> {
    children: Vec<Child>,
    lines: Receiver<(usize, Option<Line>)>,
    teller: Sender<(usize, Option<Line>)>,
    parse: fn(&str) -> Line,
}

impl<Line: Send + 'static> Children<Line> {
    /// None yet. `parse` makes a `Line` of a line; what it does not understand is a `Line` too.
    pub fn new(parse: fn(&str) -> Line) -> Children<Line> {
        let (teller, lines) = mpsc::channel();
        Children { children: Vec::new(), lines, teller, parse }
    }

    /// Starts one more; gives its index: 0, 1, 2 …
    pub fn start(&mut self, command: &mut Command) -> Result<usize, String> {
        let started_at = now_ns();
        let mut process = live::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
            .map_err(|error| format!("starting {}: {error}", command.get_program().display()))?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let (index, teller, parse) = (self.children.len(), self.teller.clone(), self.parse);
        self.children.push(Child { process, input, started_at, alive: true });
        let output = output.ok_or("a child without output")?;
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if teller.send((index, Some(parse(&line)))).is_err() {
                    return;
                }
            }
            let _ = teller.send((index, None));
        });
        Ok(index)
    }

    /// One that was started.
    pub fn get(&self, index: usize) -> &Child {
        &self.children[index]
    }

    /// One that was started, to ask whether it has ended.
    pub fn get_mut(&mut self, index: usize) -> &mut Child {
        &mut self.children[index]
    }

    /// How many were started.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// None was started.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// The indexes of those that were neither killed nor asked to end.
    pub fn alive(&self) -> Vec<usize> {
        (0..self.children.len()).filter(|&index| self.children[index].alive).collect()
    }

    /// Writes a line to one.
    pub fn tell(&mut self, index: usize, line: &str) -> Result<(), String> {
        let input = self.children[index].input.as_mut().ok_or("a child without input")?;
        writeln!(input, "{line}").and_then(|()| input.flush()).map_err(|error| format!("{}: {error}", name(index)))
    }

    /// Writes a line to all live ones.
    pub fn tell_all(&mut self, line: &str) -> Result<(), String> {
        self.alive().into_iter().try_for_each(|index| self.tell(index, line))
    }

    /// The next line of a live one; `None`: there is none in this time. It is an error that one ended by itself.
    pub fn hear(&mut self, patience: Duration) -> Result<Option<(usize, Line)>, String> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Err(_) => return Ok(None),
                Ok((index, _)) if !self.children[index].alive => (),
                Ok((index, None)) => return Err(format!("{} ended unasked", name(index))),
                Ok((index, Some(line))) => return Ok(Some((index, line))),
            }
        }
    }

    /// Kills one at once (SIGKILL); gives the time just before.
    pub fn kill(&mut self, index: usize) -> Result<u64, String> {
        let child = &mut self.children[index];
        child.alive = false;
        let at = now_ns();
        child.process.kill().map_err(|error| error.to_string())?;
        Ok(at)
    }

    /// All live ones were asked to end: waits until they have, each with success.
    pub fn collect(&mut self, patience: Duration) -> Result<(), String> {
        let end = Instant::now() + patience;
        for index in self.alive() {
            let child = &mut self.children[index];
            child.alive = false;
            let left = end.saturating_duration_since(Instant::now());
            match live::collect_within(&mut child.process, left).map_err(|error| error.to_string())? {
                Some(status) if status.success() => (),
                Some(status) => return Err(format!("{} ended with {status}", name(index))),
                None => return Err(format!("{} does not end", name(index))),
            }
        }
        Ok(())
    }
}

/// What a child is called in errors: people count from 1.
pub fn name(index: usize) -> String {
    format!("member {}", index + 1)
}

impl Child {
    /// The number that the operating system gave it.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal: stop, continue …
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        kill_process(Pid::from_child(&self.process), signal).map_err(|error| error.to_string())
    }

    /// Its end, if it has come.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        live::collect(&mut self.process).map_err(|error| error.to_string())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        live::destroy(&mut self.process);
    }
}
