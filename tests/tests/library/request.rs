//! Requests as data.

use mx::Message;
use mx::{Error, ErrorKind, GenerateRequest, Method, Overflow, Prompt};
use proptest::prelude::*;
use serde_json::json;

#[test]
fn a_full_request_from_json() {
    let request: GenerateRequest = serde_json::from_value(json!({
        "prompt": [{"role": "user", "content": "Hi"}], "system": "S", "raw": false, "max_tokens": 9,
        "sampling_method": "min-p", "temperature": 0.5, "top_k": -1, "top_p": 1, "min_p": 0.1, "seed": 18446744073709551615u64,
        "stop": ["a", "b"], "ignore_eos": true, "on_overflow": "truncate_prompt", "include_trace": true,
    }))
    .unwrap();
    assert_eq!(
        request.prompt,
        Prompt::Chat(vec![Message::new("user", "Hi")])
    );
    assert_eq!(request.sampling_method, Some(Method::MinP));
    assert_eq!(request.sampling.top_k, Some(-1));
    assert_eq!(request.seed, Some(u64::MAX));
    assert_eq!(request.stop, ["a", "b"]);
    assert_eq!(request.on_overflow, Some(Overflow::TruncatePrompt));
    assert!(request.unknown.is_empty());
}

#[test]
fn short_forms() {
    let parse = |json: &str| serde_json::from_str::<GenerateRequest>(json).unwrap();
    assert_eq!(parse("{}"), GenerateRequest::default());
    assert_eq!(
        parse(r#"{"prompt":"x","method":"top_p"}"#).sampling_method,
        Some(Method::TopP)
    );
    assert_eq!(parse(r#"{"prompt":"x","stop":"END"}"#).stop, ["END"]);
    assert!(parse(r#"{"prompt":"x","stop":null}"#).stop.is_empty());
    assert_eq!(
        parse(r#"{"prompt":"x","temperature":null}"#)
            .sampling
            .temperature,
        None
    );
    assert_eq!(
        serde_json::to_value(GenerateRequest::new("x")).unwrap(),
        json!({"prompt": "x"}),
        "nothing unset is written"
    );
}

#[test]
fn what_does_not_fit_names_itself() {
    for (json, words) in [
        (r#"{"sampling_method":"best"}"#, ["best", "top-k"]),
        (r#"{"on_overflow":"cut"}"#, ["cut", "truncate_prompt"]),
        (r#"{"max_tokens":-1}"#, ["-1", "usize"]),
    ] {
        let message = serde_json::from_str::<GenerateRequest>(json)
            .unwrap_err()
            .to_string();
        words
            .iter()
            .for_each(|word| assert!(message.contains(word), "{json}: {message}"));
    }
    for json in [
        r#"{"prompt":{}}"#,
        r#"{"prompt":[1,"a"]}"#,
        r#"{"stop":[1]}"#,
        r#"{"seed":-1}"#,
        r#"{"temperature":"hot"}"#,
        "[]",
        "",
    ] {
        assert!(
            serde_json::from_str::<GenerateRequest>(json).is_err(),
            "{json}"
        );
    }
}

#[test]
fn an_unknown_field_is_refused_by_name_when_the_request_is_run() {
    let client = mx::Client::with_model(crate::tiny());
    let request: GenerateRequest =
        serde_json::from_value(json!({"prompt": "x", "temprature": 1})).unwrap();
    let error = client.run(&request).unwrap_err();
    assert!(
        matches!(&error, Error::UnknownField { field } if field == "temprature"),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
}

#[test]
fn parameters_out_of_range_are_refused_by_name_and_value() {
    let client = mx::Client::with_model(crate::tiny());
    for (json, words) in [
        (json!({"temperature": -1}), ["temperature", "-1"]),
        (json!({"top_p": 1.5}), ["top_p", "1.5"]),
        (json!({"min_p": -0.1}), ["min_p", "-0.1"]),
        (json!({"top_k": -7}), ["top_k", "-7"]),
        (json!({"max_tokens": 0}), ["max_tokens", "0"]),
        (
            json!({"repetition_penalty": 0}),
            ["repetition_penalty", "0"],
        ),
        (json!({"stop": ["a", ""]}), ["stop", "empty"]),
        (
            json!({"suppress_tokens": [320]}),
            ["suppress_tokens", "320"],
        ),
    ] {
        let mut request: GenerateRequest = serde_json::from_value(json.clone()).unwrap();
        request.prompt = "hello".into();
        let error = client.run(&request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{json}");
        words
            .iter()
            .for_each(|word| assert!(error.to_string().contains(word), "{json}: {error}"));
    }
}

fn prompts() -> impl Strategy<Value = Prompt> {
    prop_oneof![
        any::<String>().prop_map(Prompt::Text),
        prop::collection::vec(any::<u32>(), 1..5).prop_map(Prompt::Tokens),
        prop::collection::vec(("[a-z]{1,8}", any::<String>()), 1..4).prop_map(
            |turns| Prompt::Chat(
                turns
                    .into_iter()
                    .map(|(role, text)| Message::new(role, text))
                    .collect()
            )
        ),
    ]
}

proptest! {
    #![proptest_config(crate::mutations::cases())]

    #[test]
    fn json_and_back_is_the_same_request(
        prompt in prompts(),
        system in any::<Option<String>>(),
        max_tokens in any::<Option<usize>>(),
        temperature in prop::option::of((0u32..5000).prop_map(|n| f64::from(n) / 1000.0)),
        top_k in any::<Option<i64>>(),
        seed in any::<Option<u64>>(),
        stop in prop::collection::vec(any::<String>(), 0..3),
        raw in any::<Option<bool>>(),
    ) {
        let mut request = GenerateRequest::new(prompt);
        request.system = system;
        request.max_tokens = max_tokens;
        request.sampling.temperature = temperature;
        request.sampling.top_k = top_k;
        request.seed = seed;
        request.stop = stop;
        request.raw = raw;
        let text = serde_json::to_string(&request).unwrap();
        prop_assert_eq!(serde_json::from_str::<GenerateRequest>(&text).unwrap(), request);
    }
}

/// A recorded temperature must be the one that was used, to the last bit.
#[test]
fn numbers_survive_json_to_the_last_bit() {
    for bits in (0..2000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12) {
        // Mantissas without pattern, between 1 and 2.
        let temperature = f64::from_bits(0x3ff0_0000_0000_0000 | bits);
        let request = GenerateRequest::new("x").temperature(temperature);
        let text = serde_json::to_string(&request).unwrap();
        let read: GenerateRequest = serde_json::from_str(&text).unwrap();
        assert_eq!(read.sampling.temperature, Some(temperature), "{text}");
    }
}
