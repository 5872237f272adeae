"""What a release can refuse."""

from apps.core.errors import DomainError


class ReleaseRefused(DomainError):
    """The schema cannot express this study or its data; nothing was written. The message says what and what to do."""

    code = "release_refused"


class UnknownSchema(DomainError):
    """No release schema of this name, or no file format of this name."""

    code = "unknown_schema"


class FolderNotEmpty(DomainError):
    """The folder named for the release already holds something; a release never overwrites."""

    code = "folder_not_empty"
