//! What a loss costs in repairs, and that repairs which nobody needed do no harm (properties 2 and 10; the lost message
//! reaches all, once).

use isis_protocol::GroupId;
use isis_protocol::event::Kind;
use isis_protocol::time::MILLISECOND;
use isis_tests::scenario::Scenario;
use isis_tests::sim::network::Verdict;
use isis_wire::packet::{DataHeader, Packet, PacketKind};

const MEMBERS: usize = 8;

/// What one loss, of one datagram to the last `losers` of all members, cost.
struct Cost {
    naks: u64,
    repairs: u64,
    to_group: u64,
    duplicates: u64,
}

fn lose(losers: usize) -> Cost {
    let mut s = Scenario::new(&[MEMBERS]);
    let nodes: [usize; MEMBERS] = s.start_all();
    s.form_group(&nodes);
    s.pass(100 * MILLISECOND);
    let from = s.place(nodes[0]);
    let hit: Vec<u32> = nodes[MEMBERS - losers..].iter().map(|&node| s.place(node)).collect();
    let lost = std::rc::Rc::new(std::cell::Cell::new(0));
    let count = lost.clone();
    s.intercept(move |packet| {
        let is_data = || Packet::parse(&packet.bytes).is_ok_and(|packet| packet.header.kind == PacketKind::Data);
        // The first datagram to each: they are sent at one time.
        if packet.from == from && count.get() < hit.len() && hit.contains(&packet.to) && is_data() {
            count.set(count.get() + 1);
            return Verdict::Drop;
        }
        Verdict::Pass
    });
    let sum = |s: &Scenario, name| nodes.iter().map(|&node| s.counter(node, name)).sum::<u64>();
    let names = ["naks_sent", "repairs_sent", "repairs_to_group", "ignore_duplicate_data"];
    let before = names.map(|name| sum(&s, name));
    let message = s.multicast(nodes[0], Kind::Fifo, false, 3_000);
    s.until("the lost message is everywhere", |s| nodes.iter().all(|&node| s.has(node, message)));
    s.pass(100 * MILLISECOND);
    assert_eq!(lost.get(), losers, "the datagram was lost where it was to be");
    let after = names.map(|name| sum(&s, name));
    let delivered = nodes.map(|node| s.delivered(node).iter().filter(|key| **key == message).count());
    assert_eq!(delivered, [1; MEMBERS]);
    s.finish();
    let [naks, repairs, to_group, duplicates] = std::array::from_fn(|index| after[index] - before[index]);
    Cost { naks, repairs, to_group, duplicates }
}

/// Of a burst the first datagram came, with the row; the sender, or the network, takes its time over the rest. Nobody asks for
/// what is on its way.
#[test]
fn nobody_asks_for_the_rest_of_a_burst() {
    let mut s = Scenario::new(&[2]);
    let [sender, receiver] = s.start_all();
    s.form_group(&[sender, receiver]);
    s.pass(100 * MILLISECOND);
    let from = s.place(sender);
    let first = std::rc::Rc::new(std::cell::Cell::new(false));
    let passed = first.clone();
    s.intercept(move |packet| {
        if packet.from != from || passed.get() {
            return if packet.from == from { Verdict::Hold } else { Verdict::Pass };
        }
        let data = Packet::parse(&packet.bytes).ok().filter(|it| it.header.kind == PacketKind::Data);
        passed.set(data.is_some_and(|it| DataHeader::parse(it.body).is_ok_and(|(_, row, _)| !row.is_empty())));
        Verdict::Pass
    });
    let before = s.counter(receiver, "naks_sent");
    let message = s.multicast(sender, Kind::Fifo, false, 200_000);
    s.pass(5 * MILLISECOND);
    assert!(first.get() && !s.has(receiver, message), "only the first of several datagrams came, with a row");
    assert_eq!(s.counter(receiver, "naks_sent"), before);
    s.release();
    s.until("the rest came", |s| s.has(receiver, message));
    s.finish();
}

/// Sends much while no row comes back; how many bytes of the stream go out then, before the rows do.
fn under_way(s: &mut Scenario, sender: usize, receiver: usize) -> usize {
    let [from, to] = [s.place(sender), s.place(receiver)];
    // The last rows come.
    s.pass(100 * MILLISECOND);
    let bytes = std::rc::Rc::new(std::cell::Cell::new(0));
    let sum = bytes.clone();
    s.intercept(move |packet| {
        let Ok(parsed) = Packet::parse(&packet.bytes) else { return Verdict::Pass };
        if packet.from == from && parsed.header.kind == PacketKind::Data && parsed.header.group != GroupId::SYSTEM {
            sum.set(sum.get() + DataHeader::parse(parsed.body).map_or(0, |(.., bytes)| bytes.len()));
        }
        let is_row = parsed.header.kind == PacketKind::Row && parsed.header.group != GroupId::SYSTEM;
        if packet.from == to && is_row { Verdict::Hold } else { Verdict::Pass }
    });
    let message = s.multicast(sender, Kind::Fifo, false, 900_000);
    s.pass(5 * MILLISECOND);
    let sent = bytes.get();
    s.intercept(|_| Verdict::Pass);
    s.release();
    s.until("all of it came", |s| s.has(receiver, message));
    sent
}

/// What is sent and not known to be received is bounded; the bound grows with what is received, up to half of the window, and is
/// halved by a loss: bursts are no longer than what the way takes.
#[test]
fn what_is_under_way_is_bounded() {
    let window = 1 << 20;
    let mut s = Scenario::configured(&[2], |config| (config.window, config.datagram_local) = (window as u64, 1_400));
    let [sender, receiver] = s.start_all();
    s.form_group(&[sender, receiver]);
    let datagrams = 4 * 1_500;
    let about = |bytes: usize, share: usize| (window / share..window / share + datagrams).contains(&bytes);
    let first = under_way(&mut s, sender, receiver);
    assert!(about(first, 8), "{first} bytes at first");
    for _ in 0..4 {
        let message = s.multicast(sender, Kind::Fifo, false, 900_000);
        s.until("it came", |s| s.has(receiver, message));
    }
    let grown = under_way(&mut s, sender, receiver);
    assert!(about(grown, 2), "{grown} bytes after much was received");
    let (from, mut lost) = (s.place(sender), false);
    s.intercept(move |packet| {
        let is_data = || Packet::parse(&packet.bytes).is_ok_and(|it| it.header.kind == PacketKind::Data);
        if packet.from != from || lost || !is_data() {
            return Verdict::Pass;
        }
        lost = true;
        Verdict::Drop
    });
    let message = s.multicast(sender, Kind::Fifo, false, 3_000);
    s.until("it came, after a repair", |s| s.has(receiver, message));
    assert_eq!(s.counter(sender, "flights_halved"), 1);
    let halved = under_way(&mut s, sender, receiver);
    assert!(about(halved, 4), "{halved} bytes after a loss");
    s.finish();
}

/// In a large view too, where ends of streams go round in digests, nobody asks for what waits for its turn.
#[test]
fn in_a_large_view_nobody_asks_for_what_waits() {
    let mut s = Scenario::configured(&[4], |config| {
        (config.window, config.direct_rows, config.datagram_local) = (1 << 20, 1, 1_400)
    });
    let nodes: [usize; 4] = s.start_all();
    s.form_group(&nodes);
    s.pass(100 * MILLISECOND);
    let naks = |s: &Scenario| nodes.iter().map(|&node| s.counter(node, "naks_sent")).sum::<u64>();
    let before = naks(&s);
    let message = s.multicast(nodes[0], Kind::Fifo, false, 900_000);
    s.until("it came", |s| nodes.iter().all(|&node| s.has(node, message)));
    assert_eq!(naks(&s), before);
    s.finish();
}

/// One that hangs acknowledges nothing. The others get what they would have got without it, up to the window.
#[test]
fn who_hangs_keeps_nothing_from_the_others() {
    let mut s = Scenario::configured(&[3], |config| (config.window, config.datagram_local) = (1 << 20, 1_400));
    let [sender, receiver, hung] = s.start_all();
    s.form_group(&[sender, receiver, hung]);
    s.pass(100 * MILLISECOND);
    s.hang(hung);
    let large = s.multicast(sender, Kind::Fifo, false, 600_000);
    s.pass(10 * MILLISECOND);
    assert!(!s.has(receiver, large), "it is more than may be under way");
    s.pass(50 * MILLISECOND);
    assert!(s.has(receiver, large), "{}", s.text());
    let next = s.multicast(receiver, Kind::Total, false, 20);
    s.pass(10 * MILLISECOND);
    assert!(s.has(sender, next) && s.has(receiver, next), "{}", s.text());
    s.resume(hung);
    s.until("it has all as well", |s| s.has(hung, large) && s.has(hung, next));
    s.finish();
}

/// A loss that hits all seven receivers: all ask, and what they lack is sent to one at most, and then once to all.
#[test]
fn a_loss_that_hits_all_is_repaired_about_once() {
    let cost = lose(MEMBERS - 1);
    assert!(cost.naks >= 2, "several ask before the repair reaches them, or this shows nothing: {}", cost.naks);
    assert!(cost.repairs <= 2, "{} repairs for {} requests", cost.repairs, cost.naks);
    assert_eq!(cost.to_group, 1);
}

/// A loss that hits one receiver is repaired for it alone: the others see no duplicate.
#[test]
fn a_loss_that_hits_one_concerns_nobody_else() {
    let cost = lose(1);
    assert_eq!((cost.naks, cost.repairs, cost.to_group, cost.duplicates), (1, 1, 0, 0));
}

/// A loss that hits some: the repair for the group reaches those that need none, too. They count it, and that is all.
#[test]
fn a_repair_that_was_not_needed_is_harmless() {
    let cost = lose(4);
    assert_eq!(cost.to_group, 1);
    assert!(cost.duplicates >= 3, "{} duplicates", cost.duplicates);
}
