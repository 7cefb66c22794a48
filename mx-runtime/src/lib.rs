//! Language models on [burn](https://burn.dev): weight files, tokenizers, chat templates, sessions, hook points.
//!
//! For whom: programs that want to run a decoder-only model and see inside it. Someone who only wants text takes the
//! facade crate `mx`; someone who has an engine already and only needs sampling takes `mx-sampling`.
//!
//! # A model in a few lines
//!
//! ```no_run
//! use mx_runtime::model::{LoadOptions, Model};
//! use mx_runtime::session::{Cancel, Session};
//! use mx_runtime::tokenizer::Specials;
//! use std::{path::Path, sync::Arc};
//!
//! let model = Model::load(Path::new("model.gguf"), &LoadOptions::default())?;
//! let tokenizer = model.tokenizer().expect("this model has one");
//! let prompt = tokenizer.encode("The capital of France is", Specials::AsText)?;
//!
//! let mut session = Session::new(Arc::clone(model.engine()));
//! let output = session.prefill(&prompt, &Cancel::new())?;
//! let logits = output.logits(0).last().expect("the last token's logits");
//! let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
//! println!("{:?}", best.and_then(|id| tokenizer.token_text(id as u32)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Many rows in one step
//!
//! [`Engine::step`](engine::Engine::step) takes a ragged batch: whole prompts, single tokens and drafts side by side,
//! each row with its own sequence and position. [`Sequence::fork`](engine::Sequence::fork) shares keys and values,
//! [`Sequence::truncate`](engine::Sequence::truncate) takes tokens back in constant time.
//!
//! ```no_run
//! # use mx_runtime::engine::{Engine, EngineError, Row, StepOutput, Want};
//! # fn verify(engine: &dyn Engine, prompt: &[u32], draft: &[u32]) -> Result<(), EngineError> {
//! let mut main = engine.new_sequence();
//! let mut other = engine.new_sequence();
//! let mut output = StepOutput::new();
//! engine.step(
//!     &mut [
//!         Row { sequence: &mut main, tokens: draft, want: Want::All, hooks: None },
//!         Row { sequence: &mut other, tokens: prompt, want: Want::Last, hooks: None },
//!     ],
//!     &mut output,
//! )?;
//! assert_eq!(output.logits(0).len(), draft.len());
//! main.truncate(1); // only the first drafted token was accepted
//! # Ok(())
//! # }
//! ```
//!
//! # Two engines
//!
//! [`engine::cpu`] holds the weights packed as they stand in the file and is meant to be fast on a CPU; [`engine::burn`]
//! computes with f32 tensors on any device, is differentiable, and is the reference. [`model::LoadOptions`] chooses;
//! by default a model on the device `flex` runs on the CPU engine where its kernels can hold it.
//!
//! # Looking inside, and steering
//!
//! [`hooks`] names places in the forward pass. There rows can be captured and edited, per row of a batch and per class
//! of tokens; [`BurnEngine`](engine::burn::BurnEngine) also takes a closure on tensors and is differentiable.
//!
//! ```no_run
//! use mx_runtime::hooks::{Capture, Edit, HookPlan, HookPoint, TokenClass};
//! # fn plan(config: &mx_runtime::config::ModelConfig, vector: Vec<f32>)
//! #     -> Result<HookPlan, mx_runtime::hooks::HookError> {
//! let steer = Edit::add(HookPoint::ResidPre(12), vector, 2.0).at(TokenClass::SkipFirst);
//! let look = Capture { point: HookPoint::ResidPost(12), tokens: TokenClass::LastPrompt };
//! HookPlan::new([steer], [look], config)
//! # }
//! ```
//!
//! # Themes
//!
//! **Errors** are enums that name file, field, value and what was wanted. **Hostile files**: no count in a file is
//! trusted; limits can be changed and are named in errors. **Devices** are chosen when the program runs
//! ([`device::DeviceId`]). **Cancellation**: [`session::Cancel`] is looked at between the chunks of a prompt.
//!
//! # Features
//!
//! `flex` on the CPU is always there. `ndarray`, `wgpu` (WGSL; also runs on software devices), `vulkan` (SPIR-V, real
//! GPUs) and `cuda` add burn's backends of those names and change nothing else.

pub mod config;
pub mod device;
pub mod engine;
pub mod error;
pub mod files;
pub mod hooks;
pub mod model;
pub mod session;
pub mod source;
pub mod template;
pub mod tokenizer;
pub mod weights;
