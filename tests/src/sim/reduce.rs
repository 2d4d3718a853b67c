//! Reductions: what can be taken out of a plan, and how that is written down.
//!
//! A shrunk run is its seed and a list of reductions, `seed 7, step=4,process=2,budget=3,no=loss`: the plan is drawn as ever
//! and then made smaller. So it can be replayed from a command line as long as the seed itself can.
//! Owner: the options of a run. Invariant: a reduction never adds anything, and changes nothing but what it names.

use super::faults::Step;
use super::link::Link;
use super::plan::{Plan, quiet_local, quiet_remote};
use isis_protocol::TotalOrder;
use isis_protocol::time::{MICROSECOND, MILLISECOND};
use std::fmt;
use std::str::FromStr;

/// One thing less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    /// Without the step of this number.
    Step(usize),
    /// Without this process.
    Process(usize),
    /// Each process multicasts so often at most.
    Budget(u32),
    /// The faults stop after so many milliseconds.
    Until(u64),
    /// Without this.
    No(Trait),
}

macro_rules! traits {
    ($($name:ident $text:literal $what:literal;)*) => {
        /// A part of a plan that is there or not.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Trait {
            $(#[doc = $what] $name,)*
        }

        /// All of them, and what the command line calls them.
        pub const TRAITS: &[(Trait, &str)] = &[$((Trait::$name, $text)),*];
    };
}

traits! {
    Loss "loss" "Loss and bursts, and which kinds of packets are spared.";
    Duplicates "duplicates" "Duplication.";
    Reordering "reordering" "Reordering.";
    Damage "damage" "Flipped bits and truncation.";
    Delay "delay" "Delay between sites, and late wake-ups.";
    Drift "drift" "Clock drift.";
    Refusals "refusals" "Refused datagrams, false ones too.";
    Restarts "restarts" "The dead that come back (but for those who have to).";
    LostSites "lost-sites" "Sites that fail for ever.";
    SecondGroup "second-group" "The second group.";
    State "state" "State transfer.";
    SendingView "sending-view" "Sending-view mode.";
    Priority "priority" "Total order by priorities, and the wish for it.";
    Fifo "fifo" "FIFO multicasts.";
    Causal "causal" "Causal multicasts.";
    Total "total" "ABCASTs.";
    Global "global" "GBCASTs.";
    Safe "safe" "Safe multicasts.";
    Reactions "reactions" "Answers to deliveries.";
    Leaves "leaves" "Leaving and closing.";
    Clients "clients" "Clients of groups: all join as members.";
    SeveralGroups "several-groups" "ABCASTs to several groups.";
    Long "long" "Long messages.";
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reduction::Step(number) => write!(f, "step={number}"),
            Reduction::Process(number) => write!(f, "process={number}"),
            Reduction::Budget(most) => write!(f, "budget={most}"),
            Reduction::Until(milliseconds) => write!(f, "until={milliseconds}"),
            Reduction::No(which) => {
                let text = TRAITS.iter().find(|(it, _)| it == which).map_or("", |(_, text)| *text);
                write!(f, "no={text}")
            }
        }
    }
}

impl FromStr for Reduction {
    type Err = String;

    fn from_str(text: &str) -> Result<Reduction, String> {
        let unknown = || format!("no such reduction: {text}");
        let (name, value) = text.split_once('=').ok_or_else(unknown)?;
        let number = || value.parse::<u64>().map_err(|_| unknown());
        Ok(match name {
            "step" => Reduction::Step(number()? as usize),
            "process" => Reduction::Process(number()? as usize),
            "budget" => Reduction::Budget(u32::try_from(number()?).map_err(|_| unknown())?),
            "until" => Reduction::Until(number()?),
            "no" => Reduction::No(TRAITS.iter().find(|(_, text)| *text == value).ok_or_else(unknown)?.0),
            _ => return Err(unknown()),
        })
    }
}

/// A list of reductions as the command line takes it.
pub fn text(reductions: &[Reduction]) -> String {
    reductions.iter().map(Reduction::to_string).collect::<Vec<_>>().join(",")
}

/// Makes a plan smaller. Steps and processes keep the numbers that they have in the whole plan.
pub fn apply(plan: &mut Plan, reductions: &[Reduction]) {
    let mut without: Vec<usize> = Vec::new();
    for reduction in reductions {
        match *reduction {
            Reduction::Step(number) => without.push(number),
            Reduction::Process(process) => {
                let its = |(number, planned): (usize, &super::faults::Planned)| {
                    (planned.step == Step::Start(process)).then_some(number)
                };
                without.extend(plan.steps.iter().enumerate().filter_map(its));
            }
            Reduction::Budget(most) => plan.profile.budget = plan.profile.budget.min(most),
            Reduction::Until(milliseconds) => plan.heal_ns = plan.heal_ns.min(milliseconds * MILLISECOND),
            Reduction::No(which) => remove(plan, which),
        }
    }
    for number in without {
        if let Some(planned) = plan.steps.get_mut(number) {
            // Later than the end: it keeps its place in the list, so that the others keep their numbers.
            planned.at_ns = u64::MAX;
        }
    }
}

fn remove(plan: &mut Plan, which: Trait) {
    let links =
        |plan: &mut Plan, change: fn(&mut Link)| [&mut plan.local, &mut plan.remote].into_iter().for_each(change);
    let profile = &mut plan.profile;
    match which {
        Trait::Loss => links(plan, |link| (link.loss, link.burst, link.spared) = (0, 0, 0)),
        Trait::Duplicates => links(plan, |link| link.duplicate = 0),
        Trait::Reordering => links(plan, |link| link.reorder = 0),
        Trait::Damage => links(plan, |link| (link.flip, link.truncate) = (0, 0)),
        Trait::Delay => {
            let (local, remote) = (quiet_local(), quiet_remote());
            (plan.local.delay_ns, plan.local.jitter_ns) = (local.delay_ns, local.jitter_ns);
            (plan.remote.delay_ns, plan.remote.jitter_ns) = (remote.delay_ns, remote.jitter_ns);
            plan.setting.wake_ns = plan.setting.wake_ns.min(2 * MICROSECOND);
        }
        Trait::Drift => plan.setting.drift_ppm = 0,
        Trait::Refusals => (plan.setting.refused_percent, plan.setting.false_refusals_permille) = (0, 0),
        Trait::Restarts => plan.restart_percent = 0,
        Trait::LostSites => plan.lost_sites = 0,
        Trait::SecondGroup => profile.groups.truncate(1),
        Trait::State => profile.groups.iter_mut().for_each(|(_, options)| options.wants_state = false),
        Trait::SendingView => profile.groups.iter_mut().for_each(|(_, options)| options.sending_view = false),
        Trait::Priority => {
            profile.groups.iter_mut().for_each(|(_, options)| options.total_order = TotalOrder::Sequencer);
            profile.contrary_percent = 0;
        }
        Trait::Fifo => silence(&mut profile.kinds, 0),
        Trait::Causal => silence(&mut profile.kinds, 1),
        Trait::Total => silence(&mut profile.kinds, 2),
        Trait::Global => silence(&mut profile.kinds, 3),
        Trait::Safe => profile.safe_percent = 0,
        Trait::Reactions => profile.react_percent = 0,
        Trait::Leaves => (profile.leave_permille, profile.close_permille) = (0, 0),
        Trait::Clients => profile.client_percent = 0,
        Trait::SeveralGroups => profile.multi_percent = 0,
        Trait::Long => profile.large = profile.large.min(100),
    }
}

/// No more messages of this kind, unless no other kind is left.
fn silence(kinds: &mut [u64; 4], which: usize) {
    let others: u64 = (0..4).filter(|&kind| kind != which).map(|kind| kinds[kind]).sum();
    if others > 0 {
        kinds[which] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::plan::Options;
    use isis_protocol::random::Random;

    #[test]
    fn text_and_back() {
        let mut all = vec![Reduction::Step(3), Reduction::Process(0), Reduction::Budget(9), Reduction::Until(250)];
        all.extend(TRAITS.iter().map(|(which, _)| Reduction::No(*which)));
        let parsed: Result<Vec<Reduction>, String> = text(&all).split(',').map(str::parse).collect();
        assert_eq!(parsed, Ok(all));
        for wrong in ["", "step", "step=", "step=x", "no=sense", "more=loss"] {
            assert!(wrong.parse::<Reduction>().is_err(), "{wrong}");
        }
    }

    /// What is taken out of a plan leaves the rest of it as it was.
    #[test]
    fn the_rest_stays() {
        let plan = Plan::draw(&mut Random::new(5), &Options { members: 5..=5, ..Options::default() });
        let mut less = plan.clone();
        apply(&mut less, &[Reduction::Process(1), Reduction::No(Trait::Loss), Reduction::Budget(2)]);
        let gone: Vec<usize> = (0..plan.steps.len()).filter(|&n| plan.steps[n] != less.steps[n]).collect();
        assert_eq!(gone.iter().map(|&n| plan.steps[n].step).collect::<Vec<_>>(), [Step::Start(1)]);
        assert_eq!(less.steps[gone[0]].at_ns, u64::MAX);
        assert_eq!((less.local.loss, less.remote.loss, less.profile.budget), (0, 0, 2));
        assert_eq!((less.heal_ns, less.remote.duplicate), (plan.heal_ns, plan.remote.duplicate));
    }
}
