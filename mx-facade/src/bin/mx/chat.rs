//! `mx chat`.

use crate::flags::ChatFlags;
use crate::interrupt::Interrupt;
use crate::{load, terminal};
use mx::runtime::session::Session;
use mx::{Client, FinishReason, GenerateRequest, Message};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::io::{BufRead, IsTerminal, stdin};

/// Most tokens of an answer unless `--max-tokens` says otherwise.
const MAX_TOKENS: usize = 1024;

const HELP: &str = "\
/help    this text
/reset   forget the conversation
/system  show the system message; /system TEXT sets it and forgets the conversation
/exit    leave (also Ctrl-D)
Ctrl-C stops an answer, arrow keys walk through earlier lines.";

pub(crate) fn run(flags: &ChatFlags) -> anyhow::Result<u8> {
    let mut request = load::apply(&flags.sampling, GenerateRequest::default())?;
    request.max_tokens.get_or_insert(MAX_TOKENS);
    mx::request::Settings::check(&request)?;
    let interrupt = Interrupt::install()?;
    let client = load::client(&flags.model, &interrupt)?;
    let mut chat = Chat {
        client,
        flags,
        interrupt,
        turns: Vec::new(),
        session: None,
        request,
    };
    let mut lines = Lines::new()?;
    if lines.is_terminal() && !flags.model.quiet {
        terminal::note("/help lists the commands, Ctrl-D leaves");
    }
    while let Some(line) = lines.next()? {
        let line = line.trim();
        match line
            .split_once(' ')
            .map_or((line, ""), |(word, rest)| (word, rest.trim()))
        {
            ("", _) => {}
            ("/help", _) => terminal::note(HELP),
            ("/exit" | "/quit", _) => break,
            ("/reset", _) => chat.reset(),
            ("/system", "") => {
                let system = chat.request.system.as_deref();
                terminal::note(system.map_or_else(|| "(none)".into(), terminal::printable));
            }
            ("/system", text) => {
                chat.request.system = Some(text.to_owned());
                chat.reset();
            }
            (word, _) if word.starts_with('/') => {
                terminal::warn(format_args!(
                    "{} is no command; /help lists them",
                    terminal::printable(word)
                ));
            }
            _ => chat.answer(line)?,
        }
    }
    lines.save();
    Ok(0)
}

struct Chat<'a> {
    client: Client,
    flags: &'a ChatFlags,
    interrupt: Interrupt,
    turns: Vec<Message>,
    /// Keys and values of the conversation so far.
    session: Option<Session>,
    /// What was typed and set, without a prompt.
    request: GenerateRequest,
}

impl Chat<'_> {
    fn reset(&mut self) {
        self.turns.clear();
    }

    /// One turn. A request that is refused leaves the conversation as it was.
    fn answer(&mut self, line: &str) -> anyhow::Result<()> {
        self.turns.push(Message::new("user", line));
        let mut request = self.request.clone();
        request.prompt = self.turns.clone().into();
        let cancel = self.interrupt.renew();
        let run = match self.client.start(&request) {
            Ok(run) => run.with_cancel(cancel),
            Err(error) => {
                self.turns.pop();
                terminal::report(&error.into());
                return Ok(());
            }
        };
        let mut run = match self.session.take() {
            Some(session) => run.with_session(session),
            None => run,
        };
        let mut failed = false;
        for chunk in run.by_ref() {
            match chunk {
                Ok(chunk) => terminal::data(&chunk.text)?,
                Err(error) => {
                    failed = true;
                    terminal::report(&error.into());
                }
            }
        }
        let (generation, session) = run.into_parts();
        self.session = Some(session);
        terminal::data("\n")?;
        if failed {
            self.turns.pop();
            return Ok(());
        }
        if !self.flags.model.quiet {
            terminal::end(&generation);
            if generation.finish_reason == FinishReason::Cancelled {
                terminal::note("(stopped)");
            }
        }
        self.turns.push(Message::new("assistant", generation.text));
        Ok(())
    }
}

/// Lines of the user: edited and remembered on a terminal, plain from a pipe.
enum Lines {
    Terminal {
        editor: Box<DefaultEditor>,
        history: Option<std::path::PathBuf>,
    },
    Pipe(std::io::Lines<std::io::StdinLock<'static>>),
}

impl Lines {
    fn new() -> anyhow::Result<Self> {
        if !stdin().is_terminal() {
            return Ok(Lines::Pipe(stdin().lock().lines()));
        }
        let mut editor = DefaultEditor::new()?;
        let history = mx::home::data_dir(&load::env).map(|dir| dir.join("chat_history"));
        if let Some(file) = &history {
            // Absent before the first chat; an unreadable one is no reason not to talk.
            let _ = editor.load_history(file);
        }
        Ok(Lines::Terminal {
            editor: Box::new(editor),
            history,
        })
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Lines::Terminal { .. })
    }

    /// The next line; `None` at the end. Ctrl-C at the prompt drops the line typed so far.
    fn next(&mut self) -> anyhow::Result<Option<String>> {
        match self {
            Lines::Pipe(lines) => Ok(lines.next().transpose()?),
            Lines::Terminal { editor, .. } => loop {
                match editor.readline("> ") {
                    Ok(line) => {
                        editor.add_history_entry(&line)?;
                        return Ok(Some(line));
                    }
                    Err(ReadlineError::Interrupted) => {}
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            },
        }
    }

    fn save(&mut self) {
        if let Lines::Terminal {
            editor,
            history: Some(file),
        } = self
        {
            // Where the folder cannot be made, saving says why.
            let _ = file.parent().map(std::fs::create_dir_all);
            if let Err(error) = editor.save_history(file) {
                terminal::warn(format_args!("the history could not be saved: {error}"));
            }
        }
    }
}
