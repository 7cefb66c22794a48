//! The credentials of one client while it runs.

use super::{CredentialStore, Credentials, Session, StoredCredentials};
use crate::error::{Error, Result};
use crate::http::{Ask, Auth};
use crate::secret::Secret;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use std::sync::{Mutex, MutexGuard, PoisonError};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// How a server wants its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// The native service: exactly one of key and session, by the path.
    Native { anonymous: bool },
    /// `Authorization: Bearer`, if there is a key.
    Bearer,
}

#[derive(Debug)]
struct State {
    key: Option<Secret>,
    session: Option<Session>,
    store_problem: Option<Error>,
}

/// The credentials of one client while it runs.
#[derive(Debug)]
pub(crate) struct Keyring {
    style: Style,
    state: Mutex<State>,
    store: Option<CredentialStore>,
    /// Held while the session is renewed.
    pub(crate) refreshing: tokio::sync::Mutex<()>,
}

/// The credential of one request.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) header: HeaderName,
    pub(crate) value: HeaderValue,
    /// Set when it is the session that is used.
    pub(crate) session_token: Option<Secret>,
}

impl Keyring {
    /// For the native service. `anonymous` lets requests go out without any credential.
    pub(crate) fn native(
        credentials: Credentials,
        store: Option<CredentialStore>,
        anonymous: bool,
    ) -> Result<Self> {
        let tokens = credentials.session.iter().map(|s| &s.access_token);
        check(credentials.key.iter().chain(tokens))?;
        let Credentials { key, session, .. } = credentials;
        Ok(Keyring::new(
            Style::Native { anonymous },
            key,
            session,
            store,
        ))
    }

    /// For servers that speak OpenAI's protocol.
    pub(crate) fn bearer(key: Option<Secret>) -> Self {
        Keyring::new(Style::Bearer, key, None, None)
    }

    fn new(
        style: Style,
        key: Option<Secret>,
        session: Option<Session>,
        store: Option<CredentialStore>,
    ) -> Self {
        Keyring {
            style,
            state: Mutex::new(State {
                key,
                session,
                store_problem: None,
            }),
            store,
            refreshing: tokio::sync::Mutex::new(()),
        }
    }

    /// The credential for a request.
    pub(crate) fn pick(&self, ask: &Ask) -> Result<Option<Picked>> {
        let state = self.state();
        let session = state.session.as_ref().map(|s| &s.access_token);
        let key = state.key.as_ref();
        let bearer = |token: &Secret, session_token| {
            Ok(Some(Picked {
                header: AUTHORIZATION,
                value: header(&format!("Bearer {}", token.expose()))?,
                session_token,
            }))
        };
        match (self.style, ask.auth) {
            (_, Auth::None) => Ok(None),
            (Style::Bearer, _) => key.map_or(Ok(None), |key| bearer(key, None)),
            (Style::Native { anonymous }, auth) => {
                let session_first = auth == Auth::Account;
                match (key, session) {
                    (key, Some(token)) if session_first || key.is_none() => {
                        bearer(token, Some(token.clone()))
                    }
                    (Some(key), _) => Ok(Some(Picked {
                        header: API_KEY,
                        value: header(key.expose())?,
                        session_token: None,
                    })),
                    _ if anonymous => Ok(None),
                    _ => Err(Error::MissingCredentials {
                        path: ask.shown_path(),
                    }),
                }
            }
        }
    }

    /// Every secret there is, to be cleaned out of texts.
    pub(crate) fn known(&self) -> Vec<Secret> {
        let state = self.state();
        let session = state.session.iter();
        let tokens = session.flat_map(|s| std::iter::once(&s.access_token).chain(&s.refresh_token));
        state.key.iter().chain(tokens).cloned().collect()
    }

    pub(crate) fn has_any(&self) -> bool {
        let state = self.state();
        state.key.is_some() || state.session.is_some()
    }

    pub(crate) fn can_refresh(&self) -> bool {
        self.state()
            .session
            .as_ref()
            .is_some_and(|s| s.refresh_token.is_some())
    }

    pub(crate) fn refresh_token(&self) -> Option<Secret> {
        self.state().session.as_ref()?.refresh_token.clone()
    }

    /// What the file holds.
    pub(crate) fn stored(&self) -> Result<Option<StoredCredentials>> {
        self.store.as_ref().map(CredentialStore::read).transpose()
    }

    /// The refresh token, unless the session is no longer the one of `refused`.
    pub(crate) fn refresh_token_after(&self, refused: &Secret) -> Option<Secret> {
        let state = self.state();
        let session = state.session.as_ref()?;
        (session.access_token == *refused).then(|| session.refresh_token.clone())?
    }

    /// Takes a session, and keeps it in the file. A refresh token stays when the new session brings none.
    pub(crate) fn set_session(&self, mut session: Session) {
        let mut state = self.state();
        if session.refresh_token.is_none() {
            session.refresh_token = state.session.as_ref().and_then(|s| s.refresh_token.clone());
        }
        state.session = Some(session.clone());
        self.save(&mut state, |stored| {
            stored.access_token = Some(session.access_token);
            stored.refresh_token = session.refresh_token;
        });
    }

    /// Takes a key, and keeps it in the file.
    pub(crate) fn set_key(&self, key: Secret, persist: bool) -> Result<()> {
        check([&key])?;
        let mut state = self.state();
        state.key = Some(key.clone());
        if persist {
            self.save(&mut state, |stored| stored.api_key = Some(key));
        }
        Ok(())
    }

    /// Forgets everything, and deletes the file.
    pub(crate) fn clear(&self) -> Result<()> {
        let mut state = self.state();
        (state.key, state.session) = (None, None);
        self.store.as_ref().map_or(Ok(()), CredentialStore::delete)
    }

    /// Why the file could not be written, if it could not; told once.
    pub(crate) fn take_store_problem(&self) -> Option<Error> {
        self.state().store_problem.take()
    }

    fn save(&self, state: &mut State, change: impl FnOnce(&mut StoredCredentials)) {
        if let Some(store) = &self.store {
            // The call itself has succeeded; the caller learns of this apart.
            state.store_problem = store.update(change).err();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn check<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Result<()> {
    if secrets.into_iter().all(Secret::is_sendable) {
        return Ok(());
    }
    Err(Error::BadOption {
        option: "key",
        given: crate::secret::REDACTED.into(),
        wanted: "visible ASCII characters",
    })
}

fn header(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::BadOption {
        option: "key",
        given: crate::secret::REDACTED.into(),
        wanted: "visible ASCII characters",
    })?;
    value.set_sensitive(true);
    Ok(value)
}
