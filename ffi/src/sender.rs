//! `isis_sender_t`: a way for one further thread to multicast into a group.
//!
//! Owner: the first thread that uses it, until it closes it. It does not lead to the instance: it has a ring of its own
//! to the core, and outlives the instance's handle without harm.

use crate::boundary::{Output, bytes, enter, on_group, set_if_wanted};
use crate::error::{ISIS_OK, Status};
use crate::group::{isis_group_t, ordinary};
use crate::instance::node_failure;
use crate::send::send_options;
use crate::table::{self, Noun};
use isis_runtime::Sender;
use std::ffi::c_void;

/// A sender. An opaque handle: only to be handed back, never to be looked into.
pub struct isis_sender_t {
    _private: [u8; 0],
}

/// What stands behind the handle.
struct Producer {
    sender: Sender,
    /// The ticket of the last message sent; 0: none yet.
    last_sent: u64,
}

// A sender is made by the instance's thread and used by another one.
const fn may_move_between_threads<T: Send>() {}
const _: () = may_move_between_threads::<Producer>();

/// Opens a sender, for another thread to multicast into the group (threaded mode). The first thread that uses it is its
/// owner. FIFO order holds among the messages of one sender.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOTMEMBER, ISIS_EENDED,
/// ISIS_ELIMIT, ISIS_EUNSUPPORTED (inline mode). On an error `*sender` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_sender_open(group: *mut isis_group_t, sender: *mut *mut isis_sender_t) -> i32 {
    set_if_wanted(sender, std::ptr::null_mut());
    on_group(group, |instance, core| {
        let output = Output::new(sender, "sender")?;
        let opened = instance.node().open_sender(ordinary(core)?);
        let sender = opened.map_err(|why| instance.failure(why))?;
        let object = Box::into_raw(Box::new(Producer { sender, last_sent: 0 }));
        match table::open(Noun::Sender, object.cast(), 0, true) {
            Ok(handle) => {
                output.set(handle as *mut isis_sender_t);
                Ok(ISIS_OK)
            }
            Err(full) => {
                // SAFETY: made above; nobody else has it.
                drop(unsafe { Box::from_raw(object) });
                Err(full)
            }
        }
    })
}

/// Multicasts through a sender; as isis_multicast. No event tells when a full window has room again.
///
/// Errors: ISIS_EAGAIN, ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_EKIND,
/// ISIS_ETOOLONG, ISIS_ENOTMEMBER, ISIS_EENDED (the instance is closed).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_sender_send(
    sender: *mut isis_sender_t,
    kind: u32,
    entry: u32,
    data: *const c_void,
    len: u64,
) -> i32 {
    enter(|| -> Status {
        let found = table::find(Noun::Sender, sender as u64)?;
        let options = send_options(kind, entry)?;
        // SAFETY: the pointer contract.
        let data = unsafe { bytes(data, len)? };
        // SAFETY: the table has live senders only, and `find` saw that it is this thread's. No callback runs below, so
        // this is the only reference.
        let sender = unsafe { &mut *found.object.cast::<Producer>() };
        sender.last_sent = sender.sender.multicast(options, data).map_err(node_failure)?;
        Ok(ISIS_OK)
    })
}

/// The ticket of the last message that this sender sent with success, as isis_last_sent tells it of a group's handle. 0 if
/// there was none.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_sender_last_sent(sender: *mut isis_sender_t, ticket: *mut u64) -> i32 {
    enter(|| {
        let found = table::find(Noun::Sender, sender as u64)?;
        let output = Output::new(ticket, "ticket")?;
        // SAFETY: as in isis_sender_send.
        output.set(unsafe { (*found.object.cast::<Producer>()).last_sent });
        Ok(ISIS_OK)
    })
}

/// Closes a sender. What it has sent still goes out.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED.
#[unsafe(no_mangle)]
pub extern "C" fn isis_sender_close(sender: *mut isis_sender_t) -> i32 {
    enter(|| {
        let found = table::find(Noun::Sender, sender as u64)?;
        table::close(sender as u64);
        // SAFETY: made by `Box::into_raw` above, this thread's, and its handle is closed now.
        drop(unsafe { Box::from_raw(found.object.cast::<Producer>()) });
        Ok(ISIS_OK)
    })
}
