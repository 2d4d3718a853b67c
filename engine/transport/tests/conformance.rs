//! One suite for every implementation of `Transport`: what the trait promises, no more. Real sockets, on loopback.
//!
//! No test depends on timing: each waits for what must come, up to a limit that is far beyond what any machine needs.

use isis_transport::memory_pair::memory_pair;
use isis_transport::{
    Datagram, Destination, FaultConfig, FaultyTransport, HostConfig, HostTransport, Transport, UdpConfig, UdpTransport,
};
use isis_wire::Address;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Beyond this nothing comes any more.
const LIMIT: Duration = Duration::from_secs(20);

/// A pair of transports under test, with the time that they are driven by.
struct Pair {
    ends: [Box<dyn Transport>; 2],
    begin: Instant,
    /// How many datagrams may come in one piece.
    piece: usize,
}

impl Pair {
    fn new(one: impl Transport + 'static, two: impl Transport + 'static) -> Pair {
        Pair { ends: [Box::new(one), Box::new(two)], begin: Instant::now(), piece: 64 }
    }

    /// Of transports that bring each datagram by itself.
    fn one_by_one(one: impl Transport + 'static, two: impl Transport + 'static) -> Pair {
        Pair { piece: 1, ..Pair::new(one, two) }
    }

    fn address(&self, end: usize) -> Address {
        self.ends[end].capabilities().local_address
    }

    /// One turn of both ends; what each received.
    fn turn(&mut self, budget: usize) -> [Vec<(Address, Vec<u8>)>; 2] {
        let now_ns = self.begin.elapsed().as_nanos() as u64;
        let mut received = [Vec::new(), Vec::new()];
        for (end, received) in self.ends.iter_mut().zip(&mut received) {
            end.advance(now_ns);
            let count = end.receive_burst(budget, &mut |from, bytes| received.push((from, bytes.to_vec())));
            assert_eq!(count, received.len(), "the count is what was delivered");
            assert!(count <= budget * self.piece, "the budget is kept");
        }
        received
    }

    /// Turns until end 1 has received `count` datagrams, or as many as came within the limit.
    fn receive(&mut self, count: usize) -> Vec<(Address, Vec<u8>)> {
        let begin = Instant::now();
        let mut all = Vec::new();
        while all.len() < count && begin.elapsed() < LIMIT {
            let [_, received] = self.turn(7);
            if received.is_empty() {
                std::thread::sleep(Duration::from_micros(100));
            }
            all.extend(received);
        }
        all
    }

    fn send(&mut self, destination: Destination<'_>, header: &[u8], payload: &[u8]) {
        let report = self.ends[0].transmit_burst(&mut std::iter::once(Datagram { destination, header, payload }));
        assert_eq!(report.datagrams, 1);
        assert_eq!(report.sent + report.dropped, 1, "every transmission is accounted for");
    }
}

/// The suite. The pair loses nothing when little is under way.
fn conformance(mut pair: Pair) {
    parts_are_joined(&mut pair);
    lengths(&mut pair);
    bursts(&mut pair);
    members(&mut pair);
    nonsense(&mut pair);
    counters(&pair);
}

/// Header and payload arrive as one datagram, from the sender's address.
fn parts_are_joined(pair: &mut Pair) {
    let to = Destination::Unicast(pair.address(1));
    pair.send(to, b"head", b"-payload");
    pair.send(to, b"only a head", b"");
    let received = pair.receive(2);
    let from = pair.address(0);
    assert_eq!(received, [(from, b"head-payload".to_vec()), (from, b"only a head".to_vec())]);
}

/// Up to the promised length, everything arrives whole.
fn lengths(pair: &mut Pair) {
    let most = pair.ends[0].capabilities().datagram_local;
    assert!(most >= 512);
    for length in [1, 8, 1_400, 1_473, 9_000, most - 1, most].into_iter().filter(|length| *length <= most) {
        let bytes: Vec<u8> = (0..length).map(|i| (i * 31) as u8).collect();
        let (header, payload) = bytes.split_at(length.min(48));
        pair.send(Destination::Unicast(pair.address(1)), header, payload);
        let received = pair.receive(1);
        assert!(received.len() == 1 && received[0].1 == bytes, "{length} bytes");
    }
}

/// More datagrams than any batch holds, in one call.
fn bursts(pair: &mut Pair) {
    let to = Destination::Unicast(pair.address(1));
    let payloads: Vec<[u8; 4]> = (0..300_u32).map(u32::to_le_bytes).collect();
    let mut burst = payloads.iter().map(|payload| Datagram { destination: to, header: b"n", payload });
    let report = pair.ends[0].transmit_burst(&mut burst);
    assert_eq!((report.datagrams, report.dropped), (300, 0), "all are taken");
    let mut numbers: Vec<u32> = pair
        .receive(300)
        .iter()
        .map(|(_, bytes)| u32::from_le_bytes(bytes[1..].try_into().expect("five bytes")))
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..300), "each once");
}

/// To the members of a group, joined or not.
fn members(pair: &mut Pair) {
    let peers = [pair.address(1)];
    pair.send(Destination::Members { group: 9, peers: &peers }, b"to all", b"");
    assert_eq!(pair.receive(1), [(pair.address(0), b"to all".to_vec())]);
    let none = Datagram { destination: Destination::Members { group: 9, peers: &[] }, header: b"x", payload: b"" };
    let report = pair.ends[0].transmit_burst(&mut std::iter::once(none));
    assert_eq!((report.datagrams, report.sent, report.dropped), (1, 0, 0));
}

/// What cannot be sent is counted, and what can is sent afterwards.
fn nonsense(pair: &mut Pair) {
    let too_long = vec![0; 70_000];
    pair.send(Destination::Unicast(pair.address(1)), b"", &too_long);
    pair.send(Destination::Unicast(Address { ip: [0; 16], port: 0 }), b"to nowhere", b"");
    // A port of this host where nobody listens, twice: the second may learn of the first one's refusal.
    let mut closed = pair.address(1);
    closed.port = 1;
    pair.send(Destination::Unicast(closed), b"to nobody", b"");
    pair.send(Destination::Unicast(closed), b"to nobody", b"");
    pair.send(Destination::Unicast(pair.address(1)), b"still here", b"");
    assert_eq!(pair.receive(1), [(pair.address(0), b"still here".to_vec())]);
}

/// Counters have names, each once, in a fixed order.
fn counters(pair: &Pair) {
    for end in &pair.ends {
        let names: Vec<&str> = end.counters().iter().map(|(name, _)| *name).collect();
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len());
        assert!(names.len() >= 3);
    }
}

fn udp(listen: &str) -> Option<UdpTransport> {
    UdpTransport::open(UdpConfig::new(listen.parse().expect("address"), 5)).ok()
}

#[test]
fn memory() {
    let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port)).into();
    let (one, two) = memory_pair(address(1_001), address(1_002));
    conformance(Pair::one_by_one(one, two));
}

#[test]
fn udp_v4() {
    let one = udp("127.0.0.1:0").expect("loopback");
    let two = udp("127.0.0.1:0").expect("loopback");
    conformance(Pair::new(one, two));
}

/// Whoever hands runs to the kernel is understood by those who take each datagram by itself, and the other way round.
#[test]
fn udp_with_and_without_runs() {
    let apart = || {
        let config = UdpConfig::new("127.0.0.1:0".parse().expect("address"), 5);
        UdpTransport::open(UdpConfig { in_runs: false, ..config }).expect("loopback")
    };
    conformance(Pair::new(udp("127.0.0.1:0").expect("loopback"), apart()));
    conformance(Pair::new(apart(), udp("127.0.0.1:0").expect("loopback")));
    conformance(Pair::one_by_one(apart(), apart()));
}

#[test]
fn udp_v6() {
    // A machine may be without IPv6: then there is nothing to show.
    let (Some(one), Some(two)) = (udp("[::1]:0"), udp("[::1]:0")) else {
        assert!(std::net::UdpSocket::bind("[::1]:0").is_err(), "IPv6 is there, the transport must open");
        return;
    };
    conformance(Pair::new(one, two));
}

#[test]
fn udp_with_groups_joined() {
    let (mut one, mut two) = (udp("127.0.0.1:0").expect("loopback"), udp("127.0.0.1:0").expect("loopback"));
    for group in 0..50 {
        one.join_group(77, group);
        two.join_group(77, group);
    }
    for group in 10..50 {
        one.leave_group(group);
    }
    conformance(Pair::new(one, two));
}

/// The decorator without faults keeps every promise; with faults that lose nothing, too, but for order.
#[test]
fn fault_decorator_around_memory_and_udp() {
    let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port)).into();
    let (one, two) = memory_pair(address(1_001), address(1_002));
    conformance(Pair::new(one, FaultyTransport::new(two, FaultConfig::default())));
    let (one, two) = (udp("127.0.0.1:0").expect("loopback"), udp("127.0.0.1:0").expect("loopback"));
    let delayed: FaultConfig = "delay_ms=3,seed=4".parse().expect("faults");
    conformance(Pair::new(one, FaultyTransport::new(two, delayed)));
}

fn host(directory: &std::path::Path, nonce: u128, change: impl FnOnce(&mut HostConfig)) -> HostTransport {
    let mut config = HostConfig::new(nonce);
    config.runtime_dir = Some(directory.join("isis"));
    change(&mut config);
    HostTransport::open(config).expect("open")
}

#[test]
fn host_over_udp() {
    let base = tempfile::tempdir().expect("tempdir");
    let open = |nonce| host(base.path(), nonce, |config| config.shared_memory = None);
    conformance(Pair::new(open(1), open(2)));
}

/// Two processes of one site find shared memory by themselves; nothing of theirs goes to the network.
#[test]
fn host_over_shared_memory() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut pair = Pair::new(host(base.path(), 1, |_| ()), host(base.path(), 2, |_| ()));
    let begin = Instant::now();
    while pair.ends.iter().any(|end| counter(end.as_ref(), "memory_paths_now") == 0) {
        assert!(begin.elapsed() < LIMIT, "both map the other's log");
        pair.turn(10);
    }
    parts_are_joined(&mut pair);
    lengths(&mut pair);
    bursts(&mut pair);
    members(&mut pair);
    assert_eq!(counter(pair.ends[0].as_ref(), "udp_sent"), 0);
    assert_eq!(counter(pair.ends[0].as_ref(), "memory_sent"), counter(pair.ends[1].as_ref(), "memory_received"));
    nonsense(&mut pair);
    counters(&pair);
}

/// The trait's promises over UDP between two sites.
#[test]
fn host_of_two_sites() {
    let (base, other) = (tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir"));
    conformance(Pair::new(host(base.path(), 1, |_| ()), host(other.path(), 2, |_| ())));
}

/// Where UDP within the site is switched off, the link carries the datagrams.
#[test]
fn host_over_the_link_alone() {
    let base = tempfile::tempdir().expect("tempdir");
    over_the_link(Pair::new(
        host(base.path(), 1, |config| (config.local_udp, config.shared_memory) = (false, None)),
        host(base.path(), 2, |config| (config.local_udp, config.shared_memory) = (false, None)),
    ));
}

/// Where UDP within the site does not work (here: one speaks IPv4 only, the other IPv6 only), the link is found to be
/// needed without being told.
#[test]
fn host_where_udp_fails() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return; // without IPv6 this machine cannot show it
    }
    let base = tempfile::tempdir().expect("tempdir");
    let listen = |address: &'static str| {
        move |config: &mut HostConfig| {
            config.listen = Some(address.parse().expect("address"));
            config.shared_memory = None;
        }
    };
    over_the_link(Pair::new(host(base.path(), 1, listen("127.0.0.1:0")), host(base.path(), 2, listen("[::1]:0"))));
}

/// The suite but for bursts: the link holds few datagrams at a time.
fn over_the_link(mut pair: Pair) {
    let begin = Instant::now();
    while pair.ends.iter().any(|end| counter(end.as_ref(), "site_peers_now") == 0) {
        assert!(begin.elapsed() < LIMIT, "the link connects");
        pair.turn(10);
    }
    parts_are_joined(&mut pair);
    lengths(&mut pair);
    members(&mut pair);
    counters(&pair);
    assert!(counter(pair.ends[0].as_ref(), "link_sent") >= 9);
    assert_eq!(counter(pair.ends[0].as_ref(), "udp_sent"), 0);
}

fn counter(end: &dyn Transport, name: &str) -> u64 {
    end.counters().iter().find(|(other, _)| *other == name).expect("a counter of this name").1
}
