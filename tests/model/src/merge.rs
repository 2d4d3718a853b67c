//! R13: two systems, founded apart, meet. The younger gives way, a stalled one always does, and each process only after the
//! other system has admitted it.
//!
//! Processes 0 and 1 make the older system, 2 and 3 the younger one, each on a site of its own; process 4 is new and looks for
//! a system. The agreement inside a system is one step here (see [`crate::agreement`] for it): a view is decided when those
//! members of the present one that are up and have not given way are a quorum of it.
//!
//! | Action | In `engine/protocol` |
//! |---|---|
//! | [`Action::Hear`] | `Endpoint::on_found` in a member, which asks the other system to admit it |
//! | [`Action::Find`] | `Endpoint::on_found` in a process without a system |
//! | [`Action::Admit`] | a system view with that process, which answers as a joiner (`answer_elsewhere`) |
//! | [`Action::Exclude`] | a system view without those that are dead or have given way |
//! | [`Action::GiveWay`] | `is_admission_elsewhere`, `give_way`; for a new process: it is in |
//! | [`Action::Crash`] | |
//!
//! A view admits one process, and the next view waits until that one has learned of it (more at a time are for R11, which
//! bounds them).
//!
//! Where nobody dies on the way this holds in every state. **With one death at the wrong moment it does not**: of two systems
//! of two the older one loses a process and admits another one; until that one answers it has no quorum, so its oldest asks
//! the younger system, and is admitted there too; then each has given way to the other. R13 says nothing of what was asked
//! while it had a reason and is answered when it has none any more. The case is kept, as a limit of the rule.
//!
//! What is heard of a system may be old: that it has a quorum is still being told when it has lost it.

use stateright::{Model, Property};

/// How many processes.
pub const PROCESSES: usize = 5;
const OLDER: usize = 0;
const SYSTEMS: usize = 2;
/// The process that looks for a system.
const NEW: usize = 4;

/// What is different from R13 as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rules {
    /// Nothing.
    AsWritten,
    /// A process leaves its system as soon as it asks the other one.
    GivesWayUnadmitted,
    /// Either system gives way to the other one, whichever is older.
    BothGiveWay,
    /// A stalled system gives way to younger ones as little as any other.
    StalledStays,
    /// A process that looks for a system joins the oldest, stalled or not.
    JoinsStalled,
}

/// How it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beginning {
    /// Both systems have their quorum.
    BothAlive,
    /// The oldest process of the older system has just died: what is left of it is no quorum.
    OlderStalled,
    /// The same of the younger one.
    YoungerStalled,
}

/// A step. Systems: 0 is the older one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A member hears of the other system, and asks it.
    Hear {
        /// Who.
        process: u8,
        /// What it hears was said while that system had a quorum.
        alive: bool,
    },
    /// The new process takes a system that it hears of for its own to be.
    Find {
        /// Which.
        system: u8,
    },
    /// A system admits a process that asked.
    Admit {
        /// Which.
        system: u8,
        /// Whom.
        process: u8,
    },
    /// A system excludes who is not there any more.
    Exclude {
        /// Which.
        system: u8,
    },
    /// A process learns that the system that it asked has admitted it.
    GiveWay {
        /// Who.
        process: u8,
    },
    /// A process dies.
    Crash {
        /// Who.
        process: u8,
    },
}

/// A process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Process {
    /// It runs.
    pub up: bool,
    /// The system that it is in.
    pub system: Option<u8>,
    /// The system that it asked to admit it.
    pub asked: Option<u8>,
    /// That one did.
    pub admitted: bool,
}

/// Everything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// By number.
    pub processes: [Process; PROCESSES],
    /// The present view of each system, oldest first.
    pub views: [Vec<u8>; SYSTEMS],
    /// The system had a quorum at some time, and said so.
    pub was_alive: [bool; SYSTEMS],
    /// How many may still die.
    pub crashes: u8,
}

/// The model with its bounds.
#[derive(Clone, Debug)]
pub struct Merge {
    /// How it begins.
    pub beginning: Beginning,
    /// How many may die on the way.
    pub crashes: u8,
    /// What is taken out.
    pub rules: Rules,
}

/// Undisturbed, there is in the end a system with a quorum.
pub const SOMEBODY_LEFT: &str = "a system is left";
/// Undisturbed, all processes that are up come together in one system.
pub const COME_TOGETHER: &str = "all come together";

impl Merge {
    /// What the report calls it.
    pub fn name(&self) -> String {
        let Merge { beginning, crashes, rules } = self;
        format!("merge: {beginning:?}, {crashes} crash(es) on the way, {rules:?}")
    }

    /// Whether a member of `own` asks `other`, of which it hears that it has a quorum, or has not.
    fn asks(&self, state: &State, own: u8, other: u8, alive: bool) -> bool {
        let older = other < own;
        let stalled = !state.has_quorum(usize::from(own));
        match self.rules {
            Rules::BothGiveWay => alive,
            Rules::StalledStays => alive && older,
            _ => alive && (older || stalled),
        }
    }

    fn apply(&self, state: &mut State, action: Action) {
        match action {
            Action::Hear { process, .. } => {
                let here = &mut state.processes[usize::from(process)];
                here.asked = here.system.map(|own| 1 - own);
                if self.rules == Rules::GivesWayUnadmitted {
                    here.system = None;
                }
            }
            Action::Find { system } => state.processes[NEW].asked = Some(system),
            Action::Admit { system, process } => {
                state.views[usize::from(system)].push(process);
                state.processes[usize::from(process)].admitted = true;
            }
            Action::Exclude { system } => {
                let stays: Vec<u8> = state.there(usize::from(system)).collect();
                let admitted = |p: &u8| state.is_on_its_way(*p, system);
                let kept = state.views[usize::from(system)].iter().copied();
                state.views[usize::from(system)] = kept.filter(|p| stays.contains(p) || admitted(p)).collect();
            }
            Action::GiveWay { process } => {
                let here = &mut state.processes[usize::from(process)];
                here.system = here.asked.take();
                here.admitted = false;
            }
            Action::Crash { process } => {
                state.crashes -= 1;
                state.processes[usize::from(process)] = Process::default();
            }
        }
        for system in 0..SYSTEMS {
            state.was_alive[system] |= state.has_quorum(system);
        }
    }

    /// Everybody hears of what is the case now; everybody who can be admitted is; everybody is told; until nothing changes.
    fn undisturbed(&self, state: &State) -> State {
        let mut end = state.clone();
        for _ in 0..4 * PROCESSES {
            let before = end.clone();
            let mut possible = Vec::new();
            self.actions(&end, &mut possible);
            let now = |action: &Action| match *action {
                Action::Crash { .. } => false,
                // What is old news is heard no more.
                Action::Hear { process, alive } => {
                    let own = end.processes[usize::from(process)].system;
                    own.is_some_and(|own| alive == end.has_quorum(usize::from(1 - own)))
                }
                Action::Find { system } => {
                    let told = |s: u8| self.rules == Rules::JoinsStalled || end.has_quorum(usize::from(s));
                    (0..SYSTEMS as u8).find(|&s| told(s) && !end.views[usize::from(s)].is_empty()) == Some(system)
                }
                _ => true,
            };
            // Those who were admitted learn it first, then the views follow.
            let order = |action: &Action| match action {
                Action::GiveWay { .. } => 0,
                Action::Admit { .. } => 1,
                Action::Exclude { .. } => 2,
                _ => 3,
            };
            possible.retain(now);
            possible.sort_by_key(order);
            for action in possible {
                let mut next = end.clone();
                self.apply(&mut next, action);
                if next != end {
                    end = next;
                    break;
                }
            }
            if end == before {
                break;
            }
        }
        end
    }

    fn all_come_together(&self, state: &State) -> bool {
        let end = self.undisturbed(state);
        let mut systems = end.processes.iter().filter(|p| p.up).map(|p| p.system);
        let first = systems.next().flatten();
        first.is_some_and(|system| end.has_quorum(usize::from(system))) && systems.all(|system| system == first)
    }
}

impl State {
    /// Who of a system's present view is up and in it.
    fn there(&self, system: usize) -> impl Iterator<Item = u8> {
        self.views[system].iter().copied().filter(move |&p| {
            let process = &self.processes[usize::from(p)];
            process.up && process.system == Some(system as u8)
        })
    }

    /// Admitted, but it does not know yet.
    fn is_on_its_way(&self, process: u8, system: u8) -> bool {
        let process = &self.processes[usize::from(process)];
        process.up && process.admitted && process.asked == Some(system)
    }

    /// Somebody of the present view has not yet learned that it was admitted: it does not answer, and is waited for.
    fn awaits(&self, system: usize) -> bool {
        self.views[system].iter().any(|&process| self.is_on_its_way(process, system as u8))
    }

    /// More than half of the present view, or half with its oldest.
    pub fn has_quorum(&self, system: usize) -> bool {
        let there = self.there(system).count();
        let oldest = self.views[system].first().is_some_and(|oldest| self.there(system).any(|p| p == *oldest));
        2 * there > self.views[system].len() || (2 * there == self.views[system].len() && oldest)
    }
}

impl Model for Merge {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let member = |system| Process { up: true, system: Some(system), asked: None, admitted: false };
        let new = Process { up: true, system: None, asked: None, admitted: false };
        let mut state = State {
            processes: [member(0), member(0), member(1), member(1), new],
            views: [vec![0, 1], vec![2, 3]],
            was_alive: [true; SYSTEMS],
            crashes: self.crashes,
        };
        match self.beginning {
            Beginning::BothAlive => {}
            Beginning::OlderStalled => state.processes[0] = Process::default(),
            Beginning::YoungerStalled => state.processes[2] = Process::default(),
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (number, process) in state.processes.iter().enumerate() {
            let here = number as u8;
            if !process.up {
                continue;
            }
            if state.crashes > 0 {
                actions.push(Action::Crash { process: here });
            }
            if let Some(own) = process.system {
                let other = 1 - own;
                let told = |alive: bool| if alive { state.was_alive[usize::from(other)] } else { true };
                for alive in [false, true] {
                    if process.asked.is_none() && told(alive) && self.asks(state, own, other, alive) {
                        actions.push(Action::Hear { process: here, alive });
                    }
                }
            } else if number == NEW {
                for system in (0..SYSTEMS as u8).filter(|s| !process.admitted && process.asked != Some(*s)) {
                    if state.was_alive[usize::from(system)] || self.rules == Rules::JoinsStalled {
                        actions.push(Action::Find { system });
                    }
                }
            }
            if let Some(asked) = process.asked {
                if process.admitted {
                    actions.push(Action::GiveWay { process: here });
                } else if !state.views[usize::from(asked)].contains(&here)
                    && state.has_quorum(usize::from(asked))
                    && !state.awaits(usize::from(asked))
                {
                    actions.push(Action::Admit { system: asked, process: here });
                }
            }
        }
        for system in 0..SYSTEMS {
            let gone = state.views[system]
                .iter()
                .any(|p| !state.there(system).any(|q| q == *p) && !state.is_on_its_way(*p, system as u8));
            if gone && state.has_quorum(system) {
                actions.push(Action::Exclude { system: system as u8 });
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
            Property::always(SOMEBODY_LEFT, |m: &Merge, s: &State| {
                let end = m.undisturbed(s);
                (0..SYSTEMS).any(|system| end.has_quorum(system))
            }),
            Property::always(COME_TOGETHER, |m: &Merge, s: &State| m.all_come_together(s)),
            Property::sometimes("a member gives way", |_, s: &State| {
                s.processes[..NEW].iter().enumerate().any(|(n, p)| p.system == Some(u8::from(n < 2)))
            }),
            Property::sometimes("the new process is in", |_, s: &State| s.processes[NEW].system.is_some()),
        ];
        if self.beginning == Beginning::BothAlive {
            properties.push(Property::sometimes("the younger system is gone", |_, s: &State| {
                s.processes.iter().filter(|p| p.up).all(|p| p.system == Some(OLDER as u8))
            }));
        }
        properties
    }
}
