//! Founding a system or entering one that was found ([`super::looking`]), deaths, eviction, and the end.
//!
//! ```text
//!  looking ──FOUND, JOIN, DECIDE names us──▶ member ──no quorum for stall_after──▶ stalled ──quorum again──▶ member
//!     │ discovery over, lowest nonce                │                                  │
//!     ▼ site record grants                          └── the others went on ──▶ evicted ◀┘
//!  founder
//! ```

use super::{Ended, Endpoint, joining::Phase};
use crate::event::{Event, SiteAnswer, SiteRequest};
use crate::group::{Group, ViewRecord};
use crate::id::{GroupHandle, GroupId, Nonce, ProcessId, SystemId};
use isis_wire::Address;
use isis_wire::message::{MemberEntry, Message, StateStatus, Value};
use isis_wire::packet::Header;
use std::collections::BTreeMap;

impl Endpoint {
    pub(super) fn take_site_answer(&mut self, answer: SiteAnswer) {
        if matches!(answer, SiteAnswer::Record { .. }) {
            return self.take_record(answer);
        }
        let Some(system) = self.looking.founding.take() else { return };
        self.looking.asked_record = false;
        self.looking.since = self.shared.now;
        match answer {
            _ if self.process().is_some() || self.looking.found.is_some() => {}
            SiteAnswer::BelongsTo(system) => self.looking.bound = Some(system),
            SiteAnswer::Granted => {
                self.looking.bound = None;
                self.found_system(system);
            }
            SiteAnswer::Record { .. } => {}
        }
    }

    fn found_system(&mut self, system: SystemId) {
        let config = &self.shared.config;
        let me = ProcessId::new(0, 0, 1);
        let entry = MemberEntry {
            process: me,
            nonce: config.nonce,
            site: config.site,
            address: config.address,
            state: StateStatus::Has,
            max_pause_ns: config.max_pause_ns,
        };
        self.shared.system = system;
        let view = ViewRecord { number: 1, members: vec![entry], executed: BTreeMap::new(), next_site: 1, clock: 0 };
        self.enter_system(me, view, &[]);
    }

    pub(super) fn enter_system(&mut self, me: ProcessId, view: ViewRecord, old: &[MemberEntry]) {
        self.shared.me = me;
        self.shared.adopt_system_view(&view.members, view.number);
        self.quorum_at = self.shared.now;
        let mut group = Group::new(
            &self.shared,
            GroupId::SYSTEM,
            GroupHandle(u32::MAX),
            Default::default(),
            view,
            StateStatus::Has,
        );
        group.snapshot = self.shared.directory.encode();
        self.shared.emit(Event::SystemJoined { system: self.shared.system, process: me });
        group.tell_first_view(&mut self.shared, old);
        self.groups.insert(GroupId::SYSTEM, Box::new(group));
        if !self.expects_sites() {
            self.site_requests.push_back(SiteRequest::Joined(self.shared.system));
        }
        self.note_known_deaths();
    }

    /// Messages to a process that has no system yet.
    pub(super) fn on_message_while_looking(&mut self, from: Address, header: &Header, message: Message) {
        let nonce = self.shared.config.nonce;
        if header.group != GroupId::SYSTEM || header.system == SystemId::default() || self.ended.is_some() {
            return;
        }
        let asked = self.looking.found.as_ref().is_some_and(|(system, _, _)| *system == header.system);
        match message {
            Message::Prepare { attempt, joiners } if asked && joiners.iter().any(|j| j.nonce == nonce) => {
                let answer = Message::JoinerReady { attempt, nonce, request: 0 };
                self.shared.send_as(header.system, from, GroupId::SYSTEM, header.view, &answer);
            }
            Message::Decide { value, snapshot: Some(snapshot) }
                if asked && value.members.iter().any(|m| m.nonce == nonce) =>
            {
                if self.expects_sites() {
                    self.enter_as_admitted(header.system, header.view, value, snapshot);
                } else {
                    self.enter_admitted(header.system, header.view, value, &snapshot);
                }
            }
            _ => {}
        }
    }

    /// A decision of this system, about this view of it, admits this process.
    pub(super) fn enter_admitted(&mut self, system: SystemId, changed: u64, value: Value, snapshot: &[u8]) {
        let nonce = self.shared.config.nonce;
        let Some(me) = value.members.iter().find(|m| m.nonce == nonce).map(|m| m.process) else { return };
        let Ok(directory) = crate::directory::Directory::decode(snapshot) else { return };
        self.shared.system = system;
        self.shared.directory = directory;
        let old: Vec<MemberEntry> =
            value.members.iter().filter(|m| !value.joined.contains(&m.process)).cloned().collect();
        let view = ViewRecord {
            number: value.number,
            members: value.members.clone(),
            executed: value.executed.iter().copied().collect(),
            next_site: value.next_site,
            clock: value.clock,
        };
        self.enter_system(me, view, &old);
        if let Some(group) = self.groups.get_mut(&GroupId::SYSTEM) {
            group.decided.push_back((changed, value));
        }
    }

    // --- deaths and suspicions ----------------------------------------------------------------------------------------

    pub(super) fn take_death(&mut self, nonce: Nonce) {
        if self.dead.len() < 4096 {
            self.dead.insert(nonce);
        }
        self.looking.forget_seeker(nonce);
        for group in self.groups.values_mut() {
            group.candidates.remove(&nonce);
        }
        self.note_known_deaths();
    }

    /// Those of this site who are known dead and in the view: remember it, tell the other sites, ask again.
    pub(super) fn note_known_deaths(&mut self) {
        // Who is dead and who is a peer: nothing else makes news.
        let lists = (self.dead.len(), self.shared.peers_epoch);
        if self.deaths_noted == lists {
            return;
        }
        self.deaths_noted = lists;
        let mut news = Vec::new();
        for (&process, peer) in self.shared.peers.iter_mut() {
            if !peer.dead_here && peer.entry.site == self.shared.config.site && self.dead.contains(&peer.entry.nonce) {
                peer.dead_here = true;
                peer.reported_dead = true;
                news.push(process);
            }
        }
        if news.is_empty() {
            return;
        }
        let message = Message::Deaths { dead: news };
        let to: Vec<Address> = self
            .shared
            .peers
            .values()
            .filter(|peer| peer.entry.site != self.shared.config.site)
            .map(|peer| peer.entry.address)
            .collect();
        let view = self.shared.system_view.number;
        for address in to {
            self.shared.send(address, GroupId::SYSTEM, view, &message);
        }
        self.ask_system_again();
    }

    /// A process reports the certain death of others of its own site: reason enough to propose, never a vote (R10).
    pub(super) fn on_deaths(&mut self, reporter: ProcessId, dead: &[ProcessId]) {
        let Some(site) = self.shared.peers.get(&reporter).map(|peer| peer.entry.site) else { return };
        let mut news = false;
        for process in dead {
            if let Some(peer) = self.shared.peers.get_mut(process)
                && peer.entry.site == site
                && !peer.reported_dead
            {
                peer.reported_dead = true;
                news = true;
            }
        }
        if news {
            self.ask_system_again();
        }
    }

    fn ask_system_again(&mut self) {
        if let Some(system) = self.groups.get_mut(&GroupId::SYSTEM) {
            system.ask_again(&mut self.shared);
            let fate = system.drive_change(&mut self.shared);
            self.meet_fate(GroupId::SYSTEM, fate);
        }
    }

    // --- the end -------------------------------------------------------------------------------------------------------

    /// The others went on without this process: it is evicted, unless it asked for that. To one that has left it is no news, and one
    /// that was about to leave is closed.
    pub(super) fn evict(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let system = self.groups.get(&GroupId::SYSTEM);
        if system.is_some_and(|system| system.departed_until.is_some()) {
            return;
        }
        if system.is_some_and(|system| system.leaving.is_some()) {
            // It was about to leave. What comes before the view without it nobody keeps for it; it is in no group that would need that.
            self.end(Ended::Closed, Event::Closed);
        } else {
            self.end(Ended::Evicted, Event::Evicted);
        }
    }

    fn end(&mut self, ended: Ended, event: Event) {
        self.release_site();
        self.ended = Some(ended);
        // A stalled process that closes is told no more than an evicted one: the others may have gone on without it.
        let lost = std::mem::take(&mut self.shared.stalled) || ended == Ended::Evicted;
        if lost {
            self.lose_flushes();
        }
        if self.process().is_none() {
            // What waits to go out asks to be admitted: that nobody shall do any more. Of a member it may be the word that others
            // wait for.
            self.shared.outbox.clear();
        }
        for group in self.groups.values_mut() {
            group.dissolve(&mut self.shared);
        }
        self.groups.clear();
        self.clients.clear();
        self.shared.peers.clear();
        self.shared.peers_epoch += 1;
        self.shared.emit(event);
    }

    /// Nothing that waits to be told is told any more; flushes whose completion the application does not know fail.
    fn lose_flushes(&mut self) {
        let mut lost: Vec<(GroupHandle, u64)> = Vec::new();
        for pending in self.shared.events.drain(..) {
            if let Some(&Event::Flushed { group, flush }) = pending.one() {
                lost.push((group, flush));
            }
        }
        for group in self.groups.values() {
            lost.extend(group.flushes.iter().map(|flush| (group.handle, flush.id)));
        }
        for (&handle, client) in self.clients.iter() {
            lost.extend(client.flushes().map(|flush| (handle, flush)));
        }
        lost.sort_unstable_by_key(|(_, flush)| *flush);
        for (group, flush) in lost {
            self.shared.emit(Event::FlushLost { group, flush });
        }
    }

    /// The older system prepares to admit this process.
    pub(super) fn answer_elsewhere(&mut self, from: Address, header: &Header, message: &Message) {
        let nonce = self.shared.config.nonce;
        if let Message::Prepare { attempt, joiners } = message
            && joiners.iter().any(|j| j.nonce == nonce)
        {
            let answer = Message::JoinerReady { attempt: *attempt, nonce, request: 0 };
            self.shared.send_as(header.system, from, GroupId::SYSTEM, header.view, &answer);
        }
    }

    /// R13: this process asked that system to admit it, and there is still a reason to go: it is the older one, or the own
    /// one is stalled. A system that has recovered meanwhile does not give way to a younger one, which may do so itself. Nor does a
    /// process that closes.
    pub(super) fn would_give_way(&self, system: SystemId) -> bool {
        let has_reason = system < self.shared.system || self.shared.stalled;
        has_reason && self.looking.asked_elsewhere(system) && self.closing.is_none()
    }

    /// R13: the older system has admitted this process; it ends here, and comes back there as a new incarnation.
    pub(super) fn give_way(&mut self, system: SystemId) {
        if !self.expects_sites() {
            self.site_requests.push_back(SiteRequest::Joined(system));
        }
        self.evict();
    }

    pub(super) fn begin_close(&mut self) {
        if self.ended.is_some() || self.closing.is_some() {
            return;
        }
        self.closing = Some(self.shared.now + self.shared.config.linger_ns);
        for index in 0..self.handles.len() {
            let _ = self.begin_leave(GroupHandle(index as u32));
        }
    }

    /// Goes on with closing: the groups, then the system, then the end.
    pub(super) fn drive_close(&mut self) {
        let Some(until) = self.closing else { return };
        if self.ended.is_some() {
            return;
        }
        let now = self.shared.now;
        let groups_left = self.handles.iter().any(|handle| !matches!(handle.phase, Phase::Gone));
        let alone = self.shared.peers.is_empty();
        // Whoever is in the next system view hears no more of this process, in no group: what it knows of their ends all members have
        // accepted, and finish without it.
        let answered = |system: &Group| system.old.iter().all(|old| old.awaited.is_empty());
        let system_left =
            self.groups.get(&GroupId::SYSTEM).is_none_or(|group| group.departed_until.is_some() && answered(group));
        if self.process().is_none() || now >= until || (!groups_left && (alone || system_left)) {
            self.end(Ended::Closed, Event::Closed);
            return;
        }
        if !groups_left
            && self.operations.is_empty()
            && let Some(system) = self.groups.get_mut(&GroupId::SYSTEM)
            && system.leaving.is_none()
            && system.departed_until.is_none()
        {
            system.leaving = Some(1);
            system.leave_at = None;
            self.touch();
        }
    }

    /// The system view without this process is installed, as it asked for.
    pub(super) fn left_system(&mut self) {
        if self.closing.is_none() {
            self.closing = Some(self.shared.now + self.shared.config.linger_ns);
        }
    }
}
