//! Messages that follow others through several groups, point-to-point messages, joins and leaves: what came first comes first
//! (guarantee 12; R4).

use isis_protocol::JoinOptions;
use isis_protocol::event::Kind;
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_tests::scenario::{Scenario, in_stream, message, on_channel_to};
use isis_tests::sim::network::Verdict;
use isis_wire::message::Message;
use std::cell::Cell;
use std::rc::Rc;

/// A point-to-point message is lost on its way to a member that nobody hears, and that hears the streams. The system excludes it;
/// what its sender multicasts then, in the view that still has that member, comes to it at once: it must not deliver that
/// without the message before it. (From seed 98124261; guarantee 12.)
#[test]
fn the_excluded_get_nothing_that_follows_what_they_lack() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    let [oldest, sender, cut] = [a, b, c].map(|node| s.place(node));
    let all_is_late = Rc::new(Cell::new(true));
    let late = all_is_late.clone();
    s.intercept(move |packet| {
        let unheard = packet.from == cut || (packet.from == sender && on_channel_to(cut, packet));
        let of_the_group = matches!(message(packet), Some((false, _)));
        let change = of_the_group && packet.from == oldest && packet.to == sender;
        // That it is excluded it hears later as well.
        let notice = packet.to == cut && message(packet).is_some();
        if unheard || (late.get() && (change || notice)) { Verdict::Drop } else { Verdict::Pass }
    });
    s.call(b, |app, ctx| app.send_to(ctx, 0, 2, 30)).expect("to a member");
    let after = s.multicast_when_possible(b, Kind::Causal, false, 64);
    s.until("the system without it", |s| s.system_is(b, &[a, b]));
    s.pass(20 * MILLISECOND);
    assert!(!s.has(c, after), "{}", s.text());
    all_is_late.set(false);
    s.until("the view without it", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    s.until("the rest has it", |s| s.has(a, after) && s.has(b, after));
    s.mend();
    s.finish();
}

/// A point-to-point message is lost on its way to a member that leaves the group. It comes when the receiver is no member any
/// more, and wants to be one again; its sender no longer waits for it, and multicasts in another group of the domain, where the
/// receiver still is. The message was for the former membership: it is dropped, and does not come after that multicast.
/// (Guarantee 12.)
#[test]
fn what_was_sent_to_a_former_membership_is_dropped() {
    let mut s = Scenario::new(&[1, 1]);
    let [a, b] = s.start_all();
    s.form(0, 0, &[a, b]);
    s.form(1, 0, &[a, b]);
    let joiner = s.place(b);
    s.intercept(move |packet| if on_channel_to(joiner, packet) { Verdict::Drop } else { Verdict::Pass });
    let letter = s.call(a, |app, ctx| app.send_to(ctx, 0, 1, 30)).expect("to a member");
    s.pass(MILLISECOND);
    s.call(b, |app, ctx| app.leave(ctx, 0)).expect("a member may leave");
    s.until("the receiver has left", |s| s.app(b).members[0].left);
    s.pass(20 * MILLISECOND);
    s.intercept(move |packet| match message(packet) {
        Some((false, Message::Join { .. })) if packet.from == joiner => Verdict::Drop,
        _ => Verdict::Pass,
    });
    let after = s.multicast_when_possible(a, Kind::Causal, false, 64);
    s.join(b);
    s.until("the multicast comes", |s| s.has(b, after));
    assert!(s.view(b).is_none(), "the schedule is another one:\n{}", s.text());
    s.mend();
    s.until("the receiver is back", |s| s.view_is(b, &[a, b]));
    s.pass(SECOND);
    assert!(!s.has(b, letter), "{}", s.text());
    s.finish();
}

/// A point-to-point message waits for what its sender multicast in another group of the domain. Meanwhile its receiver leaves,
/// and is a member again: it gets nothing that was meant for it before, when all has come. (From seed 152002180: what others sent
/// after the message did not wait for it; guarantee 12.)
#[test]
fn what_waits_for_a_former_membership_is_not_sent() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form(0, 0, &[a, b]);
    s.form(1, 0, &[a, c]);
    let deaf = s.place(c);
    s.intercept(move |packet| if packet.to == deaf && in_stream(packet) { Verdict::Drop } else { Verdict::Pass });
    let before = s.multicast(a, Kind::Causal, false, 64);
    let letter = s.call(a, |app, ctx| app.send_to(ctx, 0, 1, 30)).expect("to a member");
    s.pass(MILLISECOND);
    s.call(b, |app, ctx| app.leave(ctx, 0)).expect("a member may leave");
    s.until("the receiver has left", |s| s.app(b).members[0].left);
    s.join(b);
    s.until("the receiver is back", |s| s.view_is(b, &[a, b]));
    assert!(!s.has(c, before), "the schedule is another one:\n{}", s.text());
    s.mend();
    s.until("what was multicast before comes", |s| s.has(c, before));
    s.pass(SECOND);
    assert!(!s.has(b, letter), "{}", s.text());
    s.finish();
}

/// What a member sends its group in the view that ends does not come to another one before that has frozen, nor the decision.
fn end_of_the_view_is_late(s: &mut Scenario, from: usize, to: usize) {
    let (sender, late) = (s.place(from), s.place(to));
    let mut frozen = false;
    s.intercept(move |packet| {
        let told = message(packet).filter(|_| packet.to == late);
        frozen |= matches!(told, Some((false, Message::Prepare { .. })));
        let comes_first = !frozen && packet.from == sender && packet.to == late && in_stream(packet);
        let decision = matches!(told, Some((false, Message::Decide { .. })));
        if comes_first || decision { Verdict::Drop } else { Verdict::Pass }
    });
}

/// A member multicasts, and a joiner's view comes about; another member has the message, and delivers it only with that view, of
/// which it hears late. The first one tells the joiner something in the new view: what the joiner multicasts then in another group
/// of the domain does not come to that member before the message. (Found by reading; guarantee 12.)
#[test]
fn a_joiner_waits_for_the_end_of_the_view_before_its_first() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form(0, 0, &[a, b]);
    s.form(1, 0, &[b, c]);
    end_of_the_view_is_late(&mut s, a, b);
    let first = s.multicast(a, Kind::Causal, false, 64);
    s.join_as(c, 0, &JoinOptions::default());
    s.until("the view of three", |s| s.view_is(a, &[a, b, c]) && s.view_is(c, &[a, b, c]));
    let letter = s.call(a, |app, ctx| app.send_to(ctx, 0, 2, 30)).expect("to the joiner");
    s.until("the joiner has it", |s| s.has(c, letter));
    let last =
        s.call(c, |app, ctx| app.multicast(ctx, 0, (Kind::Causal, false), 64, false)).expect("in its other group");
    s.pass(50 * MILLISECOND);
    assert!(!s.has(b, first) && !s.has(b, last), "{}", s.text());
    s.mend();
    s.until("all comes", |s| s.has(b, last));
    s.finish();
}

/// As before, with a client in the place of the joiner, and a member that leaves in the place of the one that hears late.
#[test]
fn a_client_waits_for_those_who_leave() {
    let mut s = Scenario::new(&[1, 1, 1, 1]);
    let [a, b, c, d] = s.start_all();
    s.form(0, 0, &[a, b, c]);
    s.form(1, 0, &[d, c]);
    s.become_client(d);
    let request = s.multicast(d, Kind::Causal, false, 64);
    s.until("all have the request", |s| [a, b, c].iter().all(|&n| s.has(n, request)));
    s.pass(50 * MILLISECOND);
    end_of_the_view_is_late(&mut s, a, c);
    let first = s.multicast(a, Kind::Causal, false, 64);
    s.call(c, |app, ctx| app.leave(ctx, 0)).expect("a member may leave");
    s.until("the view without it", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    let reply = s.call(a, |app, ctx| app.reply(ctx, 0, 30)).expect("it is open").expect("there is a request");
    s.until("the client has the reply", |s| s.has(d, reply));
    let last =
        s.call(d, |app, ctx| app.multicast(ctx, 0, (Kind::Causal, false), 64, false)).expect("in its other group");
    s.pass(50 * MILLISECOND);
    assert!(!s.has(c, first) && !s.has(c, last), "{}", s.text());
    s.mend();
    s.until("all comes", |s| s.has(c, last));
    s.finish();
}
