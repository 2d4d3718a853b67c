//! The total order by a sequencer [BSS91], and how the task of it moves to the busiest sender.
//!
//! The sequencer writes the order into its own stream, as ORDER records. At first it is the oldest member. When another
//! member has sent most of what was ordered lately, the last run of a record is a *handover*: from there on the order
//! is in the stream of that member. So the order is one list still, that goes from stream to stream, and everybody
//! reads it in the same order:
//!
//! ```text
//!   stream of 0   ORDER 1×5 2×1   ORDER 1×7 ▸1
//!   stream of 1                              ORDER 1×3 0×1   ORDER 1×8 2×2 ▸2
//!   stream of 2                                                              ORDER 2×6
//! ```
//! Records that come before the handover to their writer has been read wait for it. Whoever takes over has read all
//! that was ordered before (the handover is behind it), and begins when it has those messages itself. At the cut of a
//! view change all members have the same part of all streams, so they read the same order up to the same handover: what
//! a new sequencer wrote counts if the handover to it is within the cut, and otherwise nobody had read it. A safe
//! message waits until the handovers before it are stable, like the record that orders it. The next view begins with
//! the oldest member again.

use super::priority::Priorities;
use super::{Plane, Run};
use crate::config::Handover;
use crate::event::Kind;
use crate::stream::inbox::{Clock, Inbox, OrderRecord};
use crate::time::{Instant, SECOND};
use isis_wire::frame::{FRAME_HEADER, Runs};
use std::collections::VecDeque;

/// Counts that are older than this count half: who was busy once is not busy.
const FADES_NS: u64 = SECOND;

/// The member that has sent most of what was ordered lately, and much more than the sequencer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which.
    pub rank: usize,
    /// It sent more than all others.
    pub majority: bool,
}

/// Who orders, and whose messages.
#[derive(Debug)]
pub struct Sequencer {
    /// Who writes the next record, as far as the order was read.
    pub rank: usize,
    /// Whose turn it is, as a number: how often the task was handed over in this view, as far as the order was read.
    pub turn: u32,
    /// To whom this member hands it over with its next record.
    pub successor: Option<u16>,
    /// It was handed over, perhaps to this member, which has not found the messages that are ordered yet.
    behind: bool,
    /// The stream in which one is missing, and how many messages of it are here.
    waits_for: Option<(usize, u64)>,
    /// Room for places in the streams.
    found: Vec<u64>,
    /// By stream: runs whose writer's turn has not been read. Each is about ABCASTs that are not delivered here, so there are no
    /// more of them than those, which their senders' windows bound.
    early: Vec<VecDeque<Run>>,
    /// Handovers that are not known stable: the turn that each began, whose stream, the position after the record.
    unstable: Vec<(u32, u16, u64)>,
    /// ABCASTs of each rank that this member ordered since `since`, and all of them.
    ordered: Vec<u64>,
    all: u64,
    since: Instant,
}

impl Sequencer {
    /// Of a new view.
    pub fn new(members: usize) -> Sequencer {
        Sequencer {
            rank: 0,
            turn: 0,
            successor: None,
            behind: false,
            waits_for: None,
            found: Vec::new(),
            early: vec![VecDeque::new(); members],
            unstable: Vec::new(),
            ordered: vec![0; members],
            all: 0,
            since: Instant::ZERO,
        }
    }

    /// A record came in the stream of `rank`.
    pub(super) fn take(&mut self, order: &mut VecDeque<Run>, rank: usize, runs: Runs<'_>, end: u64) {
        let is_due = rank == self.rank || mutant!(OrdersUnasked);
        for (of, count) in runs {
            let run = Run { rank: of, count, holder: rank as u16, end, turn: self.turn };
            if is_due { self.read(order, run) } else { self.early[rank].push_back(run) }
        }
        while let Some(run) = self.early[self.rank].pop_front() {
            self.read(order, Run { turn: self.turn, ..run });
        }
    }

    fn read(&mut self, order: &mut VecDeque<Run>, run: Run) {
        if run.count > 0 {
            return order.push_back(run);
        }
        self.rank = usize::from(run.rank);
        self.turn += 1;
        self.unstable.push((self.turn, run.holder, run.end));
        (self.behind, self.waits_for, self.successor) = (true, None, None);
        self.ordered.fill(0);
        self.all = 0;
    }

    /// Up to where the stream of `rank` may count as consumed: not behind its first early run, which is still kept. So a member
    /// whose orders nobody can read yet gets no new window for messages of its own.
    pub(super) fn reads_up_to(&self, rank: usize) -> u64 {
        self.early[rank].front().map_or(u64::MAX, |run| run.end - FRAME_HEADER as u64)
    }

    /// The handovers up to the one that began this turn are stable.
    pub(super) fn is_stable(&self, turn: u32, stable: &[u64]) -> bool {
        let before = self.unstable.iter().take_while(|(begun, ..)| *begun <= turn);
        mutant!(HandoverUnstable) || before.into_iter().all(|&(_, holder, end)| end <= stable[usize::from(holder)])
    }

    /// Forgets the handovers that have become stable.
    pub(super) fn note_stable(&mut self, stable: &[u64]) {
        self.unstable.retain(|&(_, holder, end)| end > stable[usize::from(holder)]);
    }

    /// When enough was counted: whom to consider as the next sequencer.
    fn candidate(&mut self, me: usize, now: Instant, handover: Handover) -> Option<Candidate> {
        if self.behind || self.all == 0 {
            self.since = now;
            return None;
        }
        let for_ns = now.since(self.since);
        if handover.after == 0 || self.all < u64::from(handover.after) || for_ns < handover.pause_ns {
            if for_ns > FADES_NS.max(handover.pause_ns) {
                self.ordered.iter_mut().for_each(|count| *count /= 2);
                (self.all, self.since) = (self.ordered.iter().sum(), now);
            }
            return None;
        }
        let busiest = (0..self.ordered.len()).max_by_key(|&rank| self.ordered[rank])?;
        let [most, own, all] = [self.ordered[busiest], self.ordered[me], self.all];
        self.ordered.fill(0);
        (self.all, self.since) = (0, now);
        // Members that send alike do not pass it around.
        (most > 2 * own && 4 * most >= all).then_some(Candidate { rank: busiest, majority: 2 * most > all })
    }
}

impl Plane {
    /// This member puts ABCASTs into an order: as the sequencer, or because all do.
    pub(super) fn orders(&self) -> bool {
        self.me == self.sequencer.rank || self.priorities.is_some()
    }

    /// If this member orders, and has counted enough: who might do it from now on, if `successor` is set.
    pub fn candidate(&mut self, now: Instant, handover: Handover) -> Option<Candidate> {
        if self.me != self.sequencer.rank || self.priorities.is_some() || self.frozen || self.hands_over() {
            return None;
        }
        self.sequencer.candidate(self.me, now, handover)
    }

    /// A handover waits for room: nothing comes behind it.
    fn hands_over(&self) -> bool {
        self.unwritten_runs.last().is_some_and(|&(_, count)| count == 0)
    }

    /// This member orders, and there may be messages that are not ordered, or records of them that are not written.
    pub fn has_unordered(&self) -> bool {
        let new = |(considered, inbox): (&u64, &Inbox)| inbox.delivered.max(*considered) < inbox.whole;
        let any = || {
            self.sequencer.behind || !self.unwritten_runs.is_empty() || self.considered.iter().zip(&self.inbox).any(new)
        };
        !self.frozen && self.orders() && any()
    }

    /// What is ordered next, into `unwritten_runs`; and to whom the task moves then.
    pub(super) fn order_next(&mut self) {
        if self.hands_over() {
            return;
        }
        if self.sequencer.behind && self.priorities.is_none() {
            if !self.find_ordered() {
                return;
            }
            self.sequencer.behind = false;
        }
        self.consider();
        if let Some(to) = self.sequencer.successor.take()
            && self.priorities.is_none()
        {
            self.unwritten_runs.push((to, 0));
        }
    }

    /// Of each stream, goes behind the last message that is ordered. `false`: not all of them are here.
    fn find_ordered(&mut self) -> bool {
        if mutant!(HandoverForgets) {
            return true;
        }
        if self.sequencer.waits_for.is_some_and(|(rank, whole)| self.inbox[rank].whole == whole) {
            return false;
        }
        let found = &mut self.sequencer.found;
        found.clear();
        found.resize(self.members, 0);
        for run in &self.order {
            found[usize::from(run.rank)] += u64::from(run.count);
        }
        for (rank, (found, inbox)) in found.iter_mut().zip(&self.inbox).enumerate() {
            let Some(number) = inbox.number_of_total(*found) else {
                self.sequencer.waits_for = Some((rank, inbox.whole));
                return false;
            };
            *found = number;
        }
        self.considered.clone_from(found);
        self.considered_clocks.fill(Clock::default());
        true
    }

    /// Which ABCASTs are ordered next [BSS91]: message k of stream r is considered only when its vector is covered by
    /// what was considered before, so the total order extends the causal order and cannot deadlock with it.
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
        self.sequencer.ordered[rank] += u64::from(more);
        self.sequencer.all += u64::from(more);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MILLISECOND;

    /// Each comparison has its pause, also one that comes after a comparison in which all sent alike.
    #[test]
    fn each_comparison_takes_a_while() {
        let mut sequencer = Sequencer::new(3);
        let mut at = |ms: u64, ordered: [u64; 3]| {
            sequencer.ordered.iter_mut().zip(ordered).for_each(|(sum, more)| *sum += more);
            sequencer.all += ordered.iter().sum::<u64>();
            sequencer.candidate(0, Instant(ms * MILLISECOND), Handover { after: 4, pause_ns: 20 * MILLISECOND })
        };
        assert_eq!(at(0, [0, 0, 0]), None);
        assert_eq!(at(20, [5, 5, 5]), None, "alike");
        assert_eq!(at(24, [0, 4, 0]), None, "enough of one, but soon after");
        assert_eq!(at(39, [0, 0, 0]), None);
        assert_eq!(at(40, [0, 0, 0]), Some(Candidate { rank: 1, majority: true }));
        assert_eq!(at(70, [0, 0, 0]), None, "what was compared is forgotten");
    }
}
