//! Members on several hosts: network namespaces with interfaces of their own, joined by a bridge that can be broken.
//!
//! Real processes of the library, real sockets. Needs root, `ip` and `nft`; without them every case counts as ignored,
//! and that is said. With `ISIS_HOSTS_REQUIRED=1` it is a failure instead. Arguments as for other tests: parts of names.

#[path = "hosts/fleet.rs"]
mod fleet;
#[path = "hosts/member.rs"]
mod member;

use fleet::Fleet;
use isis_tests::net;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Name, and what it does.
const CASES: &[(&str, fn())] = &[
    ("multicast_v4", multicast_v4),
    ("multicast_v6", multicast_v6),
    ("link_local_v6", link_local_v6),
    ("seeds_where_multicast_is_blocked", seeds_where_multicast_is_blocked),
    ("two_members_on_each_host", two_members_on_each_host),
    ("two_members_with_a_full_dev_shm", two_members_with_a_full_dev_shm),
    ("members_killed_while_they_read_in_place", members_killed_while_they_read_in_place),
    ("two_members_on_one_host_without_shared_memory", two_members_on_one_host_without_shared_memory),
    ("a_whole_host_is_killed", a_whole_host_is_killed),
    ("a_process_dies_on_a_live_host", a_process_dies_on_a_live_host),
    ("a_host_falls_silent", a_host_falls_silent),
    ("a_link_is_cut", a_link_is_cut),
    ("mtu_1280_v4", || narrow_link(1280, false)),
    ("mtu_1280_v6", || narrow_link(1280, true)),
    ("mtu_1400_v4", || narrow_link(1400, false)),
    ("mtu_9000_v4", wide_links),
    ("a_link_narrows", a_link_narrows),
];

/// Hosts find each other by multicast alone, multicast their data, fall back when it is blocked, and come back to it.
fn multicast_v4() {
    multicast(&[1500; 3], false, &[]);
}

/// The same over IPv6, in the site-local scope.
fn multicast_v6() {
    multicast(&[1500; 3], true, &[("multicast", "ff15:0:0:7::/64")]);
}

fn multicast(mtus: &[u32], v6: bool, options: &[(&str, &str)]) {
    let mut fleet = Fleet::new(mtus, v6, options);
    for host in 0..3 {
        fleet.start(host, &[]);
    }
    fleet.assemble();
    fleet.exchange(300, 200);
    for index in 0..3 {
        exchange_until(&mut fleet, index, "multicast_paths_confirmed", 1);
        exchange_until(&mut fleet, index, "udp_sent_multicast", 1);
        exchange_until(&mut fleet, index, "udp_received_multicast", 1);
    }
    fleet.net.multicast(false);
    for index in 0..3 {
        exchange_until(&mut fleet, index, "multicast_paths_lost", 1);
    }
    let before: Vec<u64> = (0..3).map(|index| fleet.counter(index, "udp_sent_multicast")).collect();
    fleet.exchange(100, 200);
    let after: Vec<u64> = (0..3).map(|index| fleet.counter(index, "udp_sent_multicast")).collect();
    assert_eq!(before, after, "fan-out while multicast is blocked");
    fleet.net.multicast(true);
    for index in 0..3 {
        exchange_until(&mut fleet, index, "multicast_paths_confirmed", 2);
    }
    fleet.exchange(100, 200);
    fleet.nobody_was_lost();
    fleet.close();
}

/// Exchanges messages until a member's counter has come so far.
fn exchange_until(fleet: &mut Fleet, index: usize, name: &str, least: u64) {
    let end = Instant::now() + Duration::from_secs(30);
    while fleet.counter(index, name) < least {
        assert!(Instant::now() < end, "member {index}: {name} did not reach {least}");
        fleet.exchange(50, 100);
    }
}

/// Hosts that have no other addresses than those of their link.
fn link_local_v6() {
    let mut fleet = Fleet::new(&[1500; 3], true, &[]);
    for host in 0..3 {
        let address = fleet.net.link_local(host).to_string();
        fleet.start(host, &[("bind", &address)]);
    }
    fleet.assemble();
    fleet.exchange(200, 200);
    for index in 0..3 {
        exchange_until(&mut fleet, index, "udp_received_multicast", 1);
    }
    fleet.nobody_was_lost();
    fleet.close();
}

/// Without multicast a list of seeds brings the hosts together.
fn seeds_where_multicast_is_blocked() {
    let mut fleet = Fleet::new(&[1500; 3], false, &[]);
    fleet.net.multicast(false);
    fleet.start(0, &[("port", "7000")]);
    fleet.until("the first one founds", |seats| seats[0].view.1.len() == 1);
    for host in 1..3 {
        fleet.start(host, &[("seeds", "10.77.0.1:7000")]);
    }
    fleet.assemble();
    fleet.exchange(200, 200);
    for index in 0..3 {
        assert_eq!(fleet.counter(index, "udp_received_multicast"), 0);
        assert_eq!(fleet.counter(index, "udp_sent_multicast"), 0);
    }
    fleet.nobody_was_lost();
    fleet.close();
}

/// Two members of each of two hosts: shared memory and the wire together. One write serves both: what a member sends goes into
/// its log for the one beside it, and out by multicast for the others.
fn two_members_on_each_host() {
    let mut fleet = Fleet::new(&[1500; 2], false, &[]);
    for host in [0, 0, 1, 1] {
        fleet.start(host, &[]);
    }
    fleet.assemble();
    fleet.exchange(300, 200);
    for index in 0..4 {
        exchange_until(&mut fleet, index, "udp_received_multicast", 1);
        exchange_until(&mut fleet, index, "memory_received", 20);
        assert_eq!(fleet.counter(index, "memory_paths_now"), 1, "the one of its host, and no other");
    }
    fleet.exchange(20, 50_000);
    // A death here ends a path, and none of the others'.
    fleet.kill(1);
    fleet.assemble();
    fleet.exchange(100, 200);
    assert_eq!(fleet.counter(0, "memory_paths_now"), 0);
    assert_eq!(fleet.counter(2, "memory_paths_now"), 1);
    fleet.nobody_was_lost();
    fleet.close();
}

/// Containers often have a small `/dev/shm`. What members share has no name there, and takes nothing of it.
fn two_members_with_a_full_dev_shm() {
    let mut fleet = Fleet::new(&[1500], false, &[]);
    fleet.full_dev_shm = true;
    for _ in 0..2 {
        fleet.start(0, &[]);
    }
    fleet.assemble();
    fleet.exchange(300, 200);
    for index in 0..2 {
        exchange_until(&mut fleet, index, "memory_received", 20);
        assert_eq!(fleet.counter(index, "memory_paths_now"), 1);
    }
    fleet.exchange(20, 50_000);
    for index in 0..2 {
        assert!(fleet.counter(index, "places_sent") > 0, "streams are read in place as well");
    }
    fleet.nobody_was_lost();
    fleet.close();
}

/// Members that read each other's streams where they lie are killed, one after the other, while they send. What
/// they read is no burden for those that stay: of the eight chunks that each has to lay its stream in, enough can be used.
fn members_killed_while_they_read_in_place() {
    let options = [("shared_memory_streams", "512KiB"), ("window", "128KiB")];
    let mut fleet = Fleet::new(&[1500], false, &options);
    for _ in 0..3 {
        fleet.start(0, &[]);
    }
    fleet.assemble();
    for victim in 2..14 {
        fleet.exchange(100, 3_000);
        let placed = fleet.counter(0, "places_sent");
        // Of this one alone: with the view without it nothing more of that comes.
        fleet.order(victim, "send total 1000 3000");
        fleet.kill(victim);
        fleet.start(0, &[]);
        fleet.assemble();
        fleet.exchange(100, 3_000);
        assert!(fleet.counter(0, "places_sent") > placed, "its chunks are used again: {victim} killed");
    }
    fleet.nobody_was_lost();
    fleet.close();
}

/// The same of one host where shared memory is switched off: the site link, loopback and the wire together.
fn two_members_on_one_host_without_shared_memory() {
    let mut fleet = Fleet::new(&[1500; 2], false, &[("shared_memory", "off")]);
    for host in [0, 0, 1] {
        fleet.start(host, &[]);
    }
    fleet.assemble();
    fleet.exchange(300, 200);
    for index in 0..3 {
        exchange_until(&mut fleet, index, "udp_received_multicast", 1);
        assert_eq!(fleet.counter(index, "memory_sent"), 0);
    }
    fleet.exchange(20, 50_000);
    fleet.nobody_was_lost();
    fleet.close();
}

/// All processes of a host die at once: the others go on with a view without them, and a new one may come.
fn a_whole_host_is_killed() {
    let mut fleet = Fleet::new(&[1500; 3], false, &[]);
    for host in [0, 1, 2, 2] {
        fleet.start(host, &[]);
    }
    fleet.assemble();
    fleet.exchange(100, 200);
    fleet.kill(2);
    fleet.kill(3);
    fleet.assemble();
    fleet.exchange(100, 200);
    fleet.start(2, &[]);
    fleet.assemble();
    fleet.exchange(100, 200);
    fleet.nobody_was_lost();
    fleet.close();
}

/// The only process of a host dies, and its kernel lives on and refuses what is sent there. Silence would be borne for a minute
/// here; so whoever goes on without it in time has probed it and was refused.
fn a_process_dies_on_a_live_host() {
    for v6 in [false, true] {
        let patient = [("suspect_min_ns", "60s"), ("suspect_max_ns", "60s"), ("stall_after_ns", "120s")];
        let mut fleet = Fleet::new(&[1500; 3], v6, &patient);
        // One after the other: two systems, founded at the same moment, were seen not to become one within half a minute when
        // the times are as long as these.
        let seed = SocketAddr::new(fleet.net.address(0, v6), 7000).to_string();
        fleet.start(0, &[("port", "7000")]);
        fleet.until("the first one founds", |seats| seats[0].view.1.len() == 1);
        for host in 1..3 {
            fleet.start(host, &[("seeds", &seed)]);
        }
        fleet.assemble();
        fleet.exchange(100, 200);
        // A kernel refuses six datagrams to a host at once, and then one a second.
        fleet.pause(Duration::from_secs(6));
        let begin = Instant::now();
        fleet.kill(2);
        fleet.assemble();
        tell_times("kill -9 on a live host → next view", vec![begin.elapsed()]);
        let oldest = (0..2).find(|index| fleet.seats[*index].process == fleet.seats[0].view.1[0]).expect("a member");
        assert!(fleet.counter(oldest, "probes_sent") >= 2 && fleet.counter(oldest, "refusals_heard") >= 2);
        fleet.start(2, &[("seeds", &seed)]);
        fleet.assemble();
        fleet.exchange(20, 200);
        fleet.nobody_was_lost();
        fleet.close();
    }
}

/// A host loses its link and nothing says so: with the default options the others suspect it by its silence.
fn a_host_falls_silent() {
    let mut fleet = Fleet::new(&[1500; 3], false, &[]);
    for host in 0..3 {
        fleet.start(host, &[]);
    }
    fleet.assemble();
    fleet.exchange(100, 200);
    let mut took = Vec::new();
    for _ in 0..7 {
        let before = fleet.seats[2].process.clone();
        // Whoever has just come is not measured yet.
        fleet.pause(Duration::from_secs(1));
        let begin = Instant::now();
        fleet.net.link(2, false);
        fleet.until("a view without it", |seats| seats[..2].iter().all(|seat| seat.view.1.len() == 2));
        took.push(begin.elapsed());
        fleet.net.link(2, true);
        fleet.until("it comes back", |seats| seats[2].process != before);
        fleet.assemble();
        fleet.exchange(20, 200);
    }
    tell_times("link cut → next view", took);
    // Whoever hears of the other's view first suspects nobody any more.
    let suspicions = fleet.counter(0, "suspicions") + fleet.counter(1, "suspicions");
    assert!(suspicions >= 7, "{suspicions} suspicions for seven silences");
    fleet.close();
}

/// Says how long something took, for whoever looks; how long it may take is no matter of this machine's mood.
#[allow(clippy::print_stdout)]
fn tell_times(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "  {what}: median {:.1} ms, {:.1} to {:.1}",
        ms(took[took.len() / 2]),
        ms(took[0]),
        ms(took[took.len() - 1])
    );
}

/// A host loses its link: the majority goes on, it stalls; mended, it is evicted and comes back as a new incarnation.
fn a_link_is_cut() {
    let mut fleet = Fleet::new(&[1500; 3], false, &[("stall_after_ns", "1s")]);
    for host in 0..3 {
        fleet.start(host, &[]);
    }
    fleet.assemble();
    fleet.exchange(100, 200);
    let before = fleet.seats[2].process.clone();
    fleet.net.link(2, false);
    fleet.until("the minority stalls", |seats| seats[2].said.iter().any(|said| said == "stalled"));
    fleet.until("a view without it", |seats| seats[..2].iter().all(|seat| seat.view.1.len() == 2));
    fleet.seats[2].alive = false;
    fleet.exchange(100, 200);
    fleet.seats[2].alive = true;
    assert_eq!(fleet.seats[2].view.1.len(), 3, "it saw no view without the others");
    fleet.net.link(2, true);
    fleet.until("the minority is evicted", |seats| seats[2].said.iter().any(|said| said == "evicted"));
    fleet.until("it comes back", |seats| seats[2].process != before);
    fleet.assemble();
    assert_ne!(fleet.seats[2].process, before);
    fleet.exchange(100, 200);
    fleet.close();
}

/// One link is narrower than the others, as behind a tunnel, and nothing tells the senders so: the bridge just drops what
/// does not fit.
fn narrow_link(mtu: u32, v6: bool) {
    let mut fleet = Fleet::new(&[1500, 1500, mtu], v6, &[]);
    for host in 0..3 {
        fleet.start(host, &[]);
    }
    fleet.assemble();
    fleet.exchange(50, 20_000);
    fleet.exchange(200, 200);
    unfragmented(&mut fleet);
    fleet.nobody_was_lost();
    fleet.close();
}

/// Links of jumbo frames on two hosts, a usual one on the third.
fn wide_links() {
    let mut fleet = Fleet::new(&[9000, 9000, 9000, 1500], false, &[]);
    for host in 0..3 {
        fleet.start(host, &[]);
    }
    fleet.assemble();
    for index in 0..3 {
        fleet.counter_reaches(index, "udp_datagram_network_now", 8_972);
    }
    fleet.exchange(50, 20_000);
    // One host with a usual link brings the whole system down to that.
    fleet.start(3, &[]);
    fleet.assemble();
    fleet.exchange(50, 20_000);
    for index in 0..4 {
        let now = fleet.counter(index, "udp_datagram_network_now");
        assert!(now <= 1_472, "member {index} sends {now} bytes at a time");
    }
    unfragmented(&mut fleet);
    fleet.nobody_was_lost();
    fleet.close();
}

/// A path gets narrower while members talk: what vanishes is noticed, cut anew and repaired.
fn a_link_narrows() {
    let mut fleet = Fleet::new(&[1500; 3], false, &[]);
    for host in 0..3 {
        fleet.start(host, &[]);
    }
    fleet.assemble();
    for index in 0..3 {
        fleet.counter_reaches(index, "udp_datagram_network_now", 1_472);
    }
    fleet.exchange(50, 20_000);
    fleet.net.narrow(2, 1_280);
    fleet.exchange(50, 20_000);
    // What it sent may have come to the others by way of one that noticed before.
    fleet.counter_falls(0, "udp_datagram_network_now", 1_252);
    unfragmented(&mut fleet);
    fleet.nobody_was_lost();
    fleet.close();
}

fn unfragmented(fleet: &mut Fleet) {
    for index in fleet.alive() {
        assert_eq!(fleet.counter(index, "udp_sent_fragmented"), 0);
    }
    assert_eq!(fleet.net.fragments(), 0, "IP fragments");
}

/// As the usual harness: options are taken for none, words for parts of names, `--list` lists.
#[allow(clippy::print_stdout, clippy::print_stderr)]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "member") {
        return match member::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("wrong {error}");
                ExitCode::FAILURE
            }
        };
    }
    let words: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let chosen: Vec<_> =
        CASES.iter().filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(*word))).collect();
    if arguments.iter().any(|word| word == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    net::remove_stale();
    if let Some(why) = net::missing() {
        for (name, _) in &chosen {
            println!("test {name} ... ignored, {why}");
        }
        eprintln!("\nSKIPPED: nothing was tried between hosts: {why}.\n");
        let required = std::env::var_os("ISIS_HOSTS_REQUIRED").is_some() && !chosen.is_empty();
        let (word, failed) = if required { ("FAILED", chosen.len()) } else { ("ok", 0) };
        println!("test result: {word}. 0 passed; {failed} failed; {} ignored; 0 measured", chosen.len() - failed);
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let _guard = net::Guard::new();
    isis_processes::live::end_on_signals().expect("signal handlers");
    let mut failed = Vec::new();
    for (name, case) in &chosen {
        let begin = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(case));
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({:.1} s)", begin.elapsed().as_secs_f64());
        if result.is_err() {
            failed.push(*name);
        }
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {} passed; {} failed; 0 ignored; 0 measured",
        chosen.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
