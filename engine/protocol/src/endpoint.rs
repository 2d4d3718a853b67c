//! The face of the core.

use crate::config::{Config, JoinOptions};
use crate::event::{Body, Event, MessageId, Refused, SendOptions, SiteAnswer, SiteRequest};
use crate::id::{GroupHandle, GroupId, Nonce, ProcessId};
use crate::time::Instant;
use isis_memory::Region;
use isis_wire::Address;

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination<'a> {
    /// To one process.
    Unicast(Address),
    /// To every other member of a group: by one multicast, or to each address.
    Members {
        /// The group, from which a multicast address is derived.
        group: GroupId,
        /// The other members' addresses.
        peers: &'a [Address],
    },
}

/// A packet to send: `header` then `payload`, as one datagram.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Where to.
    pub destination: Destination<'a>,
    /// First part.
    pub header: &'a [u8],
    /// Second part: bytes of a stream, in place; may be empty.
    pub payload: &'a [u8],
}

/// One process in one system, with all its groups. A sans-I/O machine: after any `handle_*` or command, poll
/// `poll_transmit`, `poll_site_request` and `poll_event` until empty, and call `handle_timeout` at `poll_timeout`.
///
/// `now` must never go back. An endpoint belongs to one thread.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    region: Region,
}

impl Endpoint {
    /// A process that begins to look for a system at once.
    pub fn new(config: Config, region: Region, now: Instant) -> Endpoint {
        let _ = now;
        Endpoint { config, region }
    }

    // --- handle_*: the world comes in ---------------------------------------------------------------------------

    /// A datagram came. Anything that is not a good packet of this system is counted and dropped.
    pub fn handle_packet(&mut self, now: Instant, from: Address, packet: &[u8]) {
        let _ = (now, from, packet);
    }

    /// The time that `poll_timeout` named has come (calling earlier or later is harmless).
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// A process of this site is dead, for certain (pidfd or farewell; never a timeout).
    pub fn handle_death(&mut self, now: Instant, nonce: Nonce) {
        let _ = (now, nonce);
    }

    /// A process of this site was found (site link), or an operator named an address: look there for a system.
    pub fn handle_peer(&mut self, now: Instant, address: Address) {
        let _ = (now, address);
    }

    /// The answer to a [`SiteRequest::Found`].
    pub fn handle_site_answer(&mut self, now: Instant, answer: SiteAnswer) {
        let _ = (now, answer);
    }

    // --- commands of the application ------------------------------------------------------------------------------

    /// Joins the group of this name, or creates it. May be called before the system is joined. Complete with the first
    /// `Event::View` of the handle.
    pub fn join(&mut self, now: Instant, name: &str, options: JoinOptions) -> Result<GroupHandle, Refused> {
        let _ = (now, name, options);
        Err(Refused::Ended)
    }

    /// Leaves a group (or gives up joining it). Complete with `Event::Left`.
    pub fn leave(&mut self, now: Instant, group: GroupHandle) -> Result<(), Refused> {
        let _ = (now, group);
        Err(Refused::NotMember)
    }

    /// Multicasts `data` (copied once). Also delivered to this process itself.
    pub fn multicast(
        &mut self,
        now: Instant,
        group: GroupHandle,
        options: SendOptions,
        data: &[u8],
    ) -> Result<(), Refused> {
        let _ = (now, group, options, data);
        Err(Refused::NotMember)
    }

    /// Reserves `len` bytes in the outgoing stream, to be written in place through `claimed`. One claim at a time per group.
    pub fn claim(&mut self, group: GroupHandle, len: usize) -> Result<(), Refused> {
        let _ = (group, len);
        Err(Refused::NotMember)
    }

    /// The reserved bytes, 8-byte aligned in their chunk.
    pub fn claimed(&mut self, group: GroupHandle) -> Result<&mut [u8], Refused> {
        let _ = group;
        Err(Refused::BadClaim)
    }

    /// Multicasts the claimed bytes. The message belongs to the view of this call.
    pub fn commit(&mut self, now: Instant, group: GroupHandle, options: SendOptions) -> Result<(), Refused> {
        let _ = (now, group, options);
        Err(Refused::BadClaim)
    }

    /// Gives a claim up.
    pub fn abort(&mut self, group: GroupHandle) -> Result<(), Refused> {
        let _ = group;
        Err(Refused::BadClaim)
    }

    /// Sends to one member, after everything that this process has delivered or multicast in the group.
    pub fn send(
        &mut self,
        now: Instant,
        group: GroupHandle,
        member: ProcessId,
        entry: u8,
        data: &[u8],
    ) -> Result<(), Refused> {
        let _ = (now, group, member, entry, data);
        Err(Refused::NotMember)
    }

    /// Answers a message that was delivered in `group`: goes to its sender, as `send`.
    pub fn reply(&mut self, now: Instant, group: GroupHandle, to: MessageId, data: &[u8]) -> Result<(), Refused> {
        let _ = (now, group, to, data);
        Err(Refused::NotMember)
    }

    /// Asks for `Event::Flushed`, with the number returned, once all that this process multicast before is stable.
    pub fn flush(&mut self, now: Instant, group: GroupHandle) -> Result<u64, Refused> {
        let _ = (now, group);
        Err(Refused::NotMember)
    }

    /// Hands over the next bytes of the state captured for `transfer`; `done` with the last ones. `WouldBlock`: later
    /// (nothing was taken). An aborted transfer takes and drops everything.
    pub fn state_block(
        &mut self,
        now: Instant,
        group: GroupHandle,
        transfer: u64,
        block: &[u8],
        done: bool,
    ) -> Result<(), Refused> {
        let _ = (now, group, transfer, block, done);
        Err(Refused::NotMember)
    }

    /// Leaves all groups and the system. Complete with `Event::Closed`, after `linger_ns` at the latest.
    pub fn close(&mut self, now: Instant) {
        let _ = now;
    }

    // --- poll_*: effects go out --------------------------------------------------------------------------------------

    /// The next event. The event before it counts as consumed by this call: its bytes may be overwritten and its
    /// sender's window opens.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event> {
        let _ = now;
        None
    }

    /// The bytes of the last polled message.
    pub fn payload<'a>(&'a self, body: &'a Body) -> &'a [u8] {
        match body {
            Body::Chunk { chunk, offset, len } => {
                &self.region.chunk(*chunk)[*offset as usize..(*offset + *len) as usize]
            }
            Body::Owned(bytes) => bytes,
        }
    }

    /// Packets to send now: at most a burst; call again until it gives none. The slices are valid until the next call
    /// of any method that takes `&mut self`.
    pub fn poll_transmit(&mut self, now: Instant) -> impl ExactSizeIterator<Item = Transmit<'_>> {
        let _ = (now, &self.config);
        std::iter::empty()
    }

    /// The next question for the site's record.
    pub fn poll_site_request(&mut self) -> Option<SiteRequest> {
        None
    }

    /// When `handle_timeout` wants to be called next; `None`: never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    // --- getters -------------------------------------------------------------------------------------------------

    /// This process's identifier, once a system admitted it.
    pub fn process(&self) -> Option<ProcessId> {
        None
    }

    /// The named counters, in a fixed order.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("chunks_in_use", u64::from(self.region.in_use()))]
    }
}
