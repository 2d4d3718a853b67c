//! The runtime directory: where the processes of a site meet.
//!
//! Invariants: the directory belongs to this process's user and nobody else may enter it; every name below it is made,
//! opened and removed relative to one descriptor, so that renaming or replacing a directory above changes nothing. All
//! members hold a shared lock on it, which keeps cleaners of temporary files out.

use super::search::Changed;
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Longest path of a Unix socket address, without the final zero.
const SOCKET_PATH_MAX: usize = 107;

/// An open runtime directory.
#[derive(Debug)]
pub(crate) struct RuntimeDirectory {
    path: PathBuf,
    fd: OwnedFd,
}

impl RuntimeDirectory {
    /// The default place: `$XDG_RUNTIME_DIR/isis` if that variable names a directory, else `/tmp/isis-<uid>`.
    pub(crate) fn default_path() -> PathBuf {
        match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(base) if base.is_absolute() && base.is_dir() => base.join("isis"),
            _ => PathBuf::from(format!("/tmp/isis-{}", rustix::process::geteuid().as_raw())),
        }
    }

    /// Opens the directory; makes it (one level) if it is missing. Refuses one that belongs to somebody else, is a
    /// symbolic link, or that others may enter.
    pub(crate) fn open(path: &Path) -> io::Result<RuntimeDirectory> {
        match fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let fd = fs::open(path, flags, Mode::empty())?;
        let stat = fs::fstat(&fd)?;
        let user = rustix::process::geteuid().as_raw();
        if stat.st_uid != user {
            let text = format!("{} belongs to user {}, not to {user}", path.display(), stat.st_uid);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        if stat.st_mode & 0o077 != 0 {
            let text = format!("others may enter {} (mode {:o}); 700 is needed", path.display(), stat.st_mode & 0o777);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        // Best effort: file systems without locks have no such cleaners either.
        let _ = fs::flock(&fd, FlockOperation::NonBlockingLockShared);
        Ok(RuntimeDirectory { path: std::fs::canonicalize(path)?, fd })
    }

    /// The directory itself, for calls relative to it.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Its canonical path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A path for `bind` and `connect`: socket addresses are short, so a long one goes through the open descriptor.
    pub(crate) fn socket_path(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        if path.as_os_str().len() <= SOCKET_PATH_MAX {
            path
        } else {
            PathBuf::from(format!("/proc/self/fd/{}/{name}", self.fd.as_raw_fd()))
        }
    }

    /// Names in the directory that end in `suffix`, without it. Names that are not UTF-8 are nobody's here.
    pub(crate) fn names(&self, suffix: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && let Some(stem) = name.strip_suffix(suffix)
            {
                names.push(stem.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// When a name in it was made or removed last.
    pub(crate) fn changed(&self) -> io::Result<Changed> {
        let stat = fs::fstat(&self.fd)?;
        Ok((stat.st_mtime, stat.st_mtime_nsec as i64))
    }

    /// Removes a name, if it is there.
    pub(crate) fn remove(&self, name: &str) {
        let _ = fs::unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// The site's key: 128 bits of boot id, network namespace, this directory and user. Processes with the same key
    /// share a kernel, a network and this directory.
    pub(crate) fn site_key(&self) -> u128 {
        let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let network = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
        let stat = fs::fstat(&self.fd).ok();
        let place = stat.map_or((0, 0), |stat| (stat.st_dev, stat.st_ino));
        let user = rustix::process::geteuid().as_raw();
        let mut text = boot;
        text.extend_from_slice(network.as_os_str().as_encoded_bytes());
        // The inode rather than the path: two containers may mount one directory at different places.
        text.extend_from_slice(&place.0.to_le_bytes());
        text.extend_from_slice(&place.1.to_le_bytes());
        text.extend_from_slice(&user.to_le_bytes());
        fnv128(&text).max(1)
    }
}

/// FNV-1a with 128 bits: a fingerprint, not a secret.
pub(crate) fn fnv128(bytes: &[u8]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in bytes {
        hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
    }
    hash
}

/// A nonce as it appears in file names.
pub(crate) fn hex(nonce: u128) -> String {
    format!("{nonce:032x}")
}

/// The nonce in a file name; `None` for names that are none of ours.
pub(crate) fn from_hex(text: &str) -> Option<u128> {
    if text.len() != 32 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_is_made_private_and_a_public_one_refused() {
        let base = tempfile::tempdir().expect("tempdir");
        let path = base.path().join("isis");
        let directory = RuntimeDirectory::open(&path).expect("open");
        assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o700);
        assert_eq!(directory.site_key(), RuntimeDirectory::open(&path).expect("again").site_key());
        let other = RuntimeDirectory::open(&base.path().join("other")).expect("open");
        assert_ne!(directory.site_key(), other.site_key());

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let error = RuntimeDirectory::open(&path).expect_err("others may enter");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);

        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path().join("other"), &link).expect("symlink");
        assert!(RuntimeDirectory::open(&link).is_err(), "a symbolic link may lead anywhere");
    }

    #[test]
    fn names_are_nonces() {
        assert_eq!(from_hex(&hex(7)), Some(7));
        assert_eq!(from_hex("7"), None);
        assert_eq!(from_hex("+000000000000000000000000000000f"), None);
    }
}
