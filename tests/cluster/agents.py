"""A pod's hands: `applications/agent.py` in a pod, spoken to through containerd.

Not through `kubectl exec`, which ends with the API server.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from tests.api.rig import RigError
from tests.cluster import needs
from tests.cluster.node import Node

Json = dict[str, Any]
ANSWER_SECONDS = 90.0
END_SECONDS = 10.0


class Agent:
    """Does in a pod what it is asked, at once, as the pod's application would: through the pod's network."""

    def __init__(self, node: Node, namespace: str, pod: str, container: str) -> None:
        self.namespace, self.pod = namespace, pod
        self._log = (node.folder / f"agent-{pod}.log").open("ab")
        inside = ["--address", str(node.socket), "-n", "k8s.io", "task", "exec", "--exec-id", f"agent-{pod}"]
        self._process = subprocess.Popen(
            ["ctr", *inside, container, "python3", "/tests/agent.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=needs.environment(),
        )
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Json]] = {}
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether its pod's container is."""
        return self._process.poll() is None

    def begin(self, do: str, **asked: Any) -> Future[Json]:
        """Ask, and don't wait."""
        number, future = next(self._numbers), Future[Json]()
        assert self._process.stdin is not None
        with self._lock:
            self._waiting[number] = future
            self._process.stdin.write(json.dumps({"id": number, "do": do, **asked}) + "\n")
            self._process.stdin.flush()
        return future

    def ask(self, do: str, **asked: Any) -> Json:
        """Ask and wait; raises RigError where the agent failed."""
        answer = self.begin(do, **asked).result(ANSWER_SECONDS)
        if "fault" in answer:
            raise RigError(f"agent {self.namespace}/{self.pod}: {do}: {answer['fault']}")
        return answer

    def get(self, url: str, **more: Any) -> Json:
        """One GET on a new connection: `status` (None: no answer), `decision`, `body`."""
        return self.ask("get", url=url, **more)

    def status(self, url: str, **more: Any) -> int | None:
        """Return what one request was answered with; None where nothing answered."""
        status: int | None = self.get(url, **more)["status"]
        return status

    @contextlib.contextmanager
    def load(self, name: str, url: str, **more: Any) -> Iterator[Json]:
        """Make requests as long as the context lasts; what came of them is in the dict afterwards."""
        self.ask("start", kind="load", name=name, url=url, **more)
        told: Json = {}
        try:
            yield told
        finally:
            told.update(self.ask("stop", name=name))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(END_SECONDS)
        self._process.stdout.close()
        self._log.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._lock:
                future = self._waiting.pop(answer.pop("id"))
            future.set_result(answer)
        with self._lock:
            for future in self._waiting.values():
                future.set_exception(RigError(f"agent {self.namespace}/{self.pod} ended"))
            self._waiting.clear()
