//! Has everything come that was to come? If two sites are cut from each other for ever: all that has to come, which is the same
//! without the processes of one of them. All processes that are alive in one system view, all that want to be in a group in
//! one view of it, with the same messages, and nothing waiting.
//!
//! Owner: none; it looks at a world and changes nothing. It asks the applications, not the engines.

use super::application::Member;
use super::world::World;
use crate::trace::{Process, ViewSeen};

/// The processes of that one of two sites, cut from each other for ever, that has to stay outside: whichever has nobody in
/// the view of those whom both sites reach.
pub fn outsiders(world: &World) -> Vec<usize> {
    let Some((one, other)) = world.cut else { return Vec::new() };
    let on = |site: usize| world.alive().filter(move |&n| world.nodes[n].site == site).collect::<Vec<_>>();
    let (ones, others) = (on(one), on(other));
    if ones.is_empty() || others.is_empty() {
        return Vec::new();
    }
    let mut third = world.alive().filter(|n| !ones.contains(n) && !others.contains(n));
    let view = third.find_map(|n| world.nodes[n].app.system_view.as_ref());
    let inside = |site: &[usize]| view.is_some_and(|view| site.iter().any(|&n| view.has(world.nodes[n].process)));
    if inside(&ones) { others } else { ones }
}

/// Why not; `None`: it has.
pub fn unsettled(world: &World) -> Option<String> {
    let outsiders = outsiders(world);
    let alive: Vec<usize> = world.alive().filter(|n| !outsiders.contains(n)).collect();
    if alive.is_empty() {
        return Some("nobody is alive".to_string());
    }
    let everybody: Vec<Process> = alive.iter().map(|&n| world.nodes[n].process).collect();
    let mut system: Option<(&ViewSeen, u128)> = None;
    for &n in &alive {
        let node = &world.nodes[n];
        let (app, who) = (&node.app, node.process);
        let (Some(view), Some((id, _))) = (&app.system_view, app.admitted) else {
            return Some(format!("{who:?} is in no system"));
        };
        let (first, first_id) = *system.get_or_insert((view, id.0));
        if first_id != id.0 || first.number != view.number || !same(view, &everybody) {
            return Some(format!("{who:?} has system view {view:?}, alive are {everybody:?}"));
        }
        if app.stalled || app.closing || !node.inbox.is_empty() {
            return Some(format!("{who:?} is stalled, closing or busy"));
        }
        if node.behaviour.as_ref().is_some_and(|b| !b.settled(app)) {
            return Some(format!("{who:?} is not in all its groups, or has something to send"));
        }
        for member in app.members.iter().filter(|m| !m.left) {
            // A client of a group without members has nobody to wait for.
            let of_group = |m: &Member| m.name == member.name && m.active() && !m.client;
            let has_members = alive.iter().any(|&n| world.nodes[n].app.members.iter().any(of_group));
            if member.client && !has_members && member.flushes.is_empty() {
                continue;
            }
            if !member.active() || !member.flushes.is_empty() || member.own_undelivered > 0 || member.hands_over() {
                return Some(format!(
                    "{who:?} in group {}: waits for {} flushes and {} own messages",
                    member.name,
                    member.flushes.len(),
                    member.own_undelivered
                ));
            }
        }
    }
    for name in 0..2 {
        let members = alive.iter().flat_map(|&n| {
            let process = world.nodes[n].process;
            let active = world.nodes[n].app.members.iter().filter(|m| m.active() && !m.client && m.name == name);
            active.map(move |m| (process, m))
        });
        let members: Vec<_> = members.collect();
        let processes: Vec<Process> = members.iter().map(|m| m.0).collect();
        let Some((_, first)) = members.first() else { continue };
        for (process, member) in &members {
            let (Some(view), Some(reference)) = (&member.view, &first.view) else { continue };
            let agrees = view.number == reference.number && view.group == reference.group;
            if !agrees || !same(view, &processes) {
                return Some(format!("{process:?} has {view:?}, members should be {processes:?}"));
            }
            if member.in_view != first.in_view {
                return Some(format!("{process:?} has not delivered what others have"));
            }
        }
    }
    None
}

fn same(view: &ViewSeen, processes: &[Process]) -> bool {
    view.members.len() == processes.len() && processes.iter().all(|p| view.has(*p))
}
