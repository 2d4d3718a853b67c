//! The library has no planted bug in it, as it is built for others: alone, with `-p isis-ffi`. In a plain workspace build
//! cargo would unite its features with those that only these tests enable.

use isis_processes::library::{self, workspace};
use isis_tests::mutants;
use std::process::Command;

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The names of the planted bugs, which `isis-sim` knows, are not in libisis.so.
#[test]
fn the_library_knows_no_planted_bug() {
    let directory = library::build().expect("libisis.so");
    let library = std::fs::read(directory.join("libisis.so")).expect("libisis.so");
    let simulator = std::fs::read(env!("CARGO_BIN_EXE_isis-sim")).expect("isis-sim");
    assert!(contains(&library, "isis_open"), "this is not the library");
    assert!(mutants::ALL.len() >= 6);
    for planted in mutants::ALL {
        assert!(contains(&simulator, planted.name), "{}: the search would find nothing anywhere", planted.name);
        assert!(!contains(&library, planted.name), "{} is in the library", planted.name);
    }
}

/// Nor would the bug's code be there without its name: of the features of isis-protocol the library enables none.
#[test]
fn the_library_enables_no_mutants() {
    let features = |package: &str| {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--locked", "-e", "features", "-p", package])
            .current_dir(workspace())
            .output()
            .expect("cargo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).expect("text");
        assert!(tree.contains("isis-protocol"), "{tree}");
        tree
    };
    let with = "isis-protocol feature \"mutants\"";
    assert!(features("isis-tests").contains(with));
    assert!(!features("isis-ffi").contains(with));
}
