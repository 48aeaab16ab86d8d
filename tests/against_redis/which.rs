//! Which server the tests run: `redis-server` of the PATH, or the program that `CHANGEOVER_TEST_REDIS` names.
//!
//! `make test-servers` runs tests on several versions. What a server cannot do is asked of the program itself.

use std::process::Command;
use std::sync::OnceLock;

/// The program and what it can do.
#[derive(Debug)]
pub(crate) struct About {
    /// As a command.
    pub(crate) program: String,
    /// It is Valkey, which counts its versions on from Redis 7.2.
    pub(crate) valkey: bool,
    /// Its own version: major and minor.
    pub(crate) version: (u32, u32),
}

impl About {
    /// Whether it has what came with this version of Redis. (All versions of Valkey have what Redis 7.2 has.)
    pub(crate) fn since(&self, major: u32, minor: u32) -> bool {
        let version = if self.valkey { (7, 2) } else { self.version };
        version >= (major, minor)
    }

    /// Says that something does not run on this server, and why; `make test-servers` lists these lines.
    pub(crate) fn left_out(&self, what: &str, why: &str) {
        let name = if self.valkey { "Valkey" } else { "Redis" };
        let line = format!("{name} {}.{}: {what} is left out: {why}\n", self.version.0, self.version.1);
        eprint!("{line}");
        if let Some(list) = std::env::var_os("CHANGEOVER_TEST_LEFT_OUT") {
            let mut file = std::fs::File::options().create(true).append(true).open(list).unwrap();
            std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
        }
    }
}

/// The server of this run.
pub(crate) fn about() -> &'static About {
    static ABOUT: OnceLock<About> = OnceLock::new();
    ABOUT.get_or_init(|| {
        let program = std::env::var("CHANGEOVER_TEST_REDIS").unwrap_or_else(|_| "redis-server".to_owned());
        let out = Command::new(&program).arg("--version").output();
        let out = out.unwrap_or_else(|error| panic!("{program}: {error} (make deps, make test-servers)"));
        let told = String::from_utf8_lossy(&out.stdout);
        let number = told.split(" v=").nth(1).unwrap_or_else(|| panic!("{program} --version says {told:?}"));
        let mut parts = number.split(['.', ' ']).map(|part| part.parse().unwrap_or(0));
        let version = (parts.next().unwrap(), parts.next().unwrap());
        let valkey = told.starts_with("Valkey");
        About { program, valkey, version }
    })
}
