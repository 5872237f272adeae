"""Study files: a whole study as one YAML file, and prompt files. See docs/study-files.md."""

from apps.desk.study_file.errors import FileRefused, Problem
from apps.desk.study_file.loading import load_study_file
from apps.desk.study_file.prompt_table import import_prompt_file
from apps.desk.study_file.reading import read_study_file
from apps.desk.study_file.sample import without_computed_cells
from apps.desk.study_file.snapshot import read_study
from apps.desk.study_file.storing import LoadReport
from apps.desk.study_file.writing import write_study_file
from apps.studies.models import Study

__all__ = ["FileRefused", "LoadReport", "Problem", "dump_study", "import_prompt_file", "load_study_file", "read_study_file"]


def dump_study(study: Study) -> str:
    """`study` as YAML text that `load_study_file` reads back to the same study."""
    return write_study_file(without_computed_cells(read_study(study)))
