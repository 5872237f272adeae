"""`manage.py build_release STUDY --schema long --format csv,parquet --out DIR`."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from apps.core.errors import DomainError
from apps.exports.formats import FORMATS
from apps.exports.schemas import SCHEMA_TITLES
from apps.exports.services import build_release
from apps.studies.models import Study


class Command(BaseCommand):
    help = "Build a release of a study: data files, manifest with checksums, codebook and README."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("study", help="slug of the study")
        parser.add_argument("--schema", default="community_alignment", help=f"one of {', '.join(SCHEMA_TITLES)}")
        parser.add_argument("--format", default=",".join(FORMATS), help=f"comma-separated, from {', '.join(FORMATS)}")
        parser.add_argument("--out", type=Path, help="new folder for the files; without it they go to the releases storage")

    def handle(self, *args: Any, **options: Any) -> None:
        study = Study.objects.filter(slug=options["study"]).first()
        if study is None:
            known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no study “{options['study']}”; known studies: {known}.")
        formats = [name.strip() for name in options["format"].split(",") if name.strip()]
        with tqdm(desc="Conversations", unit="", file=sys.stderr, disable=options["verbosity"] == 0) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            try:
                release = build_release(study=study, schema=options["schema"], formats=formats, directory=options["out"], progress=progress)
            except (DomainError, OSError) as error:
                raise CommandError(str(error)) from error
        where = options["out"] or f"the releases storage, {release.folder}"
        self.stdout.write(f"{study.slug} release {release.number} ({release.schema}) is in {where}:")
        for file in release.manifest["files"]:
            rows = f"{file['rows']:>10,} rows" if "rows" in file else " " * 15
            self.stdout.write(f"  {file['name']:<28}{rows}{file['bytes']:>14,} bytes  sha256 {file['sha256'][:16]}…")
