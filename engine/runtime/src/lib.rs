//! The runtime: one loop that turns the protocol core over a transport, in the caller's thread or in one of its own.
//!
//! Read in this order: [`options`] (what a user can set), [`event`] and [`error`] (what comes out), [`node`] (the handle),
//! `turn` (the loop), `inline` and `threaded` (the two ways to run it), `mailbox` and `lane` (how commands and events pass
//! between the application and a core thread), `sleep` (who waits for what, on which descriptor).
#![forbid(unsafe_code)]

pub mod error;
pub mod event;
pub mod node;
pub mod options;

pub use error::NodeError;
pub use event::{CommandName, Message, NodeEvent, Payload};
pub use node::{Node, Sender};
pub use options::{Mode, Multicast, OptionError, Options, WaitStrategy};
