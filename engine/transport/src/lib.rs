//! Transports: how the engine's datagrams travel, and how the processes of one site know each other.
//!
//! Read in this order:
//! - [`transport`]: the narrow trait, and the vocabulary of destinations and reports;
//! - [`udp`]: UDP with batched system calls, unicast and multicast, and the self-test that decides between them;
//! - `shared_memory`: what passes between the processes of a site without the kernel;
//! - `site`: the site link, the runtime directory, certain death notices, the site's record;
//! - [`fault`]: seeded loss, duplication, delay and reordering;
//! - [`memory_pair`]: two ends inside one process, for tests;
//! - [`host`]: all of them joined into the one thing that the runtime drives.
//!
//! A transport promises little: a datagram arrives whole or not at all, perhaps twice, perhaps late. Whatever the
//! network or a stranger does is a counter, never an error and never a panic.

mod counters;
pub mod fault;
pub mod host;
pub mod memory_pair;
mod shared_memory;
mod site;
mod system;
pub mod transport;
pub mod udp;

pub use fault::{FaultConfig, FaultyTransport};
pub use host::{Founding, HostConfig, HostTransport, OpenError, RecordChange, SiteEvent, Waker};
pub use site::is_site_name;
pub use transport::{Capabilities, Datagram, Destination, TransmitReport, Transport};
pub use udp::{MulticastConfig, UdpConfig, UdpTransport};
