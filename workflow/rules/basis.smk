"""Basis sets as folders of FSL-MRS JSON files, which both engines read."""


rule simulate_basis:
    """A basis set by density-matrix simulation."""
    output:
        directory("<results>/basis/{set}"),
    wildcard_constraints:
        set=one_of([name for name, entry in BASIS_SETS.items() if "simulate" in entry]),
    log:
        "<results>/logs/basis/{set}.log",
    benchmark:
        "<results>/benchmarks/basis/{set}.tsv"
    conda:
        environment("phantom")
    resources:
        **needs("table"),
    params:
        flags=lambda wildcards: flags(BASIS_SETS[wildcards.set]["simulate"]),
        code=code("basis_simulate", "mrs_synthesis/spin_systems.json"),
    shell:
        "python -m mrs_synthesis.basis_simulate {params.flags:q} --output {output:q} 2>&1 | tee {log:q}"


rule read_basis:
    """A basis set from LCModel, FID-A or FSL-MRS files, checked and written in one form."""
    input:
        unpack(basis_files),
    output:
        directory("<results>/basis/{set}"),
    wildcard_constraints:
        set=one_of([name for name, entry in BASIS_SETS.items() if "files" in entry]),
    log:
        "<results>/logs/basis/{set}.log",
    benchmark:
        "<results>/benchmarks/basis/{set}.tsv"
    conda:
        environment("phantom")
    resources:
        **needs("table"),
    params:
        flags=lambda wildcards: flags(BASIS_SETS[wildcards.set]["files"]),
        code=code("basis"),
    shell:
        "python -m mrs_synthesis.basis {params.flags:q} --output {output:q} 2>&1 | tee {log:q}"
