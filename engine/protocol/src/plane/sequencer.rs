//! The total order by a sequencer [BSS91], and how the task of it moves to the busiest sender.
//!
//! The sequencer writes the order into its own stream, as ORDER records. At first it is the oldest member. When another member
//! has sent most of what was ordered lately, the last run of a record is a *handover*: from there on the order is in the stream of
//! that member. So the order is one list still, that goes from stream to stream, and everybody reads it in the same order:
//!
//! ```text
//!   stream of 0   ORDER 1×5 2×1   ORDER 1×7 ▸1
//!   stream of 1                              ORDER 1×3 0×1   ORDER 1×8 2×2 ▸2
//!   stream of 2                                                              ORDER 2×6
//! ```
//! Records that come before the handover to their writer has been read wait for it. Whoever takes over has read all that was ordered before
//! (the handover is behind it), and begins when it has those messages itself. At the cut of a view change all members have the same
//! part of all streams, so they read the same order up to the same handover: what a new sequencer wrote counts if the handover to
//! it is within the cut, and otherwise nobody had read it. A safe message waits until the handovers before it are stable, like
//! the record that orders it. The next view begins with the oldest member again.

use super::priority::Priorities;
use super::{Plane, Run};
use crate::config::Handover;
use crate::event::Kind;
use crate::stream::inbox::{Clock, OrderRecord};
use crate::time::Instant;
use isis_wire::frame::Runs;
use std::collections::VecDeque;

/// A record whose writer's turn has not been read: its runs, and the position after it.
type Early = (Vec<(u16, u32)>, u64);

/// Who orders, and whose messages.
#[derive(Debug)]
pub struct Sequencer {
    /// Who writes the next record, as far as the order was read.
    pub rank: usize,
    /// Tasks handed over in this view, as far as the order was read.
    pub handovers: u64,
    /// It was handed over, perhaps to this member, which has not found the messages that are ordered yet.
    behind: bool,
    early: Vec<VecDeque<Early>>,
    /// Handovers that are not known stable: whose stream, the position after the record.
    unstable: Vec<(u16, u64)>,
    /// ABCASTs of each rank that this member ordered since `since`.
    ordered: Vec<u32>,
    since: Instant,
}

impl Sequencer {
    /// Of a new view.
    pub fn new(members: usize) -> Sequencer {
        Sequencer {
            rank: 0,
            handovers: 0,
            behind: false,
            early: vec![VecDeque::new(); members],
            unstable: Vec::new(),
            ordered: vec![0; members],
            since: Instant::ZERO,
        }
    }

    /// A record came in the stream of `rank`.
    pub(super) fn take(&mut self, order: &mut VecDeque<Run>, rank: usize, runs: Runs<'_>, end: u64) {
        if rank != self.rank && !mutant!(OrdersUnasked) {
            self.early[rank].push_back((runs.collect(), end));
            return;
        }
        self.read(order, rank, runs, end);
        while let Some((runs, end)) = self.early[self.rank].pop_front() {
            self.read(order, self.rank, runs.into_iter(), end);
        }
    }

    fn read(&mut self, order: &mut VecDeque<Run>, holder: usize, runs: impl Iterator<Item = (u16, u32)>, end: u64) {
        for (rank, count) in runs {
            if count == 0 {
                self.rank = usize::from(rank);
                self.handovers += 1;
                self.behind = true;
                self.unstable.push((holder as u16, end));
                return;
            }
            order.push_back(Run { rank, count, holder: holder as u16, end });
        }
    }

    /// The handovers that were read are stable.
    pub(super) fn is_stable(&self, stable: &[u64]) -> bool {
        mutant!(HandoverUnstable) || self.unstable.iter().all(|&(holder, end)| end <= stable[usize::from(holder)])
    }

    /// Forgets the handovers that have become stable.
    pub(super) fn note_stable(&mut self, stable: &[u64]) {
        self.unstable.retain(|&(holder, end)| end > stable[usize::from(holder)]);
    }

    /// The busiest sender, if it should do the ordering from now on instead of `me`.
    fn successor(&mut self, me: usize, now: Instant, handover: Handover) -> Option<u16> {
        let all: u32 = self.ordered.iter().fold(0, |all, count| all.saturating_add(*count));
        if handover.after == 0 || all < handover.after || now.since(self.since) < handover.pause_ns {
            return None;
        }
        let busiest = (0..self.ordered.len()).max_by_key(|&rank| self.ordered[rank])?;
        let (most, own) = (u64::from(self.ordered[busiest]), u64::from(self.ordered[me]));
        self.ordered.fill(0);
        self.since = now;
        // Members that send alike do not pass it around.
        (most > 2 * own && 4 * most >= u64::from(all)).then_some(busiest as u16)
    }
}

impl Plane {
    /// This member puts ABCASTs into an order: as the sequencer, or because all do.
    pub(super) fn orders(&self) -> bool {
        self.me == self.sequencer.rank || self.priorities.is_some()
    }

    /// What is ordered next, into `unwritten_runs`; and whether the task moves.
    pub(super) fn order_next(&mut self, now: Instant, handover: Handover) {
        // Nothing comes behind a handover that waits for room.
        if self.unwritten_runs.last().is_some_and(|&(_, count)| count == 0) {
            return;
        }
        if self.sequencer.behind && self.priorities.is_none() {
            if !self.find_ordered() {
                return;
            }
            self.sequencer.behind = false;
            self.sequencer.ordered.fill(0);
            self.sequencer.since = now;
        }
        self.consider();
        if self.priorities.is_none()
            && let Some(to) = self.sequencer.successor(self.me, now, handover)
        {
            self.unwritten_runs.push((to, 0));
        }
    }

    /// Of each stream, goes behind the last message that is ordered. `false`: not all of them are here.
    fn find_ordered(&mut self) -> bool {
        if mutant!(HandoverForgets) {
            return true;
        }
        let mut found = vec![0; self.members];
        for (rank, inbox) in self.inbox.iter().enumerate() {
            let ordered = self.order.iter().filter(|run| usize::from(run.rank) == rank).map(|run| u64::from(run.count));
            let Some(number) = inbox.number_of_total(ordered.sum()) else { return false };
            found[rank] = number;
        }
        self.considered = found;
        self.considered_clocks.fill(Clock::default());
        true
    }

    /// Which ABCASTs are ordered next [BSS91]: message k of stream r is considered only when its vector is covered by what was
    /// considered before, so the total order extends the causal order and cannot deadlock with it.
    fn consider(&mut self) {
        let mut progress = false;
        for (considered, inbox) in self.considered.iter_mut().zip(&self.inbox) {
            *considered = inbox.delivered.max(*considered);
            progress |= *considered < inbox.whole;
        }
        while progress {
            progress = false;
            for rank in 0..self.members {
                while self.considered[rank] < self.inbox[rank].whole {
                    let number = self.considered[rank] + 1;
                    let inbox = &self.inbox[rank];
                    // What is so of one message is so of the rest of its batch.
                    let Some(batch) = inbox.batch_of(number) else { break };
                    let (kind, last) = (batch.traits.kind, batch.last());
                    if kind != Kind::Fifo {
                        let considered = &self.considered;
                        let Some(clock) = inbox.clock_of(&mut self.considered_clocks[rank], number) else { break };
                        if !clock.covered {
                            clock.covered =
                                clock.vector.iter().enumerate().all(|(r, &v)| r == rank || considered[r] >= v);
                        }
                        if !clock.covered {
                            break;
                        }
                    }
                    self.considered[rank] = last;
                    progress = true;
                    if kind == Kind::Total {
                        self.add_run(rank, (last + 1 - number) as u32);
                    }
                }
            }
        }
    }

    /// The next `more` ABCASTs of `rank` are next in the order.
    fn add_run(&mut self, rank: usize, more: u32) {
        let ordered = &mut self.sequencer.ordered[rank];
        *ordered = ordered.saturating_add(more);
        match self.unwritten_runs.last_mut() {
            Some((before, count)) if usize::from(*before) == rank && *count <= u32::MAX - more => *count += more,
            _ => self.unwritten_runs.push((rank as u16, more)),
        }
    }
}

/// A record about the total order came in the stream of `rank`. One of the scheme that the group has not chosen means nothing.
pub(super) fn take_order(
    order: &mut VecDeque<Run>,
    sequencer: &mut Sequencer,
    priorities: &mut Option<Priorities>,
    rank: usize,
    record: OrderRecord<'_>,
    end: u64,
) {
    match (record, priorities) {
        (OrderRecord::Places(runs), None) => sequencer.take(order, rank, runs, end),
        (OrderRecord::Proposals(first, runs), Some(priorities)) => priorities.take(rank, first, runs, end),
        _ => {}
    }
}
