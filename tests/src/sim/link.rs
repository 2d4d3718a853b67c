//! What a link does to the packets that take it: loss, bursts, duplication, reordering, damage, delay.
//!
//! Owner: the network keeps one [`Link`] for all ways within sites and one for those between sites, and a [`Way`] for each
//! pair of slots. Invariants: each way draws from a generator of its own, so that what one way carries does not change what
//! becomes of another one's packets; a packet that nothing happens to is not copied.

use isis_protocol::random::Random;
use isis_wire::packet::PacketKind;
use std::rc::Rc;

/// One in a million.
pub const MILLION: u64 = 1_000_000;

/// What the links of one sort (within a site, or between sites) do to packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Lost, per million.
    pub loss: u64,
    /// Begins a burst of losses, per million.
    pub burst: u64,
    /// The most packets of a way that are lost in one burst.
    pub burst_len: u64,
    /// Kinds of packets that are never lost: bit k for the kind whose number is k. So a run can lose nothing but rows, or
    /// nothing but protocol messages.
    pub spared: u16,
    /// Arrives twice, per million.
    pub duplicate: u64,
    /// Arrives late, behind later ones, per million.
    pub reorder: u64,
    /// Arrives with some bits flipped, per million.
    pub flip: u64,
    /// Arrives cut short, per million.
    pub truncate: u64,
    /// The least time under way.
    pub delay_ns: u64,
    /// Up to so much more.
    pub jitter_ns: u64,
}

/// All kinds of packets but this one, for [`Link::spared`]. Digests are the rows of large views.
pub fn all_but(kind: PacketKind) -> u16 {
    let rows = if kind == PacketKind::Row { 1 << PacketKind::Digest as u8 } else { 0 };
    !(rows | 1 << kind as u8)
}

/// The way from one slot to another.
#[derive(Debug)]
pub struct Way {
    /// The last arrival: without reordering, packets stay in order.
    pub last: u64,
    /// Nothing arrives before this time: what is sent is held until then.
    pub clogged_until: u64,
    burst_left: u64,
    random: Random,
}

/// What becomes of a packet.
#[derive(Debug)]
pub enum Passage {
    /// It is lost.
    Lost,
    /// It arrives after the delay; the copy after its own.
    Arrives {
        /// After so long.
        delay_ns: u64,
        /// It may overtake and be overtaken.
        reordered: bool,
        /// A second copy after so long.
        copy_ns: Option<u64>,
        /// Its bytes, if they are not as sent.
        damaged: Option<Rc<[u8]>>,
    },
}

impl Way {
    /// A way with nothing on it.
    pub fn new(seed: u64) -> Way {
        Way { last: 0, clogged_until: 0, burst_left: 0, random: Random::new(seed) }
    }

    fn chance(&mut self, per_million: u64) -> bool {
        per_million > 0 && self.random.below(MILLION) < per_million
    }

    /// Decides on a packet.
    pub fn pass(&mut self, link: &Link, bytes: &[u8]) -> Passage {
        let spared = bytes.get(3).is_some_and(|kind| *kind < 16 && link.spared >> kind & 1 == 1);
        if self.burst_left > 0 {
            self.burst_left -= 1;
            if !spared {
                return Passage::Lost;
            }
        } else if self.chance(link.burst) {
            self.burst_left = self.random.below(link.burst_len + 1);
        }
        if self.chance(link.loss) && !spared {
            return Passage::Lost;
        }
        let copy_ns = self
            .chance(link.duplicate)
            .then(|| link.delay_ns + self.random.below(4 * (link.delay_ns + link.jitter_ns)));
        let mut delay_ns = link.delay_ns + self.random.below(link.jitter_ns);
        let reordered = self.chance(link.reorder);
        if reordered {
            delay_ns += self.random.below(10 * (link.delay_ns + link.jitter_ns));
        }
        let mut damaged = None;
        if self.chance(link.flip) {
            let mut copy = bytes.to_vec();
            for _ in 0..=self.random.below(3) {
                if let Some(byte) = pick(&mut self.random, &mut copy) {
                    *byte ^= 1 << self.random.below(8);
                }
            }
            // Two flips of one bit are none.
            damaged = (copy != bytes).then(|| Rc::from(copy));
        } else if self.chance(link.truncate) {
            damaged = Some(Rc::from(&bytes[..self.random.below(bytes.len() as u64) as usize]));
        }
        Passage::Arrives { delay_ns, reordered, copy_ns, damaged }
    }
}

fn pick<'a>(random: &mut Random, bytes: &'a mut [u8]) -> Option<&'a mut u8> {
    let at = random.below(bytes.len() as u64) as usize;
    bytes.get_mut(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(link: &Link, bytes: &[u8]) -> usize {
        let mut way = Way::new(3);
        (0..1000).filter(|_| matches!(way.pass(link, bytes), Passage::Lost)).count()
    }

    #[test]
    fn bursts_lose_neighbours() {
        let link = Link { burst: MILLION / 50, burst_len: 40, ..Link::default() };
        let mut way = Way::new(1);
        let fates: Vec<bool> = (0..5000).map(|_| matches!(way.pass(&link, &[0; 60]), Passage::Lost)).collect();
        let all = fates.iter().filter(|lost| **lost).count();
        let after_a_loss = fates.windows(2).filter(|pair| pair[0] && pair[1]).count();
        assert!((500..3000).contains(&all), "{all}");
        assert!(after_a_loss * 10 > all * 8, "{after_a_loss} of {all}");
    }

    #[test]
    fn spared_kinds_are_not_lost() {
        let link = Link { loss: MILLION / 2, spared: all_but(PacketKind::Row), ..Link::default() };
        let mut bytes = [0; 60];
        bytes[3] = PacketKind::Data as u8;
        assert_eq!(lost(&link, &bytes), 0);
        bytes[3] = PacketKind::Row as u8;
        assert!(lost(&link, &bytes) > 300);
    }

    #[test]
    fn damage_changes_bytes_or_length() {
        for link in [Link { flip: MILLION, ..Link::default() }, Link { truncate: MILLION, ..Link::default() }] {
            let (mut way, bytes, mut changed) = (Way::new(2), [0x55; 80], 0);
            for _ in 0..100 {
                let Passage::Arrives { damaged, .. } = way.pass(&link, &bytes) else { panic!("nothing is lost here") };
                if let Some(damaged) = damaged {
                    assert!(*damaged != bytes && damaged.len() <= bytes.len());
                    changed += 1;
                }
            }
            assert!(changed > 90);
        }
    }
}
