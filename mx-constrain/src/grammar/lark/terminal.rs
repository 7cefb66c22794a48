//! Terminals as regular expressions: names are replaced by what they stand for.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, Repetition};

use std::collections::HashMap;

use crate::{ConstrainError, Limits, hash::FastMap, lexical::Dfa};

use super::{
    super::{
        ir::Lexeme,
        lexeme::{Take, from_dfa, lexeme, pattern_dfa},
        source::Cursor,
    },
    ast::{Ast, Definition, is_terminal},
};

/// Where names are looked up: in the file or in the library `common`.
pub(super) type Scope = usize;
/// The file.
pub(super) const FILE: Scope = 0;
/// The library.
pub(super) const COMMON: Scope = 1;

/// All definitions, by scope and name.
#[derive(Debug, Default)]
pub(super) struct Library {
    pub(super) definitions: Vec<(Scope, Definition)>,
    ids: HashMap<(Scope, String), usize>,
}

impl Library {
    /// Adds a definition; one of the same name is replaced.
    pub(super) fn add(&mut self, scope: Scope, definition: Definition) -> usize {
        let id = self.definitions.len();
        self.ids.insert((scope, definition.name.clone()), id);
        self.definitions.push((scope, definition));
        id
    }

    /// Makes a definition known under another name.
    pub(super) fn alias(&mut self, scope: Scope, name: String, id: usize) {
        self.ids.insert((scope, name), id);
    }

    pub(super) fn find(&self, scope: Scope, name: &str) -> Option<usize> {
        self.ids.get(&(scope, name.to_owned())).copied()
    }
}

/// A regular expression and how large it is.
#[derive(Debug, Clone)]
pub(super) struct Sized {
    pub(super) hir: Hir,
    size: usize,
}

/// Turns terminals into regular expressions and automata.
#[derive(Debug)]
pub(super) struct Terminals<'a> {
    cursor: &'a Cursor<'a>,
    limits: &'a Limits,
    library: &'a Library,
    done: FastMap<usize, Sized>,
    /// Definitions that are being expanded.
    open: Vec<usize>,
}

impl<'a> Terminals<'a> {
    pub(super) fn new(cursor: &'a Cursor<'a>, limits: &'a Limits, library: &'a Library) -> Self {
        Self {
            cursor,
            limits,
            library,
            done: FastMap::default(),
            open: Vec::new(),
        }
    }

    /// The automaton of a terminal that stands at `at`.
    pub(super) fn automaton(
        &mut self,
        ast: &Ast,
        scope: Scope,
        take: Take,
        at: usize,
    ) -> Result<Lexeme, ConstrainError> {
        let around = || {
            self.cursor
                .error_at(at, "a terminal cannot look around itself (`^`, `$`, `\\b`)")
        };
        if self.is_boolean(ast, scope)? {
            let mut dfa = self.dfa(ast, scope, at)?;
            return from_dfa(&mut dfa, take, self.limits);
        }
        let hir = self.expand(ast, scope)?.hir;
        lexeme(&hir, take, self.limits)?.ok_or_else(around)
    }

    /// Reads a terminal that need not be used, so that its errors show.
    pub(super) fn check(&mut self, ast: &Ast, at: usize) -> Result<(), ConstrainError> {
        match self.is_boolean(ast, FILE)? {
            true => self.dfa(ast, FILE, at).map(|_| ()),
            false => self.expand(ast, FILE).map(|_| ()),
        }
    }

    /// Whether `&` or `~` is in it.
    fn is_boolean(&mut self, ast: &Ast, scope: Scope) -> Result<bool, ConstrainError> {
        match ast {
            Ast::And(..) | Ast::Not(..) => Ok(true),
            Ast::Seq(parts) | Ast::Alt(parts) => {
                for part in parts {
                    if self.is_boolean(part, scope)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Ast::Repeat { of, .. } => self.is_boolean(of, scope),
            Ast::Name { name, at, .. } => match self.library.find(scope, name) {
                Some(id) if !self.done.contains_key(&id) => {
                    self.enter(id, name, *at)?;
                    let (scope, definition) = &self.library.definitions[id];
                    let found = self.is_boolean(&definition.body, *scope);
                    self.open.pop();
                    if let Ok(false) = found {
                        // From now on its regular expression is known, so that it is not searched again.
                        self.named(name, *scope, *at)?;
                    }
                    found
                }
                _ => Ok(false),
            },
            _ => Ok(false),
        }
    }

    /// The automaton of a terminal with `&` and `~`.
    fn dfa(&mut self, ast: &Ast, scope: Scope, at: usize) -> Result<Dfa, ConstrainError> {
        if !self.is_boolean(ast, scope)? {
            let hir = self.expand(ast, scope)?.hir;
            return match pattern_dfa(&hir, self.limits)? {
                Some(dfa) => Ok(dfa),
                None => Err(self
                    .cursor
                    .error_at(at, "a terminal cannot look around itself (`^`, `$`, `\\b`)")),
            };
        }
        match ast {
            Ast::And(parts, at) => {
                let parts = parts
                    .iter()
                    .map(|part| self.dfa(part, scope, *at))
                    .collect::<Result<_, _>>()?;
                Dfa::and(parts, self.limits)
            }
            Ast::Not(of, at) => self.dfa(of, scope, *at)?.not(self.limits),
            Ast::Alt(parts) => {
                let parts: Result<Vec<Dfa>, _> = parts
                    .iter()
                    .map(|part| self.dfa(part, scope, at)?.not(self.limits))
                    .collect();
                Dfa::and(parts?, self.limits)?.not(self.limits)
            }
            Ast::Name { name, at, .. } => match self.library.find(scope, name) {
                Some(id) => {
                    self.enter(id, name, *at)?;
                    let (scope, definition) = &self.library.definitions[id];
                    let dfa = self.dfa(&definition.body, *scope, *at);
                    self.open.pop();
                    dfa
                }
                None => Err(self
                    .cursor
                    .error_at(*at, format!("terminal `{name}` is not defined"))),
            },
            _ => Err(self.cursor.error_at(
                at,
                "`&` and `~` cannot stand in a part of a sequence or a repetition",
            )),
        }
    }

    fn enter(&mut self, id: usize, name: &str, at: usize) -> Result<(), ConstrainError> {
        if self.open.contains(&id) {
            return Err(self.cursor.error_at(
                at,
                format!("terminal `{name}` contains itself; only rules may do that"),
            ));
        }
        self.open.push(id);
        Limits::check(
            "max_nesting",
            self.open.len(),
            self.limits.max_nesting.min(DEEPEST),
        )
    }

    /// The regular expression of `ast`.
    pub(super) fn expand(&mut self, ast: &Ast, scope: Scope) -> Result<Sized, ConstrainError> {
        let sized = match ast {
            Ast::Empty => Sized {
                hir: Hir::empty(),
                size: 1,
            },
            Ast::Text {
                text,
                ignore_case: false,
            } => Sized {
                hir: Hir::literal(text.as_bytes()),
                size: 1 + text.len(),
            },
            Ast::Text {
                text,
                ignore_case: true,
            } => {
                let letters = text.chars().map(|c| {
                    let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
                    // Fails only without the case tables, which this crate's features include.
                    let _ = class.try_case_fold_simple();
                    Hir::class(Class::Unicode(class))
                });
                Sized {
                    hir: Hir::concat(letters.collect()),
                    size: 1 + text.len(),
                }
            }
            Ast::Range(low, high) => {
                let class = ClassUnicode::new([ClassUnicodeRange::new(*low, *high)]);
                Sized {
                    hir: Hir::class(Class::Unicode(class)),
                    size: 1,
                }
            }
            Ast::Regex { pattern, flags, at } => self.regex(pattern, flags, *at)?,
            Ast::Name {
                name,
                arguments,
                at,
            } => {
                if !arguments.is_empty() {
                    return Err(self.cursor.error_at(*at, "terminals cannot be templates"));
                }
                self.named(name, scope, *at)?
            }
            Ast::Seq(parts) => {
                let (parts, size) = self.parts(parts, scope)?;
                Sized {
                    hir: Hir::concat(parts),
                    size,
                }
            }
            Ast::Alt(parts) => {
                let (parts, size) = self.parts(parts, scope)?;
                Sized {
                    hir: Hir::alternation(parts),
                    size,
                }
            }
            Ast::Repeat { of, min, max } => {
                let of = self.expand(of, scope)?;
                let sub = Box::new(of.hir);
                let repetition = Repetition {
                    min: *min,
                    max: *max,
                    greedy: true,
                    sub,
                };
                Sized {
                    hir: Hir::repetition(repetition),
                    size: of.size + 1,
                }
            }
            Ast::Substring(chunks) => self.substring(chunks),
            Ast::And(_, at) | Ast::Not(_, at) => {
                return Err(self.cursor.error_at(
                    *at,
                    "`&` and `~` cannot stand in a part of a sequence or a repetition",
                ));
            }
            Ast::Json { at, .. } => {
                return Err(self
                    .cursor
                    .error_at(*at, "a JSON Schema can only stand in a rule"));
            }
        };
        Limits::check("max_nodes", sized.size, self.limits.max_nodes)?;
        Ok(sized)
    }

    fn parts(&mut self, parts: &[Ast], scope: Scope) -> Result<(Vec<Hir>, usize), ConstrainError> {
        let mut size = 1;
        let mut all = Vec::with_capacity(parts.len());
        for part in parts {
            let part = self.expand(part, scope)?;
            size += part.size;
            Limits::check("max_nodes", size, self.limits.max_nodes)?;
            all.push(part.hir);
        }
        Ok((all, size))
    }

    fn named(&mut self, name: &str, scope: Scope, at: usize) -> Result<Sized, ConstrainError> {
        let Some(id) = self.library.find(scope, name) else {
            return Err(self
                .cursor
                .error_at(at, format!("terminal `{name}` is not defined")));
        };
        if let Some(done) = self.done.get(&id) {
            return Ok(done.clone());
        }
        let (scope, definition) = &self.library.definitions[id];
        if !is_terminal(name) {
            return Err(self
                .cursor
                .error_at(at, format!("a terminal cannot contain the rule `{name}`")));
        }
        self.enter(id, name, at)?;
        let sized = self.expand(&definition.body, *scope)?;
        self.open.pop();
        self.done.insert(id, sized.clone());
        Ok(sized)
    }

    fn regex(&self, pattern: &str, flags: &str, at: usize) -> Result<Sized, ConstrainError> {
        let has = |flag| flags.contains(flag);
        let parsed = regex_syntax::ParserBuilder::new()
            .case_insensitive(has('i'))
            .multi_line(has('m'))
            .dot_matches_new_line(has('s'))
            .ignore_whitespace(has('x'))
            .nest_limit(self.limits.max_nesting.min(DEEPEST) as u32)
            .build()
            .parse(pattern);
        match parsed {
            Ok(hir) => Ok(Sized {
                hir,
                size: 1 + pattern.len(),
            }),
            Err(error) => {
                let (offset, reason) = match &error {
                    regex_syntax::Error::Parse(error) => {
                        (error.span().start.offset, error.kind().to_string())
                    }
                    regex_syntax::Error::Translate(error) => {
                        (error.span().start.offset, error.kind().to_string())
                    }
                    _ => (0, error.to_string()),
                };
                Err(self
                    .cursor
                    .error_at(at + offset, format!("regular expression: {reason}")))
            }
        }
    }

    /// Any run of the chunks, nothing included: from each chunk on, perhaps the next, perhaps the one after that.
    fn substring(&self, chunks: &[String]) -> Sized {
        let mut size = 1;
        let mut alternatives = vec![Hir::empty()];
        let mut tails: Vec<Vec<u8>> = vec![Vec::new(); chunks.len()];
        for first in 0..chunks.len() {
            let tail = &mut tails[first];
            for chunk in &chunks[first..] {
                tail.extend_from_slice(chunk.as_bytes());
                size += tail.len();
                if size > self.limits.max_nodes {
                    return Sized {
                        hir: Hir::empty(),
                        size,
                    };
                }
                alternatives.push(Hir::literal(tail.clone()));
            }
        }
        Sized {
            hir: Hir::alternation(alternatives),
            size,
        }
    }
}

/// Deepest nesting of terminals in terminals, whatever the limits say.
const DEEPEST: usize = 250;
