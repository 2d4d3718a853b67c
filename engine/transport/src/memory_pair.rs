//! Two transports inside one process, joined by two queues: for tests, and as the smallest example of the trait.
//!
//! Bounded: a queue holds `QUEUE_MAX` datagrams, further ones are dropped, as a full socket buffer would.

use crate::transport::{Capabilities, Datagram, TransmitReport, Transport};
use isis_wire::Address;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Datagrams that wait in one direction.
const QUEUE_MAX: usize = 1_024;
/// Largest datagram.
const DATAGRAM_MAX: usize = 65_000;

type Queue = Arc<Mutex<VecDeque<Vec<u8>>>>;

/// One end.
#[derive(Debug)]
pub struct MemoryEnd {
    own: Address,
    other: Address,
    incoming: Queue,
    outgoing: Queue,
    received: u64,
    sent: u64,
    dropped: u64,
}

/// Two ends, each reached at its address.
pub fn memory_pair(one: Address, two: Address) -> (MemoryEnd, MemoryEnd) {
    let (to_one, to_two) = (Queue::default(), Queue::default());
    let end = |own, other, incoming: &Queue, outgoing: &Queue| MemoryEnd {
        own,
        other,
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        received: 0,
        sent: 0,
        dropped: 0,
    };
    (end(one, two, &to_one, &to_two), end(two, one, &to_two, &to_one))
}

fn lock(queue: &Queue) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
    // A panic of the other end leaves whole datagrams behind.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transport for MemoryEnd {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            local_address: self.own,
            datagram_local: DATAGRAM_MAX,
            datagram_network: DATAGRAM_MAX,
            multicast: false,
        }
    }

    fn receive_burst(&mut self, budget: usize, deliver: &mut dyn FnMut(Address, &[u8])) -> usize {
        let mut count = 0;
        while count < budget {
            // Not held during `deliver`, which may send.
            let Some(bytes) = lock(&self.incoming).pop_front() else { break };
            deliver(self.other, &bytes);
            count += 1;
        }
        self.received += count as u64;
        count
    }

    fn transmit_burst<'a>(&mut self, datagrams: &mut dyn Iterator<Item = Datagram<'a>>) -> TransmitReport {
        let mut report = TransmitReport::default();
        for datagram in datagrams {
            report.datagrams += 1;
            for to in datagram.destination.peers() {
                let mut queue = lock(&self.outgoing);
                if *to == self.other && datagram.len() <= DATAGRAM_MAX && queue.len() < QUEUE_MAX {
                    queue.push_back([datagram.header, datagram.payload].concat());
                    report.sent += 1;
                } else {
                    report.dropped += 1;
                }
            }
        }
        self.sent += report.sent as u64;
        self.dropped += report.dropped as u64;
        report
    }

    fn advance(&mut self, _now_ns: u64) -> Option<u64> {
        None
    }

    fn descriptors(&self, _visit: &mut dyn FnMut(BorrowedFd<'_>)) {}

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("memory_received", self.received), ("memory_sent", self.sent), ("memory_dropped", self.dropped)]
    }
}
