//! What of a policy governs the run: candidates, rounds, budgets, verifiers.

use super::fields::Checks;
use super::verify::Verifier;
use super::{OptimizationControls, Policy, SamplingControls, VerifierControls};
use crate::error::Error;
use crate::generation::Warning;
use crate::request::{GenerateRequest, Method, Origin, Setting};
use serde_json::Value;
use std::time::Duration;

/// Most candidates a round.
pub const MAX_CANDIDATES: usize = 64;
/// Most rounds, repairs or revisions of one run.
pub const MAX_ROUNDS: usize = 64;
/// Most entries of a schedule, of tests and of fallback methods.
pub const MAX_ENTRIES: usize = 4096;
/// Rounds after a failed one, by the contract.
const RETRIES: usize = 1;
/// Repairs, by the contract.
const REPAIRS: usize = 1;
/// The confidence that suffices, by the contract.
const CONFIDENCE: f64 = 0.5;
/// Milliseconds that a test may take, by the contract; at least and at most.
const TEST_MILLIS: u64 = 1500;
const LEAST_TEST_MILLIS: u64 = 100;
const MOST_TEST_MILLIS: u64 = 60_000;

/// What governs a run, every value resolved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    /// Candidates a round.
    pub(crate) candidates: usize,
    /// Most rounds.
    pub(crate) rounds: usize,
    /// Spread of the candidates' temperatures.
    pub(crate) diversity: f64,
    /// A temperature a candidate; none where empty.
    pub(crate) temperatures: Vec<f64>,
    /// A top_p a candidate; none where empty.
    pub(crate) top_ps: Vec<f64>,
    /// The confidence below which an accepted output is made again.
    pub(crate) confidence: Option<f64>,
    /// Whether the best candidate wins, not the first acceptable one.
    pub(crate) rerank: bool,
    /// Tries that are told what was wrong.
    pub(crate) repairs: usize,
    /// Revisions of what was accepted.
    pub(crate) revisions: usize,
    /// Whether the weaker half of a round is given up early.
    pub(crate) prune: bool,
    /// Methods tried when all else failed.
    pub(crate) fallback: Vec<Method>,
    /// Time that the run may take.
    pub(crate) latency: Option<Duration>,
    /// Tokens that the run may generate.
    pub(crate) tokens: Option<usize>,
    /// What is checked.
    pub(crate) verifiers: Vec<Verifier>,
    /// Python snippets.
    pub(crate) unit_tests: Vec<String>,
    /// Time that a snippet may take.
    pub(crate) unit_test_timeout: Duration,
    /// All of it, with origins.
    pub(crate) settings: Vec<Setting>,
}

impl Rules {
    /// The rules of a policy, request over policy over the contract's defaults.
    ///
    /// # Errors
    /// [`Error::Request`] for a value out of range, [`Error::Unsupported`] for what cannot be done.
    pub(crate) fn new(
        policy: &Policy,
        request: &GenerateRequest,
        verifiers: Vec<Verifier>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, Error> {
        let mut read = Reader::default();
        let (none, no_sampling, no_verifiers) = (
            OptimizationControls::default(),
            SamplingControls::default(),
            VerifierControls::default(),
        );
        let optimization = policy.optimization.value().unwrap_or(&none);
        let sampling = policy.sampling.value().unwrap_or(&no_sampling);
        let checked = policy.verifiers.value().unwrap_or(&no_verifiers);
        let checks = &request.checks;

        let best_of_n = read.count(
            "optimization.best_of_n",
            request.controls.best_of_n,
            optimization.best_of_n.value(),
            1,
            1..=MAX_CANDIDATES,
        )?;
        let num_candidates = read.count(
            "sampling.num_candidates",
            None,
            sampling.num_candidates.value(),
            1,
            1..=MAX_CANDIDATES,
        )?;
        let outputs = request.controls.n.unwrap_or(1);
        if !(1..=MAX_CANDIDATES).contains(&outputs) {
            let wanted = format!("1 to {MAX_CANDIDATES}");
            return Err(Error::request("n", outputs, wanted));
        }
        let retries = read.count(
            "optimization.retry_on_failure",
            None,
            optimization.retry_on_failure.value(),
            RETRIES,
            0..=MAX_ROUNDS - 1,
        )?;
        let confident = read.flag(
            "optimization.confidence_triggered_regeneration",
            checks.confidence_triggered_regeneration,
            optimization.confidence_triggered_regeneration.value(),
            false,
        );
        let threshold = read.number(
            "optimization.confidence_threshold",
            checks.confidence_threshold,
            optimization.confidence_threshold.value(),
            CONFIDENCE,
            0.0..=1.0,
        )?;
        let repair = read.flag(
            "verifiers.repair_on_failure",
            None,
            checked.repair_on_failure.value(),
            true,
        );
        let repairs = read.count(
            "verifiers.max_retries",
            None,
            checked.max_retries.value(),
            REPAIRS,
            0..=MAX_ROUNDS,
        )?;
        let revisions = read.count(
            "optimization.self_revision_loops",
            None,
            optimization.self_revision_loops.value(),
            0,
            0..=MAX_ROUNDS,
        )?;
        let diversity = read.number(
            "sampling.diversity_strength",
            None,
            sampling.diversity_strength.value(),
            0.0,
            0.0..=20.0,
        )?;
        let temperatures = Schedule {
            name: "adaptive_temperature",
            asked: (
                checks.adaptive_temperature,
                &checks.adaptive_temperature_schedule,
            ),
            policy: (
                sampling.adaptive_temperature.value(),
                sampling.adaptive_temperature_schedule.value(),
            ),
            most: f64::MAX,
        };
        let top_ps = Schedule {
            name: "adaptive_top_p",
            asked: (checks.adaptive_top_p, &checks.adaptive_top_p_schedule),
            policy: (
                sampling.adaptive_top_p.value(),
                sampling.adaptive_top_p_schedule.value(),
            ),
            most: 1.0,
        };
        let (latency, tokens) = budgets(policy, &mut read)?;
        let timeout = read.count(
            "verifiers.unit_test_timeout_ms",
            None,
            checked.unit_test_timeout_ms.value(),
            TEST_MILLIS as usize,
            0..=MOST_TEST_MILLIS as usize,
        )? as u64;
        if timeout < LEAST_TEST_MILLIS {
            let message =
                format!("unit_test_timeout_ms {timeout} is raised to {LEAST_TEST_MILLIS}");
            warnings.push(Warning::new("raised", message));
        }
        let unit_tests = match checks.code_unit_tests.is_empty() {
            false => checks.code_unit_tests.clone(),
            true => checked.code_unit_tests.value().cloned().unwrap_or_default(),
        };
        few("verifiers.code_unit_tests", unit_tests.len())?;
        Ok(Rules {
            candidates: best_of_n.max(num_candidates).max(outputs),
            rounds: (1 + retries).max(if confident { 2 } else { 1 }),
            diversity,
            temperatures: temperatures.read(&mut read, warnings)?,
            top_ps: top_ps.read(&mut read, warnings)?,
            confidence: confident.then_some(threshold),
            rerank: read.flag("verifiers.rerank", None, checked.rerank.value(), true),
            repairs: if repair { repairs } else { 0 },
            revisions,
            prune: read.flag(
                "optimization.branch_and_prune",
                None,
                optimization.branch_and_prune.value(),
                false,
            ),
            fallback: fallback(optimization, &mut read)?,
            latency,
            tokens,
            verifiers,
            unit_tests,
            unit_test_timeout: Duration::from_millis(timeout.max(LEAST_TEST_MILLIS)),
            settings: read.settings,
        })
    }
}

fn budgets(policy: &Policy, read: &mut Reader) -> Result<(Option<Duration>, Option<usize>), Error> {
    let Some(objective) = policy.objective.value() else {
        return Ok((None, None));
    };
    if objective.maximize.value() == Some(&false) {
        return Err(Error::unsupported(
            "objective.maximize false",
            "the score is made so that more is better",
        ));
    }
    let mut limit = |name: &str, given: Option<&i64>| {
        given
            .map(|given| read.count(name, None, Some(given), 1, 1..=usize::MAX))
            .transpose()
    };
    let latency = limit(
        "objective.latency_budget_ms",
        objective.latency_budget_ms.value(),
    )?;
    let tokens = limit("objective.token_budget", objective.token_budget.value())?;
    Ok((
        latency.map(|millis| Duration::from_millis(millis as u64)),
        tokens,
    ))
}

fn fallback(controls: &OptimizationControls, read: &mut Reader) -> Result<Vec<Method>, Error> {
    let Some(names) = controls.fallback_methods.value() else {
        return Ok(Vec::new());
    };
    few("optimization.fallback_methods", names.len())?;
    let methods = names
        .iter()
        .map(|name| Ok(Method::from_name(name)?))
        .collect::<Result<Vec<_>, Error>>()?;
    let names: Vec<&str> = methods.iter().map(|method| method.name()).collect();
    read.set("optimization.fallback_methods", names, Origin::Policy);
    Ok(methods)
}

fn few(name: &str, given: usize) -> Result<(), Error> {
    match given <= MAX_ENTRIES {
        true => Ok(()),
        false => Err(Error::request(
            name,
            format!("{given} entries"),
            format!("at most {MAX_ENTRIES}"),
        )),
    }
}

/// A schedule of the request or of the policy.
struct Schedule<'a> {
    name: &'static str,
    asked: (Option<bool>, &'a Vec<f64>),
    policy: (Option<&'a bool>, Option<&'a Vec<f64>>),
    most: f64,
}

impl Schedule<'_> {
    fn read(self, read: &mut Reader, warnings: &mut Vec<Warning>) -> Result<Vec<f64>, Error> {
        let list_name = format!("sampling.{}_schedule", self.name);
        let (values, origin) = match (self.asked.1.is_empty(), self.policy.1) {
            (false, _) => (self.asked.1.clone(), Origin::Request),
            (true, Some(values)) => (values.clone(), Origin::Policy),
            (true, None) => (Vec::new(), Origin::BuiltIn),
        };
        few(&list_name, values.len())?;
        if let Some(wrong) = values.iter().find(|v| !(0.0..=self.most).contains(*v)) {
            let wanted = match self.most {
                1.0 => "numbers from 0 to 1",
                _ => "finite numbers of at least 0",
            };
            return Err(Error::request(&list_name, wrong, wanted));
        }
        // A list of the request means that it is to be used, whatever the policy's own switch says.
        let switch = match (self.asked.0, origin) {
            (Some(on), _) => Some(on),
            (None, Origin::Request) => None,
            (None, _) => self.policy.0.copied(),
        };
        match (switch, values.is_empty()) {
            (Some(true), true) => warnings.push(Warning::new(
                "no_effect",
                format!("{} has no effect without a schedule", self.name),
            )),
            (Some(false), false) => warnings.push(Warning::new(
                "no_effect",
                format!("{list_name} has no effect: {} is false", self.name),
            )),
            _ => {}
        }
        if switch == Some(false) || values.is_empty() {
            return Ok(Vec::new());
        }
        read.set(&list_name, values.clone(), origin);
        Ok(values)
    }
}

/// Reads values and notes where each came from.
#[derive(Default)]
struct Reader {
    settings: Vec<Setting>,
}

impl Reader {
    fn set(&mut self, name: &str, value: impl Into<Value>, origin: Origin) {
        self.settings.push(Setting {
            name: name.to_owned(),
            value: value.into(),
            origin,
        });
    }

    fn count(
        &mut self,
        name: &str,
        asked: Option<usize>,
        policy: Option<&i64>,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, Error> {
        let wanted = || match *range.end() {
            usize::MAX => format!("{} or more", range.start()),
            end => format!("{} to {end}", range.start()),
        };
        let (value, origin) = match (asked, policy) {
            (Some(value), _) => (value, Origin::Request),
            (None, Some(value)) => match usize::try_from(*value) {
                Ok(value) => (value, Origin::Policy),
                Err(_) => return Err(Error::request(name, value, wanted())),
            },
            (None, None) => (default, Origin::BuiltIn),
        };
        if !range.contains(&value) {
            return Err(Error::request(name, value, wanted()));
        }
        self.set(name, value, origin);
        Ok(value)
    }

    fn number(
        &mut self,
        name: &str,
        asked: Option<f64>,
        policy: Option<&f64>,
        default: f64,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<f64, Error> {
        let (value, origin) = match (asked, policy) {
            (Some(value), _) => (value, Origin::Request),
            (None, Some(value)) => (*value, Origin::Policy),
            (None, None) => (default, Origin::BuiltIn),
        };
        if !range.contains(&value) {
            let wanted = format!("{} to {}", range.start(), range.end());
            return Err(Error::request(name, value, wanted));
        }
        self.set(name, value, origin);
        Ok(value)
    }

    fn flag(
        &mut self,
        name: &str,
        asked: Option<bool>,
        policy: Option<&bool>,
        default: bool,
    ) -> bool {
        let (value, origin) = match (asked, policy) {
            (Some(value), _) => (value, Origin::Request),
            (None, Some(value)) => (*value, Origin::Policy),
            (None, None) => (default, Origin::BuiltIn),
        };
        self.set(name, value, origin);
        value
    }
}

/// The request's fields that only a policy's run reads, taken out of it.
pub(crate) fn without_checks(mut request: GenerateRequest) -> GenerateRequest {
    request.checks = Checks::default();
    request.controls.n = None;
    request.controls.best_of_n = None;
    request
}
