//! Building the programs in `bench/rivals`, and measuring with one of them.

use super::Sample;
use super::contest::Rival;
use super::talk::{Order, Report, Start};
use crate::fleet::PATIENCE;
use isis_processes::children::name;
use isis_processes::library::workspace;
use isis_processes::{Children, Directory, live};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How often a measurement is made in which a sender stands still, in all.
const ATTEMPTS: usize = 4;
/// Lines of a failed build that are shown.
const SHOWN: usize = 12;
/// Ports from here on, 32 for each run: what the last run left in the kernel does not meet the next.
const FIRST_PORT: u16 = 42_000;
const PORT_STEP: u16 = 32;
const RUNS: u16 = 400;
/// How long the load goes on before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// What a rival is to do.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Its transport.
    pub transport: &'static str,
    /// Member processes.
    pub members: u16,
    /// How many of them send.
    pub senders: u16,
    /// Round trips instead of load.
    pub answers: bool,
    /// A member with nothing to do keeps its processor.
    pub spin: bool,
    /// Payload bytes.
    pub size: usize,
    /// Seconds to measure.
    pub seconds: u64,
}

/// Builds the program of a rival; gives its path. The error says why it cannot be had.
pub fn build(rival: &Rival) -> Result<PathBuf, String> {
    let folder = workspace().join("bench/rivals");
    let target = folder.join("target");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    crate::progress(&format!("building {} (minutes, the first time)", rival.name));
    let output = Command::new(cargo)
        .current_dir(&folder)
        // The directory of this project's own builds would mix two lock files.
        .env_remove("CARGO_BUILD_TARGET_DIR")
        .args(["build", "--quiet", "--release", "--features", rival.name, "--bin", rival.name, "--target-dir"])
        .arg(&target)
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let telling =
            |line: &&str| !line.trim().is_empty() && !line.contains("cargo:") && !line.trim().starts_with("at ");
        let all: Vec<&str> = text.lines().filter(telling).collect();
        let errors: Vec<&str> = all.iter().copied().filter(|line| line.to_lowercase().contains("error")).collect();
        let shown = if errors.is_empty() { &all } else { &errors };
        let shown: Vec<&str> = shown.iter().copied().take(SHOWN).collect();
        return Err(format!("it cannot be built here:\n    {}", shown.join("\n    ")));
    }
    Ok(target.join("release").join(rival.name))
}

/// One measurement with a rival. One in which a sender stood still is made again, for its rate is not that of the work: with Aeron
/// over UDP one start of three or so leaves a sender without a window for ever. After some attempts it counts, and is told.
pub fn measure(program: &Path, work: &Work) -> Result<Sample, String> {
    let mut attempt = 1;
    loop {
        let sample = measure_once(program, work)?;
        if sample.stood_still == 0 {
            return Ok(sample);
        }
        if attempt == ATTEMPTS {
            crate::say(&format!(
                "NOTE: {} of {} senders of {} stood still, in {ATTEMPTS} attempts",
                sample.stood_still, work.senders, work.transport
            ));
            return Ok(sample);
        }
        attempt += 1;
    }
}

fn measure_once(program: &Path, work: &Work) -> Result<Sample, String> {
    static RUN: AtomicU16 = AtomicU16::new(0);
    live::end_on_signals().map_err(|error| error.to_string())?;
    // Files that processes share belong into memory.
    let memory = Path::new("/dev/shm");
    let directory =
        if memory.is_dir() { Directory::new_in(memory, "isis-rival-") } else { Directory::new("isis-rival-") };
    let directory = directory.map_err(|error| error.to_string())?;
    let port = FIRST_PORT + RUN.fetch_add(1, Ordering::Relaxed) % RUNS * PORT_STEP;
    let mut members = Members {
        children: Children::new(|line| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| Report::Failed(format!("an unreadable report ({error}): {line}")))
        }),
    };
    for index in 0..work.members {
        let start = Start {
            transport: work.transport.to_owned(),
            directory: directory.path().to_owned(),
            index,
            members: work.members,
            size: work.size,
            port,
            answers: work.answers,
            spin: work.spin,
        };
        let text = serde_json::to_string(&start).map_err(|error| error.to_string())?;
        members.children.start(Command::new(program).arg(&text))?;
    }
    members.hear_all("connected", |report| matches!(report, Report::Ready).then_some(()))?;
    for index in 0..usize::from(work.senders) {
        members.order_one(index, Order::Load)?;
    }
    std::thread::sleep(WARM_UP);
    members.order(Order::Measure)?;
    std::thread::sleep(Duration::from_secs(work.seconds.clamp(1, 600)));
    members.order(Order::Tell)?;
    let mut latency = crate::report::histogram();
    let measured = members.hear_all("measurements", |report| {
        let Report::Measured { elapsed_ns, delivered, sent, lost, cpu_ns, histogram } = report else { return None };
        for (value, count) in histogram {
            latency.saturating_record_n(*value, *count);
        }
        Some((*elapsed_ns, *delivered, *sent, *lost, *cpu_ns))
    })?;
    members.order(Order::Hush)?;
    members.order(Order::Quit)?;
    members.children.collect(PATIENCE)?;
    let sent: u64 = measured.iter().map(|m| m.2).sum();
    let cpu: u64 = measured.iter().map(|m| m.4).sum();
    let senders = if work.answers { measured.len() } else { usize::from(work.senders) };
    let stood_still = measured.iter().take(senders).filter(|m| m.2 == 0).count();
    if measured.iter().any(|m| m.1 == 0) || (work.answers && latency.is_empty()) {
        return Err("a member delivered nothing".to_owned());
    }
    Ok(Sample {
        stood_still,
        rates: measured.iter().map(|m| m.1 as f64 * 1e9 / m.0 as f64).collect(),
        cpu_us: cpu as f64 / 1e3 / sent.max(1) as f64,
        latency,
        lost: measured.iter().map(|m| m.3).sum(),
    })
}

struct Members {
    children: Children<Report>,
}

impl Members {
    fn order_one(&mut self, index: usize, order: Order) -> Result<(), String> {
        self.children.tell(index, &serde_json::to_string(&order).map_err(|error| error.to_string())?)
    }

    fn order(&mut self, order: Order) -> Result<(), String> {
        self.children.tell_all(&serde_json::to_string(&order).map_err(|error| error.to_string())?)
    }

    /// Hears reports until each member has given one that is wanted.
    fn hear_all<T>(&mut self, what: &str, mut take: impl FnMut(&Report) -> Option<T>) -> Result<Vec<T>, String> {
        let end = Instant::now() + PATIENCE;
        let mut heard = BTreeMap::new();
        while heard.len() < self.children.len() {
            let left = end.saturating_duration_since(Instant::now());
            match self.children.hear(left)? {
                Some((index, Report::Failed(error))) => return Err(format!("{}: {error}", name(index))),
                Some((index, report)) => {
                    if let Some(taken) = take(&report) {
                        heard.insert(index, taken);
                    }
                }
                None => return Err(format!("{what}: not within {} s", PATIENCE.as_secs())),
            }
        }
        Ok(heard.into_values().collect())
    }
}
