//! The schema as a [`Machine`].

use super::engine::Type;
use super::frames::{Class, CoreId};
use super::options::Whitespace;
use super::reader::{Reader, Spot};
use super::steps::letters;
use super::strings::Life;
use super::text::{Part, StringAt};
use super::trie::OFF;
use crate::machine::{Home, Machine, Plain, Refusal, State, Step, Verdict};
use crate::{ByteSet, ConstrainError};

const BLANKS: ByteSet = ByteSet::of(b' ')
    .union(&ByteSet::of(b'\n'))
    .union(&ByteSet::of(b'\r'))
    .union(&ByteSet::of(b'\t'));
const VALUES: ByteSet = ByteSet::range(b'0', b'9')
    .union(&ByteSet::of(b'-'))
    .union(&ByteSet::of(b'"'))
    .union(&ByteSet::of(b'{'))
    .union(&ByteSet::of(b'['))
    .union(&ByteSet::of(b'n'))
    .union(&ByteSet::of(b't'))
    .union(&ByteSet::of(b'f'));
const ENDS: ByteSet = ByteSet::of(b',')
    .union(&ByteSet::of(b']'))
    .union(&ByteSet::of(b'}'));

impl Machine for Reader {
    fn start(&self) -> State {
        self.start
    }

    #[inline]
    fn step(&mut self, state: State, byte: u8) -> Result<Step, ConstrainError> {
        Reader::step(self, state, byte)
    }

    fn resume(&mut self, parent: State, verdict: Verdict) -> Result<Option<State>, ConstrainError> {
        Reader::resume(self, parent, verdict)
    }

    fn accepting(&mut self, state: State) -> Result<bool, ConstrainError> {
        Reader::accepting(self, state)
    }

    fn live(&mut self, state: State) -> Result<ByteSet, ConstrainError> {
        let blanks = match self.engine.options.whitespace {
            Whitespace::Compact => ByteSet::EMPTY,
            Whitespace::PythonLike => ByteSet::of(b' '),
            _ => BLANKS,
        };
        Ok(match *self.spots.get(state) {
            Spot::Value { .. } => VALUES.union(&blanks),
            Spot::First { core, .. } => match self.engine.frames.cores.get(core).object {
                true => ByteSet::of(b'"').union(&ByteSet::of(b'}')).union(&blanks),
                false => VALUES.union(&ByteSet::of(b']')).union(&blanks),
            },
            Spot::After { core, .. } => {
                let close = if self.engine.frames.cores.get(core).object {
                    b'}'
                } else {
                    b']'
                };
                ByteSet::of(b',').union(&ByteSet::of(close)).union(&blanks)
            }
            Spot::Comma { .. } => ByteSet::of(b'"').union(&blanks),
            Spot::Colon { .. } => ByteSet::of(b':').union(&blanks),
            Spot::Number { number, .. } => {
                self.engine.number_bytes(number).union(&ENDS).union(&blanks)
            }
            Spot::Word { kind, at, .. } => letters(kind)
                .get(usize::from(at))
                .map_or(ByteSet::EMPTY, |&b| ByteSet::of(b)),
            Spot::Key { core, part } => self.engine.string_bytes(StringAt::Name(core), part)?,
            Spot::Text { spec, part } => self.engine.string_bytes(StringAt::Value(spec), part)?,
            Spot::Done { .. } => blanks,
            Spot::Wait { .. } => ByteSet::EMPTY,
        })
    }

    fn plain(&mut self, state: State) -> Result<Plain, ConstrainError> {
        self.engine.refuel();
        match *self.spots.get(state) {
            Spot::Text { spec, part } => self.plain_text(spec, part),
            Spot::Key { core, part } => self.plain_name(core, part),
            _ => Ok(Plain::NONE),
        }
    }

    fn toward_end(&mut self, state: State) -> Result<Option<u8>, ConstrainError> {
        self.way_out(state)
    }

    fn mask_state(&mut self, state: State) -> Result<State, ConstrainError> {
        Reader::mask_state(self, state)
    }

    fn alike(&mut self, state: State) -> Result<Option<(State, ByteSet)>, ConstrainError> {
        let Spot::Number { place, number } = *self.spots.get(state) else {
            return Ok(None);
        };
        match self.number_ends(place, number)? {
            Some(behind) => Ok(Some((self.state(behind)?, ENDS.union(&BLANKS)))),
            None => Ok(None),
        }
    }

    fn spelled(
        &mut self,
        state: State,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, ConstrainError> {
        self.engine.refuel();
        match *self.spots.get(state) {
            Spot::Text { spec, part } => Ok(self.engine.spelled_texts(spec, part, each)),
            Spot::Key { core, part } => self.engine.spelled_names(core, part, each),
            _ => Ok(false),
        }
    }

    fn explain(&mut self, state: State, byte: u8) -> Refusal {
        self.refusal(state, byte)
    }

    fn states(&self) -> usize {
        self.spots.len()
    }

    fn bytes(&self) -> usize {
        self.table_bytes()
    }
}

impl Reader {
    fn plain_text(&mut self, id: u32, part: Part) -> Result<Plain, ConstrainError> {
        let spec = self.engine.strings.all[id as usize].clone();
        let Some(open) = spec.open.as_ref().filter(|_| part.is_plain()) else {
            return Ok(Plain::NONE);
        };
        if !self.engine.between_characters(open.product, part.spot) {
            return Ok(Plain::NONE);
        }
        Ok(match open.life {
            Life::Free => {
                // One character on, the length may be long enough for good.
                let steady =
                    part.len + 1 >= open.saturation && self.engine.product_is_free(open.product);
                let home = match steady {
                    true => {
                        let state = self.state(Spot::Text {
                            spec: id,
                            part: part.unnamed(open.saturation, spec.track),
                        })?;
                        Some(Home {
                            state,
                            turns: spec.trie.bytes(part.node),
                        })
                    }
                    false => None,
                };
                Plain {
                    home,
                    ..Plain::FREE
                }
            }
            Life::UpTo(most) => {
                let mut plain = Plain::up_to(most.saturating_sub(part.len));
                if !spec.trie.strings().is_empty() && part.node != OFF {
                    plain.most = u32::MAX;
                }
                plain
            }
            // Strings that are spelled out matter only to texts that begin like one.
            _ if !spec.trie.strings().is_empty() && part.node != OFF => Plain::NONE,
            _ => {
                let mut plain = self.engine.plain_of_patterns(id, open, part)?;
                plain.exits = plain
                    .exits
                    .union(&ByteSet::of(b'"'))
                    .union(&ByteSet::of(b'\\'));
                plain
            }
        })
    }

    fn plain_name(&mut self, core: CoreId, part: Part) -> Result<Plain, ConstrainError> {
        let roots = self.engine.frames.cores.get(core).roots;
        let shape = self.engine.object_shape(roots)?;
        if !part.is_plain() || !self.engine.between_characters(shape.product, part.spot) {
            return Ok(Plain::NONE);
        }
        if !shape.name_facts.is_empty() {
            return match part.len >= shape.saturation {
                true => self.engine.plain_pattern_name(core, &shape, part),
                false => Ok(Plain::NONE),
            };
        }
        let class = self
            .engine
            .frames
            .classes
            .intern(Class::Open(Box::from([])));
        if !self.engine.allowed(core, class)? {
            return Ok(Plain::NONE);
        }
        let part_at_home = self.engine.home_of_name(&shape);
        let state = self.state(Spot::Key {
            core,
            part: part_at_home,
        })?;
        let turns = self.engine.turns_of_name(core, part)?;
        Ok(Plain {
            home: Some(Home { state, turns }),
            ..Plain::FREE
        })
    }

    /// Where in the schema the refusal comes from, and what could stand there, in words.
    fn refusal(&mut self, state: State, byte: u8) -> Refusal {
        self.engine.refuel();
        let _ = byte;
        let spot = *self.spots.get(state);
        let (place, keyword, expected) = match spot {
            Spot::Value { place, .. }
            | Spot::Number { place, .. }
            | Spot::Word { place, .. }
            | Spot::Wait { place } => {
                let goal = self.engine.frames.places.get(place).goal;
                let must = self.engine.frames.goals.get(goal).must;
                let names = [
                    (Type::Null, "null"),
                    (Type::No, "false"),
                    (Type::Yes, "true"),
                    (Type::Number, "a number"),
                    (Type::String, "a string"),
                    (Type::Array, "an array"),
                    (Type::Object, "an object"),
                ];
                let mut kinds = Vec::new();
                for (kind, name) in names {
                    if self.engine.possible(must, kind).unwrap_or(false) {
                        kinds.push(name);
                    }
                }
                let keyword = if matches!(spot, Spot::Number { .. }) {
                    "number"
                } else {
                    "type"
                };
                (self.engine.value_pointer(must), keyword, kinds.join(" or "))
            }
            Spot::First { core, .. }
            | Spot::After { core, .. }
            | Spot::Comma { core, .. }
            | Spot::Key { core, .. } => {
                let held = self.engine.frames.cores.get(core).clone();
                let root = self.engine.frames.lists.get(held.roots)[0];
                let pointer = self.engine.fact_pointer(root);
                match held.object {
                    true => (pointer, "properties", self.engine.next_names(core)),
                    false => (
                        pointer,
                        "items",
                        "another item or the end of the array, within its limits".to_owned(),
                    ),
                }
            }
            Spot::Colon { place, .. } => {
                let goal = self.engine.frames.places.get(place).goal;
                let must = self.engine.frames.goals.get(goal).must;
                (self.engine.value_pointer(must), "", "`:`".to_owned())
            }
            Spot::Text { spec, .. } => {
                let spec = self.engine.strings.all[spec as usize].clone();
                let expected = match (&spec.open, spec.trie.strings()) {
                    (None, strings) => {
                        let list: Vec<String> =
                            strings.iter().take(8).map(|s| format!("`{s}`")).collect();
                        format!("one of {}", list.join(", "))
                    }
                    (Some(open), _) => match open.life {
                        Life::Pattern(p) => format!(
                            "a string that matches `{}`",
                            self.engine.graph.patterns[p as usize].source
                        ),
                        Life::UpTo(most) => format!("a string of at most {most} characters"),
                        _ => "a string as the schema describes it".to_owned(),
                    },
                };
                (String::new(), "string", expected)
            }
            Spot::Done { .. } => (String::new(), "", "the end of the text".to_owned()),
        };
        Refusal {
            place,
            keyword: keyword.to_owned(),
            expected,
        }
    }
}
