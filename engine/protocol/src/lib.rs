//! The protocol core of ISIS: process groups with virtual synchrony, as deterministic state machines.
//!
//! Nothing in here does I/O, reads a clock, starts a thread or draws randomness of its own. Packets, commands, death
//! notices and the time come in through [`Endpoint`]; packets, events and the next deadline go out. The same code runs
//! under the simulator and under every transport.
//!
//! Reading order: [`stream`] (byte logs and their images), [`plane`] (the streams of one view: windows, stability,
//! delivery), [`group`] (views and how they change), [`endpoint`] (a process with all its groups),
//! [`founding`] (how named sites agree on a first view).
#![forbid(unsafe_code)]

#[macro_use]
pub mod mutants;

pub mod buffers;
pub mod calls;
pub mod channel;
pub mod config;
pub mod counters;
pub mod detector;
pub mod directory;
pub mod endpoint;
pub mod event;
pub mod few;
pub mod founding;
pub mod group;
pub mod id;
pub mod memory;
pub mod multis;
pub mod pending;
pub mod plane;
pub mod random;
pub mod receipts;
pub mod refusal;
pub mod shared;
pub mod stream;
pub mod time;

pub use calls::Calls;
pub use config::{Config, Handover, Hang, JoinOptions, TotalOrder};
pub use endpoint::{Destination, Endpoint, MAX_GROUPS, Transmit};
pub use event::{
    Body, Delivery, Departure, Event, Kind, Member, MessageId, Refused, SendOptions, SiteAnswer, SiteRequest,
    SlowReason, View,
};
pub use id::{GroupHandle, GroupId, Nonce, ProcessId, SiteKey, SystemId};
pub use memory::MemoryBound;
pub use pending::{AT_ONCE, Frames, Messages};
pub use stream::batch::Framed;
pub use time::Instant;
