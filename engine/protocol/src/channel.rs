//! A reliable, ordered message channel between one pair of process incarnations, one direction for each pair of a
//! [`Sender`] and a [`Receiver`].
//!
//! What it is for: point-to-point messages, replies and the blocks of a state transfer. [BSS91] builds its multicasts
//! upon a point-to-point transport that loses nothing and keeps the order of sending; for unicasts this is that
//! transport. Multicasts have their own: streams of positions.
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

use crate::time::{Instant, MILLISECOND, SECOND};
use std::collections::VecDeque;
use std::fmt;

#[cfg(test)]
mod tests;

/// Most frames between the oldest unacknowledged one and the newest sent one, both counted. A constant of the protocol
/// version: one acknowledgement describes all of them, the awaited frame by its number and the 63 after it by its bits.
pub const WINDOW: usize = 64;
/// Bytes that each queued message counts beyond its own length.
pub const MESSAGE_OVERHEAD: usize = 64;
/// Frames in flight that a new channel starts with.
const INITIAL_WINDOW: usize = 16;
/// The window never falls below this when single frames are lost; after a timeout it starts from 1.
const MIN_WINDOW: usize = 2;
/// A frame is taken for lost when this many frames that were first sent after it have arrived.
const REORDER_TOLERANCE: u8 = 3;
/// Retransmission timeout before the first measurement of a round trip.
const INITIAL_TIMEOUT_NS: u64 = 100 * MILLISECOND;
/// Least retransmission timeout: well above [`ACK_DELAY_NS`].
const MIN_TIMEOUT_NS: u64 = 5 * MILLISECOND;
/// Largest retransmission timeout, back-off included.
const MAX_TIMEOUT_NS: u64 = SECOND;
/// 5 ms doubled this often exceeds [`MAX_TIMEOUT_NS`].
const MAX_BACK_OFF: u32 = 8;
/// How long a receiver keeps an acknowledgement back, waiting for a packet that it can ride on.
const ACK_DELAY_NS: u64 = MILLISECOND;
/// An acknowledgement is kept back for no more frames than this.
const ACK_EVERY: u32 = 4;

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

/// What the sender knows of a frame that it has cut and that the peer has not passed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameState {
    /// Sent, and as far as we know on its way.
    InFlight,
    /// To be sent again.
    Lost,
    /// The peer has it, and still waits for an earlier one.
    Held,
}

#[derive(Debug)]
struct SentFrame {
    message: u64,
    offset: usize,
    length: usize,
    end: bool,
    state: FrameState,
    /// When it was sent last.
    sent_at: Instant,
    /// It was sent exactly once: only then does its acknowledgement tell a round trip (Karn's rule).
    sent_once: bool,
    /// The place of its first transmission among all transmissions: what surely left before its acknowledgement.
    first_transmission: u64,
    /// The place of its last transmission among all transmissions.
    last_transmission: u64,
    /// Arrivals of frames that were first sent after `last_transmission`, up to [`REORDER_TOLERANCE`].
    passed_by: u8,
}

/// Retransmission timeout after RFC 6298.
#[derive(Debug)]
struct RoundTrip {
    /// Smoothed round trip and its mean deviation.
    measured: Option<(u64, u64)>,
    /// Doublings since the last valid measurement. Not since the last acknowledgement: a round trip longer than the
    /// timeout would otherwise never be measured, since every frame of it is sent twice.
    back_off: u32,
}

impl RoundTrip {
    fn on_sample(&mut self, sample_ns: u64) {
        // A sample beyond the largest timeout says no more than that; the limit keeps the sums small.
        let sample_ns = sample_ns.min(2 * MAX_TIMEOUT_NS);
        self.back_off = 0;
        self.measured = Some(match self.measured {
            None => (sample_ns, sample_ns / 2),
            Some((smoothed, deviation)) => {
                ((7 * smoothed + sample_ns) / 8, (3 * deviation + smoothed.abs_diff(sample_ns)) / 4)
            }
        });
    }

    fn timeout_ns(&self) -> u64 {
        let base = self.measured.map_or(INITIAL_TIMEOUT_NS, |(smoothed, deviation)| smoothed + 4 * deviation);
        (base.clamp(MIN_TIMEOUT_NS, MAX_TIMEOUT_NS) << self.back_off).min(MAX_TIMEOUT_NS)
    }
}

/// The sending end. After every `enqueue` and `handle_*`, poll frames until there is none, then the timeout.
#[derive(Debug)]
pub struct Sender {
    frame_size: usize,
    limit_bytes: usize,
    /// Messages not fully acknowledged, oldest first; the first has the number `acknowledged + 1`.
    messages: VecDeque<Vec<u8>>,
    acknowledged: u64,
    queued_bytes: usize,
    /// Where the next new frame is cut: message number and offset.
    cut_message: u64,
    cut_offset: usize,
    /// Frames cut and not passed by the peer; the first has the number `base`.
    sent: VecDeque<SentFrame>,
    base: u64,
    /// How many of `sent` are in each state.
    in_flight: usize,
    lost: usize,
    transmissions: u64,
    /// Frames that may be in flight (additive increase, multiplicative decrease).
    window: usize,
    /// Below it the window grows by a frame for each arrival, from it on by a frame for each window.
    slow_start_threshold: usize,
    arrivals_towards_growth: usize,
    /// Losses of frames before this one belong to the loss that the window has already answered.
    recovery_until: u64,
    round_trip: RoundTrip,
    /// Set exactly while frames are in flight.
    timer: Option<Instant>,
}

impl Sender {
    /// A sender that cuts frames of at most `frame_size` bytes and queues at most `limit_bytes`
    /// ([`MESSAGE_OVERHEAD`] counted for each message). `frame_size` must not be 0 or exceed the receiver's.
    pub fn new(frame_size: usize, limit_bytes: usize) -> Sender {
        assert!(frame_size > 0, "a frame must hold something");
        Sender {
            frame_size,
            limit_bytes,
            messages: VecDeque::new(),
            acknowledged: 0,
            queued_bytes: 0,
            cut_message: 1,
            cut_offset: 0,
            sent: VecDeque::new(),
            base: 1,
            in_flight: 0,
            lost: 0,
            transmissions: 0,
            window: INITIAL_WINDOW,
            slow_start_threshold: WINDOW,
            arrivals_towards_growth: 0,
            recovery_until: 1,
            round_trip: RoundTrip { measured: None, back_off: 0 },
            timer: None,
        }
    }

    /// Takes a message to send and tells its number: 1, 2, 3 …
    ///
    /// An empty queue takes a message of any length, so that a limit below the largest message is no dead end; the
    /// caller has compared it with `max_message`.
    pub fn enqueue(&mut self, message: Vec<u8>) -> Result<u64, Full> {
        let cost = message.len() + MESSAGE_OVERHEAD;
        if !self.messages.is_empty() && self.queued_bytes + cost > self.limit_bytes {
            return Err(Full(message));
        }
        self.queued_bytes += cost;
        self.messages.push_back(message);
        Ok(self.acknowledged + self.messages.len() as u64)
    }

    /// Messages 1 to this are with the peer as a whole.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Everything enqueued is acknowledged.
    pub fn is_idle(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes of the messages that are not fully acknowledged, [`MESSAGE_OVERHEAD`] counted for each.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// An acknowledgement came: the peer has all frames below `next_expected`, and `next_expected + 1 + i` for each bit
    /// `i` of `bitmap`.
    pub fn handle_ack(&mut self, now: Instant, next_expected: u64, bitmap: u64) -> Result<(), Ignored> {
        if next_expected < self.base {
            return Err(Ignored::Duplicate);
        }
        let sent = self.sent.len() as u64;
        let passed = next_expected - self.base;
        let described = passed.saturating_add(if bitmap == 0 { 0 } else { 65 - u64::from(bitmap.leading_zeros()) });
        if described > sent {
            return Err(Ignored::BeyondWindow);
        }

        let mut arrived = Arrivals::default();
        for _ in 0..passed {
            let frame = self.sent.pop_front().expect("the acknowledgement was compared with the frames sent");
            self.base += 1;
            arrived.note(&frame);
            self.leave(frame.state);
            if frame.end {
                let message = self.messages.pop_front().expect("a frame's message stays until the frame is passed");
                self.acknowledged += 1;
                self.queued_bytes -= message.len() + MESSAGE_OVERHEAD;
            }
        }
        for bit in (0..63).filter(|bit| bitmap >> bit & 1 == 1) {
            let frame = &self.sent[bit + 1];
            arrived.note(frame);
            self.change(bit + 1, FrameState::Held);
        }
        // The peer cannot hold the frame that it waits for: it has dropped what it had reported.
        if self.sent.front().is_some_and(|frame| frame.state == FrameState::Held) {
            self.change(0, FrameState::Lost);
        }

        if let Some((sent_at, _)) = arrived.sample {
            self.round_trip.on_sample(now.since(sent_at));
        }
        self.find_lost(&arrived);
        if arrived.count > 0 {
            self.grow(arrived.count);
            self.timer = Some(now + self.round_trip.timeout_ns());
        }
        self.stop_timer_when_nothing_is_in_flight();
        Ok(())
    }

    /// The next frame to put into a packet at once, if any: lost ones first, then new ones.
    pub fn poll_frame(&mut self, now: Instant) -> Option<Frame<'_>> {
        let index = self.frame_to_send()?;
        self.transmissions += 1;
        let transmission = self.transmissions;
        if index == self.sent.len() {
            let frame = self.cut(now, transmission);
            self.sent.push_back(frame);
            self.in_flight += 1;
        } else {
            self.change(index, FrameState::InFlight);
            let frame = &mut self.sent[index];
            frame.sent_at = now;
            frame.sent_once = false;
            frame.last_transmission = transmission;
            frame.passed_by = 0;
        }
        self.timer.get_or_insert(now + self.round_trip.timeout_ns());
        let frame = &self.sent[index];
        let message = &self.messages[(frame.message - self.acknowledged - 1) as usize];
        Some(Frame {
            number: self.base + index as u64,
            begin: frame.offset == 0,
            end: frame.end,
            payload: &message[frame.offset..frame.offset + frame.length],
        })
    }

    /// When to call [`Sender::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timer
    }

    /// Time has passed. Before [`Sender::poll_timeout`] it does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.timer.is_none_or(|timer| now < timer) {
            return;
        }
        self.timer = None;
        self.slow_start_threshold = (self.in_flight / 2).max(MIN_WINDOW);
        self.window = 1;
        self.arrivals_towards_growth = 0;
        self.recovery_until = self.next_number();
        self.round_trip.back_off = (self.round_trip.back_off + 1).min(MAX_BACK_OFF);
        for index in 0..self.sent.len() {
            if self.sent[index].state == FrameState::InFlight {
                self.change(index, FrameState::Lost);
            }
        }
    }

    fn next_number(&self) -> u64 {
        self.base + self.sent.len() as u64
    }

    /// The index in `sent` of the frame to send now; one past the end for a new one.
    fn frame_to_send(&self) -> Option<usize> {
        // All else waits for the oldest frame, so it never waits for the window.
        if self.sent.front().is_some_and(|frame| frame.state == FrameState::Lost) {
            return Some(0);
        }
        if self.in_flight >= self.window {
            return None;
        }
        if self.lost > 0 {
            return self.sent.iter().position(|frame| frame.state == FrameState::Lost);
        }
        let all_cut = self.cut_message > self.acknowledged + self.messages.len() as u64;
        (!all_cut && self.sent.len() < WINDOW).then_some(self.sent.len())
    }

    fn cut(&mut self, now: Instant, transmission: u64) -> SentFrame {
        let left = self.messages[(self.cut_message - self.acknowledged - 1) as usize].len() - self.cut_offset;
        let length = left.min(self.frame_size);
        let frame = SentFrame {
            message: self.cut_message,
            offset: self.cut_offset,
            length,
            end: length == left,
            state: FrameState::InFlight,
            sent_at: now,
            sent_once: true,
            first_transmission: transmission,
            last_transmission: transmission,
            passed_by: 0,
        };
        if frame.end {
            self.cut_message += 1;
            self.cut_offset = 0;
        } else {
            self.cut_offset += length;
        }
        frame
    }

    /// Fast retransmit: whatever enough later frames have overtaken is lost.
    fn find_lost(&mut self, arrived: &Arrivals) {
        for index in 0..self.sent.len() {
            let frame = &mut self.sent[index];
            if frame.state != FrameState::InFlight {
                continue;
            }
            let later = arrived.first_sent_after(frame.last_transmission);
            frame.passed_by = frame.passed_by.saturating_add(later).min(REORDER_TOLERANCE);
            if frame.passed_by == REORDER_TOLERANCE {
                self.change(index, FrameState::Lost);
                if self.base + index as u64 >= self.recovery_until {
                    self.window = (self.window / 2).max(MIN_WINDOW);
                    self.slow_start_threshold = self.window;
                    self.arrivals_towards_growth = 0;
                    self.recovery_until = self.next_number();
                }
            }
        }
    }

    fn grow(&mut self, arrivals: usize) {
        for _ in 0..arrivals {
            self.arrivals_towards_growth += 1;
            if self.window < self.slow_start_threshold || self.arrivals_towards_growth >= self.window {
                self.arrivals_towards_growth = 0;
                self.window = (self.window + 1).min(WINDOW);
            }
        }
    }

    fn change(&mut self, index: usize, state: FrameState) {
        self.leave(self.sent[index].state);
        self.sent[index].state = state;
        match state {
            FrameState::InFlight => self.in_flight += 1,
            FrameState::Lost => self.lost += 1,
            FrameState::Held => {}
        }
    }

    fn leave(&mut self, state: FrameState) {
        match state {
            FrameState::InFlight => self.in_flight -= 1,
            FrameState::Lost => self.lost -= 1,
            FrameState::Held => {}
        }
    }

    /// Then either nothing is left to send, or `poll_frame` has a frame, which starts the timer again.
    fn stop_timer_when_nothing_is_in_flight(&mut self) {
        if self.in_flight == 0 {
            self.timer = None;
        }
    }
}

/// The frames of which one acknowledgement brought the news.
#[derive(Default)]
struct Arrivals {
    count: usize,
    /// Of the frames sent only once, the one sent last: its time and its transmission.
    sample: Option<(Instant, u64)>,
    /// The latest first transmissions among them, latest first; 0 where there are fewer.
    latest: [u64; REORDER_TOLERANCE as usize],
}

impl Arrivals {
    fn note(&mut self, frame: &SentFrame) {
        if frame.state == FrameState::Held {
            return;
        }
        self.count += 1;
        if frame.sent_once && self.sample.is_none_or(|(_, transmission)| transmission < frame.first_transmission) {
            self.sample = Some((frame.sent_at, frame.first_transmission));
        }
        let mut transmission = frame.first_transmission;
        for place in &mut self.latest {
            if transmission > *place {
                std::mem::swap(place, &mut transmission);
            }
        }
    }

    fn first_sent_after(&self, transmission: u64) -> u8 {
        self.latest.iter().filter(|&&latest| latest > transmission).count() as u8
    }
}

#[derive(Debug)]
struct EarlyFrame {
    begin: bool,
    end: bool,
    payload: Vec<u8>,
}

/// The receiving end. After every `handle_frame`, poll messages until there is none, then look whether an
/// acknowledgement is due.
#[derive(Debug)]
pub struct Receiver {
    frame_size: usize,
    max_message: usize,
    next_expected: u64,
    /// Frames that came before `next_expected` did, each at its number modulo the window.
    early: [Option<EarlyFrame>; WINDOW],
    early_bytes: usize,
    /// The message whose BEGIN was here and whose END was not.
    unfinished: Option<Vec<u8>>,
    whole: VecDeque<Vec<u8>>,
    whole_bytes: usize,
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

fn slot_of(number: u64) -> usize {
    (number % WINDOW as u64) as usize
}
