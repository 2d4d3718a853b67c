//! The parsers of `isis-wire` and of the directory: any bytes are survived, and what is read is written alike.

use isis_protocol::directory::{Directory, Operation};
use isis_wire::digest::{MAX_ENTRY, read_digest, write_entry, write_head};
use isis_wire::frame::{
    FRAGMENT_MAX, FRAME_HEADER, Frame, frame_size, read_context, read_order, read_proposals, write_context,
    write_order, write_proposals,
};
use isis_wire::message::{ChannelAck, ChannelHeader, Code, Envelope, Message, PieceHeader, StateBlock};
use isis_wire::multi::{Finals, MultiHeader};
use isis_wire::packet::{self, DataHeader, HEADER, Packet, PacketKind, PlaceRecord, read_naks, write_naks};
use isis_wire::row::Row;
use isis_wire::{Reader, Writer};

/// Space in a chunk.
const CHUNK: usize = 64 * 1024;

/// A datagram: as it is, and with its first bytes and its sum put right, so that the fuzzer gets past them.
pub fn packet(data: &[u8]) {
    let _ = Packet::parse(data);
    if data.len() < HEADER {
        return;
    }
    let mut sealed = data.to_vec();
    sealed[..2].copy_from_slice(&packet::MAGIC.to_le_bytes());
    sealed[2] = packet::VERSION;
    packet::seal(&mut sealed, &[]);
    let Ok(packet) = Packet::parse(&sealed) else { return };
    let mut header = Vec::new();
    packet::begin(&mut header, &packet.header);
    header.extend_from_slice(packet.body);
    packet::seal(&mut header, &[]);
    assert_eq!(header, sealed, "a header is written as it was read");
    if packet.header.kind == PacketKind::Data
        && let Ok((data, row, bytes)) = DataHeader::parse(packet.body)
    {
        assert_eq!(row.len(), usize::from(data.row_len));
        assert_eq!(bytes.len() % 8, 0);
        assert!(data.position.checked_add(bytes.len() as u64).is_some());
    }
    if packet.header.kind == PacketKind::Placed
        && let Ok((_, _, record)) = DataHeader::parse(packet.body)
        && let Ok(place) = PlaceRecord::parse(record)
    {
        let mut out = Vec::new();
        place.write(&mut out);
        assert_eq!(PlaceRecord::parse(&out), Ok(place));
    }
    if packet.header.kind == PacketKind::Nak
        && let Ok(ranges) = read_naks(packet.body)
    {
        let mut out = Writer::new();
        write_naks(&mut out, &ranges);
        assert_eq!(read_naks(&out.bytes), Ok(ranges));
    }
    if packet.header.kind == PacketKind::Digest
        && let Ok(digest) = read_digest(packet.body, 64)
    {
        let mut out = Writer::new();
        write_head(&mut out, digest.level, digest.ask, digest.first);
        for entry in &digest.entries {
            let before = out.bytes.len();
            write_entry(&mut out, entry);
            assert!(out.bytes.len() - before <= MAX_ENTRY && usize::from(entry.slowest) < 64);
        }
        assert_eq!(read_digest(&out.bytes, 64), Ok(digest));
    }
}

/// Frames of a stream, with the payloads of control records.
pub fn frame(data: &[u8]) {
    let Some((&members, data)) = data.split_first() else { return };
    let members = usize::from(members);
    let mut at = 0;
    while at < data.len() {
        let Ok(frame) = Frame::parse(&data[at..], CHUNK - at % CHUNK) else { break };
        assert_eq!(Frame::parse(&frame.header(), CHUNK), Ok(frame));
        assert!(at % CHUNK + frame.size() <= CHUNK || frame.crosses());
        at += frame.size();
    }
    let mut entries = Vec::new();
    if read_context(data, members, &mut entries).is_ok() {
        assert!(entries.iter().all(|(rank, _)| usize::from(*rank) < members));
        let mut out = Writer::new();
        write_context(&mut out, &entries);
        let mut again = Vec::new();
        assert_eq!(read_context(&out.bytes, members, &mut again).map(|()| again), Ok(entries));
    }
    if let Ok(runs) = read_order(data, members) {
        let runs = Vec::from_iter(runs);
        assert!(runs.iter().all(|(rank, _)| usize::from(*rank) < members));
        // The last one may be a handover.
        assert!(runs.iter().rev().skip(1).all(|(_, count)| *count > 0));
        let mut out = Writer::new();
        write_order(&mut out, &runs);
        assert_eq!(read_order(&out.bytes, members).map(Vec::from_iter), Ok(runs));
    }
    if let Ok((first, runs)) = read_proposals(data, members) {
        let runs = Vec::from_iter(runs);
        assert!(runs.iter().all(|(rank, count)| usize::from(*rank) < members && *count > 0));
        let mut out = Writer::new();
        write_proposals(&mut out, first, &runs);
        let again = read_proposals(&out.bytes, members).map(|(first, runs)| (first, Vec::from_iter(runs)));
        assert_eq!(again, Ok((first, runs)));
    }
    assert!(data.len() < FRAME_HEADER || at <= data.len() + frame_size(FRAGMENT_MAX));
}

/// Rows: merging never goes back, and merging twice changes nothing.
pub fn row(data: &[u8]) {
    let Some((&members, data)) = data.split_first() else { return };
    let members = usize::from(members % 65);
    let mut row = Row::zero(members);
    let middle = data.len() / 2;
    for part in [&data[..middle], &data[middle..], data] {
        let before = row.clone();
        let merged = row.merge(part);
        assert!(row.end >= before.end);
        assert!(row.received.iter().zip(&before.received).all(|(now, then)| now >= then));
        assert!(row.received.iter().zip(&row.consumed).all(|(received, consumed)| received >= consumed));
        match merged {
            Ok(changed) => {
                assert_eq!(changed, row != before);
                assert_eq!(row.merge(part), Ok(false), "merging is idempotent");
            }
            Err(_) => assert_eq!(row, before, "a bad row changes nothing"),
        }
    }
    let mut out = Writer::new();
    row.write(&mut out);
    let mut copy = Row::zero(members);
    assert!(copy.merge(&out.bytes).is_ok());
    assert_eq!(copy, row);
}

fn round_trip<T: Code + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let mut reader = Reader::new(data);
    let Ok(value) = T::read(&mut reader) else { return };
    let mut out = Writer::new();
    value.write(&mut out);
    assert_eq!(T::read(&mut Reader::new(&out.bytes)), Ok(value));
}

/// Protocol messages, what travels on channels, directory operations and snapshots.
pub fn message(data: &[u8]) {
    let Some((&which, data)) = data.split_first() else { return };
    match which % 9 {
        0 => {
            if let Ok(message) = Message::decode(data) {
                let mut out = Writer::new();
                message.encode(&mut out);
                assert_eq!(Message::decode(&out.bytes), Ok(message));
            }
        }
        1 => round_trip::<PieceHeader>(data),
        2 => round_trip::<ChannelHeader>(data),
        3 => round_trip::<ChannelAck>(data),
        4 => round_trip::<Envelope>(data),
        5 => round_trip::<StateBlock>(data),
        7 => round_trip::<MultiHeader>(data),
        8 => round_trip::<Finals>(data),
        _ => {
            if let Ok(operation) = Operation::decode(data) {
                assert_eq!(Operation::decode(&operation.encode()), Ok(operation));
            }
            if let Ok(directory) = Directory::decode(data) {
                let _ = Directory::decode(&directory.encode());
            }
        }
    }
}
