"""Write the bill of materials of an installed default environment as CycloneDX 1.6 JSON (`make sbom`).

cyclonedx-py lists what is installed; added are the SHA-256 of each release's files (from `envs/locks/`) and the
reviewed licences (from `envs/licences.tsv`). What is no pin of the default environment (pip, the tests' tools) is left
out. The file is checked against CycloneDX's own JSON schema, and is the same for the same environment.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from licences import read as read_licences
from lock import LOCKS, ROOT, blocks, normal


def pins_with_hashes() -> dict[str, list[str]]:
    """Return the SHA-256 of the files of every pin, by `name==version`."""
    found = {}
    for part in ("default", "torch", "torch-cpu"):
        for block in blocks((LOCKS / f"{part}.lock").read_text()).values():
            found[re.match(r"[^\s;\\]+", block)[0]] = re.findall(r"sha256:([0-9a-f]{64})", block)
    return found


def completed(bom: dict) -> dict:
    """Return cyclonedx-py's list with hashes and licences, of the default environment alone."""
    hashes = pins_with_hashes()
    licences = {row["package"]: row["licence"] for row in read_licences()}
    names = {pin.partition("==")[0] for pin in hashes}
    kept = {}
    for component in bom["components"]:
        name = normal(component["name"])
        pin = f"{name}=={component['version']}"
        if name not in names:
            continue
        if pin not in hashes:
            sys.exit(f"{pin}: installed, but envs/locks/ name another version; install the pins (make demo) first")
        component["licenses"] = [{"expression": licences[name], "acknowledgement": "concluded"}]
        files = {
            "type": "distribution",
            "url": component["purl"],
            "comment": "the files of this release, of which one is installed",
            "hashes": [{"alg": "SHA-256", "content": one} for one in hashes[pin]],
        }
        component["externalReferences"] = [*component.get("externalReferences", []), files]
        kept[component["bom-ref"]] = component
    needed = {*blocks((LOCKS / "default.lock").read_text()), "torch"}  # CUDA's libraries come with one build of torch
    if missing := sorted(needed - {normal(component["name"]) for component in kept.values()}):
        sys.exit(f"{', '.join(missing)}: pinned, but not installed; install the pins (make demo) first")
    edges = [
        edge | ({"dependsOn": [ref for ref in edge["dependsOn"] if ref in kept]} if "dependsOn" in edge else {})
        for edge in bom["dependencies"]
        if edge["ref"] in kept
    ]
    about = (ROOT / "CITATION.cff").read_text()
    main_component = {
        "type": "application",
        "bom-ref": "mrs-synthesis",
        "name": "mrs-synthesis",
        "version": re.search(r'^version:\s*"?([^"\s]+)', about, re.MULTILINE)[1],
        "licenses": [{"license": {"id": "BSD-3-Clause"}}],
    }
    return bom | {
        "components": list(kept.values()),
        "dependencies": [{"ref": "mrs-synthesis", "dependsOn": sorted(kept)}, *edges],
        "metadata": bom["metadata"] | {"component": main_component},
    }


def main() -> None:
    """Write and check the bill of materials."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="Python of the environment")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    call = [Path(sys.executable).with_name("cyclonedx-py"), "environment", "--spec-version", "1.6"]
    call += ["--output-format", "JSON", "--output-reproducible", "--output-file", "-", arguments.python]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"cyclonedx-py: {done.stderr.strip()}")
    text = json.dumps(completed(json.loads(done.stdout)), indent=1, sort_keys=True) + "\n"
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"not valid CycloneDX 1.6: {error}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)
    print(f"{arguments.output}: valid CycloneDX 1.6")


if __name__ == "__main__":
    main()
