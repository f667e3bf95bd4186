//! PURE: the bytes of a commit or tag object, read for what a build needs, and for nothing else.
//!
//! git checks out a commit whatever stands in its author, its dates or its signatures; old and converted histories are full of what no
//! parser takes. Only the tree's id has to be right.

use git2::Oid;

/// What a build needs of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommitObject {
    pub(super) tree: Oid,
    /// Seconds since the epoch, the committer's; 0 where none can be read.
    pub(super) time: i64,
    /// The message's first paragraph, on one line.
    pub(super) summary: String,
}

/// `None`: the first line names no tree.
pub(super) fn parse(bytes: &[u8]) -> Option<CommitObject> {
    let tree = id_in_line(bytes, b"tree ")?;
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let header = &bytes[..end.unwrap_or(bytes.len())];
    let message = end.map_or(&b""[..], |end| &bytes[end + 2..]);
    Some(CommitObject { tree, time: committer_time(header).unwrap_or(0), summary: summary(message) })
}

/// The `parent` lines of a commit. Not libgit2's own list: at a shallow commit that one is empty.
pub(super) fn parents(commit: &[u8]) -> impl Iterator<Item = Oid> {
    let lines = commit.split(|b| *b == b'\n').skip(1);
    lines.map_while(|line| line.strip_prefix(b"parent ")).filter_map(|hex| Oid::from_str(std::str::from_utf8(hex).ok()?).ok())
}

/// What an annotated tag points to.
pub(super) fn tagged(tag: &[u8]) -> Option<Oid> {
    id_in_line(tag, b"object ")
}

fn id_in_line(bytes: &[u8], field: &[u8]) -> Option<Oid> {
    let (hex, rest) = bytes.strip_prefix(field)?.split_at_checked(40)?;
    matches!(rest.first(), Some(b'\n') | None).then_some(())?;
    Oid::from_str(std::str::from_utf8(hex).ok()?).ok()
}

/// The number after the committer's address. As git does, the end of the address is looked for, whatever is before it.
fn committer_time(header: &[u8]) -> Option<i64> {
    let field = b"\ncommitter ";
    let at = header.windows(field.len()).position(|window| window == field)? + field.len();
    let after = header[at..].split(|b| *b == b'>').nth(1)?;
    let digits = after.trim_ascii_start();
    let digits = &digits[..digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len())];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn summary(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(&message[..message.len().min(4096)]);
    let lines = text.lines().map(str::trim).skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    fn read(rest: &str) -> CommitObject {
        parse(format!("tree {TREE}\n{rest}").as_bytes()).expect("a commit")
    }

    #[test]
    fn a_commit_is_read_whatever_stands_in_its_author() {
        let whole = read(
            "author A <a@b.example> 1 +0000\ncommitter C <c@b.example> 1700000000 +0100\n\nSay hello\nto all\n\nAt length.\n",
        );
        assert_eq!(
            (whole.tree.to_string().as_str(), whole.time, whole.summary.as_str()),
            (TREE, 1_700_000_000, "Say hello to all")
        );
        for (rest, time) in [
            ("author A <a@b\n> 1 -0700\ncommitter C <c@b\n> 1334833756 -0700\n\nx\n", 1_334_833_756),
            ("author A\ncommitter C\n\nx\n", 0),
            ("author A <> 0 +0000\ncommitter <> 99999999999999999999999 +0000\n\nx\n", 0),
            ("author A <a> b> 1 +0000\ncommitter C <c> d> 5 +0000\n\nx\n", 0),
            ("author A <a> 1 +9999999\ncommitter C <c> 7 nonsense\ngpgsig -----BEGIN\n \n -----END\nmergetag object x\n\nx\n", 7),
            ("gpgsig x\n\nx\n", 0),
        ] {
            let commit = read(rest);
            assert_eq!((commit.time, commit.summary.as_str()), (time, "x"), "{rest}");
        }
        assert_eq!(read("").summary, "");
    }
    #[test]
    fn a_message_of_another_encoding_is_shown_as_far_as_it_can_be() {
        let mut bytes =
            format!("tree {TREE}\nauthor A <a> 1 +0000\ncommitter A <a> 1 +0000\nencoding ISO-8859-1\n\ncaf").into_bytes();
        bytes.extend_from_slice(b"\xe9\n");
        assert_eq!(parse(&bytes).expect("a commit").summary, "caf\u{fffd}");
    }
    #[test]
    fn without_a_tree_it_is_no_commit() {
        for bytes in [&b""[..], b"tree", b"tree abc\n", b"parent 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"] {
            assert_eq!(parse(bytes), None);
        }
    }
    #[test]
    fn only_the_header_names_parents() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let header = format!("tree {a}\nparent {a}\nparent {b}\nauthor parent {a}\nparent {b}\n");
        let found: Vec<String> = parents(header.as_bytes()).map(|id| id.to_string()).collect();
        assert_eq!(found, [a, b]);
    }
    #[test]
    fn a_tag_names_its_object_first() {
        let tag = format!("object {TREE}\ntype commit\ntag v1\ntagger A\n\nx\n");
        assert_eq!(tagged(tag.as_bytes()).map(|id| id.to_string()).as_deref(), Some(TREE));
        assert_eq!(tagged(b"type commit\n"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, rest in "(\nparent |\ncommitter |>|<|[0-9a-f]{40}|\n){0,12}") {
            let _ = (parse(&bytes), tagged(&bytes), parents(&bytes).count());
            let _ = parse(format!("tree {TREE}{rest}").as_bytes());
        }
    }
}
