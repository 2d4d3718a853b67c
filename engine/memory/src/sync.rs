//! The one door to atomics, and to locks beside them: the standard library's, or loom's model of them under `cfg(loom)`.
//!
//! Every Release store and Acquire load in this workspace says in a comment which one of the other kind it pairs with.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::{Arc, Mutex};

#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::{Arc, Mutex};

/// Keeps its content on cache lines of its own (two: the adjacent-line prefetcher works on pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub T);
