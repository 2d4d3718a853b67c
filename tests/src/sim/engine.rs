//! What an application calls: the core itself in the simulator, a node with its transport in the rig of real processes.
//!
//! Owner: whoever runs the application. Invariant: the calls mean the same on both sides, so that one application, and one
//! checker, serve both.

use isis_protocol::event::{Body, Event, MessageId, Refused, SendOptions};
use isis_protocol::id::{GroupHandle, ProcessId};
use isis_protocol::{Endpoint, Instant, JoinOptions};
use std::fmt::Debug;

/// The calls of `isis_protocol::Endpoint`, with their promises.
#[allow(missing_docs)]
pub trait Engine: Debug {
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
    fn poll_event(&mut self, now: Instant) -> Option<Event>;
    fn close(&mut self, now: Instant);
    fn payload<'a>(&'a self, body: &'a Body) -> &'a [u8];
}

impl Engine for Endpoint {
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
    fn poll_event(&mut self, now: Instant) -> Option<Event> {
        Endpoint::poll_event(self, now)
    }
    fn close(&mut self, now: Instant) {
        Endpoint::close(self, now);
    }
    fn payload<'a>(&'a self, body: &'a Body) -> &'a [u8] {
        Endpoint::payload(self, body)
    }
}
