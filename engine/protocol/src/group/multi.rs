//! ABCASTs to several groups, as one destination group has them [BJ87, SOSP87].
//!
//! A group is a deterministic machine: what it does is a function of its total order. An ABCAST to several groups comes as a
//! *copy* in each of them, an ordinary safe ABCAST of its sender's that is not shown to the application. Where a copy comes in
//! the group's order every member gives it the same *proposal*, a number of the group's clock. The sender, a member of all
//! the groups, takes the highest proposal as the message's *final* priority, and says it in another ABCAST to each.
//!
//! ```text
//!  (unknown) ──copy in the group's order──▶ proposed ──final in the group's order──▶ decided ──lowest of all──▶ delivered
//!                                             └──the view ends, the sender goes on──▶ dropped; it sends a copy in the next one
//!                                             └──the view ends without the sender──▶ settled (rule R2), or void
//! ```
//! Of those that are known the one with the lowest priority is next, once it is decided: a final is at least as high as the
//! group's own proposal, and a copy that comes later gets a higher one. Priorities, and with equal ones the messages' names,
//! are the same in all groups; so all groups deliver those that they share in one order, and no circle of groups contradicts
//! itself. A message of the one group only is delivered where it comes in the group's order.
//!
//! Copies are safe: a sender that knows a group's proposal knows that every member has the copy, what happened before it and its
//! place. So whoever knows a final may deliver it, whatever fails afterwards.
//!
//! Owner: the [`super::Group`]. Invariant: all members that have delivered the same part of the order have the same content.

use crate::stream::Queued;
use isis_wire::id::{GroupId, ProcessId};
use isis_wire::multi::{MultiHeader, MultiId};
use std::collections::BTreeMap;

/// A copy that was put in its place.
#[derive(Clone, Debug)]
pub struct Proposed {
    /// Its sender's rank in the view.
    pub rank: usize,
    /// Its number among the sender's messages, as the application sees it.
    pub number: u64,
    /// The message, with bytes of its own, without the copy's header.
    pub message: Queued,
    /// All groups that it goes to.
    pub groups: Vec<GroupId>,
    /// The group's proposal, then the final priority.
    pub priority: u64,
    decided: bool,
}

/// What one view of a group has of messages to several groups.
#[derive(Debug, Default)]
pub struct Copies {
    /// The highest priority that was proposed here or is known.
    pub clock: u64,
    proposed: BTreeMap<MultiId, Proposed>,
}

impl Copies {
    /// For a view that begins at this clock.
    pub fn new(clock: u64) -> Copies {
        Copies { clock, proposed: BTreeMap::new() }
    }

    /// A copy of `sender` came in the group's order. It gets a higher priority than what happened before it elsewhere, which
    /// its sender's clock bounds. Gives its name and the group's proposal.
    pub fn take_copy(
        &mut self,
        sender: ProcessId,
        header: MultiHeader,
        (rank, number): (usize, u64),
        message: Queued,
    ) -> (MultiId, u64) {
        let id = MultiId { sender, number: header.number };
        self.clock = self.clock.max(header.clock).saturating_add(1);
        let priority = self.clock;
        self.proposed.insert(id, Proposed { rank, number, message, groups: header.groups, priority, decided: false });
        (id, priority)
    }

    /// The final priority of a message; `false`: it is not known here.
    pub fn take_final(&mut self, id: MultiId, priority: u64) -> bool {
        self.clock = self.clock.max(priority);
        let Some(proposed) = self.proposed.get_mut(&id) else { return false };
        if !proposed.decided {
            // The highest of all groups' proposals, this one's among them.
            proposed.priority = proposed.priority.max(priority);
            proposed.decided = true;
        }
        true
    }

    /// Takes the next message that is to be delivered.
    pub fn deliver_one(&mut self) -> Option<(MultiId, Proposed)> {
        let (&id, first) = self.proposed.iter().min_by_key(|(id, proposed)| (proposed.priority, **id))?;
        if !first.decided && !mutant!(MultiUndecided) {
            return None;
        }
        self.proposed.remove_entry(&id)
    }

    /// Those without a final priority.
    pub fn undecided(&self) -> impl Iterator<Item = (MultiId, &Proposed)> {
        self.proposed.iter().filter(|(_, proposed)| !proposed.decided).map(|(&id, proposed)| (id, proposed))
    }

    /// The view is at its end: those without a final priority are dropped. Gives them.
    pub fn drop_undecided(&mut self) -> Vec<(MultiId, Proposed)> {
        let dropped: Vec<MultiId> = self.undecided().map(|(id, _)| id).collect();
        dropped.iter().filter_map(|id| self.proposed.remove_entry(id)).collect()
    }

    /// Something safe waits for its turn here.
    pub fn has_safe(&self) -> bool {
        self.proposed.values().any(|proposed| proposed.message.safe)
    }

    /// Nothing waits here.
    pub fn is_empty(&self) -> bool {
        self.proposed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Body, Kind};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn message() -> Queued {
        let body = Body::Owned(Arc::new(Vec::new()));
        Queued { number: 1, kind: Kind::Total, safe: false, entry: 0, end: 8, body }
    }

    const SENDER: ProcessId = ProcessId(1);

    fn id(number: u64) -> MultiId {
        MultiId { sender: SENDER, number }
    }

    fn copy(multis: &mut Copies, number: u64) -> u64 {
        let header = MultiHeader { number, complete: 0, clock: 0, safe: false, groups: Vec::new() };
        multis.take_copy(SENDER, header, (0, 1), message()).1
    }

    #[test]
    fn a_message_waits_for_one_that_may_come_before() {
        let mut multis = Copies::new(0);
        assert_eq!(copy(&mut multis, 1), 1);
        assert_eq!(copy(&mut multis, 2), 2);
        assert!(multis.take_final(id(2), 5));
        assert!(multis.deliver_one().is_none(), "the first one may get any priority from 1 on");
        assert!(multis.take_final(id(1), 9));
        assert_eq!(multis.deliver_one().map(|(id, _)| id.number), Some(2));
        assert_eq!(multis.deliver_one().map(|(id, _)| id.number), Some(1));
        assert_eq!(copy(&mut multis, 3), 10, "later ones are higher than all that is known");
        assert_eq!(multis.drop_undecided().iter().map(|(id, _)| id.number).collect::<Vec<_>>(), [3]);
        assert!(multis.is_empty() && !multis.take_final(id(3), 11));
    }

    /// A message's groups, the proposals so far, and the groups that know the final.
    type Sent = (Vec<usize>, Vec<Option<u64>>, Vec<bool>);

    /// Three groups, messages to random pairs and triples of them, copies and finals in random orders: there is one order of
    /// all messages that each group's order is a part of.
    fn one_order(choices: &[(u8, u8)]) -> Result<(), TestCaseError> {
        let mut groups: Vec<(Copies, Vec<u64>)> = (0..3).map(|_| (Copies::new(0), Vec::new())).collect();
        let mut sent: Vec<Sent> = Vec::new();
        let finish: Vec<(u8, u8)> = (0..=255u8).flat_map(|m| (0..6).map(move |what| (what, m))).collect();
        let rest = finish.iter().filter(|(what, _)| *what > 0).cycle().take(3 * finish.len());
        for &(what, which) in choices.iter().chain(rest) {
            if what % 6 == 0 && sent.len() < 40 {
                let all = [vec![0, 1], vec![1, 2], vec![2, 0], vec![0, 1, 2]];
                sent.push((all[usize::from(which) % 4].clone(), vec![None; 3], vec![false; 3]));
            } else if !sent.is_empty() {
                let number = usize::from(which) % sent.len();
                let (to, proposals, told) = &mut sent[number];
                let group = to[usize::from(what) % to.len()];
                if proposals[group].is_none() {
                    proposals[group] = Some(copy(&mut groups[group].0, number as u64));
                } else if to.iter().all(|&g| proposals[g].is_some()) && !told[group] {
                    told[group] = true;
                    let priority = proposals.iter().flatten().max().copied().unwrap_or(0);
                    prop_assert!(groups[group].0.take_final(id(number as u64), priority));
                }
            }
            for (multis, order) in &mut groups {
                while let Some((id, _)) = multis.deliver_one() {
                    order.push(id.number);
                }
            }
        }
        let mut priorities: Vec<(u64, u64)> = (0u64..)
            .zip(&sent)
            .map(|(number, (_, proposals, _))| (proposals.iter().flatten().max().copied().unwrap_or(0), number))
            .collect();
        priorities.sort_unstable();
        for (group, (multis, order)) in groups.iter().enumerate() {
            let whole = priorities.iter().map(|(_, number)| *number).filter(|&n| sent[n as usize].0.contains(&group));
            prop_assert_eq!(order, &whole.collect::<Vec<u64>>());
            prop_assert!(multis.is_empty());
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn all_groups_deliver_in_one_order(choices in proptest::collection::vec(any::<(u8, u8)>(), 0..400)) {
            one_order(&choices)?;
        }
    }
}
