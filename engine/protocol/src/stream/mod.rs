//! Streams: what a member says to a group in one view, as a byte log addressed by position ([BSS91] has messages; the
//! idea of positions is Aeron's). Read [`chunks`], then [`log`] (the sender's side), then [`image`] (a receiver's copy), then
//! [`inbox`] and [`batch`] (messages).
//!
//! Positions are multiples of 8, start at 0 in each view, and only grow. Repair, batching, flow control and stability
//! are statements about ranges of positions.

pub mod batch;
pub mod chunks;
pub mod image;
pub mod inbox;
pub mod log;

pub use batch::{Batch, Queued};
pub use chunks::{Chunks, goes_on};
pub use image::Image;
pub use inbox::Inbox;
pub use log::Log;
