//! The error queue of the unicast socket: what the network answers to datagrams of this process.
//!
//! A socket that is not connected is told nothing of ICMP answers unless it asks for it (`IP_RECVERR`). Then each one is
//! queued with the datagram that it is about: where that went to, and as much of it as came back. One answer is of use here:
//! *port unreachable*, by which a host that lives says that no process receives there.
//!
//! The price: the next call on the socket fails with the answer's error, whatever it was about; and the queue takes room in
//! the receive buffer, and makes the socket look readable until it is empty. So it is emptied whenever a call fails, and the
//! call is made again.
//!
//! Owned by [`super::UdpTransport`].

use super::batch;
use isis_wire::Address;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes of a datagram that are looked at: an IPv6 answer holds no more, one of Linux for IPv4 less than half of it.
const QUOTE_MAX: usize = 1_280;
/// Room for control messages: the error, and whatever else the kernel adds.
const CONTROL_WORDS: usize = 32;
/// Answers taken at a time, at most; the others come next time.
const TAKEN_MAX: usize = 256;

/// Asks the kernel to queue what the network answers.
pub(crate) fn enable(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let set = |level: libc::c_int, name: libc::c_int| {
        let on: libc::c_int = 1;
        let length = size_of_val(&on) as libc::socklen_t;
        // SAFETY: the kernel reads `length` bytes of `on`, which lives until the call returns.
        let result =
            unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(&on).cast(), length) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    if v6 {
        set(libc::SOL_IPV6, libc::IPV6_RECVERR)?;
    }
    // A socket of both families is told of IPv4 answers by this one.
    set(libc::SOL_IP, libc::IP_RECVERR)
}

/// What the network answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer<'a> {
    /// Nobody receives at this address; so much of the datagram came back.
    Refused(Address, &'a [u8]),
    /// The datagram was too long for the path.
    TooLong,
    /// Something else, of no use.
    Other,
}

/// Room for what is read from the queue.
pub(crate) struct ErrorQueue {
    quote: Vec<u8>,
    control: [u64; CONTROL_WORDS],
}

impl ErrorQueue {
    pub(crate) fn new() -> ErrorQueue {
        ErrorQueue { quote: vec![0; QUOTE_MAX], control: [0; CONTROL_WORDS] }
    }

    /// Empties the queue of `socket`; says how many answers of the network there were.
    pub(crate) fn take(&mut self, socket: BorrowedFd<'_>, answer: &mut dyn FnMut(Answer<'_>)) -> usize {
        let mut taken = 0;
        for _ in 0..TAKEN_MAX {
            // SAFETY: these C structures hold integers and pointers: all zeroes are valid.
            let (mut name, mut header): (libc::sockaddr_storage, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
            let mut part = libc::iovec { iov_base: self.quote.as_mut_ptr().cast(), iov_len: self.quote.len() };
            header.msg_name = (&raw mut name).cast();
            header.msg_namelen = size_of_val(&name) as libc::socklen_t;
            header.msg_iov = &raw mut part;
            header.msg_iovlen = 1;
            header.msg_control = self.control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&self.control) as _;
            // SAFETY: the header points to `name`, `part` and, through it, `quote`, and to `control`, with their lengths; all are
            // alive and not borrowed until the call returns.
            let length =
                unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
            let Ok(length) = usize::try_from(length) else { break };
            let Some(error) = error(&header) else { continue };
            // What this host itself found out comes with the call as well.
            if !matches!(error.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6) {
                continue;
            }
            taken += 1;
            answer(match error.ee_errno as libc::c_int {
                libc::ECONNREFUSED => match batch::sender(&name) {
                    Some(to) => Answer::Refused(to, &self.quote[..length.min(QUOTE_MAX)]),
                    None => Answer::Other,
                },
                libc::EMSGSIZE => Answer::TooLong,
                _ => Answer::Other,
            });
        }
        taken
    }
}

impl std::fmt::Debug for ErrorQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ErrorQueue").finish_non_exhaustive()
    }
}

/// The error among the control messages.
fn error(header: &libc::msghdr) -> Option<libc::sock_extended_err> {
    // SAFETY: the kernel wrote control messages of `msg_controllen` bytes to `msg_control`, which points to that many of an
    // array; the macros stay within these bytes. A structure that is read lies behind a control header whose length includes
    // it, and any bytes are a valid one.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = next.as_ref() {
            let whole =
                message.cmsg_len as u64 >= u64::from(libc::CMSG_LEN(size_of::<libc::sock_extended_err>() as u32));
            let is_error = matches!(
                (message.cmsg_level, message.cmsg_type),
                (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
            );
            if is_error && whole {
                return Some(libc::CMSG_DATA(message).cast::<libc::sock_extended_err>().read_unaligned());
            }
            next = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsFd;

    /// On either family: a datagram to a port that was closed comes back, whole, with the address that it went to.
    #[test]
    fn a_closed_port_answers() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = UdpSocket::bind(any) else {
                assert!(any.starts_with('['), "IPv4 on the loopback");
                continue;
            };
            enable(socket.as_fd(), any.starts_with('[')).expect("IP_RECVERR");
            let closed: SocketAddr = UdpSocket::bind(any).and_then(|other| other.local_addr()).expect("a port");
            let mut queue = ErrorQueue::new();
            assert_eq!(queue.take(socket.as_fd(), &mut |_| panic!("nothing was sent")), 0);
            socket.send_to(b"is anybody there?", closed).expect("sent");
            let mut refused = Vec::new();
            while queue.take(socket.as_fd(), &mut |answer| {
                let Answer::Refused(address, quoted) = answer else { panic!("{answer:?}") };
                refused.push((address, quoted.to_vec()));
            }) == 0
            {
                std::thread::yield_now();
            }
            assert_eq!(refused, [(closed.into(), b"is anybody there?".to_vec())]);
        }
    }
}
