//! The trace sorted for the checker: by process, by membership in a group, by view.
//!
//! Owner: one call of [`super::check`]. Invariants: it only sorts, it judges nothing; every multicast delivery of a known
//! group join is in exactly one [`Install`], or in [`Membership::homeless`].

use super::Violation;
use crate::trace::{Channel, Delivered, Event, Key, Process, Record, Trace, ViewSeen};
use isis_protocol::Config;
use isis_protocol::event::Kind;
use isis_protocol::id::{GroupId, ProcessId, SystemId};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What the checker has to know of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `Config::stall_after_ns` of the run.
    pub stall_after_ns: u64,
    /// How much later than that the last delivery of a process that was cut off may come.
    pub stall_slack_ns: u64,
    /// Causality reaches across groups.
    pub across_groups: bool,
    /// `Config::expected_sites` of the run.
    pub expected_sites: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { stall_after_ns: 2_000_000_000, stall_slack_ns: 500_000_000, across_groups: false, expected_sites: 0 }
    }
}

impl Limits {
    /// Of a run with this configuration.
    pub fn of(config: &Config) -> Limits {
        let expected_sites = usize::from(config.expected_sites);
        Limits { stall_after_ns: config.stall_after_ns, expected_sites, ..Limits::default() }
    }
}

/// A group of a system.
pub type GroupKey = (SystemId, GroupId);

/// The join number under which the views of the system group are kept.
pub const SYSTEM_JOIN: u16 = u16::MAX;

/// A multicast that was handed over.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    /// Its record.
    pub record: usize,
    /// What the record says.
    pub delivered: &'a Delivered,
}

/// A view that a process was told, and what it delivered in it.
#[derive(Debug)]
pub struct Install<'a> {
    /// Its record.
    pub record: usize,
    /// The view.
    pub view: &'a Arc<ViewSeen>,
    /// Digest of the application's state at its start.
    pub digest: Option<u64>,
    /// The multicasts delivered in it, in order.
    pub taken: Vec<Taken<'a>>,
    /// The point-to-point messages delivered in it, with their records, in order.
    pub point_to_point: Vec<(usize, &'a Delivered)>,
    /// The record of the next view of the same membership.
    pub next: Option<usize>,
}

/// One join of one process.
#[derive(Debug)]
pub struct Membership<'a> {
    /// Who.
    pub process: Process,
    /// Its how manyth join.
    pub join: u16,
    /// Which group; `None` before the first view.
    pub group: Option<GroupKey>,
    /// Index of the name.
    pub name: u8,
    /// Asked for the state.
    pub wants_state: bool,
    /// In *sending view* mode.
    pub sending_view: bool,
    /// As a client.
    pub client: bool,
    /// As a client: the record of its registration.
    pub registered: Option<usize>,
    /// Its views.
    pub installs: Vec<Install<'a>>,
    /// Deliveries outside of any view.
    pub homeless: Vec<Taken<'a>>,
    /// Record of the join call.
    pub called: usize,
    /// Record of the leave call.
    pub leave_called: Option<usize>,
    /// Record of the end of the leave.
    pub left: Option<usize>,
}

/// A process.
#[derive(Debug, Default)]
pub struct Life {
    /// Record of its start.
    pub start: Option<usize>,
    /// Its site.
    pub site: u32,
    /// System and identifier, and the record.
    pub admitted: Option<(SystemId, ProcessId, usize)>,
    /// Record of its crash, eviction or close.
    pub ended: Option<usize>,
    /// It called close.
    pub closing: bool,
    /// It got no turns at the end of the trace.
    pub hung: bool,
    /// Its own records.
    pub records: Vec<usize>,
}

/// A message that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// The record of the call.
    pub record: usize,
    /// Its ordering.
    pub kind: Kind,
    /// Safe.
    pub safe: bool,
    /// For point-to-point messages: whom.
    pub to: Option<Process>,
    /// The group.
    pub group: GroupId,
    /// The view that its sender was in.
    pub view: u64,
}

/// See the module.
#[derive(Debug)]
pub struct History<'a> {
    /// The trace.
    pub trace: &'a Trace,
    /// The configuration.
    pub limits: Limits,
    /// By process number.
    pub lives: Vec<Life>,
    /// Group joins and, per process, the stay in its system ([`SYSTEM_JOIN`]).
    pub memberships: Vec<Membership<'a>>,
    /// Memberships per group, the system group included.
    pub groups: BTreeMap<GroupKey, Vec<usize>>,
    /// All sends.
    pub sends: BTreeMap<Key, Sent>,
    /// An ABCAST to several groups has a key in each: each key → all of them.
    pub parts: BTreeMap<Key, Rc<[Key]>>,
    /// Where each multicast was first delivered by anyone: group, view, record.
    pub homes: BTreeMap<Key, (GroupKey, u64, usize)>,
    /// Record of [`Event::Healed`].
    pub healed: Option<usize>,
    /// Record of [`Event::End`].
    pub end: Option<usize>,
}

impl<'a> History<'a> {
    /// Sorts a trace.
    pub fn new(trace: &'a Trace, limits: Limits) -> History<'a> {
        let mut history = History {
            trace,
            limits,
            lives: Vec::new(),
            memberships: Vec::new(),
            groups: BTreeMap::new(),
            sends: BTreeMap::new(),
            parts: BTreeMap::new(),
            homes: BTreeMap::new(),
            healed: None,
            end: None,
        };
        let mut joins: BTreeMap<(Process, u16), usize> = BTreeMap::new();
        for (index, record) in trace.records.iter().enumerate() {
            history.take(index, record, &mut joins);
        }
        for (index, membership) in history.memberships.iter().enumerate() {
            if let Some(group) = membership.group {
                history.groups.entry(group).or_default().push(index);
            }
        }
        for membership in &history.memberships {
            let Some(group) = membership.group else { continue };
            for install in &membership.installs {
                for taken in &install.taken {
                    let Some(key) = taken.delivered.key else { continue };
                    let home = (group, install.view.number, taken.record);
                    let known = history.homes.entry(key).or_insert(home);
                    if taken.record < known.2 {
                        *known = home;
                    }
                }
            }
        }
        history
    }

    fn take(&mut self, index: usize, record: &'a Record, joins: &mut BTreeMap<(Process, u16), usize>) {
        let process = record.process;
        if process == Process::WORLD {
            match record.event {
                Event::Healed => self.healed = Some(index),
                Event::End => self.end = Some(index),
                _ => {}
            }
            return;
        }
        let number = process.0 as usize;
        if self.lives.len() <= number {
            self.lives.resize_with(number + 1, Life::default);
        }
        let life = &mut self.lives[number];
        life.records.push(index);
        let system = life.admitted.map_or(SystemId(0), |a| a.0);
        match &record.event {
            Event::Start { site, .. } => {
                life.start = Some(index);
                life.site = *site;
            }
            Event::Admitted { system, process } => {
                life.admitted.get_or_insert((*system, *process, index));
            }
            Event::Crash | Event::Evicted | Event::Closed => {
                life.ended.get_or_insert(index);
            }
            Event::CloseCall => life.closing = true,
            Event::Hang => life.hung = true,
            Event::Wake => life.hung = false,
            Event::JoinCall { join, name, wants_state, sending_view, client } => {
                let at = self.membership(process, *join, index, joins);
                let membership = &mut self.memberships[at];
                membership.name = *name;
                membership.wants_state = *wants_state;
                membership.sending_view = *sending_view;
                membership.client = *client;
            }
            Event::Registered { join, group } => {
                let at = self.membership(process, *join, index, joins);
                self.memberships[at].group.get_or_insert((system, *group));
                self.memberships[at].registered.get_or_insert(index);
            }
            Event::SystemView(view) => {
                let at = self.membership(process, SYSTEM_JOIN, index, joins);
                self.install(at, (system, GroupId::SYSTEM), index, view, None);
            }
            Event::View { join, view, digest } => {
                let at = self.membership(process, *join, index, joins);
                self.install(at, (system, view.group), index, view, *digest);
            }
            Event::Send { key, kind, safe, group, view, .. } => {
                let sent = Sent { record: index, kind: *kind, safe: *safe, to: None, group: *group, view: *view };
                self.sends.entry(*key).or_insert(sent);
            }
            Event::SendMany { copies, safe, .. } => {
                let keys: Rc<[Key]> = copies.iter().map(|(key, _, _)| *key).collect();
                for &(key, group, view) in copies {
                    let sent = Sent { record: index, kind: Kind::Total, safe: *safe, to: None, group, view };
                    self.sends.entry(key).or_insert(sent);
                    self.parts.entry(key).or_insert_with(|| Rc::clone(&keys));
                }
            }
            Event::SendTo { key, kind, to, group, view, .. } => {
                let sent = Sent { record: index, kind: *kind, safe: false, to: Some(*to), group: *group, view: *view };
                self.sends.entry(*key).or_insert(sent);
            }
            Event::Deliver(delivered) => {
                let at = self.membership(process, delivered.join, index, joins);
                let membership = &mut self.memberships[at];
                if matches!(delivered.kind, Kind::Unicast | Kind::Reply) {
                    if let Some(install) = membership.installs.last_mut() {
                        install.point_to_point.push((index, delivered));
                    }
                    return;
                }
                let taken = Taken { record: index, delivered };
                match membership.installs.last_mut() {
                    Some(install) if membership.left.is_none() => install.taken.push(taken),
                    _ => membership.homeless.push(taken),
                }
            }
            Event::LeaveCall { join } => {
                let at = self.membership(process, *join, index, joins);
                self.memberships[at].leave_called = Some(index);
            }
            Event::Left { join } | Event::GroupEnded { join } => {
                let at = self.membership(process, *join, index, joins);
                self.memberships[at].left = Some(index);
            }
            _ => {}
        }
    }

    fn membership(
        &mut self,
        process: Process,
        join: u16,
        index: usize,
        joins: &mut BTreeMap<(Process, u16), usize>,
    ) -> usize {
        *joins.entry((process, join)).or_insert_with(|| {
            self.memberships.push(Membership {
                process,
                join,
                group: None,
                name: 0,
                wants_state: false,
                sending_view: false,
                client: false,
                registered: None,
                installs: Vec::new(),
                homeless: Vec::new(),
                called: index,
                leave_called: None,
                left: None,
            });
            self.memberships.len() - 1
        })
    }

    fn install(&mut self, at: usize, group: GroupKey, record: usize, view: &'a Arc<ViewSeen>, digest: Option<u64>) {
        let membership = &mut self.memberships[at];
        membership.group.get_or_insert(group);
        if let Some(last) = membership.installs.last_mut() {
            last.next = Some(record);
        }
        membership.installs.push(Install {
            record,
            view,
            digest,
            taken: Vec::new(),
            point_to_point: Vec::new(),
            next: None,
        });
    }

    /// Faults stopped and the run had its time: liveness may be demanded.
    pub fn complete(&self) -> bool {
        self.healed.is_some() && self.end.is_some()
    }

    /// The process runs at the end of the trace.
    pub fn up(&self, process: Process) -> bool {
        self.lives.get(process.0 as usize).is_some_and(|l| l.start.is_some() && l.ended.is_none() && !l.hung)
    }

    /// The registration as a client by which a message was sent; `None`: its sender was a member.
    pub fn client(&self, key: Key) -> Option<&Membership<'a>> {
        self.memberships.iter().find(|m| m.client && m.process == key.sender && m.join == key.join)
    }

    /// The life of a process.
    pub fn life(&self, process: Process) -> &Life {
        &self.lives[process.0 as usize]
    }

    /// The memberships of a group of applications (not of the system group).
    pub fn application_groups(&self) -> impl Iterator<Item = (GroupKey, &Vec<usize>)> + '_ {
        self.groups.iter().filter(|(key, _)| key.1 != GroupId::SYSTEM).map(|(key, all)| (*key, all))
    }

    /// For each view number of a group: who installed it, as (membership, index of the install).
    pub fn installers(&self, memberships: &[usize]) -> BTreeMap<u64, Vec<(usize, usize)>> {
        let mut by_view: BTreeMap<u64, Vec<(usize, usize)>> = BTreeMap::new();
        for &m in memberships {
            for (i, install) in self.memberships[m].installs.iter().enumerate() {
                by_view.entry(install.view.number).or_default().push((m, i));
            }
        }
        by_view
    }

    /// The process of this install went on to the very next view with the same join.
    pub fn goes_on(&self, (m, i): (usize, usize)) -> bool {
        let installs = &self.memberships[m].installs;
        installs.get(i + 1).is_some_and(|next| next.view.number == installs[i].view.number + 1)
    }

    /// The install.
    pub fn at(&self, (m, i): (usize, usize)) -> &Install<'a> {
        &self.memberships[m].installs[i]
    }

    /// Every delivery of the trace, point-to-point included.
    pub fn deliveries(&self) -> impl Iterator<Item = (usize, Process, &'a Delivered)> + '_ {
        self.trace.records.iter().enumerate().filter_map(|(i, r)| match &r.event {
            Event::Deliver(delivered) => Some((i, r.process, delivered)),
            _ => None,
        })
    }

    /// Notes a violation.
    pub fn blame(&self, found: &mut Vec<Violation>, property: u8, what: String, records: &[usize]) {
        found.push(Violation { property, what, records: records.to_vec() });
    }
}

/// The delivery is a multicast.
pub fn is_multicast(delivered: &Delivered) -> bool {
    delivered.key.map_or(!matches!(delivered.kind, Kind::Unicast | Kind::Reply), |k| k.channel == Channel::Multicast)
}
