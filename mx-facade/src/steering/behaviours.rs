//! Where behaviours are kept: one JSON file each, with the path of its autoencoder.

use crate::error::Error;
use mx_steering::ModelIdentity;
use mx_steering::behaviour::{Behaviour, Sae};
use mx_steering::format::Limits;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// A folder of behaviours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BehaviourStore {
    folder: PathBuf,
}

/// A behaviour as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptBehaviour {
    /// The behaviour.
    pub behaviour: Behaviour,
    /// The folder of its autoencoder, in SAELens' form.
    pub sae: PathBuf,
    /// The model it was made for.
    #[serde(default)]
    pub model: ModelIdentity,
}

impl KeptBehaviour {
    /// Reads its autoencoder.
    ///
    /// # Errors
    /// [`Error::SteeringFile`].
    pub fn sae(&self) -> Result<Sae, Error> {
        let mut sae = Sae::load(&self.sae, &Limits::default())?;
        sae.point = Some(self.behaviour.point);
        Ok(sae)
    }
}

impl BehaviourStore {
    /// A store in this folder, which is made when something is kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        BehaviourStore {
            folder: folder.into(),
        }
    }

    /// The behaviour of this name.
    ///
    /// # Errors
    /// [`Error::Request`] for a name that is not there or a file that is none of ours.
    pub fn get(&self, name: &str) -> Result<KeptBehaviour, Error> {
        let path = self.path(name)?;
        let size = std::fs::metadata(&path).map(|data| data.len());
        match size {
            Err(_) => {
                let names = self.names().join(", ");
                let wanted = match names.is_empty() {
                    true => "one made before with mx steer behavior make".to_owned(),
                    false => format!("one of {names}"),
                };
                Err(Error::request("behavior", name, wanted))
            }
            Ok(size) if size > MAX_BYTES => {
                let wanted = format!("a file of at most {MAX_BYTES} bytes");
                Err(Error::request("behavior", path.display(), wanted))
            }
            Ok(_) => {
                let bytes = std::fs::read(&path).map_err(|error| unusable(&path, &error))?;
                serde_json::from_slice(&bytes).map_err(|error| unusable(&path, &error))
            }
        }
    }

    /// Keeps a behaviour under its name, in place of one that had it.
    ///
    /// # Errors
    /// [`Error::Request`] for a name that cannot be a file's, or a folder that cannot be written.
    pub fn put(&self, kept: &KeptBehaviour) -> Result<(), Error> {
        let path = self.path(&kept.behaviour.name)?;
        let text = serde_json::to_string(kept).map_err(|error| unusable(&path, &error))?;
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&self.folder)?;
            // Beside its place and renamed there: no one ever sees half of it.
            let beside =
                self.folder
                    .join(format!(".{}.{}", kept.behaviour.name, std::process::id()));
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)
        };
        write().map_err(|error| unusable(&path, &error))
    }

    /// Forgets a behaviour.
    ///
    /// # Errors
    /// As [`get`](BehaviourStore::get).
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        self.get(name)?;
        let path = self.path(name)?;
        std::fs::remove_file(&path).map_err(|error| unusable(&path, &error))
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let name = name.strip_suffix(".json")?;
                (!name.starts_with('.')).then(|| name.to_owned())
            })
            .collect();
        names.sort_unstable();
        names
    }

    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fits = (1..=100).contains(&name.len()) && name.chars().all(allowed);
        if !fits || name.starts_with('.') {
            let wanted = "1 to 100 letters, digits, - _ or ., not beginning with a dot";
            let given: String = name.chars().take(100).collect();
            return Err(Error::request("behavior", given, wanted));
        }
        Ok(self.folder.join(format!("{name}.json")))
    }
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    let wanted = format!("a behaviour's file that can be used: {error}");
    Error::request("behavior", path.display(), wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use mx_steering::Site;

    #[test]
    fn kept_listed_and_deleted() {
        let folder = std::env::temp_dir().join(format!("mx-behaviours-{}", std::process::id()));
        let store = BehaviourStore::new(&folder);
        assert!(store.names().is_empty());
        assert!(store.get("nothing").is_err());
        let kept = KeptBehaviour {
            behaviour: Behaviour {
                name: "rude".to_owned(),
                description: String::new(),
                point: Site::ResidPre.at(1),
                baseline: [(0, 1.0)].into(),
                features: 2,
                direction: vec![1.0],
                steering_vector_id: None,
                pairs: 1,
            },
            sae: "somewhere".into(),
            model: ModelIdentity::default(),
        };
        store.put(&kept).unwrap();
        assert_eq!(
            (store.names(), store.get("rude").unwrap()),
            (vec!["rude".to_owned()], kept.clone())
        );
        assert!(kept.sae().is_err());
        std::fs::write(folder.join("broken.json"), "{").unwrap();
        assert!(store.get("broken").is_err());
        for wrong in ["", "../rude", ".rude", "a/b", &"x".repeat(101)] {
            assert!(
                store.get(wrong).is_err() && store.delete(wrong).is_err(),
                "{wrong}"
            );
        }
        store.delete("rude").unwrap();
        assert_eq!(store.names(), ["broken"]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
