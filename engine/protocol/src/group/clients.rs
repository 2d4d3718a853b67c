//! Clients: processes of the system that multicast into the group without being members of it.
//!
//! A client numbers its requests. A member that it chose, its *relay*, appends request n + 1 to its own stream when request n
//! is delivered here. All members count what they deliver, per client, as its [`Mark`], and deliver what the mark has not
//! reached: a request that goes through two relays, because the first one was slow, or lost, is delivered once. A request
//! that waited is compared with the mark again when it is appended.
//!
//! The marks are a function of what is delivered, so they are the same at all members at the start of a view. They are no part
//! of the value that is agreed on: a joiner gets them with the DECIDE, from a member that has delivered everything up to the
//! cut. The mark of a client that fails goes with the first group view made in a system view without it; nothing of the client
//! is appended in later views, since whoever promised there knew it dead.
//!
//! Relayed messages are delivered only when all members have them, whether the client asked for that or not: else a relay
//! could deliver one, die as the only one that has it, and the others would deliver it in another view when it is sent again.
//!
//! An FBCAST of a client travels as a CBCAST of its relay: the next one may go through another relay, and must not come first.

use super::{Group, Waiting};
use crate::counters::Counter;
use crate::event::{Body, Kind, SendOptions};
use crate::id::ProcessId;
use crate::shared::Shared;
use crate::stream::Queued;
use crate::stream::inbox::Carries;
use isis_wire::client::{ClientMessage, ClientOperation, ClientRequest, RELAY_HEADER, RelayHeader};
use isis_wire::codec::{DecodeError, Reader, Writer};
use isis_wire::message::Code;
use isis_wire::multi::{Final, Finals, Open};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

/// The most clients of one group, those of ended registrations included.
pub const MAX_CLIENTS: usize = 4096;
/// So many marks of processes that ended in order, and are gone from the system, are worth a view change.
const MANY_GONE: usize = 64;

/// What a joiner is told at the start of its first view.
#[derive(Debug)]
pub struct Told {
    /// Final priorities of ABCASTs to several groups.
    finals: Vec<Final>,
    /// Those that are delivered in this group, and perhaps not in the others.
    open: Vec<Open>,
    clients: Clients,
}

/// A delivered request that is not known to be delivered everywhere.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: u64,
    view: u64,
    rank: usize,
    count: u64,
}

/// How far the requests of a client are delivered: the same at all members.
#[derive(Clone, Debug)]
struct Mark {
    registration: u64,
    number: u64,
    open: bool,
    places: VecDeque<Place>,
}

impl Mark {
    /// It is not ended, and something of it came after the registration, which the client thus knows to be complete.
    fn is_there(&self) -> bool {
        self.open && self.number > self.registration
    }
}

/// A client that this member relays for.
#[derive(Debug, Default)]
struct Served {
    registration: u64,
    /// Requests by number, not appended yet.
    queue: BTreeMap<u64, ClientRequest>,
    bytes: usize,
    /// The request that was handed to the stream last.
    in_flight: u64,
    /// What the client was told last.
    told: Option<(u64, u64)>,
    /// The client is in other groups of the domain, or ends, and wants to know what is delivered everywhere.
    across: bool,
}

/// The clients of a group, as one member knows them.
#[derive(Debug, Default)]
pub struct Clients {
    marks: BTreeMap<ProcessId, Mark>,
    served: BTreeMap<ProcessId, Served>,
    /// Per rank: what was delivered in this view and has no number among the rank's own messages: what it relayed, and finals of
    /// ABCASTs to several groups.
    passed_over: Vec<u64>,
    /// The ABCASTs of this view that were not told. They have no place in the total order.
    untold: u64,
}

impl Clients {
    /// How far each is, for people.
    pub(crate) fn describe(&self, text: &mut String) {
        for (client, mark) in &self.marks {
            let _ = writeln!(text, "    client {client:?}: {mark:?}");
        }
        for (client, served) in &self.served {
            let waiting: Vec<u64> = served.queue.keys().copied().collect();
            let _ = writeln!(
                text,
                "    relays for {client:?}: registration {} waiting {waiting:?} in flight {} told {:?} across {}",
                served.registration, served.in_flight, served.told, served.across
            );
        }
    }

    /// Those that are registered and know it, by identifier.
    pub fn registered(&self) -> Vec<ProcessId> {
        self.marks.iter().filter(|(_, mark)| mark.is_there()).map(|(&process, _)| process).collect()
    }

    /// The process is registered, and knows it: what is sent to it, it delivers at once.
    pub fn is_registered(&self, process: ProcessId) -> bool {
        self.marks.get(&process).is_some_and(Mark::is_there)
    }

    /// Nothing is known of any client.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.served.is_empty()
    }

    /// What of a rank was delivered in this view and has no number among its own messages.
    pub fn passed_over(&self, rank: usize) -> u64 {
        self.passed_over.get(rank).copied().unwrap_or(0)
    }

    /// Such a one was delivered.
    pub(crate) fn pass_over(&mut self, rank: usize) {
        if let Some(passed_over) = self.passed_over.get_mut(rank) {
            *passed_over += 1;
        }
    }

    /// An ABCAST was delivered that is not told.
    pub(crate) fn leave_untold(&mut self) {
        self.untold += 1;
    }

    /// The ABCASTs of this view that were delivered without being told.
    pub fn untold(&self) -> u64 {
        self.untold
    }

    /// A view with so many members begins.
    pub(crate) fn begin_view(&mut self, members: usize) {
        self.passed_over.clear();
        self.passed_over.resize(members, 0);
        self.untold = 0;
    }

    /// The marks, for a joiner.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        let marks: Vec<(&ProcessId, &Mark)> = self.marks.iter().collect();
        out.list(&marks, |out, (process, mark)| {
            process.write(out);
            out.varint(mark.registration);
            out.varint(mark.number);
            out.flag(mark.open);
        });
        out.bytes
    }

    /// The marks as a joiner gets them.
    pub(crate) fn decode(bytes: &[u8], view: u64) -> Result<Clients, DecodeError> {
        let mut reader = Reader::new(bytes);
        let marks = reader.list(MAX_CLIENTS, |reader| {
            let (process, registration, number) = (ProcessId::read(reader)?, reader.varint()?, reader.varint()?);
            // Of the view before, which others may not have finished.
            let number = number - u64::from(mutant!(JoinerUnmarked) && number > registration);
            let last = Place { number, view: view.saturating_sub(1), rank: 0, count: 0 };
            Ok((process, Mark { registration, number, open: reader.flag()?, places: [last].into() }))
        })?;
        reader.finish()?;
        Ok(Clients { marks: marks.into_iter().collect(), ..Clients::default() })
    }

    /// How far this registration's requests are delivered; 0: nothing of it is.
    fn reached(&self, client: ProcessId, registration: u64) -> u64 {
        self.marks.get(&client).filter(|mark| mark.registration == registration).map_or(0, |mark| mark.number)
    }

    /// A request is the next one of its client.
    fn is_next(&self, client: ProcessId, registration: u64, number: u64, operation: ClientOperation) -> bool {
        match self.marks.get(&client) {
            Some(mark) if mark.registration == registration => mark.open && number == mark.number + 1,
            mark => {
                operation == ClientOperation::Open
                    && number == registration
                    && mark.is_none_or(|mark| registration > mark.number)
            }
        }
    }

    /// A request is delivered: moves the mark. `false`: it was delivered before.
    fn take(&mut self, header: &RelayHeader, place: Place) -> bool {
        let RelayHeader { client, registration, number, operation, .. } = *header;
        if !self.is_next(client, registration, number, operation) {
            return mutant!(DeliversUnmarked) && operation == ClientOperation::Message;
        }
        if operation == ClientOperation::Open {
            if self.marks.len() >= MAX_CLIENTS && !self.marks.contains_key(&client) {
                return false;
            }
            self.marks.insert(client, Mark { registration, number, open: true, places: VecDeque::new() });
        }
        if let Some(mark) = self.marks.get_mut(&client) {
            mark.number = number;
            mark.open = operation != ClientOperation::Close;
            mark.places.push_back(place);
        }
        true
    }

    /// A view made in that system view begins: it forgets whom that one lacks.
    pub(crate) fn forget_excluded(&mut self, shared: &Shared, system_view: u64) {
        self.marks.retain(|&process, _| !shared.was_excluded_by(process, system_view));
    }

    /// Some client failed, or many have gone: a view without them is wanted.
    pub(crate) fn wants_view(&self, shared: &Shared) -> bool {
        let mut gone = 0;
        for (_, mark) in self.marks.iter().filter(|(process, _)| !shared.in_system(**process)) {
            gone += 1;
            if mark.open || gone > MANY_GONE {
                return true;
            }
        }
        false
    }

    /// A client waits to hear that something of it is delivered everywhere.
    pub(crate) fn is_owed(&self) -> bool {
        self.served.iter().any(|(client, served)| {
            served.across
                && served.told.is_none_or(|(_, everywhere)| everywhere < self.reached(*client, served.registration))
        })
    }
}

impl Group {
    /// A relayed message is delivered. Gives what it is if that has to be told to the application; `message` is then as the
    /// client sent it.
    pub(super) fn take_relayed(
        &mut self,
        shared: &mut Shared,
        rank: usize,
        message: &mut Queued,
    ) -> Option<RelayHeader> {
        self.clients.pass_over(rank);
        let header = self.read_relayed(shared, rank, message);
        if header.is_none() && message.kind == Kind::Total {
            self.clients.leave_untold();
        }
        header
    }

    fn read_relayed(&mut self, shared: &mut Shared, rank: usize, message: &mut Queued) -> Option<RelayHeader> {
        let bytes: &[u8] = match &message.body {
            Body::Chunk { chunk, offset, len } => {
                shared.region.bytes(*chunk, *offset as usize..(*offset + *len) as usize)
            }
            Body::Owned(bytes) => bytes,
        };
        let Ok(header) = RelayHeader::parse(bytes) else {
            shared.count(Counter::IgnoreMalformed);
            return None;
        };
        let place = Place { number: header.number, view: self.view.number, rank, count: message.number };
        if !self.clients.take(&header, place) {
            shared.count(Counter::IgnoreRelayed);
            return None;
        }
        if header.operation != ClientOperation::Message {
            self.void_waiting(shared);
            return None;
        }
        message.safe = header.safe;
        message.kind = if header.kind == Kind::Fifo as u8 { Kind::Fifo } else { message.kind };
        match &mut message.body {
            Body::Chunk { offset, len, .. } => {
                *offset += RELAY_HEADER as u32;
                *len -= RELAY_HEADER as u32;
            }
            Body::Owned(bytes) => *bytes = Arc::new(bytes[RELAY_HEADER..].to_vec()),
        }
        Some(header)
    }

    /// What waits as a relayed message is not the next of its client any more: it is not worth appending.
    fn is_relay_void(&self, shared: &Shared, data: &[u8]) -> bool {
        RelayHeader::parse(data).is_ok_and(|header| {
            let RelayHeader { client, registration, number, operation, .. } = header;
            let next = self.clients.is_next(client, registration, number, operation) || mutant!(DeliversUnmarked);
            !shared.in_system(client) || !next
        })
    }

    /// A client's message, its header included, goes into the stream when it can.
    fn wait_relayed(&mut self, shared: &mut Shared, options: SendOptions, data: Vec<u8>) {
        shared.places += 1;
        let (place, debts) = (shared.places, Vec::new());
        self.relaying.push_back(Waiting {
            options,
            data,
            appended: 0,
            begun: false,
            place,
            debts,
            to: None,
            void: false,
            stable_at: None,
            ticket: 0,
            carries: Some(Carries::Relayed),
        });
    }

    /// A client's message is partly in the stream: nothing else may be appended.
    pub(super) fn is_relaying(&self) -> bool {
        self.relaying.front().is_some_and(|message| message.begun)
    }

    /// Appends what may be appended of the clients' messages.
    pub(super) fn append_relayed(&mut self, shared: &mut Shared) {
        let fragment = shared.fragment;
        while let Some(mut message) = self.relaying.pop_front() {
            if !message.begun && self.is_relay_void(shared, &message.data) {
                continue;
            }
            if !message.begun && self.own_go_first() {
                return self.relaying.push_front(message);
            }
            let data = std::mem::take(&mut message.data);
            let in_progress = message.begun && !self.plane.frozen && !shared.stalled;
            let done =
                (in_progress || !self.is_held_up(shared)) && self.append_rest(shared, &mut message, &data, fragment);
            if !done {
                message.data = data;
                self.relaying.push_front(message);
                return;
            }
            self.tickets.pass_over();
        }
    }

    /// What a joiner needs to know at the start of its first view: finals of ABCASTs to several groups, those that are delivered
    /// here and perhaps not elsewhere, and the marks.
    pub(super) fn encode_snapshot(&self, shared: &Shared) -> Vec<u8> {
        let mut out = Writer::new();
        Finals { finals: shared.multis.finals_for_joiners(shared.me) }.write(&mut out);
        shared.multis.open_for_joiners(shared.me, self.id).write(&mut out);
        out.bytes.extend(self.clients.encode());
        out.bytes
    }

    /// As a joiner: what it is told of its first view, which is `view`.
    pub(crate) fn decode_snapshot(bytes: &[u8], view: u64) -> Result<Told, DecodeError> {
        let mut reader = Reader::new(bytes);
        let finals = Finals::read(&mut reader)?.finals;
        let open = Code::read(&mut reader)?;
        let clients = Clients::decode(reader.take(reader.remaining())?, view)?;
        Ok(Told { finals, open, clients })
    }

    /// As a joiner: what was told at the start of its first view.
    pub fn start_with(&mut self, shared: &mut Shared, told: Told) {
        for (id, priority) in told.finals {
            shared.multis.note_final(id, priority);
        }
        // An own one is of an earlier membership, and its copy here was waited for before the leave.
        for open in told.open.iter().filter(|open| open.id.sender != shared.me) {
            shared.multis.note_delivered(shared.now, open.id, &open.groups, (self.id, self.options.domain));
        }
        self.clients = told.clients;
        self.clients.begin_view(self.view.members.len());
        self.snapshot = self.encode_snapshot(shared);
    }

    /// A request came from a client that has chosen this member as its relay.
    pub fn take_request(&mut self, shared: &mut Shared, client: ProcessId, request: ClientRequest) {
        let (registration, size) = (request.registration, request.data.len());
        if !self.relays() {
            return send_client_message(shared, client, &not_here(self.id, registration));
        }
        let most = 2 * shared.config.window as usize + shared.config.max_message;
        let ordered = (Kind::Fifo as u16..=Kind::Total as u16).contains(&request.kind);
        let served = self.clients.served.entry(client).or_default();
        if registration > served.registration {
            *served = Served { registration, ..Served::default() };
        }
        if registration < served.registration
            || !ordered
            || size + RELAY_HEADER > shared.config.max_message
            || served.bytes + size > most
        {
            return shared.count(Counter::IgnoreRelayed);
        }
        served.told = None;
        // What a client that ends has sent is owed as well, and it cannot ask later.
        served.across |= request.system_view > 0 || request.operation == ClientOperation::Close;
        if request.number > served.in_flight && !served.queue.contains_key(&request.number) {
            served.bytes += size;
            served.queue.insert(request.number, request);
        }
    }

    /// Goes on for all clients that this member relays for.
    pub(super) fn serve_clients(&mut self, shared: &mut Shared) {
        if self.clients.is_empty() {
            return;
        }
        self.forget_places();
        if !self.relays() {
            return self.dismiss_clients(shared);
        }
        if shared.stalled {
            return;
        }
        for client in self.clients.served.keys().copied().collect::<Vec<_>>() {
            let newer = |registration| self.clients.marks.get(&client).is_some_and(|m| m.registration > registration);
            let served = &self.clients.served[&client];
            if !shared.in_system(client) || newer(served.registration) {
                self.clients.served.remove(&client);
                continue;
            }
            self.relay_next(shared, client);
            self.tell_progress(shared, client);
        }
    }

    /// Hands the client's next request to the stream, once the one before is delivered, and what the client knew of.
    fn relay_next(&mut self, shared: &mut Shared, client: ProcessId) {
        let Some(served) = self.clients.served.get_mut(&client) else { return };
        let registration = served.registration;
        let mark = self.clients.marks.get(&client).filter(|mark| mark.registration == registration);
        let reached = mark.map_or(0, |mark| mark.number);
        while let Some(first) = served.queue.first_entry().filter(|first| *first.key() <= reached) {
            served.bytes -= first.get().data.len();
            first.remove();
        }
        if served.in_flight > reached {
            return;
        }
        let Some((&number, request)) = served.queue.first_key_value() else { return };
        let (view, operation, system_view) = (request.view, request.operation, request.system_view);
        let known = view < self.view.number
            || (view == self.view.number
                && request.vector.len() == self.plane.members
                && request.vector.iter().zip(&self.plane.inbox).all(|(&count, inbox)| inbox.delivered >= count));
        // R4: a member that the system has excluded may never deliver what happened before the request in other groups.
        let apart = system_view > 0 && (system_view > shared.system_view.number || self.has_excluded_member(shared));
        if !known || apart || !self.clients.is_next(client, registration, number, operation) {
            return;
        }
        let Some(served) = self.clients.served.get_mut(&client) else { return };
        let Some(request) = served.queue.remove(&number) else { return };
        served.bytes -= request.data.len();
        served.in_flight = number;
        let header =
            RelayHeader { client, registration, number, operation, kind: request.kind as u8, safe: request.safe };
        let mut data = Vec::with_capacity(RELAY_HEADER + request.data.len());
        data.extend_from_slice(&header.bytes());
        data.extend_from_slice(&request.data);
        let kind = if request.kind == Kind::Total as u16 { Kind::Total } else { Kind::Causal };
        let safe = request.safe || !mutant!(RelaysUnsafe);
        self.wait_relayed(shared, SendOptions { kind, safe, entry: request.entry as u8 }, data);
        self.append_waiting(shared);
    }

    /// Tells a client how far its requests are, if there is news.
    fn tell_progress(&mut self, shared: &mut Shared, client: ProcessId) {
        let Some(served) = self.clients.served.get(&client) else { return };
        let (registration, across, told) = (served.registration, served.across, served.told);
        let reached = self.clients.reached(client, registration);
        if reached == 0 {
            return;
        }
        let mark = &self.clients.marks[&client];
        let completed = mark.places.iter().find(|place| !self.is_safe(place)).map_or(reached, |place| place.number - 1);
        let everywhere = if across { mark.places.front().map_or(reached, |place| place.number - 1) } else { 0 };
        if told == Some((completed, everywhere)) {
            return;
        }
        let message = ClientMessage::Progress {
            group: self.id,
            registration,
            completed,
            everywhere,
            view: self.view.number,
            vector: self.plane.vector(),
        };
        if try_send(shared, client, &message)
            && let Some(served) = self.clients.served.get_mut(&client)
        {
            served.told = Some((completed, everywhere));
        }
    }

    /// All members have it, or all that stayed have delivered it in a view that is over.
    fn is_safe(&self, place: &Place) -> bool {
        place.view < self.view.number || self.plane.inbox[place.rank].stable_messages >= place.count
    }

    /// All members have delivered it.
    fn is_everywhere(&self, place: &Place) -> bool {
        let delivered = if place.view == self.view.number {
            self.delivered_everywhere(place.rank) >= place.count
        } else {
            place.view + 1 < self.view.number || self.plane.shown.iter().all(|&shown| shown)
        };
        // Who has yet to end a view before may lack what came before it.
        delivered && self.old.iter().all(|old| old.number > place.view || old.awaited.is_empty())
    }

    fn forget_places(&mut self) {
        let mut marks = std::mem::take(&mut self.clients.marks);
        for mark in marks.values_mut() {
            while mark.places.front().is_some_and(|place| self.is_safe(place) && self.is_everywhere(place)) {
                mark.places.pop_front();
            }
        }
        self.clients.marks = marks;
    }

    /// This member does not stay one: its clients choose another relay.
    pub(super) fn dismiss_clients(&mut self, shared: &mut Shared) {
        for (client, served) in std::mem::take(&mut self.clients.served) {
            send_client_message(shared, client, &not_here(self.id, served.registration));
        }
    }
}

/// The answer of whoever does not relay.
pub fn not_here(group: crate::id::GroupId, registration: u64) -> ClientMessage {
    ClientMessage::NotHere { group, registration }
}

/// Sends on the clients' lane; what does not fit is lost, and asked for again.
pub fn send_client_message(shared: &mut Shared, to: ProcessId, message: &ClientMessage) {
    try_send(shared, to, message);
}

/// Sends on the clients' lane. `false`: there is no room now, or nobody.
pub fn try_send(shared: &mut Shared, to: ProcessId, message: &ClientMessage) -> bool {
    let mut out = Writer::new();
    message.write(&mut out);
    shared.lane(to, 2).is_some_and(|lane| lane.sender.enqueue(out.bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(registration: u64, number: u64, operation: ClientOperation) -> RelayHeader {
        RelayHeader { client: ProcessId(7), registration, number, operation, kind: 1, safe: false }
    }

    fn take(clients: &mut Clients, registration: u64, number: u64, operation: ClientOperation) -> bool {
        let place = Place { number, view: 1, rank: 0, count: 0 };
        clients.take(&header(registration, number, operation), place)
    }

    #[test]
    fn each_request_is_taken_once_and_in_order() {
        use ClientOperation::{Close, Message, Open};
        let mut clients = Clients::default();
        assert!(!take(&mut clients, 1, 2, Message), "not registered");
        assert!(take(&mut clients, 1, 1, Open));
        assert!(take(&mut clients, 1, 2, Message));
        assert!(!take(&mut clients, 1, 2, Message), "again");
        assert!(!take(&mut clients, 1, 1, Open), "again");
        assert!(!take(&mut clients, 1, 4, Message), "3 is missing");
        assert!(take(&mut clients, 1, 3, Close));
        assert!(!take(&mut clients, 1, 1, Open), "a late copy does not open it again");
        assert!(!clients.is_registered(ProcessId(7)));
        assert!(take(&mut clients, 4, 4, Open), "a new registration");
        assert!(!clients.is_registered(ProcessId(7)), "it may not know it yet");
        assert!(take(&mut clients, 4, 5, ClientOperation::Sync));
        assert!(!take(&mut clients, 1, 2, Message), "of the one before");
        assert_eq!(clients.registered(), [ProcessId(7)]);
    }

    #[test]
    fn a_joiner_gets_the_marks() {
        let mut clients = Clients::default();
        assert!(take(&mut clients, 1, 1, ClientOperation::Open));
        assert!(take(&mut clients, 1, 2, ClientOperation::Message));
        let mut copy = Clients::decode(&clients.encode(), 5).expect("what was written");
        assert_eq!(copy.encode(), clients.encode());
        assert!(!take(&mut copy, 1, 2, ClientOperation::Message), "delivered before the joiner came");
        assert!(take(&mut copy, 1, 3, ClientOperation::Message));
        assert!(Clients::decode(&[1, 2, 3], 5).is_err());
    }
}
