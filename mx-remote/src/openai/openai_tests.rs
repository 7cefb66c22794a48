#![allow(clippy::unwrap_used)]
use super::constraint::{gbnf_of, regex_of};
use super::kind::FIELDS;
use super::*;
use crate::error::Error;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const CHAT: Endpoint = Endpoint::Chat;
const TEXT: Endpoint = Endpoint::Completions;

fn plan(kind: ServerKind, endpoint: Endpoint, params: Params) -> Result<Plan> {
    match endpoint {
        CHAT => chat::plan(
            kind,
            &ChatRequest {
                params,
                ..ChatRequest::new("m", "Hi")
            },
            false,
        ),
        TEXT => completions::plan(
            kind,
            &CompletionRequest {
                params,
                ..CompletionRequest::new("m", "Hi")
            },
            false,
        ),
    }
}

/// A request with nothing but one field set, and the value that should travel.
fn only(field: &str) -> Option<(Params, Value)> {
    let mut p = Params::default();
    let number = json!(0.5);
    let value = match field {
        "temperature" => {
            p.temperature = Some(0.5);
            number
        }
        "top_p" => {
            p.top_p = Some(0.5);
            number
        }
        "min_p" => {
            p.min_p = Some(0.5);
            number
        }
        "typical_p" => {
            p.typical_p = Some(0.5);
            number
        }
        "top_n_sigma" => {
            p.top_n_sigma = Some(0.5);
            number
        }
        "xtc_probability" => {
            p.xtc_probability = Some(0.5);
            number
        }
        "xtc_threshold" => {
            p.xtc_threshold = Some(0.5);
            number
        }
        "frequency_penalty" => {
            p.frequency_penalty = Some(0.5);
            number
        }
        "presence_penalty" => {
            p.presence_penalty = Some(0.5);
            number
        }
        "repetition_penalty" => {
            p.repetition_penalty = Some(0.5);
            number
        }
        "repeat_last_n" => {
            p.repeat_last_n = Some(7);
            json!(7)
        }
        "top_k" => {
            p.top_k = Some(7);
            json!(7)
        }
        "max_tokens" => {
            p.max_tokens = Some(7);
            json!(7)
        }
        "min_tokens" => {
            p.min_tokens = Some(7);
            json!(7)
        }
        "n" => {
            p.n = Some(7);
            json!(7)
        }
        "seed" => {
            p.seed = Some(7);
            json!(7)
        }
        "stop" => {
            p.stop = vec!["x".into()];
            json!(["x"])
        }
        "stop_token_ids" => {
            p.stop_token_ids = vec![7];
            json!([7])
        }
        "allowed_token_ids" => {
            p.allowed_token_ids = vec![7];
            json!([7])
        }
        "bad_words" => {
            p.bad_words = vec!["x".into()];
            json!(["x"])
        }
        "ignore_eos" => {
            p.ignore_eos = Some(true);
            json!(true)
        }
        "logit_bias" => {
            p.logit_bias = BTreeMap::from([(7, 0.5)]);
            json!({"7": 0.5})
        }
        "mirostat" => {
            p.mirostat = Some(Mirostat {
                version: 2,
                tau: None,
                eta: None,
            });
            json!(2)
        }
        _ => return None,
    };
    Some((p, value))
}

#[test]
fn every_field_travels_or_is_refused_by_name() {
    let bare = |kind, endpoint| plan(kind, endpoint, Params::default()).unwrap().body;
    let mut checked = 0;
    for kind in ServerKind::ALL {
        for endpoint in [CHAT, TEXT] {
            for field in FIELDS {
                let Some((params, value)) = only(field) else {
                    continue;
                };
                checked += 1;
                let planned = plan(kind, endpoint, params);
                match (kind.wire_name(endpoint, field), planned) {
                    (Ok(name), Ok(plan)) => {
                        let mut wanted = bare(kind, endpoint);
                        wanted.insert(name.to_owned(), value);
                        assert_eq!(plan.body, wanted, "{kind:?} {endpoint:?} {field}");
                    }
                    (
                        Err(_),
                        Err(Error::Unsupported {
                            field: named,
                            server,
                            reason,
                        }),
                    ) => {
                        assert_eq!((named, server), (*field, kind.name()));
                        assert!(!reason.is_empty());
                    }
                    (wire, planned) => {
                        panic!("{kind:?} {endpoint:?} {field}: {wire:?} but {planned:?}")
                    }
                }
            }
        }
    }
    assert_eq!(checked, 23 * 14);
}

#[test]
fn the_documented_table_is_the_truth() {
    let kinds = ServerKind::ALL.map(|kind| format!("{kind:?}"));
    let mut table = format!(
        "/// | field | {} |\n/// |---|{}\n",
        kinds.join(" | "),
        "---|".repeat(kinds.len())
    );
    for field in FIELDS {
        let cell =
            |kind: ServerKind| match (kind.wire_name(CHAT, field), kind.wire_name(TEXT, field)) {
                (Ok(a), Ok(b)) if a == b && a == *field => "c t".to_owned(),
                (Ok(a), Ok(b)) if a == b => format!("c t: `{a}`"),
                (Ok(a), Ok(_)) => format!("c: `{a}`, t"),
                (Ok(_), Err(_)) => "c".to_owned(),
                (Err(_), Ok(_)) => "t".to_owned(),
                (Err(_), Err(_)) => "–".to_owned(),
            };
        table += &format!(
            "/// | {field} | {} |\n",
            ServerKind::ALL.map(cell).join(" | ")
        );
    }
    assert!(
        include_str!("kind.rs").contains(&table),
        "the table should be\n{table}"
    );
}

#[test]
fn kinds_have_one_name_each() {
    for kind in ServerKind::ALL {
        assert_eq!(ServerKind::from_name(kind.name()), Some(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
}

#[test]
fn names_differ_where_servers_differ() {
    let name = |kind: ServerKind, field| kind.wire_name(CHAT, field);
    use ServerKind as K;
    assert_eq!(name(K::OpenAi, "max_tokens"), Ok("max_completion_tokens"));
    assert_eq!(K::OpenAi.wire_name(TEXT, "max_tokens"), Ok("max_tokens"));
    assert_eq!(
        name(K::Sglang, "repetition_penalty"),
        Ok("repetition_penalty")
    );
    assert_eq!(
        name(K::LlamaCppPython, "repetition_penalty"),
        Ok("repeat_penalty")
    );
    assert_eq!(name(K::LlamaCppPython, "mirostat"), Ok("mirostat_mode"));
    assert_eq!(name(K::LlamaServer, "mirostat"), Ok("mirostat"));
    assert!(
        name(K::LlamaCppPython, "typical_p").is_err() && name(K::LlamaServer, "typical_p").is_ok()
    );
    assert!(name(K::Vllm, "no such field").is_err());
}

/// What a constraint adds to the body, or `None` where it is refused.
fn constrained(kind: ServerKind, endpoint: Endpoint, constraint: Constraint) -> Option<Value> {
    let params = Params {
        constraint: Some(constraint),
        ..Params::default()
    };
    match plan(kind, endpoint, params) {
        Ok(plan) => {
            let own = ["model", "messages", "prompt"];
            let added: Map<_, _> = plan
                .body
                .into_iter()
                .filter(|(name, _)| !own.contains(&name.as_str()))
                .collect();
            Some(added.into())
        }
        Err(Error::Unsupported {
            field: "constraint",
            ..
        }) => None,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn constraints_take_each_servers_form() {
    use ServerKind as K;
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let json_schema = || Constraint::JsonSchema(JsonSchema::new(schema.clone()));
    let standard = json!({"response_format": {"type": "json_schema",
        "json_schema": {"name": "output", "schema": schema, "strict": true}}});
    let regex = || Constraint::Regex("a+".into());
    let gbnf = || Constraint::Grammar {
        syntax: GrammarSyntax::Gbnf,
        text: "root ::= \"a\"".into(),
    };
    let lark = || Constraint::Grammar {
        syntax: GrammarSyntax::Lark,
        text: "start: \"a\"".into(),
    };
    let choice = || Constraint::Choice(vec!["a.b".into(), "\"c\"\n".into()]);
    let text = |value: &Value| Some(Value::String(value.to_string()));
    let any_object = json!({"type": "object"});

    for kind in [K::OpenAi, K::Vllm, K::VllmLegacy, K::Sglang, K::LlamaServer] {
        assert_eq!(
            constrained(kind, CHAT, json_schema()),
            Some(standard.clone()),
            "{kind:?}"
        );
    }
    assert_eq!(constrained(K::Vllm, TEXT, json_schema()), Some(standard));
    assert_eq!(
        constrained(K::Sglang, TEXT, json_schema()).map(|v| v["json_schema"].clone()),
        text(&schema)
    );
    assert_eq!(
        constrained(K::LlamaServer, TEXT, json_schema()),
        Some(json!({"json_schema": schema}))
    );
    assert_eq!(
        constrained(K::LlamaCppPython, CHAT, json_schema()),
        Some(json!({"response_format": {"type": "json_object", "schema": schema}}))
    );
    for (kind, endpoint) in [
        (K::LlamaCppPython, TEXT),
        (K::OpenAi, TEXT),
        (K::Axionic, CHAT),
        (K::Axionic, TEXT),
    ] {
        assert_eq!(constrained(kind, endpoint, json_schema()), None, "{kind:?}");
    }

    assert_eq!(
        constrained(K::OpenAi, CHAT, Constraint::JsonObject),
        Some(json!({"response_format": {"type": "json_object"}}))
    );
    assert_eq!(
        constrained(K::LlamaServer, CHAT, Constraint::JsonObject),
        Some(json!({"response_format": {"type": "json_object", "schema": any_object}}))
    );
    assert_eq!(
        constrained(K::Sglang, TEXT, Constraint::JsonObject).map(|v| v["json_schema"].clone()),
        text(&any_object)
    );
    let grammar = constrained(K::LlamaCppPython, TEXT, Constraint::JsonObject).unwrap();
    assert!(
        grammar["grammar"]
            .as_str()
            .unwrap()
            .starts_with("root ::= object\n")
    );
    assert_eq!(constrained(K::OpenAi, TEXT, Constraint::JsonObject), None);

    for endpoint in [CHAT, TEXT] {
        assert_eq!(
            constrained(K::Vllm, endpoint, regex()),
            Some(json!({"structured_outputs": {"regex": "a+"}}))
        );
        assert_eq!(
            constrained(K::VllmLegacy, endpoint, regex()),
            Some(json!({"guided_regex": "a+"}))
        );
        assert_eq!(
            constrained(K::Sglang, endpoint, regex()),
            Some(json!({"regex": "a+"}))
        );
        assert_eq!(
            constrained(K::Vllm, endpoint, lark()),
            Some(json!({"structured_outputs": {"grammar": "start: \"a\""}}))
        );
        assert_eq!(
            constrained(K::VllmLegacy, endpoint, gbnf()),
            Some(json!({"guided_grammar": "root ::= \"a\""}))
        );
        assert_eq!(
            constrained(K::Sglang, endpoint, gbnf()),
            Some(json!({"ebnf": "root ::= \"a\""}))
        );
        assert_eq!(constrained(K::Sglang, endpoint, lark()), None);
        for kind in [K::LlamaServer, K::LlamaCppPython] {
            assert_eq!(
                constrained(kind, endpoint, gbnf()),
                Some(json!({"grammar": "root ::= \"a\""}))
            );
            assert_eq!(
                constrained(kind, endpoint, choice()),
                Some(json!({"grammar": "root ::= \"a.b\" | \"\\\"c\\\"\\n\"\n"}))
            );
            assert_eq!(
                (
                    constrained(kind, endpoint, regex()),
                    constrained(kind, endpoint, lark())
                ),
                (None, None)
            );
        }
        assert_eq!(
            constrained(K::Vllm, endpoint, choice()),
            Some(json!({"structured_outputs": {"choice": ["a.b", "\"c\"\n"]}}))
        );
        assert_eq!(
            constrained(K::Sglang, endpoint, choice()),
            Some(json!({"regex": "(a\\.b|\\\"c\\\"\n)"}))
        );
        for kind in [K::OpenAi, K::Axionic] {
            for constraint in [regex(), gbnf(), choice()] {
                assert_eq!(constrained(kind, endpoint, constraint), None);
            }
        }
    }
}

#[test]
fn choices_are_escaped() {
    assert_eq!(regex_of(&["a|b".into(), "(é)".into()]), "(a\\|b|\\(é\\))");
    assert_eq!(
        gbnf_of(&["\\ \t\u{1b}".into()]),
        "root ::= \"\\\\ \\t\\x1B\"\n"
    );
}

#[test]
fn what_is_done_otherwise_is_noted() {
    let notes = |kind, params| plan(kind, CHAT, params).unwrap().notes;
    let seed = || Params {
        seed: Some(1),
        ..Params::default()
    };
    assert_eq!(notes(ServerKind::OpenAi, seed())[0].field, "seed");
    assert_eq!(notes(ServerKind::Sglang, seed())[0].field, "seed");
    assert_eq!(notes(ServerKind::Vllm, seed()), []);
    let penalty = Params {
        repetition_penalty: Some(1.1),
        ..Params::default()
    };
    assert_eq!(
        notes(ServerKind::LlamaServer, penalty)[0].field,
        "repetition_penalty"
    );
    let choice = Params {
        constraint: Some(Constraint::Choice(vec!["a".into()])),
        ..Params::default()
    };
    assert_eq!(
        notes(ServerKind::LlamaServer, choice)[0].field,
        "constraint"
    );
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let refused = |kind, params| plan(kind, CHAT, params).unwrap_err().to_string();
    let p = Params::default;
    let cases = [
        (Params { n: Some(0), ..p() }, "n is 0, wanted 1 or more"),
        (
            Params {
                temperature: Some(f64::NAN),
                ..p()
            },
            "temperature is NaN, wanted a finite number",
        ),
        (
            Params {
                logit_bias: BTreeMap::from([(7, f64::INFINITY)]),
                ..p()
            },
            "logit_bias.7 is inf, wanted a finite number",
        ),
        (
            Params {
                stop: vec![String::new()],
                ..p()
            },
            "stop is an empty text",
        ),
        (
            Params {
                mirostat: Some(Mirostat {
                    version: 3,
                    tau: None,
                    eta: None,
                }),
                ..p()
            },
            "mirostat.version is 3, wanted 1 or 2",
        ),
        (
            Params {
                constraint: Some(Constraint::Choice(vec![])),
                ..p()
            },
            "constraint.choice is 0 texts",
        ),
        (
            Params {
                extra: Map::from_iter([("messages".into(), json!(1))]),
                ..p()
            },
            "extra.messages is 1",
        ),
        (
            Params {
                extra: Map::from_iter([("stream".into(), json!(1))]),
                ..p()
            },
            "extra.stream is 1",
        ),
        (
            Params {
                seed: Some(u64::from(u32::MAX)),
                ..p()
            },
            "llama-server cannot honour seed",
        ),
        (
            Params {
                seed: Some(u64::MAX),
                ..p()
            },
            "llama-server cannot honour seed",
        ),
    ];
    for (params, wanted) in cases {
        let error = refused(ServerKind::LlamaServer, params);
        assert!(error.starts_with(wanted), "{error}");
    }
    let five = Params {
        stop: vec!["x".into(); 5],
        ..p()
    };
    assert!(refused(ServerKind::OpenAi, five).contains("at most 4"));
    let empty = chat::plan(ServerKind::Vllm, &ChatRequest::default(), false).unwrap_err();
    assert_eq!(
        empty.to_string(),
        "messages is empty, wanted one message or more"
    );
}

#[test]
fn all_tokens_are_said_in_each_servers_way() {
    let top_k = |kind| {
        plan(
            kind,
            CHAT,
            Params {
                top_k: Some(0),
                ..Params::default()
            },
        )
        .map(|p| p.body.get("top_k").cloned())
    };
    assert_eq!(top_k(ServerKind::Vllm).unwrap(), Some(json!(-1)));
    assert_eq!(top_k(ServerKind::LlamaServer).unwrap(), Some(json!(0)));
    assert_eq!(top_k(ServerKind::OpenAi).unwrap(), None);
    assert!(top_k(ServerKind::Axionic).is_err());
}

#[test]
fn streams_ask_for_usage_where_they_can() {
    for kind in ServerKind::ALL {
        let plan = chat::plan(kind, &ChatRequest::new("m", "Hi"), true).unwrap();
        assert_eq!(plan.body["stream"], true);
        let asked = plan.body.contains_key("stream_options");
        assert_eq!(
            asked,
            !matches!(kind, ServerKind::Axionic | ServerKind::LlamaCppPython),
            "{kind:?}"
        );
    }
}

#[test]
fn logprobs_take_both_forms() {
    let logprobs = |kind, endpoint, count| {
        plan(
            kind,
            endpoint,
            Params {
                logprobs: Some(count),
                ..Params::default()
            },
        )
        .unwrap()
        .body
    };
    let chat = logprobs(ServerKind::Vllm, CHAT, 0);
    assert_eq!(
        (&chat["logprobs"], &chat["top_logprobs"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(logprobs(ServerKind::Vllm, TEXT, 3)["logprobs"], 3);
    assert_eq!(
        logprobs(ServerKind::LlamaServer, CHAT, 0)["top_logprobs"],
        1
    );
}

#[test]
fn completions_refuse_what_a_server_has_not() {
    let base = || CompletionRequest::new("m", "Hi");
    let field = |kind, request: CompletionRequest| match completions::plan(kind, &request, false) {
        Err(Error::Unsupported { field, .. }) => Some(field),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    };
    use ServerKind as K;
    let suffix = || CompletionRequest {
        suffix: Some("x".into()),
        ..base()
    };
    let echo = || CompletionRequest {
        echo: Some(true),
        ..base()
    };
    let best_of = || CompletionRequest {
        best_of: Some(2),
        ..base()
    };
    let tokens = || CompletionRequest {
        prompt: vec![1, 2].into(),
        ..base()
    };
    let several = || CompletionRequest {
        prompt: CompletionPrompt::Texts(vec!["a".into(), "b".into()]),
        ..base()
    };
    assert_eq!(
        (field(K::Vllm, suffix()), field(K::LlamaCppPython, suffix())),
        (Some("suffix"), None)
    );
    assert_eq!(
        (field(K::LlamaServer, echo()), field(K::Vllm, echo())),
        (Some("echo"), None)
    );
    assert_eq!(
        (field(K::Sglang, best_of()), field(K::OpenAi, best_of())),
        (Some("best_of"), None)
    );
    assert_eq!(
        (field(K::Axionic, tokens()), field(K::Vllm, tokens())),
        (Some("prompt_tokens"), None)
    );
    assert_eq!(
        (
            field(K::LlamaCppPython, several()),
            field(K::Sglang, several())
        ),
        (Some("several_prompts"), None)
    );
}

#[test]
fn requests_are_plain_data() {
    let request = ChatRequest {
        params: Params {
            temperature: Some(0.5),
            constraint: Some(Constraint::JsonSchema(JsonSchema::new(
                json!({"type": "object"}),
            ))),
            dry: Some(Dry {
                multiplier: 0.8,
                ..Dry::default()
            }),
            axionic: Some(AxionicParams {
                steering_vector: Some(SteeringVectorParam::Id("v".into())),
                ..Default::default()
            }),
            ..Params::default()
        },
        ..ChatRequest::new("m", "Hi")
    };
    let text = serde_json::to_string(&request).unwrap();
    assert_eq!(serde_json::from_str::<ChatRequest>(&text).unwrap(), request);
    let text = r#"{"model":"m","messages":[],"top_k":5,"guided_decoding_backend":"x"}"#;
    let unknown: ChatRequest = serde_json::from_str(text).unwrap();
    assert_eq!(
        (unknown.params.top_k, unknown.params.extra.len()),
        (Some(5), 1)
    );
    let completion = CompletionRequest::new("m", vec![1, 2]);
    let text = serde_json::to_string(&completion).unwrap();
    assert_eq!(
        serde_json::from_str::<CompletionRequest>(&text).unwrap(),
        completion
    );
}
