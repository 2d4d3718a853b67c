//! How a sender knows its own messages again.
//!
//! The call that multicasts cannot tell the message's name: its view and number are known only when it is appended, which
//! may be in a later view. So it gives a *ticket*: it counts the multicasts that were accepted in this membership, 1, 2,
//! 3 … Since they are appended, and thereby numbered, in the same order, a name leads back to its ticket: the messages of
//! this process in earlier views, plus the number in that view. A point-to-point message's number is its ticket.
//!
//! Owner: the group. Invariants: a member that stays has its whole stream within the cut, so no message between two is
//! missing; one that was not whole at the cut is appended again, and numbered, in the next view.

use crate::event::{FIRST_UNICAST, MessageId};
use std::collections::VecDeque;

/// Views whose messages are known again.
const KEPT_VIEWS: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub struct Tickets {
    accepted: u64,
    /// Own messages before the present view.
    before: u64,
    /// View → own messages before it; only views in which this process sent something.
    past: VecDeque<(u64, u64)>,
}

impl Tickets {
    /// The ticket of the next multicast.
    pub(super) fn accept(&mut self) -> u64 {
        self.accepted += 1;
        self.accepted
    }

    /// The present view, `view`, is over, with so many own messages in it.
    pub(super) fn end_view(&mut self, view: u64, messages: u64) {
        if messages == 0 {
            return;
        }
        if self.past.len() == KEPT_VIEWS {
            self.past.pop_front();
        }
        self.past.push_back((view, self.before));
        self.before += messages;
    }

    /// The ticket of an own message, by its name; `present`: the number of the present view. 0: too long ago.
    pub(super) fn find(&self, id: MessageId, present: u64) -> u64 {
        if id.number > FIRST_UNICAST {
            return id.number;
        }
        if id.view == present {
            return self.before + id.number;
        }
        match self.past.binary_search_by_key(&id.view, |(view, _)| *view) {
            Ok(index) => self.past[index].1 + id.number,
            Err(_) => 0,
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
        assert_eq!(tickets.find(name(3, 2), 3), 2);
        tickets.end_view(3, 2);
        tickets.end_view(4, 0);
        assert_eq!(tickets.find(name(5, 1), 5), 3);
        tickets.end_view(5, 5);
        assert_eq!((tickets.find(name(3, 1), 6), tickets.find(name(5, 5), 6)), (1, 7));
        assert_eq!(tickets.find(name(4, 1), 6), 0, "nothing was sent in that view");
        assert_eq!(tickets.find(name(3, FIRST_UNICAST + 9), 6), FIRST_UNICAST + 9);
        for view in 6..6 + KEPT_VIEWS as u64 {
            tickets.end_view(view, 1);
        }
        assert_eq!(tickets.find(name(5, 5), u64::MAX), 0, "too long ago");
        assert_eq!(tickets.find(name(6, 1), u64::MAX), 8);
    }
}
