//! Founding under `expected_sites` (R12), as the endpoint takes part in it: as a process of a site that is asked, as a
//! founder, and as one that enters a system.
//!
//! Whatever binds the site goes through its durable record first: an operation goes out as a [`SiteRequest::Record`], and
//! only its answer lets this process speak, or enter. See [`crate::founding`] for why that is enough.

use super::Endpoint;
use crate::counters::Counter;
use crate::event::{SiteAnswer, SiteRequest};
use crate::founding::acceptor;
use crate::founding::{Founder, Pledge, RecordOperation, Step};
use crate::group::ViewRecord;
use crate::id::{GroupId, ProcessId, SiteKey, SystemId};
use crate::time::Instant;
use isis_wire::Address;
use isis_wire::founding::{Ballot, Foundation, SiteRecord};
use isis_wire::message::{MemberEntry, Message, StateStatus, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The most operations on the record that are under way; further questions of others are dropped, and repeated by them.
const MAX_PENDING: usize = 64;
/// How long, in resend intervals, a founder waits for further pledges once it has a majority.
const PATIENCE: u64 = 8;
/// How long, in resend intervals, a ballot may take.
const BALLOT: u64 = 40;

/// For whom an operation on the record was asked; `None`: for this process as a founder.
#[derive(Debug)]
enum Pending {
    Pledge(Option<Address>, Ballot),
    Accept(Option<Address>, Ballot),
    Enter,
    Other,
}

/// How this process is about to enter a system.
#[derive(Debug)]
enum Entering {
    /// As a member of the first view of that founding.
    Founded { number: u64, system: SystemId, members: Vec<MemberEntry> },
    /// Admitted by this decision, with the directory, from that view.
    Admitted { system: SystemId, view: u64, value: Box<Value>, snapshot: Vec<u8> },
}

/// What the endpoint keeps for all this.
#[derive(Debug, Default)]
pub(super) struct Founding {
    /// The site's record as it was told last; `None`: not yet.
    record: Option<SiteRecord>,
    /// The last operation whose answer told it: answers may overtake each other.
    record_number: u64,
    /// The system in which some process of the site was then.
    lives_in: SystemId,
    pending: BTreeMap<u64, Pending>,
    next: u64,
    founder: Option<(Founder, Instant)>,
    /// The highest ballot heard of.
    highest: Ballot,
    not_before: Instant,
    entering: Option<Entering>,
    /// The founding in whose first view this process could not enter.
    refused: u64,
    /// The number of the founding of this process's system.
    pub(super) number: u64,
    /// In a system, but a quorum of it was not heard yet: what the system decided may be long over.
    pub(super) unheard: bool,
}

impl Endpoint {
    pub(super) fn expects_sites(&self) -> bool {
        self.shared.config.expected_sites > 0
    }

    /// The fresh start of a process: what does its site's record say?
    pub(super) fn read_record(&mut self) {
        if self.expects_sites() {
            self.ask_record(RecordOperation::Read, Pending::Other);
        }
    }

    /// This process may look for other systems to join, and found one.
    pub(super) fn site_is_free(&self) -> bool {
        self.founding.lives_in == SystemId::default()
    }

    /// The site's record, or another process of the site, keeps this process out of that system. To ask for admission all
    /// the same would make a member of it that never answers.
    pub(super) fn is_barred(&self, system: SystemId, founding: u64) -> bool {
        let record = self.founding.record.as_ref();
        self.expects_sites()
            && (!self.site_is_free() && self.founding.lives_in != system
                || record.is_none_or(|record| acceptor::bars(record, founding, system)))
    }

    /// Asks the site's record. Of what others want asked there is a limit, and they ask again; what this process wants itself
    /// is asked once.
    fn ask_record(&mut self, operation: RecordOperation, pending: Pending) {
        let of_others = matches!(pending, Pending::Pledge(Some(_), _) | Pending::Accept(Some(_), _))
            || matches!(operation, RecordOperation::Learn { .. });
        if of_others && self.founding.pending.len() >= MAX_PENDING {
            return;
        }
        self.founding.next += 1;
        let number = self.founding.next;
        self.founding.pending.insert(number, pending);
        self.site_requests.push_back(SiteRequest::Record { number, operation });
    }

    // --- as a process of a site ----------------------------------------------------------------------------------------

    /// "Pledge to this ballot."
    pub(super) fn on_pledge(
        &mut self,
        from: Address,
        ballot: Ballot,
        expected: u16,
        previous: SystemId,
        free: &[SiteKey],
    ) {
        if expected != self.shared.config.expected_sites || expected == 0 || ballot.founding == 0 {
            return self.shared.count(Counter::IgnoreExpectedSites);
        }
        self.founding.highest = self.founding.highest.max(ballot);
        if self.process().is_none() {
            // Whoever founds can tell what came of it.
            self.looking.add_address(from);
        } else if self.shared.stalled && ballot.founding > self.founding.number && self.is_lost(free) {
            // This system never has a quorum again, and this process is in the way of the next one.
            self.evict();
            // Unless it has left: then it pledges, as one without a system.
            if self.ended.is_some() {
                return;
            }
        }
        self.ask_record(RecordOperation::Pledge { ballot, previous }, Pending::Pledge(Some(from), ballot));
    }

    /// Without the votes of these sites, none of whose processes is in this system, it has no quorum. They cannot come back
    /// into it either: that too would take a quorum.
    fn is_lost(&self, free: &[SiteKey]) -> bool {
        let sites: BTreeSet<SiteKey> = self.shared.system_view.members.iter().map(|m| m.site).collect();
        let left = sites.iter().filter(|site| !free.contains(site)).count();
        2 * left <= sites.len().max(usize::from(self.shared.config.expected_sites))
    }

    /// "Accept this."
    pub(super) fn on_founding_accept(&mut self, from: Address, ballot: Ballot, foundation: Foundation) {
        if self.expects_sites() {
            self.founding.highest = self.founding.highest.max(ballot);
            let pending = Pending::Accept(Some(from), ballot);
            self.ask_record(RecordOperation::Accept { ballot, foundation }, pending);
        }
    }

    /// "This was decided."
    pub(super) fn on_founded(&mut self, from: Address, number: u64, foundation: Foundation) {
        if !self.expects_sites() || number == 0 {
            return;
        }
        if self.process().is_none() {
            self.looking.add_address(from);
        }
        self.learn(number, foundation);
    }

    fn learn(&mut self, number: u64, foundation: Foundation) {
        if self.founding.record.as_ref().is_none_or(|record| acceptor::is_news(record, number, &foundation)) {
            self.ask_record(RecordOperation::Learn { founding: number, foundation }, Pending::Other);
        }
    }

    /// A process that is listed in this system's first view and does not know it is told.
    pub(super) fn tell_founding(&mut self, to: Address, nonce: crate::id::Nonce) {
        let Some(record) = &self.founding.record else { return };
        let listed = |members: &[MemberEntry]| members.iter().any(|m| m.nonce == nonce);
        let foundation = &record.foundation;
        if self.process().is_some()
            && foundation.system == self.shared.system
            && listed(&foundation.members)
            && listed(&self.shared.system_view.members)
        {
            let message = Message::Founded { number: record.decided, foundation: foundation.clone() };
            self.shared.send(to, GroupId::SYSTEM, 0, &message);
        }
    }

    /// The site's record has answered.
    pub(super) fn take_record(&mut self, answer: SiteAnswer) {
        let SiteAnswer::Record { number, done, record, lives_in } = answer else { return };
        let Some(pending) = self.founding.pending.remove(&number) else { return };
        if self.ended.is_some() {
            return;
        }
        if self.process().is_some() && record.foundation.system == self.shared.system {
            self.founding.number = self.founding.number.max(record.decided);
        }
        if number > self.founding.record_number {
            self.founding.record_number = number;
            self.founding.lives_in = lives_in;
            self.founding.record = Some((*record).clone());
        }
        match pending {
            Pending::Pledge(to, ballot) if done => self.give_pledge(to, ballot, &record, lives_in),
            Pending::Accept(to, ballot) if done => {
                let site = self.shared.config.site;
                match to {
                    Some(to) => {
                        let message = Message::FoundingAccepted { ballot, site };
                        self.shared.send(to, GroupId::SYSTEM, 0, &message);
                    }
                    None => self.on_founding_accepted(ballot, site),
                }
            }
            Pending::Pledge(Some(to), ballot) | Pending::Accept(Some(to), ballot) => {
                let SiteRecord { decided, foundation, promised, .. } = *record;
                let message = Message::PledgeRefused { ballot, promised, decided, foundation };
                self.shared.send(to, GroupId::SYSTEM, 0, &message);
            }
            // The own site refuses its own founder: it has promised more by now.
            Pending::Pledge(None, _) | Pending::Accept(None, _) => self.give_up_ballot(),
            Pending::Enter => self.enter(done, record.decided),
            Pending::Other => {}
        }
        self.enter_first_view();
    }

    fn give_pledge(&mut self, to: Option<Address>, ballot: Ballot, record: &SiteRecord, lives_in: SystemId) {
        let config = &self.shared.config;
        let member = MemberEntry {
            process: ProcessId::default(),
            nonce: config.nonce,
            site: config.site,
            address: config.address,
            state: StateStatus::Has,
            max_pause_ns: config.max_pause_ns,
        };
        let accepted = record.accepted.clone().filter(|(accepted, _)| accepted.founding == ballot.founding);
        match to {
            Some(to) => {
                let message = Message::Pledged { ballot, member, lives_in, accepted };
                self.shared.send(to, GroupId::SYSTEM, 0, &message);
            }
            None => self.on_pledged(ballot, Pledge { member, lives_in, accepted }),
        }
    }

    // --- as the founder ------------------------------------------------------------------------------------------------

    /// Nobody is found: goes on with founding.
    pub(super) fn drive_founding(&mut self) {
        let now = self.shared.now;
        let config = &self.shared.config;
        let (discovery, resend) = (config.discovery_ns, config.resend_ns);
        if let Some((_, started)) = &self.founding.founder {
            if now.since(*started) > BALLOT * resend {
                self.give_up_ballot();
            } else {
                self.step_founding();
                self.ask_sites();
            }
            return;
        }
        let Some(record) = &self.founding.record else { return };
        if now < self.founding.not_before || self.founding.entering.is_some() {
            return;
        }
        if self.founding.lives_in != SystemId::default() {
            // A process of this site is in a system: it will be found, or end.
            self.founding.not_before = now + discovery;
            return self.ask_record(RecordOperation::Read, Pending::Other);
        }
        if now.since(self.looking.since) < discovery * (1 + self.looking.place(config.nonce)) {
            return;
        }
        let founding = record.decided + 1;
        let known = record.promised.max(self.founding.highest);
        let counter = if known.founding == founding { known.counter + 1 } else { 1 };
        let ballot = Ballot { founding, counter, founder: config.nonce };
        let previous = record.foundation.system;
        let founder = Founder::new(ballot, previous, usize::from(config.expected_sites));
        self.founding.founder = Some((founder, now));
        self.founding.highest = self.founding.highest.max(ballot);
        self.shared.count(Counter::FoundingBallots);
        self.ask_record(RecordOperation::Pledge { ballot, previous }, Pending::Pledge(None, ballot));
        self.ask_sites();
    }

    /// Asks every process that this one knows of for what its ballot needs now.
    fn ask_sites(&mut self) {
        let Some((founder, _)) = &self.founding.founder else { return };
        let ballot = founder.ballot();
        let message = match founder.asked() {
            Some(foundation) => Message::FoundingAccept { ballot, foundation: foundation.clone() },
            None => Message::Pledge {
                ballot,
                expected: self.shared.config.expected_sites,
                previous: founder.previous(),
                free: founder.free(),
            },
        };
        self.tell_sites(&message);
    }

    fn tell_sites(&mut self, message: &Message) {
        for to in self.looking.asked(&self.shared.config) {
            self.shared.send(to, GroupId::SYSTEM, 0, message);
        }
    }

    fn give_up_ballot(&mut self) {
        self.founding.founder = None;
        self.founding.not_before = self.shared.now + self.shared.random.jitter(self.shared.config.discovery_ns);
    }

    /// A process has pledged, for its site.
    pub(super) fn on_pledged(&mut self, ballot: Ballot, pledge: Pledge) {
        let Some((founder, _)) = &mut self.founding.founder else { return };
        founder.take_pledge(ballot, pledge);
        self.step_founding();
    }

    /// A site has accepted.
    pub(super) fn on_founding_accepted(&mut self, ballot: Ballot, site: SiteKey) {
        let Some((founder, _)) = &mut self.founding.founder else { return };
        founder.take_accepted(ballot, site);
        self.step_founding();
    }

    /// A site has promised more, or knows the founding decided.
    pub(super) fn on_pledge_refused(&mut self, ballot: Ballot, promised: Ballot, decided: u64, foundation: Foundation) {
        if !self.expects_sites() {
            return;
        }
        self.founding.highest = self.founding.highest.max(promised);
        if decided > 0 {
            self.learn(decided, foundation);
        }
        let own = self.founding.founder.as_ref().map(|(founder, _)| founder.ballot());
        if own == Some(ballot) && (promised > ballot || decided >= ballot.founding) {
            self.give_up_ballot();
        }
    }

    fn step_founding(&mut self) {
        let Some((founder, started)) = &mut self.founding.founder else { return };
        let now = self.shared.now;
        let asked = self.looking.asked(&self.shared.config).len();
        let patient = founder.pledges() <= asked && now.since(*started) < PATIENCE * self.shared.config.resend_ns;
        let record = self.founding.record.as_ref();
        let barred = record.is_some_and(|record| acceptor::bars(record, record.decided, record.foundation.system));
        let id = u128::from(self.shared.random.next()) << 64 | u128::from(self.shared.random.next());
        let ballot = founder.ballot();
        match founder.step(SystemId(id | 1), patient, barred) {
            Step::Wait => {}
            Step::GiveUp => self.give_up_ballot(),
            Step::Ask(foundation) => {
                let operation = RecordOperation::Accept { ballot, foundation };
                self.ask_record(operation, Pending::Accept(None, ballot));
                self.ask_sites();
            }
            Step::Decided(foundation) => {
                let number = ballot.founding;
                self.give_up_ballot();
                self.tell_sites(&Message::Founded { number, foundation: foundation.clone() });
                self.learn(number, foundation);
            }
        }
    }

    // --- entering ------------------------------------------------------------------------------------------------------

    /// The last founding lists this process: it enters the first view, if its site may.
    fn enter_first_view(&mut self) {
        let Some(record) = &self.founding.record else { return };
        let nonce = self.shared.config.nonce;
        let Foundation { system, members } = &record.foundation;
        if self.process().is_some()
            || self.founding.entering.is_some()
            || self.founding.refused == record.decided
            || !members.iter().any(|m| m.nonce == nonce)
        {
            return;
        }
        let (system, number) = (*system, record.decided);
        self.founding.entering = Some(Entering::Founded { number, system, members: members.clone() });
        self.ask_record(RecordOperation::Enter { founding: number, system }, Pending::Enter);
    }

    /// A system has admitted this process: it enters, if its site may.
    pub(super) fn enter_as_admitted(&mut self, system: SystemId, view: u64, value: Value, snapshot: Vec<u8>) {
        if self.founding.entering.is_none() && crate::directory::Directory::decode(&snapshot).is_ok() {
            let founding = self.looking.found_number();
            let value = Box::new(value);
            self.founding.entering = Some(Entering::Admitted { system, view, value, snapshot });
            self.ask_record(RecordOperation::Enter { founding, system }, Pending::Enter);
        }
    }

    /// The record has answered. `decided`: the last founding in this answer, so that of the system that is entered. What the
    /// record says by now may have overtaken the answer: another system's founding, or one by which this system goes on.
    fn enter(&mut self, may: bool, decided: u64) {
        let Some(entering) = self.founding.entering.take() else { return };
        if !may {
            self.looking.lose_found(self.shared.now);
            if let Entering::Founded { number, .. } = entering {
                self.founding.refused = number;
            }
            return;
        }
        let (Entering::Founded { system, .. } | Entering::Admitted { system, .. }) = &entering;
        let by_now = self.founding.record.as_ref().filter(|record| record.foundation.system == *system);
        self.founding.number = decided.max(by_now.map_or(0, |record| record.decided));
        self.founding.founder = None;
        self.founding.unheard = true;
        match entering {
            Entering::Founded { system, members, .. } => self.enter_founded(system, members),
            Entering::Admitted { system, view, value, snapshot } => {
                self.enter_admitted(system, view, *value, &snapshot)
            }
        }
        for peer in self.shared.peers.values_mut() {
            peer.heard_at = Instant::ZERO;
        }
        self.shared.stalled = true;
        self.drive_quorum();
    }

    fn enter_founded(&mut self, system: SystemId, members: Vec<MemberEntry>) {
        let nonce = self.shared.config.nonce;
        let Some(me) = members.iter().find(|m| m.nonce == nonce).map(|m| m.process) else { return };
        let sites: BTreeSet<SiteKey> = members.iter().map(|m| m.site).collect();
        self.shared.system = system;
        let view =
            ViewRecord { number: 1, members, executed: BTreeMap::new(), next_site: sites.len() as u16, clock: 0 };
        self.enter_system(me, view, &[]);
    }

    /// This process is at its end: its site is free, as far as it is concerned.
    pub(super) fn release_site(&mut self) {
        if self.expects_sites() && self.process().is_some() {
            self.founding.pending.clear();
            self.ask_record(RecordOperation::Release, Pending::Other);
        }
    }
}
