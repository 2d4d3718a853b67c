//! C programs against `include/isis.h` and `libisis.so`, each compiled by the system's compiler and run by itself.
//!
//! The library is built here, alone (`cargo build -p isis-ffi`), in the profile of this test: a workspace build would
//! unite its features with those that only tests may have. These variables change that, for sanitizers and valgrind:
//!
//! - `ISIS_TEST_LIBRARY_DIR`: link the libisis.so of this directory, and build nothing.
//! - `ISIS_TEST_CFLAGS`: more flags for the compiler.
//! - `ISIS_TEST_RUNNER`: a command to run the programs by.
//! - `ISIS_TEST_CATCHES`: what that watcher says of a read beyond a buffer; it is tried.
//! - `ISIS_TEST_SLOW`: a factor for time limits.

use isis_processes::library::{self, workspace};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

fn words(variable: &str) -> Vec<String> {
    std::env::var(variable).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Where libisis.so is, built if need be.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = LIBRARY.get_or_init(|| {
        if let Some(directory) = std::env::var_os("ISIS_TEST_LIBRARY_DIR") {
            return Ok(directory.into());
        }
        library::build()
    });
    match built {
        Ok(directory) => directory,
        Err(why) => panic!("libisis does not build: {why}"),
    }
}

/// Compiles tests/c/<name>.c.
fn compile(name: &str) -> PathBuf {
    // Tests run at the same time, and two may compile the same program.
    static COMPILED: AtomicUsize = AtomicUsize::new(0);
    let number = COMPILED.fetch_add(1, Ordering::Relaxed);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("c-{name}-{}-{number}", std::process::id()));
    let source = workspace().join("tests/c").join(format!("{name}.c"));
    let more = words("ISIS_TEST_CFLAGS");
    let flags: Vec<&str> =
        ["-std=c11", "-O1", "-g", "-pedantic", "-pthread"].into_iter().chain(more.iter().map(String::as_str)).collect();
    library::compile(library(), &source, &flags, &program).unwrap_or_else(|error| panic!("{name}.c: {error}"));
    program
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Compiles and runs a program in a directory of its own; gives what it printed.
fn run(name: &str, arguments: &[&str]) -> String {
    run_with(name, arguments, &[])
}

fn run_with(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = execute(name, arguments, environment);
    let printed = text(&output);
    assert!(output.status.success(), "{name} {arguments:?}: {}\n{printed}", output.status);
    #[allow(clippy::print_stdout)] // what the program measured, for those who run this with --nocapture
    {
        println!("{printed}");
    }
    printed
}

fn execute(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let program = compile(name);
    let site = tempfile::Builder::new()
        .prefix("isis-c-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .expect("a directory");
    let mut command = words("ISIS_TEST_RUNNER");
    command.push(program.to_str().expect("a UTF-8 path").to_owned());
    let output = Command::new(&command[0])
        .args(&command[1..])
        .args(arguments)
        .envs(environment.iter().copied())
        .env("ISIS_RUNTIME_DIR", site.path())
        .output()
        .expect("run the program");
    std::fs::remove_file(&program).expect("remove the program");
    output
}

/// Runs a program that reports its checks, at least `least` of them.
fn checks(name: &str, arguments: &[&str], least: u64) {
    let printed = run(name, arguments);
    let count =
        printed.lines().filter_map(|line| line.strip_suffix(" checks")?.rsplit(' ').next()?.parse::<u64>().ok());
    let count: u64 = count.sum();
    assert!(count >= least, "{name} made {count} checks, not {least}");
}

/// Under a sanitizer or valgrind: shows that it watches what the library reads.
#[test]
fn a_planted_over_read_is_caught() {
    let Ok(word) = std::env::var("ISIS_TEST_CATCHES") else { return };
    let output = execute("overread", &[], &[]);
    assert!(!output.status.success() && text(&output).contains(&word), "not caught: {}", text(&output));
}

#[test]
fn only_isis_names_are_exported() {
    let output =
        Command::new("nm").args(["-D", "--defined-only"]).arg(library().join("libisis.so")).output().expect("nm");
    let names: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().last().map(str::to_owned))
        .filter(|name| !name.starts_with("__asan") && !name.starts_with("__odr_asan"))
        .collect();
    let strangers: Vec<&String> = names.iter().filter(|name| !name.starts_with("isis_")).collect();
    assert!(strangers.is_empty(), "exported too: {strangers:?}");
    for function in functions_of_the_header() {
        assert!(names.contains(&function), "{function} is in the header, but not in the library");
    }
    assert_eq!(names.len(), functions_of_the_header().len(), "the library exports what the header does not have");
}

/// Every name in the header that is declared as a function.
fn functions_of_the_header() -> Vec<String> {
    let header = std::fs::read_to_string(workspace().join("include/isis.h")).expect("isis.h");
    let mut functions = Vec::new();
    for line in header.lines().filter(|line| !line.starts_with([' ', '#', '/', '}']) && !line.starts_with("typedef")) {
        let Some((before, _)) = line.split_once('(') else { continue };
        let name = before.rsplit([' ', '*']).next().expect("a last word");
        functions.push(name.to_owned());
    }
    assert!(functions.len() > 50, "the header was not understood: {functions:?}");
    functions
}

/// What bench/pgo.sh trains with.
#[test]
fn load_counts_what_comes() {
    for mode in ["inline", "threaded"] {
        let printed = run_with("load", &["1", "0.2", "1000"], &[("ISIS_MODE", mode)]);
        let (rate, count) = printed.trim().split_once(" million/s, ").expect("a rate and a count");
        let count = count.strip_suffix(" messages").and_then(|count| count.parse::<u64>().ok());
        assert!(rate.parse::<f64>().is_ok() && count.is_some_and(|count| count > 0), "{mode}: {printed}");
    }
    assert!(!execute("load", &["1", "0.2", "0"], &[]).status.success(), "messages of no bytes");
}

#[test]
fn bad_input_tries_every_entry_point() {
    let program = std::fs::read_to_string(workspace().join("tests/c/bad_input.c")).expect("bad_input.c");
    let missing: Vec<String> =
        functions_of_the_header().into_iter().filter(|name| !program.contains(&format!("{name}("))).collect();
    // The two whose function is hidden behind a macro are called in parentheses.
    let missing: Vec<&String> = missing.iter().filter(|name| !program.contains(&format!("({name})("))).collect();
    assert!(missing.is_empty(), "bad_input.c does not try {missing:?}");
}

#[test]
fn bad_input_without_an_instance() {
    checks("bad_input", &[], 50_000);
}

#[test]
fn bad_input_inline() {
    checks("bad_input", &["inline"], 50_000);
}

#[test]
fn bad_input_threaded() {
    checks("bad_input", &["threaded"], 50_000);
}

#[test]
fn options() {
    checks("options", &[], 20);
}

#[test]
fn single_inline() {
    checks("single", &["inline"], 900);
}

#[test]
fn single_threaded() {
    checks("single", &["threaded"], 900);
}

#[test]
fn messages_taken_together_inline() {
    checks("batch", &["inline"], 20_000);
}

#[test]
fn messages_taken_together_threaded() {
    checks("batch", &["threaded"], 20_000);
}

#[test]
fn senders_of_four_threads() {
    checks("threads", &[], 20_000);
}

#[test]
fn members_inline() {
    checks("members", &["inline", "500"], 50);
}

#[test]
fn members_threaded() {
    checks("members", &["threaded", "500"], 50);
}

/// The same in a group that orders by priorities.
#[test]
fn members_inline_by_priorities() {
    checks("members", &["inline", "500", "priority"], 50);
}

/// See `members_inline_by_priorities`.
#[test]
fn members_threaded_by_priorities() {
    checks("members", &["threaded", "500", "priority"], 50);
}

/// The same with datagrams lost, doubled and delayed.
#[test]
fn members_over_a_bad_network() {
    let faults = [("ISIS_FAULTS", "drop=5,dup=2,delay_ms=1,seed=7")];
    run_with("members", &["inline", "200"], &faults);
    run_with("members", &["threaded", "200"], &faults);
    run_with("members", &["inline", "200", "priority"], &faults);
}

/// A client multicasts while every member that may be its relay is killed, one after the other; then a client is killed, and
/// at last all members of a client's group.
#[test]
fn clients_inline() {
    checks("clients", &["inline"], 50);
}

/// The same with a thread for each engine.
#[test]
fn clients_threaded() {
    checks("clients", &["threaded"], 50);
}

/// ABCASTs to two groups, one member of both being killed in the midst of them.
#[test]
fn several_groups_inline() {
    checks("groups", &["inline", "200"], 100);
}

/// The same with a thread for each engine.
#[test]
fn several_groups_threaded() {
    checks("groups", &["threaded", "100"], 100);
}

/// The same with datagrams lost, doubled and delayed.
#[test]
fn several_groups_over_a_bad_network() {
    let faults = [("ISIS_FAULTS", "drop=5,dup=2,delay_ms=1,seed=7")];
    run_with("groups", &["inline", "50"], &faults);
    run_with("groups", &["threaded", "50"], &faults);
}

/// A hung process of the host: waited for and named, killed by consent, not killed without.
#[test]
fn a_hung_process() {
    for mode in ["inline", "threaded"] {
        for (trial, least) in [("wait", 30), ("kill", 20), ("refused", 30)] {
            checks("hang", &[mode, trial], least);
        }
    }
}

#[test]
fn hello_greets_itself() {
    let printed = run("hello", &[]);
    assert!(printed.contains("1 members, 1 new, 0 gone; my rank is 0"), "{printed}");
    assert!(printed.contains("hello, says member 0"), "{printed}");
}
