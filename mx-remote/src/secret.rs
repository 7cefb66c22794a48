//! Secrets that do not print, and texts that are cleaned of them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use zeroize::Zeroizing;

/// What stands in a text where a secret stood.
pub const REDACTED: &str = "[secret]";
/// Digits of a key after its prefix.
const KEY_DIGITS: usize = 48;
const KEY_PREFIX: &str = "ax_";
/// Shorter known secrets are not looked for: replacing them would garble ordinary words.
const MIN_KNOWN: usize = 6;
/// Bytes of a foreign text that are looked at.
const MAX_SCANNED: usize = 64 * 1024;
/// Prefixes by which a word in a foreign text is taken for a secret, with the least length of the word.
const MARKS: &[(&str, usize)] = &[
    (KEY_PREFIX, 16),
    ("sk-", 16),
    ("sk_", 16),
    ("hf_", 16),
    ("eyJ", 24),
];

/// A key, token or password. It prints and serialises as `[secret]`; [`expose`](Secret::expose) gives the text. Its
/// memory is overwritten when it is dropped.
///
/// ```
/// let key = mx_remote::Secret::new("ax_0123");
/// assert_eq!(format!("{key} {key:?}"), "[secret] [secret]");
/// assert_eq!(serde_json::to_string(&key)?, r#""[secret]""#);
/// assert_eq!(key.expose(), "ax_0123");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(Zeroizing::new(text.into()))
    }

    /// The text. Whoever asks for it takes care of it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it has the form of a key of the native service: `ax_` and 48 lowercase hexadecimal digits. A masked key
    /// out of a listing has not.
    pub fn is_key(&self) -> bool {
        self.0.strip_prefix(KEY_PREFIX).is_some_and(|digits| {
            digits.len() == KEY_DIGITS
                && digits
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
    }

    /// Whether a header can carry it.
    pub(crate) fn is_sendable(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret::new(text)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// A foreign text on one line, without `known` secrets and whatever looks like one, at most `max` bytes of it.
pub(crate) fn clean(text: &str, known: &[Secret], max: usize) -> String {
    let mut text = cut(text, MAX_SCANNED).to_owned();
    for secret in known.iter().filter(|s| s.expose().len() >= MIN_KNOWN) {
        if text.contains(secret.expose()) {
            text = text.replace(secret.expose(), REDACTED);
        }
    }
    let mut clean = String::with_capacity(text.len().min(max));
    let mut rest = text.as_str();
    let mut after_bearer = false;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if length == 0 {
            clean.push(if first.is_control() { ' ' } else { first });
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, tail) = rest.split_at(length);
        if after_bearer {
            clean.push_str(REDACTED);
        } else {
            let plain = plain_part(word);
            clean.push_str(plain);
            if plain.len() < word.len() {
                clean.push_str(REDACTED);
            }
        }
        after_bearer = word.eq_ignore_ascii_case("bearer");
        rest = tail;
        if clean.len() > max {
            break;
        }
    }
    let kept = cut(&clean, max);
    if kept.len() < clean.len() {
        format!("{kept}…")
    } else {
        clean
    }
}

/// The longest start of a text of at most `max` bytes.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A word up to where a secret seems to begin: at its start, or after a separator in it, as in `key=ax_…`.
fn plain_part(word: &str) -> &str {
    let mut start = 0;
    loop {
        let part = &word[start..];
        if MARKS
            .iter()
            .any(|(mark, least)| part.starts_with(mark) && part.len() >= *least)
        {
            return &word[..start];
        }
        match part.find(['=', '/', '+', '~', '.']) {
            Some(at) => start += at + 1,
            None => return word,
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '/' | '=' | '~')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_never_prints() {
        let secret = Secret::new("hunter22");
        let all = format!(
            "{secret} {secret:?} {:#?} {}",
            Some(&secret),
            serde_json::json!({"k": secret})
        );
        assert!(!all.contains("hunter"), "{all}");
        assert_eq!(
            serde_json::from_str::<Secret>("\"hunter22\"").unwrap(),
            secret
        );
    }

    #[test]
    fn keys_have_a_form() {
        assert!(Secret::new(format!("ax_{}", "0a".repeat(24))).is_key());
        for bad in ["", "ax_", "ax_0A", "ax_12…34"] {
            assert!(!Secret::new(bad).is_key(), "{bad}");
        }
        assert!(!Secret::new(format!("ax_{}", "0A".repeat(24))).is_key());
        assert!(!Secret::new("a\nb").is_sendable());
    }

    #[test]
    fn foreign_texts_are_cleaned() {
        let known = [Secret::new("very secret text"), Secret::new("a")];
        let key = format!("ax_{}", "0a".repeat(24));
        let text = format!("bad key '{key}', a very secret text, Bearer abc.def!\x1b[31m\r\nx");
        assert_eq!(
            clean(&text, &known, 1000),
            "bad key '[secret]', a [secret], Bearer [secret]! [31m  x"
        );
        assert_eq!(
            clean(&format!("/x?key={key}&a=/b/{key}"), &[], 1000),
            "/x?key=[secret]&a=/b/[secret]"
        );
        assert_eq!(clean("äöü", &[], 3), "ä…");
        assert!(clean(&"x ".repeat(1 << 20), &[], 100).len() < 110);
    }
}
