//! From the core's tickets to those that the application was given, in threaded mode.
//!
//! The application's calls do not wait for the core, so they count for themselves; the core counts what it has accepted,
//! from all producers of the group together. The two run in step as long as one producer's commands are accepted, so what
//! is kept is the runs in which they do, and not each pair.
//!
//! Owner: the core thread, one [`Tickets`] a group. Invariant: in each series the runs are ordered by the core's tickets.

use isis_protocol::event::FIRST_UNICAST;
use std::collections::VecDeque;

/// Runs kept in each series: with one producer and no refusals a membership is one run.
const KEPT_RUNS: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Run {
    core: u64,
    application: u64,
    count: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    /// Multicasts, and point-to-point messages: the core numbers them apart.
    series: [VecDeque<Run>; 2],
}

impl Tickets {
    fn series_of(core: u64) -> usize {
        usize::from(core > FIRST_UNICAST)
    }

    /// The core gave `core` to what the application calls `application`.
    pub fn note(&mut self, core: u64, application: u64) {
        let runs = &mut self.series[Tickets::series_of(core)];
        if let Some(last) = runs.back_mut()
            && last.core + last.count == core
            && last.application + last.count == application
        {
            last.count += 1;
            return;
        }
        if runs.len() == KEPT_RUNS {
            runs.pop_front();
        }
        runs.push_back(Run { core, application, count: 1 });
    }

    /// What the application calls it; 0: unknown, or too long ago.
    pub fn find(&self, core: u64) -> u64 {
        let runs = &self.series[Tickets::series_of(core)];
        let after = runs.partition_point(|run| run.core <= core);
        let Some(run) = after.checked_sub(1).and_then(|index| runs.get(index)) else { return 0 };
        let place = core - run.core;
        if place < run.count { run.application + place } else { 0 }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn tickets_of_several_producers_are_found_again() {
        let mut tickets = Tickets::default();
        let sender = 1 << 48;
        for (core, application) in [(1, 1), (2, 2), (3, sender + 1), (4, 3), (5, 5), (6, sender + 2)] {
            tickets.note(core, application);
            tickets.note(FIRST_UNICAST + 10 * core, 1000 + application);
        }
        for (core, application) in [(1, 1), (2, 2), (3, sender + 1), (4, 3), (5, 5), (6, sender + 2), (0, 0), (7, 0)] {
            assert_eq!(tickets.find(core), application, "{core}");
        }
        assert_eq!(tickets.find(FIRST_UNICAST + 30), 1001 + sender);
        assert_eq!(tickets.find(FIRST_UNICAST + 31), 0);
    }

    #[test]
    fn one_producer_costs_one_run_and_many_are_bounded() {
        let mut tickets = Tickets::default();
        for ticket in 1..100_000 {
            tickets.note(ticket, ticket);
        }
        assert_eq!((tickets.series[0].len(), tickets.find(1), tickets.find(99_999)), (1, 1, 99_999));
        for ticket in 0..2 * KEPT_RUNS as u64 {
            tickets.note(100_000 + ticket, 1_000_000 + 2 * ticket);
        }
        assert_eq!((tickets.series[0].len(), tickets.find(1)), (KEPT_RUNS, 0));
    }
}
