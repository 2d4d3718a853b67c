//! The control datagrams of the self-tests: "does this path work, in this direction?"
//!
//! 40 bytes (a size probe is padded to the size that it tries), little-endian: magic 8 · kind u8 · zero 3 · system hash u32 · group u64 · token u64 · number u64. The
//! token is the prober's and comes back in the acknowledgement, so that nobody takes another's answer for its own.
//! The magic is the transport's own and no prefix of a packet of the engine; these datagrams never reach the core.

/// First bytes of every control datagram. The last one is the version.
pub(crate) const MAGIC: [u8; 8] = [0xf5, b'i', b's', b'i', b's', b'p', b'r', 1];

/// Length of a control datagram.
pub(crate) const LENGTH: usize = 40;

/// What a control datagram says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Sent to a group's multicast address: whoever hears it answers by unicast.
    MulticastProbe,
    /// The answer.
    MulticastHeard,
    /// Sent to one process, which answers.
    UnicastProbe,
    /// The answer.
    UnicastHeard,
    /// Sent to all hosts of a network: who is there?
    Announcement,
    /// The answer of a process that is not of the same system.
    Announced,
    /// Sent to one process, padded to `number` bytes.
    SizeProbe,
    /// The answer: it arrived whole.
    SizeHeard,
}

/// A control datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Probe {
    pub kind: Kind,
    pub system_hash: u32,
    pub group: u64,
    pub token: u64,
    pub number: u64,
}

impl Probe {
    /// The bytes of it.
    pub(crate) fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = match self.kind {
            Kind::MulticastProbe => 1,
            Kind::MulticastHeard => 2,
            Kind::UnicastProbe => 3,
            Kind::UnicastHeard => 4,
            Kind::Announcement => 5,
            Kind::Announced => 6,
            Kind::SizeProbe => 7,
            Kind::SizeHeard => 8,
        };
        bytes[12..16].copy_from_slice(&self.system_hash.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.group.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.token.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Reads a datagram that begins with [`MAGIC`]; `None` if it is not well-formed.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Probe> {
        let length = bytes.len() as u64;
        let (bytes, padding) = bytes.split_first_chunk::<LENGTH>()?;
        if bytes[..8] != MAGIC || bytes[9..12] != [0; 3] {
            return None;
        }
        let kind = match bytes[8] {
            1 => Kind::MulticastProbe,
            2 => Kind::MulticastHeard,
            3 => Kind::UnicastProbe,
            4 => Kind::UnicastHeard,
            5 => Kind::Announcement,
            6 => Kind::Announced,
            7 => Kind::SizeProbe,
            8 => Kind::SizeHeard,
            _ => return None,
        };
        let number = |from: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[from..from + 8]);
            u64::from_le_bytes(eight)
        };
        let as_long = if kind == Kind::SizeProbe { number(32) == length } else { padding.is_empty() };
        as_long.then(|| Probe {
            kind,
            system_hash: u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
            group: number(16),
            token: number(24),
            number: number(32),
        })
    }

    /// The acknowledgement of a probe; `None` for what is one itself.
    pub(crate) fn answer(&self) -> Option<Probe> {
        let kind = match self.kind {
            Kind::MulticastProbe => Kind::MulticastHeard,
            Kind::UnicastProbe => Kind::UnicastHeard,
            Kind::Announcement => Kind::Announced,
            Kind::SizeProbe => Kind::SizeHeard,
            Kind::MulticastHeard | Kind::UnicastHeard | Kind::Announced | Kind::SizeHeard => return None,
        };
        Some(Probe { kind, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_comes_back_and_damaged_ones_do_not() {
        let probe = Probe { kind: Kind::MulticastProbe, system_hash: 7, group: 1 << 40, token: 99, number: 3 };
        let bytes = probe.encode();
        assert_eq!(Probe::decode(&bytes), Some(probe));
        assert_eq!(Probe::decode(&bytes[..39]), None);
        let mut other = bytes;
        other[8] = 77;
        assert_eq!(Probe::decode(&other), None);
        assert_eq!(probe.answer().and_then(|answer| answer.answer()), None);
        assert_eq!(Probe::decode(&[&bytes[..], &[0]].concat()), None, "padded");
        let padded = [&Probe { kind: Kind::SizeProbe, number: 50, ..probe }.encode()[..], &[0; 10]].concat();
        assert!(Probe::decode(&padded).is_some_and(|probe| probe.kind == Kind::SizeProbe));
        assert_eq!(Probe::decode(&padded[..49]), None, "cut");
    }
}
