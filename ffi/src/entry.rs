//! Entry points and the event callback: which function of the program gets what.

use crate::boundary::{enter, on_instance};
use crate::error::{self, ISIS_OK, fail};
use crate::group::isis_group_t;
use crate::instance::isis_t;
use crate::message::{isis_message_t, isis_slice_t};
use std::cell::Cell;
use std::ffi::{c_char, c_void};

/// Takes a message. Runs only inside isis_poll, isis_run and the calls that wait, on the caller's thread. It must return:
/// no exception, no longjmp.
pub type isis_message_fn = Option<unsafe extern "C" fn(user: *mut c_void, message: *const isis_message_t)>;
/// Takes `count` messages, at least one, that follow each other: from one sender, in one group, of one kind, to one entry
/// point. `first` describes the first one. The others differ from it by their bytes only, and each by 1 from the one before
/// in `number`, and in `order` and `ticket` if these are not 0. `bytes` has the bytes of each, the first one's as well,
/// borrowed like `first` until the callback returns. isis_reply, isis_msg_hold and their likes take `first` alone. As
/// isis_message_fn.
pub type isis_batch_fn = Option<
    unsafe extern "C" fn(user: *mut c_void, first: *const isis_message_t, bytes: *const isis_slice_t, count: u32),
>;
/// Takes an event. As isis_message_fn.
pub type isis_event_fn = Option<unsafe extern "C" fn(user: *mut c_void, event: *const isis_event_t)>;

/// The entry point of all replies, for isis_entry.
pub const ISIS_ENTRY_REPLY: u32 = 256;
/// The entry point of messages to entries that have no callback, for isis_entry.
pub const ISIS_ENTRY_OTHER: u32 = 257;

/// This process is in a system; `process` is its identifier.
pub const ISIS_EVENT_SYSTEM_JOINED: u32 = 1;
/// The set of all processes changed: `group` is the group of isis_system_group.
pub const ISIS_EVENT_SYSTEM_VIEW: u32 = 2;
/// This process is a member of the group, and has its state; its first ISIS_EVENT_VIEW follows. Or it is registered as a
/// client: `members` is 0 then, and no views come.
pub const ISIS_EVENT_JOINED: u32 = 3;
/// A new view of the group; isis_view_number and its likes tell it.
pub const ISIS_EVENT_VIEW: u32 = 4;
/// This process is out of the group; the group's handle is closed when the callback returns.
pub const ISIS_EVENT_LEFT: u32 = 5;
/// The flush of this `number` is complete: all members have what was multicast before. For a client: that is completed.
pub const ISIS_EVENT_FLUSHED: u32 = 6;
/// A send that gave ISIS_EAGAIN may be tried again: the window has room, or the view change or the stall is over.
pub const ISIS_EVENT_WRITABLE: u32 = 7;
/// A joiner, `process`, wants the group's state: `state_capture` is called next. `number` names the transfer.
pub const ISIS_EVENT_STATE_WANTED: u32 = 8;
/// The state of transfer `number` is no longer wanted.
pub const ISIS_EVENT_STATE_ABORTED: u32 = 9;
/// The group's state has come whole: `number` bytes.
pub const ISIS_EVENT_STATE_RECEIVED: u32 = 10;
/// No contact to a quorum: no sends (they give ISIS_EAGAIN), deliveries or views, until ISIS_EVENT_RESUMED or
/// ISIS_EVENT_EVICTED.
pub const ISIS_EVENT_STALLED: u32 = 11;
/// Contact to a quorum again.
pub const ISIS_EVENT_RESUMED: u32 = 12;
/// The others went on without this process: close the handle; a new one may join. What it multicast before it stalled, and
/// what no completed flush covers, may or may not have reached the others: flushes that were pending give
/// ISIS_EVENT_REFUSED with ISIS_EENDED before this event, and calls that wait give ISIS_EENDED.
pub const ISIS_EVENT_EVICTED: u32 = 13;
/// `process` holds the others up, in `group`; `reason` says how. Once per full window, and per view change once for each
/// silence.
pub const ISIS_EVENT_SLOW: u32 = 14;
/// isis_close is complete; the handle is closed when the callback returns.
pub const ISIS_EVENT_CLOSED: u32 = 15;
/// A command that its call had accepted was refused later: `code` says why, `text` which; `number` is that of a flush, or
/// the ticket of a message. In inline mode this comes only for flushes, before ISIS_EVENT_EVICTED. After a refused join the group's handle is closed when the callback returns.
pub const ISIS_EVENT_REFUSED: u32 = 16;
/// An internal error: the handle is unusable, close it. The others see a crash.
pub const ISIS_EVENT_POISONED: u32 = 17;
/// A line for the operator: `text`.
pub const ISIS_EVENT_LOG: u32 = 18;
/// For clients: the multicast with ticket `number` (isis_last_sent) cannot be lost any more. Every member that stays
/// delivers it, or has done so. Each multicast of a client gets one, in their order.
pub const ISIS_EVENT_COMPLETED: u32 = 19;
/// For clients: the group has no members any more; the handle is closed when the callback returns. Multicasts that were not
/// completed may or may not have been delivered. A new group of that name may come: join again.
pub const ISIS_EVENT_GROUP_ENDED: u32 = 20;

/// The reason of an ISIS_EVENT_SLOW: the process is so far behind with taking messages that this one's window is full.
pub const ISIS_SLOW_WINDOW: u32 = 1;
/// The reason of an ISIS_EVENT_SLOW: a view change of `group` (which may be that of isis_system_group) waits for the
/// process, and nothing is heard of it. It hangs, or is away from isis_poll.
pub const ISIS_SLOW_VIEW_CHANGE: u32 = 2;

/// An event. Borrowed until the callback returns. Fields that an event does not name are 0 or NULL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isis_event_t {
    /// Size of this struct in bytes, as the library was compiled.
    pub size: u64,
    /// The instance that it came to.
    pub isis: *mut isis_t,
    /// The group that it is about; NULL if it is about no group.
    pub group: *mut isis_group_t,
    /// ISIS_EVENT_VIEW and so on.
    pub r#type: u32,
    /// A negative code, for ISIS_EVENT_REFUSED.
    pub code: i32,
    /// The number of the view, for ISIS_EVENT_VIEW, ISIS_EVENT_JOINED and ISIS_EVENT_SYSTEM_VIEW.
    pub view: u64,
    /// The process that it is about.
    pub process: u64,
    /// See the events.
    pub number: u64,
    /// For views: how many members there are.
    pub members: u32,
    /// For views: this process's rank.
    pub rank: u32,
    /// For views: how many members are new.
    pub joined: u32,
    /// For views: how many members of the view before are gone.
    pub departed: u32,
    /// For views: the members' identifiers by rank.
    pub member_list: *const u64,
    /// NUL-terminated text, or NULL.
    pub text: *const c_char,
    /// For ISIS_EVENT_SLOW: ISIS_SLOW_WINDOW or ISIS_SLOW_VIEW_CHANGE.
    pub reason: u32,
    /// 0.
    pub reserved: u32,
}

/// One registered callback.
type Registered<F> = Cell<Option<(F, *mut c_void)>>;
type MessageFn = unsafe extern "C" fn(*mut c_void, *const isis_message_t);
type BatchFn = unsafe extern "C" fn(*mut c_void, *const isis_message_t, *const isis_slice_t, u32);

/// Who takes messages: one by one, or those that follow each other together.
#[derive(Clone, Copy)]
pub enum Taker {
    /// See `isis_message_fn`.
    One(MessageFn),
    /// See `isis_batch_fn`.
    Batch(BatchFn),
}
type EventFn = unsafe extern "C" fn(*mut c_void, *const isis_event_t);

/// The callbacks of an instance.
pub struct Entries {
    messages: [Registered<Taker>; ISIS_ENTRY_OTHER as usize + 1],
    event: Registered<EventFn>,
}

impl Entries {
    /// No callbacks.
    pub fn new() -> Entries {
        Entries { messages: [const { Cell::new(None) }; ISIS_ENTRY_OTHER as usize + 1], event: Cell::new(None) }
    }

    /// Who takes messages at an entry point.
    pub fn message(&self, entry: u32) -> Option<(Taker, *mut c_void)> {
        self.messages[entry as usize].get().or_else(|| self.messages[ISIS_ENTRY_OTHER as usize].get())
    }

    /// Who takes events.
    pub fn event(&self) -> Option<(EventFn, *mut c_void)> {
        self.event.get()
    }
}

impl Default for Entries {
    fn default() -> Entries {
        Entries::new()
    }
}

/// Registers the callback for messages at an entry point: 0 to 255, ISIS_ENTRY_REPLY or ISIS_ENTRY_OTHER. NULL takes it
/// back. A message that no callback takes is counted and dropped.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL (entry).
#[unsafe(no_mangle)]
pub extern "C" fn isis_entry(isis: *mut isis_t, entry: u32, callback: isis_message_fn, user: *mut c_void) -> i32 {
    register(isis, entry, callback.map(Taker::One), user)
}

/// Registers a callback for messages at an entry point that takes several at once; it takes the place of one that isis_entry
/// registered, and the other way round. NULL takes it back. For those who get many short messages: under load a call for
/// each costs more than the rest of its delivery. Several at once come in inline mode only; in threaded mode each is alone.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL (entry).
#[unsafe(no_mangle)]
pub extern "C" fn isis_entry_batch(isis: *mut isis_t, entry: u32, callback: isis_batch_fn, user: *mut c_void) -> i32 {
    register(isis, entry, callback.map(Taker::Batch), user)
}

fn register(isis: *mut isis_t, entry: u32, taker: Option<Taker>, user: *mut c_void) -> i32 {
    on_instance(isis, |instance| {
        let place = instance.entries.messages.get(entry as usize);
        let place = place.ok_or_else(|| fail(error::ISIS_EINVAL, format_args!("there is no entry {entry}")))?;
        place.set(taker.map(|taker| (taker, user)));
        Ok(ISIS_OK)
    })
}

/// Registers the callback for events: views and all the rest. NULL takes it back.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED.
#[unsafe(no_mangle)]
pub extern "C" fn isis_on_event(isis: *mut isis_t, callback: isis_event_fn, user: *mut c_void) -> i32 {
    on_instance(isis, |instance| {
        instance.entries.event.set(callback.map(|callback| (callback, user)));
        Ok(ISIS_OK)
    })
}

/// Returns why an ISIS_EVENT_SLOW came: ISIS_SLOW_WINDOW or ISIS_SLOW_VIEW_CHANGE; 0 for other events. For languages that
/// do not read the struct. `event` is the one that is in delivery.
///
/// Errors: ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_event_reason(event: *const isis_event_t) -> i32 {
    enter(|| {
        if event.is_null() || !event.is_aligned() {
            return Err(fail(error::ISIS_EINVAL, format_args!("event is NULL or not aligned")));
        }
        // SAFETY: not NULL and aligned; an event of the library's own, by the caller's promise.
        Ok(unsafe { (*event).reason } as i32)
    })
}
