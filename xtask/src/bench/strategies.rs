//! Strategies against the plain loop, and against the bare rows that they step.
//!
//! Each figure is a ratio of two runs that take turns, so that whatever else the machine does hits both.

use super::{Options, Record, spread};
use anyhow::{Context, ensure};
use mx::request::{DrafterKind, Voting};
use mx::trace::TraceStep;
use mx::{Client, GenerateRequest, Method};
use mx_runtime::engine::{Engine, Row, Sequence, StepOutput, Want};
use mx_runtime::model::{LoadOptions, Model};
use std::sync::Arc;
use std::time::Instant;

/// Text that is extracted from, and the task.
const RECORDS: &str =
    "Order 4471: 12 boxes of green tea, to Mira Kowalczyk, 18 Harbour Street, Gdansk.
Order 4472: 3 crates of olive oil, to Tomas Lindqvist, 7 Birch Road, Uppsala.
Order 4473: 40 bags of basmati rice, to Leila Haddad, 221 Cedar Avenue, Beirut.
Order 4474: 6 jars of chestnut honey, to Paolo Ricci, 5 Via Roma, Bologna.
Order 4475: 25 tins of smoked paprika, to Ana Beltran, 90 Calle Mayor, Valencia.
";
/// Tokens of the extraction.
const EXTRACTED: usize = 96;
/// Tokens of the other cases.
const GENERATED: usize = 64;
const PROMPT: &str = "Once upon a time";
/// Candidates, and beams.
const WIDTH: usize = 4;
/// Blocks of the early exit.
const EXIT: usize = 10;

/// Runs the cases at all threads.
pub(super) fn run(options: &Options) -> anyhow::Result<Vec<Record>> {
    let path = options
        .model
        .as_deref()
        .context("the default model has not been fetched")?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut load = LoadOptions::default();
    load.cpu.threads = Some(threads);
    let model = Arc::new(Model::load(path, &load)?);
    let mut client = Client::with_model(Arc::clone(&model));
    client.add_model("same", Arc::clone(&model));
    let bench = Bench {
        client,
        model,
        threads,
        runs: options.runs.max(2),
    };
    let mut records = bench.worth()?;
    records.extend(bench.overheads()?);
    Ok(records)
}

struct Bench {
    client: Client,
    model: Arc<Model>,
    threads: usize,
    runs: usize,
}

/// A raw request of so many tokens, that many whatever the model wants.
fn request(prompt: &str, tokens: usize) -> GenerateRequest {
    let mut request = GenerateRequest::new(prompt)
        .raw(true)
        .max_tokens(tokens)
        .method(Method::Greedy)
        .seed(1);
    request.ignore_eos = Some(true);
    request
}

fn sampled() -> GenerateRequest {
    let mut request = request(PROMPT, GENERATED).method(Method::TopK);
    request.sampling.temperature = Some(0.8);
    request
}

fn extraction() -> GenerateRequest {
    let prompt = format!(
        "{RECORDS}\nThe same orders again, line by line:\n{}",
        &RECORDS[..12]
    );
    request(&prompt, EXTRACTED)
}

fn beam() -> GenerateRequest {
    let mut request = request(PROMPT, GENERATED).method(Method::Beam);
    request.controls.beam_width = Some(WIDTH);
    request
}

fn drafted(kind: DrafterKind, mut request: GenerateRequest) -> GenerateRequest {
    request.controls.drafter = Some(kind);
    if kind == DrafterKind::EarlyExit {
        request.controls.draft_layers = Some(EXIT);
    }
    request
}

fn together() -> GenerateRequest {
    let mut request = request(PROMPT, GENERATED);
    request.controls.ensemble_models = vec!["same".to_owned()];
    request.controls.voting = Some(Voting::Average);
    request
}

impl Bench {
    /// What a strategy gains or costs beside one plain run.
    fn worth(&self) -> anyhow::Result<Vec<Record>> {
        let lookup = drafted(DrafterKind::PromptLookup, extraction());
        ensure!(
            self.client.run(&lookup)?.tokens == self.client.run(&extraction())?.tokens,
            "drafts changed the extraction"
        );
        let itself = drafted(DrafterKind::EarlyExit, extraction());
        Ok(vec![
            self.compare(
                "extraction by prompt lookup, speed-up",
                &extraction(),
                &lookup,
            )?,
            self.compare("extraction by early exit, speed-up", &extraction(), &itself)?,
            self.compare(
                "best of 4, time over one",
                &sampled().best_of_n(WIDTH),
                &sampled(),
            )?,
            self.compare(
                "beam of 4, time over one",
                &beam(),
                &request(PROMPT, GENERATED),
            )?,
        ])
    }

    /// Time of the first request over that of the second.
    fn compare(
        &self,
        case: &str,
        first: &GenerateRequest,
        second: &GenerateRequest,
    ) -> anyhow::Result<Record> {
        let time = |request: &GenerateRequest| -> anyhow::Result<f64> {
            let started = Instant::now();
            self.client.run(request)?;
            Ok(started.elapsed().as_secs_f64())
        };
        self.ratio(case, || time(first), || time(second))
    }

    /// Time of every strategy over that of the rows that it steps, without chain, mask or text.
    fn overheads(&self) -> anyhow::Result<Vec<Record>> {
        let plain = |rows| {
            vec![
                Round {
                    rows,
                    tokens: 1,
                    drafted: 0,
                    keep: 1
                };
                GENERATED - 1
            ]
        };
        let mut cases: Vec<(&str, GenerateRequest, Vec<Round>, usize)> = vec![
            (
                "plain over its rows",
                request(PROMPT, GENERATED),
                plain(1),
                1,
            ),
            ("sampled over its rows", sampled(), plain(1), 1),
            (
                "best of 4 over its rows",
                sampled().best_of_n(WIDTH),
                plain(WIDTH),
                1,
            ),
            ("beam of 4 over its rows", beam(), plain(WIDTH), 1),
            ("ensemble of 2 over its rows", together(), plain(1), 2),
        ];
        for (case, kind) in [
            ("prompt lookup over its rows", DrafterKind::PromptLookup),
            ("early exit over its rows", DrafterKind::EarlyExit),
        ] {
            let request = drafted(kind, extraction());
            let traced = self.client.run(&request.clone().include_trace(true))?;
            let steps = traced.trace.context("no trace")?.steps;
            let rounds = rounds(&steps, kind == DrafterKind::EarlyExit);
            cases.push((case, request, rounds, 1));
        }
        let mut records = Vec::with_capacity(cases.len());
        for (case, request, rounds, members) in cases {
            let mut first = request.clone().include_trace(true);
            first.max_tokens = Some(1);
            let traced = self.client.run(&first)?;
            let prompt = traced.trace.context("no trace")?.prompt_tokens;
            let whole = || -> anyhow::Result<f64> {
                let started = Instant::now();
                self.client.run(&request)?;
                Ok(started.elapsed().as_secs_f64())
            };
            let bare = || -> anyhow::Result<f64> {
                let started = Instant::now();
                for _ in 0..members {
                    bare(&**self.model.engine(), &prompt, &rounds)?;
                }
                Ok(started.elapsed().as_secs_f64())
            };
            records.push(self.ratio(case, whole, bare)?);
        }
        Ok(records)
    }

    /// The ratio of two times, measured in turns after one turn that does not count.
    fn ratio(
        &self,
        case: &str,
        first: impl Fn() -> anyhow::Result<f64>,
        second: impl Fn() -> anyhow::Result<f64>,
    ) -> anyhow::Result<Record> {
        first()?;
        second()?;
        let mut ratios = Vec::with_capacity(self.runs);
        for _ in 0..self.runs {
            ratios.push(first()? / second()?);
        }
        let (median, min, max) = spread(&ratios);
        Ok(Record {
            bench: "strategies".to_owned(),
            case: case.to_owned(),
            engine: "mx".to_owned(),
            threads: self.threads,
            unit: "x".to_owned(),
            median,
            min,
            max,
            runs: ratios.len(),
            ratio: Some(median),
        })
    }
}

/// One step of a strategy.
#[derive(Debug, Clone, Copy)]
struct Round {
    rows: usize,
    /// Tokens of each row.
    tokens: usize,
    /// Steps of the early exit before it.
    drafted: usize,
    /// Tokens that stay.
    keep: usize,
}

/// The steps that a traced run with drafts took.
fn rounds(steps: &[TraceStep], by_model: bool) -> Vec<Round> {
    let mut rounds = Vec::new();
    // The first token comes from the prompt's logits.
    let mut at = 1;
    while let Some(step) = steps.get(at) {
        let draft = step.draft.as_ref();
        let (tokens, stood) = draft.map_or((0, 0), |draft| (draft.tokens.len(), draft.accepted));
        rounds.push(Round {
            rows: 1,
            tokens: tokens + 1,
            drafted: if by_model { tokens } else { 0 },
            keep: stood + 1,
        });
        at += stood + 1;
    }
    rounds
}

/// The same steps on the bare engine, of tokens without meaning.
fn bare(engine: &dyn Engine, prompt: &[u32], rounds: &[Round]) -> anyhow::Result<()> {
    let mut output = StepOutput::new();
    let mut first = engine.new_sequence();
    step(engine, &mut [&mut first], prompt, Want::Last, &mut output)?;
    let exit = engine.early_exit(EXIT);
    let mut shallow = match (&exit, rounds.iter().any(|round| round.drafted > 0)) {
        (Some(exit), true) => {
            let mut sequence = exit.new_sequence();
            step(
                &**exit,
                &mut [&mut sequence],
                prompt,
                Want::Last,
                &mut output,
            )?;
            Some((exit, sequence))
        }
        _ => None,
    };
    let most = rounds.iter().map(|round| round.rows).max().unwrap_or(1);
    let mut sequences: Vec<Sequence> = (1..most).map(|_| first.fork()).collect();
    sequences.push(first);
    for round in rounds {
        if let Some((exit, sequence)) = &mut shallow {
            let len = sequence.len();
            for _ in 0..round.drafted {
                step(
                    &***exit,
                    &mut [&mut *sequence],
                    &[100],
                    Want::Last,
                    &mut output,
                )?;
            }
            sequence.truncate(len + round.keep.min(round.drafted));
        }
        let tokens = vec![100; round.tokens];
        let want = match round.tokens {
            1 => Want::Last,
            _ => Want::All,
        };
        let mut rows: Vec<&mut Sequence> = sequences.iter_mut().take(round.rows).collect();
        let len = rows.first().map_or(0, |sequence| sequence.len());
        step(engine, &mut rows, &tokens, want, &mut output)?;
        rows.iter_mut().for_each(|s| s.truncate(len + round.keep));
    }
    Ok(())
}

fn step(
    engine: &dyn Engine,
    sequences: &mut [&mut Sequence],
    tokens: &[u32],
    want: Want,
    output: &mut StepOutput,
) -> anyhow::Result<()> {
    let mut rows: Vec<Row<'_>> = sequences
        .iter_mut()
        .map(|sequence| Row {
            sequence,
            tokens,
            want,
            hooks: None,
        })
        .collect();
    Ok(engine.step(&mut rows, output)?)
}
