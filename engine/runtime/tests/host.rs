//! Nodes over the real transport of this host.

use isis_runtime::{Mode, Node, NodeError, Options, WaitStrategy};
use std::time::{Duration, Instant};

fn options(directory: &tempfile::TempDir, mode: Mode) -> Options {
    Options { mode, runtime_dir: Some(directory.path().join("isis")), wait: WaitStrategy::Block, ..Options::new() }
}

fn counter(node: &Node, name: &str) -> u64 {
    node.counters().iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
}

/// A node with nothing to do sleeps: its loop turns for timers only. It ends at once when it is dropped.
#[test]
fn an_idle_node_sleeps_and_ends() {
    for mode in [Mode::Inline, Mode::Threaded] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut node = Node::open(options(&directory, mode)).expect("opens");
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            node.wait(Some(100_000_000)).expect("no error");
            while node.poll_event().expect("no error").is_some() {}
        }
        let before = counter(&node, "loop_turns");
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            node.wait(Some(100_000_000)).expect("no error");
            while node.poll_event().expect("no error").is_some() {}
        }
        let turns = counter(&node, "loop_turns") - before;
        assert!(turns < 2_000, "{mode:?}: {turns} turns in an idle second");
        assert!(counter(&node, "loop_sleeps") > 0);
        let started = Instant::now();
        drop(node);
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}

/// Two bad ways to open a node say what is wrong.
#[test]
fn a_node_that_cannot_open_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let bad = Options { faults: "drop=all".to_owned(), ..options(&directory, Mode::Inline) };
    let error = Node::open(bad).expect_err("no such fault");
    assert!(matches!(error, NodeError::Option(_)) && error.to_string().contains("faults"), "{error}");
    let bad = Options { bind: Some([203, 0, 113, 1].into()), ..options(&directory, Mode::Threaded) };
    let error = Node::open(bad).expect_err("not an address of this host");
    assert!(matches!(error, NodeError::Transport(_)), "{error}");
}
