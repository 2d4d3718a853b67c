//! Named schedules.

use isis_protocol::event::{Kind, Refused};
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_tests::scenario::Scenario;
use isis_tests::sim::network::{Packet, Verdict};
use isis_wire::message::Message;
use isis_wire::packet::{self, PacketKind};
use std::cell::Cell;
use std::rc::Rc;

/// [SOSP87] §2: a process failure is a clean event. Three processes of one site form a group, one is killed, and the rest
/// have the next view, with the same messages before it (properties 4, 9, 17).
#[test]
fn three_on_one_site_lose_one() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    for (node, kind) in [(a, Kind::Fifo), (b, Kind::Causal), (c, Kind::Total), (a, Kind::Total), (c, Kind::Causal)] {
        s.multicast(node, kind, false, 300);
    }
    s.crash(c);
    s.until("the view without the dead one", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    let last = s.multicast(b, Kind::Total, true, 10);
    s.until("a safe ABCAST of the new view", |s| s.has(a, last) && s.has(b, last));
    s.finish();
}

/// What only one survivor received of a dead sender's messages reaches the other one before the next view (property 9).
#[test]
fn what_one_survivor_has_the_other_gets() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    // b hears nothing of c any more.
    s.drop_packets(c, b, |_| true);
    let lone = s.multicast(c, Kind::Fifo, false, 300);
    s.until("a has it", |s| s.has(a, lone));
    assert!(!s.has(b, lone));
    s.crash(c);
    s.until("the view without the dead one", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    assert!(s.has(b, lone), "{}", s.text());
    s.finish();
}

/// A minority of sites stalls and delivers nothing; the majority goes on; after the partition the minority is evicted
/// (property 20).
#[test]
fn a_minority_stalls() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.part(&[2]);
    s.until("the majority goes on", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    s.until("the minority stalls", |s| s.app(c).stalled);
    s.pass(SECOND);
    s.mend();
    s.until("the minority is evicted", |s| !s.world.nodes[c].alive());
    s.finish();
}

/// Packets that are held and released late do no harm: nothing is delivered twice, or after the view (properties 7, 10).
#[test]
fn late_packets_are_harmless() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    let (from, to) = (s.place(c), s.place(b));
    s.intercept(move |p| if p.from == from && p.to == to { Verdict::Hold } else { Verdict::Pass });
    s.multicast(c, Kind::Causal, false, 50);
    s.pass(5 * MILLISECOND);
    s.crash(c);
    s.until("the view without the dead one", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    assert!(s.world.network.held() > 0);
    s.release();
    s.pass(100 * MILLISECOND);
    s.finish();
}

/// The kind of a packet, and whether it is a DECIDE.
fn kind_of(packet: &Packet) -> Option<(PacketKind, bool)> {
    let packet = packet::Packet::parse(&packet.bytes).ok()?;
    let kind = packet.header.kind;
    let decides = kind == PacketKind::Message && matches!(Message::decode(packet.body), Ok(Message::Decide { .. }));
    Some((kind, decides))
}

/// The donor leaves before the joiner has the state, and the next one begins anew. Its first block comes before the view
/// that names it and is kept; the view and the other blocks come at one go: none of them overtakes the first (property 25;
/// found as seed 102490).
#[test]
fn a_block_of_state_is_not_overtaken() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b]);
    for node in [a, b] {
        s.multicast(node, Kind::Total, false, 500);
    }
    let (first, second, joiner) = (s.place(a), s.place(b), s.place(c));
    let mut blocks = 0;
    let next_donor = Rc::new(Cell::new(false));
    let changing = Rc::clone(&next_donor);
    s.intercept(move |packet| {
        if packet.to != joiner {
            return Verdict::Pass;
        }
        match kind_of(packet) {
            Some((PacketKind::Channel, _)) if packet.from == first => Verdict::Drop,
            Some((PacketKind::Channel, _)) if packet.from == second => {
                blocks += 1;
                if blocks == 1 { Verdict::Pass } else { Verdict::Hold }
            }
            Some((_, true)) if changing.get() => Verdict::Hold,
            _ => Verdict::Pass,
        }
    });
    s.join(c);
    s.until("the view with the joiner", |s| s.view_is(a, &[a, b, c]) && s.view_is(b, &[a, b, c]));
    s.pass(10 * MILLISECOND);
    next_donor.set(true);
    s.leave(a).expect("a member may leave");
    s.until("the view without the first donor", |s| s.view_is(b, &[b, c]));
    s.pass(2 * MILLISECOND);
    assert!(s.world.network.held() > 1, "the DECIDE and the other blocks are under way");
    s.hang(c);
    s.release();
    s.pass(5 * MILLISECOND);
    s.resume(c);
    s.until("the joiner has the state", |s| s.view_is(c, &[b, c]));
    s.finish();
}

/// A safe FBCAST follows a CBCAST in its stream, and that one a message which the third member lacks. All have both: but when
/// the first two die, the third has to drop the CBCAST, and with it what follows in the stream. So the FBCAST must not be
/// delivered before the lacking message is stable (property 16; found as seed 4021654).
#[test]
fn a_safe_fbcast_waits_for_what_comes_before_it() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    let (from, to) = (s.place(b), s.place(c));
    s.intercept(move |packet| {
        let data = kind_of(packet).is_some_and(|(kind, _)| kind == PacketKind::Data);
        if data && packet.from == from && packet.to == to { Verdict::Drop } else { Verdict::Pass }
    });
    let lacking = s.multicast(b, Kind::Causal, false, 50);
    s.until("the first has it", |s| s.has(a, lacking));
    let causal = s.multicast(a, Kind::Causal, false, 50);
    let safe = s.multicast(a, Kind::Fifo, true, 50);
    s.until("both have the CBCAST", |s| s.has(a, causal) && s.has(b, causal));
    s.pass(MILLISECOND);
    assert!(!s.has(c, lacking), "it was repaired too soon for this test");
    assert!(!s.has(a, safe) && !s.has(b, safe), "it may still be lost:\n{}", s.text());
    s.crash(a);
    s.crash(b);
    s.until("the view of the last", |s| s.view_is(c, &[c]));
    s.finish();
}

/// Multicasts in a row are checked once, but for what differs from one to the next: their length, their order, the room.
#[test]
fn each_of_several_multicasts_in_a_row_is_checked_for_itself() {
    let mut s = Scenario::configured(&[2], |config| {
        (config.max_message, config.window) = (1_000, 64 << 10);
    });
    let [a, b] = s.start_all();
    s.form_group(&[a, b]);
    s.pass(SECOND / 10);
    let mut sent = Vec::new();
    for len in [10, 900, 1_000] {
        sent.push(s.multicast(a, Kind::Causal, false, len));
        assert!(matches!(s.try_multicast(a, Kind::Causal, false, 1_001), Err(Refused::TooLong)));
        sent.push(s.multicast(a, Kind::Total, false, len));
    }
    while let Ok(key) = s.try_multicast(a, Kind::Total, false, 1_000) {
        sent.push(key);
    }
    assert!((60..=67).contains(&sent.len()), "{} messages in a window of 64 KiB", sent.len());
    s.until("all are delivered", |s| sent.iter().all(|&message| s.has(a, message) && s.has(b, message)));
    s.finish();
}
