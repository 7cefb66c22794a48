//! Formats of strings as regular expressions over the whole string, from the standards that JSON Schema names.

use std::sync::LazyLock;

/// What a format demands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Over the whole string, in the syntax of Rust's `regex`.
    pub(super) pattern: &'static str,
    /// Longest string in characters, where the standard names one.
    pub(super) max_length: Option<u32>,
    /// What of the standard is left out.
    pub(super) restriction: Option<&'static str>,
}

/// A format that is asserted; `None` for all others.
pub(super) fn rule(name: &str) -> Option<Rule> {
    let plain = |pattern: &'static str| {
        Some(Rule {
            pattern,
            max_length: None,
            restriction: None,
        })
    };
    let leap = Some("leap seconds only at an offset of zero");
    match name {
        "date" => plain(DATE),
        "time" => Some(Rule {
            restriction: leap,
            ..plain(&PARTS.time)?
        }),
        "date-time" => Some(Rule {
            restriction: leap,
            ..plain(&PARTS.date_time)?
        }),
        "duration" => plain(&PARTS.duration),
        "email" => plain(&PARTS.email),
        "hostname" => Some(Rule {
            max_length: Some(MAX_HOSTNAME),
            ..plain(&PARTS.hostname)?
        }),
        "ipv4" => plain(&PARTS.ipv4),
        "ipv6" => plain(&PARTS.ipv6),
        "uuid" => plain(UUID),
        "uri" => plain(&PARTS.uri),
        "uri-reference" => plain(&PARTS.uri_reference),
        "iri" => plain(&PARTS.iri),
        "iri-reference" => plain(&PARTS.iri_reference),
        "uri-template" => plain(&PARTS.uri_template),
        "json-pointer" => plain(JSON_POINTER),
        "relative-json-pointer" => plain(RELATIVE_JSON_POINTER),
        _ => None,
    }
}

/// Formats that are known but say nothing about which strings are produced.
pub(super) fn is_annotation(name: &str) -> bool {
    matches!(name, "regex" | "idn-email" | "idn-hostname")
}

/// RFC 1123, section 2.1, without the final dot.
const MAX_HOSTNAME: u32 = 253;

/// RFC 3339 `full-date`, with the days that each month has in that year.
const DATE: &str = concat!(
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))",
    "|(?:[0-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
);

const UUID: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";

const JSON_POINTER: &str = "(?s:(?:/(?:[^~/]|~[01])*)*)";

const RELATIVE_JSON_POINTER: &str = "(?s:(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^~/]|~[01])*)*))";

/// Patterns that are put together from parts.
struct Parts {
    time: String,
    date_time: String,
    duration: String,
    email: String,
    hostname: String,
    ipv4: String,
    ipv6: String,
    uri: String,
    uri_reference: String,
    iri: String,
    iri_reference: String,
    uri_template: String,
}

static PARTS: LazyLock<Parts> = LazyLock::new(|| {
    let offset = "(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
    let time = format!(
        r"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?{offset}|23:59:60(?:\.[0-9]+)?(?:[zZ]|[+-]00:00))"
    );
    let clock = "T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)";
    let days = "(?:[0-9]+D|[0-9]+M(?:[0-9]+D)?|[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?)";
    let octet = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    let ipv4 = format!(r"{octet}(?:\.{octet}){{3}}");
    let ipv6 = ipv6(&ipv4);
    let label = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?";
    let atom = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+";
    let email = format!(
        r#"(?:{atom}(?:\.{atom})*|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*")@(?:{label}(?:\.{label})*|\[{ipv4}\]|\[IPv6:{ipv6}\])"#
    );
    let (uri, uri_reference) = resource_identifier(&ipv6, "", "");
    let wide = concat!(
        r"\x{a0}-\x{d7ff}\x{f900}-\x{fdcf}\x{fdf0}-\x{ffef}\x{10000}-\x{1fffd}\x{20000}-\x{2fffd}\x{30000}-\x{3fffd}",
        r"\x{40000}-\x{4fffd}\x{50000}-\x{5fffd}\x{60000}-\x{6fffd}\x{70000}-\x{7fffd}\x{80000}-\x{8fffd}",
        r"\x{90000}-\x{9fffd}\x{a0000}-\x{afffd}\x{b0000}-\x{bfffd}\x{c0000}-\x{cfffd}\x{d0000}-\x{dfffd}",
        r"\x{e1000}-\x{efffd}"
    );
    let private = r"\x{e000}-\x{f8ff}\x{f0000}-\x{ffffd}\x{100000}-\x{10fffd}";
    let (iri, iri_reference) = resource_identifier(&ipv6, wide, private);
    let variable = r"(?:[a-zA-Z0-9_]|%[0-9a-fA-F]{2})(?:\.?(?:[a-zA-Z0-9_]|%[0-9a-fA-F]{2}))*(?::[1-9][0-9]{0,3}|\*)?";
    let literal =
        format!(r"[\x21\x23\x24\x26\x28-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e{wide}{private}]");
    Parts {
        date_time: format!("{DATE}[tT]{time}"),
        time,
        duration: format!("P(?:{days}(?:{clock})?|{clock}|[0-9]+W)"),
        email,
        hostname: format!(r"{label}(?:\.{label})*"),
        ipv4,
        ipv6,
        uri,
        uri_reference,
        iri,
        iri_reference,
        uri_template: format!(
            r"(?:{literal}|%[0-9a-fA-F]{{2}}|\{{[+#./;?&=,!@|]?{variable}(?:,{variable})*\}})*"
        ),
    }
});

/// RFC 4291 section 2.2 in the grammar of RFC 3986.
fn ipv6(ipv4: &str) -> String {
    let group = "[0-9a-fA-F]{1,4}";
    let last = format!("(?:{group}:{group}|{ipv4})");
    let mut ways = vec![format!("(?:{group}:){{6}}{last}")];
    for before in 0..=7usize {
        let head = match before {
            0 => String::new(),
            1 => format!("(?:{group})?"),
            n => format!("(?:(?:{group}:){{0,{}}}{group})?", n - 1),
        };
        let tail = match before {
            0..=4 => format!("(?:{group}:){{{}}}{last}", 5 - before),
            5 => last.clone(),
            6 => group.to_owned(),
            _ => String::new(),
        };
        ways.push(format!("{head}::{tail}"));
    }
    format!("(?:{})", ways.join("|"))
}

/// RFC 3986 (and RFC 3987 with more characters): the absolute form and the reference.
fn resource_identifier(ipv6: &str, wide: &str, private: &str) -> (String, String) {
    let escaped = "%[0-9a-fA-F]{2}";
    let open = format!(r"a-zA-Z0-9._~\-!$&'()*+,;={wide}");
    let pchar = format!("(?:[{open}:@]|{escaped})");
    let user = format!("(?:(?:[{open}:]|{escaped})*@)?");
    let future = r"v[0-9a-fA-F]+\.[a-zA-Z0-9._~\-!$&'()*+,;=:]+";
    let host = format!(r"(?:\[(?:{ipv6}|{future})\]|(?:[{open}]|{escaped})*)");
    let authority = format!("{user}{host}(?::[0-9]*)?");
    let rest = format!("(?:/{pchar}*)*");
    let absolute = format!("/(?:{pchar}+(?:/{pchar}*)*)?");
    let tail =
        format!(r"(?:\?(?:[{open}:@/?{private}]|{escaped})*)?(?:#(?:[{open}:@/?]|{escaped})*)?");
    let uri =
        format!("[a-zA-Z][a-zA-Z0-9+.-]*:(?://{authority}{rest}|{absolute}|{pchar}+{rest}|){tail}");
    let no_scheme = format!("(?:[{open}@]|{escaped})+{rest}");
    let relative = format!("(?://{authority}{rest}|{absolute}|{no_scheme}|){tail}");
    let reference = format!("(?:{uri}|{relative})");
    (uri, reference)
}
