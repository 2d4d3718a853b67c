//! A member: a process of its own with a node, the application of the simulator, and a journal.
//!
//! Orders come on its input, one a line: `lag NANOSECONDS` (0: no more) · `rejoin` · `quiet` · `last` · `count` · `close`. Its
//! input's end, and the end of its starter, are its own. It reports `status …` ten times a second (see [`crate::status`]),
//! `counter NAME VALUE` … and `counted` when asked, `evicted`, and at last its counters again and `closed`.

use crate::engine::NodeEngine;
use crate::status::Status;
use isis_processes::now_ns;
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_protocol::{Instant, JoinOptions, Nonce, TotalOrder};
use isis_runtime::{Mode, Node, NodeError, Options};
use isis_tests::journal::Journal;
use isis_tests::mutants;
use isis_tests::sim::application::{Application, Context, Fate, Records};
use isis_tests::sim::behaviour::{Behaviour, Profile};
use isis_tests::sim::payload::NAMED;
use isis_tests::trace::{Event, Process};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// How to start a member. The node's options come from the environment.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Its number in the trace.
    #[arg(long)]
    process: u32,
    /// Its host.
    #[arg(long)]
    site: u32,
    /// Draws what it does.
    #[arg(long)]
    seed: u64,
    /// Where to write its trace.
    #[arg(long)]
    journal: PathBuf,
    /// Mean time between two actions.
    #[arg(long)]
    pause_ns: u64,
    /// It also joins the second group.
    #[arg(long)]
    second_group: bool,
    /// The two groups are in one domain of causality.
    #[arg(long)]
    one_domain: bool,
    /// It is a client of the groups, no member.
    #[arg(long)]
    client: bool,
    /// A planted bug that it has (inline mode only).
    #[arg(long)]
    mutant: Option<String>,
    /// Faults are over: it only has to join.
    #[arg(long)]
    quiet: bool,
}

/// Events that the application takes in a row.
const EVENTS_PER_TURN: usize = 64;
/// The longest sleep: orders are looked for as often.
const LOOK_NS: u64 = 5 * MILLISECOND;
const STATUS_NS: u64 = 100 * MILLISECOND;
/// Bytes of a state.
const STATE: usize = 40_000;
const FRAGMENT: usize = 1024;

struct Member {
    engine: NodeEngine,
    app: Application,
    behaviour: Behaviour,
    records: Records,
    lag_ns: u64,
    consume_at: u64,
    status_at: u64,
    closing: bool,
}

#[allow(clippy::print_stdout)]
fn say(text: &str) {
    println!("{text}");
    // A starter that is gone hears nothing: the end comes by the input.
    let _ = std::io::stdout().flush();
}

fn profile(threaded: bool, arguments: &Arguments) -> Profile {
    // In threaded mode a call is accepted before the core knows whether the view is still the sender's.
    let sending_view = !threaded && arguments.seed.is_multiple_of(3);
    let mut groups = vec![(0, JoinOptions { wants_state: true, sending_view, ..JoinOptions::default() })];
    if arguments.second_group {
        let domain = u32::from(!arguments.one_domain);
        // One group of each total order.
        let total_order = TotalOrder::Priority;
        groups.push((1, JoinOptions { wants_state: true, domain, total_order, ..JoinOptions::default() }));
    }
    Profile {
        groups,
        pause_ns: arguments.pause_ns,
        kinds: [8, 10, 10, 1],
        safe_percent: 20,
        react_percent: 2,
        fragment: FRAGMENT,
        // Short messages have no name in them, and real processes share no list of them.
        least: NAMED,
        large: 100_000,
        leave_permille: 2,
        close_permille: 0,
        client_percent: if arguments.client { 100 } else { 0 },
        contrary_percent: 0,
        // Whose messages are whose in each group stands in the sender's records only.
        multi_percent: 0,
        budget: u32::MAX,
    }
}

/// Runs until it is told to close.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    // Nobody outlives the rig, not even stopped.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| error.to_string())?;
    let _switched = arguments.mutant.as_deref().and_then(mutants::by_name).map(|it| mutants::Switched::on(it.mutant));
    let (orders, lines) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if orders.send(line).is_err() {
                return;
            }
        }
    });
    let process = Process(arguments.process);
    let mut journal = Journal::create(&arguments.journal, now_ns).map_err(|error| error.to_string())?;
    journal.note(&Event::Start { site: arguments.site, slot: arguments.process });
    let mut options = Options::new();
    options.read_environment().map_err(|error| error.to_string())?;
    options.fragment = FRAGMENT;
    options.max_message = 1 << 20;
    let threaded = options.mode == Mode::Threaded;
    let nonce = Nonce(u128::from(arguments.process) << 64 | u128::from(arguments.seed));
    let node = Node::open_as(options, nonce).map_err(|error| error.to_string())?;
    let mut behaviour = Behaviour::new(arguments.seed, profile(threaded, arguments), now_ns());
    behaviour.quiet = arguments.quiet;
    let mut member = Member {
        engine: NodeEngine::new(node),
        app: Application::new(process, STATE),
        behaviour,
        records: Records { journal: Some(journal), ..Records::default() },
        lag_ns: 0,
        consume_at: 0,
        status_at: 0,
        closing: false,
    };
    member.live(&lines).map_err(|error| error.to_string())
}

impl Member {
    fn live(&mut self, lines: &Receiver<String>) -> Result<(), NodeError> {
        loop {
            match lines.try_recv() {
                Ok(line) => self.obey(&line),
                Err(TryRecvError::Empty) => (),
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            let more = match self.turn() {
                Some(more) => more,
                None => return self.end(lines),
            };
            let now = now_ns();
            if now >= self.status_at {
                self.status_at = now + STATUS_NS;
                say(&Status::of(&self.app, &self.behaviour).to_string());
            }
            if more {
                continue;
            }
            if now < self.consume_at {
                // Events wait, and are not taken: the loop has to be turned without them.
                self.engine.node.turn()?;
                std::thread::sleep(std::time::Duration::from_millis(1));
                continue;
            }
            let next = self.behaviour.next_ns.saturating_sub(now).min(LOOK_NS);
            self.engine.node.wait(Some(next))?;
        }
    }

    /// One turn: what it wants to do, what came, and what it wants to do about that. Whether more has come; `None`: it is
    /// at its end.
    fn turn(&mut self) -> Option<bool> {
        let now = now_ns();
        let mut ctx = Context { time: now, now: Instant(now), endpoint: &mut self.engine, records: &mut self.records };
        self.behaviour.act(&mut self.app, &mut ctx);
        let mut more = false;
        if now >= self.consume_at {
            for _ in 0..if self.lag_ns > 0 { 1 } else { EVENTS_PER_TURN } {
                more = false;
                let Some(event) = ctx.endpoint.poll_event(ctx.now) else { break };
                if self.app.handle(&mut ctx, event) == Fate::Ends {
                    return None;
                }
                more = true;
            }
            self.consume_at = if self.lag_ns > 0 { now + self.lag_ns } else { 0 };
        }
        if self.app.stirred || self.behaviour.next_ns <= now {
            self.behaviour.act(&mut self.app, &mut ctx);
        }
        Some(more && self.lag_ns == 0)
    }

    fn obey(&mut self, line: &str) {
        let now = now_ns();
        let mut ctx = Context { time: now, now: Instant(now), endpoint: &mut self.engine, records: &mut self.records };
        match line.split_once(' ').unwrap_or((line, "")) {
            ("lag", gap) => {
                self.lag_ns = gap.parse().unwrap_or(0).min(SECOND);
                self.consume_at = 0;
                self.records.note(now, self.app.process, Event::Lag { on: self.lag_ns > 0 });
            }
            ("rejoin", _) => self.behaviour.rejoin(&mut self.app, &mut ctx),
            ("quiet", _) => self.behaviour.quiet = true,
            ("last", _) => self.behaviour.last_words(&mut self.app, &mut ctx),
            ("count", _) => {
                self.say_counters();
                say("counted");
            }
            ("close", _) => {
                self.closing = true;
                self.app.close(&mut ctx);
            }
            _ => say("wrong order"),
        }
    }

    fn say_counters(&self) {
        for (name, value) in self.engine.node.counters() {
            say(&format!("counter {name} {value}"));
        }
    }

    fn end(&mut self, lines: &Receiver<String>) -> Result<(), NodeError> {
        self.say_counters();
        if self.closing {
            say("closed");
            return Ok(());
        }
        say("evicted");
        // Whoever started it ends it: a process that ends unasked has failed.
        while lines.recv().is_ok() {}
        Ok(())
    }
}
