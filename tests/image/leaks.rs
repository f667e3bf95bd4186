//! What a host has after many builds: what it had before.

use std::time::Duration;

use slipway::protocol::Code;

use crate::support::*;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn a_round(host: &Host, round: usize) {
    let fine = format!("FROM busybox:base\nCOPY a /a\nRUN : {}\n", unique("round"));
    let (image, _) = built(host, "svc-leak", context(&[("Dockerfile", fine.as_bytes()), ("a", b"a")])).await;
    host.stage.remove(&image).await;

    let wrong = if round.is_multiple_of(2) { "FROM busybox:base\nRUN false\n" } else { "FROM\n" };
    failed(host, dockerfile(wrong)).await;

    let attempt = Attempt::new("svc-leak", &unique("dpl"));
    let endless = dockerfile(&format!("FROM busybox:base\nRUN echo begun; sleep 3600; : {}\n", unique("round")));
    let cancel = async {
        attempt.log.wait_for(" begun").await;
        attempt.ctx.cancel.cancel();
    };
    let (result, ()) = tokio::join!(attempt.build(host, endless), cancel);
    assert_eq!(result.expect_err("cancelled").code, Code::BuildCancelled);
}

/// The client of the Engine's API lets go of its last connection a moment after its answer.
async fn back_to(files: usize, alive: usize) -> bool {
    let back = async {
        while open_files() > files || tasks() > alive {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), back).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_builds_that_end_in_every_way_leave_no_file_no_task_and_no_image() {
    let _alone = alone().await;
    let host = Host::new().await;
    a_round(&host, 0).await;
    let (files, alive) = (open_files(), tasks());
    let images = docker(&["images", "-aq", "--filter", "label=dev.slipway.service=svc-leak"]);
    let containers = docker(&["ps", "-aq"]);
    for round in 0..17 {
        a_round(&host, round).await;
    }
    assert!(back_to(files, alive).await, "{} of {files} files, {} of {alive} tasks", open_files(), tasks());
    assert_eq!(docker(&["images", "-aq", "--filter", "label=dev.slipway.service=svc-leak"]), images);
    assert_eq!(docker(&["ps", "-aq"]), containers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_whose_future_is_dropped_stops_its_own_tasks() {
    let _alone = alone().await;
    let host = Host::new().await;
    a_round(&host, 0).await;
    let (files, alive) = (open_files(), tasks());
    for _ in 0..5 {
        let attempt = Attempt::new("svc-drop", &unique("dpl"));
        let endless = dockerfile(&format!("FROM busybox:base\nRUN echo begun; sleep 3600; : {}\n", unique("drop")));
        tokio::select! {
            result = attempt.build(&host, endless) => panic!("{result:?}"),
            () = attempt.log.wait_for(" begun") => {}
        }
        attempt.ctx.tasks.close();
        tokio::time::timeout(Duration::from_secs(5), attempt.ctx.tasks.wait()).await.expect("its tasks end");
    }
    assert!(back_to(files, alive).await, "{} of {files} files, {} of {alive} tasks", open_files(), tasks());
}
