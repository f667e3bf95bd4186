"""A small threaded HTTP server in front of the real `git http-backend`: `git_http.py ROOT PORT_FILE`.

Repositories under `private/` want GIT_HTTP_USER and GIT_HTTP_TOKEN by Basic auth, all others are open. Reading only.
Request and response are streamed. What a repository allows (single commits, partial clones) is in its own git config.
"""

import base64
import hmac
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK = 64 * 1024


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root = ""
    login = b""

    def do_GET(self):
        self.serve()

    def do_POST(self):
        self.serve()

    def serve(self):
        path, _, query = self.path.partition("?")
        if "/../" in path or "receive-pack" in self.path:
            return self.refuse(403)
        if path.lstrip("/").startswith("private/") and not self.is_authorized():
            return self.refuse(401, {"WWW-Authenticate": 'Basic realm="git"'})
        backend = subprocess.Popen(
            ["git", "http-backend"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            env=self.cgi_environment(path, query),
            start_new_session=True,
        )
        feeder = threading.Thread(target=self.feed, args=(backend.stdin,), daemon=True)
        feeder.start()
        try:
            self.answer(backend.stdout)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            # The client has gone or has all of it: upload-pack has nothing more to say.
            try:
                os.killpg(backend.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            backend.wait()
            backend.stdout.close()
        feeder.join(1)
        if feeder.is_alive():
            self.close_connection = True

    def is_authorized(self):
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        try:
            return kind.lower() == "basic" and hmac.compare_digest(base64.b64decode(value), self.login)
        except ValueError:
            return False

    def refuse(self, status, headers=None):
        self.close_connection = True
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def cgi_environment(self, path, query):
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": self.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REMOTE_ADDR": self.client_address[0],
        }
        for variable, header in {
            "CONTENT_TYPE": "Content-Type",
            "CONTENT_LENGTH": "Content-Length",
            "HTTP_CONTENT_ENCODING": "Content-Encoding",
            "GIT_PROTOCOL": "Git-Protocol",
        }.items():
            if self.headers.get(header):
                env[variable] = self.headers[header]
        return env

    def feed(self, stdin):
        """The request's body, by length or in chunks, to the backend."""
        try:
            with stdin:
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        self.copy(size, stdin)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    self.copy(int(self.headers.get("Content-Length") or 0), stdin)
        except (OSError, ValueError):
            self.close_connection = True

    def copy(self, size, stdin):
        while size > 0:
            data = self.rfile.read(min(size, CHUNK))
            if not data:
                raise ConnectionResetError
            stdin.write(data)
            stdin.flush()
            size -= len(data)

    def answer(self, stdout):
        """The backend's CGI answer, in chunks as they come."""
        status, headers = 200, []
        while (line := stdout.readline()).strip():
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower() == "status":
                status = int(value.split()[0])
            else:
                headers.append((name, value.strip()))
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while data := stdout.read1(CHUNK):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    root, port_file = sys.argv[1:]
    Handler.root = root
    Handler.login = f"{os.environ['GIT_HTTP_USER']}:{os.environ['GIT_HTTP_TOKEN']}".encode()
    server = Server(("127.0.0.1", 0), Handler)
    with open(port_file + ".new", "w") as f:
        f.write(str(server.server_address[1]))
    os.rename(port_file + ".new", port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
