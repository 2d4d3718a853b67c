//! What can be delivered, in which order; and the cut of a view change.
//!
//! While the view lasts: per-sender FIFO across all kinds; a CBCAST when its vector is covered; an ABCAST when it is also
//! the next in the total order; a safe message when it, its context, all that its vector covers, the records that order it
//! and every ABCAST before it are stable.
//!
//! At the cut (PROTOCOL in `docs/protocol.md`, "View change"): the same to a fixpoint, then one *leftover* ABCAST that no
//! order record covers, and again; then GBCAST payloads. Messages whose causal predecessor died with its sender are
//! discarded with the rest of that stream, the same ones everywhere.

use super::Plane;
use crate::event::Kind;
use crate::stream::Batch;
use crate::stream::inbox::Carries;
use isis_memory::Region;

impl Plane {
    /// Messages are here that are not delivered.
    #[inline]
    pub fn has_queued(&self) -> bool {
        self.inbox.iter().any(|inbox| !inbox.queue.is_empty())
    }

    /// The next messages to deliver, all of one batch, at most `most` of them: rank of their sender, the messages, the place of
    /// the first one in the total order (0: none).
    #[inline]
    pub fn deliver_some(&mut self, region: &Region, most: u32) -> Option<(usize, Batch, u64)> {
        if self.frozen {
            return None;
        }
        if mutant!(GlobalTooSoon)
            && self.finishing
            && let Some(rank) = (0..self.members).find(|&rank| self.head_is(rank, Kind::Global))
        {
            return self.inbox[rank].pop(region, 1).map(|batch| (rank, batch, 0));
        }
        if let Some(rank) = self.next_total()
            && self.head_is(rank, Kind::Total)
            && self.covered(rank)
            && let Some(safe) = self.safe_enough(rank)
        {
            return self.pop_total(region, rank, most.min(safe), true);
        }
        if mutant!(TotalUnordered) || mutant!(TotalAsFifo) {
            self.order.clear();
        }
        let mut after = self.cursor;
        for _ in 0..self.members {
            let rank = after;
            after = if rank + 1 < self.members { rank + 1 } else { 0 };
            let as_it_comes = mutant!(TotalAsFifo) || (mutant!(TotalUnordered) && self.covered(rank));
            if as_it_comes && self.head_is(rank, Kind::Total) {
                return self.pop_total(region, rank, 1, false);
            }
            let Some(head) = self.inbox[rank].head() else { continue };
            if matches!(head.kind, Kind::Fifo | Kind::Causal)
                && self.covered(rank)
                && let Some(safe) = self.safe_enough(rank)
            {
                self.cursor = rank;
                return self.inbox[rank].pop(region, most.min(safe)).map(|batch| (rank, batch, 0));
            }
        }
        if self.finishing { self.deliver_leftover(region) } else { None }
    }

    fn deliver_leftover(&mut self, region: &Region) -> Option<(usize, Batch, u64)> {
        debug_assert!(self.order.is_empty(), "every order entry left after the cut can be delivered");
        for rank in 0..self.members {
            if self.head_is(rank, Kind::Total) && self.covered(rank) {
                return self.pop_total(region, rank, 1, false);
            }
        }
        for rank in 0..self.members {
            if self.head_is(rank, Kind::Global) {
                return self.inbox[rank].pop(region, 1).map(|batch| (rank, batch, 0));
            }
        }
        None
    }

    fn head_is(&self, rank: usize, kind: Kind) -> bool {
        self.inbox[rank].head().is_some_and(|head| head.kind == kind)
    }

    fn pop_total(&mut self, region: &Region, rank: usize, most: u32, ordered: bool) -> Option<(usize, Batch, u64)> {
        let most = match self.order.front() {
            Some(run) if ordered && self.priorities.is_none() => most.min(run.count),
            _ => 1,
        };
        let batch = self.inbox[rank].pop(region, most)?;
        if let Some(priorities) = &mut self.priorities {
            priorities.taken(rank);
        } else if ordered {
            let run = self.order.front_mut()?;
            run.count -= batch.count;
            if run.count == 0 {
                self.order.pop_front();
            }
        }
        let first = self.order_number + 1;
        self.order_number += u64::from(batch.count);
        self.last_total[rank] = batch.last();
        Some((rank, batch, first))
    }

    #[inline]
    fn covered(&mut self, rank: usize) -> bool {
        if mutant!(CausalUncovered) {
            return true;
        }
        // The vector of delivered counts, without the borrow of the inbox at hand.
        if self.inbox[rank].clock.covered
            && self.inbox[rank].head().is_some_and(|head| head.context <= self.inbox[rank].clock.applied)
        {
            return true;
        }
        let (before, rest) = self.inbox.split_at_mut(rank);
        let Some((inbox, after)) = rest.split_first_mut() else { return false };
        inbox.head_covered(rank, |r| if r < rank { before[r].delivered } else { after[r - rank - 1].delivered })
    }

    /// How many messages of the head batch of `rank`, which is covered, meet the safety condition; `None`: not even the first.
    fn safe_enough(&self, rank: usize) -> Option<u32> {
        let inbox = &self.inbox[rank];
        let batch = inbox.queue.front()?;
        let traits = batch.traits;
        let safe = traits.safe || (self.finals_are_safe && traits.carries == Some(Carries::Final));
        if !safe || self.finishing || mutant!(SafeUnstable) {
            return Some(u32::MAX);
        }
        let stable = (inbox.stable_messages + 1).checked_sub(batch.number + u64::from(mutant!(SafeByOne)))?;
        let stable = u32::try_from(stable).unwrap_or(u32::MAX);
        if stable == 0 {
            return None;
        }
        // An FBCAST has no vector, but follows those of its stream that have one: were they lost with what they cover, so would
        // it be. The clock is that of the last such message.
        let clock = &inbox.clock;
        if clock.end > self.stable[rank]
            || clock.vector.iter().enumerate().any(|(r, &value)| r != rank && self.inbox[r].stable_messages < value)
        {
            return None;
        }
        // The ABCASTs before the second one of a batch are those before the first, and the first.
        let before = || self.last_total.iter().zip(&self.inbox).all(|(&number, it)| it.stable_messages >= number);
        if traits.kind == Kind::Total && !(self.order_is_stable(rank) && before()) {
            return None;
        }
        Some(stable)
    }

    /// The view is decided to end at `cut`; everything up to it is here. Afterwards `deliver_some` yields all that is
    /// still to be delivered in this view.
    pub fn finish(&mut self, region: &Region, cut: &[u64]) {
        self.frozen = false;
        for (rank, &limit) in cut.iter().enumerate() {
            if rank != self.me {
                self.parse(region, rank, limit);
            }
        }
        self.finishing = true;
        let limits = self.deliverable_limits();
        let mut totals = vec![0u32; self.members];
        for (rank, inbox) in self.inbox.iter_mut().enumerate() {
            if mutant!(UnfinishedHidesControl) && inbox.is_unfinished() {
                self.order.retain(|run| usize::from(run.holder) != rank);
            }
            inbox.drop_unfinished();
            inbox.truncate(limits[rank]);
            totals[rank] = inbox.queue.iter().filter(|it| it.traits.kind == Kind::Total).map(|it| it.count).sum();
        }
        // R7: order entries that name messages beyond the cut or discarded ones are void.
        self.order.retain_mut(|run| {
            let left = &mut totals[usize::from(run.rank)];
            run.count = run.count.min(*left);
            *left -= run.count;
            run.count > 0
        });
        if let Some(priorities) = &mut self.priorities {
            priorities.finish(totals);
        }
    }

    /// Per stream, the number of the last message that every survivor can deliver: a message goes, with all behind it,
    /// when its context lies beyond the cut or its vector names a message that is not among the deliverable ones.
    fn deliverable_limits(&self) -> Vec<u64> {
        let vectors: Vec<Vec<Option<Vec<u64>>>> = self.inbox.iter().map(|inbox| inbox.vectors()).collect();
        let mut limits: Vec<u64> = self.inbox.iter().map(|inbox| inbox.whole).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for rank in 0..self.members {
                let inbox = &self.inbox[rank];
                for (index, batch) in inbox.queue.iter().enumerate() {
                    if batch.number > limits[rank] {
                        break;
                    }
                    let fits = batch.traits.kind == Kind::Fifo
                        || vectors[rank][index].as_ref().is_some_and(|vector| {
                            vector.iter().enumerate().all(|(r, &value)| r == rank || value <= limits[r])
                        });
                    if !fits {
                        limits[rank] = batch.number - 1;
                        changed = true;
                        break;
                    }
                }
            }
        }
        limits
    }
}
