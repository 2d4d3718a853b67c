//! Which groups may be reached by multicast: the addresses, and the self-test that finds out.
//!
//! Owned by [`super::UdpTransport`]; no sockets and no clock in here. A sender tests its own direction only: while it
//! multicasts to a group's members it sends small probes to the group's address, and every member that hears one
//! answers by unicast.
//!
//! ```text
//!            join_group                 every peer has answered lately
//!  unknown ──────────────► fan-out ────────────────────────────────► multicast
//!                            ▲  a peer is new, or has not answered for 3 probes │
//!                            └──────────────────────────────────────────────────┘
//! ```
//!
//! Invariant: `route` names a multicast address only if each of the given peers answered a probe within
//! `CONFIRMATIONS` probe intervals; so at most that long is lost to a path that breaks, and repaired by unicast.

use super::probe::{Kind, Probe};
use isis_wire::Address;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How multicast is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MulticastConfig {
    /// Use it where the self-test says that it works. Otherwise always one datagram to each member.
    pub enabled: bool,
    /// An address of the IPv4 range: its upper 16 bits are those of all groups. The lower ones are 0 for the address that
    /// processes announce themselves at, and spread for the groups.
    pub range_v4: Ipv4Addr,
    /// The upper 64 bits of the IPv6 addresses.
    pub prefix_v6: [u16; 4],
    /// The UDP port that all processes of all systems share for multicasts.
    pub port: u16,
    /// How many routers a multicast may cross, plus one.
    pub hops: u32,
    /// How often a multicast path in use is confirmed, in nanoseconds.
    pub confirm_every_ns: u64,
}

impl Default for MulticastConfig {
    fn default() -> MulticastConfig {
        MulticastConfig {
            enabled: true,
            range_v4: Ipv4Addr::new(239, 192, 0, 0),
            prefix_v6: [0xff12, 0, 0, 0x1515],
            port: 41_987,
            hops: 1,
            confirm_every_ns: 200_000_000,
        }
    }
}

/// A peer has not answered for this many probe intervals: its confirmation is over.
const CONFIRMATIONS: u64 = 3;
/// Probe intervals while a path is not confirmed grow from this …
const PROBE_FIRST_NS: u64 = 10_000_000;
/// … to this.
const PROBE_LAST_NS: u64 = 5_000_000_000;
/// Without a multicast for this long a group is not probed.
const IDLE_NS: u64 = 2_000_000_000;
/// A peer that was no destination for this long is forgotten.
const FORGET_NS: u64 = 60_000_000_000;

/// 32 bits that stand for a system in addresses and probes.
pub(crate) fn system_hash(system: u128) -> u32 {
    let folded = (system as u64) ^ ((system >> 64) as u64);
    (mix(folded) >> 32) as u32
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl MulticastConfig {
    /// The address of a group. Different groups may share one; receivers sort by the packets' own fields.
    pub(crate) fn address(&self, v6: bool, hash: u32, group: u64) -> IpAddr {
        let spread = mix(group ^ u64::from(hash).rotate_left(32));
        self.numbered(v6, hash, (spread as u32 & 0x7fff_ffff).max(1))
    }

    /// The address that processes announce themselves at, which no group has.
    pub(crate) fn discovery_address(&self, v6: bool) -> IpAddr {
        self.numbered(v6, 0, 0)
    }

    fn numbered(&self, v6: bool, hash: u32, number: u32) -> IpAddr {
        if v6 {
            let [a, b, c, d] = self.prefix_v6;
            let [low, high] = [(hash >> 16) as u16, hash as u16];
            // The group id of an address is 32 bits (RFC 3307); the system takes the 32 above it.
            Ipv6Addr::new(a, b, c, d, low, high, 0x8000 | (number >> 16) as u16, number as u16).into()
        } else {
            // 0 is taken. The lower bits of the range's address do not count: adding to them might leave the range.
            let low = if number == 0 { 0 } else { (number & 0xffff).max(1) };
            Ipv4Addr::from(u32::from(self.range_v4) & 0xffff_0000 | low).into()
        }
    }
}

/// What is known about one peer of one group.
#[derive(Clone, Copy, Debug)]
struct PeerPath {
    address: Address,
    /// It was a destination then.
    used_ns: u64,
    /// The first probe that it should have heard.
    asked_ns: Option<u64>,
    /// It answered a probe then.
    answered_ns: Option<u64>,
    /// A multicast probe of its own was heard here then: the other direction.
    heard_ns: Option<u64>,
}

/// A group that this process is a member of.
#[derive(Debug)]
pub(crate) struct GroupPath {
    pub group: u64,
    pub hash: u32,
    pub address: IpAddr,
    /// The receiving socket that joined the address; `None`: joining failed.
    pub socket: Option<usize>,
    peers: Vec<PeerPath>,
    /// The peers of the last datagram, and whether all of them are confirmed.
    last_peers: Vec<Address>,
    confirmed: bool,
    used_ns: u64,
    probe_ns: u64,
    interval_ns: u64,
    number: u64,
}

/// All groups of this process.
#[derive(Debug)]
pub(crate) struct GroupPaths {
    config: MulticastConfig,
    token: u64,
    groups: Vec<GroupPath>,
    /// Where the last look-up ended: bursts stay in one group.
    hint: usize,
    /// Changes from fan-out to multicast, and back.
    pub confirmed: u64,
    pub lost: u64,
}

impl GroupPaths {
    pub(crate) fn new(config: MulticastConfig, token: u64) -> GroupPaths {
        GroupPaths { config, token, groups: Vec::new(), hint: 0, confirmed: 0, lost: 0 }
    }

    /// A group was joined.
    pub(crate) fn insert(&mut self, group: u64, hash: u32, address: IpAddr, socket: Option<usize>) {
        self.groups.push(GroupPath {
            group,
            hash,
            address,
            socket,
            peers: Vec::new(),
            last_peers: Vec::new(),
            confirmed: false,
            used_ns: 0,
            probe_ns: 0,
            interval_ns: PROBE_FIRST_NS,
            number: 0,
        });
    }

    /// A group was left.
    pub(crate) fn remove(&mut self, group: u64) -> Option<GroupPath> {
        let index = self.find(group)?;
        Some(self.groups.swap_remove(index))
    }

    /// Whether the group was joined.
    pub(crate) fn contains(&self, group: u64) -> bool {
        self.groups.iter().any(|path| path.group == group)
    }

    /// How many groups share this multicast address.
    pub(crate) fn sharing(&self, address: IpAddr) -> usize {
        self.groups.iter().filter(|path| path.address == address && path.socket.is_some()).count()
    }

    /// The socket that joined this address.
    pub(crate) fn socket_of(&self, address: IpAddr) -> Option<usize> {
        self.groups.iter().find(|path| path.address == address).and_then(|path| path.socket)
    }

    fn find(&mut self, group: u64) -> Option<usize> {
        if self.groups.get(self.hint).is_none_or(|path| path.group != group) {
            self.hint = self.groups.iter().position(|path| path.group == group)?;
        }
        Some(self.hint)
    }

    /// The multicast address that reaches all `peers`, if it is known to.
    pub(crate) fn route(&mut self, now_ns: u64, group: u64, peers: &[Address]) -> Option<Address> {
        if peers.len() < 2 || !self.config.enabled {
            return None;
        }
        let index = self.find(group)?;
        let path = &mut self.groups[index];
        path.used_ns = now_ns;
        if path.last_peers != peers {
            path.last_peers.clear();
            path.last_peers.extend_from_slice(peers);
            for address in peers {
                match path.peers.iter_mut().find(|peer| peer.address == *address) {
                    Some(peer) => peer.used_ns = now_ns,
                    None => {
                        path.peers.push(PeerPath {
                            address: *address,
                            used_ns: now_ns,
                            asked_ns: None,
                            answered_ns: None,
                            heard_ns: None,
                        });
                        path.interval_ns = PROBE_FIRST_NS;
                        path.probe_ns = now_ns;
                    }
                }
            }
            path.confirmed = path.all_confirmed(now_ns, self.config.confirm_every_ns);
        }
        path.confirmed.then(|| std::net::SocketAddr::new(path.address, self.config.port).into())
    }

    /// Takes an acknowledgement of one of this process's multicast probes.
    pub(crate) fn handle_heard(&mut self, now_ns: u64, from: Address, probe: &Probe) {
        if probe.token != self.token {
            return;
        }
        let Some(index) = self.find(probe.group) else { return };
        let path = &mut self.groups[index];
        let Some(peer) = path.peers.iter_mut().find(|peer| peer.address == from) else { return };
        // An answer older than the confirmation lasts says nothing about now.
        if probe.number + CONFIRMATIONS < path.number {
            return;
        }
        peer.answered_ns = Some(now_ns);
        if !path.confirmed && path.all_confirmed(now_ns, self.config.confirm_every_ns) {
            path.confirmed = true;
            path.interval_ns = self.config.confirm_every_ns;
            path.probe_ns = now_ns + self.config.confirm_every_ns;
            self.confirmed += 1;
        }
    }

    /// A multicast probe of a peer was heard here. Says whether it is of a group of this process, to be answered.
    pub(crate) fn handle_probe(&mut self, now_ns: u64, from: Address, probe: &Probe) -> bool {
        let Some(index) = self.find(probe.group) else { return false };
        let path = &mut self.groups[index];
        if path.hash != probe.system_hash {
            return false;
        }
        if let Some(peer) = path.peers.iter_mut().find(|peer| peer.address == from) {
            peer.heard_ns = Some(now_ns);
        }
        true
    }

    /// Sends the probes that are due through `send`, ends old confirmations, and says when to call again.
    pub(crate) fn advance(&mut self, now_ns: u64, send: &mut dyn FnMut(Address, Probe)) -> Option<u64> {
        let mut next: Option<u64> = None;
        for path in &mut self.groups {
            let idle = path.last_peers.len() < 2 || now_ns.saturating_sub(path.used_ns) > IDLE_NS;
            if path.confirmed && !path.all_confirmed(now_ns, self.config.confirm_every_ns) {
                path.confirmed = false;
                path.interval_ns = PROBE_FIRST_NS;
                self.lost += u64::from(!idle);
            }
            if idle || !self.config.enabled {
                continue;
            }
            if now_ns >= path.probe_ns {
                path.number += 1;
                let to = std::net::SocketAddr::new(path.address, self.config.port).into();
                let probe = Probe {
                    kind: Kind::MulticastProbe,
                    system_hash: path.hash,
                    group: path.group,
                    token: self.token,
                    number: path.number,
                };
                send(to, probe);
                for peer in &mut path.peers {
                    if path.last_peers.contains(&peer.address) {
                        peer.used_ns = now_ns;
                        peer.asked_ns.get_or_insert(now_ns);
                    }
                }
                path.peers.retain(|peer| now_ns.saturating_sub(peer.used_ns) < FORGET_NS);
                path.probe_ns = now_ns + path.interval_ns;
                path.interval_ns = if path.confirmed {
                    self.config.confirm_every_ns
                } else {
                    (path.interval_ns * 2).min(PROBE_LAST_NS)
                };
            }
            next = Some(next.map_or(path.probe_ns, |next| next.min(path.probe_ns)));
        }
        next
    }

    /// Groups that are reached by multicast now.
    pub(crate) fn confirmed_now(&self) -> u64 {
        self.groups.iter().filter(|path| path.confirmed).count() as u64
    }

    /// One line per group, and one per failing path and direction.
    pub(crate) fn report(&self, now_ns: u64, text: &mut String) {
        for path in &self.groups {
            let state = match (path.socket, path.confirmed) {
                _ if !self.config.enabled => "one datagram to each member: multicast is switched off",
                (_, true) => "multicast reaches every member",
                (None, _) => "one datagram to each member: this host could not join the multicast address",
                _ if path.last_peers.len() < 2 => "one datagram to each member: fewer than two others",
                _ => "one datagram to each member: multicast is not confirmed",
            };
            let _ = writeln!(text, "group {} at {}: {state}", path.group, path.address);
            if !self.config.enabled || path.last_peers.len() < 2 {
                continue;
            }
            for peer in path.peers.iter().filter(|peer| path.last_peers.contains(&peer.address)) {
                let seconds = |then: u64| now_ns.saturating_sub(then) as f64 / 1e9;
                let outward_ok = peer.is_confirmed(now_ns, self.config.confirm_every_ns);
                let outward = match (outward_ok, peer.answered_ns, peer.asked_ns) {
                    (true, ..) => "works".to_owned(),
                    (_, Some(then), _) => format!("FAILS: last answered {:.1} s ago", seconds(then)),
                    (_, None, Some(then)) => format!("FAILS: no answer since {:.1} s", seconds(then)),
                    (_, None, None) => "not tried yet".to_owned(),
                };
                let inward = match peer.heard_ns {
                    Some(then) => format!("heard {:.1} s ago", seconds(then)),
                    None => "none heard (it may not be sending any)".to_owned(),
                };
                let _ = writeln!(
                    text,
                    "  multicast from here to {:?}: {outward}; from {:?} to here: {inward}",
                    peer.address, peer.address
                );
            }
        }
    }
}

impl PeerPath {
    fn is_confirmed(&self, now_ns: u64, every_ns: u64) -> bool {
        self.answered_ns.is_some_and(|then| now_ns.saturating_sub(then) <= CONFIRMATIONS * every_ns)
    }
}

impl GroupPath {
    fn all_confirmed(&self, now_ns: u64, every_ns: u64) -> bool {
        self.last_peers.iter().all(|address| {
            self.peers.iter().any(|peer| peer.address == *address && peer.is_confirmed(now_ns, every_ns))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn address(port: u16) -> Address {
        std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()
    }

    /// Lets `answering` confirm whatever is sent for `duration_ns`.
    fn run(paths: &mut GroupPaths, from_ns: u64, duration_ns: u64, peers: &[Address], answering: &[Address]) -> u64 {
        let mut now_ns = from_ns;
        while now_ns < from_ns + duration_ns {
            let _ = paths.route(now_ns, 5, peers);
            let mut sent = Vec::new();
            paths.advance(now_ns, &mut |_, probe| sent.push(probe));
            for probe in sent {
                for peer in answering {
                    paths.handle_heard(now_ns + MS / 10, *peer, &probe.answer().expect("a probe has an answer"));
                }
            }
            now_ns += MS;
        }
        now_ns
    }

    /// Multicast is used only while every current peer confirms it.
    #[test]
    fn multicast_follows_the_confirmations() {
        let mut paths = GroupPaths::new(MulticastConfig::default(), 42);
        let (a, b, c) = (address(1), address(2), address(3));
        assert_eq!(paths.route(0, 5, &[a, b]), None, "not joined");
        paths.insert(5, 1, Ipv4Addr::new(239, 192, 0, 1).into(), Some(0));

        let now = run(&mut paths, MS, 300 * MS, &[a, b], &[a]);
        assert_eq!(paths.route(now, 5, &[a, b]), None, "b does not hear it");
        let mut text = String::new();
        paths.report(now, &mut text);
        assert!(text.contains("FAILS"), "{text}");

        let now = run(&mut paths, now, 6_000 * MS, &[a, b], &[a, b]);
        assert!(paths.route(now, 5, &[a, b]).is_some());
        assert!(paths.route(now, 5, &[b, a]).is_some(), "order does not matter");
        assert_eq!(paths.route(now, 5, &[a]), None, "one peer needs no multicast");
        assert_eq!(paths.route(now, 5, &[a, b, c]), None, "c is new");

        let now = run(&mut paths, now, 200 * MS, &[a, b, c], &[a, b, c]);
        assert!(paths.route(now, 5, &[a, b, c]).is_some());
        let now = run(&mut paths, now, 1_000 * MS, &[a, b, c], &[a, c]);
        assert_eq!(paths.route(now, 5, &[a, b, c]), None, "b no longer hears it");
        assert_eq!((paths.confirmed, paths.lost), (2, 1));
    }

    /// Whatever the group, the address is in the range, and not the one of discovery.
    #[test]
    fn addresses_stay_in_their_range() {
        let odd = Ipv4Addr::new(239, 255, 255, 7);
        let config = MulticastConfig { range_v4: odd, ..MulticastConfig::default() };
        for v6 in [false, true] {
            let discovery = config.discovery_address(v6);
            assert!(discovery.is_multicast());
            for group in 0..200_000 {
                let address = config.address(v6, 7, group);
                assert_ne!(address, discovery);
                match address {
                    IpAddr::V4(v4) => assert_eq!(v4.octets()[..2], [239, 255]),
                    IpAddr::V6(v6) => assert_eq!(v6.segments()[..4], config.prefix_v6),
                }
            }
        }
    }

    #[test]
    fn foreign_answers_do_not_count() {
        let mut paths = GroupPaths::new(MulticastConfig::default(), 42);
        let (a, b) = (address(1), address(2));
        paths.insert(5, 1, Ipv4Addr::new(239, 192, 0, 1).into(), Some(0));
        let _ = paths.route(1, 5, &[a, b]);
        let mut sent = Vec::new();
        paths.advance(1, &mut |_, probe| sent.push(probe));
        for probe in sent {
            let foreign = Probe { token: 43, ..probe.answer().expect("answer") };
            paths.handle_heard(2, a, &foreign);
            paths.handle_heard(2, b, &foreign);
            assert!(!paths.handle_probe(2, a, &Probe { system_hash: 2, ..probe }), "another system");
        }
        assert_eq!(paths.route(3, 5, &[a, b]), None);
    }
}
