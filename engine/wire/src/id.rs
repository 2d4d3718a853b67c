//! Identifiers. None is ever used again for something else within one system.

use std::fmt;

/// A process admitted to a system: site u16 · slot u16 · incarnation u32. Assigned by the system view that admits it;
/// a process that failed, or was wrongly believed to have failed, comes back only under a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ProcessId(pub u64);

impl ProcessId {
    /// Puts an identifier together.
    pub fn new(site: u16, slot: u16, incarnation: u32) -> ProcessId {
        ProcessId(u64::from(site) << 48 | u64::from(slot) << 32 | u64::from(incarnation))
    }
    /// The number of its site in the system.
    pub fn site(self) -> u16 {
        (self.0 >> 48) as u16
    }
    /// Its place on the site.
    pub fn slot(self) -> u16 {
        (self.0 >> 32) as u16
    }
    /// The number of the system view that admitted it.
    pub fn incarnation(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}.{}.{}", self.site(), self.slot(), self.incarnation())
    }
}

/// A group: the number of the directory operation that created it. 0 is the system group of all processes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupId(pub u64);

impl GroupId {
    /// The group of all processes of a system, whose views are the system views.
    pub const SYSTEM: GroupId = GroupId(0);
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// A system: 128 random bits of its founding. 0 stands for "none yet".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SystemId(pub u128);

impl fmt::Debug for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{:08x}", self.0 as u32)
    }
}

/// 128 random bits of one start of a process: its name before a system admits it, and in death notices.
/// The low 64 bits are its *birth*, which every packet carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nonce(pub u128);

impl Nonce {
    /// The low 64 bits, carried by every packet of the process.
    pub fn birth(self) -> u64 {
        self.0 as u64
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{:08x}", self.0 as u32)
    }
}

/// A site: 128 bits that all its processes compute alike from boot id, network namespace and runtime directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SiteKey(pub u128);

impl fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "site{:04x}", self.0 as u16)
    }
}

/// What the application holds for a group that it joined: local to one endpoint, never used again by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GroupHandle(pub u32);
