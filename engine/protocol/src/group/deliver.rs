//! From the data plane to the application: events, consumption, flush.

use super::Group;
use crate::counters::Counter;
use crate::directory::Operation;
use crate::event::{Body, Delivery, Event, Kind, MessageId};
use crate::shared::{Consume, Pending, Shared};
use crate::stream::inbox::{Carries, Queued};
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
    /// What that may follow, by rank: were it lost with its sender, the own messages would be dropped at the cut with it.
    pub follows: Vec<u64>,
    /// It covers this process's ABCASTs to several groups up to this number: a copy in the stream is not the message yet.
    pub multi: u64,
}

impl Group {
    /// Delivers what can be delivered.
    pub fn deliver(&mut self, shared: &mut Shared) {
        loop {
            self.release_held(shared);
            let Some((rank, message, order)) = self.plane.deliver_one() else { break };
            if message.kind == Kind::Global {
                // Whatever is left of ABCASTs to several groups comes before GBCASTs.
                self.settle_multis(shared);
            }
            match message.carries {
                Some(part @ (Carries::Copy | Carries::Final)) if !self.is_system() => {
                    self.take_part(shared, rank, message, part == Carries::Copy);
                }
                _ => self.hand_over(shared, rank, message, order),
            }
        }
    }

    fn hand_over(&mut self, shared: &mut Shared, rank: usize, mut message: Queued, order: u64) {
        let mut sender = self.view.members[rank].process;
        if self.is_system() {
            let bytes: &[u8] = match &message.body {
                Body::Chunk { chunk, offset, len } => {
                    &shared.region.chunk(*chunk)[*offset as usize..(*offset + *len) as usize]
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
            self.plane.consume(rank, message.end);
            return;
        }
        // What a relay appends for its clients does not count among its own messages.
        let mut number = message.number - self.clients.passed_over(rank);
        let mut told_rank = rank as u16;
        if message.carries == Some(Carries::Relayed) {
            match self.take_relayed(shared, rank, &mut message) {
                Some(header) => (sender, number, told_rank) = (header.client, header.number, u16::MAX),
                None => return self.plane.skip(rank, message.number, message.end),
            }
        }
        shared.count(Counter::MessagesDelivered);
        let id = MessageId { group: self.id, view: self.view.number, sender, number };
        let delivery = Delivery {
            group: self.handle,
            id,
            rank: told_rank,
            kind: message.kind,
            safe: message.safe,
            entry: message.entry,
            order: order.saturating_sub(self.clients.untold()),
            ticket: if sender == shared.me { self.tickets.find(id) } else { 0 },
            answers: None,
            body: message.body,
        };
        let consume = Consume { group: self.id, view: self.view.number, rank, end: message.end };
        self.push(shared, Pending { event: Event::Message(delivery), consume: Some(consume) });
    }

    /// To the application, or to the backlog while the state is on its way.
    pub(crate) fn push(&mut self, shared: &mut Shared, pending: Pending) {
        if self.state == StateStatus::Has || (mutant!(OvertakesState) && pending.consume.is_some()) {
            shared.events.push_back(pending);
        } else {
            self.backlog.push_back(pending);
        }
    }

    /// As `push`, for an event without bytes.
    pub(crate) fn push_event(&mut self, shared: &mut Shared, event: Event) {
        self.push(shared, Pending { event, consume: None });
    }

    /// The application is done with a message.
    pub fn consume(&mut self, consume: &Consume) {
        if consume.view == self.view.number {
            self.plane.consume(consume.rank, consume.end);
        } else if let Some(old) = self.old.iter_mut().find(|old| old.number == consume.view) {
            old.plane.consume(consume.rank, consume.end);
        }
    }

    /// Begins a flush.
    pub fn flush(&mut self, id: u64) {
        let (position, follows) = self.own_end();
        let multi = self.own_copies.tickets.keys().next_back().copied().unwrap_or(0);
        self.flushes.push(Flush { id, waiting: self.waiting.len(), position, follows, multi });
    }

    /// The end of the own stream, and what it follows.
    fn own_end(&self) -> (u64, Vec<u64>) {
        let end = self.plane.log.end;
        (end, if end > 0 { self.plane.vector() } else { Vec::new() })
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
        let followed = flush.follows.iter().zip(&self.plane.inbox).enumerate();
        flush.position + u64::from(mutant!(FlushByOne)) <= self.plane.stable[self.rank]
            && (mutant!(FlushForgetsFollowed)
                || followed.filter(|(rank, _)| *rank != self.rank).all(|(_, (&count, it))| it.stable_messages >= count))
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
