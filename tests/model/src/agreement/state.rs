//! The state of the model, its actions, and what they do.

use super::{A, Agreement, B, MEMBERS, Quorum, Rules};

/// The bit of the joiner in [`Value::members`].
pub const JOINER: u8 = 1 << MEMBERS;

/// A step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Rank 1 multicasts *b*.
    Send,
    /// A member gets a message, from its sender or by repair.
    Receive {
        /// Who.
        member: u8,
        /// [`A`] or [`B`].
        message: u8,
    },
    /// A member delivers *b*.
    DeliverSafe {
        /// Who.
        member: u8,
    },
    /// A member begins an attempt.
    Start {
        /// Who.
        proposer: u8,
        /// The attempt's counter.
        counter: u8,
    },
    /// A member answers PREPARE.
    Prepare {
        /// Who.
        member: u8,
        /// The attempt's name.
        attempt: u8,
    },
    /// The proposer forms its value.
    Form {
        /// The attempt's name.
        attempt: u8,
        /// Whose promises it uses.
        answers: u8,
        /// Whom of them it knows dead.
        dead: u8,
        /// The joiner answered.
        joiner: bool,
    },
    /// A member accepts.
    Accept {
        /// Who.
        member: u8,
        /// The attempt's name.
        attempt: u8,
    },
    /// The proposer has a quorum.
    Decide {
        /// The attempt's name.
        attempt: u8,
    },
    /// A member gets the DECIDE of an attempt.
    Learn {
        /// Who; [`MEMBERS`]: the joiner.
        member: u8,
        /// The attempt's name.
        attempt: u8,
    },
    /// A process dies.
    Crash {
        /// Who; [`MEMBERS`]: the joiner.
        member: u8,
    },
    /// A member installs the next system view.
    InstallSystem {
        /// Who.
        member: u8,
    },
}

/// One member of the view.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Member {
    /// It is up, and has not been evicted.
    pub up: bool,
    /// It has learned that it is excluded.
    pub evicted: bool,
    /// It has promised: nothing is appended, delivered or reported.
    pub frozen: bool,
    /// The messages that it has.
    pub received: u8,
    /// The messages that its row shows.
    pub row: u8,
    /// The messages that it delivered.
    pub delivered: u8,
    /// The highest attempt promised; 0: none.
    pub promised: u8,
    /// The attempt accepted last; 0: none.
    pub accepted: u8,
    /// The attempt whose decision it has installed; 0: none.
    pub installed: u8,
    /// Groups: it has installed the next system view.
    pub next_system: bool,
}

/// A member's answer to PREPARE.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Promise {
    /// The messages that it had.
    pub received: u8,
    /// The attempt that it had accepted; 0: none.
    pub accepted: u8,
}

/// What is agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Value {
    /// The attempt that formed it. Values of two attempts are two values only if the rest differs.
    pub formed: u8,
    /// The members, by rank, and [`JOINER`].
    pub members: u8,
    /// The messages up to the cut.
    pub cut: u8,
}

impl Value {
    fn content(&self) -> (u8, u8) {
        (self.members, self.cut)
    }
}

/// An attempt and all messages about it that were ever sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attempt {
    /// Counter and proposer, in this order of weight; never 0.
    pub name: u8,
    /// Groups: it names the next system view.
    pub next_system: bool,
    /// The PROMISEs.
    pub promises: [Option<Promise>; MEMBERS],
    /// The ACCEPT.
    pub value: Option<Value>,
    /// The ACCEPTEDs, by rank.
    pub accepted: u8,
    /// The DECIDE.
    pub decided: bool,
}

/// The name of an attempt.
pub fn name(counter: u8, proposer: usize) -> u8 {
    counter * MEMBERS as u8 + proposer as u8
}

impl Attempt {
    /// Who began it.
    pub fn proposer(&self) -> usize {
        self.name as usize % MEMBERS
    }

    pub(super) fn counter(&self) -> u8 {
        self.name / MEMBERS as u8
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// By rank.
    pub members: [Member; MEMBERS],
    /// The attempts, by name.
    pub attempts: Vec<Attempt>,
    /// *b* was sent.
    pub sent: bool,
    /// The joiner is up.
    pub joiner: bool,
    /// The attempt by whose decision the joiner is in.
    pub joined: Option<u8>,
    /// How many may still crash.
    pub crashes: u8,
}

fn bits(mask: u8) -> impl Iterator<Item = usize> {
    (0..MEMBERS).filter(move |rank| mask & 1 << rank != 0)
}

impl State {
    pub(super) fn new(model: &Agreement) -> State {
        let mut members = [Member::default(); MEMBERS];
        for member in &mut members[..model.members] {
            member.up = true;
        }
        members[0] = Member { received: A, row: A, delivered: A, ..members[0] };
        State { members, attempts: Vec::new(), sent: false, joiner: model.joiner, joined: None, crashes: model.crashes }
    }

    pub(super) fn attempt(&self, name: u8) -> &Attempt {
        self.attempts.iter().find(|attempt| attempt.name == name).expect("an attempt that was begun")
    }

    fn attempt_mut(&mut self, name: u8) -> &mut Attempt {
        self.attempts.iter_mut().find(|attempt| attempt.name == name).expect("an attempt that was begun")
    }

    /// It still takes part in the change.
    pub(super) fn active(&self, rank: usize) -> bool {
        self.members[rank].up && self.members[rank].installed == 0
    }

    /// These are enough, as `proposer` sees it.
    pub(super) fn quorum(&self, model: &Agreement, proposer: usize, answers: u8) -> bool {
        let everybody = (1_u8 << model.members) - 1;
        match (model.quorum, model.rules) {
            (Quorum::System, Rules::AnyHalf) => 2 * answers.count_ones() as usize >= model.members,
            (Quorum::System, _) => {
                let twice = 2 * answers.count_ones() as usize;
                twice > model.members || (twice == model.members && answers & 1 != 0)
            }
            // Whoever did not answer is suspected.
            (Quorum::Group { .. }, Rules::GroupSuspects) => answers != 0,
            (Quorum::Group { excluded }, _) => {
                let required =
                    if self.members[proposer].next_system { everybody & !(1 << excluded) } else { everybody };
                answers & required == required
            }
        }
    }

    /// R9: this member answers this attempt.
    fn answers(&self, model: &Agreement, rank: usize, attempt: &Attempt) -> bool {
        self.active(rank) && (model.quorum == Quorum::System || attempt.next_system == self.members[rank].next_system)
    }

    pub(super) fn actions(&self, model: &Agreement, actions: &mut Vec<Action>) {
        for rank in 0..model.members {
            let member = &self.members[rank];
            let here = rank as u8;
            if !member.up {
                continue;
            }
            // Whoever else dies is excluded by a later system view.
            let may_crash = match model.quorum {
                Quorum::System => true,
                Quorum::Group { excluded } => rank == excluded,
            };
            if self.crashes > 0 && may_crash {
                actions.push(Action::Crash { member: here });
            }
            if !self.active(rank) {
                continue;
            }
            let may_append = !member.frozen || model.rules == Rules::AppendsWhileFrozen;
            if rank == 1 && model.safe && !self.sent && may_append {
                actions.push(Action::Send);
            }
            for message in [A, B] {
                if self.may_receive(rank, message) {
                    actions.push(Action::Receive { member: here, message });
                }
            }
            let may_deliver = !member.frozen || model.rules == Rules::DeliversWhileFrozen;
            let stable = (0..model.members).all(|other| self.members[other].row & B != 0);
            if may_deliver && member.received & B != 0 && member.delivered & B == 0 && stable {
                actions.push(Action::DeliverSafe { member: here });
            }
            if self.attempts.len() < model.attempts {
                let lowest = member.promised / MEMBERS as u8 + 1;
                let highest = self.attempts.iter().map(Attempt::counter).max().unwrap_or(0) + 1;
                actions.push(Action::Start { proposer: here, counter: lowest });
                // A refusal says what the others have promised.
                if highest != lowest && self.attempts.iter().any(|attempt| attempt.proposer() == rank) {
                    actions.push(Action::Start { proposer: here, counter: highest });
                }
            }
            for attempt in &self.attempts {
                self.answers_to(model, rank, attempt, actions);
            }
            if let Quorum::Group { excluded } = model.quorum
                && excluded != rank
                && !member.next_system
            {
                actions.push(Action::InstallSystem { member: here });
            }
        }
        for attempt in &self.attempts {
            self.steps_of(model, attempt, actions);
        }
        if self.joiner && self.crashes > 0 {
            actions.push(Action::Crash { member: MEMBERS as u8 });
        }
    }

    pub(super) fn may_receive(&self, rank: usize, message: u8) -> bool {
        let sent = message == A || self.sent;
        sent && self.active(rank) && self.members[rank].received & message == 0
    }

    /// What a member may answer in an attempt.
    pub(super) fn answers_to(&self, model: &Agreement, rank: usize, attempt: &Attempt, actions: &mut Vec<Action>) {
        let member = &self.members[rank];
        let breaks = model.rules == Rules::BreaksPromise;
        let name = attempt.name;
        if !self.answers(model, rank, attempt) {
            return;
        }
        if attempt.promises[rank].is_none() && (member.promised < name || breaks) {
            actions.push(Action::Prepare { member: rank as u8, attempt: name });
        }
        if let Some(value) = attempt.value
            && member.accepted != name
            && (member.promised <= name || breaks)
            && (value.cut & !member.received == 0 || model.rules == Rules::AcceptsUnfetched)
        {
            actions.push(Action::Accept { member: rank as u8, attempt: name });
        }
    }

    /// What the proposer of an attempt may do, and who may learn its decision.
    pub(super) fn steps_of(&self, model: &Agreement, attempt: &Attempt, actions: &mut Vec<Action>) {
        let proposer = attempt.proposer();
        let name = attempt.name;
        if self.active(proposer) && self.members[proposer].promised == name {
            // R9: an own attempt that names an older system view is given up.
            let current = attempt.next_system == self.members[proposer].next_system;
            let all = (0..model.members).filter(|&r| attempt.promises[r].is_some()).fold(0, |mask, r| mask | 1 << r);
            if attempt.value.is_none() && current {
                for answers in 1..=all {
                    let own = answers & 1 << proposer != 0;
                    if answers & !all == 0 && own && self.quorum(model, proposer, answers) {
                        self.values_of(model, name, answers, actions);
                    }
                }
            }
            let accepted = attempt.value.is_some() && self.quorum(model, proposer, attempt.accepted);
            if accepted && current && !attempt.decided {
                actions.push(Action::Decide { attempt: name });
            }
        }
        if !attempt.decided {
            return;
        }
        let value = attempt.value.expect("what was decided");
        for rank in (0..model.members).filter(|&rank| self.active(rank)) {
            let has_all = value.cut & !self.members[rank].received == 0;
            if value.members & 1 << rank == 0 || has_all {
                actions.push(Action::Learn { member: rank as u8, attempt: name });
            }
        }
        if self.joiner && self.joined.is_none() && value.members & JOINER != 0 {
            actions.push(Action::Learn { member: MEMBERS as u8, attempt: name });
        }
    }

    /// The values that can be formed of these promises: by who is known dead, and whether the joiner answered.
    fn values_of(&self, model: &Agreement, name: u8, answers: u8, actions: &mut Vec<Action>) {
        let again = model.rules != Rules::ProposesAfresh && self.highest_accepted(name, answers) != 0;
        if again {
            actions.push(Action::Form { attempt: name, answers, dead: 0, joiner: false });
            return;
        }
        // A group's failures are the system view's; a suspicion is not one.
        let crashed = match model.quorum {
            Quorum::System => bits(answers).filter(|&rank| !self.members[rank].up).fold(0, |mask, r| mask | 1 << r),
            Quorum::Group { .. } => 0,
        };
        for dead in (0..=crashed).filter(|dead| dead & !crashed == 0) {
            actions.push(Action::Form { attempt: name, answers, dead, joiner: false });
            if self.joiner {
                actions.push(Action::Form { attempt: name, answers, dead, joiner: true });
            }
        }
    }

    /// The highest attempt that these promises say was accepted; 0: none.
    fn highest_accepted(&self, name: u8, answers: u8) -> u8 {
        let attempt = self.attempt(name);
        bits(answers).filter_map(|rank| attempt.promises[rank]).map(|promise| promise.accepted).max().unwrap_or(0)
    }

    pub(super) fn apply(&mut self, model: &Agreement, action: Action) {
        match action {
            Action::Send => {
                self.sent = true;
                self.receive(model, 1, B);
            }
            Action::Receive { member, message } => self.receive(model, usize::from(member), message),
            Action::DeliverSafe { member } => self.members[usize::from(member)].delivered |= B,
            Action::Start { proposer, counter } => self.start(model, usize::from(proposer), counter),
            Action::Prepare { member, attempt } => self.promise(usize::from(member), attempt),
            Action::Form { attempt, answers, dead, joiner } => self.form(model, attempt, answers, dead, joiner),
            Action::Accept { member, attempt } => {
                let rank = usize::from(member);
                let here = &mut self.members[rank];
                here.frozen = true;
                here.promised = here.promised.max(attempt);
                here.accepted = attempt;
                self.attempt_mut(attempt).accepted |= 1 << rank;
            }
            Action::Decide { attempt } => self.attempt_mut(attempt).decided = true,
            Action::Learn { member, attempt } => self.learn(model, usize::from(member), attempt),
            Action::Crash { member } => {
                self.crashes -= 1;
                if usize::from(member) == MEMBERS {
                    self.joiner = false;
                } else {
                    self.members[usize::from(member)].up = false;
                    self.members[usize::from(member)].evicted = false;
                    self.forget(usize::from(member));
                }
            }
            Action::InstallSystem { member } => self.members[usize::from(member)].next_system = true,
        }
        self.forget_answers();
    }

    /// Answers that nobody can use any more make no difference: there is one value an attempt and one decision, and a proposer
    /// that has promised a higher attempt, has died or is through does not go on.
    fn forget_answers(&mut self) {
        for index in 0..self.attempts.len() {
            let Attempt { name, value, decided, .. } = self.attempts[index];
            let proposer = self.attempts[index].proposer();
            let goes_on = self.active(proposer) && self.members[proposer].promised == name;
            if !goes_on || value.is_some() {
                self.attempts[index].promises = [None; MEMBERS];
            }
            if !goes_on || decided {
                self.attempts[index].accepted = 0;
            }
        }
    }

    /// What a dead process knew makes no difference any more, but for what it delivered and reported.
    fn forget(&mut self, rank: usize) {
        let member = &mut self.members[rank];
        *member = Member {
            evicted: member.evicted,
            row: member.row & B,
            delivered: member.delivered & B,
            ..Member::default()
        };
    }

    fn receive(&mut self, model: &Agreement, rank: usize, message: u8) {
        let member = &mut self.members[rank];
        member.received |= message;
        let delivers = !member.frozen || model.rules == Rules::DeliversWhileFrozen;
        // An own message is delivered as it is appended.
        let own = message == B && rank == 1 && member.frozen;
        if (message == A && delivers) || own {
            member.delivered |= message;
        }
        if !member.frozen || model.rules == Rules::FrozenRowMoves {
            member.row |= message;
        }
    }

    fn start(&mut self, model: &Agreement, proposer: usize, counter: u8) {
        let name = name(counter, proposer);
        let next_system = self.members[proposer].next_system && model.quorum != Quorum::System;
        let attempt =
            Attempt { name, next_system, promises: [None; MEMBERS], value: None, accepted: 0, decided: false };
        self.attempts.push(attempt);
        self.attempts.sort_unstable_by_key(|attempt| attempt.name);
        self.promise(proposer, name);
    }

    fn promise(&mut self, rank: usize, name: u8) {
        let member = &mut self.members[rank];
        member.frozen = true;
        member.promised = name;
        let promise = Promise { received: member.received, accepted: member.accepted };
        self.attempt_mut(name).promises[rank] = Some(promise);
    }

    fn form(&mut self, model: &Agreement, name: u8, answers: u8, dead: u8, joiner: bool) {
        let accepted = self.highest_accepted(name, answers);
        let value = if accepted != 0 && model.rules != Rules::ProposesAfresh {
            self.attempt(accepted).value.expect("what was accepted")
        } else {
            self.fresh(model, name, answers, dead, joiner)
        };
        self.attempt_mut(name).value = Some(value);
    }

    fn fresh(&self, model: &Agreement, name: u8, answers: u8, dead: u8, joiner: bool) -> Value {
        let attempt = self.attempt(name);
        let failed = match model.quorum {
            // R9: whom the system view lacks, and nobody else.
            Quorum::Group { excluded } if self.members[attempt.proposer()].next_system => 1 << excluded,
            _ => dead,
        };
        let stays = answers & !failed;
        let has = |rank: usize, message: u8| attempt.promises[rank].is_some_and(|p| p.received & message != 0);
        let mut cut = 0;
        for (sender, message) in [(0, A), (1, B)] {
            let within = if stays & 1 << sender != 0 {
                has(sender, message)
            } else if model.rules == Rules::CutTooLow {
                bits(stays).all(|rank| has(rank, message))
            } else {
                bits(stays).any(|rank| has(rank, message))
            };
            if within {
                cut |= message;
            }
        }
        Value { formed: name, members: stays | if joiner { JOINER } else { 0 }, cut }
    }

    fn learn(&mut self, model: &Agreement, rank: usize, name: u8) {
        if rank == MEMBERS {
            self.joined = Some(name);
            return;
        }
        let value = self.attempt(name).value.expect("what was decided");
        let member = &mut self.members[rank];
        if value.members & 1 << rank != 0 || model.rules == Rules::InstallsForeignView {
            member.frozen = true;
            member.delivered |= value.cut & member.received;
            member.installed = name;
            member.promised = 0;
            member.accepted = 0;
        } else {
            self.members[rank].evicted = true;
            if model.rules == Rules::EvictedFallsSilent {
                self.members[rank].up = false;
                self.forget(rank);
            } else {
                // It ends, but for answering: R8.
                let member = &mut self.members[rank];
                *member = Member { installed: name, promised: 0, accepted: 0, ..*member };
            }
        }
    }

    // --- what is asked of a state -------------------------------------------------------------------------------------

    pub(super) fn decided(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.decided)
    }

    pub(super) fn decided_values(&self) -> Vec<(u8, u8)> {
        let mut values: Vec<_> = self.decided().filter_map(|a| a.value).map(|value| value.content()).collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    fn installers(&self) -> impl Iterator<Item = (usize, &Member, Value)> {
        self.members
            .iter()
            .enumerate()
            .filter(|(_, m)| m.up && m.installed != 0 && !m.evicted)
            .map(|(rank, member)| (rank, member, self.attempt(member.installed).value.expect("what was decided")))
    }

    pub(super) fn installed_delivered_the_cut(&self) -> bool {
        self.installers().all(|(_, member, value)| member.delivered == value.cut)
    }

    pub(super) fn safe_reached_survivors(&self) -> bool {
        let delivered = self.members.iter().any(|member| member.delivered & B != 0);
        !delivered || self.decided().filter_map(|a| a.value).all(|value| value.cut & B != 0)
    }

    pub(super) fn installers_are_members(&self) -> bool {
        self.installers().all(|(rank, _, value)| value.members & 1 << rank != 0)
    }

    pub(super) fn proposes_again(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.value.is_some_and(|value| value.formed != attempt.name))
    }

    pub(super) fn evicts(&self) -> bool {
        self.members.iter().any(|member| member.up && member.evicted)
    }
}
