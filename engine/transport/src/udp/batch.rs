//! Batches for `sendmmsg` and `recvmmsg`: arrays allocated once, used for every burst.
//!
//! Owned by one [`super::UdpTransport`]. Invariants: the pointers of a receive batch point into its own arrays, which
//! are allocated once and never grow, so they stay valid as long as it lives; those of a send batch are written right
//! before the call that uses them and read by nothing else.

use isis_wire::Address;
use socket2::SockAddr;
use std::io;
use std::mem::zeroed;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Datagrams in one system call, at most.
pub(crate) const BATCH: usize = 64;

/// Bytes of a receive buffer: no UDP datagram is longer.
const BUFFER: usize = 65_536;

/// Room for any socket address.
const NAME: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

/// Takes a datagram and its sender; `None` for one that was truncated or came from no internet address.
pub(crate) type Deliver<'a> = dyn FnMut(Option<(Address, &[u8])>) + 'a;

/// The buffers of one `recvmmsg`.
pub(crate) struct ReceiveBatch {
    /// `BATCH` buffers of `BUFFER` bytes; pages that no datagram reached are never touched.
    buffers: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    parts: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

// SAFETY: the raw pointers in `parts` and `messages` point into heap allocations that the structure itself owns, which
// stay where they are when it moves; nothing is tied to a thread.
unsafe impl Send for ReceiveBatch {}

impl ReceiveBatch {
    pub(crate) fn new() -> ReceiveBatch {
        // SAFETY: these C structures hold integers and pointers: all zeroes are valid.
        let (name, part, message) = unsafe { (zeroed(), zeroed(), zeroed()) };
        let mut batch = ReceiveBatch {
            buffers: vec![0; BATCH * BUFFER],
            names: vec![name; BATCH],
            parts: vec![part; BATCH],
            messages: vec![message; BATCH],
        };
        let buffers = batch.buffers.as_mut_ptr();
        let (names, parts) = (batch.names.as_mut_ptr(), batch.parts.as_mut_ptr());
        for i in 0..BATCH {
            // SAFETY: i < BATCH, the length of `names` and `parts`, and BATCH buffers lie in `buffers`.
            unsafe {
                *parts.add(i) = libc::iovec { iov_base: buffers.add(i * BUFFER).cast(), iov_len: BUFFER };
                let header = &mut batch.messages[i].msg_hdr;
                header.msg_name = names.add(i).cast();
                header.msg_namelen = NAME;
                header.msg_iov = parts.add(i);
                header.msg_iovlen = 1;
            }
        }
        batch
    }

    /// Receives at most `budget` datagrams that are there and hands them to `deliver`; does not wait.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        budget: usize,
        deliver: &mut Deliver<'_>,
    ) -> io::Result<usize> {
        let count = budget.min(BATCH);
        // SAFETY: `count` is at most BATCH; the headers point to distinct places in `buffers`, `names` and `parts`, all
        // alive and not borrowed until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if received < 0 {
            return Err(io::Error::last_os_error());
        }
        let received = (received as usize).min(count);
        for i in 0..received {
            let header = &mut self.messages[i].msg_hdr;
            // The kernel wrote how long the name is; next time there is room for any again.
            header.msg_namelen = NAME;
            let header = &self.messages[i].msg_hdr;
            let length = (self.messages[i].msg_len as usize).min(BUFFER);
            let bytes = &self.buffers[i * BUFFER..i * BUFFER + length];
            let whole = header.msg_flags & libc::MSG_TRUNC == 0;
            deliver(sender(&self.names[i]).filter(|_| whole).map(|from| (from, bytes)));
        }
        Ok(received)
    }
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiveBatch").finish_non_exhaustive()
    }
}

/// The internet address in what the kernel wrote.
fn sender(name: &libc::sockaddr_storage) -> Option<Address> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: sockaddr_storage is larger than sockaddr_in and aligned for it; any bytes are a valid one.
            let v4 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = std::net::Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for sockaddr_in6.
            let v6 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            Some(Address { ip: v6.sin6_addr.s6_addr, port: u16::from_be(v6.sin6_port) })
        }
        _ => None,
    }
}

/// One transmission: a destination and the two parts of the datagram.
#[derive(Clone, Copy)]
pub(crate) struct Transmission<'a> {
    pub to: Address,
    pub header: &'a [u8],
    pub payload: &'a [u8],
}

/// The arrays of one `sendmmsg`.
pub(crate) struct SendBatch {
    /// The socket speaks IPv6 (IPv4 destinations are written as v4-mapped).
    v6: bool,
    /// The scope of link-local destinations.
    scope: u32,
    names: Vec<SockAddr>,
    parts: Vec<[libc::iovec; 2]>,
    messages: Vec<libc::mmsghdr>,
}

// SAFETY: as for ReceiveBatch; pointers to callers' bytes are overwritten before the next use and never read in between.
unsafe impl Send for SendBatch {}

impl SendBatch {
    pub(crate) fn new(v6: bool, scope: u32) -> SendBatch {
        // SAFETY: these C structures hold integers and pointers: all zeroes are valid.
        let (part, message) = unsafe { (zeroed(), zeroed()) };
        let nowhere: SocketAddr = SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0).into();
        SendBatch {
            v6,
            scope,
            names: vec![nowhere.into(); BATCH],
            parts: vec![part; BATCH],
            messages: vec![message; BATCH],
        }
    }

    /// Whether a socket of this family can reach the address.
    pub(crate) fn can_reach(&self, to: Address) -> bool {
        self.v6 || Ipv6Addr::from(to.ip).to_ipv4_mapped().is_some()
    }

    /// The socket address as this socket's family writes it.
    fn name(&self, to: Address) -> SockAddr {
        let ip = Ipv6Addr::from(to.ip);
        if self.v6 {
            let scoped = ip.is_unicast_link_local() || ip.is_multicast();
            SocketAddrV6::new(ip, to.port, 0, if scoped { self.scope } else { 0 }).into()
        } else {
            let v4 = ip.to_ipv4_mapped().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
            SocketAddrV4::new(v4, to.port).into()
        }
    }

    /// Sends the first of `transmissions`, at most `BATCH`, in one system call; does not wait. Says how many were
    /// taken; an error is that of the first one, nothing was sent then.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, transmissions: &[Transmission<'_>]) -> io::Result<usize> {
        let count = transmissions.len().min(BATCH);
        for (i, transmission) in transmissions.iter().take(count).enumerate() {
            // Most bursts go to the same few destinations in the same order; writing the name anew is still cheap.
            self.names[i] = self.name(transmission.to);
            self.parts[i] = [
                libc::iovec {
                    iov_base: transmission.header.as_ptr().cast_mut().cast(),
                    iov_len: transmission.header.len(),
                },
                libc::iovec {
                    iov_base: transmission.payload.as_ptr().cast_mut().cast(),
                    iov_len: transmission.payload.len(),
                },
            ];
            let header = &mut self.messages[i].msg_hdr;
            header.msg_name = self.names[i].as_ptr().cast_mut().cast();
            header.msg_namelen = self.names[i].len();
            header.msg_iov = self.parts[i].as_mut_ptr();
            header.msg_iovlen = if transmission.payload.is_empty() { 1 } else { 2 };
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: `count` headers were just filled in; names and parts are alive in `self`, the bytes in the callers'
        // slices for the length of this call; the kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                count as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok((sent as usize).min(count)) }
    }
}

impl std::fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendBatch").field("v6", &self.v6).finish_non_exhaustive()
    }
}
