//! Which files of a folder or repository are the model.

use super::SourceError;

/// The files that make up a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// One GGUF file that holds everything.
    File(String),
    /// Safetensors weights with the config and tokenizer files beside them.
    Folder(Vec<String>),
}

/// Names shown in an error at most.
const MAX_SHOWN: usize = 20;

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TOKENIZERS: &[&str] = &["tokenizer.json", "tokenizer.model", "vocab.json"];
const SIDE_FILES: &[&str] = &[
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

impl Choice {
    pub(super) fn files(&self) -> &[String] {
        match self {
            Self::File(file) => std::slice::from_ref(file),
            Self::Folder(files) => files,
        }
    }

    /// Whether a tokenizer is among the files; a GGUF file carries its own.
    pub(super) fn has_tokenizer(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Folder(files) => files.iter().any(|f| TOKENIZERS.contains(&f.as_str())),
        }
    }
}

/// Weights, as against config and tokenizer files.
pub(super) fn is_weights(file: &str) -> bool {
    is_gguf(file) || file.ends_with(".safetensors")
}

/// Picks the model out of `files` (paths relative to `place`). Safetensors win over GGUF unless `wanted` names a file,
/// or a part of a GGUF name between separators, such as `Q4_K_M`.
pub(super) fn choose(
    place: &str,
    files: &[String],
    wanted: Option<&str>,
) -> Result<Choice, SourceError> {
    match wanted {
        Some(wanted) => named(place, files, wanted),
        None => unnamed(place, files),
    }
}

/// At most [`MAX_SHOWN`] names that look like models, or any names when none does.
pub(super) fn shown(files: &[String]) -> Vec<String> {
    let models: Vec<&String> = files.iter().filter(|f| is_weights(f)).collect();
    let names = if models.is_empty() {
        files.iter().collect()
    } else {
        models
    };
    let mut list: Vec<String> = names
        .iter()
        .take(MAX_SHOWN)
        .map(|n| super::names::shorten(n))
        .collect();
    if names.len() > MAX_SHOWN {
        list.push(format!("… ({} more)", names.len() - MAX_SHOWN));
    }
    list
}

fn named(place: &str, files: &[String], wanted: &str) -> Result<Choice, SourceError> {
    let not_a_model = |reason| SourceError::NotAModel {
        place: place.into(),
        reason,
        found: shown(files),
    };
    if files.iter().any(|f| f == wanted) {
        return match () {
            () if !is_gguf(wanted) => Err(not_a_model("only a .gguf file can be named")),
            () if shard(wanted).is_some() => Err(not_a_model(
                "GGUF files split into several are not supported",
            )),
            () => Ok(Choice::File(wanted.into())),
        };
    }
    let tagged: Vec<String> = files
        .iter()
        .filter(|f| is_gguf(f) && shard(f).is_none() && has_tag(f, wanted))
        .cloned()
        .collect();
    match tagged.as_slice() {
        [one] => Ok(Choice::File(one.clone())),
        [] => Err(SourceError::NoSuchFile {
            place: place.into(),
            wanted: wanted.into(),
            found: shown(files),
        }),
        _ => Err(SourceError::Ambiguous {
            place: place.into(),
            files: shown(&tagged),
        }),
    }
}

fn unnamed(place: &str, files: &[String]) -> Result<Choice, SourceError> {
    let not_a_model = |reason| SourceError::NotAModel {
        place: place.into(),
        reason,
        found: shown(files),
    };
    let has = |name: &str| files.iter().any(|f| f == name);
    let top: Vec<String> = files
        .iter()
        .filter(|f| f.ends_with(".safetensors") && !f.contains('/'))
        .cloned()
        .collect();
    let ggufs: Vec<String> = files
        .iter()
        .filter(|f| is_gguf(f) && !is_projector(f))
        .cloned()
        .collect();

    if has(CONFIG) && !top.is_empty() {
        let mut chosen = if has(SINGLE) {
            vec![SINGLE.to_string()]
        } else if has(INDEX) {
            let shards = complete_shards(&top)
                .ok_or_else(|| not_a_model("shards of the weights are missing"))?;
            [vec![INDEX.to_string()], shards].concat()
        } else if let [one] = top.as_slice() {
            vec![one.clone()]
        } else {
            return Err(SourceError::Ambiguous {
                place: place.into(),
                files: shown(&top),
            });
        };
        chosen.extend(
            SIDE_FILES
                .iter()
                .filter(|f| has(f))
                .map(|f| (*f).to_string()),
        );
        return Ok(Choice::Folder(chosen));
    }
    match ggufs.as_slice() {
        [one] if shard(one).is_some() => Err(not_a_model(
            "GGUF files split into several are not supported",
        )),
        [one] => Ok(Choice::File(one.clone())),
        [] if !top.is_empty() => Err(not_a_model("config.json is missing beside the safetensors")),
        [] => Err(not_a_model(
            "there is neither a .gguf file nor config.json with .safetensors files",
        )),
        _ => Err(SourceError::Ambiguous {
            place: place.into(),
            files: shown(&ggufs),
        }),
    }
}

/// Every `…-00001-of-0000N.safetensors` of one set, if none is missing.
fn complete_shards(files: &[String]) -> Option<Vec<String>> {
    let mut shards: Vec<(u32, u32, &String)> = files
        .iter()
        .filter_map(|f| {
            shard(f)
                .filter(|_| f.starts_with("model-"))
                .map(|(i, n)| (i, n, f))
        })
        .collect();
    shards.sort_unstable();
    let count = shards.first()?.1;
    let complete = shards.len() as u64 == u64::from(count)
        && shards
            .iter()
            .zip(1..)
            .all(|(&(i, n, _), wanted)| i == wanted && n == count);
    complete.then(|| shards.into_iter().map(|(_, _, f)| f.clone()).collect())
}

/// `(3, 9)` for `x-00003-of-00009.gguf`.
fn shard(file: &str) -> Option<(u32, u32)> {
    let stem = file.rsplit_once('.')?.0;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (_, index) = rest.rsplit_once('-')?;
    let digits = |t: &str| t.len() == 5 && t.bytes().all(|b| b.is_ascii_digit());
    (digits(index) && digits(count)).then(|| Some((index.parse().ok()?, count.parse().ok()?)))?
}

fn is_gguf(file: &str) -> bool {
    file.len() > 5 && file.as_bytes()[file.len() - 5..].eq_ignore_ascii_case(b".gguf")
}

/// The picture half of a multi-modal model, which cannot speak alone.
fn is_projector(file: &str) -> bool {
    file.rsplit('/')
        .next()
        .unwrap_or(file)
        .to_ascii_lowercase()
        .contains("mmproj")
}

fn has_tag(file: &str, tag: &str) -> bool {
    let (file, tag) = (file.to_ascii_lowercase(), tag.to_ascii_lowercase());
    let stem = file
        .rsplit_once('.')
        .map_or(file.as_str(), |(stem, _)| stem);
    let edge = |c: Option<char>, edges: &[char]| c.is_none_or(|c| edges.contains(&c));
    !tag.is_empty()
        && stem.match_indices(&tag).any(|(at, _)| {
            edge(stem[..at].chars().next_back(), &['-', '.', '_', '/'])
                && edge(stem[at + tag.len()..].chars().next(), &['-', '.', '/'])
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pick(files: &str, wanted: Option<&str>) -> Result<Choice, SourceError> {
        let files: Vec<String> = files.split_whitespace().map(String::from).collect();
        choose("place", &files, wanted)
    }

    fn files(list: &str, wanted: Option<&str>) -> String {
        pick(list, wanted).unwrap().files().join(" ")
    }

    #[test]
    fn the_obvious_model_is_taken() {
        assert_eq!(files("README.md m.gguf", None), "m.gguf");
        assert_eq!(files("m.gguf mmproj-m.gguf", None), "m.gguf");
        assert_eq!(files("sub/M.GGUF", None), "sub/M.GGUF");
        assert_eq!(
            files(
                "m.gguf model.safetensors config.json tokenizer.json x.bin",
                None
            ),
            "model.safetensors config.json tokenizer.json"
        );
        assert_eq!(
            files(
                "model-00002-of-00002.safetensors model-00001-of-00002.safetensors model.safetensors.index.json config.json consolidated.safetensors",
                None
            ),
            "model.safetensors.index.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors config.json"
        );
        assert_eq!(
            files("weights.safetensors config.json", None),
            "weights.safetensors config.json"
        );
    }

    #[test]
    fn a_name_or_a_tag_decides() {
        let list = "m-Q4_K_M.gguf m-Q4_K_S.gguf m-f16.gguf m-bf16.gguf m.Q8_0.gguf";
        assert_eq!(files(list, Some("m-f16.gguf")), "m-f16.gguf");
        assert_eq!(files(list, Some("q4_k_m")), "m-Q4_K_M.gguf");
        assert_eq!(files(list, Some("F16")), "m-f16.gguf");
        assert_eq!(files(list, Some("Q8_0")), "m.Q8_0.gguf");
        assert!(matches!(
            pick(list, Some("Q4_K")),
            Err(SourceError::NoSuchFile { .. })
        ));
        assert!(matches!(
            pick(list, Some("")),
            Err(SourceError::NoSuchFile { .. })
        ));
        assert!(matches!(
            pick("a/m-Q4_0.gguf b/m-Q4_0.gguf", Some("Q4_0")),
            Err(SourceError::Ambiguous { .. })
        ));
    }

    #[test]
    fn what_cannot_be_decided_says_what_is_there() {
        let error = pick("a.gguf b.gguf", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "place holds several models, name one of: a.gguf, b.gguf"
        );
        for (list, wanted) in [
            ("", None),
            ("pytorch_model.bin config.json", None),
            ("model.safetensors", None),
            ("m-00001-of-00002.gguf", None),
            (
                "m-00001-of-00002.gguf m-00002-of-00002.gguf",
                Some("m-00001-of-00002.gguf"),
            ),
            (
                "config.json model.safetensors.index.json model-00001-of-00002.safetensors",
                None,
            ),
            (
                "config.json model.safetensors.index.json model-00001-of-00002.safetensors model-00001-of-00003.safetensors",
                None,
            ),
            ("config.json", Some("config.json")),
        ] {
            assert!(
                matches!(pick(list, wanted), Err(SourceError::NotAModel { .. })),
                "{list} {wanted:?}"
            );
        }
        let many: Vec<String> = (0..1000).map(|i| format!("{i}.gguf")).collect();
        assert!(choose("p", &many, None).unwrap_err().to_string().len() < 500);
    }
}
