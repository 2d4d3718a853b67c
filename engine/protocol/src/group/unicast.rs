//! Point-to-point messages and replies within a group, in causal order.
//!
//! A message carries its sender's view and vector; it is delivered when the receiver has delivered that much, or is in a
//! later view. The sender's later multicasts, and its later messages to others, wait until it is acknowledged, so nothing
//! that happened after it can be delivered before it. To a client it goes only when what it may tell of is stable. After the group's view without a failed process nothing of it is
//! delivered.

use super::debts::Debt;
use super::{Group, Waiting, rank_of};
use crate::event::{Body, Delivery, Event, Kind, MessageId, Refused, SendOptions};
use crate::id::ProcessId;
use crate::pending::Pending;
use crate::shared::Shared;
use isis_wire::Writer;
use isis_wire::message::{Code, Envelope, StateStatus};
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

/// Whom a message goes to, and as what.
#[derive(Clone, Copy, Debug)]
pub struct Addressed {
    /// The member.
    pub member: ProcessId,
    /// What it answers.
    pub answers: Option<MessageId>,
    /// Its number among this process's point-to-point messages.
    pub number: u64,
}

impl Group {
    /// Sends to one member. `debts`: what happened before it elsewhere and is not delivered there. Gives the message's
    /// ticket: its number.
    pub fn send_to(
        &mut self,
        shared: &mut Shared,
        member: ProcessId,
        entry: u8,
        answers: Option<MessageId>,
        data: &[u8],
        debts: Vec<Debt>,
    ) -> Result<u64, Refused> {
        if data.len() > shared.config.max_message {
            return Err(Refused::TooLong);
        }
        // Its own sent messages count as happened before, delivered or not. Messages that wait to be appended are in no
        // view yet: the unicast must not overtake them.
        let full = self.waiting_bytes + data.len() as u64 > shared.config.window;
        if self.plane.frozen || shared.stalled || (full && !self.waiting.is_empty()) {
            self.writable_wanted = true;
            return Err(Refused::WouldBlock);
        }
        let addressed = Addressed { member, answers, number: shared.unicast_number + 1 };
        if debts.is_empty() && self.waiting.is_empty() && self.may_go_to(shared, member, &mut None) {
            self.send_now(shared, addressed, entry, data)?;
        } else {
            let options = SendOptions { kind: Kind::Unicast, safe: false, entry };
            if let Some(peer) = shared.peers.get_mut(&member) {
                peer.sent.note_waiting(addressed.number);
            }
            self.wait(shared, options, data.to_vec(), debts, Some(addressed));
        }
        shared.unicast_number += 1;
        Ok(shared.unicast_number)
    }

    /// Sends what waited; `false`: not yet.
    pub(crate) fn send_waiting(&mut self, shared: &mut Shared, message: &mut Waiting, data: &[u8]) -> bool {
        let Some(addressed) = message.to else { return true };
        if self.plane.frozen || shared.stalled {
            return false;
        }
        if message.void {
            return true;
        }
        if !self.may_go_to(shared, addressed.member, &mut message.stable_at) {
            return false;
        }
        self.send_now(shared, addressed, message.options.entry, data) != Err(Refused::WouldBlock)
    }

    /// Members or clients may be gone: what waits to be sent to them will not be, even if they come back before its turn.
    pub(crate) fn void_waiting(&mut self, shared: &mut Shared) {
        for message in &mut self.waiting {
            let Some(addressed) = message.to.filter(|_| !message.void) else { continue };
            message.void = rank_of(&self.view.members, addressed.member).is_none()
                && !self.clients.is_registered(addressed.member);
            if message.void {
                shared.give_up_unicast(addressed.member, addressed.number);
            }
        }
    }

    /// A member waits for the context of what it gets; a client delivers nothing, so it must not hear of anything that the
    /// group may still lose with this member. What this one had when that was asked first has to be stable, or its view over.
    fn may_go_to(&mut self, shared: &mut Shared, receiver: ProcessId, stable_at: &mut Option<(u64, Vec<u64>)>) -> bool {
        if self.rank_of(receiver).is_some() {
            return true;
        }
        let (view, ends) = stable_at.get_or_insert_with(|| {
            self.publish(shared);
            let mut ends = self.plane.rows[self.rank].received.clone();
            ends[self.rank] = self.plane.log.published;
            (self.view.number, ends)
        });
        *view < self.view.number || self.plane.stable.iter().zip(ends).all(|(stable, end)| *stable >= *end)
    }

    fn send_now(
        &mut self,
        shared: &mut Shared,
        Addressed { member, answers, number }: Addressed,
        entry: u8,
        data: &[u8],
    ) -> Result<(), Refused> {
        let mut vector = self.plane.vector();
        self.publish(shared);
        vector[self.rank] = self.plane.inbox[self.rank].whole;
        let envelope = Envelope {
            group: self.id,
            view: self.view.number,
            vector,
            entry: u16::from(entry),
            from_client: false,
            answers: answers.map(|id| ((id.view, id.sender), id.number)),
            number,
            data: data.to_vec(),
        };
        if member == shared.me {
            self.held.push_back(Held { sender: member, envelope });
            self.release_held(shared);
            return Ok(());
        }
        let mut out = Writer::new();
        envelope.write(&mut out);
        let lane = shared.lane(member, 0).ok_or(Refused::NoSuchProcess)?;
        if lane.sender.enqueue(out.bytes).is_err() {
            self.writable_wanted = true;
            return Err(Refused::WouldBlock);
        }
        self.unicasts.insert(member, number);
        if let Some(peer) = shared.peers.get_mut(&member) {
            peer.sent.note_sent(number);
        }
        Ok(())
    }

    /// A message came on a channel.
    pub fn receive_unicast(&mut self, shared: &mut Shared, sender: ProcessId, envelope: Envelope) {
        self.held.push_back(Held { sender, envelope });
        self.release_held(shared);
    }

    /// A member sent it to a former membership of this process, and no longer waits for it: it must not be delivered in this
    /// one. (A client waits until it is taken, and its view may be behind.)
    pub fn is_for_former_membership(&self, envelope: &Envelope) -> bool {
        let ended = self.departed_until.is_some() && envelope.view <= self.view.number;
        !envelope.from_client && (ended || envelope.view < self.first_view)
    }

    /// Another message may be kept until its context is delivered.
    pub fn has_room_to_hold(&self) -> bool {
        self.held.len() < MAX_HELD
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
                            .all(|(&count, inbox)| inbox.delivered >= count || mutant!(UnicastUncovered))));
            if !ready {
                blocked.push(held.sender);
                index += 1;
                continue;
            }
            let Some(held) = self.held.remove(index) else { break };
            // Of a failed process it comes up to the view without it, as its multicasts do: some of those may follow it.
            let rank = match self.rank_of(held.sender) {
                None if self.clients.is_registered(held.sender) => Some(usize::from(u16::MAX)),
                rank => rank,
            };
            let Some(rank) = rank else {
                shared.note_unicast_taken(held.sender, held.envelope.number);
                continue;
            };
            let envelope = held.envelope;
            if self.state == StateStatus::Has {
                shared.note_unicast_taken(held.sender, envelope.number);
            }
            let id = MessageId { group: self.id, view: envelope.view, sender: held.sender, number: envelope.number };
            let answers =
                envelope.answers.map(|((view, sender), number)| MessageId { group: self.id, view, sender, number });
            let own = Some(answers.unwrap_or(id)).filter(|id| id.sender == shared.me);
            let delivery = Delivery {
                group: self.handle,
                id,
                rank: rank as u16,
                kind: if envelope.answers.is_some() { Kind::Reply } else { Kind::Unicast },
                safe: false,
                entry: envelope.entry as u8,
                order: 0,
                ticket: own.map_or(0, |id| self.tickets.find(id)),
                answers,
                body: Body::Owned(Arc::new(envelope.data)),
            };
            self.push(shared, Pending::One(Event::Message(delivery), None));
        }
    }

    /// Gives up what is held of some senders: they are dead, or this process is no member any more.
    pub(crate) fn drop_held(&mut self, shared: &mut Shared, of: impl Fn(&Shared, ProcessId) -> bool) {
        for held in std::mem::take(&mut self.held) {
            if of(shared, held.sender) {
                shared.note_unicast_taken(held.sender, held.envelope.number);
            } else {
                self.held.push_back(held);
            }
        }
    }
}
