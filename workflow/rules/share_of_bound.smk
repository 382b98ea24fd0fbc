"""How near every source comes to the digital phantom's physical limit."""

# Reconstructions of all transients have no n_real
FILLED_PHANTOM = PHANTOM and config["augment"]["design"] == "augmentation"

if FILLED_PHANTOM:

    rule share_of_bound:
        """RMS error against the truth beside the bound, the real transients alone and the controls, by n_real."""
        input:
            concentrations="<results>/tables/concentrations.tsv",
            units="<results>/units.tsv",
            truth="<results>/tables/truth.tsv",
            bound="<results>/tables/bayes_bound.tsv",
        output:
            table=reported("share_of_bound", "Physical limit"),
            dictionary="<results>/tables/share_of_bound.json",
        log:
            "<results>/logs/share_of_bound.log",
        benchmark:
            "<results>/benchmarks/share_of_bound.tsv"
        conda:
            environment("evaluate")
        resources:
            **needs("table"),
        params:
            seed=config["seed"],
            flags=flags(config["evaluate"]),
            code=code("share_of_bound"),
        shell:
            r"""
            python -m mrs_synthesis.share_of_bound --concentrations {input.concentrations:q} --units {input.units:q} \
                --truth {input.truth:q} --bound {input.bound:q} --seed {params.seed} {params.flags:q} \
                --output {output.table:q} 2>&1 | tee {log:q}
            """
