//! Causality across the groups of a domain: what a message waits for, and when it is paid (R4, [`crate::group::debts`]).

use super::Endpoint;
use super::client::Client;
use crate::event::Kind;
use crate::few::FewMap;
use crate::group::Group;
use crate::group::debts::Debt;
use crate::id::{GroupHandle, GroupId, ProcessId};
use crate::shared::Shared;

impl Endpoint {
    /// What has to be delivered elsewhere before a message that is now sent in `handle`'s group; `to`: to one member. There
    /// are no edges from or to FBCASTs.
    pub(super) fn debts_before(&mut self, handle: GroupHandle, kind: Kind, to: Option<ProcessId>) -> Vec<Debt> {
        // The system group, and this one or this process as its client: nothing else to look at, unless a group that it has
        // left shared an ABCAST with this one.
        let own = self.group_of(handle);
        let alone = self.groups.len() + self.clients.len() <= 2 && self.shared.multis.pending.is_empty();
        // An own ABCAST to several groups that a message of this group must not overtake.
        let multi = self.multi_debt(own, None);
        if kind == Kind::Fifo || (alone && to.is_none()) || mutant!(CausalWithinGroupOnly) {
            return multi.into_iter().collect();
        }
        if own.is_none() && !self.clients.contains_key(&handle) {
            return Vec::new();
        }
        let Some(domain) = self.handles.get(handle.0 as usize).map(|it| it.options.domain) else { return Vec::new() };
        let mut debts: Vec<Debt> = self.multi_debt(own, Some(domain)).into_iter().collect();
        let mut others = self.owe_multis(&mut debts, own, domain, to);
        for (&id, group) in self.groups.iter_mut() {
            if id == GroupId::SYSTEM || group.options.domain != domain {
                continue;
            }
            if Some(id) != own {
                others = true;
                debts.extend(group.debt());
                debts.extend(group.unicast_debts(&self.shared, None));
            } else if to.is_some() {
                // Multicasts of the own group wait for its point-to-point messages in any case.
                debts.extend(group.unicast_debts(&self.shared, to));
            }
        }
        // What is sent as a client of the same group keeps its order by itself.
        for (&other, client) in self.clients.iter_mut().filter(|(other, _)| **other != handle) {
            if self.handles[other.0 as usize].options.domain == domain {
                others = true;
                debts.extend(client.debt(other));
            }
        }
        if let Some(group) = own.and_then(|id| self.groups.get(&id))
            && others
            && group.has_excluded_member(&self.shared)
        {
            debts.push(Debt::View { group: group.id, view: group.view.number });
        }
        debts
    }

    /// Others' ABCASTs to several groups that are delivered here in a group of the domain, and may not be delivered by all that
    /// get the message. In a group where they are delivered here its order takes care of that; not with a client. Whether
    /// there are any.
    fn owe_multis(&self, debts: &mut Vec<Debt>, own: Option<GroupId>, domain: u32, to: Option<ProcessId>) -> bool {
        let group = own.and_then(|id| self.groups.get(&id));
        let own = group.filter(|group| to.is_none_or(|to| group.rank_of(to).is_some())).map(|group| group.id);
        let before = debts.len();
        for (&id, pending) in &self.shared.multis.pending {
            if mutant!(ForgetsOtherGroups) {
                break;
            }
            let known = pending.delivered.iter().any(|(_, delivered_in)| *delivered_in == domain);
            if known && !pending.delivered.iter().any(|(group, _)| Some(*group) == own) {
                let or_here = own.filter(|group| pending.groups.contains(group));
                debts.push(Debt::Multi { id, or_here });
            }
        }
        debts.len() > before
    }

    /// Crosses out what is paid. Whether a message became free to go.
    pub(super) fn settle_debts(&mut self) -> bool {
        let mut freed = false;
        let waits = |group: &Group| {
            !group.refused_for.is_empty() || group.waiting.iter().any(|message| !message.debts.is_empty())
        };
        let mut ids: Vec<GroupId> = Vec::new();
        for (&id, group) in self.groups.iter_mut() {
            group.owed = false;
            if waits(group) {
                ids.push(id);
            }
        }
        let clients_wait = self.clients.values().any(|client| client.has_debts());
        if clients_wait {
            freed |= self.settle_debts_of_clients();
        }
        for id in ids {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            let mut waiting = std::mem::take(&mut group.waiting);
            let mut refused_for = std::mem::take(&mut group.refused_for);
            let own = Debt::View { group: id, view: group.view.number };
            let excluded = group.has_excluded_member(&self.shared);
            let unpaid = |groups: &FewMap<GroupId, Box<Group>>, shared: &Shared, debt: &mut Debt| {
                !is_paid(groups, &self.clients, shared, debt)
            };
            if !refused_for.is_empty() {
                refused_for.retain_mut(|debt| unpaid(&self.groups, &self.shared, debt));
                freed |= refused_for.is_empty();
            }
            for message in &mut waiting {
                if message.debts.is_empty() {
                    continue;
                }
                message.debts.retain_mut(|debt| unpaid(&self.groups, &self.shared, debt));
                if message.debts.is_empty() && excluded {
                    // Paid perhaps because that member counts no more: it must not get the message either.
                    message.debts.push(own.clone());
                }
                freed |= message.debts.is_empty();
            }
            for debt in waiting.iter().flat_map(|message| &message.debts).chain(&refused_for) {
                if let Some(creditor) = debt.group().and_then(|id| self.groups.get_mut(&id)) {
                    creditor.owed = true;
                }
            }
            if let Some(group) = self.groups.get_mut(&id) {
                (group.waiting, group.refused_for) = (waiting, refused_for);
            }
        }
        freed
    }

    fn settle_debts_of_clients(&mut self) -> bool {
        let mut freed = false;
        for handle in self.clients.keys().copied().collect::<Vec<_>>() {
            let Some(mut client) = self.clients.remove(&handle) else { continue };
            freed |= client.settle(|debt| is_paid(&self.groups, &self.clients, &self.shared, debt));
            for creditor in client.creditors() {
                if let Some(creditor) = self.groups.get_mut(&creditor) {
                    creditor.owed = true;
                }
            }
            self.clients.insert(handle, client);
        }
        freed
    }
}

/// What is owed to a group or a client that is no more is paid.
fn is_paid(
    groups: &FewMap<GroupId, Box<Group>>,
    clients: &FewMap<GroupHandle, Box<Client>>,
    shared: &Shared,
    debt: &mut Debt,
) -> bool {
    match debt {
        Debt::Client { handle, .. } => clients.get(handle).is_none_or(|client| client.is_paid(debt)),
        Debt::Together => false,
        Debt::Multi { id, .. } if id.sender == shared.me => shared.multis.complete >= id.number,
        Debt::Multi { id, or_here } => {
            let here = |group| move |(id, _): &(GroupId, u32)| Some(*id) == group;
            shared.multis.pending.get(id).is_none_or(|pending| pending.delivered.iter().any(here(*or_here)))
        }
        _ => debt.group().and_then(|id| groups.get(&id)).is_none_or(|group| group.is_paid(shared, debt)),
    }
}
