//! What a client has to do: choose a relay, hand over what waits, ask again.

use super::super::Endpoint;
use super::super::joining::Phase;
use super::{CONTROL, Client, Item, What};
use crate::event::Event;
use crate::group::clients::try_send;
use crate::group::unicast::Addressed;
use crate::id::{GroupHandle, GroupId, ProcessId};
use crate::time::Instant;
use isis_wire::Writer;
use isis_wire::client::{ClientMessage, ClientOperation};
use isis_wire::message::{Code, Envelope};

impl Endpoint {
    /// A process of this name is still a client, or a member, by a handle that was given up: this one waits.
    pub(in crate::endpoint) fn waits_for_former(&self, index: usize) -> bool {
        let name = &self.handles[index].name;
        let is_client = self.clients.contains_key(&GroupHandle(index as u32));
        self.handles[..index].iter().enumerate().any(|(other, handle)| {
            handle.name == *name
                && !matches!(handle.phase, Phase::Gone)
                && (is_client || self.clients.contains_key(&GroupHandle(other as u32)))
        })
    }

    /// Goes on with all that this process is a client of.
    pub(in crate::endpoint) fn drive_clients(&mut self) {
        if self.clients.is_empty() || self.process().is_none() || self.ended.is_some() || self.shared.stalled {
            return;
        }
        for handle in self.clients.keys().copied().collect::<Vec<_>>() {
            self.drive_client(handle);
        }
    }

    fn drive_client(&mut self, handle: GroupHandle) {
        let index = handle.0 as usize;
        let waits = self.waits_for_former(index);
        let Some(client) = self.clients.get_mut(&handle) else { return };
        let Some(group) = client.group else {
            if let Some(group) = self.shared.directory.lookup(&self.handles[index].name)
                && !waits
            {
                client.group = Some(group);
                client.number = self.client_numbers.get(&group).copied().unwrap_or(0);
                client.registration = client.number + 1;
                client.everywhere = client.number;
                client.control(ClientOperation::Open);
                self.touch();
            }
            return;
        };
        let Some(entry) = self.shared.directory.entry(group) else {
            if client.closing {
                self.end_client(handle, Event::Left { group: handle });
            } else if client.registered {
                self.end_client(handle, Event::GroupEnded { group: handle });
            } else {
                **client = Client::new(self.shared.now);
            }
            return;
        };
        let now = self.shared.now;
        let (takeover, resend) = (self.shared.config.takeover_ns, self.shared.config.resend_ns);
        let usable = |process: ProcessId| self.shared.peers.contains_key(&process);
        let candidates = || entry.entered.iter().filter(|e| !e.disclaimed).map(|e| e.process).filter(|&p| usable(p));
        if client.relay.is_some_and(|relay| !candidates().any(|candidate| candidate == relay))
            || client.patience_ends(takeover).is_some_and(|end| now >= end)
        {
            client.give_up_relay(now);
        }
        if client.relay.is_none() && now >= client.pause_until {
            let candidates: Vec<ProcessId> = candidates().collect();
            if candidates.is_empty() {
                client.pause_until = now + 10 * resend;
            } else {
                if client.turn == 0 {
                    client.turn = self.shared.random.below(candidates.len() as u64) as usize;
                }
                client.relay = Some(candidates[client.turn % candidates.len()]);
                client.progress_at = now;
            }
        }
        self.ask_again(handle);
        self.send_items(handle, group);
        self.answer_flushes(handle);
        let window = self.shared.config.window;
        if let Some(client) = self.clients.get_mut(&handle)
            && client.writable_wanted
            && client.registered
            && client.bytes <= window / 2
        {
            client.writable_wanted = false;
            self.shared.emit(Event::Writable { group: handle });
        }
    }

    /// There are other groups of the same domain in which this process's messages may depend on this client's.
    fn is_across(&self, handle: GroupHandle) -> bool {
        let domain = self.handles[handle.0 as usize].options.domain;
        self.groups.iter().any(|(&id, group)| id != GroupId::SYSTEM && group.options.domain == domain)
            || self.clients.keys().any(|&it| it != handle && self.handles[it.0 as usize].options.domain == domain)
    }

    /// A new relay has to say how far everything is delivered everywhere: the old one was asked, and cannot any more. What is
    /// still to be sent may wait for just that, so the new one is asked for the registration again: that asks for nothing but
    /// the answer.
    fn ask_again(&mut self, handle: GroupHandle) {
        let system_view = self.shared.system_view.number;
        let Some(client) = self.clients.get_mut(&handle) else { return };
        let Some(relay) = client.relay.filter(|_| client.asks_again && client.registered) else { return };
        let message = client.message(client.registration, ClientOperation::Open, CONTROL, system_view, &[]);
        client.asks_again = !try_send(&mut self.shared, relay, &message);
    }

    /// Hands over all that may go: requests to the relay, one after the other; a point-to-point message to its receiver, when
    /// everything before it is done, and nothing after it before it is.
    fn send_items(&mut self, handle: GroupHandle, group: GroupId) {
        let system_view = if self.is_across(handle) { self.shared.system_view.number } else { 0 };
        let Some(mut client) = self.clients.remove(&handle) else { return };
        let mut index = 0;
        while client.queue.get(index).is_some_and(|item| item.debts.is_empty()) {
            let item = &client.queue[index];
            let goes_on = match item.what {
                What::Request { .. } => {
                    let goes = item.sent || self.send_request(&mut client, index, system_view);
                    index += 1;
                    goes
                }
                What::Send { addressed, entry } => {
                    index == 0 && self.send_directly(&mut client, group, addressed, entry)
                }
            };
            if !goes_on {
                break;
            }
        }
        self.clients.insert(handle, client);
    }

    /// Asks the relay; `false`: it cannot be asked now.
    fn send_request(&mut self, client: &mut Client, index: usize, system_view: u64) -> bool {
        let item = &client.queue[index];
        let (Some(relay), What::Request { number, operation, options }) = (client.relay, &item.what) else {
            return false;
        };
        let number = *number;
        let message = client.message(number, *operation, *options, system_view, &item.data);
        if !try_send(&mut self.shared, relay, &message) {
            return false;
        }
        client.queue[index].sent = true;
        if client.patience_ends(0).is_none() {
            client.progress_at = self.shared.now;
        }
        if system_view > 0 {
            client.number_across = client.number_across.max(number);
        }
        true
    }

    /// Sends the first item to its receiver, and waits until it is delivered; `true`: it is, and out of the queue.
    fn send_directly(&mut self, client: &mut Client, group: GroupId, addressed: Addressed, entry: u8) -> bool {
        let Addressed { member, answers, number } = addressed;
        let now = self.shared.now;
        let Some(item) = client.queue.front_mut() else { return false };
        if self.shared.peers.get(&member).is_none_or(|peer| peer.sent.is_settled(number)) {
            client.bytes -= item.data.len() as u64;
            client.queue.pop_front();
            return true;
        }
        if !item.sent {
            let envelope = Envelope {
                group,
                view: client.view,
                vector: client.vector.clone(),
                entry: u16::from(entry),
                from_client: true,
                answers: answers.map(|id| ((id.view, id.sender), id.number)),
                number,
                data: item.data.clone(),
            };
            let mut out = Writer::new();
            envelope.write(&mut out);
            let Some(lane) = self.shared.lane(member, 0) else { return false };
            if lane.sender.enqueue(out.bytes).is_err() {
                return false;
            }
            if let Some(peer) = self.shared.peers.get_mut(&member) {
                peer.sent.note_sent(number);
            }
            item.sent = true;
        } else if now >= client.ask_at {
            // The acknowledgement of its delivery may have been lost.
            try_send(&mut self.shared, member, &ClientMessage::Acknowledge { number });
        } else {
            return false;
        }
        client.ask_at = now + 10 * self.shared.config.resend_ns;
        false
    }

    pub(super) fn answer_flushes(&mut self, handle: GroupHandle) {
        let Some(client) = self.clients.get_mut(&handle) else { return };
        let first = client.queue.front().map_or(u64::MAX, |item| item.place);
        let mut done: Vec<u64> = Vec::new();
        client.flushes.retain(|(flush, place)| {
            if *place < first {
                done.push(*flush);
            }
            *place >= first
        });
        for flush in done {
            self.shared.emit(Event::Flushed { group: handle, flush });
        }
    }

    /// When `drive_clients` has something to do.
    pub(in crate::endpoint) fn clients_deadline(&self) -> Option<Instant> {
        if self.process().is_none() || self.shared.stalled {
            return None;
        }
        let takeover = self.shared.config.takeover_ns;
        let clients = self.clients.values().filter(|client| client.group.is_some());
        clients
            .filter_map(|client| {
                let relay = match client.relay {
                    Some(_) => client.patience_ends(takeover),
                    None => Some(client.pause_until),
                };
                let sends = |item: &Item| item.sent && matches!(item.what, What::Send { .. });
                let asks = client.queue.front().is_some_and(sends).then_some(client.ask_at);
                [relay, asks].into_iter().flatten().min()
            })
            .min()
    }
}
