//! The documented sum of a group's memory (`Config::memory_bound`, docs/memory.md) against what members take at most while
//! all send as fast as the windows take and one of them is stopped.

use isis_memory::CHUNK_SIZE;
use isis_protocol::TotalOrder;
use isis_protocol::event::{Kind, Refused};
use isis_protocol::time::{MICROSECOND, MILLISECOND};
use isis_tests::scenario::Scenario;

const MEMBERS: usize = 4;

/// Chunks in use at each member.
fn chunks(s: &Scenario, nodes: &[usize]) -> Vec<u64> {
    let of = |node: &usize| s.world.nodes[*node].endpoint.as_ref().expect("alive").region().in_use().into();
    nodes.iter().map(of).collect()
}

/// All send until they are refused, again and again, for so many steps; gives the most chunks that a member had in use.
fn full_speed(s: &mut Scenario, nodes: &[usize], steps: usize, kind: Kind, lengths: &[usize]) -> (u64, u64) {
    let (mut peak, mut refused) = (0, 0);
    for step in 0..steps {
        for &node in nodes.iter().filter(|&&node| !s.world.nodes[node].hung).collect::<Vec<_>>() {
            for length in lengths.iter().cycle().skip(step) {
                match s.try_multicast(node, kind, false, *length) {
                    Ok(_) => (),
                    Err(Refused::WouldBlock) => break,
                    Err(other) => panic!("{other:?}"),
                }
            }
            refused += 1;
        }
        s.pass(100 * MICROSECOND);
        peak = chunks(s, nodes).into_iter().fold(peak, u64::max);
    }
    (peak, refused)
}

/// Bytes taken at most, and the bound.
fn stopped_member(window: u64, kind: Kind, lengths: &[usize], total_order: TotalOrder) -> (u64, u64) {
    let mut s = Scenario::configured(&[MEMBERS], |config| config.window = window);
    s.total_order = total_order;
    let nodes: [usize; MEMBERS] = s.start_all();
    s.form_group(&nodes);
    // What the views before took is given back.
    s.pass(500 * MILLISECOND);
    let system: u64 = chunks(&s, &nodes).into_iter().max().expect("members");
    let (before, refused) = full_speed(&mut s, &nodes, 20, kind, lengths);
    assert!(refused > 0, "the windows were never full");
    s.hang(nodes[2]);
    // After a heartbeat without acknowledgements only the window keeps the others back.
    let (stopped, _) = full_speed(&mut s, &nodes, 900, kind, lengths);
    let blocked = chunks(&s, &nodes);
    s.pass(5 * MILLISECOND);
    assert_eq!(blocked, chunks(&s, &nodes), "everybody waits for the stopped one");
    s.resume(nodes[2]);
    let (resumed, _) = full_speed(&mut s, &nodes, 20, kind, lengths);
    let range = *lengths.iter().min().expect("a length")..=*lengths.iter().max().expect("a length");
    let bound = s.world.template.memory_bound(MEMBERS, range, total_order);
    let last = s.multicast_when_possible(nodes[0], kind, false, 64);
    s.until("the last message is everywhere", |s| nodes.iter().all(|&node| s.has(node, last)));
    s.finish();
    let peak = before.max(stopped).max(resumed) * CHUNK_SIZE as u64;
    #[allow(clippy::print_stdout)]
    {
        println!(
            "{kind:?} {lengths:?}: {} KiB before, {} stopped, {} resumed; {bound:?} = {} KiB; system {system}",
            before * 64,
            stopped * 64,
            resumed * 64,
            bound.total() >> 10
        );
    }
    (peak, bound.total() + system * CHUNK_SIZE as u64)
}

/// The sum is not less than what is taken, and not `loose` times that.
fn check(window: u64, kind: Kind, lengths: &[usize], total_order: TotalOrder, loose: u64) {
    let (peak, bound) = stopped_member(window, kind, lengths, total_order);
    assert!(peak <= bound, "{peak} bytes were taken, {bound} are documented");
    assert!(loose * peak >= bound, "{bound} bytes are documented, no more than {peak} are taken: the sum is loose");
}

#[test]
fn short_messages_in_total_order_stay_within_the_sum() {
    check(256 << 10, Kind::Total, &[64], TotalOrder::Sequencer, 3);
}

#[test]
fn causal_messages_of_several_lengths_stay_within_the_sum() {
    check(256 << 10, Kind::Causal, &[1_000, 4_000, 100], TotalOrder::Sequencer, 3);
}

#[test]
fn messages_that_reach_into_the_next_chunk_stay_within_the_sum() {
    check(256 << 10, Kind::Fifo, &[50_000, 7_000, 300], TotalOrder::Sequencer, 3);
}

/// The sum has room for a message of each member that is not finished, in chunks of their own; with a window shorter than a
/// message they hardly ever are all there at once.
#[test]
fn messages_longer_than_the_window_stay_within_the_sum() {
    check(128 << 10, Kind::Total, &[200_000], TotalOrder::Sequencer, 4);
}

#[test]
fn short_messages_ordered_by_priorities_stay_within_the_sum() {
    check(256 << 10, Kind::Total, &[64], TotalOrder::Priority, 3);
}
