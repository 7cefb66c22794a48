//! The calls about policies on a client.

use super::constraints::Requirements;
use super::generator::Generator;
#[cfg(feature = "local")]
use super::local::LocalGenerator;
use super::remote::{RemoteGenerator, run_of, trial_of};
use super::resolve::Resolved;
use super::result::{LocalTrace, PolicyRun, PolicyTrace};
use super::rules::Rules;
use super::run::{Outcome, conduct};
use super::store::{PolicyPreset, PolicyStore};
use super::tune::{Evaluation, Search, Tuned, tune};
use super::verify::Judge;
use super::{Policy, run_native};
use crate::cancel::Cancel;
use crate::client::{Client, random_seed};
use crate::error::Error;
use crate::generation::{Choice, Generation, Route, Warning};
use crate::remote::Server;
use crate::request::{GenerateRequest, Origin, Prompt};
use crate::route::fell_back;
use mx_remote::Axionic;
use mx_remote::axionic::{
    AutoTuneRequest, CompareRequest, EvaluatePolicyRequest, PublishPresetRequest,
};

/// The calls about policies; from [`Client::policies`].
///
/// On the native remote route they go to the service, which runs policies itself and keeps them; otherwise policies
/// run here, on the local model or with a server's outputs, and are kept in the client's [`PolicyStore`].
#[derive(Debug, Clone)]
pub struct Policies<'a> {
    client: &'a Client,
    cancel: Cancel,
}

impl<'a> Policies<'a> {
    pub(crate) fn new(client: &'a Client) -> Self {
        Policies {
            client,
            cancel: Cancel::new(),
        }
    }

    /// Watches this flag: a run that sees it set ends with what there is.
    pub fn with_cancel(mut self, cancel: impl Into<Cancel>) -> Self {
        self.cancel = cancel.into();
        self
    }

    /// Runs a policy on a prompt, with a trace.
    ///
    /// # Errors
    /// [`Error`] for anything that cannot be carried out as asked. An output that is not accepted is no error.
    pub fn run(&self, prompt: impl Into<Prompt>, policy: &Policy) -> Result<PolicyRun, Error> {
        self.run_traced(&GenerateRequest::new(prompt), policy, true)
    }

    /// Runs a saved policy on a prompt, with a trace.
    ///
    /// # Errors
    /// As [`run`](Policies::run), and [`Error::PolicyStore`] where nothing has the id.
    pub fn run_saved(&self, prompt: impl Into<Prompt>, id: &str) -> Result<PolicyRun, Error> {
        self.run(prompt, &self.get(id)?)
    }

    /// Runs a request by a policy. What the request says stands over the policy. `include_trace` of the request gives
    /// the run's trace and, in its answer, the tokens of the step that made the winner.
    ///
    /// # Errors
    /// As [`run`](Policies::run).
    pub fn run_request(
        &self,
        request: &GenerateRequest,
        policy: &Policy,
    ) -> Result<PolicyRun, Error> {
        self.run_traced(request, policy, request.include_trace == Some(true))
    }

    /// As [`run_request`](Policies::run_request), with the run's trace and without that of the tokens.
    ///
    /// # Errors
    /// As [`run`](Policies::run).
    pub fn run_with(&self, request: &GenerateRequest, policy: &Policy) -> Result<PolicyRun, Error> {
        self.run_traced(request, policy, true)
    }

    fn run_traced(
        &self,
        request: &GenerateRequest,
        policy: &Policy,
        trace: bool,
    ) -> Result<PolicyRun, Error> {
        let mut run = self.run_anywhere(request, policy)?;
        if !trace {
            run.trace = None;
        }
        if let Some(generation) = &mut run.generation
            && let Some(judged) = &mut generation.policy
        {
            judged.trace.clone_from(&run.trace);
        }
        Ok(run)
    }

    fn run_anywhere(&self, request: &GenerateRequest, policy: &Policy) -> Result<PolicyRun, Error> {
        if self.client.route()? == Route::Local {
            return self.run_local(request, policy);
        }
        let tried = self.client.server().and_then(|server| match &server {
            Server::Native(client) => run_native(client, request, policy, self.cancel.clone()),
            other => {
                let mut generator = RemoteGenerator::new(other, self.cancel.clone());
                self.conduct(&mut generator, None, request, policy)
            }
        });
        let error = match tried {
            Ok(run) => return Ok(run),
            Err(error) => error,
        };
        if !self.client.falls_back(&error) {
            return Err(error);
        }
        let mut run = self.run_local(request, policy)?;
        if let Some(generation) = &mut run.generation {
            fell_back(generation, &error);
            run.warnings.clone_from(&generation.warnings);
        }
        Ok(run)
    }

    #[cfg(not(feature = "local"))]
    fn run_local(&self, _request: &GenerateRequest, _policy: &Policy) -> Result<PolicyRun, Error> {
        Err(crate::client::absent())
    }

    #[cfg(feature = "local")]
    fn run_local(&self, request: &GenerateRequest, policy: &Policy) -> Result<PolicyRun, Error> {
        let (model, resources) = self.client.local_parts()?;
        let name = model.name().to_owned();
        let mut generator = LocalGenerator::new(model, resources, self.cancel.clone());
        self.conduct(&mut generator, Some(&name), request, policy)
    }

    /// Runs the rule with some maker of candidates.
    fn conduct(
        &self,
        generator: &mut dyn Generator,
        model: Option<&str>,
        request: &GenerateRequest,
        policy: &Policy,
    ) -> Result<PolicyRun, Error> {
        let mut warnings = Vec::new();
        let resolved = Resolved::new(policy, request, model, &mut warnings)?;
        let verifiers = resolved.verifiers.clone();
        let rules = Rules::new(policy, request, verifiers, &mut warnings)?;
        let required: Requirements = resolved.required.clone();
        let judge = Judge::new(required, &rules, self.client.code_limits())?;
        let mut asked = resolved.request.clone();
        let drawn = asked.seed.is_none();
        let seed = *asked.seed.get_or_insert_with(random_seed);
        let began = generator.now();
        let mut outcome = conduct(generator, &judge, &rules, &asked)?;
        let latency_ms = generator.now().saturating_sub(began).as_millis() as u64;
        warnings.append(&mut outcome.warnings);
        if let Some(budget) = outcome.budget {
            let message = format!("the run ended early: {} is used up", budget.name());
            warnings.push(Warning::new("budget", message));
        }
        let outputs = request.controls.n.unwrap_or(1);
        let generation = answer(&outcome, outputs);
        let mut generation =
            generation.ok_or_else(|| Error::request("policy", "no candidate", "one at least"))?;
        resolved.relabel(&mut generation.settings);
        for setting in &mut generation.settings {
            if setting.name == "seed" && drawn {
                setting.origin = Origin::Random;
                setting.value = seed.into();
            }
            if setting.name == "max_tokens" && outcome.shortened {
                setting.origin = Origin::Policy;
            }
        }
        generation.seed = seed;
        let Some(winner) = outcome.winner() else {
            return Err(Error::Cancelled);
        };
        if !winner.accepted {
            let message = format!("the output is not accepted: {}", winner.reason);
            warnings.push(Warning::new("not_accepted", message));
        }
        let mut all = warnings.clone();
        all.append(&mut generation.warnings);
        generation.warnings = all.clone();
        let trace = LocalTrace {
            policy_name: policy.name.value().cloned(),
            retry_events: outcome.events.clone(),
            selection: Some(winner.clone()),
            candidates: outcome.candidates.clone(),
            seed,
            settings: rules.settings.clone(),
            agreement: outcome.agreement,
        };
        let mut run = PolicyRun {
            output: winner.output.clone(),
            accepted: winner.accepted,
            policy_id: policy.id.value().cloned(),
            score: winner.score,
            latency_ms,
            tokens: winner.tokens,
            constraints_ok: winner.constraints_ok,
            verifier_ok: winner.verifier_ok,
            trace: Some(PolicyTrace::Local(Box::new(trace))),
            confidence: winner.confidence,
            reason: winner.reason.clone(),
            total_tokens: outcome.total_tokens,
            budget: outcome.budget,
            warnings: all,
            generation: None,
        };
        generation.policy = Some(Box::new(run.clone()));
        run.generation = Some(Box::new(generation));
        Ok(run)
    }

    /// Saves a policy and returns its id: its own, or a new one.
    ///
    /// # Errors
    /// [`Error::PolicyStore`], [`Error::Remote`].
    pub fn save(&self, policy: &Policy) -> Result<String, Error> {
        match self.service()? {
            Some(service) => Ok(service.save_policy(policy).wait()?),
            None => Ok(self.store().save(policy)?),
        }
    }

    /// The saved policies by id. Damaged files of a store are left out; [`PolicyStore::list`] names them.
    ///
    /// # Errors
    /// [`Error::PolicyStore`] for a folder that cannot be read, [`Error::Remote`].
    pub fn list(&self) -> Result<Vec<Policy>, Error> {
        match self.service()? {
            Some(service) => Ok(service.policies().wait()?),
            None => Ok(self.store().list()?.0),
        }
    }

    /// The saved policy of an id.
    ///
    /// # Errors
    /// [`Error::PolicyStore`], [`Error::Remote`].
    pub fn get(&self, id: &str) -> Result<Policy, Error> {
        match self.service()? {
            Some(service) => Ok(service.policy(id).wait()?),
            None => Ok(self.store().get(id)?),
        }
    }

    /// Removes a saved policy.
    ///
    /// # Errors
    /// [`Error::PolicyStore`]; [`Error::Unsupported`] on the service, which offers no such call.
    pub fn delete(&self, id: &str) -> Result<(), Error> {
        match self.service()? {
            Some(_) => Err(Error::unsupported(
                "deleting a policy on the remote route",
                "the service has no call for it",
            )),
            None => Ok(self.store().delete(id)?),
        }
    }

    /// Runs several policies on one prompt.
    ///
    /// # Errors
    /// As [`run`](Policies::run).
    pub fn compare(
        &self,
        request: &GenerateRequest,
        policies: &[Policy],
    ) -> Result<Vec<PolicyRun>, Error> {
        if policies.is_empty() {
            return Err(Error::request("policies", "empty", "at least one policy"));
        }
        if let Some(service) = self.service()? {
            let runs = service.compare_policies(&CompareRequest {
                prompt: text(request)?,
                policies: policies.to_vec(),
                max_new_tokens: max_new_tokens(request),
            });
            return Ok(runs.wait()?.into_iter().map(run_of).collect());
        }
        policies
            .iter()
            .map(|policy| self.run_request(request, policy))
            .collect()
    }

    /// Runs a policy on several prompts. `request` says everything but the prompt.
    ///
    /// # Errors
    /// As [`run`](Policies::run).
    pub fn evaluate(
        &self,
        prompts: &[String],
        policy: &Policy,
        request: &GenerateRequest,
    ) -> Result<Evaluation, Error> {
        if prompts.is_empty() {
            return Err(Error::request("prompts", "empty", "at least one prompt"));
        }
        if let Some(service) = self.service()? {
            let found = service.evaluate_policy(&EvaluatePolicyRequest {
                prompts: prompts.to_vec(),
                policy: Some(policy.clone()),
                policy_id: None,
                max_new_tokens: max_new_tokens(request),
            });
            let found = found.wait()?;
            let count = |n: i64| usize::try_from(n).unwrap_or(0);
            return Ok(Evaluation {
                num_prompts: count(found.num_prompts),
                success_rate: found.success_rate,
                avg_latency_ms: found.avg_latency_ms,
                avg_tokens: found.avg_tokens,
                pass_count: count(found.pass_count),
                fail_count: count(found.fail_count),
                outputs: found.outputs.into_iter().map(run_of).collect(),
            });
        }
        let runs = prompts.iter().map(|prompt| {
            let request = GenerateRequest {
                prompt: prompt.as_str().into(),
                ..request.clone()
            };
            self.run_request(&request, policy)
        });
        Ok(Evaluation::new(runs.collect::<Result<_, _>>()?))
    }

    /// Tries the combinations of a search on several prompts. `request` says everything but the prompt.
    ///
    /// # Errors
    /// As [`run`](Policies::run), and those of [`Search::grid`].
    pub fn auto_tune(
        &self,
        prompts: &[String],
        base: &Policy,
        search: &Search,
        request: &GenerateRequest,
    ) -> Result<Tuned, Error> {
        let grid = search.grid(base)?;
        if prompts.is_empty() {
            return Err(Error::request("prompts", "empty", "at least one prompt"));
        }
        if let Some(service) = self.service()? {
            let found = service.auto_tune(&AutoTuneRequest {
                prompts: prompts.to_vec(),
                base_policy: Some(base.clone()),
                base_policy_id: None,
                search_space: search.space.clone(),
                max_trials: search.max_trials.and_then(|n| u32::try_from(n).ok()),
                max_new_tokens: max_new_tokens(request),
            });
            let found = found.wait()?;
            return Ok(Tuned {
                best_policy: found.best_policy,
                best_trial: trial_of(found.best_trial),
                trials: found.trials.into_iter().map(trial_of).collect(),
            });
        }
        tune(grid, |policy| self.evaluate(prompts, policy, request))
    }

    /// Publishes a policy as a preset and returns its id.
    ///
    /// # Errors
    /// [`Error::PolicyStore`], [`Error::Remote`].
    pub fn publish_preset(&self, preset: &PolicyPreset) -> Result<String, Error> {
        let Some(service) = self.service()? else {
            return Ok(self.store().publish(preset)?);
        };
        let published = service.publish_preset(&PublishPresetRequest {
            name: preset.name.clone(),
            policy: preset.policy.clone(),
            visibility: Some(preset.visibility.clone()),
            tags: preset.tags.clone(),
            description: preset.description.clone(),
        });
        Ok(published.wait()?)
    }

    /// The published presets. Damaged files of a store are left out; [`PolicyStore::presets`] names them.
    ///
    /// # Errors
    /// [`Error::PolicyStore`], [`Error::Remote`].
    pub fn list_presets(&self, include_public: bool) -> Result<Vec<PolicyPreset>, Error> {
        let Some(service) = self.service()? else {
            return Ok(self.store().presets(include_public)?.0);
        };
        let presets = service.policy_presets(include_public).wait()?;
        Ok(presets
            .into_iter()
            .map(|preset| {
                let mut own = PolicyPreset::new(preset.name, preset.policy);
                own.id = preset.id;
                own.visibility = preset.visibility.unwrap_or(own.visibility);
                own.tags = preset.tags;
                own.description = preset.description;
                let owner = preset.extra.get("owner_api_key_id");
                own.owner_api_key_id = owner.and_then(|id| id.as_str()).map(str::to_owned);
                own.updated_at = preset.extra.get("updated_at").cloned();
                own
            })
            .collect())
    }

    /// Saves the policy of a preset as an own one and returns its id.
    ///
    /// # Errors
    /// [`Error::PolicyStore`], [`Error::Remote`].
    pub fn clone_preset(&self, id: &str) -> Result<String, Error> {
        match self.service()? {
            Some(service) => Ok(service.clone_preset(id).wait()?),
            None => Ok(self.store().clone_preset(id)?),
        }
    }

    /// The service, where requests go to it.
    fn service(&self) -> Result<Option<Axionic>, Error> {
        // Saving and listing need neither model nor server.
        match self.client.route() {
            Ok(Route::Local) | Err(Error::NoModel) => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Ok(match self.client.server()? {
                Server::Native(service) => Some(service),
                _ => None,
            }),
        }
    }

    fn store(&self) -> &PolicyStore {
        self.client.policy_store()
    }
}

/// The answer that holds the winner, with the winner first, and the `outputs` best candidates where more are asked for.
fn answer(outcome: &Outcome, outputs: usize) -> Option<Generation> {
    let choice = |index: usize| {
        let (answer, row) = &outcome.answers[index];
        let found = answer.choices.get(*row).cloned();
        found.unwrap_or_else(|| Choice::from(&**answer))
    };
    let best = *outcome.order.first()?;
    let (source, _) = outcome.answers.get(best)?;
    let mut answer = Generation::clone(source);
    let first = choice(best);
    answer.choices = match outputs {
        0 | 1 => Vec::new(),
        _ => outcome
            .order
            .iter()
            .take(outputs)
            .map(|index| choice(*index))
            .collect(),
    };
    answer.text = first.text;
    answer.tokens = first.tokens;
    answer.finish_reason = first.finish_reason;
    answer.stop_text = first.stop_text;
    answer.logprobs = first.logprobs;
    answer.usage.completion_tokens = outcome.total_tokens;
    answer
        .settings
        .retain(|setting| setting.name != "n" && setting.name != "best_of_n");
    // What was said of one of several rows need not be true of the winner.
    answer.warnings.retain(|warning| {
        warning.code != "constraint_unfinished"
            || outcome.winner().is_some_and(|w| !w.constraints_ok)
    });
    Some(answer)
}

fn text(request: &GenerateRequest) -> Result<String, Error> {
    match &request.prompt {
        Prompt::Text(text) => Ok(text.clone()),
        _ => Err(Error::unsupported(
            "a conversation or tokens on the native remote route",
            "the service takes a text",
        )),
    }
}

fn max_new_tokens(request: &GenerateRequest) -> Option<u32> {
    request.max_tokens.and_then(|n| u32::try_from(n).ok())
}
