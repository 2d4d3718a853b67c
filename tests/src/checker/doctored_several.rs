//! Doctored traces of ABCASTs to several groups: one order over all groups (a part of property 13), all groups or none (of 17),
//! and what follows such a message in a third group (of 12).

use super::doctored::{P0, P1, P2, Scribe, bites_in, key, seen};
use super::{Limits, check};
use crate::trace::{Delivered, Event, Key, Process, Trace};
use isis_protocol::event::Kind;
use isis_protocol::id::{GroupId, ProcessId, SystemId};

const P3: Process = Process(3);
const P4: Process = Process(4);
const SYSTEM: SystemId = SystemId(7);
const FIRST: GroupId = GroupId(1);
const SECOND: GroupId = GroupId(2);
const THIRD: GroupId = GroupId(3);

/// A message's name in the group of the sender's join.
fn name(from: Process, join: u16, number: u32) -> Key {
    let mut name = key(from, number);
    name.join = join;
    name
}

/// A system of these processes.
fn begin(members: &[Process]) -> Scribe {
    let mut s = Scribe::default();
    for &process in members {
        s.note(process, Event::Start { site: 0, slot: process.0 });
        s.note(process, Event::Admitted { system: SYSTEM, process: ProcessId::new(0, process.0 as u16, 1) });
        s.note(process, Event::SystemView(seen(GroupId::SYSTEM, 1, members, &[], process)));
    }
    s
}

/// Each member, with the number of its join there, is told the group's first view.
fn form(s: &mut Scribe, group: GroupId, members: &[(Process, u16)]) {
    let processes: Vec<Process> = members.iter().map(|(process, _)| *process).collect();
    for &(process, join) in members {
        let name = group.0 as u8;
        s.note(process, Event::JoinCall { join, name, wants_state: false, sending_view: false, client: false });
        s.note(process, Event::View { join, view: seen(group, 1, &processes, &[], process), digest: None });
    }
}

/// The sender's joins 0 and 1 are of the first and the second group.
fn send_to_both(s: &mut Scribe, from: Process, number: u32) {
    let copies = vec![(name(from, 0, number), FIRST, 1), (name(from, 1, number), SECOND, 1)];
    s.note(from, Event::SendMany { copies, safe: false, len: 20 });
}

/// `at`: the process, its join, the group. `rank`: the sender's; `order`: the message's place.
fn deliver(s: &mut Scribe, at: (Process, u16, GroupId), key: Key, rank: u16, order: u64) {
    let (process, join, group) = at;
    let delivered = Delivered {
        join,
        group,
        key: Some(key),
        kind: Kind::Total,
        safe: false,
        view: 1,
        number: u64::from(key.number),
        order,
        rank,
        intact: true,
    };
    s.note(process, Event::Deliver(delivered));
}

/// Two processes in two groups send to both; the messages come in one order.
fn good_order() -> Trace {
    let mut s = begin(&[P0, P1]);
    form(&mut s, FIRST, &[(P0, 0), (P1, 0)]);
    form(&mut s, SECOND, &[(P0, 1), (P1, 1)]);
    send_to_both(&mut s, P0, 1);
    send_to_both(&mut s, P1, 1);
    for process in [P0, P1] {
        for (join, group) in [(0, FIRST), (1, SECOND)] {
            deliver(&mut s, (process, join, group), name(P0, join, 1), 0, 1);
            deliver(&mut s, (process, join, group), name(P1, join, 1), 1, 2);
        }
    }
    s.trace
}

/// One is in two groups, with one other process in each; it sends to both and dies. Both deliver the message.
fn good_settling() -> Trace {
    let mut s = begin(&[P0, P1, P2]);
    form(&mut s, FIRST, &[(P0, 0), (P1, 0)]);
    form(&mut s, SECOND, &[(P0, 1), (P2, 0)]);
    send_to_both(&mut s, P0, 1);
    s.note(P0, Event::Crash);
    for process in [P1, P2] {
        s.note(process, Event::SystemView(seen(GroupId::SYSTEM, 2, &[P1, P2], &[P0], process)));
    }
    deliver(&mut s, (P1, 0, FIRST), name(P0, 0, 1), 0, 1);
    deliver(&mut s, (P2, 0, SECOND), name(P0, 1, 1), 0, 1);
    s.note(P1, Event::View { join: 0, view: seen(FIRST, 2, &[P1], &[P0], P1), digest: None });
    s.note(P2, Event::View { join: 0, view: seen(SECOND, 2, &[P2], &[P0], P2), digest: None });
    s.trace
}

/// One of five sends to two groups, and is parted with the one that delivers the message. The other three exclude both, so that
/// nobody who is left knows anything of it.
fn good_parting() -> Trace {
    let mut s = begin(&[P0, P1, P2, P3, P4]);
    form(&mut s, FIRST, &[(P0, 0), (P1, 0)]);
    form(&mut s, SECOND, &[(P0, 1), (P2, 0)]);
    send_to_both(&mut s, P0, 1);
    deliver(&mut s, (P2, 0, SECOND), name(P0, 1, 1), 0, 1);
    let left = [P1, P3, P4];
    for process in left {
        s.note(process, Event::SystemView(seen(GroupId::SYSTEM, 2, &left, &[P0, P2], process)));
    }
    s.note(P1, Event::View { join: 0, view: seen(FIRST, 2, &[P1], &[P0], P1), digest: None });
    s.note(P0, Event::Evicted);
    s.note(P2, Event::Evicted);
    s.trace
}

/// One sends to two groups, the first of which is its own alone, and dies. A newcomer was to come to that group then, and never
/// met it: the message has died there with the group's only member.
fn good_newcomer() -> Trace {
    let mut s = begin(&[P0, P1, P2]);
    form(&mut s, FIRST, &[(P0, 0)]);
    form(&mut s, SECOND, &[(P0, 1), (P2, 0)]);
    send_to_both(&mut s, P0, 1);
    deliver(&mut s, (P2, 0, SECOND), name(P0, 1, 1), 0, 1);
    let (join, name) = (0, FIRST.0 as u8);
    s.note(P1, Event::JoinCall { join, name, wants_state: false, sending_view: false, client: false });
    s.note(P1, Event::View { join, view: seen(FIRST, 2, &[P0, P1], &[], P1), digest: None });
    s.note(P0, Event::Crash);
    for process in [P1, P2] {
        s.note(process, Event::SystemView(seen(GroupId::SYSTEM, 2, &[P1, P2], &[P0], process)));
    }
    s.note(P1, Event::View { join, view: seen(FIRST, 3, &[P1], &[P0], P1), digest: None });
    s.note(P2, Event::View { join: 0, view: seen(SECOND, 2, &[P2], &[P0], P2), digest: None });
    s.trace
}

/// One sends to two groups; a member of the second answers in a third one, where a member of the first is.
fn good_answer() -> Trace {
    let mut s = begin(&[P0, P1, P2]);
    form(&mut s, FIRST, &[(P0, 0), (P1, 0)]);
    form(&mut s, SECOND, &[(P0, 1), (P2, 0)]);
    form(&mut s, THIRD, &[(P1, 1), (P2, 1)]);
    send_to_both(&mut s, P0, 1);
    deliver(&mut s, (P0, 0, FIRST), name(P0, 0, 1), 0, 1);
    deliver(&mut s, (P0, 1, SECOND), name(P0, 1, 1), 0, 1);
    deliver(&mut s, (P2, 0, SECOND), name(P0, 1, 1), 0, 1);
    let answer = name(P2, 1, 1);
    s.note(P2, Event::Send { key: answer, kind: Kind::Total, safe: false, len: 10, group: THIRD, view: 1 });
    deliver(&mut s, (P1, 0, FIRST), name(P0, 0, 1), 0, 1);
    deliver(&mut s, (P1, 1, THIRD), answer, 1, 1);
    deliver(&mut s, (P2, 1, THIRD), answer, 1, 1);
    s.trace
}

/// One sends to two groups. A member of the first leaves it before the message has come there, and it never comes, for the sender
/// dies, the last member; in the second group it did come. Who has it from there then sends where the leaver is.
fn good_leaving() -> Trace {
    let mut s = begin(&[P0, P1, P2]);
    form(&mut s, FIRST, &[(P0, 0), (P1, 0)]);
    form(&mut s, SECOND, &[(P0, 1), (P2, 0)]);
    form(&mut s, THIRD, &[(P1, 1), (P2, 1)]);
    send_to_both(&mut s, P0, 1);
    s.note(P1, Event::LeaveCall { join: 0 });
    s.note(P1, Event::Left { join: 0 });
    deliver(&mut s, (P2, 0, SECOND), name(P0, 1, 1), 0, 1);
    s.note(P0, Event::Crash);
    let answer = name(P2, 1, 1);
    s.note(P2, Event::Send { key: answer, kind: Kind::Total, safe: false, len: 10, group: THIRD, view: 1 });
    deliver(&mut s, (P1, 1, THIRD), answer, 1, 1);
    deliver(&mut s, (P2, 1, THIRD), answer, 1, 1);
    s.trace
}

/// The deliveries of a process in a group.
fn deliveries(trace: &Trace, process: Process, group: GroupId) -> Vec<usize> {
    let is = |event: &Event| matches!(event, Event::Deliver(delivered) if delivered.group == group);
    let records = trace.records.iter().enumerate();
    records.filter(|(_, r)| r.process == process && is(&r.event)).map(|(index, _)| index).collect()
}

fn bites(property: u8, good: fn() -> Trace, says: &str, doctor: impl FnOnce(&mut Trace)) {
    let limits = Limits { across_groups: true, ..Limits::default() };
    bites_in(property, limits, good, says, doctor);
}

#[test]
fn property_13_is_one_order_over_all_groups() {
    // In the second group both members deliver the two messages the other way round.
    bites(13, good_order, "make a circle", |t| {
        for process in [P0, P1] {
            let places = deliveries(t, process, SECOND);
            let [first, second] = places[..] else { panic!("two messages") };
            let (one, other) = (t.records[first].event.clone(), t.records[second].event.clone());
            for (place, event, order) in [(first, other, 1), (second, one, 2)] {
                let Event::Deliver(mut delivered) = event else { panic!("a delivery") };
                delivered.order = order;
                t.records[place].event = Event::Deliver(delivered);
            }
        }
    });
}

#[test]
fn property_17_is_of_all_groups() {
    for (process, group) in [(P1, FIRST), (P2, SECOND)] {
        bites(17, good_settling, "nobody delivers it", |t| {
            let at = deliveries(t, process, group)[0];
            t.records.remove(at);
        });
    }
    // In none of them: nobody has it, and nothing is wrong.
    let mut trace = good_settling();
    for (process, group) in [(P1, FIRST), (P2, SECOND)] {
        let at = deliveries(&trace, process, group)[0];
        trace.records.remove(at);
    }
    assert!(check(&trace, Limits::default()).is_empty());
}

#[test]
fn property_17_is_of_those_that_are_in_the_system() {
    // The one that has delivered it is excluded later, when the other group has gone on without it.
    bites(17, good_parting, "nobody delivers it", |t| {
        for record in &mut t.records {
            if let Event::SystemView(view) = &record.event
                && view.number == 2
            {
                let members = [P1, P2, P3, P4];
                record.event = Event::SystemView(seen(GroupId::SYSTEM, 2, &members, &[P0], record.process));
            }
        }
        let last = t.records.last().map_or(0, |record| record.time);
        for process in [P1, P3, P4] {
            let view = seen(GroupId::SYSTEM, 3, &[P1, P3, P4], &[P2], process);
            t.push(last, process, Event::SystemView(view));
        }
    });
}

#[test]
fn property_17_is_of_those_that_the_message_can_have_met() {
    // The sender has gone on to the newcomer's view, and taken the message there.
    bites(17, good_newcomer, "nobody delivers it", |t| {
        let crash = t.records.iter().position(|record| matches!(record.event, Event::Crash)).expect("a crash");
        let mut record = t.records[crash].clone();
        record.event = Event::View { join: 0, view: seen(FIRST, 2, &[P0, P1], &[], P0), digest: None };
        t.records.insert(crash, record);
    });
}

#[test]
fn property_12_is_of_each_group_of_a_message() {
    bites(12, good_answer, "happened before", |t| {
        let (message, answer) = (deliveries(t, P1, FIRST)[0], deliveries(t, P1, THIRD)[0]);
        let (time, later) = (t.records[message].time, t.records[answer].time);
        t.records.swap(message, answer);
        (t.records[message].time, t.records[answer].time) = (time, later);
    });
}

#[test]
fn property_12_is_of_members() {
    // It leaves after the answer: as long as it is a member, the message comes first.
    bites(12, good_leaving, "happened before", |t| {
        let left = t.records.iter().position(|r| matches!(r.event, Event::Left { .. })).expect("it leaves");
        let mut record = t.records.remove(left);
        record.time = t.records.last().map_or(0, |last| last.time);
        t.records.push(record);
    });
}
