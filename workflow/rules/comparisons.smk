"""Is a synthetic filling worth it: paired comparisons with the real transients alone and with every control."""

# Reconstructions of all transients fill nothing
FILLED = config["augment"]["design"] == "augmentation" and bool(SYNTHETIC_KINDS)

if FILLED:

    rule comparisons:
        """Ratio of RMS errors of every filling to each comparator's, and what is worth it."""
        input:
            concentrations="<results>/tables/concentrations.tsv",
            units="<results>/units.tsv",
        output:
            table=reported("comparisons", "Effective transients"),
            dictionary="<results>/tables/comparisons.json",
            worth=reported("worth", "Summary"),
            worth_dictionary="<results>/tables/worth.json",
        log:
            "<results>/logs/comparisons.log",
        benchmark:
            "<results>/benchmarks/comparisons.tsv"
        conda:
            environment("evaluate")
        resources:
            **needs("table"),
        params:
            seed=config["seed"],
            flags=flags(config["evaluate"], leave_out=["tost_margin_percent"]),
            code=code("comparisons"),
        shell:
            r"""
            python -m mrs_synthesis.comparisons --concentrations {input.concentrations:q} --units {input.units:q} \
                --seed {params.seed} {params.flags:q} --output {output.table:q} --output-worth {output.worth:q} \
                2>&1 | tee {log:q}
            """
