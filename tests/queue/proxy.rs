//! A link to Redis that can be cut, or made to lose replies.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Whole,
    /// Nothing passes, nothing is closed: a network that went away.
    Cut,
    /// Requests arrive, replies do not.
    Deaf,
}

pub struct Proxy {
    pub port: u16,
    leads_to: Arc<AtomicU16>,
    link: watch::Sender<Link>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (link, seen) = watch::channel(Link::Whole);
        let leads_to = Arc::new(AtomicU16::new(port));
        let target = leads_to.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (seen, port) = (seen.clone(), target.load(Ordering::Relaxed));
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                        carry(client, server, seen).await;
                    }
                });
            }
        });
        Self { port: own, leads_to, link, _tasks: tasks }
    }
    /// Where new connections lead from now on.
    pub fn lead_to(&self, port: u16) {
        self.leads_to.store(port, Ordering::Relaxed);
    }
    /// Connections that lived through a cut are closed when the link is whole again.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

async fn carry(client: TcpStream, server: TcpStream, mut link: watch::Receiver<Link>) {
    link.mark_unchanged();
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (up, down) = (link.clone(), link.clone());
    let healed = async {
        let _ = link.wait_for(|l| *l != Link::Whole).await;
        let _ = link.wait_for(|l| *l == Link::Whole).await;
    };
    tokio::select! {
        () = healed => {}
        () = pump(from_client, to_server, up, |l| l != Link::Cut) => {}
        () = pump(from_server, to_client, down, |l| l == Link::Whole) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: watch::Receiver<Link>, passes: fn(Link) -> bool) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if link.wait_for(|l| passes(*l)).await.is_err() || to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
