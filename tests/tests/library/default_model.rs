//! The default model. It is found in the model folder of this user, or fetched into it once, as the program does.

use crate::engine_suite::agree;
use mx::pipeline::Plan;
use mx::{Client, ErrorKind, FinishReason, GenerateRequest, Method};
use mx_runtime::model::{EngineChoice, LoadOptions, Model};
use mx_runtime::session::{Cancel, Session};
use mx_tests::data;
use std::sync::{Arc, OnceLock};

/// The default model on the engine that is taken by default; `None`, said on stderr, where it is neither here nor to
/// be had.
pub(crate) fn model(test: &str) -> Option<Arc<Model>> {
    static MODEL: OnceLock<Result<Arc<Model>, String>> = OnceLock::new();
    let model = MODEL.get_or_init(|| {
        let env = |name: &str| std::env::var(name).ok();
        let mut client = Client::builder()
            .from_env(&env)
            .mode(mx::ExecutionMode::Local)
            .model("smollm2")
            .build();
        match client.load() {
            Ok(()) => Ok(Arc::clone(client.model().unwrap())),
            Err(error) if error.kind() == ErrorKind::SourceUnreachable => Err(error.to_string()),
            Err(error) => panic!("{error}"),
        }
    });
    match model {
        Ok(model) => Some(Arc::clone(model)),
        Err(reason) => {
            let needed = std::env::var_os("MX_TESTS_NEED_MODEL").is_some();
            assert!(!needed, "{test}: the default model is needed: {reason}");
            eprintln!(
                "SKIPPED {test}: the default model is not here and cannot be fetched: {reason}"
            );
            None
        }
    }
}

/// The same model on an engine of choice.
fn on(model: &Model, engine: EngineChoice, exact: bool) -> Arc<Model> {
    let mut options = LoadOptions::default();
    options.engine = engine;
    options.cpu.exact = exact;
    Arc::new(Model::load(model.path(), &options).unwrap())
}

/// The burn engine with dequantised weights, which is what the recorded numbers are.
fn reference(model: &Model) -> Arc<Model> {
    static REFERENCE: OnceLock<Arc<Model>> = OnceLock::new();
    Arc::clone(REFERENCE.get_or_init(|| on(model, EngineChoice::Burn, false)))
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

fn last_logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let mut session = Session::new(Arc::clone(model.engine()));
    session
        .prefill(tokens, &Cancel::new())
        .unwrap()
        .logits(0)
        .last()
        .unwrap()
        .to_vec()
}

#[test]
fn it_knows_the_capital_of_france() {
    let Some(model) = model("it_knows_the_capital_of_france") else {
        return;
    };
    for model in [reference(&model), model] {
        let client = Client::with_model(model);
        let request = client.request("The capital of France is").raw(true);
        let answer = request.method(Method::Greedy).max_tokens(4).run().unwrap();
        assert!(answer.text.starts_with(" Paris"), "{answer:?}");
    }
}

#[test]
fn it_answers_in_chat() {
    let Some(model) = model("it_answers_in_chat") else {
        return;
    };
    for model in [reference(&model), model] {
        let client = Client::with_model(model);
        let request = client
            .request("What is gravity? Answer in one sentence.")
            .temperature(0.0);
        let answer = request.max_tokens(48).run().unwrap();
        assert!(answer.text.to_lowercase().contains("gravity"), "{answer:?}");
        assert_eq!(answer.finish_reason, FinishReason::Stop, "{answer:?}");
        assert!(!answer.text.contains("<|im_"), "{}", answer.text);
        let drawn = client
            .request("Say hello.")
            .seed(1)
            .max_tokens(16)
            .run()
            .unwrap();
        assert!(!drawn.text.trim().is_empty());
        assert!(matches!(
            drawn.finish_reason,
            FinishReason::Stop | FinishReason::Length
        ));
    }
}

/// Greedy tokens equal the recorded ones as long as the recorded gap between best and second is no rounding matter.
#[test]
fn it_continues_as_recorded() {
    let Some(model) = model("it_continues_as_recorded") else {
        return;
    };
    const TOKENS: usize = 8;
    const CLEAR_GAP: f64 = 1e-3;
    let golden = data::json("smollm2_golden.json");
    let client = Client::with_model(reference(&model));
    for prompt in golden["prompts"].as_array().unwrap() {
        let request = GenerateRequest::new(ids(&prompt["ids"])).method(Method::Greedy);
        let answer = client.run(&request.max_tokens(TOKENS)).unwrap();
        let gaps = prompt["greedy_gaps"].as_array().unwrap();
        let clear = gaps
            .iter()
            .take_while(|gap| gap.as_f64().unwrap() > CLEAR_GAP)
            .count();
        let wanted = ids(&prompt["greedy"]);
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

/// The default engine rounds activations to 8 bits, and is otherwise the same model.
#[test]
fn its_engines_agree() {
    let Some(model) = model("its_engines_agree") else {
        return;
    };
    let reference = reference(&model);
    let exact = on(&model, EngineChoice::Cpu, true);
    let golden = data::json("smollm2_golden.json");
    let chat = [
        "What is the capital of France?",
        "Why is the sky blue?",
        "Name three colours.",
        "Hi",
    ];
    let chat = chat.map(|text| {
        let plan = Plan::new(Arc::clone(&model), &GenerateRequest::new(text), || 0).unwrap();
        plan.prompt_tokens().to_vec()
    });
    let prompts = golden["prompts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|prompt| ids(&prompt["ids"]));
    for tokens in prompts.chain(chat) {
        let wanted = last_logits(&reference, &tokens);
        agree(
            &last_logits(&exact, &tokens),
            &wanted,
            1e-3,
            &format!("{} tokens, exact", tokens.len()),
        );
        let given = last_logits(&model, &tokens);
        let kl = crate::engines::divergence(&wanted, &given);
        assert!(kl < 0.05, "{} tokens: {kl}", tokens.len());
    }
}
