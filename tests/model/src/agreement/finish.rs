//! Whether a change can complete from here: faults stop, what only the dead could still say is lost, and the oldest member
//! that is up makes one more attempt, which nobody disturbs. All steps are the model's own actions.

use super::{A, Action, Agreement, Attempt, B, MEMBERS, Quorum, Rules, State};

/// Takes steps, and notes if one was not possible.
struct Walk<'a> {
    model: &'a Agreement,
    state: State,
    possible: Vec<Action>,
    stuck: bool,
}

impl State {
    pub(super) fn completes(&self, model: &Agreement) -> bool {
        if !self.has_to_complete(model) {
            return true;
        }
        let mut walk = Walk { model, state: self.clone(), possible: Vec::new(), stuck: false };
        if let Quorum::Group { excluded } = model.quorum {
            for rank in (0..model.members).filter(|&rank| rank != excluded) {
                walk.state.members[rank].next_system = true;
            }
        }
        let teller = match walk.teller() {
            Some(attempt) => attempt,
            None => match walk.one_more_attempt() {
                Some(attempt) => attempt,
                None => return false,
            },
        };
        for rank in walk.concerned() {
            walk.get_ready(rank, teller);
            walk.step(Action::Learn { member: rank as u8, attempt: teller });
        }
        !walk.stuck
    }

    /// A quorum of processes runs, whatever they were told.
    fn has_to_complete(&self, model: &Agreement) -> bool {
        let runs = |rank: usize| self.members[rank].up || self.members[rank].evicted;
        match model.quorum {
            Quorum::System => {
                let running = (0..model.members).filter(|&rank| runs(rank)).fold(0, |mask, rank| mask | 1 << rank);
                Agreement { rules: Rules::AsWritten, ..model.clone() }.is_quorum(running)
            }
            Quorum::Group { .. } => true,
        }
    }
}

impl Walk<'_> {
    /// Whoever has not seen the end of the change, by age. An excluded member of a group learns that elsewhere.
    fn concerned(&self) -> Vec<usize> {
        let lost = match self.model.quorum {
            Quorum::System => MEMBERS,
            Quorum::Group { excluded } => excluded,
        };
        (0..self.model.members).filter(|&rank| self.state.active(rank) && rank != lost).collect()
    }

    fn answers_for_the_past(&self, rank: usize) -> bool {
        let member = &self.state.members[rank];
        member.up && (member.installed == 0 || self.model.rules != Rules::ForgetsOldView)
    }

    /// A decision that somebody who is up tells.
    fn teller(&self) -> Option<u8> {
        let told = (0..self.model.members)
            .filter(|&rank| self.state.members[rank].installed != 0 && self.answers_for_the_past(rank))
            .map(|rank| self.state.members[rank].installed);
        let undone = self.state.attempts.iter().filter(|a| a.decided && self.state.active(a.proposer()));
        told.chain(undone.map(|attempt| attempt.name)).next()
    }

    fn one_more_attempt(&mut self) -> Option<u8> {
        let everybody = self.concerned();
        let Some(&proposer) = everybody.first() else {
            return self.state.decided().next().map(|attempt| attempt.name);
        };
        let counter = self.state.attempts.iter().map(Attempt::counter).max().unwrap_or(0) + 1;
        self.state.apply(self.model, Action::Start { proposer: proposer as u8, counter });
        let name = super::state::name(counter, proposer);
        let mut answers = 0;
        for &rank in &everybody {
            answers |= 1 << rank;
            if rank != proposer {
                self.step(Action::Prepare { member: rank as u8, attempt: name });
            }
        }
        if self.stuck || !self.state.quorum(self.model, proposer, answers) {
            return None;
        }
        let form = |joiner| Action::Form { attempt: name, answers, dead: 0, joiner };
        self.note_possible(form(false));
        let joiner = self.state.joiner && self.possible.contains(&form(true));
        self.step(form(joiner));
        for &rank in &everybody {
            self.get_ready(rank, name);
            self.step(Action::Accept { member: rank as u8, attempt: name });
        }
        self.step(Action::Decide { attempt: name });
        (!self.stuck).then_some(name)
    }

    /// Fetches what a member lacks up to an attempt's cut, from somebody who is up and has it.
    fn get_ready(&mut self, rank: usize, name: u8) {
        let value = self.state.attempt(name).value.expect("a value is accepted, or learned");
        if value.members & 1 << rank == 0 && self.state.attempt(name).decided {
            return;
        }
        for message in [A, B].into_iter().filter(|message| value.cut & message != 0) {
            if !self.state.may_receive(rank, message) {
                continue;
            }
            let holder = (0..self.model.members)
                .any(|r| r != rank && self.state.members[r].received & message != 0 && self.answers_for_the_past(r));
            if holder {
                self.state.apply(self.model, Action::Receive { member: rank as u8, message });
            } else if self.model.rules != Rules::AcceptsUnfetched || self.state.attempt(name).decided {
                self.stuck = true;
            }
        }
    }

    /// Lists what is possible where `action` belongs.
    fn note_possible(&mut self, action: Action) {
        self.possible.clear();
        match action {
            Action::Prepare { member, attempt } | Action::Accept { member, attempt } => {
                let attempt = *self.state.attempt(attempt);
                self.state.answers_to(self.model, usize::from(member), &attempt, &mut self.possible);
            }
            Action::Form { attempt, .. } | Action::Decide { attempt } | Action::Learn { attempt, .. } => {
                let attempt = *self.state.attempt(attempt);
                self.state.steps_of(self.model, &attempt, &mut self.possible);
            }
            _ => {}
        }
    }

    fn step(&mut self, action: Action) {
        if self.stuck {
            return;
        }
        self.note_possible(action);
        if self.possible.contains(&action) {
            self.state.apply(self.model, action);
        } else {
            self.stuck = true;
        }
    }
}

impl Agreement {
    /// More than half of the members, or half with the oldest.
    fn is_quorum(&self, mask: u8) -> bool {
        let twice = 2 * mask.count_ones() as usize;
        twice > self.members || (twice == self.members && mask & 1 != 0)
    }
}
