//! Memory that one process writes and others may only read: a sealed memfd.
//!
//! No name in any file system: nothing is left behind when all its processes are gone, and the size of /dev/shm does not
//! matter. The seals say that nobody, not even the writer, can make it shorter or longer (a reader is never hit by SIGBUS)
//! and that nobody who gets the descriptor can map it for writing or write to it; the writer's own mapping was made before.
//!
//! A forked child does not inherit the mapping: it cannot write into what its parent's peers read, or see what is written there
//! when its parent has stopped reading.
//!
//! Owner: whoever holds the [`SealedMemory`]; unmapped on drop. The words live as long as it does.

use crate::broadcast::Words;
use crate::sync::AtomicU64;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

/// What every one of these memories is sealed with.
const SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL;

/// Words mapped from a sealed memfd.
#[derive(Debug)]
pub struct SealedMemory {
    base: NonNull<AtomicU64>,
    words: usize,
    process: u32,
}

// SAFETY: the mapping belongs to this value; its words are atomics, and nothing of it is bound to a thread.
unsafe impl Send for SealedMemory {}
// SAFETY: through `&SealedMemory` there are only atomics.
unsafe impl Sync for SealedMemory {}

impl SealedMemory {
    /// New memory of so many words, all zero, for this process to write: the mapping, and the descriptor to hand over.
    /// Pages are taken as they are touched.
    pub fn create(words: usize) -> io::Result<(SealedMemory, OwnedFd)> {
        let bytes = libc::off_t::try_from(words * 8).map_err(|_| io::ErrorKind::InvalidInput)?;
        // Without MFD_NOEXEC_SEAL the kernel complains in its log; before Linux 6.3 it does not know it.
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        let fd = memfd(flags | libc::MFD_NOEXEC_SEAL).or_else(|_| memfd(flags))?;
        // SAFETY: plain calls on a descriptor that is open.
        check(unsafe { libc::ftruncate(fd.as_raw_fd(), bytes) })?;
        let memory = SealedMemory::map(fd.as_raw_fd(), words, libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: as above.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, SEALS) })?;
        Ok((memory, fd))
    }

    /// Another process's memory, for reading. An error of kind `InvalidData`: it is not sealed, or not of so many words.
    pub fn open(fd: BorrowedFd<'_>, words: usize) -> io::Result<SealedMemory> {
        // SAFETY: a plain call on a descriptor that is open. What is no memfd has no seals: an error.
        let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
        check(seals)?;
        // SAFETY: a structure of integers, for which all zeroes are valid.
        let mut status: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `status` is a place for the answer that outlives the call.
        check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut status) })?;
        if seals & SEALS != SEALS || usize::try_from(status.st_size).ok() != words.checked_mul(8) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        SealedMemory::map(fd.as_raw_fd(), words, libc::PROT_READ)
    }

    fn map(fd: libc::c_int, words: usize, protection: libc::c_int) -> io::Result<SealedMemory> {
        let bytes = words.checked_mul(8).filter(|bytes| *bytes > 0).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the system's choice touches no existing memory.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapping at address 0"))?;
        let memory = SealedMemory { base, words, process: std::process::id() };
        // SAFETY: the range is the mapping just made.
        check(unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_DONTFORK) })?;
        Ok(memory)
    }
}

impl Words for SealedMemory {
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has so many words, is aligned to a page, filled by the system, and lives as long as `self`; its
        // length is sealed. Others change the words at any time: they are atomics. A read-only mapping is only loaded from,
        // with relaxed loads of a word, which the atomics' documentation allows.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for SealedMemory {
    fn drop(&mut self) {
        // A forked child never had the mapping; something else may be there.
        if self.process == std::process::id() {
            // SAFETY: the range is this value's own mapping, and no reference into it outlives `self`.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.words * 8) };
        }
    }
}

fn memfd(flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string.
    let fd = check(unsafe { libc::memfd_create(c"isis".as_ptr(), flags) })?;
    // SAFETY: the kernel made this descriptor for the caller, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Ordering;
    use std::os::fd::AsFd;

    #[test]
    fn what_the_writer_stores_the_reader_sees() {
        let (writer, fd) = SealedMemory::create(1024).expect("a memfd");
        let reader = SealedMemory::open(fd.as_fd(), 1024).expect("sealed memory");
        writer.words()[1023].store(7, Ordering::Relaxed);
        assert_eq!(reader.words()[1023].load(Ordering::Relaxed), 7);
        drop(writer);
        assert_eq!(reader.words()[1023].load(Ordering::Relaxed), 7, "it outlives its writer");
    }

    #[test]
    fn nobody_else_can_write_it_or_change_its_length() {
        let (_writer, fd) = SealedMemory::create(1024).expect("a memfd");
        let raw = fd.as_raw_fd();
        let refused = |result: libc::c_int| (result < 0).then(|| io::Error::last_os_error().raw_os_error());
        // SAFETY: plain calls on an open descriptor.
        unsafe {
            assert_eq!(refused(libc::ftruncate(raw, 0)), Some(Some(libc::EPERM)), "shorter");
            assert_eq!(refused(libc::ftruncate(raw, 1 << 20)), Some(Some(libc::EPERM)), "longer");
            assert_eq!(refused(libc::write(raw, [1_u8].as_ptr().cast(), 1) as _), Some(Some(libc::EPERM)), "write");
            assert_eq!(refused(libc::fcntl(raw, libc::F_ADD_SEALS, 0)), Some(Some(libc::EPERM)), "other seals");
        }
        let mapped = SealedMemory::map(raw, 1024, libc::PROT_READ | libc::PROT_WRITE);
        assert_eq!(mapped.expect_err("mapped for writing").raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn what_is_not_sealed_or_of_another_length_is_not_mapped() {
        let (_writer, fd) = SealedMemory::create(1024).expect("a memfd");
        for words in [0, 1, 1023, 1025, usize::MAX] {
            assert!(SealedMemory::open(fd.as_fd(), words).is_err(), "{words} words");
        }
        let open = memfd(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING).expect("a memfd");
        // SAFETY: a plain call on an open descriptor.
        check(unsafe { libc::ftruncate(open.as_raw_fd(), 8 * 1024) }).expect("a length");
        assert!(SealedMemory::open(open.as_fd(), 1024).is_err(), "its owner could cut it");
        let file = std::fs::File::open("/proc/self/exe").expect("a file");
        assert!(SealedMemory::open(file.as_fd(), 1024).is_err(), "a file");
    }

    /// The child would die of it; that it does shows that it has no mapping.
    #[test]
    fn a_forked_child_has_no_part_in_it() {
        let (writer, _fd) = SealedMemory::create(1024).expect("a memfd");
        let word = &writer.words()[0];
        // SAFETY: the child calls nothing but what is safe after a fork: a store, and `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: the default action for a bad access, and a way out that runs nothing of the parent's.
            unsafe {
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                word.store(1, Ordering::Relaxed);
                libc::_exit(0);
            }
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "status {status}");
        assert_eq!(word.load(Ordering::Relaxed), 0);
    }
}
