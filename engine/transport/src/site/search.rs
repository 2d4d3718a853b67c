//! Whether the runtime directory has to be searched again. A process without news makes one call a search: it looks when the
//! directory was changed last.
//!
//! Invariant: what is in the directory without a connection here is found at the latest by the search after next.

/// When a directory was changed last, in seconds and nanoseconds of the file system's clock. Only compared for equality: that
/// clock may be set back.
pub(crate) type Changed = (i64, i64);

/// A file system's clock goes by steps: of some milliseconds, or of whole seconds. What is done to a directory within one step
/// after it was listed does not show.
const STEP_NS: u64 = 2_000_000_000;

/// The past searches.
#[derive(Debug, Default)]
pub(crate) struct Searches {
    /// The directory as it was when everybody in it was connected, and since when it is seen so.
    seen: Option<(Changed, u64)>,
    /// It was listed so longer than a step after that.
    settled: bool,
}

impl Searches {
    /// The directory is as it was when everybody in it was connected.
    pub(crate) fn needless(&self, changed: Changed) -> bool {
        self.settled && self.seen.is_some_and(|(seen, _)| seen == changed)
    }

    /// It was listed; it had been changed last at that time. `all_known`: it has nobody without a connection.
    pub(crate) fn note(&mut self, now_ns: u64, changed: Changed, all_known: bool) {
        match self.seen {
            _ if !all_known => *self = Searches::default(),
            Some((seen, since_ns)) if seen == changed => self.settled = now_ns.saturating_sub(since_ns) > STEP_NS,
            _ => *self = Searches { seen: Some((changed, now_ns)), settled: false },
        }
    }

    /// A connection was lost: its process may still be there.
    pub(crate) fn forget(&mut self) {
        *self = Searches::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: u64 = STEP_NS / 10;

    #[test]
    fn it_is_needless_once_nothing_changes() {
        let mut searches = Searches::default();
        assert!(!searches.needless((1, 0)));
        searches.note(5 * TENTH, (1, 0), false);
        searches.note(10 * TENTH, (1, 0), true);
        assert!(!searches.needless((1, 0)), "somebody may have come within the same step");
        searches.note(20 * TENTH, (1, 0), true);
        assert!(!searches.needless((1, 0)));
        searches.note(40 * TENTH, (1, 0), true);
        assert!(searches.needless((1, 0)));
        assert!(!searches.needless((0, 9)), "changed, and the clock was set back");
    }

    #[test]
    fn news_begin_anew() {
        let mut searches = Searches::default();
        searches.note(0, (1, 0), true);
        searches.note(40 * TENTH, (1, 0), true);
        assert!(searches.needless((1, 0)));
        searches.note(80 * TENTH, (2, 0), true);
        assert!(!searches.needless((2, 0)));
        searches.note(120 * TENTH, (2, 0), true);
        assert!(searches.needless((2, 0)));
        searches.forget();
        assert!(!searches.needless((2, 0)));
        searches.note(200 * TENTH, (2, 0), true);
        searches.note(240 * TENTH, (2, 0), false);
        assert!(!searches.needless((2, 0)), "somebody is not connected");
    }
}
