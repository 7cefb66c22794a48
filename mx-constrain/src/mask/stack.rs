//! Stacks of waiting frames as one integer each: equal stacks are stored once, and shared tails too.

use crate::hash::FastMap;
use crate::machine::State;
use crate::{ConstrainError, Limits};

/// The frames below the top one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Below(u32);

/// Marks stacks that live for one walk.
const LOCAL: u32 = 1 << 31;

impl Below {
    /// Nothing is below: the top frame is the bottom one.
    pub(crate) const NOTHING: Self = Self(0);
    /// It is not known what is below; a walk notes where it would pop.
    pub(crate) const UNKNOWN: Self = Self(u32::MAX);

    #[inline]
    pub(crate) fn is_nothing(self) -> bool {
        self == Self::NOTHING
    }

    #[inline]
    pub(crate) fn is_unknown(self) -> bool {
        self == Self::UNKNOWN
    }
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    state: State,
    below: Below,
    depth: u32,
}

/// All stacks of one machine.
#[derive(Debug)]
pub(crate) struct Stacks {
    frames: Vec<Frame>,
    ids: FastMap<(State, Below), Below>,
    local: Vec<(State, Below)>,
    max_depth: usize,
    max_frames: usize,
}

impl Stacks {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            // The first one is never read: index 0 stands for nothing.
            frames: vec![Frame {
                state: 0,
                below: Below::NOTHING,
                depth: 0,
            }],
            ids: FastMap::default(),
            local: Vec::new(),
            max_depth: limits.max_depth,
            max_frames: limits.max_states.min(LOCAL as usize),
        }
    }

    /// Number of different stacks.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// The stack with one frame more.
    #[inline]
    pub(crate) fn push(&mut self, state: State, below: Below) -> Result<Below, ConstrainError> {
        if let Some(&id) = self.ids.get(&(state, below)) {
            return Ok(id);
        }
        let depth = self
            .frames
            .get(below.0 as usize)
            .map_or(0, |frame| frame.depth)
            + 1;
        Limits::check("max_depth", depth as usize, self.max_depth)?;
        Limits::check("max_states", self.frames.len(), self.max_frames)?;
        let id = Below(self.frames.len() as u32);
        self.frames.push(Frame {
            state,
            below,
            depth,
        });
        self.ids.insert((state, below), id);
        Ok(id)
    }

    /// The same for the time of one walk, which ends with [`clear_local`](Self::clear_local).
    #[inline]
    pub(crate) fn push_local(&mut self, state: State, below: Below) -> Below {
        let id = Below(LOCAL | self.local.len() as u32);
        self.local.push((state, below));
        id
    }

    /// Number of frames.
    pub(crate) fn depth(&self, below: Below) -> usize {
        self.frames
            .get(below.0 as usize)
            .map_or(0, |frame| frame.depth as usize)
    }

    /// Forgets the stacks of a walk.
    pub(crate) fn clear_local(&mut self) {
        self.local.clear();
    }

    /// The uppermost frame and what is below it; `None` for nothing.
    #[inline]
    pub(crate) fn pop(&self, below: Below) -> Option<(State, Below)> {
        match below {
            Below::NOTHING | Below::UNKNOWN => None,
            Below(id) if id & LOCAL != 0 => self.local.get((id & !LOCAL) as usize).copied(),
            Below(id) => self
                .frames
                .get(id as usize)
                .map(|frame| (frame.state, frame.below)),
        }
    }
}
