//! The data plane of one view without any I/O: streams written, carried over, parsed, put into causal or total order,
//! delivered, consumed and given back, at all members. Times are per message and round over *all* members.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use isis_bench::plane::World;
use isis_protocol::{Kind, TotalOrder};

/// Messages of each sender in one batch.
const BATCH: usize = 64;

fn orders(c: &mut Criterion) {
    let mut group = c.benchmark_group("order");
    for members in [3_usize, 8] {
        let (sequencer, priority) = (TotalOrder::Sequencer, TotalOrder::Priority);
        for (name, kind, total_order) in [
            ("fifo", Kind::Fifo, sequencer),
            ("causal", Kind::Causal, sequencer),
            ("total", Kind::Total, sequencer),
            ("total by priorities", Kind::Total, priority),
        ] {
            let mut world = World::new(members, total_order);
            group.throughput(Throughput::Elements((BATCH * members) as u64));
            group.bench_function(BenchmarkId::new(name, members), |b| {
                b.iter(|| {
                    for rank in 0..members {
                        for _ in 0..BATCH {
                            world.send(rank, kind, false, &[7; 64], 4096);
                        }
                    }
                    world.exchange(BATCH * members * members);
                });
            });
        }
    }
    group.finish();
}

/// Each message follows one of another member: every one carries a vector.
fn causal_chain(c: &mut Criterion) {
    let mut world = World::new(3, TotalOrder::Sequencer);
    let mut turn = 0;
    let mut group = c.benchmark_group("causal chain");
    group.throughput(Throughput::Elements(1));
    group.bench_function("3", |b| {
        b.iter(|| {
            turn = (turn + 1) % 3;
            world.send(turn, Kind::Causal, false, &[7; 64], 4096);
            world.exchange(3);
        });
    });
    group.finish();
}

fn fragments(c: &mut Criterion) {
    let mut group = c.benchmark_group("fragmentation");
    for size in [1_024_usize, 65_536, 1 << 20] {
        let message = vec![7; size];
        let mut world = World::new(3, TotalOrder::Sequencer);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                world.send(1, Kind::Fifo, false, &message, 4096);
                world.exchange(3);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, orders, causal_chain, fragments);
criterion_main!(benches);
