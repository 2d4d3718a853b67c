//! See `isis_fuzz::row`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| isis_fuzz::row(data));

#[cfg(not(fuzzing))]
fn main() {}
