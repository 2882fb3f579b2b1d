"""Serve DSQ datasets over HTTP."""

__all__: list[str] = []
