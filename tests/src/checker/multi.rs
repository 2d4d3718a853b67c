//! ABCASTs to several groups: one order over all groups (13), and all groups or none (17).
//!
//! In each group such a message is a multicast of its own, with a key of its own; the other checks look at it as at any other.

use super::Violation;
use super::history::{History, Membership, SYSTEM_JOIN};
use crate::trace::{Key, Process};
use isis_protocol::id::GroupId;
use std::collections::BTreeMap;

/// What names the message, whichever group's key is at hand: the key in its first group.
fn name(history: &History<'_>, key: Key) -> Option<Key> {
    history.parts.get(&key).and_then(|parts| parts.first().copied())
}

/// The order of a membership's deliveries: of one that failed up to the last safe one, since nobody else need follow the rest.
fn sequence(history: &History<'_>, membership: &Membership<'_>) -> Vec<(Key, usize)> {
    let taken = || membership.installs.iter().flat_map(|install| &install.taken);
    let stays = membership.left.is_some() || history.up(membership.process);
    let last_safe = taken().rfind(|taken| taken.delivered.safe).map_or(0, |taken| taken.record);
    let last_view = membership.installs.last().map_or(0, |install| install.record);
    taken()
        .filter(|taken| stays || taken.record <= last_safe.max(last_view))
        .filter_map(|taken| Some((name(history, taken.delivered.key?)?, taken.record)))
        .collect()
}

/// 13, across groups: there is one order of all ABCASTs to several groups that every member's order of each group agrees with.
pub(super) fn order(history: &History<'_>, found: &mut Vec<Violation>) {
    if history.parts.is_empty() {
        return;
    }
    // Which come right after which, with the records of one member that says so.
    let mut after: BTreeMap<Key, BTreeMap<Key, [usize; 2]>> = BTreeMap::new();
    let mut before: BTreeMap<Key, usize> = BTreeMap::new();
    for membership in history.memberships.iter().filter(|membership| !membership.client) {
        for pair in sequence(history, membership).windows(2) {
            let ((first, record), (second, later)) = (pair[0], pair[1]);
            before.entry(first).or_default();
            let edge = after.entry(first).or_default().insert(second, [record, later]);
            *before.entry(second).or_default() += usize::from(edge.is_none());
        }
    }
    // Take away what nothing is before; what is left is in circles, or behind one.
    let mut free: Vec<Key> = before.iter().filter(|(_, count)| **count == 0).map(|(key, _)| *key).collect();
    while let Some(key) = free.pop() {
        before.remove(&key);
        for next in after.get(&key).into_iter().flat_map(BTreeMap::keys) {
            if let Some(count) = before.get_mut(next) {
                *count -= 1;
                if *count == 0 {
                    free.push(*next);
                }
            }
        }
    }
    let Some(mut at) = before.keys().next().copied() else { return };
    // Walk back until a message comes again: everything left has another one left before it.
    let earlier =
        |key: Key| before.keys().copied().find(|from| after.get(from).is_some_and(|to| to.contains_key(&key)));
    let mut path = vec![at];
    while let Some(from) = earlier(at) {
        if let Some(begin) = path.iter().position(|key| *key == from) {
            let mut circle = path.split_off(begin);
            circle.reverse();
            let records: Vec<usize> = circle
                .iter()
                .zip(circle.iter().cycle().skip(1))
                .filter_map(|(one, next)| after.get(one)?.get(next))
                .flatten()
                .copied()
                .collect();
            let what = format!("members deliver ABCASTs to several groups in orders that make a circle: {circle:?}");
            return history.blame(found, 13, what, &records);
        }
        path.push(from);
        at = from;
    }
}

/// What `by` was told up to this record excludes the process from the system. It has failed, then, with all that it alone
/// knows, whether it has noticed or, parted from the others, runs on.
fn excluded(history: &History<'_>, process: Process, by: Process, record: usize) -> bool {
    let told = |membership: &&Membership<'_>| membership.process == by && membership.join == SYSTEM_JOIN;
    let installs = history.memberships.iter().filter(told).flat_map(|membership| &membership.installs);
    let mut views = installs.take_while(|install| install.record < record).map(|install| install.view);
    views.any(|view| view.has(process)) && views.last().is_some_and(|view| !view.has(process))
}

/// Whether this membership may know the message that was sent in its group: it was in the view of that, or came later, to a view
/// that a member of that one has gone on to. (A newcomer whom no member of that view has met knows nothing, if they are dead.)
fn may_know(history: &History<'_>, membership: &Membership<'_>, group: GroupId, view: u64) -> bool {
    let was_in = |m: &Membership<'_>, number: u64| m.installs.iter().any(|install| install.view.number == number);
    let Some(first) = membership.installs.first().map(|install| install.view.number) else { return false };
    let of_group = history.memberships.iter().filter(|m| m.group.is_some_and(|other| other.1 == group));
    first <= view || of_group.filter(|m| was_in(m, view)).any(|m| was_in(m, first))
}

/// 17, across groups: what a survivor delivers in one group, somebody delivers in each other one that has a survivor. No survivor
/// is who is dead, or excluded from the system, when the other group goes on without the sender.
pub(super) fn atomicity(history: &History<'_>, found: &mut Vec<Violation>) {
    for (key, sent) in history.sends.iter().filter(|(key, _)| history.parts.contains_key(key)) {
        if history.homes.contains_key(key) {
            continue;
        }
        // The first time that somebody goes on from a view of this group with the sender to one without it: then it is void.
        let of_group = |m: &&Membership<'_>| m.group.is_some_and(|group| group.1 == sent.group);
        let over = history
            .memberships
            .iter()
            .filter(of_group)
            .filter(|m| may_know(history, m, sent.group, sent.view))
            .flat_map(|m| m.installs.windows(2))
            .filter(|pair| pair[1].record > sent.record)
            .filter(|pair| pair[0].view.has(key.sender) && !pair[1].view.has(key.sender))
            .map(|pair| pair[1].record)
            .min();
        let Some(over) = over else { continue };
        let by = history.trace.records[over].process;
        for other in history.parts[key].iter().filter(|other| *other != key) {
            let witness = history.memberships.iter().find_map(|membership| {
                let taken = membership.installs.iter().flat_map(|install| &install.taken);
                let there = membership.left.is_none_or(|left| left > over)
                    && membership.process != key.sender
                    && history.life(membership.process).ended.is_none_or(|ended| ended > over);
                let record = taken.filter(|taken| taken.delivered.key == Some(*other)).map(|taken| taken.record).next();
                let survives = |_: &usize| there && !excluded(history, membership.process, by, over);
                record.filter(survives).map(|record| (membership.process, record))
            });
            if let Some((process, record)) = witness {
                let what =
                    format!("{process:?} delivers {other:?}, and nobody delivers it as {key:?} in {:?}", sent.group);
                history.blame(found, 17, what, &[sent.record, record, over]);
            }
        }
    }
}
