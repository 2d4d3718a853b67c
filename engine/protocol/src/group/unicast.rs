//! Point-to-point messages and replies within a group, in causal order.
//!
//! A message carries its sender's view and vector; it is delivered when the receiver has delivered that much, or is in a
//! later view. The sender's later multicasts wait until it is acknowledged, so nothing that happened after it can be
//! delivered before it. Nothing is delivered from a process that the system view excludes.

use super::Group;
use crate::event::{Body, Delivery, Event, Kind, MessageId, Refused};
use crate::id::ProcessId;
use crate::shared::{Pending, Shared};
use isis_wire::Writer;
use isis_wire::message::{Code, Envelope};
use std::sync::Arc;

/// The most point-to-point messages that wait for their context in one group.
const MAX_HELD: usize = 4096;

/// A message that came and waits for its context.
#[derive(Debug)]
pub struct Held {
    /// Who sent it.
    pub sender: ProcessId,
    /// The message.
    pub envelope: Envelope,
}

impl Group {
    /// Sends to one member. Gives the message's ticket: its number.
    pub fn send_to(
        &mut self,
        shared: &mut Shared,
        member: ProcessId,
        entry: u8,
        answers: Option<MessageId>,
        data: &[u8],
    ) -> Result<u64, Refused> {
        if data.len() > shared.config.max_message {
            return Err(Refused::TooLong);
        }
        let mut vector = self.plane.vector();
        // Its own sent messages count as happened before, delivered or not. Messages that wait to be appended are in no
        // view yet: the unicast must not overtake them.
        if !self.waiting.is_empty() || self.plane.frozen || shared.stalled {
            self.writable_wanted = true;
            return Err(Refused::WouldBlock);
        }
        self.publish(shared);
        vector[self.rank] = self.plane.inbox[self.rank].whole;
        shared.unicast_number += 1;
        let number = shared.unicast_number;
        let envelope = Envelope {
            group: self.id,
            view: self.view.number,
            vector,
            entry: u16::from(entry),
            answers: answers.map(|id| ((id.view, id.sender), id.number)),
            number,
            data: data.to_vec(),
        };
        if member == shared.me {
            self.held.push_back(Held { sender: member, envelope });
            self.release_held(shared);
            return Ok(number);
        }
        let mut out = Writer::new();
        envelope.write(&mut out);
        let lane = shared.lane(member, 0).ok_or(Refused::NoSuchProcess)?;
        if lane.sender.enqueue(out.bytes).is_err() {
            self.writable_wanted = true;
            return Err(Refused::WouldBlock);
        }
        Ok(number)
    }

    /// A message came on a channel.
    pub fn receive_unicast(&mut self, shared: &mut Shared, sender: ProcessId, envelope: Envelope) {
        if self.held.len() < MAX_HELD {
            self.held.push_back(Held { sender, envelope });
        }
        self.release_held(shared);
    }

    /// Delivers the held messages whose context is delivered, each sender's in order.
    pub(crate) fn release_held(&mut self, shared: &mut Shared) {
        if self.held.is_empty() || self.plane.frozen {
            return;
        }
        let mut index = 0;
        let mut blocked: Vec<ProcessId> = Vec::new();
        while index < self.held.len() {
            let held = &self.held[index];
            let ready = !blocked.contains(&held.sender)
                && (held.envelope.view < self.view.number
                    || (held.envelope.view == self.view.number
                        && held.envelope.vector.len() == self.plane.members
                        && held
                            .envelope
                            .vector
                            .iter()
                            .zip(&self.plane.inbox)
                            .all(|(&count, inbox)| inbox.delivered >= count)));
            if !ready {
                blocked.push(held.sender);
                index += 1;
                continue;
            }
            let Some(held) = self.held.remove(index) else { break };
            if !shared.in_system(held.sender) {
                continue;
            }
            let rank = self.rank_of(held.sender).map_or(u16::MAX, |rank| rank as u16);
            let envelope = held.envelope;
            let id = MessageId { group: self.id, view: envelope.view, sender: held.sender, number: envelope.number };
            let answers =
                envelope.answers.map(|((view, sender), number)| MessageId { group: self.id, view, sender, number });
            let own = Some(answers.unwrap_or(id)).filter(|id| id.sender == shared.me);
            let delivery = Delivery {
                group: self.handle,
                id,
                rank,
                kind: if envelope.answers.is_some() { Kind::Reply } else { Kind::Unicast },
                safe: false,
                entry: envelope.entry as u8,
                order: 0,
                ticket: own.map_or(0, |id| self.tickets.find(id, self.view.number)),
                answers,
                body: Body::Owned(Arc::new(envelope.data)),
            };
            self.push(shared, Pending { event: Event::Message(delivery), consume: None });
        }
    }

    /// Processes that the system view lacks are dead: nothing more of theirs is delivered.
    pub(crate) fn drop_held_of_the_dead(&mut self, shared: &Shared) {
        self.held.retain(|held| shared.in_system(held.sender));
    }
}
