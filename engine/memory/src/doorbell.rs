//! Wakes a thread only when it sleeps.
//!
//! A system call per message would cost more than the message. So the thread that waits says when it is about to sleep,
//! and the one that publishes something makes the call only then. Each side writes its own word and then reads the other's
//! (Dekker's pattern), with a sequentially consistent fence in between: at least one of them sees the other.
//!
//! ```text
//! waits:      arm ─ fence ─ look again ─ sleep            publishes:  publish ─ fence ─ armed? → wake
//! ```
//!
//! What wakes (an eventfd, a condition variable) is the owner's business. Owner: shared by the two sides.

use crate::sync::{AtomicBool, Ordering, fence};

/// Whether the other side sleeps, or is about to.
#[derive(Debug)]
pub struct Doorbell {
    armed: AtomicBool,
}

impl Default for Doorbell {
    fn default() -> Doorbell {
        Doorbell::new()
    }
}

impl Doorbell {
    /// Nobody sleeps.
    pub fn new() -> Doorbell {
        Doorbell { armed: AtomicBool::new(false) }
    }

    /// The waiting side, before it looks for work a last time: if there is none after this call, it may sleep; if there
    /// is, it calls `disarm`.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
        // Pairs with the fence in `ring`: either the look that follows sees what was published, or `ring` sees `armed`.
        fence(Ordering::SeqCst);
    }

    /// The waiting side is awake.
    pub fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }

    /// The publishing side, after it published: `true` = wake the other side now. Of several rings one says so.
    pub fn ring(&self) -> bool {
        // Pairs with the fence in `arm`.
        fence(Ordering::SeqCst);
        self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn rings_once_per_sleep() {
        let bell = Doorbell::new();
        assert!(!bell.ring(), "nobody sleeps");
        bell.arm();
        assert!(bell.ring());
        assert!(!bell.ring(), "already woken");
        bell.arm();
        bell.disarm();
        assert!(!bell.ring());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::ring::ring;
    use crate::sync::Arc;

    /// No lost wake-up: a consumer that found nothing after arming is woken by the producer of the record.
    #[test]
    fn nobody_sleeps_through_a_record() {
        loom::model(|| {
            let bell = Arc::new(Doorbell::new());
            let (mut producer, mut consumer) = ring(64);
            let other = bell.clone();
            let writer = loom::thread::spawn(move || {
                producer.push(b"wake").expect("room");
                other.ring()
            });
            bell.arm();
            let sleeps = consumer.peek().is_none();
            let woken = writer.join().expect("the writer ends");
            assert!(!sleeps || woken, "asleep with a record in the ring");
        });
    }

    /// Two publish at the same time: a sleeper is woken, and by one of them only.
    #[test]
    fn of_two_rings_one_wakes() {
        loom::model(|| {
            let bell = Arc::new(Doorbell::new());
            let publish = |bell: &Arc<Doorbell>| {
                let bell = bell.clone();
                let (mut producer, consumer) = ring(64);
                let writer = loom::thread::spawn(move || {
                    producer.push(b"wake").expect("room");
                    bell.ring()
                });
                (writer, consumer)
            };
            let (first, mut first_ring) = publish(&bell);
            let (second, mut second_ring) = publish(&bell);
            bell.arm();
            let sleeps = first_ring.peek().is_none() && second_ring.peek().is_none();
            let woken = [first, second].map(|writer| u32::from(writer.join().expect("the writer ends")));
            assert!(woken[0] + woken[1] <= 1, "woken twice");
            assert!(!sleeps || woken[0] + woken[1] == 1, "asleep with records in both rings");
        });
    }
}
