//! The data plane of one view without any I/O: streams written, carried over, parsed, put into causal or total order,
//! delivered, consumed and given back, at all members. Times are per message and round over *all* members.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use isis_memory::Region;
use isis_protocol::plane::Plane;
use isis_protocol::{Kind, SendOptions, TotalOrder};

/// Messages of each sender in one batch.
const BATCH: usize = 64;

/// A view whose members' bytes are copied from hand to hand.
struct World {
    planes: Vec<Plane>,
    regions: Vec<Region>,
    sent: Vec<u64>,
}

impl World {
    fn new(members: usize, total_order: TotalOrder) -> World {
        World {
            planes: (0..members).map(|me| Plane::new(me, members, 16 << 20, total_order)).collect(),
            regions: (0..members).map(|_| Region::heap(4096)).collect(),
            sent: vec![0; members],
        }
    }

    fn send(&mut self, rank: usize, kind: Kind, message: &[u8], fragment: usize) {
        let options = SendOptions { kind, safe: false, entry: 1 };
        let count = message.len().div_ceil(fragment).max(1);
        for (index, part) in message.chunks(fragment).enumerate() {
            let (begin, end) = (index == 0, index + 1 == count);
            self.planes[rank].append_fragment(&mut self.regions[rank], options, part, begin, end).expect("room");
        }
    }

    /// Publishes all streams, carries them to all, with rows; gives how many messages were delivered.
    fn exchange(&mut self) -> usize {
        let members = self.planes.len();
        let mut delivered = 0;
        // Twice: what is sent, and then what is said about its order.
        for _ in 0..2 {
            for from in 0..members {
                self.planes[from].publish(&mut self.regions[from]);
                let end = self.planes[from].log.published;
                while self.sent[from] < end {
                    let bytes = self.planes[from].bytes(&self.regions[from], from, self.sent[from], end).to_vec();
                    for to in (0..members).filter(|&to| to != from) {
                        self.planes[to].receive(&mut self.regions[to], from, self.sent[from], &bytes, 1 << 24);
                    }
                    self.sent[from] += bytes.len() as u64;
                }
            }
            for plane in &mut self.planes {
                while let Some((rank, message, _)) = plane.deliver_one() {
                    plane.consume(rank, message.end);
                    delivered += 1;
                }
            }
        }
        for from in 0..members {
            self.planes[from].refresh_row();
            let row = self.planes[from].rows[from].clone();
            for to in (0..members).filter(|&to| to != from) {
                self.planes[to].rows[from] = row.clone();
                self.planes[to].rows_changed = true;
            }
        }
        for (plane, region) in self.planes.iter_mut().zip(&mut self.regions) {
            plane.update_stability();
            plane.release(region);
        }
        delivered
    }
}

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
                            world.send(rank, kind, &[7; 64], 4096);
                        }
                    }
                    assert_eq!(world.exchange(), BATCH * members * members, "all deliver all");
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
            world.send(turn, Kind::Causal, &[7; 64], 4096);
            assert_eq!(world.exchange(), 3, "all deliver it");
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
                world.send(1, Kind::Fifo, &message, 4096);
                assert_eq!(world.exchange(), 3, "all deliver it");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, orders, causal_chain, fragments);
criterion_main!(benches);
