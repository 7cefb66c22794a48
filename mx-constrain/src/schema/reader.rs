//! The states of the machine, and what is known of them.

use super::engine::{Engine, Interner, Type};
use super::frames::{CoreId, Place, PlaceId, VerdictId};
use super::numbers::NumberState;
use super::options::Whitespace;
use super::text::Part;
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

/// Set in `blanks` of states whose property names are not told apart: see [`Reader::mask_state`].
pub(super) const ANONYMOUS: u32 = 1 << 31;

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
