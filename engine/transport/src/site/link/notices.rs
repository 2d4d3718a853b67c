//! Notices of exits: handing out the own one, and what is done when another one rings.
//!
//! A notice only says that some thread began to exit. From then on it is looked, often but not for long, whether all threads of
//! the process do: then it is dead. If some do not, the process lives as far as anybody knows here, its notice is spent, and
//! its death is told by the process descriptor like that of a process without notice.

use super::super::exit_notice::ExitNotice;
use super::super::{exiting, message, socket};
use super::{SiteLink, TOKEN_NOTICE};
use rustix::event::epoll;
use std::os::fd::{AsFd, OwnedFd};

/// How often it is looked whether a process exits …
const LOOK_NS: u64 = 20_000;
/// … and for how long: threads take no longer to hear of the end of their process.
const LOOKS_NS: u64 = 5_000_000;

/// Where a peer's notice is.
#[derive(Debug, Default)]
pub(super) enum Notice {
    /// It has none, or it is spent.
    #[default]
    None,
    /// It has not rung.
    Silent(OwnedFd),
    /// It rang; it is looked until then whether the process exits.
    Rang { until_ns: u64 },
}

impl SiteLink {
    /// Makes the own notice, unless there is one that has not rung. The calling thread is the one that it tells of: the one
    /// that drives the link.
    pub(super) fn make_notice(&mut self) {
        if self.notice.as_ref().is_some_and(|notice| !notice.has_rung()) {
            return;
        }
        self.notice = None;
        match ExitNotice::of_this_thread() {
            Ok(notice) => self.notice = Some(notice),
            Err(_) => self.counters.site_notice_refused += 1,
        }
    }

    /// Hands the own notice to a peer, over its connection with this index.
    pub(super) fn hand_notice_over(&mut self, index: usize) {
        if self.notice.is_some() {
            // Perhaps the thread of the last one is gone, and another drives the link.
            self.make_notice();
        }
        if let Some(notice) = &self.notice {
            // If it does not get away, the peer hears of our death later.
            let connection = self.connections[index].fd.as_fd();
            let _ = socket::send_descriptors(connection, &message::notice(), &[notice.signal()]);
        }
    }

    /// A peer handed its notice over.
    pub(super) fn on_notice(&mut self, nonce: u128, signal: OwnedFd) {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.nonce == nonce) else { return };
        let token = epoll::EventData::new_u64(TOKEN_NOTICE | u64::from(peer.number));
        // Without its start it cannot be seen here: it lives in another process namespace, or `/proc` is that of one.
        peer.start = peer.file.as_ref().and_then(|file| file.start_of(peer.credentials.pid));
        if matches!(peer.notice, Notice::None)
            && peer.start.is_some()
            && epoll::add(&self.epoll, &signal, token, epoll::EventFlags::IN).is_ok()
        {
            peer.notice = Notice::Silent(signal);
        }
    }

    /// A notice rang.
    pub(super) fn on_ring(&mut self, number: u32) {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.number == number) else { return };
        if let Notice::Silent(signal) = &peer.notice {
            // It stays readable, and others hold it open.
            let _ = epoll::delete(&self.epoll, signal);
            peer.notice = Notice::Rang { until_ns: self.now_ns + LOOKS_NS };
            self.look_ns = self.now_ns;
            self.look_at_exits();
        }
    }

    /// Looks, when it is time, whether those exit whose notices rang.
    pub(super) fn look_at_exits(&mut self) {
        if self.now_ns < self.look_ns {
            return;
        }
        self.look_ns = u64::MAX;
        let mut dead = Vec::new();
        for peer in &mut self.peers {
            let Notice::Rang { until_ns } = peer.notice else { continue };
            if peer.start.is_some_and(|start| exiting::is_certain(peer.credentials.pid, start)) {
                dead.push(peer.nonce);
            } else if self.now_ns >= until_ns {
                peer.notice = Notice::None;
                self.counters.site_notices_unclear += 1;
            } else {
                self.look_ns = self.now_ns + LOOK_NS;
            }
        }
        for nonce in dead {
            self.hear_out(nonce);
            if self.peers.iter().any(|peer| peer.nonce == nonce) {
                self.counters.site_deaths_by_notice += 1;
                self.on_death(nonce, true);
            }
        }
    }
}
