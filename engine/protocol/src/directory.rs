//! The directory: which groups exist, and who is entered in them. Replicated state of the system group, changed only by
//! its Safe ABCASTs in their order and by system views, so it is the same at all processes at the same point.
//!
//! A process is entered before a group view names it and removed only after the view without it (R15); an entry of a
//! process that the system view lacks is dead. A group ends when every entry is dead or has disclaimed: said that it is
//! no member and will not become one by its present request.

use crate::config::TotalOrder;
use crate::id::{GroupId, ProcessId};
use isis_wire::codec::{DecodeError, Reader, Writer};
use isis_wire::message::{Code, MAX_LIST, MAX_NAME, MAX_NUMBER};
use std::collections::BTreeMap;

/// An operation on the directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Create the group of this name with this process as its founder, or enter the process as one that will join.
    Enter {
        /// The name.
        name: String,
        /// Who.
        process: ProcessId,
        /// How the group's ABCASTs are ordered, if this creates it.
        total_order: TotalOrder,
    },
    /// The process is no member by a view installed.
    Remove {
        /// The group.
        group: GroupId,
        /// Who.
        process: ProcessId,
    },
    /// The process is no member and gives its request up.
    Disclaim {
        /// The group.
        group: GroupId,
        /// Who.
        process: ProcessId,
    },
}

impl Operation {
    /// As the payload of a multicast.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Operation::Enter { name, process, total_order } => {
                out.u8(1);
                out.bytes(name.as_bytes());
                process.write(&mut out);
                write_total_order(&mut out, *total_order);
            }
            Operation::Remove { group, process } => {
                out.u8(2);
                group.write(&mut out);
                process.write(&mut out);
            }
            Operation::Disclaim { group, process } => {
                out.u8(3);
                group.write(&mut out);
                process.write(&mut out);
            }
        }
        out.bytes
    }

    /// Reads it back.
    pub fn decode(bytes: &[u8]) -> Result<Operation, DecodeError> {
        let mut reader = Reader::new(bytes);
        let operation = match reader.u8()? {
            1 => Operation::Enter {
                name: read_name(&mut reader)?,
                process: Code::read(&mut reader)?,
                total_order: read_total_order(&mut reader)?,
            },
            2 => Operation::Remove { group: Code::read(&mut reader)?, process: Code::read(&mut reader)? },
            3 => Operation::Disclaim { group: Code::read(&mut reader)?, process: Code::read(&mut reader)? },
            _ => return Err(DecodeError::BadValue),
        };
        reader.finish()?;
        Ok(operation)
    }
}

fn read_name(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    String::from_utf8(reader.bytes(MAX_NAME)?.to_vec()).map_err(|_| DecodeError::BadValue)
}

fn write_total_order(out: &mut Writer, total_order: TotalOrder) {
    out.u8(match total_order {
        TotalOrder::Sequencer => 0,
        TotalOrder::Priority => 1,
    });
}

fn read_total_order(reader: &mut Reader<'_>) -> Result<TotalOrder, DecodeError> {
    match reader.u8()? {
        0 => Ok(TotalOrder::Sequencer),
        1 => Ok(TotalOrder::Priority),
        _ => Err(DecodeError::BadValue),
    }
}

/// A process in the entry of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entered {
    /// Who.
    pub process: ProcessId,
    /// It has disclaimed.
    pub disclaimed: bool,
}

/// A group in the directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// How its ABCASTs are ordered: its creator's choice, for good.
    pub total_order: TotalOrder,
    /// Its members and those who shall join, in the order in which they were entered.
    pub entered: Vec<Entered>,
}

/// What an operation meant for the process that it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It founded this new group.
    Founded(GroupId),
    /// It is entered in this group, which exists, and shall join it.
    Entered(GroupId),
    /// It was removed or disclaimed, or the operation had nothing to do.
    Done,
}

/// The directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Directory {
    /// How many operations were carried out: goes on across views, and numbers groups.
    pub operations: u64,
    groups: BTreeMap<GroupId, Entry>,
    names: BTreeMap<String, GroupId>,
}

impl Directory {
    /// The group of this name.
    pub fn lookup(&self, name: &str) -> Option<GroupId> {
        self.names.get(name).copied()
    }

    /// The entry of a group.
    pub fn entry(&self, group: GroupId) -> Option<&Entry> {
        self.groups.get(&group)
    }

    /// The process is entered in the group and has not disclaimed.
    pub fn is_entered(&self, group: GroupId, process: ProcessId) -> bool {
        self.groups.get(&group).is_some_and(|entry| entry.entered.iter().any(|e| e.process == process && !e.disclaimed))
    }

    /// Carries an operation out.
    pub fn apply(&mut self, operation: &Operation) -> Outcome {
        self.operations += 1;
        match operation {
            Operation::Enter { name, process, total_order } => match self.names.get(name) {
                None => {
                    let group = GroupId(self.operations);
                    let entered = vec![Entered { process: *process, disclaimed: false }];
                    let entry = Entry { name: name.clone(), total_order: *total_order, entered };
                    self.groups.insert(group, entry);
                    self.names.insert(name.clone(), group);
                    Outcome::Founded(group)
                }
                Some(&group) => {
                    if let Some(entry) = self.groups.get_mut(&group) {
                        entry.entered.retain(|e| e.process != *process);
                        entry.entered.push(Entered { process: *process, disclaimed: false });
                    }
                    Outcome::Entered(group)
                }
            },
            Operation::Remove { group, process } => {
                if let Some(entry) = self.groups.get_mut(group) {
                    entry.entered.retain(|e| e.process != *process);
                }
                self.end_if_over(*group);
                Outcome::Done
            }
            Operation::Disclaim { group, process } => {
                if let Some(entry) = self.groups.get_mut(group) {
                    for entered in &mut entry.entered {
                        entered.disclaimed |= entered.process == *process;
                    }
                }
                self.end_if_over(*group);
                Outcome::Done
            }
        }
    }

    /// A system view was installed: entries of processes that it lacks are dead.
    pub fn retain_processes(&mut self, alive: impl Fn(ProcessId) -> bool) {
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        for group in groups {
            if mutant!(EndsWithFounder) && self.groups[&group].entered.first().is_some_and(|e| !alive(e.process)) {
                self.groups.get_mut(&group).into_iter().for_each(|entry| entry.entered.clear());
            }
            if let Some(entry) = self.groups.get_mut(&group) {
                entry.entered.retain(|e| alive(e.process));
            }
            self.end_if_over(group);
        }
    }

    fn end_if_over(&mut self, group: GroupId) {
        if self.groups.get(&group).is_some_and(|entry| entry.entered.iter().all(|e| e.disclaimed))
            && let Some(entry) = self.groups.remove(&group)
        {
            self.names.remove(&entry.name);
        }
    }

    /// The whole directory, for a joiner of the system.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.varint(self.operations);
        out.varint(self.groups.len() as u64);
        for (group, entry) in &self.groups {
            group.write(&mut out);
            out.bytes(entry.name.as_bytes());
            write_total_order(&mut out, entry.total_order);
            out.list(&entry.entered, |out, e| {
                e.process.write(out);
                out.flag(e.disclaimed);
            });
        }
        out.bytes
    }

    /// Reads it back.
    pub fn decode(bytes: &[u8]) -> Result<Directory, DecodeError> {
        let mut reader = Reader::new(bytes);
        let operations = reader.varint()?;
        if operations > MAX_NUMBER {
            return Err(DecodeError::BadValue);
        }
        let list = reader.list(1 << 20, |r| {
            let group = GroupId::read(r)?;
            let name = read_name(r)?;
            let total_order = read_total_order(r)?;
            let entered = r.list(MAX_LIST, |r| Ok(Entered { process: Code::read(r)?, disclaimed: r.flag()? }))?;
            Ok((group, Entry { name, total_order, entered }))
        })?;
        reader.finish()?;
        let names = list.iter().map(|(group, entry)| (entry.name.clone(), *group)).collect();
        Ok(Directory { operations, groups: list.into_iter().collect(), names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(name: &str, process: u64) -> Operation {
        Operation::Enter { name: name.into(), process: ProcessId(process), total_order: TotalOrder::Sequencer }
    }

    /// The order of its ABCASTs is a property of the group: its creator chooses, and a joiner that asks for another one gets
    /// the group's.
    #[test]
    fn the_creator_chooses_the_total_order() {
        let mut directory = Directory::default();
        let priority = |process| Operation::Enter {
            name: "p".into(),
            process: ProcessId(process),
            total_order: TotalOrder::Priority,
        };
        directory.apply(&priority(1));
        directory.apply(&enter("p", 2));
        directory.apply(&enter("s", 2));
        directory.apply(&priority(3));
        let chosen = |directory: &Directory, name| {
            directory.lookup(name).and_then(|id| directory.entry(id)).map(|entry| entry.total_order)
        };
        assert_eq!(chosen(&directory, "p"), Some(TotalOrder::Priority));
        assert_eq!(chosen(&directory, "s"), Some(TotalOrder::Sequencer));
        let copy = Directory::decode(&directory.encode()).expect("a good directory");
        assert_eq!(chosen(&copy, "p"), Some(TotalOrder::Priority));
        assert_eq!(Operation::decode(&priority(3).encode()), Ok(priority(3)));
    }

    #[test]
    fn the_first_in_directory_order_founds() {
        let mut directory = Directory::default();
        assert_eq!(directory.apply(&enter("a", 1)), Outcome::Founded(GroupId(1)));
        assert_eq!(directory.apply(&enter("a", 2)), Outcome::Entered(GroupId(1)));
        assert_eq!(Directory::decode(&directory.encode()), Ok(directory));
    }

    /// R15: a group whose entries are all dead or disclaimed ends; its number is never used again.
    #[test]
    fn a_group_ends_when_all_are_dead_or_disclaimed() {
        let mut directory = Directory::default();
        directory.apply(&enter("a", 1));
        directory.apply(&enter("a", 2));
        directory.apply(&Operation::Disclaim { group: GroupId(1), process: ProcessId(2) });
        assert_eq!(directory.lookup("a"), Some(GroupId(1)));
        directory.retain_processes(|process| process != ProcessId(1));
        assert_eq!(directory.lookup("a"), None);
        assert_eq!(directory.apply(&enter("a", 2)), Outcome::Founded(GroupId(4)));
    }

    #[test]
    fn operations_round_trip() {
        for operation in [
            enter("prices", 9),
            Operation::Remove { group: GroupId(3), process: ProcessId(9) },
            Operation::Disclaim { group: GroupId(3), process: ProcessId(9) },
        ] {
            assert_eq!(Operation::decode(&operation.encode()).as_ref(), Ok(&operation));
        }
    }
}
