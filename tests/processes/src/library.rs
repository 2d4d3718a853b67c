//! Builds libisis as it is built for others, and C programs against it.

use crate::live;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    // This crate lies in tests/processes.
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

/// Builds libisis.so in the profile of this very program; gives the directory that it is in.
///
/// As a build of its own: in a build of the workspace features that other packages ask of the engine would get into it.
pub fn build() -> Result<PathBuf, String> {
    // This program is <target>/<profile>/<name>, or <target>/<profile>/deps/<name> if it is a test.
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = own.parent().filter(|folder| !folder.ends_with("deps")).or(own.ancestors().nth(2));
    let output = folder.ok_or("this program lies nowhere")?;
    let target = output.parent().ok_or("this program lies in no target directory")?;
    let profile = match output.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => "release",
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut library = Command::new(cargo);
    library.current_dir(workspace()).args(["build", "--quiet", "-p", "isis-ffi", "--lib", "--profile", profile]);
    run(library.arg("--target-dir").arg(target), "cargo build -p isis-ffi")?;
    if !output.join("libisis.so").is_file() {
        return Err(format!("there is no libisis.so in {}", output.display()));
    }
    Ok(output.to_owned())
}

/// Compiles a C program against the libisis.so in `library`, with the system's compiler (or `CC`).
pub fn compile(library: &Path, source: &Path, flags: &[&str], program: &Path) -> Result<(), String> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut rpath = OsString::from("-Wl,-rpath,");
    rpath.push(library);
    let mut compile = Command::new(compiler);
    compile.args(["-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"]).args(flags);
    compile.arg("-I").arg(workspace().join("include")).arg(source).arg("-o").arg(program);
    compile.arg("-L").arg(library).arg("-lisis").arg(rpath);
    run(&mut compile, "the C compiler (install gcc or clang, or set CC)")
}

fn run(command: &mut Command, what: &str) -> Result<(), String> {
    match live::run(command) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{what} ended with {status}")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}
