//! One ABCAST to several groups: who may send one, and what leaving, joining, failing and view changes make of one under way.

use isis_protocol::event::{Kind, Refused, SendOptions};
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_protocol::{JoinOptions, TotalOrder};
use isis_tests::mutants::{Mutant, shows};
use isis_tests::scenario::{Scenario, finals_in, in_stream};
use isis_tests::sim::network::Verdict;
use isis_tests::trace::Key;
use isis_wire::packet;
use std::cell::Cell;
use std::rc::Rc;

const JOINS: [usize; 2] = [0, 1];

/// Three processes in two groups; all send to both, at once; then one dies with a message half-way.
fn three_senders(orders: [TotalOrder; 2], safe: bool) {
    let mut s = Scenario::new(&[3]);
    let nodes: [usize; 3] = s.start_all();
    for (name, total_order) in (0..).zip(orders) {
        for (count, node) in nodes.into_iter().enumerate() {
            s.join_as(node, name, &JoinOptions { wants_state: true, total_order, ..JoinOptions::default() });
            let present = &nodes[..=count];
            s.until("the group is formed", |s| present.iter().all(|&n| s.view_is(n, present)));
        }
    }
    for node in nodes {
        s.multicast_groups(node, &JOINS, safe);
    }
    s.until("all have six", |s| nodes.iter().all(|&n| s.app(n).deliveries == 6));
    s.pass(SECOND);
    let last = s.multicast_groups(nodes[2], &JOINS, safe);
    s.pass(MILLISECOND / 10);
    s.crash(nodes[2]);
    s.until("the views of the rest", |s| nodes[..2].iter().all(|&n| s.view_is(n, &nodes[..2])));
    s.pass(SECOND);
    for &node in &nodes[..2] {
        assert_eq!(s.has(node, last[0]), s.has(node, last[1]));
        assert_eq!(s.has(node, last[0]), s.has(nodes[0], last[0]));
    }
    let next = s.multicast_groups(nodes[0], &JOINS, safe);
    s.until("the rest goes on", |s| next.iter().all(|&key| s.has(nodes[1], key)));
    s.finish();
}

#[test]
fn all_groups_deliver_it() {
    three_senders([TotalOrder::Sequencer; 2], false);
    three_senders([TotalOrder::Sequencer; 2], true);
}

/// How a group orders its ABCASTs is its own business.
#[test]
fn groups_that_order_by_priorities_take_part() {
    three_senders([TotalOrder::Priority; 2], false);
    three_senders([TotalOrder::Sequencer, TotalOrder::Priority], true);
}

/// None and nothing is sent: to a group in sending-view mode, as a client, to no group or one twice, of another kind.
#[test]
fn what_cannot_be_sent_is_refused_whole() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form(0, 0, &[a, b]);
    s.form(1, 0, &[b]);
    s.join_as(a, 2, &JoinOptions { sending_view: true, ..JoinOptions::default() });
    s.until("a group in sending-view mode", |s| s.view_is(a, &[a]));
    s.become_client(c);
    s.join_as(c, 3, &JoinOptions::default());
    s.until("a group of the client's", |s| s.view_is(c, &[c]));
    let total = SendOptions { kind: Kind::Total, safe: false, entry: 7 };
    let send = |s: &mut Scenario, node: usize, joins: &[usize], options: SendOptions, len: usize| {
        s.call(node, |app, ctx| {
            let handles: Vec<_> = joins.iter().map(|&join| app.members[join].handle).collect();
            ctx.endpoint.multicast_groups(ctx.now, &handles, options, &vec![0; len])
        })
    };
    assert_eq!(send(&mut s, a, &[0, 1], total, 20), Err(Refused::BadKind), "sending view");
    assert_eq!(send(&mut s, c, &[0, 1], total, 20), Err(Refused::NotMember), "a client");
    assert_eq!(send(&mut s, b, &[], total, 20), Err(Refused::BadKind), "no group");
    assert_eq!(send(&mut s, b, &[0, 1, 0], total, 20), Err(Refused::BadKind), "one twice");
    assert_eq!(send(&mut s, b, &JOINS, SendOptions { kind: Kind::Causal, ..total }, 20), Err(Refused::BadKind));
    assert_eq!(send(&mut s, b, &JOINS, total, (16 << 20) - 42), Err(Refused::TooLong), "with its header");
    s.pass(SECOND);
    assert!([a, b, c].iter().all(|&n| s.delivered(n).is_empty()));
    let keys = s.multicast_groups(b, &JOINS, false);
    s.until("a good one comes", |s| s.has(a, keys[0]) && keys.iter().all(|&key| s.has(b, key)));
    s.finish();
}

/// The sender leaves one of the groups, or closes, right behind its message: that comes to both groups first.
#[test]
fn who_leaves_has_said_it_in_all_groups() {
    for closes in [false, true] {
        let mut s = Scenario::new(&[3]);
        let [a, b, c] = s.start_all();
        s.form(0, 0, &[a, c]);
        s.form(1, 0, &[b, c]);
        let keys = s.multicast_groups(c, &JOINS, false);
        if closes {
            s.call(c, |app, ctx| app.close(ctx));
        } else {
            s.call(c, |app, ctx| app.leave(ctx, 0)).expect("a member may leave");
        }
        s.until("the view without it", |s| s.view_is(a, &[a]));
        s.until("both groups have it", |s| s.has(a, keys[0]) && s.has(b, keys[1]));
        s.finish();
    }
}

/// The second group's proposal is late while views of the first begin and end, with joiners that get its state: each time the
/// copy is dropped there, and comes again. Whoever is in the last of these views delivers the message, once.
#[test]
fn a_copy_outlives_any_number_of_views() {
    let mut s = Scenario::new(&[5]);
    let [a, b, c, d, e] = s.start_all();
    s.form(0, 0, &[a, c]);
    s.form(1, 0, &[b, c]);
    let (from, to) = (s.place(b), s.place(c));
    s.intercept(move |packet| {
        let late = packet.from == from && packet.to == to && in_stream(packet);
        if late { Verdict::Drop } else { Verdict::Pass }
    });
    let keys = s.multicast_groups(c, &JOINS, false);
    s.pass(20 * MILLISECOND);
    s.join(d);
    s.until("a view of three", |s| s.view_is(a, &[a, c, d]) && s.view_is(d, &[a, c, d]));
    s.pass(20 * MILLISECOND);
    s.join(e);
    s.until("a view of four", |s| s.view_is(a, &[a, c, d, e]) && s.view_is(e, &[a, c, d, e]));
    s.leave(d).expect("a member may leave");
    s.until("a view of three again", |s| s.view_is(a, &[a, c, e]) && s.view_is(e, &[a, c, e]));
    s.pass(20 * MILLISECOND);
    assert!(!s.has(a, keys[0]) && !s.has(b, keys[1]), "the schedule is another one:\n{}", s.text());
    s.mend();
    s.until("it is there", |s| s.has(a, keys[0]) && s.has(e, keys[0]) && s.has(b, keys[1]));
    assert!(!s.has(d, keys[0]));
    s.finish();
}

/// `c` multicasts to the groups of `a` and `b`, of which it is a member too; the final priority does not come through to the first
/// group. `d` joins the second one, and gets the state that the message led to; `before`: what it does first. Gives the keys.
fn a_joiner_of_what_is_half_delivered(before: fn(&mut Scenario, usize)) -> (Scenario, [usize; 4], Vec<Key>) {
    let mut s = Scenario::new(&[4]);
    let nodes @ [a, b, c, d] = s.start_all();
    s.form(0, 0, &[a, c]);
    s.form(1, 0, &[b, c]);
    before(&mut s, d);
    let to = s.place(a);
    s.intercept(move |packet| {
        let lost = packet.to == to && !finals_in(packet).is_empty();
        if lost { Verdict::Drop } else { Verdict::Pass }
    });
    let keys = s.multicast_groups(c, &JOINS, false);
    s.until("the second group has it", |s| s.has(b, keys[1]));
    s.join_as(d, 1, &JoinOptions { wants_state: true, ..JoinOptions::default() });
    s.until("the newcomer has the state", |s| s.view_is(b, &[b, c, d]) && s.view_is(d, &[b, c, d]));
    s.pass(20 * MILLISECOND);
    assert!(!s.has(a, keys[0]) && !s.has(d, keys[1]), "the schedule is another one:\n{}", s.text());
    (s, nodes, keys)
}

/// R2. Of the second group's members a newcomer alone is left, who has not delivered the message, but has the state that it led
/// to: the first group hears of it, and delivers.
#[test]
fn a_joiner_answers_for_what_is_in_its_state() {
    shows(2, Mutant::FinalsUntold, "it is lost in one group only", || {
        let (mut s, [a, b, c, d], keys) = a_joiner_of_what_is_half_delivered(|_, _| {});
        s.crash(b);
        s.crash(c);
        s.until("the views of the rest", |s| s.view_is(a, &[a]) && s.view_is(d, &[d]));
        assert!(s.has(a, keys[0]), "it is lost in one group only:\n{}", s.text());
        s.finish();
    });
}

/// R4. The newcomer hears from a member that has delivered the message. What it then sends into the first group, as its client,
/// does not overtake the message there. (From seed 132035019.)
#[test]
fn a_joiner_waits_for_what_is_in_its_state() {
    shows(4, Mutant::PendingUntold, "it overtakes", || {
        let (mut s, [a, b, c, d], keys) = a_joiner_of_what_is_half_delivered(|s, d| s.become_client(d));
        let word = s.multicast(b, Kind::Causal, false, 50);
        s.until("the newcomer hears it", |s| s.has(d, word));
        let answer = s.call(d, |app, ctx| app.multicast(ctx, 0, (Kind::Causal, false), 50, false));
        let answer = answer.expect("a client may send");
        s.pass(100 * MILLISECOND);
        assert!(!s.has(a, keys[0]), "the schedule is another one:\n{}", s.text());
        assert!(!s.has(a, answer), "it overtakes:\n{}", s.text());
        s.mend();
        s.until("both are there", |s| s.has(a, keys[0]) && s.has(a, answer) && s.has(c, answer));
        s.finish();
    });
}

/// All witnesses of a final priority die with the sender: nobody who is left has delivered the message, and nobody will.
#[test]
fn what_only_the_dead_have_delivered_is_void() {
    let mut s = Scenario::new(&[4]);
    let [a, b, c, d] = s.start_all();
    s.form(0, 0, &[a, c, d]);
    s.form(1, 0, &[b, c]);
    let places = [s.place(a), s.place(d)];
    s.intercept(move |packet| {
        let lost = places.contains(&packet.to) && !finals_in(packet).is_empty();
        if lost { Verdict::Drop } else { Verdict::Pass }
    });
    let keys = s.multicast_groups(c, &JOINS, false);
    s.until("the second group has it", |s| s.has(b, keys[1]));
    s.crash(b);
    s.crash(c);
    s.until("the view of the rest", |s| s.view_is(a, &[a, d]) && s.view_is(d, &[a, d]));
    assert!(!s.has(a, keys[0]) && !s.has(d, keys[0]));
    let last = s.multicast(a, Kind::Total, false, 50);
    s.until("the rest goes on", |s| s.has(d, last));
    s.finish();
}

/// The sender is parted together with the one that has delivered the message in the second group, where the sender orders. The
/// others exclude both, and none of them has the final priority: it is void, while the two that have it run on for a while, and
/// are evicted. (From seed 95276926.)
#[test]
fn what_only_the_excluded_have_delivered_is_void() {
    for in_both in [false, true] {
        let mut s = Scenario::new(&[1, 2]);
        let [a, c, d] = s.start_all();
        s.form(0, 0, &[a, c]);
        s.form(1, 0, &[c, d, a][..if in_both { 3 } else { 2 }]);
        let to = s.place(a);
        s.intercept(move |packet| {
            let lost = packet.to == to && !finals_in(packet).is_empty();
            if lost { Verdict::Drop } else { Verdict::Pass }
        });
        let keys = s.multicast_groups(c, &JOINS, false);
        s.until("the second group has it", |s| s.has(d, keys[1]));
        s.part(&[1]);
        let alone = |s: &Scenario| {
            let views = s.app(a).members.iter().map(|member| member.view.as_ref());
            s.system_is(a, &[a]) && views.flatten().all(|view| view.members.len() == 1)
        };
        s.until("the others exclude both", alone);
        assert!(keys.iter().all(|&key| !s.has(a, key)), "{}", s.text());
        assert!(s.app(d).system_view.as_ref().is_some_and(|view| view.members.len() == 3), "it has not noticed yet");
        s.finish();
    }
}

/// The sender is on a site that is parted, with one member of each group; so the message is half-way everywhere. It is
/// evicted; the others agree.
#[test]
fn a_parted_sender_says_it_in_all_groups_or_in_none() {
    for after in [0, MILLISECOND / 3, MILLISECOND, 5 * MILLISECOND] {
        let mut s = Scenario::new(&[1, 1, 2]);
        let [a, b, c, d] = s.start_all();
        s.form(0, 0, &[a, b, c]);
        s.form(1, 0, &[b, c, d]);
        s.pass(SECOND);
        let keys = s.multicast_groups(c, &JOINS, false);
        s.pass(after);
        s.part(&[2]);
        s.until("the majority goes on", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[b]));
        assert_eq!(s.has(a, keys[0]), s.has(b, keys[0]));
        assert_eq!(s.has(b, keys[0]), s.has(b, keys[1]), "one of the groups only:\n{}", s.text());
        s.pass(3 * SECOND);
        s.finish();
    }
}

/// One has delivered it in the second group, and leaves that one: what it then multicasts in the first group, its only one,
/// still follows the message, which comes there late (seed 80108028).
#[test]
fn what_a_leaver_delivered_elsewhere_comes_first_where_it_stays() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form(0, 0, &[a, b, c]);
    s.form(1, 0, &[a, b]);
    let first = s.app(a).members[0].view.as_ref().expect("it is a member").group;
    s.intercept(move |packet| {
        let in_first = packet::Packet::parse(&packet.bytes).is_ok_and(|it| it.header.group == first);
        if in_first && !finals_in(packet).is_empty() { Verdict::Hold } else { Verdict::Pass }
    });
    let keys = s.multicast_groups(a, &JOINS, false);
    s.until("it is there in the second group", |s| s.has(b, keys[1]));
    s.leave(b).expect("a member may leave");
    s.until("it has left", |s| s.app(b).members[1].left && s.view_is(a, &[a]));
    // It owes the group that it left nothing any more, and has forgotten it.
    s.pass(SECOND);
    let next = s.call(b, |app, ctx| app.multicast(ctx, 0, (Kind::Causal, false), 50, false)).expect("a member may");
    s.pass(100 * MILLISECOND);
    assert!(![a, b, c].iter().any(|&n| s.has(n, next)), "{}", s.text());
    s.mend();
    s.until("all have both", |s| [a, b, c].iter().all(|&n| s.has(n, keys[0]) && s.has(n, next)));
    s.finish();
}

/// One leaves the first group before the message has come there, and it never comes: those that are left, the sender among them,
/// die. In the second group it did come, and who has it from there sends in a third one, where the leaver is. The leaver owes
/// the message nothing. (From seed 96002503.)
#[test]
fn what_never_came_before_a_leave_is_not_waited_for() {
    let mut s = Scenario::new(&[4]);
    let [b, c, d, e] = s.start_all();
    s.form(0, 0, &[c, b, e]);
    s.form(1, 0, &[d, c]);
    s.form(2, 0, &[d, b]);
    let (from, to) = (s.place(d), s.place(c));
    s.intercept(move |packet| {
        let late = packet.from == from && packet.to == to && in_stream(packet);
        if late { Verdict::Drop } else { Verdict::Pass }
    });
    let keys = s.multicast_groups(c, &JOINS, true);
    s.pass(20 * MILLISECOND);
    s.call(b, |app, ctx| app.leave(ctx, 0)).expect("a member may leave");
    s.until("it has left", |s| s.app(b).members[0].left && s.view_is(e, &[c, e]));
    // The last member besides the sender never hears of the final priority, so nobody delivers it there: it is safe.
    let to = s.place(e);
    s.intercept(move |packet| {
        let lost = packet.to == to && !finals_in(packet).is_empty();
        if lost { Verdict::Drop } else { Verdict::Pass }
    });
    s.until("the second group has it", |s| s.has(d, keys[1]));
    s.crash(c);
    s.crash(e);
    s.until("the first group is no more", |s| s.system_is(b, &[b, d]) && s.system_is(d, &[b, d]));
    let next = s.multicast(d, Kind::Causal, false, 50);
    s.until("it comes without the message", |s| s.has(b, next));
    assert!([b, c, e].iter().all(|&n| !s.has(n, keys[0])), "the schedule is another one:\n{}", s.text());
    s.finish();
}

/// A flush waits for the message itself, not only for its copies.
#[test]
fn a_flush_waits_until_it_is_delivered() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form(0, 0, &[a, c]);
    s.form(1, 0, &[b, c]);
    let to = s.place(b);
    let late = Rc::new(Cell::new(true));
    let is_late = Rc::clone(&late);
    s.intercept(move |packet| {
        let lost = is_late.get() && packet.to == to && !finals_in(packet).is_empty();
        if lost { Verdict::Drop } else { Verdict::Pass }
    });
    let keys = s.multicast_groups(c, &JOINS, false);
    s.call(c, |app, ctx| app.flush(ctx, 0)).expect("a member may flush");
    s.until("the first group has it", |s| s.has(a, keys[0]));
    s.pass(SECOND);
    assert!(!s.flushed(c) && !s.has(b, keys[1]));
    late.set(false);
    s.until("the flush returns", |s| s.flushed(c));
    assert!(s.has(b, keys[1]));
    s.finish();
}
