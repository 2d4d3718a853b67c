//! The site's durable record: bytes in `state_dir` that outlive processes and boots, under one lock.
//!
//! - `<name>.record`: the bytes. Written to a temporary file, which is forced to disk, renamed, and the directory forced to
//!   disk: after a crash the record is the old one or the new one, whole.
//! - `<name>.lock`: held exclusively for reading, changing and writing.
//! - `<name>.users`: held shared by every process that uses the record, and says for which runtime directory: processes
//!   that do not see each other must not speak for one site.
//!
//! What the bytes mean is the core's business. Owned by one thread.

use super::directory::hex;
use rustix::fs::{self, FlockOperation, Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// The lock is held for one write to disk; waiting longer than this in a turn of the loop is for later.
const PATIENCE: Duration = Duration::from_millis(2);
/// At the start there is more time.
const OPENING: Duration = Duration::from_secs(2);
/// No record is longer: a first view of some thousand members.
const RECORD_MAX: usize = 1 << 20;
/// The longest name of a site.
const NAME_MAX: usize = 64;

/// An open state directory, for one site name.
#[derive(Debug)]
pub(crate) struct StateFile {
    name: String,
    directory: OwnedFd,
    /// Held shared as long as this process uses the record.
    _users: OwnedFd,
}

/// A name that can be part of a file's name: letters, digits, `-`, `_` and `.`, not in front; at most 64 of them.
pub fn is_site_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with('.') && name.bytes().all(good)
}

impl StateFile {
    /// Opens the record of the site `name`. `place`: what tells the site's runtime directory and boot from others.
    pub(crate) fn open(path: &Path, name: &str, place: u128) -> io::Result<StateFile> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let directory = fs::open(path, flags, Mode::empty())?;
        let users = open_file(&directory, &format!("{name}.users"))?;
        let text = hex(place);
        match fs::flock(&users, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                fs::ftruncate(&users, 0)?;
                rustix::io::pwrite(&users, text.as_bytes(), 0)?;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        fs::flock(&users, FlockOperation::LockShared)?;
        let mut bytes = [0; 64];
        let length = rustix::io::pread(&users, &mut bytes, 0)?;
        if bytes.get(..length) != Some(text.as_bytes()) {
            let text = format!("the site name `{name}` is in use by processes with another runtime directory");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let file = StateFile { name: name.to_owned(), directory, _users: users };
        // Found out now rather than when the first vote is due: the directory can be written.
        let begin = Instant::now();
        loop {
            match file.update(|bytes| Ok(Some(bytes.to_vec()))) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && begin.elapsed() < OPENING => {}
                outcome => return outcome.map(|()| file),
            }
        }
    }

    /// Reads the record (empty: there is none yet), lets `change` say what it shall be (`None`: as it is), and makes that
    /// durable. An error of kind `WouldBlock`: another process holds the lock, ask again.
    pub(crate) fn update(&self, mut change: impl FnMut(&[u8]) -> io::Result<Option<Vec<u8>>>) -> io::Result<()> {
        let lock = open_file(&self.directory, &format!("{}.lock", self.name))?;
        let begin = Instant::now();
        loop {
            match fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if begin.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_micros(100));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let record = format!("{}.record", self.name);
        let before = self.read(&record)?;
        let Some(after) = change(&before)? else { return Ok(()) };
        let temporary = format!("{}.record.new", self.name);
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = fs::openat(&self.directory, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let mut written = 0;
        while written < after.len() {
            match rustix::io::write(&file, &after[written..])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => written += count,
            }
        }
        fs::fsync(&file)?;
        fs::renameat(&self.directory, &temporary, &self.directory, &record)?;
        Ok(fs::fsync(&self.directory)?)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(std::fs::File::from(file), RECORD_MAX as u64 + 1), &mut bytes)?;
        if bytes.len() > RECORD_MAX { Err(io::ErrorKind::InvalidData.into()) } else { Ok(bytes) }
    }
}

fn open_file(directory: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_and_a_second_site_of_the_name_refused() {
        let base = tempfile::tempdir().expect("tempdir");
        let one = StateFile::open(base.path(), "north", 1).expect("open");
        let mate = StateFile::open(base.path(), "north", 1).expect("of the same site");
        one.update(|bytes| {
            assert!(bytes.is_empty());
            Ok(Some(b"promised".to_vec()))
        })
        .expect("write");
        mate.update(|bytes| {
            assert_eq!(bytes, b"promised");
            Ok(None)
        })
        .expect("read");
        let error = StateFile::open(base.path(), "north", 2).expect_err("another runtime directory");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        StateFile::open(base.path(), "south", 2).expect("another name");
        drop((one, mate));
        let later = StateFile::open(base.path(), "north", 2).expect("after all of the first are gone");
        let mut read = Vec::new();
        later
            .update(|bytes| {
                read = bytes.to_vec();
                Ok(None)
            })
            .expect("read");
        assert_eq!(read, b"promised", "later processes inherit it");
    }

    #[test]
    fn a_lock_that_is_held_is_reported() {
        let base = tempfile::tempdir().expect("tempdir");
        let one = StateFile::open(base.path(), "north", 1).expect("open");
        let mut inner = Ok(());
        one.update(|_| {
            inner = one.update(|_| Ok(None));
            Ok(None)
        })
        .expect("outer");
        assert_eq!(inner.expect_err("held").kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn names_are_parts_of_file_names() {
        for name in ["north", "rack-7.row_2"] {
            assert!(is_site_name(name));
        }
        for name in ["", ".hidden", "a/b", "näh", &"x".repeat(65)] {
            assert!(!is_site_name(name), "{name}");
        }
    }
}
