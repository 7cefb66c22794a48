//! What several test modules share: a random number generator, random vocabularies, a machine with frames.

use crate::lexical::utf8::{self, Utf8State};
use crate::machine::{Machine, Plain, Refusal, State, Step, Verdict};
use crate::{ByteSet, ConstrainError, Matcher, Vocabulary};

/// xorshift64*: enough for tests, and the same everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// All single bytes of `bytes`, random strings over `pieces`, duplicates, ids without bytes, and an end.
pub(crate) fn random_vocabulary(
    random: &mut Random,
    bytes: &[u8],
    pieces: &[&str],
    count: usize,
) -> Vocabulary {
    let mut tokens: Vec<Option<Vec<u8>>> = bytes.iter().map(|&byte| Some(vec![byte])).collect();
    for _ in 0..count {
        let token: String = (0..1 + random.below(5))
            .map(|_| *random.pick(pieces))
            .collect();
        tokens.push(match random.below(20) {
            0 => None,
            1 => tokens[random.below(tokens.len())].clone(),
            // Cut anywhere: tokens need not be whole characters.
            2 => Some(token.as_bytes()[random.below(token.len())..].to_vec()),
            3 => Some(token.as_bytes()[..random.below(token.len())].to_vec()),
            _ => Some(token.into_bytes()),
        });
    }
    let eos = tokens.len() as u32;
    tokens.push(None);
    tokens.push(Some(b"</s>".to_vec()));
    Vocabulary::new(tokens, &[eos, eos + 1]).unwrap()
}

/// Compares the mask with the naive answer for every token, and what is said about its size.
pub(crate) fn check_mask(matcher: &mut Matcher, context: &str) -> Vec<u32> {
    let len = matcher.vocabulary().len() as u32;
    let naive: Vec<u32> = (0..len)
        .filter(|&token| matcher.allows(token).unwrap())
        .collect();
    let mask = matcher.mask().unwrap();
    assert_eq!(mask.iter().collect::<Vec<_>>(), naive, "{context}");
    assert_eq!(mask.count(), naive.len(), "{context}");
    naive
}

/// `V = '[' (V (',' V)*)? ']' | '"' up to five plain characters '"' | digits`, where an array refuses strings of exactly
/// three characters: a machine with frames, verdicts and refusals.
pub(crate) struct ArrayMachine;

const BOTTOM: State = 0;
const BOTTOM_DIGITS: State = 1;
const BOTTOM_DONE: State = 2;
const FIRST: State = 3;
const ITEM: State = 4;
const DIGITS: State = 5;
const AFTER: State = 6;
const STRING: State = 16;
const MAX_STRING: u32 = 5;
const ARRAY_CLOSED: Verdict = 100;

fn string_state(left: u32, text: Utf8State) -> State {
    STRING + left * 8 + u32::from(text)
}

impl Machine for ArrayMachine {
    fn start(&self) -> State {
        BOTTOM
    }

    fn step(&mut self, state: State, byte: u8) -> Result<Step, ConstrainError> {
        if state >= STRING {
            let (left, text) = ((state - STRING) / 8, (state - STRING) as u8 % 8);
            if text == utf8::START {
                return Ok(match byte {
                    b'"' => Step::Pop(MAX_STRING - left),
                    byte if byte < 0x80 && !Plain::ASCII.contains(byte) => Step::Dead,
                    _ if left == 0 => Step::Dead,
                    byte => utf8::step(text, byte)
                        .map_or(Step::Dead, |text| Step::Stay(string_state(left - 1, text))),
                });
            }
            return Ok(utf8::step(text, byte)
                .map_or(Step::Dead, |text| Step::Stay(string_state(left, text))));
        }
        let (wants_value, after, digits) = match state {
            BOTTOM => (true, BOTTOM_DONE, BOTTOM_DIGITS),
            FIRST | ITEM => (true, AFTER, DIGITS),
            _ => (false, AFTER, DIGITS),
        };
        Ok(match (state, byte) {
            (_, b'[') if wants_value => Step::Push {
                parent: after,
                child: FIRST,
            },
            (_, b'"') if wants_value => Step::Push {
                parent: after,
                child: string_state(MAX_STRING, utf8::START),
            },
            (_, b'0'..=b'9') if wants_value => Step::Stay(digits),
            (BOTTOM_DIGITS | DIGITS, b'0'..=b'9') => Step::Stay(state),
            (FIRST | DIGITS | AFTER, b']') => Step::Pop(ARRAY_CLOSED),
            (DIGITS | AFTER, b',') => Step::Stay(ITEM),
            _ => Step::Dead,
        })
    }

    fn resume(&mut self, parent: State, verdict: Verdict) -> Result<Option<State>, ConstrainError> {
        Ok((parent != AFTER || verdict != 3).then_some(parent))
    }

    fn accepting(&mut self, state: State) -> Result<bool, ConstrainError> {
        Ok(matches!(state, BOTTOM_DIGITS | BOTTOM_DONE))
    }

    fn plain(&mut self, state: State) -> Result<Plain, ConstrainError> {
        Ok(match state {
            STRING.. if (state - STRING) as u8 % 8 == utf8::START => {
                Plain::up_to((state - STRING) / 8)
            }
            _ => Plain::NONE,
        })
    }

    fn explain(&mut self, _state: State, _byte: u8) -> Refusal {
        Refusal {
            place: "/items".to_owned(),
            ..Refusal::default()
        }
    }

    fn live(&mut self, state: State) -> Result<ByteSet, ConstrainError> {
        // A superset is allowed; this one has a byte too many.
        let mut live = ByteSet::of(b'!');
        for byte in 0..=u8::MAX {
            if self.step(state, byte)? != Step::Dead {
                live.insert(byte);
            }
        }
        Ok(live)
    }

    fn states(&self) -> usize {
        0
    }

    fn bytes(&self) -> usize {
        0
    }
}
