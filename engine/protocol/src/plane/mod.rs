//! The data plane of one view: the streams of all members as this process has them, the rows, and what can be
//! delivered. One [`Plane`] lives as long as its view (and a little longer, to answer for the view's bytes: rule R8).
//!
//! - this file: sending — appending frames, closing batches with CONTEXT and ORDER or PROPOSE records, the window;
//! - [`receive`]: bytes and rows that come in, gaps and repair, stability, giving chunks back;
//! - [`sequencer`]: the total order by a sequencer, which moves;
//! - [`priority`]: the total order by priorities, for groups that chose it;
//! - [`deliver`]: FIFO, causal, total and safe delivery, and the cut of a view change;
//! - [`gossip`]: the rows of a large view, gathered on the way.
//!
//! Owner: `group::Group`. Invariants: a rank below is always below `members`; `rows[me]` changes only while not frozen (R5),
//! but for its `end`, which says what was sent and counts for nothing else.

pub mod deliver;
pub mod gossip;
pub mod priority;
pub mod receive;
pub mod sequencer;

use crate::config::TotalOrder;
use crate::event::{Kind, SendOptions};
use crate::stream::inbox::{Carries, Clock};
use crate::stream::{Image, Inbox, Log};
use crate::time::Instant;
use isis_memory::{ChunkIndex, Region};
use isis_wire::codec::Writer;
use isis_wire::digest::Sign;
use isis_wire::frame::{
    FLAG_BEGIN, FLAG_CONTEXT_FOLLOWS, FLAG_END, FLAG_MULTI_COPY, FLAG_MULTI_FINAL, FLAG_RELAYED, FLAG_SAFE, Frame,
    FrameKind, frame_size, write_context, write_order, write_proposals,
};
use isis_wire::row::Row;
use priority::Priorities;
use sequencer::{Sequencer, take_order};
use std::collections::VecDeque;

/// The most runs in one ORDER or PROPOSE record.
const MAX_RUNS: usize = 4096;

/// A run of the total order not yet delivered: the next `count` ABCASTs of `rank`.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Whose.
    pub rank: u16,
    /// How many.
    pub count: u32,
    /// Who wrote the record.
    pub holder: u16,
    /// Position after the record in the holder's stream.
    pub end: u64,
    /// In which turn of the sequencers.
    pub turn: u32,
}

/// An open claim: bytes reserved for a message that the application writes in place.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The chunk that holds the payload.
    pub chunk: ChunkIndex,
    /// Where in it.
    pub offset: usize,
    /// How many bytes.
    pub len: usize,
    /// Something else was appended meanwhile: the payload has to be copied at commit.
    pub displaced: bool,
    /// The stream gave the chunk up: it belongs to the claim now.
    pub owns_chunk: bool,
}

/// The data plane of one view.
#[derive(Debug)]
pub struct Plane {
    /// This process's rank.
    pub me: usize,
    /// How many members.
    pub members: usize,
    /// The own stream.
    pub log: Log,
    /// The others' streams (the own entry stays empty).
    pub images: Vec<Image>,
    /// The reading end of every stream, the own one included.
    pub inbox: Vec<Inbox>,
    /// Everybody's row; in a large view only the own one, and what rode on data.
    pub rows: Vec<Row>,
    /// System group: the members' last signs that are known of.
    pub signs: Vec<Sign>,
    /// Somebody says that it misses somebody.
    pub missing: bool,
    /// Since when the signs say the same of who misses whom.
    pub missing_since: Instant,
    /// In a large view: what stands for the others' rows.
    pub gossip: Option<Box<gossip::Gossip>>,
    /// Per stream: up to which position every member has it.
    pub stable: Vec<u64>,
    consumed_messages: Vec<u64>,
    /// Per stream: messages that nobody is told of, behind some that the application is not done with: number and end.
    skipped: Vec<VecDeque<(u64, u64)>>,
    /// The sequencer's total order, as far as known and not delivered.
    pub order: VecDeque<Run>,
    /// Who says the total order.
    pub sequencer: Sequencer,
    /// The total order by priorities, in a group that chose that.
    priorities: Option<Priorities>,
    /// ABCASTs delivered.
    pub order_number: u64,
    /// Finals of ABCASTs to several groups are delivered when they are stable, whether they say so or not.
    pub finals_are_safe: bool,
    last_total: Vec<u64>,
    /// Number of the last message of each rank that was considered here: by the sequencer, or for a priority.
    considered: Vec<u64>,
    considered_clocks: Vec<Clock>,
    unwritten_runs: Vec<(u16, u32)>,
    last_context: Vec<u64>,
    /// Room for what changed since the last context, and for a record.
    changed: Vec<(u16, u64)>,
    record: Writer,
    context_wanted: bool,
    /// From the first PROMISE in the view until DECIDE (R5).
    pub frozen: bool,
    /// A GBCAST was appended: no other application frame follows in this view.
    pub global_sent: bool,
    /// Messages appended whole to the own stream.
    pub appended: u64,
    finishing: bool,
    cursor: usize,
    max_message: usize,
    /// The open claim.
    pub claim: Option<Claim>,
    /// The row should go out by then.
    pub row_due: Option<Instant>,
    /// Rows changed since stability was computed.
    pub rows_changed: bool,
    /// Who has shown a sign of this view.
    pub shown: Vec<bool>,
    /// Consumption that was last told to the others, per stream.
    pub told_consumed: Vec<u64>,
}

impl Plane {
    /// The data plane of a new view (of no members at all for the last one that leaves).
    pub fn new(me: usize, members: usize, max_message: usize, total_order: TotalOrder) -> Plane {
        let mut shown = vec![false; members];
        if let Some(own) = shown.get_mut(me) {
            *own = true;
        }
        Plane {
            me,
            members,
            log: Log::default(),
            images: (0..members).map(|_| Image::default()).collect(),
            inbox: (0..members).map(|_| Inbox::new(members)).collect(),
            rows: vec![Row::zero(members); members],
            signs: vec![Sign::default(); members],
            missing: false,
            missing_since: Instant::ZERO,
            gossip: None,
            stable: vec![0; members],
            consumed_messages: vec![0; members],
            skipped: vec![VecDeque::new(); members],
            order: VecDeque::new(),
            sequencer: Sequencer::new(members),
            priorities: (total_order == TotalOrder::Priority).then(|| Priorities::new(members)),
            order_number: 0,
            finals_are_safe: false,
            last_total: vec![0; members],
            considered: vec![0; members],
            considered_clocks: vec![Clock::default(); members],
            unwritten_runs: Vec::new(),
            last_context: vec![0; members],
            changed: Vec::new(),
            record: Writer::new(),
            context_wanted: false,
            frozen: false,
            global_sent: false,
            appended: 0,
            finishing: false,
            cursor: 0,
            max_message,
            claim: None,
            row_due: None,
            rows_changed: true,
            shown,
            told_consumed: vec![0; members],
        }
    }

    /// How many messages of each rank were delivered here: the vector timestamp of what is sent next.
    pub fn vector(&self) -> Vec<u64> {
        self.inbox.iter().map(|inbox| inbox.delivered).collect()
    }

    /// How many application bytes may be appended now. `throttled_by_received`: for the message that may be in
    /// progress beyond the window (R1).
    pub fn space(&self, window: u64, throttled_by_received: bool) -> u64 {
        let slowest = self
            .rows
            .iter()
            .enumerate()
            .map(|(rank, row)| match (rank == self.me, throttled_by_received) {
                (true, true) => self.log.end,
                (_, false) => row.consumed[self.me],
                (false, true) => row.received[self.me],
            })
            .min()
            .unwrap_or(0);
        let floor = self.gossip.as_ref().map_or(0, |gossip| {
            let floor = &gossip.floor[self.me];
            if throttled_by_received { floor.received } else { floor.consumed }
        });
        let slowest = slowest.max(floor);
        (slowest + window).saturating_sub(self.log.end)
    }

    /// Up to which position everybody is known to be done with the own stream.
    pub fn consumed_everywhere(&self) -> u64 {
        let rows = self.rows.iter().map(|row| row.consumed[self.me]).min().unwrap_or(0);
        self.gossip.as_ref().map_or(0, |gossip| gossip.floor[self.me].consumed).max(rows)
    }

    /// The rank that is behind all others with the own stream, as far as known.
    pub fn slowest(&self) -> usize {
        let rows = self.rows.iter().map(|row| row.consumed[self.me]).enumerate();
        match &self.gossip {
            Some(gossip) => usize::from(gossip.floor[self.me].slowest),
            None => rows.min_by_key(|(_, consumed)| *consumed).map_or(self.me, |(rank, _)| rank),
        }
    }

    /// Up to which position everybody but this member has delivered the stream of `rank`, in messages.
    pub fn delivered_by_others(&self, rank: usize) -> u64 {
        let others = self.rows.iter().enumerate().filter(|(member, _)| *member != self.me);
        let rows = others.map(|(_, row)| row.delivered[rank]).min().unwrap_or(u64::MAX);
        self.gossip.as_ref().map_or(0, |gossip| gossip.floor[rank].delivered).max(rows).saturating_sub(1)
    }

    /// Bytes that a message of `len` takes in the stream, cut in fragments.
    pub fn message_size(len: usize, fragment: usize) -> u64 {
        let whole = (len / fragment) as u64 * frame_size(fragment) as u64;
        let rest = len % fragment;
        if rest > 0 || len == 0 { whole + frame_size(rest) as u64 } else { whole }
    }

    fn flags(&mut self, options: SendOptions, carries: Option<Carries>, begin: bool, end: bool) -> u8 {
        let mut flags = match carries {
            None => 0,
            Some(Carries::Relayed) => FLAG_RELAYED,
            Some(Carries::Copy) => FLAG_MULTI_COPY,
            Some(Carries::Final) => FLAG_MULTI_FINAL,
        };
        if begin {
            flags |= FLAG_BEGIN;
        }
        if end {
            flags |= FLAG_END;
        }
        if options.safe {
            flags |= FLAG_SAFE;
        }
        if end && options.kind != Kind::Fifo && !(mutant!(TotalUndated) && options.kind == Kind::Total) {
            let changed = self
                .inbox
                .iter()
                .enumerate()
                .any(|(rank, inbox)| rank != self.me && inbox.delivered > self.last_context[rank]);
            if changed || self.context_wanted {
                self.context_wanted = true;
                flags |= FLAG_CONTEXT_FOLLOWS;
            }
        }
        flags
    }

    fn frame(
        &mut self,
        options: SendOptions,
        carries: Option<Carries>,
        len: usize,
        (begin, end): (bool, bool),
    ) -> Frame {
        let kind = match options.kind {
            Kind::Fifo => FrameKind::Fifo,
            Kind::Causal => FrameKind::Causal,
            Kind::Total => FrameKind::Total,
            _ => FrameKind::Global,
        };
        Frame { kind, flags: self.flags(options, carries, begin, end), entry: options.entry, len: len as u32 }
    }

    /// Appends one fragment of a message. `None`: the region is exhausted.
    pub fn append_fragment(
        &mut self,
        region: &mut Region,
        options: SendOptions,
        fragment: &[u8],
        begin: bool,
        end: bool,
    ) -> Option<u64> {
        self.append_part(region, options, None, fragment, (begin, end))
    }

    /// As `append_fragment`, of a message that may be more than that.
    pub fn append_part(
        &mut self,
        region: &mut Region,
        options: SendOptions,
        carries: Option<Carries>,
        fragment: &[u8],
        (begin, end): (bool, bool),
    ) -> Option<u64> {
        debug_assert!(!self.frozen || mutant!(AppendsWhileFrozen), "a frozen member appends nothing (R5)");
        self.pass_claim(region);
        let context_wanted = self.context_wanted;
        let frame = self.frame(options, carries, fragment.len(), (begin, end));
        let position = self.log.append(region, frame, fragment);
        match position {
            Some(_) if end => {
                self.appended += 1;
                self.global_sent |= options.kind == Kind::Global;
            }
            None => self.context_wanted = context_wanted,
            _ => {}
        }
        position
    }

    /// Reserves the payload of a message of one fragment. `None`: the region is exhausted.
    pub fn open_claim(&mut self, region: &mut Region, len: usize) -> Option<Claim> {
        let (chunk, offset) = self.log.reserve(region, len)?;
        let claim = Claim { chunk, offset, len, displaced: false, owns_chunk: false };
        self.claim = Some(claim);
        Some(claim)
    }

    /// Before anything else is appended: the reserved bytes become padding, and stay the claim's to write.
    fn pass_claim(&mut self, region: &mut Region) {
        if let Some(claim) = &mut self.claim
            && !claim.displaced
        {
            claim.displaced = true;
            let pad = Frame { kind: FrameKind::Pad, flags: 0, entry: 0, len: claim.len as u32 };
            self.log.append_reserved(region, pad);
        }
    }

    /// Commits an undisplaced claim in place.
    pub fn commit_in_place(&mut self, region: &mut Region, claim: Claim, options: SendOptions) -> u64 {
        let frame = self.frame(options, None, claim.len, (true, true));
        if options.kind == Kind::Global {
            self.global_sent = true;
        }
        self.appended += 1;
        self.log.append_reserved(region, frame)
    }

    /// Room for a record that is to be written, and then given to `append_record`.
    fn begin_record(&mut self) -> Writer {
        let mut record = std::mem::take(&mut self.record);
        record.bytes.clear();
        record
    }

    fn append_record(&mut self, region: &mut Region, kind: FrameKind, record: Writer) -> bool {
        self.pass_claim(region);
        let frame = Frame { kind, flags: 0, entry: 0, len: record.bytes.len() as u32 };
        let appended = self.log.append(region, frame, &record.bytes).is_some();
        self.record = record;
        appended
    }

    /// Closes the open batch: CONTEXT if a message needs one, ORDER or PROPOSE for what can be ordered now. Then all up to the
    /// end may be sent. Returns whether the end moved.
    pub fn publish(&mut self, region: &mut Region) -> bool {
        if self.frozen {
            return false;
        }
        let before = self.log.published;
        if self.context_wanted {
            let mut entries = std::mem::take(&mut self.changed);
            entries.clear();
            let all = self.inbox.iter().enumerate();
            let news = all.filter(|(rank, inbox)| *rank != self.me && inbox.delivered > self.last_context[*rank]);
            entries.extend(news.map(|(rank, inbox)| (rank as u16, inbox.delivered)));
            let mut record = self.begin_record();
            write_context(&mut record, &entries);
            let appended = self.append_record(region, FrameKind::Context, record);
            for (rank, value) in entries.iter().filter(|_| appended) {
                self.last_context[usize::from(*rank)] = *value;
            }
            self.changed = entries;
            if !appended {
                return false;
            }
            self.context_wanted = false;
        }
        self.parse_own(region, self.log.end);
        if self.orders() {
            self.order_next();
            while !self.unwritten_runs.is_empty() && self.append_order(region) {}
        }
        self.log.published = self.log.end;
        if self.log.published != before {
            self.refresh_row();
        }
        self.log.published != before
    }

    /// Appends one record of what was considered, and reads it. `false`: the region is exhausted.
    fn append_order(&mut self, region: &mut Region) -> bool {
        let mut record = self.begin_record();
        let count = self.unwritten_runs.len().min(MAX_RUNS);
        let runs = &self.unwritten_runs[..count];
        let kind = match &self.priorities {
            Some(priorities) => {
                write_proposals(&mut record, priorities.next_priority(), runs);
                FrameKind::Propose
            }
            None => {
                write_order(&mut record, runs);
                FrameKind::Order
            }
        };
        if !self.append_record(region, kind, record) {
            return false;
        }
        self.unwritten_runs.drain(..count);
        self.parse_own(region, self.log.end);
        true
    }

    /// Whether `publish` has anything to do, apart from putting messages in order.
    pub fn has_unpublished(&self) -> bool {
        !self.frozen && (self.log.published != self.log.end || self.context_wanted)
    }

    /// Whether `publish` may have anything to do.
    pub fn may_publish(&self) -> bool {
        self.has_unpublished() || self.has_unordered()
    }

    fn parse_own(&mut self, region: &Region, limit: u64) {
        let (order, sequencer, priorities) = (&mut self.order, &mut self.sequencer, &mut self.priorities);
        let inbox = &mut self.inbox[self.me];
        let me = self.me;
        if inbox.parsed < limit {
            inbox.parse(region, &self.log.chunks, limit, self.max_message, &mut |record, end| {
                take_order(order, sequencer, priorities, me, record, end);
            });
        }
        self.note_parsed(self.me);
    }
}
