"""Every lesson runs alone, says nothing to stderr, and leaves the pictures it names, well-formed."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "examples").glob("[0-9]*.py"))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_and_draws(lesson, tmp_path):
    places = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    result = subprocess.run([sys.executable, lesson], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=300,
                            env={**os.environ, "PYTHONPATH": places, "PYTHONIOENCODING": "utf-8", "TINYLLM_LESSONS": "quick"})
    assert result.returncode == 0 and not result.stderr, result.stderr
    pictures = sorted((tmp_path / "out").glob("*"))
    named = re.findall(r'^( *)drawing\.save\("out/([^"]+)"', lesson.read_text(encoding="utf-8"), flags=re.M)
    always = {name for indent, name in named if not indent}        # the others are drawn under a condition
    assert always <= {picture.name for picture in pictures} <= {name for _, name in named}
    for picture in pictures:
        root = xml.parse(picture).getroot()
        assert next(root.iter("{http://www.w3.org/2000/svg}svg"), None) is not None, f"{picture.name} holds no picture"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_opens_as_a_notebook(lesson):
    """It begins with words under a heading and alternates with code, in the cells that Jupyter and VS Code know."""
    first, *cells = re.split(r"^# %%(?: \[markdown\])?\n", lesson.read_text(encoding="utf-8"), flags=re.M)
    assert first == "" and cells[0].startswith("# # ") and len(cells) > 3


def test_lessons_have_numbers_of_their_own():
    numbers = [path.name[:2] for path in LESSONS]
    assert len(numbers) == len(set(numbers)) > 0
