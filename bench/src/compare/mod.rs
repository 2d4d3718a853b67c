//! `compare`: our throughput and that of rivals, of the same work in the same run.
//!
//! Three members (by default) in processes of their own, all sending as fast as their system takes; deliveries counted at the
//! slowest. Round by round, ours and the rival's in turn, so that what else goes on on the machine meets both; then the medians,
//! their ratio, and the spread. Read in this order: [`contest`] (who is compared with whom), [`rival`] (building and running
//! the programs in `bench/rivals`), [`plot`] (the pictures).

pub mod contest;
pub mod plot;
pub mod rival;
/// The rivals' side of the conversation: one file for both.
#[path = "../../rivals/src/talk.rs"]
pub mod talk;

use crate::report::{self, Lines};
use crate::talk::{IdleName, KindName, ModeName};
use crate::throughput::{self, Load};
use clap::Args;
use contest::{CONTESTS, Contest};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::path::PathBuf;

/// The arguments.
#[derive(Args, Clone, Debug)]
pub struct Compare {
    /// Member processes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=8))]
    members: u16,
    /// Payload bytes; may be repeated. Default: 64, 1024 and 65536.
    #[arg(long = "size", value_name = "BYTES")]
    sizes: Vec<usize>,
    /// Only this rival (aeron, corosync, iceoryx2, norm, raw); may be repeated. Default: all that can be had.
    #[arg(long = "rival", value_name = "NAME")]
    rivals: Vec<String>,
    /// Ours is ordered like this, whatever the rival promises.
    #[arg(long, value_enum, default_value = "total")]
    kind: KindName,
    /// How many of the members send. Default: all.
    #[arg(long)]
    senders: Option<u16>,
    /// What our members do while there is nothing to do. The rivals' yield.
    #[arg(long, value_enum, default_value = "yield")]
    idle: IdleName,
    /// Rounds: ours, the rival's.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Sets an option of our library, as `window=2MiB`; may be repeated.
    #[arg(long = "option", value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// As `--option`, only against rivals that use shared memory.
    #[arg(long = "shared-option", value_name = "NAME=VALUE")]
    shared: Vec<String>,
    /// Appends every single measurement to this file, one line of JSON each.
    #[arg(long, value_name = "FILE")]
    ndjson: Option<PathBuf>,
    /// Draws the ratios.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Compare {
    fn senders(&self) -> u16 {
        self.senders.unwrap_or(self.members).clamp(1, self.members)
    }
}

/// One measurement of one system.
#[derive(Debug)]
pub struct Sample {
    /// Senders that sent nothing.
    pub stood_still: usize,
    /// Deliveries a second at each member.
    pub rates: Vec<f64>,
    /// Processor time per multicast over all processes of the members, microseconds.
    pub cpu_us: f64,
    /// Send to own delivery under this load.
    pub latency: Histogram<u64>,
    /// Messages left out.
    pub lost: u64,
}

impl Sample {
    fn slowest(&self) -> f64 {
        self.rates.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// The result of a contest at one size.
#[derive(Debug)]
pub struct Outcome {
    /// Who against whom, how large.
    pub name: String,
    /// Ratio of the medians: ours to the rival's.
    pub ratio: f64,
    /// The lowest and the highest ratio of a round.
    pub spread: (f64, f64),
}

/// Least, median and most.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let median = (at(sorted.len().saturating_sub(1) / 2) + at(sorted.len() / 2)) / 2.0;
    (at(0), median, at(sorted.len().saturating_sub(1)))
}

/// Runs it.
pub fn run(args: &Compare) -> Result<(), String> {
    let sizes = if args.sizes.is_empty() { vec![64, 1024, 65_536] } else { args.sizes.clone() };
    let wanted = |name: &str| args.rivals.is_empty() || args.rivals.iter().any(|rival| rival == name);
    if let Some(unknown) = args.rivals.iter().find(|name| !contest::RIVALS.iter().any(|rival| rival.name == **name)) {
        return Err(format!("there is no rival {unknown}"));
    }
    let mut programs = Vec::new();
    for rival in contest::RIVALS.iter().filter(|rival| wanted(rival.name)) {
        match rival::build(rival) {
            Ok(program) => programs.push((rival.name, program)),
            Err(error) => crate::say(&format!("NOT COMPARED: {}: {error}\n  needs: {}", rival.name, rival.needs)),
        }
    }
    let host = report::host();
    report::warn_if_busy(&host);
    let mut lines = Lines::open(args.ndjson.as_deref())?;
    let mut outcomes = Vec::new();
    let mut failed = 0;
    crate::say(&format!(
        "{} members, {} sending; deliveries a second at the slowest: median (least to most) of {} rounds of {} s",
        args.members,
        args.senders(),
        args.rounds,
        args.seconds
    ));
    for contest in &CONTESTS {
        let Some((_, program)) = programs.iter().find(|(name, _)| *name == contest.rival) else { continue };
        for &size in sizes.iter().filter(|&&size| size <= contest.most) {
            let field = Field { args, contest, program, size };
            match field.play(&mut lines) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => {
                    failed += 1;
                    crate::say(&format!("NOT COMPARED: {} {} {size} B: {error}", contest.rival, contest.transport));
                }
            }
        }
    }
    let host = report::host_text(&host);
    crate::say(&format!("({host})"));
    if let Some(path) = &args.svg
        && !outcomes.is_empty()
    {
        plot::ratios(path, &outcomes, &host)?;
        crate::say(&format!("drawn: {}", path.display()));
    }
    match (outcomes.len(), failed) {
        (0, _) => Err("nothing was compared".to_owned()),
        (_, 0) => Ok(()),
        (_, failed) => Err(format!("{failed} contests failed")),
    }
}

/// A contest at one size.
struct Field<'a> {
    args: &'a Compare,
    contest: &'a Contest,
    program: &'a std::path::Path,
    size: usize,
}

impl Field<'_> {
    fn play(&self, lines: &mut Lines) -> Result<Outcome, String> {
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut lost = 0;
        let (mut our_latency, mut their_latency) = (report::histogram(), report::histogram());
        for round in 0..self.args.rounds.max(1) {
            let own = self.ours()?;
            lines.write(&self.line("isis", &self.our_transport(), round, &own))?;
            let other = rival::measure(
                self.program,
                &rival::Work {
                    transport: self.contest.transport,
                    members: self.args.members,
                    senders: self.args.senders(),
                    answers: false,
                    spin: false,
                    size: self.size,
                    seconds: self.args.seconds,
                },
            )?;
            lines.write(&self.line(self.contest.rival, self.contest.transport, round, &other))?;
            ratios.push(own.slowest() / other.slowest());
            ours.push(own.slowest());
            theirs.push(other.slowest());
            lost += other.lost;
            for (all, one) in [(&mut our_latency, &own), (&mut their_latency, &other)] {
                all.add(&one.latency).map_err(|error| format!("{error:?}"))?;
            }
        }
        let (ours, theirs, ratios) = (spread(&ours), spread(&theirs), spread(&ratios));
        let ratio = ours.1 / theirs.1;
        let megabytes = |rate: f64| rate * self.size as f64 / 1e6;
        let one = |name: &str, (least, median, most): (f64, f64, f64), latency: &Histogram<u64>| {
            let at = |quantile| report::time_text(latency.value_at_quantile(quantile));
            let delivery = if latency.is_empty() {
                String::new()
            } else {
                format!("; send to own delivery under this load p50 {} · p99 {}", at(0.5), at(0.99))
            };
            format!("  {name}: {median:.0}/s = {:.1} MB/s ({least:.0} to {most:.0}){delivery}", megabytes(median))
        };
        let ours_by = self.contest.our_transport();
        let text =
            format!("isis by {ours_by} against {} {}, {} B", self.contest.rival, self.contest.transport, self.size);
        crate::say(&format!("{text}: {ratio:.2} times (rounds: {:.2} to {:.2})", ratios.0, ratios.2));
        crate::say(&one(&format!("isis, {:?}, {}", self.args.kind, self.our_transport()), ours, &our_latency));
        let order = format!("{} {}, {}", self.contest.rival, self.contest.transport, self.contest.promises);
        crate::say(&one(&order, theirs, &their_latency));
        if lost > 0 {
            crate::say(&format!("  {} lost {lost} messages", self.contest.rival));
        }
        let against = format!("{} {}, {} B", self.contest.rival, self.contest.transport, self.size);
        let name = format!("{ours_by} / {against}");
        Ok(Outcome { name, ratio, spread: (ratios.0, ratios.2) })
    }

    fn options(&self) -> Vec<String> {
        let shared = if self.contest.shared_memory { self.args.shared.as_slice() } else { &[] };
        let fixed = self.contest.ours.iter().map(|option| (*option).to_owned());
        fixed.chain(self.args.options.iter().chain(shared).cloned()).collect()
    }

    fn our_transport(&self) -> String {
        let options = self.options();
        std::iter::once(self.contest.our_transport())
            .chain(options.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn ours(&self) -> Result<Sample, String> {
        let load = Load {
            members: self.args.members,
            size: self.size,
            kind: self.args.kind,
            mode: ModeName::Inline,
            idle: self.args.idle,
            transport: self.contest.our_transport().to_owned(),
            json: false,
            options: self.options(),
        };
        let measured = throughput::measure(&load, self.args.senders(), 0, self.args.seconds, false)?;
        Ok(Sample {
            rates: measured.rates,
            cpu_us: measured.cpu_us,
            latency: measured.latency,
            lost: 0,
            stood_still: 0,
        })
    }

    fn line(&self, system: &str, transport: &str, round: usize, sample: &Sample) -> Value {
        json!({
            "bench": "compare", "system": system, "transport": transport, "against": self.contest.rival,
            "order": if system == "isis" { format!("{:?}", self.args.kind) } else { self.contest.promises.to_owned() },
            "size": self.size, "members": self.args.members, "senders": self.args.senders(), "round": round, "seconds": self.args.seconds,
            "messages_per_second": sample.slowest(), "messages_per_second_each": sample.rates,
            "megabytes_per_second": sample.slowest() * self.size as f64 / 1e6,
            "cpu_us_per_multicast": sample.cpu_us, "lost": sample.lost,
            "latency": report::percentiles(&sample.latency),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (1.0, 2.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), (1.0, 2.5, 4.0));
        assert!(spread(&[]).1.is_nan());
    }

    #[test]
    fn every_contest_names_a_rival() {
        for contest in &CONTESTS {
            assert!(contest::RIVALS.iter().any(|rival| rival.name == contest.rival), "{}", contest.rival);
        }
        assert!(CONTESTS.len() >= contest::RIVALS.len());
    }
}
