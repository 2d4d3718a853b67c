//! Total order by priorities: who chooses it, what it waits for, and what a view change makes of a round that is not over.

use isis_protocol::event::Kind;
use isis_protocol::id::GroupId;
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_protocol::{JoinOptions, TotalOrder};
use isis_tests::scenario::Scenario;
use isis_tests::sim::network::{Packet, Verdict};
use isis_wire::packet::{self, DataHeader, PacketKind};

/// Three members of one site, whose group the first one creates with this order and the others ask for another one.
fn three(total_order: TotalOrder, others: TotalOrder) -> (Scenario, [usize; 3]) {
    let mut s = Scenario::new(&[3]);
    let nodes: [usize; 3] = s.start_all();
    for (count, node) in nodes.into_iter().enumerate() {
        let total_order = if count == 0 { total_order } else { others };
        s.join_as(node, 0, &JoinOptions { wants_state: true, total_order, ..JoinOptions::default() });
        let present = &nodes[..=count];
        s.until("the group is formed", |s| present.iter().all(|&n| s.view_is(n, present)));
    }
    s.pass(SECOND / 10);
    (s, nodes)
}

/// The packet carries bytes of this rank's stream in an application's group.
fn is_stream_of(packet: &Packet, rank: u16) -> bool {
    let Ok(packet) = packet::Packet::parse(&packet.bytes) else { return false };
    packet.header.kind == PacketKind::Data
        && packet.header.group != GroupId::SYSTEM
        && DataHeader::parse(packet.body).is_ok_and(|(data, _, _)| data.rank == rank)
}

/// From now on nobody gets what the youngest of three says to the group, until `mend`.
fn silence_the_youngest(s: &mut Scenario) {
    s.intercept(|packet| if is_stream_of(packet, 2) { Verdict::Hold } else { Verdict::Pass });
}

/// The creator chooses for all: of both kinds of groups one, each with joiners who ask for the other. With priorities an ABCAST
/// waits for the proposal of every member; the sequencer needs nobody's.
#[test]
fn the_creator_chooses_how_abcasts_are_ordered() {
    let (priority, sequencer) = (TotalOrder::Priority, TotalOrder::Sequencer);
    for (chosen, wished, waits) in [(priority, sequencer, true), (sequencer, priority, false)] {
        let (mut s, [a, b, c]) = three(chosen, wished);
        silence_the_youngest(&mut s);
        let message = s.multicast(a, Kind::Total, false, 100);
        s.pass(50 * MILLISECOND);
        assert_eq!(s.has(b, message), !waits, "{chosen:?}");
        s.mend();
        s.until("everybody has it", |s| [a, b, c].iter().all(|&n| s.has(n, message)));
        s.finish();
    }
}

/// [BJ87]: any holder can finish the round when a sender fails. Here there is nothing to finish: the youngest multicasts, hears
/// nobody's proposal, and dies; the others have the message's place without a word of it, before the view changes.
#[test]
fn a_round_whose_sender_fails_is_finished() {
    let (mut s, [a, b, c]) = three(TotalOrder::Priority, TotalOrder::Priority);
    let to = s.place(c);
    s.intercept(move |packet| if packet.to == to { Verdict::Drop } else { Verdict::Pass });
    let message = s.multicast(c, Kind::Total, false, 100);
    s.until("the others have it", |s| s.has(a, message) && s.has(b, message));
    assert!(!s.has(c, message));
    s.crash(c);
    s.until("the view of the rest", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    let next = s.multicast(b, Kind::Total, false, 100);
    s.until("the rest goes on", |s| s.has(a, next) && s.has(b, next));
    s.finish();
}

/// The youngest proposes for messages of both others, in an order of its own, and only one of them hears of it; then it
/// dies. What its proposals decided at that one has to stand in the same places at the other one.
#[test]
fn proposals_that_one_survivor_has_count_for_all() {
    let (mut s, [a, b, c]) = three(TotalOrder::Priority, TotalOrder::Priority);
    let to = s.place(a);
    s.intercept(move |packet| match packet.to == to && is_stream_of(packet, 2) {
        true => Verdict::Drop,
        false => Verdict::Pass,
    });
    let mut sent = Vec::new();
    for node in [a, b, b, a, b] {
        sent.push(s.multicast(node, Kind::Total, false, 100));
        s.pass(MILLISECOND);
    }
    s.until("one survivor has all", |s| sent.iter().all(|&m| s.has(b, m)));
    assert!(!s.has(a, sent[0]), "the other one lacks proposals");
    s.crash(c);
    s.mend();
    s.until("the view of the rest", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    assert!(sent.iter().all(|&m| s.has(a, m)));
    s.finish();
}

/// Nobody hears the youngest's proposals, and it dies: nothing is decided at the cut, and the leftovers are in one order.
#[test]
fn undecided_messages_are_leftovers() {
    let (mut s, [a, b, c]) = three(TotalOrder::Priority, TotalOrder::Priority);
    s.intercept(|packet| if is_stream_of(packet, 2) { Verdict::Drop } else { Verdict::Pass });
    let mut sent = Vec::new();
    for node in [b, a, b, a] {
        sent.push(s.multicast(node, Kind::Total, false, 100));
        s.pass(MILLISECOND);
    }
    s.pass(20 * MILLISECOND);
    assert!(sent.iter().all(|&m| !s.has(a, m) && !s.has(b, m)));
    s.crash(c);
    s.until("the view of the rest", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    assert!(sent.iter().all(|&m| s.has(a, m) && s.has(b, m)));
    s.finish();
}

/// A safe ABCAST waits until the records that give it its place are stable: the second member gets all proposals and knows
/// that everybody has the message, but not that everybody has the proposals. It delivers nothing, and dies.
#[test]
fn a_safe_abcast_waits_for_the_proposals_to_be_stable() {
    let (mut s, [a, b, c]) = three(TotalOrder::Priority, TotalOrder::Priority);
    let to = s.place(a);
    s.intercept(move |packet| match packet.to == to && (is_stream_of(packet, 1) || is_stream_of(packet, 2)) {
        true => Verdict::Drop,
        false => Verdict::Pass,
    });
    let message = s.multicast(a, Kind::Total, true, 100);
    s.pass(100 * MILLISECOND);
    assert!(!s.has(b, message), "the first one has not shown that it has the proposals");
    s.crash(b);
    s.mend();
    s.until("the view of the rest", |s| s.view_is(a, &[a, c]) && s.view_is(c, &[a, c]));
    assert!(s.has(a, message) && s.has(c, message));
    s.finish();
}
