//! Many builds in a row: what the worker holds, on disk and in the Engine, stays as after the first ones.

use std::path::Path;

use crate::support::{Job, Repository, Rig, unique};

const BUILDS: usize = 200;

/// What must not grow with the number of builds.
#[derive(Debug)]
struct Held {
    files: usize,
    threads: usize,
    memory_kib: u64,
    work_dir_kib: u64,
    images: usize,
}

impl Held {
    async fn by(rig: &mut Rig, service: &str) -> Self {
        let of_service = format!("label=dev.slipway.service={service}");
        let images = rig.engine.docker(&["images", "--all", "--quiet", "--filter", &of_service]).await;
        let work_dir_kib = bytes_below(&rig.host.work_dir()) / 1024;
        let worker = rig.worker();
        Self {
            files: worker.open_files(),
            threads: worker.threads(),
            memory_kib: worker.resident_kib(),
            work_dir_kib,
            images: images.lines().count(),
        }
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // A file may be removed while it is looked at.
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[tokio::test]
async fn files_threads_memory_disk_and_images_are_after_two_hundred_builds_what_they_were_after_ten() {
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
            after_ten = Some(Held::by(&mut rig, &service).await);
        }
    }
    rig.assert_nothing_left().await;
    let (then, now) = (after_ten.expect("more than ten builds"), Held::by(&mut rig, &service).await);
    println!("after 10 builds {then:?}; after {BUILDS} {now:?}");
    assert!(now.files <= then.files + 2, "{then:?} {now:?}");
    assert!(now.threads <= then.threads + 2, "{then:?} {now:?}");
    assert!(now.memory_kib <= then.memory_kib + 4096, "{then:?} {now:?}");
    assert!(now.work_dir_kib <= then.work_dir_kib + 1024, "{then:?} {now:?}");
    assert_eq!((then.images, now.images), (0, 0), "an image stays that nobody owns");
    rig.finish().await;
}
