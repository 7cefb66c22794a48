//! The machine over bytes that every kind of constraint becomes, and the contract its states keep.
//!
//! A machine reads bytes one at a time. Its state is one interned integer per *frame*; frames form a stack, and the
//! byte itself says whether it stays in the frame, opens one or closes one. Languages without recursion never push.
//!
//! 1. A state comes out of [`Machine::step`] or [`Machine::resume`] only if it can still be completed with bytes of the
//!    vocabulary's alphabet: dead ends are never entered.
//! 2. What a frame does depends on the frames below it only through the state in which it was opened, so that the token
//!    mask of a state can be kept.
//! 3. The same bytes lead to the same states: machines are deterministic, and equal situations should be interned as
//!    equal states.
//! 4. Tables that grow while reading are counted against the limits; a limit is an error, never a wrong answer.

use std::fmt;

use crate::{ByteSet, ConstrainError};

/// An interned state of one frame.
pub(crate) type State = u32;

/// The byte behind texts that are spelled out.
pub(crate) const SPELLED_END: u8 = b'"';

/// What a closed frame tells the frame below it (interned by the machine).
pub(crate) type Verdict = u32;

/// What one byte does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The byte is refused.
    Dead,
    /// The frame goes on in this state.
    Stay(State),
    /// The byte opens a frame; the frame below waits as `parent`.
    Push {
        /// State of the frame that was on top, to be resumed with the verdict.
        parent: State,
        /// State of the new frame.
        child: State,
    },
    /// The byte closes this frame (and is consumed by it).
    Pop(Verdict),
}

/// Every string of plain characters (up to a length) keeps a state alive within its frame.
///
/// *Plain* characters are those that stand for themselves inside a JSON string: every code point except `"`, `\` and
/// the controls below U+0020. The mask of such a state takes whole slices of the vocabulary instead of a walk.
/// A claim must be true; claiming less (or [`Plain::NONE`]) is always sound and only slower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Plain {
    /// The bytes of the class, a subset of [`Plain::ALL`]: a character belongs to the class when all its bytes do, and
    /// so do unfinished beginnings. With a first byte of characters beyond ASCII, all bytes that go on are members.
    pub(crate) class: ByteSet,
    /// Every string of at most this many characters of the class keeps the state alive; `u32::MAX` for any length.
    pub(crate) chars: u32,
    /// A string of more than this many characters of the class is certainly refused; `u32::MAX` claims nothing.
    pub(crate) most: u32,
    /// Bytes outside the class that some state behind at most [`CHARS_TOLD_APART`](Self::CHARS_TOLD_APART) characters of
    /// the class does not refuse. More is sound. Only tokens that leave the class by one of these are looked at. Ignored
    /// for the full class.
    pub(crate) exits: ByteSet,
    /// For the full class without limit of length: the state in which plain characters end up, so that none of them
    /// needs to be read to know it. `None` claims nothing.
    pub(crate) home: Option<Home>,
}

/// Where all plain characters lead.
///
/// Every string of plain characters that does not begin with one of `turns` leads to `state`, or to one whose tokens
/// may be taken for those of `state` (see [`Machine::mask_state`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Home {
    /// The state.
    pub(crate) state: State,
    /// First bytes after which nothing is claimed.
    pub(crate) turns: ByteSet,
}

impl Plain {
    /// The ASCII characters that are plain.
    pub(crate) const ASCII: ByteSet = ByteSet::range(0x20, 0x7f)
        .difference(&ByteSet::of(b'"'))
        .difference(&ByteSet::of(b'\\'));
    /// The bytes of plain characters.
    pub(crate) const ALL: ByteSet = Self::ASCII.union(&ByteSet::WIDE);
    /// Characters up to which lengths matter to slices.
    pub(crate) const CHARS_TOLD_APART: u32 = 32;
    /// No claim.
    pub(crate) const NONE: Self = Self {
        class: ByteSet::EMPTY,
        chars: 0,
        most: u32::MAX,
        exits: ByteSet::ALL,
        home: None,
    };
    /// Every plain string of any length keeps the state alive.
    pub(crate) const FREE: Self = Self {
        class: Self::ALL,
        chars: u32::MAX,
        most: u32::MAX,
        exits: ByteSet::ALL,
        home: None,
    };

    /// Every plain string of up to `chars` characters keeps the state alive, and no longer one does.
    pub(crate) const fn up_to(chars: u32) -> Self {
        Self {
            class: Self::ALL,
            chars,
            most: chars,
            exits: ByteSet::ALL,
            home: None,
        }
    }
}

/// Why a byte was refused, in the words of the constraint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Refusal {
    /// Where in the constraint: a JSON pointer into the schema, the name of a grammar rule, or empty.
    pub place: String,
    /// The keyword or terminal that decides there, or empty.
    pub keyword: String,
    /// What could have stood there, in words, or empty.
    pub expected: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.place.is_empty(), self.keyword.is_empty()) {
            (true, true) => f.write_str("the constraint")?,
            (true, false) => write!(f, "`{}`", self.keyword)?,
            (false, true) => write!(f, "{}", self.place)?,
            (false, false) => write!(f, "`{}` at {}", self.keyword, self.place)?,
        }
        match self.expected.is_empty() {
            true => Ok(()),
            false => write!(f, " wants {}", self.expected),
        }
    }
}

/// A deterministic, lazily built machine over bytes. See the module page for the contract.
pub(crate) trait Machine: Send {
    /// The state of the bottom frame before any byte.
    fn start(&self) -> State;

    /// What `byte` does in `state`. The hot call: the answer should be kept in a table after the first time.
    fn step(&mut self, state: State, byte: u8) -> Result<Step, ConstrainError>;

    /// The state in which the waiting frame `parent` goes on after its child closed with `verdict`; `None` when the
    /// verdict is refused there.
    fn resume(&mut self, parent: State, verdict: Verdict) -> Result<Option<State>, ConstrainError>;

    /// Whether the text may end here. Asked for states of the bottom frame only.
    fn accepting(&mut self, state: State) -> Result<bool, ConstrainError>;

    /// A superset of the bytes that `step` does not refuse in `state`; exact is best, since `forced_bytes` and
    /// `must_stop` confirm each byte with a step. Asked once per state whose mask is computed, so it must not cost
    /// 256 steps where the machine knows better.
    fn live(&mut self, state: State) -> Result<ByteSet, ConstrainError> {
        let mut live = ByteSet::EMPTY;
        for byte in 0..=u8::MAX {
            if self.step(state, byte)? != Step::Dead {
                live.insert(byte);
            }
        }
        Ok(live)
    }

    /// Which plain strings keep `state` alive. Asked once per state whose mask is computed.
    fn plain(&mut self, state: State) -> Result<Plain, ConstrainError> {
        let _ = state;
        Ok(Plain::NONE)
    }

    /// Another state that does the same with some bytes, and these bytes: their tokens are taken from its mask, which
    /// is wanted soon anyway.
    fn alike(&mut self, state: State) -> Result<Option<(State, ByteSet)>, ConstrainError> {
        let _ = state;
        Ok(None)
    }

    /// Gives the texts (ascending, none twice) of which one must come next, each followed by [`SPELLED_END`], and says
    /// whether it did; `false` claims nothing, and then nothing may have been given. Tokens are then looked up text by
    /// text, and only those that hold the end of one are read by the machine.
    fn spelled(
        &mut self,
        state: State,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, ConstrainError> {
        let _ = (state, each);
        Ok(false)
    }

    /// A state whose tokens may be taken for those of `state`: the same, or fewer where they differ. States that differ
    /// only in what seldom matters to a token can so share one mask. [`step`](Self::step) is unaffected.
    fn mask_state(&mut self, state: State) -> Result<State, ConstrainError> {
        Ok(state)
    }

    /// The next byte of a short way to close the frame of `state` (for the bottom frame: to an accepting state).
    /// Following the bytes must get there. `None` when the machine does not know or `state` already accepts; the
    /// matcher then searches by itself.
    fn toward_end(&mut self, state: State) -> Result<Option<u8>, ConstrainError> {
        let _ = state;
        Ok(None)
    }

    /// Why `byte` is refused in `state`. Not a hot call.
    fn explain(&mut self, state: State, byte: u8) -> Refusal;

    /// Number of interned states so far.
    fn states(&self) -> usize;

    /// Bytes of memory in tables that grow, roughly.
    fn bytes(&self) -> usize;
}
