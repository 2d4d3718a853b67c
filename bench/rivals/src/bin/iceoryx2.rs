//! iceoryx2, publish and subscribe through shared memory, without a daemon. Transport `shared-memory`: all members publish
//! in one service and subscribe to it; payloads are copied in.
//!
//! iceoryx2 gives no flow control between one publisher and several subscribers that would not block: what a full buffer has
//! no room for is left out, or the publisher stands still. So the members tell each other, in a second service, how far they
//! are, and none is ahead of the slowest by more than the buffer: as every program has to do that may lose nothing.

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::PortFactory as _;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;
use isis_rivals::talk::Start;
use isis_rivals::{System, run};
use std::process::ExitCode;

/// Bytes of a sender's buffer at each receiver, and the least and the most messages in it.
const BUFFER: usize = 4 << 20;
const LEAST: usize = 16;
const MOST: usize = 1024;
/// Messages taken before the loop sends again.
const BURST: usize = 256;
/// Buffered tellings of a member; the newest says all that the older ones said.
const TELLINGS: usize = 8;

struct Member {
    index: usize,
    /// Messages that a sender may be ahead of the slowest receiver.
    window: u64,
    sent: u64,
    /// By receiver, then by sender: how many messages were taken.
    taken: Vec<Vec<u64>>,
    told: u64,
    heard: Vec<bool>,
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    telling: Publisher<ipc::Service, [u64], ()>,
    hearing: Subscriber<ipc::Service, [u64], ()>,
    service: PortFactory<ipc::Service, [u8], ()>,
    _node: Node<ipc::Service>,
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

fn open(start: &Start) -> Result<Member, String> {
    if start.transport != "shared-memory" {
        return Err(format!("there is no transport {}", start.transport));
    }
    set_log_level(LogLevel::Error);
    let members = usize::from(start.members);
    let window = (BUFFER / start.size).clamp(LEAST, MOST);
    let run_name = start.directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = |what: &str| ServiceName::new(&format!("{run_name}/{what}")).map_err(text);
    let node = NodeBuilder::new().create::<ipc::Service>().map_err(text)?;
    let service = node
        .service_builder(&name("load")?)
        .publish_subscribe::<[u8]>()
        .max_publishers(members)
        .max_subscribers(members)
        .subscriber_max_buffer_size(window)
        .enable_safe_overflow(false)
        .open_or_create()
        .map_err(text)?;
    let progress = node
        .service_builder(&name("progress")?)
        .publish_subscribe::<[u64]>()
        .max_publishers(members)
        .max_subscribers(members)
        .subscriber_max_buffer_size(TELLINGS)
        .enable_safe_overflow(true)
        .open_or_create()
        .map_err(text)?;
    Ok(Member {
        index: usize::from(start.index),
        window: window as u64,
        sent: 0,
        taken: vec![vec![0; members]; members],
        told: 0,
        heard: vec![false; members],
        subscriber: service.subscriber_builder().create().map_err(text)?,
        publisher: service.publisher_builder().initial_max_slice_len(start.size).create().map_err(text)?,
        hearing: progress.subscriber_builder().create().map_err(text)?,
        telling: progress.publisher_builder().initial_max_slice_len(members + 1).create().map_err(text)?,
        service,
        _node: node,
    })
}

impl Member {
    /// Tells the others how far this member is.
    fn tell(&mut self) -> Result<(), String> {
        let mut telling = vec![self.index as u64];
        telling.extend_from_slice(&self.taken[self.index]);
        let loan = self.telling.loan_slice_uninit(telling.len()).map_err(text)?;
        loan.write_from_slice(&telling).send().map_err(text)?;
        self.told = self.taken[self.index].iter().sum();
        Ok(())
    }

    fn hear(&mut self) -> Result<(), String> {
        while let Some(sample) = self.hearing.receive().map_err(text)? {
            let (Some(from), Some(counts)) = (sample.payload().first(), sample.payload().get(1..)) else { continue };
            let from = *from as usize;
            if let Some(row) = self.taken.get_mut(from)
                && counts.len() == row.len()
                && from != self.index
            {
                row.copy_from_slice(counts);
            }
            if let Some(heard) = self.heard.get_mut(from) {
                *heard = true;
            }
        }
        Ok(())
    }
}

impl System for Member {
    fn ready(&mut self) -> Result<bool, String> {
        let members = self.taken.len();
        self.tell()?;
        let ports = self.service.dynamic_config();
        Ok(ports.number_of_publishers() == members
            && ports.number_of_subscribers() == members
            && self.heard.iter().all(|heard| *heard))
    }

    fn send(&mut self, message: &[u8]) -> Result<bool, String> {
        let slowest = self.taken.iter().map(|row| row[self.index]).min().unwrap_or(0);
        if self.sent >= slowest + self.window {
            return Ok(false);
        }
        let loan = self.publisher.loan_slice_uninit(message.len()).map_err(text)?;
        loan.write_from_slice(message).send().map_err(text)?;
        self.sent += 1;
        Ok(true)
    }

    fn poll<F: FnMut(&[u8])>(&mut self, deliver: &mut F) -> Result<usize, String> {
        self.hear()?;
        let mut done = 0;
        while done < BURST
            && let Some(sample) = self.subscriber.receive().map_err(text)?
        {
            let sender = usize::from(isis_rivals::sender(sample.payload()));
            deliver(sample.payload());
            if let Some(count) = self.taken[self.index].get_mut(sender) {
                *count += 1;
            }
            done += 1;
        }
        let behind = self.taken[self.index].iter().sum::<u64>() - self.told;
        if behind >= self.window / 4 || (behind > 0 && done == 0) {
            self.tell()?;
        }
        Ok(done)
    }
}

fn main() -> ExitCode {
    run(open)
}
