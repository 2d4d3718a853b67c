//! How the link learns of deaths, and what it does then.
//!
//! ```text
//!  connected ── notice rang and all threads exit, process descriptor: exited, or FAREWELL ─► dead, told once
//!      │  last connection hangs up                                                ▲
//!      └───────────► unconnected ── descriptor: exited, or file's lock is free ───┘
//!                        │  connected again
//!                        └───────────► connected
//! ```

use super::super::directory::hex;
use super::super::process_file::{self, Life};
use super::super::socket::SUFFIX as SOCKET;
use super::notices::Notice;
use super::{CLEAN_NS, DEAD_MAX, Peer, SEARCH_FIRST_NS, SiteLink, SiteLinkEvent};
use rustix::event::epoll;
use std::os::fd::{AsFd, OwnedFd};

impl SiteLink {
    /// A connection hung up: not a death yet.
    pub(super) fn close(&mut self, number: u32) {
        let Some(index) = self.connections.iter().position(|connection| connection.number == number) else { return };
        let connection = self.connections.swap_remove(index);
        self.searches.forget();
        // Explicitly: while a forked child holds a copy, closing alone does not take it out of the set.
        let _ = epoll::delete(&self.epoll, &connection.fd);
        self.counters.site_hang_ups += 1;
        if !connection.greeted {
            return;
        }
        let Some(peer) = self.peers.iter_mut().find(|peer| Some(peer.nonce) == connection.nonce) else { return };
        peer.connections = peer.connections.saturating_sub(1);
        self.events.push_back(SiteLinkEvent::Reconnected { nonce: peer.nonce });
        if peer.connections == 0 {
            let nonce = peer.nonce;
            if peer.is_dead() {
                let exited = peer.has_exited();
                self.counters.site_deaths_by_file += 1;
                self.on_death(nonce, exited);
            } else {
                // Perhaps it is about to exit, perhaps it only lost its descriptors.
                self.test_ns = self.now_ns;
                self.search_ns = self.now_ns;
                self.search_interval_ns = SEARCH_FIRST_NS;
            }
        }
    }

    /// A process descriptor is readable.
    pub(super) fn on_exit(&mut self, number: u32) {
        let Some(peer) = self.peers.iter().find(|peer| peer.number == number) else { return };
        let nonce = peer.nonce;
        if !peer.pidfd.as_ref().is_some_and(|pidfd| process_file::has_exited(pidfd.as_fd())) {
            return;
        }
        self.hear_out(nonce);
        if self.peers.iter().any(|peer| peer.nonce == nonce) {
            self.counters.site_deaths_by_exit += 1;
            self.on_death(nonce, true);
        }
    }

    /// What a dead peer said before is still worth hearing; a FAREWELL in there tells the death itself.
    pub(super) fn hear_out(&mut self, nonce: u128) {
        let connections: Vec<u32> =
            self.connections.iter().filter(|c| c.nonce == Some(nonce)).map(|connection| connection.number).collect();
        for connection in connections {
            self.read(connection);
        }
    }

    pub(super) fn test_unconnected(&mut self) {
        let dead = self.peers.iter().filter(|peer| peer.needs_tests() && peer.is_dead());
        let dead: Vec<(u128, bool)> = dead.map(|peer| (peer.nonce, peer.has_exited())).collect();
        for (nonce, exited) in dead {
            self.counters.site_deaths_by_file += 1;
            self.on_death(nonce, exited);
        }
        for nonce in std::mem::take(&mut self.watched) {
            if process_file::test(&self.directory, nonce) == Life::Dead {
                self.counters.site_deaths_by_file += 1;
                self.remember_dead(nonce);
                self.events.push_back(SiteLinkEvent::Died { nonce, exited: false, pidfd: None });
            } else {
                self.watched.push(nonce);
            }
        }
    }

    /// A peer is dead for certain: it will never act again. `exited`: nor look at anything, for it was seen to end, or said
    /// so itself.
    pub(super) fn on_death(&mut self, nonce: u128, exited: bool) {
        let Some(index) = self.peers.iter().position(|peer| peer.nonce == nonce) else { return };
        let mut peer = self.peers.swap_remove(index);
        for descriptor in peer.descriptors() {
            let _ = epoll::delete(&self.epoll, descriptor);
        }
        for connection in self.connections.extract_if(.., |connection| connection.nonce == Some(nonce)) {
            let _ = epoll::delete(&self.epoll, &connection.fd);
        }
        self.remember_dead(nonce);
        self.left_behind.push(nonce);
        self.clean_ns = self.now_ns + CLEAN_NS;
        self.events.push_back(SiteLinkEvent::Died { nonce, exited, pidfd: peer.pidfd.take() });
    }

    /// Removes the files of the dead: not when they die, for the others wait for the next view then, and files take long. The
    /// kernel holds the lock of one that it still takes apart: that one later.
    pub(super) fn clean(&mut self) {
        let directory = &self.directory;
        self.left_behind.retain(|nonce| {
            directory.remove(&format!("{}{SOCKET}", hex(*nonce)));
            process_file::remove_stale(directory, *nonce);
            process_file::test(directory, *nonce) == Life::Alive
        });
        self.clean_ns = if self.left_behind.is_empty() { u64::MAX } else { self.now_ns + CLEAN_NS };
    }

    pub(super) fn remember_dead(&mut self, nonce: u128) {
        if self.dead.len() == DEAD_MAX {
            self.dead.pop_front();
        }
        self.dead.push_back(nonce);
    }
}

impl Peer {
    /// What epoll watches of it.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        let notice = if let Notice::Silent(signal) = &self.notice { Some(signal) } else { None };
        self.pidfd.iter().chain(notice)
    }

    /// Nothing that epoll reports would tell its death: it has no connection, or no process descriptor (and a forked
    /// child may keep its connection open).
    pub(super) fn needs_tests(&self) -> bool {
        self.connections == 0 || self.pidfd.is_none()
    }

    /// Whether it was seen to end. A free lock says less: who closes all its descriptors gives it up as well, and runs on.
    pub(super) fn has_exited(&self) -> bool {
        self.pidfd.as_ref().is_some_and(|pidfd| process_file::has_exited(pidfd.as_fd()))
    }

    /// Whether it is dead for certain.
    pub(super) fn is_dead(&self) -> bool {
        self.has_exited() || self.file.as_ref().is_some_and(|file| file.test() == Life::Dead)
    }
}
