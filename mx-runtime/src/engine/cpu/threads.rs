//! A small pool of threads that runs a decoder step as a sequence of stages.
//!
//! A step opens one [`Region`]; every stage in it is cut into units of work which the caller and
//! the workers claim in shrinking runs. A stage ends when all units are done, not when all
//! threads have arrived: a worker that the operating system has taken off its core holds up at
//! most the units it had claimed, and the caller finishes the rest alone. Waiting threads spin for
//! a few microseconds and then park, so that an idle pool costs nothing. When steps of the same
//! shape become slow, the pool tries without its workers and stays alone, for longer each time,
//! while that is faster: a machine busy with other things is not made busier.
//!
//! Unsafe code: the stage lends references to its closure and buffers to threads that outlive
//! them (as scoped threads do); the reasons stand at each block.
#![allow(unsafe_code)]

mod pace;
mod split;

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use pace::Pace;
pub use split::{Columns, Grid, Rows, Split, TileMut, Tiles, Units};

use super::error::CpuError;

/// The most threads a pool may have.
pub const MAX_THREADS: usize = 1024;

/// How long a thread spins before it parks, unless set otherwise.
pub const DEFAULT_SPIN: Duration = Duration::from_micros(20);

/// Spin rounds between two looks at the clock.
const SPINS_PER_CLOCK: u32 = 32;

/// Threads that run the stages of decoder steps, the caller being one of them.
///
/// A pool of one thread starts nothing and synchronises nothing.
#[derive(Debug)]
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    pace: Pace,
    /// Shape of the region that is running: stages, and units in all of them.
    shape: (usize, usize),
}

impl ThreadPool {
    /// A pool of `threads` threads including the caller (at least one).
    ///
    /// # Errors
    ///
    /// [`CpuError::Limit`] above [`MAX_THREADS`], [`CpuError::Spawn`] when a thread cannot be
    /// started.
    pub fn new(threads: usize) -> Result<Self, CpuError> {
        Self::with_spin(threads, DEFAULT_SPIN)
    }

    /// The same with the time a waiting thread spins before it parks.
    ///
    /// # Errors
    ///
    /// As [`ThreadPool::new`].
    pub fn with_spin(threads: usize, spin: Duration) -> Result<Self, CpuError> {
        let threads = threads.max(1);
        if threads > MAX_THREADS {
            return Err(CpuError::Limit {
                what: "threads",
                given: threads,
                limit: MAX_THREADS,
            });
        }
        let shared = Arc::new(Shared::new(threads, spin));
        let mut pool = Self {
            shared,
            workers: Vec::with_capacity(threads - 1),
            pace: Pace::default(),
            shape: (0, 0),
        };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = thread::Builder::new()
                .name(format!("mx-cpu-{index}"))
                .spawn(move || shared.work_loop(index))
                .map_err(|source| CpuError::Spawn {
                    index,
                    threads,
                    source,
                })?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads of the pool including the caller.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Wakes the workers and runs `step`, which issues the stages.
    ///
    /// # Panics
    ///
    /// When a stage's closure panics on any thread, the panic continues in the caller after the
    /// stage has ended; the pool stays usable.
    pub fn region<R>(&mut self, step: impl FnOnce(&mut Region<'_>) -> R) -> R {
        if self.workers.is_empty() {
            return step(&mut Region { pool: self });
        }
        *lock(&self.shared.leader) = Some(thread::current());
        if !self.pace.is_alone() {
            // Waking takes tens of microseconds; the caller works alone in the meantime.
            self.wake_parked();
        }
        self.shape = (0, 0);
        let start = Instant::now();
        let result = step(&mut Region { pool: self });
        self.pace.finished(self.shape, start.elapsed());
        result
    }

    fn wake_parked(&self) {
        for (worker, parked) in self.workers.iter().zip(&self.shared.parked) {
            if parked.0.load(Ordering::SeqCst) && parked.0.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }

    fn run_stage(&mut self, units: usize, run: &(dyn Fn(usize, Range<usize>) + Sync)) {
        self.shape = (self.shape.0 + 1, self.shape.1 + units);
        if self.pace.is_alone() {
            run(0, 0..units);
            return;
        }
        let shared = &*self.shared;
        let job = Job { run, units };
        shared.done.0.store(0, Ordering::Relaxed);
        shared
            .job
            .store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        // Only this thread changes the epoch, and no unit of the last stage is left.
        let epoch = (shared.work.0.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        shared
            .work
            .0
            .store(epoch << 32 | units as u64, Ordering::SeqCst);
        self.wake_parked();

        let mut panic = None;
        while let Some((left, taken)) = shared.claim(false) {
            let start = units - left;
            let result = catch_unwind(AssertUnwindSafe(|| run(0, start..start + taken)));
            shared.done.0.fetch_add(taken, Ordering::SeqCst);
            if let Err(payload) = result {
                // The rest of the stage is given up; what workers hold is waited for.
                if let Some((_, given_up)) = shared.claim(true) {
                    shared.done.0.fetch_add(given_up, Ordering::SeqCst);
                }
                panic = Some(payload);
            }
        }
        shared.wait_done(units);
        let worker_panic = lock(&shared.panic).take();
        if let Some(payload) = panic.or(worker_panic) {
            resume_unwind(payload);
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its units, so joining cannot fail with one.
            let _ = worker.join();
        }
    }
}

/// One parallel region: the workers are awake and take part in every stage.
#[derive(Debug)]
pub struct Region<'p> {
    pool: &'p mut ThreadPool,
}

impl Region<'_> {
    /// Threads that take part, the caller included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Runs `work` over all units of `split` and returns when all of them are done.
    ///
    /// `work` receives a run of units and the part of the buffers that belongs to it.
    pub fn stage<S: Split>(&mut self, split: S, work: impl Fn(Range<usize>, S::Part) + Sync) {
        let units = clamp_units(&split);
        if self.pool.workers.is_empty() || units < 2 {
            // SAFETY: one part covers everything.
            work(0..units, unsafe { split.part(0..units) });
            return;
        }
        self.pool.run_stage(units, &|_, range| {
            // SAFETY: every unit is claimed once, so the ranges are disjoint and in bounds.
            work(range.clone(), unsafe { split.part(range) });
        });
    }

    /// The same with a scratch value for each thread.
    ///
    /// With fewer scratch values than threads the caller works alone; without any, the stage does
    /// nothing.
    pub fn stage_with<W: Send, S: Split>(
        &mut self,
        scratch: &mut [W],
        split: S,
        work: impl Fn(&mut W, Range<usize>, S::Part) + Sync,
    ) {
        let units = clamp_units(&split);
        if self.pool.workers.is_empty() || units < 2 || scratch.len() < self.threads() {
            if let Some(own) = scratch.first_mut() {
                // SAFETY: one part covers everything.
                work(own, 0..units, unsafe { split.part(0..units) });
            }
            return;
        }
        let base = Pointer(scratch.as_mut_ptr());
        self.pool.run_stage(units, &|thread, range| {
            // SAFETY: thread < threads <= scratch.len(), and a thread runs one range at a time,
            // so its scratch value is borrowed once.
            let own = unsafe { &mut *base.get().add(thread) };
            // SAFETY: every unit is claimed once, so the ranges are disjoint and in bounds.
            work(own, range.clone(), unsafe { split.part(range) });
        });
    }
}

fn clamp_units<S: Split>(split: &S) -> usize {
    split.units().min(u32::MAX as usize)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Pointer<T>(*mut T);

impl<T> Pointer<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: used to reach elements that each belong to one thread (see `stage_with`).
unsafe impl<T: Send> Sync for Pointer<T> {}

#[derive(Debug)]
#[repr(align(128))]
struct Padded<T>(T);

struct Job<'a> {
    run: &'a (dyn Fn(usize, Range<usize>) + Sync),
    units: usize,
}

struct Shared {
    /// Epoch of the stage in the high half, units not yet claimed in the low half.
    work: Padded<AtomicU64>,
    /// Units of the stage that are done.
    done: Padded<AtomicUsize>,
    /// The `Job` of the stage; valid while one of its units is claimed and not done.
    job: AtomicPtr<()>,
    parked: Vec<Padded<AtomicBool>>,
    leader_parked: AtomicBool,
    leader: Mutex<Option<Thread>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    threads: usize,
    spin: Duration,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("threads", &self.threads)
            .field("spin", &self.spin)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn new(threads: usize, spin: Duration) -> Self {
        Self {
            work: Padded(AtomicU64::new(0)),
            done: Padded(AtomicUsize::new(0)),
            job: AtomicPtr::new(ptr::null_mut()),
            parked: (1..threads)
                .map(|_| Padded(AtomicBool::new(false)))
                .collect(),
            leader_parked: AtomicBool::new(false),
            leader: Mutex::new(None),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            threads,
            spin,
        }
    }

    /// Claims a run of units: (units that were left, units taken). Runs shrink towards the end
    /// of the stage so that the threads finish together, but begin with the thread's whole share:
    /// every run is one stream through memory, and beginning another costs more than a wait.
    fn claim(&self, all: bool) -> Option<(usize, usize)> {
        let mut word = self.work.0.load(Ordering::Acquire);
        loop {
            let left = (word & u64::from(u32::MAX)) as usize;
            if left == 0 {
                return None;
            }
            let taken = if all {
                left
            } else {
                left.div_ceil(self.threads)
            };
            // The epoch in the word makes a claim fail that was prepared in an earlier stage.
            match self.work.0.compare_exchange_weak(
                word,
                word - taken as u64,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some((left, taken)),
                Err(now) => word = now,
            }
        }
    }

    fn wait_done(&self, units: usize) {
        let is_done = || self.done.0.load(Ordering::Acquire) == units;
        while !self.spin_until(is_done) {
            // Announce first, look again after: a worker that finishes in between sees the
            // announcement or is seen.
            self.leader_parked.store(true, Ordering::SeqCst);
            if self.done.0.load(Ordering::SeqCst) != units {
                thread::park();
            }
            self.leader_parked.store(false, Ordering::SeqCst);
        }
    }

    fn spin_until(&self, ready: impl Fn() -> bool) -> bool {
        let mut start = None;
        loop {
            for _ in 0..SPINS_PER_CLOCK {
                if ready() {
                    return true;
                }
                std::hint::spin_loop();
            }
            let start = *start.get_or_insert_with(Instant::now);
            if start.elapsed() >= self.spin {
                return false;
            }
        }
    }

    fn has_work(&self) -> bool {
        self.work.0.load(Ordering::Acquire) & u64::from(u32::MAX) != 0
    }

    fn work_loop(&self, index: usize) {
        let parked = &self.parked[index - 1].0;
        loop {
            while let Some((left, taken)) = self.claim(false) {
                self.run_claimed(index, left, taken);
            }
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            if self.spin_until(|| self.has_work() || self.stop.load(Ordering::Relaxed)) {
                continue;
            }
            parked.store(true, Ordering::SeqCst);
            let word = self.work.0.load(Ordering::SeqCst);
            let idle = word & u64::from(u32::MAX) == 0 && !self.stop.load(Ordering::SeqCst);
            if idle {
                thread::park();
            }
            parked.store(false, Ordering::SeqCst);
        }
    }

    fn run_claimed(&self, index: usize, left: usize, taken: usize) {
        // SAFETY: `taken` units of the current stage are claimed and not done, so the caller is
        // still inside `run_stage` and its job alive; the claim acquired the caller's store.
        let job: &Job<'_> = unsafe { &*self.job.load(Ordering::Acquire).cast::<Job<'_>>() };
        let units = job.units;
        let start = units - left;
        if let Err(payload) =
            catch_unwind(AssertUnwindSafe(|| (job.run)(index, start..start + taken)))
        {
            lock(&self.panic).get_or_insert(payload);
        }
        // The job may be gone as soon as the last unit is counted.
        let done = self.done.0.fetch_add(taken, Ordering::SeqCst) + taken;
        if done == units
            && self.leader_parked.swap(false, Ordering::SeqCst)
            && let Some(leader) = lock(&self.leader).as_ref()
        {
            leader.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_unit_runs_once_whatever_the_threads() {
        for threads in [1, 2, 3, 7] {
            let mut pool = ThreadPool::new(threads).unwrap();
            let mut data = vec![0u32; 1000];
            let mut scratch = vec![0usize; threads];
            pool.region(|region| {
                assert_eq!(region.threads(), threads);
                for round in 0..500 {
                    let width = 1 + round % 13;
                    region.stage_with(&mut scratch, Rows::new(&mut data, width), |own, _, part| {
                        *own += part.len();
                        part.iter_mut().for_each(|x| *x += 1);
                    });
                }
                region.stage(Rows::new(&mut data, 1), |units, part| {
                    for (unit, x) in units.zip(part) {
                        *x += unit as u32;
                    }
                });
            });
            assert!(data.iter().enumerate().all(|(i, &x)| x == 500 + i as u32));
            assert_eq!(scratch.iter().sum::<usize>(), 500 * 1000);
        }
    }

    #[test]
    fn parked_workers_wake_up_and_the_pool_drops() {
        let mut pool = ThreadPool::with_spin(3, Duration::ZERO).unwrap();
        let mut data = vec![0u32; 64];
        for _ in 0..2000 {
            pool.region(|region| {
                region.stage(Rows::new(&mut data, 1), |_, part| {
                    part.iter_mut().for_each(|x| *x += 1);
                });
            });
        }
        assert!(data.iter().all(|&x| x == 2000));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        for bad in [0, 17, 99] {
            let mut pool = ThreadPool::new(3).unwrap();
            let mut data = vec![0u32; 100];
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.region(|region| {
                    region.stage(Rows::new(&mut data, 1), |units, _| {
                        assert!(!units.contains(&bad), "unit {bad}");
                    });
                });
            }));
            let message = *result.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(message, format!("unit {bad}"));
            pool.region(|region| {
                region.stage(Rows::new(&mut data, 1), |_, part| part.fill(7));
            });
            assert!(data.iter().all(|&x| x == 7));
        }
    }

    #[test]
    fn too_many_threads_are_refused() {
        assert!(matches!(
            ThreadPool::new(MAX_THREADS + 1),
            Err(CpuError::Limit { .. })
        ));
    }
}
