//! Reader of ECMA-262 patterns, as JSON Schema's `pattern` uses them.
//!
//! The pattern is read with the meaning of the `u` flag (a character is a code point), and as tolerantly as browsers
//! read patterns without it where that is unambiguous: `\-` and `\_` are the characters, `{` and `]` may stand alone,
//! `[\w-.]` holds a hyphen. Beyond ECMA-262, `(?i)` at the start of a group, `(?P<name>…)` and the anchors `\A`, `\Z`
//! and `\z` are read as in Python, because schemas in the wild use them. Groups do not capture, so lazy and greedy
//! quantifiers mean the same.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use super::node::{Look, Node};
use crate::ConstrainError;

/// Reads a pattern whose groups nest at most `nesting` deep.
///
/// # Errors
/// [`ConstrainError::Pattern`] with the position of what cannot be read or is not regular.
pub(super) fn parse(pattern: &str, nesting: usize) -> Result<Node, ConstrainError> {
    let mut parser = Parser {
        text: pattern,
        at: 0,
        depth: 0,
        ahead: false,
        nesting,
        flags: Flags::default(),
    };
    let node = parser.disjunction()?;
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(parser.refuse("unmatched `)`")),
    }
}

/// Bytes that the counts of a quantifier may take: two numbers of 32 bits, with zeros in front.
const LONGEST_COUNTS: usize = 64;

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    ignore_case: bool,
    dot_all: bool,
    multi_line: bool,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// Whether the place is inside a look-ahead.
    ahead: bool,
    nesting: usize,
    flags: Flags,
}

/// One member of a bracketed class: a character that may begin a range, or a set.
enum Member {
    Char(u32),
    Set(ClassUnicode),
}

impl Parser<'_> {
    fn refuse(&self, reason: impl Into<String>) -> ConstrainError {
        ConstrainError::Pattern {
            pattern: self.text.to_owned(),
            position: self.at,
            reason: reason.into(),
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn disjunction(&mut self) -> Result<Node, ConstrainError> {
        self.depth += 1;
        if self.depth > self.nesting {
            return Err(ConstrainError::Limit {
                limit: "max_nesting",
                max: self.nesting as u64,
            });
        }
        let flags = self.flags;
        let mut branches = vec![self.alternative()?];
        while self.eat("|") {
            branches.push(self.alternative()?);
        }
        self.flags = flags;
        self.depth -= 1;
        Ok(match branches.len() {
            1 => branches.swap_remove(0),
            _ => Node::Alternation(branches),
        })
    }

    fn alternative(&mut self) -> Result<Node, ConstrainError> {
        let mut parts = Vec::new();
        while let Some(c) = self.peek() {
            if matches!(c, '|' | ')') {
                break;
            }
            let atom = self.atom()?;
            parts.push(self.quantified(atom)?);
        }
        Ok(match parts.len() {
            0 => Node::Empty,
            1 => parts.swap_remove(0),
            _ => Node::Concat(parts),
        })
    }

    fn quantified(&mut self, atom: Node) -> Result<Node, ConstrainError> {
        let (min, max) = if self.eat("*") {
            (0, None)
        } else if self.eat("+") {
            (1, None)
        } else if self.eat("?") {
            (0, Some(1))
        } else {
            match self.braces()? {
                Some(bounds) => bounds,
                None => return Ok(atom),
            }
        };
        if !self.eat("?") && self.peek() == Some('+') {
            return Err(self.refuse("possessive quantifiers are not part of ECMA-262"));
        }
        Ok(Node::Repeat {
            min,
            max,
            of: Box::new(atom),
        })
    }

    /// Reads `{n}`, `{n,}` or `{n,m}` and leaves the place behind it; anything else is text.
    fn braces(&mut self) -> Result<Option<(u32, Option<u32>)>, ConstrainError> {
        let Some(behind) = self.rest().strip_prefix('{') else {
            return Ok(None);
        };
        let Some(end) = behind
            .bytes()
            .take(LONGEST_COUNTS)
            .position(|byte| byte == b'}')
        else {
            return Ok(None);
        };
        let inside = &behind[..end];
        let (low, high) = match inside.split_once(',') {
            None => (inside, Some(inside)),
            Some((low, "")) => (low, None),
            Some((low, high)) => (low, Some(high)),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(low) || !high.is_none_or(digits) {
            return Ok(None);
        }
        let length = inside.len() + 2;
        let count = |text: &str| {
            text.parse::<u32>()
                .map_err(|_| self.refuse("this count is too large"))
        };
        let min = count(low)?;
        let max = high.map(count).transpose()?;
        if max.is_some_and(|max| max < min) {
            return Err(self.refuse("the counts of a quantifier are out of order"));
        }
        self.at += length;
        Ok(Some((min, max)))
    }

    fn atom(&mut self) -> Result<Node, ConstrainError> {
        let start = self.at;
        let Some(c) = self.next() else {
            return Ok(Node::Empty);
        };
        Ok(match c {
            '^' if self.flags.multi_line => Node::Look(Look::LineStart),
            '^' => Node::Look(Look::Start),
            '$' if self.flags.multi_line => Node::Look(Look::LineEnd),
            '$' => Node::Look(Look::End),
            '.' if self.flags.dot_all => Node::any(),
            '.' => {
                let mut class = set(&[('\n', '\n'), ('\r', '\r'), ('\u{2028}', '\u{2029}')]);
                class.negate();
                Node::Class(class)
            }
            '(' => self.group()?,
            '[' => Node::Class(self.class()?),
            '\\' => self.escape()?,
            '*' | '+' | '?' => {
                self.at = start;
                return Err(self.refuse("nothing to repeat"));
            }
            c => self.folded(one(c)),
        })
    }

    /// The class with the other cases of its characters where case is ignored.
    fn folded(&self, mut class: ClassUnicode) -> Node {
        if self.flags.ignore_case {
            // Fails only without Unicode tables, which this crate always has.
            let _ = class.try_case_fold_simple();
        }
        Node::Class(class)
    }

    fn group(&mut self) -> Result<Node, ConstrainError> {
        let outer = self.flags;
        let node = if self.rest().starts_with("?=") || self.rest().starts_with("?!") {
            if self.ahead {
                return Err(self.refuse("look-ahead inside look-ahead is not supported"));
            }
            let negative = self.rest().starts_with("?!");
            self.at += 2;
            self.ahead = true;
            let of = Box::new(self.disjunction()?);
            self.ahead = false;
            Node::Ahead { negative, of }
        } else if self.rest().starts_with("?<=") || self.rest().starts_with("?<!") {
            return Err(self.refuse("look-behind is not supported"));
        } else if self.eat("?<") || self.eat("?P<") {
            let name = self
                .rest()
                .find('>')
                .ok_or_else(|| self.refuse("the name of a group wants `>`"))?;
            self.at += name + 1;
            self.disjunction()?
        } else if self.eat("?:") {
            self.disjunction()?
        } else if self.eat("?") {
            if self.modifiers()? {
                // The flags hold to the end of the group that this stands in.
                return Ok(Node::Empty);
            }
            self.disjunction()?
        } else {
            self.disjunction()?
        };
        self.flags = outer;
        match self.eat(")") {
            true => Ok(node),
            false => Err(self.refuse("a group wants `)`")),
        }
    }

    /// Reads `ims-ims` and then `)` (true) or `:` (false).
    fn modifiers(&mut self) -> Result<bool, ConstrainError> {
        let mut on = true;
        loop {
            match self.peek() {
                Some('i') => self.flags.ignore_case = on,
                Some('m') => self.flags.multi_line = on,
                Some('s') => self.flags.dot_all = on,
                Some('u') => {}
                Some('-') if on => on = false,
                Some(')') => {
                    self.at += 1;
                    return Ok(true);
                }
                Some(':') => {
                    self.at += 1;
                    return Ok(false);
                }
                _ => return Err(self.refuse("this kind of group is not supported")),
            }
            self.at += 1;
        }
    }

    fn escape(&mut self) -> Result<Node, ConstrainError> {
        let start = self.at;
        let Some(c) = self.peek() else {
            return Err(self.refuse("`\\` at the end"));
        };
        let look = match c {
            'b' => Some(Look::Word),
            'B' => Some(Look::NotWord),
            'A' => Some(Look::Start),
            'Z' | 'z' => Some(Look::End),
            '1'..='9' => return Err(self.refuse("back-references are not regular")),
            'k' if self.rest().starts_with("k<") => {
                return Err(self.refuse("back-references are not regular"));
            }
            _ => None,
        };
        if let Some(look) = look {
            self.at += 1;
            return Ok(Node::Look(look));
        }
        match self.escaped()? {
            Member::Set(class) => Ok(self.folded(class)),
            Member::Char(code) => match char::from_u32(code) {
                Some(c) => Ok(self.folded(one(c))),
                None => {
                    self.at = start;
                    Err(self.refuse("half of a surrogate pair is no character"))
                }
            },
        }
    }

    /// Reads what stands behind a backslash, in and out of brackets.
    fn escaped(&mut self) -> Result<Member, ConstrainError> {
        let start = self.at;
        let Some(c) = self.next() else {
            return Err(self.refuse("`\\` at the end"));
        };
        let control = |c: char| Ok(Member::Char(u32::from(c)));
        match c {
            't' => control('\t'),
            'n' => control('\n'),
            'v' => control('\u{b}'),
            'f' => control('\u{c}'),
            'r' => control('\r'),
            '0' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => control('\0'),
            'd' => Ok(Member::Set(digits())),
            'D' => Ok(Member::Set(negated(digits()))),
            'w' => Ok(Member::Set(words())),
            'W' => Ok(Member::Set(negated(words()))),
            's' => Ok(Member::Set(spaces())),
            'S' => Ok(Member::Set(negated(spaces()))),
            'p' | 'P' => self.property(start),
            'c' => match self.next() {
                Some(letter) if letter.is_ascii_alphabetic() => {
                    Ok(Member::Char(u32::from(letter) % 32))
                }
                _ => Err(self.refuse("`\\c` wants a letter")),
            },
            'x' => Ok(Member::Char(self.hex(2)?)),
            'u' => self.unicode(),
            c if c.is_ascii_alphanumeric() => {
                self.at = start;
                Err(self.refuse(format!("unknown escape `\\{c}`")))
            }
            c => Ok(Member::Char(u32::from(c))),
        }
    }

    fn hex(&mut self, length: usize) -> Result<u32, ConstrainError> {
        let digits = self
            .rest()
            .get(..length)
            .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|text| u32::from_str_radix(text, 16).ok()) {
            Some(value) => {
                self.at += length;
                Ok(value)
            }
            None => Err(self.refuse(format!("{length} hexadecimal digits are wanted"))),
        }
    }

    fn unicode(&mut self) -> Result<Member, ConstrainError> {
        if self.eat("{") {
            let end = self
                .rest()
                .find('}')
                .ok_or_else(|| self.refuse("`\\u{` wants `}`"))?;
            let code = u32::from_str_radix(&self.rest()[..end], 16)
                .ok()
                .filter(|&code| code <= 0x10_ffff);
            let code = code.ok_or_else(|| self.refuse("a code point up to 10ffff is wanted"))?;
            self.at += end + 1;
            return Ok(Member::Char(code));
        }
        let high = self.hex(4)?;
        let back = self.at;
        if (0xd800..0xdc00).contains(&high) && self.eat("\\u") {
            if let Ok(low @ 0xdc00..0xe000) = self.hex(4) {
                return Ok(Member::Char(
                    0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00),
                ));
            }
            self.at = back;
        }
        Ok(Member::Char(high))
    }

    /// Reads `\p{…}`, `\P{…}` or the one-letter form; the tables are those of `regex-syntax`.
    fn property(&mut self, start: usize) -> Result<Member, ConstrainError> {
        let length = match self.rest().starts_with('{') {
            true => self.rest().find('}').map(|end| end + 1),
            false => self.peek().map(char::len_utf8),
        };
        let Some(length) = length else {
            return Err(self.refuse("`\\p` wants a property in braces"));
        };
        self.at += length;
        let source = format!("\\{}", &self.text[start..self.at]);
        let parsed = regex_syntax::parse(&source).ok();
        match parsed.map(|hir| hir.into_kind()) {
            Some(HirKind::Class(Class::Unicode(class))) => Ok(Member::Set(class)),
            _ => {
                self.at = start;
                Err(self.refuse(format!("unknown property {source}")))
            }
        }
    }

    /// Reads a bracketed class, behind its `[`.
    fn class(&mut self) -> Result<ClassUnicode, ConstrainError> {
        let negative = self.eat("^");
        let mut class = ClassUnicode::empty();
        loop {
            if self.eat("]") {
                break;
            }
            let low = self.member()?;
            let ranged = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            let Member::Char(low_code) = low else {
                self.join(&mut class, low)?;
                continue;
            };
            if !ranged {
                self.join(&mut class, low)?;
                continue;
            }
            self.at += 1;
            match self.member()? {
                Member::Char(high) if high < low_code => {
                    return Err(self.refuse("the ends of a range are out of order"));
                }
                Member::Char(high) => push_codes(&mut class, low_code, high),
                set => {
                    self.join(&mut class, low)?;
                    self.join(&mut class, Member::Char(u32::from('-')))?;
                    self.join(&mut class, set)?;
                }
            }
        }
        if self.flags.ignore_case {
            let _ = class.try_case_fold_simple();
        }
        if negative {
            class.negate();
        }
        Ok(class)
    }

    fn join(&self, class: &mut ClassUnicode, member: Member) -> Result<(), ConstrainError> {
        match member {
            Member::Set(set) => class.union(&set),
            Member::Char(code) => match char::from_u32(code) {
                Some(c) => class.push(ClassUnicodeRange::new(c, c)),
                None => return Err(self.refuse("half of a surrogate pair is no character")),
            },
        }
        Ok(())
    }

    fn member(&mut self) -> Result<Member, ConstrainError> {
        match self.next() {
            None => Err(self.refuse("a class wants `]`")),
            Some('\\') if self.eat("b") => Ok(Member::Char(8)),
            Some('\\') => self.escaped(),
            Some(c) => Ok(Member::Char(u32::from(c))),
        }
    }
}

fn one(c: char) -> ClassUnicode {
    ClassUnicode::new([ClassUnicodeRange::new(c, c)])
}

fn set(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(
        ranges
            .iter()
            .map(|&(low, high)| ClassUnicodeRange::new(low, high)),
    )
}

fn negated(mut class: ClassUnicode) -> ClassUnicode {
    class.negate();
    class
}

fn digits() -> ClassUnicode {
    set(&[('0', '9')])
}

fn words() -> ClassUnicode {
    set(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')])
}

fn spaces() -> ClassUnicode {
    set(&[
        ('\t', '\r'),
        (' ', ' '),
        ('\u{a0}', '\u{a0}'),
        ('\u{1680}', '\u{1680}'),
        ('\u{2000}', '\u{200a}'),
        ('\u{2028}', '\u{2029}'),
        ('\u{202f}', '\u{202f}'),
        ('\u{205f}', '\u{205f}'),
        ('\u{3000}', '\u{3000}'),
        ('\u{feff}', '\u{feff}'),
    ])
}

/// Adds the characters between two code points; surrogates are no characters.
fn push_codes(class: &mut ClassUnicode, low: u32, high: u32) {
    let low = match low {
        0xd800..=0xdfff => 0xe000,
        low => low,
    };
    let high = match high {
        0xd800..=0xdfff => 0xd7ff,
        high => high,
    };
    if let (Some(low), Some(high)) = (char::from_u32(low), char::from_u32(high))
        && low <= high
    {
        class.push(ClassUnicodeRange::new(low, high));
    }
}
