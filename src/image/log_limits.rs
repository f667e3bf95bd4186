//! Whether BuildKit inside the Engine cuts the output of long steps: that is set in the Engine's own environment.

use std::path::Path;

use tokio::net::UnixStream;

const SIZE: &str = "BUILDKIT_STEP_LOG_MAX_SIZE";
const SPEED: &str = "BUILDKIT_STEP_LOG_MAX_SPEED";

/// Bytes, and bytes a second. (Not -1: a 20.10 Engine takes that for nothing at all.)
const PLENTY: i64 = 64 << 20;

/// Advice where the Engine that listens on `socket` cuts a step's output, or where that cannot be seen from here.
pub async fn log_limits(socket: &Path) -> Vec<String> {
    let listener = UnixStream::connect(socket).await.ok().and_then(|stream| stream.peer_cred().ok()?.pid());
    let environment = match listener {
        Some(pid) => tokio::task::spawn_blocking(move || environment_of_engine(pid)).await.ok().flatten(),
        None => None,
    };
    advice(environment.as_deref()).into_iter().collect()
}

/// `None`: it may not be read, or somebody else listens for the Engine (systemd does).
fn environment_of_engine(pid: i32) -> Option<Vec<u8>> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim() == "dockerd").then(|| std::fs::read(format!("/proc/{pid}/environ")).ok()).flatten()
}

/// PURE. `environment`: `NAME=value`, each ended by a zero byte.
fn advice(environment: Option<&[u8]>) -> Option<String> {
    let cut = "BuildKit cuts a step's output at 2 MiB and 200 KiB a second";
    let cure = format!("start it with {SIZE}=2147483647 and {SPEED}=2147483647 in its environment (systemctl edit docker)");
    let Some(environment) = environment else {
        return Some(format!("{cut} unless the Engine is told otherwise, which cannot be seen from here: {cure}."));
    };
    let value = |name: &str| {
        let mut entries = environment.split(|b| *b == 0).filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='));
        entries.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<i64>().ok())
    };
    let missing: Vec<&str> = [SIZE, SPEED].into_iter().filter(|name| value(name).is_none_or(|v| v < PLENTY)).collect();
    (!missing.is_empty()).then(|| format!("{cut}; the Engine's environment does not lift {}: {cure}.", missing.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_without_the_limits_lifted_is_named_with_the_cure() {
        let lifted = b"PATH=/bin\0BUILDKIT_STEP_LOG_MAX_SIZE=2147483647\0BUILDKIT_STEP_LOG_MAX_SPEED=2147483647\0";
        assert_eq!(advice(Some(lifted)), None);
        for speed in
            ["X_BUILDKIT_STEP_LOG_MAX_SPEED=2147483647", "BUILDKIT_STEP_LOG_MAX_SPEED=-1", "BUILDKIT_STEP_LOG_MAX_SPEED=9"]
        {
            let half = advice(Some(format!("BUILDKIT_STEP_LOG_MAX_SIZE=2147483647\0{speed}\0").as_bytes())).unwrap();
            assert!(half.contains("does not lift BUILDKIT_STEP_LOG_MAX_SPEED:"), "{half}");
        }
        assert!(advice(None).unwrap().contains("cannot be seen from here"));
    }
}
