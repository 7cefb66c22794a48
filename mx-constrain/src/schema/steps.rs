//! What each byte does in a state.

use super::engine::{Engine, Scalar, Type};
use super::frames::{Class, CoreId, PLAIN, PlaceId, Verdict, VerdictId};
use super::numbers::NumberState;
use super::options::Whitespace;
use super::reader::{ANONYMOUS, DOCUMENT, Reader, Spot};
use super::text::{Part, StringStep};
use crate::ConstrainError;
use crate::machine::{State, Step};

/// Where blanks may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// Before and behind the document.
    Outside,
    /// Behind a comma or a colon.
    Separator,
    /// Anywhere else between two tokens.
    Inside,
}

impl Reader {
    /// What a byte does in a state, found out anew.
    pub(super) fn compute(&mut self, state: State, byte: u8) -> Result<Step, ConstrainError> {
        if !self.engine.alphabet.contains(byte) {
            return Ok(Step::Dead);
        }
        let spot = *self.spots.get(state);
        if matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
            && let Some(answer) = self.blank(spot, byte)?
        {
            return Ok(answer);
        }
        match spot {
            Spot::Value { place, blanks } => match self.needs_space(Gap::Separator, blanks) {
                true => Ok(Step::Dead),
                false => self.value(place, byte),
            },
            Spot::First { core, blanks } => self.first(core, blanks, byte),
            Spot::After { core, blanks } => self.after(core, blanks, byte),
            Spot::Comma { core, blanks } => match byte {
                b'"' if !self.needs_space(Gap::Separator, blanks & !ANONYMOUS) => {
                    self.open_key(core, blanks)
                }
                _ => Ok(Step::Dead),
            },
            Spot::Key { core, part } => self.key(core, part, byte),
            Spot::Colon { place, .. } => match byte {
                b':' => self.stay(Spot::Value { place, blanks: 0 }),
                _ => Ok(Step::Dead),
            },
            Spot::Text { spec, part } => match self.engine.text_step(spec, part, byte)? {
                StringStep::Dead => Ok(Step::Dead),
                StringStep::Stay(part) => self.stay(Spot::Text { spec, part }),
                StringStep::Close(verdict) => Ok(Step::Pop(verdict)),
            },
            Spot::Number { place, number } => {
                if let Some(number) = self.engine.number_next(number, byte)? {
                    return self.stay(Spot::Number { place, number });
                }
                match byte {
                    b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' => {
                        match self.number_ends(place, number)? {
                            Some(next) => {
                                let next = self.state(next)?;
                                self.compute(next, byte)
                            }
                            None => Ok(Step::Dead),
                        }
                    }
                    _ => Ok(Step::Dead),
                }
            }
            Spot::Word { place, kind, at } => self.word(place, kind, at, byte),
            Spot::Wait { .. } | Spot::Done { .. } => Ok(Step::Dead),
        }
    }

    fn stay(&mut self, spot: Spot) -> Result<Step, ConstrainError> {
        Ok(Step::Stay(self.state(spot)?))
    }

    /// Whether a space is still missing where exactly one belongs.
    fn needs_space(&self, gap: Gap, blanks: u32) -> bool {
        self.engine.options.whitespace == Whitespace::PythonLike
            && gap == Gap::Separator
            && blanks == 0
    }

    /// What a blank does: `None` where it is no blank but a character or the end of a number.
    fn blank(&mut self, spot: Spot, byte: u8) -> Result<Option<Step>, ConstrainError> {
        let (gap, blanks) = match spot {
            Spot::Value {
                place: DOCUMENT,
                blanks,
            }
            | Spot::Done { blanks } => (Gap::Outside, blanks),
            Spot::Value { blanks, .. } | Spot::Comma { blanks, .. } => (Gap::Separator, blanks),
            Spot::First { blanks, .. }
            | Spot::After { blanks, .. }
            | Spot::Colon { blanks, .. } => (Gap::Inside, blanks),
            Spot::Key { .. } | Spot::Text { .. } | Spot::Number { .. } => return Ok(None),
            Spot::Word { .. } | Spot::Wait { .. } => return Ok(Some(Step::Dead)),
        };
        let (blanks, anonymous) = (blanks & !ANONYMOUS, blanks & ANONYMOUS);
        let next = match self.engine.options.whitespace {
            Whitespace::Compact => None,
            Whitespace::PythonLike => {
                (gap == Gap::Separator && blanks == 0 && byte == b' ').then_some(1)
            }
            Whitespace::Flexible => Some(0),
            Whitespace::Bounded(most) => {
                (gap != Gap::Outside && blanks < most).then_some(blanks + 1)
            }
        };
        let Some(blanks) = next.map(|blanks| blanks | anonymous) else {
            return Ok(Some(Step::Dead));
        };
        let spot = match spot {
            Spot::Value { place, .. } => Spot::Value { place, blanks },
            Spot::First { core, .. } => Spot::First { core, blanks },
            Spot::After { core, .. } => Spot::After { core, blanks },
            Spot::Comma { core, .. } => Spot::Comma { core, blanks },
            Spot::Colon { place, .. } => Spot::Colon { place, blanks },
            Spot::Done { .. } => Spot::Done { blanks },
            other => other,
        };
        self.stay(spot).map(Some)
    }

    fn value(&mut self, place: PlaceId, byte: u8) -> Result<Step, ConstrainError> {
        let kind = match byte {
            b'n' => Type::Null,
            b'f' => Type::No,
            b't' => Type::Yes,
            b'-' | b'0'..=b'9' => Type::Number,
            b'"' => Type::String,
            b'[' => Type::Array,
            b'{' => Type::Object,
            _ => return Ok(Step::Dead),
        };
        let goal_id = self.engine.frames.places.get(place).goal;
        let must = self.engine.frames.goals.get(goal_id).must;
        if !self.engine.possible(must, kind)? {
            return Ok(Step::Dead);
        }
        match kind {
            Type::Null | Type::No | Type::Yes => self.stay(Spot::Word { place, kind, at: 1 }),
            Type::Number => {
                let spec = self.engine.goal_number(goal_id)?;
                let start = self.engine.number_start(spec);
                match self.engine.number_next(start, byte)? {
                    Some(number) => self.stay(Spot::Number { place, number }),
                    None => Ok(Step::Dead),
                }
            }
            Type::String => {
                let spec = self.engine.goal_string(goal_id)?;
                let part = self.engine.text_start(spec);
                let (parent, child) = (
                    self.state(Spot::Wait { place })?,
                    self.state(Spot::Text { spec, part })?,
                );
                Ok(Step::Push { parent, child })
            }
            Type::Array | Type::Object => {
                let core = self.engine.open_frame(goal_id, kind)?;
                let parent = self.state(Spot::Wait { place })?;
                let child = self.state(Spot::First { core, blanks: 0 })?;
                Ok(Step::Push { parent, child })
            }
        }
    }

    fn first(&mut self, core: CoreId, blanks: u32, byte: u8) -> Result<Step, ConstrainError> {
        let object = self.engine.frames.cores.get(core).object;
        match (object, byte) {
            (true, b'}') | (false, b']') => {
                Ok(self.engine.close(core).map_or(Step::Dead, Step::Pop))
            }
            (true, b'"') => self.open_key(core, blanks),
            (false, _) => match self.engine.item_place(core)? {
                Some(place) => self.value(place, byte),
                None => Ok(Step::Dead),
            },
            _ => Ok(Step::Dead),
        }
    }

    fn after(&mut self, core: CoreId, blanks: u32, byte: u8) -> Result<Step, ConstrainError> {
        let object = self.engine.frames.cores.get(core).object;
        match (object, byte) {
            (true, b'}') | (false, b']') => {
                Ok(self.engine.close(core).map_or(Step::Dead, Step::Pop))
            }
            (true, b',') => match self.engine.key_start(core)? {
                Some(_) => self.stay(Spot::Comma {
                    core,
                    blanks: blanks & ANONYMOUS,
                }),
                None => Ok(Step::Dead),
            },
            (false, b',') => match self.engine.item_place(core)? {
                Some(place) => self.stay(Spot::Value { place, blanks: 0 }),
                None => Ok(Step::Dead),
            },
            _ => Ok(Step::Dead),
        }
    }

    fn open_key(&mut self, core: CoreId, blanks: u32) -> Result<Step, ConstrainError> {
        match self.engine.key_start(core)? {
            Some(part) if blanks & ANONYMOUS != 0 => self.stay(Spot::Key {
                core,
                part: part.anonymous(),
            }),
            Some(part) => self.stay(Spot::Key { core, part }),
            None => Ok(Step::Dead),
        }
    }

    fn key(&mut self, core: CoreId, part: Part, byte: u8) -> Result<Step, ConstrainError> {
        match self.engine.key_step(core, part, byte)? {
            StringStep::Dead => Ok(Step::Dead),
            StringStep::Stay(part) => self.stay(Spot::Key { core, part }),
            StringStep::Close(place) => self.stay(Spot::Colon { place, blanks: 0 }),
        }
    }

    fn word(
        &mut self,
        place: PlaceId,
        kind: Type,
        at: u8,
        byte: u8,
    ) -> Result<Step, ConstrainError> {
        let word = letters(kind);
        if word.get(usize::from(at)) != Some(&byte) {
            return Ok(Step::Dead);
        }
        if usize::from(at) + 1 < word.len() {
            return self.stay(Spot::Word {
                place,
                kind,
                at: at + 1,
            });
        }
        let verdict = self.engine.word_verdict(place, kind)?;
        match self.finish(place, verdict)? {
            Some(spot) => self.stay(spot),
            None => Ok(Step::Dead),
        }
    }

    /// The state behind a number; `None` where it may not end.
    pub(super) fn number_ends(
        &mut self,
        place: PlaceId,
        number: NumberState,
    ) -> Result<Option<Spot>, ConstrainError> {
        let Some((reports, value)) = self.engine.number_verdict(number) else {
            return Ok(None);
        };
        let goal = self.engine.frames.places.get(place).goal;
        let track = self.engine.frames.goals.get(goal).track;
        let value = track.then_some(Scalar::Number(value));
        let verdict = self
            .engine
            .frames
            .verdicts
            .intern(Verdict { reports, value });
        self.finish(place, verdict)
    }

    /// The state behind a value; `None` where it is refused.
    pub(super) fn finish(
        &mut self,
        place: PlaceId,
        verdict: VerdictId,
    ) -> Result<Option<Spot>, ConstrainError> {
        if place == DOCUMENT {
            return Ok(Some(Spot::Done { blanks: 0 }));
        }
        Ok(self
            .engine
            .after_value(place, verdict)?
            .map(|core| Spot::After { core, blanks: 0 }))
    }
}

/// The letters of a word.
pub(super) fn letters(kind: Type) -> &'static [u8] {
    match kind {
        Type::Null => b"null",
        Type::No => b"false",
        Type::Yes => b"true",
        _ => b"",
    }
}

impl Engine {
    fn goal_facts(&mut self, goal: u32, kind: Type) -> Result<(Vec<u32>, bool), ConstrainError> {
        let goal = self.frames.goals.get(goal).clone();
        let mut facts = vec![self.unfold(goal.must, kind)?];
        for report in goal.reports {
            facts.push(self.unfold(report, kind)?);
        }
        Ok((facts, goal.track))
    }

    pub(super) fn goal_number(&mut self, goal: u32) -> Result<u32, ConstrainError> {
        let (facts, track) = self.goal_facts(goal, Type::Number)?;
        Ok(self.number_spec(facts, track))
    }

    fn goal_string(&mut self, goal: u32) -> Result<u32, ConstrainError> {
        let (facts, track) = self.goal_facts(goal, Type::String)?;
        self.string_spec(facts, track)
    }

    fn word_verdict(&mut self, place: PlaceId, kind: Type) -> Result<VerdictId, ConstrainError> {
        let goal = self.frames.places.get(place).goal;
        let (facts, track) = self.goal_facts(goal, kind)?;
        if facts.len() == 1 && !track {
            return Ok(PLAIN);
        }
        let reports = facts[1..]
            .iter()
            .map(|&fact| fact == super::expr::TRUE)
            .collect();
        let value = track.then_some(match kind {
            Type::Null => Scalar::Null,
            Type::No => Scalar::No,
            _ => Scalar::Yes,
        });
        Ok(self.frames.verdicts.intern(Verdict { reports, value }))
    }

    /// The class of a name that is spelled out.
    pub(super) fn key_class(&mut self, key: u32) -> u32 {
        self.frames.classes.intern(Class::Key(key))
    }
}
