//! Views: the members of a group, oldest first. The calls tell the last view whose event the program was given.

use crate::boundary::{Output, on_group, set_if_wanted};
use crate::error::{self, Failure, ISIS_OK, Status, fail, plain};
use crate::group::isis_group_t;
use crate::instance::{Instance, SYSTEM_GROUP};
use isis_protocol::{Departure, GroupHandle, View};
use std::sync::Arc;

/// It left by its own request.
pub const ISIS_DEPARTED_LEFT: u32 = 1;
/// It failed, or was taken for failed.
pub const ISIS_DEPARTED_FAILED: u32 = 2;

/// Runs `body` on the last view of a group.
fn with_view(
    instance: &Instance,
    group: GroupHandle,
    body: impl FnOnce(&View, Option<u16>) -> Status,
) -> Result<i32, Failure> {
    let (view, rank): (Option<Arc<View>>, Option<u16>) = {
        let node = instance.node();
        if group == SYSTEM_GROUP {
            let me = node.process();
            let view = node.system_view().cloned();
            let place = view.as_ref().and_then(|view| view.members.iter().position(|it| Some(it.process) == me));
            (view, place.map(|place| place as u16))
        } else {
            (node.view(group).cloned(), node.rank(group))
        }
    };
    let view = view.ok_or_else(|| plain(error::ISIS_ENOVIEW))?;
    body(&view, rank)
}

fn at<T>(list: &[T], index: u32, what: &str) -> Result<usize, Failure> {
    if (index as usize) < list.len() {
        return Ok(index as usize);
    }
    Err(fail(error::ISIS_ERANGE, format_args!("{what} {index} of {}", list.len())))
}

/// The view's number: 1, 2, 3 and so on, the same at all members.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOVIEW.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_view_number(group: *mut isis_group_t, number: *mut u64) -> i32 {
    on_group(group, |instance, core| {
        let output = Output::new(number, "number")?;
        with_view(instance, core, |view, _| {
            output.set(view.number);
            Ok(ISIS_OK)
        })
    })
}

/// Returns how many members the view has.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOVIEW.
#[unsafe(no_mangle)]
pub extern "C" fn isis_view_size(group: *mut isis_group_t) -> i32 {
    on_group(group, |instance, core| with_view(instance, core, |view, _| Ok(view.members.len() as i32)))
}

/// Returns this process's rank in the view: 0 is the oldest member.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOVIEW, ISIS_ENOTMEMBER.
#[unsafe(no_mangle)]
pub extern "C" fn isis_view_rank(group: *mut isis_group_t) -> i32 {
    on_group(group, |instance, core| {
        with_view(instance, core, |_, rank| rank.map(i32::from).ok_or_else(|| plain(error::ISIS_ENOTMEMBER)))
    })
}

/// The member of a rank.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOVIEW, ISIS_ERANGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_view_member(group: *mut isis_group_t, rank: u32, process: *mut u64) -> i32 {
    on_group(group, |instance, core| {
        let output = Output::new(process, "process")?;
        with_view(instance, core, |view, _| {
            output.set(view.members[at(&view.members, rank, "rank")?].process.0);
            Ok(ISIS_OK)
        })
    })
}

/// Returns 1 if the member of a rank has the group's state, 0 if it is still on its way.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOVIEW, ISIS_ERANGE.
#[unsafe(no_mangle)]
pub extern "C" fn isis_view_has_state(group: *mut isis_group_t, rank: u32) -> i32 {
    on_group(group, |instance, core| {
        with_view(instance, core, |view, _| Ok(i32::from(view.members[at(&view.members, rank, "rank")?].has_state)))
    })
}

/// Returns how many members are new in the view.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOVIEW.
#[unsafe(no_mangle)]
pub extern "C" fn isis_view_joined_count(group: *mut isis_group_t) -> i32 {
    on_group(group, |instance, core| with_view(instance, core, |view, _| Ok(view.joined.len() as i32)))
}

/// The `index`-th member that is new in the view.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOVIEW, ISIS_ERANGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_view_joined(group: *mut isis_group_t, index: u32, process: *mut u64) -> i32 {
    on_group(group, |instance, core| {
        let output = Output::new(process, "process")?;
        with_view(instance, core, |view, _| {
            output.set(view.joined[at(&view.joined, index, "joined")?].0);
            Ok(ISIS_OK)
        })
    })
}

/// Returns how many members of the view before are not in this one.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOVIEW.
#[unsafe(no_mangle)]
pub extern "C" fn isis_view_departed_count(group: *mut isis_group_t) -> i32 {
    on_group(group, |instance, core| with_view(instance, core, |view, _| Ok(view.departed.len() as i32)))
}

/// The `index`-th member of the view before that is not in this one, and why: ISIS_DEPARTED_LEFT or
/// ISIS_DEPARTED_FAILED. `reason` may be NULL.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOVIEW, ISIS_ERANGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_view_departed(
    group: *mut isis_group_t,
    index: u32,
    process: *mut u64,
    reason: *mut u32,
) -> i32 {
    on_group(group, |instance, core| {
        let output = Output::new(process, "process")?;
        with_view(instance, core, |view, _| {
            let (who, why) = view.departed[at(&view.departed, index, "departed")?];
            output.set(who.0);
            let why = match why {
                Departure::Left => ISIS_DEPARTED_LEFT,
                Departure::Failed => ISIS_DEPARTED_FAILED,
            };
            set_if_wanted(reason, why);
            Ok(ISIS_OK)
        })
    })
}

/// Returns how many clients were registered with the group when the view began.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_ENOVIEW.
#[unsafe(no_mangle)]
pub extern "C" fn isis_view_client_count(group: *mut isis_group_t) -> i32 {
    on_group(group, |instance, core| with_view(instance, core, |view, _| Ok(view.clients.len() as i32)))
}

/// The `index`-th client that was registered with the group when the view began; by identifier, not by age.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOVIEW, ISIS_ERANGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_view_client(group: *mut isis_group_t, index: u32, process: *mut u64) -> i32 {
    on_group(group, |instance, core| {
        let output = Output::new(process, "process")?;
        with_view(instance, core, |view, _| {
            output.set(view.clients[at(&view.clients, index, "client")?].0);
            Ok(ISIS_OK)
        })
    })
}
