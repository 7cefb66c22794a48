//! Models from a hub: the file list, the choice, the downloads into the hub's cache.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use super::cache::RepoCache;
use super::choose::{Choice, choose, is_weights};
use super::download::{Job, fetch};
use super::hash::Hasher;
use super::http::{Http, shown};
use super::lock::Lock;
use super::names::{check_relative, is_plain_id, is_sha256};
use super::progress::{Silent, during};
use super::reference::MAIN;
use super::store::sync_folder;
use super::{Options, Progress, SourceError};

/// A repository, or one file of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Has passed [`repo_problem`](super::names::repo_problem).
    pub(super) repo: &'a str,
    pub(super) revision: Option<&'a str>,
    pub(super) file: Option<&'a str>,
    /// Length and SHA-256 of the file, known beforehand.
    pub(super) pinned: Option<(u64, &'a str)>,
}

/// A model in the hub's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Whether the weights were hashed just now and compared with what the hub or the catalogue promised.
    pub(super) verified: bool,
}

impl Wanted<'_> {
    fn revision(&self) -> &str {
        self.revision.unwrap_or(MAIN)
    }

    fn place(&self) -> String {
        format!("{}@{}", self.repo, self.revision())
    }
}

/// Looks into the hub's cache, without the network.
pub(super) fn cached(options: &Options, wanted: Wanted<'_>) -> Result<Option<Found>, SourceError> {
    let Some(cache) = &options.hub_cache else {
        return Ok(None);
    };
    let cache = RepoCache::new(cache, wanted.repo);
    let Some((bytes, sha256)) = wanted.pinned else {
        let Some(snapshot) = cache.snapshot(wanted.revision()) else {
            return Ok(None);
        };
        return snapshot.model(&wanted.place(), wanted.file).map(|path| {
            Some(Found {
                path,
                verified: false,
            })
        });
    };
    // A pinned file is the same whatever commit it came with.
    let right = |path: &PathBuf| {
        let named = fs::read_link(path)
            .ok()
            .and_then(|l| l.file_name()?.to_str().map(String::from));
        let other = named.is_some_and(|id| is_sha256(&id) && !id.eq_ignore_ascii_case(sha256));
        !other && fs::metadata(path).is_ok_and(|m| m.len() == bytes)
    };
    let paths = cache
        .snapshots()
        .into_iter()
        .filter_map(|s| s.model("", wanted.file).ok());
    Ok(paths.into_iter().find(right).map(|path| Found {
        path,
        verified: false,
    }))
}

/// Asks the hub and downloads what is missing.
pub(super) fn pull(
    options: &Options,
    wanted: Wanted<'_>,
    progress: &mut dyn Progress,
) -> Result<Found, SourceError> {
    let cache = options
        .hub_cache
        .as_ref()
        .ok_or_else(|| SourceError::BadOption {
            option: "hub_cache",
            given: String::new(),
            wanted: "a folder (HF_HUB_CACHE, HF_HOME or HOME)",
        })?;
    let http = Http::new(options)?;
    let listing = list(&http, options, wanted, progress)?;
    let names: Vec<String> = listing
        .siblings
        .iter()
        .map(|s| s.rfilename.clone())
        .collect();
    let choice = choose(&wanted.place(), &names, wanted.file)?;
    for file in choice.files() {
        check_relative(&wanted.place(), file)?;
    }
    let files: Vec<&Sibling> = choice
        .files()
        .iter()
        .filter_map(|f| listing.siblings.iter().find(|s| s.rfilename == *f))
        .collect();
    let total = files
        .iter()
        .try_fold(0u64, |sum, f| sum.checked_add(f.bytes()?));

    let puller = Puller {
        http: &http,
        options,
        wanted,
        cache: RepoCache::new(cache, wanted.repo),
        commit: &listing.sha,
    };
    puller.cache.prepare()?;
    let what = match &choice {
        Choice::File(file) => format!("{}/{file}", wanted.repo),
        Choice::Folder(_) => wanted.repo.to_string(),
    };
    let verified = during(progress, &what, total, |progress| {
        let (mut before, mut verified) = (0u64, true);
        for file in &files {
            let (bytes, checked) = puller.file(file, before, progress)?;
            before = before.saturating_add(bytes);
            verified &= checked || !is_weights(&file.rfilename);
        }
        Ok::<_, SourceError>(verified)
    })?;
    puller.cache.write_ref(wanted.revision(), &listing.sha)?;
    sync_folder(puller.cache.folder());
    let folder = puller.cache.snapshot_folder(&listing.sha);
    let path = match &choice {
        Choice::File(file) => folder.join(file),
        Choice::Folder(_) => folder,
    };
    Ok(Found { path, verified })
}

#[derive(Debug, Deserialize)]
struct Listing {
    /// The commit.
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default, rename = "blobId")]
    blob_id: Option<String>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    size: Option<u64>,
}

impl Sibling {
    fn bytes(&self) -> Option<u64> {
        self.lfs.as_ref().and_then(|l| l.size).or(self.size)
    }

    fn sha256(&self) -> Option<&str> {
        self.lfs
            .as_ref()?
            .sha256
            .as_deref()
            .filter(|s| is_sha256(s))
    }

    /// The name that the hub's tools give the content: its SHA-256, or git's hash of a small file.
    fn id(&self) -> Option<&str> {
        self.sha256()
            .or_else(|| self.blob_id.as_deref().filter(|id| is_plain_id(id)))
    }
}

fn list(
    http: &Http,
    options: &Options,
    wanted: Wanted<'_>,
    progress: &mut dyn Progress,
) -> Result<Listing, SourceError> {
    let (org, name) = wanted.repo.split_once('/').unwrap_or((wanted.repo, ""));
    let mut url = http.url(&["api", "models", org, name, "revision", wanted.revision()]);
    url.set_query(Some("blobs=true"));
    let limits = &options.limits;
    let body = during(
        progress,
        &format!("asking for {}", wanted.repo),
        None,
        |progress| {
            let response = http.get(&url, 0)?;
            match response.status().as_u16() {
                200 => http.read_short(
                    response,
                    (limits.max_listing_bytes, "max_listing_bytes"),
                    progress,
                ),
                status => Err(SourceError::Status {
                    url: shown(&url),
                    status,
                }),
            }
        },
    )?;
    let bad = |reason: String| SourceError::BadAnswer {
        url: shown(&url),
        reason,
    };
    let listing: Listing =
        serde_json::from_slice(&body).map_err(|e| bad(format!("no list of files: {e}")))?;
    if !is_plain_id(&listing.sha) {
        return Err(bad("its commit is no hash".into()));
    }
    if listing.siblings.len() > limits.max_files {
        let given = listing.siblings.len();
        return Err(SourceError::TooManyFiles {
            what: wanted.place(),
            given,
            limit: limits.max_files,
        });
    }
    Ok(listing)
}

struct Puller<'a> {
    http: &'a Http,
    options: &'a Options,
    wanted: Wanted<'a>,
    cache: RepoCache,
    commit: &'a str,
}

impl Puller<'_> {
    /// Brings one file into the snapshot; its length, and whether it was hashed and compared.
    fn file(
        &self,
        file: &Sibling,
        before: u64,
        progress: &mut dyn Progress,
    ) -> Result<(u64, bool), SourceError> {
        let name = file.rfilename.as_str();
        let size = self.wanted.pinned.map(|(bytes, _)| bytes).or(file.bytes());
        let sha256 = self.wanted.pinned.map(|(_, sha)| sha).or(file.sha256());
        if let (Some((wanted, _)), Some(given)) = (self.wanted.pinned, file.bytes())
            && wanted != given
        {
            return Err(SourceError::SizeMismatch {
                what: name.into(),
                given,
                wanted,
            });
        }
        // A mirror may give no hash; then the address stands for the content until it is here.
        let id = sha256
            .or(file.id())
            .map_or_else(|| self.address_id(name), str::to_ascii_lowercase);
        let _lock = Lock::acquire(&self.cache.lock_file(&id), &mut Silent(progress))?;
        let blob = self.cache.blob(&id);
        if let Ok(meta) = fs::metadata(&blob) {
            if size.is_none_or(|size| size == meta.len()) {
                self.cache.place(self.commit, name, &id)?;
                progress.advance(before.saturating_add(meta.len()));
                return Ok((meta.len(), false));
            }
            fs::remove_file(&blob).map_err(SourceError::io("delete", &blob))?;
        }
        let limits = &self.options.limits;
        let limit = if is_weights(name) {
            (limits.max_file_bytes, "max_file_bytes")
        } else {
            (limits.max_side_file_bytes, "max_side_file_bytes")
        };
        let (org, repo) = self
            .wanted
            .repo
            .split_once('/')
            .unwrap_or((self.wanted.repo, ""));
        let mut segments = vec![org, repo, "resolve", self.commit];
        segments.extend(name.split('/'));
        let part = self.cache.part(&id);
        let job = Job {
            url: self.http.url(&segments),
            part: &part,
            name,
            size,
            sha256,
            limit,
            before,
        };
        let bytes = fetch(self.http, &job, progress)?;
        fs::rename(&part, &blob).map_err(SourceError::io("rename to", &blob))?;
        self.cache.place(self.commit, name, &id)?;
        Ok((bytes, sha256.is_some()))
    }

    fn address_id(&self, name: &str) -> String {
        let mut hasher = Hasher::default();
        hasher.update(self.commit.as_bytes());
        hasher.update(b"/");
        hasher.update(name.as_bytes());
        hasher.finish()
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
