//! More doctored traces: what needs another good trace than that of `doctored`. Systems that are founded where a number of
//! sites is expected (a part of property 20, see [`super::foundings`]), and causality across groups (a part of 12).

use super::doctored::{P0, P1, P2, Scribe, bites_in as bites, key, seen};
use super::{Limits, check};
use crate::trace::{Delivered, Event, Process, Trace};
use isis_protocol::event::Kind;
use isis_protocol::id::{GroupId, ProcessId, SystemId};

const P3: Process = Process(3);
const P4: Process = Process(4);
const OLD: SystemId = SystemId(7);
const NEW: SystemId = SystemId(8);
const GROUP: GroupId = GroupId(1);
const OTHER: GroupId = GroupId(2);

fn join_call(join: u16) -> Event {
    Event::JoinCall { join, name: join as u8, wants_state: false, sending_view: false, client: false }
}

/// A process starts on a site and is told the system view that admits it.
fn admit(s: &mut Scribe, process: Process, site: u32, system: SystemId, number: u64, members: &[Process]) {
    s.note(process, Event::Start { site, slot: process.0 });
    s.note(process, Event::Admitted { system, process: ProcessId::new(0, process.0 as u16, 1) });
    s.note(process, Event::SystemView(seen(GroupId::SYSTEM, number, members, &[], process)));
}

fn delivery(join: u16, group: GroupId, from: Process, number: u64) -> Event {
    let mut name = key(from, 1);
    name.join = join;
    Event::Deliver(Delivered {
        join,
        group,
        key: Some(name),
        kind: Kind::Causal,
        safe: false,
        view: 1,
        number,
        order: 0,
        rank: from.0 as u16,
        intact: true,
    })
}

fn send(s: &mut Scribe, from: Process, join: u16, group: GroupId) {
    let mut name = key(from, 1);
    name.join = join;
    s.note(from, Event::Send { key: name, kind: Kind::Causal, safe: false, len: 10, group, view: 1 });
}

// --- founding ------------------------------------------------------------------------------------------------------

fn expected() -> Limits {
    Limits { expected_sites: 3, ..Limits::default() }
}

/// Two of three expected sites found a system, the third one comes to it, and a group of the first two talks. Two die; the
/// third is left, and the sites of those two found the next system without it.
fn good_foundings() -> Trace {
    let mut s = Scribe::default();
    s.note(P0, Event::Founding { number: 1, system: OLD });
    s.note(P1, Event::Founding { number: 1, system: OLD });
    admit(&mut s, P0, 0, OLD, 1, &[P0, P1]);
    admit(&mut s, P1, 1, OLD, 1, &[P0, P1]);
    for p in [P0, P1] {
        s.note(p, Event::SystemView(seen(GroupId::SYSTEM, 2, &[P0, P1, P2], &[], p)));
    }
    admit(&mut s, P2, 2, OLD, 2, &[P0, P1, P2]);
    for p in [P0, P1, P2] {
        s.note(p, join_call(0));
        s.note(p, Event::View { join: 0, view: seen(GROUP, 1, &[P0, P1, P2], &[], p), digest: None });
    }
    send(&mut s, P0, 0, GROUP);
    for p in [P0, P1, P2] {
        s.note(p, delivery(0, GROUP, P0, 1));
    }
    s.note(P0, Event::Crash);
    s.note(P1, Event::Crash);
    // The same hosts, booted anew.
    s.note(P3, Event::Founding { number: 2, system: NEW });
    s.note(P4, Event::Founding { number: 2, system: NEW });
    admit(&mut s, P3, 100, NEW, 1, &[P3, P4]);
    admit(&mut s, P4, 101, NEW, 1, &[P3, P4]);
    s.note(P2, Event::Stalled);
    s.trace
}

fn place(trace: &Trace, is: impl Fn(Process, &Event) -> bool) -> usize {
    trace.records.iter().position(|r| is(r.process, &r.event)).expect("it is in the good trace")
}

#[test]
fn property_20_a_founding_is_decided_once() {
    bites(20, expected(), good_foundings, "founding 1 is", |t| {
        let at = place(t, |p, e| p == P1 && matches!(e, Event::Founding { .. }));
        t.records[at].event = Event::Founding { number: 1, system: NEW };
    });
}

#[test]
fn property_20_a_majority_of_the_expected_sites_founds() {
    // Both founders are of one host.
    bites(20, expected(), good_foundings, "a system is founded by 1 of 3 sites", |t| {
        let at = place(t, |p, e| p == P4 && matches!(e, Event::Start { .. }));
        t.records[at].event = Event::Start { site: 200, slot: 4 };
    });
}

#[test]
fn property_20_no_system_begins_while_a_majority_lives_in_an_older_one() {
    bites(20, expected(), good_foundings, "live in an older one", |t| {
        let at = place(t, |p, e| p == P1 && *e == Event::Crash);
        t.records.remove(at);
    });
}

#[test]
fn property_20_a_later_view_keeps_a_majority_of_the_expected_sites() {
    // Half with the oldest is a quorum only where no number is expected: the good trace goes on with one of two founders.
    let shrinks = |t: &mut Trace| {
        let at = place(t, |p, e| p == P0 && matches!(e, Event::SystemView(view) if view.number == 2));
        let view = seen(GroupId::SYSTEM, 2, &[P0], &[P1], P0);
        let keep = at;
        t.records.truncate(keep);
        let time = t.records[keep - 1].time + 1;
        t.push(time, P0, Event::SystemView(view));
    };
    bites(20, expected(), good_foundings, "keeps 1 of 2 sites", shrinks);
    let mut trace = good_foundings();
    shrinks(&mut trace);
    assert!(check(&trace, Limits::default()).is_empty(), "without expected sites it is one");
}

#[test]
fn property_20_who_is_left_in_an_older_system_falls_silent() {
    let late = |t: &mut Trace, after_ns: u64| {
        let time = t.records[t.records.len() - 1].time + after_ns;
        t.records.retain(|r| r.event != Event::Stalled);
        t.push(time, P2, delivery(0, GROUP, P0, 1));
        // Not the same message twice: the first delivery is what comes late.
        let at = place(t, |p, e| p == P2 && matches!(e, Event::Deliver(_)));
        t.records.remove(at);
    };
    bites(20, expected(), good_foundings, "after it was excluded", |t| late(t, 60_000_000_000));
    let mut soon = good_foundings();
    late(&mut soon, 1_000_000_000);
    assert!(check(&soon, expected()).is_empty(), "for a while it may not know");
}

// --- causality across groups -----------------------------------------------------------------------------------------

fn one_domain() -> Limits {
    Limits { across_groups: true, ..Limits::default() }
}

/// Two processes are in two groups. The first one multicasts in one group, then in the other; the second one, having
/// delivered that, answers in the second group.
fn good_groups() -> Trace {
    let mut s = Scribe::default();
    let both = [P0, P1];
    admit(&mut s, P0, 0, OLD, 1, &both);
    admit(&mut s, P1, 1, OLD, 1, &both);
    for p in both {
        for (join, group) in [(0, GROUP), (1, OTHER)] {
            s.note(p, join_call(join));
            s.note(p, Event::View { join, view: seen(group, 1, &both, &[], p), digest: None });
        }
    }
    send(&mut s, P0, 0, GROUP);
    s.note(P0, delivery(0, GROUP, P0, 1));
    send(&mut s, P0, 1, OTHER);
    s.note(P0, delivery(1, OTHER, P0, 1));
    s.note(P1, delivery(0, GROUP, P0, 1));
    s.note(P1, delivery(1, OTHER, P0, 1));
    send(&mut s, P1, 1, OTHER);
    s.note(P1, delivery(1, OTHER, P1, 1));
    s.note(P0, delivery(1, OTHER, P1, 1));
    s.trace
}

/// P1 delivers the message of the second group before that of the first.
fn overtakes(t: &mut Trace) {
    let at = place(t, |p, e| p == P1 && matches!(e, Event::Deliver(d) if d.group == GROUP));
    let (time, next) = (t.records[at].time, t.records[at + 1].time);
    t.records.swap(at, at + 1);
    (t.records[at].time, t.records[at + 1].time) = (time, next);
}

#[test]
fn property_12_reaches_across_the_groups_of_a_domain() {
    bites(12, one_domain(), good_groups, "happened before", overtakes);
    // The earlier message never comes, though later ones of the other group do.
    bites(12, one_domain(), good_groups, "happened before", |t| {
        let at = place(t, |p, e| p == P1 && matches!(e, Event::Deliver(d) if d.group == GROUP));
        t.records.remove(at);
    });
}

#[test]
fn property_12_does_not_bind_groups_of_different_domains() {
    let mut trace = good_groups();
    overtakes(&mut trace);
    assert!(check(&trace, Limits::default()).is_empty());
}

/// What is broken in one group alone is caught, whatever the other one says.
#[test]
fn each_group_of_a_domain_is_checked_by_itself() {
    let edit = |t: &mut Trace, change: fn(&mut Delivered)| {
        let at = place(t, |p, e| p == P0 && matches!(e, Event::Deliver(d) if d.group == OTHER && d.rank == 1));
        let Event::Deliver(delivered) = &mut t.records[at].event else { panic!("no delivery") };
        change(delivered);
    };
    bites(6, one_domain(), good_groups, "is not delivered as it was sent", |t| edit(t, |d| d.intact = false));
    bites(6, one_domain(), good_groups, "is not delivered as it was sent", |t| edit(t, |d| d.group = GROUP));
    bites(8, one_domain(), good_groups, "is delivered in view 1", |t| edit(t, |d| d.view = 2));
}
