//! Processes that a bench, the demo or a test starts: what they need on disk, and that nothing of it is left behind.
//!
//! Read in this order: [`children`] (starting, hearing and ending processes that speak in lines), [`directory`] (a
//! directory that goes with the process that made it), [`live`] (what has to end with this process, whatever ends it),
//! [`library`] (building libisis and C programs against it).
//!
//! Linux only, and nothing of the engine: it may be used from any test.
#![forbid(unsafe_code)]

pub mod children;
pub mod directory;
pub mod library;
pub mod live;

pub use children::{Child, Children};
pub use directory::Directory;

/// The monotonic clock in nanoseconds: the same in all processes of this host.
pub fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
