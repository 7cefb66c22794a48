//! From tokens to bytes: the alphabets of the two kinds of vocabulary, and the start of a text.

use super::Tokenizer;
use super::error::TokenizerError;

/// The character that stands for a space in SentencePiece vocabularies.
pub(crate) const SPACE_MARK: char = '\u{2581}';

/// What becomes of a space at the start of a decoded text.
///
/// SentencePiece vocabularies of the Llama kind put a space before the first word when they encode
/// and take it away when they decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeadingSpace {
    /// It stays.
    Keep,
    /// Up to this many are dropped.
    Drop(usize),
    /// All spaces of the first token are dropped.
    DropInFirstToken,
}

/// Turns the bytes of tokens into the bytes of a text: only the start needs a state.
#[derive(Debug, Clone)]
pub(crate) struct Bytes {
    rule: LeadingSpace,
}

impl Bytes {
    pub(crate) fn new(rule: LeadingSpace) -> Self {
        Self { rule }
    }

    /// What the next token adds to the text.
    pub(crate) fn next<'a>(&mut self, token: Option<&'a [u8]>) -> impl Iterator<Item = u8> + 'a {
        let bytes = token.unwrap_or_default();
        let mut skip = 0;
        let mut drop_spaces = false;
        match self.rule {
            LeadingSpace::Drop(count) if !bytes.is_empty() => {
                skip = bytes
                    .iter()
                    .take(count)
                    .take_while(|byte| **byte == b' ')
                    .count();
                self.rule = match skip == bytes.len() {
                    true => LeadingSpace::Drop(count - skip),
                    false => LeadingSpace::Keep,
                };
            }
            LeadingSpace::DropInFirstToken if token.is_some() => {
                drop_spaces = true;
                self.rule = LeadingSpace::Keep;
            }
            _ => {}
        }
        bytes[skip..]
            .iter()
            .copied()
            .filter(move |byte| !(drop_spaces && *byte == b' '))
    }
}

/// The bytes of a token, or none if it is skipped or stands for nothing.
pub(crate) fn contribution<T: Tokenizer + ?Sized>(
    tokenizer: &T,
    id: u32,
    skip_special: bool,
) -> Result<Option<&[u8]>, TokenizerError> {
    let vocab_size = tokenizer.vocab_size();
    if id as usize >= vocab_size {
        return Err(TokenizerError::UnknownId { id, vocab_size });
    }
    if skip_special && tokenizer.is_special(id) {
        return Ok(None);
    }
    Ok(tokenizer.token_bytes(id))
}

/// The alphabet in which byte-level vocabularies write bytes: one printable character per byte.
pub(crate) struct ByteAlphabet {
    bytes: [Option<u8>; ByteAlphabet::CHARACTERS],
}

impl ByteAlphabet {
    /// 256 bytes, of which 68 are moved to the characters from U+0100 on.
    const CHARACTERS: usize = 0x100 + 68;

    pub(crate) fn new() -> Self {
        let mut bytes = [None; Self::CHARACTERS];
        let mut moved = 0x100;
        for byte in 0..=u8::MAX {
            let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
            if printable {
                bytes[usize::from(byte)] = Some(byte);
            } else {
                bytes[moved] = Some(byte);
                moved += 1;
            }
        }
        Self { bytes }
    }

    /// The bytes that a piece stands for: those of the text itself if it is not in this alphabet.
    pub(crate) fn decode(&self, piece: &str) -> Vec<u8> {
        let byte = |c: char| self.bytes.get(c as usize).copied().flatten();
        piece
            .chars()
            .map(byte)
            .collect::<Option<_>>()
            .unwrap_or_else(|| piece.into())
    }
}

/// The byte that a piece of the form `<0xNN>` stands for.
pub(crate) fn byte_piece(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| hexadecimal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_alphabet_covers_every_byte_once() {
        let alphabet = ByteAlphabet::new();
        let mut bytes: Vec<u8> = alphabet.bytes.iter().copied().flatten().collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(alphabet.decode("ĠcafÃ©Ċ"), " café\n".as_bytes());
        assert_eq!(alphabet.decode("a b"), b"a b");
        assert_eq!(alphabet.decode("日"), "日".as_bytes());
    }

    #[test]
    fn byte_pieces() {
        assert_eq!(byte_piece("<0x0A>"), Some(10));
        assert_eq!(byte_piece("<0xff>"), Some(255));
        for other in ["<0x+1>", "<0xA>", "<0x0A", "0x0A", "<0x0AB>", ""] {
            assert_eq!(byte_piece(other), None, "{other}");
        }
    }

    fn text(rule: LeadingSpace, tokens: &[&str]) -> String {
        let mut bytes = Bytes::new(rule);
        let text = tokens
            .iter()
            .flat_map(|t| bytes.next(Some(t.as_bytes())).collect::<Vec<_>>());
        String::from_utf8(text.collect()).unwrap()
    }

    #[test]
    fn spaces_at_the_start() {
        assert_eq!(text(LeadingSpace::Keep, &["  a"]), "  a");
        assert_eq!(text(LeadingSpace::Drop(1), &["  a", " b"]), " a b");
        assert_eq!(text(LeadingSpace::Drop(1), &["", " a"]), "a");
        assert_eq!(text(LeadingSpace::Drop(2), &[" ", "  a"]), " a");
        assert_eq!(text(LeadingSpace::Drop(1), &["a", " b"]), "a b");
        assert_eq!(text(LeadingSpace::DropInFirstToken, &["  ", " b"]), " b");
    }
}
