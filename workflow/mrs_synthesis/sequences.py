"""What a pulse sequence's name tells: whether it edits, and how it localises; and whether a basis set is for it."""

from __future__ import annotations

from mrs_synthesis.stage import InputError

EDITING = ("mega", "hermes", "hercules", "svs_ed", "svsed")
# The first that a name holds; Siemens calls its PRESS svs_se, its STEAM svs_st, GE its PRESS PROBE-P
LOCALISATION = {
    "sLASER": ("laser",),
    "SPECIAL": ("special",),
    "STEAM": ("steam", "svs_st", "svsst", "probe-s"),
    "PRESS": ("press", "svs_se", "svsse", "probe-p", "pressa"),
}


def recognise(text: str | None) -> tuple[bool, str | None]:
    """Return whether a sequence of this name edits, and its localisation; False and None where the name does not say.

    >>> recognise("megapress68"), recognise("svs_st"), recognise("svs")
    ((True, 'PRESS'), (False, 'STEAM'), (False, None))
    """
    text = (text or "").lower()
    localisation = next((name for name, words in LOCALISATION.items() if any(word in text for word in words)), None)
    return any(word in text for word in EDITING), localisation


def check(data: str | None, basis: str | None, *, edited: bool, name: str) -> str:
    """Return a warning where a basis set is for a sequence that is close to the data's, else an empty text.

    Parameters
    ----------
    data, basis
        What the sequences are called; None or a name that says nothing: not compared.
    edited
        Whether the data have edit conditions.
    name
        What errors call the basis set.

    Raises
    ------
    InputError
        If the basis is for an edited sequence and the data are not, or one for stimulated (STEAM) and the other for
        spin echoes (PRESS, sLASER, SPECIAL).
    """
    _, ours = recognise(data)
    edits, theirs = recognise(basis)
    if edits and not (edited or recognise(data)[0]):
        raise InputError(
            f"{name}: simulated for {basis}, which edits; the scan ({data or 'sequence unknown'}) is not edited, "
            "expected a basis for it; give one, or correct edit_scheme in the sample sheet"
        )
    if ours is None or theirs is None or ours == theirs:
        return ""
    if "STEAM" in (ours, theirs):
        raise InputError(
            f"{name}: simulated for {basis} ({theirs}), the scan is {data} ({ours}), expected the same echoes, which "
            "STEAM differs in; give a basis for the scan's sequence, or correct the sheet's column sequence"
        )
    # LCModel's files know PRESS and STEAM alone, so that sLASER ones often say PRESS
    return f"simulated for {basis} ({theirs}), the scan is {data} ({ours})"
