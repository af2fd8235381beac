"""Identity's configuration file. It has no default for anything that decides who gets a certificate."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from identity.spiffe_id import TrustDomain
from servicekit.config import Address, Config, Duration, FilePath

LONGEST_LEAF = timedelta(hours=24)
SHORTEST_LEAF = timedelta(seconds=10)


def _check_trust_domain(name: str) -> str:
    return TrustDomain(name).name


def _check_leaf_lifetime(value: timedelta) -> timedelta:
    if not SHORTEST_LEAF <= value <= LONGEST_LEAF:
        raise ValueError("expected 10s to 24h")
    return value


class TokenSettings(Config):
    """Whose tokens count."""

    jwks_file: FilePath
    issuer: str
    audience: str


class ClusterSettings(Config):
    """The API server says who asks, and which pods there are."""

    audience: str
    """Of the pods' projected tokens."""
    kubeconfig: FilePath | None = None
    """None: as the pod that identity runs in."""
    publish_bundle: bool = True
    """Whether the roots are written into every namespace, and a ClusterTrustBundle where there are such."""


class Settings(Config):
    """What `identity --config FILE` reads."""

    trust_domain: Annotated[str, AfterValidator(_check_trust_domain)] = "cluster.local"
    control_plane_namespace: str = "policyd"
    listen: Address
    issuer_folder: FilePath
    cluster: ClusterSettings | None = None
    tokens: TokenSettings | None = None
    pods_folder: FilePath | None = None
    without_pods: bool = False
    journal: FilePath
    metrics_listen: Address | None = None
    leaf_lifetime: Annotated[Duration, AfterValidator(_check_leaf_lifetime)] = LONGEST_LEAF

    @model_validator(mode="after")
    def _choose_source(self) -> Self:
        """Refuse to guess who says which tokens are good, and whether pods are to be checked."""
        if (self.cluster is None) == (self.tokens is None):
            raise ValueError("expected either tokens, checked by a file of keys, or cluster")
        if self.cluster is not None:
            if self.pods_folder is not None or self.without_pods:
                raise ValueError("expected neither podsFolder nor withoutPods beside cluster")
            return self
        if (self.pods_folder is None) != self.without_pods:
            raise ValueError("expected either podsFolder, or withoutPods: true to take the tokens' word")
        return self
