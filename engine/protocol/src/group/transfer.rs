//! State transfer: the donor captures the application's state at exactly the start of the view that names it as donor
//! and hands it over in blocks, outside the group's streams. The joiner's first delivery comes after its state is
//! installed; until then what is delivered waits in the backlog.
//!
//! A complete transfer is used only outside a view change: a PROMISE said that this member has no state, so between
//! PROMISE and DECIDE nothing is installed, and after DECIDE only if the value still names that donor.

use super::Group;
use crate::event::{Event, Kind, Refused};
use crate::id::ProcessId;
use crate::pending::Pending;
use crate::shared::Shared;
use isis_wire::Writer;
use isis_wire::message::{Code, StateBlock, StateStatus};
use std::collections::VecDeque;
use std::sync::Arc;

/// The most state bytes that wait for one joiner.
const MAX_QUEUED: usize = 2 << 20;
/// The longest block sent as one message of the channel.
const MAX_BLOCK: usize = 1 << 20;

/// The state on its way here.
#[derive(Debug, Default)]
pub struct Incoming {
    next_offset: u64,
    /// The last block, kept until the state may be installed.
    pub(super) last: Option<StateBlock>,
}

/// A state captured here.
#[derive(Debug)]
pub struct Outgoing {
    /// Who waits for it.
    pub joiners: Vec<ProcessId>,
    offset: u64,
    done: bool,
}

impl Outgoing {
    /// A capture that begins.
    pub fn new(joiners: Vec<ProcessId>) -> Outgoing {
        Outgoing { joiners, offset: 0, done: false }
    }
}

impl Group {
    /// A block came on the channel from `sender`.
    pub fn receive_block(&mut self, shared: &mut Shared, sender: ProcessId, block: StateBlock) {
        if self.state != (StateStatus::From { donor: sender, view: block.view })
            || block.offset != self.incoming.next_offset
            || self.incoming.last.is_some()
        {
            return;
        }
        self.incoming.next_offset += block.data.len() as u64;
        if block.done {
            self.incoming.last = Some(block);
            self.install_state_if_complete(shared);
        } else {
            let event = Event::StateBlock {
                group: self.handle,
                offset: block.offset,
                block: Arc::from(block.data),
                done: false,
            };
            shared.emit(event);
        }
    }

    /// Installs a complete state, if now is a time for it: then the backlog follows.
    pub(crate) fn install_state_if_complete(&mut self, shared: &mut Shared) {
        if self.plane.frozen || self.change.decided.is_some() || shared.stalled {
            return;
        }
        if let Some(block) = self.incoming.last.take() {
            let event = Event::StateBlock {
                group: self.handle,
                offset: block.offset,
                block: Arc::from(block.data),
                done: true,
            };
            shared.emit(event);
            self.state = StateStatus::Has;
            // From now on it delivers: the others may wait for that.
            self.want_row(shared.now);
            let backlog = std::mem::take(&mut self.backlog);
            take_unicasts(shared, &backlog);
            shared.events.extend(backlog);
        }
    }

    /// The donor was lost (or the joiner has none yet): start over with this one at the start of that view.
    pub(crate) fn restart_transfer(&mut self, shared: &mut Shared, state: StateStatus) {
        take_unicasts(shared, &self.backlog);
        self.incoming = Incoming::default();
        self.state = state;
        let dropped: Vec<_> = self.backlog.drain(..).flat_map(|pending| pending.consumes(&shared.region)).collect();
        for consume in dropped {
            self.consume(&consume);
        }
    }

    /// The application's next block of the state captured for `transfer`.
    pub fn state_block(&mut self, shared: &mut Shared, transfer: u64, block: &[u8], done: bool) -> Result<(), Refused> {
        if block.len() > MAX_BLOCK {
            return Err(Refused::TooLong);
        }
        let Some(outgoing) = self.outgoing.get_mut(&transfer) else { return Ok(()) };
        if outgoing.done {
            return Ok(());
        }
        let mut full = false;
        for &joiner in &outgoing.joiners {
            full |= shared.lane(joiner, 1).is_some_and(|lane| lane.sender.queued_bytes() + block.len() > MAX_QUEUED);
        }
        if full {
            return Err(Refused::WouldBlock);
        }
        let message =
            StateBlock { group: self.id, view: transfer, offset: outgoing.offset, done, data: block.to_vec() };
        let mut out = Writer::new();
        message.write(&mut out);
        for &joiner in &outgoing.joiners {
            if let Some(lane) = shared.lane(joiner, 1)
                && lane.sender.enqueue(out.bytes.clone()).is_err()
            {
                return Err(Refused::WouldBlock);
            }
        }
        outgoing.offset += block.len() as u64;
        outgoing.done = done;
        Ok(())
    }
}

/// Point-to-point messages leave the backlog: their senders may know.
fn take_unicasts(shared: &mut Shared, backlog: &VecDeque<Pending>) {
    for pending in backlog {
        if let Some(Event::Message(delivery)) = pending.one()
            && matches!(delivery.kind, Kind::Unicast | Kind::Reply)
        {
            shared.note_unicast_taken(delivery.id.sender, delivery.id.number);
        }
    }
}
