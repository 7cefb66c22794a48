//! Streams: the same as one shot, whole characters, no stop text.

use crate::{load, scripted, tiny};
use mx::pipeline::{Plan, Run, TokenMask};
use mx::{Client, FinishReason, GenerateRequest, Generation};
use mx_runtime::model::Model;
use mx_tests::data;
use mx_tests::scripted::Script;
use std::sync::Arc;

/// A request that stirs the random model up, so that texts are full of broken and whole characters.
fn stirred(seed: u64) -> GenerateRequest {
    GenerateRequest::new("hello é")
        .raw(true)
        .temperature(1.8)
        .top_k(0)
        .max_tokens(60)
        .seed(seed)
}

/// The chunks of a stream and its answer; every chunk is checked against the promises of its type.
fn stream(client: &Client, request: &GenerateRequest) -> (Vec<String>, Generation) {
    let mut run = client.stream(request).unwrap();
    let (mut texts, mut tokens, mut ended) = (Vec::new(), Vec::new(), None);
    for chunk in run.by_ref() {
        let chunk = chunk.unwrap();
        assert_eq!(ended, None, "nothing comes after the last chunk");
        texts.push(chunk.text);
        tokens.extend(chunk.token);
        ended = chunk.finish_reason;
    }
    assert!(run.next().is_none(), "an ended stream stays ended");
    let generation = run.into_generation();
    assert_eq!(ended, Some(generation.finish_reason));
    assert_eq!(tokens, generation.tokens);
    assert_eq!(texts.concat(), generation.text);
    (texts, generation)
}

/// The tiny models with a tokenizer of either kind.
fn models() -> [Arc<Model>; 2] {
    [tiny(), load(&data::gguf("llama3_rope_untied"))]
}

#[test]
fn a_stream_is_one_shot_in_pieces() {
    for model in models() {
        let client = Client::with_model(Arc::clone(&model));
        let tokenizer = model.tokenizer().unwrap();
        for seed in 0..25 {
            let (_, streamed) = stream(&client, &stirred(seed));
            let one_shot = client.run(&stirred(seed)).unwrap();
            assert_eq!(streamed, one_shot);
            let said = one_shot
                .tokens
                .strip_suffix(&model.eos_tokens()[..1])
                .unwrap_or(&one_shot.tokens);
            assert_eq!(
                tokenizer.decode(said, true).unwrap(),
                one_shot.text,
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_character_comes_whole_when_its_last_byte_is_there() {
    let client = scripted(&Script::says("\na€é😀."));
    let (texts, _) = stream(&client, &GenerateRequest::new("x"));
    assert_eq!(
        texts,
        ["a", "", "", "€", "", "é", "", "", "", "😀", ".", ""]
    );
}

#[test]
fn bytes_that_are_no_text_come_out_as_replacement_characters() {
    for (bytes, text) in [
        (&b"\na\xf0\x9f.b"[..], "a\u{fffd}.b"),
        (b"\n\x80\x81a", "\u{fffd}\u{fffd}a"),
        (b"\na\xe2\x82", "a\u{fffd}"),
        (b"\n\xc3\xe2\x82\xac", "\u{fffd}€"),
    ] {
        let (_, generation) = stream(&scripted(&Script::says(bytes)), &GenerateRequest::new("x"));
        assert_eq!(generation.text, text, "{bytes:?}");
    }
}

#[test]
fn the_text_of_a_continuation_continues_the_prompt() {
    // Also for vocabularies that put a space before a text: there it belongs to the first word only.
    let folder = tempfile::tempdir().unwrap();
    let spaced = folder.path().join("model.gguf");
    let mut file = std::fs::read(data::gguf("llama3_rope_untied")).unwrap();
    let key = b"tokenizer.ggml.add_space_prefix";
    let at = file
        .windows(key.len())
        .position(|window| window == key)
        .unwrap()
        + key.len()
        + 4;
    file[at] = 1;
    std::fs::write(&spaced, file).unwrap();
    for (model, prefixed) in models()
        .into_iter()
        .map(|model| (model, false))
        .chain([(load(&spaced), true)])
    {
        let tokenizer = Arc::clone(model.tokenizer().unwrap());
        let vocab = model.config().vocab as u32;
        let spaced = (0..vocab).filter(|id| {
            tokenizer
                .token_bytes(*id)
                .is_some_and(|b| matches!(b, [b' ', b'a'..=b'z', ..]))
        });
        for forced in spaced.take(5) {
            let run = |request: &GenerateRequest| {
                let mut masked = vec![0; vocab.div_ceil(32) as usize];
                masked[forced as usize / 32] = 1 << (forced % 32);
                let plan = Plan::new(Arc::clone(&model), request, || 0).unwrap();
                let run = Run::new(plan).unwrap().with_mask(Box::new(Only(masked)));
                (run.plan().prompt_tokens().to_vec(), run.complete().unwrap())
            };
            let (mut all, generation) = run(&GenerateRequest::new("hello").raw(true).max_tokens(2));
            let before = tokenizer.decode(&all, true).unwrap();
            all.extend(&generation.tokens);
            assert!(generation.text.starts_with(' '));
            assert_eq!(
                before + &generation.text,
                tokenizer.decode(&all, true).unwrap()
            );
            // A text that goes on with nothing has no space before it.
            let (_, begun) =
                run(&GenerateRequest::new(vec![model.config().bos_token.unwrap()]).max_tokens(2));
            assert_eq!(begun.text.starts_with(' '), !prefixed, "{}", begun.text);
        }
    }
}

/// Allows one token.
struct Only(Vec<u32>);

impl TokenMask for Only {
    fn mask(&mut self) -> Result<Option<&[u32]>, mx::Error> {
        Ok(Some(&self.0))
    }

    fn commit(&mut self, _: u32) -> Result<(), mx::Error> {
        Ok(())
    }
}

#[test]
fn a_continuation_finishes_a_character_that_the_prompt_began() {
    let client = scripted(&Script::says("a😀b"));
    let began: Vec<u32> = [b'a', 0xf0, 0x9f].map(mx_tests::scripted::token).to_vec();
    let (texts, _) = stream(&client, &GenerateRequest::new(began));
    assert_eq!(texts, ["", "😀", "b", ""]);
}

/// A stop text taken from anywhere in a text ends the same generation just before it.
#[test]
fn a_stop_text_cuts_what_would_have_been_said_without_it() {
    let client = Client::with_model(tiny());
    let mut cut = 0;
    for seed in 0..20 {
        let whole = client.run(&stirred(seed)).unwrap();
        let characters: Vec<(usize, char)> = whole.text.char_indices().collect();
        for (start, length) in [(3, 1), (5, 2), (10, 3), (11, 4), (0, 1)] {
            let Some(window) = characters.get(start..start + length) else {
                continue;
            };
            let stop: String = window.iter().map(|(_, c)| c).collect();
            let request = stirred(seed).stop("never said").stop(&*stop);
            let (texts, generation) = stream(&client, &request);
            let place = whole.text.find(&stop).unwrap();
            assert_eq!(
                generation.text,
                whole.text[..place],
                "seed {seed}, stop {stop:?}"
            );
            assert_eq!(generation.stop_text.as_deref(), Some(&*stop));
            assert_eq!(generation.finish_reason, FinishReason::Stop);
            assert!(whole.tokens.starts_with(&generation.tokens));
            assert!(!texts.concat().contains(&stop));
            cut += 1;
        }
    }
    assert!(cut > 60, "only {cut} texts were long enough");
}

#[test]
fn a_stop_text_that_never_comes_changes_nothing() {
    let client = Client::with_model(tiny());
    for seed in 0..10 {
        let whole = client.run(&stirred(seed)).unwrap();
        // Begins like the end of the text, so that it is held back to the last.
        let mut almost: String = whole
            .text
            .chars()
            .rev()
            .take(2)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        almost += "\u{1}never";
        let (_, stopped) = stream(&client, &stirred(seed).stop(almost));
        assert_eq!(stopped.text, whole.text);
        assert_eq!((stopped.tokens, stopped.stop_text), (whole.tokens, None));
    }
}
