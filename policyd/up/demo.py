"""`policyctl demo`: a mesh on loopback, something denied, explained, mended, and taken away again."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from policyd.errors import SourceError
from policyd.up.patch import apply_patch
from policyd.up.replica import Replica
from policyd.up.run import Running, running
from policyd.up.screen import Screen, parse_record, short_identity

READY_SECONDS = 60.0
TRAFFIC_SECONDS = 30.0
ENFORCED_SECONDS = 10.0
_CALLER, _SERVICE, _VISITORS = "traffic-0", "books/webapp:80", "webapp-visitors"
_DENIED = ("DELETE", "/books/3")
_ROUND = 10
"""How many requests the visitors make before they begin again."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that an application told of; `status` None: the connection was closed."""

    caller: str
    callee: str
    request: str
    status: int | None
    decision: str | None


class DemoScreen(Screen):
    """Keeps what applications say of their calls, instead of showing it."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.calls: list[tuple[str, Call]] = []
        self.called = asyncio.Event()

    def application(self, pod: str, line: str) -> None:
        """Take down a call."""
        record = parse_record(line)
        if record is not None and "called" in record:
            call = Call(pod, record["called"], record["request"], record["status"], record.get("decision"))
            self.calls.append((pod, call))
            self.called.set()

    def service(self, name: str, line: str) -> None:
        """Leave out warnings: while pods start and policies change, some calls find nobody."""

    def denial(self, pod: str, record: Mapping[str, Any]) -> None:
        """Leave out denials: they are shown in their place."""


async def run_demo(samples: Path, keep: bool) -> None:
    """Show it all; raises SourceError where something doesn't come about in time."""
    work = Path(tempfile.mkdtemp(prefix="policyd-demo-"))
    try:
        folder = work / "books"
        shutil.copytree(samples, folder, ignore=shutil.ignore_patterns("__pycache__"))
        _title(f"A mesh on loopback: the workloads of {samples}, from a copy in {folder}")
        screen = DemoScreen()
        async with running(folder, screen) as started:
            await started.all_ready(READY_SECONDS)
            await Demo(started, screen).show()
            if keep:
                _title(f"Left running, as --keep asks: edit {folder} and see; Ctrl-C ends it")
                await asyncio.Event().wait()
    finally:
        shutil.rmtree(work, ignore_errors=True)


class Demo:
    """The steps, in their order."""

    def __init__(self, started: Running, screen: DemoScreen) -> None:
        self._up = started
        self._screen = screen

    async def show(self) -> None:
        """Go through all steps."""
        await self._traffic()
        decision = await self._denied()
        patch = await self._explained(decision)
        await self._mended(patch)
        await self._taken_away()

    async def _traffic(self) -> None:
        _title("Who called whom, as which identity, and what came of it")
        self._screen.calls.clear()
        async with _within(TRAFFIC_SECONDS, "the visitors haven't made their round"):
            while sum(pod == _CALLER for pod, _ in self._screen.calls) <= _ROUND:
                self._screen.called.clear()
                await self._screen.called.wait()
        seen: dict[tuple[str, str, str], Call] = {}
        for _, call in self._screen.calls:
            seen.setdefault((call.caller, call.callee, call.request + str(call.status)), call)
        for call in sorted(seen.values(), key=lambda call: (call.caller != _CALLER, call.caller)):
            _say(self._line(call))

    def _line(self, call: Call) -> str:
        """Say a call: identity, callee, request, and the reason where it was refused."""
        caller = self._pod(call.caller)
        identity = f"{caller.namespace}/{caller.template.account}"
        record = self._record(call, identity)
        what = f"{identity:<14} → {call.callee:<8} {call.request:<26}"
        outcome = "closed" if call.status is None else str(call.status)
        if record is None:
            return f"{what} {outcome}"
        if not str(record["pod"]).startswith(call.callee):
            return f"{what} {outcome:<6} passed on from {record['pod']}"
        by = f" by {str(record['authorization']).rpartition('/')[2]}" if record.get("authorization") else ""
        denied = f"{outcome:<6} denied: {record['reason']}{by}"
        return f"{what} {click.style(denied, fg='red')}"

    def _record(self, call: Call, identity: str) -> dict[str, Any] | None:
        """Return the denial behind a call: by its id, or for a closed connection the last of that caller."""
        records = self._up.kubelet.records
        if call.decision is not None:
            return records.find(call.decision)
        if call.status is not None:
            return None
        record: dict[str, Any]
        for record in reversed(records.last(200)):
            same = short_identity((record.get("peer") or {}).get("identity")) == identity
            if same and record.get("event") == "denial" and str(record.get("pod")).startswith(call.callee):
                return record
        return None

    async def _denied(self) -> str:
        method, path = _DENIED
        _title(f"One of them, explained: {method} {path}")
        status, decision, _ = await self._ask(method, path)
        if status != 403 or decision is None:
            raise SourceError(f"{method} {path} was answered with {status}, expected 403")
        kubelet = self._up.kubelet
        async with _within(ENFORCED_SECONDS, "the denial has no line"):
            while kubelet.records.find(decision) is None:
                kubelet.recorded.clear()
                await kubelet.recorded.wait()
        return decision

    async def _explained(self, decision: str) -> str:
        _say(click.style(f"$ policyctl explain {decision}", bold=True))
        _say((await _policyctl("explain", decision)).rstrip())
        fix = json.loads(await _policyctl("explain", decision, "-o", "json")).get("fix")
        if not fix:
            raise SourceError(f"explain {decision}: no fix was found")
        return str(fix["patch"])

    async def _mended(self, patch: str) -> None:
        _title("The change applied to the copy")
        files = apply_patch(patch)
        saved = time.monotonic()
        _say(f"saved {', '.join(str(file) for file in files)}")
        took = await self._until(*_DENIED, 200, saved)
        _say(click.style(f"allowed {took:.0f} ms after the file was saved", fg="green"))

    async def _taken_away(self) -> None:
        _title(f"AuthorizationPolicy {_VISITORS} deleted")
        file = self._up.folder / "webapp.yaml"
        documents = file.read_text().split("\n---\n")
        kept = [each for each in documents if f"metadata: {{name: {_VISITORS}, " not in each]
        beside = file.with_name(".webapp.yaml.new")
        beside.write_text("\n---\n".join(kept))
        beside.replace(file)
        saved = time.monotonic()
        _say(f"saved {file}")
        took = await self._until("GET", "/books", 403, saved)
        _say(click.style(f"GET /books is refused {took:.0f} ms after the file was saved", fg="red"))

    async def _until(self, method: str, path: str, status: int, since: float) -> float:
        """Ask until the answer has that status, and return the milliseconds it took."""
        last = 0
        async with _within(ENFORCED_SECONDS, f"{method} {path}: expected {status}"):
            while True:
                last, decision, _ = await self._ask(method, path)
                if last == status and (status < 400 or decision is not None):
                    return (time.monotonic() - since) * 1000

    async def _ask(self, method: str, path: str) -> tuple[int, str | None, bytes]:
        """Ask as a visitor does, by way of its proxy: status, decision id, body."""
        replica = self._pod(_CALLER)
        port = next(each.listen for each in replica.listeners if each.target == _SERVICE)
        return await asyncio.to_thread(_request, replica.addresses.application, port, method, path)

    def _pod(self, name: str) -> Replica:
        return self._up.kubelet.replicas[("books", name)]


def _request(host: str, port: int, method: str, path: str) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request(method, path, headers={"x-role": "editor"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("x-policyd-decision"), answer.read()
    except (OSError, http.client.HTTPException):
        return 0, None, b""
    finally:
        connection.close()


async def _policyctl(*words: str) -> str:
    """Return what a command of ours prints; explain says 1 for a denial."""
    program = "import sys; from policyd.cli.main import main; sys.exit(main())"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, problems = await asyncio.wait_for(process.communicate(), 30)
    if process.returncode not in {0, 1}:
        raise SourceError(f"policyctl {' '.join(words)}: {problems.decode(errors='replace').strip()}")
    return out.decode()


class _within:  # noqa: N801 — reads as a statement
    """A bounded wait that says what didn't come about."""

    def __init__(self, seconds: float, otherwise: str) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._otherwise = f"{otherwise} after {seconds:.0f} s"

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise SourceError(self._otherwise) from None


def _title(text: str) -> None:
    click.echo(f"\n{click.style('■ ' + text, bold=True)}")


def _say(text: str) -> None:
    click.echo("\n".join(f"  {line}" for line in text.splitlines()))
