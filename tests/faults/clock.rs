//! A false clock for a process of ours: a small library under it adds to the time that the system tells.
//!
//! A time namespace only sets where a clock starts; a running process needs something that can make it jump. How far it is
//! off stands in a file, in seconds, for the wall clock and for the monotonic one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The compiled library, or why there is none.
pub(crate) fn library() -> Result<&'static Path, String> {
    static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/false_clock.c");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("false_clock-{}.so", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&target).arg(&source).arg("-ldl");
        match compiler.output() {
            Ok(out) if out.status.success() => Ok(target),
            Ok(out) => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
            Err(error) => Err(format!("cc: {error}")),
        }
    });
    made.as_deref().map_err(Clone::clone)
}

fn file(home: &Path, name: &str) -> PathBuf {
    home.join(format!("{name}.clock"))
}

/// Puts it under a command; its clock is right until [`jump`].
pub(crate) fn lie(command: &mut Command, home: &Path, name: &str) {
    let file = file(home, name);
    if !file.exists() {
        jump(home, name, 0, 0);
    }
    command.env("LD_PRELOAD", library().unwrap()).env("FALSE_CLOCK", file);
}

/// From now on its wall clock and its monotonic clock are off by so many seconds.
pub(crate) fn jump(home: &Path, name: &str, wall: i64, monotonic: i64) {
    let bytes = [wall.to_ne_bytes(), monotonic.to_ne_bytes()].concat();
    // In place: the process has it mapped.
    let mut options = std::fs::File::options();
    let mut file = options.write(true).create(true).truncate(false).open(file(home, name)).unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
}
