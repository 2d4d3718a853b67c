//! Members of one site read each other's streams where they lie (docs/protocol.md §9): a chunk that somebody reads is not used
//! again, whoever has none left sends copies, and a place that means nothing costs a repair and no more.

use isis_memory::CHUNK_SIZE;
use isis_protocol::GroupId;
use isis_protocol::event::Kind;
use isis_protocol::time::{MICROSECOND, MILLISECOND, SECOND};
use isis_tests::scenario::Scenario;
use isis_tests::sim::network::{Verdict, address};
use isis_wire::packet::{self, PLACE_RECORD, Packet, PacketKind};
use std::cell::Cell;
use std::rc::Rc;

const LEN: usize = 1_000;

/// Members of one site that have found each other and share arenas of so many chunks.
fn neighbours<const N: usize>(chunks: u32, window: u64) -> (Scenario, [usize; N]) {
    let mut s = Scenario::configured(&[N], |config| config.window = window);
    s.world.arena_chunks = chunks;
    let nodes: [usize; N] = s.start_all();
    s.form_group(&nodes);
    s.pass(100 * MILLISECOND);
    (s, nodes)
}

fn borrowed(s: &Scenario, node: usize) -> u64 {
    s.world.nodes[node].endpoint.as_ref().map_or(0, |endpoint| endpoint.region().borrowed().into())
}

/// Stream bytes that each member sent as copies, and how often, from now on.
fn count_copies(s: &mut Scenario) -> Rc<Cell<u64>> {
    let copies = Rc::new(Cell::new(0));
    let count = copies.clone();
    s.intercept(move |packet| {
        if Packet::parse(&packet.bytes).is_ok_and(|it| it.header.kind == PacketKind::Data) {
            count.set(count.get() + 1);
        }
        Verdict::Pass
    });
    copies
}

/// Sends so many bytes as fast as the window takes them; gives the last message.
fn send(s: &mut Scenario, node: usize, bytes: usize) -> isis_tests::trace::Key {
    let mut last = None;
    let mut sent = 0;
    while sent < bytes {
        last = Some(s.multicast_when_possible(node, Kind::Fifo, false, LEN));
        sent += LEN;
    }
    last.expect("at least one")
}

#[test]
fn streams_are_read_where_they_lie_and_chunks_used_again() {
    let (mut s, nodes) = neighbours::<3>(8, 1 << 18);
    let copies = count_copies(&mut s);
    // Many times what the arenas hold.
    let lasts = nodes.map(|node| send(&mut s, node, 40 * CHUNK_SIZE));
    s.until("all is everywhere", |s| nodes.iter().all(|&node| lasts.iter().all(|&last| s.has(node, last))));
    assert_eq!(copies.get(), 0, "nobody sends bytes");
    for node in nodes {
        assert!(s.counter(node, "places_sent") >= 40);
        assert_eq!(s.counter(node, "ignore_old_place"), 0);
        assert!(borrowed(&s, node) > 0, "something of the others is read");
    }
    s.finish();
}

/// Who reads slowly keeps chunks from being used again. The others do not wait for them, but send copies.
#[test]
fn who_has_no_chunk_left_sends_copies() {
    let (mut s, nodes) = neighbours::<3>(2, 1 << 20);
    let copies = count_copies(&mut s);
    s.world.lag(nodes[2], 20 * MICROSECOND);
    let last = send(&mut s, nodes[0], 30 * CHUNK_SIZE);
    s.until("all is everywhere", |s| nodes.iter().all(|&node| s.has(node, last)));
    assert!(copies.get() > 0 && s.counter(nodes[0], "places_sent") > 0, "both");
    s.finish();
}

/// A process is told a place in memory that it does not have (any more): it asks for the bytes.
#[test]
fn who_cannot_read_a_place_asks_for_the_bytes() {
    let (mut s, nodes) = neighbours::<2>(8, 1 << 20);
    let arena = s.world.nodes[nodes[1]].arena.clone().expect("an arena");
    arena.disconnect(s.world.nodes[nodes[0]].nonce.0);
    let last = send(&mut s, nodes[0], 3 * CHUNK_SIZE);
    s.until("all is everywhere", |s| nodes.iter().all(|&node| s.has(node, last)));
    assert!(s.counter(nodes[1], "ignore_old_place") > 0 && s.counter(nodes[0], "repairs_sent") > 0);
    s.finish();
}

/// A place that goes beyond its chunk is nonsense, though the chunk is read here already: no bytes are taken for received that are not
/// there.
#[test]
fn a_place_beyond_its_chunk_is_refused() {
    let (mut s, nodes) = neighbours::<2>(8, 1 << 20);
    let seen = Rc::new(Cell::new(None));
    let (keep, from) = (seen.clone(), s.place(nodes[0]));
    s.intercept(move |packet| {
        let of_group = |it: Packet<'_>| it.header.kind == PacketKind::Placed && it.header.group != GroupId::SYSTEM;
        if packet.from == from && Packet::parse(&packet.bytes).is_ok_and(of_group) {
            keep.set(Some(packet.bytes.to_vec()));
        }
        Verdict::Pass
    });
    let first = s.multicast(nodes[0], Kind::Fifo, false, LEN);
    s.until("the first message is there", |s| s.has(nodes[1], first));
    let mut packet = seen.take().expect("a place");
    // Its length, and the sum over all.
    let at = packet.len() - PLACE_RECORD + 8;
    packet[at..at + 4].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    packet::seal(&mut packet, &[]);
    let malformed = s.counter(nodes[1], "ignore_malformed");
    let now = s.world.nodes[nodes[1]].clock.at(s.world.now());
    s.world.nodes[nodes[1]].endpoint.as_mut().expect("alive").handle_packet(now, address(from), &packet);
    assert_eq!(s.counter(nodes[1], "ignore_malformed"), malformed + 1);
    let last = send(&mut s, nodes[0], 3 * CHUNK_SIZE);
    s.until("what follows is received", |s| s.has(nodes[1], last));
    s.finish();
}

/// What a dead process had sent is read, delivered, and handed on for as long as somebody needs it; what it read is not waited for.
#[test]
fn the_bytes_of_a_dead_process_stay() {
    let (mut s, nodes) = neighbours::<4>(8, 1 << 18);
    let [sender, reader, unlucky, killed] = nodes;
    let from = s.place(sender);
    let place = s.place(unlucky);
    s.intercept(move |packet| match Packet::parse(&packet.bytes) {
        Ok(it) if packet.from == from && packet.to == place && it.header.kind == PacketKind::Placed => Verdict::Drop,
        _ => Verdict::Pass,
    });
    let last = s.multicast(sender, Kind::Fifo, false, 30_000);
    s.until("one of them has it", |s| s.has(reader, last));
    s.crash(sender);
    s.until("the other has it from there", |s| s.has(unlucky, last));
    s.until("a view without it", |s| s.view_is(reader, &[reader, unlucky, killed]));
    s.release();
    // Those that are killed still read something of the others: more, all in all, than there are chunks.
    let home = s.place(killed);
    let mut killed = killed;
    for _ in 0..9 {
        let held = send(&mut s, reader, CHUNK_SIZE);
        s.until("it is there", |s| s.has(killed, held));
        s.crash(killed);
        s.until("a view of two", |s| s.view_is(reader, &[reader, unlucky]));
        killed = s.admit(home);
        s.join(killed);
        s.until("a view of three", |s| s.view_is(killed, &[reader, unlucky, killed]));
    }
    s.pass(SECOND);
    let copies = count_copies(&mut s);
    let last = send(&mut s, reader, 20 * CHUNK_SIZE);
    s.until("all is there", |s| s.has(unlucky, last));
    assert_eq!(copies.get(), 0, "there are chunks enough");
    s.finish();
}

/// A member that is not on the site gets copies, and so do all: the stream is one.
#[test]
fn with_members_elsewhere_all_get_copies() {
    let mut s = Scenario::new(&[2, 1]);
    s.world.arena_chunks = 8;
    let nodes: [usize; 3] = s.start_all();
    s.form_group(&nodes);
    s.pass(100 * MILLISECOND);
    let last = send(&mut s, nodes[0], 3 * CHUNK_SIZE);
    s.until("all is everywhere", |s| nodes.iter().all(|&node| s.has(node, last)));
    assert_eq!(s.counter(nodes[0], "places_sent"), 0);
    s.finish();
}

/// Short messages are copied, long ones are not: as the last chunk had it.
#[test]
fn short_frames_are_copied() {
    let (mut s, nodes) = neighbours::<2>(8, 1 << 20);
    let copies = count_copies(&mut s);
    for _ in 0..3_000 {
        while s.try_multicast(nodes[0], Kind::Fifo, false, 40).is_err() {
            s.pass(100 * MICROSECOND);
        }
    }
    s.pass(100 * MILLISECOND);
    let (short, places) = (copies.replace(0), s.counter(nodes[0], "places_sent"));
    assert!(short > 0);
    let last = send(&mut s, nodes[0], 5 * CHUNK_SIZE);
    s.until("all is everywhere", |s| s.has(nodes[1], last));
    assert!(s.counter(nodes[0], "places_sent") >= places + 3, "long ones lie where they are read");
    s.finish();
}
