//! The date that a template may ask for, and Python's `strftime` on it.

use super::TemplateError;

/// A moment as a calendar and a clock on the wall show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DateTime {
    year: i32,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
/// Letters of a name in its short form.
const SHORT: usize = 3;

impl DateTime {
    /// A date at midnight.
    ///
    /// # Errors
    /// If there is no such day, or the year is not 1 to 9999.
    pub fn new(year: i32, month: u8, day: u8) -> Result<Self, TemplateError> {
        range("year", year.into(), 1, 9999, "1 to 9999")?;
        range("month", month.into(), 1, 12, "1 to 12")?;
        let last = days_in(year, month);
        range("day", day.into(), 1, last.into(), "a day of that month")?;
        Ok(Self {
            year,
            month,
            day,
            hour: 0,
            minute: 0,
            second: 0,
        })
    }

    /// The same day at another time.
    ///
    /// # Errors
    /// If there is no such time.
    pub fn at(self, hour: u8, minute: u8, second: u8) -> Result<Self, TemplateError> {
        range("hour", hour.into(), 0, 23, "0 to 23")?;
        range("minute", minute.into(), 0, 59, "0 to 59")?;
        range("second", second.into(), 0, 59, "0 to 59")?;
        Ok(Self {
            hour,
            minute,
            second,
            ..self
        })
    }

    /// The moment in the words of a `strftime` format. Unknown directives stay as they are.
    #[must_use]
    pub fn format(&self, format: &str) -> String {
        let mut text = String::new();
        let mut rest = format.chars();
        while let Some(character) = rest.next() {
            if character != '%' {
                text.push(character);
                continue;
            }
            let mut ahead = rest.clone();
            let padded = ahead.next() != Some('-');
            if !padded {
                rest.next();
            }
            match rest.next() {
                Some(directive) => match self.directive(directive, padded) {
                    Some(value) => text.push_str(&value),
                    None => {
                        text.push_str(if padded { "%" } else { "%-" });
                        text.push(directive);
                    }
                },
                None => text.push_str(if padded { "%" } else { "%-" }),
            }
        }
        text
    }

    fn directive(&self, directive: char, padded: bool) -> Option<String> {
        let number = |value: u32, width: usize| match padded {
            true => format!("{value:0width$}"),
            false => value.to_string(),
        };
        let two = |value: u8| number(value.into(), 2);
        let month = MONTHS[usize::from(self.month) - 1];
        let day = DAYS[self.weekday()];
        let twelve = if self.hour.is_multiple_of(12) {
            12
        } else {
            self.hour % 12
        };
        Some(match directive {
            'Y' => number(self.year.unsigned_abs(), 4),
            'y' => number(self.year.unsigned_abs() % 100, 2),
            'm' => two(self.month),
            'd' => two(self.day),
            'e' => match padded {
                true => format!("{:>2}", self.day),
                false => self.day.to_string(),
            },
            'H' => two(self.hour),
            'I' => two(twelve),
            'M' => two(self.minute),
            'S' => two(self.second),
            'p' => if self.hour < 12 { "AM" } else { "PM" }.to_owned(),
            'B' => month.to_owned(),
            'b' | 'h' => month[..SHORT].to_owned(),
            'A' => day.to_owned(),
            'a' => day[..SHORT].to_owned(),
            'j' => number(self.day_of_year(), 3),
            'w' => ((self.weekday() + 1) % DAYS.len()).to_string(),
            'u' => (self.weekday() + 1).to_string(),
            'F' => self.format("%Y-%m-%d"),
            'T' | 'X' => self.format("%H:%M:%S"),
            'R' => self.format("%H:%M"),
            'D' | 'x' => self.format("%m/%d/%y"),
            'c' => self.format("%a %b %e %H:%M:%S %Y"),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }

    fn day_of_year(&self) -> u32 {
        let before = (1..self.month)
            .map(|month| u32::from(days_in(self.year, month)))
            .sum::<u32>();
        before + u32::from(self.day)
    }

    /// Days since Monday. 1 January of the year 1 was a Monday.
    fn weekday(&self) -> usize {
        let years = self.year.unsigned_abs() - 1;
        let days = years * 365 + years / 4 - years / 100 + years / 400 + self.day_of_year() - 1;
        days as usize % DAYS.len()
    }
}

fn days_in(year: i32, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn range(
    field: &'static str,
    given: i64,
    low: i64,
    high: i64,
    wanted: &'static str,
) -> Result<(), TemplateError> {
    match (low..=high).contains(&given) {
        true => Ok(()),
        false => Err(TemplateError::BadDate {
            field,
            given,
            wanted,
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn formats_of_published_templates() {
        let date = DateTime::new(2024, 7, 6).unwrap().at(15, 4, 5).unwrap();
        assert_eq!(date.format("%d %b %Y"), "06 Jul 2024");
        assert_eq!(date.format("%B %-d, %Y (%A)"), "July 6, 2024 (Saturday)");
        assert_eq!(date.format("%Y-%m-%d %I:%M %p"), "2024-07-06 03:04 PM");
        assert_eq!(date.format("%j %y %e %H%%"), "188 24  6 15%");
        assert_eq!(date.format("%Q %-"), "%Q %-");
    }

    #[test]
    fn weekdays_and_leap_years() {
        for (year, month, day, name) in [
            (1, 1, 1, "Monday"),
            (1970, 1, 1, "Thursday"),
            (2000, 2, 29, "Tuesday"),
        ] {
            assert_eq!(DateTime::new(year, month, day).unwrap().format("%A"), name);
        }
        assert!(DateTime::new(1900, 2, 29).is_err());
        assert!(DateTime::new(2024, 13, 1).is_err());
        assert!(DateTime::new(2024, 4, 31).is_err());
        assert!(DateTime::new(2024, 4, 30).unwrap().at(24, 0, 0).is_err());
    }
}
