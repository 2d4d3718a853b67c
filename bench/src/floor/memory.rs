//! The floor of shared memory: one cache line to and fro, and a ring of cache lines in each direction.

use super::Waiting;
use crate::now_ns;
use crate::report;
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Round trips between two looks at the end of the time.
const BETWEEN: u64 = 64;
/// Slots of a ring.
const SLOTS: usize = 256;
/// Words of a slot, the number of the message first.
const WORDS: usize = 8;
/// A message of the ring has arrived damaged.
const DAMAGED: &str = "a message came damaged";

/// One cache line (and the one that the processor may fetch with it).
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// A message: its number, written last, and the payload.
#[derive(Default)]
#[repr(align(64))]
struct Slot([AtomicU64; WORDS]);

/// What it costs to ask for the time: it is in every round trip.
pub fn clock(time: Duration) -> Histogram<u64> {
    let mut histogram = report::histogram();
    let mut before = now_ns();
    let end = before + time.as_nanos() as u64;
    while before < end {
        let now = now_ns();
        histogram.saturating_record((now - before).max(1));
        before = now;
    }
    histogram
}

fn pause(waiting: Waiting) {
    match waiting {
        Waiting::Spin => std::hint::spin_loop(),
        Waiting::Yield | Waiting::Block => std::thread::yield_now(),
    }
}

/// Waits until the word is this number; false: the other side has stopped.
fn await_number(word: &AtomicU64, number: u64, stop: &AtomicBool, waiting: Waiting) -> bool {
    // Acquire: pairs with the Release of the side that wrote the number after the payload.
    while word.load(Ordering::Acquire) != number {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        pause(waiting);
    }
    true
}

/// One side counts, the other one answers; gives the times of the one that counts. `exchange(n)` makes round trip `n`.
fn bounce(time: Duration, mut exchange: impl FnMut(u64) -> bool) -> Histogram<u64> {
    let mut histogram = report::histogram();
    let mut before = now_ns();
    let end = before + time.as_nanos() as u64;
    let mut number = 0;
    while before < end {
        for _ in 0..BETWEEN {
            number += 1;
            if !exchange(number) {
                return histogram;
            }
            let now = now_ns();
            histogram.saturating_record((now - before).max(1));
            before = now;
        }
    }
    histogram
}

/// A cache line in each direction.
pub fn line(time: Duration, waiting: Waiting) -> Result<Histogram<u64>, String> {
    let (there, back, stop) = (Line::default(), Line::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| {
            let mut number = 1;
            while await_number(&there.0, number, &stop, waiting) {
                back.0.store(number, Ordering::Release);
                number += 1;
            }
        });
        let histogram = bounce(time, |number| {
            there.0.store(number, Ordering::Release);
            await_number(&back.0, number, &stop, waiting)
        });
        stop.store(true, Ordering::Relaxed);
        answering.join().map_err(|_| "the answering thread failed".to_owned())?;
        Ok(histogram)
    })
}

fn ring_of_slots() -> Vec<Slot> {
    (0..SLOTS).map(|_| Slot::default()).collect()
}

/// Writes a message: payload, then its number.
fn write(ring: &[Slot], number: u64) {
    let slot = &ring[number as usize % SLOTS].0;
    for (index, word) in slot.iter().enumerate().skip(1) {
        word.store(number ^ index as u64, Ordering::Relaxed);
    }
    // Release: whoever sees the number sees the payload (`await_number`).
    slot[0].store(number, Ordering::Release);
}

/// Reads a message; false: the other side has stopped.
fn read(ring: &[Slot], number: u64, stop: &AtomicBool, waiting: Waiting) -> Result<bool, String> {
    let slot = &ring[number as usize % SLOTS].0;
    if !await_number(&slot[0], number, stop, waiting) {
        return Ok(false);
    }
    let whole =
        slot.iter().enumerate().skip(1).all(|(index, word)| word.load(Ordering::Relaxed) == number ^ index as u64);
    if whole { Ok(true) } else { Err(DAMAGED.to_owned()) }
}

/// A ring in each direction; every message is written and read whole.
pub fn ring(time: Duration, waiting: Waiting) -> Result<Histogram<u64>, String> {
    let (there, back, stop) = (ring_of_slots(), ring_of_slots(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| -> Result<(), String> {
            let mut number = 1;
            while read(&there, number, &stop, waiting)? {
                write(&back, number);
                number += 1;
            }
            Ok(())
        });
        let mut damaged = false;
        let histogram = bounce(time, |number| {
            write(&there, number);
            // A side that fails stops answering: this one must not wait for it.
            let read = if answering.is_finished() { Ok(false) } else { read(&back, number, &stop, waiting) };
            damaged |= read.is_err();
            read.unwrap_or(false)
        });
        stop.store(true, Ordering::Relaxed);
        answering.join().map_err(|_| "the answering thread failed".to_owned())??;
        if damaged { Err(DAMAGED.to_owned()) } else { Ok(histogram) }
    })
}
