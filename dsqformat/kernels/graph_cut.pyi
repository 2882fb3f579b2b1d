# Types for checkers, which cannot read those of Cython: the same as in NumPy.
from dsqformat.kernels.plain_graph_cut import accumulate as accumulate
from dsqformat.kernels.plain_graph_cut import column_sums as column_sums
from dsqformat.kernels.plain_graph_cut import evaluate as evaluate
from dsqformat.kernels.plain_graph_cut import row_products as row_products
