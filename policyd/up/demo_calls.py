"""What the demo sees of calls: those that applications tell of, and those that it makes itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from google.protobuf.empty_pb2 import Empty
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.exceptions import GRPCError, StreamTerminatedError

from policyd.up.screen import Screen, parse_record

CALL_TIMEOUT_SECONDS = 5.0
_DECISION = "x-policyd-decision"


@dataclass(frozen=True, slots=True)
class Call:
    """One call that an application told of. `status` is HTTP's or gRPC's; None: the connection was closed."""

    caller: str
    callee: str
    request: str
    status: int | None
    is_grpc: bool
    decision: str | None

    @property
    def outcome(self) -> str:
        """What the caller got, in a word or two."""
        if self.status is None:
            return "closed"
        return f"gRPC {self.status}" if self.is_grpc else str(self.status)


class DemoScreen(Screen):
    """Keeps what applications say of their calls, instead of showing it."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.calls: list[Call] = []
        self.called = asyncio.Event()

    def application(self, pod: str, line: str) -> None:
        """Take down a call."""
        record = parse_record(line)
        if record is not None and "called" in record:
            self.calls.append(_call(pod, record))
            self.called.set()

    def service(self, name: str, line: str) -> None:
        """Leave out warnings: while pods start and policies change, some calls find nobody."""

    def denial(self, pod: str, record: Mapping[str, Any]) -> None:
        """Leave out denials: they are shown in their place."""


def _call(pod: str, record: Mapping[str, Any]) -> Call:
    is_grpc = "grpcStatus" in record
    status = record["grpcStatus" if is_grpc else "status"]
    return Call(pod, record["called"], record["request"], status, is_grpc, record.get("decision"))


class GrpcMethod:
    """A gRPC method, called with an empty message over one connection that is kept while the block lasts."""

    def __init__(self, host: str, port: int, path: str) -> None:
        """`path` is `/service/method`."""
        self._channel = Channel(host, port)
        self._method = UnaryUnaryMethod(self._channel, path, Empty, Empty)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    async def call(self) -> tuple[int | None, str | None]:
        """Return the status, None where there was no answer, and the decision's id where a proxy gave one."""
        stream = self._method.open(timeout=CALL_TIMEOUT_SECONDS)
        try:
            async with stream:
                await stream.send_message(Empty(), end=True)
                await stream.recv_message()
                await stream.recv_trailing_metadata()
        except GRPCError as error:
            found = stream.trailing_metadata.get(_DECISION) if stream.trailing_metadata is not None else None
            return error.status.value, None if found is None else str(found)
        except (OSError, StreamTerminatedError):  # TimeoutError is an OSError
            return None, None
        return 0, None
