//! The core thread of a threaded node: the loop between two mailboxes.
//!
//! ```text
//! commands (one ring per producer) → site events, receive, timeouts, transmit → events (one ring to the application)
//! ```
//! Back-pressure: a command that finds its group's window full waits in its lane, others go on (see `lane`); when the
//! ring to the application is full, the core's next event is not polled, so nothing more counts as consumed and the
//! senders' windows close. Everything else goes on: the process stays a good member while its application computes.
//!
//! The application numbers groups and flushes itself (it must not wait for the core), so the thread translates.
//!
//! Owner: the thread. Invariants: an event is polled only when the one before it is in the ring; the thread sleeps only
//! after a whole turn without work that began with its bell armed. A panic ends the thread: the node is poisoned, the
//! sockets close and the site hears a farewell, so that peers see a crash.

use crate::clock;
use crate::command::{Action, Command, decode};
use crate::event::{CommandName, NodeEvent};
use crate::lane::{Gate, Lane};
use crate::lanes::Lanes;
use crate::mailbox::{Inlet, Outlet};
use crate::options::WaitStrategy;
use crate::sleep::{Idle, Wake, sleep_on};
use crate::tickets::Tickets;
use crate::turn::CoreLoop;
use isis_memory::Doorbell;
use isis_memory::sync::{AtomicBool, Ordering};
use isis_protocol::{Delivery, Event, GroupHandle, Instant, JoinOptions, Refused};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Commands taken from one producer in one turn, at most.
const COMMANDS: usize = 256;
/// Events passed to the application in one turn, at most.
const EVENTS: usize = 1024;
/// Events of the runtime itself (`Refused`, `Writable`) that may wait: beyond it no commands are taken.
const OWN_EVENTS: usize = 1024;

/// What both sides see.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Wakes the core thread.
    pub core: Wake,
    /// Wakes the application.
    pub app: Wake,
    /// Armed by a producer whose ring was full.
    pub ring_full: Doorbell,
    /// The application wants the thread to end now.
    pub stop: AtomicBool,
    /// The application wants to leave the system. A flag, so that a full ring cannot refuse it.
    pub close: AtomicBool,
    /// The thread panicked.
    pub poisoned: AtomicBool,
    /// The thread has ended; no event comes any more.
    pub finished: AtomicBool,
    /// The process is stalled: it has no sends.
    pub stalled: AtomicBool,
    /// Somebody waits for fresh counters.
    pub counters_wanted: AtomicBool,
    pub counters: Mutex<Vec<(&'static str, u64)>>,
    pub counters_ready: Condvar,
}

/// What is not a frequent command on a group.
#[derive(Debug)]
pub(crate) enum ToCore {
    /// A command that is too long for the ring.
    Command(Command<Box<[u8]>>),
    Join {
        group: GroupHandle,
        name: String,
        options: JoinOptions,
        gate: Arc<Gate>,
    },
    /// A further producer, for one group.
    Sender {
        group: GroupHandle,
        inlet: Inlet<ToCore>,
        gate: Arc<Gate>,
    },
}

/// One producer's commands.
#[derive(Debug)]
struct Inbox {
    inlet: Inlet<ToCore>,
    lanes: Lanes,
}

/// An event that did not fit into the ring yet.
#[derive(Debug)]
enum Held {
    Message(Delivery),
    Value(NodeEvent, usize),
}

/// Everything that the thread owns.
#[derive(Debug)]
pub(crate) struct Core {
    engine: CoreLoop,
    shared: Arc<Shared>,
    inboxes: Vec<Inbox>,
    outlet: Outlet<NodeEvent>,
    held: Option<Held>,
    own: VecDeque<NodeEvent>,
    groups: Names,
    /// `close` was asked for: when it is carried out even with commands still waiting.
    closing: Option<Instant>,
    linger_ns: u64,
    finished: bool,
    /// What `shared.stalled` says.
    stalled: bool,
}

/// The application's names and the core's.
#[derive(Debug, Default)]
struct Names {
    to_core: BTreeMap<GroupHandle, GroupHandle>,
    to_app: BTreeMap<GroupHandle, GroupHandle>,
    /// (core's group, core's number) → application's number.
    flushes: BTreeMap<(GroupHandle, u64), u64>,
    /// By the core's group.
    tickets: BTreeMap<GroupHandle, Tickets>,
    /// The view of each of the core's groups that was passed to the application last.
    views: BTreeMap<GroupHandle, u64>,
}

impl Core {
    pub fn new(
        engine: CoreLoop,
        shared: Arc<Shared>,
        inlet: Inlet<ToCore>,
        outlet: Outlet<NodeEvent>,
        linger_ns: u64,
    ) -> Core {
        Core {
            engine,
            shared,
            inboxes: vec![Inbox { inlet, lanes: Lanes::default() }],
            outlet,
            held: None,
            own: VecDeque::new(),
            groups: Names::default(),
            closing: None,
            linger_ns,
            finished: false,
            stalled: false,
        }
    }

    /// The thread.
    pub fn run(mut self, strategy: WaitStrategy) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work_until_the_end(strategy)));
        // What a panic left half done is only dropped, never used: but for the farewell, which touches the transport
        // alone, and the counters.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.engine.port.farewell();
            self.publish_counters();
        }));
        // Release (both): pair with the Acquire loads in `Remote`, which then sees every event that was passed.
        self.shared.poisoned.store(outcome.is_err(), Ordering::Release);
        self.shared.finished.store(true, Ordering::Release);
        self.shared.counters_ready.notify_all();
        self.shared.app.force();
    }

    fn work_until_the_end(&mut self, strategy: WaitStrategy) {
        let mut idle = Idle::new(strategy);
        // Acquire: pairs with the Release store in `Remote`'s drop.
        while !self.finished && !self.shared.stop.load(Ordering::Acquire) {
            if self.turn() > 0 {
                idle.reset();
            } else if idle.should_sleep() {
                self.sleep();
            }
        }
    }

    fn sleep(&mut self) {
        let shared = self.shared.clone();
        shared.core.arm();
        // Acquire: as above. A stop that comes later finds the bell armed, or forces the descriptor.
        if self.turn() == 0
            && !self.finished
            && !shared.stop.load(Ordering::Acquire)
            && self.engine.port.prepare_sleep()
        {
            let deadline = [self.engine.deadline(), self.closing].into_iter().flatten().min();
            self.engine.counters.sleeps += 1;
            sleep_on(&[shared.core.descriptor(), self.engine.port.descriptor()], deadline);
        }
        shared.core.disarm();
    }

    /// One turn of the whole loop; the amount of work done.
    fn turn(&mut self) -> usize {
        let work = self.commands() + self.engine.turn();
        let passed = self.events();
        self.note_stall();
        if passed > 0 {
            self.shared.app.notify();
        }
        // Acquire: pairs with the Release store in `Remote::counters`.
        if self.shared.counters_wanted.load(Ordering::Acquire) {
            self.publish_counters();
        }
        work + passed
    }

    fn publish_counters(&mut self) {
        let counters = self.engine.counters();
        *self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
        // Release: pairs with the Acquire load in `Remote::counters`.
        self.shared.counters_wanted.store(false, Ordering::Release);
        self.shared.counters_ready.notify_all();
    }

    // --- commands -------------------------------------------------------------------------------------------------

    fn commands(&mut self) -> usize {
        let now = clock::now();
        let mut work = 0;
        let mut index = 0;
        while index < self.inboxes.len() {
            work += self.parked(index, now);
            // Before the ring is looked at: what was pushed before the producer went away is then in it.
            let closed = self.inboxes[index].inlet.ring.is_closed();
            let taken = self.take_commands(index, now);
            work += taken;
            let inbox = &self.inboxes[index];
            if index > 0 && closed && taken == 0 && inbox.lanes.is_idle() {
                self.inboxes.swap_remove(index);
            } else {
                index += 1;
            }
        }
        if work > 0 {
            self.engine.counters.commands += work as u64;
            if !self.stalled {
                self.announce_room(false);
            }
        }
        work + self.close_if_due(now)
    }

    /// Tries again what found a full window.
    fn parked(&mut self, index: usize, now: Instant) -> usize {
        let (engine, groups, own) = (&mut self.engine, &mut self.groups, &mut self.own);
        self.inboxes[index].lanes.retry(|command| carry_out(engine, groups, own, now, command))
    }

    fn take_commands(&mut self, index: usize, now: Instant) -> usize {
        for work in 0..COMMANDS {
            if self.own.len() >= OWN_EVENTS {
                return work;
            }
            let inbox = &mut self.inboxes[index];
            let Some(record) = inbox.inlet.ring.peek() else { return work };
            match decode(record) {
                Some(command) => {
                    let (engine, groups, own) = (&mut self.engine, &mut self.groups, &mut self.own);
                    inbox.lanes.offer(&command, |command| carry_out(engine, groups, own, now, command));
                    inbox.inlet.ring.release();
                }
                None => {
                    let value = inbox.inlet.pop_value();
                    inbox.inlet.ring.release();
                    self.rare(index, now, value);
                }
            }
        }
        COMMANDS
    }

    fn rare(&mut self, index: usize, now: Instant, value: ToCore) {
        match value {
            ToCore::Command(command) => {
                let (engine, groups, own) = (&mut self.engine, &mut self.groups, &mut self.own);
                self.inboxes[index].lanes.offer(&command, |command| carry_out(engine, groups, own, now, command));
            }
            ToCore::Join { group, name, options, gate } => {
                let mut lane = Lane::new(gate, options.domain);
                match self.engine.machine.join(now, &name, options) {
                    Ok(handle) => {
                        self.groups.to_core.insert(group, handle);
                        self.groups.to_app.insert(handle, group);
                        self.inboxes[index].lanes.insert(group, lane);
                    }
                    Err(reason) => {
                        lane.close();
                        self.own.push_back(NodeEvent::Refused { group, command: CommandName::Join, reason, number: 0 });
                        self.own.push_back(NodeEvent::Left { group });
                    }
                }
            }
            ToCore::Sender { group, inlet, gate } => {
                // Alone in its inbox: its domain does not matter.
                let mut lane = Lane::new(gate, 0);
                if !self.groups.to_core.contains_key(&group) {
                    lane.close();
                }
                let mut lanes = Lanes::default();
                lanes.insert(group, lane);
                self.inboxes.push(Inbox { inlet, lanes });
            }
        }
    }

    /// Lets the producers know whether the process is stalled; those that were refused for it hear when it is over.
    fn note_stall(&mut self) {
        let stalled = self.engine.machine.is_stalled();
        if stalled != self.stalled {
            self.stalled = stalled;
            // Release: pairs with the Acquire loads in `Pipe::refuses_sends`. A producer that armed its bell before it saw
            // this is rung for below: the bell's fences order the two.
            self.shared.stalled.store(stalled, Ordering::Release);
            if !stalled {
                self.announce_room(true);
            }
        }
    }

    /// Tells producers that were refused that they may try again.
    fn announce_room(&mut self, all: bool) {
        let all = self.shared.ring_full.ring() || all;
        for inbox in &mut self.inboxes {
            self.own.extend(inbox.lanes.owed_writable(all).map(|group| NodeEvent::Writable { group }));
        }
    }

    /// `close` comes after the commands that were given before it, but does not wait for a window for ever.
    fn close_if_due(&mut self, now: Instant) -> usize {
        // Acquire: pairs with the Release store in `Remote::close`, which comes after all commands before it.
        if self.shared.close.load(Ordering::Acquire) {
            self.shared.close.store(false, Ordering::Relaxed);
            self.closing = self.closing.or(Some(now + self.linger_ns));
        }
        let Some(deadline) = self.closing else { return 0 };
        let waiting = self.inboxes.iter_mut().any(|inbox| inbox.inlet.ring.peek().is_some() || !inbox.lanes.is_idle());
        if waiting && now < deadline {
            return 0;
        }
        self.closing = None;
        self.engine.machine.close(now);
        1
    }

    // --- events ---------------------------------------------------------------------------------------------------

    fn events(&mut self) -> usize {
        for work in 0..EVENTS {
            if let Some(event) = self.own.pop_front() {
                if let Err(event) = self.outlet.push_value(event, 0) {
                    self.own.push_front(event);
                    return work;
                }
                continue;
            }
            if self.held.is_none() {
                let Some(event) = self.engine.poll_event() else { return work };
                self.held = self.translate(event);
            }
            match self.held.take() {
                None => (),
                Some(Held::Message(delivery)) => {
                    let payload = self.engine.machine.payload(&delivery.body);
                    let group = self.groups.app(delivery.group);
                    if !self.outlet.push_message(&delivery, group, payload) {
                        self.held = Some(Held::Message(delivery));
                        return work;
                    }
                }
                Some(Held::Value(event, bytes)) => {
                    let last = matches!(event, NodeEvent::Closed);
                    if let Err(event) = self.outlet.push_value(event, bytes) {
                        self.held = Some(Held::Value(event, bytes));
                        return work;
                    }
                    self.finished |= last;
                }
            }
        }
        EVENTS
    }

    /// The application's form of an event, or `None` when it is no business of the application's.
    fn translate(&mut self, event: Event) -> Option<Held> {
        let event = match event {
            Event::Message(mut delivery) => {
                if delivery.ticket > 0 {
                    delivery.ticket = self.groups.tickets.get(&delivery.group).map_or(0, |t| t.find(delivery.ticket));
                }
                return Some(Held::Message(delivery));
            }
            // The waiting commands are tried again in the next turn; the application hears from `announce_room`.
            Event::Writable { .. } => return None,
            Event::Flushed { group, flush } => {
                let flush = self.groups.flushes.remove(&(group, flush)).unwrap_or_default();
                NodeEvent::Flushed { group: self.groups.app(group), flush }
            }
            Event::FlushLost { group, flush } => {
                let flush = self.groups.flushes.remove(&(group, flush)).unwrap_or_default();
                let (command, reason) = (CommandName::Flush, Refused::Ended);
                NodeEvent::Refused { group: self.groups.app(group), command, reason, number: flush }
            }
            Event::View { group, view, rank } => {
                self.groups.views.insert(group, view.number);
                NodeEvent::View { group: self.groups.app(group), view, rank }
            }
            Event::Completed { group, ticket } => {
                let ticket = self.groups.tickets.get(&group).map_or(0, |tickets| tickets.find(ticket));
                NodeEvent::Completed { group: self.groups.app(group), ticket }
            }
            Event::Left { group } => NodeEvent::Left { group: self.forget(group) },
            Event::GroupEnded { group } => NodeEvent::GroupEnded { group: self.forget(group) },
            other => NodeEvent::from_core(other, &|group| self.groups.app(group)),
        };
        let bytes = if let NodeEvent::StateBlock { block, .. } = &event { block.len() } else { 0 };
        Some(Held::Value(event, bytes))
    }

    /// The handle of one of the core's groups is dead. Gives the application's name for it.
    fn forget(&mut self, group: GroupHandle) -> GroupHandle {
        let app = self.groups.app(group);
        self.groups.to_app.remove(&group);
        self.groups.to_core.remove(&app);
        self.groups.flushes.retain(|(of, _), _| *of != group);
        self.groups.tickets.remove(&group);
        self.groups.views.remove(&group);
        for inbox in &mut self.inboxes {
            for (group, number) in inbox.lanes.close(app) {
                let (command, reason) = (CommandName::Multicast, Refused::NotMember);
                self.own.push_back(NodeEvent::Refused { group, command, reason, number });
            }
        }
        self.inboxes[0].lanes.remove(app);
        app
    }
}

impl Names {
    fn app(&self, group: GroupHandle) -> GroupHandle {
        self.to_app.get(&group).copied().unwrap_or_default()
    }
}

/// `false`: it would block. Any other refusal becomes an event.
fn carry_out<D: AsRef<[u8]>>(
    engine: &mut CoreLoop,
    groups: &mut Names,
    own: &mut VecDeque<NodeEvent>,
    now: Instant,
    command: &Command<D>,
) -> bool {
    if matches!(command.action, Action::MulticastGroups { .. }) {
        return multicast_groups(engine, groups, own, now, command);
    }
    // Sending view: the message was meant for the view that the application knew of. It is not put off to another one.
    let mut in_time = true;
    let outcome = match groups.to_core.get(&command.group) {
        Some(handle) => {
            if let Action::Multicast { view, .. } = command.action {
                in_time = view == 0 || groups.views.get(handle) == Some(&view);
            }
            let number =
                if in_time { command.execute(&mut *engine.machine, now, *handle) } else { Err(Refused::WouldBlock) };
            number.map(|number| (*handle, number))
        }
        None => Err(Refused::NotMember),
    };
    match outcome {
        Ok((handle, flush)) if matches!(command.action, Action::Flush { .. }) => {
            groups.flushes.insert((handle, flush), command.number());
        }
        Ok((handle, ticket)) if command.ticket > 0 => {
            groups.tickets.entry(handle).or_default().note(ticket, command.ticket);
        }
        Ok(_) => (),
        Err(Refused::WouldBlock) if in_time => return false,
        Err(reason) => own.push_back(NodeEvent::Refused {
            group: command.group,
            command: command.name(),
            reason,
            number: command.number(),
        }),
    }
    true
}

/// `carry_out`, of an ABCAST to several groups.
fn multicast_groups<D: AsRef<[u8]>>(
    engine: &mut CoreLoop,
    groups: &mut Names,
    own: &mut VecDeque<NodeEvent>,
    now: Instant,
    command: &Command<D>,
) -> bool {
    let names = || std::iter::once((command.group, command.ticket)).chain(command.others().iter().copied());
    let handles: Option<Vec<GroupHandle>> = names().map(|(group, _)| groups.to_core.get(&group).copied()).collect();
    let outcome = handles.ok_or(Refused::NotMember).and_then(|handles| {
        let tickets = command.execute_in_groups(&mut *engine.machine, now, &handles)?;
        Ok(handles.into_iter().zip(tickets))
    });
    match outcome {
        Ok(sent) => {
            for ((handle, ticket), (_, told)) in sent.zip(names()) {
                groups.tickets.entry(handle).or_default().note(ticket, told);
            }
        }
        Err(Refused::WouldBlock) => return false,
        Err(reason) => {
            let refused =
                |(group, number)| NodeEvent::Refused { group, command: CommandName::Multicast, reason, number };
            own.extend(names().map(refused));
        }
    }
    true
}
