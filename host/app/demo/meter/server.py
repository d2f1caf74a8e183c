"""The service: `/quote?minutes=N` and `/health`."""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from meter.fees import fee


def answer(target):
    """Gives status and body for a request target."""
    url = urlsplit(target)
    if url.path == "/health":
        return 200, {"status": "ok"}
    if url.path != "/quote":
        return 404, {"error": "no such page"}
    try:
        minutes = int(parse_qs(url.query)["minutes"][0])
        return 200, {"minutes": minutes, "cents": fee(minutes)}
    except (KeyError, ValueError):
        return 400, {"error": "minutes must be a whole number from 0"}


class Handler(BaseHTTPRequestHandler):
    """Answers GET requests with JSON."""

    def do_GET(self):
        status, body = answer(self.path)
        payload = json.dumps(body, sort_keys=True).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format, *args):
        """Keeps quiet."""


def main():
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8080)
    port = parser.parse_args().port
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
