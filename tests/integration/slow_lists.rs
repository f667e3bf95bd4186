//! Git servers whose list of refs is long and never ends: many of them together cost a worker little memory and no slot.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::{Job, Repository, Rig, eventually};

const SOON: Duration = Duration::from_secs(240);
const HELLO: &[(&str, &str)] = &[("Dockerfile", "FROM busybox:base\nRUN echo hello\n")];
const JOBS: usize = 20;
/// Of one list, in bytes.
const LIST: usize = 8 << 20;
/// What all lists together may add to the worker's memory, in KiB. The lists have 160 MiB.
const MEMORY_KIB: u64 = 64 * 1024;

#[tokio::test]
async fn twenty_lists_that_do_not_end_are_not_kept_in_memory_and_good_jobs_are_built_beside_them() {
    let mut rig = Rig::with(|options| options.builds(2).set("GIT_IDLE_TIMEOUT", "600")).await;
    let hello = Repository::public(HELLO);
    let first = Job::of(&hello);
    rig.push(&first).await;
    rig.built(&first).await;
    let before = rig.worker().peak_resident_kib();

    let server = EndlessLists::start().await;
    let hostile: Vec<Job> = (0..JOBS).map(|n| Job::bare(&format!("octo/list{n}")).git_at(&server.url(), None)).collect();
    for job in &hostile {
        rig.push(job).await;
    }
    eventually("all lists have been sent, and do not end", SOON, async || {
        let held = server.held.load(Ordering::Relaxed);
        if held >= JOBS { Ok(()) } else { Err(format!("{held} of {JOBS}")) }
    })
    .await;
    for _ in 0..2 {
        let good = Job::of(&hello);
        rig.push(&good).await;
        rig.built(&good).await;
    }
    for job in &hostile {
        assert_eq!(rig.dashboard.statuses(&job.id).last().map(String::as_str), Some("BUILDING"), "it reads its list still");
    }
    let more = rig.worker().peak_resident_kib().saturating_sub(before);
    println!("{JOBS} lists of {} MiB cost {} MiB at most", LIST >> 20, more / 1024);
    assert!(more <= MEMORY_KIB, "{more} KiB more than before");
    for job in &hostile {
        rig.cancel(job).await;
        rig.cancelled(job).await;
    }
    rig.finish().await;
}

/// A git server of before protocol v2, whose list of branches goes on for [`LIST`] bytes and then says nothing more. Ends when dropped.
struct EndlessLists {
    address: SocketAddr,
    /// Clients that have taken all of it, and wait.
    held: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl EndlessLists {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (held, list) = (Arc::new(AtomicUsize::new(0)), Arc::new(list()));
        let mut tasks = JoinSet::new();
        let of_all = Arc::clone(&held);
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (held, list) = (Arc::clone(&of_all), Arc::clone(&list));
                // A client that hangs up has seen that there are many, and asks in another way.
                clients.spawn(async move { serve(client, &list, &held).await.unwrap_or_default() });
            }
        });
        Self { address, held, _tasks: tasks }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(mut client: TcpStream, list: &[u8], held: &AtomicUsize) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let answer =
        "HTTP/1.1 200 OK\r\ncontent-type: application/x-git-upload-pack-advertisement\r\ncontent-length: 1000000000\r\n\r\n";
    client.write_all(answer.as_bytes()).await?;
    client.write_all(list).await?;
    held.fetch_add(1, Ordering::Relaxed);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.map(|_| ())
}

/// Branches with long names, each of which a job could mean.
fn list() -> Vec<u8> {
    let packet = |text: String| format!("{:04x}{text}", text.len() + 4);
    let mut list = format!("{}0000", packet("# service=git-upload-pack\n".to_owned()));
    let mut n = 0;
    while list.len() < LIST {
        let words = if n == 0 { "\0agent=git/2.20" } else { "" };
        list.push_str(&packet(format!("{:040x} refs/heads/feature-{n}-{}{words}\n", n + 1, "x".repeat(200))));
        n += 1;
    }
    list.into_bytes()
}
