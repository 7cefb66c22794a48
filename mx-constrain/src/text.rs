//! Machines without frames: texts that match a pattern, and choices.

use crate::hash::FastMap;
use crate::lexical::{DEAD, Dfa};
use crate::machine::{Machine, Plain, Refusal, State, Step};
use crate::vocabulary::{Entry, ROOT, Trie};
use crate::{ByteSet, ConstrainError, Limits};

/// The texts of an automaton.
pub(crate) struct PatternMachine {
    dfa: Dfa,
    /// Live bytes of states that were asked for.
    live: FastMap<State, ByteSet>,
    pattern: String,
}

impl PatternMachine {
    /// The machine of an automaton whose pattern reads `pattern`.
    ///
    /// # Errors
    /// [`ConstrainError::Unsatisfiable`] when no text can be written in the alphabet; [`ConstrainError::Limit`].
    pub(crate) fn new(
        dfa: Dfa,
        pattern: &str,
        alphabet: &ByteSet,
        limits: &Limits,
    ) -> Result<Self, ConstrainError> {
        let dfa = dfa.restrict(alphabet, limits)?;
        if dfa.start() == DEAD {
            return Err(ConstrainError::Unsatisfiable {
                place: String::new(),
                reason: "no text that the vocabulary can write matches the pattern".to_owned(),
            });
        }
        Ok(Self {
            dfa,
            live: FastMap::default(),
            pattern: pattern.to_owned(),
        })
    }
}

impl Machine for PatternMachine {
    fn start(&self) -> State {
        self.dfa.start()
    }

    #[inline]
    fn step(&mut self, state: State, byte: u8) -> Result<Step, ConstrainError> {
        Ok(match self.dfa.next(state, byte)? {
            DEAD => Step::Dead,
            next => Step::Stay(next),
        })
    }

    fn resume(&mut self, _parent: State, _verdict: u32) -> Result<Option<State>, ConstrainError> {
        Ok(None)
    }

    fn accepting(&mut self, state: State) -> Result<bool, ConstrainError> {
        Ok(self.dfa.accepting(state))
    }

    fn live(&mut self, state: State) -> Result<ByteSet, ConstrainError> {
        if let Some(live) = self.live.get(&state) {
            return Ok(*live);
        }
        let live = self.dfa.live(state)?;
        self.live.insert(state, live);
        Ok(live)
    }

    fn plain(&mut self, state: State) -> Result<Plain, ConstrainError> {
        self.dfa.plain(state)
    }

    fn toward_end(&mut self, state: State) -> Result<Option<u8>, ConstrainError> {
        self.dfa.toward_end(state)
    }

    fn explain(&mut self, state: State, _byte: u8) -> Refusal {
        let expected = match self.dfa.live(state) {
            Ok(live) if !live.is_empty() => format!("one of {live}"),
            Ok(_) => "the end".to_owned(),
            Err(error) => error.to_string(),
        };
        Refusal {
            place: String::new(),
            keyword: self.pattern.clone(),
            expected,
        }
    }

    fn states(&self) -> usize {
        self.dfa.states()
    }

    fn bytes(&self) -> usize {
        self.dfa.bytes() + self.live.len() * LIVE_BYTES
    }
}

/// Memory of one entry of the table of live bytes, roughly.
const LIVE_BYTES: usize = 48;

/// One of some texts. A state is a node of their trie.
pub(crate) struct ChoiceMachine {
    trie: Trie,
    /// Whether the empty text is among them.
    empty: bool,
}

impl ChoiceMachine {
    /// The machine of some texts. Those that the alphabet cannot write are left out.
    ///
    /// # Errors
    /// [`ConstrainError::Unsatisfiable`] when none is left; [`ConstrainError::Limit`].
    pub(crate) fn new(
        choices: &[String],
        alphabet: &ByteSet,
        limits: &Limits,
    ) -> Result<Self, ConstrainError> {
        let total = choices.iter().map(String::len).sum();
        Limits::check("max_input_bytes", total, limits.max_input_bytes)?;
        let mut texts: Vec<&[u8]> = choices
            .iter()
            .map(String::as_bytes)
            .filter(|text| text.iter().all(|&byte| alphabet.contains(byte)))
            .collect();
        texts.sort_unstable();
        texts.dedup();
        let empty = texts.first().is_some_and(|text| text.is_empty());
        if texts.is_empty() {
            return Err(ConstrainError::Unsatisfiable {
                place: String::new(),
                reason: "there is no choice that the vocabulary can write".to_owned(),
            });
        }
        let entries = texts.into_iter().filter(|text| !text.is_empty());
        let trie = Trie::new(entries.zip(0..).map(|(bytes, token)| Entry {
            bytes,
            token,
            chars: 0,
        }));
        let too_large = |_| ConstrainError::Limit {
            limit: "max_input_bytes",
            max: limits.max_input_bytes as u64,
        };
        Ok(Self {
            trie: trie.map_err(too_large)?,
            empty,
        })
    }
}

impl Machine for ChoiceMachine {
    fn start(&self) -> State {
        ROOT
    }

    fn step(&mut self, state: State, byte: u8) -> Result<Step, ConstrainError> {
        Ok(self.trie.child(state, byte).map_or(Step::Dead, Step::Stay))
    }

    fn resume(&mut self, _parent: State, _verdict: u32) -> Result<Option<State>, ConstrainError> {
        Ok(None)
    }

    fn accepting(&mut self, state: State) -> Result<bool, ConstrainError> {
        Ok(match state {
            ROOT => self.empty,
            node => !self.trie.tokens_at(node).is_empty(),
        })
    }

    fn live(&mut self, state: State) -> Result<ByteSet, ConstrainError> {
        if state == ROOT {
            return Ok(*self.trie.first_bytes());
        }
        let mut live = ByteSet::EMPTY;
        let mut child = state + 1;
        while child < self.trie.end(state) {
            live.insert(self.trie.byte(child));
            child = self.trie.end(child);
        }
        Ok(live)
    }

    fn toward_end(&mut self, state: State) -> Result<Option<u8>, ConstrainError> {
        if self.accepting(state)? {
            return Ok(None);
        }
        // Every child leads to the end of some choice.
        Ok((state + 1 < self.trie.end(state)).then(|| self.trie.byte(state + 1)))
    }

    fn explain(&mut self, state: State, _byte: u8) -> Refusal {
        let expected = match self.live(state) {
            Ok(live) if !live.is_empty() => format!("one of {live}"),
            _ => "the end".to_owned(),
        };
        Refusal {
            place: String::new(),
            keyword: "choice".to_owned(),
            expected,
        }
    }

    fn states(&self) -> usize {
        self.trie.len()
    }

    fn bytes(&self) -> usize {
        self.trie.bytes()
    }
}
