//! Events on their way to the application, and what it counts as done with.
//!
//! Owner: `shared::Shared`, and a group whose state is on its way. Invariant: the bytes of a message that waits here stay in
//! place, for what it would consume is not consumed.

use crate::event::{Body, Delivery, Event, MessageId};
use crate::id::{GroupHandle, GroupId};
use crate::stream::Batch;
use crate::stream::batch::{Framed, Traits};
use arrayvec::ArrayVec;
use isis_memory::Region;
use std::sync::Arc;

/// Messages of one batch that are handed over at once, at most. Their consumption is told when there are so many: it lags by less
/// than twice as much.
pub const AT_ONCE: usize = 32;
/// Where the bytes of messages are that follow each other.
pub type Frames = ArrayVec<Framed, AT_ONCE>;

/// What has to be consumed when events are done with.
#[derive(Clone, Copy, Debug)]
pub struct Consume {
    /// The group.
    pub group: GroupId,
    /// The view that the messages were delivered in.
    pub view: u64,
    /// Whose stream.
    pub rank: usize,
    /// How many messages, one after the other.
    pub count: u32,
    /// Where the last one ends.
    pub end: u64,
    /// The next event is the next message of the same batch.
    pub goes_on: bool,
}

impl Consume {
    /// Can wait for the next message.
    pub fn can_wait(&self) -> bool {
        self.goes_on && self.count < AT_ONCE as u32
    }
}

/// Delivered messages of one batch, taken apart as the application takes them.
#[derive(Clone, Debug)]
pub struct Messages {
    /// In which group.
    pub group: GroupHandle,
    /// The first one's name.
    pub id: MessageId,
    /// Their sender's rank.
    pub rank: u16,
    /// The first one's place in the total order; 0: none.
    pub order: u64,
    /// The first one's ticket; 0: none.
    pub ticket: u64,
    /// How many are taken.
    pub taken: u32,
    /// Those that are not.
    pub batch: Batch,
}

impl Messages {
    /// Takes the next one, if it is of one frame: `last` describes it.
    #[inline]
    pub fn take_frame(&mut self, region: &Region) -> Option<(Framed, Consume)> {
        let framed = self.batch.take_frame(region)?;
        self.taken += 1;
        Some((framed, self.consume(framed.end)))
    }

    /// Takes the next ones, at most `most` and as many as fit into `frames`, if they are of one frame each. Describes the first of
    /// them; `None`: the next one is not.
    pub fn take_frames(&mut self, region: &Region, most: usize, frames: &mut Frames) -> Option<(Delivery, Consume)> {
        let (framed, mut consume) = self.take_frame(region)?;
        let first = self.last(framed.body());
        frames.push(framed);
        while consume.goes_on && frames.len() < most.min(AT_ONCE) {
            let Some((framed, next)) = self.take_frame(region) else { break };
            frames.push(framed);
            consume = Consume { count: consume.count + 1, ..next };
        }
        Some((first, consume))
    }

    /// Takes the next one. There is one.
    pub fn take(&mut self, region: &Region) -> (Delivery, Consume) {
        let message = self.batch.take(region);
        self.taken += 1;
        (self.last(message.body), self.consume(message.end))
    }

    /// What the one that was taken last consumes, which ends there.
    #[inline]
    fn consume(&self, end: u64) -> Consume {
        let MessageId { group, view, .. } = self.id;
        Consume { group, view, rank: usize::from(self.rank), count: 1, end, goes_on: self.batch.count > 0 }
    }

    /// The one that was taken last, which has these bytes.
    #[inline]
    pub fn last(&self, body: Body) -> Delivery {
        let index = u64::from(self.taken) - 1;
        let Traits { kind, safe, entry, .. } = self.batch.traits;
        Delivery {
            group: self.group,
            id: MessageId { number: self.id.number + index, ..self.id },
            rank: self.rank,
            kind,
            safe,
            entry,
            order: if self.order > 0 { self.order + index } else { 0 },
            ticket: if self.ticket > 0 { self.ticket + index } else { 0 },
            answers: None,
            body,
        }
    }
}

/// An event, or several, on the way to the application.
#[derive(Clone, Debug)]
pub enum Pending {
    /// One event; for a message from a stream what its consumption moves.
    One(Event, Option<Consume>),
    /// Messages, at least one.
    Many(Messages),
}

impl Pending {
    /// The event, if it is only one.
    pub fn one(&self) -> Option<&Event> {
        match self {
            Pending::One(event, _) => Some(event),
            Pending::Many(_) => None,
        }
    }

    /// What all of it consumes, one after the other.
    pub fn consumes(mut self, region: &Region) -> Vec<Consume> {
        match &mut self {
            Pending::One(_, consume) => consume.iter().copied().collect(),
            Pending::Many(messages) => (0..messages.batch.count).map(|_| messages.take(region).1).collect(),
        }
    }

    /// Adds it to `out`, messages one by one. Those of the group that `gone` names get bytes of their own and consume nothing.
    pub fn take_apart(self, region: &Region, gone: Option<GroupId>, out: &mut impl Extend<Pending>) {
        let single = |event: Event, consume: Option<Consume>| {
            let Some(_) = consume.filter(|consume| Some(consume.group) == gone) else {
                return Pending::One(event, consume.map(|consume| Consume { goes_on: false, ..consume }));
            };
            Pending::One(with_own_bytes(event, region), None)
        };
        match self {
            Pending::One(event, consume) => out.extend([single(event, consume)]),
            Pending::Many(mut messages) => {
                while messages.batch.count > 0 {
                    let (delivery, consume) = messages.take(region);
                    out.extend([single(Event::Message(delivery), Some(consume))]);
                }
            }
        }
    }
}

/// The event with its message's bytes outside of the region.
pub fn with_own_bytes(mut event: Event, region: &Region) -> Event {
    if let Event::Message(Delivery { body, .. }) = &mut event
        && let Body::Chunk { chunk, offset, len } = *body
    {
        let bytes = region.bytes(chunk, offset as usize..(offset + len) as usize);
        *body = Body::Owned(Arc::new(bytes.to_vec()));
    }
    event
}
