//! Runs the checker over a model and says what it found.
//!
//! The search is breadth-first with one thread, so the counts of a whole search are the same each time. States are told
//! apart by 64-bit fingerprints; among 20 million the chance that two are taken for one is about one in 100,000. Every property is an invariant (`always`) or says that something interesting happens at all (`sometimes`, against
//! models that hold because nothing can happen in them). Properties of the `eventually` kind are not used: the checker does
//! not see cycles. That a change can always complete is an invariant instead: from every state an undisturbed continuation,
//! built of the model's own actions, leads to the end.

use stateright::{Checker, Expectation, HasDiscoveries, Model};
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// What a search found.
#[derive(Debug)]
pub struct Report {
    /// The model with its bounds.
    pub name: String,
    /// Distinct states.
    pub states: usize,
    /// The most steps from a beginning.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// No state within the bounds was left out.
    pub exhausted: bool,
    /// Invariants that do not hold, each with the actions that lead there.
    pub violated: Vec<(&'static str, Vec<String>)>,
    /// What never happened, although it should be possible.
    pub never: Vec<&'static str>,
}

impl Report {
    /// The actions that violate a property; `None`: it holds.
    pub fn counterexample(&self, property: &str) -> Option<&[String]> {
        self.violated.iter().find(|(name, _)| *name == property).map(|(_, path)| path.as_slice())
    }

    /// All states were seen, every invariant holds in them, and all that should be possible was seen.
    pub fn holds(&self) -> bool {
        self.exhausted && self.violated.is_empty() && self.never.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} states, depth {}, {:.1} s{}",
            self.name,
            self.states,
            self.depth,
            self.took.as_secs_f64(),
            if self.exhausted { ", all of them" } else { "" }
        )?;
        for (property, path) in &self.violated {
            write!(f, "\n  violated: {property}, after {} steps:", path.len())?;
            for step in path {
                write!(f, "\n    {step}")?;
            }
        }
        for property in &self.never {
            write!(f, "\n  never: {property}")?;
        }
        Ok(())
    }
}

/// The most states of one search: what a machine with 8 GiB can hold.
const MOST_STATES: usize = 40_000_000;

/// Searches all states of a model. With `until` it ends at the first counterexample to that property.
pub fn search<M>(name: String, model: M, until: Option<&'static str>) -> Report
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Debug + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq + Send + Sync + 'static,
{
    let began = Instant::now();
    let properties: Vec<_> = model.properties().iter().map(|p| (p.name, p.expectation.clone())).collect();
    let finish = match until {
        Some(property) => HasDiscoveries::AnyOf([property].into()),
        None => HasDiscoveries::AllFailures,
    };
    let checker = model.checker().target_state_count(8 * MOST_STATES).finish_when(finish).spawn_bfs().join();
    let found = checker.discoveries();
    let mut report = Report {
        name,
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: began.elapsed(),
        exhausted: until.is_none() && checker.state_count() < 8 * MOST_STATES,
        violated: Vec::new(),
        never: Vec::new(),
    };
    for (name, expectation) in properties {
        match (found.get(name), expectation) {
            (None, Expectation::Sometimes) => report.never.push(name),
            (Some(path), Expectation::Always) => {
                let holds = checker.model().property(name).condition;
                let mut steps = Vec::new();
                // The checker may have gone on a little beyond the first state that violates it.
                for (state, action) in path.clone().into_vec() {
                    if !holds(checker.model(), &state) {
                        break;
                    }
                    steps.extend(action.map(|action| format!("{action:?}")));
                }
                report.violated.push((name, steps));
            }
            _ => {}
        }
    }
    report
}
