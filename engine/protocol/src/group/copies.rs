//! ABCASTs to several groups in one of the groups: copies and finals that come out of its order, copies and finals that go
//! into the own stream, and what a view change makes of them (R2). [`super::multi`] has the machine, [`crate::endpoint`] the
//! sender's part that spans the groups.
//!
//! At the end of a view nothing stays open. A final that its sender has appended here it has appended in all groups, as one
//! step, and it appends none while one of them is frozen (R5). So of a sender that goes on, the cut has the final, or no group
//! has it; then the copy is dropped, and sent again in the next view. Of a sender that failed another group may have
//! it: the proposer asks their members, who answer while frozen themselves, and the value says the finals that somebody
//! knows. What nobody knows is delivered nowhere.

use super::debts::Debt;
use super::multi::Proposed;
use super::{Group, Waiting};
use crate::counters::Counter;
use crate::event::{Body, Delivery, Event, Kind, MessageId, Refused, SendOptions};
use crate::multis::OUTSTANDING;
use crate::pending::Pending;
use crate::plane::Plane;
use crate::shared::Shared;
use crate::stream::Queued;
use crate::stream::inbox::Carries;
use isis_wire::message::Code;
use isis_wire::multi::{Final, Finals, MultiHeader, MultiId, MultiReport, Open};
use isis_wire::{Reader, Writer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a group tells the sender of an ABCAST to several groups, this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// The group's proposal.
    Proposed(u64),
    /// The view ended before it had a final.
    Dropped,
    /// It is delivered here.
    Delivered,
}

/// What is known of own ABCASTs to several groups, in one of them.
#[derive(Debug, Default)]
pub struct OwnCopies {
    /// Number → ticket, until it is delivered everywhere.
    pub tickets: BTreeMap<u64, u64>,
    /// Finals that are not appended yet; whether one of them is of a safe message.
    owed: Vec<Final>,
    owed_safe: bool,
}

fn bytes<'a>(shared: &'a Shared, body: &'a Body) -> &'a [u8] {
    match body {
        Body::Chunk { chunk, offset, len } => shared.region.bytes(*chunk, *offset as usize..(*offset + *len) as usize),
        Body::Owned(bytes) => bytes,
    }
}

fn read_copy(bytes: &[u8]) -> Option<(MultiHeader, &[u8])> {
    let mut reader = Reader::new(bytes);
    let header = MultiHeader::read(&mut reader).ok()?;
    let data = reader.take(reader.remaining()).ok()?;
    Some((header, data))
}

fn read_finals(bytes: &[u8]) -> Vec<Final> {
    let mut reader = Reader::new(bytes);
    Finals::read(&mut reader).map_or(Vec::new(), |it| it.finals)
}

impl Group {
    // --- out of the order ----------------------------------------------------------------------------------------------

    /// A copy, or else a final, came in the group's order.
    pub(super) fn take_part(&mut self, shared: &mut Shared, rank: usize, message: Queued, copy: bool) {
        if copy {
            self.take_copy(shared, rank, message);
        } else {
            let finals = read_finals(bytes(shared, &message.body));
            let sender = self.view.members[rank].process;
            for (id, priority) in finals.into_iter().filter(|(id, _)| id.sender == sender) {
                shared.multis.note_final(id, priority);
                self.copies.take_final(id, priority);
            }
            self.clients.pass_over(rank);
            self.plane.skip(rank, message.number, message.end);
        }
        // Neither has a place of its own in the order that the application sees.
        self.clients.leave_untold();
        self.deliver_multis(shared);
    }

    fn take_copy(&mut self, shared: &mut Shared, rank: usize, mut message: Queued) {
        let sender = self.view.members[rank].process;
        let copy = read_copy(bytes(shared, &message.body)).map(|(header, data)| (header, data.to_vec()));
        let Some((header, data)) = copy else {
            shared.count(Counter::IgnoreMalformed);
            return self.plane.skip(rank, message.number, message.end);
        };
        let number = message.number - self.clients.passed_over(rank);
        shared.multis.note_complete(sender, header.complete.max(header.number.saturating_sub(OUTSTANDING)));
        message.body = Body::Owned(Arc::new(data));
        message.safe = header.safe;
        let (id, proposal) = self.copies.take_copy(sender, header, (rank, number), message);
        if sender == shared.me {
            shared.multis.news.push_back((self.id, id.number, News::Proposed(proposal)));
        }
    }

    /// Delivers what is next among the decided ones.
    fn deliver_multis(&mut self, shared: &mut Shared) {
        while let Some((id, proposed)) = self.copies.deliver_one() {
            let Proposed { rank, number, message, groups, priority, .. } = proposed;
            shared.count(Counter::MessagesDelivered);
            shared.multis.clock = shared.multis.clock.max(priority);
            self.plane.order_number += 1;
            let own = id.sender == shared.me;
            let name = MessageId { group: self.id, view: self.view.number, sender: id.sender, number };
            let delivery = Delivery {
                group: self.handle,
                id: name,
                rank: rank as u16,
                kind: Kind::Total,
                safe: message.safe,
                entry: message.entry,
                order: self.plane.order_number.saturating_sub(self.clients.untold()),
                ticket: if own { self.tickets.find(name) } else { 0 },
                answers: None,
                body: message.body,
            };
            let consume = self.consume_one(rank, message.end);
            self.push(shared, Pending::One(Event::Message(delivery), Some(consume)));
            if own {
                shared.multis.news.push_back((self.id, id.number, News::Delivered));
                shared.multis.note_own_delivered(id.number, &groups, self.id);
            } else {
                shared.multis.note_delivered(shared.now, id, &groups, (self.id, self.options.domain));
            }
        }
        // A final may let a safe message go that it does not name: then it has to be stable, too.
        self.plane.finals_are_safe = self.copies.has_safe();
    }

    /// At the cut, behind all other messages: what the value says is final, what nothing says is dropped.
    pub(super) fn settle_multis(&mut self, shared: &mut Shared) {
        let Some(settled) = self.settled_finals.take() else { return };
        for (id, priority) in settled {
            shared.multis.note_final(id, priority);
            self.copies.take_final(id, priority);
        }
        for (id, dropped) in self.copies.drop_undecided() {
            self.plane.skip(dropped.rank, dropped.message.number, dropped.message.end);
            if id.sender == shared.me {
                shared.multis.news.push_back((self.id, id.number, News::Dropped));
            }
        }
        self.deliver_multis(shared);
    }

    // --- into the own stream -------------------------------------------------------------------------------------------

    /// Whether a copy of so many bytes would be taken now.
    pub fn takes_copy(&mut self, shared: &mut Shared, len: usize) -> Result<(), Refused> {
        let full = self.waiting_bytes + len as u64 > shared.config.window && !self.waiting.is_empty();
        if shared.stalled || full {
            self.want_writable(shared);
            return Err(Refused::WouldBlock);
        }
        Ok(())
    }

    /// Keeps the copy of an ABCAST to several groups, `takes_copy` allowing it, until it may be started. Gives its ticket.
    pub fn multicast_copy(
        &mut self,
        shared: &mut Shared,
        number: u64,
        entry: u8,
        copy: &[u8],
        mut debts: Vec<Debt>,
    ) -> u64 {
        debts.push(Debt::Together);
        let options = SendOptions { kind: Kind::Total, safe: true, entry };
        let ticket = self.accepted(shared);
        self.own_copies.tickets.insert(number, ticket);
        self.wait(shared, options, copy.to_vec(), debts, None);
        if let Some(message) = self.waiting.back_mut() {
            (message.carries, message.ticket) = (Some(Carries::Copy), ticket);
        }
        ticket
    }

    /// The copy at this place could go into the stream now, if the others could; `alone`: no other ABCAST to several groups of
    /// this process is open, so nothing that the window waits for can wait for this one.
    pub fn could_start(&self, shared: &Shared, place: u64, alone: bool) -> bool {
        let Some(first) = self.waiting.front().filter(|first| first.place == place) else { return false };
        let size = Plane::message_size(first.data.len(), shared.fragment);
        first.debts.iter().all(|debt| matches!(debt, Debt::Together))
            && !self.is_held_up(shared)
            && !self.is_relaying()
            && self.departed_until.is_none()
            && !self.has_excluded_member(shared)
            && (alone || size <= self.plane.space(shared.config.window, false))
    }

    /// All copies can go.
    pub fn start_copy(&mut self, shared: &mut Shared, place: u64) {
        if let Some(copy) = self.waiting.iter_mut().find(|message| message.place == place) {
            copy.debts.retain(|debt| !matches!(debt, Debt::Together));
        }
        self.append_waiting(shared);
    }

    /// Sends the copy again, in a later view: before everything that waits for it, behind the copies before it.
    pub fn repeat_copy(&mut self, shared: &mut Shared, number: u64, entry: u8, copy: &[u8], place: u64) {
        let ticket = self.own_copies.tickets.get(&number).copied().unwrap_or(0);
        let options = SendOptions { kind: Kind::Total, safe: true, entry };
        let begun = self.waiting.front().is_some_and(|message| message.begun);
        let index = self.waiting.partition_point(|message| message.place <= place).max(usize::from(begun));
        let message = Waiting {
            options,
            data: copy.to_vec(),
            appended: 0,
            begun: false,
            place,
            debts: Vec::new(),
            to: None,
            void: false,
            stable_at: None,
            ticket,
            carries: Some(Carries::Copy),
        };
        self.waiting_bytes += copy.len() as u64;
        for flush in &mut self.flushes {
            if flush.waiting > index {
                flush.waiting += 1;
            }
        }
        self.waiting.insert(index, message);
        self.append_waiting(shared);
    }

    /// Finals may be appended now.
    pub fn takes_finals(&self, shared: &Shared) -> bool {
        !self.plane.frozen && !shared.stalled && self.departed_until.is_none()
    }

    /// Appends final priorities, in any case before this member's next PROMISE. They are control: no window stops them (R1).
    pub fn multicast_final(&mut self, shared: &mut Shared, number: u64, priority: u64, safe: bool) {
        self.own_copies.owed.push((MultiId { sender: shared.me, number }, priority));
        self.own_copies.owed_safe |= safe;
        self.append_finals(shared);
    }

    /// `false`: there is no room in the region for those that are owed.
    pub(super) fn append_finals(&mut self, shared: &mut Shared) -> bool {
        if self.own_copies.owed.is_empty() {
            return true;
        }
        let mut out = Writer::new();
        Finals { finals: self.own_copies.owed.clone() }.write(&mut out);
        let options = SendOptions { kind: Kind::Total, safe: self.own_copies.owed_safe, entry: 0 };
        let part = Some(Carries::Final);
        let appended = self.plane.append_part(&mut shared.region, options, part, &out.bytes, (true, true)).is_some();
        if appended {
            self.own_copies.owed.clear();
            self.own_copies.owed_safe = false;
            self.tickets.pass_over();
        }
        appended
    }

    // --- the view change ----------------------------------------------------------------------------------------------

    /// What this member has of ABCASTs to several groups, for its PROMISE.
    pub(super) fn multi_report(&self, shared: &Shared) -> MultiReport {
        let mut report = MultiReport { clock: self.copies.clock, copies: 0, open: Vec::new(), finals: Vec::new() };
        let open = self.copies.undecided().map(|(id, proposed)| Open { id, groups: proposed.groups.clone() });
        report.open.extend(open);
        for (rank, inbox) in self.plane.inbox.iter().enumerate() {
            let sender = self.view.members[rank].process;
            for copy in inbox.queue.iter().filter(|it| it.traits.carries == Some(Carries::Copy)) {
                let Some((header, _)) = read_copy(bytes(shared, &copy.peek(&shared.region).body)) else { continue };
                report.copies += 1;
                report.clock = report.clock.max(header.clock);
                report.open.push(Open { id: MultiId { sender, number: header.number }, groups: header.groups });
            }
        }
        // What another group has told counts as well: of the same facts.
        let known: BTreeMap<MultiId, u64> = report
            .open
            .iter()
            .filter_map(|open| shared.multis.find_final(open.id))
            .chain(self.parsed_finals(shared))
            .collect();
        report.clock = known.values().copied().fold(report.clock, u64::max);
        report.finals = known.into_iter().collect();
        report
    }

    /// Finals that are in the streams, and not in their places in the order.
    pub fn parsed_finals(&self, shared: &Shared) -> Vec<Final> {
        let mut list = Vec::new();
        for (rank, inbox) in self.plane.inbox.iter().enumerate() {
            let sender = self.view.members[rank].process;
            for it in inbox.queue.iter().filter(|it| it.traits.carries == Some(Carries::Final)) {
                let finals = read_finals(bytes(shared, &it.peek(&shared.region).body));
                list.extend(finals.into_iter().filter(|(id, _)| id.sender == sender));
            }
        }
        list
    }
}
