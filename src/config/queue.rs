//! Redis: where the jobs come from.

use secrecy::SecretString;

#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// `REDIS_HOST`, default 127.0.0.1.
    pub host: String,
    /// `REDIS_PORT`, default 6379.
    pub port: u16,
    /// `REDIS_USERNAME`, empty = none.
    pub username: Option<String>,
    /// `REDIS_PASSWORD` or `REDIS_PASSWORD_FILE`.
    pub password: Option<SecretString>,
    /// `REDIS_QUEUE_NAME`, default builder-queue.
    pub queue_name: String,
    /// `REDIS_CANCEL_CHANNEL_NAME`, default builder:cancel.
    pub cancel_channel: String,
    /// `MAX_JOB_BYTES`, default 4 MiB.
    pub max_job_bytes: usize,
}
