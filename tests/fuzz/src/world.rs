//! The machine, not only its parsers: three endpoints of two sites in virtual time, driven by the fuzzer's bytes. It
//! loses, repeats, reorders and delays packets, damages them *and puts the sum right*, makes up bodies, kills processes
//! and lets them send, join, leave and transfer state.
//!
//! Damaged packets with a right sum are beyond what the guarantees cover, so no guarantee is asked for here; only that
//! nothing panics, and that memory keeps to its bounds. The simulator asks for the rest.

use isis_memory::{Arena, Region};
use isis_protocol::event::Body;
use isis_protocol::founding::{RecordOperation, acceptor};
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_protocol::{
    Config, Destination, Endpoint, Event, GroupHandle, Instant, JoinOptions, Kind, MessageId, Nonce, ProcessId,
    SendOptions, SiteAnswer, SiteKey, SiteRequest, SystemId,
};
use isis_wire::Address;
use isis_wire::founding::SiteRecord;
use isis_wire::packet::{self, HEADER, PacketKind};
use std::collections::VecDeque;
use std::sync::Arc;

/// Processes.
const NODES: usize = 3;
/// Sites.
const SITES: usize = 2;
/// Chunks of each process.
const CHUNKS: u32 = 64;
/// Those among them that the other process of the site reads.
const ARENA: u32 = 2;
/// The most packets under way; further ones are lost.
const MOST_UNDER_WAY: usize = 512;
/// The most packets that one pass of one process may send.
const MOST_AT_ONCE: usize = 4096;
/// The most actions taken from one input.
const MOST_ACTIONS: usize = 400;

/// A packet under way.
#[derive(Clone)]
struct Datagram {
    from: usize,
    to: usize,
    bytes: Vec<u8>,
}

struct Node {
    endpoint: Endpoint,
    group: Option<GroupHandle>,
    process: Option<ProcessId>,
    last: Option<MessageId>,
    transfer: Option<u64>,
    alive: bool,
    /// The system that its site's record has it in (R12).
    bound: SystemId,
}

struct World {
    now: Instant,
    nodes: Vec<Node>,
    under_way: VecDeque<Datagram>,
    /// The last packet of each process, to make others from.
    samples: Vec<Vec<u8>>,
    records: [Option<SystemId>; SITES],
    /// The sites' durable records, where the number of sites is expected (R12).
    disks: [SiteRecord; SITES],
}

/// The fuzzer's bytes, read one after the other; zeros behind their end.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }
    fn below(&mut self, limit: usize) -> usize {
        (usize::from(self.next()) << 8 | usize::from(self.next())) % limit.max(1)
    }
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

fn site(node: usize) -> usize {
    node / 2
}

fn nonce(node: usize) -> Nonce {
    Nonce(0x1000 + node as u128)
}

pub(crate) fn address(node: usize) -> Address {
    Address { ip: [0; 16], port: 1 + node as u16 }
}

impl World {
    /// `expected`: all know how many sites there are, so a majority of them founds the system (R12).
    fn new(expected: bool) -> World {
        let arenas: Vec<Arc<Arena>> = (0..NODES).map(|_| Arc::new(Arena::heap(ARENA))).collect();
        for (one, other) in (0..NODES).flat_map(|one| (0..NODES).map(move |other| (one, other))) {
            if one != other && site(one) == site(other) {
                arenas[one].connect_heap(nonce(other).0, &arenas[other], one as u32, other as u32);
                arenas[one].set_reads(nonce(other).0, true);
            }
        }
        let nodes = (0..NODES)
            .map(|node| {
                let site = SiteKey(100 + site(node) as u128);
                let mut config = Config::new(node as u64, nonce(node), site, address(node));
                config.seeds = vec![address(0)];
                config.window = 64 << 10;
                config.max_message = 128 << 10;
                config.join_backlog = 256 << 10;
                config.placed_from = 0;
                config.discovery_ns = 20 * MILLISECOND;
                config.expected_sites = if expected { SITES as u16 } else { 0 };
                Node {
                    endpoint: Endpoint::new(
                        config,
                        Region::heap(CHUNKS).with_arena(Arc::clone(&arenas[node])),
                        Instant(1),
                    ),
                    group: None,
                    process: None,
                    last: None,
                    transfer: None,
                    alive: true,
                    bound: SystemId::default(),
                }
            })
            .collect();
        World {
            now: Instant(1),
            nodes,
            under_way: VecDeque::new(),
            samples: vec![Vec::new(); NODES],
            records: [None; SITES],
            disks: std::array::from_fn(|_| SiteRecord::default()),
        }
    }

    /// Takes out what a process has to say.
    fn drain(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if !node.alive {
            return;
        }
        let mut sent = 0;
        loop {
            let before = sent;
            for out in node.endpoint.poll_transmit(self.now) {
                sent += 1;
                assert!(sent < MOST_AT_ONCE, "one pass sends without end");
                let bytes = [out.header, out.payload].concat();
                let mut put = |to: Address| {
                    let to = usize::from(to.port).wrapping_sub(1);
                    if to < NODES && self.under_way.len() < MOST_UNDER_WAY {
                        self.under_way.push_back(Datagram { from: number, to, bytes: bytes.clone() });
                    }
                };
                match out.destination {
                    Destination::Unicast(to) => put(to),
                    Destination::Members { peers, .. } => peers.iter().copied().for_each(&mut put),
                }
                self.samples[number] = bytes;
            }
            if sent == before {
                break;
            }
        }
        while let Some(request) = self.nodes[number].endpoint.poll_site_request() {
            let record = &mut self.records[site(number)];
            let node = &mut self.nodes[number];
            match request {
                SiteRequest::Record { number: request, operation } => self.ask_disk(number, request, &operation),
                SiteRequest::Joined(system) => *record = Some(system),
                SiteRequest::Found(system) => {
                    let answer = match record {
                        Some(other) => SiteAnswer::BelongsTo(*other),
                        None => SiteAnswer::Granted,
                    };
                    record.get_or_insert(system);
                    node.endpoint.handle_site_answer(self.now, answer);
                }
                // Not by default: nobody asks for it here.
                SiteRequest::Kill(_) | SiteRequest::Watch(_) => {}
            }
        }
        let node = &mut self.nodes[number];
        for _ in 0..MOST_AT_ONCE {
            let Some(event) = node.endpoint.poll_event(self.now) else { break };
            match event {
                Event::SystemJoined { process, .. } => node.process = Some(process),
                Event::Message(delivery) => {
                    let len = node.endpoint.payload(&delivery.body).len();
                    assert!(matches!(&delivery.body, Body::Owned(_)) || len <= 1 << 16);
                    node.last = Some(delivery.id);
                }
                Event::StateWanted { transfer, .. } => node.transfer = Some(transfer),
                Event::Left { group } if node.group == Some(group) => node.group = None,
                _ => {}
            }
        }
        let in_use = node.endpoint.counters().iter().find(|(name, _)| *name == "chunks_in_use").map_or(0, |c| c.1);
        assert!(in_use <= u64::from(CHUNKS));
    }

    /// The site's durable record is read, changed and written, then answered.
    fn ask_disk(&mut self, number: usize, request: u64, operation: &RecordOperation) {
        let mates = (0..NODES).filter(|&mate| site(mate) == site(number) && self.nodes[mate].alive);
        let lives_in = mates.map(|mate| self.nodes[mate].bound).max().unwrap_or_default();
        let disk = &mut self.disks[site(number)];
        let applied = acceptor::apply(disk, operation, lives_in);
        let record = Box::new(disk.clone());
        let node = &mut self.nodes[number];
        node.bound = applied.bind.unwrap_or(node.bound);
        let answer = SiteAnswer::Record { number: request, done: applied.done, record, lives_in };
        node.endpoint.handle_site_answer(self.now, answer);
    }

    fn receive(&mut self, datagram: &Datagram) {
        if self.nodes[datagram.to].alive {
            self.nodes[datagram.to].endpoint.handle_packet(self.now, address(datagram.from), &datagram.bytes);
            self.drain(datagram.to);
        }
    }

    /// Delivers what is under way; when nothing is, goes on to the next deadline.
    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            if let Some(datagram) = self.under_way.pop_front() {
                self.now = self.now + 20_000;
                self.receive(&datagram);
                continue;
            }
            let next = self.nodes.iter().filter(|n| n.alive).filter_map(|n| n.endpoint.poll_timeout()).min();
            let Some(next) = next else { return };
            self.now = self.now.max(next) + 1;
            for node in 0..NODES {
                if self.nodes[node].alive {
                    self.nodes[node].endpoint.handle_timeout(self.now);
                    self.drain(node);
                }
            }
        }
    }

    /// All are in one system and one group.
    fn form(&mut self) {
        for node in 0..NODES {
            let options = JoinOptions { wants_state: node == 2, ..JoinOptions::default() };
            self.nodes[node].group = self.nodes[node].endpoint.join(self.now, "g", options).ok();
        }
        self.run(300);
    }

    fn crash(&mut self, victim: usize) {
        self.nodes[victim].alive = false;
        for other in (0..NODES).filter(|&other| other != victim && site(other) == site(victim)) {
            self.nodes[other].endpoint.handle_death(self.now, nonce(victim));
            self.drain(other);
        }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>) {
        let action = bytes.next();
        let number = usize::from(bytes.next()) % NODES;
        let now = self.now;
        match action % 20 {
            0..=3 => self.run(1 + usize::from(action) / 20),
            4 => drop(self.under_way.pop_front()),
            5 => {
                if let Some(datagram) = self.under_way.front().cloned() {
                    self.receive(&datagram);
                }
            }
            6 => {
                if let Some(datagram) = self.under_way.pop_front() {
                    let place = bytes.below(self.under_way.len() + 1);
                    self.under_way.insert(place, datagram);
                }
            }
            // A packet is damaged, and its sum put right.
            7..=10 => {
                if let Some(mut datagram) = self.under_way.pop_front() {
                    for _ in 0..=action % 3 {
                        let from = if action >= 128 { 8 } else { HEADER.min(datagram.bytes.len() - 1) };
                        let at = from + bytes.below(datagram.bytes.len() - from);
                        datagram.bytes[at] = bytes.next();
                    }
                    packet::seal(&mut datagram.bytes, &[]);
                    self.receive(&datagram);
                }
            }
            // A body is made up behind the header of a true packet.
            11 | 12 => {
                let from = (number + 1) % NODES;
                let mut made = self.samples[from].clone();
                made.truncate(HEADER);
                if made.len() == HEADER {
                    made[3] = 1 + bytes.next() % PacketKind::Relay as u8;
                    let group = bytes.next();
                    if group < 8 {
                        made[32] = group;
                    }
                    let view = bytes.next();
                    if view < 32 {
                        made[40] = view;
                    }
                    let len = bytes.below(200);
                    made.extend_from_slice(bytes.take(len));
                    packet::seal(&mut made, &[]);
                    self.receive(&Datagram { from, to: number, bytes: made });
                }
            }
            13 => self.nodes[number].endpoint.handle_packet(now, address(9), bytes.take(60)),
            14 => {
                self.now = now + [MILLISECOND, 50 * MILLISECOND, SECOND, 5 * SECOND][bytes.below(4)];
                self.run(1);
            }
            15 if bytes.next() == 7 => self.crash(number),
            _ if self.nodes[number].alive => self.command(number, bytes),
            _ => {}
        }
    }

    fn command(&mut self, number: usize, bytes: &mut Bytes<'_>) {
        let now = self.now;
        let (call, choice, len) = (bytes.next(), bytes.next(), bytes.below(20_000));
        let other = self.nodes[(number + 1) % NODES].process.unwrap_or_default();
        let node = &mut self.nodes[number];
        let Some(group) = node.group else {
            node.group =
                node.endpoint.join(now, "g", JoinOptions { wants_state: choice > 100, ..JoinOptions::default() }).ok();
            return self.drain(number);
        };
        let kind = [Kind::Fifo, Kind::Causal, Kind::Total, Kind::Global][usize::from(choice) % 4];
        let options = SendOptions { kind, safe: choice >= 128, entry: choice };
        let data = vec![choice; len];
        let _ = match call % 14 {
            0..=5 => node.endpoint.multicast(now, group, options, &data).map(drop),
            6 => node.endpoint.claim(group, len % 5000),
            7 => node.endpoint.commit(now, group, options).map(drop),
            8 => node.endpoint.send(now, group, other, choice, &data).map(drop),
            9 => match node.last {
                Some(last) => node.endpoint.reply(now, group, last, &data).map(drop),
                None => Ok(()),
            },
            10 => node.endpoint.flush(now, group).map(drop),
            11 => match node.transfer {
                Some(transfer) => node.endpoint.state_block(now, group, transfer, &data, choice >= 128),
                None => Ok(()),
            },
            12 if choice < 100 => node.endpoint.leave(now, group),
            12 if choice == 255 => {
                node.endpoint.close(now);
                Ok(())
            }
            _ => node.endpoint.abort(group),
        };
        self.drain(number);
    }
}

/// Runs the bytes as a script. The first one says how far the system is formed before, and with 64 in it that the number of
/// sites is expected.
pub fn endpoint(data: &[u8]) {
    let mut bytes = Bytes(data);
    let first = bytes.next();
    let mut world = World::new(first & 64 != 0);
    if first.is_multiple_of(4) {
        world.run(usize::from(bytes.next()));
    } else {
        world.form();
    }
    for _ in 0..MOST_ACTIONS {
        if bytes.0.is_empty() {
            break;
        }
        world.act(&mut bytes);
    }
    world.run(50);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a started system the fuzzer would only try the search for one.
    #[test]
    fn the_world_forms_a_group() {
        forms_a_group(World::new(false));
    }

    /// The same when the sites have to found it together.
    #[test]
    fn the_world_founds_with_a_majority_of_the_expected_sites() {
        let world = forms_a_group(World::new(true));
        let systems: Vec<SystemId> = world.disks.iter().map(|disk| disk.foundation.system).collect();
        assert!(world.disks.iter().all(|disk| disk.decided == 1), "{systems:?}");
        assert!(systems[0] == systems[1] && systems[0] != SystemId::default(), "{systems:?}");
    }

    fn forms_a_group(mut world: World) -> World {
        world.form();
        for (number, node) in world.nodes.iter_mut().enumerate() {
            assert!(node.process.is_some(), "{number} is in no system");
        }
        let group = world.nodes[0].group.expect("joined");
        let options = SendOptions { kind: Kind::Total, safe: false, entry: 0 };
        world.nodes[0].endpoint.multicast(world.now, group, options, b"hello").expect("a member multicasts");
        world.drain(0);
        world.run(100);
        let delivered = world.nodes.iter().filter(|node| node.last.is_some()).count();
        assert!(delivered >= 2, "{delivered} have the message");
        world
    }
}
