//! Part of property 20, for runs in which the number of sites is expected (R12): one system after another, never two at a time.
//!
//! - A founding is decided once: all site records that know of it name the same system.
//! - A system's first view holds processes of a majority of the expected sites.
//! - When a system begins, fewer than a majority of the sites have a process that lives in an older one; and what lives in
//!   the older one delivers for at most `stall_after` longer, as one that was excluded.

use super::Violation;
use super::history::History;
use super::views::cut_off;
use crate::trace::{Event, Process};
use isis_protocol::id::{GroupId, SystemId};
use std::collections::{BTreeMap, BTreeSet};

/// The host of a process, whatever its boot.
pub fn host(history: &History<'_>, process: Process) -> u32 {
    history.life(process).site % 100
}

/// See the module.
pub fn one_after_another(history: &History<'_>, found: &mut Vec<Violation>) {
    let expected = history.limits.expected_sites;
    if expected == 0 {
        return;
    }
    let mut decided: BTreeMap<u64, (SystemId, usize)> = BTreeMap::new();
    for (index, record) in history.trace.records.iter().enumerate() {
        let Event::Founding { number, system } = record.event else { continue };
        let (first, at) = *decided.entry(number).or_insert((system, index));
        if first != system {
            let what = format!("founding {number} is {first:?} and {system:?}");
            history.blame(found, 20, what, &[at, index]);
        }
    }
    // By its first install: the system and its processes' memberships.
    let mut systems: Vec<(usize, &Vec<usize>)> = Vec::new();
    for ((_, _), members) in history.groups.iter().filter(|(group, _)| group.1 == GroupId::SYSTEM) {
        let installs = || members.iter().flat_map(|&m| &history.memberships[m].installs);
        let Some(first) = installs().min_by_key(|install| install.record) else { continue };
        systems.push((first.record, members));
        if let Some(install) = installs().find(|install| install.view.number == 1) {
            let hosts: BTreeSet<u32> = install.view.processes().map(|p| host(history, p)).collect();
            if 2 * hosts.len() <= expected {
                let what = format!("a system is founded by {} of {expected} sites", hosts.len());
                history.blame(found, 20, what, &[install.record]);
            }
        }
    }
    systems.sort_unstable();
    for (position, &(begin, _)) in systems.iter().enumerate() {
        let told = history.trace.records[begin].process;
        let late = history.life(told).records.iter().any(|&record| {
            record < begin && matches!(history.trace.records[record].event, Event::Hang | Event::Lag { .. })
        });
        for &(_, older) in &systems[..position] {
            let lives = |m: &&usize| {
                let membership = &history.memberships[**m];
                let life = history.life(membership.process);
                membership.installs.first().is_some_and(|i| i.record < begin) && life.ended.is_none_or(|e| e > begin)
            };
            let living: Vec<Process> = older.iter().filter(lives).map(|m| history.memberships[*m].process).collect();
            let hosts: BTreeSet<u32> = living.iter().map(|&p| host(history, p)).collect();
            // Whoever takes its events late may tell late of a system that is gone by now.
            if 2 * hosts.len() > expected && !late {
                let what = format!("a system begins while {living:?} live in an older one");
                history.blame(found, 20, what, &[begin]);
            }
            for process in living {
                cut_off(history, process, begin, found);
            }
        }
    }
}
