//! What every entry point goes through: the panic boundary, the way from a handle to its object, and the checks of
//! pointers that C hands in.
//!
//! Pointer contract, the same for every call: an output pointer is checked for NULL and alignment before anything is
//! done; `data` may be NULL only with `len` 0; strings end in NUL and are UTF-8; everything is borrowed for the call
//! only, except callbacks and their `user` pointers, which are kept until replaced or until their handle is closed.
//!
//! A panic below is a bug. It is caught here, its text goes to `isis_last_error`, the instance that it happened in is
//! poisoned (peers see a crash), and the call returns `ISIS_EPOISONED`. Nothing is printed.

use crate::error::{self, Failure, Status, fail};
use crate::group::isis_group_t;
use crate::instance::{Instance, isis_t};
use crate::table::{self, Noun};
use isis_protocol::GroupHandle;
use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Longest string that a call takes, its NUL not counted.
pub(crate) const LONGEST_TEXT: usize = 4_096;

thread_local! {
    /// How many entry points of the library this thread is in.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// Runs an entry point that belongs to no handle.
pub fn enter(body: impl FnOnce() -> Status) -> i32 {
    let inside = INSIDE.get();
    INSIDE.set(inside + 1);
    let result = catch_unwind(AssertUnwindSafe(body));
    INSIDE.set(inside);
    match result {
        Ok(Ok(count)) => count,
        Ok(Err(failure)) => failure.code(),
        Err(panic) => caught(panic).code(),
    }
}

/// Runs an entry point of an instance.
pub fn on_instance(isis: *mut isis_t, body: impl FnOnce(&Instance) -> Status) -> i32 {
    enter(|| {
        let found = table::find(Noun::Instance, isis as u64)?;
        guarded(found.object, body)
    })
}

/// Runs an entry point of a group: the body gets the instance that the group belongs to, and the core's handle.
pub fn on_group(group: *mut isis_group_t, body: impl FnOnce(&Instance, GroupHandle) -> Status) -> i32 {
    enter(|| {
        let found = table::find(Noun::Group, group as u64)?;
        guarded(found.object, |instance| body(instance, GroupHandle(found.detail as u32)))
    })
}

/// Runs `body` on a found instance; poisons the instance if it panics, frees it if it came to its end.
pub fn guarded(object: *mut (), body: impl FnOnce(&Instance) -> Status) -> Status {
    let pointer = object.cast::<Instance>();
    // SAFETY: the table holds only live instances, and `find` saw that this thread is the owner, so nobody frees it
    // meanwhile: `release_if_over` below does so only when no other call on it is on this thread's stack.
    let instance = unsafe { &*pointer };
    if instance.is_poisoned() {
        return Err(poisoned());
    }
    let result = match catch_unwind(AssertUnwindSafe(|| body(instance))) {
        Ok(status) => status,
        Err(panic) => {
            let failure = caught(panic);
            instance.poison();
            Err(failure)
        }
    };
    if instance.is_poisoned() {
        instance.bury();
    }
    Instance::release_if_over(pointer);
    result
}

/// The failure of every call on a poisoned handle.
pub fn poisoned() -> Failure {
    error::plain(error::ISIS_EPOISONED)
}

#[cold]
fn caught(panic: Box<dyn Any + Send>) -> Failure {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let failure = fail(error::ISIS_EPOISONED, format_args!("internal error: {}", text.unwrap_or("no text")));
    // The payload's own destructor could panic.
    std::mem::forget(panic);
    failure
}

/// Keeps the library's panics off stderr. Panics of other Rust code in the process go where they went before.
pub fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let ours = INSIDE.get() > 0 || std::thread::current().name().is_some_and(|name| name.starts_with("isis"));
            if !ours {
                before(panic);
            }
        }));
    });
}

/// The bytes that C hands in.
///
/// # Safety
/// `data` must be NULL or readable for `len` bytes for as long as the result is used.
pub unsafe fn bytes<'a>(data: *const c_void, len: u64) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(fail(error::ISIS_EINVAL, format_args!("data is NULL, but len is {len}")));
    }
    if len > isize::MAX as u64 {
        return Err(fail(error::ISIS_ETOOLONG, format_args!("len is {len}")));
    }
    // SAFETY: not NULL; the caller promises `len` readable bytes.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len as usize) })
}

/// A string that C hands in; `what` names it in the details.
///
/// # Safety
/// `text` must be NULL or end in NUL, and stay for as long as the result is used.
pub unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(fail(error::ISIS_EINVAL, format_args!("{what} is NULL")));
    }
    // SAFETY: the caller promises a NUL; strnlen reads no further than it.
    if unsafe { libc::strnlen(text, LONGEST_TEXT + 1) } > LONGEST_TEXT {
        return Err(fail(error::ISIS_EINVAL, format_args!("{what} is longer than {LONGEST_TEXT} bytes")));
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| fail(error::ISIS_EINVAL, format_args!("{what} is not UTF-8")))
}

/// A place for a result, checked before the work is done.
pub struct Output<T>(*mut T);

impl<T> Output<T> {
    /// Checks the pointer; `what` names it in the details.
    pub fn new(pointer: *mut T, what: &str) -> Result<Output<T>, Failure> {
        if pointer.is_null() {
            return Err(fail(error::ISIS_EINVAL, format_args!("{what} is NULL")));
        }
        if !pointer.is_aligned() {
            return Err(fail(error::ISIS_EINVAL, format_args!("{what} is not aligned")));
        }
        Ok(Output(pointer))
    }

    /// Hands the result over.
    pub fn set(&self, value: T) {
        // SAFETY: not NULL and aligned; by the pointer contract C gives a writable place for a T, of which the old
        // value needs no destructor (only plain C types come here).
        unsafe { self.0.write(value) }
    }
}

/// Writes to an output that may be NULL.
pub(crate) fn set_if_wanted<T>(pointer: *mut T, value: T) {
    if !pointer.is_null() && pointer.is_aligned() {
        // SAFETY: as in `Output::set`.
        unsafe { pointer.write(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ISIS_EPOISONED, isis_last_error};

    #[test]
    fn a_panic_becomes_a_status_and_a_text() {
        silence_panics();
        assert_eq!(enter(|| panic!("planted {}", 7)), ISIS_EPOISONED);
        // SAFETY: the text is NUL-terminated and this thread's.
        let text = unsafe { CStr::from_ptr(isis_last_error()) }.to_str().unwrap();
        assert_eq!(text, "internal error: planted 7");
    }
}
