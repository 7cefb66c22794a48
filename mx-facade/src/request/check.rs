//! What can be said of a request before there is a model or a server.

use super::GenerateRequest;
use crate::error::Error;
use mx_sampling::SamplingError;

impl GenerateRequest {
    /// Checks the range of every value, as far as it does not depend on model or server. A client does so first of all,
    /// before it decides on a route, loads a model or opens a connection: a value that no model could use is the error
    /// that is reported, whatever else is wrong.
    ///
    /// What settings are to each other under a method is looked at next, where the request runs here; the names of
    /// models, vectors and stored policies after that.
    ///
    /// # Errors
    /// [`Error::UnknownField`]; [`Error::Request`], [`Error::Sampling`] and [`Error::Steering`] naming the field.
    pub fn check(&self) -> Result<(), Error> {
        self.known()?;
        if self.max_tokens == Some(0) {
            return Err(Error::request("max_tokens", 0, "1 or more"));
        }
        if self.stop.iter().any(String::is_empty) {
            let wanted = "texts of at least one character";
            return Err(Error::request("stop", "an empty string", wanted));
        }
        match self.sampling.check() {
            // What excludes what depends on the method, under which some of it may have no effect.
            Err(SamplingError::Exclusive { .. } | SamplingError::NotInOrder { .. }) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        self.controls.check()?;
        self.constraints.check()?;
        self.steering.check()?;
        match crate::policy::governs(self) {
            true => crate::policy::check(self),
            false => self.controls.check_rows(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;

    fn refused(json: &str) -> String {
        let request: GenerateRequest = serde_json::from_str(json).unwrap();
        let error = request.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{json}");
        error.to_string()
    }

    #[test]
    fn every_range_is_checked() {
        for (field, value) in [
            ("max_tokens", "0"),
            ("temperature", "-1"),
            ("top_p", "1.5"),
            ("min_p", "-0.1"),
            ("typical_p", "2"),
            ("repetition_penalty", "-1"),
            ("n", "0"),
            ("n", "65"),
            ("best_of_n", "0"),
            ("logprobs", "129"),
            ("ads_subset_size", "0"),
            ("ads_beta", "1"),
            ("beam_width", "65"),
            ("speculative_steps", "0"),
            ("draft_layers", "0"),
            ("confidence_threshold", "1.5"),
        ] {
            let message = refused(&format!(r#"{{"prompt": "x", "{field}": {value}}}"#));
            assert!(message.contains(field), "{field}: {message}");
        }
        let message = refused(r#"{"prompt": "x", "stop": ""}"#);
        assert!(message.starts_with("stop"), "{message}");
        let message =
            refused(r#"{"prompt": "x", "behaviors": [{"behavior": "b", "threshold": 3}]}"#);
        assert!(message.contains("threshold"), "{message}");
        let message =
            refused(r#"{"prompt": "x", "ensemble_models": ["a"], "ensemble_weights": [0, -1]}"#);
        assert!(message.contains("ensemble_weights"), "{message}");
    }

    #[test]
    fn the_values_of_a_policy_too() {
        for (block, field) in [
            (r#""sampling": {"temperature": -1}"#, "temperature"),
            (
                r#""sampling": {"method": "ads", "ads_beta": 3}"#,
                "ads_beta",
            ),
            (
                r#""sampling": {"method": "nucleus-of-nothing"}"#,
                "nucleus-of-nothing",
            ),
            (r#""optimization": {"best_of_n": 0}"#, "best_of_n"),
            (
                r#""optimization": {"confidence_threshold": 7}"#,
                "confidence_threshold",
            ),
        ] {
            let message = refused(&format!(
                r#"{{"prompt": "x", "policy": {{"name": "p", {block}}}}}"#
            ));
            assert!(message.contains(field), "{block}: {message}");
        }
    }

    #[test]
    fn strengths_are_numbers() {
        let steer = mx_steering::apply::Steer::new("brevity").strength(f32::NAN);
        let error = GenerateRequest::new("x").steer(steer).check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        let mut request = GenerateRequest::new("x");
        request.steering.steering_strength = Some(f32::INFINITY);
        assert!(request.check().is_err());
    }

    #[test]
    fn what_is_right_passes() {
        for json in [
            r#"{"prompt": "x"}"#,
            r#"{"prompt": "", "temperature": 0, "top_k": 0, "top_p": 1, "n": 64, "logprobs": 0}"#,
            r#"{"prompt": "x", "min_new_tokens": 3, "mirostat": 2, "top_k": 5}"#,
            r#"{"prompt": "x", "policy": {"name": "p", "sampling": {"top_p": null}}}"#,
        ] {
            let request: GenerateRequest = serde_json::from_str(json).unwrap();
            assert!(request.check().is_ok(), "{json}");
        }
    }
}
