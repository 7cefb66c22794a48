//! Facts about the machine that stand beside every table.

use memmap2::MmapMut;
use serde::Serialize;
use std::hint::black_box;
use std::sync::Barrier;
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

/// Bytes a second that `threads` threads read together from `bytes` bytes of memory, one pass each over its share: the
/// median of several passes, the threads standing ready.
pub(super) fn read_bandwidth(bytes: usize, threads: usize) -> f64 {
    let Ok(mut data) = MmapMut::map_anon(bytes.max(1)) else {
        return f64::NAN;
    };
    // As the weights lie. Advice: where it is refused, pages stay small.
    #[cfg(target_os = "linux")]
    let _ = data.advise(memmap2::Advice::HugePage);
    data.fill(1);
    let share = data.len().div_ceil(threads.max(1));
    let parts: Vec<&[u8]> = data.chunks(share).collect();
    let barrier = Barrier::new(parts.len());
    let pass = |part: &[u8]| {
        barrier.wait();
        let started = Instant::now();
        black_box(sum(part));
        (started, Instant::now())
    };
    let times: Vec<Vec<(Instant, Instant)>> = std::thread::scope(|scope| {
        let run = |part| scope.spawn(move || (0..PASSES).map(|_| pass(part)).collect());
        let running: Vec<_> = parts.into_iter().map(run).collect();
        running
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    });
    let taken: Vec<f64> = (0..PASSES)
        .filter_map(|pass| {
            let first = times.iter().map(|own| own[pass].0).min()?;
            let last = times.iter().map(|own| own[pass].1).max()?;
            Some((last - first).as_secs_f64())
        })
        .collect();
    bytes as f64 / super::spread(&taken).0
}

/// Passes over the memory, the first of which finds it cold.
const PASSES: usize = 5;

fn sum(part: &[u8]) -> u64 {
    let mut sums = [0u64; 32];
    let (chunks, _) = part.as_chunks::<256>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*x));
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}
