//! Sequences: truncation and forks.

use super::Subject;
use mx_runtime::engine::{Row, Sequence, StepOutput, Want};

/// Whether a sequence goes on as a new one with its tokens would.
fn goes_on_as_fresh(subject: &Subject, sequence: &mut Sequence, salt: u64, what: &str) {
    let next = subject.tokens(3, salt);
    let whole = [sequence.tokens(), &next].concat();
    let given = subject.grow(sequence, &next);
    subject.agree(&given, &subject.fresh_end(&whole, next.len()), what);
    assert_eq!(sequence.tokens(), whole, "{what}");
}

pub(crate) fn truncate_then_continue_is_fresh(subject: &Subject) {
    let tokens = subject.tokens(30, 1);
    for length in [0, 1, 7, 8, 9, 11, 29, 30, 31, usize::MAX] {
        let (mut sequence, _) = subject.fresh(&tokens);
        sequence.truncate(length);
        assert_eq!(sequence.tokens(), &tokens[..length.min(30)]);
        goes_on_as_fresh(
            subject,
            &mut sequence,
            2,
            &format!("after truncating to {length}"),
        );
        goes_on_as_fresh(
            subject,
            &mut sequence,
            3,
            &format!("twice after truncating to {length}"),
        );
    }
    let (mut sequence, _) = subject.fresh(&tokens);
    for length in [25, 26, 13, 14, 2, 0] {
        sequence.truncate(length);
        goes_on_as_fresh(
            subject,
            &mut sequence,
            length as u64,
            "truncated again and again",
        );
    }
}

pub(crate) fn forks_are_independent(subject: &Subject) {
    for length in [1, 8, 20, 64, 65] {
        let tokens = subject.tokens(length, 1);
        let (mut parent, _) = subject.fresh(&tokens);
        let mut child = parent.fork();
        assert_eq!(child.tokens(), parent.tokens());
        // Both write to the same positions, in turn.
        for round in 0..4 {
            goes_on_as_fresh(subject, &mut parent, 10 + round, "the parent");
            goes_on_as_fresh(subject, &mut child, 20 + round, "the child");
        }
        assert_ne!(child.tokens(), parent.tokens());
    }
    // A fork of nothing.
    let mut empty = subject.engine.new_sequence();
    let mut child = empty.fork();
    goes_on_as_fresh(subject, &mut child, 1, "the child of an empty sequence");
    goes_on_as_fresh(subject, &mut empty, 2, "an empty sequence with a child");
}

pub(crate) fn forks_of_forks_outlive_their_parents(subject: &Subject) {
    let (mut parent, _) = subject.fresh(&subject.tokens(12, 1));
    let mut child = parent.fork();
    goes_on_as_fresh(subject, &mut child, 2, "the child");
    let mut grandchild = child.fork();
    let mut sibling = child.fork();
    goes_on_as_fresh(subject, &mut grandchild, 3, "the grandchild");
    drop(child);
    goes_on_as_fresh(subject, &mut sibling, 4, "its sibling without a parent");
    goes_on_as_fresh(subject, &mut parent, 5, "the parent");
    drop(parent);
    goes_on_as_fresh(subject, &mut grandchild, 6, "the grandchild alone");
    goes_on_as_fresh(subject, &mut sibling, 7, "the sibling alone");
}

pub(crate) fn a_truncated_fork_leaves_its_parent_alone(subject: &Subject) {
    let (mut parent, _) = subject.fresh(&subject.tokens(24, 1));
    for length in [23, 10, 1, 0] {
        let mut child = parent.fork();
        child.truncate(length);
        goes_on_as_fresh(subject, &mut child, 2, "the truncated child");
        let mut other = parent.fork();
        goes_on_as_fresh(subject, &mut other, 3, "another child");
        // And the other way round: the parent goes back while a child still reads what it wrote.
        let before = parent.len();
        let mut late = parent.fork();
        parent.truncate(before - 2);
        goes_on_as_fresh(subject, &mut parent, 4, "the truncated parent");
        goes_on_as_fresh(subject, &mut late, 5, "the child of the truncated parent");
    }
}

/// As beams and best-of-n do: many forks of one prompt, stepped together, some dropped and forked again.
pub(crate) fn forks_step_together_in_one_batch(subject: &Subject) {
    let (parent, _) = subject.fresh(&subject.tokens(9, 1));
    let mut beams: Vec<Sequence> = (0..5).map(|_| parent.fork()).collect();
    let mut output = StepOutput::new();
    for round in 0..6u32 {
        let vocab = subject.config().vocab as u32;
        let tokens: Vec<[u32; 1]> = (0..5u32)
            .map(|beam| [(round * 31 + beam * 7 + 3) % vocab])
            .collect();
        let mut rows: Vec<Row<'_>> = beams
            .iter_mut()
            .zip(&tokens)
            .map(|(sequence, tokens)| Row {
                sequence,
                tokens,
                want: Want::Last,
                hooks: None,
            })
            .collect();
        subject.engine.step(&mut rows, &mut output).unwrap();
        for (index, beam) in beams.iter().enumerate() {
            let wanted = subject.fresh_end(beam.tokens(), 1);
            subject.agree(
                output.logits(index).last().unwrap(),
                &wanted,
                &format!("beam {index}, round {round}"),
            );
        }
        let best = beams[round as usize % 5].fork();
        beams[(round as usize + 2) % 5] = best;
    }
}
