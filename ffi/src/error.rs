//! Status codes, and the text of the last failure of each thread.
//!
//! Every call returns `int32_t`: 0 or a count when it worked, one of the negative codes below otherwise. A number is
//! never given to another meaning; a code that goes out of use leaves a hole.
//!
//! Invariant: a [`Failure`] that is [`ISIS_EAGAIN`] carries no text, so that a full window formats and allocates nothing.

use std::cell::{Cell, UnsafeCell};
use std::ffi::c_char;
use std::fmt::{self, Write};

/// It worked.
pub const ISIS_OK: i32 = 0;
/// An argument is NULL, too large, or has a value that the call does not know.
pub const ISIS_EINVAL: i32 = -1;
/// The handle is NULL, closed, of another kind, or was never given out.
pub const ISIS_EHANDLE: i32 = -2;
/// Not now: the window (or another bounded buffer) is full. Not a failure: try again after ISIS_EVENT_WRITABLE.
pub const ISIS_EAGAIN: i32 = -3;
/// The handle belongs to another thread.
pub const ISIS_ETHREAD: i32 = -4;
/// This call must not be made from inside a callback.
pub const ISIS_EINCALLBACK: i32 = -5;
/// The handle was opened before a fork, in the parent.
pub const ISIS_EFORKED: i32 = -6;
/// A bug of the library was caught and this handle is unusable: close it. Other members see a crash.
pub const ISIS_EPOISONED: i32 = -7;
/// The time that the caller allowed is over.
pub const ISIS_ETIMEDOUT: i32 = -8;
/// The message is longer than `max_message`, or the claim longer than isis_claim_max tells.
pub const ISIS_ETOOLONG: i32 = -9;
/// This process is not a member of the group: not yet, or not any more.
pub const ISIS_ENOTMEMBER: i32 = -10;
/// No such process in the system.
pub const ISIS_ENOPROCESS: i32 = -11;
/// This process is no longer part of a system: it was evicted, or the handle is being closed.
pub const ISIS_EENDED: i32 = -12;
/// A claim is already open in this group, or the claim names none that is open.
pub const ISIS_ECLAIM: i32 = -13;
/// This call does not know this kind of multicast.
pub const ISIS_EKIND: i32 = -14;
/// A fixed table is full: too many handles, senders or instances.
pub const ISIS_ELIMIT: i32 = -15;
/// The operating system refused something; isis_last_error has the details.
pub const ISIS_ESYSTEM: i32 = -16;
/// No option has this name, or the value cannot be one of this option.
pub const ISIS_EOPTION: i32 = -17;
/// A file could not be read or does not parse.
pub const ISIS_EFILE: i32 = -18;
/// The message is neither in delivery nor held by this thread.
pub const ISIS_EMESSAGE: i32 = -19;
/// An index is out of range: rank, joined, departed, counter.
pub const ISIS_ERANGE: i32 = -20;
/// There is no view yet: the join is not complete.
pub const ISIS_ENOVIEW: i32 = -21;
/// This build or this platform cannot do it.
pub const ISIS_EUNSUPPORTED: i32 = -22;
/// This process is a member of that group already, or is joining it.
pub const ISIS_EALREADY: i32 = -23;

/// Each code with its name and its text, by falling number.
const TEXTS: [(i32, &str); 24] = [
    (ISIS_OK, "ISIS_OK: it worked\0"),
    (ISIS_EINVAL, "ISIS_EINVAL: bad argument\0"),
    (ISIS_EHANDLE, "ISIS_EHANDLE: not an open handle of this kind\0"),
    (ISIS_EAGAIN, "ISIS_EAGAIN: not now, try again\0"),
    (ISIS_ETHREAD, "ISIS_ETHREAD: the handle belongs to another thread\0"),
    (ISIS_EINCALLBACK, "ISIS_EINCALLBACK: not from inside a callback\0"),
    (ISIS_EFORKED, "ISIS_EFORKED: the handle belongs to the parent process\0"),
    (ISIS_EPOISONED, "ISIS_EPOISONED: an internal error made this handle unusable\0"),
    (ISIS_ETIMEDOUT, "ISIS_ETIMEDOUT: the time is over\0"),
    (ISIS_ETOOLONG, "ISIS_ETOOLONG: the message is too long\0"),
    (ISIS_ENOTMEMBER, "ISIS_ENOTMEMBER: not a member of this group\0"),
    (ISIS_ENOPROCESS, "ISIS_ENOPROCESS: no such process in the system\0"),
    (ISIS_EENDED, "ISIS_EENDED: no longer part of a system\0"),
    (ISIS_ECLAIM, "ISIS_ECLAIM: a claim is already open, or this one is not\0"),
    (ISIS_EKIND, "ISIS_EKIND: unknown kind of multicast\0"),
    (ISIS_ELIMIT, "ISIS_ELIMIT: a fixed table is full\0"),
    (ISIS_ESYSTEM, "ISIS_ESYSTEM: the operating system refused\0"),
    (ISIS_EOPTION, "ISIS_EOPTION: no such option, or not a value of it\0"),
    (ISIS_EFILE, "ISIS_EFILE: the file cannot be read or parsed\0"),
    (ISIS_EMESSAGE, "ISIS_EMESSAGE: the message is neither in delivery nor held by this thread\0"),
    (ISIS_ERANGE, "ISIS_ERANGE: index out of range\0"),
    (ISIS_ENOVIEW, "ISIS_ENOVIEW: no view yet\0"),
    (ISIS_EUNSUPPORTED, "ISIS_EUNSUPPORTED: not possible here\0"),
    (ISIS_EALREADY, "ISIS_EALREADY: already a member of that group\0"),
];

/// Why a call did not work; [`fail`] and [`Failure::from`] make them.
#[derive(Debug)]
pub struct Failure(i32);

/// What the inside of an entry point returns: a count, or why not.
pub(crate) type Status = Result<i32, Failure>;

impl Failure {
    /// Not now. Leaves the text of the last failure alone.
    pub const AGAIN: Failure = Failure(ISIS_EAGAIN);

    /// The negative number.
    pub fn code(&self) -> i32 {
        self.0
    }
}

/// Longest text that `isis_last_error` gives, its NUL included.
const TEXT: usize = 512;

thread_local! {
    static LAST: UnsafeCell<[u8; TEXT]> = const { UnsafeCell::new([0; TEXT]) };
    static LAST_CODE: Cell<i32> = const { Cell::new(ISIS_OK) };
}

/// Cuts what does not fit, at a character's border.
struct Cut<'a> {
    bytes: &'a mut [u8; TEXT],
    len: usize,
}

impl Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut take = text.len().min(TEXT - 1 - self.len);
        while !text.is_char_boundary(take) {
            take -= 1;
        }
        for &byte in &text.as_bytes()[..take] {
            // A NUL inside would end the C string early.
            self.bytes[self.len] = if byte == 0 { b' ' } else { byte };
            self.len += 1;
        }
        Ok(())
    }
}

/// A failure with its details, kept for `isis_last_error`.
#[cold]
pub fn fail(code: i32, details: fmt::Arguments<'_>) -> Failure {
    LAST.with(|last| {
        // SAFETY: the buffer is this thread's, and formatting the library's own arguments never comes back here.
        let mut cut = Cut { bytes: unsafe { &mut *last.get() }, len: 0 };
        let _ = cut.write_fmt(details);
        cut.bytes[cut.len] = 0;
    });
    LAST_CODE.set(code);
    Failure(code)
}

/// A failure whose code says it all.
#[cold]
pub fn plain(code: i32) -> Failure {
    fail(code, format_args!("{}", text(code).trim_end_matches('\0')))
}

fn text(code: i32) -> &'static str {
    TEXTS.iter().find(|(number, _)| *number == code).map_or("unknown code\0", |(_, text)| text)
}

/// The meaning of a code: a constant, NUL-terminated text. Never NULL, for any number.
#[unsafe(no_mangle)]
pub extern "C" fn isis_strerror(code: i32) -> *const c_char {
    text(code).as_ptr().cast()
}

/// The details of the last failure on this thread; empty if there was none. Never NULL. Valid until the next call that
/// fails on this thread. ISIS_EAGAIN leaves it as it is.
#[unsafe(no_mangle)]
pub extern "C" fn isis_last_error() -> *const c_char {
    LAST.with(|last| last.get().cast::<c_char>().cast_const())
}

/// The code of the last failure on this thread, ISIS_OK if there was none. ISIS_EAGAIN leaves it as it is.
#[unsafe(no_mangle)]
pub extern "C" fn isis_last_error_code() -> i32 {
    LAST_CODE.get()
}
