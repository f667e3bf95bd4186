//! The daemon: supervisor, the life of a job, the order of the stages.
