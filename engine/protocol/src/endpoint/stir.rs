//! What happened, and what has to look at it: the whole endpoint, or the data plane of one group.
//!
//! Most of what happens is stream bytes, rows, multicasts and their consumption in a group where nothing else goes on. That
//! concerns no other group, and no agreement: only this group is driven then. Everything else is looked at by all
//! ([`super::drive`]), which also says what is calm until the next time.
//!
//! ```text
//!   stream bytes, rows, a multicast, consumption ── stir ──▶ drive_stirred: the group alone ──▶ more than that came of it ─┐
//!   anything else, a time limit ────────────────── touch ──▶ drive: everything  ◄──────────────────────────────────────────┘
//! ```

use super::Endpoint;
use crate::counters::Counter;
use crate::group::Group;
use crate::id::GroupId;
use crate::shared::Shared;
use crate::time::{Instant, earlier};
use isis_wire::message::StateStatus;

impl Endpoint {
    /// Takes note of the time at a look from outside. As long as nothing is due nothing has happened by that: a loop that
    /// never sleeps looks a million times a second.
    pub(super) fn look(&mut self, now: Instant) {
        self.permit = None;
        if now <= self.shared.now {
            return;
        }
        if self.dirty || self.is_due(now) {
            return self.at(now);
        }
        self.shared.now = now;
        // A pause would have passed the deadline of the watch.
        let _ = self.watch.observe(now);
    }

    /// Nothing is due, and nothing to be sent or asked. A look, as [`Endpoint::has_event`].
    pub fn is_idle(&mut self, now: Instant) -> bool {
        self.look(now);
        !self.dirty
            && !self.stirred
            && self.quiet
            && self.site_requests.is_empty()
            && self.shared.watches.is_empty()
            && self.shared.kills.is_empty()
    }

    /// A time limit has come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.known_deadline().is_some_and(|due| due <= now)
    }

    /// Something happened that everything has to look at.
    pub(super) fn touch(&mut self) {
        (self.dirty, self.eventful) = (true, true);
        self.permit = None;
        self.deadline.set(None);
    }

    /// Something happened in the data plane of a group. Whether it concerns that one alone.
    pub(super) fn stir(&mut self, id: GroupId) -> bool {
        if let Some(group) = self.calm_group(id) {
            group.stirred = true;
            self.stirred = true;
            return true;
        }
        self.dirty = true;
        self.deadline.set(None);
        false
    }

    /// Bytes of a group went out, and nothing else happened. Whether only its own time limits have changed by that.
    pub(super) fn note_sent(&mut self, id: GroupId) -> bool {
        let deadline = self.deadline.get();
        if !self.calm || self.dirty {
            return false;
        }
        let Some(group) = self.groups.get(&id).filter(|group| group.calm) else { return false };
        self.deadline.set(deadline.map(|known| earlier(known, group.data_deadline_or_earlier(&self.shared))));
        true
    }

    /// A group whose data plane concerns nothing else.
    #[inline]
    fn calm_group(&mut self, id: GroupId) -> Option<&mut Group> {
        if !self.calm || self.dirty {
            return None;
        }
        self.groups.get_mut(&id).map(|group| &mut **group).filter(|group| group.calm)
    }

    /// Takes note of the time, for something that everything has to look at.
    pub(super) fn at(&mut self, now: Instant) {
        self.note(now);
        self.touch();
    }

    /// Takes note of the time; every entry comes through here, or through `look`.
    pub(super) fn note(&mut self, now: Instant) {
        self.permit = None;
        if now > self.shared.now {
            self.shared.now = now;
        }
        if self.watch.observe(self.shared.now).is_none() {
            return;
        }
        // One that notices its own pause accuses nobody on waking.
        self.shared.count(Counter::OwnPauses);
        let now = self.shared.now;
        for peer in self.shared.peers.values_mut() {
            peer.detector.forgive(now);
            peer.refusal.heard();
            peer.direct_at = peer.direct_at.max(peer.heard_at);
        }
        for group in self.groups.values_mut() {
            group.forgive(now);
        }
        self.touch();
    }

    /// A multicast into a group; `plain`: it was sent, and waits for nothing elsewhere. Whether it concerns this group alone.
    pub(super) fn note_multicast(&mut self, group: GroupId, plain: bool) -> bool {
        if plain
            && !self.shared.beyond
            && let Some(group) = self.calm_group(group)
            && group.waiting.is_empty()
        {
            // It goes with the next burst, and is deliverable here then.
            group.unsent = true;
            self.quiet = false;
            true
        } else {
            self.touch();
            false
        }
    }

    /// The application is done with messages of this group.
    pub(super) fn note_consumption(&mut self, id: GroupId) {
        let deadline = self.deadline.get();
        // As `calm_group`, which borrows everything.
        if self.calm
            && !self.dirty
            && let Some(group) = self.groups.get_mut(&id)
            && group.calm
            && group.tells_consumption_later(&self.shared)
        {
            let due = group.plane.row_due;
            self.deadline.set(deadline.map(|known| earlier(known, due)));
        } else {
            self.stir(id);
        }
    }

    /// When something is due at the latest, but for what happened and was not driven.
    #[inline]
    pub(super) fn known_deadline(&self) -> Option<Instant> {
        if let Some(deadline) = self.deadline.get() {
            // Earlier is harmless: the deadline of the watch moves at each look.
            let comes = |at: Option<Instant>| at.map_or(u64::MAX, |at| at.0);
            let later = || comes(deadline) <= comes(self.next_deadline());
            debug_assert!(self.stirred || later(), "something changed and did not say so");
            return deadline;
        }
        let deadline = self.next_deadline();
        self.deadline.set(Some(deadline));
        deadline
    }

    /// Drives what has to be driven.
    #[inline]
    pub(super) fn drive_due(&mut self) {
        if self.dirty || self.stirred {
            self.drive_now();
        }
    }

    fn drive_now(&mut self) {
        if !self.dirty {
            self.drive_stirred();
        }
        if self.dirty {
            self.drive();
        }
    }

    /// One pass over the groups that were stirred.
    fn drive_stirred(&mut self) {
        (self.stirred, self.eventful) = (false, false);
        let mut deadline = self.deadline.get();
        let full = self.shared.is_full();
        let mut more = false;
        for group in self.groups.values_mut().filter(|group| group.stirred) {
            group.stirred = false;
            group.change.nothing_wanted(self.shared.now);
            group.drive(&mut self.shared);
            group.unsent |= group.has_unsent(&self.shared);
            self.quiet &= !group.unsent;
            // A GBCAST came: the view has to change.
            more |= group.plane.inbox.iter().any(|inbox| inbox.has_global);
            // That of the others is as it was, and an earlier one is harmless.
            if let Some(known) = &mut deadline {
                *known = earlier(*known, group.data_deadline_or_earlier(&self.shared));
            }
        }
        self.deadline.set(deadline);
        let shared = &mut self.shared;
        self.quiet &= shared.outbox.is_empty();
        // What is given back, others may wait for.
        more |= full && !shared.is_full();
        more |= std::mem::take(&mut shared.again) | std::mem::take(&mut shared.beyond);
        if more || !shared.outcomes.is_empty() {
            self.touch();
        }
    }

    /// After everything was looked at: what is calm from now on.
    pub(super) fn note_calm(&mut self) {
        let shared = &mut self.shared;
        shared.beyond = false;
        self.stirred = false;
        let mut owing = false;
        for group in self.groups.values_mut() {
            (group.stirred, group.unsent) = (false, true);
            if !group.unicasts.is_empty() {
                group.forget_delivered_unicasts(shared);
            }
            group.calm = group.is_calm(shared);
            // Its messages wait for what happens in another one, perhaps.
            owing |= group.owed || !group.refused_for.is_empty();
            owing |= group.waiting.iter().any(|message| !message.debts.is_empty());
        }
        self.calm = self.ended.is_none()
            && !owing
            && !shared.stalled
            && self.closing.is_none()
            && self.clients.is_empty()
            && self.multicasts.is_idle();
    }
}

impl Group {
    /// Nothing goes on but what its members multicast.
    fn is_calm(&self, shared: &Shared) -> bool {
        !self.is_system()
            && self.is_open()
            && self.state == StateStatus::Has
            && !self.is_changing(shared)
            && self.clients.is_empty()
            && self.own_copies.tickets.is_empty()
            && self.unicasts.is_empty()
            && self.held.is_empty()
    }
}
