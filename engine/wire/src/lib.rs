//! Packet and frame codecs.
#![forbid(unsafe_code)]

pub mod address;

pub use address::Address;
