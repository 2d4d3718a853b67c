//! What comes to a client: its relay's word how far its requests are, and messages of members.

use super::super::Endpoint;
use super::{Client, Item, What};
use crate::event::{Body, Delivery, Event, FIRST_UNICAST, Kind, MessageId};
use crate::group::clients::{not_here, send_client_message};
use crate::id::{GroupHandle, GroupId, ProcessId};
use isis_wire::client::{ClientMessage, ClientOperation};
use isis_wire::message::{Code, Envelope};
use isis_wire::{DecodeError, Reader};
use std::sync::Arc;

impl Endpoint {
    /// A message came on the clients' lane.
    pub(in crate::endpoint) fn take_client_message(
        &mut self,
        process: ProcessId,
        bytes: &[u8],
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = ClientMessage::read(&mut reader)?;
        reader.finish()?;
        match message {
            ClientMessage::Request { request } => match self.groups.get_mut(&request.group) {
                Some(group) if request.group != GroupId::SYSTEM && group.departed_until.is_none() => {
                    group.take_request(&mut self.shared, process, request);
                }
                _ => {
                    let answer = not_here(request.group, request.registration);
                    send_client_message(&mut self.shared, process, &answer);
                }
            },
            ClientMessage::Progress { group, registration, completed, everywhere, view, vector } => {
                if let Some(handle) = self.client_of(group, registration) {
                    self.take_progress(handle, process, (completed, everywhere), (view, &vector));
                }
            }
            ClientMessage::Acknowledge { .. } => {
                let now = self.shared.now;
                if let Some(lane) = self.shared.lane(process, 0) {
                    lane.receiver.acknowledge_now(now);
                }
            }
            ClientMessage::NotHere { group, registration } => {
                let pause = self.shared.random.jitter(self.shared.config.resend_ns);
                let now = self.shared.now;
                if let Some(handle) = self.client_of(group, registration)
                    && let Some(client) = self.clients.get_mut(&handle)
                    && client.relay == Some(process)
                {
                    client.give_up_relay(now + pause);
                }
            }
        }
        Ok(())
    }

    fn client_of(&self, group: GroupId, registration: u64) -> Option<GroupHandle> {
        let of = |client: &Client| client.is_of(group) && client.registration == registration;
        self.clients.iter().find(|(_, client)| of(client)).map(|(&handle, _)| handle)
    }

    fn take_progress(
        &mut self,
        handle: GroupHandle,
        process: ProcessId,
        (completed, everywhere): (u64, u64),
        (view, vector): (u64, &[u64]),
    ) {
        let Some(client) = self.clients.get_mut(&handle) else { return };
        if completed > client.number || everywhere > client.number {
            return;
        }
        client.learn(view, vector);
        client.everywhere = client.everywhere.max(everywhere);
        if client.relay == Some(process) {
            client.progress_at = self.shared.now;
            client.failures = 0;
        }
        let mut closed = false;
        while let Some(Item { what: What::Request { number, operation, .. }, data, .. }) = client.queue.front()
            && *number <= if *operation == ClientOperation::Close { client.everywhere } else { completed }
        {
            let (number, operation) = (*number, *operation);
            client.bytes -= data.len() as u64;
            let ticket = number - client.registration;
            match operation {
                ClientOperation::Open => {
                    client.registered = true;
                    client.first_view = client.view;
                    // By this one the members know that it delivers what they send to it.
                    client.control(ClientOperation::Sync);
                    if !client.closing {
                        let id = client.group.unwrap_or_default();
                        self.shared.emit(Event::Registered { group: handle, id });
                    }
                }
                ClientOperation::Message => self.shared.emit(Event::Completed { group: handle, ticket }),
                ClientOperation::Close => closed = true,
                ClientOperation::Sync => {}
            }
            client.queue.pop_front();
        }
        self.answer_flushes(handle);
        if closed {
            self.end_client(handle, Event::Left { group: handle });
        }
    }

    /// A point-to-point message for a group that this process is a client of; gives it back if it is not.
    pub(in crate::endpoint) fn take_envelope_as_client(
        &mut self,
        process: ProcessId,
        envelope: Envelope,
    ) -> Option<Envelope> {
        let me = self.shared.me;
        let Some((&handle, client)) = self.clients.iter_mut().find(|(_, client)| client.is_of(envelope.group)) else {
            return Some(envelope);
        };
        self.shared.note_unicast_taken(process, envelope.number);
        if client.closing || !client.registered {
            // Nothing comes after a leave: what the application learned could not be asked for any more (R4). And members
            // send only to those of whom they know that they know of their registration: this one was sent to the one before.
            return None;
        }
        client.learn(envelope.view, &envelope.vector);
        client.learned = true;
        let group = envelope.group;
        let id = MessageId { group, view: envelope.view, sender: process, number: envelope.number };
        let answers = envelope.answers.map(|((view, sender), number)| MessageId { group, view, sender, number });
        let ticket = match answers {
            Some(id) if id.sender == me && id.number > FIRST_UNICAST => id.number,
            // Else it answers what this process sent as a member, or by an earlier registration.
            Some(id) if id.sender == me && id.view >= client.first_view => {
                id.number.saturating_sub(client.registration)
            }
            _ => 0,
        };
        let delivery = Delivery {
            group: handle,
            id,
            rank: u16::MAX,
            kind: if answers.is_some() { Kind::Reply } else { Kind::Unicast },
            safe: false,
            entry: envelope.entry as u8,
            order: 0,
            ticket,
            answers,
            body: Body::Owned(Arc::new(envelope.data)),
        };
        self.shared.emit(Event::Message(delivery));
        None
    }
}
