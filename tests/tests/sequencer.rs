//! The task of ordering a group's ABCASTs moves to the busiest sender: when it does, what it waits for, and what a view change
//! makes of an order that had just moved. (`engine/protocol/src/plane/sequencer.rs`)

use isis_protocol::Handover;
use isis_protocol::event::Kind;
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_tests::scenario::Scenario;
use isis_tests::sim::network::Verdict;
use isis_tests::trace::Key;

/// Three members of one site; who orders is compared after so many messages.
fn three(after: u32) -> (Scenario, [usize; 3]) {
    let mut s = Scenario::configured(&[3], |config| config.handover = Handover { after, pause_ns: 0 });
    let nodes = s.start_all();
    s.form_group(&nodes);
    s.pass(SECOND / 10);
    (s, nodes)
}

/// One multicasts so many ABCASTs, one at a time.
fn send(s: &mut Scenario, node: usize, count: usize) -> Vec<Key> {
    let mut sent = Vec::new();
    for _ in 0..count {
        sent.push(s.multicast(node, Kind::Total, false, 100));
        s.pass(MILLISECOND);
    }
    sent
}

fn everywhere(s: &Scenario, nodes: &[usize], sent: &[Key]) -> bool {
    nodes.iter().all(|&node| sent.iter().all(|&message| s.has(node, message)))
}

fn moves(s: &Scenario, node: usize) -> u64 {
    s.counter(node, "sequencer_moves")
}

/// From now on nobody gets what comes from there.
fn silence(s: &mut Scenario, node: usize) {
    let from = s.place(node);
    s.intercept(move |packet| if packet.from == from { Verdict::Hold } else { Verdict::Pass });
}

/// Who sends most orders, and needs nobody for its own messages any more; nor do the others need the oldest member for theirs.
#[test]
fn the_busiest_sender_orders() {
    let (mut s, [a, b, c]) = three(4);
    send(&mut s, c, 4);
    assert_eq!([a, b, c].map(|node| moves(&s, node)), [1, 0, 0]);
    silence(&mut s, a);
    let sent = [send(&mut s, c, 3), send(&mut s, b, 2), send(&mut s, c, 1)].concat();
    assert!(everywhere(&s, &[b, c], &sent), "they wait for the oldest member");
    s.mend();
    s.until("the oldest has them too", |s| everywhere(s, &[a, b, c], &sent));
    s.finish();
}

/// It goes on from member to member, and back to one that had it before.
#[test]
fn it_moves_on_and_back() {
    let (mut s, [a, b, c]) = three(4);
    let mut sent = Vec::new();
    for node in [c, b, c, a, b, a] {
        sent.extend(send(&mut s, node, 5));
    }
    assert_eq!([a, b, c].map(|node| moves(&s, node)), [2, 2, 2], "a, c, b, c, a, b, a");
    assert!(everywhere(&s, &[a, b, c], &sent));
    s.finish();
}

/// Members that send alike keep it where it is, and so does whoever is told to.
#[test]
fn it_stays_where_all_send_alike() {
    let (mut s, nodes) = three(6);
    for _ in 0..12 {
        nodes.iter().for_each(|&node| drop(send(&mut s, node, 1)));
    }
    assert_eq!(nodes.map(|node| moves(&s, node)), [0, 0, 0]);
    s.finish();
    let (mut s, [a, b, c]) = three(0);
    let sent = send(&mut s, c, 20);
    assert_eq!([a, b, c].map(|node| moves(&s, node)), [0, 0, 0]);
    assert!(everywhere(&s, &[a, b, c], &sent));
    s.finish();
}

/// A burst moves nothing: the counting goes on for a while.
#[test]
fn it_takes_a_while() {
    let handover = Handover { after: 4, pause_ns: 20 * MILLISECOND };
    let mut s = Scenario::configured(&[3], |config| config.handover = handover);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.pass(SECOND / 10);
    for node in [c, b, c] {
        send(&mut s, node, 6);
    }
    assert_eq!([a, b, c].map(|node| moves(&s, node)), [0, 0, 0], "18 ms");
    send(&mut s, c, 4);
    assert_eq!([a, b, c].map(|node| moves(&s, node)), [1, 0, 0]);
    // Nor does the next one pass it on earlier.
    send(&mut s, b, 15);
    assert_eq!([a, b, c].map(|node| moves(&s, node)), [1, 0, 0]);
    send(&mut s, b, 10);
    assert_eq!([a, b, c].map(|node| moves(&s, node)), [1, 0, 1]);
    s.finish();
}

/// Whoever was busy once is not busy now.
#[test]
fn old_counts_fade() {
    let (mut s, [a, _, c]) = three(4);
    send(&mut s, c, 3);
    s.pass(5 * SECOND);
    send(&mut s, c, 1);
    assert_eq!(moves(&s, a), 0);
    send(&mut s, c, 3);
    assert_eq!(moves(&s, a), 1);
    s.finish();
}

/// To another site it goes only with most of the messages: for the others it would be further away.
#[test]
fn to_another_site_it_takes_a_majority() {
    let mut s = Scenario::configured(&[4, 1], |config| config.handover = Handover { after: 7, pause_ns: 0 });
    let nodes: [usize; 5] = s.start_all();
    s.form_group(&nodes);
    s.pass(SECOND / 10);
    let [a, b, c, d, far] = nodes;
    for _ in 0..3 {
        for node in [far, b, far, c, far, d, b] {
            send(&mut s, node, 1);
        }
    }
    assert_eq!(nodes.map(|node| moves(&s, node)), [0; 5], "three of seven are the most, and not enough");
    send(&mut s, far, 8);
    assert_eq!(moves(&s, a), 1);
    s.finish();
}

/// Nor does it go to a process that may stay away from its loop for longer than the one that has the task.
#[test]
fn not_to_one_that_announces_pauses() {
    let mut s = Scenario::configured(&[3], |config| config.handover = Handover { after: 4, pause_ns: 0 });
    let [a, b] = [s.admit(0), s.admit(1)];
    s.world.template.max_pause_ns = SECOND;
    let c = s.admit(2);
    s.form_group(&[a, b, c]);
    s.pass(SECOND / 10);
    send(&mut s, c, 10);
    assert_eq!(moves(&s, a), 0);
    send(&mut s, b, 10);
    assert_eq!(moves(&s, a), 1);
    s.finish();
}

/// A safe ABCAST does not wait for a handover behind it, which somebody lacks.
#[test]
fn a_safe_message_before_a_handover_does_not_wait_for_it() {
    let (mut s, [a, b, c]) = three(5);
    send(&mut s, c, 3);
    let (first, second) = (s.place(a), s.place(b));
    s.intercept(move |packet| if packet.from == second { Verdict::Hold } else { Verdict::Pass });
    let safe = s.multicast(c, Kind::Total, true, 100);
    s.pass(5 * MILLISECOND);
    assert!(!s.has(a, safe) && !s.has(c, safe), "the second has not shown that it has it");
    s.intercept(move |packet| match (packet.from, packet.to) {
        (from, _) if from == second => Verdict::Hold,
        (from, to) if (from, to) == (first, second) => Verdict::Drop,
        _ => Verdict::Pass,
    });
    send(&mut s, c, 1);
    s.pass(5 * MILLISECOND);
    assert_eq!(moves(&s, a), 1);
    s.intercept(move |packet| if (packet.from, packet.to) == (first, second) { Verdict::Drop } else { Verdict::Pass });
    s.release();
    s.pass(50 * MILLISECOND);
    assert!(s.has(c, safe), "the second has the record that orders it");
    s.mend();
    s.until("the second delivers it too", |s| everywhere(s, &[a, b, c], &[safe]));
    s.finish();
}

/// What the new sequencer says means nothing to one that has not read the handover.
#[test]
fn an_order_waits_for_the_handover_to_be_read() {
    let (mut s, [a, b, c]) = three(4);
    send(&mut s, c, 3);
    // The fourth one has it move; the second member does not get the record.
    let (from, to) = (s.place(a), s.place(b));
    s.intercept(move |packet| if (packet.from, packet.to) == (from, to) { Verdict::Hold } else { Verdict::Pass });
    let sent = send(&mut s, c, 4);
    assert_eq!(moves(&s, a), 1);
    assert!(everywhere(&s, &[a, c], &sent));
    assert!(sent.iter().all(|&message| !s.has(b, message)), "it does not know of the handover");
    s.mend();
    s.until("it reads it", |s| everywhere(s, &[b], &sent));
    s.finish();
}

/// The new sequencer has read all that is ordered, but lacks a message of it: it orders when that has come.
#[test]
fn a_new_sequencer_finds_what_is_ordered_first() {
    let (mut s, [a, b, c]) = three(4);
    send(&mut s, c, 2);
    let (from, to) = (s.place(b), s.place(c));
    s.intercept(move |packet| if (packet.from, packet.to) == (from, to) { Verdict::Hold } else { Verdict::Pass });
    let missing = send(&mut s, b, 1);
    let sent = send(&mut s, c, 4);
    assert_eq!(moves(&s, a), 1);
    assert!(everywhere(&s, &[a, b], &missing));
    assert!(!s.has(c, sent[3]) && !s.has(a, sent[3]), "nobody orders");
    s.mend();
    s.until("it goes on", |s| everywhere(s, &[a, b, c], &sent));
    s.finish();
}

/// The sequencer dies with its handover, which only the successor has: that one's records say where all messages are, and count.
/// And the next view begins with its oldest member.
#[test]
fn a_handover_that_a_survivor_has_counts() {
    let (mut s, [a, b, c]) = three(4);
    send(&mut s, c, 3);
    let (from, to) = (s.place(a), s.place(b));
    s.intercept(move |packet| if (packet.from, packet.to) == (from, to) { Verdict::Drop } else { Verdict::Pass });
    let sent = [send(&mut s, c, 3), send(&mut s, b, 1)].concat();
    assert!(everywhere(&s, &[c], &sent) && sent.iter().all(|&message| !s.has(b, message)));
    s.crash(a);
    s.mend();
    s.until("the view of the rest", |s| s.view_is(b, &[b, c]) && s.view_is(c, &[b, c]));
    assert!(everywhere(&s, &[b, c], &sent));
    silence(&mut s, b);
    let next = send(&mut s, c, 1);
    assert!(!s.has(c, next[0]), "the oldest member of the new view orders");
    s.mend();
    s.until("the rest goes on", |s| everywhere(s, &[b, c], &next));
    s.finish();
}

/// Both who know of the handover die: what the new sequencer ordered is void, and its messages are leftovers.
#[test]
fn an_order_without_its_handover_is_void() {
    let (mut s, [a, b, c]) = three(4);
    send(&mut s, c, 3);
    let (from, to) = (s.place(a), s.place(b));
    s.intercept(move |packet| if (packet.from, packet.to) == (from, to) { Verdict::Drop } else { Verdict::Pass });
    let sent = [send(&mut s, c, 3), send(&mut s, b, 1), send(&mut s, c, 1)].concat();
    assert!(everywhere(&s, &[a, c], &sent));
    s.crash(a);
    s.crash(c);
    s.mend();
    s.until("the last one goes on", |s| s.view_is(b, &[b]));
    assert!(everywhere(&s, &[b], &sent));
    s.finish();
}
