"""A small hub: the part of the protocol that a download uses, served on this machine, with faults on demand.

Repository info, the tree (two entries a page), HEAD and GET on resolve addresses with ETag, X-Repo-Commit
and X-Linked-* headers, large files redirected to a store under another host name, Range requests.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = hashlib.sha1(b"the only commit").hexdigest()
PAGE = 2
SMALL_BYTES = 512  # what is shorter lies in git itself


@dataclass
class Fault:
    """What goes wrong with one answer of a file's bytes."""

    cut_at: int | None = None  # the connection ends before this byte of the answer
    flip_at: int | None = None  # this byte of the file is another
    status: int | None = None


@dataclass
class HubServer:
    """Files of one dataset repository, and what was asked of them."""

    repo: str
    files: dict[str, bytes]
    branches: tuple[str, ...] = ("main",)
    ranges: bool = True  # whether the store knows Range
    bytes_per_second: float = 0.0  # 0: as fast as it goes
    lists_wrong: set[str] = field(default_factory=set)  # served under another checksum than listed
    faults: dict[str, list[Fault]] = field(default_factory=dict)  # of the next answers, one each
    log: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, file, Range
    logins: list[str] = field(default_factory=list)  # addresses that an Authorization header reached
    url: str = ""

    def asked(self, name: str) -> list[str | None]:
        """The Range of every GET of a file's bytes, by its name."""
        return [range_ for method, path, range_ in self.log if method == "GET" and path.endswith(name)]

    @contextmanager
    def running(self) -> Iterator["HubServer"]:
        handler = type("Handler", (_Handler,), {"hub": self})
        server = _Server(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def large(content: bytes) -> bool:
    return len(content) >= SMALL_BYTES


def etag(content: bytes) -> str:
    if large(content):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed or gave up is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.headers.get("Authorization"):
            self.hub.logins.append(self.headers["Host"] + self.path)
        address = urlsplit(unquote(self.path))
        api, place = f"/api/datasets/{self.hub.repo}", f"/datasets/{self.hub.repo}/resolve/"
        if address.path.startswith(f"{api}/revision/"):
            self._info(address.path.removeprefix(f"{api}/revision/"))
        elif address.path.startswith(f"{api}/tree/{COMMIT}"):
            folder = address.path.removeprefix(f"{api}/tree/{COMMIT}").strip("/")
            self._tree(folder, int(parse_qs(address.query).get("cursor", ["0"])[0]))
        elif address.path.startswith(place):
            commit, _, name = address.path.removeprefix(place).partition("/")
            self._resolve(commit, name)
        elif address.path.startswith("/store/"):
            self._bytes(address.path.removeprefix("/store/"))
        else:
            self._refuse(404, "RepoNotFound")

    def _info(self, revision: str) -> None:
        if revision not in (*self.hub.branches, COMMIT):
            return self._refuse(404, "RevisionNotFound")
        return self._json({"id": self.hub.repo, "sha": COMMIT, "siblings": [], "tags": [], "private": False})

    def _tree(self, folder: str, start: int) -> None:
        inside = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, object]] = {}
        for path, content in self.hub.files.items():
            if not path.startswith(inside):
                continue
            name, deeper, _ = path.removeprefix(inside).partition("/")
            here = f"{inside}{name}"
            if deeper:
                entries[here] = {"type": "directory", "path": here, "oid": "0" * 40, "size": 0}
                continue
            entries[here] = {"type": "file", "path": here, "size": len(content), "oid": etag(content)[:40]}
            if large(content):
                entries[here]["lfs"] = {"oid": etag(content), "size": len(content), "pointerSize": 134}
        if not entries:
            return self._refuse(404, "EntryNotFound")
        more = start + PAGE < len(entries)
        link = {
            "Link": f'<{self.hub.url}{urlsplit(unquote(self.path)).path}?cursor={start + PAGE}>; rel="next"'
        }
        return self._json(list(entries.values())[start : start + PAGE], link if more else {})

    def _resolve(self, commit: str, path: str) -> None:
        if commit != COMMIT:
            return self._refuse(404, "RevisionNotFound")
        if path not in self.hub.files:
            return self._refuse(404, "EntryNotFound")
        content = self.hub.files[path]
        known = etag(content + b"!") if path in self.hub.lists_wrong else etag(content)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{known}"'}
        if not large(content):
            return self._bytes(path, headers)
        store = self.hub.url.replace("127.0.0.1", "localhost")
        headers |= {
            "ETag": '"of the pointer"',
            "X-Linked-Etag": f'"{known}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"{store}/store/{path}",
        }
        return self._send(302, b"", headers)

    def _bytes(self, path: str, headers: dict[str, str] | None = None) -> None:
        content = self.hub.files[path]
        range_ = self.headers.get("Range")
        self.hub.log.append((self.command, path, range_))
        waiting = self.hub.faults.get(path) if self.command == "GET" else None
        fault = waiting.pop(0) if waiting else Fault()
        if fault.status is not None:
            return self._refuse(fault.status, None)
        if fault.flip_at is not None:
            content = (
                content[: fault.flip_at] + bytes([content[fault.flip_at] ^ 1]) + content[fault.flip_at + 1 :]
            )
        status, headers = 200, dict(headers or {})
        if range_ is not None and self.hub.ranges:
            begin = int(re.fullmatch(r"bytes=(\d+)-", range_)[1])  # type: ignore[index]
            if begin >= len(content):
                return self._refuse(416, None)
            status, headers["Content-Range"] = 206, f"bytes {begin}-{len(content) - 1}/{len(content)}"
            content = content[begin:]
        return self._send(status, content, headers, fault.cut_at)

    def _json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _refuse(self, status: int, code: str | None) -> None:
        self._send(status, b"", {"X-Error-Code": code} if code else {})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut_at: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        step = 1 << 13
        for at in range(0, len(body), step):
            block = body[at : at + step]
            if cut_at is not None and at + len(block) > cut_at:
                self.wfile.write(block[: max(cut_at - at, 0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return
            try:
                self.wfile.write(block)
            except OSError:  # the other side has gone
                return
            if self.hub.bytes_per_second:
                threading.Event().wait(len(block) / self.hub.bytes_per_second)  # tests may have stopped time
