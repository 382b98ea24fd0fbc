"""Shards: some scans in one job, which leaves one record; how such a job is told what to do.

Paths with `%folder` and `%unit` stand for each scan's own, `%own` for its own words.
"""

from mrs_synthesis import records, writers

SHARDS = records.divide(SEEN_UNITS, config["shard_size"], "seen") | records.divide(
    HELD_OUT_UNITS, config["shard_size"], "heldout"
)
TESTED = set(TEST_UNITS)
TEST_SHARDS = [
    name for name, units in SHARDS.items() if units[0] in TESTED
]  # all of a shard, or none
SEEN_SHARDS = [name for name in SHARDS if name.startswith("seen")]
HELD_OUT_SHARDS = [name for name in SHARDS if name not in SEEN_SHARDS]
MOST_SHARDS = 2000
LONGEST = 100_000  # of what a command says of scans: it has to fit into one argument of the shell

RAW = f"{RESULTS}/rawdata/%folder/mrs/%unit"
DERIVATIVES = f"{RESULTS}/derivatives"
DERIVED = f"{DERIVATIVES}/%folder/mrs/%unit"
FITS = f"quantify_{ENGINE_LABEL}"

if len(SHARDS) > MOST_SHARDS:
    raise WorkflowError(
        f"shard_size: {len(UNITS)} scans make {len(SHARDS)} shards of {config['shard_size']}, expected at most "
        f"{MOST_SHARDS}; set it to {-(-len(UNITS) // MOST_SHARDS)} or more"
    )

# What is lost is made anew; but a check finds it lost, and what another run is just making is not
if (
    workflow.is_main_process
    and "verify" not in sys.argv
    and writers.only_run(RESULTS, keep=False)
):
    for record, units in records.lost(Path(RESULTS)).items():
        print(
            f"{record}: files of {', '.join(units)} are gone; they will be made again",
            file=sys.stderr,
        )
        record.unlink()


wildcard_constraints:
    shard=one_of(SHARDS),


onstart:
    if workflow.is_main_process and not writers.only_run(RESULTS):
        raise WorkflowError(
            f"{RESULTS}: another run of the workflow is making these results; wait for it, or end it"
        )
    check_arrays()
    check_names()
    tell_of_fsl_mrs()
    # What the command line forces is made anew, scan by scan
    settings = workflow.dag_settings
    forced = {
        *settings.forcerun,
        *(settings.targets if settings.forcetargets else ()),
    }
    records.forget(Path(RESULTS), set(map(str, forced)), settings.forceall)


def recorded(stage, shards=SHARDS):
    """Return the records of a stage, by default of all shards."""
    return [f"<results>/records/{stage}/{shard}.json" for shard in shards]


def all_records():
    """Return the records of every stage: whatever failed stands in them."""
    tested = ["synthesise", "augment", FITS]
    everywhere = ["convert", "preprocess"]
    return [
        *(file for stage in everywhere for file in recorded(stage)),
        *(file for stage in tested for file in recorded(stage, TEST_SHARDS)),
    ]


def named(wildcards, input):
    """Return the input's records for a command, runs of shards in one."""
    return records.compact(file for file in input if "/records/" in file)


def sharded(
    *stages, about=lambda row: {}, units=None, reads=(), writes=(), temporary=()
):
    """Return a function for params: what a shard's job is told, but for its record, shared files and stages' words.

    `about` returns from a scan's row what is its own (`words`; `reads`: raw files by role; `writes`), `units` from the
    wildcards the shard's scans (default: all). `reads`, `writes`, `temporary` are paths of a scan, with the job's
    wildcards in braces. It looks at wildcards alone: a change of params that depend on input or output reruns nothing.
    """
    program = "-".join(map(code, stages))
    lists = {"reads": reads, "writes": writes, "temporary": temporary}

    def words(wildcards):
        chosen = units(wildcards) if units else SHARDS[wildcards.shard]
        scans = [
            {"unit": unit, "folder": UNITS[unit]["folder"]} | about(UNITS[unit])
            for unit in chosen
        ]
        text = json.dumps(scans)
        if len(text) > LONGEST:
            raise WorkflowError(
                f"shard_size: the names of {len(scans)} scans take {len(text)} characters of a command, expected at "
                f"most {LONGEST}; set it to {len(scans) * LONGEST // len(text)} or less"
            )
        filled = {
            name: [path.format(**wildcards) for path in paths] or None
            for name, paths in lists.items()
        }
        return flags({"study": RESULTS, "code": program, **filled, "units": text})

    return words


def shared(*names):
    """Return a function for params: inputs that all scans of a shard read."""

    def files(wildcards, input):
        found = [input[name] for name in names]
        return [
            file
            for one in found
            for file in ([one] if isinstance(one, str) else list(one))
        ]

    return files
