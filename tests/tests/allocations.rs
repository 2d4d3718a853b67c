//! When everything is warm a short multicast costs no allocation in the protocol core: at its sender, at the sequencer and at
//! a plain receiver, from the call to the delivery, with vectors, orders, rows, signs of life, timers and release of memory.
//! (Nodes with their transport: `warm.rs`.)
//!
//! A binary of its own, for the counter is the program's allocator.

use allocation_counter::measure;
use isis_protocol::time::MICROSECOND;
use isis_protocol::{Destination, Endpoint, Event, Instant, Kind, SendOptions};
use isis_tests::scenario::Scenario;
use isis_tests::sim::clock::Clock;
use isis_tests::sim::network::{address, slot};

const MEMBERS: usize = 3;
/// Rounds before the count, and counted ones.
const WARM: u64 = 4_000;
const COUNTED: u64 = 2_000;

/// Packets under way. Their room is taken beforehand: carrying them is not the core's, and is not counted.
struct Network {
    bytes: Vec<u8>,
    /// From whom, to whom, and where in `bytes`.
    packets: Vec<(u32, u32, std::ops::Range<usize>)>,
}

impl Network {
    fn new() -> Network {
        Network { bytes: Vec::with_capacity(1 << 20), packets: Vec::with_capacity(1 << 10) }
    }
}

/// A member, taken out of the simulated world: driven here, so that nothing but the core is counted.
struct Member {
    endpoint: Endpoint,
    slot: u32,
    clock: Clock,
    allocations: u64,
    delivered: u64,
}

impl Member {
    /// Does something with the core, and counts.
    fn act(&mut self, now: u64, act: impl FnOnce(&mut Endpoint, Instant)) {
        let (endpoint, now) = (&mut self.endpoint, self.clock.at(now));
        self.allocations += measure(|| act(endpoint, now)).count_total;
    }

    /// Events and packets out, until there are none.
    fn turn(&mut self, now: u64, network: &mut Network) {
        let (mut delivered, from) = (0, self.slot);
        self.act(now, |endpoint, now| {
            loop {
                while let Some(event) = endpoint.poll_event(now) {
                    delivered += u64::from(matches!(event, Event::Message(_)));
                }
                let burst = endpoint.poll_transmit(now);
                if burst.len() == 0 {
                    return;
                }
                for transmit in burst {
                    let start = network.bytes.len();
                    network.bytes.extend_from_slice(transmit.header);
                    network.bytes.extend_from_slice(transmit.payload);
                    let place = start..network.bytes.len();
                    match transmit.destination {
                        Destination::Unicast(to) => network.packets.push((from, slot(to), place)),
                        Destination::Members { peers, .. } => {
                            network.packets.extend(peers.iter().map(|&to| (from, slot(to), place.clone())));
                        }
                    }
                }
            }
        });
        self.delivered += delivered;
    }
}

/// Carries packets until there are none.
fn settle(members: &mut [Member], now: u64, network: &mut Network) {
    loop {
        for member in members.iter_mut() {
            member.turn(now, network);
        }
        if network.packets.is_empty() {
            return;
        }
        for (from, to, place) in &network.packets {
            if let Some(member) = members.iter_mut().find(|member| member.slot == *to) {
                let (bytes, from) = (&network.bytes[place.clone()], address(*from));
                member.act(now, |endpoint, now| endpoint.handle_packet(now, from, bytes));
            }
        }
        network.bytes.clear();
        network.packets.clear();
    }
}

/// Rounds of so many 64-byte multicasts, one (nothing is shared by a batch) or several, by the youngest member or by all.
fn multicasts_allocate_nothing(kind: Kind, safe: bool, all_send: bool, burst: u64) {
    let mut s = Scenario::new(&[MEMBERS]);
    let nodes: [usize; MEMBERS] = s.start_all();
    s.form_group(&nodes);
    let mut now = s.world.now();
    let handles = nodes.map(|node| s.app(node).members.last().expect("a membership").handle);
    let mut members: Vec<Member> = nodes
        .iter()
        .map(|&node| {
            let (slot, clock) = (s.world.nodes[node].slot, s.world.nodes[node].clock);
            let endpoint = s.world.nodes[node].endpoint.take().expect("alive");
            Member { endpoint, slot, clock, allocations: 0, delivered: 0 }
        })
        .collect();
    let mut network = Network::new();
    settle(&mut members, now, &mut network);
    let options = SendOptions { kind, safe, entry: 1 };
    // The oldest member is the sequencer; the youngest one sends always; the third one only receives, unless all send.
    let senders = if all_send { 0..MEMBERS } else { MEMBERS - 1..MEMBERS };
    // The more is under way, the later there has been as much as there ever is.
    let warm = WARM * burst;
    for round in 0..warm + COUNTED {
        if round == warm {
            let counts = members.iter().all(|member| member.allocations > 0);
            assert!(counts, "the counter does not count: what gets warm allocates");
            members.iter_mut().for_each(|member| (member.allocations, member.delivered) = (0, 0));
        }
        for sender in senders.clone() {
            let mut sent = true;
            members[sender].act(now, |endpoint, now| {
                sent = (0..burst).all(|_| endpoint.multicast(now, handles[sender], options, &[7; 64]).is_ok());
            });
            assert!(sent, "the window is never full");
        }
        settle(&mut members, now, &mut network);
        now += 50 * MICROSECOND;
        for member in &mut members {
            member.act(now, |endpoint, now| endpoint.handle_timeout(now));
        }
    }
    for (rank, member) in members.iter().enumerate() {
        let what = format!("{kind:?}, safe {safe}, {} senders, bursts of {burst}, rank {rank}", senders.len());
        // The last messages may wait for the next rows.
        let messages = COUNTED * burst * senders.len() as u64;
        assert!((messages - 10..=messages + 10).contains(&member.delivered), "{what}: {} delivered", member.delivered);
        assert_eq!(member.allocations, 0, "{what}: allocations");
    }
}

#[test]
fn short_multicasts_allocate_nothing() {
    for kind in [Kind::Fifo, Kind::Causal, Kind::Total] {
        for (safe, all_send) in [(false, false), (false, true), (true, false), (true, true)] {
            multicasts_allocate_nothing(kind, safe, all_send, 1);
        }
    }
}

#[test]
fn batches_allocate_nothing() {
    for kind in [Kind::Fifo, Kind::Causal, Kind::Total] {
        for (safe, all_send) in [(false, true), (true, false), (true, true)] {
            multicasts_allocate_nothing(kind, safe, all_send, 4);
        }
    }
}
