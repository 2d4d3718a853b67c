//! A reliable, ordered message channel between one pair of process incarnations, one direction for each pair of a
//! [`Sender`] and a [`Receiver`].
//!
//! What it is for: point-to-point messages, replies and the blocks of a state transfer. [BSS91] builds its multicasts
//! upon a point-to-point transport that loses nothing and keeps the order of sending; for unicasts this is that
//! transport. Multicasts have their own: streams of positions.
//!
//! Read this file (what both ends agree on), then [`sender`], its [`round_trip`], and [`receiver`].
//!
//! Who owns it: the layer that knows the pair of incarnations. It wraps frames and acknowledgements in packets that
//! name both incarnations, and throws both machines away when a system view excludes either.
//!
//! ```text
//! One frame, as its sender sees it:                        One frame, as its receiver sees it:
//!
//!            poll_frame            acknowledged            awaited ──in order──▶ assembled ──END──▶ a whole message
//! not cut ──────────────▶ InFlight ────────────▶ gone         │                     ▲
//!                          │  ▲ │                             └──early──▶ held ─────┘ when the gap before it closes
//!    3 later ones arrived, │  │ └─bitmap─▶ Held ─▶ gone
//!    or the timer ran out  ▼  │ poll_frame
//!                         Lost
//! ```
//!
//! Invariants:
//! - Frames are numbered 1, 2, 3 … and the unacknowledged ones span at most [`WINDOW`] numbers. Messages are numbered
//!   1, 2, 3 … as well; a message is handed over whole, once, in the order of their numbers.
//! - The receiver never holds the frame that it names as `next_expected`. So a sender that had taken that frame for
//!   held sends it again: the receiver may drop a held frame that turns out to be garbage.
//! - Memory: a sender keeps at most its limit, or one message; a receiver at most `WINDOW × frame_size` of early frames,
//!   `max_message` of an unfinished message, and, until they are polled, whole messages of
//!   `2 × max_message + WINDOW × (frame_size + MESSAGE_OVERHEAD)`: no frame is taken while they exceed `max_message`, and
//!   one frame completes at most the unfinished message and what waits behind it. Each whole message counts
//!   [`MESSAGE_OVERHEAD`] on top of its length, so that empty ones are bounded too.
//! - Nothing that the peer sends makes either machine panic: it is refused with a reason to count, [`Ignored`].

mod receiver;
mod round_trip;
mod sender;

#[cfg(test)]
mod tests;

pub use receiver::Receiver;
pub use sender::Sender;

use std::fmt;

/// Most frames between the oldest unacknowledged one and the newest sent one, both counted. A constant of the protocol
/// version: one acknowledgement describes all of them, the awaited frame by its number and the 63 after it by its bits.
pub const WINDOW: usize = 64;
/// Bytes that each queued message counts beyond its own length.
pub const MESSAGE_OVERHEAD: usize = 64;
/// Back-pressure: the message does not fit into the sender's queue now. It is given back for a later attempt.
#[derive(Debug, PartialEq, Eq)]
pub struct Full(pub Vec<u8>);

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no room for a message of {} bytes in the channel's queue", self.0.len())
    }
}

impl std::error::Error for Full {}

/// Why something from the peer was not taken. [`Ignored::is_ordinary`] tells those apart that no correct peer causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ignored {
    /// The frame was here before, or a newer acknowledgement was. Networks repeat and reorder.
    Duplicate,
    /// The whole messages that wait to be polled fill their share of memory. The peer will send the frame again.
    Backlog,
    /// A frame further ahead than the window, or an acknowledgement of frames that were never sent.
    BeyondWindow,
    /// A frame longer than `frame_size`.
    FrameTooLong,
    /// A message longer than `max_message`. The channel cannot get past it.
    MessageTooLong,
    /// A frame that cannot stand where it stands: END without BEGIN, BEGIN inside a message, an empty part of a longer
    /// message. It is forgotten; the channel goes on only if the peer sends a better one under its number.
    Malformed,
}

impl Ignored {
    /// Whether this happens between correct peers on an imperfect network.
    pub fn is_ordinary(self) -> bool {
        matches!(self, Ignored::Duplicate | Ignored::Backlog)
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ignored::Duplicate => "seen before",
            Ignored::Backlog => "too many messages wait to be taken",
            Ignored::BeyondWindow => "number outside the window",
            Ignored::FrameTooLong => "frame too long",
            Ignored::MessageTooLong => "message too long",
            Ignored::Malformed => "frame does not fit into the sequence of frames",
        })
    }
}

impl std::error::Error for Ignored {}

/// A part of a message, ready for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// 1, 2, 3 … in this direction of this pair.
    pub number: u64,
    /// The first part of its message.
    pub begin: bool,
    /// The last part of its message.
    pub end: bool,
    /// At most `frame_size` bytes; empty only for an empty message.
    pub payload: &'a [u8],
}
