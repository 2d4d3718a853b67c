//! The paths to the processes of the site, and the choice between them.
//!
//! ```text
//!              found           both have mapped the other's log
//!  (unknown) ────────► link ────────────────────────────────────► shared memory
//!                      ▲  │ a UDP probe was answered                    ▲
//!   no answer for      │  ▼                                             │
//!   LAPSE_NS           UDP ─────────────────────────────────────────────┘
//! ```
//! Shared memory lasts as long as the other process lives. UDP is probed only where it is used.
//!
//! Owner: `HostTransport`.

use crate::shared_memory::SharedMemory;
use isis_wire::Address;
use rustc_hash::FxHashMap;
use std::fmt::Write as _;

/// A UDP path within the site is asked this often while it works, …
const PROBE_NS: u64 = 1_000_000_000;
/// … from this often while it does not (doubling up to `PROBE_NS`), …
const PROBE_FIRST_NS: u64 = 5_000_000;
/// … and given up after this long without an answer.
const LAPSE_NS: u64 = 3_500_000_000;

/// How a process of the site is reached, if not by UDP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// By shared memory; its bit among the readers.
    Memory(u64),
    /// Over the site link.
    Link,
}

/// The path to one process of the site.
#[derive(Debug)]
struct LocalPath {
    nonce: u128,
    address: Address,
    route: Option<Route>,
    found_ns: u64,
    /// It answered by UDP then; `None`: not, or too long ago.
    answered_ns: Option<u64>,
    probe_ns: u64,
    interval_ns: u64,
    number: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Paths {
    local_udp: bool,
    list: Vec<LocalPath>,
    /// Who is not reached by UDP.
    routes: FxHashMap<Address, Route>,
    links: usize,
    /// How often UDP was given up.
    pub changes_to_link: u64,
}

impl Paths {
    pub fn new(local_udp: bool) -> Paths {
        Paths { local_udp, list: Vec::new(), routes: FxHashMap::default(), links: 0, changes_to_link: 0 }
    }

    /// A process was found.
    pub fn add(&mut self, now_ns: u64, nonce: u128, address: Address) {
        self.list.push(LocalPath {
            nonce,
            address,
            route: None,
            found_ns: now_ns,
            answered_ns: None,
            probe_ns: now_ns,
            interval_ns: PROBE_FIRST_NS,
            number: 0,
        });
    }

    /// A process is dead.
    pub fn remove(&mut self, nonce: u128) {
        self.list.retain(|path| path.nonce != nonce);
    }

    /// To be called after every change.
    pub fn choose(&mut self, memory: &SharedMemory) {
        self.routes.clear();
        self.links = 0;
        for path in &mut self.list {
            path.route = match memory.route(path.nonce) {
                Some(bit) => Some(Route::Memory(bit)),
                None => path.answered_ns.is_none().then_some(Route::Link),
            };
            self.links += usize::from(path.route == Some(Route::Link));
            self.routes.extend(path.route.map(|route| (path.address, route)));
        }
    }

    /// How this process is reached; `None`: by UDP.
    pub fn route(&self, address: &Address) -> Option<Route> {
        self.routes.get(address).copied()
    }

    pub fn all_by_udp(&self) -> bool {
        self.routes.is_empty()
    }

    pub fn uses_link(&self) -> bool {
        self.links > 0
    }

    pub fn uses_memory(&self) -> bool {
        self.routes.len() > self.links
    }

    /// How many processes are reached over the link.
    pub fn links(&self) -> usize {
        self.links
    }

    /// Sends the probes that are due; says when to call again, and whether an answer was missed for too long.
    pub fn advance(&mut self, now_ns: u64, probe: &mut dyn FnMut(Address, u64)) -> (Option<u64>, bool) {
        let mut next: Option<u64> = None;
        let mut lapsed = 0;
        if !self.local_udp {
            return (None, false);
        }
        for path in &mut self.list {
            if matches!(path.route, Some(Route::Memory(_))) {
                continue;
            }
            if path.answered_ns.is_some_and(|then| now_ns.saturating_sub(then) > LAPSE_NS) {
                path.answered_ns = None;
                path.interval_ns = PROBE_FIRST_NS;
                lapsed += 1;
            }
            if now_ns >= path.probe_ns {
                path.number += 1;
                probe(path.address, path.number);
                path.probe_ns = now_ns + path.interval_ns;
                path.interval_ns = (path.interval_ns * 2).min(PROBE_NS);
            }
            next = Some(next.map_or(path.probe_ns, |next| next.min(path.probe_ns)));
        }
        self.changes_to_link += lapsed;
        (next, lapsed > 0)
    }

    /// A probe was answered. Says whether that changes anything.
    pub fn handle_answer(&mut self, now_ns: u64, from: Address, number: u64) -> bool {
        let Some(path) = self.list.iter_mut().find(|path| path.address == from && number + 3 >= path.number) else {
            return false;
        };
        let first = path.answered_ns.is_none();
        path.answered_ns = Some(now_ns);
        path.interval_ns = PROBE_NS;
        first
    }

    /// For humans: a line for each path.
    pub fn report(&self, now_ns: u64, own: Address, text: &mut String) {
        for path in &self.list {
            let seconds = |then: u64| now_ns.saturating_sub(then) as f64 / 1e9;
            let state = match (path.route, path.answered_ns) {
                (Some(Route::Memory(_)), _) => "shared memory".to_owned(),
                _ if !self.local_udp => "site link: UDP within the site is switched off".to_owned(),
                (_, Some(then)) => format!("UDP works both ways, confirmed {:.1} s ago", seconds(then)),
                (_, None) => format!(
                    "site link: UDP FAILS from {own:?} to {:?} or back: no answer to probe {} since {:.1} s",
                    path.address,
                    path.number,
                    seconds(path.found_ns)
                ),
            };
            let _ = writeln!(text, "process {:08x} of this site at {:?}: {state}", path.nonce as u32, path.address);
        }
    }
}
