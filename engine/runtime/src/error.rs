//! Why a call of a [`crate::Node`] did not do what it was asked.

use crate::options::OptionError;
use isis_protocol::Refused;

/// Why a call failed. `WouldBlock` is not a failure: it is cheap, allocates nothing, and says "later".
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The window, or the ring to the core thread, is full, or the process is stalled. `NodeEvent::Writable` follows for
    /// groups.
    #[error("would block: the window is full, or the process is stalled")]
    WouldBlock,
    /// The message is longer than `max_message`, or the claim longer than `claim_max` tells.
    #[error("the message is too long")]
    TooLong,
    /// The handle names no group of which this process is a member (any more, or not yet).
    #[error("not a member of that group")]
    NotMember,
    /// The destination is not in the system.
    #[error("no such process")]
    NoSuchProcess,
    /// The node was evicted or closed: it takes no more commands.
    #[error("the node has left its system")]
    Ended,
    /// A claim is already open, or none is.
    #[error("no such claim")]
    BadClaim,
    /// This process is in that group already, or is joining it.
    #[error("this process is in that group already")]
    AlreadyMember,
    /// The kind is not one that this call can send.
    #[error("the kind cannot be sent by this call")]
    BadKind,
    /// The call belongs to the other mode (`turn` in threaded mode, `open_sender` in inline mode).
    #[error("not possible in this mode")]
    WrongMode,
    /// The core panicked: the node is dead, and its peers see a crash.
    #[error("the core failed: the node is poisoned")]
    Poisoned,
    /// The process was forked from the one that opened the node.
    #[error("used in a forked child")]
    Forked,
    /// An option is wrong.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The operating system refused something.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// The transport could not be opened.
    #[error("transport: {0}")]
    Transport(String),
}

impl NodeError {
    /// An error of the operating system.
    pub(crate) fn system(what: &'static str, error: impl Into<std::io::Error>) -> NodeError {
        NodeError::System { what, error: error.into() }
    }
}

impl From<Refused> for NodeError {
    fn from(refused: Refused) -> NodeError {
        match refused {
            Refused::WouldBlock => NodeError::WouldBlock,
            Refused::TooLong => NodeError::TooLong,
            Refused::NotMember => NodeError::NotMember,
            Refused::NoSuchProcess => NodeError::NoSuchProcess,
            Refused::Ended => NodeError::Ended,
            Refused::BadClaim => NodeError::BadClaim,
            Refused::BadKind => NodeError::BadKind,
            Refused::AlreadyMember => NodeError::AlreadyMember,
        }
    }
}
