//! Death after every single action: each process of a short script is killed after each packet that it sends, each event
//! that it takes and each question to its site, one death a run. Safety holds, and the others go on (properties 1 to 26).

use isis_tests::mutants::{Mutant, Switched};
use isis_tests::sim::enumerate::{self, Kill};

/// All deaths of a script, at least so many.
fn survives_all(name: &str, least: u64) {
    let script = enumerate::by_name(name).expect("it is listed");
    let summary = enumerate::enumerate(script, |_, _| {});
    if let Some((kill, text)) = summary.failures.first() {
        let Kill { process, action } = kill.unwrap_or(Kill { process: 0, action: 0 });
        panic!("{} deaths; isis-sim --enumerate {name} --kill {process}:{action}\n{text}", summary.failures.len());
    }
    let deaths: u64 = summary.kills.iter().sum();
    assert!(deaths >= least, "only {deaths} deaths: {:?}", summary.kills);
    assert!(summary.deliveries > deaths, "next to nothing was delivered: this shows nothing");
}

macro_rules! survived {
    ($($test:ident $name:literal $least:literal;)*) => {
        $(#[test]
        fn $test() {
            survives_all($name, $least);
        })*

        /// No script goes untested.
        #[test]
        fn all_are_tested() {
            let tested = [$($name),*];
            for script in enumerate::SCRIPTS {
                assert!(tested.contains(&script.name), "{}", script.name);
            }
        }
    };
}

survived! {
    founding "founding" 150;
    founding_by_majority "founding-by-majority" 150;
    join "join" 60;
    join_between_hosts "join-between-hosts" 60;
    view_change "view-change" 100;
    view_change_between_hosts "view-change-between-hosts" 400;
    gbcast "gbcast" 80;
    leave "leave" 60;
    close "close" 100;
    close_between_hosts "close-between-hosts" 400;
    handovers "handovers" 60;
}

/// In the script of handovers there are some.
#[test]
fn the_task_of_ordering_moves() {
    let whole = enumerate::run(enumerate::by_name("handovers").expect("it is listed"), None);
    let endpoints = whole.world.nodes.iter().filter_map(|node| node.endpoint.as_ref());
    let counters = endpoints.flat_map(|endpoint| endpoint.counters());
    let moves: u64 = counters.filter(|(name, _)| *name == "sequencer_moves").map(|(_, count)| count).sum();
    assert!(moves >= 4, "it moved {moves} times");
}

/// The victim does what it does in the run without a death, up to its last action, and nothing after it.
#[test]
fn the_victim_dies_after_that_action() {
    let script = enumerate::by_name("gbcast").expect("it is listed");
    let whole = enumerate::run(script, None);
    let (before, after) = whole.actions[1];
    assert!(before > 0 && after > before);
    for action in [before + 1, (before + after) / 2, after] {
        let outcome = enumerate::run(script, Some(Kill { process: 1, action }));
        assert!(!outcome.world.nodes[1].alive() && outcome.world.nodes[1].fuse.actions == action);
        let died = outcome.world.records.trace.text().find("P1    Crash").expect("the death is in the trace");
        let (here, there) = (&outcome.world.records.trace.text()[..died - 20], &whole.world.records.trace.text());
        let last_line = here.rfind('\n').expect("something happened before");
        assert_eq!(here[..last_line], there[..last_line], "another run up to the death after action {action}");
    }
}

/// A member that forgets the old view's bytes at once wedges the others only if somebody dies at the wrong moment: some
/// death shows it.
#[test]
fn some_death_shows_a_planted_bug() {
    let script = enumerate::by_name("view-change").expect("it is listed");
    let switched = Switched::on(Mutant::CutTooLow);
    let summary = enumerate::enumerate(script, |_, _| {});
    drop(switched);
    assert!(!summary.failures.is_empty());
    assert!(summary.failures.len() < summary.kills.iter().sum::<u64>() as usize, "it fails without a special death");
}
