//! See `isis_fuzz::message`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| isis_fuzz::message(data));

#[cfg(not(fuzzing))]
fn main() {}
