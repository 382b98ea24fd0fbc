"""The physical limit on the digital phantom, to hold beside the study's sources and controls."""

if PHANTOM:
    BOUND_VENDORS = sorted({UNITS[unit]["vendor"] for unit in TEST_UNITS})

    # The study's numbers of real transients per edit condition, beside the usual ones
    BOUND_AMOUNTS = {1, 2, 4, 8, 16, 32, 40, 64} | set(
        cells.real_sizes(PAIRS, config["augment"]["real_curve"], *COUNTED)
    )

    rule bayes_bound:
        """What the best method could tell of a subject from n real transients."""
        input:
            units="<results>/units.tsv",
            bases=[
                f"{RESULTS}/basis/{PHANTOM['basis'][vendor]}"
                for vendor in BOUND_VENDORS
            ],
        output:
            table=reported("bayes_bound", "Physical limit"),
            dictionary="<results>/tables/bayes_bound.json",
        log:
            "<results>/logs/bayes_bound.log",
        benchmark:
            "<results>/benchmarks/bayes_bound.tsv"
        conda:
            environment("phantom")
        resources:
            **needs("table"),
        params:
            vendors=BOUND_VENDORS,
            ratios=config["evaluate"]["ratios"],
            n_real=sorted(BOUND_AMOUNTS),
            seed=config["seed"],
            flags=flags(PHANTOM, leave_out=["basis"]),
            code=code("bayes_bound"),
        shell:
            r"""
            python -m mrs_synthesis.bayes_bound --units {input.units:q} --vendors {params.vendors:q} \
                --bases {input.bases:q} --ratios {params.ratios:q} --n-real {params.n_real} --seed {params.seed} \
                {params.flags:q} --output {output.table:q} 2>&1 | tee {log:q}
            """
