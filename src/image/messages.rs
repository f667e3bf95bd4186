//! PURE: the body of the Engine's answer to `POST /build`: JSON lines → what they say.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use prost::Message;
use serde::Deserialize;

/// One line holds a batch of status events; a chatty step's are some hundred KiB. More than this is no build's.
const MAX_LINE: usize = 64 << 20;
/// What the buffer keeps of its size between lines.
const KEPT: usize = 256 * 1024;

#[derive(Debug, PartialEq)]
pub enum BuildMessage {
    /// BuildKit's status: steps, transfers, output.
    Status(StatusResponse),
    /// The image is in the Engine under this id (`sha256:…`).
    Image(String),
    /// The build failed.
    Error(String),
}

/// Why the answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("a line of more than 64 MiB")]
    TooLong,
    #[error("{0}")]
    Unreadable(String),
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    aux: Option<Aux<'a>>,
    error: Option<String>,
    #[serde(rename = "errorDetail")]
    detail: Option<Detail>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Aux<'a> {
    /// base64 of a protobuf message
    Trace(#[serde(borrow)] Cow<'a, str>),
    Image {
        #[serde(rename = "ID")]
        id: String,
    },
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Detail {
    message: Option<String>,
}

/// Cuts the body into lines and reads each.
#[derive(Default)]
pub struct MessageReader {
    buffer: Vec<u8>,
    decoded: Vec<u8>,
}

impl MessageReader {
    /// Takes the next part of the body and hands over every message that it completes.
    pub fn push(&mut self, mut part: &[u8], mut take: impl FnMut(BuildMessage)) -> Result<(), MessageError> {
        while let Some(end) = part.iter().position(|byte| *byte == b'\n') {
            let message = if self.buffer.is_empty() {
                read(&part[..end], &mut self.decoded)?
            } else {
                self.buffer.extend_from_slice(&part[..end]);
                let message = read(&self.buffer, &mut self.decoded)?;
                self.buffer.clear();
                self.buffer.shrink_to(KEPT);
                message
            };
            self.decoded.clear();
            self.decoded.shrink_to(KEPT);
            part = &part[end + 1..];
            if let Some(message) = message {
                take(message);
            }
        }
        if self.buffer.len() + part.len() > MAX_LINE {
            return Err(MessageError::TooLong);
        }
        self.buffer.extend_from_slice(part);
        Ok(())
    }
}

fn read(line: &[u8], decoded: &mut Vec<u8>) -> Result<Option<BuildMessage>, MessageError> {
    let unreadable = |what: &str, error: &dyn std::fmt::Display| MessageError::Unreadable(format!("{what}: {error}"));
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| unreadable("a line that is no JSON", &error))?;
    let error = line.detail.and_then(|detail| detail.message).or(line.error);
    if let Some(error) = error {
        return Ok(Some(BuildMessage::Error(error)));
    }
    match (line.id.as_deref(), line.aux) {
        (Some("moby.buildkit.trace"), Some(Aux::Trace(text))) => {
            STANDARD.decode_vec(text.as_bytes(), decoded).map_err(|error| unreadable("a status that is no base64", &error))?;
            let status = StatusResponse::decode(decoded.as_slice()).map_err(|error| unreadable("a status", &error))?;
            Ok(Some(BuildMessage::Status(status)))
        }
        (_, Some(Aux::Image { id })) => Ok(Some(BuildMessage::Image(id))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::moby::buildkit::v1::Vertex;
    use proptest::prelude::*;

    fn body() -> (String, Vec<BuildMessage>) {
        let status = StatusResponse {
            vertexes: vec![Vertex { digest: "sha256:1".into(), name: "[1/2] RUN x".into(), ..Default::default() }],
            ..Default::default()
        };
        let trace = STANDARD.encode(status.encode_to_vec());
        let body = format!(
            "{{\"id\":\"moby.buildkit.trace\",\"aux\":\"{trace}\"}}\r\n{{\"stream\":\"x\"}}\n\n\
             {{\"id\":\"moby.image.id\",\"aux\":{{\"ID\":\"sha256:abc\"}}}}\r\n\
             {{\"errorDetail\":{{\"message\":\"m\\u003c\"}},\"error\":\"m\"}}\n"
        );
        (body, vec![BuildMessage::Status(status), BuildMessage::Image("sha256:abc".into()), BuildMessage::Error("m<".into())])
    }

    proptest! {
        #[test]
        fn messages_are_read_whole_wherever_the_body_is_cut(cuts in proptest::collection::vec(0usize..300, 0..6)) {
            let (body, expected) = body();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort();
            let (mut reader, mut messages) = (MessageReader::default(), Vec::new());
            for pair in cuts.windows(2) {
                reader.push(&body.as_bytes()[pair[0]..pair[1]], |message| messages.push(message)).expect("readable");
            }
            prop_assert_eq!(messages, expected);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = MessageReader::default().push(&bytes, |_| {});
        }
    }

    #[test]
    fn a_status_that_is_no_status_is_refused() {
        let mut reader = MessageReader::default();
        let line = b"{\"id\":\"moby.buildkit.trace\",\"aux\":\"/////w==\"}\n";
        assert!(matches!(reader.push(line, |_| {}), Err(MessageError::Unreadable(_))));
    }
}
