//! Decoding while every processor is loaded by something else.

use super::{Bench, DECODED, Record, decode_behind, tokens};
use mx_runtime::engine::StepOutput;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Loops between two looks of a competitor at the flag that ends it.
const LOOPS: u32 = 1024;

impl Bench<'_> {
    /// Decoding beside one busy thread a processor over decoding alone, taking turns. The ratio of the record is that share
    /// over the fair one: processors over threads that want one.
    pub(super) fn busy(&self, processors: usize) -> anyhow::Result<Record> {
        let mut output = StepOutput::new();
        let mut sequence = self.sequence(&mut output)?;
        let ids = tokens(64 + DECODED);
        let mut rate = || decode_behind(self.engine, &mut sequence, 64, &ids[64..], &mut output);
        rate()?;
        let mut shares = Vec::new();
        for _ in 0..self.runs {
            let alone = rate()?;
            let beside = beside(processors, &mut rate)?;
            shares.push(100.0 * beside / alone);
        }
        let case = format!("beside {processors} busy threads, over alone");
        let mut record = self.record("decode", &case, "mx", "%", &shares);
        let fair = 100.0 * processors as f64 / (self.threads + processors) as f64;
        record.ratio = Some(record.median / fair);
        Ok(record)
    }
}

/// Runs `work` while `count` threads are busy.
fn beside<T>(count: usize, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    (0..LOOPS).for_each(|_| spin_loop());
                }
            });
        }
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    })
}
