//! Whether all threads of a process exit: from then on it does nothing any more, though the kernel still takes it apart.
//!
//! A thread that exits (`PF_EXITING` in its `/proc` entry) never runs the program again and starts no other thread.
//!
//! Invariant: [`is_certain`] is true only of a process that will never act again.

use super::process_file::ProcStat;
use std::fs;

/// Threads of a process that are looked at, at most: a look must not take long. Of more, others tell the death.
const THREADS_MAX: usize = 64;

/// Whether all threads of the process exit that has this number and started then. `false`: some do not, or it cannot be seen (no
/// such entry of `/proc`, or it is hidden, or another process's).
pub(super) fn is_certain(pid: u32, start: u64) -> bool {
    exits(pid, start).unwrap_or(false)
}

fn exits(pid: u32, start: u64) -> Option<bool> {
    let first = ProcStat::read(pid).ok()?;
    if first.start != start || !first.is_exiting() {
        // Another process, or its first thread has not begun.
        return Some(false);
    }
    // It stays until all the others are gone. So if there is but one thread now, this is it. (Unless another one has become the
    // first by `exec`, which no instance survives.)
    match ProcStat::read(pid).ok()?.threads {
        1 => Some(true),
        _ => exit_all(pid),
    }
}

/// `/proc` lists threads while they come and go, and may end early where one goes. So the list counts only if the threads on
/// it exit, were all there before and after the kernel counted the threads, and are as many: then they are all there are.
fn exit_all(pid: u32) -> Option<bool> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        if listed.len() == THREADS_MAX {
            return None;
        }
        listed.push(entry.ok()?.file_name().to_str()?.parse::<u32>().ok()?);
    }
    listed.sort_unstable();
    listed.dedup();
    let all_exit = || listed.iter().all(|thread| ProcStat::of_thread(pid, *thread).is_ok_and(|stat| stat.is_exiting()));
    if !all_exit() {
        return Some(false);
    }
    let threads = ProcStat::read(pid).ok()?.threads as usize;
    Some(threads == listed.len() && all_exit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    fn start_of(pid: u32) -> u64 {
        ProcStat::read(pid).expect("stat").start
    }

    #[test]
    fn the_living_and_nobody_do_not_exit() {
        let own = std::process::id();
        assert!(!is_certain(own, start_of(own)));
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let (pid, start) = (child.id(), start_of(child.id()));
        assert!(!is_certain(pid, start));
        drop(child.stdin.take());
        child.wait().expect("cat");
        assert!(!is_certain(pid, start), "gone: others tell of that");
    }

    #[test]
    fn a_zombie_exits() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let start = start_of(child.id());
        drop(child.stdin.take());
        let begin = Instant::now();
        while !is_certain(child.id(), start) {
            assert!(begin.elapsed() < Duration::from_secs(20), "the zombie is not seen");
            std::thread::yield_now();
        }
        assert!(!is_certain(child.id(), start + 1), "another process's");
        child.wait().expect("cat");
    }

    /// The first thread has ended, another goes on: `/proc` shows a zombie, and it is none.
    #[test]
    fn a_process_whose_first_thread_ended_lives() {
        // SAFETY: the child touches nothing that another thread of this process might have held at that moment, but to start a
        // thread, for which the C library is prepared.
        let child = unsafe { libc::fork() };
        if child == 0 {
            std::thread::spawn(|| std::thread::sleep(Duration::from_secs(60)));
            // SAFETY: ends this thread only, which owns nothing that the other one uses.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        let pid = u32::try_from(child).expect("a child");
        let process = rustix::process::Pid::from_raw(child).expect("a child");
        let begin = Instant::now();
        while !ProcStat::read(pid).expect("stat").is_exiting() {
            assert!(begin.elapsed() < Duration::from_secs(20), "the first thread does not end");
            std::thread::yield_now();
        }
        let start = start_of(pid);
        assert!(!is_certain(pid, start));
        rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("kill");
        while !is_certain(pid, start) {
            assert!(begin.elapsed() < Duration::from_secs(20), "the process does not end");
            std::thread::yield_now();
        }
        rustix::process::waitpid(Some(process), rustix::process::WaitOptions::empty()).expect("waited for");
    }
}
