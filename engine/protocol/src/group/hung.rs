//! Who holds a view change up: a process that hangs without dying.
//!
//! A change needs an answer of everybody who is not known to have failed, and of a process of one's own site nothing but
//! its death tells that. So a process that is stopped, swapped out or away from its loop holds the change up until it
//! goes on, dies, or is killed. The others wait, and say for whom: `Event::Slow`.
//!
//! ```text
//!  wanted ──nothing heard of a member that is waited for, for suspect_min_ns──▶ told, once per silence
//!         └─the same for hang_timeout_ns, own site, option hang = kill───────▶ the site link is asked to kill it
//! ```
//! Whoever proposes knows who has not answered; whoever only waits goes by silence, since members of a system always show
//! a sign of life. Whether a kill is allowed is the site link's to say: the victim must have consented.
//!
//! Owner: [`super::change::Change`], one a view. It is looked at whenever the group is driven, at least every heartbeat.

use super::Group;
use super::change::Phase;
use crate::config::Hang;
use crate::event::{Event, SlowReason};
use crate::id::ProcessId;
use crate::shared::Shared;
use crate::time::Instant;
use isis_wire::message::MemberEntry;
use std::collections::BTreeMap;

/// Since when a change is wanted, and of whom it was told that they hold it up.
#[derive(Debug, Default)]
pub struct Vigil {
    since: Option<Instant>,
    told: BTreeMap<ProcessId, Instant>,
}

impl Vigil {
    /// This process was paused: the silence until now was its own.
    pub fn forgive(&mut self, now: Instant) {
        if let Some(since) = &mut self.since {
            *since = now;
        }
    }
}

impl Group {
    /// Takes note that the change is (still) wanted, or is not; names whoever holds it up.
    pub(super) fn watch_for_hung(&mut self, shared: &mut Shared, wanted: bool) {
        if !wanted {
            if self.change.vigil.since.take().is_some() {
                self.change.vigil.told.clear();
            }
            return;
        }
        let now = shared.now;
        let since = *self.change.vigil.since.get_or_insert(now);
        let patience = shared.config.suspect_min_ns;
        if now.since(since) < patience {
            return;
        }
        for rank in 0..self.view.members.len() {
            let member = &self.view.members[rank];
            let process = member.process;
            if process == shared.me || !self.is_waited_for(shared, member) {
                continue;
            }
            let (nonce, own_site) = (member.nonce, member.site == shared.config.site);
            let Some(peer) = shared.peers.get_mut(&process) else { continue };
            let silent_ns = now.since(peer.heard_at.max(since));
            if silent_ns < patience {
                continue;
            }
            let hang_timeout_ns = shared.config.hang_timeout_ns;
            if shared.config.hang == Hang::Kill
                && own_site
                && silent_ns >= hang_timeout_ns
                && peer.kill_asked_at.is_none_or(|at| now.since(at) >= hang_timeout_ns)
            {
                peer.kill_asked_at = Some(now);
                shared.kills.push_back(nonce);
            }
            if self.change.vigil.told.get(&process).is_none_or(|told| *told < peer.heard_at) {
                self.change.vigil.told.insert(process, now);
                let group = (!self.is_system()).then_some(self.handle);
                shared.emit(Event::Slow { process, reason: SlowReason::ViewChange, group });
            }
        }
    }

    /// The change cannot end without an answer of this member, as far as is known here.
    fn is_waited_for(&self, shared: &Shared, member: &MemberEntry) -> bool {
        let process = member.process;
        let answered = match self.change.proposer.as_ref().map(|own| &own.phase) {
            Some(Phase::Preparing { promises, .. }) => promises.contains_key(&process),
            Some(Phase::Accepting { accepted, .. }) => accepted.contains_key(&process),
            None => false,
        };
        if answered || shared.known_dead(process) {
            return false;
        }
        // A suspected process of another site is out, unless others of its site are there: then it holds their vote back.
        let site_is_there = || {
            shared.peers.values().any(|other| {
                other.entry.site == member.site
                    && other.entry.process != process
                    && shared.now.since(other.heard_at) < shared.config.suspect_min_ns
            })
        };
        !self.is_system() || !shared.suspected(process) || site_is_there()
    }
}
