//! Counts the system calls of another process, which makes one certain call before and after what is to be counted.

use std::collections::BTreeMap;
use std::io::{Error, Result};

/// The call that begins and ends what is counted: nothing else makes it.
const MARK: i64 = libc::SYS_getppid;

/// Makes that call.
pub fn mark() -> u32 {
    std::os::unix::process::parent_id()
}

/// Attaches to a process of one thread, and stops it.
pub fn attach(pid: i32) -> Result<()> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))?.count();
    assert_eq!(threads, 1, "an inline node has no thread");
    request(libc::PTRACE_SEIZE, pid, 0, libc::PTRACE_O_TRACESYSGOOD as usize)?;
    request(libc::PTRACE_INTERRUPT, pid, 0, 0)?;
    next_stop(pid).map(drop)
}

/// Lets it run, and counts its calls, by number, between two marks. Then it runs by itself.
pub fn count(pid: i32) -> Result<BTreeMap<i64, u64>> {
    let mut counts = BTreeMap::new();
    let mut marks = 0;
    let mut signal = 0;
    while marks < 2 {
        request(libc::PTRACE_SYSCALL, pid, 0, signal)?;
        let stop = next_stop(pid)?;
        signal = 0;
        if stop != libc::SIGTRAP | 0x80 {
            // A signal of its own, or a stop of the group.
            signal = if stop == libc::SIGTRAP { 0 } else { stop as usize };
            continue;
        }
        match entered(pid)? {
            Some(MARK) => marks += 1,
            Some(call) if marks == 1 => *counts.entry(call).or_default() += 1,
            _ => {}
        }
    }
    request(libc::PTRACE_DETACH, pid, 0, 0)?;
    Ok(counts)
}

/// The number of the call that it has entered; `None`: it comes back from one.
fn entered(pid: i32) -> Result<Option<i64>> {
    // SAFETY: all zeros are a value of this struct of integers.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of_val(&info);
    request(libc::PTRACE_GET_SYSCALL_INFO, pid, size, &raw mut info as usize)?;
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return Ok(None);
    }
    // SAFETY: the kernel says that it has filled in this part of the union.
    Ok(Some(unsafe { info.u.entry.nr } as i64))
}

fn request(request: libc::c_uint, pid: i32, address: usize, data: usize) -> Result<()> {
    // SAFETY: the only request here that writes to memory is that of `entered`, with room of the size that it names.
    match unsafe { libc::ptrace(request as _, pid, address, data) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Waits until it stops; gives the signal that it stopped by.
fn next_stop(pid: i32) -> Result<i32> {
    let mut status = 0;
    // SAFETY: the status is room for an integer.
    match unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } {
        -1 => Err(Error::last_os_error()),
        _ if libc::WIFSTOPPED(status) => Ok(libc::WSTOPSIG(status)),
        _ => Err(Error::other(format!("the traced process has ended: {status:#x}"))),
    }
}
