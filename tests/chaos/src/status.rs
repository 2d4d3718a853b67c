//! What a member says of itself: enough to see from outside that all of them have settled.
//!
//! Text: `status SETTLED SYSTEM GROUP …`, where SYSTEM is `ID/VIEW/PROCESS,…` or `-`, and GROUP is
//! `NAME=ID/VIEW/PROCESS,…/DIGEST`.

use isis_tests::sim::application::Application;
use isis_tests::sim::behaviour::Behaviour;
use isis_tests::trace::ViewSeen;
use std::collections::BTreeMap;
use std::fmt;

/// See the module.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Status {
    /// It waits for nothing: it is in its groups, and all that it asked for is done.
    pub settled: bool,
    /// It may not go on without a quorum, or is in no system.
    pub stuck: bool,
    /// Its system view; empty: none.
    pub system: String,
    /// By name: the last view, and what was delivered in it.
    pub groups: BTreeMap<String, String>,
}

fn processes(view: &ViewSeen) -> String {
    let mut numbers: Vec<u32> = view.processes().map(|process| process.0).collect();
    numbers.sort_unstable();
    list(&numbers)
}

/// Process numbers as text.
pub fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

impl Status {
    /// Of a member.
    pub fn of(app: &Application, behaviour: &Behaviour) -> Status {
        let waits = app
            .members
            .iter()
            .filter(|m| !m.left)
            .any(|m| !m.active() || !m.flushes.is_empty() || m.own_undelivered > 0 || m.hands_over());
        let system = match (&app.system_view, app.admitted) {
            (Some(view), Some((system, _))) => format!("{:x}/{}/{}", system.0, view.number, processes(view)),
            _ => String::new(),
        };
        let groups = app.members.iter().filter(|m| m.active()).filter_map(|m| {
            let view = m.view.as_ref()?;
            let text = format!("{}/{}/{}/{:x}", view.group.0, view.number, processes(view), m.in_view);
            Some((m.name.to_string(), text))
        });
        let stuck = app.stalled || system.is_empty();
        Status { settled: behaviour.settled(app) && !waits && !stuck, stuck, system, groups: groups.collect() }
    }

    /// From its text.
    pub fn read(text: &str) -> Option<Status> {
        let mut words = text.split(' ');
        let state = words.next().filter(|_| text.starts_with("status ")).and_then(|_| words.next())?;
        let system = words.next()?.trim_start_matches('-').to_owned();
        let groups = words.map(|word| word.split_once('=').map(|(name, group)| (name.to_owned(), group.to_owned())));
        let groups = groups.collect::<Option<BTreeMap<_, _>>>()?;
        Some(Status { settled: state == "settled", stuck: state == "stuck", system, groups })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.settled, self.stuck) {
            (true, _) => "settled",
            (false, true) => "stuck",
            (false, false) => "busy",
        };
        write!(f, "status {state} {}", if self.system.is_empty() { "-" } else { &self.system })?;
        self.groups.iter().try_for_each(|(name, group)| write!(f, " {name}={group}"))
    }
}

/// Why these members, by process number, have not settled; `None`: they have.
pub fn unsettled(members: &BTreeMap<u32, Status>) -> Option<String> {
    let everybody = list(&members.keys().copied().collect::<Vec<_>>());
    let mut groups: BTreeMap<&String, Vec<(u32, &String)>> = BTreeMap::new();
    let first = members.values().next()?;
    for (process, status) in members {
        if !status.settled {
            return Some(format!("P{process} says: {status}"));
        }
        if status.system != first.system || status.system.rsplit('/').next() != Some(everybody.as_str()) {
            return Some(format!("P{process} is in system view {}, and up are {everybody}", status.system));
        }
        for (name, group) in &status.groups {
            groups.entry(name).or_default().push((*process, group));
        }
    }
    for (name, seen) in groups {
        let members = list(&seen.iter().map(|(process, _)| *process).collect::<Vec<_>>());
        for (process, group) in &seen {
            if *group != seen[0].1 || group.split('/').nth(2) != Some(members.as_str()) {
                return Some(format!("P{process} in group {name}: {group}, another one: {}", seen[0].1));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Status {
        Status::read(text).expect("a status")
    }

    #[test]
    fn a_status_is_read_as_it_was_written() {
        for text in ["status stuck -", "status busy a/3/1,2", "status settled a/3/1,2 0=1/2/1,2/ff 1=2/2/1/0"] {
            assert_eq!(member(text).to_string(), text);
        }
        assert_eq!(Status::read("counter a 1"), None);
    }

    #[test]
    fn they_have_settled_when_all_say_so_and_say_the_same() {
        let good = "status settled a/3/1,2 0=1/2/1,2/ff";
        let with = |other: &str| unsettled(&[(1, member(good)), (2, member(other))].into());
        assert_eq!(with(good), None);
        for bad in [
            "status busy a/3/1,2 0=1/2/1,2/ff",
            "status settled a/4/1,2 0=1/2/1,2/ff",
            "status settled a/3/1,2 0=1/3/1,2/ff",
            "status settled a/3/1,2 0=1/2/1,2/fe",
            "status settled a/3/1,2",
        ] {
            assert!(with(bad).is_some(), "{bad}");
        }
        assert!(unsettled(&[(1, member(good))].into()).is_some(), "a member that is not up");
    }
}
