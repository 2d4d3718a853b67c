//! Corosync's closed process groups (CPG), total order ("agreed"). Transport `one-daemon`: all members are clients of one
//! daemon, which member 0 starts with a configuration of its own (ring of one node, `udpu`, datagrams of 65,000 bytes, no
//! encryption) and ends. Needs to be root, and that no other Corosync runs on this host: its local sockets have fixed names.

use isis_rivals::talk::Start;
use isis_rivals::{System, run};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::process::{Pid, Signal, kill_process};
use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The names of the C API: `corosync/corotypes.h`, `corosync/cpg.h`.
mod cpg {
    use super::{c_char, c_int, c_void};

    /// `CS_OK`.
    pub const OK: c_int = 1;
    /// `CS_ERR_TRY_AGAIN`.
    pub const TRY_AGAIN: c_int = 6;
    /// `CS_DISPATCH_ALL`: all that is there; does not wait.
    pub const DISPATCH_ALL: c_int = 2;
    /// `CPG_TYPE_AGREED`.
    pub const AGREED: c_int = 2;

    /// `struct cpg_name`.
    #[repr(C)]
    pub struct Name {
        pub length: u32,
        pub value: [c_char; 128],
    }

    /// `struct cpg_address`.
    #[repr(C)]
    pub struct Address {
        pub node: u32,
        pub process: u32,
        pub reason: u32,
    }

    /// `struct iovec`.
    #[repr(C)]
    pub struct Part {
        pub base: *const c_void,
        pub length: usize,
    }

    /// `cpg_callbacks_t`.
    #[repr(C)]
    pub struct Callbacks {
        pub deliver: unsafe extern "C" fn(u64, *const Name, u32, u32, *mut c_void, usize),
        pub change:
            unsafe extern "C" fn(u64, *const Name, *const Address, usize, *const Address, usize, *const Address, usize),
    }

    #[link(name = "cpg")]
    unsafe extern "C" {
        pub fn cpg_initialize(handle: *mut u64, callbacks: *mut Callbacks) -> c_int;
        pub fn cpg_join(handle: u64, group: *const Name) -> c_int;
        pub fn cpg_fd_get(handle: u64, fd: *mut c_int) -> c_int;
        pub fn cpg_dispatch(handle: u64, types: c_int) -> c_int;
        pub fn cpg_mcast_joined(handle: u64, guarantee: c_int, parts: *const Part, count: u32) -> c_int;
        pub fn cpg_finalize(handle: u64) -> c_int;
    }
}

/// How long the daemon may take to start.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the other members, then the daemon, may take to end.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long an idle member sleeps at most.
const SLEEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// What the callbacks have seen since the last look: messages one after the other, their lengths, and the members.
#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    members: usize,
}

thread_local! {
    static SEEN: RefCell<Seen> = RefCell::default();
}

unsafe extern "C" fn deliver(_: u64, _: *const cpg::Name, _: u32, _: u32, message: *mut c_void, length: usize) {
    // SAFETY: the library hands over a message of this length, which lives during the call.
    let message = unsafe { std::slice::from_raw_parts(message.cast::<u8>(), length) };
    SEEN.with_borrow_mut(|seen| {
        seen.bytes.extend_from_slice(message);
        seen.lengths.push(length);
    });
}

unsafe extern "C" fn change(
    _: u64,
    _: *const cpg::Name,
    _: *const cpg::Address,
    members: usize,
    _: *const cpg::Address,
    _: usize,
    _: *const cpg::Address,
    _: usize,
) {
    SEEN.with_borrow_mut(|seen| seen.members = members);
}

struct Member {
    handle: u64,
    fd: c_int,
    members: usize,
    daemon: Option<Child>,
}

fn daemon(start: &Start) -> Result<Child, String> {
    let folder = start.directory.display();
    let (file, log) = (start.directory.join("corosync.conf"), start.directory.join("corosync.log"));
    let text = format!(
        "totem {{\n version: 2\n cluster_name: bench\n transport: udpu\n crypto_cipher: none\n crypto_hash: none\n \
         netmtu: 65000\n interface {{\n  ringnumber: 0\n  bindnetaddr: 127.0.0.1\n  mcastport: {}\n }}\n}}\n\
         nodelist {{\n node {{\n  ring0_addr: 127.0.0.1\n  nodeid: 1\n }}\n}}\n\
         system {{\n state_dir: {folder}\n sched_rr: no\n move_to_root_cgroup: no\n}}\n\
         logging {{\n to_syslog: no\n to_stderr: no\n to_logfile: yes\n logfile: {}\n}}\n",
        start.port,
        log.display()
    );
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    let mut command = Command::new("corosync");
    command.arg("-f").arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: the closure only makes a system call; nothing is allocated between fork and exec. The daemon ends with this
    // process, whatever ends it.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        });
    }
    command.spawn().map_err(|error| format!("starting corosync: {error}"))
}

fn open(start: &Start) -> Result<Member, String> {
    if start.transport != "one-daemon" {
        return Err(format!("there is no transport {}", start.transport));
    }
    let mut daemon = if start.index == 0 { Some(daemon(start)?) } else { None };
    let mut callbacks = cpg::Callbacks { deliver, change };
    let mut name = cpg::Name { length: 5, value: [0; 128] };
    for (to, from) in name.value.iter_mut().zip(b"bench") {
        *to = *from as c_char;
    }
    let (mut handle, mut fd) = (0, 0);
    let end = Instant::now() + PATIENCE;
    let mut attempt = |step: &dyn Fn(&mut u64) -> c_int, what: &str| -> Result<(), String> {
        loop {
            let result = step(&mut handle);
            if result == cpg::OK {
                return Ok(());
            }
            if let Some(status) = daemon.as_mut().and_then(|daemon| daemon.try_wait().ok().flatten()) {
                let log = std::fs::read_to_string(start.directory.join("corosync.log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                return Err(format!("the daemon ended with {status}: {last:?}"));
            }
            if Instant::now() > end {
                return Err(format!("{what}: error {result}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let callbacks = &raw mut callbacks;
    // SAFETY: handle and callbacks are valid for the call; the library copies the callbacks.
    attempt(&|handle| unsafe { cpg::cpg_initialize(handle, callbacks) }, "cpg_initialize")?;
    // SAFETY: the handle is that of cpg_initialize; the name lives during the call.
    attempt(&|handle| unsafe { cpg::cpg_join(*handle, &raw const name) }, "cpg_join")?;
    // SAFETY: the handle is that of cpg_initialize; the number is written during the call.
    if unsafe { cpg::cpg_fd_get(handle, &raw mut fd) } != cpg::OK {
        return Err("cpg_fd_get failed".to_owned());
    }
    Ok(Member { handle, fd, members: usize::from(start.members), daemon })
}

impl System for Member {
    fn ready(&mut self) -> Result<bool, String> {
        Ok(SEEN.with_borrow(|seen| seen.members) == self.members)
    }

    fn send(&mut self, message: &[u8]) -> Result<bool, String> {
        let part = cpg::Part { base: message.as_ptr().cast(), length: message.len() };
        // SAFETY: the handle is open; the part and the message live during the call, which copies them.
        match unsafe { cpg::cpg_mcast_joined(self.handle, cpg::AGREED, &raw const part, 1) } {
            cpg::OK => Ok(true),
            cpg::TRY_AGAIN => Ok(false),
            error => Err(format!("cpg_mcast_joined: error {error}")),
        }
    }

    fn poll<F: FnMut(&[u8])>(&mut self, deliver: &mut F) -> Result<usize, String> {
        // SAFETY: the handle is open; the callbacks are functions of this program.
        match unsafe { cpg::cpg_dispatch(self.handle, cpg::DISPATCH_ALL) } {
            cpg::OK | cpg::TRY_AGAIN => (),
            error => return Err(format!("cpg_dispatch: error {error}")),
        }
        Ok(SEEN.with_borrow_mut(|seen| {
            let mut at = 0;
            for length in &seen.lengths {
                deliver(&seen.bytes[at..at + length]);
                at += length;
            }
            let done = seen.lengths.len();
            seen.bytes.clear();
            seen.lengths.clear();
            done
        }))
    }

    fn idle(&mut self) {
        // SAFETY: the descriptor is the library's, which is open as long as the handle.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&SLEEP));
    }

    fn cpu_elsewhere_ns(&self) -> u64 {
        let Some(daemon) = &self.daemon else { return 0 };
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", daemon.id())) else { return 0 };
        let of_task = |path: std::path::PathBuf| {
            let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        tasks.filter_map(|task| of_task(task.ok()?.path())).sum()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The daemon goes last: a member that still polls would see it fail.
        let end = Instant::now() + FAREWELL;
        while self.daemon.is_some() && SEEN.with_borrow(|seen| seen.members) > 1 && Instant::now() < end {
            self.idle();
            if self.poll(&mut |_| ()).is_err() {
                break;
            }
        }
        // SAFETY: the handle is open, and used no more.
        unsafe { cpg::cpg_finalize(self.handle) };
        if let Some(daemon) = &mut self.daemon {
            // Asked to end it removes its files in /dev/shm.
            let _ = kill_process(Pid::from_child(daemon), Signal::TERM);
            let end = Instant::now() + FAREWELL;
            while Instant::now() < end && matches!(daemon.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn main() -> ExitCode {
    run(open)
}
