//! Killing a process of the site that hangs: by consent only.
//!
//! The victim said in its HELLO that it may be killed, it belongs to the same user, and the signal goes through its process
//! descriptor, so that it cannot reach another process that got the number since. An instance shares its process with what
//! else runs there: every instance of the process must have consented, and the own process is never killed.

use super::{Peer, SiteLink};
use rustix::process::{Signal, pidfd_send_signal};
use std::io;

impl SiteLink {
    /// Kills the process of a peer. An error of kind `PermissionDenied`: it did not consent, or is another user's.
    pub(crate) fn kill(&mut self, nonce: u128) -> io::Result<()> {
        let outcome = self.try_kill(nonce);
        match outcome {
            Ok(()) => self.counters.site_kills += 1,
            Err(_) => self.counters.site_kills_refused += 1,
        }
        outcome
    }

    fn try_kill(&self, nonce: u128) -> io::Result<()> {
        let peer = self.peers.iter().find(|peer| peer.nonce == nonce).ok_or(io::ErrorKind::NotFound)?;
        let user = rustix::process::geteuid().as_raw();
        let own = std::process::id();
        let allowed = |other: &Peer| other.allow_kill && other.credentials.uid == user;
        let in_its_process = |other: &&Peer| other.credentials.pid == peer.credentials.pid;
        // A number of 0: it lives in another process namespace, and its instances cannot be told apart.
        if peer.credentials.pid == 0
            || peer.credentials.pid == own
            || self.owner != own
            || !self.peers.iter().filter(in_its_process).all(allowed)
        {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let pidfd = peer.pidfd.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        Ok(pidfd_send_signal(pidfd, Signal::KILL)?)
    }
}
