//! The faults that a seed can draw, as steps of a plan and as properties of links and clocks.
//!
//! | Fault | Strength |
//! |---|---|
//! | loss, of all packets or of one kind | up to 30 % |
//! | bursts of losses | up to 60 packets of a way |
//! | duplication | up to 50 % |
//! | reordering, delay | up to 33 %, up to 10 ms |
//! | flipped bits, truncation | up to 3 % each |
//! | clogs: a way holds everything for a while | up to 1 s |
//! | datagrams to the dead that their host refuses; some to the living that are said to be refused | all; up to 30 % |
//! | partitions: two sides, one way, two sites that only others reach both | up to 4 s |
//! | pauses of a process | 1 ns to 4 s, below and above the timeout |
//! | slow consumers | an event each 10 ms |
//! | clock drift, per process | up to 500 ppm |
//! | crashes of processes and sites, restarts under the old address and under new ones | up to 5 and 3 |
//! | a crash loop: a process is restarted and killed again and again | up to 8 times |
//! | crashes, leaves and joins at one moment | up to 6 |
//! | all processes, or all sites, die and come back | once |
//! | sites that stay dead after the faults stopped | a minority |
//! | two sites that only others reach both, one way or both, for ever after the faults stopped | one pair |
//!
//! The wall clock may jump as it likes: the core has none, and what it is given as time never goes back. A packet with bad
//! bytes and a good checksum is not among the faults: members are trusted, links are not.
//! Owner: a plan. Invariant: a fault begins before the faults stop.

use super::link::{MILLION, all_but};
use super::plan::Plan;
use isis_protocol::random::Random;
use isis_protocol::time::{MICROSECOND, MILLISECOND, SECOND};
use isis_wire::packet::PacketKind;

/// A step of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The n-th process starts for the first time.
    Start(usize),
    /// One more process starts, on some site.
    Arrive,
    /// Somebody leaves a group.
    Leave,
    /// Somebody dies.
    Crash,
    /// A site dies.
    CrashSite,
    /// Everybody dies, and comes back.
    CrashAll {
        /// The sites die, and nobody is left to be told.
        sites: bool,
    },
    /// Whoever runs at one place dies, and is started there again, so many times more.
    CrashLoop {
        /// How often.
        left: u32,
        /// The longest time until it dies again.
        period_ns: u64,
    },
    /// Somebody gets no turns for so long.
    Hang(u64),
    /// Somebody takes events slowly for so long.
    Lag(u64),
    /// The sites are parted in two sides, for so long.
    Partition {
        /// In one direction only.
        one_way: bool,
        /// For so long.
        lasts_ns: u64,
    },
    /// Two sites do not reach each other, and both reach all others, for so long.
    Cut {
        /// In one direction only.
        one_way: bool,
        /// For so long.
        lasts_ns: u64,
    },
    /// Nothing gets through from one place to another for so long, and then all of it.
    Clog(u64),
}

/// A step and when it is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planned {
    /// When.
    pub at_ns: u64,
    /// Of what it decides then: who is hit, who comes back.
    pub seed: u64,
    /// What.
    pub step: Step,
}

fn on(random: &mut Random) -> bool {
    random.below(2) == 0
}

fn rarely(random: &mut Random) -> bool {
    random.below(5) == 0
}

/// Adds faults to a plan.
pub fn draw(random: &mut Random, plan: &mut Plan) {
    links(random, plan);
    if on(random) {
        plan.setting.drift_ppm = 1 + random.below(500);
    }
    let mut add = |random: &mut Random, most: u64, draw: &dyn Fn(&mut Random) -> Step| {
        for _ in 0..=random.below(most) {
            let step = draw(random);
            plan.steps.push(Planned { at_ns: random.below(plan.heal_ns), seed: random.next(), step });
        }
    };
    if on(random) {
        add(random, 5, &|_| Step::Crash);
    }
    if random.below(4) == 0 {
        add(random, 3, &|_| Step::CrashSite);
    }
    if random.below(6) == 0 {
        add(random, 2, &|random| Step::CrashLoop {
            left: 1 + random.below(8) as u32,
            period_ns: [5, 50, 300][random.below(3) as usize] * MILLISECOND,
        });
    }
    if random.below(10) == 0 {
        add(random, 1, &|random| Step::CrashAll { sites: on(random) });
    }
    if on(random) {
        add(random, 3, &|random| Step::Hang(1 + pause(random)));
    }
    if random.below(3) == 0 {
        add(random, 3, &|random| Step::Lag(1 + random.below(SECOND)));
    }
    if random.below(3) == 0 {
        add(random, 4, &|random| {
            let scale = [20 * MILLISECOND, SECOND][random.below(2) as usize];
            Step::Clog(1 + random.below(scale))
        });
    }
    if plan.sites > 1 && on(random) {
        add(random, 3, &|random| Step::Partition { one_way: random.below(3) == 0, lasts_ns: 1 + length(random) });
    }
    if plan.sites > 2 && random.below(3) == 0 {
        add(random, 2, &|random| Step::Cut { one_way: on(random), lasts_ns: 1 + length(random) });
    }
    if random.below(4) == 0 {
        // Everything at one moment.
        let at_ns = random.below(plan.heal_ns);
        for _ in 0..2 + random.below(5) {
            let step = [Step::Crash, Step::Leave, Step::Arrive][random.below(3) as usize];
            plan.steps.push(Planned { at_ns, seed: random.next(), step });
        }
    }
    if plan.sites > 2 && random.below(6) == 0 {
        plan.lost_sites = 1 + random.below((plan.sites as u64 - 1) / 2) as usize;
    }
}

fn pause(random: &mut Random) -> u64 {
    let scale = [20 * MILLISECOND, 500 * MILLISECOND, 4 * SECOND][random.below(3) as usize];
    random.below(scale)
}

fn length(random: &mut Random) -> u64 {
    let scale = [100 * MILLISECOND, SECOND, 4 * SECOND][random.below(3) as usize];
    random.below(scale)
}

fn links(random: &mut Random, plan: &mut Plan) {
    for link in [&mut plan.local, &mut plan.remote] {
        // Within a site only a full socket buffer loses packets: less often.
        let strength = if link.delay_ns < 50 * MICROSECOND { 4 } else { 1 };
        if on(random) {
            link.loss = random.below(MILLION * 3 / 10) / strength;
            if rarely(random) {
                let kinds =
                    [PacketKind::Data, PacketKind::Row, PacketKind::Nak, PacketKind::Message, PacketKind::Channel];
                link.spared = all_but(kinds[random.below(5) as usize]);
            }
        }
        if rarely(random) {
            link.burst = random.below(MILLION / 100) / strength;
            link.burst_len = 1 + random.below(60);
        }
        if on(random) {
            let most = if rarely(random) { MILLION / 2 } else { MILLION / 5 };
            link.duplicate = random.below(most) / strength;
        }
        if on(random) {
            link.reorder = random.below(MILLION / 3) / strength;
        }
        if rarely(random) {
            link.flip = random.below(MILLION * 3 / 100);
        }
        if rarely(random) {
            link.truncate = random.below(MILLION * 3 / 100);
        }
    }
    if on(random) {
        plan.remote.delay_ns = random.below(5 * MILLISECOND);
        plan.remote.jitter_ns = random.below(5 * MILLISECOND);
    }
}
