//! Records the datagrams that pass on this host's loopback, and sends them again with the sources that they had.
//!
//! By raw sockets, which take the capability CAP_NET_RAW; without it [`Capture::start`] says so.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, sendto, socket_with,
};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The most packets of one recording.
const PACKETS_MAX: usize = 20_000;
/// The most bytes of one recording.
const BYTES_MAX: usize = 64 << 20;
/// No packet is longer.
const PACKET_MAX: usize = 1 << 16;
/// Length of a UDP header.
const UDP: usize = 8;

/// An IPv4 packet with a UDP datagram in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    bytes: Vec<u8>,
    /// Length of its IP header.
    header: usize,
    /// Port of the sender.
    pub source: u16,
    /// Port of the receiver.
    pub destination: u16,
}

impl Packet {
    /// Reads a packet as a raw socket gives it; `None`: it is no whole UDP datagram.
    fn read(bytes: &[u8]) -> Option<Packet> {
        let header = usize::from(*bytes.first()? & 15) * 4;
        let port = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk::<2>()?));
        let whole = bytes[0] >> 4 == 4 && header >= 20 && usize::from(port(header + 4)?) == bytes.len() - header;
        let (source, destination) = (port(header)?, port(header + 2)?);
        whole.then(|| Packet { bytes: bytes.to_vec(), header, source, destination })
    }

    /// The datagram in it.
    pub fn datagram(&self) -> &[u8] {
        &self.bytes[self.header + UDP..]
    }

    /// Addresses it to this port of the loopback, wherever it went.
    pub fn readdress(&mut self, port: u16) {
        self.bytes[16..20].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
        self.bytes[self.header + 2..self.header + 4].copy_from_slice(&port.to_be_bytes());
        // No checksum: that of a packet on the loopback was never completed.
        self.bytes[self.header + 6..self.header + 8].copy_from_slice(&[0, 0]);
        self.destination = port;
    }
}

/// A recording that goes on.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Packet>>,
}

impl Capture {
    /// Records from now on, until it is finished or full.
    pub fn start() -> Result<Capture, String> {
        let socket = raw(ipproto::UDP)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut packets = Vec::new();
            let (mut bytes, mut buffer) = (0, vec![0; PACKET_MAX]);
            while !stopped.load(Ordering::Relaxed) && packets.len() < PACKETS_MAX && bytes < BYTES_MAX {
                match recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                    Ok((length, _)) => {
                        bytes += length;
                        packets.extend(Packet::read(&buffer[..length]));
                    }
                    Err(Errno::AGAIN) => std::thread::sleep(Duration::from_micros(100)),
                    Err(_) => (),
                }
            }
            packets
        });
        Ok(Capture { stop, thread })
    }

    /// What was recorded.
    pub fn finish(self) -> Vec<Packet> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// Sends packets again.
#[derive(Debug)]
pub struct Replay {
    socket: OwnedFd,
}

impl Replay {
    /// Opens the socket.
    pub fn open() -> Result<Replay, String> {
        Ok(Replay { socket: raw(ipproto::RAW)? })
    }

    /// Sends one, source included. A full buffer is no error: the packet is gone, as packets may be.
    pub fn send(&self, packet: &Packet) {
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let _ = sendto(&self.socket, &packet.bytes, SendFlags::DONTWAIT, &to);
    }
}

fn raw(protocol: Protocol) -> Result<OwnedFd, String> {
    socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))
        .map_err(|error| format!("a raw socket (CAP_NET_RAW): {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(source: u16, destination: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45; 1];
        bytes.resize(20, 0);
        bytes.extend_from_slice(&source.to_be_bytes());
        bytes.extend_from_slice(&destination.to_be_bytes());
        bytes.extend_from_slice(&((UDP + data.len()) as u16).to_be_bytes());
        bytes.extend_from_slice(&[9, 9]);
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn packets_are_read_and_readdressed() {
        let bytes = packet(7, 8, b"data");
        let mut read = Packet::read(&bytes).expect("a packet");
        assert_eq!((read.source, read.destination, read.datagram()), (7, 8, &b"data"[..]));
        read.readdress(300);
        let again = Packet::read(&read.bytes).expect("still a packet");
        assert_eq!((again.source, again.destination, again.datagram()), (7, 300, &b"data"[..]));
        for length in 0..bytes.len() {
            assert_eq!(Packet::read(&bytes[..length]), None, "cut to {length}");
        }
    }
}
