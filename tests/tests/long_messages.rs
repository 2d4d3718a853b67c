//! Messages that reach from one chunk into others (docs/protocol.md §3): they come whole, whether they lie in one piece or are put
//! together, by places and by bytes, with losses and without, and none comes in part when its sender dies on the way.

use isis_protocol::event::Kind;
use isis_protocol::time::MILLISECOND;
use isis_tests::scenario::{Scenario, in_stream};
use isis_tests::sim::network::Verdict;
use std::cell::Cell;
use std::rc::Rc;

/// About the borders: of short frames, of a chunk, of two, of a fragment (here 200,000 bytes).
const LENGTHS: [usize; 12] =
    [4_096, 4_097, 65_520, 30, 65_528, 65_536, 131_064, 5_000, 199_999, 200_000, 200_001, 500_000];

/// All members send messages of all lengths. `lost`: of so many stream packets one is lost; 0: none. Says how many places were sent.
fn exchange(places: &[usize], arena_chunks: u32, lost: u64, kind: Kind, safe: bool) -> u64 {
    let mut s = Scenario::configured(places, |config| config.fragment = 200_000);
    s.world.arena_chunks = arena_chunks;
    let nodes: [usize; 3] = s.start_all();
    s.form_group(&nodes);
    s.pass(100 * MILLISECOND);
    let dropped = Rc::new(Cell::new(0_u64));
    if lost > 0 {
        let (mut count, dropped) = (0_u64, dropped.clone());
        s.intercept(move |packet| {
            count += u64::from(in_stream(packet));
            if !in_stream(packet) || !count.is_multiple_of(lost) {
                return Verdict::Pass;
            }
            dropped.set(dropped.get() + 1);
            Verdict::Drop
        });
    }
    let mut last = Vec::new();
    for len in LENGTHS {
        last = nodes.map(|node| s.multicast_when_possible(node, kind, safe, len)).to_vec();
    }
    s.until("all is everywhere", |s| nodes.iter().all(|&node| last.iter().all(|&key| s.has(node, key))));
    assert_eq!(lost > 0, dropped.get() > 0);
    let placed: u64 = nodes.iter().map(|&node| s.counter(node, "places_sent")).sum();
    assert_eq!(placed > 0, arena_chunks > 0);
    s.finish();
    placed
}

#[test]
fn by_places() {
    exchange(&[3], 64, 0, Kind::Total, false);
    exchange(&[3], 64, 5, Kind::Causal, true);
}

#[test]
fn by_places_until_the_chunks_run_out() {
    let enough = exchange(&[3], 64, 0, Kind::Fifo, false);
    let placed = exchange(&[3], 3, 0, Kind::Fifo, false);
    assert!(2 * placed < enough, "{placed} places of {enough}: hardly anything went as bytes");
    exchange(&[3], 3, 7, Kind::Total, true);
}

#[test]
fn by_bytes() {
    exchange(&[3], 0, 0, Kind::Total, true);
    exchange(&[2, 1], 0, 0, Kind::Causal, false);
}

#[test]
fn by_bytes_of_which_some_are_lost() {
    exchange(&[3], 0, 9, Kind::Fifo, false);
    exchange(&[2, 1], 0, 50, Kind::Total, false);
}

/// The last bytes of a message go down with its sender: nobody delivers it, and what the others send goes on.
#[test]
fn a_message_that_is_not_all_here_is_no_message() {
    for (places, arena_chunks) in [(&[3][..], 64), (&[3], 0), (&[2, 1], 0)] {
        let mut s = Scenario::configured(places, |config| config.fragment = 200_000);
        s.world.arena_chunks = arena_chunks;
        let nodes: [usize; 3] = s.start_all();
        s.form_group(&nodes);
        s.pass(100 * MILLISECOND);
        let whole = s.multicast_when_possible(nodes[0], Kind::Total, false, 150_000);
        s.until("the first one is everywhere", |s| nodes.iter().all(|&node| s.has(node, whole)));
        s.pass_first_packets(nodes[0], in_stream);
        let cut = s.multicast_when_possible(nodes[0], Kind::Total, false, 190_000);
        s.pass(MILLISECOND);
        s.crash(nodes[0]);
        s.until("the others are among themselves", |s| nodes[1..].iter().all(|&node| s.view_is(node, &nodes[1..])));
        let last = [1, 2].map(|rank| s.multicast_when_possible(nodes[rank], Kind::Total, true, 180_000));
        s.until("they go on", |s| nodes[1..].iter().all(|&node| last.iter().all(|&key| s.has(node, key))));
        assert!(nodes[1..].iter().all(|&node| !s.has(node, cut)), "it cannot be here");
        s.finish();
    }
}

/// Short messages are copied, and stand in chunks of the sender's own; the long ones behind them are read in place all the same.
#[test]
fn long_messages_are_read_in_place_behind_short_ones() {
    let mut s = Scenario::new(&[2]);
    s.world.arena_chunks = 64;
    let nodes: [usize; 2] = s.start_all();
    s.form_group(&nodes);
    s.pass(100 * MILLISECOND);
    let mut last = None;
    for len in [[100; 300].as_slice(), &[50_000; 20]].concat() {
        last = Some(s.multicast_when_possible(nodes[0], Kind::Fifo, false, len));
    }
    let last = last.expect("many");
    s.until("all is there", |s| s.has(nodes[1], last));
    let placed = s.counter(nodes[0], "places_sent");
    assert!(placed >= 15, "{placed} of 16 chunks");
    s.finish();
}
