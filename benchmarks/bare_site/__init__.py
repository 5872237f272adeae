"""The floor of the annotate loop: a bare Django view, which shows one row and stores one. See `benchmarks.annotate_loop`."""
