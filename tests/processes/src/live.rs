//! What has to end with this process: its children, and the directories that it made.
//!
//! Owner: the process, once for all. Invariants: a child is in the list from its start until its end was collected, so
//! that no number in it can belong to a stranger; whoever collects or removes holds the lock. On a signal the thread of
//! [`end_on_signals`] takes the lock and never gives it back: nothing is started or removed beside it.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at a child that is about to end.
const LOOK: Duration = Duration::from_millis(2);
/// A killed child that has not ended after this hangs in the kernel: nothing can be done.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Live {
    children: BTreeSet<i32>,
    directories: BTreeSet<PathBuf>,
}

static LIVE: Mutex<Live> = Mutex::new(Live { children: BTreeSet::new(), directories: BTreeSet::new() });

fn lock() -> MutexGuard<'static, Live> {
    // A thread that panicked here has at worst left a child in the list that is still there.
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on SIGINT, SIGTERM, SIGHUP and SIGQUIT kill all children, remove all directories and end this process with
/// 128 + the signal's number, as a shell would report it.
pub fn end_on_signals() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT]).map(|mut signals| {
            std::thread::spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    end(128 + signal);
                }
            });
        });
    });
    result
}

fn end(code: i32) -> ! {
    let live = lock();
    for &child in &live.children {
        if let Some(group) = Pid::from_raw(child) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
    let patience = Instant::now() + LAST_PATIENCE;
    for &child in &live.children {
        while let Some(pid) = Pid::from_raw(child)
            && matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None) | Err(Errno::INTR))
            && Instant::now() < patience
        {
            std::thread::sleep(LOOK);
        }
    }
    for directory in &live.directories {
        let _ = std::fs::remove_dir_all(directory);
    }
    // With the lock: no other thread starts anything now.
    std::process::exit(code)
}

/// Starts a child in a process group of its own: what it starts in turn is killed with it, and the terminal's
/// interrupt reaches this process alone, which then ends its children itself.
pub(crate) fn spawn(command: &mut Command) -> io::Result<std::process::Child> {
    let mut live = lock();
    let child = command.process_group(0).spawn()?;
    live.children.insert(child.id() as i32);
    Ok(child)
}

/// The end of a child, if it has come.
pub(crate) fn collect(child: &mut std::process::Child) -> io::Result<Option<ExitStatus>> {
    let mut live = lock();
    let status = child.try_wait()?;
    if status.is_some() {
        live.children.remove(&(child.id() as i32));
    }
    Ok(status)
}

/// Waits for the end of a child; `None`: it did not come in time.
pub(crate) fn collect_within(child: &mut std::process::Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + patience;
    loop {
        match collect(child)? {
            None if Instant::now() < end => std::thread::sleep(LOOK),
            status => return Ok(status),
        }
    }
}

/// Kills a child that may have ended already, a stopped one too, with what it has started; and collects it.
pub(crate) fn destroy(child: &mut std::process::Child) {
    if let (Ok(None), Some(group)) = (collect(child), Pid::from_raw(child.id() as i32)) {
        let _ = kill_process_group(group, Signal::KILL);
        let _ = collect_within(child, LAST_PATIENCE);
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> io::Result<ExitStatus> {
    let mut child = spawn(command)?;
    loop {
        if let Some(status) = collect(&mut child)? {
            return Ok(status);
        }
        std::thread::sleep(LOOK);
    }
}

pub(crate) fn add_directory(path: &Path) {
    lock().directories.insert(path.to_owned());
}

pub(crate) fn remove_directory(path: &Path) {
    let mut live = lock();
    let _ = std::fs::remove_dir_all(path);
    live.directories.remove(path);
}
