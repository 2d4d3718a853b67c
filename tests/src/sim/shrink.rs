//! Makes the run of a seed that fails as small as it can, with the same property still failing.
//!
//! Purpose: a trace that a person can read. Delta debugging (Zeller & Hildebrandt, *Simplifying and Isolating
//! Failure-Inducing Input*, 2002) over [`super::reduce`]: whole classes of faults first, then processes, then the steps in
//! halves, quarters, and one by one, then messages and time; again, until nothing more can go.
//! Owner: the simulator's program or a test. Invariant: deterministic: the same seed, options and code give the same list.

use super::faults::Step;
use super::plan::{Options, Plan};
use super::reduce::{Reduction, TRAITS};
use super::run::{Report, Run};
use isis_protocol::time::MILLISECOND;

/// The most runs that one search takes.
const MOST_RUNS: usize = 600;

/// What a failing run is known by: the first property that it breaks, or the panic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// A property's number.
    Property(u8),
    /// The engine panicked.
    Panic,
}

impl Failure {
    /// How the run failed, if it did.
    pub fn of(report: &Report) -> Option<Failure> {
        if report.panicked.is_some() {
            return Some(Failure::Panic);
        }
        report.violations.first().map(|violation| Failure::Property(violation.property))
    }

    fn is_in(&self, report: &Report) -> bool {
        match self {
            Failure::Panic => report.panicked.is_some(),
            Failure::Property(number) => report.violations.iter().any(|violation| violation.property == *number),
        }
    }
}

/// The smallest run that was found.
#[derive(Debug)]
pub struct Shrunk {
    /// What all its runs have in common.
    pub failure: Failure,
    /// What was taken out of the plan.
    pub reductions: Vec<Reduction>,
    /// What is left of it.
    pub plan: Plan,
    /// The last run that failed.
    pub report: Report,
    /// How many runs the search took.
    pub runs: usize,
}

impl Shrunk {
    /// How many processes are left.
    pub fn processes(&self) -> usize {
        self.steps().filter(|step| matches!(step, Step::Start(_))).count()
    }

    /// How many faults are left that are steps.
    pub fn faults(&self) -> usize {
        self.steps().filter(|step| !matches!(step, Step::Start(_))).count()
    }

    fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        self.plan.steps.iter().filter(|planned| planned.at_ns < self.plan.heal_ns).map(|planned| planned.step)
    }
}

struct Search<'a> {
    seed: u64,
    options: &'a Options,
    failure: Failure,
    kept: Vec<Reduction>,
    report: Report,
    runs: usize,
}

/// Shrinks the run of a seed; `None` if it does not fail.
pub fn shrink(seed: u64, options: &Options) -> Option<Shrunk> {
    let report = Run::execute(seed, options);
    let failure = Failure::of(&report)?;
    let mut search = Search { seed, options, failure, kept: options.reductions.clone(), report, runs: 1 };
    loop {
        let before = search.kept.len();
        search.traits();
        search.processes();
        search.steps();
        search.messages();
        search.time();
        if search.kept.len() == before || search.runs >= MOST_RUNS {
            break;
        }
    }
    let plan = search.plan();
    let Search { failure, kept, report, runs, .. } = search;
    Some(Shrunk { failure, reductions: kept, plan, report, runs })
}

impl Search<'_> {
    fn plan(&self) -> Plan {
        Run::new(self.seed, self.with(&[])).plan().clone()
    }

    fn with(&self, more: &[Reduction]) -> Options {
        let reductions = self.kept.iter().chain(more).copied().collect();
        Options { reductions, ..self.options.clone() }
    }

    /// Keeps the reductions if the run still fails alike.
    fn try_out(&mut self, more: &[Reduction]) -> bool {
        if self.runs >= MOST_RUNS {
            return false;
        }
        self.runs += 1;
        let report = Run::execute(self.seed, &self.with(more));
        let alike = self.failure.is_in(&report);
        if alike {
            self.kept.extend(more);
            self.report = report;
        }
        alike
    }

    fn traits(&mut self) {
        let left: Vec<Reduction> =
            TRAITS.iter().map(|(which, _)| Reduction::No(*which)).filter(|no| !self.kept.contains(no)).collect();
        self.halve(&left);
    }

    fn processes(&mut self) {
        for process in (0..self.plan().places.len()).rev() {
            let gone = Reduction::Process(process);
            let left =
                self.plan().steps.iter().filter(|s| matches!(s.step, Step::Start(_)) && s.at_ns < u64::MAX).count();
            if left > 1 && !self.kept.contains(&gone) {
                self.try_out(&[gone]);
            }
        }
    }

    fn steps(&mut self) {
        let plan = self.plan();
        let is_left = |number: &usize| {
            let planned = &plan.steps[*number];
            planned.at_ns < plan.heal_ns && !matches!(planned.step, Step::Start(_))
        };
        let left: Vec<Reduction> = (0..plan.steps.len()).filter(is_left).map(Reduction::Step).collect();
        self.halve(&left);
    }

    /// Tries to do without all of these, then without either half of them, and so on.
    fn halve(&mut self, these: &[Reduction]) {
        if these.is_empty() || self.try_out(these) || these.len() == 1 {
            return;
        }
        let (first, second) = these.split_at(these.len() / 2);
        self.halve(first);
        self.halve(second);
    }

    fn messages(&mut self) {
        self.bisect(self.plan().profile.budget.into(), |most| Reduction::Budget(most as u32));
    }

    fn time(&mut self) {
        // The faults go on for as long as processes are started.
        let plan = self.plan();
        let starts = plan.steps.iter().filter(|s| matches!(s.step, Step::Start(_)) && s.at_ns < plan.heal_ns);
        let least = starts.map(|planned| planned.at_ns / MILLISECOND + 1).max();
        self.bisect_from(plan.heal_ns / MILLISECOND, least, Reduction::Until);
    }

    /// Finds a small number that still fails, by halving the distance to the last one that did not.
    fn bisect(&mut self, from: u64, reduction: impl Fn(u64) -> Reduction) {
        self.bisect_from(from, None, reduction);
    }

    /// The same; numbers up to `passes` are not tried.
    fn bisect_from(&mut self, from: u64, mut passes: Option<u64>, reduction: impl Fn(u64) -> Reduction) {
        let mut fails = from;
        while let Some(next) = passes.map_or(Some(fails / 2), |p: u64| (fails > p + 1).then(|| p + (fails - p) / 2)) {
            if next == fails {
                return;
            }
            let name = std::mem::discriminant(&reduction(0));
            let before = self.kept.clone();
            self.kept.retain(|kept| std::mem::discriminant(kept) != name);
            if self.try_out(&[reduction(next)]) {
                fails = next;
            } else {
                self.kept = before;
                passes = Some(next);
            }
            if fails == 0 || self.runs >= MOST_RUNS {
                return;
            }
        }
    }
}
