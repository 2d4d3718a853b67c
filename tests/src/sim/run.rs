//! A seeded run: a phase with faults, in which only safety is demanded; then the faults stop, and within a bounded virtual
//! time everything that was to come must have come.
//!
//! ```text
//! start-up ─► faults ─► Heal ─► settled? ─► last words ─► settled? ─► End ─► checker
//!                               └─ not within the bound ─────────────► End ─► checker
//! ```
//! Owner: a test or the simulator's program.

use super::behaviour::Behaviour;
use super::faults::{Planned, Step};
use super::plan::{Options, Plan, quiet_local, quiet_remote};
use super::world::{Happening, Passed, World};
use super::{reduce, settled};
use crate::checker::{self, Limits, Violation};
use crate::trace::{Event, Process, mix};
use isis_protocol::random::Random;
use isis_protocol::time::MILLISECOND;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Events that a run of eight processes may take, or fewer; larger ones take more. An engine that works without end is a bug.
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

/// What a run has to do at some time: a step of the plan, or what follows from one.
#[derive(Clone, Copy, Debug)]
enum Task {
    /// A step of the plan, with the seed of what it decides.
    Do(Step, u64),
    /// The hung process (its number) goes on.
    Resume(usize),
    /// The slow process (its number) goes on.
    Unlag(usize),
    /// The partition of this number is over.
    Mend(usize),
    /// A process comes back: on this site, in this slot, or (`None`) a new one.
    Restart(usize, Option<u32>),
    /// The process in this slot dies and comes back, so many times more, within this time each.
    Loop(u32, u32, u64),
    /// The faults stop.
    Heal,
    /// Nobody has a quorum any more: the operator starts a site's processes again.
    Operator,
}

/// See the module.
#[derive(Debug)]
pub struct Run {
    seed: u64,
    world: World,
    plan: Plan,
    options: Options,
    /// Of the step that is being carried out.
    random: Random,
    /// Tasks so far; `Happening::Step` is an index.
    tasks: Vec<Task>,
    /// By partition: what it cut.
    cuts: Vec<Vec<(usize, usize)>>,
    /// Sites that have failed for ever.
    lost: Vec<usize>,
    /// By slot: how many processes ran there.
    starts: Vec<u64>,
    healed: bool,
    settled: bool,
    events: u64,
}

impl Run {
    /// Draws the run of a seed.
    pub fn new(seed: u64, options: Options) -> Run {
        let mut random = Random::new(seed);
        let mut plan = Plan::draw(&mut random, &options);
        if options.several_groups {
            plan.exercise_several_groups(&mut Random::new(mix(seed.rotate_left(23))));
        }
        plan.draw_total_orders(&mut Random::new(mix(seed.rotate_left(41))));
        plan.draw_handovers(&mut Random::new(mix(seed.rotate_left(13))));
        plan.draw_arenas(&mut Random::new(mix(seed.rotate_left(31))));
        if options.faults {
            plan.draw_refusals(&mut Random::new(mix(seed.rotate_left(59))));
        }
        reduce::apply(&mut plan, &options.reductions);
        let mut world = World::new(mix(seed), plan.sites);
        plan.configure(&mut world);
        // From a generator of its own, so that the rest of the run is the same with and without.
        if Random::new(!seed).below(100) < options.expected_percent {
            world.template.expected_sites = plan.sites as u16;
        }
        // Small views gather their rows as large ones do, in one run of four: faults are cheaper there.
        if Random::new(!mix(seed)).below(4) == 0 {
            world.template.direct_rows = 1;
        }
        for site in &plan.places {
            world.add_slot(*site);
        }
        let random = Random::new(mix(!seed));
        let (tasks, cuts, lost, starts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (healed, settled, events) = (false, false, 0);
        let mut run = Run { seed, world, plan, options, random, tasks, cuts, lost, starts, healed, settled, events };
        for Planned { at_ns, seed, step } in run.plan.steps.clone() {
            if at_ns < run.plan.heal_ns {
                run.later(at_ns, Task::Do(step, seed));
            }
        }
        run.later(run.plan.heal_ns, Task::Heal);
        run
    }

    /// The plan that is carried out.
    pub fn plan(&self) -> &Plan {
        &self.plan
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
        if run.events > run.most_events() || run.world.flooded.is_some() {
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
            let what = format!("the run does not settle: {}", settled::unsettled(&run.world).unwrap_or_default());
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

    fn later(&mut self, when: u64, task: Task) {
        self.tasks.push(task);
        self.world.timeline.at(when, Happening::Step(self.tasks.len() as u32 - 1));
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
        if self.settled {
            // Who has to stay outside, for its broken links, is put down: nothing more is demanded of it.
            for node in settled::outsiders(&self.world) {
                self.world.crash(node);
            }
            for node in self.world.alive().collect::<Vec<_>>() {
                self.world.with_app(node, |app, _, ctx| app.take_stock(ctx));
            }
        }
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

    fn most_events(&self) -> u64 {
        MOST_EVENTS * (self.plan.places.len() as u64 / 8).max(1)
    }

    /// Lets time pass up to `limit`.
    fn until(&mut self, limit: u64) {
        while self.events <= self.most_events() && self.world.flooded.is_none() {
            self.events += 1;
            match self.world.pass(limit) {
                Passed::Event => self.successors(),
                Passed::Step(task) => self.carry_out(self.tasks[task as usize]),
                Passed::Limit => return,
            }
        }
    }

    /// Lets time pass until everything has settled; false if it has not at `bound`.
    fn settle(&mut self, bound: u64) -> bool {
        while self.world.now() < bound && self.events <= self.most_events() && self.world.flooded.is_none() {
            let next = self.world.now() + LOOK_NS;
            self.until(next);
            if settled::unsettled(&self.world).is_none() {
                return true;
            }
        }
        false
    }

    // --- steps -----------------------------------------------------------------------------------------------------

    /// Somebody who is alive: at the place that is drawn, or the next one where somebody is. So that a process that is not
    /// there does not turn every other choice.
    fn somebody(&mut self) -> Option<usize> {
        let slots = &self.world.slots;
        let wish = self.random.below(slots.len() as u64) as usize;
        (0..slots.len()).find_map(|next| slots[(wish + next) % slots.len()].1.map(|node| node as usize))
    }

    fn start(&mut self, slot: u32) {
        let site = self.world.slots[slot as usize].0;
        let others: Vec<u32> =
            (0..self.world.slots.len() as u32).filter(|s| self.world.slots[*s as usize].0 != site).collect();
        let slots = self.world.slots.len();
        self.starts.resize(slots.max(self.starts.len()), 0);
        let count = &mut self.starts[slot as usize];
        *count += 1;
        let mut random = Random::new(mix(self.seed ^ mix(u64::from(slot) << 32 | *count)));
        let mut seeds = Vec::new();
        for _ in 0..self.plan.seeds {
            if !others.is_empty() {
                seeds.push(others[random.below(others.len() as u64) as usize]);
            }
        }
        // The lowest slots are never given up: somebody will be found there sooner or later.
        seeds.extend(others.first());
        if self.healed {
            // An operator who starts a process again names every host that there is.
            seeds = others;
        }
        let mut profile = self.plan.profile.clone();
        if profile.groups.len() > 1 && random.below(100) >= self.plan.second_group_percent {
            profile.groups.truncate(1);
        } else if profile.groups.len() > 2 && random.below(3) == 0 {
            profile.groups.remove(random.below(3) as usize);
        }
        let mut behaviour = Behaviour::new(random.next(), profile, self.world.now());
        behaviour.quiet = self.healed;
        self.world.start(slot, &seeds, Some(behaviour));
    }

    fn restart_later(&mut self, site: usize, slot: u32) {
        let delay = 5 * MILLISECOND + self.random.below(400 * MILLISECOND);
        let same = self.random.below(100) < self.plan.same_slot_percent;
        self.later(self.world.now() + delay, Task::Restart(site, same.then_some(slot)));
    }

    fn carry_out(&mut self, task: Task) {
        match task {
            Task::Do(step, seed) => {
                self.random = Random::new(seed);
                self.step(step);
            }
            Task::Resume(node) => self.world.resume(node),
            Task::Unlag(node) => self.world.lag(node, 0),
            Task::Mend(number) => {
                let cut = std::mem::take(&mut self.cuts[number]);
                if !cut.is_empty() {
                    for (from, to) in cut {
                        self.world.network.unblock(from, to);
                    }
                    self.world.note(format!("partition {number} is over"));
                }
            }
            Task::Restart(site, slot) => self.restart(site, slot),
            Task::Loop(slot, left, period_ns) => self.crash_again(slot, left, period_ns),
            Task::Heal => self.heal(),
            Task::Operator => self.operate(),
        }
    }

    fn restart(&mut self, site: usize, slot: Option<u32>) {
        let given_up = self.lost.contains(&site);
        // Where a site is gone for ever, its processes come back nowhere, unless nobody is left at all.
        let others = (0..self.world.sites.len()).find(|site| !self.lost.contains(site));
        let site = if given_up { others.unwrap_or(site) } else { site };
        if given_up && self.world.alive().next().is_some() {
            return;
        }
        let slot = match slot.filter(|s| !given_up && self.world.slots[*s as usize].1.is_none()) {
            Some(slot) => slot,
            None => self.world.add_slot(site),
        };
        self.world.harm.restarts += 1;
        self.start(slot);
    }

    fn step(&mut self, step: Step) {
        let now = self.world.now();
        match step {
            Step::Start(process) => self.start(process as u32),
            Step::Arrive => {
                let site = self.random.below(self.world.sites.len() as u64) as usize;
                let slot = self.world.add_slot(site);
                self.start(slot);
            }
            Step::Leave => {
                let Some(node) = self.somebody() else { return };
                self.world.with_app(node, |app, behaviour, ctx| {
                    if let Some(behaviour) = behaviour {
                        behaviour.leave_something(app, ctx);
                    }
                });
            }
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
            Step::CrashAll { sites } => self.crash_all(sites),
            Step::CrashLoop { left, period_ns } => {
                let Some(node) = self.somebody() else { return };
                self.crash_again(self.world.nodes[node].slot, left, period_ns);
            }
            Step::Hang(lasts) => {
                let Some(node) = self.somebody() else { return };
                self.world.hang(node);
                self.later(now + lasts, Task::Resume(node));
            }
            Step::Lag(lasts) => {
                let Some(node) = self.somebody() else { return };
                let lag = MILLISECOND / 10 + self.random.below(10 * MILLISECOND);
                self.world.lag(node, lag);
                self.later(now + lasts, Task::Unlag(node));
            }
            Step::Partition { one_way, lasts_ns } => self.part(one_way, lasts_ns),
            Step::Cut { one_way, lasts_ns } => self.cut(one_way, lasts_ns),
            Step::Clog(lasts_ns) => {
                let slots = self.world.network.slots() as u64;
                let (from, to) = (self.random.below(slots) as u32, self.random.below(slots) as u32);
                self.world.network.clog(from, to, now + lasts_ns);
                self.world.harm.clogs += 1;
                self.world.note(format!("what place {from} sends to place {to} is held for {lasts_ns} ns"));
            }
        }
    }

    /// Total failure: nobody is left, everybody comes back.
    fn crash_all(&mut self, sites: bool) {
        self.world.note("everybody dies".into());
        self.world.harm.totals += 1;
        let all: Vec<usize> = self.world.alive().collect();
        let places: Vec<(usize, u32)> =
            all.iter().map(|&n| (self.world.nodes[n].site, self.world.nodes[n].slot)).collect();
        if sites {
            (0..self.world.sites.len()).for_each(|site| self.world.crash_site(site));
        } else {
            all.into_iter().for_each(|node| self.world.crash(node));
        }
        for (site, slot) in places {
            let delay = 5 * MILLISECOND + self.random.below(400 * MILLISECOND);
            self.later(self.world.now() + delay, Task::Restart(site, Some(slot)));
        }
    }

    /// A turn of a crash loop.
    fn crash_again(&mut self, slot: u32, left: u32, period_ns: u64) {
        let (site, node) = self.world.slots[slot as usize];
        if self.healed || self.lost.contains(&site) {
            return;
        }
        let now = self.world.now();
        if let Some(node) = node {
            self.world.crash(node as usize);
            let again = now + 1 + self.random.below(20 * MILLISECOND);
            self.later(again, Task::Restart(site, Some(slot)));
        }
        if left > 0 {
            let next = now + 20 * MILLISECOND + self.random.below(period_ns);
            self.later(next, Task::Loop(slot, left - 1, period_ns));
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
        let sites = self.world.sites.len();
        let mask = 1 + self.random.below((1 << sites) - 2);
        let here = |site: usize| mask >> site & 1 == 1;
        let pairs = (0..sites).flat_map(|from| (0..sites).map(move |to| (from, to)));
        let cut = pairs.filter(|&(from, to)| here(from) && !here(to) || !one_way && here(to) && !here(from)).collect();
        let harm = &mut self.world.harm;
        *if one_way { &mut harm.one_way } else { &mut harm.partitions } += 1;
        let arrow = if one_way { "cannot reach" } else { "are parted from" };
        let side: Vec<usize> = (0..sites).filter(|s| here(*s)).collect();
        self.block(cut, lasts_ns, &format!("sites {side:?} {arrow} the others"));
    }

    /// A partition that does not part: two sites do not reach each other, and both reach all others.
    fn cut(&mut self, one_way: bool, lasts_ns: u64) {
        let sites = self.world.sites.len() as u64;
        let one = self.random.below(sites) as usize;
        let other = (one + 1 + self.random.below(sites - 1) as usize) % sites as usize;
        let mut cut = vec![(one, other)];
        if !one_way {
            cut.push((other, one));
        }
        self.world.harm.cuts += 1;
        self.block(cut, lasts_ns, &format!("sites {one} and {other} are cut, one way: {one_way}"));
    }

    fn block(&mut self, cut: Vec<(usize, usize)>, lasts_ns: u64, what: &str) {
        for &(from, to) in &cut {
            self.world.network.block(from, to);
        }
        let number = self.cuts.len();
        self.cuts.push(cut);
        self.world.note(format!("partition {number}: {what}"));
        self.later(self.world.now() + lasts_ns, Task::Mend(number));
    }

    /// The faults stop: links are quiet, partitions mend, the hung go on, and sites with nobody come back, but for a few.
    fn heal(&mut self) {
        self.healed = true;
        self.random = Random::new(mix(self.seed ^ 0x4ea1));
        self.world.network.unblock_all();
        self.cuts.iter_mut().for_each(Vec::clear);
        self.lose_sites();
        self.leave_cut();
        (self.world.network.local, self.world.network.remote) = (quiet_local(), quiet_remote());
        self.world.false_refusals_permille = 0;
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
            let waits = self.living_slots(site).is_empty() && !self.lost.contains(&site);
            let wanted = nobody || self.world.template.expected_sites > 0;
            let planned = self.plan.has_process_on(site) || self.world.template.expected_sites > 0;
            if waits && planned && (self.random.below(100) < 80 || wanted) {
                self.later(self.world.now() + 10 * MILLISECOND, Task::Restart(site, None));
            }
        }
        self.world.records.trace.push(self.world.now(), Process::WORLD, Event::Healed);
        self.later(self.world.now() + self.plan.setting.operator_ns, Task::Operator);
    }

    /// In some of the runs two sites are cut from each other for ever, one way or both, while all others reach both.
    fn leave_cut(&mut self) {
        // From a generator of its own, so that the rest of the run is the same with and without.
        let mut random = Random::new(mix(!self.seed));
        let lived_on = |site: &usize| !self.living_slots(*site).is_empty();
        let sites: Vec<usize> = (0..self.world.sites.len()).filter(lived_on).collect();
        let wanted = self.options.faults && random.below(100) < self.options.cut_percent;
        if !wanted || sites.len() < 3 || !self.lost.is_empty() || self.world.template.expected_sites > 0 {
            return;
        }
        let one = random.below(sites.len() as u64) as usize;
        let other = (one + 1 + random.below(sites.len() as u64 - 1) as usize) % sites.len();
        let (one, other) = (sites[one], sites[other]);
        self.world.network.block(one, other);
        let one_way = random.below(3) == 0;
        if !one_way {
            self.world.network.block(other, one);
        }
        self.world.cut = Some((one, other));
        self.world.harm.lasting_cuts += 1;
        self.world.note(format!("sites {one} and {other} are cut for ever, one way: {one_way}"));
    }

    /// A minority of the sites fails for ever.
    fn lose_sites(&mut self) {
        for _ in 0..self.plan.lost_sites {
            let site = self.random.below(self.world.sites.len() as u64) as usize;
            if !self.lost.contains(&site) {
                self.lost.push(site);
                self.world.harm.lost_sites += 1;
                self.world.note(format!("site {site} fails for ever"));
                self.world.crash_site(site);
            }
        }
    }

    /// A system that lost its quorum for good does not end by itself: an operator starts the processes of a site again. Where
    /// a number of sites is expected, the operator first sees to it that there are as many. Where two sites are cut from each
    /// other for ever, and no third one is left that could help, a process that stays stalled is started again.
    fn operate(&mut self) {
        let stuck = |n: usize| self.world.nodes[n].app.stalled || self.world.nodes[n].app.admitted.is_none();
        let alive: Vec<usize> = self.world.alive().collect();
        let expects = self.world.template.expected_sites > 0;
        let cut = self.world.cut.is_some();
        let any_stalled = alive.iter().any(|&n| self.world.nodes[n].app.stalled);
        if alive.is_empty() || !(any_stalled || cut || expects && alive.iter().any(|&n| stuck(n))) {
            return;
        }
        let empty: Vec<usize> = (0..self.world.sites.len())
            .filter(|s| expects && self.living_slots(*s).is_empty() && !self.lost.contains(s))
            .collect();
        if !empty.is_empty() {
            self.world.note(format!("operator: sites {empty:?} are wanted"));
            for site in empty {
                self.later(self.world.now(), Task::Restart(site, None));
            }
        } else if alive.iter().all(|&n| stuck(n)) || cut && any_stalled {
            let first = alive.iter().copied().find(|&n| self.world.nodes[n].app.stalled).unwrap_or(alive[0]);
            let site = self.world.nodes[first].site;
            self.world.note(format!("operator: the processes of site {site}, which is stalled, start again"));
            for node in alive.into_iter().filter(|&n| self.world.nodes[n].site == site).collect::<Vec<_>>() {
                let slot = self.world.nodes[node].slot;
                self.world.crash(node);
                self.later(self.world.now() + 100 * MILLISECOND, Task::Restart(site, Some(slot)));
            }
        }
        self.later(self.world.now() + self.plan.setting.operator_ns, Task::Operator);
    }
}
