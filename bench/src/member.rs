//! A member process: joins the group `bench`, sends the load, checks every delivery, hands over and takes the state.
//!
//! Each message carries its number at its sender, the time of its sending, and (causal, if it fits) how many messages of
//! each rank its sender had delivered in this view. Checked: no gap and no repetition per sender (FIFO and loss), the
//! vectors (causality), and a running digest over all deliveries (total order: equal at all members in the end).
//!
//! The group's state is what the checks need: per sender the last number, the count and the digest; and ballast.

mod ledger;

use crate::now_ns;
use crate::talk::{IdleName, KindName, ModeName, Order, Report, Start};
use hdrhistogram::Histogram;
use isis_protocol::{GroupHandle, JoinOptions, Kind, SendOptions, View};
use isis_runtime::{Batch, Message, Mode, Node, NodeError, NodeEvent, Options};
use ledger::Ledger;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, Write};
use std::sync::mpsc::{self, Receiver, TryRecvError};

/// Bytes of number and time at the start of every message.
pub const STAMP: usize = 16;
/// Messages sent before the loop looks at events again.
const SEND_BURST: u64 = 64;
/// Deliveries handled before the loop sends again.
const EVENT_BURST: usize = 1024;
/// A block of the state.
const BLOCK: usize = 256 << 10;
/// A member that polls looks once in so many turns for what the driver wants.
const TURNS_PER_LOOK: u32 = 32;

/// A snapshot on its way to joiners.
struct Handover {
    transfer: u64,
    bytes: Vec<u8>,
    sent: usize,
}

struct Member {
    start: Start,
    node: Node,
    group: GroupHandle,
    orders: Receiver<Order>,
    options: SendOptions,
    ledger: Ledger,
    buffer: Vec<u8>,
    in_view: bool,
    loading: bool,
    next_send: u64,
    sent: u64,
    own_delivered: u64,
    /// When the question was sent whose answers are not all here; 0: none.
    asked_at: u64,
    measured_from: u64,
    measured_cpu: u64,
    base: (u64, u64, u64),
    histogram: Histogram<u64>,
    handovers: VecDeque<Handover>,
    incoming: Vec<u8>,
    incoming_at: u64,
    settle: Option<BTreeMap<u64, u64>>,
    join_at: u64,
    quitting: bool,
    finished: bool,
}

/// Tells the driver; a driver that is gone ends this process.
fn tell(report: &Report) {
    let mut out = std::io::stdout().lock();
    let line = serde_json::to_string(report).unwrap_or_default();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(3);
    }
}

/// Runs a member with this start, in JSON; gives the exit code.
pub fn run(start: &str) -> i32 {
    // A stopped member would not notice the end of its input. Not possible on this system: the end of the input has to do.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let result = serde_json::from_str(start)
        .map_err(|error| error.to_string())
        .and_then(|start: Start| Member::open(start)?.work());
    match result {
        Ok(()) => 0,
        Err(error) => {
            tell(&Report::Failed(error));
            1
        }
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
        // Not in order: the driver is gone, nobody waits for a farewell.
        std::process::exit(4);
    });
    receiver
}

fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Member {
    fn open(start: Start) -> Result<Member, String> {
        let mode = match start.mode {
            ModeName::Inline => Mode::Inline,
            ModeName::Threaded => Mode::Threaded,
        };
        let mut options = Options { mode, runtime_dir: Some(start.directory.clone()), ..Options::new() };
        for (name, value) in &start.options {
            options.set(name, value).map_err(|error| error.to_string())?;
        }
        let at = now_ns();
        let mut node = Node::open(options).map_err(|error| error.to_string())?;
        tell(&Report::Opened { at });
        let join = JoinOptions { wants_state: true, ..JoinOptions::default() };
        let group = node.join("bench", join).map_err(|error| error.to_string())?;
        let kind = match start.kind {
            KindName::Fifo => Kind::Fifo,
            KindName::Causal => Kind::Causal,
            KindName::Total => Kind::Total,
        };
        Ok(Member {
            ledger: Ledger::new(kind == Kind::Total, start.state),
            buffer: vec![0x5a; start.size.max(STAMP)],
            options: SendOptions { kind, safe: false, entry: 1 },
            node,
            group,
            orders: orders(),
            in_view: false,
            loading: false,
            next_send: 0,
            sent: 0,
            own_delivered: 0,
            asked_at: 0,
            measured_from: now_ns(),
            measured_cpu: 0,
            base: (0, 0, 0),
            histogram: Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(|error| format!("{error:?}"))?,
            handovers: VecDeque::new(),
            incoming: Vec::new(),
            incoming_at: 0,
            settle: None,
            join_at: at,
            quitting: false,
            finished: false,
            start,
        })
    }

    fn work(mut self) -> Result<(), String> {
        let mut batch = Batch::new();
        let mut turns = 0_u32;
        while !self.finished {
            turns = turns.wrapping_add(1);
            // The driver's business is no part of what is measured: it is looked for now and then.
            if turns.is_multiple_of(TURNS_PER_LOOK) || self.start.idle == IdleName::Wait {
                self.take_orders()?;
            }
            let busy = match self.start.answers {
                true => self.in_view && self.exchange()?,
                false => self.loading && self.in_view && self.send_load()?,
            };
            self.hand_over()?;
            let yields = self.start.idle == IdleName::Yield;
            let wait = if busy || self.start.idle != IdleName::Wait { 0 } else { self.pause() };
            let any = self.node.wait(Some(wait)).map_err(|error| error.to_string())?;
            if yields && !busy && !any {
                std::thread::yield_now();
            }
            for _ in 0..EVENT_BURST {
                match self.node.poll_batch(Batch::MOST, &mut batch).map_err(|error| error.to_string())? {
                    Some(NodeEvent::Message(message)) => self.deliver(&message, &batch)?,
                    Some(event) => self.take(event)?,
                    None => break,
                }
            }
            self.settle_if_done();
        }
        Ok(())
    }

    fn take_orders(&mut self) -> Result<(), String> {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.obey(order)?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err("the driver is gone".to_owned()),
            }
        }
    }

    /// How long to wait for events: until the next message is due, and never so long that an order waits noticeably.
    fn pause(&self) -> u64 {
        let most = 1_000_000;
        if self.loading && self.start.rate > 0 { self.next_send.saturating_sub(now_ns()).min(most) } else { most }
    }

    /// Sends what is due. Whether more could be sent at once.
    fn send_load(&mut self) -> Result<bool, String> {
        let mut now = now_ns();
        for index in 0..SEND_BURST {
            // At full speed one reading of the clock serves eight messages.
            if index % 8 == 7 || self.start.rate > 0 {
                now = now_ns();
            }
            if self.start.ping && self.own_delivered < self.sent {
                return Ok(false);
            }
            if let Some(step) = 1_000_000_000_u64.checked_div(self.start.rate) {
                if now < self.next_send {
                    return Ok(false);
                }
                if self.start.timetable {
                    if !self.send_one(self.next_send)? {
                        return Ok(false);
                    }
                    self.next_send += step;
                    continue;
                }
                // After a pause (a view change) no more than 10 ms are made up for.
                self.next_send = (self.next_send + step).max(now.saturating_sub(10_000_000));
                if self.start.ping {
                    self.next_send = now + step;
                }
            }
            if !self.send_one(now)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Round trips: the first member asks when all have answered, the others answer. Whether something was sent.
    fn exchange(&mut self) -> Result<bool, String> {
        if self.ledger.own_rank > 0 {
            let before = self.sent;
            while self.sent < self.ledger.of_rank(0) && self.send_one(0)? {}
            return Ok(self.sent > before);
        }
        if self.ledger.least_of_others() < self.sent {
            return Ok(false);
        }
        let now = now_ns();
        if self.asked_at > 0 {
            self.histogram.saturating_record((now - self.asked_at).max(1));
        }
        let asks = self.loading && self.send_one(now)?;
        self.asked_at = if asks { now } else { 0 };
        Ok(asks)
    }

    /// Sends a message with this time; false: the window is full.
    fn send_one(&mut self, time: u64) -> Result<bool, String> {
        self.buffer[..8].copy_from_slice(&(self.sent + 1).to_le_bytes());
        self.buffer[8..STAMP].copy_from_slice(&time.to_le_bytes());
        if self.options.kind == Kind::Causal {
            self.ledger.write_vector(&mut self.buffer[STAMP..]);
        }
        match self.node.multicast(self.group, self.options, &self.buffer) {
            Ok(_) => {
                self.sent += 1;
                Ok(true)
            }
            Err(NodeError::WouldBlock) => Ok(false),
            Err(error) => Err(format!("multicast: {error}")),
        }
    }

    fn take(&mut self, event: NodeEvent) -> Result<(), String> {
        match event {
            NodeEvent::Message(message) => self.deliver(&message, &Batch::new())?,
            NodeEvent::View { view, rank, .. } => self.view(&view, rank),
            NodeEvent::SystemJoined { process, system } => tell(&Report::Admitted {
                at: now_ns(),
                process: process.0,
                system: format!("{:032x}", system.0),
                join_at: self.join_at,
            }),
            NodeEvent::StateWanted { transfer, .. } => {
                self.handovers.push_back(Handover { transfer, bytes: self.ledger.snapshot(), sent: 0 });
            }
            NodeEvent::StateAborted { transfer, .. } => self.handovers.retain(|one| one.transfer != transfer),
            NodeEvent::StateBlock { offset, block, done, .. } => {
                if offset == 0 {
                    self.incoming.clear();
                    self.incoming_at = now_ns();
                }
                self.incoming.extend_from_slice(&block);
                if done {
                    let bytes = std::mem::take(&mut self.incoming);
                    self.ledger.restore(&bytes)?;
                    tell(&Report::State { first_at: self.incoming_at, at: now_ns(), bytes: bytes.len() as u64 });
                }
            }
            NodeEvent::Closed => self.finished = true,
            NodeEvent::Poisoned | NodeEvent::Evicted | NodeEvent::Refused { .. } if !self.quitting => {
                return Err(format!("{event:?}"));
            }
            NodeEvent::Stalled | NodeEvent::Resumed | NodeEvent::Slow { .. } => {
                tell(&Report::Note(format!("{event:?}")));
            }
            _ => (),
        }
        Ok(())
    }

    fn view(&mut self, view: &View, rank: u16) {
        let at = now_ns();
        self.in_view = true;
        self.ledger.view(view, rank);
        let members = view.members.iter().map(|m| (m.process.0, m.nonce.birth(), m.address.port)).collect();
        tell(&Report::View { at, number: view.number, group: view.group.0, rank, members });
    }

    /// A message, and those that follow it: each is checked.
    fn deliver(&mut self, first: &Message, batch: &Batch) -> Result<(), String> {
        self.check(first, None, 0)?;
        for index in 0..batch.len() {
            self.check(first, Some((batch, index)), 1 + index as u64)?;
        }
        Ok(())
    }

    /// The `later`-th message after `message`, which `place` is that of, if it is not that one itself.
    #[inline]
    fn check(&mut self, message: &Message, place: Option<(&Batch, usize)>, later: u64) -> Result<(), String> {
        let bytes = match place {
            None => self.node.payload(message),
            Some((batch, index)) => self.node.batch_payload(batch, index),
        };
        if bytes.len() != self.buffer.len() {
            return Err(format!("a message of {} bytes instead of {}", bytes.len(), self.buffer.len()));
        }
        let (number, time) = (u64_at(bytes, 0), u64_at(bytes, 8));
        let rank = usize::from(message.rank);
        let order = if message.order > 0 { message.order + later } else { 0 };
        self.ledger.deliver(rank, number, order)?;
        if message.kind == Kind::Causal {
            self.ledger.check_vector(rank, &bytes[STAMP..])?;
        }
        if rank == self.ledger.own_rank {
            self.own_delivered = number;
            // One in sixteen is enough under full load, and leaves the processor to the load.
            if !self.start.answers && (self.start.rate > 0 || number % 16 == 0) {
                self.histogram.saturating_record(now_ns().saturating_sub(time).max(1));
            }
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), String> {
        while let Some(handover) = self.handovers.front_mut() {
            let end = handover.bytes.len().min(handover.sent + BLOCK);
            let done = end == handover.bytes.len();
            match self.node.state_block(self.group, handover.transfer, &handover.bytes[handover.sent..end], done) {
                Ok(()) => handover.sent = end,
                Err(NodeError::WouldBlock) => return Ok(()),
                Err(error) => return Err(format!("state_block: {error}")),
            }
            if done {
                self.handovers.pop_front();
            }
        }
        Ok(())
    }

    fn obey(&mut self, order: Order) -> Result<(), String> {
        match order {
            Order::Load => {
                self.loading = true;
                self.next_send = now_ns();
            }
            Order::Measure => {
                self.measured_from = now_ns();
                self.measured_cpu = cpu_ns();
                self.base = (self.ledger.count, self.ledger.count * self.buffer.len() as u64, self.sent);
                self.histogram.reset();
            }
            Order::Tell => tell(&Report::Measured {
                elapsed_ns: now_ns() - self.measured_from,
                delivered: self.ledger.count - self.base.0,
                bytes: self.ledger.count * self.buffer.len() as u64 - self.base.1,
                sent: self.sent - self.base.2,
                cpu_ns: cpu_ns() - self.measured_cpu,
                histogram: self
                    .histogram
                    .iter_recorded()
                    .map(|v| (v.value_iterated_to(), v.count_at_value()))
                    .collect(),
            }),
            Order::Hush => {
                self.loading = false;
                let process = self.node.process().map_or(0, |process| process.0);
                tell(&Report::Sent { process, count: self.sent });
            }
            Order::Settle(wanted) => self.settle = Some(wanted),
            Order::Counters => tell(&Report::Counters(
                self.node.counters().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            )),
            Order::Quit => {
                self.loading = false;
                self.quitting = true;
                self.node.close().map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn settle_if_done(&mut self) {
        if self.settle.as_ref().is_some_and(|wanted| self.ledger.has(wanted)) {
            self.settle = None;
            tell(&Report::Settled { delivered: self.ledger.count, digest: self.ledger.digest });
        }
    }
}

/// Eight bytes as a number.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}
