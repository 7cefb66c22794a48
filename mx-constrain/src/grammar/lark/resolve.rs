//! From a Lark file to rules: imports, templates, terminals and what is ignored between them.

use std::collections::HashMap;

use crate::{ConstrainError, Limits};

use super::{
    super::{
        ir::{Body, Expr, Grammar, RuleId},
        lexeme::Take,
        names::Names,
        source::Cursor,
    },
    ast::{Ast, Definition, File, Kind, is_terminal},
    common, parser,
    terminal::{COMMON, FILE, Library, Scope, Terminals},
};

/// Resolves a file.
pub(super) fn resolve(
    file: File,
    cursor: &Cursor<'_>,
    limits: &Limits,
) -> Result<Grammar, ConstrainError> {
    let library = library(&file, cursor, limits)?;
    let mut resolver = Resolver {
        cursor,
        limits,
        library: &library,
        declared: &file.declared,
        terminals: Terminals::new(cursor, limits, &library),
        names: Names::default(),
        rules: HashMap::new(),
        instances: HashMap::new(),
        literals: HashMap::new(),
        ignored: None,
        pending: Vec::new(),
        size: 0,
    };
    resolver.ignore(&file.ignored)?;
    let mut start = None;
    for (id, (scope, definition)) in library.definitions.iter().enumerate() {
        // Of several definitions of a name only the last counts.
        if *scope != FILE || library.find(FILE, &definition.name) != Some(id) {
            continue;
        }
        match is_terminal(&definition.name) {
            true => resolver.check_terminal(definition)?,
            false if definition.parameters.is_empty() => {
                let rule = resolver.rule(id, Vec::new())?;
                if definition.name == "start" {
                    start = Some(rule);
                }
            }
            false => {}
        }
    }
    while let Some(pending) = resolver.pending.pop() {
        resolver.write(pending)?;
    }
    let Some(mut start) = start else {
        return Err(cursor.error_at(0, "the start rule `start` is not defined"));
    };
    if let Some(ignored) = resolver.ignored {
        let body = Expr::Seq(vec![Expr::Rule(start), Expr::Rule(ignored)]);
        start = resolver
            .names
            .anonymous("start".to_owned(), Body::Expr(body));
    }
    resolver.names.finish(cursor, start)
}

/// Collects the definitions of the file and those it imports.
fn library(file: &File, cursor: &Cursor<'_>, limits: &Limits) -> Result<Library, ConstrainError> {
    let mut library = Library::default();
    if !file.imports.is_empty() {
        for definition in parser::parse(common::COMMON, limits)?.0.definitions {
            library.add(COMMON, definition);
        }
    }
    for import in &file.imports {
        match library.find(COMMON, &import.name) {
            Some(id) => library.alias(FILE, import.alias.clone(), id),
            None => {
                let reason = format!("the library `common` has no terminal `{}`", import.name);
                return Err(cursor.error_at(import.at, reason));
            }
        }
    }
    for definition in &file.definitions {
        let name = &definition.name;
        let known = library.find(FILE, name);
        let mut definition = definition.clone();
        match (definition.kind, known) {
            (Kind::First, None) | (Kind::Override, Some(_)) => {}
            (Kind::First, Some(_)) => {
                return Err(cursor.error_at(definition.at, format!("`{name}` is defined twice")));
            }
            (Kind::Extend, Some(id)) => {
                let (scope, earlier) = &library.definitions[id];
                if *scope != FILE {
                    let reason = "a terminal of the library can be overridden, but not extended";
                    return Err(cursor.error_at(definition.at, reason));
                }
                definition.body = Ast::Alt(vec![earlier.body.clone(), definition.body]);
            }
            (Kind::Override | Kind::Extend, None) => {
                let reason = format!(
                    "`{name}` is not defined before; there is nothing to override or extend"
                );
                return Err(cursor.error_at(definition.at, reason));
            }
        }
        library.add(FILE, definition);
    }
    Ok(library)
}

/// A rule whose body is still to be written.
#[derive(Debug)]
struct Pending {
    rule: RuleId,
    definition: usize,
    arguments: Vec<Expr>,
}

struct Resolver<'a> {
    cursor: &'a Cursor<'a>,
    limits: &'a Limits,
    library: &'a Library,
    declared: &'a [(String, usize)],
    terminals: Terminals<'a>,
    names: Names,
    /// Terminals by definition, as expressions.
    rules: HashMap<usize, Expr>,
    /// Rules by definition and arguments.
    instances: HashMap<(usize, Vec<Expr>), RuleId>,
    /// Regular expressions that stand in rules, by pattern and flags.
    literals: HashMap<(String, String), Expr>,
    /// What may stand before every terminal and at the end.
    ignored: Option<RuleId>,
    pending: Vec<Pending>,
    /// Nodes of expressions written so far.
    size: usize,
}

/// Values of the parameters of a template.
type Parameters<'p> = &'p [(&'p str, &'p Expr)];

impl Resolver<'_> {
    fn ignore(&mut self, ignored: &[Ast]) -> Result<(), ConstrainError> {
        if ignored.is_empty() {
            return Ok(());
        }
        let mut alternatives = Vec::new();
        for ast in ignored {
            let (name, at) = match ast {
                Ast::Name { name, at, .. } => (name.clone(), *at),
                Ast::Regex { pattern, at, .. } => (format!("/{pattern}/"), *at),
                _ => ("%ignore".to_owned(), 0),
            };
            alternatives.push(self.lexeme(name, ast, FILE, Take::Longest, at)?);
        }
        let body = Expr::repeat(Expr::alt(alternatives), 0, None);
        self.ignored = Some(self.names.anonymous("%ignore".to_owned(), Body::Expr(body)));
        Ok(())
    }

    /// Reads a terminal that need not be used, so that its errors show.
    fn check_terminal(&mut self, definition: &Definition) -> Result<(), ConstrainError> {
        if !definition.parameters.is_empty() {
            return Err(self
                .cursor
                .error_at(definition.at, "terminals cannot be templates"));
        }
        if matches!(definition.body, Ast::Substring(_)) || definition.options.lazy {
            return Ok(());
        }
        self.terminals.check(&definition.body, definition.at)
    }

    /// The rule of a definition with arguments, written later.
    fn rule(&mut self, definition: usize, arguments: Vec<Expr>) -> Result<RuleId, ConstrainError> {
        let key = (definition, arguments);
        if let Some(&rule) = self.instances.get(&key) {
            return Ok(rule);
        }
        let arguments = key.1.clone();
        let rule = self
            .names
            .reserve(self.library.definitions[definition].1.name.clone());
        Limits::check("max_nodes", self.names.len(), self.limits.max_nodes)?;
        self.instances.insert(key, rule);
        self.pending.push(Pending {
            rule,
            definition,
            arguments,
        });
        Ok(rule)
    }

    fn write(&mut self, pending: Pending) -> Result<(), ConstrainError> {
        let Definition {
            name,
            at,
            parameters,
            options,
            body,
            ..
        } = &self.library.definitions[pending.definition].1;
        if options.lazy || options.suffix.is_some() {
            let body = match &options.suffix {
                Some(suffix) => &Ast::Seq(vec![body.clone(), suffix.clone()]),
                None => body,
            };
            let matched = self.lexeme(name.clone(), body, FILE, Take::Shortest, *at)?;
            let body = self.behind_ignored(matched);
            self.names.fill(pending.rule, Body::Expr(body));
            return Ok(());
        }
        let parameters: Vec<(&str, &Expr)> = parameters
            .iter()
            .map(String::as_str)
            .zip(&pending.arguments)
            .collect();
        let body = self.expr(body, &parameters)?;
        self.names.fill(pending.rule, Body::Expr(body));
        Ok(())
    }

    /// What may be ignored, and then a terminal.
    fn behind_ignored(&self, terminal: Expr) -> Expr {
        match self.ignored {
            Some(ignored) => Expr::Seq(vec![Expr::Rule(ignored), terminal]),
            None => terminal,
        }
    }

    /// An expression of a rule.
    fn expr(&mut self, ast: &Ast, parameters: Parameters<'_>) -> Result<Expr, ConstrainError> {
        self.grow(1)?;
        match ast {
            Ast::Empty => Ok(Expr::Empty),
            Ast::Text { text, .. } if text.is_empty() => Ok(Expr::Empty),
            Ast::Text { text, ignore_case } => {
                self.grow(text.len())?;
                let literal = match ignore_case {
                    true => Expr::ignoring_case(text),
                    false => Expr::Bytes(text.clone().into_bytes()),
                };
                Ok(self.behind_ignored(literal))
            }
            Ast::Range(low, high) => {
                Ok(self.behind_ignored(Expr::class(vec![(*low, *high)], false)))
            }
            Ast::Regex { pattern, flags, at } => {
                let key = (pattern.clone(), flags.clone());
                let literal = match self.literals.get(&key) {
                    Some(known) => known.clone(),
                    None => {
                        let literal =
                            self.lexeme(format!("/{pattern}/"), ast, FILE, Take::Longest, *at)?;
                        self.literals.insert(key, literal.clone());
                        literal
                    }
                };
                Ok(self.behind_ignored(literal))
            }
            Ast::Name {
                name,
                arguments,
                at,
            } => {
                if let Some((_, value)) = parameters.iter().find(|parameter| parameter.0 == name) {
                    self.grow(size(value))?;
                    return Ok((*value).clone());
                }
                match is_terminal(name) {
                    true => self.terminal(name, *at),
                    false => self.reference(name, arguments, parameters, *at),
                }
            }
            Ast::Seq(parts) => {
                let parts: Result<_, _> = parts
                    .iter()
                    .map(|part| self.expr(part, parameters))
                    .collect();
                Ok(Expr::seq(parts?))
            }
            Ast::Alt(parts) => {
                let parts: Result<_, _> = parts
                    .iter()
                    .map(|part| self.expr(part, parameters))
                    .collect();
                Ok(self.alternatives(parts?))
            }
            Ast::Repeat { of, min, max } => {
                Ok(Expr::repeat(self.expr(of, parameters)?, *min, *max))
            }
            Ast::Substring(chunks) => {
                let run = self.substring(chunks)?;
                Ok(self.behind_ignored(run))
            }
            Ast::And(_, at) | Ast::Not(_, at) => Err(self.cursor.error_at(
                *at,
                "`&` and `~` combine terminals; they cannot stand in a rule",
            )),
            Ast::Json { schema, .. } => {
                let rule = self.names.schema("%json".to_owned(), schema.clone());
                Ok(self.behind_ignored(Expr::Rule(rule)))
            }
        }
    }

    /// Alternatives, of which those that are one terminal share what is ignored before it.
    fn alternatives(&self, parts: Vec<Expr>) -> Expr {
        let Some(ignored) = self.ignored else {
            return Expr::alt(parts);
        };
        let (mut terminals, mut others) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Expr::Seq(mut pair) if pair.len() == 2 && pair[0] == Expr::Rule(ignored) => {
                    terminals.extend(pair.pop())
                }
                other => others.push(other),
            }
        }
        if !terminals.is_empty() {
            others.push(self.behind_ignored(Expr::alt(terminals)));
        }
        Expr::alt(others)
    }

    fn grow(&mut self, nodes: usize) -> Result<(), ConstrainError> {
        self.size += nodes;
        Limits::check("max_nodes", self.size, self.limits.max_nodes)
    }

    fn reference(
        &mut self,
        name: &str,
        arguments: &[Ast],
        parameters: Parameters<'_>,
        at: usize,
    ) -> Result<Expr, ConstrainError> {
        let Some(id) = self.library.find(FILE, name) else {
            return Err(self
                .cursor
                .error_at(at, format!("rule `{name}` is not defined")));
        };
        let wanted = self.library.definitions[id].1.parameters.len();
        if wanted != arguments.len() {
            let reason = format!(
                "template `{name}` wants {wanted} arguments, {} are given",
                arguments.len()
            );
            return Err(self.cursor.error_at(at, reason));
        }
        let arguments: Result<_, _> = arguments
            .iter()
            .map(|argument| self.expr(argument, parameters))
            .collect();
        self.rule(id, arguments?).map(Expr::Rule)
    }

    fn terminal(&mut self, name: &str, at: usize) -> Result<Expr, ConstrainError> {
        let Some(id) = self.library.find(FILE, name) else {
            let reason = match self.declared.iter().any(|declared| declared.0 == name) {
                true => format!(
                    "terminal `{name}` is declared without a pattern: there is no lexer that could know it"
                ),
                false => format!("terminal `{name}` is not defined"),
            };
            return Err(self.cursor.error_at(at, reason));
        };
        let expr = match self.rules.get(&id) {
            Some(known) => known.clone(),
            None => {
                let (scope, definition) = &self.library.definitions[id];
                let lazy = definition.options.lazy || definition.options.suffix.is_some();
                let expr = match &definition.body {
                    Ast::Substring(chunks) => self.substring(chunks)?,
                    body => {
                        let take = if lazy { Take::Shortest } else { Take::Longest };
                        let body = match &definition.options.suffix {
                            Some(suffix) => &Ast::Seq(vec![body.clone(), suffix.clone()]),
                            None => body,
                        };
                        self.lexeme(name.to_owned(), body, *scope, take, at)?
                    }
                };
                self.rules.insert(id, expr.clone());
                expr
            }
        };
        Ok(self.behind_ignored(expr))
    }

    /// A terminal as a rule of its own, or as its text when it has only one.
    fn lexeme(
        &mut self,
        name: String,
        ast: &Ast,
        scope: Scope,
        take: Take,
        at: usize,
    ) -> Result<Expr, ConstrainError> {
        let mut lexeme = self.terminals.automaton(ast, scope, take, at)?;
        self.grow(lexeme.states.len())?;
        if let Some(text) = lexeme.only_text()
            && !lexeme.wins
        {
            return Ok(Expr::Bytes(text));
        }
        lexeme.longest &= lexeme.goes_on();
        Ok(Expr::Rule(self.names.anonymous(name, Body::Lexeme(lexeme))))
    }

    /// Any run of chunks: one rule per chunk, which may go on with the next.
    fn substring(&mut self, chunks: &[String]) -> Result<Expr, ConstrainError> {
        let mut alternatives = vec![Expr::Empty];
        let mut next: Option<RuleId> = None;
        for chunk in chunks.iter().rev() {
            self.grow(2 + chunk.len())?;
            let mut parts = vec![Expr::Bytes(chunk.clone().into_bytes())];
            if let Some(next) = next {
                parts.push(Expr::repeat(Expr::Rule(next), 0, Some(1)));
            }
            let rule = self
                .names
                .anonymous("%regex".to_owned(), Body::Expr(Expr::seq(parts)));
            alternatives.push(Expr::Rule(rule));
            next = Some(rule);
        }
        let body = Body::Expr(Expr::Alt(alternatives));
        Ok(Expr::Rule(self.names.anonymous("%regex".to_owned(), body)))
    }
}

/// Nodes of an expression. Its nesting is bounded by what was parsed and by the number of nodes.
fn size(expr: &Expr) -> usize {
    let mut work = vec![expr];
    let mut size = 0;
    while let Some(expr) = work.pop() {
        size += 1;
        match expr {
            Expr::Seq(parts) | Expr::Alt(parts) => work.extend(parts),
            Expr::Repeat { of, .. } => work.push(of),
            Expr::Bytes(bytes) => size += bytes.len(),
            Expr::Empty | Expr::Chars(_) | Expr::Rule(_) => {}
        }
    }
    size
}
