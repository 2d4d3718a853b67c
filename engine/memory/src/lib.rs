//! Memory shared by the layers above, and between threads. The lowest crate that may hold `unsafe`.
//!
//! Read in this order: [`region`] (the chunks that streams live in), [`ring`] (records from one thread to one other),
//! [`doorbell`] and [`wake`] (waking that other thread only when it sleeps), [`broadcast`] (records from one process to many)
//! [`arena`] (chunks that other processes read where they lie) and [`sealed`] (the memory that those share; `words` copies into
//! and out of it), [`slot`] (what a handle stands for),
//! [`fork`] (noticing a forked child).
//! [`sync`] is the one place that names atomics, so that loom can replace them:
//! `RUSTFLAGS="--cfg loom" cargo test -p isis-memory -p isis-runtime --release --lib` explores all their interleavings.

pub mod arena;
pub mod broadcast;
pub mod doorbell;
pub mod fork;
pub mod region;
pub mod ring;
#[cfg_attr(loom, path = "sealed_model.rs")]
pub mod sealed;
pub mod slot;
pub mod sync;
pub mod wake;
mod words;

pub use arena::{Arena, Neighbour, Place};
pub use broadcast::{BroadcastReader, BroadcastWriter, Read};
pub use doorbell::Doorbell;
pub use fork::ForkMark;
pub use region::{CHUNK_SIZE, ChunkIndex, RUN, Region};
pub use ring::{Consumer, NoRoom, Producer, ring};
pub use sealed::SealedMemory;
pub use slot::Slot;
pub use wake::WakeState;
