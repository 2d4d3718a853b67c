//! A seeded run: a phase with faults, in which only safety is demanded; then the faults stop, and within a bounded virtual
//! time everything that was to come must have come.
//!
//! ```text
//! start-up ─► faults ─► Heal ─► settled? ─► last words ─► settled? ─► End ─► checker
//!                               └─ not within the bound ─────────────► End ─► checker
//! ```
//! Owner: a test or the simulator's program.

use super::behaviour::Behaviour;
use super::plan::{Options, Plan, Step, quiet_local, quiet_remote};
use super::world::{Happening, Passed, World};
use crate::checker::{self, Limits, Violation};
use crate::trace::{Event, Process, ViewSeen};
use isis_protocol::random::Random;
use isis_protocol::time::{MILLISECOND, SECOND};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Events that one run may take: an engine that works without end is a bug.
const MOST_EVENTS: u64 = 6_000_000;
/// How often the run looks whether everything has settled.
const LOOK_NS: u64 = 25 * MILLISECOND;

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The world at its end, with the trace.
    pub world: World,
    /// Broken guarantees.
    pub violations: Vec<Violation>,
    /// The engine panicked.
    pub panicked: Option<String>,
    /// Everything settled within the bound.
    pub settled: bool,
    /// Group views that were told.
    pub views: u64,
    /// System views that were told.
    pub system_views: u64,
    /// Messages delivered.
    pub deliveries: u64,
}

impl Report {
    /// Something is wrong.
    pub fn failed(&self) -> bool {
        self.panicked.is_some() || !self.violations.is_empty()
    }

    /// What is wrong, as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(panic) = &self.panicked {
            text.push_str(&format!("the engine panicked: {panic}\n"));
        }
        text.push_str(&checker::report(&self.world.records.trace, &self.violations, 8));
        text
    }
}

/// See the module.
#[derive(Debug)]
pub struct Run {
    world: World,
    plan: Plan,
    options: Options,
    random: Random,
    /// Steps so far; `Happening::Step` is an index.
    steps: Vec<Step>,
    healed: bool,
    settled: bool,
    events: u64,
}

impl Run {
    /// Draws the run of a seed.
    pub fn new(seed: u64, options: Options) -> Run {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random, &options);
        let mut world = World::new(random.next(), plan.sites);
        plan.configure(&mut random, &mut world);
        // From a generator of its own, so that the rest of the run is the same with and without.
        if Random::new(!seed).below(100) < options.expected_percent {
            world.template.expected_sites = plan.sites as u16;
        }
        for site in &plan.places {
            world.add_slot(*site);
        }
        let mut run = Run { world, plan, options, random, steps: Vec::new(), healed: false, settled: false, events: 0 };
        for (when, step) in run.plan.steps.clone() {
            run.later(when, step);
        }
        run
    }

    /// Runs a seed to its end and checks its trace.
    pub fn execute(seed: u64, options: &Options) -> Report {
        let mut run = Run::new(seed, options.clone());
        let mut domains = run.plan.profile.groups.iter().map(|(_, options)| options.domain);
        let across_groups = domains.next().is_some_and(|first| domains.all(|other| other == first));
        let limits = Limits { across_groups, ..Limits::of(&run.world.template) };
        let outcome = catch_unwind(AssertUnwindSafe(|| run.go()));
        let panicked = outcome.err().map(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string())).unwrap_or_default()
        });
        run.world.seal();
        let mut violations = checker::check(&run.world.records.trace, limits);
        if run.events > MOST_EVENTS || run.world.flooded.is_some() {
            let busiest = run.world.nodes.iter().max_by_key(|n| n.turns);
            let what = format!(
                "work without end: {} events, {} packets, busiest {:?}, flood by {:?}",
                run.events,
                run.world.network.tally.sent,
                busiest.map(|n| (n.process, n.turns)),
                run.world.flooded
            );
            violations.insert(0, Violation { property: 0, what, records: Vec::new() });
        } else if panicked.is_none() && !run.settled && violations.is_empty() {
            let what = format!("the run does not settle: {}", run.unsettled().unwrap_or_default());
            violations.push(Violation { property: 26, what, records: Vec::new() });
        }
        let trace = &run.world.records.trace;
        let count = |is: fn(&Event) -> bool| trace.records.iter().filter(|r| is(&r.event)).count() as u64;
        Report {
            seed,
            views: count(|e| matches!(e, Event::View { .. })),
            system_views: count(|e| matches!(e, Event::SystemView(_))),
            deliveries: count(|e| matches!(e, Event::Deliver(_))),
            violations,
            panicked,
            settled: run.settled,
            world: run.world,
        }
    }

    fn later(&mut self, when: u64, step: Step) {
        self.steps.push(step);
        self.world.timeline.at(when, Happening::Step(self.steps.len() as u32 - 1));
    }

    fn go(&mut self) {
        self.until(self.plan.heal_ns + 1);
        let bound = self.world.now() + self.options.healing_ns;
        if !self.settle(bound) {
            return self.end();
        }
        for node in 0..self.world.nodes.len() {
            self.world.with_app(node, |app, behaviour, ctx| {
                if let Some(behaviour) = behaviour {
                    behaviour.last_words(app, ctx);
                }
            });
        }
        let bound = self.world.now() + self.options.healing_ns / 2;
        self.settled = self.settle(bound);
        self.end();
    }

    fn end(&mut self) {
        if !self.settled && std::env::var_os("ISIS_SIM_DESCRIBE").is_some() {
            for node in self.world.alive().collect::<Vec<_>>() {
                if let Some(endpoint) = &self.world.nodes[node].endpoint {
                    let process = self.world.nodes[node].process;
                    let _ = write!(std::io::stderr(), "{process:?}: {}", endpoint.describe());
                }
            }
        }
        self.world.records.trace.push(self.world.now(), Process::WORLD, Event::End);
    }

    /// Lets time pass up to `limit`.
    fn until(&mut self, limit: u64) {
        while self.events <= MOST_EVENTS && self.world.flooded.is_none() {
            self.events += 1;
            match self.world.pass(limit) {
                Passed::Event => self.successors(),
                Passed::Step(step) => self.step(self.steps[step as usize]),
                Passed::Limit => return,
            }
        }
    }

    /// Lets time pass until everything has settled; false if it has not at `bound`.
    fn settle(&mut self, bound: u64) -> bool {
        while self.world.now() < bound && self.events <= MOST_EVENTS && self.world.flooded.is_none() {
            let next = self.world.now() + LOOK_NS;
            self.until(next);
            if self.unsettled().is_none() {
                return true;
            }
        }
        false
    }

    // --- steps -----------------------------------------------------------------------------------------------------

    fn somebody(&mut self) -> Option<usize> {
        let alive: Vec<usize> = self.world.alive().collect();
        (!alive.is_empty()).then(|| alive[self.random.below(alive.len() as u64) as usize])
    }

    fn start(&mut self, slot: u32) {
        let site = self.world.slots[slot as usize].0;
        let others: Vec<u32> =
            (0..self.world.slots.len() as u32).filter(|s| self.world.slots[*s as usize].0 != site).collect();
        let mut seeds = Vec::new();
        for _ in 0..self.plan.seeds {
            if !others.is_empty() {
                seeds.push(others[self.random.below(others.len() as u64) as usize]);
            }
        }
        // The lowest slots are never given up: somebody will be found there sooner or later.
        seeds.extend(others.first());
        if self.healed {
            // An operator who starts a process again names every host that there is.
            seeds = others;
        }
        let mut profile = self.plan.profile.clone();
        if profile.groups.len() > 1 && self.random.below(100) >= self.plan.second_group_percent {
            profile.groups.truncate(1);
        }
        let mut behaviour = Behaviour::new(self.random.next(), profile, self.world.now());
        behaviour.quiet = self.healed;
        self.world.start(slot, &seeds, Some(behaviour));
    }

    fn restart_later(&mut self, site: usize, slot: u32) {
        let delay = 5 * MILLISECOND + self.random.below(400 * MILLISECOND);
        let same = self.random.below(100) < self.plan.same_slot_percent;
        self.later(self.world.now() + delay, Step::Restart(site, same.then_some(slot)));
    }

    fn step(&mut self, step: Step) {
        let now = self.world.now();
        match step {
            Step::Start(process) => self.start(process as u32),
            Step::Crash => {
                let Some(node) = self.somebody() else { return };
                let (site, slot) = (self.world.nodes[node].site, self.world.nodes[node].slot);
                self.world.crash(node);
                if self.random.below(100) < self.plan.restart_percent {
                    self.restart_later(site, slot);
                }
            }
            Step::CrashSite => {
                let Some(node) = self.somebody() else { return };
                let site = self.world.nodes[node].site;
                let slots: Vec<u32> = self.living_slots(site);
                self.world.crash_site(site);
                for slot in slots {
                    if self.random.below(100) < self.plan.restart_percent {
                        self.restart_later(site, slot);
                    }
                }
            }
            Step::Hang(lasts) => {
                let Some(node) = self.somebody() else { return };
                self.world.hang(node);
                self.later(now + lasts, Step::Resume(node));
            }
            Step::Resume(node) => self.world.resume(node),
            Step::Lag(lasts) => {
                let Some(node) = self.somebody() else { return };
                let lag = 1 + self.random.below(10 * MILLISECOND);
                self.world.lag(node, lag);
                self.later(now + lasts, Step::Unlag(node));
            }
            Step::Unlag(node) => self.world.lag(node, 0),
            Step::Partition { one_way, lasts_ns } => self.part(one_way, lasts_ns),
            Step::Mend => {
                self.world.network.unblock_all();
                self.world.note("the network is whole".into());
            }
            Step::Restart(site, slot) => {
                let slot = match slot.filter(|s| self.world.slots[*s as usize].1.is_none()) {
                    Some(slot) => slot,
                    None => self.world.add_slot(site),
                };
                self.world.harm.restarts += 1;
                self.start(slot);
            }
            Step::Heal => self.heal(),
            Step::Operator => self.operate(),
        }
    }

    /// An evicted process comes back as a new one, mostly; a closed one sometimes; and somebody always does.
    fn successors(&mut self) {
        while let Some(node) = self.world.ended.pop() {
            let (site, slot, closed) =
                (self.world.nodes[node].site, self.world.nodes[node].slot, self.world.nodes[node].app.closing);
            let percent = if closed { 50 } else { 80 };
            if self.random.below(100) < percent || self.world.alive().next().is_none() {
                self.restart_later(site, slot);
            }
        }
    }

    fn living_slots(&self, site: usize) -> Vec<u32> {
        self.world.alive().filter(|&n| self.world.nodes[n].site == site).map(|n| self.world.nodes[n].slot).collect()
    }

    fn part(&mut self, one_way: bool, lasts_ns: u64) {
        if self.healed {
            return;
        }
        let sites = self.world.sites.len();
        let mask = 1 + self.random.below((1 << sites) - 2);
        let here = |site: usize| mask >> site & 1 == 1;
        for from in 0..sites {
            for to in 0..sites {
                if here(from) && !here(to) || !one_way && here(to) && !here(from) {
                    self.world.network.block(from, to);
                }
            }
        }
        let harm = &mut self.world.harm;
        if one_way {
            harm.one_way += 1
        } else {
            harm.partitions += 1
        }
        let arrow = if one_way { "cannot reach" } else { "are parted from" };
        let side: Vec<usize> = (0..sites).filter(|s| here(*s)).collect();
        self.world.note(format!("sites {side:?} {arrow} the others"));
        self.later(self.world.now() + lasts_ns, Step::Mend);
    }

    /// The faults stop: links are quiet, partitions mend, the hung go on, and sites with nobody come back, but for a few.
    fn heal(&mut self) {
        self.healed = true;
        self.world.network.unblock_all();
        (self.world.network.local, self.world.network.remote) = (quiet_local(), quiet_remote());
        for node in 0..self.world.nodes.len() {
            self.world.resume(node);
            self.world.lag(node, 0);
            if let Some(behaviour) = &mut self.world.nodes[node].behaviour {
                behaviour.quiet = true;
            }
        }
        // Systems that were founded apart can only meet if somebody tells one of the other.
        for to in self.world.alive().collect::<Vec<_>>() {
            for slot in 0..self.world.slots.len() as u32 {
                self.world.timeline.at(self.world.now() + MILLISECOND, Happening::Peer { to: to as u32, slot });
            }
        }
        let nobody = self.world.alive().next().is_none();
        for site in 0..self.world.sites.len() {
            let waits = self.living_slots(site).is_empty();
            let wanted = nobody || self.world.template.expected_sites > 0;
            if waits && (self.random.below(100) < 80 || wanted) {
                self.later(self.world.now() + 10 * MILLISECOND, Step::Restart(site, None));
            }
        }
        self.world.records.trace.push(self.world.now(), Process::WORLD, Event::Healed);
        self.later(self.world.now() + 8 * SECOND, Step::Operator);
    }

    /// A system that lost its quorum for good does not end by itself: an operator starts the processes of a site again. Where
    /// a number of sites is expected, the operator first sees to it that there are as many.
    fn operate(&mut self) {
        let stuck = |n: usize| self.world.nodes[n].app.stalled || self.world.nodes[n].app.admitted.is_none();
        let alive: Vec<usize> = self.world.alive().collect();
        let expects = self.world.template.expected_sites > 0;
        if alive.is_empty() || !alive.iter().any(|&n| self.world.nodes[n].app.stalled || expects && stuck(n)) {
            return;
        }
        let empty: Vec<usize> =
            (0..self.world.sites.len()).filter(|&s| expects && self.living_slots(s).is_empty()).collect();
        if !empty.is_empty() {
            self.world.note(format!("operator: sites {empty:?} are wanted"));
            for site in empty {
                self.later(self.world.now(), Step::Restart(site, None));
            }
        } else if alive.iter().all(|&n| stuck(n)) {
            let first = alive.iter().copied().find(|&n| self.world.nodes[n].app.stalled).unwrap_or(alive[0]);
            let site = self.world.nodes[first].site;
            self.world.note(format!("operator: nobody has a quorum, the processes of site {site} start again"));
            for node in alive.into_iter().filter(|&n| self.world.nodes[n].site == site).collect::<Vec<_>>() {
                let slot = self.world.nodes[node].slot;
                self.world.crash(node);
                self.later(self.world.now() + 100 * MILLISECOND, Step::Restart(site, Some(slot)));
            }
        }
        self.later(self.world.now() + 8 * SECOND, Step::Operator);
    }

    // --- has everything settled? -----------------------------------------------------------------------------------

    /// Why not; `None`: it has.
    fn unsettled(&self) -> Option<String> {
        let alive: Vec<usize> = self.world.alive().collect();
        if alive.is_empty() {
            return Some("nobody is alive".to_string());
        }
        let everybody: Vec<Process> = alive.iter().map(|&n| self.world.nodes[n].process).collect();
        let mut system: Option<(&ViewSeen, u128)> = None;
        for &n in &alive {
            let node = &self.world.nodes[n];
            let (app, who) = (&node.app, node.process);
            let (Some(view), Some((id, _))) = (&app.system_view, app.admitted) else {
                return Some(format!("{who:?} is in no system"));
            };
            let (first, first_id) = *system.get_or_insert((view, id.0));
            if first_id != id.0 || first.number != view.number || !same(view, &everybody) {
                return Some(format!("{who:?} has system view {view:?}, alive are {everybody:?}"));
            }
            if app.stalled || app.closing || !node.inbox.is_empty() {
                return Some(format!("{who:?} is stalled, closing or busy"));
            }
            if node.behaviour.as_ref().is_some_and(|b| !b.settled(app)) {
                return Some(format!("{who:?} is not in all its groups, or has something to send"));
            }
            for member in app.members.iter().filter(|m| !m.left) {
                if !member.active() || !member.flushes.is_empty() || member.own_undelivered > 0 || member.hands_over() {
                    return Some(format!(
                        "{who:?} in group {}: waits for {} flushes and {} own messages",
                        member.name,
                        member.flushes.len(),
                        member.own_undelivered
                    ));
                }
            }
        }
        for name in 0..2 {
            let members = alive.iter().flat_map(|&n| {
                let process = self.world.nodes[n].process;
                let active = self.world.nodes[n].app.members.iter().filter(|m| m.active() && m.name == name);
                active.map(move |m| (process, m))
            });
            let members: Vec<_> = members.collect();
            let processes: Vec<Process> = members.iter().map(|m| m.0).collect();
            let Some((_, first)) = members.first() else { continue };
            for (process, member) in &members {
                let (Some(view), Some(reference)) = (&member.view, &first.view) else { continue };
                let agrees = view.number == reference.number && view.group == reference.group;
                if !agrees || !same(view, &processes) {
                    return Some(format!("{process:?} has {view:?}, members should be {processes:?}"));
                }
                if member.in_view != first.in_view {
                    return Some(format!("{process:?} has not delivered what others have"));
                }
            }
        }
        None
    }
}

fn same(view: &ViewSeen, processes: &[Process]) -> bool {
    view.members.len() == processes.len() && processes.iter().all(|p| view.has(*p))
}
