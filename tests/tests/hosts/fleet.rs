//! The driver's side: members on hosts, what they say, and waiting for it. Every wait is bounded; dropping a fleet kills
//! its processes by their own handles before the network goes.

use crate::member::FULL_DEV_SHM;
use isis_tests::net::Net;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One member, in whatever incarnation.
pub struct Seat {
    pub host: usize,
    child: Child,
    input: ChildStdin,
    pub alive: bool,
    /// Its identifier, once admitted.
    pub process: String,
    /// Number and members of its last view.
    pub view: (u64, Vec<String>),
    /// All lines that are not views, counters or answers.
    pub said: Vec<String>,
    told: Option<String>,
    counters: BTreeMap<String, u64>,
    counted: bool,
    pub sent: u32,
    /// How many lines it had said when all were first together.
    together: usize,
}

/// The members of one case, and their network.
pub struct Fleet {
    pub seats: Vec<Seat>,
    lines: Receiver<(usize, Option<String>)>,
    speaker: Sender<(usize, Option<String>)>,
    directory: isis_processes::Directory,
    pub v6: bool,
    options: Vec<(String, String)>,
    /// The members get a `/dev/shm` of their own, of one page, which is full.
    pub full_dev_shm: bool,
    // After the seats: dropped last.
    pub net: Net,
}

impl Fleet {
    pub fn new(mtus: &[u32], v6: bool, options: &[(&str, &str)]) -> Fleet {
        let (speaker, lines) = channel();
        let directory = isis_processes::Directory::new("isis-hosts-").expect("a directory");
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (seats, net) = (Vec::new(), Net::new(mtus));
        Fleet { seats, lines, speaker, directory, v6, options, full_dev_shm: false, net }
    }

    /// Starts a member on a host.
    pub fn start(&mut self, host: usize, more: &[(&str, &str)]) -> usize {
        let program = std::env::current_exe().expect("this program's path");
        let mut command = self.net.command(host, &program);
        if self.full_dev_shm {
            command.env(FULL_DEV_SHM, "1");
        }
        let mut child = command
            .arg("member")
            .env("ISIS_RUNTIME_DIR", self.directory.path().join(format!("host-{host}")))
            .env("ISIS_BIND", self.net.address(host, self.v6).to_string())
            .env("ISIS_WAIT", "block")
            .envs(self.options.iter().map(|(name, value)| (format!("ISIS_{}", name.to_uppercase()), value)))
            .envs(more.iter().map(|(name, value)| (format!("ISIS_{}", name.to_uppercase()), value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip netns exec");
        let input = child.stdin.take().expect("a pipe");
        let output = child.stdout.take().expect("a pipe");
        let (index, speaker) = (self.seats.len(), self.speaker.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if speaker.send((index, Some(line))).is_err() {
                    return;
                }
            }
            let _ = speaker.send((index, None));
        });
        self.seats.push(Seat {
            host,
            child,
            input,
            alive: true,
            process: String::new(),
            view: (0, Vec::new()),
            said: Vec::new(),
            told: None,
            counters: BTreeMap::new(),
            counted: false,
            sent: 0,
            together: 0,
        });
        index
    }

    /// Kills a member as `kill -9` does.
    pub fn kill(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        seat.alive = false;
        seat.child.kill().expect("kill");
        seat.child.wait().expect("the dead one's status");
    }

    pub fn alive(&self) -> Vec<usize> {
        (0..self.seats.len()).filter(|index| self.seats[*index].alive).collect()
    }

    pub fn order(&mut self, index: usize, line: &str) {
        let seat = &mut self.seats[index];
        writeln!(seat.input, "{line}").and_then(|()| seat.input.flush()).expect("a member that hears");
    }

    /// Hears lines until `done`, which looks at all seats.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&[Seat]) -> bool) {
        self.within(PATIENCE, what, &mut done);
    }

    fn within(&mut self, patience: Duration, what: &str, done: &mut dyn FnMut(&[Seat]) -> bool) {
        let end = Instant::now() + patience;
        while !done(&self.seats) {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok((index, line)) => self.hear(index, line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{what}: not within {} s; {}", patience.as_secs(), self.state())
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("this end keeps a sender"),
            }
        }
    }

    /// Hears what comes for a while.
    pub fn pause(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok((index, line)) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.hear(index, line);
        }
    }

    fn hear(&mut self, index: usize, line: Option<String>) {
        let seat = &mut self.seats[index];
        let Some(line) = line else {
            assert!(!seat.alive || seat.said.iter().any(|said| said == "closed"), "member {index} ended unasked");
            return;
        };
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "admitted" => {
                rest.clone_into(&mut seat.process);
                seat.said.push(line);
            }
            "view" => {
                let (number, members) = rest.split_once(' ').expect("a view's line");
                seat.view = (number.parse().expect("a number"), members.split(',').map(str::to_owned).collect());
            }
            "told" => seat.told = Some(rest.to_owned()),
            "counter" => {
                let (name, value) = rest.split_once(' ').expect("a counter's line");
                seat.counters.insert(name.to_owned(), value.parse().expect("a number"));
            }
            "counters" => seat.counted = true,
            "sent" => seat.sent += 1,
            "wrong" => panic!("member {index}: {rest}"),
            _ => seat.said.push(line),
        }
    }

    /// For messages of failures.
    fn state(&self) -> String {
        let lines = self.seats.iter().enumerate().map(|(index, seat)| {
            format!(
                "\n  member {index} on host {} ({}): view {:?}, said {:?}",
                seat.host, seat.process, seat.view, seat.said
            )
        });
        lines.collect()
    }

    /// Waits until all live members have one and the same view of exactly themselves.
    pub fn assemble(&mut self) {
        let alive = self.alive();
        let same = |seats: &[Seat]| {
            let view = &seats[alive[0]].view;
            let mut members = view.1.clone();
            members.sort();
            let mut processes: Vec<String> = alive.iter().map(|index| seats[*index].process.clone()).collect();
            processes.sort();
            members == processes && alive.iter().all(|index| seats[*index].view == *view)
        };
        self.until(&format!("one view of {} members", alive.len()), same);
        for seat in self.seats.iter_mut().filter(|seat| seat.together == 0) {
            seat.together = seat.said.len();
        }
    }

    /// Nobody stalled or was evicted since it met the others. Before, two may have founded systems of their own, of which
    /// one gave way.
    pub fn nobody_was_lost(&self) {
        for seat in self.seats.iter().filter(|seat| seat.alive) {
            assert!(seat.said[seat.together..].is_empty(), "{}", self.state());
        }
    }

    /// What a member saw: `totals=… digest=… answers=… SENDER=…`.
    fn tell(&mut self, index: usize) -> BTreeMap<String, String> {
        self.seats[index].told = None;
        self.order(index, "tell");
        self.until("what a member saw", |seats| seats[index].told.is_some());
        let told = self.seats[index].told.take().unwrap_or_default();
        told.split(' ').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    /// The named counters of a member.
    pub fn counters(&mut self, index: usize) -> BTreeMap<String, u64> {
        self.seats[index].counted = false;
        self.order(index, "counters");
        self.until("the counters of a member", |seats| seats[index].counted);
        self.seats[index].counters.clone()
    }

    pub fn counter(&mut self, index: usize, name: &str) -> u64 {
        *self.counters(index).get(name).unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// Waits until a counter of a member is at least this.
    pub fn counter_reaches(&mut self, index: usize, name: &str, least: u64) {
        let end = Instant::now() + PATIENCE;
        while self.counter(index, name) < least {
            assert!(Instant::now() < end, "member {index}: {name} did not reach {least}; {}", self.state());
            self.pause(Duration::from_millis(20));
        }
    }

    /// Waits until a counter of a member is `most` or less.
    pub fn counter_falls(&mut self, index: usize, name: &str, most: u64) {
        let end = Instant::now() + PATIENCE;
        while self.counter(index, name) > most {
            assert!(Instant::now() < end, "member {index}: {name} did not fall to {most}; {}", self.state());
            self.pause(Duration::from_millis(20));
        }
    }

    /// All live members send `count` messages of each kind, of `bytes`; all get them all, in one order. What they sent and
    /// saw before is forgotten, so it has to be settled.
    pub fn exchange(&mut self, count: u32, bytes: usize) {
        let alive = self.alive();
        for index in &alive {
            self.order(*index, "reset");
        }
        // The order reset has been carried out everywhere before the first message comes.
        for index in &alive {
            self.tell(*index);
        }
        for index in &alive {
            for kind in ["fifo", "causal", "total"] {
                self.order(*index, &format!("send {kind} {count} {bytes}"));
            }
        }
        self.settle(count);
    }

    /// Waits until all live members have `count` messages of each kind from each of them, and the same digest.
    fn settle(&mut self, count: u32) {
        let alive = self.alive();
        let end = Instant::now() + PATIENCE;
        loop {
            let saw: Vec<BTreeMap<String, String>> = alive.iter().map(|index| self.tell(*index)).collect();
            let wanted = format!("{count}/{count}/{count}");
            let complete = saw.iter().all(|saw| {
                alive.iter().all(|index| saw.get(&self.seats[*index].process) == Some(&wanted))
                    && saw["totals"] == (alive.len() as u32 * count).to_string()
            });
            // The answers to questions come last.
            if complete
                && saw
                    .iter()
                    .all(|other| other["answers"] == saw[0]["answers"] && other["answers"] == self.answers(count))
            {
                assert!(saw.iter().all(|other| other["digest"] == saw[0]["digest"]), "orders differ: {saw:#?}");
                return;
            }
            assert!(Instant::now() < end, "messages are missing: {saw:#?}{}", self.state());
            self.pause(Duration::from_millis(20));
        }
    }

    /// How many answers `count` causal messages of each bring: one of fifty is a question, all others answer.
    fn answers(&self, count: u32) -> String {
        let members = self.alive().len() as u32;
        (members * (members - 1) * (count / 50)).to_string()
    }

    /// All live members close.
    pub fn close(&mut self) {
        for index in self.alive() {
            self.order(index, "close");
        }
        let closed =
            |seats: &[Seat]| seats.iter().filter(|s| s.alive).all(|s| s.said.iter().any(|said| said == "closed"));
        self.until("all closed", closed);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for seat in &mut self.seats {
            let _ = seat.child.kill();
            let _ = seat.child.wait();
        }
    }
}
