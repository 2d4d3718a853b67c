//! Answering requests for repair (NAKs): to the one that asked, or once to the group when several ask for the same bytes.
//!
//! The first one that asks gets its bytes at once: most losses are one receiver's own, and a wait for company would delay
//! every repair. Whoever asks for the same bytes within [`company_ns`] shows that the loss was the sender's or the network's:
//! they go to the whole group, and those that ask next are served by that. So a loss that hits all of `n` receivers costs two
//! transmissions at most, one if the requests come in one burst, and not `n`.
//!
//! Owner: the [`Group`]. Invariants: at most [`MAX_REPAIRS`] ranges wait, and as many are remembered; what does not fit is
//! dropped and asked for again. A repair for the group is sent in its present view only: who is behind asks by itself.

use super::Group;
use super::transmit::{BURST, DataPacket};
use crate::counters::Counter;
use crate::shared::{Shared, Target};
use crate::time::Instant;
use isis_wire::Address;
use isis_wire::codec::DecodeError;
use isis_wire::packet::{DATA_HEADER, HEADER, NakRange, read_naks};
use std::collections::VecDeque;

/// The most repairs that wait, and the most that are remembered.
const MAX_REPAIRS: usize = 256;

/// Bytes of a stream of a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    view: u64,
    rank: usize,
    from: u64,
    end: u64,
}

impl Range {
    fn overlaps(&self, other: &Range) -> bool {
        self.view == other.view && self.rank == other.rank && self.from < other.end && other.from < self.end
    }
}

/// A repair to be sent.
#[derive(Clone, Copy, Debug)]
struct Repair {
    to: Target,
    range: Range,
}

/// A repair that was promised lately.
#[derive(Clone, Copy, Debug)]
struct Promised {
    to: Target,
    range: Range,
    at: Instant,
}

/// What a group owes, and what it has promised lately.
#[derive(Debug, Default)]
pub struct Repairs {
    queue: VecDeque<Repair>,
    promised: VecDeque<Promised>,
}

/// How long a request is remembered: members that lose the same bytes ask within a time of `nak_delay_ns` of each other, and
/// none of them asks again before three times that.
fn company_ns(shared: &Shared) -> u64 {
    2 * shared.config.nak_delay_ns
}

impl Repairs {
    /// Nobody waits for one.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// `from` asks for a range. `group`: where to send what others ask for as well; `None`: only whoever asks can use it.
    fn ask(&mut self, now: Instant, company_ns: u64, from: Address, range: Range, group: Option<Target>) {
        while self.promised.front().is_some_and(|promised| now.since(promised.at) > company_ns) {
            self.promised.pop_front();
        }
        let own = Target::Address(from);
        let waiting = self.queue.iter().map(|repair| (repair.to, repair.range));
        let promised = self.promised.iter().map(|promised| (promised.to, promised.range));
        let known: Vec<(Target, Range)> = waiting.chain(promised).filter(|(_, other)| other.overlaps(&range)).collect();
        let to_group = |to: Target| matches!(to, Target::Members(_));
        let queued = |piece: &Range| self.queue.iter().any(|r| r.to == own && r.range.overlaps(piece));
        let mut wanted: Vec<(Target, Range)> = Vec::new();
        for piece in cut(range, &known) {
            let mut others = known.iter().filter(|(_, other)| other.overlaps(&piece)).map(|(to, _)| *to);
            if others.clone().any(to_group) || queued(&piece) {
                continue;
            }
            let to = match group {
                Some(group) if others.any(|to| to != own) => group,
                _ => own,
            };
            match wanted.last_mut() {
                Some((last, before)) if *last == to && before.end == piece.from => before.end = piece.end,
                _ => wanted.push((to, piece)),
            }
        }
        for (to, range) in wanted {
            if to_group(to) {
                // What waits for one of them goes with it.
                let within =
                    |other: &Range| range.overlaps(other) && range.from <= other.from && other.end <= range.end;
                self.queue.retain(|repair| to_group(repair.to) || !within(&repair.range));
            }
            if self.queue.len() >= MAX_REPAIRS {
                return;
            }
            self.queue.push_back(Repair { to, range });
            if self.promised.len() >= MAX_REPAIRS {
                self.promised.pop_front();
            }
            self.promised.push_back(Promised { to, range, at: now });
        }
    }
}

/// The range, cut where any of the others begins or ends.
fn cut(range: Range, others: &[(Target, Range)]) -> Vec<Range> {
    let borders = others.iter().flat_map(|(_, other)| [other.from, other.end]);
    let mut borders: Vec<u64> = borders.filter(|&at| range.from < at && at < range.end).collect();
    borders.sort_unstable();
    borders.dedup();
    let mut pieces = Vec::with_capacity(borders.len() + 1);
    let mut from = range.from;
    for end in borders.into_iter().chain([range.end]) {
        pieces.push(Range { from, end, ..range });
        from = end;
    }
    pieces
}

impl Group {
    /// A NAK came, about `view`.
    pub fn on_nak(&mut self, shared: &mut Shared, from: Address, view: u64, body: &[u8]) -> Result<(), DecodeError> {
        let ranges = read_naks(body)?;
        let present = view == self.view.number;
        let members = if present {
            self.plane.members
        } else {
            self.old.iter().find(|old| old.number == view).map_or(0, |old| old.plane.members)
        };
        let group = (present && self.departed_until.is_none() && self.peers.contains(&from) && self.peers.len() > 1)
            .then_some(Target::Members(self.id));
        for NakRange { rank, from: start, end } in ranges {
            if usize::from(rank) >= members {
                shared.count(Counter::IgnoreMalformed);
                continue;
            }
            let mut range = Range { view, rank: usize::from(rank), from: start, end };
            if present && range.rank == self.rank && self.departed_until.is_none() && self.sends(shared) {
                let sent = self.plane.log.sent;
                // What was not sent is no loss, and goes its way.
                range.end = range.end.min(sent);
                if range.from >= range.end {
                    continue;
                }
                if !self.plane.frozen && self.peers.contains(&from) && self.flight.lose(start, sent) {
                    shared.count(Counter::FlightsHalved);
                }
            }
            self.repairs.ask(shared.now, company_ns(shared), from, range, group);
        }
        Ok(())
    }

    /// Plans this burst's repairs.
    pub(super) fn transmit_repairs(&mut self, shared: &mut Shared, out: &mut Vec<DataPacket>) {
        for _ in 0..BURST {
            let Some(mut repair) = self.repairs.queue.pop_front() else { return };
            let largest = match repair.to {
                Target::Address(address) => shared.datagram_to(address),
                // The others of a view that is over ask again, each for itself.
                Target::Members(_) if repair.range.view != self.view.number => continue,
                Target::Members(_) => self.datagram(shared),
            };
            let room = (largest - HEADER - DATA_HEADER) / 8 * 8;
            let Range { view, rank, from, end } = repair.range;
            // Bytes: whoever asks may have been told a place in vain.
            let end_now = end.min(from + room as u64);
            let Some(packet) = self.data_packet(shared, repair.to, view, rank, from..end_now, &[], false) else {
                continue;
            };
            shared.count(Counter::RepairsSent);
            if matches!(repair.to, Target::Members(_)) {
                shared.count(Counter::RepairsToGroup);
            }
            repair.range.from += packet.len as u64;
            out.push(packet);
            if repair.range.from < end {
                self.repairs.queue.push_front(repair);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::GroupId;

    const GROUP: Target = Target::Members(GroupId(7));
    const COMPANY: u64 = 500;

    fn address(port: u16) -> Address {
        Address { ip: [0; 16], port }
    }

    fn range(from: u64, end: u64) -> Range {
        Range { view: 1, rank: 2, from, end }
    }

    /// The queue as `(asker or 0 for the group, from, end)`.
    fn queue(repairs: &Repairs) -> Vec<(u16, u64, u64)> {
        let port = |to| if let Target::Address(address) = to { address.port } else { 0 };
        repairs.queue.iter().map(|repair| (port(repair.to), repair.range.from, repair.range.end)).collect()
    }

    fn ask(repairs: &mut Repairs, at: u64, port: u16, from: u64, end: u64) {
        repairs.ask(Instant(at), COMPANY, address(port), range(from, end), Some(GROUP));
    }

    #[test]
    fn one_that_asks_is_answered_alone_and_several_as_a_group() {
        let mut repairs = Repairs::default();
        ask(&mut repairs, 10, 1, 0, 80);
        ask(&mut repairs, 11, 1, 0, 80);
        assert_eq!(queue(&repairs), [(1, 0, 80)], "asked twice, answered once");
        ask(&mut repairs, 12, 2, 0, 80);
        assert_eq!(queue(&repairs), [(0, 0, 80)], "what waited for the first goes to both");
        ask(&mut repairs, 13, 3, 0, 80);
        repairs.queue.clear();
        ask(&mut repairs, 14, 4, 8, 80);
        assert_eq!(queue(&repairs), [], "sent already, to all");
    }

    #[test]
    fn the_second_to_ask_turns_an_answer_that_is_on_its_way_into_one_for_all() {
        let mut repairs = Repairs::default();
        ask(&mut repairs, 10, 1, 0, 80);
        repairs.queue.clear();
        ask(&mut repairs, 10 + COMPANY, 2, 40, 120);
        assert_eq!(queue(&repairs), [(0, 40, 80), (2, 80, 120)], "only what both lack goes to all");
    }

    #[test]
    fn company_that_comes_late_is_no_company() {
        let mut repairs = Repairs::default();
        ask(&mut repairs, 10, 1, 0, 80);
        repairs.queue.clear();
        ask(&mut repairs, 11 + COMPANY, 2, 0, 80);
        assert_eq!(queue(&repairs), [(2, 0, 80)]);
        repairs.queue.clear();
        ask(&mut repairs, 12 + COMPANY, 2, 0, 80);
        assert_eq!(queue(&repairs), [(2, 0, 80)], "it asks again: its answer was lost");
    }

    #[test]
    fn other_streams_and_views_are_other_bytes() {
        let mut repairs = Repairs::default();
        ask(&mut repairs, 10, 1, 0, 80);
        for other in [Range { rank: 3, ..range(0, 80) }, Range { view: 2, ..range(0, 80) }] {
            repairs.ask(Instant(10), COMPANY, address(2), other, Some(GROUP));
        }
        repairs.ask(Instant(10), COMPANY, address(3), Range { view: 2, ..range(0, 80) }, None);
        assert_eq!(queue(&repairs), [(1, 0, 80), (2, 0, 80), (2, 0, 80), (3, 0, 80)], "no group, no company");
    }

    #[test]
    fn what_waits_and_what_is_remembered_is_bounded() {
        let mut repairs = Repairs::default();
        for number in 0..10_000 {
            ask(&mut repairs, 10, number as u16 % 9, number * 16, number * 16 + 8);
        }
        assert_eq!((repairs.queue.len(), repairs.promised.len()), (MAX_REPAIRS, MAX_REPAIRS));
    }
}
