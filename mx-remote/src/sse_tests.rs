#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn parser() -> SseParser {
    SseParser::new(&Limits::default())
}

fn drain(parser: &mut SseParser) -> Vec<SseEvent> {
    std::iter::from_fn(|| parser.next_event()).collect()
}

fn parse(pieces: &[&[u8]]) -> Vec<SseEvent> {
    let mut parser = parser();
    for piece in pieces {
        parser.feed(piece).unwrap();
    }
    drain(&mut parser)
}

fn event(event: &str, data: &str, id: &str) -> SseEvent {
    SseEvent {
        event: event.into(),
        data: data.into(),
        id: id.into(),
    }
}

/// The standard's algorithm, read from its text over the whole decoded stream at once.
fn by_the_book(bytes: &[u8]) -> Vec<SseEvent> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop(); // what no line end follows
    let (mut data, mut kind, mut id, mut events) =
        (String::new(), String::new(), String::new(), vec![]);
    for line in lines {
        if line.is_empty() {
            if !data.is_empty() {
                data.pop();
                let kind = if kind.is_empty() { "message" } else { &kind };
                events.push(event(kind, &data, &id));
            }
            data.clear();
            kind.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "event" => kind = value.to_owned(),
            "id" if !value.contains('\0') => id = value.to_owned(),
            _ => {}
        }
    }
    events
}

/// Type, data and id of each event.
type Wanted = &'static [(&'static str, &'static str, &'static str)];

/// The examples of the standard and the corners of its rules.
const CASES: &[(&[u8], Wanted)] = &[
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", &[("message", "YHOO\n+2\n10", "")]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        &[("message", "first event", "1"), ("message", "second event", ""), ("message", " third event", "")],
    ),
    (b"data\n\ndata\ndata\n\ndata:", &[("message", "", ""), ("message", "\n", "")]),
    (b"data:test\n\ndata: test\n\n", &[("message", "test", ""), ("message", "test", "")]),
    (b"\xef\xbb\xbfdata: a\r\rdata: b\r\n\r\n", &[("message", "a", ""), ("message", "b", "")]),
    (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", &[]),
    (b"data: a\n\xef\xbb\xbfdata: b\n\n", &[("message", "a", "")]),
    (b"event: tick\n\ndata: a\n\n", &[("message", "a", "")]),
    (b"event: tick\ndata: a\n\ndata: b\n\n", &[("tick", "a", ""), ("message", "b", "")]),
    (b"id: 7\n\ndata: a\n\nid: x\0y\ndata: b\n\n", &[("message", "a", "7"), ("message", "b", "7")]),
    (b"data : a\nDATA: b\n data: c\nfoo: d\n:data: e\n\n", &[]),
    (b"data: a:b: c\n\n", &[("message", "a:b: c", "")]),
    (b"data: \xff\xe2\x82z\n\n", &[("message", "\u{fffd}\u{fffd}z", "")]),
    (b"data: a\n\ndata: dropped\n", &[("message", "a", "")]),
    (b"data: a\n\r\ndata: b\r\n\n", &[("message", "a", ""), ("message", "b", "")]),
    ("data: 😀é\r\n\r\n".as_bytes(), &[("message", "😀é", "")]),
];

#[test]
fn the_standards_examples_and_corners() {
    for (bytes, wanted) in CASES {
        let wanted: Vec<_> = wanted.iter().map(|(e, d, i)| event(e, d, i)).collect();
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(parse(&[bytes]), wanted, "{shown:?}");
        assert_eq!(by_the_book(bytes), wanted, "{shown:?}");
    }
}

#[test]
fn every_split_in_two_and_three_and_single_bytes() {
    let mut all: Vec<Vec<u8>> = CASES.iter().map(|(bytes, _)| bytes.to_vec()).collect();
    all.push(
        "id: é1\r\nevent: ü\r\ndata: 😀\r\ndata: \u{2028}x\n\nretry: 10\r\r: ping\n\n"
            .as_bytes()
            .to_vec(),
    );
    for bytes in all {
        let wanted = by_the_book(&bytes);
        for i in 0..=bytes.len() {
            for j in i..=bytes.len() {
                assert_eq!(
                    parse(&[&bytes[..i], &bytes[i..j], &bytes[j..]]),
                    wanted,
                    "{i} {j}"
                );
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(parse(&single), wanted);
    }
}

#[test]
fn a_retry_is_digits_only() {
    for (line, wanted) in [
        ("10", Some(10)),
        ("1a", None),
        ("", None),
        ("-1", None),
        ("99999999999999999999999", None),
    ] {
        let mut parser = parser();
        parser.feed(format!("retry: {line}\n").as_bytes()).unwrap();
        assert_eq!(parser.retry(), wanted.map(Duration::from_millis), "{line}");
    }
}

#[test]
fn an_unfinished_event_comes_only_when_asked_for() {
    for end in ["", "\n", "\r\n"] {
        let mut parser = parser();
        parser
            .feed(format!("data: a\n\ndata: b{end}").as_bytes())
            .unwrap();
        assert_eq!(drain(&mut parser), [event("message", "a", "")]);
        assert_eq!(
            parser.into_unfinished().unwrap(),
            Some(event("message", "b", ""))
        );
    }
    assert_eq!(parser().into_unfinished().unwrap(), None);
}

#[test]
fn limits_are_kept_and_named() {
    let limits = Limits {
        max_line_bytes: 20,
        max_event_bytes: 30,
        ..Limits::default()
    };
    let mut parser = SseParser::new(&limits);
    let text = parser.feed(&[b'a'; 21]).unwrap_err().to_string();
    assert_eq!(
        text,
        "a line of the stream has at least 21 bytes, limit max_line_bytes is 20"
    );
    let mut parser = SseParser::new(&limits);
    parser
        .feed(b"data: 0123456789\ndata: 0123456789\n")
        .unwrap();
    let text = parser.feed(b"data: 0123456789\n").unwrap_err().to_string();
    assert_eq!(
        text,
        "an event of the stream has at least 32 bytes, limit max_event_bytes is 30"
    );
    // In pieces the same.
    let mut parser = SseParser::new(&limits);
    let results: Vec<_> = (0..21).map(|_| parser.feed(b"a").is_ok()).collect();
    assert_eq!(results.iter().filter(|ok| **ok).count(), 20);
}

/// Bytes in which the characters that matter are frequent.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b":".to_vec()),
        Just(b" ".to_vec()),
        Just(b"data".to_vec()),
        Just(b"data: ".to_vec()),
        Just(b"id".to_vec()),
        Just(b"event:".to_vec()),
        Just(b"\0".to_vec()),
        Just(BOM.to_vec()),
        Just("é😀".as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_read_by_the_book(
        bytes in streams(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
        prop_assert_eq!(parse(&pieces), by_the_book(&bytes));
    }
}
