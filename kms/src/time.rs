//! Time as text: RFC 3339, UTC, milliseconds. The fixed width makes comparing texts the same as comparing times.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the time comes from. Rules read it through the custody log, which never lets it run back.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// A clock that says what `now` says.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> String {
        format((self.0)())
    }
}

impl Default for Clock {
    /// The system's.
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Width of a time.
pub(crate) const WIDTH: usize = "2026-01-01T00:00:00.000Z".len();

/// The time now.
pub(crate) fn now() -> String {
    format(SystemTime::now())
}

/// The time `after` from now.
pub(crate) fn from_now(after: Duration) -> String {
    format(SystemTime::now() + after)
}

/// The time `after` from `at`; none if `at` is malformed.
pub(crate) fn after(at: &str, after: Duration) -> Option<String> {
    Some(format(UNIX_EPOCH + Duration::from_millis(milliseconds(at)?) + after))
}

/// The time `before` now.
pub(crate) fn ago(before: Duration) -> String {
    format(SystemTime::now().checked_sub(before).unwrap_or(UNIX_EPOCH))
}

/// The time `seconds` after 1970 began.
pub(crate) fn of_unix(seconds: u64) -> String {
    format(UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799)))
}

/// Days to a civil date (H. Hinnant's `civil_from_days`, for days since 1970-01-01 that are not negative).
fn date(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

fn format(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs().min(253_402_300_799);
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Milliseconds since 1970 of a time as this module writes it; none for another text.
fn milliseconds(text: &str) -> Option<u64> {
    if !well_formed(text) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // The inverse of `date` (days_from_civil).
    let y = if month <= 2 { year - 1 } else { year };
    let (era, yoe) = (y / 400, y % 400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    let days = (era * 146_097 + doe).checked_sub(719_468)?;
    let seconds = days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    Some(seconds * 1000 + number(20, 23)?)
}

/// The time so many days after `from`; none when `from` is no time.
pub(crate) fn days_after(from: &str, days: u32) -> Option<String> {
    let at = milliseconds(from)? + u64::from(days) * 86_400_000;
    Some(format(UNIX_EPOCH + Duration::from_millis(at)))
}

/// Whole seconds from `from` to `to`, 0 when that is past; none when one of them is no time.
pub(crate) fn seconds_until(from: &str, to: &str) -> Option<u64> {
    Some(milliseconds(to)?.saturating_sub(milliseconds(from)?) / 1000)
}

/// Whether `text` has the form of a time.
pub(crate) fn well_formed(text: &str) -> bool {
    let pattern = b"dddd-dd-ddTdd:dd:dd.dddZ";
    text.len() == WIDTH && text.bytes().zip(pattern).all(|(c, p)| if *p == b'd' { c.is_ascii_digit() } else { c == *p })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let made = format(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(made, text);
            assert!(well_formed(&made));
            assert_eq!(after(text, Duration::ZERO).unwrap(), text);
            assert_eq!(milliseconds(&made), Some(seconds * 1000));
        }
        for day in 0..40_000_u64 {
            let made = format(UNIX_EPOCH + Duration::from_millis(day * 86_400_000 + 86_399_999));
            assert_eq!(milliseconds(&made), Some(day * 86_400_000 + 86_399_999), "{made}");
        }
        assert_eq!(after("2024-02-28T23:59:59.999Z", Duration::from_millis(1)).unwrap(), "2024-02-29T00:00:00.000Z");
        assert_eq!(after("1969-12-31T00:00:00.000Z", Duration::ZERO), None);
        assert_eq!(days_after("2024-02-28T12:00:00.000Z", 2).unwrap(), "2024-03-01T12:00:00.000Z");
        assert_eq!(seconds_until("2024-02-28T12:00:00.000Z", "2024-02-28T12:01:00.900Z"), Some(60));
        assert_eq!(seconds_until("2024-02-28T12:00:00.000Z", "2023-02-28T12:01:00.900Z"), Some(0));
        assert_eq!(milliseconds("2024-13-01T00:00:00.000Z"), None);
        assert!(!well_formed("2024-02-29T23:59:59Z"));
        assert!(now() < from_now(Duration::from_secs(1)));
    }
}
