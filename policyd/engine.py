"""The one door to what is Rust: all that Python decides, encodes, canonicalises or fans out.

Questions, answers and rows are JSON as bytes; `docs/decisions/0001-seams.md` has their shapes. Errors are
those of `policyd.errors`: `SnapshotError`, `RequestRefused`, `PatternError`, `IdentityFormError`, else
`EngineError`.
"""

from policyd._engine import (
    READER_VERSION,
    Delivered,
    Ended,
    Fanout,
    Greeted,
    Nacked,
    Opened,
    StreamView,
    Table,
    assemble,
    canonicalize,
    check_identity,
    check_regex,
    encode_cluster,
    encode_workload,
    normal_host,
    normal_path,
    version,
)

__all__ = [
    "READER_VERSION",
    "Delivered",
    "Ended",
    "Fanout",
    "Greeted",
    "Nacked",
    "Opened",
    "StreamView",
    "Table",
    "assemble",
    "canonicalize",
    "check_identity",
    "check_regex",
    "encode_cluster",
    "encode_workload",
    "normal_host",
    "normal_path",
    "version",
]
