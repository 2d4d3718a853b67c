//! Packets of a group: stream bytes, rows, and messages about view changes.

use super::{Candidate, Fate, Group};
use crate::counters::Counter;
use crate::id::ProcessId;
use crate::shared::Shared;
use crate::stream::image::{Inserted, Source};
use isis_memory::{CHUNK_SIZE, Place};
use isis_wire::Address;
use isis_wire::codec::{DecodeError, Reader};
use isis_wire::digest::read_sign;
use isis_wire::message::Message;
use isis_wire::packet::{DataHeader, PlaceRecord};

impl Group {
    /// Stream bytes of `view` came from `process`. Bytes of another's stream than the sender's are a repair.
    pub fn on_data(&mut self, shared: &mut Shared, process: ProcessId, body: &[u8]) -> Result<(), DecodeError> {
        let (header, row, data) = DataHeader::parse(body)?;
        self.take_data(shared, process, header, row, Source::Bytes(data))
    }

    /// As `on_data`, but the bytes are where their sender says.
    pub fn on_placed(&mut self, shared: &mut Shared, process: ProcessId, body: &[u8]) -> Result<(), DecodeError> {
        let (header, row, record) = DataHeader::parse(body)?;
        let PlaceRecord { chunk, offset, len, generation } = PlaceRecord::parse(record)?;
        let place = Place { chunk, offset, len, generation };
        let rank = usize::from(header.rank);
        // Nobody names places in the arena of another, and a chunk is laid out as the stream is.
        let in_chunk = header.position % CHUNK_SIZE as u64;
        let fits = in_chunk == u64::from(offset) && in_chunk + u64::from(len) <= CHUNK_SIZE as u64;
        if self.rank_of(process) != Some(rank) || !fits {
            return Err(DecodeError::BadValue);
        }
        let nonce = self.view.members[rank].nonce;
        self.take_data(shared, process, header, row, Source::Placed(nonce.0, place))
    }

    fn take_data(
        &mut self,
        shared: &mut Shared,
        process: ProcessId,
        header: DataHeader,
        row: &[u8],
        data: Source<'_>,
    ) -> Result<(), DecodeError> {
        let rank = usize::from(header.rank);
        if rank >= self.plane.members {
            return Err(DecodeError::BadValue);
        }
        if let Some(sender) = self.rank_of(process) {
            self.plane.shown[sender] = true;
            if !row.is_empty() {
                self.plane.receive_row(sender, row)?;
            }
            if header.asks {
                let large = self.plane.gossip.is_some();
                let delay = self.row_delay_ns(shared);
                self.want_row(if large { shared.now + delay } else { self.row_pause_over(shared).max(shared.now) });
            }
        }
        let reach = 8 * shared.config.window + (16 << 20);
        match self.plane.receive(&mut shared.region, rank, header.position, data, reach) {
            Inserted::New => {
                self.want_row(shared.now + self.row_delay_ns(shared));
            }
            Inserted::Duplicate => shared.count(Counter::IgnoreDuplicateData),
            Inserted::NoRoom => shared.count(Counter::IgnoreNoRoom),
            Inserted::Gone => shared.count(Counter::IgnoreOldPlace),
        }
        Ok(())
    }

    /// The own row shall go out by `at`.
    pub(crate) fn want_row(&mut self, at: crate::time::Instant) {
        let due = self.plane.row_due.get_or_insert(at);
        *due = (*due).min(at);
    }

    /// A row alone came: its first byte tells whether the sender waits for ours.
    pub fn on_row(&mut self, shared: &mut Shared, process: ProcessId, body: &[u8]) -> Result<(), DecodeError> {
        let Some(sender) = self.rank_of(process) else { return Ok(()) };
        let (&wants, row) = body.split_first().ok_or(DecodeError::Truncated)?;
        let mut reader = Reader::new(row);
        let signs = if self.is_system() { self.plane.members } else { 0 };
        let mut told = reader.clone();
        for _ in 0..signs {
            read_sign(&mut reader)?;
        }
        let row = reader.take(reader.remaining())?;
        self.plane.receive_row(sender, row)?;
        for rank in 0..signs {
            let sign = read_sign(&mut told)?;
            self.note_sign(shared, rank, sign);
        }
        self.learn_ends(shared, sender);
        if wants != 0 {
            let at = (self.row_sent_at + shared.config.heartbeat_ns / 4).max(shared.now);
            self.want_row(at);
            self.acknowledge_again(shared, process);
        }
        Ok(())
    }

    /// The acknowledgement that a process waits for may have been lost.
    pub(super) fn acknowledge_again(&self, shared: &mut Shared, process: ProcessId) {
        if let Some(peer) = shared.peers.get_mut(&process)
            && peer.received.any()
            && let Some(lane) = &mut peer.lanes[0]
        {
            lane.receiver.acknowledge_now(shared.now);
            (shared.lanes_at_rest, shared.beyond) = (false, true);
        }
    }

    /// A message about the change of the present view. `process`: its sender, if the system view has it.
    pub fn on_message(&mut self, shared: &mut Shared, from: Address, process: ProcessId, message: Message) -> Fate {
        let is_member = self.rank_of(process).is_some();
        match message {
            Message::Prepare { attempt, .. } if is_member && attempt.proposer == process => {
                self.on_prepare(shared, from, attempt);
            }
            Message::Promised { promise } if is_member => self.take_promise(process, promise),
            Message::JoinerReady { attempt, nonce, request } => self.on_joiner_ready(attempt, nonce, request),
            Message::Refuse { promised } if is_member => self.on_refuse(shared, promised),
            Message::Accept { accept } if is_member && accept.attempt.proposer == process => {
                self.on_accept(shared, from, accept);
            }
            Message::Accepted { attempt, dead } if is_member => self.on_accepted(process, attempt, dead),
            Message::CannotFetch { attempt } if is_member => self.on_cannot_fetch(shared, attempt),
            Message::Decide { value, .. } => return self.decide(shared, value),
            Message::Settled { attempt, finals } => self.on_settled(shared, process, attempt, finals),
            Message::Leave { request } if is_member && request > self.executed(process) => {
                self.leavers.insert(process, request);
            }
            _ => {
                shared.count(Counter::IgnoreStaleAttempt);
                return Fate::Lives;
            }
        }
        self.drive_change(shared)
    }

    /// A JOIN came: whoever is in already is told so; a new candidate is kept, and passed on to the proposer if that is
    /// another process.
    pub fn on_join(&mut self, shared: &mut Shared, from: Address, message: &Message) {
        let Message::Join { joiner, system_view, heard } = message else { return };
        let member = self.view.members.iter().find(|m| m.nonce == joiner.nonce);
        if let Some(member) = member {
            // Admitted, and has not heard of it.
            let process = member.process;
            self.tell_admission(shared, joiner.address, process);
            return;
        }
        if !self.is_system()
            && (*system_view != shared.system_view.number
                || joiner.request <= self.executed(joiner.process)
                || !shared.directory.is_entered(self.id, joiner.process))
        {
            return;
        }
        self.candidates.insert(joiner.nonce, Candidate { joiner: joiner.clone(), heard: heard.clone(), fresh: true });
        if from == joiner.address {
            let proposer =
                self.view.members.iter().find(|m| {
                    if self.is_system() { !shared.suspected(m.process) } else { shared.in_system(m.process) }
                });
            if let Some(proposer) = proposer
                && proposer.process != shared.me
            {
                let to = proposer.address;
                shared.send(to, self.id, self.view.number, message);
            }
        }
    }
}
