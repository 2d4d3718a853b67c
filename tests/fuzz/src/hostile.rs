//! Seeds of six kinds of bugs that parsers of group communication systems and of transports have had: a fragment's number
//! used as an index, a sender's number believed, counts that wrap when they are added, a short message taken for a whole
//! one, a token's length believed. (The sixth, key material that is not wiped, waits for keys.) Fuzzing begins near them.

use super::seeds::{all_messages, datagram, made_up, relay};
use isis_wire::Writer;
use isis_wire::id::{GroupId, ProcessId};
use isis_wire::message::{Attempt, Code, Message, PieceHeader, StateBlock};
use isis_wire::packet::{DataHeader, PacketKind, PlaceRecord};

fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    write(&mut out);
    out.bytes
}

fn varints<const N: usize>(values: [u64; N]) -> Vec<u8> {
    written(|out| values.into_iter().for_each(|value| out.varint(value)))
}

/// A body with a name and its kind.
fn bodies() -> Vec<(&'static str, PacketKind, Vec<u8>)> {
    let piece = |index, count| written(|out| PieceHeader { number: 1, index, count }.write(out));
    let data = |rank, row_len, position| {
        let mut body = Vec::new();
        DataHeader { rank, row_len, asks: false, position }.write(&mut body);
        body.extend_from_slice(&[0; 16]);
        body
    };
    let placed = |chunk, offset: u32, len| {
        let mut body = Vec::new();
        DataHeader { rank: 1, row_len: 0, asks: false, position: u64::from(offset) }.write(&mut body);
        PlaceRecord { chunk, offset, len, generation: 0 }.write(&mut body);
        body
    };
    let message = |message: Message| written(|out| message.encode(out));
    let others = Attempt { system_view: 1, counter: 9, proposer: ProcessId::new(0, 0, 1) };
    vec![
        ("index-beyond-count", PacketKind::Piece, piece(9, 2)),
        ("index-of-none", PacketKind::Piece, piece(0, 0)),
        ("index-of-most", PacketKind::Piece, piece(u16::MAX - 1, u16::MAX)),
        ("index-position", PacketKind::Data, data(1, 0, u64::MAX - 7)),
        ("index-place", PacketKind::Placed, placed(u32::MAX, 64, 8)),
        ("counts-place", PacketKind::Placed, placed(0, 64, u32::MAX - 7)),
        ("short-place", PacketKind::Placed, placed(0, 64, 8)[..39].to_vec()),
        ("index-nak", PacketKind::Nak, varints([1, 1, u64::MAX - 15, u64::MAX - 7])),
        ("sender-rank", PacketKind::Data, data(u16::MAX, 0, 0)),
        ("sender-nak", PacketKind::Nak, varints([1, 65_537, 0, 8])),
        ("sender-proposer", PacketKind::Message, message(Message::Prepare { attempt: others, joiners: Vec::new() })),
        ("sender-deaths", PacketKind::Message, message(Message::Deaths { dead: vec![ProcessId::new(1, 0, 2)] })),
        ("counts-wrap", PacketKind::Message, [vec![17], varints([0xffff_ffff, 2])].concat()),
        ("counts-row", PacketKind::Row, [vec![1], varints([u64::MAX; 10])].concat()),
        ("sender-relay", PacketKind::Relay, relay(&made_up(PacketKind::Relay, 0, &relay(&[])))),
        ("short-relay", PacketKind::Relay, relay(&[])[..9].to_vec()),
        ("short-row", PacketKind::Row, vec![1]),
        ("short-data", PacketKind::Data, data(1, 0, 0)[..15].to_vec()),
        ("short-message", PacketKind::Message, vec![9]),
        ("short-nothing", PacketKind::Message, Vec::new()),
        ("token-row", PacketKind::Data, data(1, u16::MAX, 0)),
        ("token-list", PacketKind::Message, [vec![17], varints([u64::MAX])].concat()),
    ]
}

/// Those of a target.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let bodies = bodies().into_iter();
    match target {
        "packet" => bodies.map(|(name, kind, body)| (name.to_owned(), datagram(kind, &body))).collect(),
        "endpoint" => bodies
            .map(|(name, kind, body)| {
                let of_group = made_up(kind, 1, &body);
                let of_system = made_up(kind, 0, &body);
                (name.to_owned(), [&[1], &of_group[..], &of_system, &[240, 0, 240, 0]].concat())
            })
            .collect(),
        "message" => messages(),
        "frame" => [
            ("sender-rank", varints([1, 65_538, 5])),
            ("counts-wrap", varints([2, 0, 0xffff_ffff, 1, 2])),
            ("counts-many", varints([0xffff_ffff])),
            ("short-order", varints([2, 0, 5])),
        ]
        .map(|(name, payload)| (name.to_owned(), [vec![3], payload].concat()))
        .to_vec(),
        "row" => vec![
            ("counts-wrap".to_owned(), [vec![1], varints([u64::MAX, u64::MAX, 0, 1])].concat()),
            ("short".to_owned(), [vec![3], varints([800, 800])].concat()),
        ],
        _ => Vec::new(),
    }
}

fn messages() -> Vec<(String, Vec<u8>)> {
    let mut list = vec![
        ("index-beyond-count".to_owned(), written(|out| out.u8(1))),
        ("token-operation".to_owned(), [vec![6, 1], varints([u64::MAX])].concat()),
    ];
    list[0].1.extend(written(|out| PieceHeader { number: 1, index: 9, count: 2 }.write(out)));
    let block = StateBlock { group: GroupId(3), view: 2, offset: 0, done: true, data: Vec::new() };
    let mut token = vec![5];
    token.extend(written(|out| block.write(out)));
    token.pop();
    token.extend(varints([u64::MAX]));
    list.push(("token-block".to_owned(), token));
    // Every message without its last byte.
    for message in all_messages() {
        let mut bytes = vec![0];
        bytes.extend(written(|out| message.encode(out)));
        bytes.pop();
        list.push((format!("short-{}", message.name().to_lowercase()), bytes));
    }
    list
}
