//! How a model is named.

use std::fmt;
use std::path::{Path, PathBuf};

use super::local;
use super::names::{is_revision, repo_problem, shorten};
use super::{Known, SourceError, known_model};

/// Revision that is meant when none is named.
pub(super) const MAIN: &str = "main";

/// What a user wrote to name a model, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelRef {
    /// A file or folder that exists.
    Path(PathBuf),
    /// A model of the catalogue.
    Known(&'static Known),
    /// Another short name; the model folder may have it.
    Name(String),
    /// A repository of the hub.
    Hub {
        /// `org/repo`.
        repo: String,
        /// Branch, tag, pull-request reference or commit; the main branch without it.
        revision: Option<String>,
        /// A GGUF file of it, or a part of a GGUF file's name such as `Q4_K_M`.
        file: Option<String>,
    },
}

impl ModelRef {
    /// Understands `smollm2`, `./folder`, `/x/file.gguf`, `org/repo`, `org/repo@revision`, `org/repo:file.gguf`,
    /// `org/repo@revision:file.gguf`.
    ///
    /// A path that exists wins over the other readings. A word without separators is taken as a path only if a
    /// model is there, so that a folder that happens to be called `smollm2` does not hide the model.
    ///
    /// # Errors
    /// [`SourceError::NoSuchPath`] for what can only be a path and does not exist, and
    /// [`SourceError::BadReference`] for what fits no form. Whether a short name or a repository exists is found out
    /// by [`resolve`](super::resolve).
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let bad = |reason| SourceError::BadReference {
            given: shorten(text),
            reason,
        };
        if text.trim().is_empty() {
            return Err(bad("it is empty"));
        }
        if text.chars().any(char::is_control) {
            return Err(bad("it holds a control character"));
        }
        let path = Path::new(text);
        let separated = text.contains('/') || text.contains('\\');
        if path.exists() && (separated || text == "." || text == ".." || local::find(path).is_ok())
        {
            return Ok(Self::Path(path.to_path_buf()));
        }
        if let Some(known) = known_model(text) {
            return Ok(Self::Known(known));
        }
        if is_path_only(text) {
            return Err(local::no_such_path(path));
        }
        if separated {
            return hub(text).map_err(bad);
        }
        if path.exists() {
            // Not a model, or it would have been taken above: say why.
            local::find(path)?;
        }
        if text.contains([':', '@']) {
            return Err(bad("a repository is written org/repo"));
        }
        super::names::check_model_name("the model reference", text)
            .map_err(|_| bad("a short name holds only letters, digits, '.', '_' and '-'"))?;
        Ok(Self::Name(text.into()))
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Known(known) => f.write_str(known.name),
            Self::Name(name) => f.write_str(name),
            Self::Hub {
                repo,
                revision,
                file,
            } => {
                f.write_str(repo)?;
                revision.as_ref().map_or(Ok(()), |r| write!(f, "@{r}"))?;
                file.as_ref().map_or(Ok(()), |x| write!(f, ":{x}"))
            }
        }
    }
}

fn is_path_only(text: &str) -> bool {
    let starts = ["/", "./", "../", "~", ".\\", "..\\", "\\"];
    let slashes = text.matches('/').count();
    let whole_file = [".gguf", ".safetensors"]
        .iter()
        .any(|end| text.to_ascii_lowercase().ends_with(end));
    starts.iter().any(|s| text.starts_with(s))
        || text.contains('\\')
        || (whole_file && !text.contains([':', '@']))
        || (slashes > 1 && !text.contains([':', '@']))
        || text.ends_with('/')
}

fn hub(text: &str) -> Result<ModelRef, &'static str> {
    let end = text.find(['@', ':']).unwrap_or(text.len());
    let (repo, rest) = text.split_at(end);
    if let Some(problem) = repo_problem(repo) {
        return Err(problem);
    }
    let (revision, file) = match rest.strip_prefix('@') {
        Some(rest) => match rest.split_once(':') {
            Some((revision, file)) => (Some(revision), Some(file)),
            None => (Some(rest), None),
        },
        None => (None, rest.strip_prefix(':')),
    };
    if revision.is_some_and(|r| !is_revision(r)) {
        return Err("the revision after '@' holds only letters, digits, '.', '_', '-' and '/'");
    }
    if file.is_some_and(|f| super::names::check_relative("", f).is_err()) {
        return Err("the file after ':' is no path inside a repository");
    }
    Ok(ModelRef::Hub {
        repo: repo.into(),
        revision: revision.map(String::from),
        file: file.map(String::from),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn hub_ref(repo: &str, revision: Option<&str>, file: Option<&str>) -> ModelRef {
        ModelRef::Hub {
            repo: repo.into(),
            revision: revision.map(Into::into),
            file: file.map(Into::into),
        }
    }

    #[test]
    fn every_form() {
        for name in [
            "smollm2",
            "SmolLM2",
            "smollm2-135m-instruct",
            "default",
            "gemma3-270m",
        ] {
            assert!(
                matches!(ModelRef::parse(name).unwrap(), ModelRef::Known(_)),
                "{name}"
            );
        }
        assert_eq!(
            ModelRef::parse("mine-1.5").unwrap(),
            ModelRef::Name("mine-1.5".into())
        );
        for (text, wanted) in [
            ("org/repo", hub_ref("org/repo", None, None)),
            (
                "org/repo:a/b.gguf",
                hub_ref("org/repo", None, Some("a/b.gguf")),
            ),
            ("org/repo:Q4_K_M", hub_ref("org/repo", None, Some("Q4_K_M"))),
            ("org/repo@v1", hub_ref("org/repo", Some("v1"), None)),
            (
                "org/repo@refs/pr/1",
                hub_ref("org/repo", Some("refs/pr/1"), None),
            ),
            (
                "org/repo@main:x@2.gguf",
                hub_ref("org/repo", Some("main"), Some("x@2.gguf")),
            ),
        ] {
            assert_eq!(ModelRef::parse(text).unwrap(), wanted);
            assert_eq!(wanted.to_string(), text);
        }
    }

    #[test]
    fn what_fits_no_form_is_refused() {
        for text in [
            "",
            "  ",
            "a b",
            "org/repo@",
            "org/repo:",
            "org/repo:../x",
            "org/repo@../x",
            "a--b/c",
            "x:y",
            "a\nb",
            "org/repo@v:",
        ] {
            assert!(
                matches!(ModelRef::parse(text), Err(SourceError::BadReference { .. })),
                "{text:?}"
            );
        }
        for text in [
            "./nowhere",
            "/nowhere/at/all",
            "nowhere.gguf",
            "a/b/c",
            "org/x.gguf",
            "~/x",
            "C:\\x",
        ] {
            assert!(
                matches!(ModelRef::parse(text), Err(SourceError::NoSuchPath { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_path_wins_when_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.gguf");
        std::fs::write(&file, "GGUF").unwrap();
        assert_eq!(
            ModelRef::parse(file.to_str().unwrap()).unwrap(),
            ModelRef::Path(file.clone())
        );
        let given = folder.path().to_str().unwrap();
        assert_eq!(
            ModelRef::parse(given).unwrap(),
            ModelRef::Path(folder.path().into())
        );
        let beside = folder.path().join("n.gguf");
        let error = ModelRef::parse(beside.to_str().unwrap()).unwrap_err();
        assert!(error.to_string().contains("m.gguf"), "{error}");
    }

    proptest! {
        #[test]
        fn never_panics_and_shows_what_it_read(text in "[a-zA-Z0-9@:/._~ -]{0,40}") {
            if let Ok(reference @ ModelRef::Hub { .. }) = ModelRef::parse(&text) {
                prop_assert_eq!(reference.to_string(), text);
            }
        }

        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            let _ = ModelRef::parse(&text);
        }
    }
}
