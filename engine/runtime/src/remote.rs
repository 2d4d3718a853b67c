//! The application's side of a threaded node: commands go into a ring, events come out of another.
//!
//! What can be said at once is said at once, from what the application has been told so far: not a member, too long, a
//! full backlog. What only the core can know comes as `NodeEvent::Refused`.
//!
//! Owner: [`Remote`] the application's thread, each [`crate::Sender`] the thread that uses it.

use crate::clock;
use crate::command::{Action, Command};
use crate::core::{Core, Shared, ToCore};
use crate::error::NodeError;
use crate::event::{NodeEvent, Payload};
use crate::lane::Valve;
use crate::mailbox::{Inlet, Outlet, mailbox};
use crate::options::Options;
use crate::sleep::{Idle, Wake, sleep_on};
use crate::turn::CoreLoop;
use isis_memory::sync::{AtomicBool, AtomicU64, Ordering};
use isis_memory::{Doorbell, NoRoom};
use isis_protocol::{GroupHandle, JoinOptions, Kind, SendOptions};
use isis_wire::client::RELAY_HEADER;
use isis_wire::multi::MultiHeader;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long `counters` waits for the core thread before it gives the last known ones.
const COUNTERS_WAIT: Duration = Duration::from_millis(100);
/// Tickets of further producers have the producer's number from this bit on, …
const PRODUCER_SHIFT: u32 = 48;
/// … of which there are so many.
const MOST_PRODUCERS: u64 = 1 << 13;

/// A producer's way to the core thread.
#[derive(Debug)]
pub(crate) struct Pipe {
    outlet: Outlet<ToCore>,
    shared: Arc<Shared>,
}

impl Pipe {
    /// Passes a command on, or says `WouldBlock`; `announce`: a `Writable` shall follow then.
    pub fn submit(&mut self, valve: &mut Valve, command: Command<&[u8]>, announce: bool) -> Result<(), NodeError> {
        if command.is_send() && self.refuses_sends(valve, announce) {
            return Err(NodeError::WouldBlock);
        }
        let cost = command.cost();
        if !valve.admits(cost, announce) {
            return Err(NodeError::WouldBlock);
        }
        if !self.push(&command) {
            if !announce {
                return Err(NodeError::WouldBlock);
            }
            valve.wait_for_room();
            self.shared.ring_full.arm();
            // Once more: what was released in between rings no bell.
            if !self.push(&command) {
                return Err(NodeError::WouldBlock);
            }
        }
        valve.submit(cost);
        self.shared.core.notify();
        Ok(())
    }

    /// Whether the process is stalled. With `announce` a `Writable` follows when it goes on.
    pub fn refuses_sends(&self, valve: &Valve, announce: bool) -> bool {
        // Acquire (both): pair with the Release store in `Core::note_stall`.
        if !self.shared.stalled.load(Ordering::Acquire) {
            return false;
        }
        if announce {
            valve.wait_for_room();
        }
        // Once more: if it went on in between, nobody may have been rung for.
        self.shared.stalled.load(Ordering::Acquire)
    }

    fn push(&mut self, command: &Command<&[u8]>) -> bool {
        let len = command.encoded_len();
        if !self.outlet.fits(len) {
            return self.outlet.push_value(ToCore::Command(command.to_owned()), command.data().len()).is_ok();
        }
        match self.outlet.ring.claim(len) {
            Ok(record) => command.encode(record),
            Err(NoRoom::Full | NoRoom::TooLong) => return false,
        }
        self.outlet.ring.commit()
    }

    fn pass(&mut self, value: ToCore) -> Result<(), NodeError> {
        self.outlet.push_value(value, 0).map_err(|_| NodeError::WouldBlock)?;
        self.shared.core.notify();
        Ok(())
    }

    /// Whether the thread has ended, and how.
    pub fn check(&self) -> Result<(), NodeError> {
        // Acquire (both): pair with the Release stores at the end of `Core::run`.
        if !self.shared.finished.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(if self.shared.poisoned.load(Ordering::Acquire) { NodeError::Poisoned } else { NodeError::Ended })
    }
}

/// What the application's side knows of a group.
#[derive(Debug)]
struct Group {
    valve: Valve,
    /// Its first view was seen, or it is registered as a client.
    member: bool,
    /// As a client.
    client: bool,
    /// In sending-view mode: the view that the application was told of last. Shared with further producers.
    told: Option<Arc<AtomicU64>>,
    /// The last ticket that was given out.
    tickets: u64,
    leaving: bool,
    /// An open claim: offset (for the alignment) and length in `buffer`.
    claim: Option<(usize, usize)>,
    buffer: Vec<u8>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Remote {
    pipe: Pipe,
    inlet: Inlet<NodeEvent>,
    /// The application holds the oldest record.
    borrowed: bool,
    told_poisoned: bool,
    /// By handle; the application's handles are 1, 2, 3 …
    groups: Vec<Option<Group>>,
    flushes: u64,
    /// Further producers opened so far.
    senders: u64,
    idle: Idle,
    options: Options,
    thread: Option<JoinHandle<()>>,
}

impl Remote {
    /// Starts the core thread.
    pub fn start(engine: CoreLoop, options: Options) -> Result<Remote, NodeError> {
        let shared = Arc::new(Shared {
            core: Wake::new()?,
            app: Wake::new()?,
            ring_full: Doorbell::new(),
            stop: AtomicBool::new(false),
            close: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            counters_wanted: AtomicBool::new(false),
            counters: Mutex::default(),
            counters_ready: Condvar::new(),
        });
        let (outlet, commands) = mailbox(options.command_ring);
        let (events, inlet) = mailbox(options.event_ring);
        let core = Core::new(engine, shared.clone(), commands, events, options.linger_ns);
        let (strategy, pin) = (options.wait, options.pin);
        let thread = std::thread::Builder::new()
            .name("isis-core".to_owned())
            .spawn(move || {
                if let Some(processor) = pin {
                    pin_to(processor);
                }
                core.run(strategy);
            })
            .map_err(|error| NodeError::system("starting the core thread", error))?;
        Ok(Remote {
            pipe: Pipe { outlet, shared },
            inlet,
            borrowed: false,
            told_poisoned: false,
            groups: vec![None],
            flushes: 0,
            senders: 0,
            idle: Idle::new(options.wait),
            options,
            thread: Some(thread),
        })
    }

    // --- events ---------------------------------------------------------------------------------------------------

    pub fn poll_event(&mut self) -> Option<NodeEvent> {
        self.give_back();
        // Before the ring is looked at: a poisoned core's last events come first.
        let poisoned = self.is_poisoned();
        let Some(event) = self.inlet.peek_event() else {
            if poisoned && !self.told_poisoned {
                self.told_poisoned = true;
                return Some(NodeEvent::Poisoned);
            }
            return None;
        };
        self.borrowed = true;
        match &event {
            NodeEvent::View { group, view, .. } => {
                if let Some(group) = self.group(*group) {
                    group.member = true;
                    if let Some(told) = &group.told {
                        // Relaxed: a producer that does not see it yet has not been told either.
                        told.store(view.number, Ordering::Relaxed);
                    }
                }
            }
            NodeEvent::Registered { group, .. } => {
                if let Some(group) = self.group(*group) {
                    group.member = true;
                }
            }
            NodeEvent::Left { group } | NodeEvent::GroupEnded { group } => {
                if let Some(place) = self.groups.get_mut(group.0 as usize) {
                    *place = None;
                }
            }
            _ => (),
        }
        Some(event)
    }

    /// Releases the record of the last event.
    fn give_back(&mut self) {
        if self.borrowed {
            self.borrowed = false;
            self.inlet.ring.release();
            // The core may wait for room.
            self.pipe.shared.core.notify();
        }
    }

    pub fn payload<'a>(&'a self, payload: &'a Payload) -> &'a [u8] {
        self.inlet.payload(payload)
    }

    fn has_event(&mut self) -> bool {
        self.give_back();
        let poisoned = self.is_poisoned();
        self.inlet.ring.peek().is_some() || (poisoned && !self.told_poisoned)
    }

    pub fn wait(&mut self, timeout_ns: Option<u64>) -> bool {
        let end = timeout_ns.map(|timeout| clock::now() + timeout);
        self.idle.reset();
        loop {
            // Before the look: a thread that ended before it passed its last events earlier.
            let finished = self.pipe.check().is_err();
            if self.has_event() {
                return true;
            }
            if finished || end.is_some_and(|end| end <= clock::now()) {
                return false;
            }
            if self.idle.should_sleep() && !self.prepare() {
                sleep_on(&[self.pipe.shared.app.descriptor()], end);
                self.pipe.shared.app.disarm();
            }
        }
    }

    /// `true`: there is an event. `false`: armed.
    pub fn prepare(&mut self) -> bool {
        self.pipe.shared.app.arm();
        let ready = self.has_event();
        if ready {
            self.pipe.shared.app.disarm();
        }
        ready
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.shared.app.descriptor()
    }

    fn is_poisoned(&self) -> bool {
        // Acquire: pairs with the Release store at the end of `Core::run`.
        self.pipe.shared.poisoned.load(Ordering::Acquire)
    }

    // --- commands -------------------------------------------------------------------------------------------------

    fn group(&mut self, group: GroupHandle) -> Option<&mut Group> {
        self.groups.get_mut(group.0 as usize)?.as_mut()
    }

    /// Submits a command on a group of which this process is a member, as far as it knows. Gives a message's ticket, else 0.
    pub fn submit(&mut self, group: GroupHandle, mut action: Action<&[u8]>) -> Result<u64, NodeError> {
        self.pipe.check()?;
        let mut limit = self.options.max_message;
        let Some(Some(state)) = self.groups.get_mut(group.0 as usize) else { return Err(NodeError::NotMember) };
        let leave = matches!(action, Action::Leave);
        if state.leaving || state.valve.is_closed() || !(state.member || leave) {
            return Err(NodeError::NotMember);
        }
        if let Action::Multicast { options, view, .. } = &mut action {
            check_kind(*options)?;
            if state.client {
                limit = check_client(*options, limit)?;
            }
            *view = told(state.told.as_deref());
        }
        let mut command = Command { group, ticket: 0, action };
        if command.data().len() > limit {
            return Err(NodeError::TooLong);
        }
        if command.is_send() {
            command.ticket = state.tickets + 1;
        }
        let ticket = command.ticket;
        self.pipe.submit(&mut state.valve, command, true)?;
        state.leaving = leave;
        state.tickets = state.tickets.max(ticket);
        Ok(ticket)
    }

    /// Submits an ABCAST to these groups; the node has checked how many, and the kind. Gives its tickets in them.
    pub fn multicast_groups(
        &mut self,
        groups: &[GroupHandle],
        options: SendOptions,
        data: &[u8],
    ) -> Result<Vec<u64>, NodeError> {
        self.pipe.check()?;
        let mut tickets = Vec::with_capacity(groups.len());
        for &group in groups {
            let state = self.group(group).ok_or(NodeError::NotMember)?;
            if !state.member || state.client || state.leaving || state.valve.is_closed() {
                return Err(NodeError::NotMember);
            }
            if state.told.is_some() {
                return Err(NodeError::BadKind);
            }
            tickets.push(state.tickets + 1);
        }
        if data.len() + MultiHeader::most_bytes(groups.len()) > self.options.max_message {
            return Err(NodeError::TooLong);
        }
        let mut named = groups.iter().copied().zip(tickets.iter().copied());
        let Some((group, ticket)) = named.next() else { return Err(NodeError::BadKind) };
        let action = Action::MulticastGroups { options, others: named.collect(), data };
        let command = Command { group, ticket, action };
        let cost = command.cost();
        for other in &groups[1..] {
            let Some(Some(state)) = self.groups.get(other.0 as usize) else { return Err(NodeError::NotMember) };
            if !state.valve.admits(cost, true) {
                return Err(NodeError::WouldBlock);
            }
        }
        let Some(Some(state)) = self.groups.get_mut(group.0 as usize) else { return Err(NodeError::NotMember) };
        self.pipe.submit(&mut state.valve, command, true)?;
        state.tickets = ticket;
        for (other, &ticket) in groups.iter().zip(&tickets).skip(1) {
            if let Some(state) = self.group(*other) {
                state.valve.submit(cost);
                state.tickets = ticket;
            }
        }
        Ok(tickets)
    }

    pub fn join(&mut self, name: &str, options: JoinOptions) -> Result<GroupHandle, NodeError> {
        self.pipe.check()?;
        let group = GroupHandle(self.groups.len() as u32);
        let (valve, gate) = Valve::new(self.options.group_backlog);
        let client = options.client;
        let told = (options.sending_view && !client).then(Arc::default);
        self.pipe.pass(ToCore::Join { group, name: name.to_owned(), options, gate })?;
        let (member, leaving) = (false, false);
        let state = Group { valve, member, client, told, tickets: 0, leaving, claim: None, buffer: Vec::new() };
        self.groups.push(Some(state));
        Ok(group)
    }

    pub fn flush(&mut self, group: GroupHandle) -> Result<u64, NodeError> {
        let number = self.flushes + 1;
        self.submit(group, Action::Flush { number })?;
        self.flushes = number;
        Ok(number)
    }

    pub fn close(&mut self) -> Result<(), NodeError> {
        self.pipe.check()?;
        // Release: pairs with the Acquire load in `Core::close_if_due`.
        self.pipe.shared.close.store(true, Ordering::Release);
        self.pipe.shared.core.notify();
        Ok(())
    }

    // --- claims: written into a buffer of the group's, copied into the ring at the commit ------------------------------

    pub fn claim(&mut self, group: GroupHandle, len: usize) -> Result<(), NodeError> {
        self.pipe.check()?;
        let limit = self.options.claim_max();
        let Some(Some(state)) = self.groups.get_mut(group.0 as usize) else { return Err(NodeError::NotMember) };
        if !state.member || state.client || state.leaving {
            return Err(NodeError::NotMember);
        }
        if state.claim.is_some() {
            return Err(NodeError::BadClaim);
        }
        if len > limit {
            return Err(NodeError::TooLong);
        }
        if self.pipe.refuses_sends(&state.valve, true) || !state.valve.admits(len as u64 + 64, true) {
            return Err(NodeError::WouldBlock);
        }
        if state.buffer.is_empty() {
            state.buffer = vec![0; limit + 8];
        }
        let offset = state.buffer.as_ptr().align_offset(8).min(8);
        state.claim = Some((offset, len));
        Ok(())
    }

    pub fn claimed(&mut self, group: GroupHandle) -> Result<&mut [u8], NodeError> {
        let state = self.group(group).ok_or(NodeError::BadClaim)?;
        let (offset, len) = state.claim.ok_or(NodeError::BadClaim)?;
        Ok(&mut state.buffer[offset..offset + len])
    }

    pub fn commit(&mut self, group: GroupHandle, options: SendOptions) -> Result<u64, NodeError> {
        let state = self.group(group).ok_or(NodeError::BadClaim)?;
        let (offset, len) = state.claim.ok_or(NodeError::BadClaim)?;
        // Out of the group's state while it is submitted; back in the same place, whatever comes of it.
        let buffer = std::mem::take(&mut state.buffer);
        let data = &buffer[offset..offset + len];
        let outcome = self.submit(group, Action::Multicast { options, view: 0, data });
        if let Some(state) = self.group(group) {
            state.buffer = buffer;
            if outcome.is_ok() {
                state.claim = None;
            }
        }
        outcome
    }

    pub fn abort(&mut self, group: GroupHandle) -> Result<(), NodeError> {
        let state = self.group(group).ok_or(NodeError::BadClaim)?;
        state.claim.take().map(|_| ()).ok_or(NodeError::BadClaim)
    }

    // --- others ---------------------------------------------------------------------------------------------------

    /// A further producer for one group.
    pub fn open_sender(&mut self, group: GroupHandle) -> Result<(Pipe, Valve, Producer), NodeError> {
        self.pipe.check()?;
        let state = self.group(group).filter(|state| state.member && !state.leaving).ok_or(NodeError::NotMember)?;
        let (told, client) = (state.told.clone(), state.client);
        let (outlet, inlet) = mailbox(self.options.command_ring);
        let (valve, gate) = Valve::new(self.options.group_backlog);
        self.pipe.pass(ToCore::Sender { group, inlet, gate })?;
        self.senders += 1;
        // Beyond that many senders the numbers come again; the early ones' messages are long forgotten.
        let tickets = (1 + (self.senders - 1) % MOST_PRODUCERS) << PRODUCER_SHIFT;
        Ok((Pipe { outlet, shared: self.pipe.shared.clone() }, valve, Producer { told, client, tickets }))
    }

    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let shared = &self.pipe.shared;
        let last = shared.counters.lock().unwrap_or_else(PoisonError::into_inner);
        // Release: pairs with the Acquire load in `Core::turn`.
        shared.counters_wanted.store(true, Ordering::Release);
        shared.core.force();
        let (last, _) = shared
            .counters_ready
            // Acquire: pair with the Release stores in `Core`.
            .wait_timeout_while(last, COUNTERS_WAIT, |_| {
                shared.counters_wanted.load(Ordering::Acquire) && !shared.finished.load(Ordering::Acquire)
            })
            .unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Release: pairs with the Acquire loads in `Core`.
        self.pipe.shared.stop.store(true, Ordering::Release);
        self.pipe.shared.core.force();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was caught there, and told as `Poisoned`.
            let _ = thread.join();
        }
    }
}

/// What a further producer of a group knows.
#[derive(Debug)]
pub(crate) struct Producer {
    told: Option<Arc<AtomicU64>>,
    /// Of a client.
    pub client: bool,
    /// The last ticket that was given out.
    pub tickets: u64,
}

impl Producer {
    /// The view that a multicast is meant for; 0: any.
    pub fn view(&self) -> u64 {
        told(self.told.as_deref())
    }
}

fn told(view: Option<&AtomicU64>) -> u64 {
    // Relaxed: see where it is stored.
    view.map_or(0, |view| view.load(Ordering::Relaxed))
}

/// Whether a multicast can be of this kind.
pub(crate) fn check_kind(options: SendOptions) -> Result<(), NodeError> {
    match options.kind {
        Kind::Fifo | Kind::Causal | Kind::Total | Kind::Global => Ok(()),
        Kind::Unicast | Kind::Reply => Err(NodeError::BadKind),
    }
}

/// Whether a client can multicast with these options, and how many bytes, if a member may send `limit`.
pub(crate) fn check_client(options: SendOptions, limit: usize) -> Result<usize, NodeError> {
    match options.kind {
        Kind::Global => Err(NodeError::BadKind),
        _ => Ok(limit.saturating_sub(RELAY_HEADER)),
    }
}

/// Pins the calling thread; a processor that is not there or not allowed is ignored.
fn pin_to(processor: u32) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    if (processor as usize) < CpuSet::MAX_CPU {
        let mut set = CpuSet::new();
        set.set(processor as usize);
        let _ = sched_setaffinity(None, &set);
    }
}
