//! State transfer: the program's snapshots on their way to joiners, and the state that a joiner receives.
//!
//! The core asks for the state (`StateWanted`): the snapshot is captured at that event, before any later one, and its
//! blocks are pulled from then on at every turn, as fast as the core takes them.
//!
//! ```text
//! StateWanted ──capture──► Pulling ──next_block = 0, handed over──► done
//!                             │ StateAborted, next_block failed, group left ──► done
//! ```

use crate::error::{self, Failure, fail};
use crate::group::isis_join_options_t;
use crate::instance::Instance;
use isis_protocol::GroupHandle;
use isis_runtime::NodeError;
use std::ffi::c_void;

/// Takes a snapshot of the group's state as it is at this moment, and stores what names it in `*snapshot`. Returns 0; a
/// negative value means that it cannot: then this member leaves the group, and another one hands over the state.
pub type isis_state_capture_fn = Option<unsafe extern "C" fn(user: *mut c_void, snapshot: *mut *mut c_void) -> i32>;
/// Writes the snapshot's bytes from `offset` on into `buffer`, at most `capacity`. Returns how many; 0 at the end;
/// ISIS_EAGAIN: later; any other negative value: it failed, and this member leaves the group. Offsets never go back.
pub type isis_state_next_fn = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        snapshot: *mut c_void,
        offset: u64,
        buffer: *mut c_void,
        capacity: u64,
    ) -> i64,
>;
/// The snapshot is no longer needed: it was handed over, or nobody wants it any more. Once for each capture that worked.
pub type isis_state_done_fn = Option<unsafe extern "C" fn(user: *mut c_void, snapshot: *mut c_void)>;
/// Takes the next bytes of the group's state. `offset` 0 means: start over, forget what came before (the first call, or
/// the donor was lost). `last` is 1 with the last block, which may be empty.
pub type isis_state_block_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, offset: u64, data: *const c_void, len: u64, last: u32)>;

/// The program's part in the state transfers of one group.
#[derive(Clone, Copy)]
pub struct StateCallbacks {
    user: *mut c_void,
    capture: isis_state_capture_fn,
    next: isis_state_next_fn,
    done: isis_state_done_fn,
    block: isis_state_block_fn,
}

impl StateCallbacks {
    /// Takes them from the options, which it checks.
    pub fn new(options: &isis_join_options_t) -> Result<StateCallbacks, Failure> {
        if options.role > crate::group::ISIS_ROLE_CLIENT {
            return Err(fail(error::ISIS_EINVAL, format_args!("join options: {} is no role", options.role)));
        }
        if options.state_capture.is_some() != options.state_next.is_some() {
            return Err(fail(
                error::ISIS_EINVAL,
                format_args!("join options: state_capture and state_next need each other"),
            ));
        }
        Ok(StateCallbacks {
            user: options.user,
            capture: options.state_capture,
            next: options.state_next,
            done: options.state_done,
            block: options.state_block,
        })
    }

    /// Whether the joiner wants the group's state.
    pub fn wants_state(&self) -> bool {
        self.block.is_some()
    }
}

/// A snapshot on its way to joiners.
pub struct Transfer {
    group: GroupHandle,
    number: u64,
    callbacks: StateCallbacks,
    /// What the program calls its snapshot; `None`: there is none, the state is empty.
    snapshot: Option<*mut c_void>,
    offset: u64,
    /// A block that the core has not taken yet; empty: pull the next.
    block: Vec<u8>,
    /// The program gave its last byte.
    at_end: bool,
}

/// Bytes pulled from the program at a time.
const BLOCK: usize = 32 * 1024;
/// Blocks handed over in one turn, so that a large state does not hold up messages.
const BLOCKS_A_TURN: usize = 8;

/// What became of an attempt to move a transfer on.
enum Progress {
    /// It has more to do, or waits.
    Later,
    /// It is done, or was given up.
    Over,
    /// The program could not give its state.
    Failed,
}

impl Instance {
    /// The core wants the state of a group as it is now.
    pub fn on_state_wanted(&self, group: GroupHandle, number: u64) {
        let Some(callbacks) = self.with_group(group, |group| group.state) else { return };
        let mut snapshot = None;
        if let Some(capture) = callbacks.capture {
            let mut cookie = std::ptr::null_mut();
            // SAFETY: a function that the program gave in the join options, called as documented there.
            let captured = self.in_callback(|| unsafe { capture(callbacks.user, &raw mut cookie) });
            if captured < 0 {
                self.give_up_state(group);
                return;
            }
            snapshot = Some(cookie);
        }
        let at_end = snapshot.is_none();
        let transfer = Transfer { group, number, callbacks, snapshot, offset: 0, block: Vec::new(), at_end };
        self.transfers.borrow_mut().push(transfer);
        self.pump_transfers();
    }

    /// Nobody wants it any more.
    pub fn on_state_aborted(&self, group: GroupHandle, number: u64) {
        let gone = {
            let mut transfers = self.transfers.borrow_mut();
            let place = transfers.iter().position(|transfer| transfer.group == group && transfer.number == number);
            place.map(|place| transfers.remove(place))
        };
        if let Some(transfer) = gone {
            self.end_transfer(&transfer);
        }
    }

    /// A block of the state came to this joiner.
    pub fn on_state_block(&self, group: GroupHandle, offset: u64, block: &[u8], last: bool) {
        let known = self.with_group(group, |group| {
            group.state_received = offset + block.len() as u64;
            group.state
        });
        let Some(StateCallbacks { user, block: Some(take), .. }) = known else { return };
        // SAFETY: a function that the program gave in the join options; the block is borrowed for the call.
        self.in_callback(|| unsafe {
            take(user, offset, block.as_ptr().cast(), block.len() as u64, u32::from(last));
        });
    }

    /// Moves all transfers on. Returns whether one is still under way.
    pub fn pump_transfers(&self) -> bool {
        // Each one is taken out while its callbacks run; they may start further calls, but no poll.
        let count = self.transfers.borrow().len();
        for _ in 0..count {
            if self.transfers.borrow().is_empty() {
                break;
            }
            let mut transfer = self.transfers.borrow_mut().remove(0);
            match self.pump(&mut transfer) {
                Progress::Later => self.transfers.borrow_mut().push(transfer),
                Progress::Over => self.end_transfer(&transfer),
                Progress::Failed => {
                    self.end_transfer(&transfer);
                    self.give_up_state(transfer.group);
                }
            }
        }
        !self.transfers.borrow().is_empty()
    }

    fn pump(&self, transfer: &mut Transfer) -> Progress {
        for _ in 0..BLOCKS_A_TURN {
            if transfer.block.is_empty() && !transfer.at_end {
                match self.pull(transfer) {
                    Some(Progress::Later) => return Progress::Later,
                    Some(over) => return over,
                    None => {}
                }
            }
            let done = transfer.at_end;
            let taken = self.node().state_block(transfer.group, transfer.number, &transfer.block, done);
            match taken {
                Ok(()) if done => return Progress::Over,
                Ok(()) => transfer.block.clear(),
                Err(NodeError::WouldBlock) => return Progress::Later,
                // The group or the node has ended: nobody waits for it.
                Err(_) => return Progress::Over,
            }
        }
        Progress::Later
    }

    /// Gets the next block from the program. `None`: there is one, or the end was found.
    fn pull(&self, transfer: &mut Transfer) -> Option<Progress> {
        let (Some(next), Some(snapshot)) = (transfer.callbacks.next, transfer.snapshot) else {
            transfer.at_end = true;
            return None;
        };
        transfer.block.resize(BLOCK, 0);
        let (user, offset, buffer) = (transfer.callbacks.user, transfer.offset, transfer.block.as_mut_ptr());
        // SAFETY: a function that the program gave in the join options; the buffer has BLOCK bytes.
        let got = self.in_callback(|| unsafe { next(user, snapshot, offset, buffer.cast(), BLOCK as u64) });
        match usize::try_from(got) {
            Ok(0) => {
                transfer.block.clear();
                transfer.at_end = true;
                None
            }
            Ok(len) if len <= BLOCK => {
                transfer.block.truncate(len);
                transfer.offset += len as u64;
                None
            }
            _ => {
                transfer.block.clear();
                let later = got == i64::from(error::ISIS_EAGAIN);
                Some(if later { Progress::Later } else { Progress::Failed })
            }
        }
    }

    fn end_transfer(&self, transfer: &Transfer) {
        if let (Some(done), Some(snapshot)) = (transfer.callbacks.done, transfer.snapshot) {
            // SAFETY: a function that the program gave in the join options, with its own snapshot, once.
            self.in_callback(|| unsafe { done(transfer.callbacks.user, snapshot) });
        }
    }

    /// Gives all snapshots back to the program, at the end of the instance.
    pub fn end_transfers(&self) {
        let all = std::mem::take(&mut *self.transfers.borrow_mut());
        for transfer in &all {
            self.end_transfer(transfer);
        }
    }

    /// A member that cannot hand over its state leaves, so that another one is asked.
    fn give_up_state(&self, group: GroupHandle) {
        self.log(group, c"this member cannot hand over the group's state: it leaves the group");
        let _ = self.node().leave(group);
    }
}
