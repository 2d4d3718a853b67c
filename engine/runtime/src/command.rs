//! Commands on a group as values: what the application asks, in the form that rings and waiting queues hold.
//!
//! In a ring a command is `tag · kind · flags · entry · group u32`, then 0-5 words of arguments, then two words for each
//! further group of an ABCAST to several (group, ticket), then its data: [`Command::encode`], [`decode`]. Both ends are this
//! process, so a malformed record is a broken invariant and panics.

use crate::event::CommandName;
use crate::machine::Machine;
use isis_protocol::{GroupHandle, GroupId, Instant, Kind, MessageId, ProcessId, Refused, SendOptions};

/// Tag of a record that stands for the next value of the annex.
pub(crate) const ANNEX: u8 = 0;

/// Flag of a multicast's record: a word with the view follows.
const IN_VIEW: u8 = 2;

/// A command on a group. `D` is borrowed bytes, or owned ones when it has to wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Command<D> {
    /// The application's handle.
    pub group: GroupHandle,
    /// What the application was told that sent it; 0: nothing, or it is no message.
    pub ticket: u64,
    pub action: Action<D>,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action<D> {
    /// `view`: in sending-view mode the view that the application was told of last; else 0.
    Multicast {
        options: SendOptions,
        view: u64,
        data: D,
    },
    /// An ABCAST to the command's group and to these, each with its ticket there.
    MulticastGroups {
        options: SendOptions,
        others: Vec<(GroupHandle, u64)>,
        data: D,
    },
    Send {
        member: ProcessId,
        entry: u8,
        data: D,
    },
    Reply {
        to: MessageId,
        data: D,
    },
    StateBlock {
        transfer: u64,
        done: bool,
        data: D,
    },
    Flush {
        number: u64,
    },
    Leave,
}

impl<D: AsRef<[u8]>> Command<D> {
    pub fn data(&self) -> &[u8] {
        match &self.action {
            Action::Multicast { data, .. }
            | Action::MulticastGroups { data, .. }
            | Action::Send { data, .. }
            | Action::Reply { data, .. }
            | Action::StateBlock { data, .. } => data.as_ref(),
            Action::Flush { .. } | Action::Leave => &[],
        }
    }

    /// It sends a message: a stalled process has no sends.
    pub fn is_send(&self) -> bool {
        matches!(
            self.action,
            Action::Multicast { .. } | Action::MulticastGroups { .. } | Action::Send { .. } | Action::Reply { .. }
        )
    }

    /// The groups besides the command's own, each with its ticket there.
    pub fn others(&self) -> &[(GroupHandle, u64)] {
        match &self.action {
            Action::MulticastGroups { others, .. } => others,
            _ => &[],
        }
    }

    /// What it counts for in a group's backlog, in bytes: its data and its own size, roughly.
    pub fn cost(&self) -> u64 {
        (self.data().len() + 16 * self.others().len()) as u64 + 64
    }

    pub fn name(&self) -> CommandName {
        match self.action {
            Action::Multicast { .. } | Action::MulticastGroups { .. } => CommandName::Multicast,
            Action::Send { .. } => CommandName::Send,
            Action::Reply { .. } => CommandName::Reply,
            Action::StateBlock { .. } => CommandName::StateBlock,
            Action::Flush { .. } => CommandName::Flush,
            Action::Leave => CommandName::Leave,
        }
    }

    /// What `NodeEvent::Refused` says besides the name.
    pub fn number(&self) -> u64 {
        match self.action {
            Action::Flush { number } => number,
            Action::StateBlock { transfer, .. } => transfer,
            _ => self.ticket,
        }
    }

    /// The same with bytes of its own.
    pub fn to_owned(&self) -> Command<Box<[u8]>> {
        let action = match &self.action {
            Action::Multicast { options, view, data } => {
                Action::Multicast { options: *options, view: *view, data: data.as_ref().into() }
            }
            Action::MulticastGroups { options, others, data } => {
                Action::MulticastGroups { options: *options, others: others.clone(), data: data.as_ref().into() }
            }
            Action::Send { member, entry, data } => {
                Action::Send { member: *member, entry: *entry, data: data.as_ref().into() }
            }
            Action::Reply { to, data } => Action::Reply { to: *to, data: data.as_ref().into() },
            Action::StateBlock { transfer, done, data } => {
                Action::StateBlock { transfer: *transfer, done: *done, data: data.as_ref().into() }
            }
            Action::Flush { number } => Action::Flush { number: *number },
            Action::Leave => Action::Leave,
        };
        Command { group: self.group, ticket: self.ticket, action }
    }

    /// Carries it out on the core, where its group has this handle. Gives the core's ticket of a message, its number of a
    /// flush, else 0. One on several groups is refused: it needs them all.
    pub fn execute(&self, machine: &mut dyn Machine, now: Instant, group: GroupHandle) -> Result<u64, Refused> {
        match &self.action {
            Action::Multicast { options, data, .. } => machine.multicast(now, group, *options, data.as_ref()),
            Action::MulticastGroups { .. } => Err(Refused::BadKind),
            Action::Send { member, entry, data } => machine.send(now, group, *member, *entry, data.as_ref()),
            Action::Reply { to, data } => machine.reply(now, group, *to, data.as_ref()),
            Action::StateBlock { transfer, done, data } => {
                machine.state_block(now, group, *transfer, data.as_ref(), *done).map(|()| 0)
            }
            Action::Flush { .. } => machine.flush(now, group),
            Action::Leave => machine.leave(now, group).map(|()| 0),
        }
    }

    /// Carries an ABCAST to several groups out on the core, where they have these handles. Gives the core's ticket in each.
    pub fn execute_in_groups(
        &self,
        machine: &mut dyn Machine,
        now: Instant,
        groups: &[GroupHandle],
    ) -> Result<Vec<u64>, Refused> {
        match &self.action {
            Action::MulticastGroups { options, data, .. } => {
                machine.multicast_groups(now, groups, *options, data.as_ref())
            }
            _ => Err(Refused::BadKind),
        }
    }

    /// Tag, kind, flags, entry and arguments.
    fn parts(&self) -> ([u8; 4], [u64; 5], usize) {
        let ticket = self.ticket;
        match &self.action {
            Action::Multicast { options, view, .. } => {
                let flags = u8::from(options.safe) | if *view > 0 { IN_VIEW } else { 0 };
                ([1, options.kind as u8, flags, options.entry], [ticket, *view, 0, 0, 0], 1 + usize::from(*view > 0))
            }
            Action::MulticastGroups { options, others, .. } => {
                let arguments = [ticket, others.len() as u64, 0, 0, 0];
                ([7, options.kind as u8, u8::from(options.safe), options.entry], arguments, 2)
            }
            Action::Send { member, entry, .. } => ([2, 0, 0, *entry], [ticket, member.0, 0, 0, 0], 2),
            Action::Reply { to, .. } => {
                let [group, view, sender, number] = message_words(to);
                ([3, 0, 0, 0], [group, view, sender, number, ticket], 5)
            }
            Action::StateBlock { transfer, done, .. } => ([4, 0, u8::from(*done), 0], [*transfer, 0, 0, 0, 0], 1),
            Action::Flush { number } => ([5, 0, 0, 0], [*number, 0, 0, 0, 0], 1),
            Action::Leave => ([6, 0, 0, 0], [0; 5], 0),
        }
    }

    /// Bytes of its record.
    pub fn encoded_len(&self) -> usize {
        8 + 8 * self.parts().2 + 16 * self.others().len() + self.data().len()
    }

    /// Writes its record into `record`, which is `encoded_len` long.
    pub fn encode(&self, record: &mut [u8]) {
        let (start, arguments, count) = self.parts();
        record[..4].copy_from_slice(&start);
        record[4..8].copy_from_slice(&self.group.0.to_le_bytes());
        let (words, data) = record[8..].split_at_mut(8 * count);
        put_words(words, &arguments[..count]);
        let (others, data) = data.split_at_mut(16 * self.others().len());
        for (words, (group, ticket)) in others.chunks_exact_mut(16).zip(self.others()) {
            put_words(words, &[u64::from(group.0), *ticket]);
        }
        data.copy_from_slice(self.data());
    }
}

/// Reads a record; `None`: it stands for the next value of the annex.
///
/// # Panics
/// When no `encode` wrote it.
pub(crate) fn decode(record: &[u8]) -> Option<Command<&[u8]>> {
    let [tag, kind_number, flags, entry, g0, g1, g2, g3, ref rest @ ..] = *record else {
        assert!(record == [ANNEX], "a command record is cut short");
        return None;
    };
    let group = GroupHandle(u32::from_le_bytes([g0, g1, g2, g3]));
    let mut ticket = 0;
    let action = match tag {
        1 => {
            ticket = word(rest, 0);
            let (view, data) = if flags & IN_VIEW != 0 { (word(rest, 1), &rest[16..]) } else { (0, &rest[8..]) };
            let options = SendOptions { kind: kind(kind_number), safe: flags & 1 != 0, entry };
            Action::Multicast { options, view, data }
        }
        2 => {
            ticket = word(rest, 0);
            Action::Send { member: ProcessId(word(rest, 1)), entry, data: &rest[16..] }
        }
        3 => {
            ticket = word(rest, 4);
            Action::Reply { to: message_id(rest), data: &rest[40..] }
        }
        4 => Action::StateBlock { transfer: word(rest, 0), done: flags != 0, data: &rest[8..] },
        5 => Action::Flush { number: word(rest, 0) },
        6 => Action::Leave,
        7 => {
            ticket = word(rest, 0);
            let (others, data) = rest[16..].split_at(16 * word(rest, 1) as usize);
            let others = others.chunks_exact(16).map(|it| (GroupHandle(word(it, 0) as u32), word(it, 1))).collect();
            Action::MulticastGroups {
                options: SendOptions { kind: kind(kind_number), safe: flags & 1 != 0, entry },
                others,
                data,
            }
        }
        _ => panic!("no command has the tag {tag}"),
    };
    Some(Command { group, ticket, action })
}

/// A message's name as words.
pub(crate) fn message_words(id: &MessageId) -> [u64; 4] {
    [id.group.0, id.view, id.sender.0, id.number]
}

/// The other way.
pub(crate) fn message_id(bytes: &[u8]) -> MessageId {
    MessageId {
        group: GroupId(word(bytes, 0)),
        view: word(bytes, 1),
        sender: ProcessId(word(bytes, 2)),
        number: word(bytes, 3),
    }
}

/// The `index`-th word.
pub(crate) fn word(bytes: &[u8], index: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[8 * index..8 * index + 8]);
    u64::from_le_bytes(word)
}

/// Writes words.
pub(crate) fn put_words(bytes: &mut [u8], words: &[u64]) {
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

/// The kind with this number.
pub(crate) fn kind(number: u8) -> Kind {
    match number {
        1 => Kind::Fifo,
        2 => Kind::Causal,
        3 => Kind::Total,
        4 => Kind::Global,
        5 => Kind::Unicast,
        6 => Kind::Reply,
        _ => panic!("no kind has the number {number}"),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_command_survives_its_record() {
        let to = MessageId { group: GroupId(5), view: 6, sender: ProcessId(7), number: 8 };
        let options = SendOptions { kind: Kind::Total, safe: true, entry: 9 };
        let actions = [
            Action::Multicast { options, view: 0, data: &b"seven b"[..] },
            Action::Multicast { options, view: 11, data: b"" },
            Action::MulticastGroups {
                options,
                others: vec![(GroupHandle(3), 1 << 50), (GroupHandle(u32::MAX), 4)],
                data: b"all",
            },
            Action::Send { member: ProcessId(u64::MAX), entry: 255, data: b"" },
            Action::Reply { to, data: b"yes" },
            Action::StateBlock { transfer: 3, done: true, data: b"state" },
            Action::Flush { number: 77 },
            Action::Leave,
        ];
        for action in actions {
            let mut command = Command { group: GroupHandle(0x0102_0304), ticket: 0, action };
            command.ticket = if command.is_send() { 1 << 50 } else { 0 };
            let mut record = vec![0xee; command.encoded_len()];
            command.encode(&mut record);
            assert_eq!(decode(&record), Some(command.clone()));
            assert_eq!(command.to_owned().data(), command.data());
        }
        assert_eq!(decode(&[ANNEX]), None);
    }
}
