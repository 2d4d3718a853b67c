//! The C ABI: `libisis.so`, `libisis.a`, `include/isis.h`.
//!
//! One file per noun of the C API. Read [`error`], [`table`] (handles) and [`boundary`] first: every call goes through
//! them. Then [`options`], [`instance`] (open, close), [`group`] (join, leave), [`state`] (state transfer), [`view`],
//! [`send`], [`claim`], [`message`], [`entry`] (callbacks), [`dispatch`] (from the node's events to callbacks), [`poll`]
//! (the loop), [`sender`] (further threads), [`stats`].
//!
//! Doc comments of exported items become the header's. The header is checked in; `tests/header.rs` compares it.
//!
//! Safety: the functions are `unsafe` because C hands in pointers. The contract, the same for all, is in [`boundary`].
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

// In the order in which the header shows them.
pub mod version;

pub mod error;

pub mod options;

pub mod instance;

pub mod group;

pub mod state;

pub mod view;

pub mod send;

pub mod claim;

pub mod message;

pub mod entry;

pub mod poll;

pub mod sender;

pub mod stats;

// What no C program sees.
pub mod boundary;
pub mod dispatch;
pub mod table;

// Handles carry 40 bits of generation, 16 of index and 4 of kind, in the value of a pointer.
const _: () = assert!(usize::BITS == 64);
