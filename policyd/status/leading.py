"""What only the leader does: it looks at everything again and again, and has written what differs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from kubeapi.client import Client
from policyd.compile.compiler import Compiler
from policyd.model.finding import Finding
from policyd.model.names import ObjectKey
from policyd.status.acks import Acks, Proxies, own_acks, together
from policyd.status.conditions import Wanted, text_of
from policyd.status.denials import reference_to
from policyd.status.events import Happening, Recorder
from policyd.status.holdback import Holdback
from policyd.status.picture import Picture, take
from policyd.status.reasons import reason_of
from policyd.status.reports import BEAT_SECONDS, Peers
from policyd.status.writer import StatusWriter, Want

TICK_SECONDS = 0.5
"""How often it is looked whether anything is another."""
SHARE = 9.0
"""Others get so many times what a picture took, before the next: a tenth of a core at most."""
LISTEN_SECONDS = BEAT_SECONDS + 3.0
"""A new leader hears each other replica once, before it says that fewer enforce than before."""
REMIND_SECONDS = 600.0
"""A finding that lasts is told again so often: Events end after an hour."""


class Leading:
    """One term of one leader. `run` it until it is cancelled, and then no more."""

    def __init__(
        self, client: Client, compiler: Compiler, peers: Peers, proxies: Proxies, recorder: Recorder
    ) -> None:
        """Tell `recorder` of findings about objects that have no status of ours."""
        self.seconds = 0.0
        """What the last picture took."""
        self.is_sound: Callable[[], bool] = lambda: True
        """Whether tables are those of the world as it is."""
        self._compiler = compiler
        self._peers = peers
        self._proxies = proxies
        self._recorder = recorder
        self._client = client
        self._told: dict[tuple[str, ...], float] = {}
        self.writer: StatusWriter | None = None

    async def run(self, is_leader: Callable[[], bool]) -> None:
        """Lead. Raises what goes wrong within, so that another may."""
        writer = self.writer = StatusWriter(self._client, is_leader)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._peers.reflector.run())
            group.create_task(self._peers.tidy())
            group.create_task(self._recorder.run())
            group.create_task(writer.run())
            group.create_task(self._look(writer))

    async def _look(self, writer: StatusWriter) -> None:
        await writer.held.first()
        holdback = Holdback(time.monotonic() + LISTEN_SECONDS)
        picture, last = Picture(), tuple[object, ...]()
        told_at = float("-inf")
        while True:
            mark = self._mark()
            is_due = picture.ends_at is not None and datetime.now(UTC) >= picture.ends_at
            is_new = self.is_sound() and (mark != last or is_due)
            if is_new:
                picture, last = await take(self._compiler, self._acks()), mark
                self.seconds = picture.seconds
            if is_new or holdback.is_waiting:
                self._settle(picture, writer, holdback)
            if is_new or time.monotonic() - told_at >= REMIND_SECONDS:
                self._tell(picture)
                told_at = time.monotonic()
            await asyncio.sleep(max(TICK_SECONDS, SHARE * picture.seconds))

    def _mark(self) -> tuple[object, ...]:
        """Return something that differs when another picture has to be taken."""
        world = self._compiler.world.state_hash
        return (world, self._peers.changes, self._peers.alive, *self._proxies.stir())

    def _acks(self) -> Acks:
        return together([own_acks(self._proxies), *self._peers.acks()])

    def _settle(self, picture: Picture, writer: StatusWriter, holdback: Holdback) -> None:
        """Say what is wanted; that fewer enforce than before only if it lasts."""
        wanted: dict[ObjectKey, Want] = {}
        for key, want in picture.wanted.items():
            entry = writer.held.get(key)
            if isinstance(want, Wanted) and entry is not None and entry.uid == want.uid:
                wanted[key] = holdback.passed(key, want, entry.status)
            else:
                wanted[key] = want
        holdback.forget(lambda key: key not in wanted)
        writer.want(wanted)

    def _tell(self, picture: Picture) -> None:
        """Tell of findings by Events: at once of new ones, now and then of those that last."""
        now = time.monotonic()
        lasting: dict[tuple[str, ...], float] = {}
        for finding in picture.findings:
            happening = self._happening(finding)
            if happening is None:
                continue
            told_at = self._told.get(happening.cause, float("-inf"))
            if now - told_at >= REMIND_SECONDS:
                self._recorder.record(happening)
                told_at = now
            lasting[happening.cause] = told_at
        self._told = lasting

    def _happening(self, finding: Finding) -> Happening | None:
        regarding = None if finding.key is None else reference_to(self._compiler.world, finding.key)
        if regarding is None:
            return None
        cause = ("finding", regarding.uid, regarding.name, finding.code, finding.field, finding.message)
        return Happening(regarding, cause, reason_of(finding).name, "Compile", text_of(finding), lasting=True)
