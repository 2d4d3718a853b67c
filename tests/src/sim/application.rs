//! The simulated application of one process: it holds the replicated state of its groups, calls the engine, handles its
//! events, and writes both into the trace. *When* it calls what is decided by [`super::behaviour`] or by a script.
//!
//! Owner: a node. Invariants: an event of the trace is written at the moment of the call's success or of the event's
//! hand-over, and nothing is written from the engine's insides.

use super::payload::{self, Ledger, State};
use crate::journal::Journal;
use crate::trace::{Channel, Delivered, Event as Seen, Key, Process, Trace, ViewSeen};
use isis_protocol::event::{Body, Delivery, Event, Kind, MessageId, Refused, SendOptions, SlowReason, View};
use isis_protocol::id::{GroupHandle, GroupId, ProcessId, SystemId};
use isis_protocol::{Calls, Instant, JoinOptions};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What all processes of a run write to; a real process has its own.
#[derive(Debug, Default)]
pub struct Records {
    /// The trace.
    pub trace: Trace,
    /// Names of short messages.
    pub ledger: Ledger,
    /// Of a real process: where its records go, instead of the trace.
    pub journal: Option<Journal>,
    /// Room for the bytes of a message that is sent.
    pub room: Vec<u8>,
}

impl Records {
    /// Writes what happened.
    pub fn note(&mut self, time: u64, process: Process, event: Seen) {
        match &mut self.journal {
            Some(journal) => journal.note(&event),
            None => self.trace.push(time, process, event),
        }
    }

    /// Takes the last record back: the call that it announced was refused. A send is written before the call, since a real
    /// engine may have it delivered elsewhere before the call returns.
    fn withdraw(&mut self) {
        match &mut self.journal {
            Some(journal) => journal.withdraw(),
            None => drop(self.trace.records.pop()),
        }
    }
}

/// What a call of the application needs.
#[derive(Debug)]
pub struct Context<'a> {
    /// Virtual time.
    pub time: u64,
    /// The process's own clock.
    pub now: Instant,
    /// The engine.
    pub endpoint: &'a mut dyn Calls,
    /// Trace and ledger.
    pub records: &'a mut Records,
}

/// A snapshot of the state that is being handed over.
#[derive(Debug)]
struct Snapshot {
    transfer: u64,
    bytes: Vec<u8>,
    offset: usize,
}

/// One join of a group.
#[derive(Debug)]
pub struct Member {
    /// Its number.
    pub join: u16,
    /// Index of the group's name.
    pub name: u8,
    /// The engine's handle.
    pub handle: GroupHandle,
    /// The last view.
    pub view: Option<Arc<ViewSeen>>,
    /// The members of the last view as the engine names them.
    pub ids: Vec<ProcessId>,
    /// The replicated state.
    pub state: State,
    /// Digest of what was delivered in the last view.
    pub in_view: u64,
    /// Digest of the order of the ABCASTs and GBCASTs delivered in the last view.
    pub order: u64,
    /// Own multicasts not delivered yet.
    pub own_undelivered: u32,
    /// Flushes that have not returned.
    pub flushes: Vec<u64>,
    /// Leave was called.
    pub leaving: bool,
    /// The handle is dead.
    pub left: bool,
    /// As a client.
    pub client: bool,
    /// As a client: registered with this group.
    pub registered: Option<GroupId>,
    /// As a client: the own multicasts by their tickets.
    client_tickets: BTreeMap<u64, Key>,
    /// The last messages that were delivered from others, to reply to.
    pub recent: VecDeque<(MessageId, Process)>,
    wants_state: bool,
    /// In sending-view mode.
    pub sending_view: bool,
    incoming: Vec<u8>,
    incoming_broken: bool,
    snapshots: Vec<Snapshot>,
    multicasts: u32,
    sends: u32,
    /// Tickets of point-to-point messages.
    sent_tickets: BTreeSet<u64>,
}

impl Member {
    /// Usable: has a view, and no leave was called.
    pub fn active(&self) -> bool {
        (self.view.is_some() || self.registered.is_some()) && !self.leaving && !self.left
    }
    fn group(&self) -> GroupId {
        self.view.as_ref().map(|v| v.group).or(self.registered).unwrap_or(GroupId(0))
    }
    fn view_number(&self) -> u64 {
        self.view.as_ref().map_or(0, |v| v.number)
    }
    /// What it can say of the last view when that ends, or the run.
    fn ends(&self) -> Option<Seen> {
        let view = self.view.as_ref()?.number;
        let state = self.wants_state.then(|| self.state.digest());
        Some(Seen::ViewEnds { join: self.join, view, order: self.order, state })
    }
    /// Some snapshot waits to be handed over.
    pub fn hands_over(&self) -> bool {
        !self.snapshots.is_empty()
    }
}

/// What an event means for the node's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It goes on.
    Lives,
    /// Evicted or closed: the endpoint is at its end.
    Ends,
    /// A system view came: the site's link looks which of its members are dead.
    SystemView,
}

/// See the module.
#[derive(Debug)]
pub struct Application {
    /// Who.
    pub process: Process,
    /// All joins.
    pub members: Vec<Member>,
    /// The system and the own identifier in it.
    pub admitted: Option<(SystemId, ProcessId)>,
    /// The last system view.
    pub system_view: Option<Arc<ViewSeen>>,
    /// It was told that it has left: it closed, and was not evicted.
    pub closed: bool,
    /// Between `Stalled` and `Resumed`.
    pub stalled: bool,
    /// Close was called.
    pub closing: bool,
    /// Something came that a behaviour may want to react to.
    pub stirred: bool,
    /// Multicasts delivered, for the summary.
    pub deliveries: u64,
    known: Vec<(ProcessId, Process)>,
    /// Bytes of a state transfer, at least.
    pub state_len: usize,
    /// Who was named by `Slow`, and why.
    pub slow: Vec<(ProcessId, SlowReason)>,
    /// How often it was told that a send is worth another try.
    pub writable: u32,
    /// Flushes that will not complete.
    pub lost_flushes: Vec<u64>,
}

/// The process that a nonce names: the simulator puts its number into the upper half.
pub fn process_of(nonce: isis_protocol::Nonce) -> Process {
    Process((nonce.0 >> 64) as u32)
}

impl Application {
    /// An application that has done nothing yet.
    pub fn new(process: Process, state_len: usize) -> Application {
        Application {
            process,
            members: Vec::new(),
            admitted: None,
            system_view: None,
            closed: false,
            stalled: false,
            closing: false,
            stirred: false,
            deliveries: 0,
            known: Vec::new(),
            state_len,
            slow: Vec::new(),
            writable: 0,
            lost_flushes: Vec::new(),
        }
    }

    fn note(&self, ctx: &mut Context<'_>, event: Seen) {
        ctx.records.note(ctx.time, self.process, event);
    }

    // --- calls -----------------------------------------------------------------------------------------------------

    /// Joins the group with this name; the result is the join's index in `members`.
    pub fn join(&mut self, ctx: &mut Context<'_>, name: u8, options: &JoinOptions) -> Result<usize, Refused> {
        let handle = ctx.endpoint.join(ctx.now, &format!("group-{name}"), options.clone())?;
        let join = self.members.len() as u16;
        let client = options.client;
        let (wants_state, sending_view) = (options.wants_state && !client, options.sending_view && !client);
        self.note(ctx, Seen::JoinCall { join, name, wants_state, sending_view, client });
        self.members.push(Member {
            join,
            name,
            handle,
            view: None,
            ids: Vec::new(),
            state: State::default(),
            in_view: 0,
            order: 0,
            own_undelivered: 0,
            flushes: Vec::new(),
            leaving: false,
            left: false,
            client,
            registered: None,
            client_tickets: BTreeMap::new(),
            recent: VecDeque::new(),
            wants_state,
            sending_view,
            incoming: Vec::new(),
            incoming_broken: false,
            snapshots: Vec::new(),
            multicasts: 0,
            sends: 0,
            sent_tickets: BTreeSet::new(),
        });
        Ok(usize::from(join))
    }

    /// Leaves.
    pub fn leave(&mut self, ctx: &mut Context<'_>, member: usize) -> Result<(), Refused> {
        let it = &mut self.members[member];
        ctx.endpoint.leave(ctx.now, it.handle)?;
        it.leaving = true;
        let join = it.join;
        self.note(ctx, Seen::LeaveCall { join });
        Ok(())
    }

    /// Multicasts `len` bytes, copied in, or written in place with `claim` if they are not too many for that.
    pub fn multicast(
        &mut self,
        ctx: &mut Context<'_>,
        member: usize,
        (kind, safe): (Kind, bool),
        len: usize,
        claim: bool,
    ) -> Result<Key, Refused> {
        let it = &mut self.members[member];
        let number = it.multicasts + 1;
        let key = Key { sender: self.process, join: it.join, channel: Channel::Multicast, number };
        let options = SendOptions { kind, safe, entry: payload::entry(key) };
        let (group, view) = (it.group(), it.view_number());
        let len = ctx.records.ledger.length(key, group, len);
        let sent = Seen::Send { key, kind, safe, len: len as u32, group, view };
        let claimed = match claim.then(|| ctx.endpoint.claim(it.handle, len)) {
            // Claims are shorter than messages may be.
            None | Some(Err(Refused::TooLong)) => false,
            Some(other) => {
                other?;
                true
            }
        };
        let accepted = if claimed {
            payload::write(key, ctx.endpoint.claimed(it.handle)?);
            ctx.records.note(ctx.time, self.process, sent);
            let accepted = ctx.endpoint.commit(ctx.now, it.handle, options);
            if accepted.is_err() {
                // The claim stays open when the commit is refused; when it was lost with its view this finds none.
                let _ = ctx.endpoint.abort(it.handle);
            }
            accepted
        } else {
            ctx.records.note(ctx.time, self.process, sent);
            let room = &mut ctx.records.room;
            room.resize(len.max(room.len()), 0);
            payload::write(key, &mut room[..len]);
            ctx.endpoint.multicast(ctx.now, it.handle, options, &room[..len])
        };
        match accepted {
            Ok(ticket) if it.client => drop(it.client_tickets.insert(ticket, key)),
            Ok(ticket) => assert_eq!(ticket, u64::from(number), "tickets count the multicasts that were accepted"),
            Err(refused) => {
                ctx.records.withdraw();
                return Err(refused);
            }
        }
        it.multicasts = number;
        it.own_undelivered += 1;
        ctx.records.ledger.note(key, group, len);
        Ok(key)
    }

    /// An ABCAST to the groups of several members, of at least [`payload::NAMED`] bytes. Gives its key in each group.
    pub fn multicast_groups(
        &mut self,
        ctx: &mut Context<'_>,
        members: &[usize],
        safe: bool,
        len: usize,
    ) -> Result<Vec<Key>, Refused> {
        let len = len.max(payload::NAMED);
        let copy = |&member: &usize| {
            let it = &self.members[member];
            let key =
                Key { sender: self.process, join: it.join, channel: Channel::Multicast, number: it.multicasts + 1 };
            (key, it.group(), it.view_number())
        };
        let copies: Vec<(Key, GroupId, u64)> = members.iter().map(copy).collect();
        let handles: Vec<GroupHandle> = members.iter().map(|&member| self.members[member].handle).collect();
        let mut bytes = vec![0; len];
        payload::write(copies[0].0, &mut bytes);
        let options = SendOptions { kind: Kind::Total, safe, entry: payload::entry(copies[0].0) };
        ctx.records.note(ctx.time, self.process, Seen::SendMany { copies: copies.clone(), safe, len: len as u32 });
        let tickets = match ctx.endpoint.multicast_groups(ctx.now, &handles, options, &bytes) {
            Ok(tickets) => tickets,
            Err(refused) => {
                ctx.records.withdraw();
                return Err(refused);
            }
        };
        assert_eq!(tickets.len(), members.len(), "a ticket for each group");
        for ((&member, ticket), (key, _, _)) in members.iter().zip(tickets).zip(&copies) {
            assert_eq!(ticket, u64::from(key.number), "tickets count the multicasts that were accepted");
            self.members[member].multicasts = key.number;
            self.members[member].own_undelivered += 1;
        }
        ctx.records.ledger.note_parts(&copies);
        Ok(copies.into_iter().map(|(key, _, _)| key).collect())
    }

    /// Claims and gives up.
    pub fn claim_and_abort(&mut self, ctx: &mut Context<'_>, member: usize, len: usize) -> Result<(), Refused> {
        let handle = self.members[member].handle;
        ctx.endpoint.claim(handle, len)?;
        ctx.endpoint.claimed(handle)?.fill(0xee);
        ctx.endpoint.abort(handle)
    }

    /// Sends to the member with this rank.
    pub fn send_to(&mut self, ctx: &mut Context<'_>, member: usize, rank: usize, len: usize) -> Result<Key, Refused> {
        let it = &self.members[member];
        let to = it.view.as_ref().and_then(|v| v.members.get(rank)).map(|m| m.0);
        let (Some(to), Some(&id)) = (to, it.ids.get(rank)) else { return Err(Refused::NoSuchProcess) };
        let (key, bytes) = self.letter(ctx, member, len);
        self.announce(ctx, member, key, Kind::Unicast, to, bytes.len());
        let handle = self.members[member].handle;
        let result = ctx.endpoint.send(ctx.now, handle, id, payload::entry(key), &bytes);
        self.posted(ctx, member, key, bytes.len(), result)
    }

    /// Replies to the oldest recent message. A reply has no entry byte of its own, so it carries its key.
    pub fn reply(&mut self, ctx: &mut Context<'_>, member: usize, len: usize) -> Result<Option<Key>, Refused> {
        let Some(&(id, to)) = self.members[member].recent.front() else { return Ok(None) };
        let len = len.max(payload::NAMED);
        let (key, bytes) = self.letter(ctx, member, len);
        self.announce(ctx, member, key, Kind::Reply, to, len);
        let handle = self.members[member].handle;
        let result = ctx.endpoint.reply(ctx.now, handle, id, &bytes);
        if result != Err(Refused::WouldBlock) {
            self.members[member].recent.pop_front();
        }
        self.posted(ctx, member, key, len, result).map(Some)
    }

    fn letter(&self, ctx: &Context<'_>, member: usize, len: usize) -> (Key, Vec<u8>) {
        let it = &self.members[member];
        let channel = Channel::PointToPoint;
        let key = Key { sender: self.process, join: it.join, channel, number: it.sends + 1 };
        let mut bytes = vec![0; ctx.records.ledger.length(key, it.group(), len)];
        payload::write(key, &mut bytes);
        (key, bytes)
    }

    fn announce(&self, ctx: &mut Context<'_>, member: usize, key: Key, kind: Kind, to: Process, len: usize) {
        let (group, view) = (self.members[member].group(), self.members[member].view_number());
        self.note(ctx, Seen::SendTo { key, kind, to, len: len as u32, group, view });
    }

    /// The call that was announced has returned.
    fn posted(
        &mut self,
        ctx: &mut Context<'_>,
        member: usize,
        key: Key,
        len: usize,
        result: Result<u64, Refused>,
    ) -> Result<Key, Refused> {
        if result.is_err() {
            ctx.records.withdraw();
        }
        let it = &mut self.members[member];
        it.sent_tickets.insert(result?);
        it.sends += 1;
        ctx.records.ledger.note(key, it.group(), len);
        Ok(key)
    }

    /// Asks for a flush.
    pub fn flush(&mut self, ctx: &mut Context<'_>, member: usize) -> Result<u64, Refused> {
        let it = &mut self.members[member];
        let flush = ctx.endpoint.flush(ctx.now, it.handle)?;
        it.flushes.push(flush);
        let join = it.join;
        self.note(ctx, Seen::FlushCall { join, flush });
        Ok(flush)
    }

    /// The run ends: what it has come to, in each group that it is in.
    pub fn take_stock(&self, ctx: &mut Context<'_>) {
        for ends in self.members.iter().filter(|member| member.active()).filter_map(Member::ends) {
            self.note(ctx, ends);
        }
    }

    /// Leaves everything.
    pub fn close(&mut self, ctx: &mut Context<'_>) {
        self.closing = true;
        self.note(ctx, Seen::CloseCall);
        ctx.endpoint.close(ctx.now);
    }

    /// Hands the next block of the first snapshot over.
    pub fn hand_over(&mut self, ctx: &mut Context<'_>, member: usize, block_len: usize) {
        let it = &mut self.members[member];
        let Some(snapshot) = it.snapshots.first_mut() else { return };
        let end = (snapshot.offset + block_len.max(1)).min(snapshot.bytes.len());
        let done = end == snapshot.bytes.len();
        let (block, transfer, join) = (&snapshot.bytes[snapshot.offset..end], snapshot.transfer, it.join);
        match ctx.endpoint.state_block(ctx.now, it.handle, transfer, block, done) {
            Ok(()) if done => {
                it.snapshots.remove(0);
                self.note(ctx, Seen::StateHandedOver { join, transfer });
            }
            Ok(()) => snapshot.offset = end,
            Err(Refused::WouldBlock) => {}
            Err(_) => {
                it.snapshots.remove(0);
            }
        }
    }

    // --- events ----------------------------------------------------------------------------------------------------

    /// Takes an event of the engine.
    pub fn handle(&mut self, ctx: &mut Context<'_>, event: Event) -> Fate {
        match event {
            Event::Message(delivery) => self.deliver(ctx, &delivery),
            Event::SystemJoined { system, process } => {
                self.admitted = Some((system, process));
                ctx.records.ledger.note_admitted(system, process, self.process);
                self.note(ctx, Seen::Admitted { system, process });
            }
            Event::SystemView(view) => {
                let seen = Arc::new(self.seen(&view, u16::MAX));
                self.system_view = Some(Arc::clone(&seen));
                self.note(ctx, Seen::SystemView(seen));
                return Fate::SystemView;
            }
            Event::View { group, view, rank } => {
                let seen = Arc::new(self.seen(&view, rank));
                let Some(it) = self.members.iter_mut().find(|m| m.handle == group) else { return Fate::Lives };
                let ends = it.ends();
                it.view = Some(Arc::clone(&seen));
                it.ids = view.members.iter().map(|m| m.process).collect();
                (it.in_view, it.order) = (0, 0);
                let digest = it.wants_state.then(|| it.state.digest());
                let join = it.join;
                self.stirred = true;
                if let Some(ends) = ends {
                    self.note(ctx, ends);
                }
                self.note(ctx, Seen::View { join, view: seen, digest });
            }
            Event::StateWanted { group, transfer, .. } => {
                let len = self.state_len;
                let Some(it) = self.members.iter_mut().find(|m| m.handle == group) else { return Fate::Lives };
                let bytes = it.state.to_bytes(len);
                let (join, digest, len) = (it.join, it.state.digest(), bytes.len() as u32);
                it.snapshots.push(Snapshot { transfer, bytes, offset: 0 });
                self.note(ctx, Seen::StateCaptured { join, transfer, digest, len });
            }
            Event::StateAborted { group, transfer } => {
                let Some(it) = self.members.iter_mut().find(|m| m.handle == group) else { return Fate::Lives };
                it.snapshots.retain(|s| s.transfer != transfer);
                let join = it.join;
                self.note(ctx, Seen::StateAborted { join, transfer });
            }
            Event::StateBlock { group, offset, block, done } => self.install(ctx, group, offset, &block, done),
            Event::Left { group } => {
                let Some(it) = self.members.iter_mut().find(|m| m.handle == group) else { return Fate::Lives };
                it.left = true;
                it.snapshots.clear();
                it.flushes.clear();
                let join = it.join;
                self.stirred = true;
                self.note(ctx, Seen::Left { join });
            }
            Event::Registered { group, id } => {
                let Some(it) = self.members.iter_mut().find(|m| m.handle == group) else { return Fate::Lives };
                it.registered = Some(id);
                let join = it.join;
                self.stirred = true;
                self.note(ctx, Seen::Registered { join, group: id });
            }
            Event::Completed { group, ticket } => {
                let Some(it) = self.members.iter_mut().find(|m| m.handle == group) else { return Fate::Lives };
                let key = it.client_tickets.get(&ticket).copied().expect("the ticket is that of a call");
                it.own_undelivered -= 1;
                self.stirred = true;
                self.note(ctx, Seen::Completed { key });
            }
            Event::GroupEnded { group } => {
                let Some(it) = self.members.iter_mut().find(|m| m.handle == group) else { return Fate::Lives };
                it.left = true;
                it.flushes.clear();
                let join = it.join;
                self.stirred = true;
                self.note(ctx, Seen::GroupEnded { join });
            }
            Event::Flushed { group, flush } => {
                let Some(it) = self.members.iter_mut().find(|m| m.handle == group) else { return Fate::Lives };
                it.flushes.retain(|f| *f != flush);
                let join = it.join;
                self.note(ctx, Seen::Flushed { join, flush });
            }
            Event::Writable { .. } => {
                self.stirred = true;
                self.writable += 1;
            }
            Event::Stalled => {
                self.stalled = true;
                self.note(ctx, Seen::Stalled);
            }
            Event::Resumed => {
                self.stalled = false;
                self.note(ctx, Seen::Resumed);
            }
            Event::Slow { process, reason, group } => {
                self.slow.push((process, reason));
                self.note(ctx, Seen::Slow { process, reason, system: group.is_none() });
            }
            Event::FlushLost { group, flush } => {
                let Some(it) = self.members.iter_mut().find(|m| m.handle == group) else { return Fate::Lives };
                it.flushes.retain(|f| *f != flush);
                self.lost_flushes.push(flush);
            }
            Event::Evicted => {
                self.note(ctx, Seen::Evicted);
                return Fate::Ends;
            }
            Event::Closed => {
                self.note(ctx, Seen::Closed);
                self.closed = true;
                return Fate::Ends;
            }
        }
        Fate::Lives
    }

    fn seen(&mut self, view: &View, rank: u16) -> ViewSeen {
        for member in &view.members {
            if !self.known.iter().any(|k| k.0 == member.process) {
                self.known.push((member.process, process_of(member.nonce)));
            }
        }
        ViewSeen {
            group: view.group,
            number: view.number,
            members: view.members.iter().map(|m| (process_of(m.nonce), m.has_state)).collect(),
            sites: view.members.iter().map(|m| u32::from(m.process.site())).collect(),
            joined: view
                .members
                .iter()
                .filter(|m| view.joined.contains(&m.process))
                .map(|m| process_of(m.nonce))
                .collect(),
            departed: view.departed.iter().map(|(p, how)| (*p, ViewSeen::by_request(*how))).collect(),
            clients: view.clients.clone(),
            rank,
        }
    }

    fn deliver(&mut self, ctx: &mut Context<'_>, delivery: &Delivery) {
        let point_to_point = matches!(delivery.kind, Kind::Unicast | Kind::Reply);
        let channel = if point_to_point { Channel::PointToPoint } else { Channel::Multicast };
        let known = self.known.iter().find(|k| k.0 == delivery.id.sender).map(|k| k.1);
        let admitted = |system| ctx.records.ledger.process(system, delivery.id.sender);
        let sender = known.or_else(|| self.admitted.and_then(|(system, _)| admitted(system)));
        let bytes = match &delivery.body {
            Body::Owned(bytes) => &bytes[..],
            chunk @ Body::Chunk { .. } => ctx.endpoint.payload(chunk),
        };
        let (key, mut intact) = if delivery.kind == Kind::Reply {
            // A reply has no entry byte: take the one that its key asks for.
            ctx.records.ledger.read((sender, delivery.id.group), channel, payload::entry_in(bytes), bytes)
        } else {
            ctx.records.ledger.read((sender, delivery.id.group), channel, delivery.entry, bytes)
        };
        let key = key.map(|key| ctx.records.ledger.key_in(key, delivery.id.group));
        let own = self.admitted.map(|a| a.1);
        // A reply names the message that it answers, and that was this process's.
        intact &= (delivery.kind == Kind::Reply) == delivery.answers.is_some();
        intact &= delivery.answers.is_none_or(|id| Some(id.sender) == own);
        let posted = self.members.iter().any(|m| m.sent_tickets.contains(&delivery.ticket));
        let Some(it) = self.members.iter_mut().find(|m| m.handle == delivery.group) else { return };
        // The ticket is that of the call: for own messages, and for replies to them (unless of an earlier membership).
        intact &= match (delivery.kind, Some(delivery.id.sender) == own) {
            (Kind::Reply, _) if delivery.ticket == 0 => it.join > 0,
            (Kind::Reply, _) if it.client => posted || it.client_tickets.contains_key(&delivery.ticket),
            (Kind::Reply, _) => posted || delivery.ticket <= it.multicasts.into(),
            (Kind::Unicast, true) => posted,
            (_, true) => key.is_none_or(|key| delivery.ticket == u64::from(key.number)),
            (_, false) => delivery.ticket == 0,
        };
        if channel == Channel::Multicast {
            self.deliveries += 1;
            if let Some(key) = key {
                it.state.deliver(key, delivery.kind == Kind::Total, delivery.kind == Kind::Global);
                let mut fresh = State { set: it.in_view, chain: it.order, count: 0 };
                fresh.deliver(key, delivery.kind == Kind::Total, delivery.kind == Kind::Global);
                (it.in_view, it.order) = (fresh.set, fresh.chain);
                if key.sender == self.process {
                    it.own_undelivered = it.own_undelivered.saturating_sub(1);
                }
            }
        }
        if Some(delivery.id.sender) != own
            && let Some(sender) = sender
            && delivery.kind != Kind::Reply
        {
            if it.recent.len() == 4 {
                it.recent.pop_front();
            }
            it.recent.push_back((delivery.id, sender));
        }
        self.stirred = true;
        let delivered = Delivered {
            join: it.join,
            group: delivery.id.group,
            key,
            kind: delivery.kind,
            safe: delivery.safe,
            view: delivery.id.view,
            number: delivery.id.number,
            order: delivery.order,
            rank: delivery.rank,
            intact,
        };
        self.note(ctx, Seen::Deliver(delivered));
    }

    fn install(&mut self, ctx: &mut Context<'_>, group: GroupHandle, offset: u64, block: &[u8], done: bool) {
        let Some(it) = self.members.iter_mut().find(|m| m.handle == group) else { return };
        if offset == 0 {
            it.incoming.clear();
            it.incoming_broken = false;
        }
        it.incoming_broken |= offset != it.incoming.len() as u64;
        it.incoming.extend_from_slice(block);
        if !done {
            return;
        }
        let bytes = std::mem::take(&mut it.incoming);
        let state = State::from_bytes(&bytes).filter(|_| !it.incoming_broken);
        it.state = state.unwrap_or_default();
        let (join, digest, intact) = (it.join, it.state.digest(), state.is_some());
        self.note(ctx, Seen::StateInstalled { join, digest, intact });
    }
}
