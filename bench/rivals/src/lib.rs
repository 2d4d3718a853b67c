//! A member of a rival: the load of `isis-bench throughput`, counted and checked alike.
//!
//! Each message carries its sender, its number there and the time of its sending. A gap in a sender's numbers is counted as
//! loss; a step back is a failure. [`work`] is the loop of all systems; a program per system says how it sends and polls
//! ([`System`]). A member with nothing to do yields the
//! processor, where its system has nothing better.

pub mod talk;

use hdrhistogram::Histogram;
use std::io::{BufRead, Write};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use talk::{Order, Report, Start};

/// Bytes of sender, number and time at the start of every message.
pub const STAMP: usize = 16;
/// Messages sent before the loop looks at what came in.
const SEND_BURST: u64 = 64;
/// Bits of the number; the sender stands above it.
const NUMBER_BITS: u32 = 48;

/// How one system sends and receives.
pub trait System {
    /// Whether this member hears all members, and they it. Asked until it is so, with [`System::poll`] in between.
    fn ready(&mut self) -> Result<bool, String>;
    /// Sends a message to all; false: there is no room now.
    fn send(&mut self, message: &[u8]) -> Result<bool, String>;
    /// Turns the system, and gives what came in to `deliver`; gives how much was done, so that 0 means idle.
    fn poll<F: FnMut(&[u8])>(&mut self, deliver: &mut F) -> Result<usize, String>;
    /// Waits a moment: there was nothing to do.
    fn idle(&mut self) {
        std::thread::yield_now();
    }
    /// Processor time that others used for this member: a daemon that it has started.
    fn cpu_elsewhere_ns(&self) -> u64 {
        0
    }
}

/// The monotonic clock in nanoseconds: the same in all processes of this host.
pub fn now_ns() -> u64 {
    clock(rustix::time::ClockId::Monotonic)
}

fn clock(which: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(which);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Bytes that the buffers of a UDP socket get: what the kernel allows, and no more than 4 MiB.
pub fn socket_buffer() -> Result<usize, String> {
    let most = |name| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).map_err(|error| error.to_string())?;
        text.trim().parse::<usize>().map_err(|error| error.to_string())
    };
    Ok(most("rmem_max")?.min(most("wmem_max")?).min(4 << 20))
}

fn cpu_ns(system: &impl System) -> u64 {
    clock(rustix::time::ClockId::ProcessCPUTime) + system.cpu_elsewhere_ns()
}

/// Tells the driver; a driver that is gone ends this process.
fn tell(report: &Report) {
    let mut out = std::io::stdout().lock();
    let line = serde_json::to_string(report).unwrap_or_default();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(3);
    }
}

/// The orders, read by a thread that otherwise sleeps. The end of the input is the end of the driver, and of this process.
fn orders() -> Receiver<Order> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { break };
            if sender.send(order).is_err() {
                break;
            }
        }
        std::process::exit(4);
    });
    receiver
}

/// The `main` of a rival: reads the start, opens the system, works until it is told to quit.
pub fn run<S: System>(open: impl FnOnce(&Start) -> Result<S, String>) -> std::process::ExitCode {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let orders = orders();
    let result = std::env::args()
        .nth(1)
        .ok_or_else(|| "start this by `isis-bench compare`".to_owned())
        .and_then(|text| serde_json::from_str::<Start>(&text).map_err(|error| error.to_string()))
        .and_then(|start| {
            let mut system = open(&start)?;
            work(&mut system, &start, &orders)
        });
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tell(&Report::Failed(error));
            std::process::ExitCode::FAILURE
        }
    }
}

/// What came in: counted and checked.
struct Ledger {
    own: u16,
    size: usize,
    /// Last number of each member.
    last: Vec<u64>,
    delivered: u64,
    lost: u64,
    histogram: Histogram<u64>,
    /// What is measured is round trips.
    answers: bool,
    wrong: Option<String>,
}

impl Ledger {
    fn deliver(&mut self, message: &[u8]) {
        let (first, time) = (u64_at(message, 0), u64_at(message, 8));
        let (sender, number) = ((first >> NUMBER_BITS) as usize, first & ((1 << NUMBER_BITS) - 1));
        match self.last.get_mut(sender) {
            Some(last) if message.len() == self.size && number > *last => {
                self.lost += number - *last - 1;
                *last = number;
            }
            _ => {
                let text = format!("{} bytes, number {number} of member {sender} after {:?}", message.len(), self.last);
                self.wrong.get_or_insert(text);
                return;
            }
        }
        self.delivered += 1;
        // One in sixteen is enough under full load, as for our own members.
        if !self.answers && sender == usize::from(self.own) && number.is_multiple_of(16) {
            self.histogram.saturating_record(now_ns().saturating_sub(time).max(1));
        }
    }
}

fn work(system: &mut impl System, start: &Start, orders: &Receiver<Order>) -> Result<(), String> {
    if start.size < STAMP {
        return Err(format!("messages have at least {STAMP} bytes"));
    }
    let mut ledger = Ledger {
        own: start.index,
        size: start.size,
        last: vec![0; usize::from(start.members)],
        delivered: 0,
        lost: 0,
        histogram: Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(|error| format!("{error:?}"))?,
        answers: start.answers,
        wrong: None,
    };
    let mut message = vec![0x5a; start.size];
    let (mut ready, mut loading, mut sent, mut asked_at) = (false, false, 0_u64, 0_u64);
    let mut base = (now_ns(), 0, 0, 0);
    loop {
        loop {
            match orders.try_recv() {
                Ok(Order::Load) => loading = true,
                Ok(Order::Measure) => {
                    base = (now_ns(), ledger.delivered, sent, cpu_ns(system));
                    ledger.histogram.reset();
                }
                Ok(Order::Tell) => tell(&Report::Measured {
                    elapsed_ns: now_ns() - base.0,
                    delivered: ledger.delivered - base.1,
                    sent: sent - base.2,
                    lost: ledger.lost,
                    cpu_ns: cpu_ns(system).saturating_sub(base.3),
                    histogram: ledger
                        .histogram
                        .iter_recorded()
                        .map(|v| (v.value_iterated_to(), v.count_at_value()))
                        .collect(),
                }),
                Ok(Order::Hush) => loading = false,
                Ok(Order::Quit) => return Ok(()),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err("the driver is gone".to_owned()),
            }
        }
        if !ready && system.ready()? {
            ready = true;
            tell(&Report::Ready);
        }
        let mut done = 0;
        if start.answers {
            done += exchange(system, start, &mut ledger, &mut message, (&mut sent, &mut asked_at), loading)?;
        } else if loading {
            let mut now = now_ns();
            for index in 0..SEND_BURST {
                // One reading of the clock serves eight messages, as for our own members.
                if index % 8 == 7 {
                    now = now_ns();
                }
                stamp(&mut message, start.index, sent + 1, now);
                if !system.send(&message)? {
                    break;
                }
                sent += 1;
                done += 1;
            }
        }
        done += system.poll(&mut |bytes| ledger.deliver(bytes))?;
        if let Some(wrong) = &ledger.wrong {
            return Err(format!("an unexpected message: {wrong}"));
        }
        match (done, start.spin) {
            (0, true) => std::hint::spin_loop(),
            (0, false) => system.idle(),
            _ => (),
        }
    }
}

/// Who sends this message, its number there, and when.
fn stamp(message: &mut [u8], sender: u16, number: u64, time: u64) {
    message[..8].copy_from_slice(&((u64::from(sender) << NUMBER_BITS) | number).to_le_bytes());
    message[8..STAMP].copy_from_slice(&time.to_le_bytes());
}

/// Round trips: the first member asks when all have answered, the others answer. How many messages were sent.
fn exchange(
    system: &mut impl System,
    start: &Start,
    ledger: &mut Ledger,
    message: &mut [u8],
    (sent, asked_at): (&mut u64, &mut u64),
    asks: bool,
) -> Result<usize, String> {
    let before = *sent;
    if start.index > 0 {
        while *sent < ledger.last[0] {
            stamp(message, start.index, *sent + 1, 0);
            if !system.send(message)? {
                break;
            }
            *sent += 1;
        }
        return Ok((*sent - before) as usize);
    }
    if ledger.last[1..].iter().any(|last| last < sent) {
        return Ok(0);
    }
    let now = now_ns();
    if *asked_at > 0 {
        ledger.histogram.saturating_record((now - *asked_at).max(1));
        *asked_at = 0;
    }
    stamp(message, start.index, *sent + 1, now);
    if asks && system.send(message)? {
        (*sent, *asked_at) = (*sent + 1, now);
    }
    Ok((*sent - before) as usize)
}

/// The member that sent this message.
pub fn sender(message: &[u8]) -> u16 {
    (u64_at(message, 0) >> NUMBER_BITS) as u16
}

/// Eight bytes as a number.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}
