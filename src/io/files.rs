//! Open files: the soft limit is raised to the hard one, and clients are limited to what is left.
//!
//! Redis does the same with `maxclients`. A client needs at most two descriptors: its own connection and one to Redis.
//! The rest is for listeners, probes, operators and idle connections. It opens and closes nothing itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Listeners, probes, operators, files.
const OWN: u64 = 128;
/// Idle connections of a worker to one node, where descriptors abound.
const IDLE: u64 = 512;

/// What the system lets the process open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The limit in force; `u64::MAX` is none.
    pub limit: u64,
    /// What it was when the process began.
    pub soft: u64,
}

impl OpenFiles {
    /// Raises the soft limit to the hard one. If the system refuses, the soft one stays.
    pub fn raise() -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let soft = current.unwrap_or(u64::MAX);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
        Self { limit: if raised { maximum.unwrap_or(u64::MAX) } else { soft }, soft }
    }

    /// What [`OpenFiles::raise`] would find.
    pub fn look() -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        Self { limit: maximum.unwrap_or(u64::MAX), soft: current.unwrap_or(u64::MAX) }
    }

    /// Idle connections that a worker may keep to one node.
    pub fn idle(self, workers: usize) -> usize {
        let workers = u64::try_from(workers).unwrap_or(1).max(1);
        usize::try_from((self.limit / 4 / workers).clamp(1, IDLE)).unwrap_or(1)
    }

    /// The most clients, of `wanted`, that never run out of descriptors.
    pub fn clients(self, wanted: usize, workers: usize) -> usize {
        let idle = u64::try_from(self.idle(workers).saturating_mul(workers)).unwrap_or(u64::MAX);
        let left = self.limit.saturating_sub(OWN).saturating_sub(idle) / 2;
        usize::try_from(left).unwrap_or(usize::MAX).clamp(1, wanted.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_and_idle_connections_never_need_more_than_there_is() {
        for limit in [64, 256, 1024, 4096, 65_536, 1 << 20, u64::MAX] {
            for workers in [1, 2, 8, 64] {
                let files = OpenFiles { limit, soft: 64 };
                let (idle, clients) = (files.idle(workers), files.clients(10_000, workers));
                assert!((1..=512).contains(&idle) && (1..=10_000).contains(&clients));
                let needed = OWN + (idle * workers + 2 * clients) as u64;
                assert!(needed <= limit || clients == 1, "{limit}, {workers} workers: {needed}");
            }
        }
        assert_eq!(OpenFiles { limit: 1 << 20, soft: 1024 }.clients(10_000, 8), 10_000);
        assert_eq!(OpenFiles { limit: 4096, soft: 64 }.clients(10_000, 2), 1472);
    }
}
