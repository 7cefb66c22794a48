//! A Lark file as written, names unresolved.

/// Everything a file says.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) definitions: Vec<Definition>,
    pub(super) ignored: Vec<Ast>,
    pub(super) imports: Vec<Import>,
    pub(super) declared: Vec<(String, usize)>,
}

/// A rule or a terminal.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) at: usize,
    pub(super) parameters: Vec<String>,
    pub(super) options: Options,
    pub(super) body: Ast,
    pub(super) kind: Kind,
}

/// How a definition relates to an earlier one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    First,
    Override,
    Extend,
}

/// What stands in brackets behind the name of a rule.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    /// Match as few bytes as possible.
    pub(super) lazy: bool,
    /// Match as few bytes as possible up to and including this.
    pub(super) suffix: Option<Ast>,
}

/// `%import common.NAME -> alias`.
#[derive(Debug, Clone)]
pub(super) struct Import {
    pub(super) name: String,
    pub(super) alias: String,
    pub(super) at: usize,
}

/// An expression.
#[derive(Debug, Clone)]
pub(super) enum Ast {
    Empty,
    Text {
        text: String,
        ignore_case: bool,
    },
    Range(char, char),
    Regex {
        pattern: String,
        flags: String,
        at: usize,
    },
    Name {
        name: String,
        arguments: Vec<Ast>,
        at: usize,
    },
    Seq(Vec<Ast>),
    Alt(Vec<Ast>),
    And(Vec<Ast>, usize),
    Not(Box<Ast>, usize),
    Repeat {
        of: Box<Ast>,
        min: u32,
        max: Option<u32>,
    },
    /// An embedded JSON Schema.
    Json {
        schema: serde_json::Value,
        at: usize,
    },
    /// Any run of these chunks.
    Substring(Vec<String>),
}

/// Whether a name is that of a terminal: its first letter is a capital.
pub(super) fn is_terminal(name: &str) -> bool {
    name.trim_start_matches('_')
        .starts_with(|c: char| c.is_uppercase())
}
