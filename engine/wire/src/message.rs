//! Protocol messages: everything that is said outside the streams. All are idempotent: each may be lost, repeated,
//! delayed or reordered, and its sender repeats it until it is answered or pointless.
//!
//! The header's `group` and `view` say which view change a message belongs to. See `docs/messages.md` for the table of
//! who sends what to whom.

use crate::address::Address;
pub use crate::channel::{ChannelAck, ChannelHeader, Envelope, StateBlock};
use crate::codec::{DecodeError, Reader, Writer};
use crate::founding::{Ballot, Foundation};
use crate::id::{GroupId, Nonce, ProcessId, SiteKey, SystemId};
use crate::multi::{Final, MultiId, MultiReport, Open};
use crate::packet::MAX_POSITION;
pub use crate::packet::PieceHeader;

/// The most members, processes or other items that one list in a message may have.
pub const MAX_LIST: usize = 4096;
/// The longest group name, in bytes.
pub const MAX_NAME: usize = 255;
/// The longest encoded message.
pub const MAX_MESSAGE: usize = 4 << 20;

/// The longest byte string in a message.
pub const MAX_BYTES: usize = 64 << 20;

/// No view, attempt or directory operation has a higher number: counting on from one of them cannot overflow.
pub const MAX_NUMBER: u64 = 1 << 48;

/// A value that can be written and read.
pub trait Code: Sized {
    /// Appends it.
    fn write(&self, out: &mut Writer);
    /// Reads it.
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

macro_rules! code_plain {
    ($($type:ty: $value:ident, $write:expr, $read:expr;)*) => { $(
        impl Code for $type {
            fn write(&self, out: &mut Writer) { let $value = self; $write(out) }
            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> { $read(reader) }
        }
    )* };
}

code_plain! {
    bool: v, |out: &mut Writer| out.flag(*v), |r: &mut Reader<'_>| r.flag();
    u16: v, |out: &mut Writer| out.u16(*v), |r: &mut Reader<'_>| r.u16();
    u64: v, |out: &mut Writer| out.varint(*v), |r: &mut Reader<'_>| r.varint();
    ProcessId: v, |out: &mut Writer| out.u64(v.0), |r: &mut Reader<'_>| Ok(ProcessId(r.u64()?));
    GroupId: v, |out: &mut Writer| out.varint(v.0), |r: &mut Reader<'_>| Ok(GroupId(r.varint()?));
    SystemId: v, |out: &mut Writer| out.u128(v.0), |r: &mut Reader<'_>| Ok(SystemId(r.u128()?));
    Nonce: v, |out: &mut Writer| out.u128(v.0), |r: &mut Reader<'_>| Ok(Nonce(r.u128()?));
    SiteKey: v, |out: &mut Writer| out.u128(v.0), |r: &mut Reader<'_>| Ok(SiteKey(r.u128()?));
    Vec<u8>: v, |out: &mut Writer| out.bytes(v), |r: &mut Reader<'_>| Ok(r.bytes(MAX_BYTES)?.to_vec());
}

impl Code for Address {
    fn write(&self, out: &mut Writer) {
        out.bytes.extend_from_slice(&self.ip);
        out.u16(self.port);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let ip = reader.take(16)?.try_into().map_err(|_| DecodeError::Truncated)?;
        Ok(Address { ip, port: reader.u16()? })
    }
}

impl<A: Code, B: Code> Code for (A, B) {
    fn write(&self, out: &mut Writer) {
        self.0.write(out);
        self.1.write(out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::read(reader)?, B::read(reader)?))
    }
}

impl<T: Code> Code for Option<T> {
    fn write(&self, out: &mut Writer) {
        out.flag(self.is_some());
        if let Some(value) = self {
            value.write(out);
        }
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if reader.flag()? { Ok(Some(T::read(reader)?)) } else { Ok(None) }
    }
}

/// Lists of items (byte strings have a coding of their own).
macro_rules! code_lists {
    ($($type:ty),*) => { $(
        impl Code for Vec<$type> {
            fn write(&self, out: &mut Writer) { out.list(self, |out, item| item.write(out)); }
            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.list(MAX_LIST, |r| <$type>::read(r))
            }
        }
    )* };
}

code_lists!(u64, ProcessId, SiteKey, MemberEntry, Joiner, Address, (ProcessId, u64), (ProcessId, Vec<u64>));

macro_rules! code_struct {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
        impl Code for $name {
            fn write(&self, out: &mut Writer) { $(self.$field.write(out);)* }
            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok($name { $($field: <$type as Code>::read(reader)?,)* })
            }
        }
    };
}

pub(crate) use {code_lists, code_struct};

/// Names one attempt to change a view. Attempts are ordered: by system view (R9), counter, proposer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Attempt {
    /// The system view that the proposer had installed. For attempts on the system group: the view to be changed.
    pub system_view: u64,
    /// Grows with every attempt.
    pub counter: u64,
    /// Who proposes.
    pub proposer: ProcessId,
}

impl Code for Attempt {
    fn write(&self, out: &mut Writer) {
        self.system_view.write(out);
        self.counter.write(out);
        self.proposer.write(out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (system_view, counter) = (Code::read(reader)?, Code::read(reader)?);
        if counter > MAX_NUMBER {
            return Err(DecodeError::BadValue);
        }
        Ok(Attempt { system_view, counter, proposer: Code::read(reader)? })
    }
}

/// Whether a member has the group's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateStatus {
    /// It has.
    Has,
    /// It waits for the state that this donor captured at the start of that view.
    From {
        /// The donor.
        donor: ProcessId,
        /// The number of the view at whose start the state is captured.
        view: u64,
    },
    /// A joiner that needs the state and has no donor yet.
    Needs,
}

impl Code for StateStatus {
    fn write(&self, out: &mut Writer) {
        match self {
            StateStatus::Has => out.u8(0),
            StateStatus::From { donor, view } => {
                out.u8(1);
                donor.write(out);
                view.write(out);
            }
            StateStatus::Needs => out.u8(2),
        }
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(StateStatus::Has),
            1 => Ok(StateStatus::From { donor: Code::read(reader)?, view: Code::read(reader)? }),
            2 => Ok(StateStatus::Needs),
            _ => Err(DecodeError::BadValue),
        }
    }
}

code_struct! {
    /// A member as a view lists it.
    MemberEntry {
        /// Who.
        process: ProcessId,
        /// Its start.
        nonce: Nonce,
        /// Its site.
        site: SiteKey,
        /// Where it receives datagrams.
        address: Address,
        /// Whether it has the group's state.
        state: StateStatus,
        /// How long it may stay away from its loop: it is not suspected earlier.
        max_pause_ns: u64,
    }
}

code_struct! {
    /// Who wants to join.
    Joiner {
        /// Its identifier; zero for a joiner of the system.
        process: ProcessId,
        /// Its start.
        nonce: Nonce,
        /// Its site.
        site: SiteKey,
        /// Where it receives datagrams.
        address: Address,
        /// Numbers its joins and leaves of this group: 1, 2, 3 … (R3).
        request: u64,
        /// It needs the state.
        wants_state: bool,
        /// See [`MemberEntry`].
        max_pause_ns: u64,
    }
}

code_struct! {
    /// What a view change decides.
    Value {
        /// The number of the view that it makes.
        number: u64,
        /// The system view that it was made in (R9).
        system_view: u64,
        /// The members, oldest first.
        members: Vec<MemberEntry>,
        /// For each rank of the old view: up to which position its stream is delivered.
        cut: Vec<u64>,
        /// The members of the old view that leave by their own request.
        left: Vec<ProcessId>,
        /// The members that were not in the old view.
        joined: Vec<ProcessId>,
        /// Per process of the system: the highest join or leave request executed (R3).
        executed: Vec<(ProcessId, u64)>,
        /// System only: the next site number never used so far.
        next_site: u16,
        /// The clock of ABCASTs to several groups at the start of the view.
        clock: u64,
        /// Final priorities of ABCASTs to several groups whose senders fail with this change, as another group has them (R2);
        /// those that are not named and have no final up to the cut are void.
        settled: Vec<Final>,
    }
}

code_struct! {
    /// The answer of a member to a PREPARE.
    Promise {
        /// To which.
        attempt: Attempt,
        /// Per rank: up to which frame border it has the stream; its own entry is the end of its own stream.
        received: Vec<u64>,
        /// The value of the highest attempt that it has accepted.
        accepted: Option<(Attempt, Value)>,
        /// Its state.
        state: StateStatus,
        /// The number of its leave request; 0: it stays.
        leaving: u64,
        /// The processes of its own site that it knows dead for certain (R10).
        dead: Vec<ProcessId>,
        /// What it has of ABCASTs to several groups.
        multis: MultiReport,
    }
}

code_struct! {
    /// What the proposer asks to accept.
    Accept {
        /// Its attempt.
        attempt: Attempt,
        /// The value.
        value: Value,
        /// Who holds what, so that everybody can fetch up to the cut: `Promise::received` of the answerers.
        holders: Vec<(ProcessId, Vec<u64>)>,
    }
}

macro_rules! code_messages {
    ($(#[$doc:meta])* $enum:ident { $($(#[$variant_doc:meta])* $variant:ident = $tag:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* },)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum $enum { $($(#[$variant_doc])* $variant { $($(#[$field_doc])* $field: $type,)* },)* }
        impl Code for $enum {
            fn write(&self, out: &mut Writer) {
                match self { $($enum::$variant { $($field,)* } => { out.u8($tag); $($field.write(out);)* })* }
            }
            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                match reader.u8()? {
                    $($tag => Ok($enum::$variant { $($field: <$type as Code>::read(reader)?,)* }),)*
                    _ => Err(DecodeError::BadValue),
                }
            }
        }
        impl $enum {
            /// Its name, for counters and traces.
            pub fn name(&self) -> &'static str {
                match self { $($enum::$variant { .. } => stringify!($variant),)* }
            }
        }
    };
}

pub(crate) use code_messages;

code_messages! {
    /// A protocol message.
    Message {
        /// "Is there a system?", from a process that has none.
        Discover = 1 {
            /// Who asks.
            nonce: Nonce,
            /// Its site.
            site: SiteKey,
            /// Where it is.
            address: Address,
            /// It may found a system; a process whose site belongs to one may not.
            may_found: bool,
        },
        /// "There is", from a member of one.
        Found = 2 {
            /// The system.
            system: SystemId,
            /// The members, oldest first: each can be asked to relay a join, and has to be reached for one.
            contacts: Vec<Address>,
            /// The answerer has no contact to a quorum: this is a remnant (R13).
            stalled: bool,
            /// The number of its founding (R12); 0: it was founded without `expected_sites`.
            founding: u64,
        },
        /// "I look for one too", from a process that has none.
        Candidate = 3 {
            /// Who.
            nonce: Nonce,
            /// Its site.
            site: SiteKey,
            /// Where it is.
            address: Address,
            /// It may found a system; a process whose site belongs to one may not.
            may_found: bool,
        },
        /// Asks to be admitted to the system, or to the group of the header.
        Join = 4 {
            /// Who wants to join.
            joiner: Joiner,
            /// The joiner's system view (0 for a joiner of the system).
            system_view: u64,
            /// For a joiner of the system: the members that have answered it, by birth.
            heard: Vec<u64>,
        },
        /// PREPARE.
        Prepare = 5 {
            /// The attempt.
            attempt: Attempt,
            /// Who would join.
            joiners: Vec<Joiner>,
        },
        /// A member's answer to PREPARE.
        Promised = 6 {
            /// The answer.
            promise: Promise,
        },
        /// A joiner's answer to PREPARE.
        JoinerReady = 7 {
            /// To which attempt.
            attempt: Attempt,
            /// Who.
            nonce: Nonce,
            /// The request that it still wants executed.
            request: u64,
        },
        /// The attempt is lower than one promised before.
        Refuse = 8 {
            /// The attempt promised.
            promised: Attempt,
        },
        /// ACCEPT.
        Accept = 9 {
            /// What to accept.
            accept: Accept,
        },
        /// The answer to ACCEPT: accepted, with everything up to the cut at hand.
        Accepted = 10 {
            /// The attempt.
            attempt: Attempt,
            /// As in a promise (R10).
            dead: Vec<ProcessId>,
        },
        /// The answer to ACCEPT: what is missing cannot be fetched from anybody.
        CannotFetch = 11 {
            /// The attempt.
            attempt: Attempt,
        },
        /// DECIDE: the value is chosen for the header's view.
        Decide = 12 {
            /// The value.
            value: Value,
            /// For a joiner: the directory, or what the group knows of its clients, at the start of the new view.
            snapshot: Option<Vec<u8>>,
        },
        /// The answer to DECIDE: the new view (or a later one) is installed here.
        Installed = 13 {
            /// The number of the view installed.
            number: u64,
        },
        /// "I am in the header's view and hear of a later one: tell me what was decided."
        Behind = 14 {
            /// Unused, zero.
            reserved: u64,
        },
        /// Asks for the next view to be without the sender.
        Leave = 15 {
            /// The number of the request (R3).
            request: u64,
        },
        /// The answer to a group JOIN by a process that is not in the group.
        NotHere = 16 {
            /// How far its directory is.
            directory: u64,
        },
        /// Processes of the sender's site that it knows dead for certain.
        Deaths = 17 {
            /// Who.
            dead: Vec<ProcessId>,
        },
        /// Founding (R12): asks a site for its pledge.
        Pledge = 18 {
            /// The attempt.
            ballot: Ballot,
            /// Of how many sites the founder wants a majority.
            expected: u16,
            /// The system of the founding before this one; zero for the first.
            previous: SystemId,
            /// Sites of which the founder knows that no process of theirs is in a system.
            free: Vec<SiteKey>,
        },
        /// The site's pledge: it takes part in no lower ballot.
        Pledged = 19 {
            /// Which ballot.
            ballot: Ballot,
            /// The answerer, as it would be a member of the first view.
            member: MemberEntry,
            /// A process of the site is in this system; zero: none is in any.
            lives_in: SystemId,
            /// What the site has accepted in this founding.
            accepted: Option<(Ballot, Foundation)>,
        },
        /// The site has pledged to a higher ballot, or the founding is over.
        PledgeRefused = 20 {
            /// Which ballot.
            ballot: Ballot,
            /// The ballot promised.
            promised: Ballot,
            /// The last founding that the site knows to be decided.
            decided: u64,
            /// What it decided.
            foundation: Foundation,
        },
        /// Founding: asks a site to accept.
        FoundingAccept = 21 {
            /// The attempt.
            ballot: Ballot,
            /// What shall be decided.
            foundation: Foundation,
        },
        /// The site has accepted.
        FoundingAccepted = 22 {
            /// The attempt.
            ballot: Ballot,
            /// Which site.
            site: SiteKey,
        },
        /// Founding: decided.
        Founded = 23 {
            /// Which founding.
            number: u64,
            /// What was decided.
            foundation: Foundation,
        },
        /// R2: asks the processes of other groups for final priorities of ABCASTs whose senders have failed.
        Settle = 24 {
            /// The attempt that needs them.
            attempt: Attempt,
            /// Which.
            open: Vec<Open>,
        },
        /// The answer: what is not named its sender does not know, and will not learn from the streams of the groups.
        Settled = 25 {
            /// To which attempt.
            attempt: Attempt,
            /// The finals that it knows.
            finals: Vec<Final>,
        },
        /// R4: asks whether ABCASTs to several groups are delivered everywhere: their sender, or, when it has failed, the
        /// processes of their groups.
        Pending = 26 {
            /// Which.
            open: Vec<Open>,
        },
        /// The answer: those that are, as far as it depends on who answers.
        Complete = 27 {
            /// Which.
            done: Vec<MultiId>,
        },
        /// Asks a process whose address refuses datagrams, so it is told, for a sign of life.
        Probe = 28 {
            /// Random.
            number: u64,
        },
        /// The answer to `Probe`.
        Alive = 29 {
            /// The probe's.
            number: u64,
        },
    }
}

impl Message {
    /// The encoded message.
    pub fn encode(&self, out: &mut Writer) {
        self.write(out);
    }

    /// Reads a message that fills `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(DecodeError::TooLong);
        }
        let mut reader = Reader::new(bytes);
        let message = Message::read(&mut reader)?;
        reader.finish()?;
        if message.positions().any(|position| position > MAX_POSITION) {
            return Err(DecodeError::BadValue);
        }
        // The first view is nobody's decision, so a decided one has a view before it.
        match message.value() {
            Some(value) if value.number < 2 || value.number > MAX_NUMBER => Err(DecodeError::BadValue),
            _ if message.founding() > MAX_NUMBER => Err(DecodeError::BadValue),
            _ => Ok(message),
        }
    }

    /// All stream positions in it.
    fn positions(&self) -> impl Iterator<Item = u64> + '_ {
        let promised: &[u64] = if let Message::Promised { promise } = self { &promise.received } else { &[] };
        let holders: &[(ProcessId, Vec<u64>)] =
            if let Message::Accept { accept } = self { &accept.holders } else { &[] };
        let cut = self.value().map_or(&[][..], |value| &value.cut);
        promised.iter().chain(cut).chain(holders.iter().flat_map(|(_, received)| received)).copied()
    }

    /// The founding that it names outside of a ballot.
    fn founding(&self) -> u64 {
        match self {
            Message::Found { founding: number, .. }
            | Message::PledgeRefused { decided: number, .. }
            | Message::Founded { number, .. } => *number,
            _ => 0,
        }
    }

    /// The value that it carries.
    fn value(&self) -> Option<&Value> {
        match self {
            Message::Promised { promise } => promise.accepted.as_ref().map(|(_, value)| value),
            Message::Accept { accept } => Some(&accept.value),
            Message::Decide { value, .. } => Some(value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample_value(members: usize) -> Value {
        Value {
            number: 4,
            system_view: 2,
            members: (0..members as u64)
                .map(|i| MemberEntry {
                    process: ProcessId(i),
                    nonce: Nonce(u128::from(i) << 70),
                    site: SiteKey(9),
                    address: Address { ip: [i as u8; 16], port: 80 },
                    state: if i == 0 { StateStatus::Has } else { StateStatus::From { donor: ProcessId(0), view: 4 } },
                    max_pause_ns: i << 30,
                })
                .collect(),
            cut: vec![8, 16, 1 << 40],
            left: vec![ProcessId(77)],
            joined: vec![ProcessId(4)],
            executed: vec![(ProcessId(1), 2)],
            next_site: 3,
            clock: 9,
            settled: vec![(MultiId { sender: ProcessId(77), number: 4 }, 8)],
        }
    }

    fn sample_report() -> MultiReport {
        let id = MultiId { sender: ProcessId(5), number: 6 };
        MultiReport {
            clock: 7,
            copies: 1,
            open: vec![Open { id, groups: vec![GroupId(1), GroupId(4)] }],
            finals: vec![(MultiId { number: 5, ..id }, 3)],
        }
    }

    fn round_trip(message: &Message) {
        let mut out = Writer::new();
        message.encode(&mut out);
        assert_eq!(Message::decode(&out.bytes).as_ref(), Ok(message));
        for len in 0..out.bytes.len() {
            assert!(Message::decode(&out.bytes[..len]).is_err(), "a prefix of {len} bytes was taken for whole");
        }
    }

    #[test]
    fn messages_round_trip() {
        let attempt = Attempt { system_view: 1, counter: 2, proposer: ProcessId(3) };
        round_trip(&Message::Decide { value: sample_value(5), snapshot: Some(vec![1, 2, 3]) });
        round_trip(&Message::Promised {
            promise: Promise {
                attempt,
                received: vec![1, 2, 3],
                accepted: Some((attempt, sample_value(2))),
                state: StateStatus::Needs,
                leaving: 0,
                dead: vec![ProcessId(9)],
                multis: sample_report(),
            },
        });
        round_trip(&Message::Accept {
            accept: Accept { attempt, value: sample_value(3), holders: vec![(ProcessId(1), vec![1, 2])] },
        });
        round_trip(&Message::Found {
            system: SystemId(5),
            contacts: vec![Address::default()],
            stalled: false,
            founding: 2,
        });
    }

    #[test]
    fn numbers_that_cannot_be_counted_on_are_refused() {
        let decode = |message: &Message| {
            let mut out = Writer::new();
            message.encode(&mut out);
            Message::decode(&out.bytes).err()
        };
        for number in [0, 1, MAX_NUMBER + 1, u64::MAX] {
            let value = Value { number, ..sample_value(2) };
            assert_eq!(
                decode(&Message::Decide { value, snapshot: None }),
                Some(DecodeError::BadValue),
                "view {number}"
            );
        }
        let attempt = Attempt { system_view: 1, counter: u64::MAX, proposer: ProcessId(3) };
        assert_eq!(decode(&Message::Refuse { promised: attempt }), Some(DecodeError::BadValue));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(message) = Message::decode(&bytes) {
                let mut out = Writer::new();
                message.encode(&mut out);
                prop_assert_eq!(Message::decode(&out.bytes), Ok(message));
            }
        }
    }
}
