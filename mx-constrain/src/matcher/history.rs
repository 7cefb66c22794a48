//! The places a text has passed, shared between clones.

use std::sync::Arc;

use super::Place;

/// A list that grows and shrinks at one end and is cloned in constant time: clones share what they have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    last: Option<Arc<Link>>,
    len: usize,
}

#[derive(Debug)]
struct Link {
    place: Place,
    before: Option<Arc<Link>>,
}

impl History {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, place: Place) {
        let before = self.last.take();
        self.last = Some(Arc::new(Link { place, before }));
        self.len += 1;
    }

    pub(super) fn pop(&mut self) -> Option<Place> {
        let link = self.last.take()?;
        self.last.clone_from(&link.before);
        self.len -= 1;
        Some(link.place)
    }
}

impl Drop for Link {
    /// One after the other: dropping a long list by recursion would overflow the stack.
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(mut link) = next.and_then(Arc::into_inner) {
            next = link.before.take();
        }
    }
}
