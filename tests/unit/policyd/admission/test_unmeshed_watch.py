"""A watch of pods that hears something odd: a finding about that pod, and no end of the watch."""

from __future__ import annotations

import msgspec
import pytest

from kubeapi.access import Access
from kubeapi.client import Client
from kubeapi.credentials import Credentials
from kubeapi.held import Held
from kubeapi.told import Applied, Undecodable
from kubeapi.wire import meta_of
from policyd.admission.enrolment import NamespaceFacts
from policyd.admission.injection import Injection
from policyd.admission.unmeshed_watch import UnmeshedWatch

META = {"name": "a", "namespace": "books", "uid": "u", "resourceVersion": "7"}


@pytest.mark.parametrize(
    "pod", [{"status": [1]}, {"spec": {"containers": [{"name": "c"}], "initContainers": [{}]}}, {"spec": 7}]
)
def test_wh_10_a_pod_that_is_none_is_told_of(pod: dict[str, object]) -> None:
    client = Client(Access(lambda: Credentials("http://127.0.0.1:9")), "m")
    enrolled = NamespaceFacts("books", {"policyd.dev/inject": "enabled"})
    watch = UnmeshedWatch(client, lambda _: enrolled, Injection())
    body = msgspec.Raw(msgspec.json.encode({"metadata": META, **pod}))
    told = Held(watch._decode).applied(meta_of(body), body)
    assert told is not None
    [change] = told.changes
    assert isinstance(change, Applied)
    if isinstance(change.object, Undecodable):
        assert change.object.problem
    watch._take(told)
    watch._compare(watch._now())
    assert [(each.pod, each.reason) for each in watch.findings] == [("books/a", "not_ours")]
