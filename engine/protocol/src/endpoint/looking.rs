//! Looking for a system: asking the addresses that are known, being found, asking for admission; slowly also inside a system,
//! for others to merge with (R13).
//!
//! ```text
//!  DISCOVER ──FOUND──▶ the oldest system ──JOIN, once every member has answered──▶ admitted ([`super::system`])
//!      └──CANDIDATE: others look as well──▶ discovery over, lowest nonce──▶ the site is asked for leave to found
//! ```
//!
//! Owner: the endpoint. Invariant: no more addresses, seekers or answers are remembered than [`MAX_ADDRESSES`].

use super::Endpoint;
use crate::config::Config;
use crate::counters::Counter;
use crate::event::SiteRequest;
use crate::id::{GroupId, Nonce, ProcessId, SystemId};
use crate::shared::Shared;
use crate::time::Instant;
use isis_wire::Address;
use isis_wire::message::{Joiner, Message};
use std::collections::{BTreeMap, BTreeSet};

/// How many contacts are asked at a time.
const CONTACTS: usize = 8;
/// So many addresses are asked all again when one more is known; of more than that only the new one is asked at once, and
/// the others as much more rarely.
const FEW_ADDRESSES: usize = 8;
/// The most addresses that are asked.
const MAX_ADDRESSES: usize = 256;

/// Another process that looks for a system.
#[derive(Clone, Copy, Debug)]
struct Seeker {
    address: Address,
    seen: Instant,
    may_found: bool,
}

/// The search for a system; goes on slowly inside one, for others to merge with (R13).
#[derive(Debug)]
pub(super) struct Looking {
    pub(super) since: Instant,
    ask_at: Instant,
    addresses: BTreeSet<Address>,
    /// Of many addresses, those that were not asked yet.
    fresh: Vec<Address>,
    seekers: BTreeMap<Nonce, Seeker>,
    /// A system that can admit us, and whom to ask.
    pub(super) found: Option<(SystemId, Vec<Address>, Instant)>,
    /// The number of its founding (R12).
    found_number: u64,
    tries: usize,
    /// All members have answered: the next question need not wait.
    join_at_once: bool,
    /// Members of systems that have answered this process, by birth, and when.
    heard: BTreeMap<u64, Instant>,
    /// The site's record was asked for leave to found.
    pub(super) asked_record: bool,
    /// What the record was asked for.
    pub(super) founding: Option<SystemId>,
    /// The older system that was asked to admit this process (R13).
    elsewhere: Option<SystemId>,
    /// The site belongs to this system: found nothing else.
    pub(super) bound: Option<SystemId>,
}

impl Looking {
    pub(super) fn new(config: &Config, now: Instant) -> Looking {
        Looking {
            since: now,
            ask_at: now,
            addresses: config.seeds.iter().copied().filter(|seed| *seed != config.address).collect(),
            fresh: Vec::new(),
            seekers: BTreeMap::new(),
            found: None,
            found_number: 0,
            tries: 0,
            join_at_once: false,
            heard: BTreeMap::new(),
            asked_record: false,
            founding: None,
            elsewhere: None,
            bound: None,
        }
    }

    /// This system was asked to admit the process, which is in another one.
    pub(super) fn asked_elsewhere(&self, system: SystemId) -> bool {
        self.elsewhere == Some(system)
    }

    /// The number of the founding of the system that was found.
    pub(super) fn found_number(&self) -> u64 {
        self.found_number
    }

    /// What was found is not for this process: the search begins anew.
    pub(super) fn lose_found(&mut self, now: Instant) {
        self.found = None;
        self.since = now;
    }

    /// How many other processes that may found come before this one; at most 4.
    pub(super) fn place(&self, own: Nonce) -> u64 {
        self.seekers.iter().filter(|(nonce, seeker)| **nonce < own && seeker.may_found).take(4).count() as u64
    }

    /// Whom a process without a system asks.
    pub(super) fn asked(&self, config: &Config) -> BTreeSet<Address> {
        let mut asked = self.addresses.clone();
        asked.extend(self.seekers.values().map(|seeker| seeker.address));
        asked.remove(&config.address);
        asked
    }

    pub(super) fn add_address(&mut self, address: Address) {
        if self.addresses.len() >= MAX_ADDRESSES || !self.addresses.insert(address) {
            return;
        }
        if self.addresses.len() <= FEW_ADDRESSES {
            self.ask_at = Instant::ZERO;
        } else {
            self.fresh.push(address);
        }
    }

    /// A member of a system answered.
    pub(super) fn note_heard(&mut self, now: Instant, birth: u64) {
        if self.heard.len() >= MAX_ADDRESSES {
            self.heard.pop_first();
        }
        self.heard.insert(birth, now);
    }

    /// Who has answered lately.
    fn heard(&self, shared: &Shared) -> Vec<u64> {
        let lately = 4 * shared.config.suspect_max_ns.max(shared.config.discovery_ns);
        self.heard.iter().filter(|(_, at)| shared.now.since(**at) < lately).map(|(birth, _)| *birth).collect()
    }

    /// That process is dead.
    pub(super) fn forget_seeker(&mut self, nonce: Nonce) {
        self.seekers.remove(&nonce);
    }

    /// Takes note of another process that looks for a system. Whether it was among those known, which are asked all the time.
    pub(super) fn note_candidate(&mut self, now: Instant, nonce: Nonce, address: Address, may_found: bool) -> bool {
        let known = self.seekers.contains_key(&nonce);
        if known || self.seekers.len() < MAX_ADDRESSES {
            self.seekers.insert(nonce, Seeker { address, seen: now, may_found });
        }
        known
    }
}

impl Endpoint {
    fn discover(&self) -> Message {
        let config = &self.shared.config;
        let may_found = self.process().is_none() && self.looking.bound.is_none() && self.site_is_free();
        Message::Discover { nonce: config.nonce, site: config.site, address: config.address, may_found }
    }

    fn own_joiner(&self) -> Joiner {
        let config = &self.shared.config;
        Joiner {
            process: ProcessId::default(),
            nonce: config.nonce,
            site: config.site,
            address: config.address,
            request: 0,
            wants_state: false,
            max_pause_ns: config.max_pause_ns,
        }
    }

    fn own_join(&self) -> Message {
        Message::Join { joiner: self.own_joiner(), system_view: 0, heard: self.looking.heard(&self.shared) }
    }

    /// "Is there a system?"
    pub(super) fn on_discover(&mut self, nonce: Nonce, address: Address, may_found: bool) {
        if nonce == self.shared.config.nonce {
            return;
        }
        if self.process().is_some() {
            let view = &self.shared.system_view;
            let contacts: Vec<Address> = view.members.iter().map(|m| m.address).collect();
            let message = Message::Found {
                system: self.shared.system,
                contacts,
                stalled: self.shared.stalled,
                founding: self.founding.number,
            };
            self.shared.send(address, GroupId::SYSTEM, 0, &message);
            self.tell_founding(address, nonce);
            // By its nonce: it may live where a dead member lived.
            if !self.shared.system_view.members.iter().any(|m| m.nonce == nonce) {
                // It looks for a system, or is in another one: worth a question of our own (R13).
                self.looking.add_address(address);
            }
        } else {
            let now = self.shared.now;
            if self.looking.note_candidate(now, nonce, address, may_found) {
                // It is asked in each round of this process, and so told of it: among n that look for each other an answer
                // to each question would double the n² packets of a round.
                return;
            }
            let config = &self.shared.config;
            let answer = Message::Candidate {
                nonce: config.nonce,
                site: config.site,
                address: config.address,
                may_found: self.looking.bound.is_none() && self.site_is_free(),
            };
            self.shared.send(address, GroupId::SYSTEM, 0, &answer);
        }
    }

    /// "There is."
    pub(super) fn on_found(
        &mut self,
        system: SystemId,
        contacts: Vec<Address>,
        (stalled, founding): (bool, u64),
        teller: Option<ProcessId>,
    ) {
        let now = self.shared.now;
        if system == SystemId::default() || contacts.is_empty() {
            return;
        }
        if self.expects_sites() != (founding > 0) {
            return self.shared.count(Counter::IgnoreExpectedSites);
        }
        if self.process().is_none() || system != self.shared.system {
            // Whoever joins has to have heard every member.
            for contact in contacts.iter().filter(|contact| **contact != self.shared.config.address) {
                self.looking.add_address(*contact);
            }
        }
        if self.process().is_some() && system == self.shared.system {
            if teller.is_none() {
                // Our own system, told of by a process that our view does not have: it went on without us, perhaps.
                let view = self.shared.system_view.number;
                for contact in contacts.into_iter().take(CONTACTS) {
                    self.shared.send(contact, GroupId::SYSTEM, view, &Message::Behind { reserved: 0 });
                }
            }
            return;
        }
        if self.process().is_some() {
            // R13: two systems meet. The younger (the larger founding id) gives way, once the older has admitted it; a
            // stalled remnant never counts as found.
            if mutant!(GivesWayUnadmitted) && system != self.shared.system {
                return self.give_way(system);
            }
            let older = if self.expects_sites() {
                // R12: a system is followed by another one only when it is lost for good.
                self.shared.stalled && founding > self.founding.number
            } else {
                system < self.shared.system || self.shared.stalled
            };
            let gives_way = system != self.shared.system && !stalled && older;
            if gives_way {
                self.looking.elsewhere = Some(system);
                if teller.is_none() {
                    // The others of this system may have no other way to learn of that one.
                    let message = Message::Found { system, contacts: contacts.clone(), stalled, founding };
                    let to: Vec<Address> = self.shared.peers.values().map(|peer| peer.entry.address).collect();
                    for address in to {
                        self.shared.send(address, GroupId::SYSTEM, 0, &message);
                    }
                }
                let message = self.own_join();
                self.shared.send_as(
                    system,
                    contacts[self.looking.tries % contacts.len()],
                    GroupId::SYSTEM,
                    0,
                    &message,
                );
                self.looking.tries += 1;
            }
            return;
        }
        if stalled || self.looking.bound.is_some_and(|bound| bound != system) {
            return;
        }
        match &mut self.looking.found {
            // Of several the oldest is joined.
            // (Under `expected_sites` the latest.)
            Some((known, known_contacts, seen))
                if *known == system
                    || self.looking.found_number > founding
                    || (self.looking.found_number == founding && *known < system) =>
            {
                if *known == system {
                    // All have answered: there is nothing to wait for.
                    let complete = self.looking.heard.len() == contacts.len();
                    *known_contacts = contacts;
                    *seen = now;
                    if complete {
                        self.looking.join_at_once = true;
                    }
                }
            }
            found => {
                *found = Some((system, contacts, now));
                self.looking.found_number = founding;
                self.looking.ask_at = Instant::ZERO;
            }
        }
    }

    /// Asks around; asks to be admitted; founds, when nobody else is there.
    pub(super) fn drive_looking(&mut self) {
        let now = self.shared.now;
        if self.ended.is_some() {
            return;
        }
        self.ask_fresh_addresses();
        if std::mem::take(&mut self.looking.join_at_once) && self.process().is_none() {
            self.ask_to_join();
        }
        if now < self.looking.ask_at {
            return;
        }
        let often = (self.looking.addresses.len() / FEW_ADDRESSES).max(1) as u64;
        let pause = self.shared.random.jitter(self.shared.config.resend_ns * 2 * often);
        if self.process().is_some() {
            // Slowly, for other systems.
            self.looking.ask_at = now + self.shared.random.jitter(self.shared.config.suspect_max_ns / 2);
            // A member that is silent may have made room for a process of another system.
            let message = self.discover();
            for &address in &self.looking.addresses {
                let shared = &self.shared;
                let mut there = shared.system_view.members.iter().filter(|member| member.address == address);
                if !there.any(|member| !shared.suspected(member.process)) {
                    self.shared.send_as(SystemId::default(), address, GroupId::SYSTEM, 0, &message);
                }
            }
            return;
        }
        self.looking.ask_at = now + pause;
        let lost = 10 * self.shared.config.discovery_ns.max(self.shared.config.suspect_max_ns / 4);
        if self.looking.found.as_ref().is_some_and(|(_, _, seen)| now.since(*seen) > lost) {
            self.looking.found = None;
            self.looking.since = now;
        }
        let discovery = self.shared.config.discovery_ns;
        self.looking.seekers.retain(|_, seeker| now.since(seeker.seen) < 2 * discovery);
        let message = self.discover();
        for address in self.looking.asked(&self.shared.config) {
            self.shared.send(address, GroupId::SYSTEM, 0, &message);
        }
        if self.ask_to_join() {
            return;
        }
        if self.expects_sites() {
            return self.drive_founding();
        }
        let own = self.shared.config.nonce;
        let lowest = self.looking.seekers.iter().all(|(nonce, seeker)| *nonce > own || !seeker.may_found);
        // Whose turn it is or not: the system that the site belonged to may be no more, and nobody else asks this site's record.
        let turn = lowest || self.looking.bound.is_some();
        if now.since(self.looking.since) >= discovery && turn && !self.looking.asked_record {
            self.looking.asked_record = true;
            let id = u128::from(self.shared.random.next()) << 64 | u128::from(self.shared.random.next());
            self.site_requests.push_back(SiteRequest::Found(SystemId(id | 1)));
            self.looking.founding = Some(SystemId(id | 1));
        }
    }

    /// Asks a member of the system that was found to admit this process; false: none was found, or it is barred from it.
    fn ask_to_join(&mut self) -> bool {
        let Some((system, contacts, _)) = &self.looking.found else { return false };
        if self.is_barred(*system, self.looking.found_number) {
            return false;
        }
        let (system, to) = (*system, contacts[self.looking.tries % contacts.len()]);
        self.looking.tries += 1;
        let message = self.own_join();
        self.shared.send_as(system, to, GroupId::SYSTEM, 0, &message);
        true
    }

    fn ask_fresh_addresses(&mut self) {
        for address in std::mem::take(&mut self.looking.fresh) {
            if !self.shared.system_view.members.iter().any(|member| member.address == address) {
                let message = self.discover();
                self.shared.send_as(SystemId::default(), address, GroupId::SYSTEM, 0, &message);
            }
        }
    }

    /// When `drive_looking` has something to do.
    pub(super) fn looking_deadline(&self) -> Option<Instant> {
        if self.process().is_some() && self.looking.addresses.is_empty() {
            return None;
        }
        if !self.looking.fresh.is_empty() || (self.looking.join_at_once && self.process().is_none()) {
            return Some(self.shared.now);
        }
        Some(self.looking.ask_at)
    }
}
