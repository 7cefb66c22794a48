//! The calls about policies on a client.

use super::carry::carry_out;
#[cfg(feature = "local")]
use super::local::LocalGenerator;
use super::remote::{RemoteGenerator, run_of, trial_of};
use super::result::PolicyRun;
use super::store::{PolicyPreset, PolicyStore};
use super::tune::{Evaluation, Search, Tuned, tune};
use super::{Policy, run_native};
use crate::cancel::Cancel;
use crate::client::Client;
use crate::error::Error;
use crate::generation::Route;
use crate::remote::Server;
use crate::request::{GenerateRequest, Prompt};
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
        request.known()?;
        if self.client.route()? == Route::Local {
            return self.run_local(request, policy);
        }
        let tried = self.client.server().and_then(|server| match &server {
            Server::Native(client) => run_native(client, request, policy, self.cancel.clone()),
            other => {
                let mut generator = RemoteGenerator::new(other, self.cancel.clone());
                let code = self.client.code_limits();
                carry_out(&mut generator, None, request, policy, code)
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
        let code = self.client.code_limits();
        carry_out(&mut generator, Some(&name), request, policy, code)
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
