//! Where a process receives datagrams.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A process's unicast address: an IPv6 address (IPv4 is written as v4-mapped) and a UDP port.
///
/// The protocol core treats it as opaque; the simulator puts a node number in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address {
    /// The IPv6 or v4-mapped address.
    pub ip: [u8; 16],
    /// The UDP port.
    pub port: u16,
}

impl Address {
    /// The socket address, with v4-mapped addresses turned back into IPv4.
    pub fn to_socket(self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from(self.ip).to_canonical(), self.port)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        let ip = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Address { ip, port: address.port() }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_socket())
    }
}
