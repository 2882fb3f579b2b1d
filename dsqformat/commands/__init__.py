"""The `dsq` commands that need nothing but this package; one module each."""
