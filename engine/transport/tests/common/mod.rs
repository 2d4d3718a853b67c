//! Real processes of a site, for the tests of it: a child, and a driver of a transport in this process.
//!
//! Children are the test binary, run again for its one ignored test `child`, which their environment tells what to do.

// Each test binary uses its part.
#![allow(dead_code)]

use isis_processes::Children;
use isis_transport::{Datagram, Destination, HostConfig, HostTransport, SiteEvent, Transport};
use isis_wire::Address;
use rustix::process::Signal;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Beyond this nothing comes any more.
pub const LIMIT: Duration = Duration::from_secs(20);
/// Long enough for a wrong notice to show up.
pub const QUIET: Duration = Duration::from_millis(300);
/// A child outlives no test run.
pub const CHILD_LIFE: Duration = Duration::from_secs(60);

const DIRECTORY: &str = "ISIS_TEST_DIRECTORY";
const NONCE: &str = "ISIS_TEST_NONCE";
const ROLE: &str = "ISIS_TEST_ROLE";

pub fn open(base: &Path, nonce: u128) -> HostTransport {
    let mut config = HostConfig::new(nonce);
    config.runtime_dir = Some(base.join("isis"));
    HostTransport::open(config).expect("open")
}

/// A process of the site, until it is killed.
pub struct Process {
    children: Children<String>,
}

impl Process {
    pub fn start(base: &Path, nonce: u128, role: &str) -> Process {
        let mut children = Children::new(str::to_owned);
        let mut program = Command::new(std::env::current_exe().expect("own path"));
        program.args(["child", "--exact", "--ignored", "--nocapture"]).envs([
            (DIRECTORY, base.to_str().expect("UTF-8")),
            (NONCE, &nonce.to_string()),
            (ROLE, role),
        ]);
        children.start(&mut program).expect("a child");
        while !children.hear(LIMIT).expect("lines").expect("the child is ready").1.contains("isis-child-ready") {}
        Process { children }
    }

    pub fn pid(&self) -> u32 {
        self.children.get(0).pid()
    }

    pub fn signal(&self, signal: Signal) {
        self.children.get(0).signal(signal).expect("signal");
    }
}

/// What a child was told: where, who, what. `None`: this is no child.
pub fn orders() -> Option<(PathBuf, u128, String)> {
    let text = |name| std::env::var(name).ok();
    Some((text(DIRECTORY)?.into(), text(NONCE)?.parse().expect("nonce"), text(ROLE)?))
}

/// The child is where its parent wants it to be.
pub fn say_ready() {
    writeln!(std::io::stdout(), "\nisis-child-ready").expect("stdout");
}

/// A child that sends back what it gets, with `echo ` before it. It sleeps until it has something to do, and no longer than
/// `nap_ns`; `None`: until it is woken.
pub fn echo(mut host: HostTransport, nap_ns: Option<u64>) {
    say_ready();
    let begin = Instant::now();
    while begin.elapsed() < CHILD_LIFE {
        let due_ns = host.advance(begin.elapsed().as_nanos() as u64);
        let mut received: Vec<(Address, Vec<u8>)> = Vec::new();
        host.receive_burst(64, &mut |from, bytes| received.push((from, bytes.to_vec())));
        host.transmit_burst(&mut received.iter().map(|(from, bytes)| Datagram {
            destination: Destination::Unicast(*from),
            header: b"echo ",
            payload: bytes,
        }));
        while host.poll_site_event().is_some() {}
        let now_ns = begin.elapsed().as_nanos() as u64;
        host.wait(nap_ns.map(|nap_ns| due_ns.map_or(1_000_000, |due_ns| due_ns.saturating_sub(now_ns)).min(nap_ns)));
    }
}

/// How long a child sleeps that shall be woken by time as well.
pub const NAP_NS: Option<u64> = Some(50_000_000);

/// Drives a transport; keeps its events.
pub struct Driver {
    pub host: HostTransport,
    begin: Instant,
    pub events: Vec<SiteEvent>,
    pub received: Vec<Vec<u8>>,
}

impl Driver {
    pub fn new(host: HostTransport) -> Driver {
        Driver { host, begin: Instant::now(), events: Vec::new(), received: Vec::new() }
    }

    pub fn turn(&mut self) {
        self.host.advance(self.begin.elapsed().as_nanos() as u64);
        self.host.receive_burst(64, &mut |_, bytes| self.received.push(bytes.to_vec()));
        while let Some(event) = self.host.poll_site_event() {
            self.events.push(event);
        }
        self.host.wait(Some(1_000_000));
    }

    /// Turns until `done`; whether it came to that.
    pub fn until(&mut self, done: impl Fn(&Driver) -> bool) -> bool {
        let begin = Instant::now();
        while !done(self) && begin.elapsed() < LIMIT {
            self.turn();
        }
        done(self)
    }

    pub fn quiet(&mut self) {
        let begin = Instant::now();
        while begin.elapsed() < QUIET {
            self.turn();
        }
    }

    pub fn found(&self, nonce: u128) -> Option<(Address, u32)> {
        self.events.iter().find_map(|event| match event {
            SiteEvent::PeerFound { nonce: found, address, pid, .. } if *found == nonce => Some((*address, *pid)),
            _ => None,
        })
    }

    pub fn deaths(&self, nonce: u128) -> usize {
        self.events.iter().filter(|event| **event == SiteEvent::PeerDied { nonce }).count()
    }

    pub fn send(&mut self, to: Address, bytes: &[u8]) {
        let datagram = Datagram { destination: Destination::Unicast(to), header: bytes, payload: b"" };
        self.host.transmit_burst(&mut std::iter::once(datagram));
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.host.counters().iter().find(|(other, _)| *other == name).expect("a counter of this name").1
    }
}
