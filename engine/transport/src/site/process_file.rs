//! One file per instance, `<nonce>.process`: proof of life, and which system the instance belongs to.
//!
//! Whoever holds the file's exclusive lock lives. The lock is taken before the file gets its name and given up only by
//! the end of the instance: explicitly at its farewell, by the kernel at the end of the process. A forked child that
//! inherited the descriptor keeps the lock after its parent's death; therefore the file also names the process (number,
//! start time, process namespace), and a process that is gone, replaced or a zombie is dead, lock or no lock. That is
//! asked through a process descriptor, or of `/proc` where the system has no `pidfd_open`.
//!
//! Invariant: [`test`] says `Dead` only of an instance that will never act again.

use super::directory::{RuntimeDirectory, from_hex, hex};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Suffix of the files.
pub(crate) const SUFFIX: &str = ".process";
/// First line of the contents; the number is the format's version.
const TITLE: &str = "isis-process 1";
/// Contents are read up to this length.
const LENGTH_MAX: usize = 512;

/// What a test found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    Alive,
    Dead,
}

/// The own file of this instance.
#[derive(Debug)]
pub(crate) struct ProcessFile {
    name: String,
    fd: OwnedFd,
}

/// What a file says.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Contents {
    pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: with the pid, unique since boot.
    start: u64,
    /// The process namespace that `pid` is meant in.
    namespace: String,
    /// 0: none yet.
    system: u128,
}

impl Contents {
    fn encode(&self) -> String {
        // Of constant length for one process, so that a later system overwrites exactly the earlier one.
        format!(
            "{TITLE}\npid {:010}\nstart {:020}\nnamespace {}\nsystem {:032x}\n",
            self.pid, self.start, self.namespace, self.system
        )
    }

    /// Whether the process lives that these contents name, in this process namespace.
    fn test(&self) -> Life {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Life::Alive };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Life::Dead,
            // Kernels before 5.3, sandboxes and valgrind have no such call; /proc tells as much, a little later.
            Err(_) => return self.test_by_proc(),
        };
        // Opened first, so that whoever has the number now is the one whose start is read.
        match start_time(self.pid) {
            Ok(start) if start != self.start => Life::Dead,
            _ if has_exited(pidfd.as_fd()) => Life::Dead,
            _ => Life::Alive,
        }
    }

    /// As `test`, by `/proc` alone. The file was written by a process that could read its own start there, in the same
    /// process namespace; so a number that is missing is nobody's.
    fn test_by_proc(&self) -> Life {
        match ProcStat::read(self.pid) {
            Ok(stat) if stat.start != self.start || stat.has_exited() => Life::Dead,
            // That /proc is there at all is shown by the own entry.
            Err(error) if error.kind() == io::ErrorKind::NotFound && start_time(std::process::id()).is_ok() => {
                Life::Dead
            }
            _ => Life::Alive,
        }
    }

    fn decode(text: &str) -> Option<Contents> {
        let mut lines = text.lines();
        if lines.next()? != TITLE {
            return None;
        }
        Some(Contents {
            pid: lines.next()?.strip_prefix("pid ")?.parse().ok()?,
            start: lines.next()?.strip_prefix("start ")?.parse().ok()?,
            namespace: lines.next()?.strip_prefix("namespace ")?.to_owned(),
            system: from_hex(lines.next()?.strip_prefix("system ")?)?,
        })
    }
}

impl ProcessFile {
    /// Makes this instance's file, locked before it can be seen.
    pub(crate) fn create(directory: &RuntimeDirectory, nonce: u128) -> io::Result<ProcessFile> {
        let name = format!("{}{SUFFIX}", hex(nonce));
        let hidden = format!(".{}", hex(nonce));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = fs::openat(directory.fd(), &hidden, flags, Mode::RUSR | Mode::WUSR)?;
        let file = ProcessFile { name, fd };
        let publish = || -> io::Result<()> {
            fs::flock(&file.fd, FlockOperation::NonBlockingLockExclusive)?;
            file.write(0)?;
            Ok(fs::renameat(directory.fd(), &hidden, directory.fd(), &file.name)?)
        };
        if let Err(error) = publish() {
            directory.remove(&hidden);
            return Err(error);
        }
        Ok(file)
    }

    /// Writes the system that this instance belongs to. The caller holds the site's lock.
    pub(crate) fn write(&self, system: u128) -> io::Result<()> {
        let pid = std::process::id();
        let contents = Contents { pid, start: start_time(pid).unwrap_or(0), namespace: own_namespace(), system };
        let text = contents.encode();
        let written = rustix::io::pwrite(&self.fd, text.as_bytes(), 0)?;
        if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// This instance is over: no test will find it alive.
    pub(crate) fn end(&self, directory: &RuntimeDirectory) {
        directory.remove(&self.name);
        // Explicitly, because a forked child may hold the descriptor open.
        let _ = fs::flock(&self.fd, FlockOperation::Unlock);
    }
}

/// The opened file of another instance. The file stays testable through it when its name is gone.
#[derive(Debug)]
pub(crate) struct OtherFile {
    fd: OwnedFd,
}

impl OtherFile {
    /// Opens the file of `nonce`; an error of kind `NotFound` says that there is none.
    pub(crate) fn open(directory: &RuntimeDirectory, nonce: u128) -> io::Result<OtherFile> {
        let name = format!("{}{SUFFIX}", hex(nonce));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(OtherFile { fd: fs::openat(directory.fd(), &name, flags, Mode::empty())? })
    }

    fn contents(&self) -> Option<Contents> {
        let mut bytes = [0; LENGTH_MAX];
        let length = rustix::io::pread(&self.fd, &mut bytes, 0).ok()?;
        Contents::decode(std::str::from_utf8(bytes.get(..length)?).ok()?)
    }

    /// The system that the instance belongs to (0: none). The caller holds the site's lock.
    pub(crate) fn system(&self) -> u128 {
        self.contents().map_or(0, |contents| contents.system)
    }

    /// When its process started, by the file, if `/proc` shows the same of the process with this number.
    pub(crate) fn start_of(&self, pid: u32) -> Option<u64> {
        let contents = self.contents()?;
        let seen = contents.pid == pid && contents.start != 0 && contents.namespace == own_namespace();
        (seen && start_time(pid).ok()? == contents.start).then_some(contents.start)
    }

    /// Whether the instance lives.
    pub(crate) fn test(&self) -> Life {
        if fs::flock(&self.fd, FlockOperation::NonBlockingLockShared).is_ok() {
            let _ = fs::flock(&self.fd, FlockOperation::Unlock);
            return Life::Dead;
        }
        match self.contents() {
            // Process numbers of another namespace say nothing here; the lock alone decides.
            Some(contents) if contents.start != 0 && contents.namespace == own_namespace() => contents.test(),
            _ => Life::Alive,
        }
    }
}

/// Whether the instance with this nonce lives, by its file. No file: it is over (or never was).
pub(crate) fn test(directory: &RuntimeDirectory, nonce: u128) -> Life {
    match OtherFile::open(directory, nonce) {
        Ok(file) => file.test(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Life::Dead,
        Err(_) => Life::Alive,
    }
}

/// Removes files of instances that are over.
pub(crate) fn remove_stale(directory: &RuntimeDirectory, nonce: u128) {
    if test(directory, nonce) == Life::Dead {
        directory.remove(&format!("{}{SUFFIX}", hex(nonce)));
    }
}

/// Whether the process is at its end: all its threads, though nobody may have waited for it yet.
pub(crate) fn has_exited(pidfd: BorrowedFd<'_>) -> bool {
    is_readable(pidfd)
}

/// Whether a descriptor is readable now.
pub(super) fn is_readable(descriptor: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut polled, Some(&now)), Ok(1)) && polled[0].revents().contains(PollFlags::IN)
}

fn own_namespace() -> String {
    std::fs::read_link("/proc/self/ns/pid").map_or_else(|_| "unknown".to_owned(), |link| link.display().to_string())
}

/// Start time of a process, in ticks since boot.
fn start_time(pid: u32) -> io::Result<u64> {
    ProcStat::read(pid).map(|stat| stat.start)
}

/// A line of `stat` is no longer: 52 numbers and a name of 64 bytes at most.
const LINE_MAX: usize = 2_048;
/// The flag of a thread that exits: `PF_EXITING`.
const EXITING: u64 = 4;

/// What `/proc/<pid>/stat` says of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProcStat {
    /// One letter; Z: its first thread has ended, and nobody has waited for it.
    state: u8,
    /// Of the first thread.
    flags: u64,
    pub threads: u32,
    /// Ticks since boot.
    pub start: u64,
}

impl ProcStat {
    pub fn read(pid: u32) -> io::Result<ProcStat> {
        ProcStat::at(format!("/proc/{pid}/stat"))
    }

    /// The same of one thread.
    pub fn of_thread(pid: u32, thread: u32) -> io::Result<ProcStat> {
        ProcStat::at(format!("/proc/{pid}/task/{thread}/stat"))
    }

    fn at(path: String) -> io::Result<ProcStat> {
        // The kernel writes the line anew for each read: one has to take all of it.
        let mut bytes = [0; LINE_MAX];
        let length = std::fs::File::open(path)?.read(&mut bytes)?;
        ProcStat::parse(&String::from_utf8_lossy(&bytes[..length])).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(text: &str) -> Option<ProcStat> {
        // The second field is the program's name in parentheses and may contain anything, parentheses included.
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
        Some(ProcStat {
            state: *fields.first()?.as_bytes().first()?,
            flags: fields.get(6)?.parse().ok()?,
            threads: fields.get(17)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// The thread will not run the program again.
    pub fn is_exiting(&self) -> bool {
        self.flags & EXITING != 0
    }

    /// All its threads are at their end: the first one may end before the others.
    fn has_exited(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_lives_until_its_end() {
        let base = tempfile::tempdir().expect("tempdir");
        let directory = RuntimeDirectory::open(&base.path().join("isis")).expect("open");
        assert_eq!(test(&directory, 1), Life::Dead, "never was");
        let file = ProcessFile::create(&directory, 1).expect("create");
        assert_eq!(test(&directory, 1), Life::Alive);
        file.write(77).expect("write");
        let other = OtherFile::open(&directory, 1).expect("open");
        assert_eq!(other.system(), 77);
        file.end(&directory);
        assert_eq!(test(&directory, 1), Life::Dead);
        assert_eq!(other.test(), Life::Dead, "also through the descriptor");
    }

    #[test]
    fn contents_survive_the_journey() {
        let contents =
            Contents { pid: 4_194_304, start: u64::MAX, namespace: "pid:[4026531836]".to_owned(), system: u128::MAX };
        assert_eq!(Contents::decode(&contents.encode()), Some(contents));
        assert_eq!(Contents::decode("isis-process 2\n"), None);
    }

    /// What a system without `pidfd_open` relies on: a zombie is dead, a live process and its number's next owner are
    /// told apart.
    #[test]
    fn proc_tells_the_living_from_the_dead() {
        let pid = std::process::id();
        let start = start_time(pid).expect("/proc");
        let of = |pid, start| Contents { pid, start, namespace: own_namespace(), system: 0 };
        assert_eq!(of(pid, start).test_by_proc(), Life::Alive);
        assert_eq!(of(pid, start + 1).test_by_proc(), Life::Dead, "another process had this number");
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().expect("cat");
        let pid = child.id();
        let start = start_time(pid).expect("/proc");
        assert_eq!(of(pid, start).test_by_proc(), Life::Alive);
        // Its input ends, and so does it; nobody has waited for it yet.
        drop(child.stdin.take());
        let begin = std::time::Instant::now();
        while of(pid, start).test_by_proc() == Life::Alive {
            assert!(begin.elapsed() < std::time::Duration::from_secs(20), "the zombie is not seen");
            std::thread::yield_now();
        }
        child.wait().expect("cat");
        assert_eq!(of(pid, start).test_by_proc(), Life::Dead, "nobody's number");
    }

    #[test]
    fn a_program_may_have_any_name() {
        let text = "7 (a) Z (b) S) Z 1 1 1 0 -1 4194308 0 0 0 0 0 0 0 0 20 0 3 0 99 0 0";
        let stat = ProcStat::parse(text).expect("a line of stat");
        assert_eq!(stat, ProcStat { state: b'Z', flags: 4_194_308, threads: 3, start: 99 });
        assert!(stat.is_exiting());
        assert!(!stat.has_exited(), "two threads go on");
        assert_eq!(ProcStat::parse("7 (a"), None);
    }
}
