//! What a person gets who configures Slipway.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::*;

/// A working directory, a system file and an environment of their own.
pub(super) struct Place {
    dir: tempfile::TempDir,
    surroundings: Surroundings,
}

impl Place {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let surroundings = Surroundings {
            chosen_file: None,
            system_file: dir.path().join("etc.toml"),
            working_dir: dir.path().to_owned(),
            environment: BTreeMap::new(),
        };
        Self { dir, surroundings }
    }
    /// The least that a worker needs.
    pub(super) fn minimal() -> Self {
        Self::new().env("API_KEY", "key-from-env").env("REGISTRY_HOST", "127.0.0.1:5000")
    }
    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.surroundings.environment.insert(name.into(), value.into());
        self
    }
    pub(super) fn file(self, name: &str, text: &str) -> Self {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }
    fn path(&self) -> &Path {
        self.dir.path()
    }
    pub(super) fn load(&self) -> Loaded {
        Config::load(&self.surroundings).unwrap_or_else(|e| panic!("{e}"))
    }
    pub(super) fn errors(&self) -> String {
        match Config::load(&self.surroundings) {
            Ok(_) => panic!("the configuration was taken"),
            Err(e) => e.to_string(),
        }
    }
}

fn origin(loaded: &Loaded, env: &str) -> String {
    loaded.entries.iter().find(|e| e.key.env == env).unwrap().origin.clone()
}

#[test]
fn default_toml_holds_every_key_and_gives_the_documented_defaults() {
    let loaded = Place::minimal().load();
    assert_eq!(loaded.entries.len(), KEYS.len());
    let c = &loaded.config;
    assert_eq!(c.worker.work_dir, Path::new("/var/lib/slipway"));
    assert!(c.worker.max_concurrent_builds >= 2);
    assert_eq!(c.worker.drain_timeout, Duration::from_secs(30));
    assert_eq!(c.worker.build_timeout, Duration::from_secs(3600));
    assert_eq!(c.worker.build_silence_timeout, Duration::from_secs(600));
    assert_eq!((c.worker.retry_limit, c.worker.min_free_disk), (4, 1 << 30));
    assert_eq!((c.queue.host.as_str(), c.queue.port), ("127.0.0.1", 6379));
    assert!(c.queue.username.is_none() && c.queue.password.is_none());
    assert_eq!((c.queue.queue_name.as_str(), c.queue.cancel_channel.as_str()), ("builder-queue", "builder:cancel"));
    assert_eq!(c.queue.max_job_bytes, 4 << 20);
    assert_eq!(c.dashboard.url.as_str(), "http://127.0.0.1:3000/api");
    assert_eq!(c.dashboard.timeout, Duration::from_secs(60));
    assert_eq!((c.dashboard.log_max_bytes, c.dashboard.journal_max_bytes), (32 << 20, 1 << 30));
    assert!(c.git.allowed_hosts.is_empty());
    assert_eq!(c.git.private_hosts, PrivateHosts::Lan);
    assert_eq!(c.git.github_url.as_str(), "https://github.com/");
    assert_eq!((c.git.idle_timeout, c.git.min_rate), (Duration::from_secs(30), 1024));
    assert_eq!((c.git.max_fetch_bytes, c.git.max_files), (4 << 30, 500_000));
    assert_eq!((c.git.max_file_bytes, c.git.cache_max_bytes), (50_000_000, 10 << 30));
    assert_eq!(c.build.engine_socket, Path::new("/var/run/docker.sock"));
    assert_eq!((c.build.platform.as_str(), c.build.network), ("linux/amd64", BuildNetwork::Default));
    assert_eq!(c.build.cache_max_bytes, 20 << 30);
    assert!(c.build.pull_registries.is_empty());
    assert_eq!((c.logging.level.as_str(), c.logging.format, &c.logging.dir), ("info", LogFormat::Auto, &None));
}

#[test]
fn default_toml_names_the_variable_of_each_key_right_above_it() {
    let lines: Vec<&str> = DEFAULT_TOML.lines().collect();
    for key in KEYS {
        let (table, name) = key.name.split_once('.').unwrap();
        let from = lines.iter().position(|l| *l == format!("[{table}]")).unwrap();
        let at = lines[from..].iter().position(|l| l.starts_with(&format!("{name} = "))).unwrap() + from;
        let comment = (1..=3).find(|up| lines[at - up].starts_with(&format!("# {}. ", key.env)));
        assert!(comment.is_some(), "{} is not explained above {}", key.env, key.name);
    }
}

#[test]
fn an_unchanged_env_file_of_the_predecessor_starts_the_worker() {
    let place = Place::new().file(
        ".env",
        "# Redis\nREDIS_HOST=redis.internal\nREDIS_PORT=6380\nREDIS_USERNAME=\nREDIS_PASSWORD=p$ss\\w0rd\nREDIS_QUEUE_NAME=builder-queue\n\
         REDIS_CANCEL_CHANNEL_NAME=\"builder:cancel\"\n\nNODE_ENV=production\nAWS_REGION=eu-central-1\nAWS_ACCESS_KEY_ID=AKIAEXAMPLE\n\
         AWS_SECRET_ACCESS_KEY='wJalr/XUtn+FEMI'\nAPI_URL=https://dash.example.com/api/\nAPI_KEY=abc123\nWORK_DIR=./work\nLOG_LEVEL=info\n",
    );
    let loaded = place.load();
    let c = &loaded.config;
    assert_eq!((c.queue.host.as_str(), c.queue.port), ("redis.internal", 6380));
    assert!(c.queue.username.is_none());
    assert_eq!(c.queue.password.as_ref().unwrap().expose_secret(), "p$ss\\w0rd");
    assert_eq!(c.dashboard.url.as_str(), "https://dash.example.com/api");
    assert_eq!(c.worker.work_dir, place.path().join("./work"));
    let RegistryConfig::Ecr(ecr) = &c.registry else { panic!("ECR was not chosen") };
    assert_eq!((ecr.region.as_str(), ecr.repository_prefix.as_str(), ecr.keep_images), ("eu-central-1", "deployra/", 10));
    assert_eq!(ecr.keys.as_ref().unwrap().secret_access_key.expose_secret(), "wJalr/XUtn+FEMI");
    assert_eq!(origin(&loaded, "REDIS_HOST"), place.path().join(".env").display().to_string());
    assert!(loaded.warnings.is_empty());
}

#[test]
fn a_misspelt_setting_in_an_env_file_is_named_with_the_one_that_was_meant() {
    let place =
        Place::minimal().file(".env", "REDIS_HOTS=redis.internal\nNODE_ENV=production\nAPI_URL=http://d/api\nAPP_URL=http://x\n");
    let expected = format!("{}: unknown setting REDIS_HOTS; did you mean REDIS_HOST?", place.path().join(".env").display());
    assert_eq!(place.load().warnings, [expected]);
    let in_the_environment = Place::minimal().env("REDIS_HOTS", "redis.internal").load();
    assert!(in_the_environment.warnings.is_empty(), "other programs' variables stand there");
}

#[test]
fn later_layers_win_and_each_value_says_where_it_came_from() {
    let place = Place::minimal()
        .file("etc.toml", "[redis]\nhost = \"file\"\nport = 1\nqueue_name = \"file\"\n[git]\nallowed_hosts = [\"a.example\", \"*.b.example\"]\n")
        .file(".env", "REDIS_PORT=2\nREDIS_QUEUE_NAME=dotenv")
        .env("REDIS_QUEUE_NAME", "environment");
    let loaded = place.load();
    let q = &loaded.config.queue;
    assert_eq!((q.host.as_str(), q.port, q.queue_name.as_str()), ("file", 2, "environment"));
    assert_eq!(loaded.config.git.allowed_hosts, ["a.example", "*.b.example"]);
    assert!(origin(&loaded, "REDIS_HOST").ends_with("etc.toml"));
    assert!(origin(&loaded, "REDIS_PORT").ends_with(".env"));
    assert_eq!(origin(&loaded, "REDIS_QUEUE_NAME"), "environment");
    assert_eq!(origin(&loaded, "API_URL"), "default");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let loaded = Place::minimal().file(".env", "REDIS_HOST=dotenv\nREDIS_PORT=").env("REDIS_HOST", "").load();
    assert_eq!((loaded.config.queue.host.as_str(), loaded.config.queue.port), ("dotenv", 6379));
}

#[test]
fn a_chosen_file_replaces_the_system_file_and_has_to_exist() {
    let mut place = Place::minimal().file("etc.toml", "nonsense = 1").file("mine.toml", "[redis]\nport = 7");
    place.surroundings.chosen_file = Some("mine.toml".into());
    assert_eq!(place.load().config.queue.port, 7);
    place.surroundings.chosen_file = Some("missing.toml".into());
    assert!(place.errors().contains("missing.toml: cannot be read: No such file"), "{}", place.errors());
}

#[test]
fn all_errors_are_listed_at_once_each_with_its_source() {
    let place = Place::new()
        .file("etc.toml", "[redis]\nprot = 1\n[worker]\nretry_limit = 0\n")
        .file(".env", "REDIS_PORT=abc\nAPI_URL=ftp://x\nBUILD_TIMEOUT=0\n")
        .env("MAX_FILE_BYTES", "50 giga")
        .env("LOG_LEVEL", "inof");
    let errors = place.errors();
    for part in [
        "has 9 errors",
        "redis.prot, from",
        "did you mean redis.port?",
        "RETRY_LIMIT (worker.retry_limit), from",
        "\"0\" is not a whole number from 1 to 20",
        ".env: \"abc\" is not a whole number from 1 to 65535",
        "\"ftp://x\" does not begin with http:// or https://",
        "\"0\" must not be zero",
        "MAX_FILE_BYTES (git.max_file_bytes), from environment: \"50 giga\" has an unknown unit",
        "LOG_LEVEL (log.level), from environment: \"inof\" is none of trace",
        "API_KEY (dashboard.key): is not set",
        "AWS_REGION, REGISTRY_HOST: neither is set",
    ] {
        assert!(errors.contains(part), "{part:?} is missing in:\n{errors}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_named_by_line_without_showing_it() {
    let place = Place::minimal().file("etc.toml", "[redis]\npassword = \"hunter22\" oops\n");
    let errors = place.errors();
    assert!(errors.contains("is not TOML") && errors.contains("line 2"), "{errors}");
    assert!(!errors.contains("hunter22"), "{errors}");
}

#[test]
fn secrets_come_from_files_and_systemd_credentials_too() {
    let place = Place::minimal()
        .file("secrets/redis", "from-file\n")
        .file("cred/registry_password", "from-credential\r\n")
        .file(".env", "REGISTRY_PASSWORD=old")
        .env("REDIS_PASSWORD_FILE", "secrets/redis")
        .env("REGISTRY_USERNAME", "octo");
    let dir = place.path().join("cred").display().to_string();
    let place = place.env("CREDENTIALS_DIRECTORY", &dir);
    let loaded = place.load();
    assert_eq!(loaded.config.queue.password.as_ref().unwrap().expose_secret(), "from-file");
    let RegistryConfig::Generic(registry) = &loaded.config.registry else { panic!("not the generic registry") };
    assert_eq!(registry.password.as_ref().unwrap().expose_secret(), "from-credential");
    assert!(origin(&loaded, "REDIS_PASSWORD").ends_with("secrets/redis (REDIS_PASSWORD_FILE in environment)"));
    assert!(origin(&loaded, "REGISTRY_PASSWORD").ends_with("registry_password ($CREDENTIALS_DIRECTORY)"));
    let secrets: Vec<_> = loaded.secrets.iter().map(|s| s.expose_secret().to_owned()).collect();
    assert_eq!(secrets, ["from-file", "key-from-env", "from-credential"]);
}

#[test]
fn a_secret_given_twice_or_in_a_bad_file_is_an_error_without_its_value() {
    let place = Place::minimal()
        .env("REDIS_PASSWORD", "hunter22")
        .env("REDIS_PASSWORD_FILE", "x")
        .env("PULL_REGISTRIES", "ghcr.io=tok3n");
    let place = place.env("REGISTRY_PASSWORD_FILE", "/nowhere/at/all");
    let errors = place.errors();
    assert!(errors.contains("both REDIS_PASSWORD and REDIS_PASSWORD_FILE are given"), "{errors}");
    assert!(errors.contains("the value has an entry that is not host=user:password"), "{errors}");
    assert!(errors.contains("/nowhere/at/all (REGISTRY_PASSWORD_FILE in environment): the file cannot be read"), "{errors}");
    assert!(!errors.contains("hunter22") && !errors.contains("tok3n"), "{errors}");
}

#[test]
fn a_password_inside_a_url_is_refused_and_not_repeated() {
    let errors = Place::minimal().env("API_URL", "http://me:hunter22@dash/api").env("REDIS_HOST", "redis://:hunter22@h").errors();
    assert!(errors.contains("API_URL") && errors.contains("REDIS_HOST"), "{errors}");
    assert!(!errors.contains("hunter22"), "{errors}");
}

#[test]
fn half_a_pair_of_credentials_is_an_error_that_names_both() {
    let errors = Place::new().env("API_KEY", "k").env("AWS_REGION", "eu-west-1").env("AWS_ACCESS_KEY_ID", "AKIA").errors();
    assert!(errors.contains("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: only one of them is set"), "{errors}");
    let errors = Place::minimal().env("REGISTRY_USERNAME", "octo").errors();
    assert!(errors.contains("REGISTRY_USERNAME, REGISTRY_PASSWORD: only one of them is set"), "{errors}");
}

#[test]
fn the_registry_is_the_host_that_is_named_else_ecr() {
    let both = Place::minimal().env("AWS_REGION", "eu-west-1").load();
    let RegistryConfig::Generic(registry) = both.config.registry else { panic!("not the generic registry") };
    assert!(registry.insecure, "a registry on loopback speaks plain http");
    let by_tls = Place::minimal().env("REGISTRY_INSECURE", "false").load();
    let RegistryConfig::Generic(by_tls) = by_tls.config.registry else { panic!("not the generic registry") };
    assert!(!by_tls.insecure, "also on loopback, where it is said so");
    let ecr =
        Place::new().env("API_KEY", "k").env("AWS_REGION", "eu-west-1").env("AWS_ENDPOINT_URL", "http://127.0.0.1:5001").load();
    let RegistryConfig::Ecr(ecr) = ecr.config.registry else { panic!("not ECR") };
    assert!(ecr.keys.is_none(), "without keys the SDK's own chain is used");
    assert!(ecr.endpoint_url.is_some());
    let far = Place::new().env("API_KEY", "k").env("REGISTRY_HOST", "GHCR.io").load();
    let RegistryConfig::Generic(far) = far.config.registry else { panic!("not the generic registry") };
    assert_eq!((far.host.as_str(), far.insecure), ("ghcr.io", false));
}

#[test]
fn a_git_directory_in_the_context_is_refused_at_the_start() {
    let errors = Place::minimal().env("CONTEXT_GIT_DIR", "true").errors();
    assert!(errors.contains("CONTEXT_GIT_DIR") && errors.contains(".git is never in the build context"), "{errors}");
    Place::minimal().env("CONTEXT_GIT_DIR", "no").load();
}

#[test]
fn a_wrong_entry_of_a_list_is_named_but_for_one_that_may_hold_a_password() {
    let errors = Place::minimal().env("GIT_ALLOWED_HOSTS", "github.com, git.corp/team, *.lab.example").errors();
    assert!(errors.contains("has the entry \"git.corp/team\" (number 2)"), "{errors}");
    let errors = Place::minimal().env("UPSTREAM_HOSTS", "github.com,me:hunter22@git.corp").errors();
    assert!(errors.contains("(number 2)") && !errors.contains("hunter22"), "{errors}");
    let errors = Place::minimal().env("BUILDPACKS_BUILDERS", "a/b=c/d,a/b").errors();
    assert!(errors.contains("has the entry \"a/b\" (number 2), which is not builder=run-image"), "{errors}");
    let errors = Place::minimal().env("PULL_REGISTRIES", "ghcr.io=octo:hunter22,ghcr.io=hunter23").errors();
    assert!(errors.contains("(number 2)") && !errors.contains("hunter2"), "{errors}");
}

#[test]
fn private_base_images_have_logins_of_their_own() {
    let loaded = Place::minimal().env("PULL_REGISTRIES", "ghcr.io=octo:a=b:c, 127.0.0.1:5000=me:pw").load();
    let pulls = &loaded.config.build.pull_registries;
    assert_eq!(
        (pulls[0].host.as_str(), pulls[0].username.as_str(), pulls[0].password.expose_secret()),
        ("ghcr.io", "octo", "a=b:c")
    );
    assert_eq!(pulls[1].host, "127.0.0.1:5000");
    let lines = Place::minimal().env("PULL_REGISTRIES", "ghcr.io=octo:a,b\n").load();
    assert_eq!(lines.config.build.pull_registries[0].password.expose_secret(), "a,b");
}

#[test]
fn the_printed_configuration_shows_origins_and_no_secret() {
    let place = Place::minimal().env("REDIS_PASSWORD", "hunter22").env("REDIS_PORT", "7000");
    let printed = place.load().to_string();
    assert!(printed.contains("redis.password = \"***\" # REDIS_PASSWORD, from environment"), "{printed}");
    assert!(printed.contains("redis.port = \"7000\" # REDIS_PORT, from environment"), "{printed}");
    assert!(printed.contains("aws.access_key_id = \"\" # AWS_ACCESS_KEY_ID, from default"), "{printed}");
    assert!(!printed.contains("hunter22") && !printed.contains("key-from-env"), "{printed}");
    // What was printed can be read again.
    let again = printed.replace("\"***\"", "\"a-secret\"");
    Place::minimal().file("etc.toml", &again).load();
}

#[test]
fn commands_that_need_a_part_do_not_ask_for_the_rest() {
    let place = Place::new().env("REDIS_HOST", "redis.internal");
    let settings = Settings::read(&place.surroundings);
    assert_eq!(settings.queue().unwrap().host, "redis.internal");
    assert!(settings.dashboard_address().unwrap().key.is_none());
    assert!(settings.single_build(false).unwrap().registry.is_none());
    assert!(settings.single_build(true).is_err());
}
