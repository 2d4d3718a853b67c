//! The trace of a real process: a file with a line for each record, written at once, so that a killed process leaves all
//! that it did.
//!
//! A line is the time in nanoseconds, the event's name and its numbers in hexadecimal; the process is the file's. A line
//! `withdrawn` takes the one before it back.
//! Owner: the process that writes, then whoever merges. Invariants: the order of the lines is the order of the process; a
//! last line without its end was cut by the process's death, and does not count.

use crate::trace::{Channel, Delivered, Event, Key, Process, Record, ViewSeen};
use isis_protocol::event::{Kind, SlowReason};
use isis_protocol::id::{GroupId, ProcessId, SystemId};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// Writes the records of one process. A journal that cannot be written ends its process: the trace would lie.
#[derive(Debug)]
pub struct Journal {
    file: File,
    clock: fn() -> u64,
    line: String,
}

impl Journal {
    /// A new file. `clock`: nanoseconds, the same clock in all processes of the run.
    pub fn create(path: &Path, clock: fn() -> u64) -> io::Result<Journal> {
        Ok(Journal { file: File::create_new(path)?, clock, line: String::new() })
    }

    /// Writes one record.
    pub fn note(&mut self, event: &Event) {
        let time = (self.clock)();
        self.line.clear();
        encode(time, event, &mut self.line);
        self.flush();
    }

    /// Takes the last record back.
    pub fn withdraw(&mut self) {
        self.line.clear();
        let _ = writeln!(self.line, "{} withdrawn", (self.clock)());
        self.flush();
    }

    fn flush(&mut self) {
        self.file.write_all(self.line.as_bytes()).unwrap_or_else(|error| panic!("the journal: {error}"));
    }
}

/// The records in the text of a journal.
pub fn read(process: Process, text: &str) -> Result<Vec<Record>, String> {
    let mut records: Vec<Record> = Vec::new();
    for line in text.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else { break };
        if line.ends_with(" withdrawn") {
            records.pop().ok_or("nothing to withdraw")?;
            continue;
        }
        let (time, event) = decode(line).ok_or_else(|| format!("{process:?}: no record: {line}"))?;
        records.push(Record { time, process, event });
    }
    Ok(records)
}

struct Numbers<'a>(&'a mut String);

impl Numbers<'_> {
    fn put(&mut self, number: impl Into<u128>) {
        let _ = write!(self.0, " {:x}", number.into());
    }
    fn key(&mut self, key: Key) {
        self.put(key.sender.0);
        self.put(key.join);
        self.put(key.channel == Channel::PointToPoint);
        self.put(key.number);
    }
    fn view(&mut self, view: &ViewSeen) {
        self.put(view.group.0);
        self.put(view.number);
        self.put(view.rank);
        self.put(view.members.len() as u64);
        for ((process, state), site) in view.members.iter().zip(&view.sites) {
            self.put(process.0);
            self.put(*state);
            self.put(*site);
        }
        self.put(view.joined.len() as u64);
        view.joined.iter().for_each(|process| self.put(process.0));
        self.put(view.departed.len() as u64);
        for (process, left) in &view.departed {
            self.put(process.0);
            self.put(*left);
        }
        self.put(view.clients.len() as u64);
        view.clients.iter().for_each(|process| self.put(process.0));
    }
}

/// One line.
fn encode(time: u64, event: &Event, line: &mut String) {
    let name = match event {
        Event::Start { .. } => "start",
        Event::Founding { .. } => "founding",
        Event::Admitted { .. } => "admitted",
        Event::SystemView(_) => "system-view",
        Event::JoinCall { .. } => "join",
        Event::Registered { .. } => "registered",
        Event::Completed { .. } => "completed",
        Event::GroupEnded { .. } => "group-ended",
        Event::View { .. } => "view",
        Event::Send { .. } => "send",
        Event::SendMany { .. } => "send-many",
        Event::SendTo { .. } => "send-to",
        Event::Deliver(_) => "deliver",
        Event::StateCaptured { .. } => "captured",
        Event::StateAborted { .. } => "aborted",
        Event::StateHandedOver { .. } => "handed-over",
        Event::StateInstalled { .. } => "installed",
        Event::FlushCall { .. } => "flush",
        Event::ViewEnds { .. } => "view-ends",
        Event::Flushed { .. } => "flushed",
        Event::LeaveCall { .. } => "leave",
        Event::Left { .. } => "left",
        Event::CloseCall => "close",
        Event::Closed => "closed",
        Event::Stalled => "stalled",
        Event::Resumed => "resumed",
        Event::Evicted => "evicted",
        Event::Slow { .. } => "slow",
        Event::Crash => "crash",
        Event::Hang => "hang",
        Event::Wake => "wake",
        Event::Lag { .. } => "lag",
        Event::World(text) => {
            let _ = writeln!(line, "{time} world {}", text.replace('\n', " "));
            return;
        }
        Event::Healed => "healed",
        Event::End => "end",
    };
    let _ = write!(line, "{time} {name}");
    let mut out = Numbers(line);
    match event {
        Event::Start { site, slot } => {
            out.put(*site);
            out.put(*slot);
        }
        Event::Founding { number, system } => {
            out.put(*number);
            out.put(system.0);
        }
        Event::Admitted { system, process } => {
            out.put(system.0);
            out.put(process.0);
        }
        Event::SystemView(view) => out.view(view),
        Event::JoinCall { join, name, wants_state, sending_view, client } => {
            out.put(*join);
            out.put(*name);
            out.put(*wants_state);
            out.put(*sending_view);
            out.put(*client);
        }
        Event::View { join, view, digest } => {
            out.put(*join);
            out.put(digest.is_some());
            out.put(digest.unwrap_or(0));
            out.view(view);
        }
        Event::Send { key, kind, safe, len, group, view } => {
            out.key(*key);
            out.put(*kind as u8);
            out.put(*safe);
            out.put(*len);
            out.put(group.0);
            out.put(*view);
        }
        Event::SendMany { copies, safe, len } => {
            out.put(*safe);
            out.put(*len);
            out.put(copies.len() as u64);
            for (key, group, view) in copies {
                out.key(*key);
                out.put(group.0);
                out.put(*view);
            }
        }
        Event::SendTo { key, kind, to, len, group, view } => {
            out.key(*key);
            out.put(*kind as u8);
            out.put(to.0);
            out.put(*len);
            out.put(group.0);
            out.put(*view);
        }
        Event::Deliver(it) => {
            out.put(it.join);
            out.put(it.group.0);
            out.put(it.key.is_some());
            out.key(it.key.unwrap_or(Key { sender: Process(0), join: 0, channel: Channel::Multicast, number: 0 }));
            out.put(it.kind as u8);
            out.put(it.safe);
            out.put(it.view);
            out.put(it.number);
            out.put(it.order);
            out.put(it.rank);
            out.put(it.intact);
        }
        Event::StateCaptured { join, transfer, digest, len } => {
            out.put(*join);
            out.put(*transfer);
            out.put(*digest);
            out.put(*len);
        }
        Event::StateAborted { join, transfer } | Event::StateHandedOver { join, transfer } => {
            out.put(*join);
            out.put(*transfer);
        }
        Event::StateInstalled { join, digest, intact } => {
            out.put(*join);
            out.put(*digest);
            out.put(*intact);
        }
        Event::ViewEnds { join, view, order, state } => {
            out.put(*join);
            out.put(*view);
            out.put(*order);
            out.put(state.is_some());
            out.put(state.unwrap_or(0));
        }
        Event::FlushCall { join, flush } | Event::Flushed { join, flush } => {
            out.put(*join);
            out.put(*flush);
        }
        Event::LeaveCall { join } | Event::Left { join } | Event::GroupEnded { join } => out.put(*join),
        Event::Registered { join, group } => {
            out.put(*join);
            out.put(group.0);
        }
        Event::Completed { key } => out.key(*key),
        Event::Slow { process, reason, system } => {
            out.put(process.0);
            out.put(*reason as u32);
            out.put(*system);
        }
        Event::Lag { on } => out.put(*on),
        Event::CloseCall
        | Event::Closed
        | Event::Stalled
        | Event::Resumed
        | Event::Evicted
        | Event::Crash
        | Event::Hang
        | Event::Wake
        | Event::World(_)
        | Event::Healed
        | Event::End => {}
    }
    line.push('\n');
}

struct Words<'a>(std::str::SplitWhitespace<'a>);

impl Words<'_> {
    fn word(&mut self) -> Option<u128> {
        u128::from_str_radix(self.0.next()?, 16).ok()
    }
    fn take<T: TryFrom<u128>>(&mut self) -> Option<T> {
        T::try_from(self.word()?).ok()
    }
    fn flag(&mut self) -> Option<bool> {
        Some(self.word()? == 1)
    }
    fn process(&mut self) -> Option<Process> {
        self.take().map(Process)
    }
    fn key(&mut self) -> Option<Key> {
        let (sender, join) = (self.process()?, self.take()?);
        let channel = if self.flag()? { Channel::PointToPoint } else { Channel::Multicast };
        Some(Key { sender, join, channel, number: self.take()? })
    }
    fn kind(&mut self) -> Option<Kind> {
        let kinds = [Kind::Fifo, Kind::Causal, Kind::Total, Kind::Global, Kind::Unicast, Kind::Reply];
        let number = self.word()?;
        kinds.into_iter().find(|kind| *kind as u128 == number)
    }
    fn view(&mut self) -> Option<Arc<ViewSeen>> {
        let (group, number, rank) = (GroupId(self.take()?), self.take()?, self.take()?);
        let (mut members, mut sites, mut joined, mut departed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.word()? {
            members.push((self.process()?, self.flag()?));
            sites.push(self.take()?);
        }
        for _ in 0..self.word()? {
            joined.push(self.process()?);
        }
        for _ in 0..self.word()? {
            departed.push((ProcessId(self.take()?), self.flag()?));
        }
        let mut clients = Vec::new();
        for _ in 0..self.word()? {
            clients.push(ProcessId(self.take()?));
        }
        Some(Arc::new(ViewSeen { group, number, members, sites, joined, departed, clients, rank }))
    }
}

/// Time and event of one line.
fn decode(line: &str) -> Option<(u64, Event)> {
    let mut words = line.split_whitespace();
    let (time, name) = (words.next()?.parse().ok()?, words.next()?);
    let mut words = Words(words);
    let event = match name {
        "start" => Event::Start { site: words.take()?, slot: words.take()? },
        "founding" => Event::Founding { number: words.take()?, system: SystemId(words.word()?) },
        "admitted" => Event::Admitted { system: SystemId(words.word()?), process: ProcessId(words.take()?) },
        "system-view" => Event::SystemView(words.view()?),
        "join" => Event::JoinCall {
            join: words.take()?,
            name: words.take()?,
            wants_state: words.flag()?,
            sending_view: words.flag()?,
            client: words.flag()?,
        },
        "registered" => Event::Registered { join: words.take()?, group: GroupId(words.take()?) },
        "completed" => Event::Completed { key: words.key()? },
        "group-ended" => Event::GroupEnded { join: words.take()? },
        "view" => {
            let (join, told, digest) = (words.take()?, words.flag()?, words.take()?);
            Event::View { join, view: words.view()?, digest: told.then_some(digest) }
        }
        "send" => Event::Send {
            key: words.key()?,
            kind: words.kind()?,
            safe: words.flag()?,
            len: words.take()?,
            group: GroupId(words.take()?),
            view: words.take()?,
        },
        "send-many" => {
            let (safe, len, count) = (words.flag()?, words.take()?, words.take::<usize>()?);
            let copy = |_| Some((words.key()?, GroupId(words.take()?), words.take()?));
            Event::SendMany { copies: (0..count).map(copy).collect::<Option<_>>()?, safe, len }
        }
        "send-to" => Event::SendTo {
            key: words.key()?,
            kind: words.kind()?,
            to: words.process()?,
            len: words.take()?,
            group: GroupId(words.take()?),
            view: words.take()?,
        },
        "deliver" => {
            let (join, group, known, key) = (words.take()?, GroupId(words.take()?), words.flag()?, words.key()?);
            Event::Deliver(Delivered {
                join,
                group,
                key: known.then_some(key),
                kind: words.kind()?,
                safe: words.flag()?,
                view: words.take()?,
                number: words.take()?,
                order: words.take()?,
                rank: words.take()?,
                intact: words.flag()?,
            })
        }
        "captured" => Event::StateCaptured {
            join: words.take()?,
            transfer: words.take()?,
            digest: words.take()?,
            len: words.take()?,
        },
        "aborted" => Event::StateAborted { join: words.take()?, transfer: words.take()? },
        "handed-over" => Event::StateHandedOver { join: words.take()?, transfer: words.take()? },
        "installed" => Event::StateInstalled { join: words.take()?, digest: words.take()?, intact: words.flag()? },
        "flush" => Event::FlushCall { join: words.take()?, flush: words.take()? },
        "view-ends" => {
            let (join, view, order) = (words.take()?, words.take()?, words.take()?);
            let (told, state) = (words.flag()?, words.take()?);
            Event::ViewEnds { join, view, order, state: told.then_some(state) }
        }
        "flushed" => Event::Flushed { join: words.take()?, flush: words.take()? },
        "leave" => Event::LeaveCall { join: words.take()? },
        "left" => Event::Left { join: words.take()? },
        "close" => Event::CloseCall,
        "closed" => Event::Closed,
        "stalled" => Event::Stalled,
        "resumed" => Event::Resumed,
        "evicted" => Event::Evicted,
        "slow" => {
            let process = ProcessId(words.take()?);
            let reasons = [SlowReason::Window, SlowReason::ViewChange];
            let number = words.word()?;
            let reason = reasons.into_iter().find(|reason| *reason as u128 == number)?;
            Event::Slow { process, reason, system: words.flag()? }
        }
        "crash" => Event::Crash,
        "hang" => Event::Hang,
        "wake" => Event::Wake,
        "lag" => Event::Lag { on: words.flag()? },
        "world" => return Some((time, Event::World(line.splitn(3, ' ').nth(2)?.to_owned()))),
        "healed" => Event::Healed,
        "end" => Event::End,
        _ => return None,
    };
    words.0.next().is_none().then_some((time, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_of_each() -> Vec<Event> {
        let key = Key { sender: Process(70_000), join: 3, channel: Channel::PointToPoint, number: 9 };
        let (group, system, process) = (GroupId(u64::MAX), SystemId(u128::MAX), ProcessId::new(7, 1, 12));
        let view = Arc::new(ViewSeen {
            group,
            number: 17,
            members: vec![(Process(1), true), (Process(2), false)],
            sites: vec![4, 5],
            joined: vec![Process(2)],
            departed: vec![(process, true), (process, false)],
            clients: vec![process],
            rank: u16::MAX,
        });
        let delivered = |key| Delivered {
            join: 2,
            group,
            key,
            kind: Kind::Reply,
            safe: true,
            view: 5,
            number: 6,
            order: 7,
            rank: 8,
            intact: false,
        };
        vec![
            Event::Start { site: 1, slot: 2 },
            Event::Founding { number: 1, system },
            Event::Admitted { system, process },
            Event::SystemView(Arc::clone(&view)),
            Event::JoinCall { join: 1, name: 1, wants_state: true, sending_view: false, client: true },
            Event::Registered { join: 1, group },
            Event::Completed { key },
            Event::GroupEnded { join: 1 },
            Event::View { join: 1, view: Arc::clone(&view), digest: Some(0) },
            Event::View { join: 1, view, digest: None },
            Event::ViewEnds { join: 1, view: 2, order: 3, state: Some(4) },
            Event::ViewEnds { join: 1, view: 2, order: 3, state: None },
            Event::Send { key, kind: Kind::Total, safe: true, len: 4, group, view: 3 },
            Event::SendMany { copies: vec![(key, group, 3), (key, GroupId(8), 1)], safe: false, len: 40 },
            Event::SendTo { key, kind: Kind::Unicast, to: Process(8), len: 4, group, view: 3 },
            Event::Deliver(delivered(Some(key))),
            Event::Deliver(delivered(None)),
            Event::StateCaptured { join: 1, transfer: 2, digest: 3, len: 4 },
            Event::StateAborted { join: 1, transfer: 2 },
            Event::StateHandedOver { join: 1, transfer: 2 },
            Event::StateInstalled { join: 1, digest: 2, intact: true },
            Event::FlushCall { join: 1, flush: 2 },
            Event::Flushed { join: 1, flush: 2 },
            Event::LeaveCall { join: 1 },
            Event::Left { join: 1 },
            Event::CloseCall,
            Event::Closed,
            Event::Stalled,
            Event::Resumed,
            Event::Evicted,
            Event::Slow { process, reason: SlowReason::ViewChange, system: true },
            Event::Crash,
            Event::Hang,
            Event::Wake,
            Event::Lag { on: true },
            Event::World("host 1 is cut off".to_owned()),
            Event::Healed,
            Event::End,
        ]
    }

    #[test]
    fn every_event_is_read_as_it_was_written() {
        let mut text = String::new();
        for (time, event) in some_of_each().iter().enumerate() {
            encode(time as u64, event, &mut text);
        }
        let records = read(Process(5), &text).expect("records");
        let events: Vec<Event> = records.iter().map(|record| record.event.clone()).collect();
        assert_eq!(events, some_of_each());
        assert!(records.iter().enumerate().all(|(time, r)| r.time == time as u64 && r.process == Process(5)));
    }

    #[test]
    fn what_was_withdrawn_or_cut_does_not_count_and_strangers_are_errors() {
        let text = "1 crash\n2 hang\n3 withdrawn\n4 wake\n5 sta";
        let times: Vec<u64> = read(Process(0), text).expect("records").iter().map(|r| r.time).collect();
        assert_eq!(times, [1, 4]);
        for wrong in ["1 withdrawn\n", "1 start 1\n", "1 crash 7\n", "x crash\n", "1 dance\n"] {
            assert!(read(Process(0), wrong).is_err(), "{wrong}");
        }
    }
}
