//! Planted bugs of the engine, compiled in only for this crate (`mutants` is a feature of isis-protocol that no other
//! crate enables): how the tests and `isis-sim` name them and switch them on, which seed shows each, and the table of them.

use crate::checker;
use crate::sim::plan::Options;
use crate::sim::run::{Report, Run};
pub use isis_protocol::mutants::{ALL, Mutant, Planted, by_name};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::catch_unwind;

/// A bug has to be caught within so many seeds, from 1 on.
pub const SEEDS: u64 = 2000;

/// The first seed that shows each bug by the property that it is planted against: where the search begins, so that it is
/// short. `isis-sim --first-seeds` prints this table anew; one that is out of date costs time and nothing else. `None`: no
/// seed is known; the schedule that the bug needs stands as a story in `tests/tests/rules.rs`, or as a script in
/// `tests/tests/mutants.rs`, which fails with it.
pub const FIRST_SEEDS: &[(&str, Option<u64>)] = &[
    ("window-stops-control", Some(20)),
    ("leaves-before-sends", Some(30)),
    ("causal-within-group-only", Some(1)),
    ("appends-while-frozen", Some(6)),
    ("frozen-row-moves", None),
    ("proposes-afresh", Some(111)),
    ("unfinished-hides-control", None),
    ("forgets-old-view", Some(108)),
    ("evicted-falls-silent", None),
    ("group-suspects", Some(13)),
    ("one-votes-for-site", None),
    ("admits-all-sites", None),
    ("founds-alone", Some(1)),
    ("forgets-pledge", Some(952)),
    ("gives-way-unadmitted", None),
    ("trusts-address", Some(9)),
    ("ends-with-founder", Some(34)),
    ("causal-uncovered", Some(7)),
    ("total-unordered", Some(3)),
    ("safe-unstable", Some(208)),
    ("tail-after-view", Some(119)),
    ("delivers-unmarked", Some(73)),
    ("relays-unsafe", None),
    ("joiner-unmarked", Some(238)),
    ("repeats-own", Some(6)),
    ("cut-too-low", Some(175)),
    ("joiner-ranks-first", Some(1)),
    ("flush-returns-early", Some(119)),
    ("state-too-early", Some(13)),
    ("global-too-soon", Some(7)),
    ("tells-old-rank", Some(5)),
    ("keeps-number", Some(6)),
    ("overtakes-state", Some(6)),
    ("stable-undated", None),
    ("piece-too-early", Some(3)),
    ("dirty-buffer", Some(5)),
    ("sends-untold", Some(107)),
    ("overtakes-waiting", Some(13)),
    ("total-as-fifo", Some(7)),
    ("batch-overtakes-held", Some(56)),
    ("unicast-uncovered", Some(7)),
    ("total-undated", Some(7)),
    ("stable-at-one", Some(16)),
    ("goes-on-without", Some(9)),
    ("any-half", Some(4)),
    ("never-suspects", Some(2)),
    ("hint-excludes", None),
    ("tail-unseen", Some(29)),
    ("forgets-unfinished", Some(13)),
    ("safe-by-one", Some(5)),
    ("flush-forgets-followed", None),
    ("flush-by-one", Some(1)),
    ("keeps-cut-off", Some(393)),
    ("gossip-forgets-last", Some(37)),
    ("never-stalls", None),
    ("multi-undecided", Some(26)),
    ("never-settles", None),
    ("settles-by-first", None),
    ("answers-unfrozen", None),
    ("finals-untold", None),
    ("pending-untold", None),
    ("final-by-group", Some(110)),
    ("starts-apart", None),
    ("forgets-other-groups", Some(110)),
    ("orders-unasked", Some(10)),
    ("handover-forgets", Some(26)),
    ("handover-unstable", None),
    ("priority-undecided", Some(7)),
];

/// A bug that is on for this thread until this is dropped, also by a panic.
#[derive(Debug)]
pub struct Switched(());

impl Switched {
    /// Switches a bug on.
    pub fn on(mutant: Mutant) -> Switched {
        isis_protocol::mutants::set(Some(mutant));
        Switched(())
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        isis_protocol::mutants::set(None);
    }
}

/// The story passes; with the rule taken out it fails, and says `expected`.
pub fn shows(rule: u8, mutant: Mutant, expected: &str, story: fn()) {
    let planted = ALL.iter().find(|planted| planted.mutant == mutant);
    assert_eq!(planted.and_then(|planted| planted.rule), Some(rule), "the planted bug takes another rule out");
    story();
    let switched = Switched::on(mutant);
    let outcome = catch_unwind(story);
    drop(switched);
    let Err(panic) = outcome else { panic!("the story does not notice that R{rule} is gone") };
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string())).unwrap_or_default();
    assert!(text.contains(expected), "R{rule} is gone, and it shows in another way than by {expected:?}:\n{text}");
}

/// What the runs that look for planted bugs are drawn from: `isis-sim --members 3-7`.
pub fn options() -> Options {
    Options { members: 3..=7, ..Options::default() }
}

/// Runs a seed with the bug.
pub fn run(planted: &Planted, seed: u64) -> Report {
    let _switched = Switched::on(planted.mutant);
    Run::execute(seed, &options())
}

/// The properties that a run reports as broken.
pub fn broken(report: &Report) -> BTreeSet<u8> {
    report.violations.iter().map(|violation| violation.property).collect()
}

/// The first of these seeds with which the bug breaks the property that it is planted against.
pub fn search(planted: &Planted, seeds: impl IntoIterator<Item = u64>) -> Option<u64> {
    seeds.into_iter().find(|&seed| broken(&run(planted, seed)).contains(&planted.property))
}

/// The seed that is known to show the bug.
pub fn first_seed(planted: &Planted) -> Option<u64> {
    FIRST_SEEDS.iter().find(|(name, _)| *name == planted.name).and_then(|(_, seed)| *seed)
}

/// No seed is known to show the bug: a story or a script does.
pub fn needs_a_story(planted: &Planted) -> bool {
    FIRST_SEEDS.iter().any(|(name, seed)| *name == planted.name && seed.is_none())
}

/// The bugs by the property that they are planted against: guarantees and rules side by side.
fn by_property() -> Vec<(&'static checker::Property, &'static Planted)> {
    let mut all: Vec<_> =
        ALL.iter().filter_map(|p| checker::property(p.property).map(|property| (property, p))).collect();
    all.sort_by_key(|(property, planted)| (property.number, planted.rule));
    all
}

/// All bugs, one a line: property, its function, the bug, and the rule if it takes one out.
pub fn list() -> String {
    let mut text = String::new();
    for (property, planted) in by_property() {
        let rule = planted.rule.map_or(String::new(), |rule| format!("[R{rule}]"));
        let (number, name, function, bug) = (property.number, property.name, property.function, planted.name);
        let _ = writeln!(text, "{number:2} {name:40} {function:31} {bug:25} {rule:6} {}", planted.what);
    }
    text
}

/// The same as a table for `docs/verification.md`, with the seed that shows each.
pub fn markdown() -> String {
    let mut text =
        "| | Property | Planted bug | Rule | What it does | Caught by seed |\n|---|---|---|---|---|---|\n".to_string();
    for (property, planted) in by_property() {
        let rule = planted.rule.map_or(String::new(), |rule| format!("R{rule}"));
        let script = if planted.rule.is_some() { "a story in `rules`" } else { "a script in `mutants`" };
        let seed = first_seed(planted).map_or(script.to_string(), |seed| seed.to_string());
        let (number, function, bug) = (property.number, property.function, planted.name);
        let _ = writeln!(text, "| {number} | `{function}` | `{bug}` | {rule} | {} | {seed} |", planted.what);
    }
    text
}
