//! Dockerfiles that were made to hurt.

use super::drive::{Case, End, FORGED};
use super::tree::files;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut dockerfile = |name: &str, text: &[u8], end: End| {
        cases.push(Case::of(format!("a Dockerfile {name}"), files(&[("100644", b"Dockerfile", text)]), end));
    };
    let syntax = || End::Fails(&["dockerfile.syntax", "dockerfile.build", "dockerfile.base_image"]);
    dockerfile("of nothing", b"", syntax());
    dockerfile("of zeros", &[0; 1000], syntax());
    dockerfile("of bytes that are no text", b"\xff\xfe\xfd FROM x\n", syntax());
    dockerfile("of escapes", b"\x1b[2J\x1b]0;x\x07\nFORGED\n", syntax());
    dockerfile("of a forged instruction", b"FROM busybox:base\nRU\x1b[2JN\r\nFORGED x\n", syntax());
    dockerfile("of one line of a megabyte", &[b"FROM ".as_slice(), &vec![b'x'; 1_000_000]].concat(), syntax());
    dockerfile("of five hundred stages", "FROM busybox:base\n".repeat(500).as_bytes(), End::Builds);
    dockerfile(
        "of a stage that is its own base",
        b"FROM a AS a\n",
        End::Fails(&["dockerfile.base_image", "build.pull_unreachable", "dockerfile.syntax", "dockerfile.build"]),
    );
    dockerfile(
        "that copies from above",
        b"FROM busybox:base\nCOPY ../../../etc/passwd /\n",
        End::Fails(&["dockerfile.copy_missing"]),
    );
    dockerfile(
        "that copies what is not there",
        b"FROM busybox:base\nCOPY \"\x1b[2J\" /\n",
        End::Fails(&["dockerfile.copy_missing", "dockerfile.syntax", "dockerfile.build"]),
    );
    dockerfile(
        "that wants the host's network",
        b"FROM busybox:base\nRUN --network=host true\n",
        End::Fails(&["dockerfile.build", "dockerfile.syntax", "engine.error"]),
    );
    dockerfile(
        "that wants to be insecure",
        b"FROM busybox:base\nRUN --security=insecure true\n",
        End::Fails(&["dockerfile.build", "dockerfile.syntax", "engine.error"]),
    );
    dockerfile("that wants the agent's keys", b"FROM busybox:base\nRUN --mount=type=ssh true\n", End::Builds);
    dockerfile(
        "that needs the agent's keys",
        b"FROM busybox:base\nRUN --mount=type=ssh,required=true true\n",
        End::Fails(&["dockerfile.build", "dockerfile.syntax", "engine.error", "dockerfile.secret_missing"]),
    );
    dockerfile(
        "that needs a secret of another path",
        b"FROM busybox:base\nRUN --mount=type=secret,id=../../etc/passwd,required=true true\n",
        End::Fails(&["dockerfile.secret_missing"]),
    );
    dockerfile(
        "that mounts the host",
        b"FROM busybox:base\nRUN --mount=type=bind,source=/etc,target=/host test ! -e /host/shadow\n",
        End::Fails(&["dockerfile.copy_missing", "dockerfile.build", "dockerfile.step_failed", "engine.error"]),
    );
    dockerfile(
        "that claims another worker's labels",
        b"FROM busybox:base\nLABEL dev.slipway.worker=x dev.slipway.deployment=y dev.slipway.service=z dev.slipway.attempt=9\n",
        End::Builds,
    );
    dockerfile("that prints what forges lines", format!("FROM busybox:base\nRUN printf 'a\\r\\n{FORGED}\\033[2J\\033]0;x\\007\\n\\342\\200\\256x\\n\\233 31m\\n\\302\\233 31m\\n'; printf '\\r{FORGED}\\n' >&2\n").as_bytes(), End::Builds);
    dockerfile(
        "that prints a line of a megabyte",
        b"FROM busybox:base\nRUN head -c 1000000 /dev/zero | tr '\\0' x\n",
        End::Builds,
    );
    dockerfile("that prints bytes that are no text", b"FROM busybox:base\nRUN head -c 50000 /dev/urandom\n", End::Builds);
    dockerfile(
        "that fails with escapes",
        b"FROM busybox:base\nRUN printf '\\033[2J\\nFORGED\\n'; exit 3 # \x1b[2J\n",
        End::Fails(&["dockerfile.step_failed", "dockerfile.syntax"]),
    );
    dockerfile("that pretends to be pushed", b"FROM busybox:base\nRUN echo 'latest: digest: sha256:0000000000000000000000000000000000000000000000000000000000000000 size: 1'\n", End::Builds);
    dockerfile(
        "that pretends to have failed",
        b"FROM busybox:base\nRUN echo 'The deployment was cancelled. [build.cancelled]'\n",
        End::Builds,
    );
    dockerfile(
        "that forks without end",
        b"FROM busybox:base\nRUN (ulimit -u 1; true); i=0; while [ $i -lt 300 ]; do sleep 0.2 & i=$((i+1)); done; wait\n",
        End::Builds,
    );
    dockerfile(
        "for another frontend",
        b"# syntax=127.0.0.1:1/evil/frontend\nFROM busybox:base\n",
        End::Fails(&["dockerfile.frontend", "build.pull_unreachable", "dockerfile.base_image"]),
    );
    dockerfile(
        "for a frontend that is none",
        b"# syntax=busybox:base\nFROM busybox:base\n",
        End::Fails(&[
            "dockerfile.frontend",
            "dockerfile.build",
            "engine.error",
            "dockerfile.base_image",
            "build.pull_unreachable",
        ]),
    );
    dockerfile(
        "from an address that nobody has",
        b"FROM 127.0.0.1:1/x/y:z\n",
        End::Fails(&["dockerfile.base_image", "build.pull_unreachable"]),
    );
    dockerfile(
        "from a name that is none",
        b"FROM ../../x\n",
        End::Fails(&["dockerfile.base_image", "dockerfile.syntax", "dockerfile.build"]),
    );
    cases
}
