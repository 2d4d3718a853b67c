//! Who leaves a group and does not hear that it has left (R8): whoever knows keeps the answer until it is known, whatever
//! becomes of the group meanwhile.

use isis_protocol::event::Kind;
use isis_protocol::id::GroupId;
use isis_protocol::time::MILLISECOND;
use isis_tests::scenario::{Scenario, message};
use isis_tests::sim::network::Verdict;
use isis_wire::message::Message;
use isis_wire::packet::{Packet, PacketKind};

/// Two members and a third process, on a site each. The second member leaves; what the first one tells it of the decision is
/// lost, until the way is mended.
fn leaves_unheard() -> (Scenario, [usize; 3]) {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b]);
    let (from, deaf) = (s.place(a), s.place(b));
    s.intercept(move |packet| match message(packet) {
        Some((false, Message::Decide { .. })) if packet.from == from && packet.to == deaf => Verdict::Drop,
        _ => Verdict::Pass,
    });
    s.leave(b).expect("a member may leave");
    (s, [a, b, c])
}

/// Before the second can hear again the first leaves as well, and joins again: of the view that it has to tell about it knows
/// from its former membership only, and nobody else knows at all. (From seed 91136565: the leave never completed, and nobody
/// could join any more.)
#[test]
fn who_joins_again_answers_for_its_former_membership() {
    let (mut s, [a, b, c]) = leaves_unheard();
    s.join(c);
    s.until("the oldest and the newcomer", |s| s.view_is(a, &[a, c]) && s.view_is(c, &[a, c]));
    s.leave(a).expect("a member may leave");
    s.until("the newcomer alone", |s| s.view_is(c, &[c]));
    s.join(a);
    s.until("the oldest is back", |s| s.view_is(c, &[c, a]) && s.view_is(a, &[c, a]));
    s.pass(50 * MILLISECOND);
    assert!(s.view_is(b, &[a, b]), "the schedule is another one:\n{}", s.text());
    s.mend();
    s.finish();
}

/// The second hears how its last view ended only when many further views have ended.
#[test]
fn a_decision_is_kept_until_all_know_it() {
    let (mut s, [a, b, c]) = leaves_unheard();
    for _ in 0..10 {
        s.join(c);
        s.until("both", |s| s.view_is(a, &[a, c]) && s.view_is(c, &[a, c]));
        s.leave(c).expect("a member may leave");
        s.until("the oldest alone", |s| s.view_is(a, &[a]));
    }
    assert!(s.view_is(b, &[a, b]), "the schedule is another one:\n{}", s.text());
    s.mend();
    s.finish();
}

/// Three sites; the third hears nothing of what is multicast in the system group. The other two decide the next system view, with
/// a newcomer of the first site, and with a message that only they have; then the two die, and the newcomer lives. It hears the
/// third, which cannot be in its view, though: that is no contact to a quorum, and both stall. (From seed 92047497: the newcomer
/// took itself for a part of a quorum that could never decide anything.)
#[test]
fn who_cannot_be_in_the_view_is_no_part_of_its_quorum() {
    let mut s = Scenario::new(&[2, 1, 1]);
    let (a, b, c) = (s.admit(0), s.admit(2), s.admit(3));
    s.until("the system of three", |s| [a, b, c].iter().all(|&n| s.system_is(n, &[a, b, c])));
    s.join(a);
    s.until("a group", |s| s.view_is(a, &[a]));
    let key = s.multicast(a, Kind::Total, false, 100);
    s.until("something is delivered", |s| s.has(a, key));
    s.pass(100 * MILLISECOND);
    let deaf = s.place(c);
    s.intercept(move |packet| {
        let stream = Packet::parse(&packet.bytes)
            .is_ok_and(|it| it.header.kind == PacketKind::Data && it.header.group == GroupId::SYSTEM);
        if stream && packet.to == deaf { Verdict::Drop } else { Verdict::Pass }
    });
    s.join(b);
    s.pass(5 * MILLISECOND);
    let d = s.start(1);
    s.until("the system of four", |s| [a, b, d].iter().all(|&n| s.system_is(n, &[a, b, c, d])));
    s.crash(a);
    s.crash_site(1);
    s.mend();
    s.until("both stall", |s| s.app(d).stalled && s.app(c).stalled);
    assert!(s.system_is(c, &[a, b, c]) && s.system_is(d, &[a, b, c, d]), "the schedule is another one:\n{}", s.text());
    s.finish_safe();
}

/// A process knows the decision of the next system view, which has it, and lacks bytes to enter it. It is cut off, and the others
/// go on without it and forget those bytes. When it hears them again it learns that it is excluded. (From seed 109013018: it was
/// told of the decision that it knew, for ever, and neither entered nor started again.)
#[test]
fn who_was_excluded_on_its_way_into_a_view_is_told() {
    let mut s = Scenario::new(&[1, 1, 1, 1]);
    let [a, b, c] = [0, 1, 2].map(|place| s.start(place));
    s.until("a system of three", |s| [a, b, c].iter().all(|&n| s.system_is(n, &[a, b, c])));
    let deaf = s.place(c);
    s.intercept(move |packet| match Packet::parse(&packet.bytes) {
        Ok(it) if packet.to == deaf && it.header.kind == PacketKind::Data => Verdict::Drop,
        _ => Verdict::Pass,
    });
    s.join(a);
    s.pass(5 * MILLISECOND);
    let d = s.start(3);
    s.until("the next system view", |s| [a, b].iter().all(|&n| s.system_is(n, &[a, b, c, d])));
    s.pass(20 * MILLISECOND);
    assert!(s.system_is(c, &[a, b, c]), "it has entered:\n{}", s.text());
    s.part(&[2]);
    s.until("the others go on", |s| [a, b, d].iter().all(|&n| s.system_is(n, &[a, b, d])));
    s.mend();
    s.until("it is told", |s| !s.world.nodes[c].alive());
    let c = s.start(2);
    s.until("it is back", |s| [a, b, c, d].iter().all(|&n| s.system_is(n, &[a, b, d, c])));
    s.finish();
}

/// Of two members of a system the one that decides on the next view, with a newcomer of its own site, dies before the other one
/// has what it needs to enter that view; the newcomer was not there and cannot help. The other one knows the decision, hears of
/// the newcomer that the view is there, and gives up: the newcomer, whose site is a quorum, would wait for it for ever. (From
/// seed 115018721.)
#[test]
fn who_can_never_enter_gives_up() {
    let mut s = Scenario::new(&[2, 1]);
    let [a, b] = [0, 2].map(|place| s.start(place));
    s.until("a system of two", |s| [a, b].iter().all(|&n| s.system_is(n, &[a, b])));
    let deaf = s.place(b);
    s.intercept(move |packet| match Packet::parse(&packet.bytes) {
        Ok(it) if packet.to == deaf && it.header.kind == PacketKind::Data => Verdict::Drop,
        _ => Verdict::Pass,
    });
    s.join(a);
    s.pass(5 * MILLISECOND);
    let c = s.start(1);
    s.until("the next system view", |s| [a, c].iter().all(|&n| s.system_is(n, &[a, b, c])));
    s.pass(20 * MILLISECOND);
    assert!(s.system_is(b, &[a, b]), "it has entered:\n{}", s.text());
    s.crash(a);
    s.mend();
    s.until("it gives up", |s| !s.world.nodes[b].alive());
    s.until("the newcomer goes on", |s| s.system_is(c, &[c]));
    let b = s.start(2);
    s.until("it is back", |s| [b, c].iter().all(|&n| s.system_is(n, &[c, b])));
    s.finish();
}

/// A process leaves the system, and nobody's word that it knows comes to it: it repeats the decision, while the others go on to
/// views further on, of which they tell it. It has left, and is not evicted.
#[test]
fn who_has_left_is_not_evicted() {
    let mut s = Scenario::new(&[1; 4]);
    let [a, b, c, d] = s.start_all();
    s.form_group(&[d]);
    s.multicast(d, Kind::Fifo, false, 20);
    let to = s.place(a);
    s.intercept(move |packet| match message(packet) {
        Some((true, Message::Installed { .. })) if packet.to == to => Verdict::Drop,
        _ => Verdict::Pass,
    });
    for node in [a, b, c] {
        s.call(node, |app, ctx| app.close(ctx));
        s.until("it has left", |s| s.system_is(d, &[a, b, c, d][node + 1..]));
    }
    s.until("the first one is gone", |s| !s.world.nodes[a].alive());
    assert!(s.app(a).closed, "{}", s.text());
    s.finish();
}
