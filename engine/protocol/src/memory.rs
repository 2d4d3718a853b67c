//! How much of the region a group takes at each of its members: the sum that `docs/memory.md` explains, term by term.
//!
//! Pure arithmetic over the [`Config`]; a test compares it with what the simulator's members take at most. It holds as long
//! as everybody hears everybody's rows. A member that misses some keeps more, up to the region's own limit.

use crate::config::{Config, TotalOrder};
use crate::plane::Plane;
use isis_memory::CHUNK_SIZE;
use isis_wire::frame::{SHORT, frame_size};
use std::ops::RangeInclusive;

/// The longest ORDER record of one run: the number of runs, a rank, a count.
const ORDER_RECORD: u64 = frame_size(1 + 3 + 4) as u64;
/// A handover in an ORDER record of its own: the number of runs, a rank, a zero.
const HANDOVER: u64 = frame_size(1 + 3 + 1) as u64;
/// The longest PROPOSE record of one run: a priority before it.
const PROPOSE_RECORD: u64 = frame_size(8 + 1 + 3 + 4) as u64;
/// The longest entry of a CONTEXT record: a rank, a message's number.
const CONTEXT_ENTRY: usize = 3 + 10;
/// A member tells what it has consumed as soon as it is this part of the window.
const REPORTS: u64 = 4;

/// Bytes of the region that one group takes at one member, at most. All streams of the view together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryBound {
    /// `window` for each stream: so far a sender may be ahead of the slowest member.
    pub windows: u64,
    /// A quarter of it for each stream: a report of consumption that has reached the sender, and not yet this member.
    pub reports: u64,
    /// What a message may take beyond the window: R1's message in progress if it has several fragments, and the padding before
    /// its frames, or of a claim that others overtook.
    pub in_progress: u64,
    /// Control's reserve (R1), which a full window does not stop: see [`Config::control_reserve`].
    pub control: u64,
    /// Two chunks for each stream, the first and the last, of which only a part is used.
    pub chunk_ends: u64,
}

impl MemoryBound {
    /// The sum, in bytes.
    pub fn total(&self) -> u64 {
        self.windows + self.reports + self.in_progress + self.control + self.chunk_ends
    }
}

impl Config {
    /// The most bytes of control records, in all streams of a view, that are beyond their windows: for every message in the
    /// windows an ORDER record of its own in a sequencer's stream, with the handovers, or a PROPOSE record in everybody's, and a
    /// CONTEXT record at the end of every stream. `shortest`: payload bytes of the shortest messages.
    ///
    /// These records describe messages that are in some window, and each message once; while a window is full nothing is
    /// appended that could need a further one. A CONTEXT record counts in its stream's window, but for the last one.
    pub fn control_reserve(&self, members: usize, shortest: usize, total_order: TotalOrder) -> u64 {
        let members_wide = members as u64;
        let messages = self.window.div_ceil(frame_size(shortest.min(self.longest_fragment())) as u64);
        let context = frame_size(3 + members * CONTEXT_ENTRY) as u64;
        let records = match total_order {
            TotalOrder::Sequencer => ORDER_RECORD,
            TotalOrder::Priority => members_wide * PROPOSE_RECORD,
        };
        // Each after so many messages, and one whose messages are in no window any more.
        let handovers = match (total_order, self.handover.after) {
            (TotalOrder::Priority, _) | (_, 0) => 0,
            (TotalOrder::Sequencer, after) => messages * members_wide / u64::from(after) + 1,
        };
        members_wide * (messages * records + context) + handovers * HANDOVER
    }

    /// The most that one group of so many members takes of the region at each of them, in one view. `lengths`: of the
    /// payloads that the application sends, in bytes.
    pub fn memory_bound(&self, members: usize, lengths: RangeInclusive<usize>, total_order: TotalOrder) -> MemoryBound {
        let longest = (*lengths.end()).min(self.max_message);
        let size = Plane::message_size(longest, self.longest_fragment());
        let frame = frame_size(longest.min(SHORT)) as u64;
        let chunk = CHUNK_SIZE as u64;
        // A short frame that does not fit into the rest of a chunk leaves it empty. What a claim leaves counts in the window, but for
        // one that was overtaken.
        let padding = (size / chunk + 1) * frame + frame_size(longest.min(self.claim_max())) as u64;
        let beyond = if longest > self.longest_fragment() { size } else { 0 };
        let members_wide = members as u64;
        MemoryBound {
            windows: members_wide * self.window,
            reports: members_wide * (self.window / REPORTS),
            in_progress: members_wide * (beyond + padding),
            control: self.control_reserve(members, *lengths.start(), total_order),
            chunk_ends: members_wide * 2 * chunk,
        }
    }
}
