//! Today's date, for chat templates that print it.

use mx_runtime::template::DateTime;
use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_A_DAY: u64 = 86_400;

/// The present moment, in seconds since 1970; `None` for a clock before that.
pub(super) fn now() -> Option<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

/// A moment in UTC; `None` outside the years that a template can print.
pub(super) fn at(unix_seconds: u64) -> Option<DateTime> {
    let (days, second) = (unix_seconds / SECONDS_A_DAY, unix_seconds % SECONDS_A_DAY);
    let (year, month, day) = civil(i64::try_from(days).ok()?);
    let part = |divisor: u64, modulus: u64| (second / divisor % modulus) as u8;
    DateTime::new(i32::try_from(year).ok()?, month, day)
        .and_then(|date| date.at(part(3600, 24), part(60, 60), part(1, 60)))
        .ok()
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar; years are counted from March,
/// so that the leap day is the last of its year.
fn civil(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468; // from 0000-03-01
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * from_march + 2) / 5 + 1) as u8;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    } as u8;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(20_780), (2026, 11, 23));
        let text = at(951_827_696).map(|date| date.format("%Y-%m-%d %H:%M:%S"));
        assert_eq!(text.as_deref(), Some("2000-02-29 12:34:56"));
    }
}
