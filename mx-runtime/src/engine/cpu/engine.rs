//! The CPU engine behind the engine trait.

use super::error::CpuError;
use super::kernels::Kernels;
use super::kv::{KvCache, KvFormat, KvShape};
use super::pack::Format;
use super::step::Forward;
use super::threads::ThreadPool;
use super::weights::{self, PackError, Weights};
use super::work::{BatchRow, Workspace};
use crate::config::ModelConfig;
use crate::engine::{
    Engine, EngineError, EngineInfo, KvState, Row, Sequence, StepOutput, check_rows, check_tokens,
    early_exit_config,
};
use crate::weights::Checkpoint;
use std::any::Any;
use std::sync::{Arc, Mutex};

/// How the CPU engine computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuOptions {
    /// Threads, the caller included; `None` takes all processors.
    pub threads: Option<usize>,
    /// Activations and keys and values stay in f32: the slow reference of the same weights.
    pub exact: bool,
    /// How keys and values are stored; f32 in exact mode.
    pub kv: KvFormat,
    /// Quantise every matrix to this format while loading.
    pub quantize: Option<Format>,
}

impl Default for CpuOptions {
    fn default() -> Self {
        CpuOptions {
            threads: None,
            exact: false,
            kv: KvFormat::F16,
            quantize: None,
        }
    }
}

/// A model in packed weights, stepped by threads of its own.
#[derive(Debug)]
pub struct CpuEngine {
    config: ModelConfig,
    info: EngineInfo,
    weights: Arc<Weights>,
    kernels: Kernels,
    exact: bool,
    kv: KvCache,
    inverse_frequencies: Vec<f32>,
    /// Steps take turns: they share the threads and the working memory.
    work: Arc<Mutex<Workspace>>,
}

/// Keys and values of one sequence.
#[derive(Debug)]
struct CpuKv(KvCache);

impl KvState for CpuKv {
    fn fork(&self) -> Box<dyn KvState> {
        Box::new(CpuKv(self.0.fork()))
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl CpuEngine {
    /// Packs the weights of `config` from `checkpoint` with the best kernels of this processor.
    ///
    /// # Errors
    /// [`PackError`] for a missing or misshapen tensor, and for dimensions that the kernels cannot hold (see
    /// [`CpuEngine::supports`]).
    pub fn load(
        config: &ModelConfig,
        checkpoint: &Checkpoint,
        options: &CpuOptions,
    ) -> Result<Self, PackError> {
        CpuEngine::load_with(config, checkpoint, options, Kernels::best())
    }

    /// [`load`](CpuEngine::load) with kernels of the caller's choice.
    ///
    /// # Errors
    /// As [`load`](CpuEngine::load).
    pub fn load_with(
        config: &ModelConfig,
        checkpoint: &Checkpoint,
        options: &CpuOptions,
        kernels: Kernels,
    ) -> Result<Self, PackError> {
        CpuEngine::supports(config)?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut pool = ThreadPool::new(options.threads.unwrap_or(processors))?;
        let weights = Weights::load(
            config,
            checkpoint,
            options.quantize,
            options.exact,
            &mut pool,
        )?;
        let format = if options.exact {
            KvFormat::F32
        } else {
            options.kv
        };
        let kv = KvCache::new(KvShape {
            layers: config.layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            format,
        })?;
        let threads = match pool.threads() {
            1 => "1 thread".to_owned(),
            n => format!("{n} threads"),
        };
        let device = format!("{}, {threads}", kernels.isa());
        let mode = if options.exact { " (exact)" } else { "" };
        Ok(CpuEngine {
            config: config.clone(),
            info: EngineInfo::new("cpu", device, weights.describe() + mode),
            weights: Arc::new(weights),
            kernels,
            exact: options.exact,
            kv,
            inverse_frequencies: config.rope.inverse_frequencies(),
            work: Arc::new(Mutex::new(Workspace::new(pool)?)),
        })
    }

    /// Whether the kernels can hold a model: its head dimension must be a multiple of 16, at most 512.
    ///
    /// # Errors
    /// [`CpuError`] naming the dimension.
    pub fn supports(config: &ModelConfig) -> Result<(), CpuError> {
        weights::unsupported(config).map_or(Ok(()), Err)
    }

    /// Bytes of weights that one decoded token reads.
    pub fn bytes_per_token(&self) -> usize {
        self.weights.bytes_per_token(self.config.layers)
    }

    fn device_error(&self, error: &CpuError) -> EngineError {
        EngineError::Device {
            device: self.info.device.clone(),
            reason: error.to_string(),
        }
    }
}

impl Engine for CpuEngine {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn new_sequence(&self) -> Sequence {
        Sequence::new(Box::new(CpuKv(self.kv.fork())), self.info.id.clone())
    }

    fn early_exit(&self, layers: usize) -> Option<Arc<dyn Engine>> {
        let config = early_exit_config(&self.config, layers)?;
        let kv = KvCache::new(KvShape {
            layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            format: self.kv.shape().format,
        })
        .ok()?;
        let weights = format!("{}, first {layers} layers", self.info.weights);
        Some(Arc::new(CpuEngine {
            info: EngineInfo::new("cpu", self.info.device.clone(), weights),
            weights: Arc::clone(&self.weights),
            kernels: self.kernels,
            exact: self.exact,
            kv,
            inverse_frequencies: self.inverse_frequencies.clone(),
            work: Arc::clone(&self.work),
            config,
        }))
    }

    fn embedding(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        check_tokens(tokens, &self.config)?;
        let width = self.config.d_model;
        let mut values = vec![0.0; tokens.len() * width];
        for (&token, row) in tokens.iter().zip(values.chunks_exact_mut(width)) {
            self.weights
                .embedding
                .row_into(token as usize, row)
                .map_err(|error| EngineError::Device {
                    device: self.info.device.clone(),
                    reason: error.to_string(),
                })?;
        }
        Ok(values)
    }

    fn step(&self, rows: &mut [Row<'_>], output: &mut StepOutput) -> Result<(), EngineError> {
        check_rows(rows, &self.config, &self.info.id)?;
        output.begin(self.config.vocab);
        if rows.is_empty() {
            return Ok(());
        }
        let (mut tokens, mut lines) = (Vec::new(), Vec::new());
        let mut batch = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter_mut().enumerate() {
            let (first, count) = (tokens.len(), row.tokens.len());
            let position = row.sequence.len();
            tokens.extend_from_slice(row.tokens);
            let wanted = row.want.lines(first..first + count);
            output.push_row(wanted.len());
            lines.extend(wanted);
            let kv = row
                .sequence
                .kv_mut(&self.info.id)
                .and_then(|kv| kv.as_any_mut().downcast_mut::<CpuKv>())
                .ok_or(EngineError::ForeignSequence { row: index })?;
            let hooks = row.hooks.filter(|hooks| !hooks.plan.is_empty());
            batch.push(BatchRow {
                kv: &mut kv.0,
                first,
                count,
                position,
                hooks,
            });
        }
        let mut work = self
            .work
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let forward = Forward {
            config: &self.config,
            weights: &self.weights,
            kernels: self.kernels,
            exact: self.exact,
            inverse_frequencies: &self.inverse_frequencies,
        };
        let logits = output.logits_buffer();
        forward
            .run(&mut work, &mut batch, &tokens, &lines, logits)
            .map_err(|error| self.device_error(&error))?;
        for row in batch {
            row.kv.advance(row.count);
        }
        for captured in work.captures.drain(..) {
            output.push_capture(captured);
        }
        drop(work);
        for row in rows {
            row.sequence.grown_by(row.tokens);
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
