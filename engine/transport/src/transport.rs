//! The narrow trait that every transport implements.
//!
//! Owned by one thread at a time (a transport is `Send`, not `Sync`). Nothing in it names sockets, so that shared
//! memory (readers are handed slices of the region), `io_uring` (slices of provided buffers) and `AF_XDP` (slices of
//! the frame area) fit: received bytes are borrowed for the length of a call, bytes to send are borrowed for the length
//! of a burst, and time comes in through [`Transport::advance`].

use isis_wire::Address;
use std::os::fd::BorrowedFd;

/// Where a datagram goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination<'a> {
    /// To one process.
    Unicast(Address),
    /// To each of `peers`, the other members of a group: by one multicast where that is known to reach them all, else
    /// by one datagram to each. May reach further members of the group, too.
    Members {
        /// The group, from which a multicast address is derived.
        group: u64,
        /// The addresses to reach.
        peers: &'a [Address],
    },
}

impl Destination<'_> {
    /// Who is to be reached.
    pub fn peers(&self) -> &[Address] {
        match self {
            Destination::Unicast(to) => std::slice::from_ref(to),
            Destination::Members { peers, .. } => peers,
        }
    }
}

/// A datagram to send: `header`, then `payload`. The parts are gathered, not copied.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Where to.
    pub destination: Destination<'a>,
    /// First part.
    pub header: &'a [u8],
    /// Second part; may be empty.
    pub payload: &'a [u8],
}

impl Datagram<'_> {
    /// Bytes in both parts.
    pub fn len(&self) -> usize {
        self.header.len() + self.payload.len()
    }

    /// Whether both parts are empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What became of a burst. Everything in it is also counted in [`Transport::counters`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TransmitReport {
    /// Datagrams taken from the iterator: always all of them.
    pub datagrams: usize,
    /// Transmissions handed over (a datagram to n members is n, or one by multicast).
    pub sent: usize,
    /// Transmissions dropped here: full buffers, unreachable destinations, impossible lengths.
    pub dropped: usize,
}

impl TransmitReport {
    /// Adds another report.
    pub fn add(&mut self, other: TransmitReport) {
        self.datagrams += other.datagrams;
        self.sent += other.sent;
        self.dropped += other.dropped;
    }
}

/// What a transport can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// Where the others reach this process.
    pub local_address: Address,
    /// Largest datagram, in bytes, towards processes of this host.
    pub datagram_local: usize,
    /// Largest datagram, in bytes, that reaches all hosts in use now without being fragmented. Changes as paths are
    /// found out about; look again after [`Transport::advance`].
    pub datagram_network: usize,
    /// A datagram to several members may cost one transmission.
    pub multicast: bool,
}

/// Carries datagrams: whole or not at all, perhaps twice, perhaps late, perhaps never.
///
/// One turn of a loop: [`advance`](Transport::advance) with the time, [`receive_burst`](Transport::receive_burst),
/// [`transmit_burst`](Transport::transmit_burst), which may also come before the others: what little waits goes first then.
/// No call blocks. Object-safe.
pub trait Transport: Send {
    /// Addresses and sizes. Constant after opening, but for `datagram_network`.
    fn capabilities(&self) -> Capabilities;

    /// Hands received datagrams to `deliver`, with the sender's address, until there were `budget`, and says how many: more
    /// than that if the network brought several in one piece. Less than `budget`, even zero, does not mean that nothing is
    /// left (some may have been dropped on the way): the descriptors stay readable as long as there is. The bytes are
    /// borrowed for the length of the call of `deliver`.
    fn receive_burst(&mut self, budget: usize, deliver: &mut dyn FnMut(Address, &[u8])) -> usize;

    /// Sends all datagrams of the iterator, or drops and counts what cannot be sent now.
    fn transmit_burst<'a>(&mut self, datagrams: &mut dyn Iterator<Item = Datagram<'a>>) -> TransmitReport;

    /// Says what time it is (monotone nanoseconds from any zero), does the periodic work that is due (self-tests,
    /// delayed datagrams), and returns the time at which it wants to be called next; `None`: no wish.
    fn advance(&mut self, now_ns: u64) -> Option<u64>;

    /// Nothing came, as far as can be seen without the kernel, and `advance` has nothing to do yet: a turn of the loop may leave
    /// this transport out. A look, for loops that never sleep.
    fn is_silent(&self, _now_ns: u64) -> bool {
        false
    }

    /// The caller is about to sleep on the descriptors. `false`: not now, there is something to receive. Holds until the next
    /// [`advance`](Transport::advance): who sleeps without asking may sleep over what comes without the kernel.
    fn prepare_sleep(&mut self) -> bool {
        true
    }

    /// Calls `visit` with every descriptor that becomes readable when there is something to receive and
    /// [`prepare_sleep`](Transport::prepare_sleep) was called.
    fn descriptors(&self, visit: &mut dyn FnMut(BorrowedFd<'_>));

    /// The named counters, in a fixed order. All count up from 0 since opening, but those named `…_now`.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}
