//! What a user can set: one table of named options, filled from defaults, a TOML file, `ISIS_…` variables and calls.
//!
//! All four ways go through [`Options::set`], so a name, its unit and its error message are the same everywhere. Later
//! settings win. A file's unknown key is an error that names the key.
//!
//! Memory: at most `max_chunks` × 64 KiB of stream bytes (lazily touched), + in threaded mode `command_ring` +
//! `event_ring`, + `group_backlog` for each group (and for each sender object), + one message of `max_message` in each
//! direction that is longer than a quarter of its ring, + at most 512 bytes for each message that is in a window: received
//! and not yet taken by the application. `max_chunks` should be at least the sum over groups of members ×
//! (`window` / 64 KiB + 2).

use crate::port::faults;
use isis_memory::CHUNK_SIZE;
use isis_memory::arena::CHUNKS_MAX;
use isis_protocol::config::claim_within;
use isis_protocol::detector::MAX_ANNOUNCED_PAUSE_NS;
use isis_protocol::{Config, Hang};
use isis_transport::is_site_name;
use isis_wire::frame::FRAGMENT_MAX;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Bytes of the largest arena.
const ARENA_MAX: usize = CHUNKS_MAX as usize * CHUNK_SIZE;

/// An option that cannot be set so.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OptionError {
    /// No option has this name.
    #[error("unknown option `{0}`")]
    Unknown(String),
    /// The value does not fit the option.
    #[error("option `{name}`: `{value}` is not {wanted}")]
    Bad {
        /// The option.
        name: String,
        /// What was given.
        value: String,
        /// What would have been right.
        wanted: String,
    },
    /// Options that do not go together.
    #[error("{0}")]
    Together(&'static str),
    /// The file cannot be read, or is no TOML.
    #[error("options file {path}: {message}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
}

/// Who turns the loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The application, by `turn`, `poll_event` and `wait`. No thread.
    Inline,
    /// A thread of the node.
    Threaded,
}

/// What a thread does while there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitStrategy {
    /// Spins: lowest latency, one processor always busy.
    Spin,
    /// Spins shortly, then yields, then sleeps.
    Yield,
    /// Sleeps at once.
    Block,
}

/// Whether multicast is used between hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Multicast {
    /// Where it is found to work; group addresses from the transport's own range.
    Auto,
    /// Only unicast.
    Off,
    /// Group addresses are taken from this prefix.
    Range {
        /// The prefix's address.
        base: IpAddr,
        /// Its length in bits.
        prefix: u8,
    },
}

/// All options. The fields may be set directly; `set` takes names and text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// `mode`: `inline` or `threaded` (default).
    pub mode: Mode,
    /// `bind`: the local IP address to receive at; default `auto`: the one from which the first seed is reached, without
    /// seeds 127.0.0.1.
    pub bind: Option<IpAddr>,
    /// `port`: the UDP port; 0 (default) lets the system choose.
    pub port: u16,
    /// `seeds`: addresses `host:port` where a system may be found, separated by commas.
    pub seeds: Vec<SocketAddr>,
    /// `multicast`: `auto` (default), `off`, or a range such as `239.192.0.0/16`.
    pub multicast: Multicast,
    /// `runtime_dir`: the site's directory; default `$XDG_RUNTIME_DIR/isis`, else `/tmp/isis-<uid>`.
    pub runtime_dir: Option<PathBuf>,
    /// `expected_sites`: how many sites the system has; founding it, and every later change of it, takes a majority of them.
    /// Default (`None`, text `off`): whoever finds no system founds one.
    pub expected_sites: Option<u16>,
    /// `site_name`: this site's name among the expected ones; needed with `expected_sites`.
    pub site_name: Option<String>,
    /// `state_dir`: where the site keeps its pledges, on durable storage; needed with `expected_sites`.
    pub state_dir: Option<PathBuf>,
    /// `wait`: `spin`, `yield` (default) or `block`.
    pub wait: WaitStrategy,
    /// `pin`: the processor to pin the core thread to, or `off` (default).
    pub pin: Option<u32>,
    /// `max_chunks`: most chunks of 64 KiB in the region (default 16384 = 1 GiB of addresses, touched as needed).
    pub max_chunks: u32,
    /// `command_ring`: bytes of the ring from the application to the core thread (a power of two; default 4 MiB).
    pub command_ring: usize,
    /// `event_ring`: bytes of the ring from the core thread to the application (a power of two; default 4 MiB).
    pub event_ring: usize,
    /// `group_backlog`: bytes that may wait in a threaded node for one group's window (default 1 MiB).
    pub group_backlog: usize,
    /// `faults`: faults to inject into what is received, for tests, as `drop=5,dup=1,reorder=1,delay_ms=2,jitter_ms=1,seed=7`
    /// (percent and milliseconds; default none).
    pub faults: String,
    /// `arrivals`: a file to write down in when packets came, for measurements of failure detection (default none).
    pub arrivals: Option<PathBuf>,
    /// `seed`: of the core's random choices; default (`None`, text `random`): from the system.
    pub seed: Option<u64>,
    /// `discovery_ns`: how long to look for a system before founding one.
    pub discovery_ns: u64,
    /// `stall_after_ns`: how long to go on without a quorum.
    pub stall_after_ns: u64,
    /// `suspect_min_ns`: shortest silence after which a process of another site is suspected.
    pub suspect_min_ns: u64,
    /// `suspect_max_ns`: longest such silence.
    pub suspect_max_ns: u64,
    /// `heartbeat_ns`: how often an idle process shows its row.
    pub heartbeat_ns: u64,
    /// `row_delay_ns`: how long a row waits for company.
    pub row_delay_ns: u64,
    /// `nak_delay_ns`: how long a gap may stay unreported.
    pub nak_delay_ns: u64,
    /// `sequencer_moves_after`: ABCASTs that are counted before the member that orders those of a group passes this on to
    /// whoever sent most of them; 0: it keeps it.
    pub sequencer_moves_after: u32,
    /// `resend_ns`: how long until a protocol message is repeated.
    pub resend_ns: u64,
    /// `takeover_ns`: how long a view change may rest.
    pub takeover_ns: u64,
    /// `linger_ns`: how long `close` and leave wait for the others.
    pub linger_ns: u64,
    /// `hang`: what is done about a process of this site that hangs and holds up a view change: `wait` (default) or `kill`.
    pub hang: Hang,
    /// `hang_timeout_ns`: with `kill`, after how long a silence.
    pub hang_timeout_ns: u64,
    /// `allow_kill`: processes of this site and user may kill this one when it hangs; `on` or `off` (default).
    pub allow_kill: bool,
    /// `max_pause_ns`: how long the program may stay away between two turns of the loop (inline mode); the others are told,
    /// and do not suspect it earlier. Default 0: nothing is promised.
    pub max_pause_ns: u64,
    /// `hold_bytes`: the most bytes of messages that the C API keeps for the program at a time.
    pub hold_bytes: u64,
    /// `window`: bytes that a sender may be ahead of the slowest member.
    pub window: u64,
    /// `fragment`: payload bytes in one fragment, at most.
    pub fragment: usize,
    /// `max_message`: the longest message, in bytes.
    pub max_message: usize,
    /// `join_backlog`: bytes that a joiner keeps while its state is on the way.
    pub join_backlog: u64,
    /// `datagram_local`: largest UDP payload within the site.
    pub datagram_local: usize,
    /// `datagram_network`: largest UDP payload between sites; paths that take less are found out about.
    pub datagram_network: usize,
    /// `offload`: `on` (default) or `off`: whether runs of datagrams go to the kernel as one piece.
    pub offload: bool,
    /// `shared_memory`: `on` (default) or `off`: whether processes of this site reach each other by shared memory.
    pub shared_memory: bool,
    /// `shared_memory_log`: bytes of this process's log there; a power of two, or rounded up to one.
    pub shared_memory_log: usize,
    /// `shared_memory_streams`: bytes of its streams that they read there where they lie, rounded up to chunks; 0: they get
    /// copies.
    pub shared_memory_streams: usize,
}

impl Default for Options {
    fn default() -> Options {
        let core = Config::new(0, Default::default(), Default::default(), Default::default());
        Options {
            mode: Mode::Threaded,
            bind: None,
            port: 0,
            seeds: Vec::new(),
            multicast: Multicast::Auto,
            runtime_dir: None,
            expected_sites: None,
            site_name: None,
            state_dir: None,
            wait: WaitStrategy::Yield,
            pin: None,
            max_chunks: 16_384,
            command_ring: 4 << 20,
            event_ring: 4 << 20,
            group_backlog: 1 << 20,
            faults: String::new(),
            arrivals: None,
            seed: None,
            discovery_ns: core.discovery_ns,
            stall_after_ns: core.stall_after_ns,
            suspect_min_ns: core.suspect_min_ns,
            suspect_max_ns: core.suspect_max_ns,
            // Shorter than the core's, which the simulator's seeds rest on: docs/detection.md measures what that is worth.
            heartbeat_ns: 20_000_000,
            row_delay_ns: core.row_delay_ns,
            nak_delay_ns: core.nak_delay_ns,
            sequencer_moves_after: core.handover.after,
            resend_ns: core.resend_ns,
            takeover_ns: core.takeover_ns,
            linger_ns: core.linger_ns,
            hang: core.hang,
            hang_timeout_ns: core.hang_timeout_ns,
            allow_kill: false,
            max_pause_ns: core.max_pause_ns,
            hold_bytes: 16 << 20,
            window: core.window,
            fragment: core.fragment,
            max_message: core.max_message,
            join_backlog: core.join_backlog,
            datagram_local: core.datagram_local,
            // What the paths take is found out.
            datagram_network: 65_000,
            offload: true,
            shared_memory: true,
            shared_memory_log: 4 << 20,
            shared_memory_streams: 16 << 20,
        }
    }
}

/// The names of all options, for help texts and bindings.
pub const OPTION_NAMES: [&str; 45] = [
    "mode",
    "bind",
    "port",
    "seeds",
    "multicast",
    "runtime_dir",
    "expected_sites",
    "site_name",
    "state_dir",
    "wait",
    "pin",
    "max_chunks",
    "command_ring",
    "event_ring",
    "group_backlog",
    "faults",
    "arrivals",
    "seed",
    "discovery_ns",
    "stall_after_ns",
    "suspect_min_ns",
    "suspect_max_ns",
    "heartbeat_ns",
    "row_delay_ns",
    "nak_delay_ns",
    "sequencer_moves_after",
    "resend_ns",
    "takeover_ns",
    "linger_ns",
    "hang",
    "hang_timeout_ns",
    "allow_kill",
    "max_pause_ns",
    "hold_bytes",
    "window",
    "fragment",
    "max_message",
    "join_backlog",
    "datagram_local",
    "datagram_network",
    "offload",
    "shared_memory",
    "shared_memory_log",
    "shared_memory_streams",
    "config",
];

impl Options {
    /// The defaults.
    pub fn new() -> Options {
        Options::default()
    }

    /// Sets one option by name. Times take a plain number of nanoseconds or a unit (`250us`, `20ms`, `2s`), sizes a plain
    /// number of bytes or `KiB`, `MiB`, `GiB`. The name `config` reads a file.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        let text = value.trim();
        let bad = |wanted: &str| {
            Err(OptionError::Bad { name: name.to_owned(), value: value.to_owned(), wanted: wanted.to_owned() })
        };
        macro_rules! take {
            ($field:ident, $parsed:expr, $wanted:expr) => {
                match $parsed {
                    Some(parsed) => self.$field = parsed,
                    None => return bad($wanted),
                }
            };
        }
        const TIME: &str = "a time (nanoseconds, or with ns, us, ms or s)";
        const SIZE: &str = "a size (bytes, or with KiB, MiB or GiB)";
        const RING: &str = "a power of two from 4 KiB to 1 GiB";
        match name {
            "mode" => take!(mode, mode(text), "`inline` or `threaded`"),
            "bind" => take!(bind, or_word("auto", text), "an IP address or `auto`"),
            "port" => take!(port, text.parse().ok(), "a port number"),
            "seeds" => take!(seeds, addresses(text), "a list of address:port, separated by commas"),
            "multicast" => {
                take!(
                    multicast,
                    multicast(text),
                    "`auto`, `off` or a range of multicast addresses (239.192.0.0/16 or larger, ff18::/64 or larger)"
                )
            }
            "runtime_dir" => self.runtime_dir = (!text.is_empty()).then(|| PathBuf::from(text)),
            "expected_sites" => take!(expected_sites, expected(text), "a number of sites from 1 to 1000, or `off`"),
            "site_name" => {
                let good = text.is_empty() || is_site_name(text);
                let name = (!text.is_empty()).then(|| text.to_owned());
                take!(site_name, good.then_some(name), "a name of at most 64 letters, digits, `-`, `_` and `.`");
            }
            "state_dir" => self.state_dir = (!text.is_empty()).then(|| PathBuf::from(text)),
            "wait" => take!(wait, wait(text), "`spin`, `yield` or `block`"),
            "pin" => take!(pin, or_word("off", text), "a processor number or `off`"),
            "max_chunks" => take!(max_chunks, within(text.parse().ok(), 1, 1 << 24), "a number from 1 to 16777216"),
            "command_ring" => take!(command_ring, ring(text), RING),
            "event_ring" => take!(event_ring, ring(text), RING),
            "group_backlog" => take!(group_backlog, size(text), SIZE),
            "faults" => {
                faults(text)?;
                self.faults = text.to_owned();
            }
            "arrivals" => self.arrivals = (!text.is_empty()).then(|| PathBuf::from(text)),
            "seed" => take!(seed, or_word("random", text), "a number or `random`"),
            "discovery_ns" => take!(discovery_ns, time(text), TIME),
            "stall_after_ns" => take!(stall_after_ns, time(text), TIME),
            "suspect_min_ns" => take!(suspect_min_ns, time(text), TIME),
            "suspect_max_ns" => take!(suspect_max_ns, time(text), TIME),
            "heartbeat_ns" => take!(heartbeat_ns, time(text), TIME),
            "row_delay_ns" => take!(row_delay_ns, time(text), TIME),
            "nak_delay_ns" => take!(nak_delay_ns, time(text), TIME),
            "sequencer_moves_after" => {
                take!(sequencer_moves_after, text.parse().ok(), "a number of messages, or 0")
            }
            "resend_ns" => take!(resend_ns, time(text), TIME),
            "takeover_ns" => take!(takeover_ns, time(text), TIME),
            "linger_ns" => take!(linger_ns, time(text), TIME),
            "hang" => take!(hang, hang(text), "`wait` or `kill`"),
            "hang_timeout_ns" => take!(hang_timeout_ns, time(text), TIME),
            "allow_kill" => take!(allow_kill, switch(text), "`on` or `off`"),
            "max_pause_ns" => {
                take!(max_pause_ns, within(time(text), 0, MAX_ANNOUNCED_PAUSE_NS), "a time up to 10min")
            }
            "hold_bytes" => take!(hold_bytes, size(text), SIZE),
            "window" => take!(window, size(text), SIZE),
            "fragment" => take!(fragment, within(size(text), 64, FRAGMENT_MAX), "a size from 64 bytes to 1 MiB"),
            "max_message" => take!(max_message, within(size(text), 1, 1 << 30), "a size up to 1 GiB"),
            "join_backlog" => take!(join_backlog, size(text), SIZE),
            "datagram_local" => take!(datagram_local, within(size(text), 1_200, 65_000), "a size from 1200 to 65000"),
            "offload" => take!(offload, switch(text), "`on` or `off`"),
            "shared_memory" => take!(shared_memory, switch(text), "`on` or `off`"),
            "shared_memory_log" => {
                take!(shared_memory_log, within(size(text), 1 << 20, 1 << 30), "a size from 1 MiB to 1 GiB")
            }
            "shared_memory_streams" => {
                take!(shared_memory_streams, within(size(text), 0, ARENA_MAX), "a size up to 256 MiB")
            }
            "datagram_network" => {
                take!(datagram_network, within(size(text), 1_200, 65_000), "a size from 1200 to 65000")
            }
            "config" => return self.read_file(Path::new(text)),
            _ => return Err(OptionError::Unknown(name.to_owned())),
        }
        Ok(())
    }

    /// Reads a TOML file of `name = value` lines. Nothing is changed when it has an error.
    pub fn read_file(&mut self, path: &Path) -> Result<(), OptionError> {
        let file = |message: String| OptionError::File { path: path.display().to_string(), message };
        let text = std::fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| file(error.to_string()))?;
        let mut changed = self.clone();
        for (name, value) in &table {
            if name == "config" {
                return Err(file("a file cannot name another one (`config`)".to_owned()));
            }
            let value = plain(value).ok_or_else(|| match OPTION_NAMES.contains(&name.as_str()) {
                true => file(format!("option `{name}` takes no table")),
                false => file(format!("unknown option `{name}`")),
            })?;
            changed.set(name, &value).map_err(|error| file(error.to_string()))?;
        }
        *self = changed;
        Ok(())
    }

    /// Takes `ISIS_<NAME>` variables (`ISIS_CONFIG` first). Gives the `ISIS_…` names that are no option: other programs of
    /// the user may use them, or they are misspelt.
    pub fn read_environment(&mut self) -> Result<Vec<String>, OptionError> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.to_str()?.strip_prefix("ISIS_")?.to_owned(), value.to_string_lossy().into_owned()))
        });
        self.read_variables(variables)
    }

    fn read_variables(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Vec<String>, OptionError> {
        let mut variables: Vec<(String, String)> =
            variables.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        variables.sort_by_key(|(name, _)| (name != "config", name.clone()));
        let mut unknown = Vec::new();
        for (name, value) in &variables {
            match OPTION_NAMES.contains(&name.as_str()) {
                true => self.set(name, value)?,
                false => unknown.push(format!("ISIS_{}", name.to_ascii_uppercase())),
            }
        }
        Ok(unknown)
    }

    /// The site's name and where its record is, under `expected_sites`.
    pub(crate) fn named_site(&self) -> Result<Option<(String, PathBuf)>, OptionError> {
        let together = |text| Err(OptionError::Together(text));
        match (self.expected_sites, &self.site_name, &self.state_dir) {
            (Some(0), ..) => together("`expected_sites` is at least 1"),
            (Some(_), Some(name), Some(_)) if !is_site_name(name) => together("`site_name` is no good name"),
            (Some(_), Some(name), Some(directory)) => Ok(Some((name.clone(), directory.clone()))),
            (Some(_), None, _) => together("`expected_sites` needs a `site_name`: a site that has none cannot pledge"),
            (Some(_), _, None) => {
                together("`expected_sites` needs a `state_dir`: a site that writes nothing down cannot pledge")
            }
            (None, None, None) => Ok(None),
            (None, ..) => together("`site_name` and `state_dir` mean nothing without `expected_sites`"),
        }
    }

    /// The longest claim, in bytes.
    pub(crate) fn claim_max(&self) -> usize {
        claim_within(self.fragment, self.window)
    }

    /// Copies into a core configuration what belongs there.
    pub(crate) fn fill(&self, config: &mut Config) {
        config.seeds = self.seeds.iter().map(|seed| (*seed).into()).collect();
        config.expected_sites = self.expected_sites.unwrap_or(0);
        config.discovery_ns = self.discovery_ns;
        config.stall_after_ns = self.stall_after_ns;
        config.suspect_min_ns = self.suspect_min_ns;
        config.suspect_max_ns = self.suspect_max_ns;
        config.heartbeat_ns = self.heartbeat_ns;
        config.row_delay_ns = self.row_delay_ns;
        config.nak_delay_ns = self.nak_delay_ns;
        config.handover.after = self.sequencer_moves_after;
        config.resend_ns = self.resend_ns;
        config.takeover_ns = self.takeover_ns;
        config.linger_ns = self.linger_ns;
        config.hang = self.hang;
        config.hang_timeout_ns = self.hang_timeout_ns;
        config.max_pause_ns = self.max_pause_ns;
        config.window = self.window;
        config.fragment = self.fragment;
        config.max_message = self.max_message;
        config.join_backlog = self.join_backlog;
        config.datagram_local = self.datagram_local;
        config.datagram_network = self.datagram_network;
    }
}

/// A TOML value as `set` takes it.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Array(values) => {
            let parts: Option<Vec<String>> = values.iter().map(plain).collect();
            parts.map(|parts| parts.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

fn mode(text: &str) -> Option<Mode> {
    match text {
        "inline" => Some(Mode::Inline),
        "threaded" => Some(Mode::Threaded),
        _ => None,
    }
}

fn wait(text: &str) -> Option<WaitStrategy> {
    match text {
        "spin" => Some(WaitStrategy::Spin),
        "yield" => Some(WaitStrategy::Yield),
        "block" => Some(WaitStrategy::Block),
        _ => None,
    }
}

fn hang(text: &str) -> Option<Hang> {
    match text {
        "wait" => Some(Hang::Wait),
        "kill" => Some(Hang::Kill),
        _ => None,
    }
}

/// `on` or `off`; `true` and `false` are how TOML says it.
fn switch(text: &str) -> Option<bool> {
    match text {
        "on" | "true" => Some(true),
        "off" | "false" => Some(false),
        _ => None,
    }
}

fn addresses(text: &str) -> Option<Vec<SocketAddr>> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
}

fn multicast(text: &str) -> Option<Multicast> {
    match text {
        "auto" => return Some(Multicast::Auto),
        "off" => return Some(Multicast::Off),
        _ => (),
    }
    let (base, prefix) = text.split_once('/')?;
    let (base, prefix) = (base.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
    // The transport spreads groups over 65,536 IPv4 addresses, or over the lower half of an IPv6 one.
    let most = if base.is_ipv4() { 16 } else { 64 };
    (base.is_multicast() && prefix <= most).then_some(Multicast::Range { base, prefix })
}

/// A number, or the word that stands for none.
fn or_word<T: FromStr>(word: &str, text: &str) -> Option<Option<T>> {
    if text == word { Some(None) } else { text.parse().ok().map(Some) }
}

fn expected(text: &str) -> Option<Option<u16>> {
    or_word("off", text).filter(|number| number.is_none_or(|number| (1..=1000).contains(&number)))
}

fn within<T: PartialOrd + Display>(value: Option<T>, least: T, most: T) -> Option<T> {
    value.filter(|value| *value >= least && *value <= most)
}

/// A number with one of these units.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (text[..digits].parse::<u64>().ok()?, text[digits..].trim());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

fn time(text: &str) -> Option<u64> {
    let units = [("", 1), ("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("min", 60_000_000_000)];
    scaled(text, &units)
}

fn size<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let units = [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    T::try_from(scaled(text, &units)?).ok()
}

fn ring(text: &str) -> Option<usize> {
    within(size(text), 4 << 10, 1 << 30).filter(|bytes: &usize| bytes.is_power_of_two())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_listed_option_can_be_set_and_no_other() {
        for name in OPTION_NAMES {
            let error = Options::new().set(name, "\u{1}").err();
            assert!(!matches!(error, Some(OptionError::Unknown(_))), "{name} is listed, but unknown");
        }
        let error = Options::new().set("windw", "1").expect_err("no such option");
        assert_eq!(error.to_string(), "unknown option `windw`");
    }

    #[test]
    fn times_and_sizes_take_units() {
        let mut options = Options::new();
        options.set("linger_ns", "20ms").expect("a time");
        options.set("heartbeat_ns", "250us").expect("a time");
        options.set("window", "2MiB").expect("a size");
        options.set("seeds", "10.0.0.1:7000, [::1]:9").expect("addresses");
        options.set("multicast", "239.192.0.0/16").expect("a range");
        assert_eq!((options.linger_ns, options.heartbeat_ns, options.window), (20_000_000, 250_000, 2 << 20));
        assert_eq!(options.seeds.len(), 2);
        let error = options.set("linger_ns", "soon").expect_err("no time");
        assert_eq!(
            error.to_string(),
            "option `linger_ns`: `soon` is not a time (nanoseconds, or with ns, us, ms or s)"
        );
        for (name, value) in
            [("command_ring", "5000"), ("multicast", "10.0.0.0/8"), ("fragment", "2MiB"), ("window", "99999999999GiB")]
                .into_iter()
                .chain([("hang", "maybe"), ("allow_kill", "2"), ("max_pause_ns", "11min")])
        {
            assert!(options.set(name, value).is_err(), "{name} took {value}");
        }
    }

    #[test]
    fn expected_sites_come_with_a_name_and_a_directory() {
        let mut options = Options::new();
        assert_eq!(options.named_site(), Ok(None));
        for bad in ["0", "-1", "1001", "many"] {
            assert!(options.set("expected_sites", bad).is_err(), "{bad}");
        }
        assert!(options.set("site_name", "a/b").is_err());
        options.set("expected_sites", "3").expect("a number");
        let error = options.named_site().expect_err("no name").to_string();
        assert!(error.contains("needs a `site_name`"), "{error}");
        options.set("site_name", "north").expect("a name");
        let error = options.named_site().expect_err("no directory").to_string();
        assert!(error.contains("needs a `state_dir`"), "{error}");
        options.set("state_dir", "/var/lib/isis").expect("a directory");
        assert_eq!(options.named_site(), Ok(Some(("north".to_owned(), PathBuf::from("/var/lib/isis")))));
        options.set("expected_sites", "off").expect("off");
        assert!(options.named_site().is_err(), "a name for nothing");
    }

    #[test]
    fn a_file_sets_options_and_names_an_unknown_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("isis.toml");
        std::fs::write(&path, "mode = \"inline\"\nport = 7000\nhang = \"kill\"\nallow_kill = true\nmax_pause_ns = \"3s\"\nhold_bytes = \"1MiB\"\nseeds = [\"10.0.0.1:7000\", \"10.0.0.2:7000\"]\n")
            .expect("write");
        let mut options = Options::new();
        options.set("config", path.to_str().expect("utf-8")).expect("a good file");
        assert_eq!((options.mode, options.port, options.seeds.len()), (Mode::Inline, 7000, 2));
        assert_eq!((options.hang, options.allow_kill), (Hang::Kill, true));
        assert_eq!((options.max_pause_ns, options.hold_bytes), (3_000_000_000, 1 << 20));

        std::fs::write(&path, "port = 8000\nprot = 1\n").expect("write");
        let error = options.read_file(&path).expect_err("an unknown key");
        assert!(error.to_string().contains("unknown option `prot`"), "{error}");
        assert_eq!(options.port, 7000, "a bad file changes nothing");
    }

    #[test]
    fn the_environment_overrides_and_reports_strangers() {
        let mut options = Options::new();
        let variables = [("MODE", "inline"), ("SIM_SEEDS", "9"), ("LINGER_NS", "1s")];
        let unknown = options
            .read_variables(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
            .expect("good values");
        assert_eq!(unknown, ["ISIS_SIM_SEEDS"]);
        assert_eq!((options.mode, options.linger_ns), (Mode::Inline, 1_000_000_000));
    }
}
