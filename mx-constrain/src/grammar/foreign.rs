//! Languages of other machines inside a grammar: the JSON Schemas of `%json`.
//!
//! Such a machine has frames of its own. Here its whole stack is one number, a *configuration*; to the grammar it is a
//! state that reads bytes and may accept.

use crate::{
    ByteSet, ConstrainError, Limits, Refusal,
    hash::FastMap,
    machine::{Machine, Plain, State, Step},
};

use super::automaton::{Debt, FREE};

/// The machines of a grammar and the configurations they were in so far.
#[derive(Default)]
pub(super) struct Foreign {
    machines: Vec<Box<dyn Machine>>,
    configurations: Vec<Configuration>,
    ids: FastMap<Key, u32>,
    bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    machine: u32,
    /// The innermost frame last.
    frames: Box<[State]>,
    /// Bytes that may come next, before the machine is asked: what is owed may forbid some at the beginning.
    allowed: ByteSet,
}

#[derive(Debug)]
struct Configuration {
    key: Key,
    accepts: bool,
    live: ByteSet,
    /// The next byte of a way to the end, and what ends there cost.
    toward_end: Option<u8>,
    ends: [(Debt, u32); 1],
}

/// Bytes to the end where a machine does not know the way.
const FAR: u32 = 1 << 20;
/// Longest way to an end that is followed to learn its length.
const LONGEST_WAY: usize = 4_096;

impl std::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Foreign")
            .field("machines", &self.machines.len())
            .finish_non_exhaustive()
    }
}

impl Foreign {
    pub(super) fn new(machines: Vec<Box<dyn Machine>>) -> Self {
        Self {
            machines,
            ..Self::default()
        }
    }

    /// Bytes that all this takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
            + self
                .machines
                .iter()
                .map(|machine| machine.bytes())
                .sum::<usize>()
    }

    /// States of all machines.
    pub(super) fn states(&self) -> usize {
        self.configurations.len()
            + self
                .machines
                .iter()
                .map(|machine| machine.states())
                .sum::<usize>()
    }

    /// A machine at its start, where only some bytes may come first. `None` when none of them does.
    pub(super) fn start(
        &mut self,
        machine: u32,
        allowed: ByteSet,
        limits: &Limits,
    ) -> Result<Option<u32>, ConstrainError> {
        let start = self.machines[machine as usize].start();
        let id = self.configuration(
            Key {
                machine,
                frames: Box::new([start]),
                allowed,
            },
            limits,
        )?;
        Ok((!self.configurations[id as usize].live.is_empty()).then_some(id))
    }

    /// The configuration after a byte.
    pub(super) fn step(
        &mut self,
        id: u32,
        byte: u8,
        limits: &Limits,
    ) -> Result<Option<u32>, ConstrainError> {
        let Key {
            machine,
            frames,
            allowed,
        } = self.configurations[id as usize].key.clone();
        if !allowed.contains(byte) {
            return Ok(None);
        }
        match self.advance(machine, &frames, byte)? {
            Some(frames) => {
                let key = Key {
                    machine,
                    frames: frames.into(),
                    allowed: ByteSet::ALL,
                };
                self.configuration(key, limits).map(Some)
            }
            None => Ok(None),
        }
    }

    pub(super) fn accepts(&self, id: u32) -> bool {
        self.configurations[id as usize].accepts
    }

    /// Bytes that may be read; more where the machine does not know better.
    pub(super) fn live(&self, id: u32) -> ByteSet {
        self.configurations[id as usize].live
    }

    pub(super) fn ends(&self, id: u32) -> &[(Debt, u32)] {
        &self.configurations[id as usize].ends
    }

    /// The next byte of a way to the end, and the bytes that are left then.
    pub(super) fn toward_end(&self, id: u32) -> Option<(u8, u32)> {
        let configuration = &self.configurations[id as usize];
        configuration
            .toward_end
            .map(|byte| (byte, configuration.ends[0].1.saturating_sub(1)))
    }

    pub(super) fn plain(&mut self, id: u32) -> Result<Plain, ConstrainError> {
        let Key {
            machine,
            frames,
            allowed,
        } = &self.configurations[id as usize].key;
        match frames.last() {
            Some(&top) if *allowed == ByteSet::ALL => self.machines[*machine as usize].plain(top),
            _ => Ok(Plain::NONE),
        }
    }

    pub(super) fn explain(&mut self, id: u32, byte: u8) -> Refusal {
        let Key {
            machine, frames, ..
        } = &self.configurations[id as usize].key;
        match frames.last() {
            Some(&top) => self.machines[*machine as usize].explain(top, byte),
            None => Refusal::default(),
        }
    }

    fn advance(
        &mut self,
        machine: u32,
        frames: &[State],
        byte: u8,
    ) -> Result<Option<Vec<State>>, ConstrainError> {
        let machine = &mut self.machines[machine as usize];
        let mut frames = frames.to_vec();
        let Some(top) = frames.last_mut() else {
            return Ok(None);
        };
        match machine.step(*top, byte)? {
            Step::Dead => return Ok(None),
            Step::Stay(state) => *top = state,
            Step::Push { parent, child } => {
                *top = parent;
                frames.push(child);
            }
            Step::Pop(verdict) => {
                frames.pop();
                let Some(top) = frames.last_mut() else {
                    return Ok(None);
                };
                match machine.resume(*top, verdict)? {
                    Some(state) => *top = state,
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(frames))
    }

    fn configuration(&mut self, key: Key, limits: &Limits) -> Result<u32, ConstrainError> {
        if let Some(&id) = self.ids.get(&key) {
            return Ok(id);
        }
        Limits::check("max_depth", key.frames.len(), limits.max_depth)?;
        Limits::check(
            "max_states",
            self.configurations.len() + 1,
            limits.max_states,
        )?;
        let Some(&top) = key.frames.last() else {
            return Ok(0);
        };
        let is_start = key.allowed != ByteSet::ALL;
        let way = self.way(&key)?;
        let machine = &mut self.machines[key.machine as usize];
        let accepts = key.frames.len() == 1 && machine.accepting(top)?;
        let live = machine.live(top)?.intersection(&key.allowed);
        // A first byte that is owed away makes the way to the end unknown.
        let toward_end = way.first().copied().filter(|byte| live.contains(*byte));
        let bytes = match (accepts, toward_end) {
            (true, _) if !is_start => 0,
            (_, Some(_)) => way.len() as u32,
            _ => FAR,
        };
        let id = self.configurations.len() as u32;
        self.bytes += 2 * (size_of::<Configuration>() + key.frames.len() * 4);
        self.configurations.push(Configuration {
            key: key.clone(),
            accepts,
            live,
            toward_end,
            ends: [(FREE, bytes)],
        });
        self.ids.insert(key, id);
        Ok(id)
    }

    /// A short way to the end; empty when there is nothing to read or the machine knows none.
    fn way(&mut self, key: &Key) -> Result<Vec<u8>, ConstrainError> {
        let mut frames = key.frames.to_vec();
        let mut way = Vec::new();
        while way.len() < LONGEST_WAY {
            let Some(&top) = frames.last() else { break };
            let machine = &mut self.machines[key.machine as usize];
            if frames.len() == 1 && machine.accepting(top)? {
                return Ok(way);
            }
            let Some(byte) = machine.toward_end(top)? else {
                break;
            };
            let Some(next) = self.advance(key.machine, &frames, byte)? else {
                break;
            };
            frames = next;
            way.push(byte);
        }
        Ok(Vec::new())
    }
}
