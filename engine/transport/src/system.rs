//! The few system calls that no safe wrapper offers in the form needed here. Every function is safe to call.

use std::ffi::CStr;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `SO_PEERPIDFD` (Linux 6.5), on the architectures with the generic socket option numbers.
const SO_PEERPIDFD: libc::c_int = 77;

/// Who is at the other end of a Unix socket. A process number of 0: it lives in another process namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credentials {
    pub pid: u32,
    pub uid: u32,
}

fn get_option<T: Copy>(fd: impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    // SAFETY: callers instantiate T with plain integers or C structures of integers, for which all zeroes are valid.
    let mut value: T = unsafe { zeroed() };
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, which outlives the call; the kernel writes at most `length`
    // bytes, and any bytes are a valid T (see above).
    let result =
        unsafe { libc::getsockopt(fd.as_fd().as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if length as usize != size_of::<T>() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(value)
}

/// The credentials that the other end had when it connected or began to listen.
pub(crate) fn peer_credentials(socket: impl AsFd) -> io::Result<Credentials> {
    let credentials: libc::ucred = get_option(socket, libc::SOL_SOCKET, libc::SO_PEERCRED)?;
    Ok(Credentials { pid: credentials.pid.max(0) as u32, uid: credentials.uid })
}

/// A descriptor of the process at the other end, close-on-exec.
pub(crate) fn peer_pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let raw: libc::c_int = get_option(socket, libc::SOL_SOCKET, SO_PEERPIDFD)?;
    if raw < 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // SAFETY: on success the kernel made this descriptor for the caller, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// An interface that has a given address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Interface {
    pub index: u32,
    pub mtu: Option<usize>,
    pub loopback: bool,
}

/// The interface that has `address`; `None` if no interface that is up has it.
pub(crate) fn interface_of(address: IpAddr) -> Option<Interface> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the head of the list.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return None;
    }
    let mut found = None;
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: `entry` is a node of the list that getifaddrs returned and freeifaddrs has not freed yet.
        let node = unsafe { &*entry };
        entry = node.ifa_next;
        if node.ifa_flags & libc::IFF_UP as libc::c_uint == 0 || ip_of(node.ifa_addr) != Some(address) {
            continue;
        }
        // SAFETY: the name of a node is a C string that lives as long as the list.
        let name = unsafe { CStr::from_ptr(node.ifa_name) };
        // SAFETY: `name` is a C string.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let loopback = node.ifa_flags & libc::IFF_LOOPBACK as libc::c_uint != 0;
        found = Some(Interface { index, mtu: interface_mtu(name), loopback });
        break;
    }
    // SAFETY: `list` came from getifaddrs and is freed once; no reference into it is left.
    unsafe { libc::freeifaddrs(list) };
    found
}

/// The internet address in a socket address that may be null.
fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, and the addresses in a list of getifaddrs are complete for their family.
    unsafe {
        match libc::c_int::from((*address).sa_family) {
            libc::AF_INET => {
                let v4 = std::ptr::read_unaligned(address.cast::<libc::sockaddr_in>());
                Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))))
            }
            libc::AF_INET6 => {
                let v6 = std::ptr::read_unaligned(address.cast::<libc::sockaddr_in6>());
                Some(IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)))
            }
            _ => None,
        }
    }
}

fn interface_mtu(name: &CStr) -> Option<usize> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .ok()?;
    // SAFETY: ifreq is a C structure of integers and arrays of integers: all zeroes are valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    let bytes = name.to_bytes();
    if bytes.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    // SAFETY: the request reads and writes one ifreq, which outlives the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) } != 0 {
        return None;
    }
    // SAFETY: after SIOCGIFMTU the union holds the MTU.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).ok().filter(|mtu| *mtu > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn loopback_is_found() {
        let interface = interface_of(IpAddr::V4(Ipv4Addr::LOCALHOST)).expect("lo is up");
        assert!(interface.loopback);
        assert!(interface.mtu.is_some_and(|mtu| mtu >= 1_280));
        assert_eq!(interface_of(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77))), None);
    }

    #[test]
    fn the_other_end_of_a_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().expect("socketpair");
        let credentials = peer_credentials(&one).expect("SO_PEERCRED");
        assert_eq!(credentials.pid, std::process::id());
        if let Ok(pidfd) = peer_pidfd(&one) {
            assert!(rustix::io::fcntl_getfd(&pidfd).expect("flags").contains(rustix::io::FdFlags::CLOEXEC));
        }
    }
}
