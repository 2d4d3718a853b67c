//! `sealed` under loom, which models threads and knows no memory that processes share: refused, as where the system has none.
//! The log itself is modelled over the heap (`broadcast`).

use crate::broadcast::Words;
use crate::sync::AtomicU64;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// There is none.
#[derive(Debug)]
pub enum SealedMemory {}

impl SealedMemory {
    /// An error of kind `Unsupported`.
    pub fn create(_words: usize) -> io::Result<(SealedMemory, OwnedFd)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// An error of kind `Unsupported`.
    pub fn open(_fd: BorrowedFd<'_>, _words: usize) -> io::Result<SealedMemory> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Words for SealedMemory {
    fn words(&self) -> &[AtomicU64] {
        match *self {}
    }
}
