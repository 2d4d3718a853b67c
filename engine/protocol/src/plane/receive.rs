//! Bytes and rows that come in: images, gaps, stability, and giving chunks back.

use super::Plane;
use super::sequencer::take_order;
use crate::stream::goes_on;
use crate::stream::image::{Inserted, Source};
use crate::time::Instant;
use isis_memory::{ChunkIndex, Region};
use isis_wire::DecodeError;
use isis_wire::digest::Digest;

impl Plane {
    /// Bytes of the stream of `rank`. While frozen they are stored, not parsed (R5).
    pub fn receive(
        &mut self,
        region: &mut Region,
        rank: usize,
        position: u64,
        data: Source<'_>,
        reach: u64,
    ) -> Inserted {
        if rank == self.me {
            return Inserted::Duplicate;
        }
        let image = &mut self.images[rank];
        image.goes_on = goes_on(self.inbox[rank].crossed, position);
        let inserted = image.insert(region, position, data, reach);
        if inserted == Inserted::New && !self.frozen {
            self.parse(region, rank, u64::MAX);
        }
        if mutant!(FrozenRowMoves) {
            self.refresh_row();
        }
        inserted
    }

    /// Parses what is contiguous of the stream of `rank`, up to `limit`.
    pub(super) fn parse(&mut self, region: &Region, rank: usize, limit: u64) {
        let (order, sequencer, priorities) = (&mut self.order, &mut self.sequencer, &mut self.priorities);
        let image = &self.images[rank];
        let turn = sequencer.turn;
        self.inbox[rank].parse(
            region,
            &image.chunks,
            image.contiguous.min(limit),
            self.max_message,
            &mut |record, end| take_order(order, sequencer, priorities, rank, record, end),
        );
        if self.sequencer.turn == turn {
            self.note_parsed(rank);
        } else {
            // What waited for this turn is read now.
            (0..self.members).for_each(|rank| self.note_parsed(rank));
        }
        self.refresh_row();
    }

    /// Control records and fragments at the front are consumed as soon as they are parsed.
    pub(super) fn note_parsed(&mut self, rank: usize) {
        if self.inbox[rank].whole == self.consumed_messages[rank] {
            let parsed = self.inbox[rank].parsed.min(self.sequencer.reads_up_to(rank));
            let consumed = &mut self.rows[self.me].consumed[rank];
            if !self.frozen && parsed > *consumed {
                *consumed = parsed;
                self.rows_changed = true;
            }
        }
    }

    /// The application is done with the next `count` messages of `rank`, the last of which ends at `end`.
    pub fn consume(&mut self, rank: usize, count: u32, end: u64) {
        let mut end = end;
        self.consumed_messages[rank] += u64::from(count);
        while let Some((_, skipped)) =
            self.skipped[rank].pop_front_if(|(number, _)| *number <= self.consumed_messages[rank] + 1)
        {
            self.consumed_messages[rank] += 1;
            end = end.max(skipped);
        }
        let all = self.inbox[rank].whole == self.consumed_messages[rank];
        let parsed = self.inbox[rank].parsed;
        let consumed = if all { parsed } else { end.min(parsed) }.min(self.sequencer.reads_up_to(rank));
        let row = &mut self.rows[self.me];
        row.consumed[rank] = row.consumed[rank].max(consumed);
        self.rows_changed = true;
    }

    /// The application is not told of the message of `rank` with this number: it counts as consumed when those before are.
    pub fn skip(&mut self, rank: usize, number: u64, end: u64) {
        if self.consumed_messages[rank] + 1 == number {
            self.consume(rank, 1, end);
        } else {
            self.skipped[rank].push_back((number, end));
        }
    }

    /// Messages delivered or queued that the application is not done with.
    pub fn unconsumed(&self) -> u64 {
        self.inbox.iter().zip(&self.consumed_messages).map(|(inbox, &consumed)| inbox.delivered - consumed).sum()
    }

    /// Brings the own row up to date, unless frozen.
    pub fn refresh_row(&mut self) {
        if self.frozen && !mutant!(FrozenRowMoves) {
            return;
        }
        let row = &mut self.rows[self.me];
        for rank in 0..self.members {
            row.received[rank] =
                if rank == self.me { self.log.published } else { self.images[rank].contiguous.max(row.received[rank]) };
        }
        self.rows_changed = true;
    }

    /// Another member's row came.
    pub fn receive_row(&mut self, rank: usize, bytes: &[u8]) -> Result<(), DecodeError> {
        if self.rows[rank].merge(bytes)? {
            self.rows_changed = true;
            let end = if mutant!(TailUnseen) { 0 } else { self.rows[rank].end };
            let image = &mut self.images[rank];
            image.known_end = image.known_end.max(end);
        }
        self.shown[rank] = true;
        Ok(())
    }

    /// A digest of the member `sender` came. Whether it brought anything new.
    pub fn receive_digest(&mut self, now: Instant, sender: usize, digest: &Digest) -> bool {
        let mut news = false;
        for (rank, entry) in (usize::from(digest.first)..).zip(&digest.entries) {
            let image = &mut self.images[rank];
            let end = if mutant!(TailUnseen) { 0 } else { entry.end };
            if rank != self.me && end > image.known_end {
                image.known_end = end;
                news = true;
            }
            if digest.level == 0 {
                // It is the sender's row.
                let row = &mut self.rows[sender];
                row.received[rank] = row.received[rank].max(entry.received);
                row.consumed[rank] = row.consumed[rank].max(entry.consumed);
                row.delivered[rank] = row.delivered[rank].max(entry.delivered);
            }
        }
        if let Some(gossip) = &mut self.gossip {
            news |= gossip.merge(now, sender, digest);
        }
        self.rows_changed |= news || digest.level == 0;
        news
    }

    /// Recomputes stability from the rows. Returns whether it grew.
    pub fn update_stability(&mut self) -> bool {
        if !self.rows_changed {
            return false;
        }
        self.rows_changed = false;
        let mut grew = false;
        if let Some(gossip) = &mut self.gossip {
            gossip.settle(&self.rows[self.me]);
        }
        let at_one = mutant!(StableAtOne);
        for (rank, (before, inbox)) in self.stable.iter_mut().zip(&mut self.inbox).enumerate() {
            let floor = self.gossip.as_ref().map_or(0, |gossip| gossip.floor[rank].received);
            let received = self.rows.iter().map(|row| row.received[rank]);
            let stable = if at_one { received.max() } else { received.min() }.unwrap_or(0);
            let stable = stable.max(floor);
            if stable > *before {
                *before = stable;
                inbox.note_stable(stable);
                grew = true;
            }
        }
        if grew {
            self.sequencer.note_stable(&self.stable);
        }
        grew
    }

    /// Gives back chunks that are stable at all and consumed here.
    pub fn release(&mut self, region: &mut Region) {
        for rank in 0..self.members {
            let done = self.stable[rank].min(self.rows[self.me].consumed[rank]).min(self.inbox[rank].parsed);
            let claim = &mut self.claim;
            let chunks = if rank == self.me { &mut self.log.chunks } else { &mut self.images[rank].chunks };
            chunks.release_before(done, |chunk| give_back(region, claim, chunk));
        }
    }

    /// Gives back everything (the view is over and answered for).
    pub fn release_all(&mut self, region: &mut Region) {
        let claim = &mut self.claim;
        self.log.chunks.release_all(|chunk| give_back(region, claim, chunk));
        for image in &mut self.images {
            image.chunks.release_all(|chunk| region.give_back(chunk));
        }
    }

    /// Bytes of a stream for repair, from `position` to `end` at most, and in one piece; empty if they are not here.
    pub fn bytes<'a>(&self, region: &'a Region, rank: usize, position: u64, end: u64) -> &'a [u8] {
        let (chunks, here) = if rank == self.me {
            (&self.log.chunks, self.log.published)
        } else {
            (&self.images[rank].chunks, self.images[rank].contiguous)
        };
        if position >= here { &[] } else { chunks.slice(region, position, end.min(here)) }
    }

    /// Up to which frame border this process has each stream: what a PROMISE reports.
    pub fn borders(&self) -> Vec<u64> {
        self.inbox.iter().map(|inbox| inbox.parsed).collect()
    }

    /// Everything up to `cut` is here.
    pub fn has_all(&self, cut: &[u64]) -> bool {
        (0..self.members).all(|rank| {
            let here = if rank == self.me { self.log.published } else { self.images[rank].contiguous };
            here >= cut[rank] || mutant!(GoesOnWithout)
        })
    }
}

fn give_back(region: &mut Region, claim: &mut Option<super::Claim>, chunk: ChunkIndex) {
    match claim {
        Some(claim) if claim.chunk == chunk => claim.owns_chunk = true,
        _ => region.give_back(chunk),
    }
}
