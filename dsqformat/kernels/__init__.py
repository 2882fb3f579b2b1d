"""Hot loops, compiled ahead of time where a C compiler was at hand."""
