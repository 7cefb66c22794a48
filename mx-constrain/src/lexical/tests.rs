//! Automata against regex-automata and against lists of texts.

use regex_automata::meta::Regex;

use super::{DEAD, Dfa, RegexMode, RegexSyntax};
use crate::machine::Plain;
use crate::testing::Random;
use crate::{ByteSet, ConstrainError, Limits};

fn dfa(pattern: &str, syntax: RegexSyntax, mode: RegexMode) -> Dfa {
    Dfa::from_regex(pattern, syntax, mode, &Limits::default()).unwrap()
}

fn accepts(dfa: &mut Dfa, text: &str) -> bool {
    let mut state = dfa.start();
    for byte in text.bytes() {
        state = dfa.next(state, byte).unwrap();
    }
    dfa.accepting(state)
}

/// `pattern` as ECMA-262 and what it accepts and refuses as a search.
fn check(pattern: &str, yes: &[&str], no: &[&str]) {
    let mut dfa = dfa(pattern, RegexSyntax::Ecma262, RegexMode::Search);
    for text in yes {
        assert!(accepts(&mut dfa, text), "{pattern} refuses {text:?}");
    }
    for text in no {
        assert!(!accepts(&mut dfa, text), "{pattern} accepts {text:?}");
    }
}

#[test]
fn ecma_patterns_mean_what_they_say() {
    check("a", &["a", "bab", "日a"], &["", "b"]);
    check("^a$", &["a"], &["", "aa", "ba", "a\n"]);
    check("^(a|b)*c{2,3}$", &["cc", "abaccc"], &["c", "abcccc"]);
    check("^\\d+$", &["0123"], &["٣", "a", ""]);
    check("^\\w$", &["_", "Z"], &["ä", "-"]);
    check("^\\W$", &["ä", "-"], &["_", "Z"]);
    check(
        "^\\s$",
        &[" ", "\u{a0}", "\u{feff}", "\u{2028}"],
        &["x", "\u{200b}"],
    );
    check("^\\S+$", &["ab"], &["a b", "\u{2003}"]);
    check("^.$", &["a", "日", "💣"], &["\n", "\r", "\u{2028}", "ab"]);
    check("^[^a]$", &["b", "\n"], &["a", ""]);
    check("^[]$", &[], &["", "a"]);
    check("^[^]$", &["a", "\n"], &[""]);
    check("^\\u0061\\x62\\u{63}\\cJ$", &["abc\n"], &["abcj"]);
    check("^\\ud83d\\udca3$", &["💣"], &["\u{fffd}"]);
    check("^\\p{Letter}+$", &["abcäöß日本"], &["1", ""]);
    check("^\\p{Lu}\\P{Lu}$", &["Ab", "Ä1"], &["AB", "a"]);
    check("^\\p{Script=Greek}$", &["π"], &["p"]);
    check(
        "^(?<year>\\d{4})-(?:0?)[1-9]$",
        &["2024-7", "2024-07"],
        &["2024-0"],
    );
    check("^a??b+?c*?$", &["b", "abbcc"], &["a", "c"]);
    check("^a{,2}$", &["a{,2}"], &["", "a", "aa"]);
    check("^a{2$", &["a{2"], &["aa"]);
    check("^[\\w-.]+$", &["a-b.c"], &["a b"]);
    check("^[a\\-z]+$", &["a-z"], &["b"]);
    check("^[\\b]$", &["\u{8}"], &["b"]);
    check("^\\-\\_\\/\\.\\:\\@\\\"$", &["-_/.:@\""], &["x"]);
    check("(?i)^straße$", &["STRAßE", "straße"], &["strasse"]);
    check("^(?i:a)b$", &["ab", "Ab"], &["aB", "AB"]);
    check("^a|b$", &["ax", "xb", "a", "b"], &["xa", "bx"]);
    check("(^|,)a($|,)", &["a", "x,a", "a,b", "x,a,b"], &["xa", "ax"]);
    check("^$", &[""], &["a", "\n"]);
    check("", &["", "x"], &[]);
    check("a$|^b", &["xa", "bx"], &["ax", "xb"]);
    check("$^", &[""], &["a"]);
    check("a^", &[], &["a", "aa", ""]);
    check(
        "\\bfoo\\b",
        &["foo", "a foo.", "foo-bar"],
        &["food", "afoo", "_foo"],
    );
    check("^\\Bx", &[], &["x", "xa"]);
    check("a\\Bb", &["ab"], &["a b"]);
    check("(?m)^b$", &["a\nb", "b", "b\nc"], &["ab", "a\nbc"]);
    check("\\A[a-c]+\\Z", &["abc"], &["abcd"]);
}

#[test]
fn look_ahead_is_exact() {
    check(
        "^(?!foo)[a-z]+$",
        &["bar", "fob", "fo"],
        &["foo", "food", ""],
    );
    check(
        "^(?=.*\\d)(?=.*[a-z]).{4,}$",
        &["abc1", "1xxx", "x  1"],
        &["abcd", "1234", "a1"],
    );
    check("^(?:(?!ab).)*$", &["", "ba", "a b"], &["ab", "xaby"]);
    check("a(?=b)", &["ab", "xab"], &["a", "ac"]);
    check("a(?!b)", &["a", "aba", "ac"], &["ab"]);
    check("^(?!.*\\.$)[a-z.]+$", &["a.b", "ab"], &["ab.", "."]);
    check("^(?!)$", &[], &["", "a"]);
    check("^(?=)a$", &["a"], &[""]);
    check("^(?!a$)a+$", &["aa", "aaa"], &["a"]);
    check("^((?=a)a|(?!a)b)+$", &["ab", "bba"], &["c", ""]);
    check("(?!a)a", &[], &["a", "aa"]);
}

#[test]
fn what_is_not_regular_is_refused_with_its_place() {
    let refusals = [
        ("(a)\\1", 4, "back-references"),
        ("(?<n>a)\\k<n>", 8, "back-references"),
        ("(?<=a)b", 1, "look-behind"),
        ("a**", 2, "nothing to repeat"),
        ("(ab", 3, "wants `)`"),
        ("ab)", 2, "unmatched"),
        ("[z-a]", 4, "out of order"),
        ("a{3,2}", 1, "out of order"),
        ("[a", 2, "wants `]`"),
        ("\\", 1, "at the end"),
        ("\\q", 1, "unknown escape"),
        ("\\u{110000}", 3, "10ffff"),
        ("\\ud800", 1, "surrogate"),
        ("\\p{Nope}", 1, "unknown property"),
        ("a++", 2, "possessive"),
        ("(?=(?!a))", 4, "inside look-ahead"),
        ("x{99999999999}", 1, "too large"),
    ];
    for (pattern, at, reason) in refusals {
        match Dfa::from_regex(
            pattern,
            RegexSyntax::Ecma262,
            RegexMode::Full,
            &Limits::default(),
        ) {
            Err(ConstrainError::Pattern {
                position,
                reason: given,
                ..
            }) => {
                assert!(given.contains(reason), "{pattern}: {given}");
                assert_eq!(position, at, "{pattern}: {given}");
            }
            other => panic!("{pattern}: {:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn hostile_patterns_meet_a_limit_and_not_the_end_of_patience() {
    let deep = "(".repeat(100_000);
    let braces = "{".repeat(100_000);
    let nested = format!("{}a{}", "(".repeat(300), "){1,9}".repeat(300));
    for (pattern, wanted) in [
        ("(a|a)*{1000}", None),
        ("((a{1000}){1000}){1000}", Some("max_nfa_states")),
        ("((((){1000}){1000}){1000}){1000}", Some("max_nfa_states")),
        ("(\\p{L}{1000}){1000}", Some("max_nfa_states")),
        (deep.as_str(), Some("max_nesting")),
        (nested.as_str(), Some("max_nesting")),
        (braces.as_str(), None),
    ] {
        for mode in [RegexMode::Full, RegexMode::Search] {
            let made = Dfa::from_regex(pattern, RegexSyntax::Ecma262, mode, &Limits::default());
            let head = &pattern[..pattern.len().min(40)];
            match (made, wanted) {
                (Err(ConstrainError::Limit { limit, .. }), Some(wanted)) => {
                    assert_eq!(limit, wanted, "{head}")
                }
                (made, None) => {
                    assert!(!matches!(made, Err(ConstrainError::Limit { .. })), "{head}")
                }
                (made, Some(_)) => panic!("{head}: {:?}", made.map(|_| ())),
            }
        }
    }
    // Exponentially many states: the limit stops the reader, not the compiler.
    let limits = Limits {
        max_dfa_states: 500,
        ..Limits::default()
    };
    let mut dfa =
        Dfa::from_regex("a.{30}c", RegexSyntax::Ecma262, RegexMode::Search, &limits).unwrap();
    let mut random = Random::new(5);
    let mut state = dfa.start();
    let stopped = (0..10_000).find_map(|_| match dfa.next(state, *random.pick(b"ab")) {
        Ok(next) => {
            state = next;
            None
        }
        Err(error) => Some(error),
    });
    assert_eq!(
        stopped,
        Some(ConstrainError::Limit {
            limit: "max_dfa_states",
            max: 500
        })
    );
}

/// A random pattern that both syntaxes read alike.
fn random_pattern(random: &mut Random, depth: usize) -> String {
    let atoms = [
        "a", "b", "[ab]", "[^a]", "ä", "[a-c]", "日", "(?:)", "[^日b]", "\\.", "c",
    ];
    let mut pattern = String::new();
    for _ in 0..1 + random.below(3) {
        let atom = match random.below(if depth == 0 { 1 } else { 3 }) {
            0 => (*random.pick(&atoms)).to_owned(),
            1 => format!("(?:{})", random_pattern(random, depth - 1)),
            _ => format!(
                "(?:{}|{})",
                random_pattern(random, depth - 1),
                random_pattern(random, depth - 1)
            ),
        };
        pattern += &atom;
        pattern +=
            *random.pick::<&str>(&["", "", "", "*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}"]);
    }
    match random.below(8) {
        0 => format!("^{pattern}"),
        1 => format!("{pattern}$"),
        2 => format!("(?-u:\\b){pattern}"),
        _ => pattern,
    }
}

fn random_text(random: &mut Random, length: usize) -> String {
    (0..length)
        .map(|_| *random.pick(&["a", "b", "c", "ä", "日", ".", "\n"]))
        .collect()
}

#[test]
fn random_patterns_agree_with_regex_automata() {
    let mut random = Random::new(77);
    let mut members = 0;
    for _ in 0..400 {
        let pattern = random_pattern(&mut random, 2);
        let full = Regex::new(&format!("^(?:{pattern})$")).unwrap();
        let search = Regex::new(&pattern).unwrap();
        let mut full_dfa = dfa(&pattern, RegexSyntax::Rust, RegexMode::Full);
        let mut search_dfa = dfa(&pattern, RegexSyntax::Rust, RegexMode::Search);
        let mut not_dfa = dfa(&pattern, RegexSyntax::Rust, RegexMode::Full)
            .not(&Limits::default())
            .unwrap();
        for _ in 0..40 {
            let length = random.below(7);
            let text = random_text(&mut random, length);
            let wanted = full.is_match(&text);
            members += usize::from(wanted);
            assert_eq!(
                accepts(&mut full_dfa, &text),
                wanted,
                "full {pattern} on {text:?}"
            );
            assert_eq!(
                accepts(&mut search_dfa, &text),
                search.is_match(&text),
                "search {pattern} on {text:?}"
            );
            assert_eq!(
                accepts(&mut not_dfa, &text),
                !wanted,
                "not {pattern} on {text:?}"
            );
        }
        completions_are_members(&mut full_dfa, &full, &mut random, &pattern);
        completions_are_members(&mut search_dfa, &search, &mut random, &pattern);
    }
    assert!(
        members > 500,
        "texts that match are met often enough: {members}"
    );
}

/// Walks over live bytes never get stuck, and the way out leads to a member.
fn completions_are_members(dfa: &mut Dfa, regex: &Regex, random: &mut Random, pattern: &str) {
    let mut state = dfa.start();
    let mut text = Vec::new();
    while state != DEAD && text.len() < 10 {
        let mut finished = text.clone();
        let mut at = state;
        while let Some(byte) = dfa.toward_end(at).unwrap() {
            finished.push(byte);
            at = dfa.next(at, byte).unwrap();
        }
        let finished = String::from_utf8(finished).unwrap();
        assert!(
            dfa.accepting(at),
            "{pattern} has no way to an end behind {finished:?}"
        );
        assert!(
            regex.is_match(&finished),
            "{pattern} completes to {finished:?}"
        );
        let live: Vec<u8> = dfa.live(state).unwrap().iter().collect();
        if live.is_empty() {
            break;
        }
        let byte = *random.pick(&live);
        state = dfa.next(state, byte).unwrap();
        assert_ne!(state, DEAD, "{pattern}: a live byte leads on");
        text.push(byte);
    }
}

#[test]
fn unicode_classes_agree_with_regex_automata() {
    for pattern in [
        "\\p{L}",
        "\\w",
        "\\P{Lu}",
        "[^\\s\\p{Han}]",
        "[\\u{800}-\\u{10FFFF}]",
        "(?i)[k-sé]",
    ] {
        let regex = Regex::new(&format!("^{pattern}$")).unwrap();
        let mut dfa = dfa(pattern, RegexSyntax::Rust, RegexMode::Full);
        for c in ('\0'..=char::MAX).step_by(7).chain('\0'..='\u{600}') {
            let mut buffer = [0; 4];
            let text = &*c.encode_utf8(&mut buffer);
            assert_eq!(
                accepts(&mut dfa, text),
                regex.is_match(text),
                "{pattern} on {c:?}"
            );
        }
    }
}

#[test]
fn products_and_complements() {
    let limits = Limits::default();
    let even = dfa("(aa)*", RegexSyntax::Rust, RegexMode::Full);
    let three = dfa("(aaa)*", RegexSyntax::Rust, RegexMode::Full);
    let mut both = Dfa::and(vec![even.clone(), three.not(&limits).unwrap()], &limits).unwrap();
    for count in 0..30usize {
        let text = "a".repeat(count);
        assert_eq!(
            accepts(&mut both, &text),
            count % 2 == 0 && count % 3 != 0,
            "{count}"
        );
    }
    let none = Dfa::and(vec![even.clone(), even.not(&limits).unwrap()], &limits).unwrap();
    assert_eq!(none.start(), DEAD);
    let all = dfa("", RegexSyntax::Ecma262, RegexMode::Search);
    let mut all = all.not(&limits).unwrap().not(&limits).unwrap();
    for text in ["", "a", "日\n"] {
        assert!(accepts(&mut all, text), "{text:?}");
    }
    assert_eq!(all.plain(all.start()).unwrap().chars, u32::MAX);
}

#[test]
fn claims_about_plain_characters_are_true() {
    let mut random = Random::new(9);
    let fixed = [
        "[a-z]{1,63}",
        "[^/]+",
        "[A-Z][a-z]*",
        "[A-Z]{3}",
        ".*",
        "(?!ab)[a-z]*",
        "[a-z]+(-[a-z]+)*",
        "[^\"]*",
    ];
    let mut claims = 0;
    for round in 0..200 {
        let pattern = match fixed.get(round) {
            Some(pattern) => (*pattern).to_owned(),
            None => random_pattern(&mut random, 2),
        };
        let mode = *random.pick(&[RegexMode::Full, RegexMode::Search]);
        let Ok(mut dfa) = Dfa::from_regex(&pattern, RegexSyntax::Ecma262, mode, &Limits::default())
        else {
            continue;
        };
        let mut state = dfa.start();
        for _ in 0..6 {
            let plain = dfa.plain(state).unwrap();
            claims += usize::from(plain.chars > 0);
            check_claim(&mut dfa, state, &plain, &mut random, &pattern);
            let live: Vec<u8> = dfa.live(state).unwrap().iter().collect();
            if live.is_empty() {
                break;
            }
            state = dfa.next(state, *random.pick(&live)).unwrap();
        }
    }
    assert!(claims > 200, "{claims}");
    let mut name = dfa("^[a-z0-9-]+$", RegexSyntax::Ecma262, RegexMode::Search);
    let claim = name.plain(name.start()).unwrap();
    assert_eq!(
        (claim.class.to_string().as_str(), claim.chars),
        ("[- 0-9 a-z]", u32::MAX)
    );
    assert!(claim.exits.is_empty());
    let mut path = dfa("^[^/]+(/[^/]+)*$", RegexSyntax::Ecma262, RegexMode::Search);
    let claim = path.plain(path.start()).unwrap();
    assert!(
        claim.class == Plain::ALL.difference(&ByteSet::of(b'/')),
        "{claim:?}"
    );
    assert!(claim.exits.contains(b'/'));
    let mut short = dfa("^[A-Z]{3}$", RegexSyntax::Ecma262, RegexMode::Search);
    let claim = short.plain(short.start()).unwrap();
    assert_eq!((claim.chars, claim.most), (3, 3));
    let mut line = dfa("^.*$", RegexSyntax::Ecma262, RegexMode::Search);
    let claim = line.plain(line.start()).unwrap();
    // U+2028 and U+2029 are no members: what begins with their first byte is looked at one by one.
    assert_eq!(claim.class, Plain::ALL.difference(&ByteSet::of(0xe2)));
    assert_eq!(claim.chars, u32::MAX);
    assert!(claim.exits.contains(0xe2));
    let mut escaped = dfa(
        "^([a-z]|%[0-9A-F]{2})*$",
        RegexSyntax::Ecma262,
        RegexMode::Search,
    );
    let claim = escaped.plain(escaped.start()).unwrap();
    assert_eq!(claim.class, ByteSet::range(b'a', b'z'), "{claim:?}");
    assert_eq!(claim.chars, u32::MAX);
    let mut tag = dfa(
        "^[a-z]{2,8}(-[a-z]{2,8})*$",
        RegexSyntax::Ecma262,
        RegexMode::Search,
    );
    let claim = tag.plain(tag.start()).unwrap();
    assert_eq!((claim.chars, claim.most), (8, 8), "{claim:?}");
}

fn check_claim(dfa: &mut Dfa, state: u32, plain: &Plain, random: &mut Random, pattern: &str) {
    let ascii: Vec<u8> = plain.class.intersection(&Plain::ASCII).iter().collect();
    let wide: Vec<&str> = [
        "ä",
        "日",
        "💣",
        "\u{7ff}",
        "\u{ffff}",
        "\u{10ffff}",
        "\u{2027}",
        "\u{d7ff}",
    ]
    .into_iter()
    .filter(|text| text.bytes().all(|byte| plain.class.contains(byte)))
    .collect();
    for _ in 0..20 {
        let mut at = state;
        let mut chars = 0;
        let length = random.below(40) as u32;
        while chars < length {
            let text = match (!wide.is_empty() && random.below(4) == 0, ascii.is_empty()) {
                (true, _) => random.pick(&wide).as_bytes().to_vec(),
                (false, false) => vec![*random.pick(&ascii)],
                (false, true) => break,
            };
            if at != DEAD && chars <= Plain::CHARS_TOLD_APART {
                let outside = dfa.live(at).unwrap().difference(&plain.class);
                assert!(
                    outside.is_subset(&plain.exits),
                    "{pattern}: {outside} leaves beside {plain:?}"
                );
            }
            for byte in text {
                at = dfa.next(at, byte).unwrap();
            }
            chars += 1;
            if chars <= plain.chars {
                assert_ne!(at, DEAD, "{pattern}: {plain:?} after {chars}");
            }
            if chars > plain.most {
                assert_eq!(at, DEAD, "{pattern}: {plain:?} after {chars}");
            }
        }
    }
}
