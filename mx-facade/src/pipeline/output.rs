//! One output as it grows: tokens to text, and what ends it.

use super::{Plan, StopDetector, TokenLogprobs};
use crate::error::Error;
use crate::generation::{Choice, Chunk, FinishReason};
use crate::trace::TraceStep;
use mx_runtime::tokenizer::{TextStream, Tokenizer};
use std::collections::VecDeque;
use std::sync::Arc;

/// One output of a run.
pub(crate) struct Output {
    pub(crate) index: usize,
    pub(crate) tokens: Vec<u32>,
    pub(crate) text: String,
    pub(crate) stop_text: Option<String>,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) logprobs: Vec<TokenLogprobs>,
    /// Sum of the tokens' log-probabilities under the model's own law, where it is kept.
    pub(crate) logprob_sum: f64,
    /// Score of a search.
    pub(crate) searched: Option<f64>,
    /// Whether the sum is what candidates are ranked by.
    pub(crate) ranked: bool,
    pub(crate) steps: Vec<TraceStep>,
    /// What was not handed out yet.
    pub(crate) chunks: VecDeque<Chunk>,
    /// `None` for a model without a tokenizer, which generates tokens only.
    stream: Option<TextStream>,
    stop: StopDetector,
    max_tokens: usize,
    eos_tokens: Vec<u32>,
}

impl Output {
    /// # Errors
    /// [`Error::Unsupported`] for stop texts without a tokenizer.
    pub(crate) fn new(plan: &Plan, index: usize) -> Result<Self, Error> {
        let stream = plan.tokenizer();
        let stream = stream
            .map(|tokenizer| text_stream(plan, &tokenizer))
            .transpose()?;
        if stream.is_none() && !plan.settings.stop.is_empty() {
            return Err(Error::unsupported("stop", "the model has no tokenizer"));
        }
        Ok(Output {
            index,
            tokens: Vec::new(),
            text: String::new(),
            stop_text: None,
            finish: None,
            logprobs: Vec::new(),
            logprob_sum: 0.0,
            searched: None,
            ranked: plan.settings.strategy.candidates > plan.settings.strategy.n,
            steps: Vec::new(),
            chunks: VecDeque::new(),
            stream,
            stop: StopDetector::new(plan.settings.stop.clone())?,
            max_tokens: plan.settings.max_tokens,
            eos_tokens: plan.eos_tokens.clone(),
        })
    }

    /// What finds the stop texts in a text to come, of which a search tries several; `None` where there are none.
    pub(crate) fn stop_watch(&self) -> Option<StopWatch> {
        let stream = self.stream.clone().filter(|_| !self.stop.is_empty())?;
        let stop = self.stop.clone();
        Some(StopWatch { stream, stop })
    }

    /// Whether there is more to come.
    pub(crate) fn goes_on(&self) -> bool {
        self.finish.is_none()
    }

    pub(crate) fn is_eos(&self, token: u32) -> bool {
        self.eos_tokens.contains(&token)
    }

    /// Mean log-probability a token under the model's own law; 0 without tokens.
    pub(crate) fn mean_logprob(&self) -> f64 {
        self.logprob_sum / self.tokens.len().max(1) as f64
    }

    /// What a choice among outputs goes by.
    pub(crate) fn score(&self) -> Option<f64> {
        self.searched.or(self.ranked.then(|| self.mean_logprob()))
    }

    /// What the caller gets; `stream` is the random stream it was drawn from.
    pub(crate) fn into_choice(self, stream: usize) -> Choice {
        Choice {
            stream,
            score: self.score(),
            finish_reason: self.finish.unwrap_or_default(),
            text: self.text,
            tokens: self.tokens,
            stop_text: self.stop_text,
            logprobs: self.logprobs,
            served_logprobs: Vec::new(),
            behaviors: Vec::new(),
        }
    }

    /// Tokens that may still come.
    pub(crate) fn tokens_left(&self) -> usize {
        self.max_tokens - self.tokens.len().min(self.max_tokens)
    }

    /// Takes a token. `complete` says that nothing may follow it, `full` that the model has no room for another.
    pub(crate) fn push(&mut self, token: u32, complete: bool, full: bool) -> Result<(), Error> {
        self.tokens.push(token);
        if self.is_eos(token) {
            self.end(Some(token), FinishReason::Stop);
            return Ok(());
        }
        let piece = match &mut self.stream {
            Some(stream) => stream.push(token)?,
            None => String::new(),
        };
        let step = self.stop.push(&piece);
        self.text += &step.text;
        let mut chunk = Chunk {
            index: self.index,
            token: Some(token),
            text: step.text,
            finish_reason: None,
        };
        if let Some(stop) = step.stopped {
            self.stop_text = self.stop.stop(stop).map(str::to_owned);
            self.finish = Some(FinishReason::Stop);
        } else if complete {
            self.finish = Some(FinishReason::Stop);
            chunk.text += &self.held_back();
        } else if self.tokens.len() >= self.max_tokens {
            self.finish = Some(FinishReason::Length);
            chunk.text += &self.held_back();
        } else if full {
            self.finish = Some(FinishReason::ContextFull);
            chunk.text += &self.held_back();
        }
        chunk.finish_reason = self.finish;
        self.chunks.push_back(chunk);
        Ok(())
    }

    /// Ends the output; what was held back comes out now.
    pub(crate) fn end(&mut self, token: Option<u32>, reason: FinishReason) {
        if self.finish.is_some() {
            return;
        }
        let text = self.held_back();
        self.finish = Some(reason);
        self.chunks.push_back(Chunk {
            index: self.index,
            token,
            text,
            finish_reason: Some(reason),
        });
    }

    /// Text held back by the character and stop detectors, taken into the output.
    fn held_back(&mut self) -> String {
        let tail = self
            .stream
            .as_mut()
            .map(TextStream::finish)
            .unwrap_or_default();
        let step = self.stop.push(&tail);
        let text = match step.stopped {
            Some(stop) => {
                self.stop_text = self.stop.stop(stop).map(str::to_owned);
                step.text
            }
            None => step.text + &self.stop.finish(),
        };
        self.text += &text;
        text
    }
}

/// A text as far as stop texts are concerned.
#[derive(Debug, Clone)]
pub(crate) struct StopWatch {
    stream: TextStream,
    stop: StopDetector,
}

impl StopWatch {
    /// Takes a token; whether a stop text is complete with it.
    pub(crate) fn push(&mut self, token: u32) -> Result<bool, Error> {
        let piece = self.stream.push(token)?;
        Ok(self.stop.push(&piece).stopped.is_some())
    }
}

/// A stream of the text to come. Where that goes on with the prompt, a first space belongs to it, and so do the bytes
/// that finish a character.
fn text_stream(plan: &Plan, tokenizer: &Arc<dyn Tokenizer>) -> Result<TextStream, Error> {
    let stream = TextStream::new(Arc::clone(tokenizer));
    let is_text =
        |token: &u32| (*token as usize) < tokenizer.vocab_size() && !tokenizer.is_special(*token);
    let context: Vec<u32> = plan.prompt.iter().copied().filter(is_text).collect();
    Ok(match plan.continued && !context.is_empty() {
        true => stream.with_context(&context)?,
        false => stream,
    })
}
