//! Cases about one row of logits: the steps of a chain, draws, penalties, and stateful samplers.

use std::collections::BTreeMap;

use mx_sampling::{
    AdaptiveP, AdaptiveState, Backend, DryOptions, Order, Sampler, SamplingError, SamplingOptions,
    Xtc, gumbel_max,
};
use serde_json::Value;

use super::read::{
    Problem, equal, fail, floats, ids, list, logits, near, near_f32, near_f64, number, numbers,
    text, whole,
};

pub(crate) fn run(kind: &str, case: &Value) -> Result<(), Problem> {
    let params = &case["params"];
    match kind {
        "xtc" => xtc(case),
        "greedy" => greedy(case),
        "inverse_cdf" => inverse_cdf(case),
        "gumbel_max" => {
            let token = gumbel_max(&logits(case)?, &numbers(&params["u"])?)?;
            equal("token", &token, &(whole(&case["expect"]["token"])? as u32))
        }
        "logprobs" => logprobs(case),
        "dynatemp" => dynatemp(case),
        "invalid" => invalid(case),
        "chain_hf_order" | "chain_llama_order" => chain(kind, case),
        "repetition_penalty" | "frequency_presence" | "penalties_llama" | "sequence_bias"
        | "exp_decay_length" => edited(kind, case),
        "no_repeat_ngram" => no_repeat_ngram(case),
        "dry" => dry(case),
        "mirostat_v1" | "mirostat_v2" => mirostat(kind, case),
        "adaptive_p" => adaptive_p(case),
        _ => match single_step(kind, params)? {
            Some(options) => each_law(case, &options),
            None => Err(Problem::Unsupported(format!("kind {kind}"))),
        },
    }
}

/// The options of the kinds that test one truncation or the temperature.
fn single_step(kind: &str, params: &Value) -> Result<Option<SamplingOptions>, Problem> {
    let real = |name: &str| number(&params[name]).map(Some);
    let mut options = SamplingOptions {
        temperature: Some(1.0),
        ..SamplingOptions::default()
    };
    match kind {
        "top_k" => options.top_k = Some(whole(&params["k"])? as i64),
        "top_p" => options.top_p = real("p")?,
        "min_p" => options.min_p = real("min_p")?,
        "typical" => options.typical_p = real("mass")?,
        "epsilon" => options.epsilon_cutoff = real("epsilon")?,
        "eta" => options.eta_cutoff = real("eta")?,
        "top_n_sigma" => options.top_n_sigma = real("n")?,
        "top_h" => {
            options.top_h = real("top_h")?;
            if params["top_n"].as_u64().is_some_and(|n| n != 100) {
                return Err(Problem::Unsupported("top_n other than 100".into()));
            }
        }
        "tail_free" => options.tail_free = real("z")?,
        "temperature" => options.temperature = real("temperature")?,
        _ => return Ok(None),
    }
    if let Some(n) = params["min_tokens_to_keep"].as_u64() {
        options.min_tokens_to_keep = Some(n as u32);
    }
    Ok(Some(options))
}

/// Checks the law of these options on every instruction set.
fn each_law(case: &Value, options: &SamplingOptions) -> Result<(), Problem> {
    for backend in Backend::available() {
        check_law(case, options, &[], *backend)?;
    }
    Ok(())
}

fn check_law(
    case: &Value,
    options: &SamplingOptions,
    context: &[u32],
    backend: Backend,
) -> Result<(), Problem> {
    let row = logits(case)?;
    let mut sampler = Sampler::new(options, row.len(), 0, 0)?;
    sampler.set_backend(backend);
    sampler.observe_prompt(context);
    let mut work = row.clone();
    let law = sampler.law(&mut work, None)?;
    let law: Vec<(u32, f64)> = law.iter().collect();
    compare_law(&case["expect"], &row, &law)
}

fn compare_law(expect: &Value, row: &[f32], law: &[(u32, f64)]) -> Result<(), Problem> {
    let kept: Vec<u32> = law.iter().map(|(id, _)| *id).collect();
    if !expect["kept"].is_null() {
        equal("kept", &kept, &ids(&expect["kept"])?)?;
    }
    let summary = &expect["kept_summary"];
    if !summary.is_null() {
        equal("number kept", &kept.len(), &whole(&summary["count"])?)?;
        let sum: u64 = kept.iter().map(|id| u64::from(*id)).sum();
        equal("sum of ids", &(sum as usize), &whole(&summary["id_sum"])?)?;
        let squares = kept
            .iter()
            .fold(0u32, |sum, id| sum.wrapping_add(id.wrapping_mul(*id)));
        equal(
            "sum of squared ids",
            &(squares as usize),
            &whole(&summary["id_sumsq_mod_2_32"])?,
        )?;
        let least = kept
            .iter()
            .map(|id| row[*id as usize])
            .fold(f32::INFINITY, f32::min);
        equal(
            "least kept logit",
            &f64::from(least),
            &number(&summary["min_kept_logit"])?,
        )?;
    }
    for (name, complete) in [("probs", true), ("probs_some", false)] {
        if expect[name].is_null() {
            continue;
        }
        let wanted = list(&expect[name])?;
        for pair in wanted {
            let id = whole(&pair[0])? as u32;
            let got = law
                .iter()
                .find(|(other, _)| *other == id)
                .map_or(0.0, |(_, p)| *p);
            near_f32(&format!("probability of {id}"), got, number(&pair[1])?)?;
        }
        // A complete list may leave out what has no measurable probability.
        let listed = |id: u32| {
            wanted
                .iter()
                .any(|pair| pair[0].as_u64() == Some(u64::from(id)))
        };
        if let Some((id, p)) = law
            .iter()
            .find(|(id, p)| complete && *p > 1e-9 && !listed(*id))
        {
            return fail(format!("token {id} has probability {p:e}, wanted none"));
        }
    }
    Ok(())
}

fn xtc(case: &Value) -> Result<(), Problem> {
    let params = &case["params"];
    let xtc = Xtc {
        threshold: number(&params["threshold"])?,
        probability: number(&params["probability"])?,
    };
    let row = logits(case)?;
    let mut work = row.clone();
    xtc.apply(number(&params["u"])?, &mut work)?;
    let options = SamplingOptions {
        temperature: Some(1.0),
        ..SamplingOptions::default()
    };
    let mut sampler = Sampler::new(&options, row.len(), 0, 0)?;
    let law: Vec<(u32, f64)> = sampler.law(&mut work, None)?.iter().collect();
    compare_law(&case["expect"], &row, &law)
}

fn greedy(case: &Value) -> Result<(), Problem> {
    let mut row = logits(case)?;
    let draw =
        Sampler::new(&SamplingOptions::default(), row.len(), 0, 0)?.sample(&mut row, None)?;
    equal(
        "token",
        &(draw.token as usize),
        &whole(&case["expect"]["token"])?,
    )
}

fn inverse_cdf(case: &Value) -> Result<(), Problem> {
    let row = logits(case)?;
    let options = SamplingOptions {
        temperature: Some(1.0),
        ..SamplingOptions::default()
    };
    for backend in Backend::available() {
        let mut sampler = Sampler::new(&options, row.len(), 0, 0)?;
        sampler.set_backend(*backend);
        let mut work = row.clone();
        let draw = sampler
            .law(&mut work, None)?
            .draw(number(&case["params"]["u"])?);
        equal(
            "token",
            &(draw.token as usize),
            &whole(&case["expect"]["token"])?,
        )?;
    }
    Ok(())
}

fn logprobs(case: &Value) -> Result<(), Problem> {
    let mut row = logits(case)?;
    let (params, expect) = (&case["params"], &case["expect"]);
    near(
        "logsumexp",
        mx_sampling::log_sum_exp(&row)?,
        number(&expect["logsumexp"])?,
        1e-9,
        1e-12,
    )?;
    let options = SamplingOptions {
        temperature: Some(1.0),
        ..SamplingOptions::default()
    };
    let mut sampler = Sampler::new(&options, row.len(), 0, 0)?;
    let top = whole(&params["top_n"])?;
    sampler.report_logprobs(Some(top), Some(top));
    let entropy = sampler.law(&mut row.clone(), None)?.entropy();
    near(
        "entropy",
        entropy,
        number(&expect["entropy_nats"])?,
        2e-6,
        2e-6,
    )?;
    let draw = sampler.sample(&mut row, None)?;
    let report = sampler
        .logprobs()
        .ok_or_else(|| Problem::Failed("no logprobs".into()))?;
    let wanted = list(&expect["top"])?;
    let live = wanted.iter().filter(|pair| !pair[1].is_null()).count();
    for (side, entries) in [(&report.raw, wanted.len()), (&report.processed, live)] {
        let Some(side) = side else {
            return fail("a side of the logprobs is missing");
        };
        equal("number of entries", &side.top.len(), &entries)?;
        for (got, pair) in side.top.iter().zip(wanted) {
            equal("token", &(got.token as usize), &whole(&pair[0])?)?;
            near("logprob", got.logprob, number(&pair[1])?, 2e-6, 2e-6)?;
        }
        equal("token of the draw", &side.chosen.token, &draw.token)?;
    }
    Ok(())
}

fn dynatemp(case: &Value) -> Result<(), Problem> {
    let params = &case["params"];
    let options = SamplingOptions {
        temperature: Some(number(&params["temperature"])?),
        dynatemp_range: Some(number(&params["range"])?),
        dynatemp_exponent: Some(number(&params["exponent"])?),
        ..SamplingOptions::default()
    };
    each_law(case, &options)?;
    let wanted = number(&case["expect"]["effective_temperature"])?;
    // The law determines the temperature: compare the logit differences before and after.
    let row = logits(case)?;
    let mut scaled = row.clone();
    Sampler::new(&options, row.len(), 0, 0)?.process(&mut scaled, None)?;
    let (mut low, mut high) = (usize::MAX, usize::MAX);
    for (id, &x) in row
        .iter()
        .enumerate()
        .filter(|(_, x)| **x > f32::NEG_INFINITY)
    {
        if low == usize::MAX || x < row[low] {
            low = id;
        }
        if high == usize::MAX || x > row[high] {
            high = id;
        }
    }
    if scaled[low] > f32::NEG_INFINITY && row[high] - row[low] > 0.5 {
        let got = f64::from(row[high] - row[low]) / f64::from(scaled[high] - scaled[low]);
        near("effective temperature", got, wanted, 2e-5, 1e-9)?;
    }
    Ok(())
}

fn invalid(case: &Value) -> Result<(), Problem> {
    let row = logits(case)?;
    let policy = text(&case["expect"]["policy"])?;
    let run = |temperature: f64, sanitize: bool| {
        let options = SamplingOptions {
            temperature: Some(temperature),
            sanitize: Some(sanitize),
            ..SamplingOptions::default()
        };
        Sampler::new(&options, row.len(), 0, 0)?.sample(&mut row.clone(), None)
    };
    for temperature in [0.0, 1.0] {
        let as_said = match run(temperature, false) {
            Err(SamplingError::InvalidLogits { .. }) => policy.starts_with("error InvalidLogits"),
            Err(SamplingError::NoCandidates { .. }) => policy.starts_with("error NoCandidates"),
            _ => false,
        };
        if !as_said {
            return fail(format!(
                "temperature {temperature}: {:?}, but {policy}",
                run(temperature, false)
            ));
        }
    }
    let infinite = row.iter().position(|x| *x == f32::INFINITY);
    if row.iter().any(|x| x.is_nan()) {
        let mut best = None;
        for (id, x) in row.iter().enumerate().filter(|(_, x)| !x.is_nan()) {
            if best.is_none_or(|other: usize| *x > row[other]) {
                best = Some(id);
            }
        }
        equal(
            "sanitised greedy",
            &run(0.0, true).map(|draw| draw.token as usize).ok(),
            &best,
        )?;
    } else if infinite.is_some() {
        equal(
            "greedy on +inf",
            &run(0.0, true).map(|draw| draw.token as usize).ok(),
            &infinite,
        )?;
    }
    Ok(())
}

/// Parameters of a chain under the names of its engine.
fn chain(kind: &str, case: &Value) -> Result<(), Problem> {
    let params = &case["params"];
    let real = |name: &str| params[name].as_f64();
    let int = |name: &str| params[name].as_i64();
    let mut options = SamplingOptions {
        temperature: real("temperature").or(real("temp")).or(Some(1.0)),
        top_k: int("top_k"),
        top_p: real("top_p"),
        min_p: real("min_p"),
        typical_p: real("typical_p").or(real("typ_p")),
        epsilon_cutoff: real("epsilon_cutoff"),
        eta_cutoff: real("eta_cutoff"),
        top_h: real("top_h"),
        top_n_sigma: real("top_n_sigma"),
        repetition_penalty: real("repetition_penalty").or(real("penalty_repeat")),
        frequency_penalty: real("penalty_freq"),
        presence_penalty: real("penalty_present"),
        penalty_last_n: int("penalty_last_n"),
        no_repeat_ngram_size: int("no_repeat_ngram_size").map(|n| n as u32),
        ..SamplingOptions::default()
    };
    let known = [
        "temperature",
        "temp",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "typ_p",
        "epsilon_cutoff",
        "eta_cutoff",
        "top_h",
        "top_n_sigma",
        "repetition_penalty",
        "penalty_repeat",
        "penalty_freq",
        "penalty_present",
        "penalty_last_n",
        "no_repeat_ngram_size",
        "context",
        "order",
    ];
    if let Some(name) = params
        .as_object()
        .and_then(|map| map.keys().find(|name| !known.contains(&name.as_str())))
    {
        return Err(Problem::Unsupported(format!("chain parameter {name}")));
    }
    let context = ids(&params["context"])?;
    let named = if kind == "chain_hf_order" {
        Order::Hf
    } else {
        Order::Llama
    };
    let names: Vec<&str> = list(&params["order"])?
        .iter()
        .map(text)
        .collect::<Result<_, _>>()?;
    // The named order and the order as the case lists it must both give the law.
    for order in [named, Order::from_steps(&names)?] {
        options.order = Some(order);
        for backend in Backend::available() {
            check_law(case, &options, &context, *backend)?;
        }
    }
    Ok(())
}

/// The kinds that give the logits after an edit.
fn edited(kind: &str, case: &Value) -> Result<(), Problem> {
    let params = &case["params"];
    let row = floats(&case["logits"])?;
    let real = |name: &str| number(&params[name]).map(Some);
    let mut options = SamplingOptions::default();
    let mut prompt;
    let mut output = Vec::new();
    match kind {
        "repetition_penalty" => {
            options.repetition_penalty = real("penalty")?;
            prompt = ids(&params["context"])?;
            // Half of it as output: the scope is both.
            output = prompt.split_off(prompt.len() / 2);
        }
        "frequency_presence" => {
            options.frequency_penalty = real("frequency")?;
            options.presence_penalty = real("presence")?;
            output = ids(&params["output"])?;
            // The prompt must not count.
            prompt = output.clone();
        }
        "penalties_llama" => {
            options.order = Some(Order::Llama);
            options.penalty_last_n = params["last_n"].as_i64();
            options.repetition_penalty = real("repeat")?;
            options.frequency_penalty = real("freq")?;
            options.presence_penalty = real("present")?;
            prompt = ids(&params["context"])?;
            output = prompt.split_off(prompt.len() / 2);
        }
        "sequence_bias" => {
            let entries = list(&params["bias"])?.iter();
            let entries = entries.map(|entry| Ok((ids(&entry[0])?, number(&entry[1])?)));
            options.sequence_bias = Some(entries.collect::<Result<_, Problem>>()?);
            prompt = ids(&params["context"])?;
        }
        _ => {
            let generated = whole(&params["cur_len"])? - whole(&params["prompt_len"])?;
            options.exponential_decay =
                Some((whole(&params["start"])? as u32, number(&params["factor"])?));
            options.eos_tokens = Some(vec![whole(&params["eos"])? as u32]);
            prompt = vec![0; whole(&params["prompt_len"])?];
            output = vec![0; generated];
        }
    }
    let mut sampler = Sampler::new(&options, row.len(), 0, 0)?;
    sampler.observe_prompt(&prompt);
    output.iter().for_each(|token| sampler.commit(*token));
    let mut got = row.clone();
    sampler.process(&mut got, None)?;
    let wanted = numbers(&case["expect"]["logits"])?;
    equal("number of logits", &got.len(), &wanted.len())?;
    for (id, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        near(
            &format!("logit of {id}"),
            f64::from(*got),
            wanted,
            2e-7,
            1e-6,
        )?;
    }
    Ok(())
}

fn no_repeat_ngram(case: &Value) -> Result<(), Problem> {
    let params = &case["params"];
    let vocab = whole(&params["vocab"])?;
    let options = SamplingOptions {
        no_repeat_ngram_size: Some(whole(&params["ngram"])? as u32),
        ..SamplingOptions::default()
    };
    let mut sampler = Sampler::new(&options, vocab, 0, 0)?;
    sampler.observe_prompt(&ids(&params["context"])?);
    let mut row = vec![0.0; vocab];
    let banned: Vec<u32> = match sampler.process(&mut row, None) {
        Err(SamplingError::NoCandidates { .. }) => (0..vocab as u32).collect(),
        other => {
            other?;
            (0..vocab as u32)
                .filter(|id| row[*id as usize] == f32::NEG_INFINITY)
                .collect()
        }
    };
    equal("banned", &banned, &ids(&case["expect"]["banned"])?)
}

fn dry(case: &Value) -> Result<(), Problem> {
    let params = &case["params"];
    let breakers = ids(&params["breakers_single_token"])?
        .into_iter()
        .map(|token| vec![token])
        .collect();
    let last_n = params["last_n"].as_i64().unwrap_or(-1);
    let dry = DryOptions {
        multiplier: number(&params["multiplier"])?,
        base: number(&params["base"])?,
        allowed_length: whole(&params["allowed_length"])?,
        last_n: usize::try_from(last_n).ok(),
        breakers,
    };
    let context = ids(&params["context"])?;
    let got: BTreeMap<String, f64> = dry
        .penalties(&context)
        .into_iter()
        .map(|(token, penalty)| (token.to_string(), penalty))
        .collect();
    let Some(wanted) = case["expect"]["penalty"].as_object() else {
        return fail("no penalties expected");
    };
    equal("penalised", &got.keys().collect::<Vec<_>>(), &{
        let mut names: Vec<&String> = wanted.keys().collect();
        names.sort();
        names
    })?;
    for (token, penalty) in &got {
        near_f64(
            &format!("penalty of {token}"),
            *penalty,
            number(&wanted[token])?,
        )?;
    }
    // The same through a chain, on the logits.
    let row = floats(&case["logits"])?;
    let options = SamplingOptions {
        dry_multiplier: Some(dry.multiplier),
        dry_base: Some(dry.base),
        dry_allowed_length: Some(dry.allowed_length as u32),
        dry_last_n: Some(last_n),
        dry_breakers: Some(dry.breakers.clone()),
        ..SamplingOptions::default()
    };
    let mut sampler = Sampler::new(&options, row.len(), 0, 0)?;
    sampler.observe_prompt(&context);
    let mut work = row.clone();
    sampler.process(&mut work, None)?;
    for (id, (before, after)) in row.iter().zip(&work).enumerate() {
        let penalty = got.get(&id.to_string()).copied().unwrap_or(0.0);
        near(
            &format!("logit of {id}"),
            f64::from(*after),
            f64::from(*before) - penalty,
            2e-7,
            1e-6,
        )?;
    }
    Ok(())
}

fn mirostat(kind: &str, case: &Value) -> Result<(), Problem> {
    let params = &case["params"];
    let options = SamplingOptions {
        mirostat: Some(if kind == "mirostat_v1" { 1 } else { 2 }),
        mirostat_tau: Some(number(&params["tau"])?),
        mirostat_eta: Some(number(&params["eta"])?),
        ..SamplingOptions::default()
    };
    let mut sampler = Sampler::new(&options, whole(&params["vocab"])?, 0, 0)?;
    equal(
        "mu before",
        &sampler.mirostat_mu(),
        &Some(number(&params["mu0"])?),
    )?;
    for (at, step) in list(&case["steps"])?.iter().enumerate() {
        let mut row = floats(&step["logits"])?;
        let mut law = sampler.law(&mut row, None)?;
        let kept = if step["k"].is_null() {
            &step["kept_count"]
        } else {
            &step["k"]
        };
        equal(&format!("kept at step {at}"), &law.kept(), &whole(kept)?)?;
        let draw = law.draw(number(&step["u"])?);
        equal(
            &format!("token at step {at}"),
            &(draw.token as usize),
            &whole(&step["token"])?,
        )?;
        let surprise = -draw.logprob / std::f64::consts::LN_2;
        near(
            &format!("surprise at step {at}"),
            surprise,
            number(&step["surprise_bits"])?,
            2e-6,
            2e-6,
        )?;
        sampler.commit(draw.token);
        let mu = sampler.mirostat_mu().unwrap_or(f64::NAN);
        near(
            &format!("mu after step {at}"),
            mu,
            number(&step["mu_after"])?,
            2e-6,
            2e-6,
        )?;
    }
    Ok(())
}

fn adaptive_p(case: &Value) -> Result<(), Problem> {
    let params = &case["params"];
    for (name, wanted) in [("width", 0.3), ("peak", 5.0), ("sharpness", 10.0)] {
        if number(&params[name])? != wanted {
            return Err(Problem::Unsupported(format!(
                "adaptive_p {name} other than {wanted}"
            )));
        }
    }
    let adaptive = AdaptiveP {
        target: number(&params["target"])?,
        decay: number(&params["decay"])?,
    };
    let mut state = AdaptiveState::default();
    for p in numbers(&params["history_original_probs"])? {
        state = adaptive.update(state, p);
    }
    near_f64(
        "adapted target",
        adaptive.adapted(state),
        number(&case["expect"]["adapted_target"])?,
    )?;
    let mut row = logits(case)?;
    adaptive.apply(state, &mut row)?;
    let options = SamplingOptions {
        temperature: Some(1.0),
        ..SamplingOptions::default()
    };
    let mut sampler = Sampler::new(&options, row.len(), 0, 0)?;
    let law = sampler.law(&mut row, None)?;
    for (id, wanted) in numbers(&case["expect"]["probs"])?.into_iter().enumerate() {
        near_f32(
            &format!("probability of {id}"),
            law.probability(id as u32),
            wanted,
        )?;
    }
    Ok(())
}
