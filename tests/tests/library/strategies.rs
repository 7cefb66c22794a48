//! Decoding strategies against what they promise: the law of the plain path, and the optimum of a search.

use crate::{load, scripted, tiny};
use mx::request::{DrafterKind, Voting};
use mx::{Client, Error, ErrorKind, FinishReason, GenerateRequest, Generation, Method};
use mx_runtime::engine::{Row, StepOutput, Want};
use mx_runtime::model::Model;
use mx_tests::data;
use mx_tests::scripted::Script;
use std::collections::HashMap;
use std::sync::Arc;

/// A text that repeats itself, so that lookup finds drafts.
const PROMPT: &str = "one two three one two three one two";

fn request(tokens: usize) -> GenerateRequest {
    let mut request = GenerateRequest::new(PROMPT)
        .raw(true)
        .max_tokens(tokens)
        .seed(3);
    request.ignore_eos = Some(true);
    request
}

/// A client with the tiny model under three names, and one of another vocabulary.
fn client() -> Client {
    let mut client = Client::with_model(tiny());
    client.add_model("same", tiny());
    client.add_model("other", other());
    client
}

/// A model whose vocabulary is not that of the tiny one.
fn other() -> Arc<Model> {
    load(&data::gguf("llama3_rope_untied"))
}

fn run(request: &GenerateRequest) -> Generation {
    client().run(request).unwrap()
}

/// Log-probabilities after each token of `tokens` that follow the prompt, from the engine itself.
fn laws(model: &Model, prompt: &[u32], tokens: &[u32]) -> Vec<Vec<f64>> {
    let all: Vec<u32> = prompt.iter().chain(tokens).copied().collect();
    let mut sequence = model.engine().new_sequence();
    let mut output = StepOutput::new();
    let row = Row {
        sequence: &mut sequence,
        tokens: &all,
        want: Want::All,
        hooks: None,
    };
    model.engine().step(&mut [row], &mut output).unwrap();
    let lines = output.logits(0);
    (prompt.len() - 1..all.len())
        .map(|at| log_softmax(lines.get(at).unwrap()))
        .collect()
}

fn log_softmax(line: &[f32]) -> Vec<f64> {
    let max = line.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = line.iter().map(|x| f64::from(x - max).exp()).sum();
    line.iter().map(|x| f64::from(x - max) - sum.ln()).collect()
}

fn prompt_tokens(model: &Arc<Model>) -> Vec<u32> {
    mx::pipeline::Plan::new(Arc::clone(model), &request(1), || 0)
        .unwrap()
        .prompt_tokens()
        .to_vec()
}

#[test]
fn several_outputs_are_what_their_streams_give() {
    let several = run(&request(12).n(3).temperature(1.5).top_k(0));
    assert_eq!(several.choices.len(), 3);
    assert_eq!(several.text, several.choices[0].text);
    assert_eq!(several.usage.completion_tokens, 36);
    let alone = run(&request(12).temperature(1.5).top_k(0));
    assert_eq!(several.tokens, alone.tokens);
    let texts: Vec<&str> = several.choices.iter().map(|c| c.text.as_str()).collect();
    assert!(texts[0] != texts[1] && texts[1] != texts[2], "{texts:?}");
    // Streamed and in one piece are the same.
    let client = client();
    let mut stream = client
        .stream(&request(12).n(3).temperature(1.5).top_k(0))
        .unwrap();
    let mut pieces = vec![String::new(); 3];
    for chunk in stream.by_ref() {
        let chunk = chunk.unwrap();
        pieces[chunk.index] += &chunk.text;
    }
    assert_eq!(pieces, texts);
}

#[test]
fn the_best_of_n_has_the_largest_mean_logprob() {
    let all = run(&request(10).n(6).best_of_n(6).temperature(1.5).logprobs(0));
    let mean = |choice: &mx::Choice| {
        choice.logprobs.iter().map(|l| l.logprob).sum::<f64>() / choice.tokens.len() as f64
    };
    let mut ranked: Vec<_> = all.choices.iter().collect();
    ranked.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    let best = run(&request(10).best_of_n(6).temperature(1.5));
    assert_eq!(best.tokens, ranked[0].tokens);
    assert!(best.choices.is_empty());
    let two = run(&request(10).n(2).best_of_n(6).temperature(1.5));
    assert_eq!(two.choices[1].tokens, ranked[1].tokens);
    assert!((two.choices[1].score.unwrap() - mean(ranked[1])).abs() < 1e-9);
    // What is streamed is the winner, and nothing else.
    let client = client();
    let mut stream = client
        .stream(&request(10).best_of_n(6).temperature(1.5))
        .unwrap();
    let text: String = stream.by_ref().map(|chunk| chunk.unwrap().text).collect();
    assert_eq!(text, best.text);
}

#[test]
fn logprobs_are_those_of_the_model() {
    let model = tiny();
    for method in [Method::TopK, Method::Ads, Method::Speculative, Method::Beam] {
        let answer = run(&request(8).method(method).logprobs(3));
        let laws = laws(&model, &prompt_tokens(&model), &answer.tokens);
        assert_eq!(answer.logprobs.len(), answer.tokens.len(), "{method:?}");
        for (report, law) in answer.logprobs.iter().zip(&laws) {
            let wanted = law[report.token as usize];
            assert!((report.logprob - wanted).abs() < 1e-4, "{method:?}");
            assert_eq!(report.top.len(), 3);
            let best = law.iter().copied().fold(f64::MIN, f64::max);
            assert!((report.top[0].1 - best).abs() < 1e-4, "{method:?}");
        }
    }
}

#[test]
fn logprobs_of_forced_tokens_are_those_of_the_model() {
    let model = tiny();
    let long = format!("(yes|no){}", "; one two three".repeat(12));
    for pattern in [
        "the answer is certainly (yes|no)",
        "(yes|no), that is all",
        &long,
    ] {
        for candidates in [1, 2] {
            let asked = request(300)
                .regex(pattern)
                .best_of_n(candidates)
                .logprobs(1)
                .include_trace(true);
            let answer = run(&asked);
            let forced = mx::trace::TokenSource::Forced;
            let steps = &answer.trace.as_ref().unwrap().steps;
            assert!(steps.iter().filter(|step| step.source == forced).count() > 5);
            let laws = laws(&model, &prompt_tokens(&model), &answer.tokens);
            assert_eq!(answer.logprobs.len(), answer.tokens.len());
            for ((report, law), step) in answer.logprobs.iter().zip(&laws).zip(steps) {
                assert!((report.logprob - law[report.token as usize]).abs() < 1e-4);
                assert_eq!(step.raw_logprob, Some(report.logprob));
                assert_eq!(report.token, step.token);
            }
        }
    }
}

#[test]
fn greedy_with_drafts_is_plain_greedy() {
    let plain = run(&request(40).method(Method::Greedy));
    let mut lookup = request(40).method(Method::Greedy);
    lookup.controls.drafter = Some(DrafterKind::PromptLookup);
    assert_eq!(run(&lookup).tokens, plain.tokens);
    for model in ["same", "other"] {
        let mut drafted = request(40).method(Method::Greedy);
        drafted.controls.draft_model = Some(model.to_owned());
        assert_eq!(run(&drafted).tokens, plain.tokens, "{model}");
        drafted.sampling_method = Some(Method::Ssd);
        drafted.sampling.temperature = Some(0.0);
        assert_eq!(run(&drafted).tokens, plain.tokens, "ssd {model}");
    }
}

#[test]
fn a_draft_of_the_model_itself_is_accepted() {
    let mut drafted = request(40).method(Method::Speculative).include_trace(true);
    drafted.controls.draft_model = Some("same".to_owned());
    let answer = run(&drafted);
    let steps = answer.trace.unwrap().steps;
    let of = |source| steps.iter().filter(|step| step.source == source).count();
    // A draft as dear as the model itself is one token long: every second token is drafted.
    assert!(of(mx::trace::TokenSource::Drafted) >= 19);
    assert_eq!(of(mx::trace::TokenSource::Corrected), 0);
}

/// Counts of the first two tokens over many seeds.
fn counts(change: impl Fn(&mut GenerateRequest), seeds: u64) -> HashMap<Vec<u32>, f64> {
    let client = client();
    let mut counts = HashMap::new();
    for seed in 0..seeds {
        let mut request = request(3).seed(seed).top_k(3).temperature(1.3);
        change(&mut request);
        let tokens = client.run(&request).unwrap().tokens;
        *counts.entry(tokens[..2].to_vec()).or_insert(0.0) += 1.0;
    }
    counts
}

/// The exact law of the first two tokens under top-k 3 and temperature 1.3.
fn exact() -> HashMap<Vec<u32>, f64> {
    let model = tiny();
    let prompt = prompt_tokens(&model);
    let eos = model.eos_tokens();
    let top = |law: &[f64]| {
        let mut ids: Vec<usize> = (0..law.len())
            .filter(|id| !eos.contains(&(*id as u32)))
            .collect();
        ids.sort_by(|a, b| law[*b].total_cmp(&law[*a]));
        ids.truncate(3);
        let weights: Vec<f64> = ids.iter().map(|id| (law[*id] / 1.3).exp()).collect();
        let total: f64 = weights.iter().sum();
        let pairs = ids.into_iter().zip(weights.into_iter().map(|w| w / total));
        pairs.map(|(id, p)| (id as u32, p)).collect::<Vec<_>>()
    };
    let mut joint = HashMap::new();
    let first = top(&laws(&model, &prompt, &[])[0]);
    for (a, p) in first {
        for (b, q) in top(&laws(&model, &prompt, &[a])[1]) {
            joint.insert(vec![a, b], p * q);
        }
    }
    joint
}

/// Pearson's χ² of counts against the exact law; 9 cells. The critical value of 8 degrees of freedom at 1e-6 is 42.7.
fn chi_squared(counts: &HashMap<Vec<u32>, f64>, law: &HashMap<Vec<u32>, f64>) -> f64 {
    let total: f64 = counts.values().sum();
    assert!(
        counts.keys().all(|pair| law.contains_key(pair)),
        "a token outside the law"
    );
    law.iter()
        .map(|(pair, p)| {
            let expected = p * total;
            (counts.get(pair).unwrap_or(&0.0) - expected).powi(2) / expected
        })
        .sum()
}

#[test]
fn every_way_of_drafting_keeps_the_law() {
    let law = exact();
    assert_eq!(law.len(), 9);
    let critical = 42.7;
    let draft = |model: &'static str, method: Method| {
        move |request: &mut GenerateRequest| {
            request.sampling_method = Some(method);
            request.controls.draft_model = Some(model.to_owned());
            request.controls.speculative_steps = Some(2);
        }
    };
    type Change = Box<dyn Fn(&mut GenerateRequest)>;
    let ways: [(&str, Change); 7] = [
        ("plain", Box::new(|_: &mut GenerateRequest| {})),
        (
            "lookup",
            Box::new(|r: &mut GenerateRequest| r.sampling_method = Some(Method::Speculative)),
        ),
        ("itself", Box::new(draft("same", Method::Speculative))),
        (
            "another vocabulary",
            Box::new(draft("other", Method::Speculative)),
        ),
        ("ssd", Box::new(draft("same", Method::Ssd))),
        ("early exit", Box::new(draft("self", Method::Speculative))),
        ("early exit, ssd", Box::new(draft("self", Method::Ssd))),
    ];
    for (name, change) in &ways {
        let found = chi_squared(&counts(change, 1200), &law);
        assert!(found < critical, "{name}: chi squared {found:.1}");
    }
    // The test can fail: another temperature is another law.
    let wrong = chi_squared(&counts(|r| r.sampling.temperature = Some(0.9), 1200), &law);
    assert!(wrong > critical, "{wrong:.1}");
}

#[test]
fn a_batch_of_outputs_keeps_the_law() {
    let client = client();
    let mut counts = HashMap::new();
    for seed in 0..60 {
        let request = request(3).seed(seed).top_k(3).temperature(1.3).n(25);
        for choice in client.run(&request).unwrap().choices {
            *counts.entry(choice.tokens[..2].to_vec()).or_insert(0.0) += 1.0;
        }
    }
    let found = chi_squared(&counts, &exact());
    assert!(found < 42.7, "chi squared {found:.1}");
}

#[test]
fn a_beam_search_finds_the_best_of_all_pairs() {
    let model = tiny();
    let prompt = prompt_tokens(&model);
    let eos = model.eos_tokens();
    let first = laws(&model, &prompt, &[]).remove(0);
    let allowed = |id: &u32| !eos.contains(id);
    let mut best = (f64::MIN, Vec::new());
    for a in (0..first.len() as u32).filter(allowed) {
        let second = laws(&model, &prompt, &[a]).remove(1);
        for b in (0..second.len() as u32).filter(allowed) {
            let score = first[a as usize] + second[b as usize];
            if score > best.0 {
                best = (score, vec![a, b]);
            }
        }
    }
    let mut wide = request(2).method(Method::Beam);
    wide.controls.beam_width = Some(64);
    let answer = run(&wide.clone().n(2));
    assert_eq!(answer.tokens, best.1);
    assert!((answer.choices[0].score.unwrap() - best.0 / 2.0).abs() < 1e-4);
    assert!(answer.choices[0].score >= answer.choices[1].score);
    assert_eq!(answer.finish_reason, FinishReason::Length);
    // One beam is greedy.
    wide.controls.beam_width = Some(1);
    wide.max_tokens = Some(9);
    assert_eq!(
        run(&wide).tokens,
        run(&request(9).method(Method::Greedy)).tokens
    );
}

#[test]
fn phrases_are_included() {
    for phrases in [vec!["three"], vec!["two", "one one"]] {
        let mut search = request(16).method(Method::ConstrainedBeam);
        search.controls.must_include = phrases.iter().map(|p| (*p).to_owned()).collect();
        let answer = run(&search);
        for phrase in phrases {
            assert!(
                answer.text.contains(phrase),
                "{phrase:?} in {:?}",
                answer.text
            );
        }
    }
    let mut bare = request(4).method(Method::ConstrainedBeam);
    let error = client().run(&bare).unwrap_err();
    assert!(error.to_string().contains("must_include"), "{error}");
    bare.controls.must_include = vec!["one two three four five six seven".to_owned()];
    assert!(client().run(&bare).is_err(), "it does not fit four tokens");
}

#[test]
fn an_ensemble_of_a_model_with_itself_is_the_model() {
    let plain = run(&request(20).method(Method::Greedy));
    for voting in [Voting::Average, Voting::Product, Voting::Majority] {
        let mut together = request(20).method(Method::Greedy);
        together.controls.ensemble_models = vec!["same".to_owned()];
        together.controls.voting = Some(voting);
        let answer = run(&together);
        assert_eq!(answer.tokens, plain.tokens, "{voting:?}");
        // Drafts, beams and several outputs work on the common law too.
        together.controls.drafter = Some(DrafterKind::PromptLookup);
        assert_eq!(
            run(&together).tokens,
            plain.tokens,
            "{voting:?} with drafts"
        );
        let several = run(&together.clone().n(2));
        assert_eq!(several.choices[1].tokens, plain.tokens, "{voting:?} twice");
    }
    let mut drawn = request(20).temperature(1.2);
    let alone = run(&drawn).tokens;
    drawn.controls.ensemble_models = vec!["same".to_owned()];
    drawn.sampling_method = Some(Method::Ensemble);
    drawn.sampling.top_k = Some(50);
    assert_eq!(run(&drawn).tokens, alone);
}

#[test]
fn the_weights_of_an_ensemble_decide() {
    let script = |text: &str| scripted(&Script::says(text)).model().cloned().unwrap();
    let mut client = Client::with_model(script("abc"));
    client.add_model("d", script("adc"));
    client.add_model("e", script("adef"));
    let mut request = GenerateRequest::new("a")
        .raw(true)
        .max_tokens(1)
        .method(Method::Greedy);
    request.controls.ensemble_models = vec!["d".to_owned(), "e".to_owned()];
    for (weights, voting, wanted) in [
        (vec![], Voting::Average, "d"),
        (vec![3.0, 1.0, 1.0], Voting::Average, "b"),
        (vec![], Voting::Majority, "d"),
        (vec![2.5, 1.0, 1.0], Voting::Majority, "b"),
    ] {
        request.controls.ensemble_weights = weights;
        request.controls.voting = Some(voting);
        assert_eq!(client.run(&request).unwrap().text, wanted);
    }
}

#[test]
fn ads_without_repulsion_is_plain_sampling() {
    let mut none = request(12).temperature(1.2).top_k(20).method(Method::Ads);
    none.controls.ads_beta = Some(0.0);
    let plain = request(12).temperature(1.2).top_k(20);
    assert_eq!(run(&none).tokens, run(&plain).tokens);
    none.controls.ads_beta = Some(0.9);
    let repelled = (0..20)
        .any(|seed| run(&none.clone().seed(seed)).tokens != run(&plain.clone().seed(seed)).tokens);
    assert!(repelled);
}

#[test]
fn what_excludes_itself_is_refused_with_the_reason() {
    let refuse = |change: &dyn Fn(&mut GenerateRequest)| {
        let mut request = request(4);
        change(&mut request);
        client().run(&request).unwrap_err()
    };
    let unsupported = |error: Error, words: &[&str]| {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        words
            .iter()
            .for_each(|word| assert!(error.to_string().contains(word), "{error}"));
    };
    unsupported(
        refuse(&|r| {
            r.sampling_method = Some(Method::Beam);
            r.controls.drafter = Some(DrafterKind::PromptLookup);
        }),
        &["drafts", "ranks"],
    );
    unsupported(
        refuse(&|r| r.controls.draft_model = Some("nobody".to_owned())),
        &["nobody", "not loaded"],
    );
    type Change = fn(&mut GenerateRequest);
    let invalid: [(Change, &[&str]); 8] = [
        (|r| r.controls.n = Some(0), &["n is 0", "1 to 64"]),
        (|r| r.controls.n = Some(65), &["n is 65"]),
        (
            |r| {
                r.controls.n = Some(3);
                r.controls.best_of_n = Some(2);
            },
            &["best_of_n is 2", "3 to 64"],
        ),
        (
            |r| r.sampling_method = Some(Method::Guided),
            &["json_schema"],
        ),
        (
            |r| r.sampling_method = Some(Method::Ensemble),
            &["ensemble_models"],
        ),
        (
            |r| {
                r.sampling_method = Some(Method::Ads);
                r.controls.ads_beta = Some(1.0);
            },
            &["ads_beta is 1"],
        ),
        (
            |r| {
                r.sampling_method = Some(Method::Ads);
                r.controls.ads_subset_size = Some(65);
            },
            &["ads_subset_size", "65"],
        ),
        (
            |r| {
                r.controls.ensemble_models = vec!["same".to_owned()];
                r.controls.ensemble_weights = vec![1.0];
            },
            &["ensemble_weights", "2 numbers"],
        ),
    ];
    for (change, words) in invalid {
        let error = refuse(&change);
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
        words
            .iter()
            .for_each(|word| assert!(error.to_string().contains(word), "{error}"));
    }
}

#[test]
fn a_parameter_without_effect_is_named() {
    let mut request = request(2);
    request.controls.beam_width = Some(3);
    request.controls.ads_beta = Some(0.2);
    let codes: Vec<String> = run(&request)
        .warnings
        .into_iter()
        .map(|w| w.message)
        .collect();
    assert_eq!(codes.len(), 2, "{codes:?}");
    assert!(
        codes
            .iter()
            .any(|m| m.contains("beam_width") && m.contains("top-k"))
    );
    let beam = run(&request.clone().method(Method::Beam).temperature(0.5));
    assert!(
        beam.warnings
            .iter()
            .any(|w| w.message.contains("temperature"))
    );
}
