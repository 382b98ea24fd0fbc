"""Names of raw files on their way through Snakemake's executor, sbatch and srun."""

import pytest
import yaml
from workflow.test_names_workflow import STUDY, edited, row, write_nifti, write_sheet

from mrs_synthesis.files import read_table

from .conftest import on_slurm

pytestmark = pytest.mark.slurm
FOLDER = "a b;touch HIT1&touch HIT2|touch HIT3"
SCAN = "(touch HIT4) * ? # ~ 100% %j =x, [a] \xe9 \u5f20.nii.gz"


def test_what_a_cluster_takes_reaches_the_job_and_runs_nothing(cluster, root, tmp_path):
    (tmp_path / FOLDER).mkdir()
    write_nifti(tmp_path / FOLDER / SCAN, edited(6), conditions=("OFF", "ON"))
    write_sheet(tmp_path / FOLDER / "samples.tsv", [row(1, SCAN)])
    study = STUDY | {"samples": f"{FOLDER}/samples.tsv"}
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(study, allow_unicode=True))
    done = on_slurm(root, tmp_path, "results/odd/tables/conversion.tsv", "--configfile", "odd.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_table(tmp_path / "results" / "odd" / "tables" / "conversion.tsv")["status"].tolist() == ["ok"]
    assert list(tmp_path.rglob("HIT*")) == []
