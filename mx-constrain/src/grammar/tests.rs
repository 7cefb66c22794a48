//! What each notation means, case by case, and what is refused.

#![allow(clippy::unwrap_used)]

use crate::{ByteSet, ConstrainError, Limits};

use super::{
    GrammarSyntax::{self, Ebnf, Gbnf, Lark},
    testing::*,
};

fn gbnf(grammar: &str, accepted: &[&str], refused: &[&str]) {
    check(Gbnf, grammar, accepted, refused);
}

fn lark(grammar: &str, accepted: &[&str], refused: &[&str]) {
    check(Lark, grammar, accepted, refused);
}

/// The error of a grammar that cannot be read: line, column and what is said.
fn refused(syntax: GrammarSyntax, grammar: &str) -> (usize, usize, String) {
    match try_machine(syntax, grammar) {
        Err(ConstrainError::Grammar {
            line,
            column,
            reason,
            ..
        }) => (line, column, reason),
        Err(other) => panic!("{other:?}\n{grammar}"),
        Ok(_) => panic!("accepted:\n{grammar}"),
    }
}

fn says(syntax: GrammarSyntax, grammar: &str, line: usize, column: usize, part: &str) {
    let (at_line, at_column, reason) = refused(syntax, grammar);
    assert_eq!((at_line, at_column), (line, column), "{reason}\n{grammar}");
    assert!(
        reason.contains(part),
        "`{reason}` does not say `{part}`\n{grammar}"
    );
}

#[test]
fn left_recursion() {
    gbnf(
        "root ::= expr\nexpr ::= expr \"+\" term | term\nterm ::= term \"*\" factor | factor\n\
         factor ::= [0-9]+ | \"(\" expr \")\"",
        &["1", "12+3", "1*2+3*(4+5)", "((1))", "(1+2)*(3)"],
        &["", "1+", "(1", "1)", "1++2", "()", "*1"],
    );
    gbnf(
        "root ::= a\na ::= a a | a | a \"x\" | \"\" | b\nb ::= a \"y\"",
        &["", "x", "y", "xyx", "yyy"],
        &["z", "xz"],
    );
    gbnf(
        "root ::= root root | \"a\" | \"\"",
        &["", "a", "aaaa"],
        &["b", "ab"],
    );
    // Hidden left recursion, behind a nullable rule.
    gbnf(
        "root ::= n root \"x\" | \"y\"\nn ::= \"n\"?",
        &["y", "nyx", "nnyxx", "yxx", "nyxx"],
        &["", "x", "n", "nx", "nnyx"],
    );
}

#[test]
fn empty_loops_and_empty_languages() {
    gbnf("root ::= ((\"\")*)+ \"a\"", &["a"], &["", "aa"]);
    gbnf("root ::= a*\na ::= b?\nb ::= a*", &[""], &["a"]);
    gbnf(
        "root ::= \"a\" | dead\ndead ::= \"b\" dead",
        &["a"],
        &["b", "ba"],
    );
    let dead = "root ::= \"a\" | dead\ndead ::= \"b\" dead\nunused ::= \"c\" unused";
    let (_, exactness) = super::machine(Gbnf, dead, &ByteSet::ALL, &Limits::default()).unwrap();
    let places: Vec<&str> = exactness
        .restrictions
        .iter()
        .map(|r| r.place.as_str())
        .collect();
    assert_eq!(places, ["dead"]);
    for grammar in [
        "root ::= \"a\" root",
        "root ::= root",
        "root ::= root \"x\"",
        "root ::= [^\\x00-\\U0010FFFF]",
    ] {
        let error = try_machine(Gbnf, grammar).err().unwrap();
        assert!(
            matches!(error, ConstrainError::Unsatisfiable { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn bytes_the_vocabulary_lacks() {
    let alphabet = ByteSet::ALL.difference(&ByteSet::of(b'b'));
    let (mut machine, _) = super::machine(
        Gbnf,
        "root ::= \"a\" (\"b\" | \"c\" | \"cb\") \"d\"",
        &alphabet,
        &Limits::default(),
    )
    .unwrap();
    assert!(accepts(machine.as_mut(), "acd"));
    assert!(!accepts(machine.as_mut(), "abd") && !accepts(machine.as_mut(), "acbd"));
    let dead = super::machine(Gbnf, "root ::= \"ab\"", &alphabet, &Limits::default());
    assert!(matches!(dead, Err(ConstrainError::Unsatisfiable { .. })));
}

#[test]
fn gbnf_notation() {
    gbnf(
        "root ::= \"\\x41\\u00e9\\U0001F600\\n\\t\\r\\\\\\\"\\[\\]\"",
        &["Aé😀\n\t\r\\\"[]"],
        &["A"],
    );
    gbnf(
        "root ::= [a-c]{2} [^a-ce]{1,} [x]{0,2} \"e\"{,1}",
        &["abd", "ccddxx", "aaxxxe"],
        &["ad", "ab", "abdee"],
    );
    gbnf(
        "root ::= [-a] [a-] [\\]^] [^\\]]",
        &["--^x", "aa]-"],
        &["b-^x", "--^]"],
    );
    gbnf(
        "root ::= . . \"!\"",
        &["日\n!", "a\u{1F600}!"],
        &["日!", "!", "abc!"],
    );
    gbnf(
        "root ::= a # comment\n  | b\n\n# more\na ::= (\n\"x\" # in a group\n| \"y\")\nb ::= \"z\"?",
        &["x", "y", "z", ""],
        &["xz"],
    );
    gbnf(
        "root ::= a-b_c1 |\n  \"2\"\na-b_c1 ::= \"1\"",
        &["1", "2"],
        &["", "12"],
    );
    gbnf(
        "root ::= (\"a\" | \"b\")? \"c\"*",
        &["", "a", "bcc", "c"],
        &["ab", "ca"],
    );
    gbnf("root ::=\n  \"a\"\nb ::= \"b\"", &["a"], &["b"]);
}

#[test]
fn gbnf_errors() {
    says(
        Gbnf,
        "root ::= a\n  b\na ::= \"x\"",
        2,
        3,
        "rule `b` is not defined",
    );
    says(Gbnf, "root ::= \"x", 1, 11, "not closed");
    says(Gbnf, "root ::= [x", 1, 11, "not closed");
    says(Gbnf, "root ::= (\"x\"", 1, 14, "expected `)`");
    says(Gbnf, "root ::= \"x\")", 1, 13, "found `)`");
    says(Gbnf, "root ::= \"\\q\"", 1, 11, "unknown escape");
    says(Gbnf, "root ::= \"\\x4\"", 1, 13, "2 hexadecimal digits");
    says(
        Gbnf,
        "root ::= \"\\U00110000\"",
        1,
        13,
        "no Unicode scalar value",
    );
    says(Gbnf, "root ::= [z-a]", 1, 11, "backwards");
    says(Gbnf, "root ::= *", 1, 10, "something before it");
    says(
        Gbnf,
        "root ::= \"a\"{3,2}",
        1,
        13,
        "at least 3 and at most 2",
    );
    says(Gbnf, "root ::= \"a\"{99999999999}", 1, 14, "larger than");
    says(Gbnf, "root ::= \"a\"{x}", 1, 14, "expected a number");
    says(Gbnf, "a ::= \"x\"", 1, 1, "`root`");
    says(Gbnf, "", 1, 1, "`root`");
    says(
        Gbnf,
        "root ::= \"a\"\nroot ::= \"b\"",
        2,
        1,
        "defined twice",
    );
    says(Gbnf, "root = \"a\"", 1, 6, "expected `::=`");
    says(Gbnf, "root ::= <[7]>", 1, 10, "token references");
    says(Gbnf, "root ::= \"a\"\n\n  $", 3, 3, "found `$`");
}

#[test]
fn lark_notation() {
    lark(
        "start: \"a\" b?\nb: \"é\"i | \"x\"..\"z\"",
        &["a", "aé", "aÉ", "ay"],
        &["", "b", "aw", "axx"],
    );
    lark(
        "start: /[a-c]+\\/\\d{2}/i /x.y/s",
        &["aBC/12x\ny"],
        &["a/1xzy", "d/12xzy"],
    );
    lark(
        "start: A~2 B~1..2 [C] (A|C)*\nA: \"a\"\nB.3: /b/\nC: A B",
        &["aab", "aabbab", "aabaaba"],
        &["ab", "aabbb"],
    );
    lark(
        "start: a{2,3} B{,1}\na: \"a\"\nB: \"b\"",
        &["aa", "aaab"],
        &["a", "aaaa", "aabb"],
    );
    lark(
        "?start: sep{item, \",\"} -> list\n!sep{x, d}: x (d x)*\nitem.2: INT | \"(\" sep{item, \";\"} \")\"\n\
         %import common.INT\n%ignore \" \"",
        &["1", " 1 , 22,(3 ;4; (5)) "],
        &["", "1,", "1;2", "(1,2)", "1 2"],
    );
    lark(
        "start: NUMBER WS_INLINE ESCAPED_STRING\n%import common (NUMBER, WS_INLINE, ESCAPED_STRING)",
        &["1.5e+3 \"a\\\"b\"", "1\t\"\"", "007 \"\\\\\""],
        &["1 \"a", "1\"a\"", "x \"\"", "1 \"a\"b\"", "1. . \"a\""],
    );
    lark("start: X\n%import common.CNAME -> X", &["_a1"], &["1a"]);
    lark(
        "start: a\n\n\n   | \"z\" // comment\n# more\na: \"q\" -> quu\n  | (\n  \"r\"\n  | \"s\")",
        &["q", "r", "s", "z"],
        &["qr"],
    );
    lark(
        "start: A\nA: \"a\"\n%override A: \"b\"\n%extend A: \"c\"",
        &["b", "c"],
        &["a"],
    );
    lark("start: /(?x) a b # c\n/x", &["ab"], &["a b"]);
    lark("start: \"\\x41\\u00e9\\n\\\"\\\\\"", &["Aé\n\"\\"], &["A"]);
}

#[test]
fn lark_terminals_take_the_longest_match() {
    // Two numbers cannot touch, whatever a parser could make of it.
    lark(
        "start: INT INT\nINT: /[0-9]+/\n%ignore \" \"",
        &["1 2", " 12  34 "],
        &["12", "1", "1 2 3"],
    );
    lark(
        "start: NAME NAME \"!\"\nNAME: /[a-z]+/\n%ignore /\\s+/",
        &["a b!", "ab\n c !"],
        &["ab!", "a!"],
    );
    // The longer match must really be there: `1..2` is not `1.` and `.2`.
    lark(
        "start: NUMBER \"..\" NUMBER\nNUMBER: /[0-9]+(\\.[0-9]+)?/",
        &["1..2", "1.5..2", "1..2.5"],
        &["1.2", "1...2"],
    );
    lark(
        "start: A B\nA: /a(bc)?/\nB: /b./",
        &["abcbx", "abx"],
        &["abc", "a"],
    );
    // A keyword is not cut out of a name when the name may stand there too, but the grammar may say that only the keyword can.
    lark(
        "start: \"if\" NAME | NAME \"=\"\nNAME: /[a-z]+/\n%ignore \" \"",
        &["if x", "ifx", "ifx=", "if ="],
        &["if", "x"],
    );
    // What can only be followed by itself never ends.
    let error = try_machine(Lark, "start: A \"a\"\nA: /a+/").err().unwrap();
    assert!(
        matches!(error, ConstrainError::Unsatisfiable { .. }),
        "{error:?}"
    );
    // Single characters are single matches.
    lark("start: /[0-9]/+ /[0-9]/", &["12", "123"], &["1"]);
}

#[test]
fn lark_lazy_quantifiers_and_options() {
    lark(
        "start: S \"x\"* S\nS: /\"[^\\n]*?\"/ \"i\"?",
        &["\"a\"\"b\"", "\"a\"ixx\"b\"i"],
        &["\"a\"b\"", "\"a\"\"b\"c\""],
    );
    lark(
        "start: C \"x\"\nC: \"/*\" /(.|\\n)*?/ \"*/\"",
        &["/* a\n* / */x", "/**/x"],
        &["/* */ */x", "/* *"],
    );
    lark(
        "start: t \"!\"\nt[lazy]: /.*/ \"end\"",
        &["a end!", "end!"],
        &["a end end!", "a!"],
    );
    lark(
        "start: t \"!\"\nt[suffix=\"end\"]: /.*/",
        &["a end!", "end!"],
        &["a end end!", "a!"],
    );
    lark(
        "start: %regex {\"substring_words\": \"foo bar. baz\"} \"!\"",
        &["!", "foo!", "bar. baz!", "foo bar. baz!"],
        &["fo!", "foobar!"],
    );
    lark(
        "start: S\nS: %regex {\"substring_chunks\": [\"abc\", \"de\", \"fg\"]}",
        &["", "abc", "abcde", "defg"],
        &["ab", "cde", "abcfg"],
    );
    lark(
        "start: L\nL: /[a-z \\n]*/ & ~/(?s:.*)\\n\\n(?s:.*)/",
        &["", "a\nb\nc", "a \n \n"],
        &["a\n\nb", "A"],
    );
    lark(
        "start: N \"!\"\nN: W & ~K | \"IF\"\nW: /[a-z]+/\nK: \"if\" | \"do\"",
        &["x!", "iff!", "i!", "IF!"],
        &["if!", "do!", "!"],
    );
    // A lazy terminal wins as soon as it matches: the free text is given up, and the call must follow.
    lark(
        "start: (head \"=\" /[0-9]+/ \">\")* TEXT\nTEXT: /(.|\\n)*/\nhead[lazy]: TEXT \"<call\"",
        &["", "free <cal", "a <call=12> b", "<call=1><call=2>x"],
        &["a <call", "a <call=x>", "a <callx", "<call=1><call"],
    );
    lark("start: a-b->x\na-b: \"q\"", &["q"], &["a"]);
    lark("%llguidance {}\nstart: \"a\"", &["a"], &["b"]);
}

#[test]
fn lark_errors() {
    says(Lark, "start: a", 1, 8, "rule `a` is not defined");
    says(Lark, "start: A", 1, 8, "terminal `A` is not defined");
    says(
        Lark,
        "%declare A\nstart: A",
        2,
        8,
        "declared without a pattern",
    );
    says(Lark, "a: \"x\"", 1, 1, "`start`");
    says(Lark, "start: \"a\"\nstart: \"b\"", 2, 1, "defined twice");
    says(Lark, "start: A\nA: B\nB: \"x\" A", 2, 4, "contains itself");
    says(
        Lark,
        "start: A\nA: b\nb: \"x\"",
        2,
        4,
        "cannot contain the rule",
    );
    says(Lark, "start: \"a", 1, 8, "not closed");
    says(Lark, "start: /a(/", 1, 10, "unclosed group");
    says(Lark, "start: /(?=a)b/", 1, 9, "look-around");
    says(Lark, "start: /^a/", 1, 9, "look around");
    says(Lark, "start: (\"a\"", 1, 12, "expected `)`");
    says(Lark, "start: \"b\"..\"a\"", 1, 8, "the lower first");
    says(
        Lark,
        "start: a{\"x\"}\na{b, c}: b",
        1,
        8,
        "wants 2 arguments, 1 are given",
    );
    says(
        Lark,
        "%import python.X\nstart: X",
        1,
        9,
        "only the library `common`",
    );
    says(
        Lark,
        "%import common.XYZ\nstart: XYZ",
        1,
        9,
        "no terminal `XYZ`",
    );
    says(Lark, "%frob x\nstart: \"a\"", 1, 1, "unknown directive");
    says(Lark, "start: <|end|>", 1, 8, "token references");
    says(Lark, "start: @other", 1, 8, "other grammars");
    says(
        Lark,
        "a[temperature=0.5]: \"x\"\nstart: a",
        1,
        15,
        "expected",
    );
    says(
        Lark,
        "a[stop=\"x\"]: /y/\nstart: a",
        1,
        3,
        "`stop` is not supported",
    );
    says(Lark, "start: ~/a/", 1, 8, "cannot stand in a rule");
    says(
        Lark,
        "%override a: \"x\"\nstart: a",
        1,
        11,
        "nothing to override",
    );
    says(Lark, "start: /a/q", 1, 11, "flag `q`");
    says(
        Lark,
        "%llguidance {\"x\": 1}\nstart: \"a\"",
        1,
        13,
        "`x` is not supported",
    );
}

#[test]
fn ebnf_of_the_w3c() {
    check(
        Ebnf,
        "/* a list */\nlist ::= '[' (item (',' item)*)? ']'\nitem ::= [a-c#x58-#x59] | #x41+ | list /* again */",
        &["[]", "[a]", "[X,AA,[b,[]]]"],
        &["", "[", "[a,]", "[Z]", "[a]]"],
    );
    check(
        Ebnf,
        "a ::= b\nroot ::= \"x'\" 'y\"' [^a-z]? ;\nb ::= 'b'",
        &["x'y\"", "x'y\"A"],
        &["b", "x'y\"a"],
    );
    check(
        Ebnf,
        "Name ::= Letter+ - (('x'|'X') ('m'|'M') ('l'|'L'))\nLetter ::= [a-zA-Z]",
        &["xm", "xmll", "abc", "x"],
        &["xml", "XmL", "", "a1"],
    );
    check(
        Ebnf,
        "c ::= '<' ([^<]* - ([^<]* ']]' [^<]*)) '<'",
        &["<<", "<]a]<", "<é]<"],
        &["<]]<", "<a]]b<"],
    );
    check(
        Ebnf,
        "<a b> ::= <c>{2,3}\n<c> ::= 'c'",
        &["cc", "ccc"],
        &["c", "cccc"],
    );
}

#[test]
fn ebnf_of_iso() {
    check(
        Ebnf,
        "(* a list *)\nlist = \"[\", [ item, { \",\", item } ], ']';\nitem = 2 * digit | list | letter, letter+ .\n\
         digit = \"0\" | \"1\" ; letter = 'a' / 'b' ! 'c';",
        &["[]", "[01]", "[11,[ab,[]],aac]"],
        &["", "[0]", "[a]", "[01,]", "[011]"],
    );
    check(
        Ebnf,
        "a = digit digit - \"11\" {x};\ndigit = '0'|'1'; x = 'x'",
        &["01", "00x", "1011".get(..2).unwrap()],
        &["0", "x"],
    );
    check(
        Ebnf,
        "number = { digit }, digit; digit = '0'|'1'",
        &["0", "0101"],
        &["", "2"],
    );
}

#[test]
fn ebnf_errors() {
    says(Ebnf, "", 1, 1, "at least one rule");
    says(Ebnf, "a ::= b", 1, 7, "rule `b` is not defined");
    says(Ebnf, "a ::= 'x", 1, 7, "not closed");
    says(Ebnf, "a ::= 'x'\nb = 'y'", 2, 3, "either `::=` or `=`");
    says(Ebnf, "a = ? any ?;", 1, 5, "special sequences");
    says(Ebnf, "a ::= b - 'x'\nb ::= 'y' b?", 1, 9, "must be regular");
    says(Ebnf, "a ::= ('x'", 1, 11, "expected `)`");
    says(Ebnf, "a ::= /* x", 1, 7, "comment");
    says(Ebnf, "a ::= [b", 1, 7, "not closed");
    says(Ebnf, "a ::= #xD800", 1, 7, "no Unicode scalar value");
    says(Ebnf, "a 'x'", 1, 3, "expected `::=`");
    says(Ebnf, "a ::= 'x'\na ::= 'y'", 2, 1, "defined twice");
}

/// What a hostile grammar is answered with: some error that names a limit or a place, and soon.
fn bounded(syntax: GrammarSyntax, grammar: &str) -> ConstrainError {
    let started = std::time::Instant::now();
    let error = try_machine(syntax, grammar)
        .err()
        .expect("the grammar should be refused");
    assert!(started.elapsed().as_secs() < 20, "{error:?}");
    error
}

fn is_limit(error: &ConstrainError, name: &str) -> bool {
    matches!(error, ConstrainError::Limit { limit, .. } if *limit == name)
}

#[test]
fn hostile_nesting_is_refused() {
    let deep = 100_000;
    for (syntax, grammar) in [
        (Gbnf, format!("root ::= {}", "(".repeat(deep))),
        (Lark, format!("start: {}", "(".repeat(deep))),
        (Lark, format!("start: {}", "[".repeat(deep))),
        (Lark, format!("start: {}\"a\"", "~".repeat(deep))),
        (Lark, format!("start: {}\na{{x}}: x", "a{".repeat(deep))),
        (Ebnf, format!("a ::= {}", "(".repeat(deep))),
        (Ebnf, format!("a = {}", "{".repeat(deep))),
        (Ebnf, format!("a = {}'x'", "2*".repeat(deep))),
    ] {
        let error = bounded(syntax, &grammar);
        assert!(
            is_limit(&error, "max_nesting"),
            "{error:?} {}",
            &grammar[..20]
        );
    }
    for (syntax, grammar) in [
        (Gbnf, format!("root ::= \"a\"{}", "{2}".repeat(deep))),
        (Lark, format!("start: \"a\"{}", "~2".repeat(deep))),
        (Ebnf, format!("a ::= 'a'{}", "{2}".repeat(deep))),
    ] {
        assert!(matches!(
            bounded(syntax, &grammar),
            ConstrainError::Grammar { .. }
        ));
    }
    gbnf(
        &format!("root ::= \"a\"{}", "?*+".repeat(deep)),
        &["", "aaa"],
        &["b"],
    );
    lark(
        &format!("start: \"a\"{}", "?".repeat(deep)),
        &["", "a"],
        &["b"],
    );
    let nested = 120;
    gbnf(
        &format!(
            "root ::= {}\"a\"{}",
            "(".repeat(nested),
            ")?".repeat(nested)
        ),
        &["", "a"],
        &["b"],
    );
    lark(
        &format!("start: {}\"a\"{}", "(".repeat(nested), ")?".repeat(nested)),
        &["", "a"],
        &["b"],
    );
    let doubling = format!(
        "start: {}\"a\"{}",
        "(".repeat(nested),
        ")~1..2".repeat(nested)
    );
    assert!(matches!(
        bounded(Lark, &doubling),
        ConstrainError::Grammar { .. }
    ));
}

#[test]
fn hostile_sizes_are_refused() {
    let error = bounded(Gbnf, "root ::= (\"a\"{1000}){1000}");
    assert!(is_limit(&error, "max_nodes"), "{error:?}");
    let error = bounded(Gbnf, "root ::= \"\"{4000000000}");
    assert!(is_limit(&error, "max_nodes"), "{error:?}");
    bounded(Gbnf, "root ::= ((\"a\"?){400}){400}");
    bounded(Lark, "start: A\nA: /((a{1000}){1000}){1000}/");
    let limits = Limits {
        max_dfa_states: 2_000,
        ..Limits::default()
    };
    let error = super::machine(
        Lark,
        "start: A\nA: /(.*a.{30}){20}/",
        &ByteSet::ALL,
        &limits,
    )
    .err()
    .unwrap();
    assert!(is_limit(&error, "max_dfa_states"), "{error:?}");
    let doubling: String = (0..60)
        .map(|n| format!("T{n}: T{} T{}\n", n + 1, n + 1))
        .collect();
    let error = bounded(Lark, &format!("start: T0\n{doubling}T60: \"a\""));
    assert!(is_limit(&error, "max_nodes"), "{error:?}");
    let error = bounded(Lark, "start: t{\"x\"}\nt{x}: t{(x x)}");
    assert!(is_limit(&error, "max_nodes"), "{error:?}");
    bounded(
        Lark,
        &format!(
            "start: %regex {{\"substring_chars\": \"{}\"}}",
            "ab".repeat(200_000)
        ),
    );
    bounded(Gbnf, &format!("root ::= \"{}\"", "x".repeat(5 << 20)));
}

/// Reads up to `bytes` bytes of `text` over and over; a limit may answer, time may not run away.
fn survives(
    syntax: GrammarSyntax,
    grammar: &str,
    text: &str,
    bytes: usize,
) -> Result<(), ConstrainError> {
    let started = std::time::Instant::now();
    let mut machine = try_machine(syntax, grammar)?;
    let mut reader = Reader::new(machine.as_ref());
    for &byte in text.as_bytes().iter().cycle().take(bytes) {
        if !reader.read(machine.as_mut(), byte)? {
            break;
        }
    }
    assert!(started.elapsed().as_secs() < 20, "{grammar}");
    Ok(())
}

#[test]
fn ambiguity_and_long_texts_are_survived() {
    // Every one of these has a number of parses that grows without bound.
    survives(
        Gbnf,
        "root ::= a\na ::= a a | a | \"\" | \"a\"",
        "a",
        20_000,
    )
    .unwrap();
    survives(Gbnf, "root ::= s\ns ::= s s s | s s | \"a\"", "a", 20_000).unwrap();
    survives(Gbnf, "root ::= (\"a\"* )* (\"a\" | \"aa\")*", "a", 20_000).unwrap();
    // Right recursion keeps no stack.
    survives(Gbnf, "root ::= \"a\" root | \"a\"", "a", 200_000).unwrap();
    survives(
        Gbnf,
        "root ::= i l | i\nl ::= \",\" root\ni ::= [a-z]+",
        "ab,",
        100_000,
    )
    .unwrap();
    // Real nesting does, one frame per level.
    survives(Gbnf, "root ::= \"(\" root \")\" | \"x\"", "(", 50_000).unwrap();
    // The dangling else: every `a` may get its `b`, a stack that grows within one frame.
    let outcome = survives(Gbnf, "root ::= \"a\" root \"b\"? | \"x\"", "a", 2_000);
    assert!(
        outcome.is_ok() || outcome.as_ref().is_err_and(ConstrainError::is_limit),
        "{outcome:?}"
    );
    let outcome = survives(Gbnf, "root ::= \"a\" root root? | \"x\"?", "a", 300);
    assert!(
        outcome.is_ok() || outcome.as_ref().is_err_and(ConstrainError::is_limit),
        "{outcome:?}"
    );
    // Many alternatives that begin alike.
    let many: String = (0..20_000).map(|n| format!("| \"a{n}\" ")).collect();
    survives(Gbnf, &format!("root ::= \"b\" {many}"), "a1999", 5).unwrap();
    let chain: String = (0..20_000)
        .map(|n| format!("r{n} ::= r{} | \"x\" r{}\n", n + 1, n + 1))
        .collect();
    let outcome = survives(
        Gbnf,
        &format!("root ::= r0\n{chain}r20000 ::= \"y\""),
        "x",
        1_000,
    );
    assert!(
        outcome.is_ok() || outcome.as_ref().is_err_and(ConstrainError::is_limit),
        "{outcome:?}"
    );
    let cycle: String = (0..300)
        .map(|n| {
            format!(
                "r{n} ::= r{} \"x\" | r{} | \"y\"\n",
                (n + 1) % 300,
                (n + 7) % 300
            )
        })
        .collect();
    let outcome = survives(Gbnf, &format!("root ::= r0\n{cycle}"), "yx", 200);
    assert!(
        outcome.is_ok() || outcome.as_ref().is_err_and(ConstrainError::is_limit),
        "{outcome:?}"
    );
}

#[test]
fn json_schemas_stand_in_lark() {
    lark(
        "start: TEXT | call+\nTEXT: /[^{](.|\\n)*/\ncall: \"{call:\" %json {\"type\": \"object\", \"properties\": \
         {\"city\": {\"type\": \"string\"}, \"n\": {\"type\": \"integer\"}}, \"required\": [\"city\"], \
         \"additionalProperties\": false} \"}\"",
        &[
            "no call",
            "{call:{\"city\": \"Z\u{fc}rich\"}}",
            "{call:{\"city\": \"a\", \"n\": 12}}{call:{\"city\":\"\"}}",
        ],
        &[
            "",
            "{call:{}}",
            "{call:{\"city\":1}}",
            "{call:{\"city\":\"a\"}",
            "{call:{\"city\":\"a\",\"x\":1}}",
            "{x",
        ],
    );
    // A number may end or go on; what follows decides.
    lark(
        "start: %json {\"type\": \"integer\"} (\"0\" | \";\" start)\n%ignore \" \"",
        &["10", "1;20", "-5 ; 70", "120"],
        &["0", "1", "1;", "a", "1;2;"],
    );
    let error = try_machine(Lark, "start: %json {\"type\": \"strin\"}")
        .err()
        .unwrap();
    assert!(matches!(error, ConstrainError::Schema { .. }), "{error:?}");
    says(Lark, "start: %json {\"type\": }", 1, 14, "cannot be read");
    let (mut machine, _) = super::machine(
        Lark,
        "start: \"[\" %json {\"enum\": [\"ab\", {\"x\": [1, null]}]} \"]\"",
        &ByteSet::ALL,
        &Limits::default(),
    )
    .unwrap();
    let mut reader = Reader::new(machine.as_ref());
    for &byte in b"[{\"x\":[1" {
        assert!(reader.read(machine.as_mut(), byte).unwrap());
    }
    assert!(!reader.clone().read(machine.as_mut(), b'}').unwrap());
    let refusal = machine.explain(reader.top(), b'}');
    assert!(!refusal.to_string().is_empty());
    assert!(
        accepts(machine.as_mut(), "[{\"x\":[1,null]}]") && accepts(machine.as_mut(), "[\"ab\"]")
    );
    assert!(!accepts(machine.as_mut(), "[{\"x\":[1]}]") && !accepts(machine.as_mut(), "[\"ab\""));
}

#[test]
fn refusals_name_the_rule_and_what_it_wants() {
    let mut machine = machine(Gbnf, "root ::= \"a\" number \";\"\nnumber ::= [0-9]+");
    let mut reader = Reader::new(machine.as_ref());
    for (byte, rule, wanted) in [
        (b'x', "root", "`a` of `root`"),
        (b'a', "number", "[0-9] of `number`"),
    ] {
        let refusal = machine.explain(reader.top(), b'!');
        assert_eq!(
            (refusal.place.as_str(), refusal.expected.as_str()),
            (rule, wanted),
            "{refusal:?}"
        );
        if byte == b'x' {
            assert!(reader.read(machine.as_mut(), b'a').unwrap());
        }
    }
    let mut machine = try_machine(Lark, "start: NAME \"=\"\nNAME: /[a-z]+/").unwrap();
    let mut reader = Reader::new(machine.as_ref());
    let refusal = machine.explain(reader.top(), b'!');
    assert_eq!(
        (refusal.place.as_str(), refusal.keyword.as_str()),
        ("NAME", "NAME")
    );
    assert!(reader.read(machine.as_mut(), b'a').unwrap());
    let refusal = machine.explain(reader.top(), b'!');
    assert!(refusal.expected.contains("`=` of `start`"), "{refusal:?}");
    for text in ["a=", "a"] {
        let mut reader = Reader::new(machine.as_ref());
        for &byte in text.as_bytes() {
            reader.read(machine.as_mut(), byte).unwrap();
        }
        let refusal = machine.explain(reader.top(), b'!');
        assert_eq!(
            refusal.expected == "the end of the text",
            text == "a=",
            "{refusal:?}"
        );
    }
}
