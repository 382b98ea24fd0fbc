"""The rules' shell commands: every name in braces is quoted, or is on a list that says why it need not be."""

import io
import os
import subprocess
import tokenize

import pytest

UNQUOTED = {
    "threads": "a number",
    "params.seed": "an integer by the config's schema",
    "params.plan_seed": "an integer by the config's schema",
    "params.bootstrap": "an integer by the config's schema",
    "params.replicates": "an integer by the config's schema",
    "params.n_real": "integers by the config's schema",
    "params.phantoms": "a constant number",
    "params.simulated": "one constant flag, or nothing",
    "params.start": "constant words with an integer, or nothing",
}
SPACE = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.COMMENT}


def commands(text):
    """Yield the line and the text of every shell command; other kinds of strings than plain ones are an error."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for i, token in enumerate(tokens):
        if token.string != "shell" or tokens[i + 1].string != ":":
            continue
        words = []
        for after in tokens[i + 2 :]:
            if after.type == tokenize.STRING:
                assert after.string.lower().startswith(("r", '"')), f"line {after.start[0]}: not a plain string"
                words.append(after.string)
            elif after.type not in SPACE:
                assert after.type in (tokenize.DEDENT, tokenize.ENDMARKER), f"line {after.start[0]}: {after.string}"
                break
        assert words, f"line {token.start[0]}: no command"
        yield token.start[0], "".join(words)


def names(command):
    """Return what stands in braces; doubled braces are the shell's own."""
    text = command.replace("{{", "").replace("}}", "")
    return [part.partition("}")[0] for part in text.split("{")[1:]]


def unquoted(text):
    """Return the names in shell commands that are neither quoted nor on the list, each with its line."""
    return [
        (line, name)
        for line, command in commands(text)
        for name in names(command)
        if not name.endswith(":q") and name not in UNQUOTED
    ]


def test_every_name_in_a_shell_command_is_quoted(root):
    used, n = set(), 0
    for path in [root / "Snakefile", *root.glob("workflow/rules/*.smk")]:
        text = path.read_text()
        assert unquoted(text) == [], path.name
        found = list(commands(text))
        assert len(found) == sum(line.strip().startswith("shell:") for line in text.splitlines()), path.name
        used |= {name for _, command in found for name in names(command)}
        n += len(found)
    assert n > 50
    assert used >= set(UNQUOTED), "a name on the list that no rule has"


@pytest.mark.parametrize(
    "command",
    [
        '"a {params.study}"',
        '"a {input}"',
        'r"""\n        a {output.x:q} \\\n        {wildcards.site}\n        """',
        '"a" "{b}"',
    ],
)
def test_an_unquoted_name_is_seen(command):
    assert unquoted(f"rule a:\n    output:\n        'x',\n    shell:\n        {command}\n\n\nrule b:\n    input: 'x'\n")


@pytest.mark.parametrize("command", ['f"a {x}"', '"a" + STUDY', "COMMAND", 'F"a"'])
def test_a_command_that_is_put_together_is_refused(command):
    with pytest.raises(AssertionError):
        unquoted(f"rule a:\n    shell:\n        {command}\n")


def test_names_of_a_study_never_reach_a_rule_as_anything_else(root):
    """No rule has code of its own, and none gives its command to another shell."""
    for path in [root / "Snakefile", *root.glob("workflow/rules/*.smk")]:
        for line in path.read_text().splitlines():
            assert not line.strip().startswith(("run:", "script:", "wrapper:", "notebook:", "container:")), path.name
        assert not [command for _, command in commands(path.read_text()) if "bash -c" in command or "eval " in command]


def test_make_verify_hands_its_folder_over_as_it_was_given(root, tmp_path):
    """Neither make nor the shell reads it; what the program says of the folder tells what it got."""
    folder = f"{tmp_path}/a b;$(shell touch {tmp_path}/HIT)`touch {tmp_path}/HIT`\"'$$(touch {tmp_path}/HIT)"
    stub = tmp_path / "stub"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    (tmp_path / "bin").mkdir()
    for name in ("python", ".run"):
        (tmp_path / "bin" / name).symlink_to(stub)
    call = ["make", "-s", "-f", str(root / "Makefile"), "-o", f"{tmp_path}/bin/.run", "verify", f"BIN={tmp_path}/bin"]
    done = subprocess.run([*call, f"RESULTS={folder}"], cwd=root, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["-m", "mrs_synthesis.manifest", "verify", "--", folder]
    assert not (tmp_path / "HIT").exists()
