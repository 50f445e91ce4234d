"""Triton kernels, each with its op in plain torch beside it; :mod:`xlt_kernels.case` says what makes a kernel."""
