//! Steps: chunks, batches, wanted lines.

use super::Subject;
use mx_runtime::config::Span;
use mx_runtime::engine::{Row, Sequence, StepOutput, Want};

/// Longer than the sliding windows of the tiny models.
const LONG: usize = 37;

pub(crate) fn any_chunking_is_one_shot(subject: &Subject) {
    let tokens = subject.tokens(LONG, 1);
    let (_, wanted) = subject.fresh(&tokens);
    for chunk in [1, 2, 3, 5, 8, 9, 16, 36] {
        let mut sequence = subject.engine.new_sequence();
        let logits: Vec<f32> = tokens
            .chunks(chunk)
            .flat_map(|part| subject.grow(&mut sequence, part))
            .collect();
        subject.agree(&logits, &wanted, &format!("chunks of {chunk}"));
        assert_eq!(sequence.tokens(), tokens);
    }
    let mut sequence = subject.engine.new_sequence();
    let mut logits = Vec::new();
    let mut rest = &tokens[..];
    for length in [1, 11, 2, 9, 1, 13] {
        let (now, later) = rest.split_at(length);
        logits.extend(subject.grow(&mut sequence, now));
        rest = later;
    }
    subject.agree(&logits, &wanted, "uneven chunks");
}

/// A batch: for each row the tokens that are there before, those appended, and the wanted lines.
fn check_batch(subject: &Subject, rows: &[(usize, usize, Want)]) {
    let vocab = subject.config().vocab;
    let texts: Vec<Vec<u32>> = (0u64..)
        .zip(rows)
        .map(|(salt, (before, new, _))| subject.tokens(before + new, 100 + salt))
        .collect();
    let mut sequences: Vec<Sequence> = texts
        .iter()
        .zip(rows)
        .map(|(text, (before, _, _))| match before {
            0 => subject.engine.new_sequence(),
            before => subject.fresh(&text[..*before]).0,
        })
        .collect();
    let mut batch: Vec<Row<'_>> = sequences
        .iter_mut()
        .zip(&texts)
        .zip(rows)
        .map(|((sequence, text), (before, _, want))| Row {
            sequence,
            tokens: &text[*before..],
            want: *want,
            hooks: None,
        })
        .collect();
    let mut output = StepOutput::new();
    subject.engine.step(&mut batch, &mut output).unwrap();
    assert_eq!(output.rows(), rows.len());
    for (index, (text, (_, new, want))) in texts.iter().zip(rows).enumerate() {
        let lines = match want {
            Want::None => 0,
            Want::Last => 1,
            Want::All => *new,
        };
        let given = output.logits(index);
        assert_eq!(
            (given.len(), given.is_empty()),
            (lines, lines == 0),
            "row {index}"
        );
        let alone = subject.fresh_end(text, lines);
        assert_eq!(alone.len(), lines * vocab);
        let given: Vec<f32> = given.iter().flatten().copied().collect();
        subject.agree(&given, &alone, &format!("row {index} of {rows:?}"));
        assert_eq!(sequences[index].tokens(), text);
    }
    // What was appended in the batch is there for later steps.
    for (index, text) in texts.iter().enumerate() {
        let next = subject.tokens(2, 7);
        let whole = [text.as_slice(), &next].concat();
        let given = subject.grow(&mut sequences[index], &next);
        subject.agree(
            &given,
            &subject.fresh_end(&whole, 2),
            &format!("after row {index}"),
        );
    }
}

pub(crate) fn a_ragged_batch_is_each_row_alone(subject: &Subject) {
    use Want::{All, Last, None};
    check_batch(
        subject,
        &[
            (0, 17, All),
            (9, 1, Last),
            (30, 5, None),
            (3, 8, All),
            (0, 1, Last),
        ],
    );
    check_batch(subject, &[(5, 4, None), (0, 3, None)]);
    check_batch(subject, &[(0, 12, Last), (0, 12, Last), (0, 12, All)]);
    check_batch(
        subject,
        &[(7, 1, All), (8, 1, All), (9, 1, None), (31, 2, Last)],
    );
}

pub(crate) fn many_rows_at_many_positions(subject: &Subject) {
    let rows: Vec<(usize, usize, Want)> =
        (0..33).map(|position| (position, 1, Want::Last)).collect();
    check_batch(subject, &rows);
}

pub(crate) fn want_chooses_the_lines(subject: &Subject) {
    let tokens = subject.tokens(6, 2);
    let vocab = subject.config().vocab;
    let (_, all) = subject.fresh(&tokens);
    for (want, lines) in [(Want::None, 0), (Want::Last, 1), (Want::All, 6)] {
        let mut sequence = subject.engine.new_sequence();
        let mut output = StepOutput::new();
        let row = Row {
            sequence: &mut sequence,
            tokens: &tokens,
            want,
            hooks: None,
        };
        subject.engine.step(&mut [row], &mut output).unwrap();
        assert_eq!(output.vocab(), vocab);
        let given: Vec<f32> = output.logits(0).iter().flatten().copied().collect();
        subject.agree(&given, &all[(6 - lines) * vocab..], &format!("{want:?}"));
        assert_eq!(output.logits(0).last().is_some(), lines > 0);
        assert_eq!(
            output.last_mut(0).map(|line| line.len()),
            (lines > 0).then_some(vocab)
        );
        assert_eq!(sequence.len(), 6, "{want:?} appends all the same");
    }
}

pub(crate) fn a_step_without_rows_does_nothing(subject: &Subject) {
    let mut output = StepOutput::new();
    let mut sequence = subject.engine.new_sequence();
    let row = Row {
        sequence: &mut sequence,
        tokens: &[1],
        want: Want::All,
        hooks: None,
    };
    subject.engine.step(&mut [row], &mut output).unwrap();
    subject.engine.step(&mut [], &mut output).unwrap();
    assert_eq!(output.rows(), 0);
    assert!(
        output.logits(0).is_empty() && output.captures().is_empty(),
        "nothing is left of the step before"
    );
}

pub(crate) fn the_same_step_gives_the_same_bits(subject: &Subject) {
    let tokens = subject.tokens(LONG, 3);
    let bits = |logits: Vec<f32>| logits.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
    let first = bits(subject.fresh(&tokens).1);
    for _ in 0..3 {
        assert!(first == bits(subject.fresh(&tokens).1));
    }
}

/// A token changes what follows as far as the spans of all layers reach together, and nothing beyond.
pub(crate) fn the_past_is_seen_as_far_as_the_spans_reach(subject: &Subject) {
    let vocab = subject.config().vocab;
    let reach = subject
        .config()
        .spans
        .iter()
        .try_fold(0, |sum, span| match span {
            Span::Full => None,
            Span::Sliding { window } => Some(sum + window - 1),
        });
    let length = reach.map_or(LONG, |reach| reach + 12);
    let tokens = subject.tokens(length, 4);
    let mut other = tokens.clone();
    other[0] = (tokens[0] + 1) % vocab as u32;
    let (a, b) = (subject.fresh(&tokens).1, subject.fresh(&other).1);
    let line =
        |logits: &[f32], position: usize| logits[position * vocab..(position + 1) * vocab].to_vec();
    subject.differ(&line(&a, 0), &line(&b, 0), "its own position");
    match reach {
        None => subject.differ(
            &line(&a, length - 1),
            &line(&b, length - 1),
            "the last position",
        ),
        Some(reach) => {
            subject.differ(&line(&a, 5), &line(&b, 5), "within reach");
            for position in reach + 1..length {
                subject.agree(
                    &line(&a, position),
                    &line(&b, position),
                    &format!("position {position} beyond {reach}"),
                );
            }
        }
    }
    let later = tokens.len() - 1;
    let mut other = tokens.clone();
    other[later] = (tokens[later] + 1) % vocab as u32;
    let c = subject.fresh(&other).1;
    subject.agree(
        &c[..later * vocab],
        &a[..later * vocab],
        "what comes later is not seen",
    );
}

pub(crate) fn threads_do_not_disturb_each_other(subject: &Subject) {
    let texts: Vec<Vec<u32>> = (0..4).map(|salt| subject.tokens(20, 50 + salt)).collect();
    let alone: Vec<Vec<f32>> = texts.iter().map(|text| subject.fresh(text).1).collect();
    std::thread::scope(|scope| {
        let running: Vec<_> = texts
            .iter()
            .map(|text| {
                scope.spawn(move || {
                    let mut sequence = subject.engine.new_sequence();
                    text.chunks(3)
                        .flat_map(|part| subject.grow(&mut sequence, part))
                        .collect::<Vec<f32>>()
                })
            })
            .collect();
        for (running, alone) in running.into_iter().zip(&alone) {
            subject.agree(&running.join().unwrap(), alone, "a thread");
        }
    });
}
