//! A run that fails is made small, and stays the same failure.

use isis_tests::mutants::{Mutant, Switched};
use isis_tests::sim::plan::Options;
use isis_tests::sim::run::Run;
use isis_tests::sim::shrink::{Failure, shrink};

fn options() -> Options {
    Options { members: 3..=7, ..Options::default() }
}

/// The first seed that shows a planted bug.
fn failing(mutant: Mutant) -> (Switched, u64) {
    let switched = Switched::on(mutant);
    let seed = (1..200).find(|seed| Run::execute(*seed, &options()).failed()).expect("some seed shows the bug");
    (switched, seed)
}

/// ABCASTs delivered as they come: three members at most are enough to see it, with next to no faults, and that is what is
/// left. (A bug that needs more of a schedule than that may leave more of it, and which seed shows it first changes.)
#[test]
fn a_bug_that_needs_few_faults() {
    let (_on, seed) = failing(Mutant::TotalUnordered);
    let small = shrink(seed, &options()).expect("the seed fails");
    let Failure::Property(property) = small.failure else { panic!("no property is broken: {:?}", small.failure) };
    assert!(small.report.violations.iter().any(|violation| violation.property == property));
    assert!(small.processes() <= 3, "{} processes:\n{}", small.processes(), small.plan.text());
    assert!(small.faults() <= 1, "{} faults:\n{}", small.faults(), small.plan.text());
    assert!(small.plan.profile.budget <= 10, "{}", small.plan.text());
    let whole = Run::execute(seed, &options());
    let records = |report: &isis_tests::sim::run::Report| report.world.records.trace.records.len();
    assert!(records(&small.report) < records(&whole), "{} of {}", records(&small.report), records(&whole));
}

/// The list of reductions, as text, replays the very run; and the search finds the same list each time.
#[test]
fn the_shrunk_run_is_replayed() {
    let (_on, seed) = failing(Mutant::JoinerRanksFirst);
    let small = shrink(seed, &options()).expect("the seed fails");
    let text = isis_tests::sim::reduce::text(&small.reductions);
    let reductions = text.split(',').map(|part| part.parse().expect("it reads what it writes")).collect();
    let again = Run::execute(seed, &Options { reductions, ..options() });
    assert_eq!(again.world.records.trace.digest(), small.report.world.records.trace.digest());
    assert_eq!(shrink(seed, &options()).expect("the seed fails").reductions, small.reductions);
}

/// There is nothing to shrink where nothing fails.
#[test]
fn a_good_seed_is_left_alone() {
    assert!(shrink(1, &options()).is_none());
}
