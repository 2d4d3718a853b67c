//! A death after every single action: a short script is run once to count what each process does (packets it sends, events
//! it takes, questions to its site), then once for each process and each of its actions, and the process is killed right
//! after that one. Safety is checked, and liveness: the others settle, and their groups still work.
//!
//! ```text
//! set-up ─► counted: the script ─► settled? ─► last words ─► settled? ─► End ─► checker
//! ```
//! Owner: a test or the simulator's program. Invariant: up to the death, all runs of a script are one and the same run.

use super::application::{Application, Context};
use super::plan::quiet_remote;
use super::settled;
use super::world::{Passed, World};
use crate::checker::{self, Limits, Violation};
use crate::trace::{Event, Process};
use isis_protocol::event::Kind;
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_protocol::{Handover, JoinOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a script lets a process do; nothing, if it is dead or cannot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Start,
    Join,
    Leave,
    Close,
    Crash,
    Flush,
    Multicast(Kind, bool, usize),
}

/// A script: sites with so many places each, and what happens when.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// What the command line calls it.
    pub name: &'static str,
    /// What happens.
    pub what: &'static str,
    sites: &'static [usize],
    /// All know how many sites there are (R12).
    expects: bool,
    /// The task of ordering moves to whoever sent the last ABCAST.
    moves: bool,
    /// The actions from here on are counted, in milliseconds.
    from_ms: u64,
    write: fn(&mut Vec<(u64, usize, Act)>),
}

/// All scripts.
pub const SCRIPTS: &[Script] = &[
    Script {
        name: "founding",
        what: "three processes of one host start at once, find each other, found a system and a group",
        sites: &[3],
        expects: false,
        moves: false,
        from_ms: 0,
        write: three_at_once,
    },
    Script {
        name: "founding-by-majority",
        what: "three hosts of one process each found a system, with a majority of three expected sites",
        sites: &[1, 1, 1],
        expects: true,
        moves: false,
        from_ms: 0,
        write: three_at_once,
    },
    Script {
        name: "join",
        what: "a third member joins under traffic and gets the state",
        sites: &[3],
        expects: false,
        moves: false,
        from_ms: 400,
        write: third_joins,
    },
    Script {
        name: "join-between-hosts",
        what: "a member of a third host joins under traffic and gets the state",
        sites: &[1, 1, 1],
        expects: false,
        moves: false,
        from_ms: 400,
        write: third_joins,
    },
    Script {
        name: "view-change",
        what: "a member of four dies under traffic, and another one during the view change",
        sites: &[4],
        expects: false,
        moves: false,
        from_ms: 400,
        write: |acts| {
            members(acts, 4);
            traffic(acts, 4);
            acts.push((404, 1, Act::Crash));
        },
    },
    Script {
        name: "view-change-between-hosts",
        what: "the host of the oldest member dies under traffic, and another one during the view change",
        sites: &[1, 1, 1, 1, 1],
        expects: false,
        moves: false,
        from_ms: 400,
        write: |acts| {
            members(acts, 5);
            acts.push((404, 0, Act::Crash));
            acts.push((404, 1, Act::Multicast(Kind::Total, true, 100)));
        },
    },
    Script {
        name: "gbcast",
        what: "two GBCASTs under traffic",
        sites: &[3],
        expects: false,
        moves: false,
        from_ms: 400,
        write: |acts| {
            members(acts, 3);
            traffic(acts, 3);
            acts.push((403, 1, Act::Multicast(Kind::Global, false, 200)));
            acts.push((405, 2, Act::Multicast(Kind::Global, false, 30)));
        },
    },
    Script {
        name: "leave",
        what: "the oldest of three members leaves under traffic",
        sites: &[3],
        expects: false,
        moves: false,
        from_ms: 400,
        write: |acts| {
            members(acts, 3);
            traffic(acts, 3);
            acts.push((404, 0, Act::Leave));
        },
    },
    Script {
        name: "close",
        what: "the oldest of three processes closes under traffic",
        sites: &[3],
        expects: false,
        moves: false,
        from_ms: 400,
        write: |acts| {
            members(acts, 3);
            traffic(acts, 3);
            acts.push((404, 0, Act::Close));
        },
    },
    Script {
        name: "close-between-hosts",
        what: "the oldest and the youngest of the processes of five hosts close at once under traffic",
        sites: &[1, 1, 1, 1, 1],
        expects: false,
        moves: false,
        from_ms: 400,
        write: |acts| {
            members(acts, 5);
            traffic(acts, 5);
            acts.push((404, 0, Act::Close));
            acts.push((404, 4, Act::Close));
        },
    },
    Script {
        name: "handovers",
        what: "the task of ordering moves from member to member under traffic, and one of them leaves",
        sites: &[3],
        expects: false,
        moves: true,
        from_ms: 400,
        write: |acts| {
            members(acts, 3);
            traffic(acts, 3);
            acts.push((403, 2, Act::Multicast(Kind::Total, false, 60)));
            acts.push((405, 1, Act::Multicast(Kind::Total, true, 60)));
            acts.push((409, 2, Act::Leave));
        },
    },
];

/// Three processes start and join at once.
fn three_at_once(acts: &mut Vec<(u64, usize, Act)>) {
    for process in 0..3 {
        acts.push((0, process, Act::Start));
        acts.push((0, process, Act::Join));
    }
}

/// A third process joins two members under traffic.
fn third_joins(acts: &mut Vec<(u64, usize, Act)>) {
    members(acts, 2);
    acts.push((300, 2, Act::Start));
    acts.push((402, 2, Act::Join));
    traffic(acts, 3);
}

/// The first so many processes start one after another and form a group.
fn members(acts: &mut Vec<(u64, usize, Act)>, count: usize) {
    for process in 0..count {
        acts.push((if process == 0 { 0 } else { 250 }, process, Act::Start));
        acts.push((310 + 10 * process as u64, process, Act::Join));
    }
}

/// Each of the first so many processes sends a message of each kind, and flushes.
fn traffic(acts: &mut Vec<(u64, usize, Act)>, count: usize) {
    for process in 0..count {
        let kinds = [(Kind::Total, false), (Kind::Causal, false), (Kind::Fifo, false), (Kind::Total, true)];
        for (number, (kind, safe)) in kinds.into_iter().enumerate() {
            let len = [100, 20, 700, 5][(process + number) % 4];
            acts.push((400 + 2 * number as u64, process, Act::Multicast(kind, safe, len)));
        }
        acts.push((407, process, Act::Flush));
    }
}

/// The script of this name.
pub fn by_name(name: &str) -> Option<&'static Script> {
    SCRIPTS.iter().find(|script| script.name == name)
}

/// Who is killed, and after which of its actions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kill {
    /// The process.
    pub process: usize,
    /// The action, counted from its start.
    pub action: u64,
}

/// What one run of a script came to.
#[derive(Debug)]
pub struct Outcome {
    /// By process: its actions before the counted part, and up to the end of it.
    pub actions: Vec<(u64, u64)>,
    /// What is broken.
    pub violations: Vec<Violation>,
    /// The engine panicked.
    pub panicked: Option<String>,
    /// The world at its end, with the trace.
    pub world: World,
}

impl Outcome {
    /// Something is wrong.
    pub fn failed(&self) -> bool {
        self.panicked.is_some() || !self.violations.is_empty()
    }

    /// What is wrong, as text.
    pub fn text(&self) -> String {
        let panicked = self.panicked.as_ref().map(|panic| format!("the engine panicked: {panic}\n"));
        let broken = checker::report(&self.world.records.trace, &self.violations, 4);
        panicked.unwrap_or_default() + &broken
    }
}

/// What all runs of a script came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// By process: how many of its actions it was killed after.
    pub kills: Vec<u64>,
    /// Messages delivered in all runs.
    pub deliveries: u64,
    /// The deaths after which something is wrong, and what.
    pub failures: Vec<(Option<Kill>, String)>,
}

/// Runs a script once for each action of each process, and once without a death. `each` is told of every run.
pub fn enumerate(script: &Script, mut each: impl FnMut(Option<Kill>, &Outcome)) -> Summary {
    let mut summary = Summary::default();
    let mut note = |kill: Option<Kill>, outcome: &Outcome, summary: &mut Summary| {
        summary.deliveries += outcome.world.nodes.iter().map(|node| node.app.deliveries).sum::<u64>();
        if outcome.failed() {
            summary.failures.push((kill, outcome.text()));
        }
        each(kill, outcome);
    };
    let whole = run(script, None);
    note(None, &whole, &mut summary);
    for (process, &(before, after)) in whole.actions.iter().enumerate() {
        for action in before + 1..=after {
            let kill = Kill { process, action };
            note(Some(kill), &run(script, Some(kill)), &mut summary);
        }
        summary.kills.push(after - before);
    }
    summary
}

/// Runs a script once.
pub fn run(script: &Script, kill: Option<Kill>) -> Outcome {
    let mut stage = Stage::new(script, kill);
    let outcome = catch_unwind(AssertUnwindSafe(|| stage.play(script)));
    let mut violations = Vec::new();
    let panicked = match outcome {
        Ok(unsettled) => {
            stage.world.seal();
            let trace = &stage.world.records.trace;
            violations = checker::check(trace, Limits::of(&stage.world.template));
            if let (Some(what), true) = (unsettled, violations.is_empty()) {
                let what = format!("the run does not settle: {what}");
                violations.push(Violation { property: 26, what, records: Vec::new() });
            }
            None
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Some(text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string())).unwrap_or_default())
        }
    };
    Outcome { actions: stage.actions, violations, panicked, world: stage.world }
}

struct Stage {
    world: World,
    acts: Vec<(u64, usize, Act)>,
    kill: Option<Kill>,
    /// By number in the script: the process that runs.
    nodes: Vec<Option<usize>>,
    actions: Vec<(u64, u64)>,
}

impl Stage {
    fn new(script: &Script, kill: Option<Kill>) -> Stage {
        let mut world = World::new(0x1515, script.sites.len());
        world.notice_ns = MILLISECOND;
        world.state_len = 3_000;
        world.network.remote = quiet_remote();
        (world.template.suspect_max_ns, world.template.stall_after_ns) = (300 * MILLISECOND, 600 * MILLISECOND);
        world.template.expected_sites = if script.expects { script.sites.len() as u16 } else { 0 };
        if script.moves {
            world.template.handover = Handover { after: 1, pause_ns: 0 };
        }
        for (site, count) in script.sites.iter().enumerate() {
            for _ in 0..*count {
                world.add_slot(site);
            }
        }
        let mut acts = Vec::new();
        (script.write)(&mut acts);
        acts.sort_by_key(|act| act.0);
        let places = script.sites.iter().sum();
        Stage { world, acts, kill, nodes: vec![None; places], actions: vec![(0, 0); places] }
    }

    /// Why the run has not settled in the end; `None`: it has.
    fn play(&mut self, script: &Script) -> Option<String> {
        let mut counting = script.from_ms == 0;
        for (at_ms, process, act) in std::mem::take(&mut self.acts) {
            self.pass(at_ms * MILLISECOND);
            if at_ms >= script.from_ms && !counting {
                counting = true;
                for (process, counted) in self.counted().into_iter().enumerate() {
                    self.actions[process].0 = counted;
                }
            }
            self.act(process, act);
        }
        self.world.records.trace.push(self.world.now(), Process::WORLD, Event::Healed);
        let unsettled = self.settle();
        for (process, counted) in self.counted().into_iter().enumerate() {
            self.actions[process].1 = counted;
        }
        if unsettled.is_none() {
            for node in self.world.alive().collect::<Vec<_>>() {
                self.world.with_app(node, |app, _, ctx| last_words(app, ctx));
            }
        }
        let unsettled = unsettled.or_else(|| self.settle());
        if unsettled.is_none() {
            for node in self.world.alive().collect::<Vec<_>>() {
                self.world.with_app(node, |app, _, ctx| app.take_stock(ctx));
            }
        }
        self.world.records.trace.push(self.world.now(), Process::WORLD, Event::End);
        unsettled
    }

    fn counted(&self) -> Vec<u64> {
        let count = |node: &Option<usize>| node.map_or(0, |node| self.world.nodes[node].fuse.actions);
        self.nodes.iter().map(count).collect()
    }

    fn pass(&mut self, limit: u64) {
        while self.world.now() < limit && self.world.pass(limit) != Passed::Limit {}
    }

    /// Lets time pass until everything has settled, within a bound.
    fn settle(&mut self) -> Option<String> {
        let bound = self.world.now() + 20 * SECOND;
        loop {
            self.pass(self.world.now() + 5 * MILLISECOND);
            let unsettled = settled::unsettled(&self.world);
            if unsettled.is_none() || self.world.now() >= bound {
                return unsettled;
            }
        }
    }

    fn act(&mut self, process: usize, act: Act) {
        if act == Act::Start {
            let site = self.world.slots[process].0;
            let others: Vec<u32> =
                (0..self.world.slots.len() as u32).filter(|s| self.world.slots[*s as usize].0 != site).collect();
            let node = self.world.start(process as u32, &others, None);
            self.nodes[process] = Some(node);
            if let Some(kill) = self.kill.filter(|kill| kill.process == process) {
                self.world.nodes[node].fuse.last = kill.action;
            }
            return;
        }
        let Some(node) = self.nodes[process].filter(|&node| self.world.nodes[node].alive()) else { return };
        if act == Act::Crash {
            return self.world.crash(node);
        }
        self.world.with_app(node, |app, _, ctx| {
            // Whatever is refused is not done: a death may have come before it.
            let usable = app.members.first().is_some_and(|member| member.active());
            match act {
                Act::Join => {
                    let _ = app.join(ctx, 0, &JoinOptions { wants_state: true, ..JoinOptions::default() });
                }
                Act::Close => app.close(ctx),
                Act::Leave if usable => {
                    let _ = app.leave(ctx, 0);
                }
                Act::Flush if usable => {
                    let _ = app.flush(ctx, 0);
                }
                Act::Multicast(kind, safe, len) if usable => {
                    let _ = app.multicast(ctx, 0, (kind, safe), len, false);
                }
                _ => {}
            }
        });
    }
}

fn last_words(app: &mut Application, ctx: &mut Context<'_>) {
    for member in 0..app.members.len() {
        if app.members[member].active() {
            let _ = app.multicast(ctx, member, (Kind::Total, true), 20, false);
            let _ = app.multicast(ctx, member, (Kind::Causal, false), 20, false);
            let _ = app.flush(ctx, member);
        }
    }
}
