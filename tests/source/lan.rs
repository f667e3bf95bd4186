//! A private network of the test's own: this process again, in a network namespace, beside a second namespace with servers.
//!
//! 10.99.0.1 is the worker's host. On 10.99.0.2 listen: 8000 a web server without the repository, 8001 one with a page in its place,
//! 8002 git over HTTP, 8003 a server that answers with nothing. Every other port is closed, and nobody has 10.99.0.3.

use std::path::Path;
use std::process::Command;

/// Set in the process that runs inside.
const INSIDE: &str = "SLIPWAY_TEST_INSIDE_LAN";

const SERVERS: &str = r#"
import http.server, os, socketserver, sys, threading
sys.path.insert(0, sys.argv[1])
import git_http
root, ready = sys.argv[2:]
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.server.server_address[1] == 8001 else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>the router's own page</html>")
class Silent(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(65536)
git_http.Handler.root = root
servers = [http.server.ThreadingHTTPServer(("10.99.0.2", port), Page) for port in (8000, 8001)]
servers += [git_http.Server(("10.99.0.2", 8002), git_http.Handler), socketserver.ThreadingTCPServer(("10.99.0.2", 8003), Silent)]
for server in servers:
    threading.Thread(target=server.serve_forever).start()
open(ready, "w").close()
"#;

const NETWORK: &str = r#"
set -eu
ip link set lo up
unshare -n sleep 600 &
far=$!
trap 'kill $far $servers 2>/dev/null' EXIT
servers=
while [ "$(readlink /proc/$far/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link add near type veth peer name far netns $far
ip addr add 10.99.0.1/24 dev near
ip link set near up
nsenter -t $far -n ip addr add 10.99.0.2/24 dev far
nsenter -t $far -n ip link set far up
nsenter -t $far -n python3 -c "$servers_py" "$rig" "$root" "$ready" &
servers=$!
while [ ! -e "$ready" ]; do kill -0 $servers; sleep 0.01; done
"$@"
"#;

/// Whether this process is inside. If not, runs the test of this name inside, over the repositories in `root`, and checks that it passes.
#[allow(clippy::disallowed_methods, reason = "the test process inside is told so by its environment")]
pub fn is_inside(test: &str, root: &Path) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let options: &[&str] = if rustix::process::geteuid().is_root() { &["-n"] } else { &["-r", "-n"] };
    let rig = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rig");
    let output = Command::new("unshare")
        .args(options)
        .args(["sh", "-c", NETWORK, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, root)
        .env("servers_py", SERVERS)
        .env("rig", rig)
        .env("root", root)
        .env("ready", root.join("ready"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "inside: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    false
}
