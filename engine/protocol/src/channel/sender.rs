//! The sending end of a channel: cuts messages into frames, keeps them until the peer has passed them, finds out which
//! are lost, and adapts how many may be in flight.
//!
//! Owner: the layer that knows the pair of incarnations. Invariants: `sent` holds the frames from `base` on, at most
//! [`WINDOW`] of them; the timer is set exactly while frames are in flight.

use super::round_trip::{MAX_BACK_OFF, RoundTrip};
use super::{Frame, Full, Ignored, MESSAGE_OVERHEAD, WINDOW};
use crate::time::Instant;
use std::collections::VecDeque;

/// Frames in flight that a new channel starts with.
pub(super) const INITIAL_WINDOW: usize = 16;
/// The window never falls below this when single frames are lost; after a timeout it starts from 1.
const MIN_WINDOW: usize = 2;
/// A frame is taken for lost when this many frames that were first sent after it have arrived.
const REORDER_TOLERANCE: u8 = 3;

/// What the sender knows of a frame that it has cut and that the peer has not passed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameState {
    /// Sent, and as far as we know on its way.
    InFlight,
    /// To be sent again.
    Lost,
    /// The peer has it, and still waits for an earlier one.
    Held,
}

#[derive(Debug)]
pub(super) struct SentFrame {
    message: u64,
    offset: usize,
    length: usize,
    end: bool,
    pub(super) state: FrameState,
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
    pub(super) sent: VecDeque<SentFrame>,
    pub(super) base: u64,
    /// How many of `sent` are in each state.
    pub(super) in_flight: usize,
    pub(super) lost: usize,
    transmissions: u64,
    /// Frames that may be in flight (additive increase, multiplicative decrease).
    pub(super) window: usize,
    /// Below it the window grows by a frame for each arrival, from it on by a frame for each window.
    slow_start_threshold: usize,
    arrivals_towards_growth: usize,
    /// Losses of frames before this one belong to the loss that the window has already answered.
    recovery_until: u64,
    pub(super) round_trip: RoundTrip,
    /// Set exactly while frames are in flight.
    pub(super) timer: Option<Instant>,
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

    pub(super) fn next_number(&self) -> u64 {
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
