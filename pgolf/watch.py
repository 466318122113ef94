"""What this process opens, connects to and starts while something runs in it.

An audit hook notes it, and refuses connections where there should be none. Like the seal of pgolf.fresh it is a
tripwire, not a jail: native code can pass below it.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

CONNECTING = ("socket.connect", "socket.getaddrinfo", "socket.sendto")
STARTING = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system")

_watching: list["Watch"] = []
_hooked = False


@dataclass
class Watch:
    """Notes of one subject. `stage` says what it was doing.

    Args:
        files: names of the files that are noted.
        online: whether it may connect.
    """

    files: re.Pattern[str] = re.compile("")
    online: bool = False
    opened: list[tuple[str, str]] = field(default_factory=list)  # (stage, real path), each once
    connections: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    stage: str = ""
    _known: set[tuple[str, str]] = field(default_factory=set)

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Note what happens in this block."""
        _install()
        before, self.stage = self.stage, stage
        _watching.append(self)
        try:
            yield
        finally:
            _watching.pop()
            self.stage = before

    def saw(self, event: str, args: tuple[object, ...]) -> None:
        if event == "open" and isinstance(args[0], str | bytes):
            path = os.fsdecode(args[0])
            if not self.files.search(path.rpartition(os.sep)[2]):
                return
            key = (self.stage, os.path.realpath(path))
            if key not in self._known:
                self._known.add(key)
                self.opened.append(key)
        elif event in CONNECTING:
            self.connections.append(f"{args[-1] if event == 'socket.connect' else args[0]}")
        elif event in STARTING:
            self.started.append(str(args[0]))


def _install() -> None:
    global _hooked
    if not _hooked:
        _hooked = True
        sys.addaudithook(_hook)


def _hook(event: str, args: tuple[object, ...]) -> None:
    if _watching:
        _watching[-1].saw(event, args)
        if event in CONNECTING and not _watching[-1].online:
            raise PermissionError(f"an evaluation has no network; {args[-1]} was asked for")
