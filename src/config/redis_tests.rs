//! What a person gets who says where Redis is, and how he is told what is wrong with it.

use secrecy::ExposeSecret;

use super::TlsTrust;
use super::tests::Place;

#[test]
fn redis_is_found_by_its_url_and_the_single_keys_say_what_it_leaves_out() {
    let place = Place::minimal().env("REDIS_URL", "rediss://me:p%40ss@cache.internal:6380/2");
    let loaded = place.load();
    let q = &loaded.config.queue;
    assert_eq!((q.host.as_str(), q.port, q.database), ("cache.internal", 6380, 2));
    assert_eq!((q.username.as_deref(), q.password.as_ref().unwrap().expose_secret()), (Some("me"), "p@ss"));
    assert!(matches!(q.tls, Some(TlsTrust::System)));
    assert_eq!(q.address(), "cache.internal:6380/2 (TLS)");
    let shown = loaded.to_string();
    assert!(shown.contains("redis.url = \"***\" # REDIS_URL, from environment"), "{shown}");
    for (name, value, env) in [
        ("host", "cache.internal", "HOST"),
        ("port", "6380", "PORT"),
        ("username", "me", "USERNAME"),
        ("password", "***", "PASSWORD"),
        ("db", "2", "DB"),
        ("tls", "true", "TLS"),
    ] {
        let line = format!("redis.{name} = \"{value}\" # REDIS_{env}, from REDIS_URL in environment");
        assert!(shown.contains(&line), "{line}: {shown}");
    }
    assert!(!shown.contains("p@ss") && !shown.contains("p%40ss"), "{shown}");
    let secrets: Vec<_> = loaded.secrets.iter().map(|s| s.expose_secret().to_owned()).collect();
    assert!(secrets.contains(&"p@ss".to_owned()), "also without the URL around it");

    let place = Place::minimal()
        .file("pw", "from-file\n")
        .env("REDIS_URL", "redis://[::1]")
        .env("REDIS_PASSWORD_FILE", "pw")
        .env("REDIS_DB", "7")
        .env("REDIS_PORT", "6380");
    let q = place.load().config.queue;
    assert_eq!((q.host.as_str(), q.port, q.database, q.tls.is_none()), ("::1", 6380, 7, true));
    assert_eq!((q.password.as_ref().unwrap().expose_secret(), q.address()), ("from-file", "[::1]:6380/7".to_owned()));
}

#[test]
fn a_key_that_somebody_set_contradicts_the_url_though_it_says_the_default() {
    let url = "redis://cache:6380/2";
    for (key, value) in [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", "6379"), ("REDIS_DB", "0"), ("REDIS_TLS", "true")] {
        for place in [
            Place::minimal().env("REDIS_URL", url).env(key, value),
            Place::minimal().env("REDIS_URL", url).file(".env", &format!("{key}={value}\n")),
        ] {
            let errors = place.errors();
            assert!(errors.contains("has 1 error:") && errors.contains(&format!("REDIS_URL, {key}: ")), "{errors}");
        }
    }
    // A copy of the defaults as the file chooses nothing.
    let q = Place::minimal().env("REDIS_URL", url).file("etc.toml", super::DEFAULT_TOML).load().config.queue;
    assert_eq!((q.host.as_str(), q.port, q.database), ("cache", 6380, 2));
}

#[test]
fn the_redis_url_is_a_secret_that_may_come_from_a_file() {
    let place = Place::minimal().file("url", "redis://:hunter22@cache/1\n").env("REDIS_URL_FILE", "url");
    let loaded = place.load();
    assert_eq!((loaded.config.queue.host.as_str(), loaded.config.queue.database), ("cache", 1));
    assert!(!loaded.to_string().contains("hunter22"));
    assert!(!format!("{:?}", loaded.config.queue).contains("hunter22"));
}

#[test]
fn database_and_tls_work_without_a_url_too() {
    let q = Place::minimal().env("REDIS_DB", "3").env("REDIS_TLS", "true").load().config.queue;
    assert_eq!((q.database, matches!(q.tls, Some(TlsTrust::System))), (3, true));
    assert!(Place::minimal().load().config.queue.tls.is_none());
}

#[test]
fn a_key_that_contradicts_the_redis_url_is_an_error_that_names_both_and_no_password() {
    let place = Place::minimal()
        .env("REDIS_URL", "redis://me:hunter22@cache:6380/2")
        .env("REDIS_HOST", "other")
        .env("REDIS_PORT", "6381")
        .env("REDIS_USERNAME", "you")
        .env("REDIS_PASSWORD", "hunter23")
        .env("REDIS_DB", "3")
        .env("REDIS_TLS", "true");
    let errors = place.errors();
    for key in ["REDIS_HOST", "REDIS_PORT", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_DB", "REDIS_TLS"] {
        assert!(errors.contains(&format!("REDIS_URL, {key}: ")), "{key} in {errors}");
    }
    assert!(!errors.contains("hunter2"), "{errors}");
    let same =
        Place::minimal().env("REDIS_URL", "redis://me:pw@cache:6380/2").env("REDIS_HOST", "cache").env("REDIS_PORT", "6380");
    same.env("REDIS_USERNAME", "me").env("REDIS_PASSWORD", "pw").env("REDIS_DB", "2").env("REDIS_TLS", "off").load();
}

#[test]
fn a_file_of_authorities_has_to_hold_certificates_and_to_be_of_use() {
    let place = Place::minimal().file("ca.pem", "not a certificate").env("REDIS_TLS_CA_FILE", "ca.pem");
    assert!(place.errors().contains("uses no TLS"), "{}", place.errors());
    let place = place.env("REDIS_TLS", "true");
    assert!(place.errors().contains("holds no certificate") && place.errors().contains("openssl x509"), "{}", place.errors());
    let place = Place::minimal().env("REDIS_TLS_CA_FILE", "nowhere.pem").env("REDIS_TLS", "true");
    assert!(place.errors().contains("cannot be read"), "{}", place.errors());
}

#[test]
fn what_people_write_beside_a_host_is_refused_at_the_start_with_its_cure() {
    for (host, cure) in [
        ("cache:6380", "REDIS_PORT"),
        ("10.0.0.1:6380", "REDIS_PORT"),
        ("[::1]", "without them"),
        ("[::1]:6380", "without them"),
        ("redis://cache", "REDIS_URL"),
        ("rediss://:hunter22@cache:6380/1", "REDIS_URL"),
        ("tcp://cache:6379", "REDIS_URL"),
        ("cache ", "take it out"),
        ("cache\n", "take it out"),
        ("cache/0", "not a host name"),
        ("/run/redis.sock", "Unix sockets"),
    ] {
        let errors = Place::minimal().env("REDIS_HOST", host).errors();
        assert!(errors.contains("REDIS_HOST (redis.host), from environment") && errors.contains(cure), "{host:?}: {errors}");
        assert!(!errors.contains("hunter22"), "{errors}");
    }
    for host in ["::1", "fe80::1%eth0", "cache", "my_redis", "10.0.0.1", "cache.internal."] {
        assert_eq!(Place::minimal().env("REDIS_HOST", host).load().config.queue.host, host);
    }
}

#[test]
fn a_blank_or_a_new_line_at_the_ends_of_a_secret_or_a_name_is_refused_at_the_start() {
    let full = || {
        Place::new()
            .env("API_KEY", "k")
            .env("REGISTRY_HOST", "r.example")
            .env("REGISTRY_USERNAME", "octo")
            .env("REGISTRY_PASSWORD", "pw")
            .env("REDIS_USERNAME", "me")
            .env("REDIS_PASSWORD", "pw")
    };
    full().load();
    for name in ["API_KEY", "REGISTRY_USERNAME", "REGISTRY_PASSWORD", "REDIS_USERNAME", "REDIS_PASSWORD"] {
        for value in ["hunter22\n", "hunter22\r\n", "hunter22 ", " hunter22"] {
            let errors = full().env(name, value).errors();
            assert!(errors.contains("has 1 error:") && errors.contains(&format!("{name} (")), "{errors}");
            assert!(errors.contains("ake it out"), "{errors}");
            assert!(name.ends_with("NAME") || !errors.contains("hunter22"), "{errors}");
        }
    }
    for name in ["REDIS_QUEUE_NAME", "REDIS_CANCEL_CHANNEL_NAME", "REDIS_URL", "REGISTRY_HOST"] {
        assert!(full().env(name, "x\n").errors().contains(&format!("{name} (")), "{name}");
    }
    let errors = Place::new()
        .env("API_KEY", "k")
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_ACCESS_KEY_ID", "AKIA\n")
        .env("AWS_SECRET_ACCESS_KEY", "x");
    assert!(errors.errors().contains("AWS_ACCESS_KEY_ID (aws.access_key_id), from environment: the value ends with a new line"));
}

#[test]
fn what_other_programs_call_a_setting_of_redis_is_named_with_ours() {
    let warnings = Place::minimal().env("REDIS_SSL", "true").env("REDIS_DATABASE", "2").env("REDIS_ADDR", "x:1").load().warnings;
    for part in [
        "REDIS_SSL is no setting of Slipway and has no effect; did you mean REDIS_TLS?",
        "REDIS_DB?",
        "REDIS_HOST and REDIS_PORT?",
    ] {
        assert!(warnings.iter().any(|w| w.contains(part)), "{part}: {warnings:?}");
    }
    assert!(Place::minimal().env("REDIS_SSL", "true").env("REDIS_TLS", "false").load().warnings.is_empty());
}
