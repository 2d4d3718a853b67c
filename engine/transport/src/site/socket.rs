//! Unix SEQPACKET sockets: opening, listening, sending and receiving one record, and the process at the other end.

use super::directory::{RuntimeDirectory, hex};
use crate::system;
use arrayvec::ArrayVec;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Suffix of the sockets' names.
pub(super) const SUFFIX: &str = ".sock";
/// Connections that wait to be accepted.
const BACKLOG: i32 = 512;

/// A nonblocking, close-on-exec socket.
pub(super) fn socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Listens under a hidden name, then shows it: whoever sees the name can connect.
pub(super) fn listen(directory: &RuntimeDirectory, nonce: u128) -> io::Result<OwnedFd> {
    let fd = socket()?;
    let hidden = format!(".{}{SUFFIX}", hex(nonce));
    let name = format!("{}{SUFFIX}", hex(nonce));
    net::bind(&fd, &SocketAddrUnix::new(directory.socket_path(&hidden).as_path())?)?;
    let shown =
        net::listen(&fd, BACKLOG).and_then(|()| rustix::fs::renameat(directory.fd(), &hidden, directory.fd(), &name));
    if let Err(error) = shown {
        directory.remove(&hidden);
        return Err(error.into());
    }
    Ok(fd)
}

/// Sends one record made of parts; does not wait.
pub(super) fn send(fd: BorrowedFd<'_>, parts: &[&[u8]]) -> io::Result<()> {
    send_with(fd, parts, &mut net::SendAncillaryBuffer::default())
}

/// The most descriptors that come with a record.
const DESCRIPTORS_MAX: usize = 3;

/// Descriptors that come with a record.
pub(crate) type Descriptors = ArrayVec<OwnedFd, DESCRIPTORS_MAX>;

/// Sends one record with one to three descriptors; does not wait.
pub(super) fn send_descriptors(fd: BorrowedFd<'_>, record: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = net::SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(net::SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    send_with(fd, &[record], &mut ancillary)
}

fn send_with(
    fd: BorrowedFd<'_>,
    parts: &[&[u8]],
    ancillary: &mut net::SendAncillaryBuffer<'_, '_, '_>,
) -> io::Result<()> {
    let mut slices = [IoSlice::new(&[]), IoSlice::new(&[]), IoSlice::new(&[])];
    for (slice, part) in slices.iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    net::sendmsg(fd, &slices[..parts.len().min(3)], ancillary, flags)?;
    Ok(())
}

/// Receives one record into `record`, and the descriptors that may come with it; does not wait. The length that the record
/// had: beyond that of `record` it was cut, and is none of ours. Further descriptors are closed.
pub(super) fn receive(fd: BorrowedFd<'_>, record: &mut [u8]) -> rustix::io::Result<(usize, Descriptors)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = net::RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC | RecvFlags::CMSG_CLOEXEC;
    let length = net::recvmsg(fd, &mut [IoSliceMut::new(record)], &mut ancillary, flags)?.bytes;
    let mut descriptors = Descriptors::new();
    for message in ancillary.drain() {
        if let net::RecvAncillaryMessage::ScmRights(rights) = message {
            for descriptor in rights {
                let _ = descriptors.try_push(descriptor);
            }
        }
    }
    Ok((length, descriptors))
}

/// A descriptor of the process at the other end of a connection. `None` where the system has none to give: then the
/// process file tells the death.
pub(super) fn pidfd_of(connection: BorrowedFd<'_>, credentials: system::Credentials) -> Option<OwnedFd> {
    if let Ok(pidfd) = system::peer_pidfd(connection) {
        return Some(pidfd);
    }
    let pid = Pid::from_raw(i32::try_from(credentials.pid).ok()?)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // The number may have gone to another process; as long as the connection stands, its first owner lives (or a
    // forked child of it holds the connection, and the process file decides).
    let mut byte = [0];
    match net::recv(connection, &mut byte[..], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
        Ok((_, 0)) => None,
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Some(pidfd),
        Err(_) => None,
    }
}
