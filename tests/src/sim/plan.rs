//! What a seed draws: sites, processes, groups, configuration, behaviours and faults.
//!
//! Owner: a run. Invariant: a plan depends on the seed and the options alone. Each run switches on a random subset of the
//! faults with random strength: a run with all of them at once hardly gets anywhere, and hides what a single one does.

use super::behaviour::Profile;
use super::network::{Link, MILLION};
use super::world::World;
use isis_protocol::JoinOptions;
use isis_protocol::random::Random;
use isis_protocol::time::{MICROSECOND, MILLISECOND, SECOND};
use std::ops::RangeInclusive;

/// What the caller decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many processes a run begins with.
    pub members: RangeInclusive<u64>,
    /// Switch faults on.
    pub faults: bool,
    /// How long the phase with faults is, at most.
    pub safety_ns: u64,
    /// How long everything may take after the faults stopped.
    pub healing_ns: u64,
    /// In so many of 100 runs all processes know how many sites there are (R12).
    pub expected_percent: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { members: 1..=9, faults: true, safety_ns: 3 * SECOND, healing_ns: 40 * SECOND, expected_percent: 25 }
    }
}

/// A step of the phase with faults. Targets are drawn when it is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The n-th process starts for the first time.
    Start(usize),
    /// Somebody dies.
    Crash,
    /// A site dies.
    CrashSite,
    /// Somebody gets no turns for so long.
    Hang(u64),
    /// The hung process (its number) goes on.
    Resume(usize),
    /// Somebody takes events slowly for so long.
    Lag(u64),
    /// The slow process goes on.
    Unlag(usize),
    /// The sites are parted, for so long.
    Partition {
        /// In one direction only.
        one_way: bool,
        /// For so long.
        lasts_ns: u64,
    },
    /// The partition is over.
    Mend,
    /// A process comes back: on this site, in this slot, or (`None`) a new one.
    Restart(usize, Option<u32>),
    /// The faults stop.
    Heal,
    /// Nobody has a quorum any more: the operator starts a site's processes again.
    Operator,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// By process: its site.
    pub places: Vec<usize>,
    /// How many sites.
    pub sites: usize,
    /// How the applications behave.
    pub profile: Profile,
    /// Steps by time.
    pub steps: Vec<(u64, Step)>,
    /// Links within sites during the phase with faults.
    pub local: Link,
    /// Links between sites during the phase with faults.
    pub remote: Link,
    /// When the faults stop.
    pub heal_ns: u64,
    /// Of 100 dead processes, so many come back.
    pub restart_percent: u64,
    /// Of 100 that come back, so many do so under their old address.
    pub same_slot_percent: u64,
    /// How many addresses of other sites a process knows.
    pub seeds: usize,
    /// Everybody is joined to the second group too, with this chance in 100.
    pub second_group_percent: u64,
}

impl Plan {
    /// Draws a plan.
    pub fn draw(random: &mut Random, options: &Options) -> Plan {
        let span = options.members.end() - options.members.start() + 1;
        let processes = options.members.start() + random.below(span);
        let least = processes.div_ceil(3).max(1);
        let most = processes.clamp(1, 5).max(least);
        // One site half of the time: it is how most begin, and the quorum rule is another.
        let sites = if least == 1 && random.below(3) == 0 { 1 } else { least + random.below(most - least + 1) };
        let mut places: Vec<usize> = (0..sites as usize).collect();
        while places.len() < processes as usize {
            let site = random.below(sites) as usize;
            let here = places.iter().filter(|p| **p == site).count() as u64;
            if here < 3.max(processes.div_ceil(sites)) {
                places.push(site);
            }
        }
        let mut plan = Plan {
            places,
            sites: sites as usize,
            profile: Self::profile(random),
            steps: Vec::new(),
            local: quiet_local(),
            remote: quiet_remote(),
            heal_ns: options.safety_ns / 3 + random.below(options.safety_ns * 2 / 3),
            restart_percent: random.below(101),
            same_slot_percent: random.below(101),
            seeds: 1 + random.below(3) as usize,
            second_group_percent: 50 + random.below(51),
        };
        for process in 0..plan.places.len() {
            let late = random.below(4) == 0;
            let when = if late { random.below(plan.heal_ns) } else { random.below(300 * MILLISECOND) };
            plan.steps.push((when, Step::Start(process)));
        }
        if options.faults {
            plan.draw_faults(random);
        }
        let heal_ns = plan.heal_ns;
        plan.steps.push((heal_ns, Step::Heal));
        plan
    }

    fn profile(random: &mut Random) -> Profile {
        let stateful = random.below(4) > 0;
        let one_domain = random.below(4) > 0;
        let group = |random: &mut Random, name| {
            let domain = if one_domain { 0 } else { u32::from(name) };
            (name, JoinOptions { wants_state: stateful, sending_view: random.below(4) == 0, domain })
        };
        let mut groups = vec![group(random, 0)];
        if random.below(3) == 0 {
            groups.push(group(random, 1));
        }
        let mut kinds = [0; 4];
        for kind in &mut kinds[..3] {
            *kind = random.below(5) * random.below(5);
        }
        kinds[random.below(3) as usize] += 5;
        if random.below(2) == 0 {
            kinds[3] = 1;
        }
        let fragment = [256, 512, 1024, 4096][random.below(4) as usize];
        Profile {
            groups,
            pause_ns: (1 + random.below(30)) * MILLISECOND,
            kinds,
            safe_percent: [0, 10, 50, 100][random.below(4) as usize],
            react_percent: [0, 5, 30][random.below(3) as usize],
            fragment,
            least: 0,
            large: [4 * fragment, 20_000, 100_000][random.below(3) as usize],
            leave_permille: [0, 2, 10][random.below(3) as usize],
            close_permille: [0, 0, 3][random.below(3) as usize],
            budget: [15, 40, 120][random.below(3) as usize],
        }
    }

    fn draw_faults(&mut self, random: &mut Random) {
        let on = |random: &mut Random| random.below(2) == 0;
        // Packets.
        for link in [&mut self.local, &mut self.remote] {
            let strength = if link.delay_ns < 50 * MICROSECOND { 4 } else { 1 };
            if on(random) {
                link.loss = random.below(MILLION / 5) / strength;
            }
            if on(random) {
                link.duplicate = random.below(MILLION / 5) / strength;
            }
            if on(random) {
                link.reorder = random.below(MILLION / 3) / strength;
            }
        }
        if on(random) {
            self.remote.delay_ns = random.below(5 * MILLISECOND);
            self.remote.jitter_ns = random.below(5 * MILLISECOND);
        }
        // Processes and partitions.
        let mut times = |random: &mut Random, most: u64, draw: &dyn Fn(&mut Random) -> Step| {
            for _ in 0..=random.below(most) {
                let step = draw(random);
                self.steps.push((random.below(self.heal_ns), step));
            }
        };
        if on(random) {
            times(random, 4, &|_| Step::Crash);
        }
        if random.below(4) == 0 {
            times(random, 2, &|_| Step::CrashSite);
        }
        if on(random) {
            times(random, 3, &|random| {
                let scale = [20 * MILLISECOND, 500 * MILLISECOND, 4 * SECOND][random.below(3) as usize];
                Step::Hang(1 + random.below(scale))
            });
        }
        if on(random) {
            times(random, 3, &|random| Step::Lag(1 + random.below(SECOND)));
        }
        if self.sites > 1 && on(random) {
            times(random, 3, &|random| {
                let scale = [100 * MILLISECOND, SECOND, 4 * SECOND][random.below(3) as usize];
                Step::Partition { one_way: random.below(3) == 0, lasts_ns: 1 + random.below(scale) }
            });
        }
    }

    /// Sets a world up for this plan.
    pub fn configure(&self, random: &mut Random, world: &mut World) {
        let template = &mut world.template;
        template.fragment = self.profile.fragment;
        template.max_message = 1 << 20;
        template.window = [16 << 10, 64 << 10, 1 << 20][random.below(3) as usize];
        template.window = template.window.max(4 * self.profile.fragment as u64);
        template.datagram_network = [1_400, 1_400, 8_000][random.below(3) as usize];
        template.datagram_local = [1_400, 16_000, 60_000][random.below(3) as usize];
        template.join_backlog = 16 << 20;
        if random.below(3) == 0 {
            template.stall_after_ns = SECOND;
            template.suspect_max_ns = SECOND;
        }
        world.inbox_limit = [32, 128, 512][random.below(3) as usize];
        world.state_len = [24, 3_000, 40_000][random.below(3) as usize];
        world.notice_ns = [MILLISECOND, 20 * MILLISECOND, 300 * MILLISECOND][random.below(3) as usize];
        world.network.local = self.local;
        world.network.remote = self.remote;
    }
}

/// The link within a site without faults.
pub fn quiet_local() -> Link {
    Link { delay_ns: 10 * MICROSECOND, jitter_ns: 10 * MICROSECOND, ..Link::default() }
}

/// The link between sites without faults.
pub fn quiet_remote() -> Link {
    Link { delay_ns: 100 * MICROSECOND, jitter_ns: 100 * MICROSECOND, ..Link::default() }
}
