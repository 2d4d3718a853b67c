//! The site link with real processes: found without configuration, known dead for certain, and only then.

mod common;

use common::{CHILD_LIFE, Driver, NAP_NS, Process, echo, open, orders, say_ready};
use isis_transport::{Founding, SiteEvent, Transport};
use rustix::process::Signal;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Bytes of a process that takes long to exit.
const LARGE: usize = 64 << 20;

#[test]
#[ignore = "the body of the children of the other tests"]
fn child() {
    let Some((base, nonce, role)) = orders() else { return };
    if role == "descriptors" {
        check_descriptors(&base);
    }
    let mut host = open(&base, nonce);
    if let Some(system) = role.strip_prefix("joined ") {
        host.joined(system.parse().expect("system")).expect("joined");
    }
    if role == "forker" {
        // SAFETY: this process has no other thread that matters to the child, which only sleeps and leaves.
        if unsafe { libc::fork() } == 0 {
            std::thread::sleep(CHILD_LIFE / 4);
            // SAFETY: leaves at once, without running what the parent registered.
            unsafe { libc::_exit(0) };
        }
    }
    // The kernel needs a while to take this apart.
    let memory = vec![1_u8; if role == "large" { LARGE } else { 0 }];
    assert!(std::hint::black_box(&memory).iter().all(|byte| *byte == 1));
    if role == "thread" {
        // Driven by a thread until somebody was found, then by this one.
        say_ready();
        host = std::thread::spawn(|| {
            let begin = std::time::Instant::now();
            while host.poll_site_event().is_none() && begin.elapsed() < CHILD_LIFE {
                host.advance(begin.elapsed().as_nanos() as u64);
                std::thread::yield_now();
            }
            host
        })
        .join()
        .expect("no panic");
    }
    echo(host, NAP_NS);
}

/// Discovery on one host works with no configuration; a `kill -9` is told, once, and while the dead one is a zombie.
#[test]
fn found_and_killed() {
    let base = tempfile::tempdir().expect("tempdir");
    let before = Process::start(base.path(), 11, "idle");
    let mut driver = Driver::new(open(base.path(), 1));
    let after = Process::start(base.path(), 12, "idle");
    assert!(driver.until(|driver| driver.found(11).is_some() && driver.found(12).is_some()));
    assert_eq!(driver.found(11).map(|(_, pid)| pid), Some(before.pid()));
    assert_eq!(driver.found(12).map(|(_, pid)| pid), Some(after.pid()));

    let address = driver.found(12).expect("found").0;
    driver.send(address, b"hello");
    assert!(driver.until(|driver| driver.received.contains(&b"echo hello".to_vec())));

    // Not waited for: it stays a zombie until the end of the test.
    before.signal(Signal::KILL);
    assert!(driver.until(|driver| driver.deaths(11) > 0), "a zombie is dead");
    driver.quiet();
    assert_eq!((driver.deaths(11), driver.deaths(12)), (1, 0));
    assert!(driver.host.is_dead(11) && !driver.host.is_dead(12));
    let left: Vec<String> = names(&base.path().join("isis"));
    assert!(left.iter().all(|name| !name.starts_with(&format!("{:032x}", 11))), "nothing is left of it: {left:?}");
}

/// Two that start at one moment connect to each other, both ways perhaps; neither gives a connection up.
#[test]
fn connections_stay() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut one = Driver::new(open(base.path(), 1));
    let mut two = Driver::new(open(base.path(), 2));
    assert!(one.until(|one| one.found(2).is_some()) && two.until(|two| two.found(1).is_some()));
    one.quiet();
    two.quiet();
    assert_eq!((one.counter("site_hang_ups"), two.counter("site_hang_ups")), (0, 0));
}

/// A `kill -9` is told before the kernel has taken the process apart.
#[test]
fn an_exit_is_noticed_at_its_beginning() {
    const KILLS: u64 = 10;
    let base = tempfile::tempdir().expect("tempdir");
    let mut driver = Driver::new(open(base.path(), 1));
    for nonce in 11..11 + KILLS {
        let process = Process::start(base.path(), nonce.into(), "large");
        assert!(driver.until(|driver| driver.found(nonce.into()).is_some()));
        // Its notice follows its HELLO; when an answer is here, so is that.
        let address = driver.found(nonce.into()).expect("found").0;
        driver.received.clear();
        assert!(driver.until(|driver| driver.counter("local_paths_link_now") == 0));
        driver.send(address, b"there?");
        assert!(driver.until(|driver| driver.received.contains(&b"echo there?".to_vec())));
        process.signal(Signal::KILL);
        assert!(driver.until(|driver| driver.deaths(nonce.into()) == 1));
    }
    let noticed = driver.counter("site_deaths_by_notice");
    assert_eq!(noticed + driver.counter("site_deaths_by_exit") + driver.counter("site_deaths_by_file"), KILLS);
    if driver.counter("site_notice_refused") > 0 {
        assert_eq!(noticed, 0, "as is this process, so are the others");
        let _ = writeln!(std::io::stderr(), "not tried: this system gives no io_uring");
    } else {
        assert!(noticed > 0, "the kernel was faster {KILLS} times");
    }
}

/// The thread that drove the link at first ends, and its notice rings: nobody is dead, and the later death is told.
#[test]
fn a_thread_that_ends_is_no_death() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut driver = Driver::new(open(base.path(), 1));
    let process = Process::start(base.path(), 11, "thread");
    assert!(driver.until(|driver| driver.found(11).is_some()));
    if driver.counter("site_notice_refused") == 0 {
        assert!(driver.until(|driver| driver.counter("site_notices_unclear") == 1));
    }
    // Whom it meets later it gives one of the thread that drives it now.
    let mut later = Driver::new(open(base.path(), 2));
    assert!(later.until(|later| later.found(11).is_some()) && driver.until(|driver| driver.found(2).is_some()));
    later.quiet();
    driver.quiet();
    assert_eq!((driver.deaths(11), later.deaths(11), later.counter("site_notices_unclear")), (0, 0, 0));
    process.signal(Signal::KILL);
    assert!(driver.until(|driver| driver.deaths(11) == 1) && later.until(|later| later.deaths(11) == 1));
    assert_eq!(driver.counter("site_deaths_by_notice"), 0);
}

/// A process that hangs is not dead.
#[test]
fn stopped_is_not_dead() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut driver = Driver::new(open(base.path(), 1));
    let process = Process::start(base.path(), 11, "idle");
    assert!(driver.until(|driver| driver.found(11).is_some()));
    process.signal(Signal::STOP);
    driver.quiet();
    assert_eq!(driver.deaths(11), 0);
    process.signal(Signal::CONT);
    let address = driver.found(11).expect("found").0;
    assert!(driver.until(|driver| driver.counter("local_paths_link_now") == 0));
    driver.send(address, b"awake?");
    assert!(driver.until(|driver| driver.received.contains(&b"echo awake?".to_vec())));
    process.signal(Signal::KILL);
    assert!(driver.until(|driver| driver.deaths(11) == 1));
}

/// A forked child that holds its dead parent's sockets, files and locks hides the death from nobody.
#[test]
fn a_forked_child_does_not_hide_the_death() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut driver = Driver::new(open(base.path(), 1));
    let process = Process::start(base.path(), 11, "forker");
    assert!(driver.until(|driver| driver.found(11).is_some()));
    process.signal(Signal::KILL);
    assert!(driver.until(|driver| driver.deaths(11) == 1));
    assert!(driver.host.is_dead(11), "by the directory, too");
    let mut later = Driver::new(open(base.path(), 2));
    later.quiet();
    assert!(later.found(11).is_none(), "nobody talks to the child in its name");
}

/// One of several instances in a process ends with a FAREWELL; the process goes on.
#[test]
fn farewell_is_a_death() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut one = Driver::new(open(base.path(), 1));
    let mut two = Driver::new(open(base.path(), 2));
    let mut three = Driver::new(open(base.path(), 3));
    assert!(one.until(|one| one.found(2).is_some() && one.found(3).is_some()));
    assert!(two.until(|two| two.found(1).is_some()));
    assert!(three.until(|three| three.found(1).is_some()));
    two.host.farewell();
    assert!(one.until(|one| one.deaths(2) == 1));
    drop(three);
    assert!(one.until(|one| one.deaths(3) == 1));
    assert_eq!((one.counter("site_deaths_by_farewell"), one.counter("site_peers_now")), (2, 0));
    drop((one, two));
    assert_eq!(names(&base.path().join("isis")), ["site.lock"; 0], "the directory is empty");
}

/// A site belongs to the system of its live processes; when all are killed at once, it belongs to none.
#[test]
fn the_record_survives_kill_of_all() {
    let base = tempfile::tempdir().expect("tempdir");
    let processes = [Process::start(base.path(), 11, "joined 500"), Process::start(base.path(), 12, "joined 500")];
    let mut host = open(base.path(), 1);
    assert_eq!(host.found(600).expect("found"), Founding::BelongsTo(500));
    assert_eq!(host.found(500).expect("found"), Founding::Granted, "the same system is no conflict");
    drop(host);
    for process in &processes {
        process.signal(Signal::KILL);
    }
    drop(processes);
    assert!(names(&base.path().join("isis")).len() > 1, "they left their files behind");
    let mut host = open(base.path(), 2);
    assert_eq!(host.found(600).expect("found"), Founding::Granted);
    let left = names(&base.path().join("isis"));
    assert!(left.iter().all(|name| name == "site.lock" || name.starts_with(&format!("{:032x}", 2))), "{left:?}");
}

/// Many start at once: every pair finds each other.
#[test]
fn all_pairs_of_a_concurrent_start() {
    const INSTANCES: u128 = 8;
    let base = tempfile::tempdir().expect("tempdir");
    let base = base.path();
    let barrier = std::sync::Barrier::new(INSTANCES as usize);
    let complete = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for nonce in 1..=INSTANCES {
            let (barrier, complete) = (&barrier, &complete);
            scope.spawn(move || {
                barrier.wait();
                let mut driver = Driver::new(open(base, nonce));
                let all = driver.until(|driver| driver.events.len() as u128 == INSTANCES - 1);
                let by_udp = driver.until(|driver| driver.counter("local_paths_link_now") == 0);
                // Everybody goes on answering until all are content.
                complete.fetch_add(u32::from(all && by_udp), Ordering::SeqCst);
                let everybody = driver.until(|_| u128::from(complete.load(Ordering::SeqCst)) == INSTANCES);
                assert!(everybody, "{:?}\n{}", driver.events, driver.host.path_report());
                assert!((1..=INSTANCES).filter(|other| *other != nonce).all(|other| driver.found(other).is_some()));
            });
        }
    });
}

/// Strangers on the sockets: counted and dropped, and service goes on.
#[test]
fn garbage_is_counted() {
    use rustix::net::{self, AddressFamily, SendFlags, SocketAddrUnix, SocketType};
    let base = tempfile::tempdir().expect("tempdir");
    let mut driver = Driver::new(open(base.path(), 1));
    let path = base.path().join("isis").join(format!("{:032x}.sock", 1));
    let stranger = net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("socket");
    net::connect(&stranger, &SocketAddrUnix::new(&path).expect("path")).expect("connect");
    // DATA before HELLO, a HELLO that is too short, noise, a HELLO in the name of the host itself.
    let mut own_hello = b"iL\x02\x01\0\0\0\0".to_vec();
    own_hello.extend_from_slice(&1_u128.to_le_bytes());
    own_hello.extend_from_slice(&[0; 34]);
    for bytes in [&b"iL\x02\x03\0\0\0\0data"[..], b"iL\x02\x01\0\0\0\0short", b"noise", &own_hello] {
        net::send(&stranger, bytes, SendFlags::empty()).expect("send");
    }
    assert!(driver.until(|driver| driver.counter("ignore_link_message") >= 4));
    let newer = net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("socket");
    net::connect(&newer, &SocketAddrUnix::new(&path).expect("path")).expect("connect");
    net::send(&newer, b"iL\x09\x01\0\0\0\0", SendFlags::empty()).expect("send");
    assert!(driver.until(|driver| driver.events.contains(&SiteEvent::Incompatible { version: 9 })));

    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let to = driver.host.local_address().to_socket();
    let mut probe = b"\xf5isispr\x01".to_vec();
    for _ in 0..200 {
        udp.send_to(&probe, to).expect("send");
        probe.push(0xff);
    }
    udp.send_to(&[], to).expect("send");
    udp.send_to(b"engine's to judge", to).expect("send");
    assert!(driver.until(|driver| driver.received.iter().any(|bytes| bytes == b"engine's to judge")));
    assert!(driver.counter("ignore_control") >= 199);

    let process = Process::start(base.path(), 11, "idle");
    assert!(driver.until(|driver| driver.found(11).is_some()));
    drop(process);
    assert!(driver.until(|driver| driver.deaths(11) == 1));
    assert_eq!(driver.events.len(), 3, "{:?}", driver.events);
}

/// The death of a process that a view names is told even if it was never met.
#[test]
fn watched_processes() {
    let base = tempfile::tempdir().expect("tempdir");
    let mut driver = Driver::new(open(base.path(), 1));
    driver.host.watch_process(77);
    assert!(driver.until(|driver| driver.deaths(77) == 1), "no such process: it is over");
    let process = Process::start(base.path(), 11, "idle");
    driver.host.watch_process(11);
    driver.quiet();
    assert_eq!(driver.deaths(11), 0);
    drop(process);
    assert!(driver.until(|driver| driver.deaths(11) == 1));
}

/// No descriptor is handed to programs that the application starts. In a process of its own, as others open some, too.
#[test]
fn descriptors_are_close_on_exec() {
    let base = tempfile::tempdir().expect("tempdir");
    drop(Process::start(base.path(), 11, "descriptors"));
}

/// In a child: opens one of everything, and compares what a program started now would inherit with what it would before.
fn check_descriptors(base: &Path) {
    let before = inherited();
    let mut driver = Driver::new(open(base, 21));
    let mut other = Driver::new(open(base, 22));
    driver.host.join_group(5, 6);
    let all = std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
    assert!(driver.until(|driver| driver.found(22).is_some()) && other.until(|other| other.found(21).is_some()));
    assert!(all >= before.len() + 12, "the new ones were looked at: {all}");
    assert_eq!(inherited(), before);
}

/// The descriptors without close-on-exec.
fn inherited() -> Vec<String> {
    let mut inherited = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo").expect("fdinfo") {
        let entry = entry.expect("entry");
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
        if i32::from_str_radix(flags, 8).expect("octal") & libc::O_CLOEXEC == 0 {
            inherited.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    inherited.sort();
    inherited
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .expect("directory")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
