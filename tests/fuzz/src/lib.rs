//! What is fuzzed: one function per target, from arbitrary bytes to a panic or none. The targets in `targets/` hand the
//! bytes of the fuzzer over, `cargo test` those of the corpus.
#![forbid(unsafe_code)]

mod hostile;
mod parsers;
mod seeds;
mod world;

pub use parsers::{frame, message, packet, row};
pub use seeds::seeds;
pub use world::endpoint;

/// A target: takes bytes, panics if something is wrong.
pub type Target = fn(&[u8]);

/// All targets by name. Each has a file in `targets/` and a folder in `corpus/`.
pub const TARGETS: [(&str, Target); 5] =
    [("packet", packet), ("frame", frame), ("row", row), ("message", message), ("endpoint", endpoint)];
