//! Seeds of the corpus: for each target a few inputs that get past its first checks. `corpus/` holds them as files, with
//! what fuzzing found besides; a test of the project says whether the files are there.

use super::world::address;
use isis_protocol::TotalOrder;
use isis_protocol::directory::{Directory, Operation};
use isis_wire::digest::{Ask, Entry, Missed, Sign, write_entry, write_head};
use isis_wire::founding::{Ballot, Foundation};
use isis_wire::frame::{FLAG_BEGIN, FLAG_END, Frame, FrameKind, write_context, write_order, write_proposals};
use isis_wire::id::{GroupId, Nonce, ProcessId, SiteKey, SystemId};
use isis_wire::message::{
    Accept, Attempt, ChannelAck, ChannelHeader, Code, Envelope, Joiner, MemberEntry, Message, PieceHeader, Promise,
    StateBlock, StateStatus, Value,
};
use isis_wire::multi::{Finals, MultiHeader, MultiId, MultiReport, Open};
use isis_wire::packet::{self, DataHeader, Header, PacketKind, PlaceRecord};
use isis_wire::row::Row;
use isis_wire::{Address, Writer};

/// The seeds of a target, each with a name.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut list = match target {
        "packet" => packets(),
        "frame" => frames(),
        "row" => rows(),
        "message" => messages(),
        "endpoint" => scripts(),
        _ => Vec::new(),
    };
    list.extend(super::hostile::seeds(target));
    list
}

/// A datagram of this kind with this body.
pub(crate) fn datagram(kind: PacketKind, body: &[u8]) -> Vec<u8> {
    let header = Header { kind, birth: 5, system: SystemId(1 << 90), group: GroupId(3), view: 7 };
    let mut out = Vec::new();
    packet::begin(&mut out, &header);
    out.extend_from_slice(body);
    packet::seal(&mut out, &[]);
    out
}

/// What carries a datagram to the first process of the made-up world by way of another one.
pub fn relay(datagram: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    address(0).write(&mut out);
    out.bytes.extend_from_slice(datagram);
    out.bytes
}

fn packets() -> Vec<(String, Vec<u8>)> {
    let kinds = [
        PacketKind::Data,
        PacketKind::Row,
        PacketKind::Nak,
        PacketKind::Message,
        PacketKind::Piece,
        PacketKind::Channel,
        PacketKind::ChannelAck,
        PacketKind::Digest,
        PacketKind::Relay,
        PacketKind::Placed,
    ];
    let seed = |kind: PacketKind| {
        let mut body = Vec::new();
        if kind == PacketKind::Data {
            DataHeader { rank: 1, row_len: 8, asks: false, position: 64 }.write(&mut body);
            body.extend_from_slice(&[0; 24]);
        } else if kind == PacketKind::Placed {
            DataHeader { rank: 1, row_len: 8, asks: false, position: 64 }.write(&mut body);
            body.extend_from_slice(&[0; 8]);
            PlaceRecord { chunk: 0, offset: 64, len: 80, generation: 0 }.write(&mut body);
        } else if kind == PacketKind::Digest {
            let mut out = Writer::new();
            write_head(&mut out, 2, Ask::Level(1), 3);
            for end in [8, 800, 1 << 40] {
                let entry = Entry {
                    received: 8,
                    consumed: 8,
                    delivered: 2,
                    slowest: 5,
                    shown: true,
                    end,
                    sign: Sign { beat: 300, misses: Missed::new([1, 4]) },
                };
                write_entry(&mut out, &entry);
            }
            body = out.bytes;
        } else if kind == PacketKind::Relay {
            body = relay(&datagram(PacketKind::Nak, &[1, 1, 0, 8]));
        } else {
            body.extend_from_slice(&[1, 2, 3]);
        }
        (format!("{kind:?}").to_lowercase(), datagram(kind, &body))
    };
    kinds.into_iter().map(seed).collect()
}

fn frames() -> Vec<(String, Vec<u8>)> {
    let mut stream = vec![3];
    for kind in [FrameKind::Fifo, FrameKind::Total, FrameKind::Pad] {
        stream.extend_from_slice(&Frame { kind, flags: FLAG_BEGIN | FLAG_END, entry: 1, len: 5 }.header());
        stream.extend_from_slice(b"hello\0\0\0");
    }
    let mut context = Writer::new();
    context.u8(3);
    write_context(&mut context, &[(0, 4), (2, 1 << 40)]);
    let mut order = Writer::new();
    order.u8(3);
    write_order(&mut order, &[(0, 1), (2, 300)]);
    let mut propose = Writer::new();
    propose.u8(3);
    write_proposals(&mut propose, 1 << 33, &[(0, 1), (2, 300)]);
    vec![
        ("stream".into(), stream),
        ("context".into(), context.bytes),
        ("order".into(), order.bytes),
        ("propose".into(), propose.bytes),
    ]
}

fn rows() -> Vec<(String, Vec<u8>)> {
    let row = Row { end: 800, received: vec![800, 64, 1 << 40], consumed: vec![640, 0, 8], delivered: vec![7, 1, 0] };
    let mut out = Writer::new();
    out.u8(3);
    row.write(&mut out);
    vec![("three".into(), out.bytes)]
}

fn sample_value() -> Value {
    let entry = |slot: u16, state| MemberEntry {
        process: ProcessId::new(0, slot, 1),
        nonce: Nonce(9),
        site: SiteKey(100),
        address: Address { ip: [1; 16], port: 80 },
        state,
        max_pause_ns: 7_000_000,
    };
    let donor = ProcessId::new(0, 0, 1);
    Value {
        number: 4,
        system_view: 2,
        members: vec![
            entry(0, StateStatus::Has),
            entry(1, StateStatus::From { donor, view: 4 }),
            entry(2, StateStatus::Needs),
        ],
        cut: vec![8, 1 << 20],
        left: vec![ProcessId(7)],
        joined: vec![ProcessId::new(0, 2, 1)],
        executed: vec![(donor, 2)],
        next_site: 1,
        clock: 12,
        settled: vec![(MultiId { sender: ProcessId(7), number: 3 }, 11)],
    }
}

/// One message of every variant.
pub fn all_messages() -> Vec<Message> {
    let attempt = Attempt { system_view: 2, counter: 1, proposer: ProcessId::new(0, 0, 1) };
    let (nonce, site, address) = (Nonce(5), SiteKey(100), Address { ip: [2; 16], port: 9 });
    let joiner = Joiner { process: ProcessId(1), nonce, site, address, request: 1, wants_state: true, max_pause_ns: 0 };
    let open = Open { id: MultiId { sender: ProcessId(7), number: 3 }, groups: vec![GroupId(1), GroupId(4)] };
    let promise = Promise {
        attempt,
        received: vec![8, 16],
        accepted: Some((attempt, sample_value())),
        state: StateStatus::Has,
        leaving: 0,
        dead: vec![ProcessId(3)],
        multis: MultiReport { clock: 12, copies: 1, open: vec![open.clone()], finals: vec![(open.id, 11)] },
    };
    let ballot = Ballot { founding: 2, counter: 1, founder: nonce };
    let member = sample_value().members.remove(0);
    let foundation = Foundation { system: SystemId(8), members: sample_value().members };
    let accept = Accept { attempt, value: sample_value(), holders: vec![(ProcessId(1), vec![8, 16])] };
    vec![
        Message::Discover { nonce, site, address, may_found: true },
        Message::Found { system: SystemId(7), contacts: vec![address], stalled: false, founding: 1 },
        Message::Candidate { nonce, site, address, may_found: false },
        Message::Join { joiner: joiner.clone(), system_view: 2, heard: vec![9, 1 << 60] },
        Message::Prepare { attempt, joiners: vec![joiner] },
        Message::Promised { promise },
        Message::JoinerReady { attempt, nonce, request: 1 },
        Message::Refuse { promised: attempt },
        Message::Accept { accept },
        Message::Accepted { attempt, dead: vec![ProcessId(3)] },
        Message::CannotFetch { attempt },
        Message::Decide { value: sample_value(), snapshot: Some(Directory::default().encode()) },
        Message::Installed { number: 4 },
        Message::Behind { reserved: 0 },
        Message::Leave { request: 2 },
        Message::NotHere { directory: 3 },
        Message::Probe { number: 1 << 60 },
        Message::Alive { number: 7 },
        Message::Deaths { dead: vec![ProcessId(3)] },
        Message::Pledge { ballot, expected: 3, previous: SystemId(7), free: vec![site] },
        Message::Pledged { ballot, member, lives_in: SystemId(7), accepted: Some((ballot, foundation.clone())) },
        Message::PledgeRefused { ballot, promised: ballot, decided: 1, foundation: foundation.clone() },
        Message::FoundingAccept { ballot, foundation: foundation.clone() },
        Message::FoundingAccepted { ballot, site },
        Message::Founded { number: 2, foundation },
        Message::Settle { attempt, open: vec![open.clone()] },
        Message::Settled { attempt, finals: vec![(open.id, 11)] },
        Message::Complete { done: vec![open.id] },
        Message::Pending { open: vec![open] },
    ]
}

fn messages() -> Vec<(String, Vec<u8>)> {
    let mut list: Vec<(String, Vec<u8>)> = Vec::new();
    for message in all_messages() {
        let mut out = Writer::new();
        out.u8(0);
        message.encode(&mut out);
        list.push((message.name().to_lowercase(), out.bytes));
    }
    let mut add = |name: &str, which: u8, write: &dyn Fn(&mut Writer)| {
        let mut out = Writer::new();
        out.u8(which);
        write(&mut out);
        list.push((name.to_owned(), out.bytes));
    };
    let to = ProcessId(4);
    add("piece", 1, &|out| PieceHeader { number: 1, index: 0, count: 2 }.write(out));
    add("channel", 2, &|out| ChannelHeader { to, lane: 1, number: 9, begin: true, end: false }.write(out));
    add("channel-ack", 3, &|out| ChannelAck { to, lane: 0, next: 3, bitmap: u64::MAX, delivered: 2 }.write(out));
    add("envelope", 4, &|out| {
        let answers = Some(((3, to), 5));
        let data = b"reply".to_vec();
        Envelope {
            group: GroupId(3),
            view: 2,
            vector: vec![1, 2],
            entry: 7,
            from_client: true,
            answers,
            number: 8,
            data,
        }
        .write(out);
    });
    add("state-block", 5, &|out| {
        StateBlock { group: GroupId(3), view: 2, offset: 0, done: true, data: vec![1, 2, 3] }.write(out);
    });
    add("operation", 6, &|out| {
        out.bytes
            .extend(Operation::Enter { name: "g".into(), process: to, total_order: TotalOrder::Sequencer }.encode());
    });
    add("directory", 6, &|out| {
        let mut directory = Directory::default();
        directory.apply(&Operation::Enter { name: "g".into(), process: to, total_order: TotalOrder::Sequencer });
        out.bytes.extend(directory.encode());
    });
    add("multi-header", 7, &|out| {
        MultiHeader { number: 9, complete: 3, clock: 11, safe: true, groups: vec![GroupId(1), GroupId(4)] }.write(out);
    });
    add("multi-finals", 8, &|out| {
        Finals { finals: vec![(MultiId { sender: to, number: 3 }, 11)] }.write(out);
    });
    list
}

/// Scripts of the endpoint target: traffic of each kind; a crash; damaged packets; a made-up body of every message.
fn scripts() -> Vec<(String, Vec<u8>)> {
    let mut traffic = vec![1];
    for node in 0..3 {
        for choice in 0..4 {
            traffic.extend_from_slice(&[16, node, 0, choice, 1, 0, 60, 0, 60, 0]);
        }
    }
    let mut crash = traffic.clone();
    crash.extend_from_slice(&[15, 1, 7, 240, 0, 240, 0, 14, 0, 0, 2, 240, 0]);
    let mut damaged = traffic.clone();
    for at in 0..20 {
        damaged.extend_from_slice(&[7, 0, 0, at, 0x55, 140, 0, 0, at, 1, 0, 0]);
    }
    let mut calls = vec![1];
    for call in 6..=13 {
        calls.extend_from_slice(&[16, 0, call, 50, 0, 40, 60, 0, 16, 1, call, 20, 0, 40, 60, 0]);
    }
    let mut list = vec![
        ("traffic".to_owned(), traffic),
        ("crash".to_owned(), crash),
        ("damaged".to_owned(), damaged),
        ("calls".to_owned(), calls),
        ("founding".to_owned(), vec![0, 200, 240, 0, 240, 0]),
        // 64: the number of sites is expected.
        ("founding-expected".to_owned(), vec![64, 200, 240, 0, 240, 0, 15, 0, 7, 240, 0]),
    ];
    let mut expected = list[0].1.clone();
    expected[0] = 65;
    list.push(("traffic-expected".to_owned(), expected));
    for message in all_messages() {
        let mut body = Writer::new();
        message.encode(&mut body);
        // In a system, about it or a group; and while sites agree on founding one.
        for (name, start, group) in [("system", 1, 0), ("group", 1, 1), ("founding", 64, 0)] {
            let steps: &[u8] = if start == 64 { &[6] } else { &[] };
            let script =
                [&[start], steps, &made_up(PacketKind::Message, group, &body.bytes), &[240, 0, 240, 0]].concat();
            list.push((format!("{}-{name}", message.name().to_lowercase()), script));
        }
    }
    list
}

/// The action that makes a body up behind the header of a true packet, of the second process to the first. Bodies are
/// cut at 199 bytes by the world.
pub(crate) fn made_up(kind: PacketKind, group: u8, body: &[u8]) -> Vec<u8> {
    let len = body.len() as u16;
    let mut action = vec![11, 0, kind as u8 - 1, group, 255, (len >> 8) as u8, len as u8];
    action.extend_from_slice(body);
    action
}
