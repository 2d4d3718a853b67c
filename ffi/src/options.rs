//! Options: what can be set before `isis_open`.
//!
//! The C struct is plain memory of the caller's: it keeps the settings as text, `name=value` lines, in the order in
//! which they were made. Each was checked when it was set; `isis_open` applies them again, to the runtime's options.

use crate::boundary::{self, Output};
use crate::error::{self, Failure, ISIS_OK, fail};
use isis_runtime::Options;
use isis_runtime::options::{OPTION_NAMES, OptionError};
use std::ffi::c_char;
use std::path::Path;

/// Room for settings in isis_options_t.
pub const ISIS_OPTIONS_ROOM: usize = 8_176;

/// Options of isis_open. Fill it with isis_options_init; it owns nothing and may be copied.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isis_options_t {
    /// Size of this struct in bytes, as the program was compiled.
    pub size: u64,
    /// Bytes used in `settings`.
    pub settings_len: u64,
    /// What isis_options_set and its likes have set; not to be written by the program.
    pub settings: [c_char; ISIS_OPTIONS_ROOM],
}

/// The first layout's size: never changes. See `isis_options_init`.
const FIRST_SIZE: usize = 8_192;
const _: () = assert!(size_of::<isis_options_t>() == FIRST_SIZE);

impl isis_options_t {
    fn new(size: u64) -> isis_options_t {
        isis_options_t { size, settings_len: 0, settings: [0; ISIS_OPTIONS_ROOM] }
    }

    fn settings(&self) -> &[u8] {
        let len = (self.settings_len as usize).min(ISIS_OPTIONS_ROOM);
        // SAFETY: c_char and u8 have the same layout, and `len` is within the array.
        unsafe { std::slice::from_raw_parts(self.settings.as_ptr().cast::<u8>(), len) }
    }

    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = std::str::from_utf8(self.settings()).unwrap_or("");
        text.lines().filter_map(|line| line.split_once('='))
    }

    /// Adds a line, in place of an older one of the same name.
    fn add(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        if value.contains('\n') {
            return Err(fail(error::ISIS_EOPTION, format_args!("option `{name}`: a line break in the value")));
        }
        let mut text = String::new();
        for (other, old) in self.lines().filter(|(other, _)| *other != name) {
            text.extend([other, "=", old, "\n"]);
        }
        text.extend([name, "=", value, "\n"]);
        if text.len() > ISIS_OPTIONS_ROOM {
            return Err(fail(
                error::ISIS_ELIMIT,
                format_args!("the settings are longer than {ISIS_OPTIONS_ROOM} bytes"),
            ));
        }
        for (place, byte) in self.settings.iter_mut().zip(text.bytes()) {
            *place = byte as c_char;
        }
        self.settings_len = text.len() as u64;
        Ok(())
    }

    /// The runtime's options that these settings make.
    pub fn to_runtime(self) -> Result<Options, Failure> {
        let mut options = Options::new();
        for (name, value) in self.lines() {
            options.set(name, value).map_err(option_failure)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        Options::new().set(name, value).map_err(option_failure)?;
        self.add(name, value)
    }

    fn set_from_environment(&mut self) -> Result<(), Failure> {
        // The file first, so that the other variables win over it.
        for name in ["config"].iter().chain(OPTION_NAMES.iter().filter(|name| **name != "config")) {
            let Some(value) = std::env::var_os(format!("ISIS_{}", name.to_ascii_uppercase())) else { continue };
            self.set(name, &value.to_string_lossy())?;
        }
        Ok(())
    }

    /// What `isis_open` takes: a copy of the caller's struct, or, for NULL, the defaults and the environment.
    ///
    /// # Safety
    /// `options` must be NULL or point to a struct of the size that it says.
    pub unsafe fn given(options: *const isis_options_t) -> Result<isis_options_t, Failure> {
        if options.is_null() {
            let mut defaults = isis_options_t::new(FIRST_SIZE as u64);
            defaults.set_from_environment()?;
            return Ok(defaults);
        }
        // SAFETY: not NULL, and the caller's promise.
        unsafe { read_sized(options, FIRST_SIZE, "options") }
    }
}

/// Copies a struct that starts with its size. A smaller one than the `first` layout is refused; a larger one than this
/// library knows is taken if what it does not know is zero.
///
/// # Safety
/// `from` must not be NULL and must be readable for the size that it says.
pub unsafe fn read_sized<T: Copy>(from: *const T, first: usize, what: &str) -> Result<T, Failure> {
    if !from.is_aligned() {
        return Err(fail(error::ISIS_EINVAL, format_args!("{what} is not aligned")));
    }
    // SAFETY: the struct starts with its size as u64 (the caller's promise), aligned as checked.
    let size = unsafe { from.cast::<u64>().read() };
    if size < first as u64 || size > 1 << 20 {
        return Err(fail(error::ISIS_EINVAL, format_args!("{what}: its size says {size}; was it initialised?")));
    }
    let known = size_of::<T>().min(size as usize);
    // SAFETY: readable for `size` bytes by the caller's promise.
    let unknown = unsafe { std::slice::from_raw_parts(from.cast::<u8>().add(known), size as usize - known) };
    if unknown.iter().any(|byte| *byte != 0) {
        return Err(fail(error::ISIS_EINVAL, format_args!("{what}: has fields that this library does not know")));
    }
    let mut copy = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are readable, and fit. The structs that come here are plain numbers, pointers and optional
    // function pointers, for which zero is a value.
    unsafe {
        std::ptr::copy_nonoverlapping(from.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), known);
        Ok(copy.assume_init())
    }
}

/// Maps the runtime's word on an option.
pub fn option_failure(option: OptionError) -> Failure {
    let code = match option {
        OptionError::File { .. } => error::ISIS_EFILE,
        _ => error::ISIS_EOPTION,
    };
    fail(code, format_args!("{option}"))
}

/// Runs `body` on the caller's options.
///
/// # Safety
/// `options` must be NULL or point to a writable struct of the size that it says.
unsafe fn with(
    options: *mut isis_options_t,
    body: impl FnOnce(&mut isis_options_t) -> Result<(), Failure>,
) -> error::Status {
    Output::new(options, "options")?;
    // SAFETY: not NULL; the caller's promise.
    let mut copy = unsafe { read_sized(options, FIRST_SIZE, "options")? };
    body(&mut copy)?;
    let size = size_of::<isis_options_t>().min(copy.size as usize);
    // SAFETY: writable for the size that it says, by the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping((&raw const copy).cast::<u8>(), options.cast::<u8>(), size) };
    Ok(ISIS_OK)
}

/// Fills options with the defaults, for a struct of `size` bytes. C programs call it by the macro
/// isis_options_init(options), which gives the size as the program was compiled.
///
/// Errors: ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_options_init_size(options: *mut isis_options_t, size: u64) -> i32 {
    boundary::enter(|| {
        Output::new(options, "options")?;
        if size < FIRST_SIZE as u64 || size > 1 << 20 {
            return Err(fail(error::ISIS_EINVAL, format_args!("size is {size}")));
        }
        let defaults = isis_options_t::new(size);
        let known = size_of::<isis_options_t>().min(size as usize);
        // SAFETY: the caller says that the place has `size` bytes; what this library does not know is zeroed.
        unsafe {
            std::ptr::write_bytes(options.cast::<u8>(), 0, size as usize);
            std::ptr::copy_nonoverlapping((&raw const defaults).cast::<u8>(), options.cast::<u8>(), known);
        }
        Ok(ISIS_OK)
    })
}

/// Sets one option by its name: "mode" to "threaded" or "inline", "bind", "port", "seeds", "runtime_dir", "wait",
/// "linger_ns", "hold_bytes" and so on; times in nanoseconds or with a unit (20ms), sizes in bytes or with a unit
/// (2MiB). The last setting of a name counts.
///
/// Errors: ISIS_EINVAL, ISIS_EOPTION, ISIS_EFILE (for "config"), ISIS_ELIMIT (too much text).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_options_set(
    options: *mut isis_options_t,
    name: *const c_char,
    value: *const c_char,
) -> i32 {
    boundary::enter(|| {
        // SAFETY: the pointer contract.
        let (name, value) = unsafe { (boundary::text(name, "name")?, boundary::text(value, "value")?) };
        // SAFETY: as above.
        unsafe { with(options, |options| options.set(name, value)) }
    })
}

/// Takes the settings of a TOML file of `name = value` lines. The file is checked now and read by isis_open; it
/// wins over what was set before, and what is set later wins over it.
///
/// Errors: ISIS_EINVAL, ISIS_EFILE, ISIS_ELIMIT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_options_from_file(options: *mut isis_options_t, path: *const c_char) -> i32 {
    boundary::enter(|| {
        // SAFETY: the pointer contract.
        let path = unsafe { boundary::text(path, "path")? };
        let full = std::fs::canonicalize(Path::new(path))
            .map_err(|why| fail(error::ISIS_EFILE, format_args!("options file {path}: {why}")))?;
        let full = full.to_str().ok_or_else(|| fail(error::ISIS_EFILE, format_args!("{path}: not UTF-8")))?;
        // SAFETY: as above.
        unsafe { with(options, |options| options.set("config", full)) }
    })
}

/// Takes the settings of the environment: ISIS_MODE, ISIS_PORT, ISIS_CONFIG (a file, which the other variables win
/// over) and so on: the options' names in capitals. Other variables that start with ISIS_ are left alone.
///
/// Errors: ISIS_EINVAL, ISIS_EOPTION, ISIS_EFILE, ISIS_ELIMIT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_options_from_env(options: *mut isis_options_t) -> i32 {
    boundary::enter(|| {
        // SAFETY: the pointer contract.
        unsafe { with(options, isis_options_t::set_from_environment) }
    })
}

/// isis_options_init for programs that cannot use the macro: fills the struct as it was in the first version of the
/// header.
///
/// Errors: ISIS_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isis_options_init(options: *mut isis_options_t) -> i32 {
    // SAFETY: the pointer contract.
    unsafe { isis_options_init_size(options, FIRST_SIZE as u64) }
}
