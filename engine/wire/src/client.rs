//! What is said about clients: processes of the system that multicast into a group without being members.
//!
//! A client's request travels on lane 2 of the channel to a member, its *relay*, which appends it to its own stream as a
//! frame flagged `FLAG_RELAYED`, whose payload begins with a [`RelayHeader`]. What the members deliver is counted by the
//! client's numbers, so a request that goes through two relays is delivered once.

use crate::codec::{DecodeError, Reader, Writer};
use crate::id::{GroupId, ProcessId};
use crate::message::{Code, MAX_NUMBER, code_messages, code_struct};

/// Bytes before the payload of a relayed message.
pub const RELAY_HEADER: usize = 32;

/// What a client's request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ClientOperation {
    /// Registers the client. Its number is the registration's name.
    Open = 1,
    /// A message.
    Message = 2,
    /// Nothing but its place: once it is delivered everywhere, so is all that the client knew of.
    Sync = 3,
    /// Ends the registration.
    Close = 4,
}

impl ClientOperation {
    fn of(code: u8) -> Result<ClientOperation, DecodeError> {
        Ok(match code {
            1 => ClientOperation::Open,
            2 => ClientOperation::Message,
            3 => ClientOperation::Sync,
            4 => ClientOperation::Close,
            _ => return Err(DecodeError::BadValue),
        })
    }
}

impl Code for ClientOperation {
    fn write(&self, out: &mut Writer) {
        out.u8(*self as u8);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        ClientOperation::of(reader.u8()?)
    }
}

/// The start of the payload of a relayed message in its relay's stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayHeader {
    /// Whose it is.
    pub client: ProcessId,
    /// By which registration.
    pub registration: u64,
    /// Its number.
    pub number: u64,
    /// What it does.
    pub operation: ClientOperation,
    /// Its ordering, as a frame kind: an FBCAST travels as a CBCAST of its relay.
    pub kind: u8,
    /// The client asked for a safe message (its relay sends every one as safe).
    pub safe: bool,
}

impl RelayHeader {
    /// Its bytes.
    pub fn bytes(&self) -> [u8; RELAY_HEADER] {
        let mut bytes = [0; RELAY_HEADER];
        bytes[..8].copy_from_slice(&self.client.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.registration.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24] = self.operation as u8;
        bytes[25] = self.kind;
        bytes[26] = u8::from(self.safe);
        bytes
    }

    /// Reads it from the start of a payload.
    pub fn parse(payload: &[u8]) -> Result<RelayHeader, DecodeError> {
        let Some(bytes) = payload.first_chunk::<RELAY_HEADER>() else { return Err(DecodeError::Truncated) };
        let mut reader = Reader::new(bytes);
        let header = RelayHeader {
            client: ProcessId(reader.u64()?),
            registration: reader.u64()?,
            number: reader.u64()?,
            operation: Code::read(&mut reader)?,
            kind: reader.u8()?,
            safe: reader.flag()?,
        };
        if header.number > MAX_NUMBER || header.registration > header.number {
            return Err(DecodeError::BadValue);
        }
        Ok(header)
    }
}

code_struct! {
    /// A request of a client to its relay.
    ClientRequest {
        /// The group.
        group: GroupId,
        /// The registration.
        registration: u64,
        /// The request's number: one more than the last one's.
        number: u64,
        /// What it does.
        operation: ClientOperation,
        /// Its ordering, as a frame kind.
        kind: u16,
        /// Deliver only when stable.
        safe: bool,
        /// The entry point.
        entry: u16,
        /// The relay appends it when it is in a later view of the group than this one,
        view: u64,
        /// or has delivered so many messages of each rank in it: what the client knew of.
        vector: Vec<u64>,
        /// The client is in other groups of the causality domain: not before the relay has installed this system view, and
        /// has no member in the group that its system view lacks. 0: it is in none.
        system_view: u64,
        /// The payload.
        data: Vec<u8>,
    }
}

code_messages! {
    /// What travels on lane 2 of a channel.
    ClientMessage {
        /// From a client to its relay.
        Request = 1 {
            /// The request.
            request: ClientRequest,
        },
        /// From the relay: how far the requests are.
        Progress = 2 {
            /// The group.
            group: GroupId,
            /// The registration.
            registration: u64,
            /// Up to this number they will be delivered by all members that stay.
            completed: u64,
            /// Up to this number all members have delivered them.
            everywhere: u64,
            /// The relay's view.
            view: u64,
            /// What it has delivered in it.
            vector: Vec<u64>,
        },
        /// From a process that is asked to relay, and is no member, or does not stay one.
        NotHere = 3 {
            /// The group.
            group: GroupId,
            /// The registration.
            registration: u64,
        },
        /// From a client: which of its point-to-point messages are delivered? The answer is an acknowledgement on lane 0.
        Acknowledge = 4 {
            /// The last one sent.
            number: u64,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_round_trip() {
        let request = ClientRequest {
            group: GroupId(3),
            registration: 7,
            number: 9,
            operation: ClientOperation::Message,
            kind: 2,
            safe: true,
            entry: 4,
            view: 6,
            vector: vec![1, 2],
            system_view: 0,
            data: vec![1, 2, 3],
        };
        let progress = ClientMessage::Progress {
            group: GroupId(3),
            registration: 7,
            completed: 9,
            everywhere: 8,
            view: 6,
            vector: vec![5, 5],
        };
        let not_here = ClientMessage::NotHere { group: GroupId(3), registration: 7 };
        let acknowledge = ClientMessage::Acknowledge { number: 5 };
        for message in [ClientMessage::Request { request }, progress, not_here, acknowledge] {
            let mut out = Writer::new();
            message.write(&mut out);
            let mut reader = Reader::new(&out.bytes);
            assert_eq!(ClientMessage::read(&mut reader).as_ref(), Ok(&message), "{}", message.name());
            assert!(reader.finish().is_ok());
            for len in 0..out.bytes.len() {
                assert!(ClientMessage::read(&mut Reader::new(&out.bytes[..len])).is_err());
            }
        }
    }

    #[test]
    fn relay_header_round_trip() {
        let operation = ClientOperation::Close;
        let header = RelayHeader { client: ProcessId(5), registration: 1, number: 2, operation, kind: 3, safe: true };
        assert_eq!(RelayHeader::parse(&header.bytes()), Ok(header));
        assert!(RelayHeader::parse(&header.bytes()[..RELAY_HEADER - 1]).is_err());
        let early = RelayHeader { registration: 3, ..header };
        assert!(RelayHeader::parse(&early.bytes()).is_err(), "a registration begins with its own number");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = RelayHeader::parse(&bytes);
            let _ = ClientMessage::read(&mut Reader::new(&bytes));
        }
    }
}
