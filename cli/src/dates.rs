//! Times as people write and read them, in UTC. The chain's clock decides, never this machine's.

use std::fmt;
use std::str::FromStr;

use crate::amounts;

const DAY: u64 = 86_400;

/// A time as it was asked for: so many seconds from the newest block's time, or a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// This far from now.
    Distance(u64),
    /// Unix seconds.
    At(u64),
}

impl Moment {
    /// Unix seconds, a distance being to come.
    pub(crate) fn after(self, now: u64) -> u64 {
        match self {
            Self::Distance(seconds) => now.saturating_add(seconds),
            Self::At(time) => time,
        }
    }

    /// Unix seconds, a distance lying back.
    pub(crate) fn before(self, now: u64) -> u64 {
        match self {
            Self::Distance(seconds) => now.saturating_sub(seconds),
            Self::At(time) => time,
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(seconds) = amounts::seconds(text) {
            return Ok(Self::Distance(seconds));
        }
        parse_date(text).map(Self::At).ok_or_else(|| {
            "expected a time such as 30m, 6h or 30d, or a date in UTC such as 2027-01-31 or 2027-01-31T12:00:00Z"
                .to_owned()
        })
    }
}

/// Unix seconds of `2027-01-31` or `2027-01-31T12:00[:00]Z`.
fn parse_date(text: &str) -> Option<u64> {
    let (date, clock) = match text.split_once('T') {
        Some((date, clock)) => (date, clock.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let date = numbers(date, '-', &[4, 2, 2])?;
    let widths: &[usize] = if clock.len() == 5 { &[2, 2] } else { &[2, 2, 2] };
    let clock = numbers(clock, ':', widths)?;
    let (year, month, day) = (date[0], date[1], date[2]);
    let (hour, minute, second) = (clock[0], clock[1], clock.get(2).copied().unwrap_or(0));
    let exists = year >= 1970 && (1..=12).contains(&month) && day >= 1 && day <= days_of(year, month);
    if !exists || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let years = (1970..year)
        .map(|year| if is_leap(year) { 366 } else { 365 })
        .sum::<u64>();
    let months = (1..month).map(|month| days_of(year, month)).sum::<u64>();
    Some((years + months + day - 1) * DAY + hour * 3_600 + minute * 60 + second)
}

/// Numbers of exactly these widths.
fn numbers(text: &str, separator: char, widths: &[usize]) -> Option<Vec<u64>> {
    let parts: Vec<&str> = text.split(separator).collect();
    let fits = parts.len() == widths.len()
        && parts
            .iter()
            .zip(widths)
            .all(|(part, width)| part.len() == *width && part.bytes().all(|letter| letter.is_ascii_digit()));
    fits.then(|| parts.iter().filter_map(|part| part.parse().ok()).collect())
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Unix seconds as `2027-01-31 12:00:00`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Date(pub(crate) u64);

impl fmt::Display for Date {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The Gregorian calendar repeats every 400 years, in days.
        const CYCLE: u64 = 146_097;
        let (mut days, rest) = (self.0 / DAY, self.0 % DAY);
        let mut year = 1970 + days / CYCLE * 400;
        days %= CYCLE;
        loop {
            let length = if is_leap(year) { 366 } else { 365 };
            if days < length {
                break;
            }
            (days, year) = (days - length, year + 1);
        }
        let mut month = 1;
        while days >= days_of(year, month) {
            days -= days_of(year, month);
            month += 1;
        }
        write!(
            formatter,
            "{year:04}-{month:02}-{:02} {:02}:{:02}:{:02}",
            days + 1,
            rest / 3_600,
            rest / 60 % 60,
            rest % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_and_written_back() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2027-01-31T12:00:00Z", 1_801_396_800),
            ("2027-01-31T12:00Z", 1_801_396_800),
            ("2400-12-31T23:59:59Z", 13_601_087_999),
        ] {
            assert_eq!(text.parse(), Ok(Moment::At(seconds)), "{text}");
        }
        assert_eq!(Date(951_782_400).to_string(), "2000-02-29 00:00:00");
        assert_eq!(Date(1_801_396_800).to_string(), "2027-01-31 12:00:00");
        assert_eq!(Date(13_601_087_999).to_string(), "2400-12-31 23:59:59");
        // Every day of a cycle survives the way there and back.
        for day in (0..146_097).step_by(97) {
            let shown = Date(day * DAY).to_string();
            assert_eq!(parse_date(&shown[..10]), Some(day * DAY), "{shown}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "tomorrow",
            "30",
            "0d",
            "2027-02-29",
            "2027-13-01",
            "2027-1-1",
            "2027-01-00",
            "1969-12-31",
            "2027-01-31T24:00Z",
            "2027-01-31T12:00",
            "+027-01-31",
            "2027-01-31 12:00",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_distance_is_from_the_chains_time() {
        let week: Moment = "1w".parse().expect("a time");
        assert_eq!((week.after(1_000_000), week.before(1_000_000)), (1_604_800, 395_200));
        assert_eq!(week.before(5), 0);
    }
}
