//! Batches for `sendmmsg` and `recvmmsg`: arrays allocated once, used for every burst.
//!
//! Datagrams of one length that go to one destination one after the other are one *run*: the kernel gets them as one piece,
//! carries it through the stack once, and cuts it where it has to (`UDP_SEGMENT`); a receiver that asked for it (`UDP_GRO`)
//! gets it whole, with the length to cut at. docs/performance.md says what that is worth.
//!
//! ```text
//!  transmissions   A·1400 A·1400 A·900 | B·60 | A·1400 …       a shorter one ends its run
//!  messages        [A 3700 cut 1400   ] [B 60] [A …
//! ```
//!
//! Owned by one [`super::UdpTransport`]. Invariants: the pointers of a receive batch point into its own arrays, which
//! are allocated once and never grow, so they stay valid as long as it lives; those of a send batch are written right
//! before the call that uses them and read by nothing else.

use arrayvec::ArrayVec;
use isis_wire::Address;
use socket2::SockAddr;
use std::io;
use std::mem::zeroed;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Messages in one system call, and datagrams in one send batch, at most.
pub(crate) const BATCH: usize = 64;

/// Datagrams in one run, at most: what the kernel has taken since it knows runs.
const RUN: usize = 64;

/// Bytes in one run, at most: what a UDP datagram can have.
const RUN_BYTES: usize = 65_000;

/// Room for one control message with one integer, aligned as its header has to be.
type Control = [u64; 4];

/// Bytes of a receive buffer: no UDP datagram is longer.
const BUFFER: usize = 65_536;

/// Room for any socket address.
const NAME: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

/// Takes a datagram and its sender; `None` for one that was truncated or came from no internet address.
pub(crate) type Deliver<'a> = dyn FnMut(Option<(Address, &[u8])>) + 'a;

/// Asks the kernel to hand over whole runs on this socket. An old one refuses, and hands over each datagram by itself.
pub(crate) fn receive_runs(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `on`, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, std::ptr::from_ref(&on).cast(), length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The buffers of one `recvmmsg`.
pub(crate) struct ReceiveBatch {
    /// `BATCH` buffers of `BUFFER` bytes; pages that no datagram reached are never touched.
    buffers: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    parts: Vec<libc::iovec>,
    controls: Vec<Control>,
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
            controls: vec![Control::default(); BATCH],
            messages: vec![message; BATCH],
        };
        let controls = batch.controls.as_mut_ptr();
        let buffers = batch.buffers.as_mut_ptr();
        let (names, parts) = (batch.names.as_mut_ptr(), batch.parts.as_mut_ptr());
        for i in 0..BATCH {
            // SAFETY: i < BATCH, the length of `names`, `parts` and `controls`, and BATCH buffers lie in `buffers`.
            unsafe {
                *parts.add(i) = libc::iovec { iov_base: buffers.add(i * BUFFER).cast(), iov_len: BUFFER };
                let header = &mut batch.messages[i].msg_hdr;
                header.msg_name = names.add(i).cast();
                header.msg_namelen = NAME;
                header.msg_iov = parts.add(i);
                header.msg_iovlen = 1;
                header.msg_control = controls.add(i).cast();
                header.msg_controllen = size_of::<Control>() as _;
            }
        }
        batch
    }

    /// Receives at most `budget` messages that are there, each a datagram or a run of them, and hands all their datagrams to
    /// `deliver`; does not wait. Says how many messages.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        budget: usize,
        deliver: &mut Deliver<'_>,
    ) -> io::Result<usize> {
        let count = budget.min(BATCH);
        // SAFETY: `count` is at most BATCH; the headers point to distinct places in `buffers`, `names`, `parts` and
        // `controls`, all alive and not borrowed until the call returns.
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
            let segment = segment(header);
            // The kernel wrote how long the name and the control message are; next time there is room for any again.
            header.msg_namelen = NAME;
            header.msg_controllen = size_of::<Control>() as _;
            let header = &self.messages[i].msg_hdr;
            let length = (self.messages[i].msg_len as usize).min(BUFFER);
            let bytes = &self.buffers[i * BUFFER..i * BUFFER + length];
            let whole = header.msg_flags & libc::MSG_TRUNC == 0;
            match sender(&self.names[i]).filter(|_| whole) {
                None => deliver(None),
                Some(from) if segment == 0 || bytes.is_empty() => deliver(Some((from, bytes))),
                Some(from) => bytes.chunks(segment).for_each(|bytes| deliver(Some((from, bytes)))),
            }
        }
        Ok(received)
    }
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiveBatch").finish_non_exhaustive()
    }
}

/// The length of a run's datagrams, as the kernel says; 0: it is no run.
fn segment(header: &libc::msghdr) -> usize {
    // SAFETY: the kernel wrote control messages of `msg_controllen` bytes to `msg_control`, which points to a `Control` of the
    // batch; the macros stay within these bytes. An integer that is read lies behind a control header whose length includes
    // it.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = next.as_ref() {
            let has_integer = message.cmsg_len as u64 >= u64::from(libc::CMSG_LEN(size_of::<libc::c_int>() as u32));
            if (message.cmsg_level, message.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO) && has_integer {
                let length = libc::CMSG_DATA(message).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(length).unwrap_or(0);
            }
            next = libc::CMSG_NXTHDR(header, message);
        }
    }
    0
}

/// The internet address in what the kernel wrote.
pub(crate) fn sender(name: &libc::sockaddr_storage) -> Option<Address> {
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

impl Transmission<'_> {
    /// Bytes in both parts.
    pub(crate) fn len(&self) -> usize {
        self.header.len() + self.payload.len()
    }
}

/// The arrays of one `sendmmsg`.
pub(crate) struct SendBatch {
    /// The socket speaks IPv6 (IPv4 destinations are written as v4-mapped).
    v6: bool,
    /// The scope of link-local destinations.
    scope: u32,
    names: Vec<SockAddr>,
    /// Of all datagrams, one behind the other: header and, if it is not empty, payload.
    parts: Vec<libc::iovec>,
    controls: Vec<Control>,
    messages: Vec<libc::mmsghdr>,
    /// How many datagrams each message is.
    runs: [usize; BATCH],
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
            parts: vec![part; 2 * BATCH],
            controls: vec![Control::default(); BATCH],
            messages: vec![message; BATCH],
            runs: [0; BATCH],
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

    /// Sends the first of `transmissions`, at most `BATCH`, in one system call, whole runs as one message if `in_runs`; does
    /// not wait. Says how many transmissions were taken, in how many messages; an error is that of the first one, nothing was
    /// sent then.
    pub(crate) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        transmissions: &[Transmission<'_>],
        in_runs: bool,
    ) -> io::Result<(usize, usize)> {
        let mut rest = &transmissions[..transmissions.len().min(BATCH)];
        let (mut count, mut used) = (0, 0);
        while let Some(first) = rest.first() {
            let run = if in_runs { run(rest) } else { 1 };
            let begin = used;
            for transmission in &rest[..run] {
                for bytes in [transmission.header, transmission.payload] {
                    if !bytes.is_empty() {
                        let iov_base = bytes.as_ptr().cast_mut().cast();
                        self.parts[used] = libc::iovec { iov_base, iov_len: bytes.len() };
                        used += 1;
                    }
                }
            }
            // Most bursts go to the same few destinations in the same order; writing the name anew is still cheap.
            self.names[count] = self.name(first.to);
            let header = &mut self.messages[count].msg_hdr;
            header.msg_name = self.names[count].as_ptr().cast_mut().cast();
            header.msg_namelen = self.names[count].len();
            header.msg_iov = self.parts[begin..].as_mut_ptr();
            header.msg_iovlen = (used - begin) as _;
            (header.msg_control, header.msg_controllen) = (std::ptr::null_mut(), 0);
            if run > 1 {
                cut_at(header, &mut self.controls[count], first.len());
            }
            self.runs[count] = run;
            count += 1;
            rest = &rest[run..];
        }
        if count == 0 {
            return Ok((0, 0));
        }
        // SAFETY: `count` headers were just filled in; names, parts and control messages are alive in `self`, the bytes in the
        // callers' slices for the length of this call; the kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                count as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let sent = (sent as usize).min(count);
        Ok((self.runs[..sent].iter().sum(), sent))
    }
}

/// Puts the transmissions to one destination one behind the other, in their order, if that makes longer runs.
pub(crate) fn by_destination(transmissions: &mut ArrayVec<Transmission<'_>, BATCH>) {
    let changes = transmissions.windows(2).filter(|two| two[0].to != two[1].to).count();
    if changes <= 1 {
        return;
    }
    let mut sorted: ArrayVec<Transmission<'_>, BATCH> = ArrayVec::new();
    let mut destinations = 0;
    for (index, first) in transmissions.iter().enumerate() {
        if transmissions[..index].iter().any(|earlier| earlier.to == first.to) {
            continue;
        }
        destinations += 1;
        if destinations > transmissions.len() / 2 {
            // Few to each of many: there are no runs to be made.
            return;
        }
        sorted.extend(transmissions[index..].iter().filter(|later| later.to == first.to).copied());
    }
    *transmissions = sorted;
}

/// How many of the first transmissions are a run: to one destination, all as long as the first, but for the last, which may
/// be shorter. At least 1.
pub(crate) fn run(transmissions: &[Transmission<'_>]) -> usize {
    let Some(first) = transmissions.first() else { return 0 };
    let length = first.len();
    let mut bytes = length;
    let mut count = 1;
    while let Some(next) = transmissions.get(count)
        && count < RUN
        && transmissions[count - 1].len() == length
        && (1..=length).contains(&next.len())
        && bytes + next.len() <= RUN_BYTES
        && next.to == first.to
    {
        bytes += next.len();
        count += 1;
    }
    count
}

/// Says that the message is to be cut into datagrams of this length.
fn cut_at(header: &mut libc::msghdr, control: &mut Control, length: usize) {
    header.msg_control = std::ptr::from_mut(control).cast();
    // SAFETY: a control message with two bytes needs less room than `Control` has, which is aligned for its header; the
    // header that CMSG_FIRSTHDR gives is the control's first byte, as `msg_controllen` leaves room for one.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
        libc::CMSG_DATA(message).cast::<u16>().write_unaligned(length as u16);
    }
}

impl std::fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendBatch").field("v6", &self.v6).finish_non_exhaustive()
    }
}
