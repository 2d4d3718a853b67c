//! Which of the private chunks of a region are in use, and which of the free ones have memory.
//!
//! Owned by [`super::Region`]. Invariants: `in_use` is the number of bits in `used`, `warm` that of the bits in `resident` that are
//! not in `used`.

/// Free chunks of a mapped region that keep their memory (64 MiB); further ones go back to the system.
pub const WARM: u32 = 1024;

/// The most chunks of a run: 1 MiB. After it, it goes on where there is room, so that a stream comes back to chunks that it had.
pub const RUN: u32 = 16;

/// Chunks by their numbers.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    /// One bit per chunk: in use.
    used: Vec<u64>,
    /// Likewise: it has memory.
    resident: Vec<u64>,
    /// All words of `used` before this one are full.
    full_words: usize,
    in_use: u32,
    /// Free chunks that have memory.
    warm: u32,
    /// No chunk from this number on was ever taken.
    touched: u32,
}

impl Occupancy {
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// All chunks that were ever taken have lower numbers.
    #[inline]
    pub fn touched(&self) -> u32 {
        self.touched
    }

    pub fn is_used(&self, number: u32) -> bool {
        is_set(&self.used, number)
    }

    /// The free chunk of the lowest number. The caller knows that there is one.
    pub fn lowest_free(&mut self) -> u32 {
        while self.used.get(self.full_words) == Some(&u64::MAX) {
            self.full_words += 1;
        }
        let word = self.used.get(self.full_words).copied().unwrap_or(0);
        self.full_words as u32 * 64 + word.trailing_ones()
    }

    /// A free chunk for bytes that go on where those of `after` end: the next one, unless the run ends there, or where a run begins
    /// that is free, or else any. The caller knows that fewer than `limit` are in use; the number is lower than that.
    pub fn next_free(&mut self, after: Option<u32>, limit: u32) -> u32 {
        let next = after.map(|after| after + 1);
        let next = next.filter(|next| !next.is_multiple_of(RUN) && *next < limit && !self.is_used(*next));
        next.or_else(|| self.free_run(limit)).unwrap_or_else(|| self.lowest_free())
    }

    /// Where a run begins that is free.
    fn free_run(&self, limit: u32) -> Option<u32> {
        let runs = (0..limit / RUN).map(|run| run * RUN);
        runs.skip_while(|first| (*first as usize) < self.full_words * 64).find(|first| {
            let word = self.used.get(*first as usize / 64).copied().unwrap_or(0);
            (word >> (first % 64)).trailing_zeros() >= RUN
        })
    }

    /// Takes this chunk, which is free.
    pub fn occupy(&mut self, number: u32) {
        self.touched = self.touched.max(number + 1);
        let words = (self.touched as usize).div_ceil(64);
        self.used.resize(words, 0);
        self.resident.resize(words, 0);
        set(&mut self.used, number);
        self.in_use += 1;
        if is_set(&self.resident, number) {
            self.warm -= 1;
        } else {
            set(&mut self.resident, number);
        }
    }

    /// Gives this chunk back, which is in use. Says whether its memory shall go back to the system, if `can_forget`: many others
    /// have some.
    pub fn give_back(&mut self, number: u32, can_forget: bool) -> bool {
        clear(&mut self.used, number);
        self.in_use -= 1;
        self.full_words = self.full_words.min(number as usize / 64);
        let forgets = can_forget && self.warm >= WARM;
        if forgets {
            clear(&mut self.resident, number);
        } else {
            self.warm += 1;
        }
        forgets
    }

    /// Chunks that have memory though they are free, and all that have.
    #[cfg(test)]
    pub fn memory(&self) -> (u32, u32) {
        (self.warm, self.resident.iter().map(|word| word.count_ones()).sum())
    }
}

/// Whether this bit is set; those behind the last word are not.
pub(super) fn is_set(bits: &[u64], index: u32) -> bool {
    bits.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

pub(super) fn set(bits: &mut [u64], index: u32) {
    bits[index as usize / 64] |= 1 << (index % 64);
}

pub(super) fn clear(bits: &mut [u64], index: u32) {
    bits[index as usize / 64] &= !(1 << (index % 64));
}
