//! Refused datagrams: what a host says of a process that died on it is acted upon at once, and what is said of a live one is
//! not. Guarantee 21 is at stake: the system view is the set of processes that are up.

use isis_protocol::event::Kind;
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_tests::scenario::{Scenario, message};
use isis_tests::sim::network::{Packet, Verdict};
use isis_wire::message::Message;
use std::cell::RefCell;
use std::rc::Rc;

fn is_probe(packet: &Packet) -> bool {
    matches!(message(packet), Some((true, Message::Probe { .. })))
}

/// Of three sites with a process each, one loses its process and not its host. What is sent there is refused: the others
/// have a view without it a few milliseconds after the first datagram, where silence alone would take `suspect_min_ns`.
#[test]
fn a_process_that_dies_on_a_live_host_is_missed_at_once() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.pass(SECOND);
    s.refuse();
    s.crash(c);
    let died = s.world.now();
    s.multicast(a, Kind::Total, false, 100);
    s.multicast(b, Kind::Total, false, 100);
    s.until("the view of the rest", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    let took = s.world.now() - died;
    assert!(took < 10 * MILLISECOND, "{} us", took / 1_000);
    s.finish();
}

/// The same where the host is gone as well: nothing is refused, and silence decides.
#[test]
fn a_host_that_dies_refuses_nothing() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.pass(SECOND);
    s.refuse();
    let suspect_min_ns = s.world.template.suspect_min_ns;
    s.crash_site(2);
    let died = s.world.now();
    s.multicast(a, Kind::Total, false, 100);
    s.until("the view of the rest", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    assert!(s.world.now() - died > suspect_min_ns / 2);
    let _ = c;
    s.finish();
}

/// Somebody tells all processes, all the time, that a live one refuses. It answers what it is asked.
#[test]
fn forged_refusals_exclude_nobody() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.pass(SECOND);
    let probes = Rc::new(RefCell::new(0));
    let seen = Rc::clone(&probes);
    s.intercept(move |packet| {
        *seen.borrow_mut() += u32::from(is_probe(packet));
        Verdict::Pass
    });
    for _ in 0..1_000 {
        s.hint(a, c, &[]);
        s.hint(b, c, &[]);
        s.pass(MILLISECOND / 4);
    }
    assert!(*probes.borrow() > 0, "the hints led to no question");
    assert!(s.view_is(a, &[a, b, c]) && s.view_is(b, &[a, b, c]) && s.view_is(c, &[a, b, c]));
    s.finish();
}

/// Somebody repeats what was sent to a live process as if it had been refused, old probes as well. None of it is the probe that
/// is out; when it is, the process answers it.
#[test]
fn refusals_that_quote_what_arrived_exclude_nobody() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.pass(SECOND);
    let (from, to) = (s.place(a), s.place(c));
    let sent: Rc<RefCell<Vec<Rc<[u8]>>>> = Rc::default();
    let kept = Rc::clone(&sent);
    s.intercept(move |packet| {
        if packet.from == from && packet.to == to && (is_probe(packet) || kept.borrow().len() < 20) {
            kept.borrow_mut().push(Rc::clone(&packet.bytes));
        }
        Verdict::Pass
    });
    for step in 0..1_000 {
        let quoted = sent.borrow().iter().rev().nth(1 + step % 20).cloned();
        s.hint(a, c, quoted.as_deref().unwrap_or(&[]));
        s.pass(MILLISECOND / 2);
    }
    assert!(s.view_is(a, &[a, b, c]) && s.view_is(c, &[a, b, c]));
    s.finish();
}

/// A process dies, and a new one gets its address before anybody has probed it. What is late of the old one's refusals does
/// the new one no harm.
#[test]
fn the_next_process_at_an_address_is_not_excluded_for_the_one_before() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.pass(SECOND);
    s.refuse();
    let place = s.place(c);
    s.crash(c);
    s.multicast(a, Kind::Total, false, 100);
    s.until("the view of the rest", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    let d = s.admit(place);
    for _ in 0..100 {
        s.hint(a, d, &[]);
        s.hint(b, d, &[]);
        s.pass(MILLISECOND);
    }
    assert!([a, b, d].iter().all(|&n| s.system_is(n, &[a, b, d])));
    s.finish();
}
