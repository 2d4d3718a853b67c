//! Properties of deliveries: 6-11, 16 and 17.

use super::Violation;
use super::history::{GroupKey, History, Taken, is_multicast};
use super::multi;
use crate::trace::{Channel, Key, Process};
use isis_protocol::event::Kind;
use isis_protocol::id::{GroupId, SystemId};
use std::collections::{BTreeMap, BTreeSet};

/// 6. What is delivered was sent before, as it is delivered: same group, ordering and bytes, by a member of the view, or
///    a registered client.
pub fn integrity(history: &History<'_>, found: &mut Vec<Violation>) {
    for (record, process, delivered) in history.deliveries() {
        let Some((key, sent)) = delivered.key.and_then(|k| history.sends.get(&k).map(|s| (k, s))) else {
            history.blame(found, 6, format!("{process:?} delivers what nobody sent"), &[record]);
            continue;
        };
        let same = sent.kind == delivered.kind
            && sent.safe == delivered.safe
            && sent.group == delivered.group
            && sent.to.is_none_or(|to| to == process);
        if sent.record > record || !same || !delivered.intact {
            history.blame(found, 6, format!("{key:?} is not delivered as it was sent"), &[sent.record, record]);
        }
    }
    for membership in &history.memberships {
        for install in &membership.installs {
            for taken in &install.taken {
                let Some(key) = taken.delivered.key else { continue };
                let rank = install.view.processes().position(|p| p == key.sender);
                if rank.is_some_and(|rank| rank != usize::from(taken.delivered.rank)) {
                    let what = format!("{key:?} is delivered with a rank that is not its sender's");
                    history.blame(found, 6, what, &[install.record, taken.record]);
                }
                // A sender that was a member before is property 10's business.
                let ever = membership.installs.iter().any(|i| i.record < taken.record && i.view.has(key.sender));
                if let Some(client) = history.client(key) {
                    if client.group != membership.group || client.registered.is_none_or(|at| at > taken.record) {
                        let what = format!("{key:?} is delivered from a client that is not registered");
                        history.blame(found, 6, what, &[install.record, taken.record]);
                    }
                } else if rank.is_none() && !ever {
                    let what = format!("{key:?} is delivered from a process that is no member");
                    history.blame(found, 6, what, &[install.record, taken.record]);
                }
            }
        }
    }
}

/// 7. Nobody delivers a message twice.
pub fn no_duplication(history: &History<'_>, found: &mut Vec<Violation>) {
    let mut seen: BTreeMap<(Process, Key), usize> = BTreeMap::new();
    for (record, process, delivered) in history.deliveries() {
        if let Some(key) = delivered.key
            && let Some(before) = seen.insert((process, key), record)
        {
            history.blame(found, 7, format!("{process:?} delivers {key:?} twice"), &[before, record]);
        }
    }
}

/// 8. A message is delivered in one and the same view by all that deliver it, which is the view that its name says; in
///    *sending view* mode it is the one that its sender was in.
pub fn same_view(history: &History<'_>, found: &mut Vec<Violation>) {
    let sending_view: BTreeSet<(Process, u16)> =
        history.memberships.iter().filter(|m| m.sending_view).map(|m| (m.process, m.join)).collect();
    for membership in &history.memberships {
        let Some(group) = membership.group else { continue };
        for install in &membership.installs {
            for taken in &install.taken {
                let Some(key) = taken.delivered.key else { continue };
                let number = install.view.number;
                if let Some(home) = history.homes.get(&key)
                    && (home.0, home.1) != (group, number)
                {
                    let what = format!("{key:?} is delivered in views {} and {number}", home.1);
                    history.blame(found, 8, what, &[home.2, taken.record]);
                }
                if taken.delivered.view != number {
                    let what = format!("{key:?} of view {} is delivered in view {number}", taken.delivered.view);
                    history.blame(found, 8, what, &[install.record, taken.record]);
                }
                if let Some(sent) = history.sends.get(&key)
                    && sending_view.contains(&(key.sender, key.join))
                    && sent.view != number
                {
                    let what = format!("{key:?} was sent in view {} and is delivered in {number}", sent.view);
                    history.blame(found, 8, what, &[sent.record, taken.record]);
                }
            }
        }
    }
}

/// What each process that goes on from a view to the next delivered in it.
fn survivors(history: &History<'_>, mut visit: impl FnMut(GroupKey, u64, &[((usize, usize), BTreeMap<Key, usize>)])) {
    for (group, members) in history.application_groups() {
        for (number, installers) in history.installers(members) {
            let sets: Vec<_> = installers
                .into_iter()
                .filter(|&at| history.goes_on(at))
                .map(|at| {
                    let taken = &history.at(at).taken;
                    let set = taken.iter().filter_map(|t| t.delivered.key.map(|k| (k, t.record))).collect();
                    (at, set)
                })
                .collect();
            if !sets.is_empty() {
                visit(group, number, &sets);
            }
        }
    }
}

/// 9. Two processes that go together from a view to the next deliver the same set of messages in it.
pub fn virtual_synchrony(history: &History<'_>, found: &mut Vec<Violation>) {
    survivors(history, |group, number, sets| {
        let (first_at, first) = &sets[0];
        for (at, set) in &sets[1..] {
            if set.keys().eq(first.keys()) {
                continue;
            }
            let differs = first.iter().find(|(k, _)| !set.contains_key(k));
            let differs = differs.or_else(|| set.iter().find(|(k, _)| !first.contains_key(k)));
            let (key, record) = differs.map_or((None, 0), |(k, r)| (Some(*k), *r));
            let processes = (history.memberships[first_at.0].process, history.memberships[at.0].process);
            let what = format!(
                "{:?} and {:?} go on from view {number} of {:?}, and only one of them has delivered {key:?}",
                processes.0, processes.1, group.1
            );
            let next = [history.at(*first_at).next, history.at(*at).next];
            let mut records = vec![record];
            records.extend(next.into_iter().flatten());
            history.blame(found, 9, what, &records);
        }
    });
}

/// 17. What any survivor of a view delivers in it, all its survivors deliver; and what goes to several groups, all of them.
pub fn atomicity(history: &History<'_>, found: &mut Vec<Violation>) {
    multi::atomicity(history, found);
    survivors(history, |group, number, sets| {
        let mut holders: BTreeMap<Key, (usize, usize)> = BTreeMap::new();
        for (_, set) in sets {
            for (key, record) in set {
                let entry = holders.entry(*key).or_insert((0, *record));
                entry.0 += 1;
            }
        }
        for (key, (count, record)) in holders {
            if count != sets.len() {
                let all = sets.len();
                let what = format!("{count} of {all} survivors of view {number} of {:?} deliver {key:?}", group.1);
                history.blame(found, 17, what, &[record]);
            }
        }
    });
}

/// 16. A safe message that anybody delivered is delivered by every member of the view that goes on to the next.
pub fn safe(history: &History<'_>, found: &mut Vec<Violation>) {
    let mut by_home: BTreeMap<(GroupKey, u64), BTreeMap<Key, usize>> = BTreeMap::new();
    for (record, _, delivered) in history.deliveries() {
        if delivered.safe
            && is_multicast(delivered)
            && let Some(key) = delivered.key
            && let Some(home) = history.homes.get(&key)
        {
            by_home.entry((home.0, home.1)).or_default().entry(key).or_insert(record);
        }
    }
    survivors(history, |group, number, sets| {
        let Some(safe) = by_home.get(&(group, number)) else { return };
        for (at, set) in sets {
            for (key, record) in safe.iter().filter(|(k, _)| !set.contains_key(k)) {
                let process = history.memberships[at.0].process;
                let what = format!("safe {key:?} is never delivered by {process:?}, which survives view {number}");
                let mut records = vec![*record];
                records.extend(history.at(*at).next);
                history.blame(found, 16, what, &records);
            }
        }
    });
}

/// 10. After the view that excludes a process nothing from it is delivered, multicast or point to point.
pub fn clean_failure(history: &History<'_>, found: &mut Vec<Violation>) {
    clean_failure_of_clients(history, found);
    for membership in &history.memberships {
        for install in &membership.installs {
            let deliveries = install.taken.iter().map(|taken| (taken.record, taken.delivered));
            for (record, delivered) in deliveries.chain(install.point_to_point.iter().copied()) {
                let Some(key) = delivered.key else { continue };
                if history.client(key).is_some() {
                    continue;
                }
                let before = membership.installs.iter().rev().find(|i| i.record < record && i.view.has(key.sender));
                if !install.view.has(key.sender)
                    && let Some(before) = before
                {
                    let what = format!("{key:?} is delivered after the view that excludes its sender");
                    history.blame(found, 10, what, &[before.record, install.record, record]);
                }
            }
        }
    }
}

/// 10, for clients: once a view lists a client no more that the view before listed, nothing of that registration is delivered.
fn clean_failure_of_clients(history: &History<'_>, found: &mut Vec<Violation>) {
    for membership in &history.memberships {
        let mut last: BTreeMap<(Process, u16), usize> = BTreeMap::new();
        for (index, install) in membership.installs.iter().enumerate() {
            for taken in &install.taken {
                let Some(key) = taken.delivered.key else { continue };
                if history.client(key).is_none() {
                    continue;
                }
                let id = history.life(key.sender).admitted.map(|admitted| admitted.1);
                let lists = |at: usize| membership.installs[at].view.clients.iter().any(|c| Some(*c) == id);
                let before = last.insert((key.sender, key.join), index).unwrap_or(index);
                if let Some(without) = (before + 1..=index).find(|&at| !lists(at)) {
                    let what = format!("{key:?} is delivered after the view without its client");
                    history.blame(found, 10, what, &[membership.installs[without].record, taken.record]);
                }
            }
        }
    }
}

/// The messages before this one, a joiner's first of its sender, may all have been sent in views before the joiner's, though
/// nobody is seen to deliver them: their sender was alone, or the only one that had them, and ended with its application
/// behind. Then this one is the first of its stream, and none of them is delivered in a view that the joiner has.
fn unseen_past(history: &History<'_>, taken: &Taken<'_>, before: u32, first_view: u64) -> bool {
    let Some(key) = taken.delivered.key else { return false };
    // A client lives on when the members end that had its messages; its numbers go on.
    let first = taken.delivered.number == 1 && !history.up(key.sender);
    (first || history.client(key).is_some())
        && (before + 1..key.number)
            .all(|number| history.homes.get(&Key { number, ..key }).is_none_or(|(_, view, _)| *view < first_view))
}

/// 11. Messages of one sender are delivered in sending order, without gaps: from 1 on, or, at a joiner, from the first one
///     of the views that it has.
pub fn fifo(history: &History<'_>, found: &mut Vec<Violation>) {
    // Per sender and join: the highest number that anybody delivered in each view.
    let mut highest: BTreeMap<(Process, u16), BTreeMap<u64, u32>> = BTreeMap::new();
    for (key, (_, view, _)) in &history.homes {
        let top = highest.entry((key.sender, key.join)).or_default().entry(*view).or_default();
        *top = (*top).max(key.number);
    }
    for membership in &history.memberships {
        let mut last: BTreeMap<(Process, u16), (u32, Option<usize>)> = BTreeMap::new();
        let Some(first_view) = membership.installs.first().map(|i| i.view.number) else { continue };
        for taken in membership.installs.iter().flat_map(|i| &i.taken) {
            let Some(key) = taken.delivered.key else { continue };
            let stream = (key.sender, key.join);
            let (before, record) = *last.entry(stream).or_insert_with(|| {
                let earlier = highest.get(&stream).into_iter().flat_map(|views| views.range(..first_view));
                (earlier.map(|(_, top)| *top).max().unwrap_or(0), None)
            });
            let joins = record.is_none() && unseen_past(history, taken, before, first_view);
            if key.number != before + 1 && !(joins && key.number > before) {
                let what = format!("{:?} delivers {key:?} after number {before}", membership.process);
                let records: Vec<_> = record.into_iter().chain([taken.record]).collect();
                history.blame(found, 11, what, &records);
            }
            last.insert(stream, (key.number, Some(taken.record)));
        }
    }
    // Point-to-point messages: in order between a pair. Numbers run over all receivers, so only the order is checked.
    let mut last: BTreeMap<(Process, Process, u16), (u32, usize)> = BTreeMap::new();
    for (record, process, delivered) in history.deliveries() {
        let Some(key) = delivered.key.filter(|k| k.channel == Channel::PointToPoint) else { continue };
        let entry = last.insert((process, key.sender, key.join), (key.number, record));
        if let Some((before, earlier)) = entry
            && before > key.number
        {
            let what = format!("{process:?} delivers {key:?} after number {before}");
            history.blame(found, 11, what, &[earlier, record]);
        }
    }
}

/// The group that a delivery belongs to, seen from its receiver.
pub(super) fn group_of(history: &History<'_>, process: Process, group: GroupId) -> GroupKey {
    (history.life(process).admitted.map_or(SystemId(0), |a| a.0), group)
}

/// The kinds that carry happened-before.
pub(super) fn carries_causality(kind: Kind) -> bool {
    kind != Kind::Fifo
}
