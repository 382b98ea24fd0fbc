"""Convert one subject's scan from a vendor's files to BIDS-style NIfTI-MRS, and check what it holds.

Vendor files go through spec2nii; then the transients are arranged into edit conditions (OFF, ON), whose order is
checked against the spectra, and a header without personal data is written (`mrs_synthesis.header`). Names of raw
files, which may hold a person's, stay in the log.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrs_synthesis import __version__, stage
from mrs_synthesis.header import ON_REQUEST, converter, kept, without_names
from mrs_synthesis.stage import InputError, SkippedError

if TYPE_CHECKING:
    import numpy as np

    from mrs_synthesis.convert_formats import Raw, Source
    from mrs_synthesis.scans import Scan

FORMATS = (
    "siemens_dicom", "siemens_twix", "siemens_rda", "philips_sdat", "philips_data_list", "ge_pfile", "nifti_mrs",
)  # fmt: skip
EDIT_ORDERS = ("interleaved_on_off", "interleaved_off_on", "blocked_on_off", "blocked_off_on", "from_header")
WATER_ROLES = ("ecc", "concentration", "both", "embedded", "none")
EPILOG = """formats and what --metab is:
  siemens_dicom      folder with the .IMA or .dcm files of one series
  siemens_twix       .dat (coils and transients kept, oversampling kept)
  siemens_rda        .rda
  philips_sdat       .SDAT; the .SPAR beside it, or --aux
  philips_data_list  .data; the .list beside it; the .SPAR beside it, or --aux
  ge_pfile           P-file (.7); its water with --water-role embedded
  nifti_mrs          .nii or .nii.gz

example:
  python -m mrs_synthesis.convert --unit sub-01_acq-press --format philips_sdat --metab S01_act.SDAT \\
      --water S01_ref.SDAT --water-role both --edit-scheme none \\
      --output sub-01_acq-press_svs.nii.gz --output-ref sub-01_acq-press_mrsref.nii.gz
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Convert one subject's scan and water reference."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.convert",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--unit", required=True, help="name of the scan in records, e.g. sub-01_acq-megapress")
    parser.add_argument("--format", required=True, choices=FORMATS, help="format of the raw files")
    parser.add_argument("--metab", required=True, type=Path, help="the scan: a file, or a folder of DICOM files")
    parser.add_argument("--aux", type=Path, help="file that belongs to it (SPAR); default: same stem, same folder")
    parser.add_argument("--water", type=Path, help="water reference, same format")
    parser.add_argument("--water-aux", type=Path, help="file that belongs to the water reference")
    parser.add_argument(
        "--water-role",
        choices=WATER_ROLES,
        help="what the reference is for; embedded: it lies in the scan's own file; none: do not convert one "
        "(default: both with --water, else none)",
    )
    parser.add_argument("--edit-scheme", choices=("none", "mega"), default="none", help="default: none")
    parser.add_argument(
        "--edit-order",
        choices=EDIT_ORDERS,
        default="from_header",
        help="how ON and OFF follow each other (MEGA only); a file with an edit dimension: which one comes first "
        "(default: from_header, the file's EditCondition)",
    )
    parser.add_argument("--te-ms", type=float, help="echo time in ms, in place of the header's")
    parser.add_argument("--tr-ms", type=float, help="repetition time in ms, in place of the header's")
    parser.add_argument(
        "--keep-fields",
        nargs="*",
        default=[],
        choices=ON_REQUEST,
        metavar="FIELD",
        help="header fields to keep as they are, although they may tell who was measured, or where: "
        + ", ".join(ON_REQUEST),
    )
    parser.add_argument("--output", required=True, type=Path, help="converted scan, <unit>_svs.nii.gz")
    parser.add_argument("--output-ref", type=Path, help="converted water reference, <unit>_mrsref.nii.gz")
    stage.add_status_argument(parser)
    arguments = parser.parse_args(argv)
    role = arguments.water_role or ("both" if arguments.water else "none")
    if (role != "none") != (arguments.output_ref is not None):
        parser.error(f"--water-role {role} and --output-ref do not go together: give both or neither")
    if role in ("ecc", "concentration", "both") and arguments.water is None:
        parser.error(f"--water-role {role} needs --water")
    if role == "embedded" and arguments.water is not None:
        parser.error("--water-role embedded excludes --water: the reference lies in the scan's own file")
    from mrs_synthesis.scans import sidecar_path

    outputs = [path for path in (arguments.output, arguments.output_ref) if path is not None]

    def work() -> dict[str, Any]:
        try:
            return convert(
                metab=arguments.metab,
                format_name=arguments.format,
                output=arguments.output,
                aux=arguments.aux,
                water=arguments.water,
                water_aux=arguments.water_aux,
                water_role=role,
                output_ref=arguments.output_ref,
                edit_scheme=arguments.edit_scheme,
                edit_order=arguments.edit_order,
                te_ms=arguments.te_ms,
                tr_ms=arguments.tr_ms,
                keep_fields=arguments.keep_fields,
            )
        except InputError as error:
            if arguments.status is None:
                raise
            # The log may name the files; the record goes to tables and the page
            print(f"{arguments.unit}: {error}", file=sys.stderr)
            files = {name: getattr(arguments, name) for name in ("metab", "aux", "water", "water_aux")}
            raise InputError(without_names(str(error), files)) from error
        except (OSError, MemoryError, SkippedError):
            raise
        except Exception as error:
            if arguments.status is None:
                raise
            # A fault of the program: what it says may be what it read
            frames = traceback.extract_tb(error.__traceback__)
            print("".join(traceback.format_list(frames)), file=sys.stderr)
            place = f"{Path(frames[-1].filename).name} line {frames[-1].lineno}"
            raise RuntimeError(f"{type(error).__name__} in {place}") from None

    stage.run_subject(
        work,
        stage="convert",
        unit=arguments.unit,
        outputs=[*outputs, *map(sidecar_path, outputs)],
        status=arguments.status,
    )


def convert(
    *,
    metab: Path,
    format_name: str,
    output: Path,
    aux: Path | None = None,
    water: Path | None = None,
    water_aux: Path | None = None,
    water_role: str = "none",
    output_ref: Path | None = None,
    edit_scheme: str = "none",
    edit_order: str = "from_header",
    te_ms: float | None = None,
    tr_ms: float | None = None,
    keep_fields: Sequence[str] = (),
) -> dict[str, Any]:
    """Convert one scan, and its water reference unless `water_role` is ``"none"``; write both with sidecars.

    Parameters
    ----------
    metab, water
        Raw files (a folder for DICOM).
    te_ms, tr_ms
        Replace the header's times (ms).
    keep_fields
        Names of `header.ON_REQUEST`.

    Returns
    -------
    dict
        The scan's row of the conversion table.

    Raises
    ------
    InputError
        If the files cannot be read, contradict the arguments, or hold data that later stages would misread.
    """
    from mrs_synthesis import checks_raw, editing
    from mrs_synthesis.convert_formats import cut_points_before_echo, fingerprint, read_source
    from mrs_synthesis.scans import write_scan, write_sidecar
    from mrs_synthesis.sidecars import uri

    source = read_source(metab, format_name, aux)
    water = water if water_role in ("ecc", "concentration", "both") else None
    reference = read_source(water, format_name, water_aux) if water is not None else None
    if water_role == "embedded":
        if source.reference is None:
            raise InputError(f"{metab}: no water reference inside it; name a file in the column water, or state none")
        reference = type(source)(source.reference, files=source.files, command=source.command)
    for one, name in ((source, str(metab)), (reference, str(water or metab))):
        if one is not None:
            checks_raw.check_frequency(one.main.frequency_mhz, name)
    cut_points_before_echo(source, reference)
    notes = list(source.notes)

    fids, order, more = editing.arrange(source.main, str(metab), edit_scheme, edit_order)
    notes += more
    fids = checks_raw.whole_transients(fids, str(metab), notes)
    references = None
    if reference is not None:
        water_name = str(water or metab)
        references, _, _ = editing.arrange(reference.main, water_name, "merge", edit_order)
        references = checks_raw.whole_transients(references, water_name, notes)
        _check_pair(source.main, reference.main, str(metab), water_name)
        fids, references = _drop_silent_coils(fids, references, str(metab), notes)
        if turned := editing.align_signs(references):
            notes.append(f"{turned} water transients of opposite sign multiplied by -1")
    else:
        fids, _ = _drop_silent_coils(fids, None, str(metab), notes)

    raw = source.main
    raster = (raw.dwell_s, raw.frequency_mhz)
    for signal, name in ((fids, str(metab)), (references, str(water or metab))):
        if signal is not None:
            checks_raw.check_clipped(signal, name)
            checks_raw.check_decay(signal, *raster, name)
    water_ratio = None
    if references is not None:
        water_ratio = round(checks_raw.check_water(references, *raster, str(water or metab)), 1)
    editing.check_axis(fids, raw.dwell_s, raw.frequency_mhz, str(metab))
    inverted = False
    if edit_scheme == "mega":
        editing.check_edit_order(fids, raw.dwell_s, raw.frequency_mhz, str(metab), order)
        inverted = editing.inverted_condition(fids, raw.dwell_s, raw.frequency_mhz)
        if inverted:
            second = 0 if order.endswith("on_off") else 1
            fids[second] *= -1
            notes.append(f"condition {('OFF', 'ON')[second]}, stored with opposite sign, multiplied by -1")

    stated = {"EchoTime": te_ms, "RepetitionTime": tr_ms}
    sampled = {"edited": edit_scheme == "mega", "sampled_s": fids.shape[-1] * raw.dwell_s}
    times = checks_raw.times(_header_times(source), stated, str(metab), **sampled, notes=notes)
    labelled = checks_raw.note_name(metab, times["EchoTime"], notes)
    fields, more = kept(raw.header, keep_fields)
    notes += more
    for note in more:
        print(f"{output.name}: {note}", file=sys.stderr)
    scan = _scan(raw, fids, fields, times, ("OFF", "ON") if edit_scheme == "mega" else ("UNEDITED",))
    record = {
        "format": format_name,
        "n_transients": int(fids.shape[1]),
        "n_conditions": int(fids.shape[0]),
        "n_coils": int(fids.shape[2]),
        "n_points": int(fids.shape[3]),
        "spectrometer_frequency_mhz": raw.frequency_mhz,
        "dwell_s": raw.dwell_s,
        "te_ms": round(times["EchoTime"] * 1e3, 6),
        "tr_ms": round(times["RepetitionTime"] * 1e3, 6) if "RepetitionTime" in times else None,
        "water": int(references is not None),
        "water_over_metabolites": water_ratio,
        "te_in_name_ms": labelled,
        "measured_data": fingerprint(raw),
        "measured_water": None if reference is None else fingerprint(reference.main),
        "notes": "; ".join(notes),
    }
    facts = {"ConversionNotes": notes}
    if edit_scheme == "mega":
        facts["AcquiredEditOrder"] = order
    if references is not None:
        facts["ReferenceSignal"] = uri(output_ref, output)
    write_scan(output, scan)
    write_sidecar(output, scan, [], **facts, **_provenance(source))
    if references is not None:
        header_times = checks_raw.times(_header_times(reference), stated, str(water or metab), **sampled, notes=[])
        fields, _ = kept(reference.main.header, keep_fields)
        water_scan = _scan(reference.main, references, fields, header_times, ("UNEDITED",))
        water_scan.header["WaterSuppressed"] = False
        write_scan(output_ref, water_scan)
        write_sidecar(output_ref, water_scan, [], WaterRole=water_role, **_provenance(reference))
    return record


def _drop_silent_coils(
    fids: np.ndarray, references: np.ndarray | None, name: str, notes: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    import numpy as np

    parts = [part for part in (fids, references) if part is not None]
    alive = np.all([np.any(part != 0, axis=(0, 1, 3)) for part in parts], axis=0)
    if alive.all():
        return fids, references
    if not alive.any():
        raise InputError(f"{name}: no coil has a signal both in the scan and in its water reference; check the pair")
    notes.append(f"{np.count_nonzero(~alive)} of {alive.size} coils without signal left out")
    return fids[:, :, alive], None if references is None else references[:, :, alive]


def _check_pair(scan: Raw, water: Raw, name: str, water_name: str) -> None:
    """Refuse a water reference that cannot belong to the scan."""

    def coils(raw: Raw) -> int:
        return dict(zip(raw.tags, raw.data.shape[1:], strict=True)).get("DIM_COIL", 1)

    for what, ours, theirs in (
        ("points", scan.data.shape[0], water.data.shape[0]),
        ("coils", coils(scan), coils(water)),
        ("s dwell time", scan.dwell_s, water.dwell_s),
        ("MHz", scan.frequency_mhz, water.frequency_mhz),
    ):
        if not math.isclose(ours, theirs, rel_tol=1e-3):
            raise InputError(
                f"{water_name}: water reference with {theirs:g} {what}, but the scan {Path(name).name} has {ours:g}; "
                "check that it belongs to this scan, or set water_role to none"
            )


def _header_times(source: Source) -> dict[str, Any]:
    """Return a scan's header, with the times of its BIDS sidecar where it has none, and without those that are texts.

    A text would be repeated by an error, and may be anything.
    """
    header = {**_sidecar_times(source), **source.main.header}
    return {key: value for key, value in header.items() if not (key.endswith("Time") and isinstance(value, str))}


def _sidecar_times(source: Source) -> dict[str, Any]:
    """Return a BIDS sidecar's content for a NIfTI-MRS file whose own header may lack the times."""
    import json

    from mrs_synthesis.raw_files import reading
    from mrs_synthesis.scans import sidecar_path

    path = sidecar_path(source.files[0])
    if not source.files[0].name.lower().endswith((".nii", ".nii.gz")) or not path.is_file():
        return {}
    try:
        with reading(path):
            content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); correct or remove it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: no JSON object, expected EchoTime and RepetitionTime in s; correct or remove it")
    return {key: content[key] for key in ("EchoTime", "RepetitionTime") if key in content}


def _scan(
    raw: Raw, fids: np.ndarray, header: dict[str, Any], times: dict[str, float], conditions: tuple[str, ...]
) -> Scan:
    from mrs_synthesis.scans import Scan

    dimensions = ("DIM_COIL", "DIM_DYN") if "DIM_COIL" in raw.tags else ("DIM_DYN",)
    return Scan(fids, raw.frequency_mhz, raw.dwell_s, header | times, conditions, raw.affine, dimensions)


def _provenance(source: Source) -> dict[str, Any]:
    """Return GeneratedBy and the hash of the source files for the sidecar."""
    from mrs_synthesis.files import sha256
    from mrs_synthesis.raw_files import reading

    digest = hashlib.sha256()
    for file in source.files:
        with reading(file):
            digest.update(bytes.fromhex(sha256(file)))
    tools = [{"Name": "mrs-synthesis", "Version": __version__}]
    if source.command:
        version = (converter(source.main.header.get("ConversionMethod")) or "").removeprefix("spec2nii v")
        tools.append({"Name": "spec2nii", "Version": version, "Description": source.command})
    return {
        "GeneratedBy": tools,
        "NumberOfSourceFiles": len(source.files),
        "SourceHash": f"sha256 of the files' sha256: {digest.hexdigest()}",
    }


if __name__ == "__main__":
    stage.run(main)
