//! Messages that reach from one chunk into others (docs/protocol.md §3): they come whole, whether they lie in one piece or are put
//! together, by places and by bytes, with losses and without, and none comes in part when its sender dies on the way.

use isis_protocol::GroupId;
use isis_protocol::event::{Kind, Refused};
use isis_protocol::time::{MICROSECOND, MILLISECOND};
use isis_tests::scenario::Scenario;
use isis_tests::sim::network::Verdict;
use isis_tests::trace::Key;
use isis_wire::packet::{Packet, PacketKind};
use std::cell::Cell;
use std::rc::Rc;

/// About the borders: of short frames, of a chunk, of two, of a fragment (here 200,000 bytes).
const LENGTHS: [usize; 12] =
    [4_096, 4_097, 65_520, 30, 65_528, 65_536, 131_064, 5_000, 199_999, 200_000, 200_001, 500_000];

fn send(s: &mut Scenario, node: usize, kind: Kind, safe: bool, len: usize) -> Key {
    loop {
        match s.try_multicast(node, kind, safe, len) {
            Ok(key) => return key,
            Err(Refused::WouldBlock) => s.pass(100 * MICROSECOND),
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Bytes of a stream of the group, or where they lie.
fn is_of_stream(bytes: &[u8]) -> bool {
    Packet::parse(bytes).is_ok_and(|it| {
        matches!(it.header.kind, PacketKind::Data | PacketKind::Placed) && it.header.group != GroupId::SYSTEM
    })
}

/// All members send messages of all lengths. `lost`: of so many stream packets one is lost; 0: none.
fn exchange(places: &[usize], arena_chunks: u32, lost: u64, kind: Kind, safe: bool) {
    let mut s = Scenario::configured(places, |config| config.fragment = 200_000);
    s.world.arena_chunks = arena_chunks;
    let nodes: [usize; 3] = s.start_all();
    s.form_group(&nodes);
    s.pass(100 * MILLISECOND);
    let dropped = Rc::new(Cell::new(0_u64));
    if lost > 0 {
        let (mut count, dropped) = (0_u64, dropped.clone());
        s.intercept(move |packet| {
            if !is_of_stream(&packet.bytes) {
                return Verdict::Pass;
            }
            count += 1;
            if count.is_multiple_of(lost) {
                dropped.set(dropped.get() + 1);
                return Verdict::Drop;
            }
            Verdict::Pass
        });
    }
    let mut last = Vec::new();
    for len in LENGTHS {
        last = nodes.map(|node| send(&mut s, node, kind, safe, len)).to_vec();
    }
    s.until("all is everywhere", |s| nodes.iter().all(|&node| last.iter().all(|&key| s.has(node, key))));
    assert_eq!(lost > 0, dropped.get() > 0);
    let placed: u64 = nodes.iter().map(|&node| s.counter(node, "places_sent")).sum();
    assert_eq!(placed > 0, arena_chunks > 0);
    s.finish();
}

#[test]
fn by_places() {
    exchange(&[3], 64, 0, Kind::Total, false);
    exchange(&[3], 64, 5, Kind::Causal, true);
}

#[test]
fn by_places_until_the_chunks_run_out() {
    exchange(&[3], 3, 0, Kind::Fifo, false);
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
        let whole = send(&mut s, nodes[0], Kind::Total, false, 150_000);
        s.until("the first one is everywhere", |s| nodes.iter().all(|&node| s.has(node, whole)));
        let place = s.place(nodes[0]);
        // One packet of it gets through to each of the others.
        let mut passed = Vec::new();
        s.intercept(move |packet| {
            if packet.from != place || !is_of_stream(&packet.bytes) {
                return Verdict::Pass;
            }
            if passed.contains(&packet.to) {
                return Verdict::Drop;
            }
            passed.push(packet.to);
            Verdict::Pass
        });
        let cut = send(&mut s, nodes[0], Kind::Total, false, 190_000);
        s.pass(MILLISECOND);
        s.crash(nodes[0]);
        s.until("the others are among themselves", |s| nodes[1..].iter().all(|&node| s.view_is(node, &nodes[1..])));
        let last = nodes[1..].iter().map(|&node| send(&mut s, node, Kind::Total, true, 180_000)).collect::<Vec<_>>();
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
        last = Some(send(&mut s, nodes[0], Kind::Fifo, false, len));
    }
    let last = last.expect("many");
    s.until("all is there", |s| s.has(nodes[1], last));
    let placed = s.counter(nodes[0], "places_sent");
    assert!(placed >= 15, "{placed} of 16 chunks");
    s.finish();
}
