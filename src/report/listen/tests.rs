//! A worker and a follower, seen from outside over HTTP.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;

#[derive(Clone, Default)]
struct Terminal(Arc<Mutex<Vec<u8>>>);

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Dashboard {
    url: String,
    http: reqwest::Client,
    terminal: Terminal,
    stop: CancellationToken,
    serving: tokio::task::JoinSet<Result<String, ListenError>>,
}

impl Dashboard {
    async fn start() -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap());
        let config = ListenConfig {
            address: listener.local_addr().unwrap(),
            base_path: "/api".into(),
            key: Some("k3y".into()),
            screen: Screen { colours: false },
        };
        let (terminal, stop) = (Terminal::default(), CancellationToken::new());
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(serve(listener, config, terminal.clone(), stop.clone()));
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self { url, http: reqwest::Client::new(), terminal, stop, serving }
    }
    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> u16 {
        let request = self.http.post(format!("{}/{path}", self.url)).header("x-api-key", "k3y").body(body);
        request.send().await.unwrap().status().as_u16()
    }
    async fn log(&self, id: &str, text: &str) -> u16 {
        self.post(&format!("webhooks/deployments/{id}/logs"), json!({"text": text, "type": "STDOUT"}).to_string()).await
    }
    async fn status(&self, id: &str, body: serde_json::Value) -> u16 {
        self.post(&format!("webhooks/deployments/{id}/status"), body.to_string()).await
    }
    async fn follow(&self, path: &str) -> reqwest::Response {
        let request = self.http.get(format!("{}/follow/{path}", self.url)).header("x-api-key", "k3y");
        request.send().await.unwrap()
    }
    async fn end(mut self) -> (String, String) {
        self.stop.cancel();
        let summary = self.serving.join_next().await.unwrap().unwrap().unwrap();
        let shown = self.terminal.0.lock().unwrap().clone();
        (summary, String::from_utf8(shown).unwrap())
    }
}

#[tokio::test]
async fn a_deployment_is_shown_from_its_first_line_to_its_image() {
    let dashboard = Dashboard::start().await;
    assert_eq!(dashboard.status("dpl_1", json!({"status": "BUILDING"})).await, 200);
    assert_eq!(dashboard.log("dpl_1", "Step 1\n\u{1b}[31mStep 2").await, 200);
    let built = json!({"status": "BUILDED", "data": {"containerImageUri": "r/s:d@sha256:00", "containerRegistryType": "docker"}});
    assert_eq!(dashboard.status("dpl_1", built).await, 200);
    assert_eq!(dashboard.status("dpl_2", json!({"status": "FAILED", "error": "no such branch"})).await, 200);
    let (summary, shown) = dashboard.end().await;
    let expected = "dpl_1                * BUILDING\ndpl_1                | Step 1\ndpl_1                | Step 2\n\
                    dpl_1                * BUILDED r/s:d@sha256:00\ndpl_2                * FAILED no such branch\n";
    assert_eq!(shown, expected);
    assert_eq!(summary, "deployments: 1 BUILDED, 1 FAILED");
}

#[tokio::test]
async fn it_answers_as_the_measured_server() {
    let dashboard = Dashboard::start().await;
    let logs = "webhooks/deployments/dpl_1/logs";
    let bare = dashboard.http.post(format!("{}/{logs}", dashboard.url)).body("{}");
    assert_eq!(bare.send().await.unwrap().status(), 401, "no key");
    assert_eq!(dashboard.log("dpl_1", &"x".repeat(65_535)).await, 200);
    assert_eq!(dashboard.log("dpl_1", &"x".repeat(65_536)).await, 500);
    assert_eq!(dashboard.log("dpl_1", "").await, 400);
    assert_eq!(dashboard.post(logs, r#"{"text":"x","type":"DEBUG"}"#).await, 500);
    assert_eq!(dashboard.status("dpl_1", json!({"status": "BUILT"})).await, 500);
    assert_eq!(dashboard.post(logs, "x".repeat(4 * 1024 * 1024)).await, 413);
    assert_eq!(dashboard.log("..", "x").await, 404);
    dashboard.end().await;
}

#[tokio::test]
async fn a_follower_gets_the_past_the_rest_and_the_end() {
    let dashboard = Dashboard::start().await;
    dashboard.log("dpl_1", "before").await;
    let following = dashboard.follow("dpl_1").await;
    let only_new = dashboard.follow("dpl_1?from=now").await;
    dashboard.log("dpl_2", "another deployment's").await;
    dashboard.log("dpl_1", "after").await;
    dashboard.status("dpl_1", json!({"status": "CANCELLED"})).await;
    let lines = following.text().await.unwrap();
    let expected = "{\"event\":\"log\",\"type\":\"STDOUT\",\"text\":\"before\"}\n{\"event\":\"log\",\"type\":\"STDOUT\",\"text\":\"after\"}\n\
                    {\"event\":\"status\",\"status\":\"CANCELLED\"}\n";
    assert_eq!(lines, expected);
    assert_eq!(only_new.text().await.unwrap().lines().count(), 2);
    dashboard.end().await;
}

#[tokio::test]
async fn it_ends_while_somebody_still_follows() {
    let dashboard = Dashboard::start().await;
    let following = dashboard.follow("dpl_1").await;
    dashboard.end().await;
    assert_eq!(following.text().await.unwrap(), "");
}

#[tokio::test]
async fn a_taken_address_is_named_with_the_cure() {
    let taken = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(address).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("--address"), "{error}");
}

#[tokio::test]
async fn without_a_key_it_stays_on_loopback() {
    let config = ListenConfig {
        address: "0.0.0.0:0".parse().unwrap(),
        base_path: "/api".into(),
        key: None,
        screen: Screen { colours: false },
    };
    assert!(matches!(run(config, Terminal::default()).await, Err(ListenError::NeedsKey(_))));
}

/// Paths and bodies from pieces that mean something to one of its layers, in an order that numbers choose; the same in each run.
#[tokio::test]
async fn three_hundred_generated_requests_bring_it_down_or_onto_the_screen_in_no_way() {
    const PATHS: [&str; 12] =
        ["webhooks", "deployments", "/", "//", "..", "%2e%2e", "%00", "dpl_1", "logs", "status", "%1b[2J", "follow?x=%0aFORGED"];
    const BODIES: [&str; 14] = [
        "{",
        "}",
        "\"text\"",
        "\"type\"",
        ":",
        ",",
        "\"STDOUT\"",
        "\"\\u001b[2J\\nFORGED\"",
        "[",
        "]",
        "1e999",
        "\"status\"",
        "null",
        "\u{1b}[2J\nFORGED",
    ];
    let dashboard = Dashboard::start().await;
    let mut number = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |n: usize| {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        (number >> 11) as usize % n
    };
    for n in 0..300 {
        let known = ["webhooks/deployments/dpl_1/logs", "webhooks/deployments/dpl_1/status"];
        let path = match n % 3 {
            0 => (0..below(6)).map(|_| PATHS[below(PATHS.len())]).collect(),
            _ => known[below(2)].to_owned(),
        };
        let mut body: String = (0..below(12)).map(|_| BODIES[below(BODIES.len())]).collect();
        if n % 50 == 0 {
            body = "[".repeat(100_000);
        }
        let status = dashboard.post(&path, body.clone()).await;
        assert!(matches!(status, 200 | 400 | 404 | 405 | 500), "{status} to {path}: {body}");
    }
    let forging = json!({"text": "a\r\u{1b}[2J\u{1b}]0;x\u{7}b", "type": "STDOUT"}).to_string();
    assert_eq!(dashboard.post("webhooks/deployments/dpl_1/logs", forging).await, 200);
    assert_eq!(dashboard.log("dpl_1", "still here").await, 200);
    let (_, screen) = dashboard.end().await;
    assert!(screen.contains("still here"), "{screen}");
    assert!(!screen.contains(['\u{1b}', '\r', '\u{7}']), "{screen:?}");
}
