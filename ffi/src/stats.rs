//! Named counters.

use crate::boundary::{self, Output, on_instance};
use crate::error::{self, ISIS_OK, fail};
use crate::instance::{Instance, isis_t};
use std::ffi::{CString, c_char};
use std::sync::Mutex;

/// A counter.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isis_stat_t {
    /// Its name, NUL-terminated. A constant: it may be kept.
    pub name: *const c_char,
    /// Its value.
    pub value: u64,
}

/// The names as C strings: as many as there are counters in the library, made once and kept for good.
static NAMES: Mutex<Vec<(&'static str, CString)>> = Mutex::new(Vec::new());

fn c_name(name: &'static str) -> *const c_char {
    let mut names = NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // The list never gives a string up, and moving a CString does not move its bytes.
    if let Some((_, known)) = names.iter().find(|(known, _)| *known == name) {
        return known.as_ptr();
    }
    let made = CString::new(name).unwrap_or_default();
    let pointer = made.as_ptr();
    names.push((name, made));
    pointer
}

impl Instance {
    /// The node's counters, then the binding's.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.node().counters();
        counters.push(("callbacks", self.dispatched.get()));
        counters.push(("messages_without_entry", self.without_entry.get()));
        counters.push(("held_bytes", self.held_bytes.get()));
        counters
    }
}

/// Writes the first `capacity` counters to `stats` and returns how many there are: the order does not change while the
/// handle is open. `stats` may be NULL if `capacity` is 0.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_stats(isis: *mut isis_t, stats: *mut isis_stat_t, capacity: u32) -> i32 {
    on_instance(isis, |instance| {
        if capacity > 0 {
            Output::new(stats, "stats")?;
        }
        let counters = instance.counters();
        for (index, (name, value)) in counters.iter().take(capacity as usize).enumerate() {
            // SAFETY: not NULL, aligned, and `capacity` long by the pointer contract.
            unsafe { stats.add(index).write(isis_stat_t { name: c_name(name), value: *value }) };
        }
        Ok(counters.len() as i32)
    })
}

/// The value of the counter of this name.
///
/// Errors: ISIS_EHANDLE, ISIS_ETHREAD, ISIS_EFORKED, ISIS_EPOISONED, ISIS_EINVAL, ISIS_ERANGE (no such counter).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_stats_value(isis: *mut isis_t, name: *const c_char, value: *mut u64) -> i32 {
    on_instance(isis, |instance| {
        let output = Output::new(value, "value")?;
        // SAFETY: the pointer contract.
        let name = unsafe { boundary::text(name, "name")? };
        let found = instance.counters().into_iter().find(|(known, _)| *known == name);
        let (_, value) = found.ok_or_else(|| fail(error::ISIS_ERANGE, format_args!("no counter `{name}`")))?;
        output.set(value);
        Ok(ISIS_OK)
    })
}
