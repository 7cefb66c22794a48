//! Cases about speculation, drafters, determinantal sampling, ensembles, guidance and selection.

use std::collections::BTreeMap;

use mx_sampling::strategy::best_of::{Candidate, SequenceScore, select};
use mx_sampling::strategy::determinantal::{Ads, AdsOptions, KDpp, dpp_marginals};
use mx_sampling::strategy::draft_length::expected_tokens;
use mx_sampling::strategy::drafters::{NgramDrafter, Occurrence, prompt_lookup};
use mx_sampling::strategy::ensemble::{ByteTrie, UnionVocabulary, average, majority, product};
use mx_sampling::strategy::speculative::{
    Draft, DraftLaw, Replacement, accept_any_probability, accept_probability, acceptance_rate,
    residual, verify, verify_candidates, verify_greedy,
};
use mx_sampling::{
    Sampler, SamplingOptions, StopMatcher, classifier_free_guidance, contrastive_logits,
    contrastive_scores, draw_from_law,
};
use serde_json::Value;

use super::read::{
    Problem, all_near_f64, equal, fail, floats, ids, list, near, near_f32, near_f64, number,
    numbers, rows_of_numbers, text, whole,
};

pub(crate) fn run(kind: &str, case: &Value) -> Result<(), Problem> {
    match kind {
        "spec_position" => spec_position(case),
        "spec_round" => spec_round(case),
        "spec_greedy" => {
            let (accepted, token) =
                verify_greedy(&ids(&case["target_argmax"])?, &ids(&case["drafts"])?)?;
            let mut tokens = ids(&case["drafts"])?[..accepted].to_vec();
            tokens.push(token);
            equal("accepted", &accepted, &whole(&case["expect"]["accepted"])?)?;
            equal("tokens", &tokens, &ids(&case["expect"]["tokens"])?)
        }
        "spec_multi_candidate" => spec_multi_candidate(case),
        "spec_expected_tokens" => {
            let got = expected_tokens(number(&case["alpha"])?, whole(&case["draft_len"])?);
            near_f64(
                "tokens per round",
                got,
                number(&case["expect"]["tokens_per_round"])?,
            )
        }
        "prompt_lookup" => lookup(case),
        "k_dpp" => k_dpp(case),
        "ads" => ads(case),
        "ensemble" => ensemble(case),
        "contrastive_decoding" => contrastive(case),
        "cfg_guidance" => guidance(case),
        "ensemble_union_vocab" => union(case),
        "byte_marginal" => byte_marginal(case),
        "best_of_n" => best_of_n(case),
        "stop_strings" => stop_strings(case),
        _ => Err(Problem::Unsupported(format!("kind {kind}"))),
    }
}

fn spec_position(case: &Value) -> Result<(), Problem> {
    let (p, q, expect) = (numbers(&case["p"])?, numbers(&case["q"])?, &case["expect"]);
    for entry in list(&expect["accept_prob"])? {
        let token = whole(&entry["draft"])? as u32;
        let got = accept_probability(&p, DraftLaw::Drawn(&q), token);
        near_f64(
            &format!("acceptance of {token}"),
            got,
            number(&entry["accept_prob"])?,
        )?;
    }
    near_f64(
        "acceptance rate",
        acceptance_rate(&p, &q),
        number(&expect["acceptance_rate"])?,
    )?;
    let rest = residual(&p, DraftLaw::Drawn(&q), 0);
    all_near_f64("residual", &rest, &numbers(&expect["residual"])?)?;
    if let Some(wanted) = case["match_accept_rate"].as_f64() {
        let got: f64 = p.iter().zip(&q).map(|(p, q)| p * q).sum();
        near_f64("match acceptance", got, wanted)?;
    }
    // "output law equals p": Σ over the draft of accept + reject.
    let rejected = 1.0 - acceptance_rate(&p, &q);
    let law: Vec<f64> = (0..p.len())
        .map(|x| q[x] * accept_probability(&p, DraftLaw::Drawn(&q), x as u32) + rejected * rest[x])
        .collect();
    law.iter()
        .zip(&p)
        .try_for_each(|(got, wanted)| near("output law", *got, *wanted, 1e-9, 1e-12))
}

/// A source of the uniforms of a case; runs dry with 2, which no comparison accepts.
fn uniforms(first: Vec<f64>, last: f64, decided: impl Fn(usize) -> bool) -> impl FnMut() -> f64 {
    let mut taken = 0;
    move || {
        let u = if decided(taken) {
            last
        } else {
            first.get(taken).copied().unwrap_or(last)
        };
        taken += 1;
        u
    }
}

fn spec_round(case: &Value) -> Result<(), Problem> {
    let (p, q, tokens) = (
        rows_of_numbers(&case["p"])?,
        rows_of_numbers(&case["q"])?,
        ids(&case["drafts"])?,
    );
    let drafts: Vec<Draft<'_>> = tokens
        .iter()
        .zip(&q)
        .map(|(token, q)| Draft {
            token: *token,
            law: DraftLaw::Drawn(q),
        })
        .collect();
    let expect = &case["expect"];
    let accepted = whole(&expect["accepted"])?;
    // The final token takes the word after the last examined draft.
    let examined = if accepted == tokens.len() {
        accepted
    } else {
        accepted + 1
    };
    let words = uniforms(
        numbers(&case["u_accept"])?,
        number(&case["u_final"])?,
        |taken| taken >= examined,
    );
    let got = verify(&p, &drafts, words)?;
    equal("accepted", &got.accepted, &accepted)?;
    let mut emitted = tokens[..got.accepted].to_vec();
    emitted.push(got.token);
    equal("tokens", &emitted, &ids(&expect["tokens"])?)?;
    all_near_f64("final law", &got.law, &numbers(&expect["final_law"])?)
}

fn spec_multi_candidate(case: &Value) -> Result<(), Problem> {
    let (p, q, candidates) = (
        numbers(&case["p"])?,
        numbers(&case["q"])?,
        ids(&case["candidates"])?,
    );
    let expect = &case["expect"];
    let accepted = expect["accepted_index"]
        .as_i64()
        .and_then(|at| usize::try_from(at).ok());
    let examined = accepted.map_or(candidates.len(), |at| at + 1);
    let words = uniforms(
        numbers(&case["u_accept"])?,
        number(&case["u_final"])?,
        |taken| taken >= examined,
    );
    let got = verify_candidates(&p, &q, &candidates, Replacement::With, words)?;
    equal("token", &(got.token as usize), &whole(&expect["token"])?)?;
    equal("accepted", &got.accepted, &accepted)?;
    let trace = list(&expect["trace"])?;
    equal("examined", &got.accept_probabilities.len(), &trace.len())?;
    for (got, step) in got.accept_probabilities.iter().zip(trace) {
        near_f64("acceptance", *got, number(&step["accept_prob"])?)?;
    }
    let any = accept_any_probability(&p, &q, candidates.len());
    near_f64(
        "acceptance of any",
        any,
        number(&expect["accept_any_prob"])?,
    )
}

fn lookup(case: &Value) -> Result<(), Problem> {
    let tokens = ids(&case["ids"])?;
    let (max, count) = (whole(&case["max_ngram"])?, whole(&case["num_pred"])?);
    let found = prompt_lookup(&tokens, max, count, Occurrence::Earliest);
    let expect = &case["expect"];
    let draft = if expect["draft"].is_null() {
        Vec::new()
    } else {
        ids(&expect["draft"])?
    };
    equal(
        "draft",
        &found.map_or(Vec::new(), |found| found.draft.to_vec()),
        &draft,
    )?;
    if let (Some(found), Some(ngram)) = (found, expect["ngram"].as_u64()) {
        equal("n-gram", &found.ngram, &(ngram as usize))?;
        equal("start", &found.start, &whole(&expect["match_start"])?)?;
    }
    let mut drafter = NgramDrafter::new(1, max);
    tokens.iter().for_each(|token| drafter.push(*token));
    let latest = prompt_lookup(&tokens, max, count, Occurrence::Latest);
    equal(
        "indexed draft",
        &drafter.draft(count),
        &latest.map_or(&[][..], |found| found.draft),
    )
}

fn k_dpp(case: &Value) -> Result<(), Problem> {
    let (n, k) = (whole(&case["n"])?, whole(&case["k"])?);
    let kernel: Vec<f64> = rows_of_numbers(&case["L"])?.concat();
    let expect = &case["expect"];
    let dpp = KDpp::new(&kernel, n, k)?;
    near_f64("e_k", dpp.normaliser(), number(&expect["e_k"])?)?;
    all_near_f64(
        "inclusion",
        &dpp.inclusion(),
        &numbers(&expect["inclusion"])?,
    )?;
    for entry in list(&expect["subsets"])? {
        let subset: Vec<usize> = list(&entry[0])?
            .iter()
            .map(whole)
            .collect::<Result<_, _>>()?;
        near(
            &format!("probability of {subset:?}"),
            dpp.probability(&subset),
            number(&entry[1])?,
            1e-8,
            1e-12,
        )?;
    }
    all_near_f64(
        "marginals",
        &dpp_marginals(&kernel, n)?,
        &numbers(&expect["unconstrained_dpp_marginal"])?,
    )
}

fn ads(case: &Value) -> Result<(), Problem> {
    let (params, expect) = (&case["params"], &case["expect"]);
    let rows: Vec<Vec<f32>> = list(&params["embeddings"])?
        .iter()
        .map(floats)
        .collect::<Result<_, _>>()?;
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let options = AdsOptions {
        subset_size: whole(&params["subset_size"])?,
        beta: number(&params["beta"])?,
        adaptive: params["adaptive"].as_bool().unwrap_or(true),
    };
    let ads = Ads::new(&numbers(&params["pool_probs"])?, &rows, options)?;
    let tolerance = number(&case["tol"])?;
    equal("subset size", &ads.subset_size(), &whole(&expect["k_t"])?)?;
    for (name, got) in [
        ("inclusion", ads.inclusion()),
        ("inclusion_beta0", ads.independent_inclusion()),
        ("law", ads.law()),
    ] {
        let wanted = numbers(&expect[name])?;
        equal(name, &got.len(), &wanted.len())?;
        for (got, wanted) in got.iter().zip(wanted) {
            near(name, *got, wanted, tolerance, tolerance)?;
        }
    }
    for draw in list(&expect["draws"])? {
        equal(
            "draw",
            &draw_from_law(ads.law(), number(&draw[0])?)?,
            &whole(&draw[1])?,
        )?;
    }
    Ok(())
}

fn softmax(logits: &[f32], temperature: f64) -> Result<Vec<f64>, Problem> {
    let scaled: Vec<f64> = logits.iter().map(|x| f64::from(*x) / temperature).collect();
    let max = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scaled.iter().map(|x| (x - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    Ok(weights.iter().map(|weight| weight / total).collect())
}

fn argmax(law: &[f64]) -> usize {
    (0..law.len())
        .rev()
        .max_by(|a, b| law[*a].total_cmp(&law[*b]))
        .unwrap_or(0)
}

fn ensemble(case: &Value) -> Result<(), Problem> {
    let temperature = number(&case["temperature"])?;
    let rows: Vec<Vec<f32>> = list(&case["logits"])?
        .iter()
        .map(floats)
        .collect::<Result<_, _>>()?;
    let laws: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| softmax(row, temperature))
        .collect::<Result<_, _>>()?;
    let laws: Vec<&[f64]> = laws.iter().map(Vec::as_slice).collect();
    let weights = numbers(&case["weights"])?;
    let expect = &case["expect"];
    let mean = average(&laws, &weights)?;
    all_near_f64("average", &mean, &numbers(&expect["average"])?)?;
    equal(
        "argmax of the average",
        &argmax(&mean),
        &whole(&expect["average_argmax"])?,
    )?;
    let multiplied = product(&laws, &weights)?;
    all_near_f64("product", &multiplied, &numbers(&expect["product"])?)?;
    equal(
        "argmax of the product",
        &argmax(&multiplied),
        &whole(&expect["product_argmax"])?,
    )?;
    let voted = majority(&laws, &weights)?;
    all_near_f64(
        "votes",
        &voted.votes,
        &numbers(&expect["majority"]["votes"])?,
    )?;
    equal(
        "majority",
        &(voted.token as usize),
        &whole(&expect["majority"]["token"])?,
    )
}

fn contrastive(case: &Value) -> Result<(), Problem> {
    let (expert, amateur) = (floats(&case["expert"])?, floats(&case["amateur"])?);
    let (alpha, beta, expect) = (
        number(&case["alpha"])?,
        number(&case["beta"])?,
        &case["expect"],
    );
    let mut scores = expert.clone();
    contrastive_scores(&mut scores, &amateur, alpha)?;
    let plausible: Vec<u32> = (0..scores.len() as u32)
        .filter(|id| scores[*id as usize] > f32::NEG_INFINITY)
        .collect();
    equal("plausible", &plausible, &ids(&expect["plausible"])?)?;
    for (got, wanted) in scores.iter().zip(numbers(&expect["li2022_score"])?) {
        near("score", f64::from(*got), wanted, 2e-6, 1e-6)?;
    }
    let greedy =
        Sampler::new(&SamplingOptions::default(), scores.len(), 0, 0)?.sample(&mut scores, None)?;
    equal(
        "token of the scores",
        &(greedy.token as usize),
        &whole(&expect["li2022_token"])?,
    )?;
    let mut logits = expert;
    contrastive_logits(&mut logits, &amateur, alpha, beta)?;
    let law = softmax(&logits, 1.0)?;
    for (id, (got, wanted)) in law
        .iter()
        .zip(numbers(&expect["obrien2023_probs"])?)
        .enumerate()
    {
        near_f32(&format!("probability of {id}"), *got, wanted)?;
    }
    equal(
        "token of the logits",
        &argmax(&law),
        &whole(&expect["obrien2023_token"])?,
    )
}

fn guidance(case: &Value) -> Result<(), Problem> {
    let mut logits = floats(&case["cond"])?;
    classifier_free_guidance(
        &mut logits,
        &floats(&case["uncond"])?,
        number(&case["scale"])?,
    )?;
    for (got, wanted) in logits.iter().zip(numbers(&case["expect"]["scores"])?) {
        near("score", f64::from(*got), wanted, 2e-6, 1e-6)?;
    }
    Ok(())
}

fn texts(value: &Value) -> Result<Vec<String>, Problem> {
    list(value)?
        .iter()
        .map(|entry| text(entry).map(str::to_owned))
        .collect()
}

fn union(case: &Value) -> Result<(), Problem> {
    let vocabularies = [texts(&case["vocab_a"])?, texts(&case["vocab_b"])?];
    let laws = [
        softmax(&floats(&case["logits_a"])?, 1.0)?,
        softmax(&floats(&case["logits_b"])?, 1.0)?,
    ];
    let weight = number(&case["weight_a"])?;
    let union = UnionVocabulary::new(&vocabularies);
    let law = union.average(&[&laws[0], &laws[1]], &[weight, 1.0 - weight])?;
    let wanted = case["expect"]["union_probs"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    equal("entries", &union.entries().len(), &wanted.len())?;
    for (entry, got) in union.entries().iter().zip(&law) {
        let name = String::from_utf8_lossy(entry);
        near_f64(
            &format!("probability of {name:?}"),
            *got,
            number(&wanted[name.as_ref()])?,
        )?;
    }
    equal(
        "best",
        &union.entries()[argmax(&law)],
        &text(&case["expect"]["best"])?.as_bytes().to_vec(),
    )
}

fn byte_marginal(case: &Value) -> Result<(), Problem> {
    let trie = ByteTrie::new(&texts(&case["tokens"])?);
    let masses = trie.masses(&numbers(&case["probs"])?)?;
    let compare = |what: &str, got: &[f64; 256], wanted: &Value| {
        let mut bytes: BTreeMap<u8, f64> = BTreeMap::new();
        for (name, mass) in wanted.as_object().into_iter().flatten() {
            match name.as_bytes() {
                [byte] => bytes.insert(*byte, number(mass)?),
                _ => return fail(format!("{what}: {name:?} is not one byte")),
            };
        }
        (0..=u8::MAX).try_for_each(|byte| {
            let wanted = bytes.get(&byte).copied().unwrap_or(0.0);
            near_f64(&format!("{what} {byte}"), got[usize::from(byte)], wanted)
        })
    };
    let expect = &case["expect"];
    compare(
        "first byte",
        &trie.marginal(&masses, b"").next,
        &expect["first_byte"],
    )?;
    let after = trie.marginal(&masses, b"a");
    compare(
        "byte after a",
        &after.next,
        &expect["after_byte_a"]["mass_inside_longer_tokens"],
    )?;
    near_f64(
        "mass that ends after a",
        after.ends,
        number(&expect["after_byte_a"]["mass_token_ends"])?,
    )
}

fn best_of_n(case: &Value) -> Result<(), Problem> {
    let expect = &case["expect"];
    let scores: Vec<SequenceScore> = rows_of_numbers(&case["token_logprobs"])?
        .iter()
        .map(|row| SequenceScore::new(row))
        .collect();
    let column = |pick: fn(&SequenceScore) -> f64| scores.iter().map(pick).collect::<Vec<f64>>();
    all_near_f64("sum", &column(|s| s.sum), &numbers(&expect["sum"])?)?;
    all_near_f64("mean", &column(|s| s.mean), &numbers(&expect["mean"])?)?;
    all_near_f64(
        "perplexity",
        &column(|s| s.perplexity),
        &numbers(&expect["perplexity"])?,
    )?;
    let by = |pick: fn(&SequenceScore) -> f64| {
        let candidates: Vec<Candidate> = scores
            .iter()
            .map(|s| Candidate {
                mean_logprob: pick(s),
                ..Candidate::default()
            })
            .collect();
        select(&candidates)
    };
    equal(
        "best mean",
        &by(|s| s.mean),
        &Some(whole(&expect["best_mean"])?),
    )?;
    equal(
        "best sum",
        &by(|s| s.sum),
        &Some(whole(&expect["best_sum"])?),
    )
}

fn stop_strings(case: &Value) -> Result<(), Problem> {
    let stops = texts(&case["stop"])?;
    let expect = &case["expect"];
    let mut matcher = StopMatcher::new(&stops)?;
    let (mut shown, mut stopped_at, mut matched) = (Vec::new(), None, None);
    for (at, piece) in texts(&case["pieces"])?.iter().enumerate() {
        let (part, stopped) = matcher.push(piece.as_bytes());
        shown.extend(part);
        if let Some(stopped) = stopped {
            (stopped_at, matched) = (Some(at as u64), Some(stops[stopped.index].clone()));
            break;
        }
    }
    shown.extend(matcher.finish());
    equal("piece", &stopped_at, &expect["stopped_at_piece"].as_u64())?;
    equal(
        "matched",
        &matched,
        &expect["matched"].as_str().map(str::to_owned),
    )?;
    equal(
        "text",
        &String::from_utf8_lossy(&shown).into_owned(),
        &text(&expect["text"])?.to_owned(),
    )
}
