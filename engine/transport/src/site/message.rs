//! What is said over the site link: one message is one SEQPACKET record.
//!
//! 8 bytes of heading: `i` `L` · version u8 · kind u8 · zero 4; then, little-endian:
//! - HELLO, first on every connection, from both ends: nonce u128 · system u128 · address 16 + port u16 · consent u8
//!   (1: processes of the site may kill this one when it hangs);
//! - FAREWELL, last: nothing;
//! - DATA: a datagram of the engine;
//! - MEMORY: words u64 · chunks u32 · the receiver's number among the readers u8; with it two descriptors, the sender's log and
//!   its bell, and, if there are chunks, its arena (see `shared_memory`);
//! - MAPPED: nothing; the sender reads the receiver's log, and its arena if it offers one itself, from now on;
//! - UNMAPPED: nothing; the sender cannot read them;
//! - NOTICE: nothing; with it a descriptor, readable once the sender begins to exit (see `exit_notice`).

use isis_wire::Address;

/// Version of the link.
pub(crate) const VERSION: u8 = 2;
/// Length of the heading.
pub(crate) const HEADING: usize = 8;
const KIND_HELLO: u8 = 1;
const KIND_FAREWELL: u8 = 2;
const KIND_DATA: u8 = 3;
const KIND_MEMORY: u8 = 4;
const KIND_MAPPED: u8 = 5;
const KIND_UNMAPPED: u8 = 6;
const KIND_NOTICE: u8 = 7;
const HELLO_BODY: usize = 16 + 16 + 16 + 2 + 1;

/// Who an instance is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hello {
    pub nonce: u128,
    pub system: u128,
    pub address: Address,
    /// Processes of the site may kill it when it hangs.
    pub allow_kill: bool,
}

/// A message that came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message<'a> {
    Hello(Hello),
    Farewell,
    Data(&'a [u8]),
    Memory { words: u64, chunks: u32, reader: u8 },
    Mapped,
    Unmapped,
    Notice,
}

/// Why a message was not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Misunderstood {
    /// It is of another version.
    Version(u8),
    /// It is none of ours.
    Malformed,
}

fn heading(kind: u8) -> [u8; HEADING] {
    [b'i', b'L', VERSION, kind, 0, 0, 0, 0]
}

/// The heading of a DATA message.
pub(crate) fn data_heading() -> [u8; HEADING] {
    heading(KIND_DATA)
}

/// A FAREWELL.
pub(crate) fn farewell() -> [u8; HEADING] {
    heading(KIND_FAREWELL)
}

/// A MEMORY.
pub(crate) fn memory(words: u64, chunks: u32, reader: u8) -> [u8; HEADING + 13] {
    let mut bytes = [0; HEADING + 13];
    bytes[..HEADING].copy_from_slice(&heading(KIND_MEMORY));
    bytes[HEADING..HEADING + 8].copy_from_slice(&words.to_le_bytes());
    bytes[HEADING + 8..HEADING + 12].copy_from_slice(&chunks.to_le_bytes());
    bytes[HEADING + 12] = reader;
    bytes
}

/// A MAPPED.
pub(crate) fn mapped() -> [u8; HEADING] {
    heading(KIND_MAPPED)
}

/// An UNMAPPED.
pub(crate) fn unmapped() -> [u8; HEADING] {
    heading(KIND_UNMAPPED)
}

/// A NOTICE.
pub(crate) fn notice() -> [u8; HEADING] {
    heading(KIND_NOTICE)
}

impl Hello {
    /// A HELLO.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = heading(KIND_HELLO).to_vec();
        bytes.extend_from_slice(&self.nonce.to_le_bytes());
        bytes.extend_from_slice(&self.system.to_le_bytes());
        bytes.extend_from_slice(&self.address.ip);
        bytes.extend_from_slice(&self.address.port.to_le_bytes());
        bytes.push(u8::from(self.allow_kill));
        bytes
    }

    fn decode(body: &[u8]) -> Option<Hello> {
        let (nonce, rest) = body.split_first_chunk::<16>()?;
        let (system, rest) = rest.split_first_chunk::<16>()?;
        let (ip, rest) = rest.split_first_chunk::<16>()?;
        let (port, consent) = rest.split_first_chunk::<2>()?;
        let allow_kill = match consent {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        Some(Hello {
            nonce: u128::from_le_bytes(*nonce),
            system: u128::from_le_bytes(*system),
            address: Address { ip: *ip, port: u16::from_le_bytes(*port) },
            allow_kill,
        })
    }
}

/// Reads a message.
pub(crate) fn decode(bytes: &[u8]) -> Result<Message<'_>, Misunderstood> {
    let (head, body) = bytes.split_first_chunk::<HEADING>().ok_or(Misunderstood::Malformed)?;
    match *head {
        [b'i', b'L', VERSION, kind, 0, 0, 0, 0] => match kind {
            KIND_HELLO if body.len() == HELLO_BODY => {
                Hello::decode(body).map(Message::Hello).ok_or(Misunderstood::Malformed)
            }
            KIND_FAREWELL if body.is_empty() => Ok(Message::Farewell),
            KIND_DATA => Ok(Message::Data(body)),
            KIND_MEMORY => match body.split_first_chunk::<8>() {
                Some((words, [a, b, c, d, reader])) => Ok(Message::Memory {
                    words: u64::from_le_bytes(*words),
                    chunks: u32::from_le_bytes([*a, *b, *c, *d]),
                    reader: *reader,
                }),
                _ => Err(Misunderstood::Malformed),
            },
            KIND_MAPPED if body.is_empty() => Ok(Message::Mapped),
            KIND_UNMAPPED if body.is_empty() => Ok(Message::Unmapped),
            KIND_NOTICE if body.is_empty() => Ok(Message::Notice),
            _ => Err(Misunderstood::Malformed),
        },
        [b'i', b'L', version, ..] if version != VERSION => Err(Misunderstood::Version(version)),
        _ => Err(Misunderstood::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back_and_damaged_ones_refused() {
        for allow_kill in [false, true] {
            let hello = Hello { nonce: 5, system: 1 << 100, address: Address { ip: [3; 16], port: 99 }, allow_kill };
            assert_eq!(decode(&hello.encode()), Ok(Message::Hello(hello)));
        }
        let mut bytes = Hello { nonce: 5, system: 0, address: Address::default(), allow_kill: true }.encode();
        *bytes.last_mut().expect("bytes") = 2;
        assert_eq!(decode(&bytes), Err(Misunderstood::Malformed), "neither yes nor no is no consent");
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), Err(Misunderstood::Malformed));
        }
        assert_eq!(decode(&farewell()), Ok(Message::Farewell));
        assert_eq!(decode(&data_heading()), Ok(Message::Data(&[])));
        assert_eq!(decode(&mapped()), Ok(Message::Mapped));
        assert_eq!(decode(&unmapped()), Ok(Message::Unmapped));
        assert_eq!(decode(&notice()), Ok(Message::Notice));
        let bytes = memory(1 << 40, 1 << 20, 63);
        assert_eq!(decode(&bytes), Ok(Message::Memory { words: 1 << 40, chunks: 1 << 20, reader: 63 }));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), Err(Misunderstood::Malformed));
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), Err(Misunderstood::Malformed));
        let mut newer = farewell();
        newer[2] = 9;
        assert_eq!(decode(&newer), Err(Misunderstood::Version(9)));
    }
}
