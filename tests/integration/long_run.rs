//! Many builds in a row: what the worker holds and what it leaves in the Engine stays as after the first ones.

use crate::support::{Job, Repository, Rig, unique};

const BUILDS: usize = 30;

#[tokio::test]
async fn files_memory_and_images_are_after_thirty_builds_what_they_were_after_ten() {
    let mut rig = Rig::with(|options| options.builds(1)).await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nCOPY . /app\n")]);
    let service = unique();
    let mut after_ten = None;
    for number in 1..=BUILDS {
        repository.commit(&[("changed.txt", &unique())]);
        let job = Job::of(&repository).service(&service);
        rig.push(&job).await;
        rig.built(&job).await;
        rig.settle().await;
        if number == 10 {
            rig.assert_nothing_left().await;
            after_ten = Some((rig.worker().open_files(), rig.worker().resident_kib()));
        }
    }
    rig.assert_nothing_left().await;
    let (files, memory) = after_ten.expect("more than ten builds");
    let (files_now, memory_now) = (rig.worker().open_files(), rig.worker().resident_kib());
    assert!(files_now <= files + 2, "open files: {files} after ten builds, {files_now} after {BUILDS}");
    assert!(memory_now <= memory + 4096, "resident KiB: {memory} after ten builds, {memory_now} after {BUILDS}");
    rig.finish().await;
}
