//! What was read from a stream and is not yet delivered: messages by number, and the contexts that date them.
//!
//! Frames are parsed from the contiguous prefix, once. A message is whole when its END frame was parsed; a message of
//! several fragments is put together in a buffer of its own. CONTEXT records carry the changed entries of the sender's
//! vector timestamp; a message names the context by its ordinal. ORDER and PROPOSE records are handed to the caller at once:
//! control acts when it is contiguous, not when the messages before it are delivered.

use super::Chunks;
use super::batch::{Batch, Traits};
use crate::event::Kind;
use isis_memory::{CHUNK_SIZE, ChunkIndex, Region};
use isis_wire::frame::{
    FLAG_BEGIN, FLAG_CONTEXT_FOLLOWS, FLAG_END, FLAG_MULTI_COPY, FLAG_MULTI_FINAL, FLAG_RELAYED, FLAG_SAFE,
    FRAME_HEADER, Frame, FrameKind, Runs, SHORT, frame_size, read_context, read_order, read_proposals,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a multicast carries, if it is not simply a message of its sender's application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carries {
    /// A client's message: its bytes begin with a `RelayHeader`.
    Relayed,
    /// The copy in this group of an ABCAST to several groups: its bytes begin with a `MultiHeader`.
    Copy,
    /// Final priorities of ABCASTs to several groups.
    Final,
}

/// A CONTEXT record.
#[derive(Clone, Debug)]
pub struct Context {
    /// Position after the record.
    pub end: u64,
    /// The entries `(rank, value)` that changed.
    pub entries: Vec<(u16, u64)>,
}

/// A vector timestamp that follows the contexts of one stream.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// The entries, by rank.
    pub vector: Vec<u64>,
    /// The ordinal of the context applied last.
    pub applied: u64,
    /// Position after that context's record.
    pub end: u64,
    /// The vector was found covered: it stays so.
    pub covered: bool,
}

impl Clock {
    /// Brings it to where `other` is, in the room that it has.
    fn set(&mut self, other: &Clock) {
        self.vector.clone_from(&other.vector);
        (self.applied, self.end, self.covered) = (other.applied, other.end, other.covered);
    }
}

/// A message's allocation of up to this many bytes is kept for the next long message of the stream: fresh memory of this size
/// comes from the system page by page, which costs as much as copying the bytes.
pub const SPARE: usize = (1 << 20) + (64 << 10);

/// The end of a message whose CONTEXT record is not here.
const UNDATED: u64 = u64::MAX;

/// Lists of context entries that are kept for the next contexts.
const SPARE_ENTRIES: usize = 64;

#[derive(Debug)]
struct Unfinished {
    traits: Traits,
    bytes: Vec<u8>,
}

/// The reading end of one stream.
#[derive(Debug)]
pub struct Inbox {
    members: usize,
    /// Everything before was parsed.
    pub parsed: u64,
    /// How many whole messages were parsed.
    pub whole: u64,
    /// How many messages were delivered.
    pub delivered: u64,
    /// Messages `delivered + 1 ..= whole`.
    pub queue: VecDeque<Batch>,
    /// What the next frame has to be to belong to the last batch: its header without the length.
    open: Option<[u8; 4]>,
    /// Contexts later than `clock.applied`.
    pub contexts: VecDeque<Context>,
    contexts_seen: u64,
    /// Room for the entries of contexts.
    spare_entries: Vec<Vec<(u16, u64)>>,
    /// The clock of the message at the head of the queue.
    pub clock: Clock,
    /// Ends of whole messages that are not known stable.
    ends: VecDeque<u64>,
    /// Messages before which it has to be looked whether what dates them is stable, too: without it nobody could deliver them. Each
    /// with the end of its CONTEXT record; `UNDATED`: that is not here.
    dates: VecDeque<(u64, u64)>,
    /// How many messages are known stable, and so what dates them.
    pub stable_messages: u64,
    /// A GBCAST payload is whole (it waits for the view change).
    pub has_global: bool,
    /// Messages came whose delivery waits until all members are known to have them, and the own row did not say so yet.
    pub unacknowledged_safe: bool,
    unfinished: Option<Unfinished>,
    /// The last long message, delivered or not: once nobody else holds it, its allocation takes the next one.
    last_long: Option<Arc<Vec<u8>>>,
    /// Where the last frame ends of those that reach from one chunk into another; 0: there was none.
    pub crossed: u64,
    /// Its payload, put together, if it does not lie in one piece. Somebody takes it at once.
    collected: Option<Vec<u8>>,
    /// The stream makes no sense from `parsed` on.
    pub broken: bool,
}

/// A record about the total order.
#[derive(Clone, Debug)]
pub enum OrderRecord<'a> {
    /// ORDER: the next places, as runs `(rank, count)`.
    Places(Runs<'a>),
    /// PROPOSE: priorities from the first number on, for these runs.
    Proposals(u64, Runs<'a>),
}

/// Takes records about the total order, each with the position after it.
pub type OrderSink<'a> = dyn FnMut(OrderRecord<'_>, u64) + 'a;

impl Inbox {
    /// For a stream of a view with `members`.
    pub fn new(members: usize) -> Inbox {
        Inbox {
            members,
            parsed: 0,
            whole: 0,
            delivered: 0,
            queue: VecDeque::new(),
            open: None,
            contexts: VecDeque::new(),
            contexts_seen: 0,
            spare_entries: Vec::new(),
            clock: Clock { vector: vec![0; members], ..Clock::default() },
            ends: VecDeque::new(),
            dates: VecDeque::new(),
            stable_messages: 0,
            has_global: false,
            unacknowledged_safe: false,
            unfinished: None,
            last_long: None,
            crossed: 0,
            collected: None,
            broken: false,
        }
    }

    /// Parses whole frames up to `limit`, which must be within the contiguous prefix. Returns whether any was.
    pub fn parse(
        &mut self,
        region: &Region,
        chunks: &Chunks,
        limit: u64,
        max_message: usize,
        order: &mut OrderSink<'_>,
    ) -> bool {
        let before = self.parsed;
        while self.parsed + FRAME_HEADER as u64 <= limit && !self.broken {
            let Some((chunk, start)) = chunks.locate(self.parsed) else { break };
            if start == 0 {
                // A batch is in one chunk.
                self.open = None;
            }
            let available = (limit - self.parsed).min((CHUNK_SIZE - start) as u64) as usize;
            // No more of the chunk: what lies behind may be written just now.
            let bytes = region.bytes(chunk, start..start + available);
            let mut at = 0;
            while at + FRAME_HEADER <= bytes.len() {
                let header = &bytes[at..at + FRAME_HEADER];
                if self.open.is_some_and(|open| open == header[4..])
                    && let Some(size) = self.take_similar(header, bytes.len() - at)
                {
                    at += size;
                    continue;
                }
                let Ok(frame) = Frame::parse(header, CHUNK_SIZE - start - at) else {
                    self.broken = true;
                    break;
                };
                let end = self.parsed + frame.size() as u64;
                let (payload, place) = if at + frame.size() <= bytes.len() {
                    let payload = &bytes[at + FRAME_HEADER..at + FRAME_HEADER + frame.len as usize];
                    (payload, (chunk, (start + at) as u32))
                } else if start + at + frame.size() > CHUNK_SIZE {
                    self.crossed = end;
                    if end > limit && !(mutant!(PieceTooEarly) && limit > self.parsed + CHUNK_SIZE as u64 / 2) {
                        return self.parsed != before;
                    }
                    self.cross(region, chunks, self.parsed + FRAME_HEADER as u64, frame.len as usize)
                } else {
                    break;
                };
                if !self.take_frame(frame, payload, place, end, max_message, order) {
                    self.broken = true;
                    break;
                }
                self.parsed = end;
                at += frame.size();
            }
            if at == 0 || start + at < CHUNK_SIZE {
                break;
            }
        }
        self.parsed != before
    }

    /// Payload that reaches into further chunks, which are here, and where it begins. If it does not lie in one piece it is collected:
    /// see there.
    #[cold]
    fn cross<'a>(
        &mut self,
        region: &'a Region,
        chunks: &Chunks,
        position: u64,
        len: usize,
    ) -> (&'a [u8], (ChunkIndex, u32)) {
        let end = position + len as u64;
        let mut part = chunks.slice(region, position, end);
        let (chunk, offset) = chunks.locate(position).expect("it is contiguous");
        if part.len() == len {
            return (part, (chunk, offset as u32));
        }
        let mut bytes = self.buffer();
        while !part.is_empty() {
            bytes.extend_from_slice(part);
            part = chunks.slice(region, position + bytes.len() as u64, end);
        }
        debug_assert!(bytes.len() == len || mutant!(PieceTooEarly), "it is contiguous");
        self.collected = Some(bytes);
        (&[], (chunk, offset as u32))
    }

    /// One more message of the last batch. Gives the frame's size; `None`: it is not all here, and nothing was done.
    #[inline]
    fn take_similar(&mut self, header: &[u8], space: usize) -> Option<usize> {
        let len = u32::from_le_bytes(*header.first_chunk()?) as usize;
        let size = frame_size(len);
        if len > space || size > space {
            return None;
        }
        let batch = self.queue.back_mut()?;
        batch.count += 1;
        self.unacknowledged_safe |= batch.traits.safe;
        self.whole += 1;
        self.parsed += size as u64;
        self.ends.push_back(self.parsed);
        Some(size)
    }

    fn take_frame(
        &mut self,
        frame: Frame,
        payload: &[u8],
        place: (ChunkIndex, u32),
        end: u64,
        max_message: usize,
        order: &mut OrderSink<'_>,
    ) -> bool {
        self.open = None;
        let kind = match frame.kind {
            FrameKind::Fifo => Kind::Fifo,
            FrameKind::Causal => Kind::Causal,
            FrameKind::Total => Kind::Total,
            FrameKind::Global => Kind::Global,
            FrameKind::Pad => return true,
            FrameKind::Context => {
                let mut entries = self.spare_entries.pop().unwrap_or_default();
                if read_context(payload, self.members, &mut entries).is_err() {
                    return false;
                }
                self.contexts_seen += 1;
                if let Some((_, date)) = self.dates.back_mut().filter(|(_, date)| *date == UNDATED) {
                    *date = end;
                }
                self.contexts.push_back(Context { end, entries });
                return true;
            }
            FrameKind::Order => {
                let Ok(runs) = read_order(payload, self.members) else { return false };
                order(OrderRecord::Places(runs), end);
                return true;
            }
            FrameKind::Propose => {
                let Ok((first, runs)) = read_proposals(payload, self.members) else { return false };
                order(OrderRecord::Proposals(first, runs), end);
                return true;
            }
        };
        let begin = frame.flags & FLAG_BEGIN != 0;
        let last = frame.flags & FLAG_END != 0;
        let carries = match frame.flags & (FLAG_RELAYED | FLAG_MULTI_COPY | FLAG_MULTI_FINAL) {
            0 => None,
            FLAG_RELAYED => Some(Carries::Relayed),
            FLAG_MULTI_COPY if kind == Kind::Total => Some(Carries::Copy),
            FLAG_MULTI_FINAL if kind == Kind::Total => Some(Carries::Final),
            _ => return false,
        };
        let context = self.contexts_seen + u64::from(frame.flags & FLAG_CONTEXT_FOLLOWS != 0);
        let traits = Traits { kind, safe: frame.flags & FLAG_SAFE != 0, entry: frame.entry, carries, context };
        if carries == Some(Carries::Final) {
            // It has one frame, and may stand between the fragments of another message.
            if !(begin && last) {
                return false;
            }
            self.add_frame(traits, frame, place, end);
            return true;
        }
        match (begin, last, self.unfinished.take()) {
            (true, ..) if frame.len as usize > max_message.max(SHORT) => return false,
            (true, true, None) => {
                self.add_frame(traits, frame, place, end);
                let [.., kind, flags, entry, zero] = frame.header();
                // What crossed a border is alone in its batch.
                self.open = (carries.is_none() && self.crossed != end).then_some([kind, flags, entry, zero]);
            }
            (true, false, None) => {
                let bytes = self.collected.take().unwrap_or_else(|| {
                    let mut bytes = self.buffer();
                    bytes.extend_from_slice(payload);
                    bytes
                });
                self.unfinished = Some(Unfinished { traits, bytes });
            }
            (false, last, Some(mut unfinished)) if unfinished.traits.kind == kind => {
                if unfinished.bytes.len() + frame.len as usize > max_message {
                    return false;
                }
                unfinished.bytes.extend_from_slice(self.collected.take().as_deref().unwrap_or(payload));
                if !last {
                    self.unfinished = Some(unfinished);
                    return true;
                }
                let traits = Traits { context, ..unfinished.traits };
                self.add_long(traits, unfinished.bytes, end);
            }
            _ => return false,
        }
        true
    }

    /// A message of one frame, which begins there; if it reaches into another chunk, its payload does.
    fn add_frame(&mut self, traits: Traits, frame: Frame, place: (ChunkIndex, u32), end: u64) {
        let number = self.whole + 1;
        if self.crossed != end {
            let ((chunk, offset), position) = (place, end - frame.size() as u64);
            self.add_whole(Batch::of_frame(number, traits, chunk, offset, position), end);
        } else if let Some(bytes) = self.collected.take() {
            self.add_long(traits, bytes, end);
        } else {
            self.add_whole(Batch::of_piece(number, traits, place, frame.len, end), end);
        }
    }

    /// A message that was put together.
    fn add_long(&mut self, traits: Traits, bytes: Vec<u8>, end: u64) {
        let bytes = Arc::new(bytes);
        self.last_long = (bytes.capacity() <= SPARE).then(|| Arc::clone(&bytes));
        self.add_whole(Batch::of_bytes(self.whole + 1, traits, bytes, end), end);
    }

    /// A message is whole; its last frame ends there.
    fn add_whole(&mut self, message: Batch, end: u64) {
        self.whole += 1;
        self.has_global |= message.traits.kind == Kind::Global;
        self.unacknowledged_safe |= message.traits.safe || message.traits.carries == Some(Carries::Final);
        self.ends.push_back(end);
        let undated = message.traits.context > self.contexts_seen && !mutant!(StableUndated);
        if undated && self.dates.back().is_none_or(|(_, date)| *date != UNDATED) {
            self.dates.push_back((message.number, UNDATED));
        }
        self.queue.push_back(message);
    }

    /// Where a long message is put together. Messages of one stream tend to be of one length, so room for the last one's
    /// saves what growing would copy.
    fn buffer(&mut self) -> Vec<u8> {
        match self.last_long.take().map(Arc::try_unwrap) {
            Some(Ok(mut bytes)) => {
                if !mutant!(DirtyBuffer) {
                    bytes.clear();
                }
                bytes
            }
            Some(Err(held)) => Vec::with_capacity(held.len()),
            None => Vec::new(),
        }
    }

    /// The stream is stable up to `position`: counts the messages that are. (One that is not dated is not, nor what follows it.)
    pub fn note_stable(&mut self, position: u64) {
        while self.ends.front().is_some_and(|&end| end <= position) {
            if let Some(&(number, date)) = self.dates.front()
                && number <= self.stable_messages + 1
            {
                if date > position {
                    return;
                }
                self.dates.pop_front();
            }
            self.ends.pop_front();
            self.stable_messages += 1;
        }
    }

    /// Brings `clock` to the context `ordinal`; `false` if its record is not here yet.
    /// `contexts` are those later than `base`.
    fn advance(contexts: &VecDeque<Context>, base: u64, clock: &mut Clock, ordinal: u64) -> bool {
        if ordinal > base + contexts.len() as u64 {
            return false;
        }
        while clock.applied < ordinal {
            let context = &contexts[(clock.applied - base) as usize];
            for &(rank, value) in &context.entries {
                clock.vector[usize::from(rank)] = value;
            }
            clock.end = context.end;
            clock.applied += 1;
            clock.covered = false;
        }
        true
    }

    /// Whether the vector timestamp of the head message is known and covered by `counts` (its sender's own entry apart).
    /// FBCASTs have none.
    #[inline]
    pub fn head_covered(&mut self, sender: usize, counts: impl Fn(usize) -> u64) -> bool {
        let Some(head) = self.head() else { return false };
        if head.kind == Kind::Fifo {
            return true;
        }
        let base = self.clock.applied;
        if head.context > base {
            if !Inbox::advance(&self.contexts, base, &mut self.clock, head.context) {
                return false;
            }
            for mut context in self.contexts.drain(..(head.context - base) as usize) {
                if self.spare_entries.len() < SPARE_ENTRIES {
                    context.entries.clear();
                    self.spare_entries.push(context.entries);
                }
            }
        }
        if !self.clock.covered {
            self.clock.covered =
                self.clock.vector.iter().enumerate().all(|(rank, &value)| rank == sender || counts(rank) >= value);
        }
        self.clock.covered
    }

    /// Brings `clock` (the sequencer's, ahead of the head's) to the context of message `number`, which is queued.
    pub fn clock_of<'a>(&self, clock: &'a mut Clock, number: u64) -> Option<&'a mut Clock> {
        if clock.applied < self.clock.applied || clock.vector.is_empty() {
            clock.set(&self.clock);
        }
        let context = self.batch_of(number)?.traits.context;
        if Inbox::advance(&self.contexts, self.clock.applied, clock, context) { Some(clock) } else { None }
    }

    /// What the head message is.
    #[inline]
    pub fn head(&self) -> Option<Traits> {
        self.queue.front().map(|batch| batch.traits)
    }

    /// The batch of a message that is queued.
    pub fn batch_of(&self, number: u64) -> Option<&Batch> {
        // Most are asked for where they were added.
        let last = self.queue.back().filter(|batch| (batch.number..=batch.last()).contains(&number));
        last.or_else(|| self.queue.get(self.queue.partition_point(|batch| batch.last() < number)))
    }

    /// The number of the last of the next `count` ABCASTs that are queued; `None`: not so many are.
    pub fn number_of_total(&self, count: u64) -> Option<u64> {
        let mut left = count;
        if left == 0 {
            return Some(self.delivered);
        }
        for batch in self.queue.iter().filter(|batch| batch.traits.kind == Kind::Total) {
            if left <= u64::from(batch.count) {
                return Some(batch.number + left - 1);
            }
            left -= u64::from(batch.count);
        }
        None
    }

    /// Takes messages as delivered, from the head on and all of one batch: at most so many.
    pub fn pop(&mut self, region: &Region, most: u32) -> Option<Batch> {
        let head = self.queue.front_mut()?;
        let batch = if head.count > most { head.split(region, most) } else { self.queue.pop_front()? };
        self.delivered = batch.last();
        if self.queue.is_empty() {
            self.open = None;
        }
        Some(batch)
    }

    /// Drops the messages after this one.
    pub fn truncate(&mut self, number: u64) {
        self.open = None;
        while let Some(last) = self.queue.back_mut().filter(|last| last.last() > number) {
            if last.number > number {
                self.queue.pop_back();
            } else {
                last.count = (number + 1 - last.number) as u32;
            }
        }
    }

    /// How many of the contexts are here: messages that name a later one are not dated.
    pub fn contexts_here(&self) -> u64 {
        self.contexts_seen
    }

    /// The vectors of all queued batches (`None`: its record is not here), for the cut.
    pub fn vectors(&self) -> Vec<Option<Vec<u64>>> {
        let mut clock = self.clock.clone();
        self.queue
            .iter()
            .map(|it| {
                Inbox::advance(&self.contexts, self.clock.applied, &mut clock, it.traits.context)
                    .then(|| clock.vector.clone())
            })
            .collect()
    }

    /// A message has begun and not ended.
    pub fn is_unfinished(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Drops the unfinished message, if any (a view change's cut).
    pub fn drop_unfinished(&mut self) {
        self.unfinished = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Body;
    use crate::stream::Log;

    /// Appends frames of these entries and lengths, and parses up to `short` bytes before their end: the batches, as number and
    /// count.
    fn batches(frames: &[(u8, usize)], short: u64) -> (Inbox, Vec<(u64, u32)>) {
        let (mut region, mut log, mut inbox) = (Region::heap(8), Log::default(), Inbox::new(1));
        for &(entry, len) in frames {
            let flags = FLAG_BEGIN | FLAG_END;
            let frame = Frame { kind: FrameKind::Fifo, flags, entry, len: len as u32 };
            assert!(log.append(&mut region, frame, &vec![entry; len]).is_some(), "room");
        }
        let no_order: &mut OrderSink<'_> = &mut |_, _| panic!("no order was written");
        // In pieces, as datagrams come.
        for limit in (0..log.end - short).step_by(40).chain([log.end - short]) {
            inbox.parse(&region, &log.chunks, limit, 1 << 20, no_order);
        }
        assert!(!inbox.broken);
        let seen = inbox.queue.iter().map(|batch| (batch.number, batch.count)).collect();
        (inbox, seen)
    }

    #[test]
    fn what_is_alike_but_for_its_length_is_one_batch() {
        let (inbox, seen) = batches(&[(1, 5), (1, 0), (1, 70), (2, 5), (2, 5), (1, 5)], 0);
        assert_eq!((seen, inbox.whole), (vec![(1, 3), (4, 2), (6, 1)], 6));
        let of = |number| inbox.batch_of(number).map(|batch| batch.number);
        assert_eq!([of(1), of(3), of(4), of(6), of(7)], [Some(1), Some(1), Some(4), Some(6), None]);
    }

    #[test]
    fn a_frame_that_is_not_all_here_does_not_count_yet() {
        let (inbox, seen) = batches(&[(1, 5), (1, 5), (1, 70)], 8);
        assert_eq!((seen, inbox.whole), (vec![(1, 2)], 2));
    }

    #[test]
    fn a_batch_ends_with_its_chunk() {
        let (_, seen) = batches(&[(1, SHORT); 16], 0);
        assert_eq!(seen, [(1, 15), (16, 1)]);
        let (_, seen) = batches(&[(1, 30_000), (1, 30_000), (1, 30_000), (1, 30_000)], 0);
        assert_eq!(seen, [(1, 2), (3, 1), (4, 1)], "what crosses the border is alone");
    }

    /// Frames of any length up to two chunks, from every place in a chunk, in a region whose chunks lie behind each other by
    /// four: what is read is what was written, in place where it can be.
    #[test]
    fn what_crosses_borders_is_read_in_one_piece_or_put_together() {
        let lengths = [60_000, 5_464, 65_520, 70_000, 4_097, 131_072, 131_064, 8, 90_001, 65_536, 65_528, 200_000, 3];
        let (mut region, mut log, mut inbox) = (Region::heap(64), Log::default(), Inbox::new(1));
        let byte = |number: usize, at: usize| (number * 31 + at * 7 + at / 251) as u8;
        for (number, &len) in lengths.iter().enumerate() {
            let payload: Vec<u8> = (0..len).map(|at| byte(number, at)).collect();
            let frame = Frame { kind: FrameKind::Fifo, flags: FLAG_BEGIN | FLAG_END, entry: 0, len: len as u32 };
            assert!(log.append(&mut region, frame, &payload).is_some(), "room");
        }
        let no_order: &mut OrderSink<'_> = &mut |_, _| panic!("no order was written");
        for limit in (0..log.end).step_by(4_000).chain([log.end]) {
            inbox.parse(&region, &log.chunks, limit, 1 << 20, no_order);
        }
        assert!(!inbox.broken);
        assert_eq!((inbox.whole, inbox.parsed), (lengths.len() as u64, log.end));
        let (mut in_place, mut put_together, mut number) = (0, 0, 0);
        while let Some(mut batch) = inbox.pop(&region, 1) {
            let (is_piece, message) = (batch.is_piece(), batch.take(&region));
            let bytes = match &message.body {
                Body::Chunk { chunk, offset, len } => region.bytes(*chunk, *offset as usize..(*offset + *len) as usize),
                Body::Owned(bytes) => bytes,
            };
            in_place += usize::from(is_piece);
            put_together += usize::from(matches!(message.body, Body::Owned(_)));
            assert_eq!(bytes.len(), lengths[number]);
            assert!(bytes.iter().enumerate().all(|(at, &it)| it == byte(number, at)), "message {number}");
            number += 1;
        }
        assert!(in_place > 2 && put_together > 2, "{in_place} in place, {put_together} put together");
    }

    /// A record has to lie in one chunk, and a message has its limits, wherever it lies.
    #[test]
    fn what_may_not_cross_a_border_breaks_the_stream() {
        let message = FLAG_BEGIN | FLAG_END;
        for (kind, flags, len, max_message, broken) in [
            (FrameKind::Fifo, message, 70_000, 1 << 20, false),
            (FrameKind::Fifo, message, 70_000, 69_999, true),
            (FrameKind::Fifo, FLAG_BEGIN, 70_000, 69_999, true),
            (FrameKind::Order, 0, 70_000, 1 << 20, true),
            (FrameKind::Pad, 0, 70_000, 1 << 20, true),
        ] {
            let (mut region, mut log, mut inbox) = (Region::heap(4), Log::default(), Inbox::new(1));
            let honest = Frame { kind: FrameKind::Fifo, flags, entry: 0, len };
            log.append(&mut region, honest, &vec![0; len as usize]).expect("room");
            let (chunk, _) = log.chunks.locate(0).expect("the first one");
            region.range_mut(chunk, 4..5)[0] = kind as u8;
            inbox.parse(&region, &log.chunks, log.end, max_message, &mut |_, _| {});
            assert_eq!(inbox.broken, broken, "{kind:?} {max_message}");
        }
    }

    #[test]
    fn a_batch_is_cut_at_a_message() {
        let (mut inbox, _) = batches(&[(1, 5), (1, 5), (1, 5), (2, 5)], 0);
        inbox.truncate(2);
        assert_eq!(inbox.queue.iter().map(|batch| (batch.number, batch.count)).collect::<Vec<_>>(), [(1, 2)]);
    }
}
