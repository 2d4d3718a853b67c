//! What comes out of the core, and the vocabulary of what goes in.

use crate::founding::RecordOperation;
use crate::id::{GroupHandle, GroupId, Nonce, ProcessId, SystemId};
use isis_memory::ChunkIndex;
use isis_wire::Address;
use isis_wire::founding::SiteRecord;
use std::sync::Arc;

/// The ordering of a multicast, or the way a point-to-point message came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// FBCAST: in the order of its sender.
    Fifo = 1,
    /// CBCAST: after everything that happened before it.
    Causal = 2,
    /// ABCAST: as causal, and in one total order with all other ABCASTs of the group.
    Total = 3,
    /// GBCAST: at the same point of everything at all members, views included.
    Global = 4,
    /// Point to point.
    Unicast = 5,
    /// Point to point, answers a message.
    Reply = 6,
}

/// How to multicast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendOptions {
    /// `Fifo`, `Causal`, `Total` or `Global`.
    pub kind: Kind,
    /// Deliver only when every member has it (dynamic uniformity). Without meaning for `Global`, which always is.
    pub safe: bool,
    /// The entry point at the receivers.
    pub entry: u8,
}

/// Names a message: its sender's `number`-th in that view of that group (1, 2, …). `Unicast` and `Reply` have a series of
/// their own, from `FIRST_UNICAST` on, so that a reply's `answers` names one message only. A client's multicasts have a
/// series of its own over all views.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MessageId {
    /// The group.
    pub group: GroupId,
    /// The number of the group view in which it was sent.
    pub view: u64,
    /// Its sender.
    pub sender: ProcessId,
    /// Its number in its stream.
    pub number: u64,
}

/// The numbers of point-to-point messages are above this one, those of multicasts below.
pub const FIRST_UNICAST: u64 = 1 << 62;

/// Where the bytes of a delivered message are. Valid until the next call of `Endpoint::poll_event`.
#[derive(Clone, Debug)]
pub enum Body {
    /// In the region, in one piece: in one chunk, or in several that follow each other in memory.
    Chunk {
        /// The first chunk.
        chunk: ChunkIndex,
        /// First byte, from the beginning of that chunk on.
        offset: u32,
        /// How many bytes.
        len: u32,
    },
    /// Put together from what did not lie in one piece. A vector, so that its allocation can be used for a later message.
    Owned(Arc<Vec<u8>>),
}

/// A message handed to the application.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The group that it was sent in.
    pub group: GroupHandle,
    /// Its name.
    pub id: MessageId,
    /// The sender's rank in the view; for point-to-point messages the sender's rank in the current view. `u16::MAX`: it is a
    /// client, or no member any more.
    pub rank: u16,
    /// Its ordering.
    pub kind: Kind,
    /// It was sent as safe.
    pub safe: bool,
    /// Its entry point.
    pub entry: u8,
    /// Its place in the total order of the view (1, 2, …); 0 for other kinds.
    pub order: u64,
    /// For a message of this process's own: what the call that sent it returned. For a reply to one: what the call that
    /// sent the message returned that is answered. 0: neither, too long ago, or of an earlier
    /// membership.
    pub ticket: u64,
    /// For a reply: the message that it answers.
    pub answers: Option<MessageId>,
    /// Its bytes.
    pub body: Body,
}

/// One member of a view, at the index that is its rank.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who.
    pub process: ProcessId,
    /// Its start's nonce.
    pub nonce: Nonce,
    /// Where it receives datagrams.
    pub address: Address,
    /// It has the group's state (a joiner has not, until its transfer is over).
    pub has_state: bool,
}

/// Why a process is no more in a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure {
    /// By its own request.
    Left,
    /// It failed, or was taken for failed.
    Failed,
}

/// A view: the members of a group, oldest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// The group; `GroupId::SYSTEM` for system views.
    pub group: GroupId,
    /// 1, 2, 3 …
    pub number: u64,
    /// The members by age; the index is the rank.
    pub members: Vec<Member>,
    /// Who is new in it.
    pub joined: Vec<ProcessId>,
    /// Who was in the view before and is not in this one.
    pub departed: Vec<(ProcessId, Departure)>,
    /// The clients registered at its start, by identifier: processes that multicast into the group and are no members.
    pub clients: Vec<ProcessId>,
}

/// What the core tells the application (through the runtime).
#[derive(Clone, Debug)]
pub enum Event {
    /// This process was admitted to a system.
    SystemJoined {
        /// The system.
        system: SystemId,
        /// This process's identifier in it.
        process: ProcessId,
    },
    /// A new system view.
    SystemView(Arc<View>),
    /// A new view of a group. The first one tells that the join is complete, state included.
    View {
        /// The group.
        group: GroupHandle,
        /// The view.
        view: Arc<View>,
        /// This process's rank in it.
        rank: u16,
    },
    /// A message.
    Message(Delivery),
    /// The application shall capture the group's state as it is now, before it handles any later event, and hand it
    /// over in blocks with `Endpoint::state_block` (at once or later).
    StateWanted {
        /// The group.
        group: GroupHandle,
        /// Names the transfer in `state_block`.
        transfer: u64,
        /// Who waits for it.
        joiners: Vec<ProcessId>,
    },
    /// The state is no longer wanted: the snapshot may be dropped.
    StateAborted {
        /// The group.
        group: GroupHandle,
        /// The transfer.
        transfer: u64,
    },
    /// A block of the group's state for this joiner, in order from offset 0. Comes before its first view.
    /// `offset` 0 after others means: the donor was lost, start over.
    StateBlock {
        /// The group.
        group: GroupHandle,
        /// Offset of the block in the state.
        offset: u64,
        /// The bytes.
        block: Arc<[u8]>,
        /// This was the last one.
        done: bool,
    },
    /// This process is registered as a client of the group. `Left` or `GroupEnded` ends it.
    Registered {
        /// The group.
        group: GroupHandle,
        /// Its identifier.
        id: GroupId,
    },
    /// The multicast of this process as a client is in: all members that stay deliver it, or have done so.
    Completed {
        /// The group.
        group: GroupHandle,
        /// What the call that sent it returned.
        ticket: u64,
    },
    /// The group that this process was a client of has no members any more. The handle is dead. Multicasts that are not
    /// completed may or may not have been delivered.
    GroupEnded {
        /// The group.
        group: GroupHandle,
    },
    /// The leave that was asked for is complete, or the group's join was given up. The handle is dead.
    Left {
        /// The group.
        group: GroupHandle,
    },
    /// All multicasts before the flush are stable (a client's: completed).
    Flushed {
        /// The group.
        group: GroupHandle,
        /// What `Endpoint::flush` returned.
        flush: u64,
    },
    /// A send that was refused with `Refused::WouldBlock` may be tried again.
    Writable {
        /// The group.
        group: GroupHandle,
    },
    /// No contact to a quorum for `stall_after_ns`: every group is frozen until `Resumed` or `Evicted`.
    Stalled,
    /// Contact to a quorum again.
    Resumed,
    /// The others went on without this process. The endpoint is at its end; a new one (new nonce) may join. Multicasts
    /// that were accepted, but that no completed flush covers, may be lost; each flush that was pending gave `FlushLost`.
    Evicted,
    /// A member holds the others up. Once per full window; per view change once for each silence.
    Slow {
        /// Who.
        process: ProcessId,
        /// How.
        reason: SlowReason,
        /// In which group; `None`: the change of the system view.
        group: Option<GroupHandle>,
    },
    /// The flush will never complete: `Evicted` follows. What was multicast before it may or may not have reached the others.
    FlushLost {
        /// The group.
        group: GroupHandle,
        /// What `Endpoint::flush` returned.
        flush: u64,
    },
    /// `Endpoint::close` is complete; the endpoint is at its end.
    Closed,
}

/// How a member holds the others up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum SlowReason {
    /// It is so far behind with taking messages that this process's window is full.
    Window = 1,
    /// A view change waits for its answer, and nothing is heard of it: it hangs, or is away from its loop.
    ViewChange = 2,
}

/// Why a command was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The window is full, a view change goes on and its buffer is full, or this process is stalled: try again later. Not
    /// a failure.
    WouldBlock,
    /// Longer than `max_message` (for a claim: than `Config::claim_max`).
    TooLong,
    /// The handle names no group that this process is a member of (any more), or not yet.
    NotMember,
    /// The destination is not in the system.
    NoSuchProcess,
    /// The endpoint was evicted or closed.
    Ended,
    /// A claim is already open, or the token names none.
    BadClaim,
    /// This endpoint is in that group, or is joining it.
    AlreadyMember,
    /// The kind is not one that this call can send.
    BadKind,
}

/// A question of the core to its site (rules R12, R13). Answer with `Endpoint::handle_site_answer`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SiteRequest {
    /// "May this process found `system` here?" Under the site's lock: if the site already belongs to a system with a
    /// live process, answer `BelongsTo`; else write `system` and answer `Granted`. Without `expected_sites` only.
    Found(SystemId),
    /// "This process belongs to `system` now": write it, so that later processes of the site look for that one. No answer.
    /// Without `expected_sites` only.
    Joined(SystemId),
    /// "Kill the process of this site that has this nonce, if it consented": it hangs, and holds up a view change (option
    /// `hang = kill`). No answer; its death is news like any other.
    Kill(Nonce),
    /// "Tell of the death of the process of this site that has this nonce, though it may be unknown there": a new system view
    /// has it, and it may have died before it was met. No answer but that.
    Watch(Nonce),
    /// Do this to the site's durable record: under the site's lock, [`crate::founding::acceptor::apply`] it, write what
    /// changed and make it durable, then answer with `SiteAnswer::Record`. Under `expected_sites` only.
    Record {
        /// Numbers the requests of this process.
        number: u64,
        /// What to do.
        operation: RecordOperation,
    },
}

/// The answer to a [`SiteRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SiteAnswer {
    /// The site's record names the system that was asked for.
    Granted,
    /// The site belongs to this system; find its processes and join.
    BelongsTo(SystemId),
    /// The operation was done, or refused; what it wrote is durable.
    Record {
        /// The request's number.
        number: u64,
        /// It was done.
        done: bool,
        /// The record now.
        record: Box<SiteRecord>,
        /// The system in which some live process of the site was; zero: none was in any.
        lives_in: SystemId,
    },
}
