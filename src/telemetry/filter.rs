//! PURE: which events are logged, and which spans they stand in.

use tracing::{Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, FilterFn, LevelFilter, ParseError};
use tracing_subscriber::layer::Filter;

/// The filter of all layers: [`events`], and Slipway's own spans always. With LOG_LEVEL=warn a warning has to say, too, whose job it is about.
pub(super) fn of_level<S: Subscriber>(level: &str) -> Result<impl Filter<S> + use<S>, ParseError> {
    let spans = FilterFn::new(|about| about.is_span() && about.target().starts_with("slipway") && *about.level() <= Level::INFO)
        .with_max_level_hint(LevelFilter::INFO);
    Ok(spans.or(events(level)?))
}

/// `LOG_LEVEL`: one word is the level of Slipway's own events, libraries stay at warn; anything else is a filter as it stands.
fn events(level: &str) -> Result<EnvFilter, ParseError> {
    match level {
        "trace" | "debug" | "info" | "warn" => EnvFilter::try_new(format!("warn,slipway={level}")),
        other => EnvFilter::try_new(other),
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::screen::Screen;

    #[test]
    fn libraries_stay_quiet_unless_the_filter_names_them() {
        assert_eq!(events("debug").unwrap().to_string(), "slipway=debug,warn");
        assert_eq!(events("error").unwrap().to_string(), "error");
        assert_eq!(events("info,hyper=debug").unwrap().to_string(), "hyper=debug,info");
    }

    #[test]
    fn a_warning_names_its_deployment_however_little_is_logged() {
        for level in ["info", "warn", "error", "error,slipway::queue=debug"] {
            let screen = Screen::default();
            let writer = screen.clone();
            let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
            let subscriber = tracing_subscriber::registry().with(lines.with_filter(of_level(level).unwrap()));
            tracing::subscriber::with_default(subscriber, || {
                let _job = tracing::info_span!("job", deployment_id = "dpl_1").entered();
                tracing::error!("it went wrong");
                tracing::info!(target: "hyper", "noise");
                tracing::debug!("detail");
            });
            let shown = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
            assert!(shown.lines().count() == 1 && shown.contains("dpl_1") && shown.contains("it went wrong"), "{level}: {shown}");
        }
    }
}
