"""From float weights to integer codes: grids, solvers, and the statistics that guide them."""
