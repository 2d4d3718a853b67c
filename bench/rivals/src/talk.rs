//! What `isis-bench compare` and a member of a rival say to each other: JSON, one line each, over the member's standard
//! input and output. Both sides include this file.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a member is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// How its messages travel; what there is depends on the system.
    pub transport: String,
    /// A directory for files of all members of this run.
    pub directory: PathBuf,
    /// Which member this is, from 0.
    pub index: u16,
    /// How many there are.
    pub members: u16,
    /// Payload bytes of a message, at least 16.
    pub size: usize,
    /// The first of 32 ports of this run.
    pub port: u16,
    /// Round trips instead of load: the first member sends one message at a time, each of the others answers by one of its
    /// own, and what is measured is the time until the last answer.
    pub answers: bool,
    /// A member with nothing to do keeps its processor.
    pub spin: bool,
}

/// Driver to member.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Send as fast as the system takes from now on.
    Load,
    /// Measure from now on.
    Measure,
    /// Tell what was measured ([`Report::Measured`]).
    Tell,
    /// Send no more.
    Hush,
    /// Leave and exit.
    Quit,
}

/// Member to driver.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    /// All members are connected with this one.
    Ready,
    /// The answer to [`Order::Tell`].
    Measured {
        /// Nanoseconds since [`Order::Measure`].
        elapsed_ns: u64,
        /// Messages delivered in that time, own ones among them where the system delivers them.
        delivered: u64,
        /// Own messages sent in that time.
        sent: u64,
        /// Messages of some sender that were left out, ever.
        lost: u64,
        /// Processor time of this process, nanoseconds.
        cpu_ns: u64,
        /// Send to own delivery, or round trips: `(nanoseconds, count)`. Empty where a system does not deliver its own messages.
        histogram: Vec<(u64, u64)>,
    },
    /// The system failed, or gave a message out of order or damaged.
    Failed(String),
}
