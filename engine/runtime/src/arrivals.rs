//! Writes down when packets came, for measurements of failure detection (option `arrivals`): how long was each sender silent,
//! and when did this process itself not get its turn?
//!
//! One line each, times in nanoseconds of the monotone clock:
//! `from ADDRESS BEGIN END` (nothing came from there in between, for a millisecond or longer) and `own BEGIN END` (this process
//! was away from its loop for five or longer). `isis-bench roc` replays them.
//!
//! Owner: the loop, in place of the port that it wraps. Invariant: what is received is what the port gives, and when.

use crate::clock;
use crate::port::Port;
use isis_transport::{Capabilities, Datagram, Founding, RecordChange, SiteEvent, TransmitReport, Transport};
use isis_wire::Address;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Silences that are shorter are not written down.
const SILENCE_NS: u64 = 1_000_000;
/// Nor are own pauses that are shorter.
const PAUSE_NS: u64 = 5_000_000;
/// How often what was written goes to the file.
const FLUSH_NS: u64 = 500_000_000;

/// A port that notes when its packets came.
#[derive(Debug)]
pub(crate) struct Arrivals {
    port: Box<dyn Port>,
    out: BufWriter<File>,
    /// When the last packet of each sender came.
    last: BTreeMap<Address, u64>,
    turned_ns: u64,
    flushed_ns: u64,
}

impl Arrivals {
    pub fn record(port: Box<dyn Port>, file: &Path) -> io::Result<Arrivals> {
        let out = BufWriter::new(File::create(file)?);
        let now = clock::now().0;
        Ok(Arrivals { port, out, last: BTreeMap::new(), turned_ns: now, flushed_ns: now })
    }
}

impl Transport for Arrivals {
    fn capabilities(&self) -> Capabilities {
        self.port.capabilities()
    }
    fn receive_burst(&mut self, budget: usize, deliver: &mut dyn FnMut(Address, &[u8])) -> usize {
        let now = clock::now().0;
        let Arrivals { port, out, last, .. } = self;
        port.receive_burst(budget, &mut |from, bytes| {
            let before = last.insert(from, now).unwrap_or(now);
            if now.saturating_sub(before) >= SILENCE_NS {
                // A disk that is full ends the recording, and nothing else.
                let address = from.to_socket();
                let _ = writeln!(out, "from {address} {before} {now}");
            }
            deliver(from, bytes);
        })
    }
    fn transmit_burst<'a>(&mut self, datagrams: &mut dyn Iterator<Item = Datagram<'a>>) -> TransmitReport {
        self.port.transmit_burst(datagrams)
    }
    fn advance(&mut self, now_ns: u64) -> Option<u64> {
        if now_ns.saturating_sub(self.turned_ns) >= PAUSE_NS {
            let _ = writeln!(self.out, "own {} {now_ns}", self.turned_ns);
        }
        self.turned_ns = now_ns;
        if now_ns.saturating_sub(self.flushed_ns) >= FLUSH_NS {
            self.flushed_ns = now_ns;
            let _ = self.out.flush();
        }
        self.port.advance(now_ns)
    }
    fn prepare_sleep(&mut self) -> bool {
        self.port.prepare_sleep()
    }
    fn descriptors(&self, visit: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.port.descriptors(visit);
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.port.counters()
    }
}

impl Port for Arrivals {
    fn site_key(&self) -> u128 {
        self.port.site_key()
    }
    fn poll_site_event(&mut self) -> Option<SiteEvent> {
        self.port.poll_site_event()
    }
    fn poll_refused(&mut self) -> Option<(Address, Vec<u8>)> {
        self.port.poll_refused()
    }
    fn found(&mut self, system: u128) -> io::Result<Founding> {
        self.port.found(system)
    }
    fn joined(&mut self, system: u128) -> io::Result<()> {
        self.port.joined(system)
    }
    fn change_record(&mut self, change: &mut dyn FnMut(&[u8], u128) -> io::Result<RecordChange>) -> io::Result<()> {
        self.port.change_record(change)
    }
    fn join_group(&mut self, system: u128, group: u64) {
        self.port.join_group(system, group);
    }
    fn leave_group(&mut self, group: u64) {
        self.port.leave_group(group);
    }
    fn kill(&mut self, nonce: u128) -> io::Result<()> {
        self.port.kill(nonce)
    }
    fn watch(&mut self, nonce: u128) {
        self.port.watch(nonce);
    }
    fn farewell(&mut self) {
        let _ = self.out.flush();
        self.port.farewell();
    }
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.port.descriptor()
    }
}
