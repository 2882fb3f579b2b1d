# The tree of blocks in a superblock of 32x32 pixels (spec A.3), walked with a stack of nodes.
#
# A node is y << 8 | x << 3 | size: its place in the superblock and the index of its size.

cdef inline int push_quarters(int* stack, int top, int node) noexcept nogil:
    """Push the quarters of a node, to be popped in raster order; return the new top."""
    cdef int half = 2 << (node & 7)
    node += -1
    stack[top] = node + (half << 8) + (half << 3)
    stack[top + 1] = node + (half << 8)
    stack[top + 2] = node + (half << 3)
    stack[top + 3] = node
    return top + 4
