//! Which point-to-point messages between two processes are delivered: what a channel's acknowledgement does not say, for a
//! message that came may still wait for its context (R4).
//!
//! A message is known by its number, which its sender gives it when the application sends. It counts by its place among the
//! messages of the channel, which is another order: a message that waits for what happened before it elsewhere is overtaken
//! by one of another domain. Both ends count places from the first message of the channel, which loses and reorders none.

use std::collections::{BTreeMap, BTreeSet};

/// Has its number, but waits and is not on the channel.
const WAITS: u64 = u64::MAX;

/// Point-to-point messages to a process.
#[derive(Debug, Default)]
pub struct Sent {
    /// How many went on the channel.
    count: u64,
    /// Up to which place they are delivered.
    delivered: u64,
    /// Number and place of those that are not.
    open: BTreeMap<u64, u64>,
}

impl Sent {
    /// A message waits to go.
    pub fn note_waiting(&mut self, number: u64) {
        self.open.insert(number, WAITS);
    }

    /// A message went on the channel.
    pub fn note_sent(&mut self, number: u64) {
        self.count += 1;
        self.open.insert(number, self.count);
    }

    /// One that waited will not go any more.
    pub fn give_up(&mut self, number: u64) {
        if self.open.get(&number) == Some(&WAITS) {
            self.open.remove(&number);
        }
    }

    /// The receiver has delivered the first `places` messages of the channel, or dropped them for good. `false`: there were
    /// not so many.
    pub fn note_delivered(&mut self, places: u64) -> bool {
        if places > self.count {
            return false;
        }
        if places > self.delivered {
            self.delivered = places;
            self.open.retain(|_, &mut place| place > places);
        }
        true
    }

    /// The message is delivered, or will never be.
    pub fn is_settled(&self, number: u64) -> bool {
        !self.open.contains_key(&number)
    }
}

/// Point-to-point messages of a process.
#[derive(Debug, Default)]
pub struct Received {
    /// How many came on the channel.
    count: u64,
    /// Number and place of those that are not delivered.
    open: BTreeMap<u64, u64>,
    /// Their places.
    places: BTreeSet<u64>,
}

impl Received {
    /// The next message of the channel came.
    pub fn note_came(&mut self, number: u64) {
        self.count += 1;
        if let Some(same) = self.open.insert(number, self.count) {
            self.places.remove(&same);
        }
        self.places.insert(self.count);
    }

    /// A message is delivered, or dropped for good; `false`: it was before.
    pub fn note_delivered(&mut self, number: u64) -> bool {
        match self.open.remove(&number) {
            Some(place) => self.places.remove(&place),
            None => false,
        }
    }

    /// How many messages of the channel, from the first, are delivered.
    pub fn delivered(&self) -> u64 {
        self.places.first().map_or(self.count, |&first| first - 1)
    }

    /// Whether any came.
    pub fn any(&self) -> bool {
        self.count > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number 5 waits, 6 goes first and is delivered: that says nothing of 5.
    #[test]
    fn an_overtaken_message_is_not_taken_for_delivered() {
        let (mut sent, mut received) = (Sent::default(), Received::default());
        sent.note_waiting(5);
        sent.note_sent(6);
        received.note_came(6);
        assert_eq!(received.delivered(), 0);
        assert!(received.note_delivered(6) && !received.note_delivered(6));
        assert!(sent.note_delivered(received.delivered()));
        assert!(sent.is_settled(6) && !sent.is_settled(5));
        sent.note_sent(5);
        received.note_came(5);
        sent.note_sent(7);
        received.note_came(7);
        assert!(received.note_delivered(7));
        assert!(sent.note_delivered(received.delivered()));
        assert!(!sent.is_settled(5) && !sent.is_settled(7));
        assert!(received.note_delivered(5));
        assert!(sent.note_delivered(received.delivered()));
        assert!(sent.is_settled(5) && sent.is_settled(7));
        assert!(!sent.note_delivered(4), "more than were sent");
    }

    #[test]
    fn only_a_waiting_message_is_given_up() {
        let mut sent = Sent::default();
        sent.note_waiting(1);
        sent.note_sent(2);
        sent.give_up(1);
        sent.give_up(2);
        assert!(sent.is_settled(1) && !sent.is_settled(2));
    }
}
