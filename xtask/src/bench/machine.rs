//! Facts about the machine that stand beside every table.

use serde::Serialize;
use std::hint::black_box;
use std::time::Instant;

/// What a table was measured on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Name of the processor.
    pub processor: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// Instruction set of the CPU engine.
    pub isa: String,
    /// Load of the last minute when the run began.
    pub load: Option<f64>,
    /// Commit of the sources.
    pub commit: String,
}

impl Machine {
    /// Reads the facts.
    pub fn read() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let commit = std::process::Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Machine {
            processor: name
                .map_or("unknown", |n| n.trim_start_matches([':', '\t', ' ']))
                .to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            isa: mx_runtime::engine::cpu::Kernels::best().isa().to_string(),
            load: load.split(' ').next().and_then(|load| load.parse().ok()),
            commit: commit.unwrap_or_default(),
        }
    }
}

/// Bytes a second that `threads` threads read together from `bytes` bytes of memory, one pass each over its share.
pub(super) fn read_bandwidth(bytes: usize, threads: usize) -> f64 {
    let data: Vec<u64> = (0..bytes as u64 / 8).collect();
    let share = data.len().div_ceil(threads);
    let pass = || {
        std::thread::scope(|scope| {
            for part in data.chunks(share) {
                scope.spawn(move || {
                    let mut sums = [0u64; 32];
                    let (chunks, _) = part.as_chunks::<32>();
                    for chunk in chunks {
                        sums.iter_mut()
                            .zip(chunk)
                            .for_each(|(s, x)| *s = s.wrapping_add(*x));
                    }
                    black_box(sums);
                });
            }
        });
    };
    pass();
    let started = Instant::now();
    for _ in 0..4 {
        pass();
    }
    4.0 * bytes as f64 / started.elapsed().as_secs_f64()
}
