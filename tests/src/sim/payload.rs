//! What the simulated applications put into messages and states, so that the receiver can tell which message it is and
//! that no byte is wrong.
//!
//! A message of at least [`NAMED`] bytes carries its key. A shorter one (0 bytes is a legal length) is found by its
//! sender, its group, its length and its entry byte, in the ledger of short messages.
//! Owner: the world holds the ledger.

use crate::trace::{Channel, Key, Process, mix};
use isis_protocol::id::{GroupId, ProcessId, SystemId};
use std::collections::BTreeMap;

/// From this length on a message carries its key.
pub const NAMED: usize = 12;

fn filler(key: Key) -> u64 {
    mix(u64::from(key.sender.0) << 48 ^ u64::from(key.join) << 40 ^ (key.channel as u64) << 39 ^ u64::from(key.number))
}

fn fill(bytes: &mut [u8], mut word: u64) {
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for part in words {
        *part = word.to_le_bytes();
        word = following(word);
    }
    let last = word.to_le_bytes();
    let len = rest.len();
    rest.copy_from_slice(&last[..len]);
}

fn is_filled(bytes: &[u8], mut word: u64) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    for part in words {
        if u64::from_le_bytes(*part) != word {
            return false;
        }
        word = following(word);
    }
    rest == &word.to_le_bytes()[..rest.len()]
}

fn following(word: u64) -> u64 {
    word.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(29)
}

/// So many messages of a sender have the same entry byte: what follows each other with the same one comes in batches.
const ALIKE: u32 = 16;

/// The entry byte of a message.
pub fn entry(key: Key) -> u8 {
    (key.number / ALIKE) as u8
}

/// The entry byte that the key in these bytes asks for.
pub fn entry_in(bytes: &[u8]) -> u8 {
    let number = bytes.get(8..NAMED).and_then(|number| number.try_into().ok()).map_or(0, u32::from_le_bytes);
    (number / ALIKE) as u8
}

/// Writes the bytes of a message.
pub fn write(key: Key, bytes: &mut [u8]) {
    let mut rest = 0;
    if bytes.len() >= NAMED {
        bytes[..4].copy_from_slice(&key.sender.0.to_le_bytes());
        bytes[4..6].copy_from_slice(&key.join.to_le_bytes());
        bytes[6..8].copy_from_slice(&u16::from(key.channel == Channel::PointToPoint).to_le_bytes());
        bytes[8..12].copy_from_slice(&key.number.to_le_bytes());
        rest = NAMED;
    }
    fill(&mut bytes[rest..], filler(key));
}

/// The short messages of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    short: Vec<(Key, GroupId, usize)>,
    /// ABCASTs to several groups carry their key in the first one: their keys in the others.
    parts: BTreeMap<(Key, GroupId), Key>,
    /// Who was admitted to which system as what.
    admitted: BTreeMap<(SystemId, ProcessId), Process>,
}

impl Ledger {
    /// How long a message has to be that shall have `len` bytes: one that could be taken for an earlier short one (of another
    /// membership, or with the same entry byte) carries its key.
    pub fn length(&self, key: Key, group: GroupId, len: usize) -> usize {
        let alike = |(of, there, bytes): &(Key, GroupId, usize)| {
            (of.sender, of.channel, entry(*of)) == (key.sender, key.channel, entry(key))
                && (*there, *bytes) == (group, len)
        };
        if self.short.iter().any(alike) { NAMED } else { len }
    }

    /// Notes a message that was sent.
    pub fn note(&mut self, key: Key, group: GroupId, len: usize) {
        if len < NAMED {
            self.short.push((key, group, len));
        }
    }

    /// Notes an ABCAST to several groups, with its key in each.
    pub fn note_parts(&mut self, parts: &[(Key, GroupId, u64)]) {
        for &(key, group, _) in parts {
            self.parts.insert((parts[0].0, group), key);
        }
    }

    /// Notes that a system has admitted this process.
    pub fn note_admitted(&mut self, system: SystemId, member: ProcessId, process: Process) {
        self.admitted.insert((system, member), process);
    }

    /// Who that is. A client's message may come to members that are not in the system view yet that admitted the client.
    pub fn process(&self, system: SystemId, member: ProcessId) -> Option<Process> {
        self.admitted.get(&(system, member)).copied()
    }

    /// The key of a message that carries this one, in this group.
    pub fn key_in(&self, key: Key, group: GroupId) -> Key {
        self.parts.get(&(key, group)).copied().unwrap_or(key)
    }

    /// Which message these bytes are, and whether they are whole. `sender`: who the engine says sent it.
    pub fn read(
        &self,
        (sender, group): (Option<Process>, GroupId),
        channel: Channel,
        entry_byte: u8,
        bytes: &[u8],
    ) -> (Option<Key>, bool) {
        if bytes.len() >= NAMED {
            let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let channel = if bytes[6] == 0 { Channel::Multicast } else { Channel::PointToPoint };
            let key = Key { sender: Process(word(0)), join: word(4) as u16, channel, number: word(8) };
            let intact = is_filled(&bytes[NAMED..], filler(key))
                && entry(key) == entry_byte
                && sender.is_none_or(|s| s == key.sender);
            return (Some(key), intact);
        }
        let fits = |(key, of, len): &&(Key, GroupId, usize)| {
            Some(key.sender) == sender
                && *of == group
                && key.channel == channel
                && *len == bytes.len()
                && entry(*key) == entry_byte
        };
        match self.short.iter().rev().find(fits) {
            Some((key, _, _)) => (Some(*key), is_filled(bytes, filler(*key))),
            None => (None, false),
        }
    }
}

/// The replicated state of a group, as the simulated application keeps it: digests of what it delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Of the ABCASTs and GBCASTs, in their order.
    pub chain: u64,
    /// Of all multicasts, in no order.
    pub set: u64,
    /// How many multicasts.
    pub count: u64,
}

impl State {
    /// A multicast is delivered. `ordered`: it has its place among all ABCASTs; `global`: among everything.
    pub fn deliver(&mut self, key: Key, ordered: bool, global: bool) {
        let name = filler(key);
        if global {
            self.chain = mix(self.chain ^ self.set);
        }
        if ordered || global {
            self.chain = mix(self.chain ^ name);
        }
        self.set = self.set.wrapping_add(name);
        self.count += 1;
    }

    /// In one word.
    pub fn digest(&self) -> u64 {
        mix(mix(self.chain) ^ self.set ^ self.count << 32)
    }

    /// The bytes of a transfer: the state, then filler up to `len`.
    pub fn to_bytes(self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len.max(24)];
        bytes[..8].copy_from_slice(&self.chain.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.set.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.count.to_le_bytes());
        fill(&mut bytes[24..], self.digest());
        bytes
    }

    /// The state in the bytes of a transfer; `None` if a byte is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Option<State> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let state = State { chain: word(0)?, set: word(8)?, count: word(16)? };
        is_filled(&bytes[24..], state.digest()).then_some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_recognised_and_damage_is_seen() {
        let mut ledger = Ledger::default();
        for number in 1..600_u32 {
            let key = Key { sender: Process(3), join: 1, channel: Channel::Multicast, number };
            let mut bytes = vec![0; ledger.length(key, GroupId(1), number as usize % 40)];
            write(key, &mut bytes);
            ledger.note(key, GroupId(1), bytes.len());
            let sender = (Some(Process(3)), GroupId(1));
            let read = ledger.read(sender, Channel::Multicast, entry(key), &bytes);
            assert_eq!(read, (Some(key), true));
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
                assert_ne!(ledger.read(sender, Channel::Multicast, entry(key), &bytes), read);
            }
        }
    }

    /// (From seed 103074960: a member left and joined again, and its late message was taken for one of the new membership.)
    #[test]
    fn no_short_message_is_taken_for_another() {
        let mut ledger = Ledger::default();
        let key = |join, number| Key { sender: Process(3), join, channel: Channel::Multicast, number };
        assert_eq!(ledger.length(key(0, 9), GroupId(1), 5), 5);
        ledger.note(key(0, 9), GroupId(1), 5);
        assert_eq!(ledger.length(key(0, 9 + ALIKE), GroupId(1), 5), 5, "another entry byte");
        assert_eq!(ledger.length(key(0, 9), GroupId(2), 5), 5, "another group");
        assert_eq!(ledger.length(key(1, 9), GroupId(1), 6), 6, "another length");
        for alike in [key(1, 9), key(0, 10), key(0, 9 + 256 * ALIKE)] {
            assert_eq!(ledger.length(alike, GroupId(1), 5), NAMED);
        }
    }

    #[test]
    fn states_survive_their_transfer() {
        let mut state = State::default();
        state.deliver(Key { sender: Process(1), join: 0, channel: Channel::Multicast, number: 1 }, true, false);
        for len in [0, 24, 25, 1000] {
            let mut bytes = state.to_bytes(len);
            assert_eq!(State::from_bytes(&bytes), Some(state));
            bytes[3] ^= 1;
            assert!(len < 25 || State::from_bytes(&bytes).is_none());
        }
        assert_eq!(State::from_bytes(&[0; 10]), None);
    }
}
