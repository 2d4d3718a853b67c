//! Messages: what a callback is given, and how one is kept.
//!
//! `isis_message_t` is a public struct, so that C reads it directly; the functions serve languages that cannot. They do
//! not trust the pointer: it must be a message that is now in delivery on this thread, or one that this thread holds,
//! and what they need beyond the struct (who to reply to) comes from records of the library's own.
//!
//! Invariants: `DELIVERING` is the chain of messages in delivery on this thread's stack, the innermost first. `HELD` has
//! every held message of this thread under its address.

use crate::boundary::{Output, enter};
use crate::error::{self, Failure, ISIS_OK, fail, plain};
use crate::group::isis_group_t;
use crate::instance::{Instance, isis_t};
use crate::send::kind_number;
use crate::table::{self, Noun};
use isis_protocol::{GroupHandle, MessageId};
use isis_runtime::Message;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::Arc;

/// A message. It, and what `data` points to, are borrowed until the callback returns, unless isis_msg_hold keeps it. `data` is
/// for reading: it may lie in memory that the sender's process shares. A forked child has no part in that: what it is to
/// have, copy before.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isis_message_t {
    /// Size of this struct in bytes, as the library was compiled.
    pub size: u64,
    /// Its bytes, contiguous. NULL if there are none.
    pub data: *const c_void,
    /// How many bytes.
    pub len: u64,
    /// The instance that it came to.
    pub isis: *mut isis_t,
    /// The group that it was sent in.
    pub group: *mut isis_group_t,
    /// The process that sent it: a member, or a client.
    pub sender: u64,
    /// The number of the group's view that it was sent in; of a client's multicast, that it was delivered in.
    pub view: u64,
    /// Its number among its sender's multicasts in that view: 1, 2, 3 and so on. ISIS_UNICAST and ISIS_REPLY have a series
    /// of their own, above 2^62. A client's multicasts have one over all views, which rises and has gaps.
    pub number: u64,
    /// Its place in the total order of the view: 1, 2, 3 and so on; 0 if it is not ISIS_TOTAL.
    pub order: u64,
    /// For ISIS_REPLY: the view of the message that it answers; else 0.
    pub answers_view: u64,
    /// For ISIS_REPLY: the number of the message that it answers; else 0.
    pub answers_number: u64,
    /// The sender's rank in the view; 65535 if it is a client, or no member any more (ISIS_UNICAST and ISIS_REPLY only), and
    /// in all that a client gets.
    pub rank: u32,
    /// ISIS_FIFO, ISIS_CAUSAL, ISIS_TOTAL, ISIS_GLOBAL, ISIS_UNICAST or ISIS_REPLY.
    pub kind: u32,
    /// Its entry point: 0 to 255.
    pub entry: u32,
    /// 1 if it was sent with ISIS_SAFE, else 0.
    pub safe: u32,
    /// For a message of this process's own: the ticket that isis_last_sent or isis_sender_last_sent gave for it. For an
    /// ISIS_REPLY: the ticket of the message that it answers. 0: neither, too long ago, or of an earlier membership.
    pub ticket: u64,
}

/// A piece of a message's bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isis_slice_t {
    /// Where it is.
    pub data: *const c_void,
    /// How many bytes.
    pub len: u64,
}

impl isis_slice_t {
    /// These bytes; NULL if there are none.
    pub fn of(bytes: &[u8]) -> isis_slice_t {
        let data = if bytes.is_empty() { std::ptr::null() } else { bytes.as_ptr().cast() };
        isis_slice_t { data, len: bytes.len() as u64 }
    }
}

/// Where a message came from: what replies and holds need.
#[derive(Clone, Copy)]
pub struct Origin {
    /// The instance's handle.
    pub instance: u64,
    /// The core's handle of its group.
    pub group: GroupHandle,
    /// Its name.
    pub id: MessageId,
}

/// A message in delivery on this thread.
struct Delivering {
    message: *const isis_message_t,
    origin: Origin,
    shared: Option<Arc<Vec<u8>>>,
    outer: *const Delivering,
}

/// Where a held message's bytes are.
enum Bytes {
    Copied(#[allow(dead_code)] Box<[u8]>),
    Shared(#[allow(dead_code)] Arc<Vec<u8>>),
}

struct Held {
    message: isis_message_t,
    origin: Origin,
    _bytes: Bytes,
    account: Rc<Cell<u64>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.set(self.account.get() - self.message.len);
    }
}

thread_local! {
    static DELIVERING: Cell<*const Delivering> = const { Cell::new(std::ptr::null()) };
    static HELD: RefCell<HashMap<usize, *mut Held>> = RefCell::new(HashMap::new());
}

/// Takes a message out of `DELIVERING` when its callback is over.
struct Entered {
    outer: *const Delivering,
}

impl Drop for Entered {
    fn drop(&mut self) {
        DELIVERING.set(self.outer);
    }
}

impl Instance {
    /// Hands a message to `callback`, as C sees it.
    pub fn with_message(&self, message: &Message, callback: impl FnOnce(*const isis_message_t)) {
        // The bytes stay in place until the node is polled next, which cannot be before the callback has returned: isis_poll
        // and its likes refuse to run inside one.
        let isis_slice_t { data, len } = isis_slice_t::of(self.node().payload(message));
        let MessageId { view, sender, number, .. } = message.id;
        let seen = isis_message_t {
            size: size_of::<isis_message_t>() as u64,
            data,
            len,
            isis: self.handle.get() as *mut isis_t,
            group: self.group_handle(message.group),
            sender: sender.0,
            view,
            number,
            order: message.order,
            answers_view: message.answers.map_or(0, |id| id.view),
            answers_number: message.answers.map_or(0, |id| id.number),
            rank: u32::from(message.rank),
            kind: kind_number(message.kind),
            entry: u32::from(message.entry),
            safe: u32::from(message.safe),
            ticket: message.ticket,
        };
        let outer = DELIVERING.get();
        let delivering = Delivering {
            message: &raw const seen,
            origin: Origin { instance: self.handle.get(), group: message.group, id: message.id },
            shared: message.payload.shared().cloned(),
            outer,
        };
        let _entered = Entered { outer };
        DELIVERING.set(&raw const delivering);
        self.in_callback(|| callback(&raw const seen));
    }
}

fn delivering(message: *const isis_message_t) -> Option<&'static Delivering> {
    let mut next = DELIVERING.get();
    // SAFETY: the chain's links are frames of `with_message` further down this thread's stack, which take themselves
    // out before they end. The result is used only inside one call of the library.
    while let Some(delivering) = unsafe { next.as_ref() } {
        if delivering.message == message {
            return Some(delivering);
        }
        next = delivering.outer;
    }
    None
}

fn held(message: *const isis_message_t) -> Option<*mut Held> {
    HELD.try_with(|held| held.borrow().get(&(message as usize)).copied()).ok().flatten()
}

#[cold]
fn unknown(message: *const isis_message_t) -> Failure {
    if message.is_null() {
        return fail(error::ISIS_EMESSAGE, format_args!("the message is NULL"));
    }
    plain(error::ISIS_EMESSAGE)
}

/// Where a message came from, if it is in delivery or held on this thread.
pub fn origin(message: *const isis_message_t) -> Result<Origin, Failure> {
    if let Some(delivering) = delivering(message) {
        return Ok(delivering.origin);
    }
    // SAFETY: what HELD has is live until it is taken out.
    held(message).map(|held| unsafe { (*held).origin }).ok_or_else(|| unknown(message))
}

/// Reads a field of a message in delivery or held.
fn read(message: *const isis_message_t, field: impl FnOnce(&isis_message_t) -> error::Status) -> i32 {
    enter(|| {
        if delivering(message).is_none() && held(message).is_none() {
            return Err(unknown(message));
        }
        // SAFETY: one of the library's own structs, live until the callback returns or until it is released.
        field(unsafe { &*message })
    })
}

/// A message's bytes, contiguous; NULL if there are none.
///
/// Errors: ISIS_EMESSAGE, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_msg_data(message: *const isis_message_t, data: *mut *const c_void) -> i32 {
    read(message, |message| {
        Output::new(data, "data")?.set(message.data);
        Ok(ISIS_OK)
    })
}

/// A message's length in bytes.
///
/// Errors: ISIS_EMESSAGE, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_msg_len(message: *const isis_message_t, len: *mut u64) -> i32 {
    read(message, |message| {
        Output::new(len, "len")?.set(message.len);
        Ok(ISIS_OK)
    })
}

/// A message's bytes where they are, in pieces: writes the first `capacity` of them to `slices` and returns how many
/// there are. `slices` may be NULL if `capacity` is 0.
///
/// Errors: ISIS_EMESSAGE, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_msg_slices(
    message: *const isis_message_t,
    slices: *mut isis_slice_t,
    capacity: u32,
) -> i32 {
    read(message, |message| {
        if message.len == 0 {
            return Ok(0);
        }
        if capacity > 0 {
            Output::new(slices, "slices")?.set(isis_slice_t { data: message.data, len: message.len });
        }
        Ok(1)
    })
}

/// The process that sent a message.
///
/// Errors: ISIS_EMESSAGE, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_msg_sender(message: *const isis_message_t, process: *mut u64) -> i32 {
    read(message, |message| {
        Output::new(process, "process")?.set(message.sender);
        Ok(ISIS_OK)
    })
}

/// Returns the rank of a message's sender.
///
/// Errors: ISIS_EMESSAGE.
#[unsafe(no_mangle)]
pub extern "C" fn isis_msg_rank(message: *const isis_message_t) -> i32 {
    read(message, |message| Ok(message.rank as i32))
}

/// Returns a message's entry point.
///
/// Errors: ISIS_EMESSAGE.
#[unsafe(no_mangle)]
pub extern "C" fn isis_msg_entry(message: *const isis_message_t) -> i32 {
    read(message, |message| Ok(message.entry as i32))
}

/// Returns a message's kind: ISIS_FIFO and so on, without ISIS_SAFE.
///
/// Errors: ISIS_EMESSAGE.
#[unsafe(no_mangle)]
pub extern "C" fn isis_msg_kind(message: *const isis_message_t) -> i32 {
    read(message, |message| Ok(message.kind as i32))
}

/// Returns 1 if a message was sent with ISIS_SAFE, else 0.
///
/// Errors: ISIS_EMESSAGE.
#[unsafe(no_mangle)]
pub extern "C" fn isis_msg_safe(message: *const isis_message_t) -> i32 {
    read(message, |message| Ok(message.safe as i32))
}

/// The number of the view that a message was sent in.
///
/// Errors: ISIS_EMESSAGE, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_msg_view(message: *const isis_message_t, view: *mut u64) -> i32 {
    read(message, |message| {
        Output::new(view, "view")?.set(message.view);
        Ok(ISIS_OK)
    })
}

/// A message's number among its sender's in that view.
///
/// Errors: ISIS_EMESSAGE, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_msg_number(message: *const isis_message_t, number: *mut u64) -> i32 {
    read(message, |message| {
        Output::new(number, "number")?.set(message.number);
        Ok(ISIS_OK)
    })
}

/// A message's place in the total order of its view; 0 if it is not ISIS_TOTAL.
///
/// Errors: ISIS_EMESSAGE, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_msg_order(message: *const isis_message_t, order: *mut u64) -> i32 {
    read(message, |message| {
        Output::new(order, "order")?.set(message.order);
        Ok(ISIS_OK)
    })
}

/// The ticket of an own message, or of the message that a reply answers; see isis_message_t.
///
/// Errors: ISIS_EMESSAGE, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_msg_ticket(message: *const isis_message_t, ticket: *mut u64) -> i32 {
    read(message, |message| {
        Output::new(ticket, "ticket")?.set(message.ticket);
        Ok(ISIS_OK)
    })
}

/// The group that a message was sent in; NULL if its handle is closed.
///
/// Errors: ISIS_EMESSAGE, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_msg_group(message: *const isis_message_t, group: *mut *mut isis_group_t) -> i32 {
    read(message, |message| {
        Output::new(group, "group")?.set(message.group);
        Ok(ISIS_OK)
    })
}

/// Returns 1 and tells the view and the number of this process's message that is answered, if `message` is a reply; 0 if
/// not.
///
/// Errors: ISIS_EMESSAGE, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_msg_answers(message: *const isis_message_t, view: *mut u64, number: *mut u64) -> i32 {
    read(message, |message| {
        let (view, number) = (Output::new(view, "view")?, Output::new(number, "number")?);
        view.set(message.answers_view);
        number.set(message.answers_number);
        Ok(i32::from(message.kind == crate::send::ISIS_REPLY))
    })
}

/// Keeps the message that is in delivery beyond its callback: until isis_msg_release, also beyond isis_close. It may move
/// its bytes: read them from `*held`. All held messages of an instance together have at most `hold_bytes` bytes.
///
/// Errors: ISIS_EAGAIN (`hold_bytes` are held), ISIS_EMESSAGE, ISIS_EINVAL. On an error `*held` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_msg_hold(message: *const isis_message_t, held: *mut *const isis_message_t) -> i32 {
    enter(|| {
        let output = Output::new(held, "held")?;
        output.set(std::ptr::null());
        let delivering = delivering(message).ok_or_else(|| unknown(message))?;
        let found = table::find(Noun::Instance, delivering.origin.instance)?;
        // SAFETY: what the table has for an instance's handle is a live one, of this thread.
        let instance = unsafe { &*found.object.cast::<Instance>() };
        // SAFETY: the library's own struct, in delivery.
        let mut copy = unsafe { *message };
        let account = Rc::clone(&instance.held_bytes);
        let total = account.get().checked_add(copy.len).filter(|total| *total <= instance.hold_limit);
        let Some(total) = total else { return Err(Failure::AGAIN) };
        let bytes = match &delivering.shared {
            Some(shared) => Bytes::Shared(Arc::clone(shared)),
            None if copy.len == 0 => Bytes::Copied(Box::new([])),
            None => {
                // SAFETY: the message's own bytes, in place until its callback returns.
                let bytes = unsafe { std::slice::from_raw_parts(copy.data.cast::<u8>(), copy.len as usize) };
                Bytes::Copied(bytes.into())
            }
        };
        if copy.len > 0 {
            copy.data = match &bytes {
                Bytes::Copied(bytes) => bytes.as_ptr().cast(),
                Bytes::Shared(bytes) => bytes.as_ptr().cast(),
            };
        }
        account.set(total);
        let held = Box::new(Held { message: copy, origin: delivering.origin, _bytes: bytes, account });
        let held = Box::into_raw(held);
        // SAFETY: just made; only the field's address is taken.
        let address = unsafe { &raw const (*held).message };
        HELD.with(|all| all.borrow_mut().insert(address as usize, held));
        output.set(address);
        Ok(ISIS_OK)
    })
}

/// Lets go of a held message. NULL is taken, and does nothing.
///
/// Errors: ISIS_EMESSAGE (not held by this thread).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_msg_release(held: *const isis_message_t) -> i32 {
    enter(|| {
        if held.is_null() {
            return Ok(ISIS_OK);
        }
        let taken = HELD.try_with(|all| all.borrow_mut().remove(&(held as usize))).ok().flatten();
        let taken = taken.ok_or_else(|| unknown(held))?;
        // SAFETY: made by `Box::into_raw` in isis_msg_hold, and just taken out of HELD, which had it once.
        drop(unsafe { Box::from_raw(taken) });
        Ok(ISIS_OK)
    })
}
