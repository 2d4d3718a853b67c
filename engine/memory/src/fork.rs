//! Notices that this is a forked child of the process that made the mark, without a system call per look.
//!
//! A page that the kernel wipes in a child (`MADV_WIPEONFORK`) holds a 1; a child reads 0. Where the kernel cannot do that
//! the process number is compared instead.
//!
//! Owner: a node and its senders, one mark each.

use std::ptr::NonNull;

const PAGE: usize = 4096;

/// Made in one process; tells whether it is looked at in that one.
#[derive(Debug)]
pub struct ForkMark {
    page: Option<NonNull<u8>>,
    process: u32,
}

// SAFETY: the page is only read after construction.
unsafe impl Send for ForkMark {}
// SAFETY: as above.
unsafe impl Sync for ForkMark {}

impl Default for ForkMark {
    fn default() -> ForkMark {
        ForkMark::new()
    }
}

impl ForkMark {
    /// A mark of this process.
    pub fn new() -> ForkMark {
        ForkMark { page: wiped_page(), process: std::process::id() }
    }

    /// Whether this is a forked child.
    pub fn in_child(&self) -> bool {
        match self.page {
            // SAFETY: the page is mapped and readable as long as `self` lives. Volatile: the kernel changes it behind the
            // compiler's back.
            Some(page) => unsafe { page.as_ptr().read_volatile() == 0 },
            None => std::process::id() != self.process,
        }
    }
}

impl Drop for ForkMark {
    fn drop(&mut self) {
        if let Some(page) = self.page {
            // SAFETY: our own mapping, of this size; a child has its own copy of it.
            unsafe { libc::munmap(page.as_ptr().cast(), PAGE) };
        }
    }
}

fn wiped_page() -> Option<NonNull<u8>> {
    // SAFETY: a fresh anonymous mapping touches no existing memory.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: advice on our own mapping, which is private and anonymous as WIPEONFORK demands.
    if unsafe { libc::madvise(page, PAGE, libc::MADV_WIPEONFORK) } != 0 {
        // SAFETY: the mapping is ours and not used.
        unsafe { libc::munmap(page, PAGE) };
        return None;
    }
    // SAFETY: the page is mapped and writable.
    unsafe { page.cast::<u8>().write_volatile(1) };
    NonNull::new(page.cast())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_a_child_is_in_the_child() {
        let mark = ForkMark::new();
        assert!(!mark.in_child());
        // SAFETY: the child only reads memory and ends at once, without running anything of the test harness.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = i32::from(mark.in_child());
            // SAFETY: ends the child.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 1);
        assert!(!mark.in_child());
    }
}
