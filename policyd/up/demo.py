"""`policyctl demo`: a mesh on loopback, something denied, explained, mended, and taken away again."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from policyd.errors import SourceError
from policyd.explain.readable import short_identity
from policyd.up.demo_calls import Call, DemoScreen, GrpcMethod
from policyd.up.patch import apply_patch
from policyd.up.replica import Replica
from policyd.up.run import Running, running

READY_SECONDS = 60.0
TRAFFIC_SECONDS = 30.0
ENFORCED_SECONDS = 10.0
_NAMESPACE, _BOT, _SITE = "emojivoto", "vote-bot-0", "web-0"
_VOTING = "emojivoto/voting-svc:8080"
_VOTE = "/emojivoto.v1.VotingService/VoteGhost"
_ALLOW = "vote-voters"
_ROUND = 8
"""How many calls the bot makes before it begins again."""
_OK, _PERMISSION_DENIED = 0, 7
"""Statuses of gRPC."""


async def run_demo(samples: Path, keep: bool) -> None:
    """Show it all; raises SourceError where something doesn't come about in time."""
    work = Path(tempfile.mkdtemp(prefix="policyd-demo-"))
    try:
        folder = work / "emojivoto"
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
        async with _within(TRAFFIC_SECONDS, "the bot hasn't made its round"):
            while sum(call.caller == _BOT for call in self._screen.calls) <= _ROUND:
                self._screen.called.clear()
                await self._screen.called.wait()
        seen = {(call.caller, call.callee, call.request, call.outcome): call for call in self._screen.calls}
        for call in sorted(seen.values(), key=lambda call: call.caller != _BOT):
            _say(self._line(call))

    def _line(self, call: Call) -> str:
        """Say a call: identity, callee, request, and the reason where it was refused."""
        caller = self._pod(call.caller)
        identity = f"{caller.namespace}/{caller.template.account}"
        record = self._record(call, identity)
        what = f"{identity:<18} → {call.callee:<6} {call.request:<31} {call.outcome:<6}"
        if record is None:
            return what.rstrip()
        if not str(record["pod"]).startswith(call.callee):
            return f"{what}  passed on from {record['pod']}"
        by = f" by {str(record['authorization']).rpartition('/')[2]}" if record.get("authorization") else ""
        denied = f"denied: {record['reason']}{by}"
        return f"{what}  {click.style(denied, fg='red')}"

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
            closed = record.get("event") == "denial" and record.get("status") is None
            if same and closed and str(record.get("pod")).startswith(call.callee):
                return record
        return None

    async def _denied(self) -> str:
        _title("One of them, explained: the bot votes past the site")
        async with self._vote_as(_BOT) as vote:
            status, decision = await vote.call()
        if status != _PERMISSION_DENIED or decision is None:
            raise SourceError(f"{_VOTE} was answered with {status}, expected {_PERMISSION_DENIED} and an id")
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
        took = await self._until(_BOT, _OK, saved)
        _say(click.style(f"the bot's vote is allowed {took:.0f} ms after the file was saved", fg="green"))

    async def _taken_away(self) -> None:
        _title(f"AuthorizationPolicy {_ALLOW} deleted")
        file = self._up.folder / "policy.yaml"
        documents = file.read_text().split("\n---\n")
        kept = [each for each in documents if f"metadata: {{name: {_ALLOW}, " not in each]
        beside = file.with_name(f".{file.name}.new")
        beside.write_text("\n---\n".join(kept))
        beside.replace(file)
        saved = time.monotonic()
        _say(f"saved {file}")
        took = await self._until(_SITE, _PERMISSION_DENIED, saved)
        _say(click.style(f"the site's votes are refused {took:.0f} ms after the file was saved", fg="red"))

    async def _until(self, pod: str, status: int, since: float) -> float:
        """Vote as a pod until the answer has that status, and return the milliseconds it took."""
        async with self._vote_as(pod) as vote, _within(ENFORCED_SECONDS, f"{_VOTE}: expected gRPC {status}"):
            while (await vote.call())[0] != status:
                pass
            return (time.monotonic() - since) * 1000

    def _vote_as(self, pod: str) -> GrpcMethod:
        """Return a vote as that pod's application makes it, by way of its proxy."""
        replica = self._pod(pod)
        port = next(each.listen for each in replica.listeners if each.target == _VOTING)
        return GrpcMethod(replica.addresses.application, port, _VOTE)

    def _pod(self, name: str) -> Replica:
        return self._up.kubelet.replicas[(_NAMESPACE, name)]


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
    click.echo("\n".join(f"  {line}".rstrip() for line in text.splitlines()))
