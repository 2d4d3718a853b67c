//! Probing processes of other sites whose addresses refuse datagrams ([`crate::refusal`]): the hints come in, the probes go
//! out, and are answered. A process that is silent for longer than usual is probed as well, once.
//!
//! Owner: the endpoint. Invariant: a hint about an address that no process of another site in the system view has does
//! nothing.

use super::Endpoint;
use crate::counters::Counter;
use crate::id::GroupId;
use crate::time::Instant;
use isis_wire::Address;
use isis_wire::message::Message;
use isis_wire::packet::{Packet, PacketKind};

impl Endpoint {
    /// A datagram to `address` was refused there: the network says that no process receives at it. `quoted`: as much of that
    /// datagram as came back; may be empty, and may be forged.
    pub fn handle_refused(&mut self, now: Instant, address: Address, quoted: &[u8]) {
        self.at(now);
        let own_site = self.shared.config.site;
        let refused = self.refused_probe(quoted);
        let now = self.shared.now;
        let mut hints = 0;
        for peer in self.shared.peers.values_mut().filter(|peer| peer.entry.address == address) {
            if peer.entry.site == own_site || peer.reported_dead {
                continue;
            }
            hints += 1;
            peer.refusal.hint(now);
            if let Some(number) = refused {
                peer.refusal.probe_refused(number);
            }
        }
        self.shared.counters.add(Counter::RefusalsHeard, hints);
        self.quorum_seen = None;
    }

    /// The number of the own probe that was refused.
    fn refused_probe(&self, quoted: &[u8]) -> Option<u64> {
        let packet = Packet::parse(quoted).ok()?;
        let own = packet.header.birth == self.shared.config.nonce.birth();
        if !own || packet.header.kind != PacketKind::Message {
            return None;
        }
        match Message::decode(packet.body).ok()? {
            Message::Probe { number } => Some(number),
            _ => None,
        }
    }

    /// Sends the probes that are due.
    pub(super) fn drive_probes(&mut self) {
        let now = self.shared.now;
        if self.probes_deadline().is_none_or(|at| now < at) {
            return;
        }
        // Whoever is on the other side of the world may answer later; whoever is silent for longer is suspected anyway.
        let patience_ns = self.shared.config.suspect_min_ns / 2;
        let mut probes: Vec<(Address, u64)> = Vec::new();
        let (own_site, beat_ns) = (self.shared.config.site, self.shared.config.heartbeat_ns);
        for peer in self.shared.peers.values_mut() {
            if peer.doubtful_at(own_site, beat_ns).is_some_and(|at| now >= at) {
                peer.refusal.doubt(now);
            }
            if peer.refusal.wants_probe(now) {
                let number = self.shared.random.next();
                peer.refusal.probed(now, number, patience_ns);
                probes.push((peer.entry.address, number));
            }
        }
        let view = self.shared.system_view.number;
        for (to, number) in probes {
            self.shared.count(Counter::ProbesSent);
            self.shared.send(to, GroupId::SYSTEM, view, &Message::Probe { number });
        }
    }

    /// When `drive_probes` has something to do.
    pub(super) fn probes_deadline(&self) -> Option<Instant> {
        if !self.shared.has_remote_peers {
            return None;
        }
        let (own_site, beat_ns) = (self.shared.config.site, self.shared.config.heartbeat_ns);
        let peers = self.shared.peers.values();
        peers.filter_map(|peer| peer.refusal.deadline().or_else(|| peer.doubtful_at(own_site, beat_ns))).min()
    }

    /// "Are you there?" The answer, as any other packet, ends the trial.
    pub(super) fn on_probe(&mut self, from: Address, number: u64) {
        let view = self.shared.system_view.number;
        self.shared.send(from, GroupId::SYSTEM, view, &Message::Alive { number });
    }
}
