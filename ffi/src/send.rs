//! Multicast, point-to-point sends, replies and flush.

use crate::boundary::{Output, bytes, enter, guarded, on_group, set_if_wanted};
use crate::error::{self, Failure, ISIS_OK, Status, fail, plain};
use crate::group::{isis_group_t, ordinary};
use crate::instance::Instance;
use crate::message::{self, isis_message_t};
use crate::table::{self, Noun};
use isis_protocol::{GroupHandle, Kind, MAX_GROUPS, ProcessId, SendOptions};
use isis_runtime::NodeError;
use std::ffi::c_void;

/// FBCAST: in the order of its sender.
pub const ISIS_FIFO: u32 = 1;
/// CBCAST: after everything that happened before it.
pub const ISIS_CAUSAL: u32 = 2;
/// ABCAST: as CBCAST, and in one total order with all other ABCASTs of the group.
pub const ISIS_TOTAL: u32 = 3;
/// GBCAST: at the same point of everything at all members, views included.
pub const ISIS_GLOBAL: u32 = 4;
/// The kind of a received isis_send: point to point.
pub const ISIS_UNICAST: u32 = 5;
/// The kind of a received isis_reply.
pub const ISIS_REPLY: u32 = 6;
/// Added to a kind: delivered only when every member has it.
pub const ISIS_SAFE: u32 = 256;

/// Checks an entry point's number.
pub fn entry_number(entry: u32) -> Result<u8, Failure> {
    u8::try_from(entry).map_err(|_| fail(error::ISIS_EINVAL, format_args!("entry is {entry}, but goes from 0 to 255")))
}

/// Checks a kind and an entry point.
pub fn send_options(kind: u32, entry: u32) -> Result<SendOptions, Failure> {
    let ordering = match kind & !ISIS_SAFE {
        ISIS_FIFO => Kind::Fifo,
        ISIS_CAUSAL => Kind::Causal,
        ISIS_TOTAL => Kind::Total,
        ISIS_GLOBAL => Kind::Global,
        _ => return Err(fail(error::ISIS_EKIND, format_args!("{kind} is not a kind of multicast"))),
    };
    Ok(SendOptions { kind: ordering, safe: kind & ISIS_SAFE != 0, entry: entry_number(entry)? })
}

/// The number of a kind in C.
pub fn kind_number(kind: Kind) -> u32 {
    match kind {
        Kind::Fifo => ISIS_FIFO,
        Kind::Causal => ISIS_CAUSAL,
        Kind::Total => ISIS_TOTAL,
        Kind::Global => ISIS_GLOBAL,
        Kind::Unicast => ISIS_UNICAST,
        Kind::Reply => ISIS_REPLY,
    }
}

/// Multicasts `len` bytes (copied) to all members of the group, this process included, at their entry point `entry`
/// (0 to 255). `kind`: ISIS_FIFO, ISIS_CAUSAL, ISIS_TOTAL or ISIS_GLOBAL, + ISIS_SAFE if wanted. Never blocks.
/// From a client: not ISIS_GLOBAL (ISIS_EKIND), and at most 32 bytes less than `max_message`.
///
/// Errors: ISIS_EAGAIN (the window is full, or this process is stalled: try again after ISIS_EVENT_WRITABLE), ISIS_EHANDLE, ISIS_ETHREAD,
/// ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_EKIND, ISIS_ETOOLONG, ISIS_ENOTMEMBER, ISIS_EENDED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_multicast(
    group: *mut isis_group_t,
    kind: u32,
    entry: u32,
    data: *const c_void,
    len: u64,
) -> i32 {
    on_group(group, |instance, core| {
        let options = send_options(kind, entry)?;
        // SAFETY: the pointer contract.
        let data = unsafe { bytes(data, len)? };
        let sent = instance.node().multicast(ordinary(core)?, options, data);
        instance.note_sent(core, sent)
    })
}

/// Multicasts `len` bytes (copied) to all members of `count` groups (1 to 64, each once, all of one isis_t), at their entry point
/// `entry`. `kind`: ISIS_TOTAL, + ISIS_SAFE if wanted. Each group delivers the message once to each of its members, or none
/// of them does, whoever fails; and all members, of whichever groups, deliver the messages that they share in one order. A
/// process that is in several of the groups gets it in each. At most 23 bytes, and 10 for each group, less than
/// `max_message`. This process is a member of all of them, no client, and none is in sending-view mode. Never blocks. The
/// ticket that isis_last_sent tells of a group's handle is the message's there.
///
/// In threaded mode what only the core can know comes by ISIS_EVENT_REFUSED, one for each of the groups with its ticket there.
///
/// Errors: ISIS_EAGAIN (one of the windows is full, 64 such messages of this process are on their way, or it is stalled: try
/// again after ISIS_EVENT_WRITABLE for one of the groups), ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED,
/// ISIS_EINVAL, ISIS_EKIND (also: a group in sending-view mode), ISIS_ETOOLONG, ISIS_ENOTMEMBER, ISIS_EENDED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_multicast_groups(
    groups: *const *mut isis_group_t,
    count: u32,
    kind: u32,
    entry: u32,
    data: *const c_void,
    len: u64,
) -> i32 {
    enter(|| {
        // SAFETY: the pointer contract: `count` handles are readable there.
        let handles = unsafe { group_handles(groups, count)? };
        let found = table::find(Noun::Group, handles[0] as u64)?;
        guarded(found.object, |instance| {
            let mut cores = Vec::with_capacity(handles.len());
            for &handle in handles {
                let other = table::find(Noun::Group, handle as u64)?;
                if other.object != found.object {
                    return Err(fail(error::ISIS_EINVAL, format_args!("the groups are not of one isis_t")));
                }
                let core = ordinary(GroupHandle(other.detail as u32))?;
                if cores.contains(&core) {
                    return Err(fail(error::ISIS_EINVAL, format_args!("a group is named twice")));
                }
                cores.push(core);
            }
            let options = send_options(kind, entry)?;
            // SAFETY: the pointer contract.
            let data = unsafe { bytes(data, len)? };
            let sent = instance.node().multicast_groups(&cores, options, data);
            let tickets = sent.map_err(|why| instance.failure(why))?;
            for (core, ticket) in cores.into_iter().zip(tickets) {
                instance.with_group(core, |group| group.last_sent = ticket);
            }
            Ok(ISIS_OK)
        })
    })
}

/// The handles that C hands in.
///
/// # Safety
/// `groups` must be NULL or readable for `count` handles for as long as the result is used.
unsafe fn group_handles<'a>(groups: *const *mut isis_group_t, count: u32) -> Result<&'a [*mut isis_group_t], Failure> {
    if groups.is_null() || !groups.is_aligned() {
        return Err(fail(error::ISIS_EINVAL, format_args!("groups is NULL, or not aligned")));
    }
    if !(1..=MAX_GROUPS).contains(&(count as usize)) {
        return Err(fail(error::ISIS_EINVAL, format_args!("count is {count}, but goes from 1 to {MAX_GROUPS}")));
    }
    // SAFETY: neither NULL nor misaligned; the caller promises `count` readable handles.
    Ok(unsafe { std::slice::from_raw_parts(groups, count as usize) })
}

/// Sends `len` bytes (copied) to one member of the group, at its entry point `entry`, after everything that this process
/// has delivered or multicast in the group. Members may send to a registered client as well, who has no other way to hear of
/// what happens in the group; what a client sends to a process that is no member is dropped there.
///
/// Errors: ISIS_EAGAIN, ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ETOOLONG,
/// ISIS_ENOTMEMBER, ISIS_ENOPROCESS, ISIS_EENDED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_send(
    group: *mut isis_group_t,
    member: u64,
    entry: u32,
    data: *const c_void,
    len: u64,
) -> i32 {
    on_group(group, |instance, core| {
        let entry = entry_number(entry)?;
        // SAFETY: the pointer contract.
        let data = unsafe { bytes(data, len)? };
        let sent = instance.node().send(ordinary(core)?, ProcessId(member), entry, data);
        instance.note_sent(core, sent)
    })
}

/// Answers a message that is in delivery or held: `len` bytes (copied) to its sender, who gets them at ISIS_ENTRY_REPLY
/// with the number of its message in `answers_number`.
///
/// Errors: ISIS_EAGAIN, ISIS_EMESSAGE, ISIS_EHANDLE (its instance is closed), ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL,
/// ISIS_ETOOLONG, ISIS_ENOTMEMBER, ISIS_ENOPROCESS, ISIS_EENDED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_reply(message: *const isis_message_t, data: *const c_void, len: u64) -> i32 {
    enter(|| {
        let origin = message::origin(message)?;
        // SAFETY: the pointer contract.
        let data = unsafe { bytes(data, len)? };
        let found = table::find(Noun::Instance, origin.instance)?;
        guarded(found.object, |instance| {
            let sent = instance.node().reply(origin.group, origin.id, data);
            instance.note_sent(origin.group, sent)
        })
    })
}

impl Instance {
    /// Keeps the ticket of a message that was sent, for `isis_last_sent`.
    pub fn note_sent(&self, core: GroupHandle, sent: Result<u64, NodeError>) -> Status {
        let ticket = sent.map_err(|why| self.failure(why))?;
        self.with_group(core, |group| group.last_sent = ticket);
        Ok(ISIS_OK)
    }
}

/// The ticket of the last message that this handle sent with success, by isis_multicast, isis_multicast_groups, isis_commit,
/// isis_send or isis_reply; 0 if there was none. The message shows it when it is delivered here, and each reply to it does:
/// `ticket` in isis_message_t. It says nothing else: compare it for equality only.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOTMEMBER.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_last_sent(group: *mut isis_group_t, ticket: *mut u64) -> i32 {
    on_group(group, |instance, core| {
        let output = Output::new(ticket, "ticket")?;
        let last = instance.with_group(ordinary(core)?, |group| group.last_sent);
        output.set(last.ok_or_else(|| plain(error::ISIS_ENOTMEMBER))?);
        Ok(ISIS_OK)
    })
}

/// Asks to be told, by ISIS_EVENT_FLUSHED with this number, when all that this process multicast in the group before is
/// received by all members. `number` may be NULL. If this process is evicted first, ISIS_EVENT_REFUSED comes with this
/// number and ISIS_EENDED.
///
/// Errors: ISIS_EAGAIN, ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOTMEMBER, ISIS_EENDED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_flush(group: *mut isis_group_t, number: *mut u64) -> i32 {
    on_group(group, |instance, core| {
        let asked = instance.node().flush(ordinary(core)?);
        set_if_wanted(number, asked.map_err(|why| instance.failure(why))?);
        Ok(ISIS_OK)
    })
}

/// isis_flush, and waits for its end, running callbacks as isis_poll does. It also waits where isis_flush gives
/// ISIS_EAGAIN.
///
/// Errors: ISIS_EAGAIN (there was no room for the command all the time), ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED,
/// ISIS_EPOISONED, ISIS_ENOTMEMBER, ISIS_EENDED (also when this process is evicted meanwhile), ISIS_ETIMEDOUT,
/// ISIS_EINCALLBACK.
#[unsafe(no_mangle)]
pub extern "C" fn isis_flush_wait(group: *mut isis_group_t, timeout_ns: u64) -> i32 {
    on_group(group, |instance, core| {
        instance.outside_callbacks()?;
        let group = ordinary(core)?;
        let ask = |instance: &Instance| instance.node().flush(group);
        instance.wait_after(timeout_ns, ask, |instance, number| {
            match instance.with_group(core, |group| group.flushed) {
                Some(flushed) if flushed < *number => None,
                Some(_) => Some(Ok(ISIS_OK)),
                None => Some(Err(plain(error::ISIS_ENOTMEMBER))),
            }
        })
    })
}
