//! Large groups: what they cost in packets, and that they live through failures (properties 4, 9, 16, 21 and 22 among others:
//! each script ends with the whole checker).
//!
//! The packets are counted in virtual time, per destination: a multicast to n members is n packets, as where no multicast
//! works.

use isis_protocol::event::Kind;
use isis_protocol::random::Random;
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_tests::scenario::Scenario;
use isis_tests::sim::network::Verdict;
use isis_tests::trace::Event;
use isis_wire::packet::{Packet, PacketKind};
use std::cell::RefCell;
use std::rc::Rc;

/// Packets by whether they carry a stream, and by sender.
#[derive(Clone, Debug, Default)]
struct Count {
    data: u64,
    other: u64,
    by_sender: Vec<u64>,
}

/// Starts `members` processes on four sites at one moment, and lets all join at one moment.
fn start(members: usize) -> (Scenario, Vec<usize>) {
    let mut s = Scenario::new(&[members / 4; 4]);
    let nodes: Vec<usize> = (0..members).map(|place| s.start(place as u32)).collect();
    s.until("all are admitted", |s| {
        nodes.iter().all(|&n| s.app(n).system_view.as_ref().is_some_and(|view| view.members.len() == members))
    });
    for &node in &nodes {
        s.join(node);
    }
    s.until("all are in the group", |s| {
        nodes.iter().all(|&n| s.view(n).is_some_and(|view| view.members.len() == members))
    });
    (s, nodes)
}

/// Counts from now on.
fn count(s: &mut Scenario, members: usize) -> Rc<RefCell<Count>> {
    let count = Rc::new(RefCell::new(Count { by_sender: vec![0; members], ..Count::default() }));
    let kept = Rc::clone(&count);
    s.intercept(move |packet| {
        let mut count = kept.borrow_mut();
        let is_data = Packet::parse(&packet.bytes).is_ok_and(|packet| packet.header.kind == PacketKind::Data);
        *if is_data { &mut count.data } else { &mut count.other } += 1;
        if !is_data {
            count.by_sender[packet.from as usize] += 1;
        }
        Verdict::Pass
    });
    count
}

/// Packets a member and second besides those that carry streams: idle, with one member that multicasts a thousand times a
/// second, and with all members that do so twenty times a second. And the most that one member sends when idle.
fn cost(members: usize) -> ([u64; 3], u64) {
    let (mut s, nodes) = start(members);
    s.pass(SECOND);
    let counted = count(&mut s, members);
    let take =
        |counted: &Rc<RefCell<Count>>| counted.replace(Count { by_sender: vec![0; members], ..Count::default() });
    s.pass(SECOND);
    let idle = take(&counted);
    assert_eq!(idle.data, 0, "nobody says anything");
    for _ in 0..500 {
        s.multicast(nodes[1], Kind::Total, false, 100);
        s.pass(MILLISECOND);
    }
    s.pass(100 * MILLISECOND);
    let one = take(&counted);
    assert!(one.data >= 500 * (members as u64 - 1), "{one:?}");
    let mut last = None;
    for _ in 0..10 {
        for &node in &nodes {
            last = Some(s.multicast(node, Kind::Causal, false, 100));
        }
        s.pass(50 * MILLISECOND);
    }
    let all = take(&counted);
    let last = last.expect("something was sent");
    s.until("the last message is everywhere", |s| nodes.iter().all(|&node| s.has(node, last)));
    s.finish();
    let each = |packets: u64| packets / members as u64;
    let most = idle.by_sender.iter().copied().max().unwrap_or(0);
    ([each(idle.other), 2 * each(one.other), 2 * each(all.other)], most)
}

/// What a member tells the others besides data hardly grows with their number: not at all when idle or when one sends; and when
/// all send, and so eight times the messages come, to three times what a member of eight tells. All packets of all members
/// together so grow about as the members; rows from everybody to everybody grow as their square.
#[test]
fn a_member_of_a_large_group_tells_hardly_more_than_one_of_a_small_group() {
    let costs = [8, 16, 32, 64].map(|members| (members, cost(members)));
    let ([idle, one, all], most) = costs[0].1;
    for (members, ([large_idle, large_one, large_all], large_most)) in costs {
        let fits = large_idle <= idle && large_one <= one && large_all <= 3 * all && large_most <= most;
        assert!(fits, "with {members} members; all figures, packets a second and member: {costs:?}");
    }
}

/// Views that all of these processes were told of, of the system and of the group.
fn views(s: &Scenario) -> (usize, usize) {
    let trace = &s.world.records.trace;
    let of_first = || trace.records.iter().filter(|r| r.process.0 == 0);
    let system = of_first().filter(|r| matches!(r.event, Event::SystemView(_))).count();
    (system, of_first().filter(|r| matches!(r.event, Event::View { .. })).count())
}

/// Sixty-four that start at one moment are admitted several a view, and do not drown each other in questions.
#[test]
fn joiners_that_come_together_are_admitted_together() {
    let (s, nodes) = start(64);
    let (system, group) = views(&s);
    assert!(system <= 32 && group <= 16, "{system} system views and {group} group views for {}", nodes.len());
    let each = s.world.network.tally.sent / nodes.len() as u64;
    assert!(each < 8_000, "{each} packets a process until all were there");
    s.finish();
}

/// All successors of one member in the ring fail at once, so that nobody is left to pass its heartbeats on: it stays.
#[test]
fn a_member_that_loses_all_its_successors_is_heard_all_the_same() {
    let mut s = Scenario::new(&[1; 13]);
    let nodes: [usize; 13] = s.start_all();
    s.form_group(&nodes);
    s.pass(SECOND);
    let lonely = 5;
    let failed = [6, 7, 9, 0];
    for rank in failed {
        s.crash_site(rank);
    }
    let rest: Vec<usize> = nodes.iter().copied().filter(|node| !failed.contains(node)).collect();
    s.until("a view without the failed", |s| {
        rest.iter().all(|&node| s.view(node).is_some_and(|v| v.members.len() <= 9))
    });
    assert!(rest.contains(&lonely) && rest.iter().all(|&node| s.view_is(node, &rest)), "nobody else is excluded");
    assert!(
        rest.iter().any(|&node| s.counter(node, "gossip_alarms") > 0),
        "nobody missed a predecessor, or this shows nothing"
    );
    let last = s.multicast_when_possible(nodes[lonely], Kind::Total, false, 64);
    s.until("it speaks to all", |s| rest.iter().all(|&node| s.has(node, last)));
    s.finish();
}

/// Whoever dies: safe messages, windows and flushes go on without it.
#[test]
fn a_large_group_outlives_any_of_its_members() {
    for rank in [0, 1, 7, 15] {
        let (mut s, nodes) = start(16);
        let order: Vec<usize> =
            s.view(nodes[0]).expect("a view").processes().map(|process| process.0 as usize).collect();
        let victim = order[rank];
        let before = s.multicast(order[(rank + 1) % 16], Kind::Total, true, 3_000);
        s.crash(victim);
        let rest: Vec<usize> = order.iter().copied().filter(|node| *node != victim).collect();
        s.until("the view of the rest", |s| rest.iter().all(|&node| s.view_is(node, &rest)));
        let after = s.multicast_when_possible(rest[3], Kind::Total, false, 64);
        s.flush(rest[3]).expect("a flush");
        s.until("both are everywhere, and the flush is back", |s| {
            s.flushed(rest[3]) && rest.iter().all(|&node| s.has(node, before) && s.has(node, after))
        });
        s.finish();
    }
}

/// A digest, and what answers a question for one, is lost again and again on one way: the windows open all the same, and a
/// group that has settled falls silent.
#[test]
fn lost_digests_are_asked_for() {
    let mut s = Scenario::configured(&[3, 3, 3, 3], |config| config.window = 16 << 10);
    let nodes: [usize; 12] = s.start_all();
    s.form_group(&nodes);
    s.pass(SECOND);
    let mut luck = Random::new(1);
    s.intercept(move |packet| {
        let group = Packet::parse(&packet.bytes).ok().filter(|p| p.header.kind == PacketKind::Digest);
        // Nine of ten digests of the group (the system's are repeated always) are lost. Not each but the tenth: what is
        // repeated at a steady pace could be lost for ever then.
        if group.is_some_and(|p| p.header.group.0 != 0) {
            return if luck.below(10) == 0 { Verdict::Pass } else { Verdict::Drop };
        }
        Verdict::Pass
    });
    for round in 0..40 {
        s.multicast_when_possible(nodes[round % 12], Kind::Total, false, 64);
    }
    let last = s.multicast_when_possible(nodes[0], Kind::Total, false, 64);
    s.flush(nodes[0]).expect("a flush");
    s.until("all is delivered and stable", |s| s.flushed(nodes[0]) && nodes.iter().all(|&node| s.has(node, last)));
    // No more losses: what is asked for now is answered.
    s.intercept(|_| Verdict::Pass);
    s.pass(SECOND);
    let silent = Rc::new(RefCell::new(0));
    let heard = Rc::clone(&silent);
    s.intercept(move |packet| {
        let of_group = Packet::parse(&packet.bytes).is_ok_and(|p| p.header.group.0 != 0);
        *heard.borrow_mut() += u64::from(of_group);
        Verdict::Pass
    });
    s.pass(SECOND);
    assert_eq!(*silent.borrow(), 0, "all is settled, and nobody says anything");
    s.finish();
}
