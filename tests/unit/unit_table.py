"""A study's units.tsv, for the tests of tables that count who is missing."""

from pathlib import Path

import pandas as pd

from mrs_synthesis.files import write_table


def write_units(path: Path, rows: pd.DataFrame, left_out: int = 0, vendors: tuple[str, ...] = ("siemens",)) -> None:
    """Write the test scans that `rows` name (columns unit, subject, perhaps site), and so many more of subjects."""
    names = [name for name in ("unit", "subject", "site") if name in rows]
    units = rows[names].drop_duplicates("unit")
    more = {"unit": [f"lost-{k}" for k in range(left_out)], "subject": [f"lost{k}" for k in range(left_out)]}
    units = pd.concat([units, pd.DataFrame(more)], ignore_index=True)
    units["site"] = (units["site"] if "site" in units else pd.Series(index=units.index, dtype=object)).fillna("S0")
    units["vendor"] = [vendors[k % len(vendors)] for k in range(len(units))]
    write_table(path, units.assign(folder="x", session=None, split="test"))
