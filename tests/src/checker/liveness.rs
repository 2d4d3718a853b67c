//! Properties 21-26: what must come once faults stop. Demanded only of a trace that says so ([`History::complete`]): the
//! simulator gives every run a bounded virtual time after the healing.
//!
//! "Up" below: started, not ended, and getting its turns at the end of the trace.

use super::Violation;
use super::history::{GroupKey, History, Membership, SYSTEM_JOIN};
use crate::trace::{Event, Process};
use isis_protocol::id::{GroupId, SystemId};
use std::collections::{BTreeMap, BTreeSet};

/// The processes that are up at the end and do not mean to go.
fn staying<'a>(history: &'a History<'_>) -> impl Iterator<Item = Process> + 'a {
    (0..history.lives.len() as u32).map(Process).filter(|&p| history.up(p) && !history.life(p).closing)
}

/// 21. In the end the system view is the set of processes that are up, and so is each group's view for those that want to
///     be in it.
pub fn membership_precision(history: &History<'_>, found: &mut Vec<Violation>) {
    let up: BTreeSet<Process> = staying(history).collect();
    for membership in &history.memberships {
        let Some(last) = membership.installs.last() else { continue };
        let process = membership.process;
        if !up.contains(&process) || membership.left.is_some() || membership.leave_called.is_some() {
            continue;
        }
        let wanted: BTreeSet<Process> = if membership.join == SYSTEM_JOIN {
            up.clone()
        } else {
            let same_name = |m: &&Membership<'_>| m.join != SYSTEM_JOIN && m.name == membership.name;
            let members = history.memberships.iter().filter(|m| !m.client).filter(same_name);
            members.filter(|m| m.leave_called.is_none() && up.contains(&m.process)).map(|m| m.process).collect()
        };
        let is: BTreeSet<Process> = last.view.processes().collect();
        if is != wanted {
            let what =
                format!("{process:?} ends in a view of {is:?}, and those up that want to be in it are {wanted:?}");
            history.blame(found, 21, what, &[last.record]);
        }
    }
}

/// The memberships that are open at the end, of processes that are up, by group.
fn open<'h, 'a>(history: &'h History<'a>) -> BTreeMap<GroupKey, Vec<&'h Membership<'a>>> {
    let mut groups: BTreeMap<GroupKey, Vec<&'h Membership<'a>>> = BTreeMap::new();
    for membership in &history.memberships {
        let Some(group) = membership.group.filter(|g| g.1 != GroupId::SYSTEM) else { continue };
        let life = history.life(membership.process);
        let stays = membership.leave_called.is_none() && membership.left.is_none() && !life.closing;
        if stays && history.up(membership.process) {
            groups.entry(group).or_default().push(membership);
        }
    }
    groups
}

/// Calls `visit` with every (message, receiver) such that the message was sent by a process that is up at the end, as a
/// member that stays to the end or has left in order, and the receiver was a member from the view on in which it was sent
/// (the sender itself too, unless it left).
fn owed(
    history: &History<'_>,
    mut visit: impl FnMut(&crate::trace::Key, &super::history::Sent, &Membership<'_>, bool),
) {
    for (group, members) in &open(history) {
        let mut got: Vec<(&Membership<'_>, BTreeSet<crate::trace::Key>)> = Vec::new();
        for membership in members {
            let taken = membership.installs.iter().flat_map(|i| &i.taken);
            got.push((membership, taken.filter_map(|t| t.delivered.key).collect()));
        }
        for (key, sent) in history.sends.iter().filter(|(_, s)| s.to.is_none()) {
            let is_sender = |m: &&Membership<'_>| m.process == key.sender && m.join == key.join;
            let left = history.up(key.sender)
                && history.memberships.iter().any(|m| is_sender(&m) && m.left.is_some() && m.group == Some(*group));
            if !left && !members.iter().any(is_sender) {
                continue;
            }
            for (receiver, keys) in &got {
                // A client is told no views: it counts when the call was.
                let client = history.client(*key).is_some();
                let there = receiver.installs.first().is_some_and(|first| {
                    if client { first.record < sent.record } else { first.view.number <= sent.view }
                });
                if there {
                    visit(key, sent, receiver, keys.contains(key));
                }
            }
        }
    }
}

/// 22. A message of a process that stays up is delivered by all that stay with it.
pub fn multicast(history: &History<'_>, found: &mut Vec<Violation>) {
    owed(history, |key, sent, receiver, got| {
        if !got && receiver.process != key.sender {
            let what = format!("{:?} never delivers {key:?}", receiver.process);
            history.blame(found, 22, what, &[sent.record]);
        }
    });
}

/// 23. A process that stays up delivers its own messages.
pub fn self_delivery(history: &History<'_>, found: &mut Vec<Violation>) {
    owed(history, |key, sent, receiver, got| {
        if !got && receiver.process == key.sender {
            history.blame(found, 23, format!("{key:?} is never delivered by its sender"), &[sent.record]);
        }
    });
}

/// 24. A safe message of a process that stays up is told to be safe, that is, delivered.
pub fn safe_indication(history: &History<'_>, found: &mut Vec<Violation>) {
    owed(history, |key, sent, receiver, got| {
        if !got && sent.safe {
            let what = format!("safe {key:?} is never delivered by {:?}", receiver.process);
            history.blame(found, 24, what, &[sent.record]);
        }
    });
}

/// 25. Joins, leaves, flushes and state transfers complete, and so does close.
pub fn requests_complete(history: &History<'_>, found: &mut Vec<Violation>) {
    for membership in history.memberships.iter().filter(|m| m.join != SYSTEM_JOIN) {
        if !history.up(membership.process) {
            continue;
        }
        let process = membership.process;
        if let (Some(leave), None) = (membership.leave_called, membership.left) {
            history.blame(found, 25, format!("{process:?}: leave never completes"), &[leave]);
        } else if membership.client {
            // There must be somebody to register with.
            let members = open(history).into_values().flatten();
            let mut of_name = members.filter(|m| !m.client && m.name == membership.name);
            if membership.registered.is_none() && !history.life(process).closing && of_name.next().is_some() {
                history.blame(found, 25, format!("{process:?}: is never registered"), &[membership.called]);
            }
        } else if membership.installs.is_empty()
            && membership.leave_called.is_none()
            && membership.left.is_none()
            && !history.life(process).closing
        {
            history.blame(found, 25, format!("{process:?}: join never completes"), &[membership.called]);
        }
    }
    for process in (0..history.lives.len() as u32).map(Process).filter(|&p| history.up(p)) {
        let life = history.life(process);
        let mut flushes: BTreeMap<(u16, u64), usize> = BTreeMap::new();
        for &record in &life.records {
            match &history.trace.records[record].event {
                Event::FlushCall { join, flush } => {
                    flushes.insert((*join, *flush), record);
                }
                Event::Flushed { join, flush } => {
                    flushes.remove(&(*join, *flush));
                }
                Event::Left { join } | Event::GroupEnded { join } => flushes.retain(|(of, _), _| of != join),
                Event::CloseCall => {
                    history.blame(found, 25, format!("{process:?}: close never completes"), &[record]);
                }
                _ => {}
            }
        }
        if !life.closing {
            for (_, record) in flushes {
                history.blame(found, 25, format!("{process:?}: flush never returns"), &[record]);
            }
        }
    }
}

/// 26. No wedge: all that are up are in one system and at the same view of it, none is stalled, and the members of each
///     group are at the same view of the group.
pub fn no_wedge(history: &History<'_>, found: &mut Vec<Violation>) {
    let mut first: Option<(SystemId, u64, usize)> = None;
    for process in staying(history) {
        let life = history.life(process);
        let stay = history.memberships.iter().find(|m| m.process == process && m.join == SYSTEM_JOIN);
        let (Some((system, _, _)), Some(last)) = (life.admitted, stay.and_then(|m| m.installs.last())) else {
            let what = format!("{process:?} is up and in no system");
            history.blame(found, 26, what, &life.start.into_iter().collect::<Vec<_>>());
            continue;
        };
        let is = (system, last.view.number);
        match first {
            None => first = Some((is.0, is.1, last.record)),
            Some((system, number, record)) if (system, number) != is => {
                let what = format!("{process:?} ends in another system or system view than others");
                history.blame(found, 26, what, &[record, last.record]);
            }
            Some(_) => {}
        }
        let last_stall = life
            .records
            .iter()
            .rev()
            .find(|&&r| matches!(history.trace.records[r].event, Event::Stalled | Event::Resumed));
        if let Some(&record) = last_stall
            && history.trace.records[record].event == Event::Stalled
        {
            history.blame(found, 26, format!("{process:?} ends stalled"), &[record]);
        }
    }
    for (group, members) in open(history) {
        let last = members.iter().filter_map(|m| m.installs.last());
        let views: BTreeMap<u64, usize> = last.map(|i| (i.view.number, i.record)).collect();
        if views.len() > 1 {
            let what = format!("members of {:?} end at different views", group.1);
            history.blame(found, 26, what, &views.into_values().collect::<Vec<_>>());
        }
    }
}
