//! From the data plane to the application: events, consumption, flush.

use super::Group;
use crate::counters::Counter;
use crate::directory::Operation;
use crate::event::{Body, Delivery, Event, Kind, MessageId};
use crate::pending::{Consume, Messages, Pending};
use crate::shared::Shared;
use crate::stream::inbox::Carries;
use crate::stream::{Batch, Queued};
use isis_wire::message::StateStatus;

/// A flush that is not complete.
#[derive(Clone, Debug)]
pub struct Flush {
    /// What `Endpoint::flush` returned.
    pub id: u64,
    /// It covers so many multicasts that still wait to be appended.
    pub waiting: usize,
    /// It covers the own stream up to here, once nothing waits.
    pub position: u64,
    /// So many messages of each rank: what it covers itself, and what that may follow. Were it lost with its sender, or what dates
    /// it, the own messages would be dropped at the cut with it.
    pub follows: Vec<u64>,
    /// It covers this process's ABCASTs to several groups up to this number: a copy in the stream is not the message yet.
    pub multi: u64,
}

impl Group {
    /// Delivers what can be delivered.
    pub fn deliver(&mut self, shared: &mut Shared) {
        loop {
            if !self.held.is_empty() {
                self.release_held(shared);
            }
            if !self.plane.has_queued() {
                break;
            }
            // What is held may have its place between two messages of a batch.
            let most = if self.held.is_empty() || mutant!(BatchOvertakesHeld) { u32::MAX } else { 1 };
            let Some((rank, mut batch, order)) = self.plane.deliver_some(&shared.region, most) else { break };
            if batch.traits.kind == Kind::Global {
                // Whatever is left of ABCASTs to several groups comes before GBCASTs.
                self.settle_multis(shared);
            }
            if self.is_system() {
                while batch.count > 0 {
                    let message = batch.take(&shared.region);
                    self.apply(shared, rank, &message);
                }
                continue;
            }
            shared.beyond |= batch.traits.carries.is_some();
            match batch.traits.carries {
                None => self.hand_over(shared, rank, batch, order),
                Some(Carries::Relayed) => self.hand_over_relayed(shared, rank, batch.take(&shared.region), order),
                Some(part @ (Carries::Copy | Carries::Final)) => {
                    self.take_part(shared, rank, batch.take(&shared.region), part == Carries::Copy);
                }
            }
        }
    }

    /// The system group's messages are operations on the directory.
    fn apply(&mut self, shared: &mut Shared, rank: usize, message: &Queued) {
        let bytes: &[u8] = match &message.body {
            Body::Chunk { chunk, offset, len } => {
                shared.region.bytes(*chunk, *offset as usize..(*offset + *len) as usize)
            }
            Body::Owned(bytes) => bytes,
        };
        match Operation::decode(bytes) {
            Ok(operation) => {
                let outcome = shared.directory.apply(&operation);
                shared.outcomes.push_back((operation, outcome));
            }
            Err(_) => shared.count(Counter::IgnoreMalformed),
        }
        self.plane.consume(rank, 1, message.end);
    }

    /// Members' messages, to be told one by one.
    fn hand_over(&mut self, shared: &mut Shared, rank: usize, mut batch: Batch, order: u64) {
        shared.counters.add(Counter::MessagesDelivered, u64::from(batch.count));
        let sender = self.view.members[rank].process;
        let mut order = order.saturating_sub(self.clients.untold());
        loop {
            // What a relay appends for its clients does not count among its own messages.
            let number = batch.number - self.clients.passed_over(rank);
            let id = MessageId { group: self.id, view: self.view.number, sender, number };
            let (ticket, run) = if sender == shared.me { self.tickets.find_run(id) } else { (0, u64::from(u32::MAX)) };
            let rest = (u64::from(batch.count) > run).then(|| {
                let first = batch.split(&shared.region, run as u32);
                std::mem::replace(&mut batch, first)
            });
            let count = u64::from(batch.count);
            let messages = Messages { group: self.handle, id, rank: rank as u16, order, ticket, taken: 0, batch };
            self.push(shared, Pending::Many(messages));
            let Some(rest) = rest else { return };
            batch = rest;
            order += if order > 0 { count } else { 0 };
        }
    }

    /// A client's message.
    fn hand_over_relayed(&mut self, shared: &mut Shared, rank: usize, mut message: Queued, order: u64) {
        let Some(header) = self.take_relayed(shared, rank, &mut message) else {
            return self.plane.skip(rank, message.number, message.end);
        };
        shared.count(Counter::MessagesDelivered);
        let id = MessageId { group: self.id, view: self.view.number, sender: header.client, number: header.number };
        let delivery = Delivery {
            group: self.handle,
            id,
            rank: u16::MAX,
            kind: message.kind,
            safe: message.safe,
            entry: message.entry,
            order: order.saturating_sub(self.clients.untold()),
            ticket: 0,
            answers: None,
            body: message.body,
        };
        let consume = self.consume_one(rank, message.end);
        self.push(shared, Pending::One(Event::Message(delivery), Some(consume)));
    }

    /// What a single message of the present view consumes.
    pub(super) fn consume_one(&self, rank: usize, end: u64) -> Consume {
        Consume { group: self.id, view: self.view.number, rank, count: 1, end, goes_on: false }
    }

    /// To the application, or to the backlog while the state is on its way.
    pub(crate) fn push(&mut self, shared: &mut Shared, pending: Pending) {
        if self.state == StateStatus::Has || (mutant!(OvertakesState) && !matches!(pending, Pending::One(_, None))) {
            shared.events.push_back(pending);
        } else {
            self.backlog.push_back(pending);
        }
    }

    /// As `push`, for an event without bytes.
    pub(crate) fn push_event(&mut self, shared: &mut Shared, event: Event) {
        self.push(shared, Pending::One(event, None));
    }

    /// The application is done with messages.
    pub fn consume(&mut self, consume: &Consume) {
        if consume.view == self.view.number {
            self.plane.consume(consume.rank, consume.count, consume.end);
        } else if let Some(old) = self.old.iter_mut().find(|old| old.number == consume.view) {
            old.plane.consume(consume.rank, consume.count, consume.end);
        }
    }

    /// Begins a flush.
    pub fn flush(&mut self, id: u64) {
        let (position, follows) = self.own_end();
        let multi = self.own_copies.tickets.keys().next_back().copied().unwrap_or(0);
        self.flushes.push(Flush { id, waiting: self.waiting.len(), position, follows, multi });
    }

    /// The end of the own stream, and, as numbers of messages by rank, what is in it and what that follows.
    fn own_end(&self) -> (u64, Vec<u64>) {
        let end = self.plane.log.end;
        if end == 0 {
            return (0, Vec::new());
        }
        let mut follows = self.plane.vector();
        follows[self.rank] = self.plane.appended;
        (end, follows)
    }

    /// A waiting multicast went into the stream.
    pub(crate) fn note_appended(&mut self) {
        if self.flushes.iter().all(|flush| flush.waiting == 0) {
            return;
        }
        let (position, follows) = self.own_end();
        for flush in self.flushes.iter_mut().filter(|flush| flush.waiting > 0) {
            flush.waiting -= 1;
            if flush.waiting == 0 {
                (flush.position, flush.follows) = (position, follows.clone());
            }
        }
    }

    /// All members have what the flush covers, and what that follows: nothing of it is lost whoever fails.
    fn is_flushed(&self, flush: &Flush) -> bool {
        let mut followed = flush.follows.iter().zip(&self.plane.inbox);
        flush.position + u64::from(mutant!(FlushByOne)) <= self.plane.stable[self.rank]
            && (mutant!(FlushForgetsFollowed) || followed.all(|(count, it)| it.stable_messages >= *count))
    }

    /// Tells the flushes that are complete. `view_ended`: all that was in the stream is delivered by all survivors.
    pub(crate) fn complete_flushes(&mut self, shared: &mut Shared, view_ended: bool) {
        if self.flushes.is_empty() {
            return;
        }
        let handle = self.handle;
        let done: Vec<u64> = self
            .flushes
            .iter()
            .filter(|f| {
                f.waiting == 0
                    && f.multi <= shared.multis.complete
                    && (view_ended || self.is_flushed(f) || mutant!(FlushReturnsEarly))
            })
            .map(|f| f.id)
            .collect();
        self.flushes.retain(|f| !done.contains(&f.id));
        for flush in self.flushes.iter_mut().filter(|f| view_ended && f.waiting == 0) {
            // What it covers of the stream has ended with its view; an ABCAST to several groups goes on.
            flush.position = 0;
            flush.follows.clear();
        }
        for flush in done {
            shared.emit(Event::Flushed { group: handle, flush });
        }
    }
}
