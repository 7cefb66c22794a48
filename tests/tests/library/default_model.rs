//! The default model. It is found in the model folder of this user, or fetched into it once, as the program does.

use crate::finish_reason_is_natural;
use mx::{Client, ErrorKind, GenerateRequest, Method};
use mx_runtime::model::Model;
use mx_tests::data;
use std::sync::{Arc, OnceLock};

/// A client of the default model; `None`, said on stderr, where it is neither here nor to be had.
fn client(test: &str) -> Option<Client> {
    static MODEL: OnceLock<Result<Arc<Model>, String>> = OnceLock::new();
    let model = MODEL.get_or_init(|| {
        let env = |name: &str| std::env::var(name).ok();
        let mut client = Client::builder().from_env(&env).model("smollm2").build();
        match client.load() {
            Ok(()) => Ok(Arc::clone(client.model().unwrap())),
            Err(error) if error.kind() == ErrorKind::SourceUnreachable => Err(error.to_string()),
            Err(error) => panic!("{error}"),
        }
    });
    match model {
        Ok(model) => Some(Client::with_model(Arc::clone(model))),
        Err(reason) => {
            eprintln!(
                "SKIPPED {test}: the default model is not here and cannot be fetched: {reason}"
            );
            None
        }
    }
}

#[test]
fn it_knows_the_capital_of_france() {
    let Some(client) = client("it_knows_the_capital_of_france") else {
        return;
    };
    let request = client
        .request("The capital of France is")
        .raw(true)
        .method(Method::Greedy)
        .max_tokens(4);
    let answer = request.run().unwrap();
    assert!(answer.text.starts_with(" Paris"), "{}", answer.text);
}

#[test]
fn it_answers_in_chat() {
    let Some(client) = client("it_answers_in_chat") else {
        return;
    };
    let answer = client
        .request("What is the capital of France?")
        .temperature(0.0)
        .max_tokens(24)
        .run()
        .unwrap();
    assert!(answer.text.contains("Paris"), "{}", answer.text);
    assert!(finish_reason_is_natural(answer.finish_reason));
    assert!(!answer.text.contains("<|im_"), "{}", answer.text);
    let drawn = client
        .request("Say hello.")
        .seed(1)
        .max_tokens(16)
        .run()
        .unwrap();
    assert!(!drawn.text.trim().is_empty());
    assert!(finish_reason_is_natural(drawn.finish_reason));
}

/// Greedy tokens equal the recorded ones as long as the recorded gap between best and second is no rounding matter.
#[test]
fn it_continues_as_recorded() {
    let Some(client) = client("it_continues_as_recorded") else {
        return;
    };
    const TOKENS: usize = 10;
    const CLEAR_GAP: f64 = 1e-3;
    let golden = data::json("smollm2_golden.json");
    for prompt in golden["prompts"].as_array().unwrap() {
        let numbers = |name: &str| {
            prompt[name]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_u64().unwrap() as u32)
                .collect::<Vec<u32>>()
        };
        let mut request = GenerateRequest::new(numbers("ids"))
            .method(Method::Greedy)
            .max_tokens(TOKENS);
        request.ignore_eos = Some(false);
        let answer = client.run(&request).unwrap();
        let gaps = prompt["greedy_gaps"].as_array().unwrap();
        let clear = gaps
            .iter()
            .take_while(|gap| gap.as_f64().unwrap() > CLEAR_GAP)
            .count();
        let wanted = numbers("greedy");
        let count = answer.tokens.len().min(clear);
        assert!(count >= 1);
        assert_eq!(
            answer.tokens[..count],
            wanted[..count],
            "{}",
            prompt["text"]
        );
        let tokenizer = client.model().unwrap().tokenizer().unwrap();
        assert_eq!(
            tokenizer.decode(&wanted, false).unwrap(),
            prompt["greedy_text"].as_str().unwrap()
        );
    }
}
