//! Hosts of their own on this machine: network namespaces that a bridge joins, with links that can be cut, narrowed and
//! filtered. For tests only; needs root and the commands `ip` and `nft`.
//!
//! ```text
//!  namespace …-0          namespace …-1          namespace …-2
//!   eth0 10.77.0.1         eth0 10.77.0.2         eth0 10.77.0.3        fd77::1, ::2, ::3 as well
//!      │                      │                      │
//!  ┌───p0─────────────────────p1─────────────────────p2───┐
//!  │                  bridge, namespace …-sw              │
//!  └──────────────────────────────────────────────────────┘
//! ```
//!
//! Names begin with `isis-<pid>-`. Dropping a [`Net`] removes its namespaces; processes in them are their starters' to end,
//! and live on without a network until then. What an interrupted or killed run left behind is removed by its [`Guard`], and
//! if that was killed as well, by the next run ([`remove_stale`]).

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// How the names of all namespaces begin.
const PREFIX: &str = "isis-";

/// Hosts joined by a bridge.
#[derive(Debug)]
pub struct Net {
    name: String,
    hosts: usize,
}

/// Why these tests cannot run here; `None`: they can.
pub fn missing() -> Option<String> {
    let id = Command::new("id").arg("-u").output().map(|output| output.stdout).unwrap_or_default();
    if id.trim_ascii() != b"0" {
        return Some("network namespaces need root".to_owned());
    }
    for (command, package) in [("ip", "iproute2"), ("nft", "nftables")] {
        if Command::new(command).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Some(format!("the command `{command}` is missing (Debian package {package})"));
        }
    }
    let probe = format!("{PREFIX}{}-probe", std::process::id());
    match run("ip", &["netns", "add", &probe], None) {
        Ok(_) => {
            let _ = run("ip", &["netns", "del", &probe], None);
            None
        }
        Err(error) => Some(format!("no network namespaces here: {error}")),
    }
}

/// Removes the namespaces of runs whose process is gone.
pub fn remove_stale() {
    let Ok(list) = run("ip", &["netns", "list"], None) else { return };
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok()) else {
            continue;
        };
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            let _ = run("ip", &["netns", "del", name], None);
        }
    }
}

/// A process that waits for the end of this one, however it comes, and then removes its namespaces.
#[derive(Debug)]
pub struct Guard {
    child: std::process::Child,
}

impl Guard {
    /// Starts it.
    pub fn new() -> Guard {
        // Signals of the terminal go to it as well; it has to outlive them. Its input's end is this process's.
        let script = format!(
            "trap '' INT TERM HUP QUIT; read -r end; \
            for name in $(ip netns list | cut -d ' ' -f 1 | grep '^{PREFIX}{}-'); do ip netns del \"$name\"; done",
            std::process::id()
        );
        let child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("sh: {error}"));
        Guard { child }
    }
}

impl Default for Guard {
    fn default() -> Guard {
        Guard::new()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

impl Net {
    /// As many hosts as `mtus` has members, each with a link of that MTU.
    pub fn new(mtus: &[u32]) -> Net {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let net = Net { name: format!("{PREFIX}{}-{number}", std::process::id()), hosts: mtus.len() };
        let switch = net.switch();
        ip(&["netns", "add", &switch]);
        // A bridge of the widest MTU, as a switch has one; without snooping it floods multicasts to all ports.
        let widest = mtus.iter().max().copied().unwrap_or(1500).to_string();
        ip(&[
            "-n",
            &switch,
            "link",
            "add",
            "name",
            "sw0",
            "type",
            "bridge",
            "mcast_snooping",
            "0",
            "forward_delay",
            "0",
        ]);
        for (host, mtu) in mtus.iter().enumerate() {
            let (space, port, mtu) = (net.space(host), format!("p{host}"), mtu.to_string());
            ip(&["netns", "add", &space]);
            ip(&["-n", &space, "link", "set", "lo", "up"]);
            let veth =
                ["-n", &space, "link", "add", "name", "eth0", "mtu", &mtu, "type", "veth", "peer", "name", &port];
            ip(&[&veth[..], &["mtu", &mtu, "netns", &switch]].concat());
            ip(&["-n", &switch, "link", "set", &port, "master", "sw0", "up"]);
            ip(&["-n", &space, "addr", "add", &format!("{}/24", net.address(host, false)), "dev", "eth0"]);
            ip(&["-n", &space, "addr", "add", &format!("{}/64", net.address(host, true)), "dev", "eth0", "nodad"]);
            ip(&["-n", &space, "addr", "add", &format!("{}/64", net.link_local(host)), "dev", "eth0", "nodad"]);
            ip(&["-n", &space, "link", "set", "eth0", "up"]);
        }
        ip(&["-n", &switch, "link", "set", "sw0", "mtu", &widest, "up"]);
        net
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.name)
    }

    /// The namespace of a host.
    pub fn space(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }

    /// The address of a host.
    pub fn address(&self, host: usize, v6: bool) -> IpAddr {
        let last = host as u16 + 1;
        if v6 { [0xfd77, 0, 0, 0, 0, 0, 0, last].into() } else { [10, 77, 0, last as u8].into() }
    }

    /// Its address that is valid on this link only.
    pub fn link_local(&self, host: usize) -> IpAddr {
        [0xfe80, 0, 0, 0, 0, 0, 0x77, host as u16 + 1].into()
    }

    /// A command that runs `program` on a host. `ip` becomes the program: its process number is the child's.
    pub fn command(&self, host: usize, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(host)]).arg(program);
        command
    }

    /// Cuts the link of a host, or mends it.
    pub fn link(&self, host: usize, up: bool) {
        let port = format!("p{host}");
        ip(&["-n", &self.switch(), "link", "set", &port, if up { "up" } else { "down" }]);
    }

    /// Narrows the bridge's end of a host's link: what is longer vanishes on its way there, and nobody is told.
    pub fn narrow(&self, host: usize, mtu: u32) {
        ip(&["-n", &self.switch(), "link", "set", &format!("p{host}"), "mtu", &mtu.to_string()]);
    }

    /// Lets the bridge drop IP multicasts over UDP, or pass them again. IPv6's own neighbour discovery still passes.
    pub fn multicast(&self, passes: bool) {
        let rules = "add table bridge isis\nadd chain bridge isis f { type filter hook forward priority 0; }\n\
            flush chain bridge isis f\n";
        let drop = "add rule bridge isis f ether type ip ip daddr 224.0.0.0/4 udp dport 1-65535 drop\n\
            add rule bridge isis f ether type ip6 ip6 daddr ff00::/8 udp dport 1-65535 drop\n";
        let text = if passes { rules.to_owned() } else { format!("{rules}{drop}") };
        let arguments = ["netns", "exec", &self.switch(), "nft", "-f", "-"];
        run("ip", &arguments, Some(&text)).unwrap_or_else(|error| panic!("nft: {error}"));
    }

    /// How many IP fragments the kernels of all hosts have made, of both families.
    pub fn fragments(&self) -> u64 {
        (0..self.hosts)
            .map(|host| {
                let show = ["netns", "exec", &self.space(host), "cat", "/proc/net/snmp", "/proc/net/snmp6"];
                let text = run("ip", &show, None).unwrap_or_else(|error| panic!("{error}"));
                fragments_made(&text).unwrap_or_else(|| panic!("no counters of fragments: {text}"))
            })
            .sum()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            let _ = run("ip", &["netns", "del", &self.space(host)], None);
        }
        let _ = run("ip", &["netns", "del", &self.switch()], None);
    }
}

/// `FragCreates` of `/proc/net/snmp` and `Ip6FragCreates` of `/proc/net/snmp6`, added.
fn fragments_made(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|name| name == "FragCreates")?;
    let v4: u64 = values.split_whitespace().nth(place)?.parse().ok()?;
    let v6 = text.lines().find_map(|line| line.strip_prefix("Ip6FragCreates"))?.trim().parse::<u64>().ok()?;
    Some(v4 + v6)
}

/// Runs `ip`, which has to succeed.
fn ip(arguments: &[&str]) {
    run("ip", arguments, None).unwrap_or_else(|error| panic!("{error}"));
}

/// Runs a command to its end; what it printed.
fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    let failed = |why: String| format!("{program} {}: {why}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let (Some(text), Some(mut to)) = (input, child.stdin.take()) {
        to.write_all(text.as_bytes()).map_err(|error| failed(error.to_string()))?;
    }
    let Output { status, stdout, stderr } = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if status.success() {
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    } else {
        Err(failed(format!("{status}: {}", String::from_utf8_lossy(&stderr).trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_read_from_the_kernels_tables() {
        let text =
            "Ip: Forwarding FragOKs FragCreates\nIp: 2 0 3\nIcmp: X\nIcmp: 1\nIp6InReceives 7\nIp6FragCreates  \t 4\n";
        assert_eq!(fragments_made(text), Some(7));
        assert_eq!(fragments_made("Ip: Forwarding\nIp: 2\n"), None);
    }
}
