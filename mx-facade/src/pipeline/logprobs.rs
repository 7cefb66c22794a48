//! Log-probabilities under the model's own law.

use crate::generation::TokenLogprobs;
use crate::trace::Likely;
use mx_sampling::log_normaliser;

/// One row of logits as it came, kept while the chain changes the original.
#[derive(Debug, Default)]
pub(crate) struct RawRow {
    logits: Vec<f32>,
}

impl RawRow {
    pub(crate) fn keep(&mut self, line: &[f32]) {
        self.logits.clear();
        self.logits.extend_from_slice(line);
    }

    /// The `count` most likely tokens.
    pub(crate) fn likely(&self, count: usize) -> Vec<Likely> {
        let report = self.report(0, count);
        let likely = |(token, logprob)| Likely { token, logprob };
        report.top.into_iter().map(likely).collect()
    }

    /// The report for the token that was chosen, with the `top` most likely ones.
    pub(crate) fn report(&self, token: u32, top: usize) -> TokenLogprobs {
        let log_sum = log_normaliser(&self.logits);
        let logprob = |token: u32| {
            let logit = self.logits.get(token as usize).copied();
            f64::from(logit.unwrap_or(f32::NEG_INFINITY)) - log_sum
        };
        TokenLogprobs {
            token,
            logprob: logprob(token),
            top: largest(&self.logits, top)
                .into_iter()
                .map(|token| (token, logprob(token)))
                .collect(),
        }
    }
}

/// The ids of the `count` largest values, largest first, lower ids first on ties.
fn largest(values: &[f32], count: usize) -> Vec<u32> {
    let mut best: Vec<u32> = Vec::with_capacity(count + 1);
    for (id, value) in values.iter().enumerate() {
        let full = best.len() == count;
        if full
            && best
                .last()
                .is_none_or(|last| *value <= values[*last as usize])
        {
            continue;
        }
        let at = best.partition_point(|other| values[*other as usize] >= *value);
        best.insert(at, id as u32);
        best.truncate(count);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_a_log_softmax() {
        let mut row = RawRow::default();
        row.keep(&[1.0, 3.0, f32::NEG_INFINITY, 3.0, 2.0]);
        let report = row.report(4, 3);
        let sum: f64 = [1.0f64, 3.0, 3.0, 2.0].iter().map(|x| x.exp()).sum();
        assert!((report.logprob - (2.0 - sum.ln())).abs() < 1e-6);
        let ids: Vec<u32> = report.top.iter().map(|(token, _)| *token).collect();
        assert_eq!(ids, [1, 3, 4]);
        assert!((report.top[0].1 - (3.0 - sum.ln())).abs() < 1e-6);
        assert_eq!(row.report(2, 0).logprob, f64::NEG_INFINITY);
        assert!(row.report(2, 0).top.is_empty());
    }
}
