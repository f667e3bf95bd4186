//! The app is hostile: what its code sees while it is built, what it tries, and what stops it.

use std::time::Duration;

use super::app;
use crate::support::{Job, Repository, Rig, parts, unique};

/// Prints all that it can find; `REGISTRY` stands for the registry's address.
const SPY: &str = r#"
echo "spy: user $(id -u):$(id -g), $(grep CapEff /proc/self/status | tr '\t' ' '), $(grep NoNewPrivs /proc/self/status | tr '\t' ' ')"
echo "== environments"; for file in /proc/[0-9]*/environ; do tr '\0' '\n' <"$file"; done | sort -u
echo "== control files"; find /ctl -type f | while read -r file; do echo "$file:"; cat "$file"; done
echo "== homes"; find / -xdev \( -name 'config.json' -o -name '.docker' -o -name '.netrc' -o -name '*.pem' \) 2>/dev/null
echo "== sockets: $(find / -type s 2>/dev/null | wc -l)"
echo "== disks: $(ls /dev | grep -E '^(sd|vd|nvme|dm-)' | wc -l)"
ls /cache 2>&1; ls -d /var/run/docker.sock 2>&1
for path in /ctl/in/analyzed.toml /ctl/in/new /etc/new /cnb/order.toml /bin/new /proc/sys/kernel/core_pattern; do
    (echo x >>"$path") 2>/dev/null && echo "wrote $path" || echo "could not write $path"
done
for peer in REGISTRY 169.254.169.254:80; do
    nc -w 1 "${peer%:*}" "${peer#*:}" </dev/null 2>/dev/null && echo "reached $peer" || echo "could not reach $peer"
done
echo "== interfaces:" $(ip -o -4 addr show | awk '{print $2}')
echo "== processes: $(ls -d /proc/[0-9]* | wc -l)"
"#;

fn spy() -> String {
    SPY.replace("REGISTRY", &parts().registry)
}

/// What the spy printed in detect or build has nothing that is not the app's own.
fn assert_saw_nothing(rig: &Rig, job: &Job) {
    let log = rig.dashboard.log(&job.id);
    assert!(log.contains("spy: user 1000:1000, CapEff: 0000000000000000, NoNewPrivs: 1"), "{log}");
    // The job has no secret but the worker's own: a mask in its log is one that the app has seen. (The exporter prints stars too.)
    assert!(!log.replace("*** Images", "").contains("***"), "a secret was seen, and masked: {log}");
    for unwanted in ["DOCKER_CONFIG", "CNB_REGISTRY_AUTH=", "\"auths\"", "config.json", ".pem", "wrote /", "reached 1"] {
        let unwanted_line = log.lines().find(|line| line.contains(unwanted) && !line.contains("could not"));
        assert_eq!(unwanted_line, None, "{log}");
    }
    for wanted in ["== sockets: 0", "== disks: 0", "/cache: No such file", "/var/run/docker.sock: No such file"] {
        assert!(log.contains(wanted), "{wanted}: {log}");
    }
}

async fn spied(network: &str, interfaces: &str) {
    let mut rig = Rig::with(|options| options.set("BUILDPACKS_NETWORK", network)).await;
    let in_detect = Repository::public(&[("app.sh", "true\n"), ("detect.sh", &format!("{}exit 3\n", spy()))]);
    let detect = Job::of(&in_detect);
    rig.push(&detect).await;
    let in_build = app(&spy());
    let build = Job::of(&in_build);
    rig.push(&build).await;
    rig.failed(&detect, "buildpacks.detect_failed").await;
    rig.built(&build).await;
    for job in [&detect, &build] {
        assert_saw_nothing(&rig, job);
        let log = rig.dashboard.log(&job.id);
        assert!(log.contains(interfaces), "{interfaces}: {log}");
    }
    let warned = rig.host.log().contains("Buildpacks of every job reach the same by the bridge");
    assert_eq!(warned, network == "own", "what the bridge reaches is said at start");
    rig.finish().await;
}

#[tokio::test]
async fn on_a_bridge_of_its_own_the_app_finds_no_credential_no_socket_and_no_cache() {
    spied("own", "== interfaces: lo eth0").await;
}

#[tokio::test]
async fn without_a_network_the_app_finds_nobody_at_all() {
    spied("none", "== interfaces: lo\n").await;
}

#[tokio::test]
async fn control_files_planted_by_the_app_bring_no_other_tenants_image_and_no_file_of_root_into_its_own() {
    let mut rig = Rig::start().await;
    let other = rig.engine.push_cold_base(&unique(), 2048).await;
    let planting = app(&format!(
        "for folder in /layers /workspace; do
            printf '[run-image]\\nreference = \"{other}\"\\nimage = \"{other}\"\\n[image]\\nreference = \"{other}\"\\n' >$folder/analyzed.toml
            printf '[image]\\ndigest = \"sha256:{zeros}\"\\n' >$folder/report.toml
            printf 'group = []\\n' >$folder/group.toml
        done
        mkdir -p /layers/extended/run/blobs /layers/extended/build; echo planted >/layers/extended/run/planted
        chmod 4755 /layers/extended/run/planted
        mkfifo /layers/project-metadata.toml
        echo planted all\n",
        zeros = "0".repeat(64),
    ));
    let job = Job::of(&planting);
    rig.push(&job).await;
    let end = rig.built(&job).await;
    assert!(rig.dashboard.log(&job.id).contains("planted all"));
    let files = rig.registry.files(&end.image).await;
    for unwanted in ["noise", "planted"] {
        assert!(!files.iter().any(|file| file.ends_with(unwanted)), "{unwanted} in {files:?}");
    }
    assert!(files.iter().any(|file| file == "bin/busybox"), "it stands on the run image: {files:?}");
    assert!(!end.image.contains(&"0".repeat(64)));
    assert_eq!(rig.engine.run(&end.image).await, "hello, port unset\n");
    rig.finish().await;
}

#[tokio::test]
async fn forged_labels_of_an_image_do_no_harm_to_the_next_build_of_its_service() {
    let mut rig = Rig::start().await;
    let forged = |metadata: &str| {
        app(&format!(
            "cat >>\"$CNB_LAYERS_DIR/launch.toml\" <<'T'\n[[labels]]\nkey = \"io.buildpacks.lifecycle.metadata\"\nvalue = '''{metadata}'''\nT\n"
        ))
    };
    let zeros = "0".repeat(64);
    let climbing = forged(&format!(
        r#"{{"buildpacks":[{{"key":"slipway/shell","version":"1.0.0","layers":{{"../../ctl/out/analyzed":{{"sha":"sha256:{zeros}","launch":true,"data":{{"run-image":"evil"}}}}}}}}]}}"#
    ));
    let missing_layer = forged(&format!(r#"{{"buildpacks":[],"sbom":{{"sha":"sha256:{zeros}"}}}}"#));
    let mut pairs = Vec::new();
    for repository in [&climbing, &missing_layer] {
        let job = Job::of(repository);
        rig.push(&job).await;
        pairs.push(job);
    }
    for job in &pairs {
        let end = rig.built(job).await;
        let labels = rig.registry.config(&end.image).await["config"]["Labels"].to_string();
        assert!(labels.contains(&zeros), "the forgery stands in the image: {labels}");
    }
    let innocent = app("ls -R /layers\n");
    let mut next = Vec::new();
    for job in &pairs {
        let job = Job::of(&innocent).service(&job.service);
        rig.push(&job).await;
        next.push(job);
    }
    for job in &next {
        let end = rig.built(job).await;
        assert_eq!(rig.engine.run(&end.image).await, "hello, port unset\n");
    }
    let log = rig.dashboard.log(&next[1].id);
    assert!(log.contains("The previous image's metadata cannot be read: building without its layers."), "{log}");
    rig.finish().await;
}

#[tokio::test]
async fn fifos_and_background_processes_that_hang_a_phase_end_with_its_deadline() {
    let mut rig = Rig::with(|options| options.builds(3).set("BUILDPACKS_PHASE_TIMEOUT", "12")).await;
    let attacks = [
        ("build", "rm -f \"$CNB_LAYERS_DIR/greeting.toml\"; mkfifo \"$CNB_LAYERS_DIR/greeting.toml\"\n"),
        ("export", "mkfifo \"$CNB_LAYERS_DIR/greeting.sha\"\n"),
        ("build", "sleep 600 &\n"),
    ];
    let mut jobs = Vec::new();
    for (phase, attack) in attacks {
        let repository = app(attack);
        let job = Job::of(&repository);
        rig.push(&job).await;
        jobs.push((phase, job, repository));
    }
    for (phase, job, _) in &jobs {
        let error = rig.failed(job, "build.timeout").await;
        assert!(error.contains(&format!("The {phase} phase took longer than 12 s")), "{error}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn endless_links_and_sparse_files_end_with_a_limit_that_is_named() {
    let limits = |options: crate::support::WorkerOptions| {
        options.builds(3).set("BUILDPACKS_MEMORY", "128MiB").set("BUILDPACKS_FILE_BYTES", "32MiB")
    };
    let mut rig = Rig::with(limits).await;
    let attacks = [
        ("buildpacks.memory", "The export phase needed more than 128 MiB", "ln -s /dev/zero \"$CNB_LAYERS_DIR/greeting.sha\"\n"),
        (
            "buildpacks.file_too_large",
            "The build phase wrote a file of more than 32 MiB",
            "dd if=/dev/zero of=sparse bs=1 count=1 seek=3000000000\n",
        ),
        (
            "buildpacks.file_too_large",
            "The export phase wrote a file of more than 32 MiB",
            "for n in 1 2; do dd if=/dev/zero of=sparse$n bs=1 count=1 seek=30000000; done\n",
        ),
    ];
    let mut jobs = Vec::new();
    for (code, words, attack) in attacks {
        let repository = app(attack);
        let job = Job::of(&repository);
        rig.push(&job).await;
        jobs.push((code, words, job, repository));
    }
    for (code, words, job, _) in &jobs {
        let error = rig.failed(job, code).await;
        assert!(error.contains(words), "{words}: {error}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn links_in_the_apps_archive_lead_nowhere() {
    let mut rig = Rig::start().await;
    let repository = app(
        "ls -l out secrets\ncat secrets && echo read || echo unreadable\necho x >out/planted && echo written || echo refused\n",
    );
    let links: [(&str, &str, &[u8]); 3] =
        [("out", "120000", b"/cache"), ("secrets", "120000", b"/proc/1/environ"), ("up", "120000", b"../../../../etc/shadow")];
    repository.commit_raw("main", &links);
    let job = Job::of(&repository);
    rig.push(&job).await;
    let end = rig.built(&job).await;
    let log = rig.dashboard.log(&job.id);
    assert!(log.contains("refused") && !log.contains("written") && !log.replace("*** Images", "").contains("***"), "{log}");
    assert_eq!(
        rig.registry.file(&end.image, "workspace/secrets").await,
        Some(Vec::new()),
        "a link, nothing of what it points to"
    );

    // A tree that has a link and a directory of one name: the archive would put a file through the link.
    let repository = app("true\n");
    let blob = |content: &str| repository.commit(&[("blob", content)]);
    blob("/layers");
    let link = repository.git(&["rev-parse", "main:blob"]);
    blob("planted");
    let file = repository.git(&["rev-parse", "main:blob"]);
    let inner = repository.make_tree(&format!("100644 blob {file}\tanalyzed.toml\n"));
    let script = repository.git(&["rev-parse", "main:app.sh"]);
    let listing = format!("100644 blob {script}\tapp.sh\n120000 blob {link}\tl\n040000 tree {inner}\tl\n");
    repository.force_main_to_tree(&repository.make_tree(&listing));
    let job = Job::of(&repository);
    rig.push(&job).await;
    let end = rig.end(&job).await;
    assert_eq!(end.status, "FAILED", "{}", rig.dashboard.log(&job.id));
    assert!(end.error.contains("[source.bad_path]"), "{}", end.error);
    rig.finish().await;
}

#[tokio::test]
async fn an_app_that_prints_without_end_fills_no_disk_and_is_ended_by_the_deadline() {
    let mut rig = Rig::with(|options| options.set("BUILDPACKS_PHASE_TIMEOUT", "8").set("LOG_MAX_BYTES", "1MiB")).await;
    let repository = app("yes this line comes again and again\n");
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "again and again", Duration::from_secs(30)).await;
    let error = tokio::select! {
        error = rig.failed(&job, "build.timeout") => error,
        never = journals_stay_below(&rig, 4 << 20) => never,
    };
    assert!(error.contains("The build phase took longer than 8 s"), "{error}");
    rig.finish().await;
}

/// Looks again and again; never returns.
async fn journals_stay_below(rig: &Rig, limit: u64) -> String {
    loop {
        let sizes = rig.host.journal_files();
        let bytes: u64 = sizes.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len()).sum();
        assert!(bytes < limit, "{bytes} bytes of journals");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
