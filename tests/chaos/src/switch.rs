//! The switch that joins the hosts: one thread that reads each host's frames and passes them on, late, twice, damaged or
//! not at all, as the link between the two hosts has it.
//!
//! Owner: the rig; [`Switch`] is its handle. Invariants: all chance comes from one seeded generator; a port's queue is
//! bounded; what is not IPv4 or ARP is not passed on. Each direction of a pair of hosts is a link of its own.

use crate::damage;
use isis_processes::now_ns;
use isis_protocol::random::Random;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Parts of a million.
pub const MILLION: u64 = 1_000_000;
/// Frames that may wait in the whole switch.
const MOST_WAITING: usize = 20_000;
/// Frames read from one port before the others get their turn.
const BURST: usize = 64;
/// Longest sleep: how soon the thread notices that it shall end.
const LOOK_NS: u64 = 50_000_000;

/// One direction between two hosts. Chances in parts of a million.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Nothing passes.
    pub cut: bool,
    /// Chance of being lost.
    pub loss: u64,
    /// Chance of coming twice.
    pub duplicate: u64,
    /// Chance of coming up to 20 ms late, and so behind others.
    pub reorder: u64,
    /// Chance of flipped bits.
    pub corrupt: u64,
    /// Chance of a lost end.
    pub truncate: u64,
    /// On the way for so long, nanoseconds.
    pub delay_ns: u64,
    /// And up to so much longer.
    pub jitter_ns: u64,
}

impl Link {
    /// The worse of the two in each respect.
    pub fn worse(self, other: Link) -> Link {
        Link {
            cut: self.cut || other.cut,
            loss: self.loss.max(other.loss),
            duplicate: self.duplicate.max(other.duplicate),
            reorder: self.reorder.max(other.reorder),
            corrupt: self.corrupt.max(other.corrupt),
            truncate: self.truncate.max(other.truncate),
            delay_ns: self.delay_ns.max(other.delay_ns),
            jitter_ns: self.jitter_ns.max(other.jitter_ns),
        }
    }
}

/// What became of the frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Tally {
    pub passed: u64,
    pub parted: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub delayed: u64,
    pub corrupted: u64,
    pub truncated: u64,
    pub overflowed: u64,
}

#[derive(Debug)]
struct Shared {
    /// `links[from][to]`
    links: Vec<Vec<Link>>,
    tally: Tally,
}

/// The handle.
#[derive(Debug)]
pub struct Switch {
    shared: Arc<Mutex<Shared>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A frame on its way: due time, number, port.
type Waiting = Reverse<(u64, u64, usize, Vec<u8>)>;

struct Ports {
    taps: Vec<File>,
    random: Random,
    waiting: BinaryHeap<Waiting>,
    number: u64,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address of a host's interface; its last byte names the port.
pub fn mac(host: usize) -> String {
    format!("02:00:00:00:00:{:02x}", host + 1)
}

impl Switch {
    /// Starts the thread over these ports; all links are whole.
    pub fn start(taps: Vec<File>, seed: u64) -> Switch {
        let hosts = taps.len();
        let links = vec![vec![Link::default(); hosts]; hosts];
        let shared = Arc::new(Mutex::new(Shared { links, tally: Tally::default() }));
        let end = Arc::new(AtomicBool::new(false));
        let ports = Ports { taps, random: Random::new(seed), waiting: BinaryHeap::new(), number: 0 };
        let (to_thread, until) = (Arc::clone(&shared), Arc::clone(&end));
        let thread = std::thread::spawn(move || ports.run(&to_thread, &until));
        Switch { shared, end, thread: Some(thread) }
    }

    /// Puts all links at once: `links[from][to]`.
    pub fn put(&self, links: Vec<Vec<Link>>) {
        lock(&self.shared).links = links;
    }

    /// What became of the frames so far.
    pub fn tally(&self) -> Tally {
        lock(&self.shared).tally
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // Relaxed: nothing else is passed by it.
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Ports {
    fn run(mut self, shared: &Mutex<Shared>, end: &AtomicBool) {
        let mut buffer = vec![0; 70_000];
        while !end.load(Ordering::Relaxed) {
            for port in self.readable() {
                for _ in 0..BURST {
                    match (&self.taps[port]).read(&mut buffer) {
                        Ok(length) if length >= 14 => self.frame(&mut lock(shared), port, &buffer[..length]),
                        Ok(_) => (),
                        Err(_) => break,
                    }
                }
            }
            let now = now_ns();
            while self.waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
                if let Some(Reverse((_, _, port, frame))) = self.waiting.pop() {
                    self.write(port, &frame);
                }
            }
        }
    }

    fn readable(&self) -> Vec<usize> {
        let due = self.waiting.peek().map_or(LOOK_NS, |Reverse((due, ..))| due.saturating_sub(now_ns()));
        let timeout = Timespec { tv_sec: 0, tv_nsec: due.min(LOOK_NS) as i64 };
        let mut descriptors: Vec<PollFd<'_>> = self.taps.iter().map(|tap| PollFd::new(tap, PollFlags::IN)).collect();
        if poll(&mut descriptors, Some(&timeout)).is_err() {
            return Vec::new();
        }
        (0..descriptors.len()).filter(|port| descriptors[*port].revents().contains(PollFlags::IN)).collect()
    }

    /// A frame that came from a port.
    fn frame(&mut self, shared: &mut Shared, from: usize, frame: &[u8]) {
        if !matches!(frame[12..14], [8, 0] | [8, 6]) {
            return;
        }
        let ports = self.taps.len();
        let to_all = frame[0] & 1 == 1;
        let one = usize::from(frame[5]).wrapping_sub(1);
        for to in (0..ports).filter(|to| *to != from && (to_all || *to == one)) {
            let link = shared.links[from][to];
            self.carry(link, &mut shared.tally, to, frame);
        }
    }

    fn carry(&mut self, link: Link, tally: &mut Tally, to: usize, frame: &[u8]) {
        if link.cut {
            tally.parted += 1;
            return;
        }
        if self.chance(link.loss) {
            tally.lost += 1;
            return;
        }
        tally.passed += 1;
        let copies = if self.chance(link.duplicate) { 2 } else { 1 };
        tally.duplicated += copies - 1;
        for _ in 0..copies {
            let mut frame = frame.to_vec();
            // Damage is for IPv4: a wrong answer of ARP would cut the link for much longer than it shall be.
            if frame[13] == 0 && self.chance(link.corrupt) {
                damage::corrupt(&mut self.random, &mut frame);
                tally.corrupted += 1;
            }
            if frame[13] == 0 && self.chance(link.truncate) {
                damage::truncate(&mut self.random, &mut frame);
                tally.truncated += 1;
            }
            let mut delay = link.delay_ns + self.random.below(link.jitter_ns + 1);
            tally.delayed += u64::from(delay > 0);
            if self.chance(link.reorder) {
                delay += self.random.below(20_000_000);
                tally.reordered += 1;
            }
            if delay == 0 {
                self.write(to, &frame);
            } else if self.waiting.len() < MOST_WAITING {
                self.number += 1;
                self.waiting.push(Reverse((now_ns() + delay, self.number, to, frame)));
            } else {
                tally.overflowed += 1;
            }
        }
    }

    fn chance(&mut self, of_a_million: u64) -> bool {
        of_a_million > 0 && self.random.below(MILLION) < of_a_million
    }

    /// What the host's queue does not take is lost, as on any network.
    fn write(&self, port: usize, frame: &[u8]) {
        let _ = (&self.taps[port]).write(frame);
    }
}
