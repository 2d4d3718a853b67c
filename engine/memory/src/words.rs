//! Bytes into and out of words that another process may read or write at the same time.
//!
//! Such words may be touched by atomic accesses only, or from outside the language. [`one_by_one`] does the former, on
//! every architecture, eight bytes at a time: compilers do not merge atomic accesses. [`wide`] does the latter on
//! x86-64: instructions that move 64 bytes a round, written in assembly. What is copied that way may be torn at any
//! byte, as it may be word by word: the log above throws away what was written to meanwhile, and orders the copy
//! against its positions with fences. On this architecture stores before and after such a copy are seen before and after
//! it, and so are loads; the order within one copy does not matter.

use crate::sync::AtomicU64;

#[cfg(any(test, loom, miri, not(target_arch = "x86_64")))]
mod one_by_one {
    use crate::sync::{AtomicU64, Ordering};

    /// Stores bytes into words; the last word is filled up with zeroes.
    pub fn store(to: &[AtomicU64], parts: [&[u8]; 2]) {
        let mut next = to.iter();
        let mut store = |word: u64| {
            if let Some(to) = next.next() {
                to.store(word, Ordering::Relaxed);
            }
        };
        let mut left = [0_u8; 8];
        let mut have = 0;
        for part in parts {
            let fill = if have == 0 { 0 } else { (8 - have).min(part.len()) };
            let (first, rest) = part.split_at(fill);
            left[have..have + fill].copy_from_slice(first);
            have += fill;
            if have == 8 {
                store(u64::from_le_bytes(left));
                have = 0;
            }
            let (whole, rest) = rest.as_chunks::<8>();
            for chunk in whole {
                store(u64::from_le_bytes(*chunk));
            }
            if !rest.is_empty() {
                left[..rest.len()].copy_from_slice(rest);
                have = rest.len();
            }
        }
        if have > 0 {
            left[have..].fill(0);
            store(u64::from_le_bytes(left));
        }
    }

    /// Loads as many words as there are in both.
    pub fn load(from: &[AtomicU64], to: &mut [u64]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.load(Ordering::Relaxed);
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
mod wide {
    use crate::sync::{AtomicU64, Ordering};
    use std::arch::asm;

    /// See [`super::one_by_one::store`].
    pub fn store(to: &[AtomicU64], parts: [&[u8]; 2]) {
        let [first, second] = parts;
        let length = first.len() + second.len();
        let Some(to) = to.get(..length.div_ceil(8)) else { return };
        if let Some(last) = to.last().filter(|_| !length.is_multiple_of(8)) {
            last.store(0, Ordering::Relaxed);
        }
        let to = to.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: `to` has room for both parts, checked above; atomics may be written through a shared borrow; the
        // parts are borrowed, and no part of what may be written.
        unsafe {
            copy(first.as_ptr(), to, first.len());
            copy(second.as_ptr(), to.add(first.len()), second.len());
        }
    }

    /// See [`super::one_by_one::load`].
    pub fn load(from: &[AtomicU64], to: &mut [u64]) {
        let bytes = from.len().min(to.len()) * 8;
        // SAFETY: both have so many bytes; `to` is borrowed for writing, so nobody else has it.
        unsafe { copy(from.as_ptr().cast(), to.as_mut_ptr().cast(), bytes) };
    }

    /// Copies `length` bytes, from the first to the last. To the compiler it is a call that may do anything to them.
    ///
    /// # Safety
    /// `from` and `to` are valid for so many bytes, to be read and to be written, and do not overlap. Other processes
    /// may write to `from` or read `to` meanwhile.
    unsafe fn copy(mut from: *const u8, mut to: *mut u8, length: usize) {
        let (rounds, rest) = (length / 64, length % 64);
        if rounds > 0 {
            // SAFETY: the pointers stay within the first `rounds * 64` bytes, and are left behind them.
            unsafe {
                asm!(
                    "2:",
                    "movups {a}, [{from}]",
                    "movups {b}, [{from} + 16]",
                    "movups {c}, [{from} + 32]",
                    "movups {d}, [{from} + 48]",
                    "movups [{to}], {a}",
                    "movups [{to} + 16], {b}",
                    "movups [{to} + 32], {c}",
                    "movups [{to} + 48], {d}",
                    "add {from}, 64",
                    "add {to}, 64",
                    "dec {rounds}",
                    "jnz 2b",
                    from = inout(reg) from,
                    to = inout(reg) to,
                    rounds = inout(reg) rounds => _,
                    a = out(xmm_reg) _,
                    b = out(xmm_reg) _,
                    c = out(xmm_reg) _,
                    d = out(xmm_reg) _,
                    options(nostack),
                );
            }
        }
        // SAFETY: `rest` bytes are left at both.
        unsafe {
            asm!(
                "rep movsb",
                inout("rsi") from => _,
                inout("rdi") to => _,
                inout("rcx") rest => _,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(any(loom, miri, not(target_arch = "x86_64")))]
use one_by_one as fitting;
#[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
use wide as fitting;

/// Stores bytes into words that have room for them, one part behind the other; the last word is filled up with zeroes.
pub(crate) fn store(to: &[AtomicU64], parts: [&[u8]; 2]) {
    fitting::store(to, parts);
}

/// Loads as many words as there are in both.
pub(crate) fn load(from: &[AtomicU64], to: &mut [u64]) {
    fitting::load(from, to);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Ordering;
    use proptest::prelude::*;

    proptest! {
        /// Both ways give the same words, and touch none behind them.
        #[test]
        fn wide_as_one_by_one(
            first in proptest::collection::vec(any::<u8>(), 0..200),
            second in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let words = || (0..80).map(|_| AtomicU64::new(u64::MAX)).collect::<Vec<_>>();
            let (one, other) = (words(), words());
            one_by_one::store(&one, [&first, &second]);
            store(&other, [&first, &second]);
            let (mut left, mut right) = (vec![7; 80], vec![8; 80]);
            one_by_one::load(&one, &mut left);
            load(&other, &mut right);
            prop_assert_eq!(&left, &right);
            let used = (first.len() + second.len()).div_ceil(8);
            prop_assert!(other[used..].iter().all(|word| word.load(Ordering::Relaxed) == u64::MAX));
            let mut short = [1; 3];
            load(&other[..2], &mut short);
            prop_assert_eq!(short, [left[0], left[1], 1]);
        }
    }
}
