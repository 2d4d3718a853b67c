//! See `isis_fuzz::endpoint`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| isis_fuzz::endpoint(data));

#[cfg(not(fuzzing))]
fn main() {}
