//! Keys and sessions: where they come from, and which one a request carries.

mod keyring;
mod store;

pub(crate) use keyring::{Keyring, Picked, check as check_tokens};
pub use store::{CredentialStore, StoredCredentials};

use crate::error::{Error, Result};
use crate::secret::Secret;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The variable with the key.
pub const KEY_VARIABLE: &str = "MECHANEX_API_KEY";
/// The variable with the address of the native service.
pub const BASE_URL_VARIABLE: &str = "MECHANEX_BASE_URL";

/// A session of an account, from a login.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Session {
    /// The token that requests carry.
    pub access_token: Secret,
    /// The token that renews the session.
    #[serde(default)]
    pub refresh_token: Option<Secret>,
    /// Seconds that the access token lasts.
    #[serde(default)]
    pub expires_in: Option<i64>,
}

/// Where a key came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyOrigin {
    /// The caller gave it.
    Argument,
    /// The variable [`KEY_VARIABLE`].
    Environment,
    /// This credentials file.
    File(PathBuf),
}

/// A key, a session, both or neither.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The key.
    pub key: Option<Secret>,
    /// The session.
    pub session: Option<Session>,
    /// Where the key came from.
    pub origin: Option<KeyOrigin>,
    /// Why the credentials file was passed over, when a key came from elsewhere and the file could not be read.
    pub file_problem: Option<Error>,
}

/// What [`Credentials::find`] looks at, so that a test or a server can look elsewhere than the process does.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The value of [`KEY_VARIABLE`].
    pub key: Option<Secret>,
    /// The value of [`BASE_URL_VARIABLE`].
    pub base_url: Option<String>,
    /// The credentials file.
    pub store: Option<CredentialStore>,
}

impl Surroundings {
    /// Those of this process: its environment, and `~/.mechanex/config.json`.
    pub fn of_process() -> Self {
        let read = |name| {
            std::env::var(name)
                .ok()
                .filter(|v: &String| !v.trim().is_empty())
        };
        Surroundings {
            key: read(KEY_VARIABLE).map(|key| Secret::new(key.trim())),
            base_url: read(BASE_URL_VARIABLE),
            store: std::env::home_dir()
                .filter(|home| home != Path::new(""))
                .map(|home| CredentialStore::in_home(&home)),
        }
    }
}

impl Credentials {
    /// A key that the caller gives.
    pub fn key(key: impl Into<Secret>) -> Self {
        Credentials {
            key: Some(key.into()),
            origin: Some(KeyOrigin::Argument),
            ..Credentials::default()
        }
    }

    /// Whether there is neither a key nor a session.
    pub fn is_empty(&self) -> bool {
        self.key.is_none() && self.session.is_none()
    }

    /// Finds the key: the argument, else the variable [`KEY_VARIABLE`], else the credentials file. The session always
    /// comes from the file.
    ///
    /// ```
    /// use mx_remote::{Credentials, CredentialStore, KeyOrigin, Surroundings};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let store = CredentialStore::in_home(folder.path());
    /// store.update(|stored| stored.api_key = Some("ax_file".into()))?;
    /// let mut around = Surroundings { store: Some(store), ..Surroundings::default() };
    /// assert_eq!(Credentials::find(None, &around)?.key, Some("ax_file".into()));
    /// around.key = Some("ax_env".into());
    /// assert_eq!(Credentials::find(None, &around)?.key, Some("ax_env".into()));
    /// let found = Credentials::find(Some("ax_arg".into()), &around)?;
    /// assert_eq!((found.key, found.origin), (Some("ax_arg".into()), Some(KeyOrigin::Argument)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when there is a credentials file that cannot be read, and no key from elsewhere.
    pub fn find(argument: Option<Secret>, around: &Surroundings) -> Result<Self> {
        let given = match (argument, &around.key) {
            (Some(key), _) => Some((key, KeyOrigin::Argument)),
            (None, Some(key)) => Some((key.clone(), KeyOrigin::Environment)),
            (None, None) => None,
        };
        let (stored, file_problem) = match around.store.as_ref().map(|s| s.read()) {
            None => (StoredCredentials::default(), None),
            Some(Ok(stored)) => (stored, None),
            Some(Err(problem)) if given.is_some() => (StoredCredentials::default(), Some(problem)),
            Some(Err(problem)) => return Err(problem),
        };
        let of_file = || {
            KeyOrigin::File(
                around
                    .store
                    .as_ref()
                    .map(|s| s.path().into())
                    .unwrap_or_default(),
            )
        };
        let (key, origin) = given
            .or_else(|| Some((stored.api_key.clone()?, of_file())))
            .unzip();
        let session = stored.access_token.map(|access_token| Session {
            access_token,
            refresh_token: stored.refresh_token,
            expires_in: None,
        });
        Ok(Credentials {
            key,
            session,
            origin,
            file_problem,
        })
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
