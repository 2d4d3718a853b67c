//! What sites agree on when they found a system (rule R12), and what a site writes down of it.
//!
//! Foundings are numbered 1, 2, 3 …; each is one Paxos instance between *named sites*. A [`SiteRecord`] is the acceptor of
//! one site, as it lies on its disk and as messages carry parts of it.

use crate::codec::{DecodeError, Reader, Writer};
use crate::id::{Nonce, SystemId};
use crate::message::{Code, MAX_NUMBER, MemberEntry, code_struct};
use crate::packet::append_sum;

/// Names one attempt to found a system. Ordered: by founding, counter, founder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Ballot {
    /// Which founding: 1, 2, 3 …
    pub founding: u64,
    /// Grows with every attempt.
    pub counter: u64,
    /// Who tries.
    pub founder: Nonce,
}

impl Code for Ballot {
    fn write(&self, out: &mut Writer) {
        self.founding.write(out);
        self.counter.write(out);
        self.founder.write(out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let ballot =
            Ballot { founding: Code::read(reader)?, counter: Code::read(reader)?, founder: Code::read(reader)? };
        if ballot.founding > MAX_NUMBER || ballot.counter > MAX_NUMBER {
            return Err(DecodeError::BadValue);
        }
        Ok(ballot)
    }
}

code_struct! {
    /// What a founding decides.
    Foundation {
        /// The system.
        system: SystemId,
        /// The members of its first view, oldest first. None: the system of the founding before goes on.
        members: Vec<MemberEntry>,
    }
}

code_struct! {
    /// What a site has promised and knows. It outlives the site's processes and the boots of its host.
    SiteRecord {
        /// The number of the last founding that is known to be decided; 0: none.
        decided: u64,
        /// What it decided.
        foundation: Foundation,
        /// The highest ballot promised.
        promised: Ballot,
        /// What was accepted in the highest ballot so far of the founding after `decided`.
        accepted: Option<(Ballot, Foundation)>,
    }
}

/// First bytes of a record on disk; the last one is the version.
const TITLE: &[u8; 8] = b"isisSR\0\x01";

impl Default for SiteRecord {
    fn default() -> SiteRecord {
        let foundation = Foundation { system: SystemId::default(), members: Vec::new() };
        SiteRecord { decided: 0, foundation, promised: Ballot::default(), accepted: None }
    }
}

impl SiteRecord {
    /// As it is written to disk: title, CRC32C, contents.
    pub fn encode(&self) -> Vec<u8> {
        let mut contents = Writer::new();
        self.write(&mut contents);
        let mut out = Writer::new();
        out.bytes.extend_from_slice(TITLE);
        out.u32(append_sum(0, &contents.bytes));
        out.bytes.extend_from_slice(&contents.bytes);
        out.bytes
    }

    /// Reads what was written. An error: it is damaged, or of another version; the site cannot answer for itself.
    pub fn decode(bytes: &[u8]) -> Result<SiteRecord, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.take(TITLE.len())? != TITLE {
            return Err(DecodeError::BadValue);
        }
        let sum = reader.u32()?;
        let contents = reader.take(reader.remaining())?;
        if append_sum(0, contents) != sum {
            return Err(DecodeError::BadValue);
        }
        let mut reader = Reader::new(contents);
        let record = SiteRecord::read(&mut reader)?;
        reader.finish()?;
        if record.decided > MAX_NUMBER { Err(DecodeError::BadValue) } else { Ok(record) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::id::{ProcessId, SiteKey};
    use crate::message::StateStatus;

    #[test]
    fn a_record_survives_its_journey_and_damage_is_noticed() {
        let ballot = Ballot { founding: 2, counter: 7, founder: Nonce(9) };
        let member = MemberEntry {
            process: ProcessId(3),
            nonce: Nonce(9),
            site: SiteKey(1),
            address: Address::default(),
            state: StateStatus::Has,
            max_pause_ns: 0,
        };
        let record = SiteRecord {
            decided: 1,
            foundation: Foundation { system: SystemId(5), members: Vec::new() },
            promised: ballot,
            accepted: Some((ballot, Foundation { system: SystemId(6), members: vec![member] })),
        };
        let bytes = record.encode();
        assert_eq!(SiteRecord::decode(&bytes).as_ref(), Ok(&record));
        for length in 0..bytes.len() {
            assert!(SiteRecord::decode(&bytes[..length]).is_err(), "a prefix of {length} bytes was taken for whole");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SiteRecord::decode(&bad).is_err(), "bit {bit}");
        }
        assert_eq!(SiteRecord::decode(&SiteRecord::default().encode()), Ok(SiteRecord::default()));
    }
}
