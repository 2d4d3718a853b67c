//! Kinds of bugs that parsers of group communication systems and of transports have had, one test each: what such a parser
//! took, this one refuses. What no parser can see, who really sent a packet, is the core's: `tests/tests/hostile.rs`.
//!
//! One more kind, key material that is not wiped, waits for keys: there are none yet.

use isis_wire::frame::{Frame, FrameKind, read_context, read_order, write_order};
use isis_wire::id::{GroupId, Nonce, ProcessId, SiteKey, SystemId};
use isis_wire::message::{
    Accept, Attempt, ChannelAck, ChannelHeader, Code, Envelope, MAX_BYTES, MAX_NUMBER, Message, PieceHeader, Promise,
    StateBlock, StateStatus, Value,
};
use isis_wire::multi::{Finals, MAX_GROUPS, MultiHeader, MultiId, MultiReport, Open};
use isis_wire::packet::{
    self, DataHeader, HEADER, Header, MAX_POSITION, NakRange, Packet, PacketKind, read_naks, write_naks,
};
use isis_wire::row::Row;
use isis_wire::{Address, DecodeError, Reader, Writer};

fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    write(&mut out);
    out.bytes
}

fn varints<const N: usize>(values: [u64; N]) -> Vec<u8> {
    written(|out| values.into_iter().for_each(|value| out.varint(value)))
}

fn context(payload: &[u8], members: usize) -> Result<Vec<(u16, u64)>, DecodeError> {
    let mut entries = Vec::new();
    read_context(payload, members, &mut entries).map(|()| entries)
}

fn order(payload: &[u8], members: usize) -> Result<Vec<(u16, u32)>, DecodeError> {
    read_order(payload, members).map(Vec::from_iter)
}

/// A fragment's number is used as an index into the message that is put together.
#[test]
fn a_piece_lies_within_its_message() {
    let read = |index, count| {
        let bytes = written(|out| PieceHeader { number: 1, index, count }.write(out));
        PieceHeader::read(&mut Reader::new(&bytes))
    };
    assert_eq!(read(1, 2), Ok(PieceHeader { number: 1, index: 1, count: 2 }));
    for (index, count) in [(2, 2), (0, 0), (u16::MAX, 1), (u16::MAX, u16::MAX)] {
        assert_eq!(read(index, count), Err(DecodeError::BadValue), "piece {index} of {count}");
    }
    // A position is an index as well: counted on from the highest one, nothing overflows.
    let data = |position| {
        let mut body = Vec::new();
        DataHeader { rank: 0, row_len: 0, asks: false, position }.write(&mut body);
        body.extend_from_slice(&[0; 8]);
        DataHeader::parse(&body).map(|(header, _, _)| header.position)
    };
    assert_eq!(data(MAX_POSITION), Ok(MAX_POSITION));
    for position in [MAX_POSITION + 8, u64::MAX - 7, 4] {
        assert_eq!(data(position), Err(DecodeError::BadValue));
    }
    let naks = |from, end| read_naks(&varints([1, 3, from, end]));
    assert_eq!(naks(0, MAX_POSITION), Ok(vec![NakRange { rank: 3, from: 0, end: MAX_POSITION }]));
    for (from, end) in [(u64::MAX - 15, u64::MAX - 7), (8, 8), (16, 8), (0, 4), (4, 8), (0, MAX_POSITION + 8)] {
        assert_eq!(naks(from, end), Err(DecodeError::BadValue), "bytes {from} to {end}");
    }
}

/// A member's number in a packet is taken as it is. Here every rank is one of the view, before it is cut to sixteen bits, and
/// a row has as many entries as the view has members.
#[test]
fn a_rank_is_one_of_the_view() {
    assert_eq!(context(&varints([1, 2, 5]), 3), Ok(vec![(2, 5)]));
    assert_eq!(order(&varints([1, 2, 5]), 3), Ok(vec![(2, 5)]));
    for rank in [3, 65_535, 65_536, 65_538, u64::MAX] {
        assert_eq!(context(&varints([1, rank, 5]), 3), Err(DecodeError::BadValue), "rank {rank}");
        assert_eq!(order(&varints([1, rank, 5]), 3), Err(DecodeError::BadValue), "rank {rank}");
    }
    assert_eq!(read_naks(&varints([1, 65_538, 0, 8])), Err(DecodeError::BadValue), "it is 2 in sixteen bits");
    let row = |members| {
        let row = Row { end: 8, received: vec![8; members], consumed: vec![0; members], delivered: vec![1; members] };
        written(|out| row.write(out))
    };
    assert_eq!(Row::zero(3).merge(&row(3)), Ok(true));
    for other in [2, 8] {
        let mut own = Row::zero(3);
        assert!(own.merge(&row(other)).is_err(), "a row of {other} in a view of 3");
        assert_eq!(own, Row::zero(3), "a bad row changes nothing");
    }
}

/// Every message that has stream positions, with this one.
fn with_position(position: u64) -> [Message; 4] {
    let attempt = Attempt::default();
    let value = |cut| Value {
        number: 4,
        system_view: 2,
        members: Vec::new(),
        cut,
        left: Vec::new(),
        joined: Vec::new(),
        executed: Vec::new(),
        next_site: 1,
        clock: 0,
        settled: Vec::new(),
    };
    let accept = |cut, held| Accept { attempt, value: value(cut), holders: vec![(ProcessId(1), held)] };
    let promise = Promise {
        attempt,
        received: vec![0, position],
        accepted: None,
        state: StateStatus::Has,
        leaving: 0,
        dead: Vec::new(),
        multis: MultiReport { clock: 0, copies: 0, open: Vec::new(), finals: Vec::new() },
    };
    [
        Message::Promised { promise },
        Message::Accept { accept: accept(vec![position], vec![0]) },
        Message::Accept { accept: accept(vec![0], vec![position]) },
        Message::Decide { value: value(vec![position]), snapshot: None },
    ]
}

/// The counts of two lists are added in 32 bits, and the sum wraps. Here each count is compared with its limit and with what
/// is left before anything is done with it; and what is added up later is limited when it is read.
#[test]
fn counts_do_not_wrap() {
    for first in [0x8000_0000, 0xffff_ffff, 1 << 32, u64::MAX] {
        for second in [0x8000_0000, 0xffff_fff0] {
            // DEATHS with its list, and more behind it; an ORDER record of as many runs.
            let mut deaths = written(|out| out.u8(17));
            deaths.extend(varints([first, second]));
            deaths.resize(deaths.len() + 64, 0);
            assert_eq!(Message::decode(&deaths), Err(DecodeError::TooLong), "{first} and {second} items");
            assert!(read_order(&varints([first, second]), 1).is_err());
        }
    }
    // The largest counts of ABCASTs in one record: each is 32 bits, the sum is not made in 32.
    let runs = [(0, u32::MAX), (1, u32::MAX)];
    assert_eq!(order(&written(|out| write_order(out, &runs)), 2), Ok(runs.to_vec()));
    for count in [1 << 32, u64::MAX] {
        assert_eq!(order(&varints([1, 0, count]), 1), Err(DecodeError::BadValue), "a run of {count}");
    }
    // A run of none is a handover, behind which nothing comes.
    assert_eq!(order(&varints([2, 0, 7, 1, 0]), 2), Ok(vec![(0, 7), (1, 0)]));
    assert_eq!(order(&varints([2, 1, 0, 0, 7]), 2), Err(DecodeError::BadValue));
    assert_eq!(order(&varints([1, 2, 0]), 2), Err(DecodeError::BadValue), "a handover to nobody");
    assert_eq!(context(&varints([1, 0, MAX_NUMBER + 1]), 1), Err(DecodeError::BadValue));

    let merged = |end, received, delivered| Row::zero(1).merge(&varints([end, received, 0, delivered]));
    assert_eq!(merged(MAX_POSITION, MAX_POSITION, MAX_NUMBER), Ok(true));
    assert_eq!(merged(u64::MAX, 8, 1), Err(DecodeError::BadValue));
    assert_eq!(merged(8, u64::MAX, 1), Err(DecodeError::BadValue));
    assert_eq!(merged(8, 8, u64::MAX), Err(DecodeError::BadValue));
    for (position, refused) in [(MAX_POSITION, false), (MAX_POSITION + 1, true), (u64::MAX, true)] {
        for message in with_position(position) {
            let bytes = written(|out| message.encode(out));
            let expected = if refused { Err(DecodeError::BadValue) } else { Ok(message) };
            assert_eq!(Message::decode(&bytes), expected, "position {position}");
        }
    }
}

fn cut_short<T: Code + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = written(|out| value.write(out));
    assert_eq!(T::read(&mut Reader::new(&bytes)).as_ref(), Ok(value));
    for len in 0..bytes.len() {
        assert_eq!(T::read(&mut Reader::new(&bytes[..len])), Err(DecodeError::Truncated), "{len} bytes of {value:?}");
    }
}

/// A message that is too short is reported as read, its missing fields being zeros or what the buffer held before.
#[test]
fn a_short_message_is_none() {
    let to = ProcessId(4);
    cut_short(&PieceHeader { number: 1 << 20, index: 0, count: 2 });
    cut_short(&ChannelHeader { to, lane: 1, number: 1 << 40, begin: true, end: false });
    cut_short(&ChannelAck { to, lane: 0, next: 3, bitmap: u64::MAX, delivered: 300 });
    let answers = Some(((3, to), 5));
    let data = b"reply".to_vec();
    cut_short(&Envelope {
        group: GroupId(3),
        view: 2,
        vector: vec![1, 2],
        entry: 7,
        from_client: true,
        answers,
        number: 8,
        data,
    });
    cut_short(&Message::Discover { nonce: Nonce(1), site: SiteKey(2), address: Address::default(), may_found: true });

    let header = Header { kind: PacketKind::Row, birth: 1, system: SystemId(2), group: GroupId(3), view: 4 };
    let mut whole = Vec::new();
    packet::begin(&mut whole, &header);
    packet::seal(&mut whole, &[]);
    assert!(Packet::parse(&whole).is_ok());
    for len in 0..HEADER {
        assert!(Packet::parse(&whole[..len]).is_err(), "a header of {len} bytes");
    }
    let row = Row { end: 300, received: vec![300, 200], consumed: vec![300, 0], delivered: vec![300, 1] };
    let row = written(|out| row.write(out));
    for len in 0..row.len() {
        let mut own = Row::zero(2);
        assert_eq!(own.merge(&row[..len]), Err(DecodeError::Truncated), "{len} bytes of a row");
        assert_eq!(own, Row::zero(2), "a bad row changes nothing");
    }
    // Padding is zeros: other bytes are the rest of something else.
    for (last, outcome) in [(0, Ok(true)), (1, Err(DecodeError::Trailing))] {
        let mut padded = row.clone();
        padded.extend_from_slice(&[0, last]);
        assert_eq!(Row::zero(2).merge(&padded), outcome);
    }
    let mut data = Vec::new();
    DataHeader { rank: 1, row_len: 8, asks: false, position: 64 }.write(&mut data);
    data.extend_from_slice(&[0; 8]);
    assert!(DataHeader::parse(&data).is_ok());
    for len in 0..data.len() {
        assert_eq!(DataHeader::parse(&data[..len]).err(), Some(DecodeError::Truncated), "{len} bytes of a data body");
    }
    let naks = written(|out| write_naks(out, &[NakRange { rank: 1, from: 0, end: 800 }]));
    for len in 0..naks.len() {
        assert_eq!(read_naks(&naks[..len]), Err(DecodeError::Truncated), "{len} bytes of a NAK");
    }
    let frame = Frame { kind: FrameKind::Fifo, flags: 0, entry: 0, len: 100 };
    for space in 0..frame.size() {
        assert!(Frame::parse(&frame.header(), space).is_err(), "a frame of {} bytes in {space}", frame.size());
    }
}

/// The length of a token is believed. Here it is compared with the field's limit and with what is left before it is used.
#[test]
fn a_length_is_compared_before_it_is_used() {
    let string = |len: u64, there: usize| {
        let mut bytes = varints([len]);
        bytes.resize(bytes.len() + there, 7);
        Reader::new(&bytes).bytes(255).map(<[u8]>::len)
    };
    assert_eq!(string(255, 255), Ok(255));
    assert_eq!(string(255, 254), Err(DecodeError::Truncated));
    for len in [256, u64::from(u32::MAX), 1 << 63, u64::MAX] {
        assert_eq!(string(len, 300), Err(DecodeError::TooLong), "{len} bytes");
    }
    let errors = [
        (1000, DecodeError::Truncated),
        (MAX_BYTES as u64, DecodeError::Truncated),
        (MAX_BYTES as u64 + 1, DecodeError::TooLong),
        (u64::MAX, DecodeError::TooLong),
    ];
    for (len, error) in errors {
        let block = StateBlock { group: GroupId(1), view: 2, offset: 3, done: true, data: Vec::new() };
        let mut bytes = written(|out| block.write(out));
        bytes.pop();
        bytes.extend(varints([len]));
        bytes.resize(bytes.len() + 100, 0);
        assert_eq!(StateBlock::read(&mut Reader::new(&bytes)), Err(error), "a block of {len} bytes");
    }
    // A row that is said to be longer than its packet.
    let mut body = Vec::new();
    DataHeader { rank: 0, row_len: u16::MAX, asks: false, position: 0 }.write(&mut body);
    body.extend_from_slice(&[0; 64]);
    assert_eq!(DataHeader::parse(&body).err(), Some(DecodeError::Truncated));
}

/// The header of a copy is counted on from, and its groups are looked up one by one: neither overflows, nor is it long.
#[test]
fn a_copy_to_several_groups_is_of_some_and_not_too_many() {
    let read = |header: &MultiHeader| MultiHeader::read(&mut Reader::new(&written(|out| header.write(out))));
    let good = MultiHeader { number: 2, complete: 1, clock: MAX_NUMBER, safe: true, groups: vec![GroupId(3)] };
    assert_eq!(read(&good), Ok(good.clone()));
    let all = MultiHeader { groups: (0..MAX_GROUPS as u64).map(GroupId).collect(), ..good.clone() };
    assert_eq!(read(&all), Ok(all.clone()));
    let bad = [
        MultiHeader { number: MAX_NUMBER + 1, ..good.clone() },
        MultiHeader { clock: MAX_NUMBER + 1, ..good.clone() },
        MultiHeader { complete: 2, ..good.clone() },
        MultiHeader { number: 0, complete: 0, ..good.clone() },
        MultiHeader { groups: Vec::new(), ..good.clone() },
        MultiHeader { groups: (0..=MAX_GROUPS as u64).map(GroupId).collect(), ..good.clone() },
    ];
    for header in bad {
        assert_eq!(read(&header), Err(DecodeError::BadValue), "{header:?}");
    }
    let most = (u64::MAX - MAX_GROUPS as u64..u64::MAX).map(GroupId).collect();
    let longest = MultiHeader { number: MAX_NUMBER, complete: MAX_NUMBER - 1, groups: most, ..good.clone() };
    assert_eq!(written(|out| longest.write(out)).len(), MultiHeader::most_bytes(MAX_GROUPS));
    let whole = written(|out| good.write(out));
    for len in 0..whole.len() {
        assert_eq!(
            MultiHeader::read(&mut Reader::new(&whole[..len])),
            Err(DecodeError::Truncated),
            "{len} bytes of it"
        );
    }
    // Nor is a message's name, or a list longer than its bytes.
    let id = |number| written(|out| MultiId { sender: ProcessId(1), number }.write(out));
    assert!(MultiId::read(&mut Reader::new(&id(MAX_NUMBER))).is_ok());
    assert_eq!(MultiId::read(&mut Reader::new(&id(MAX_NUMBER + 1))), Err(DecodeError::BadValue));
    for count in [2, 1 << 16, u64::MAX] {
        let long = varints([count, 0]);
        assert!(Finals::read(&mut Reader::new(&long)).is_err(), "{count} finals");
        let open = written(|out| {
            MultiId::default().write(out);
            out.bytes.extend_from_slice(&long);
        });
        assert!(Open::read(&mut Reader::new(&open)).is_err(), "{count} groups");
    }
}
