//! Simulator, trace checker and scenarios: how the engine is shown to keep its word.
//!
//! - [`trace`]: what the processes of a run did and saw.
//! - [`journal`]: the trace of a real process, in a file.
//! - [`checker`]: the guarantees, one function each, over a trace and nothing else.
//! - [`sim`]: whole systems of endpoints in virtual time, under seeded faults.
//! - [`scenario`]: the same world under a script, for schedules with a name.
//! - [`net`]: network namespaces as hosts, for tests with real processes on real interfaces.
//! - [`mutants`]: planted bugs of the engine, which the checker has to catch.
#![forbid(unsafe_code)]

pub mod checker;
pub mod journal;
pub mod mutants;
pub mod net;
pub mod scenario;
pub mod sim;
pub mod trace;
