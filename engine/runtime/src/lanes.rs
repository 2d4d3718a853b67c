//! One producer's commands on their way into the core: which wait, and in what order they go on.
//!
//! A command that the core cannot take yet (a full window, a view change) waits in its group's [`Lane`]; other groups go on.
//! But not with what it may have caused: within a domain of causality a message, of any kind but FIFO, does not overtake one
//! that waits in another group (R4). The core cannot see to that, for it knows only what has reached it.
//!
//! An ABCAST to several groups is parked in the lane of its first one, and keeps its place in those of the others.
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

    /// This process is no member of the group any more: what waits is dropped. The lane stays, for what still comes. Gives what
    /// other groups do not get with it: the group, and the ticket there.
    pub fn close(&mut self, group: GroupHandle) -> Vec<(GroupHandle, u64)> {
        let dropped = self.by_group.get_mut(&group).map(Lane::close).unwrap_or_default();
        for parked in &dropped {
            self.release(&parked.command, parked.place);
        }
        dropped.iter().flat_map(|parked| parked.command.others()).copied().collect()
    }

    /// A command that was parked at that place is done with: its further groups' lanes.
    fn release<D: AsRef<[u8]>>(&mut self, command: &Command<D>, place: u64) {
        for (other, _) in command.others() {
            if let Some(lane) = self.by_group.get_mut(other) {
                lane.unpark_elsewhere(place);
                lane.take(command.cost());
            }
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
        let held_up = self.is_held_up(command, causal, place);
        let Some(lane) = self.by_group.get_mut(&command.group) else {
            if !command.others().is_empty() && carry_out(command) {
                // It is refused; the other groups hear so.
                self.release(command, place);
            }
            return;
        };
        if !held_up && carry_out(command) {
            lane.take(command.cost());
            self.release(command, place);
        } else {
            self.parked = place;
            lane.park(Parked { place, causal, command: command.to_owned() });
            for (other, _) in command.others() {
                if let Some(lane) = self.by_group.get_mut(other) {
                    lane.park_elsewhere(place);
                }
            }
        }
    }

    /// Something before it waits: in one of its groups, or, where it has causal order, in another one of their domains.
    fn is_held_up<D: AsRef<[u8]>>(&self, command: &Command<D>, causal: bool, place: u64) -> bool {
        let groups = || std::iter::once(command.group).chain(command.others().iter().map(|(other, _)| *other));
        let waits_in = |group| self.by_group.get(&group).and_then(Lane::first).is_some_and(|first| first < place);
        groups().any(waits_in) || (causal && groups().any(|group| self.follows_another(group, place)))
    }

    /// Tries again what is parked, oldest first; how many commands the core took.
    pub fn retry(&mut self, mut carry_out: impl FnMut(&Command<Box<[u8]>>) -> bool) -> usize {
        let mut work = 0;
        let mut waiting: Vec<GroupHandle> =
            self.by_group.iter().filter(|(_, lane)| !lane.parked.is_empty()).map(|(&group, _)| group).collect();
        while let Some(index) = (0..waiting.len()).min_by_key(|&index| self.first(waiting[index]).map(|it| it.place)) {
            let group = waiting[index];
            let goes = self.first(group).is_some_and(|first| {
                !self.is_held_up(&first.command, first.causal, first.place) && carry_out(&first.command)
            });
            let done = if goes { self.by_group.get_mut(&group).and_then(Lane::unpark) } else { None };
            if let Some(parked) = &done {
                self.release(&parked.command, parked.place);
                work += 1;
            }
            if done.is_none() || self.first(group).is_none() {
                waiting.swap_remove(index);
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
        Action::MulticastGroups { .. } | Action::Send { .. } | Action::Reply { .. } => true,
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

    fn to_both(ticket: u64) -> Command<&'static [u8]> {
        let options = SendOptions { kind: Kind::Total, safe: false, entry: 1 };
        let others = vec![(B, ticket)];
        Command { group: A, ticket, action: Action::MulticastGroups { options, others, data: b"" } }
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
    fn a_message_to_several_groups_has_its_place_in_each() {
        let mut lanes = lanes();
        assert!(parks(&mut lanes, &multicast(B, Kind::Fifo, 1), false));
        assert!(parks(&mut lanes, &to_both(2), true), "first in, first out in its second group");
        assert!(parks(&mut lanes, &multicast(B, Kind::Fifo, 3), true), "behind it, and behind the first");
        assert!(parks(&mut lanes, &multicast(A, Kind::Fifo, 4), true));
        assert!(!parks(&mut lanes, &send(C, 5), true), "another domain");
        assert_eq!(retry(&mut lanes, |group| group == A), []);
        assert_eq!(retry(&mut lanes, |group| group == B), [1], "it waits for its first group");
        assert_eq!(retry(&mut lanes, |_| true), [2, 3, 4]);
        assert!(lanes.is_idle());
        assert!(!parks(&mut lanes, &multicast(B, Kind::Fifo, 6), true));
    }

    #[test]
    fn a_message_to_a_group_that_is_gone_is_given_back_to_the_others() {
        let mut lanes = lanes();
        assert!(parks(&mut lanes, &to_both(7), false));
        assert!(parks(&mut lanes, &multicast(B, Kind::Fifo, 8), true));
        assert_eq!(lanes.close(A), [(B, 7)]);
        assert_eq!(retry(&mut lanes, |_| true), [8]);
        lanes.remove(A);
        assert!(!parks(&mut lanes, &to_both(9), true), "it is refused, and holds nothing up");
        assert!(!parks(&mut lanes, &multicast(B, Kind::Fifo, 10), true));
    }

    #[test]
    fn what_waits_in_a_group_that_is_gone_holds_nobody_up() {
        let mut lanes = lanes();
        assert!(parks(&mut lanes, &send(A, 1), false));
        assert!(parks(&mut lanes, &send(B, 2), true));
        assert!(lanes.close(A).is_empty());
        assert_eq!(retry(&mut lanes, |_| true), [2]);
    }
}
