//! The network between the simulated processes: who is reached, what is held up, what is counted.
//!
//! An address carries the number of a *slot* (a place where a process can run). Partitions part sites only: packets between
//! processes of one site may be lost, duplicated, damaged and held up (their socket buffers overflow), and nothing more.
//! Owner: the world. Invariants: every choice comes from seeded generators; a packet's bytes are copied once, however many
//! receive it, unless it is damaged on the way.

use super::link::{Link, Passage, Way};
use super::timeline::Timeline;
use super::world::Happening;
use crate::trace::mix;
use isis_wire::Address;
use std::fmt;
use std::rc::Rc;

/// A packet under way.
#[derive(Clone, Debug)]
pub struct Packet {
    /// From which slot.
    pub from: u32,
    /// To which slot.
    pub to: u32,
    /// The datagram.
    pub bytes: Rc<[u8]>,
}

/// What a script does with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Goes its way.
    Pass,
    /// Is lost.
    Drop,
    /// Waits until `Network::release`.
    Hold,
}

/// What happened to packets so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Datagrams given to the network, per destination.
    pub sent: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Lost on the way.
    pub lost: u64,
    /// Arrived twice.
    pub duplicated: u64,
    /// Arrived late.
    pub reordered: u64,
    /// Arrived with other bytes than were sent, or fewer.
    pub damaged: u64,
    /// Held up in a clog.
    pub clogged: u64,
    /// Lost in a partition.
    pub parted: u64,
    /// Lost because a socket buffer was full.
    pub overflowed: u64,
    /// For a slot where nobody is.
    pub nobody: u64,
    /// Refused, or said to be.
    pub refused: u64,
}

/// A script's view of each packet.
pub type Interceptor = Box<dyn FnMut(&Packet) -> Verdict>;

/// See the module.
pub struct Network {
    seed: u64,
    /// Links within a site.
    pub local: Link,
    /// Links between sites.
    pub remote: Link,
    /// By slot: its site.
    sites: Vec<usize>,
    /// By site and site: how many partitions cut the way from the one to the other.
    blocked: Vec<Vec<u32>>,
    /// By slot and slot.
    ways: Vec<Vec<Way>>,
    packets: Vec<Option<Packet>>,
    free: Vec<u32>,
    held: Vec<Packet>,
    /// Decides on each packet before the network does.
    pub interceptor: Option<Interceptor>,
    /// Counters.
    pub tally: Tally,
    /// Digest of all packets sent.
    pub digest: u64,
    /// The last packet that was folded into the digest, and its own digest: a multicast is looked through once.
    folded: (Rc<[u8]>, u64),
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("blocked", &self.blocked).field("tally", &self.tally).finish_non_exhaustive()
    }
}

/// The address of a slot.
pub fn address(slot: u32) -> Address {
    let mut ip = [0; 16];
    ip[0] = 0xfd;
    ip[12..].copy_from_slice(&slot.to_be_bytes());
    Address { ip, port: 7 }
}

/// The slot of an address.
pub fn slot(address: Address) -> u32 {
    u32::from_be_bytes([address.ip[12], address.ip[13], address.ip[14], address.ip[15]])
}

impl Network {
    /// A network without faults.
    pub fn new(seed: u64) -> Network {
        let quiet = Link { delay_ns: 10_000, jitter_ns: 5_000, ..Link::default() };
        Network {
            seed,
            local: quiet,
            remote: Link { delay_ns: 100_000, jitter_ns: 50_000, ..quiet },
            sites: Vec::new(),
            blocked: Vec::new(),
            ways: Vec::new(),
            packets: Vec::new(),
            free: Vec::new(),
            held: Vec::new(),
            interceptor: None,
            tally: Tally::default(),
            digest: 0,
            folded: (Rc::from([]), digest(&[])),
        }
    }

    /// A new slot on this site.
    pub fn add_slot(&mut self, site: usize) -> u32 {
        let (slot, seed) = (self.sites.len() as u64, self.seed);
        let way = |from: u64, to: u64| Way::new(mix(seed ^ mix(from << 32 | to)));
        self.sites.push(site);
        for (from, row) in self.ways.iter_mut().enumerate() {
            row.push(way(from as u64, slot));
        }
        self.ways.push((0..=slot).map(|to| way(slot, to)).collect());
        slot as u32
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.sites.len()
    }

    /// Cuts the way from one site to another, once more if it is cut already. A site is never cut from itself.
    pub fn block(&mut self, from: usize, to: usize) {
        let most = from.max(to) + 1;
        if self.blocked.len() < most {
            self.blocked.resize(most, Vec::new());
        }
        for row in &mut self.blocked {
            row.resize(most.max(row.len()), 0);
        }
        if from != to {
            self.blocked[from][to] += 1;
        }
    }

    /// Takes one cut of the way from one site to another away.
    pub fn unblock(&mut self, from: usize, to: usize) {
        if let Some(cuts) = self.blocked.get_mut(from).and_then(|row| row.get_mut(to)) {
            *cuts = cuts.saturating_sub(1);
        }
    }

    /// Mends all ways, and ends all clogs: what they hold arrives in its time, what is sent from now on need not wait for it.
    pub fn unblock_all(&mut self) {
        self.blocked.clear();
        for way in self.ways.iter_mut().flatten() {
            (way.clogged_until, way.last) = (0, 0);
        }
    }

    /// A partition cuts the way from one site to another.
    pub fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.get(from).and_then(|row| row.get(to)).is_some_and(|cuts| *cuts > 0)
    }

    /// Nothing from one slot arrives at the other before `until`; then all of it does.
    pub fn clog(&mut self, from: u32, to: u32, until: u64) {
        let way = &mut self.ways[from as usize][to as usize];
        way.clogged_until = way.clogged_until.max(until);
    }

    /// Sends the packets that a script held, in their order.
    pub fn release(&mut self, timeline: &mut Timeline<Happening>) {
        for packet in std::mem::take(&mut self.held) {
            self.carry(timeline, packet, 0);
        }
    }

    /// Packets that a script holds.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes a packet from a process.
    pub fn send(&mut self, timeline: &mut Timeline<Happening>, from: u32, to: Address, bytes: &Rc<[u8]>) {
        let to = slot(to);
        self.tally.sent += 1;
        self.tally.bytes += bytes.len() as u64;
        self.fold(from, to, bytes);
        if to as usize >= self.sites.len() {
            self.tally.nobody += 1;
            return;
        }
        let packet = Packet { from, to, bytes: Rc::clone(bytes) };
        match self.interceptor.as_mut().map_or(Verdict::Pass, |judge| judge(&packet)) {
            Verdict::Pass => {}
            Verdict::Drop => {
                self.tally.lost += 1;
                return;
            }
            Verdict::Hold => {
                self.held.push(packet);
                return;
            }
        }
        let (here, there) = (self.sites[from as usize], self.sites[to as usize]);
        if self.is_blocked(here, there) {
            self.tally.parted += 1;
            return;
        }
        let link = if here == there { &self.local } else { &self.remote };
        let (now, tally) = (timeline.now(), &mut self.tally);
        let way = &mut self.ways[from as usize][to as usize];
        let Passage::Arrives { delay_ns, reordered, copy_ns, damaged } = way.pass(link, bytes) else {
            tally.lost += 1;
            return;
        };
        let clog = way.clogged_until.saturating_sub(now);
        let mut delay = delay_ns.max(clog);
        tally.clogged += u64::from(clog > 0);
        tally.reordered += u64::from(reordered);
        tally.damaged += u64::from(damaged.is_some());
        tally.duplicated += u64::from(copy_ns.is_some());
        if !reordered {
            way.last = way.last.max(now + delay);
            delay = way.last - now;
        }
        let packet = Packet { from, to, bytes: damaged.unwrap_or_else(|| Rc::clone(bytes)) };
        if let Some(copy_ns) = copy_ns {
            self.carry(timeline, Packet { from, to, bytes: Rc::clone(bytes) }, copy_ns.max(clog));
        }
        self.carry(timeline, packet, delay);
    }

    fn carry(&mut self, timeline: &mut Timeline<Happening>, packet: Packet, delay: u64) {
        let index = match self.free.pop() {
            Some(index) => {
                self.packets[index as usize] = Some(packet);
                index
            }
            None => {
                self.packets.push(Some(packet));
                self.packets.len() as u32 - 1
            }
        };
        timeline.at(timeline.now() + delay, Happening::Arrive(index));
    }

    /// The packet that arrives.
    pub fn arrive(&mut self, index: u32) -> Option<Packet> {
        self.free.push(index);
        self.packets[index as usize].take()
    }

    fn fold(&mut self, from: u32, to: u32, bytes: &Rc<[u8]>) {
        if !Rc::ptr_eq(&self.folded.0, bytes) {
            self.folded = (Rc::clone(bytes), digest(bytes));
        }
        self.digest = mix(self.digest ^ u64::from(from) << 32 ^ u64::from(to)) ^ self.folded.1;
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut digest = bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        digest = (digest ^ u64::from_le_bytes(*word)).wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(23);
    }
    for byte in rest {
        digest = (digest ^ u64::from(*byte)).wrapping_mul(0x2545_f491_4f6c_dd1d);
    }
    mix(digest)
}

#[cfg(test)]
mod tests {
    use super::super::link::MILLION;
    use super::*;

    /// Sends `count` packets from slot 0 to slot `to` and returns the indices in the order of their arrival.
    fn arrivals(network: &mut Network, to: u32, count: u8) -> Vec<u8> {
        let mut timeline = Timeline::default();
        for number in 0..count {
            network.send(&mut timeline, 0, address(to), &Rc::from([number]));
        }
        let mut order = Vec::new();
        while let Some(Happening::Arrive(index)) = timeline.next(u64::MAX) {
            order.push(network.arrive(index).expect("a packet arrives once").bytes[0]);
        }
        order
    }

    fn two_sites() -> Network {
        let mut network = Network::new(1);
        for site in [0, 0, 1] {
            network.add_slot(site);
        }
        network
    }

    #[test]
    fn quiet_links_keep_everything_in_order() {
        let all: Vec<u8> = (0..100).collect();
        assert_eq!(arrivals(&mut two_sites(), 1, 100), all);
        assert_eq!(arrivals(&mut two_sites(), 2, 100), all);
    }

    #[test]
    fn each_fault_does_what_its_name_says() {
        let mut network = two_sites();
        network.remote.loss = MILLION / 2;
        let got = arrivals(&mut network, 2, 100).len() as u64;
        assert!((20..80).contains(&got) && network.tally.lost == 100 - got);
        assert_eq!(arrivals(&mut network, 1, 100).len(), 100, "links within the site are other links");
        network.remote = Link { duplicate: MILLION / 2, ..network.local };
        let got = arrivals(&mut network, 2, 100).len() as u64;
        assert!(got > 120 && network.tally.duplicated == got - 100);
        network.remote = Link { reorder: MILLION / 2, ..network.local };
        let mut got = arrivals(&mut network, 2, 100);
        assert!(!got.is_sorted() && network.tally.reordered > 20);
        got.sort_unstable();
        assert!(got.into_iter().eq(0..100));
    }

    #[test]
    fn partitions_part_sites_and_have_a_direction() {
        let mut network = two_sites();
        network.block(0, 1);
        network.block(0, 0);
        assert_eq!(arrivals(&mut network, 2, 5).len(), 0);
        assert_eq!(arrivals(&mut network, 1, 5).len(), 5, "a site is never parted from itself");
        assert_eq!(network.tally.parted, 5);
        network.unblock_all();
        network.block(1, 0);
        assert_eq!(arrivals(&mut network, 2, 5).len(), 5, "the other way is open");
    }

    #[test]
    fn scripts_drop_and_hold() {
        let mut network = two_sites();
        network.interceptor = Some(Box::new(|p| match p.bytes[0] {
            1 => Verdict::Drop,
            2 => Verdict::Hold,
            _ => Verdict::Pass,
        }));
        assert_eq!(arrivals(&mut network, 1, 4), [0, 3]);
        assert_eq!(network.held(), 1);
        let mut timeline = Timeline::default();
        network.release(&mut timeline);
        assert_eq!(network.held(), 0);
        assert!(matches!(timeline.next(u64::MAX), Some(Happening::Arrive(_))));
    }
    #[test]
    fn a_clog_holds_everything_and_lets_it_go() {
        let mut network = two_sites();
        network.clog(0, 1, 5_000_000);
        let mut timeline = Timeline::default();
        for number in 0..20 {
            network.send(&mut timeline, 0, address(1), &Rc::from([number]));
            network.send(&mut timeline, 1, address(0), &Rc::from([number]));
        }
        let (mut held, mut back) = (Vec::new(), 0);
        while let Some(Happening::Arrive(index)) = timeline.next(u64::MAX) {
            let packet = network.arrive(index).expect("a packet arrives once");
            if packet.to == 1 {
                assert!(timeline.now() >= 5_000_000);
                held.push(packet.bytes[0]);
            } else {
                assert!(timeline.now() < 5_000_000, "the other way is open");
                back += 1;
            }
        }
        assert!(held.into_iter().eq(0..20) && back == 20);
        assert_eq!(network.tally.clogged, 20);
    }

    #[test]
    fn a_way_that_two_partitions_cut_needs_both_mended() {
        let mut network = two_sites();
        network.block(0, 1);
        network.block(0, 1);
        network.unblock(0, 1);
        assert_eq!(arrivals(&mut network, 2, 5).len(), 0);
        network.unblock(0, 1);
        assert_eq!(arrivals(&mut network, 2, 5).len(), 5);
    }
}
