"""A gRPC server on grpcio, whose HTTP/2 isn't the proxy's. Messages are bytes and come back as they are.

`Say` and `Private` are unary, `Chat` gives back each message of a stream, `Repeat` one message a hundred
times, `Gather` all messages of a stream in one, `Fail` has a status of its own, `Sleep` never answers.
Trailers say who answered. `$POD_IP` and `$PORT` say where it listens.
"""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc


def _say(request: bytes, context: grpc.ServicerContext) -> bytes:
    forged = [(name, value) for name, value in context.invocation_metadata() if name.startswith("x-policyd")]
    assert not forged, forged
    context.set_trailing_metadata((("greeted-bin", b"\x00\xff"), ("greeter", os.environ["POD_IP"])))
    return request


def _repeat(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    context.set_trailing_metadata((("greeter", os.environ["POD_IP"]),))
    for _ in range(100):
        yield request


def _gather(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    return b"".join(requests)


def _chat(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    yield from requests


def _fail(request: bytes, context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 %")
    raise AssertionError("grpcio raises")


def _sleep(request: bytes, context: grpc.ServicerContext) -> bytes:
    over = threading.Event()
    context.add_callback(over.set)
    over.wait()
    return b""


def main() -> None:
    """Serve until told to end."""
    server = grpc.server(ThreadPoolExecutor(16))
    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(_say),
        "Private": grpc.unary_unary_rpc_method_handler(_say),
        "Chat": grpc.stream_stream_rpc_method_handler(_chat),
        "Repeat": grpc.unary_stream_rpc_method_handler(_repeat),
        "Gather": grpc.stream_unary_rpc_method_handler(_gather),
        "Fail": grpc.unary_unary_rpc_method_handler(_fail),
        "Sleep": grpc.unary_unary_rpc_method_handler(_sleep),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("books.Greeter", handlers),))
    server.add_insecure_port(f"{os.environ['POD_IP']}:{os.environ['PORT']}")
    signal.signal(signal.SIGTERM, lambda *_: server.stop(None))
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
