//! Two machines over a virtual link that loses, repeats, delays and reorders, and each machine alone against a peer
//! that keeps no rule. [BSS91] asks of its point-to-point transport: nothing lost, nothing garbled, sent order kept.

use super::receiver::{ACK_DELAY_NS, ACK_EVERY, slot_of};
use super::round_trip::{INITIAL_TIMEOUT_NS, MAX_TIMEOUT_NS, MIN_TIMEOUT_NS};
use super::sender::{FrameState, INITIAL_WINDOW};
use super::*;
use crate::random::Random;
use crate::time::{Instant, MILLISECOND, SECOND};
use std::collections::BTreeMap;

const FRAME_SIZE: usize = 100;
const MAX_MESSAGE: usize = 5_000;
const LIMIT: usize = 12_000;
const START: Instant = Instant(3 * SECOND);

#[derive(Clone, Debug)]
enum Packet {
    Frame { number: u64, begin: bool, end: bool, payload: Vec<u8> },
    Ack { next_expected: u64, bitmap: u64 },
}

/// Faults in packets of a thousand, times in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Faults {
    lost: u64,
    repeated: u64,
    delay_ns: u64,
    jitter_ns: u64,
}

const PERFECT: Faults = Faults { lost: 0, repeated: 0, delay_ns: 300_000, jitter_ns: 0 };

struct Pair {
    now: Instant,
    random: Random,
    faults: Faults,
    sender: Sender,
    receiver: Receiver,
    link: BTreeMap<(Instant, u64), Packet>,
    packets: u64,
    frames_sent: u64,
    acks_sent: u64,
    /// Loses the next frame with this number, once.
    lose_once: Option<u64>,
    /// The application takes messages as they come.
    takes: bool,
    taken: Vec<Vec<u8>>,
}

impl Pair {
    fn new(seed: u64, faults: Faults) -> Pair {
        Pair {
            now: START,
            random: Random::new(seed),
            faults,
            sender: Sender::new(FRAME_SIZE, LIMIT),
            receiver: Receiver::new(FRAME_SIZE, MAX_MESSAGE),
            link: BTreeMap::new(),
            packets: 0,
            frames_sent: 0,
            acks_sent: 0,
            lose_once: None,
            takes: true,
            taken: Vec::new(),
        }
    }

    fn transmit(&mut self, packet: Packet) {
        let copies = if self.random.below(1_000) < self.faults.lost {
            0
        } else {
            1 + u64::from(self.random.below(1_000) < self.faults.repeated)
        };
        for _ in 0..copies {
            let at = self.now + self.faults.delay_ns + self.random.below(self.faults.jitter_ns + 1);
            self.packets += 1;
            self.link.insert((at, self.packets), packet.clone());
        }
    }

    /// Polls both machines until they have no more to do now, and checks what must hold at any time.
    fn poll(&mut self) {
        while let Some(frame) = self.sender.poll_frame(self.now) {
            let Frame { number, begin, end, payload } = frame;
            assert!(payload.len() <= FRAME_SIZE);
            let packet = Packet::Frame { number, begin, end, payload: payload.to_vec() };
            self.frames_sent += 1;
            if self.lose_once == Some(number) {
                self.lose_once = None;
            } else {
                self.transmit(packet);
            }
        }
        while self.takes
            && let Some(message) = self.receiver.poll_message()
        {
            self.taken.push(message);
        }
        if self.receiver.ack_due(self.now) {
            let (next_expected, bitmap) = self.receiver.take_ack().expect("an acknowledgement is due");
            assert_eq!(self.receiver.take_ack(), None);
            self.acks_sent += 1;
            self.transmit(Packet::Ack { next_expected, bitmap });
        }
        check_sender(&self.sender);
        check_receiver(&self.receiver);
        let whole = (self.taken.len() + self.receiver.whole.len()) as u64;
        assert!(self.sender.acknowledged() <= whole);
    }

    /// Goes on to whatever happens next; false when nothing will.
    fn step(&mut self) -> bool {
        self.poll();
        let arrival = self.link.first_key_value().map(|(&(at, _), _)| at);
        let timers = [self.sender.poll_timeout(), self.receiver.poll_timeout(), arrival];
        let Some(next) = timers.into_iter().flatten().min() else { return false };
        assert!(next >= self.now);
        self.now = next;
        self.sender.handle_timeout(next);
        if arrival == Some(next) {
            match self.link.pop_first().expect("there is an arrival").1 {
                Packet::Frame { number, begin, end, payload } => {
                    let result = self.receiver.handle_frame(self.now, number, begin, end, &payload);
                    assert!(result.is_ok() || result.is_err_and(Ignored::is_ordinary), "{result:?}");
                }
                Packet::Ack { next_expected, bitmap } => {
                    let result = self.sender.handle_ack(self.now, next_expected, bitmap);
                    assert!(result.is_ok() || result == Err(Ignored::Duplicate), "{result:?}");
                }
            }
        }
        self.poll();
        true
    }

    /// Sends all messages, waiting where the queue is full, until all are acknowledged.
    fn send_all(&mut self, messages: &[Vec<u8>], limit_ns: u64) {
        let deadline = self.now + limit_ns;
        let mut sent = 0;
        loop {
            while sent < messages.len() {
                match self.sender.enqueue(messages[sent].clone()) {
                    Ok(number) => assert_eq!(number, sent as u64 + 1),
                    Err(Full(message)) => {
                        assert_eq!(message, messages[sent]);
                        break;
                    }
                }
                sent += 1;
            }
            self.poll();
            if sent == messages.len() && self.sender.is_idle() {
                break;
            }
            assert!(self.step(), "stands still with {} of {} messages sent", self.taken.len(), messages.len());
            assert!(self.now < deadline, "too slow: {} of {} messages", self.taken.len(), messages.len());
        }
        while self.step() {}
        assert_eq!(self.sender.acknowledged(), messages.len() as u64);
        assert_eq!(self.sender.queued_bytes(), 0);
        assert!(self.taken == messages, "not what was sent");
        assert_eq!(self.receiver.buffered_bytes(), 0);
    }
}

fn check_sender(sender: &Sender) {
    let count = |state| sender.sent.iter().filter(|frame| frame.state == state).count();
    assert_eq!(sender.in_flight, count(FrameState::InFlight));
    assert_eq!(sender.lost, count(FrameState::Lost));
    assert_eq!(sender.timer.is_some(), sender.in_flight > 0);
    assert!(sender.sent.len() <= WINDOW);
    assert!((1..=WINDOW).contains(&sender.window));
    assert!(sender.queued_bytes() <= LIMIT.max(MAX_MESSAGE + MESSAGE_OVERHEAD));
    assert_eq!(sender.is_idle(), sender.queued_bytes() == 0);
}

fn check_receiver(receiver: &Receiver) {
    let early: usize = receiver.early.iter().flatten().map(|frame| frame.payload.len()).sum();
    assert_eq!(receiver.early_bytes, early);
    assert!(receiver.early[slot_of(receiver.next_expected)].is_none());
    assert!(early <= WINDOW * FRAME_SIZE);
    assert!(receiver.unfinished.as_ref().map_or(0, Vec::len) <= MAX_MESSAGE);
    assert!(receiver.whole_bytes <= 2 * MAX_MESSAGE + WINDOW * (FRAME_SIZE + MESSAGE_OVERHEAD));
}

fn some_messages(random: &mut Random, count: usize) -> Vec<Vec<u8>> {
    let lengths = [0, 1, FRAME_SIZE - 1, FRAME_SIZE, FRAME_SIZE + 1, 10 * FRAME_SIZE, MAX_MESSAGE];
    (0..count)
        .map(|_| {
            let length = match random.below(10) {
                0..=4 => lengths[random.below(lengths.len() as u64) as usize],
                _ => random.below(3 * FRAME_SIZE as u64) as usize,
            };
            (0..length).map(|_| random.next() as u8).collect()
        })
        .collect()
}

#[test]
fn everything_arrives_once_in_order_and_whole_whatever_the_link_does() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let faults = Faults {
            lost: [0, 10, 100, 400][random.below(4) as usize],
            repeated: [0, 50, 300][random.below(3) as usize],
            delay_ns: [1_000, 300_000, 40 * MILLISECOND][random.below(3) as usize],
            jitter_ns: [0, 100_000, 20 * MILLISECOND][random.below(3) as usize],
        };
        let messages = some_messages(&mut random, 60);
        Pair::new(seed, faults).send_all(&messages, 1_000 * SECOND);
    }
}

#[test]
fn a_perfect_link_sees_each_frame_once() {
    let messages = some_messages(&mut Random::new(1), 500);
    let frames: usize = messages.iter().map(|message| message.len().div_ceil(FRAME_SIZE).max(1)).sum();
    let mut pair = Pair::new(1, PERFECT);
    pair.send_all(&messages, SECOND);
    assert_eq!(pair.frames_sent, frames as u64);
    assert!(pair.acks_sent <= pair.frames_sent / 3, "{} for {frames} frames", pair.acks_sent);
}

#[test]
fn a_little_reordering_is_not_loss() {
    let mut sender = Sender::new(FRAME_SIZE, LIMIT);
    sender.enqueue(vec![0; INITIAL_WINDOW * FRAME_SIZE]).unwrap();
    while sender.poll_frame(START).is_some() {}
    // Two later frames have passed the first one, and pass it again in a repeated acknowledgement.
    for _ in 0..5 {
        sender.handle_ack(START + MILLISECOND, 1, 0b11).unwrap();
    }
    assert_eq!(sender.poll_frame(START + MILLISECOND), None);
    sender.handle_ack(START + MILLISECOND, 1, 0b111).unwrap();
    // The oldest frame is not stopped by a window that has just shrunk below what is in flight.
    assert!(sender.in_flight > sender.window);
    assert_eq!(sender.poll_frame(START + MILLISECOND).map(|frame| frame.number), Some(1));
    assert_eq!(sender.poll_frame(START + MILLISECOND), None);
}

#[test]
fn a_lost_frame_is_repaired_before_the_timer_runs_out() {
    for lost in 1..=20 {
        let mut pair = Pair::new(1, PERFECT);
        pair.lose_once = Some(lost);
        pair.send_all(&[vec![7; 40 * FRAME_SIZE]], MIN_TIMEOUT_NS);
        assert_eq!(pair.frames_sent, 41);
        assert!(pair.sender.window < WINDOW);
    }
}

#[test]
fn a_lost_tail_is_repaired_by_the_timer() {
    let mut pair = Pair::new(1, PERFECT);
    pair.lose_once = Some(1);
    pair.send_all(&[vec![7; 10]], INITIAL_TIMEOUT_NS + 10 * MILLISECOND);
    assert_eq!(pair.frames_sent, 2);
}

#[test]
fn the_window_follows_the_link() {
    let messages = vec![vec![0; MAX_MESSAGE]; 20];
    let mut pair = Pair::new(1, PERFECT);
    pair.send_all(&messages, SECOND);
    assert_eq!(pair.sender.window, WINDOW);
    let mut pair = Pair::new(1, Faults { lost: 200, ..PERFECT });
    pair.send_all(&messages, 100 * SECOND);
    assert!(pair.sender.window < WINDOW / 2, "{}", pair.sender.window);
}

/// A partition costs one frame at each timeout, at most a second apart, and its end is noticed.
#[test]
fn timeouts_back_off_and_go_on() {
    let mut pair = Pair::new(1, PERFECT);
    pair.faults.lost = 1_000;
    pair.sender.enqueue(vec![7; 50 * FRAME_SIZE]).unwrap();
    pair.poll();
    assert_eq!(pair.frames_sent, INITIAL_WINDOW as u64);
    let mut last = START;
    let mut interval = 0;
    for timeout in 1..=20 {
        assert!(pair.step());
        assert_eq!(pair.frames_sent, INITIAL_WINDOW as u64 + timeout);
        assert!(pair.now.since(last) >= interval);
        (interval, last) = (pair.now.since(last), pair.now);
    }
    assert_eq!(interval, MAX_TIMEOUT_NS);
    pair.faults.lost = 0;
    let healed = pair.now;
    while !pair.sender.is_idle() {
        assert!(pair.step());
    }
    assert!(pair.now.since(healed) < MAX_TIMEOUT_NS + 100 * MILLISECOND);
    // And one fresh round trip ends the back-off.
    pair.sender.enqueue(vec![8]).unwrap();
    while pair.step() {}
    assert!(pair.sender.round_trip.timeout_ns() < 20 * MILLISECOND);
}

/// Karn's rule alone would never measure it: each frame would be sent twice before its acknowledgement is here.
#[test]
fn a_round_trip_longer_than_the_first_timeout_is_measured() {
    let delay_ns = 2 * INITIAL_TIMEOUT_NS;
    let mut pair = Pair::new(1, Faults { delay_ns, ..PERFECT });
    let messages = vec![vec![1; FRAME_SIZE]; 200];
    pair.send_all(&messages, 20 * SECOND);
    assert!(pair.sender.round_trip.timeout_ns() >= 2 * delay_ns);
    assert!(pair.frames_sent < 250, "{}", pair.frames_sent);
}

/// Karn's rule: the acknowledgement may be that of the first transmission or of the second.
#[test]
fn a_frame_sent_twice_measures_nothing() {
    let mut sender = Sender::new(FRAME_SIZE, LIMIT);
    sender.enqueue(vec![0]).unwrap();
    assert!(sender.poll_frame(START).is_some());
    let timeout = sender.poll_timeout().unwrap();
    assert_eq!(timeout, START + INITIAL_TIMEOUT_NS);
    sender.handle_timeout(timeout - 1);
    assert_eq!(sender.poll_frame(timeout), None);
    sender.handle_timeout(timeout);
    assert!(sender.poll_frame(timeout).is_some());
    sender.handle_ack(timeout + 1, 2, 0).unwrap();
    assert!(sender.is_idle());
    assert_eq!(sender.round_trip.measured, None);
}

#[test]
fn several_losses_of_one_flight_halve_the_window_once() {
    let mut sender = Sender::new(FRAME_SIZE, LIMIT);
    sender.enqueue(vec![0; INITIAL_WINDOW * FRAME_SIZE]).unwrap();
    while sender.poll_frame(START).is_some() {}
    sender.handle_ack(START + 1, 1, 0b111).unwrap();
    let window = sender.window;
    assert!(window <= INITIAL_WINDOW / 2 + 3);
    sender.handle_ack(START + 2, 1, 0b111_0111).unwrap();
    sender.handle_ack(START + 3, 1, 0b111_0111_0111).unwrap();
    assert_eq!(sender.lost, 3);
    assert!(sender.window >= window);
}

#[test]
fn a_full_queue_gives_the_message_back() {
    let mut sender = Sender::new(FRAME_SIZE, 1_000);
    // Longer than the limit, but alone.
    assert_eq!(sender.enqueue(vec![0; 5_000]), Ok(1));
    assert_eq!(sender.enqueue(Vec::new()), Err(Full(Vec::new())));
    let mut sender = Sender::new(FRAME_SIZE, 1_000);
    let taken = (0..100).filter(|_| sender.enqueue(Vec::new()).is_ok()).count();
    assert_eq!(taken, 1_000 / MESSAGE_OVERHEAD);
    assert_eq!(sender.queued_bytes(), taken * MESSAGE_OVERHEAD);
}

#[test]
fn an_application_that_takes_nothing_stops_the_sender_and_loses_nothing() {
    let messages = some_messages(&mut Random::new(5), 300);
    let mut pair = Pair::new(5, PERFECT);
    pair.takes = false;
    let mut sent = 0;
    for _ in 0..2_000 {
        while sent < messages.len() && pair.sender.enqueue(messages[sent].clone()).is_ok() {
            sent += 1;
        }
        assert!(pair.step());
    }
    assert!(sent < messages.len(), "the queue never filled");
    assert!(pair.receiver.whole_bytes > MAX_MESSAGE);
    pair.takes = true;
    while sent < messages.len() || !pair.sender.is_idle() {
        while sent < messages.len() && pair.sender.enqueue(messages[sent].clone()).is_ok() {
            sent += 1;
        }
        assert!(pair.step());
    }
    assert!(pair.taken == messages);
}

#[test]
fn acknowledgements_wait_for_company_but_not_long() {
    let mut receiver = Receiver::new(FRAME_SIZE, MAX_MESSAGE);
    assert_eq!((receiver.poll_timeout(), receiver.take_ack()), (None, None));
    for number in 1..u64::from(ACK_EVERY) {
        receiver.handle_frame(START + number, number, true, true, b"x").unwrap();
    }
    assert_eq!(receiver.poll_timeout(), Some(START + 1 + ACK_DELAY_NS));
    assert!(!receiver.ack_due(START + ACK_DELAY_NS));
    assert!(receiver.ack_due(START + 1 + ACK_DELAY_NS));
    receiver.handle_frame(START + 9, u64::from(ACK_EVERY), true, true, b"x").unwrap();
    assert!(receiver.ack_due(START + 9));
    assert_eq!(receiver.take_ack(), Some((5, 0)));
    // A gap, a repetition and the end of a gap are told at once.
    receiver.handle_frame(START + 10, 7, true, true, b"x").unwrap();
    assert!(receiver.ack_due(START + 10));
    assert_eq!(receiver.take_ack(), Some((5, 0b10)));
    assert_eq!(receiver.handle_frame(START + 11, 7, true, true, b"x"), Err(Ignored::Duplicate));
    assert!(receiver.ack_due(START + 11));
    assert_eq!(receiver.take_ack(), Some((5, 0b10)));
    receiver.handle_frame(START + 12, 5, true, true, b"x").unwrap();
    assert!(receiver.ack_due(START + 12));
    assert_eq!(receiver.take_ack(), Some((6, 0b1)));
    assert_eq!(receiver.handle_frame(START + 13, 2, true, true, b"x"), Err(Ignored::Duplicate));
    assert_eq!(receiver.take_ack(), Some((6, 0b1)));
}

#[test]
fn frames_that_break_the_rules_are_refused_by_name() {
    let long = vec![0; FRAME_SIZE + 1];
    let mut receiver = Receiver::new(FRAME_SIZE, MAX_MESSAGE);
    let mut refuse = |number, begin, end, payload: &[u8], reason| {
        assert_eq!(receiver.handle_frame(START, number, begin, end, payload), Err(reason));
    };
    refuse(0, true, true, b"x", Ignored::Duplicate);
    refuse(1, false, true, b"x", Ignored::Malformed);
    refuse(1, false, false, b"x", Ignored::Malformed);
    refuse(1, true, false, b"", Ignored::Malformed);
    refuse(1, true, true, &long, Ignored::FrameTooLong);
    refuse(1 + WINDOW as u64, true, true, b"x", Ignored::BeyondWindow);
    refuse(u64::MAX, true, true, b"x", Ignored::BeyondWindow);
    // None of them stands in the way of a correct sender.
    receiver.handle_frame(START, 1, true, false, b"whole ").unwrap();
    assert_eq!(receiver.handle_frame(START, 2, true, false, b"x"), Err(Ignored::Malformed));
    receiver.handle_frame(START, WINDOW as u64 + 1, true, true, b"late").unwrap();
    receiver.handle_frame(START, 2, false, true, b"message").unwrap();
    assert_eq!(receiver.poll_message().as_deref(), Some(&b"whole message"[..]));
    assert_eq!(receiver.poll_message(), None);
}

#[test]
fn a_message_beyond_the_maximum_is_not_gathered() {
    let mut receiver = Receiver::new(FRAME_SIZE, MAX_MESSAGE);
    let frames = (MAX_MESSAGE / FRAME_SIZE) as u64;
    for number in 1..=frames {
        receiver.handle_frame(START, number, number == 1, false, &[0; FRAME_SIZE]).unwrap();
    }
    assert_eq!(receiver.handle_frame(START, frames + 1, false, true, b"x"), Err(Ignored::MessageTooLong));
    assert_eq!(receiver.buffered_bytes(), MAX_MESSAGE);
}

/// The receiver may forget a frame that it had reported; the sender learns it and repeats the frame.
#[test]
fn a_forgotten_frame_is_sent_again() {
    let mut receiver = Receiver::new(FRAME_SIZE, MAX_MESSAGE);
    receiver.handle_frame(START, 2, false, true, b"forged").unwrap();
    let mut sender = Sender::new(FRAME_SIZE, LIMIT);
    sender.enqueue(b"first".to_vec()).unwrap();
    sender.enqueue(b"second".to_vec()).unwrap();
    while sender.poll_frame(START).is_some() {}
    let (next_expected, bitmap) = receiver.take_ack().unwrap();
    assert_eq!((next_expected, bitmap), (1, 1));
    sender.handle_ack(START, next_expected, bitmap).unwrap();
    assert_eq!(receiver.handle_frame(START, 1, true, true, b"first"), Err(Ignored::Malformed));
    let (next_expected, bitmap) = receiver.take_ack().unwrap();
    assert_eq!((next_expected, bitmap), (2, 0));
    sender.handle_ack(START, next_expected, bitmap).unwrap();
    check_sender(&sender);
    let frame = sender.poll_frame(START).expect("the second frame again");
    receiver.handle_frame(START, frame.number, frame.begin, frame.end, frame.payload).unwrap();
    assert_eq!(receiver.poll_message().as_deref(), Some(&b"first"[..]));
    assert_eq!(receiver.poll_message().as_deref(), Some(&b"second"[..]));
}

#[test]
fn a_hostile_sender_gains_neither_memory_nor_a_panic() {
    let mut refused = BTreeMap::new();
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut receiver = Receiver::new(FRAME_SIZE, MAX_MESSAGE);
        let sloppy = random.below(20) + 2;
        for _ in 0..3_000 {
            let number = match random.below(10) {
                0 => random.next(),
                1..=3 => receiver.next_expected,
                _ => receiver.next_expected.saturating_add(random.below(70)).saturating_sub(3),
            };
            let correct_begin = receiver.unfinished.is_none();
            let begin = if random.below(sloppy) == 0 { !correct_begin } else { correct_begin };
            let payload = vec![0; random.below(FRAME_SIZE as u64 + 3) as usize];
            let result = receiver.handle_frame(START, number, begin, random.below(sloppy * 5) == 0, &payload);
            if let Err(reason) = result {
                *refused.entry(reason).or_insert(0) += 1;
            }
            check_receiver(&receiver);
            if random.below(300) == 0 {
                receiver.poll_message();
            }
            if random.below(5) == 0 {
                receiver.take_ack();
            }
        }
    }
    assert_eq!(refused.len(), 6, "a kind of refusal was never met: {refused:?}");
}

#[test]
fn a_hostile_receiver_gains_neither_memory_nor_a_panic() {
    let mut accepted = 0;
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut sender = Sender::new(FRAME_SIZE, LIMIT);
        let mut now = START;
        for _ in 0..1_000 {
            let _ = sender.enqueue(vec![0; random.below(500) as usize]);
            for _ in 0..random.below(20) {
                sender.poll_frame(now);
            }
            let next_expected = match random.below(10) {
                0 => random.next(),
                _ => (sender.base + random.below(sender.sent.len() as u64 + 3)).saturating_sub(1),
            };
            let bitmap = random.next() & random.next() & (u64::MAX >> random.below(64));
            let before = sender.acknowledged();
            match sender.handle_ack(now, next_expected, if random.below(3) == 0 { 0 } else { bitmap }) {
                Ok(()) => accepted += 1,
                Err(_) => assert_eq!(sender.acknowledged(), before),
            }
            check_sender(&sender);
            now = now + random.below(300 * MILLISECOND);
            sender.handle_timeout(now);
            check_sender(&sender);
        }
        // Whatever it believed before, it still reaches a peer that begins to behave.
        while !sender.is_idle() {
            while sender.poll_frame(now).is_some() {}
            sender.handle_ack(now, sender.next_number(), 0).unwrap();
        }
    }
    assert!(accepted > 10_000, "{accepted}");
    let mut sender = Sender::new(FRAME_SIZE, LIMIT);
    for (next_expected, bitmap) in [(2, 0), (1, 1), (u64::MAX, u64::MAX), (1, 1 << 63)] {
        assert_eq!(sender.handle_ack(START, next_expected, bitmap), Err(Ignored::BeyondWindow));
    }
    assert_eq!(sender.handle_ack(START, 0, u64::MAX), Err(Ignored::Duplicate));
    assert_eq!(sender.handle_ack(START, 1, 0), Ok(()));
}

/// The same seed gives the same run.
#[test]
fn runs_are_deterministic() {
    let run = |seed| {
        let mut pair = Pair::new(seed, Faults { lost: 100, repeated: 50, delay_ns: 1_000, jitter_ns: 100_000 });
        let messages = some_messages(&mut Random::new(seed), 50);
        pair.send_all(&messages, 100 * SECOND);
        (pair.now, pair.frames_sent, pair.packets)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
