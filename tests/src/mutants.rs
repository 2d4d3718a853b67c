//! Planted bugs of the engine, compiled in only for this crate (`mutants` is a feature of isis-protocol that no other
//! crate enables). The one place that knows how they are named and switched on.

/// The planted bugs: name, and the property that each violates.
pub fn list() -> &'static [(&'static str, &'static str)] {
    &[]
}

/// Switches one on for this thread; false if there is none of this name.
pub fn set(name: &str) -> bool {
    list().iter().any(|m| m.0 == name)
}
