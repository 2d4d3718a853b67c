//! Events of the application: one after the other, or messages as they follow each other.

use super::Endpoint;
use crate::event::{Body, Delivery, Event};
use crate::pending::{Consume, Frames, Messages, Pending};
use crate::stream::batch::Framed;
use crate::time::Instant;
use isis_memory::{ChunkIndex, Region};

impl Endpoint {
    /// Whether `poll_event` has something to give. The event before it is done with by this call: its bytes may be
    /// overwritten, and it counts as consumed, though up to 32 messages that follow each other in a stream do so at once, which
    /// opens their sender's window. The next event stays: the application was not told of it.
    pub fn has_event(&mut self, now: Instant) -> bool {
        self.look(now);
        if let Some(consume) = self.consumed
            && !(consume.can_wait() && matches!(self.shared.events.front(), Some(Pending::Many(_))))
        {
            self.end_consumption(consume);
        }
        if self.eventful && self.shared.events.is_empty() {
            self.drive_due();
        }
        self.has_queued_event()
    }

    /// An event waits to be polled. Nothing is driven, or counted as consumed, by this look.
    #[inline]
    pub fn has_queued_event(&self) -> bool {
        match self.shared.events.front() {
            Some(pending) => !self.shared.stalled || matches!(pending, Pending::One(Event::Stalled, _)),
            None => false,
        }
    }

    fn end_consumption(&mut self, consume: Consume) {
        self.consumed = None;
        if let Some(group) = self.groups.get_mut(&consume.group) {
            group.consume(&consume);
            self.note_consumption(consume.group);
        }
    }

    /// The next event. The event before it is done with by this call, as by `has_event`.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event> {
        if !self.has_event(now) {
            return None;
        }
        if let Some((messages, framed)) = self.next_message() {
            return Some(Event::Message(messages.last(framed.body())));
        }
        if let Pending::Many(messages) = self.shared.events.front_mut()? {
            // A long one is alone.
            let (delivery, consume) = messages.take(&self.shared.region);
            self.consumed = Some(consume);
            self.shared.events.pop_front();
            return Some(Event::Message(delivery));
        }
        let Some(Pending::One(event, consume)) = self.shared.events.pop_front() else { return None };
        self.consumed = consume;
        if let Event::View { group, view, .. } = &event
            && let Some(it) = self.groups.get_mut(&view.group)
            && it.handle == *group
        {
            it.told_view = view.number;
            // Sending-view mode: sends may be worth another try now.
            self.touch();
        }
        Some(event)
    }

    /// As `poll_event` if the next event is a message of one frame, without making one of it: the messages that it is among,
    /// whose `last` it is, and where its bytes are. `None`: ask `poll_event`.
    #[inline]
    pub fn poll_message(&mut self, now: Instant) -> Option<(&Messages, Framed)> {
        if self.has_event(now) { self.next_message() } else { None }
    }

    #[inline]
    fn next_message(&mut self) -> Option<(&Messages, Framed)> {
        let Some(Pending::Many(messages)) = self.shared.events.front_mut() else { return None };
        let (framed, consume) = messages.take_frame(&self.shared.region)?;
        self.take_over(consume);
        let messages = if consume.goes_on {
            self.shared.events.front()
        } else {
            self.finished = self.shared.events.pop_front();
            self.finished.as_ref()
        };
        match messages {
            Some(Pending::Many(messages)) => Some((messages, framed)),
            _ => None,
        }
    }

    /// As `poll_message`, but takes what follows it in its batch as well, `most` in all at most. Describes the first one: the
    /// others differ from it by their bytes only, and by 1 each in their number, ticket and place in the total order, where it
    /// has one. All are done with by the next call. `None`: ask `poll_event`.
    pub fn poll_messages(&mut self, now: Instant, most: usize, frames: &mut Frames) -> Option<Delivery> {
        frames.clear();
        if !self.has_event(now) {
            return None;
        }
        let Some(Pending::Many(messages)) = self.shared.events.front_mut() else { return None };
        let (first, consume) = messages.take_frames(&self.shared.region, most, frames)?;
        self.take_over(consume);
        if !consume.goes_on {
            self.shared.events.pop_front();
        }
        Some(first)
    }

    /// The next call is done with this, and with what comes before it in its batch, and waited for it.
    #[inline]
    fn take_over(&mut self, consume: Consume) {
        match &mut self.consumed {
            Some(before) => *before = Consume { count: before.count + consume.count, ..consume },
            none => *none = Some(consume),
        }
    }

    /// The bytes of a message that `poll_messages` told of last.
    pub fn frame(&self, frame: &Framed) -> &[u8] {
        self.lasting(frame.chunk, frame.offset, frame.len)
    }

    /// Bytes of a chunk; none if it was a neighbour's and is read no more: the group is gone since.
    fn lasting(&self, chunk: ChunkIndex, offset: u32, len: u32) -> &[u8] {
        let region = &self.shared.region;
        let range = offset as usize..offset as usize + len as usize;
        if region.is_there(chunk, range.end) { region.bytes(chunk, range) } else { &[] }
    }

    /// The bytes of the last polled message. None, if it is one that is read where its sender wrote it, and its group is gone since.
    pub fn payload<'a>(&'a self, body: &'a Body) -> &'a [u8] {
        match body {
            Body::Chunk { chunk, offset, len } => self.lasting(*chunk, *offset, *len),
            Body::Owned(bytes) => bytes,
        }
    }

    /// The region, for readers in place.
    pub fn region(&self) -> &Region {
        &self.shared.region
    }

    /// The region, for writers of claims in place.
    pub fn region_mut(&mut self) -> &mut Region {
        &mut self.shared.region
    }
}
