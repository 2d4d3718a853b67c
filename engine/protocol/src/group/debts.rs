//! Causality across groups, by the conservative rule of [BSS91] (R4): a message waits until all that its sender sent or
//! delivered in other groups of the domain is delivered at all their members. Then whoever gets the message has what
//! happened before it, and the message need not say what that was.
//!
//! What is to be waited for is noted when the application sends, as [`Debt`]s, so that other groups under load cannot hold a
//! message up for ever. A message without debts goes out at once; one with debts waits in its group's queue.
//!
//! What counts as delivered: messages of the present view by the rows' `delivered` (a joiner without its state has delivered
//! nothing); those of a view that is over once everybody of the next one, leavers included, has shown that it is there. A
//! point-to-point message counts as a multicast in a group of two.

use super::Group;
use crate::id::{GroupHandle, GroupId, ProcessId};
use crate::shared::Shared;
use isis_wire::message::StateStatus;
use isis_wire::multi::MultiId;

/// What a message waits for in another group.
#[derive(Clone, Debug)]
pub enum Debt {
    /// What this process sent and delivered there.
    Multicasts {
        /// The group.
        group: GroupId,
        /// What waited there, up to this place, must have been appended; 0: nothing waited.
        place: u64,
        /// The view of that time.
        view: u64,
        /// What has to be delivered in it, messages by rank.
        vector: Vec<u64>,
    },
    /// A point-to-point message.
    Unicast {
        /// In this group.
        group: GroupId,
        /// To this process.
        to: ProcessId,
        /// Its number among this process's point-to-point messages.
        number: u64,
    },
    /// What this process, a client of a group, sent and received there.
    Client {
        /// The client's handle.
        handle: GroupHandle,
        /// The place of its last request in the client's queue.
        place: u64,
        /// The number of its last request.
        number: u64,
    },
    /// An ABCAST to several groups.
    Multi {
        /// Its sender and number: it and those before it of that sender have to be delivered everywhere in all its groups, …
        id: MultiId,
        /// … or here in this one, to which it goes as well.
        or_here: Option<GroupId>,
    },
    /// It is a copy of an ABCAST to several groups: the others have to be ready as well.
    Together,
    /// The message's own group has a member that the system excluded: it may never deliver what is waited for no more.
    View {
        /// The message's own group.
        group: GroupId,
        /// The view that has to be over.
        view: u64,
    },
}

impl Debt {
    /// The group that it is about, for a debt of a member.
    pub fn group(&self) -> Option<GroupId> {
        match self {
            Debt::Multicasts { group, .. } | Debt::Unicast { group, .. } | Debt::View { group, .. } => Some(*group),
            Debt::Client { .. } | Debt::Multi { .. } | Debt::Together => None,
        }
    }
}

impl Group {
    fn own_vector(&self) -> Vec<u64> {
        let mut vector = if self.state == StateStatus::Has { self.plane.vector() } else { vec![0; self.plane.members] };
        if let Some(own) = vector.get_mut(self.rank) {
            *own = self.plane.appended;
        }
        vector
    }

    /// What this process has delivered here, or appended, that is not known to be delivered everywhere.
    pub fn delivered_debt(&self) -> Option<Debt> {
        let mut debt = Debt::Multicasts { group: self.id, place: 0, view: self.view.number, vector: self.own_vector() };
        (!self.is_discharged(&mut debt)).then_some(debt)
    }

    /// What this process sent or delivered here that is not known to be delivered everywhere.
    pub fn debt(&self) -> Option<Debt> {
        let place = self.waiting.back().map_or(0, |last| last.place);
        let mut debt = Debt::Multicasts { group: self.id, place, view: self.view.number, vector: self.own_vector() };
        (!self.is_discharged(&mut debt)).then_some(debt)
    }

    /// The point-to-point messages of this group, but those to `except`, that may not be delivered.
    pub fn unicast_debts(&mut self, shared: &Shared, except: Option<ProcessId>) -> Vec<Debt> {
        self.forget_delivered_unicasts(shared);
        let sent = self.unicasts.iter().map(|(&to, &number)| (to, number));
        let waiting = self.waiting.iter().filter_map(|message| message.to).map(|to| (to.member, to.number));
        sent.chain(waiting)
            .filter(|(to, _)| Some(*to) != except && *to != shared.me)
            .map(|(to, number)| Debt::Unicast { group: self.id, to, number })
            .collect()
    }

    /// Of the point-to-point messages only those are kept in mind that may not be delivered.
    pub(crate) fn forget_delivered_unicasts(&mut self, shared: &Shared) {
        let mut unicasts = std::mem::take(&mut self.unicasts);
        unicasts.retain(|&to, &mut number| !self.is_unicast_delivered(shared, to, number));
        self.unicasts = unicasts;
    }

    /// This member of the view is no more in the system: the next view will be without it.
    pub(crate) fn is_excluded_member(&self, shared: &Shared, process: ProcessId) -> bool {
        self.departed_until.is_none() && self.rank_of(process).is_some() && !shared.in_system(process)
    }

    /// A member of the view is no more in the system: the next view will be without it.
    pub fn has_excluded_member(&self, shared: &Shared) -> bool {
        self.view.members.iter().any(|member| !shared.in_system(member.process))
    }

    /// The debt, which is about this group, is paid.
    pub fn is_paid(&self, shared: &Shared, debt: &mut Debt) -> bool {
        match *debt {
            Debt::Multicasts { .. } => self.is_discharged(debt),
            Debt::Unicast { to, number, .. } => self.is_unicast_delivered(shared, to, number),
            Debt::Client { .. } | Debt::Multi { .. } | Debt::Together => true,
            Debt::View { view, .. } => {
                self.departed_until.is_some() || (self.view.number > view && !self.has_excluded_member(shared))
            }
        }
    }

    fn is_discharged(&self, debt: &mut Debt) -> bool {
        let Debt::Multicasts { place, view, vector, .. } = debt else { return true };
        let present = self.view.number;
        if self.departed_until.is_none() && *place > 0 {
            if self.waiting.front().is_some_and(|first| first.place <= *place) {
                return false;
            }
            // What waited is in the stream of this view, or of one before.
            *place = 0;
            if *view < present {
                *view = present;
                vector.clear();
                vector.resize(self.plane.members, 0);
            }
            vector[self.rank] = self.plane.appended;
        }
        if self.old.iter().any(|old| old.number <= *view && !old.awaited.is_empty()) {
            return false;
        }
        *view < present
            || self.departed_until.is_some()
            || vector.iter().enumerate().all(|(rank, &count)| self.delivered_everywhere(rank) >= count)
    }

    /// How many messages of a rank every member of the present view has delivered.
    pub(crate) fn delivered_everywhere(&self, rank: usize) -> u64 {
        let own = if self.state == StateStatus::Has { self.plane.inbox[rank].delivered } else { 0 };
        self.plane.delivered_by_others(rank).min(own)
    }

    fn is_unicast_delivered(&self, shared: &Shared, to: ProcessId, number: u64) -> bool {
        // Whom the system excluded gets what is sent in this view, if it runs on, until it hears of that: it must not get
        // what comes after a message that it does not have.
        let Some(peer) = shared.peers.get(&to) else { return !self.is_excluded_member(shared, to) };
        // Who is no member together with this process drops what it has not delivered, and tells nothing of it any more; but a
        // leaver delivers up to the end of its last view first, and until it has shown that it is there, it may.
        let apart = (self.departed_until.is_some() || self.rank_of(to).is_none())
            && !self.old.iter().any(|old| old.awaited.contains(&to));
        // A client delivers what comes at once, or keeps it in the order in which it came.
        let waits = || self.waiting.iter().any(|message| message.to.is_some_and(|to| to.number == number));
        let unsent = || self.clients.is_registered(to) && waits();
        peer.sent.is_settled(number)
            || (apart && !unsent() && peer.lanes[0].as_ref().is_none_or(|lane| lane.sender.is_idle()))
    }
}
