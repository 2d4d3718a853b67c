//! `isis-sim`: runs seeds through the simulator and checks every guarantee.
//!
//! Prints what it did. On a violation it prints the seed, the property, the offending events, the end of the trace and the
//! command that replays it, then the smallest run that fails alike; and exits with 1; also when nothing was delivered at
//! all.
#![allow(clippy::print_stdout)]

use clap::Parser;
use isis_protocol::time::SECOND;
use isis_tests::checker;
use isis_tests::mutants;
use isis_tests::sim::enumerate::{self, Kill};
use isis_tests::sim::plan::Options;
use isis_tests::sim::reduce::{self, Reduction};
use isis_tests::sim::run::{Report, Run};
use isis_tests::sim::shrink;
use isis_tests::trace::mix;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Instant;

/// Simulated processes allocate much, and little at a time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulator of ISIS: whole systems in virtual time, under seeded faults.
#[derive(Parser, Debug)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Processes that a run begins with: a number, or a range such as 3-7.
    #[arg(long, value_parser = range)]
    members: Option<RangeInclusive<u64>>,
    /// Run this seed alone and print its whole trace.
    #[arg(long)]
    replay: Option<u64>,
    /// What is taken out of each plan, as a shrunk run says: step=4,process=2,budget=3,no=loss.
    #[arg(long, value_delimiter = ',')]
    reduce: Vec<Reduction>,
    /// Make the run of this seed as small as it can be with the same property failing, and print it.
    #[arg(long)]
    shrink: Option<u64>,
    /// Do not shrink the first run that fails.
    #[arg(long)]
    no_shrink: bool,
    /// Run this script once for each action of each process, and kill the process right after it; "all": every script.
    #[arg(long)]
    enumerate: Option<String>,
    /// With --enumerate: only the death of this process after this action, with its trace: 2:17.
    #[arg(long, value_parser = kill)]
    kill: Option<Kill>,
    /// Switch a planted bug on.
    #[arg(long)]
    mutant: Option<String>,
    /// List the planted bugs: the property that each violates, its function, the rule that it takes out.
    #[arg(long)]
    list_mutants: bool,
    /// With --list-mutants: as the table of docs/verification.md.
    #[arg(long)]
    markdown: bool,
    /// Look for the first seed that shows each planted bug (or that of --mutant) by its property, up to --seeds.
    #[arg(long)]
    first_seeds: bool,
    /// No faults.
    #[arg(long)]
    calm: bool,
    /// In so many of 100 runs the number of sites is expected.
    #[arg(long, default_value_t = 25)]
    expected_percent: u64,
    /// All runs have several groups, and most ABCASTs go to all groups of their sender.
    #[arg(long)]
    several_groups: bool,
    /// Go on after a violation; the seeds that fail are listed at the end.
    #[arg(long)]
    keep_going: bool,
    /// Print one digest over the traces and packets of all runs: the same before and after a change that alters nothing.
    #[arg(long)]
    digest: bool,
    /// How many lines of the trace to print with a violation.
    #[arg(long, default_value_t = 60)]
    tail: usize,
}

fn range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number = |t: &str| t.parse::<u64>().ok().filter(|n| (1..=64).contains(n));
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (number(low), number(high)) {
        (Some(low), Some(high)) if low <= high => Ok(low..=high),
        _ => Err("expected a number from 1 to 64, or a range of them such as 3-7".into()),
    }
}

fn kill(text: &str) -> Result<Kill, String> {
    let parsed = text
        .split_once(':')
        .and_then(|(process, action)| Some(Kill { process: process.parse().ok()?, action: action.parse().ok()? }));
    parsed.ok_or_else(|| "expected a process and an action, such as 2:17".into())
}

/// Sums over all runs.
#[derive(Default)]
struct Sums {
    runs: u64,
    settled: u64,
    views: u64,
    system_views: u64,
    deliveries: u64,
    virtual_ns: u64,
    packets: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    parted: u64,
    overflowed: u64,
    damaged: u64,
    clogged: u64,
    turns: u64,
    busiest: (u64, u64),
    harm: [u64; 13],
    longest_ns: u64,
}

impl Sums {
    fn add(&mut self, report: &Report) {
        let (tally, harm) = (report.world.network.tally, report.world.harm);
        self.runs += 1;
        self.settled += u64::from(report.settled);
        self.views += report.views;
        self.system_views += report.system_views;
        self.deliveries += report.deliveries;
        self.virtual_ns += report.world.now();
        self.longest_ns = self.longest_ns.max(report.world.now());
        self.turns += report.world.turns;
        self.busiest = self.busiest.max((report.world.turns, report.seed));
        self.packets += tally.sent;
        self.lost += tally.lost;
        self.duplicated += tally.duplicated;
        self.reordered += tally.reordered;
        self.parted += tally.parted;
        self.overflowed += tally.overflowed;
        self.damaged += tally.damaged;
        self.clogged += tally.clogged;
        let all = [
            harm.crashes,
            harm.site_crashes,
            harm.hangs,
            harm.lags,
            harm.partitions,
            harm.one_way,
            harm.restarts,
            harm.ends,
            harm.cuts,
            harm.clogs,
            harm.totals,
            harm.lost_sites,
            harm.lasting_cuts,
        ];
        for (sum, one) in self.harm.iter_mut().zip(all) {
            *sum += one;
        }
    }

    fn print(&self, seconds: f64) {
        println!(
            "{} runs ({} settled), {:.1} s of virtual time (longest {:.1} s), {:.1} runs a second",
            self.runs,
            self.settled,
            self.virtual_ns as f64 / SECOND as f64,
            self.longest_ns as f64 / SECOND as f64,
            self.runs as f64 / seconds.max(1e-9)
        );
        println!("  {} deliveries, {} group views, {} system views", self.deliveries, self.views, self.system_views);
        println!(
            "  {} packets: {} lost, {} duplicated, {} reordered, {} damaged, {} parted, {} held, {} overflowed",
            self.packets,
            self.lost,
            self.duplicated,
            self.reordered,
            self.damaged,
            self.parted,
            self.clogged,
            self.overflowed
        );
        println!("  {} turns, most in seed {}: {}", self.turns, self.busiest.1, self.busiest.0);
        let [crashes, sites, hangs, lags, partitions, one_way, restarts, ends, cuts, clogs, totals, lost, lasting] =
            self.harm;
        println!(
            "  {crashes} crashes, {sites} site crashes, {totals} total failures, {lost} sites lost for ever, {restarts} \
             restarts, {ends} evictions and closes"
        );
        println!(
            "  {hangs} hangs, {lags} slow consumers, {partitions} partitions, {one_way} one-way partitions, {cuts} cut pairs \
             of sites, {lasting} of them for ever, {clogs} clogs"
        );
    }
}

fn replay_command(arguments: &Arguments, seed: u64, reductions: &[Reduction]) -> String {
    let mut command = format!("cargo run --release -p isis-tests --bin isis-sim -- --replay {seed}");
    if let Some(members) = &arguments.members {
        command.push_str(&format!(" --members {}-{}", members.start(), members.end()));
    }
    if let Some(mutant) = &arguments.mutant {
        command.push_str(&format!(" --mutant {mutant}"));
    }
    if arguments.calm {
        command.push_str(" --calm");
    }
    if !reductions.is_empty() {
        command.push_str(&format!(" --reduce {}", reduce::text(reductions)));
    }
    if arguments.several_groups {
        command.push_str(" --several-groups");
    }
    if arguments.expected_percent != 25 {
        command.push_str(&format!(" --expected-percent {}", arguments.expected_percent));
    }
    command
}

fn explain(report: &Report, arguments: &Arguments) {
    let trace = &report.world.records.trace;
    println!("VIOLATION in seed {}", report.seed);
    println!("{}", report.text());
    println!("the last {} records of the trace:", arguments.tail.min(trace.records.len()));
    println!("{}", trace.text_from(trace.records.len().saturating_sub(arguments.tail)));
    println!("replay: {}", replay_command(arguments, report.seed, &arguments.reduce));
}

/// Makes a failing run small and prints it; false if it does not fail.
fn shrink(seed: u64, options: &Options, arguments: &Arguments) -> bool {
    let Some(shrunk) = shrink::shrink(seed, options) else {
        println!("seed {seed} does not fail: nothing to shrink");
        return false;
    };
    let trace = &shrunk.report.world.records.trace;
    println!(
        "SHRUNK in {} runs to {} processes and {} faults, {} records of trace:",
        shrunk.runs,
        shrunk.processes(),
        shrunk.faults(),
        trace.records.len()
    );
    println!("{}", shrunk.plan.text());
    println!("{}", shrunk.report.text());
    println!("{}", trace.text_from(trace.records.len().saturating_sub(arguments.tail.max(200))));
    println!("replay: {}", replay_command(arguments, seed, &shrunk.reductions));
    true
}

/// Kills each process after each of its actions.
fn enumerate(name: &str, arguments: &Arguments) -> ExitCode {
    let scripts: Vec<_> = enumerate::SCRIPTS.iter().filter(|script| name == "all" || script.name == name).collect();
    if scripts.is_empty() {
        println!("no such script; there are:");
        for script in enumerate::SCRIPTS {
            println!("  {}: {}", script.name, script.what);
        }
        return ExitCode::from(2);
    }
    let mut code = ExitCode::SUCCESS;
    for script in scripts {
        if let Some(kill) = arguments.kill {
            let outcome = enumerate::run(script, Some(kill));
            println!("{}\n{}", outcome.world.records.trace.text(), outcome.text());
            if outcome.failed() {
                code = ExitCode::FAILURE;
            }
            continue;
        }
        let summary = enumerate::enumerate(script, |_, _| {});
        let total: u64 = summary.kills.iter().sum();
        println!(
            "{}: {} deaths, by process {:?}; {} deliveries; {} failures",
            script.name,
            total,
            summary.kills,
            summary.deliveries,
            summary.failures.len()
        );
        for (kill, text) in summary.failures.iter().take(5) {
            match kill {
                Some(Kill { process, action }) => {
                    println!("--enumerate {} --kill {process}:{action}\n{text}", script.name);
                }
                None => println!("{} without a death\n{text}", script.name),
            }
        }
        if !summary.failures.is_empty() || total == 0 || summary.deliveries == 0 {
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list_mutants {
        print!("{}", if arguments.markdown { mutants::markdown() } else { mutants::list() });
        return ExitCode::SUCCESS;
    }
    let mutant = match arguments.mutant.as_deref().map(mutants::by_name) {
        Some(None) => {
            println!("no such mutant; --list-mutants names them");
            return ExitCode::from(2);
        }
        planted => planted.flatten(),
    };
    if arguments.first_seeds {
        for planted in mutants::ALL.iter().filter(|planted| mutant.is_none_or(|mutant| mutant == *planted)) {
            let seed = mutants::search(planted, arguments.start..arguments.start + arguments.seeds);
            println!("    (\"{}\", {seed:?}),", planted.name);
        }
        return ExitCode::SUCCESS;
    }
    let _switched = mutant.map(|planted| mutants::Switched::on(planted.mutant));
    let mut options =
        Options { faults: !arguments.calm, expected_percent: arguments.expected_percent, ..Options::default() };
    if let Some(members) = &arguments.members {
        options.members = members.clone();
    }
    options.several_groups = arguments.several_groups;
    options.reductions.clone_from(&arguments.reduce);
    if let Some(name) = &arguments.enumerate {
        return enumerate(name, &arguments);
    }
    if let Some(seed) = arguments.shrink {
        return if shrink(seed, &options, &arguments) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if let Some(seed) = arguments.replay {
        let report = Run::execute(seed, &options);
        println!("{}", report.world.records.trace.text());
        for node in &report.world.nodes {
            println!("{:?}: {} turns, {} actions", node.process, node.turns, node.fuse.actions);
        }
        println!("seed {seed}: trace digest {:016x}", report.world.records.trace.digest());
        println!("{}", report.text());
        return if report.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let began = Instant::now();
    let mut sums = Sums::default();
    let mut failed: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut digest = 0;
    for seed in arguments.start..arguments.start + arguments.seeds {
        let report = Run::execute(seed, &options);
        sums.add(&report);
        if arguments.digest {
            digest = mix(digest ^ report.world.records.trace.digest());
        }
        if report.failed() {
            if failed.is_empty() || !arguments.keep_going {
                explain(&report, &arguments);
                if !arguments.no_shrink {
                    shrink(seed, &options, &arguments);
                }
            }
            let mut properties: Vec<u8> = report.violations.iter().map(|v| v.property).collect();
            properties.dedup();
            failed.push((seed, properties));
            if !arguments.keep_going {
                break;
            }
        }
    }
    sums.print(began.elapsed().as_secs_f64());
    if arguments.digest {
        println!("  digest {digest:016x}");
    }
    if arguments.keep_going && !failed.is_empty() {
        println!("{} of {} seeds fail:", failed.len(), sums.runs);
        for (seed, properties) in failed.iter().take(50) {
            let names: Vec<String> = properties.iter().map(|p| format!("{p} {}", checker::name(*p))).collect();
            println!("  {seed}: {}", names.join(", "));
        }
    }
    if sums.deliveries == 0 {
        println!("nothing was delivered: this shows nothing");
        return ExitCode::FAILURE;
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
