//! `cargo demo`: a replicated order book, in C, on this host: four members under load, one killed, one more.
//!
//! Builds the library in the profile that this program was built in, compiles `order_book.c` against it with the system's
//! C compiler, and runs it. Every wait is bounded; the processes that it started end with it, and a signal that ends it
//! leaves nothing behind.
#![forbid(unsafe_code)]

mod book;

use book::{Books, Line};
use clap::Parser;
use isis_bench::report::{percentile_text, time_text};
use isis_bench::{progress, say};
use isis_processes::{Directory, library, live};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(name = "isis-demo", version, about = "A replicated order book in C over libisis, with a death and a join")]
struct Cli {
    /// Members at the start.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=16))]
    members: u16,
    /// ABCAST orders a second of each member.
    #[arg(long, default_value_t = 5_000)]
    orders: u64,
    /// CBCAST quotes a second of each member.
    #[arg(long, default_value_t = 5_000)]
    quotes: u64,
    /// Seconds of load in each of the three parts: all, one less, one more.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=15))]
    seconds: u64,
    /// `threaded` or `inline`.
    #[arg(long, default_value = "threaded", value_parser = ["threaded", "inline"])]
    mode: String,
}

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    match demo(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("FAILED: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn demo(cli: &Cli) -> Result<(), String> {
    live::end_on_signals().map_err(|error| error.to_string())?;
    let directory = Directory::new("isis-demo-").map_err(|error| error.to_string())?;
    say("building libisis.so and order_book.c");
    let program = directory.path().join("order_book");
    let source = library::workspace().join("bench/demo/order_book.c");
    library::compile(&library::build()?, &source, &["-std=c99", "-O2"], &program)?;
    let mut books = Books::new(program, directory.path().join("isis"), cli.mode.clone());

    say(&format!("{} members: {} orders and {} quotes a second each", cli.members, cli.orders, cli.quotes));
    for _ in 0..cli.members {
        books.start()?;
    }
    books.assemble(PATIENCE)?;
    let load = format!("load {} {}", cli.orders, cli.quotes);
    books.order_all(&load)?;
    run(&mut books, cli.seconds, "all")?;

    let victim = books.of_rank(0).ok_or("nobody has rank 0")?;
    say(&format!("kill -9 of {} (rank 0, which orders the ABCASTs)", books.name(victim)));
    let killed_at = books.kill(victim)?;
    let (first, last) = view_after(&mut books, killed_at)?;
    say(&format!("  kill → new view: first survivor {}, last {}", time_text(first), time_text(last)));
    run(&mut books, cli.seconds, "one less")?;

    say("one more joins");
    let joiner = books.start()?;
    let (admitted, state, view, bytes) = join(&mut books, joiner)?;
    say(&format!(
        "  start → admitted {}, → book received ({bytes} bytes) {}, → first view {}; join alone (admitted → first view) {}",
        time_text(admitted),
        time_text(state),
        time_text(view),
        time_text(view.saturating_sub(admitted))
    ));
    books.order(joiner, &load)?;
    run(&mut books, cli.seconds, "one more")?;

    finish(&mut books)
}

/// Lets the load run, with a line of progress each second.
fn run(books: &mut Books, seconds: u64, part: &str) -> Result<(), String> {
    books.begin_part();
    let begin = Instant::now();
    for second in 1..=seconds {
        let before = books.slowest();
        let end = begin + Duration::from_secs(second);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            books.hear(left)?;
        }
        let (orders, quotes) = books.slowest();
        say(&format!(
            "  {part}: {second} s, {} orders/s + {} quotes/s delivered at each",
            orders.saturating_sub(before.0),
            quotes.saturating_sub(before.1)
        ));
        if orders <= before.0 {
            return Err("no order was delivered for a second".to_owned());
        }
    }
    say(&format!("  order, send → own delivery: {}", percentile_text(books.part())));
    Ok(())
}

/// Waits for the survivors' next view; gives the times from the kill to the first and to the last of them.
fn view_after(books: &mut Books, killed_at: u64) -> Result<(u64, u64), String> {
    let left = books.alive().len();
    let mut seen = BTreeMap::new();
    let end = Instant::now() + PATIENCE;
    while seen.len() < left {
        match books.hear(end.saturating_duration_since(Instant::now()))? {
            Some((index, Line::View { at, members, .. })) if members.len() == left => {
                seen.insert(index, at.saturating_sub(killed_at));
            }
            Some(_) => (),
            None => return Err("the survivors have no new view".to_owned()),
        }
    }
    let first = seen.values().copied().min().unwrap_or(0);
    Ok((first, seen.values().copied().max().unwrap_or(0)))
}

/// Waits for the newcomer; gives the times from its start to admission, state and view, and the bytes of the state.
fn join(books: &mut Books, joiner: usize) -> Result<(u64, u64, u64, u64), String> {
    let started = books.started_at(joiner);
    let (mut admitted, mut state, mut bytes) = (0, None, 0);
    let end = Instant::now() + PATIENCE;
    loop {
        match books.hear(end.saturating_duration_since(Instant::now()))? {
            Some((index, line)) if index == joiner => match line {
                Line::Admitted { at, .. } => admitted = at.saturating_sub(started),
                Line::State { at, bytes: len, .. } => {
                    state = Some(at.saturating_sub(started));
                    bytes = len;
                }
                Line::View { at, .. } => {
                    let state = state.ok_or("the newcomer has a view, and no book")?;
                    books.assemble(PATIENCE)?;
                    return Ok((admitted, state, at.saturating_sub(started), bytes));
                }
                _ => (),
            },
            Some(_) => (),
            None => return Err("the newcomer has no view".to_owned()),
        }
    }
}

/// Stops the load and compares the books.
fn finish(books: &mut Books) -> Result<(), String> {
    say("the load ends; the books at the end:");
    let members = books.alive();
    books.order_all("stop")?;
    let mut sent = BTreeMap::new();
    let end = Instant::now() + PATIENCE;
    while sent.len() < members.len() {
        match books.hear(end.saturating_duration_since(Instant::now()))? {
            Some((_, Line::Sent { process, orders, quotes })) => {
                sent.insert(process, (orders, quotes));
            }
            Some(_) => (),
            None => return Err("a member does not tell what it sent".to_owned()),
        }
    }
    let list: Vec<String> =
        sent.iter().map(|(process, (orders, quotes))| format!("{process} {orders} {quotes}")).collect();
    books.order_all(&format!("settle {} .", list.join(" ")))?;
    let mut ends = BTreeMap::new();
    let end = Instant::now() + PATIENCE;
    while ends.len() < members.len() {
        match books.hear(end.saturating_duration_since(Instant::now()))? {
            Some((index, Line::Done(text))) => {
                ends.insert(index, text);
            }
            Some(_) => (),
            None => return Err("not everything that was sent was delivered".to_owned()),
        }
    }
    for (index, text) in &ends {
        let fields: Vec<&str> = text.split(' ').collect();
        if let [digest, orders, quotes, trades, volume] = fields[..] {
            say(&format!(
                "  {}: digest {digest}, {orders} orders, {quotes} quotes, {trades} trades, volume {volume}",
                books.name(*index)
            ));
        }
    }
    books.quit(PATIENCE)?;
    let first = ends.values().next().ok_or("no books")?;
    if ends.values().any(|text| text != first) {
        return Err("the books differ".to_owned());
    }
    say("all books are equal");
    Ok(())
}
