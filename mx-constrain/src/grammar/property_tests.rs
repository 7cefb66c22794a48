//! Random grammars and random texts, against the naive recogniser.

#![allow(clippy::unwrap_used)]

use crate::{ByteSet, ConstrainError, Limits, machine::Machine};

use super::{
    compile,
    ir::{Body, Expr, Grammar, Lexeme, LexemeState, Rule},
    oracle::*,
    testing::*,
};

const LETTERS: usize = 3;

fn hold(grammar: &Grammar, random: &mut Random, rounds: usize) -> bool {
    let mut machine = match compile(grammar, &ByteSet::ALL, &Limits::default()) {
        Ok((machine, _)) => machine,
        Err(ConstrainError::Unsatisfiable { .. }) => {
            for _ in 0..rounds {
                let text = random.text(LETTERS, 6);
                assert!(!derives(grammar, &text), "{grammar:?} derives {text:?}");
            }
            return false;
        }
        Err(error) => panic!("{error:?} {grammar:?}"),
    };
    for _ in 0..rounds {
        let text = random.text(LETTERS, 7);
        check_text(grammar, &mut machine, &text);
        // A walk over what is allowed goes deeper than a random text.
        let mut reader = Reader::new(&machine);
        let mut walk = Vec::new();
        for _ in 0..random.below(9) {
            let live: Vec<u8> = machine.live(reader.top()).unwrap().iter().collect();
            if live.is_empty() {
                break;
            }
            let byte = live[random.below(live.len())];
            if !reader.read(&mut machine, byte).unwrap() {
                assert!(machine.live(reader.top()).unwrap().contains(byte));
                continue;
            }
            walk.push(byte);
        }
        check_text(grammar, &mut machine, &walk);
    }
    true
}

/// The whole text, and a completion of what was read of it.
fn check_text(grammar: &Grammar, machine: &mut dyn Machine, text: &[u8]) {
    let wanted = derives(grammar, text);
    let (read, end) = run(machine, text);
    assert_eq!(
        end,
        wanted,
        "{:?} in {grammar:?} (read {read})",
        String::from_utf8_lossy(text)
    );
    let mut reader = Reader::new(machine);
    for &byte in &text[..read] {
        assert!(reader.read(machine, byte).unwrap());
    }
    let mut whole = text[..read].to_vec();
    whole.extend(reader.complete(machine).unwrap());
    assert!(
        derives(grammar, &whole),
        "{:?} in {grammar:?}",
        String::from_utf8_lossy(&whole)
    );
    if let Some(byte) = text.get(read) {
        // What was refused could not have gone on: no short text with that beginning is derived.
        let mut longer = text[..read].to_vec();
        longer.push(*byte);
        for tail in tails(2) {
            let length = longer.len();
            longer.extend(&tail);
            assert!(
                !derives(grammar, &longer),
                "{:?} in {grammar:?}",
                String::from_utf8_lossy(&longer)
            );
            longer.truncate(length);
        }
    }
}

/// All texts of up to `length` letters.
fn tails(length: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..length {
        for at in from..all.len() {
            for letter in 0..LETTERS as u8 {
                let mut longer = all[at].clone();
                longer.push(b'a' + letter);
                all.push(longer);
            }
        }
        from = (all.len() - 1) / LETTERS;
    }
    all
}

#[test]
fn random_grammars_agree_with_the_naive_recogniser() {
    let mut random = Random(1);
    let mut derived = 0;
    for _ in 0..400 {
        let grammar = random_grammar(&mut random, LETTERS);
        derived += usize::from(hold(&grammar, &mut random, 6));
    }
    assert!(derived > 200, "too few grammars derive anything: {derived}");
}

/// A random terminal: a small automaton whose every state reaches an end.
fn random_lexeme(random: &mut Random, longest: bool) -> Lexeme {
    let count = 1 + random.below(4);
    let states = (0..count)
        .map(|index| LexemeState {
            accept: index + 1 == count || random.below(3) == 0,
            edges: (0..LETTERS as u8)
                .filter_map(|letter| {
                    let to = match random.below(4) {
                        0 => index.saturating_sub(1),
                        1 => index,
                        2 => (index + 1).min(count - 1),
                        _ if letter == 0 => (index + 1).min(count - 1),
                        _ => return None,
                    };
                    Some((b'a' + letter, b'a' + letter, to as u32))
                })
                .collect(),
        })
        .collect();
    Lexeme {
        states,
        longest,
        wins: false,
    }
}

#[test]
fn random_terminals_take_their_longest_match() {
    let mut random = Random(2);
    let mut derived = 0;
    for _ in 0..400 {
        let mut grammar = random_grammar(&mut random, LETTERS);
        // Terminals take the place of rules that others refer to.
        for index in 0..grammar.rules.len() {
            if index > 0 && random.below(2) == 0 {
                grammar.rules[index].body = Body::Lexeme(random_lexeme(&mut random, true));
            }
        }
        let last = grammar.rules.len();
        grammar.rules.push(Rule {
            name: "T".to_owned(),
            body: Body::Lexeme(random_lexeme(&mut random, true)),
        });
        let Body::Expr(start) = &grammar.rules[0].body else {
            panic!()
        };
        let start = Expr::Seq(vec![
            start.clone(),
            Expr::repeat(Expr::Rule(last), 0, None),
            Expr::Bytes(b"b".to_vec()),
        ]);
        grammar.rules[0].body = Body::Expr(start);
        derived += usize::from(hold(&grammar, &mut random, 6));
    }
    assert!(derived > 150, "too few grammars derive anything: {derived}");
}

/// A small JSON text, sometimes broken.
fn json_text(random: &mut Random, depth: usize) -> String {
    const SCALARS: [&str; 16] = [
        "0",
        "-1",
        "12.50",
        "1e5",
        "1E+05",
        "true",
        "false",
        "null",
        "\"\"",
        "\"a\"",
        "\"\\n\\u00e9\"",
        "01",
        "1.",
        "\"\\x\"",
        "tru",
        "-",
    ];
    const BLANKS: [&str; 6] = ["", "", "", " ", "\n", "\t"];
    let blank = BLANKS[random.below(BLANKS.len())];
    let scalars = if random.below(12) == 0 {
        SCALARS.len()
    } else {
        11
    };
    let text = match random.below(if depth == 0 { 1 } else { 4 }) {
        0 | 1 => SCALARS[random.below(scalars)].to_owned(),
        2 => {
            let items: Vec<String> = (0..random.below(4))
                .map(|_| json_text(random, depth - 1))
                .collect();
            format!("[{blank}{}]", items.join(","))
        }
        _ => {
            let items: Vec<String> = (0..random.below(4))
                .map(|_| format!("{blank}\"k\":{}", json_text(random, depth - 1)))
                .collect();
            format!("{{{}{blank}}}", items.join(","))
        }
    };
    format!("{blank}{text}{blank}")
}

#[test]
fn json_grammars_agree_with_serde_json() {
    const GBNF: &str = r#"
        root   ::= ws value ws
        value  ::= object | array | string | number | "true" | "false" | "null"
        object ::= "{" ws (member (ws "," ws member)*)? ws "}"
        member ::= string ws ":" ws value
        array  ::= "[" ws (value (ws "," ws value)*)? ws "]"
        string ::= "\"" ([^"\\\x00-\x1f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\""
        number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
        ws     ::= [ \t\r\n]*
    "#;
    const LARK: &str = r#"
        start: value
        ?value: object | array | STRING | NUMBER | "true" | "false" | "null"
        object: "{" [member ("," member)*] "}"
        member: STRING ":" value
        array: "[" [value ("," value)*] "]"
        STRING: /"([^"\\\x00-\x1f]|\\(["\\\/bfnrt]|u[0-9a-fA-F]{4}))*"/
        NUMBER: /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/
        %ignore /[ \t\r\n]+/
    "#;
    let mut machines = [
        machine(super::GrammarSyntax::Gbnf, GBNF),
        machine(super::GrammarSyntax::Lark, LARK),
    ];
    let mut random = Random(3);
    let mut valid = 0;
    for _ in 0..3_000 {
        let mut text = json_text(&mut random, 3);
        if random.below(4) == 0 && !text.is_empty() {
            // One character is lost.
            let at = random.below(text.chars().count());
            text = text
                .chars()
                .enumerate()
                .filter(|(index, _)| *index != at)
                .map(|(_, c)| c)
                .collect();
        }
        let wanted = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        valid += usize::from(wanted);
        for machine in &mut machines {
            assert_eq!(accepts(machine.as_mut(), &text), wanted, "{text:?}");
        }
    }
    assert!((800..2_700).contains(&valid), "{valid}");
}

/// Walks over allowed bytes, and from every state on the way to an end.
fn walk(machine: &mut dyn Machine, random: &mut Random, steps: usize) {
    let mut reader = Reader::new(machine);
    for _ in 0..steps {
        let live: Vec<u8> = machine.live(reader.top()).unwrap().iter().collect();
        let accepts = reader.is_accepting(machine).unwrap();
        assert!(accepts || !live.is_empty(), "a dead end was entered");
        let Some(&byte) = live.get(random.below(live.len().max(1))) else {
            return;
        };
        assert!(
            reader.read(machine, byte).unwrap(),
            "a live byte was refused"
        );
        reader.clone().complete(machine).unwrap();
    }
}

#[test]
fn every_state_of_a_walk_can_be_completed() {
    let mut random = Random(4);
    for name in [
        "arithmetic.gbnf",
        "c.gbnf",
        "chess.gbnf",
        "english.gbnf",
        "japanese.gbnf",
        "json.gbnf",
        "json_arr.gbnf",
        "list.gbnf",
        "vllm-sql.gbnf",
        "lark.lark",
        "rfc.lark",
    ] {
        let Some(grammar) = data(&format!("grammars/{name}")) else {
            return;
        };
        let syntax = match name.ends_with("gbnf") {
            true => super::GrammarSyntax::Gbnf,
            false => super::GrammarSyntax::Lark,
        };
        let mut machine = machine(syntax, &grammar);
        for _ in 0..4 {
            walk(machine.as_mut(), &mut random, 60);
        }
        assert!(
            machine.states() < 20_000,
            "{name}: {} states",
            machine.states()
        );
    }
}

#[test]
fn no_text_makes_a_parser_panic() {
    let pieces = [
        "root",
        "start",
        "a",
        "A",
        "::=",
        ":",
        "=",
        ";",
        "|",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "*",
        "+",
        "?",
        "~",
        "&",
        "->",
        "..",
        "\"x\"",
        "'y'",
        "\"",
        "'",
        "/x/",
        "/",
        "//",
        "#",
        "\n",
        " ",
        ",",
        "1",
        "{2,3}",
        "%ignore",
        "%import common.WS",
        "%json",
        "%regex",
        "{\"substring_chars\": \"ab\"}",
        "-",
        "!",
        "<",
        ">",
        "@",
        "\\",
        "^",
        "é",
        "\u{0}",
        "#x41",
        ".",
        "[lazy]",
        "[^",
        "a-z",
        "\\x4",
        "root ::= ",
        "start: ",
        "a = ",
    ];
    let mut random = Random(5);
    let limits = Limits {
        max_nodes: 2_000,
        max_dfa_states: 500,
        ..Limits::default()
    };
    let mut compiled = 0;
    for _ in 0..6_000 {
        let text: String = (0..1 + random.below(9))
            .map(|_| pieces[random.below(pieces.len())])
            .collect();
        for (syntax, prefix) in [
            (super::GrammarSyntax::Gbnf, "root ::= "),
            (super::GrammarSyntax::Lark, "start: "),
            (super::GrammarSyntax::Ebnf, "a = "),
        ] {
            let text = if random.below(3) == 0 {
                text.clone()
            } else {
                format!("{prefix}{text}")
            };
            match super::machine(syntax, &text, &ByteSet::ALL, &limits) {
                Ok((mut machine, _)) => {
                    compiled += 1;
                    walk(machine.as_mut(), &mut random, 6);
                }
                Err(ConstrainError::Grammar { line, column, .. }) => {
                    assert!(line > 0 && column > 0)
                }
                Err(_) => {}
            }
        }
    }
    assert!(compiled > 300, "{compiled}");
}

#[test]
fn masks_agree_with_reading_byte_by_byte() {
    use crate::{Constraint, GrammarSyntax, Vocabulary};
    let grammars = [
        (
            GrammarSyntax::Gbnf,
            "root ::= list\nlist ::= \"[\" ws (item (\",\" ws item)*)? \"]\" ws\n\
             item ::= list | \"\\\"\" [^\"]* \"\\\"\" ws | [0-9]+ ws\nws ::= [ ]*",
            "[]\", 01",
        ),
        (
            GrammarSyntax::Gbnf,
            "root ::= e\ne ::= e \"+\" t | t\nt ::= t \"*\" f | f\nf ::= \"(\" e \")\" | [0-9]+ | e \"!\"",
            "(+*)!01",
        ),
        (
            GrammarSyntax::Lark,
            "start: (NAME \"=\" value \";\")+\n?value: NUM | \"(\" value (\",\" value)* \")\" | NAME\nNAME: /[a-z]+/\n\
             NUM: /[0-9]+(\\.[0-9]+)?/\n%ignore /[ ]+/",
            "ab=1.;(, )",
        ),
        (
            GrammarSyntax::Ebnf,
            "s = \"a\", [s], \"b\" | {\"c\"}, \"d\";",
            "abcd",
        ),
    ];
    let mut random = Random(6);
    for (syntax, grammar, letters) in grammars {
        let letters = letters.as_bytes();
        let mut tokens: Vec<Vec<u8>> = letters.iter().map(|&byte| vec![byte]).collect();
        for _ in 0..300 {
            let token = (0..1 + random.below(5)).map(|_| letters[random.below(letters.len())]);
            tokens.push(token.collect());
        }
        let end = tokens.len() as u32;
        let all = tokens
            .iter()
            .map(|token| Some(token.as_slice()))
            .chain([None]);
        let vocabulary = Vocabulary::new(all, &[end]).unwrap();
        let constraint = Constraint::grammar(&vocabulary, syntax, grammar).unwrap();
        let (mut machine, _) =
            super::machine(syntax, grammar, vocabulary.alphabet(), &Limits::default()).unwrap();
        let machine = machine.as_mut();
        for _ in 0..12 {
            let mut matcher = constraint.matcher().unwrap();
            let mut reader = Reader::new(machine);
            for _ in 0..12 {
                let allowed: Vec<u32> = (0..end)
                    .filter(|&token| {
                        let mut reader = reader.clone();
                        let bytes = &tokens[token as usize];
                        bytes
                            .iter()
                            .all(|&byte| reader.read(machine, byte).unwrap())
                    })
                    .collect();
                let ends = reader.is_accepting(machine).unwrap();
                let mask = matcher.mask().unwrap();
                let masked: Vec<u32> = mask.iter().filter(|&token| token != end).collect();
                assert_eq!(masked, allowed, "{grammar}");
                assert_eq!(mask.contains(end), ends, "{grammar}");
                let Some(&token) = allowed.get(random.below(allowed.len().max(1))) else {
                    break;
                };
                matcher.commit(token).unwrap();
                for &byte in &tokens[token as usize] {
                    assert!(reader.read(machine, byte).unwrap());
                }
            }
        }
    }
}

/// Random grammars with texts that Lark 1.x (Earley parser, dynamic lexer) accepts and refuses.
#[test]
fn lark_agrees() {
    let cases: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("lark/cases.json")).unwrap();
    assert!(cases.len() > 50);
    for case in &cases {
        let grammar = case["grammar"].as_str().unwrap();
        let texts = |key: &str| -> Vec<&str> {
            case[key]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(serde_json::Value::as_str)
                .collect()
        };
        check(
            super::GrammarSyntax::Lark,
            grammar,
            &texts("accepted"),
            &texts("refused"),
        );
    }
}
