//! One group's commands of one producer: bounded, in order, and in the way of other groups only where causality asks for it
//! (see `inbox`).
//!
//! When the core answers `WouldBlock` (a full window), the command waits here and the ring goes on. So that what waits is
//! bounded, the producer counts what it has submitted and the core publishes what it has taken: the difference, in bytes,
//! stays below `group_backlog`. Beyond it the producer's call gives `WouldBlock`, and `NodeEvent::Writable` follows.
//!
//! Owner: [`Lane`] the core thread, [`Valve`] the producer; they share a [`Gate`]. Invariant: submitted - taken = bytes in
//! the ring, the annex and the lane for this group.

use crate::command::Command;
use isis_memory::Doorbell;
use isis_memory::sync::{AtomicBool, AtomicU64, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;

/// Shared by both sides.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Cost of all commands that the core has carried out or refused.
    taken: AtomicU64,
    /// Armed when the producer was told to wait.
    waiting: Doorbell,
    /// This process is no member of the group any more.
    closed: AtomicBool,
}

/// The producer's side.
#[derive(Debug)]
pub(crate) struct Valve {
    gate: Arc<Gate>,
    submitted: u64,
    backlog: u64,
}

impl Valve {
    pub fn new(backlog: usize) -> (Valve, Arc<Gate>) {
        let gate = Arc::new(Gate::default());
        (Valve { gate: gate.clone(), submitted: 0, backlog: backlog as u64 }, gate)
    }

    /// Whether a command of this cost may be submitted now. An empty lane takes a command of any cost. With `announce` a
    /// `false` is followed by a `Writable`.
    pub fn admits(&self, cost: u64, announce: bool) -> bool {
        if self.has_room(cost) {
            return true;
        }
        if !announce {
            return false;
        }
        self.wait_for_room();
        // Once more: what was taken in between rings no bell.
        self.has_room(cost)
    }

    /// The caller was told to wait for another reason: it is to hear when something was taken.
    pub fn wait_for_room(&self) {
        self.gate.waiting.arm();
    }

    fn has_room(&self, cost: u64) -> bool {
        // Acquire: pairs with the Release store in `Lane::take`.
        let waiting = self.submitted - self.gate.taken.load(Ordering::Acquire);
        waiting == 0 || waiting + cost <= self.backlog
    }

    /// A command of this cost was submitted.
    pub fn submit(&mut self, cost: u64) {
        self.submitted += cost;
    }

    /// Whether the group is gone.
    pub fn is_closed(&self) -> bool {
        // Acquire: pairs with the Release store in `Lane::close`.
        self.gate.closed.load(Ordering::Acquire)
    }
}

/// A command that waits.
#[derive(Debug)]
pub(crate) struct Parked {
    /// Its place among those that its producer's commands ever took.
    pub place: u64,
    /// A message with causal order.
    pub causal: bool,
    pub command: Command<Box<[u8]>>,
}

/// The core's side.
#[derive(Debug)]
pub(crate) struct Lane {
    gate: Arc<Gate>,
    taken: u64,
    /// The group's domain of causality.
    pub domain: u32,
    /// Commands that found the window full, oldest first.
    pub parked: VecDeque<Parked>,
    /// The places of those that are messages with causal order.
    causal: VecDeque<u64>,
    /// The places of ABCASTs to several groups, this one among them, that are parked in another one's lane.
    elsewhere: VecDeque<u64>,
    /// Something was taken since the bell was looked at.
    pub touched: bool,
}

impl Lane {
    pub fn new(gate: Arc<Gate>, domain: u32) -> Lane {
        Lane {
            gate,
            taken: 0,
            domain,
            parked: VecDeque::new(),
            causal: VecDeque::new(),
            elsewhere: VecDeque::new(),
            touched: false,
        }
    }

    /// A command has to wait.
    pub fn park(&mut self, parked: Parked) {
        if parked.causal {
            self.causal.push_back(parked.place);
        }
        self.parked.push_back(parked);
    }

    /// The oldest parked command is done with. Gives it.
    pub fn unpark(&mut self) -> Option<Parked> {
        let parked = self.parked.pop_front()?;
        if parked.causal {
            self.causal.pop_front();
        }
        self.take(parked.command.cost());
        Some(parked)
    }

    /// The place of the oldest parked message with causal order that goes to the group.
    pub fn first_causal(&self) -> Option<u64> {
        self.causal.front().into_iter().chain(self.elsewhere.front()).min().copied()
    }

    /// The place of the oldest parked command on the group.
    pub fn first(&self) -> Option<u64> {
        self.parked.front().map(|parked| parked.place).into_iter().chain(self.elsewhere.front().copied()).min()
    }

    /// A message to this group as well is parked in another one's lane.
    pub fn park_elsewhere(&mut self, place: u64) {
        self.elsewhere.push_back(place);
    }

    /// It is parked no more.
    pub fn unpark_elsewhere(&mut self, place: u64) {
        self.elsewhere.retain(|it| *it != place);
    }

    /// A command of this cost is done with.
    pub fn take(&mut self, cost: u64) {
        self.taken += cost;
        self.touched = true;
        // Release: pairs with the Acquire load in `Valve::has_room`.
        self.gate.taken.store(self.taken, Ordering::Release);
    }

    /// Whether the producer waits for a `Writable`. Says so once.
    pub fn owes_writable(&mut self) -> bool {
        self.touched = false;
        self.gate.waiting.ring()
    }

    /// The group is gone: what waits is dropped. Gives it.
    pub fn close(&mut self) -> VecDeque<Parked> {
        self.causal.clear();
        // Release: pairs with the Acquire load in `Valve::is_closed`.
        self.gate.closed.store(true, Ordering::Release);
        std::mem::take(&mut self.parked)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_refuses_and_says_when_it_has_room() {
        let (mut valve, gate) = Valve::new(1000);
        let mut lane = Lane::new(gate, 0);
        assert!(valve.admits(5000, true), "an empty lane takes anything");
        valve.submit(5000);
        assert!(!lane.owes_writable(), "nobody waits");
        assert!(!valve.admits(1, true));
        lane.take(5000);
        assert!(lane.touched && lane.owes_writable());
        assert!(!lane.owes_writable(), "said once");
        assert!(valve.admits(600, true));
        valve.submit(600);
        assert!(!valve.admits(600, true));
        assert!(valve.admits(400, true));
        assert!(lane.close().is_empty());
        assert!(valve.is_closed());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::thread::spawn;

    /// A producer that is told to wait is told when it need not any more, or finds room when it looks once more.
    #[test]
    fn no_writable_is_lost() {
        loom::model(|| {
            let (mut valve, gate) = Valve::new(1000);
            let mut lane = Lane::new(gate, 0);
            valve.submit(900);
            let producer = spawn(move || valve.admits(200, true));
            lane.take(900);
            let told = lane.owes_writable();
            let admitted = producer.join().expect("it ends");
            assert!(admitted || told || lane.owes_writable(), "it waits for ever");
        });
    }

    /// What the core has not taken never exceeds the backlog, but for one command of any cost into an empty lane.
    #[test]
    fn the_backlog_is_a_limit() {
        loom::model(|| {
            let (mut valve, gate) = Valve::new(1000);
            let mut lane = Lane::new(gate, 0);
            valve.submit(600);
            valve.submit(300);
            let producer = spawn(move || {
                let small = valve.admits(100, false);
                let large = valve.admits(800, false);
                (small, large)
            });
            lane.take(600);
            let (small, large) = producer.join().expect("it ends");
            assert!(small && !large, "at least 300 wait, at most 900");
            lane.take(300);
        });
    }

    /// A group that is gone is seen to be.
    #[test]
    fn a_closed_lane_is_closed_for_good() {
        loom::model(|| {
            let (valve, gate) = Valve::new(1000);
            let mut lane = Lane::new(gate, 0);
            let producer = spawn(move || {
                let before = valve.is_closed();
                (before, valve.is_closed())
            });
            lane.close();
            let (before, after) = producer.join().expect("it ends");
            assert!(!before || after);
        });
    }
}
