//! What a test run leaves of the host that it runs on: all as it was, also where Docker runs there.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::support::OwnEngine;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");

/// A host with Docker as a person has it: docker0, firewall rules, a container that runs, a network, a volume, an image.
/// All in a network namespace of its own.
async fn host_with_docker() -> OwnEngine {
    let engine = OwnEngine::as_host().await;
    let docker = engine.client();
    docker.docker(&["network", "create", "backend"]).await;
    docker.docker(&["volume", "create", "database"]).await;
    docker.docker(&["tag", "busybox:base", "shop:1"]).await;
    let (mount, published) = ("database:/data", "127.0.0.1:8080:80");
    docker
        .docker(&["run", "-d", "--name", "shop", "--network", "backend", "-v", mount, "-p", published, "shop:1", "sleep", "900"])
        .await;
    engine
}

/// `scripts/host-state keep` with this command, on that host. Whether all is as before, and what was printed.
async fn keep(host: &OwnEngine, wait: &str, command: &str) -> (bool, String) {
    let mut words = Vec::new();
    if !rustix::process::geteuid().is_root() {
        words.extend(["sudo", "-n", "-E"].map(str::to_owned));
    }
    let network = format!("--net={}", network_namespace(host.socket()).display());
    let (keep, docker) = (format!("{SCRIPTS}/host-state"), format!("unix://{}", host.socket().display()));
    words.extend(["nsenter", &network, "--", &keep, "keep", "--docker-host", &docker].map(str::to_owned));
    words.extend(["--wait", wait, "--", "sh", "-c", command].map(str::to_owned));
    let mut run = Command::new(&words[0]);
    // What the command leaves is ours to find, not the run's that this test is part of.
    run.args(&words[1..]).env_remove("SLIPWAY_TEST_RUN_DIR").stdin(Stdio::null()).kill_on_drop(true);
    let output = run.output().await.expect("run scripts/host-state");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// That of the innermost process below the one that `scripts/parts` has started.
fn network_namespace(socket: &Path) -> PathBuf {
    let run_dir = socket.parent().expect("a socket in a directory");
    let pids = std::fs::read_to_string(run_dir.join("pids")).expect("scripts/parts writes its processes down");
    let mut pid = pids.split_whitespace().next().expect("one process").to_owned();
    let children = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    while let Some(child) = children(&pid).split_whitespace().next() {
        pid = child.to_owned();
    }
    format!("/proc/{pid}/ns/net").into()
}

#[tokio::test]
async fn a_tests_engine_that_starts_and_ends_in_every_way_changes_nothing_of_the_hosts_docker() {
    let host = host_with_docker().await;
    let orders = "terminate start kill start cut start unplug plug";
    let (same, said) = keep(&host, "15", &format!("printf '%s\\n' {orders} | {SCRIPTS}/parts engine")).await;
    assert_eq!(said.matches("done\n").count(), orders.split(' ').count(), "{said}");
    assert!(same, "{said}");
}

#[tokio::test]
async fn what_a_command_changes_of_the_host_or_leaves_on_it_is_named() {
    let host = host_with_docker().await;
    let docker = format!("{} --host unix://{}", crate::support::parts().docker.display(), host.socket().display());
    for (command, told) in [
        ("ip link add name leftover type bridge".to_owned(), "interfaces: new: leftover"),
        ("ip addr add 10.9.8.7/32 dev lo".to_owned(), "addresses: new: lo inet 10.9.8.7/32"),
        ("ip route add blackhole 10.9.9.0/24".to_owned(), "routes: new: blackhole 10.9.9.0/24"),
        (
            "iptables -A FORWARD -s 10.9.8.7 -j DROP".to_owned(),
            "firewall: new: iptables filter -A FORWARD -s 10.9.8.7/32 -j DROP",
        ),
        ("echo 0 >/proc/sys/net/ipv4/ip_forward".to_owned(), "kernel settings: new: net/ipv4/ip_forward = 0"),
        ("sleep 20 >/dev/null 2>&1 & true".to_owned(), "processes: left running: "),
        (format!("{docker} network create other"), "Docker's networks: new: "),
        (format!("{docker} volume create other"), "Docker's volumes: new: other"),
        (format!("{docker} tag busybox:base other:1"), "Docker's images: new: "),
        (format!("{docker} kill shop"), "Docker's containers: gone: "),
        ("ip link delete docker0".to_owned(), "interfaces: gone: docker0"),
    ] {
        let (same, said) = keep(&host, "0", &command).await;
        assert!(!same && said.contains(told), "{command}: {told:?} in:\n{said}");
    }
}
