//! Sixteen real processes in one group on this host, over the program's own command: what they saw is checked for all
//! guarantees, and what they send when quiet is bounded (`docs/verification.md`, "Large groups of real processes").

use std::process::Command;

#[test]
fn sixteen_processes_are_a_group_survive_one_and_are_quiet_when_quiet() {
    let output = Command::new(env!("CARGO_BIN_EXE_isis-chaos"))
        .args(["crowd", "--members", "16"])
        .output()
        .expect("the program of this package");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("quiet: ") && !said.contains("deliveries: 0"), "it showed nothing: {said}");
}
