//! The data plane of one view without any I/O: streams written, carried over, parsed, put into order, delivered, consumed
//! and given back, at all members. For the criterion benches and for counting instructions.
//!
//! [`World`] runs the same instructions each time: no clock, no randomness, no address in a decision.

use isis_memory::Region;
use isis_protocol::plane::Plane;
use isis_protocol::stream::image::Source;
use isis_protocol::{Kind, SendOptions, TotalOrder};

/// The window of each member's stream: as large as any batch here needs.
const WINDOW: usize = 16 << 20;
/// Rounds after which a batch must be delivered: sent, ordered, known to be everywhere, with some to spare.
const ROUNDS: usize = 8;

/// A view whose members' bytes are copied from hand to hand.
#[derive(Debug)]
pub struct World {
    planes: Vec<Plane>,
    regions: Vec<Region>,
    sent: Vec<u64>,
}

impl World {
    /// A view of so many members.
    pub fn new(members: usize, total_order: TotalOrder) -> World {
        World {
            planes: (0..members).map(|me| Plane::new(me, members, WINDOW, total_order)).collect(),
            regions: (0..members).map(|_| Region::mapped(4096).expect("addresses")).collect(),
            sent: vec![0; members],
        }
    }

    /// Appends a message to the stream of a member, in fragments of at most `fragment` bytes.
    ///
    /// # Panics
    /// If its window is full.
    pub fn send(&mut self, rank: usize, kind: Kind, safe: bool, message: &[u8], fragment: usize) {
        let options = SendOptions { kind, safe, entry: 1 };
        let count = message.len().div_ceil(fragment).max(1);
        for (index, part) in message.chunks(fragment).enumerate() {
            let (begin, end) = (index == 0, index + 1 == count);
            let appended = self.planes[rank].append_fragment(&mut self.regions[rank], options, part, begin, end);
            assert!(appended.is_some(), "no room for a message of member {rank}");
        }
    }

    /// Publishes all streams and carries them to all, with the rows that tell who has what, until so many messages were
    /// delivered, counted over all members.
    ///
    /// # Panics
    /// If they are not delivered within a few rounds, or more are.
    pub fn exchange(&mut self, expected: usize) {
        let mut delivered = 0;
        for _ in 0..ROUNDS {
            self.carry();
            delivered += self.deliver();
            self.tell();
            if delivered >= expected {
                break;
            }
        }
        assert_eq!(delivered, expected, "all deliver all");
    }

    fn carry(&mut self) {
        let members = self.planes.len();
        for from in 0..members {
            self.planes[from].publish(&mut self.regions[from]);
            let end = self.planes[from].log.published;
            while self.sent[from] < end {
                let bytes = self.planes[from].bytes(&self.regions[from], from, self.sent[from], end).to_vec();
                for to in (0..members).filter(|&to| to != from) {
                    self.planes[to].receive(
                        &mut self.regions[to],
                        from,
                        self.sent[from],
                        Source::Bytes(&bytes),
                        1 << 24,
                    );
                }
                self.sent[from] += bytes.len() as u64;
            }
        }
    }

    fn deliver(&mut self) -> usize {
        let mut delivered = 0;
        for (plane, region) in self.planes.iter_mut().zip(&self.regions) {
            while let Some((rank, mut batch, _)) = plane.deliver_some(region, u32::MAX) {
                while batch.count > 0 {
                    let message = batch.take(region);
                    plane.consume(rank, 1, message.end);
                    delivered += 1;
                }
            }
        }
        delivered
    }

    fn tell(&mut self) {
        let members = self.planes.len();
        for from in 0..members {
            self.planes[from].refresh_row();
            let row = self.planes[from].rows[from].clone();
            for to in (0..members).filter(|&to| to != from) {
                self.planes[to].rows[from] = row.clone();
                self.planes[to].rows_changed = true;
            }
        }
        for (plane, region) in self.planes.iter_mut().zip(&mut self.regions) {
            plane.update_stability();
            plane.release(region);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_delivers_all_at_all_members() {
        let mut tried = 0;
        for (kind, safe) in [(Kind::Fifo, false), (Kind::Causal, false), (Kind::Total, false), (Kind::Total, true)] {
            for total_order in [TotalOrder::Sequencer, TotalOrder::Priority] {
                let mut world = World::new(3, total_order);
                for _ in 0..3 {
                    for rank in 0..3 {
                        world.send(rank, kind, safe, &[7; 100], 64);
                    }
                    world.exchange(9);
                    tried += 1;
                }
            }
        }
        assert_eq!(tried, 24);
    }
}
