//! The handle: a process in a system, with its groups, whoever turns its loop.
//!
//! Owner: one thread of the application at a time; further threads send through [`Sender`].

use crate::error::NodeError;
use crate::event::{Message, NodeEvent};
use crate::options::{Mode, Options};
use isis_protocol::{GroupHandle, JoinOptions, MessageId, ProcessId, SendOptions, SystemId, View};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// A process of a system. Dropping it is a crash for its peers (they know at once); `close` first leaves in order.
#[derive(Debug)]
pub struct Node {
    mode: Mode,
    wake: std::os::fd::OwnedFd,
}

impl Node {
    /// Opens the transport and starts to look for a system; in threaded mode starts the core thread.
    pub fn open(options: Options) -> Result<Node, NodeError> {
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)
            .map_err(|error| NodeError::system("eventfd", error))?;
        let _ = Node { mode: options.mode, wake };
        Err(NodeError::Transport("not there yet".to_owned()))
    }

    // --- the loop -------------------------------------------------------------------------------------------------

    /// Inline mode: one turn of the loop (commands, receive, timeouts, transmit, events); the amount of work done.
    /// Threaded mode: 0.
    pub fn turn(&mut self) -> Result<usize, NodeError> {
        Ok(0)
    }

    /// The next event; never blocks. The bytes of the event before it may be overwritten from here on. In inline mode
    /// events appear by `turn`.
    pub fn poll_event(&mut self) -> Result<Option<NodeEvent>, NodeError> {
        Ok(None)
    }

    /// The bytes of the last polled message, in place; empty when the message is an older one.
    pub fn payload<'a>(&'a self, message: &'a Message) -> &'a [u8] {
        let _ = message;
        &[]
    }

    /// Waits, by the wait strategy, until `poll_event` has something to give (`true`) or `timeout_ns` is over (`false`).
    /// `None`: as long as it takes. Inline mode turns the loop.
    pub fn wait(&mut self, timeout_ns: Option<u64>) -> Result<bool, NodeError> {
        let _ = timeout_ns;
        Ok(false)
    }

    /// A descriptor for select, poll, epoll: readable when there is something to do, if `wait_prepare` gave `false`
    /// just before.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Before sleeping on `fd`: `true` = turn and poll again, `false` = armed, sleep.
    pub fn wait_prepare(&mut self) -> Result<bool, NodeError> {
        Ok(false)
    }

    // --- commands -------------------------------------------------------------------------------------------------

    /// Joins the group of this name, or creates it. Complete with its first `NodeEvent::View`.
    pub fn join(&mut self, name: &str, options: JoinOptions) -> Result<GroupHandle, NodeError> {
        let _ = (name, options);
        Err(NodeError::Ended)
    }

    /// Leaves a group (or gives up joining it). Complete with `NodeEvent::Left`.
    pub fn leave(&mut self, group: GroupHandle) -> Result<(), NodeError> {
        let _ = group;
        Err(NodeError::NotMember)
    }

    /// Multicasts `data`.
    pub fn multicast(&mut self, group: GroupHandle, options: SendOptions, data: &[u8]) -> Result<(), NodeError> {
        let _ = (group, options, data);
        Err(NodeError::NotMember)
    }

    /// The longest claim, in bytes.
    pub fn claim_max(&self) -> usize {
        0
    }

    /// Reserves `len` bytes to write in place. One claim at a time per group.
    pub fn claim(&mut self, group: GroupHandle, len: usize) -> Result<(), NodeError> {
        let _ = (group, len);
        Err(NodeError::NotMember)
    }

    /// The reserved bytes, 8-byte aligned. They stay at their address until `commit`, `abort`, or the end of the node.
    pub fn claimed(&mut self, group: GroupHandle) -> Result<&mut [u8], NodeError> {
        let _ = group;
        Err(NodeError::BadClaim)
    }

    /// Multicasts the claimed bytes. After `WouldBlock` the claim is still open.
    pub fn commit(&mut self, group: GroupHandle, options: SendOptions) -> Result<(), NodeError> {
        let _ = (group, options);
        Err(NodeError::BadClaim)
    }

    /// Gives a claim up.
    pub fn abort(&mut self, group: GroupHandle) -> Result<(), NodeError> {
        let _ = group;
        Err(NodeError::BadClaim)
    }

    /// Sends to one member.
    pub fn send(&mut self, group: GroupHandle, member: ProcessId, entry: u8, data: &[u8]) -> Result<(), NodeError> {
        let _ = (group, member, entry, data);
        Err(NodeError::NotMember)
    }

    /// Answers a message that was delivered in `group`.
    pub fn reply(&mut self, group: GroupHandle, to: MessageId, data: &[u8]) -> Result<(), NodeError> {
        let _ = (group, to, data);
        Err(NodeError::NotMember)
    }

    /// Asks for `NodeEvent::Flushed`, with the number returned.
    pub fn flush(&mut self, group: GroupHandle) -> Result<u64, NodeError> {
        let _ = group;
        Err(NodeError::NotMember)
    }

    /// Hands over the next bytes of the state captured for `transfer`; `done` with the last ones.
    pub fn state_block(
        &mut self,
        group: GroupHandle,
        transfer: u64,
        block: &[u8],
        done: bool,
    ) -> Result<(), NodeError> {
        let _ = (group, transfer, block, done);
        Err(NodeError::NotMember)
    }

    /// Leaves all groups and the system. Complete with `NodeEvent::Closed`, after `linger_ns` at the latest.
    pub fn close(&mut self) -> Result<(), NodeError> {
        Ok(())
    }

    /// A way for one further thread to multicast into `group` (threaded mode).
    pub fn open_sender(&mut self, group: GroupHandle) -> Result<Sender, NodeError> {
        let _ = group;
        Err(NodeError::WrongMode)
    }

    /// Ends the node as a crash would: for a caller that caught a panic. Every later call gives `Poisoned`.
    pub fn poison(&mut self) {}

    // --- getters --------------------------------------------------------------------------------------------------

    /// Who turns the loop.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// This process's identifier, once a system admitted it. This and the following getters know what `poll_event` gave.
    pub fn process(&self) -> Option<ProcessId> {
        None
    }

    /// The system, once it admitted this process.
    pub fn system(&self) -> Option<SystemId> {
        None
    }

    /// The last system view.
    pub fn system_view(&self) -> Option<&Arc<View>> {
        None
    }

    /// The last view of a group.
    pub fn view(&self, group: GroupHandle) -> Option<&Arc<View>> {
        let _ = group;
        None
    }

    /// This process's rank in the last view of a group.
    pub fn rank(&self, group: GroupHandle) -> Option<u16> {
        let _ = group;
        None
    }

    /// The named counters: the core's, the transport's, the runtime's, in a fixed order.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

/// Multicasts into one group from a thread of its own (threaded mode). FIFO holds per sender object.
#[derive(Debug)]
pub struct Sender {}

impl Sender {
    /// As `Node::multicast`. `WouldBlock`: try again later; no event announces when.
    pub fn multicast(&mut self, options: SendOptions, data: &[u8]) -> Result<(), NodeError> {
        let _ = (options, data);
        Err(NodeError::NotMember)
    }
}
