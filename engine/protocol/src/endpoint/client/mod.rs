//! This process as a client of groups: it multicasts into them through a *relay*, one of their members, and is none itself.
//!
//! ```text
//!  looking for the group ─▶ registering ──Open completed──▶ registered ──leave──▶ closing ──Close completed──▶ gone
//!            ▲                   │ the group ended             │ the group ended
//!            └───────────────────┘                             ▼
//!                                                             gone (GroupEnded)
//! ```
//! Requests are numbered and kept until the relay says that they are *completed*: every member that stays delivers them, or
//! has done so; the last one, which ends the registration, until everything is delivered everywhere (R4). When the relay fails,
//! leaves, or says nothing for a while, another member is asked, with all that is not completed; the marks of the group
//! ([`crate::group::clients`]) see to it that nothing is delivered twice. A point-to-point message of a client goes to its
//! receiver directly, after everything before it is completed and before everything after it.
//!
//! This file: what a client is, and the application's calls. `drive`: what it has to do. `receive`: what comes to it.
//!
//! Owner: the endpoint, one for each handle of a client. Invariant: the requests in the queue are those that are not completed,
//! in the order of the calls.

mod drive;
mod receive;

use super::Endpoint;
use super::joining::Phase;
use crate::event::{Event, Kind, MessageId, Refused, SendOptions};
use crate::group::debts::Debt;
use crate::group::unicast::Addressed;
use crate::id::{GroupHandle, GroupId, ProcessId};
use crate::time::Instant;
use isis_wire::client::{ClientMessage, ClientOperation, ClientRequest, RELAY_HEADER};
use std::collections::VecDeque;

/// After so many take-over pauses without a word another relay is asked; twice as many the next time.
const PATIENCE: u64 = 5;
/// The patience doubles so often at most.
const MOST_DOUBLINGS: u32 = 4;

/// How a request without a message travels.
const CONTROL: SendOptions = SendOptions { kind: Kind::Causal, safe: false, entry: 0 };

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

    /// What it waits for, for people.
    pub(super) fn describe(&self) -> String {
        let queue: Vec<String> =
            self.queue.iter().map(|it| format!("{:?} sent {} debts {:?}", it.what, it.sent, it.debts)).collect();
        format!(
            "{:?} registration {} registered {} closing {} relay {:?} failures {} everywhere {} across {} asks again {} knows \
             {} {:?}, queue {queue:?}",
            self.group,
            self.registration,
            self.registered,
            self.closing,
            self.relay,
            self.failures,
            self.everywhere,
            self.number_across,
            self.asks_again,
            self.view,
            self.vector,
        )
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

    /// What its requests wait for.
    pub(super) fn debts(&self) -> impl Iterator<Item = &Debt> {
        self.queue.iter().flat_map(|item| &item.debts)
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
        self.request(operation, CONTROL, &[], Vec::new())
    }

    /// A request as it goes to the relay. `system_view`: that of now, if the client wants to know what is delivered everywhere;
    /// else 0.
    fn message(
        &self,
        number: u64,
        operation: ClientOperation,
        options: SendOptions,
        system_view: u64,
        data: &[u8],
    ) -> ClientMessage {
        let request = ClientRequest {
            group: self.group.unwrap_or_default(),
            registration: self.registration,
            number,
            operation,
            kind: options.kind as u16,
            safe: options.safe,
            entry: u16::from(options.entry),
            view: self.view,
            vector: self.vector.clone(),
            system_view,
            data: data.to_vec(),
        };
        ClientMessage::Request { request }
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
}
