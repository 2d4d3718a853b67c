//! `include/isis.h` is what the sources say, and C99 and C++ compilers take it without a word.
//!
//! `ISIS_UPDATE_HEADER=1 cargo test -p isis-ffi --test header` writes it anew.

use std::path::{Path, PathBuf};
use std::process::Command;

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn include() -> PathBuf {
    manifest().parent().expect("the workspace").join("include")
}

#[test]
fn the_header_is_what_the_sources_say() {
    let config = cbindgen::Config::from_file(manifest().join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new().with_crate(manifest()).with_config(config).generate().expect("bindings");
    let mut header = Vec::new();
    bindings.write(&mut header);
    let made = String::from_utf8(header).expect("text");
    let made = made.trim_start().to_owned();
    let path = include().join("isis.h");
    if std::env::var_os("ISIS_UPDATE_HEADER").is_some() {
        std::fs::write(&path, &made).expect("write the header");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if kept != made {
        let line = kept.lines().zip(made.lines()).take_while(|(kept, made)| kept == made).count();
        panic!(
            "include/isis.h differs from the sources at line {}: ISIS_UPDATE_HEADER=1 writes it anew\n  kept: {:?}\n  made: {:?}",
            line + 1,
            kept.lines().nth(line),
            made.lines().nth(line)
        );
    }
}

#[test]
fn c99_and_cpp_compilers_take_the_header() {
    for (compiler, language, standard) in
        [("cc", "c", "c99"), ("cc", "c", "c11"), ("c++", "c++", "c++11"), ("c++", "c++", "c++17")]
    {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let source = directory.join(format!("header-{standard}.{}", if language == "c" { "c" } else { "cc" }));
        let program = "#include <isis.h>\n#include <isis.h>\nint main(void) { isis_options_t o; return isis_options_init(&o) + ISIS_OK; }\n";
        std::fs::write(&source, program).expect("write");
        let output = Command::new(compiler)
            .args(["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pedantic", "-x", language])
            .arg(format!("-std={standard}"))
            .arg("-I")
            .arg(include())
            .arg(&source)
            .output()
            .expect("a compiler");
        assert!(output.status.success(), "{standard}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
