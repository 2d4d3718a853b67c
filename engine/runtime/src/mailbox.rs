//! How events and rare values pass between the threads: a ring for the small and frequent, an annex for the rest.
//!
//! The annex is a locked queue beside a ring. A record of one byte in the ring stands for the next value of the annex, so
//! the order of both together is the ring's. Its bytes are bounded: beyond the limit it takes one value only when it is
//! empty. Values that own no memory to speak of cost nothing and are bounded by their ring records.
//!
//! Owner: each end of a mailbox belongs to one thread.

use crate::command::{ANNEX, kind, message_id, message_words, put_words, word};
use crate::event::{Message, NodeEvent, Payload, Place};
use isis_memory::sync::Mutex;
use isis_memory::{Consumer, NoRoom, Producer, ring};
use isis_protocol::{Body, Delivery, GroupHandle};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Annex<T> {
    queue: Mutex<(VecDeque<(T, usize)>, usize)>,
    limit: usize,
}

impl<T> Annex<T> {
    fn new(limit: usize) -> Annex<T> {
        Annex { queue: Mutex::new((VecDeque::new(), 0)), limit }
    }

    fn has_room(&self, bytes: usize) -> bool {
        let held = self.queue.lock().unwrap_or_else(PoisonError::into_inner).1;
        bytes == 0 || held == 0 || held + bytes <= self.limit
    }

    fn push(&self, value: T, bytes: usize) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.0.push_back((value, bytes));
        queue.1 += bytes;
    }

    fn pop(&self) -> Option<T> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, bytes) = queue.0.pop_front()?;
        queue.1 -= bytes;
        Some(value)
    }
}

/// The writing end of a mailbox.
#[derive(Debug)]
pub(crate) struct Outlet<T> {
    pub ring: Producer,
    annex: Arc<Annex<T>>,
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Inlet<T> {
    pub ring: Consumer,
    annex: Arc<Annex<T>>,
}

/// A mailbox with a ring of `capacity` bytes, and as many in the annex.
pub(crate) fn mailbox<T>(capacity: usize) -> (Outlet<T>, Inlet<T>) {
    let (producer, consumer) = ring(capacity);
    let annex = Arc::new(Annex::new(capacity));
    (Outlet { ring: producer, annex: annex.clone() }, Inlet { ring: consumer, annex })
}

impl<T> Outlet<T> {
    /// Whether a record of this length goes into the ring; longer ones go into the annex.
    pub fn fits(&self, len: usize) -> bool {
        len <= self.ring.max_record() / 2
    }

    /// Passes a value by the annex. `bytes`: the memory that it owns. `Err` gives it back: no room now.
    pub fn push_value(&mut self, value: T, bytes: usize) -> Result<(), T> {
        if !self.annex.has_room(bytes) {
            return Err(value);
        }
        match self.ring.claim(1) {
            Ok(record) => record[0] = ANNEX,
            Err(_) => return Err(value),
        }
        self.annex.push(value, bytes);
        self.ring.commit();
        Ok(())
    }
}

impl<T> Inlet<T> {
    /// The value that the current record stands for.
    ///
    /// # Panics
    /// When there is none: each record of the annex is published after its value.
    pub fn pop_value(&mut self) -> T {
        self.annex.pop().expect("a record of the annex comes after its value")
    }
}

/// Tag of a message's record.
const MESSAGE: u8 = 1;
/// Bytes before the payload: 8 of small fields and 6 words. A word with the ticket follows if it has one, and 4 words when
/// it answers a message.
const HEADER: usize = 8 + 6 * 8;

impl Outlet<NodeEvent> {
    /// Passes a message, its payload copied. `group` is the application's handle. `false`: no room now.
    pub fn push_message(&mut self, delivery: &Delivery, group: GroupHandle, payload: &[u8]) -> bool {
        let answers_at = HEADER + if delivery.ticket > 0 { 8 } else { 0 };
        let header = answers_at + if delivery.answers.is_some() { 32 } else { 0 };
        let len = header + payload.len();
        if !self.fits(len) {
            if !self.annex.has_room(payload.len()) {
                return false;
            }
            let place = Place::Owned(match &delivery.body {
                Body::Owned(bytes) => bytes.clone(),
                Body::Chunk { .. } => Arc::new(payload.to_vec()),
            });
            return self.push_value(NodeEvent::Message(Message::of(delivery, group, place)), payload.len()).is_ok();
        }
        let record = match self.ring.claim(len) {
            Ok(record) => record,
            Err(NoRoom::Full | NoRoom::TooLong) => return false,
        };
        let rank = delivery.rank.to_le_bytes();
        record[..8].copy_from_slice(&[
            MESSAGE,
            delivery.kind as u8,
            u8::from(delivery.safe),
            delivery.entry,
            rank[0],
            rank[1],
            u8::from(delivery.answers.is_some()),
            u8::from(delivery.ticket > 0),
        ]);
        let id = message_words(&delivery.id);
        put_words(&mut record[8..HEADER], &[u64::from(group.0), delivery.order, id[0], id[1], id[2], id[3]]);
        if delivery.ticket > 0 {
            put_words(&mut record[HEADER..answers_at], &[delivery.ticket]);
        }
        if let Some(answers) = &delivery.answers {
            put_words(&mut record[answers_at..header], &message_words(answers));
        }
        record[header..].copy_from_slice(payload);
        self.ring.commit()
    }
}

impl Inlet<NodeEvent> {
    /// The oldest event. Its record stays borrowed until `ring.release`.
    pub fn peek_event(&mut self) -> Option<NodeEvent> {
        let record = self.ring.peek()?;
        if record[0] == ANNEX {
            return Some(self.pop_value());
        }
        let (ticket, answers_at) = if record[7] != 0 { (word(&record[HEADER..], 0), HEADER + 8) } else { (0, HEADER) };
        let answers = (record[6] != 0).then(|| message_id(&record[answers_at..]));
        let header = answers_at + if answers.is_some() { 32 } else { 0 };
        let mut message = Message {
            group: GroupHandle(word(&record[8..], 0) as u32),
            id: message_id(&record[24..]),
            rank: u16::from_le_bytes([record[4], record[5]]),
            kind: kind(record[1]),
            safe: record[2] != 0,
            entry: record[3],
            order: word(&record[8..], 1),
            ticket,
            answers,
            payload: Payload(Place::Ring { record: 0, offset: header as u32, len: (record.len() - header) as u32 }),
        };
        if let Place::Ring { record, .. } = &mut message.payload.0 {
            *record = self.ring.position();
        }
        Some(NodeEvent::Message(message))
    }

    /// The bytes of a payload; empty when its record was released.
    pub fn payload<'a>(&'a self, payload: &'a Payload) -> &'a [u8] {
        match &payload.0 {
            Place::Ring { record, offset, len } if *record == self.ring.position() => {
                let bytes = self.ring.current().unwrap_or_default();
                bytes.get(*offset as usize..(*offset + *len) as usize).unwrap_or_default()
            }
            Place::Owned(bytes) => bytes,
            _ => &[],
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use isis_protocol::{GroupId, Kind, MessageId, ProcessId};

    fn delivery(answers: bool) -> Delivery {
        let id = MessageId { group: GroupId(1), view: 2, sender: ProcessId(3), number: 4 };
        Delivery {
            group: GroupHandle(99),
            id,
            rank: 0x0506,
            kind: Kind::Reply,
            safe: true,
            entry: 7,
            order: 8,
            ticket: 0,
            answers: answers.then_some(MessageId { number: 9, ..id }),
            body: Body::Owned(Arc::default()),
        }
    }

    fn next(inlet: &mut Inlet<NodeEvent>) -> Message {
        match inlet.peek_event() {
            Some(NodeEvent::Message(message)) => message,
            other => panic!("wanted a message, got {other:?}"),
        }
    }

    #[test]
    fn messages_of_every_size_pass_in_order_with_all_their_fields() {
        let (mut outlet, mut inlet) = mailbox::<NodeEvent>(4096);
        for len in [0, 1, 8, 100, 900, 2000, 100_000] {
            for (answers, ticket) in [(false, 0), (false, u64::MAX), (true, 0), (true, 10)] {
                let (mut delivery, bytes) = (delivery(answers), vec![len as u8; len]);
                delivery.body = Body::Owned(Arc::new(bytes.to_vec()));
                delivery.ticket = ticket;
                assert!(outlet.push_message(&delivery, GroupHandle(12), &bytes));
                let got = next(&mut inlet);
                assert_eq!((got.group, got.id, got.rank), (GroupHandle(12), delivery.id, delivery.rank));
                assert_eq!((got.kind, got.safe, got.entry, got.order), (Kind::Reply, true, 7, 8));
                assert_eq!((got.answers, got.ticket), (delivery.answers, delivery.ticket));
                assert!(inlet.payload(&got.payload) == bytes, "{len} bytes");
                inlet.ring.release();
                assert!(inlet.payload(&got.payload).is_empty() || len > 1000, "a released record is not shown");
            }
        }
    }

    #[test]
    fn long_messages_are_bounded_in_number() {
        let (mut outlet, mut inlet) = mailbox::<NodeEvent>(4096);
        let bytes = vec![1; 3000];
        assert!(outlet.push_message(&delivery(false), GroupHandle(1), &bytes));
        assert!(!outlet.push_message(&delivery(false), GroupHandle(1), &bytes), "6000 bytes, the limit is 4096");
        next(&mut inlet);
        inlet.ring.release();
        assert!(outlet.push_message(&delivery(false), GroupHandle(1), &vec![1; 1 << 20]), "one may be of any length");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::thread::spawn;

    /// Long values and short records in turns: each is there when its record is, in the order of the calls, and the annex's
    /// limit is kept.
    #[test]
    fn values_come_whole_and_in_order() {
        loom::model(|| {
            let (mut outlet, mut inlet) = mailbox::<u64>(64);
            let writer = spawn(move || {
                assert!(outlet.push_value(1, 60).is_ok());
                // Not before the first is taken: 60 and 60 are more than 64.
                let second = outlet.push_value(2, 60).is_ok();
                assert!(outlet.push_value(3, 0).is_ok(), "what owns no memory needs room in the ring only");
                second
            });
            let mut came = Vec::new();
            let mut take = |inlet: &mut Inlet<u64>| {
                while inlet.ring.peek().is_some() {
                    came.push(inlet.pop_value());
                    inlet.ring.release();
                }
            };
            take(&mut inlet);
            let second = writer.join().expect("it ends");
            take(&mut inlet);
            assert_eq!(came, if second { vec![1, 2, 3] } else { vec![1, 3] });
        });
    }
}
