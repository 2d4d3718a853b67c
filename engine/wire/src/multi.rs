//! What is said about ABCASTs to several groups: in the streams of the groups, in the promises of a view change (R2), and
//! between processes that want to know what became of one.

use crate::codec::{DecodeError, Reader, Writer};
use crate::id::{GroupId, ProcessId};
use crate::message::{Code, MAX_LIST, MAX_NUMBER, code_lists, code_struct};

/// The most groups that one ABCAST may go to.
pub const MAX_GROUPS: usize = 64;

/// Names an ABCAST to several groups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MultiId {
    /// Its sender.
    pub sender: ProcessId,
    /// Numbers the sender's ABCASTs to several groups: 1, 2, 3 …
    pub number: u64,
}

impl Code for MultiId {
    fn write(&self, out: &mut Writer) {
        self.sender.write(out);
        self.number.write(out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(MultiId { sender: Code::read(reader)?, number: limited(reader)? })
    }
}

/// Reads a number: counting on from it cannot overflow.
fn limited(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match reader.varint()? {
        number if number > MAX_NUMBER => Err(DecodeError::BadValue),
        number => Ok(number),
    }
}

code_lists!(GroupId, MultiId, Open, Final);

/// An ABCAST to several groups and its final priority.
pub type Final = (MultiId, u64);

/// What the payload of a copy begins with, in a group to which an ABCAST to several groups goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MultiHeader {
    /// Numbers the sender's ABCASTs to several groups.
    pub number: u64,
    /// The sender's ABCASTs to several groups up to this number are delivered everywhere.
    pub complete: u64,
    /// The sender's clock: what happened before it has at most this priority.
    pub clock: u64,
    /// Deliver only when all members have the final priority.
    pub safe: bool,
    /// All groups that it goes to.
    pub groups: Vec<GroupId>,
}

impl MultiHeader {
    /// The most bytes that the header of an ABCAST to so many groups has.
    pub const fn most_bytes(groups: usize) -> usize {
        // Three numbers of 48 bits, a flag, a count, and each group's number.
        3 * 7 + 2 + 10 * groups
    }
}

impl Code for MultiHeader {
    fn write(&self, out: &mut Writer) {
        self.number.write(out);
        self.complete.write(out);
        self.clock.write(out);
        self.safe.write(out);
        self.groups.write(out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (number, complete, clock) = (limited(reader)?, limited(reader)?, limited(reader)?);
        let header = MultiHeader { number, complete, clock, safe: Code::read(reader)?, groups: Code::read(reader)? };
        let good = complete < number && (1..=MAX_GROUPS).contains(&header.groups.len());
        if good { Ok(header) } else { Err(DecodeError::BadValue) }
    }
}

code_struct! {
    /// The payload of the ABCAST that says final priorities of the sender's ABCASTs to several groups.
    Finals {
        /// They.
        finals: Vec<Final>,
    }
}

code_struct! {
    /// An ABCAST to several groups of which something is not known.
    Open {
        /// Which.
        id: MultiId,
        /// All groups that it goes to.
        groups: Vec<GroupId>,
    }
}

code_struct! {
    /// What a member that promises has of ABCASTs to several groups (R2).
    MultiReport {
        /// At least every priority that is in what it has of the streams.
        clock: u64,
        /// How many copies it has that are not in their places; each raises the clock by one at most.
        copies: u64,
        /// Those of which it has a copy that is not decided.
        open: Vec<Open>,
        /// The final priorities that it knows of those whose final has not come to its place here.
        finals: Vec<Final>,
    }
}
