//! What is due at once is done at once, and not with the next heartbeat: the core does nothing between its deadlines unless it says
//! that there is something to do.

use isis_protocol::event::Kind;
use isis_protocol::time::MILLISECOND;
use isis_tests::scenario::Scenario;

/// Longer than any exchange on a quiet network, and shorter than a heartbeat.
const SOON: u64 = 5 * MILLISECOND;

/// A process without groups closes: it asks to leave in the same turn.
#[test]
fn a_close_is_asked_for_at_once() {
    let mut s = Scenario::new(&[2]);
    let [a, b] = s.start_all();
    // Away from the heartbeats.
    s.pass(SOON);
    s.call(b, |app, ctx| app.close(ctx));
    s.pass(SOON);
    assert!(s.system_is(a, &[a]), "{}", s.text());
    s.form_group(&[a]);
    s.multicast(a, Kind::Fifo, false, 20);
    s.finish();
}

/// All close at once, each on a host of its own. Each leaves, and each is gone as soon as the others have shown that they know:
/// nobody waits until its time is over, and nobody is told that it was evicted, which only comes to those who did not leave.
#[test]
fn all_close_at_once() {
    for jitter in 0..40 {
        let mut s = Scenario::new(&[1; 4]);
        let all: [usize; 4] = s.start_all();
        s.form_group(&all);
        s.pass(SOON);
        for node in all {
            s.pass(jitter * 50_000);
            s.call(node, |app, ctx| app.close(ctx));
        }
        let begin = s.world.now();
        s.until("all are gone", |s| all.iter().all(|&node| !s.world.nodes[node].alive()));
        let took = s.world.now() - begin;
        assert!(took < SOON, "gone after {took} ns:\n{}", s.text());
        for node in all {
            assert!(s.app(node).closed, "{node} did not leave:\n{}", s.text());
        }
        s.finish();
    }
}

/// The only member of a group multicasts, and delivers that itself.
#[test]
fn who_is_alone_delivers_at_once() {
    let mut s = Scenario::new(&[1]);
    let [a] = s.start_all();
    s.form_group(&[a]);
    s.pass(SOON);
    let keys = [Kind::Fifo, Kind::Causal, Kind::Total].map(|kind| s.multicast(a, kind, kind == Kind::Total, 20));
    s.pass(SOON);
    for key in keys {
        assert!(s.has(a, key), "{}", s.text());
    }
    s.finish();
}

/// Safe messages wait until it is known that all have them. What is sent anyway says so, however short the time since the last row:
/// nobody waits for one that goes out by itself.
#[test]
fn what_safe_messages_wait_for_rides_on_them() {
    let mut s = Scenario::configured(&[2], |config| config.row_delay_ns = 4 * SOON);
    let [orders, other] = s.start_all();
    s.form_group(&[orders, other]);
    s.pass(100 * SOON);
    let begin = s.world.now();
    for from in [orders, other].repeat(20) {
        let key = s.multicast(from, Kind::Total, true, 20);
        s.until("the one that does not order has it", |s| s.has(other, key));
    }
    let took = s.world.now() - begin;
    assert!(took < SOON, "40 messages took {took} ns: somebody waited for a row");
    s.finish();
}
