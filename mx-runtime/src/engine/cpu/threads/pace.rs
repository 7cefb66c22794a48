//! Whether the workers help: a comparison of steps of the same shape with and without them.

use std::time::Duration;

/// What is known about the regions of the current shape.
#[derive(Debug, Default)]
pub(super) struct Pace {
    shape: (usize, usize),
    /// Fastest region with the workers.
    best: Option<Duration>,
    /// Last region without them.
    alone: Option<Duration>,
    /// Regions in a row, with the workers, that were slow.
    slow: u32,
    /// Regions still to be run without them.
    left: u32,
    /// Regions until the next change of mind; doubles up to [`PATIENCE`].
    patience: u32,
}

/// The most regions between two trials.
const PATIENCE: u32 = 64;

/// Slow regions in a row before the first trial.
const FIRST_TRIAL: u32 = 3;

impl Pace {
    /// Whether the next region, or the running one, does without the workers.
    pub(super) fn is_alone(&self) -> bool {
        self.left > 0
    }

    /// Takes note of a region. On a machine with free cores nothing is ever tried: a region is
    /// slow only when it takes 1.4 times the fastest of its shape.
    pub(super) fn finished(&mut self, shape: (usize, usize), time: Duration) {
        if shape != self.shape {
            // Shapes alternate where prompts and tokens do; what was decided is kept.
            self.left = self.left.saturating_sub(1);
            *self = Self {
                shape,
                left: self.left,
                patience: self.patience,
                ..Self::default()
            };
            return;
        }
        if self.left > 0 {
            self.left -= 1;
            self.alone = Some(time);
            return;
        }
        let best = self.best.map_or(time, |best| best.min(time));
        self.best = Some(best);
        if time < best.mul_f32(1.4) && self.alone.is_none_or(|alone| time < alone) {
            (self.slow, self.patience) = (0, self.patience / 2);
            return;
        }
        self.slow += 1;
        match self.alone {
            Some(alone) if alone < time => {
                self.patience = (2 * self.patience).clamp(1, PATIENCE);
                (self.left, self.slow) = (self.patience, 0);
            }
            _ if self.slow >= FIRST_TRIAL.max(self.patience) => {
                self.patience = (2 * self.patience).clamp(1, PATIENCE);
                (self.left, self.slow) = (1, 0);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: (usize, usize) = (100, 1000);

    /// Runs `regions` regions; returns how many did without the workers.
    fn run(pace: &mut Pace, regions: usize, team: u64, alone: u64) -> usize {
        let mut count = 0;
        for _ in 0..regions {
            let is_alone = pace.is_alone();
            count += usize::from(is_alone);
            pace.finished(
                SHAPE,
                Duration::from_micros(if is_alone { alone } else { team }),
            );
        }
        count
    }

    #[test]
    fn a_quiet_machine_never_works_alone() {
        assert_eq!(run(&mut Pace::default(), 1000, 100, 180), 0);
    }

    #[test]
    fn a_busy_machine_works_mostly_alone_until_it_is_quiet() {
        let mut pace = Pace::default();
        run(&mut pace, 50, 100, 180);
        assert!(run(&mut pace, 1000, 500, 200) > 900);
        run(&mut pace, 200, 100, 180);
        assert_eq!(run(&mut pace, 1000, 100, 180), 0);
    }

    #[test]
    fn where_both_are_slow_the_workers_stay() {
        let mut pace = Pace::default();
        run(&mut pace, 50, 100, 180);
        assert!(run(&mut pace, 1000, 300, 600) < 50);
    }
}
