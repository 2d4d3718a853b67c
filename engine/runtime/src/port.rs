//! The transport as the loop sees it: [`HostTransport`], or an in-memory network of a test.
//!
//! Owner: the loop.

use crate::error::NodeError;
use crate::options::{OptionError, Options};
use isis_transport::{FaultConfig, Founding, HostConfig, HostTransport, SiteEvent, Transport};
use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;

/// A transport with its site. See [`HostTransport`] for what each method promises.
#[allow(missing_docs)]
pub(crate) trait Port: Transport + Debug {
    fn site_key(&self) -> u128;
    fn poll_site_event(&mut self) -> Option<SiteEvent>;
    fn found(&mut self, system: u128) -> io::Result<Founding>;
    fn joined(&mut self, system: u128) -> io::Result<()>;
    fn join_group(&mut self, system: u128, group: u64);
    fn leave_group(&mut self, group: u64);
    fn farewell(&mut self);
    /// Readable when there may be something to receive, or a site event.
    fn descriptor(&self) -> BorrowedFd<'_>;
}

impl Port for HostTransport {
    fn site_key(&self) -> u128 {
        HostTransport::site_key(self)
    }
    fn poll_site_event(&mut self) -> Option<SiteEvent> {
        HostTransport::poll_site_event(self)
    }
    fn found(&mut self, system: u128) -> io::Result<Founding> {
        HostTransport::found(self, system)
    }
    fn joined(&mut self, system: u128) -> io::Result<()> {
        HostTransport::joined(self, system)
    }
    fn join_group(&mut self, system: u128, group: u64) {
        HostTransport::join_group(self, system, group);
    }
    fn leave_group(&mut self, group: u64) {
        HostTransport::leave_group(self, group);
    }
    fn farewell(&mut self) {
        HostTransport::farewell(self);
    }
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll_fd()
    }
}

/// Opens the host's transport for a process with this nonce.
pub(crate) fn open_host(options: &Options, nonce: u128) -> Result<Box<dyn Port>, NodeError> {
    let mut config = HostConfig::new(nonce);
    config.runtime_dir = options.runtime_dir.clone();
    config.listen = listen(options)?;
    config.seeds = options.seeds.clone();
    config.faults = faults(&options.faults)?;
    HostTransport::open(config)
        .map(|transport| Box::new(transport) as Box<dyn Port>)
        .map_err(|error| NodeError::Transport(error.to_string()))
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

/// Reads the notation of [`FaultConfig`].
fn faults(text: &str) -> Result<Option<FaultConfig>, NodeError> {
    let mut config = FaultConfig::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let bad = || OptionError::Bad {
            name: "faults".to_owned(),
            value: part.to_owned(),
            wanted: "drop, dup, reorder (percent), delay_ms, jitter_ms or seed = a number".to_owned(),
        };
        let (name, value) = part.split_once('=').ok_or_else(bad)?;
        let number: f64 = value.trim().parse().map_err(|_| bad())?;
        match name.trim() {
            "drop" => config.drop_percent = number,
            "dup" => config.duplicate_percent = number,
            "reorder" => config.reorder_percent = number,
            "delay_ms" => config.delay_ns = (number * 1e6) as u64,
            "jitter_ms" => config.jitter_ns = (number * 1e6) as u64,
            "seed" => config.seed = number as u64,
            _ => return Err(bad().into()),
        }
    }
    Ok((!text.trim().is_empty()).then_some(config))
}
