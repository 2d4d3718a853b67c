//! Clients of a group: named schedules in which their relays, they themselves, or all members fail, and in which requests are
//! asked for again. Nothing is delivered twice, in two views, or out of the client's order, and nothing is lost (properties 6
//! to 11, 19, 22).

use isis_protocol::JoinOptions;
use isis_protocol::event::Kind;
use isis_protocol::id::GroupId;
use isis_protocol::time::{MICROSECOND, MILLISECOND, SECOND};
use isis_tests::scenario::{Scenario, in_stream, on_channel};
use isis_tests::sim::network::{Packet, Verdict};
use isis_tests::trace::Key;
use isis_wire::Reader;
use isis_wire::message::{ChannelHeader, Code, Message};
use isis_wire::packet::{self, PacketKind};
use std::cell::Cell;
use std::rc::Rc;

/// The proposal of a group's view.
fn accept(packet: &Packet) -> bool {
    let Ok(packet) = packet::Packet::parse(&packet.bytes) else { return false };
    packet.header.kind == PacketKind::Message
        && packet.header.group != GroupId::SYSTEM
        && matches!(Message::decode(packet.body), Ok(Message::Accept { .. }))
}

/// The client multicasts; the member that it asks to relay that.
fn relay_of(s: &mut Scenario, client: usize, members: &[usize]) -> usize {
    let from = s.place(client);
    let asked = Rc::new(Cell::new(None));
    let seen = Rc::clone(&asked);
    s.intercept(move |packet| {
        if packet.from == from && on_channel(packet) {
            seen.set(Some(packet.to));
        }
        Verdict::Pass
    });
    let first = s.multicast(client, Kind::Causal, false, 10);
    s.until("the first message is completed", |s| completed(s, client) && all_have(s, members, first));
    s.mend();
    let place = asked.get().expect("the client has asked somebody");
    *members.iter().find(|&&n| s.place(n) == place).expect("it has asked a member")
}

fn from_to(packet: &Packet, from: u32, to: u32) -> bool {
    packet.from == from && packet.to == to
}

/// A point-to-point message, on its channel.
fn point_to_point(packet: &Packet) -> bool {
    let Ok(packet) = packet::Packet::parse(&packet.bytes) else { return false };
    packet.header.kind == PacketKind::Channel
        && ChannelHeader::read(&mut Reader::new(packet.body)).is_ok_and(|header| header.lane == 0)
}

/// All multicasts of the client are completed.
fn completed(s: &Scenario, client: usize) -> bool {
    s.app(client).members.last().is_some_and(|m| m.own_undelivered == 0)
}

fn all_have(s: &Scenario, members: &[usize], message: Key) -> bool {
    members.iter().all(|&n| s.has(n, message))
}

/// A relay dies after another member has the message, or before anybody has. It has not delivered it, since not all had it.
/// The client asks another one.
#[test]
fn a_relay_dies() {
    for another_has_it in [true, false] {
        let mut s = Scenario::new(&[4]);
        let [a, b, c, d] = s.start_all();
        s.form_group(&[a, b, c]);
        s.become_client(d);
        let relay = relay_of(&mut s, d, &[a, b, c]);
        let rest: Vec<usize> = [a, b, c].into_iter().filter(|&n| n != relay).collect();
        let youngest = s.place(rest[1]);
        s.intercept(move |packet| match in_stream(packet) && (packet.to == youngest || !another_has_it) {
            true => Verdict::Drop,
            false => Verdict::Pass,
        });
        let message = s.multicast(d, Kind::Fifo, false, 300);
        s.pass(20 * MILLISECOND);
        assert!([a, b, c].iter().all(|&n| !s.has(n, message)), "not all members have it");
        s.crash(relay);
        s.mend();
        s.until("the view without the relay", |s| rest.iter().all(|&n| s.view_is(n, &rest)));
        let next = s.multicast(d, Kind::Total, true, 30);
        s.until("both messages are with the rest", |s| all_have(s, &rest, message) && all_have(s, &rest, next));
        s.finish();
    }
}

/// A relay hangs when it is asked; another one is asked as well, but nobody delivers what the first one lacks. When it wakes
/// it finds the request and relays it: all have it twice, and deliver it once.
#[test]
fn a_relay_wakes_up() {
    let mut s = Scenario::new(&[4]);
    let [a, b, c, d] = s.start_all();
    s.form_group(&[a, b, c]);
    s.become_client(d);
    let relay = relay_of(&mut s, d, &[a, b, c]);
    s.hang(relay);
    let messages = [Kind::Total, Kind::Fifo, Kind::Causal].map(|kind| s.multicast(d, kind, false, 300));
    s.pass(3 * SECOND);
    s.resume(relay);
    s.until("everything is completed", |s| completed(s, d));
    s.until("all have everything", |s| messages.iter().all(|&m| all_have(s, &[a, b, c], m)));
    s.finish();
}

/// A view change takes longer than the client's patience: the request waits at two relays until it is over. Whoever appends
/// it second in the new view finds that the mark has reached it, or all find it when it is delivered.
#[test]
fn another_relay_is_asked_during_a_view_change() {
    let mut s = Scenario::new(&[5]);
    let [a, b, c, d, e] = s.start_all();
    s.form_group(&[a, b, c]);
    s.become_client(d);
    relay_of(&mut s, d, &[a, b, c]);
    s.intercept(|packet| if accept(packet) { Verdict::Drop } else { Verdict::Pass });
    s.join(e);
    s.pass(300 * MILLISECOND);
    let messages = [Kind::Total, Kind::Causal].map(|kind| s.multicast(d, kind, false, 300));
    s.pass(4 * SECOND);
    assert!(messages.iter().all(|&m| !s.has(a, m)), "the members are frozen");
    s.mend();
    s.until("the view with the newcomer", |s| s.view_is(e, &[a, b, c, e]));
    s.until("all have everything", |s| messages.iter().all(|&m| all_have(s, &[a, b, c, e], m)));
    s.until("everything is completed", |s| completed(s, d));
    s.finish();
}

/// The only member delivers a message and cannot say so. A newcomer gets the state, which has the message in it, and the
/// marks; then the first member dies. Asked for the same again, the newcomer says that it is completed.
#[test]
fn a_joiner_knows_the_marks() {
    let mut s = Scenario::new(&[3]);
    let [a, b, d] = s.start_all();
    s.form_group(&[a]);
    s.become_client(d);
    s.mute_relays(d);
    let message = s.multicast(d, Kind::Total, false, 300);
    s.until("the member has it", |s| s.has(a, message));
    s.join(b);
    s.until("the newcomer has the state", |s| s.view_is(b, &[a, b]));
    assert!(!completed(&s, d), "nobody could tell the client");
    s.crash(a);
    s.until("the newcomer is alone", |s| s.view_is(b, &[b]));
    s.mend();
    s.until("the message is completed", |s| completed(s, d));
    assert!(!s.has(b, message), "it is in the state");
    let next = s.multicast(d, Kind::Causal, false, 30);
    s.until("the next one is delivered", |s| s.has(b, next));
    s.finish();
}

/// A client dies: the members see it as a view, with the same members and without the client.
#[test]
fn a_client_dies() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b]);
    s.become_client(c);
    let before = s.view(a).expect("a member has a view").number;
    let message = s.multicast(c, Kind::Total, false, 30);
    s.until("both have it", |s| all_have(s, &[a, b], message));
    s.crash(c);
    s.until("a view without the client", |s| s.view(a).is_some_and(|v| v.number > before && v.clients.is_empty()));
    s.finish();
}

/// A client dies while its requests wait at a relay for a view change to end: the next view is made without the client, and
/// nothing of it is delivered there.
#[test]
fn a_client_dies_with_requests_at_its_relay() {
    let mut s = Scenario::new(&[4]);
    let [a, b, d, e] = s.start_all();
    s.form_group(&[a, b]);
    s.become_client(d);
    relay_of(&mut s, d, &[a, b]);
    s.intercept(|packet| if accept(packet) { Verdict::Drop } else { Verdict::Pass });
    s.join(e);
    s.pass(300 * MILLISECOND);
    let messages = [Kind::Total, Kind::Causal, Kind::Fifo].map(|kind| s.multicast(d, kind, false, 300));
    s.pass(50 * MILLISECOND);
    s.crash(d);
    s.pass(50 * MILLISECOND);
    s.mend();
    s.until("the view without the client", |s| {
        [a, b, e].iter().all(|&n| s.view_is(n, &[a, b, e]) && s.view(n).is_some_and(|v| v.clients.is_empty()))
    });
    let last = s.multicast(a, Kind::Total, true, 30);
    s.until("the members go on", |s| all_have(s, &[a, b, e], last));
    assert!([a, b, e].iter().all(|&n| messages.iter().all(|&m| !s.has(n, m))), "the client is gone");
    s.finish();
}

/// The last member dies: the group ends for its clients. One of them founds it anew, the other one becomes its client.
#[test]
fn the_last_member_dies() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a]);
    s.become_client(b);
    s.become_client(c);
    s.multicast(b, Kind::Total, false, 30);
    s.crash(a);
    s.until("the clients are told", |s| [b, c].iter().all(|&n| s.app(n).members[0].left));
    s.form_group(&[b]);
    s.become_client(c);
    let message = s.multicast(c, Kind::Total, false, 30);
    s.until("the new group has it", |s| s.has(b, message));
    s.finish();
}

/// A client leaves, and comes back under the same identifier while a copy of an earlier request is still on its way to a
/// relay: the copy is of a registration that is over.
#[test]
fn a_client_comes_back() {
    let mut s = Scenario::new(&[3]);
    let [a, b, d] = s.start_all();
    s.form_group(&[a, b]);
    s.become_client(d);
    let relay = relay_of(&mut s, d, &[a, b]);
    s.hang(relay);
    let early = s.multicast(d, Kind::Causal, false, 30);
    s.leave(d).expect("a client may leave");
    s.pass(2 * SECOND);
    s.resume(relay);
    s.until("the client has left", |s| s.app(d).members[0].left);
    s.become_client(d);
    let late = s.multicast(d, Kind::Causal, false, 30);
    s.until("both have both", |s| all_have(s, &[a, b], early) && all_have(s, &[a, b], late));
    s.finish();
}

/// An answer to a client is late: the client has left, and is coming back (seed 30009654). It is not for the new registration,
/// so it does not wait for that: the member that sent it, by now the only one, leaves, and registers nobody; and before
/// it leaves, its last multicast waits for a message of another group on the same channel.
#[test]
fn an_answer_to_a_registration_that_is_over_waits_for_nothing() {
    let mut s = Scenario::new(&[3]);
    let [a, b, d] = s.start_all();
    s.form_group(&[a, b]);
    s.become_client(d);
    let relay = relay_of(&mut s, d, &[a, b]);
    let other = a + b - relay;
    for node in [other, d] {
        s.join_as(node, 1, &JoinOptions { wants_state: true, ..JoinOptions::default() });
        s.until("it is in another group, too", |s| s.app(node).members[1].view.is_some());
    }
    s.until("both are", |s| s.app(other).members[1].view.as_ref().is_some_and(|view| view.members.len() == 2));
    let (from, to) = (s.place(other), s.place(d));
    let late = move |packet: &Packet| from_to(packet, from, to) && point_to_point(packet);
    s.intercept(move |packet| if late(packet) { Verdict::Hold } else { Verdict::Pass });
    let answer = s.call(other, |app, ctx| app.reply(ctx, 0, 30));
    let answer = answer.expect("a member may reply").expect("there is a question");
    s.until("the answer is under way", |s| s.world.network.held() > 0);
    let leave = |s: &mut Scenario, node| s.call(node, |app, ctx| app.leave(ctx, 0)).expect("it may leave");
    leave(&mut s, d);
    s.until("the client has left", |s| s.app(d).members[0].left);
    leave(&mut s, relay);
    s.until("it has left", |s| s.app(relay).members[0].left);
    let letter = s.call(other, |app, ctx| app.send_to(ctx, 1, 1, 30)).expect("to a member of the other group");
    let after =
        s.call(other, |app, ctx| app.multicast(ctx, 0, (Kind::Causal, false), 30, false)).expect("there is room");
    leave(&mut s, other);
    s.join_as(d, 0, &JoinOptions { client: true, ..JoinOptions::default() });
    s.pass(MILLISECOND);
    s.mend();
    s.until("the member has left", |s| s.app(other).members[0].left);
    assert!(!s.has(d, answer) && s.has(d, letter) && s.has(other, after));
    s.join(other);
    s.until("the client is back", |s| s.app(d).members[2].registered.is_some());
    s.finish();
}

/// Causality across groups (R4): a client's message, then one of the same process in another group of the domain, then one
/// more of the client. The second one waits until the first is delivered everywhere, and the third one for the second. The
/// relay that was to say so dies, at any moment. Another one is asked, though nothing may be multicast through it yet.
#[test]
fn what_a_client_sent_is_owed_when_its_relay_dies() {
    for moment in 0..40 {
        let mut s = Scenario::new(&[4]);
        let [a, b, c, d] = s.start_all();
        s.form_group(&[a, b, c]);
        s.become_client(d);
        let relay = relay_of(&mut s, d, &[a, b, c]);
        s.join_as(d, 1, &JoinOptions { wants_state: true, ..JoinOptions::default() });
        s.until("it is in the other group", |s| s.view(d).is_some());
        let first =
            s.call(d, |app, ctx| app.multicast(ctx, 0, (Kind::Causal, false), 30, false)).expect("there is room");
        let second = s.multicast(d, Kind::Causal, false, 30);
        let third =
            s.call(d, |app, ctx| app.multicast(ctx, 0, (Kind::Causal, false), 30, false)).expect("there is room");
        s.pass(moment * 50 * MICROSECOND);
        s.crash(relay);
        s.until("the second one is delivered", |s| s.has(d, second));
        let rest: Vec<usize> = [a, b, c].into_iter().filter(|&n| n != relay).collect();
        assert!(all_have(&s, &rest, first), "the first one is delivered everywhere before");
        s.until("the third one is delivered", |s| all_have(s, &rest, third));
        s.finish();
    }
}

/// The same (seed 20027973), but when the client asks the second relay it is in no other group; then it is again, and
/// multicasts there. What it asked the relay before holds.
#[test]
fn what_a_client_is_owed_it_is_owed_when_it_joins_again() {
    let as_client = JoinOptions { client: true, ..JoinOptions::default() };
    let mut s = Scenario::new(&[5]);
    let [a, b, c, d, e] = s.start_all();
    s.form_group(&[a, b, c]);
    s.join_as(e, 1, &JoinOptions { wants_state: true, ..JoinOptions::default() });
    s.until("the other group is there", |s| s.view(e).is_some());
    s.become_client(d);
    let relay = relay_of(&mut s, d, &[a, b, c]);
    s.join_as(d, 1, &as_client);
    s.until("it is a client of the other group", |s| s.app(d).members[1].registered.is_some());
    let (from, to) = (s.place(relay), s.place(d));
    let mute = move |packet: &Packet| from_to(packet, from, to) && on_channel(packet);
    s.intercept(move |packet| if mute(packet) { Verdict::Drop } else { Verdict::Pass });
    let multicast = |s: &mut Scenario, member| {
        s.call(d, |app, ctx| app.multicast(ctx, member, (Kind::Causal, false), 30, false)).expect("there is room")
    };
    let first = multicast(&mut s, 0);
    s.pass(MILLISECOND);
    s.call(d, |app, ctx| app.leave(ctx, 1)).expect("a client may leave");
    s.until("it has left", |s| s.app(d).members[1].left);
    s.crash(relay);
    let rest: Vec<usize> = [a, b, c].into_iter().filter(|&n| n != relay).collect();
    s.until("the view without the relay", |s| rest.iter().all(|&n| s.view_is(n, &rest)));
    s.until("the first one is completed", |s| s.app(d).members[0].own_undelivered == 0 && all_have(s, &rest, first));
    s.join_as(d, 1, &as_client);
    s.until("it is a client again", |s| s.app(d).members[2].registered.is_some());
    let second = multicast(&mut s, 2);
    s.until("what it multicasts there is delivered", |s| s.has(e, second));
    s.finish();
}

/// Two processes are each other's relays: each is the member of one group, and a client of the other one. Each multicasts as a
/// client, then as a member. Gives the keys of both, by process.
fn each_others_relays() -> (Scenario, [usize; 2], Vec<[Key; 2]>) {
    let mut s = Scenario::new(&[2]);
    let nodes: [usize; 2] = s.start_all();
    for (name, node) in nodes.into_iter().enumerate() {
        s.join_as(node, name as u8, &JoinOptions { wants_state: true, ..JoinOptions::default() });
        s.until("it founds its group", |s| s.view(node).is_some());
    }
    for (name, node) in [1, 0].into_iter().zip(nodes) {
        s.join_as(node, name, &JoinOptions { client: true, ..JoinOptions::default() });
        s.until("it is registered", |s| s.app(node).members[1].registered.is_some());
    }
    s.pass(100 * MILLISECOND);
    let mut multicast = |node: usize, member: usize| {
        let how = (Kind::Causal, false);
        s.call(node, |app, ctx| app.multicast(ctx, member, how, 30, false)).expect("there is room")
    };
    let sent = nodes.into_iter().map(|node| [1, 0].map(|member| multicast(node, member))).collect();
    (s, nodes, sent)
}

/// What each multicasts in its own group waits, by R4, for what it sent before as a client; that must not wait at the other one
/// behind its own.
#[test]
fn two_processes_relay_for_each_other() {
    let (mut s, nodes, sent) = each_others_relays();
    for (node, other) in [(0, 1), (1, 0)] {
        let [there, here] = sent[node];
        s.until("both are delivered", |s| s.has(nodes[other], there) && s.has(nodes[node], here));
    }
    s.finish();
}

/// Both leave at once all that they are in. Their last messages wait for the other one to relay, who is a leaver. (From seed
/// 105051914: leavers did not relay any more, and each waited for the other for ever.)
#[test]
fn leavers_relay_for_each_other() {
    let (mut s, nodes, sent) = each_others_relays();
    for node in nodes {
        for member in [0, 1] {
            s.call(node, |app, ctx| app.leave(ctx, member)).expect("it may leave");
        }
    }
    s.until("all is left", |s| nodes.iter().all(|&node| s.app(node).members.iter().all(|m| m.left)));
    for (node, other) in [(0, 1), (1, 0)] {
        let [there, here] = sent[node];
        assert!(s.has(nodes[other], there) && s.has(nodes[node], here), "{}", s.text());
    }
    s.finish();
}

/// Clients under load keep their relay's window full, for the other member consumes slowly. The relay multicasts once more and
/// leaves: it is gone while they go on.
#[test]
fn a_leaver_is_not_held_by_its_clients() {
    let mut s = Scenario::configured(&[6], |config| config.window = 64 << 10);
    let [slow, relay, ..] = s.start_all::<6>();
    s.form_group(&[slow, relay]);
    let clients = [2, 3, 4, 5];
    for client in clients {
        s.join_as(client, 0, &JoinOptions { client: true, ..JoinOptions::default() });
        s.until("it is registered", |s| s.app(client).members[0].registered.is_some());
    }
    s.world.lag(slow, 2 * MILLISECOND);
    let send = |s: &mut Scenario, node: usize, len: usize| {
        let how = (Kind::Causal, false);
        s.call(node, |app, ctx| app.multicast(ctx, 0, how, len, false))
    };
    let load = |s: &mut Scenario| {
        for client in clients {
            while send(s, client, 8_000).is_ok() {}
        }
        s.pass(MILLISECOND);
    };
    (0..200).for_each(|_| load(&mut s));
    let last = s.multicast_when_possible(relay, Kind::Causal, false, 64);
    s.leave(relay).expect("it may leave");
    for _ in 0..20_000 {
        load(&mut s);
        if s.app(relay).members[0].left {
            s.world.lag(slow, 0);
            s.until("its last message is delivered", |s| s.has(slow, last));
            return s.finish();
        }
    }
    panic!("it never leaves:\n{}", s.text());
}

/// Three members and a client, the fourth process, who has asked something. The first member multicasts, which is held or lost,
/// and answers the client. Gives the keys of both.
fn answers_before_others_have(verdict: Verdict) -> (Scenario, [usize; 4], Key, Key) {
    let mut s = Scenario::new(&[4]);
    let nodes @ [a, b, c, d] = s.start_all();
    s.form_group(&[a, b, c]);
    s.become_client(d);
    let question = s.multicast(d, Kind::Causal, false, 30);
    s.until("all have the question", |s| all_have(s, &[a, b, c], question));
    let from = s.place(a);
    s.intercept(move |packet| if packet.from == from && in_stream(packet) { verdict } else { Verdict::Pass });
    let multicast = s.multicast(a, Kind::Causal, false, 30);
    let answer = s.call(a, |app, ctx| app.reply(ctx, app.members.len() - 1, 30));
    let answer = answer.expect("a member may reply").expect("there is a question");
    s.pass(20 * MILLISECOND);
    (s, nodes, multicast, answer)
}

/// A member multicasts what nobody gets, answers the client, and dies (seed 3000853). The answer waits until the multicast is
/// stable, which it never is: else what the client sends next would follow from a message that is lost (property 12).
#[test]
fn a_client_hears_of_nothing_that_may_be_lost() {
    let (mut s, [a, b, c, d], lost, answer) = answers_before_others_have(Verdict::Drop);
    assert!(s.has(a, lost) && !s.has(d, answer), "{}", s.text());
    s.crash(a);
    s.mend();
    s.until("the view without it", |s| s.view_is(b, &[b, c]) && s.view_is(c, &[b, c]));
    let next = s.multicast(d, Kind::Causal, false, 30);
    s.until("the rest has the next one", |s| all_have(s, &[b, c], next));
    s.finish();
}

/// The same with a network that mends: the answer comes as soon as all have the multicast.
#[test]
fn an_answer_to_a_client_waits_no_longer_than_needed() {
    let (mut s, [.., d], _, answer) = answers_before_others_have(Verdict::Hold);
    assert!(!s.has(d, answer));
    s.mend();
    s.until("the client has the answer", |s| s.has(d, answer));
    s.finish();
}
