//! How generations end, and what the answer says about them.

use crate::{load, scripted, tiny};
use mx::Message;
use mx::{
    Client, Error, ErrorKind, FinishReason, GenerateRequest, Method, Origin, Overflow, Route,
    Setting,
};
use mx_tests::data;
use mx_tests::scripted::{END, Script, token};
use serde_json::json;

fn raw(prompt: &str) -> GenerateRequest {
    GenerateRequest::new(prompt).raw(true)
}

#[test]
fn the_model_ends_its_text() {
    let answer = scripted(&Script::says("abc")).run(&raw("xa")).unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.finish_reason),
        ("bc", FinishReason::Stop)
    );
    assert_eq!(
        answer.tokens,
        [token(b'b'), token(b'c'), END],
        "the token that ended it is one of the tokens"
    );
    assert_eq!(answer.stop_text, None);
    let usage = answer.usage;
    assert_eq!(
        (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens
        ),
        (2, 3, 0)
    );
    assert_eq!((answer.route, answer.method), (Route::Local, Method::TopK));
    assert_eq!(
        (answer.engine.engine.as_str(), answer.engine.device.as_str()),
        ("burn", "flex")
    );
    assert_eq!(answer.model, "scripted");
}

#[test]
fn a_stop_text_ends_it() {
    let client = scripted(&Script::says("abcdef"));
    let answer = client.run(&raw("a").stop("de").stop("zz")).unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.finish_reason),
        ("bc", FinishReason::Stop)
    );
    assert_eq!(answer.stop_text.as_deref(), Some("de"));
    assert_eq!(answer.usage.completion_tokens, 4);
}

#[test]
fn max_tokens_end_it() {
    let client = scripted(&Script::repeats("xab"));
    for count in [1, 2, 3, 40] {
        let answer = client.run(&raw("x").max_tokens(count)).unwrap();
        assert_eq!(
            (answer.tokens.len(), answer.finish_reason),
            (count, FinishReason::Length)
        );
        assert_eq!(answer.text, "ab".repeat(count)[..count]);
    }
    assert_eq!(
        client.run(&raw("x")).unwrap().tokens.len(),
        128,
        "the default"
    );
}

#[test]
fn what_comes_first_counts() {
    let client = scripted(&Script::says("abc"));
    let reason = |request: GenerateRequest| client.run(&request).unwrap().finish_reason;
    assert_eq!(reason(raw("a").max_tokens(2)), FinishReason::Length);
    assert_eq!(
        reason(raw("a").max_tokens(3)),
        FinishReason::Stop,
        "the end is the third token"
    );
    assert_eq!(reason(raw("a").max_tokens(2).stop("c")), FinishReason::Stop);
}

#[test]
fn a_full_context_ends_it() {
    let client = scripted(&Script::repeats("xab").context(6));
    let answer = client.run(&raw("xx")).unwrap();
    assert_eq!(answer.finish_reason, FinishReason::ContextFull);
    // Four tokens fit behind the prompt; the fifth is drawn and has no place to be read back from.
    assert_eq!(answer.text, "ababa");
    assert_eq!(answer.warnings[0].code, "context_full");
    let answer = client.run(&raw("xx").max_tokens(5)).unwrap();
    assert_eq!(answer.finish_reason, FinishReason::Length);
    assert!(answer.warnings.is_empty());
}

#[test]
fn ignore_eos_goes_on() {
    let client = scripted(&Script::says("ab"));
    let mut request = raw("a").max_tokens(20);
    request.ignore_eos = Some(true);
    let answer = client.run(&request).unwrap();
    assert_eq!(
        (answer.tokens.len(), answer.finish_reason),
        (20, FinishReason::Length)
    );
    assert!(!answer.tokens.contains(&END));
}

#[test]
fn prompts_in_every_form() {
    let client = scripted(&Script::says("\nok"));
    let ask = |prompt: mx::Prompt| client.run(&GenerateRequest::new(prompt));
    let messages = vec![Message::new("system", "S"), Message::new("user", "U")];
    let (text, chat) = (ask("U".into()).unwrap(), ask(messages.into()).unwrap());
    assert_eq!((text.text.as_str(), chat.text.as_str()), ("ok", "ok"));
    // <|im_start|>system\nS<|im_end|>\n
    assert_eq!(
        chat.usage.prompt_tokens - text.usage.prompt_tokens,
        1 + 7 + 1 + 1 + 1
    );
    let tokens = ask(vec![token(b'\n')].into()).unwrap();
    assert_eq!(
        (tokens.text.as_str(), tokens.usage.prompt_tokens),
        ("ok", 1)
    );
    let error = ask(vec![99_999].into()).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().contains("99999")),
        (ErrorKind::InvalidRequest, true)
    );
    let empty = ask(Vec::<u32>::new().into()).unwrap();
    assert_eq!(empty.warnings[0].code, "empty_prompt");
    let system = client.run(&GenerateRequest::new("U").system("S")).unwrap();
    assert_eq!(system.usage, chat.usage);
}

#[test]
fn a_model_without_tokenizer_runs_on_tokens() {
    let client = Client::with_model(load(&data::folder("llama_gqa_tied")));
    let golden = data::json("tiny_models/llama_gqa_tied/golden.json");
    let numbers = |value: &serde_json::Value| -> Vec<u32> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap() as u32)
            .collect()
    };
    let mut request =
        GenerateRequest::new(numbers(&golden["prompts"][0]["input_ids"])).method(Method::Greedy);
    let wanted = numbers(&golden["prompts"][0]["greedy"]);
    request.max_tokens = Some(wanted.len());
    request.ignore_eos = Some(false);
    let answer = client.run(&request).unwrap();
    let until_end = wanted
        .iter()
        .position(|&token| token == END)
        .map_or(wanted.len(), |at| at + 1);
    assert_eq!(answer.tokens, wanted[..until_end]);
    assert_eq!(answer.text, "");
    for (request, code) in [
        (GenerateRequest::new("hello"), 7),
        (GenerateRequest::new(vec![5]).stop("x"), 7),
    ] {
        assert_eq!(client.run(&request).unwrap_err().kind().exit_code(), code);
    }
}

#[test]
fn overflow_is_an_error_or_a_choice() {
    let client = scripted(&Script::says("abc").context(10));
    let long = "x".repeat(20) + "a";
    let error = client.run(&raw(&long)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::PromptTooLong {
                tokens: 21,
                limit: 10
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::ContextOverflow);
    let cut = client
        .run(
            &raw(&long)
                .on_overflow(Overflow::TruncatePrompt)
                .max_tokens(4),
        )
        .unwrap();
    assert_eq!(
        (cut.text.as_str(), cut.usage.prompt_tokens),
        ("bc", 6),
        "the end of the prompt stays"
    );
    assert_eq!(cut.warnings[0].code, "prompt_truncated");
    let much = client
        .run(
            &raw(&long)
                .on_overflow(Overflow::TruncatePrompt)
                .max_tokens(500),
        )
        .unwrap();
    assert_eq!(
        much.usage.prompt_tokens, 5,
        "half the context is the prompt's"
    );
    let unbounded = raw("xa").on_overflow(Overflow::TruncatePrompt);
    let unbounded = client.run(&unbounded.max_tokens(usize::MAX)).unwrap();
    assert_eq!(unbounded.usage.prompt_tokens, 2, "what fits is not cut");
    let fits = client
        .run(
            &raw("xa")
                .on_overflow(Overflow::TruncatePrompt)
                .max_tokens(4),
        )
        .unwrap();
    assert!(fits.warnings.is_empty() && fits.usage.prompt_tokens == 2);
}

fn setting(settings: &[Setting], name: &str) -> (serde_json::Value, Origin) {
    let found = settings.iter().find(|setting| setting.name == name);
    let found = found.unwrap_or_else(|| panic!("{name} is missing"));
    (found.value.clone(), found.origin)
}

#[test]
fn every_value_says_where_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data::folder("llama_gqa_tied")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let recommended =
        json!({"temperature": 0.5, "top_p": 0.75, "top_k": 9, "eos_token_id": [2, 7]});
    std::fs::write(
        folder.path().join("generation_config.json"),
        recommended.to_string(),
    )
    .unwrap();
    let model = load(folder.path());
    assert_eq!(model.eos_tokens(), [2, 7], "both files name some");
    let client = Client::with_model(model);
    let answer = client
        .run(&GenerateRequest::new(vec![5, 6]).top_k(4).max_tokens(3))
        .unwrap();
    let settings = &answer.settings;
    assert_eq!(setting(settings, "top_k"), (json!(4), Origin::Request));
    assert_eq!(
        setting(settings, "temperature"),
        (json!(0.5), Origin::Model)
    );
    assert_eq!(setting(settings, "top_p"), (json!(0.75), Origin::Model));
    assert_eq!(setting(settings, "max_tokens"), (json!(3), Origin::Request));
    assert_eq!(
        setting(settings, "sampling_method"),
        (json!("top-k"), Origin::BuiltIn)
    );
    assert_eq!(
        setting(settings, "seed"),
        (json!(answer.seed), Origin::Random)
    );
    assert!(
        settings.is_sorted_by(|a, b| a.name < b.name),
        "one entry a name"
    );
    let greedy = client
        .run(
            &GenerateRequest::new(vec![5, 6])
                .method(Method::Greedy)
                .seed(3),
        )
        .unwrap();
    assert_eq!(
        setting(&greedy.settings, "seed"),
        (json!(3), Origin::Request)
    );
    assert_eq!(setting(&greedy.settings, "temperature").0, json!(0.0));
    assert!(
        !greedy
            .settings
            .iter()
            .any(|setting| setting.name == "top_p"),
        "greedy truncates nothing"
    );
}

#[test]
fn the_trace_tells_what_happened() {
    let client = Client::with_model(tiny());
    let request = raw("hello")
        .max_tokens(12)
        .seed(4)
        .temperature(1.2)
        .top_k(0);
    let plain = client.run(&request).unwrap();
    assert!(plain.trace.is_none());
    let traced = client.run(&request.clone().include_trace(true)).unwrap();
    assert_eq!(plain.tokens, traced.tokens, "watching changes nothing");
    let trace = traced.trace.unwrap();
    assert_eq!(trace.version, mx::trace::TRACE_VERSION);
    assert_eq!(trace.prompt_tokens, [260, 289, 81]);
    assert_eq!(trace.settings, traced.settings);
    assert_eq!(
        trace
            .steps
            .iter()
            .map(|step| step.token)
            .collect::<Vec<_>>(),
        traced.tokens
    );
    assert!(
        trace
            .steps
            .iter()
            .all(|step| step.logprob <= 0.0 && step.logprob.is_finite())
    );
    assert_eq!(trace.steps[0].step_micros, 0);
    // The first probability is that of the softmax at temperature 1.2.
    let mut session = mx_runtime::session::Session::new(tiny().engine().clone());
    let cancel = mx_runtime::session::Cancel::new();
    let output = session.prefill(&trace.prompt_tokens, &cancel).unwrap();
    let logits: Vec<f64> = output
        .logits(0)
        .last()
        .unwrap()
        .iter()
        .map(|x| f64::from(*x) / 1.2)
        .collect();
    let top = logits.iter().copied().fold(f64::MIN, f64::max);
    let total = logits.iter().map(|x| (x - top).exp()).sum::<f64>().ln() + top;
    let wanted = logits[traced.tokens[0] as usize] - total;
    assert!(
        (trace.steps[0].logprob - wanted).abs() < 1e-4,
        "{} {wanted}",
        trace.steps[0].logprob
    );
    let written = serde_json::to_string(&trace).unwrap();
    assert_eq!(
        serde_json::from_str::<mx::trace::Trace>(&written).unwrap(),
        trace
    );
}

#[test]
fn the_same_seed_gives_the_same_tokens_and_others_do_not() {
    let client = Client::with_model(tiny());
    let tokens = |seed| {
        client
            .run(
                &raw("hello")
                    .seed(seed)
                    .temperature(1.5)
                    .top_k(0)
                    .max_tokens(40),
            )
            .unwrap()
            .tokens
    };
    assert_eq!(tokens(1), tokens(1));
    let different: std::collections::HashSet<Vec<u32>> = (0..10).map(tokens).collect();
    assert_eq!(different.len(), 10);
    let drawn = client.run(&raw("hello").max_tokens(20)).unwrap();
    let again = client
        .run(&raw("hello").max_tokens(20).seed(drawn.seed))
        .unwrap();
    assert_eq!(drawn.tokens, again.tokens);
}

#[test]
fn a_method_restricts_the_choice() {
    let client = Client::with_model(tiny());
    let greedy = client
        .run(&raw("hello").method(Method::Greedy).max_tokens(30))
        .unwrap()
        .tokens;
    let tokens =
        |request: GenerateRequest| client.run(&request.max_tokens(30).seed(8)).unwrap().tokens;
    assert_eq!(tokens(raw("hello").temperature(0.0)), greedy);
    assert_eq!(tokens(raw("hello").top_k(1)), greedy);
    assert_eq!(tokens(raw("hello").method(Method::TopP).top_p(0.0)), greedy);
    assert_eq!(tokens(raw("hello").method(Method::MinP).min_p(1.0)), greedy);
    assert_ne!(tokens(raw("hello").temperature(3.0).top_k(0)), greedy);
}
