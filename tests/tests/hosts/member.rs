//! A member: a process of its own that joins the group `hosts`, does what its input says, and tells what happens.
//!
//! Its options come from the environment (`ISIS_…`). Input, one order a line:
//! `send KIND COUNT BYTES` · `tell` · `reset` (forget what was seen) · `counters` · `close`. Its input's end is its own, so that nobody outlives the test.
//! Output, one event a line: `admitted PROCESS` · `view NUMBER PROCESS,…` · `stalled` · `resumed` · `evicted` · `sent` ·
//! `told …` (see [`Log`]) · `counter NAME VALUE` … `counters end` · `closed` · `wrong …`.
//!
//! After `evicted` it starts again, with a new node.

use isis_protocol::{GroupHandle, JoinOptions, Kind, SendOptions};
use isis_runtime::{Message, Node, NodeError, NodeEvent, Options};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, Write as _};
use std::process::Command;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// Sender u64, number u32, kind u8; the rest is filled with the number.
const HEAD: usize = 13;
/// Every so many causal messages is a question, which everybody answers.
const QUESTION_EVERY: u32 = 50;
const ENTRY_PLAIN: u8 = 1;
const ENTRY_QUESTION: u8 = 2;
const ENTRY_ANSWER: u8 = 3;

/// What this member saw in the group, since its join.
#[derive(Default)]
struct Log {
    /// By sender: the number that comes next, and how many came of each kind.
    senders: BTreeMap<u64, (u32, [u64; 3])>,
    /// A digest over the ABCASTs in their order.
    totals: u64,
    digest: u64,
    /// Questions that came, by sender and number: an answer may not come before.
    questions: Vec<(u64, u32)>,
    answers: u64,
}

struct Job {
    kind: Kind,
    left: u32,
    bytes: usize,
}

struct Member {
    node: Node,
    group: GroupHandle,
    inside: bool,
    own: u64,
    sent: u32,
    jobs: Vec<Job>,
    owed: Vec<Vec<u8>>,
    log: Log,
    over: bool,
}

#[allow(clippy::print_stdout)]
fn say(text: &str) {
    println!("{text}");
    let _ = std::io::stdout().flush();
}

/// Set for a member that shall have a full `/dev/shm` of its own.
pub const FULL_DEV_SHM: &str = "HOSTS_FULL_DEV_SHM";

/// Puts one page of memory in the place of `/dev/shm`, for this process alone (`ip netns exec` has given it mounts of its own),
/// and fills it.
fn fill_dev_shm() {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=4096", "tmpfs", "/dev/shm"]);
    assert!(mount.status().expect("mount").success(), "a file system for one page");
    let mut file = File::create("/dev/shm/all").expect("a file");
    file.write_all(&[1; 4096]).expect("one page");
    assert!(file.write_all(&[1]).is_err(), "and no more");
}

/// Runs until it is told to close.
pub fn run() -> Result<(), NodeError> {
    if std::env::var_os(FULL_DEV_SHM).is_some() {
        fill_dev_shm();
    }
    let (orders, lines) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if orders.send(line).is_err() {
                return;
            }
        }
    });
    while life(&lines)? {}
    Ok(())
}

/// One incarnation. `true`: it was evicted, there shall be another one.
fn life(lines: &Receiver<String>) -> Result<bool, NodeError> {
    let mut options = Options::new();
    options.read_environment()?;
    let mut node = Node::open(options)?;
    let group = node.join("hosts", JoinOptions::default())?;
    let mut member = Member {
        node,
        group,
        inside: false,
        own: 0,
        sent: 0,
        jobs: Vec::new(),
        owed: Vec::new(),
        log: Log::default(),
        over: false,
    };
    let mut evicted = false;
    loop {
        member.node.wait(Some(2_000_000))?;
        while let Some(event) = member.node.poll_event()? {
            evicted |= matches!(event, NodeEvent::Evicted);
            member.take(event);
        }
        if member.over {
            return Ok(evicted);
        }
        match lines.try_recv() {
            Ok(line) => member.obey(&line)?,
            Err(TryRecvError::Empty) => (),
            Err(TryRecvError::Disconnected) => return Ok(false),
        }
        member.send()?;
    }
}

impl Member {
    fn take(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::SystemJoined { process, .. } => {
                self.own = process.0;
                say(&format!("admitted {:x}", process.0));
            }
            NodeEvent::View { view, .. } => {
                self.inside = true;
                let members: Vec<String> = view.members.iter().map(|m| format!("{:x}", m.process.0)).collect();
                say(&format!("view {} {}", view.number, members.join(",")));
            }
            NodeEvent::Message(message) => {
                let bytes = self.node.payload(&message).to_vec();
                if let Err(wrong) = self.hear(&message, &bytes) {
                    say(&format!("wrong {wrong}"));
                }
            }
            NodeEvent::Stalled => say("stalled"),
            NodeEvent::Resumed => say("resumed"),
            NodeEvent::Evicted => {
                say("evicted");
                self.over = true;
            }
            NodeEvent::Closed => {
                say("closed");
                self.over = true;
            }
            NodeEvent::Poisoned | NodeEvent::Refused { .. } => say(&format!("wrong {event:?}")),
            _ => (),
        }
    }

    /// FIFO of each sender across kinds; answers after their questions; the order of the ABCASTs.
    fn hear(&mut self, message: &Message, bytes: &[u8]) -> Result<(), String> {
        let (sender, number) = parse(bytes).ok_or("a message without a head")?;
        if bytes[HEAD..].iter().any(|byte| *byte != number as u8) && message.entry == ENTRY_PLAIN {
            return Err(format!("message {number} of {sender:x} is damaged"));
        }
        // A joiner comes into the midst of it: the first number that it sees is as good as any.
        let (next, counts) = self.log.senders.entry(sender).or_insert((number, [0; 3]));
        if *next != number {
            return Err(format!("message {number} of {sender:x} came when {next} was due"));
        }
        *next += 1;
        let place = match message.kind {
            Kind::Fifo => 0,
            Kind::Causal => 1,
            Kind::Total => 2,
            other => return Err(format!("a message of kind {other:?}")),
        };
        if message.entry != ENTRY_ANSWER {
            counts[place] += 1;
        }
        if message.kind == Kind::Total {
            self.log.totals += 1;
            self.log.digest =
                (self.log.digest ^ sender ^ u64::from(number) << 32).wrapping_mul(0x100_0000_01b3).rotate_left(7);
        }
        match message.entry {
            ENTRY_QUESTION => {
                self.log.questions.push((sender, number));
                if sender != self.own {
                    self.owed.push(bytes[..HEAD].to_vec());
                }
            }
            ENTRY_ANSWER => {
                let question = bytes.get(HEAD..).and_then(parse).ok_or("an answer without its question")?;
                if !self.log.questions.contains(&question) {
                    return Err(format!("an answer came before its question {question:?}"));
                }
                self.log.answers += 1;
            }
            _ => (),
        }
        Ok(())
    }

    fn obey(&mut self, line: &str) -> Result<(), NodeError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| words.get(index).and_then(|word| word.parse().ok()).unwrap_or(0);
        match words.first().copied() {
            Some("send") => {
                let kind = match words.get(1).copied() {
                    Some("fifo") => Kind::Fifo,
                    Some("causal") => Kind::Causal,
                    _ => Kind::Total,
                };
                self.jobs.push(Job { kind, left: number(2) as u32, bytes: number(3).max(HEAD) });
            }
            Some("tell") => {
                let mut text = format!(
                    "told totals={} digest={:x} answers={}",
                    self.log.totals, self.log.digest, self.log.answers
                );
                for (sender, (_, counts)) in &self.log.senders {
                    let [fifo, causal, total] = counts;
                    let _ = write!(text, " {sender:x}={fifo}/{causal}/{total}");
                }
                say(&text);
            }
            Some("reset") => self.log = Log::default(),
            Some("counters") => {
                for (name, value) in self.node.counters() {
                    say(&format!("counter {name} {value}"));
                }
                say("counters end");
            }
            Some("close") => self.node.close()?,
            _ => say(&format!("wrong order: {line}")),
        }
        Ok(())
    }

    /// Answers first, then one of each job in turn, as long as the window takes them.
    fn send(&mut self) -> Result<(), NodeError> {
        if !self.inside || self.over {
            return Ok(());
        }
        let had_jobs = !self.jobs.is_empty();
        for _ in 0..64 {
            if let Some(question) = self.owed.first().cloned() {
                let mut bytes = self.head(Kind::Causal);
                bytes.extend_from_slice(&question);
                if !self.multicast(Kind::Causal, ENTRY_ANSWER, &bytes)? {
                    return Ok(());
                }
                self.owed.remove(0);
                continue;
            }
            let Some(job) = self.jobs.first() else { break };
            let (kind, bytes) = (job.kind, job.bytes);
            let question = kind == Kind::Causal && job.left % QUESTION_EVERY == 0;
            let entry = if question { ENTRY_QUESTION } else { ENTRY_PLAIN };
            let mut data = self.head(kind);
            data.resize(bytes, (self.sent + 1) as u8);
            if !self.multicast(kind, entry, &data)? {
                return Ok(());
            }
            self.jobs[0].left -= 1;
            if self.jobs[0].left == 0 {
                self.jobs.remove(0);
            } else {
                self.jobs.rotate_left(1);
            }
        }
        if had_jobs && self.jobs.is_empty() {
            say("sent");
        }
        Ok(())
    }

    fn head(&self, kind: Kind) -> Vec<u8> {
        let mut bytes = self.own.to_le_bytes().to_vec();
        bytes.extend_from_slice(&(self.sent + 1).to_le_bytes());
        bytes.push(kind as u8);
        bytes
    }

    /// `false`: the window is full.
    fn multicast(&mut self, kind: Kind, entry: u8, data: &[u8]) -> Result<bool, NodeError> {
        match self.node.multicast(self.group, SendOptions { kind, safe: false, entry }, data) {
            Ok(_) => {
                self.sent += 1;
                Ok(true)
            }
            // Ended: it was evicted, and will hear of it.
            Err(NodeError::WouldBlock | NodeError::Ended) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Sender and number of a message.
fn parse(bytes: &[u8]) -> Option<(u64, u32)> {
    let (sender, rest) = bytes.split_first_chunk::<8>()?;
    let (number, rest) = rest.split_first_chunk::<4>()?;
    (!rest.is_empty()).then(|| (u64::from_le_bytes(*sender), u32::from_le_bytes(*number)))
}
