//! `isis_group_t`: a group that this process joined, or is joining.
//!
//! Invariant: `Instance::groups` holds exactly the groups whose handles are open, ordered by the core's handle.

use crate::boundary::{self, Output, on_group, on_instance};
use crate::error::{self, Failure, ISIS_OK, fail, plain};
use crate::instance::{Instance, SYSTEM_GROUP, isis_t};
use crate::options::read_sized;
use crate::state::{
    StateCallbacks, isis_state_block_fn, isis_state_capture_fn, isis_state_done_fn, isis_state_next_fn,
};
use crate::table::{self, Noun};
use isis_protocol::{GroupHandle, JoinOptions, TotalOrder};
use isis_runtime::NodeError;
use std::ffi::{c_char, c_void};

/// A group. An opaque handle: only to be handed back, never to be looked into.
pub struct isis_group_t {
    _private: [u8; 0],
}

/// One member orders the ABCASTs: at first the oldest, later whoever sends most (option `sequencer_moves_after`). The default.
pub const ISIS_ORDERING_SEQUENCER: u32 = 0;
/// Every member proposes a priority for each ABCAST, and the highest counts. No member is special; while any of them is away
/// no ABCAST is delivered.
pub const ISIS_ORDERING_PRIORITY: u32 = 1;

/// Joins as a member. The default.
pub const ISIS_ROLE_MEMBER: u32 = 0;
/// Joins as a client: a process that multicasts into the group and gets its members' isis_send and isis_reply, but is no
/// member: it has no rank, and gets neither views nor multicasts. It creates no group; it waits until there is one.
pub const ISIS_ROLE_CLIENT: u32 = 1;

/// Options of isis_group_join. Fill it with isis_join_options_init.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isis_join_options_t {
    /// Size of this struct in bytes, as the program was compiled.
    pub size: u64,
    /// ISIS_ORDERING_SEQUENCER or ISIS_ORDERING_PRIORITY: how the group's ABCASTs are put into one order, with the same
    /// guarantees. The process that creates the group chooses; to whoever joins later the group's choice applies.
    pub ordering: u32,
    /// ISIS_ROLE_MEMBER or ISIS_ROLE_CLIENT. For a client only `domain` counts of what follows.
    pub role: u32,
    /// Not 0: a message is delivered in the view that its sender knew of when it sent it. A multicast during a view change
    /// is refused with ISIS_EAGAIN instead of being kept for the next view: at once in inline mode; in threaded mode by
    /// ISIS_EVENT_REFUSED with its ticket if the call could not know yet.
    pub sending_view: u32,
    /// Causality domain. A message in one group of a domain is delivered after all that happened before it in the others:
    /// it waits until that is delivered everywhere. Groups of different domains do not wait for each other. 0 by default;
    /// all members of a group name the same one.
    pub domain: u32,
    /// First argument of the four callbacks below.
    pub user: *mut c_void,
    /// Takes a snapshot of the group's state as it is now. NULL: this member hands an empty state to joiners.
    pub state_capture: isis_state_capture_fn,
    /// Gives the next bytes of a snapshot. Must not be NULL if `state_capture` is not.
    pub state_next: isis_state_next_fn,
    /// The snapshot is no longer needed. May be NULL.
    pub state_done: isis_state_done_fn,
    /// Takes the group's state, block by block, before the first view. NULL: this member wants no state.
    pub state_block: isis_state_block_fn,
}

const FIRST_SIZE: usize = 64;
const _: () = assert!(size_of::<isis_join_options_t>() == FIRST_SIZE);

/// What the binding knows of a group; the rest is in the core.
pub struct Group {
    /// The core's handle.
    pub core: GroupHandle,
    /// The C handle's value.
    pub handle: u64,
    /// The program's part in state transfers.
    pub state: StateCallbacks,
    /// The token of the open claim; 0: none is open.
    pub claim: u64,
    /// The ticket of the last message sent; 0: none yet.
    pub last_sent: u64,
    /// Its first view has come, or it is registered as a client.
    pub joined: bool,
    /// The highest flush whose event has come.
    pub flushed: u64,
    /// Bytes of state that have come, for ISIS_EVENT_STATE_RECEIVED.
    pub state_received: u64,
}

impl Instance {
    /// Runs `body` on what is known of a group; `None` if its handle is closed. No callback may run in `body`.
    pub fn with_group<R>(&self, core: GroupHandle, body: impl FnOnce(&mut Group) -> R) -> Option<R> {
        let mut groups = self.groups.borrow_mut();
        let index = groups.binary_search_by_key(&core, |group| group.core).ok()?;
        Some(body(&mut groups[index]))
    }

    /// The C handle of a group, NULL if it is closed.
    pub fn group_handle(&self, core: GroupHandle) -> *mut isis_group_t {
        self.with_group(core, |group| group.handle).unwrap_or(0) as *mut isis_group_t
    }

    /// Closes the handle of a group that this process is out of.
    pub fn forget_group(&self, core: GroupHandle) {
        let mut groups = self.groups.borrow_mut();
        if let Ok(index) = groups.binary_search_by_key(&core, |group| group.core) {
            table::close(groups.remove(index).handle);
        }
    }

    fn join(&self, name: &str, options: &isis_join_options_t) -> Result<u64, Failure> {
        let state = StateCallbacks::new(options)?;
        let join = JoinOptions {
            wants_state: state.wants_state(),
            sending_view: options.sending_view != 0,
            domain: options.domain,
            client: options.role == ISIS_ROLE_CLIENT,
            total_order: total_order(options.ordering)?,
        };
        let joined = self.node().join(name, join);
        let core = joined.map_err(|why| self.failure(why))?;
        let instance = table::find(Noun::Instance, self.handle.get())?.object;
        let handle = match table::open(Noun::Group, instance, u64::from(core.0), false) {
            Ok(handle) => handle,
            Err(full) => {
                let _ = self.node().leave(core);
                return Err(full);
            }
        };
        let group = Group { core, handle, state, claim: 0, last_sent: 0, joined: false, flushed: 0, state_received: 0 };
        let mut groups = self.groups.borrow_mut();
        let place = groups.partition_point(|other| other.core < core);
        groups.insert(place, group);
        Ok(handle)
    }
}

fn total_order(ordering: u32) -> Result<TotalOrder, Failure> {
    match ordering {
        ISIS_ORDERING_SEQUENCER => Ok(TotalOrder::Sequencer),
        ISIS_ORDERING_PRIORITY => Ok(TotalOrder::Priority),
        other => {
            Err(fail(error::ISIS_EUNSUPPORTED, format_args!("join options: ordering {other} is not in this version")))
        }
    }
}

impl Instance {
    fn why_not_joined(&self, core: GroupHandle) -> Failure {
        match self.join_refused.get() {
            (group, code) if group == core => plain(code),
            _ => plain(error::ISIS_ENOTMEMBER),
        }
    }
}

/// Refuses the group of all processes where a group of the program's is meant.
pub fn ordinary(group: GroupHandle) -> Result<GroupHandle, Failure> {
    if group == SYSTEM_GROUP {
        return Err(fail(error::ISIS_ENOTMEMBER, format_args!("the group of all processes takes no such call")));
    }
    Ok(group)
}

/// Fills join options with the defaults, for a struct of `size` bytes. C programs call it by the macro
/// isis_join_options_init(options), which gives the size as the program was compiled.
///
/// Errors: ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_join_options_init_size(options: *mut isis_join_options_t, size: u64) -> i32 {
    boundary::enter(|| {
        Output::new(options, "options")?;
        if size < FIRST_SIZE as u64 || size > 1 << 20 {
            return Err(fail(error::ISIS_EINVAL, format_args!("size is {size}")));
        }
        // SAFETY: the caller says that the place has `size` bytes, of which the first eight are the size; the default
        // of all other fields is zero.
        unsafe {
            std::ptr::write_bytes(options.cast::<u8>(), 0, size as usize);
            options.cast::<u64>().write(size);
        }
        Ok(ISIS_OK)
    })
}

/// isis_join_options_init for programs that cannot use the macro: fills the struct as it was in the first version of the
/// header.
///
/// Errors: ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_join_options_init(options: *mut isis_join_options_t) -> i32 {
    // SAFETY: the pointer contract.
    unsafe { isis_join_options_init_size(options, FIRST_SIZE as u64) }
}

/// Joins the group of this name (1 to 255 bytes), or creates it. Never blocks: ISIS_EVENT_JOINED tells that this process
/// is a member and has the state; until then the handle serves to leave again, and sends give ISIS_ENOTMEMBER. `options`
/// NULL: the defaults, without state.
///
/// As a client (ISIS_ROLE_CLIENT): ISIS_EVENT_JOINED tells that this process is registered with the group, which needs a
/// member. From then on isis_multicast, isis_send, isis_reply, isis_flush, isis_sender_open and isis_group_leave work on the
/// handle; isis_claim gives ISIS_ENOTMEMBER and isis_view_number and its likes ISIS_ENOVIEW. Each multicast is delivered by
/// the members at most once, in this client's order, whichever of them fail, and ISIS_EVENT_COMPLETED tells that it cannot
/// be lost any more. ISIS_EVENT_GROUP_ENDED tells that the group has no members any more. The members see a client that is
/// registered when a view begins in isis_view_client, and that it failed by a view without it. A process is one group's
/// member or client, not both: ISIS_EALREADY.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_EENDED, ISIS_EAGAIN, ISIS_ELIMIT,
/// ISIS_EALREADY, ISIS_EUNSUPPORTED (ordering). On an error `*group` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_group_join(
    isis: *mut isis_t,
    name: *const c_char,
    options: *const isis_join_options_t,
    group: *mut *mut isis_group_t,
) -> i32 {
    boundary::set_if_wanted(group, std::ptr::null_mut());
    on_instance(isis, |instance| {
        let output = Output::new(group, "group")?;
        // SAFETY: the pointer contract.
        let name = unsafe { boundary::text(name, "name")? };
        if name.is_empty() || name.len() > 255 {
            return Err(fail(
                error::ISIS_EINVAL,
                format_args!("a group's name has 1 to 255 bytes, not {}", name.len()),
            ));
        }
        let options = if options.is_null() {
            // SAFETY: plain numbers, pointers and optional functions, for which zero is a value.
            unsafe { std::mem::zeroed() }
        } else {
            // SAFETY: not NULL; the pointer contract.
            unsafe { read_sized(options, FIRST_SIZE, "join options")? }
        };
        output.set(instance.join(name, &options)? as *mut isis_group_t);
        Ok(ISIS_OK)
    })
}

/// isis_group_join, and waits for ISIS_EVENT_JOINED, running callbacks as isis_poll does.
///
/// Errors: as isis_group_join, and ISIS_ETIMEDOUT (the join is given up), ISIS_ENOTMEMBER (the group ended meanwhile),
/// ISIS_EINCALLBACK. On an error `*group` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_group_join_wait(
    isis: *mut isis_t,
    name: *const c_char,
    options: *const isis_join_options_t,
    timeout_ns: u64,
    group: *mut *mut isis_group_t,
) -> i32 {
    boundary::set_if_wanted(group, std::ptr::null_mut());
    let ready = on_instance(isis, |instance| instance.outside_callbacks().map(|()| ISIS_OK));
    if ready < 0 {
        return ready;
    }
    // SAFETY: the pointer contract.
    let asked = unsafe { isis_group_join(isis, name, options, group) };
    if asked < 0 {
        return asked;
    }
    // SAFETY: isis_group_join has checked and written it.
    let handle = unsafe { *group };
    let waited = on_group(handle, |instance, core| {
        let joined = instance.wait_for(timeout_ns, |instance| {
            Some(match instance.with_group(core, |group| group.joined) {
                Some(false) => return None,
                Some(true) => Ok(ISIS_OK),
                None => Err(instance.why_not_joined(core)),
            })
        });
        match joined {
            Ok(result) => result,
            Err(why) => {
                let _ = instance.node().leave(core);
                instance.forget_group(core);
                Err(why)
            }
        }
    });
    if waited < 0 {
        boundary::set_if_wanted(group, std::ptr::null_mut());
    }
    waited
}

/// Begins to leave a group, or gives up joining it. Never blocks: ISIS_EVENT_LEFT tells the end; after its callback the
/// handle is closed.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOTMEMBER, ISIS_EENDED, ISIS_EAGAIN.
#[unsafe(no_mangle)]
pub extern "C" fn isis_group_leave(group: *mut isis_group_t) -> i32 {
    on_group(group, |instance, core| {
        let left = instance.node().leave(ordinary(core)?);
        left.map(|()| ISIS_OK).map_err(|why| instance.failure(why))
    })
}

/// isis_group_leave, and waits for its end, running callbacks as isis_poll does. It also waits where isis_group_leave gives
/// ISIS_EAGAIN. After ISIS_ETIMEDOUT the leave goes on and the handle stays open until ISIS_EVENT_LEFT.
///
/// Errors: ISIS_EAGAIN (there was no room for the command all the time: the leave has not begun), ISIS_EHANDLE,
/// ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOTMEMBER, ISIS_EENDED, ISIS_ETIMEDOUT, ISIS_EINCALLBACK.
#[unsafe(no_mangle)]
pub extern "C" fn isis_group_leave_wait(group: *mut isis_group_t, timeout_ns: u64) -> i32 {
    on_group(group, |instance, core| {
        instance.outside_callbacks()?;
        let group = ordinary(core)?;
        let mut again = false;
        let ask = |instance: &Instance| {
            let repeats = std::mem::replace(&mut again, true);
            match instance.node().leave(group) {
                // Meanwhile a callback did, or the group has ended.
                Err(NodeError::NotMember) if repeats => Ok(()),
                asked => asked,
            }
        };
        instance.wait_after(timeout_ns, ask, |instance, ()| {
            instance.with_group(core, |_| ()).is_none().then_some(Ok(ISIS_OK))
        })
    })
}
