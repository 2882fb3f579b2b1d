"""Arrays to codes and back: pure functions, one module per quantizer (spec 10 and 11)."""
