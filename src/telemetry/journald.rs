//! Events as journald entries with fields, by journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): `journalctl DEPLOYMENT_ID=…`.
//!
//! A layer of our own, because every value has to pass the mask before it is encoded.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::Mask;
use super::TelemetryError;
use super::writer::{Lines, cut};

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// A longer value is cut, and says so.
const LONGEST_VALUE: usize = 16 * 1024;
/// A datagram may be so long (the kernel's default limit is 208 KiB); fields beyond are left out.
const LONGEST_ENTRY: usize = 128 * 1024;

/// One write, one datagram, one entry.
pub(super) struct Socket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Socket {
    pub(super) fn connect(path: impl AsRef<Path>) -> Result<Self, TelemetryError> {
        let path = path.as_ref().to_owned();
        let socket = UnixDatagram::unbound().and_then(|socket| {
            // An empty datagram is ignored by journald; it shows that somebody listens.
            socket.send_to(&[], &path)?;
            Ok(socket)
        });
        match socket {
            Ok(socket) => Ok(Self { socket, path }),
            Err(cause) => Err(TelemetryError::Journald { path, cause }),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // By path each time: it outlives a restart of journald.
        let sent = self.socket.send_to(entry, &self.path);
        if let Err(e) = &sent {
            eprintln!("slipway: journald at {} did not take a log entry: {e}", self.path.display());
        }
        sent
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encodes events and hands each to the sink in one write.
pub(super) struct JournaldLayer<W> {
    sink: W,
    mask: Mask,
}

impl<W> JournaldLayer<W> {
    pub(super) fn new(sink: W, mask: Mask) -> Self {
        Self { sink, mask }
    }
}

/// A span's fields, encoded and masked.
struct SpanFields(Vec<u8>);

impl<S, W> Layer<S> for JournaldLayer<W>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: Lines,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let mut entry = Entry { bytes: Vec::new(), mask: &self.mask };
        entry.put("SPAN_NAME", span.name());
        attributes.record(&mut entry);
        let fields = SpanFields(entry.bytes);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(SpanFields(bytes)) = extensions.get_mut::<SpanFields>() {
            let mut entry = Entry { bytes: std::mem::take(bytes), mask: &self.mask };
            values.record(&mut entry);
            *bytes = entry.bytes;
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut entry = Entry { bytes: Vec::with_capacity(512), mask: &self.mask };
        let about = event.metadata();
        entry.put("PRIORITY", priority(*about.level()));
        entry.put("SYSLOG_IDENTIFIER", "slipway");
        entry.put("TARGET", about.target());
        if let (Some(file), Some(line)) = (about.file(), about.line()) {
            entry.put("CODE_FILE", file);
            entry.put("CODE_LINE", &line.to_string());
        }
        // Spans before the event's own fields: whatever is left out, the deployment's id stays.
        for span in ctx.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(fields)) = span.extensions().get::<SpanFields>()
                && entry.bytes.len() + fields.len() <= LONGEST_ENTRY / 2
            {
                entry.bytes.extend_from_slice(fields);
            }
        }
        event.record(&mut entry);
        if let Err(e) = self.sink.clone().write_all(&entry.bytes) {
            eprintln!("slipway: a log entry could not be queued: {e}");
        }
    }
}

/// syslog's levels: 3 err, 4 warning, 6 info, 7 debug.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// An entry in the making.
struct Entry<'m> {
    bytes: Vec<u8>,
    mask: &'m Mask,
}

impl Entry<'_> {
    /// `NAME\n`, the length as 64 bits little endian, the value, `\n`: a value may hold new lines and cannot forge a field.
    fn put(&mut self, name: &str, value: &str) {
        let masked = (self.mask)(value);
        let value = cut(&masked, LONGEST_VALUE);
        if self.bytes.len() + name.len() + value.len() + 10 > LONGEST_ENTRY {
            return;
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(b'\n');
        self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }
}

impl Visit for Entry<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(&field_name(field.name()), &format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(&field_name(field.name()), value);
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(&field_name(field.name()), &value.to_string());
    }
}

/// journald takes `[A-Z0-9_]`, not beginning with `_` (those are its own) or a digit. A field that would pass for one of the standard
/// ones is prefixed.
fn field_name(name: &str) -> String {
    let plain: String =
        name.bytes().map(|b| if b.is_ascii_alphanumeric() { b.to_ascii_uppercase() as char } else { '_' }).collect();
    let plain = plain.trim_start_matches('_');
    let standard =
        matches!(plain, "PRIORITY" | "SYSLOG_IDENTIFIER" | "TARGET" | "CODE_FILE" | "CODE_LINE" | "SPAN_NAME" | "MESSAGE_ID");
    if standard || plain.is_empty() || plain.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("F_{plain}");
    }
    plain.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::Guard;

    /// Reads one entry as journald does.
    fn decode(mut bytes: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let name_end = bytes.iter().position(|b| *b == b'\n').unwrap();
            let name = String::from_utf8(bytes[..name_end].to_vec()).unwrap();
            let length = u64::from_le_bytes(bytes[name_end + 1..name_end + 9].try_into().unwrap()) as usize;
            let value = &bytes[name_end + 9..name_end + 9 + length];
            assert_eq!(bytes[name_end + 9 + length], b'\n');
            fields.push((name, String::from_utf8(value.to_vec()).unwrap()));
            bytes = &bytes[name_end + 10 + length..];
        }
        fields
    }

    /// What a listener at the socket gets.
    fn sent(write: impl FnOnce()) -> Vec<Vec<(String, String)>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut guard = Guard { sinks: Vec::new(), reopen: crate::telemetry::Reopen::default() };
        let queue = guard.sink("journal", Socket::connect(&path).unwrap());
        let mask: Mask = Arc::new(|text: &str| Cow::Owned(text.replace("hunter22", "***")));
        let layer = JournaldLayer::new(queue, mask);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), write);
        drop(guard);
        let mut buffer = vec![0; 256 * 1024];
        let mut entries = Vec::new();
        while let Ok(n) = listener.recv(&mut buffer) {
            entries.extend((n > 0).then(|| decode(&buffer[..n])));
        }
        entries
    }

    fn values<'e>(entry: &'e [(String, String)], name: &str) -> Vec<&'e str> {
        entry.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    #[test]
    fn every_event_of_a_job_carries_its_deployment_id() {
        let entries = sent(|| {
            let _job = tracing::info_span!("job", deployment_id = "dpl_8f3k2", attempt = 2).entered();
            let stage = tracing::info_span!("stage", name = "push", digest = tracing::field::Empty);
            let _in_stage = stage.enter();
            stage.record("digest", "sha256:00");
            tracing::warn!(bytes = 7, "slow");
        });
        assert_eq!(entries.len(), 1);
        for (name, value) in [
            ("MESSAGE", "slow"),
            ("PRIORITY", "4"),
            ("DEPLOYMENT_ID", "dpl_8f3k2"),
            ("ATTEMPT", "2"),
            ("NAME", "push"),
            ("DIGEST", "sha256:00"),
            ("BYTES", "7"),
            ("SYSLOG_IDENTIFIER", "slipway"),
        ] {
            assert_eq!(values(&entries[0], name), [value], "{name} in {:?}", entries[0]);
        }
        assert_eq!(values(&entries[0], "SPAN_NAME"), ["stage", "job"]);
    }

    #[test]
    fn a_secret_is_masked_in_every_field() {
        let entries = sent(|| {
            let _job = tracing::info_span!("job", url = "https://x:hunter22@git").entered();
            tracing::info!(token = "hunter22", cause = ?Some("hunter22"), "with hunter22");
        });
        let text = format!("{entries:?}");
        assert!(!text.contains("hunter22"), "{text}");
        assert_eq!(text.matches("***").count(), 4, "{text}");
    }

    #[test]
    fn no_value_can_forge_a_field_and_no_field_a_standard_one() {
        let entries = sent(|| tracing::info!(priority = "0", _pid = 1, "x\nPRIORITY=0\n_UID=0"));
        assert_eq!(values(&entries[0], "PRIORITY"), ["6"]);
        assert_eq!(values(&entries[0], "F_PRIORITY"), ["0"]);
        assert_eq!(values(&entries[0], "PID"), ["1"]);
        assert_eq!(values(&entries[0], "MESSAGE"), ["x\nPRIORITY=0\n_UID=0"]);
    }

    #[test]
    fn an_entry_stays_below_a_datagram_however_much_is_logged() {
        let long = "x".repeat(1 << 20);
        let entries = sent(|| {
            let _job = tracing::info_span!("job", deployment_id = "dpl_1").entered();
            let (a, b, c, d) = (&long[..], &long[..], &long[..], &long[..]);
            tracing::info!(a, b, c, d, e = a, f = a, g = a, h = a, i = a, "{long}");
        });
        assert_eq!(entries.len(), 1);
        assert!(values(&entries[0], "MESSAGE")[0].ends_with("bytes cut)"));
        assert_eq!(values(&entries[0], "DEPLOYMENT_ID"), ["dpl_1"]);
    }
}
