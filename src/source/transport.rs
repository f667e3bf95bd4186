//! The smart subtransport that libgit2 calls for http and https: its reads and writes become requests of a [`Session`].
//!
//! libgit2 registers transports for the whole process; which fetch a call belongs to is told by the thread that it runs on.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use git2::{Error, Remote};

use super::advertisement;
use super::http::{Reply, Request, Session};
use crate::protocol::Failure;

thread_local! {
    static SESSION: RefCell<Option<Arc<Session>>> = const { RefCell::new(None) };
}

/// Runs `work`, in which libgit2 may open connections, for this session. Not to be nested.
pub(super) fn with_session<T>(session: &Arc<Session>, work: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            SESSION.with(|s| s.borrow_mut().take());
        }
    }
    SESSION.with(|s| *s.borrow_mut() = Some(Arc::clone(session)));
    let _leave = Leave;
    work()
}

/// What libgit2 calls to connect to an http or https URL.
pub(super) fn open(remote: &Remote<'_>) -> Result<Transport, Error> {
    let session = SESSION.with(|s| s.borrow().clone());
    let session = session.ok_or_else(|| Error::from_str("no fetch is under way on this thread"))?;
    Transport::smart(remote, true, Subtransport { session })
}

struct Subtransport {
    session: Arc<Session>,
}

impl SmartSubtransport for Subtransport {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, Error> {
        let phase = match service {
            // The server was asked before: what libgit2 needs of its answer is ready.
            Service::UploadPackLs => Phase::Showing(self.session.shown()),
            Service::UploadPack => Phase::Asking(Vec::new()),
            Service::ReceivePackLs | Service::ReceivePack => return Err(Error::from_str("this transport does not push")),
        };
        Ok(Box::new(Exchange { session: Arc::clone(&self.session), phase }))
    }
    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

enum Phase {
    /// What is left of the advertisement that was made for libgit2.
    Showing(Bytes),
    /// The request's body so far; sent at the first read.
    Asking(Vec<u8>),
    /// The response is being read; `piece` is what libgit2 has not taken yet.
    Reading {
        reply: Box<Reply>,
        piece: Bytes,
    },
    Ended,
}

/// One request and its response.
struct Exchange {
    session: Arc<Session>,
    phase: Phase,
}

impl Exchange {
    fn advance(&mut self, out: &mut [u8]) -> Result<usize, Failure> {
        loop {
            self.phase = match std::mem::replace(&mut self.phase, Phase::Ended) {
                Phase::Ended => return Ok(0),
                Phase::Showing(mut shown) => {
                    let taken = out.len().min(shown.len());
                    out[..taken].copy_from_slice(&shown.split_to(taken));
                    self.phase = Phase::Showing(shown);
                    return Ok(taken);
                }
                Phase::Asking(body) => {
                    self.session.progress.restart();
                    let mut reply = self.session.ask(Request::UploadPack(body))?;
                    let piece = self.session.next(&mut reply)?.unwrap_or_default();
                    if let Some(text) = advertisement::refusal(&piece) {
                        self.session.refused(text);
                    }
                    Phase::Reading { reply: Box::new(reply), piece }
                }
                Phase::Reading { mut reply, mut piece } => {
                    if piece.is_empty() {
                        match self.session.next(&mut reply)? {
                            Some(next) => piece = next,
                            None => return Ok(0),
                        }
                    }
                    let taken = out.len().min(piece.len());
                    out[..taken].copy_from_slice(&piece[..taken]);
                    piece.advance(taken);
                    self.phase = Phase::Reading { reply, piece };
                    if taken > 0 || out.is_empty() {
                        return Ok(taken);
                    }
                    continue;
                }
            };
        }
    }
}

impl Read for Exchange {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.advance(out).map_err(|failure| {
            self.session.give_up(failure);
            io::Error::other("the transport gave up")
        })
    }
}

impl Write for Exchange {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.phase {
            Phase::Asking(body) => {
                body.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            _ => Err(io::Error::other("a request cannot be written to after it was sent")),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
