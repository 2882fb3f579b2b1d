"""Read DSQ datasets from a path or over HTTP, and train from them."""

__all__: list[str] = []
