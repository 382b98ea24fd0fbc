"""How large the study is, told on stderr before anything runs."""

from mrs_synthesis import study_size


def cells_per_unit(real_curve, controls):
    """Return the number of study cells of a unit."""
    return cells.count_cells(
        PAIRS,
        cells.real_sizes(PAIRS, real_curve, *COUNTED),
        AMOUNTS["replicates"],
        len(SYNTHETIC_KINDS),
        len(controls),
    )


def say_size():
    """Print the numbers of cells and fits where there are several n_real, and those of the grid."""
    per_unit = cells_per_unit(
        config["augment"]["real_curve"], config["augment"]["controls"]
    )
    fitted = len(TEST_UNITS) + len(EDITED)  # OFF and DIFF of edited ones
    if len(PAIRS) > 1:
        print(
            f"augment: {len(PAIRS)} n_real, {per_unit} cells per unit, {len(TEST_UNITS)} test units, "
            f"{per_unit * fitted} fits in total",
            file=sys.stderr,
        )
    if "grid" in config:
        print(grid_words(per_unit), file=sys.stderr)


def grid_words(study_cells):
    """Return one line: variants, trainings, cells, fits, what is done, and how long the rest may take."""
    fits, conditions = {}, 0
    for name, variant in OWN_VARIANTS.items():
        for unit in tested_units(variant):
            status = f"{RESULTS}/grid/{name}/status/{FITS}/{UNITS[unit]['folder']}/{unit}.json"
            fits[name, unit] = Path(status).exists()
            conditions += 2 if unit in EDITED else 1
    trained = {
        name
        for name in OWN_VARIANTS
        if Path(f"{RESULTS}/grid/{name}/model/model.safetensors").exists()
    }
    own = cells_per_unit([FEWEST_REAL], POINT_CONTROLS)
    size = study_size.GridSize(
        variants=len(GRID),
        trainings=len(OWN_VARIANTS),
        scans=len(fits),
        cells=own,
        fits=own * conditions / max(len(fits), 1),
        done=sum(fits.values()),
        too_few=len(TOO_FEW),
    )
    seconds = study_size.duration(
        Path(RESULTS) / "benchmarks",
        {model: len(set(with_model(model)) - trained) for model in AXES["models"]},
        config["train"]["model"],
        size.scans - size.done,
        own,
        study_cells,
        FITS,
    )
    return size.words(seconds)


if workflow.is_main_process and config["augment"]["design"] == "augmentation":
    say_size()
