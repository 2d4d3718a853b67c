//! `roc`: how long must the silence be after which a process of another host is suspected? Records how long the members of a
//! system were silent while they and further processes keep all processors of this host busy, and replays that through the
//! detector with other settings: false suspicions an hour against the time until a real silence is noticed.
//!
//! Each member is a site of its own here (its own runtime directory), so they watch each other as hosts do, over the loopback:
//! what is measured is what an overloaded host does to its processes, not what a network does.

use crate::fleet::Fleet;
use crate::talk::Order;
use crate::throughput::Load;
use clap::Args;
use isis_protocol::Instant;
use isis_protocol::detector::{Detector, Weights};
use isis_protocol::time::{MILLISECOND, SECOND};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The arguments.
#[derive(Args, Clone, Debug)]
pub struct Roc {
    #[command(flatten)]
    load: Load,
    /// Seconds to record.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Messages a second of each member; 0 = as many as the window takes.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Threads that do nothing but compute, besides the members.
    #[arg(long, default_value_t = 2)]
    burners: usize,
    /// Records nothing: replays the files of this directory (`--keep`).
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Leaves the recorded files in this directory, which exists.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Draws the curve into this file, as SVG.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// The shortest timeouts that are tried, in milliseconds.
const MINIMA_MS: [u64; 10] = [20, 40, 60, 80, 100, 120, 150, 200, 250, 300];
/// The weights of mean and deviation that are tried; the first are the engine's.
const WEIGHTS: [Weights; 3] =
    [Weights::DEFAULT, Weights { means: 2, deviations: 4 }, Weights { means: 1, deviations: 2 }];
/// The longest timeout, as by default.
const MAXIMUM_NS: u64 = 2 * SECOND;
/// Between two recorded silences packets came at least this often.
const STEP_NS: u64 = MILLISECOND;
/// An hour.
const HOUR: u64 = 3_600 * SECOND;
/// What is recorded first is of the start, where nobody is measured.
const START_NS: u64 = 2 * SECOND;

/// What one process recorded.
#[derive(Debug, Default)]
struct Recording {
    /// By sender: silences, from when to when.
    senders: BTreeMap<String, Vec<(u64, u64)>>,
    /// When the process itself did not get its turn.
    pauses: Vec<(u64, u64)>,
}

/// What a setting comes to.
#[derive(Clone, Copy, Debug)]
struct Point {
    weights: Weights,
    min_ns: u64,
    /// Wrong suspicions.
    suspicions: u64,
    /// Hours that one process was watched by one other.
    hours: f64,
    /// Silence until suspicion, on average over the time, from a random moment on; and the longest.
    mean_ns: f64,
    worst_ns: u64,
}

impl Point {
    fn an_hour(&self) -> f64 {
        self.suspicions as f64 / self.hours.max(f64::MIN_POSITIVE)
    }
}

/// Runs it.
pub fn run(args: &Roc) -> Result<(), String> {
    let recordings = match &args.replay {
        Some(directory) => read_all(directory)?,
        None => record(args)?,
    };
    if recordings.iter().all(|recording| recording.senders.is_empty()) {
        return Err("nothing was recorded".to_owned());
    }
    let mut points = Vec::new();
    for weights in WEIGHTS {
        for min_ms in MINIMA_MS {
            points.push(replay(&recordings, weights, min_ms * MILLISECOND));
        }
    }
    if let Some(file) = &args.svg {
        std::fs::write(file, draw(&points)).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let (pairs, longest) = (
        recordings.iter().map(|recording| recording.senders.len()).sum::<usize>(),
        recordings.iter().flat_map(|r| r.senders.values().flatten()).map(|(from, to)| to - from).max().unwrap_or(0),
    );
    let mut text = vec![
        format!("{}, {} burners, {pairs} pairs, {:.3} hours", args.load.text(), args.burners, points[0].hours),
        format!("longest silence {:.1} ms", longest as f64 / 1e6),
        "| 4 × mean + 8 × deviation | shortest timeout | wrong suspicions | an hour | noticed after, mean | at worst |"
            .replace("4 × mean + 8 × deviation", "Weights"),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    for point in &points {
        text.push(format!(
            "| {} × mean + {} × deviation | {} ms | {} | {:.1} | {:.0} ms | {:.0} ms |",
            point.weights.means,
            point.weights.deviations,
            point.min_ns / MILLISECOND,
            point.suspicions,
            point.an_hour(),
            point.mean_ns / 1e6,
            point.worst_ns as f64 / 1e6
        ));
    }
    let values: Vec<_> = points
        .iter()
        .map(|point| {
            json!({
                "means": point.weights.means, "deviations": point.weights.deviations, "min_ns": point.min_ns,
                "suspicions": point.suspicions, "hours": point.hours, "mean_ns": point.mean_ns, "worst_ns": point.worst_ns,
            })
        })
        .collect();
    crate::report::publish(args.load.json, "roc", &text, json!({ "points": values }));
    Ok(())
}

/// Lets the members run at full load, and reads what they recorded.
fn record(args: &Roc) -> Result<Vec<Recording>, String> {
    let mut fleet = Fleet::new()?;
    let directory = fleet.directory();
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let port = free_port()?;
    for member in 0..args.load.members {
        let mut start = args.load.start(&fleet, args.rate, false, 0)?;
        start.directory = directory.join(format!("site-{member}"));
        let file = directory.join(format!("arrivals-{member}")).display().to_string();
        let mut options = vec![("bind", "127.0.0.1".to_owned()), ("multicast", "off".to_owned()), ("arrivals", file)];
        match member {
            0 => options.push(("port", port.to_string())),
            _ => options.push(("seeds", format!("127.0.0.1:{port}"))),
        }
        // Nobody is suspected while it is recorded how long everybody may be silent.
        for name in ["suspect_min_ns", "suspect_max_ns", "stall_after_ns"] {
            options.push((name, "20s".to_owned()));
        }
        start.options.extend(options.into_iter().map(|(name, value)| (name.to_owned(), value)));
        fleet.start(&start)?;
        fleet.assemble()?;
    }
    let over = Arc::new(AtomicBool::new(false));
    let burners: Vec<_> = (0..args.burners)
        .map(|_| {
            let over = Arc::clone(&over);
            // Relaxed: nothing else is told by it.
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    fleet.order_all(&Order::Load)?;
    let end = std::time::Instant::now() + Duration::from_secs(args.seconds);
    while std::time::Instant::now() < end {
        let _ = fleet.hear(Duration::from_millis(200))?;
    }
    over.store(true, Ordering::Relaxed);
    for burner in burners {
        burner.join().map_err(|_| "a thread panicked".to_owned())?;
    }
    fleet.settle(false)?;
    for index in fleet.alive() {
        let counters = fleet.counters(index)?;
        let suspicions = counters.get("suspicions").copied().unwrap_or(0);
        crate::progress(&format!("  member {index}: {suspicions} suspicions"));
    }
    fleet.quit()?;
    if let Some(keep) = &args.keep {
        for member in 0..args.load.members {
            let name = format!("arrivals-{member}");
            std::fs::copy(directory.join(&name), keep.join(&name)).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    read_all(&directory)
}

fn free_port() -> Result<u16, String> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    socket.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

fn read_all(directory: &Path) -> Result<Vec<Recording>, String> {
    let complain = |error: std::io::Error| format!("{}: {error}", directory.display());
    let mut recordings = Vec::new();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory).map_err(complain)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    for file in files {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("arrivals-")) {
            recordings.push(read(&std::fs::read_to_string(&file).map_err(complain)?));
        }
    }
    Ok(recordings)
}

/// The lines that the option `arrivals` writes.
fn read(text: &str) -> Recording {
    let mut recording = Recording::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let silence = |words: &[&str]| Some((words.first()?.parse().ok()?, words.get(1)?.parse().ok()?));
        match words[..] {
            ["from", address, ref times @ ..] => {
                if let Some(silence) = silence(times) {
                    recording.senders.entry(address.to_owned()).or_default().push(silence);
                }
            }
            ["own", ref times @ ..] => recording.pauses.extend(silence(times)),
            _ => (),
        }
    }
    recording
}

/// Takes all silences through detectors with this setting.
fn replay(recordings: &[Recording], weights: Weights, min_ns: u64) -> Point {
    let mut point = Point { weights, min_ns, suspicions: 0, hours: 0.0, mean_ns: 0.0, worst_ns: 0 };
    let (mut weighted, mut watched_ns) = (0.0, 0_u64);
    for recording in recordings {
        // One that notices its own pause accuses nobody on waking.
        let pauses: Vec<u64> =
            recording.pauses.iter().filter(|(from, to)| to - from > min_ns / 2).map(|(_, to)| *to).collect();
        for silences in recording.senders.values() {
            let Some(&(begin, _)) = silences.first() else { continue };
            let mut detector = Detector::new(Instant(begin), min_ns, MAXIMUM_NS).weighted(weights);
            let mut now = begin;
            let mut next_pause = 0;
            for &(from, to) in silences {
                while now + STEP_NS < from {
                    now += STEP_NS;
                    detector.heard(Instant(now));
                }
                detector.heard(Instant(from));
                while pauses.get(next_pause).is_some_and(|pause| *pause < from) {
                    next_pause += 1;
                }
                let forgiven = pauses.get(next_pause).is_some_and(|pause| *pause <= to);
                if forgiven {
                    detector.forgive(Instant(to));
                } else if from > begin + START_NS && detector.suspected(Instant(to)) {
                    point.suspicions += 1;
                }
                if from > begin + START_NS {
                    // A silence that begins at any moment of this one is noticed when the timeout is over, counted from its start.
                    let timeout_ns = detector.timeout_ns();
                    weighted += (to - now) as f64 * timeout_ns as f64;
                    watched_ns += to - now;
                    point.worst_ns = point.worst_ns.max(timeout_ns);
                }
                detector.heard(Instant(to));
                now = to;
            }
        }
    }
    point.mean_ns = weighted / watched_ns.max(1) as f64;
    point.hours = watched_ns as f64 / HOUR as f64;
    point
}

/// The curves: across, when a silence is noticed; upwards, wrong suspicions an hour, none at the bottom.
fn draw(points: &[Point]) -> String {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 400.0;
    const EDGE: f64 = 60.0;
    const COLOURS: [&str; 3] = ["#1f5fa8", "#b0621c", "#4d8a3d"];
    let most_ms = points.iter().map(|p| p.mean_ns / 1e6).fold(100.0, f64::max) * 1.05;
    let most = points.iter().map(Point::an_hour).fold(10.0, f64::max).log10().ceil();
    let across = |ns: f64| EDGE + (ns / 1e6) / most_ms * (WIDTH - 2.0 * EDGE);
    // None and one an hour are a decade apart; below one an hour nothing was measured.
    let decade = |an_hour: f64| if an_hour < 1.0 { 0.0 } else { 1.0 + an_hour.log10() };
    let upwards = |an_hour: f64| HEIGHT - EDGE - decade(an_hour) / (most + 1.0) * (HEIGHT - 2.0 * EDGE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
        font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let (left, right, bottom) = (EDGE, WIDTH - EDGE, HEIGHT - EDGE);
    let _ = writeln!(svg, "<path d=\"M{left} {EDGE}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>");
    for step in 0..=4 {
        let ms = most_ms * f64::from(step) / 4.0;
        let x = across(ms * 1e6);
        let _ = writeln!(svg, "<text x=\"{x:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{ms:.0}</text>", bottom + 18.0);
    }
    let middle = WIDTH / 2.0;
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{:.0}\" text-anchor=\"middle\">a silence is noticed after, ms</text>",
        bottom + 38.0
    );
    let mut levels = vec![(0.0, "none".to_owned())];
    levels.extend((0..=most as u32).map(|power| (10_f64.powi(power as i32), 10_u64.pow(power).to_string())));
    for (an_hour, name) in levels {
        let (x, y) = (left - 8.0, upwards(an_hour));
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{:.0}\" text-anchor=\"end\">{name}</text>", y + 4.0);
        let _ = writeln!(svg, "<path d=\"M{left} {y:.0}H{right}\" stroke=\"#ddd\"/>");
    }
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"{:.0}\">wrong suspicions an hour</text>", EDGE - 30.0);
    for (number, weights) in WEIGHTS.iter().enumerate() {
        let colour = COLOURS[number];
        let mut path = String::new();
        for point in points.iter().filter(|point| point.weights == *weights) {
            let (x, y) = (across(point.mean_ns), upwards(point.an_hour()));
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" });
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" fill=\"{colour}\" text-anchor=\"end\">{} × mean + {} × deviation</text>",
            right,
            EDGE + 16.0 * number as f64,
            weights.means,
            weights.deviations
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heartbeats each 30 ms, and one silence of 400 ms: noticed by a short timeout, not by a long one, nor by a process that was
    /// away itself.
    #[test]
    fn a_long_silence_is_a_wrong_suspicion() {
        let beat = 30 * MILLISECOND;
        let mut text = String::new();
        let mut now = SECOND;
        for step in 0..1_000 {
            let silence = if step == 500 { 400 * MILLISECOND } else { beat };
            let _ = writeln!(text, "from 127.0.0.1:7 {now} {}", now + silence);
            now += silence;
        }
        let recording = read(&text);
        assert_eq!(recording.senders["127.0.0.1:7"].len(), 1_000);
        let all = [recording];
        assert_eq!(replay(&all, Weights::DEFAULT, 100 * MILLISECOND).suspicions, 1);
        assert_eq!(replay(&all, Weights::DEFAULT, 500 * MILLISECOND).suspicions, 0);
        let [mut recording] = all;
        recording.pauses.push((SECOND + 500 * beat, SECOND + 500 * beat + 390 * MILLISECOND));
        assert_eq!(replay(&[recording], Weights::DEFAULT, 100 * MILLISECOND).suspicions, 0);
    }
}
