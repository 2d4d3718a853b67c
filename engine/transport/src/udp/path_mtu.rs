//! How large a datagram may be towards other hosts: found out by probes, so that none is fragmented and none vanishes in
//! a link that is narrower than its own host's and does not say so (RFC 8899, datagram path MTU discovery).
//!
//! Owned by [`super::UdpTransport`]; no sockets and no clock in here. Padded probes of the usual sizes go to every host
//! that datagrams are sent to; the largest that is answered is that path's size, and the smallest of all paths is that of
//! this process, since a datagram may go to all.
//!
//! ```text
//!            a new peer                an answer                  unanswered for LAPSE_NS, smaller ones are not
//!  unknown ─────────────► BASE ─────────────────────► its size ─────────────────────────────────► a smaller one
//! ```
//!
//! Invariant: what [`PathMtu::current`] says was answered by each peer in use lately that answers at all, or is `BASE`, which any
//! path takes that IPv6 may use.

use isis_wire::Address;

/// UDP payload that fits into the smallest packet that IPv6 allows (1,280 bytes), with room for a tunnel.
pub(crate) const BASE: usize = 1_200;
/// Payloads of the packet sizes in use: 1,280, 1,400, 1,420, 1,450, 1,480, 1,492, 1,500 and 9,000 bytes, of either family.
const SIZES: [usize; 15] =
    [1_232, 1_252, 1_352, 1_372, 1_392, 1_400, 1_422, 1_432, 1_444, 1_452, 1_464, 1_472, 4_052, 8_952, 8_972];
/// Rounds of probes to a new peer come after these pauses, …
const FIRST_ROUNDS_NS: [u64; 4] = [20_000_000, 80_000_000, 300_000_000, 1_000_000_000];
/// … later after this, with the smallest size and the one in use; …
const ROUND_NS: u64 = 1_000_000_000;
/// … and each so many rounds with all sizes again.
const ALL_SIZES_EVERY: usize = 16;
/// A size that was not answered for this long, while smaller ones were, does not pass any more.
const LAPSE_NS: u64 = 3_500_000_000;
/// A peer that was no destination for this long does not count, …
const UNUSED_NS: u64 = 5_000_000_000;
/// … and is forgotten after this.
const FORGET_NS: u64 = 60_000_000_000;

#[derive(Debug)]
struct Peer {
    address: Address,
    used_ns: u64,
    /// Per size of `PathMtu::sizes`: answered then.
    answered_ns: Vec<Option<u64>>,
    /// Any size.
    last_ns: u64,
    /// What passed when probes were sent last.
    passed: usize,
    rounds: usize,
    probe_ns: u64,
}

impl Peer {
    /// The largest size that passes, as far as is known. A peer that answers nothing at all says nothing about sizes.
    fn size(&self, sizes: &[usize]) -> usize {
        let passes = |then: &Option<u64>| then.is_some_and(|then| self.last_ns.saturating_sub(then) <= LAPSE_NS);
        let best = self.answered_ns.iter().rposition(passes);
        best.map_or(sizes[0], |index| sizes[index])
    }

    /// Datagrams went to it of late, and it has answered, or may still: where a process once was, and which the search for others
    /// keeps asking, nothing gets through, of whatever size.
    fn counts(&self, now_ns: u64) -> bool {
        let is_new = self.rounds <= FIRST_ROUNDS_NS.len();
        now_ns.saturating_sub(self.used_ns) < UNUSED_NS && (self.last_ns > 0 || is_new)
    }
}

/// The paths from this process to others.
#[derive(Debug)]
pub(crate) struct PathMtu {
    /// What is tried, ascending; the first one is taken for granted.
    sizes: Vec<usize>,
    /// Probing is of no use: loopback, or nothing between the limits.
    fixed: Option<usize>,
    own: Address,
    peers: Vec<Peer>,
    /// The last destinations that were noted since the last look.
    noted: Vec<Address>,
    current: usize,
}

impl PathMtu {
    /// `most`: what the own link takes, or the user allows. `loopback`: it is no network.
    pub(crate) fn new(own: Address, most: usize, loopback: bool) -> PathMtu {
        let fixed = (loopback || most <= BASE).then_some(most);
        let mut sizes = vec![BASE.min(most)];
        sizes.extend(SIZES.into_iter().filter(|size| *size < most));
        sizes.push(most);
        sizes.dedup();
        PathMtu { current: fixed.unwrap_or(BASE), sizes, fixed, own, peers: Vec::new(), noted: Vec::new() }
    }

    /// The largest datagram for all paths in use.
    pub(crate) fn current(&self) -> usize {
        self.current
    }

    /// Datagrams go to these. Called for every datagram, so it looks closer only once in a while.
    pub(crate) fn note(&mut self, now_ns: u64, peers: &[Address]) {
        if self.fixed.is_some() || self.noted == peers {
            return;
        }
        self.noted.clear();
        self.noted.extend_from_slice(peers);
        let own = self.own.ip;
        for address in peers.iter().filter(|address| address.ip != own) {
            match self.peers.iter_mut().find(|peer| peer.address == *address) {
                Some(peer) => peer.used_ns = now_ns,
                None => {
                    let answered_ns = vec![None; self.sizes.len()];
                    let (address, used_ns, probe_ns) = (*address, now_ns, now_ns);
                    self.peers.push(Peer { address, used_ns, answered_ns, last_ns: 0, passed: 0, rounds: 0, probe_ns });
                    self.look(now_ns);
                }
            }
        }
    }

    /// A probe of this size was answered.
    pub(crate) fn handle_answer(&mut self, now_ns: u64, from: Address, size: u64) {
        let Some(index) = self.sizes.iter().position(|known| *known as u64 == size) else { return };
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.address == from) else { return };
        if now_ns.saturating_sub(peer.last_ns) > LAPSE_NS {
            // It was not there for a while, or never: what was tried meanwhile says nothing.
            peer.rounds = 0;
            peer.probe_ns = now_ns;
        }
        peer.answered_ns[index] = Some(now_ns);
        peer.last_ns = now_ns;
        self.look(now_ns);
    }

    /// The kernel has learnt that some path is narrower than thought: find out anew which.
    pub(crate) fn handle_too_long(&mut self, now_ns: u64) {
        for peer in &mut self.peers {
            peer.answered_ns.fill(None);
            peer.rounds = 0;
            peer.probe_ns = now_ns;
        }
        self.look(now_ns);
    }

    fn look(&mut self, now_ns: u64) {
        let counting = self.peers.iter().filter(|peer| peer.counts(now_ns));
        self.current = counting.map(|peer| peer.size(&self.sizes)).min().unwrap_or(self.sizes[0]);
    }

    /// Sends the probes that are due: to whom, of which size. Says when to call again.
    pub(crate) fn advance(&mut self, now_ns: u64, send: &mut dyn FnMut(Address, usize)) -> Option<u64> {
        if self.fixed.is_some() {
            return None;
        }
        self.noted.clear();
        self.peers.retain(|peer| now_ns.saturating_sub(peer.used_ns) < FORGET_NS);
        for peer in &mut self.peers {
            let passes = peer.size(&self.sizes);
            if passes < peer.passed {
                // It got narrower: how much, is to be found out at once.
                peer.rounds = 0;
                peer.probe_ns = now_ns;
                peer.passed = passes;
            }
            if now_ns >= peer.probe_ns && now_ns.saturating_sub(peer.used_ns) < UNUSED_NS {
                let all = peer.rounds <= FIRST_ROUNDS_NS.len() || peer.rounds.is_multiple_of(ALL_SIZES_EVERY);
                let smallest = self.sizes[0];
                let chosen = self.sizes.iter().filter(|size| all || **size == smallest || **size == passes);
                chosen.for_each(|size| send(peer.address, *size));
                peer.passed = passes;
                peer.probe_ns = now_ns + FIRST_ROUNDS_NS.get(peer.rounds).copied().unwrap_or(ROUND_NS);
                peer.rounds += 1;
            }
        }
        self.look(now_ns);
        self.peers.iter().map(|peer| peer.probe_ns.max(now_ns + 1)).min()
    }

    /// For humans.
    pub(crate) fn report(&self, text: &mut String) {
        use std::fmt::Write as _;
        for peer in &self.peers {
            let _ = writeln!(text, "datagrams to {:?}: up to {} bytes pass", peer.address, peer.size(&self.sizes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn address(host: u8) -> Address {
        std::net::SocketAddr::from(([10, 0, 0, host], 7000)).into()
    }

    /// Lets each peer answer the sizes that its path takes, for a while.
    fn run(mtu: &mut PathMtu, from_ms: u64, for_ms: u64, paths: &[(u8, usize)]) {
        for now_ns in (from_ms..from_ms + for_ms).map(|ms| ms * MS) {
            mtu.note(now_ns, &paths.iter().map(|(host, _)| address(*host)).collect::<Vec<_>>());
            let mut sent = Vec::new();
            mtu.advance(now_ns, &mut |to, size| sent.push((to, size)));
            for (to, size) in sent {
                if paths.iter().any(|(host, takes)| address(*host) == to && size <= *takes) {
                    mtu.handle_answer(now_ns, to, size as u64);
                }
            }
        }
    }

    /// The narrowest path in use decides; a new one counts as narrow until it has answered; one that narrows is noticed.
    #[test]
    fn the_narrowest_path_decides() {
        let mut mtu = PathMtu::new(address(9), 8_972, false);
        assert_eq!(mtu.current(), BASE);
        run(&mut mtu, 1, 100, &[(1, 8_972), (2, 8_972)]);
        assert_eq!(mtu.current(), 8_972);
        mtu.note(200 * MS, &[address(3)]);
        assert_eq!(mtu.current(), BASE, "nothing is known of the third");
        run(&mut mtu, 200, 100, &[(1, 8_972), (2, 8_972), (3, 1_372)]);
        assert_eq!(mtu.current(), 1_372);
        run(&mut mtu, 300, 6_000, &[(1, 8_972), (2, 8_972)]);
        assert_eq!(mtu.current(), 8_972, "the third is no destination any more");
        run(&mut mtu, 6_300, 14_000, &[(1, 8_972), (2, 1_472)]);
        assert_eq!(mtu.current(), 1_472, "a path narrowed");
        mtu.handle_too_long(21_000 * MS);
        assert_eq!(mtu.current(), BASE);
    }

    /// A peer that answers nothing is dead or cut off; its path is as wide as it was.
    #[test]
    fn silence_says_nothing_about_sizes() {
        let mut mtu = PathMtu::new(address(9), 1_472, false);
        run(&mut mtu, 1, 100, &[(1, 1_472)]);
        run(&mut mtu, 101, 20_000, &[(1, 0)]);
        assert_eq!(mtu.current(), 1_472);
    }

    /// An address that is asked for ever, and where nobody is any more, does not hold the others up; if somebody is there after all,
    /// it counts from its first answer on.
    #[test]
    fn who_never_answered_does_not_count() {
        let mut mtu = PathMtu::new(address(9), 8_972, false);
        run(&mut mtu, 1, 20_000, &[(1, 8_972), (2, 0)]);
        assert_eq!(mtu.current(), 8_972);
        mtu.handle_answer(20_000 * MS, address(2), BASE as u64);
        assert_eq!(mtu.current(), BASE);
        run(&mut mtu, 20_001, 3_000, &[(1, 8_972), (2, 1_472)]);
        assert_eq!(mtu.current(), 1_472);
    }

    /// Who comes back after a long silence is asked for all sizes at once.
    #[test]
    fn a_path_that_comes_back_is_tried_anew() {
        let mut mtu = PathMtu::new(address(9), 8_972, false);
        run(&mut mtu, 1, 20_000, &[(1, 0)]);
        assert_eq!(mtu.current(), BASE);
        run(&mut mtu, 20_001, 1_200, &[(1, 8_972)]);
        assert_eq!(mtu.current(), 8_972);
    }

    #[test]
    fn loopback_and_the_own_host_are_not_probed() {
        let mut mtu = PathMtu::new(address(9), 65_000, true);
        mtu.note(1, &[address(1)]);
        assert_eq!(mtu.advance(2, &mut |_, _| panic!("probed")), None);
        assert_eq!(mtu.current(), 65_000);
        let mut mtu = PathMtu::new(address(9), 1_472, false);
        mtu.note(1, &[address(9)]);
        assert_eq!(mtu.advance(2, &mut |_, _| panic!("probed")), None);
    }
}
