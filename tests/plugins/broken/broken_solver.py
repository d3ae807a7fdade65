"""A third party's module that fails while it is imported."""

raise RuntimeError("the licence server is on fire")
