//! Digests that all must agree on: the order of a view's ABCASTs (property 13) and the replicated state (property 18), as
//! the applications computed them. They see all deliveries of a view at once, where the other checks look at pairs.

use super::Violation;
use super::history::History;
use crate::trace::{Event, Process};
use std::collections::BTreeMap;

/// All that come to the end of a view together have delivered its ABCASTs and GBCASTs in the same order.
pub fn order(history: &History<'_>, found: &mut Vec<Violation>) {
    compare(history, 13, "order", |order, _| Some(order), found);
}

/// All that come to the end of a view together have the same state: at each next view, and at the end of the run.
pub fn state(history: &History<'_>, found: &mut Vec<Violation>) {
    compare(history, 18, "state", |_, state| state, found);
}

fn compare(
    history: &History<'_>,
    property: u8,
    what: &str,
    of: fn(u64, Option<u64>) -> Option<u64>,
    found: &mut Vec<Violation>,
) {
    let mut joins = BTreeMap::new();
    for membership in &history.memberships {
        joins.insert((membership.process, membership.join), membership.group);
    }
    let mut first: BTreeMap<_, (u64, usize, Process)> = BTreeMap::new();
    for (index, record) in history.trace.records.iter().enumerate() {
        let Event::ViewEnds { join, view, order, state } = record.event else { continue };
        let group = joins.get(&(record.process, join)).copied().flatten();
        let (Some(group), Some(digest)) = (group, of(order, state)) else { continue };
        let &mut (other, at, who) = first.entry((group, view)).or_insert((digest, index, record.process));
        if other != digest {
            let process = record.process;
            let what = format!("{who:?} and {process:?} end view {view} of {:?} with another {what}", group.1);
            history.blame(found, property, what, &[at, index]);
        }
    }
}
