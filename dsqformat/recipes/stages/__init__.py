"""One module per stage: inputs, options and seed in, arrays and facts out."""
