//! PURE: git's packet lines (gitprotocol-common, "pkt-line"), taken one after the other from the pieces of an answer.

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    /// Its text, without the new line at its end.
    Line(Vec<u8>),
    Flush,
    /// A delimiter or the end of a response (protocol v2).
    Mark,
}

/// The bytes have no packet's length where one has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoPacket;

/// Bytes that have come and are not taken yet: less than one packet, and the last piece.
#[derive(Debug, Default)]
pub(super) struct Packets {
    bytes: Vec<u8>,
    at: usize,
}

impl Packets {
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// The next packet; `None`: more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Packet>, NoPacket> {
        let Some((length, rest)) = self.bytes[self.at..].split_at_checked(4) else { return Ok(None) };
        let digits = std::str::from_utf8(length).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let length = digits.and_then(|text| usize::from_str_radix(text, 16).ok()).ok_or(NoPacket)?;
        let (taken, packet) = match length {
            0 => (4, Packet::Flush),
            1 | 2 => (4, Packet::Mark),
            3 => return Err(NoPacket),
            _ => {
                let Some(line) = rest.get(..length - 4) else { return Ok(None) };
                (length, Packet::Line(line.strip_suffix(b"\n").unwrap_or(line).to_vec()))
            }
        };
        self.at += taken;
        Ok(Some(packet))
    }
}

/// A packet of this text.
pub(super) fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Result<Vec<Packet>, NoPacket> {
        let (mut packets, mut found) = (Packets::default(), Vec::new());
        for piece in pieces {
            packets.push(piece);
            while let Some(packet) = packets.next()? {
                found.push(packet);
            }
        }
        Ok(found)
    }

    #[test]
    fn packets_are_the_same_however_the_answer_is_cut() {
        let bytes = b"000bversio\n00000001000cend\0line";
        let expected = all(&[bytes]).expect("packets");
        assert_eq!(
            expected,
            [Packet::Line(b"versio".to_vec()), Packet::Flush, Packet::Mark, Packet::Line(b"end\0line".to_vec())]
        );
        for at in 0..bytes.len() {
            assert_eq!(all(&[&bytes[..at], &bytes[at..]]), Ok(expected.clone()), "{at}");
        }
    }
    #[test]
    fn what_is_no_packet_is_refused() {
        for bytes in [&b"<htm"[..], b"0003", b"+00a", b"zzzz"] {
            assert_eq!(all(&[bytes]), Err(NoPacket));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, text in "([0-9a-f]{4}\\PC{0,20}){0,4}") {
            let _ = (all(&[&bytes]), all(&[text.as_bytes()]));
        }
    }
}
