//! A host whose WORK_DIR is lost while its worker is dead: the next one has another id, and removes what the first one left.

use std::time::Duration;

use crate::support::{Job, Repository, Rig, eventually};

const SOON: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_worker_that_starts_with_an_empty_work_dir_removes_what_the_one_before_it_left_in_the_engine() {
    let mut rig = Rig::start().await;
    let holds = Repository::public(&[("app.sh", "true\n"), ("build.sh", "echo started; sleep 600\n")]);
    let job = Job::of(&holds);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "started", SOON).await;
    let (attempt, of) = ("label=dev.slipway.attempt=1", format!("label=dev.slipway.deployment={}", job.id));
    let left = async || {
        let containers = rig.engine.docker(&["ps", "--all", "--quiet", "--filter", attempt, "--filter", &of]).await;
        let volumes = rig.engine.docker(&["volume", "ls", "--quiet", "--filter", attempt, "--filter", &of]).await;
        format!("{containers}{volumes}")
    };
    assert_ne!(left().await, "", "the build has a container and volumes");
    rig.kill_worker().await;
    let work = rig.host.work_dir();
    std::fs::remove_dir_all(&work).expect("lose WORK_DIR");
    std::fs::create_dir(&work).expect("an empty WORK_DIR");
    rig.start_worker();
    eventually("what the lost worker left is gone", SOON, async || {
        let containers = rig.engine.docker(&["ps", "--all", "--quiet", "--filter", attempt, "--filter", &of]).await;
        let volumes = rig.engine.docker(&["volume", "ls", "--quiet", "--filter", attempt, "--filter", &of]).await;
        let left = format!("{containers}{volumes}");
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    rig.cancel(&job).await;
    rig.cancelled(&job).await;
    rig.finish().await;
}
