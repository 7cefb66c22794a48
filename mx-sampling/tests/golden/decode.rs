//! Cases about the beam family, on tables that stand for models.

use mx_sampling::strategy::beam::{BeamOptions, BeamSearch, EarlyStopping, Hypothesis};
use serde_json::Value;

use super::read::{Problem, equal, fail, ids, list, near, number, numbers, whole};

pub(crate) fn run(kind: &str, case: &Value) -> Result<(), Problem> {
    match kind {
        "beam_search" => beam_search(case),
        "diverse_beam_search" => diverse(case),
        "constrained_beam_search" => constrained(case),
        _ => Err(Problem::Unsupported(format!("kind {kind}"))),
    }
}

/// Sums of the same log-probabilities in another order differ by less.
const ROUNDING: f64 = 1e-12;

/// A Markov table: log-probabilities of the next token after the last one or two.
struct Table {
    vocab: usize,
    order: usize,
    rows: Vec<Vec<f64>>,
    prompt: Vec<u32>,
}

impl Table {
    fn read(case: &Value) -> Result<Self, Problem> {
        let (vocab, order) = (whole(&case["vocab"])?, whole(&case["order"])?);
        let scores = numbers(&case["logprob_table"])?;
        equal(
            "size of the table",
            &scores.len(),
            &vocab.pow(order as u32 + 1),
        )?;
        let rows = scores
            .chunks(vocab)
            .map(|row| {
                let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let lse = max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
                row.iter().map(|x| x - lse).collect()
            })
            .collect();
        Ok(Self {
            vocab,
            order,
            rows,
            prompt: ids(&case["prompt"])?,
        })
    }

    fn row(&self, generated: &[u32]) -> &[f64] {
        let text: Vec<usize> = self
            .prompt
            .iter()
            .chain(generated)
            .map(|token| *token as usize)
            .collect();
        let last = text[text.len() - 1];
        let index = match self.order {
            1 => last,
            _ => text[text.len().saturating_sub(2)] * self.vocab + last,
        };
        &self.rows[index]
    }

    /// The plain log-probability of a text: the sum over its generated part.
    fn logprob(&self, text: &[u32]) -> f64 {
        let generated = &text[self.prompt.len()..];
        (0..generated.len())
            .map(|at| self.row(&generated[..at])[generated[at] as usize])
            .sum()
    }

    /// Fails unless the texts are equal, or so close in probability that rounding decides their order.
    fn same(&self, what: &str, got: &Hypothesis, wanted: &[u32]) -> Result<(), Problem> {
        let text = self.text(got);
        let tied = || {
            let lengths_agree = text.len() == wanted.len();
            lengths_agree && (self.logprob(&text) - self.logprob(wanted)).abs() < ROUNDING
        };
        if text == wanted || tied() {
            Ok(())
        } else {
            equal(what, &text.as_slice(), &wanted)
        }
    }

    fn search(&self, options: BeamOptions) -> Result<Vec<Hypothesis>, Problem> {
        let mut search = BeamSearch::new(options, self.vocab)?;
        while !search.is_done() {
            let rows: Vec<&[f64]> = search
                .live()
                .iter()
                .map(|beam| self.row(&beam.tokens))
                .collect();
            search.step(&rows)?;
        }
        Ok(search.finish())
    }

    /// Prompt and generated tokens.
    fn text(&self, hypothesis: &Hypothesis) -> Vec<u32> {
        self.prompt
            .iter()
            .chain(&hypothesis.tokens)
            .copied()
            .collect()
    }
}

fn base_options(case: &Value) -> Result<BeamOptions, Problem> {
    let eos = match &case["eos"] {
        Value::Null => Vec::new(),
        Value::Array(_) => ids(&case["eos"])?,
        one => vec![whole(one)? as u32],
    };
    Ok(BeamOptions {
        max_new_tokens: whole(&case["max_new_tokens"])?,
        eos_tokens: eos,
        ..BeamOptions::default()
    })
}

fn early_stopping(value: &Value) -> EarlyStopping {
    match value {
        Value::Bool(true) => EarlyStopping::Yes,
        Value::String(_) => EarlyStopping::Never,
        _ => EarlyStopping::Heuristic,
    }
}

fn beam_search(case: &Value) -> Result<(), Problem> {
    let table = Table::read(case)?;
    for (at, run) in list(&case["runs"])?.iter().enumerate() {
        let options = BeamOptions {
            width: whole(&run["num_beams"])?,
            length_penalty: number(&run["length_penalty"])?,
            early_stopping: early_stopping(&run["early_stopping"]),
            ..base_options(case)?
        };
        let found = table.search(options)?;
        compare(
            &format!("run {at}"),
            &table,
            &found,
            list(&run["n_best"])?,
            1e-6,
            None,
        )?;
    }
    Ok(())
}

fn compare(
    what: &str,
    table: &Table,
    found: &[Hypothesis],
    wanted: &[Value],
    tolerance: f64,
    pad: Option<u32>,
) -> Result<(), Problem> {
    equal(&format!("{what}: hypotheses"), &found.len(), &wanted.len())?;
    for (rank, (got, wanted)) in found.iter().zip(wanted).enumerate() {
        let mut tokens = ids(&wanted["tokens"])?;
        if let Some(pad) = pad.filter(|_| got.ended) {
            let padding = tokens.split_off(tokens.len().min(table.prompt.len() + got.tokens.len()));
            equal(
                &format!("{what}, padding {rank}"),
                &padding.iter().all(|token| *token == pad),
                &true,
            )?;
        }
        table.same(&format!("{what}, rank {rank}"), got, &tokens)?;
        near(
            &format!("{what}, score {rank}"),
            got.score,
            number(&wanted["score"])?,
            tolerance,
            tolerance,
        )?;
    }
    Ok(())
}

fn diverse(case: &Value) -> Result<(), Problem> {
    let table = Table::read(case)?;
    let pad = whole(&case["pad"])? as u32;
    let tolerance = number(&case["float_tol"])?;
    for (at, run) in list(&case["runs"])?.iter().enumerate() {
        let options = BeamOptions {
            width: whole(&run["num_beams"])?,
            groups: whole(&run["groups"])?,
            diversity_penalty: number(&run["diversity_penalty"])?,
            length_penalty: number(&run["length_penalty"])?,
            ..base_options(case)?
        };
        let found = table.search(options)?;
        compare(
            &format!("run {at}"),
            &table,
            &found,
            list(&run["n_best"])?,
            tolerance,
            Some(pad),
        )?;
    }
    Ok(())
}

fn constrained(case: &Value) -> Result<(), Problem> {
    let table = Table::read(case)?;
    let phrases: Vec<Vec<u32>> = list(&case["must_include"])?
        .iter()
        .map(ids)
        .collect::<Result<_, _>>()?;
    let base = BeamOptions {
        must_include: phrases.clone(),
        early_stopping: EarlyStopping::Never,
        ..base_options(case)?
    };
    let wide = table.vocab * table.vocab * (base.max_new_tokens + 1);
    for (name, length_penalty, field) in [
        ("exhaustive_top5_logprob", 0.0, "logprob"),
        ("exhaustive_top5_len_norm", 1.0, "score"),
    ] {
        let Some(best) = case[name].as_array().and_then(|top| top.first()) else {
            continue;
        };
        let optimum = number(&best[field])?;
        for width in [1, 4, 12, wide] {
            let found = table.search(BeamOptions {
                width,
                length_penalty,
                ..base.clone()
            })?;
            let Some(first) = found.first() else {
                return fail(format!("{name}, width {width}: nothing found"));
            };
            for hypothesis in &found {
                let has = |phrase: &Vec<u32>| {
                    hypothesis
                        .tokens
                        .windows(phrase.len())
                        .any(|part| part == phrase)
                };
                if !phrases.iter().all(has) {
                    return fail(format!(
                        "{name}, width {width}: {:?} lacks a phrase",
                        hypothesis.tokens
                    ));
                }
            }
            if first.score > optimum + 1e-6 {
                return fail(format!(
                    "{name}, width {width}: {} is better than the optimum {optimum}",
                    first.score
                ));
            }
            if width == wide {
                near(
                    &format!("{name}, best score"),
                    first.score,
                    optimum,
                    1e-6,
                    1e-6,
                )?;
                table.same(&format!("{name}, best"), first, &ids(&best["tokens"])?)?;
            }
        }
    }
    Ok(())
}
