//! The git stage beside `git clone --depth 1`, on the same server, the same repository: 20,000 files, 300 MB. Prints medians.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and shares its server and fixtures with the tests")]

#[path = "../tests/source/job.rs"]
#[allow(dead_code)]
mod job;
#[path = "../tests/source/repo.rs"]
#[allow(dead_code)]
mod repo;
#[path = "../tests/source/server.rs"]
#[allow(dead_code)]
mod server;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use job::Stage;
use repo::Repo;
use server::GitServer;
use slipway::source::{EntryKind, SourceTree};

const FILES: usize = 20_000;
const FILE_BYTES: usize = 15_000;
const COLD_RUNS: usize = 3;
const WARM_RUNS: usize = 15;

fn main() {
    let root = tempfile::tempdir().expect("a folder");
    let repo = Repo::new(root.path(), "octo/large");
    fill(&repo.bare);
    let server = GitServer::start(root.path());
    let url = server.url("octo/large");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");

    let clone = median((0..COLD_RUNS).map(|_| {
        let to = tempfile::tempdir().expect("a folder");
        timed(|| {
            let status = Command::new("git").args(["clone", "-q", "--depth", "1", url.as_str()]).arg(to.path()).status();
            assert!(status.expect("git").success());
        })
        .0
    }));

    let cold = median((0..COLD_RUNS).map(|_| {
        let root = tempfile::tempdir().expect("a folder");
        let stage = Stage::new(root.path());
        timed(|| runtime.block_on(stage.tip(&url, "main")).expect("fetched")).0
    }));

    let stage = Stage::new(root.path());
    let fetch = || runtime.block_on(stage.tip(&url, "main")).expect("fetched");
    let tree = fetch();
    assert_eq!(tree.entries().iter().filter(|e| matches!(e.kind, EntryKind::File { .. })).count(), FILES);
    let unchanged = median((0..WARM_RUNS).map(|_| timed(fetch).0));
    let round_trip = median((0..WARM_RUNS).map(|_| timed(|| ask(&server)).0));
    let changed = median((0..WARM_RUNS).map(|n| {
        change_one(&repo.bare, n);
        timed(fetch).0
    }));
    let (reading, bytes) = timed(|| read_all(&tree, 4));

    println!("20,000 files, {} MB, loopback, medians", bytes / 1_000_000);
    row("git clone --depth 1", clone, clone);
    row("fetch, cold mirror", cold, clone);
    row("fetch, warm, nothing changed", unchanged, clone);
    row("  of which the server's answer to info/refs", round_trip, clone);
    row("fetch, warm, one file changed", changed, clone);
    row("reading every blob, 4 threads", reading, clone);
    println!("resident now {} MB", resident() / 1_000_000);
}

fn row(what: &str, took: Duration, clone: Duration) {
    println!("{what:<45} {:>9.1} ms   {:.4} x clone", took.as_secs_f64() * 1e3, took.as_secs_f64() / clone.as_secs_f64());
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let result = work();
    (begun.elapsed(), result)
}

fn median(runs: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<Duration> = runs.collect();
    all.sort();
    all[all.len() / 2]
}

/// One commit with all files, incompressible, in 200 directories.
fn fill(bare: &Path) {
    let mut child = Command::new("git")
        .args(["-C"])
        .arg(bare)
        .args(["fast-import", "--quiet", "--depth=0"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("git");
    let mut input = std::io::BufWriter::new(child.stdin.take().expect("stdin"));
    write!(input, "commit refs/heads/main\ncommitter a <a@example.com> 1700000000 +0000\ndata 5\nfirst\n").expect("written");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for n in 0..FILES {
        write!(input, "M 100644 inline d{:02}/e{}/file-{n}.bin\ndata {FILE_BYTES}\n", n % 50, n % 4).expect("written");
        let mut bytes = Vec::with_capacity(FILE_BYTES + 8);
        while bytes.len() < FILE_BYTES {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        input.write_all(&bytes[..FILE_BYTES]).expect("written");
        input.write_all(b"\n").expect("written");
    }
    input.flush().expect("written");
    drop(input);
    assert!(child.wait().expect("git").success());
}

fn change_one(bare: &Path, n: usize) {
    let mut child =
        Command::new("git").arg("-C").arg(bare).args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().expect("git");
    let text = format!("changed {n}");
    let commands = format!(
        "commit refs/heads/main\ncommitter a <a@example.com> {} +0000\ndata 4\nnext\nfrom refs/heads/main^0\nM 100644 inline d07/e3/file-7.bin\ndata {}\n{text}\n",
        1_700_000_001 + n,
        text.len()
    );
    child.stdin.take().expect("stdin").write_all(commands.as_bytes()).expect("written");
    assert!(child.wait().expect("git").success());
}

/// What any client waits for at least: a connection, the request, git's answer.
fn ask(server: &GitServer) {
    use std::io::Read;
    let mut connection = std::net::TcpStream::connect(server.address).expect("connected");
    let request = "GET /octo/large.git/info/refs?service=git-upload-pack HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).expect("sent");
    connection.read_to_end(&mut Vec::new()).expect("answered");
}

fn read_all(tree: &SourceTree, threads: usize) -> usize {
    let (next, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                while let Some(entry) = tree.entries().get(next.fetch_add(1, Ordering::Relaxed)) {
                    total.fetch_add(tree.read(entry).expect("read").len(), Ordering::Relaxed);
                }
            });
        }
    });
    total.into_inner()
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
