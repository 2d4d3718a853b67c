//! Rule R12 over the real transport: sites on this host, each with a runtime directory, a name and a state directory of its
//! own, found a system only when a majority of the expected ones is there.

use isis_runtime::{Mode, Node, NodeError, NodeEvent, Options, WaitStrategy};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a node has told.
struct Site {
    node: Node,
    system: Option<u128>,
    members: usize,
    stalled: bool,
    ended: bool,
}

/// Free ports, one a site.
fn addresses(count: usize) -> Vec<SocketAddr> {
    let sockets: Vec<UdpSocket> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket")).collect();
    sockets.iter().map(|socket| socket.local_addr().expect("an address")).collect()
}

fn options(base: &Path, addresses: &[SocketAddr], which: usize) -> Options {
    let folder = base.join(which.to_string());
    std::fs::create_dir_all(folder.join("state")).expect("a directory");
    Options {
        mode: Mode::Inline,
        wait: WaitStrategy::Block,
        bind: Some(addresses[which].ip()),
        port: addresses[which].port(),
        seeds: addresses.to_vec(),
        runtime_dir: Some(folder.join("run")),
        expected_sites: Some(3),
        site_name: Some(format!("site-{which}")),
        state_dir: Some(folder.join("state")),
        ..Options::new()
    }
}

fn open(base: &Path, addresses: &[SocketAddr], which: usize) -> Site {
    let node = Node::open(options(base, addresses, which)).expect("opens");
    Site { node, system: None, members: 0, stalled: false, ended: false }
}

fn turn(sites: &mut [&mut Site]) {
    for site in sites.iter_mut().filter(|site| !site.ended) {
        site.node.wait(Some(1_000_000)).expect("no error");
        while let Some(event) = site.node.poll_event().expect("no error") {
            match event {
                NodeEvent::SystemJoined { system, .. } => site.system = Some(system.0),
                NodeEvent::SystemView(view) => site.members = view.members.len(),
                NodeEvent::Stalled => site.stalled = true,
                NodeEvent::Resumed => site.stalled = false,
                NodeEvent::Evicted => site.ended = true,
                _ => {}
            }
        }
    }
}

fn until(what: &str, sites: &mut [&mut Site], holds: impl Fn(&[&mut Site]) -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds(sites) {
        assert!(Instant::now() < end, "waited in vain: {what}");
        turn(sites);
    }
}

#[test]
fn a_majority_of_the_expected_sites_founds_and_a_minority_stalls() {
    let directory = tempfile::tempdir().expect("a directory");
    let base = directory.path();
    let addresses = addresses(3);
    let mut a = open(base, &addresses, 0);
    // Nobody else is there: no view, however long it looks. (Discovery takes 0.2 s.)
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        turn(&mut [&mut a]);
    }
    let ballots = |site: &Site| {
        let counters = site.node.counters();
        counters.iter().find(|(name, _)| *name == "founding_ballots").map_or(0, |(_, value)| *value)
    };
    assert!(a.system.is_none() && ballots(&a) > 0, "it tried, alone");
    let mut b = open(base, &addresses, 1);
    until("two found", &mut [&mut a, &mut b], |sites| sites.iter().all(|site| site.members == 2));
    let mut c = open(base, &addresses, 2);
    until("the third joins", &mut [&mut a, &mut b, &mut c], |sites| sites.iter().all(|site| site.members == 3));
    let first = a.system.expect("a system");
    assert_eq!((b.system, c.system), (Some(first), Some(first)));

    drop((a, b));
    until("the last one stalls", &mut [&mut c], |sites| sites[0].stalled);
    // The first site comes back and inherits its record. It may not found: for all that it knows the second is alive.
    let mut a = open(base, &addresses, 0);
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        turn(&mut [&mut a, &mut c]);
    }
    assert!(a.system.is_none() && !c.ended, "one site is no majority");
    let mut b = open(base, &addresses, 1);
    until("the next system", &mut [&mut a, &mut b, &mut c], |sites| sites.iter().take(2).all(|site| site.members >= 2));
    assert!(a.system != Some(first) && a.system == b.system, "founding 1 is over");
    until("the third gives the lost system up", &mut [&mut a, &mut b, &mut c], |sites| sites[2].ended);
    drop(c);
    let mut c = open(base, &addresses, 2);
    let next = a.system;
    until("the third is back", &mut [&mut a, &mut b, &mut c], |sites| sites[2].system == next);
    let record = std::fs::read(base.join("0/state/site-0.record")).expect("a record");
    let record = isis_wire::founding::SiteRecord::decode(&record).expect("a whole record");
    assert!(record.decided >= 2 && Some(record.foundation.system.0) == a.system, "{record:?}");
}

#[test]
fn a_site_that_cannot_pledge_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let addresses = addresses(1);
    let good = options(directory.path(), &addresses, 0);
    let error = Node::open(Options { site_name: None, ..good.clone() }).expect_err("no name");
    assert!(matches!(error, NodeError::Option(_)) && error.to_string().contains("site_name"), "{error}");
    let error = Node::open(Options { state_dir: None, ..good.clone() }).expect_err("no directory");
    assert!(error.to_string().contains("state_dir"), "{error}");
    let missing = Some(directory.path().join("missing"));
    let error = Node::open(Options { state_dir: missing, ..good.clone() }).expect_err("it does not exist");
    assert!(error.to_string().contains("state directory"), "{error}");
    let _site = Node::open(Options { port: 0, ..good.clone() }).expect("opens");
    let elsewhere = Some(directory.path().join("elsewhere"));
    let error = Node::open(Options { port: 0, runtime_dir: elsewhere, ..good }).expect_err("another site of the name");
    assert!(error.to_string().contains("in use"), "{error}");
}
