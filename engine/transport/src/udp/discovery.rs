//! Who else is there: hosts of one network find each other by multicast, without a list of seeds.
//!
//! Owned by [`super::UdpTransport`]; no sockets and no clock in here. Every process announces itself at an address of the
//! range that no group has, often at first, slowly later. Whoever hears it and is not of the same system answers by
//! unicast; the announcer looks there for a system. So two systems that were founded apart also learn of each other, and
//! within one system nobody answers.
//!
//! Not on loopback: the processes of one host know each other by their runtime directory, and two directories are two
//! sites on purpose.

use super::probe::{Kind, Probe};
use isis_wire::Address;
use std::collections::VecDeque;

/// Announcements come in intervals from this …
const FIRST_NS: u64 = 20_000_000;
/// … doubling to this.
const LAST_NS: u64 = 2_000_000_000;
/// Addresses that were told are remembered, this many.
const TOLD_MAX: usize = 256;

/// The search of one process.
#[derive(Debug)]
pub(crate) struct Discovery {
    /// Where to announce; `None`: not at all.
    to: Option<Address>,
    token: u64,
    /// 0: of no system yet.
    system_hash: u32,
    number: u64,
    next_ns: u64,
    interval_ns: u64,
    told: VecDeque<Address>,
    found: VecDeque<Address>,
}

impl Discovery {
    pub(crate) fn new(to: Option<Address>, token: u64) -> Discovery {
        Discovery {
            to,
            token,
            system_hash: 0,
            number: 0,
            next_ns: 0,
            interval_ns: FIRST_NS,
            told: VecDeque::new(),
            found: VecDeque::new(),
        }
    }

    /// This process belongs to a system now.
    pub(crate) fn set_system(&mut self, hash: u32) {
        self.system_hash = hash;
    }

    /// An announcement came: the answer to it, if it deserves one.
    pub(crate) fn handle_announcement(&self, probe: &Probe) -> Option<Probe> {
        if self.to.is_none() || probe.token == self.token || self.is_own(probe) {
            return None;
        }
        Some(Probe { system_hash: self.system_hash, ..probe.answer()? })
    }

    /// Somebody answered an announcement.
    pub(crate) fn handle_answer(&mut self, from: Address, probe: &Probe) {
        if probe.token != self.token || self.is_own(probe) || self.told.contains(&from) {
            return;
        }
        if self.told.len() == TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(from);
        self.found.push_back(from);
    }

    fn is_own(&self, probe: &Probe) -> bool {
        self.system_hash != 0 && probe.system_hash == self.system_hash
    }

    /// The next address to look at for a system.
    pub(crate) fn poll_found(&mut self) -> Option<Address> {
        self.found.pop_front()
    }

    /// Announces this process when that is due; says when to call again.
    pub(crate) fn advance(&mut self, now_ns: u64, send: &mut dyn FnMut(Address, Probe)) -> Option<u64> {
        let to = self.to?;
        if now_ns >= self.next_ns {
            self.number += 1;
            let Discovery { system_hash, token, number, .. } = *self;
            send(to, Probe { kind: Kind::Announcement, system_hash, group: 0, token, number });
            self.next_ns = now_ns + self.interval_ns;
            self.interval_ns = (self.interval_ns * 2).min(LAST_NS);
        }
        Some(self.next_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        std::net::SocketAddr::from(([10, 0, 0, 1], port)).into()
    }

    fn announcement(of: &mut Discovery) -> Probe {
        let mut sent = Vec::new();
        of.next_ns = 0;
        of.advance(1, &mut |_, probe| sent.push(probe));
        sent[0]
    }

    /// Strangers answer, members of the same system do not, and each address is told once.
    #[test]
    fn strangers_answer_and_are_told_once() {
        let (mut one, mut other) = (Discovery::new(Some(address(9)), 1), Discovery::new(Some(address(9)), 2));
        let call = announcement(&mut one);
        assert_eq!(one.handle_announcement(&call), None, "its own");
        let answer = other.handle_announcement(&call).expect("both look for a system");
        one.handle_answer(address(2), &Probe { token: 7, ..answer });
        assert_eq!(one.poll_found(), None, "an answer to somebody else");
        one.handle_answer(address(2), &answer);
        one.handle_answer(address(2), &answer);
        assert_eq!((one.poll_found(), one.poll_found()), (Some(address(2)), None));

        other.set_system(5);
        assert!(other.handle_announcement(&announcement(&mut one)).is_some(), "a newcomer is answered");
        one.set_system(5);
        assert_eq!(other.handle_announcement(&announcement(&mut one)), None, "the same system");
        one.set_system(6);
        assert!(other.handle_announcement(&announcement(&mut one)).is_some(), "another system");
    }

    #[test]
    fn loopback_is_silent() {
        let mut one = Discovery::new(None, 1);
        assert_eq!(one.advance(5, &mut |_, _| panic!("announced")), None);
        let call = announcement(&mut Discovery::new(Some(address(9)), 2));
        assert_eq!(one.handle_announcement(&call), None);
    }
}
