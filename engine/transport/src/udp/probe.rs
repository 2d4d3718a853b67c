//! The control datagrams of the self-tests: "does this path work, in this direction?"
//!
//! 40 bytes, little-endian: magic 8 · kind u8 · zero 3 · system hash u32 · group u64 · token u64 · number u64. The
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
        };
        bytes[12..16].copy_from_slice(&self.system_hash.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.group.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.token.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Reads a datagram that begins with [`MAGIC`]; `None` if it is not well-formed.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Probe> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        if bytes[..8] != MAGIC || bytes[9..12] != [0; 3] {
            return None;
        }
        let kind = match bytes[8] {
            1 => Kind::MulticastProbe,
            2 => Kind::MulticastHeard,
            3 => Kind::UnicastProbe,
            4 => Kind::UnicastHeard,
            _ => return None,
        };
        let number = |from: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[from..from + 8]);
            u64::from_le_bytes(eight)
        };
        Some(Probe {
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
            Kind::MulticastHeard | Kind::UnicastHeard => return None,
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
    }
}
