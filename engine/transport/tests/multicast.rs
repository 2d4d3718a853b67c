//! Multicast on a real machine: used where it reaches everybody, unicast fan-out elsewhere, and nobody is told twice.

use isis_transport::{Datagram, Destination, MulticastConfig, Transport, UdpConfig, UdpTransport};
use isis_wire::Address;
use std::time::{Duration, Instant};

/// Beyond this nothing comes any more.
const LIMIT: Duration = Duration::from_secs(20);
const SYSTEM: u128 = 0x1234_5678;
const GROUP: u64 = 9;

struct Member {
    udp: UdpTransport,
    received: Vec<(Address, Vec<u8>)>,
}

fn member(token: u64, port: u16) -> Member {
    member_at("127.0.0.1:0", token, port)
}

fn member_at(listen: &str, token: u64, port: u16) -> Member {
    let mut config = UdpConfig::new(listen.parse().expect("address"), token);
    config.multicast = MulticastConfig { port, ..MulticastConfig::default() };
    Member { udp: UdpTransport::open(config).expect("loopback"), received: Vec::new() }
}

/// A port for multicasts that no other test uses.
fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound").port()
}

fn counter(udp: &UdpTransport, name: &str) -> u64 {
    udp.counters().iter().find(|(other, _)| *other == name).expect("a counter of this name").1
}

/// Member 0 sends numbered datagrams to the others, everybody turns, until `done`. How many it sent.
fn run(members: &mut [Member], peers: &[Address], done: impl Fn(&[Member]) -> bool, limit: Duration) -> u32 {
    let begin = Instant::now();
    let mut number = 0_u32;
    while !done(members) && begin.elapsed() < limit {
        for member in members.iter_mut() {
            member.udp.advance(1 + begin.elapsed().as_nanos() as u64);
            member.udp.receive_burst(64, &mut |from, bytes| member.received.push((from, bytes.to_vec())));
        }
        number += 1;
        let payload = number.to_le_bytes();
        let destination = Destination::Members { group: GROUP, peers };
        members[0].udp.transmit_burst(&mut std::iter::once(Datagram { destination, header: b"m", payload: &payload }));
        std::thread::sleep(Duration::from_micros(500));
    }
    for _ in 0..10 {
        for member in members.iter_mut() {
            member.udp.receive_burst(64, &mut |from, bytes| member.received.push((from, bytes.to_vec())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    number
}

/// Every number from the sender's unicast address, each once, in order, before and after the change.
fn check(members: &[Member], sent: u32) {
    let from = members[0].udp.local_address();
    assert!(members[0].received.is_empty(), "nobody hears himself");
    for member in &members[1..] {
        let expected = (1..=sent).map(|number| (from, [b"m".as_slice(), &number.to_le_bytes()].concat()));
        assert!(member.received.iter().cloned().eq(expected), "{} of {sent}", member.received.len());
    }
}

#[test]
fn confirmed_paths_are_multicast_to() {
    confirmed_paths("127.0.0.1:0", LIMIT);
}

/// Linux gives its loopback no route for IPv6 multicasts, so this usually shows that fan-out goes on.
#[test]
fn confirmed_paths_are_multicast_to_v6() {
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        confirmed_paths("[::1]:0", Duration::from_secs(1));
    }
}

fn confirmed_paths(listen: &str, limit: Duration) {
    let port = free_port();
    let mut members: Vec<Member> = (0..3).map(|token| member_at(listen, token, port)).collect();
    for member in &mut members {
        member.udp.join_group(SYSTEM, GROUP);
    }
    let peers: Vec<Address> = members[1..].iter().map(|member| member.udp.local_address()).collect();
    let sent = run(&mut members, &peers, |members| counter(&members[0].udp, "udp_sent_multicast") >= 20, limit);
    check(&members, sent);
    let mut report = String::new();
    members[0].udp.path_report(&mut report);
    if counter(&members[0].udp, "udp_sent_multicast") == 0 {
        // A machine that cannot multicast on loopback at all: then the report must say so.
        assert!(report.contains("one datagram to each member"), "{report}");
        return;
    }
    assert!(report.contains("multicast reaches every member"), "{report}");
    assert_eq!(counter(&members[0].udp, "ignore_own_datagram"), 0, "the kernel keeps own datagrams away");
}

/// One member cannot hear multicasts: all get theirs by unicast, and the report names the path and the direction.
#[test]
fn one_deaf_member_means_fan_out() {
    let port = free_port();
    let mut members: Vec<Member> = (0..2).map(|token| member(token, port)).collect();
    members.push(member(2, free_port()));
    for member in &mut members {
        member.udp.join_group(SYSTEM, GROUP);
    }
    let peers: Vec<Address> = members[1..].iter().map(|member| member.udp.local_address()).collect();
    let sent = run(&mut members, &peers, |_| false, Duration::from_millis(400));
    check(&members, sent);
    assert_eq!(counter(&members[0].udp, "udp_sent_multicast"), 0);
    assert!(counter(&members[0].udp, "multicast_probes_sent") >= 2, "it was tried");
    let mut report = String::new();
    members[0].udp.path_report(&mut report);
    assert!(report.contains(&format!("multicast from here to {:?}: FAILS", peers[1])), "{report}");
}

/// A member that stops to hear multicasts gets unicasts again.
#[test]
fn a_lost_path_falls_back() {
    let port = free_port();
    let mut members: Vec<Member> = (0..3).map(|token| member(token, port)).collect();
    for member in &mut members {
        member.udp.join_group(SYSTEM, GROUP);
    }
    let peers: Vec<Address> = members[1..].iter().map(|member| member.udp.local_address()).collect();
    run(&mut members, &peers, |members| counter(&members[0].udp, "udp_sent_multicast") >= 1, LIMIT);
    if counter(&members[0].udp, "udp_sent_multicast") == 0 {
        return; // no multicast on this machine: `confirmed_paths_are_multicast_to` checks the report
    }
    members[2].udp.leave_group(GROUP);
    run(&mut members, &peers, |members| counter(&members[0].udp, "multicast_paths_lost") == 1, LIMIT);
    assert_eq!(counter(&members[0].udp, "multicast_paths_lost"), 1);
    members[2].received.clear();
    run(&mut members, &peers, |members| members[2].received.len() >= 5, LIMIT);
    assert!(members[2].received.len() >= 5, "by unicast");
}
