//! The checker checked: a good trace passes, and for every property a trace that was doctored to break it is caught by
//! that property's function.

use super::{Limits, PROPERTIES, check, report};
use crate::trace::{Channel, Delivered, Event, Key, Process, Trace, ViewSeen};
use isis_protocol::event::Kind;
use isis_protocol::id::{GroupId, ProcessId, SystemId};
use std::collections::BTreeSet;
use std::sync::Arc;

const GROUP: GroupId = GroupId(1);
pub(super) const P0: Process = Process(0);
pub(super) const P1: Process = Process(1);
pub(super) const P2: Process = Process(2);

/// Writes a trace by hand.
#[derive(Default)]
pub(super) struct Scribe {
    pub(super) trace: Trace,
}

pub(super) fn key(sender: Process, number: u32) -> Key {
    Key { sender, join: 0, channel: Channel::Multicast, number }
}

pub(super) fn seen(
    group: GroupId,
    number: u64,
    members: &[Process],
    departed: &[Process],
    reader: Process,
) -> Arc<ViewSeen> {
    Arc::new(ViewSeen {
        group,
        number,
        members: members.iter().map(|&p| (p, true)).collect(),
        sites: members.iter().map(|p| p.0).collect(),
        joined: Vec::new(),
        departed: departed.iter().map(|p| (ProcessId::new(0, p.0 as u16, 1), false)).collect(),
        clients: Vec::new(),
        rank: members.iter().position(|&p| p == reader).map_or(u16::MAX, |r| r as u16),
    })
}

impl Scribe {
    pub(super) fn note(&mut self, process: Process, event: Event) {
        let time = self.trace.records.len() as u64 * 1_000_000;
        self.trace.push(time, process, event);
    }

    fn start(&mut self, process: Process, system_view: u64, members: &[Process]) {
        self.note(process, Event::Start { site: process.0, slot: process.0 });
        let id = ProcessId::new(0, process.0 as u16, 1);
        self.note(process, Event::Admitted { system: SystemId(7), process: id });
        self.note(process, Event::SystemView(seen(GroupId::SYSTEM, system_view, members, &[], process)));
        let join = Event::JoinCall { join: 0, name: 0, wants_state: true, sending_view: true, client: false };
        self.note(process, join);
    }

    fn view(&mut self, number: u64, members: &[Process], departed: &[Process], digest: u64) {
        for &process in members {
            let view = seen(GROUP, number, members, departed, process);
            self.note(process, Event::View { join: 0, view, digest: Some(digest) });
        }
    }

    fn system_view(&mut self, number: u64, members: &[Process], departed: &[Process]) {
        for &process in members {
            self.note(process, Event::SystemView(seen(GroupId::SYSTEM, number, members, departed, process)));
        }
    }

    fn send(&mut self, sender: Process, number: u32, kind: Kind, safe: bool, view: u64) {
        self.note(sender, Event::Send { key: key(sender, number), kind, safe, len: 10, group: GROUP, view });
    }

    #[allow(clippy::too_many_arguments)]
    fn deliver(&mut self, to: &[Process], from: Process, number: u32, kind: Kind, safe: bool, view: u64, order: u64) {
        for &process in to {
            let delivered = Delivered {
                join: 0,
                group: GROUP,
                key: Some(key(from, number)),
                kind,
                safe,
                view,
                number: u64::from(number),
                order,
                rank: from.0 as u16,
                intact: true,
            };
            self.note(process, Event::Deliver(delivered));
        }
    }
}

/// Three processes of three sites form a group with state, talk, lose one, and settle.
fn good() -> Trace {
    let mut s = Scribe::default();
    let all = [P0, P1, P2];
    s.start(P0, 1, &[P0]);
    s.view(1, &[P0], &[], 0);
    s.note(P0, Event::SystemView(seen(GroupId::SYSTEM, 2, &[P0, P1], &[], P0)));
    s.start(P1, 2, &[P0, P1]);
    s.note(P0, Event::StateCaptured { join: 0, transfer: 1, digest: 0, len: 24 });
    s.note(P1, Event::StateInstalled { join: 0, digest: 0, intact: true });
    s.view(2, &[P0, P1], &[], 0);
    s.note(P0, Event::SystemView(seen(GroupId::SYSTEM, 3, &all, &[], P0)));
    s.note(P1, Event::SystemView(seen(GroupId::SYSTEM, 3, &all, &[], P1)));
    s.start(P2, 3, &all);
    s.note(P0, Event::StateCaptured { join: 0, transfer: 2, digest: 5, len: 24 });
    s.note(P2, Event::StateInstalled { join: 0, digest: 5, intact: true });
    s.view(3, &all, &[], 5);
    // A causal chain: P0#1 before P1#1.
    s.send(P0, 1, Kind::Causal, false, 3);
    s.deliver(&all, P0, 1, Kind::Causal, false, 3, 0);
    s.send(P1, 1, Kind::Total, false, 3);
    s.send(P0, 2, Kind::Total, true, 3);
    s.deliver(&all, P1, 1, Kind::Total, false, 3, 1);
    s.deliver(&all, P0, 2, Kind::Total, true, 3, 2);
    // An ABCAST that follows P0#2.
    s.send(P1, 2, Kind::Total, false, 3);
    s.deliver(&all, P1, 2, Kind::Total, false, 3, 3);
    s.send(P2, 1, Kind::Fifo, false, 3);
    s.deliver(&all, P2, 1, Kind::Fifo, false, 3, 0);
    s.note(P2, Event::FlushCall { join: 0, flush: 1 });
    s.note(P2, Event::Flushed { join: 0, flush: 1 });
    s.send(P1, 3, Kind::Global, false, 3);
    s.deliver(&all, P1, 3, Kind::Global, false, 3, 0);
    s.view(4, &all, &[], 6);
    s.note(P2, Event::Crash);
    s.system_view(4, &[P0, P1], &[P2]);
    s.view(5, &[P0, P1], &[P2], 7);
    s.note(Process::WORLD, Event::Healed);
    s.send(P0, 3, Kind::Causal, true, 5);
    s.deliver(&[P0, P1], P0, 3, Kind::Causal, true, 5, 0);
    s.note(Process::WORLD, Event::End);
    s.trace
}

fn found(trace: &Trace) -> BTreeSet<u8> {
    check(trace, Limits::default()).iter().map(|v| v.property).collect()
}

/// Index of the delivery of (from, number) at `at`.
fn delivery(trace: &Trace, at: Process, from: Process, number: u32) -> usize {
    let is = |e: &Event| matches!(e, Event::Deliver(d) if d.key == Some(key(from, number)));
    trace.records.iter().position(|r| r.process == at && is(&r.event)).expect("the delivery is in the good trace")
}

fn group_view(trace: &Trace, at: Process, number: u64) -> usize {
    let is = |e: &Event| matches!(e, Event::View { view, .. } if view.number == number);
    trace.records.iter().position(|r| r.process == at && is(&r.event)).expect("the view is in the good trace")
}

fn system_view(trace: &Trace, at: Process, number: u64) -> usize {
    let is = |e: &Event| matches!(e, Event::SystemView(view) if view.number == number);
    trace.records.iter().position(|r| r.process == at && is(&r.event)).expect("the view is in the good trace")
}

fn edit_view(trace: &mut Trace, index: usize, edit: impl FnOnce(&mut ViewSeen)) {
    match &mut trace.records[index].event {
        Event::View { view, .. } | Event::SystemView(view) => edit(Arc::make_mut(view)),
        _ => panic!("record {index} is no view"),
    }
}

/// Moves a record, keeping the times in place.
fn shift(trace: &mut Trace, from: usize, to: usize) {
    let times: Vec<u64> = trace.records.iter().map(|r| r.time).collect();
    let record = trace.records.remove(from);
    trace.records.insert(to, record);
    for (record, time) in trace.records.iter_mut().zip(times) {
        record.time = time;
    }
}

/// Swaps what happened at two places.
fn swap(trace: &mut Trace, a: usize, b: usize) {
    let (time_a, time_b) = (trace.records[a].time, trace.records[b].time);
    trace.records.swap(a, b);
    trace.records[a].time = time_a;
    trace.records[b].time = time_b;
}

fn bites(property: u8, doctor: impl FnOnce(&mut Trace)) {
    let mut trace = good();
    doctor(&mut trace);
    let violations = check(&trace, Limits::default());
    let text = report(&trace, &violations, 10);
    assert!(violations.iter().any(|v| v.property == property), "property {property} is not caught:\n{text}");
    assert!(text.contains(super::name(violations[0].property)));
}

/// The good trace passes; doctored it is caught by this property and by no other, with a text that says this.
pub(super) fn bites_in(property: u8, limits: Limits, good: fn() -> Trace, says: &str, doctor: impl FnOnce(&mut Trace)) {
    let mut trace = good();
    let violations = check(&trace, limits);
    assert!(violations.is_empty(), "{}\n{}", trace.text(), report(&trace, &violations, 10));
    doctor(&mut trace);
    let violations = check(&trace, limits);
    let text = report(&trace, &violations, 10);
    assert!(violations.iter().any(|v| v.property == property && v.what.contains(says)), "not caught:\n{text}");
    assert!(violations.iter().all(|v| v.property == property), "{text}");
}

#[test]
fn a_good_trace_passes() {
    let trace = good();
    let violations = check(&trace, Limits::default());
    assert!(violations.is_empty(), "{}\n{}", trace.text(), report(&trace, &violations, 10));
}

#[test]
fn numbers_are_those_of_the_list() {
    assert!(PROPERTIES.iter().map(|p| p.number).eq(1..=26));
}

#[test]
fn property_1_self_inclusion() {
    bites(1, |t| {
        let index = group_view(t, P1, 5);
        edit_view(t, index, |v| v.members.retain(|m| m.0 != P1));
    });
    bites(1, |t| {
        let index = group_view(t, P1, 5);
        edit_view(t, index, |v| v.rank = 0);
    });
}

#[test]
fn property_2_local_monotonicity() {
    bites(2, |t| {
        let index = group_view(t, P1, 5);
        edit_view(t, index, |v| v.number = 4);
    });
}

#[test]
fn property_3_initial_view() {
    bites(3, |t| {
        let (from, to) = (delivery(t, P2, P0, 1), group_view(t, P2, 3));
        shift(t, from, to);
    });
    bites(3, |t| {
        let from = t.records.iter().position(|r| matches!(r.event, Event::Send { .. })).unwrap();
        let to = group_view(t, P0, 1);
        shift(t, from, to);
    });
}

#[test]
fn property_4_primary_order() {
    bites(4, |t| {
        let index = group_view(t, P1, 4);
        edit_view(t, index, |v| v.members.truncate(2));
    });
    // A view is skipped.
    bites(4, |t| {
        let index = group_view(t, P1, 4);
        t.records.remove(index);
    });
    // Nobody survives.
    bites(4, |t| {
        for p in [P0, P1] {
            let index = group_view(t, p, 5);
            edit_view(t, index, |v| v.members = vec![(Process(8), true), (Process(9), true)]);
        }
    });
}

#[test]
fn property_5_ranking_by_age() {
    bites(5, |t| {
        for p in [P0, P1] {
            let index = group_view(t, p, 5);
            edit_view(t, index, |v| v.members.reverse());
        }
    });
}

#[test]
fn property_6_integrity() {
    let edit = |t: &mut Trace, change: fn(&mut Delivered)| {
        let index = delivery(t, P1, P0, 1);
        let Event::Deliver(d) = &mut t.records[index].event else { panic!("no delivery") };
        change(d);
    };
    bites(6, |t| edit(t, |d| d.key = None));
    bites(6, |t| edit(t, |d| d.intact = false));
    bites(6, |t| edit(t, |d| d.kind = Kind::Fifo));
    bites(6, |t| edit(t, |d| d.rank = 2));
    bites(6, |t| edit(t, |d| d.key = Some(key(P0, 99))));
    // Delivered before it is sent.
    bites(6, |t| {
        let from = delivery(t, P1, P0, 1);
        shift(t, from, from - 3);
    });
}

#[test]
fn property_7_no_duplication() {
    bites(7, |t| {
        let index = delivery(t, P1, P2, 1);
        let mut again = t.records[index].clone();
        again.time = t.records[index + 1].time;
        t.records.insert(index + 2, again);
    });
}

#[test]
fn property_8_same_view() {
    bites(8, |t| {
        // P1 delivers P2's FBCAST only in the next view.
        let (from, to) = (delivery(t, P1, P2, 1), group_view(t, P1, 4));
        shift(t, from, to);
    });
    // Sending view.
    bites(8, |t| {
        let index = t.records.iter().position(|r| matches!(&r.event, Event::Send { .. })).unwrap();
        let Event::Send { view, .. } = &mut t.records[index].event else { panic!("no send") };
        *view = 2;
    });
}

#[test]
fn property_9_virtual_synchrony_and_17_atomicity() {
    for property in [9, 17] {
        bites(property, |t| {
            let index = delivery(t, P1, P2, 1);
            t.records.remove(index);
        });
    }
}

#[test]
fn property_10_clean_failure() {
    bites(10, |t| {
        let (from, to) = (delivery(t, P1, P2, 1), group_view(t, P1, 5));
        shift(t, from, to);
    });
    // A point-to-point message after the view.
    bites(10, |t| {
        let name = Key { sender: P2, join: 0, channel: Channel::PointToPoint, number: 1 };
        let at = group_view(t, P2, 4);
        let time = t.records[at].time;
        let sent = Event::SendTo { key: name, kind: Kind::Unicast, to: P1, len: 3, group: GROUP, view: 4 };
        t.records.insert(at + 1, crate::trace::Record { time, process: P2, event: sent });
        let index = delivery(t, P1, P0, 3);
        let mut late = t.records[index].clone();
        let Event::Deliver(d) = &mut late.event else { panic!("no delivery") };
        (d.key, d.kind, d.safe) = (Some(name), Kind::Unicast, false);
        t.records.insert(index, late);
    });
}

#[test]
fn property_11_fifo() {
    bites(11, |t| {
        let (a, b) = (delivery(t, P2, P1, 1), delivery(t, P2, P1, 2));
        swap(t, a, b);
    });
    // A gap at everybody.
    bites(11, |t| {
        for p in [P0, P1, P2] {
            let index = delivery(t, p, P0, 1);
            t.records.remove(index);
        }
    });
}

/// P2, which is killed, has sent two messages before the one that the others deliver as its first.
fn past_unseen(t: &mut Trace, place: u64) {
    let mut sent = 0;
    for record in &mut t.records {
        match &mut record.event {
            Event::Send { key: k, .. } if *k == key(P2, 1) => {
                *k = key(P2, 3);
                sent += 1;
            }
            Event::Deliver(d) if d.key == Some(key(P2, 1)) => {
                d.key = Some(key(P2, 3));
                d.number = place;
            }
            _ => {}
        }
    }
    assert_eq!(sent, 1, "P2 sends one message");
}

#[test]
fn property_11_cannot_know_what_only_a_dead_laggard_had() {
    let mut trace = good();
    past_unseen(&mut trace, 1);
    assert!(check(&trace, Limits::default()).iter().all(|v| v.property != 11));
    bites(11, |t| past_unseen(t, 2));
}

#[test]
fn property_12_causal() {
    bites(12, |t| {
        let (from, to) = (delivery(t, P2, P0, 1), delivery(t, P2, P1, 1));
        shift(t, from, to);
    });
}

#[test]
fn property_12_has_no_edges_through_fbcast() {
    // P2's FBCAST is delivered by P1 before it sends P1#3; P0 may deliver P1#3 … first (here: a CBCAST instead of the GBCAST).
    let mut trace = good();
    for record in &mut trace.records {
        match &mut record.event {
            Event::Send { key: k, kind, .. } if *k == key(P1, 3) => *kind = Kind::Causal,
            Event::Deliver(d) if d.key == Some(key(P1, 3)) => d.kind = Kind::Causal,
            _ => {}
        }
    }
    let (a, b) = (delivery(&trace, P0, P2, 1), delivery(&trace, P0, P1, 3));
    swap(&mut trace, a, b);
    // The swap put the delivery of P1#3 before its send: put the send first.
    let send = trace.records.iter().position(|r| matches!(&r.event, Event::Send { key: k, .. } if *k == key(P1, 3)));
    shift(&mut trace, send.unwrap(), a);
    let all = found(&trace);
    assert!(!all.contains(&12) && !all.contains(&14), "{all:?}");
}

#[test]
fn property_12_sees_through_a_point_to_point_message() {
    // P0 multicasts P0#3, tells P1 by a point-to-point message, and P1 delivers that first.
    bites(12, |t| {
        let name = Key { sender: P0, join: 0, channel: Channel::PointToPoint, number: 1 };
        let at = delivery(t, P0, P0, 3);
        let time = t.records[at].time;
        let sent = Event::SendTo { key: name, kind: Kind::Unicast, to: P1, len: 3, group: GROUP, view: 5 };
        let mut got = t.records[delivery(t, P1, P0, 3)].clone();
        let Event::Deliver(d) = &mut got.event else { panic!("no delivery") };
        (d.key, d.kind, d.safe) = (Some(name), Kind::Unicast, false);
        got.time = time;
        t.records.insert(at, got);
        t.records.insert(at, crate::trace::Record { time, process: P0, event: sent });
    });
}

/// P0 tells P1 something before P1's first view, which P1 is thus not owed, and multicasts P0#3. P1 may do without it, but must not
/// deliver it after that.
#[test]
fn property_12_of_what_is_not_owed() {
    let name = Key { sender: P0, join: 0, channel: Channel::PointToPoint, number: 1 };
    let sent = Event::SendTo { key: name, kind: Kind::Unicast, to: P1, len: 3, group: GROUP, view: 1 };
    let tell = |t: &mut Trace| {
        let at = t.records.iter().position(|r| matches!(&r.event, Event::Send { key: k, .. } if *k == key(P0, 3)));
        let at = at.expect("it is sent");
        let time = t.records[at].time;
        t.records.insert(at, crate::trace::Record { time, process: P0, event: sent.clone() });
    };
    let mut trace = good();
    tell(&mut trace);
    assert!(!found(&trace).contains(&12));
    bites(12, |t| {
        tell(t);
        let after = delivery(t, P1, P0, 3);
        let mut got = t.records[after].clone();
        let Event::Deliver(d) = &mut got.event else { panic!("no delivery") };
        (d.key, d.kind, d.safe) = (Some(name), Kind::Unicast, false);
        t.records.insert(after + 1, got);
    });
}

#[test]
fn property_13_total() {
    // P0#2 and P1#2 have no order for P2 alone: swap them there, numbers included.
    bites(13, |t| {
        let (a, b) = (delivery(t, P2, P1, 1), delivery(t, P2, P0, 2));
        swap(t, a, b);
        for (index, order) in [(a, 1), (b, 2)] {
            let Event::Deliver(d) = &mut t.records[index].event else { panic!("no delivery") };
            d.order = order;
        }
    });
    // A hole in the order.
    bites(13, |t| {
        let index = delivery(t, P2, P1, 2);
        let Event::Deliver(d) = &mut t.records[index].event else { panic!("no delivery") };
        d.order = 4;
    });
}

/// The digests that the applications compute: of the order, and of the state in the end.
#[test]
fn properties_13_and_18_digests() {
    let ends = |t: &mut Trace, process, order, state| {
        let time = t.records.last().map_or(0, |last| last.time);
        let event = Event::ViewEnds { join: 0, view: 4, order, state: Some(state) };
        t.records.insert(t.records.len() - 1, crate::trace::Record { time, process, event });
    };
    let mut same = good();
    ends(&mut same, P0, 1, 2);
    ends(&mut same, P1, 1, 2);
    assert_eq!(check(&same, Limits::default()), []);
    bites(13, |t| {
        ends(t, P0, 1, 2);
        ends(t, P1, 9, 2);
    });
    bites(18, |t| {
        ends(t, P0, 1, 2);
        ends(t, P1, 1, 9);
    });
}

#[test]
fn property_14_total_extends_causal() {
    // Everybody delivers P1#2 before P0#2, which happened before it.
    bites(14, |t| {
        for p in [P0, P1, P2] {
            let (a, b) = (delivery(t, p, P0, 2), delivery(t, p, P1, 2));
            if p != P1 {
                swap(t, a, b);
            }
        }
    });
}

#[test]
fn property_15_global() {
    bites(15, |t| {
        let (a, b) = (delivery(t, P2, P1, 2), delivery(t, P2, P1, 3));
        swap(t, a, b);
    });
    bites(15, |t| {
        let index = delivery(t, P2, P1, 3);
        t.records.remove(index);
    });
}

#[test]
fn property_16_safe() {
    // P2 delivers a safe message and dies; the survivors go on without it.
    bites(16, |t| {
        for p in [P0, P1] {
            let index = delivery(t, p, P0, 2);
            t.records.remove(index);
        }
    });
}

#[test]
fn property_18_state() {
    bites(18, |t| {
        let index = group_view(t, P1, 4);
        let Event::View { digest, .. } = &mut t.records[index].event else { panic!("no view") };
        *digest = Some(99);
    });
    bites(18, |t| {
        let is = |e: &Event| matches!(e, Event::StateInstalled { digest: 5, .. });
        let index = t.records.iter().position(|r| is(&r.event)).unwrap();
        t.records.remove(index);
    });
    bites(18, |t| {
        let is = |e: &Event| matches!(e, Event::StateCaptured { digest: 5, .. });
        let index = t.records.iter().position(|r| is(&r.event)).unwrap();
        t.records.remove(index);
    });
}

#[test]
fn property_19_flush() {
    bites(19, |t| {
        for p in [P0, P1, P2] {
            let index = delivery(t, p, P2, 1);
            t.records.remove(index);
        }
    });
}

#[test]
fn property_20_one_primary() {
    // One of three sites goes on alone.
    bites(20, |t| {
        for p in [P0, P1] {
            let index = system_view(t, p, 4);
            edit_view(t, index, |v| v.members.truncate(1));
        }
    });
    // A stalled process delivers.
    bites(20, |t| {
        let index = delivery(t, P1, P2, 1);
        let time = t.records[index].time;
        t.records.insert(index, crate::trace::Record { time, process: P1, event: Event::Stalled });
    });
    // A process that was cut off goes on for too long.
    bites(20, |t| {
        let crash = t.records.iter().position(|r| r.event == Event::Crash).unwrap();
        t.records.remove(crash);
        let end = t.records.len() - 1;
        let mut late = t.records[delivery(t, P2, P2, 1)].clone();
        late.time = t.records[end].time + 60_000_000_000;
        t.records.insert(end, late);
        t.records[end + 1].time += 61_000_000_000;
    });
}

#[test]
fn property_21_membership_precision() {
    // P2 comes back to life: it is up, and in no view.
    bites(21, |t| t.records.retain(|r| r.event != Event::Crash));
}

#[test]
fn properties_22_23_24_multicast_self_and_safe_liveness() {
    bites(22, |t| {
        let index = delivery(t, P1, P0, 3);
        t.records.remove(index);
    });
    bites(23, |t| {
        let index = delivery(t, P0, P0, 3);
        t.records.remove(index);
    });
    bites(24, |t| {
        let index = delivery(t, P1, P0, 3);
        t.records.remove(index);
    });
}

#[test]
fn property_25_requests_complete() {
    let insert = |t: &mut Trace, event: Event| {
        let at = t.records.len() - 1;
        let time = t.records[at].time;
        t.records.insert(at, crate::trace::Record { time, process: P0, event });
    };
    bites(25, |t| insert(t, Event::LeaveCall { join: 0 }));
    bites(25, |t| insert(t, Event::FlushCall { join: 0, flush: 8 }));
    bites(25, |t| insert(t, Event::CloseCall));
    bites(25, |t| {
        insert(t, Event::JoinCall { join: 1, name: 1, wants_state: false, sending_view: false, client: false })
    });
}

#[test]
fn property_26_no_wedge() {
    bites(26, |t| {
        let index = group_view(t, P1, 5);
        t.records.remove(index);
    });
    bites(26, |t| {
        let at = t.records.len() - 1;
        let time = t.records[at].time;
        t.records.insert(at, crate::trace::Record { time, process: P0, event: Event::Stalled });
    });
}
