"""What names and paths may be before they become files, words of commands, or text on a page.

The patterns stand in the schemas; here is what they cannot say, and how a refusal reads.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mrs_synthesis.stage import InputError

CONFIG_SCHEMA = Path(__file__).resolve().parents[1] / "schemas" / "config.schema.json"
LONGEST_NAME = 255  # bytes of a file's name on common file systems
LONGEST_SHOWN = 60
LONGEST_MESSAGE = 200
NOT_ON_CLUSTERS = "'\"`$\\!"  # what a shell reads inside quotes, or that ends them
WORDS = re.compile("[A-Za-z0-9][A-Za-z0-9 ._-]{0,47}", flags=re.ASCII)  # what a BIDS table may call a site or vendor


def shown(value: Any) -> str:
    """Return a value for a message: quoted, on one line, in ASCII as others hide or look alike, not too long."""
    text = ascii(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... ({len(str(value))} characters)"


def check_path(path: str, where: str) -> None:
    """Check a path relative to the working directory, as it stands in commands.

    Raises
    ------
    InputError
        If it would be taken for an option, or a name in it is too long for any file.
    """
    if path.startswith("-"):
        raise InputError(f"{where}: {shown(path)} begins with -, expected a path that no program takes for an option")
    for part in Path(path).parts:
        if len(os.fsencode(part)) > LONGEST_NAME:
            raise InputError(f"{where}: {shown(part)}, expected names of at most {LONGEST_NAME} bytes; rename the file")


def check_cluster_paths(paths: Iterable[str | Path]) -> None:
    """Check paths that Snakemake itself puts into the command of a cluster's job.

    Its executors write Python's `repr` of a path between a shell's quotes, which holds for none of these characters:
    at best the job waits for a file of another name, at worst a name with ``$()`` in it runs.

    Raises
    ------
    InputError
        If a path has quotes, a back quote, ``$``, a backslash, ``!``, or a character that cannot be printed.
    """
    for path in map(str, paths):
        if bad := next((one for one in path if one in NOT_ON_CLUSTERS or not one.isprintable()), ""):
            raise InputError(
                f"{shown(path)} has {shown(bad)}, which no job of a cluster can be given safely; rename the file or "
                "folder, or run the study on this machine (--executor local)"
            )


def check_words(value: str, where: str) -> None:
    """Check what a BIDS table calls a site or vendor: letters, digits, and between them space, point, _ and -."""
    if not WORDS.fullmatch(value):
        raise InputError(
            f"{where}: {shown(value)}, expected letters and digits (ASCII), space, . _ and -, at most 48, a letter or "
            "digit first; rename it"
        )


def check_keys(path: str | Path) -> None:
    """Check that no key of a config file stands twice in its section: YAML's reader takes the last without a word.

    JSON that is indented by tabs, which is no YAML, is not looked at.

    Raises
    ------
    InputError
        Naming the file, the row, and the key.
    """
    from yaml import SafeLoader, ScalarNode, SequenceNode, YAMLError, compose

    try:
        with open(path, encoding="utf-8") as stream:
            left = [compose(stream, Loader=SafeLoader)]
    except YAMLError:
        return  # Snakemake refused all else when it read the config
    known = {None}
    while left:
        node = left.pop()
        if node in known or isinstance(node, ScalarNode):
            continue
        known.add(node)  # an alias stands for the same one
        if isinstance(node, SequenceNode):
            left += node.value
            continue
        rows: dict[str, int] = {}
        for key, value in node.value:
            row = key.start_mark.line + 1
            if key.value in rows:
                raise InputError(
                    f"{path} row {row}: the key {shown(key.value)} stands in row {rows[key.value]} already; make one "
                    "of the two"
                )
            rows[key.value] = row
            left.append(value)


def check_config(config: Mapping[str, Any]) -> None:
    """Check a config against its schema.

    Raises
    ------
    InputError
        Naming the first key that is wrong, what was found, and what the schema says of it.
    """
    import jsonschema

    validator = jsonschema.Draft202012Validator(json.loads(CONFIG_SCHEMA.read_text(encoding="utf-8")))
    faults = sorted(validator.iter_errors(config), key=lambda fault: list(map(str, fault.path)))
    if not faults:
        return
    fault = faults[0]
    key = ": ".join(map(str, fault.path)) or "top level"
    rule = f"{fault.validator} {fault.validator_value}"
    about = fault.schema.get("description", "")
    if fault.validator in ("required", "additionalProperties", "oneOf", "propertyNames"):
        text = fault.message if len(fault.message) <= LONGEST_MESSAGE else f"{fault.message[:LONGEST_MESSAGE]}..."
        raise InputError(f"config, {key}: {text}; correct the key (config/README.md explains all)")
    if fault.validator == "pattern" and about:
        rule = ""
    expected = ". ".join(filter(None, [rule, about]))
    raise InputError(f"config, {key}: found {shown(fault.instance)}, expected: {expected}")
