//! The wall between services, attacked by a frontend of the tenant's own: what a `# syntax=` line can ask the Engine for, past the
//! rules of Dockerfiles.

use crate::support::*;

fn frontend() -> String {
    #[allow(clippy::disallowed_methods)]
    std::env::var("SLIPWAY_TEST_FRONTEND_IMAGE").expect("no frontend for tests: run \"make test\"")
}

/// A Dockerfile that the frontend reads instead of BuildKit's own: it runs `script` with what `wishes` ask for.
fn asking(wishes: &str, script: &str) -> slipway::context::BuildContext {
    dockerfile(&format!("# syntax={} {wishes} -- {script}\nFROM scratch\n", frontend()))
}

#[tokio::test]
async fn a_frontend_of_the_tenants_own_reads_no_other_services_cache_mount() {
    let _together = together().await;
    let host = Host::new().await;
    let (id, mark) = (unique("cache"), unique("victims"));
    let text = format!(
        "FROM busybox:base\nRUN --mount=type=cache,id={id},target=/a echo {mark} > /a/mark\n\
         RUN --mount=type=cache,target=/root/.cache echo {mark} > /root/.cache/mark\n"
    );
    let (victim, _) = built(&host, "svc-victim", dockerfile(&text)).await;
    // All that a stranger can know: the id, the path, the service, and the form of its own name space.
    let names = [id.as_str(), "/root/.cache", "root/.cache", "svc-victim", ""];
    let spaces = ["", "/", "svc-victim/", "slipway/", "slipway-/"];
    let wishes: Vec<String> =
        spaces.iter().flat_map(|space| names.iter().map(move |name| format!("cache={space}{name}"))).collect();
    let (attacker, log) = built(&host, "svc-attacker", asking(&wishes.join(" "), "cat /cache*/mark; echo looked; true")).await;
    assert!(log.text().contains("looked"), "{}", log.text());
    assert!(!log.text().contains(&mark), "{}", log.text());
    for image in [victim, attacker] {
        host.stage.remove(&image).await;
    }
}

#[tokio::test]
async fn a_frontend_of_the_tenants_own_is_told_no_secret_and_reaches_only_its_own_jobs() {
    let _together = together().await;
    let host = Host::pulling_from("registry.example", "puller", "the-pull-password").await;
    let theirs =
        with_secrets(dockerfile("FROM busybox:base\nRUN --mount=type=secret,id=TOKEN sleep 2\n"), &[("TOKEN", "of-the-victim")]);
    let mine =
        with_secrets(asking("secret=TOKEN secret=API_KEY", "echo $TOLD; cat /secret*; echo looked"), &[("TOKEN", "of-my-own")]);
    let ((victim, _), (attacker, log)) = tokio::join!(built(&host, "svc-victim", theirs), built(&host, "svc-attacker", mine));
    let said = log.text();
    assert!(said.contains("of-my-own") && said.contains("looked"), "{said}");
    for secret in ["of-the-victim", "the-pull-password", "0123456789abcdef"] {
        assert!(!said.contains(secret), "{secret} in\n{said}");
    }
    for image in [victim, attacker] {
        host.stage.remove(&image).await;
    }
}

#[tokio::test]
async fn a_frontend_of_the_tenants_own_gets_its_own_files_by_whatever_name_and_hint_it_asks() {
    let _together = together().await;
    let host = Host::new().await;
    let mark = unique("victims");
    let victims = context(&[("Dockerfile", b"FROM busybox:base\nCOPY . /app\n"), ("private", mark.as_bytes())]);
    let key = victims.shared_key.clone();
    let (victim, _) = built(&host, "svc-victim", victims).await;
    for wish in [
        "local=context".to_owned(),
        "local=dockerfile".to_owned(),
        format!("local=context,{key}"),
        format!("local=context,{key}:"),
        format!("local=context:{key}"),
    ] {
        let attacker = Attempt::new("svc-attacker", &unique("dpl"));
        let result = attacker.build(&host, asking(&wish, "cd /local0; ls; cat *; echo looked")).await;
        let said = attacker.log.text();
        assert!(!said.contains(&mark), "{wish}:\n{said}");
        match result {
            Ok(image) => host.stage.remove(&image).await,
            Err(failure) => assert!(wish.contains(':'), "{wish}: {failure}\n{said}"),
        }
    }
    host.stage.remove(&victim).await;
}

#[tokio::test]
async fn a_frontend_of_the_tenants_own_is_refused_the_hosts_network_and_a_privileged_step() {
    let _together = together().await;
    let host = Host::new().await;
    for (wish, refused) in [("network=host", "network.host"), ("security=insecure", "security.insecure")] {
        let (failure, log) = failed(&host, asking(wish, "echo got through")).await;
        assert!(!log.text().contains("got through"), "{}", log.text());
        assert!(failure.to_string().contains(refused), "{wish}: {failure}");
    }
}

#[tokio::test]
async fn a_frontend_of_the_tenants_own_finds_no_image_that_another_service_is_building() {
    let _together = together().await;
    let host = Host::new().await;
    let (victim, _) = built(&host, "svc-victim", dockerfile("FROM busybox:base\nRUN echo private > /private\n")).await;
    let hex = victim.id.trim_start_matches("sha256:");
    for name in [hex, &hex[..12], &format!("slipway-held:{}", &hex[..12]), "svc-victim:latest"] {
        let (failure, log) = failed(&host, asking(&format!("image={name}"), "cat /image0/private")).await;
        assert!(!log.text().contains("private\n"), "{name}: {failure}\n{}", log.text());
    }
    host.stage.remove(&victim).await;
}
