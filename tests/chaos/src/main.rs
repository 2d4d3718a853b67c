//! `isis-chaos`: real processes of the engine, in network namespaces, on a network that breaks; and what they saw, checked.
//!
//! Prints what it did and exits with 1 on any violation, also when no fault came or nothing was delivered; the traces of a
//! failed run are kept in a directory that is printed. Needs root and `ip` (Debian package iproute2); exits with 2 without.
//! `isis-chaos crowd` runs a large group on this host, without faults and without root.
//!
//! Read in this order: [`plan`] (what a seed draws), [`switch`] over [`tap`] and [`damage`] (the network), [`hosts`] (the
//! namespaces), [`member`] over [`engine`] (a process), [`status`], [`fleet`] (all processes), [`evidence`] (their traces),
//! [`rig`] (a run), [`crowd`] (a large group).

mod crowd;
mod damage;
mod engine;
mod evidence;
mod fleet;
mod hosts;
mod member;
mod plan;
mod rig;
mod status;
mod switch;
mod tap;

use clap::{Parser, Subcommand};
use isis_tests::{mutants, net};
use rig::{Report, Wanted};
use std::process::ExitCode;
use std::time::Duration;

/// Chaos for ISIS: real processes, real sockets, a network that breaks.
#[derive(Parser, Debug)]
struct Arguments {
    /// How long there are faults, one every two seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Draws hosts, members and faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many processes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=16))]
    members: u64,
    /// How many of them are clients of the groups, not members (at least one stays a member); without it, a quarter.
    #[arg(long)]
    clients: Option<u64>,
    /// Whether the number of hosts is known to all (`expected_sites`): `on`, `off`, or drawn from the seed.
    #[arg(long, default_value = "seed", value_parser = ["on", "off", "seed"])]
    expected: String,
    /// The two groups are in one domain of causality, so that order reaches across them; `seed`: with every other pair of
    /// seeds (2, 3, 6, 7 …).
    #[arg(long, default_value = "seed", value_parser = ["one", "two", "seed"])]
    domains: String,
    /// Mean milliseconds between two actions of a member.
    #[arg(long, default_value_t = 50)]
    pause_ms: u64,
    /// How many seconds settling may take after the faults.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// Switch a planted bug on in all members (`isis-sim --list-mutants`): the run has to fail.
    #[arg(long)]
    mutant: Option<String>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand, Debug)]
enum Role {
    /// One member; the rig starts it.
    #[command(hide = true)]
    Member(member::Arguments),
    /// A large group on this host: all join, all multicast, one is killed. No faults else, and no root needed.
    Crowd(crowd::Arguments),
}

#[allow(clippy::print_stdout)]
fn crowd(arguments: &crowd::Arguments) -> ExitCode {
    let signals = isis_processes::live::end_on_signals().map_err(|error| error.to_string());
    let report = match signals.and_then(|()| crowd::run(arguments)) {
        Ok(report) => report,
        Err(error) => {
            println!("the rig: {error}");
            return ExitCode::from(2);
        }
    };
    let [joined, said, without] = report.took_s;
    println!(
        "all in the group after {joined:.1} s, {} packets a member; what all said was everywhere after {said:.1} s",
        report.joining
    );
    println!("a view without the killed one after {without:.1} s");
    let [quiet, bound] = report.quiet;
    println!("quiet: {quiet} packets a member and second, {bound} allowed");
    println!("group views: {}; deliveries: {}", report.seen[0], report.seen[1]);
    for wrong in &report.wrong {
        println!("WRONG: {wrong}");
    }
    if report.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::print_stdout)]
fn print(report: &Report) {
    let list = |pairs: &[(&str, u64)]| {
        pairs.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    };
    let faults: Vec<(&str, u64)> = report.faults.iter().map(|(kind, count)| (*kind, *count)).collect();
    let sum: u64 = report.faults.values().sum();
    println!("faults: {sum} ({})", list(&faults));
    let tally = report.tally;
    println!(
        "frames: {}; {} damaged packets stopped by the engine's checksum",
        list(&[
            ("passed", tally.passed),
            ("lost", tally.lost),
            ("parted", tally.parted),
            ("duplicated", tally.duplicated),
            ("reordered", tally.reordered),
            ("delayed", tally.delayed),
            ("corrupted", tally.corrupted),
            ("truncated", tally.truncated),
            ("overflowed", tally.overflowed),
        ]),
        report.bad_checksums
    );
    let [started, evicted, operated] = report.processes;
    println!("processes: {started} started, {evicted} evicted; the operator acted {operated} times");
    let [views, system_views, deliveries] = report.seen;
    println!("views: {views} of groups, {system_views} of the system");
    println!("multicasts: {}; deliveries: {deliveries}", report.sent);
    let [registered, completed, answers] = report.of_clients;
    println!("clients: {registered} registrations, {completed} multicasts completed, {answers} messages to them");
    println!("settled {:.1} s after the last fault", report.settled_after_s);
    for wrong in &report.wrong {
        println!("WRONG: {wrong}");
    }
    if let Some(kept) = &report.kept {
        println!("traces kept in {}", kept.display());
    }
    println!("violations: {}", report.wrong.len());
}

#[allow(clippy::print_stdout)]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.role {
        Some(Role::Member(member)) => {
            return match member::run(member) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    println!("failed: {error}");
                    ExitCode::FAILURE
                }
            };
        }
        Some(Role::Crowd(wanted)) => return crowd(wanted),
        None => {}
    }
    let mutant = match arguments.mutant.as_deref().map(mutants::by_name) {
        Some(None) => {
            println!("no such mutant; isis-sim --list-mutants names them");
            return ExitCode::from(2);
        }
        planted => planted.flatten().map(|planted| planted.name),
    };
    net::remove_stale();
    if let Some(why) = net::missing() {
        println!("nothing was tried: {why}");
        return ExitCode::from(2);
    }
    let _guard = net::Guard::new();
    let wanted = Wanted {
        seconds: arguments.seconds,
        seed: arguments.seed,
        members: arguments.members as usize,
        clients: arguments.clients.unwrap_or(arguments.members / 4).min(arguments.members - 1) as usize,
        expected: match arguments.expected.as_str() {
            "on" => true,
            "off" => false,
            _ => arguments.seed.is_multiple_of(2),
        },
        one_domain: match arguments.domains.as_str() {
            "one" => true,
            "two" => false,
            _ => arguments.seed & 2 == 2,
        },
        pause_ns: arguments.pause_ms.max(1) * 1_000_000,
        patience: Duration::from_secs(arguments.patience),
        mutant,
    };
    let known = if wanted.expected { "known" } else { "not known" };
    println!(
        "seed {}, {} processes, {} of them clients, {} s of faults; the number of hosts is {known}",
        wanted.seed, wanted.members, wanted.clients, wanted.seconds
    );
    let report = isis_processes::live::end_on_signals().map_err(|error| error.to_string());
    match report.and_then(|()| rig::run(wanted)) {
        Ok(report) => {
            print(&report);
            if report.faults.is_empty() || report.seen[2] == 0 {
                println!("no fault or no delivery: this shows nothing");
                return ExitCode::FAILURE;
            }
            if wanted.clients > 0 && report.of_clients.contains(&0) {
                println!("clients did nothing: this does not show what was wanted");
                return ExitCode::FAILURE;
            }
            if report.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("the rig: {error}");
            ExitCode::from(2)
        }
    }
}
