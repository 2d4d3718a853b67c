//! The protocol core as the loop sees it: [`Endpoint`], or a stand-in of a test.
//!
//! Owner: the loop. Every method is the endpoint's of the same name; `transmit` drains `poll_transmit` into a transport.

use isis_protocol::{
    Body, Destination, Endpoint, Event, GroupHandle, Instant, JoinOptions, MessageId, Nonce, ProcessId, Refused,
    SendOptions, SiteAnswer, SiteRequest,
};
use isis_transport::{Datagram, TransmitReport, Transport};
use isis_wire::Address;
use std::fmt::Debug;

/// See [`Endpoint`] for what each method promises.
#[allow(missing_docs)]
pub(crate) trait Machine: Send + Debug {
    fn handle_packet(&mut self, now: Instant, from: Address, packet: &[u8]);
    fn handle_timeout(&mut self, now: Instant);
    fn handle_death(&mut self, now: Instant, nonce: Nonce);
    fn handle_peer(&mut self, now: Instant, address: Address);
    fn handle_site_answer(&mut self, now: Instant, answer: SiteAnswer);
    fn set_datagram_network(&mut self, bytes: usize);

    fn join(&mut self, now: Instant, name: &str, options: JoinOptions) -> Result<GroupHandle, Refused>;
    fn leave(&mut self, now: Instant, group: GroupHandle) -> Result<(), Refused>;
    fn multicast(
        &mut self,
        now: Instant,
        group: GroupHandle,
        options: SendOptions,
        data: &[u8],
    ) -> Result<u64, Refused>;
    fn claim(&mut self, group: GroupHandle, len: usize) -> Result<(), Refused>;
    fn claimed(&mut self, group: GroupHandle) -> Result<&mut [u8], Refused>;
    fn commit(&mut self, now: Instant, group: GroupHandle, options: SendOptions) -> Result<u64, Refused>;
    fn abort(&mut self, group: GroupHandle) -> Result<(), Refused>;
    fn send(
        &mut self,
        now: Instant,
        group: GroupHandle,
        member: ProcessId,
        entry: u8,
        data: &[u8],
    ) -> Result<u64, Refused>;
    fn reply(&mut self, now: Instant, group: GroupHandle, to: MessageId, data: &[u8]) -> Result<u64, Refused>;
    fn flush(&mut self, now: Instant, group: GroupHandle) -> Result<u64, Refused>;
    fn state_block(
        &mut self,
        now: Instant,
        group: GroupHandle,
        transfer: u64,
        block: &[u8],
        done: bool,
    ) -> Result<(), Refused>;
    fn close(&mut self, now: Instant);

    fn has_event(&mut self, now: Instant) -> bool;
    fn poll_event(&mut self, now: Instant) -> Option<Event>;
    fn payload<'a>(&'a self, body: &'a Body) -> &'a [u8];
    /// One burst of `poll_transmit`; no datagrams in the report: there was nothing to send.
    fn transmit(&mut self, now: Instant, transport: &mut dyn Transport) -> TransmitReport;
    fn poll_site_request(&mut self) -> Option<SiteRequest>;
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
    fn handle_peer(&mut self, now: Instant, address: Address) {
        Endpoint::handle_peer(self, now, address);
    }
    fn handle_site_answer(&mut self, now: Instant, answer: SiteAnswer) {
        Endpoint::handle_site_answer(self, now, answer);
    }
    fn set_datagram_network(&mut self, bytes: usize) {
        Endpoint::set_datagram_network(self, bytes);
    }
    fn join(&mut self, now: Instant, name: &str, options: JoinOptions) -> Result<GroupHandle, Refused> {
        Endpoint::join(self, now, name, options)
    }
    fn leave(&mut self, now: Instant, group: GroupHandle) -> Result<(), Refused> {
        Endpoint::leave(self, now, group)
    }
    fn multicast(
        &mut self,
        now: Instant,
        group: GroupHandle,
        options: SendOptions,
        data: &[u8],
    ) -> Result<u64, Refused> {
        Endpoint::multicast(self, now, group, options, data)
    }
    fn claim(&mut self, group: GroupHandle, len: usize) -> Result<(), Refused> {
        Endpoint::claim(self, group, len)
    }
    fn claimed(&mut self, group: GroupHandle) -> Result<&mut [u8], Refused> {
        Endpoint::claimed(self, group)
    }
    fn commit(&mut self, now: Instant, group: GroupHandle, options: SendOptions) -> Result<u64, Refused> {
        Endpoint::commit(self, now, group, options)
    }
    fn abort(&mut self, group: GroupHandle) -> Result<(), Refused> {
        Endpoint::abort(self, group)
    }
    fn send(
        &mut self,
        now: Instant,
        group: GroupHandle,
        member: ProcessId,
        entry: u8,
        data: &[u8],
    ) -> Result<u64, Refused> {
        Endpoint::send(self, now, group, member, entry, data)
    }
    fn reply(&mut self, now: Instant, group: GroupHandle, to: MessageId, data: &[u8]) -> Result<u64, Refused> {
        Endpoint::reply(self, now, group, to, data)
    }
    fn flush(&mut self, now: Instant, group: GroupHandle) -> Result<u64, Refused> {
        Endpoint::flush(self, now, group)
    }
    fn state_block(
        &mut self,
        now: Instant,
        group: GroupHandle,
        transfer: u64,
        block: &[u8],
        done: bool,
    ) -> Result<(), Refused> {
        Endpoint::state_block(self, now, group, transfer, block, done)
    }
    fn close(&mut self, now: Instant) {
        Endpoint::close(self, now);
    }
    fn has_event(&mut self, now: Instant) -> bool {
        Endpoint::has_event(self, now)
    }
    fn poll_event(&mut self, now: Instant) -> Option<Event> {
        Endpoint::poll_event(self, now)
    }
    fn payload<'a>(&'a self, body: &'a Body) -> &'a [u8] {
        Endpoint::payload(self, body)
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
    fn poll_site_request(&mut self) -> Option<SiteRequest> {
        Endpoint::poll_site_request(self)
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
