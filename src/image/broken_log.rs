//! PURE: whether the Engine's account of a build has broken off.
//!
//! Where more than 1 MiB of output waits to be told at once, a Docker Engine 20.10 sends empty status messages from then on, as fast as they
//! are taken, and nothing else of the build's log. Of a build that succeeds the image's id is still sent among them, of one that fails
//! nothing is; the answer never ends. (Seen with 20.10.24, its log limits lifted: 4,000 lines of 4,000 characters, 12 million empty
//! messages in 100 s.)

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

/// So many empty messages in a row are no coincidence.
const NO_COINCIDENCE: u32 = 1000;

/// Counts empty messages in a row.
#[derive(Debug, Default)]
pub struct BrokenLog {
    empty: u32,
}

impl BrokenLog {
    pub fn see(&mut self, status: &StatusResponse) {
        self.empty = if *status == StatusResponse::default() { self.empty.saturating_add(1) } else { 0 };
    }

    /// Nothing of the log comes any more.
    pub fn is_broken(&self) -> bool {
        self.empty >= NO_COINCIDENCE
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::moby::buildkit::v1::Vertex;

    use super::*;

    #[test]
    fn only_a_long_run_of_empty_messages_breaks_it() {
        let something = StatusResponse { vertexes: vec![Vertex::default()], ..Default::default() };
        let mut log = BrokenLog::default();
        for _ in 0..3 {
            (1..NO_COINCIDENCE).for_each(|_| log.see(&StatusResponse::default()));
            assert!(!log.is_broken());
            log.see(&something);
        }
        (0..NO_COINCIDENCE).for_each(|_| log.see(&StatusResponse::default()));
        assert!(log.is_broken());
    }
}
