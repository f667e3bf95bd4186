//! PURE: the lines of a server's answers that tell its refs and what it can do, in protocol v0 (gitprotocol-pack) and v2 (gitprotocol-v2).

use git2::Oid;

use super::packet;

/// Whether a commit may be asked for by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum CommitsByName {
    /// At least those that refs reach.
    Yes,
    #[default]
    No,
    /// The server does not say (protocol v2): it has to be tried.
    Unknown,
}

/// What the server can do, as far as it decides how we ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    /// A fetch may be of limited depth.
    pub(super) shallow: bool,
    pub(super) commits_by_name: CommitsByName,
}

/// The server's capabilities: in v0 one line, in v2 one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    words: Vec<String>,
    is_v2: bool,
}

/// What a server may say of what it can do, in bytes, and how long a ref's name may be that a job could mean.
const MAX_WORDS: usize = 64 << 10;
const MAX_NAME: usize = 4096;

/// What our own fetch asks for at most: what libgit2 is shown of a server that speaks v2 and so does not list what it can do in v0.
const USUAL: &str = "multi_ack multi_ack_detailed thin-pack side-band side-band-64k ofs-delta shallow no-progress";
/// libgit2 fetches an id only where one of these is offered; whether it may is the server's to say.
const BY_NAME: &str = "allow-tip-sha1-in-want allow-reachable-sha1-in-want";

impl Capabilities {
    /// Of the words after the first ref's NUL.
    pub(super) fn v0(line: &[u8]) -> Self {
        let words = String::from_utf8_lossy(line).split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect();
        Self { words, is_v2: false }
    }
    pub(super) fn v2() -> Self {
        Self { words: Vec::new(), is_v2: true }
    }
    /// `false`: it is more than any server says.
    pub(super) fn add(&mut self, line: &[u8]) -> bool {
        let said: usize = self.words.iter().map(|word| word.len() + size_of::<String>()).sum();
        let fits = said + line.len() <= MAX_WORDS;
        if fits {
            self.words.push(String::from_utf8_lossy(line).into_owned());
        }
        fits
    }

    fn has(&self, name: &str) -> bool {
        self.words.iter().any(|word| word == name)
    }
    fn value(&self, name: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether the objects are named by SHA-256.
    pub(super) fn names_by_sha256(&self) -> bool {
        self.value("object-format") == Some("sha256")
    }
    pub(super) fn names_an_object_format(&self) -> bool {
        self.value("object-format").is_some()
    }
    pub(super) fn lists_refs(&self) -> bool {
        self.has("ls-refs") || self.value("ls-refs").is_some()
    }
    /// The branch that `HEAD` stands for, in v0.
    pub(super) fn head_branch(&self) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix("symref=HEAD:"))
    }

    /// `allow-tip-sha1-in-want` alone does not count: it is for refs that are hidden, and says nothing of other commits.
    pub(super) fn abilities(&self) -> Abilities {
        if self.is_v2 {
            let shallow = self.value("fetch").is_some_and(|features| features.split(' ').any(|f| f == "shallow"));
            return Abilities { shallow, commits_by_name: CommitsByName::Unknown };
        }
        let by_name = self.has("allow-reachable-sha1-in-want");
        let commits_by_name = if by_name { CommitsByName::Yes } else { CommitsByName::No };
        Abilities { shallow: self.has("shallow"), commits_by_name }
    }

    /// An advertisement of one ref, as libgit2 reads it.
    pub(super) fn advertise(&self, name: &str, id: Oid) -> Vec<u8> {
        let words = if self.is_v2 {
            let shallow = self.abilities().shallow;
            let usual = USUAL.split(' ').filter(|word| *word != "shallow" || shallow);
            usual.chain(BY_NAME.split(' ')).collect::<Vec<_>>().join(" ")
        } else {
            // libgit2 refuses the whole answer over a symref that it cannot read.
            let words = self.words.iter().map(String::as_str).filter(|w| !w.starts_with("symref") && *w != "include-tag");
            words.collect::<Vec<_>>().join(" ")
        };
        let service = packet::line("# service=git-upload-pack\n");
        let first = packet::line(&format!("{id} {name}\0{words}\n"));
        format!("{service}0000{first}0000").into_bytes()
    }
}

/// One ref of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefLine {
    pub(super) id: Oid,
    pub(super) name: String,
    /// Of an annotated tag (v2): what it points to in the end.
    pub(super) peeled: Option<Oid>,
    /// Of a symbolic ref (v2): the ref that it stands for.
    pub(super) target: Option<String>,
}

/// `<id> <name>`, in v2 with `symref-target:` and `peeled:` behind. `None`: the line is no ref that could be meant.
pub(super) fn ref_line(line: &[u8]) -> Option<RefLine> {
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.split(' ');
    let id = words.next().filter(|id| id.len() == 40).and_then(|id| Oid::from_str(id).ok())?;
    let name = words.next().filter(|name| (1..=MAX_NAME).contains(&name.len()))?.to_owned();
    let (mut peeled, mut target) = (None, None);
    for word in words {
        if let Some(id) = word.strip_prefix("peeled:") {
            peeled = Oid::from_str(id).ok();
        } else if let Some(name) = word.strip_prefix("symref-target:").filter(|name| name.len() <= MAX_NAME) {
            target = Some(name.to_owned());
        }
    }
    Some(RefLine { id, name, peeled, target })
}

/// The body of the v2 command `ls-refs` for refs whose names begin with one of `prefixes`.
pub(super) fn ls_refs<'a>(prefixes: impl IntoIterator<Item = &'a str>, capabilities: &Capabilities) -> Vec<u8> {
    let mut body = packet::line("command=ls-refs\n");
    if capabilities.names_an_object_format() {
        body.push_str(&packet::line("object-format=sha1\n"));
    }
    body.push_str("0001");
    body.push_str(&packet::line("peel\n"));
    body.push_str(&packet::line("symrefs\n"));
    for prefix in prefixes {
        body.push_str(&packet::line(&format!("ref-prefix {prefix}\n")));
    }
    body.push_str("0000");
    body.into_bytes()
}

/// The text of an error packet (`ERR`, gitprotocol-pack) at the beginning of an answer: libgit2 reads over it in a negotiation.
pub(super) fn refusal(answer: &[u8]) -> Option<String> {
    let (length, rest) = answer.split_at_checked(4)?;
    let length = usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()?;
    let packet = rest.get(..length.checked_sub(4)?).unwrap_or(rest);
    let text = packet.strip_prefix(b"ERR ")?;
    Some(String::from_utf8_lossy(text).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abilities_are_whole_words() {
        let none = Capabilities::v0(b"multi_ack shallow-not no-allow-reachable-sha1-in-want allow-tip-sha1-in-want");
        assert_eq!(none.abilities(), Abilities::default());
        let both = Capabilities::v0(b"multi_ack shallow allow-reachable-sha1-in-want").abilities();
        assert_eq!((both.shallow, both.commits_by_name), (true, CommitsByName::Yes));
        assert!(Capabilities::v0(b"multi_ack object-format=sha256 agent=git/2.39").names_by_sha256());
        assert!(!Capabilities::v0(b"object-format=sha1 x-object-format=sha256").names_by_sha256());
    }
    #[test]
    fn a_server_that_speaks_v2_lists_what_it_can_do_line_by_line() {
        let mut v2 = Capabilities::v2();
        for line in [&b"agent=git/2.39"[..], b"ls-refs=unborn", b"fetch=shallow wait-for-done filter", b"object-format=sha1"] {
            assert!(v2.add(line));
        }
        assert!(v2.lists_refs() && !v2.names_by_sha256());
        assert_eq!(v2.abilities(), Abilities { shallow: true, commits_by_name: CommitsByName::Unknown });
        let body = String::from_utf8(ls_refs(["refs/heads/main"], &v2)).expect("text");
        assert_eq!(
            body,
            "0014command=ls-refs\n0017object-format=sha1\n00010009peel\n000csymrefs\n001fref-prefix refs/heads/main\n0000"
        );
    }
    #[test]
    fn a_ref_is_read_with_what_v2_says_of_it() {
        let (id, other) = ("a".repeat(40), "b".repeat(40));
        let read = ref_line(format!("{id} refs/tags/v1 peeled:{other}").as_bytes()).expect("a ref");
        assert_eq!((read.name.as_str(), read.peeled.map(|p| p.to_string())), ("refs/tags/v1", Some(other)));
        let read = ref_line(format!("{id} HEAD symref-target:refs/heads/main").as_bytes()).expect("a ref");
        assert_eq!(read.target.as_deref(), Some("refs/heads/main"));
        for wrong in ["", "unborn HEAD", "abc refs/heads/x", &id] {
            assert_eq!(ref_line(wrong.as_bytes()), None, "{wrong}");
        }
    }
    #[test]
    fn what_a_server_says_of_itself_and_a_refs_name_are_bounded() {
        let mut v2 = Capabilities::v2();
        let taken = (0..1_000_000).take_while(|n| v2.add(format!("x{n}").as_bytes())).count();
        assert!((1_000..10_000).contains(&taken), "{taken}");
        let line = |length: usize| ref_line(format!("{} {}", "a".repeat(40), "r".repeat(length)).as_bytes());
        assert!(line(4096).is_some());
        assert_eq!(line(4097), None);
    }
    #[test]
    fn libgit2_is_shown_one_ref_and_no_symref() {
        let id = Oid::from_bytes(&[0xab; 20]).expect("an id");
        let shown = Capabilities::v0(b"multi_ack symref=HEAD:x include-tag shallow").advertise("refs/heads/wanted", id);
        let shown = String::from_utf8(shown).expect("text");
        assert!(shown.ends_with(&format!("{id} refs/heads/wanted\0multi_ack shallow\n0000")), "{shown}");
    }
    #[test]
    fn an_error_packet_is_read_whatever_its_length_says() {
        assert_eq!(refusal(b"0012ERR not our ref\n0000").as_deref(), Some("not our re"));
        assert_eq!(refusal(b"ffffERR no\n").as_deref(), Some("no"));
        for other in [&b"0008NAK\n"[..], b"", b"000", b"zzzzERR x", b"0000ERR x", b"0003ERR x", b"PACK"] {
            assert_eq!(refusal(other), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_of_a_server_bring_the_worker_down(bytes: Vec<u8>, head in "[0-9a-f]{4}(ERR |# service=)?\\PC{0,40}\0?(shallow|object-format=sha256| |\n){0,6}") {
            for answer in [&bytes[..], head.as_bytes()] {
                let _ = (Capabilities::v0(answer).abilities(), ref_line(answer));
                let refused = refusal(answer);
                proptest::prop_assert!(refused.is_none_or(|text| text.len() <= answer.len() * 3));
            }
        }
    }
}
