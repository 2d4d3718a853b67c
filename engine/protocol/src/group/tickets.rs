//! How a sender knows its own messages again.
//!
//! The call that multicasts cannot tell the message's name: its view and number are known only when it is appended, which may
//! be in a later view. So it gives a *ticket*: it counts the multicasts that were accepted in this membership, 1, 2, 3 … Names
//! and tickets grow together, but for messages that have no ticket, and copies of ABCASTs to several groups that were sent
//! again; so a few runs of both lead from a name back to its ticket. A point-to-point message's number is its ticket.
//!
//! Owner: the group. Invariant: a message is noted when it is appended whole; one that was not whole at the cut is appended
//! again, and noted, in the next view.

use crate::event::{FIRST_UNICAST, MessageId};
use std::collections::VecDeque;

/// Runs that are kept: at least so many views' messages are known again, if they are all of the common sort.
const KEPT_RUNS: usize = 4096;

/// Consecutive messages of one view with consecutive tickets.
#[derive(Clone, Copy, Debug)]
struct Run {
    view: u64,
    number: u64,
    ticket: u64,
    count: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Tickets {
    accepted: u64,
    /// What was appended in this view without a number of its own.
    passed_over: u64,
    runs: VecDeque<Run>,
}

impl Tickets {
    /// The ticket that the next multicast gets.
    pub(super) fn next(&self) -> u64 {
        self.accepted + 1
    }

    /// The ticket of the next multicast.
    pub(super) fn accept(&mut self) -> u64 {
        self.accepted += 1;
        self.accepted
    }

    /// Something was appended that has no number among this process's messages.
    pub(super) fn pass_over(&mut self) {
        self.passed_over += 1;
    }

    /// The present view is over.
    pub(super) fn end_view(&mut self) {
        self.passed_over = 0;
    }

    /// The message of this ticket is the `appended`-th of all that this process appended in the view.
    pub(super) fn note(&mut self, view: u64, appended: u64, ticket: u64) {
        let number = appended - self.passed_over;
        if let Some(run) = self.runs.back_mut()
            && (run.view, run.number + run.count, run.ticket + run.count) == (view, number, ticket)
        {
            run.count += 1;
            return;
        }
        if self.runs.len() == KEPT_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back(Run { view, number, ticket, count: 1 });
    }

    /// The ticket of an own message, by its name. 0: too long ago.
    pub(super) fn find(&self, id: MessageId) -> u64 {
        self.find_run(id).0
    }

    /// The same, and for how many messages from this one on, at least one, the ticket grows with the number.
    pub(super) fn find_run(&self, id: MessageId) -> (u64, u64) {
        if id.number > FIRST_UNICAST {
            return (id.number, 1);
        }
        let after = self.runs.partition_point(|run| (run.view, run.number) <= (id.view, id.number));
        match after.checked_sub(1).and_then(|index| self.runs.get(index)) {
            Some(run) if run.view == id.view && id.number < run.number + run.count => {
                (run.ticket + id.number - run.number, run.number + run.count - id.number)
            }
            _ => (0, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_tickets_across_views() {
        let mut tickets = Tickets::default();
        let name = |view, number| MessageId { view, number, ..MessageId::default() };
        let given: Vec<u64> = (0..7).map(|_| tickets.accept()).collect();
        assert_eq!(given, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(tickets.next(), 8);
        tickets.note(3, 1, 1);
        tickets.note(3, 2, 2);
        // The third message of that view has no ticket, and that of ticket 3 is appended later.
        tickets.note(3, 4, 4);
        for number in 1..4 {
            tickets.note(5, number, 4 + number);
        }
        let found = |view, number| tickets.find(name(view, number));
        assert_eq!((found(3, 1), found(3, 2), found(3, 3), found(3, 4)), (1, 2, 0, 4));
        assert_eq!((found(5, 1), found(5, 3), found(5, 4)), (5, 7, 0));
        assert_eq!(tickets.find_run(name(5, 2)), (6, 2));
        assert_eq!(tickets.find_run(name(3, 3)), (0, 1));
        assert_eq!(found(4, 1), 0, "nothing was sent in that view");
        assert_eq!(found(3, FIRST_UNICAST + 9), FIRST_UNICAST + 9);
        for view in 6..6 + KEPT_RUNS as u64 {
            tickets.note(view, 1, view + 2);
        }
        assert_eq!(tickets.find(name(5, 3)), 0, "too long ago");
        assert_eq!(tickets.find(name(6, 1)), 8);
    }
}
