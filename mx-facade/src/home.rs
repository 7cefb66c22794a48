//! The folders of the program.

use etcetera::BaseStrategy;
use std::path::PathBuf;

/// Where models and settings of this user live: `MX_HOME` if set, else `mx` in the system's folder for application
/// data (`$XDG_DATA_HOME` or `~/.local/share` on Linux). `None` where there is no home folder.
pub fn data_dir(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(home) = env("MX_HOME").filter(|home| !home.is_empty()) {
        return Some(PathBuf::from(home));
    }
    etcetera::choose_base_strategy()
        .ok()
        .map(|dirs| dirs.data_dir().join("mx"))
}

/// The folder of installed models below [`data_dir`].
pub fn models_dir(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    data_dir(env).map(|dir| dir.join("models"))
}

/// The folder of policies below [`data_dir`].
pub fn policies_dir(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    data_dir(env).map(|dir| dir.join("policies"))
}

/// The folder of behaviours below [`data_dir`].
pub fn behaviours_dir(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    data_dir(env).map(|dir| dir.join("behaviors"))
}

/// The folder of steering vectors below [`data_dir`].
pub fn vectors_dir(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    data_dir(env).map(|dir| dir.join("vectors"))
}
