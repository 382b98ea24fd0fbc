"""Jobs that write down what they were given, with the resources of workflow/rules/resources.smk."""

import sys
from pathlib import Path

ROOT = Path(config["root"])
sys.path.insert(0, str(ROOT / "workflow"))

from mrs_synthesis import sheet
from mrs_synthesis.stage import InputError

# What resources.smk reads of a study
PHANTOM = {"transients": 10}
ENGINE = "batched"
UNITS = {f"sub-{number}": {} for number in range(9)}
AMOUNTS = {"replicates": 1}
PAIRS, SYNTHETIC_KINDS = [(2, 8)], []
config |= {"shard_size": 3, "augment": {"controls": [], "real_curve": [1]}}
config |= {"train": {"device": "cuda", "epochs": 40}, "quantify": {"device": "cuda"}}


include: ROOT / "workflow" / "rules" / "resources.smk"


onstart:
    check_arrays()


# What Slurm itself says of the job; `resources` is what Snakemake asked it for
SAYS = "scontrol --oneliner show job $SLURM_JOB_ID; env | grep -E '^(CUDA_VISIBLE|.*_NUM_THREADS|SLURM_ARRAY)' | sort"


rule all:
    input:
        expand("convert_{shard}.txt", shard=range(int(config["shards"]))),
        "train.txt",
        expand("fit_{shard}.txt", shard=range(2)),


rule convert:
    output:
        "convert_{shard}.txt",
    threads: 2
    resources:
        **needs("convert"),
    params:
        says=SAYS,
        fail=config["fail"],  # a shard whose first attempt fails
    shell:
        "({params.says}; echo mem_mb={resources.mem_mb} runtime={resources.runtime} shard={wildcards.shard})"
        " > attempt_{wildcards.shard}_{resources.mem_mb}.txt; "
        "cp attempt_{wildcards.shard}_{resources.mem_mb}.txt {output}; "
        "[ {wildcards.shard} != {params.fail} ] || [ $(ls attempt_{params.fail}_*.txt | wc -l) -ge 2 ]"


rule train:
    output:
        "train.txt",
    resources:
        **training_needs("paper"),
    params:
        says=SAYS,
    shell:
        "({params.says}) > {output}"


rule fit:
    output:
        "fit_{shard}.txt",
    resources:
        **fitting_needs(),
    params:
        says=SAYS,
    shell:
        "({params.says}) > {output}"
