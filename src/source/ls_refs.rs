//! Asks a server for its refs.
//!
//! In protocol v0 one request brings all of them, which is the quickest for the most repositories. Where they are many (a large project has a
//! ref for each pull request ever made), v0 would bring tens of megabytes: then v2 is spoken, which takes two requests and brings those alone
//! that could be meant. A server that speaks no v2 is read to the end. What is kept of either list is [`super::refs`]' to say.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::advertisement::{self, Abilities, Capabilities};
use super::failures;
use super::http::{Reply, Request, Session};
use super::packet::{Packet, Packets};
use super::refs::{Reading, Refs, Sought, meanings};
use crate::protocol::{BranchName, Failure};

/// More of an advertisement than this (some 4,000 refs), and v2 is tried.
const FEW: usize = 256 << 10;
/// Lines of a v2 list that are read.
const MAX_REFS: usize = 100_000;
/// Repositories that are remembered to have many refs.
const MAX_REMEMBERED: usize = 10_000;

/// What a server said of its refs.
pub(super) struct Listing {
    pub(super) refs: Refs,
    pub(super) capabilities: Capabilities,
    /// Whether all branches and tags are in `refs`, or only what the job could mean.
    pub(super) is_whole: bool,
}

impl Listing {
    pub(super) fn abilities(&self) -> Abilities {
        self.capabilities.abilities()
    }
}

/// The repositories that have shown to have many refs, by URL: their servers are asked by v2 at once.
#[derive(Debug, Default)]
pub(super) struct ManyRefs(Mutex<HashSet<String>>);

impl ManyRefs {
    fn contains(&self, url: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(url)
    }
    fn remember(&self, url: &str) {
        let mut urls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if urls.len() >= MAX_REMEMBERED {
            urls.clear();
        }
        urls.insert(url.to_owned());
    }
}

/// Blocking. The refs that `branch` could mean, in most repositories all of them.
pub(super) fn list(
    session: &Session,
    branch: &BranchName,
    sought: &Sought,
    many: &ManyRefs,
    url: &str,
) -> Result<Listing, Failure> {
    let reading = || Reading::new(branch, sought.clone());
    if !many.contains(url) {
        match read(session, reading(), Version::V0)? {
            Answer::Refs(listing) => return Ok(*listing),
            Answer::Many | Answer::V2(_) => many.remember(url),
        }
    }
    match read(session, reading(), Version::V2)? {
        Answer::V2(capabilities) => {
            let names = meanings(branch.as_str());
            let prefixes = names.iter().map(String::as_str).chain(["HEAD"]);
            let refs = v2(session, reading(), &capabilities, prefixes)?;
            Ok(Listing { refs, capabilities, is_whole: false })
        }
        Answer::Refs(listing) => Ok(*listing),
        Answer::Many => Err(failures::not_understood(&session.site, "its list of refs has no end")),
    }
}

/// Blocking. All branches and tags, up to [`MAX_REFS`], of a server that speaks v2.
pub(super) fn branches_and_tags(session: &Session, before: Listing) -> Result<Listing, Failure> {
    let Listing { refs, capabilities, .. } = before;
    let refs = v2(session, Reading::all_after(refs), &capabilities, ["refs/heads/", "refs/tags/"])?;
    Ok(Listing { refs, capabilities, is_whole: true })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V0,
    V2,
}

enum Answer {
    /// In v0, read to its end.
    Refs(Box<Listing>),
    /// In v0, and there are many: the rest was not read.
    Many,
    /// The server speaks v2, and can do this.
    V2(Capabilities),
}

/// Asks for the advertisement. A server that is asked for v2 may answer in v0.
fn read(session: &Session, mut refs: Reading, version: Version) -> Result<Answer, Failure> {
    let mut answer = Lines::new(session, Request::Advertisement { v2: version == Version::V2 })?;
    let mut first = answer.line()?;
    if first.as_ref().is_some_and(|line| line.starts_with(b"# service=")) {
        // The service's name and the flush after it.
        if answer.line()?.is_some() {
            return Err(answer.not_understood());
        }
        first = answer.line()?;
    }
    if first.as_deref() == Some(b"version 2") {
        session.note_git_server();
        let mut capabilities = Capabilities::v2();
        while let Some(line) = answer.line()? {
            if !capabilities.add(&line) {
                return Err(answer.not_understood());
            }
        }
        if capabilities.names_by_sha256() {
            return Err(failures::sha256_unsupported(&session.site));
        }
        return if capabilities.lists_refs() { Ok(Answer::V2(capabilities)) } else { Err(answer.not_understood()) };
    }
    if first.as_deref() == Some(b"version 1") {
        first = answer.line()?;
    }
    let mut capabilities = Capabilities::default();
    let mut next = first;
    let mut is_first = true;
    while let Some(line) = next {
        let mut line = &line[..];
        if std::mem::take(&mut is_first) {
            // Capabilities follow the first ref after a NUL; an empty repository has a ref of zeros to carry them.
            let Some(end) = line.iter().position(|b| *b == 0) else { return Err(answer.not_understood()) };
            capabilities = Capabilities::v0(&line[end + 1..]);
            session.note_git_server();
            if capabilities.names_by_sha256() {
                return Err(failures::sha256_unsupported(&session.site));
            }
            if let Some(branch) = capabilities.head_branch() {
                refs.head_is(branch);
            }
            line = &line[..end];
        }
        if let Some(read) = advertisement::ref_line(line).filter(|read| !read.id.is_zero()) {
            refs.add(read);
        }
        if version == Version::V0 && answer.received > FEW {
            return Ok(Answer::Many);
        }
        next = answer.line()?;
    }
    Ok(Answer::Refs(Box::new(Listing { refs: refs.end(), capabilities, is_whole: true })))
}

fn v2<'a>(
    session: &Session,
    mut refs: Reading,
    capabilities: &Capabilities,
    prefixes: impl IntoIterator<Item = &'a str>,
) -> Result<Refs, Failure> {
    let mut answer = Lines::new(session, Request::LsRefs(advertisement::ls_refs(prefixes, capabilities)))?;
    for _ in 0..MAX_REFS {
        let Some(line) = answer.line()? else { break };
        if let Some(read) = advertisement::ref_line(&line) {
            refs.add(read);
        }
    }
    Ok(refs.end())
}

/// The lines of one answer.
struct Lines<'s> {
    session: &'s Session,
    reply: Reply,
    packets: Packets,
    received: usize,
}

impl<'s> Lines<'s> {
    fn new(session: &'s Session, request: Request) -> Result<Self, Failure> {
        Ok(Self { session, reply: session.ask(request)?, packets: Packets::default(), received: 0 })
    }

    /// The next line; `None` at a flush.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            match self.packets.next() {
                Ok(Some(Packet::Line(line))) => match line.strip_prefix(b"ERR ") {
                    Some(text) => return Err(failures::not_understood(&self.session.site, &String::from_utf8_lossy(text))),
                    None => return Ok(Some(line)),
                },
                Ok(Some(Packet::Flush)) => return Ok(None),
                Ok(Some(Packet::Mark)) => {}
                Ok(None) => {
                    let Some(piece) = self.session.next(&mut self.reply)? else { return Err(self.not_understood()) };
                    self.received += piece.len();
                    self.packets.push(&piece);
                }
                Err(_) => return Err(self.not_understood()),
            }
        }
    }

    fn not_understood(&self) -> Failure {
        failures::not_understood(&self.session.site, "its list of refs is none, or is cut off")
    }
}
