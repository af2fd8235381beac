"""gRPC without generated code: each message is a google.protobuf.Struct, what a JSON object can say."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Server, Stream
from tell import tell

EMOJI_SERVICE = "emojivoto.v1.EmojiService"
VOTING_SERVICE = "emojivoto.v1.VotingService"
CALL_TIMEOUT_SECONDS = 5.0
DECISION = "x-policyd-decision"

Message = dict[str, Any]
Method = Callable[[Message], Message]


class CallError(Exception):
    """A call that wasn't answered with OK. `status` is None where there was no answer at all."""

    def __init__(self, method: str, status: int | None, decision: str | None) -> None:
        super().__init__(f"{method}: gRPC status {status}")
        self.status = status
        self.decision = decision


class Caller:
    """Calls the methods of one service, over one connection that is kept."""

    def __init__(self, callee: str, address: str, service: str) -> None:
        """`callee` is what the lines call it; `address` is `host:port`."""
        host, port = address.rsplit(":", 1)
        self._callee, self._service = callee, service
        self._channel = Channel(host, int(port))

    async def call(self, method: str, message: Message | None = None) -> Message:
        """Make a call, tell of it and return the answer. Raises CallError."""
        request, answer = Struct(), None
        request.update(message or {})
        decision: str | None = None
        status: int | None = None
        stub = UnaryUnaryMethod(self._channel, f"/{self._service}/{method}", Struct, Struct)
        try:
            async with stub.open(timeout=CALL_TIMEOUT_SECONDS) as stream:
                try:
                    await stream.send_message(request, end=True)
                    answer = await stream.recv_message()
                    await stream.recv_trailing_metadata()
                    status = Status.OK.value
                finally:
                    decision = (stream.trailing_metadata or {}).get(DECISION)
        except GRPCError as error:
            status = error.status.value
        except (OSError, StreamTerminatedError):  # TimeoutError is an OSError
            status = None
        tell(self._callee, method, decision, grpcStatus=status)
        if status != Status.OK.value or answer is None:
            raise CallError(method, status, decision)
        return MessageToDict(answer)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()


class Service:
    """Methods by name, and how often each was called."""

    def __init__(self, name: str, methods: Mapping[str, Method]) -> None:
        self.calls: Counter[str] = Counter(dict.fromkeys(methods, 0))
        self._name, self._methods = name, methods

    def __mapping__(self) -> dict[str, Handler]:
        """Return the handlers by path, as grpclib asks for them."""
        unary = Cardinality.UNARY_UNARY
        return {
            f"/{self._name}/{name}": Handler(self._handler(name), unary, Struct, Struct)
            for name in self._methods
        }

    def _handler(self, name: str) -> Callable[[Stream[Struct, Struct]], Any]:
        async def handle(stream: Stream[Struct, Struct]) -> None:
            request, answer = await stream.recv_message(), Struct()
            self.calls[name] += 1
            answer.update(self._methods[name](MessageToDict(request) if request else {}))
            await stream.send_message(answer)

        return handle


async def serve(service: Service, port: int) -> None:
    """Answer on `$POD_IP:port` until SIGTERM."""
    server = Server([service])
    await server.start(os.environ.get("POD_IP", "127.0.0.1"), port)
    await until_terminated()
    server.close()


async def until_terminated() -> None:
    """Wait for SIGTERM."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    await over.wait()
