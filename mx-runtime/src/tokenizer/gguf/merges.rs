//! The merges of a vocabulary: as listed, or rebuilt from scores.

use crate::tokenizer::TokenizerLimits;
use crate::tokenizer::error::{TokenizerError, excerpt};
use crate::tokenizer::merges::Merge;
use crate::tokenizer::vocabulary::{Kind, Vocabulary};

/// Merges as the file lists them.
pub(super) fn listed(
    vocabulary: &Vocabulary,
    listed: &[String],
) -> Result<Vec<Merge>, TokenizerError> {
    let mut merges = Vec::with_capacity(listed.len());
    let mut joined = String::new();
    for (index, merge) in listed.iter().enumerate() {
        let (left, right) = split_merge(merge).ok_or_else(|| TokenizerError::BadMerge {
            index,
            merge: excerpt(merge),
            reason: "wanted two pieces with a space between them",
        })?;
        merges.push(resolve_merge(vocabulary, index, left, right, &mut joined)?);
    }
    merges.retain(|merge| vocabulary.kind(merge.id) != Kind::Special);
    Ok(merges)
}

/// The two sides of `left right`. A piece may start with a space, never contain one.
pub(crate) fn split_merge(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let space = first + merge[first..].find(' ')?;
    let (left, right) = (&merge[..space], &merge[space + 1..]);
    (!right.is_empty()).then_some((left, right))
}

/// Looks up the three tokens of a merge. `joined` is a buffer.
pub(crate) fn resolve_merge(
    vocabulary: &Vocabulary,
    index: usize,
    left: &str,
    right: &str,
    joined: &mut String,
) -> Result<Merge, TokenizerError> {
    joined.clear();
    joined.push_str(left);
    joined.push_str(right);
    let find = |text: &str, reason| {
        vocabulary.id(text).ok_or_else(|| TokenizerError::BadMerge {
            index,
            merge: excerpt(&format!("{left} {right}")),
            reason,
        })
    };
    Ok(Merge {
        left: find(left, "the left piece is not in the vocabulary")?,
        right: find(right, "the right piece is not in the vocabulary")?,
        id: find(joined, "the joined piece is not in the vocabulary")?,
    })
}

/// Merges of a vocabulary that only has scores: every way to put a piece together from two others,
/// best score first, then by ids.
pub(super) fn by_score(
    vocabulary: &Vocabulary,
    scores: &[f32],
    limits: &TokenizerLimits,
) -> Result<Vec<Merge>, TokenizerError> {
    let is_piece = |id: &u32| matches!(vocabulary.kind(*id), Kind::Normal | Kind::User);
    let mut pieces: Vec<u32> = (0..vocabulary.len() as u32).filter(is_piece).collect();
    pieces.sort_unstable_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));

    let mut merges: Vec<Merge> = Vec::with_capacity(pieces.len());
    let mut work = 0;
    for same_score in
        pieces.chunk_by(|a, b| scores[*a as usize].total_cmp(&scores[*b as usize]).is_eq())
    {
        let start = merges.len();
        for &id in same_score {
            let text = vocabulary.text(id).unwrap_or_default();
            for (cut, _) in text.char_indices().skip(1) {
                work += text.len();
                let (left, right) = text.split_at(cut);
                if let Some(left) = vocabulary.id(left)
                    && let Some(right) = vocabulary.id(right)
                {
                    merges.push(Merge { left, right, id });
                }
            }
            if work > limits.rebuild_bytes {
                let limit = limits.rebuild_bytes;
                return Err(TokenizerError::limit(
                    "rebuilding merges",
                    work,
                    "rebuild_bytes",
                    limit,
                ));
            }
            if merges.len() > limits.merges {
                let limit = limits.merges;
                return Err(TokenizerError::limit(
                    "merges",
                    merges.len(),
                    "merges",
                    limit,
                ));
            }
        }
        merges[start..].sort_unstable_by_key(|merge| (merge.left, merge.right));
    }
    Ok(merges)
}
