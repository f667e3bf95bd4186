//! Stands between the formatter and a sink: masks each whole event, and keeps it one line of bounded length.

use std::borrow::Cow;
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

use super::Mask;

/// A longer event is cut, and says so.
const LONGEST_LINE: usize = 64 * 1024;

/// A sink that takes one event per write.
pub(super) trait Lines: Write + Clone + Send + Sync + 'static {}
impl<W: Write + Clone + Send + Sync + 'static> Lines for W {}

#[derive(Clone)]
pub(super) struct MaskingWriter<W> {
    sink: W,
    mask: Mask,
}

impl<W> MaskingWriter<W> {
    pub(super) fn new(sink: W, mask: Mask) -> Self {
        Self { sink, mask }
    }
}

impl<W: Lines> MakeWriter<'_> for MaskingWriter<W> {
    type Writer = EventWriter<W>;
    fn make_writer(&self) -> Self::Writer {
        EventWriter { to: self.clone(), event: Vec::new() }
    }
}

/// Gathers one event, however many writes it comes in: a secret could lie across two of them.
pub(super) struct EventWriter<W: Lines> {
    to: MaskingWriter<W>,
    event: Vec<u8>,
}

impl<W: Lines> Write for EventWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.event.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.event.is_empty() {
            return Ok(());
        }
        let event = std::mem::take(&mut self.event);
        let text = String::from_utf8_lossy(&event);
        let line = one_line(&(self.to.mask)(&text));
        self.to.sink.write_all(line.as_bytes())
    }
}

impl<W: Lines> Drop for EventWriter<W> {
    fn drop(&mut self) {
        if let Err(e) = self.flush() {
            // The terminal may be closed: then there is nobody to tell.
            let _closed = writeln!(io::stderr(), "slipway: a log line could not be written: {e}");
        }
    }
}

/// A new line inside an event could pass for an event of its own: what follows it is indented and marked.
fn one_line(text: &str) -> String {
    let body = cut(text.strip_suffix('\n').unwrap_or(text), LONGEST_LINE);
    format!("{}\n", body.replace('\r', "\\r").replace('\n', "\n    | "))
}

/// At most `most` bytes of `text`, and how much is missing.
pub(super) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(most);
    Cow::Owned(format!("{} … ({} bytes cut)", &text[..end], text.len() - end))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::lines_layer;
    use crate::telemetry::screen::Screen;

    fn logged(json: bool, write: impl FnOnce()) -> String {
        let screen = Screen::default();
        let mask: Mask = Arc::new(|text: &str| Cow::Owned(text.replace("hunter22", "***")));
        let layer = lines_layer(json, false, MaskingWriter::new(screen.clone(), mask));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), write);
        let bytes = screen.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_secret_is_masked_in_the_message_in_fields_and_in_the_span() {
        for json in [false, true] {
            let out = logged(json, || {
                let _span = tracing::info_span!("job", deployment_id = "dpl_1", url = "https://x:hunter22@git").entered();
                tracing::info!(token = "hunter22", "login with hunter22");
            });
            assert!(!out.contains("hunter22"), "{out}");
            assert_eq!(out.matches("***").count(), 3, "{out}");
            assert!(out.contains("dpl_1"), "{out}");
        }
    }

    #[test]
    fn json_names_the_deployment_of_each_event() {
        let out = logged(true, || {
            let _span = tracing::info_span!("job", deployment_id = "dpl_1").entered();
            tracing::info!("done");
        });
        let event: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(event["message"], "done");
        assert_eq!(event["span"]["deployment_id"], "dpl_1");
    }

    #[test]
    fn an_event_cannot_pass_for_two() {
        let out = logged(false, || tracing::info!("one\n2030-01-01 INFO forged\r\n\x1b[2Jthree"));
        assert_eq!(out.lines().filter(|l| !l.starts_with("    | ")).count(), 1, "{out}");
        assert!(!out.contains('\x1b') && !out.contains('\r'), "{out:?}");
    }

    #[test]
    fn an_event_that_is_too_long_is_cut_and_says_so() {
        let out = logged(false, || tracing::info!("{}", "ä".repeat(LONGEST_LINE)));
        assert!(out.len() < LONGEST_LINE + 100 && out.contains("bytes cut)"), "{}", out.len());
    }
}
