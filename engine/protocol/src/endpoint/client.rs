//! This process as a client of groups: it multicasts into them through a *relay*, one of their members, and is none itself.
//!
//! ```text
//!  looking for the group ─▶ registering ──Open completed──▶ registered ──leave──▶ closing ──Close completed──▶ gone
//!            ▲                   │ the group ended             │ the group ended
//!            └───────────────────┘                             ▼
//!                                                             gone (GroupEnded)
//! ```
//! Requests are numbered and kept until the relay says that they are *completed*: every member that stays delivers them, or
//! has done so; the last one, which ends the registration, until everything is delivered everywhere (R4). When the relay fails, leaves, or says nothing for a while, another member is asked, with all that is not
//! completed; the marks of the group ([`crate::group::clients`]) see to it that nothing is delivered twice. A point-to-point
//! message of a client goes to its receiver directly, after everything before it is completed and before everything after it.

use super::Endpoint;
use super::joining::Phase;
use crate::event::{Body, Delivery, Event, FIRST_UNICAST, Kind, MessageId, Refused, SendOptions};
use crate::group::clients::{not_here, send_client_message, try_send};
use crate::group::debts::Debt;
use crate::group::unicast::Addressed;
use crate::id::{GroupHandle, GroupId, ProcessId};
use crate::time::Instant;
use isis_wire::client::{ClientMessage, ClientOperation, ClientRequest, RELAY_HEADER};
use isis_wire::message::{Code, Envelope};
use isis_wire::{DecodeError, Reader, Writer};
use std::collections::VecDeque;
use std::sync::Arc;

/// After so many take-over pauses without a word another relay is asked; twice as many the next time.
const PATIENCE: u64 = 5;
/// The patience doubles so often at most.
const MOST_DOUBLINGS: u32 = 4;

/// What a client wants done.
#[derive(Debug)]
enum What {
    /// By the group.
    Request { number: u64, operation: ClientOperation, options: SendOptions },
    /// By one member.
    Send { addressed: Addressed, entry: u8 },
}

#[derive(Debug)]
struct Item {
    /// Orders the client's items.
    place: u64,
    /// What has to be delivered elsewhere first (R4).
    debts: Vec<Debt>,
    what: What,
    data: Vec<u8>,
    /// It was handed to the present relay, or to the receiver.
    sent: bool,
}

/// A group that this process is, or will be, a client of.
#[derive(Debug)]
pub(super) struct Client {
    /// The group; `None`: there is none of this name yet.
    group: Option<GroupId>,
    /// The number of its first request.
    registration: u64,
    registered: bool,
    closing: bool,
    queue: VecDeque<Item>,
    bytes: u64,
    places: u64,
    /// The number of its last request.
    number: u64,
    /// The number of the last request that asked to be told when it is delivered everywhere.
    number_across: u64,
    everywhere: u64,
    /// The relay that was asked for that is given up, and another one has to be asked.
    asks_again: bool,
    relay: Option<ProcessId>,
    /// Which of the entered processes is asked next.
    turn: usize,
    /// Relays in a row that did not help.
    failures: u32,
    /// When something last came of the relay, or it was chosen.
    progress_at: Instant,
    /// No relay is chosen before.
    pause_until: Instant,
    /// When a receiver is asked whether it has delivered.
    ask_at: Instant,
    /// The view at its registration: what it sends is delivered in this one or a later one.
    first_view: u64,
    /// What it knows to be delivered: view and vector of who told it something.
    view: u64,
    vector: Vec<u64>,
    /// Something came from a member since the last request.
    learned: bool,
    /// Flushes, and the place up to which each waits.
    flushes: Vec<(u64, u64)>,
    writable_wanted: bool,
}

impl Client {
    pub(super) fn new(now: Instant) -> Client {
        Client {
            group: None,
            registration: 0,
            registered: false,
            closing: false,
            queue: VecDeque::new(),
            bytes: 0,
            places: 0,
            number: 0,
            number_across: 0,
            everywhere: 0,
            asks_again: false,
            relay: None,
            turn: 0,
            failures: 0,
            progress_at: now,
            pause_until: now,
            ask_at: now,
            first_view: 0,
            view: 0,
            vector: Vec::new(),
            learned: false,
            flushes: Vec::new(),
            writable_wanted: false,
        }
    }

    /// The flushes that are not complete.
    pub(super) fn flushes(&self) -> impl Iterator<Item = u64> + '_ {
        self.flushes.iter().map(|(flush, _)| *flush)
    }

    /// It concerns this group.
    pub(super) fn is_of(&self, group: GroupId) -> bool {
        self.group == Some(group)
    }

    /// Something waits for other groups.
    pub(super) fn has_debts(&self) -> bool {
        self.queue.iter().any(|item| !item.debts.is_empty())
    }

    /// Takes what `paid` says is paid off its items. Whether one became free to go.
    pub(super) fn settle(&mut self, mut paid: impl FnMut(&mut Debt) -> bool) -> bool {
        let mut freed = false;
        for item in self.queue.iter_mut().filter(|item| !item.debts.is_empty()) {
            item.debts.retain_mut(|debt| !paid(debt));
            freed |= item.debts.is_empty();
        }
        freed
    }

    /// The creditors of what waits.
    pub(super) fn creditors(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.queue.iter().flat_map(|item| &item.debts).filter_map(Debt::group)
    }

    fn push(&mut self, what: What, data: Vec<u8>, debts: Vec<Debt>) {
        self.places += 1;
        self.bytes += data.len() as u64;
        self.queue.push_back(Item { place: self.places, debts, what, data, sent: false });
    }

    fn request(&mut self, operation: ClientOperation, options: SendOptions, data: &[u8], debts: Vec<Debt>) -> u64 {
        self.number += 1;
        let number = self.number;
        self.learned = false;
        self.push(What::Request { number, operation, options }, data.to_vec(), debts);
        number
    }

    fn control(&mut self, operation: ClientOperation) -> u64 {
        self.request(operation, SendOptions { kind: Kind::Causal, safe: false, entry: 0 }, &[], Vec::new())
    }

    /// What this process, as this client, sent and received that is not known to be delivered everywhere.
    pub(super) fn debt(&mut self, handle: GroupHandle) -> Option<Debt> {
        if !self.registered {
            return None;
        }
        if !self.closing && (self.learned || self.number_across < self.number) {
            // Nobody was asked yet when that is delivered everywhere.
            self.number_across = self.control(ClientOperation::Sync);
        }
        let debt = Debt::Client { handle, place: self.places, number: self.number };
        (!self.is_paid(&debt)).then_some(debt)
    }

    /// The debt, which is about this client, is paid.
    pub(super) fn is_paid(&self, debt: &Debt) -> bool {
        match *debt {
            Debt::Client { place, number, .. } => {
                self.everywhere >= number && self.queue.front().is_none_or(|item| item.place > place)
            }
            _ => true,
        }
    }

    fn learn(&mut self, view: u64, vector: &[u64]) {
        if view > self.view {
            self.view = view;
            self.vector = vector.to_vec();
        } else if view == self.view && self.vector.len() == vector.len() {
            for (known, told) in self.vector.iter_mut().zip(vector) {
                *known = (*known).max(*told);
            }
        }
    }

    /// The present relay does not help.
    fn give_up_relay(&mut self, pause_until: Instant) {
        self.relay = None;
        self.turn += 1;
        self.failures += 1;
        self.pause_until = pause_until;
        self.asks_again |= self.everywhere < self.number_across;
        for item in &mut self.queue {
            // What went to one member is with that one.
            if matches!(item.what, What::Request { .. }) {
                item.sent = false;
            }
        }
    }

    /// When the relay's time is up; `None`: nothing is wanted of it.
    fn patience_ends(&self, takeover_ns: u64) -> Option<Instant> {
        let wanted = self.queue.iter().any(|item| item.sent && matches!(item.what, What::Request { .. }));
        let patience = (PATIENCE * takeover_ns) << self.failures.min(MOST_DOUBLINGS);
        (wanted && self.relay.is_some()).then(|| self.progress_at + patience)
    }
}

impl Endpoint {
    /// The registered client behind a handle, if that is one's.
    pub(super) fn client(&mut self, handle: GroupHandle) -> Option<Result<&mut Client, Refused>> {
        let client = self.clients.get_mut(&handle)?;
        Some(if client.registered && !client.closing { Ok(client) } else { Err(Refused::NotMember) })
    }

    /// Multicasts as a client.
    pub(super) fn multicast_as_client(
        &mut self,
        handle: GroupHandle,
        options: SendOptions,
        data: &[u8],
        debts: Vec<Debt>,
    ) -> Result<u64, Refused> {
        if options.kind == Kind::Global {
            return Err(Refused::BadKind);
        }
        let client = self.admit(handle, data.len(), RELAY_HEADER)?;
        let number = client.request(ClientOperation::Message, options, data, debts);
        Ok(number - client.registration)
    }

    /// Sends to one member as a client.
    pub(super) fn send_as_client(
        &mut self,
        handle: GroupHandle,
        member: ProcessId,
        entry: u8,
        answers: Option<MessageId>,
        data: &[u8],
        debts: Vec<Debt>,
    ) -> Result<u64, Refused> {
        let number = self.shared.unicast_number + 1;
        if member == self.shared.me || !self.shared.in_system(member) {
            return Err(Refused::NoSuchProcess);
        }
        let client = self.admit(handle, data.len(), 0)?;
        client.push(What::Send { addressed: Addressed { member, answers, number }, entry }, data.to_vec(), debts);
        if let Some(peer) = self.shared.peers.get_mut(&member) {
            peer.sent.note_waiting(number);
        }
        self.shared.unicast_number = number;
        Ok(number)
    }

    /// The client, if it may send that much now.
    fn admit(&mut self, handle: GroupHandle, len: usize, overhead: usize) -> Result<&mut Client, Refused> {
        if len + overhead > self.shared.config.max_message {
            return Err(Refused::TooLong);
        }
        let (stalled, window) = (self.shared.stalled, self.shared.config.window);
        let client = self.client(handle).unwrap_or(Err(Refused::NotMember))?;
        if stalled || (client.bytes > 0 && client.bytes + len as u64 > window) {
            client.writable_wanted = true;
            return Err(Refused::WouldBlock);
        }
        Ok(client)
    }

    /// A client's flush.
    pub(super) fn flush_as_client(&mut self, handle: GroupHandle, flush: u64) -> Result<(), Refused> {
        let client = self.client(handle).unwrap_or(Err(Refused::NotMember))?;
        client.flushes.push((flush, client.places));
        Ok(())
    }

    /// A client's leave.
    pub(super) fn leave_as_client(&mut self, handle: GroupHandle) {
        match self.clients.get_mut(&handle) {
            Some(client) if client.group.is_some() => {
                client.closing = true;
                let number = client.control(ClientOperation::Close);
                if let Some(group) = client.group {
                    self.client_numbers.insert(group, number);
                }
            }
            _ => self.end_client(handle, Event::Left { group: handle }),
        }
    }

    fn end_client(&mut self, handle: GroupHandle, event: Event) {
        let Some(client) = self.clients.remove(&handle) else { return };
        if let Some(group) = client.group {
            self.client_numbers.insert(group, client.number);
        }
        for item in &client.queue {
            if let What::Send { addressed, .. } = item.what {
                self.shared.give_up_unicast(addressed.member, addressed.number);
            }
        }
        for (flush, _) in client.flushes {
            self.shared.emit(Event::FlushLost { group: handle, flush });
        }
        self.handles[handle.0 as usize].phase = Phase::Gone;
        self.shared.emit(event);
    }

    /// A process of this name is still a client, or a member, by a handle that was given up: this one waits.
    pub(super) fn waits_for_former(&self, index: usize) -> bool {
        let name = &self.handles[index].name;
        let is_client = self.clients.contains_key(&GroupHandle(index as u32));
        self.handles[..index].iter().enumerate().any(|(other, handle)| {
            handle.name == *name
                && !matches!(handle.phase, Phase::Gone)
                && (is_client || self.clients.contains_key(&GroupHandle(other as u32)))
        })
    }

    /// Goes on with all that this process is a client of.
    pub(super) fn drive_clients(&mut self) {
        if self.clients.is_empty() || self.process().is_none() || self.ended.is_some() || self.shared.stalled {
            return;
        }
        for handle in self.clients.keys().copied().collect::<Vec<_>>() {
            self.drive_client(handle);
        }
    }

    fn drive_client(&mut self, handle: GroupHandle) {
        let index = handle.0 as usize;
        let waits = self.waits_for_former(index);
        let Some(client) = self.clients.get_mut(&handle) else { return };
        let Some(group) = client.group else {
            if let Some(group) = self.shared.directory.lookup(&self.handles[index].name)
                && !waits
            {
                client.group = Some(group);
                client.number = self.client_numbers.get(&group).copied().unwrap_or(0);
                client.registration = client.number + 1;
                client.everywhere = client.number;
                client.control(ClientOperation::Open);
                self.dirty = true;
            }
            return;
        };
        let Some(entry) = self.shared.directory.entry(group) else {
            if client.closing {
                self.end_client(handle, Event::Left { group: handle });
            } else if client.registered {
                self.end_client(handle, Event::GroupEnded { group: handle });
            } else {
                *client = Client::new(self.shared.now);
            }
            return;
        };
        let now = self.shared.now;
        let (takeover, resend) = (self.shared.config.takeover_ns, self.shared.config.resend_ns);
        let usable = |process: ProcessId| self.shared.peers.contains_key(&process);
        let candidates: Vec<ProcessId> =
            entry.entered.iter().filter(|e| !e.disclaimed).map(|e| e.process).filter(|&p| usable(p)).collect();
        if client.relay.is_some_and(|relay| !candidates.contains(&relay))
            || client.patience_ends(takeover).is_some_and(|end| now >= end)
        {
            client.give_up_relay(now);
        }
        if client.relay.is_none() && now >= client.pause_until {
            if candidates.is_empty() {
                client.pause_until = now + 10 * resend;
            } else {
                if client.turn == 0 {
                    client.turn = self.shared.random.below(candidates.len() as u64) as usize;
                }
                client.relay = Some(candidates[client.turn % candidates.len()]);
                client.progress_at = now;
            }
        }
        self.ask_again(handle, group);
        self.send_items(handle, group);
        self.answer_flushes(handle);
        let window = self.shared.config.window;
        if let Some(client) = self.clients.get_mut(&handle)
            && client.writable_wanted
            && client.registered
            && client.bytes <= window / 2
        {
            client.writable_wanted = false;
            self.shared.emit(Event::Writable { group: handle });
        }
    }

    /// There are other groups of the same domain in which this process's messages may depend on this client's.
    fn is_across(&self, handle: GroupHandle) -> bool {
        let domain = self.handles[handle.0 as usize].options.domain;
        self.groups.iter().any(|(&id, group)| id != GroupId::SYSTEM && group.options.domain == domain)
            || self.clients.keys().any(|&it| it != handle && self.handles[it.0 as usize].options.domain == domain)
    }

    /// A new relay has to say how far everything is delivered everywhere: the old one was asked, and cannot any more. What is
    /// still to be sent may wait for just that, so the new one is asked for the registration again: that asks for nothing but
    /// the answer.
    fn ask_again(&mut self, handle: GroupHandle, group: GroupId) {
        let system_view = self.shared.system_view.number;
        let Some(client) = self.clients.get_mut(&handle) else { return };
        let Some(relay) = client.relay.filter(|_| client.asks_again && client.registered) else { return };
        let request = ClientRequest {
            group,
            registration: client.registration,
            number: client.registration,
            operation: ClientOperation::Open,
            kind: Kind::Causal as u16,
            safe: false,
            entry: 0,
            view: client.view,
            vector: client.vector.clone(),
            system_view,
            data: Vec::new(),
        };
        client.asks_again = !try_send(&mut self.shared, relay, &ClientMessage::Request { request });
    }

    fn send_items(&mut self, handle: GroupHandle, group: GroupId) {
        let system_view = if self.is_across(handle) { self.shared.system_view.number } else { 0 };
        let Some(client) = self.clients.get_mut(&handle) else { return };
        let mut index = 0;
        while index < client.queue.len() {
            let item = &mut client.queue[index];
            if !item.debts.is_empty() {
                return;
            }
            match item.what {
                What::Request { number, operation, options } => {
                    let Some(relay) = client.relay else { return };
                    if !item.sent {
                        let request = ClientRequest {
                            group,
                            registration: client.registration,
                            number,
                            operation,
                            kind: options.kind as u16,
                            safe: options.safe,
                            entry: u16::from(options.entry),
                            view: client.view,
                            vector: client.vector.clone(),
                            system_view,
                            data: item.data.clone(),
                        };
                        if !try_send(&mut self.shared, relay, &ClientMessage::Request { request }) {
                            return;
                        }
                        item.sent = true;
                        if client.patience_ends(0).is_none() {
                            client.progress_at = self.shared.now;
                        }
                        if system_view > 0 {
                            client.number_across = client.number_across.max(number);
                        }
                    }
                    index += 1;
                }
                What::Send { addressed, entry } => {
                    // Everything before it is completed, and nothing after it is under way.
                    if index > 0 {
                        return;
                    }
                    let Addressed { member, answers, number } = addressed;
                    let now = self.shared.now;
                    let settled = self.shared.peers.get(&member).is_none_or(|peer| peer.sent.is_settled(number));
                    if !settled && !item.sent {
                        let envelope = Envelope {
                            group,
                            view: client.view,
                            vector: client.vector.clone(),
                            entry: u16::from(entry),
                            answers: answers.map(|id| ((id.view, id.sender), id.number)),
                            number,
                            data: item.data.clone(),
                        };
                        let mut out = Writer::new();
                        envelope.write(&mut out);
                        let Some(lane) = self.shared.lane(member, 0) else { return };
                        if lane.sender.enqueue(out.bytes).is_err() {
                            return;
                        }
                        if let Some(peer) = self.shared.peers.get_mut(&member) {
                            peer.sent.note_sent(number);
                        }
                        item.sent = true;
                        client.ask_at = now + 10 * self.shared.config.resend_ns;
                        return;
                    }
                    if !settled {
                        // The acknowledgement of its delivery may have been lost.
                        if now >= client.ask_at {
                            client.ask_at = now + 10 * self.shared.config.resend_ns;
                            try_send(&mut self.shared, member, &ClientMessage::Acknowledge { number });
                        }
                        return;
                    }
                    client.bytes -= item.data.len() as u64;
                    client.queue.pop_front();
                }
            }
        }
    }

    fn answer_flushes(&mut self, handle: GroupHandle) {
        let Some(client) = self.clients.get_mut(&handle) else { return };
        let first = client.queue.front().map_or(u64::MAX, |item| item.place);
        let mut done: Vec<u64> = Vec::new();
        client.flushes.retain(|(flush, place)| {
            if *place < first {
                done.push(*flush);
            }
            *place >= first
        });
        for flush in done {
            self.shared.emit(Event::Flushed { group: handle, flush });
        }
    }

    /// A message came on the clients' lane.
    pub(super) fn take_client_message(&mut self, process: ProcessId, bytes: &[u8]) -> Result<(), DecodeError> {
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

    /// A point-to-point message for a group that this process is a client of; gives it back if it is not, or not yet.
    pub(super) fn take_envelope_as_client(&mut self, process: ProcessId, envelope: Envelope) -> Option<Envelope> {
        let me = self.shared.me;
        let of = |client: &Client| client.is_of(envelope.group) && client.registered;
        let Some((&handle, client)) = self.clients.iter_mut().find(|(_, client)| of(client)) else {
            return Some(envelope);
        };
        self.shared.note_unicast_taken(process, envelope.number);
        if client.closing {
            // Nothing comes after a leave: what the application learned could not be asked for any more (R4).
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

    /// When `drive_clients` has something to do.
    pub(super) fn clients_deadline(&self) -> Option<Instant> {
        if self.process().is_none() || self.shared.stalled {
            return None;
        }
        let takeover = self.shared.config.takeover_ns;
        let clients = self.clients.values().filter(|client| client.group.is_some());
        clients
            .filter_map(|client| {
                let relay = match client.relay {
                    Some(_) => client.patience_ends(takeover),
                    None => Some(client.pause_until),
                };
                let sends = |item: &Item| item.sent && matches!(item.what, What::Send { .. });
                let asks = client.queue.front().is_some_and(sends).then_some(client.ask_at);
                [relay, asks].into_iter().flatten().min()
            })
            .min()
    }
}
