//! Repositories whose builds print numbered lines, so that a missing one is seen.

use crate::support::{Repository, noise};

/// What else the job is made to do, so that it stays in one stage for a while.
#[derive(Debug, Clone, Default)]
pub struct Load {
    pub lines: usize,
    /// Between two lines.
    pub pause_ms: usize,
    /// Bytes of the build context.
    pub context: usize,
    /// Bytes of random data that the step leaves in the image.
    pub image: usize,
    /// Another base image than the small one that is there.
    pub base: Option<String>,
}

pub fn repository(load: &Load) -> Repository {
    let base = load.base.as_deref().unwrap_or("busybox:base");
    let Load { lines, pause_ms, image, .. } = load;
    let dockerfile = format!(
        "FROM {base}\nCOPY . /app\n\
         RUN run=$(cat /proc/sys/kernel/random/uuid); n=0; \
         while [ $n -lt {lines} ]; do echo \"$run line $n\"; n=$((n+1)); usleep {}; done; \
         head -c {image} /dev/urandom > /noise\n",
        pause_ms * 1000,
    );
    let repository = Repository::public(&[("Dockerfile", &dockerfile)]);
    if load.context > 0 {
        repository.commit_raw("main", &[("noise", "100644", &noise(load.context))]);
    }
    repository
}
