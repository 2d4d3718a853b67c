//! The transport as the loop sees it: [`HostTransport`], or an in-memory network of a test.
//!
//! Owner: the loop.

use crate::arrivals::Arrivals;
use crate::error::NodeError;
use crate::options::{Multicast, OptionError, Options};
use isis_memory::arena::CHUNKS_MAX;
use isis_memory::{Arena, CHUNK_SIZE};
use isis_transport::{
    FaultConfig, Founding, HostConfig, HostTransport, MulticastConfig, RecordChange, SiteEvent, Transport,
};
use isis_wire::Address;
use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A transport with its site. See [`HostTransport`] for what each method promises.
#[allow(missing_docs)]
pub(crate) trait Port: Transport + Debug {
    fn site_key(&self) -> u128;
    fn poll_site_event(&mut self) -> Option<SiteEvent>;
    fn poll_refused(&mut self) -> Option<(Address, Vec<u8>)>;
    fn found(&mut self, system: u128) -> io::Result<Founding>;
    fn joined(&mut self, system: u128) -> io::Result<()>;
    fn change_record(&mut self, change: &mut dyn FnMut(&[u8], u128) -> io::Result<RecordChange>) -> io::Result<()>;
    fn join_group(&mut self, system: u128, group: u64);
    fn leave_group(&mut self, group: u64);
    fn kill(&mut self, nonce: u128) -> io::Result<()>;
    fn watch(&mut self, nonce: u128);
    fn farewell(&mut self);
    /// Readable when there may be something to receive, or a site event, once `prepare_sleep` has said so.
    fn descriptor(&self) -> BorrowedFd<'_>;
}

impl Port for HostTransport {
    fn site_key(&self) -> u128 {
        HostTransport::site_key(self)
    }
    fn poll_site_event(&mut self) -> Option<SiteEvent> {
        HostTransport::poll_site_event(self)
    }
    fn poll_refused(&mut self) -> Option<(Address, Vec<u8>)> {
        HostTransport::poll_refused(self)
    }
    fn found(&mut self, system: u128) -> io::Result<Founding> {
        HostTransport::found(self, system)
    }
    fn joined(&mut self, system: u128) -> io::Result<()> {
        HostTransport::joined(self, system)
    }
    fn change_record(&mut self, change: &mut dyn FnMut(&[u8], u128) -> io::Result<RecordChange>) -> io::Result<()> {
        HostTransport::change_record(self, change)
    }
    fn join_group(&mut self, system: u128, group: u64) {
        HostTransport::join_group(self, system, group);
    }
    fn leave_group(&mut self, group: u64) {
        HostTransport::leave_group(self, group);
    }
    fn kill(&mut self, nonce: u128) -> io::Result<()> {
        HostTransport::kill(self, nonce)
    }
    fn watch(&mut self, nonce: u128) {
        HostTransport::watch_process(self, nonce);
    }
    fn farewell(&mut self) {
        HostTransport::farewell(self);
    }
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll_fd()
    }
}

/// The chunks that processes of this site read where they lie. `None`: switched off, or the system has no memory for them; or
/// what arrives is recorded, and has to be all there is.
pub(crate) fn arena(options: &Options) -> Option<Arc<Arena>> {
    let chunks = options.shared_memory_streams.div_ceil(CHUNK_SIZE).min(CHUNKS_MAX as usize) as u32;
    let wanted = options.shared_memory && chunks > 0 && options.arrivals.is_none();
    wanted.then(|| Arena::create(chunks).ok()).flatten().map(Arc::new)
}

/// Opens the host's transport for a process with this nonce.
pub(crate) fn open_host(options: &Options, nonce: u128, arena: Option<Arc<Arena>>) -> Result<Box<dyn Port>, NodeError> {
    let mut config = HostConfig::new(nonce);
    config.runtime_dir = options.runtime_dir.clone();
    config.named_site = options.named_site()?;
    config.listen = listen(options)?;
    config.seeds = options.seeds.clone();
    config.faults = faults(&options.faults)?;
    config.multicast = multicast(options.multicast);
    config.datagram_network = options.datagram_network;
    config.in_runs = options.offload;
    config.shared_memory = options.shared_memory.then_some(options.shared_memory_log);
    config.arena = arena;
    config.allow_kill = options.allow_kill;
    let port: Box<dyn Port> =
        Box::new(HostTransport::open(config).map_err(|error| NodeError::Transport(error.to_string()))?);
    match &options.arrivals {
        None => Ok(port),
        Some(file) => match Arrivals::record(port, file) {
            Ok(port) => Ok(Box::new(port)),
            Err(error) => Err(NodeError::Transport(format!("{}: {error}", file.display()))),
        },
    }
}

/// Where to receive; `None` leaves it to the transport.
fn listen(options: &Options) -> Result<Option<SocketAddr>, NodeError> {
    match (options.bind, options.port, options.seeds.first()) {
        (Some(ip), port, _) => Ok(Some(SocketAddr::new(ip, port))),
        (None, 0, _) => Ok(None),
        (None, port, None) => Ok(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))),
        (None, port, Some(seed)) => {
            let any: IpAddr = if seed.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
            let local = UdpSocket::bind((any, 0))
                .and_then(|socket| socket.connect(seed).and_then(|()| socket.local_addr()))
                .map_err(|error| {
                    NodeError::system("looking for the local address that reaches the first seed", error)
                })?;
            Ok(Some(SocketAddr::new(local.ip(), port)))
        }
    }
}

/// Reads the notation of [`FaultConfig`]. `Options::set` does so first; the field may have been set directly.
pub(crate) fn faults(text: &str) -> Result<Option<FaultConfig>, OptionError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| OptionError::Bad {
        name: "faults".to_owned(),
        value: text.to_owned(),
        wanted: "a list of drop=, dup=, reorder= (percent), delay_ms=, jitter_ms=, seed=, with numbers".to_owned(),
    })
}

/// The transport's multicast settings.
fn multicast(choice: Multicast) -> MulticastConfig {
    let mut config = MulticastConfig::default();
    match choice {
        Multicast::Auto => (),
        Multicast::Off => config.enabled = false,
        Multicast::Range { base: IpAddr::V4(base), .. } => config.range_v4 = base,
        Multicast::Range { base: IpAddr::V6(base), .. } => {
            let [a, b, c, d, ..] = base.segments();
            config.prefix_v6 = [a, b, c, d];
        }
    }
    config
}
