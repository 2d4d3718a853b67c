//! What is due: one pass over everything that time, packets or commands may have set in motion.

use super::Endpoint;
use crate::group::Fate;
use crate::id::GroupId;
use crate::time::Instant;

/// A pass that moved something is followed by another, this often at most.
const MAX_PASSES: usize = 4;

impl Endpoint {
    pub(super) fn drive(&mut self) {
        (self.dirty, self.eventful, self.quiet, self.calm, self.stirred) = (false, false, false, false, false);
        self.deadline.set(None);
        if self.ended.is_some() {
            return;
        }
        self.drive_looking();
        self.drive_probes();
        for pass in 1..=MAX_PASSES {
            self.drive_quorum();
            let mut ids = std::mem::take(&mut self.group_ids);
            ids.clear();
            ids.extend(self.groups.keys().copied());
            for &id in &ids {
                self.drive_group(id);
            }
            self.group_ids = ids;
            if self.ended.is_some() {
                return;
            }
            let before = self.shared.system_view.number;
            let any = self.take_outcomes() | self.settle_debts() | self.drive_multicasts();
            self.ask_pending();
            self.drive_joins();
            self.drive_clients();
            self.take_early();
            let any = any | self.take_ahead();
            if !any && before == self.shared.system_view.number {
                break;
            }
            // The rest comes with the next one.
            self.shared.again |= pass == MAX_PASSES;
        }
        self.note_known_deaths();
        self.drive_channels();
        self.drive_close();
        self.note_calm();
        if std::mem::take(&mut self.shared.again) {
            self.touch();
        }
    }

    fn drive_group(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let group = match group.drive_change(&mut self.shared) {
            Fate::Lives => group,
            fate => {
                self.meet_fate(id, fate);
                let Some(group) = self.groups.get_mut(&id) else { return };
                group
            }
        };
        group.drive(&mut self.shared);
        // R8: the past is answered for until nobody can ask any more.
        let over = id != GroupId::SYSTEM && group.departed_until.is_some() && group.old.is_empty();
        if over && let Some(mut group) = self.groups.remove(&id) {
            group.dissolve(&mut self.shared);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.ended.is_some() {
            return None;
        }
        let mut next = self.looking_deadline();
        let mut take = |at: Option<Instant>| {
            if let Some(at) = at {
                next = Some(next.map_or(at, |n| n.min(at)));
            }
        };
        for group in self.groups.values() {
            take(group.deadline(&self.shared));
        }
        if !self.shared.lanes_at_rest {
            for lane in self.shared.peers.values().flat_map(|peer| peer.lanes.iter().flatten()) {
                take(lane.sender.poll_timeout());
                take(lane.receiver.poll_timeout());
            }
        }
        take(self.joins_deadline());
        take(self.clients_deadline());
        take(self.pending_deadline());
        take(self.quorum_deadline());
        take(self.probes_deadline());
        take(self.closing);
        if self.process().is_some() {
            take(Some(self.watch.deadline()));
        }
        next
    }
}
