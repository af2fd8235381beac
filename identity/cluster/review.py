"""TokenReview: the API server's word on a token. What isn't plainly yes is no (security A.8 ID-03, ID-04)."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from functools import partial

import msgspec

from identity.limits import Limits, Rate
from identity.metrics import Metrics
from identity.refusal import Code, Refused
from identity.tokens import MAX_TOKEN_ID, Caller
from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from kubeapi.path import ResourcePath
from servicekit.leaf import is_pod_uid

REVIEWS = ResourcePath("authentication.k8s.io", "v1", "tokenreviews")
REVIEW_SECONDS = 5.0
"""For a whole review, attempts that 429 asks for included."""
YES_SECONDS = 10.0
"""How long a yes counts: as long as the API server itself remembers one (its authentication options)."""
MOST_YES = 10_000
MOST_UNDER_WAY = 256
"""Reviews at once. An API server takes some hundred requests, of all workloads together (KEP-1040)."""
ALL = Rate(per_second=250, burst=500)
POD = Rate(per_second=0.2, burst=5)
"""Of a pod whose token is signed by the issuer."""
STRANGERS = Rate(per_second=10, burst=50)
"""Of all tokens together whose key isn't known: anyone can make one up."""
_MOST_SAID = 200
_ACCOUNTS = "system:serviceaccounts"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_CREDENTIAL = "authentication.kubernetes.io/credential-id"
_UNPRINTABLE = re.compile(r"[^ -~]")


class User(msgspec.Struct, frozen=True):
    """`authentication.k8s.io/v1` UserInfo."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class Status(msgspec.Struct, frozen=True):
    """`authentication.k8s.io/v1` TokenReviewStatus."""

    authenticated: bool = False
    audiences: tuple[str, ...] = ()
    error: str = ""
    user: User = User()


class _Review(msgspec.Struct, frozen=True):
    status: Status = Status()


class TokenReviews:
    """Asks for reviews: of a token one at a time, and none within ten seconds of a yes. A no isn't kept."""

    def __init__(self, client: Client, audience: str, metrics: Metrics) -> None:
        self._client = client
        self._audience = audience
        self._metrics = metrics
        self._pods = Limits(POD, ALL)
        self._strangers = Limits(STRANGERS, STRANGERS)
        self._yes: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Task[Caller]] = {}

    async def review(self, token: str, claimed: Caller | None) -> Caller:
        """Say who a token speaks for; `claimed` is what the offline check says, None where it couldn't.

        Raises Refused: TOKEN_INVALID for a no, TOKEN_REVIEWER_UNAVAILABLE where there is no clear answer,
        RATE_LIMITED.
        """
        caller = await self._ask_once(token, claimed)
        if claimed is not None and _who(caller) != _who(claimed):
            raise Refused(Code.TOKEN_INVALID, "the token: the API server says that it is another's")
        return caller

    async def _ask_once(self, token: str, claimed: Caller | None) -> Caller:
        digest = hashlib.sha256(token.encode()).digest()
        at, known = self._yes.get(digest, (float("-inf"), None))
        if known is not None and time.monotonic() - at < YES_SECONDS:
            self._metrics.reviewed("remembered")
            return known
        task = self._under_way.get(digest)
        if task is None:
            self._spend(claimed)
            task = asyncio.create_task(self._ask(token))
            self._under_way[digest] = task
            task.add_done_callback(partial(self._finished, digest))
        # Whoever gives up takes nothing from the others that wait for the same answer.
        return await asyncio.shield(task)

    def _spend(self, claimed: Caller | None) -> None:
        if claimed is None:
            self._strangers.spend("unknown key")
        else:
            self._pods.spend(claimed.pod_uid)
        if len(self._under_way) >= MOST_UNDER_WAY:
            raise Refused(Code.RATE_LIMITED, "too many tokens are being reviewed; again in 1 s")

    async def _ask(self, token: str) -> Caller:
        body = {"spec": {"token": token, "audiences": [self._audience]}}
        try:
            async with asyncio.timeout(REVIEW_SECONDS):
                review = (await self._client.create(REVIEWS, body)).into(_Review)
        except TimeoutError as error:
            raise _unclear(f"no answer within {REVIEW_SECONDS:.0f} s") from error
        except (ApiError, AccessError) as error:
            raise _unclear(_clean(str(error))) from error
        return judge(review.status, self._audience)

    def _finished(self, digest: bytes, task: asyncio.Task[Caller]) -> None:
        del self._under_way[digest]
        if task.cancelled():
            return
        match task.exception():
            case None:
                self._yes[digest] = (time.monotonic(), task.result())
                self._yes.move_to_end(digest)
                if len(self._yes) > MOST_YES:
                    self._yes.popitem(last=False)
                self._metrics.reviewed("yes")
            case Refused(code=Code.TOKEN_INVALID):
                self._metrics.reviewed("no")
            case _:
                self._metrics.reviewed("unclear")


def judge(status: Status, audience: str) -> Caller:
    """Say whom a review names; raises Refused where that isn't beyond doubt."""
    if not status.authenticated:
        raise _invalid(f"the API server doesn't accept it: {_clean(status.error) or 'no reason given'}")
    if status.error:
        raise _unclear(f"it both accepts the token and says: {_clean(status.error)}")
    if audience not in status.audiences:
        raise _unclear(f"it says nothing of our audience {audience!r}")
    user = status.user
    match user.username.split(":"):
        case ["system", "serviceaccount", namespace, account] if namespace and account:
            pass
        case _:
            raise _invalid("it isn't a ServiceAccount's")
    if _ACCOUNTS not in user.groups or not user.uid:
        raise _invalid("it isn't a ServiceAccount's")
    match user.extra.get(_POD_NAME), user.extra.get(_POD_UID):
        case [(pod_name,), (pod_uid,)] if pod_name and is_pod_uid(pod_uid):
            pass
        case _:
            raise _invalid("it isn't bound to a pod")
    [credential, *_] = user.extra.get(_CREDENTIAL, ("",)) or ("",)
    token_id = credential.removeprefix("JTI=")[:MAX_TOKEN_ID]
    return Caller(namespace, account, user.uid, pod_name, pod_uid, token_id)


def _who(caller: Caller) -> tuple[str, ...]:
    """Everything but the token's own id, which older API servers don't tell."""
    return (
        caller.namespace,
        caller.service_account,
        caller.service_account_uid,
        caller.pod_name,
        caller.pod_uid,
    )


def _clean(said: str) -> str:
    return _UNPRINTABLE.sub("?", said[:_MOST_SAID])


def _invalid(what: str) -> Refused:
    return Refused(Code.TOKEN_INVALID, f"the token: {what}")


def _unclear(what: str) -> Refused:
    return Refused(Code.TOKEN_REVIEWER_UNAVAILABLE, f"the API server's word on the token: {what}; try again")
