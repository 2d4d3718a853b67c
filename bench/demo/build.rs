//! Builds the library and the C program.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Gives the path of the C program, in `directory`.
pub fn build(directory: &Path) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    // <target directory>/<profile>/isis-demo: the library goes to the same place.
    let output = own.parent().ok_or("this program lies nowhere")?;
    let target = output.parent().ok_or("this program lies in no target directory")?;
    let profile = match output.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => "release",
    };
    // As a build of its own: features that other packages ask of the engine must not get into the library.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut library = Command::new(cargo);
    library.current_dir(&root).args(["build", "--quiet", "-p", "isis-ffi", "--profile", profile, "--target-dir"]);
    run(library.arg(target), "cargo build -p isis-ffi")?;
    if !output.join("libisis.so").is_file() {
        return Err(format!("there is no libisis.so in {}", output.display()));
    }

    let program = directory.join("order_book");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut rpath = std::ffi::OsString::from("-Wl,-rpath,");
    rpath.push(output);
    let mut compile = Command::new(compiler);
    compile.args(["-std=c99", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-I"]);
    compile.arg(root.join("include")).arg(root.join("bench/demo/order_book.c")).arg("-o").arg(&program);
    compile.arg("-L").arg(output).arg("-lisis").arg(rpath);
    run(&mut compile, "the C compiler (install gcc or clang, or set CC)")?;
    Ok(program)
}

fn run(command: &mut Command, what: &str) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{what} ended with {status}")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}
