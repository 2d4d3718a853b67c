//! Processes that hang without dying, that stay away on purpose, and that are cut off: what the others and their own
//! applications are told of it.

use isis_protocol::event::{Kind, Refused, SlowReason};
use isis_protocol::id::ProcessId;
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_protocol::{Hang, JoinOptions};
use isis_tests::scenario::Scenario;
use isis_tests::sim::network::{self, Verdict};
use isis_wire::message::Message;
use isis_wire::packet::{Packet, PacketKind};

fn id(s: &Scenario, node: usize) -> ProcessId {
    s.app(node).admitted.expect("admitted").1
}

/// How often `teller` was told that a view change waits for `hung`.
fn named(s: &Scenario, teller: usize, hung: usize) -> usize {
    let wanted = (id(s, hung), SlowReason::ViewChange);
    s.app(teller).slow.iter().filter(|told| **told == wanted).count()
}

/// The protocol message in a packet.
fn message(bytes: &[u8]) -> Option<Message> {
    let packet = Packet::parse(bytes).ok()?;
    (packet.header.kind == PacketKind::Message).then(|| Message::decode(packet.body).ok()).flatten()
}

/// The protocol message in a packet about a group.
fn group_message(bytes: &[u8]) -> Option<Message> {
    let packet = Packet::parse(bytes).ok()?;
    if packet.header.group == isis_protocol::GroupId::SYSTEM { None } else { message(bytes) }
}

/// On one host a hung process is not known dead: the change waits, all that wait say for whom, once each, and it goes on
/// when the process does.
#[test]
fn a_hung_process_of_the_host_is_named_by_all_that_wait() {
    let mut s = Scenario::new(&[4]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.hang(b);
    let d = s.start(3);
    s.until("both name the hung one", |s| named(s, a, b) > 0 && named(s, c, b) > 0);
    s.pass(3 * SECOND);
    assert_eq!((named(&s, a, b), named(&s, c, b)), (1, 1), "once for each silence\n{}", s.text());
    assert_eq!((named(&s, a, c), named(&s, c, a)), (0, 0), "those that wait are no obstacle\n{}", s.text());
    assert!(s.app(d).system_view.is_none() && s.system_is(a, &[a, b, c]), "{}", s.text());
    s.resume(b);
    s.until("the change goes on", |s| [a, b, c, d].iter().all(|&n| s.system_is(n, &[a, b, c, d])));
    assert!(s.app(b).slow.is_empty(), "one that wakes accuses nobody\n{}", s.text());
    s.finish();
}

/// The same in a group: its change names the group's handle, and the one who hangs is the proposer.
#[test]
fn a_hung_proposer_is_named_by_those_who_take_over() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b]);
    s.hang(a);
    // A join would wait for the directory's safe ABCAST first; a GBCAST is a change at once.
    s.multicast(b, Kind::Global, false, 20);
    s.until("the proposer is named", |s| named(s, b, a) > 0);
    s.resume(a);
    s.until("the change goes on", |s| s.delivered(a).len() == 1 && s.delivered(b).len() == 1);
    assert!(s.app(c).slow.is_empty(), "{}", s.text());
    s.finish();
}

/// `hang = kill`: after the timeout the hung process of the own host is killed, if it consented, and its death is a death
/// like any other.
#[test]
fn a_hung_process_is_killed_if_it_consented() {
    let mut s = Scenario::configured(&[4], |config| {
        config.hang = Hang::Kill;
        config.hang_timeout_ns = SECOND;
    });
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.world.nodes[b].allow_kill = true;
    s.hang(b);
    // Nothing waits for it: nothing is done.
    s.pass(3 * SECOND);
    assert!(s.world.nodes[b].alive(), "{}", s.text());
    let d = s.start(3);
    s.pass(SECOND / 2);
    assert!(s.world.nodes[b].alive(), "before the timeout\n{}", s.text());
    s.until("it is killed and the view comes", |s| [a, c, d].iter().all(|&n| s.system_is(n, &[a, c, d])));
    assert!(!s.world.nodes[b].alive() && s.world.harm.kills_refused == 0);
    s.until("the group goes on", |s| s.view_is(a, &[a, c]) && s.view_is(c, &[a, c]));
    s.finish();
}

/// Without consent nobody is killed, and the change waits.
#[test]
fn nobody_is_killed_without_consent() {
    let mut s = Scenario::configured(&[3], |config| {
        config.hang = Hang::Kill;
        config.hang_timeout_ns = SECOND;
    });
    let [a, b] = s.start_all();
    s.form_group(&[a, b]);
    s.hang(b);
    let c = s.start(2);
    s.until("the kill is asked for, and asked for again", |s| s.world.harm.kills_refused > 1);
    assert!(s.world.nodes[b].alive() && s.system_is(a, &[a, b]), "{}", s.text());
    s.resume(b);
    s.until("the change goes on", |s| [a, b, c].iter().all(|&n| s.system_is(n, &[a, b, c])));
    s.finish();
}

/// Across hosts nobody is killed: there silence is suspected, and the process is excluded.
#[test]
fn nobody_is_killed_across_hosts() {
    let mut s = Scenario::configured(&[1, 1, 1], |config| {
        config.hang = Hang::Kill;
        config.hang_timeout_ns = 200 * MILLISECOND;
    });
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.world.nodes[c].allow_kill = true;
    s.hang(c);
    s.until("it is excluded", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    s.pass(SECOND);
    assert!(s.world.nodes[c].alive() && s.world.harm.kills_refused == 0, "{}", s.text());
    s.resume(c);
    s.until("it learns that it is out", |s| !s.world.nodes[c].alive());
    s.finish();
}

/// A process that announced a pause may stay away as long; one that stays away longer is excluded.
#[test]
fn an_announced_pause_is_granted_and_no_more() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let (a, b) = (s.start(0), s.start(1));
    s.world.template.max_pause_ns = 5 * SECOND;
    let c = s.start(2);
    s.until("all are admitted", |s| [a, b, c].iter().all(|&n| s.system_is(n, &[a, b, c])));
    s.form_group(&[a, b, c]);
    for _ in 0..3 {
        s.hang(c);
        s.pass(4_900 * MILLISECOND);
        s.resume(c);
        s.pass(SECOND);
        assert!([a, b, c].iter().all(|&n| s.view_is(n, &[a, b, c])), "a pause as announced\n{}", s.text());
    }
    // Without the announcement two seconds suffice: the second, who announced none.
    s.hang(b);
    s.until("who announced nothing is excluded", |s| s.view_is(a, &[a, c]) && s.view_is(c, &[a, c]));
    s.resume(b);
    s.until("it learns that it is out", |s| !s.world.nodes[b].alive());
    s.hang(c);
    s.pass(8 * SECOND);
    assert!(s.view_is(a, &[a]), "a longer pause than announced\n{}", s.text());
    s.resume(c);
    s.until("it learns that it is out", |s| !s.world.nodes[c].alive());
    s.finish();
}

/// Who is admitted while the other one is about to pause knows of the pause by the view: it has heard of it only that it is
/// there, before the admission.
#[test]
fn a_joiner_knows_announced_pauses() {
    let mut s = Scenario::new(&[1, 1, 1, 1]);
    let a = s.start(0);
    s.world.template.max_pause_ns = 5 * SECOND;
    let b = s.start(1);
    s.world.template.max_pause_ns = 0;
    let c = s.start(2);
    s.until("three are admitted", |s| [a, b, c].iter().all(|&n| s.system_is(n, &[a, b, c])));
    let (from, to) = (s.place(b), 3);
    let answers = |packet: &[u8]| matches!(message(packet), Some(Message::Found { .. }));
    let mute = move |packet: &network::Packet| packet.from == from && packet.to == to && !answers(&packet.bytes);
    s.intercept(move |packet| if mute(packet) { Verdict::Drop } else { Verdict::Pass });
    let d = s.start(3);
    s.until("the joiner is admitted", |s| s.system_is(d, &[a, b, c, d]));
    s.hang(b);
    s.pass(4_500 * MILLISECOND);
    assert!([a, c, d].iter().all(|&n| s.system_is(n, &[a, b, c, d])), "{}", s.text());
    s.resume(b);
    s.mend();
    s.pass(SECOND);
    assert!([a, b, c, d].iter().all(|&n| s.system_is(n, &[a, b, c, d])), "{}", s.text());
    s.form_group(&[a, b, c, d]);
    s.finish();
}

/// A stalled process has no sends: they are refused at once, not kept and lost. When it goes on the application is told,
/// once, and not before.
#[test]
fn a_stalled_process_refuses_sends_until_it_resumes() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.part(&[0]);
    s.part_one_way(1, 2);
    s.part_one_way(2, 1);
    s.until("all stall", |s| [a, b, c].iter().all(|&n| s.app(n).stalled));
    let told = s.app(a).writable;
    for _ in 0..100 {
        assert_eq!(s.try_multicast(a, Kind::Total, false, 50), Err(Refused::WouldBlock));
        let claimed = s.call(a, |app, ctx| app.claim_and_abort(ctx, 0, 50));
        assert_eq!(claimed, Err(Refused::WouldBlock));
        s.pass(5 * MILLISECOND);
    }
    assert_eq!(s.app(a).writable, told, "{}", s.text());
    s.mend();
    s.until("all go on", |s| [a, b, c].iter().all(|&n| !s.app(n).stalled));
    s.until("told that it may send", |s| s.app(a).writable > told);
    let key = s.multicast(a, Kind::Total, false, 50);
    s.until("delivered", |s| [a, b, c].iter().all(|&n| s.has(n, key)));
    assert_eq!(s.app(a).writable, told + 1, "{}", s.text());
    s.finish();
}

/// What was accepted before the stall is lost if eviction follows, and the flush that would have covered it says so.
#[test]
fn an_evicted_process_hears_of_its_pending_flush() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.part(&[2]);
    s.multicast(c, Kind::Total, false, 50);
    let flush = s.flush(c).expect("a flush");
    s.until("the minority stalls", |s| s.app(c).stalled);
    assert_eq!(s.try_multicast(c, Kind::Fifo, false, 50), Err(Refused::WouldBlock));
    s.until("the majority goes on", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    s.mend();
    s.until("the minority is evicted", |s| !s.world.nodes[c].alive());
    assert_eq!(s.app(c).lost_flushes, [flush], "{}", s.text());
    s.finish();
}

/// A process whose application is slow closes while it is stalled (seed 20008736). Of what waits to be told to it nothing is
/// delivered any more (property 20): the others may have gone on without it.
#[test]
fn a_stalled_process_that_closes_is_told_no_more() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.world.lag(c, SECOND / 2);
    let sent = [50; 20].map(|len| s.multicast(b, Kind::Total, false, len));
    s.pass(20 * MILLISECOND);
    s.part(&[2]);
    s.until("the minority stalls", |s| s.world.nodes[c].endpoint.as_ref().is_some_and(|e| e.is_stalled()));
    s.call(c, |app, ctx| app.close(ctx));
    s.until("the minority is closed", |s| !s.world.nodes[c].alive());
    assert!(s.has(a, sent[19]) && s.has(c, sent[0]) && !s.has(c, sent[19]), "{}", s.text());
    s.mend();
    s.finish();
}

/// Sending view: during a view change a multicast is refused at once, and the word that it may be tried again comes behind
/// the new view.
#[test]
fn in_sending_view_mode_a_change_refuses_sends() {
    let mut s = Scenario::new(&[4]);
    let [a, b, c, d] = s.start_all();
    let options = JoinOptions { wants_state: true, sending_view: true, ..JoinOptions::default() };
    for node in [a, b, c] {
        s.join_as(node, 0, &options);
        s.until("a member", |s| s.view(node).is_some());
    }
    s.until("three members", |s| [a, b, c].iter().all(|&n| s.view_is(n, &[a, b, c])));
    let to = s.place(b);
    s.intercept(move |packet| match group_message(&packet.bytes) {
        Some(Message::Accept { .. }) if packet.to == to => Verdict::Hold,
        _ => Verdict::Pass,
    });
    s.join_as(d, 0, &options);
    s.until("the ACCEPT for b is under way", |s| s.world.network.held() > 0);
    let told = s.app(b).writable;
    assert_eq!(s.try_multicast(b, Kind::Causal, false, 100), Err(Refused::WouldBlock));
    s.pass(20 * MILLISECOND);
    assert_eq!(s.app(b).writable, told, "not while the change goes on\n{}", s.text());
    s.mend();
    s.until("the view of four", |s| [a, b, c, d].iter().all(|&n| s.view_is(n, &[a, b, c, d])));
    s.until("told that it may send", |s| s.app(b).writable == told + 1);
    let key = s.multicast(b, Kind::Causal, false, 100);
    s.until("delivered", |s| [a, b, c, d].iter().all(|&n| s.has(n, key)));
    s.finish();
}
