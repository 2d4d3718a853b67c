//! The receiving end of a channel: puts frames in order and messages together, and says what has arrived.
//!
//! Owner: the layer that knows the pair of incarnations. Invariants: the slot of `next_expected` is always empty; what is
//! kept stays below the bounds that the module above states.

use super::{Ignored, MESSAGE_OVERHEAD, WINDOW};
use crate::time::{Instant, MILLISECOND};
use std::collections::VecDeque;

/// How long a receiver keeps an acknowledgement back, waiting for a packet that it can ride on.
pub(super) const ACK_DELAY_NS: u64 = MILLISECOND;
/// An acknowledgement is kept back for no more frames than this.
pub(super) const ACK_EVERY: u32 = 4;

#[derive(Debug)]
pub(super) struct EarlyFrame {
    begin: bool,
    end: bool,
    pub(super) payload: Vec<u8>,
}

/// The receiving end. After every `handle_frame`, poll messages until there is none, then look whether an
/// acknowledgement is due.
#[derive(Debug)]
pub struct Receiver {
    frame_size: usize,
    max_message: usize,
    pub(super) next_expected: u64,
    /// Frames that came before `next_expected` did, each at its number modulo the window.
    pub(super) early: [Option<EarlyFrame>; WINDOW],
    pub(super) early_bytes: usize,
    /// The message whose BEGIN was here and whose END was not.
    pub(super) unfinished: Option<Vec<u8>>,
    pub(super) whole: VecDeque<Vec<u8>>,
    pub(super) whole_bytes: usize,
    /// Frames taken in order since the last acknowledgement.
    unacknowledged: u32,
    /// When the acknowledgement must go, if there is something to say.
    ack_at: Option<Instant>,
}

impl Receiver {
    /// A receiver of frames of at most `frame_size` bytes and of messages of at most `max_message` bytes.
    pub fn new(frame_size: usize, max_message: usize) -> Receiver {
        Receiver {
            frame_size,
            max_message,
            next_expected: 1,
            early: [const { None }; WINDOW],
            early_bytes: 0,
            unfinished: None,
            whole: VecDeque::new(),
            whole_bytes: 0,
            unacknowledged: 0,
            ack_at: None,
        }
    }

    /// A frame came. An error names the first thing that was dropped: this frame, or an early one whose turn it was and
    /// that turned out not to fit.
    pub fn handle_frame(
        &mut self,
        now: Instant,
        number: u64,
        begin: bool,
        end: bool,
        payload: &[u8],
    ) -> Result<(), Ignored> {
        if number < self.next_expected {
            // Our acknowledgement was lost, or is on its way.
            self.ack_at = Some(now);
            return Err(Ignored::Duplicate);
        }
        if number - self.next_expected >= WINDOW as u64 {
            return Err(Ignored::BeyondWindow);
        }
        if payload.len() > self.frame_size {
            return Err(Ignored::FrameTooLong);
        }
        if payload.is_empty() && !(begin && end) {
            return Err(Ignored::Malformed);
        }
        if self.whole_bytes > self.max_message {
            return Err(Ignored::Backlog);
        }
        if number > self.next_expected {
            self.ack_at = Some(now);
            let slot = &mut self.early[slot_of(number)];
            if slot.is_some() {
                return Err(Ignored::Duplicate);
            }
            *slot = Some(EarlyFrame { begin, end, payload: payload.to_vec() });
            self.early_bytes += payload.len();
            return Ok(());
        }
        self.assemble(begin, end, payload)?;
        self.unacknowledged += 1;
        let has_early_ones = self.early_bitmap() != 0;
        let at = if has_early_ones || self.unacknowledged >= ACK_EVERY { now } else { now + ACK_DELAY_NS };
        self.ack_at = Some(self.ack_at.map_or(at, |earlier| earlier.min(at)));
        self.next_expected += 1;
        while let Some(frame) = self.early[slot_of(self.next_expected)].take() {
            self.early_bytes -= frame.payload.len();
            self.assemble(frame.begin, frame.end, &frame.payload)?;
            self.next_expected += 1;
        }
        Ok(())
    }

    /// The next whole message.
    pub fn poll_message(&mut self) -> Option<Vec<u8>> {
        let message = self.whole.pop_front()?;
        self.whole_bytes -= message.len() + MESSAGE_OVERHEAD;
        Some(message)
    }

    /// Whether an acknowledgement must go now, with or without a packet to ride on.
    pub fn ack_due(&self, now: Instant) -> bool {
        self.ack_at.is_some_and(|at| at <= now)
    }

    /// When [`Receiver::ack_due`] turns true by itself.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ack_at
    }

    /// There is more to say than what came: the next acknowledgement goes at once.
    pub fn acknowledge_now(&mut self, now: Instant) {
        self.ack_at = Some(now);
    }

    /// The acknowledgement `(next_expected, bitmap)` for a packet that leaves now, if there is news since the last one.
    /// Bit `i` of the bitmap stands for the frame `next_expected + 1 + i`.
    pub fn take_ack(&mut self) -> Option<(u64, u64)> {
        self.ack_at.take()?;
        self.unacknowledged = 0;
        Some((self.next_expected, self.early_bitmap()))
    }

    /// Bytes kept: early frames, the unfinished message and the whole ones not polled, with their overhead.
    pub fn buffered_bytes(&self) -> usize {
        self.early_bytes + self.unfinished.as_ref().map_or(0, Vec::len) + self.whole_bytes
    }

    fn early_bitmap(&self) -> u64 {
        (0..WINDOW as u64 - 1)
            .filter(|bit| self.early[slot_of(self.next_expected + 1 + bit)].is_some())
            .fold(0, |bitmap, bit| bitmap | 1 << bit)
    }

    /// Adds the payload of the frame whose turn it is. On an error nothing has changed.
    fn assemble(&mut self, begin: bool, end: bool, payload: &[u8]) -> Result<(), Ignored> {
        if begin == self.unfinished.is_some() {
            return Err(Ignored::Malformed);
        }
        if self.unfinished.as_ref().map_or(0, Vec::len) + payload.len() > self.max_message {
            return Err(Ignored::MessageTooLong);
        }
        let mut message = self.unfinished.take().unwrap_or_default();
        message.extend_from_slice(payload);
        if end {
            self.whole_bytes += message.len() + MESSAGE_OVERHEAD;
            self.whole.push_back(message);
        } else {
            self.unfinished = Some(message);
        }
        Ok(())
    }
}

pub(super) fn slot_of(number: u64) -> usize {
    (number % WINDOW as u64) as usize
}
