"""A process that says how it is as it was told to: `GET /be/blocked`, `/be/idle`, `/be/unsure`; or dies after its first
answer."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Pretending(BaseHTTPRequestHandler):
    how = "well"

    def do_GET(self) -> None:
        if self.path.startswith("/be/"):
            type(self).how = self.path.removeprefix("/be/")
        if self.how == "unsure" and self.path == "/health/ready":
            threading.Event().wait()
        blocked = self.how == "blocked" and self.path == "/health/live"
        idle = 1_000.0 if self.how == "idle" else 0.2
        body = json.dumps({"ready": True, "idle_with_lag_seconds": idle}).encode()
        self.send_response(503 if blocked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.how == "mortal" and self.path == "/health/ready":
            self.wfile.flush()
            print("I am mortal", flush=True)  # noqa: T201
            server.shutdown()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nobody reads it."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Pretending)
server.daemon_threads = True
Pretending.how = sys.argv[1]
print(json.dumps({"event": "starting", "management": f"http://127.0.0.1:{server.server_port}"}), flush=True)  # noqa: T201
server.serve_forever()
sys.exit(3)
