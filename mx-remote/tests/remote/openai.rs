//! Servers that speak OpenAI's protocol, as they really answer.

use crate::server::*;
use mx_remote::openai::{ChatAnswer, ChatRequest, CompletionAnswer, CompletionRequest, Params};
use mx_remote::{Error, OpenAi, OpenAiOptions, ServerKind};
use serde_json::{Value, json};

fn chunk(index: u32, text: &str, finish: Option<&str>) -> String {
    let value = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]});
    format!("data: {value}\n\n")
}

fn chat(answer: Answer, params: Params) -> Result<ChatAnswer, Error> {
    let server = Server::start(vec![answer]);
    let request = ChatRequest {
        params,
        ..ChatRequest::new("m", "Hi")
    };
    let chunks: Result<Vec<_>, Error> = openai(&server, ServerKind::Vllm, quick())
        .chat_stream(&request)
        .wait()?
        .collect();
    Ok(ChatAnswer::gather(chunks?))
}

#[test]
fn a_chat_in_one_piece_and_in_many_is_the_same() {
    let whole = json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}});
    let server = Server::start(vec![json(&whole.to_string())]);
    let client = openai(&server, ServerKind::OpenAi, quick());
    let one = client.chat(&ChatRequest::new("m", "Hi")).wait().unwrap();
    assert_eq!(
        (one.text().as_str(), one.extra["created"].as_u64()),
        ("Hello", Some(1))
    );
    let asked = &server.asked()[0];
    assert_eq!(
        (asked.line.as_str(), asked.header("authorization")),
        ("POST /v1/chat/completions HTTP/1.1", None)
    );
    assert_eq!(
        asked.body,
        r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#
    );

    let mut text = String::from(": OPENROUTER PROCESSING\n\n");
    text += &format!(
        "data: {}\n\n",
        json!({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    );
    text += &(chunk(0, "Hel", None) + &chunk(0, "lo", Some("stop")));
    text += &format!(
        "data: {}\n\ndata: [DONE]\n\n",
        json!({"id": "c1", "choices": [], "usage": whole["usage"]})
    );
    // A server that does not know streams answers at once.
    for answer in [events(&text), json(&whole.to_string())] {
        let many = chat(answer, Params::default()).unwrap();
        assert_eq!((many.text(), &many.usage), (one.text(), &one.usage));
        assert_eq!(many.choices[0].finish_reason, one.choices[0].finish_reason);
    }
}

#[test]
fn a_stream_is_complete_by_done_or_by_every_choice() {
    let two = || Params {
        n: Some(2),
        ..Params::default()
    };
    let ends = chunk(0, "a", Some("stop"));
    let other = chunk(1, "b", Some("length"));
    for (text, params, complete) in [
        (
            chunk(0, "a", None) + "data: [DONE]\n\n",
            Params::default(),
            true,
        ),
        (
            chunk(0, "a", None) + "data: [DONE]",
            Params::default(),
            true,
        ),
        (ends.clone(), Params::default(), true),
        (chunk(0, "a", None), Params::default(), false),
        (
            chunk(0, "a", None) + "data: {\"choices\": [{\"ind",
            Params::default(),
            false,
        ),
        (ends.clone(), two(), false),
        (ends + &other, two(), true),
        (String::new(), Params::default(), false),
    ] {
        let result = chat(events(&text), params);
        assert_eq!(result.is_ok(), complete, "{text}: {result:?}");
        if let Err(error) = result {
            assert!(matches!(error, Error::Cut { .. }), "{error}");
        }
    }
}

#[test]
fn what_came_before_a_failure_is_given_first() {
    let server = Server::start(vec![events(
        &(chunk(0, "a", None)
            + "data: {\"error\": {\"message\": \"out of memory\", \"code\": 500}}\n\n"),
    )]);
    let client = openai(&server, ServerKind::Sglang, quick());
    let mut stream = client
        .chat_stream(&ChatRequest::new("m", "Hi"))
        .wait()
        .unwrap();
    assert_eq!(stream.next().unwrap().unwrap().text(), "a");
    let error = stream.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("out of memory"), "{error}");
    assert!(stream.next().is_none());
    for bad in [
        "data: nonsense\n\n",
        "data: {\"choices\": 7}\n\n",
        "data: {\"object\": \"error\", \"message\": \"no\"}\n\n",
    ] {
        let error = chat(events(bad), Params::default()).unwrap_err();
        assert!(
            matches!(error, Error::BadAnswer { .. } | Error::Api(_)),
            "{error}"
        );
    }
}

#[test]
fn the_async_face_gives_the_same_stream() {
    let text = chunk(0, "Hel", None) + &chunk(0, "lo", Some("stop")) + "data: [DONE]\n\n";
    let server = Server::start(vec![events(&text)]);
    let client = openai(&server, ServerKind::Vllm, quick());
    block_on(async {
        let mut stream = client
            .chat_stream(&ChatRequest::new("m", "Hi"))
            .await
            .unwrap();
        let mut all = String::new();
        while let Some(chunk) = stream.next().await {
            all += chunk.unwrap().text();
        }
        assert_eq!(all, "Hello");
        // As a stream of the futures' trait.
        let stream = client
            .chat_stream(&ChatRequest::new("m", "Hi"))
            .await
            .unwrap();
        let mut stream = std::pin::pin!(stream);
        let mut count = 0;
        while let Some(chunk) =
            std::future::poll_fn(|c| futures_core::Stream::poll_next(stream.as_mut(), c)).await
        {
            chunk.unwrap();
            count += 1;
        }
        assert_eq!(count, 2);
    });
}

#[test]
fn completions_with_log_probabilities() {
    let piece = |text: &str, logprob: f64, finish: Value| {
        let value = json!({"id": "t1", "object": "text_completion", "model": "m", "choices": [{"index": 0, "text": text,
            "logprobs": {"tokens": [text], "token_logprobs": [logprob], "top_logprobs": [{text: logprob}], "text_offset": [0]},
            "finish_reason": finish}]});
        format!("data: {value}\r\n\r\n")
    };
    let text = piece("He", -0.5, Value::Null)
        + &piece("llo", -1.5, json!("length"))
        + "data: [DONE]\r\n\r\n";
    let server = Server::start(vec![events(&text)]);
    let client = openai(&server, ServerKind::LlamaCppPython, quick());
    let request = CompletionRequest {
        params: Params {
            logprobs: Some(1),
            ..Params::default()
        },
        ..CompletionRequest::new("", "x")
    };
    let chunks: Vec<CompletionAnswer> = client
        .complete_stream(&request)
        .wait()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let answer = CompletionAnswer::gather(chunks);
    assert_eq!(
        (answer.text(), answer.choices[0].finish_reason.as_deref()),
        ("Hello", Some("length"))
    );
    let tokens = &answer.choices[0].logprobs.as_ref().unwrap().tokens;
    let logprobs: Vec<_> = tokens
        .iter()
        .map(|t| (t.token.as_str(), t.logprob))
        .collect();
    assert_eq!(logprobs, [("He", Some(-0.5)), ("llo", Some(-1.5))]);
    assert_eq!(
        server.asked()[0].body,
        r#"{"prompt":"x","logprobs":1,"stream":true}"#
    );
}

#[test]
fn refusals_in_openais_form_are_read() {
    let body = r#"{"error": {"message": "context is 2048 tokens", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}}"#;
    let server = Server::start(vec![reply(400, &[], body)]);
    let error = openai(&server, ServerKind::LlamaCppPython, quick())
        .chat(&ChatRequest::new("m", "Hi"))
        .wait()
        .unwrap_err();
    let failure = error.failure().unwrap();
    assert_eq!(
        (failure.status, failure.code.as_deref()),
        (Some(400), Some("context_length_exceeded"))
    );
    assert_eq!(failure.message, "context is 2048 tokens");
}

#[test]
fn keys_travel_as_bearer() {
    let server = Server::start(vec![json(r#"{"object": "list", "data": []}"#)]);
    let options = OpenAiOptions {
        key: Some("sk-1234".into()),
        ..OpenAiOptions::new(server.url() + "/v1/", ServerKind::OpenAi)
    };
    let client = OpenAi::new(options).unwrap();
    assert_eq!(client.models().wait().unwrap(), []);
    let asked = &server.asked()[0];
    assert_eq!(
        (asked.line.as_str(), asked.header("authorization")),
        ("GET /v1/models HTTP/1.1", Some("Bearer sk-1234"))
    );
    assert!(!format!("{client:?}").contains("1234"));
}

#[test]
fn servers_give_their_kind_away() {
    let models = |owner: &str| {
        json(
            &json!({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": owner}]})
                .to_string(),
        )
    };
    let detect = |script: Vec<Answer>| {
        let server = Server::start(script);
        let found = openai(&server, ServerKind::OpenAi, quick())
            .detect()
            .wait()
            .unwrap();
        (
            found.kind,
            found.version,
            server.asked().last().unwrap().line.clone(),
        )
    };
    for (owner, kind) in [
        ("sglang", Some(ServerKind::Sglang)),
        ("llamacpp", Some(ServerKind::LlamaServer)),
        ("me", Some(ServerKind::LlamaCppPython)),
        ("somebody", None),
    ] {
        assert_eq!(detect(vec![models(owner)]).0, kind, "{owner}");
    }
    let vllm = |version: &str| {
        detect(vec![
            models("vllm"),
            json(&json!({"version": version}).to_string()),
        ])
    };
    assert_eq!(
        vllm("0.10.2"),
        (
            Some(ServerKind::VllmLegacy),
            Some("0.10.2".into()),
            "GET /version HTTP/1.1".into()
        )
    );
    assert_eq!(vllm("0.11.0").0, Some(ServerKind::Vllm));
    assert_eq!(
        detect(vec![models("vllm"), reply(404, &[], "")]).0,
        Some(ServerKind::Vllm)
    );
}

#[test]
fn a_failure_within_a_success_is_a_failure() {
    let server = Server::start(vec![json(
        r#"{"error": {"message": "no such model", "code": 404}}"#,
    )]);
    let client = openai(&server, ServerKind::OpenAi, quick());
    let error = client
        .chat(&ChatRequest::new("m", "Hi"))
        .wait()
        .unwrap_err();
    assert!(
        matches!(error, Error::Api(_)) && error.to_string().contains("no such model"),
        "{error}"
    );
}

/// What the servers of each kind write, field by field, nulls and extras included.
const ANSWERS: &[(ServerKind, &str)] = &[
    (
        ServerKind::Vllm,
        r#"{"id": "chatcmpl-1", "object": "chat.completion", "created": 1754000000, "model": "m", "choices": [{"index": 0,
            "message": {"role": "assistant", "content": "Hey", "refusal": null, "annotations": null, "audio": null,
                "function_call": null, "tool_calls": [], "reasoning_content": null},
            "logprobs": {"content": [{"token": "Hey", "logprob": -0.25, "bytes": [72, 101, 121],
                "top_logprobs": [{"token": "Hey", "logprob": -0.25, "bytes": [72, 101, 121]}]}]},
            "finish_reason": "stop", "stop_reason": null, "token_ids": null}],
            "service_tier": null, "system_fingerprint": null, "usage": {"prompt_tokens": 9, "total_tokens": 10,
            "completion_tokens": 1, "prompt_tokens_details": null}, "prompt_logprobs": null, "kv_transfer_params": null}"#,
    ),
    (
        ServerKind::Sglang,
        r#"{"id": "1f", "object": "chat.completion", "created": 1754000000, "model": "m", "choices": [{"index": 0,
            "message": {"role": "assistant", "content": "Hey", "reasoning_content": null, "tool_calls": null},
            "logprobs": {"content": [{"token": "Hey", "bytes": [72, 101, 121], "logprob": -0.25, "top_logprobs": []}]},
            "finish_reason": "stop", "matched_stop": 151645}], "usage": {"prompt_tokens": 9, "total_tokens": 10,
            "completion_tokens": 1, "prompt_tokens_details": null, "reasoning_tokens": 0}, "metadata": {"weight_version": "default"}}"#,
    ),
    (
        ServerKind::LlamaServer,
        r#"{"choices": [{"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "Hey"},
            "logprobs": {"content": [{"id": 17, "token": "Hey", "bytes": [72, 101, 121], "logprob": -0.25,
                "top_logprobs": [{"id": 17, "token": "Hey", "bytes": [72, 101, 121], "logprob": -0.25}]}]}}],
            "created": 1754000000, "model": "gpt-3.5-turbo", "system_fingerprint": "b6000-abc", "object": "chat.completion",
            "usage": {"completion_tokens": 1, "prompt_tokens": 9, "total_tokens": 10}, "id": "chatcmpl-1",
            "timings": {"prompt_n": 9, "predicted_per_second": 99.5}}"#,
    ),
    (
        ServerKind::LlamaCppPython,
        r#"{"id": "chatcmpl-1", "object": "chat.completion", "created": 1754000000, "model": "m.gguf", "choices": [{"index": 0,
            "message": {"role": "assistant", "content": "Hey"}, "logprobs": {"tokens": ["Hey"], "text_offset": [0],
            "token_logprobs": [-0.25], "top_logprobs": [{"Hey": -0.25}]}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}"#,
    ),
];

#[test]
fn answers_of_every_kind_of_server_are_read() {
    for (kind, body) in ANSWERS {
        let server = Server::start(vec![json(body)]);
        let answer = openai(&server, *kind, quick())
            .chat(&ChatRequest::new("m", "Hi"))
            .wait()
            .unwrap();
        let choice = &answer.choices[0];
        let token = &choice.logprobs.as_ref().unwrap().tokens[0];
        assert_eq!(
            (answer.text().as_str(), choice.finish_reason.as_deref()),
            ("Hey", Some("stop")),
            "{kind:?}"
        );
        assert_eq!(
            (token.token.as_str(), token.logprob),
            ("Hey", Some(-0.25)),
            "{kind:?}"
        );
        let usage = answer.usage.unwrap();
        assert_eq!(
            (
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.total_tokens
            ),
            (Some(9), Some(1), Some(10))
        );
        // As the one piece of a stream it is the same answer.
        let server = Server::start(vec![json(body)]);
        let stream = openai(&server, *kind, quick())
            .chat_stream(&ChatRequest::new("m", "Hi"))
            .wait()
            .unwrap();
        let gathered = ChatAnswer::gather(stream.map(Result::unwrap));
        assert_eq!(gathered.text(), "Hey", "{kind:?}");
        assert_eq!(gathered.choices[0].logprobs, choice.logprobs, "{kind:?}");
    }
}

/// The streams of two servers that write them in their own ways.
#[test]
fn streams_of_real_servers_are_read() {
    // sse-starlette: line ends of its own, a ping, and the role in a piece without text.
    let python = "data: {\"id\": \"c\", \"model\": \"m\", \"created\": 1, \"object\": \"chat.completion.chunk\", \"choices\": [{\"index\": 0, \"delta\": {\"role\": \"assistant\"}, \"logprobs\": null, \"finish_reason\": null}]}\n\n: ping - 2026-01-01 00:00:00+00:00\n\ndata: {\"id\": \"c\", \"choices\": [{\"index\": 0, \"delta\": {\"content\": \"Hey\"}, \"logprobs\": null, \"finish_reason\": null}]}\n\ndata: {\"id\": \"c\", \"choices\": [{\"index\": 0, \"delta\": {}, \"logprobs\": null, \"finish_reason\": \"stop\"}]}\n\ndata: [DONE]\n\n";
    // llama-server: usage and timings in a last piece without choices.
    let llama = "data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}],\"id\":\"c\",\"model\":\"m\"}\n\ndata: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\"Hey\"}}],\"id\":\"c\"}\n\ndata: {\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"delta\":{}}],\"id\":\"c\"}\n\ndata: {\"choices\":[],\"id\":\"c\",\"usage\":{\"completion_tokens\":1,\"prompt_tokens\":9,\"total_tokens\":10},\"timings\":{\"prompt_n\":9}}\n\ndata: [DONE]\n\n";
    for (text, total) in [(python, None), (llama, Some(10))] {
        let answer = chat(events(text), Params::default()).unwrap();
        assert_eq!(
            (
                answer.text().as_str(),
                answer.choices[0].finish_reason.as_deref()
            ),
            ("Hey", Some("stop"))
        );
        assert_eq!(answer.choices[0].message.role, "assistant");
        assert_eq!(answer.usage.and_then(|u| u.total_tokens), total);
    }
}
