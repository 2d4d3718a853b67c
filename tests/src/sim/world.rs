//! Everything that a run consists of: processes, sites, network, virtual time, trace. The one place where time passes.
//!
//! A random run ([`super::run`]) and a scripted scenario ([`crate::scenario`]) both drive a `World`.
//! Owner: the run or the scenario. Invariants: one heap of events; no choice but from seeded generators; nothing is looked
//! up by iterating a hash map.

use super::application::{Application, Context, Records};
use super::behaviour::Behaviour;
use super::clock::Clock;
use super::network::{Network, Packet, address};
use super::node::Node;
use super::timeline::Timeline;
use crate::trace::{Event, Process};
use isis_memory::{Arena, Region};
use isis_protocol::event::{SiteAnswer, SiteRequest};
use isis_protocol::founding::{RecordOperation, acceptor};
use isis_protocol::id::{Nonce, SiteKey, SystemId};
use isis_protocol::random::Random;
use isis_protocol::time::{MICROSECOND, MILLISECOND};
use isis_protocol::{Config, Endpoint};
use isis_wire::founding::SiteRecord;
use std::rc::Rc;
use std::sync::Arc;

/// An event of the world.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A packet arrives (its index in the network).
    Arrive(u32),
    /// A process has its turn.
    Turn(u32),
    /// A process is told of a death.
    Death {
        /// Who is told.
        to: u32,
        /// Who died.
        of: u32,
    },
    /// A datagram to a slot was refused: whoever runs where it came from is told.
    Refused {
        /// Where the datagram came from.
        to: u32,
        /// Where it went to.
        of: u32,
        /// As much of it as comes back.
        quoted: Rc<[u8]>,
    },
    /// A process finds another of its site.
    Peer {
        /// Who is told.
        to: u32,
        /// Where the other one is.
        slot: u32,
    },
    /// The site's record answers.
    Answer {
        /// Who is told.
        to: u32,
        /// The answer.
        answer: Box<SiteAnswer>,
    },
    /// The next step of the run's plan or of the script.
    Step(u32),
}

/// A host.
#[derive(Clone, Debug)]
pub struct Site {
    /// What its processes compute as its key: another one after each boot.
    pub key: SiteKey,
    /// Which system its record names.
    pub record: Option<SystemId>,
    /// Distinguishes boots in traces.
    pub boot: u32,
    /// What it has written down for good (R12): boots do not change it.
    pub disk: SiteRecord,
}

/// How often the world did harm.
#[derive(Clone, Copy, Debug, Default)]
pub struct Harm {
    /// Processes killed.
    pub crashes: u64,
    /// Sites killed.
    pub site_crashes: u64,
    /// Processes hung.
    pub hangs: u64,
    /// Slow consumers.
    pub lags: u64,
    /// Partitions, both ways.
    pub partitions: u64,
    /// Partitions, one way.
    pub one_way: u64,
    /// Pairs of sites cut from each other only.
    pub cuts: u64,
    /// Ways that held everything for a while.
    pub clogs: u64,
    /// Times that everybody died.
    pub totals: u64,
    /// Sites that failed for ever.
    pub lost_sites: u64,
    /// Pairs of sites that are cut for ever.
    pub lasting_cuts: u64,
    /// Processes started again.
    pub restarts: u64,
    /// Processes that were evicted or closed.
    pub ends: u64,
    /// Kills of hung processes that had not consented.
    pub kills_refused: u64,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    /// Virtual time and the future.
    pub timeline: Timeline<Happening>,
    /// The network.
    pub network: Network,
    /// Trace and ledger.
    pub records: Records,
    /// All processes that ever started; the index is the number of the process.
    pub nodes: Vec<Node>,
    /// The sites.
    pub sites: Vec<Site>,
    /// By slot: its site, and who is there now.
    pub slots: Vec<(usize, Option<u32>)>,
    /// What each endpoint is configured like, but for its identity.
    pub template: Config,
    /// Chunks of each process's region.
    pub chunks: u32,
    /// Chunks of its memory that its site-mates read where they lie; 0: they get copies.
    pub arena_chunks: u32,
    /// Packets in a socket buffer.
    pub inbox_limit: usize,
    /// Bytes of a state transfer.
    pub state_len: usize,
    /// What was done.
    pub harm: Harm,
    /// Processes that came to their end by eviction or close, for the run to take note of.
    pub ended: Vec<usize>,
    /// Turns so far.
    pub turns: u64,
    /// Someone's engine sent without end.
    pub flooded: Option<Process>,
    /// Two sites that are cut from each other for ever, one way or both.
    pub cut: Option<(usize, usize)>,
    /// The latest delay of a death notice.
    pub notice_ns: u64,
    /// How long a process sleeps on after a packet came.
    pub wake_ns: u64,
    /// The clock of a process is up to so many millionths too fast or too slow.
    pub drift_ppm: u64,
    /// Of 100 datagrams to a slot where nobody runs, on a site that is up, so many are refused; the others just vanish.
    pub refused_percent: u64,
    /// Of 1,000 datagrams to a process, so many are said to be refused: by somebody who forges that, or by a filter.
    pub false_refusals_permille: u64,
    /// How long the answers of the sites' records take; `None`: at random.
    pub record_delay: fn(&RecordOperation) -> Option<u64>,
    random: Random,
    /// Of refusals alone.
    refusals: Random,
    /// By slot: its site died as a whole, with the kernel that would refuse anything.
    down: Vec<bool>,
}

/// How a step of time ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    /// Something happened within the world.
    Event,
    /// This step of the plan is due.
    Step(u32),
    /// Nothing more until the limit.
    Limit,
}

impl World {
    /// A world with this many sites, no process, no faults.
    pub fn new(seed: u64, sites: usize) -> World {
        let mut random = Random::new(seed);
        let template = Config::new(0, Nonce(0), SiteKey(0), address(0));
        let network = Network::new(random.next());
        let mut world = World {
            timeline: Timeline::default(),
            network,
            records: Records::default(),
            nodes: Vec::new(),
            sites: Vec::new(),
            slots: Vec::new(),
            template,
            chunks: 4096,
            arena_chunks: 0,
            inbox_limit: 512,
            state_len: 5_000,
            harm: Harm::default(),
            ended: Vec::new(),
            turns: 0,
            flooded: None,
            cut: None,
            notice_ns: 20 * MILLISECOND,
            wake_ns: 2 * MICROSECOND,
            drift_ppm: 0,
            refused_percent: 0,
            false_refusals_permille: 0,
            record_delay: |_| None,
            random,
            refusals: Random::new(!seed),
            down: Vec::new(),
        };
        for boot in 0..sites as u32 {
            let key = SiteKey(u128::from(world.random.next()) << 64 | u128::from(boot));
            world.sites.push(Site { key, record: None, boot, disk: SiteRecord::default() });
        }
        world
    }

    /// A place for a process on a site.
    pub fn add_slot(&mut self, site: usize) -> u32 {
        self.slots.push((site, None));
        self.down.push(false);
        self.network.add_slot(site)
    }

    /// Virtual time.
    pub fn now(&self) -> u64 {
        self.timeline.now()
    }

    /// Starts a process. `seeds`: the slots of other sites where it looks for a system.
    pub fn start(&mut self, slot: u32, seeds: &[u32], behaviour: Option<Behaviour>) -> usize {
        let time = self.now();
        let number = self.nodes.len() as u32;
        let site = self.slots[slot as usize].0;
        debug_assert!(self.slots[slot as usize].1.is_none(), "the slot is taken");
        let nonce = Nonce(u128::from(number) << 64 | u128::from(self.random.next()));
        let mut config = self.template.clone();
        (config.seed, config.nonce) = (self.random.next(), nonce);
        (config.site, config.address) = (self.sites[site].key, address(slot));
        config.seeds = seeds.iter().map(|s| address(*s)).collect();
        let mut clock = Clock::ahead(self.random.below(3_600_000 * MILLISECOND));
        if self.drift_ppm > 0 {
            clock = clock.drifting(self.random.below(2 * self.drift_ppm + 1) as i64 - self.drift_ppm as i64);
        }
        let arena = (self.arena_chunks > 0).then(|| Arc::new(Arena::heap(self.arena_chunks)));
        let mut region = Region::heap(self.chunks);
        if let Some(arena) = &arena {
            region = region.with_arena(Arc::clone(arena));
        }
        let endpoint = Endpoint::new(config, region, clock.at(time));
        let process = Process(number);
        let boot = self.sites[site].boot;
        self.records.trace.push(time, process, Event::Start { site: boot, slot });
        let app = Application::new(process, self.state_len);
        for mate in 0..self.nodes.len() {
            if !self.nodes[mate].alive() || self.nodes[mate].site != site {
                continue;
            }
            let mate_slot = self.nodes[mate].slot;
            let (a, b) = (self.random.below(2 * MILLISECOND), self.random.below(2 * MILLISECOND));
            self.timeline.at(time + a, Happening::Peer { to: number, slot: mate_slot });
            self.timeline.at(time + b, Happening::Peer { to: mate as u32, slot });
        }
        self.slots[slot as usize].1 = Some(number);
        for (slot, down) in self.slots.iter().zip(&mut self.down) {
            *down &= slot.0 != site;
        }
        self.nodes.push(Node::new(process, slot, (site, boot), nonce, endpoint, app, behaviour, clock));
        self.nodes[number as usize].arena = arena;
        self.wake(number as usize, time + MICROSECOND);
        number as usize
    }

    /// Makes sure that a process has a turn at `time` at the latest.
    pub fn wake(&mut self, node: usize, time: u64) {
        let it = &mut self.nodes[node];
        if it.alive() && !it.hung && time < it.next_turn {
            it.next_turn = time;
            // An event that comes earlier puts the next one in.
            if it.queued_turns.last().is_none_or(|queued| time < *queued) {
                it.queued_turns.push(time);
                self.timeline.at(time, Happening::Turn(node as u32));
            }
        }
    }

    // --- harm ------------------------------------------------------------------------------------------------------

    /// Kills a process; the others of its site are told, each in its own time.
    pub fn crash(&mut self, node: usize) {
        self.harm.crashes += 1;
        self.records.trace.push(self.timeline.now(), self.nodes[node].process, Event::Crash);
        self.bury(node, true);
    }

    /// Kills a whole site: nobody is told, and what starts there later is another boot.
    pub fn crash_site(&mut self, site: usize) {
        self.harm.site_crashes += 1;
        for node in 0..self.nodes.len() {
            if self.nodes[node].site == site && self.nodes[node].alive() {
                self.records.trace.push(self.timeline.now(), self.nodes[node].process, Event::Crash);
                self.bury(node, false);
            }
        }
        for (slot, down) in self.slots.iter().zip(&mut self.down) {
            *down |= slot.0 == site;
        }
        let boot = self.sites[site].boot + 100;
        let key = SiteKey(u128::from(self.random.next()) << 64 | u128::from(boot));
        let it = &mut self.sites[site];
        (it.record, it.boot) = (None, boot);
        if self.template.expected_sites == 0 {
            // Else its key comes from its configured name.
            it.key = key;
        }
    }

    /// A process gets no turns until `resume`.
    pub fn hang(&mut self, node: usize) {
        if self.nodes[node].alive() && !self.nodes[node].hung {
            self.harm.hangs += 1;
            self.nodes[node].hung = true;
            self.nodes[node].next_turn = u64::MAX;
            self.records.trace.push(self.timeline.now(), self.nodes[node].process, Event::Hang);
        }
    }

    /// A hung process goes on.
    pub fn resume(&mut self, node: usize) {
        if self.nodes[node].alive() && self.nodes[node].hung {
            self.nodes[node].hung = false;
            self.records.trace.push(self.timeline.now(), self.nodes[node].process, Event::Wake);
            self.wake(node, self.timeline.now() + MICROSECOND);
        }
    }

    /// A process takes one event each `lag_ns`; 0: at once again.
    pub fn lag(&mut self, node: usize, lag_ns: u64) {
        let it = &mut self.nodes[node];
        if it.alive() && (it.lag_ns > 0) != (lag_ns > 0) {
            it.lag_ns = lag_ns;
            self.harm.lags += u64::from(lag_ns > 0);
            self.records.trace.push(self.timeline.now(), it.process, Event::Lag { on: lag_ns > 0 });
            self.wake(node, self.timeline.now() + MICROSECOND);
        }
    }

    /// Writes what the world does into the trace.
    pub fn note(&mut self, text: String) {
        self.records.trace.push(self.timeline.now(), Process::WORLD, Event::World(text));
    }

    /// A process maps the arena of whoever is in this slot of its site, and says so.
    fn connect_arenas(&mut self, node: usize, slot: u32) {
        let Some(mate) = self.slots[slot as usize].1.map(|mate| mate as usize) else { return };
        let row = |node: usize| node as u32 % 64;
        if let (Some(own), Some(theirs)) = (&self.nodes[node].arena, &self.nodes[mate].arena)
            && own.connect_heap(self.nodes[mate].nonce.0, theirs, row(node), row(mate))
        {
            theirs.set_reads(self.nodes[node].nonce.0, true);
            // It said so before, perhaps in vain: what was not mapped yet could not be asked.
            let mapped = theirs.is_read_by(self.nodes[node].nonce.0);
            own.set_reads(self.nodes[mate].nonce.0, mapped);
        }
    }

    fn bury(&mut self, node: usize, told: bool) {
        let it = &mut self.nodes[node];
        if let Some(mut endpoint) = it.endpoint.take() {
            // Nobody cleans up after who is killed.
            endpoint.region_mut().abandon();
        }
        it.inbox.clear();
        it.next_turn = u64::MAX;
        let (site, slot) = (it.site, it.slot);
        self.slots[slot as usize].1 = None;
        for other in 0..self.nodes.len() {
            if told && self.nodes[other].alive() && self.nodes[other].site == site {
                self.tell_death(other, node);
            }
        }
    }

    fn tell_death(&mut self, to: usize, of: usize) {
        let name = self.nodes[of].process;
        if self.nodes[to].told.contains(&name) {
            return;
        }
        self.nodes[to].told.push(name);
        let delay = 50 * MICROSECOND + self.random.below(self.notice_ns);
        self.timeline.at(self.timeline.now() + delay, Happening::Death { to: to as u32, of: of as u32 });
    }

    /// The runtime of a process looks up the members of a new system view that belong to its site, as the core asked it to: any
    /// process of the site can test any other's death, even of one that it never met.
    fn look_up_mates(&mut self, node: usize) {
        let Some(view) = self.nodes[node].app.system_view.clone() else { return };
        // Sites that have names keep them: of processes before the last boot no file is left either.
        let named = self.template.expected_sites > 0;
        let (site, boot) = (self.nodes[node].site, self.nodes[node].boot);
        for process in view.processes() {
            let other = process.0 as usize;
            let watched = |nonce| self.nodes[node].watched.contains(&nonce);
            if self
                .nodes
                .get(other)
                .is_some_and(|o| !o.alive() && watched(o.nonce) && (o.boot == boot || (named && o.site == site)))
            {
                self.tell_death(node, other);
            }
        }
    }

    // --- time ------------------------------------------------------------------------------------------------------

    /// Lets one event happen, if there is one not later than `limit`.
    pub fn pass(&mut self, limit: u64) -> Passed {
        let Some(happening) = self.timeline.next(limit) else {
            self.timeline.advance(limit);
            return Passed::Limit;
        };
        let time = self.now();
        match happening {
            Happening::Arrive(index) => {
                let Some(packet) = self.network.arrive(index) else { return Passed::Event };
                let Some(node) = self.slots[packet.to as usize].1 else {
                    self.network.tally.nobody += 1;
                    if !self.down[packet.to as usize] && self.refusals.below(100) < self.refused_percent {
                        self.refuse(&packet, false);
                    }
                    return Passed::Event;
                };
                if self.false_refusals_permille > 0 && self.refusals.below(1_000) < self.false_refusals_permille {
                    let forged = self.refusals.below(2) == 0;
                    self.refuse(&packet, forged);
                    if !forged {
                        // A filter does not let it through.
                        return Passed::Event;
                    }
                }
                let inbox = &mut self.nodes[node as usize].inbox;
                if inbox.len() >= self.inbox_limit {
                    self.network.tally.overflowed += 1;
                } else {
                    inbox.push_back(packet);
                    self.wake(node as usize, time + self.wake_ns);
                }
            }
            Happening::Turn(node) => {
                let it = &mut self.nodes[node as usize];
                let queued = it.queued_turns.pop();
                debug_assert_eq!(queued, Some(time));
                if !it.alive() || it.hung {
                    return Passed::Event;
                }
                if it.next_turn == time {
                    self.turn(node as usize);
                } else {
                    // It was put off.
                    let next = std::mem::replace(&mut it.next_turn, u64::MAX);
                    self.wake(node as usize, next);
                }
            }
            Happening::Death { to, of } => {
                let nonce = self.nodes[of as usize].nonce;
                if let Some(arena) = &self.nodes[to as usize].arena {
                    arena.end(nonce.0);
                    arena.disconnect(nonce.0);
                }
                let now = self.nodes[to as usize].clock.at(time);
                self.tell(to, Happening::Death { to, of }, |endpoint| endpoint.handle_death(now, nonce));
            }
            Happening::Refused { to, of, quoted } => {
                if let Some(node) = self.slots[to as usize].1 {
                    let now = self.nodes[node as usize].clock.at(time);
                    let again = Happening::Refused { to, of, quoted: Rc::clone(&quoted) };
                    self.tell(node, again, |endpoint| endpoint.handle_refused(now, address(of), &quoted));
                }
            }
            Happening::Peer { to, slot } => {
                let now = self.nodes[to as usize].clock.at(time);
                let peer = Happening::Peer { to, slot };
                self.connect_arenas(to as usize, slot);
                self.tell(to, peer, |endpoint| endpoint.handle_peer(now, address(slot)));
            }
            Happening::Answer { to, answer } => {
                let now = self.nodes[to as usize].clock.at(time);
                let again = Happening::Answer { to, answer: answer.clone() };
                self.tell(to, again, |endpoint| endpoint.handle_site_answer(now, *answer));
            }
            Happening::Step(step) => return Passed::Step(step),
        }
        Passed::Event
    }

    /// Tells the sender of a packet that it was refused, if the way back is open; `forged`: by somebody who has not seen it.
    fn refuse(&mut self, packet: &Packet, forged: bool) {
        let (here, there) = (self.slots[packet.to as usize].0, self.slots[packet.from as usize].0);
        if self.network.is_blocked(here, there) {
            return;
        }
        let most = if here == there { self.network.local } else { self.network.remote };
        let delay = 10 * MICROSECOND + self.refusals.below(most.delay_ns + most.jitter_ns + 1);
        let quoted = if forged { Rc::from([]) } else { Rc::clone(&packet.bytes) };
        self.network.tally.refused += 1;
        self.timeline.at(self.now() + delay, Happening::Refused { to: packet.from, of: packet.to, quoted });
    }

    /// Tells an endpoint something beside the network; a hung one hears it later.
    fn tell(&mut self, to: u32, again: Happening, say: impl FnOnce(&mut Endpoint)) {
        let time = self.now();
        let node = &mut self.nodes[to as usize];
        if node.hung {
            self.timeline.at(time + MILLISECOND, again);
            return;
        }
        if let Some(endpoint) = node.endpoint.as_mut() {
            say(endpoint);
            self.wake(to as usize, time + MICROSECOND);
        }
    }

    fn turn(&mut self, node: usize) {
        self.turns += 1;
        let time = self.now();
        self.nodes[node].next_turn = u64::MAX;
        let outcome = self.nodes[node].turn(time, &mut self.records, &mut self.network, &mut self.timeline);
        let next = std::mem::replace(&mut self.nodes[node].next_turn, u64::MAX);
        if outcome.flood {
            self.flooded = Some(self.nodes[node].process);
        }
        for request in outcome.requests {
            self.ask(node, request);
        }
        if outcome.system_view {
            self.look_up_mates(node);
        }
        if outcome.dies {
            self.crash(node);
        } else if outcome.ends {
            self.harm.ends += 1;
            self.ended.push(node);
            // A process at its end says so on the site's link.
            self.bury(node, true);
        } else if next != u64::MAX {
            self.wake(node, next);
        }
    }

    /// The site's record: under its lock, one question at a time.
    fn ask(&mut self, node: usize, request: SiteRequest) {
        let (site, boot) = (self.nodes[node].site, self.nodes[node].boot);
        match request {
            SiteRequest::Record { number, operation } => self.ask_disk(node, number, &operation),
            SiteRequest::Joined(system) => {
                self.sites[site].record = Some(system);
                self.nodes[node].system = Some(system);
            }
            SiteRequest::Found(system) => {
                let other = self.sites[site].record.filter(|&r| r != system);
                let alive = other.filter(|&r| {
                    let others = self.nodes.iter().enumerate().filter(|(i, n)| *i != node && n.boot == boot);
                    others.into_iter().any(|(_, n)| n.alive() && n.system == Some(r))
                });
                let answer = match alive {
                    Some(belongs) => SiteAnswer::BelongsTo(belongs),
                    None => {
                        self.sites[site].record = Some(system);
                        self.nodes[node].system = Some(system);
                        SiteAnswer::Granted
                    }
                };
                let delay = self.random.below(MILLISECOND);
                self.timeline.at(self.now() + delay, Happening::Answer { to: node as u32, answer: Box::new(answer) });
            }
            SiteRequest::Watch(nonce) => self.nodes[node].watched.push(nonce),
            SiteRequest::Kill(nonce) => {
                let victim = self.nodes.iter().position(|n| n.nonce == nonce && n.boot == boot && n.alive());
                match victim {
                    Some(victim) if self.nodes[victim].allow_kill => self.crash(victim),
                    Some(_) => self.harm.kills_refused += 1,
                    None => {}
                }
            }
        }
    }

    /// The site's durable record: read, changed and written under its lock, then answered. A process that dies before the
    /// answer has bound its site all the same.
    fn ask_disk(&mut self, node: usize, number: u64, operation: &RecordOperation) {
        let (site, boot, process) = (self.nodes[node].site, self.nodes[node].boot, self.nodes[node].process);
        let mates = self.nodes.iter().filter(|n| n.boot == boot && n.alive());
        let lives_in = mates.filter_map(|n| n.system).max().unwrap_or_default();
        let record = &mut self.sites[site].disk;
        let before = record.decided;
        let applied = acceptor::apply(record, operation, lives_in);
        if let Some(system) = applied.bind {
            self.nodes[node].system = (system != SystemId::default()).then_some(system);
        }
        if record.decided != before {
            let event = Event::Founding { number: record.decided, system: record.foundation.system };
            self.records.trace.push(self.timeline.now(), process, event);
        }
        let record = Box::new(record.clone());
        let answer = SiteAnswer::Record { number, done: applied.done, record, lives_in };
        let delay = (self.record_delay)(operation).unwrap_or_else(|| self.random.below(2 * MILLISECOND));
        self.timeline.at(self.now() + delay, Happening::Answer { to: node as u32, answer: Box::new(answer) });
    }

    /// Lets the application of a living process do something now, outside of its turn; then it has a turn.
    pub fn with_app<R>(
        &mut self,
        node: usize,
        act: impl FnOnce(&mut Application, &mut Option<Behaviour>, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let time = self.now();
        let it = &mut self.nodes[node];
        let now = it.clock.at(time);
        let endpoint = it.endpoint.as_mut()?;
        let mut ctx = Context { time, now, endpoint, records: &mut self.records };
        let result = act(&mut it.app, &mut it.behaviour, &mut ctx);
        self.wake(node, time + MICROSECOND);
        Some(result)
    }

    /// The processes that are not dead.
    pub fn alive(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|&n| self.nodes[n].alive())
    }

    /// Puts the digest of the packets into the trace, at the end of a run.
    pub fn seal(&mut self) {
        self.records.trace.packets = self.network.digest;
    }

    /// A copy of a packet's bytes into somebody's socket buffer, as from `from`: replays and forgeries.
    pub fn inject(&mut self, from: u32, to: u32, bytes: Vec<u8>) {
        let bytes = Rc::from(bytes);
        self.network.send(&mut self.timeline, from, address(to), &bytes);
    }
}
