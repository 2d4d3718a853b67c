//! What an application calls, as a trait: the endpoint itself in the simulator, a stand-in or a node with its transport elsewhere.
//!
//! Owner: whoever runs the application. Invariant: a call means the same on everything that has it, so that one application,
//! and one checker, serve all.

use crate::Endpoint;
use crate::config::JoinOptions;
use crate::event::{Body, Event, MessageId, Refused, SendOptions};
use crate::id::{GroupHandle, ProcessId};
use crate::time::Instant;
use std::fmt::Debug;

/// The application's calls of [`Endpoint`], with their promises: see the methods of the same names there.
#[allow(missing_docs)]
pub trait Calls: Debug {
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

impl Calls for Endpoint {
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
