//! R12: a cluster whose sites know how many they are to be founds one system, whatever restarts and is parted.
//!
//! Founding is the agreement on view 1, of which nobody is a member before. Its voters are the expected sites. What a site has
//! pledged and accepted is its own, not a process's: it is on its disk before it is answered, and the processes that come later
//! inherit it. What a founder has collected is its process's, and lost with it. A value is the attempt that formed it: two
//! values are two systems.
//!
//! | Action | In `engine/protocol` |
//! |---|---|
//! | [`Action::Start`] | `Founder::new`, with the own site's pledge |
//! | [`Action::Pledge`] | `founding::acceptor::apply` with `RecordOperation::Pledge`; the record is durable before the answer |
//! | [`Action::Form`] | `Founder::step` in its first phase: the accepted system of the highest ballot, or a new one |
//! | [`Action::Accept`] | `founding::acceptor::apply` with `RecordOperation::Accept` |
//! | [`Action::Found`] | `Founder::step`: `Step::Decided` |
//! | [`Action::Restart`] | the site's process (or host) is replaced: its memory is lost, the disk is not |
//! | [`Action::Write`] | only with [`Rules::AnswersUnwritten`]: what was answered gets to the disk |
//! | [`Action::TimeOut`] | only with [`Rules::PledgesTimeOut`] |
//!
//! The network is the set of all that was ever sent: messages are lost, late and repeated, and whoever never gets any is
//! parted. A site that goes down for good takes part in nothing more.
//!
//! One founding is modelled. That a cluster which lost its system for good may found another one, under the next number, and
//! what bars a site from which system then, is not.

use stateright::{Model, Property};

/// The most sites.
pub const SITES: usize = 4;
/// The most names under which sites can count.
const NAMES: usize = 12;

/// What is different from R12 as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rules {
    /// Nothing.
    AsWritten,
    /// What was pledged is in the process's memory only.
    ForgetsPledges,
    /// The answer goes out before the disk has it.
    AnswersUnwritten,
    /// A pledge holds for a while.
    PledgesTimeOut,
    /// More than half of the sites that were heard are enough.
    MajorityOfSeen,
    /// Half of the expected sites are enough.
    HalfOfExpected,
    /// A site is named by its boot: after a restart of the host it is another one, with nothing pledged.
    SitesNamedByBoot,
}

/// A step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A founder begins.
    Start {
        /// Where.
        site: u8,
    },
    /// A site pledges.
    Pledge {
        /// Which.
        site: u8,
        /// The attempt's name.
        attempt: u8,
    },
    /// The founder forms its value of these pledges.
    Form {
        /// The attempt's name.
        attempt: u8,
        /// By the names that count.
        answers: u16,
    },
    /// A site accepts.
    Accept {
        /// Which.
        site: u8,
        /// The attempt's name.
        attempt: u8,
    },
    /// The founder counts enough acceptances.
    Found {
        /// The attempt's name.
        attempt: u8,
    },
    /// A site's process is replaced.
    Restart {
        /// Which.
        site: u8,
    },
    /// A site goes down for good.
    Crash {
        /// Which.
        site: u8,
    },
    /// A site's disk catches up.
    Write {
        /// Which.
        site: u8,
    },
    /// A site's pledge is too old.
    TimeOut {
        /// Which.
        site: u8,
    },
}

/// What a site has said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Record {
    /// The highest attempt pledged; 0: none.
    pub promised: u8,
    /// The attempt accepted last, 0: none, and the system.
    pub accepted: (u8, u8),
}

/// A site.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Site {
    /// Has a process.
    pub up: bool,
    /// What its process goes by.
    pub memory: Record,
    /// What a later process will go by.
    pub disk: Record,
    /// The attempt of its process; 0: none.
    pub own: u8,
    /// How often it was started again; only where that makes a difference.
    pub boots: u8,
}

/// An attempt with all answers that were ever sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attempt {
    /// Counter and founder.
    pub name: u8,
    /// Who pledged, by the names that count, and what each had accepted.
    pub pledged: u16,
    /// By the names that count.
    pub reported: [u8; NAMES],
    /// The system; 0: none yet.
    pub value: u8,
    /// Who accepted.
    pub accepted: u16,
    /// Enough did.
    pub founded: bool,
}

/// Everything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// By number.
    pub sites: [Site; SITES],
    /// By name.
    pub attempts: Vec<Attempt>,
    /// How many restarts there may still be.
    pub restarts: u8,
    /// How many sites may still go down for good.
    pub crashes: u8,
}

/// The model with its bounds.
#[derive(Clone, Debug)]
pub struct Founding {
    /// How many sites are expected; all of them exist.
    pub sites: usize,
    /// How many attempts there may be.
    pub attempts: usize,
    /// How many restarts.
    pub restarts: u8,
    /// How many sites may go down for good.
    pub crashes: u8,
    /// What is taken out.
    pub rules: Rules,
}

/// At most one system is founded.
pub const ONE_SYSTEM: &str = "one system";
/// While more than half of the expected sites are up, one more attempt founds a system.
pub const COMPLETES: &str = "founding can complete";

impl Founding {
    /// The bounds that every test searches.
    pub fn small(rules: Rules) -> Founding {
        Founding { sites: 3, attempts: 2, restarts: 2, crashes: 1, rules }
    }

    /// What the report calls it.
    pub fn name(&self) -> String {
        let Founding { sites, attempts, restarts, crashes, rules } = self;
        format!("founding: {sites} sites, {attempts} attempts, {restarts} restarts, {crashes} crash(es), {rules:?}")
    }

    fn enough(&self, answers: u16) -> bool {
        let count = answers.count_ones() as usize;
        match self.rules {
            // A founder that is parted has heard only those that answered.
            Rules::MajorityOfSeen => count > 0,
            Rules::HalfOfExpected => 2 * count >= self.sites,
            _ => 2 * count > self.sites,
        }
    }

    /// The name under which a site counts now.
    fn counts_as(&self, state: &State, site: usize) -> usize {
        match self.rules {
            Rules::SitesNamedByBoot => site + SITES * usize::from(state.sites[site].boots),
            _ => site,
        }
    }

    fn goes_on(&self, state: &State, attempt: &Attempt) -> bool {
        let founder = &state.sites[usize::from(attempt.name) % SITES];
        founder.up && founder.own == attempt.name && founder.memory.promised <= attempt.name
    }

    fn completes(&self, state: &State) -> bool {
        let up: Vec<u8> = (0..self.sites as u8).filter(|&site| state.sites[usize::from(site)].up).collect();
        if 2 * up.len() <= self.sites {
            return true;
        }
        let mut end = state.clone();
        self.apply(&mut end, Action::Start { site: up[0] });
        let attempt = end.attempts.iter().map(|attempt| attempt.name).max().unwrap_or(0);
        for &site in &up[1..] {
            self.apply(&mut end, Action::Pledge { site, attempt });
        }
        let answers = end.attempt(attempt).pledged;
        if !self.enough(answers) {
            return false;
        }
        self.apply(&mut end, Action::Form { attempt, answers });
        for &site in &up {
            self.apply(&mut end, Action::Accept { site, attempt });
        }
        self.enough(end.attempt(attempt).accepted)
    }

    fn apply(&self, state: &mut State, action: Action) {
        match action {
            Action::Start { site } => {
                let counter = state.attempts.iter().map(|attempt| attempt.name / SITES as u8).max().unwrap_or(0) + 1;
                let name = counter * SITES as u8 + site;
                let reported = [0; NAMES];
                state.attempts.push(Attempt { name, pledged: 0, reported, value: 0, accepted: 0, founded: false });
                state.sites[usize::from(site)].own = name;
                self.pledge(state, usize::from(site), name);
            }
            Action::Pledge { site, attempt } => self.pledge(state, usize::from(site), attempt),
            Action::Form { attempt, answers } => {
                let of = state.attempt(attempt);
                let highest = (0..NAMES).filter(|n| answers & 1 << n != 0).map(|n| of.reported[n]).max().unwrap_or(0);
                let value = if highest == 0 { attempt } else { state.attempt(highest).value };
                state.attempt_mut(attempt).value = value;
            }
            Action::Accept { site, attempt } => {
                let name = self.counts_as(state, usize::from(site));
                let of = state.attempt_mut(attempt);
                of.accepted |= 1 << name;
                let record = Record { promised: attempt, accepted: (attempt, of.value) };
                self.write(state, usize::from(site), record);
            }
            Action::Found { attempt } => state.attempt_mut(attempt).founded = true,
            Action::Restart { site } => {
                state.restarts -= 1;
                let here = &mut state.sites[usize::from(site)];
                here.own = 0;
                if self.rules == Rules::SitesNamedByBoot {
                    here.boots += 1;
                    here.disk = Record::default();
                }
                if self.rules == Rules::ForgetsPledges {
                    here.disk = Record::default();
                }
                here.memory = here.disk;
            }
            Action::Crash { site } => {
                state.crashes -= 1;
                let boots = state.sites[usize::from(site)].boots;
                state.sites[usize::from(site)] = Site { boots, ..Site::default() };
            }
            Action::Write { site } => {
                let here = &mut state.sites[usize::from(site)];
                here.disk = here.memory;
            }
            Action::TimeOut { site } => {
                let here = &mut state.sites[usize::from(site)];
                (here.memory.promised, here.disk.promised) = (0, 0);
            }
        }
        // What nobody can use any more makes no difference.
        for index in 0..state.attempts.len() {
            let goes_on = self.goes_on(state, &state.attempts[index]);
            let of = &mut state.attempts[index];
            if !goes_on || of.value != 0 {
                (of.pledged, of.reported) = (0, [0; NAMES]);
            }
            if !goes_on || of.founded {
                of.accepted = 0;
            }
        }
    }

    fn pledge(&self, state: &mut State, site: usize, attempt: u8) {
        let record = Record { promised: attempt, ..state.sites[site].memory };
        self.write(state, site, record);
        let name = self.counts_as(state, site);
        let of = state.attempt_mut(attempt);
        of.pledged |= 1 << name;
        of.reported[name] = record.accepted.0;
    }

    fn write(&self, state: &mut State, site: usize, record: Record) {
        let here = &mut state.sites[site];
        here.memory = record;
        if self.rules != Rules::AnswersUnwritten {
            here.disk = record;
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

    fn one_system(&self) -> bool {
        let mut systems = self.attempts.iter().filter(|attempt| attempt.founded).map(|attempt| attempt.value);
        let first = systems.next();
        systems.all(|system| Some(system) == first)
    }
}

impl Model for Founding {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut sites = [Site::default(); SITES];
        for site in &mut sites[..self.sites] {
            site.up = true;
        }
        vec![State { sites, attempts: Vec::new(), restarts: self.restarts, crashes: self.crashes }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for number in 0..self.sites {
            let site = number as u8;
            let here = &state.sites[number];
            if !here.up {
                continue;
            }
            if state.crashes > 0 {
                actions.push(Action::Crash { site });
            }
            if state.restarts > 0 {
                actions.push(Action::Restart { site });
            }
            if state.attempts.len() < self.attempts {
                actions.push(Action::Start { site });
            }
            if self.rules == Rules::AnswersUnwritten && here.disk != here.memory {
                actions.push(Action::Write { site });
            }
            if self.rules == Rules::PledgesTimeOut && here.memory.promised != 0 {
                actions.push(Action::TimeOut { site });
            }
            for of in &state.attempts {
                let attempt = of.name;
                let name = 1_u16 << self.counts_as(state, number);
                if here.memory.promised <= attempt && of.pledged & name == 0 {
                    actions.push(Action::Pledge { site, attempt });
                }
                if here.memory.promised <= attempt && of.value != 0 && of.accepted & name == 0 {
                    actions.push(Action::Accept { site, attempt });
                }
            }
        }
        for of in &state.attempts {
            if !self.goes_on(state, of) {
                continue;
            }
            if of.value == 0 {
                for answers in (1..=of.pledged).filter(|answers| answers & !of.pledged == 0 && self.enough(*answers)) {
                    actions.push(Action::Form { attempt: of.name, answers });
                }
            } else if !of.founded && self.enough(of.accepted) {
                actions.push(Action::Found { attempt: of.name });
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.apply(&mut next, action);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_SYSTEM, |_, s: &State| s.one_system()),
            Property::always(COMPLETES, |m: &Founding, s: &State| m.completes(s)),
            Property::sometimes("a system is founded", |_, s: &State| s.attempts.iter().any(|a| a.founded)),
            Property::sometimes("a later founder finds what was accepted", |_, s: &State| {
                s.attempts.iter().any(|a| a.value != 0 && a.value != a.name)
            }),
            Property::sometimes("a restarted site inherits", |m: &Founding, s: &State| {
                s.restarts < m.restarts && s.sites.iter().any(|site| site.own == 0 && site.memory.accepted.0 != 0)
            }),
        ]
    }
}
