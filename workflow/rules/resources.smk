"""What jobs ask of a cluster: memory and time from the size of the data, more with each retry, and GPUs.

    resources:
        **needs("convert"),

A machine's own cores and memory are its limit where no cluster is used.
"""

import functools

from mrs_synthesis import job_size, names

# How this cluster is asked for a GPU: a default resource of the profile (see profiles/README.md)
DEFAULTS = workflow.resource_settings.default_resources or {}
GPU_REQUEST = DEFAULTS["gpu_request"].raw if "gpu_request" in DEFAULTS else "gpus"
FITTING_GPUS = int(ENGINE == "batched" and config["quantify"]["device"] == "cuda")
FEWEST_JOBS = 10_000  # of the key `jobs`, with job arrays


@functools.cache
def size_of_study():
    """Return what a job over the whole study works on; looked up once, as raw files may be many."""
    if PHANTOM:
        scan_mb = PHANTOM["transients"] * job_size.MB_PER_TRANSIENT
    else:
        files = (
            [row[column] for column in sheet.PATH_COLUMNS if row[column]]
            for row in UNITS.values()
        )
        scan_mb = job_size.largest_mb(files) or job_size.USUAL_MB
    fillings = len(SYNTHETIC_KINDS) + len(config["augment"]["controls"]) + 1
    curve = len(config["augment"]["real_curve"])
    cells = AMOUNTS["replicates"] * (len(PAIRS) * fillings + curve)
    return job_size.Size(len(UNITS), scan_mb, cells)


def size_of_shard():
    """Return what a shard's job works on: the same for all shards, since an array of jobs has one request."""
    study = size_of_study()
    scans = min(config["shard_size"], study.scans)
    return job_size.Size(scans, study.scan_mb, study.cells)


def needs(kind, gpus=0, times=1):
    """Return the resources of a rule, by its kind in `job_size.NEEDS`, with so many GPUs, and so much longer."""
    size = size_of_shard if kind in job_size.SHARDED else size_of_study
    resources = {
        "mem_mb": lambda wildcards, attempt: job_size.memory_mb(kind, size(), attempt),
        "runtime": lambda wildcards, attempt: times
        * job_size.runtime_minutes(kind, size(), attempt),
    }
    try:
        return resources | (job_size.gpu(GPU_REQUEST, gpus) if gpus else {})
    except InputError as error:
        raise WorkflowError(str(error))


def training_needs(model, processes=1, trainings=1):
    """Return the resources of a rule that trains, with GPUs for the VAE only, and where the config's device is `cuda`."""
    if model == "subject":
        return needs("train")
    on_gpu = config["train"]["device"] == "cuda"
    epochs = -(-config["train"]["epochs"] // job_size.EPOCHS)
    return needs("train_vae", gpus=processes * on_gpu, times=trainings * epochs)


def fitting_needs(engine=ENGINE):
    """Return the resources of a rule that fits, with a GPU for `batched`, where the config's device is `cuda`."""
    if engine == "fsl-mrs":
        return needs("quantify_fsl")
    return needs("quantify", gpus=FITTING_GPUS)


def check_arrays():
    """Refuse what makes Snakemake's Slurm executor wait for ever: job arrays while not all jobs may be handed over.

    It submits a rule's jobs as an array only if it gets all that are ready at once, or as many as an array may have;
    else it drops those that it got (its issue 473).
    """
    arrays = getattr(workflow.executor_settings, "array_jobs", None)
    jobs = workflow.resource_settings.nodes
    if arrays and isinstance(jobs, int) and jobs < FEWEST_JOBS:
        raise WorkflowError(
            f"jobs: {jobs} with job arrays may wait for ever; leave jobs at {FEWEST_JOBS} or more and let the cluster "
            "limit how many run, or remove slurm-array-jobs from the profile"
        )


def check_names():
    """Refuse names that a cluster's jobs cannot be given: of raw files, of what else jobs read, and of folders."""
    if workflow.local_exec:
        return
    read = {str(path) for job in workflow.dag.needrun_jobs() for path in job.input}
    own = [os.getcwd(), workflow.main_snakefile, *workflow.configfiles]
    try:
        names.check_cluster_paths([*own, *sorted(read)])
    except InputError as error:
        raise WorkflowError(str(error))
