//! Shared memory with real processes: whoever is killed, stopped or asleep harms nobody else, and sleeps through nothing.

mod common;

use common::{CHILD_LIFE, Driver, LIMIT, NAP_NS, Process, echo, open, orders, say_ready};
use isis_transport::{Datagram, Destination, HostConfig, HostTransport, SiteEvent, Transport};
use isis_wire::Address;
use rustix::process::Signal;
use std::path::Path;
use std::time::Instant;

/// Processes killed in the midst of writing.
const KILLS: u128 = 25;

#[test]
#[ignore = "the body of the children of the other tests"]
fn child() {
    let Some((base, nonce, role)) = orders() else { return };
    match role.as_str() {
        "flood" => flood(open(&base, nonce)),
        "small log" => echo(open_with(&base, nonce, |config| config.shared_memory = Some(1 << 20)), NAP_NS),
        "sleeper" => echo(open(&base, nonce), None),
        _ => echo(open(&base, nonce), NAP_NS),
    }
}

fn open_with(base: &Path, nonce: u128, change: impl FnOnce(&mut HostConfig)) -> HostTransport {
    let mut config = HostConfig::new(nonce);
    config.runtime_dir = Some(base.join("isis"));
    change(&mut config);
    HostTransport::open(config).expect("open")
}

/// A datagram that shows whether it is whole: its number, again and again, as long as the number says.
fn pattern(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(1 + (number * 37 % 500) as usize)
}

fn is_whole(bytes: &[u8]) -> bool {
    bytes.first_chunk::<8>().is_some_and(|number| bytes == pattern(u64::from_le_bytes(*number)))
}

/// In a child: sends patterns to everybody whom it reaches by shared memory, without end.
fn flood(mut host: HostTransport) {
    let begin = Instant::now();
    let mut peers: Vec<Address> = Vec::new();
    let mut number = 0;
    while begin.elapsed() < CHILD_LIFE {
        host.advance(begin.elapsed().as_nanos() as u64);
        host.receive_burst(64, &mut |_, _| ());
        while let Some(event) = host.poll_site_event() {
            if let SiteEvent::PeerFound { address, .. } = event {
                peers.push(address);
            }
        }
        let reached = host.counters().iter().any(|(name, value)| *name == "memory_paths_now" && *value > 0);
        if !reached {
            continue;
        }
        if number == 0 {
            say_ready();
        }
        let payloads: Vec<Vec<u8>> = (number + 1..=number + 50).map(pattern).collect();
        number += 50;
        host.transmit_burst(&mut payloads.iter().map(|payload| Datagram {
            destination: Destination::Members { group: 1, peers: &peers },
            header: &payload[..3],
            payload: &payload[3..],
        }));
    }
}

/// Turns until so many peers are reached by shared memory.
fn connected(driver: &mut Driver, peers: u64) {
    assert!(driver.until(|driver| driver.counter("memory_paths_now") == peers), "{}", driver.host.path_report());
}

/// Turns until this peer answers by shared memory, too.
fn both_ways(driver: &mut Driver, to: Address) {
    let begin = Instant::now();
    while driver.counter("memory_received") == 0 {
        assert!(begin.elapsed() < LIMIT, "no answer by shared memory\n{}", driver.host.path_report());
        driver.send(to, b"there?");
        driver.quiet();
    }
}

/// Writers killed at any instruction: what they published is whole, what they did not is never seen, the next one's log is
/// read like the first one's, and nothing of the dead is left.
#[test]
fn killed_writers_leave_whole_datagrams() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut driver = Driver::new(open(base.path(), 1));
    for nonce in 11..11 + KILLS {
        // It is ready once it reaches us, and it needs our answer for that.
        let begin = Instant::now();
        let process = std::thread::scope(|scope| {
            let starts = scope.spawn(|| Process::start(base.path(), nonce, "flood"));
            while !starts.is_finished() && begin.elapsed() < LIMIT {
                driver.turn();
            }
            starts.join().expect("a flood")
        });
        let log = own_log(process.pid()).1;
        let before = driver.counter("memory_received");
        driver.received.clear();
        assert!(driver.until(|driver| driver.counter("memory_received") > before + 200));
        process.signal(Signal::KILL);
        assert!(driver.until(|driver| driver.deaths(nonce) == 1));
        let torn = driver.received.iter().filter(|bytes| !is_whole(bytes)).count();
        assert_eq!((torn, driver.counter("memory_refused")), (0, 0), "of {}", driver.received.len());
        assert_eq!(driver.counter("memory_paths_now"), 0);
        let unmapped = |_: &Driver| logs("self").iter().all(|other| other.inode != log);
        assert!(driver.until(unmapped), "its log is not mapped any more, a little later");
    }
}

/// A reader that is stopped holds up neither the writer nor the other reader; when it goes on it has lost datagrams, knows
/// it, and reads on.
#[test]
fn a_stopped_reader_holds_up_nobody() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut driver = Driver::new(open_with(base.path(), 1, |config| config.shared_memory = Some(1 << 20)));
    let (stopped, other) = (Process::start(base.path(), 11, "echo"), Process::start(base.path(), 12, "echo"));
    connected(&mut driver, 2);
    let peers = [11, 12].map(|nonce| driver.found(nonce).expect("found").0);
    stopped.signal(Signal::STOP);
    let status = || std::fs::read_to_string(format!("/proc/{}/status", stopped.pid())).expect("status");
    while !status().contains("State:\tT") {
        driver.turn();
    }
    // Four times what the log holds, slowly enough for a reader that runs.
    let mut echoes = 0;
    for number in 0..4_u64 << 8 {
        let bytes = [&number.to_le_bytes()[..], &[7; 4_088]].concat();
        let to_all = Destination::Members { group: 1, peers: &peers };
        let report = driver.host.transmit_burst(&mut std::iter::once(Datagram {
            destination: to_all,
            header: &bytes,
            payload: b"",
        }));
        assert_eq!((report.sent, report.dropped), (1, 0));
        let wanted = [b"echo ", &bytes[..]].concat();
        assert!(driver.until(|driver| driver.received.contains(&wanted)), "the other one answers {number}");
        echoes += driver.received.iter().filter(|bytes| **bytes == wanted).count();
        driver.received.clear();
    }
    assert_eq!(echoes, 4 << 8, "each once: the stopped one is silent");
    stopped.signal(Signal::CONT);
    driver.send(peers[0], b"awake?");
    // What was written before the reader noticed is lost with the rest; what is written then is not.
    let begin = Instant::now();
    while !driver.received.contains(&b"echo awake?".to_vec()) {
        assert!(begin.elapsed() < LIMIT, "no answer");
        driver.send(peers[0], b"awake?");
        driver.quiet();
    }
    drop(other);
}

/// Who sleeps without end is woken by what is written for it; no wake-up is lost in many sleeps.
#[test]
fn sleepers_are_woken() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut driver = Driver::new(open(base.path(), 1));
    let _process = Process::start(base.path(), 11, "sleeper");
    connected(&mut driver, 1);
    let to = driver.found(11).expect("found").0;
    both_ways(&mut driver, to);
    let before = (driver.counter("memory_sent"), driver.counter("memory_received"));
    for number in 0..300_u64 {
        driver.send(to, &number.to_le_bytes());
        let begin = Instant::now();
        let wanted = [b"echo ", &number.to_le_bytes()[..]].concat();
        while !driver.received.contains(&wanted) {
            assert!(begin.elapsed() < LIMIT, "no answer to {number}");
            driver.turn();
        }
        driver.received.clear();
    }
    assert!(driver.counter("memory_bells_rung") > 0, "the other one slept between");
    let after = (driver.counter("memory_sent"), driver.counter("memory_received"));
    assert_eq!(after, (before.0 + 300, before.1 + 300), "nothing by other paths");
}

/// Logs need not be of one length; a process without shared memory is reached as before.
#[test]
fn with_and_without() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut driver = Driver::new(open(base.path(), 1));
    let _small = Process::start(base.path(), 11, "small log");
    connected(&mut driver, 1);
    let mut without = Driver::new(open_with(base.path(), 2, |config| config.shared_memory = None));
    assert!(driver.until(|driver| driver.found(2).is_some()) && without.until(|without| without.found(11).is_some()));
    let (small, second) = (driver.found(11).expect("found").0, driver.found(2).expect("found").0);
    driver.send(small, &[3; 60_000]);
    driver.send(second, b"by another way");
    assert!(driver.until(|driver| driver.received.iter().any(|bytes| bytes.len() == 60_005)));
    assert!(without.until(|without| without.received.contains(&b"by another way".to_vec())));
    without.send(small, b"there?");
    assert!(without.until(|without| without.received.contains(&b"echo there?".to_vec())));
    assert_eq!((driver.counter("memory_sent"), without.counter("memory_sent")), (1, 0));
}

/// A log that became nonsense is read no more, its owner is told, and goes on by the other paths.
#[test]
fn a_spoilt_log_is_given_up() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut driver = Driver::new(open(base.path(), 1));
    let process = Process::start(base.path(), 11, "echo");
    connected(&mut driver, 1);
    let to = driver.found(11).expect("found").0;
    both_ways(&mut driver, to);
    let before = (driver.counter("memory_sent"), driver.counter("memory_received"));
    spoil(process.pid());
    assert!(driver.until(|driver| driver.counter("memory_refused") == 1));
    assert_eq!(driver.counter("memory_paths_now"), 0);
    // Its answer is lost if it is written before it is told.
    let begin = Instant::now();
    while !driver.received.contains(&b"echo after".to_vec()) {
        assert!(begin.elapsed() < LIMIT, "no answer by another way\n{}", driver.host.path_report());
        driver.send(to, b"after");
        driver.quiet();
    }
    assert_eq!((driver.counter("memory_sent"), driver.counter("memory_received")), before);
}

/// A log that is mapped in a process.
struct Mapped {
    inode: u64,
    begin: u64,
    writable: bool,
}

fn logs(process: &str) -> Vec<Mapped> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("maps");
    let parse = |line: &str| {
        let mut fields = line.split_whitespace();
        let begin = u64::from_str_radix(fields.next()?.split('-').next()?, 16).ok()?;
        let writable = fields.next()?.starts_with("rw");
        Some(Mapped { inode: fields.nth(2)?.parse().ok()?, begin, writable })
    };
    maps.lines().filter(|line| line.contains("memfd:isis")).map(|line| parse(line).expect("a mapping")).collect()
}

/// Address and inode of the one log that a process writes.
fn own_log(pid: u32) -> (u64, u64) {
    let own: Vec<Mapped> = logs(&pid.to_string()).into_iter().filter(|log| log.writable).collect();
    assert_eq!(own.len(), 1, "a process has one log, and maps those of others for reading only");
    (own[0].begin, own[0].inode)
}

/// Sets what a process has published back, as nothing that it does can.
fn spoil(pid: u32) {
    use std::os::unix::fs::FileExt;
    let memory = std::fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/mem")).expect("its memory");
    memory.write_at(&1_u64.to_le_bytes(), own_log(pid).0 + 17 * 8).expect("the published position");
}
