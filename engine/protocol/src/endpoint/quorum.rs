//! Contact to a quorum of sites: the process freezes when it has lost it, and thaws when it is back.

use super::Endpoint;
use crate::event::Event;
use crate::id::GroupId;
use crate::pending::Pending;
use crate::time::Instant;
use std::mem::discriminant;

impl Endpoint {
    /// When contact to a quorum that is in this view was last there: the sites are ordered by when they were heard last.
    fn quorum_heard(&mut self) -> Instant {
        let now = self.shared.now;
        let mut times = std::mem::take(&mut self.site_times);
        times.clear();
        // The members of the system view are the peers and, unless it has left, this process.
        let own_site = self.shared.config.site;
        if self.shared.system_view.members.len() > self.shared.peers.len() {
            times.push((now, own_site));
        }
        let system = self.groups.get(&GroupId::SYSTEM);
        for (process, peer) in self.shared.peers.iter() {
            let heard = if peer.entry.site == own_site {
                now
            } else if system.is_none_or(|system| system.has_shown(*process)) {
                peer.heard_at
            } else {
                // Whoever is not in this view cannot have a say in the next one: it may never get what it lacks.
                peer.heard_at.min(self.shared.adopted_at)
            };
            match times.iter_mut().find(|(_, site)| *site == peer.entry.site) {
                Some((at, _)) => *at = heard.max(*at),
                None => times.push((heard, peer.entry.site)),
            }
        }
        let oldest_site = self.shared.system_view.members.first().map(|m| m.site);
        let expected = usize::from(self.shared.config.expected_sites);
        times.sort_unstable_by(|a, b| b.cmp(a));
        let total = times.len();
        let mut has_oldest = false;
        let quorum = times.iter().enumerate().find(|(count, (_, site))| {
            has_oldest |= Some(*site) == oldest_site;
            let heard = count + 1;
            let half_suffices = expected == 0 && 2 * heard == total && has_oldest;
            2 * heard > total.max(expected) || half_suffices
        });
        let at = quorum.map_or(Instant::ZERO, |(_, (at, _))| *at);
        self.site_times = times;
        at
    }

    /// Freezes the process when it has no contact to a quorum, and thaws it.
    pub(super) fn drive_quorum(&mut self) {
        if self.process().is_none() || self.ended.is_some() {
            return;
        }
        let now = self.shared.now;
        let seen = (now, self.shared.system_view.number);
        if self.quorum_seen == Some(seen) {
            return;
        }
        self.quorum_seen = Some(seen);
        // Contact that was there a moment ago is looked into again when a good part of the patience is over.
        let settled = !self.shared.stalled && !self.founding.unheard;
        let heard = if settled && now.since(self.quorum_at) < self.shared.config.stall_after_ns / 4 {
            self.quorum_at
        } else {
            self.quorum_heard()
        };
        self.quorum_at = heard.max(self.quorum_at);
        if !self.founding.unheard {
            self.stall_or_resume();
        } else if heard > Instant::ZERO {
            // R12: nothing is done in a system before a quorum of it was heard: its founding may be a story of long ago.
            (self.founding.unheard, self.shared.stalled) = (false, false);
        }
        let own_site = self.shared.config.site;
        for peer in self.shared.peers.values_mut().filter(|peer| peer.entry.site != own_site) {
            let suspected = peer.is_silent(now);
            if suspected && !peer.suspected {
                self.shared.counters.add(crate::counters::Counter::Suspicions, 1);
            }
            peer.suspected = suspected;
        }
    }

    fn stall_or_resume(&mut self) {
        let now = self.shared.now;
        let lost = !mutant!(NeverStalls) && now.since(self.quorum_at) >= self.shared.config.stall_after_ns;
        if lost != self.shared.stalled {
            self.shared.stalled = lost;
            self.tell_stall(lost);
        }
    }

    /// Tells of a stall, or of its end, ahead of all that waits to be told. Of the two, what the application was not told yet
    /// takes the other back: it is told of neither.
    fn tell_stall(&mut self, stalled: bool) {
        let (event, other) = if stalled { (Event::Stalled, Event::Resumed) } else { (Event::Resumed, Event::Stalled) };
        let events = &mut self.shared.events;
        if events.front().and_then(Pending::one).is_some_and(|first| discriminant(first) == discriminant(&other)) {
            events.pop_front();
        } else {
            events.push_front(Pending::One(event, None));
        }
    }

    /// When a detector or the stall wants to be looked at.
    pub(super) fn quorum_deadline(&self) -> Option<Instant> {
        let others = || self.shared.peers.values().filter(|peer| peer.entry.site != self.shared.config.site);
        let mut next = (!self.shared.stalled && others().next().is_some())
            .then(|| self.quorum_at + self.shared.config.stall_after_ns);
        for peer in others().filter(|peer| !peer.suspected) {
            let at = peer.detector.deadline();
            next = Some(next.map_or(at, |n| n.min(at)));
        }
        next.map(|at| at.max(self.shared.now + 1))
    }
}
