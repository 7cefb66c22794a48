//! The third-party grammars, each with texts that it accepts and refuses.

use super::{
    GrammarSyntax::{Gbnf, Lark},
    testing::{check, data},
};

fn gbnf(name: &str, accepted: &[&str], refused: &[&str]) {
    if let Some(grammar) = data(&format!("grammars/{name}.gbnf")) {
        check(Gbnf, &grammar, accepted, refused);
    }
}

fn lark(name: &str, accepted: &[&str], refused: &[&str]) {
    if let Some(grammar) = data(&format!("grammars/{name}.lark")) {
        check(Lark, &grammar, accepted, refused);
    }
}

#[test]
fn arithmetic() {
    gbnf(
        "arithmetic",
        &[
            "1=2\n",
            "x +y*2 = 7\n",
            "(a+b)*c = z1\n1=1\n",
            "((1)) = 1\n",
            "a-b/c +d= \t12\n",
        ],
        &[
            "", "1=2", "1+=2\n", "=2\n", "(1=2\n", "1=(2\n", "A=1\n", "1==2\n", "1=2\n3",
        ],
    );
}

#[test]
fn c() {
    gbnf(
        "c",
        &[
            "",
            "int main(){}",
            "int f(float x){return 1+2*x;}",
            "int f(){int x = 1;y = -x*( 2+3 );g (x, y, 1);return x;}",
            "char f(){while(x<1){x = x-1;}if(a==b){}else{// no\n}for(i = 0; i<9; i = i+1){/* a */}}",
            "int f(){}float g(){}",
        ],
        &[
            "int main()",
            "int main(){",
            "void f(){}",
            "int f(){return 1}",
            "int f(){x=1;}",
            "int f(){if(a){}}",
            "int f(){return (1+2;}",
            "int 1f(){}",
            "int f(){/* a }",
            "main(){}",
        ],
    );
}

#[test]
fn chess() {
    gbnf(
        "chess",
        &[
            "1. e4 e5\n2. Nf3 Nc6\n",
            "1. e4 d5\n2. exd5 Qxd5\n10. O-O O-O-O+\n",
            "1. e4 e5\n3. e8=Q# Nb1d2\n",
        ],
        &[
            "",
            "1. e4 e5\n",
            "1. e4\n2. Nf3 Nc6\n",
            "2. e4 e5\n2. Nf3 Nc6\n",
            "1. e9 e5\n2. a3 a4\n",
            "1. e4 e5\n2. O-O-O-O e5\n",
        ],
    );
}

#[test]
fn english_and_japanese() {
    gbnf(
        "english",
        &["Hello, world!", "a b\nc", "[\\]^_`{|}~", "x"],
        &["", " a", "a  b", "a ", "é", "a\u{7f}"],
    );
    gbnf(
        "japanese",
        &["こんにちは", "日本 語、カナ", "ー"],
        &["", "a", "日 ", "日  本", "한", "日a"],
    );
}

#[test]
fn json() {
    let accepted = [
        "{}",
        "{ }",
        "{\"a\":1}",
        "{\"a\": [1, 2.5, -3e+1, {\"b\": null}], \"c\": \"x\\u00e9é\\n\"} ",
        "{\"a\":[[[[[[]]]]]]}",
        "{\"a\":{\"b\":{\"c\":{\"d\":true}}}}",
        "{\n\t\"a\":false\n}",
    ];
    let refused = [
        "",
        "{",
        "[]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":01}",
        "{\"a\":1,}",
        "{\"a\":\"\n\"}",
        "{a:1}",
        "{\"a\":1]",
        "{\"a\":[1,]}",
        "{\"a\":tru}",
        "{}x",
        "{\"a\":\"\\x\"}",
        "{\"a\":-}",
        "{\"a\":1.}",
        "{\"a\":\"\u{7f}\"}",
    ];
    gbnf("json", &accepted, &refused);
    gbnf(
        "json_arr",
        &[
            "[\n]",
            "[\n1,\n2]",
            "[\n{\"a\":[1,2]},\n\"x\",\n[],\nnull]",
            "[\n {}]",
        ],
        &["", "[]", "[\n1,2]", "[\n1,\n]", "[\n1]\n", "{}", "[\n1"],
    );
}

#[test]
fn list_and_sql() {
    gbnf(
        "list",
        &["- a\n", "- a\n- b c\n- é日\n"],
        &[
            "",
            "- a",
            "-a\n",
            "- \n",
            "- a\u{2028}b\n",
            "- a\u{85}\n",
            "- a\r\n",
        ],
    );
    gbnf(
        "vllm-sql",
        &[
            "SELECTcol_1fromtable_1wherecol_2=1",
            "SELECTcol_2fromtable_2wherecol_2=2",
        ],
        &[
            "",
            "SELECT col_1from table_1 where col_2=1",
            "SELECTcol_3fromtable_1wherecol_2=1",
            "SELECTcol_1fromtable_1wherecol_2=",
        ],
    );
}

#[test]
fn lark_in_lark() {
    lark(
        "lark",
        &[
            "start: \"a\" b\n",
            "start: foo | bar -> baz\n  | qux\nFOO.2: /a+/i \"x\"..\"y\"\n%ignore FOO\n",
            "",
            "a: b~2..3 (c d)* [e]\n// comment\n%import common.WS -> X\n",
            "a{b}: c{d, e} # comment\n",
            "!?x: y+ \"i\"i",
        ],
        &[
            "start",
            "start: (a",
            "start: a)",
            "1: a",
            "%ignor a",
            "a: \"b",
            "a: b -> ",
            "start: a b: c",
            "a: b ~ c",
            "a: b | \"c",
        ],
    );
}

#[test]
fn rfc() {
    let front = "<front>\n<title>x</title>\n<author initials=\"A\"><organization>o</organization></author>\
                 <date year=\"1\"></date></front>";
    let middle = "<middle><section title=\"t\"><t>hello &amp; <xref target=\"a\">b</xref></t></section></middle>\n";
    let good = format!("<rfc number=\"1\">\n{front}{middle}</rfc>");
    let swapped = format!("<rfc number=\"1\">\n{middle}{front}</rfc>");
    lark(
        "rfc",
        &[
            &good,
            &format!("{good}\n"),
            &good.replace("&amp;", "&#x41;&#65;"),
        ],
        &[
            "",
            "<rfc>",
            &swapped,
            &good[1..],
            &good.replace("&amp;", "&"),
            &good.replace("</t>", ""),
        ],
    );
}
