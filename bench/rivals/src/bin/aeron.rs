//! Aeron (C client and media driver). Transports: `ipc` (shared memory; the driver on a thread of member 0), and over UDP
//! with the driver inside each member's own loop: `udp-64k` (MTU 65,504), `udp-1408`. All members publish on one stream and
//! subscribe to it. UDP goes by multicast on the loopback interface; the slowest receiver is waited for (`fc=min`).

use isis_rivals::talk::Start;
use isis_rivals::{System, run, socket_buffer};
use rusteron_client::{
    Aeron, AeronContext, AeronExclusivePublication, AeronFragmentClosureAssembler, AeronHeader, AeronSubscription,
    Handlers, IntoCString,
};
use rusteron_media_driver::bindings::aeron_threading_mode_t;
use rusteron_media_driver::{AeronDriver, AeronDriverContext, EmbeddedMediaDriver};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The stream of all members.
const STREAM: i32 = 1001;
/// How long a driver may take to start.
const PATIENCE: Duration = Duration::from_secs(10);
/// Fragments taken before the loop sends again.
const FRAGMENTS: usize = 256;

struct Member {
    members: i32,
    // Dropped in this order: what uses the driver before the driver.
    publication: AeronExclusivePublication,
    subscription: AeronSubscription,
    assembler: Option<AeronFragmentClosureAssembler>,
    client: Aeron,
    driver: Option<AeronDriver>,
    _thread: Option<EmbeddedMediaDriver>,
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

fn open(start: &Start) -> Result<Member, String> {
    let mtu = match start.transport.as_str() {
        "ipc" => None,
        "udp-64k" => Some(65_504),
        "udp-1408" => Some(1_408),
        other => return Err(format!("there is no transport {other}")),
    };
    let folder = if mtu.is_some() { format!("aeron-{}", start.index) } else { "aeron".to_owned() };
    let directory = start.directory.join(folder).display().to_string();
    let (mut driver, mut thread) = (None, None);
    if mtu.is_some() || start.index == 0 {
        let context = AeronDriverContext::new().map_err(text)?;
        context.set_dir(&directory.as_str().into_c_string()).map_err(text)?;
        context.set_dir_delete_on_start(true).map_err(text)?;
        context.set_dir_delete_on_shutdown(true).map_err(text)?;
        if let Some(mtu) = mtu {
            let (buffer, window) = windows(start.members)?;
            context.set_threading_mode(aeron_threading_mode_t::AERON_THREADING_MODE_INVOKER).map_err(text)?;
            context.set_mtu_length(mtu).map_err(text)?;
            context.set_socket_so_rcvbuf(buffer).map_err(text)?;
            context.set_socket_so_sndbuf(buffer).map_err(text)?;
            context.set_rcv_initial_window_length(window).map_err(text)?;
            // More than two windows would only wait, in the sender's own memory.
            context.set_publication_term_window_length(2 * window).map_err(text)?;
            let made = AeronDriver::new(&context).map_err(text)?;
            made.start(true).map_err(text)?;
            driver = Some(made);
        } else {
            context.set_threading_mode(aeron_threading_mode_t::AERON_THREADING_MODE_SHARED).map_err(text)?;
            thread = Some(AeronDriver::launch_embedded_guard(context, false));
        }
    }
    let client = connect(&directory, driver.as_ref())?;
    let channel = match mtu {
        // Terms that stay in the processor's caches.
        None => "aeron:ipc?term-length=1m".to_owned(),
        Some(_) => {
            format!("aeron:udp?endpoint=224.20.30.39:{}|interface=127.0.0.1|fc=min,g:/{}", start.port, start.members)
        }
    };
    let channel = channel.as_str().into_c_string();
    let turn = || driver.as_ref().map_or(Ok(0), AeronDriver::main_do_work).map_err(text);
    let adding = client.async_add_subscription(&channel, STREAM, Handlers::NONE, Handlers::NONE).map_err(text)?;
    let subscription = within(|| {
        turn()?;
        client.main_do_work().map_err(text)?;
        adding.poll().map_err(text)
    })?;
    let adding = client.async_add_exclusive_publication(&channel, STREAM).map_err(text)?;
    let publication = within(|| {
        turn()?;
        client.main_do_work().map_err(text)?;
        adding.poll().map_err(text)
    })?;
    // A message that fits a fragment needs no copy to put it together.
    let whole = start.size + 32 <= mtu.unwrap_or(1_408);
    let assembler = if whole { None } else { Some(AeronFragmentClosureAssembler::new().map_err(text)?) };
    Ok(Member {
        members: i32::from(start.members),
        publication,
        subscription,
        assembler,
        client,
        driver,
        _thread: thread,
    })
}

/// Asks until there is an answer.
fn within<T>(mut ask: impl FnMut() -> Result<Option<T>, String>) -> Result<T, String> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        std::thread::yield_now();
    }
    Err(format!("nothing within {} s", PATIENCE.as_secs()))
}

/// The socket buffer, and the window of each sender: all windows together must fit the buffer, or full speed overruns it.
fn windows(members: u16) -> Result<(usize, usize), String> {
    let buffer = socket_buffer()?;
    let share = buffer / usize::from(members.max(1));
    Ok((buffer, 1 << share.max(1).ilog2()))
}

/// A client without a thread of its own, connected with the driver in this directory.
fn connect(directory: &str, driver: Option<&AeronDriver>) -> Result<Aeron, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(driver) = driver {
            driver.main_do_work().map_err(text)?;
        }
        let attempt = || -> Result<Aeron, String> {
            let context = AeronContext::new().map_err(text)?;
            context.set_dir(&directory.into_c_string()).map_err(text)?;
            context.set_use_conductor_agent_invoker(true).map_err(text)?;
            let client = Aeron::new(&context).map_err(text)?;
            client.start().map_err(text)?;
            Ok(client)
        };
        // The driver of another process may not be there yet.
        let there = std::path::Path::new(directory).join("cnc.dat").exists();
        match if there { attempt() } else { Err(format!("no driver in {directory}")) } {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A message that was put together.
fn hand_over<F: FnMut(&[u8])>(deliver: &mut F, message: &[u8], _: AeronHeader) {
    deliver(message);
}

impl System for Member {
    fn ready(&mut self) -> Result<bool, String> {
        let images = self.subscription.image_count().map_err(text)?;
        // Connected is not enough: its receivers have to have opened its window.
        let window = self.publication.position_limit() - self.publication.position();
        Ok(images >= self.members && self.publication.is_connected() && window > 0)
    }

    fn send(&mut self, message: &[u8]) -> Result<bool, String> {
        match self.publication.offer(message) {
            Ok(_) => Ok(true),
            Err(error) if error.is_retryable() => Ok(false),
            Err(error) => Err(text(error)),
        }
    }

    fn poll<F: FnMut(&[u8])>(&mut self, deliver: &mut F) -> Result<usize, String> {
        self.client.main_do_work().map_err(text)?;
        let mut done = match &self.driver {
            Some(driver) => driver.main_do_work().map_err(text)? as usize,
            None => 0,
        };
        if let Some(assembler) = &mut self.assembler {
            let taken = assembler.poll(&self.subscription, deliver, hand_over::<F>, FRAGMENTS).map_err(text)?;
            done += taken as usize;
        } else {
            let taken =
                self.subscription.poll_fn(|bytes: &[u8], _: AeronHeader| deliver(bytes), FRAGMENTS).map_err(text)?;
            done += taken as usize;
        }
        Ok(done)
    }
}

fn main() -> ExitCode {
    run(open)
}
