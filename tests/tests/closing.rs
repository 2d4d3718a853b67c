//! Who closes is gone as soon as the others have shown that they are in the next system view (R8), whatever of what they say is
//! lost, late, or comes in another order.

use isis_protocol::event::Kind;
use isis_protocol::id::GroupId;
use isis_protocol::time::MILLISECOND;
use isis_tests::scenario::{Scenario, message};
use isis_tests::sim::network::Verdict;
use isis_wire::message::Message;
use isis_wire::packet::{Packet, PacketKind};
use std::cell::Cell;
use std::rc::Rc;

/// Longer than any exchange on a quiet network, and shorter than any wait.
const SOON: u64 = 5 * MILLISECOND;

fn three_hosts() -> (Scenario, [usize; 3]) {
    let mut s = Scenario::new(&[1; 4]);
    let all = [0, 1, 2].map(|place| s.start(place));
    s.until("a system of three", |s| all.iter().all(|&n| s.system_is(n, &all)));
    s.form_group(&[all[2]]);
    s.multicast(all[2], Kind::Fifo, false, 20);
    s.pass(100 * MILLISECOND);
    (s, all)
}

/// The second one closes, and does not come to know that it has left; the others go on to the view without it, and to one further
/// on, with a newcomer.
fn closes_unheard(s: &mut Scenario, [a, b, c]: [usize; 3]) {
    s.call(b, |app, ctx| app.close(ctx));
    s.until("the others go on", |s| [a, c].iter().all(|&n| s.system_is(n, &[a, c])));
    let d = s.start(3);
    s.until("and further", |s| [a, c, d].iter().all(|&n| s.system_is(n, &[a, c, d])));
    assert!(s.world.nodes[b].alive() && s.system_is(b, &[a, b, c]), "the schedule is another one:\n{}", s.text());
}

/// The others say that they are in the next system view before the one that closes has the decision: it counts.
#[test]
fn who_is_there_already_is_not_waited_for() {
    let (mut s, [a, b, c]) = three_hosts();
    let leaver = s.place(b);
    let comes = Rc::new(Cell::new(false));
    let came = comes.clone();
    let mut dropped = 0;
    s.intercept(move |packet| match message(packet) {
        Some((true, Message::Decide { .. })) if packet.to == leaver => {
            dropped += 1;
            came.set(dropped > 2);
            if dropped > 2 { Verdict::Pass } else { Verdict::Drop }
        }
        _ => Verdict::Pass,
    });
    s.call(b, |app, ctx| app.close(ctx));
    s.until("the others go on", |s| [a, c].iter().all(|&n| s.system_is(n, &[a, c])));
    s.pass(SOON);
    assert!(!comes.get(), "the schedule is another one:\n{}", s.text());
    s.until("the decision comes", |_| comes.get());
    s.pass(SOON);
    assert!(s.app(b).closed && !s.world.nodes[b].alive(), "{}", s.text());
    s.finish();
}

/// What the others say once is lost. The one that closes asks by its decision, and is answered.
#[test]
fn who_asks_is_told_again() {
    let (mut s, [a, b, c]) = three_hosts();
    let leaver = s.place(b);
    let mut lost = 0;
    s.intercept(move |packet| match message(packet) {
        Some((true, Message::Installed { .. })) if packet.to == leaver && lost < 2 => {
            lost += 1;
            Verdict::Drop
        }
        _ => Verdict::Pass,
    });
    s.call(b, |app, ctx| app.close(ctx));
    s.until("the others go on", |s| [a, c].iter().all(|&n| s.system_is(n, &[a, c])));
    let linger = s.world.template.linger_ns;
    s.pass(SOON);
    assert!(s.world.nodes[b].alive(), "the schedule is another one:\n{}", s.text());
    s.pass(linger / 4);
    assert!(s.app(b).closed && !s.world.nodes[b].alive(), "{}", s.text());
    s.finish();
}

/// The one that closes knows the decision, and lacks bytes that come before the next view; meanwhile the others go on to a view
/// further on, and tell it of that one. It wanted to go, and is not evicted.
#[test]
fn who_lacks_the_end_of_its_last_view_has_left() {
    let (mut s, [a, b, c]) = three_hosts();
    let leaver = s.place(b);
    s.intercept(move |packet| match Packet::parse(&packet.bytes) {
        Ok(it) if packet.to == leaver && it.header.kind == PacketKind::Data && it.header.group == GroupId::SYSTEM => {
            Verdict::Drop
        }
        _ => Verdict::Pass,
    });
    s.join(a);
    s.pass(MILLISECOND);
    closes_unheard(&mut s, [a, b, c]);
    s.mend();
    s.until("it is gone", |s| !s.world.nodes[b].alive());
    assert!(s.app(b).closed, "{}", s.text());
    s.finish();
}

/// The one that closes never hears of the view without it, only of one further on. It wanted to go, and is not evicted. (Found by
/// reading.)
#[test]
fn who_hears_of_a_later_view_only_has_left() {
    let (mut s, [a, b, c]) = three_hosts();
    let leaver = s.place(b);
    let last = s.app(b).system_view.as_ref().expect("it is in one").number;
    s.intercept(move |packet| match message(packet) {
        Some((true, Message::Decide { value, .. })) if packet.to == leaver && value.number == last + 1 => Verdict::Drop,
        _ => Verdict::Pass,
    });
    closes_unheard(&mut s, [a, b, c]);
    s.until("it is gone", |s| !s.world.nodes[b].alive());
    assert!(s.app(b).closed, "{}", s.text());
    s.finish();
}
