//! A temporary directory that goes with the process that made it.
//!
//! It is removed when it is dropped, and on a signal ([`crate::live::end_on_signals`]). What is left by a process that was
//! killed is removed by the next one that asks for a directory of the same prefix: its lock is free. A lock, and not the
//! number of a process, since numbers are given out again and mean nothing in another container.

use crate::live;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in the directory that its maker keeps locked.
const LOCK: &str = "lock";
/// A directory without a lock may have been made this moment.
const FRESH: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// A new directory `<prefix>…` for this user alone, among the system's temporary ones; stale ones are removed.
    pub fn new(prefix: &str) -> io::Result<Directory> {
        Directory::new_in(&std::env::temp_dir(), prefix)
    }

    /// As `new`, in this parent.
    pub fn new_in(parent: &Path, prefix: &str) -> io::Result<Directory> {
        remove_stale(parent, prefix);
        let owner_only = std::fs::Permissions::from_mode(0o700);
        let path = tempfile::Builder::new().prefix(prefix).permissions(owner_only).tempdir_in(parent)?.keep();
        live::add_directory(&path);
        let made = File::create(path.join(LOCK)).and_then(|lock| {
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            Ok(lock)
        });
        match made {
            Ok(lock) => Ok(Directory { path, _lock: lock }),
            Err(error) => {
                live::remove_directory(&path);
                Err(error)
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        live::remove_directory(&self.path);
    }
}

/// Removes the directories of this prefix whose makers are gone; gives how many. What cannot be looked at (another user's)
/// stays.
fn remove_stale(parent: &Path, prefix: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(parent) else { return 0 };
    let ours =
        |path: &Path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix));
    let stale = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| ours(path) && is_stale(path));
    stale.filter(|path| std::fs::remove_dir_all(path).is_ok()).count()
}

fn is_stale(path: &Path) -> bool {
    let Ok(data) = std::fs::symlink_metadata(path) else { return false };
    if !data.is_dir() {
        return false;
    }
    match OpenOptions::new().read(true).open(path.join(LOCK)) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            data.modified().ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age > FRESH)
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_live_process_stays_and_that_of_a_dead_one_goes() {
        let parent = tempfile::tempdir().expect("a directory");
        let live = Directory::new_in(parent.path(), "isis-x-").expect("a directory");
        let dead = parent.path().join("isis-x-dead");
        std::fs::create_dir(&dead).expect("a directory");
        std::fs::write(dead.join(LOCK), "").expect("a file");
        let young = parent.path().join("isis-x-young");
        let other = parent.path().join("isis-y-dead");
        for path in [&young, &other] {
            std::fs::create_dir(path).expect("a directory");
        }
        std::fs::write(other.join(LOCK), "").expect("a file");
        let next = Directory::new_in(parent.path(), "isis-x-").expect("a directory");
        assert!(live.path().is_dir() && next.path().is_dir() && young.is_dir() && other.is_dir());
        assert!(!dead.exists(), "nobody holds its lock");
        let path = live.path().to_owned();
        drop(live);
        assert!(!path.exists());
    }
}
