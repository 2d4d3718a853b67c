//! Runs: datagrams of one length to one destination, which the kernel takes and gives as one piece. Real sockets, on loopback.
//!
//! No test depends on timing: each waits for what must come, up to a limit that is far beyond what any machine needs.

use isis_transport::{Datagram, Destination, MulticastConfig, Transport, UdpConfig, UdpTransport};
use isis_wire::Address;
use std::time::{Duration, Instant};

/// Beyond this nothing comes any more.
const LIMIT: Duration = Duration::from_secs(20);
const GROUP: u64 = 9;

fn open(in_runs: bool, port: u16) -> UdpTransport {
    let config = UdpConfig::new("127.0.0.1:0".parse().expect("address"), u64::from(std::process::id()));
    let multicast = MulticastConfig { port, ..MulticastConfig::default() };
    UdpTransport::open(UdpConfig { in_runs, multicast, ..config }).expect("loopback")
}

fn udp(in_runs: bool) -> UdpTransport {
    open(in_runs, MulticastConfig::default().port)
}

fn counter(udp: &UdpTransport, name: &str) -> u64 {
    udp.counters().iter().find(|(other, _)| *other == name).expect("a counter of this name").1
}

/// Datagrams of these lengths, each of its own bytes: a header and a payload.
fn datagrams(lengths: &[usize]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let byte = |number: usize, at: usize| (number * 31 + at * 7) as u8;
    let bytes = |number: usize, length: usize| (0..length).map(move |at| byte(number, at)).collect::<Vec<u8>>();
    let split = |(number, &length): (usize, &usize)| {
        let mut header = bytes(number, length);
        let payload = header.split_off(length.min(48 + number % 3 * 8));
        (header, payload)
    };
    lengths.iter().enumerate().map(split).collect()
}

/// Sends all of them in one burst to each destination in turn, as a fan-out does.
fn send(udp: &mut UdpTransport, to: &[Destination<'_>], datagrams: &[(Vec<u8>, Vec<u8>)]) {
    let mut burst = datagrams.iter().flat_map(|(header, payload)| {
        to.iter().map(move |&destination| Datagram {
            destination,
            header: header.as_slice(),
            payload: payload.as_slice(),
        })
    });
    let report = udp.transmit_burst(&mut burst);
    assert_eq!((report.datagrams, report.dropped), (datagrams.len() * to.len(), 0), "all are taken");
}

fn receive(udp: &mut UdpTransport, count: usize) -> Vec<(Address, Vec<u8>)> {
    let begin = Instant::now();
    let mut all = Vec::new();
    while all.len() < count && begin.elapsed() < LIMIT {
        if udp.receive_burst(8, &mut |from, bytes| all.push((from, bytes.to_vec()))) == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    all
}

fn whole(from: &UdpTransport, datagrams: &[(Vec<u8>, Vec<u8>)]) -> Vec<(Address, Vec<u8>)> {
    datagrams.iter().map(|(header, payload)| (from.local_address(), [header.as_slice(), payload].concat())).collect()
}

/// What was sent arrives, each datagram by itself, in order; in how many messages it was handed to the kernel.
fn arrives(lengths: &[usize], runs: (bool, bool)) -> u64 {
    let (mut one, mut two) = (udp(runs.0), udp(runs.1));
    let datagrams = datagrams(lengths);
    send(&mut one, &[Destination::Unicast(two.local_address())], &datagrams);
    let received = receive(&mut two, lengths.len());
    assert!(received == whole(&one, &datagrams), "{lengths:?}: {} came", received.len());
    assert_eq!(counter(&one, "udp_sent"), lengths.len() as u64);
    assert_eq!(counter(&two, "udp_received"), lengths.len() as u64);
    counter(&one, "udp_send_messages")
}

#[test]
fn a_run_is_one_message_and_arrives_as_datagrams() {
    let mut lengths = vec![1_400; 40];
    lengths.push(77);
    assert_eq!(arrives(&lengths, (true, true)), 1);
    assert_eq!(arrives(&lengths, (true, false)), 1, "whoever takes each datagram by itself need not know");
    assert_eq!(arrives(&lengths, (false, true)), 41);
}

#[test]
fn what_is_no_run_is_not_made_one() {
    assert_eq!(arrives(&[100, 200, 300, 400], (true, true)), 4, "none is as long as the one before, or shorter");
    assert_eq!(arrives(&[300, 300, 100, 300, 300], (true, true)), 2, "a shorter one ends its run");
    assert_eq!(arrives(&[1, 1, 1], (true, true)), 1);
    assert_eq!(arrives(&[60_000, 60_000], (true, true)), 2, "together they are longer than any message");
    let hundred = arrives(&[1_400; 100], (true, true));
    assert!((3..10).contains(&hundred), "140,000 bytes, in {hundred} messages");
}

/// A fan-out goes to one member after the other, and each gets everything in order.
#[test]
fn a_fan_out_is_a_run_to_each() {
    let mut one = udp(true);
    let mut others = [udp(true), udp(false), udp(true)];
    let datagrams = datagrams(&[1_400; 20]);
    let to: Vec<Destination<'_>> = others.iter().map(|other| Destination::Unicast(other.local_address())).collect();
    send(&mut one, &to, &datagrams);
    for other in &mut others {
        assert!(receive(other, 20) == whole(&one, &datagrams));
    }
    assert_eq!((counter(&one, "udp_sent"), counter(&one, "udp_send_messages")), (60, 3));
}

/// To few datagrams for each of many destinations there is nothing to gain.
#[test]
fn one_to_each_of_many_stays_as_it_is() {
    let mut one = udp(true);
    let mut others: Vec<UdpTransport> = (0..70).map(|_| udp(true)).collect();
    let datagrams = datagrams(&[500]);
    let to: Vec<Destination<'_>> = others.iter().map(|other| Destination::Unicast(other.local_address())).collect();
    send(&mut one, &to, &datagrams);
    for other in &mut others {
        assert!(receive(other, 1) == whole(&one, &datagrams));
    }
    assert_eq!(counter(&one, "udp_send_messages"), 70);
}

/// To a group: by multicast where this machine's loopback has a way for it, else to each member; each datagram once.
#[test]
fn a_run_to_a_group_arrives_at_each_member() {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound").port();
    let mut members: Vec<UdpTransport> = [true, true, false].into_iter().map(|in_runs| open(in_runs, port)).collect();
    for member in &mut members {
        member.join_group(7, GROUP);
    }
    let peers: Vec<Address> = members[1..].iter().map(UdpTransport::local_address).collect();
    let to = Destination::Members { group: GROUP, peers: &peers };
    // Until the probes have shown which way works; where multicast does not, they never do.
    let begin = Instant::now();
    while counter(&members[0], "multicast_paths_now") == 0 && begin.elapsed() < Duration::from_secs(1) {
        send(&mut members[0], &[to], &datagrams(&[20]));
        for member in &mut members {
            member.advance(1 + begin.elapsed().as_nanos() as u64);
            member.receive_burst(64, &mut |_, _| ());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    for member in &mut members {
        while member.receive_burst(64, &mut |_, _| ()) > 0 {}
    }
    let (before, datagrams) = (counter(&members[0], "udp_send_messages"), datagrams(&[1_300; 30]));
    send(&mut members[0], &[to], &datagrams);
    let expected = whole(&members[0], &datagrams);
    for member in &mut members[1..] {
        assert!(receive(member, 30) == expected);
    }
    let messages = counter(&members[0], "udp_send_messages") - before;
    assert_eq!(messages, if counter(&members[0], "multicast_paths_now") > 0 { 1 } else { 2 });
}
