//! Planted bugs: the checker catches each of them, by the guarantee that it violates, in seeded runs, or in a script
//! where seeds hardly ever meet the schedule that it needs. (Those that take a rule out have a named schedule each, in `rules`.)

use isis_protocol::event::Kind;
use isis_protocol::time::SECOND;
use isis_tests::checker;
use isis_tests::mutants::{self, Mutant, Switched};
use isis_tests::scenario::Scenario;
use isis_tests::sim::network::Verdict;
use isis_tests::sim::plan::Options;
use isis_tests::sim::run::Run;
use std::panic::catch_unwind;

/// One of the first so many seeds catches it.
fn caught(mutant: Mutant, seeds: u64) {
    let planted = mutants::ALL.iter().find(|planted| planted.mutant == mutant).expect("it is listed");
    let options = Options { members: 3..=7, ..Options::default() };
    let mut seen = Vec::new();
    for seed in 1..=seeds {
        let switched = Switched::on(mutant);
        let report = Run::execute(seed, &options);
        drop(switched);
        if report.violations.iter().any(|violation| violation.property == planted.property) {
            let calm = Run::execute(seed, &options);
            assert!(!calm.failed(), "seed {seed} fails without {} too:\n{}", planted.name, calm.text());
            return;
        }
        seen.extend(report.violations.iter().map(|violation| violation.property));
    }
    panic!(
        "{}: {seeds} seeds do not show that {} ({}) is broken; they show {seen:?}",
        planted.name,
        planted.property,
        checker::name(planted.property)
    );
}

/// Seeds hardly ever meet the schedule that this bug needs: a script does. Without the bug it passes.
fn caught_by(mutant: Mutant, script: fn()) {
    let planted = mutants::ALL.iter().find(|planted| planted.mutant == mutant).expect("it is listed");
    script();
    let switched = Switched::on(mutant);
    let outcome = catch_unwind(script);
    drop(switched);
    let Err(panic) = outcome else { panic!("the script does not notice {}", planted.name) };
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.contains(&format!("property {} (", planted.property)), "{}:\n{text}", planted.name);
}

/// One multicasts a safe message that nobody else receives, and dies. It must not have delivered it.
fn a_lone_safe_message() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    let from = s.place(a);
    s.intercept(move |packet| if packet.from == from { Verdict::Drop } else { Verdict::Pass });
    let lone = s.multicast(a, Kind::Fifo, true, 100);
    s.pass(SECOND / 10);
    s.crash(a);
    s.until("the view of the rest", |s| s.view_is(b, &[b, c]) && s.view_is(c, &[b, c]));
    assert!(!s.has(b, lone));
    s.finish();
}

/// One multicasts what only one of the two others receives, and dies. The other one gets it too, before the view without
/// the sender.
fn a_message_that_one_survivor_has() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.drop_packets(c, b, |_| true);
    let lone = s.multicast(c, Kind::Fifo, false, 300);
    s.until("one has it", |s| s.has(a, lone));
    s.crash(c);
    s.until("the view of the rest", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    s.finish();
}

/// The youngest multicasts an ABCAST that does not reach the member that orders, and dies: the message is delivered at the
/// cut, and before the view.
fn a_message_delivered_at_the_cut() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.drop_packets(c, a, |_| true);
    let last = s.multicast(c, Kind::Total, false, 300);
    s.pass(SECOND / 100);
    s.crash(c);
    s.until("the view of the rest", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    assert!(s.has(a, last) && s.has(b, last));
    s.finish();
}

/// One multicasts what nobody receives, flushes, and dies: the flush must not have returned.
fn a_flush_of_a_lost_message() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    let from = s.place(c);
    s.intercept(move |packet| if packet.from == from { Verdict::Drop } else { Verdict::Pass });
    s.multicast(c, Kind::Total, false, 100);
    s.flush(c).expect("a member may flush");
    s.pass(SECOND / 10);
    s.crash(c);
    s.until("the view of the rest", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    s.multicast(a, Kind::Fifo, false, 100);
    s.finish();
}

/// One of three sites is parted, and talks to itself.
fn a_lone_site() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.pass(SECOND);
    s.part(&[2]);
    for _ in 0..16 {
        s.pass(SECOND / 2);
        if !s.app(c).stalled {
            s.multicast(c, Kind::Fifo, false, 100);
        }
    }
    s.finish();
}

/// One test for each planted bug that takes no rule out.
macro_rules! planted {
    ($($test:ident $mutant:ident $caught:ident $how:expr;)*) => {
        $(#[test]
        fn $test() {
            $caught(Mutant::$mutant, $how);
        })*

        /// No planted bug goes untested: these, and those of the rules.
        #[test]
        fn all_are_tested() {
            let tested = [$(Mutant::$mutant),*];
            assert!(tested.len() >= 6);
            for planted in mutants::ALL {
                assert_eq!(planted.rule.is_none(), tested.contains(&planted.mutant), "{}", planted.name);
            }
        }
    };
}

planted! {
    causal_uncovered CausalUncovered caught 100;
    total_unordered TotalUnordered caught 100;
    safe_unstable SafeUnstable caught_by a_lone_safe_message;
    tail_after_view TailAfterView caught_by a_message_delivered_at_the_cut;
    repeats_own RepeatsOwn caught 100;
    cut_too_low CutTooLow caught_by a_message_that_one_survivor_has;
    joiner_ranks_first JoinerRanksFirst caught 100;
    flush_returns_early FlushReturnsEarly caught_by a_flush_of_a_lost_message;
    state_too_early StateTooEarly caught 100;
    global_too_soon GlobalTooSoon caught 100;
    never_stalls NeverStalls caught_by a_lone_site;
}

/// Names on the command line are names of one bug each, and the properties that they break exist.
#[test]
fn names_are_good() {
    for planted in mutants::ALL {
        assert_eq!(mutants::by_name(planted.name), Some(planted));
        assert!(checker::PROPERTIES.iter().any(|property| property.number == planted.property));
        assert!(planted.rule.is_none_or(|rule| (1..=15).contains(&rule)));
    }
    assert_eq!(mutants::by_name("no-such-bug"), None);
}
