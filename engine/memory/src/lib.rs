//! Memory shared by the layers above: the region of chunks that streams live in.
//!
//! See [`region::Region`].

pub mod region;

pub use region::{CHUNK_SIZE, ChunkIndex, Region};
