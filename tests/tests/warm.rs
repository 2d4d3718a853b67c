//! A warm member in inline mode that polls, on the real transport: between a multicast and its delivery there is no thread, no
//! allocation, and no system call but those of the transport. Counted with a tracer, over many round trips of two processes of
//! one host; the one that is looked at is the sequencer, or it is not.
//!
//! A program of its own: the harness of other tests has threads, and its members are this program. Where a process may not be
//! traced (some containers), every case counts as ignored, and that is said; with `ISIS_TRACE_REQUIRED=1` it fails.

#[path = "warm/trace.rs"]
mod trace;

use isis_processes::{Children, Directory};
use isis_protocol::{JoinOptions, Kind, SendOptions};
use isis_runtime::{Mode, Node, NodeEvent, Options};
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Round trips before the count, and counted ones.
const WARM: u32 = 4_000;
const COUNTED: u32 = 2_000;
/// Beyond this nothing comes any more.
const LIMIT: Duration = Duration::from_secs(60);
/// A member outlives no test run.
const LIFE: Duration = Duration::from_secs(120);
/// Where the members meet, and what this one does.
const DIRECTORY: &str = "ISIS_WARM_DIRECTORY";
const ROLE: &str = "ISIS_WARM_ROLE";
/// What the transport calls: it looks at its sockets now and then, even if all goes through shared memory, and rarely whether
/// there is anybody new in the runtime directory.
const TRANSPORT: [i64; 11] = [
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(not(target_arch = "x86_64"))]
    libc::SYS_epoll_pwait2,
];

const CASES: [(&str, bool, Kind); 4] = [
    ("the_sequencer_is_warm", true, Kind::Total),
    ("another_member_is_warm", false, Kind::Total),
    ("causal_is_warm", false, Kind::Causal),
    ("fifo_is_warm", false, Kind::Fifo),
];

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A member of the group, and the messages that came.
struct Member {
    node: Node,
    group: isis_protocol::GroupHandle,
    options: SendOptions,
    rank: u16,
    own: u32,
    others: u32,
    members: usize,
    begin: Instant,
}

impl Member {
    fn open(directory: &Path, kind: Kind) -> Member {
        let mut options = Options { mode: Mode::Inline, runtime_dir: Some(directory.to_owned()), ..Options::new() };
        options.set("wait", "spin").expect("an option");
        let mut node = Node::open(options).expect("open");
        let group = node.join("warm", JoinOptions::default()).expect("join");
        let options = SendOptions { kind, safe: false, entry: 1 };
        Member { node, group, options, rank: u16::MAX, own: 0, others: 0, members: 0, begin: Instant::now() }
    }

    fn turn(&mut self) {
        self.node.turn().expect("turn");
        while let Some(event) = self.node.poll_event().expect("poll") {
            match event {
                NodeEvent::Message(message) if message.rank == self.rank => self.own += 1,
                NodeEvent::Message(_) => self.others += 1,
                NodeEvent::View { view, rank, .. } => (self.members, self.rank) = (view.members.len(), rank),
                NodeEvent::Evicted | NodeEvent::Poisoned | NodeEvent::Stalled => panic!("{event:?}"),
                _ => {}
            }
        }
        assert!(self.begin.elapsed() < LIFE, "own {} others {} of {}", self.own, self.others, self.members);
    }

    fn counter(&self, name: &str) -> u64 {
        self.node.counters().iter().find(|(counter, _)| *counter == name).expect("a counter").1
    }

    fn multicast(&mut self) {
        self.node.multicast(self.group, self.options, &[7; 64]).expect("there is room");
    }

    /// Multicasts so many at once, and waits for them and for the answers, so often.
    fn round_trips(&mut self, count: u32, at_once: u32) {
        for _ in 0..count {
            let (own, others) = (self.own + at_once, self.others + at_once);
            (0..at_once).for_each(|_| self.multicast());
            while self.own < own || self.others < others {
                self.turn();
            }
        }
    }
}

fn wait_for_a_word() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("stdin");
}

fn member(directory: &Path, role: &str) {
    let kind = match role.split_once(' ').expect("two words").1 {
        "Total" => Kind::Total,
        "Causal" => Kind::Causal,
        _ => Kind::Fifo,
    };
    let mut it = Member::open(directory, kind);
    while it.members == 0 {
        it.turn();
    }
    say("in");
    while it.members < 2 {
        it.turn();
    }
    if role.starts_with("answers") {
        let mut answered = 0;
        while it.members == 2 {
            it.turn();
            while answered < it.others {
                it.multicast();
                answered += 1;
            }
        }
        return;
    }
    it.round_trips(WARM, 1);
    // What is slow for a moment has more under way: room for that is there as well.
    it.round_trips(WARM / 100, 100);
    // The other one is news to some searches of the directory.
    let spared = it.counter("site_searches_spared");
    while it.counter("site_searches_spared") == spared {
        it.round_trips(1, 1);
    }
    say("warm");
    wait_for_a_word();
    it.round_trips(WARM / 4, 1);
    let parent = trace::mark();
    let allocations = allocation_counter::measure(|| it.round_trips(COUNTED, 1)).count_total;
    assert_eq!(trace::mark(), parent, "nobody waits for this any more");
    say(&format!("allocations {allocations}"));
    wait_for_a_word();
}

fn start(children: &mut Children<String>, directory: &Path, role: &str) -> usize {
    let mut program = Command::new(std::env::current_exe().expect("own path"));
    program.env(DIRECTORY, directory).env(ROLE, role);
    children.start(&mut program).expect("a child")
}

fn hear(children: &mut Children<String>, word: &str) -> String {
    loop {
        let (_, line) = children.hear(LIMIT).expect("lines").unwrap_or_else(|| panic!("\"{word}\" is never said"));
        if line.starts_with(word) {
            return line;
        }
    }
}

/// `false`: processes may not be traced here.
fn case(first: bool, kind: Kind) -> bool {
    let directory = Directory::new("isis-warm-").expect("a directory");
    let mut children = Children::new(str::to_owned);
    let (asks, answers) = (format!("asks {kind:?}"), format!("answers {kind:?}"));
    let roles = if first { [&asks, &answers] } else { [&answers, &asks] };
    for role in roles {
        start(&mut children, directory.path(), role);
        hear(&mut children, "in");
    }
    let asking = usize::from(!first);
    hear(&mut children, "warm");
    let pid = children.get(asking).pid() as i32;
    match trace::attach(pid) {
        Err(error)
            if error.raw_os_error() == Some(libc::EPERM) && std::env::var_os("ISIS_TRACE_REQUIRED").is_none() =>
        {
            return false;
        }
        attached => attached.expect("attach"),
    }
    children.tell(asking, "go").expect("it reads");
    let calls = trace::count(pid).expect("it is traced");
    let allocations = hear(&mut children, "allocations");
    say(&format!("    {COUNTED} round trips: {allocations}; calls by number: {calls:?}"));
    let strange: Vec<_> = calls.iter().filter(|(call, _)| !TRANSPORT.contains(call)).collect();
    assert!(strange.is_empty(), "system calls that are not the transport's, by number: {strange:?}");
    assert!(!calls.is_empty(), "the transport never looks at its sockets: the tracer sees nothing");
    assert_eq!(allocations, "allocations 0");
    true
}

/// As the usual harness: options are taken for none, words for parts of names, `--list` lists.
fn main() -> ExitCode {
    if let (Some(directory), Ok(role)) = (std::env::var_os(DIRECTORY), std::env::var(ROLE)) {
        member(Path::new(&directory), &role);
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = CASES.iter().filter(|(name, ..)| words.is_empty() || words.iter().any(|word| name.contains(*word)));
    if arguments.iter().any(|argument| argument == "--list") {
        chosen.for_each(|(name, ..)| say(&format!("{name}: test")));
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut ignored) = (0, 0);
    for (name, first, kind) in chosen {
        if case(*first, *kind) {
            passed += 1;
            say(&format!("test {name} ... ok"));
        } else {
            ignored += 1;
            say(&format!("test {name} ... ignored: processes may not be traced here"));
        }
    }
    say(&format!("\ntest result: ok. {passed} passed; 0 failed; {ignored} ignored"));
    ExitCode::SUCCESS
}
