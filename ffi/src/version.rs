//! Which library this is.

use std::ffi::c_char;

/// First number of the header's version.
pub const ISIS_VERSION_MAJOR: u32 = 0;
/// Second number of the header's version.
pub const ISIS_VERSION_MINOR: u32 = 1;
/// Third number of the header's version.
pub const ISIS_VERSION_PATCH: u32 = 0;

/// The library's version, "major.minor.patch". A constant.
#[unsafe(no_mangle)]
pub extern "C" fn isis_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The library's version as major × 1,000,000 + minor × 1,000 + patch, to compare with the header's numbers.
#[unsafe(no_mangle)]
pub extern "C" fn isis_version_number() -> u32 {
    ISIS_VERSION_MAJOR * 1_000_000 + ISIS_VERSION_MINOR * 1_000 + ISIS_VERSION_PATCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_package_agree() {
        let numbers = format!("{ISIS_VERSION_MAJOR}.{ISIS_VERSION_MINOR}.{ISIS_VERSION_PATCH}");
        assert_eq!(numbers, env!("CARGO_PKG_VERSION"));
    }
}
