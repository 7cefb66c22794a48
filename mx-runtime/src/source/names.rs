//! Which names out of listings, manifests and references may become paths.

use super::SourceError;

const MAX_NAME: usize = 128;
const MAX_RELATIVE: usize = 1024;

/// A model's name in the store: one plain path component.
pub(super) fn check_model_name(place: &str, name: &str) -> Result<(), SourceError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME {
        "it is longer than 128 bytes"
    } else if name.starts_with('.') {
        "it begins with a dot"
    } else if !name.bytes().all(allowed) {
        "only letters, digits, '.', '_' and '-' are allowed"
    } else {
        return Ok(());
    };
    Err(SourceError::UnsafeName {
        place: place.into(),
        name: shorten(name),
        reason,
    })
}

/// A file name that stays below the folder it is joined to, on every system.
pub(super) fn check_relative(place: &str, name: &str) -> Result<(), SourceError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_RELATIVE {
        "it is longer than 1024 bytes"
    } else if name.starts_with('/') {
        "it is absolute"
    } else if name.contains(['\\', ':', '\0']) || name.chars().any(char::is_control) {
        "it holds a backslash, a colon or a control character"
    } else if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        "it has an empty, '.' or '..' component"
    } else {
        return Ok(());
    };
    Err(SourceError::UnsafeName {
        place: place.into(),
        name: shorten(name),
        reason,
    })
}

/// The content's name that a hub gives (a hash), or a commit.
pub(super) fn is_plain_id(id: &str) -> bool {
    (1..=MAX_NAME).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric())
}

pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A branch, tag, pull-request reference or commit.
pub(super) fn is_revision(text: &str) -> bool {
    check_relative("", text).is_ok()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'))
}

/// `org/repo` as the hub allows it; "--" separates the parts in the hub's cache and cannot be inside one.
pub(super) fn repo_problem(repo: &str) -> Option<&'static str> {
    let Some((org, name)) = repo.split_once('/') else {
        return Some("a repository is written org/repo");
    };
    for part in [org, name] {
        if check_model_name("", part).is_err() {
            return Some("the parts of org/repo hold only letters, digits, '.', '_' and '-'");
        }
        if part.contains("--") || part.contains("..") {
            return Some("the parts of org/repo hold no \"--\" and no \"..\"");
        }
    }
    None
}

pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_NAME).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "./a",
            "a/.",
            "C:\\x",
            "C:x",
            "a\\b",
            "a\0b",
            "a\nb",
        ] {
            assert!(check_relative("t", bad).is_err(), "{bad:?}");
        }
        assert!(check_relative("t", &"a".repeat(2000)).is_err());
        for good in ["a", "a/b.gguf", "...", "a..b", ".gitattributes", "ü.gguf"] {
            assert!(check_relative("t", good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn names_and_repositories() {
        for bad in ["", ".", "..", ".x", "a/b", "a b", "ü"] {
            assert!(check_model_name("t", bad).is_err(), "{bad:?}");
        }
        for bad in [
            "a", "a/", "/a", "a/b/c", "a--b/c", "a/..", "a/b..c", "a/b c",
        ] {
            assert!(repo_problem(bad).is_some(), "{bad:?}");
        }
        assert_eq!(repo_problem("org/Model-1.5_x"), None);
        assert!(is_revision("refs/pr/1") && !is_revision("../x") && !is_revision("a:b"));
    }
}
