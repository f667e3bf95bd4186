//! The cloud's metadata address, with somebody who listens there: in a network of the test's own, which no other host is part of.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::app;
use crate::support::{Job, Repository, Rig};

const ADDRESS: &str = "169.254.169.254:80";
/// Set in that network.
const INSIDE: &str = "SLIPWAY_TEST_METADATA_ADDRESS_IS_OURS";
const TEST: &str =
    "buildpacks::metadata::the_clouds_metadata_address_is_reached_by_no_build_where_the_printed_rule_or_no_network_stops_it";
/// Asks for the host's credentials as an app on a cloud's host would.
const ASK: &str = "nc -w 3 169.254.169.254 80 </dev/null && echo the build reached it || echo the build did not reach it\n";

#[tokio::test]
async fn the_clouds_metadata_address_is_reached_by_no_build_where_the_printed_rule_or_no_network_stops_it() {
    #[allow(clippy::disallowed_methods, reason = "handed over by this test itself")]
    let inside = std::env::var_os(INSIDE).is_some();
    if inside { in_the_network().await } else { make_the_network() }
}

/// Parts of its own, and this test again, on a loopback that also has the address.
fn make_the_network() {
    let as_root: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["sudo", "-n", "-E"] };
    let script = "ip link set lo up && ip addr add 169.254.169.254/32 dev lo && exec \"$@\"";
    let words = [as_root, &["unshare", "--net", "sh", "-c", script, "sh"]].concat();
    let status = Command::new(words[0])
        .args(&words[1..])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/parts"))
        .args(["run", "--"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", TEST, "--nocapture"])
        .env(INSIDE, "1")
        // The run that this one is part of is not theirs.
        .env_remove("SLIPWAY_TEST_RUN_DIR")
        .stdin(Stdio::null())
        .status();
    assert!(status.expect("run unshare").success(), "the test in its own network: its message stands above");
}

async fn in_the_network() {
    let listener = TcpListener::bind(ADDRESS).await.expect("the metadata address is ours");
    let mut metadata = JoinSet::new();
    metadata.spawn(hand_out_credentials(listener));
    let app = app(ASK);

    let mut rig = Rig::start().await;
    rig.wait_for_log("the cloud's metadata address with this host's credentials", Duration::from_secs(30)).await;
    rig.wait_for_log("Buildpacks of every job reach the same by the bridge", Duration::from_secs(30)).await;
    let log = built(&mut rig, &app).await;
    assert!(log.contains("the-host's-role") && log.contains("build reached it"), "as the warning says, it can be: {log}");
    let said = rig.host.log();
    let rule = said.split("Close it: ").nth(1).and_then(|rest| rest.split(',').next()).expect("the rule is printed");
    assert!(rule.starts_with("iptables -I INPUT -i slipbp"), "{rule}");
    shell(rule);
    assert_not_reached(&built(&mut rig, &app).await);
    rig.finish().await;
    shell(&rule.replace(" -I ", " -D "));

    let mut rig = Rig::with(|options| options.set("BUILDPACKS_NETWORK", "none").set("BUILD_NETWORK", "none")).await;
    assert_not_reached(&built(&mut rig, &app).await);
    // What the Engine itself fetches for a Dockerfile goes no network of the build's.
    let add = |path: &str| format!("FROM busybox:base\nADD http://169.254.169.254/{path} /role\nRUN cat /role\n");
    let log = built(&mut rig, &Repository::public(&[("Dockerfile", &add("one"))])).await;
    assert!(log.contains("the-host's-role"), "as the warning says, it can be: {log}");
    let said = rig.host.log();
    let rule = said.split("to them: ").nth(1).and_then(|rest| rest.split(" (").next()).expect("the rule is printed");
    assert!(rule.starts_with("iptables -I OUTPUT "), "{rule}");
    shell(rule);
    let job = Job::of(&Repository::public(&[("Dockerfile", &add("two"))]));
    rig.push(&job).await;
    let end = rig.end(&job).await;
    assert!(!rig.dashboard.log(&job.id).contains("the-host's-role"), "{end:?}");
    rig.finish().await;
    shell(&rule.replace(" -I ", " -D "));
}

async fn built(rig: &mut Rig, app: &Repository) -> String {
    let job = Job::of(app);
    rig.push(&job).await;
    rig.built(&job).await;
    rig.dashboard.log(&job.id)
}

fn assert_not_reached(log: &str) {
    assert!(log.contains("build did not reach it"), "{log}");
    assert!(!log.contains("the-host's-role") && !log.contains(" reached it"), "{log}");
}

fn shell(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().expect("run sh");
    assert!(status.success(), "{command}");
}

async fn hand_out_credentials(listener: TcpListener) {
    while let Ok((mut client, _)) = listener.accept().await {
        // Whoever asks gets the same, whatever becomes of it.
        let _ = client.read(&mut [0; 1024]).await;
        let _ = client.write_all(b"HTTP/1.0 200 OK\r\n\r\nthe-host's-role\n").await;
    }
}
