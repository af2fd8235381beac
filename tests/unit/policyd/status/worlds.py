"""Names that tests of statuses share."""

from policyd.model.names import ObjectKey

KEY = ObjectKey("policyd.dev", "Server", "books", "http")
