//! The clocks of a run.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What times are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Wall clock: what a caller waits. The bars are in it, for a machine that does nothing else.
    #[default]
    Wall,
    /// Processor time of the thread: what is left of the wall clock on a machine that does much else. Reading it
    /// costs several times as much.
    Cpu,
}

impl Clock {
    /// Its name in a header.
    pub(super) fn name(self) -> &'static str {
        match self {
            Clock::Wall => "monotonic wall clock",
            Clock::Cpu => "processor time of the thread",
        }
    }

    /// Starts a time.
    pub(crate) fn start(self) -> Started {
        match self {
            Clock::Wall => Started::Wall(Instant::now()),
            Clock::Cpu => Started::Cpu(processor_ns()),
        }
    }

    /// Median of what an empty time comes to.
    pub(super) fn cost(self) -> u64 {
        let mut costs: Vec<u64> = (0..1001).map(|_| self.start().elapsed_ns()).collect();
        costs.sort_unstable();
        costs[costs.len() / 2]
    }
}

/// A time that runs.
pub(crate) enum Started {
    Wall(Instant),
    Cpu(u64),
}

impl Started {
    /// Nanoseconds since the start.
    pub(crate) fn elapsed_ns(&self) -> u64 {
        match self {
            Started::Wall(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Started::Cpu(start) => processor_ns().saturating_sub(*start),
        }
    }
}

#[cfg(unix)]
fn processor_ns() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, rest) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000_000 + rest.unwrap_or(0)
}

/// Elsewhere the two clocks are one.
#[cfg(not(unix))]
fn processor_ns() -> u64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
