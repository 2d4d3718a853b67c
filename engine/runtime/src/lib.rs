//! The runtime: one loop that turns the protocol core over a transport, in the caller's thread or in one of its own.
//!
//! Read in this order: [`options`] (what a user can set), [`event`] and [`error`] (what comes out), [`node`] (the handle),
//! `turn` (the loop, over `machine` and `port`), `inline` and `core` + `remote` (the two ways to run it: without and with a
//! thread), `command`, `mailbox`, `lane` and `lanes` (how commands and events pass between the threads), `sleep` (who waits for
//! what, on which descriptor), `registry` (what the application's side remembers), `tickets` (how a sender knows its own
//! messages again).
#![forbid(unsafe_code)]

mod arrivals;
mod clock;
mod command;
mod core;
pub mod error;
pub mod event;
#[cfg(all(test, not(loom)))]
mod fake;
mod inline;
mod lane;
mod lanes;
mod machine;
mod mailbox;
pub mod node;
#[cfg(all(test, not(loom)))]
mod node_tests;
pub mod options;
mod port;
mod registry;
mod remote;
mod sleep;
mod tickets;
mod turn;

pub use error::NodeError;
pub use event::{Batch, CommandName, Message, NodeEvent, Payload};
pub use node::{Node, Sender};
pub use options::{Mode, Multicast, OptionError, Options, WaitStrategy};
