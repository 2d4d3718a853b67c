//! `isis_t`: one process of a system, opened and closed by the program.
//!
//! Owner: the thread that opened it; it lives on the heap, and only the handle table points to it.
//!
//! Invariants: no borrow of `node` (or of any other cell) is held while a callback of the program runs, so that the
//! callback may make calls. The instance is freed only when none of its calls is on the stack: `calls` is 0.
//!
//! ```text
//! open ──► Running ──isis_close──► Closing ──Closed event──► Over (freed)
//!             │ panic ──► Poisoned ──isis_close──► Over          ▲
//!             └──────────────── isis_close_wait ─────────────────┘
//! ```

use crate::boundary::{self, Output, enter, on_instance};
use crate::entry::Entries;
use crate::error::{self, Failure, ISIS_OK, Status, fail, plain};
use crate::group::{Group, isis_group_t};
use crate::options::{isis_options_t, option_failure};
use crate::state::Transfer;
use crate::table::{self, Noun};
use isis_protocol::{GroupHandle, ProcessId};
use isis_runtime::{Node, NodeError, NodeEvent};
use std::cell::{Cell, RefCell, RefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A process of a system. An opaque handle: only to be handed back, never to be looked into.
pub struct isis_t {
    _private: [u8; 0],
}

/// The group handle's detail that stands for the group of all processes.
pub(crate) const SYSTEM_GROUP: GroupHandle = GroupHandle(u32::MAX);

/// Where an instance stands; see the module's picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Takes calls.
    Running,
    /// `isis_close` was called; the closed event has not come.
    Closing,
    /// To be freed when its last call returns.
    Over,
    /// A panic was caught in it, or in its core.
    Poisoned,
}

/// What stands behind an `isis_t` handle.
pub struct Instance {
    /// Its own handle.
    pub handle: Cell<u64>,
    /// The handle of the group of all processes.
    pub system_group: Cell<u64>,
    node: RefCell<Node>,
    /// The program's callbacks.
    pub entries: Entries,
    /// The groups that were joined, ordered by the core's handle.
    pub groups: RefCell<Vec<Group>>,
    /// States that are being handed to joiners.
    pub transfers: RefCell<Vec<Transfer>>,
    phase: Cell<Phase>,
    /// The last join that was refused after its call had accepted it, and why.
    pub join_refused: Cell<(GroupHandle, i32)>,
    /// The system has gone on without this process.
    pub evicted: Cell<bool>,
    /// Calls on this thread's stack that are inside a callback of this instance.
    pub callbacks: Cell<u32>,
    /// Bytes in held messages; outlives the instance with them.
    pub held_bytes: Rc<Cell<u64>>,
    /// The most that `held_bytes` may be.
    pub hold_limit: u64,
    /// Messages that had no callback.
    pub without_entry: Cell<u64>,
    /// Callbacks that ran.
    pub dispatched: Cell<u64>,
}

impl Instance {
    /// The node, for one call of it.
    pub fn node(&self) -> RefMut<'_, Node> {
        self.node.borrow_mut()
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Whether a panic was caught in it.
    pub fn is_poisoned(&self) -> bool {
        self.phase.get() == Phase::Poisoned
    }

    /// Takes no more calls. The node ends with [`Instance::bury`], when no callback can be reading its bytes.
    #[cold]
    pub fn poison(&self) {
        self.phase.set(Phase::Poisoned);
    }

    /// Ends a poisoned node as a crash would, once no callback is on the stack.
    #[cold]
    pub fn bury(&self) {
        if self.callbacks.get() == 0
            && let Ok(mut node) = self.node.try_borrow_mut()
        {
            let _ = catch_unwind(AssertUnwindSafe(|| node.poison()));
        }
    }

    /// The core said that it is closed.
    pub fn on_closed(&self) {
        if self.phase.get() != Phase::Poisoned {
            self.phase.set(Phase::Over);
        }
    }

    /// Maps the node's word on a call. `WouldBlock` formats nothing.
    pub fn failure(&self, why: NodeError) -> Failure {
        match why {
            NodeError::WouldBlock => Failure::AGAIN,
            NodeError::Poisoned => {
                self.poison();
                boundary::poisoned()
            }
            other => node_failure(other),
        }
    }

    /// Refuses what must not be done inside a callback.
    pub fn outside_callbacks(&self) -> Result<(), Failure> {
        if self.callbacks.get() > 0 { Err(plain(error::ISIS_EINCALLBACK)) } else { Ok(()) }
    }

    /// Runs a callback of the program. No borrow may be held.
    pub fn in_callback<R>(&self, callback: impl FnOnce() -> R) -> R {
        debug_assert!(self.node.try_borrow_mut().is_ok(), "a borrow is held over a callback");
        self.callbacks.set(self.callbacks.get() + 1);
        self.dispatched.set(self.dispatched.get() + 1);
        let result = callback();
        self.callbacks.set(self.callbacks.get() - 1);
        result
    }

    /// Turns the loop and runs callbacks until `done` gives a result, `timeout_ns` is over, or the instance ends.
    pub fn wait_for<T>(&self, timeout_ns: u64, mut done: impl FnMut(&Instance) -> Option<T>) -> Result<T, Failure> {
        let deadline = Instant::now().checked_add(Duration::from_nanos(timeout_ns));
        loop {
            self.step(64)?;
            if let Some(result) = done(self) {
                return Ok(result);
            }
            match self.phase.get() {
                Phase::Over => return Err(plain(error::ISIS_EENDED)),
                // What a call may wait for will not come any more.
                Phase::Running if self.evicted.get() => return Err(plain(error::ISIS_EENDED)),
                Phase::Poisoned => return Err(boundary::poisoned()),
                Phase::Running | Phase::Closing => {}
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(plain(error::ISIS_ETIMEDOUT));
            }
            self.sleep(left)?;
        }
    }

    /// Gives a command to the node, again and again while its way there is full, and then waits as [`Instance::wait_for`]
    /// does until `done` gives a result. `timeout_ns` is for both; ISIS_EAGAIN: it was over before the command was given.
    pub fn wait_after<A, T>(
        &self,
        timeout_ns: u64,
        mut ask: impl FnMut(&Instance) -> Result<A, NodeError>,
        mut done: impl FnMut(&Instance, &A) -> Option<Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut asked = None;
        let mut progress = |instance: &Instance| {
            if asked.is_none() {
                match ask(instance) {
                    Ok(answer) => asked = Some(answer),
                    Err(NodeError::WouldBlock) => return None,
                    Err(why) => return Some(Err(instance.failure(why))),
                }
                return None;
            }
            done(instance, asked.as_ref()?)
        };
        // Before any callback runs: what the program asked for is about what it did so far.
        if let Some(refused) = progress(self) {
            return refused;
        }
        let waited = self.wait_for(timeout_ns, progress);
        match waited {
            Err(why) if why.code() == error::ISIS_ETIMEDOUT && asked.is_none() => Err(Failure::AGAIN),
            waited => waited?,
        }
    }

    /// Waits for an event: at most `left`, and never long, because transfers and `isis_stop` want to be looked at.
    pub fn sleep(&self, left: Duration) -> Result<(), Failure> {
        let longest = match self.transfers.borrow().is_empty() {
            true => Duration::from_millis(20),
            false => Duration::from_millis(1),
        };
        let waited = self.node().wait(Some(left.min(longest).as_nanos() as u64));
        match waited {
            Ok(_) => Ok(()),
            // An evicted node has nothing more to wait for, but its instance stays until it is closed.
            Err(NodeError::Ended) => {
                std::thread::sleep(left.min(Duration::from_millis(1)));
                Ok(())
            }
            Err(why) => Err(self.failure(why)),
        }
    }

    /// Begins to leave the system.
    fn begin_close(&self) -> Result<(), Failure> {
        if self.phase.get() == Phase::Running {
            let closed = self.node().close();
            match closed {
                Ok(()) => self.phase.set(Phase::Closing),
                // Nothing is left to leave: the closed event is made here, at the next poll.
                Err(NodeError::Ended) => {
                    self.phase.set(Phase::Closing);
                    self.evicted.set(true);
                }
                Err(why) => return Err(self.failure(why)),
            }
        }
        Ok(())
    }

    /// Tells the program about the end of an instance whose core will not say it: it was evicted before.
    pub fn close_evicted(&self) -> Option<NodeEvent> {
        (self.phase.get() == Phase::Closing && self.evicted.get()).then_some(NodeEvent::Closed)
    }

    /// Frees an instance that is at its end, if no call is inside it any more.
    pub(crate) fn release_if_over(pointer: *mut Instance) {
        // SAFETY: called by `guarded` after the body, with the pointer that the table gave; still live, since only the
        // outermost call frees it, which `callbacks == 0` shows this to be: calls on one instance nest only through
        // its callbacks.
        let over = unsafe { (*pointer).phase.get() == Phase::Over && (*pointer).callbacks.get() == 0 };
        if over {
            Instance::release(pointer);
        }
    }

    /// Frees an instance with all its handles.
    fn release(pointer: *mut Instance) {
        // SAFETY: made by `Box::into_raw` in `isis_open`; this is the owner's thread and its outermost call, and the
        // handles that lead here are closed before anybody could look again.
        let instance = unsafe { Box::from_raw(pointer) };
        for group in instance.groups.borrow().iter() {
            table::close(group.handle);
        }
        table::close(instance.system_group.get());
        table::close(instance.handle.get());
        instance.end_transfers();
        // The node's end may meet a bug of the library; by now nobody can be told.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(instance)));
    }
}

/// Maps the node's word on a call outside of any instance.
#[cold]
pub fn node_failure(why: NodeError) -> Failure {
    let code = match why {
        NodeError::WouldBlock => return Failure::AGAIN,
        NodeError::TooLong => error::ISIS_ETOOLONG,
        NodeError::NotMember => error::ISIS_ENOTMEMBER,
        NodeError::NoSuchProcess => error::ISIS_ENOPROCESS,
        NodeError::Ended => error::ISIS_EENDED,
        NodeError::BadClaim => error::ISIS_ECLAIM,
        NodeError::BadKind => error::ISIS_EKIND,
        NodeError::AlreadyMember => error::ISIS_EALREADY,
        NodeError::WrongMode => error::ISIS_EUNSUPPORTED,
        NodeError::Poisoned => error::ISIS_EPOISONED,
        NodeError::Forked => error::ISIS_EFORKED,
        NodeError::Option(why) => return option_failure(why),
        NodeError::System { .. } | NodeError::Transport(_) => error::ISIS_ESYSTEM,
    };
    fail(code, format_args!("{why}"))
}

/// Opens an instance.
fn open(options: &isis_options_t) -> Result<*mut Instance, Failure> {
    boundary::silence_panics();
    table::watch_forks();
    let options = options.to_runtime()?;
    let hold_limit = options.hold_bytes;
    let node = Node::open(options).map_err(node_failure)?;
    let instance = Box::into_raw(Box::new(Instance {
        handle: Cell::new(0),
        system_group: Cell::new(0),
        node: RefCell::new(node),
        entries: Entries::new(),
        groups: RefCell::new(Vec::new()),
        transfers: RefCell::new(Vec::new()),
        phase: Cell::new(Phase::Running),
        join_refused: Cell::new((SYSTEM_GROUP, ISIS_OK)),
        evicted: Cell::new(false),
        callbacks: Cell::new(0),
        held_bytes: Rc::new(Cell::new(0)),
        hold_limit,
        without_entry: Cell::new(0),
        dispatched: Cell::new(0),
    }));
    let handles = table::open(Noun::Instance, instance.cast(), 0, false).and_then(|handle| {
        match table::open(Noun::Group, instance.cast(), u64::from(SYSTEM_GROUP.0), false) {
            Ok(group) => Ok((handle, group)),
            Err(full) => {
                table::close(handle);
                Err(full)
            }
        }
    });
    match handles {
        Ok((handle, group)) => {
            // SAFETY: made above; nobody else has it yet.
            unsafe {
                (*instance).handle.set(handle);
                (*instance).system_group.set(group);
            }
            Ok(instance)
        }
        Err(full) => {
            // SAFETY: made above; nobody else has it.
            drop(unsafe { Box::from_raw(instance) });
            Err(full)
        }
    }
}

/// Opens the transport and begins to find or found a system. Never blocks: ISIS_EVENT_SYSTEM_JOINED tells that this
/// process is in. Groups may be joined at once. `options` NULL: the defaults, and the environment.
///
/// The handle belongs to the calling thread. It ends with isis_close or isis_close_wait; a process that exits without
/// is a crashed one to the others.
///
/// Errors: ISIS_EINVAL, ISIS_EOPTION, ISIS_EFILE, ISIS_ELIMIT, ISIS_ESYSTEM. On an error `*isis` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_open(options: *const isis_options_t, isis: *mut *mut isis_t) -> i32 {
    enter(|| {
        let output = Output::new(isis, "isis")?;
        output.set(std::ptr::null_mut());
        // SAFETY: the pointer contract.
        let instance = open(&unsafe { isis_options_t::given(options)? })?;
        // SAFETY: just made, and this thread's.
        output.set(unsafe { (*instance).handle.get() } as *mut isis_t);
        Ok(ISIS_OK)
    })
}

/// isis_open, and waits until this process is in a system.
///
/// Errors: as isis_open, and ISIS_ETIMEDOUT, ISIS_EPOISONED. On an error `*isis` is NULL and nothing stays open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_open_wait(
    options: *const isis_options_t,
    timeout_ns: u64,
    isis: *mut *mut isis_t,
) -> i32 {
    // SAFETY: the pointer contract.
    let opened = unsafe { isis_open(options, isis) };
    if opened < 0 {
        return opened;
    }
    // SAFETY: isis_open has checked and written it.
    let handle = unsafe { *isis };
    let waited = on_instance(handle, |instance| {
        instance.wait_for(timeout_ns, |instance| instance.node().process())?;
        Ok(ISIS_OK)
    });
    if waited < 0 {
        abandon(handle);
        boundary::set_if_wanted(isis, std::ptr::null_mut());
    }
    waited
}

/// Closes a handle at once, without a word to anybody; leaves the text of the last failure alone.
fn abandon(isis: *mut isis_t) {
    enter(|| {
        let found = table::find(Noun::Instance, isis as u64)?;
        Instance::release(found.object.cast::<Instance>());
        Ok(ISIS_OK)
    });
}

/// Begins to leave all groups and the system. Never blocks: ISIS_EVENT_CLOSED tells the end, within `linger_ns` if the
/// program polls on; after its callback the handle and those of its groups are closed. A poisoned handle is closed at
/// once.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EINCALLBACK, ISIS_EPOISONED.
#[unsafe(no_mangle)]
pub extern "C" fn isis_close(isis: *mut isis_t) -> i32 {
    close(isis, |instance| instance.begin_close().map(|()| ISIS_OK))
}

/// isis_close, and waits for its end, running callbacks as isis_poll does. The handle is closed in any case; when the
/// time is over the others see a crash.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EINCALLBACK, ISIS_ETIMEDOUT, ISIS_EPOISONED.
#[unsafe(no_mangle)]
pub extern "C" fn isis_close_wait(isis: *mut isis_t, timeout_ns: u64) -> i32 {
    close(isis, |instance| {
        let waited = instance
            .begin_close()
            .and_then(|()| instance.wait_for(timeout_ns, |instance| (instance.phase() == Phase::Over).then_some(())));
        if !instance.is_poisoned() {
            instance.phase.set(Phase::Over);
        }
        waited.map(|()| ISIS_OK)
    })
}

/// Closing differs from other calls only in that it also takes a poisoned instance, and frees it.
fn close(isis: *mut isis_t, body: impl FnOnce(&Instance) -> Status) -> i32 {
    enter(|| {
        let found = table::find(Noun::Instance, isis as u64)?;
        let pointer = found.object.cast::<Instance>();
        {
            // SAFETY: live and this thread's, as `find` saw.
            let instance = unsafe { &*pointer };
            instance.outside_callbacks()?;
            if !instance.is_poisoned() {
                let result = boundary::guarded(found.object, body);
                if !matches!(&result, Err(failure) if failure.code() == error::ISIS_EPOISONED) {
                    return result;
                }
            }
        }
        // `guarded` frees only an instance that is over, and a poisoned one is not.
        Instance::release(pointer);
        Ok(ISIS_OK)
    })
}

/// This process's identifier in the system.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ENOVIEW (not admitted yet).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_process(isis: *mut isis_t, process: *mut u64) -> i32 {
    on_instance(isis, |instance| {
        let output = Output::new(process, "process")?;
        let ProcessId(id) = instance.node().process().ok_or_else(|| plain(error::ISIS_ENOVIEW))?;
        output.set(id);
        Ok(ISIS_OK)
    })
}

/// The group of all processes of the system, whose views isis_view_number and its likes tell. It takes no messages. Its
/// handle lives as long as `isis`.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_system_group(isis: *mut isis_t, group: *mut *mut isis_group_t) -> i32 {
    on_instance(isis, |instance| {
        Output::new(group, "group")?.set(instance.system_group.get() as *mut isis_group_t);
        Ok(ISIS_OK)
    })
}
