//! The one transport that the runtime drives: UDP, the site link, and the choice between them.

use crate::fault::FaultConfig;
use crate::transport::{Capabilities, Datagram, TransmitReport, Transport};
use isis_wire::Address;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// How a [`HostTransport`] is opened. `HostConfig::new` gives the defaults.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// 128 random bits, new at every start of an instance.
    pub nonce: u128,
    /// The runtime directory; `None`: `$XDG_RUNTIME_DIR/isis`, else `/tmp/isis-<uid>`.
    pub runtime_dir: Option<PathBuf>,
    /// Where to receive datagrams; port 0 takes a free one. `None`: the local address from which the first seed is
    /// reached, else 127.0.0.1.
    pub listen: Option<SocketAddr>,
    /// Where to look for other sites.
    pub seeds: Vec<SocketAddr>,
    /// Faults injected into what is received.
    pub faults: Option<FaultConfig>,
}

impl HostConfig {
    /// The defaults for this instance.
    pub fn new(nonce: u128) -> HostConfig {
        HostConfig { nonce, runtime_dir: None, listen: None, seeds: Vec::new(), faults: None }
    }
}

/// Why a transport could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// What the site link tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SiteEvent {
    /// A process of this site was found. Look at `address` for a system.
    PeerFound {
        /// Its nonce.
        nonce: u128,
        /// Where it receives datagrams.
        address: Address,
        /// The system that it belonged to when it said hello; 0: none yet.
        system: u128,
        /// Its user.
        uid: u32,
        /// Its process number, as seen here (0: in another process namespace).
        pid: u32,
    },
    /// A process of this site is dead, for certain. Once per nonce.
    PeerDied {
        /// Its nonce.
        nonce: u128,
    },
    /// An operator named an address: look there for a system.
    SeedAdded {
        /// The address.
        address: Address,
    },
    /// A process of this site speaks another version of the site link; it is left alone.
    Incompatible {
        /// Its version.
        version: u8,
    },
}

/// The answer to [`HostTransport::found`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Founding {
    /// The site belongs to the system that was asked for.
    Granted,
    /// The site belongs to this system: some live process says so.
    BelongsTo(u128),
}

/// UDP, the site link and the choice between them. One thread drives it.
#[derive(Debug)]
pub struct HostTransport {
    capabilities: Capabilities,
}

impl HostTransport {
    /// Opens the sockets, enters the runtime directory and connects to the processes of the site.
    pub fn open(config: HostConfig) -> Result<HostTransport, OpenError> {
        let _ = config;
        Err(OpenError::System { what: "not yet".into(), source: std::io::ErrorKind::Unsupported.into() })
    }

    /// Where the others reach this process.
    pub fn local_address(&self) -> Address {
        self.capabilities.local_address
    }

    /// 128 bits that all processes of this site compute alike.
    pub fn site_key(&self) -> u128 {
        0
    }

    /// One epoll descriptor that is readable when any of the sockets, process descriptors or the waker is.
    pub fn epoll_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: a placeholder until the sockets are opened; descriptor 0 is never read through it.
        unsafe { BorrowedFd::borrow_raw(0) }
    }

    /// Blocks until something is readable, the waker was used, or `timeout_ns` is over (`None`: for ever).
    pub fn wait(&mut self, timeout_ns: Option<u64>) {
        let _ = timeout_ns;
    }

    /// A handle by which other threads end [`HostTransport::wait`].
    pub fn waker(&self) -> Waker {
        Waker {}
    }

    /// What happened on the site. Cheap when nothing did.
    pub fn poll_site_event(&mut self) -> Option<SiteEvent> {
        None
    }

    /// A further address to look at; comes out as [`SiteEvent::SeedAdded`].
    pub fn add_seed(&mut self, seed: SocketAddr) {
        let _ = seed;
    }

    /// This process is a member of `group` of `system`: receive its multicasts.
    pub fn join_group(&mut self, system: u128, group: u64) {
        let _ = (system, group);
    }

    /// No longer.
    pub fn leave_group(&mut self, group: u64) {
        let _ = group;
    }

    /// May this process found `system` here? An error of kind `WouldBlock`: another process holds the lock, ask again.
    pub fn found(&mut self, system: u128) -> std::io::Result<Founding> {
        let _ = system;
        Ok(Founding::Granted)
    }

    /// This process belongs to `system` now.
    pub fn joined(&mut self, system: u128) -> std::io::Result<()> {
        let _ = system;
        Ok(())
    }

    /// Says to the others of the site that this instance is dead, and gives its place in the directory up. Also done
    /// by dropping, but not in a forked child. Nothing is sent or received afterwards.
    pub fn farewell(&mut self) {}

    /// For humans: which paths work, which do not, in which direction.
    pub fn path_report(&self) -> String {
        String::new()
    }
}

impl Transport for HostTransport {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
    fn receive_burst(&mut self, budget: usize, deliver: &mut dyn FnMut(Address, &[u8])) -> usize {
        let _ = (budget, deliver);
        0
    }
    fn transmit_burst<'a>(&mut self, datagrams: &mut dyn Iterator<Item = Datagram<'a>>) -> TransmitReport {
        let _ = datagrams;
        TransmitReport::default()
    }
    fn advance(&mut self, now_ns: u64) -> Option<u64> {
        let _ = now_ns;
        None
    }
    fn descriptors(&self, visit: &mut dyn FnMut(BorrowedFd<'_>)) {
        visit(self.epoll_fd());
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// Ends [`HostTransport::wait`] from any thread.
#[derive(Clone, Debug)]
pub struct Waker {}

impl Waker {
    /// Makes the current or the next `wait` return.
    pub fn wake(&self) {}
}
