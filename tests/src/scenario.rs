//! Scenarios: named schedules, scripted step by step, over the same world as the seeded runs.
//!
//! A scenario fixes sites and processes, lets time pass, does one thing at a time, and controls every packet where it
//! matters. At its end the whole checker looks at its trace. It is a function of its script alone.
//!
//! ```no_run
//! use isis_tests::scenario::Scenario;
//! use isis_protocol::event::Kind;
//!
//! // Three processes on one site form a group; one is killed; the others go on.
//! let mut s = Scenario::new(&[3]);
//! let [a, b, c] = s.start_all();
//! s.form_group(&[a, b, c]);
//! s.multicast(c, Kind::Total, false, 100);
//! s.crash(c);
//! s.until("a view of two", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
//! s.finish();
//! ```
//!
//! Every `until` panics with the trace when what it waits for does not come within a bound of virtual time; `finish` and
//! `finish_safe` panic with the broken guarantees.

use crate::checker::{self, Limits};
use crate::sim::application::{Application, Context};
use crate::sim::network::{Packet, Verdict};
use crate::sim::world::{Happening, Passed, World};
use crate::trace::{Event, Key, Process, ViewSeen};
use isis_memory::CHUNK_SIZE;
use isis_protocol::event::{Kind, Refused};
use isis_protocol::id::GroupId;
use isis_protocol::time::{MICROSECOND, MILLISECOND, SECOND};
use isis_protocol::{Config, JoinOptions, TotalOrder};
use isis_wire::frame::{FLAG_MULTI_FINAL, FRAME_HEADER, Frame, FrameKind};
use isis_wire::message::{Code, Message};
use isis_wire::multi::Finals;
use isis_wire::packet::{self, DataHeader, PacketKind};
use isis_wire::{Reader, Writer};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long `until` waits.
const PATIENCE_NS: u64 = 30 * SECOND;

/// See the module.
#[derive(Debug)]
pub struct Scenario {
    /// The world, for what this harness has no word for.
    pub world: World,
    /// How `join` and `form_group` want the group's ABCASTs ordered.
    pub total_order: TotalOrder,
    /// The causality domains of the groups.
    domains: BTreeSet<u32>,
}

impl Scenario {
    /// Sites with so many places for processes each; no process runs yet. Without faults until the script makes some.
    pub fn new(places: &[usize]) -> Scenario {
        Scenario::configured(places, |_| {})
    }

    /// As `new`, with another configuration of all endpoints.
    pub fn configured(places: &[usize], configure: impl FnOnce(&mut Config)) -> Scenario {
        let mut world = World::new(0x1515, places.len());
        world.notice_ns = MILLISECOND;
        configure(&mut world.template);
        for (site, count) in places.iter().enumerate() {
            for _ in 0..*count {
                world.add_slot(site);
            }
        }
        Scenario { world, total_order: TotalOrder::Sequencer, domains: BTreeSet::new() }
    }

    // --- processes -------------------------------------------------------------------------------------------------

    /// Starts a process in a place (places are numbered over all sites). It knows the places of all other sites.
    pub fn start(&mut self, place: u32) -> usize {
        let site = self.world.slots[place as usize].0;
        let others: Vec<u32> =
            (0..self.world.slots.len() as u32).filter(|s| self.world.slots[*s as usize].0 != site).collect();
        self.world.start(place, &others, None)
    }

    /// Starts a process in each of the first `N` places, one after another, so that they are admitted in this order.
    pub fn start_all<const N: usize>(&mut self) -> [usize; N] {
        std::array::from_fn(|place| self.admit(place as u32))
    }

    /// Starts a process in a place, and waits until it is in a system.
    pub fn admit(&mut self, place: u32) -> usize {
        let node = self.start(place);
        self.until("the process is admitted", |s| s.app(node).system_view.is_some());
        node
    }

    /// Kills a process (its site-mates are told within a millisecond each).
    pub fn crash(&mut self, node: usize) {
        self.world.crash(node);
    }

    /// Kills a site (nobody is told).
    pub fn crash_site(&mut self, site: usize) {
        self.world.crash_site(site);
    }

    /// Gives a process no more turns, until `resume`.
    pub fn hang(&mut self, node: usize) {
        self.world.hang(node);
    }

    /// See `hang`.
    pub fn resume(&mut self, node: usize) {
        self.world.resume(node);
    }

    // --- network ---------------------------------------------------------------------------------------------------

    /// Hosts that are up refuse datagrams to places where nobody runs.
    pub fn refuse(&mut self) {
        self.world.refused_percent = 100;
    }

    /// A process is told that a datagram of its to another one was refused, with so much of it.
    pub fn hint(&mut self, to: usize, of: usize, quoted: &[u8]) {
        let (to, of) = (self.place(to), self.place(of));
        self.world.timeline.at(self.world.now(), Happening::Refused { to, of, quoted: quoted.into() });
    }

    /// Cuts sites from all others, both ways.
    pub fn part(&mut self, sites: &[usize]) {
        for here in 0..self.world.sites.len() {
            for there in 0..self.world.sites.len() {
                if sites.contains(&here) != sites.contains(&there) {
                    self.world.network.block(here, there);
                }
            }
        }
        self.world.note(format!("sites {sites:?} are parted from the others"));
    }

    /// Cuts the way from one site to another, not back.
    pub fn part_one_way(&mut self, from: usize, to: usize) {
        self.world.network.block(from, to);
        self.world.note(format!("site {from} cannot reach site {to}"));
    }

    /// Mends all ways, and delivers what was held.
    pub fn mend(&mut self) {
        self.world.network.unblock_all();
        self.world.network.interceptor = None;
        self.world.network.release(&mut self.world.timeline);
        self.world.note("the network is whole".into());
    }

    /// From now on `judge` decides on every packet: pass, drop or hold. Replaces the judge before it. Places, not
    /// processes, are in the packet: `place(node)`.
    pub fn intercept(&mut self, judge: impl FnMut(&Packet) -> Verdict + 'static) {
        self.world.network.interceptor = Some(Box::new(judge));
    }

    /// Drops every packet from one process to another that `which` says, until `mend` or the next judge.
    pub fn drop_packets(&mut self, from: usize, to: usize, mut which: impl FnMut(&[u8]) -> bool + 'static) {
        let (from, to) = (self.place(from), self.place(to));
        self.intercept(move |packet| {
            let hit = packet.from == from && packet.to == to && which(&packet.bytes);
            if hit { Verdict::Drop } else { Verdict::Pass }
        });
    }

    /// Of the packets of one process that `which` says the first one to each other process gets through, and no other, until `mend`
    /// or the next judge.
    pub fn pass_first_packets(&mut self, from: usize, mut which: impl FnMut(&Packet) -> bool + 'static) {
        let (from, mut passed) = (self.place(from), BTreeSet::new());
        self.intercept(move |packet| {
            let is_later = packet.from == from && which(packet) && !passed.insert(packet.to);
            if is_later { Verdict::Drop } else { Verdict::Pass }
        });
    }

    /// Delivers what was held, in its order.
    pub fn release(&mut self) {
        self.world.network.release(&mut self.world.timeline);
    }

    /// The place of a process.
    pub fn place(&self, node: usize) -> u32 {
        self.world.nodes[node].slot
    }

    // --- applications ----------------------------------------------------------------------------------------------

    /// The application of a process.
    pub fn app(&self, node: usize) -> &Application {
        &self.world.nodes[node].app
    }

    /// Calls something of an application.
    pub fn call<R>(&mut self, node: usize, act: impl FnOnce(&mut Application, &mut Context<'_>) -> R) -> R {
        match self.world.with_app(node, |app, _, ctx| act(app, ctx)) {
            Some(result) => result,
            None => self.fail(&format!("P{node} is dead")),
        }
    }

    /// Joins group 0 (with state).
    pub fn join(&mut self, node: usize) {
        let options = JoinOptions { wants_state: true, total_order: self.total_order, ..JoinOptions::default() };
        self.join_as(node, 0, &options);
    }

    /// Becomes a client of group 0, which exists.
    pub fn become_client(&mut self, node: usize) {
        let before = self.app(node).members.len();
        self.join_as(node, 0, &JoinOptions { client: true, ..JoinOptions::default() });
        self.until("the client is registered", |s| s.app(node).members[before].registered.is_some());
    }

    /// All packets that carry bytes of a group's streams are lost, and all on channels to `client`.
    pub fn mute_group_and_relays(&mut self, client: usize) {
        let to = self.place(client);
        self.intercept(
            move |packet| if in_stream(packet) || on_channel_to(to, packet) { Verdict::Drop } else { Verdict::Pass },
        );
    }

    /// All packets on channels to `client` are lost.
    pub fn mute_relays(&mut self, client: usize) {
        let to = self.place(client);
        self.intercept(move |packet| if on_channel_to(to, packet) { Verdict::Drop } else { Verdict::Pass });
    }

    /// Joins a group. A process's first join is its member 0, and so on.
    pub fn join_as(&mut self, node: usize, name: u8, options: &JoinOptions) {
        self.domains.insert(options.domain);
        if let Err(refused) = self.call(node, |app, ctx| app.join(ctx, name, options)) {
            self.fail(&format!("P{node} may not join: {refused:?}"));
        }
    }

    /// Lets the processes join group 0 one after another, and waits until all have the view of all.
    pub fn form_group(&mut self, nodes: &[usize]) {
        for (count, &node) in nodes.iter().enumerate() {
            self.join(node);
            let present = &nodes[..=count];
            self.until("the group is formed", |s| present.iter().all(|&n| s.view_is(n, present)));
        }
    }

    /// Lets the processes join a group one after another, each as its last join, and waits until all have the view of all.
    pub fn form(&mut self, name: u8, domain: u32, nodes: &[usize]) {
        let options =
            JoinOptions { wants_state: true, domain, total_order: self.total_order, ..JoinOptions::default() };
        for (count, &node) in nodes.iter().enumerate() {
            self.join_as(node, name, &options);
            let present = &nodes[..=count];
            self.until("the group is formed", |s| present.iter().all(|&n| s.view_is(n, present)));
        }
    }

    /// Multicasts by ABCAST to the groups of these joins of the process. Gives the message's key in each.
    pub fn multicast_groups(&mut self, node: usize, joins: &[usize], safe: bool) -> Vec<Key> {
        match self.call(node, |app, ctx| app.multicast_groups(ctx, joins, safe, 100)) {
            Ok(keys) => keys,
            Err(refused) => self.fail(&format!("P{node} may not multicast to several groups: {refused:?}")),
        }
    }

    /// Multicasts in the process's last join.
    pub fn multicast(&mut self, node: usize, kind: Kind, safe: bool, len: usize) -> Key {
        match self.try_multicast(node, kind, safe, len) {
            Ok(key) => key,
            Err(refused) => self.fail(&format!("P{node} may not multicast: {refused:?}")),
        }
    }

    /// As `multicast`, and a refusal is for the script to judge.
    pub fn try_multicast(&mut self, node: usize, kind: Kind, safe: bool, len: usize) -> Result<Key, Refused> {
        self.call(node, |app, ctx| app.multicast(ctx, app.members.len() - 1, (kind, safe), len, false))
    }

    /// Multicasts as soon as the window takes it.
    pub fn multicast_when_possible(&mut self, node: usize, kind: Kind, safe: bool, len: usize) -> Key {
        let limit = self.world.now() + PATIENCE_NS;
        loop {
            match self.try_multicast(node, kind, safe, len) {
                Ok(key) => return key,
                Err(Refused::WouldBlock) if self.world.now() < limit => self.pass(100 * MICROSECOND),
                Err(refused) => self.fail(&format!("P{node} may not multicast: {refused:?}")),
            }
        }
    }

    /// Leaves the last join.
    pub fn leave(&mut self, node: usize) -> Result<(), Refused> {
        self.call(node, |app, ctx| app.leave(ctx, app.members.len() - 1))
    }

    /// Flushes the last join; [`Scenario::flushed`] tells when it has returned.
    pub fn flush(&mut self, node: usize) -> Result<u64, Refused> {
        self.call(node, |app, ctx| app.flush(ctx, app.members.len() - 1))
    }

    /// All flushes of the process have returned.
    pub fn flushed(&self, node: usize) -> bool {
        self.app(node).members.iter().all(|m| m.flushes.is_empty())
    }

    // --- what is seen ----------------------------------------------------------------------------------------------

    /// The last view of the process's last join.
    pub fn view(&self, node: usize) -> Option<Arc<ViewSeen>> {
        self.app(node).members.last().and_then(|m| m.view.clone())
    }

    /// The process's view of its last group is of exactly these, in this order.
    pub fn view_is(&self, node: usize, members: &[usize]) -> bool {
        self.view(node).is_some_and(|v| v.processes().map(|p| p.0 as usize).eq(members.iter().copied()))
    }

    /// The process's system view is of exactly these, in this order.
    pub fn system_is(&self, node: usize, members: &[usize]) -> bool {
        let view = self.app(node).system_view.as_ref();
        view.is_some_and(|v| v.processes().map(|p| p.0 as usize).eq(members.iter().copied()))
    }

    /// The messages that the process has delivered, in order.
    pub fn delivered(&self, node: usize) -> Vec<Key> {
        let process = Process(node as u32);
        let records = self.world.records.trace.records.iter().filter(|r| r.process == process);
        records
            .filter_map(|r| match &r.event {
                Event::Deliver(delivered) => delivered.key,
                _ => None,
            })
            .collect()
    }

    /// The process has delivered the message.
    pub fn has(&self, node: usize, key: Key) -> bool {
        self.delivered(node).contains(&key)
    }

    /// One of a living process's counters.
    pub fn counter(&self, node: usize, name: &str) -> u64 {
        let counters = self.world.nodes[node].endpoint.as_ref().expect("alive").counters();
        counters.into_iter().find(|(counter, _)| *counter == name).expect("a counter").1
    }

    /// The trace so far.
    pub fn text(&self) -> String {
        self.world.records.trace.text()
    }

    // --- time ------------------------------------------------------------------------------------------------------

    /// Lets so much time pass.
    pub fn pass(&mut self, nanoseconds: u64) {
        let limit = self.world.now() + nanoseconds;
        while self.world.pass(limit) != Passed::Limit {}
    }

    /// Lets time pass until `holds`; panics when it does not within a bound.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Scenario) -> bool) {
        let limit = self.world.now() + PATIENCE_NS;
        let mut looked = u64::MAX;
        loop {
            // Looking after every event would be quadratic: once for each point in time is enough.
            if self.world.now() != looked {
                looked = self.world.now();
                if holds(self) {
                    return;
                }
            }
            if self.world.pass(limit) == Passed::Limit {
                self.fail(&format!("waited in vain: {what}"));
            }
        }
    }

    /// The end: faults are over, everything gets two seconds, and every guarantee is checked, liveness included.
    pub fn finish(mut self) {
        self.mend();
        self.world.records.trace.push(self.world.now(), Process::WORLD, Event::Healed);
        self.pass(2 * SECOND);
        self.world.records.trace.push(self.world.now(), Process::WORLD, Event::End);
        self.finish_safe();
    }

    /// The end of a script that leaves the world broken: safety is checked, liveness is not demanded.
    pub fn finish_safe(mut self) {
        self.world.seal();
        let limits = Limits { across_groups: self.domains.len() == 1, ..Limits::of(&self.world.template) };
        let trace = &self.world.records.trace;
        let violations = checker::check(trace, limits);
        if !violations.is_empty() {
            self.fail(&checker::report(trace, &violations, 8));
        }
        let delivered = trace.records.iter().any(|r| matches!(r.event, Event::Deliver(_) | Event::View { .. }));
        assert!(delivered, "the scenario delivered nothing: it shows nothing");
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{what}\n{}", self.text());
    }
}

/// The protocol message in a packet, and whether it is about the system group.
pub fn message(packet: &Packet) -> Option<(bool, Message)> {
    let packet = packet::Packet::parse(&packet.bytes).ok()?;
    if packet.header.kind != PacketKind::Message {
        return None;
    }
    Some((packet.header.group == GroupId::SYSTEM, Message::decode(packet.body).ok()?))
}

/// A packet with one protocol message, as a process writes it.
pub fn message_packet(header: &packet::Header, message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet::begin(&mut bytes, header);
    let mut body = Writer::new();
    message.encode(&mut body);
    bytes.extend_from_slice(&body.bytes);
    packet::seal(&mut bytes, &[]);
    bytes
}

/// Bytes of a group's stream, or where they lie; not of the system's.
pub fn in_stream(packet: &Packet) -> bool {
    packet::Packet::parse(&packet.bytes).is_ok_and(|p| {
        matches!(p.header.kind, PacketKind::Data | PacketKind::Placed) && p.header.group != GroupId::SYSTEM
    })
}

/// Something on a channel to that place.
pub fn on_channel_to(place: u32, packet: &Packet) -> bool {
    packet.to == place && on_channel(packet)
}

/// Something on a channel.
pub fn on_channel(packet: &Packet) -> bool {
    packet::Packet::parse(&packet.bytes)
        .is_ok_and(|p| matches!(p.header.kind, PacketKind::Channel | PacketKind::ChannelAck))
}

/// The ABCASTs to several groups whose final priorities are in a packet with bytes of a stream, by their senders' numbers.
pub fn finals_in(packet: &Packet) -> Vec<u64> {
    let mut numbers = Vec::new();
    let Ok(packet) = packet::Packet::parse(&packet.bytes) else { return numbers };
    if packet.header.kind != PacketKind::Data {
        return numbers;
    }
    let Ok((header, _, mut bytes)) = DataHeader::parse(packet.body) else { return numbers };
    let mut at = header.position as usize % CHUNK_SIZE;
    while let Ok(frame) = Frame::parse(bytes, CHUNK_SIZE - at % CHUNK_SIZE) {
        let payload = bytes.get(FRAME_HEADER..FRAME_HEADER + frame.len as usize).unwrap_or(&[]);
        if frame.kind == FrameKind::Total && frame.flags & FLAG_MULTI_FINAL != 0 {
            let finals = Finals::read(&mut Reader::new(payload)).map_or(Vec::new(), |it| it.finals);
            numbers.extend(finals.iter().map(|(id, _)| id.number));
        }
        at += frame.size();
        bytes = bytes.get(frame.size()..).unwrap_or(&[]);
    }
    numbers
}
