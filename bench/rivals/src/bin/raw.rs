//! No system at all: what a message by itself takes, under the load and the checks of the rivals. Transports: `ring` (each member writes
//! a ring of messages in shared memory that the others read, and waits for the slowest), `udp-multicast` (a datagram each, by
//! multicast on the loopback interface; what the receivers have no room for is lost, and counted).

use isis_rivals::talk::Start;
use isis_rivals::{System, run};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::net::sockopt;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a ring, about: it stays in the processor's caches.
const RING: usize = 1 << 20;
/// Words before the slots: how far this member has read the ring of each member.
const HEADER: usize = 64;
/// Words of a slot before its payload: the number of the message, written last.
const NUMBER: usize = 1;
/// Messages taken of one member before the others have their turn.
const TURN: usize = 64;
/// Socket buffers, as far as the kernel allows.
const BUFFER: usize = 4 << 20;
/// Where all members listen.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 20, 30, 41);

enum Member {
    Ring(Ring),
    Udp(Udp),
}

/// A file of the run, as words that all members see.
struct Words(&'static [AtomicU64]);

impl Words {
    fn open(path: &PathBuf, words: usize) -> Result<Words, String> {
        let text = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| text(&error))?;
        let bytes = words * 8;
        // Whoever comes first makes it as long as everybody wants it.
        file.set_len(bytes as u64).map_err(|error| text(&error))?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, &file, 0) };
        let start = start.map_err(|error| text(&error))?;
        // SAFETY: the mapping has so many bytes, is aligned to a page, is never unmapped, and is only used as atomic words, by
        // all processes; nobody makes the file shorter.
        Ok(Words(unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), words) }))
    }
}

struct Ring {
    own: usize,
    rings: Vec<Words>,
    /// How many messages of each ring were read.
    read: Vec<u64>,
    /// How many of the own one were written.
    written: u64,
    slots: usize,
    /// Words of a slot.
    words: usize,
    message: Vec<u8>,
}

impl Ring {
    fn open(start: &Start) -> Result<Ring, String> {
        let words = (NUMBER + start.size.div_ceil(8)).next_multiple_of(8);
        let slots = (RING / 8 / words).max(4);
        let open = |index| Words::open(&start.directory.join(format!("raw-{index}")), HEADER + slots * words);
        Ok(Ring {
            own: usize::from(start.index),
            rings: (0..start.members).map(open).collect::<Result<_, _>>()?,
            read: vec![0; usize::from(start.members)],
            written: 0,
            slots,
            words,
            message: vec![0; start.size],
        })
    }

    fn slot(&self, member: usize, number: u64) -> &'static [AtomicU64] {
        let first = HEADER + (number % self.slots as u64) as usize * self.words;
        &self.rings[member].0[first..first + self.words]
    }

    fn send(&mut self, message: &[u8]) -> bool {
        let number = self.written;
        // Acquire: pairs with the Release of the reader, which has read what is overwritten now.
        let slowest = self.rings.iter().map(|ring| ring.0[self.own].load(Ordering::Acquire)).min().unwrap_or(0);
        if number - slowest >= self.slots as u64 {
            return false;
        }
        let slot = self.slot(self.own, number);
        for (word, bytes) in slot[NUMBER..].iter().zip(message.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
        // Release: whoever sees the number sees the payload.
        slot[0].store(number + 1, Ordering::Release);
        self.written += 1;
        true
    }

    fn poll<F: FnMut(&[u8])>(&mut self, deliver: &mut F) -> usize {
        let mut done = 0;
        for member in 0..self.rings.len() {
            let before = self.read[member];
            for _ in 0..TURN {
                let number = self.read[member];
                let slot = self.slot(member, number);
                // Acquire: pairs with the Release of the writer.
                if slot[0].load(Ordering::Acquire) != number + 1 {
                    break;
                }
                for (bytes, word) in self.message.chunks_mut(8).zip(&slot[NUMBER..]) {
                    let word = word.load(Ordering::Relaxed).to_le_bytes();
                    bytes.copy_from_slice(&word[..bytes.len()]);
                }
                self.read[member] += 1;
                deliver(&self.message);
            }
            if self.read[member] != before {
                // Release: the writer may overwrite what was read.
                self.rings[self.own].0[member].store(self.read[member], Ordering::Release);
                done += (self.read[member] - before) as usize;
            }
        }
        done
    }
}

struct Udp {
    socket: OwnedFd,
    to: SocketAddrV4,
    buffer: Vec<u8>,
}

impl Udp {
    fn open(start: &Start) -> Result<Udp, String> {
        let open = || -> rustix::io::Result<Udp> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
            sockopt::set_socket_reuseaddr(&socket, true)?;
            sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
            sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
            let to = SocketAddrV4::new(GROUP, start.port);
            // Bound to the group: nothing else is received.
            rustix::net::bind(&socket, &to)?;
            sockopt::set_ip_add_membership(&socket, &GROUP, &Ipv4Addr::LOCALHOST)?;
            sockopt::set_ip_multicast_if(&socket, &Ipv4Addr::LOCALHOST)?;
            sockopt::set_ip_multicast_loop(&socket, true)?;
            Ok(Udp { socket, to, buffer: vec![0; start.size + 1] })
        };
        open().map_err(|error| format!("multicast on the loopback interface: {error}"))
    }
}

fn open(start: &Start) -> Result<Member, String> {
    match start.transport.as_str() {
        "ring" => Ring::open(start).map(Member::Ring),
        "udp-multicast" => Udp::open(start).map(Member::Udp),
        other => Err(format!("there is no transport {other}")),
    }
}

impl System for Member {
    /// Who maps the rings later finds in them what was written before; who joins later has missed it. The driver waits for all
    /// members before it lets any of them send.
    fn ready(&mut self) -> Result<bool, String> {
        Ok(true)
    }

    fn send(&mut self, message: &[u8]) -> Result<bool, String> {
        match self {
            Member::Ring(ring) => Ok(ring.send(message)),
            Member::Udp(udp) => match rustix::net::sendto(&udp.socket, message, SendFlags::empty(), &udp.to) {
                Ok(_) => Ok(true),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => Ok(false),
                Err(error) => Err(format!("sendto: {error}")),
            },
        }
    }

    fn poll<F: FnMut(&[u8])>(&mut self, deliver: &mut F) -> Result<usize, String> {
        match self {
            Member::Ring(ring) => Ok(ring.poll(deliver)),
            Member::Udp(udp) => {
                for done in 0..TURN {
                    match rustix::net::recv(&udp.socket, &mut udp.buffer[..], RecvFlags::empty()) {
                        Ok((length, _)) => deliver(&udp.buffer[..length]),
                        Err(rustix::io::Errno::AGAIN) => return Ok(done),
                        Err(error) => return Err(format!("recv: {error}")),
                    }
                }
                Ok(TURN)
            }
        }
    }
}

fn main() -> ExitCode {
    run(open)
}
