//! The account: login, session, keys.

use super::Axionic;
use crate::call::Call;
use crate::credentials::{Session, StoredCredentials};
use crate::error::{Error, Result};
use crate::http::{Ask, Auth, Conn, Repeat, segment};
use crate::secret::Secret;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A person's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountUser {
    /// Its id.
    pub id: String,
    /// Its address.
    pub email: String,
    /// Whatever else the service says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The answer to a login or a registration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AuthAnswer {
    /// Whose account it is.
    pub user: AccountUser,
    /// The session; none while an account waits for its approval.
    #[serde(default)]
    pub session: Option<Session>,
}

/// A key of the account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ApiKeyItem {
    /// Its id, by which it is deleted.
    pub id: String,
    /// The key, whole or masked.
    pub key: Secret,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// When it was made.
    #[serde(default)]
    pub created_at: Option<String>,
    /// When it was used last.
    #[serde(default)]
    pub last_used: Option<String>,
    /// The model chosen for it.
    #[serde(default)]
    pub selected_model: Option<String>,
}

/// What a login brought.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoggedIn {
    /// Whose account it is.
    pub user: AccountUser,
    /// The account's keys.
    pub keys: Vec<ApiKeyItem>,
    /// The key that the client now uses: the account's only one. With several, choose one and give it to
    /// [`Axionic::set_key`].
    pub key: Option<Secret>,
}

#[derive(Deserialize)]
struct CreatedKey {
    api_key: Secret,
}

#[derive(Deserialize)]
struct Balance {
    balance: Amount,
}

/// Amounts of money travel as numbers, or as texts where the server is careful with them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(f64),
    Text(String),
}

impl Axionic {
    /// Logs in: `POST /auth/login`. The client uses the session from then on, and keeps it in its credentials file.
    pub fn log_in(&self, email: &str, password: &Secret) -> Call<AuthAnswer> {
        let ask = auth("login", email, password);
        Call::one(&self.net, ask, |conn, ask| async move {
            session(&conn, &ask).await
        })
    }

    /// Logs in and looks for the key: with one key that can be read, the client uses it and keeps it in its credentials
    /// file.
    pub fn log_in_and_find_key(&self, email: &str, password: &Secret) -> Call<LoggedIn> {
        let ask = auth("login", email, password);
        Call::many(&self.net, |conn| async move {
            let user = session(&conn, &ask?).await?.user;
            let keys: Vec<ApiKeyItem> = conn.json(&keys()).await?;
            let key = match keys.as_slice() {
                [only] if only.key.is_key() => Some(only.key.clone()),
                _ => None,
            };
            if let Some(key) = &key {
                conn.net.keys.set_key(key.clone(), true)?;
            }
            Ok(LoggedIn { user, keys, key })
        })
    }

    /// Registers an account: `POST /auth/signup`.
    pub fn sign_up(&self, email: &str, password: &Secret) -> Call<AuthAnswer> {
        let ask = auth("signup", email, password);
        Call::one(&self.net, ask, |conn, ask| async move {
            session(&conn, &ask).await
        })
    }

    /// Registers an account, logs in and makes a key, which the client uses from then on and keeps in its credentials
    /// file.
    ///
    /// # Errors
    ///
    /// [`Error::Authentication`] when the account is registered, but must be approved before anyone can log in.
    pub fn sign_up_and_create_key(
        &self,
        email: &str,
        password: &Secret,
        key_name: &str,
    ) -> Call<Secret> {
        let (sign_up, log_in) = (
            auth("signup", email, password),
            auth("login", email, password),
        );
        let create = create_key(Some(key_name));
        Call::many(&self.net, |conn| async move {
            if session(&conn, &sign_up?).await?.session.is_none() {
                let log_in = log_in?;
                // A fresh account may need a moment.
                if session(&conn, &log_in).await.is_err() {
                    session(&conn, &log_in).await?;
                }
            }
            let CreatedKey { api_key } = conn.json(&create?).await?;
            conn.net.keys.set_key(api_key.clone(), true)?;
            Ok(api_key)
        })
    }

    /// Renews the session: `POST /auth/refresh`. The client does so by itself when a session is refused.
    pub fn refresh_session(&self) -> Call<()> {
        Call::many(&self.net, |conn| async move {
            let path = "/auth/refresh".to_owned();
            let token = conn
                .net
                .keys
                .refresh_token()
                .ok_or(Error::MissingCredentials { path })?;
            match session(&conn, &refresh(&token)?).await?.session {
                Some(_) => Ok(()),
                None => Err(Error::bad_answer(conn.net.base.as_str(), "no new session")),
            }
        })
    }

    /// Forgets key and session, and takes them out of the credentials file. The service is not told.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the file cannot be deleted.
    pub fn log_out(&self) -> Result<()> {
        self.net.keys.clear()
    }

    /// Whose account it is: `GET /auth/whoami`.
    pub fn who_am_i(&self) -> Call<AccountUser> {
        self.json(Ok(Ask::get(&["auth", "whoami"]).with_auth(Auth::Account)))
    }

    /// The account's keys: `GET /auth/api-keys`.
    pub fn keys(&self) -> Call<Vec<ApiKeyItem>> {
        self.json(Ok(keys()))
    }

    /// Makes a key: `POST /auth/api-keys`. The service shows it this once. The client goes on with the key it has.
    pub fn create_key(&self, name: Option<&str>) -> Call<Secret> {
        Call::one(&self.net, create_key(name), |conn, ask| async move {
            conn.json::<CreatedKey>(&ask)
                .await
                .map(|answer| answer.api_key)
        })
    }

    /// Deletes a key: `DELETE /auth/api-keys/{id}`.
    pub fn delete_key(&self, key_id: &str) -> Call<()> {
        let ask = segment("api_key_id", key_id).map(|id| {
            Ask::new(Method::DELETE, &["auth", "api-keys", id], Repeat::Safe)
                .with_auth(Auth::Account)
        });
        self.done(ask)
    }

    /// Whether the service accepts the client's key (or session, where there is no key), in its own words:
    /// `GET /auth/verify-key`.
    pub fn verify_key(&self) -> Call<Value> {
        let ask = Ask::get(&["auth", "verify-key"]);
        Call::one(&self.net, Ok(ask), |conn, ask| async move {
            conn.any(&ask).await
        })
    }

    /// The account's balance in US dollars: `GET /auth/api-keys/balance`.
    pub fn balance(&self) -> Call<f64> {
        let ask = Ask::get(&["auth", "api-keys", "balance"]).with_auth(Auth::Account);
        Call::one(&self.net, Ok(ask), |conn, ask| async move {
            let balance = match conn.json::<Balance>(&ask).await?.balance {
                Amount::Number(number) => Some(number),
                Amount::Text(text) => text.trim().parse().ok(),
            };
            balance.ok_or_else(|| {
                Error::bad_answer(conn.net.base.as_str(), "a balance that is no number")
            })
        })
    }

    /// What the client's credentials file holds, if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the file cannot be read.
    pub fn stored_credentials(&self) -> Result<Option<StoredCredentials>> {
        self.net.keys.stored()
    }
}

/// The request that renews a session. Secrets serialise as placeholders, so its body is made by hand.
pub(crate) fn refresh(token: &Secret) -> Result<Ask> {
    let body = json!({"refresh_token": token.expose()});
    Ok(Ask::post(&["auth", "refresh"], &body)?.with_auth(Auth::None))
}

fn auth(path: &str, email: &str, password: &Secret) -> Result<Ask> {
    let body = json!({"email": email, "password": password.expose()});
    Ok(Ask::post(&["auth", path], &body)?.with_auth(Auth::None))
}

fn keys() -> Ask {
    Ask::get(&["auth", "api-keys"]).with_auth(Auth::Account)
}

fn create_key(name: Option<&str>) -> Result<Ask> {
    Ok(Ask::post(&["auth", "api-keys"], &json!({"name": name}))?.with_auth(Auth::Account))
}

/// Sends a request that may bring a session, and takes it.
async fn session(conn: &Conn, ask: &Ask) -> Result<AuthAnswer> {
    let answer: AuthAnswer = conn.json(ask).await?;
    if let Some(session) = &answer.session {
        crate::credentials::check_tokens([&session.access_token])?;
        conn.net.keys.set_session(session.clone());
    }
    Ok(answer)
}
