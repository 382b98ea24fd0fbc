"""A finished study as an RO-Crate: `ro-crate-metadata.json` in the results folder describes what lies there.

Follows Provenance Run Crate 0.5 (and with it Workflow Run, Process Run and Workflow RO-Crate): the workflow with a step
for each rule, an action for each job with what it read and made, tables, model and page with their hashes, from
`provenance.json`. Scans' files are described by folder with their number and named one by one in `records/`, so that
the crate of a large study stays small. Nothing is copied but the workflow itself, which lies outside the results.

Sources: RO-Crate 1.1, https://w3id.org/ro/crate/1.1; Workflow Run RO-Crate, https://w3id.org/ro/wfrun/provenance/0.5
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrs_synthesis.files import write_json
from mrs_synthesis.provenance import ROOT, SHARD
from mrs_synthesis.report_tables import ABOUT
from mrs_synthesis.stage import InputError, require, run

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
SHA256 = "https://w3id.org/ro/terms/workflow-run#sha256"  # no term of RO-Crate 1.1
DONE = "http://schema.org/CompletedActionStatus"
COPIED = ("Snakefile", "workflow", "envs", "requirements.txt", "LICENSE", "CITATION.cff")
OWN_LICENCE = "https://spdx.org/licenses/BSD-3-Clause"
FORMATS = {
    ".tsv": "text/tab-separated-values",
    ".csv": "text/csv",
    ".json": "application/json",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".md": "text/markdown",
    ".gz": "application/gzip",
}
FOLDERS = {  # with the rule whose scans are in it
    "sourcedata": ("The scanner's files of the digital phantom", "phantom"),
    "rawdata": ("Scans as NIfTI-MRS, a BIDS dataset", "convert"),
    "derivatives": ("Preprocessed and synthetic transients, study cells and fits, a BIDS dataset", "preprocess"),
    "records": ("What the jobs of many scans made of each, with hashes", "convert"),
    "status": ("What was made of each scan, with hashes", "convert"),
    "benchmarks": ("Times and memory of the jobs", None),
}
FILES = {
    "report.html": "The page of all results",
    "provenance.json": "Inputs, config, versions and command of every result",
    "config.json": "The configuration, all defaults filled in",
    "units.tsv": "The scans of the study and their split",
    "model/README.md": "The model's card",
    "model/model.safetensors": "Weights of the generative model",
}


def copy_workflow(target: Path) -> None:
    """Copy the workflow's own files into a new folder; it appears whole or not at all."""
    temporary = target.with_name(f".{target.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, temporary / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copyfile(source, temporary / name)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


class Description:
    """The crate while it is put together.

    Parameters
    ----------
    study
        Folder of the results.
    workflow
        Name of the folder in it that holds the workflow's files.
    known
        Content of `provenance.json`.
    licence
        SPDX identifier or address of the licence of the results; None if none is stated.
    """

    def __init__(self, study: Path, workflow: str, known: Mapping[str, Any], licence: str | None) -> None:
        from rocrate.rocrate import ROCrate

        self.study, self.workflow, self.known = study, workflow, known
        self.crate: ROCrate = ROCrate(version="1.1")
        self.crate.metadata.extra_terms["sha256"] = SHA256
        self.jobs: Mapping[str, Mapping[str, Any]] = known["jobs"]
        self.entities: dict[str, Entity] = {}
        self.operators = self.contextual("#operators", "Organization", name="Those who ran the study (not named)")
        self.developers = self.contextual("#developers", "Organization", name="The mrs-synthesis developers")
        self._root(licence)

    def contextual(self, identifier: str, kind: str, /, **properties: Any) -> Entity:
        """Add an entity that is no file."""
        from rocrate.model.contextentity import ContextEntity

        return self.crate.add(ContextEntity(self.crate, identifier, properties={"@type": kind, **properties}))

    def _root(self, licence: str | None) -> None:
        root, study = self.crate.root_dataset, self.known["study"]
        root["name"] = f"Synthetic MR spectra and their bias: study {study}"
        root["description"] = (
            "Results of the workflow mrs-synthesis: what synthetic transients of MR spectroscopy are worth in this "
            "study, beside real transients and null controls. Synthetic spectra are not measurements."
        )
        root["license"] = self._licence(licence)
        root["author"] = root["publisher"] = self.operators
        root["conformsTo"] = [
            self.contextual(profile, "CreativeWork", name=name, version=version)
            for profile, (name, version) in PROFILES.items()
        ]
        self.crate.metadata["conformsTo"] = [{"@id": "https://w3id.org/ro/crate/1.1"}, {"@id": [*PROFILES][-1]}]
        ends = [job["ended"] for job in self.jobs.values() if job["ended"]]
        root["datePublished"] = max(ends, default="1970-01-01")

    def _licence(self, licence: str | None) -> Entity:
        if licence is None:
            words = "No licence is stated. The terms of the data that the study was made from apply."
            return self.contextual("#licence", "CreativeWork", name="No licence stated", description=words)
        address = licence if "://" in licence else f"https://spdx.org/licenses/{licence}"
        return self.contextual(address, "CreativeWork", name=licence, description="Licence of the study's results")

    def file(self, name: str) -> Entity:
        """Return the entity of a file or folder that a job read or made.

        Of a file that is not among the results (or gone, as temporary ones are) it has the name and the hash only.
        """
        if name in self.entities:
            return self.entities[name]
        about = self.known["files"].get(name, {})
        path = self.study / name
        facts = {"name": name, "sha256": about.get("sha256")} if about.get("sha256") else {"name": name}
        if name.startswith("outside/") or not path.exists():
            found = self.contextual(f"#{name}", "CreativeWork", **facts)
        elif path.is_dir():
            words = f"{sum(one.is_file() for one in path.rglob('*'))} files"
            found = self.crate.add_dataset(dest_path=f"{name}/", properties=facts | {"description": words})
        else:
            facts["contentSize"] = str(path.stat().st_size)
            if words := self._words(path, name):
                facts["description"] = words
            facts["encodingFormat"] = FORMATS.get(path.suffix, "application/octet-stream")
            found = self.crate.add_file(dest_path=name, properties=facts)
        self.entities[name] = found
        return found

    def _words(self, path: Path, name: str) -> str | None:
        """Return what a file is, as its data dictionary or the page calls it."""
        if name in FILES:
            return FILES[name]
        if name.startswith("records/"):
            return "What the job of a shard made of its scans, with hashes of the files"
        if path.parent.name != "tables":
            return None
        if path.suffix == ".json":
            return f"Data dictionary of {path.stem}.tsv" if path.with_suffix(".tsv").exists() else None
        return ABOUT.get(path.stem)

    def folders(self) -> None:
        """Add the folders of scans' files and of logs, each as one dataset with its numbers."""
        for name, (words, rule) in FOLDERS.items():
            folder = self.study / name
            if folder.is_dir():
                files = sum(one.is_file() for one in folder.rglob("*"))
                scans = {unit for job in self.jobs.values() if job["rule"] == rule for unit in job.get("units", ())}
                text = f"{words}: {files} files" + (f" of {len(scans)} scans" if scans else "")
                self.crate.add_dataset(dest_path=f"{name}/", properties={"name": name, "description": text})

    def software(self, versions: Mapping[str, str]) -> list[Entity]:
        """Return an entity for each program of an environment."""
        found = []
        for name, version in versions.items():
            identifier = f"#software/{name}-{version}"
            known = self.crate.get(identifier)
            kind = {"name": name, "softwareVersion": version}
            found.append(known or self.contextual(identifier, "SoftwareApplication", **kind))
        return found

    def run(self) -> None:
        """Add the workflow, its steps, and the actions of its jobs."""
        main = self._main()
        engine = self.contextual(
            "#snakemake",
            "SoftwareApplication",
            name="Snakemake",
            softwareVersion=self.known["workflow"]["snakemake"],
            url="https://snakemake.github.io",
        )
        rules: dict[str, list[str]] = {}
        for name in sorted(self.jobs, key=lambda name: (self.jobs[name]["started"] or "", name)):
            rules.setdefault(self.jobs[name]["rule"], []).append(name)
        controls, actions = [], []
        for position, (rule, names) in enumerate(rules.items(), start=1):
            tool = self._tool(rule, names)
            step = self.contextual(
                f"{main.id}#{rule}", "HowToStep", name=rule, position=str(position), workExample=tool
            )
            main.append_to("hasPart", tool)
            main.append_to("step", step)
            own = [self._action(name, tool) for name in names]
            actions += own
            about = {"name": f"{len(own)} job(s) of the rule {rule}", "instrument": step, "object": own}
            controls.append(self.contextual(f"#control/{rule}", "ControlAction", **about))
        whole = self._whole(main)
        times = {"startTime": whole["startTime"], "endTime": whole["endTime"]}
        self.contextual(
            "#orchestration",
            "OrganizeAction",
            name=f"Snakemake {engine['softwareVersion']} ran the workflow",
            instrument=engine,
            object=controls,
            result=whole,
            agent=self.operators,
            **times,
        )
        self.crate.root_dataset["mentions"] = [whole, *actions]

    def _main(self) -> Entity:
        about = self.known["workflow"]
        licence = self.contextual(
            OWN_LICENCE, "CreativeWork", name="BSD-3-Clause", description="Licence of the workflow, not of its results"
        )
        path = f"{self.workflow}/Snakefile"
        language = self.contextual(
            "https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
            "ComputerLanguage",
            name="Snakemake",
            identifier={"@id": "https://doi.org/10.1093/bioinformatics/bts480"},
            url={"@id": "https://snakemake.github.io"},
        )
        main = self.crate.add_file(
            dest_path=path,
            properties={
                "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
                "name": "mrs-synthesis",
                "version": about["version"],
                "description": "From raw files of MR spectroscopy to synthetic transients and a report on their bias",
                "programmingLanguage": language,
                "license": licence,
                "creator": self.developers,
                "encodingFormat": "text/plain",
                "conformsTo": {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"},
            },
        )
        if about["commit"]:
            main["identifier"] = f"git commit {about['commit']}"
        number = sum(one.is_file() for one in (self.study / self.workflow).rglob("*"))
        words = (
            f"The workflow's files: {number} files, of which those of the workflow have the SHA-256 {about['sha256']}"
        )
        folder = {"name": "workflow", "description": words, "hasPart": main}
        self.crate.add_dataset(dest_path=f"{self.workflow}/", properties=folder)
        self.crate.mainEntity = main
        return main

    def _tool(self, rule: str, names: Sequence[str]) -> Entity:
        command = self.jobs[names[0]]["command"]
        words = [word for word in command if word.startswith("mrs_synthesis.") and word != SHARD]
        stages = [word for before, word in pairwise(command) if before == "--"]
        module = words[-1] if words else f"mrs_synthesis.{stages[0]}" if stages else rule
        environments = {self.jobs[name]["environment"] for name in names} - {None}
        requirements = {
            entity.id: entity
            for environment in sorted(environments)
            for entity in self.software(self.known["environments"][environment])
        }
        facts = {"name": module, "softwareVersion": self.known["workflow"]["version"]}
        facts |= {"softwareRequirements": list(requirements.values())} if requirements else {}
        return self.contextual(f"#tool/{rule}", "SoftwareApplication", **facts)

    def _action(self, name: str, tool: Entity) -> Entity:
        job = self.jobs[name]
        words = [one if len(one) < 1000 else "(the scans, see provenance.json)" for one in job["command"]]
        facts: dict[str, Any] = {
            "name": name,
            "description": " ".join(words),
            "instrument": tool,
            "agent": self.operators,
            "actionStatus": DONE,
            "object": [self.file(one) for one in job["inputs"]],
            "result": [self.file(one) for one in job["outputs"]],
        }
        times = {"startTime": job["started"], "endTime": job["ended"]}
        facts |= {key: value for key, value in times.items() if value}
        return self.contextual(f"#job/{name}", "CreateAction", **{key: value for key, value in facts.items() if value})

    def _whole(self, main: Entity) -> Entity:
        """Add the run of the whole workflow, with its parameters and results."""
        tables = self.crate.add_dataset(
            dest_path="tables/",
            properties={
                "name": "tables",
                "description": "Result tables, each with a data dictionary",
                "hasPart": [self.file(name) for name in self._below("tables/")],
            },
        )
        given = {"configuration": self.file("config.json")}
        made = {"page": self.file("report.html"), "tables": tables}
        if "model/model.safetensors" in self.known["files"]:
            made["model"] = self.file("model/model.safetensors")
        for key, examples in (("input", given), ("output", made)):
            main[key] = [self._parameter(name, example) for name, example in examples.items()]
        figures = [self.file(name) for name in self._below("figures/")]
        times = {
            "startTime": min(job["started"] for job in self.jobs.values() if job["started"]),
            "endTime": max(job["ended"] for job in self.jobs.values() if job["ended"]),
        }
        return self.contextual(
            "#run",
            "CreateAction",
            name=f"Run of mrs-synthesis: study {self.known['study']}",
            description="The last run of each job counts; what an earlier run had finished was not done again.",
            instrument=main,
            agent=self.operators,
            actionStatus=DONE,
            object=list(given.values()),
            result=[*made.values(), *figures, self.file("provenance.json")],
            **times,
        )

    def _below(self, folder: str) -> Iterable[str]:
        return [name for name in self.known["files"] if name.startswith(folder)]

    def content(self) -> dict[str, Any]:
        """Return the JSON-LD; a list of one is that one, as RO-Crate recommends."""
        found = self.crate.metadata.generate()
        for entity in found["@graph"]:
            for key, value in entity.items():
                if isinstance(value, list) and len(value) == 1:
                    entity[key] = value[0]
        found["@graph"].sort(key=lambda entity: entity["@id"])
        return found

    def _parameter(self, name: str, example: Entity) -> Entity:
        kind = "Dataset" if "Dataset" in example.type else "File"
        about = {"name": name, "additionalType": kind, "workExample": example}
        found = self.contextual(f"#parameter/{name}", "FormalParameter", **about)
        example["exampleOfWork"] = found
        return found


def main(argv: Sequence[str] | None = None) -> None:
    """Describe a study's results as an RO-Crate."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.crate", description=main.__doc__)
    parser.add_argument("--provenance", type=Path, required=True, help="provenance.json in the study's results")
    parser.add_argument("--licence", help="SPDX identifier or address of the licence of the results")
    parser.add_argument(
        "--workflow", type=Path, required=True, help="new folder in the results for the workflow's files"
    )
    parser.add_argument("--output", type=Path, required=True, help="ro-crate-metadata.json in the study's results")
    a = parser.parse_args(argv)
    study = a.output.parent
    if a.output.name != "ro-crate-metadata.json" or a.workflow.parent != study or a.provenance.parent != study:
        raise InputError(
            f"{a.output}: expected ro-crate-metadata.json, beside provenance.json and the folder of the workflow"
        )
    known = json.loads(require(a.provenance).read_text(encoding="utf-8"))
    if not known["jobs"]:
        raise InputError(f"{a.provenance}: no job, expected those of a finished study; run the study first")
    copy_workflow(a.workflow)
    description = Description(study, a.workflow.name, known, a.licence)
    description.run()
    description.folders()
    content = description.content()
    write_json(a.output, content)
    print(f"{a.output}: {len(content['@graph'])} entities, {a.output.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    run(main)
