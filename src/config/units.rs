//! PURE: times and sizes as people write them.

use std::time::Duration;

/// Longer is a slip of the pen, and near the end of what a clock can add.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// `90` and `90s` are seconds, `5m` minutes, `2h` hours. `Err` is the end of a sentence that begins with the value.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    let (number, unit) = number_and_unit(text).ok_or("is not a time: write seconds (90), 90s, 5m or 2h")?;
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("has an unknown unit of time: write seconds (90), 90s, 5m or 2h"),
    };
    number.checked_mul(factor).map(Duration::from_secs).filter(|d| *d <= LONGEST).ok_or("is longer than 30 days (720h)")
}

/// `1048576` is bytes; `KB MB GB TB` are powers of 1000, `KiB MiB GiB TiB` powers of 1024.
pub fn size(text: &str) -> Result<u64, &'static str> {
    let (number, unit) = number_and_unit(text).ok_or("is not a size: write bytes (1048576), 500MB or 10GiB")?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000 * 1000,
        "gb" => 1000 * 1000 * 1000,
        "tb" => 1000 * 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err("has an unknown unit of size: write bytes (1048576), 500MB or 10GiB"),
    };
    number.checked_mul(factor).filter(|n| *n <= i64::MAX as u64).ok_or("is larger than can be counted")
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_seconds_unless_they_say_otherwise() {
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5 m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "s", "-1", "1.5", "5d", "99999999999999999999", "31000000h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_bytes_unless_they_say_otherwise() {
        assert_eq!(size("4194304"), Ok(4 << 20));
        assert_eq!(size("500MB"), Ok(500_000_000));
        assert_eq!(size("10GiB"), Ok(10 << 30));
        assert_eq!(size("1 kib"), Ok(1024));
        for wrong in ["", "GiB", "10G", "-1", "1e9", "99999999TiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "\\PC{0,30}") {
            let _ = (duration(&text), size(&text));
        }
    }
}
