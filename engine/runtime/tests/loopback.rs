//! Real nodes on this host: they find each other without configuration, form a group, agree on an order, and survive.

use isis_protocol::{GroupHandle, JoinOptions, Kind, SendOptions};
use isis_runtime::{Mode, Node, NodeError, NodeEvent, Options};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const TOTAL: SendOptions = SendOptions { kind: Kind::Total, safe: false, entry: 1 };
const MESSAGES: u32 = 200;

/// A node and what it has seen.
struct Seat {
    node: Node,
    group: GroupHandle,
    members: usize,
    ranks: Vec<u16>,
    log: Vec<Vec<u8>>,
}

fn seat(directory: &tempfile::TempDir, mode: Mode) -> Seat {
    let options = Options { mode, runtime_dir: Some(directory.path().join("isis")), ..Options::new() };
    let mut node = Node::open(options).expect("opens");
    let group = node.join("quotes", JoinOptions::default()).expect("joins");
    Seat { node, group, members: 0, ranks: Vec::new(), log: Vec::new() }
}

/// Lets all nodes run until the condition holds.
fn run(seats: &mut [Seat], what: &str, mut done: impl FnMut(&mut [Seat]) -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done(seats) {
        assert!(Instant::now() < end, "{what}: not within 30 s");
        for seat in seats.iter_mut() {
            seat.node.wait(Some(200_000)).expect("a live node");
            while let Some(event) = seat.node.poll_event().expect("a live node") {
                match event {
                    NodeEvent::View { view, rank, .. } => {
                        seat.members = view.members.len();
                        seat.ranks.push(rank);
                    }
                    NodeEvent::Message(message) => seat.log.push(seat.node.payload(&message).to_vec()),
                    NodeEvent::Poisoned | NodeEvent::Evicted | NodeEvent::Refused { .. } => panic!("{event:?}"),
                    _ => (),
                }
            }
        }
    }
}

fn three_nodes(mode: Mode) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut seats: Vec<Seat> = (0..3).map(|_| seat(&directory, mode)).collect();
    run(&mut seats, "a group of three", |seats| seats.iter().all(|seat| seat.members == 3));

    let mut sent = [0_u32; 3];
    run(&mut seats, "total order", |seats| {
        for (index, seat) in seats.iter_mut().enumerate() {
            if sent[index] < MESSAGES {
                let mut data = (index as u32).to_le_bytes().to_vec();
                data.extend(sent[index].to_le_bytes());
                match seat.node.multicast(seat.group, TOTAL, &data) {
                    Ok(_) => sent[index] += 1,
                    Err(NodeError::WouldBlock) => (),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        seats.iter().all(|seat| seat.log.len() == 3 * MESSAGES as usize)
    });
    assert!(seats.iter().all(|seat| seat.log == seats[0].log), "one total order at all members");
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    for data in &seats[0].log {
        let sender = u32::from_le_bytes(data[..4].try_into().expect("four bytes"));
        let number = u32::from_le_bytes(data[4..].try_into().expect("four bytes"));
        assert_eq!(number, *next.entry(sender).or_default(), "FIFO of sender {sender}");
        next.insert(sender, number + 1);
    }

    drop(seats.remove(0));
    run(&mut seats, "the view after a crash", |seats| seats.iter().all(|seat| seat.members == 2));

    seats.iter_mut().for_each(|seat| seat.node.close().expect("closes"));
    for seat in &mut seats {
        let end = Instant::now() + Duration::from_secs(10);
        let mut closed = false;
        while !closed {
            assert!(Instant::now() < end, "close takes longer than its linger");
            seat.node.wait(Some(1_000_000)).expect("no error");
            while let Some(event) = seat.node.poll_event().expect("no error") {
                closed |= matches!(event, NodeEvent::Closed);
            }
        }
    }
}

#[test]
fn three_inline_nodes_form_a_group() {
    three_nodes(Mode::Inline);
}

#[test]
fn three_threaded_nodes_form_a_group() {
    three_nodes(Mode::Threaded);
}
