//! Claim and commit: the message is written where it is sent from.
//!
//! A claim's token is `serial << 16 | slot`: the slot of its group's handle, and a number that the process gives out
//! once. It is only compared, so that an old or invented claim is an error.

use crate::boundary::{Output, enter, on_group};
use crate::error::{self, Failure, ISIS_OK, Status, fail, plain};
use crate::group::{isis_group_t, ordinary};
use crate::instance::Instance;
use crate::send::send_options;
use crate::table::{self, Noun};
use isis_protocol::GroupHandle;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

/// Room for a message in the outgoing stream. Write `len` bytes at `data`, then isis_commit or isis_abort.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isis_claim_t {
    /// Where to write; 8-byte aligned. Valid until the claim is committed or aborted, or its group's handle is closed,
    /// or a call gave ISIS_EPOISONED.
    pub data: *mut c_void,
    /// How many bytes.
    pub len: u64,
    /// Names the claim; 0: none.
    pub token: u64,
}

const NO_CLAIM: isis_claim_t = isis_claim_t { data: std::ptr::null_mut(), len: 0, token: 0 };
const SLOT_BITS: u32 = 16;
static SERIALS: AtomicU64 = AtomicU64::new(1);

/// The longest claim of this group, in bytes: 32 KiB, or less if the options `fragment` or `window` are small.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_claim_max(group: *mut isis_group_t, max: *mut u64) -> i32 {
    on_group(group, |instance, _| {
        Output::new(max, "max")?.set(instance.node().claim_max() as u64);
        Ok(ISIS_OK)
    })
}

/// Reserves room for a message of `len` bytes in the outgoing stream. One claim may be open in a group at a time; it
/// holds up nothing: the message gets its place, and its view, at isis_commit. Other multicasts may go out in between.
/// In inline mode the bytes are sent from where they are written. In threaded mode they are copied twice, as isis_multicast
/// copies them: into the ring to the engine's thread, and into the stream. (A claim in the ring itself would hold up
/// everything behind it until its commit; handing the buffer over costs as much as copying it.) Clients have no
/// stream: ISIS_ENOTMEMBER.
///
/// Errors: ISIS_EAGAIN, ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ETOOLONG,
/// ISIS_ECLAIM, ISIS_ENOTMEMBER, ISIS_EENDED. On an error the claim is all zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_claim(group: *mut isis_group_t, len: u64, claim: *mut isis_claim_t) -> i32 {
    crate::boundary::set_if_wanted(claim, NO_CLAIM);
    on_group(group, |instance, core| {
        let output = Output::new(claim, "claim")?;
        let core = ordinary(core)?;
        let len = usize::try_from(len).map_err(|_| plain(error::ISIS_ETOOLONG))?;
        let (data, len) = {
            let mut node = instance.node();
            let claimed = node.claim(core, len).and_then(|()| match node.claimed(core) {
                Ok(room) => Ok((room.as_mut_ptr(), room.len())),
                Err(why) => Err(why),
            });
            drop(node);
            claimed.map_err(|why| instance.failure(why))?
        };
        // Relaxed: only the number's uniqueness matters.
        let serial = SERIALS.fetch_add(1, Ordering::Relaxed);
        let token = serial << SLOT_BITS | table::slot_of(group as u64);
        if instance.with_group(core, |group| group.claim = token).is_none() {
            return Err(plain(error::ISIS_ENOTMEMBER));
        }
        output.set(isis_claim_t { data: data.cast(), len: len as u64, token });
        Ok(ISIS_OK)
    })
}

/// Runs `body` on the group of an open claim, and forgets the claim if it works.
///
/// # Safety
/// `claim` must be NULL or point to a claim.
unsafe fn end(claim: *mut isis_claim_t, body: impl FnOnce(&Instance, GroupHandle) -> Result<(), Failure>) -> Status {
    let output = Output::new(claim, "claim")?;
    // SAFETY: not NULL, aligned, and a claim by the caller's promise.
    let token = unsafe { (*claim).token };
    let none = || fail(error::ISIS_ECLAIM, format_args!("the claim is not open"));
    if token == 0 {
        return Err(none());
    }
    let group = table::value_in(token & ((1 << SLOT_BITS) - 1));
    if !table::is_of(Noun::Group, group) {
        return Err(none());
    }
    let found = table::find(Noun::Group, group)?;
    crate::boundary::guarded(found.object, |instance| {
        let core = GroupHandle(found.detail as u32);
        if instance.with_group(core, |group| group.claim) != Some(token) {
            return Err(none());
        }
        body(instance, core)?;
        instance.with_group(core, |group| group.claim = 0);
        output.set(NO_CLAIM);
        Ok(ISIS_OK)
    })
}

/// Multicasts the claimed bytes, as isis_multicast. Clears the claim if it works; on an error it stays open.
///
/// Errors: ISIS_EAGAIN, ISIS_ECLAIM, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_EKIND,
/// ISIS_ENOTMEMBER, ISIS_EENDED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_commit(claim: *mut isis_claim_t, kind: u32, entry: u32) -> i32 {
    enter(|| {
        let options = send_options(kind, entry)?;
        let commit = |instance: &Instance, core| {
            let sent = instance.node().commit(core, options);
            instance.note_sent(core, sent).map(drop)
        };
        // SAFETY: the pointer contract.
        unsafe { end(claim, commit) }
    })
}

/// Gives a claim up, and clears it.
///
/// Errors: ISIS_ECLAIM, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOTMEMBER, ISIS_EENDED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_abort(claim: *mut isis_claim_t) -> i32 {
    enter(|| {
        let abort = |instance: &Instance, core| {
            let aborted = instance.node().abort(core);
            aborted.map_err(|why| instance.failure(why))
        };
        // SAFETY: the pointer contract.
        unsafe { end(claim, abort) }
    })
}
