//! An inline node: the caller's thread turns the loop; commands go straight into the core.
//!
//! Owner: the application's thread. Invariant: `wait_prepare` says "sleep" only when the last turn found no work, the
//! events are drained, and no command came since.

use crate::clock;
use crate::error::NodeError;
use crate::event::{Message, NodeEvent, Payload, Place};
use crate::options::WaitStrategy;
use crate::sleep::{Cover, Idle, sleep_on};
use crate::turn::CoreLoop;
use isis_protocol::{Body, Framed, Frames, Instant};
use std::os::fd::BorrowedFd;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Inline {
    pub engine: CoreLoop,
    cover: Cover,
    idle: Idle,
    /// The last turn did nothing, and nothing was done to the core since.
    still: bool,
    /// There was no event, and nothing was done to the core since.
    drained: bool,
}

impl Inline {
    pub fn new(engine: CoreLoop, strategy: WaitStrategy) -> Result<Inline, NodeError> {
        let cover = Cover::new(engine.port.descriptor())?;
        Ok(Inline { engine, cover, idle: Idle::new(strategy), still: false, drained: false })
    }

    /// For a command: the loop has something to do afterwards.
    pub fn command(&mut self) -> (&mut CoreLoop, Instant) {
        (self.busy(), clock::now())
    }

    /// For a multicast: as `command`, at the time of the calls around it. The time limits that begin then, those of rows, come
    /// a little early, which does no harm: what has to be exact takes `command`.
    pub fn send(&mut self) -> (&mut CoreLoop, Instant) {
        let engine = self.busy();
        let now = engine.call_now();
        (engine, now)
    }

    fn busy(&mut self) -> &mut CoreLoop {
        (self.still, self.drained) = (false, false);
        self.engine.counters.commands += 1;
        &mut self.engine
    }

    pub fn turn(&mut self) -> usize {
        let work = self.engine.turn();
        self.still = work == 0;
        self.drained &= self.engine.still;
        work
    }

    /// The next event, if it is a message of one frame. `None`: ask `poll_event`.
    #[inline]
    pub fn poll_message(&mut self) -> Option<NodeEvent> {
        if self.drained {
            return None;
        }
        let (messages, framed) = self.engine.poll_message()?;
        (self.still, self.drained) = (false, false);
        Some(NodeEvent::of_message(messages, framed))
    }

    /// The next messages, if they are of one frame each: describes the first, whose bytes are the first of `frames`. `None`: ask
    /// `poll_event`.
    pub fn poll_messages(&mut self, most: usize, frames: &mut Frames) -> Option<NodeEvent> {
        if self.drained {
            return None;
        }
        let first = self.engine.poll_messages(most, frames)?;
        (self.still, self.drained) = (false, false);
        let place = Place::Chunk(first.body.clone());
        Some(NodeEvent::Message(Message::of(&first, first.group, place)))
    }

    pub fn poll_event(&mut self) -> Option<NodeEvent> {
        if self.drained {
            return None;
        }
        let event = self.engine.poll_event().map(|event| NodeEvent::from_core(event, &|group| group));
        // A consumed message may open a window: there may be something to send.
        self.still &= event.is_none();
        self.drained = event.is_none();
        event
    }

    /// The event stays in the core: a view that the application was not told of is not one that it may send in.
    fn has_event(&mut self) -> bool {
        if self.drained {
            return false;
        }
        let has = self.engine.has_event();
        self.still &= !has;
        self.drained = !has;
        has
    }

    pub fn payload<'a>(&'a self, payload: &'a Payload) -> &'a [u8] {
        match &payload.0 {
            Place::Chunk(body @ Body::Chunk { .. }) => self.engine.machine.payload(body),
            Place::Chunk(Body::Owned(bytes)) | Place::Owned(bytes) => bytes,
            Place::Ring { .. } => &[],
        }
    }

    pub fn frame(&self, frame: &Framed) -> &[u8] {
        self.engine.machine.frame(frame)
    }

    pub fn wait(&mut self, timeout_ns: Option<u64>, ended: bool) -> bool {
        let once = timeout_ns == Some(0);
        let end = timeout_ns.filter(|_| !once).map(|timeout| clock::now() + timeout);
        self.idle.reset();
        loop {
            if self.has_event() {
                return true;
            }
            let worked = self.turn() > 0;
            if self.has_event() {
                return true;
            }
            if ended || once || end.is_some_and(|end| end <= clock::now()) {
                return false;
            }
            if worked {
                self.idle.reset();
            } else if self.idle.should_sleep() && self.engine.port.prepare_sleep() {
                let deadline = [self.engine.deadline(), end].into_iter().flatten().min();
                self.engine.counters.sleeps += 1;
                sleep_on(&[self.engine.port.descriptor()], deadline);
            }
        }
    }

    /// `true`: turn and poll again. `false`: armed.
    pub fn prepare(&mut self) -> Result<bool, NodeError> {
        if !self.still || !self.drained {
            return Ok(true);
        }
        let deadline = self.engine.deadline();
        if deadline.is_some_and(|deadline| deadline <= clock::now()) {
            return Ok(true);
        }
        self.cover.set_deadline(deadline)?;
        Ok(!self.engine.port.prepare_sleep())
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.cover.descriptor()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::fake;
    use isis_protocol::{Event, GroupHandle};

    /// What a turn gives without any datagram is polled, and slept over by nobody.
    #[test]
    fn an_event_that_sending_brings_is_told() {
        let (machine, port, shared) = fake::pair();
        let mut node = Inline::new(CoreLoop::new(machine, port), WaitStrategy::Block).expect("descriptors");
        shared.get().still = true;
        node.turn();
        assert!(node.poll_event().is_none());
        node.turn();
        assert!(!node.prepare().expect("no error"), "there is nothing to do");
        shared.get().told_by_sending = Some(Event::Writable { group: GroupHandle(1) });
        node.turn();
        assert!(node.prepare().expect("no error"), "it sleeps over an event");
        assert!(node.poll_event().is_some());
        assert!(node.poll_event().is_none());
    }
}
