//! The handle: a process in a system, with its groups, whoever turns its loop.
//!
//! Owner: one thread of the application at a time; further threads send through [`Sender`]. In a forked child every call
//! gives `Forked`, and dropping does nothing: the descriptors and the name belong to the parent.

use crate::clock;
use crate::command::{Action, Command};
use crate::error::NodeError;
use crate::event::{Batch, Message, NodeEvent};
use crate::inline::Inline;
use crate::lane::Valve;
use crate::machine::Machine;
use crate::options::{Mode, Options};
use crate::port::{Port, arena, open_host};
use crate::registry::Registry;
use crate::remote::{Pipe, Producer, Remote, check_client, check_kind};
use crate::turn::CoreLoop;
use isis_memory::{ForkMark, Region};
use isis_protocol::{
    Config, Endpoint, GroupHandle, JoinOptions, Kind, MAX_GROUPS, MessageId, Nonce, ProcessId, SendOptions, SiteKey,
    SystemId, View,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A process of a system. Dropping it is a crash for its peers (they know at once); `close` first leaves in order.
///
/// Errors of every call: `Poisoned` after the core failed, `Forked` in a forked child. Calls that pass a command on give
/// `Ended` after eviction or `close`, and `NotMember` for a handle whose group was left or whose first view has not come.
#[derive(Debug)]
pub struct Node {
    /// `None`: poisoned.
    engine: Option<Engine>,
    registry: Registry,
    mark: ForkMark,
    mode: Mode,
    /// A poisoned node's descriptor: always readable, so that nobody sleeps on it.
    grave: Option<OwnedFd>,
    told_poisoned: bool,
    claim_max: usize,
    max_message: usize,
}

/// Who turns the loop.
#[derive(Debug)]
enum Engine {
    Inline(Box<Inline>),
    Threaded(Box<Remote>),
}

impl Node {
    /// Opens the transport and starts to look for a system; in threaded mode starts the core thread.
    pub fn open(options: Options) -> Result<Node, NodeError> {
        let mut nonce = [0; 16];
        fill_random(&mut nonce)?;
        Node::open_as(options, Nonce(u128::from_le_bytes(nonce)))
    }

    /// As `open`, under a nonce of the caller's, by which views name this process (`Member::nonce`). Every start of a
    /// process needs another one: it must never have been used before.
    pub fn open_as(options: Options, nonce: Nonce) -> Result<Node, NodeError> {
        let Nonce(nonce) = nonce;
        let mut random = [0; 8];
        fill_random(&mut random)?;
        let seed = options.seed.unwrap_or(u64::from_le_bytes(random));
        let arena = arena(&options);
        let port = open_host(&options, nonce, arena.clone())?;
        let mut config = Config::new(seed, Nonce(nonce), SiteKey(port.site_key()), port.capabilities().local_address);
        options.fill(&mut config);
        config.datagram_local = config.datagram_local.min(port.capabilities().datagram_local);
        config.datagram_network = config.datagram_network.min(port.capabilities().datagram_network);
        let mut region =
            Region::mapped(options.max_chunks).map_err(|error| NodeError::system("mapping the chunk region", error))?;
        if let Some(arena) = arena {
            region = region.with_arena(arena);
        }
        let machine = Endpoint::new(config, region, clock::now());
        Node::over(options, Box::new(machine), port)
    }

    /// A node over any core and transport.
    pub(crate) fn over(options: Options, machine: Box<dyn Machine>, port: Box<dyn Port>) -> Result<Node, NodeError> {
        let (mode, claim_max, max_message) = (options.mode, options.claim_max(), options.max_message);
        let engine = CoreLoop::new(machine, port);
        let engine = match mode {
            Mode::Inline => Engine::Inline(Box::new(Inline::new(engine, options.wait)?)),
            Mode::Threaded => Engine::Threaded(Box::new(Remote::start(engine, options)?)),
        };
        Ok(Node {
            engine: Some(engine),
            registry: Registry::default(),
            mark: ForkMark::new(),
            mode,
            grave: None,
            told_poisoned: false,
            claim_max,
            max_message,
        })
    }

    fn engine(&mut self) -> Result<&mut Engine, NodeError> {
        if self.mark.in_child() {
            return Err(NodeError::Forked);
        }
        self.engine.as_mut().ok_or(NodeError::Poisoned)
    }

    /// For a command: also refuses when the application was told the end.
    fn live(&mut self) -> Result<&mut Engine, NodeError> {
        if self.registry.ended && self.engine.is_some() && !self.mark.in_child() {
            return Err(NodeError::Ended);
        }
        self.engine()
    }

    // --- the loop -------------------------------------------------------------------------------------------------

    /// Inline mode: one turn of the loop (commands, receive, timeouts, transmit, events); the amount of work done.
    /// Threaded mode: 0.
    pub fn turn(&mut self) -> Result<usize, NodeError> {
        Ok(match self.engine()? {
            Engine::Inline(inline) => inline.turn(),
            Engine::Threaded(_) => 0,
        })
    }

    /// The next event; never blocks. The bytes of the event before it may be overwritten from here on. In inline mode
    /// events appear by `turn`. A poisoned node gives `NodeEvent::Poisoned` once, then the error.
    pub fn poll_event(&mut self) -> Result<Option<NodeEvent>, NodeError> {
        if self.engine.is_none() && !self.told_poisoned && !self.mark.in_child() {
            self.told_poisoned = true;
            return Ok(Some(NodeEvent::Poisoned));
        }
        let event = match self.engine()? {
            Engine::Inline(inline) => {
                if let Some(message) = inline.poll_message() {
                    return Ok(Some(message));
                }
                inline.poll_event()
            }
            Engine::Threaded(remote) => remote.poll_event(),
        };
        match &event {
            Some(NodeEvent::Poisoned) => {
                self.told_poisoned = true;
                self.poison();
            }
            Some(event) => self.registry.note(event),
            None => (),
        }
        Ok(event)
    }

    /// As `poll_event`, but if the next event is a message, those that follow it come with it, `most` in all at most (and
    /// [`Batch::MOST`]): under load a call for each costs more than the rest of its delivery. Threaded mode, and messages of
    /// several fragments: nothing follows. All of them are done with by the next call.
    pub fn poll_batch(&mut self, most: usize, batch: &mut Batch) -> Result<Option<NodeEvent>, NodeError> {
        batch.frames.clear();
        if let Some(Engine::Inline(inline)) = &mut self.engine
            && !self.mark.in_child()
            && let Some(message) = inline.poll_messages(most, &mut batch.frames)
        {
            return Ok(Some(message));
        }
        self.poll_event()
    }

    /// The bytes of the message with this index among those that follow, in place; see `payload`. An index beyond them has none.
    pub fn batch_payload<'a>(&'a self, batch: &Batch, index: usize) -> &'a [u8] {
        match (&self.engine, batch.frames.get(index + 1)) {
            (Some(Engine::Inline(inline)), Some(frame)) => inline.frame(frame),
            _ => &[],
        }
    }

    /// The bytes of the last polled message, in place. They stay until the next `poll_event` or `wait`; of an older
    /// message nothing, or other bytes, are shown.
    pub fn payload<'a>(&'a self, message: &'a Message) -> &'a [u8] {
        match &self.engine {
            Some(Engine::Inline(inline)) => inline.payload(&message.payload),
            Some(Engine::Threaded(remote)) => remote.payload(&message.payload),
            None => message.payload.shared().map_or(&[], |bytes| bytes),
        }
    }

    /// Waits, by the wait strategy, until `poll_event` has something to give (`true`), or `timeout_ns` is over or nothing
    /// will ever come (`false`). `None`: as long as it takes. Inline mode turns the loop. Ends the borrow of the last
    /// event's bytes.
    pub fn wait(&mut self, timeout_ns: Option<u64>) -> Result<bool, NodeError> {
        let ended = self.registry.ended;
        if self.engine.is_none() && !self.told_poisoned && !self.mark.in_child() {
            return Ok(true);
        }
        Ok(match self.engine()? {
            Engine::Inline(inline) => inline.wait(timeout_ns, ended),
            Engine::Threaded(remote) => remote.wait(timeout_ns),
        })
    }

    /// A descriptor for select, poll, epoll: readable when there is something to do, if `wait_prepare` gave `false`
    /// just before. The same as long as the node lives and is not poisoned.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match (&self.engine, &self.grave) {
            (Some(Engine::Inline(inline)), _) => inline.fd(),
            (Some(Engine::Threaded(remote)), _) => remote.fd(),
            (None, Some(grave)) => grave.as_fd(),
            (None, None) => unreachable!("a node without an engine has a grave"),
        }
    }

    /// Before sleeping on `fd`: `true` = turn and poll again, `false` = armed, sleep. Covers sockets, the site link, timers
    /// and rings.
    pub fn wait_prepare(&mut self) -> Result<bool, NodeError> {
        if self.engine.is_none() && !self.told_poisoned && !self.mark.in_child() {
            return Ok(true);
        }
        match self.engine()? {
            Engine::Inline(inline) => inline.prepare(),
            Engine::Threaded(remote) => Ok(remote.prepare()),
        }
    }

    // --- commands -------------------------------------------------------------------------------------------------

    /// Joins the group of this name, or creates it. May be called before the system is joined. Complete with the group's
    /// first `NodeEvent::View`; as a client, who creates nothing, with `NodeEvent::Registered`.
    pub fn join(&mut self, name: &str, options: JoinOptions) -> Result<GroupHandle, NodeError> {
        match self.live()? {
            Engine::Inline(inline) => {
                let (engine, now) = inline.command();
                Ok(engine.machine.join(now, name, options)?)
            }
            Engine::Threaded(remote) => remote.join(name, options),
        }
    }

    /// Leaves a group (or gives up joining it). Complete with `NodeEvent::Left`.
    pub fn leave(&mut self, group: GroupHandle) -> Result<(), NodeError> {
        self.command(group, Action::Leave).map(drop)
    }

    /// Multicasts `data`. Gives the message's ticket, which `Message::ticket` shows with it here, and with each reply to
    /// it: not 0, and no other message's of this process in this membership. `WouldBlock` (also while the process is
    /// stalled), `TooLong`, `BadKind`.
    pub fn multicast(&mut self, group: GroupHandle, options: SendOptions, data: &[u8]) -> Result<u64, NodeError> {
        check_kind(options)?;
        match self.live()? {
            Engine::Inline(inline) => {
                let (engine, now) = inline.send();
                Ok(engine.machine.multicast(now, group, options, data)?)
            }
            Engine::Threaded(remote) => remote.submit(group, Action::Multicast { options, view: 0, data }),
        }
    }

    /// Multicasts `data` to several groups, 64 at most, by ABCAST (`options.kind` is `Total`): each delivers it once to each
    /// of its members, or none does, and all deliver what they share in one order. This process is a member of all of them;
    /// none is in sending-view mode. Gives the message's ticket in each, in the order of `groups`. `WouldBlock` (a
    /// `Writable` follows for one of the groups), `TooLong`, `BadKind` (also: no group, too many, or one twice).
    pub fn multicast_groups(
        &mut self,
        groups: &[GroupHandle],
        options: SendOptions,
        data: &[u8],
    ) -> Result<Vec<u64>, NodeError> {
        let twice = groups.iter().enumerate().any(|(index, group)| groups[..index].contains(group));
        if options.kind != Kind::Total || groups.is_empty() || groups.len() > MAX_GROUPS || twice {
            self.live()?;
            return Err(NodeError::BadKind);
        }
        match self.live()? {
            Engine::Inline(inline) => {
                let (engine, now) = inline.command();
                Ok(engine.machine.multicast_groups(now, groups, options, data)?)
            }
            Engine::Threaded(remote) => remote.multicast_groups(groups, options, data),
        }
    }

    /// Sends to one member. Gives the message's ticket. `WouldBlock`, `TooLong`, `NoSuchProcess`.
    pub fn send(&mut self, group: GroupHandle, member: ProcessId, entry: u8, data: &[u8]) -> Result<u64, NodeError> {
        if !self.registry.may_exist(member) {
            self.live()?;
            return Err(NodeError::NoSuchProcess);
        }
        self.command(group, Action::Send { member, entry, data })
    }

    /// Answers a message that was delivered in `group`. Gives the reply's ticket. `WouldBlock`, `TooLong`, `NoSuchProcess`.
    pub fn reply(&mut self, group: GroupHandle, to: MessageId, data: &[u8]) -> Result<u64, NodeError> {
        self.command(group, Action::Reply { to, data })
    }

    /// Hands over the next bytes of the state captured for `transfer`; `done` with the last ones. `WouldBlock`: later,
    /// nothing was taken.
    pub fn state_block(
        &mut self,
        group: GroupHandle,
        transfer: u64,
        block: &[u8],
        done: bool,
    ) -> Result<(), NodeError> {
        self.command(group, Action::StateBlock { transfer, done, data: block }).map(drop)
    }

    fn command(&mut self, group: GroupHandle, action: Action<&[u8]>) -> Result<u64, NodeError> {
        match self.live()? {
            Engine::Inline(inline) => {
                let (engine, now) = inline.command();
                Ok(Command { group, ticket: 0, action }.execute(&mut *engine.machine, now, group)?)
            }
            Engine::Threaded(remote) => remote.submit(group, action),
        }
    }

    /// Asks for `NodeEvent::Flushed`, with the number returned, once all multicasts before it are stable.
    pub fn flush(&mut self, group: GroupHandle) -> Result<u64, NodeError> {
        match self.live()? {
            Engine::Inline(inline) => {
                let (engine, now) = inline.command();
                Ok(engine.machine.flush(now, group)?)
            }
            Engine::Threaded(remote) => remote.flush(group),
        }
    }

    /// The longest claim, in bytes.
    pub fn claim_max(&self) -> usize {
        self.claim_max
    }

    /// Reserves `len` bytes to write in place. One claim at a time per group; none for clients, who give `NotMember`.
    /// `WouldBlock`, `TooLong`, `BadClaim`.
    pub fn claim(&mut self, group: GroupHandle, len: usize) -> Result<(), NodeError> {
        match self.live()? {
            Engine::Inline(inline) => Ok(inline.command().0.machine.claim(group, len)?),
            Engine::Threaded(remote) => remote.claim(group, len),
        }
    }

    /// The reserved bytes, 8-byte aligned. In threaded mode they stay at their address until `commit` or `abort` succeeds
    /// or the group is left; in inline mode as long as the core keeps the claim there.
    pub fn claimed(&mut self, group: GroupHandle) -> Result<&mut [u8], NodeError> {
        match self.live()? {
            Engine::Inline(inline) => Ok(inline.engine.machine.claimed(group)?),
            Engine::Threaded(remote) => remote.claimed(group),
        }
    }

    /// Multicasts the claimed bytes. Gives the message's ticket. After `WouldBlock` the claim is still open.
    pub fn commit(&mut self, group: GroupHandle, options: SendOptions) -> Result<u64, NodeError> {
        check_kind(options)?;
        match self.live()? {
            Engine::Inline(inline) => {
                let (engine, now) = inline.send();
                Ok(engine.machine.commit(now, group, options)?)
            }
            Engine::Threaded(remote) => remote.commit(group, options),
        }
    }

    /// Gives a claim up.
    pub fn abort(&mut self, group: GroupHandle) -> Result<(), NodeError> {
        match self.live()? {
            Engine::Inline(inline) => Ok(inline.command().0.machine.abort(group)?),
            Engine::Threaded(remote) => remote.abort(group),
        }
    }

    /// Leaves all groups and the system, after the commands given before. Complete with `NodeEvent::Closed`, about
    /// `linger_ns` later at the latest.
    pub fn close(&mut self) -> Result<(), NodeError> {
        match self.live()? {
            Engine::Inline(inline) => {
                let (engine, now) = inline.command();
                engine.machine.close(now);
                Ok(())
            }
            Engine::Threaded(remote) => remote.close(),
        }
    }

    /// A way for one further thread to multicast into `group`, of which this process is a member. Threaded mode only.
    pub fn open_sender(&mut self, group: GroupHandle) -> Result<Sender, NodeError> {
        let max_message = self.max_message;
        match self.live()? {
            Engine::Inline(_) => Err(NodeError::WrongMode),
            Engine::Threaded(remote) => {
                let (pipe, valve, producer) = remote.open_sender(group)?;
                Ok(Sender { pipe, valve, producer, group, max_message, mark: ForkMark::new() })
            }
        }
    }

    /// Ends the node as a crash would: for a caller that caught a panic, and when the core thread failed. Calls give
    /// `Poisoned` from here on, after one `NodeEvent::Poisoned`.
    pub fn poison(&mut self) {
        if self.mark.in_child() {
            return;
        }
        if self.grave.is_none() {
            let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
            self.grave = rustix::event::eventfd(1, flags).ok();
        }
        // Without a descriptor for the grave the old one stays, and the engine with it; its end comes with the drop.
        if self.grave.is_some()
            && let Some(Engine::Inline(mut inline)) = self.engine.take()
        {
            inline.engine.port.farewell();
        }
    }

    // --- getters --------------------------------------------------------------------------------------------------

    /// Who turns the loop.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// This process's identifier, once a system admitted it. This and the following getters know what `poll_event` gave.
    pub fn process(&self) -> Option<ProcessId> {
        self.registry.process
    }

    /// The system, once it admitted this process.
    pub fn system(&self) -> Option<SystemId> {
        self.registry.system
    }

    /// The last system view.
    pub fn system_view(&self) -> Option<&Arc<View>> {
        self.registry.system_view.as_ref()
    }

    /// The last view of a group.
    pub fn view(&self, group: GroupHandle) -> Option<&Arc<View>> {
        self.registry.groups.get(&group).map(|(view, _)| view)
    }

    /// This process's rank in the last view of a group.
    pub fn rank(&self, group: GroupHandle) -> Option<u16> {
        self.registry.groups.get(&group).map(|(_, rank)| *rank)
    }

    /// The named counters: the core's, the transport's, the runtime's, in a fixed order. Threaded mode: as the core thread
    /// tells them within 100 ms, else the last known ones.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        match &self.engine {
            _ if self.mark.in_child() => Vec::new(),
            Some(Engine::Inline(inline)) => inline.engine.counters(),
            Some(Engine::Threaded(remote)) => remote.counters(),
            None => Vec::new(),
        }
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.mark.in_child() {
            // The thread is not in this process, and the sockets and the site's name are the parent's.
            std::mem::forget(self.engine.take());
        } else if let Some(Engine::Inline(inline)) = &mut self.engine {
            inline.engine.port.farewell();
        }
    }
}

/// Multicasts into one group from a thread of its own (threaded mode). FIFO holds per sender object. It may outlive the
/// node: its calls then give `Ended`.
#[derive(Debug)]
pub struct Sender {
    pipe: Pipe,
    valve: Valve,
    producer: Producer,
    group: GroupHandle,
    max_message: usize,
    mark: ForkMark,
}

impl Sender {
    /// As `Node::multicast`. `WouldBlock`: try again later; no event announces when.
    pub fn multicast(&mut self, options: SendOptions, data: &[u8]) -> Result<u64, NodeError> {
        if self.mark.in_child() {
            return Err(NodeError::Forked);
        }
        self.pipe.check()?;
        check_kind(options)?;
        if self.valve.is_closed() {
            return Err(NodeError::NotMember);
        }
        let limit = if self.producer.client { check_client(options, self.max_message)? } else { self.max_message };
        if data.len() > limit {
            return Err(NodeError::TooLong);
        }
        let action = Action::Multicast { options, view: self.producer.view(), data };
        let ticket = self.producer.tickets + 1;
        self.pipe.submit(&mut self.valve, Command { group: self.group, ticket, action }, false)?;
        self.producer.tickets = ticket;
        Ok(ticket)
    }

    /// The group.
    pub fn group(&self) -> GroupHandle {
        self.group
    }
}

/// Random bytes from the system.
fn fill_random(bytes: &mut [u8]) -> Result<(), NodeError> {
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => (),
            Err(error) => return Err(NodeError::system("getrandom", error)),
        }
    }
    Ok(())
}
