//! What a fetch may do: network, places, patience, limits.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where models may be fetched from, and how long and how much is waited for.
///
/// [`Options::default`] knows no environment and no cache of the hub; a program starts from [`Options::from_env`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Forbids every use of the network.
    pub offline: bool,
    /// Forbids asking the hub over the network; its cache on disk is still read.
    pub hub_offline: bool,
    /// Asks the hub for the newest state of a branch even when its cache has one; the cache is used when it cannot.
    pub refresh: bool,
    /// Address of the hub. Plain `http` works only when this says so.
    pub hub_endpoint: String,
    /// Sent to the hub's own address, never to where it redirects.
    pub hub_token: Option<Secret>,
    /// The folder that holds `models--org--repo` folders. Without one the hub is not used.
    pub hub_cache: Option<PathBuf>,
    /// How long a server may take from the first name lookup to the head of its answer. Default 3 s: behind it
    /// waits another source.
    pub answer_timeout: Duration,
    /// The window in which at least [`Limits::min_bytes`] bytes must come once a file has begun. Default 15 s.
    pub stall_timeout: Duration,
    /// The program that fetches Python packages.
    pub package_client: PackageClient,
    /// How long the package client may run without a sign of an answer, beside twice the time that it takes to start.
    /// Default 6 s: it is the last source, and it does not tell connecting from waiting for a slow mirror. Once it
    /// reports a failed connection it is given [`Options::answer_timeout`] more.
    pub package_answer_timeout: Duration,
    /// How long the package client may run without the file growing. Default 120 s.
    pub package_stall_timeout: Duration,
    /// Bounds on what a source may send.
    pub limits: Limits,
}

/// Bounds on what a source may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one weights file. Default 256 GiB.
    pub max_file_bytes: u64,
    /// Bytes of one file beside the weights (config, tokenizer). Default 256 MiB.
    pub max_side_file_bytes: u64,
    /// Bytes of a repository's file list. Default 16 MiB.
    pub max_listing_bytes: u64,
    /// Files in a repository's file list. Default 10 000.
    pub max_files: usize,
    /// Fewer bytes than this within [`Options::stall_timeout`] count as a stall. Default 16 KiB.
    pub min_bytes: u64,
}

/// Which program fetches Python packages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackageClient {
    /// The first that runs of `python3 -m pip`, `pip3`, `pip`, `python -m pip`.
    #[default]
    Find,
    /// This command and its first arguments; `download …` is appended.
    Command(Vec<String>),
    /// Packages are not used.
    Off,
}

/// A token. Its text is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

const HUB: &str = "https://huggingface.co";
const MAX_TOKEN_FILE: u64 = 4096;

impl Default for Options {
    fn default() -> Self {
        Self {
            offline: false,
            hub_offline: false,
            refresh: false,
            hub_endpoint: HUB.into(),
            hub_token: None,
            hub_cache: None,
            answer_timeout: Duration::from_secs(3),
            stall_timeout: Duration::from_secs(15),
            package_client: PackageClient::Find,
            package_answer_timeout: Duration::from_secs(6),
            package_stall_timeout: Duration::from_secs(120),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_file_bytes: 256 << 30,
            max_side_file_bytes: 256 << 20,
            max_listing_bytes: 16 << 20,
            max_files: 10_000,
            min_bytes: 16 << 10,
        }
    }
}

impl Options {
    /// Reads the variables that the hub's own tools read, through `env` (usually `|name| std::env::var(name).ok()`).
    ///
    /// | variable | effect |
    /// |---|---|
    /// | `MX_OFFLINE` | [`Options::offline`] |
    /// | `HF_HUB_OFFLINE` | [`Options::hub_offline`] |
    /// | `HF_ENDPOINT` | [`Options::hub_endpoint`] |
    /// | `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HOME` | [`Options::hub_cache`] |
    /// | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, `HF_TOKEN_PATH`, the file `token` in `HF_HOME` | [`Options::hub_token`] |
    /// | `HF_HUB_DISABLE_IMPLICIT_TOKEN` | no token is taken from a file |
    ///
    /// An empty variable counts as not set. A switch is on at `1`, `on`, `yes`, `true`.
    #[must_use]
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| {
            env(name)
                .map(|v| v.trim().to_string())
                .filter(|v| !v.is_empty())
        };
        let switch = |name: &str| set(name).is_some_and(|v| is_on(&v));
        let home = set("HOME")
            .or_else(|| set("USERPROFILE"))
            .map(PathBuf::from);
        let path = |name: &str| set(name).map(|v| expand_user(&v, home.as_deref()));

        let hub_home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME").or_else(|| home.as_ref().map(|h| h.join(".cache")));
            caches.map(|c| c.join("huggingface"))
        });
        let hub_cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| hub_home.as_ref().map(|h| h.join("hub")));
        let token_file =
            path("HF_TOKEN_PATH").or_else(|| hub_home.as_ref().map(|h| h.join("token")));
        let token_file = token_file.filter(|_| !switch("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
        let token = set("HF_TOKEN")
            .or_else(|| set("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| token_file.and_then(|f| read_token(&f)));

        let mut options = Self {
            offline: switch("MX_OFFLINE"),
            hub_offline: switch("HF_HUB_OFFLINE"),
            hub_token: token.map(Secret::new),
            hub_cache,
            ..Self::default()
        };
        if let Some(endpoint) = set("HF_ENDPOINT") {
            options.hub_endpoint = endpoint;
        }
        options
    }
}

impl Secret {
    /// Wraps a token.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn is_on(value: &str) -> bool {
    ["1", "on", "yes", "true"]
        .iter()
        .any(|v| value.eq_ignore_ascii_case(v))
}

fn expand_user(path: &str, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home.to_path_buf(),
        (Some(rest), Some(home)) if rest.starts_with(['/', '\\']) => home.join(&rest[1..]),
        _ => PathBuf::from(path),
    }
}

fn read_token(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)
        .ok()?
        .take(MAX_TOKEN_FILE)
        .read_to_string(&mut text)
        .ok()?;
    let token = text.trim();
    (!token.is_empty()).then(|| token.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Options {
        let vars: Vec<(String, String)> = vars
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        Options::from_env(&move |name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    }

    #[test]
    fn places_follow_the_hubs_rules() {
        let cache = |vars: &[(&str, &str)]| {
            from(vars)
                .hub_cache
                .map(|p| p.to_string_lossy().into_owned())
        };
        assert_eq!(cache(&[]), None);
        assert_eq!(
            cache(&[("HOME", "/h")]).unwrap(),
            "/h/.cache/huggingface/hub"
        );
        assert_eq!(
            cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]).unwrap(),
            "/c/huggingface/hub"
        );
        assert_eq!(
            cache(&[("HOME", "/h"), ("HF_HOME", "~/hf")]).unwrap(),
            "/h/hf/hub"
        );
        assert_eq!(
            cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/cc")]).unwrap(),
            "/cc"
        );
        assert_eq!(
            cache(&[("HOME", "/h"), ("HF_HOME", " ")]).unwrap(),
            "/h/.cache/huggingface/hub"
        );
    }

    #[test]
    fn switches_and_endpoint() {
        let o = from(&[
            ("HF_HUB_OFFLINE", "Yes"),
            ("HF_ENDPOINT", "http://localhost:1"),
        ]);
        assert!(o.hub_offline && !o.offline);
        assert_eq!(o.hub_endpoint, "http://localhost:1");
        assert!(!from(&[("HF_HUB_OFFLINE", "0")]).hub_offline);
        assert!(from(&[("MX_OFFLINE", "1")]).offline);
    }

    #[test]
    fn token_from_variable_then_file_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "  hf_file\n").unwrap();
        let home = folder.path().to_string_lossy().into_owned();
        let token = |o: &Options| o.hub_token.as_ref().map(|t| t.expose().to_string());
        assert_eq!(token(&from(&[("HF_HOME", &home)])).unwrap(), "hf_file");
        let both = from(&[("HF_HOME", &home), ("HF_TOKEN", "hf_var")]);
        assert_eq!(token(&both).unwrap(), "hf_var");
        assert!(!format!("{both:?}").contains("hf_var"));
        assert_eq!(
            token(&from(&[
                ("HF_HOME", &home),
                ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
            ])),
            None
        );
    }
}
