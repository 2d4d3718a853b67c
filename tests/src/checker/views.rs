//! Properties of views: 1-5 and 20. They hold for groups and for the system group alike.

use super::Violation;
use super::foundings;
use super::history::{GroupKey, History};
use crate::trace::{Event, Process};
use isis_protocol::id::GroupId;
use std::collections::{BTreeMap, BTreeSet};

/// 1. A process is a member of every view that it installs, at the rank that it was told.
pub fn self_inclusion(history: &History<'_>, found: &mut Vec<Violation>) {
    for membership in &history.memberships {
        for install in &membership.installs {
            let rank = install.view.processes().position(|p| p == membership.process);
            let told = install.view.rank;
            if rank.is_none() || (told != u16::MAX && rank != Some(usize::from(told))) {
                let what = format!("{:?} installs a view in which it is not, or not at its rank", membership.process);
                history.blame(found, 1, what, &[install.record]);
            }
        }
    }
}

/// 2. The numbers of the views that a process installs strictly increase.
pub fn local_monotonicity(history: &History<'_>, found: &mut Vec<Violation>) {
    let mut last: BTreeMap<(Process, GroupKey), (u64, usize)> = BTreeMap::new();
    for membership in &history.memberships {
        let Some(group) = membership.group else { continue };
        for install in &membership.installs {
            let number = install.view.number;
            let before = last.insert((membership.process, group), (number, install.record));
            if let Some((before, record)) = before
                && before >= number
            {
                let what = format!("{:?} installs view {number} after view {before}", membership.process);
                history.blame(found, 2, what, &[record, install.record]);
            }
        }
    }
}

/// 3. Every send and every delivery happens in some view.
pub fn initial_view(history: &History<'_>, found: &mut Vec<Violation>) {
    for membership in &history.memberships {
        for taken in &membership.homeless {
            let what = format!("{:?} delivers outside of any view", membership.process);
            history.blame(found, 3, what, &[taken.record]);
        }
    }
    for (key, sent) in &history.sends {
        let member = history.memberships.iter().find(|m| m.process == key.sender && m.join == key.join);
        let first = member.and_then(|m| m.installs.first().map(|i| i.record).or(m.registered));
        if first.is_none_or(|first| first > sent.record) {
            history.blame(found, 3, format!("{:?} sends before its first view", key.sender), &[sent.record]);
        }
    }
}

/// 4. All install one sequence of views: same members in the same order under a number, no number skipped by a member,
///    consecutive views have a survivor in common, and one group or system per join.
pub fn primary_order(history: &History<'_>, found: &mut Vec<Violation>) {
    for (group, members) in &history.groups {
        let by_view = history.installers(members);
        let mut before: Option<(u64, usize)> = None;
        for (number, installers) in &by_view {
            let first = history.at(installers[0]);
            for &other in &installers[1..] {
                let other = history.at(other);
                if !other.view.processes().eq(first.view.processes()) || other.view.clients != first.view.clients {
                    let what = format!("two different views {number} of {:?}", group.1);
                    history.blame(found, 4, what, &[first.record, other.record]);
                }
            }
            if let Some((previous, record)) = before
                && previous + 1 == *number
            {
                let (Event::View { view: old, .. } | Event::SystemView(old)) = &history.trace.records[record].event
                else {
                    continue;
                };
                if !old.processes().any(|p| first.view.has(p)) {
                    let what = format!("views {previous} and {number} of {:?} have nobody in common", group.1);
                    history.blame(found, 4, what, &[record, first.record]);
                }
            }
            before = Some((*number, first.record));
        }
    }
    for membership in &history.memberships {
        for pair in membership.installs.windows(2) {
            if pair[1].view.group != pair[0].view.group || pair[1].view.number > pair[0].view.number + 1 {
                let what = format!(
                    "{:?} goes from view {} to view {}",
                    membership.process, pair[0].view.number, pair[1].view.number
                );
                history.blame(found, 4, what, &[pair[0].record, pair[1].record]);
            }
        }
    }
}

/// 5. Members that stay keep their relative order, joiners come last.
pub fn ranking_by_age(history: &History<'_>, found: &mut Vec<Violation>) {
    for members in history.groups.values() {
        let by_view = history.installers(members);
        let firsts: Vec<_> = by_view.iter().map(|(number, all)| (*number, history.at(all[0]))).collect();
        for pair in firsts.windows(2) {
            let ((a, old), (b, new)) = (&pair[0], &pair[1]);
            if a + 1 != *b {
                continue;
            }
            // Somebody may leave and come back between two views: it is a joiner then, and its age starts anew.
            let returned = |p: Process| {
                let left = |m: &usize| history.memberships[*m].left.is_some_and(|left| left < new.record);
                new.view.joined.contains(&p) && members.iter().any(|m| history.memberships[*m].process == p && left(m))
            };
            let stayed: Vec<_> = old.view.processes().filter(|&p| new.view.has(p) && !returned(p)).collect();
            let prefix: Vec<_> = new.view.processes().take(stayed.len()).collect();
            if stayed != prefix {
                let what = format!("view {b} is not view {a}'s survivors by age, then the joiners");
                history.blame(found, 5, what, &[old.record, new.record]);
            }
        }
    }
}

/// 20. At most one primary. The same system view k+1 everywhere is property 4; here: the sites of view k that are in
///     view k+1, or went by request, are a quorum of view k; a stalled process delivers nothing; a process that was
///     excluded delivers nothing later than `stall_after` (of its own waking time) after its exclusion. Where a number of
///     sites is expected, see also [`foundings`].
pub fn one_primary(history: &History<'_>, found: &mut Vec<Violation>) {
    for (group, members) in history.groups.iter().filter(|(group, _)| group.1 == GroupId::SYSTEM) {
        let by_view = history.installers(members);
        let firsts: Vec<_> = by_view.iter().map(|(number, all)| (*number, history.at(all[0]))).collect();
        for pair in firsts.windows(2) {
            let ((a, old), (b, new)) = (&pair[0], &pair[1]);
            if a + 1 != *b {
                continue;
            }
            let expected = history.limits.expected_sites;
            let boot_of = |p: Process| history.life(p).site;
            let site_of = |p: Process| if expected > 0 { foundings::host(history, p) } else { boot_of(p) };
            let sites: BTreeSet<u32> = old.view.processes().map(site_of).collect();
            let mut kept: BTreeSet<u32> = old.view.processes().filter(|&p| new.view.has(p)).map(site_of).collect();
            for (gone, by_request) in by_view[b].iter().flat_map(|&at| &history.at(at).view.departed) {
                let process = history
                    .lives
                    .iter()
                    .position(|l| l.admitted.is_some_and(|(system, process, _)| system == group.0 && process == *gone));
                if *by_request && let Some(process) = process {
                    kept.insert(site_of(Process(process as u32)));
                }
            }
            // Votes are not in the trace: a process that hung may have voted before or after, and be excluded all the same.
            let hung_between = |p: Process| {
                history.lives.get(p.0 as usize).is_some_and(|life| {
                    life.records.iter().any(|&record| {
                        (old.record..new.record).contains(&record)
                            && matches!(history.trace.records[record].event, Event::Hang | Event::Wake)
                    })
                })
            };
            kept.extend(old.view.processes().filter(|&p| !new.view.has(p) && hung_between(p)).map(site_of));
            // Newcomers are not told who left: where only they lived to install the view, whoever asked to leave may have.
            let told = by_view[b].iter().any(|&(m, _)| old.view.has(history.memberships[m].process));
            let asked = |p: Process| {
                history.lives.get(p.0 as usize).is_some_and(|life| {
                    life.records.iter().any(|&record| {
                        record < new.record && matches!(history.trace.records[record].event, Event::CloseCall)
                    })
                })
            };
            if !told {
                kept.extend(old.view.processes().filter(|&p| !new.view.has(p) && asked(p)).map(site_of));
            }
            let oldest = old.view.processes().next().map(site_of);
            let half_with_oldest =
                expected == 0 && kept.len() * 2 == sites.len() && oldest.is_some_and(|s| kept.contains(&s));
            if kept.len() * 2 <= sites.len().max(expected) && !half_with_oldest {
                let what = format!("system view {b} keeps {} of {} sites of view {a}", kept.len(), sites.len());
                history.blame(found, 20, what, &[old.record, new.record]);
            }
            // Who was not told of its admission yet never knew that it was in: it may go to another system, or come again.
            let inside = |p: Process| {
                let told = |m: &usize| history.memberships[*m].installs.first().is_some_and(|i| i.record < new.record);
                members.iter().any(|m| history.memberships[*m].process == p && told(m))
            };
            for process in old.view.processes().filter(|&p| !new.view.has(p) && inside(p)) {
                cut_off(history, process, new.record, found);
            }
        }
    }
    foundings::one_after_another(history, found);
    for life in &history.lives {
        let mut stalled = None;
        for &record in &life.records {
            match &history.trace.records[record].event {
                Event::Stalled => stalled = Some(record),
                Event::Resumed | Event::Evicted => stalled = None,
                // A multicast call may be accepted: it is kept, as during a view change, and nothing of it goes out.
                Event::Deliver(_) | Event::View { .. } => {
                    if let Some(since) = stalled {
                        let what = "a stalled process delivers or installs a view".to_string();
                        history.blame(found, 20, what, &[since, record]);
                        break;
                    }
                }
                _ => {}
            }
        }
    }
}

/// A process that `exclusion` excluded delivers for at most `stall_after` of the time in which it was awake and took its events.
pub fn cut_off(history: &History<'_>, process: Process, exclusion: usize, found: &mut Vec<Violation>) {
    let Some(life) = history.lives.get(process.0 as usize) else { return };
    let records = &history.trace.records;
    let allowed = history.limits.stall_after_ns + history.limits.stall_slack_ns;
    let mut awake_ns = 0;
    let mut last = records[exclusion].time;
    let (mut hung, mut lagging) = (false, false);
    for &record in &life.records {
        let time = records[record].time;
        if time > last {
            if !hung && !lagging {
                awake_ns += time - last;
            }
            last = time;
        }
        match records[record].event {
            Event::Hang => hung = true,
            Event::Wake => hung = false,
            Event::Lag { on } => lagging = on,
            Event::Deliver(_) if awake_ns > allowed => {
                let what = format!("{process:?} delivers {} ms after it was excluded", awake_ns / 1_000_000);
                history.blame(found, 20, what, &[exclusion, record]);
                return;
            }
            _ => {}
        }
    }
}
