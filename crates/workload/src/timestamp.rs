//! RFC 3339 times as container engines write them, in nanoseconds since 1970.

/// Reads `2026-11-22T16:54:55.260606558Z` (any number of fractional digits, `Z` or an offset). `None` for anything
/// else, and for the year 1 that engines write for "never".
pub(crate) fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes[4] != b'-' || bytes[7] != b'-' || bytes[13] != b':' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())
            .flatten()
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }

    let rest = text.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|character: char| !character.is_ascii_digit())?;
            rest.split_at(end)
        }
        None => ("", rest),
    };
    let mut nanoseconds = 0_i64;
    for position in 0..9 {
        let digit = fraction
            .as_bytes()
            .get(position)
            .map_or(0, |digit| i64::from(digit - b'0'));
        nanoseconds = nanoseconds * 10 + digit;
    }
    let offset_seconds = match zone.as_bytes() {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let digits = [h1, h2, m1, m2].map(|byte| i64::from(*byte) - i64::from(b'0'));
            if digits.iter().any(|digit| !(0..=9).contains(digit)) {
                return None;
            }
            let offset = (digits[0] * 10 + digits[1]) * 3600 + (digits[2] * 10 + digits[3]) * 60;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_seconds;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// Days from 1970-01-01 in the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_times_are_read() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2026-11-22T16:54:55.260606558Z"), Some(1_795_366_495_260_606_558));
        assert_eq!(parse("2024-02-29T23:59:59.5Z"), Some(1_709_251_199_500_000_000));
        assert_eq!(parse("2024-03-01T01:00:00+01:00"), parse("2024-03-01T00:00:00Z"));
    }

    #[test]
    fn other_texts_are_not() {
        for text in [
            "",
            "0001-01-01T00:00:00Z",
            "2026-11-22",
            "2026-13-22T16:54:55Z",
            "2026-11-22T16:54:55",
            "2026-11-22T16:54:55.",
            "hello, hello, hello, hello",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
