//! Choosing the next token: logits processors, truncations, penalties and seeded draws for language models,
//! on plain slices of `f32`.
//!
//! For authors of inference engines and tools who have a row of logits and want the token. The crate knows no
//! tensor library, no tokenizer and no model; its only currency is `&mut [f32]`, token ids as `u32`, and masks
//! as bit words. If what you need is a whole engine, use one that contains this crate.
//!
//! 1. [A sampler in five lines](#a-sampler-in-five-lines)
//! 2. [Logits from elsewhere](#logits-from-elsewhere)
//! 3. [A generation loop](#a-generation-loop)
//! 4. [Parameters](#parameters)
//! 5. [Order of the chain](#order-of-the-chain)
//! 6. [Masks](#masks)
//! 7. [Seeds](#seeds)
//! 8. [What happened: log-probabilities and explanations](#what-happened)
//! 9. [Decoding strategies](#decoding-strategies)
//! 10. [Errors](#errors)
//! 11. [Speed](#speed)
//!
//! # A sampler in five lines
//!
//! ```
//! use mx_sampling::{Sampler, SamplingOptions};
//!
//! let options = SamplingOptions { temperature: Some(0.7), top_k: Some(50), ..Default::default() };
//! let mut sampler = Sampler::new(&options, 5, 42, 0)?; // 5 tokens, seed 42, stream 0
//! let draw = sampler.sample(&mut [0.1, 2.3, -0.5, 1.9, 0.0], None)?;
//! sampler.commit(draw.token);
//! # assert!(draw.logprob <= 0.0);
//! # Ok::<(), mx_sampling::SamplingError>(())
//! ```
//!
//! # Logits from elsewhere
//!
//! **candle**: a tensor of shape `[vocab]` on the CPU becomes a vector with `logits.to_vec1::<f32>()?`.
//!
//! ```
//! # struct Tensor(Vec<f32>);
//! # impl Tensor { fn to_vec1<T: From<f32>>(&self) -> Result<Vec<f32>, std::convert::Infallible> { Ok(self.0.clone()) } }
//! # let logits = Tensor(vec![0.5, 3.0, 1.0]);
//! use mx_sampling::{Sampler, SamplingOptions};
//!
//! let mut row: Vec<f32> = logits.to_vec1::<f32>()?;
//! let options = SamplingOptions { top_p: Some(0.9), ..Default::default() };
//! let mut sampler = Sampler::new(&options, row.len(), 42, 0)?;
//! let token: u32 = sampler.sample(&mut row, None)?.token;
//! # assert!(token < 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **ort**: the output is one flat slice of shape `[batch, seq, vocab]`; the last position of each sequence is
//! a row. Sequences get a stream each, so that a batch draws what its members would draw alone.
//!
//! ```
//! use mx_sampling::{Sampler, SamplingOptions};
//!
//! let (batch, seq, vocab) = (2, 3, 4);
//! let output: Vec<f32> = (0..batch * seq * vocab).map(|i| (i % 7) as f32).collect();
//! let options = SamplingOptions { min_p: Some(0.05), ..Default::default() };
//! let mut samplers = Vec::new();
//! for index in 0..batch {
//!     samplers.push(Sampler::new(&options, vocab, 42, index as u64)?);
//! }
//! for (sampler, rows) in samplers.iter_mut().zip(output.chunks(seq * vocab)) {
//!     let mut last = rows[(seq - 1) * vocab..].to_vec();
//!     let draw = sampler.sample(&mut last, None)?;
//!     sampler.commit(draw.token);
//! }
//! # Ok::<(), mx_sampling::SamplingError>(())
//! ```
//!
//! **llama.cpp**: `llama_get_logits_ith` gives a pointer to `n_vocab` floats, which
//! `std::slice::from_raw_parts_mut` turns into the slice wanted here; there is no candidate array to fill. The
//! order `llama` behaves like its default chain.
//!
//! ```
//! use mx_sampling::{Order, Sampler, SamplingOptions};
//!
//! let n_vocab = 6;
//! let mut buffer = vec![0.3f32, 1.0, 4.0, -2.0, 3.5, 0.0];
//! let logits: &mut [f32] = &mut buffer[..n_vocab];
//! let options = SamplingOptions {
//!     order: Some(Order::Llama),
//!     top_k: Some(40),
//!     top_p: Some(0.95),
//!     min_p: Some(0.05),
//!     temperature: Some(0.8),
//!     ..Default::default()
//! };
//! let mut sampler = Sampler::new(&options, n_vocab, 1234, 0)?;
//! sampler.observe_prompt(&[1, 2]); // llama_sampler_accept for the prompt
//! let draw = sampler.sample(logits, None)?;
//! sampler.commit(draw.token); // llama_sampler_accept
//! # Ok::<(), mx_sampling::SamplingError>(())
//! ```
//!
//! # A generation loop
//!
//! [`Sampler::sample`] only chooses; [`Sampler::commit`] says what was really taken. The two differ where a
//! draft is verified, a user edits, or a constraint forces a token.
//!
//! ```
//! use mx_sampling::{Sampler, SamplingOptions};
//!
//! # let model = |tokens: &[u32]| (0..8).map(|i| ((i * 5 + tokens.len() as u32 * 3) % 8) as f32).collect::<Vec<f32>>();
//! let options = SamplingOptions {
//!     top_p: Some(0.9),
//!     repetition_penalty: Some(1.1),
//!     eos_tokens: Some(vec![0]),
//!     min_new_tokens: Some(3),
//!     ..Default::default()
//! };
//! let prompt = [3, 1, 4];
//! let mut sampler = Sampler::new(&options, 8, 7, 0)?;
//! sampler.observe_prompt(&prompt);
//! sampler.reserve(20); // no token after this allocates
//! for _ in 0..20 {
//!     let mut logits = model(sampler.tokens());
//!     let draw = sampler.sample(&mut logits, None)?;
//!     sampler.commit(draw.token);
//!     if draw.token == 0 {
//!         break;
//!     }
//! }
//! assert!(sampler.tokens().len() >= prompt.len() + 3);
//! # Ok::<(), mx_sampling::SamplingError>(())
//! ```
//!
//! A [`Snapshot`] takes a sampler back (speculation, a user who deletes), `clone` forks it (beams, best of n).
//!
//! # Parameters
//!
//! All are fields of [`SamplingOptions`]; what is not given is off. "p" is the law at that place of the chain,
//! `l` the logit, `H` the entropy in nats. Ties always go to the lower token id, and every truncation keeps at
//! least `min_tokens_to_keep` tokens (1).
//!
//! | parameter | what it does | neutral | range, useful | source |
//! |---|---|---|---|---|
//! | `temperature` | `l / T`; below 1e-5 greedy | 1 | `>= 0`, 0.2–1.5 | |
//! | `dynatemp_range`, `dynatemp_exponent` | `T` between `T − r` and `T + r`, by `(H / ln n)^x` | 0; 1 | `>= 0`; `> 0` | llama.cpp |
//! | `top_k` | exactly the k most likely | 0, −1 | `>= −1`, 20–100 | Fan 2018 |
//! | `top_p` | shortest prefix with mass `>= p` | 1 | `[0, 1]`, 0.8–0.95 | Holtzman 2019 §3.1 |
//! | `min_p` | `p >= min_p · max p` | 0 | `[0, 1]`, 0.02–0.1 | Nguyen 2024 §3 |
//! | `typical_p` | surprise nearest to the entropy, up to this mass | 1 | `(0, 1]`, 0.9–0.95 | Meister 2022 §4 |
//! | `epsilon_cutoff` | `p >= ε` | 0 | `[0, 1)`, 3e-4–9e-4 | Hewitt 2022 §4 |
//! | `eta_cutoff` | `p >= min(ε, √ε·e^−H)` | 0 | `[0, 1)`, 3e-4–4e-3 | Hewitt 2022 §4 |
//! | `top_n_sigma` | `l >= max − n·σ` | `<= 0` | `> 0`, 1–1.5 | Tang 2024 |
//! | `top_h` | prefix of the top 100 with `Σ −p ln p <= h·H` | not given | `(0, 1]`, 0.4–0.9 | Top-H 2025 |
//! | `tail_free` | cuts where the sorted law flattens | 1 | `(0, 1]`, 0.9–0.99 | Phénix 2019 |
//! | `xtc_probability`, `xtc_threshold` | sometimes drops all likely tokens but the least likely of them | 0; 0.1 | `[0, 1]`; `(0, 0.5]` | llama.cpp |
//! | `mirostat`, `mirostat_tau`, `mirostat_eta` | keeps the surprise of the text near τ bits | 0; 5; 0.1 | 0, 1, 2; `> 0`; `> 0` | Basu 2020 |
//! | `adaptive_p_target`, `adaptive_p_decay` | prefers probabilities near a target that follows the text | negative; 0.9 | `[0, 1]`; `[0, 0.99]` | llama.cpp |
//! | `repetition_penalty` | `l / θ` or `l · θ` for every seen token | 1 | `> 0`, 1.05–1.2 | Keskar 2019 |
//! | `frequency_penalty`, `presence_penalty` | `l − n·α_f − α_p` | 0 | `[−2, 2]` | OpenAI |
//! | `penalty_last_n` | window of the three above; −1 all, 0 none | scope of each | `>= −1` | llama.cpp |
//! | `dry_multiplier`, `dry_base`, `dry_allowed_length`, `dry_last_n`, `dry_breakers` | penalty for continuing a repetition, [`DryOptions`] | 0; 1.75; 2; −1; none | `>= 0`, 0.8; `>= 1` | p-e-w |
//! | `no_repeat_ngram_size` | no n-gram twice | 0 | `>= 0`, 3–5 | transformers |
//! | `bad_words` | sequences that are not completed | none | | transformers |
//! | `logit_bias` | added to `l` | none | number or −inf, ±100 bans or forces | OpenAI |
//! | `sequence_bias` | the same for the last token of a sequence | none | number or −inf | transformers |
//! | `min_new_tokens` | end tokens are out before | 0 | needs `eos_tokens` | transformers |
//! | `exponential_decay` | raises the end tokens after `start`, by `factor^n` | factor 1 | factor `> 0`, needs `eos_tokens` | transformers |
//! | `suppress_tokens`, `begin_suppress_tokens` | always out, out at the first position | none | | transformers |
//! | `forced_tokens`, `forced_eos_at` | the only token at a position | none | | transformers |
//! | `sanitize` | NaN counts as −inf | false | | |
//!
//! Classifier-free guidance and contrastive decoding combine two rows before the chain:
//! [`classifier_free_guidance`] (scale `>= 0`, neutral 1; Sanchez 2023), [`contrastive_scores`] (Li 2022) and
//! [`contrastive_logits`] (O'Brien & Lewis 2023).
//!
//! # Order of the chain
//!
//! [`Order::Hf`], the default: biases, penalties, bans, processors of the caller, mask, temperature,
//! truncations. [`Order::Llama`]: the same with the temperature after the truncations, which changes what top-p,
//! min-p and typical keep, and with llama.cpp's default windows. An explicit order names its [`Step`]s; a step
//! that is active but not listed is an error. [`Sampler::active_steps`] tells what runs.
//!
//! Steps of your own implement [`LogitsProcessor`]; every [`Truncation`] is one too.
//!
//! # Masks
//!
//! A mask is `&[u32]`, one bit per token, least significant bit first, 1 = allowed: the layout of llguidance,
//! XGrammar and vLLM. It applies before everything that truncates, so that a truncation cannot leave
//! only forbidden tokens.
//!
//! ```
//! # use mx_sampling::{Sampler, SamplingOptions};
//! let mut sampler = Sampler::new(&SamplingOptions::default(), 3, 0, 0)?;
//! assert_eq!(sampler.sample(&mut [9.0, 1.0, 5.0], Some(&[0b110]))?.token, 2);
//! # Ok::<(), mx_sampling::SamplingError>(())
//! ```
//!
//! # Seeds
//!
//! Each sequence has a [`Stream`]: ChaCha8, keyed by the seed, numbered by the stream index. Each token takes one
//! 64-bit word (greedy and forced ones too), XTC one more. The draw is the inverse CDF over ids in
//! ascending order with a strict `>`. A seed gives the same tokens for the same logits on every system, for every
//! instruction set, thread count and batch position, and in later versions: tests freeze them. No function of
//! the system's mathematics library is used.
//!
//! # What happened
//!
//! [`Sampler::report_logprobs`] gives the log-probabilities of the model (`raw`) and of the law that was sampled
//! (`processed`). [`Sampler::set_explain`] tells for each step how many tokens and how much mass it removed, and
//! for a token which step removed it. [`Sampler::law`] is the whole law.
//!
//! # Decoding strategies
//!
//! [`strategy`] holds the mathematics of speculative decoding, adaptive determinantal sampling, ensembles, the
//! beam family and best-of-n selection, without any model. [`Method`] knows the names. [`StopMatcher`] finds stop
//! strings in a stream.
//!
//! # Errors
//!
//! All are [`SamplingError`]s with the value given and the range wanted. NaN and +inf are refused, and so is a
//! row in which nothing is left; no function panics on its input.
//!
//! # Speed
//!
//! A row is read once or twice and never sorted. Greedy, top-k and min-p take about as long as a plain maximum over
//! the row; a plain draw or top-p about four to seven times as long, because they need an exponential per token.
//! AVX2 and AVX-512 are used where the processor has them ([`Backend`]), with bit-identical choices. Buffers are
//! sized at the first row; after [`Sampler::reserve`] no token allocates.

mod adaptive;
mod draw;
mod error;
mod explain;
mod guidance;
mod history;
mod ids;
mod law;
mod logprobs;
mod math;
mod method;
mod mirostat;
mod options;
mod order;
pub mod penalties;
mod plan;
mod processor;
mod rng;
mod row;
mod sampler;
mod select;
mod simd;
mod stop;
pub mod strategy;
mod temperature;
mod truncation;

pub use adaptive::{AdaptiveP, AdaptiveState};
pub use draw::{draw_from_law, gumbel_max};
pub use error::SamplingError;
pub use explain::{Explanation, Standing, StepReport};
pub use guidance::{
    classifier_free_guidance, contrastive_logits, contrastive_scores, log_softmax, log_sum_exp,
};
pub use law::{Draw, Law};
pub use logprobs::{LogprobSide, Logprobs, TokenLogprob, log_normaliser};
pub use method::Method;
pub use options::SamplingOptions;
pub use order::{HF_ORDER, LLAMA_ORDER, Order, Step};
pub use penalties::DryOptions;
pub use processor::{Context, LogitsProcessor};
pub use rng::{Stream, unit};
pub use sampler::{Sampler, Snapshot};
pub use simd::Backend;
pub use stop::{StopMatcher, Stopped};
pub use temperature::{GREEDY_BELOW, dynamic_temperature};
pub use truncation::{Truncation, Xtc};
