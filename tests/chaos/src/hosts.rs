//! Hosts: network namespaces, each with one interface, a TAP device whose other end is the switch. Or just this one, and its
//! loopback interface.
//!
//! Owner: the rig. Addresses of the neighbours are fixed, so that no fault outlives itself in a table of the kernel. Names
//! begin as those of `isis_tests::net`, whose guard removes what is left.

use crate::switch::mac;
use crate::tap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// See the module. Dropping it removes the namespaces.
#[derive(Debug)]
pub struct Hosts {
    /// Namespaces; none: everybody is on this host.
    count: usize,
}

impl Hosts {
    /// This host only, as it is.
    pub fn this_one() -> Hosts {
        Hosts { count: 0 }
    }

    /// Makes the namespaces, and the switch's end of each interface.
    pub fn make(count: usize) -> Result<(Hosts, Vec<File>), String> {
        let hosts = Hosts { count };
        let mut taps = Vec::new();
        for host in 0..count {
            let space = Hosts::space(host);
            ip(&["netns", "add", &space], "")?;
            let file = PathBuf::from("/run/netns").join(&space);
            taps.push(tap::make(&file, "eth0").map_err(|error| format!("a TAP device in {space}: {error}"))?);
            let mut batch = format!(
                "link set lo up\nlink set eth0 address {} mtu 1500\naddr add {}/24 dev eth0\nlink set eth0 up\n",
                mac(host),
                Hosts::address(host)
            );
            for other in (0..count).filter(|other| *other != host) {
                let (to, at) = (Hosts::address(other), mac(other));
                batch.push_str(&format!("neigh replace {to} lladdr {at} dev eth0 nud permanent\n"));
            }
            ip(&["-n", &space, "-batch", "-"], &batch)?;
        }
        Ok((hosts, taps))
    }

    fn space(host: usize) -> String {
        format!("isis-{}-c{host}", std::process::id())
    }

    /// The address of a host.
    pub fn address(host: usize) -> String {
        format!("10.78.0.{}", host + 1)
    }

    /// Where the processes of a host receive datagrams.
    pub fn bind(&self, host: usize) -> String {
        if self.count == 0 { "127.0.0.1".to_owned() } else { Hosts::address(host) }
    }

    /// A command that runs `program` on a host, in the process of the command.
    pub fn command(&self, host: usize, program: &Path) -> Command {
        if self.count == 0 {
            return Command::new(program);
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &Hosts::space(host)]).arg(program);
        command
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in 0..self.count {
            let _ = ip(&["netns", "del", &Hosts::space(host)], "");
        }
    }
}

fn ip(arguments: &[&str], input: &str) -> Result<(), String> {
    let failed = |why: String| format!("ip {}: {why}", arguments.join(" "));
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut to) = child.stdin.take() {
        to.write_all(input.as_bytes()).map_err(|error| failed(error.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
