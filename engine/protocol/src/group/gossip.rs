//! Who is told what of a large view's rows, and when (`plane/gossip.rs` says how they are gathered).
//!
//! ```text
//!  counters moved, row_delay later ──▶ digests to the next member of each level at which something changed
//!  heartbeat (system: always; others: while anything is unsettled) ──▶ digests of all levels
//!      └─ something is unsettled: the previous member of each level is asked for its digest, and asks those before it
//! ```
//! A member sends at most log₂ n digests a time, and none at a level where nothing changed; the time between grows with n
//! ([`Group::breadth`]). So the packets of all members together grow as n log n when idle, and hardly at all under load.
//!
//! In the system group digests carry heartbeats, and a heartbeat that came a long way is a sign of life like any other. If
//! all that precede a member failed at once, it would hear nothing and be heard by nobody until the next view: whoever
//! misses a predecessor therefore tells, and asks, everybody (the *alarm*), each heartbeat, as in a small view.

use super::Group;
use crate::counters::Counter;
use crate::id::ProcessId;
use crate::plane::gossip::Gossip;
use crate::shared::{Shared, Target};
use isis_wire::codec::DecodeError;
use isis_wire::digest::{Ask, Entry, MAX_ENTRY, read_digest, write_entry, write_head};
use isis_wire::packet::{HEADER, PacketKind};

/// Room for the head of a digest.
const HEAD: usize = 8;
/// Room that most entries of a digest need.
const USUAL_ENTRY: usize = 24;

impl Group {
    /// How much wider the group is than those for which the times of the configuration are meant: what is sent to everybody
    /// is repeated so many times more rarely.
    pub(crate) fn breadth(&self) -> u64 {
        (self.view.members.len() as u64 / 8).max(1)
    }

    /// At the start of a view: whether its rows are gathered.
    pub(super) fn begin_gossip(&mut self, shared: &Shared) {
        let members = self.view.members.len();
        let wide = members > shared.config.direct_rows.max(1);
        self.plane.gossip = wide.then(|| Box::new(Gossip::new(self.rank, members, shared.now)));
    }

    /// How long a row waits for company.
    pub(super) fn row_delay_ns(&self, shared: &Shared) -> u64 {
        shared.config.row_delay_ns * if self.plane.gossip.is_some() { self.breadth() } else { 1 }
    }

    /// A digest came.
    pub fn on_digest(&mut self, shared: &mut Shared, process: ProcessId, body: &[u8]) -> Result<(), DecodeError> {
        let digest = read_digest(body, self.plane.members)?;
        let Some(sender) = self.rank_of(process) else { return Ok(()) };
        self.plane.shown[sender] = true;
        let mut news = self.plane.receive_digest(shared.now, sender, &digest);
        for (rank, entry) in (usize::from(digest.first)..).zip(&digest.entries) {
            if rank == self.rank {
                continue;
            }
            let member = self.view.members[rank].process;
            if entry.shown && !self.plane.shown[rank] {
                self.plane.shown[rank] = true;
                self.note_shown(member, self.view.number);
                news = true;
            }
            self.note_sign(shared, rank, entry.sign);
        }
        if news {
            self.want_row(shared.now + self.row_delay_ns(shared));
        }
        if digest.ask == Ask::Sign {
            self.acknowledge_again(shared, process);
        }
        if let Some(gossip) = &mut self.plane.gossip {
            match digest.ask {
                Ask::Level(level) if usize::from(level) < gossip.levels() => {
                    gossip.asked |= 1 << level;
                    gossip.ask_below = gossip.ask_below.max(usize::from(level));
                }
                Ask::Sign if !gossip.asked_sign.contains(&sender) => gossip.asked_sign.push(sender),
                _ => return Ok(()),
            }
            let at = (gossip.answered_at + shared.config.heartbeat_ns / 4).max(shared.now);
            self.want_row(at);
        }
        Ok(())
    }

    /// Sends the digests that are due. `beat`: the heartbeat is.
    pub(super) fn send_digests(&mut self, shared: &mut Shared, beat: bool) {
        let unsettled = beat && self.is_unsettled();
        let told = self.told_row(shared);
        if beat {
            self.give_sign(shared);
        }
        let is_system = self.is_system();
        let Some(mut gossip) = self.plane.gossip.take() else { return };
        let own = told.as_ref().unwrap_or(&self.plane.rows[self.rank]);
        if beat {
            self.row_sent_at = shared.now;
            if unsettled && !is_system {
                // The system's digests are repeated in any case.
                gossip.ask_below = gossip.levels();
            }
        }
        let mut entries = Vec::with_capacity(self.plane.members);
        for level in 0..gossip.levels() {
            gossip.partial(&mut entries, level, own, &self.plane.shown);
            let asked = gossip.asked >> level & 1 == 1;
            if gossip.tell(level, &entries) || beat || asked {
                self.send_digest(shared, gossip.next(level), (level, Ask::Nothing), &entries);
            }
        }
        let beats = self.plane.signs[self.rank].beat;
        if beat && is_system && beats.is_multiple_of(2) {
            // One of the others in turn, so that each learns which links are broken.
            let turn = 1 + (beats / 2) as usize % (self.plane.members - 1);
            self.send_digest(shared, (self.rank + turn) % self.plane.members, (0, Ask::Nothing), &[]);
        }
        for level in 0..gossip.ask_below {
            self.send_digest(shared, gossip.previous(level), (0, Ask::Level(level as u8)), &[]);
        }
        if gossip.asked != 0 || !gossip.asked_sign.is_empty() {
            gossip.answered_at = shared.now;
        }
        (gossip.asked, gossip.ask_below) = (0, 0);
        gossip.partial(&mut entries, 0, own, &self.plane.shown);
        let row = entries;
        for rank in std::mem::take(&mut gossip.asked_sign) {
            self.send_digest(shared, rank, (0, Ask::Nothing), &row);
        }
        if unsettled {
            // Acknowledgements that this process waits for may have been lost.
            let waits_for: Vec<usize> = self.unicasts.keys().filter_map(|to| self.rank_of(*to)).collect();
            for rank in waits_for {
                self.send_digest(shared, rank, (0, Ask::Sign), &[]);
            }
        }
        let patience_ns = shared.config.suspect_min_ns / 2;
        let missed = gossip.heard_at.iter().any(|at| shared.now.since(*at) > patience_ns);
        if beat && is_system && missed {
            shared.count(Counter::GossipAlarms);
            for rank in (0..self.plane.members).filter(|rank| *rank != self.rank) {
                self.send_digest(shared, rank, (0, Ask::Sign), &row);
            }
        }
        self.plane.gossip = Some(gossip);
        self.plane.row_due = None;
    }

    /// Sends a digest, cut to the size of a datagram.
    fn send_digest(&self, shared: &mut Shared, rank: usize, (level, ask): (usize, Ask), entries: &[Entry]) {
        let address = self.view.members[rank].address;
        let room = shared.datagram_to(address) - HEADER;
        let mut next = 0;
        loop {
            let usual = HEAD + entries.len() * USUAL_ENTRY;
            let mut out = shared.begin_packet(PacketKind::Digest, self.id, self.view.number, usual.min(room));
            // Only the first part asks.
            write_head(&mut out, level as u8, if next == 0 { ask } else { Ask::Nothing }, next as u16);
            while next < entries.len() && out.bytes.len() - HEADER + MAX_ENTRY <= room {
                write_entry(&mut out, &Entry { sign: self.plane.signs[next], ..entries[next] });
                next += 1;
            }
            shared.send_packet(Target::Address(address), out);
            shared.count(Counter::DigestsSent);
            if next >= entries.len() {
                return;
            }
        }
    }
}
