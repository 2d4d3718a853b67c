//! A simulated process: one endpoint, its socket buffer, its clock, its application, and the loop around them.
//!
//! The turn is the loop of the real runtime: several packets with one time, the timeout, the application's commands,
//! events within a budget, questions to the site's record, and bursts until there is nothing to send. It may end after any
//! single one of these, with the process ([`Fuse`]).
//! Owner: the world. Invariant: an endpoint is only ever called from its turn, with a clock that does not go back.

use super::application::{Application, Context, Fate, Records};
use super::behaviour::Behaviour;
use super::clock::Clock;
use super::network::{Network, Packet, address};
use super::timeline::Timeline;
use super::world::Happening;
use crate::trace::Process;
use isis_memory::Arena;
use isis_protocol::event::SiteRequest;
use isis_protocol::id::{Nonce, SystemId};
use isis_protocol::time::{MICROSECOND, MILLISECOND};
use isis_protocol::{Destination, Endpoint, Instant};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Packets that one turn takes from the socket buffer.
const PACKETS_PER_TURN: usize = 64;
/// Events that one turn takes from the engine.
const EVENTS_PER_TURN: usize = 128;
/// Bursts that one turn sends at most: an engine that never stops sending is a bug, not an endless loop.
const BURSTS_PER_TURN: usize = 4_096;

/// Counts what a process does to the world: packets that it sends (one per destination), events that it takes, questions
/// to its site. It may be made to die right after any of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fuse {
    /// Actions so far.
    pub actions: u64,
    /// It dies right after this one.
    pub last: u64,
}

impl Fuse {
    /// An action is done; false: it was the last one.
    fn burns(&mut self) -> bool {
        self.actions += 1;
        self.actions < self.last
    }
}

/// See the module.
#[derive(Debug)]
pub struct Node {
    /// Who.
    pub process: Process,
    /// Where.
    pub slot: u32,
    /// Index of its site.
    pub site: usize,
    /// The boot of its host that it belongs to.
    pub boot: u32,
    /// Its nonce.
    pub nonce: Nonce,
    /// The engine; `None` once the process is dead.
    pub endpoint: Option<Endpoint>,
    /// The application.
    pub app: Application,
    /// What drives the application; `None` for a scripted one.
    pub behaviour: Option<Behaviour>,
    /// Packets in the socket buffer.
    pub inbox: VecDeque<Packet>,
    /// Gets no turns.
    pub hung: bool,
    /// Its site-mates may kill it when it hangs.
    pub allow_kill: bool,
    /// Takes its events slowly: one each so many nanoseconds; 0: at once.
    pub lag_ns: u64,
    /// When its next turn is; `u64::MAX`: not scheduled.
    pub next_turn: u64,
    /// The times of events for a turn of it that are in the timeline, the earliest last.
    pub queued_turns: Vec<u64>,
    /// The system that it belongs to, as the site's record knows.
    pub system: Option<SystemId>,
    /// Whose death it was told (or will be).
    pub told: Vec<Process>,
    /// This process's own time.
    pub clock: Clock,
    /// Turns so far.
    pub turns: u64,
    /// What it did, and when it dies of it.
    pub fuse: Fuse,
    /// Whose deaths the engine wants to hear of.
    pub watched: Vec<Nonce>,
    /// The chunks that its site-mates read where they lie.
    pub arena: Option<Arc<Arena>>,
    consume_at: u64,
}

/// What a turn leaves for the world to do.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The endpoint is at its end.
    pub ends: bool,
    /// A system view was handed over.
    pub system_view: bool,
    /// Questions to the site's record.
    pub requests: Vec<SiteRequest>,
    /// The engine sent without end.
    pub flood: bool,
    /// It dies here: its fuse is burnt.
    pub dies: bool,
}

impl Node {
    /// A process that has not had a turn yet.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        process: Process,
        slot: u32,
        (site, boot): (usize, u32),
        nonce: Nonce,
        endpoint: Endpoint,
        app: Application,
        behaviour: Option<Behaviour>,
        clock: Clock,
    ) -> Node {
        Node {
            process,
            slot,
            site,
            boot,
            nonce,
            endpoint: Some(endpoint),
            app,
            behaviour,
            inbox: VecDeque::new(),
            hung: false,
            allow_kill: false,
            lag_ns: 0,
            next_turn: u64::MAX,
            queued_turns: Vec::new(),
            system: None,
            told: Vec::new(),
            clock,
            turns: 0,
            fuse: Fuse { actions: 0, last: u64::MAX },
            watched: Vec::new(),
            arena: None,
            consume_at: 0,
        }
    }

    /// Not dead.
    pub fn alive(&self) -> bool {
        self.endpoint.is_some()
    }

    /// Runs one turn. The next one is in `next_turn`, to be scheduled by the world.
    pub fn turn(
        &mut self,
        time: u64,
        records: &mut Records,
        network: &mut Network,
        timeline: &mut Timeline<Happening>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        self.turns += 1;
        let now = self.clock.at(time);
        let Some(endpoint) = self.endpoint.as_mut() else { return outcome };
        for _ in 0..PACKETS_PER_TURN {
            let Some(packet) = self.inbox.pop_front() else { break };
            endpoint.handle_packet(now, address(packet.from), &packet.bytes);
        }
        if endpoint.poll_timeout().is_some_and(|at| at <= now) {
            endpoint.handle_timeout(now);
        }
        let mut ctx = Context { time, now, endpoint, records };
        Self::act(&mut self.behaviour, &mut self.app, &mut ctx);
        let mut more_events = false;
        if time >= self.consume_at {
            let budget = if self.lag_ns > 0 { 1 } else { EVENTS_PER_TURN };
            more_events = true;
            for _ in 0..budget {
                let Some(event) = ctx.endpoint.poll_event(now) else {
                    more_events = false;
                    break;
                };
                let fate = self.app.handle(&mut ctx, event);
                if !self.fuse.burns() {
                    outcome.dies = true;
                    return outcome;
                }
                match fate {
                    Fate::Lives => {}
                    Fate::SystemView => outcome.system_view = true,
                    Fate::Ends => {
                        outcome.ends = true;
                        more_events = false;
                        break;
                    }
                }
            }
            self.consume_at = time + self.lag_ns;
        }
        Self::act(&mut self.behaviour, &mut self.app, &mut ctx);
        while let Some(request) = endpoint.poll_site_request() {
            outcome.requests.push(request);
            if !self.fuse.burns() {
                outcome.dies = true;
                return outcome;
            }
        }
        outcome.flood = !Self::transmit(endpoint, now, self.slot, &mut self.fuse, network, timeline);
        outcome.dies = self.fuse.actions >= self.fuse.last;
        // What is sent may be deliverable here by that, and nothing else has to happen then.
        more_events |= endpoint.has_queued_event();
        self.schedule(time, more_events);
        outcome
    }

    fn act(behaviour: &mut Option<Behaviour>, app: &mut Application, ctx: &mut Context<'_>) {
        match behaviour {
            Some(behaviour) => {
                if behaviour.next_ns <= ctx.time || app.stirred {
                    behaviour.act(app, ctx);
                }
            }
            None => {
                for member in 0..app.members.len() {
                    if app.members[member].hands_over() {
                        app.hand_over(ctx, member, 4096);
                    }
                }
            }
        }
    }

    /// Sends all that the engine has; false if there was no end of it.
    pub fn transmit(
        endpoint: &mut Endpoint,
        now: Instant,
        slot: u32,
        fuse: &mut Fuse,
        network: &mut Network,
        timeline: &mut Timeline<Happening>,
    ) -> bool {
        for _ in 0..BURSTS_PER_TURN {
            let burst = endpoint.poll_transmit(now);
            if burst.len() == 0 {
                return true;
            }
            for transmit in burst {
                let bytes: Rc<[u8]> = if transmit.payload.is_empty() {
                    Rc::from(transmit.header)
                } else {
                    Rc::from([transmit.header, transmit.payload].concat())
                };
                let one;
                let destinations = match transmit.destination {
                    Destination::Unicast(to) => {
                        one = [to];
                        &one[..]
                    }
                    Destination::Members { peers, .. } => peers,
                };
                for to in destinations {
                    network.send(timeline, slot, *to, &bytes);
                    if !fuse.burns() {
                        return true;
                    }
                }
            }
        }
        false
    }

    fn schedule(&mut self, time: u64, more_events: bool) {
        let Some(endpoint) = &self.endpoint else { return };
        let mut next = u64::MAX;
        if let Some(at) = endpoint.poll_timeout() {
            next = self.clock.when(at);
        }
        if let Some(behaviour) = &self.behaviour {
            next = next.min(behaviour.next_ns);
        } else if self.app.members.iter().any(|m| m.hands_over()) {
            next = next.min(time + MILLISECOND);
        }
        if !self.inbox.is_empty() {
            next = next.min(time + 5 * MICROSECOND);
        }
        if more_events {
            next = next.min(self.consume_at.max(time + 5 * MICROSECOND));
        } else if self.lag_ns > 0 || (next == u64::MAX && self.consume_at > time) {
            // A lag that is over has left events, perhaps, and an engine at its end has no other reason to wake.
            next = next.min(self.consume_at);
        }
        self.next_turn = next.max(time + MICROSECOND);
    }
}
