//! The agreement on the next view: PREPARE, PROMISE, ACCEPT, ACCEPTED, DECIDE — one Paxos instance a view, with fetching
//! before accepting.
//!
//! ```text
//!  member:    normal ──PREPARE──▶ frozen (promised) ──ACCEPT──▶ fetching ──all up to the cut──▶ accepted ──DECIDE──▶ next view
//!  proposer:  idle ──a change is wanted──▶ preparing ──quorum of promises──▶ accepting ──quorum──▶ DECIDE
//! ```
//! A PREPARE or ACCEPT lower than promised is refused; a DECIDE is always valid. From its first PROMISE until DECIDE a
//! member appends and delivers nothing and its row is frozen (R5). Attempts name the system view they were made in (R9).
//! The quorum of a group is all members that the system view holds; of the system group, a majority of sites (R10).

use super::hung::Vigil;
use super::settle::Settling;
use super::{Fate, Group, rank_of};
use crate::counters::Counter;
use crate::id::{Nonce, ProcessId};
use crate::shared::Shared;
use crate::time::Instant;
use isis_wire::Address;
use isis_wire::message::{Accept, Attempt, Joiner, Message, Promise, StateStatus, Value};
use std::collections::BTreeMap;

/// How long, in resend intervals, an attempt waits for joiners that do not answer. It asks only those that have just
/// asked; too little of it turns slow joiners into views without change.
const JOINER_PATIENCE: u64 = 8;

/// What an attempt is at.
#[derive(Debug)]
pub enum Phase {
    /// Promises come in.
    Preparing {
        /// The members' answers.
        promises: BTreeMap<ProcessId, Promise>,
        /// The joiners' answers: the request that each still wants.
        ready: BTreeMap<Nonce, u64>,
    },
    /// Acceptances come in: per acceptor, whom of its site it knows dead.
    Accepting {
        /// What was proposed.
        accept: Box<Accept>,
        /// The answers.
        accepted: BTreeMap<ProcessId, Vec<ProcessId>>,
    },
}

/// An attempt of this process.
#[derive(Debug)]
pub struct Proposer {
    /// Its name.
    pub attempt: Attempt,
    /// Who was asked to join.
    pub joiners: Vec<Joiner>,
    /// When it began.
    pub started: Instant,
    /// When those who did not answer are asked again.
    pub resend_at: Instant,
    /// What it is at.
    pub phase: Phase,
    /// What other groups are asked before the value is formed (R2).
    pub settling: Option<Settling>,
}

/// The change of one view, as member and as proposer.
#[derive(Debug)]
pub struct Change {
    /// The highest attempt promised.
    pub promised: Attempt,
    /// The value accepted last, and in which attempt.
    pub accepted: Option<(Attempt, Value)>,
    /// To be accepted once everything up to the cut is here: whom to answer, and what.
    pub fetching: Option<(Address, Box<Accept>)>,
    /// Decided, but bytes up to the cut are missing here.
    pub decided: Option<Box<Value>>,
    /// The own attempt.
    pub proposer: Option<Proposer>,
    /// A PREPARE of a system view that is not installed here yet, and who asks: answered then (R9).
    early: Option<(Address, Attempt)>,
    /// Who holds it up.
    pub vigil: Vigil,
    /// The highest attempt heard of.
    highest: Attempt,
    /// When something last moved (or no change was wanted).
    progress_at: Instant,
    /// No own attempt before.
    not_before: Instant,
    /// When the view began.
    began_at: Instant,
}

impl Change {
    /// At the start of a view.
    pub fn new(now: Instant) -> Change {
        Change {
            promised: Attempt::default(),
            accepted: None,
            fetching: None,
            decided: None,
            proposer: None,
            early: None,
            vigil: Vigil::default(),
            highest: Attempt::default(),
            progress_at: now,
            not_before: Instant::ZERO,
            began_at: now,
        }
    }

    /// The clocks start anew: this process was paused.
    pub fn forgive(&mut self, now: Instant) {
        self.progress_at = now;
        self.vigil.forgive(now);
    }

    /// No change was wanted until now.
    pub fn nothing_wanted(&mut self, now: Instant) {
        self.progress_at = now;
    }

    /// Who has what: for fetching.
    pub fn holders(&self) -> Option<&[(ProcessId, Vec<u64>)]> {
        self.fetching.as_ref().map(|(_, accept)| accept.holders.as_slice())
    }
}

impl Group {
    /// The system view that an attempt of this process names now.
    fn attempt_view(&self, shared: &Shared) -> u64 {
        if self.is_system() { self.view.number } else { shared.system_view.number }
    }

    fn wants_change(&self, shared: &Shared) -> bool {
        self.plane.frozen
            || self.misses_somebody(shared)
            || self.leave_request().is_some()
            || self.leavers.keys().any(|process| self.rank_of(*process).is_some())
            || self.plane.inbox.iter().any(|inbox| inbox.has_global)
            || self.clients.wants_view(shared)
            || (shared.now >= self.joiners_at(shared) && self.has_joiners(shared))
    }

    /// A change is wanted, or goes on.
    pub(crate) fn is_changing(&self, shared: &Shared) -> bool {
        let change = &self.change;
        change.proposer.is_some()
            || change.decided.is_some()
            || change.fetching.is_some()
            || change.early.is_some()
            || !self.candidates.is_empty()
            || self.wants_change(shared)
    }

    /// From when on joiners alone are a reason to change the view: in a large one those that come together are waited for,
    /// lest each of them cost a view.
    fn joiners_at(&self, shared: &Shared) -> Instant {
        self.change.began_at + (self.breadth() - 1) * shared.config.resend_ns
    }

    /// How many believed alive are older than this process.
    fn place(&self, shared: &Shared) -> u64 {
        self.view.members[..self.rank].iter().filter(|member| self.required(shared, member.process)).count() as u64
    }

    /// Time has passed, or something may have changed: goes on with the change.
    pub fn drive_change(&mut self, shared: &mut Shared) -> Fate {
        if self.departed_until.is_some() || (shared.stalled && !self.is_system()) {
            return Fate::Lives;
        }
        if let Some(value) = self.change.decided.take() {
            if !self.plane.has_all(&value.cut) {
                self.change.decided = Some(value);
                return Fate::Lives;
            }
            return self.install(shared, *value);
        }
        self.answer_early_prepare(shared);
        self.accept_if_fetched(shared);
        let now = shared.now;
        self.give_up_fetching(shared);
        let outdated = |own: &Proposer| own.attempt.system_view != self.attempt_view(shared);
        if self.change.proposer.as_ref().is_some_and(outdated) {
            // R9: an attempt that names an older system view will be refused; who was needed for it may be dead.
            self.change.proposer = None;
            self.start_attempt(shared);
        }
        let proposes = self.change.proposer.is_some();
        let wanted = proposes || self.wants_change(shared);
        self.watch_for_hung(shared, wanted);
        if proposes {
            if let Some(fate) = self.drive_proposer(shared) {
                return fate;
            }
        } else if !wanted {
            self.change.progress_at = now;
        } else if now >= self.change.not_before && now >= self.turn(shared) {
            self.start_attempt(shared);
            if let Some(fate) = self.drive_proposer(shared) {
                return fate;
            }
        }
        Fate::Lives
    }

    /// When it is this process's turn to propose.
    fn turn(&self, shared: &Shared) -> Instant {
        let place = self.place(shared);
        let others = self.change.promised != Attempt::default() && self.change.promised.proposer != shared.me;
        match (place, others && self.required(shared, self.change.promised.proposer)) {
            (0, false) => self.change.not_before,
            (place, _) => self.change.progress_at + shared.config.takeover_ns * self.breadth() * (place + 1),
        }
    }

    /// When `drive_change` should be called next.
    pub fn change_deadline(&self, shared: &Shared) -> Option<Instant> {
        if self.departed_until.is_some() || (shared.stalled && !self.is_system()) {
            return None;
        }
        match &self.change.proposer {
            Some(proposer) => Some(proposer.resend_at),
            None if self.change.decided.is_some() => None,
            None if self.wants_change(shared) => Some(self.turn(shared).max(self.change.not_before)),
            None if shared.now < self.joiners_at(shared) && self.has_joiners(shared) => Some(self.joiners_at(shared)),
            None => None,
        }
    }

    /// Gives the present attempt up for a higher one, at once.
    pub fn ask_again(&mut self, shared: &mut Shared) {
        if self.change.proposer.take().is_some() {
            self.start_attempt(shared);
        }
    }

    fn start_attempt(&mut self, shared: &mut Shared) {
        let joiners = self.eligible_joiners(shared).cloned().collect();
        let counter = self.change.highest.counter.max(self.change.promised.counter) + 1;
        let attempt = Attempt { system_view: self.attempt_view(shared), counter, proposer: shared.me };
        if attempt < self.change.promised {
            return;
        }
        shared.count(Counter::AttemptsProposed);
        self.change.proposer = Some(Proposer {
            attempt,
            joiners,
            started: shared.now,
            resend_at: shared.now,
            phase: Phase::Preparing { promises: BTreeMap::new(), ready: BTreeMap::new() },
            settling: None,
        });
        self.change.highest = attempt;
        if let Some(promise) = self.promise(shared, attempt) {
            self.take_promise(shared.me, promise);
        } else {
            self.change.proposer = None;
            self.change.not_before = shared.now + shared.config.resend_ns;
        }
    }

    /// Resends what is due, and sees whether the attempt can go on.
    fn drive_proposer(&mut self, shared: &mut Shared) -> Option<Fate> {
        loop {
            let Some(proposer) = &self.change.proposer else { return None };
            let ready = match &proposer.phase {
                Phase::Preparing { promises, ready } => {
                    self.prepared(shared, proposer, promises, ready) && self.settled(shared)
                }
                Phase::Accepting { accepted, .. } => {
                    self.is_quorum(shared, |process| accepted.get(&process).map(Vec::as_slice))
                }
            };
            if !ready {
                break;
            }
            match self.change.proposer.take() {
                Some(Proposer {
                    attempt,
                    phase: Phase::Preparing { promises, ready },
                    joiners,
                    started,
                    settling,
                    ..
                }) => {
                    let settled = settling.map_or(Vec::new(), Settling::outcome);
                    let Some(accept) = self.form_value(shared, attempt, &promises, &joiners, &ready, &settled) else {
                        self.change.not_before = shared.now + shared.config.resend_ns;
                        return None;
                    };
                    self.change.proposer = Some(Proposer {
                        attempt,
                        joiners,
                        started,
                        resend_at: shared.now,
                        phase: Phase::Accepting { accept: Box::new(accept.clone()), accepted: BTreeMap::new() },
                        settling: None,
                    });
                    self.begin_fetch(shared, shared.config.address, accept);
                }
                Some(Proposer { phase: Phase::Accepting { accept, .. }, .. }) => {
                    let value = accept.value;
                    self.tell_decision(shared, &value);
                    self.tell_at = Some(shared.now + shared.config.resend_ns);
                    return Some(self.decide(shared, value));
                }
                None => return None,
            }
        }
        self.resend(shared);
        None
    }

    fn resend(&mut self, shared: &mut Shared) {
        let breadth = self.breadth();
        let Some(proposer) = &mut self.change.proposer else { return };
        if shared.now < proposer.resend_at {
            return;
        }
        proposer.resend_at = shared.now + shared.random.jitter(breadth * shared.config.resend_ns);
        self.ask_to_settle(shared);
        let proposer = self.change.proposer.as_ref().expect("checked above");
        let (message, answered, joiners): (Message, Vec<ProcessId>, Vec<Address>) = match &proposer.phase {
            Phase::Preparing { promises, ready } => (
                Message::Prepare { attempt: proposer.attempt, joiners: proposer.joiners.clone() },
                promises.keys().copied().collect(),
                proposer.joiners.iter().filter(|j| !ready.contains_key(&j.nonce)).map(|j| j.address).collect(),
            ),
            Phase::Accepting { accept, accepted } => {
                (Message::Accept { accept: (**accept).clone() }, accepted.keys().copied().collect(), Vec::new())
            }
        };
        let mut to: Vec<Address> = self
            .view
            .members
            .iter()
            .filter(|m| m.process != shared.me && !answered.contains(&m.process))
            .map(|m| m.address)
            .collect();
        to.extend(joiners);
        for address in to {
            shared.send(address, self.id, self.view.number, &message);
        }
    }

    /// Enough promises: a quorum, and everybody who is not suspected. Joiners are waited for a little.
    fn prepared(
        &self,
        shared: &Shared,
        proposer: &Proposer,
        promises: &BTreeMap<ProcessId, Promise>,
        ready: &BTreeMap<Nonce, u64>,
    ) -> bool {
        let all =
            self.view.members.iter().all(|m| promises.contains_key(&m.process) || !self.required(shared, m.process));
        let joiners_ready = proposer.joiners.iter().all(|j| ready.contains_key(&j.nonce))
            || shared.now.since(proposer.started) >= JOINER_PATIENCE * shared.config.resend_ns;
        let dead = |process| promises.get(&process).map(|promise| promise.dead.as_slice());
        all && joiners_ready && self.is_quorum(shared, dead)
    }

    // --- as a member ------------------------------------------------------------------------------------------------

    /// Promises `attempt`, freezing at the first promise of the view. `None`: impossible now (no room to close the batch).
    fn promise(&mut self, shared: &mut Shared, attempt: Attempt) -> Option<Promise> {
        if !self.plane.frozen {
            // Finals that are owed: they have to be below the cut in all groups (R2).
            if !self.append_finals(shared) {
                return None;
            }
            self.publish(shared);
            if self.plane.has_unpublished() {
                return None;
            }
            self.deliver(shared);
            self.plane.refresh_row();
            self.plane.frozen = true;
        }
        self.change.promised = attempt;
        self.change.highest = self.change.highest.max(attempt);
        self.change.progress_at = shared.now;
        self.change.fetching = None;
        Some(Promise {
            attempt,
            received: self.plane.borders(),
            accepted: self.change.accepted.clone(),
            state: self.state,
            leaving: self.leave_request().unwrap_or(0),
            dead: shared.dead_here(),
            multis: self.multi_report(shared),
        })
    }

    /// PREPARE came.
    pub fn on_prepare(&mut self, shared: &mut Shared, from: Address, attempt: Attempt) {
        if attempt.system_view > self.attempt_view(shared) && self.change.early.is_none_or(|(_, kept)| kept < attempt) {
            self.change.early = Some((from, attempt));
        }
        if !self.may_answer(shared, from, attempt) {
            return;
        }
        if let Some(promise) = self.promise(shared, attempt) {
            shared.send(from, self.id, self.view.number, &Message::Promised { promise });
        }
    }

    /// The system view that a PREPARE named is here now.
    fn answer_early_prepare(&mut self, shared: &mut Shared) {
        let own = self.attempt_view(shared);
        if let Some((from, attempt)) = self.change.early.take_if(|(_, attempt)| attempt.system_view <= own)
            && attempt.system_view == own
        {
            self.on_prepare(shared, from, attempt);
        }
    }

    /// An attempt of the right system view that is not lower than promised; otherwise it is refused or ignored.
    fn may_answer(&mut self, shared: &mut Shared, from: Address, attempt: Attempt) -> bool {
        self.change.highest = self.change.highest.max(attempt);
        let own = self.attempt_view(shared);
        if self.departed_until.is_some() || (shared.stalled && !self.is_system()) || attempt.system_view > own {
            // R9: nobody answers before installing the system view that the attempt names.
            shared.count(Counter::IgnoreFutureView);
            return false;
        }
        if attempt.system_view < own || attempt < self.change.promised {
            let floor = Attempt { system_view: own, ..Attempt::default() };
            let promised = self.change.promised.max(floor);
            shared.send(from, self.id, self.view.number, &Message::Refuse { promised });
            return false;
        }
        if self.change.proposer.as_ref().is_some_and(|own| own.attempt < attempt) {
            self.change.proposer = None;
        }
        true
    }

    /// ACCEPT came.
    pub fn on_accept(&mut self, shared: &mut Shared, from: Address, accept: Accept) {
        if accept.value.number != self.view.number + 1 || accept.value.cut.len() != self.plane.members {
            shared.count(Counter::IgnoreMalformed);
            return;
        }
        if !self.may_answer(shared, from, accept.attempt) {
            return;
        }
        if !self.plane.frozen && self.promise(shared, accept.attempt).is_none() {
            return;
        }
        if let Some((attempt, _)) = &self.change.accepted
            && *attempt == accept.attempt
        {
            let dead = shared.dead_here();
            shared.send(from, self.id, self.view.number, &Message::Accepted { attempt: *attempt, dead });
            return;
        }
        self.begin_fetch(shared, from, accept);
    }

    fn begin_fetch(&mut self, shared: &mut Shared, from: Address, accept: Accept) {
        for &(id, priority) in &accept.value.settled {
            // Whoever may accept it knows it from here on, and says so to other groups.
            shared.multis.note_final(id, priority);
        }
        self.change.promised = accept.attempt;
        self.change.progress_at = shared.now;
        self.want_up_to(shared, &accept.value.cut);
        self.change.fetching = Some((from, Box::new(accept)));
        self.accept_if_fetched(shared);
    }

    /// Everything up to the cut shall come here.
    fn want_up_to(&mut self, shared: &Shared, cut: &[u64]) {
        for (rank, &end) in cut.iter().enumerate() {
            if rank != self.rank {
                let image = &mut self.plane.images[rank];
                image.known_end = image.known_end.max(end);
                if image.has_gap() {
                    image.nak_at = Some(shared.now);
                }
            }
        }
    }

    fn accept_if_fetched(&mut self, shared: &mut Shared) {
        if !self.change.fetching.as_ref().is_some_and(|(_, accept)| self.plane.has_all(&accept.value.cut)) {
            return;
        }
        let Some((from, accept)) = self.change.fetching.take() else { return };
        let attempt = accept.attempt;
        self.change.accepted = Some((attempt, accept.value));
        self.change.progress_at = shared.now;
        let dead = shared.dead_here();
        if attempt.proposer == shared.me {
            self.on_accepted(shared.me, attempt, dead);
        } else {
            shared.send(from, self.id, self.view.number, &Message::Accepted { attempt, dead });
        }
    }

    /// Somebody who may have what is missing up to the cut is alive.
    fn can_fetch(&self, shared: &Shared, accept: &Accept) -> bool {
        accept.value.cut.iter().enumerate().all(|(rank, &end)| {
            rank == self.rank
                || self.plane.images[rank].contiguous >= end
                || accept.holders.iter().any(|(process, received)| {
                    *process != shared.me
                        && self.required(shared, *process)
                        && received.get(rank).is_some_and(|&here| here >= end)
                })
        })
    }

    /// The next view is known here, and what this process lacks to enter it had only members that have failed: it never will, and
    /// a member of that view who waits for it would wait for ever.
    pub(crate) fn is_left_behind(&self, shared: &Shared) -> bool {
        let failed = |process| process == shared.me || shared.suspected(process);
        self.change.decided.as_ref().is_some_and(|value| !self.plane.has_all(&value.cut))
            && self.view.members.iter().all(|member| failed(member.process))
    }

    /// What is missing died with its holders: a higher attempt has to follow.
    fn give_up_fetching(&mut self, shared: &mut Shared) {
        let Some((from, accept)) = &self.change.fetching else { return };
        if self.can_fetch(shared, accept) {
            return;
        }
        let (from, attempt) = (*from, accept.attempt);
        self.change.fetching = None;
        if attempt.proposer == shared.me {
            self.on_cannot_fetch(shared, attempt);
        } else {
            shared.send(from, self.id, self.view.number, &Message::CannotFetch { attempt });
        }
    }

    /// A member cannot fetch what the own attempt's value needs.
    pub fn on_cannot_fetch(&mut self, shared: &mut Shared, attempt: Attempt) {
        if self.change.proposer.as_ref().is_some_and(|own| own.attempt == attempt) {
            self.change.proposer = None;
            self.change.not_before = shared.now + shared.random.jitter(shared.config.resend_ns);
        }
    }

    // --- as the proposer -----------------------------------------------------------------------------------------------

    /// A member's promise.
    pub fn take_promise(&mut self, process: ProcessId, promise: Promise) {
        let fits = |value: &Value| value.number == self.view.number + 1 && value.cut.len() == self.plane.members;
        if promise.received.len() != self.plane.members
            || promise.accepted.as_ref().is_some_and(|(_, value)| !fits(value))
        {
            return;
        }
        if let Some(Proposer { attempt, phase: Phase::Preparing { promises, .. }, .. }) = &mut self.change.proposer
            && *attempt == promise.attempt
        {
            promises.insert(process, promise);
        }
    }

    /// A joiner is ready.
    pub fn on_joiner_ready(&mut self, attempt: Attempt, nonce: Nonce, request: u64) {
        if let Some(Proposer { attempt: own, phase: Phase::Preparing { ready, .. }, .. }) = &mut self.change.proposer
            && *own == attempt
        {
            ready.insert(nonce, request);
        }
    }

    /// A member accepted.
    pub fn on_accepted(&mut self, process: ProcessId, attempt: Attempt, dead: Vec<ProcessId>) {
        if let Some(Proposer { attempt: own, phase: Phase::Accepting { accepted, .. }, .. }) = &mut self.change.proposer
            && *own == attempt
        {
            accepted.insert(process, dead);
        }
    }

    /// The own attempt was refused.
    pub fn on_refuse(&mut self, shared: &mut Shared, promised: Attempt) {
        self.change.highest = self.change.highest.max(promised);
        if self.change.proposer.as_ref().is_some_and(|own| own.attempt < promised) {
            self.change.proposer = None;
            let pause = shared.config.resend_ns * (1 + self.place(shared));
            self.change.not_before = shared.now + shared.random.jitter(pause);
        }
    }

    /// DECIDE: the value is chosen. Always valid.
    pub fn decide(&mut self, shared: &mut Shared, value: Value) -> Fate {
        let member_of = |value: &Value| rank_of(&value.members, shared.me).is_some();
        if self.is_system()
            && value.number > self.view.number + 1
            && self.change.decided.as_deref().is_some_and(member_of)
            && !member_of(&value)
        {
            // The next view has this process, but what it lacks to enter it may be forgotten: the others went on without it.
            return Fate::Evicted;
        }
        if value.number != self.view.number + 1 || value.cut.len() != self.plane.members {
            return Fate::Lives;
        }
        if !self.is_system() && value.system_view > shared.system_view.number {
            // R9: not before that system view.
            shared.count(Counter::IgnoreFutureView);
            return Fate::Lives;
        }
        if rank_of(&value.members, shared.me).is_none() && !value.left.contains(&shared.me) {
            // Perhaps the only one to know, if whoever decided is dead: the others are told before this process is gone.
            if self.is_system() && !mutant!(EvictedFallsSilent) {
                self.tell_decision(shared, &value);
            }
            return Fate::Evicted;
        }
        if !self.plane.frozen {
            self.publish(shared);
            self.deliver(shared);
            self.plane.frozen = true;
        }
        self.change.proposer = None;
        self.change.fetching = None;
        self.want_up_to(shared, &value.cut);
        self.change.decided = Some(Box::new(value));
        self.drive_change(shared)
    }

    /// Whoever answered is kept, but for those who leave.
    pub(crate) fn state_of(promise: &Promise) -> StateStatus {
        promise.state
    }
}
