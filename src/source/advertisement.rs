//! PURE: the first bytes of a server's answers, looked at for what libgit2 does not tell.

/// More than the service line and the first ref with its capabilities ever take.
pub(super) const HEAD_BYTES: usize = 8 << 10;

/// Whether the first ref's whole line has arrived: capabilities follow its name after a NUL and end with a new line.
pub(super) fn has_capabilities(head: &[u8]) -> bool {
    capabilities(head).is_some_and(|(_, whole)| whole)
}

/// Whether the repository's objects are named by SHA-256 (capability `object-format=sha256`, gitprotocol-capabilities(5)).
pub(super) fn names_by_sha256(head: &[u8]) -> bool {
    capabilities(head).is_some_and(|(line, _)| line.split(|b| *b == b' ').any(|c| c.trim_ascii() == b"object-format=sha256"))
}

/// What the server can do, as far as it decides how we ask.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Abilities {
    /// A fetch may be of limited depth.
    pub(super) shallow: bool,
    /// A commit may be asked for by its id: at least those that refs reach.
    pub(super) commits_by_name: bool,
}

/// The text of an error packet (`ERR`, gitprotocol-pack) at the beginning of an answer: libgit2 reads over it in a negotiation.
pub(super) fn refusal(answer: &[u8]) -> Option<String> {
    let (length, rest) = answer.split_at_checked(4)?;
    let length = usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()?;
    let packet = rest.get(..length.checked_sub(4)?).unwrap_or(rest);
    let text = packet.strip_prefix(b"ERR ")?;
    Some(String::from_utf8_lossy(text).trim_end().to_owned())
}

/// `allow-tip-sha1-in-want` alone does not count: it is for refs that are hidden, and says nothing of other commits.
pub(super) fn abilities(head: &[u8]) -> Abilities {
    let has =
        |name: &[u8]| capabilities(head).is_some_and(|(line, _)| line.split(|b| *b == b' ').any(|c| c.trim_ascii() == name));
    Abilities { shallow: has(b"shallow"), commits_by_name: has(b"allow-reachable-sha1-in-want") }
}

fn capabilities(head: &[u8]) -> Option<(&[u8], bool)> {
    let start = head.iter().position(|b| *b == 0)? + 1;
    let rest = &head[start..];
    match rest.iter().position(|b| *b == b'\n') {
        Some(end) => Some((&rest[..end], true)),
        None => Some((rest, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_names_are_seen_in_the_first_ref() {
        let head = b"001e# service=git-upload-pack\n0000013a0000 HEAD\0multi_ack thin-pack object-format=sha256 agent=git/2.39\n";
        assert!(has_capabilities(head) && names_by_sha256(head));
        let head = b"001e# service=git-upload-pack\n0000013a0000 HEAD\0multi_ack object-format=sha1\n003fabc refs/heads/object-format=sha256\n";
        assert!(has_capabilities(head) && !names_by_sha256(head));
    }
    #[test]
    fn abilities_are_whole_words() {
        let head = b"0000013a0000 HEAD\0multi_ack shallow-not no-allow-reachable-sha1-in-want allow-tip-sha1-in-want\n";
        assert!(!abilities(head).shallow && !abilities(head).commits_by_name);
        let head = b"0000013a0000 HEAD\0multi_ack shallow allow-reachable-sha1-in-want\n";
        assert!(abilities(head).shallow && abilities(head).commits_by_name);
    }
    #[test]
    fn an_error_packet_is_read_whatever_its_length_says() {
        assert_eq!(refusal(b"0012ERR not our ref\n0000").as_deref(), Some("not our re"));
        assert_eq!(refusal(b"ffffERR no\n").as_deref(), Some("no"));
        for other in [&b"0008NAK\n"[..], b"", b"000", b"zzzzERR x", b"0000ERR x", b"0003ERR x", b"PACK"] {
            assert_eq!(refusal(other), None);
        }
    }
    #[test]
    fn half_a_line_is_waited_for() {
        assert!(!has_capabilities(b"001e# service=git-upload-pack\n0000013a0000 HEAD"));
        assert!(!has_capabilities(b"001e# service=git-upload-pack\n0000013a0000 HEAD\0multi_ack"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_of_a_server_bring_the_worker_down(bytes: Vec<u8>, head in "[0-9a-f]{4}(ERR |# service=)?\\PC{0,40}\0?(shallow|object-format=sha256| |\n){0,6}") {
            for answer in [&bytes[..], head.as_bytes()] {
                let _ = (has_capabilities(answer), names_by_sha256(answer), abilities(answer).shallow);
                let refused = refusal(answer);
                proptest::prop_assert!(refused.is_none_or(|text| text.len() <= answer.len() * 3));
            }
        }
    }
}
