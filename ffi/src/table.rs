//! Handles: values that name a slot of one fixed table, and are never dereferenced.
//!
//! A handle is a pointer type for C's type checker only. Its value is `generation << 24 | index << 4 | kind`, and the
//! low bit is set, so that no handle is ever equal to an aligned pointer of the program. NULL, closed, foreign and stale
//! values are told apart from open ones by comparing with the slot.
//!
//! Owner: the table is the process's. A slot's instance pointer may be used only by the thread named in the slot, and
//! only that thread frees the slot; so a look-up that finds its own thread there cannot race with the slot's end.
//!
//! Invariant: a generation is used once. A slot whose generations are used up is not given out again.

use crate::error::{self, Failure, fail, plain};
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

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

struct Slot {
    /// The open handle's value; 0 when free.
    value: AtomicU64,
    /// The thread that may use `object`; 0: the first one that does.
    owner: AtomicU64,
    /// The fork count of the process that opened it.
    epoch: AtomicU64,
    /// An `Instance` or a `Sender`, by the handle's noun.
    object: AtomicPtr<()>,
    /// The group's handle in the core.
    detail: AtomicU64,
    /// The next generation to give out; only under `FREE`.
    generation: AtomicU64,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        value: AtomicU64::new(0),
        owner: AtomicU64::new(0),
        epoch: AtomicU64::new(0),
        object: AtomicPtr::new(std::ptr::null_mut()),
        detail: AtomicU64::new(0),
        generation: AtomicU64::new(0),
    }
}; SLOTS];

/// Slots that were used and are free again. Those from `FRESH` on were never used.
static FREE: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static FRESH: AtomicUsize = AtomicUsize::new(0);

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
    let mut free = match FREE.lock() {
        Ok(free) => free,
        Err(poisoned) => poisoned.into_inner(),
    };
    let index = match free.pop() {
        Some(index) => index as usize,
        None => {
            let fresh = FRESH.load(Ordering::Relaxed);
            if fresh >= SLOTS {
                return Err(full());
            }
            FRESH.store(fresh + 1, Ordering::Relaxed);
            fresh
        }
    };
    let slot = &TABLE[index];
    let generation = slot.generation.load(Ordering::Relaxed) + 1;
    slot.generation.store(generation, Ordering::Relaxed);
    let value = generation << GENERATION_SHIFT | (index as u64) << INDEX_SHIFT | noun as u64;
    slot.owner.store(if shared { 0 } else { this_thread() }, Ordering::Relaxed);
    slot.epoch.store(EPOCH.load(Ordering::Relaxed), Ordering::Relaxed);
    slot.object.store(object, Ordering::Relaxed);
    slot.detail.store(detail, Ordering::Relaxed);
    // Release: whoever sees the value (the Acquire in `find`) sees the rest of the slot.
    slot.value.store(value, Ordering::Release);
    Ok(value)
}

/// Frees the slot of an open handle; the caller has found it, so it is this thread's.
pub fn close(value: u64) {
    let index = index(value);
    let slot = &TABLE[index];
    slot.value.store(0, Ordering::Release);
    slot.object.store(std::ptr::null_mut(), Ordering::Relaxed);
    if slot.generation.load(Ordering::Relaxed) + 1 < GENERATIONS {
        let mut free = match FREE.lock() {
            Ok(free) => free,
            Err(poisoned) => poisoned.into_inner(),
        };
        free.push(index as u32);
    }
}

fn index(value: u64) -> usize {
    (value >> INDEX_SHIFT) as usize % SLOTS
}

/// What an open handle stands for.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The `Instance` or `Sender`, as given to [`open`]; alive for as long as this thread does not free it.
    pub object: *mut (),
    /// As given to [`open`].
    pub detail: u64,
}

/// The object of a handle, if the handle is open, of this kind, this process's and this thread's.
#[inline]
pub fn find(noun: Noun, value: u64) -> Result<Found, Failure> {
    let slot = &TABLE[index(value)];
    // Acquire: partner is the Release in `open`.
    if value == 0 || slot.value.load(Ordering::Acquire) != value || value & 0xf != noun as u64 {
        return Err(bad(noun, value));
    }
    if slot.epoch.load(Ordering::Relaxed) != EPOCH.load(Ordering::Relaxed) {
        return Err(plain(error::ISIS_EFORKED));
    }
    let thread = this_thread();
    if slot.owner.load(Ordering::Relaxed) != thread
        // The first user becomes the owner; the handle came to it by some synchronised way of the program's own.
        && slot.owner.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_err()
    {
        return Err(plain(error::ISIS_ETHREAD));
    }
    Ok(Found { object: slot.object.load(Ordering::Relaxed), detail: slot.detail.load(Ordering::Relaxed) })
}

/// Whether a handle of this kind is open, whoever owns it. For `isis_stop`, which any thread may call.
pub fn is_open(noun: Noun, value: u64) -> Result<(), Failure> {
    let slot = &TABLE[index(value)];
    if value == 0 || slot.value.load(Ordering::Acquire) != value || value & 0xf != noun as u64 {
        return Err(bad(noun, value));
    }
    if slot.epoch.load(Ordering::Relaxed) != EPOCH.load(Ordering::Relaxed) {
        return Err(plain(error::ISIS_EFORKED));
    }
    Ok(())
}

/// Marks an open instance with a word that any thread may set; see `isis_stop`.
pub fn set_detail(value: u64, detail: u64) {
    TABLE[index(value)].detail.store(detail, Ordering::Relaxed);
}

/// Takes the word of [`set_detail`], and puts `next` in its place.
pub fn take_detail(value: u64, next: u64) -> u64 {
    TABLE[index(value)].detail.swap(next, Ordering::Relaxed)
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
    TABLE[slot as usize % SLOTS].value.load(Ordering::Acquire)
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
