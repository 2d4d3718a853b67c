//! Planted bugs of the engine, compiled in only for this crate (`mutants` is a feature of isis-protocol that no other
//! crate enables): how the tests and `isis-sim` name them and switch them on.

pub use isis_protocol::mutants::{ALL, Mutant, Planted, by_name};

/// A bug that is on for this thread until this is dropped, also by a panic.
#[derive(Debug)]
pub struct Switched(());

impl Switched {
    /// Switches a bug on.
    pub fn on(mutant: Mutant) -> Switched {
        isis_protocol::mutants::set(Some(mutant));
        Switched(())
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        isis_protocol::mutants::set(None);
    }
}
