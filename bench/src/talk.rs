//! What a driver and its member processes say to each other: JSON, one line each, over the member's standard input and
//! output. Times are [`crate::now_ns`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The ordering of the load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KindName {
    /// FBCAST.
    Fifo,
    /// CBCAST.
    Causal,
    /// ABCAST.
    Total,
}

/// Who turns the loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ModeName {
    /// The member's own thread.
    Inline,
    /// A thread of the node.
    Threaded,
}

/// What an inline member does while there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum IdleName {
    /// As the option `wait` says; by default it yields for a while, then sleeps.
    Wait,
    /// It turns the loop and yields, as a program with a polling loop of its own does.
    Yield,
    /// It turns the loop and keeps its processor.
    Spin,
}

/// What a member is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The runtime directory of this bench.
    pub directory: PathBuf,
    /// Inline or threaded.
    pub mode: ModeName,
    /// Ordering of the load.
    pub kind: KindName,
    /// Payload bytes, at least 16.
    pub size: usize,
    /// Messages a second; 0 = as many as the window takes.
    pub rate: u64,
    /// Messages are due by a timetable, whatever the system does; their time runs from then. Needs a rate.
    pub timetable: bool,
    /// One message at a time: the next one only after the own delivery of the last.
    pub ping: bool,
    /// Round trips: the first member sends one message at a time, each of the others answers by one of its own, and what is
    /// measured is the time until the last answer.
    pub answers: bool,
    /// What to do while there is nothing to do.
    pub idle: IdleName,
    /// Bytes of ballast in the group's state.
    pub state: usize,
    /// Options by name, as of `Options::set`.
    pub options: Vec<(String, String)>,
}

/// Driver to member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Send load from now on.
    Load,
    /// Measure from now on: counters and histograms start at zero.
    Measure,
    /// Tell what was measured ([`Report::Measured`]).
    Tell,
    /// Send no more; tell how many were sent in all ([`Report::Sent`]).
    Hush,
    /// When so many were delivered from each of these processes, tell the end ([`Report::Settled`]).
    Settle(BTreeMap<u64, u64>),
    /// Tell the node's counters.
    Counters,
    /// Leave in order and exit.
    Quit,
}

/// Member to driver.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    /// `Node::open` was called, and returned.
    Opened {
        /// Before the call.
        at: u64,
    },
    /// The system admitted this process.
    Admitted {
        /// When.
        at: u64,
        /// Its identifier.
        process: u64,
        /// The system, in hexadecimal.
        system: String,
        /// When it asked to join the group.
        join_at: u64,
    },
    /// The group's state is here whole.
    State {
        /// When the first block came.
        first_at: u64,
        /// When.
        at: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// A view of the group.
    View {
        /// When.
        at: u64,
        /// Its number.
        number: u64,
        /// The group's identifier.
        group: u64,
        /// Own rank.
        rank: u16,
        /// Members by rank: identifier, birth, port.
        members: Vec<(u64, u64, u16)>,
    },
    /// The answer to [`Order::Tell`].
    Measured {
        /// Nanoseconds since [`Order::Measure`].
        elapsed_ns: u64,
        /// Messages delivered in that time.
        delivered: u64,
        /// Bytes of payload delivered.
        bytes: u64,
        /// Own messages sent.
        sent: u64,
        /// Processor time of this process, nanoseconds.
        cpu_ns: u64,
        /// Send to own delivery: `(nanoseconds, count)`.
        histogram: Vec<(u64, u64)>,
    },
    /// The answer to [`Order::Hush`].
    Sent {
        /// Identifier.
        process: u64,
        /// How many in all.
        count: u64,
    },
    /// Everything that [`Order::Settle`] named is delivered.
    Settled {
        /// Messages delivered or learnt of by state transfer.
        delivered: u64,
        /// The digest of the total order; 0 for other kinds.
        digest: u64,
    },
    /// The answer to [`Order::Counters`].
    Counters(BTreeMap<String, u64>),
    /// The check of order and loss failed, or the node did.
    Failed(String),
    /// Stalled, resumed, slow, and so on.
    Note(String),
}
