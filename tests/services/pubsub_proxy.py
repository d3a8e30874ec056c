"""What stands between a client that is killed and the Pub/Sub emulator.

The emulator does not notice that the connection of a streaming pull was broken off, and goes on giving messages to nobody.
Here such a pull is answered by ordinary ones; all else is handed on as it is.
"""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.pubsub_v1.types import PullRequest, PullResponse, StreamingPullRequest, StreamingPullResponse

from tests.services.processes import HOST
from tests.services.servers import Service

_PULL = "/google.pubsub.v1.Subscriber/Pull"
_STREAMING_PULL = "/google.pubsub.v1.Subscriber/StreamingPull"
_SECONDS = 30.0
_AT_ONCE = 100  # messages


@contextlib.contextmanager
def front(pubsub: Service) -> Iterator[Service]:
    """The same service for clients that may be killed."""
    with grpc.insecure_channel(pubsub.environment["PUBSUB_EMULATOR_HOST"]) as channel:
        server = grpc.server(ThreadPoolExecutor(16), handlers=[_Front(channel)])
        address = f"{HOST}:{server.add_insecure_port(f'{HOST}:0')}"
        server.start()
        try:
            environment = {**pubsub.environment, "PUBSUB_EMULATOR_HOST": address}
            yield pubsub._replace(url=f"http://{address}", environment=environment)
        finally:
            server.stop(None).wait()


class _Front(grpc.GenericRpcHandler):
    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._pull = channel.unary_unary(_PULL, PullRequest.serialize, PullResponse.deserialize)

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == _STREAMING_PULL:
            return grpc.stream_stream_rpc_method_handler(
                self._pull_on, StreamingPullRequest.deserialize, StreamingPullResponse.serialize
            )
        call = self._channel.unary_unary(details.method)
        return grpc.unary_unary_rpc_method_handler(lambda request, _: call(request, timeout=_SECONDS))

    def _pull_on(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        pull = PullRequest(
            subscription=next(requests).subscription, max_messages=_AT_ONCE, return_immediately=True
        )
        while context.is_active():
            received = self._pull(pull, timeout=_SECONDS).received_messages
            if received:
                yield StreamingPullResponse(received_messages=received)
            else:
                time.sleep(0.02)
