//! What a seed draws: hosts, members, who is a client, what the applications do, and a fault every two seconds.
//!
//! Owner: the rig. Invariants: a plan depends on seed, length and numbers of processes and clients alone; what and where is
//! reproducible, when exactly is the machine's. Faults that may cost a host its vote never strike more hosts at a time (and
//! for a while after) than the system can spare: a system that lost its quorum for good has nothing left to show.

use crate::switch::{Link, MILLION};
use isis_protocol::random::Random;
use isis_protocol::time::{MICROSECOND, MILLISECOND, SECOND};
use std::fmt;
use std::ops::Range;

/// A fault begins every so often.
pub const EVERY_NS: u64 = 2 * SECOND;
/// Before the first fault.
const BEGIN_NS: u64 = 3 * SECOND;
/// So long after a fault that may cost a vote its host is not counted on.
const RECOVERY_NS: u64 = 6 * SECOND;

/// A fault.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// These directed pairs of hosts (all, if empty) have such a link. The name says what it does.
    Weather(&'static str, Vec<(usize, usize)>, Link),
    /// These directed pairs pass nothing. The name says who is cut off from whom.
    Cut(&'static str, Vec<(usize, usize)>),
    /// These members are stopped (SIGSTOP), and then go on.
    Stop(Vec<usize>),
    /// These members are killed (SIGKILL), and started again at the fault's end.
    Kill(Vec<usize>),
    /// This member takes one event at a time, with so many nanoseconds between.
    Lag(usize, u64),
    /// This member leaves a group and joins it again.
    Rejoin(usize),
}

impl Fault {
    /// For counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Weather(kind, ..) | Fault::Cut(kind, _) => kind,
            Fault::Stop(_) => "stop",
            Fault::Kill(members) if members.len() > 1 => "kill of a host",
            Fault::Kill(_) => "kill",
            Fault::Lag(..) => "slow consumer",
            Fault::Rejoin(_) => "leave and join",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Weather(kind, pairs, _) if pairs.is_empty() => write!(f, "{kind} on all links"),
            Fault::Weather(kind, pairs, _) | Fault::Cut(kind, pairs) => write!(f, "{kind} on {pairs:?}"),
            Fault::Stop(members) | Fault::Kill(members) => write!(f, "{} of seats {members:?}", self.kind()),
            Fault::Lag(member, _) | Fault::Rejoin(member) => write!(f, "{} at seat {member}", self.kind()),
        }
    }
}

/// A fault with its time.
#[derive(Clone, PartialEq, Debug)]
pub struct Planned {
    /// When it begins, nanoseconds from the start.
    pub at_ns: u64,
    /// How long it lasts.
    pub lasts_ns: u64,
    /// What.
    pub fault: Fault,
}

/// See the module.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// How many hosts.
    pub hosts: usize,
    /// The host of each process.
    pub places: Vec<usize>,
    /// Which of them are clients of the groups, not members.
    pub clients: Vec<bool>,
    /// By time.
    pub faults: Vec<Planned>,
}

/// Draws, and keeps account of the hosts that are not counted on.
struct Drawing {
    random: Random,
    places: Vec<usize>,
    hosts: usize,
    /// Host, and until when it is not counted on.
    disturbed: Vec<(usize, u64)>,
}

impl Plan {
    /// Draws the plan of a seed. Of the `members` so many are clients, at least one is none.
    pub fn draw(seed: u64, seconds: u64, members: usize, clients: usize) -> Plan {
        // One host in four has two members, so that the site link and the votes of sites are at work too.
        let hosts = (members - members / 4).max(1);
        let places: Vec<usize> = (0..members).map(|member| member % hosts).collect();
        let mut drawing = Drawing { random: Random::new(seed), places: places.clone(), hosts, disturbed: Vec::new() };
        let mut faults = Vec::new();
        let mut at_ns = BEGIN_NS;
        while at_ns < seconds * SECOND {
            faults.push(drawing.next(at_ns));
            at_ns += EVERY_NS;
        }
        Plan { hosts, places, clients: draw_clients(seed, members, clients), faults }
    }
}

/// By a generator of its own: who is a client changes nothing else.
fn draw_clients(seed: u64, members: usize, clients: usize) -> Vec<bool> {
    let mut random = Random::new(!seed);
    let mut are = vec![false; members];
    for _ in 0..clients.min(members.saturating_sub(1)) {
        let others: Vec<usize> = (0..members).filter(|member| !are[*member]).collect();
        are[others[random.below(others.len() as u64) as usize]] = true;
    }
    are
}

impl Drawing {
    fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.random.below(range.end - range.start)
    }

    fn host(&mut self) -> usize {
        self.random.below(self.hosts as u64) as usize
    }

    fn member(&mut self) -> usize {
        self.random.below(self.places.len() as u64) as usize
    }

    /// A host that can be spared for so long, if one can be.
    fn spared(&mut self, at_ns: u64, lasts_ns: u64) -> Option<usize> {
        self.disturbed.retain(|(_, until)| *until > at_ns);
        let host = self.host();
        let others = (0..self.hosts).filter(|h| *h != host && self.disturbed.iter().any(|d| d.0 == *h)).count();
        if others + 1 > (self.hosts - 1) / 2 {
            return None;
        }
        self.disturbed.push((host, at_ns + lasts_ns + RECOVERY_NS));
        Some(host)
    }

    fn next(&mut self, at_ns: u64) -> Planned {
        loop {
            let dice = self.random.below(18);
            let lasts_ns = match dice {
                8..=11 => self.within(300 * MILLISECOND..5 * SECOND),
                12..=14 => self.within(100 * MILLISECOND..4 * SECOND),
                15 => self.within(100 * MILLISECOND..3 * SECOND),
                _ => self.within(SECOND..4 * SECOND),
            };
            let fault = match dice {
                0..=7 => Some(self.weather(dice)),
                8..=11 => self.cut(dice, at_ns, lasts_ns),
                12..=15 => self.strike(dice, at_ns, lasts_ns),
                16 => {
                    let gap = self.within(MILLISECOND..40 * MILLISECOND);
                    Some(Fault::Lag(self.member(), gap))
                }
                _ => Some(Fault::Rejoin(self.member())),
            };
            if let Some(fault) = fault {
                return Planned { at_ns, lasts_ns, fault };
            }
        }
    }

    fn weather(&mut self, dice: u64) -> Fault {
        let percent = MILLION / 100;
        let mut link = Link::default();
        let kind = match dice {
            0 | 1 => {
                link.loss = self.within(percent..30 * percent);
                "loss"
            }
            2 => {
                link.duplicate = self.within(percent..50 * percent);
                "duplication"
            }
            3 => {
                link.reorder = self.within(percent..50 * percent);
                "reordering"
            }
            4 => {
                link.delay_ns = self.within(100 * MICROSECOND..60 * MILLISECOND);
                link.jitter_ns = self.within(0..40 * MILLISECOND);
                "delay"
            }
            5 => {
                link.corrupt = self.within(percent..20 * percent);
                "corruption"
            }
            6 => {
                link.truncate = self.within(percent..20 * percent);
                "truncation"
            }
            _ => {
                link.loss = self.within(0..10 * percent);
                link.duplicate = self.within(0..10 * percent);
                link.reorder = self.within(0..10 * percent);
                link.corrupt = self.within(0..5 * percent);
                link.jitter_ns = self.within(0..5 * MILLISECOND);
                "everything"
            }
        };
        let pairs = if self.random.below(2) == 0 { Vec::new() } else { self.around() };
        Fault::Weather(kind, pairs, link)
    }

    /// The links to, or from, one host.
    fn around(&mut self) -> Vec<(usize, usize)> {
        let (host, inward) = (self.host(), self.random.below(2) == 0);
        let others = (0..self.hosts).filter(|other| *other != host);
        others.map(|other| if inward { (other, host) } else { (host, other) }).collect()
    }

    fn cut(&mut self, dice: u64, at_ns: u64, lasts_ns: u64) -> Option<Fault> {
        let host = self.spared(at_ns, lasts_ns)?;
        let others: Vec<usize> = (0..self.hosts).filter(|other| *other != host).collect();
        let out = others.iter().map(|other| (host, *other));
        let into = others.iter().map(|other| (*other, host));
        let one = others[self.random.below(others.len() as u64) as usize];
        Some(match dice {
            8 => Fault::Cut("a host cut off", out.chain(into).collect()),
            9 if self.random.below(2) == 0 => Fault::Cut("a host that is not heard", out.collect()),
            9 => Fault::Cut("a host that hears nothing", into.collect()),
            10 => Fault::Cut("a pair cut", vec![(host, one), (one, host)]),
            _ => Fault::Cut("a pair cut one way", vec![(host, one)]),
        })
    }

    fn strike(&mut self, dice: u64, at_ns: u64, lasts_ns: u64) -> Option<Fault> {
        let host = self.spared(at_ns, lasts_ns)?;
        let here: Vec<usize> = (0..self.places.len()).filter(|member| self.places[*member] == host).collect();
        let one = vec![here[self.random.below(here.len() as u64) as usize]];
        Some(match dice {
            12 | 13 => Fault::Stop(one),
            14 => Fault::Kill(one),
            _ => Fault::Kill(here),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_is_one_plan_and_each_kind_of_fault_comes() {
        let plan = Plan::draw(7, 3600, 5, 1);
        assert_eq!(plan, Plan::draw(7, 3600, 5, 1));
        assert_ne!(plan, Plan::draw(8, 3600, 5, 1));
        assert_eq!((plan.hosts, plan.places.clone()), (4, vec![0, 1, 2, 3, 0]));
        let kinds: BTreeSet<&str> = plan.faults.iter().map(|planned| planned.fault.kind()).collect();
        assert_eq!(kinds.len(), 17, "{kinds:?}");
        for pair in plan.faults.windows(2) {
            assert_eq!(pair[1].at_ns - pair[0].at_ns, EVERY_NS);
        }
    }

    #[test]
    fn so_many_are_clients_and_the_faults_are_the_same() {
        for (clients, are) in [(0, 0), (2, 2), (5, 4), (9, 4)] {
            let plan = Plan::draw(7, 60, 5, clients);
            assert_eq!(plan.clients.iter().filter(|client| **client).count(), are, "{clients} wanted");
            assert_eq!(plan.faults, Plan::draw(7, 60, 5, 0).faults);
        }
        let drawn: BTreeSet<Vec<bool>> = (0..50).map(|seed| Plan::draw(seed, 0, 5, 1).clients).collect();
        assert_eq!(drawn.len(), 5, "anybody may be one");
    }

    #[test]
    fn a_majority_of_the_hosts_is_always_left_alone() {
        for members in 1..10 {
            let plan = Plan::draw(3, 600, members, 0);
            for planned in &plan.faults {
                let struck: BTreeSet<usize> = plan
                    .faults
                    .iter()
                    .filter(|other| other.at_ns <= planned.at_ns && planned.at_ns < other.at_ns + other.lasts_ns)
                    .filter_map(|other| match &other.fault {
                        Fault::Stop(members) | Fault::Kill(members) => Some(plan.places[members[0]]),
                        Fault::Cut(_, pairs) if pairs.len() == 2 * (plan.hosts - 1) => Some(pairs[0].0),
                        _ => None,
                    })
                    .collect();
                assert!(2 * struck.len() < plan.hosts, "{struck:?} of {}", plan.hosts);
            }
        }
    }
}
