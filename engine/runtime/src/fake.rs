//! Stand-ins for tests: a core that is a group of one and does what its script says, and a transport that carries nothing.

use crate::machine::Machine;
use crate::port::Port;
use isis_protocol::{
    Body, Calls, Delivery, Event, Framed, Frames, GroupHandle, GroupId, Instant, JoinOptions, Kind, Member, MessageId,
    Messages, Nonce, ProcessId, Refused, SendOptions, SiteAnswer, SiteRequest, SystemId, View,
};
use isis_transport::{Capabilities, Datagram, Founding, RecordChange, SiteEvent, TransmitReport, Transport};
use isis_wire::Address;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

/// What a test sets and sees from outside, on any thread.
#[derive(Debug, Default)]
pub struct Script {
    /// Messages that the fake's window takes until it says `WouldBlock`.
    pub window: usize,
    /// A site event to come.
    pub site_events: VecDeque<SiteEvent>,
    /// The core calls that came, in words.
    pub calls: Vec<String>,
    /// Events polled.
    pub polled: usize,
    /// When the core wants to be called.
    pub timeout: Option<Instant>,
    /// How often the site's record is locked.
    pub locked: usize,
    /// The process is stalled.
    pub stalled: bool,
    pub farewells: usize,
    pub joined_groups: Vec<u64>,
    /// Nonces that the core asks to kill, and those that the site was asked for.
    pub kills: VecDeque<u128>,
    pub killed: Vec<u128>,
    /// Nonces that the core wants watched, and those that the site was asked for.
    pub watches: VecDeque<u128>,
    pub watched: Vec<u128>,
    /// How often the loop asked whether the process is stalled, and it was.
    pub stalls_seen: usize,
    /// The next view of every group shall come.
    pub next_view: bool,
    /// Nothing happens but by calls.
    pub still: bool,
    /// There is something to send; what it comes to is this event, and no datagram.
    pub told_by_sending: Option<Event>,
}

#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<Script>>, Arc<OwnedFd>);

impl Shared {
    pub fn get(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
    /// As if a datagram came.
    pub fn make_readable(&self) {
        rustix::io::write(&*self.1, &1_u64.to_ne_bytes()).expect("an eventfd takes a 1");
    }
}

/// A core and a transport with one script.
pub fn pair() -> (Box<Fake>, Box<FakePort>, Shared) {
    let descriptor = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).expect("eventfd");
    let shared = Shared(Arc::new(Mutex::new(Script { window: usize::MAX, ..Script::default() })), Arc::new(descriptor));
    let machine = Fake {
        shared: shared.clone(),
        events: VecDeque::new(),
        groups: BTreeMap::new(),
        clients: BTreeSet::new(),
        requests: VecDeque::new(),
        claim: None,
    };
    (Box::new(machine), Box::new(FakePort { shared: shared.clone() }), shared)
}

#[derive(Debug)]
pub struct Fake {
    shared: Shared,
    events: VecDeque<Event>,
    /// Messages multicast so far. Handles are 1000, 1001, … so that nobody takes them for the application's.
    groups: BTreeMap<GroupHandle, u64>,
    clients: BTreeSet<GroupHandle>,
    requests: VecDeque<SiteRequest>,
    claim: Option<Vec<u8>>,
}

pub const ME: ProcessId = ProcessId(42);

fn view(number: u64) -> Arc<View> {
    let member = Member { process: ME, nonce: Nonce(1), address: Address::default(), has_state: true };
    Arc::new(View {
        group: GroupId(7),
        number,
        members: vec![member],
        joined: vec![ME],
        departed: vec![],
        clients: vec![],
    })
}

impl Fake {
    fn member(&mut self, group: GroupHandle) -> Result<&mut u64, Refused> {
        self.groups.get_mut(&group).ok_or(Refused::NotMember)
    }

    /// A client's multicast: the core leaves out numbers.
    fn complete(&mut self, group: GroupHandle, data: &[u8]) -> u64 {
        let ticket = self.groups.get_mut(&group).map_or(0, |count| {
            *count += 2;
            *count
        });
        self.events.push_back(match data {
            b"the last member dies" => Event::GroupEnded { group },
            _ => Event::Completed { group, ticket },
        });
        ticket
    }

    fn call(&self, text: String) {
        self.shared.get().calls.push(text);
    }

    fn next_view_is_due(&mut self) {
        if std::mem::take(&mut self.shared.get().next_view) {
            for group in self.groups.keys() {
                self.events.push_back(Event::View { group: *group, view: view(2), rank: 0 });
            }
        }
    }

    fn deliver(&mut self, group: GroupHandle, kind: Kind, entry: u8, answers: Option<MessageId>, data: &[u8]) -> u64 {
        let number = self.groups.get_mut(&group).map_or(0, |count| {
            *count += 1;
            *count
        });
        self.events.push_back(Event::Message(Delivery {
            group,
            id: MessageId { group: GroupId(7), view: 1, sender: ME, number },
            rank: 0,
            kind,
            safe: false,
            entry,
            order: number,
            ticket: number,
            answers,
            body: Body::Owned(Arc::new(data.to_vec())),
        }));
        number
    }
}

impl Calls for Fake {
    fn join(&mut self, _: Instant, name: &str, options: JoinOptions) -> Result<GroupHandle, Refused> {
        match name {
            "refused" => return Err(Refused::Ended),
            "twice" => return Err(Refused::AlreadyMember),
            _ => {}
        }
        let group = GroupHandle(1000 + self.groups.len() as u32);
        self.groups.insert(group, 0);
        self.requests.push_back(SiteRequest::Found(SystemId(5)));
        if options.client {
            self.clients.insert(group);
            self.events.push_back(Event::Registered { group, id: GroupId(7) });
        } else {
            self.events.push_back(Event::View { group, view: view(1), rank: 0 });
        }
        Ok(group)
    }
    fn leave(&mut self, _: Instant, group: GroupHandle) -> Result<(), Refused> {
        self.groups.remove(&group).ok_or(Refused::NotMember)?;
        self.events.push_back(Event::Left { group });
        Ok(())
    }
    fn multicast(&mut self, _: Instant, group: GroupHandle, options: SendOptions, data: &[u8]) -> Result<u64, Refused> {
        assert!(data != b"panic", "as the test wants it");
        self.member(group)?;
        if data == b"refuse" {
            return Err(Refused::Ended);
        }
        {
            let mut script = self.shared.get();
            if script.window == 0 || script.stalled {
                return Err(Refused::WouldBlock);
            }
            script.window -= 1;
        }
        if self.clients.contains(&group) {
            return Ok(self.complete(group, data));
        }
        Ok(self.deliver(group, options.kind, options.entry, None, data))
    }
    fn multicast_groups(
        &mut self,
        now: Instant,
        groups: &[GroupHandle],
        options: SendOptions,
        data: &[u8],
    ) -> Result<Vec<u64>, Refused> {
        self.call(format!("to {} groups", groups.len()));
        if self.shared.get().window < groups.len() {
            return Err(Refused::WouldBlock);
        }
        groups.iter().map(|group| self.multicast(now, *group, options, data)).collect()
    }
    fn claim(&mut self, group: GroupHandle, len: usize) -> Result<(), Refused> {
        self.member(group)?;
        self.claim = Some(vec![0; len]);
        Ok(())
    }
    fn claimed(&mut self, _: GroupHandle) -> Result<&mut [u8], Refused> {
        self.claim.as_deref_mut().ok_or(Refused::BadClaim)
    }
    fn commit(&mut self, now: Instant, group: GroupHandle, options: SendOptions) -> Result<u64, Refused> {
        let data = self.claim.take().ok_or(Refused::BadClaim)?;
        self.multicast(now, group, options, &data)
    }
    fn abort(&mut self, _: GroupHandle) -> Result<(), Refused> {
        self.claim.take().map(|_| ()).ok_or(Refused::BadClaim)
    }
    fn send(&mut self, _: Instant, group: GroupHandle, _: ProcessId, entry: u8, data: &[u8]) -> Result<u64, Refused> {
        self.member(group)?;
        Ok(self.deliver(group, Kind::Unicast, entry, None, data))
    }
    fn reply(&mut self, _: Instant, group: GroupHandle, to: MessageId, data: &[u8]) -> Result<u64, Refused> {
        self.member(group)?;
        Ok(self.deliver(group, Kind::Reply, 0, Some(to), data))
    }
    fn flush(&mut self, _: Instant, group: GroupHandle) -> Result<u64, Refused> {
        self.member(group)?;
        self.events.push_back(Event::Flushed { group, flush: 9000 });
        Ok(9000)
    }
    fn state_block(
        &mut self,
        _: Instant,
        group: GroupHandle,
        transfer: u64,
        block: &[u8],
        done: bool,
    ) -> Result<(), Refused> {
        self.member(group)?;
        self.call(format!("state {transfer} {} {done}", block.len()));
        Ok(())
    }
    fn close(&mut self, _: Instant) {
        self.events.push_back(Event::Closed);
    }
    fn poll_event(&mut self, _: Instant) -> Option<Event> {
        self.next_view_is_due();
        let event = self.events.pop_front()?;
        self.shared.get().polled += 1;
        Some(event)
    }
    fn payload<'a>(&'a self, body: &'a Body) -> &'a [u8] {
        match body {
            Body::Owned(bytes) => bytes,
            Body::Chunk { .. } => &[],
        }
    }
}

impl Machine for Fake {
    fn poll_message(&mut self, _: Instant) -> Option<(&Messages, Framed)> {
        None
    }
    fn poll_messages(&mut self, _: Instant, _: usize, _: &mut Frames) -> Option<Delivery> {
        None
    }
    fn frame(&self, _: &Framed) -> &[u8] {
        &[]
    }
    fn handle_packet(&mut self, _: Instant, _: Address, _: &[u8]) {}
    fn handle_timeout(&mut self, _: Instant) {
        self.call("timeout".into());
        self.shared.get().timeout = None;
    }
    fn handle_death(&mut self, _: Instant, nonce: Nonce) {
        self.call(format!("death {}", nonce.0));
    }
    fn handle_peer(&mut self, _: Instant, address: Address) {
        self.call(format!("peer {}", address.port));
    }
    fn handle_refused(&mut self, _: Instant, address: Address, _: &[u8]) {
        self.call(format!("refused {}", address.port));
    }
    fn set_datagram_network(&mut self, _: usize) {}
    fn handle_site_answer(&mut self, _: Instant, answer: SiteAnswer) {
        self.call(format!("{answer:?}"));
        self.events.push_back(Event::SystemJoined { system: SystemId(5), process: ME });
    }
    fn has_event(&mut self, _: Instant) -> bool {
        self.next_view_is_due();
        !self.events.is_empty()
    }
    fn has_little_to_send(&self) -> bool {
        self.shared.get().told_by_sending.is_some()
    }
    fn transmit(&mut self, _: Instant, _: &mut dyn Transport) -> TransmitReport {
        self.events.extend(self.shared.get().told_by_sending.take());
        TransmitReport::default()
    }
    fn poll_site_request(&mut self) -> Option<SiteRequest> {
        if let Some(request) = self.requests.pop_front() {
            return Some(request);
        }
        let mut script = self.shared.get();
        if let Some(nonce) = script.watches.pop_front() {
            return Some(SiteRequest::Watch(Nonce(nonce)));
        }
        script.kills.pop_front().map(|nonce| SiteRequest::Kill(Nonce(nonce)))
    }
    fn is_idle(&mut self, _: Instant) -> bool {
        let script = self.shared.get();
        script.still && script.told_by_sending.is_none()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.shared.get().timeout
    }
    fn is_stalled(&self) -> bool {
        let mut script = self.shared.get();
        script.stalls_seen += usize::from(script.stalled);
        script.stalled
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("fake_groups", self.groups.len() as u64)]
    }
}

#[derive(Debug)]
pub struct FakePort {
    shared: Shared,
}

impl Transport for FakePort {
    fn capabilities(&self) -> Capabilities {
        let local_address = Address::default();
        Capabilities { local_address, datagram_local: 60_000, datagram_network: 1_400, multicast: false }
    }
    fn receive_burst(&mut self, _: usize, _: &mut dyn FnMut(Address, &[u8])) -> usize {
        usize::from(rustix::io::read(&*self.shared.1, &mut [0; 8]).is_ok())
    }
    fn transmit_burst<'a>(&mut self, _: &mut dyn Iterator<Item = Datagram<'a>>) -> TransmitReport {
        TransmitReport::default()
    }
    fn advance(&mut self, _: u64) -> Option<u64> {
        None
    }
    fn is_silent(&self, _: u64) -> bool {
        self.shared.get().still
    }
    fn descriptors(&self, _: &mut dyn FnMut(BorrowedFd<'_>)) {}
    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("port_received", 0)]
    }
}

impl Port for FakePort {
    fn site_key(&self) -> u128 {
        1
    }
    fn poll_site_event(&mut self) -> Option<SiteEvent> {
        self.shared.get().site_events.pop_front()
    }
    fn poll_refused(&mut self) -> Option<(Address, Vec<u8>)> {
        None
    }
    fn found(&mut self, _: u128) -> io::Result<Founding> {
        let mut script = self.shared.get();
        if script.locked > 0 {
            script.locked -= 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Founding::Granted)
    }
    fn joined(&mut self, _: u128) -> io::Result<()> {
        Ok(())
    }
    fn change_record(&mut self, change: &mut dyn FnMut(&[u8], u128) -> io::Result<RecordChange>) -> io::Result<()> {
        change(&[], 0).map(|_| ())
    }
    fn join_group(&mut self, _: u128, group: u64) {
        self.shared.get().joined_groups.push(group);
    }
    fn leave_group(&mut self, group: u64) {
        self.shared.get().joined_groups.retain(|joined| *joined != group);
    }
    fn kill(&mut self, nonce: u128) -> io::Result<()> {
        self.shared.get().killed.push(nonce);
        Ok(())
    }
    fn watch(&mut self, nonce: u128) {
        self.shared.get().watched.push(nonce);
    }
    fn farewell(&mut self) {
        self.shared.get().farewells += 1;
    }
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.shared.1.as_fd()
    }
}
