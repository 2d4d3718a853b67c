//! What a member knows of the load: who is how far, in which order. It is also the group's state.

use super::u64_at;
use isis_protocol::View;
use std::collections::BTreeMap;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Messages delivered, ever.
    pub count: u64,
    /// Over all deliveries, in their order.
    pub digest: u64,
    pub own_rank: usize,
    ordered: bool,
    ballast: usize,
    /// Last number of each process.
    last: BTreeMap<u64, u64>,
    /// The members of the view by rank: process, last number, deliveries in this view.
    ranks: Vec<(u64, u64, u32)>,
    order: u64,
    /// The number of the view.
    view: u32,
}

impl Ledger {
    pub fn new(ordered: bool, ballast: usize) -> Ledger {
        Ledger { ordered, ballast, ..Ledger::default() }
    }

    fn fold(&mut self) {
        for (process, last, _) in &self.ranks {
            self.last.insert(*process, *last);
        }
    }

    pub fn view(&mut self, view: &View, rank: u16) {
        self.fold();
        self.own_rank = usize::from(rank);
        self.order = 0;
        self.view = view.number as u32;
        self.ranks = view
            .members
            .iter()
            .map(|member| (member.process.0, self.last.get(&member.process.0).copied().unwrap_or(0), 0))
            .collect();
    }

    #[inline]
    pub fn deliver(&mut self, rank: usize, number: u64, order: u64) -> Result<(), String> {
        let own = self.own_rank;
        let Some((process, last, here)) = self.ranks.get_mut(rank) else {
            return Err(format!("a message of rank {rank}, which is not in the view of rank {own}"));
        };
        if number != *last + 1 {
            return Err(format!("message {number} of rank {rank} came after its {last}"));
        }
        *last = number;
        *here += 1;
        self.count += 1;
        if self.ordered {
            if order != self.order + 1 {
                return Err(format!("place {order} in the total order came after {}", self.order));
            }
            self.order = order;
            self.digest = (self.digest ^ *process ^ number.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.digest ^= self.digest >> 29;
        }
        Ok(())
    }

    /// The view's number, and how many messages of each rank were delivered here in it, as far as it fits.
    pub fn write_vector(&self, out: &mut [u8]) {
        let counts = self.ranks.iter().map(|(_, _, here)| *here);
        for (slot, value) in out.chunks_exact_mut(4).zip(std::iter::once(self.view).chain(counts)) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Everything that the sender had delivered is delivered here.
    pub fn check_vector(&self, sender: usize, vector: &[u8]) -> Result<(), String> {
        let mut slots = vector.chunks_exact(4);
        // Written before the view changed: says nothing about this view.
        if slots.next().is_none_or(|slot| slot != self.view.to_le_bytes()) {
            return Ok(());
        }
        for (rank, (slot, (_, _, here))) in slots.zip(&self.ranks).enumerate() {
            let wanted = u32::from_le_bytes(slot.try_into().unwrap_or_default());
            if rank != sender && wanted > *here {
                return Err(format!(
                    "a message of rank {sender} follows message {wanted} of rank {rank}, but came after {here}"
                ));
            }
        }
        Ok(())
    }

    /// How many messages of this rank were delivered, ever.
    pub fn of_rank(&self, rank: usize) -> u64 {
        self.ranks.get(rank).map_or(0, |(_, last, _)| *last)
    }

    /// The fewest messages of any other member that were delivered.
    pub fn least_of_others(&self) -> u64 {
        let others = self.ranks.iter().enumerate().filter(|(rank, _)| *rank != self.own_rank);
        others.map(|(_, (_, last, _))| *last).min().unwrap_or(0)
    }

    /// Whether all these were delivered.
    pub fn has(&mut self, wanted: &BTreeMap<u64, u64>) -> bool {
        self.fold();
        wanted.iter().all(|(process, count)| self.last.get(process).copied().unwrap_or(0) >= *count)
    }

    pub fn snapshot(&mut self) -> Vec<u8> {
        self.fold();
        let mut bytes = Vec::with_capacity(24 + 16 * self.last.len() + self.ballast);
        for value in [self.count, self.digest, self.last.len() as u64] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        for (process, last) in &self.last {
            bytes.extend_from_slice(&process.to_le_bytes());
            bytes.extend_from_slice(&last.to_le_bytes());
        }
        bytes.extend((0..self.ballast).map(|at| at as u8));
        bytes
    }

    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        let entries = u64_at(bytes, 16) as usize;
        let head = entries.saturating_mul(16).saturating_add(24);
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() != head.saturating_add(self.ballast)
            || bytes[head..].iter().enumerate().any(|(at, byte)| *byte != at as u8)
        {
            return Err(format!("a state of {} bytes came damaged", bytes.len()));
        }
        self.count = u64_at(bytes, 0);
        self.digest = u64_at(bytes, 8);
        self.last = (0..entries).map(|i| (u64_at(bytes, 24 + 16 * i), u64_at(bytes, 32 + 16 * i))).collect();
        self.ranks.clear();
        Ok(())
    }
}
