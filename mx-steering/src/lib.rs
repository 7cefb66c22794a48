//! Activation steering: vectors that are made, applied, measured and trusted.
//!
//! A language model writes its intermediate thoughts as rows of numbers, one row a token, into a *residual stream* that
//! runs through its layers. Adding a vector to these rows changes what it thinks: more honest, shorter, more formal,
//! less willing. This crate makes such vectors from pairs of texts, turns them into edits of rows, reads and writes the
//! files in use, and measures what a vector does and what it breaks. It knows no model: rows come in by closures, edits
//! go out as plain data.
//!
//! **Use something else** for changing weights ([fine-tuning](https://arxiv.org/abs/2106.09685)), and for hard
//! guarantees on the form of an output (a mask of allowed tokens): steering shifts probabilities, it forbids nothing.
//!
//! # Contents
//!
//! - [A vector from eight pairs](#a-vector-from-eight-pairs)
//! - [Applying it](#applying-it): [requests](#what-a-request-can-say), [operators](#operators),
//!   [positions](#positions), [your own model](#your-own-model)
//! - [Choosing method, layer and strength](#choosing-method-layer-and-strength)
//! - [Measuring](#measuring)
//! - [Files and the store](#files-and-the-store)
//! - [Presets](#presets) and [behaviours](#behaviours)
//! - [What can go wrong](#what-can-go-wrong)
//! - [Themes](#themes) and [features](#features)
//!
//! # A vector from eight pairs
//!
//! ```
//! use mx_steering::format::pairs::Pair;
//! use mx_steering::make::{Recipe, TokenPair, make, unwatched};
//! use mx_steering::{ModelError, Point, Site};
//! # // a stand-in for a model: rows of width 4 that tell letters apart
//! # fn run_model(tokens: &[u32], points: &[Point]) -> Result<Vec<Vec<f32>>, ModelError> {
//! #     let row = |&t: &u32| (0..4).map(move |i| ((t * (i + 3)) as f32 * 0.37).sin());
//! #     Ok(points.iter().map(|_| tokens.iter().flat_map(row).collect()).collect())
//! # }
//! # fn tokenize(text: &str) -> Result<Vec<u32>, ModelError> { Ok(text.bytes().map(u32::from).collect()) }
//!
//! let pairs = [
//!     ("I tell the", " truth", " lie"), ("My statement is", " factual", " false"),
//!     ("The witness was", " honest", " lying"), ("This claim is", " correct", " invented"),
//!     ("Her answer was", " sincere", " deceptive"), ("The report is", " accurate", " faked"),
//!     ("His story is", " true", " made up"), ("The label is", " right", " misleading"),
//! ];
//! let mut tokens = Vec::new();
//! for (prompt, positive, negative) in pairs {
//!     let pair = Pair::new(prompt, positive, negative);
//!     tokens.push(TokenPair::new(&pair, &mut |pair| Ok(pair.prompt.clone()), &mut |text| tokenize(text))?);
//! }
//! // `run_model` gives the rows `[tokens, d_model]` at each place, from an unsteered run
//! let recipe = Recipe::caa([Site::ResidPost.at(1)]);
//! let vector = make(&recipe, &tokens, &mut run_model, &mut unwatched)?.named("honesty");
//! assert!(vector.id().starts_with("sv_"));
//! # Ok::<(), mx_steering::SteeringError>(())
//! ```
//!
//! The same closure serves every method of [`make`]; `make::few_shot` wants logits that can be differentiated instead.
//! Progress and cancelling go through the last argument.
//!
//! # Applying it
//!
//! A request says which vectors act and how; compiled for a model and a prompt it becomes a list of edits, each of one
//! primitive, x ← x + Σ (a + b·⟨u, x⟩)·w, which an engine applies to the rows at a place:
//!
//! ```
//! use mx_steering::apply::{Steer, SteeringSpec, TokenClass};
//! use mx_steering::{Method, ModelShape, Site, SteeringVector};
//! use std::sync::Arc;
//!
//! let vector = SteeringVector::new(Method::Caa, [(Site::ResidPost.at(1), vec![0.0, 2.0])].into())?;
//! let vector = Arc::new(vector);
//! let spec = SteeringSpec::from(Steer::new("honesty").strength(1.5).tokens(TokenClass::FromLastPrompt));
//! let prompt_len = 7;
//! let plan = spec.compile(&ModelShape::new(2, 4), prompt_len, &mut |reference| match reference {
//!     "honesty" => Ok(Arc::clone(&vector)),
//!     other => Err(format!("no vector {other}").into()),
//! })?;
//! // rows of positions 6 and 7 at the output of block 1
//! let mut rows = [0.0, 1.0, 0.0, 1.0];
//! for edit in &plan.edits {
//!     edit.apply_rows(&mut rows, 2, 6, prompt_len);
//! }
//! assert_eq!(rows, [0.0, 4.0, 0.0, 4.0]);
//! # Ok::<(), mx_steering::SteeringError>(())
//! ```
//!
//! [`Plan::digest`](apply::Plan::digest) names the configuration: keys and values computed under one digest must not be
//! reused under another. [`Plan::warnings`](apply::Plan::warnings) holds what a person should be told.
//!
//! ## What a request can say
//!
//! [`Steer`](apply::Steer) is serde data; unknown fields are errors. On a command line it is
//! `REFERENCE[:STRENGTH][@LAYERS]`.
//!
//! ```
//! use mx_steering::apply::{Steer, SteeringSpec};
//!
//! let flag: Steer = "honesty:1.5@10-14,20".parse()?;
//! assert_eq!(flag.layers, Some(vec![10, 11, 12, 13, 14, 20]));
//! let json = r#"{"vectors": [{"vector": "honesty", "strength": 1.5, "units": "unit", "tokens": "generated",
//!     "schedule": {"kind": "decay", "half_life": 32}, "condition": {"threshold": 0.5, "when": "below"}}]}"#;
//! let spec: SteeringSpec = serde_json::from_str(json)?;
//! # assert_eq!(spec.vectors.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## Operators
//!
//! With v̂ the direction of the vector and s the strength; see [`Operator`](apply::Operator).
//!
//! | operator | x becomes | s |
//! |---|---|---|
//! | add | x + s v | any |
//! | ablate | x − s ⟨v̂, x⟩ v̂ | share, 1 removes all, 2 mirrors |
//! | clamp | x + s (c − ⟨v̂, x⟩) v̂ | share |
//! | rotate | x turned by s·θ in the plane of v and another vector | share of the angle |
//! | rotate_to | x turned until its part in the plane stands at θ | 1 |
//!
//! `keep_norm` rescales the row to its old length after any of them; `condition` lets them act only on rows whose
//! projection passes a threshold, `prompt_condition` only for prompts that are alike to a condition; `everywhere`
//! writes at every place of the stream. Where several meet they act in the order ablate, rotate, edits given directly,
//! add, clamp, norm-keeping.
//!
//! ## Positions
//!
//! [`TokenClass`](apply::TokenClass): `all`, `prompt`, `last_prompt`, `generated`, `from_last_prompt`, `skip_first`, or
//! a range such as `-3..` counted from the end of the prompt. The logits of the first new token come from the prompt's
//! last position, so `generated` leaves the first new token as it was. [`Schedule`](apply::Schedule) changes the
//! strength along the positions.
//!
//! ## Your own model
//!
#![cfg_attr(
    feature = "burn",
    doc = "With a burn model, [`tensor::TensorPlan`] applies a plan to `[batch, seq, d_model]` tensors,"
)]
#![cfg_attr(
    not(feature = "burn"),
    doc = "With a burn model, `tensor::TensorPlan` applies a plan to `[batch, seq, d_model]` tensors,"
)]
//! with a plan of its own for each row if wanted. With anything else, [`Edit::apply_rows`](apply::Edit::apply_rows) works
//! on slices.
//!
//! # Choosing method, layer and strength
//!
//! *Method.* Mean differences ([`Recipe::caa`](make::Recipe::caa)) are the place to start: cheap, robust, and as good as
//! most. Principal components are steadier where pairs are noisy. Few-shot optimisation finds a vector from one or two
//! examples, and a stronger one, that may do more than asked. Use at least fifty pairs for a mean, of similar length on
//! both sides, and hold a fifth of them out.
//!
//! *Layer.* [`rank_layers`](make::rank_layers) judges every layer on held-out pairs, [`choose_layer`](make::choose_layer)
//! takes the best whose damage is bearable, [`make_at_best`](make::make_at_best) does all of it, by separation or by
//! effect: where a difference can be read best is not always where it can be written. The middle third of the model
//! usually wins. One layer is often enough:
//! directions at eight layers add up to eight pushes.
//!
//! *Strength.* Raw vectors differ in length from layer to layer. [`Units::Relative`] makes strength 1 a tenth of the
//! stream's norm, for any layer of any model; text begins to break down at 3 to 5. Strength 0 is bit-identical to none.
//!
//! # Measuring
//!
//! ```
//! use mx_steering::evaluate::{AnswerSums, LogitShift};
//! use mx_steering::plot::Chart;
//!
//! // sums of log-probabilities of both answers of a pair at a strength; a model gives them
//! let mut score = |strength: f32, pair: usize| {
//!     let positive = -3.0 + 0.8 * f64::from(strength) - 0.1 * pair as f64;
//!     Ok(AnswerSums { positive, negative: -2.5 })
//! };
//! let shift = LogitShift::measure(&[-2.0, -1.0, 1.0, 2.0], 8, 1, &mut score)?;
//! assert!(shift.monotonicity > 0.99 && shift.anti_steerable == 0.0);
//! let table = shift.table().to_string();
//! let svg = Chart::of_shift("honesty", &shift).to_svg();
//! # assert!(table.contains("strength") && svg.contains("</svg>"));
//! # Ok::<(), mx_steering::SteeringError>(())
//! ```
//!
//! See [`evaluate`] for cosine separation, behaviour rates with confidence intervals, divergence, perplexity and sweeps.
//!
//! # Files and the store
//!
//! [`format::load`] reads our safetensors, Mechanex JSON, control-vector GGUF (llama.cpp, repeng) and `.svec` JSON;
//! [`format::save`] writes the first three, and says what a format could not hold. [`store::VectorStore`] keeps vectors
//! in a folder that several processes may use at once.
//!
//! ```
//! use mx_steering::format::{Format, Limits, read, write};
//! use mx_steering::{Method, Site, SteeringVector};
//!
//! let vector = SteeringVector::new(Method::Caa, [(Site::ResidPost.at(3), vec![1.0, 2.0])].into())?;
//! let (bytes, warnings) = write(&vector, Format::Gguf)?;
//! assert!(warnings.is_empty());
//! let again = read(&bytes, &Limits::default())?;
//! assert_eq!(again.direction(Site::ResidPost.at(3)), vector.direction(Site::ResidPost.at(3)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Presets
//!
//! [`presets`] bundles pairs for eight common wishes, makes their vectors for the model at hand at the layer that does
//! most to pairs held out, and reports the effect on held-out prompts with its confidence interval. A preset whose
//! interval includes no effect says so when it is used.
//!
//! # Behaviours
//!
//! [`behaviour`] reads sparse autoencoders in SAELens' files, makes a behaviour from examples, scores every new token for
//! drift into it, and corrects by steering or by writing the text again.
//!
//! # What can go wrong
//!
//! 1. **Off by one.** `resid_post.L` is `resid_pre.(L+1)`. Mechanex reads at `resid_post.L` and acts at `resid_pre.L`:
//!    its files are taken at their word, vectors made here act where they were read. [`SteeringVector::moved_to`] renames
//!    a row, [`SteeringVector::relabelled`] moves a direction to another one.
//! 2. **The attention sink.** In many models position 0 carries a row a hundred times longer than any other. Every mean
//!    here leaves it out; [`TokenClass::SkipFirst`](apply::TokenClass::SkipFirst) spares it when steering.
//! 3. **BOS and chat templates.** Tokenise pairs as the model is used: with its template, with or without a
//!    beginning-of-sequence token.
//! 4. **Prompt and answer are tokenised together**; a tokenizer may merge letters across the border.
//! 5. **All layers at once** is many times the push of one.
//! 6. **A vector that subtracts** (negative strength) is not the opposite behaviour, only less of this one.
//! 7. **Effect without cost is suspicious.** Look at perplexity and repetition beside every effect.
//! 8. **Some inputs steer backwards**: [`LogitShift::anti_steerable`](evaluate::LogitShift::anti_steerable) counts them.
//! 9. **A strength chosen on the prompts it is judged on** looks better than it is; see
//!    [`presets::Split`].
//! 10. **Cached prefixes** belong to the steering they were computed under.
//! 11. **f16** overflows on the sink's row; edits are computed in f32.
//!
//! # Themes
//!
//! *Places* are [`Point`]s: a [`Site`] of a layer, layers counted from 0, written `resid_post.12`.
//!
//! *Rows* are f32, sums over them f64. Everything random is seeded and reproducible.
//!
//! *Errors* state the value given and the value wanted. [`SteeringError`] for vectors and requests,
//! [`format::FormatError`] for files, [`store::StoreError`] for the store. What is no error but should be known is a
//! [`Warning`].
//!
//! *Files are hostile*: no count, length or offset is believed, and the bounds are fields of [`format::Limits`].
//!
//! *Closures* over a model fail with any error; `?` inside them works. This crate reads no clock, keeps no globals,
//! starts no threads and prints nothing.
//!
//! # Features
//!
//! - `burn` (default): edits of burn tensors, and few-shot optimisation. Without it
//!   the crate needs no tensor library.

pub mod apply;
pub mod behaviour;
mod error;
pub mod evaluate;
pub mod format;
mod linalg;
pub mod make;
mod model;
pub mod plot;
mod point;
pub mod presets;
pub mod store;
#[cfg(feature = "burn")]
pub mod tensor;
mod vector;

pub use error::{ModelError, SteeringError};
pub use model::{ModelIdentity, ModelShape, Warning};
pub use point::{Point, Site};
pub use vector::{DEFAULT_RHO, Measured, Method, Provenance, SteeringVector, Units};
