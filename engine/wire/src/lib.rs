//! Packet and frame codecs of ISIS. Read in this order: [`codec`] (checked reading and writing of plain values),
//! [`packet`] (what a datagram is), [`frame`] (what a stream is made of), [`row`], [`digest`] (rows of large views), [`message`]
//! (view changes and the rest), [`founding`], [`channel`] (what goes from one process to another), [`client`], [`multi`]
//! (ABCASTs to several groups).
//!
//! Every parser takes bytes from strangers: it checks each count and length before it computes with it, never panics
//! and never allocates more than the input could fill.
#![forbid(unsafe_code)]

pub mod address;
pub mod channel;
pub mod client;
pub mod codec;
pub mod digest;
pub mod founding;
pub mod frame;
pub mod id;
pub mod message;
pub mod multi;
pub mod packet;
pub mod row;

pub use address::Address;
pub use codec::{DecodeError, Reader, Writer};
