//! NORM (NACK-Oriented Reliable Multicast, RFC 5740), FIFO per sender. Transports: `udp-60k` and `udp-1400`, datagrams of at
//! most 60,000 and 1,400 bytes, by multicast on the loopback interface. Each member sends one stream, and receives those of
//! all, its own among them (`NormSetLoopback`). The library works on a thread of its own, which `cpu_ns` counts.
//!
//! A stream has no messages, so each has its length before it; what one turn of the loop sends is written by one call, and
//! while events, streams and marks are looked after the library's thread stands still (`NormSuspendInstance`): each call
//! would stop it for itself.
//!
//! # Settings
//!
//! What was tried, with three members all sending on two processors:
//!
//! - Flow control by positive acknowledgement (`NormSetWatermark`, all members are acking nodes). A receiver acknowledges
//!   when its program has read up to the mark, so nothing is overwritten that somebody has not read. The windows of all
//!   senders together fit one socket buffer: with larger ones the kernel drops, and NORM repairs, which is slower. NACKs
//!   alone, with the flow control by time that is NORM's default, were no faster at a rate that the machine takes, with
//!   longer delays; at a rate far above it all stood still.
//! - No congestion control: it takes the delays of the scheduler for those of a network, and is far slower. The rate is
//!   higher than any that the host does; more of it makes no difference.
//! - A round trip is taken for 0.1 ms (`NormSetGrttEstimate`, no probing): twice that is how often a mark is sent again, and
//!   looked for answers. Longer times were slower, with large datagrams most. No backoff before a NACK.
//! - No parity, as there is nothing to repair. The length of a block makes no difference, nor do larger datagrams, longer
//!   batches, or to yield the processor instead of waiting for the library's descriptor, but for the processor time.

use isis_rivals::talk::Start;
use isis_rivals::{System, run, socket_buffer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::process::ExitCode;

/// The names of the C API: `normApi.h`.
mod norm {
    use super::{c_char, c_int, c_uint, c_void};

    /// `NormInstanceHandle`, `NormSessionHandle`, `NormNodeHandle`, `NormObjectHandle`; null is the invalid one.
    pub type Handle = *const c_void;

    /// `NORM_NODE_ANY`.
    pub const NODE_ANY: u32 = u32::MAX;
    /// `NORM_FLUSH_PASSIVE`: what is there is sent, though it does not fill a segment.
    pub const FLUSH_PASSIVE: c_int = 1;
    /// `NORM_ACK_SUCCESS`.
    pub const ACK_SUCCESS: c_int = 3;
    /// `NORM_PROBE_NONE`.
    pub const PROBE_NONE: c_int = 0;
    /// `NORM_SYNC_STREAM`: whoever hears a stream wants all of it.
    pub const SYNC_STREAM: c_int = 1;
    /// `NORM_TX_WATERMARK_COMPLETED`.
    pub const WATERMARK_COMPLETED: c_int = 4;
    /// `NORM_RX_OBJECT_NEW`.
    pub const OBJECT_NEW: c_int = 17;
    /// `NORM_RX_OBJECT_UPDATED`.
    pub const OBJECT_UPDATED: c_int = 19;
    /// `NORM_RX_OBJECT_ABORTED`.
    pub const OBJECT_ABORTED: c_int = 21;

    /// `NormEvent`.
    #[repr(C)]
    pub struct Event {
        pub kind: c_int,
        pub session: Handle,
        pub sender: Handle,
        pub object: Handle,
    }

    #[link(name = "norm")]
    unsafe extern "C" {
        pub fn NormCreateInstance(priority_boost: bool) -> Handle;
        pub fn NormDestroyInstance(instance: Handle);
        pub fn NormSuspendInstance(instance: Handle) -> bool;
        pub fn NormResumeInstance(instance: Handle);
        pub fn NormGetDescriptor(instance: Handle) -> c_int;
        pub fn NormGetNextEvent(instance: Handle, event: *mut Event, wait: bool) -> bool;
        pub fn NormCreateSession(instance: Handle, address: *const c_char, port: u16, node: u32) -> Handle;
        pub fn NormDestroySession(session: Handle);
        pub fn NormSetRxPortReuse(
            session: Handle,
            enable: bool,
            bind: *const c_char,
            sender_address: *const c_char,
            sender_port: u16,
        );
        pub fn NormSetMulticastInterface(session: Handle, name: *const c_char) -> bool;
        pub fn NormSetTTL(session: Handle, ttl: u8) -> bool;
        pub fn NormSetLoopback(session: Handle, enable: bool) -> bool;
        pub fn NormSetMulticastLoopback(session: Handle, enable: bool) -> bool;
        pub fn NormSetTxSocketBuffer(session: Handle, size: c_uint) -> bool;
        pub fn NormSetRxSocketBuffer(session: Handle, size: c_uint) -> bool;
        pub fn NormSetTxRate(session: Handle, bits_per_second: f64);
        pub fn NormSetCongestionControl(session: Handle, enable: bool, adjust_rate: bool);
        pub fn NormSetFlowControl(session: Handle, factor: f64);
        pub fn NormSetGrttEstimate(session: Handle, seconds: f64);
        pub fn NormSetGrttProbingMode(session: Handle, mode: c_int);
        pub fn NormSetBackoffFactor(session: Handle, factor: f64);
        pub fn NormSetDefaultSyncPolicy(session: Handle, policy: c_int);
        pub fn NormStartReceiver(session: Handle, buffer: u32) -> bool;
        pub fn NormStartSender(
            session: Handle,
            id: u16,
            buffer: u32,
            segment: u16,
            block: u16,
            parity: u16,
            fec: u8,
        ) -> bool;
        pub fn NormStreamOpen(session: Handle, buffer: u32, info: *const c_char, info_length: c_uint) -> Handle;
        pub fn NormStreamWrite(stream: Handle, bytes: *const c_char, length: c_uint) -> c_uint;
        pub fn NormStreamFlush(stream: Handle, end_of_message: bool, mode: c_int);
        pub fn NormStreamRead(stream: Handle, bytes: *mut c_char, length: *mut c_uint) -> bool;
        pub fn NormAddAckingNode(session: Handle, node: u32) -> bool;
        pub fn NormSetWatermark(session: Handle, stream: Handle, override_flush: bool) -> bool;
        pub fn NormResetWatermark(session: Handle) -> bool;
        pub fn NormGetAckingStatus(session: Handle, node: u32) -> c_int;
        pub fn NormNodeGetId(node: Handle) -> u32;
        pub fn NormObjectRetain(object: Handle);
        pub fn NormObjectRelease(object: Handle);
    }
}

/// The group, with the port of the run.
const GROUP: &CStr = c"224.20.30.40";
const INTERFACE: &CStr = c"lo";
/// What NORM puts before the bytes of a segment in a datagram.
const HEADER: u16 = 40;
/// Bits a second, for each sender.
const RATE: f64 = 10e9;
/// Seconds that a round trip is taken for.
const ROUND_TRIP: f64 = 0.0001;
/// Bytes of messages that wait to be written, and of a stream that are read at once, at least.
const BATCH: usize = 64 * 1024;
/// The length before each message.
const LENGTH: usize = 4;
/// How long an idle member sleeps at most.
const SLEEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// What was heard of a member.
struct Source {
    /// Its stream, once it was heard of; retained.
    stream: norm::Handle,
    /// There may be something to read.
    ready: bool,
    /// The stream has begun.
    heard: bool,
    /// The first `filled` bytes were read from the stream, and not yet delivered.
    bytes: Vec<u8>,
    filled: usize,
}

struct Member {
    instance: norm::Handle,
    session: norm::Handle,
    stream: norm::Handle,
    descriptor: c_int,
    sources: Vec<Source>,
    /// Messages that wait to be written, each after its length.
    waiting: Vec<u8>,
    most_waiting: usize,
    segment: u64,
    /// The stream is written up to `written`, the mark stands at `mark`, all members have read up to `acknowledged`.
    written: u64,
    mark: u64,
    acknowledged: u64,
    /// What may be written and not acknowledged.
    window: u64,
    /// The mark is not yet acknowledged.
    marked: bool,
    /// The last segment has begun, and is not sent before it is full.
    begun: bool,
    /// All members have acknowledged something: they hear this one.
    known: bool,
}

fn open(start: &Start) -> Result<Member, String> {
    let (datagram, block) = match start.transport.as_str() {
        "udp-60k" => (60_000, 4),
        "udp-1400" => (1_400, 64),
        other => return Err(format!("there is no transport {other}")),
    };
    let segment = datagram - HEADER;
    let socket = socket_buffer()?;
    let window = (socket / usize::from(start.members.max(1))).max(2 * usize::from(segment));
    // NORM doubles what it is given, and counts in whole blocks.
    let buffer = u32::try_from(2 * window).map_err(|error| error.to_string())?;
    let socket = c_uint::try_from(socket).map_err(|error| error.to_string())?;
    let most_waiting = BATCH.max(2 * (LENGTH + start.size));
    let source =
        |_| Source { stream: std::ptr::null(), ready: false, heard: false, bytes: vec![0; most_waiting], filled: 0 };
    // SAFETY: takes no pointer.
    let instance = unsafe { norm::NormCreateInstance(false) };
    given(!instance.is_null(), "NormCreateInstance")?;
    let mut member = Member {
        instance,
        session: std::ptr::null(),
        stream: std::ptr::null(),
        // SAFETY: the instance is open.
        descriptor: unsafe { norm::NormGetDescriptor(instance) },
        sources: (0..start.members).map(source).collect(),
        // An empty message tells the others of this member.
        waiting: vec![0; LENGTH],
        most_waiting,
        segment: u64::from(segment),
        written: 0,
        mark: 0,
        acknowledged: 0,
        window: window as u64,
        marked: false,
        begun: false,
        known: false,
    };
    let number = start.index + 1;
    // SAFETY: the instance is open; the address is a string that lives during the call.
    let session = unsafe { norm::NormCreateSession(instance, GROUP.as_ptr(), start.port, u32::from(number)) };
    given(!session.is_null(), "NormCreateSession")?;
    member.session = session;
    // SAFETY: the session is open; the strings live during the calls, which copy them; null means: no sender is chosen.
    unsafe {
        norm::NormSetRxPortReuse(session, true, GROUP.as_ptr(), std::ptr::null(), 0);
        given(norm::NormSetMulticastInterface(session, INTERFACE.as_ptr()), "NormSetMulticastInterface")?;
        // Nothing leaves this host.
        given(norm::NormSetTTL(session, 0), "NormSetTTL")?;
        given(norm::NormSetMulticastLoopback(session, true), "NormSetMulticastLoopback")?;
        given(norm::NormSetLoopback(session, true), "NormSetLoopback")?;
        norm::NormSetDefaultSyncPolicy(session, norm::SYNC_STREAM);
        norm::NormSetTxRate(session, RATE);
        norm::NormSetCongestionControl(session, false, false);
        norm::NormSetFlowControl(session, 0.0);
        norm::NormSetGrttEstimate(session, ROUND_TRIP);
        norm::NormSetGrttProbingMode(session, norm::PROBE_NONE);
        norm::NormSetBackoffFactor(session, 0.0);
        given(norm::NormStartReceiver(session, buffer), "NormStartReceiver")?;
        given(norm::NormSetRxSocketBuffer(session, socket), "NormSetRxSocketBuffer")?;
        given(norm::NormStartSender(session, number, buffer, segment, block, 0, 0), "NormStartSender")?;
        given(norm::NormSetTxSocketBuffer(session, socket), "NormSetTxSocketBuffer")?;
        for node in 1..=u32::from(start.members) {
            given(norm::NormAddAckingNode(session, node), "NormAddAckingNode")?;
        }
        member.stream = norm::NormStreamOpen(session, buffer, std::ptr::null(), 0);
    }
    given(!member.stream.is_null(), "NormStreamOpen")?;
    Ok(member)
}

/// An error that names the function, if it gave none.
fn given(good: bool, function: &str) -> Result<(), String> {
    if good { Ok(()) } else { Err(format!("{function} failed")) }
}

impl Member {
    /// Waits until the library has an event, for so long.
    fn wait(&self, time: &Timespec) -> bool {
        // SAFETY: the descriptor is the library's, which is open as long as the instance.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.descriptor) };
        matches!(poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(time)), Ok(1..))
    }

    /// Takes the events that are there.
    fn take_events(&mut self) -> Result<(), String> {
        if !self.wait(&Timespec { tv_sec: 0, tv_nsec: 0 }) {
            return Ok(());
        }
        let none = std::ptr::null();
        let mut event = norm::Event { kind: 0, session: none, sender: none, object: none };
        // SAFETY: the instance is open; the event is written during the call.
        while unsafe { norm::NormGetNextEvent(self.instance, &raw mut event, false) } {
            match event.kind {
                norm::WATERMARK_COMPLETED => self.acknowledge(),
                norm::OBJECT_NEW | norm::OBJECT_UPDATED | norm::OBJECT_ABORTED => {
                    // SAFETY: the node is that of the event, which lives until the next event is taken.
                    let number = unsafe { norm::NormNodeGetId(event.sender) };
                    let source = (number as usize).checked_sub(1).and_then(|index| self.sources.get_mut(index));
                    let Some(source) = source else { return Err(format!("a stream of node {number}")) };
                    if event.kind == norm::OBJECT_ABORTED {
                        return Err(format!("the stream of node {number} broke off"));
                    }
                    if source.stream.is_null() {
                        // SAFETY: the object is that of the event; from now on it lives until it is released.
                        unsafe { norm::NormObjectRetain(event.object) };
                        source.stream = event.object;
                    } else if source.stream != event.object {
                        return Err(format!("node {number} began another stream"));
                    }
                    source.ready = true;
                }
                _ => (),
            }
        }
        Ok(())
    }

    /// All have answered for the mark, or somebody has not for a long time.
    fn acknowledge(&mut self) {
        // SAFETY: the session is open.
        if unsafe { norm::NormGetAckingStatus(self.session, norm::NODE_ANY) } == norm::ACK_SUCCESS {
            self.acknowledged = self.mark;
            self.marked = false;
            self.known = true;
        } else {
            // SAFETY: the session is open. They are asked again.
            unsafe { norm::NormResetWatermark(self.session) };
        }
    }

    /// Writes what waits, as much as the window lets; gives the bytes.
    fn write(&mut self) -> usize {
        let room = self.window.saturating_sub(self.written - self.acknowledged);
        let length = self.waiting.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if length == 0 {
            return 0;
        }
        // SAFETY: the stream is open; the bytes live during the call, which copies them.
        let written = unsafe { norm::NormStreamWrite(self.stream, self.waiting.as_ptr().cast(), length as c_uint) };
        self.waiting.drain(..written as usize);
        self.written += u64::from(written);
        self.begun = !self.written.is_multiple_of(self.segment);
        written as usize
    }

    /// Sets the mark after the last full segment, if at least so many bytes are to be acknowledged.
    fn set_mark(&mut self, least: u64) {
        let full = self.written - self.written % self.segment;
        if !self.marked && full >= self.acknowledged + least {
            // SAFETY: session and stream are open.
            self.marked = unsafe { norm::NormSetWatermark(self.session, self.stream, false) };
            self.mark = full;
        }
    }

    /// Sends the last segment though it is not full: nothing more is written for now.
    fn flush(&mut self) {
        if self.begun && self.waiting.is_empty() {
            // SAFETY: the stream is open.
            unsafe { norm::NormStreamFlush(self.stream, false, norm::FLUSH_PASSIVE) };
            self.written = self.written.next_multiple_of(self.segment);
            self.begun = false;
        }
    }

    /// Reads from the streams; gives from how many.
    fn read(&mut self) -> Result<usize, String> {
        let mut done = 0;
        for (index, source) in self.sources.iter_mut().enumerate().filter(|(_, source)| source.ready) {
            let room = &mut source.bytes[source.filled..];
            let wanted = c_uint::try_from(room.len()).map_err(|error| error.to_string())?;
            let mut length = wanted;
            // SAFETY: the stream is retained; so many bytes may be written.
            if !unsafe { norm::NormStreamRead(source.stream, room.as_mut_ptr().cast(), &raw mut length) } {
                return Err(format!("the stream of member {index} has a gap"));
            }
            source.filled += length as usize;
            source.ready = length == wanted;
            done += usize::from(length > 0);
        }
        Ok(done)
    }

    /// What the loop does with the library, while its thread stands still.
    fn turn(&mut self) -> Result<usize, String> {
        self.take_events()?;
        let done = self.write();
        // Half the window: one half is on its way while the other is acknowledged.
        self.set_mark(self.window / 2);
        Ok(done + self.read()?)
    }
}

impl Source {
    /// Delivers the whole messages.
    fn deliver<F: FnMut(&[u8])>(&mut self, deliver: &mut F) {
        let mut at = 0;
        let all = &self.bytes[..self.filled];
        while let Some((length, rest)) = all[at..].split_first_chunk::<LENGTH>() {
            let Some(message) = rest.get(..u32::from_le_bytes(*length) as usize) else { break };
            at += LENGTH + message.len();
            if message.is_empty() {
                self.heard = true;
            } else {
                deliver(message);
            }
        }
        self.bytes.copy_within(at..self.filled, 0);
        self.filled -= at;
    }
}

impl System for Member {
    fn ready(&mut self) -> Result<bool, String> {
        Ok(self.known && self.sources.iter().all(|source| source.heard))
    }

    fn send(&mut self, message: &[u8]) -> Result<bool, String> {
        if self.waiting.len() + LENGTH + message.len() > self.most_waiting {
            return Ok(false);
        }
        let length = u32::try_from(message.len()).map_err(|error| error.to_string())?;
        self.waiting.extend_from_slice(&length.to_le_bytes());
        self.waiting.extend_from_slice(message);
        Ok(true)
    }

    fn poll<F: FnMut(&[u8])>(&mut self, deliver: &mut F) -> Result<usize, String> {
        // SAFETY: the instance is open.
        given(unsafe { norm::NormSuspendInstance(self.instance) }, "NormSuspendInstance")?;
        let done = self.turn();
        // SAFETY: the instance is open, and was suspended by this thread.
        unsafe { norm::NormResumeInstance(self.instance) };
        let done = done?;
        for source in self.sources.iter_mut().filter(|source| source.filled > 0) {
            source.deliver(deliver);
        }
        Ok(done)
    }

    fn idle(&mut self) {
        self.flush();
        self.set_mark(1);
        self.wait(&SLEEP);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // SAFETY: what is released was retained, what is destroyed was created, and none is used any more; the session's
        // stream goes with the session.
        unsafe {
            for source in self.sources.iter().filter(|source| !source.stream.is_null()) {
                norm::NormObjectRelease(source.stream);
            }
            if !self.session.is_null() {
                norm::NormDestroySession(self.session);
            }
            norm::NormDestroyInstance(self.instance);
        }
    }
}

fn main() -> ExitCode {
    run(open)
}
