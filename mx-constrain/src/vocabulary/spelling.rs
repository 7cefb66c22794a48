//! From the way a tokenizer file spells its tokens to their bytes.

/// The bytes of a token of a byte-level BPE tokenizer (GPT-2 and most of its successors), whose files spell every byte
/// as a printable character: `Ġthe` is ` the`.
///
/// `None` when a character stands for no byte: such a token is not spelled this way and is usually a special one.
///
/// ```
/// use mx_constrain::byte_level_bytes;
///
/// assert_eq!(byte_level_bytes("Ġthe"), Some(b" the".to_vec()));
/// assert_eq!(byte_level_bytes("Ċ"), Some(b"\n".to_vec()));
/// assert_eq!(byte_level_bytes("日"), None);
/// ```
#[must_use]
pub fn byte_level_bytes(token: &str) -> Option<Vec<u8>> {
    token.chars().map(byte_of).collect()
}

/// Bytes that stand for themselves in byte-level spelling; the others are numbered from U+0100 on.
const fn stands_for_itself(byte: u32) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    if code < 0x100 {
        return stands_for_itself(code).then_some(code as u8);
    }
    let wanted = code - 0x100;
    let nth = (0u32..0x100)
        .filter(|&byte| !stands_for_itself(byte))
        .nth(wanted as usize)?;
    u8::try_from(nth).ok()
}

/// The bytes of a token of a sentencepiece tokenizer with byte fallback (Llama 2, Gemma), whose files write spaces as
/// U+2581 and single bytes as `<0x0A>`.
///
/// ```
/// use mx_constrain::sentencepiece_bytes;
///
/// assert_eq!(sentencepiece_bytes("\u{2581}the"), b" the");
/// assert_eq!(sentencepiece_bytes("<0x0A>"), b"\n");
/// ```
#[must_use]
pub fn sentencepiece_bytes(token: &str) -> Vec<u8> {
    let hex = token
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    let hex = hex.filter(|hex| hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => vec![byte],
        None => token.replace('\u{2581}', " ").into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_level_spelling_reaches_every_byte() {
        let mut bytes: Vec<u8> = (0..0x200)
            .filter_map(char::from_u32)
            .filter_map(byte_of)
            .collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(byte_level_bytes("Ã¤"), Some("ä".as_bytes().to_vec()));
    }

    #[test]
    fn only_two_digits_are_a_byte() {
        assert_eq!(sentencepiece_bytes("<0xFF>"), [0xff]);
        assert_eq!(sentencepiece_bytes("<0xFFF>"), b"<0xFFF>");
        assert_eq!(sentencepiece_bytes("<0x+1>"), b"<0x+1>");
    }
}
