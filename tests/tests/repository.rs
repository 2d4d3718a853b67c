//! The repository checks itself: lengths, forbidden words, lints, layers, and documents that say what the code says.
//!
//! Each check counts what it looked at, and fails if that was nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/lib.rs"]
#[allow(unused, missing_docs)]
mod fuzz;

/// A file longer than this holds more than one mechanism.
const MOST_LINES: usize = 700;

/// Files that may be longer, each with the reason.
const LONGER: [(&str, &str); 1] = [("include/isis.h", "made from the sources; one function after the other")];

/// Tests that may be switched off, each with its reason as it stands in the file.
const IGNORED: [(&str, &str); 2] = [
    ("engine/transport/tests/site.rs", "the body of the children of the other tests"),
    ("engine/transport/tests/shared_memory.rs", "the body of the children of the other tests"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a UTF-8 name");
        if path.is_dir() {
            if !matches!(name, "target" | ".git" | "corpus" | "artifacts") {
                walk(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

/// The text files of the project, by their paths in it.
fn files(endings: &[&str]) -> BTreeMap<String, String> {
    let mut paths = Vec::new();
    for folder in ["engine", "ffi", "include", "bench", "tests", "docs", ".ci", ".cargo"] {
        walk(&root().join(folder), &mut paths);
    }
    for entry in fs::read_dir(root()).expect("the workspace") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            paths.push(path);
        }
    }
    let name = |path: &Path| path.strip_prefix(root()).expect("inside").to_str().expect("UTF-8").to_owned();
    let wanted = |name: &str| endings.iter().any(|ending| name.ends_with(ending));
    let found: BTreeMap<String, String> = paths
        .iter()
        .filter(|path| wanted(&name(path)))
        .map(|path| (name(path), fs::read_to_string(path).expect("text")))
        .collect();
    assert!(!found.is_empty(), "no file ends with one of {endings:?}");
    found
}

fn complain(what: &str, list: &[String]) {
    assert!(list.is_empty(), "{what}:\n  {}", list.join("\n  "));
}

#[test]
fn no_file_is_too_long() {
    let files = files(&[".rs", ".c", ".h", ".sh", ".md", ".toml"]);
    let mut long = Vec::new();
    for (name, text) in &files {
        let lines = text.lines().count();
        if lines > MOST_LINES && !LONGER.iter().any(|(longer, _)| longer == name) {
            long.push(format!("{name}: {lines} lines"));
        }
    }
    complain(&format!("files of more than {MOST_LINES} lines"), &long);
    assert!(files.len() > 50);
}

/// Open matters are issues, not marks in the code; and the project stands alone.
#[test]
fn no_forbidden_words() {
    // In two halves, so that this file does not find itself.
    let words: Vec<String> = [
        ("to", "do!("),
        ("unimple", "mented!("),
        ("FIX", "ME"),
        ("TO", "DO"),
        ("XX", "X"),
        ("#[ig", "nore"),
        ("db", "g!("),
        ("/ho", "me/"),
        ("/ro", "ot/"),
        ("/wo", "rk/"),
        ("/tmp/", "wt"),
        ("<<<<", "<<<"),
        (">>>>", ">>>"),
        ("crates.", "io"),
    ]
    .map(|(first, second)| format!("{first}{second}"))
    .into();
    let files = files(&[".rs", ".c", ".h", ".sh", ".md", "Cargo.toml", "config.toml", ".in", "run", ".gitignore"]);
    let mut found = Vec::new();
    for (name, text) in &files {
        for (number, line) in text.lines().enumerate() {
            if IGNORED.iter().any(|(file, reason)| name == file && line.contains(reason)) {
                continue;
            }
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                found.push(format!("{name}:{}: {word}", number + 1));
            }
        }
    }
    complain("words that have no place here", &found);
    assert!(files.len() > 50);
}

/// The manifests of the workspace's crates: folder and text.
fn crates() -> BTreeMap<String, String> {
    let list = read("Cargo.toml");
    let members = list.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("members").0;
    let folders: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(folders.len() >= 8, "{folders:?}");
    folders.into_iter().map(|folder| (folder.to_owned(), read(&format!("{folder}/Cargo.toml")))).collect()
}

/// The lines of one table of a manifest.
fn table<'a>(manifest: &'a str, header: &str) -> Vec<&'a str> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// Every crate has the workspace's lints: by inheritance, or, with more of its own, line by line.
#[test]
fn every_crate_has_the_lints() {
    let workspace = read("Cargo.toml");
    let (rust, clippy) = (table(&workspace, "[workspace.lints.rust]"), table(&workspace, "[workspace.lints.clippy]"));
    assert!(!rust.is_empty() && !clippy.is_empty());
    let mut without = Vec::new();
    for (folder, manifest) in crates() {
        let own_rust = table(&manifest, "[lints.rust]");
        let own_clippy = table(&manifest, "[lints.clippy]");
        let inherits = table(&manifest, "[lints]").contains(&"workspace = true");
        let repeats = rust.iter().all(|l| own_rust.contains(l)) && clippy.iter().all(|l| own_clippy.contains(l));
        if !inherits && !repeats {
            without.push(folder);
        }
    }
    complain("crates without the workspace's lints", &without);
}

/// Unsafe code stands in memory, transport and ffi only; in the one call that makes a network device for the rig; and in what
/// traces a process.
#[test]
fn unsafe_code_is_forbidden_where_it_has_no_place() {
    for library in [
        "engine/wire/src/lib.rs",
        "engine/protocol/src/lib.rs",
        "tests/src/lib.rs",
        "tests/processes/src/lib.rs",
        "tests/fuzz/src/lib.rs",
        "tests/model/src/lib.rs",
    ] {
        assert!(read(library).contains("#![forbid(unsafe_code)]"), "{library} does not forbid unsafe code");
    }
    let marker = ["uns", "afe {"].concat();
    let tests = ["tests/chaos/src/tap.rs", "tests/tests/warm/trace.rs"];
    let may = ["engine/memory/", "engine/transport/", "ffi/", "bench/", tests[0], tests[1]];
    let files = files(&[".rs"]);
    let found: Vec<String> = files
        .iter()
        .filter(|(name, text)| text.contains(&marker) && !may.iter().any(|folder| name.starts_with(folder)))
        .map(|(name, _)| name.clone())
        .collect();
    complain(&marker, &found);
    assert!(files.iter().any(|(name, text)| name.starts_with("engine/memory/") && text.contains(&marker)));
}

/// No layer imports upward.
#[test]
fn layers_import_downward_only() {
    let may: BTreeMap<&str, &[&str]> = [
        ("engine/wire", &[] as &[&str]),
        ("engine/memory", &[]),
        ("engine/protocol", &["isis-wire", "isis-memory"]),
        ("engine/transport", &["isis-wire", "isis-memory"]),
        ("engine/runtime", &["isis-wire", "isis-memory", "isis-protocol", "isis-transport"]),
        ("ffi", &["isis-wire", "isis-memory", "isis-protocol", "isis-runtime"]),
        ("bench", &["isis-wire", "isis-memory", "isis-protocol", "isis-transport", "isis-runtime", "isis-processes"]),
        ("tests", &["isis-wire", "isis-memory", "isis-protocol"]),
        ("tests/processes", &[]),
        ("tests/chaos", &["isis-protocol", "isis-runtime", "isis-tests", "isis-processes"]),
    ]
    .into();
    let mut upward = Vec::new();
    let mut seen = 0;
    for (folder, manifest) in crates() {
        let allowed = may.get(folder.as_str()).unwrap_or_else(|| panic!("{folder} has no place among the layers"));
        for line in table(&manifest, "[dependencies]").iter().filter(|line| line.starts_with("isis-")) {
            let name = line.split(['.', ' ', '=']).next().expect("a name");
            seen += 1;
            if !allowed.contains(&name) {
                upward.push(format!("{folder} imports {name}"));
            }
        }
        let mutants = manifest.contains("\"mutants\"");
        assert!(!mutants || folder == "tests", "{folder} enables the planted bugs");
    }
    complain("imports upward", &upward);
    assert!(seen >= 8, "only {seen} imports");
}

/// The rows of the Markdown table under a heading, as cells without their back-quotes.
fn rows(document: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let rows: Vec<Vec<String>> = text
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "{document} has no table under {heading:?}");
    rows
}

/// What stands between back-quotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The variants of an enum, or of the list of a macro, that begins with `header`.
fn variants(file: &str, header: &str, indent: &str) -> BTreeSet<String> {
    let text = read(file);
    let end = format!("{}}}", &indent[4..]);
    let found: BTreeSet<String> = text
        .lines()
        .skip_while(|line| !line.ends_with(header))
        .skip(1)
        .take_while(|line| *line != end)
        .filter_map(|line| line.strip_prefix(indent))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        .filter_map(|line| line.split(" = ").next().map(str::to_owned))
        .collect();
    assert!(found.len() > 5, "{file} has no {header:?}");
    found
}

fn same(what: &str, documented: &BTreeSet<String>, real: &BTreeSet<String>) {
    let missing: Vec<String> = real.difference(documented).cloned().collect();
    let surplus: Vec<String> = documented.difference(real).cloned().collect();
    complain(&format!("{what} that the document lacks"), &missing);
    complain(&format!("{what} that the code lacks"), &surplus);
}

#[test]
fn the_message_table_names_every_message_and_its_handlers() {
    let core: String =
        files(&[".rs"]).into_iter().filter(|(name, _)| name.starts_with("engine/protocol/src/")).map(|f| f.1).collect();
    let tables = [
        ("## Packet kinds", variants("engine/wire/src/packet.rs", "pub enum PacketKind {", "    ")),
        ("## Messages", variants("engine/wire/src/message.rs", "    Message {", "        ")),
    ];
    for (heading, real) in tables {
        let rows = rows("docs/messages.md", heading);
        let documented = rows.iter().flat_map(|row| quoted(&row[0])).map(str::to_owned).collect();
        same(heading, &documented, &real);
        for row in &rows {
            assert_eq!(row.len(), 4, "{row:?}");
            let handlers = quoted(&row[3]);
            assert!(!handlers.is_empty(), "{} has no handler", row[0]);
            for handler in handlers {
                assert!(core.contains(&format!("fn {handler}(")), "{}: there is no function {handler}", row[0]);
            }
        }
    }
    let frames = rows("docs/messages.md", "## Frames of a stream");
    let documented = frames.iter().flat_map(|row| quoted(&row[0])).map(str::to_owned).collect();
    same("frames", &documented, &variants("engine/wire/src/frame.rs", "pub enum FrameKind {", "    "));
}

/// A size or time as the documents write it, in bytes or nanoseconds.
fn amount(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match &text[digits..] {
        "" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "MiB" => 1 << 20,
        _ => return None,
    };
    Some(text[..digits].parse::<u64>().ok()? * factor)
}

#[test]
fn the_option_table_names_every_option_and_its_default() {
    let text = read("engine/runtime/src/options.rs");
    let names = text.split_once("OPTION_NAMES: [&str; ").expect("OPTION_NAMES").1;
    let names = names.split_once("= [").and_then(|(_, rest)| rest.split_once("];")).expect("a list").0;
    let real: BTreeSet<String> = names.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(real.len() > 20);
    let rows = rows("docs/configuration.md", "# Options");
    let documented: BTreeSet<String> = rows.iter().flat_map(|row| quoted(&row[0])).map(str::to_owned).collect();
    same("options", &documented, &real);

    let options = format!("{:?}", isis_runtime::Options::default());
    let mut compared = 0;
    for row in &rows {
        let name = quoted(&row[0])[0];
        let Some((_, rest)) = options.split_once(&format!(" {name}: ")) else { continue };
        let value: String = rest.chars().take_while(char::is_ascii_digit).collect();
        // `seed` and `seeds` are given to each process.
        if let (Ok(value), Some(default)) = (value.parse::<u64>(), quoted(&row[1]).first().and_then(|d| amount(d))) {
            assert_eq!(value, default, "the default of {name}");
            compared += 1;
        }
    }
    assert!(compared >= 16, "only {compared} defaults were compared");
}

#[test]
fn the_guarantees_name_functions_and_tests_that_exist() {
    let rows = rows("docs/guarantees.md", "# The guarantees, as the trace checker verifies them");
    let numbers: Vec<usize> = rows.iter().map(|row| row[0].parse().expect("a number")).collect();
    assert_eq!(numbers, (1..=26).collect::<Vec<_>>());
    let doctored = read("tests/src/checker/doctored.rs");
    for row in &rows {
        let (module, function) = quoted(&row[2])[0].split_once("::").expect("module::function");
        let checker = read(&format!("tests/src/checker/{module}.rs"));
        assert!(checker.contains(&format!("fn {function}(")), "{}: no {module}::{function}", row[0]);
        let test = quoted(&row[3])[0];
        assert!(doctored.contains(&format!("fn {test}(")), "{}: no test {test}", row[0]);
    }
}

/// The table of planted bugs is what `isis-sim --list-mutants --markdown` prints.
#[test]
fn the_table_of_planted_bugs_is_the_printed_one() {
    let text = read("docs/verification.md");
    let section = text.split_once("## Planted bugs\n").expect("a section").1;
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let table: String = section.lines().filter(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect();
    assert!(table.lines().count() > 25, "only {} lines", table.lines().count());
    assert_eq!(table, isis_tests::mutants::markdown(), "docs/verification.md, Planted bugs");
}

/// The reader's first program is one that is compiled and run.
#[test]
fn the_readme_has_the_tested_program() {
    let readme = read("README.md");
    let copy = readme.split_once("```c\n").and_then(|(_, rest)| rest.split_once("```")).expect("a C program").0;
    assert_eq!(copy, read("tests/c/hello.c"), "README.md and tests/c/hello.c differ");
    assert!(copy.lines().count() > 20);
    let first: Vec<&str> = readme.lines().skip_while(|line| *line != "```sh").skip(1).take(2).collect();
    assert!(first[0].starts_with("cargo demo") && first[1].starts_with("cargo test"), "{first:?}");
}

/// Links inside the project lead somewhere.
#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for (name, text) in files(&[".md"]) {
        let folder = root().join(&name).parent().expect("a folder").to_owned();
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#']).next().expect("a link");
            if target.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            assert!(folder.join(target).exists(), "{name}: {target} does not exist");
        }
    }
    assert!(links > 10, "only {links} links");
}

/// What fuzzing starts from, and what it found, does no harm any more. A made-up script a target.
#[test]
fn the_fuzzing_corpus_is_survived() {
    for (target, run) in fuzz::TARGETS {
        assert!(root().join(format!("tests/fuzz/targets/{target}.rs")).exists(), "{target} has no program");
        let mut inputs = 0;
        for entry in fs::read_dir(root().join("tests/fuzz/corpus").join(target)).expect("a corpus") {
            run(&fs::read(entry.expect("an entry").path()).expect("an input"));
            inputs += 1;
        }
        assert!(inputs > 0, "{target} has no corpus");
        for (_, seed) in fuzz::seeds(target) {
            run(&seed);
        }
    }
}

/// The seeds have a message of every kind.
#[test]
fn the_fuzzing_seeds_have_every_message() {
    let real = variants("engine/wire/src/message.rs", "    Message {", "        ");
    let seeds: BTreeSet<String> = fuzz::seeds("message").into_iter().map(|(name, _)| name).collect();
    let missing: Vec<String> = real.into_iter().filter(|name| !seeds.contains(&name.to_lowercase())).collect();
    complain("messages without a seed", &missing);
}
