//! Text that keeps to a JSON Schema, a regular expression or a grammar, by telling a language model at each step which
//! tokens it may choose.
//!
//! For authors of inference engines and tools who have logits and want only valid text to come out. The crate knows no
//! tensor library, no tokenizer and no model: tokens come in as bytes, masks go out as bit words (`&[u32]`, least
//! significant bit first, 1 = allowed, the layout of llguidance, XGrammar and vLLM). If what you need is a whole engine,
//! use one that contains this crate; if you only want to check finished JSON, use a validator.
//!
//! 1. [From schema to mask](#from-schema-to-mask)
//! 2. [A vocabulary from somebody else's tokenizer](#a-vocabulary-from-somebody-elses-tokenizer)
//! 3. [A generation loop](#a-generation-loop)
//! 4. [Kinds of constraints](#kinds-of-constraints)
//! 5. [Fewer forward passes](#fewer-forward-passes)
//! 6. [Branching and going back](#branching-and-going-back)
//! 7. [Why was it refused?](#why-was-it-refused)
//! 8. [What is guaranteed](#what-is-guaranteed)
//! 9. [Limits](#limits)
//! 10. [Speed](#speed)
//! 11. [How it works](#how-it-works)
//!
//! # From schema to mask
//!
//! ```
//! use mx_constrain::{Constraint, Vocabulary};
//!
//! // All 256 bytes and three longer tokens; a real tokenizer has some ten thousand more.
//! let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
//! tokens.extend(["{\"age\":", "23", ""].map(Vec::from));
//! let vocabulary = Vocabulary::new(tokens.into_iter().map(Some), &[258])?; // once per tokenizer; 258 ends the text
//! let schema = serde_json::json!({
//!     "type": "object",
//!     "properties": { "age": { "type": "integer", "minimum": 1 } },
//!     "required": ["age"],
//!     "additionalProperties": false,
//! });
//! let constraint = Constraint::json_schema(&vocabulary, &schema)?; // once per schema
//! let mut matcher = constraint.matcher()?; // once per text
//!
//! let mut logits = vec![0.0; vocabulary.len()]; // from the model
//! matcher.mask()?.apply(&mut logits)?; // everything that would break the schema is now -inf
//! assert_eq!(logits[usize::from(b'{')], 0.0);
//! assert_eq!(logits[usize::from(b'x')], f32::NEG_INFINITY);
//! matcher.commit(256)?; // the token that was drawn: {"age":
//! assert!(matcher.allows(257)? && !matcher.allows(u32::from(b'-'))?); // 23, and nothing negative
//! # Ok::<(), mx_constrain::ConstrainError>(())
//! ```
//!
//! The whole loop with an engine of one's own stands in `examples/schema_to_mask.rs`.
//!
//! # A vocabulary from somebody else's tokenizer
//!
//! [`Vocabulary::new`] wants the bytes that each id adds to the text. Tokenizer files spell them in one of two ways,
//! which [`byte_level_bytes`] and [`sentencepiece_bytes`] undo; special tokens have no bytes. With the `tokenizers`
//! crate:
//!
//! ```
//! # struct Tokenizer;
//! # impl Tokenizer {
//! #     fn get_vocab_size(&self, _: bool) -> usize { 3 }
//! #     fn id_to_token(&self, id: u32) -> Option<String> {
//! #         ["<|end|>", "Ġthe", "Ċ"].get(id as usize).map(|s| s.to_string())
//! #     }
//! #     fn token_to_id(&self, _: &str) -> Option<u32> { Some(0) }
//! # }
//! # let tokenizer = Tokenizer;
//! # let special = |id: u32| id == 0;
//! use mx_constrain::{Vocabulary, byte_level_bytes};
//!
//! let eos = tokenizer.token_to_id("<|end|>").unwrap();
//! let tokens = (0..tokenizer.get_vocab_size(true) as u32).map(|id| match special(id) {
//!     true => None,
//!     false => tokenizer.id_to_token(id).and_then(|token| byte_level_bytes(&token)),
//! });
//! let vocabulary = Vocabulary::new(tokens, &[eos])?;
//! assert_eq!(vocabulary.bytes_of(1), Some(&b" the"[..]));
//! # Ok::<(), mx_constrain::ConstrainError>(())
//! ```
//!
//! With llama.cpp the bytes come from `llama_token_to_piece` with `special = false`; tokens for which
//! `llama_vocab_is_control` holds are `None`, those for which `llama_vocab_is_eog` holds are the end ids.
//!
//! # A generation loop
//!
//! A mask costs microseconds, but most draws would have been valid anyway. Drawing first and asking for a mask only when
//! the token is refused gives the same distribution as masking always only for greedy decoding; with random sampling,
//! mask before the draw.
//!
//! ```
//! # use mx_constrain::{Constraint, Vocabulary};
//! # let vocabulary = Vocabulary::new(["yes", "no", "maybe", ""].map(Some), &[3])?;
//! # let model = |_: &[u32]| vec![0.1, 0.7, 0.9, 0.0];
//! # let draw = |row: &[f32]| (0..row.len() as u32).max_by(|&a, &b| row[a as usize].total_cmp(&row[b as usize])).unwrap();
//! let constraint = Constraint::choices(&vocabulary, ["yes", "no"])?;
//! let mut matcher = constraint.matcher()?;
//! let mut text = Vec::new();
//! while !matcher.must_stop()? {
//!     let mut logits = model(&text);
//!     matcher.mask()?.apply(&mut logits)?; // before temperature and truncation
//!     let token = draw(&logits);
//!     matcher.commit(token)?;
//!     if matcher.is_ended() {
//!         break; // the token ended the text
//!     }
//!     text.push(token);
//! }
//! assert_eq!(text, [1]); // "no": the model's "maybe" was not allowed
//! # Ok::<(), mx_constrain::ConstrainError>(())
//! ```
//!
//! # Kinds of constraints
//!
//! | constraint | constructor | notes |
//! |---|---|---|
//! | JSON Schema | [`Constraint::json_schema`] | drafts 4 to 2020-12; options in [`SchemaOptions`] |
//! | any JSON object | [`Constraint::json_object`] | |
//! | regular expression | [`Constraint::regex`] | ECMA-262 or Rust syntax, whole text or search; look-ahead, no back-references |
//! | grammar | [`Constraint::grammar`] | GBNF, Lark, EBNF: [`GrammarSyntax`] |
//! | choices | [`Constraint::choices`] | |
//!
//! All of them as data for a request: [`ConstraintSpec`], which [`Constraint::compile`] reads together with [`Limits`].
//!
//! ```
//! use mx_constrain::{Constraint, ConstraintSpec, Limits, Vocabulary};
//!
//! let spec: ConstraintSpec = serde_json::from_str(r#"{"regex": {"pattern": "(?!00)[0-9]{2}"}}"#).unwrap();
//! let vocabulary = Vocabulary::new(["0", "1", "00", "01"].map(Some), &[])?;
//! let mut matcher = Constraint::compile(&vocabulary, &spec, &Limits::default())?.matcher()?;
//! assert_eq!(matcher.mask()?.iter().collect::<Vec<_>>(), [0, 1, 3]); // 00 is ruled out by the look-ahead
//! # Ok::<(), mx_constrain::ConstrainError>(())
//! ```
//!
//! # Fewer forward passes
//!
//! Where the constraint leaves no choice, the model need not be asked: [`Matcher::forced_token`] when one token is left,
//! [`Matcher::fast_forward`] for longer forced text, which has to go through the tokenizer because the constraint knows
//! bytes and the model prefers certain tokens for them.
//!
//! ```
//! use mx_constrain::{Constraint, Vocabulary};
//!
//! let vocabulary = Vocabulary::new(["{\"", "name", "\":", " \"", "n", "a"].map(Some), &[])?;
//! let constraint = Constraint::regex(&vocabulary, "\\{\"name\": \"(a|n)*")?;
//! let mut matcher = constraint.matcher()?;
//! assert_eq!(matcher.forced_bytes()?, b"{\"name\": \"");
//! for token in matcher.fast_forward(|_forced_text| vec![0, 1, 2, 3])? {
//!     matcher.commit(token)?; // and append to the model's context in one go
//! }
//! assert_eq!(matcher.committed(), 4);
//! # Ok::<(), mx_constrain::ConstrainError>(())
//! ```
//!
//! [`Matcher::tokens_to_finish`] tells how many tokens are enough to end, so that a token budget can be kept.
//!
//! # Branching and going back
//!
//! A [`Matcher`] is a pointer and two integers: cloning it for beams and draft trees takes constant time, and
//! [`Matcher::rollback`] takes rejected draft tokens back.
//!
//! ```
//! # use mx_constrain::{Constraint, Vocabulary};
//! # let vocabulary = Vocabulary::new(["a", "b"].map(Some), &[])?;
//! let mut matcher = Constraint::regex(&vocabulary, "(ab)*")?.matcher()?;
//! assert_eq!(matcher.commit_while_allowed(&[0, 1, 1])?, 2); // a draft of three: the last is refused
//! let other = matcher.clone();
//! matcher.rollback(1)?;
//! assert_eq!((matcher.committed(), other.committed()), (1, 2));
//! # Ok::<(), mx_constrain::ConstrainError>(())
//! ```
//!
//! # Why was it refused?
//!
//! [`Matcher::why_not`] names the byte and what refuses it: the JSON pointer and keyword of a schema, the rule of a
//! grammar, the pattern. What it says could have come is what this vocabulary can write. The same stands in the error when such a token is committed.
//!
//! ```
//! # use mx_constrain::{Constraint, Vocabulary};
//! # let vocabulary = Vocabulary::new(["a1", "12"].map(Some), &[])?;
//! let matcher = Constraint::regex(&vocabulary, "[0-9]+")?.matcher()?;
//! assert_eq!(matcher.why_not(0)?.unwrap().to_string(), "byte 0 ([a]): `[0-9]+` wants one of [1-2]");
//! assert_eq!(matcher.why_not(1)?, None);
//! # Ok::<(), mx_constrain::ConstrainError>(())
//! ```
//!
//! # What is guaranteed
//!
//! - **Nothing invalid gets through.** What cannot be honoured is refused when the constraint is compiled, with place,
//!   keyword and reason; nothing is dropped silently.
//! - **Nothing valid is lost unsaid.** Where fewer texts are produced than asked for, [`Constraint::exactness`] lists
//!   what is left out.
//! - **No dead ends.** A token is allowed only if the text can still be completed behind it, with the bytes that this
//!   vocabulary has.
//! - The end is allowed exactly where the text may end, and nothing is allowed behind it.
//! - Special tokens are never allowed for their names' sake; ids with the same bytes are allowed together.
//! - No panic and no endless loop on any input. Text from strangers costs at most what the limits allow.
//!
//! # Limits
//!
//! Schemas, patterns and grammars may come from strangers. [`Limits`] bounds what they cost, and
//! [`ConstrainError::Limit`] names the field that was exceeded. Automata grow while texts visit them; when those that
//! the matchers of one constraint share have grown to half of what is allowed, new matchers start with empty ones.
//!
//! # Speed
//!
//! Compiling does no work per token. The first matcher that comes to a state computes its mask; all later ones are given
//! the same words. On one core of a server, 49 152 tokens:
//!
//! | | |
//! |---|---|
//! | vocabulary | about 10 ms, 3 MB |
//! | mask of a state seen before | below 0.1 µs |
//! | mask of a new state, free text or nearly forced | about 1 µs |
//! | mask of a new state inside names or strings that the schema lists | 2 to 10 µs |
//! | mask of a new state of a pattern such as `[a-z0-9-]+` | 5 to 50 µs |
//! | a token committed | 0.1 to 0.3 µs |
//!
//! # How it works
//!
//! Every constraint becomes one deterministic machine over bytes that is built while text visits it. Its state is one
//! integer per frame (a bracket that is open), and the frames below are a stack stored once for all texts, so that a
//! place in a text is two integers. The mask of a state is found by walking the trie of token bytes with the machine.
//! Three things keep that walk short: the bytes that a state refuses outright cut whole subtrees; tokens made only of
//! characters that cannot leave the state are taken together, as bits prepared per vocabulary; and what was found is
//! kept per state, with the few tokens that close the frame resolved against the frames below. Names and strings that a
//! schema lists are looked up in the trie text by text, without reading them byte by byte.

mod byteset;
mod constraint;
mod error;
mod exactness;
mod grammar;
mod hash;
mod lexical;
mod limits;
mod machine;
mod mask;
mod matcher;
mod schema;
mod spec;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
mod text;
mod vocabulary;

pub use byteset::{ByteSet, Iter as ByteSetIter};
pub use constraint::Constraint;
pub use error::ConstrainError;
pub use exactness::{Exactness, Restriction};
pub use grammar::GrammarSyntax;
pub use lexical::{RegexMode, RegexSyntax};
pub use limits::Limits;
pub use machine::Refusal;
pub use mask::Mask;
pub use matcher::{Matcher, WhyNot};
pub use schema::{Draft, Formats, Lexical, PropertyOrder, SchemaOptions, Whitespace};
pub use spec::ConstraintSpec;
pub use vocabulary::{Vocabulary, byte_level_bytes, sentencepiece_bytes};
