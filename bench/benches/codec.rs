//! Packets, frames and records: what every datagram and every message costs before the protocol looks at it.

use crc_fast::{CrcAlgorithm, Digest};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use isis_wire::Writer;
use isis_wire::frame::{FLAG_BEGIN, FLAG_END, Frame, FrameKind, read_context, read_order, write_context, write_order};
use isis_wire::packet::{self, DataHeader, Header, Packet, PacketKind};
use isis_wire::row::Row;
use std::hint::black_box;

fn header() -> Header {
    Header { kind: PacketKind::Data, birth: 7, system: Default::default(), group: Default::default(), view: 3 }
}

fn packets(c: &mut Criterion) {
    let mut group = c.benchmark_group("packet");
    for size in [64_usize, 1_344, 59_904] {
        let payload = vec![0x5a_u8; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("begin and seal", size), |b| {
            let mut first = Vec::with_capacity(128);
            b.iter(|| {
                first.clear();
                packet::begin(&mut first, &header());
                DataHeader { rank: 1, row_len: 0, asks: false, position: 64 }.write(&mut first);
                packet::seal(&mut first, black_box(&payload));
                first.len()
            });
        });
        let mut whole = Vec::new();
        packet::begin(&mut whole, &header());
        DataHeader { rank: 1, row_len: 0, asks: false, position: 64 }.write(&mut whole);
        packet::seal(&mut whole, &payload);
        whole.extend_from_slice(&payload);
        group.bench_function(BenchmarkId::new("check and parse", size), |b| {
            b.iter(|| {
                let packet = Packet::parse(black_box(&whole)).expect("a good packet");
                DataHeader::parse(packet.body).expect("a good body").2.len()
            });
        });
    }
    group.finish();
}

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    let frame = Frame { kind: FrameKind::Total, flags: FLAG_BEGIN | FLAG_END, entry: 1, len: 64 };
    let bytes = frame.header();
    group.bench_function("frame header", |b| b.iter(|| Frame::parse(black_box(&bytes), 65_536).expect("a good frame")));
    for members in [3_usize, 32] {
        let entries: Vec<(u16, u64)> = (0..members).map(|rank| (rank as u16, 1_000_000 + rank as u64)).collect();
        let mut context = Writer::new();
        write_context(&mut context, &entries);
        group.bench_function(BenchmarkId::new("context, written and read", members), |b| {
            let mut read = Vec::new();
            b.iter(|| {
                let mut out = Writer::new();
                write_context(&mut out, black_box(&entries));
                read.clear();
                read_context(&out.bytes, members, &mut read).expect("a good record");
                read.len()
            });
        });
        let runs: Vec<(u16, u32)> = (0..members).map(|rank| (rank as u16, 100)).collect();
        group.bench_function(BenchmarkId::new("order, written and read", members), |b| {
            b.iter(|| {
                let mut out = Writer::new();
                write_order(&mut out, black_box(&runs));
                read_order(&out.bytes, members).expect("a good record").count()
            });
        });
        let row = Row {
            end: 1 << 30,
            received: vec![1 << 30; members],
            consumed: vec![(1 << 30) - 4096; members],
            delivered: vec![1 << 20; members],
        };
        group.bench_function(BenchmarkId::new("row, written and merged", members), |b| {
            let mut other = Row::zero(members);
            b.iter(|| {
                let mut out = Writer::new();
                row.write(&mut out);
                other.merge(black_box(&out.bytes)).expect("a good row")
            });
        });
    }
    group.finish();
}

/// The two crates of which the packet takes one by the length (`engine/wire/src/packet.rs`).
fn checksums(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    let bytes = vec![0x5a_u8; 59_904];
    for size in [64_usize, 128, 192, 256, 512, 4_096, 59_904] {
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("crc32c", size), |b| {
            b.iter(|| crc32c::crc32c_append(5, black_box(&bytes[..size])));
        });
        group.bench_function(BenchmarkId::new("crc-fast", size), |b| {
            b.iter(|| {
                let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!5_u32));
                digest.update(black_box(&bytes[..size]));
                digest.finalize()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, packets, records, checksums);
criterion_main!(benches);
