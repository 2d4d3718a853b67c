//! Handles: values that name a slot of one fixed table, and are never dereferenced.
//!
//! A handle is a pointer type for C's type checker only. Its value is `generation << 24 | index << 4 | kind`, and the
//! low bit is set, so that no handle is ever equal to an aligned pointer of the program. NULL, closed, foreign and stale
//! values are told apart from open ones by comparing with the slot.
//!
//! Owner: the table is the process's. A slot's instance pointer may be used only by the thread named in the slot, and
//! only that thread frees the slot; so a look-up that finds its own thread there cannot race with the slot's end
//! ([`isis_memory::slot`]).
//!
//! Invariant: a generation is used once. A slot whose generations are used up is not given out again.

use crate::error::{self, Failure, fail, plain};
pub use isis_memory::slot::Found;
use isis_memory::slot::{Missing, Published, Slot};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a handle stands for. Odd numbers: see the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Noun {
    /// `isis_t`
    Instance = 1,
    /// `isis_group_t`
    Group = 3,
    /// `isis_sender_t`
    Sender = 5,
}

/// How many handles a process can have open at a time.
pub(crate) const SLOTS: usize = 1 << 16;
const INDEX_SHIFT: u32 = 4;
const GENERATION_SHIFT: u32 = 24;
const GENERATIONS: u64 = 1 << 40;

/// A slot's object is an `Instance` or a `Sender`, by the handle's noun; its detail the group's handle in the core; its mark
/// the fork count of the process that opened it.
static TABLE: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];

/// Which slots are free.
struct Free {
    /// Slots that were used, with the generation that they had.
    used: Vec<(u32, u64)>,
    /// Those from here on were never used.
    fresh: usize,
}

static FREE: Mutex<Free> = Mutex::new(Free { used: Vec::new(), fresh: 0 });

/// How many forks lie between this process and the one that loaded the library.
static EPOCH: AtomicU64 = AtomicU64::new(1);
static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// A number for this thread, never 0 and never used again.
fn this_thread() -> u64 {
    let known = THREAD.get();
    if known != 0 {
        return known;
    }
    // Relaxed: only the number's uniqueness matters.
    let new = THREADS.fetch_add(1, Ordering::Relaxed) + 1;
    THREAD.set(new);
    new
}

extern "C" fn after_fork_in_child() {
    EPOCH.fetch_add(1, Ordering::Relaxed);
}

/// Makes forks count from here on. Called before the first handle is given out.
pub fn watch_forks() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler only adds to an atomic, which is async-signal-safe.
        unsafe { libc::pthread_atfork(None, None, Some(after_fork_in_child)) };
    });
}

/// Takes a slot for `object`, owned by this thread, or (`shared`) by the first thread that uses it.
pub fn open(noun: Noun, object: *mut (), detail: u64, shared: bool) -> Result<u64, Failure> {
    let full = || fail(error::ISIS_ELIMIT, format_args!("all {SLOTS} handles of the process are in use"));
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let (index, before) = match free.used.pop() {
        Some((index, generation)) => (index as usize, generation),
        None if free.fresh < SLOTS => {
            free.fresh += 1;
            (free.fresh - 1, 0)
        }
        None => return Err(full()),
    };
    let value = (before + 1) << GENERATION_SHIFT | (index as u64) << INDEX_SHIFT | noun as u64;
    TABLE[index].publish(Published {
        value,
        owner: if shared { 0 } else { this_thread() },
        mark: EPOCH.load(Ordering::Relaxed),
        found: Found { object, detail },
    });
    Ok(value)
}

/// Frees the slot of an open handle; the caller has found it, so it is this thread's.
pub fn close(value: u64) {
    TABLE[index(value)].withdraw();
    let generation = value >> GENERATION_SHIFT;
    if generation + 1 < GENERATIONS {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).used.push((index(value) as u32, generation));
    }
}

fn index(value: u64) -> usize {
    (value >> INDEX_SHIFT) as usize % SLOTS
}

/// The object of a handle, if the handle is open, of this kind, this process's and this thread's.
#[inline]
pub fn find(noun: Noun, value: u64) -> Result<Found, Failure> {
    is_open(noun, value)?;
    TABLE[index(value)].find(value, this_thread()).map_err(|missing| match missing {
        Missing::Closed => bad(noun, value),
        Missing::OtherThread => plain(error::ISIS_ETHREAD),
    })
}

/// Whether a handle of this kind is open, whoever owns it. For `isis_stop`, which any thread may call.
#[inline]
pub fn is_open(noun: Noun, value: u64) -> Result<(), Failure> {
    let slot = &TABLE[index(value)];
    if value == 0 || slot.value() != value || value & 0xf != noun as u64 {
        return Err(bad(noun, value));
    }
    if slot.mark() != EPOCH.load(Ordering::Relaxed) {
        return Err(plain(error::ISIS_EFORKED));
    }
    Ok(())
}

/// Sends an instance a signal, from any thread; see `isis_stop`.
pub fn signal(value: u64) {
    TABLE[index(value)].signal(value);
}

/// Whether [`signal`] was called since this was asked last.
pub fn take_signal(value: u64) -> bool {
    TABLE[index(value)].take_signal(value)
}

/// Whether a value says that it is a handle of this kind.
pub fn is_of(noun: Noun, value: u64) -> bool {
    value & 0xf == noun as u64
}

/// The index of a handle's slot: names it in a claim's token.
pub fn slot_of(value: u64) -> u64 {
    index(value) as u64
}

/// The open handle in a slot, 0 if there is none.
pub fn value_in(slot: u64) -> u64 {
    TABLE[slot as usize % SLOTS].value()
}

#[cold]
fn bad(noun: Noun, value: u64) -> Failure {
    let name = match noun {
        Noun::Instance => "isis_t",
        Noun::Group => "isis_group_t",
        Noun::Sender => "isis_sender_t",
    };
    if value == 0 {
        fail(error::ISIS_EHANDLE, format_args!("the {name} handle is NULL"))
    } else {
        fail(error::ISIS_EHANDLE, format_args!("{value:#x} is not an open {name} handle"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_and_foreign_values_are_told_apart() {
        let mut object = 7u32;
        let pointer = (&raw mut object).cast::<()>();
        let first = open(Noun::Group, pointer, 42, false).unwrap();
        assert_eq!(find(Noun::Group, first).unwrap().detail, 42);
        assert_eq!(find(Noun::Instance, first).unwrap_err().code(), error::ISIS_EHANDLE);
        assert_eq!(find(Noun::Group, pointer as u64).unwrap_err().code(), error::ISIS_EHANDLE);
        close(first);
        assert_eq!(find(Noun::Group, first).unwrap_err().code(), error::ISIS_EHANDLE);
        let second = open(Noun::Group, pointer, 43, false).unwrap();
        assert_ne!(first, second);
        let elsewhere = std::thread::spawn(move || find(Noun::Group, second).unwrap_err().code()).join().unwrap();
        assert_eq!(elsewhere, error::ISIS_ETHREAD);
        close(second);
    }
}
