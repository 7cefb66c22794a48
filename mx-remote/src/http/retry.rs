//! When to repeat a request, and after what wait.

use super::Repeat;
use crate::error::Error;
use crate::options::Retry;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

const NOT_IMPLEMENTED: u16 = 501;
/// Clients that were all told the same wait spread over this part of it.
const RETRY_AFTER_SPREAD: f64 = 0.1;

/// The wait before repetition number `attempt` (from 0), or nothing when the error is final.
pub(super) fn delay(
    error: &Error,
    repeat: Repeat,
    attempt: u32,
    retry: &Retry,
) -> Option<Duration> {
    if attempt >= retry.max_retries || !is_safe(error, repeat) {
        return None;
    }
    match error.retry_after() {
        Some(asked) if asked > retry.max_retry_after => None,
        Some(asked) => {
            let spread = asked.as_secs_f64() * random_unit() * RETRY_AFTER_SPREAD;
            Some(asked.saturating_add(Duration::try_from_secs_f64(spread).unwrap_or_default()))
        }
        None => Some(backoff(attempt, retry, random_unit())),
    }
}

fn is_safe(error: &Error, repeat: Repeat) -> bool {
    let safe = repeat == Repeat::Safe;
    match error {
        Error::Connection { begun, .. } => safe || !begun,
        Error::Timeout { limit, .. } => *limit == "connect" || (safe && *limit == "read"),
        Error::Cut { .. } => safe,
        Error::RateLimit(_) => true,
        Error::Api(failure) => failure.status.is_some_and(|s| {
            s == 503 || (safe && (s == 408 || (s >= 500 && s != NOT_IMPLEMENTED)))
        }),
        _ => false,
    }
}

fn backoff(attempt: u32, retry: &Retry, random: f64) -> Duration {
    let factor = 2u32.checked_pow(attempt).unwrap_or(u32::MAX);
    let full = retry.base_delay.saturating_mul(factor).min(retry.max_delay);
    full.mul_f64(1.0 - random / 2.0)
}

/// From 0 to 1. The standard library seeds its hash tables from the system; that is random enough for a jitter.
fn random_unit() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1u64 << 53) as f64
}

/// Reads `Retry-After` (seconds or an HTTP date) or its relative `retry-after-ms`.
pub(super) fn retry_after(
    seconds_or_date: Option<&str>,
    millis: Option<&str>,
    now: SystemTime,
) -> Option<Duration> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let time = |number: f64| Duration::try_from_secs_f64(number).ok();
    if let Some(time) = millis.and_then(number).and_then(|ms| time(ms / 1000.0)) {
        return Some(time);
    }
    let text = seconds_or_date?.trim();
    match number(text) {
        Some(seconds) => time(seconds),
        None => {
            let at = httpdate::parse_http_date(text).ok()?;
            // A date that has passed means now.
            Some(at.duration_since(now).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    fn refused(status: u16, after: Option<u64>) -> Error {
        Error::refused(Failure {
            status: Some(status),
            retry_after: after.map(Duration::from_secs),
            ..Failure::default()
        })
    }

    fn broken(begun: bool) -> Error {
        Error::Connection {
            url: String::new(),
            begun,
            source: "x".into(),
        }
    }

    #[test]
    fn only_what_is_safe_is_repeated() {
        let retry = Retry::default();
        let repeats = |error: &Error, repeat| delay(error, repeat, 0, &retry).is_some();
        for (error, safe, other) in [
            (refused(429, None), true, true),
            (refused(503, None), true, true),
            (refused(500, None), true, false),
            (refused(502, None), true, false),
            (refused(501, None), false, false),
            (refused(400, None), false, false),
            (refused(401, None), false, false),
            (refused(422, None), false, false),
            (broken(false), true, true),
            (broken(true), true, false),
            (Error::Cancelled, false, false),
        ] {
            assert_eq!(repeats(&error, Repeat::Safe), safe, "{error}");
            assert_eq!(repeats(&error, Repeat::IfNotBegun), other, "{error}");
        }
        assert_eq!(delay(&refused(503, None), Repeat::Safe, 2, &retry), None);
    }

    #[test]
    fn the_servers_wait_is_kept_or_final() {
        let retry = Retry::default();
        let wait = |after| delay(&refused(429, Some(after)), Repeat::IfNotBegun, 0, &retry);
        let three = wait(3).unwrap_or_default().as_secs_f64();
        assert!((3.0..=3.3).contains(&three), "{three}");
        assert_eq!(wait(0), Some(Duration::ZERO));
        assert_eq!(wait(61), None);
    }

    #[test]
    fn own_waits_double_and_spread() {
        let retry = Retry::default();
        assert_eq!(backoff(0, &retry, 0.0), Duration::from_millis(500));
        assert_eq!(backoff(1, &retry, 0.0), Duration::from_secs(1));
        assert_eq!(backoff(1, &retry, 1.0), Duration::from_millis(500));
        assert_eq!(backoff(200, &retry, 0.0), Duration::from_secs(8));
        let units: Vec<f64> = (0..50).map(|_| random_unit()).collect();
        assert!(units.iter().all(|u| (0.0..=1.0).contains(u)));
        assert!(units.windows(2).any(|w| w[0] != w[1]));
    }

    #[test]
    fn waits_are_read_in_every_form() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |text| retry_after(Some(text), None, now);
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read(" 0.5 "), Some(Duration::from_millis(500)));
        assert_eq!(
            read("Sun, 06 Nov 1994 08:49:47 GMT"),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            read("Sunday, 06-Nov-94 08:49:47 GMT"),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            read("Sun Nov  6 08:49:47 1994"),
            Some(Duration::from_secs(10))
        );
        assert_eq!(read("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        for bad in [
            "",
            "soon",
            "-1",
            "NaN",
            "inf",
            "1e400",
            "Sun, 99 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(
            retry_after(Some("9"), Some("250"), now),
            Some(Duration::from_millis(250))
        );
        assert_eq!(retry_after(None, None, now), None);
    }
}
