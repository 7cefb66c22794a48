//! The states of the machine and what each byte does in them.

use super::engine::{Engine, Interner, Scalar, Type};
use super::frames::{Class, CoreId, PLAIN, Place, PlaceId, Verdict, VerdictId};
use super::numbers::NumberState;
use super::options::Whitespace;
use super::text::{Part, StringStep};
use crate::hash::FastMap;
use crate::machine::{State, Step};
use crate::{ConstrainError, Limits};

/// A state of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Spot {
    /// Before a value.
    Value { place: PlaceId, blanks: u32 },
    /// Inside a number.
    Number { place: PlaceId, number: NumberState },
    /// Inside `null`, `false` or `true`, behind so many letters.
    Word { place: PlaceId, kind: Type, at: u8 },
    /// A value is being read in a frame of its own.
    Wait { place: PlaceId },
    /// Behind `{` or `[`.
    First { core: CoreId, blanks: u32 },
    /// Behind a child.
    After { core: CoreId, blanks: u32 },
    /// Behind a comma in an object.
    Comma { core: CoreId, blanks: u32 },
    /// Inside a property name.
    Key { core: CoreId, part: Part },
    /// Behind a property name.
    Colon { place: PlaceId, blanks: u32 },
    /// Inside a string value.
    Text { spec: u32, part: Part },
    /// Behind the document.
    Done { blanks: u32 },
}

/// The place of the document itself.
pub(super) const DOCUMENT: PlaceId = 0;

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

/// Set in `blanks` of states whose property names are not told apart: see [`Reader::mask_state`].
const ANONYMOUS: u32 = 1 << 31;

/// Stands for what was not asked yet.
const UNKNOWN: State = State::MAX;

/// What one byte does, packed: the two low bits say which.
type Packed = u32;
const DEAD: Packed = 4;
const STAY: Packed = 1;
const PUSH: Packed = 2;
const POP: Packed = 3;

/// What is known about a state's bytes.
#[derive(Debug)]
enum Row {
    Few {
        count: u8,
        bytes: [u8; FEW],
        steps: [Packed; FEW],
    },
    All(Box<[Packed; 256]>),
}

/// Entries of a row before it becomes a table.
const FEW: usize = 6;

/// The machine of a schema.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) engine: Engine,
    pub(super) spots: Interner<Spot>,
    rows: Vec<Row>,
    /// Per state: what [`Self::mask_state`] says, or [`UNKNOWN`].
    shared: Vec<State>,
    tables: usize,
    pushes: Interner<(State, State)>,
    resumed: FastMap<(State, VerdictId), Option<State>>,
    pub(super) start: State,
}

impl Reader {
    pub(super) fn new(mut engine: Engine) -> Result<Self, ConstrainError> {
        let must = engine.literal(engine.graph.root, 0);
        let goal = engine.frames.goals.intern(super::frames::Goal {
            must,
            reports: Vec::new(),
            track: false,
        });
        engine.frames.places.intern(Place::document(goal));
        let mut reader = Self {
            engine,
            spots: Interner::new(),
            rows: Vec::new(),
            shared: Vec::new(),
            tables: 0,
            pushes: Interner::new(),
            resumed: FastMap::default(),
            start: 0,
        };
        if !reader.engine.possible_any(must)? {
            let place = reader.engine.graph.pointer(reader.engine.graph.root);
            return Err(ConstrainError::Unsatisfiable {
                place,
                reason: "no value has all properties that it asks for".into(),
            });
        }
        let blanks = u32::from(reader.engine.options.whitespace == Whitespace::PythonLike);
        reader.start = reader.state(Spot::Value {
            place: DOCUMENT,
            blanks,
        })?;
        Ok(reader)
    }

    pub(super) fn state(&mut self, spot: Spot) -> Result<State, ConstrainError> {
        let id = self.spots.intern(spot);
        if id as usize == self.rows.len() {
            self.rows.push(Row::Few {
                count: 0,
                bytes: [0; FEW],
                steps: [0; FEW],
            });
            self.shared.push(UNKNOWN);
            Limits::check("max_states", self.rows.len(), self.engine.limits.max_states)?;
        }
        Ok(id)
    }

    /// A state with the same mask, but for tokens that hold the end of one open name and the whole of another one.
    ///
    /// Every text of an open name is a state of its own, since names must not be repeated; masks need not be.
    #[inline]
    pub(super) fn mask_state(&mut self, state: State) -> Result<State, ConstrainError> {
        match self.shared.get(state as usize) {
            Some(&shared) if shared != UNKNOWN => Ok(shared),
            _ => {
                let shared = self.find_mask_state(state)?;
                self.shared[state as usize] = shared;
                Ok(shared)
            }
        }
    }

    fn find_mask_state(&mut self, state: State) -> Result<State, ConstrainError> {
        let spot = *self.spots.get(state);
        match spot {
            Spot::Key { core, part } => match self.engine.had_name(core, part)? {
                true => Ok(state),
                false => self.state(Spot::Key {
                    core,
                    part: part.anonymous(),
                }),
            },
            Spot::First { core, blanks } if self.hides_names(core) => self.state(Spot::First {
                core,
                blanks: blanks | ANONYMOUS,
            }),
            Spot::After { core, blanks } if self.hides_names(core) => self.state(Spot::After {
                core,
                blanks: blanks | ANONYMOUS,
            }),
            Spot::Comma { core, blanks } if self.hides_names(core) => self.state(Spot::Comma {
                core,
                blanks: blanks | ANONYMOUS,
            }),
            _ => Ok(state),
        }
    }

    /// Whether names need not be told apart in an object: it had none that is not spelled out.
    fn hides_names(&self, core: CoreId) -> bool {
        let core = self.engine.frames.cores.get(core);
        core.object && !core.open_names
    }

    /// Memory, roughly.
    pub(super) fn table_bytes(&self) -> usize {
        let engine = &self.engine;
        self.rows.len() * 144
            + self.tables * 1_024
            + engine.table_len() * 64
            + engine.strings.bytes()
            + engine.numbers.bytes()
            + engine.frames.bytes()
            + engine
                .graph
                .patterns
                .iter()
                .map(|p| p.dfa.bytes())
                .sum::<usize>()
    }

    #[inline]
    pub(super) fn step(&mut self, state: State, byte: u8) -> Result<Step, ConstrainError> {
        let known = match self.rows.get(state as usize) {
            Some(Row::All(table)) => table[usize::from(byte)],
            Some(Row::Few {
                count,
                bytes,
                steps,
            }) => {
                let at = bytes[..usize::from(*count)].iter().position(|&b| b == byte);
                at.map_or(0, |at| steps[at])
            }
            None => DEAD,
        };
        let packed = if known == 0 {
            self.learn(state, byte)?
        } else {
            known
        };
        let index = packed >> 2;
        Ok(match packed & 3 {
            STAY => Step::Stay(index),
            PUSH => {
                let (parent, child) = *self.pushes.get(index);
                Step::Push { parent, child }
            }
            POP => Step::Pop(index),
            _ => Step::Dead,
        })
    }

    #[cold]
    fn learn(&mut self, state: State, byte: u8) -> Result<Packed, ConstrainError> {
        self.engine.refuel();
        let packed = match self.compute(state, byte)? {
            Step::Dead => DEAD,
            Step::Stay(next) => next << 2 | STAY,
            Step::Push { parent, child } => self.pushes.intern((parent, child)) << 2 | PUSH,
            Step::Pop(verdict) => verdict << 2 | POP,
        };
        let row = &mut self.rows[state as usize];
        if let Row::Few {
            count,
            bytes,
            steps,
        } = row
        {
            if let Some(free) = bytes.get_mut(usize::from(*count)) {
                *free = byte;
                steps[usize::from(*count)] = packed;
                *count += 1;
                return Ok(packed);
            }
            let mut table = Box::new([0; 256]);
            for (&b, &packed) in bytes.iter().zip(steps.iter()) {
                table[usize::from(b)] = packed;
            }
            *row = Row::All(table);
            self.tables += 1;
            if self.tables.is_multiple_of(256) {
                Limits::check(
                    "max_table_bytes",
                    self.table_bytes(),
                    self.engine.limits.max_table_bytes,
                )?;
            }
        }
        if let Row::All(table) = &mut self.rows[state as usize] {
            table[usize::from(byte)] = packed;
        }
        Ok(packed)
    }

    fn compute(&mut self, state: State, byte: u8) -> Result<Step, ConstrainError> {
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

    fn finish(
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

    pub(super) fn resume(
        &mut self,
        parent: State,
        verdict: VerdictId,
    ) -> Result<Option<State>, ConstrainError> {
        if let Some(&known) = self.resumed.get(&(parent, verdict)) {
            return Ok(known);
        }
        self.engine.refuel();
        let next = match *self.spots.get(parent) {
            Spot::Wait { place } => self.finish(place, verdict)?,
            _ => None,
        };
        let next = match next {
            Some(spot) => Some(self.state(spot)?),
            None => None,
        };
        self.resumed.insert((parent, verdict), next);
        Ok(next)
    }

    pub(super) fn accepting(&mut self, state: State) -> Result<bool, ConstrainError> {
        Ok(match *self.spots.get(state) {
            Spot::Done { .. } => true,
            Spot::Number {
                place: DOCUMENT,
                number,
            } => self.engine.number_verdict(number).is_some(),
            _ => false,
        })
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
