//! The hub's own cache on disk, which other tools share: `models--org--repo/{blobs,refs,snapshots}`.

use std::fs;
use std::path::{Path, PathBuf};

use super::SourceError;
use super::choose::{Choice, choose, is_weights};
use super::manifest::write_whole;
use super::names::{check_relative, is_plain_id, is_revision, repo_problem};
use super::reference::MAIN;
use super::store::{Removed, folder_bytes, remove_tree};

/// Deeper folders of a snapshot are not looked into.
const MAX_DEPTH: usize = 4;
/// Files of a snapshot that are looked at.
const MAX_FILES: usize = 10_000;
const MAX_REF_BYTES: u64 = 256;
const PREFIX: &str = "models--";

/// A model in the hub's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedModel {
    /// `org/repo`.
    pub repo: String,
    /// What a loader opens: a GGUF file or the snapshot's folder.
    pub path: PathBuf,
    /// Bytes of the repository's folder, every snapshot counted.
    pub bytes: u64,
}

/// Every model of the main branch in a hub's cache that could be loaded: each GGUF file, or the folder of safetensors.
/// A cache that does not exist is empty.
///
/// # Errors
/// The folder exists and cannot be listed.
pub fn cached_models(cache: &Path) -> Result<Vec<CachedModel>, SourceError> {
    let entries = match fs::read_dir(cache) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(SourceError::io("list", cache)(e)),
    };
    let mut models = Vec::new();
    for name in entries
        .filter_map(Result::ok)
        .filter_map(|e| e.file_name().into_string().ok())
    {
        let Some(repo) = name.strip_prefix(PREFIX).map(|r| r.replacen("--", "/", 1)) else {
            continue;
        };
        if repo_problem(&repo).is_some() {
            continue;
        }
        let place = RepoCache::new(cache, &repo);
        let Some(snapshot) = place.snapshot(MAIN) else {
            continue;
        };
        let files = snapshot.files();
        let bytes = folder_bytes(&place.folder);
        let mut add = |path| {
            models.push(CachedModel {
                repo: repo.clone(),
                path,
                bytes,
            })
        };
        if let Ok(choice) = choose(&repo, &files, None) {
            add(snapshot.path_of(&choice));
        } else {
            for file in &files {
                if let Ok(choice @ Choice::File(_)) = choose(&repo, &files, Some(file)) {
                    add(snapshot.path_of(&choice));
                }
            }
        }
    }
    models.sort_by(|a, b| (&a.repo, &a.path).cmp(&(&b.repo, &b.path)));
    Ok(models)
}

/// Deletes a repository from a hub's cache, with every snapshot of it. `None` when it is not there.
///
/// # Errors
/// `repo` is not `org/repo`, or the system refuses.
pub fn remove_cached(cache: &Path, repo: &str) -> Result<Option<Removed>, SourceError> {
    if let Some(reason) = repo_problem(repo) {
        return Err(SourceError::BadReference {
            given: super::names::shorten(repo),
            reason,
        });
    }
    let place = RepoCache::new(cache, repo);
    if !place.folder.exists() {
        return Ok(None);
    }
    let bytes = folder_bytes(&place.folder);
    remove_tree(&place.folder)?;
    remove_tree(&place.locks)?;
    Ok(Some(Removed {
        name: repo.into(),
        bytes,
        kept: None,
    }))
}

/// The folder of one repository.
#[derive(Debug)]
pub(super) struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
}

/// One commit of a repository, as far as it is on disk.
#[derive(Debug)]
pub(super) struct Snapshot {
    folder: PathBuf,
}

impl RepoCache {
    /// `repo` has passed [`repo_problem`].
    pub(super) fn new(cache: &Path, repo: &str) -> Self {
        let name = format!("{PREFIX}{}", repo.replace('/', "--"));
        Self {
            folder: cache.join(&name),
            locks: cache.join(".locks").join(name),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The snapshot that a branch, tag or commit means, without asking anybody.
    pub(super) fn snapshot(&self, revision: &str) -> Option<Snapshot> {
        if !is_revision(revision) {
            return None;
        }
        let commit = self
            .read_ref(revision)
            .unwrap_or_else(|| revision.to_string());
        let folder = self.folder.join("snapshots").join(&commit);
        (is_plain_id(&commit) && folder.is_dir()).then_some(Snapshot { folder })
    }

    /// Every snapshot, newest first.
    pub(super) fn snapshots(&self) -> Vec<Snapshot> {
        let entries = fs::read_dir(self.folder.join("snapshots"))
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        let mut all: Vec<_> = entries
            .map(|e| (e.metadata().and_then(|m| m.modified()).ok(), e.path()))
            .collect();
        all.sort_by(|a, b| b.cmp(a));
        all.into_iter()
            .filter(|(_, p)| p.is_dir())
            .map(|(_, folder)| Snapshot { folder })
            .collect()
    }

    /// The finished file of this content.
    pub(super) fn blob(&self, id: &str) -> PathBuf {
        self.folder.join("blobs").join(id)
    }

    /// The unfinished one.
    pub(super) fn part(&self, id: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{id}.incomplete"))
    }

    pub(super) fn lock_file(&self, id: &str) -> PathBuf {
        self.locks.join(format!("{id}.lock"))
    }

    pub(super) fn prepare(&self) -> Result<(), SourceError> {
        for part in ["blobs", "refs", "snapshots"] {
            let folder = self.folder.join(part);
            fs::create_dir_all(&folder).map_err(SourceError::io("create", &folder))?;
        }
        Ok(())
    }

    /// Puts a blob under its name into a snapshot: a relative link as the hub's tools make it, a copy where the system
    /// has no links.
    pub(super) fn place(&self, commit: &str, file: &str, id: &str) -> Result<PathBuf, SourceError> {
        check_relative("the repository", file)?;
        let target = self.folder.join("snapshots").join(commit).join(file);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(SourceError::io("create", parent))?;
        }
        let up = "../".repeat(file.matches('/').count() + 2);
        let link = PathBuf::from(format!("{up}blobs/{id}"));
        if fs::read_link(&target).is_ok_and(|old| old == link) && target.exists() {
            return Ok(target);
        }
        let temporary = target.with_extension(format!("{}.tmp", std::process::id()));
        let _ = fs::remove_file(&temporary);
        if symlink(&link, &temporary).is_err() {
            let blob = self.blob(id);
            let linked =
                fs::hard_link(&blob, &temporary).or_else(|_| fs::copy(&blob, &temporary).map(drop));
            linked.map_err(SourceError::io("copy to", &temporary))?;
        }
        fs::rename(&temporary, &target).map_err(SourceError::io("rename to", &target))?;
        Ok(target)
    }

    pub(super) fn snapshot_folder(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Notes which commit a branch means.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), SourceError> {
        if revision == commit
            || !is_revision(revision)
            || self.read_ref(revision).as_deref() == Some(commit)
        {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(SourceError::io("create", parent))?;
        }
        write_whole(&path, commit.as_bytes())
    }

    fn read_ref(&self, revision: &str) -> Option<String> {
        let path = self.folder.join("refs").join(revision);
        let meta = fs::metadata(&path).ok()?;
        if !meta.is_file() || meta.len() > MAX_REF_BYTES {
            return None;
        }
        let commit = fs::read_to_string(&path).ok()?;
        Some(commit.trim().to_string()).filter(|c| is_plain_id(c))
    }
}

impl Snapshot {
    /// The files that are really there (a link to a missing blob is not), relative to the snapshot, sorted.
    pub(super) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![(self.folder.clone(), String::new(), 0)];
        while let Some((folder, prefix, depth)) = waiting.pop() {
            for entry in fs::read_dir(&folder)
                .into_iter()
                .flatten()
                .filter_map(Result::ok)
            {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let (path, name) = (entry.path(), format!("{prefix}{name}"));
                match fs::metadata(&path) {
                    Ok(meta) if meta.is_file() && found.len() < MAX_FILES => found.push(name),
                    // Links to folders are not followed: they could go in circles.
                    Ok(meta) if meta.is_dir() && depth < MAX_DEPTH && !path.is_symlink() => {
                        waiting.push((path, name + "/", depth + 1));
                    }
                    _ => {}
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// The model, if everything it needs is here.
    pub(super) fn model(&self, place: &str, wanted: Option<&str>) -> Result<PathBuf, SourceError> {
        let files = self.files();
        let choice = choose(place, &files, wanted)?;
        if !choice.has_tokenizer() {
            let found = files.iter().filter(|f| is_weights(f)).cloned().collect();
            return Err(SourceError::NotAModel {
                place: place.into(),
                reason: "its tokenizer is not in the cache",
                found,
            });
        }
        Ok(self.path_of(&choice))
    }

    pub(super) fn path_of(&self, choice: &Choice) -> PathBuf {
        match choice {
            Choice::File(file) => self.folder.join(file),
            Choice::Folder(_) => self.folder.clone(),
        }
    }
}

#[cfg(unix)]
fn symlink(to: &Path, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn symlink(_to: &Path, _at: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    fn fill(cache: &Path, repo: &str, files: &[&str]) -> RepoCache {
        let place = RepoCache::new(cache, repo);
        place.prepare().unwrap();
        for file in files {
            let id = format!("{:040x}", file.len());
            fs::write(place.blob(&id), file).unwrap();
            place.place(COMMIT, file, &id).unwrap();
        }
        place.write_ref("main", COMMIT).unwrap();
        place
    }

    #[test]
    fn layout_of_the_hubs_tools() {
        let cache = tempfile::tempdir().unwrap();
        let place = fill(cache.path(), "org/repo", &["sub/m.gguf"]);
        let root = cache.path().join("models--org--repo");
        assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
        let file = root.join("snapshots").join(COMMIT).join("sub/m.gguf");
        assert_eq!(fs::read_to_string(&file).unwrap(), "sub/m.gguf");
        #[cfg(unix)]
        assert_eq!(
            fs::read_link(&file).unwrap(),
            Path::new(&format!("../../../blobs/{:040x}", 10))
        );
        assert_eq!(
            place.snapshot("main").unwrap().model("p", None).unwrap(),
            file
        );
        assert_eq!(
            place.snapshot(COMMIT).unwrap().model("p", None).unwrap(),
            file
        );
        assert!(place.snapshot("other").is_none());
        assert!(place.snapshot("../snapshots").is_none());
    }

    #[test]
    fn an_incomplete_snapshot_is_no_model() {
        let cache = tempfile::tempdir().unwrap();
        let place = fill(
            cache.path(),
            "org/repo",
            &["config.json", "model.safetensors"],
        );
        assert!(
            place.snapshot("main").unwrap().model("p", None).is_err(),
            "no tokenizer"
        );
        let place = fill(cache.path(), "org/repo", &["tokenizer.json"]);
        assert!(place.snapshot("main").unwrap().model("p", None).is_ok());
        fs::remove_file(place.blob(&format!("{:040x}", "model.safetensors".len()))).unwrap();
        assert!(
            place.snapshot("main").unwrap().model("p", None).is_err(),
            "a link without its blob"
        );
    }

    #[test]
    fn hostile_refs_are_ignored() {
        let cache = tempfile::tempdir().unwrap();
        let place = fill(cache.path(), "org/repo", &["m.gguf"]);
        let main = place.folder.join("refs/main");
        for text in ["../../..", "", "/etc", &"a".repeat(1000)] {
            fs::write(&main, text).unwrap();
            assert!(place.snapshot("main").is_none(), "{text:?}");
        }
    }

    #[test]
    fn listed_and_removed() {
        let cache = tempfile::tempdir().unwrap();
        assert!(
            cached_models(&cache.path().join("none"))
                .unwrap()
                .is_empty()
        );
        fill(cache.path(), "org/b", &["one.gguf", "three.gguf"]);
        fill(cache.path(), "org/a", &["one.gguf"]);
        fill(cache.path(), "org/text", &["README.md"]);
        fs::create_dir(cache.path().join("models--..--x")).unwrap();
        let list = cached_models(cache.path()).unwrap();
        assert_eq!(
            list.iter().map(|m| m.repo.as_str()).collect::<Vec<_>>(),
            ["org/a", "org/b", "org/b"]
        );
        assert!(list[0].bytes > 0 && list[0].path.ends_with("one.gguf"));
        assert!(remove_cached(cache.path(), "org/a").unwrap().unwrap().bytes > 0);
        assert_eq!(remove_cached(cache.path(), "org/a").unwrap(), None);
        assert!(remove_cached(cache.path(), "../x").is_err());
        assert_eq!(cached_models(cache.path()).unwrap().len(), 2);
    }
}
