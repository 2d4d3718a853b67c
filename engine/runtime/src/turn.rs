//! One turn of the loop: the core, the transport and the clock, put together. No thread, no waiting.
//!
//! ```text
//! (commands) → transmit → site events → receive, one `now` per burst → timeouts → site requests → transmit → (events)
//! ```
//! Commands and events are the two ends that differ between the modes: `inline` calls the core directly, `threaded`
//! drains and fills rings. Each step is bounded, so that no peer and no application can starve the others.
//!
//! Owner: one thread. Invariant: after a turn with no work, and no command or event since, the loop may sleep until
//! [`CoreLoop::deadline`] or the port's descriptor is readable.

use crate::clock;
use crate::machine::Machine;
use crate::port::Port;
use isis_protocol::founding::{RecordOperation, acceptor};
use isis_protocol::{
    Delivery, Event, Framed, Frames, GroupHandle, Instant, Messages, Nonce, SiteAnswer, SiteRequest, SystemId,
};
use isis_transport::{Founding, RecordChange, SiteEvent};
use isis_wire::founding::SiteRecord;
use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;

/// Datagrams that share one reading of the clock.
const RECEIVE_BURST: usize = 64;
/// After so many datagrams, at most, the time at which they were received is still now.
const FEW: usize = 4;
/// Bursts in one turn, at most: 256 datagrams.
const RECEIVE_BURSTS: usize = 4;
/// Bursts of the core to send in one turn, at most.
const TRANSMIT_BURSTS: usize = 16;
/// Site events in one turn, at most.
const SITE_EVENTS: usize = 64;
/// Events and multicasts that share one reading of the clock: reading it for each would be a tenth of the whole path at full
/// load. Other commands, from which time limits run, bring their own time.
const CALLS_PER_READING: u32 = 32;
/// When the site's record could not be asked (locked, or not writable): how long until it is asked again.
const SITE_RETRY_NS: u64 = 5_000_000;

/// What the loop itself counts.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct LoopCounters {
    pub turns: u64,
    pub idle_turns: u64,
    pub sleeps: u64,
    pub events: u64,
    pub commands: u64,
    pub site_record_errors: u64,
    pub site_incompatible: u64,
}

/// The core over its transport.
#[derive(Debug)]
pub(crate) struct CoreLoop {
    pub machine: Box<dyn Machine>,
    pub port: Box<dyn Port>,
    pub counters: LoopCounters,
    /// The last turn found nothing to do, and did not ask the core for anything.
    pub still: bool,
    /// When the transport wants to be advanced next.
    transport_deadline: Option<Instant>,
    /// A founding request that the site's record has not answered yet, and when to ask again.
    founding: Option<(SystemId, Instant)>,
    /// Operations on the site's durable record that are not done yet, in their order, and when the first is tried again.
    operations: VecDeque<(u64, RecordOperation)>,
    operate_at: Instant,
    system: SystemId,
    /// The time of the application's frequent calls, and for how many more it is good.
    call_now: (Instant, u32),
    /// Which group of the system each handle that has a view stands for: its multicasts are received.
    listening: BTreeMap<GroupHandle, u64>,
    /// The longest datagram to other hosts that the core was told of.
    datagram_network: usize,
}

impl CoreLoop {
    pub fn new(machine: Box<dyn Machine>, port: Box<dyn Port>) -> CoreLoop {
        CoreLoop {
            datagram_network: port.capabilities().datagram_network,
            machine,
            port,
            counters: LoopCounters::default(),
            still: false,
            transport_deadline: None,
            founding: None,
            operations: VecDeque::new(),
            operate_at: Instant::ZERO,
            system: SystemId::default(),
            call_now: (Instant::ZERO, 0),
            listening: BTreeMap::new(),
        }
    }

    /// The steps between commands and events; the amount of work done.
    pub fn turn(&mut self) -> usize {
        // A message or two do not wait until everything was looked at, and go at the time of the call that multicast them.
        let little = self.machine.has_little_to_send();
        let mut work = if little { self.transmit(self.call_now.0) } else { 0 };
        let now = clock::now();
        self.still = !little && self.is_still(now);
        if self.still {
            self.call_now = (now, CALLS_PER_READING);
            self.counters.turns += 1;
            self.counters.idle_turns += 1;
            return 0;
        }
        self.transport_deadline = self.port.advance(now.0).map(Instant);
        let datagram_network = self.port.capabilities().datagram_network;
        if datagram_network != self.datagram_network {
            self.datagram_network = datagram_network;
            self.machine.set_datagram_network(datagram_network);
        }
        work += self.site_events(now);
        work += self.receive(now);
        while let Some((address, quoted)) = self.port.poll_refused() {
            self.machine.handle_refused(now, address, &quoted);
            work += 1;
        }
        let now = if work > FEW { clock::now() } else { now };
        work += self.timeouts(now);
        work += self.site_requests(now);
        work += self.transmit(now);
        self.call_now = (now, CALLS_PER_READING);
        self.counters.turns += 1;
        self.counters.idle_turns += u64::from(work == 0);
        work
    }

    /// A turn would do nothing: what a loop that never sleeps sees most of the time.
    fn is_still(&mut self, now: Instant) -> bool {
        self.port.is_silent(now.0) && self.machine.is_idle(now) && self.founding.is_none() && self.operations.is_empty()
    }

    fn site_events(&mut self, now: Instant) -> usize {
        for work in 0..SITE_EVENTS {
            match self.port.poll_site_event() {
                None => return work,
                Some(SiteEvent::PeerFound { address, .. } | SiteEvent::SeedAdded { address }) => {
                    self.machine.handle_peer(now, address);
                }
                Some(SiteEvent::PeerDied { nonce }) => self.machine.handle_death(now, Nonce(nonce)),
                Some(SiteEvent::Incompatible { .. }) => self.counters.site_incompatible += 1,
            }
        }
        SITE_EVENTS
    }

    fn receive(&mut self, mut now: Instant) -> usize {
        let mut work = 0;
        for burst in 0..RECEIVE_BURSTS {
            if burst > 0 {
                now = clock::now();
            }
            let machine = &mut self.machine;
            let received =
                self.port.receive_burst(RECEIVE_BURST, &mut |from, packet| machine.handle_packet(now, from, packet));
            work += received;
            if received < RECEIVE_BURST {
                break;
            }
        }
        work
    }

    fn timeouts(&mut self, now: Instant) -> usize {
        if self.machine.poll_timeout().is_some_and(|deadline| deadline <= now) {
            self.machine.handle_timeout(now);
            return 1;
        }
        0
    }

    fn site_requests(&mut self, now: Instant) -> usize {
        let mut work = 0;
        if let Some((system, at)) = self.founding
            && at <= now
        {
            self.found(system, now);
            work += 1;
        }
        while let Some(request) = self.machine.poll_site_request() {
            work += 1;
            match request {
                SiteRequest::Found(system) => self.found(system, now),
                SiteRequest::Record { number, operation } => self.operations.push_back((number, operation)),
                SiteRequest::Joined(system) => {
                    if self.port.joined(system.0).is_err() {
                        self.counters.site_record_errors += 1;
                    }
                }
                SiteRequest::Watch(nonce) => self.port.watch(nonce.0),
                // Refused without the victim's consent; the transport counts what became of it.
                SiteRequest::Kill(nonce) => drop(self.port.kill(nonce.0)),
            }
        }
        work + self.record_operations(now)
    }

    /// What the core wants done to the site's durable record: in its order, answered when it is on disk.
    fn record_operations(&mut self, now: Instant) -> usize {
        let mut work = 0;
        while now >= self.operate_at
            && let Some((number, operation)) = self.operations.front()
        {
            let mut answer = None;
            let outcome = self.port.change_record(&mut |bytes, lives_in| {
                let mut record = if bytes.is_empty() {
                    SiteRecord::default()
                } else {
                    SiteRecord::decode(bytes).map_err(|_| std::io::Error::from(ErrorKind::InvalidData))?
                };
                let before = record.clone();
                let lives_in = SystemId(lives_in);
                let applied = acceptor::apply(&mut record, operation, lives_in);
                let changed = (record != before).then(|| record.encode());
                let (number, record) = (*number, Box::new(record));
                answer = Some(SiteAnswer::Record { number, done: applied.done, record, lives_in });
                Ok(RecordChange { record: changed, own_system: applied.bind.map(|system| system.0) })
            });
            match (outcome, answer) {
                (Ok(()), Some(answer)) => {
                    self.operations.pop_front();
                    self.machine.handle_site_answer(now, answer);
                    work += 1;
                }
                (outcome, _) => {
                    if outcome.is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
                        self.counters.site_record_errors += 1;
                    }
                    self.operate_at = now + SITE_RETRY_NS;
                }
            }
        }
        work
    }

    fn found(&mut self, system: SystemId, now: Instant) {
        self.founding = None;
        match self.port.found(system.0) {
            Ok(Founding::Granted) => self.machine.handle_site_answer(now, SiteAnswer::Granted),
            Ok(Founding::BelongsTo(other)) => {
                self.machine.handle_site_answer(now, SiteAnswer::BelongsTo(SystemId(other)));
            }
            Err(error) => {
                if error.kind() != ErrorKind::WouldBlock {
                    self.counters.site_record_errors += 1;
                }
                self.founding = Some((system, now + SITE_RETRY_NS));
            }
        }
    }

    fn transmit(&mut self, now: Instant) -> usize {
        let mut work = 0;
        for _ in 0..TRANSMIT_BURSTS {
            let report = self.machine.transmit(now, &mut *self.port);
            if report.datagrams == 0 {
                break;
            }
            work += report.datagrams;
        }
        work
    }

    /// The time of a frequent call of the application.
    pub fn call_now(&mut self) -> Instant {
        let (now, left) = &mut self.call_now;
        if *left == 0 {
            (*now, *left) = (clock::now(), CALLS_PER_READING);
        }
        *left -= 1;
        *now
    }

    /// Whether the core has an event to give. The one before it is done with.
    pub fn has_event(&mut self) -> bool {
        let now = self.call_now();
        self.machine.has_event(now)
    }

    /// The core's next event, if it is a message of one frame, in place: see `Endpoint::poll_message`.
    #[inline]
    pub fn poll_message(&mut self) -> Option<(&Messages, Framed)> {
        let now = self.call_now();
        let message = self.machine.poll_message(now);
        self.counters.events += u64::from(message.is_some());
        message
    }

    /// The core's next messages, if they are of one frame each, in place: see `Endpoint::poll_messages`.
    pub fn poll_messages(&mut self, most: usize, frames: &mut Frames) -> Option<Delivery> {
        let now = self.call_now();
        let first = self.machine.poll_messages(now, most, frames);
        self.counters.events += frames.len() as u64;
        // A reading of the clock is good for so many messages, however they come.
        self.call_now.1 = self.call_now.1.saturating_sub(frames.len().saturating_sub(1) as u32);
        first
    }

    /// The core's next event. The one before it is done with.
    pub fn poll_event(&mut self) -> Option<Event> {
        let now = self.call_now();
        let event = self.machine.poll_event(now)?;
        self.counters.events += 1;
        match &event {
            Event::SystemJoined { system, .. } => self.system = *system,
            Event::View { group, view, .. } => {
                let first = self.listening.insert(*group, view.group.0).is_none();
                self.listen(first, view.group.0);
            }
            Event::Left { group } => {
                if let Some(id) = self.listening.remove(group)
                    && !self.listening.values().any(|other| *other == id)
                {
                    self.port.leave_group(id);
                }
            }
            _ => (),
        }
        Some(event)
    }

    /// Receives a group's multicasts from its first view on.
    fn listen(&mut self, first: bool, group: u64) {
        if first {
            self.port.join_group(self.system.0, group);
        }
    }

    /// When the next turn is due at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let founding = self.founding.map(|(_, at)| at);
        let operations = (!self.operations.is_empty()).then_some(self.operate_at);
        [self.machine.poll_timeout(), self.transport_deadline, founding, operations].into_iter().flatten().min()
    }

    /// All named counters: the core's, the transport's, the loop's.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut all = self.machine.counters();
        all.extend(self.port.counters());
        let own = &self.counters;
        all.extend([
            ("loop_turns", own.turns),
            ("loop_idle_turns", own.idle_turns),
            ("loop_sleeps", own.sleeps),
            ("loop_events", own.events),
            ("loop_commands", own.commands),
            ("site_record_errors", own.site_record_errors),
            ("site_incompatible", own.site_incompatible),
        ]);
        all
    }
}
