//! Results: percentiles, where they were measured, as text and as JSON lines.

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// An empty histogram: up to a minute, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// The percentiles of nanoseconds, in microseconds.
pub fn percentiles(histogram: &Histogram<u64>) -> Value {
    let us = |value: u64| value as f64 / 1000.0;
    json!({
        "count": histogram.len(),
        "p50_us": us(histogram.value_at_quantile(0.5)),
        "p90_us": us(histogram.value_at_quantile(0.9)),
        "p99_us": us(histogram.value_at_quantile(0.99)),
        "p99.9_us": us(histogram.value_at_quantile(0.999)),
        "max_us": us(histogram.max()),
    })
}

/// The same as text.
pub fn percentile_text(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return "no samples".to_owned();
    }
    let at = |quantile| time_text(histogram.value_at_quantile(quantile));
    format!(
        "p50 {} · p90 {} · p99 {} · p99.9 {} · max {} ({} samples)",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        time_text(histogram.max()),
        histogram.len()
    )
}

/// Nanoseconds, readable.
pub fn time_text(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} µs", nanoseconds as f64 / 1e3),
        1_000_000..10_000_000_000 => format!("{:.2} ms", nanoseconds as f64 / 1e6),
        _ => format!("{:.1} s", nanoseconds as f64 / 1e9),
    }
}

/// What was measured, and where.
pub fn host() -> Value {
    let commit = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({
        "commit": commit,
        "kernel": kernel,
        "cpu": model,
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "load_before": load.split(' ').next().unwrap_or_default(),
    })
}

/// Prints a result: text, or one line of JSON with the host.
pub fn publish(json: bool, what: &str, text: &[String], mut value: Value) {
    if json {
        if let Some(map) = value.as_object_mut() {
            map.insert("bench".to_owned(), what.into());
            map.insert("host".to_owned(), host());
        }
        crate::say(&value.to_string());
        return;
    }
    for line in text {
        crate::say(line);
    }
    crate::say(&format!("({what}; {})", host_text(&host())));
}

/// More than this load before the start: other programs are at work.
const BUSY: f64 = 0.5;

/// Says so if other programs ran on the host of [`host`] before.
pub fn warn_if_busy(host: &Value) {
    if text_of(&host["load_before"]).parse().unwrap_or(0.0) > BUSY {
        crate::say(
            "NOTE: other programs are running here. Who polls, spins or yields loses more by that than who sleeps:",
        );
        crate::say("these figures are not those of an idle machine.");
    }
}

/// What [`host`] gave, as text.
pub fn host_text(host: &Value) -> String {
    format!(
        "commit {}, kernel {}, {} × {}, load before {}",
        text_of(&host["commit"]),
        text_of(&host["kernel"]),
        host["cpus"],
        text_of(&host["cpu"]),
        text_of(&host["load_before"])
    )
}

/// A file of measurements: one line of JSON each, with the host. Lines are appended.
#[derive(Debug)]
pub struct Lines {
    file: Option<File>,
    host: Value,
}

impl Lines {
    /// Opens the file; without a path nothing is written.
    pub fn open(path: Option<&Path>) -> Result<Lines, String> {
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Lines { file: path.map(open).transpose()?, host: host() })
    }

    /// Writes a measurement.
    pub fn write(&mut self, value: &Value) -> Result<(), String> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut() {
            map.insert("host".to_owned(), self.host.clone());
        }
        writeln!(file, "{value}").map_err(|error| error.to_string())
    }
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

/// The resident memory of a process, in bytes; 0 if it is gone.
pub fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}
