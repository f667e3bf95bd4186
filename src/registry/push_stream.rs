//! PURE: the Engine's push stream (JSON lines after HTTP 200): bytes → [`Event`]s → [`Progress`] and its words.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

/// One line of the stream is a status of a few hundred bytes; more than this is no push stream.
const MAX_LINE: usize = 1 << 20;
/// How often a progress line is written at most.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// What the Engine said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Layer {
        id: String,
        state: LayerState,
    },
    /// The manifest is in the registry. `sha256:…`
    Digest(String),
    /// The push failed; the stream ends here.
    Error(String),
    /// Something without a meaning for us ("The push refers to repository …").
    Note,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LayerState {
    /// The registry is asked whether it has the layer.
    Preparing,
    /// In the Engine's own queue: it uploads so many layers at a time, of all pushes together (`max-concurrent-uploads`, 5).
    Waiting,
    /// Bytes on their way, before compression.
    Pushing {
        sent: u64,
        total: u64,
    },
    /// The upload broke and the Engine waits to begin it again; the words change every second.
    Retrying(String),
    Pushed,
    /// The registry had it: "Layer already exists", or "Mounted from <another repository>" whose name is not this tenant's business.
    Reused,
}

/// The stream is not one of JSON lines.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Garbled {
    #[error("the Engine's push stream has a line of more than 1 MiB")]
    TooLong,
    #[error("the Engine's push stream has a line that is not JSON")]
    NotJson,
}

#[derive(Deserialize)]
struct RawLine {
    status: Option<String>,
    id: Option<String>,
    #[serde(rename = "progressDetail")]
    progress: Option<RawProgress>,
    aux: Option<RawAux>,
    error: Option<String>,
    #[serde(rename = "errorDetail")]
    error_detail: Option<RawError>,
}
#[derive(Deserialize)]
struct RawProgress {
    current: Option<i64>,
    total: Option<i64>,
}
#[derive(Deserialize)]
struct RawAux {
    #[serde(rename = "Digest")]
    digest: Option<String>,
}
#[derive(Deserialize)]
struct RawError {
    message: Option<String>,
}

/// Cuts the stream into lines, whatever the chunks.
#[derive(Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<Vec<Event>, Garbled> {
        let mut events = Vec::new();
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            self.pending.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            events.extend(parse(&self.pending)?);
            self.pending.clear();
        }
        self.pending.extend_from_slice(rest);
        if self.pending.len() > MAX_LINE { Err(Garbled::TooLong) } else { Ok(events) }
    }
    /// The stream's end: a last line without its line feed.
    pub(super) fn finish(self) -> Result<Option<Event>, Garbled> {
        parse(&self.pending)
    }
}

fn parse(line: &[u8]) -> Result<Option<Event>, Garbled> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    let raw: RawLine = serde_json::from_slice(line).map_err(|_| Garbled::NotJson)?;
    Ok(Some(raw.into_event()))
}

impl RawLine {
    fn into_event(self) -> Event {
        if let Some(message) = self.error_detail.and_then(|detail| detail.message).or(self.error) {
            return Event::Error(message);
        }
        if let Some(digest) = self.aux.and_then(|aux| aux.digest).filter(|digest| is_digest(digest)) {
            return Event::Digest(digest);
        }
        let Some(status) = self.status else {
            return Event::Note;
        };
        match self.id {
            Some(id) => match layer_state(&status, self.progress) {
                Some(state) => Event::Layer { id, state },
                None => Event::Note,
            },
            None => digest_in(&status).map_or(Event::Note, Event::Digest),
        }
    }
}

fn layer_state(status: &str, progress: Option<RawProgress>) -> Option<LayerState> {
    let bytes = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    match status {
        "Preparing" => Some(LayerState::Preparing),
        "Waiting" => Some(LayerState::Waiting),
        "Pushing" => {
            let (sent, total) = progress.map_or((0, 0), |p| (bytes(p.current), bytes(p.total)));
            // The Engine counts the tar's padding too and ends a little above the layer's size.
            Some(LayerState::Pushing { sent: if total > 0 { sent.min(total) } else { sent }, total })
        }
        "Pushed" => Some(LayerState::Pushed),
        "Layer already exists" => Some(LayerState::Reused),
        _ if status.starts_with("Mounted from ") => Some(LayerState::Reused),
        _ if status.starts_with("Retrying in ") => Some(LayerState::Retrying(status.to_owned())),
        _ => None,
    }
}

/// `TAG: digest: sha256:… size: …`, as engines say it that send no `aux`.
fn digest_in(status: &str) -> Option<String> {
    let (_, rest) = status.split_once(": digest: ")?;
    let digest = rest.split(' ').next()?;
    is_digest(digest).then(|| digest.to_owned())
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// What a push has done so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    layers: BTreeMap<String, Layer>,
    digest: Option<String>,
    last_line: Option<Duration>,
    has_broken: bool,
}

#[derive(Debug)]
struct Layer {
    state: LayerState,
    size: u64,
    sent: u64,
}

/// What an event did to the progress.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// Nothing new: it does not count against a stall.
    No,
    Yes,
    /// A layer's upload broke for the first time since it last moved: worth a warning.
    Broke,
}

impl Progress {
    pub(super) fn apply(&mut self, event: &Event) -> Moved {
        match event {
            Event::Layer { id, state } => self.apply_layer(id, state),
            Event::Digest(digest) => {
                let new = self.digest.as_ref() != Some(digest);
                self.digest = Some(digest.clone());
                if new { Moved::Yes } else { Moved::No }
            }
            Event::Error(_) | Event::Note => Moved::No,
        }
    }

    fn apply_layer(&mut self, id: &str, state: &LayerState) -> Moved {
        let Some(layer) = self.layers.get_mut(id) else {
            self.layers.insert(id.to_owned(), Layer::new(state.clone()));
            return Moved::Yes;
        };
        if layer.state == *state {
            return Moved::No;
        }
        let broke = matches!(state, LayerState::Retrying(_)) && !matches!(layer.state, LayerState::Retrying(_));
        layer.enter(state.clone());
        self.has_broken |= broke;
        if broke { Moved::Broke } else { Moved::Yes }
    }

    /// Whether the upload of any layer broke off so far.
    pub(super) fn has_broken(&self) -> bool {
        self.has_broken
    }

    /// Whether all that is left to do waits in the Engine's queue behind other pushes: that nothing moves is not the registry's fault.
    pub(super) fn is_queued(&self) -> bool {
        use LayerState::{Preparing, Pushed, Pushing, Retrying, Reused, Waiting};
        let mut left = self.layers.values().map(|l| &l.state).filter(|s| !matches!(s, Pushed | Reused)).peekable();
        left.peek().is_some()
            && left.all(|state| match state {
                Waiting => true,
                Preparing | Pushing { .. } | Retrying(_) | Pushed | Reused => false,
            })
    }

    /// `sha256:…` once the registry has the manifest.
    pub(super) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// A line for the log, at most one every two seconds. `elapsed` since the push began.
    pub(super) fn line_due(&mut self, elapsed: Duration) -> Option<String> {
        let since = elapsed.saturating_sub(self.last_line.unwrap_or(Duration::ZERO));
        if since < LINE_INTERVAL || self.layers.is_empty() {
            return None;
        }
        self.last_line = Some(elapsed);
        Some(self.line())
    }

    /// "pushed 3 of 5 layers, 12.3 MB, 1 reused": the work still going on.
    fn line(&self) -> String {
        let counts = self.counts();
        let mut line = format!("pushed {} of {}, {}", counts.pushed, layers(counts.all - counts.reused), megabytes(counts.sent));
        if counts.reused > 0 {
            line.push_str(&format!(", {} reused", counts.reused));
        }
        line
    }

    /// "3 layers pushed (12.3 MB), 2 reused": what was done in the end.
    pub(super) fn summary(&self) -> String {
        let counts = self.counts();
        match (counts.pushed, counts.reused) {
            (0, 0) => "no layers".to_owned(),
            (0, reused) => format!("{} reused", layers(reused)),
            (pushed, 0) => format!("{} pushed ({})", layers(pushed), megabytes(counts.sent)),
            (pushed, reused) => format!("{} pushed ({}), {reused} reused", layers(pushed), megabytes(counts.sent)),
        }
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts { all: self.layers.len(), ..Counts::default() };
        for layer in self.layers.values() {
            match layer.state {
                LayerState::Pushed => counts.pushed += 1,
                LayerState::Reused => counts.reused += 1,
                LayerState::Preparing | LayerState::Waiting | LayerState::Pushing { .. } | LayerState::Retrying(_) => {}
            }
            counts.sent += layer.sent;
        }
        counts
    }
}

#[derive(Default)]
struct Counts {
    all: usize,
    pushed: usize,
    reused: usize,
    sent: u64,
}

impl Layer {
    fn new(state: LayerState) -> Self {
        let mut layer = Self { state: LayerState::Preparing, size: 0, sent: 0 };
        layer.enter(state);
        layer
    }
    fn enter(&mut self, state: LayerState) {
        match state {
            LayerState::Pushing { sent, total } => (self.sent, self.size) = (sent, self.size.max(total)),
            LayerState::Pushed => self.sent = self.sent.max(self.size),
            LayerState::Reused | LayerState::Preparing | LayerState::Waiting | LayerState::Retrying(_) => self.sent = 0,
        }
        self.state = state;
    }
}

fn layers(n: usize) -> String {
    if n == 1 { "1 layer".to_owned() } else { format!("{n} layers") }
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
#[path = "push_stream_tests.rs"]
mod tests;
