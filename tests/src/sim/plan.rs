//! What a seed draws: sites, processes, groups, configuration, behaviours and faults.
//!
//! Owner: a run. Invariants: a plan depends on the seed and the options alone; each step has a seed of its own for what it
//! decides when it is carried out, so that taking one step out of a plan (see [`super::reduce`]) leaves the others what they
//! were. Each run switches on a random subset of the faults with random strength ("swarm"): a run with all of them at once
//! hardly gets anywhere, and hides what a single one does.

use super::behaviour::Profile;
use super::faults::{self, Planned, Step};
use super::link::Link;
use super::reduce::Reduction;
use super::world::World;
use isis_protocol::random::Random;
use isis_protocol::time::{MICROSECOND, MILLISECOND, SECOND};
use isis_protocol::{Handover, JoinOptions, TotalOrder};
use std::ops::RangeInclusive;

/// What the caller decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many processes a run begins with.
    pub members: RangeInclusive<u64>,
    /// Switch faults on.
    pub faults: bool,
    /// How long the phase with faults is, at most. Most runs are brief: a third of it, with timeouts that are shorter still.
    pub safety_ns: u64,
    /// How long everything may take after the faults stopped.
    pub healing_ns: u64,
    /// In so many of 100 runs all processes know how many sites there are (R12).
    pub expected_percent: u64,
    /// In so many of 100 runs with faults two sites stay cut from each other for ever.
    pub cut_percent: u64,
    /// Every run has two or three groups, and most of its ABCASTs go to several of them.
    pub several_groups: bool,
    /// What is taken out of the plan that the seed draws.
    pub reductions: Vec<Reduction>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            members: 1..=9,
            faults: true,
            safety_ns: 3 * SECOND,
            healing_ns: 40 * SECOND,
            expected_percent: 25,
            cut_percent: 15,
            several_groups: false,
            reductions: Vec::new(),
        }
    }
}

/// How the world is set up, besides the links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// `Config::window`.
    pub window: u64,
    /// `Config::datagram_network`.
    pub datagram_network: usize,
    /// `Config::datagram_local`.
    pub datagram_local: usize,
    /// `Config::stall_after_ns`.
    pub stall_after_ns: u64,
    /// `Config::suspect_min_ns`.
    pub suspect_min_ns: u64,
    /// `Config::suspect_max_ns`.
    pub suspect_max_ns: u64,
    /// `Config::linger_ns`.
    pub linger_ns: u64,
    /// How long the operator waits for a quorum.
    pub operator_ns: u64,
    /// Packets in a socket buffer.
    pub inbox_limit: usize,
    /// Bytes of a state transfer.
    pub state_len: usize,
    /// The latest delay of a death notice.
    pub notice_ns: u64,
    /// How long a process sleeps on after a packet came.
    pub wake_ns: u64,
    /// A process's clock is up to so many millionths too fast or too slow.
    pub drift_ppm: u64,
    /// Of 100 datagrams to where nobody runs, so many are refused.
    pub refused_percent: u64,
    /// Of 1,000 datagrams to a process, so many are said to be.
    pub false_refusals_permille: u64,
    /// `Config::handover`.
    pub handover: Handover,
    /// Chunks of each process's memory that its site-mates read where they lie.
    pub arena_chunks: u32,
    /// `Config::placed_from`.
    pub placed_from: usize,
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
    /// Steps; their order is that of the draw.
    pub steps: Vec<Planned>,
    /// Links within sites during the phase with faults.
    pub local: Link,
    /// Links between sites during the phase with faults.
    pub remote: Link,
    /// The rest of the setting.
    pub setting: Setting,
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
    /// So many sites, a minority, have failed for ever when the faults stop.
    pub lost_sites: usize,
}

impl Plan {
    /// Draws a plan.
    pub fn draw(random: &mut Random, options: &Options) -> Plan {
        let span = options.members.end() - options.members.start() + 1;
        let processes = options.members.start() + random.below(span);
        let least = processes.div_ceil(3).max(1);
        let most = processes.clamp(1, 5).max(least);
        // One site a third of the time: it is how most begin, and the quorum rule is another.
        let sites = if least == 1 && random.below(3) == 0 { 1 } else { least + random.below(most - least + 1) };
        let mut places: Vec<usize> = (0..sites as usize).collect();
        while places.len() < processes as usize {
            let site = random.below(sites) as usize;
            let here = places.iter().filter(|p| **p == site).count() as u64;
            if here < 3.max(processes.div_ceil(sites)) {
                places.push(site);
            }
        }
        // A long run has the time for the timeouts of the default configuration; a brief one is three times as cheap.
        let brief = random.below(10) > 0;
        let safety_ns = if brief { options.safety_ns / 3 } else { options.safety_ns };
        let profile = Self::profile(random, brief);
        let mut plan = Plan {
            places,
            sites: sites as usize,
            setting: Self::setting(random, brief, profile.fragment),
            profile,
            steps: Vec::new(),
            local: quiet_local(),
            remote: quiet_remote(),
            heal_ns: safety_ns / 3 + random.below(safety_ns * 2 / 3),
            restart_percent: random.below(101),
            same_slot_percent: random.below(101),
            seeds: 1 + random.below(3) as usize,
            second_group_percent: 50 + random.below(51),
            lost_sites: 0,
        };
        for process in 0..plan.places.len() {
            let late = random.below(4) == 0;
            let early = if brief { 100 } else { 300 } * MILLISECOND;
            let at_ns = if late { random.below(plan.heal_ns) } else { random.below(early) };
            plan.steps.push(Planned { at_ns, seed: random.next(), step: Step::Start(process) });
        }
        if options.faults {
            faults::draw(random, &mut plan);
        }
        plan
    }

    /// Which groups order their ABCASTs by priorities, and how many processes ask for the other scheme. From a generator of its
    /// own, so that the rest of the plan is what it was without this choice.
    pub fn draw_total_orders(&mut self, random: &mut Random) {
        for (_, options) in &mut self.profile.groups {
            if random.below(3) == 0 {
                options.total_order = TotalOrder::Priority;
            }
        }
        self.profile.contrary_percent = [0, 0, 30][random.below(3) as usize];
    }

    /// Whether hosts refuse what is sent to the dead, and how often that is said of the living. From a generator of its own, as
    /// above.
    pub fn draw_refusals(&mut self, random: &mut Random) {
        self.setting.refused_percent = [0, 50, 100][random.below(3) as usize];
        self.setting.false_refusals_permille = [0, 0, 2, 30, 300][random.below(5) as usize];
    }

    /// How soon the sequencers of groups pass their task on. From a generator of its own, as above.
    pub fn draw_handovers(&mut self, random: &mut Random) {
        let after = [0, 1, 1, 4, 20][random.below(5) as usize];
        self.setting.handover = Handover { after, pause_ns: [0, 1, 10][random.below(3) as usize] * MILLISECOND };
    }

    /// How many chunks of its memory a process shares with its site-mates: few, so that they are used again soon, and run out. From
    /// a generator of its own, as above.
    pub fn draw_arenas(&mut self, random: &mut Random) {
        self.setting.arena_chunks = [0, 2, 4, 12][random.below(4) as usize];
        self.setting.placed_from = [0, 0, 256][random.below(3) as usize];
    }

    /// See [`Options::several_groups`].
    pub fn exercise_several_groups(&mut self, random: &mut Random) {
        let groups = &mut self.profile.groups;
        for name in groups.len() as u8..2 + random.below(2) as u8 {
            let options = JoinOptions { domain: u32::from(name) * groups[0].1.domain.min(1), ..groups[0].1.clone() };
            groups.push((name, options));
        }
        let all_take = random.below(4) > 0;
        groups.iter_mut().filter(|_| all_take).for_each(|(_, options)| options.sending_view = false);
        self.profile.kinds[2] += 10;
        self.profile.multi_percent = 50 + random.below(51);
        self.second_group_percent = 100 - random.below(3) * 20;
    }

    fn profile(random: &mut Random, brief: bool) -> Profile {
        let stateful = random.below(4) > 0;
        let one_domain = random.below(4) > 0;
        let group = |random: &mut Random, name| {
            let domain = if one_domain { 0 } else { u32::from(name) };
            let sending_view = random.below(4) == 0;
            (name, JoinOptions { wants_state: stateful, sending_view, domain, ..JoinOptions::default() })
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
        // Apart from the other draws, which stay as they are.
        let mut aside = Random::new(random.clone().next() ^ 0xc11e);
        let client_percent = if aside.below(3) == 0 { 10 + aside.below(50) } else { 0 };
        let fragment = [256, 512, 1024, 4096][random.below(4) as usize];
        // Beyond `SHORT` a fragment may reach into the next chunk.
        let long = [9_000, 40_000, 100_000];
        let budgets = if brief { [8, 20, 50] } else { [15, 40, 120] };
        let mut profile = Profile {
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
            client_percent,
            contrary_percent: 0,
            multi_percent: if aside.below(2) == 0 { 0 } else { 10 + aside.below(90) },
            budget: budgets[random.below(3) as usize],
        };
        if aside.below(4) == 0 {
            profile.fragment = long[aside.below(3) as usize];
        }
        profile
    }

    fn setting(random: &mut Random, brief: bool, fragment: usize) -> Setting {
        let window = [16 << 10, 64 << 10, 1 << 20][random.below(3) as usize];
        let (mut suspect_min_ns, mut suspect_max_ns, mut stall_after_ns) = (150 * MILLISECOND, 2 * SECOND, 2 * SECOND);
        if brief {
            suspect_min_ns = 100 * MILLISECOND;
            suspect_max_ns = [200, 400][random.below(2) as usize] * MILLISECOND;
            stall_after_ns = [300, 600][random.below(2) as usize] * MILLISECOND;
        } else if random.below(3) == 0 {
            (suspect_max_ns, stall_after_ns) = (SECOND, SECOND);
        }
        Setting {
            window: window.max(4 * fragment as u64),
            datagram_network: [1_400, 1_400, 8_000][random.below(3) as usize],
            datagram_local: [1_400, 16_000, 60_000][random.below(3) as usize],
            stall_after_ns,
            suspect_min_ns,
            suspect_max_ns,
            linger_ns: if brief { 500 * MILLISECOND } else { 2 * SECOND },
            operator_ns: if brief { 3 * SECOND / 2 } else { 8 * SECOND },
            inbox_limit: [32, 128, 512][random.below(3) as usize],
            state_len: [24, 3_000, 40_000][random.below(3) as usize],
            notice_ns: [MILLISECOND, 20 * MILLISECOND, 300 * MILLISECOND][random.below(3) as usize],
            wake_ns: [2, 100, 400][random.below(3) as usize] * MICROSECOND,
            drift_ppm: 0,
            refused_percent: 0,
            false_refusals_permille: 0,
            handover: Handover { after: 0, pause_ns: 0 },
            arena_chunks: 0,
            placed_from: 0,
        }
    }

    /// Sets a world up for this plan.
    pub fn configure(&self, world: &mut World) {
        let (template, setting) = (&mut world.template, &self.setting);
        template.fragment = self.profile.fragment;
        template.max_message = 1 << 20;
        template.join_backlog = 16 << 20;
        template.window = setting.window;
        template.datagram_network = setting.datagram_network;
        template.datagram_local = setting.datagram_local;
        template.stall_after_ns = setting.stall_after_ns;
        template.suspect_min_ns = setting.suspect_min_ns;
        template.suspect_max_ns = setting.suspect_max_ns;
        template.linger_ns = setting.linger_ns;
        template.handover = setting.handover;
        template.placed_from = setting.placed_from;
        world.arena_chunks = setting.arena_chunks;
        world.inbox_limit = setting.inbox_limit;
        world.state_len = setting.state_len;
        world.notice_ns = setting.notice_ns;
        world.wake_ns = setting.wake_ns;
        world.drift_ppm = setting.drift_ppm;
        world.refused_percent = setting.refused_percent;
        world.false_refusals_permille = setting.false_refusals_permille;
        world.network.local = self.local;
        world.network.remote = self.remote;
    }

    /// A process of the plan runs on this site, sooner or later.
    pub fn has_process_on(&self, site: usize) -> bool {
        let is_here = |step: Step| matches!(step, Step::Start(process) if self.places[process] == site);
        self.steps.iter().any(|planned| planned.at_ns < u64::MAX && is_here(planned.step))
    }

    /// The plan as text: what is left of it when it has been shrunk, too.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let started = |p: &usize| self.steps.iter().any(|s| s.step == Step::Start(*p) && s.at_ns < self.heal_ns);
        let places: Vec<String> = (0..self.places.len())
            .filter(started)
            .map(|process| format!("{process} on site {}", self.places[process]))
            .collect();
        text.push_str(&format!("processes: {} of {} sites\n", places.join(", "), self.sites));
        text.push_str(&format!("applications: {:?}\n", self.profile));
        for (name, link, quiet) in [("within", self.local, quiet_local()), ("between", self.remote, quiet_remote())] {
            if link != quiet {
                text.push_str(&format!("links {name} sites: {link:?}\n"));
            }
        }
        text.push_str(&format!("setting: {:?}\n", self.setting));
        text.push_str(&format!(
            "{} % of the dead come back, {} sites fail for ever\n",
            self.restart_percent, self.lost_sites
        ));
        let mut steps: Vec<(usize, &Planned)> =
            self.steps.iter().enumerate().filter(|(_, planned)| planned.at_ns < self.heal_ns).collect();
        steps.sort_by_key(|(number, planned)| (planned.at_ns, *number));
        for (number, planned) in steps {
            text.push_str(&format!(
                "{:10.6} s  step {number}: {:?}\n",
                planned.at_ns as f64 / SECOND as f64,
                planned.step
            ));
        }
        text.push_str(&format!("{:10.6} s  the faults stop\n", self.heal_ns as f64 / SECOND as f64));
        text
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
