"""Data-driven synthesis of MR spectroscopy transients: one module per stage of the workflow.

Each stage runs alone as ``python -m mrs_synthesis.<stage> --help``. Only what reads Snakemake's benchmarks and
records (run_times, study_size, provenance) knows of Snakemake.
"""

__version__ = "0.1.0"
