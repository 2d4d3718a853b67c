//! Traces: what the processes of a run did and saw, in one global order.
//!
//! Purpose: the only thing that the checker looks at. It is written by the simulated applications and by the world
//! around them, never by the engine: an event is in it when the application called or was told, and not before.
//! Owner: one run of the simulator (or a test that doctors a trace by hand).
//! Invariants: records are appended in the order in which they happened, times never go back, and the same run writes
//! the same bytes.

use isis_protocol::event::{Departure, Kind, SlowReason};
use isis_protocol::id::{GroupId, ProcessId, SystemId};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// One start of a process: what comes back after a crash or an eviction is another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process(pub u32);

impl Process {
    /// Stands for the world around the processes: faults and phases.
    pub const WORLD: Process = Process(u32::MAX);
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Process::WORLD { write!(f, "world") } else { write!(f, "P{}", self.0) }
    }
}

/// How a message travels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Channel {
    /// To all members.
    Multicast,
    /// To one member.
    PointToPoint,
}

/// The application's own name of a message; it travels in the payload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Who sent it.
    pub sender: Process,
    /// In which of its joins (0, 1, …): a process that leaves a group and joins it again starts to count anew.
    pub join: u16,
    /// How.
    pub channel: Channel,
    /// 1, 2, 3 … per sender, join and channel.
    pub number: u32,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.channel == Channel::Multicast { '#' } else { '>' };
        write!(f, "{:?}.{}{}{}", self.sender, self.join, mark, self.number)
    }
}

/// A view as the application was told.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ViewSeen {
    /// The group; `GroupId::SYSTEM` for system views.
    pub group: GroupId,
    /// Its number.
    pub number: u64,
    /// By rank: who, and whether it has the group's state.
    pub members: Vec<(Process, bool)>,
    /// The site of each member, by rank.
    pub sites: Vec<u32>,
    /// Who is new in it, or new again.
    pub joined: Vec<Process>,
    /// Who went, and how.
    pub departed: Vec<(ProcessId, bool)>,
    /// The registered clients.
    pub clients: Vec<ProcessId>,
    /// This process's rank as it was told; `u16::MAX` where it was told none.
    pub rank: u16,
}

impl ViewSeen {
    /// The process is a member.
    pub fn has(&self, process: Process) -> bool {
        self.members.iter().any(|m| m.0 == process)
    }
    /// The members by rank.
    pub fn processes(&self) -> impl Iterator<Item = Process> + '_ {
        self.members.iter().map(|m| m.0)
    }
    /// For [`ViewSeen::departed`].
    pub fn by_request(departure: Departure) -> bool {
        departure == Departure::Left
    }
}

impl fmt::Debug for ViewSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} view {} [", self.group, self.number)?;
        for (i, (process, state)) in self.members.iter().enumerate() {
            let separator = if i > 0 { " " } else { "" };
            write!(f, "{separator}{process:?}{}", if *state { "" } else { "(no state)" })?;
        }
        write!(f, "]")?;
        for (process, left) in &self.departed {
            write!(f, " {}{process:?}", if *left { "left:" } else { "failed:" })?;
        }
        for process in &self.clients {
            write!(f, " client:{process:?}")?;
        }
        Ok(())
    }
}

/// A delivery as the application was told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Delivered {
    /// The receiver's join in which it came.
    pub join: u16,
    /// The group.
    pub group: GroupId,
    /// Which message; `None`: nobody sent such a thing.
    pub key: Option<Key>,
    /// Its ordering, as told.
    pub kind: Kind,
    /// Safe, as told.
    pub safe: bool,
    /// The view that the engine says it belongs to.
    pub view: u64,
    /// Its number in its stream, as told.
    pub number: u64,
    /// Its place in the total order, as told.
    pub order: u64,
    /// The rank of its sender, as told.
    pub rank: u16,
    /// Length and every byte are as sent.
    pub intact: bool,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// The process starts, on this site (boots of one host are different sites), at this address.
    Start {
        /// The site.
        site: u32,
        /// The address.
        slot: u32,
    },
    /// Its site has written down that this founding is decided (R12).
    Founding {
        /// The founding's number.
        number: u64,
        /// The system.
        system: SystemId,
    },
    /// A system admitted it.
    Admitted {
        /// The system.
        system: SystemId,
        /// Its identifier there.
        process: ProcessId,
    },
    /// It was told a system view.
    SystemView(Arc<ViewSeen>),
    /// It calls join.
    JoinCall {
        /// Its number of joins before.
        join: u16,
        /// Index of the group's name in the run.
        name: u8,
        /// It wants the state.
        wants_state: bool,
        /// It chose *sending view* mode.
        sending_view: bool,
        /// As a client.
        client: bool,
    },
    /// It is registered as a client.
    Registered {
        /// Its join.
        join: u16,
        /// The group.
        group: GroupId,
    },
    /// Told that its multicast as a client is in.
    Completed {
        /// The message.
        key: Key,
    },
    /// Told that the group that it was a client of is no more.
    GroupEnded {
        /// Its join.
        join: u16,
    },
    /// It was told a view of a group.
    View {
        /// Its join.
        join: u16,
        /// The view.
        view: Arc<ViewSeen>,
        /// Digest of the application's state at this point; `None` where states are not compared.
        digest: Option<u64>,
    },
    /// A view of a group is over, or the run ends and everything has settled: what the application has come to in it.
    ViewEnds {
        /// Its join.
        join: u16,
        /// The view's number.
        view: u64,
        /// Digest of the order of the ABCASTs and GBCASTs delivered in the view.
        order: u64,
        /// Digest of the application's state; `None` where states are not compared.
        state: Option<u64>,
    },
    /// It multicasts; the call was accepted.
    Send {
        /// The message.
        key: Key,
        /// Its ordering.
        kind: Kind,
        /// Safe.
        safe: bool,
        /// Its bytes.
        len: u32,
        /// The group.
        group: GroupId,
        /// The last view that the sender was told.
        view: u64,
    },
    /// It sends an ABCAST to several groups; the call was accepted.
    SendMany {
        /// Per group: the message's key there, the group, the last view that the sender was told.
        copies: Vec<(Key, GroupId, u64)>,
        /// Safe.
        safe: bool,
        /// Its bytes.
        len: u32,
    },
    /// It sends to one member, or replies; the call was accepted.
    SendTo {
        /// The message.
        key: Key,
        /// `Unicast` or `Reply`.
        kind: Kind,
        /// Whom.
        to: Process,
        /// Its bytes.
        len: u32,
        /// The group.
        group: GroupId,
        /// The last view that the sender was told.
        view: u64,
    },
    /// A message was handed to it.
    Deliver(Delivered),
    /// It captured its state for joiners.
    StateCaptured {
        /// Its join.
        join: u16,
        /// Names the transfer.
        transfer: u64,
        /// Of the state.
        digest: u64,
        /// In bytes.
        len: u32,
    },
    /// The snapshot is not wanted any more.
    StateAborted {
        /// Its join.
        join: u16,
        /// Names the transfer.
        transfer: u64,
    },
    /// It has handed over its snapshot to the end.
    StateHandedOver {
        /// Its join.
        join: u16,
        /// Names the transfer.
        transfer: u64,
    },
    /// It received a state to its end.
    StateInstalled {
        /// Its join.
        join: u16,
        /// Of the state.
        digest: u64,
        /// Blocks came without gap, and all bytes are as captured.
        intact: bool,
    },
    /// It calls flush.
    FlushCall {
        /// Its join.
        join: u16,
        /// What the call returned.
        flush: u64,
    },
    /// The flush returned.
    Flushed {
        /// Its join.
        join: u16,
        /// What the call returned.
        flush: u64,
    },
    /// It calls leave.
    LeaveCall {
        /// Its join.
        join: u16,
    },
    /// The leave is complete.
    Left {
        /// Its join.
        join: u16,
    },
    /// It calls close.
    CloseCall,
    /// The close is complete; the process ends.
    Closed,
    /// Without a quorum.
    Stalled,
    /// With a quorum again.
    Resumed,
    /// The others went on without it; the process ends.
    Evicted,
    /// Told that a member holds the others up.
    Slow {
        /// Who.
        process: ProcessId,
        /// How.
        reason: SlowReason,
        /// It is the system's view change.
        system: bool,
    },
    /// The process is killed.
    Crash,
    /// The process gets no turns any more.
    Hang,
    /// The process gets turns again.
    Wake,
    /// The application begins (or ends) to take its events slowly: what it is told from here on is late by its own fault.
    Lag {
        /// It begins.
        on: bool,
    },
    /// The world: something of the network or of the schedule changes.
    World(String),
    /// The world: from here on there are no faults, and liveness is demanded.
    Healed,
    /// The world: the end of the run; everything that was to come had its time.
    End,
}

/// One line of a trace.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    /// Virtual time, nanoseconds.
    pub time: u64,
    /// Who.
    pub process: Process,
    /// What.
    pub event: Event,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.time / 1_000_000_000, self.time / 1_000 % 1_000_000);
        write!(f, "{seconds:3}.{micros:06} {:<6}", format!("{:?}", self.process))?;
        let safe = |safe: &bool| if *safe { " safe" } else { "" };
        match &self.event {
            Event::SystemView(view) => write!(f, "system {view:?}"),
            Event::View { join, view, digest } => {
                write!(f, "view in join {join}: {view:?}")?;
                digest.map_or(Ok(()), |d| write!(f, " state {d:016x}"))
            }
            Event::ViewEnds { join, view, order, state } => {
                write!(f, "view {view} in join {join} ends: order {order:016x}")?;
                state.map_or(Ok(()), |d| write!(f, " state {d:016x}"))
            }
            Event::Send { key, kind, safe: s, len, group, view } => {
                write!(f, "send {key:?} {kind:?}{} {len} bytes in {group:?} view {view}", safe(s))
            }
            Event::SendMany { copies, safe: s, len } => {
                write!(f, "send Total{} {len} bytes to several groups:", safe(s))?;
                copies.iter().try_for_each(|(key, group, view)| write!(f, " {key:?} in {group:?} view {view}"))
            }
            Event::SendTo { key, kind, to, len, group, view } => {
                write!(f, "send {key:?} {kind:?} to {to:?} {len} bytes in {group:?} view {view}")
            }
            Event::Deliver(d) => {
                match d.key {
                    Some(key) => write!(f, "deliver {key:?}")?,
                    None => write!(f, "deliver UNKNOWN")?,
                }
                write!(f, " {:?}{} {:?} view {} number {}", d.kind, safe(&d.safe), d.group, d.view, d.number)?;
                if d.order > 0 {
                    write!(f, " order {}", d.order)?;
                }
                if d.intact { Ok(()) } else { write!(f, " DAMAGED") }
            }
            Event::StateCaptured { join, transfer, digest, len } => {
                write!(f, "captured state {digest:016x} ({len} bytes) for transfer {transfer} in join {join}")
            }
            Event::StateInstalled { join, digest, intact } => {
                write!(f, "installed state {digest:016x} in join {join}{}", if *intact { "" } else { " DAMAGED" })
            }
            Event::World(text) => write!(f, "{text}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// A run's trace.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Trace {
    /// All records, oldest first.
    pub records: Vec<Record>,
    /// Digest of every packet that was sent; two equal traces with different packets are not the same execution.
    pub packets: u64,
}

impl Trace {
    /// Appends a record.
    pub fn push(&mut self, time: u64, process: Process, event: Event) {
        debug_assert!(self.records.last().is_none_or(|last| last.time <= time), "time went back");
        self.records.push(Record { time, process, event });
    }

    /// A digest of the whole trace, packets included.
    pub fn digest(&self) -> u64 {
        let mut hasher = Digest::default();
        self.records.hash(&mut hasher);
        self.packets.hash(&mut hasher);
        hasher.finish()
    }

    /// The records from `first` on as text, one a line.
    pub fn text_from(&self, first: usize) -> String {
        let mut text = String::new();
        for (i, record) in self.records.iter().enumerate().skip(first) {
            text.push_str(&format!("{i:6} {record}\n"));
        }
        text
    }

    /// The whole trace as text.
    pub fn text(&self) -> String {
        self.text_from(0)
    }
}

/// A hasher whose result depends on nothing but what was written (the standard library's differs between runs).
#[derive(Clone, Debug, Default)]
pub struct Digest(u64);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last) ^ (rest.len() as u64) << 56);
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word);
    }
    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }
    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Spreads the bits of a word over the whole word (splitmix64's last step).
pub fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_sees_every_record_and_the_packets() {
        let mut a = Trace::default();
        a.push(5, Process(0), Event::Crash);
        let mut b = a.clone();
        assert_eq!(a.digest(), b.digest());
        b.packets = 1;
        assert_ne!(a.digest(), b.digest());
        b.packets = 0;
        b.push(5, Process(1), Event::Crash);
        assert_ne!(a.digest(), b.digest());
        assert!(b.text().contains("P1    Crash"));
    }
}
