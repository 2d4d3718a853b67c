//! Properties of order: 12-15.
//!
//! Happened-before is computed here, from the order of sends and deliveries in the trace, never from the engine's vectors:
//! every process carries a vector that counts, per sender, the messages in its past; a message carries its sender's vector.
//! FBCASTs add nothing to it (Birman, Schiper & Stephenson, 1991 [BSS91]; the property list says why).

use super::Violation;
use super::delivery::{carries_causality, group_of};
use super::digests;
use super::history::{GroupKey, History};
use super::multi;
use crate::trace::{Channel, Event, Key, Process};
use isis_protocol::event::Kind;
use isis_protocol::id::GroupId;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Causality is followed within one group, or, with `Limits::across_groups`, within one system.
type Domain = GroupKey;

/// A message with its past.
#[derive(Clone, Debug)]
struct Stamp {
    domain: Domain,
    /// Its number among its sender's messages of the domain.
    index: u32,
    /// How many messages of each process are in its past, itself included.
    past: Rc<[u32]>,
}

/// The pasts of all processes, while the trace is walked.
#[derive(Debug, Default)]
struct Clocks {
    width: usize,
    clocks: BTreeMap<(Domain, Process), Vec<u32>>,
    /// The messages of each process in a domain, by index (first is 1).
    sent: BTreeMap<(Domain, Process), Vec<Key>>,
    stamps: BTreeMap<Key, Stamp>,
}

impl Clocks {
    fn clock(&mut self, domain: Domain, process: Process) -> &mut Vec<u32> {
        let width = self.width;
        self.clocks.entry((domain, process)).or_insert_with(|| vec![0; width])
    }

    fn send(&mut self, domain: Domain, key: Key) {
        let sent = self.sent.entry((domain, key.sender)).or_default();
        sent.push(key);
        let index = sent.len() as u32;
        let clock = self.clock(domain, key.sender);
        clock[key.sender.0 as usize] = index;
        let past = Rc::from(clock.as_slice());
        self.stamps.entry(key).or_insert(Stamp { domain, index, past });
    }

    /// The parts of one message, one for each group: none of them happened before another.
    fn send_parts(&mut self, parts: &[(Domain, Key)]) {
        for (domain, key) in parts {
            let sent = self.sent.entry((*domain, key.sender)).or_default();
            sent.push(*key);
            let index = sent.len() as u32;
            self.clock(*domain, key.sender)[key.sender.0 as usize] = index;
        }
        for &(domain, key) in parts {
            let past = Rc::from(self.clock(domain, key.sender).as_slice());
            let sent = &self.sent[&(domain, key.sender)];
            let index = sent.iter().rposition(|sent| *sent == key).map_or(0, |at| at as u32 + 1);
            self.stamps.entry(key).or_insert(Stamp { domain, index, past });
        }
    }

    fn deliver(&mut self, process: Process, stamp: &Stamp) {
        let clock = self.clock(stamp.domain, process);
        for (mine, theirs) in clock.iter_mut().zip(stamp.past.iter()) {
            *mine = (*mine).max(*theirs);
        }
    }
}

fn domain(history: &History<'_>, process: Process, group: GroupId) -> Domain {
    let key = group_of(history, process, group);
    if history.limits.across_groups { (key.0, GroupId::SYSTEM) } else { key }
}

/// Walks the trace; `visit` sees every causal delivery, with the clocks before it.
fn walk(history: &History<'_>, mut visit: impl FnMut(&Clocks, usize, Process, Key, &Stamp)) -> Clocks {
    let mut clocks = Clocks { width: history.lives.len(), ..Clocks::default() };
    for (index, record) in history.trace.records.iter().enumerate() {
        match &record.event {
            Event::Send { key, kind, group, .. } | Event::SendTo { key, kind, group, .. }
                if carries_causality(*kind) =>
            {
                clocks.send(domain(history, record.process, *group), *key);
            }
            Event::SendMany { copies, .. } => {
                let parts: Vec<(Domain, Key)> =
                    copies.iter().map(|&(key, group, _)| (domain(history, record.process, group), key)).collect();
                clocks.send_parts(&parts);
            }
            Event::Deliver(delivered) if carries_causality(delivered.kind) => {
                let Some(key) = delivered.key else { continue };
                let Some(stamp) = clocks.stamps.get(&key).cloned() else { continue };
                visit(&clocks, index, record.process, key, &stamp);
                clocks.deliver(record.process, &stamp);
            }
            _ => {}
        }
    }
    clocks
}

/// 12. If the sending of m happened before the sending of m', nobody delivers m' without having delivered m before, if it
///     is a destination of both.
pub fn causal(history: &History<'_>, found: &mut Vec<Violation>) {
    // The memberships of a process in a group, by the record of their first view.
    let mut stays: BTreeMap<(Process, GroupKey), BTreeMap<usize, usize>> = BTreeMap::new();
    for (index, membership) in history.memberships.iter().enumerate() {
        if let (Some(group), Some(first)) = (membership.group, membership.installs.first()) {
            stays.entry((membership.process, group)).or_default().insert(first.record, index);
        }
    }
    // What a process owes to the membership that it is in at a record: to one that it left it owes nothing any more.
    let stay_at = |process: Process, group: GroupKey, record: usize| {
        let stay = stays.get(&(process, group))?.range(..record).next_back()?;
        Some(&history.memberships[*stay.1])
    };
    let mut delivered: BTreeMap<(Process, Key), usize> = BTreeMap::new();
    for (record, process, taken) in history.deliveries() {
        if let Some(key) = taken.key {
            delivered.entry((process, key)).or_insert(record);
        }
    }
    let mut checked: BTreeMap<(Domain, Process), Vec<u32>> = BTreeMap::new();
    // What was passed over below, to be looked at again: sender and index.
    let mut passed_over: BTreeMap<(Domain, Process), Vec<(usize, u32)>> = BTreeMap::new();
    walk(history, |clocks, record, process, key, stamp| {
        let done = checked.entry((stamp.domain, process)).or_insert_with(|| vec![0; clocks.width]);
        let mut again = Vec::new();
        let kept = std::mem::take(passed_over.entry((stamp.domain, process)).or_default());
        let here = history.sends.get(&key).map(|sent| sent.group);
        for (number, &upto) in stamp.past.iter().enumerate() {
            let sender = Process(number as u32);
            // Only what was checked for a multicast is done with: a point-to-point message demands less.
            let kept =
                kept.iter().filter(|(of, _)| *of == number).map(|(_, index)| *index).filter(|i| *i < done[number]);
            for index in kept.chain(done[number]..upto) {
                if index >= upto {
                    again.push((number, index));
                    continue;
                }
                let earlier = clocks.sent[&(stamp.domain, sender)][index as usize];
                if earlier == key || sender == process && key.sender == process {
                    continue;
                }
                let sent = &history.sends[&earlier];
                // Of an ABCAST to several groups this group's part comes before what follows the message in this group. Those of
                // other groups come before what follows it there, or in groups that it does not go to.
                let has_part_here =
                    || history.parts[&earlier].iter().any(|part| Some(history.sends[part].group) == here);
                if history.parts.contains_key(&earlier) && Some(sent.group) != here && has_part_here() {
                    again.push((number, index));
                    continue;
                }
                let group = group_of(history, sender, sent.group);
                let Some(stay) = stay_at(process, group, record) else { continue };
                let destination = match sent.to {
                    // A client that leaves gets nothing any more.
                    Some(to) if stay.client => {
                        let was_in = stay.registered.is_some_and(|at| at < sent.record);
                        let still_in = [stay.left, stay.leave_called].iter().flatten().all(|&end| end > record);
                        to == process && was_in && still_in && !history.life(process).closing
                    }
                    Some(to) => {
                        // What was sent to a joiner before its first view (its donor may have been lost) is not owed.
                        let was_in = stay.installs.first().is_some_and(|i| i.view.number <= sent.view);
                        let still_in = stay.left.is_none_or(|left| left > record);
                        to == process && was_in && still_in
                    }
                    // The view of a message that nobody delivered is that of its sending, or a later one: its sender was not
                    // told of that yet, or sent the copy in it again. Whoever leaves may be in none that it comes to.
                    None => match history.homes.get(&earlier) {
                        Some(home) => stay.installs.iter().any(|i| i.view.number == home.1),
                        None => {
                            stay.installs.iter().any(|i| i.view.number == sent.view)
                                && stay.left.is_none_or(|left| left > record)
                        }
                    },
                };
                let when = delivered.get(&(process, earlier));
                // Owed or not: what was sent to one membership comes in another one in this order or not at all.
                let taken_by =
                    when.and_then(|&when| stay_at(process, group, when)).and_then(|stay| stay.installs.first());
                let comes_late =
                    sent.to == Some(process) && taken_by.is_some_and(|first| first.view.number > sent.view);
                if (destination || comes_late) && when.is_none_or(|&when| when > record) {
                    let what = format!("{process:?} delivers {key:?} without {earlier:?}, which happened before");
                    let records: Vec<_> = [sent.record, record].into_iter().chain(when.copied()).collect();
                    history.blame(found, 12, what, &records);
                }
            }
            if key.channel == Channel::Multicast {
                done[number] = done[number].max(upto);
            }
        }
        again.sort_unstable();
        again.dedup();
        passed_over.insert((stamp.domain, process), again);
    });
}

/// One process's ABCASTs of one view, in its order.
struct Sequence {
    process: Process,
    goes_on: bool,
    /// Message, record, safe.
    taken: Vec<(Key, usize, bool)>,
}

fn sequences(history: &History<'_>, mut visit: impl FnMut(GroupKey, u64, &[Sequence])) {
    for (group, members) in history.application_groups() {
        for (number, installers) in history.installers(members) {
            let all: Vec<_> = installers
                .into_iter()
                .map(|at| {
                    let process = history.memberships[at.0].process;
                    let install = history.at(at);
                    // Who is up at the end in its last view is a survivor as well: its order is what the others will follow.
                    let goes_on = history.goes_on(at) || (install.next.is_none() && history.up(process));
                    let taken = install.taken.iter().filter(|t| t.delivered.kind == Kind::Total);
                    let taken =
                        taken.filter_map(|t| t.delivered.key.map(|k| (k, t.record, t.delivered.safe))).collect();
                    Sequence { process, goes_on, taken }
                })
                .collect();
            visit(group, number, &all);
        }
    }
}

/// 13. Two ABCASTs that two processes deliver are delivered in the same order by both. Between survivors always; against a
///     process that failed, up to the last safe one that it delivered.
pub fn total(history: &History<'_>, found: &mut Vec<Violation>) {
    sequences(history, |group, number, all| {
        let bound = |s: &Sequence| match s.goes_on {
            true => s.taken.len(),
            false => s.taken.iter().rposition(|t| t.2).map_or(0, |last| last + 1),
        };
        for (i, one) in all.iter().enumerate() {
            let places: BTreeMap<Key, usize> =
                one.taken[..bound(one)].iter().enumerate().map(|(place, t)| (t.0, place)).collect();
            for other in &all[i + 1..] {
                let mut last: Option<(usize, usize)> = None;
                for (key, record, _) in &other.taken[..bound(other)] {
                    let Some(&place) = places.get(key) else { continue };
                    if let Some((before, earlier)) = last
                        && before > place
                    {
                        let what = format!(
                            "{:?} and {:?} deliver ABCASTs of view {number} of {:?} in different orders",
                            one.process, other.process, group.1
                        );
                        let records = [one.taken[place].1, one.taken[before].1, earlier, *record];
                        history.blame(found, 13, what, &records);
                        break;
                    }
                    last = Some((place, *record));
                }
            }
        }
    });
    multi::order(history, found);
    digests::order(history, found);
    // The numbers that the engine gives are 1, 2, 3 … in each view.
    for membership in &history.memberships {
        for install in &membership.installs {
            let mut order = 0;
            for taken in install.taken.iter().filter(|t| t.delivered.kind == Kind::Total) {
                if taken.delivered.order != order + 1 {
                    let what = format!("order number {} comes after {order}", taken.delivered.order);
                    history.blame(found, 13, what, &[install.record, taken.record]);
                    break;
                }
                order = taken.delivered.order;
            }
        }
    }
}

/// 14. The total order extends the causal order: of two ABCASTs, the one that happened before comes first.
pub fn total_extends_causal(history: &History<'_>, found: &mut Vec<Violation>) {
    let clocks = walk(history, |_, _, _, _, _| {});
    sequences(history, |_, _, all| {
        for sequence in all {
            // What was delivered so far, as a vector: a later message must not be in the past of an earlier one.
            let mut past: Vec<(u32, usize)> = vec![(0, 0); clocks.width];
            for (key, record, _) in &sequence.taken {
                let Some(stamp) = clocks.stamps.get(key) else { continue };
                let (seen, earlier) = past[key.sender.0 as usize];
                if seen >= stamp.index {
                    let what = format!("{:?} delivers {key:?} after an ABCAST that followed it", sequence.process);
                    history.blame(found, 14, what, &[earlier, *record]);
                    break;
                }
                for (mine, theirs) in past.iter_mut().zip(stamp.past.iter()) {
                    if *theirs > mine.0 {
                        *mine = (*theirs, *record);
                    }
                }
            }
        }
    });
}

/// 15. Every member delivers a GBCAST at the same point of everything: after all other messages of its view, before the
///     next view, in the same order.
pub fn global(history: &History<'_>, found: &mut Vec<Violation>) {
    for (group, members) in history.application_groups() {
        for (number, installers) in history.installers(members) {
            let mut reference: Option<(usize, Vec<Key>)> = None;
            for at in installers {
                let install = history.at(at);
                let is_global = |kind: Kind| kind == Kind::Global;
                let Some(first) = install.taken.iter().position(|t| is_global(t.delivered.kind)) else {
                    if history.goes_on(at) {
                        compare(history, group, number, &mut reference, install.record, Vec::new(), found);
                    }
                    continue;
                };
                if let Some(late) = install.taken[first..].iter().find(|t| !is_global(t.delivered.kind)) {
                    let what = format!("a GBCAST of view {number} of {:?} is not after all else", group.1);
                    history.blame(found, 15, what, &[install.taken[first].record, late.record]);
                }
                if history.goes_on(at) {
                    let keys = install.taken[first..].iter().filter(|t| is_global(t.delivered.kind));
                    let keys = keys.filter_map(|t| t.delivered.key).collect();
                    compare(history, group, number, &mut reference, install.taken[first].record, keys, found);
                } else if install.next.is_none()
                    && history.complete()
                    && history.up(history.memberships[at.0].process)
                    && history.memberships[at.0].left.is_none()
                {
                    let what = format!("no view follows a GBCAST of view {number} of {:?}", group.1);
                    history.blame(found, 15, what, &[install.taken[first].record]);
                }
            }
        }
    }
}

fn compare(
    history: &History<'_>,
    group: GroupKey,
    number: u64,
    reference: &mut Option<(usize, Vec<Key>)>,
    record: usize,
    keys: Vec<Key>,
    found: &mut Vec<Violation>,
) {
    match reference {
        Some((first, known)) if *known != keys => {
            let what = format!("survivors of view {number} of {:?} deliver its GBCASTs differently", group.1);
            history.blame(found, 15, what, &[*first, record]);
        }
        Some(_) => {}
        None => *reference = Some((record, keys)),
    }
}
