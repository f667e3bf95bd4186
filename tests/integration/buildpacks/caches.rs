//! The services' caches together stay below `BUILDPACKS_CACHE_MAX`.

use std::time::Duration;

use super::app;
use crate::support::{Job, Rig};

#[tokio::test]
async fn of_caches_that_are_too_large_together_the_one_goes_that_was_used_least_recently() {
    let mut rig = Rig::start().await;
    let repository = app("true\n");
    let (older, newer) = (Job::of(&repository), Job::of(&repository));
    for job in [&older, &newer] {
        rig.push(job).await;
        rig.built(job).await;
    }
    rig.stop_worker(Duration::from_secs(20)).await;
    // Each has a layer of 1 MiB. It looks some seconds after its start, then every ten minutes.
    rig.host.options = rig.host.options.clone().set("BUILDPACKS_CACHE_MAX", "1500KiB");
    rig.start_worker();
    rig.wait_for_log("removed a buildpacks cache: all are above BUILDPACKS_CACHE_MAX", Duration::from_secs(60)).await;
    for (service, said) in [(&newer.service, "dependencies 1: reused"), (&older.service, "dependencies 1: fetching")] {
        let again = Job::of(&repository).service(service);
        rig.push(&again).await;
        rig.built(&again).await;
        let log = rig.dashboard.log(&again.id);
        assert!(log.contains(said), "{said}: {log}");
    }
    rig.finish().await;
}
