//! Ensembles of different tokenizers against a slow and obvious twin.

use crate::{load, tiny};
use mx::request::{DrafterKind, Voting};
use mx::steer::apply::{Steer, VectorRef};
use mx::{Client, FinishReason, GenerateRequest, Method};
use mx_runtime::engine::{Row, StepOutput, Want};
use mx_runtime::model::Model;
use mx_runtime::tokenizer::{Specials, Tokenizer};
use mx_tests::data;
use std::collections::BTreeMap;
use std::sync::Arc;

const PROMPT: &str = "one two three one two";
const TEMPERATURE: f64 = 1.2;
/// What ends a text, among byte strings.
const END: &[u8] = b"\0end";

/// Byte-level BPE with 320 tokens, and SentencePiece BPE with 384: few tokens in common.
fn models() -> [Arc<Model>; 2] {
    [tiny(), load(&data::gguf("llama3_rope_untied"))]
}

fn client(main: usize) -> Client {
    let models = models();
    let mut client = Client::with_model(Arc::clone(&models[main]));
    client.add_model("other", Arc::clone(&models[1 - main]));
    client
}

fn request(voting: Voting) -> GenerateRequest {
    let mut request = GenerateRequest::new(PROMPT)
        .raw(true)
        .max_tokens(14)
        .seed(2)
        .temperature(TEMPERATURE)
        .top_k(0)
        .method(Method::Ensemble);
    request.controls.ensemble_models = vec!["other".to_owned()];
    request.controls.voting = Some(voting);
    request
}

fn logits(model: &Model, tokens: &[u32]) -> Vec<f64> {
    let mut sequence = model.engine().new_sequence();
    let mut output = StepOutput::new();
    let row = Row {
        sequence: &mut sequence,
        tokens,
        want: Want::Last,
        hooks: None,
    };
    model.engine().step(&mut [row], &mut output).unwrap();
    let line = output.logits(0).last().unwrap();
    line.iter().map(|x| f64::from(*x)).collect()
}

type Law = BTreeMap<Vec<u8>, f64>;

/// A model's law over byte strings, from nothing but its logits and its tokenizer.
fn law(model: &Model, tokens: &[u32]) -> Law {
    let tokenizer = model.tokenizer().unwrap();
    let eos = model.eos_tokens();
    let mut law = Law::new();
    for (token, x) in logits(model, tokens).into_iter().enumerate() {
        let token = token as u32;
        let bytes = match eos.contains(&token) {
            true => END.to_vec(),
            false if tokenizer.is_special(token) => continue,
            false => tokenizer.token_bytes(token).unwrap_or_default().to_vec(),
        };
        if !bytes.is_empty() {
            *law.entry(bytes).or_default() += (x / TEMPERATURE).exp();
        }
    }
    let total: f64 = law.values().sum();
    law.values_mut().for_each(|p| *p /= total);
    law
}

fn combined(laws: &[Law; 2], voting: Voting) -> Law {
    let at = |law: &Law, bytes: &Vec<u8>| law.get(bytes).copied().unwrap_or(0.0);
    let entries: Vec<Vec<u8>> = laws.iter().flat_map(Law::keys).cloned().collect();
    let mut law: Law = entries
        .into_iter()
        .map(|bytes| {
            let (p, q) = (at(&laws[0], &bytes), at(&laws[1], &bytes));
            let weight = match voting {
                Voting::Average => (p + q) / 2.0,
                _ => (p * q).sqrt(),
            };
            (bytes, weight)
        })
        .collect();
    let total: f64 = law.values().sum();
    law.values_mut().for_each(|p| *p /= total);
    law
}

/// The bytes of an entry, as its step reports them; entries of a trace carry their text, which is lossy, so the bytes
/// come from the two tokenizers.
fn bytes_of(main: &Model, other: &Model, entry: u32) -> Option<Vec<u8>> {
    let tokenizer = main.tokenizer().unwrap();
    if main.eos_tokens().contains(&entry) {
        return Some(END.to_vec());
    }
    if let Some(bytes) = tokenizer
        .token_bytes(entry)
        .filter(|_| (entry as usize) < main.config().vocab)
    {
        return Some(bytes.to_vec());
    }
    // Entries that the main model lacks follow in the order of the other's tokens.
    let own: Vec<&[u8]> = (0..tokenizer.vocab_size() as u32)
        .filter(|id| !tokenizer.is_special(*id))
        .filter_map(|id| tokenizer.token_bytes(id))
        .collect();
    let second = other.tokenizer().unwrap();
    let spelled = |id: &u32| {
        second
            .token_text(*id)
            .is_some_and(|text| text.starts_with("<0x"))
    };
    let (bytes, pieces): (Vec<u32>, Vec<u32>) =
        (0..other.config().vocab as u32).partition(|id| spelled(id));
    let mut extra: Vec<Vec<u8>> = Vec::new();
    for id in pieces.into_iter().chain(bytes) {
        let text = (id as usize) < second.vocab_size()
            && !second.is_special(id)
            && !other.eos_tokens().contains(&id);
        let bytes = second
            .token_bytes(id)
            .filter(|bytes| text && !bytes.is_empty());
        if let Some(bytes) = bytes
            && !own.contains(&bytes)
            && !extra.iter().any(|known| known == bytes)
        {
            extra.push(bytes.to_vec());
        }
    }
    extra.get(entry as usize - main.config().vocab).cloned()
}

fn encoded(model: &Model, text: &str) -> Vec<u32> {
    let tokenizer: &Arc<dyn Tokenizer> = model.tokenizer().unwrap();
    let special = tokenizer.special_tokens();
    let mut tokens: Vec<u32> = special
        .bos
        .filter(|_| special.add_bos)
        .into_iter()
        .collect();
    tokens.extend(tokenizer.encode(text, Specials::AsText).unwrap());
    tokens
}

#[test]
fn the_law_is_that_of_the_twin_at_every_step() {
    let models = models();
    for main in [0, 1] {
        let (first, second) = (&models[main], &models[1 - main]);
        for voting in [Voting::Average, Voting::Product] {
            let mut request = request(voting).include_trace(true);
            // Text that both tokenizers encode: what is spelled in bytes has its own test.
            request.constraints.regex_pattern = Some("[a-z ]*".to_owned());
            request.controls.logprobs = Some(128);
            let answer = client(main).run(&request).unwrap();
            let trace = answer.trace.unwrap();
            assert!(trace.steps.len() > 5);
            let mut text = Vec::new();
            let mut own = trace.prompt_tokens.clone();
            let mut foreign = 0;
            for (step, report) in trace.steps.iter().zip(&answer.logprobs) {
                let so_far = String::from_utf8(text.clone()).unwrap();
                let read = encoded(second, &format!("{PROMPT}{so_far}"));
                let law = combined(&[law(first, &own), law(second, &read)], voting);
                let mut seen = 0;
                for (entry, logprob) in &report.top {
                    let bytes = bytes_of(first, second, *entry).unwrap();
                    let wanted = law.get(&bytes).copied().unwrap_or(0.0);
                    // Two of a model's own tokens may have the same bytes; the first stands for both.
                    if *logprob == f64::NEG_INFINITY {
                        continue;
                    }
                    seen += 1;
                    let found = logprob.exp();
                    assert!(
                        (found - wanted).abs() < 2e-3 * wanted + 1e-6,
                        "{bytes:?} {found} {wanted}"
                    );
                }
                assert!(seen > 20, "{seen}");
                let bytes = bytes_of(first, second, step.token).unwrap();
                if step.token as usize >= first.config().vocab {
                    foreign += 1;
                    own.extend(
                        encoded(first, &String::from_utf8(bytes.clone()).unwrap()).split_off(
                            usize::from(first.tokenizer().unwrap().special_tokens().add_bos),
                        ),
                    );
                } else {
                    own.push(step.token);
                }
                if bytes != END {
                    text.extend(bytes);
                }
            }
            if voting == Voting::Average && main == 0 {
                assert!(foreign > 0, "entries of the other model come too");
            }
        }
    }
}

#[test]
fn all_weight_on_one_member_is_that_member() {
    let models = models();
    let plain = GenerateRequest::new(PROMPT)
        .raw(true)
        .max_tokens(14)
        .method(Method::Greedy);
    // The other model has tokens with equal bytes, which the union adds up; this one has none.
    let alone = Client::with_model(Arc::clone(&models[0]))
        .run(&plain)
        .unwrap();
    for voting in [Voting::Average, Voting::Majority] {
        let mut request = request(voting).method(Method::Greedy);
        request.sampling.temperature = None;
        request.controls.ensemble_weights = vec![1.0, 0.0];
        let answer = client(0).run(&request).unwrap();
        assert_eq!(answer.tokens, alone.tokens, "{voting:?}");
        assert_eq!(answer.text, alone.text);
    }
}

#[test]
fn it_combines_with_everything() {
    let width = tiny().config().d_model;
    let vector: Vec<f32> = (0..width)
        .map(|i| ((i * 7 % 5) as f32 - 2.0) / 3.0)
        .collect();
    let steer = Steer::new(VectorRef::Inline([("1".to_owned(), vector)].into())).strength(4.0);
    let client = client(0);
    for voting in [Voting::Average, Voting::Product, Voting::Majority] {
        for method in [Method::TopK, Method::Ads, Method::Greedy, Method::Beam] {
            for steered in [false, true] {
                for n in [1, 2] {
                    let mut request = request(voting).method(method).regex("[a-z]{3,9}!").n(n);
                    if matches!(method, Method::Greedy | Method::Beam) {
                        request.sampling.temperature = None;
                        request.sampling.top_k = None;
                    }
                    if steered {
                        request = request.steer(steer.clone());
                    }
                    let cell = format!("{voting:?} {method:?} steered {steered} n {n}");
                    let answer = client
                        .run(&request)
                        .unwrap_or_else(|e| panic!("{cell}: {e}"));
                    assert_eq!(answer.finish_reason, FinishReason::Stop, "{cell}");
                    let letters = answer
                        .text
                        .strip_suffix('!')
                        .unwrap_or_else(|| panic!("{cell}"));
                    assert!((3..=9).contains(&letters.len()), "{cell}: {}", answer.text);
                    let mut stream = client.stream(&request).unwrap();
                    let text: String = stream
                        .by_ref()
                        .map(|chunk| chunk.unwrap())
                        .filter(|chunk| chunk.index == 0)
                        .map(|chunk| chunk.text)
                        .collect();
                    assert_eq!(text, answer.text, "{cell}");
                    assert!(
                        answer
                            .tokens
                            .iter()
                            .all(|t| (*t as usize) < tiny().config().vocab)
                    );
                }
            }
        }
    }
}

#[test]
fn drafts_change_nothing() {
    let client = client(0);
    let mut greedy = request(Voting::Average).method(Method::Greedy);
    greedy.sampling.temperature = None;
    greedy.max_tokens = Some(30);
    let plain = client.run(&greedy).unwrap();
    for draft in ["lookup", "self", "other"] {
        let mut drafted = greedy.clone().include_trace(true);
        match draft {
            "lookup" => drafted.controls.drafter = Some(DrafterKind::PromptLookup),
            name => drafted.controls.draft_model = Some(name.to_owned()),
        }
        let answer = client.run(&drafted).unwrap();
        assert_eq!(answer.text, plain.text, "{draft}");
        assert_eq!(answer.tokens, plain.tokens, "{draft}");
        // Random models write hardly any text that could be proposed; the text so far always can be.
        let proposed = answer.trace.unwrap().drafts().0;
        assert!(draft != "lookup" || proposed > 0);
    }
}

#[test]
fn bytes_that_are_no_text_yet_do_not_stop_it() {
    // Hot sampling of byte tokens: half characters and broken ones come up.
    for main in [0, 1] {
        let client = client(main);
        for seed in 0..12 {
            let mut request = request(Voting::Average).temperature(4.0).seed(seed);
            request.max_tokens = Some(30);
            let whole = client.run(&request).unwrap();
            let mut stream = client.stream(&request).unwrap();
            let text: String = stream.by_ref().map(|chunk| chunk.unwrap().text).collect();
            assert_eq!(text, whole.text);
        }
    }
}

#[test]
fn the_context_of_the_smallest_member_ends_it() {
    let client = client(0);
    let mut request = request(Voting::Average);
    request.ignore_eos = Some(true);
    request.max_tokens = Some(5000);
    let answer = client.run(&request).unwrap();
    assert_eq!(answer.finish_reason, FinishReason::ContextFull);
    assert!(answer.tokens.len() > 50);
    let mut chat = request.clone();
    chat.prompt = vec![5, 6, 7].into();
    chat.max_tokens = Some(4);
    assert!(!client.run(&chat).unwrap().tokens.is_empty());
}
