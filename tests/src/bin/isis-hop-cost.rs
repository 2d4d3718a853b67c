//! What a short message alone costs in the core, from its multicast to the answer: two members that ask and answer in turn, each
//! with a loop of its own, so that nothing is shared by a batch. Without I/O, clock or randomness: for counting
//! instructions, as `bench/ratchet.sh` does.
//!
//! `isis-hop-cost paths` lists what it knows; `isis-hop-cost count PATH SIZE BATCHES` makes so many times 192 round trips.
#![forbid(unsafe_code)]

use isis_protocol::time::MICROSECOND;
use isis_protocol::{Destination, Endpoint, GroupHandle, Instant, Kind, SendOptions};
use isis_tests::scenario::Scenario;
use isis_tests::sim::clock::Clock;
use isis_tests::sim::network::{address, slot};
use std::io::Write;
use std::process::ExitCode;

/// The paths: name and order.
const PATHS: [(&str, Kind); 2] = [("alone-fifo", Kind::Fifo), ("alone-total", Kind::Total)];
/// Payload bytes.
const SIZE: usize = 64;
/// Round trips of a batch.
const BATCH: u64 = 192;

/// Bytes of packets on their way to one member, and where each ends: room that is taken once.
#[derive(Default)]
struct Inbox {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

struct Member {
    endpoint: Endpoint,
    clock: Clock,
    slot: u32,
    handle: GroupHandle,
    /// Delivered of each rank.
    delivered: [u64; 2],
    sent: u64,
}

impl Member {
    /// One turn of a loop: packets in, what is due, packets out to the only other member, messages. Whether anything happened.
    fn turn(&mut self, now: Instant, other: u32, inbox: &mut Inbox, out: &mut Inbox) -> bool {
        let endpoint = &mut self.endpoint;
        let mut any = !inbox.ends.is_empty();
        let mut start = 0;
        for &end in &inbox.ends {
            endpoint.handle_packet(now, address(other), &inbox.bytes[start..end]);
            start = end;
        }
        inbox.bytes.clear();
        inbox.ends.clear();
        if endpoint.poll_timeout().is_some_and(|due| due <= now) {
            endpoint.handle_timeout(now);
        }
        while endpoint.poll_site_request().is_some() {}
        loop {
            let burst = endpoint.poll_transmit(now);
            if burst.len() == 0 {
                break;
            }
            any = true;
            for transmit in burst {
                let to_other = match transmit.destination {
                    Destination::Unicast(to) => slot(to) == other,
                    Destination::Members { .. } => true,
                };
                if to_other {
                    out.bytes.extend_from_slice(transmit.header);
                    out.bytes.extend_from_slice(transmit.payload);
                    out.ends.push(out.bytes.len());
                }
            }
        }
        loop {
            if let Some((messages, _)) = endpoint.poll_message(now) {
                self.delivered[usize::from(messages.rank)] += 1;
            } else if endpoint.poll_event(now).is_none() {
                return any;
            }
            any = true;
        }
    }
}

/// So many round trips of one message each.
fn exchange(kind: Kind, count: u64) {
    let mut scenario = Scenario::new(&[2]);
    let nodes: [usize; 2] = scenario.start_all();
    scenario.form_group(&nodes);
    let mut now = scenario.world.now();
    let mut members = nodes.map(|node| {
        let handle = scenario.app(node).members.last().expect("a membership").handle;
        let it = &mut scenario.world.nodes[node];
        let endpoint = it.endpoint.take().expect("alive");
        Member { endpoint, clock: it.clock, slot: it.slot, handle, delivered: [0; 2], sent: 0 }
    });
    let slots = [members[0].slot, members[1].slot];
    let mut inboxes = [Inbox::default(), Inbox::default()];
    let options = SendOptions { kind, safe: false, entry: 1 };
    let mut me = 0;
    while members[0].delivered[1] < count {
        // As long as there is something to do; then it is the other one's turn.
        loop {
            now += MICROSECOND / 2;
            let member = &mut members[me];
            let at = member.clock.at(now);
            let due = if me == 0 { member.delivered[1] == member.sent } else { member.sent < member.delivered[0] };
            if due {
                member.sent += 1;
                member.endpoint.multicast(at, member.handle, options, &[7; SIZE]).expect("the window has room");
            }
            let [first, second] = &mut inboxes;
            let (inbox, out) = if me == 0 { (first, second) } else { (second, first) };
            if !member.turn(at, slots[1 - me], inbox, out) && !due {
                break;
            }
        }
        me = 1 - me;
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut out = std::io::stdout();
    let result = match words[..] {
        ["paths"] => PATHS.iter().try_for_each(|(name, _)| writeln!(out, "{name} {SIZE}")).map_err(|e| e.to_string()),
        ["count", path, size, batches] if size == SIZE.to_string() => {
            match (PATHS.iter().find(|(name, _)| *name == path), batches.parse::<u64>()) {
                (Some((_, kind)), Ok(batches)) => {
                    exchange(*kind, batches * BATCH);
                    Ok(())
                }
                _ => Err(format!("no path {path}, or {batches} is not a number of batches")),
            }
        }
        _ => Err("usage: isis-hop-cost paths | count PATH SIZE BATCHES".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}
