//! Which system the site belongs to: the sum of what its live processes say.
//!
//! There is no record to go stale: each instance writes its system into its own process file, under one lock for the
//! whole site (`site.lock`), and a founder reads all files of live instances under the same lock. When all processes of
//! the site are killed at once, the next one finds nobody alive and may found.
//!
//! Invariant: at any time all live instances of the site that belong to a system by [`found`] belong to the same one.

use super::directory::{RuntimeDirectory, from_hex};
use super::process_file::{self, Life, OtherFile, ProcessFile};
use rustix::fs::{self, FlockOperation, Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// The lock is held for microseconds; waiting longer than this means that its holder was stopped.
const PATIENCE: Duration = Duration::from_millis(20);

/// The answer to a process that asks whether it may found a system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Founding {
    /// The site belongs to the system that was asked for.
    Granted,
    /// The site belongs to this system: some live process says so.
    BelongsTo(u128),
}

/// The site's lock; released by dropping. An error of kind `WouldBlock`: somebody holds it too long.
fn lock(directory: &RuntimeDirectory) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = fs::openat(directory.fd(), "site.lock", flags, Mode::RUSR | Mode::WUSR)?;
    let begin = Instant::now();
    loop {
        match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(fd),
            Err(rustix::io::Errno::WOULDBLOCK) if begin.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// May the instance with `own` file found `system`? If so it belongs to it from now on.
pub(crate) fn found(
    directory: &RuntimeDirectory,
    own: &ProcessFile,
    own_nonce: u128,
    system: u128,
) -> io::Result<Founding> {
    let _lock = lock(directory)?;
    let mut other_system: Option<u128> = None;
    for name in directory.names(process_file::SUFFIX)? {
        let Some(nonce) = from_hex(&name).filter(|nonce| *nonce != own_nonce) else { continue };
        let Ok(file) = OtherFile::open(directory, nonce) else { continue };
        let named = file.system();
        if named != 0 && named != system && file.test() == Life::Alive {
            // More than one can be only after `joined`; then any choice is right as long as all make the same.
            other_system = Some(other_system.map_or(named, |least| least.min(named)));
        }
    }
    match other_system {
        Some(named) => Ok(Founding::BelongsTo(named)),
        None => {
            own.write(system)?;
            Ok(Founding::Granted)
        }
    }
}

/// The instance with `own` file belongs to `system` now.
pub(crate) fn joined(directory: &RuntimeDirectory, own: &ProcessFile, system: u128) -> io::Result<()> {
    let _lock = lock(directory)?;
    own.write(system)
}

/// The system in which some live instance of the site is, `own` included; 0: none is in any. Then `bind`, if it gives one,
/// is the system of the instance with `own` file (0: none). All under the site's lock.
pub(crate) fn lives_in(
    directory: &RuntimeDirectory,
    own: &ProcessFile,
    bind: &mut dyn FnMut(u128) -> io::Result<Option<u128>>,
) -> io::Result<()> {
    let _lock = lock(directory)?;
    let mut system = 0;
    for name in directory.names(process_file::SUFFIX)? {
        let Some(nonce) = from_hex(&name) else { continue };
        let Ok(file) = OtherFile::open(directory, nonce) else { continue };
        let named = file.system();
        if named > system && file.test() == Life::Alive {
            system = named;
        }
    }
    match bind(system)? {
        Some(system) => own.write(system),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule R12 without `expected`: a site belongs to one system at a time.
    #[test]
    fn one_founder_per_site_as_long_as_it_lives() {
        let base = tempfile::tempdir().expect("tempdir");
        let directory = RuntimeDirectory::open(&base.path().join("isis")).expect("open");
        let one = ProcessFile::create(&directory, 1).expect("create");
        let two = ProcessFile::create(&directory, 2).expect("create");
        assert_eq!(found(&directory, &one, 1, 100).expect("found"), Founding::Granted);
        assert_eq!(found(&directory, &one, 1, 100).expect("again"), Founding::Granted);
        assert_eq!(found(&directory, &two, 2, 200).expect("found"), Founding::BelongsTo(100));
        assert_eq!(found(&directory, &two, 2, 100).expect("found"), Founding::Granted);
        one.end(&directory);
        two.end(&directory);
        let three = ProcessFile::create(&directory, 3).expect("create");
        assert_eq!(found(&directory, &three, 3, 300).expect("found"), Founding::Granted);
        joined(&directory, &three, 400).expect("joined");
        let four = ProcessFile::create(&directory, 4).expect("create");
        assert_eq!(found(&directory, &four, 4, 500).expect("found"), Founding::BelongsTo(400));
    }

    #[test]
    fn a_lock_held_too_long_is_reported() {
        let base = tempfile::tempdir().expect("tempdir");
        let directory = RuntimeDirectory::open(&base.path().join("isis")).expect("open");
        let one = ProcessFile::create(&directory, 1).expect("create");
        let held = lock(&directory).expect("lock");
        let error = found(&directory, &one, 1, 100).expect_err("held");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        assert!(found(&directory, &one, 1, 100).is_ok());
    }
}
