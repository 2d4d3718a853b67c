//! Opening the UDP sockets, and asking the kernel what they can do.

use crate::system::{self, Interface};
use rustix::net::sockopt;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockFilter, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

/// Largest datagram handed to one `sendto`: what loopback's 65,536-byte MTU carries in one packet, less some room.
pub(crate) const DATAGRAM_MAX: usize = 65_000;

/// UDP payload of a 1,500-byte packet, when the kernel does not know better.
const DATAGRAM_DEFAULT: usize = 1_472;

/// Room of the headers in a packet: IPv4 or IPv6, and UDP.
fn headers(v6: bool) -> usize {
    if v6 { 48 } else { 28 }
}

/// The local address from which `destination` is reached, if there is a route.
pub(crate) fn source_towards(destination: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr =
        if destination.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let probe = UdpSocket::bind(any).ok()?;
    // Connecting a datagram socket sends nothing.
    probe.connect(destination).ok()?;
    probe.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}

/// The unicast socket: bound, nonblocking, close-on-exec.
#[derive(Debug)]
pub(crate) struct UnicastSocket {
    pub socket: Socket,
    /// Where others reach it.
    pub address: SocketAddr,
    /// The interface of `address`, if it has one that is up.
    pub interface: Option<Interface>,
    /// Largest unfragmented datagram on that interface.
    pub datagram_network: usize,
    pub v6: bool,
}

/// Opens the unicast socket at `listen` (port 0: any free one).
pub(crate) fn open_unicast(listen: SocketAddr, buffer: usize) -> io::Result<UnicastSocket> {
    let v6 = listen.is_ipv6();
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if v6 && listen.ip().is_unspecified() {
        // Both families on one socket; a host without IPv4 does not mind.
        let _ = socket.set_only_v6(false);
    }
    socket.bind(&SockAddr::from(scoped(listen)))?;
    set_buffers(&socket, buffer);
    set_fragmentation(&socket, v6, false);
    let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
    let ip = if listen.ip().is_unspecified() { address_of_host(v6) } else { listen.ip() };
    let interface = system::interface_of(ip);
    let datagram_network = interface
        .and_then(|interface| interface.mtu)
        .map_or(DATAGRAM_DEFAULT, |mtu| mtu.saturating_sub(headers(v6)).clamp(512, DATAGRAM_MAX));
    Ok(UnicastSocket { socket, address: SocketAddr::new(ip, port), interface, datagram_network, v6 })
}

/// A link-local address with the interface that has it, without which the kernel does not know which link is meant.
fn scoped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            let index = system::interface_of(address.ip()).map_or(0, |interface| interface.index);
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, index).into()
        }
        _ => address,
    }
}

/// What a socket bound to every address tells others: the address of the default route, else loopback.
fn address_of_host(v6: bool) -> IpAddr {
    // Documentation addresses: routed like any far host, and nothing is sent.
    if v6 {
        source_towards((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into()).unwrap_or(Ipv6Addr::LOCALHOST.into())
    } else {
        source_towards((Ipv4Addr::new(192, 0, 2, 1), 9).into()).unwrap_or(Ipv4Addr::LOCALHOST.into())
    }
}

/// Makes the buffers as large as the system lets: privileged processes beyond the system's maximum.
pub(crate) fn set_buffers(socket: &Socket, bytes: usize) {
    if sockopt::set_socket_recv_buffer_size_force(socket, bytes).is_err() {
        let _ = socket.set_recv_buffer_size(bytes);
    }
    if sockopt::set_socket_send_buffer_size_force(socket, bytes).is_err() {
        let _ = socket.set_send_buffer_size(bytes);
    }
}

/// Whether datagrams larger than the path's MTU are fragmented (`true`) or refused with `EMSGSIZE`.
pub(crate) fn set_fragmentation(socket: &Socket, v6: bool, allowed: bool) {
    use rustix::net::sockopt::{Ipv4PathMtuDiscovery as V4, Ipv6PathMtuDiscovery as V6};
    if v6 {
        let _ = sockopt::set_ipv6_mtu_discover(socket, if allowed { V6::DONT } else { V6::DO });
    }
    let _ = sockopt::set_ip_mtu_discover(socket, if allowed { V4::DONT } else { V4::DO });
}

/// Prepares the unicast socket for sending multicasts from the interface of its address.
pub(crate) fn prepare_multicast(unicast: &UnicastSocket, hops: u32) -> io::Result<()> {
    let socket = &unicast.socket;
    let index = unicast.interface.map_or(0, |interface| interface.index);
    match unicast.address.ip() {
        IpAddr::V4(v4) => {
            socket.set_multicast_if_v4(&v4)?;
            socket.set_multicast_ttl_v4(hops)?;
            socket.set_multicast_loop_v4(true)
        }
        IpAddr::V6(_) => {
            socket.set_multicast_if_v6(index)?;
            socket.set_multicast_hops_v6(hops)?;
            socket.set_multicast_loop_v6(true)
        }
    }
}

/// A socket that receives the multicasts of the groups joined on it, and nothing that this process sent itself.
pub(crate) fn open_multicast(unicast: &UnicastSocket, port: u16, buffer: usize) -> io::Result<Socket> {
    let v6 = unicast.address.is_ipv6();
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    if v6 {
        socket.set_only_v6(true)?;
        socket.set_multicast_all_v6(false)?;
    } else {
        socket.set_multicast_all_v4(false)?;
    }
    let any: SocketAddr = if v6 { (Ipv6Addr::UNSPECIFIED, port).into() } else { (Ipv4Addr::UNSPECIFIED, port).into() };
    // Before binding, so that not a single own datagram gets in. Where filters are refused, the reader sorts them out.
    let _ = socket.attach_filter(&own_datagram_filter(unicast.address));
    socket.bind(&any.into())?;
    set_buffers(&socket, buffer);
    Ok(socket)
}

/// A classic BPF program that drops datagrams from `own`, so that the kernel neither queues them nor wakes the reader.
fn own_datagram_filter(own: SocketAddr) -> Vec<SockFilter> {
    // Operation codes of linux/bpf_common.h.
    const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const NETWORK_HEADER: u32 = (-0x10_0000_i32) as u32; // SKF_NET_OFF
    let words: Vec<(u32, u32)> = match own.ip() {
        IpAddr::V4(v4) => vec![(12, u32::from(v4))],
        IpAddr::V6(v6) => v6
            .octets()
            .chunks_exact(4)
            .zip((8..).step_by(4))
            .map(|(word, offset)| (offset, u32::from_be_bytes([word[0], word[1], word[2], word[3]])))
            .collect(),
    };
    // Each comparison that fails jumps to the last instruction, which accepts; the one before it drops.
    let mut to_accept = (2 * words.len() + 1) as u8;
    let mut program = vec![
        // The socket's data begins at the UDP header: the source port.
        SockFilter::new(LOAD_HALF, 0, 0, 0),
        SockFilter::new(JUMP_EQUAL, 0, to_accept, u32::from(own.port())),
    ];
    for (offset, word) in words {
        to_accept -= 2;
        program.push(SockFilter::new(LOAD_WORD, 0, 0, NETWORK_HEADER.wrapping_add(offset)));
        program.push(SockFilter::new(JUMP_EQUAL, 0, to_accept, word));
    }
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    program
}

/// Joins the multicast address on the interface of the unicast address.
pub(crate) fn join(socket: &Socket, unicast: &UnicastSocket, group: IpAddr) -> io::Result<()> {
    let index = unicast.interface.map_or(0, |interface| interface.index);
    match (group, unicast.address.ip()) {
        (IpAddr::V4(group), IpAddr::V4(own)) => {
            let interface =
                if index == 0 { InterfaceIndexOrAddress::Address(own) } else { InterfaceIndexOrAddress::Index(index) };
            socket.join_multicast_v4_n(&group, &interface)
        }
        (IpAddr::V6(group), _) => socket.join_multicast_v6(&group, index),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Leaves it.
pub(crate) fn leave(socket: &Socket, unicast: &UnicastSocket, group: IpAddr) -> io::Result<()> {
    let index = unicast.interface.map_or(0, |interface| interface.index);
    match (group, unicast.address.ip()) {
        (IpAddr::V4(group), IpAddr::V4(own)) => {
            let interface =
                if index == 0 { InterfaceIndexOrAddress::Address(own) } else { InterfaceIndexOrAddress::Index(index) };
            socket.leave_multicast_v4_n(&group, &interface)
        }
        (IpAddr::V6(group), _) => socket.leave_multicast_v6(&group, index),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
