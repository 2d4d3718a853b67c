//! Properties 18 and 19: state transfer and flush.

use super::Violation;
use super::digests;
use super::history::{GroupKey, History, Membership};
use crate::trace::{Channel, Event, Key, Process};
use std::collections::BTreeMap;

/// 18. The joiner's state equals the donor's at the point of the join, and no delivery is lost or repeated across it: all
///     that install a view have, at that point, the same state; a state that was installed was captured, whole; and a
///     joiner that wants the state has one before its first view, unless it made the group. In the end, when everything has
///     settled, all have the same state.
pub fn state(history: &History<'_>, found: &mut Vec<Violation>) {
    for (group, members) in history.application_groups() {
        for (number, installers) in history.installers(members) {
            let mut reference: Option<(usize, u64, Process)> = None;
            for at in installers {
                let install = history.at(at);
                let process = history.memberships[at.0].process;
                let Some(digest) = install.digest else { continue };
                match reference {
                    None => reference = Some((install.record, digest, process)),
                    Some((record, other, first)) if other != digest => {
                        let what = format!(
                            "{first:?} and {process:?} begin view {number} of {:?} with different states",
                            group.1
                        );
                        history.blame(found, 18, what, &[record, install.record]);
                    }
                    Some(_) => {}
                }
            }
        }
    }
    digests::state(history, found);
    let mut captured: BTreeMap<u64, usize> = BTreeMap::new();
    let mut installed: BTreeMap<(Process, u16), usize> = BTreeMap::new();
    for (index, record) in history.trace.records.iter().enumerate() {
        match &record.event {
            Event::StateCaptured { digest, .. } => {
                captured.entry(*digest).or_insert(index);
            }
            Event::StateInstalled { join, digest, intact } => {
                installed.insert((record.process, *join), index);
                if !*intact || !captured.contains_key(digest) {
                    let what = format!("{:?} installs a state that nobody captured", record.process);
                    history.blame(found, 18, what, &[index]);
                }
            }
            _ => {}
        }
    }
    for membership in history.memberships.iter().filter(|m| m.wants_state) {
        let Some(first) = membership.installs.first() else { continue };
        let has = installed.get(&(membership.process, membership.join)).is_some_and(|&i| i < first.record);
        let made = first.view.number == 1 || first.view.members.len() == 1;
        if !has && !made && first.view.processes().any(|p| p != membership.process) {
            let what = format!("{:?} begins view {} without the state", membership.process, first.view.number);
            history.blame(found, 18, what, &[membership.called, first.record]);
        }
        if let Some(&state) = installed.get(&(membership.process, membership.join))
            && state > first.record
        {
            let what = format!("{:?} receives a state after its first view", membership.process);
            history.blame(found, 18, what, &[first.record, state]);
        }
    }
}

/// 19. What a process multicast before a flush that returned is not lost: every member of the view that it belongs to delivers
///     it, unless it does not go on from there. (Property 17 is not enough: it holds where all survivors lack the message.)
pub fn flush(history: &History<'_>, found: &mut Vec<Violation>) {
    completed(history, found);
    for membership in &history.memberships {
        let Some(group) = membership.group else { continue };
        let mut calls: BTreeMap<u64, usize> = BTreeMap::new();
        for &record in &history.life(membership.process).records {
            match &history.trace.records[record].event {
                Event::FlushCall { join, flush } if *join == membership.join => {
                    calls.insert(*flush, record);
                }
                Event::Flushed { join, flush } if *join == membership.join => {
                    let Some(&call) = calls.get(flush) else {
                        let what = format!("{:?}: a flush returns that was not called", membership.process);
                        history.blame(found, 19, what, &[record]);
                        continue;
                    };
                    lost(history, membership.process, membership.join, group, call, record, found);
                }
                _ => {}
            }
        }
    }
}

/// 19, for clients: what was called completed is delivered by every member that was there when it was sent, and goes on.
fn completed(history: &History<'_>, found: &mut Vec<Violation>) {
    for (record, done) in history.trace.records.iter().enumerate() {
        let Event::Completed { key } = &done.event else { continue };
        let Some(sent) = history.sends.get(key) else { continue };
        let Some(group) = history.client(*key).and_then(|client| client.group) else { continue };
        // An application may be behind: where others deliver it is what counts, not when.
        let home = history.homes.get(key).map_or(u64::MAX, |(_, view, _)| *view);
        for membership in history.groups[&group].iter().map(|&m| &history.memberships[m]) {
            let there = membership.installs.first().is_some_and(|first| first.record < sent.record);
            if there && goes_on(history, membership, home) && !takes(membership, *key) {
                let what = format!("{key:?} is completed, and {:?} does not deliver it", membership.process);
                history.blame(found, 19, what, &[sent.record, record]);
            }
        }
    }
}

/// The member went on from that view to a later one, or is up in the end when all was given its time.
fn goes_on(history: &History<'_>, membership: &Membership<'_>, view: u64) -> bool {
    let closing = history.life(membership.process).closing;
    let stays = membership.left.is_none() && membership.leave_called.is_none() && !closing;
    membership.installs.iter().any(|install| install.view.number > view)
        || (history.complete() && stays && history.up(membership.process))
}

fn takes(membership: &Membership<'_>, key: Key) -> bool {
    membership.installs.iter().flat_map(|install| &install.taken).any(|taken| taken.delivered.key == Some(key))
}

/// The messages before `call` that somebody of their view does not deliver and goes on.
fn lost(
    history: &History<'_>,
    process: Process,
    join: u16,
    group: GroupKey,
    call: usize,
    returned: usize,
    found: &mut Vec<Violation>,
) {
    let view = history
        .memberships
        .iter()
        .filter(|m| m.process == process && m.join == join)
        .flat_map(|m| &m.installs)
        .rev()
        .find(|i| i.record < returned);
    let Some(view) = view else { return };
    let channel = Channel::Multicast;
    let all =
        Key { sender: process, join, channel, number: 0 }..=Key { sender: process, join, channel, number: u32::MAX };
    for (key, sent) in history.sends.range(all).filter(|(_, sent)| sent.record < call) {
        let home = history.homes.get(key).map_or(view.view.number, |(_, home, _)| *home);
        let members = history.groups[&group].iter().map(|&m| &history.memberships[m]);
        let in_it = members.filter(|m| m.installs.iter().any(|install| install.view.number == home));
        for membership in in_it.filter(|m| goes_on(history, m, home) && !takes(m, *key)) {
            let what = format!("{key:?} is lost to {:?}, although a flush after it has returned", membership.process);
            history.blame(found, 19, what, &[sent.record, call, returned]);
        }
    }
}
