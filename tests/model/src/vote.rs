//! R10: sites vote, and a site's vote is complete when each of its processes has answered the attempt or is listed dead in
//! an answer to the same attempt by another one of the site.
//!
//! What is counted is counted by the engine's own function: [`isis_protocol::group::electorate::site_quorum`] is asked for every
//! combination of answers and lists. Around it is the agreement of one system view, without messages and joiners (see
//! [`crate::agreement`] for those): a value is the attempt that formed it.
//!
//! | Action | In `engine/protocol` |
//! |---|---|
//! | [`Action::Start`] | `Group::start_attempt` |
//! | [`Action::Prepare`] | `Group::on_prepare`, `promise`: with `dead_here`; repeated with a newer list |
//! | [`Action::Form`] | `Group::prepared`, `form_value` |
//! | [`Action::Accept`] | `Group::on_accept`, `accept_if_fetched`: with `dead_here`; repeated with a newer list |
//! | [`Action::Decide`] | `Group::drive_proposer` |
//! | [`Action::Crash`] | a process dies; its site's others may not know it yet when they answer |
//!
//! The network is the set of all that was ever sent, as in [`crate::agreement`].

use isis_protocol::group::electorate::site_quorum;
use isis_protocol::{Nonce, ProcessId, SiteKey};
use isis_wire::Address;
use isis_wire::message::{MemberEntry, StateStatus};
use stateright::{Model, Property};
use std::collections::BTreeMap;

/// The most processes.
pub const PROCESSES: usize = 5;

/// What is different from R10 as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rules {
    /// Nothing.
    AsWritten,
    /// Deaths learned otherwise or later complete a vote.
    LaterDeathsCount,
    /// One answer is the vote of its whole site.
    OneVotesForSite,
}

/// A step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A process begins an attempt.
    Start {
        /// By rank.
        proposer: u8,
    },
    /// A process answers PREPARE.
    Prepare {
        /// By rank.
        process: u8,
        /// The attempt's name.
        attempt: u8,
        /// It knows that the other one of its site is dead.
        lists: bool,
    },
    /// The proposer forms its value of these promises.
    Form {
        /// The attempt's name.
        attempt: u8,
        /// By rank.
        answers: u8,
    },
    /// A process accepts.
    Accept {
        /// By rank.
        process: u8,
        /// The attempt's name.
        attempt: u8,
        /// It knows that the other one of its site is dead.
        lists: bool,
    },
    /// The proposer counts a quorum.
    Decide {
        /// The attempt's name.
        attempt: u8,
    },
    /// A process dies.
    Crash {
        /// By rank.
        process: u8,
    },
}

/// An attempt with all answers that were ever sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attempt {
    /// Counter and proposer.
    pub name: u8,
    /// Who promised.
    pub promised: u8,
    /// Who of them listed the other one of its site.
    pub promise_lists: u8,
    /// What they had accepted; 0: nothing.
    pub reported: [u8; PROCESSES],
    /// The attempt that formed the value; 0: there is none yet.
    pub value: u8,
    /// Who accepted.
    pub accepted: u8,
    /// Who of them listed the other one of its site.
    pub accept_lists: u8,
    /// A quorum was counted.
    pub decided: bool,
}

/// Everything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// Who is up.
    pub up: u8,
    /// By rank: the highest attempt promised; 0: none.
    pub promised: [u8; PROCESSES],
    /// By rank: the attempt accepted last, and the one that formed its value; 0: none.
    pub accepted: [(u8, u8); PROCESSES],
    /// By name.
    pub attempts: Vec<Attempt>,
    /// How many may still crash.
    pub crashes: u8,
}

/// The model with its bounds.
#[derive(Clone, Debug)]
pub struct Vote {
    /// The site of each process, by rank; one or two processes a site.
    sites: Vec<usize>,
    attempts: usize,
    crashes: u8,
    rules: Rules,
    /// What `site_quorum` says, by who answered and who of them lists the other one of its site.
    quorums: Vec<bool>,
}

/// All decided values are one.
pub const ONE_VALUE: &str = "one value per view";
/// If the sites with a process that is up are a quorum, one more attempt decides.
pub const COMPLETES: &str = "a vote can complete";

impl Vote {
    /// Processes on these sites.
    pub fn new(sites: &[usize], attempts: usize, crashes: u8, rules: Rules) -> Vote {
        assert!(sites.len() <= PROCESSES);
        let process = |rank: usize| ProcessId::new(sites[rank] as u16, rank as u16, 1);
        let members: Vec<MemberEntry> = (0..sites.len())
            .map(|rank| MemberEntry {
                process: process(rank),
                nonce: Nonce(rank as u128 + 1),
                site: SiteKey(sites[rank] as u128 + 1),
                address: Address::default(),
                state: StateStatus::Has,
                max_pause_ns: 0,
            })
            .collect();
        let mut vote = Vote { sites: sites.to_vec(), attempts, crashes, rules, quorums: Vec::new() };
        for index in 0..1 << (2 * sites.len()) {
            let (answered, listing) = (index & ((1 << sites.len()) - 1), index >> sites.len());
            let lists: Vec<Vec<ProcessId>> = (0..sites.len())
                .map(|rank| {
                    let lists = listing & 1 << rank != 0;
                    vote.mate(rank).filter(|_| lists).map(process).into_iter().collect()
                })
                .collect();
            let has_answered = |rank: &usize| answered & 1 << rank != 0;
            let answers: BTreeMap<ProcessId, &[ProcessId]> =
                (0..sites.len()).filter(has_answered).map(|rank| (process(rank), lists[rank].as_slice())).collect();
            vote.quorums.push(site_quorum(&members, |process| answers.get(&process).copied(), 0));
        }
        vote
    }

    /// What the report calls it.
    pub fn name(&self) -> String {
        let Vote { sites, attempts, crashes, rules, .. } = self;
        format!("site vote: processes on sites {sites:?}, {attempts} attempts, {crashes} crashes, {rules:?}")
    }

    fn mate(&self, rank: usize) -> Option<usize> {
        (0..self.sites.len()).find(|&other| other != rank && self.sites[other] == self.sites[rank])
    }

    fn mate_is_dead(&self, state: &State, rank: usize) -> bool {
        self.mate(rank).is_some_and(|mate| state.up & 1 << mate == 0)
    }

    /// These answers, of which `lists` list the other one of their site, are counted as a quorum.
    fn counts(&self, state: &State, answers: u8, lists: u8) -> bool {
        let lists = match self.rules {
            Rules::AsWritten => lists,
            Rules::LaterDeathsCount => {
                let known = |rank: &usize| self.mate_is_dead(state, *rank);
                (0..self.sites.len()).filter(known).fold(lists, |mask, rank| mask | 1 << rank)
            }
            Rules::OneVotesForSite => answers,
        };
        // A list of somebody who did not answer does not exist.
        self.quorums[usize::from(answers) | usize::from(lists & answers) << self.sites.len()]
    }

    fn active(&self, state: &State, attempt: &Attempt) -> Option<usize> {
        let proposer = attempt.name as usize % PROCESSES;
        (state.up & 1 << proposer != 0 && state.promised[proposer] == attempt.name).then_some(proposer)
    }

    /// One more attempt, of the oldest that is up, in which all that are up answer with what they know.
    fn completes(&self, state: &State) -> bool {
        let ranks = |mask: u8| (0..self.sites.len() as u8).filter(move |rank| mask & 1 << rank != 0);
        let lists = |rank: u8| self.mate_is_dead(state, usize::from(rank));
        let listing = ranks(state.up).filter(|&rank| lists(rank)).fold(0, |mask, rank| mask | 1 << rank);
        let as_written = Vote { rules: Rules::AsWritten, ..self.clone() };
        if !as_written.counts(state, state.up, listing) {
            return true;
        }
        let Some(proposer) = ranks(state.up).next() else { return false };
        let mut end = state.clone();
        self.apply(&mut end, Action::Start { proposer });
        let attempt = end.attempts.iter().map(|attempt| attempt.name).max().unwrap_or(0);
        for process in ranks(state.up) {
            self.apply(&mut end, Action::Prepare { process, attempt, lists: lists(process) });
        }
        let of = *end.attempt(attempt);
        if !as_written.counts(&end, of.promised, of.promise_lists) {
            return false;
        }
        self.apply(&mut end, Action::Form { attempt, answers: state.up });
        for process in ranks(state.up) {
            self.apply(&mut end, Action::Accept { process, attempt, lists: lists(process) });
        }
        let of = end.attempt(attempt);
        as_written.counts(&end, of.accepted, of.accept_lists)
    }

    fn apply(&self, state: &mut State, action: Action) {
        match action {
            Action::Start { proposer } => {
                let counter =
                    state.attempts.iter().map(|attempt| attempt.name / PROCESSES as u8).max().unwrap_or(0) + 1;
                let name = counter * PROCESSES as u8 + proposer;
                state.attempts.push(Attempt {
                    name,
                    promised: 0,
                    promise_lists: 0,
                    reported: [0; PROCESSES],
                    value: 0,
                    accepted: 0,
                    accept_lists: 0,
                    decided: false,
                });
                let own = Action::Prepare { process: proposer, attempt: name, lists: false };
                return self.apply(state, own);
            }
            Action::Prepare { process, attempt, lists } => {
                let rank = usize::from(process);
                state.promised[rank] = attempt;
                let accepted = state.accepted[rank].0;
                let of = state.attempt_mut(attempt);
                of.promised |= 1 << rank;
                of.promise_lists |= u8::from(lists) << rank;
                of.reported[rank] = accepted;
            }
            Action::Form { attempt, answers } => {
                let of = state.attempt(attempt);
                let highest =
                    (0..PROCESSES).filter(|r| answers & 1 << r != 0).map(|r| of.reported[r]).max().unwrap_or(0);
                let value = if highest == 0 { attempt } else { state.attempt(highest).value };
                state.attempt_mut(attempt).value = value;
            }
            Action::Accept { process, attempt, lists } => {
                let rank = usize::from(process);
                state.promised[rank] = attempt;
                let of = state.attempt_mut(attempt);
                of.accepted |= 1 << rank;
                of.accept_lists |= u8::from(lists) << rank;
                state.accepted[rank] = (attempt, of.value);
            }
            Action::Decide { attempt } => state.attempt_mut(attempt).decided = true,
            Action::Crash { process } => {
                state.up &= !(1 << process);
                state.crashes -= 1;
                state.promised[usize::from(process)] = 0;
                state.accepted[usize::from(process)] = (0, 0);
            }
        }
        // What nobody can use any more makes no difference: see the other model.
        for index in 0..state.attempts.len() {
            let goes_on = self.active(state, &state.attempts[index]).is_some();
            let of = &mut state.attempts[index];
            if !goes_on || of.value != 0 {
                (of.promised, of.promise_lists, of.reported) = (0, 0, [0; PROCESSES]);
            }
            if !goes_on || of.decided {
                (of.accepted, of.accept_lists) = (0, 0);
            }
        }
    }
}

impl State {
    fn attempt(&self, name: u8) -> &Attempt {
        self.attempts.iter().find(|attempt| attempt.name == name).expect("an attempt that was begun")
    }

    fn attempt_mut(&mut self, name: u8) -> &mut Attempt {
        self.attempts.iter_mut().find(|attempt| attempt.name == name).expect("an attempt that was begun")
    }

    fn one_value(&self) -> bool {
        let mut decided = self.attempts.iter().filter(|attempt| attempt.decided).map(|attempt| attempt.value);
        let first = decided.next();
        decided.all(|value| Some(value) == first)
    }
}

impl Model for Vote {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            up: (1 << self.sites.len()) - 1,
            promised: [0; PROCESSES],
            accepted: [(0, 0); PROCESSES],
            attempts: Vec::new(),
            crashes: self.crashes,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for rank in (0..self.sites.len()).filter(|rank| state.up & 1 << rank != 0) {
            let process = rank as u8;
            if state.crashes > 0 {
                actions.push(Action::Crash { process });
            }
            if state.attempts.len() < self.attempts {
                actions.push(Action::Start { proposer: process });
            }
            for of in &state.attempts {
                let attempt = of.name;
                for lists in [false, true] {
                    if lists && !self.mate_is_dead(state, rank) {
                        continue;
                    }
                    if state.promised[rank] <= attempt && of.value == 0 {
                        actions.push(Action::Prepare { process, attempt, lists });
                    }
                    if state.promised[rank] <= attempt && of.value != 0 {
                        actions.push(Action::Accept { process, attempt, lists });
                    }
                }
                // A late PREPARE: nobody waits for the answer, but it binds.
                if state.promised[rank] < attempt && of.value != 0 {
                    actions.push(Action::Prepare { process, attempt, lists: false });
                }
            }
        }
        for of in &state.attempts {
            if self.active(state, of).is_none() {
                continue;
            }
            if of.value == 0 {
                for answers in (1..=of.promised).filter(|answers| answers & !of.promised == 0) {
                    if self.counts(state, answers, of.promise_lists) {
                        actions.push(Action::Form { attempt: of.name, answers });
                    }
                }
            } else if !of.decided && self.counts(state, of.accepted, of.accept_lists) {
                actions.push(Action::Decide { attempt: of.name });
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.apply(&mut next, action);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ONE_VALUE, |_, s: &State| s.one_value()),
            Property::always(COMPLETES, |m: &Vote, s: &State| m.completes(s)),
            Property::sometimes("a value is decided", |_, s: &State| s.attempts.iter().any(|a| a.decided)),
            Property::sometimes("a list completes a vote", |_, s: &State| {
                s.attempts.iter().any(|a| a.accept_lists != 0)
            }),
        ];
        if self.attempts > 1 {
            properties.push(Property::sometimes("a value is proposed again", |_, s: &State| {
                s.attempts.iter().any(|a| a.value != 0 && a.value != a.name)
            }));
        }
        properties
    }
}
