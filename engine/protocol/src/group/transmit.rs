//! Packets out, and the timers of a group: data, rows, NAKs.

use super::Group;
use crate::counters::Counter;
use crate::event::{Event, SlowReason};
use crate::plane::sequencer::Candidate;
use crate::shared::{Shared, Target};
use crate::time::{Instant, earlier};
use isis_memory::{CHUNK_SIZE, ChunkIndex, Place};
use isis_wire::Writer;
use isis_wire::digest::write_sign;
use isis_wire::frame::FRAME_HEADER;
use isis_wire::message::StateStatus;
use isis_wire::packet::{
    self, DATA_HEADER, DataHeader, HEADER, NakRange, PLACE_RECORD, PacketKind, PlaceRecord, write_naks,
};
use isis_wire::row::Row;
use std::ops::Range;

/// The most data datagrams of one group in one burst.
pub(super) const BURST: usize = 32;
/// The most bytes asked for in one NAK range.
const NAK_SPAN: u64 = 1 << 20;
/// In a row's delay the row rides on so many bursts of data, at most.
const ROWS_RIDING: u64 = 16;
/// The longest pause between two NAKs for one gap.
const NAK_PAUSE_MAX_NS: u64 = 20 * crate::time::MILLISECOND;

/// A datagram of stream bytes: the header is complete but for the sum.
#[derive(Debug)]
pub struct DataPacket {
    /// Where to.
    pub to: Target,
    /// Packet header, data header, row.
    pub header: Vec<u8>,
    /// Where the stream bytes are.
    pub chunk: ChunkIndex,
    /// Offset in the chunk.
    pub offset: usize,
    /// How many bytes.
    pub len: usize,
    /// They stay there: the header says where.
    pub by_place: bool,
}

impl Group {
    /// Closes the open batch. If there was one there may be something to deliver to itself.
    pub(crate) fn publish(&mut self, shared: &mut Shared) {
        shared.again |= self.close_batch(shared);
    }

    /// Whether the end of what may be sent moved.
    fn close_batch(&mut self, shared: &mut Shared) -> bool {
        if mutant!(WindowStopsControl) && self.plane.space(shared.config.window, false) < 256 {
            return false;
        }
        if let Some(candidate) = self.plane.candidate(shared.now, shared.config.handover)
            && self.may_order(shared, candidate)
        {
            self.plane.sequencer.successor = Some(candidate.rank as u16);
        }
        let turn = self.plane.sequencer.turn;
        let moved = self.plane.publish(&mut shared.region);
        if self.plane.sequencer.turn > turn {
            shared.count(Counter::SequencerMoves);
        }
        moved
    }

    /// The member may take the task of ordering over: nobody has to wait for it longer than for this one, as far as known.
    /// On another site it is far from most others, unless most messages come from there.
    fn may_order(&self, shared: &Shared, candidate: Candidate) -> bool {
        let process = self.view.members[candidate.rank].process;
        !self.is_system()
            && shared.peers.get(&process).is_some_and(|peer| {
                !shared.suspects(peer)
                    && peer.entry.max_pause_ns <= shared.config.max_pause_ns
                    && (candidate.majority || peer.entry.site == shared.config.site)
            })
    }

    /// Brings the own row up to date. While the state is on its way the window counts what is received, up to the backlog's
    /// bound: whether it does.
    fn counts_received(&mut self, shared: &Shared) -> bool {
        let has_state = self.state == StateStatus::Has;
        let own = &mut self.plane.rows[self.rank];
        // What is still to be sent is no gap to others, who would ask for it while it is on its way.
        own.end = self.plane.log.sent;
        for (delivered, inbox) in own.delivered.iter_mut().zip(&self.plane.inbox) {
            *delivered = if has_state { inbox.delivered + 1 } else { 0 };
        }
        let held: u64 = own.received.iter().zip(&own.consumed).map(|(r, c)| r - c).sum();
        // What is delivered here is part of the floor.
        self.plane.rows_changed |= self.plane.gossip.is_some();
        !has_state && held < shared.config.join_backlog
    }

    /// The row as it goes out, if it is not the own one as it is: that one is brought up to date.
    pub(super) fn told_row(&mut self, shared: &Shared) -> Option<Row> {
        let counts_received = self.counts_received(shared);
        let own = &self.plane.rows[self.rank];
        let told = counts_received.then(|| Row { consumed: own.received.clone(), ..own.clone() });
        self.plane.told_consumed.clone_from(&told.as_ref().unwrap_or(own).consumed);
        for inbox in &mut self.plane.inbox {
            inbox.unacknowledged_safe = false;
        }
        told
    }

    /// Bytes that most rows need.
    fn row_room(&self) -> usize {
        8 + 12 * self.plane.members
    }

    /// Writes the row as it goes out.
    fn write_row(&mut self, shared: &Shared, out: &mut Writer) {
        let told = self.told_row(shared);
        told.as_ref().unwrap_or(&self.plane.rows[self.rank]).write(out);
    }

    /// Plans this burst's packets of the group.
    pub fn transmit(&mut self, shared: &mut Shared, out: &mut Vec<DataPacket>) {
        if self.departed_until.is_none() {
            self.transmit_stream(shared, out);
        }
        self.transmit_repairs(shared, out);
    }

    /// A stalled process sends nothing but for its system.
    pub(super) fn sends(&self, shared: &Shared) -> bool {
        !shared.stalled || self.is_system()
    }

    fn transmit_stream(&mut self, shared: &mut Shared, out: &mut Vec<DataPacket>) {
        if !self.sends(shared) {
            return;
        }
        self.note_readers(shared);
        self.publish(shared);
        let log = &self.plane.log;
        if self.peers.is_empty() {
            self.plane.log.sent = log.published;
            return;
        }
        if !self.may_send(shared) {
            return;
        }
        self.flight.depart(shared.now, self.plane.log.sent);
        let datagram = self.datagram(shared);
        let mut row = if self.row_rides(shared) {
            let mut writer = Writer { bytes: shared.buffers.take(self.row_room()) };
            self.write_row(shared, &mut writer);
            writer.bytes
        } else {
            Vec::new()
        };
        let room = datagram - HEADER - DATA_HEADER;
        if row.len() + 8 > room / 2 {
            row.clear();
        }
        for _ in 0..BURST {
            if !self.may_send(shared) {
                break;
            }
            let log = &self.plane.log;
            let from = log.sent;
            row.resize(row.len().div_ceil(8) * 8, 0);
            let at = log.placed_from.and_then(|_| log.chunks.locate(from));
            let at = at.filter(|(chunk, _)| shared.region.is_shared(*chunk));
            let (placed, most) = match at {
                // To name bytes takes as much whatever their number: up to the end of the chunk.
                Some((_, offset)) => (true, CHUNK_SIZE - offset),
                None => (false, (room - row.len()) / 8 * 8),
            };
            let end = log.published.min(from + most as u64);
            let (to, view) = (Target::Members(self.id), self.view.number);
            let packet = self.data_packet(shared, to, view, self.rank, from..end, &row, placed);
            let Some(mut packet) = packet else { break };
            self.plane.log.sent += packet.len as u64;
            if self.flight.asks(from, self.plane.log.sent) {
                DataHeader::ask(&mut packet.header[HEADER..]);
            }
            shared.count(Counter::DataSent);
            if packet.by_place {
                shared.count(Counter::PlacesSent);
            }
            if !row.is_empty() {
                row.clear();
                // The system's rows carry signs of life, and go out by themselves too.
                if self.plane.gossip.is_none() && !self.is_system() {
                    self.row_sent_at = shared.now;
                    self.plane.row_due = None;
                }
            }
            out.push(packet);
        }
        shared.buffers.give(row);
        // The end of the stream is in the next row: whoever lost the tail learns of it.
        self.want_row(shared.now + 2 * self.row_delay_ns(shared));
    }

    /// Something of the own stream is not sent, and may be. When the view ends others wait for all of it.
    fn may_send(&self, shared: &Shared) -> bool {
        let log = &self.plane.log;
        log.sent < log.published && (self.plane.frozen || self.flight.admits(shared.now, log.sent))
    }

    /// The next burst of data carries the row. Not each one does: whoever sends a few messages at a time would write it, and all
    /// others read it, many times in the delay that it may have. But others may wait for it with safe messages.
    fn row_rides(&self, shared: &Shared) -> bool {
        shared.now >= self.row_pause_over(shared)
            || self.is_system()
            || self.plane.gossip.is_some()
            || self.plane.inbox.iter().any(|inbox| inbox.unacknowledged_safe)
    }

    /// When the last row that went out is old enough for another one.
    pub(super) fn row_pause_over(&self, shared: &Shared) -> Instant {
        self.row_sent_at + shared.config.row_delay_ns / ROWS_RIDING
    }

    /// A datagram of the stream of `rank` in `view`; `None` if the bytes are not here.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn data_packet(
        &self,
        shared: &Shared,
        to: Target,
        view: u64,
        rank: usize,
        Range { start: from, end }: Range<u64>,
        row: &[u8],
        by_place: bool,
    ) -> Option<DataPacket> {
        let plane =
            if view == self.view.number { &self.plane } else { &self.old.iter().find(|old| old.number == view)?.plane };
        let len = plane.bytes(&shared.region, rank, from, end).len();
        if len == 0 {
            return None;
        }
        let chunks = if rank == plane.me { &plane.log.chunks } else { &plane.images[rank].chunks };
        let (chunk, offset) = chunks.locate(from)?;
        let place = if by_place { shared.region.place(chunk, offset, len) } else { None };
        let kind = if place.is_some() { PacketKind::Placed } else { PacketKind::Data };
        let mut header = shared.buffers.take(HEADER + DATA_HEADER + row.len() + PLACE_RECORD);
        packet::begin(&mut header, &shared.header(kind, self.id, view));
        DataHeader { rank: rank as u16, row_len: row.len() as u16, asks: false, position: from }.write(&mut header);
        header.extend_from_slice(row);
        if let Some(Place { chunk, offset, len, generation }) = place {
            PlaceRecord { chunk, offset, len, generation }.write(&mut header);
        }
        Some(DataPacket { to, header, chunk, offset, len, by_place: place.is_some() })
    }

    /// Whether all other members read this process's arena: then its stream is laid there, and they are told where.
    pub(super) fn note_readers(&mut self, shared: &Shared) {
        let known = (shared.region.readers_epoch(), self.view.number);
        if self.readers_known != known {
            self.readers_known = known;
            let mut others = self.view.members.iter().filter(|member| member.process != shared.me).peekable();
            let all = others.peek().is_some() && others.all(|member| shared.region.is_read_by(member.nonce.0));
            self.plane.log.placed_from = all.then_some(shared.config.placed_from);
        }
    }

    /// The largest datagram that reaches all members.
    pub(super) fn datagram(&self, shared: &Shared) -> usize {
        if self.on_one_site { shared.config.datagram_local } else { shared.config.datagram_network }
    }

    /// Does what is due: stability, rows, NAKs, flushes, waiting sends, release of memory.
    pub fn drive(&mut self, shared: &mut Shared) {
        if self.departed_until.is_none() {
            // What the release of memory depends on changes with the rows only.
            let moved = self.plane.rows_changed;
            if self.plane.update_stability() {
                self.flight.acknowledge(shared.now, self.plane.stable[self.rank], self.plane.log.sent);
                self.complete_flushes(shared, false);
            }
            // Most of what follows seldom has anything to do: it is not called to find that out.
            if !(self.waiting.is_empty() && self.relaying.is_empty()) {
                self.append_waiting(shared);
            }
            if self.leaving.is_some() {
                self.forget_delivered_unicasts(shared);
            }
            if self.incoming.last.is_some() {
                self.install_state_if_complete(shared);
            }
            if self.plane.has_unordered() && self.sends(shared) {
                // What came in is put in order here: it is delivered below, and the record goes with the next burst.
                self.close_batch(shared);
            }
            self.deliver(shared);
            if !self.clients.is_empty() {
                self.serve_clients(shared);
            }
            if !self.flushes.is_empty() {
                self.complete_flushes(shared, false);
            }
            if self.writable_wanted {
                self.open_window(shared);
            }
            self.report_gaps(shared);
            self.send_row_if_due(shared);
            if self.leaving.is_some() {
                self.repeat_leave(shared);
            }
            if moved || self.plane.rows_changed {
                let full = shared.is_full();
                self.plane.release(&mut shared.region);
                // What waits for memory, here or elsewhere, is tried again.
                shared.again |= full && !shared.is_full();
            }
        }
        if self.tell_at.is_some() {
            self.repeat_decision(shared);
        }
        if !self.old.is_empty() {
            self.release_old(shared);
        }
    }

    /// Tells the application that a send is worth another try, and who holds it up.
    fn open_window(&mut self, shared: &mut Shared) {
        // A view change or a stall refuses sends whatever room there is: the word is kept until they are over.
        // So does what happened before in other groups and is not delivered there.
        let in_vain = || self.is_held_up(shared) || self.is_untold() || !self.refused_for.is_empty();
        if !self.writable_wanted || in_vain() {
            return;
        }
        let space = self.plane.space(shared.config.window, false);
        // A fragment fits.
        let enough = shared.config.window / 4 + FRAME_HEADER as u64;
        if self.waiting.is_empty() && space >= enough {
            self.writable_wanted = false;
            self.writable_since = None;
            self.slow_told = None;
            if !self.is_system() {
                shared.emit(Event::Writable { group: self.handle });
            }
            return;
        }
        let since = self.writable_since.unwrap_or(shared.now);
        if space < enough && self.slow_told.is_none() && shared.now.since(since) > shared.config.suspect_min_ns {
            let process = self.view.members[self.plane.slowest()].process;
            self.slow_told = Some(process);
            let group = (!self.is_system()).then_some(self.handle);
            shared.emit(Event::Slow { process, reason: SlowReason::Window, group });
        }
    }

    fn report_gaps(&mut self, shared: &mut Shared) {
        for rank in 0..self.plane.members {
            if rank == self.rank {
                continue;
            }
            let image = &mut self.plane.images[rank];
            if !image.has_gap() {
                image.nak_at = None;
                image.nak_count = 0;
                continue;
            }
            let delay = shared.config.nak_delay_ns;
            let at = *image.nak_at.get_or_insert(shared.now + delay / 2 + shared.random.below(delay));
            if shared.now < at {
                continue;
            }
            let count = image.nak_count;
            image.nak_count += 1;
            let pause = ((4 * delay) << count.min(8)).min(NAK_PAUSE_MAX_NS);
            image.nak_at = Some(shared.now + shared.random.jitter(pause));
            self.send_nak(shared, rank, count);
        }
    }

    /// Asks the sender first, then in turn whoever is known to have more.
    fn send_nak(&mut self, shared: &mut Shared, rank: usize, count: u32) {
        let image = &self.plane.images[rank];
        let missing = image.contiguous;
        let alive = |member: usize| member != self.rank && !shared.suspected(self.view.members[member].process);
        let mut sources: Vec<usize> = Vec::new();
        if alive(rank) {
            sources.push(rank);
        }
        if let Some(holders) = self.change.holders() {
            let holding = holders.iter().filter(|(_, received)| received.get(rank).is_some_and(|&r| r > missing));
            sources
                .extend(holding.filter_map(|(process, _)| self.rank_of(*process)).filter(|&m| alive(m) && m != rank));
        } else {
            // In a large view nobody's row is known: anybody may have it.
            let anybody = self.change.decided.is_some() || self.plane.gossip.is_some();
            let holds = |member: &usize| anybody || self.plane.rows[*member].received[rank] > missing;
            sources.extend((0..self.plane.members).filter(|&m| m != rank && alive(m)).filter(holds));
        }
        if sources.is_empty() {
            return;
        }
        let source = sources[count as usize % sources.len()];
        let range = |(from, end): (u64, u64)| NakRange { rank: rank as u16, from, end: end.min(from + NAK_SPAN) };
        let ranges: Vec<NakRange> = image.gaps(16).into_iter().map(range).collect();
        let mut out = Writer::new();
        write_naks(&mut out, &ranges);
        let to = Target::Address(self.view.members[source].address);
        shared.send_body(to, PacketKind::Nak, self.id, self.view.number, &out.bytes);
        shared.count(Counter::NaksSent);
    }

    /// This process does not know yet that everybody has, and is done with, everything.
    pub(super) fn is_unsettled(&self) -> bool {
        let plane = &self.plane;
        plane.consumed_everywhere() < plane.log.published
            || plane.shown.iter().any(|shown| !shown)
            || plane.stable.iter().zip(&plane.rows[self.rank].received).any(|(stable, here)| stable < here)
            || self.old.iter().any(|old| !old.awaited.is_empty())
            || self.owed
            || self.clients.is_owed()
            || (self.leaving.is_some() && !self.unicasts.is_empty())
    }

    fn row_deadline(&self, shared: &Shared) -> Option<Instant> {
        if self.peers.is_empty() {
            return None;
        }
        earlier(self.plane.row_due, self.beat_at(shared))
    }

    /// As `row_deadline` says, which is not looked for as long as neither can be due.
    fn row_is_due(&self, shared: &Shared) -> bool {
        let now = shared.now;
        let passed =
            now >= self.row_sent_at + shared.config.heartbeat_ns || self.plane.row_due.is_some_and(|at| now >= at);
        passed && self.row_deadline(shared).is_some_and(|at| now >= at)
    }

    /// When the next heartbeat is due.
    fn beat_at(&self, shared: &Shared) -> Option<Instant> {
        (self.is_system() || self.is_unsettled()).then(|| self.row_sent_at + shared.config.heartbeat_ns)
    }

    fn send_row_if_due(&mut self, shared: &mut Shared) {
        // Consumption that opens a sender's window is told soon, not at the next heartbeat.
        let quarter = shared.config.window / 4;
        let told = &self.plane.told_consumed;
        let moves = self.plane.rows[self.rank].consumed.iter().zip(told).map(|(now, told)| now.saturating_sub(*told));
        let most = moves.max().unwrap_or(0);
        if most > 0 {
            let delay = self.row_delay_ns(shared);
            if most < quarter {
                self.want_row(shared.now + 4 * delay);
            } else {
                self.want_row(if self.plane.gossip.is_some() { shared.now + delay } else { shared.now });
            }
        }
        if !self.row_is_due(shared) {
            return;
        }
        if self.plane.gossip.is_some() {
            let beat_due = self.beat_at(shared).is_some_and(|at| shared.now >= at);
            return self.send_digests(shared, beat_due);
        }
        let mut out = shared.begin_packet(PacketKind::Row, self.id, self.view.number, 1 + self.row_room());
        out.flag(self.is_unsettled());
        if self.is_system() {
            self.give_sign(shared);
            self.plane.signs.iter().for_each(|sign| write_sign(&mut out, *sign));
        }
        self.write_row(shared, &mut out);
        shared.send_packet(Target::Members(self.id), out);
        shared.count(Counter::RowsSent);
        self.row_sent_at = shared.now;
        self.plane.row_due = None;
    }

    fn repeat_leave(&mut self, shared: &mut Shared) {
        let Some(request) = self.leave_request() else { return };
        if self.leave_at.is_some_and(|at| shared.now < at) {
            return;
        }
        self.leave_at = Some(shared.now + shared.random.jitter(2 * self.breadth() * shared.config.resend_ns));
        for address in self.peers.clone() {
            shared.send(address, self.id, self.view.number, &isis_wire::message::Message::Leave { request });
        }
    }

    /// When `drive` should be called next.
    pub fn deadline(&self, shared: &Shared) -> Option<Instant> {
        let others = [self.change_deadline(shared), self.cut_off_at(shared).filter(|at| shared.now < *at)];
        let departed = self.departed_until.filter(|_| self.is_system());
        let leave = self.leave_at.filter(|_| self.departed_until.is_none() && self.leave_request().is_some());
        others.into_iter().chain([departed, leave, self.data_deadline(shared)]).flatten().min()
    }

    /// The part of `deadline` that bytes and rows of the view change.
    fn data_deadline(&self, shared: &Shared) -> Option<Instant> {
        self.earliest_with(shared, self.departed_until.is_none().then(|| self.row_deadline(shared)).flatten())
    }

    /// The same or earlier, without looking whether everything is settled: then there is no heartbeat.
    pub(crate) fn data_deadline_or_earlier(&self, shared: &Shared) -> Option<Instant> {
        let beat = self.row_sent_at + shared.config.heartbeat_ns;
        if beat <= shared.now || self.departed_until.is_some() {
            return self.data_deadline(shared);
        }
        self.earliest_with(shared, earlier(self.plane.row_due, Some(beat)))
    }

    /// The earliest time limit of the data plane, if that of the row is `row`.
    fn earliest_with(&self, shared: &Shared, row: Option<Instant>) -> Option<Instant> {
        if self.departed_until.is_some() {
            return earlier(self.tell_at, row);
        }
        let opens = self.flight.opens_at(self.plane.log.sent).filter(|at| shared.now < *at && self.sends(shared));
        let gaps = self.plane.images.iter();
        gaps.fold(earlier(earlier(self.tell_at, row), opens), |next, image| earlier(next, image.nak_at))
    }

    /// Bytes of the own stream that were not sent.
    pub(crate) fn unsent_bytes(&self) -> u64 {
        self.plane.log.end - self.plane.log.sent
    }

    /// The next burst may have something of this group's.
    pub(crate) fn has_unsent(&self, shared: &Shared) -> bool {
        (self.departed_until.is_none() && self.sends(shared) && (self.may_send(shared) || self.plane.may_publish()))
            || !self.repairs.is_empty()
    }

    /// After consumption: whether nothing has to be done at once, but for the own row, which goes out soon.
    pub(crate) fn tells_consumption_later(&mut self, shared: &Shared) -> bool {
        let own = &self.plane.rows[self.rank];
        let moves = own.consumed.iter().zip(&self.plane.told_consumed).map(|(now, told)| now.saturating_sub(*told));
        let little = moves.max().is_none_or(|most| most < shared.config.window / 4);
        // Alone in its view there is nobody to tell, and memory to be given back.
        let alone = self.peers.is_empty() || shared.is_full();
        let waited_for = alone || self.writable_wanted || !self.waiting.is_empty();
        let later = little && !waited_for && self.plane.gossip.is_none();
        if later {
            self.want_row(shared.now + 4 * self.row_delay_ns(shared));
        }
        later
    }
}
