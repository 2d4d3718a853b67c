//! The protocol core as the loop sees it: [`Endpoint`], or a stand-in of a test.
//!
//! Owner: the loop. Every method is the endpoint's of the same name; `transmit` drains `poll_transmit` into a transport.

use isis_protocol::{
    Calls, Delivery, Destination, Endpoint, Framed, Frames, Instant, Messages, Nonce, SiteAnswer, SiteRequest,
};
use isis_transport::{Datagram, TransmitReport, Transport};
use isis_wire::Address;

/// What the loop calls besides the application's [`Calls`]; see [`Endpoint`] for what each method promises.
#[allow(missing_docs)]
pub(crate) trait Machine: Calls + Send {
    fn handle_packet(&mut self, now: Instant, from: Address, packet: &[u8]);
    fn handle_timeout(&mut self, now: Instant);
    fn handle_death(&mut self, now: Instant, nonce: Nonce);
    fn handle_refused(&mut self, now: Instant, address: Address, quoted: &[u8]);
    fn handle_peer(&mut self, now: Instant, address: Address);
    fn handle_site_answer(&mut self, now: Instant, answer: SiteAnswer);
    fn set_datagram_network(&mut self, bytes: usize);

    fn has_event(&mut self, now: Instant) -> bool;
    fn poll_message(&mut self, now: Instant) -> Option<(&Messages, Framed)>;
    fn poll_messages(&mut self, now: Instant, most: usize, frames: &mut Frames) -> Option<Delivery>;
    /// Bytes that `poll_messages` told of.
    fn frame(&self, frame: &Framed) -> &[u8];
    fn has_little_to_send(&self) -> bool;
    /// One burst of `poll_transmit`; no datagrams in the report: there was nothing to send.
    fn transmit(&mut self, now: Instant, transport: &mut dyn Transport) -> TransmitReport;
    fn poll_site_request(&mut self) -> Option<SiteRequest>;
    /// Nothing is due, and nothing to be sent: a turn may leave the machine out.
    fn is_idle(&mut self, now: Instant) -> bool;
    fn poll_timeout(&self) -> Option<Instant>;
    fn is_stalled(&self) -> bool;
    fn counters(&self) -> Vec<(&'static str, u64)>;
}

impl Machine for Endpoint {
    fn handle_packet(&mut self, now: Instant, from: Address, packet: &[u8]) {
        Endpoint::handle_packet(self, now, from, packet);
    }
    fn handle_timeout(&mut self, now: Instant) {
        Endpoint::handle_timeout(self, now);
    }
    fn handle_death(&mut self, now: Instant, nonce: Nonce) {
        Endpoint::handle_death(self, now, nonce);
    }
    fn handle_refused(&mut self, now: Instant, address: Address, quoted: &[u8]) {
        Endpoint::handle_refused(self, now, address, quoted);
    }
    fn handle_peer(&mut self, now: Instant, address: Address) {
        Endpoint::handle_peer(self, now, address);
    }
    fn handle_site_answer(&mut self, now: Instant, answer: SiteAnswer) {
        Endpoint::handle_site_answer(self, now, answer);
    }
    fn set_datagram_network(&mut self, bytes: usize) {
        Endpoint::set_datagram_network(self, bytes);
    }
    fn has_event(&mut self, now: Instant) -> bool {
        Endpoint::has_event(self, now)
    }
    fn poll_message(&mut self, now: Instant) -> Option<(&Messages, Framed)> {
        Endpoint::poll_message(self, now)
    }
    fn poll_messages(&mut self, now: Instant, most: usize, frames: &mut Frames) -> Option<Delivery> {
        Endpoint::poll_messages(self, now, most, frames)
    }
    fn frame(&self, frame: &Framed) -> &[u8] {
        Endpoint::frame(self, frame)
    }
    fn transmit(&mut self, now: Instant, transport: &mut dyn Transport) -> TransmitReport {
        let mut datagrams = self.poll_transmit(now).map(|packet| Datagram {
            destination: match packet.destination {
                Destination::Unicast(address) => isis_transport::Destination::Unicast(address),
                Destination::Members { group, peers } => isis_transport::Destination::Members { group: group.0, peers },
            },
            header: packet.header,
            payload: packet.payload,
        });
        if datagrams.len() == 0 {
            return TransmitReport::default();
        }
        transport.transmit_burst(&mut datagrams)
    }
    fn has_little_to_send(&self) -> bool {
        Endpoint::has_little_to_send(self)
    }
    fn poll_site_request(&mut self) -> Option<SiteRequest> {
        Endpoint::poll_site_request(self)
    }
    fn is_idle(&mut self, now: Instant) -> bool {
        Endpoint::is_idle(self, now)
    }
    fn poll_timeout(&self) -> Option<Instant> {
        Endpoint::poll_timeout(self)
    }
    fn is_stalled(&self) -> bool {
        Endpoint::is_stalled(self)
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Endpoint::counters(self)
    }
}
