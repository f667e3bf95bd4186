//! PURE: which events are logged.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// `LOG_LEVEL`: one word is the level of Slipway's own events, libraries stay at warn; anything else is a filter as it stands.
pub(super) fn of_level(level: &str) -> Result<EnvFilter, ParseError> {
    match level {
        "trace" | "debug" | "info" | "warn" => EnvFilter::try_new(format!("warn,slipway={level}")),
        other => EnvFilter::try_new(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_stay_quiet_unless_the_filter_names_them() {
        assert_eq!(of_level("debug").unwrap().to_string(), "slipway=debug,warn");
        assert_eq!(of_level("error").unwrap().to_string(), "error");
        assert_eq!(of_level("info,hyper=debug").unwrap().to_string(), "hyper=debug,info");
    }
}
