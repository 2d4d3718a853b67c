//! The floor of UDP on the loopback interface: round trips, and streams with as few calls of the kernel as it allows.

use super::{Measured, Waiting};
use crate::now_ns;
use crate::report;
use hdrhistogram::Histogram;
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a datagram that goes to and fro.
const PING: usize = 64;
/// A range for tests on one host; the last byte tells the two directions apart.
const GROUP: [u8; 3] = [239, 255, 86];
/// Who hears nothing for so long has lost a datagram, or hears no multicast.
const SILENCE: Duration = Duration::from_secs(3);
/// After the end of a stream, what comes within this time belongs to it.
const REST: Duration = Duration::from_millis(100);
/// Datagrams of one `sendmmsg`.
const MANY: usize = 16;
/// Socket buffers, as far as the kernel allows.
const BUFFER: usize = 4 << 20;
/// The longest payload handed over as one piece to be cut: below what an IPv4 datagram may have.
const PIECE: usize = 64_000;

/// How datagrams go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// To the other side's address.
    Unicast,
    /// To a group that the other side has joined, on the loopback interface.
    Multicast,
}

/// How a stream is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    /// Several datagrams in a call (`sendmmsg`).
    Many,
    /// One piece in a call, cut by the kernel (`UDP_SEGMENT`), and taken in one piece (`UDP_GRO`).
    Segments,
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    Ok(socket)
}

/// A socket, and where the other side receives.
struct Side {
    socket: Socket,
    to: SockAddr,
}

/// Two sides, each of which sends to where the other receives.
fn pair(path: Path) -> io::Result<(Side, Side)> {
    let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    if path == Path::Unicast {
        let (one, other) = (socket()?, socket()?);
        one.bind(&any.into())?;
        other.bind(&any.into())?;
        let (first, second) = (one.local_addr()?, other.local_addr()?);
        return Ok((Side { socket: one, to: second }, Side { socket: other, to: first }));
    }
    let address = |last: u8| Ipv4Addr::new(GROUP[0], GROUP[1], GROUP[2], last);
    let join = |last: u8| -> io::Result<(Socket, u16)> {
        let one = socket()?;
        // Bound to the group: nothing else is received, least of all what this socket sends.
        one.bind(&SocketAddrV4::new(address(last), 0).into())?;
        one.join_multicast_v4(&address(last), &Ipv4Addr::LOCALHOST)?;
        one.set_multicast_if_v4(&Ipv4Addr::LOCALHOST)?;
        let port = one.local_addr()?.as_socket().map_or(0, |address: SocketAddr| address.port());
        Ok((one, port))
    };
    let ((one, first), (other, second)) = (join(1)?, join(2)?);
    // Not connected: the datagrams come from the other side's own address, not from the group's.
    let (first, second) = (SocketAddrV4::new(address(1), first), SocketAddrV4::new(address(2), second));
    Ok((Side { socket: one, to: second.into() }, Side { socket: other, to: first.into() }))
}

/// Receives a datagram; `None`: nothing came for [`SILENCE`], or the end was called.
fn receive(mut socket: &Socket, buffer: &mut [u8], stop: &AtomicBool, waiting: Waiting) -> io::Result<Option<usize>> {
    let mut end = None;
    loop {
        match socket.read(buffer) {
            Ok(length) => return Ok(Some(length)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => (),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if stop.load(Ordering::Relaxed) || waiting == Waiting::Block {
            return Ok(None);
        }
        if Instant::now() > *end.get_or_insert_with(|| Instant::now() + SILENCE) {
            return Ok(None);
        }
        if waiting == Waiting::Yield {
            std::thread::yield_now();
        }
    }
}

fn prepare(socket: &Socket, waiting: Waiting) -> io::Result<()> {
    socket.set_nonblocking(waiting != Waiting::Block)?;
    socket.set_read_timeout(Some(SILENCE))
}

/// A datagram to and fro.
pub fn round_trip(time: Duration, path: Path, waiting: Waiting) -> Result<Histogram<u64>, String> {
    let plain = |error: io::Error| error.to_string();
    let (one, other) = pair(path).map_err(|error| match path {
        Path::Unicast => plain(error),
        Path::Multicast => format!("no multicast on the loopback interface here: {error}"),
    })?;
    prepare(&one.socket, waiting).map_err(plain)?;
    prepare(&other.socket, waiting).map_err(plain)?;
    let stop = AtomicBool::new(false);
    let mut histogram = report::histogram();
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| -> io::Result<()> {
            let mut buffer = [0; PING];
            while let Some(length) = receive(&other.socket, &mut buffer, &stop, waiting)? {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                other.socket.send_to(&buffer[..length], &other.to)?;
            }
            Ok(())
        });
        let mut buffer = [7; PING];
        let mut before = now_ns();
        let end = before + time.as_nanos() as u64;
        let mut result = Ok(());
        while before < end && result.is_ok() {
            result = one.socket.send_to(&buffer, &one.to).map_err(plain).and_then(|_| {
                match receive(&one.socket, &mut buffer, &stop, waiting).map_err(plain)? {
                    Some(_) => Ok(()),
                    None => Err(format!("no answer within {} ms", SILENCE.as_millis())),
                }
            });
            let now = now_ns();
            if result.is_ok() {
                histogram.saturating_record((now - before).max(1));
            }
            before = now;
        }
        stop.store(true, Ordering::Relaxed);
        // Wakes an answering side that sleeps; if this is lost, it wakes by itself after a while.
        let _ = one.socket.send_to(&buffer, &one.to);
        answering.join().map_err(|_| "the answering thread failed".to_owned())?.map_err(plain)?;
        result
    })?;
    Ok(histogram)
}

/// A stream of datagrams of this length, one way; what the receiver's buffer has no room for is lost, and counted.
pub fn stream(time: Duration, size: usize, sending: Sending) -> Result<Measured, String> {
    let plain = |error: io::Error| error.to_string();
    let (one, other) = pair(Path::Unicast).map_err(plain)?;
    let (to, one, other) = (one.to, one.socket, other.socket);
    one.connect(&to).map_err(plain)?;
    if sending == Sending::Segments {
        set_udp_option(&one, libc::UDP_SEGMENT, size).map_err(|error| format!("UDP_SEGMENT: {error}"))?;
        set_udp_option(&other, libc::UDP_GRO, 1).map_err(|error| format!("UDP_GRO: {error}"))?;
    }
    prepare(&other, Waiting::Block).map_err(plain)?;
    other.set_read_timeout(Some(REST)).map_err(plain)?;
    let (stop, never) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| -> io::Result<(u64, u64)> {
            let mut buffer = vec![0; 65_536];
            let (mut bytes, mut first, mut last) = (0_u64, 0, 1);
            loop {
                let ended = stop.load(Ordering::Relaxed);
                let Some(length) = receive(&other, &mut buffer, &never, Waiting::Block)? else {
                    if ended {
                        break;
                    }
                    continue;
                };
                last = now_ns();
                if first == 0 {
                    first = last;
                } else {
                    bytes += length as u64;
                }
            }
            Ok((bytes, last.saturating_sub(first).max(1)))
        });
        let end = Instant::now() + time;
        let mut sent = 0_u64;
        let mut result = Ok(());
        while Instant::now() < end && result.is_ok() {
            result = send(&one, size, sending).map(|count| sent += count);
        }
        stop.store(true, Ordering::Relaxed);
        let (bytes, elapsed) =
            receiving.join().map_err(|_| "the receiving thread failed".to_owned())?.map_err(plain)?;
        result?;
        let received = bytes / size as u64;
        // The first piece only starts the clock.
        let lost = sent.saturating_sub(received + first_piece(size, sending));
        Ok(Measured::Stream { per_second: received as f64 * 1e9 / elapsed as f64, size, lost })
    })
}

/// Datagrams that the receiver takes at once.
fn first_piece(size: usize, sending: Sending) -> u64 {
    if sending == Sending::Many { 1 } else { (PIECE / size) as u64 }
}

/// One call; gives how many datagrams that were.
fn send(socket: &Socket, size: usize, sending: Sending) -> Result<u64, String> {
    static ZEROS: [u8; PIECE] = [0; PIECE];
    if sending == Sending::Segments {
        let count = PIECE / size;
        return match socket.send(&ZEROS[..count * size]) {
            Ok(_) => Ok(count as u64),
            Err(error) => Err(format!("a piece to be cut: {error}")),
        };
    }
    let slices = [IoSlice::new(&ZEROS[..size])];
    let mut controls: [SendAncillaryBuffer; MANY] = std::array::from_fn(|_| SendAncillaryBuffer::default());
    let mut controls = controls.iter_mut();
    let mut headers: Vec<MMsgHdr> = Vec::with_capacity(MANY);
    headers.extend(controls.by_ref().map(|control| MMsgHdr::new(&slices, control)));
    match sendmmsg(socket, &mut headers, SendFlags::empty()) {
        Ok(count) => Ok(count as u64),
        Err(Errno::INTR | Errno::AGAIN | Errno::NOBUFS) => Ok(0),
        Err(error) => Err(format!("sendmmsg: {error}")),
    }
}

#[allow(unsafe_code)]
fn set_udp_option(socket: &Socket, option: i32, value: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(value).map_err(io::Error::other)?;
    // SAFETY: the descriptor is that of a live socket, and the pointer and the length are those of `value`, which lives
    // until after the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
