//! The loop, as the program turns it: poll, run, stop, and a descriptor for loops of its own.

use crate::boundary::{enter, on_instance};
use crate::dispatch::count;
use crate::error::{ISIS_EENDED, ISIS_OK};
use crate::instance::{Phase, isis_t};
use crate::table::{self, Noun};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The most events of one isis_poll with `max` 0.
const BURST: u32 = 65_536;

/// Runs callbacks for what has happened, at most `max` events (0: all there are, up to 65536). Inline mode: turns the
/// loop once, and must be called often. Never blocks. Returns the number of events.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINCALLBACK, ISIS_ESYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn isis_poll(isis: *mut isis_t, max: u32) -> i32 {
    on_instance(isis, |instance| count(instance.step(if max == 0 { BURST } else { max })?))
}

/// Turns the loop, runs callbacks and sleeps in between, until isis_stop, or until the handle is closed. Returns 0.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINCALLBACK, ISIS_ESYSTEM, ISIS_EENDED
/// (evicted).
#[unsafe(no_mangle)]
pub extern "C" fn isis_run(isis: *mut isis_t) -> i32 {
    on_instance(isis, |instance| {
        instance.outside_callbacks()?;
        loop {
            let events = instance.step(256)?;
            if table::take_signal(isis as u64) || instance.phase() == Phase::Over {
                return Ok(ISIS_OK);
            }
            if events == 0 {
                if instance.evicted.get() && instance.phase() == Phase::Running {
                    return Err(crate::error::plain(ISIS_EENDED));
                }
                instance.sleep(Duration::MAX)?;
            }
        }
    })
}

/// Makes isis_run return: the one that runs, or else the next. Any thread may call it, and callbacks, and signal
/// handlers. From another thread or a handler it takes up to 20 ms.
///
/// Errors: ISIS_EHANDLE, ISIS_EFORKED.
#[unsafe(no_mangle)]
pub extern "C" fn isis_stop(isis: *mut isis_t) -> i32 {
    enter(|| {
        table::is_open(Noun::Instance, isis as u64)?;
        table::signal(isis as u64);
        Ok(ISIS_OK)
    })
}

/// Returns a file descriptor for select, poll, epoll and their likes: readable when isis_poll has work, if
/// isis_wait_prepare returned 0 just before. It stays the same, and the library's: do not read or close it.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED.
#[unsafe(no_mangle)]
pub extern "C" fn isis_fd(isis: *mut isis_t) -> i32 {
    on_instance(isis, |instance| Ok(instance.node().fd().as_raw_fd()))
}

/// To be called before sleeping on isis_fd. Returns 1: there is work, call isis_poll; 0: armed, sleep.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ESYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn isis_wait_prepare(isis: *mut isis_t) -> i32 {
    on_instance(isis, |instance| {
        let prepared = instance.node().wait_prepare();
        let more = prepared.map_err(|why| instance.failure(why))?;
        // A state on its way to a joiner is moved on by polling; no descriptor tells when the core takes more of it.
        let more = more || !instance.transfers.borrow().is_empty() || instance.close_evicted().is_some();
        Ok(i32::from(more))
    })
}
