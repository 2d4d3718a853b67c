//! One producer's commands on their way into the core: which wait, and in what order they go on.
//!
//! A command that the core cannot take yet (a full window, a view change) waits in its group's [`Lane`]; other groups go on.
//! But not with what it may have caused: within a domain of causality a message, of any kind but FIFO, does not overtake one
//! that waits in another group (R4). The core cannot see to that, for it knows only what has reached it.
//!
//! Between producers there is no such order: they are threads of the application, which ISIS does not see speak.
//!
//! Owner: the core thread. Invariant: the parked commands of a domain that are messages with causal order leave in the order
//! in which they came, whatever their groups.

use crate::command::{Action, Command};
use crate::lane::{Lane, Parked};
use isis_protocol::{GroupHandle, Kind};
use std::collections::BTreeMap;

/// A lane for each group in which a producer sends.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    by_group: BTreeMap<GroupHandle, Lane>,
    /// Commands that were parked so far.
    parked: u64,
}

impl Lanes {
    /// The producer sends in one group more.
    pub fn insert(&mut self, group: GroupHandle, lane: Lane) {
        self.by_group.insert(group, lane);
    }

    /// This process is no member of the group any more: what waits is dropped. The lane stays, for what still comes.
    pub fn close(&mut self, group: GroupHandle) {
        if let Some(lane) = self.by_group.get_mut(&group) {
            lane.close();
        }
    }

    /// Nothing comes for the group any more.
    pub fn remove(&mut self, group: GroupHandle) {
        self.by_group.remove(&group);
    }

    /// Nothing waits.
    pub fn is_idle(&self) -> bool {
        self.by_group.values().all(|lane| lane.parked.is_empty())
    }

    /// The groups whose producer was told to wait, and now may go on; `all`: whether anything was taken or not.
    pub fn owed_writable(&mut self, all: bool) -> impl Iterator<Item = GroupHandle> + '_ {
        let owed = move |lane: &mut Lane| (all || lane.touched) && lane.owes_writable();
        self.by_group.iter_mut().filter_map(move |(&group, lane)| owed(lane).then_some(group))
    }

    /// Gives the core a command, or parks it. `carry_out`: `false`, if the core cannot take it now.
    pub fn offer<D: AsRef<[u8]>>(&mut self, command: &Command<D>, carry_out: impl FnOnce(&Command<D>) -> bool) {
        let place = self.parked + 1;
        let causal = is_causal(&command.action);
        let held_up = causal && self.follows_another(command.group, place);
        let Some(lane) = self.by_group.get_mut(&command.group) else { return };
        if lane.parked.is_empty() && !held_up && carry_out(command) {
            lane.take(command.cost());
        } else {
            self.parked = place;
            lane.park(Parked { place, causal, command: command.to_owned() });
        }
    }

    /// Tries again what is parked, oldest first; how many commands the core took.
    pub fn retry(&mut self, mut carry_out: impl FnMut(&Command<Box<[u8]>>) -> bool) -> usize {
        let mut work = 0;
        let mut waiting: Vec<GroupHandle> =
            self.by_group.iter().filter(|(_, lane)| !lane.parked.is_empty()).map(|(&group, _)| group).collect();
        while let Some(index) = (0..waiting.len()).min_by_key(|&index| self.first(waiting[index]).map(|it| it.place)) {
            let group = waiting[index];
            let goes = self.first(group).is_some_and(|first| {
                !(first.causal && self.follows_another(group, first.place)) && carry_out(&first.command)
            });
            match self.by_group.get_mut(&group) {
                Some(lane) if goes => {
                    lane.unpark();
                    work += 1;
                    if lane.parked.is_empty() {
                        waiting.swap_remove(index);
                    }
                }
                _ => {
                    waiting.swap_remove(index);
                }
            }
        }
        work
    }

    fn first(&self, group: GroupHandle) -> Option<&Parked> {
        self.by_group.get(&group)?.parked.front()
    }

    /// Whether a message of this place among the parked ones came after one that waits in another group of the domain.
    fn follows_another(&self, group: GroupHandle, place: u64) -> bool {
        let Some(domain) = self.by_group.get(&group).map(|lane| lane.domain) else { return false };
        self.by_group.iter().any(|(&other, lane)| {
            other != group && lane.domain == domain && lane.first_causal().is_some_and(|first| first < place)
        })
    }
}

/// There are no causal edges from or to FBCASTs; what is no message of the application is exempt.
fn is_causal<D>(action: &Action<D>) -> bool {
    match action {
        Action::Multicast { options, .. } => options.kind != Kind::Fifo,
        Action::Send { .. } | Action::Reply { .. } => true,
        Action::StateBlock { .. } | Action::Flush { .. } | Action::Leave => false,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::lane::Gate;
    use isis_protocol::{ProcessId, SendOptions};
    use std::sync::Arc;

    const A: GroupHandle = GroupHandle(1);
    const B: GroupHandle = GroupHandle(2);
    /// In a domain of its own.
    const C: GroupHandle = GroupHandle(3);

    fn lanes() -> Lanes {
        let mut lanes = Lanes::default();
        for (group, domain) in [(A, 0), (B, 0), (C, 1)] {
            lanes.insert(group, Lane::new(Arc::new(Gate::default()), domain));
        }
        lanes
    }

    fn multicast(group: GroupHandle, kind: Kind, ticket: u64) -> Command<&'static [u8]> {
        let options = SendOptions { kind, safe: false, entry: 1 };
        Command { group, ticket, action: Action::Multicast { options, view: 0, data: b"" } }
    }

    fn send(group: GroupHandle, ticket: u64) -> Command<&'static [u8]> {
        Command { group, ticket, action: Action::Send { member: ProcessId(1), entry: 1, data: b"" } }
    }

    /// What the core is given, one after the other, when it takes what `open` says.
    fn retry(lanes: &mut Lanes, open: impl Fn(GroupHandle) -> bool) -> Vec<u64> {
        let mut taken = Vec::new();
        lanes.retry(|command| {
            if open(command.group) {
                taken.push(command.ticket);
            }
            open(command.group)
        });
        taken
    }

    fn parks(lanes: &mut Lanes, command: &Command<&'static [u8]>, open: bool) -> bool {
        let before = lanes.parked;
        lanes.offer(command, |_| open);
        lanes.parked > before
    }

    #[test]
    fn a_message_waits_for_one_that_waits_in_another_group_of_its_domain() {
        let mut lanes = lanes();
        assert!(parks(&mut lanes, &multicast(A, Kind::Causal, 1), false));
        assert!(parks(&mut lanes, &multicast(B, Kind::Total, 2), true), "it may be caused by the first");
        assert!(parks(&mut lanes, &send(B, 3), true));
        assert!(!parks(&mut lanes, &send(C, 4), true), "another domain");
        assert!(parks(&mut lanes, &multicast(A, Kind::Causal, 5), true), "its own group is first in, first out");
        assert_eq!(retry(&mut lanes, |group| group == B), [], "the first still waits");
        assert_eq!(retry(&mut lanes, |group| group == A), [1], "and the last waits for those of the other group");
        assert_eq!(retry(&mut lanes, |_| true), [2, 3, 5]);
        assert!(lanes.is_idle());
        assert!(!parks(&mut lanes, &multicast(B, Kind::Total, 6), true));
    }

    #[test]
    fn fbcasts_neither_wait_nor_hold_up() {
        let mut lanes = lanes();
        assert!(parks(&mut lanes, &multicast(A, Kind::Fifo, 1), false));
        assert!(!parks(&mut lanes, &multicast(B, Kind::Total, 2), true));
        assert!(parks(&mut lanes, &multicast(A, Kind::Causal, 3), true));
        assert!(!parks(&mut lanes, &multicast(B, Kind::Fifo, 4), true));
        assert!(parks(&mut lanes, &multicast(B, Kind::Causal, 5), true));
        assert_eq!(retry(&mut lanes, |_| true), [1, 3, 5]);
    }

    #[test]
    fn what_waits_in_a_group_that_is_gone_holds_nobody_up() {
        let mut lanes = lanes();
        assert!(parks(&mut lanes, &send(A, 1), false));
        assert!(parks(&mut lanes, &send(B, 2), true));
        lanes.close(A);
        assert_eq!(retry(&mut lanes, |_| true), [2]);
    }
}
