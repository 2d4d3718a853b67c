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

/// The trait and what gives it to the endpoint, from one list: each call is the endpoint's method of that name.
macro_rules! calls {
    ($(fn $call:ident(&mut self $(, $argument:ident: $type:ty)*) $(-> $result:ty)?;)*) => {
        /// The application's calls of [`Endpoint`], with their promises: see the methods of the same names there.
        pub trait Calls: Debug {
            $(
                #[doc = concat!("[`Endpoint::", stringify!($call), "`].")]
                fn $call(&mut self $(, $argument: $type)*) $(-> $result)?;
            )*
            /// [`Endpoint::payload`].
            fn payload<'a>(&'a self, body: &'a Body) -> &'a [u8];
        }

        impl Calls for Endpoint {
            $(
                fn $call(&mut self $(, $argument: $type)*) $(-> $result)? {
                    Endpoint::$call(self $(, $argument)*)
                }
            )*
            fn payload<'a>(&'a self, body: &'a Body) -> &'a [u8] {
                Endpoint::payload(self, body)
            }
        }
    };
}

calls! {
    fn join(&mut self, now: Instant, name: &str, options: JoinOptions) -> Result<GroupHandle, Refused>;
    fn leave(&mut self, now: Instant, group: GroupHandle) -> Result<(), Refused>;
    fn multicast(&mut self, now: Instant, group: GroupHandle, options: SendOptions, data: &[u8]) -> Result<u64, Refused>;
    fn multicast_groups(
        &mut self, now: Instant, groups: &[GroupHandle], options: SendOptions, data: &[u8]
    ) -> Result<Vec<u64>, Refused>;
    fn claim(&mut self, group: GroupHandle, len: usize) -> Result<(), Refused>;
    fn claimed(&mut self, group: GroupHandle) -> Result<&mut [u8], Refused>;
    fn commit(&mut self, now: Instant, group: GroupHandle, options: SendOptions) -> Result<u64, Refused>;
    fn abort(&mut self, group: GroupHandle) -> Result<(), Refused>;
    fn send(&mut self, now: Instant, group: GroupHandle, member: ProcessId, entry: u8, data: &[u8]) -> Result<u64, Refused>;
    fn reply(&mut self, now: Instant, group: GroupHandle, to: MessageId, data: &[u8]) -> Result<u64, Refused>;
    fn flush(&mut self, now: Instant, group: GroupHandle) -> Result<u64, Refused>;
    fn state_block(
        &mut self, now: Instant, group: GroupHandle, transfer: u64, block: &[u8], done: bool
    ) -> Result<(), Refused>;
    fn poll_event(&mut self, now: Instant) -> Option<Event>;
    fn close(&mut self, now: Instant);
}
