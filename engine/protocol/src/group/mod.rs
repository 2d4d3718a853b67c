//! One group as one of its members has it: the present view, its data plane, the change to the next view, and what goes
//! on across views. The system group of all processes is one of these too; what differs is the quorum and where
//! deliveries go.
//!
//! Read: this file (the state; sending), [`deliver`] (events out, flush, consumption), [`receive`] (packets in, rows),
//! [`transmit`] (packets out, gaps, timers), [`flight`] (how much may be under way), [`gossip`] (rows of a large view), [`repair`] (who gets what was lost),
//! [`claims`] (messages written in place), [`change`] (the agreement on the next view), [`electorate`] (who has a say in
//! it), [`hung`] (who holds it up), [`links`] (who cannot hear whom), [`value`] (what is agreed on), [`install`] (from one
//! view to the next), [`transfer`] (state),
//! [`clients`] (multicasts of no members), [`unicast`] (point to point), [`multi`], [`copies`] and [`settle`] (ABCASTs to
//! several groups), [`tickets`] (how a sender knows its own messages again).

pub mod change;
pub mod claims;
pub mod clients;
pub mod copies;
pub mod debts;
pub mod deliver;
pub mod electorate;
pub mod flight;
pub mod gossip;
pub mod hung;
pub mod install;
pub mod links;
pub mod multi;
pub mod receive;
pub mod repair;
pub mod settle;
pub mod tickets;
pub mod transfer;
pub mod transmit;
pub mod unicast;
pub mod value;

use crate::config::JoinOptions;
use crate::counters::Counter;
use crate::event::{Kind, Refused, SendOptions};
use crate::id::{GroupHandle, GroupId, Nonce, ProcessId};
use crate::pending::Pending;
use crate::plane::Plane;
use crate::shared::Shared;
use crate::stream::inbox::{Carries, SPARE};
use crate::time::Instant;
use change::Change;
use debts::Debt;
use isis_wire::Address;
use isis_wire::message::{Joiner, MemberEntry, StateStatus, Value};
use isis_wire::multi::Final;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A message that waits: for the next view, for the window, for acknowledgements of point-to-point messages, for what
/// happened before it in other groups.
#[derive(Debug)]
pub struct Waiting {
    /// How.
    pub options: SendOptions,
    /// The whole payload.
    pub data: Vec<u8>,
    /// How much of it is in this view's stream.
    pub appended: usize,
    /// It has begun in this view's stream.
    pub begun: bool,
    /// Orders what waits in all groups of this process.
    pub place: u64,
    /// What has to be delivered elsewhere first (R4).
    pub debts: Vec<Debt>,
    /// It goes to one member, or to a client.
    pub to: Option<unicast::Addressed>,
    /// Whom it goes to is gone: it goes nowhere.
    pub void: bool,
    /// To a client: up to where the streams of which view have to be stable.
    pub stable_at: Option<(u64, Vec<u64>)>,
    /// Its ticket; 0: it has none, or is known by another name.
    pub ticket: u64,
    /// What it is, if it is not simply this process's.
    pub carries: Option<Carries>,
}

/// The view as it was decided.
#[derive(Clone, Debug)]
pub struct ViewRecord {
    /// 1, 2, 3 …
    pub number: u64,
    /// The members by age.
    pub members: Vec<MemberEntry>,
    /// Join and leave requests executed, per process (R3).
    pub executed: BTreeMap<ProcessId, u64>,
    /// System only: the next site number.
    pub next_site: u16,
    /// The clock of ABCASTs to several groups at its start.
    pub clock: u64,
}

/// A view that is over, kept to answer for it (R8).
#[derive(Debug)]
pub struct OldView {
    /// Its number.
    pub number: u64,
    /// Its bytes; none of a view that this process was not in.
    pub plane: Plane,
    /// Who of the next view has not yet shown a sign of it or a later one.
    pub awaited: BTreeSet<ProcessId>,
    /// Of a former membership of this process, or of none: the application is done with it.
    pub former: bool,
}

/// A process that asked to join.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its request.
    pub joiner: Joiner,
    /// System only: whose answers have reached it, by birth.
    pub heard: Vec<u64>,
    /// It asked since it was last passed over.
    pub fresh: bool,
}

/// What becomes of the group after a step; the endpoint acts on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It goes on.
    Lives,
    /// This process left by its own request.
    Left,
    /// The view excludes this process against its will.
    Evicted,
    /// Nobody with the state is left.
    Ended,
}

/// See the module.
#[derive(Debug)]
pub struct Group {
    /// Which.
    pub id: GroupId,
    /// What the application calls it.
    pub handle: GroupHandle,
    /// How it was joined.
    pub options: JoinOptions,
    /// The present view.
    pub view: ViewRecord,
    /// This membership's first view.
    first_view: u64,
    /// This process's rank in it.
    pub rank: usize,
    /// The other members' addresses.
    pub peers: Vec<Address>,
    /// All members are on this site: large datagrams.
    pub on_one_site: bool,
    /// The view that the application was told of last.
    pub told_view: u64,
    /// The present view's data plane.
    pub plane: Plane,
    /// The change to the next view.
    pub change: Change,
    /// Whether a member of the view was missing in the system view when last looked at, and which lists that was about.
    missing: Cell<((u64, u64), bool)>,
    /// Views that are over.
    pub old: VecDeque<OldView>,
    /// Who has installed the next view already, and said so.
    ahead: BTreeSet<ProcessId>,
    /// The values that ended the last views, newest last, with the number of the view that each ended.
    pub decided: VecDeque<(u64, Value)>,
    /// At the start of the present view: of the system group the directory, of others what is known of the clients, and of finals
    /// of ABCASTs to several groups.
    pub snapshot: Vec<u8>,
    /// The clients.
    pub clients: clients::Clients,
    /// Who wants to join.
    pub candidates: BTreeMap<Nonce, Candidate>,
    /// Who wants to leave, with the request's number.
    pub leavers: BTreeMap<ProcessId, u64>,
    /// This process's own wish to leave: the request's number.
    pub leaving: Option<u64>,
    /// When the wish is repeated.
    pub leave_at: Option<Instant>,
    /// Multicasts that wait.
    pub waiting: VecDeque<Waiting>,
    /// Clients' multicasts that are not appended yet. Apart from the own ones, which may wait for what happened before them
    /// in other groups: perhaps for one of these.
    pub relaying: VecDeque<Waiting>,
    /// What the own messages are called by the calls that sent them.
    pub tickets: tickets::Tickets,
    waiting_bytes: u64,
    /// The allocation of the last multicast that waited.
    spare: Vec<u8>,
    /// A send was refused: the application wants to know when it is worth another try.
    pub writable_wanted: bool,
    writable_since: Option<Instant>,
    slow_told: Option<ProcessId>,
    /// Flushes that are not complete: the flush, how many waiting multicasts it covers yet, the position it covers.
    pub flushes: Vec<deliver::Flush>,
    /// Whether this process has the state.
    pub state: StateStatus,
    /// Events held back until the state is installed.
    pub backlog: VecDeque<Pending>,
    /// The state on its way here.
    pub incoming: transfer::Incoming,
    /// The states captured here for others: view → who waits, and what is sent.
    pub outgoing: BTreeMap<u64, transfer::Outgoing>,
    /// Somebody's message in another group waits until what this process has delivered here is delivered everywhere.
    pub owed: bool,
    /// The last point-to-point message to each member, while it may not have delivered it: its number.
    pub unicasts: BTreeMap<ProcessId, u64>,
    /// What the last message that was refused would have waited for: until it is paid another try is in vain.
    pub refused_for: Vec<Debt>,
    /// Point-to-point messages that wait for their context.
    pub held: VecDeque<unicast::Held>,
    /// Repairs to send.
    pub repairs: repair::Repairs,
    /// How much of the own stream may be under way.
    pub flight: flight::Flight,
    /// For which readers of the arena, and which view, it was looked whether all others are among them.
    readers_known: (u64, u64),
    /// When a row went out last.
    pub row_sent_at: Instant,
    /// This process has to tell the decision to those who have not shown the view.
    pub tell_at: Option<Instant>,
    /// ABCASTs to several groups, in the present view.
    pub copies: multi::Copies,
    /// The own ones among them.
    pub own_copies: copies::OwnCopies,
    /// The view is at its cut: finals that the value says.
    pub settled_finals: Option<Vec<Final>>,
    /// The leave is done, or the group ended: it only answers for its past. For the system group, until then at most; an
    /// ordinary one until nobody can ask any more (R8).
    pub departed_until: Option<Instant>,
    /// Nothing goes on but what its members multicast.
    pub calm: bool,
    /// Something happened in its data plane that was not driven.
    pub stirred: bool,
    /// It may have something to send.
    pub unsent: bool,
}

impl Group {
    /// The group in its first view here.
    pub fn new(
        shared: &Shared,
        id: GroupId,
        handle: GroupHandle,
        mut options: JoinOptions,
        view: ViewRecord,
        state: StateStatus,
    ) -> Group {
        let members = view.members.len();
        let rank = rank_of(&view.members, shared.me).unwrap_or(0);
        // A property of the group, whatever this process asked for.
        options.total_order = shared.directory.entry(id).map_or(options.total_order, |entry| entry.total_order);
        let plane = Plane::new(rank, members, shared.config.max_message, options.total_order);
        let (view_clock, first_view) = (view.clock, view.number);
        let mut group = Group {
            id,
            handle,
            options,
            view,
            first_view,
            rank,
            peers: Vec::new(),
            on_one_site: true,
            told_view: 0,
            plane,
            change: Change::new(shared.now),
            missing: Cell::default(),
            old: VecDeque::new(),
            decided: VecDeque::new(),
            snapshot: Vec::new(),
            clients: clients::Clients::default(),
            candidates: BTreeMap::new(),
            ahead: BTreeSet::new(),
            leavers: BTreeMap::new(),
            leaving: None,
            leave_at: None,
            waiting: VecDeque::new(),
            relaying: VecDeque::new(),
            tickets: tickets::Tickets::default(),
            waiting_bytes: 0,
            spare: Vec::new(),
            writable_wanted: false,
            writable_since: None,
            slow_told: None,
            flushes: Vec::new(),
            state,
            backlog: VecDeque::new(),
            incoming: transfer::Incoming::default(),
            outgoing: BTreeMap::new(),
            owed: false,
            unicasts: BTreeMap::new(),
            refused_for: Vec::new(),
            held: VecDeque::new(),
            repairs: repair::Repairs::default(),
            flight: flight::Flight::new(shared.config.window, shared.config.heartbeat_ns),
            readers_known: (0, 0),
            row_sent_at: shared.now,
            tell_at: None,
            copies: multi::Copies::new(view_clock),
            own_copies: copies::OwnCopies::default(),
            settled_finals: None,
            departed_until: None,
            calm: false,
            stirred: false,
            unsent: true,
        };
        group.clients.begin_view(members);
        group.snapshot = group.encode_snapshot(shared);
        group.learn_members(shared);
        group
    }

    pub(crate) fn learn_members(&mut self, shared: &Shared) {
        self.peers = self.view.members.iter().filter(|m| m.process != shared.me).map(|m| m.address).collect();
        self.on_one_site = self.view.members.iter().all(|m| m.site == shared.config.site);
        self.plane.row_due = Some(shared.now);
        self.flight.begin_view();
        self.note_readers(shared);
        self.begin_gossip(shared);
    }

    /// It is the group of all processes.
    pub fn is_system(&self) -> bool {
        self.id == GroupId::SYSTEM
    }

    /// The rank of a process in the present view.
    pub fn rank_of(&self, process: ProcessId) -> Option<usize> {
        rank_of(&self.view.members, process)
    }

    /// The application may use the group: its first view was told.
    pub fn is_open(&self) -> bool {
        self.departed_until.is_none() && self.leaving.is_none() && self.state == StateStatus::Has
    }

    /// The number of the own leave request, once it may be acted on: all earlier sends are in the stream, and the
    /// point-to-point messages delivered (R3).
    pub(crate) fn leave_request(&self) -> Option<u64> {
        let sent = self.has_sent_all() && self.relaying.is_empty();
        if sent || mutant!(LeavesBeforeSends) { self.leaving } else { None }
    }

    /// What this member sent itself is in the stream, and the point-to-point messages delivered.
    fn has_sent_all(&self) -> bool {
        self.waiting.is_empty() && self.unicasts.is_empty() && self.own_copies.tickets.is_empty()
    }

    /// It relays for clients. A leaver does so as long as its own messages wait: perhaps for what others, leavers too, sent as
    /// clients of each other's groups, and then each one of them waits for a relay. Not longer, for clients under load would
    /// never let it go; see also `own_go_first`.
    pub(super) fn relays(&self) -> bool {
        self.is_open() || (self.departed_until.is_none() && self.state == StateStatus::Has && !self.has_sent_all())
    }

    /// A leaver's own messages that only wait for room get it before its clients': else these could keep it for ever.
    pub(super) fn own_go_first(&self) -> bool {
        self.leaving.is_some() && self.waiting.front().is_some_and(|message| message.debts.is_empty())
    }

    /// Multicasts, or keeps the message for a moment that allows it. `debts`: what happened before it in other groups, and is
    /// not delivered everywhere. Gives its ticket.
    pub fn multicast(
        &mut self,
        shared: &mut Shared,
        options: SendOptions,
        data: &[u8],
        debts: Vec<Debt>,
    ) -> Result<u64, Refused> {
        if data.len() > shared.config.max_message {
            return Err(Refused::TooLong);
        }
        // In sending-view mode the application must have been told of the view that the message will belong to.
        let held_up = self.is_held_up(shared) || self.is_untold() || self.is_relaying() || !debts.is_empty();
        let size = Plane::message_size(data.len(), shared.fragment);
        if self.options.sending_view && size > shared.config.window {
            return Err(Refused::TooLong);
        }
        if (self.waiting.is_empty() || mutant!(OvertakesWaiting))
            && !held_up
            && self.append_whole(shared, options, data)
        {
            let ticket = self.accepted(shared);
            if self.waiting.front().is_none_or(|message| !message.begun) {
                self.note_own(ticket);
            }
            return Ok(ticket);
        }
        let fits = if shared.stalled {
            // What is accepted now is lost if eviction follows: a stalled process has no sends.
            false
        } else if held_up {
            !self.options.sending_view
                && (self.waiting_bytes + data.len() as u64 <= shared.config.window || self.waiting.is_empty())
        } else {
            // R1: one message beyond the window may be in progress.
            !self.options.sending_view
                && self.waiting.is_empty()
                && data.len() > shared.fragment
                && self.plane.space(shared.config.window, false) > 0
        };
        if !fits {
            self.refuse(shared, debts);
            return Err(Refused::WouldBlock);
        }
        let mut copy = std::mem::take(&mut self.spare);
        copy.extend_from_slice(data);
        self.wait(shared, options, copy, debts, None);
        let ticket = self.accepted(shared);
        if let Some(message) = self.waiting.back_mut() {
            message.ticket = ticket;
        }
        self.append_waiting(shared);
        Ok(ticket)
    }

    /// Up to where the window lets the own stream go.
    pub fn stream_limit(&self, shared: &Shared) -> u64 {
        self.plane.log.end + self.plane.space(shared.config.window, false)
    }

    /// One more multicast behind one that was appended whole, while nothing else happened: none waits, and nothing holds it
    /// up. `None`: it is longer than a fragment, or does not fit before `limit`, and nothing was done.
    #[inline]
    pub fn multicast_again(
        &mut self,
        shared: &mut Shared,
        options: SendOptions,
        data: &[u8],
        limit: u64,
    ) -> Option<u64> {
        debug_assert!(self.waiting.is_empty() && !self.is_held_up(shared), "the permit is over");
        let longest = shared.fragment.min(shared.config.max_message);
        if data.len() > longest || self.plane.log.end + Plane::message_size(data.len(), shared.fragment) > limit {
            return None;
        }
        self.plane.append_fragment(&mut shared.region, options, data, true, true)?;
        let ticket = self.accepted(shared);
        self.note_own(ticket);
        Some(ticket)
    }

    /// A send was refused for these debts: the application is told when it is worth another try.
    pub fn refuse(&mut self, shared: &mut Shared, debts: Vec<Debt>) {
        self.refused_for = debts;
        self.want_writable(shared);
    }

    /// A send was refused for want of room: the application is told when there is some.
    pub(super) fn want_writable(&mut self, shared: &mut Shared) {
        self.writable_wanted = true;
        self.writable_since.get_or_insert(shared.now);
        shared.count(Counter::SendsRefused);
    }

    /// The own message of this ticket was appended, whole.
    fn note_own(&mut self, ticket: u64) {
        self.tickets.note(self.view.number, self.plane.appended, ticket);
    }

    /// A multicast was accepted: its ticket. They are appended in the order of their tickets.
    fn accepted(&mut self, shared: &mut Shared) -> u64 {
        shared.count(Counter::MessagesMulticast);
        self.tickets.accept()
    }

    /// In sending-view mode: the application was not told of the present view yet.
    fn is_untold(&self) -> bool {
        self.options.sending_view && self.told_view != self.view.number && !mutant!(SendsUntold)
    }

    pub(crate) fn wait(
        &mut self,
        shared: &mut Shared,
        options: SendOptions,
        data: Vec<u8>,
        debts: Vec<Debt>,
        to: Option<unicast::Addressed>,
    ) {
        shared.places += 1;
        let place = shared.places;
        self.waiting_bytes += data.len() as u64;

        self.waiting.push_back(Waiting {
            options,
            data,
            appended: 0,
            begun: false,
            place,
            debts,
            to,
            void: false,
            stable_at: None,
            ticket: 0,
            carries: None,
        });
    }

    /// Nothing of the application may be appended now: a view change, a GBCAST before it in this view, or a
    /// point-to-point message that is not acknowledged (it counts as an undelivered multicast in a group of two).
    fn is_held_up(&self, shared: &Shared) -> bool {
        (self.plane.frozen && !mutant!(AppendsWhileFrozen))
            || shared.stalled
            || self.plane.global_sent
            || (!self.is_system() && self.has_unacknowledged_unicast(shared))
    }

    fn has_unacknowledged_unicast(&self, shared: &Shared) -> bool {
        // Not delivered to one that the system excluded, and never will be: see `is_unicast_delivered`.
        if self.unicasts.keys().any(|to| self.is_excluded_member(shared, *to)) {
            return true;
        }
        let members = self.view.members.iter().map(|member| &member.process);
        members.chain(self.unicasts.keys()).any(|process| {
            shared.peers.get(process).and_then(|peer| peer.lanes[0].as_ref()).is_some_and(|lane| !lane.sender.is_idle())
        })
    }

    fn append_whole(&mut self, shared: &mut Shared, options: SendOptions, data: &[u8]) -> bool {
        let fragment = shared.fragment;
        if Plane::message_size(data.len(), fragment) > self.plane.space(shared.config.window, false) {
            return false;
        }
        if data.len() <= fragment {
            return self.plane.append_fragment(&mut shared.region, options, data, true, true).is_some();
        }
        // A message that stops half-way for want of chunks goes on from the queue.
        shared.places += 1;
        let (place, debts) = (shared.places, Vec::new());
        let ticket = self.tickets.next();
        let mut message = Waiting {
            options,
            data: Vec::new(),
            appended: 0,
            begun: false,
            place,
            debts,
            to: None,
            void: false,
            stable_at: None,
            ticket,
            carries: None,
        };
        while message.appended < data.len() {
            if !append_next(&mut self.plane, shared, &mut message, data, fragment) {
                if message.begun {
                    message.data = data.to_vec();
                    self.waiting_bytes += data.len() as u64;
                    self.waiting.push_front(message);
                    return true;
                }
                return false;
            }
        }
        true
    }

    /// Appends what may be appended of the multicasts that wait: the own ones in their order, and clients', which do not wait
    /// for them. What is in progress is finished first: fragments of two messages do not mix.
    pub fn append_waiting(&mut self, shared: &mut Shared) {
        if !self.waiting.front().is_some_and(|message| message.begun) {
            self.append_relayed(shared);
        }
        if !self.is_relaying() {
            self.append_own(shared);
            if self.leaving.is_some() && !self.waiting.front().is_some_and(|message| message.begun) {
                self.append_relayed(shared);
            }
        }
    }

    fn append_own(&mut self, shared: &mut Shared) {
        let fragment = shared.fragment;
        while let Some(mut message) = self.waiting.pop_front() {
            // A GBCAST may follow another one in the same view, but no point-to-point message that is on its way.
            let global_next = self.plane.global_sent
                && message.options.kind == Kind::Global
                && !self.plane.frozen
                && !self.has_unacknowledged_unicast(shared);
            let data = std::mem::take(&mut message.data);
            let done = if !message.debts.is_empty() {
                false
            } else if message.to.is_some() {
                self.send_waiting(shared, &mut message, &data)
            } else {
                let in_progress = message.begun && !self.plane.frozen && !shared.stalled;
                (global_next || in_progress || !self.is_held_up(shared))
                    && self.append_rest(shared, &mut message, &data, fragment)
            };
            if !done {
                message.data = data;
                self.waiting.push_front(message);
                return;
            }
            if message.ticket > 0 {
                self.note_own(message.ticket);
            }
            self.waiting_bytes -= data.len() as u64;
            if data.capacity() <= SPARE {
                self.spare = data;
                self.spare.clear();
            }
            self.note_appended();
        }
    }

    /// Appends as much of a message as there is room for; `true`: all of it.
    fn append_rest(&mut self, shared: &mut Shared, message: &mut Waiting, data: &[u8], fragment: usize) -> bool {
        let large = data.len() > fragment;
        loop {
            let rest = (data.len() - message.appended).min(fragment);
            let space = self.plane.space(shared.config.window, message.begun || large);
            if Plane::message_size(rest, fragment) > space
                || !append_next(&mut self.plane, shared, message, data, fragment)
            {
                return false;
            }
            if message.appended == data.len() {
                return true;
            }
        }
    }

    /// At the start of a view: the unfinished message begins again, whole.
    pub(crate) fn rewind_waiting(&mut self) {
        if mutant!(ForgetsUnfinished) && self.waiting.front().is_some_and(|message| message.begun) {
            self.waiting.pop_front();
        }
        for message in self.waiting.front_mut().into_iter().chain(self.relaying.front_mut()) {
            message.appended = 0;
            message.begun = false;
        }
    }
}

/// Appends the next fragment of a message; `false`: the region is exhausted.
fn append_next(plane: &mut Plane, shared: &mut Shared, message: &mut Waiting, data: &[u8], fragment: usize) -> bool {
    let from = message.appended;
    let to = (from + fragment).min(data.len());
    let last = to == data.len();
    let (options, carries) = (message.options, message.carries);
    if plane.append_part(&mut shared.region, options, carries, &data[from..to], (from == 0, last)).is_none() {
        return false;
    }
    message.appended = to;
    message.begun = true;
    true
}

/// The rank of a process among members.
pub fn rank_of(members: &[MemberEntry], process: ProcessId) -> Option<usize> {
    members.iter().position(|member| member.process == process)
}
