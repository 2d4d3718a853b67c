//! TAP devices: what a host sends into its network interface is read here as Ethernet frames, and what is written here it
//! receives.
//!
//! Owner: the switch. Invariant: the device lives as long as its descriptor; nothing of it outlives this process.

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{Setter, ioctl};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// `struct ifreq` of the kernel, as `TUNSETIFF` reads it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    unused: [u8; 22],
}

/// Makes the device `name` in a network namespace (its file in the file system). Reading and writing do not block.
pub fn make(space: &Path, name: &str) -> io::Result<File> {
    let space = File::open(space)?;
    let name = name.to_owned();
    // A thread of its own: it changes its namespace, and ends.
    let made = std::thread::spawn(move || {
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
        let device = open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        let mut request = InterfaceRequest {
            name: [0; libc::IFNAMSIZ],
            flags: (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short,
            unused: [0; 22],
        };
        let bytes = name.as_bytes();
        request.name[..bytes.len()].copy_from_slice(bytes);
        // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which is 40 bytes long and begins with the name and the
        // flags; `InterfaceRequest` is laid out so, and lives until the call returns.
        unsafe { ioctl(&device, Setter::<{ libc::TUNSETIFF as _ }, InterfaceRequest>::new(request)) }?;
        io::Result::Ok(File::from(device))
    });
    made.join().unwrap_or_else(|_| Err(io::Error::other("the thread that made the device panicked")))
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40);
