//! PURE: the list of all keys: their name in a TOML file, their environment variable, and whether they are secret.

/// One key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// `table.name` in a TOML file.
    pub name: &'static str,
    /// The environment variable, also its name in `.env`.
    pub env: &'static str,
    /// Masked wherever it is shown; may also come from `<env>_FILE`, `<name>_file` and a systemd credential.
    pub secret: bool,
}

const fn open(name: &'static str, env: &'static str) -> Key {
    Key { name, env, secret: false }
}
const fn secret(name: &'static str, env: &'static str) -> Key {
    Key { name, env, secret: true }
}

/// Every key, in the order of `config/default.toml`.
pub const KEYS: &[Key] = &[
    open("worker.work_dir", "WORK_DIR"),
    open("worker.max_concurrent_builds", "MAX_CONCURRENT_BUILDS"),
    open("worker.drain_timeout", "DRAIN_TIMEOUT"),
    open("worker.build_timeout", "BUILD_TIMEOUT"),
    open("worker.build_silence_timeout", "BUILD_SILENCE_TIMEOUT"),
    open("worker.fetch_timeout", "FETCH_TIMEOUT"),
    open("worker.context_timeout", "CONTEXT_TIMEOUT"),
    open("worker.image_timeout", "IMAGE_TIMEOUT"),
    open("worker.push_timeout", "PUSH_TIMEOUT"),
    open("worker.retry_limit", "RETRY_LIMIT"),
    open("worker.retry_window", "RETRY_WINDOW"),
    open("worker.upstream_hosts", "UPSTREAM_HOSTS"),
    open("worker.min_free_disk", "MIN_FREE_DISK"),
    secret("redis.url", "REDIS_URL"),
    open("redis.host", "REDIS_HOST"),
    open("redis.port", "REDIS_PORT"),
    open("redis.username", "REDIS_USERNAME"),
    secret("redis.password", "REDIS_PASSWORD"),
    open("redis.db", "REDIS_DB"),
    open("redis.tls", "REDIS_TLS"),
    open("redis.tls_ca_file", "REDIS_TLS_CA_FILE"),
    open("redis.mode", "REDIS_MODE"),
    open("redis.queue_name", "REDIS_QUEUE_NAME"),
    open("redis.cancel_channel_name", "REDIS_CANCEL_CHANNEL_NAME"),
    open("redis.max_job_bytes", "MAX_JOB_BYTES"),
    open("dashboard.url", "API_URL"),
    secret("dashboard.key", "API_KEY"),
    open("dashboard.timeout", "API_TIMEOUT"),
    open("dashboard.log_max_bytes", "LOG_MAX_BYTES"),
    open("dashboard.log_total_max", "LOG_TOTAL_MAX"),
    open("dashboard.journal_max_bytes", "JOURNAL_MAX_BYTES"),
    open("git.allowed_hosts", "GIT_ALLOWED_HOSTS"),
    open("git.private_hosts", "GIT_PRIVATE_HOSTS"),
    open("git.github_url", "GITHUB_URL"),
    open("git.idle_timeout", "GIT_IDLE_TIMEOUT"),
    open("git.min_rate", "GIT_MIN_RATE"),
    open("git.max_fetch_bytes", "MAX_FETCH_BYTES"),
    open("git.max_files", "MAX_FILES"),
    open("git.max_file_bytes", "MAX_FILE_BYTES"),
    open("git.cache_max", "GIT_CACHE_MAX"),
    open("build.docker_host", "DOCKER_HOST"),
    open("build.platform", "BUILD_PLATFORM"),
    open("build.network", "BUILD_NETWORK"),
    open("build.cache_max", "BUILD_CACHE_MAX"),
    open("build.context_git_dir", "CONTEXT_GIT_DIR"),
    open("build.context_max", "CONTEXT_MAX"),
    open("build.image_max", "IMAGE_MAX"),
    secret("build.pull_registries", "PULL_REGISTRIES"),
    open("buildpacks.builders", "BUILDPACKS_BUILDERS"),
    open("buildpacks.lifecycle_image", "BUILDPACKS_LIFECYCLE_IMAGE"),
    open("buildpacks.network", "BUILDPACKS_NETWORK"),
    open("buildpacks.trusted", "BUILDPACKS_TRUSTED"),
    open("buildpacks.memory", "BUILDPACKS_MEMORY"),
    open("buildpacks.cpus", "BUILDPACKS_CPUS"),
    open("buildpacks.pids", "BUILDPACKS_PIDS"),
    open("buildpacks.file_bytes", "BUILDPACKS_FILE_BYTES"),
    open("buildpacks.phase_timeout", "BUILDPACKS_PHASE_TIMEOUT"),
    open("buildpacks.cache_max", "BUILDPACKS_CACHE_MAX"),
    open("aws.region", "AWS_REGION"),
    secret("aws.access_key_id", "AWS_ACCESS_KEY_ID"),
    secret("aws.secret_access_key", "AWS_SECRET_ACCESS_KEY"),
    secret("aws.session_token", "AWS_SESSION_TOKEN"),
    open("aws.endpoint_url", "AWS_ENDPOINT_URL"),
    open("ecr.repository_prefix", "ECR_REPOSITORY_PREFIX"),
    open("ecr.keep_images", "ECR_KEEP_IMAGES"),
    open("ecr.registry_host", "ECR_REGISTRY_HOST"),
    open("registry.host", "REGISTRY_HOST"),
    open("registry.repository_prefix", "REGISTRY_REPOSITORY_PREFIX"),
    open("registry.username", "REGISTRY_USERNAME"),
    secret("registry.password", "REGISTRY_PASSWORD"),
    open("registry.insecure", "REGISTRY_INSECURE"),
    open("log.level", "LOG_LEVEL"),
    open("log.format", "LOG_FORMAT"),
    open("log.dir", "LOG_DIR"),
];

/// The known name nearest to `written`, where one is near enough to have been meant.
pub fn nearest<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|k| (strsim::jaro_winkler(written, k), k))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// What other programs call a setting of Redis, and its name here. Without a warning it would have no effect and nobody would know.
pub(super) const OTHER_NAMES: &[(&str, &str)] = &[
    ("REDIS_URI", "REDIS_URL"),
    ("REDIS_TLS_URL", "REDIS_URL"),
    ("REDIS_CONNECTION_STRING", "REDIS_URL"),
    ("REDIS_ADDR", "REDIS_HOST and REDIS_PORT"),
    ("REDIS_ADDRESS", "REDIS_HOST and REDIS_PORT"),
    ("REDIS_USER", "REDIS_USERNAME"),
    ("REDIS_PASS", "REDIS_PASSWORD"),
    ("REDIS_DATABASE", "REDIS_DB"),
    ("REDIS_SSL", "REDIS_TLS"),
    ("REDIS_USE_TLS", "REDIS_TLS"),
    ("REDIS_TLS_ENABLED", "REDIS_TLS"),
    ("REDIS_TLS_CA", "REDIS_TLS_CA_FILE"),
    ("REDIS_TLS_CA_CERT", "REDIS_TLS_CA_FILE"),
    ("REDIS_CA_FILE", "REDIS_TLS_CA_FILE"),
    ("REDIS_CA_CERT", "REDIS_TLS_CA_FILE"),
];

/// The variable that one of another name in a `.env` is likely a slip for. Strict, for a `.env` holds other programs' variables too.
pub(super) fn misspelt(written: &str) -> Option<String> {
    let all = || KEYS.iter().flat_map(|k| [Some(k.env.to_owned()), k.secret.then(|| format!("{}_FILE", k.env))]).flatten();
    if all().any(|known| known == written) {
        return None;
    }
    let plain = written.to_ascii_uppercase().replace(['-', '.'], "_");
    let slips = if plain.len() < 12 { 1 } else { 2 };
    let near = all().map(|known| (strsim::osa_distance(&plain, &known), known)).filter(|(distance, _)| *distance <= slips);
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_with_a_slip_of_the_pen_is_told_from_those_of_other_programs() {
        let meant = |written| misspelt(written).unwrap_or_default();
        assert_eq!(meant("REDIS_HOTS"), "REDIS_HOST");
        assert_eq!(meant("redis_host"), "REDIS_HOST");
        assert_eq!(meant("REGISTRY-HOST"), "REGISTRY_HOST");
        assert_eq!(meant("AWS_SECRET_ACESS_KEYS"), "AWS_SECRET_ACCESS_KEY");
        assert_eq!(meant("REDIS_PASWORD_FILE"), "REDIS_PASSWORD_FILE");
        for other in
            ["REDIS_HOST", "API_KEY_FILE", "REDIS_URL", "NODE_ENV", "DB_HOST", "DB_PASSWORD", "PORT", "AWS_PROFILE", "LOG_FILE"]
        {
            assert_eq!(meant(other), "", "{other}");
        }
    }

    #[test]
    fn a_misspelt_key_is_answered_with_the_one_that_was_meant() {
        let names = || KEYS.iter().map(|k| k.name);
        assert_eq!(nearest("redis.pasword", names()), Some("redis.password"));
        assert_eq!(nearest("worker.max_concurent_builds", names()), Some("worker.max_concurrent_builds"));
        assert_eq!(nearest("zzz", names()), None);
    }

    #[test]
    fn no_name_and_no_variable_stands_for_two_keys() {
        for (i, a) in KEYS.iter().enumerate() {
            for b in &KEYS[i + 1..] {
                assert_ne!(a.name, b.name);
                assert_ne!(a.env, b.env);
            }
        }
    }
}
